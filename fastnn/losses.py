"""Losses: the functions that training minimises.

Training computes them, with their gradients, in `fastnn.kernels.losses`. The classes of this module
hold their parameters, say which targets they take, and compute them for evaluation.

Sizes in the formulas and shapes: N rows, O outputs of the net.

Examples
--------
>>> from fastnn import losses
>>> losses.get("huber")
Huber(delta=1.0, reduction='mean')
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np

from fastnn.errors import shown
from fastnn.validation import as_array, as_number, check_positive

Reduction: TypeAlias = Literal["mean", "sum"]

_ELEMENTS_AT_ONCE = 1_000_000  # of the targets, which may be as large as the samples
_TINY = float(np.finfo(np.float64).tiny)
_NEWTON_STEPS = 50  # halving alone would be exact enough after as many


class Loss:
    """Base class of all losses: the mean over the rows of a batch of a loss of each row.

    Attributes
    ----------
    name : str
        The name that `Sequential.fit` takes for this loss.
    task : {"classification", "regression"}
        The kind of problem that the loss is for.
    takes_logits : bool
        Whether the loss applies a function to the outputs itself: a softmax, a logistic function
        or, for the Poisson loss, an exponential. The net must not apply it too.
    target_range : tuple of float
        Smallest and largest valid target.
    shares_target : bool
        Whether a single target of a row is compared with each output.
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
        """Raise ValueError if the loss does not fit a net with `n_outputs` outputs."""

    def scales(self, n_outputs: int) -> tuple[float, float]:
        """Return the factors of the loss and of the gradient of a row with `n_outputs` outputs."""
        raise NotImplementedError

    def kernel_name(self, integer_labels: bool) -> str:
        """Return the name of the loss in `fastnn.kernels.losses.LOSSES`, by the kind of targets."""
        raise NotImplementedError

    def parameters(self, n_outputs: int) -> np.ndarray:
        """Return the parameters of the loss as its kernel takes them.

        Returns
        -------
        ndarray of float64
            At least one element; a loss without parameters has a zero there.
        """
        return np.zeros(1)

    def of_rows(self, out: np.ndarray, labels: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Return the loss of each row, in float64, for evaluation.

        Parameters
        ----------
        out : ndarray of shape (N, O)
            Outputs of the net.
        labels : ndarray of int64 of shape (N,)
            Integer classes; empty for a loss with dense targets.
        targets : ndarray of shape (N, O)
            Dense targets; empty where `labels` is not.

        Returns
        -------
        ndarray of float64 of shape (N,)

        Examples
        --------
        >>> import numpy as np
        >>> from fastnn.losses import SquaredError
        >>> out, labels = np.array([[3.0], [1.0]]), np.empty(0, np.int64)
        >>> SquaredError().of_rows(out, labels, np.array([[1.0], [1.0]]))
        array([2., 0.])
        """
        with np.errstate(over="ignore", invalid="ignore"):  # infinity and NaN, as in training
            sums = self._sums(out.astype(np.float64), labels, targets)
        return self.scales(out.shape[1])[0] * sums

    def _sums(self, out: np.ndarray, labels: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Return the unscaled loss of each row: the sum over its outputs."""
        raise NotImplementedError

    def constant_loss(
        self, labels: np.ndarray, targets: np.ndarray, weights: np.ndarray | None = None
    ) -> float:
        """Return the mean loss of the best constant guess: the same output for each row.

        The entropy of the class frequencies for a cross-entropy, half the variance of the targets
        for half the squared error, ... A net that has learned anything has a smaller loss.

        Parameters
        ----------
        labels : ndarray of int64 of shape (N,)
            Integer classes; empty for a loss with dense targets.
        targets : ndarray of shape (N, O)
            Dense targets; without rows where `labels` is not empty.
        weights : ndarray of shape (N,) or None, default=None
            Weights of the rows, at least 0 and not all 0; None weighs all alike.

        Returns
        -------
        float

        Examples
        --------
        >>> import numpy as np
        >>> from fastnn.losses import SoftmaxCrossEntropy, SquaredError
        >>> no_labels, no_targets = np.empty(0, np.int64), np.empty((0, 2))
        >>> SquaredError().constant_loss(no_labels, np.array([[1.0], [3.0]]))
        0.5
        >>> round(SoftmaxCrossEntropy().constant_loss(np.array([0, 1]), no_targets), 4)
        0.6931
        """
        best = self._best_constant(targets, weights)

        def sums(block: np.ndarray) -> np.ndarray:
            return self._sums(np.broadcast_to(best, block.shape), labels, block)

        return float(self.scales(len(best))[0] * _mean_of_rows(sums, targets, weights))

    def _best_constant(self, targets: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
        """Return the output (O,) with the least mean loss: their mean, for the squared error."""
        return _mean_of_rows(lambda block: block, targets, weights)


def _mean_of_rows(
    function: Callable[[np.ndarray], np.ndarray], targets: np.ndarray, weights: np.ndarray | None
) -> Any:
    """Return the weighted mean of a function of the rows, a block of them in float64 at a time."""
    total: Any = 0.0
    step = max(1, _ELEMENTS_AT_ONCE // targets.shape[1])
    for start in range(0, len(targets), step):
        values = function(targets[start : start + step].astype(np.float64))
        own = np.ones(len(values)) if weights is None else weights[start : start + step]
        total = total + (values.T * own).sum(axis=-1)  # no BLAS, whose threads would go on spinning
    return total / (len(targets) if weights is None else weights.sum())


class _Reduced(Loss):
    """A loss with a choice of reduction: the sum or the mean over the outputs of a row."""

    def __init__(self, reduction: Reduction) -> None:
        if not isinstance(reduction, str) or reduction not in ("mean", "sum"):
            raise ValueError(f"reduction must be 'mean' or 'sum', got {shown(reduction)}")
        self.reduction = reduction

    def _factor(self, n_outputs: int) -> float:
        return 1.0 / n_outputs if self.reduction == "mean" else 1.0


class SquaredError(_Reduced):
    """Half the squared error: ``1/2 sum_o (out - y)^2``, with the gradient ``out - y``.

    By default the sum over the outputs, the form in which back-propagation is usually derived.

    Parameters
    ----------
    reduction : {"sum", "mean"}, default="sum"
        Reduction over the outputs of a row.

    Raises
    ------
    ValueError
        If `reduction` is neither of the two.

    Examples
    --------
    >>> from fastnn.losses import SquaredError
    >>> SquaredError(reduction="mean")
    SquaredError(reduction='mean')
    """

    name = "squared_error"

    def __init__(self, reduction: Reduction = "sum") -> None:
        super().__init__(reduction)

    def scales(self, n_outputs: int) -> tuple[float, float]:
        factor = self._factor(n_outputs)
        return 0.5 * factor, factor

    def kernel_name(self, integer_labels: bool) -> str:
        return "squared_error"

    def _sums(self, out: np.ndarray, labels: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return ((out - targets) ** 2).sum(axis=1)


class MeanSquaredError(Loss):
    """The mean over the outputs of the squared error: ``1/O sum_o (out - y)^2``.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import Affine, Sequential
    >>> net = Sequential([Affine(2, 1, init="zeros")])
    >>> net.loss(np.eye(2), np.array([1.0, -3.0]), "mse")
    5.0
    """

    name = "mse"

    def scales(self, n_outputs: int) -> tuple[float, float]:
        return 1.0 / n_outputs, 2.0 / n_outputs

    def kernel_name(self, integer_labels: bool) -> str:
        return "squared_error"

    def _sums(self, out: np.ndarray, labels: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return ((out - targets) ** 2).sum(axis=1)


class MeanAbsoluteError(Loss):
    """The mean over the outputs of the absolute error: ``1/O sum_o |out - y|``.

    The gradient, ``sign(out - y) / O``, does not grow with the error, so outliers weigh no more
    than other rows. The minimum is at the median of the targets.

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

    def kernel_name(self, integer_labels: bool) -> str:
        return "quantile"  # twice the quantile loss of 0.5

    def parameters(self, n_outputs: int) -> np.ndarray:
        return np.full(n_outputs, 0.5)

    def _sums(self, out: np.ndarray, labels: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return np.abs(out - targets).sum(axis=1) / 2

    def _best_constant(self, targets: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
        return _quantiles(targets, np.full(targets.shape[1], 0.5), weights)


class Huber(_Reduced):
    """The Huber loss: quadratic for small errors, linear for large ones.

    With ``e = out - y``: ``e^2 / 2`` if ``|e| <= delta``, else ``delta * (|e| - delta / 2)``. The
    gradient is e, clipped to ``[-delta, delta]`` (Huber, 1964).

    Parameters
    ----------
    delta : float, default=1.0
        Error at which the quadratic part ends, greater than 0.
    reduction : {"mean", "sum"}, default="mean"
        Reduction over the outputs of a row.

    Raises
    ------
    ValueError
        If `delta` is not a finite number greater than 0, or `reduction` is neither of the two.

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

    def kernel_name(self, integer_labels: bool) -> str:
        return "huber"

    def parameters(self, n_outputs: int) -> np.ndarray:
        return np.array([self.delta], np.float64)

    def _sums(self, out: np.ndarray, labels: np.ndarray, targets: np.ndarray) -> np.ndarray:
        error = out - targets
        slope = np.clip(error, -self.delta, self.delta)
        return (slope * (error - slope / 2)).sum(axis=1)

    def _best_constant(self, targets: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
        return np.array([self._best_of_column(y, weights) for y in targets.T], np.float64)

    def _best_of_column(self, y: np.ndarray, weights: np.ndarray | None) -> float:
        """Return where the mean slope is zero, by Newton's method within a shrinking bracket."""
        y, low, high = y.astype(np.float64), float(y.min()), float(y.max())
        best = float(_quantiles(y[:, None], np.array([0.5]), weights)[0])
        for _ in range(_NEWTON_STEPS):
            error = best - y
            slope = np.average(np.clip(error, -self.delta, self.delta), weights=weights)
            inside = np.average(np.abs(error) <= self.delta, weights=weights)
            low, high = (best, high) if slope < 0 else (low, best)
            following = best - slope / inside if inside > 0 else math.inf
            if not low <= following <= high:
                following = low + (high - low) / 2
            if slope == 0 or following == best:
                break
            best = following
        return best


class Quantile(Loss):
    """The mean over the outputs of the quantile (pinball) loss.

    With ``e = out - y`` and the quantile q: ``(1 - q) * e`` where ``e > 0``, else ``-q * e``. The
    minimum is the output that a share q of the targets lies below (Koenker & Bassett, 1978).

    Parameters
    ----------
    quantiles : float or sequence of float, default=0.5
        Between 0 and 1: one for all outputs, or one for each. With several of them, the targets
        may be a single column, which is then compared with each output.

    Raises
    ------
    ValueError
        If `quantiles` are not such numbers; by `Sequential.fit`, if their number is neither 1
        nor that of the outputs.

    Examples
    --------
    A net that gives a lower bound, a median and an upper bound:

    >>> import numpy as np
    >>> from fastnn import SGD, Affine, Sequential
    >>> from fastnn.losses import Quantile
    >>> X = np.linspace(0, 1, 200)[:, None]
    >>> y = np.random.default_rng(0).normal(3, 1, 200)
    >>> net = Sequential([Affine(1, 3)], seed=0)
    >>> history = net.fit(X, y, loss=Quantile([0.1, 0.5, 0.9]), optimizer=SGD(0.1))
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

    def kernel_name(self, integer_labels: bool) -> str:
        return "quantile"

    def parameters(self, n_outputs: int) -> np.ndarray:
        return np.broadcast_to(np.array(self.quantiles, np.float64), n_outputs).copy()

    def _sums(self, out: np.ndarray, labels: np.ndarray, targets: np.ndarray) -> np.ndarray:
        error, q = out - targets, np.array(self.quantiles)
        return np.maximum((1 - q) * error, -q * error).sum(axis=1)

    def _best_constant(self, targets: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
        return _quantiles(targets, self.parameters(targets.shape[1]), weights)


def _quantiles(
    targets: np.ndarray, quantiles: np.ndarray, weights: np.ndarray | None
) -> np.ndarray:
    """Return a quantile of each column: the least target with its share at or below it."""
    best = np.empty(targets.shape[1])
    for c, q in enumerate(quantiles):
        order = np.argsort(targets[:, c])
        below = np.cumsum(np.ones(len(order)) if weights is None else weights[order])
        best[c] = targets[order[np.searchsorted(below, q * below[-1])], c]
    return best


class Poisson(_Reduced):
    """Half the Poisson deviance, for counts; the outputs are logarithms of the mean.

    ``sum_o (exp(z) - z y + y log(y) - y)`` for outputs z and targets y >= 0, with the gradient
    ``exp(z) - y``. `Sequential.predict` returns z; the expected count is ``exp(z)``.

    Parameters
    ----------
    reduction : {"sum", "mean"}, default="sum"
        Reduction over the outputs of a row.

    Raises
    ------
    ValueError
        If `reduction` is neither of the two.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import Affine, Sequential
    >>> net = Sequential([Affine(2, 1, init="zeros")])
    >>> net.loss(np.eye(2), np.array([1.0, 1.0]), "poisson")
    0.0
    """

    name = "poisson"
    takes_logits = True
    target_range = (0.0, math.inf)

    def __init__(self, reduction: Reduction = "sum") -> None:
        super().__init__(reduction)

    def scales(self, n_outputs: int) -> tuple[float, float]:
        factor = self._factor(n_outputs)
        return factor, factor

    def kernel_name(self, integer_labels: bool) -> str:
        return "poisson"

    def _sums(self, out: np.ndarray, labels: np.ndarray, targets: np.ndarray) -> np.ndarray:
        y = targets.astype(np.float64)
        least = y * np.log(np.where(y > 0, y, 1)) - y
        return (np.exp(out) - out * y + least).sum(axis=1)

    def _best_constant(self, targets: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
        return np.log(np.maximum(super()._best_constant(targets, weights), _TINY))


def _check_smoothing(value: float) -> float:
    if not 0 <= as_number(value) <= 1:
        raise ValueError(f"label_smoothing must be a number in [0, 1], got {shown(value)}")
    return value


class BinaryCrossEntropy(_Reduced):
    """Cross-entropy of independent binary outputs, computed from logits.

    ``max(z, 0) - z y + log(1 + exp(-|z|))`` for each logit z and target y in [0, 1].

    Parameters
    ----------
    reduction : {"mean", "sum"}, default="mean"
        Reduction over the outputs of a row.
    label_smoothing : float, default=0.0
        s in [0, 1]; each target y is replaced by ``(1 - s) y + s / 2``.

    Raises
    ------
    ValueError
        If `reduction` is neither of the two, or `label_smoothing` is not in [0, 1].

    Examples
    --------
    >>> from fastnn.losses import BinaryCrossEntropy
    >>> BinaryCrossEntropy(label_smoothing=0.1)
    BinaryCrossEntropy(reduction='mean', label_smoothing=0.1)
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

    def kernel_name(self, integer_labels: bool) -> str:
        return "binary_cross_entropy"

    def parameters(self, n_outputs: int) -> np.ndarray:
        return np.array([self.label_smoothing], np.float64)

    def _sums(self, out: np.ndarray, labels: np.ndarray, targets: np.ndarray) -> np.ndarray:
        if self.label_smoothing:
            targets = (1 - self.label_smoothing) * targets + self.label_smoothing / 2
        losses = np.maximum(out, 0) - out * targets + np.log1p(np.exp(-np.abs(out)))
        return losses.sum(axis=1)

    def _best_constant(self, targets: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
        share = super()._best_constant(targets, weights)
        share = (1 - self.label_smoothing) * share + self.label_smoothing / 2
        return np.log(np.maximum(share, _TINY)) - np.log(np.maximum(1 - share, _TINY))


class SoftmaxCrossEntropy(Loss):
    """Cross-entropy of one class out of several, computed from logits.

    ``log(sum_c exp(z_c)) - z_y`` for integer targets y, or ``sum_c y_c (log(sum exp(z)) - z_c)``
    for rows of target probabilities.

    Parameters
    ----------
    label_smoothing : float, default=0.0
        s in [0, 1]; each target probability ``y_c`` is replaced by ``(1 - s) y_c + s / O``
        (Szegedy et al., 2016). An integer target counts as a one-hot row. Keeps the logits from
        growing without bound.

    Raises
    ------
    ValueError
        If `label_smoothing` is not in [0, 1].

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import Affine, Sequential
    >>> net = Sequential([Affine(2, 4, init="zeros")])
    >>> round(net.loss(np.eye(2), [0, 3], "softmax_cross_entropy"), 4)  # log(4)
    1.3863
    """

    name = "softmax_cross_entropy"
    task = "classification"
    takes_logits = True
    target_range = (0.0, 1.0)

    def __init__(self, label_smoothing: float = 0.0) -> None:
        self.label_smoothing = _check_smoothing(label_smoothing)

    def scales(self, n_outputs: int) -> tuple[float, float]:
        return 1.0, 1.0

    def kernel_name(self, integer_labels: bool) -> str:
        if not integer_labels:
            return "softmax_of_probabilities"
        return "softmax_of_smoothed_labels" if self.label_smoothing else "softmax_cross_entropy"

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
        parts = np.where(targets != 0, targets * (log_sums[:, None] - shifted), 0)
        return parts.sum(axis=1)

    def constant_loss(
        self, labels: np.ndarray, targets: np.ndarray, weights: np.ndarray | None = None
    ) -> float:
        n = targets.shape[1]
        if len(labels):
            share = np.bincount(labels, weights, n)
            share = share / share.sum()
        else:
            share = super()._best_constant(targets, weights)
        share = (1 - self.label_smoothing) * share + self.label_smoothing / n
        total = max(share.sum(), _TINY)
        return float(-(share * np.log(np.maximum(share, _TINY) / total)).sum())


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
_BY_NAME["categorical_cross_entropy"] = SoftmaxCrossEntropy  # its name in other libraries


def get(loss: str | Loss) -> Loss:
    """Return a loss by its name; a `Loss` is returned as it is.

    Parameters
    ----------
    loss : str or Loss
        A name such as ``"mse"`` gives the loss with its default parameters.

    Returns
    -------
    Loss

    Raises
    ------
    ValueError
        If `loss` is neither a `Loss` nor the name of one.

    Examples
    --------
    >>> from fastnn import losses
    >>> losses.get("squared_error")
    SquaredError(reduction='sum')
    """
    if isinstance(loss, Loss):
        return loss
    if isinstance(loss, str) and loss in _BY_NAME:
        return _BY_NAME[loss]()
    names = ", ".join(repr(name) for name in _BY_NAME)
    raise ValueError(f"loss must be one of {names} or a Loss, got {shown(loss)}")
