"""`Summary`: the layers of a net as a table, for the terminal and for notebooks."""

import html
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from fastnn.layers import Layer, ParametricLayer, Residual
from fastnn.layers.activations import _Activation

__all__ = ["LayerSummary", "Summary"]

_HEAD = ("", "layer", "shape", "parameters", "activation")
_RIGHT = (False, False, False, True, False)  # which columns are aligned right


class LayerSummary(NamedTuple):
    """One row of a `Summary`: a layer, with the activation right behind it.

    Attributes
    ----------
    place : str
        Index of the layer in ``net.layers``; "2.0" is the first layer of the residual block
        ``net.layers[2]``.
    layer : str
        The layer: its class, and the arguments that are no shapes.
    n_inputs, n_outputs : int
        Columns of its input and of its output.
    n_params : int
        Number of trained parameters.
    n_buffers : int
        Number of running statistics, which are not trained.
    activation : str
        The activation that is applied to its output; empty if there is none.
    """

    place: str
    layer: str
    n_inputs: int
    n_outputs: int
    n_params: int
    n_buffers: int
    activation: str


class Summary:
    """The layers of a net with their shapes, parameters and activations.

    Printed, it is a table; a notebook shows it as one too. Made by `fastnn.Sequential.summary`.

    Parameters
    ----------
    layers : sequence of Layer
        The layers of the net.
    n_inputs : int
        Columns of its input.
    dtype : numpy.dtype
        Type of its parameters.

    Attributes
    ----------
    rows : list of LayerSummary
        A row for each layer; an activation is in the row of the layer before it.
    n_inputs, n_outputs : int
        Columns of the input and of the output.
    n_params, n_buffers : int
        Number of all trained parameters, and of all running statistics.
    n_bytes : int
        Memory that both take.
    dtype : numpy.dtype
        Their type.

    Examples
    --------
    >>> from fastnn import Affine, ReLU, Sequential
    >>> print(Sequential([Affine(64, 128), ReLU(), Affine(128, 10)], seed=0).summary())
       layer   shape                parameters  activation
    0  Affine  (N, 64) -> (N, 128)       8,320  ReLU
    2  Affine  (N, 128) -> (N, 10)       1,290
    9,610 parameters of float32, 37.5 KiB
    """

    def __init__(self, layers: Sequence[Layer], n_inputs: int, dtype: np.dtype) -> None:
        self.rows = list(_rows(layers, n_inputs, ""))
        self.n_inputs, self.dtype = n_inputs, dtype
        # The row of a residual block stands for its layers, which follow.
        self.n_outputs = self.rows[-1].n_outputs
        self.n_params = sum(row.n_params for row in self.rows)
        self.n_buffers = sum(row.n_buffers for row in self.rows)
        self.n_bytes = (self.n_params + self.n_buffers) * dtype.itemsize

    def __str__(self) -> str:
        table = [_HEAD, *map(_cells, self.rows)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = []
        for row in table:
            cells = [
                cell.rjust(width) if right else cell.ljust(width)
                for cell, width, right in zip(row, widths, _RIGHT, strict=True)
            ]
            lines.append("  ".join(cells).rstrip())
        return "\n".join([*lines, self._total()])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        """Return the table as HTML, which notebooks show."""
        head = "".join(
            _html_cell("th", name, right) for name, right in zip(_HEAD, _RIGHT, strict=True)
        )
        body = "".join(
            "<tr>"
            + "".join(
                _html_cell("td", cell, right)
                for cell, right in zip(_cells(row), _RIGHT, strict=True)
            )
            + "</tr>"
            for row in self.rows
        )
        return (
            f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
            f"<p>{html.escape(self._total())}</p>"
        )

    def _total(self) -> str:
        """Return the last line: all parameters, and the memory that they take."""
        more = f" and {self.n_buffers:,} running statistics" if self.n_buffers else ""
        return f"{self.n_params:,} parameters{more} of {self.dtype}, {_memory(self.n_bytes)}"


def _rows(layers: Sequence[Layer], width: int, prefix: str) -> Iterator[LayerSummary]:
    """Yield the rows of layers that take `width` columns."""
    k = 0
    while k < len(layers):
        layer, place = layers[k], f"{prefix}{k}"
        activation = ""
        if k + 1 < len(layers) and not isinstance(layer, _Activation):
            activation = _name(layers[k + 1]) if isinstance(layers[k + 1], _Activation) else ""
        before, k = width, k + 1 + bool(activation)
        if isinstance(layer, Residual):
            yield LayerSummary(place, "Residual", width, width, 0, 0, activation)
            yield from _rows(layer.layers, width, f"{place}.")
            continue
        if isinstance(layer, ParametricLayer):
            width = layer.n_outputs
        own = _name(layer)
        if isinstance(layer, _Activation):  # at the beginning, or behind another one
            own, activation = "", own
        yield LayerSummary(place, own, before, width, layer.n_params, layer.n_buffers, activation)


def _name(layer: Layer) -> str:
    """Return the class of a layer with its arguments, but for shapes and seeds."""
    if isinstance(layer, ParametricLayer):
        return type(layer).__name__ + ("" if layer.config().get("bias", True) else ", no bias")
    return re.sub(r"(, )?\bseed=[^,)]*", "", repr(layer)).removesuffix("()")


def _cells(row: LayerSummary) -> tuple[str, ...]:
    """Return the texts of a row of the table."""
    shape = f"(N, {row.n_inputs}) -> (N, {row.n_outputs})"
    return row.place, row.layer, shape, f"{row.n_params:,}", row.activation


def _html_cell(tag: str, text: str, right: bool) -> str:
    side = "right" if right else "left"
    return f'<{tag} style="text-align: {side}">{html.escape(text)}</{tag}>'


def _memory(n_bytes: float) -> str:
    """Return a number of bytes with a unit."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if n_bytes < 1024 or unit == "GiB":
            break
        n_bytes /= 1024
    return f"{n_bytes:.0f} bytes" if unit == "bytes" else f"{n_bytes:.3g} {unit}"
