"""What a training is given, checked once: samples, targets and weights."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastnn.losses import Loss
from fastnn.training.class_weight import ClassWeight, weights_of_classes
from fastnn.validation import check_targets, check_weights

NO_WEIGHTS = np.empty(0)


@dataclass(frozen=True)
class TrainingData:
    """A data set as kernels take it.

    Attributes
    ----------
    x : ndarray or SparseRows (N, I)
    labels : ndarray (N,) of int64
        Classes; empty where there are targets.
    targets : ndarray (N, O)
        Empty where there are labels.
    weights : ndarray (N,) of float64
        Of the samples; empty where all weigh 1.
    """

    x: Any
    labels: np.ndarray
    targets: np.ndarray
    weights: np.ndarray

    def __len__(self) -> int:
        return len(self.x)

    @property
    def y(self) -> np.ndarray:
        """Labels or targets, whichever there are."""
        return self.labels if len(self.labels) else self.targets


def check_data(
    net: Any,
    x: Any,
    y: ArrayLike,
    loss: Loss,
    sample_weight: ArrayLike | None = None,
    class_weight: ClassWeight | None = None,
) -> TrainingData:
    """Return checked samples with their targets and weights.

    Parameters
    ----------
    net : Sequential
    x : ndarray or SparseRows (N, I)
        As `Sequential.check_samples` returns it.
    y : array_like
    loss : Loss
    sample_weight : array_like of shape (N,), default=None
    class_weight : dict, sequence of float, or "balanced", default=None
        See `fastnn.training.class_weight.weigh_samples`.

    Returns
    -------
    TrainingData

    Raises
    ------
    ValueError
        If shapes or values do not suit the net and the loss.
    """
    if len(x) == 0:
        raise ValueError("X must have at least 1 row, got 0")
    labels, targets = check_targets(y, loss, len(x), net.n_outputs, net.dtype)
    weights = NO_WEIGHTS
    if class_weight is not None:
        weights = weights_of_classes(class_weight, loss, labels, targets)
    if sample_weight is not None:
        own = check_weights(sample_weight, len(x))
        weights = weights * own if len(weights) else own
    return TrainingData(x, labels, targets, weights)
