"""Losses: what a net is trained to make small.

The arithmetic is in `fastnn.kernels.losses`; these classes know what a target may look like and
how the loss of a row is scaled.
"""

import math

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
        Whether it applies a function to the net's output by itself: a softmax, a logistic
        function, or for the Poisson loss an exponential.
    target_range : tuple of float
        Least and greatest value of a target.
    """

    name = ""
    task = "regression"
    takes_logits = False
    target_range = (-math.inf, math.inf)

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


class _Reduced(Loss):
    """A loss that is a sum, or a mean, over the outputs of a row."""

    def __init__(self, reduction):
        if reduction not in ("mean", "sum"):
            raise ValueError(f"reduction must be 'mean' or 'sum', got {reduction!r}")
        self.reduction = reduction

    def __repr__(self):
        return f"{type(self).__name__}(reduction={self.reduction!r})"

    def _factor(self, n_outputs):
        return 1.0 / n_outputs if self.reduction == "mean" else 1.0


class SquaredError(_Reduced):
    """Half the squared error: ``1/2 sum_o (out - y)^2``, with the gradient ``out - y``.

    Summed over the outputs: the form in which back-propagation is usually derived.

    Parameters
    ----------
    reduction : {"sum", "mean"}, default "sum"
        Over the outputs of a row.
    """

    name = "squared_error"

    def __init__(self, reduction="sum"):
        super().__init__(reduction)

    def scales(self, n_outputs):
        factor = self._factor(n_outputs)
        return 0.5 * factor, factor

    def code(self, integer_labels):
        return codes.SQUARED_ERROR

    def _sums(self, out, labels, targets):
        return ((out - targets) ** 2).sum(axis=1)


class MeanSquaredError(Loss):
    """The mean over outputs of the squared error: ``1/O sum_o (out - y)^2``."""

    name = "mse"

    def scales(self, n_outputs):
        return 1.0 / n_outputs, 2.0 / n_outputs

    def code(self, integer_labels):
        return codes.SQUARED_ERROR

    def _sums(self, out, labels, targets):
        return ((out - targets) ** 2).sum(axis=1)


class Poisson(_Reduced):
    """Half the deviance of counts from a Poisson distribution, from the logarithm of its mean.

    ``sum_o (exp(z) - z y + y log(y) - y)`` for outputs z and targets y >= 0, with the gradient
    ``exp(z) - y``. `Sequential.predict` returns z; the expected count is ``exp(z)``.

    Parameters
    ----------
    reduction : {"sum", "mean"}, default "sum"
        Over the outputs of a row.
    """

    name = "poisson"
    takes_logits = True
    target_range = (0.0, math.inf)

    def __init__(self, reduction="sum"):
        super().__init__(reduction)

    def scales(self, n_outputs):
        factor = self._factor(n_outputs)
        return factor, factor

    def code(self, integer_labels):
        return codes.POISSON

    def _sums(self, out, labels, targets):
        y = targets.astype(np.float64)
        least = y * np.log(np.where(y > 0, y, 1)) - y
        return (np.exp(out) - out * y + least).sum(axis=1)


class BinaryCrossEntropy(_Reduced):
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
    target_range = (0.0, 1.0)

    def __init__(self, reduction="mean"):
        super().__init__(reduction)

    def scales(self, n_outputs):
        factor = self._factor(n_outputs)
        return factor, factor

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
    target_range = (0.0, 1.0)

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
    for loss in (
        MeanSquaredError,
        SquaredError,
        Poisson,
        BinaryCrossEntropy,
        SoftmaxCrossEntropy,
    )
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
