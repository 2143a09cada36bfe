"""Which neurons light up for an input, and through which connections."""

import itertools
from typing import NamedTuple

import numpy as np

from fastnn.errors import require
from fastnn.inspection.checks import (
    check_axes,
    check_image_shape,
    check_labels,
    check_row,
    check_rows,
    largest,
)
from fastnn.validation import check_integer

_RADIUS = 0.4  # of a neuron, where the neurons of a column are 1 apart
_POSITIVE, _NEGATIVE = (0.40, 0.70, 1.0), (1.0, 0.45, 0.40)  # blue and red that show on black


def activations(net, X):
    """Return the output of every layer.

    Parameters
    ----------
    net : Sequential
    X : array_like (N, I)

    Returns
    -------
    list of (str, ndarray)
        For each of `net.layers` its name, such as "0 Affine", and its output (N, O).

    Raises
    ------
    ValueError
        If X does not suit the net.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import Affine, ReLU, Sequential
    >>> from fastnn.inspection import activations
    >>> net = Sequential([Affine(2, 3), ReLU(), Affine(3, 1)], seed=0)
    >>> [(name, out.shape) for name, out in activations(net, np.ones((5, 2)))]
    [('0 Affine', (5, 3)), ('1 ReLU', (5, 3)), ('2 Affine', (5, 1))]
    """
    out = check_rows(net, X)
    found = []
    for name, layer in named_layers(net):
        out = layer.forward(out)
        found.append((name, out))
    return found


def named_layers(net):
    """Return the pairs (name, layer) of a net: "0 Affine", "1 ReLU", ..."""
    return [(f"{k} {type(layer).__name__}", layer) for k, layer in enumerate(net.layers)]


class _Column(NamedTuple):
    """Neurons that are drawn above each other.

    Attributes
    ----------
    caption : str
    values : ndarray (n,)
        Outputs of all neurons.
    w : ndarray (n before, n) or None
        Weights of the connections from the column before, where they are that simple.
    shown : ndarray of int
        The neurons that are drawn.
    places : ndarray (len(shown), 2)
        Where.
    """

    caption: str
    values: np.ndarray
    w: np.ndarray | None
    shown: np.ndarray
    places: np.ndarray


def plot_activations(
    net, x, ax, *, image_shape=None, labels=None, n_connections=60, max_neurons=16
):
    """Draw a net at work on one input: columns of neurons, each as bright as it lights up.

    There is one column for the inputs and one for each affine layer, which shows the neurons
    after their activation. White is the largest output of a column; zero and below are black.
    Lines are the strongest contributions of one neuron to the next, ``x_i * w_ij``, the terms of
    its dot product: blue adds, red takes away.

    Parameters
    ----------
    net : Sequential
    x : array_like (I,) or (1, I)
    ax : matplotlib.axes.Axes
    image_shape : (int, int), optional
        Draw the input as an image of this height and width, I = H * W.
    labels : sequence, optional
        What to write at the output neurons; by default their numbers.
    n_connections : int, default 60
        Lines at most between two columns.
    max_neurons : int, default 16
        Neurons of a column that are drawn: where there are more, the first and the last.

    Returns
    -------
    list of (str, ndarray)
        What `activations` gives for x.

    Raises
    ------
    ValueError
        If an argument does not suit the net.

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
    row = check_row(net, x)
    if image_shape is not None:
        image_shape = check_image_shape(image_shape, net.n_inputs)
    labels = check_labels("labels", labels, net.n_outputs) or list(map(str, range(net.n_outputs)))
    n_connections = check_integer("n_connections", n_connections, 0)
    max_neurons = check_integer("max_neurons", max_neurons, 2)
    found = activations(net, row)

    columns = _columns(net, row, found, image_shape, max_neurons)
    for before, column in itertools.pairwise(columns):
        if column.w is not None:
            _draw_connections(ax, before, column, n_connections)
    for k, column in enumerate(columns):
        if k == 0 and image_shape is not None:
            _draw_image(ax, column, image_shape)
        else:
            _draw_neurons(ax, column)
    _draw_labels(ax, columns[-1], labels)

    places = np.concatenate([column.places for column in columns])
    left, bottom = places.min(axis=0)
    right, top = places.max(axis=0)
    style = {"color": "0.7", "ha": "center", "va": "top", "fontsize": "small"}
    for column in columns:
        ax.text(column.places[:, 0].mean(), bottom - 1, column.caption, **style)
    room = 1.8 + 0.6 * max(map(len, labels))
    ax.set(xlim=(left - 2.5, right + room), ylim=(bottom - 3.8, top + 1.2), aspect="equal")
    ax.set(xticks=[], yticks=[], facecolor="black")
    return found


def _columns(net, row, found, image_shape, max_neurons):
    """Return the columns of a picture, the inputs first."""
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
        # A neuron is drawn as the next weights see it: after its activation.
        if not is_last and _matrix(net.layers[k + 1]) is None:
            continue
        before, values = columns[-1], out[0].astype(np.float64)
        kind = "outputs" if is_last and _matrix(layer) is not None else type(layer).__name__
        shown, places = _stack(len(values), max_neurons)
        places[:, 0] += before.places[:, 0].max() + 0.45 * tallest + 1.5
        if w is not None and w.shape != (len(before.values), len(values)):
            w = None  # there is more between than one affine layer
        columns.append(_Column(f"{len(values)}\n{kind}", values, w, shown, places))
        w = None
    return columns


def _matrix(layer):
    """Return the matrix of weights of a layer, or None."""
    w = layer.params.get("w")
    return w if w is not None and w.ndim == 2 else None


def _stack(n, most):
    """Return which of n neurons to draw, and their places (shown, 2): the first on top.

    Where there are more than `most`, the first and the last.
    """
    n_last = most // 2 if n > most else 0
    n_first = min(n, most) - n_last
    shown = np.concatenate([np.arange(n_first), np.arange(n - n_last, n)])
    y = -np.arange(len(shown), dtype=np.float64)
    y[n_first:] -= 1.5  # room for the dots
    return shown, np.stack([np.zeros(len(shown)), y - y.mean()], axis=1)


def _pixel_places(image_shape, size):
    """Return the places (H * W, 2) of an image's pixels, row by row, the first on top."""
    height, width = image_shape
    pixel = size / max(height, width)
    y, x = np.mgrid[:height, :width].reshape(2, -1)
    return np.stack([x * pixel, ((height - 1) / 2 - y) * pixel], axis=1)


def _draw_image(ax, column, image_shape):
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


def _draw_neurons(ax, column):
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


def _draw_connections(ax, before, column, n_connections):
    """Draw the strongest terms of the dot products between two columns."""
    terms = before.values[before.shown, None] * column.w[np.ix_(before.shown, column.shown)]
    strongest = np.argsort(-np.abs(terms), axis=None)[:n_connections]
    i, j = np.unravel_index(strongest[::-1], terms.shape)  # the strongest last, on top
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


def _draw_labels(ax, column, labels):
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
