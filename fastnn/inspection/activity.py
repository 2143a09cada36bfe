"""Activations: the outputs of all layers for an input, and a drawing of the net with them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn.errors import require
from fastnn.inspection.checks import (
    Net,
    check_axes,
    check_image_shape,
    check_labels,
    check_net,
    check_row,
    check_rows,
    classes_of,
    given_or_new,
    largest,
)
from fastnn.validation import check_integer

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fastnn.layers import Layer
    from fastnn.network import Sequential

_RADIUS = 0.4  # of a neuron; neurons of a column are 1 apart
_POSITIVE, _NEGATIVE = (0.40, 0.70, 1.0), (1.0, 0.45, 0.40)  # blue and red, visible on black


def activations(net: Net, X: ArrayLike) -> list[tuple[str, NDArray[np.floating]]]:
    """Return the output of every layer.

    Parameters
    ----------
    net : Sequential or fitted estimator
        Any net.
    X : array_like of shape (N, I)
        Samples.

    Returns
    -------
    list of (str, ndarray of shape (N, O))
        For each of `net.layers` its name, such as "0 Affine", and its output.

    Raises
    ------
    ValueError
        If X is not numeric and finite, or has another number of columns than the net has inputs.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import Affine, ReLU, Sequential
    >>> from fastnn.inspection import activations
    >>> net = Sequential([Affine(2, 3), ReLU(), Affine(3, 1)], seed=0)
    >>> [(name, out.shape) for name, out in activations(net, np.ones((5, 2)))]
    [('0 Affine', (5, 3)), ('1 ReLU', (5, 3)), ('2 Affine', (5, 1))]
    """
    net = check_net(net)
    out = check_rows(net, X)
    found = []
    for name, layer in named_layers(net):
        out = layer.forward(out)
        found.append((name, out))
    return found


def named_layers(net: Sequential) -> list[tuple[str, Layer]]:
    """Return the pairs (name, layer) of a net; names are "0 Affine", "1 ReLU", ..."""
    return [(f"{k} {type(layer).__name__}", layer) for k, layer in enumerate(net.layers)]


class _Column(NamedTuple):
    """A column of neurons in the drawing.

    Attributes
    ----------
    caption : str
        Text below the column.
    values : ndarray of shape (n,)
        Outputs of all its neurons.
    w : ndarray of shape (m, n) or None
        Weights from the m neurons of the previous column; None if there is more than one affine
        layer between.
    shown : ndarray of int of shape (s,)
        Indices of the neurons that are drawn.
    places : ndarray of shape (s, 2)
        Their coordinates.
    """

    caption: str
    values: NDArray[np.float64]
    w: NDArray[Any] | None
    shown: NDArray[np.intp]
    places: NDArray[np.float64]


def plot_activations(
    net: Net,
    x: ArrayLike,
    ax: Axes | None = None,
    *,
    image_shape: tuple[int, int] | None = None,
    labels: Iterable[object] | None = None,
    n_connections: int = 60,
    max_neurons: int = 16,
) -> list[tuple[str, NDArray[np.floating]]]:
    """Draw the activations of a net for one input: columns of neurons and their connections.

    There is one column for the inputs and one for each affine layer, which shows the neurons
    after their activation. Brightness is the output: white is the largest of the column, zero and
    below are black. Lines are the largest terms ``x_i * w_ij`` of the dot products between two
    columns: blue for positive, red for negative terms.

    Parameters
    ----------
    net : Sequential or fitted estimator
        Any net.
    x : array_like of shape (I,) or (1, I)
        One sample.
    ax : matplotlib.axes.Axes or None, default=None
        Axes to draw on; None makes a new figure with pyplot.
    image_shape : tuple of (int, int) or None, default=None
        Height and width, with I = H * W, if the input is to be drawn as an image.
    labels : sequence or None, default=None
        Labels of the output neurons; None takes the classes of an estimator, or their indices.
    n_connections : int, default=60
        Most lines between two columns.
    max_neurons : int, default=16
        Most neurons that are drawn of a column: the first and the last.

    Returns
    -------
    list of (str, ndarray)
        The result of `activations` for x.

    Raises
    ------
    ValueError
        If an argument is out of range, or does not fit the net.
    MissingExtraError
        If matplotlib is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> from fastnn import Affine, ReLU, Sequential
    >>> from fastnn.inspection import plot_activations
    >>> net = Sequential([Affine(64, 16), ReLU(), Affine(16, 10)], seed=0)
    >>> found = plot_activations(net, np.ones(64), Figure().subplots(), image_shape=(8, 8))
    >>> found[-1][1].shape
    (1, 10)
    """
    check_axes(ax)
    classes, net = classes_of(net), check_net(net)
    if labels is None and classes is not None and len(classes) == net.n_outputs:
        labels = classes  # a single output is the logit of the second of two
    row = check_row(net, x)
    if image_shape is not None:
        image_shape = check_image_shape(image_shape, net.n_inputs)
    names = check_labels("labels", labels, net.n_outputs) or list(map(str, range(net.n_outputs)))
    n_connections = check_integer("n_connections", n_connections, 0)
    max_neurons = check_integer("max_neurons", max_neurons, 2)
    found = activations(net, row)

    ax = given_or_new(ax)
    columns = _columns(net, row, found, image_shape, max_neurons)
    for before, column in itertools.pairwise(columns):
        if column.w is not None:
            _draw_connections(ax, before, column, column.w, n_connections)
    for k, column in enumerate(columns):
        if k == 0 and image_shape is not None:
            _draw_image(ax, column, image_shape)
        else:
            _draw_neurons(ax, column)
    _draw_labels(ax, columns[-1], names)

    places = np.concatenate([column.places for column in columns])
    left, bottom = places.min(axis=0)
    right, top = places.max(axis=0)
    style: dict[str, Any] = {"color": "0.7", "ha": "center", "va": "top", "fontsize": "small"}
    for column in columns:
        ax.text(column.places[:, 0].mean(), bottom - 1, column.caption, **style)
    room = 1.8 + 0.6 * max(map(len, names))
    ax.set(xlim=(left - 2.5, right + room), ylim=(bottom - 3.8, top + 1.2), aspect="equal")
    ax.set(xticks=[], yticks=[], facecolor="black")
    return found


def _columns(
    net: Sequential,
    row: NDArray[np.floating],
    found: list[tuple[str, NDArray[np.floating]]],
    image_shape: tuple[int, int] | None,
    max_neurons: int,
) -> list[_Column]:
    """Return the columns of the drawing, the inputs first."""
    outs = [out for _, out in found]
    tallest = min(max(out.shape[1] for out in outs), max_neurons)
    values = row[0].astype(np.float64)
    if image_shape is None:
        shown, places = _stack(len(values), max_neurons)
    else:
        shown, places = np.arange(len(values)), _pixel_places(image_shape, 0.8 * tallest)
    columns = [_Column(f"{len(values)}\ninputs", values, None, shown, places)]
    w = None
    for k, (layer, out) in enumerate(zip(net.layers, outs, strict=True)):
        w = _matrix(layer) if w is None else w
        is_last = k == len(outs) - 1
        # The next affine layer gets the outputs after the activation, so these are drawn.
        if not is_last and _matrix(net.layers[k + 1]) is None:
            continue
        before, values = columns[-1], out[0].astype(np.float64)
        kind = "outputs" if is_last and _matrix(layer) is not None else type(layer).__name__
        shown, places = _stack(len(values), max_neurons)
        places[:, 0] += before.places[:, 0].max() + 0.45 * tallest + 1.5
        if w is not None and w.shape != (len(before.values), len(values)):
            w = None  # there is more than one affine layer between
        columns.append(_Column(f"{len(values)}\n{kind}", values, w, shown, places))
        w = None
    return columns


def _matrix(layer: Layer) -> NDArray[Any] | None:
    """Return the weight matrix of a layer, or None if it has none."""
    w = layer.params.get("w")
    return w if w is not None and w.ndim == 2 else None


def _stack(n: int, most: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the indices (s,) and coordinates (s, 2) of the neurons of a column that are drawn.

    If there are more than `most`, these are the first, on top, and the last.
    """
    n_last = most // 2 if n > most else 0
    n_first = min(n, most) - n_last
    shown = np.concatenate([np.arange(n_first), np.arange(n - n_last, n)])
    y = -np.arange(len(shown), dtype=np.float64)
    y[n_first:] -= 1.5  # space for three dots
    return shown, np.stack([np.zeros(len(shown)), y - y.mean()], axis=1)


