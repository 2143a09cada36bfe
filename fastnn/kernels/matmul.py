"""The matrix product out = a @ b + bias on register tiles, for whole arrays of any shape.

b is packed into zero-padded panels first (`fastnn.kernels.affine`). a is read where it lies, by
rows or by columns, but for its last few rows, which are packed too so that every tile is full.
"""

import numpy as np
from numba import prange

from fastnn._jit import inner, kernel, parallel_kernel, routine
from fastnn.kernels.affine import round_up
from fastnn.kernels.team import barrier, team_starts
from fastnn.kernels.tile import (
    TILE_ROWS,
    TILE_VECTORS,
    lanes_of,
    load_row,
    rank1,
    store,
    zeros,
)


@inner
def _product_tile(tile, n_k, a, ao, a_row, a_k, b, bo, ldb, bias, bias_at, out, oo, ldo):
    tile = load_row(tile, bias, bias_at)
    for k in range(n_k):
        tile = rank1(tile, a, ao + k * a_k, a_row, b, bo + k * ldb)
    store(tile, out, oo, ldo)


@routine
def _product_strip(width, n_k, a, ao, a_row, a_k, b, bo, bias, bias_at, out, oo, ldo):
    """Overwrite TILE_ROWS rows and `width` columns of out."""
    lanes = lanes_of(out)
    if width == 3 * lanes:
        tile = zeros(out, TILE_ROWS, 3)
        _product_tile(tile, n_k, a, ao, a_row, a_k, b, bo, width, bias, bias_at, out, oo, ldo)
    elif width == 2 * lanes:
        tile = zeros(out, TILE_ROWS, 2)
        _product_tile(tile, n_k, a, ao, a_row, a_k, b, bo, width, bias, bias_at, out, oo, ldo)
    else:
        tile = zeros(out, TILE_ROWS, 1)
        _product_tile(tile, n_k, a, ao, a_row, a_k, b, bo, width, bias, bias_at, out, oo, ldo)


@routine
def _pack_panel(b, transposed, j, columns, width, packed, o):
    """Overwrite packed[o : ...] with columns [j, j + columns) of b, row by row, zero padded."""
    n_k = b.shape[1] if transposed else b.shape[0]
    zero = packed.dtype.type(0)
    for k in range(n_k):
        row = packed[o + k * width : o + (k + 1) * width]
        if transposed:
            for c in range(columns):
                row[c] = b[j + c, k]
        else:
            source = b[k, j : j + columns]
            for c in range(columns):
                row[c] = source[c]
        for c in range(columns, width):
            row[c] = zero


@kernel
def matmul_rows(
    thread, n_threads, sync, a, a_transposed, b, b_transposed, bias, packed, edge, scratch, out
):
    """Overwrite out (M, N) with a (M, K) @ b (K, N) + bias, as member `thread` of a team.

    Parameters
    ----------
    a, b : 2-D, C-contiguous
        Given as their transposes where `a_transposed`, `b_transposed`.
    bias : (round_up(N, panel),) float
        Zero padded.
    packed : (K * round_up(N, lanes),) float
        Room for the panels of b.
    edge : (TILE_ROWS * K,) float
        Room for the last rows of a.
    scratch : (n_threads * S,) float
        Room for one tile for each member.
    """
    if not team_starts(sync, n_threads):
        return
    lanes = lanes_of(out)
    panel = TILE_VECTORS * lanes
    m, n = out.shape
    n_k = a.shape[0] if a_transposed else a.shape[1]
    a_row = 1 if a_transposed else n_k
    a_k = m if a_transposed else 1
    flat_a, flat_out = a.reshape(-1), out.reshape(-1)
    so = thread * (scratch.size // n_threads)
    n_panels = (n + panel - 1) // panel
    for p in range(n_panels * thread // n_threads, n_panels * (thread + 1) // n_threads):
        columns = min(panel, n - p * panel)
        _pack_panel(
            b, b_transposed, p * panel, columns, round_up(columns, lanes), packed, p * panel * n_k
        )
    whole_rows = m // TILE_ROWS * TILE_ROWS
    if thread == n_threads - 1 and whole_rows < m:
        for r in range(TILE_ROWS):
            for k in range(n_k):
                inside = whole_rows + r < m
                value = flat_a[(whole_rows + r) * a_row + k * a_k] if inside else out.dtype.type(0)
                edge[r * n_k + k] = value
    barrier(sync, n_threads)
    strips = (m + TILE_ROWS - 1) // TILE_ROWS
    low, high = strips * thread // n_threads, strips * (thread + 1) // n_threads
    for chunk in range(low, high, 8):
        for p in range(n_panels):
            j = p * panel
            columns = min(panel, n - j)
            width = round_up(columns, lanes)
            for strip in range(chunk, min(chunk + 8, high)):
                i = strip * TILE_ROWS
                rows = min(TILE_ROWS, m - i)
                if rows == TILE_ROWS and columns == width:
                    _product_strip(
                        width, n_k, flat_a, i * a_row, a_row, a_k, packed, j * n_k, bias, j,
                        flat_out, i * n + j, n,
                    )  # fmt: skip
                    continue
                if rows == TILE_ROWS:
                    _product_strip(
                        width, n_k, flat_a, i * a_row, a_row, a_k, packed, j * n_k, bias, j,
                        scratch, so, width,
                    )  # fmt: skip
                else:
                    _product_strip(
                        width, n_k, edge, 0, n_k, 1, packed, j * n_k, bias, j, scratch, so, width
                    )
                for r in range(rows):
                    for c in range(columns):
                        flat_out[(i + r) * n + j + c] = scratch[so + r * width + c]


@parallel_kernel
def matmul_rows_parallel(
    n_threads, sync, a, a_transposed, b, b_transposed, bias, packed, edge, scratch, out
):
    """Run `matmul_rows` on all members of a team."""
    for thread in prange(n_threads):
        matmul_rows(
            np.intp(thread), n_threads, sync, a, a_transposed, b, b_transposed, bias, packed, edge,
            scratch, out,
        )  # fmt: skip
