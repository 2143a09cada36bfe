"""Multilayer perceptrons with scikit-learn's interface.

`MLPClassifier` and `MLPRegressor` take the parameters of the classes of the same names in
:mod:`sklearn.neural_network`, set the same fitted attributes, and follow the same algorithm step
by step: weights, shuffles and splits are drawn in the same order from the same
`numpy.random.RandomState`, and the stopping rules compare the same losses. In float64 a fit
agrees with scikit-learn's to rounding.

Needs the ``sklearn`` extra.
"""

from fastnn.errors import require

require("sklearn", "sklearn")  # one clear line instead of the ModuleNotFoundError below

# ruff: noqa: E402
from fastnn.estimators.classifier import MLPClassifier
from fastnn.estimators.regressor import MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]
