"""See what a net does.

=============================  =====================================================================
question                       function
=============================  =====================================================================
What does one neuron look for? `alignment`, `weights_as_images`
Which neurons light up?        `activations`
Which inputs matter here?      `saliency`, `integrated_gradients`
Which inputs matter at all?    `permutation_importance`
Where does the answer change?  `decision_grid`
How did training go?           `plot_history`, `Histograms`
=============================  =====================================================================

One convention holds for all: a function without ``plot_`` in its name returns arrays and draws
nothing. One with it draws on the matplotlib axes ``ax`` that it is given, which have to be there,
and returns the arrays that it drew. None opens a window or makes a figure::

    from matplotlib.figure import Figure

    figure = Figure()
    plot_history(history, figure.subplots())
    figure.savefig("history.png")

Everything goes through a layer's `forward`, `backward` and `params`, so it works for any layers.
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
