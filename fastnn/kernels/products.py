"""The three matrix products of an affine layer, on register tiles.

    forward            out = x @ w + b            out (B, O), x (B, I), w (I, O), b (O,)
    backward to input  dx = dout @ w.T            dx (B, I)
    backward to weight dw = x.T @ dout            dw (I, O)

All are the same loop over `rank1`, and differ in which operand is read element by element (the left
one) and which one by whole vectors (the right one). `fastnn.kernels.reference` has the same
products as plain triple loops.

All matrices lie in panels (`fastnn.kernels.panels`). A panel is what a tile reads while it walks
down its rows or along its columns, so the innermost loops go through memory in a straight line,
whichever operand a matrix is. An activation that one product writes is the left operand of the
next, and of two more in the backward pass: none of them has to rearrange it.

**Blocks of k.** A long sum is cut into blocks, so that the part of the right operand that all rows
read stays in a near cache; between blocks the partial sums lie in the result.

Every element of a result is one chain of fused multiply-adds in the order of k. It does not depend
on the tile it is in, the number of threads, or the rows beside it.
"""

import functools
from typing import NamedTuple

import numpy as np
from numba import from_dtype

from fastnn.kernels.memory import record, vector_at
from fastnn.kernels.panels import Panels, panel_columns, panel_width, place, prefetch_lines
from fastnn.kernels.tile import (
    NARROW_ROWS,
    TILE_ROWS,
    TILE_VECTORS,
    by_width,
    columns_of,
    dot,
    keep_where_positive,
    lanes_of,
    load,
    load_row,
    rank1,
    relu,
    store,
    zeros,
)
from fastnn.runtime.jit import compile_at_address, inner, routine

# What a product does to a tile before it stores it.
KEEP, RECTIFY, MASK = range(3)

# Length of a block of a sum: whole panels in both dtypes and for all vector widths. A panel of the
# right operand stays in the second-level cache, beside the rows that read it.
K_BLOCK = 480

# Rows of the batch that are summed to a block of dw at a time: the panels of x and of dout stay
# in the first-level cache.
BATCH_BLOCK = 128

# Vectors of a tile that has one row: enough sums at a time that none waits for the last.
ROW_VECTORS = 8

NO_BIAS = -1

# In place of the distance of a matrix' rows: it lies in panels.
IN_PANELS = 0


class Product(NamedTuple):
    """out = x @ w + b, finished in one of three ways.

    The forward pass ends with KEEP, or RECTIFY for relu. The backward pass, dx = dout @ w.T, is the
    same product with the panels of w.T: KEEP, or MASK where the layer's input h came out of a ReLU.
    h lies as out does; where it is not positive, out is zero.

    x or w may be an ordinary array: its rows lie x_row or w_row apart, which otherwise is
    IN_PANELS, and its panels are next to each other. Of an ordinary w and b whole vectors are read,
    which may reach beyond the last column, into the padding of out.
    """

    x: Panels
    x_row: int
    w: Panels
    w_row: int
    b: np.ndarray
    b_at: int  # or NO_BIAS
    out: Panels
    h: np.ndarray
    finish: int


PRODUCT = record(
    "x x_at x_distance x_row w w_at w_distance w_row b b_at out out_at out_distance h n_k n finish"
)
"""A `Product` for `product_kernel`: matrices by their addresses; lengths of a row of x, of out."""
_RECORD = from_dtype(PRODUCT)


@inner
def product_at(address):
    """Return the record of a product at an address."""
    return vector_at(address, _RECORD)[0]


@inner
def product_of(p, number):
    """Return the product of numbers of a type that a record stands for."""
    x = Panels(vector_at(p.x, number), p.x_at, p.x_distance, p.n_k)
    w = Panels(vector_at(p.w, number), p.w_at, p.w_distance, p.n)
    out = Panels(vector_at(p.out, number), p.out_at, p.out_distance, p.n)
    b, h = vector_at(p.b, number), vector_at(p.h, number)
    return Product(x, p.x_row, w, p.w_row, b, p.b_at, out, h, p.finish)


