"""Losses: what a net is trained to make small.

The arithmetic is in `fastnn.kernels.losses`; these classes know what a target may look like and
how the loss of a row is scaled.
"""

import math
from collections.abc import Sequence
from typing import ClassVar, Literal, TypeAlias

import numpy as np

from fastnn.errors import shown
from fastnn.kernels import codes
from fastnn.validation import as_array, as_number, check_positive

Reduction: TypeAlias = Literal["mean", "sum"]


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
    shares_target : bool
        Whether a single target of a row is that of each output.
    """

    name: ClassVar[str] = ""
    task: ClassVar[Literal["classification", "regression"]] = "regression"
    takes_logits: ClassVar[bool] = False
    target_range: ClassVar[tuple[float, float]] = (-math.inf, math.inf)

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({arguments})"

    @property
    def shares_target(self) -> bool:
        """Whether a single target of a row is compared with each output."""
        return False

    def check_outputs(self, n_outputs: int) -> None:
        """Raise ValueError if a net with so many outputs cannot have this loss."""

    def scales(self, n_outputs: int) -> tuple[float, float]:
        """Return the factors of a row's loss and of its gradient for `n_outputs` outputs."""
        raise NotImplementedError

    def code(self, integer_labels: bool) -> int:
        """Return the kernels' code of this loss for labels or for rows of targets."""
        raise NotImplementedError

    def parameters(self, n_outputs: int) -> np.ndarray:
        """Return the numbers of its own that the kernel takes, float64: at least one."""
        return np.zeros(1)

    def of_rows(self, out: np.ndarray, labels: np.ndarray, targets: np.ndarray) -> np.ndarray:
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
        with np.errstate(over="ignore", invalid="ignore"):  # as in training: infinity and NaN show
            sums = self._sums(out.astype(np.float64), labels, targets)
        return self.scales(out.shape[1])[0] * sums

    def _sums(self, out: np.ndarray, labels: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Sum of the unscaled losses of each row's outputs."""
        raise NotImplementedError


class _Reduced(Loss):
    """A loss that is a sum, or a mean, over the outputs of a row."""

    def __init__(self, reduction: Reduction) -> None:
        if not isinstance(reduction, str) or reduction not in ("mean", "sum"):
            raise ValueError(f"reduction must be 'mean' or 'sum', got {shown(reduction)}")
        self.reduction = reduction

    def _factor(self, n_outputs: int) -> float:
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

    def __init__(self, reduction: Reduction = "sum") -> None:
        super().__init__(reduction)

    def scales(self, n_outputs: int) -> tuple[float, float]:
        factor = self._factor(n_outputs)
        return 0.5 * factor, factor

    def code(self, integer_labels: bool) -> int:
        return codes.SQUARED_ERROR

    def _sums(self, out: np.ndarray, labels: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return ((out - targets) ** 2).sum(axis=1)


class MeanSquaredError(Loss):
    """The mean over outputs of the squared error: ``1/O sum_o (out - y)^2``."""

    name = "mse"

    def scales(self, n_outputs: int) -> tuple[float, float]:
        return 1.0 / n_outputs, 2.0 / n_outputs

    def code(self, integer_labels: bool) -> int:
        return codes.SQUARED_ERROR

    def _sums(self, out: np.ndarray, labels: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return ((out - targets) ** 2).sum(axis=1)


class MeanAbsoluteError(Loss):
    """The mean over outputs of the absolute error: ``1/O sum_o |out - y|``.

    Its gradient, ``sign(out - y) / O``, is as large for a small error as for a large one, so
    outliers have little say. It is least at the median of the targets.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import Affine, Sequential
    >>> net = Sequential([Affine(2, 1, init="zeros")])
    >>> net.loss(np.eye(2), np.array([1.0, -3.0]), "mae")
    2.0
    """

    name = "mae"

    def scales(self, n_outputs: int) -> tuple[float, float]:
        return 2.0 / n_outputs, 2.0 / n_outputs

    def code(self, integer_labels: bool) -> int:
        return codes.QUANTILE  # twice the loss of the median

    def parameters(self, n_outputs: int) -> np.ndarray:
        return np.full(n_outputs, 0.5)

    def _sums(self, out: np.ndarray, labels: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return np.abs(out - targets).sum(axis=1) / 2


class Huber(_Reduced):
    """Half the squared error where it is small, linear in the error where it is large.

    With ``e = out - y``: ``e^2 / 2`` if ``|e| <= delta``, else ``delta * (|e| - delta / 2)``; the
    gradient is e, cut off at -delta and delta (Huber, 1964).

    Parameters
    ----------
    delta : float, default 1
        The largest error that is squared, greater than 0.
    reduction : {"mean", "sum"}, default "mean"
        Over the outputs of a row.

    Examples
    --------
    >>> from fastnn.losses import Huber
    >>> Huber(delta=0.5)
    Huber(delta=0.5, reduction='mean')
    """

    name = "huber"

    def __init__(self, delta: float = 1.0, reduction: Reduction = "mean") -> None:
        check_positive("delta", delta)
        self.delta = delta
        super().__init__(reduction)

    def scales(self, n_outputs: int) -> tuple[float, float]:
        factor = self._factor(n_outputs)
        return factor, factor

    def code(self, integer_labels: bool) -> int:
        return codes.HUBER

    def parameters(self, n_outputs: int) -> np.ndarray:
        return np.array([self.delta], np.float64)

    def _sums(self, out: np.ndarray, labels: np.ndarray, targets: np.ndarray) -> np.ndarray:
        error = out - targets
        slope = np.clip(error, -self.delta, self.delta)
        return (slope * (error - slope / 2)).sum(axis=1)


class Quantile(Loss):
    """The mean over outputs of the pinball loss: outputs become quantiles of the targets.

    With ``e = out - y`` and the quantile q: ``(1 - q) * e`` where the output is too large, and
    ``-q * e`` where it is too small. It is least where a share q of the targets lies below the
    output (Koenker & Bassett, 1978).

    Parameters
    ----------
    quantiles : float or sequence of float, default 0.5
        Between 0 and 1: one for all outputs, or one for each. With several of them, y may be a
        single column, which each output is compared with.

    Examples
    --------
    A net that gives a lower bound, a median and an upper bound:

    >>> import numpy as np
    >>> from fastnn import Affine, Sequential
    >>> from fastnn.losses import Quantile
    >>> X = np.linspace(0, 1, 200)[:, None]
    >>> y = np.random.default_rng(0).normal(3, 1, 200)
    >>> net = Sequential([Affine(1, 3)], seed=0)
    >>> history = net.fit(X, y, loss=Quantile([0.1, 0.5, 0.9]), epochs=100, optimizer="sgd")
    """

    name = "quantile"

    def __init__(self, quantiles: float | Sequence[float] | np.ndarray = 0.5) -> None:
        numbers = as_array("quantiles", quantiles)
        valid = numbers.dtype.kind == "f" and numbers.ndim <= 1 and numbers.size > 0
        if not valid or not ((numbers > 0) & (numbers < 1)).all():
            raise ValueError(
                f"quantiles must be a number between 0 and 1 or a sequence of them, "
                f"got {shown(quantiles)}"
            )
        self.quantiles = numbers.tolist()

    @property
    def shares_target(self) -> bool:
        return np.size(self.quantiles) > 1

    def check_outputs(self, n_outputs: int) -> None:
        if np.size(self.quantiles) not in (1, n_outputs):
            raise ValueError(
                f"quantiles must be 1 or as many as the net's {n_outputs} outputs, "
                f"got {np.size(self.quantiles)}"
            )

    def scales(self, n_outputs: int) -> tuple[float, float]:
        return 1.0 / n_outputs, 1.0 / n_outputs

    def code(self, integer_labels: bool) -> int:
        return codes.QUANTILE

    def parameters(self, n_outputs: int) -> np.ndarray:
        return np.broadcast_to(np.array(self.quantiles, np.float64), n_outputs).copy()

    def _sums(self, out: np.ndarray, labels: np.ndarray, targets: np.ndarray) -> np.ndarray:
        error, q = out - targets, np.array(self.quantiles)
        return np.maximum((1 - q) * error, -q * error).sum(axis=1)


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

    def __init__(self, reduction: Reduction = "sum") -> None:
        super().__init__(reduction)

    def scales(self, n_outputs: int) -> tuple[float, float]:
        factor = self._factor(n_outputs)
        return factor, factor

    def code(self, integer_labels: bool) -> int:
        return codes.POISSON

    def _sums(self, out: np.ndarray, labels: np.ndarray, targets: np.ndarray) -> np.ndarray:
        y = targets.astype(np.float64)
        least = y * np.log(np.where(y > 0, y, 1)) - y
        return (np.exp(out) - out * y + least).sum(axis=1)


def _check_smoothing(value: float) -> float:
    if not 0 <= as_number(value) <= 1:
        raise ValueError(f"label_smoothing must be a number in [0, 1], got {shown(value)}")
    return value


class BinaryCrossEntropy(_Reduced):
    """Cross-entropy of independent yes-or-no outputs, from logits.

    ``max(z, 0) - z y + log(1 + exp(-|z|))`` for each logit z and target y in [0, 1].

    Parameters
    ----------
    reduction : {"mean", "sum"}, default "mean"
        Over the outputs of a row.
    label_smoothing : float, default 0
        s in [0, 1]: ``(1 - s) y + s / 2`` takes the place of y.
    """

    name = "binary_cross_entropy"
    task = "classification"
    takes_logits = True
    target_range = (0.0, 1.0)

    def __init__(self, reduction: Reduction = "mean", label_smoothing: float = 0.0) -> None:
        super().__init__(reduction)
        self.label_smoothing = _check_smoothing(label_smoothing)

    def scales(self, n_outputs: int) -> tuple[float, float]:
        factor = self._factor(n_outputs)
        return factor, factor

    def code(self, integer_labels: bool) -> int:
        return codes.BINARY_CROSS_ENTROPY

    def parameters(self, n_outputs: int) -> np.ndarray:
        return np.array([self.label_smoothing], np.float64)

    def _sums(self, out: np.ndarray, labels: np.ndarray, targets: np.ndarray) -> np.ndarray:
        if self.label_smoothing:
            targets = (1 - self.label_smoothing) * targets + self.label_smoothing / 2
        losses = np.maximum(out, 0) - out * targets + np.log1p(np.exp(-np.abs(out)))
        return losses.sum(axis=1)


class SoftmaxCrossEntropy(Loss):
    """Cross-entropy of one class out of many, from logits.

    ``log(sum_c exp(z_c)) - z_y`` for integer targets y, or ``sum_c y_c (log(sum exp(z)) - z_c)``
    for rows of target probabilities.

    Parameters
    ----------
    label_smoothing : float, default 0
        s in [0, 1]: ``(1 - s) y_c + s / O`` takes the place of the target probabilities, where an
        integer target is a one-hot row (Szegedy et al., 2016). It keeps the net from being ever
        more certain.
    """

    name = "softmax_cross_entropy"
    task = "classification"
    takes_logits = True
    target_range = (0.0, 1.0)

    def __init__(self, label_smoothing: float = 0.0) -> None:
        self.label_smoothing = _check_smoothing(label_smoothing)

    def scales(self, n_outputs: int) -> tuple[float, float]:
        return 1.0, 1.0

    def code(self, integer_labels: bool) -> int:
        return codes.SOFTMAX_CROSS_ENTROPY if integer_labels else codes.SOFTMAX_CROSS_ENTROPY_DENSE

    def parameters(self, n_outputs: int) -> np.ndarray:
        return np.array([self.label_smoothing], np.float64)

    def _sums(self, out: np.ndarray, labels: np.ndarray, targets: np.ndarray) -> np.ndarray:
        smoothing = self.label_smoothing
        shifted = out - out.max(axis=1, keepdims=True)
        log_sums = np.log(np.exp(shifted).sum(axis=1))
        if len(labels):
            at_label = shifted[np.arange(len(out)), labels]
            if smoothing:
                at_label = (1 - smoothing) * at_label + smoothing * shifted.mean(axis=1)
            return log_sums - at_label
        if smoothing:
            targets = (1 - smoothing) * targets + smoothing / out.shape[1]
        return (targets * (log_sums[:, None] - shifted)).sum(axis=1)


_BY_NAME: dict[str, type[Loss]] = {
    loss.name: loss
    for loss in (
        MeanSquaredError,
        SquaredError,
        MeanAbsoluteError,
        Huber,
        Quantile,
        Poisson,
        BinaryCrossEntropy,
        SoftmaxCrossEntropy,
    )
}
_BY_NAME["categorical_cross_entropy"] = SoftmaxCrossEntropy  # as other libraries call it


def get(loss: str | Loss) -> Loss:
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
    raise ValueError(f"loss must be one of {names} or a Loss, got {shown(loss)}")
