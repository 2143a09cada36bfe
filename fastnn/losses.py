"""Losses: what a net is trained to make small.

The arithmetic is in `fastnn.kernels.losses`; these classes know what a target may look like and
how the loss of a row is scaled.
"""

import numpy as np

from fastnn.kernels import codes


class Loss:
    """Base of all losses: the mean over the batch's rows of a loss of each row.

    Attributes
    ----------
    name : str
        As `Sequential.fit` takes it.
    task : {"classification", "regression"}
        What the loss is for.
    takes_logits : bool
        Whether it applies a softmax or logistic function by itself.
    """

    name = ""
    task = "regression"
    takes_logits = False

    def __repr__(self):
        return f"{type(self).__name__}()"

    def scales(self, n_outputs):
        """Return the factors of a row's loss and of its gradient for `n_outputs` outputs."""
        raise NotImplementedError

    def code(self, integer_labels):
        """Return the kernels' code of this loss for labels or for rows of targets."""
        raise NotImplementedError

    def of_rows(self, out, labels, targets):
        """Return the loss of each row, for evaluation: training computes it in its kernel.

        Parameters
        ----------
        out : ndarray (N, O)
        labels : ndarray (N,) of int64
        targets : ndarray (N, O)
            One of the two is empty.

        Returns
        -------
        ndarray (N,) of float64
        """
        return self.scales(out.shape[1])[0] * self._sums(out.astype(np.float64), labels, targets)

    def _sums(self, out, labels, targets):
        """Sum of the unscaled losses of each row's outputs."""
        raise NotImplementedError


class SquaredError(Loss):
    """Half the squared error: ``1/2 sum_o (out - y)^2``, with the gradient ``out - y``.

    Summed over the outputs: the form in which back-propagation is usually derived.
    """

    name = "squared_error"

    def scales(self, n_outputs):
        return 0.5, 1.0

    def code(self, integer_labels):
        return codes.SQUARED_ERROR

    def _sums(self, out, labels, targets):
        return ((out - targets) ** 2).sum(axis=1)


class MeanSquaredError(SquaredError):
    """The mean over outputs of the squared error: ``1/O sum_o (out - y)^2``."""

    name = "mse"

    def scales(self, n_outputs):
        return 1.0 / n_outputs, 2.0 / n_outputs


class BinaryCrossEntropy(Loss):
    """Cross-entropy of independent yes-or-no outputs, from logits.

    ``max(z, 0) - z y + log(1 + exp(-|z|))`` for each logit z and target y in [0, 1].

    Parameters
    ----------
    reduction : {"mean", "sum"}, default "mean"
        Over the outputs of a row.
    """

    name = "binary_cross_entropy"
    task = "classification"
    takes_logits = True

    def __init__(self, reduction="mean"):
        if reduction not in ("mean", "sum"):
            raise ValueError(f"reduction must be 'mean' or 'sum', got {reduction!r}")
        self.reduction = reduction

    def __repr__(self):
        return f"BinaryCrossEntropy(reduction={self.reduction!r})"

    def scales(self, n_outputs):
        scale = 1.0 / n_outputs if self.reduction == "mean" else 1.0
        return scale, scale

    def code(self, integer_labels):
        return codes.BINARY_CROSS_ENTROPY

    def _sums(self, out, labels, targets):
        losses = np.maximum(out, 0) - out * targets + np.log1p(np.exp(-np.abs(out)))
        return losses.sum(axis=1)


class SoftmaxCrossEntropy(Loss):
    """Cross-entropy of one class out of many, from logits.

    ``log(sum_c exp(z_c)) - z_y`` for integer targets y, or ``sum_c y_c (log(sum exp(z)) - z_c)``
    for rows of target probabilities.
    """

    name = "softmax_cross_entropy"
    task = "classification"
    takes_logits = True

    def scales(self, n_outputs):
        return 1.0, 1.0

    def code(self, integer_labels):
        return codes.SOFTMAX_CROSS_ENTROPY if integer_labels else codes.SOFTMAX_CROSS_ENTROPY_DENSE

    def _sums(self, out, labels, targets):
        shifted = out - out.max(axis=1, keepdims=True)
        log_sums = np.log(np.exp(shifted).sum(axis=1))
        if len(labels):
            return log_sums - shifted[np.arange(len(out)), labels]
        return (targets * (log_sums[:, None] - shifted)).sum(axis=1)


_BY_NAME = {
    loss.name: loss
    for loss in (MeanSquaredError, SquaredError, BinaryCrossEntropy, SoftmaxCrossEntropy)
}


def get(loss):
    """Return the loss itself, or one by its name.

    Raises
    ------
    ValueError
        If it is neither a `Loss` nor the name of one.
    """
    if isinstance(loss, Loss):
        return loss
    if isinstance(loss, str) and loss in _BY_NAME:
        return _BY_NAME[loss]()
    names = ", ".join(repr(name) for name in _BY_NAME)
    raise ValueError(f"loss must be one of {names} or a Loss, got {loss!r}")
