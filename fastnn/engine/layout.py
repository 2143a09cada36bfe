"""The places of a net's parameters in memory: in the user's vector, and in the packed one.

The *user's vector* holds all parameters, layer by layer and block by block: of an affine layer
first w (I, O), row by row, then b (O,). The running statistics of all layers follow. The arrays in
`Layer.params` and `Layer.buffers` are views of it.

Training works on a copy in *packed* form: matrices in panels, padded with zeros to whole register
tiles, so that kernels need no code for edges (`fastnn.kernels.products`).
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import DTypeLike

from fastnn.kernels.panels import (
    padded_width,
    panel_columns,
    panel_width,
    weight_distance,
)


class Block(Protocol):
    """A block of parameters, as `fastnn.layers.base.ParameterBlock` describes it."""

    @property
    def name(self) -> str: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def is_weight(self) -> bool: ...

    @property
    def is_buffer(self) -> bool: ...

    @property
    def keeps_transposed(self) -> bool: ...


class BlockOwner(Protocol):
    """The part of a `fastnn.layers.Layer` that `ParameterLayout` needs."""

    def blocks(self) -> Sequence[Block]: ...


class PlacedBlock(NamedTuple):
    """A block of parameters with its places in memory, counted in elements.

    Attributes
    ----------
    layer : Layer
        The layer that it belongs to.
    block : ParameterBlock
        Its name, its shape and its use.
    user_at : int
        Its beginning in the user's vector.
    at : int
        Its beginning in the packed vector.
    distance : int
        Distance of its panels in the packed vector.
    transposed_at : int
        Beginning of the panels of the transposed matrix in the vector of all transposed matrices;
        -1 if no gradient is propagated through the block.
    """

    layer: BlockOwner
    block: Block
    user_at: int
    at: int
    distance: int
    transposed_at: int

    @property
    def is_matrix(self) -> bool:
        """Whether the block is a matrix, not a vector."""
        return len(self.block.shape) == 2

    @property
    def n_rows(self) -> int:
        """The number of rows of a matrix; 1 for a vector."""
        return self.block.shape[0] if self.is_matrix else 1

    @property
    def n_columns(self) -> int:
        """The number of columns of a matrix, or of elements of a vector."""
        return self.block.shape[-1]

    def view(self, vector: np.ndarray) -> np.ndarray:
        """Return a view of the block in a user's vector, in the shape of the block."""
        size = math.prod(self.block.shape)
        return vector[self.user_at : self.user_at + size].reshape(self.block.shape)


