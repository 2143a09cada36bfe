"""The matrix product out = a @ b + bias on register tiles, for whole arrays of any shape.

b is packed into zero-padded panels first (`fastnn.kernels.affine`). a is read where it lies, by
rows or by columns, but for its last few rows, which are packed too so that every tile is full.
"""

import functools

import numpy as np
from numba import from_dtype

from fastnn._jit import inner, member, routine
from fastnn.kernels.memory import matrix_at, vector_at
from fastnn.kernels.panels import round_up
from fastnn.kernels.team import barrier, team_starts
from fastnn.kernels.tile import (
    TILE_ROWS,
    TILE_VECTORS,
    lanes_of,
    load_row,
    rank1,
    relu,
    store,
    zeros,
)


@inner
def _dot_tile(tile, a, ao, a_row, a_k, w, wo, ldw, n_k):
    """tile[i, :] += sum over k of a[ao + i * a_row + k * a_k] * w[wo + k * ldw : ...]."""
    for k in range(n_k):
        tile = rank1(tile, a, ao + k * a_k, a_row, w, wo + k * ldw)
    return tile


@inner
def _forward_tile(tile, n_in, x, xo, x_row, x_k, w, wo, ldw, b, bo, out, oo, ldo, with_relu):
    tile = _dot_tile(load_row(tile, b, bo), x, xo, x_row, x_k, w, wo, ldw, n_in)
    if with_relu:
        tile = relu(tile)
    store(tile, out, oo, ldo)


@routine
def forward_rows(
    n_rows, n_in, n_out, x, xo, x_row, x_k, w, wo, panel_step, ldw, b, bo, out, oo, ldo, with_relu
):
    """Overwrite rows of out with x @ w + b, or relu of it.

    x (n_rows, n_in) starts at xo; its rows are x_row apart, its columns x_k (1, unless x is
    given by its transpose). The rows of out are ldo apart. n_rows is a multiple of
    TILE_ROWS. Panel j of w starts at wo + j * panel_step; ldw is the distance of its rows, or 0
    for rows packed without gaps.
    """
    lanes = lanes_of(out)
    panel = TILE_VECTORS * lanes
    j = 0
    while j < n_out:
        width = min(round_up(n_out - j, lanes), panel)
        step = ldw if ldw > 0 else width
        for i in range(0, n_rows, TILE_ROWS):
            xi, oi = xo + i * x_row, oo + i * ldo + j
            if width == 3 * lanes:
                tile = zeros(out, TILE_ROWS, 3)
                _forward_tile(
                    tile, n_in, x, xi, x_row, x_k, w, wo, step, b, bo + j, out, oi, ldo, with_relu
                )
            elif width == 2 * lanes:
                tile = zeros(out, TILE_ROWS, 2)
                _forward_tile(
                    tile, n_in, x, xi, x_row, x_k, w, wo, step, b, bo + j, out, oi, ldo, with_relu
                )
            else:
                tile = zeros(out, TILE_ROWS, 1)
                _forward_tile(
                    tile, n_in, x, xi, x_row, x_k, w, wo, step, b, bo + j, out, oi, ldo, with_relu
                )
        wo += panel_step
        j += panel


@inner
def _pack_panel(b, transposed, n_k, j, columns, width, packed, o):
    """Overwrite packed[o : ...] with columns [j, j + columns) of b, row by row, zero padded."""
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


@inner
def _pack_edge(rows, n_k, a, o, a_row, a_k, edge):
    """Overwrite edge (TILE_ROWS, K) with the last rows of a, and zeros below."""
    for r in range(TILE_ROWS):
        for k in range(n_k):
            inside = r < rows
            edge[r * n_k + k] = a[o + r * a_row + k * a_k] if inside else edge.dtype.type(0)


MATMUL_JOB = np.dtype(
    {
        "names": [
            # a (M, K) and b (K, N), or their transposes; bias, zero padded to whole panels; out.
            "a", "b", "bias", "out", "m", "n", "k", "a_transposed", "b_transposed",
            # Room for the panels of b, the last rows of a, and a tile for each member.
            "packed", "edge", "scratch", "scratch_size",
        ],
        "formats": [np.int64] * 13,
    }
)  # fmt: skip
"""What a team needs to multiply two matrices."""
_MATMUL_RECORD = from_dtype(MATMUL_JOB)

STRIPS_AT_ONCE = 8
"""Strips of TILE_ROWS rows of a that share one reading of a panel of b."""


@functools.cache
def matmul_member(dtype):
    """Compile the product of matrices of a dtype; return the address for `MATMUL_JOB`."""
    number = dtype.type

    def matmul_rows(thread, n_threads, sync, job_address):
        if not team_starts(sync, n_threads):
            return
        job = vector_at(job_address, _MATMUL_RECORD)[0]
        m, n, n_k = job.m, job.n, job.k
        a, out, bias = (
            vector_at(job.a, number),
            vector_at(job.out, number),
            vector_at(job.bias, number),
        )
        b_rows, b_columns = (n, n_k) if job.b_transposed else (n_k, n)
        b = matrix_at(job.b, b_rows, b_columns, number)
        packed, edge = vector_at(job.packed, number), vector_at(job.edge, number)
        scratch, so = vector_at(job.scratch, number), thread * job.scratch_size
        lanes = lanes_of(out)
        panel = TILE_VECTORS * lanes
        a_row, a_k = (1, m) if job.a_transposed else (n_k, 1)

        n_panels = (n + panel - 1) // panel
        for p in range(n_panels * thread // n_threads, n_panels * (thread + 1) // n_threads):
            columns = min(panel, n - p * panel)
            width = round_up(columns, lanes)
            _pack_panel(
                b, job.b_transposed, n_k, p * panel, columns, width, packed, p * panel * n_k
            )
        whole_rows = m // TILE_ROWS * TILE_ROWS
        if thread == n_threads - 1 and whole_rows < m:
            _pack_edge(m - whole_rows, n_k, a, whole_rows * a_row, a_row, a_k, edge)
        barrier(sync, n_threads)

        strips = (m + TILE_ROWS - 1) // TILE_ROWS
        low, high = strips * thread // n_threads, strips * (thread + 1) // n_threads
        for chunk in range(low, high, STRIPS_AT_ONCE):
            for p in range(n_panels):
                j = p * panel
                columns = min(panel, n - j)
                width = round_up(columns, lanes)
                for i in range(
                    chunk * TILE_ROWS, min(chunk + STRIPS_AT_ONCE, high) * TILE_ROWS, TILE_ROWS
                ):
                    rows = min(TILE_ROWS, m - i)
                    whole = rows == TILE_ROWS and columns == width
                    source = a if rows == TILE_ROWS else edge
                    at, row, step = (i * a_row, a_row, a_k) if rows == TILE_ROWS else (0, n_k, 1)
                    target = out if whole else scratch
                    to, ld = (i * n + j, n) if whole else (so, width)
                    forward_rows(
                        TILE_ROWS, n_k, columns, source, at, row, step, packed, j * n_k, 0, 0,
                        bias, j, target, to, ld, False,
                    )  # fmt: skip
                    if not whole:
                        for r in range(rows):
                            for c in range(columns):
                                out[(i + r) * n + j + c] = scratch[so + r * width + c]

    return member(matmul_rows)
