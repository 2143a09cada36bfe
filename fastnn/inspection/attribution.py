"""Which inputs an output depends on, sample by sample: by gradients with respect to inputs."""

import warnings
from typing import NamedTuple

import numpy as np

from fastnn.errors import shown
from fastnn.inspection.checks import check_rows
from fastnn.validation import (
    as_array,
    check_finite,
    check_flag,
    check_integer,
    check_number,
    kernel_array,
)

_ROWS_AT_ONCE = 4096
_MOST_STEPS = 1_000_000
_MOST_DOUBLINGS = 8


def saliency(net, X, output=None, *, signed=False):
    """Return how much each input would change an output, if it changed a little.

    The gradient of the output with respect to the input, or its absolute value (Simonyan,
    Vedaldi and Zisserman, "Deep inside convolutional networks", 2013).

    Parameters
    ----------
    net : Sequential
        Its layers' `grads` are overwritten.
    X : array_like (N, I)
    output : int or array_like (N,) of int, optional
        Which output, for all samples or for each; by default the largest of each sample.
    signed : bool, default False
        Whether to keep the sign.

    Returns
    -------
    ndarray (N, I)
        In the net's dtype.

    Raises
    ------
    ValueError
        If X does not suit the net, or there is no such output.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import Affine, Sequential
    >>> from fastnn.inspection import saliency
    >>> net = Sequential([Affine(2, 1)], dtype="float64")
    >>> net.layers[0].params["w"][...] = [[3.0], [-4.0]]
    >>> saliency(net, np.ones((1, 2)))  # of a linear net: its weights
    array([[3., 4.]])
    """
    x = check_rows(net, X)
    signed = check_flag("signed", signed)
    chosen = _choose_outputs(net, x, output)
    gradient = np.empty_like(x)
    for start in range(0, len(x), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        gradient[part] = _input_gradient(net, x[part], chosen[part])
    return gradient if signed else np.abs(gradient)


class IntegratedGradients(NamedTuple):
    """What each input adds to an output, and how exact that is.

    Attributes
    ----------
    attributions : ndarray (N, I) of float64
        The sum of a row is f(x) - f(baseline), but for its gap.
    gap : ndarray (N,) of float64
        The sum of the attributions minus (f(x) - f(baseline)): the error of the numerical
        integral. Zero if it were exact.
    steps : int
        The most points of the path that were used for a sample.
    """

    attributions: np.ndarray
    gap: np.ndarray
    steps: int


def integrated_gradients(net, X, baseline=0.0, output=None, *, steps=64, tolerance=1e-3):
    """Share out an output among the inputs, so that the shares sum to the output.

    Walk in a straight line from a baseline b, which stands for "nothing", to the sample x, and
    add up what each input contributes to the change of the output f on the way (Sundararajan,
    Taly and Yan, "Axiomatic attribution for deep networks", 2017):

    ``(x_i - b_i) * integral over a from 0 to 1 of df/dx_i (b + a (x - b))``

    The integral is a sum over the middles of equal steps. The shares of a sample must sum to
    f(x) - f(b), so the error is known, and the steps of samples that miss it are doubled.

    Parameters
    ----------
    net : Sequential
        Its layers' `grads` are overwritten.
    X : array_like (N, I)
    baseline : float, or array_like (I,) or (N, I), default 0
        An input that says nothing, such as a black image or the mean of the data.
    output : int or array_like (N,) of int, optional
        Which output, for all samples or for each; by default the largest of each sample.
    steps : int, default 64
        Points of the path to begin with; up to 256 times as many are used.
    tolerance : float, default 1e-3
        The gap that is good enough, relative to the larger of |f(x)| and |f(b)|.

    Returns
    -------
    IntegratedGradients

    Raises
    ------
    ValueError
        If an argument does not suit the net.

    Warns
    -----
    RuntimeWarning
        If the gap of a sample stays above the tolerance: for a net with jumps, such as a `Step`,
        whose gradients do not tell about them.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import Affine, Sequential
    >>> from fastnn.inspection import integrated_gradients
    >>> net = Sequential([Affine(2, 1)], dtype="float64")
    >>> net.layers[0].params["w"][...] = [[3.0], [-4.0]]
    >>> result = integrated_gradients(net, [[2.0, 1.0]])
    >>> result.attributions  # of a linear net: weights times inputs
    array([[ 6., -4.]])
    """
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


def _mean_gradient(net, start, end, output, steps):
    """Return the mean gradient (I,) at the middles of equal steps from start (I,) to end (I,)."""
    total = np.zeros(len(start))
    for first in range(0, steps, _ROWS_AT_ONCE):
        places = (np.arange(first, min(first + _ROWS_AT_ONCE, steps)) + 0.5) / steps
        path = start + places[:, None].astype(start.dtype) * (end - start)
        gradient = _input_gradient(net, path, np.full(len(path), output))
        total += gradient.sum(axis=0, dtype=np.float64)
    return total / steps


def _input_gradient(net, x, outputs):
    """Return the gradient (N, I) of output `outputs[n]` of each row of x (N, I)."""
    out = net.forward(x)
    one = np.zeros_like(out)
    one[np.arange(len(x)), outputs] = 1
    return net.backward(one)


def _choose_outputs(net, x, output):
    """Return an index of an output for each row of x (N, I), or raise ValueError."""
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


def _check_baseline(net, baseline, shape):
    """Return the baseline of each sample, or raise ValueError."""
    array = as_array("baseline", baseline)
    if array.dtype.kind not in "biuf" or array.shape not in ((), shape[1:], shape):
        raise ValueError(
            f"baseline must be a number, or numbers of shape {shape[1:]} or {shape}, got shape "
            f"{array.shape} and dtype {array.dtype}"
        )
    array = kernel_array(array, net.dtype).reshape(array.shape)
    check_finite("baseline", np.atleast_1d(array))
    return kernel_array(np.broadcast_to(array, shape), net.dtype)
