"""Where the parameters of a net lie: as users see them, and packed for the kernels.

All parameters lie in one flat vector, layer by layer and block by block: of an affine layer w, of
the shape (I, O), row by row, then b (O,). Users see views of it; running statistics follow behind
all parameters.
Training works on a copy in *packed* form: matrices in panels, padded with zeros to whole register
tiles (`fastnn.kernels.products` says why), so that kernels have no edges to care for.
"""

import math
from typing import NamedTuple

import numpy as np

from fastnn.kernels.panels import (
    padded_width,
    panel_columns,
    panel_width,
    weight_distance,
)


class PlacedBlock(NamedTuple):
    """A block of parameters (`fastnn.layers.base.ParameterBlock`), and where it lies.

    Attributes
    ----------
    layer : ParametricLayer
    block : ParameterBlock
    user_at : int
        In the vector that users see.
    at, distance : int
        In the packed vector: its first panel, and the distance of panels.
    transposed_at : int
        Where the panels of the transposed matrix begin, or -1 where no gradient flows through it.
    """

    layer: object
    block: object
    user_at: int
    at: int
    distance: int
    transposed_at: int

    @property
    def is_matrix(self):
        """Whether it is a matrix, not a vector."""
        return len(self.block.shape) == 2

    @property
    def n_rows(self):
        """Rows of a matrix, 1 for a vector."""
        return self.block.shape[0] if self.is_matrix else 1

    def view(self, vector):
        """Return the block's part of a vector of parameters as users see them, in its shape."""
        size = math.prod(self.block.shape)
        return vector[self.user_at : self.user_at + size].reshape(self.block.shape)

    @property
    def n_columns(self):
        """Columns of a matrix, elements of a vector."""
        return self.block.shape[-1]


class ParameterLayout:
    """The places of all parameters of a net.

    Parameters
    ----------
    layers : sequence of Layer
        Those that do the work (`Layer.leaves`).
    dtype : numpy.dtype

    Attributes
    ----------
    blocks : list of PlacedBlock
        Layer by layer, in the order of the layer.
    n_params, n_buffers : int
        Elements of the parameters, and of the running statistics.
    n_packed, n_transposed : int
        Elements of the packed vector, and of all transposed matrices.
    """

    def __init__(self, layers, dtype):
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
        user_at, placed = 0, []
        for k, block in [*trained, *buffers]:
            placed.append((k, self._place(owners[k], block, user_at, k > 0)))
            user_at += math.prod(block.shape)
        self._placed = [[p for owner, p in placed if owner == k] for k in range(len(owners))]
        self.blocks = [block for own in self._placed for block in own]

    def _place(self, layer, block, user_at, gradient_flows):
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
    def size(self):
        """Elements of a zeroed vector that holds the parameters and statistics as users see them.

        Kernels read whole vectors, which may reach past the last one.
        """
        return self.n_params + self.n_buffers + panel_columns(self.dtype.itemsize)

    def tensors(self, vector):
        """Return of each layer with parameters a tuple of views of a vector as users see it."""
        return [tuple(placed.view(vector) for placed in own) for own in self._placed]

    def vector_of(self, tensors):
        """Return tensors of the shapes that `tensors` returns as one new vector."""
        vector = np.empty(self.n_params + self.n_buffers, self.dtype)
        for own, arrays in zip(self._placed, tensors, strict=True):
            for placed, array in zip(own, arrays, strict=True):
                placed.view(vector)[...] = array
        return vector

    def blocks_of(self, layer):
        """Return the blocks of a layer."""
        return next((own for own in self._placed if own[0].layer is layer), [])

    def pack(self, vector, params, transposed=None):
        """Overwrite packed `params` and, unless None, the transposed matrices.

        Parameters
        ----------
        vector : ndarray
            Parameters and statistics, as users see them.
        params, transposed : ndarray
            Zeroed when they were made: padding is not written.
        """
        for placed in self.blocks:
            values = placed.view(vector).reshape(placed.n_rows, placed.n_columns)
            rows = placed.distance // panel_columns(self.dtype.itemsize)
            _fill_panels(values, params, placed.at, rows)
            if transposed is not None and placed.transposed_at >= 0:
                _fill_panels(values.T, transposed, placed.transposed_at, placed.n_columns)

    def unpack(self, params, vector):
        """Overwrite a vector of parameters and statistics, as users see them, with packed ones."""
        for placed in self.blocks:
            values = placed.view(vector).reshape(placed.n_rows, placed.n_columns)
            rows = placed.distance // panel_columns(self.dtype.itemsize)
            for panel, j, columns in _panels(params, placed.at, rows, placed.n_columns):
                values[:, j : j + columns] = panel[: placed.n_rows, :columns]

    def unpacked(self, params):
        """Return a packed vector as a new one, as users see it."""
        vector = np.empty(self.n_params + self.n_buffers, self.dtype)
        self.unpack(params, vector)
        return vector


def _panels(data, at, rows, n):
    """Yield the panels of a matrix of n columns with their first column and how many they have."""
    itemsize = data.itemsize
    for j in range(0, n, panel_columns(itemsize)):
        width = panel_width(n, j, itemsize)
        yield data[at : at + rows * width].reshape(rows, width), j, min(width, n - j)
        at += rows * width


def _fill_panels(values, data, at, rows):
    for panel, j, columns in _panels(data, at, rows, values.shape[1]):
        panel[: values.shape[0], :columns] = values[:, j : j + columns]
