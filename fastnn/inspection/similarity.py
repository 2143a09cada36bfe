"""Similarity of an input and the weights of each neuron: dot product, cosine and angle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn.errors import require
from fastnn.inspection.checks import DIVERGING, check_axes, check_weight_matrix, given_or_new
from fastnn.linalg import matmul
from fastnn.validation import as_array, check_inputs

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fastnn.inspection.checks import FittedEstimator
    from fastnn.layers import Layer


class Alignment(NamedTuple):
    """The similarity of inputs and neurons.

    Attributes
    ----------
    dot : ndarray of float64 of shape (O,) or (B, O)
        ``x . w``, the output of the neuron before bias and activation. All three arrays have the
        shape (O,) for one input, (B, O) for a batch.
    cosine : ndarray of float64 of shape (O,) or (B, O)
        ``x . w / (|x| |w|)``: 1 for the same direction, 0 for orthogonal, -1 for opposite vectors.
    angle : ndarray of float64 of shape (O,) or (B, O)
        Angle between the two in degrees: 0, 90 and 180 in these three cases.
    """

    dot: NDArray[np.float64]
    cosine: NDArray[np.float64]
    angle: NDArray[np.float64]


def alignment(x: ArrayLike, W: ArrayLike | Layer | FittedEstimator) -> Alignment:
    """Return the dot product, cosine and angle of inputs and the weights of each neuron.

    A dot product is large if two vectors are long and have similar directions:
    ``x . w = |x| |w| cos(angle)``. The cosine does not depend on the lengths.

    Parameters
    ----------
    x : array_like of shape (I,) or (B, I)
        One input or a batch. Computed in float64.
    W : array_like of shape (I, O), Layer or fitted estimator
        Weights, each column those of one neuron as in `Affine`, or a layer with such weights, or an
        estimator for the first of its layers.

    Returns
    -------
    Alignment
        Dot products, cosines and angles. For a zero vector, the dot product is 0, and cosine and
        angle are NaN.

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
    # Normalised before the product, because the product of the two lengths could overflow.
    cosine = np.clip(matmul(_directions(rows, 1), _directions(w, 0)), -1, 1)
    result = Alignment(dot, cosine, np.degrees(np.arccos(cosine)))
    return Alignment(*(part[0] for part in result)) if array.ndim == 1 else result


def _directions(vectors: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Return vectors divided by their lengths; a zero vector becomes NaN."""
    largest = np.abs(vectors).max(axis=axis, keepdims=True)
    with np.errstate(invalid="ignore"):
        vectors = vectors / largest  # so that squares neither overflow nor underflow
        return vectors / np.linalg.norm(vectors, axis=axis, keepdims=True)


def plot_alignment(
    x: ArrayLike, W: ArrayLike | Layer | FittedEstimator, ax: Axes | None = None
) -> Alignment:
    """Draw a two-dimensional input and the weights of each neuron as arrows.

    The input is black. The weights are blue if their cosine with the input is positive, red if it
    is negative, the darker the larger its absolute value, and grey if they are orthogonal.

    Parameters
    ----------
    x : array_like of shape (2,)
        One input.
    W : array_like of shape (2, O), Layer or fitted estimator
        As for `alignment`.
    ax : matplotlib.axes.Axes or None, default=None
        Axes to draw on; None makes a new figure with pyplot.

    Returns
    -------
    Alignment
        The result of `alignment`.

    Raises
    ------
    ValueError
        If an argument is not numeric and finite, or has another shape.
    MissingExtraError
        If matplotlib is not installed.

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
    array = as_array("x", x)
    if array.shape != (2,) or len(w) != 2:
        raise ValueError(
            f"x and W must have two inputs to be drawn, got shapes {array.shape} and {w.shape}"
        )
    result = alignment(array, w)
    ax = given_or_new(ax)
    colors = require("matplotlib", "plot").colormaps[DIVERGING]
    ax.axhline(0, color="0.85", linewidth=0.8, zorder=0)
    ax.axvline(0, color="0.85", linewidth=0.8, zorder=0)
    for k, neuron in enumerate(w.T):
        cosine = np.nan_to_num(result.cosine[k])
        # The middle of the colour map is white, which would be invisible.
        color = "0.55" if abs(cosine) < 0.05 else colors(0.5 + np.sign(cosine) * 0.2 + cosine / 4)
        angle = "no direction" if np.isnan(result.angle[k]) else f"{result.angle[k]:.0f}°"
        _arrow(ax, neuron, color, 5)
        outward = neuron / (np.linalg.norm(neuron) or 1.0)
        _write(ax, neuron, f"{angle}\ndot {result.dot[k]:.2g}", color, outward)
    arrow = array.astype(np.float64)
    _arrow(ax, arrow, "black", 2)
    # Beside the arrow, where the label of a neuron with the same direction is not.
    aside = np.array([arrow[1], -arrow[0]]) / (np.linalg.norm(arrow) or 1.0)
    _write(ax, arrow / 2, "input", "black", aside)
    reach = 1.8 * max(np.abs(w).max(), np.abs(arrow).max()) or 1.0
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    ax.set(xlabel="first input", ylabel="second input")
    return result


def _arrow(ax: Axes, tip: NDArray[np.float64], color: Any, width: float) -> None:
    style: dict[str, Any] = {
        "arrowstyle": f"-|>,head_width={0.2 + 0.06 * width},head_length={0.4 + 0.12 * width}",
        "color": color,
        "linewidth": width,
        "shrinkA": 0,
        "shrinkB": 0,
        "joinstyle": "miter",
    }
    ax.annotate("", (tip[0], tip[1]), (0, 0), arrowprops=style)


def _write(
    ax: Axes, place: NDArray[np.float64], text: str, color: Any, side: NDArray[np.float64]
) -> None:
    """Write text ten points away from a place, in the direction of the unit vector `side`."""
    ax.annotate(
        text,
        (place[0], place[1]),
        (10 * side[0], 10 * side[1]),
        textcoords="offset points",
        color=color,
        ha=_side(side[0], "left", "right"),
        va=_side(side[1], "bottom", "top"),
    )


def _side(component: float, positive: str, negative: str) -> str:
    """Return the alignment of a text for a component of its direction."""
    if abs(component) < 0.3:
        return "center"
    return positive if component > 0 else negative
