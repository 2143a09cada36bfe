"""The loops: one product, out = x @ w, from the naive loop to a register tile.

Read it from top to bottom: each loop changes one thing in the previous one. Shapes are x (B, I),
w (I, O), out (B, O), all C-contiguous, and every loop overwrites out.
"""

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numba import prange
from numpy.typing import NDArray

from fastnn.kernels.packing import Matrix, pack
from fastnn.kernels.tile import (
    TILE_ROWS,
    TILE_VECTORS,
    by_width,
    columns_of,
    lanes_of,
    load,
    load_row,
    rank1,
    relu,
    store,
)
from fastnn.runtime.jit import inner, kernel, parallel_kernel, reduction, routine

Array: TypeAlias = NDArray[Any]
Rows: TypeAlias = list[list[float]]
Tile: TypeAlias = Any  # a block of registers, see `fastnn.kernels.tile`

ROW_BLOCK = 64
"""Most rows of out in a block, the work that a thread does in one piece. Whole tiles."""
K_BLOCK = 128
"""Rows of w in a block: so many terms of each sum."""
COLUMN_BLOCK = 128
"""Columns of w in a block: with K_BLOCK rows 64 KiB in float32, for the second-level cache."""
PANEL_TERMS = 256
"""Rows of w in a block if w is packed: a panel fits into the first-level cache."""


def pure_python(x: Rows, w: Rows, out: Rows) -> None:
    """Loops over lists of lists, not compiled."""
    for i in range(len(x)):
        for j in range(len(w[0])):
            total = 0.0
            for k in range(len(w)):
                total += x[i][k] * w[k][j]
            out[i][j] = total


@kernel
def ijk(x: Array, w: Array, out: Array) -> None:
    """Compute each element of out as a dot product: the definition."""
    for i in range(x.shape[0]):
        for j in range(w.shape[1]):
            total = out.dtype.type(0)
            for k in range(w.shape[0]):
                total += x[i, k] * w[k, j]
            out[i, j] = total


@kernel
def ikj(x: Array, w: Array, out: Array) -> None:
    """Add multiples of the rows of w to each row of out: the two inner loops are swapped."""
    for i in range(x.shape[0]):
        for j in range(w.shape[1]):
            out[i, j] = 0
        for k in range(w.shape[0]):
            for j in range(w.shape[1]):
                out[i, j] += x[i, k] * w[k, j]


@reduction  # the compiler may change the order of the sum: it keeps several partial sums
def dot(x: Array, i: int, wt: Array, j: int) -> float:
    """Return the dot product of row i of x and row j of wt."""
    total = x.dtype.type(0)
    for k in range(x.shape[1]):
        total += x[i, k] * wt[j, k]
    return total


@kernel
def transposed(x: Array, w: Array, out: Array, wt: Array) -> None:
    """Compute dot products of rows: w is first transposed to wt (O, I), which is overwritten."""
    for k in range(w.shape[0]):
        for j in range(w.shape[1]):
            wt[j, k] = w[k, j]
    for i in range(x.shape[0]):
        for j in range(w.shape[1]):
            out[i, j] = dot(x, i, wt, j)


@parallel_kernel
def parallel(x: Array, w: Array, out: Array) -> None:
    """Run the loop `ikj` with `parallel=True`: the rows are divided among the threads."""
    for i in prange(x.shape[0]):
        for j in range(w.shape[1]):
            out[i, j] = 0
        for k in range(w.shape[0]):
            for j in range(w.shape[1]):
                out[i, j] += x[i, k] * w[k, j]


class Block(NamedTuple):
    """Rows [low, high) of out, and the terms [first, last) of their sums."""

    low: int
    high: int
    first: int
    last: int


@routine
def add_block(block: Block, left: int, right: int, x: Array, w: Array, out: Array) -> None:
    """Accumulate the terms of a block of out, in its columns [left, right)."""
    for i in range(block.low, block.high):
        total = out[i, left:right]
        for k in range(block.first, block.last):
            factor, row = x[i, k], w[k, left:right]
            for j in range(len(row)):
                total[j] += factor * row[j]