def _pixel_places(image_shape: tuple[int, int], size: float) -> NDArray[np.float64]:
    """Return the coordinates (H * W, 2) of the pixels of an image, row by row from the top."""
    height, width = image_shape
    pixel = size / max(height, width)
    y, x = np.mgrid[:height, :width].reshape(2, -1)
    return np.stack([x * pixel, ((height - 1) / 2 - y) * pixel], axis=1)


def _draw_image(ax: Axes, column: _Column, image_shape: tuple[int, int]) -> None:
    height, width = image_shape
    places = column.places
    pixel = np.ptp(places[:, 0]) / max(width - 1, 1) or np.ptp(places[:, 1]) / max(height - 1, 1)
    half = 0.5 * (pixel or 1.0)
    left, bottom = places.min(axis=0) - half
    right, top = places.max(axis=0) + half
    ax.imshow(
        column.values.reshape(image_shape),
        cmap="gray",
        extent=(left, right, bottom, top),
        interpolation="nearest",
    )
    frame = require("matplotlib.patches", "plot").Rectangle
    ax.add_patch(
        frame(
            (left, bottom), right - left, top - bottom, fill=False, edgecolor="0.5", linewidth=0.8
        )
    )


def _draw_neurons(ax: Axes, column: _Column) -> None:
    collections = require("matplotlib.collections", "plot")
    brightness = np.maximum(column.values, 0) / (np.maximum(column.values, 0).max() or 1.0)
    size = np.full(len(column.shown), 2 * _RADIUS)
    circles = collections.EllipseCollection(
        size,
        size,
        np.zeros(len(size)),
        units="xy",
        offsets=column.places,
        offset_transform=ax.transData,
        facecolors=[(value, value, value) for value in brightness[column.shown]],
        edgecolors="0.75",
        linewidths=0.8,
        zorder=3,
    )
    ax.add_collection(circles, autolim=False)
    if len(column.values) > len(column.shown):
        middle = column.places[len(column.shown) - len(column.shown) // 2 - 1]
        y = middle[1] - 1.25
        ax.plot([middle[0]] * 3, [y - 0.35, y, y + 0.35], ".", color="0.75", markersize=3)


def _draw_connections(
    ax: Axes, before: _Column, column: _Column, w: NDArray[Any], n_connections: int
) -> None:
    """Draw the largest terms of the dot products between two columns."""
    terms = before.values[before.shown, None] * w[np.ix_(before.shown, column.shown)]
    strongest = np.argsort(-np.abs(terms), axis=None)[:n_connections]
    i, j = np.unravel_index(strongest[::-1], terms.shape)  # the largest last, on top
    i, j = i[terms[i, j] != 0], j[terms[i, j] != 0]
    strength = np.abs(terms[i, j]) / largest(terms)
    lines = require("matplotlib.collections", "plot").LineCollection(
        np.stack([before.places[i], column.places[j]], axis=1),
        colors=[
            (*(_POSITIVE if term > 0 else _NEGATIVE), 0.15 + 0.75 * share)
            for term, share in zip(terms[i, j], strength, strict=True)
        ],
        linewidths=0.5 + 1.2 * strength,
        zorder=2,
    )
    ax.add_collection(lines, autolim=False)


def _draw_labels(ax: Axes, column: _Column, labels: list[str]) -> None:
    """Write labels beside neurons; the one with the largest output is highlighted."""
    winner = column.values.argmax()
    for k, (x, y) in zip(column.shown, column.places, strict=True):
        won = k == winner and len(column.values) > 1
        ax.text(
            x + 0.8,
            y,
            labels[k],
            color="white" if won else "0.6",
            weight="bold" if won else "normal",
            fontsize="small",
            va="center",
        )
