"""Matrices in panels, laid out once more and without cleverness: for tests of the kernels.

`fastnn.kernels.panels` says how they lie. All memory that holds nothing is NaN, so that a kernel
that reads it is found out by its result, and one that writes it by `Panels.take`.
"""

import numpy as np

from fastnn.kernels import panels
from fastnn.kernels.tile import TILE_ROWS, TILE_VECTORS, VECTOR_BYTES

CELL_BYTES = 32
"""A cell, a part of a row in which sums are kept, is divided between two panels at no width."""

GUARD = 9
"""Elements behind the last panel that nobody may touch."""


def lanes(dtype):
    """Return how many elements one SIMD vector holds."""
    return VECTOR_BYTES // np.dtype(dtype).itemsize


def cell(dtype):
    """Return how many elements a cell holds."""
    return CELL_BYTES // np.dtype(dtype).itemsize


def whole(n, multiple):
    """Return n rounded up to a multiple."""
    while n % multiple:
        n += 1
    return n


class Panels:
    """A matrix (B, n) in panels, in a flat array full of NaN.

    Parameters
    ----------
    shape : (int, int)
    dtype : dtype
    offset, gap : int
        Elements before the first panel, and between two of them.

    Attributes
    ----------
    panel : int
        Columns of a panel.
    distance : int
        Elements from the beginning of a panel to that of the next one.
    flat : ndarray
    """

    def __init__(self, shape, dtype, offset=3, gap=5):
        self.shape, self.dtype, self.offset = shape, np.dtype(dtype), offset
        self.panel = TILE_VECTORS * lanes(dtype)
        self.distance = shape[0] * self.panel + gap
        size = offset + -(-shape[1] // self.panel) * self.distance + GUARD
        self.flat = np.full(size, np.nan, dtype)

    @classmethod
    def of(cls, array, *, padding=0, **where):
        """Lay out a matrix."""
        result = cls(array.shape, array.dtype, **where)
        result.fill(array, padding=padding)
        return result

    def argument(self):
        """Return it as kernels take it."""
        return panels.Panels(self.flat, self.offset, self.distance, self.shape[1])

    def width(self, j):
        """Return the columns of the panel of column j: whole vectors, whole tiles, whole cells."""
        columns = min(self.shape[1] - j, self.panel)
        unit = max(lanes(self.dtype), TILE_ROWS, cell(self.dtype))
        return min(whole(columns, unit), self.panel)

    def parts(self, flat=None):
        """Yield of each panel its first column, how many it has, and its rows, with padding."""
        flat = self.flat if flat is None else flat
        n_rows, n = self.shape
        for p, j in enumerate(range(0, n, self.panel)):
            start = self.offset + p * self.distance
            rows = flat[start : start + n_rows * self.width(j)].reshape(n_rows, self.width(j))
            yield j, min(self.panel, n - j), rows

    def fill(self, array, row=0, padding=0):
        """Overwrite rows, from one on."""
        for j, columns, rows in self.parts():
            rows[row : row + len(array)] = padding
            rows[row : row + len(array), :columns] = array[:, j : j + columns]

    def take(self, row=0, n_rows=None, finite=True):
        """Return some rows, all that a kernel was to write: the rest must still be NaN.

        Padding must be zero. Only where a row is not finite it may be NaN: 0 * inf is.
        """
        n_rows = self.shape[0] if n_rows is None else n_rows
        result = np.full((n_rows, self.shape[1]), np.nan, self.dtype)
        for j, columns, rows in self.parts():
            result[:, j : j + columns] = rows[row : row + n_rows, :columns]
            assert not finite or (rows[row : row + n_rows, columns:] == 0).all(), "padding"
        rest = self.flat.copy()
        for _, _, rows in self.parts(rest):
            rows[row : row + n_rows] = np.nan
        assert np.isnan(rest).all(), "something was written beside the rows"
        return result