@inner
def _multiply_tile(tile, p, i, j, low, high):
    """Multiply a tile: rows from i, columns from j, and the terms [low, high) of the sum."""
    x, w, out, width = p.x, p.w, p.out, columns_of(tile)
    panel, oi = panel_columns(x.data.itemsize), place(out, i, j)
    w_step = width if p.w_row == IN_PANELS else p.w_row
    wk = place(w, 0, j) + low * w_step
    if low > 0:
        tile = load(tile, out.data, oi, width)
    elif p.b_at != NO_BIAS:
        tile = load_row(tile, p.b, p.b_at + j)
    k, xi, x_row = low, x.at + i * p.x_row + low, p.x_row
    if p.x_row == IN_PANELS:
        while k + panel <= high:  # with distances that the compiler knows
            tile = dot(tile, panel, x.data, place(x, i, k), panel, 1, w.data, wk, w_step)
            k += panel
            wk += panel * w_step
        xi, x_row = place(x, i, k), panel_width(x.n, k, x.data.itemsize)
    if k < high:
        tile = dot(tile, high - k, x.data, xi, x_row, 1, w.data, wk, w_step)
    if high == x.n:
        if p.finish == RECTIFY:
            tile = relu(tile)
        elif p.finish == MASK:
            tile = keep_where_positive(tile, p.h, oi, width)
    store(tile, out.data, oi, width)


_multiply_any_tile = by_width(_multiply_tile, TILE_ROWS)


@inner
def multiply_rows(p, row, n_rows):
    """Overwrite rows [row, row + n_rows) of a product's result.

    row and n_rows are multiples of TILE_ROWS.
    """
    out, terms = p.out, p.x.n
    lanes, panel = lanes_of(out.data), panel_columns(out.data.itemsize)
    for low in range(0, terms, K_BLOCK):  # Blocks of the sum.
        high = min(low + K_BLOCK, terms)
        for j in range(0, out.n, panel):  # Panels of w, which all rows read.
            vectors = panel_width(out.n, j, out.data.itemsize) // lanes
            i, end = row, row + n_rows
            while i < end:  # Tiles: in registers.
                if vectors == 1 and i + NARROW_ROWS <= end:
                    # A narrow tile of few rows would wait for each sum.
                    _multiply_tile(zeros(out.data, NARROW_ROWS, 1), p, i, j, low, high)
                    i += NARROW_ROWS
                else:
                    _multiply_any_tile(vectors, out.data, p, i, j, low, high)
                    i += TILE_ROWS


@functools.cache
def product_kernel(dtype):
    """Compile `multiply_rows` for a dtype; return the address.

    It takes (the address of a PRODUCT, row, n_rows), all int64. All passes of affine layers share
    it: it is the longest of all kernels to compile.
    """
    number = dtype.type

    def multiply(product, row, n_rows):
        multiply_rows(product_of(product_at(product), number), row, n_rows)

    return compile_at_address(multiply, 3)


@inner
def _row_tile(tile, p, j, wj, w_step):
    """Columns from j on of one row: x and out are ordinary vectors."""
    if p.b_at != NO_BIAS:
        tile = load_row(tile, p.b, p.b_at + j)
    tile = dot(tile, p.x.n, p.x.data, p.x.at, 0, 1, p.w.data, wj, w_step)
    if p.finish == RECTIFY:
        tile = relu(tile)
    store(tile, p.out.data, p.out.at + j, 0)


@routine
def multiply_row(p):
    """Overwrite one row of a product, whose x, w, b and out are ordinary arrays.

    Reads and writes whole vectors, which may reach beyond the last column. The same bits as
    `multiply_rows`.
    """
    lanes, n, j = lanes_of(p.out.data), p.out.n, 0
    while j < n:
        vectors, wj = (n - j + lanes - 1) // lanes, p.w.at + j
        if vectors >= ROW_VECTORS:
            _row_tile(zeros(p.out.data, 1, ROW_VECTORS), p, j, wj, n)
            j += ROW_VECTORS * lanes
        elif vectors > 1:
            _row_tile(zeros(p.out.data, 1, 2), p, j, wj, n)
            j += 2 * lanes
        else:
            _row_tile(zeros(p.out.data, 1, 1), p, j, wj, n)
            j += lanes


