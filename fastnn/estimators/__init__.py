"""Multilayer perceptrons with scikit-learn's interface.

`MLPClassifier` and `MLPRegressor` have the parameters and fitted attributes of the classes of the
same names in :mod:`sklearn.neural_network`, and follow the same algorithm: weights, shuffles and
splits are drawn in the same order from the same `numpy.random.RandomState`, and the stopping rules
compare the same losses. In float64 a fit agrees with scikit-learn's to rounding.

They need the ``sklearn`` extra.

Examples
--------
>>> from fastnn import MLPClassifier
>>> MLPClassifier(max_iter=5, solver="sgd")
MLPClassifier(max_iter=5, solver='sgd')
"""

from fastnn.errors import require

# Its error names the command that installs or upgrades the extra.
require("sklearn.callback", "sklearn")

# ruff: noqa: E402
from fastnn.estimators.classifier import MLPClassifier
from fastnn.estimators.regressor import MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]
