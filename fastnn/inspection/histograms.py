"""How weights and gradients spread while a net is trained."""

from typing import NamedTuple

import numpy as np

from fastnn.callbacks import Callback
from fastnn.errors import require, shown
from fastnn.inspection.activity import named_layers
from fastnn.inspection.checks import TRAIN, VALIDATION, check_axes, check_rows
from fastnn.layers import Affine
from fastnn.network import Sequential
from fastnn.training import Objective
from fastnn.validation import as_array, check_integer

_ROWS_AT_ONCE = 256
_COLORS = (TRAIN, VALIDATION)  # of values and of gradients
_MOST_BINS = 1_000_000
_HEIGHT = 1.8  # of a ridge, where epochs are 1 apart


class Histogram(NamedTuple):
    """How many values lie in each bin.

    Attributes
    ----------
    counts : ndarray (bins,) of int
        NaN and infinite values are not counted.
    edges : ndarray (bins + 1,) of float64
    """

    counts: np.ndarray
    edges: np.ndarray


class Histograms(Callback):
    """Keep histograms of all parameters and of their gradients, for each epoch.

    They show what figures hide: weights that never leave their start, gradients that die from
    layer to layer, or explode.

    Parameters
    ----------
    X, y : array_like
        Samples on which gradients are computed, as for `Sequential.fit`. Some hundreds are enough.
    loss : str or Loss, default "softmax_cross_entropy"
        The same as for `fit`. The gradients are those of the mean loss, without a penalty, and
        with dropout and batch normalisation as they are in predictions.
    bins : int, default 30

    Attributes
    ----------
    values, gradients : dict of str to list of Histogram
        By the name of a parameter, such as "0 Affine.w". The first of each list is from before
        the training, then there is one for each epoch.

    Raises
    ------
    ValueError
        If an argument is out of range; for data that do not suit the net, when training begins.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import Affine, ReLU, Sequential
    >>> from fastnn.inspection import Histograms
    >>> X, y = np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), np.array([0, 1, 1, 0])
    >>> net = Sequential([Affine(2, 8), ReLU(), Affine(8, 2)], seed=0)
    >>> histograms = Histograms(X, y)
    >>> history = net.fit(X, y, epochs=3, callbacks=[histograms])
    >>> list(histograms.gradients), len(histograms.gradients["0 Affine.w"])
    (['0 Affine.w', '0 Affine.b', '2 Affine.w', '2 Affine.b'], 4)
    """

    def __init__(self, X, y, loss="softmax_cross_entropy", *, bins=30):
        self._X, self._y, self._loss = X, as_array("y", y), loss
        self._bins = check_integer("bins", bins, 1, _MOST_BINS)
        self.values, self.gradients = {}, {}

    def on_fit_begin(self, net, info):
        self._net = net
        self._x = check_rows(net, self._X)
        self._slopes = _LossSlopes(self._loss, self._y, len(self._x), net)
        self.values, self.gradients = {}, {}
        self._record()

    def on_epoch_end(self, epoch, logs):
        self._record()

    def _record(self):
        net = self._net
        net.backward(self._slopes(net.forward(self._x)))
        for layer_name, layer in named_layers(net):
            for kind, arrays in ((self.values, layer.params), (self.gradients, layer.grads)):
                for name, array in arrays.items():
                    histogram = _histogram(array, self._bins)
                    kind.setdefault(f"{layer_name}.{name}", []).append(histogram)

    def plot(self, name, ax, *, gradients=False):
        """Draw the histograms of a parameter as ridges above each other, one for each epoch.

        All ridges have the same height: look at how wide they are, and where. The first, at
        epoch 0, is from before the training.

        Parameters
        ----------
        name : str
            Such as "0 Affine.w".
        ax : matplotlib.axes.Axes
        gradients : bool, default False
            Whether to draw those of its gradient.

        Returns
        -------
        list of Histogram

        Raises
        ------
        ValueError
            If there is no such parameter.
        """
        check_axes(ax)
        kind = self.gradients if gradients else self.values
        if name not in kind:
            known = ", ".join(map(repr, kind)) or "none before the training"
            raise ValueError(f"name must be a parameter ({known}), got {shown(name)}")
        found = kind[name]
        color = np.array(require("matplotlib.colors", "plot").to_rgb(_COLORS[gradients]))
        for epoch, (counts, edges) in enumerate(found):
            # Opaque, each in front of the next; the first are pale.
            strength = 0.3 + 0.7 * epoch / max(len(found) - 1, 1)
            ax.fill_between(
                (edges[1:] + edges[:-1]) / 2,
                epoch,
                epoch + _HEIGHT * counts / (counts.max() or 1),
                facecolor=1 - strength + strength * color,
                edgecolor="white",
                linewidth=0.8,
                zorder=2 + (len(found) - epoch) / len(found),
            )
        ax.set(xlabel=f"gradient of {name}" if gradients else name, ylabel="epoch")
        ax.spines[["top", "right", "left"]].set_visible(False)
        return list(found)


def _histogram(array, bins):
    values = np.asarray(array, np.float64).ravel()
    values = values[np.isfinite(values)]
    # A span that is too small for its bins, as that of equal values, is widened.
    low, high = (values.min(), values.max()) if len(values) else (0.0, 0.0)
    least = 1e-6 * max(abs(low), abs(high)) or 0.5
    if high - low < least:
        low, high = low - least, high + least
    return Histogram(*np.histogram(values, bins, (low, high)))


class _LossSlopes:
    """The gradient of the mean loss with respect to a net's output.

    Outputs are the weights of a net that only looks them up: its samples are rows of the identity
    matrix, so its output is the table of its weights, and the gradient with respect to them is
    what is wanted, for any loss.
    """

    def __init__(self, loss, y, n_rows, net):
        self._n_rows, self._parts = n_rows, []
        if len(y) != n_rows:
            raise ValueError(f"y must have {n_rows} rows as X has, got {len(y)}")
        for start in range(0, n_rows, _ROWS_AT_ONCE):
            labels = y[start : start + _ROWS_AT_ONCE]
            table = Sequential([Affine(len(labels), net.n_outputs, bias=False)], dtype=net.dtype)
            identity = np.eye(len(labels), dtype=net.dtype)
            self._parts.append((start, Objective(table, loss, identity, labels)))

    def __call__(self, out):
        dout = np.empty_like(out)
        for start, objective in self._parts:
            rows = slice(start, start + _ROWS_AT_ONCE)
            _, slopes = objective(out[rows].ravel())
            share = len(out[rows]) / self._n_rows
            dout[rows] = share * slopes.reshape(out[rows].shape)
        return dout
