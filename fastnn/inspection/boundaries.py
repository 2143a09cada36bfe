"""Decision boundaries: the predictions of a net with two inputs over a grid."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn import losses
from fastnn.errors import require, shown
from fastnn.inspection.checks import (
    Net,
    check_axes,
    check_net,
    check_rows,
    class_numbers,
    classes_of,
    given_or_new,
    has_net,
)
from fastnn.layers import Sigmoid, Softmax
from fastnn.validation import check_integer, check_targets

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fastnn.network import Sequential

_MOST_POINTS = 5000  # in each direction
_MARGIN = 0.15  # around the data, as a fraction of their range


class DecisionGrid(NamedTuple):
    """The predictions of a net on a grid over its two inputs.

    Attributes
    ----------
    points : ndarray of shape (G, G, 2)
        The inputs: ``points[i, j]`` has the i-th value of the second and the j-th of the first.
    predictions : ndarray of int of shape (G, G)
        The predicted class of each point.
    probabilities : ndarray of float64 of shape (G, G, C)
        The probability of each class: the softmax of the outputs, or the logistic function of a
        single output, unless these are the last layer of the net.
    """

    points: NDArray[np.floating]
    predictions: NDArray[np.intp]
    probabilities: NDArray[np.float64]


def decision_grid(net: Net, X: ArrayLike, *, n_points: int = 200) -> DecisionGrid:
    """Return the predictions of a net on a grid that covers some data.

    Parameters
    ----------
    net : Sequential or fitted classifier
        A net with two inputs. It has one output for two classes, or an output for each class.
    X : array_like of shape (N, 2)
        Samples; the grid covers them with a margin.
    n_points : int, default=200
        Points of the grid in each direction, G.

    Returns
    -------
    DecisionGrid
        Points, predicted classes and probabilities.

    Raises
    ------
    ValueError
        If the net does not have two inputs, X does not fit it, or `n_points` is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import Affine, Sequential
    >>> from fastnn.inspection import decision_grid
    >>> net = Sequential([Affine(2, 3)], seed=0)
    >>> decision_grid(net, np.eye(2), n_points=50).predictions.shape
    (50, 50)
    """
    model, net = net, check_net(net)
    several = getattr(model, "out_activation_", None) == "logistic" and net.n_outputs > 1
    if has_net(model) and (classes_of(model) is None or several):
        raise ValueError(f"net must predict one class for each row, got {shown(model)}")
    if net.n_inputs != 2:
        raise ValueError(f"net must have 2 inputs, got {net.n_inputs}")
    x = check_rows(net, X)
    n_points = check_integer("n_points", n_points, 2, _MOST_POINTS)
    low, high = x.min(axis=0), x.max(axis=0)
    room = _MARGIN * np.where(high > low, high - low, 1)
    first, second = np.linspace(low - room, high + room, n_points).T
    points = np.stack(np.meshgrid(first, second), axis=-1)
    probabilities = _probabilities(net, net.predict(points.reshape(-1, 2)))
    probabilities = probabilities.reshape(n_points, n_points, -1)
    return DecisionGrid(points, probabilities.argmax(axis=-1), probabilities)


def _probabilities(net: Sequential, out: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the probabilities (N, C) of the classes for outputs (N, O)."""
    last = net.layers[-1]
    values: NDArray[np.float64] = out.astype(np.float64)
    if isinstance(last, Softmax):
        return values
    if isinstance(last, Sigmoid):
        return np.hstack([1 - values, values]) if values.shape[1] == 1 else values
    # The logistic function is the softmax of (0, z).
    logits = np.hstack([np.zeros_like(values), values]) if values.shape[1] == 1 else values
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def plot_decision_boundary(
    net: Net, X: ArrayLike, y: ArrayLike, ax: Axes | None = None, *, n_points: int = 200
) -> DecisionGrid:
    """Draw the predicted class over the two inputs of a net, and the data on top.

    Each class has a colour, the paler the less probable the class is. Lines are the boundaries
    between classes.

    Parameters
    ----------
    net : Sequential or fitted classifier
        A net with two inputs.
    X : array_like of shape (N, 2)
        Samples.
    y : array_like of shape (N,)
        Their true classes: numbers from 0, or labels of the classifier.
    ax : matplotlib.axes.Axes or None, default=None
        Axes to draw on; None makes a new figure with pyplot.
    n_points : int, default=200
        Points of the grid in each direction, G.

    Returns
    -------
    DecisionGrid
        The result of `decision_grid`.

    Raises
    ------
    ValueError
        If the net does not have two inputs, the data do not fit it, or `n_points` is out of range.
    MissingExtraError
        If matplotlib is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> from fastnn import Affine, Sequential
    >>> from fastnn.inspection import plot_decision_boundary
    >>> net = Sequential([Affine(2, 1)], seed=0)
    >>> grid = plot_decision_boundary(net, np.eye(2), [0, 1], Figure().subplots())
    >>> grid.predictions.shape
    (200, 200)
    """
    check_axes(ax)
    grid = decision_grid(net, X, n_points=n_points)
    y, net = class_numbers(net, y), check_net(net)
    x = check_rows(net, X)
    n_classes = grid.probabilities.shape[-1]
    labels, _ = check_targets(y, losses.get("softmax_cross_entropy"), len(x), n_classes, net.dtype)
    if np.ndim(y) != 1:
        raise ValueError(f"y must have the shape ({len(x)},), got {np.shape(y)}")
    ax = given_or_new(ax)
    colors = require("matplotlib", "plot").colormaps["tab10"](np.arange(n_classes) % 10)[:, :3]

    # From white, if all classes are equally probable, to the colour of the class.
    sure = (grid.probabilities.max(axis=-1) - 1 / n_classes) / (1 - 1 / n_classes)
    shade = (0.15 + 0.45 * np.clip(sure, 0, 1))[..., None]
    first, second = grid.points[0, :, 0], grid.points[:, 0, 1]
    ax.imshow(
        1 - shade + shade * colors[grid.predictions],
        extent=(first[0], first[-1], second[0], second[-1]),
        origin="lower",
        aspect="auto",
        interpolation="bilinear",
    )
    for k in range(n_classes if n_classes > 2 else 1):
        others = np.delete(grid.probabilities, k, axis=-1).max(axis=-1)
        lead = grid.probabilities[..., k] - others
        if lead.min() < 0 < lead.max():
            ax.contour(first, second, lead, [0], colors="0.25", linewidths=1.2)
    ax.scatter(
        x[:, 0], x[:, 1], c=colors[labels], s=18, edgecolors="white", linewidths=0.6, zorder=3
    )
    ax.set(xlabel="first input", ylabel="second input")
    return grid
