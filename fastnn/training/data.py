"""What a training is given, checked once: samples, targets and weights."""

from typing import NamedTuple

import numpy as np

from fastnn.validation import check_targets, check_weights

NO_WEIGHTS = np.empty(0)


class TrainingData(NamedTuple):
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

    x: object
    labels: np.ndarray
    targets: np.ndarray
    weights: np.ndarray

    def __len__(self):
        return len(self.x)

    @property
    def y(self):
        """Labels or targets, whichever there are."""
        return self.labels if len(self.labels) else self.targets


def check_data(net, x, y, loss, sample_weight=None):
    """Return checked samples with their targets and weights.

    Parameters
    ----------
    net : Sequential
    x : ndarray or SparseRows (N, I)
        As `Sequential.check_samples` returns it.
    y : array_like
    loss : Loss
    sample_weight : array_like (N,), optional

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
    weights = NO_WEIGHTS if sample_weight is None else check_weights(sample_weight, len(x))
    return TrainingData(x, labels, targets, weights)