@inner
def _two_row_tiles(p, j):
    """Two full panels at a time: enough sums that none waits for the last."""
    panel, x, w = panel_columns(p.out.data.itemsize), p.x, p.w
    one, two = zeros(p.out.data, 1, TILE_VECTORS), zeros(p.out.data, 1, TILE_VECTORS)
    if p.b_at != NO_BIAS:
        one, two = load_row(one, p.b, p.b_at + j), load_row(two, p.b, p.b_at + j + panel)
    w_one, w_two = place(w, 0, j), place(w, 0, j + panel)
    for k in range(x.n):
        one = rank1(one, x.data, x.at + k, 0, w.data, w_one + k * panel)
        two = rank1(two, x.data, x.at + k, 0, w.data, w_two + k * panel)
    if p.finish == RECTIFY:
        one, two = relu(one), relu(two)
    store(one, p.out.data, p.out.at + j, 0)
    store(two, p.out.data, p.out.at + j + panel, 0)


@inner
def _packed_row_tile(tile, p, j):
    _row_tile(tile, p, j, place(p.w, 0, j), columns_of(tile))


_any_packed_row_tile = by_width(_packed_row_tile, 1)


@routine
def multiply_packed_row(p):
    """Do `multiply_row` for w in panels."""
    lanes, n = lanes_of(p.out.data), p.out.n
    panel, j = panel_columns(p.out.data.itemsize), 0
    while j < n:
        if j + 2 * panel <= n:
            _two_row_tiles(p, j)
            j += panel
        else:
            vectors = panel_width(n, j, p.out.data.itemsize) // lanes
            _any_packed_row_tile(vectors, p.out.data, p, j)
        j += panel


class Update(NamedTuple):
    """What an update of parameters reads next: it is fetched while their gradient is summed."""

    params: np.ndarray
    state_1: np.ndarray
    state_2: np.ndarray
    at: int


@inner
def _weight_tile(tile, x, dout, i, j, low, n_rows, dw, o):
    """Sum a tile of `backward_weight_block`: rows from i of dw, over n_rows of the batch."""
    width, panel = columns_of(tile), panel_columns(x.data.itemsize)
    p = i // panel * panel
    step = panel_width(x.n, p, x.data.itemsize)
    if low > 0:
        tile = load(tile, dw, o, width)
    xi, at = place(x, low, p) + i - p, place(dout, low, j)
    store(dot(tile, n_rows, x.data, xi, 1, step, dout.data, at, width), dw, o, width)


_any_weight_tile = by_width(_weight_tile, TILE_ROWS)


@routine
def backward_weight_block(x, dout, n_rows, i, n_i, j, dw, update):
    """Overwrite dw with rows [i, i + n_i) of a panel of x.T @ dout, summed over n_rows rows.

    i and n_i are multiples of TILE_ROWS, j is the first column of the panel. The rows of dw begin
    at its start, without gaps.
    """
    lanes, panel = lanes_of(dw), panel_columns(dw.itemsize)
    width = panel_width(dout.n, j, dw.itemsize)
    for low in range(0, n_rows, BATCH_BLOCK):
        rows, t = min(BATCH_BLOCK, n_rows - low), i
        while t < i + n_i:
            o = (t - i) * width
            if low + rows == n_rows:
                prefetch_lines(TILE_ROWS * width, update.params, update.at + o)
                prefetch_lines(TILE_ROWS * width, update.state_1, update.at + o)
                prefetch_lines(TILE_ROWS * width, update.state_2, update.at + o)
            p = t // panel * panel
            end = min(i + n_i, p + panel_width(x.n, p, dw.itemsize))
            if width == lanes and t + NARROW_ROWS <= end:
                _weight_tile(zeros(dw, NARROW_ROWS, 1), x, dout, t, j, low, rows, dw, o)
                t += NARROW_ROWS
            else:
                _any_weight_tile(width // lanes, dw, x, dout, t, j, low, rows, dw, o)
                t += TILE_ROWS
