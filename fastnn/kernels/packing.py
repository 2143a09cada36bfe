"""Packing: a strip of a matrix, copied so that the innermost loop walks memory in a straight line.

A *strip* is a few rows or columns of a matrix, as many as a register tile has, over a stretch of
k. Packed, the elements of one k lie side by side, and those of the next k follow without a gap::

    packed[k * width + w] = strip[w, k]

The same function packs the strips of a, whose rows are those of the matrix, and the panels of b,
whose rows are the columns of the matrix, whichever way the matrix lies in memory. Where the strip
is narrower than a tile, zeros fill it up, so that every tile is whole.
"""

from typing import NamedTuple

import numpy as np

from fastnn.kernels.tile import TILE_ROWS, TILE_VECTORS, lanes_of, load, store, store_columns, zeros
from fastnn.runtime.jit import inner, routine


class Matrix(NamedTuple):
    """A matrix with any strides: element (r, c) is data[at + r * row + c * column]."""

    data: np.ndarray
    at: int
    row: int
    column: int


@inner
def matrix_from(m, r, c):
    """Return the part of a matrix that begins in row r and column c."""
    return Matrix(m.data, m.at + r * m.row + c * m.column, m.row, m.column)


@inner
def transposed(m):
    """Return the transpose of a matrix: the same memory."""
    return Matrix(m.data, m.at, m.column, m.row)


@inner
def _pack_side_by_side(strip, size, n_k, packed, p, width):
    """Copy the whole vectors of a strip whose elements of one k lie side by side already."""
    lanes = lanes_of(packed)
    if size == TILE_VECTORS * lanes:
        for k in range(n_k):
            row = load(zeros(packed, 1, TILE_VECTORS), strip.data, strip.at + k * strip.column, 0)
            store(row, packed, p + k * width, 0)
        return
    for w in range(0, size // lanes * lanes, lanes):
        for k in range(n_k):
            vector = load(zeros(packed, 1, 1), strip.data, strip.at + k * strip.column + w, 0)
            store(vector, packed, p + k * width + w, 0)


@inner
def _pack_transposed(strip, size, n_k, packed, p, width):
    """Copy the whole blocks of a strip with contiguous rows along k, transposed in registers."""
    lanes = lanes_of(packed)
    for k in range(0, n_k // lanes * lanes, lanes):
        for w in range(0, size // TILE_ROWS * TILE_ROWS, TILE_ROWS):
            o = strip.at + w * strip.row + k
            block = load(zeros(packed, TILE_ROWS, 1), strip.data, o, strip.row)
            store_columns(block, packed, p + k * width + w, width)


@routine
def pack(strip, size, n_k, packed, p, width):
    """Overwrite packed[p : p + n_k * width] with a strip: `size` <= `width` rows of length n_k."""
    lanes = lanes_of(packed)
    # What is copied by then: the places below `whole`, for k below whole_k.
    whole = whole_k = 0
    if strip.row == 1 and size == TILE_ROWS:
        for k in range(n_k):
            for w in range(TILE_ROWS):
                packed[p + k * width + w] = strip.data[np.uint64(strip.at + k * strip.column + w)]
        whole, whole_k = size, n_k
    elif strip.row == 1 and size >= lanes:
        _pack_side_by_side(strip, size, n_k, packed, p, width)
        whole, whole_k = size // lanes * lanes, n_k
    elif strip.column == 1 and size >= TILE_ROWS:
        _pack_transposed(strip, size, n_k, packed, p, width)
        whole, whole_k = size // TILE_ROWS * TILE_ROWS, n_k // lanes * lanes
    zero = packed.dtype.type(0)
    for k in range(n_k):
        at, to = strip.at + k * strip.column, p + k * width
        for w in range(whole if k < whole_k else 0, size):
            # Unsigned, because Numba counts a negative index from the end.
            packed[to + w] = strip.data[np.uint64(at + w * strip.row)]
        for w in range(size, width):
            packed[to + w] = zero