class ParameterLayout:
    """The places of all parameters of a net.

    Parameters
    ----------
    layers : sequence of Layer
        The leaves of the net (`Layer.leaves`), in order.
    dtype : dtype-like
        Type of the parameters.

    Attributes
    ----------
    blocks : list of PlacedBlock
        All blocks, layer by layer, in the order of `Layer.blocks`.
    n_params, n_buffers : int
        Elements of all parameters, and of all running statistics.
    n_packed, n_transposed : int
        Elements of the packed vector, and of all transposed matrices.

    Examples
    --------
    >>> from fastnn.engine.layout import ParameterLayout
    >>> from fastnn.layers import Affine
    >>> layout = ParameterLayout([Affine(4, 3), Affine(3, 2)], "float32")
    >>> [(placed.block.name, placed.user_at) for placed in layout.blocks]
    [('w', 0), ('b', 12), ('w', 15), ('b', 21)]
    """

    def __init__(self, layers: Sequence[BlockOwner], dtype: DTypeLike) -> None:
        self.dtype = np.dtype(dtype)
        owners = [layer for layer in layers if layer.blocks()]
        trained = [
            (k, b) for k, layer in enumerate(owners) for b in layer.blocks() if not b.is_buffer
        ]
        buffers = [(k, b) for k, layer in enumerate(owners) for b in layer.blocks() if b.is_buffer]
        self._owners = owners
        self.n_params = sum(math.prod(block.shape) for _, block in trained)
        self.n_buffers = sum(math.prod(block.shape) for _, block in buffers)
        self.n_packed = self.n_transposed = 0
        user_at = 0
        placed: list[tuple[int, PlacedBlock]] = []
        for k, block in [*trained, *buffers]:
            placed.append((k, self._place(owners[k], block, user_at, k > 0)))
            user_at += math.prod(block.shape)
        self._placed = [[p for owner, p in placed if owner == k] for k in range(len(owners))]
        self.blocks = [block for own in self._placed for block in own]

    def _place(
        self, layer: BlockOwner, block: Block, user_at: int, gradient_flows: bool
    ) -> PlacedBlock:
        """Give a block the next place in the packed vector, and its transposed matrix one too.

        With `gradient_flows` false no gradient is propagated through the block.
        """
        itemsize, at, transposed_at = self.dtype.itemsize, self.n_packed, -1
        n_columns, distance = block.shape[-1], panel_columns(self.dtype.itemsize)
        if len(block.shape) == 1:
            self.n_packed += padded_width(n_columns, itemsize)
        else:
            n_rows = block.shape[0]
            distance = weight_distance(n_rows, itemsize)
            rows = distance // panel_columns(itemsize)
            self.n_packed += rows * padded_width(n_columns, itemsize)
            if block.keeps_transposed and gradient_flows:
                transposed_at = self.n_transposed
                self.n_transposed += n_columns * padded_width(n_rows, itemsize)
        return PlacedBlock(layer, block, user_at, at, distance, transposed_at)

    @property
    def size(self) -> int:
        """The number of elements of a user's vector, with padding that must be zero.

        Kernels read whole SIMD registers, which may reach past the last parameter.
        """
        return self.n_params + self.n_buffers + panel_columns(self.dtype.itemsize)

    def tensors(self, vector: np.ndarray) -> list[tuple[np.ndarray, ...]]:
        """Return views of all blocks in a user's vector: a tuple for each layer with parameters."""
        return [tuple(placed.view(vector) for placed in own) for own in self._placed]

    def trained(self, vector: np.ndarray) -> list[list[np.ndarray]]:
        """Return of each layer with parameters views of its blocks, without running statistics."""
        return [
            [placed.view(vector) for placed in own if not placed.block.is_buffer]
            for own in self._placed
        ]

    def vector_of(self, tensors: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
        """Return a new user's vector, without padding, of arrays as `tensors` returns them."""
        vector = np.empty(self.n_params + self.n_buffers, self.dtype)
        for own, arrays in zip(self._placed, tensors, strict=True):
            for placed, array in zip(own, arrays, strict=True):
                placed.view(vector)[...] = array
        return vector

    def blocks_of(self, layer: BlockOwner) -> list[PlacedBlock]:
        """Return the blocks of a layer; an empty list if it has none."""
        return next((own for own in self._placed if own[0].layer is layer), [])

    def pack(
        self, vector: np.ndarray, params: np.ndarray, transposed: np.ndarray | None = None
    ) -> None:
        """Pack a user's vector: overwrite the packed vector and the transposed matrices.

        Parameters
        ----------
        vector : ndarray
            The user's vector.
        params : ndarray of shape (n_packed,)
            The packed vector. Its padding must be zero already, since it is not written.
        transposed : ndarray of shape (n_transposed,), default=None
            The transposed matrices, whose padding must be zero already too. None packs none.
        """
        for placed in self.blocks:
            values = placed.view(vector).reshape(placed.n_rows, placed.n_columns)
            rows = placed.distance // panel_columns(self.dtype.itemsize)
            _fill_panels(values, params, placed.at, rows)
            if transposed is not None and placed.transposed_at >= 0:
                _fill_panels(values.T, transposed, placed.transposed_at, placed.n_columns)

    def unpack(self, params: np.ndarray, vector: np.ndarray) -> None:
        """Unpack a packed vector: overwrite a user's vector."""
        for placed in self.blocks:
            values = placed.view(vector).reshape(placed.n_rows, placed.n_columns)
            rows = placed.distance // panel_columns(self.dtype.itemsize)
            for panel, j, columns in _panels(params, placed.at, rows, placed.n_columns):
                values[:, j : j + columns] = panel[: placed.n_rows, :columns]

    def unpacked(self, params: np.ndarray) -> np.ndarray:
        """Return a packed vector as a new user's vector, without padding."""
        vector = np.empty(self.n_params + self.n_buffers, self.dtype)
        self.unpack(params, vector)
        return vector


def _panels(data: np.ndarray, at: int, rows: int, n: int) -> Iterator[tuple[np.ndarray, int, int]]:
    """Yield (panel, first column, number of columns) for a matrix of n columns in panels.

    The matrix begins at `at` in `data`; each panel has `rows` rows.
    """
    itemsize = data.itemsize
    for j in range(0, n, panel_columns(itemsize)):
        width = panel_width(n, j, itemsize)
        yield data[at : at + rows * width].reshape(rows, width), j, min(width, n - j)
        at += rows * width


def _fill_panels(values: np.ndarray, data: np.ndarray, at: int, rows: int) -> None:
    """Overwrite the panels of a matrix that begins at `at` in `data` with values (I, O)."""
    for panel, j, columns in _panels(data, at, rows, values.shape[1]):
        panel[: values.shape[0], :columns] = values[:, j : j + columns]
