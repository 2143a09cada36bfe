"""Packing: a strip of a matrix, copied so that the innermost loop walks memory in a straight line.

A *strip* is a few rows or columns of a matrix, as many as a register tile has, over a stretch of
k. Packed, the elements of one k lie side by side, and those of the next k follow without a gap::

    packed[k * width + w] = source[w * w_step + k * k_step]

The same function packs the panels of b (its columns are the width) and the strips of a (its rows
are), whichever way the matrix lies in memory. Where the strip is narrower than a tile, zeros fill
it up, so that every tile is whole.
"""

import numpy as np

from fastnn.kernels.tile import TILE_ROWS, TILE_VECTORS, lanes_of, load, store, store_columns, zeros
from fastnn.runtime.jit import inner, routine


@inner
def _pack_side_by_side(source, o, k_step, size, n_k, packed, p, width):
    """Copy the whole vectors of a strip whose elements of one k lie side by side already."""
    lanes = lanes_of(packed)
    if size == TILE_VECTORS * lanes:
        for k in range(n_k):
            row = load(zeros(packed, 1, TILE_VECTORS), source, o + k * k_step, 0)
            store(row, packed, p + k * width, 0)
        return
    for w in range(0, size // lanes * lanes, lanes):
        for k in range(n_k):
            vector = load(zeros(packed, 1, 1), source, o + k * k_step + w, 0)
            store(vector, packed, p + k * width + w, 0)


@inner
def _pack_transposed(source, o, w_step, size, n_k, packed, p, width):
    """Copy the whole blocks of a strip with contiguous rows along k, transposed in registers."""
    lanes = lanes_of(packed)
    for k in range(0, n_k // lanes * lanes, lanes):
        for w in range(0, size // TILE_ROWS * TILE_ROWS, TILE_ROWS):
            block = load(zeros(packed, TILE_ROWS, 1), source, o + w * w_step + k, w_step)
            store_columns(block, packed, p + k * width + w, width)


@routine
def pack(source, o, w_step, k_step, size, n_k, packed, p, width):
    """Overwrite packed[p : p + n_k * width] with a strip of `size` <= `width` rows or columns.

    The strip begins at source[o]; its rows or columns lie w_step apart, the elements along k
    k_step.
    """
    lanes = lanes_of(packed)
    # What is copied by then: the places below `whole`, for k below whole_k.
    whole = whole_k = 0
    if w_step == 1 and size == TILE_ROWS:
        for k in range(n_k):
            for w in range(TILE_ROWS):
                packed[p + k * width + w] = source[np.uint64(o + k * k_step + w)]
        whole, whole_k = size, n_k
    elif w_step == 1 and size >= lanes:
        _pack_side_by_side(source, o, k_step, size, n_k, packed, p, width)
        whole, whole_k = size // lanes * lanes, n_k
    elif k_step == 1 and size >= TILE_ROWS:
        _pack_transposed(source, o, w_step, size, n_k, packed, p, width)
        whole, whole_k = size // TILE_ROWS * TILE_ROWS, n_k // lanes * lanes
    zero = packed.dtype.type(0)
    for k in range(n_k):
        at, to = o + k * k_step, p + k * width
        for w in range(whole if k < whole_k else 0, size):
            # Unsigned, because Numba counts a negative index from the end.
            packed[to + w] = source[np.uint64(at + w * w_step)]
        for w in range(size, width):
            packed[to + w] = zero
