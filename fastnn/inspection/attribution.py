"""Attribution: how much each input contributes to an output of one sample, by gradients."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn.errors import shown
from fastnn.inspection.checks import Net, check_net, check_rows
from fastnn.validation import (
    as_array,
    check_finite,
    check_flag,
    check_integer,
    check_number,
    kernel_array,
)

if TYPE_CHECKING:
    from fastnn.network import Sequential

_ROWS_AT_ONCE = 4096
_MOST_STEPS = 1_000_000
_MOST_DOUBLINGS = 8


def saliency(
    net: Net, X: ArrayLike, output: ArrayLike | None = None, *, signed: bool = False
) -> NDArray[np.floating]:
    """Return the gradient of an output with respect to each input, or its absolute value.

    Source: Simonyan, Vedaldi and Zisserman, "Deep inside convolutional networks", 2013.

    Parameters
    ----------
    net : Sequential or fitted estimator
        Any net. The `grads` of its layers are overwritten.
    X : array_like of shape (N, I)
        Samples.
    output : int, array_like of int of shape (N,) or None, default=None
        Index of the output, for all samples or for each; None takes the largest of each sample.
    signed : bool, default=False
        Whether to keep the sign.

    Returns
    -------
    ndarray of shape (N, I)
        In the dtype of the net.

    Raises
    ------
    ValueError
        If X is not numeric and finite or does not fit the net, or there is no such output.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import Affine, Sequential
    >>> from fastnn.inspection import saliency
    >>> net = Sequential([Affine(2, 1)], dtype="float64")
    >>> net.layers[0].params["w"][...] = [[3.0], [-4.0]]
    >>> saliency(net, np.ones((1, 2)))  # for a linear net: the absolute weights
    array([[3., 4.]])
    """
    net = check_net(net)
    x = check_rows(net, X)
    signed = check_flag("signed", signed)
    chosen = _choose_outputs(net, x, output)
    gradient = np.empty_like(x)
    for start in range(0, len(x), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        gradient[part] = _input_gradient(net, x[part], chosen[part])
    return gradient if signed else np.abs(gradient)


class IntegratedGradients(NamedTuple):
    """The contribution of each input to an output, and the error of the numerical integration.

    Attributes
    ----------
    attributions : ndarray of float64 of shape (N, I)
        Contributions. Each row sums to f(x) - f(baseline) + gap.
    gap : ndarray of float64 of shape (N,)
        Sum of the attributions minus (f(x) - f(baseline)): the error of the numerical integral,
        zero for an exact one.
    steps : int
        Number of points of the path, the largest over all samples.
    """

    attributions: NDArray[np.float64]
    gap: NDArray[np.float64]
    steps: int


def integrated_gradients(
    net: Net,
    X: ArrayLike,
    baseline: ArrayLike = 0.0,
    output: ArrayLike | None = None,
    *,
    steps: int = 64,
    tolerance: float = 1e-3,
) -> IntegratedGradients:
    """Return contributions of the inputs to an output that sum to its change from a baseline.

    The gradient of the output f is integrated along the straight line from the baseline b to the
    sample x (Sundararajan, Taly and Yan, "Axiomatic attribution for deep networks", 2017):

    ``(x_i - b_i) * integral over a from 0 to 1 of df/dx_i (b + a (x - b))``

    The integral is computed by the midpoint rule with equal steps. As the contributions of a
    sample must sum to f(x) - f(b), the error is known: the number of steps is doubled for samples
    whose error is above the tolerance.

    Parameters
    ----------
    net : Sequential or fitted estimator
        Any net. The `grads` of its layers are overwritten.
    X : array_like of shape (N, I)
        Samples.
    baseline : float, array_like of shape (I,) or (N, I), default=0.0
        A neutral input, such as a black image or the mean of the data.
    output : int, array_like of int of shape (N,) or None, default=None
        Index of the output, for all samples or for each; None takes the largest of each sample.
    steps : int, default=64
        Initial number of points of the path; it is increased up to 256 times.
    tolerance : float, default=1e-3
        Largest accepted gap, relative to the larger of abs(f(x)) and abs(f(b)).

    Returns
    -------
    IntegratedGradients
        Contributions and errors.

    Raises
    ------
    ValueError
        If an argument is out of range, or does not fit the net.

    Warns
    -----
    RuntimeWarning
        If the gap of a sample stays above the tolerance. This happens for nets with jumps, such as
        those of a `Step`, which the gradient does not include.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import Affine, Sequential
    >>> from fastnn.inspection import integrated_gradients
    >>> net = Sequential([Affine(2, 1)], dtype="float64")
    >>> net.layers[0].params["w"][...] = [[3.0], [-4.0]]
    >>> result = integrated_gradients(net, [[2.0, 1.0]])
    >>> result.attributions  # for a linear net: weights times inputs
    array([[ 6., -4.]])
    """
    net = check_net(net)
    x = check_rows(net, X)
    steps = check_integer("steps", steps, 1, _MOST_STEPS)
    tolerance = check_number("tolerance", tolerance)
    start = _check_baseline(net, baseline, x.shape)
    chosen = _choose_outputs(net, x, output)
    rows = np.arange(len(x))
    at_end = net.predict(x)[rows, chosen].astype(np.float64)
    at_start = net.predict(start)[rows, chosen].astype(np.float64)
    allowed = tolerance * np.maximum(np.abs(at_end), np.abs(at_start))

    attributions, gap = np.zeros(x.shape), np.zeros(len(x))
    todo = rows
    for doubling in range(_MOST_DOUBLINGS + 1):
        for row in todo:
            mean = _mean_gradient(net, start[row], x[row], chosen[row], steps << doubling)
            attributions[row] = mean * (x[row].astype(np.float64) - start[row])
        gap[todo] = attributions[todo].sum(axis=1) - (at_end - at_start)[todo]
        todo = rows[np.abs(gap) > allowed]
        if len(todo) == 0:
            break
    else:
        warnings.warn(
            f"integrated_gradients: the attributions of {len(todo)} of {len(x)} samples miss "
            f"f(x) - f(baseline) by more than the tolerance, the worst by {np.abs(gap).max():.3g}",
            RuntimeWarning,
            stacklevel=2,
        )
    return IntegratedGradients(attributions, gap, steps << doubling)


def _mean_gradient(
    net: Sequential,
    start: NDArray[np.floating],
    end: NDArray[np.floating],
    output: int,
    steps: int,
) -> NDArray[np.float64]:
    """Return the mean gradient (I,) at the midpoints of equal steps from start to end (I,)."""
    total = np.zeros(len(start))
    for first in range(0, steps, _ROWS_AT_ONCE):
        places = (np.arange(first, min(first + _ROWS_AT_ONCE, steps)) + 0.5) / steps
        path = start + places[:, None].astype(start.dtype) * (end - start)
        gradient = _input_gradient(net, path, np.full(len(path), output))
        total += gradient.sum(axis=0, dtype=np.float64)
    return total / steps


def _input_gradient(
    net: Sequential, x: NDArray[np.floating], outputs: NDArray[np.integer]
) -> NDArray[np.floating]:
    """Return the gradient (N, I) of the output `outputs[n]` for each row n of x (N, I)."""
    out = net.forward(x)
    one = np.zeros_like(out)
    one[np.arange(len(x)), outputs] = 1
    return net.backward(one)


def _choose_outputs(
    net: Sequential, x: NDArray[np.floating], output: ArrayLike | None
) -> NDArray[np.integer]:
    """Return the index of an output for each row of x (N, I), or raise ValueError."""
    if output is None:
        return net.predict(x).argmax(axis=1)
    chosen = as_array("output", output)
    if chosen.dtype.kind not in "iu" or chosen.shape not in ((), (len(x),)):
        raise ValueError(
            f"output must be None, an integer or {len(x)} integers, got {shown(output)}"
        )
    if chosen.min() < 0 or chosen.max() >= net.n_outputs:
        wrong = chosen.min() if chosen.min() < 0 else chosen.max()
        raise ValueError(f"output must be from 0 to {net.n_outputs - 1}, got {wrong}")
    return np.broadcast_to(chosen, len(x))


def _check_baseline(net: Sequential, baseline: ArrayLike, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return the baseline of each sample as an array of a shape, or raise ValueError."""
    array = as_array("baseline", baseline)
    if array.dtype.kind not in "biuf" or array.shape not in ((), shape[1:], shape):
        raise ValueError(
            f"baseline must be a number, or numbers of shape {shape[1:]} or {shape}, got shape "
            f"{array.shape} and dtype {array.dtype}"
        )
    array = kernel_array(array, net.dtype).reshape(array.shape)
    check_finite("baseline", np.atleast_1d(array))
    return kernel_array(np.broadcast_to(array, shape), net.dtype)
