"""The dot product as similarity: how well an input lines up with what each neuron looks for."""

from typing import NamedTuple

import numpy as np

from fastnn.errors import require
from fastnn.inspection.checks import DIVERGING, check_axes, check_weight_matrix
from fastnn.linalg import matmul
from fastnn.validation import as_array, check_inputs


class Alignment(NamedTuple):
    """How inputs lie to neurons: each array is (O,) for one input, (B, O) for a batch.

    Attributes
    ----------
    dot : ndarray of float64
        ``x . w``, what the neuron computes before its bias and activation.
    cosine : ndarray of float64
        ``x . w / (|x| |w|)``: 1 in the same direction, 0 orthogonal, -1 opposite.
    angle : ndarray of float64
        Between them, in degrees: 0, 90 and 180 in these three cases.
    """

    dot: np.ndarray
    cosine: np.ndarray
    angle: np.ndarray


def alignment(x, W):
    """Compare inputs with the weights of each neuron.

    A dot product is large where two vectors are long and point the same way:
    ``x . w = |x| |w| cos(angle)``. The cosine is that without the lengths.

    Parameters
    ----------
    x : array_like (I,) or (B, I)
        One input or a batch. Computed in float64.
    W : array_like (I, O) or Layer
        Each column is one neuron, as in `Affine`; or a layer with such weights.

    Returns
    -------
    Alignment
        A zero vector has no direction: its dot product is 0, its cosine and angle are NaN.

    Raises
    ------
    ValueError
        If an argument is not numeric and finite, or the shapes do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.inspection import alignment
    >>> neurons = np.array([[2.0, 0.0, -1.0], [0.0, 3.0, 0.0]])  # three columns
    >>> result = alignment([1.0, 0.0], neurons)
    >>> result.dot.tolist()
    [2.0, 0.0, -1.0]
    >>> result.angle.tolist()
    [0.0, 90.0, 180.0]
    """
    w = np.asarray(check_weight_matrix("W", W), np.float64)
    array = as_array("x", x)
    rows = check_inputs(array[None] if array.ndim == 1 else array, np.float64, len(w), "x")
    dot = matmul(rows, w)
    # Directions first: the product of two lengths could overflow where neither does.
    cosine = np.clip(matmul(_directions(rows, 1), _directions(w, 0)), -1, 1)
    result = Alignment(dot, cosine, np.degrees(np.arccos(cosine)))
    return Alignment(*(part[0] for part in result)) if array.ndim == 1 else result


def _directions(vectors, axis):
    """Divide vectors by their lengths; a zero vector becomes NaN."""
    largest = np.abs(vectors).max(axis=axis, keepdims=True)
    with np.errstate(invalid="ignore"):
        vectors = vectors / largest  # their squares neither overflow nor vanish
        return vectors / np.linalg.norm(vectors, axis=axis, keepdims=True)


def plot_alignment(x, W, ax):
    """Draw an input with two numbers, and what each neuron looks for, as arrows.

    The input is black. A neuron is the bluer the better it lines up, the redder the more it
    points away, and grey where it is orthogonal.

    Parameters
    ----------
    x : array_like (2,)
    W : array_like (2, O) or Layer
    ax : matplotlib.axes.Axes

    Returns
    -------
    Alignment
        What `alignment` gives.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from fastnn.inspection import plot_alignment
    >>> result = plot_alignment([1.0, 1.0], [[2.0, 1.0], [2.0, -1.0]], Figure().subplots())
    >>> result.dot.tolist()
    [4.0, 0.0]
    """
    check_axes(ax)
    w = np.asarray(check_weight_matrix("W", W), np.float64)
    x = as_array("x", x)
    if x.shape != (2,) or len(w) != 2:
        raise ValueError(
            f"x and W must have two inputs to be drawn, got shapes {x.shape} and {w.shape}"
        )
    result = alignment(x, w)
    colors = require("matplotlib", "plot").colormaps[DIVERGING]
    ax.axhline(0, color="0.85", linewidth=0.8, zorder=0)
    ax.axvline(0, color="0.85", linewidth=0.8, zorder=0)
    for k, neuron in enumerate(w.T):
        cosine = np.nan_to_num(result.cosine[k])
        # The middle of the colours is white, which would not show on white.
        color = "0.55" if abs(cosine) < 0.05 else colors(0.5 + np.sign(cosine) * 0.2 + cosine / 4)
        angle = "no direction" if np.isnan(result.angle[k]) else f"{result.angle[k]:.0f}°"
        _arrow(ax, neuron, color, 5)
        outward = neuron / (np.linalg.norm(neuron) or 1.0)
        _write(ax, neuron, f"{angle}\ndot {result.dot[k]:.2g}", color, outward)
    x = np.asarray(x, np.float64)
    _arrow(ax, x, "black", 2)
    aside = np.array([x[1], -x[0]]) / (np.linalg.norm(x) or 1.0)  # clear of a neuron like it
    _write(ax, x / 2, "input", "black", aside)
    reach = 1.8 * max(np.abs(w).max(), np.abs(x).max()) or 1.0
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    ax.set(xlabel="first input", ylabel="second input")
    return result


def _arrow(ax, tip, color, width):
    style = {
        "arrowstyle": f"-|>,head_width={0.2 + 0.06 * width},head_length={0.4 + 0.12 * width}",
        "color": color,
        "linewidth": width,
        "shrinkA": 0,
        "shrinkB": 0,
        "joinstyle": "miter",
    }
    ax.annotate("", tip, (0, 0), arrowprops=style)


def _write(ax, place, text, color, side):
    """Write some points away from a place, on the side to which the vector `side` points."""
    ax.annotate(
        text,
        place,
        10 * side,
        textcoords="offset points",
        color=color,
        ha=_side(side[0], "left", "right"),
        va=_side(side[1], "bottom", "top"),
    )


def _side(component, positive, negative):
    if abs(component) < 0.3:
        return "center"
    return positive if component > 0 else negative
