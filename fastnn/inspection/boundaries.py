"""Where a net with two inputs changes its answer."""

from typing import NamedTuple

import numpy as np

from fastnn import losses
from fastnn.errors import require
from fastnn.inspection.checks import check_axes, check_net, check_rows
from fastnn.layers import Sigmoid, Softmax
from fastnn.validation import check_integer, check_targets

_MOST_POINTS = 5000  # along one side
_MARGIN = 0.15  # around the data, as a part of their width


class DecisionGrid(NamedTuple):
    """A net's answers all over the plane of its two inputs.

    Attributes
    ----------
    points : ndarray (G, G, 2)
        The inputs: ``points[i, j]`` has the i-th value of the second and the j-th of the first.
    predictions : ndarray (G, G) of int
        The class of each.
    probabilities : ndarray (G, G, C)
        Of the classes: the softmax of the outputs, or the logistic function of a single one,
        unless the net ends in these itself.
    """

    points: np.ndarray
    predictions: np.ndarray
    probabilities: np.ndarray


def decision_grid(net, X, *, n_points=200):
    """Return a net's answers on a grid around some data.

    Parameters
    ----------
    net : Sequential
        With two inputs. One output stands for two classes, otherwise there is a class for each.
    X : array_like (N, 2)
        The grid covers these, and some room around them.
    n_points : int, default 200
        Points of the grid in each direction, G.

    Returns
    -------
    DecisionGrid

    Raises
    ------
    ValueError
        If the net does not have two inputs, or X does not suit it.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import Affine, Sequential
    >>> from fastnn.inspection import decision_grid
    >>> net = Sequential([Affine(2, 3)], seed=0)
    >>> decision_grid(net, np.eye(2), n_points=50).predictions.shape
    (50, 50)
    """
    if check_net(net).n_inputs != 2:
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


def _probabilities(net, out):
    """Return the probabilities (N, C) of the classes for outputs (N, O)."""
    last = net.layers[-1]
    out = out.astype(np.float64)
    if isinstance(last, Softmax):
        return out
    if isinstance(last, Sigmoid):
        return np.hstack([1 - out, out]) if out.shape[1] == 1 else out
    # The logistic function is the softmax of (0, z).
    logits = np.hstack([np.zeros_like(out), out]) if out.shape[1] == 1 else out
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def plot_decision_boundary(net, X, y, ax, *, n_points=200):
    """Draw where a net with two inputs decides for which class, with the data on top.

    Each class has a colour, which fades to white where the net is in doubt. Lines separate the
    classes.

    Parameters
    ----------
    net : Sequential
        With two inputs.
    X : array_like (N, 2)
    y : array_like (N,) of int
        The true classes, from 0.
    ax : matplotlib.axes.Axes
    n_points : int, default 200
        Points of the grid in each direction, G.

    Returns
    -------
    DecisionGrid

    Raises
    ------
    ValueError
        If the net does not have two inputs, or the data do not suit it.

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
    x = check_rows(net, X)
    n_classes = grid.probabilities.shape[-1]
    labels, _ = check_targets(y, losses.get("softmax_cross_entropy"), len(x), n_classes, net.dtype)
    if np.ndim(y) != 1:
        raise ValueError(f"y must have the shape ({len(x)},), got {np.shape(y)}")
    colors = require("matplotlib", "plot").colormaps["tab10"](np.arange(n_classes) % 10)[:, :3]

    # From white, where all classes are equally probable, to the colour of the class.
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
