"""Inspect a net: its neurons, its inputs, its decisions, and its training.

=======================================================  ===========================================
question                                                 function
=======================================================  ===========================================
Which inputs does a neuron respond to?                   `alignment`, `weights_as_images`
Which neurons are active for an input?                   `activations`
Which inputs affect an output, for one sample?           `saliency`, `integrated_gradients`
Which inputs does a net depend on, over a data set?      `permutation_importance`
Where in the plane of two inputs does the class change?  `decision_grid`
How do loss, weights and gradients change in training?   `plot_history`, `Histograms`
=======================================================  ===========================================

A function without ``plot_`` in its name returns arrays and draws nothing. A function with it draws
and returns the arrays that it drew. It draws on the matplotlib axes ``ax``, or, without these, on
new ones of `matplotlib.pyplot`, which a notebook shows, and ``pyplot.show()`` elsewhere::

    plot_history(history)

    figure = matplotlib.figure.Figure()  # or without pyplot
    plot_history(history, figure.subplots())
    figure.savefig("history.png")

Functions of a net take fitted estimators too, `fastnn.MLPClassifier` and `fastnn.MLPRegressor`:
they look at its ``net_``, whose outputs are logits for a classifier. Of a `fastnn.TableModel` they
take ``model.net`` and ``model.encode(frame)``.

Only `forward`, `backward` and `params` of the layers are used, so all of it works with any layers.
Drawing needs the extra `plot`.
"""

from fastnn.inspection.activity import activations, plot_activations
from fastnn.inspection.attribution import IntegratedGradients, integrated_gradients, saliency
from fastnn.inspection.boundaries import DecisionGrid, decision_grid, plot_decision_boundary
from fastnn.inspection.curves import plot_history
from fastnn.inspection.histograms import Histogram, Histograms
from fastnn.inspection.images import plot_images, weights_as_images
from fastnn.inspection.importance import Importance, permutation_importance, plot_importance
from fastnn.inspection.similarity import Alignment, alignment, plot_alignment

__all__ = [
    "Alignment",
    "DecisionGrid",
    "Histogram",
    "Histograms",
    "Importance",
    "IntegratedGradients",
    "activations",
    "alignment",
    "decision_grid",
    "integrated_gradients",
    "permutation_importance",
    "plot_activations",
    "plot_alignment",
    "plot_decision_boundary",
    "plot_history",
    "plot_images",
    "plot_importance",
    "saliency",
    "weights_as_images",
]
