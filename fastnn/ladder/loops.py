"""The loops: one product, out = x @ w, from the naive loop to a register tile.

Read it from top to bottom: each loop changes one thing in the previous one. Shapes are x (B, I),
w (I, O), out (B, O), all C-contiguous, and every loop overwrites out.
"""

from typing import Any, TypeAlias

import numpy as np
from numba import prange
from numpy.typing import NDArray

from fastnn.kernels.packing import pack
from fastnn.kernels.tile import (
    TILE_ROWS,
    TILE_VECTORS,
    lanes_of,
    load,
    load_row,
    rank1,
    relu,
    store,
    zeros,
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


@routine
def add_block(
    low: int, high: int, first: int, last: int, left: int, right: int,
    x: Array, w: Array, out: Array,
) -> None:  # fmt: skip
    """Accumulate the terms [first, last) of out[low:high, left:right]."""
    for i in range(low, high):
        total = out[i, left:right]
        for k in range(first, last):
            factor, row = x[i, k], w[k, left:right]
            for j in range(len(row)):
                total[j] += factor * row[j]


@parallel_kernel
def blocked(x: Array, w: Array, out: Array, rows: int) -> None:
    """Process w in blocks: each is used for many rows of x while it is in the cache."""
    for block in prange((x.shape[0] + rows - 1) // rows):
        low = np.int64(block) * rows
        high = min(low + rows, x.shape[0])
        for i in range(low, high):
            for j in range(w.shape[1]):
                out[i, j] = 0
        for left in range(0, w.shape[1], COLUMN_BLOCK):
            right = min(left + COLUMN_BLOCK, w.shape[1])
            for first in range(0, w.shape[0], K_BLOCK):
                last = min(first + K_BLOCK, w.shape[0])
                add_block(low, high, first, last, left, right, x, w, out)


# From here on arrays are flat, because a tile is loaded and stored at an offset. `xo`, `wo`, ...
# are the offsets of x, w, ..., and `ld` is the distance between two rows.


@inner
def add_tile(
    tile: Tile, n_k: int, n_inputs: int, n_outputs: int,
    x: Array, xo: int, w: Array, wo: int, out: Array, oo: int,
) -> None:  # fmt: skip
    """Accumulate n_k terms of a tile of out."""
    tile = load(tile, out, oo, n_outputs)
    for k in range(n_k):
        # tile[r, :] += x[r, k] * w[k, :] for all rows r of the tile
        tile = rank1(tile, x, xo + k, n_inputs, w, wo + k * n_outputs)
    store(tile, out, oo, n_outputs)


@routine
def add_column(
    j: int, low: int, high: int, first: int, last: int, n_inputs: int, n_outputs: int,
    x: Array, w: Array, out: Array,
) -> None:  # fmt: skip
    """Accumulate the terms [first, last) of out[low:high, j], a column beyond the last vector."""
    for i in range(low, high):
        for k in range(first, last):
            out[i * n_outputs + j] += x[i * n_inputs + k] * w[k * n_outputs + j]


@routine
def add_tiles(
    low: int, high: int, first: int, last: int, n_inputs: int, n_outputs: int,
    x: Array, w: Array, out: Array,
) -> None:  # fmt: skip
    """Accumulate the terms [first, last) of out[low:high], in the largest tiles that fit."""
    lanes, n_k = lanes_of(out), last - first
    j = 0
    while j + lanes <= n_outputs:
        is_wide = j + TILE_VECTORS * lanes <= n_outputs
        i = low
        while i < high:
            is_high = i + TILE_ROWS <= high
            xo, wo, oo = i * n_inputs + first, first * n_outputs + j, i * n_outputs + j
            if is_high and is_wide:
                add_tile(
                    zeros(out, TILE_ROWS, TILE_VECTORS), n_k, n_inputs, n_outputs,
                    x, xo, w, wo, out, oo,
                )  # fmt: skip
            elif is_high:
                add_tile(zeros(out, TILE_ROWS, 1), n_k, n_inputs, n_outputs, x, xo, w, wo, out, oo)
            elif is_wide:
                add_tile(
                    zeros(out, 1, TILE_VECTORS), n_k, n_inputs, n_outputs, x, xo, w, wo, out, oo
                )
            else:
                add_tile(zeros(out, 1, 1), n_k, n_inputs, n_outputs, x, xo, w, wo, out, oo)
            i += TILE_ROWS if is_high else 1
        j += TILE_VECTORS * lanes if is_wide else lanes
    for column in range(j, n_outputs):
        add_column(column, low, high, first, last, n_inputs, n_outputs, x, w, out)


@parallel_kernel
def tiled(
    n_rows: int, n_inputs: int, n_outputs: int, x: Array, w: Array, out: Array, rows: int
) -> None:
    """Keep tiles of out in registers while terms are added to them."""
    for block in prange((n_rows + rows - 1) // rows):
        low = np.int64(block) * rows
        high = min(int(low) + rows, n_rows)
        for i in range(low, high):
            for j in range(n_outputs):
                out[i * n_outputs + j] = 0
        for first in range(0, n_inputs, PANEL_TERMS):
            last = min(first + PANEL_TERMS, n_inputs)
            add_tiles(low, high, first, last, n_inputs, n_outputs, x, w, out)


@inner
def fused_tile(
    tile: Tile, first: int, last: int, n_inputs: int, x: Array, xo: int,
    packed: Array, po: int, width: int, bias: Array, bo: int, out: Array, oo: int, ld: int,
) -> None:  # fmt: skip
    """Accumulate the terms [first, last) of a tile; add the bias first, apply ReLU last."""
    # The bias is the initial value of the sum.
    tile = load_row(tile, bias, bo) if first == 0 else load(tile, out, oo, ld)
    for k in range(first, last):
        tile = rank1(tile, x, xo + k, n_inputs, packed, po + k * width)
    if last == n_inputs:
        tile = relu(tile)  # while the tile is still in registers
    store(tile, out, oo, ld)


@routine
def fused_rows(
    low: int, high: int, first: int, last: int, n_inputs: int, n_outputs: int,
    x: Array, packed: Array, bias: Array, out: Array,
) -> None:  # fmt: skip
    """Accumulate the terms [first, last) of out[low:high]; add the bias first, apply ReLU last."""
    lanes = lanes_of(out)
    panel = TILE_VECTORS * lanes
    for j in range(0, n_outputs, panel):
        width = min(panel, n_outputs - j)
        for i in range(low, high, TILE_ROWS):
            xo, po, oo = i * n_inputs, j * n_inputs, i * n_outputs + j
            if width == 3 * lanes:
                fused_tile(
                    zeros(out, TILE_ROWS, 3), first, last, n_inputs, x, xo,
                    packed, po, width, bias, j, out, oo, n_outputs,
                )  # fmt: skip
            elif width == 2 * lanes:
                fused_tile(
                    zeros(out, TILE_ROWS, 2), first, last, n_inputs, x, xo,
                    packed, po, width, bias, j, out, oo, n_outputs,
                )  # fmt: skip
            else:
                fused_tile(
                    zeros(out, TILE_ROWS, 1), first, last, n_inputs, x, xo,
                    packed, po, width, bias, j, out, oo, n_outputs,
                )  # fmt: skip


@parallel_kernel
def fused(
    n_rows: int, n_inputs: int, n_outputs: int, n_columns: int,
    x: Array, w: Array, bias: Array, out: Array, packed: Array, rows: int,
) -> None:  # fmt: skip
    """Overwrite out with relu(x @ w + bias) in one pass, with w packed into panels.

    x, bias and out are padded to whole tiles, n_rows rows and n_outputs columns, as in a net. w
    has n_columns columns.
    """
    panel = TILE_VECTORS * lanes_of(out)
    for p in prange((n_outputs + panel - 1) // panel):
        j = np.int64(p) * panel
        size, width = min(panel, n_columns - j), min(panel, n_outputs - j)
        pack(w, j, np.int64(1), n_columns, size, n_inputs, packed, j * n_inputs, width)
    for block in prange((n_rows + rows - 1) // rows):
        low = np.int64(block) * rows
        high = min(low + rows, n_rows)
        for first in range(0, n_inputs, PANEL_TERMS):
            last = min(first + PANEL_TERMS, n_inputs)
            fused_rows(low, high, first, last, n_inputs, n_outputs, x, packed, bias, out)
