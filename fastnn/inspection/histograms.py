"""Histograms of weights and gradients during training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn.callbacks import Callback
from fastnn.errors import require, shown
from fastnn.inspection.activity import named_layers
from fastnn.inspection.checks import TRAIN, VALIDATION, check_axes, check_rows, given_or_new
from fastnn.layers import Affine
from fastnn.network import Sequential
from fastnn.training import Objective
from fastnn.validation import as_array, check_integer

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fastnn.losses import Loss

_ROWS_AT_ONCE = 256
_COLORS = (TRAIN, VALIDATION)  # of values and of gradients
_MOST_BINS = 1_000_000
_HEIGHT = 1.8  # of a ridge; epochs are 1 apart


class Histogram(NamedTuple):
    """The number of values in each bin.

    Attributes
    ----------
    counts : ndarray of int of shape (bins,)
        NaN and infinite values are not counted.
    edges : ndarray of float64 of shape (bins + 1,)
        Bounds of the bins, in ascending order.
    """

    counts: NDArray[np.intp]
    edges: NDArray[np.float64]


class Histograms(Callback):
    """Callback that stores histograms of all parameters and of their gradients for each epoch.

    They show what a loss does not: weights that stay close to their initial values, gradients that
    vanish or explode from layer to layer.

    Parameters
    ----------
    X, y : array_like
        Samples and targets for which the gradients are computed, as for `Sequential.fit`. A few
        hundred are enough.
    loss : str or Loss, default="softmax_cross_entropy"
        The same as for `fit`. The gradients are those of the mean loss without penalties, and with
        dropout and batch normalisation in evaluation mode.
    bins : int, default=30
        Number of bins of a histogram.

    Attributes
    ----------
    values, gradients : dict of str to list of Histogram
        Name of a parameter, such as "0 Affine.w" -> its histograms: one before the training, then
        one for each epoch.

    Raises
    ------
    ValueError
        If `bins` is out of range or y is no array; when training begins, if the data do not fit
        the net.

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

    def __init__(
        self,
        X: ArrayLike,
        y: ArrayLike,
        loss: str | Loss = "softmax_cross_entropy",
        *,
        bins: int = 30,
    ) -> None:
        self._X, self._y, self._loss = X, as_array("y", y), loss
        self._bins = check_integer("bins", bins, 1, _MOST_BINS)
        self.values: dict[str, list[Histogram]] = {}
        self.gradients: dict[str, list[Histogram]] = {}

    def on_fit_begin(self, net: Sequential, info: dict[str, Any]) -> None:
        self._net = net
        self._x = check_rows(net, self._X)
        self._gradient = _LossGradient(self._loss, self._y, len(self._x), net)
        self.values, self.gradients = {}, {}
        self._record()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        self._record()

    def _record(self) -> None:
        """Append a histogram of each parameter and of its gradient."""
        net = self._net
        net.backward(self._gradient(net.forward(self._x)))
        for layer_name, layer in named_layers(net):
            for kind, arrays in ((self.values, layer.params), (self.gradients, layer.grads)):
                for name, array in arrays.items():
                    histogram = _histogram(array, self._bins)
                    kind.setdefault(f"{layer_name}.{name}", []).append(histogram)

    def plot(
        self, name: str, ax: Axes | None = None, *, gradients: bool = False
    ) -> list[Histogram]:
        """Draw the histograms of a parameter as ridges, one above the other for each epoch.

        All ridges are scaled to the same height, so compare their widths and positions. The one at
        epoch 0 is from before the training.

        Parameters
        ----------
        name : str
            Name of a parameter, such as "0 Affine.w".
        ax : matplotlib.axes.Axes or None, default=None
            Axes to draw on; None makes a new figure with pyplot.
        gradients : bool, default=False
            Whether to draw the gradient of the parameter instead of its values.

        Returns
        -------
        list of Histogram
            The histograms that were drawn.

        Raises
        ------
        ValueError
            If there is no such parameter.
        MissingExtraError
            If matplotlib is not installed.

        Examples
        --------
        >>> import numpy as np
        >>> from matplotlib.figure import Figure
        >>> from fastnn import Affine, Sequential
        >>> from fastnn.inspection import Histograms
        >>> X, y = np.eye(2), np.array([0, 1])
        >>> histograms = Histograms(X, y)
        >>> net = Sequential([Affine(2, 2)], seed=0)
        >>> history = net.fit(X, y, epochs=1, callbacks=[histograms])
        >>> len(histograms.plot("0 Affine.w", Figure().subplots()))
        2
        """
        check_axes(ax)
        kind = self.gradients if gradients else self.values
        if name not in kind:
            known = ", ".join(map(repr, kind)) or "none before the training"
            raise ValueError(f"name must be a parameter ({known}), got {shown(name)}")
        found = kind[name]
        ax = given_or_new(ax)
        color = np.array(require("matplotlib.colors", "plot").to_rgb(_COLORS[gradients]))
        for epoch, (counts, edges) in enumerate(found):
            # Opaque, each in front of the next one; earlier epochs are paler.
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


def _histogram(array: ArrayLike, bins: int) -> Histogram:
    values = np.asarray(array, np.float64).ravel()
    values = values[np.isfinite(values)]
    # A range that is too small to be divided into bins, as of equal values, is widened.
    low, high = (values.min(), values.max()) if len(values) else (0.0, 0.0)
    least = 1e-6 * max(abs(low), abs(high)) or 0.5
    if high - low < least:
        low, high = low - least, high + least
    return Histogram(*np.histogram(values, bins, (low, high)))


class _LossGradient:
    """Gradient of the mean loss with respect to the outputs of a net, for any loss.

    It is computed by an auxiliary net: one affine layer whose weights are the outputs. Its samples
    are the rows of the identity matrix, so that its outputs equal its weights, and the gradient
    with respect to the weights is the one to be computed.
    """

    def __init__(self, loss: str | Loss, y: NDArray[Any], n_rows: int, net: Sequential) -> None:
        self._n_rows = n_rows
        self._parts: list[tuple[int, Objective]] = []
        if len(y) != n_rows:
            raise ValueError(f"y must have {n_rows} rows as X has, got {len(y)}")
        for start in range(0, n_rows, _ROWS_AT_ONCE):
            labels = y[start : start + _ROWS_AT_ONCE]
            table = Sequential([Affine(len(labels), net.n_outputs, bias=False)], dtype=net.dtype)
            identity = np.eye(len(labels), dtype=net.dtype)
            self._parts.append((start, Objective(table, loss, identity, labels)))

    def __call__(self, out: NDArray[np.floating]) -> NDArray[np.floating]:
        dout = np.empty_like(out)
        for start, objective in self._parts:
            rows = slice(start, start + _ROWS_AT_ONCE)
            _, gradient = objective(out[rows].ravel())
            share = len(out[rows]) / self._n_rows
            dout[rows] = share * gradient.reshape(out[rows].shape)
        return dout