@parallel_kernel
def blocked(x: Array, w: Array, out: Array, rows: int) -> None:
    """Process w in blocks: each is used for many rows of x while it is in the cache."""
    for number in prange((x.shape[0] + rows - 1) // rows):
        low = int(np.int64(number) * rows)
        high = min(low + rows, x.shape[0])
        for i in range(low, high):
            for j in range(w.shape[1]):
                out[i, j] = 0
        for left in range(0, w.shape[1], COLUMN_BLOCK):
            right = min(left + COLUMN_BLOCK, w.shape[1])
            for first in range(0, w.shape[0], K_BLOCK):
                last = min(first + K_BLOCK, w.shape[0])
                add_block(Block(low, high, first, last), left, right, x, w, out)


# From here on arrays are flat, because a tile is loaded and stored at an offset.


class Flat(NamedTuple):
    """A matrix of n columns, row by row: element (r, c) is data[r * n + c]."""

    data: Array
    n: int


@inner
def add_tile(tile: Tile, block: Block, i: int, j: int, x: Flat, w: Flat, out: Flat) -> None:
    """Accumulate the terms of a block of the tile of out that begins in row i and column j."""
    at = i * out.n + j
    tile = load(tile, out.data, at, out.n)
    for k in range(block.first, block.last):
        # tile[r, :] += x[i + r, k] * w[k, j:] for all rows r of the tile
        tile = rank1(tile, x.data, i * x.n + k, x.n, w.data, k * w.n + j)
    store(tile, out.data, at, out.n)


# Called with the number of vectors of the tile.
add_tile_of = by_width(add_tile, TILE_ROWS)
add_row_of = by_width(add_tile, 1)


@routine
def add_column(block: Block, j: int, x: Flat, w: Flat, out: Flat) -> None:
    """Accumulate the terms of a block of out in column j, which fills no vector."""
    for i in range(block.low, block.high):
        for k in range(block.first, block.last):
            out.data[i * out.n + j] += x.data[i * x.n + k] * w.data[k * w.n + j]


@routine
def add_tiles(block: Block, x: Flat, w: Flat, out: Flat) -> None:
    """Accumulate the terms of a block of out, in the largest tiles that fit."""
    lanes, j = lanes_of(out.data), 0
    while j + lanes <= out.n:
        vectors, i = min(TILE_VECTORS, (out.n - j) // lanes), block.low
        while i + TILE_ROWS <= block.high:
            add_tile_of(vectors, out.data, block, i, j, x, w, out)
            i += TILE_ROWS
        while i < block.high:
            add_row_of(vectors, out.data, block, i, j, x, w, out)
            i += 1
        j += vectors * lanes
    for column in range(j, out.n):
        add_column(block, column, x, w, out)


@parallel_kernel
def tiled(
    n_rows: int, n_inputs: int, n_outputs: int, x: Array, w: Array, out: Array, rows: int
) -> None:
    """Keep tiles of out in registers while terms are added to them."""
    for number in prange((n_rows + rows - 1) // rows):
        low = int(np.int64(number) * rows)
        high = min(low + rows, n_rows)
        for i in range(low, high):
            for j in range(n_outputs):
                out[i * n_outputs + j] = 0
        for first in range(0, n_inputs, PANEL_TERMS):
            block = Block(low, high, first, min(first + PANEL_TERMS, n_inputs))
            add_tiles(block, Flat(x, n_inputs), Flat(w, n_outputs), Flat(out, n_outputs))


@inner
def fused_tile(
    tile: Tile, block: Block, i: int, j: int, x: Flat, packed: Array, bias: Array, out: Flat
) -> None:
    """Accumulate the terms of a block of a tile; add the bias first, apply ReLU last."""
    at, panel, width = i * out.n + j, j * x.n, columns_of(tile)
    # The bias is the initial value of the sum.
    tile = load_row(tile, bias, j) if block.first == 0 else load(tile, out.data, at, out.n)
    for k in range(block.first, block.last):
        tile = rank1(tile, x.data, i * x.n + k, x.n, packed, panel + k * width)
    if block.last == x.n:
        tile = relu(tile)  # while the tile is still in registers
    store(tile, out.data, at, out.n)


# Called with the number of vectors of the tile.
fused_tile_of = by_width(fused_tile, TILE_ROWS)


@routine
def fused_rows(block: Block, x: Flat, packed: Array, bias: Array, out: Flat) -> None:
    """Accumulate the terms of a block of out; add the bias first, apply ReLU last."""
    lanes = lanes_of(out.data)
    for j in range(0, out.n, TILE_VECTORS * lanes):
        vectors = min(TILE_VECTORS, (out.n - j) // lanes)
        for i in range(block.low, block.high, TILE_ROWS):
            fused_tile_of(vectors, out.data, block, i, j, x, packed, bias, out)


@parallel_kernel
def fused(
    n_rows: int,
    n_inputs: int,
    n_outputs: int,
    n_columns: int,
    x: Array,
    w: Array,
    bias: Array,
    out: Array,
    packed: Array,
    rows: int,
) -> None:
    """Overwrite out with relu(x @ w + bias) in one pass, with w packed into panels.

    x, bias and out are padded to whole tiles, n_rows rows and n_outputs columns, as in a net. w
    has n_columns columns.
    """
    panel = TILE_VECTORS * lanes_of(out)
    for p in prange((n_outputs + panel - 1) // panel):
        j = int(np.int64(p) * panel)
        size, width = min(panel, n_columns - j), min(panel, n_outputs - j)
        columns = Matrix(w, j, 1, n_columns)  # as rows of a strip
        pack(columns, size, n_inputs, packed, j * n_inputs, width)
    for number in prange((n_rows + rows - 1) // rows):
        low = int(np.int64(number) * rows)
        high = min(low + rows, n_rows)
        for first in range(0, n_inputs, PANEL_TERMS):
            block = Block(low, high, first, min(first + PANEL_TERMS, n_inputs))
            fused_rows(block, Flat(x, n_inputs), packed, bias, Flat(out, n_outputs))
