"""The matrix product out = a @ b + bias on register tiles, for whole arrays of any shape.

Two ways lead to the same bits. Where b is small or a has few rows, both are read *in place*.
Otherwise the product is *blocked*, after Goto and van de Geijn, "Anatomy of high-performance matrix
multiplication" (2008): b is packed into panels of which one stays in the first-level cache, a into
strips of which a block stays in the second-level cache. The sums of a tile that are not complete
yet wait in `out` for the next block of k.

Every element is one chain of fused multiply-adds in the order of k that begins with the bias. It
does not depend on the way, the tile it is in, the number of threads, or the rows beside it.

Threads share out the rows and columns of `out` in a grid and never wait for each other: each packs
what it needs, which costs less than meeting at a barrier.
"""

import functools

import numpy as np
from numba import from_dtype

from fastnn.kernels.calls import call
from fastnn.kernels.memory import vector_at
from fastnn.kernels.packing import pack
from fastnn.kernels.panels import round_up
from fastnn.kernels.tile import (
    TILE_ROWS,
    TILE_VECTORS,
    VECTOR_BYTES,
    lanes_of,
    load,
    rank1,
    store,
    zeros,
)
from fastnn.runtime.jit import inner, kernel, member, routine

# Sizes of blocks; benchmarks/matmul_blocks.py compares others.
K_BLOCK = 256
"""Most terms of a sum in one go: a panel of b of this length stays in the first-level cache."""
ROW_BLOCK = 128
"""Most rows of a that are packed at once, for the second-level cache. Whole strips."""
PANEL_BLOCK = 64
"""Most panels of b that are packed at once, for the third-level cache."""
IN_PLACE_BYTES = 64 * 1024
"""The largest b that is read in place."""
RAGGED_TERMS = 32
"""From so many terms of a sum on, a b of few columns that are not whole vectors is packed."""
IN_PLACE_ROWS = 2 * TILE_ROWS
"""The most rows of a for which any b is read in place."""
PACK_ROWS_PANELS = 32
"""Panels of b above which rows of a are packed into strips,"""
PACK_COLUMNS_PANELS = 16
"""... and if they are not contiguous, because a is transposed."""
PACKING_COST = 8
"""What packing an element costs, in multiply-adds."""
ROW_VECTORS = 8
"""Vectors of the tile for a single row."""
ROW_K_BLOCK = 32
"""Rows of b that are read in one go for a single row of a."""

PANEL_BYTES = TILE_VECTORS * VECTOR_BYTES
PACKED_BYTES = K_BLOCK * (PANEL_BLOCK * PANEL_BYTES + 8 * ROW_BLOCK) + ROW_BLOCK * PANEL_BYTES
"""Memory that a thread needs for its packed blocks and a tile, for the wider dtype."""

JOB = np.dtype(
    {
        "names": [
            # Addresses: of `matmul_member`; of a bias, padded to whole vectors, and how many
            # bytes it has room for; of PACKED_BYTES for each thread.
            "member", "bias", "bias_bytes", "packed",
            # Addresses of a (M, K), b (K, N) and out (M, N), which is C-contiguous.
            "a", "b", "out", "m", "n", "k",
            # Distances, in elements, of the rows and columns of a and b.
            "a_row", "a_k", "b_k", "b_column",
        ],
        "formats": [np.int64] * 14,
    }
)  # fmt: skip
"""What a team needs to multiply two matrices."""
_RECORD = from_dtype(JOB)

# Arguments of one type for all calls: a routine would be compiled anew for a literal.
_ZERO, _ONE, _STRIP = np.int64(0), np.int64(1), np.int64(TILE_ROWS)


@inner
def even_block(n, most, multiple):
    """Size of a block, so that few blocks of at most `most` share n evenly."""
    if n <= most:
        return max(multiple, round_up(n, multiple))
    blocks = (n + most - 1) // most
    return round_up((n + blocks - 1) // blocks, multiple)


@inner
def _add_tiles(
    tile, rows, n_tiles, a, ao, a_tile, a_row, a_k, b, bo, b_k, n_k, start, so, s_row, out, oo, ld
):
    """Overwrite tiles of out, one below the other, with start + a @ b.

    Their rows of a begin a_tile apart. Rows of `start` may lie 0 apart: that is the bias.
    """
    for t in range(n_tiles):
        total = load(tile, start, so + t * rows * s_row, s_row)
        at = ao + t * a_tile
        for k in range(n_k):
            total = rank1(total, a, at + k * a_k, a_row, b, bo + k * b_k)
        store(total, out, oo + t * rows * ld, ld)


@routine
def _add_strips(
    vectors, n_tiles, a, ao, a_tile, a_row, a_k, b, bo, b_k, n_k, start, so, s_row, out, oo, ld
):
    """Do `_add_tiles` for tiles of TILE_ROWS rows and some vectors."""
    if vectors == 3:
        _add_tiles(
            zeros(out, TILE_ROWS, 3), TILE_ROWS, n_tiles, a, ao, a_tile, a_row, a_k,
            b, bo, b_k, n_k, start, so, s_row, out, oo, ld,
        )  # fmt: skip
    elif vectors == 2:
        _add_tiles(
            zeros(out, TILE_ROWS, 2), TILE_ROWS, n_tiles, a, ao, a_tile, a_row, a_k,
            b, bo, b_k, n_k, start, so, s_row, out, oo, ld,
        )  # fmt: skip
    else:
        _add_tiles(
            zeros(out, TILE_ROWS, 1), TILE_ROWS, n_tiles, a, ao, a_tile, a_row, a_k,
            b, bo, b_k, n_k, start, so, s_row, out, oo, ld,
        )  # fmt: skip


@routine
def _add_rows(
    vectors, n_rows, a, ao, a_row, a_k, b, bo, b_k, n_k, start, so, s_row, out, oo, ld
):  # fmt: skip
    """Do `_add_tiles` for tiles of a single row and ROW_VECTORS or one vector."""
    if vectors == ROW_VECTORS:
        _add_tiles(
            zeros(out, 1, ROW_VECTORS), 1, n_rows, a, ao, a_row, a_row, a_k,
            b, bo, b_k, n_k, start, so, s_row, out, oo, ld,
        )  # fmt: skip
    else:
        _add_tiles(
            zeros(out, 1, 1), 1, n_rows, a, ao, a_row, a_row, a_k,
            b, bo, b_k, n_k, start, so, s_row, out, oo, ld,
        )  # fmt: skip


@routine
def _strips_in_place(low, high, left, right, a, a_row, a_k, b, b_k, n_k, bias, out, n):
    """Overwrite out[low:high, left:right] in tiles of which the last overlap those before.

    The block has at least TILE_ROWS rows and one vector of columns; b is read by its rows.
    """
    lanes = lanes_of(out)
    # LOOP 1: blocks of rows, so that a comes from far away only once.
    block = even_block(high - low, ROW_BLOCK, TILE_ROWS)
    for start in range(low, high, block):
        last = min(start + block, high)
        first = max(low, min(start, last - TILE_ROWS))
        tiles = (last - first) // TILE_ROWS
        # LOOP 2: columns, as many vectors at once as there are left. LOOP 3: tiles.
        j = left
        while j < right:
            vectors = min(TILE_VECTORS, (right - j + lanes - 1) // lanes)
            if right - left < vectors * lanes:
                vectors -= 1
            j = min(j, right - vectors * lanes)
            _add_strips(
                vectors, tiles, a, first * a_row, TILE_ROWS * a_row, a_row, a_k,
                b, j, b_k, n_k, bias, j, _ZERO, out, first * n + j, n,
            )  # fmt: skip
            if first + tiles * TILE_ROWS < last:
                row = last - TILE_ROWS
                _add_strips(
                    vectors, _ONE, a, row * a_row, _ZERO, a_row, a_k,
                    b, j, b_k, n_k, bias, j, _ZERO, out, row * n + j, n,
                )  # fmt: skip
            j += vectors * lanes


@routine
def _rows_in_place(low, high, left, right, a, a_row, a_k, b, b_k, n_k, bias, out, n):
    """Overwrite out[low:high, left:right], at least one vector wide, row by row."""
    lanes = lanes_of(out)
    rows = high - low
    whole = (right - left) // lanes * lanes
    # LOOP 1: a few rows of b at a time, so that memory is read in order.
    for k in range(0, max(1, n_k), ROW_K_BLOCK):
        terms = min(ROW_K_BLOCK, n_k - k)
        # LOOP 2: columns.
        j = left
        while j < left + whole:
            vectors = ROW_VECTORS if left + whole - j >= ROW_VECTORS * lanes else 1
            start, so, s_row = (bias, j, _ZERO) if k == 0 else (out, low * n + j, n)
            _add_rows(
                vectors, rows, a, low * a_row + k * a_k, a_row, a_k, b, k * b_k + j, b_k, terms,
                start, so, s_row, out, low * n + j, n,
            )  # fmt: skip
            j += vectors * lanes
    if left + whole < right:  # overlaps columns that are complete, and gives them the same bits
        j = right - lanes
        _add_rows(
            _ONE, rows, a, low * a_row, a_row, a_k, b, j, b_k, n_k,
            bias, j, _ZERO, out, low * n + j, n,
        )  # fmt: skip


@routine
def _copy(rows, columns, source, s, s_row, target, t, t_row):
    """Overwrite a block of target with one of source."""
    for r in range(rows):
        for c in range(columns):
            target[t + r * t_row + c] = source[s + r * s_row + c]


@routine
def _add_packed(
    rows, columns, width, a, ao, strip, a_row, a_k, b, bo, n_k,
    is_first, bias, j, out, oo, n, scratch,
):  # fmt: skip
    """Add a block of a times a packed panel of b to out; begin with the bias.

    Where tiles are larger than the block they are computed in the scratch memory.
    """
    vectors, tiles = width // lanes_of(out), (rows + TILE_ROWS - 1) // TILE_ROWS
    whole = columns == width and rows == tiles * TILE_ROWS
    target, to, ld = (out, oo, n) if whole else (scratch, _ZERO, width)
    if not whole and not is_first:
        _copy(rows, columns, out, oo, n, scratch, _ZERO, width)
    start, so, s_row = (bias, j, _ZERO) if is_first else (target, to, ld)
    _add_strips(
        vectors, tiles, a, ao, strip, a_row, a_k,
        b, bo, width, n_k, start, so, s_row, target, to, ld,
    )  # fmt: skip
    if not whole:
        _copy(rows, columns, scratch, _ZERO, width, out, oo, n)


@routine
def _pack_strips(a, ao, a_row, a_k, rows, n_k, packed, p):
    """Pack rows of a in strips, one after the other."""
    for i in range(0, rows, TILE_ROWS):
        size = min(TILE_ROWS, rows - i)
        pack(a, ao + i * a_row, a_row, a_k, size, n_k, packed, p + i * n_k, _STRIP)


@routine
def _multiply_blocked(
    low, high, left, right, a, a_row, a_k, b, b_k, b_column, n_k, bias, out, n, packed
):
    """Overwrite out[low:high, left:right]; `packed` has room for PACKED_BYTES."""
    lanes = lanes_of(out)
    panel = TILE_VECTORS * lanes
    k_block = even_block(n_k, K_BLOCK, lanes)
    pack_from = (PACK_ROWS_PANELS if a_k == 1 else PACK_COLUMNS_PANELS) * panel
    row_block = even_block(high - low, ROW_BLOCK, TILE_ROWS)
    packed_b = packed[ROW_BLOCK * panel :]
    packed_a = packed_b[K_BLOCK * PANEL_BLOCK * panel :]
    # LOOP 1: columns, in blocks for the third-level cache.
    for column in range(left, right, PANEL_BLOCK * panel):
        columns = min(PANEL_BLOCK * panel, right - column)
        # LOOP 2: terms of the sums.
        for k in range(0, max(1, n_k), k_block):
            terms = min(k_block, n_k - k)
            for j in range(0, columns, panel):
                size = min(panel, columns - j)
                bo = (column + j) * b_column + k * b_k
                pack(b, bo, b_column, b_k, size, terms, packed_b, j * terms, round_up(size, lanes))
            # LOOP 3: rows, in blocks for the second-level cache.
            for row in range(low, high, row_block):
                rows = min(row_block, high - row)
                inside = rows // TILE_ROWS * TILE_ROWS
                ao, edge = row * a_row + k * a_k, _ZERO
                source, so, strip, s_row, s_k = a, ao, TILE_ROWS * a_row, a_row, a_k
                if columns > pack_from:
                    edge = inside * terms
                    _pack_strips(a, ao, a_row, a_k, inside, terms, packed_a, _ZERO)
                    source, so, strip, s_row, s_k = packed_a, _ZERO, _STRIP * terms, _ONE, _STRIP
                _pack_strips(
                    a, ao + inside * a_row, a_row, a_k, rows - inside, terms, packed_a, edge
                )
                # LOOP 4: panels of columns, for the first-level cache; in them LOOP 5: tiles.
                for j in range(0, columns, panel):
                    size = min(panel, columns - j)
                    width, oo = round_up(size, lanes), row * n + column + j
                    _add_packed(
                        inside, size, width, source, so, strip, s_row, s_k,
                        packed_b, j * terms, terms, k == 0, bias, column + j, out, oo, n, packed,
                    )  # fmt: skip
                    if inside < rows:
                        _add_packed(
                            rows - inside, size, width, packed_a, edge, _ZERO, _ONE, _STRIP,
                            packed_b, j * terms, terms, k == 0, bias, column + j,
                            out, oo + inside * n, n, packed,
                        )  # fmt: skip


# Sharing out.


@inner
def _grid_rows(m, n, lanes, n_threads):
    """Number of rows of the grid of threads that leaves the least work to any of them.

    A thread's work is its block of out, and the packing of its rows of a and its columns of b.
    """
    best, best_cost = 1, -1
    for grid_rows in range(1, n_threads + 1):
        if n_threads % grid_rows == 0:
            rows = round_up((m + grid_rows - 1) // grid_rows, TILE_ROWS)
            grid_columns = n_threads // grid_rows
            columns = round_up((n + grid_columns - 1) // grid_columns, lanes)
            cost = rows * columns + PACKING_COST * (rows + columns)
            if best_cost < 0 or cost < best_cost:
                best, best_cost = grid_rows, cost
    return best


@inner
def _share(size, unit, part, parts):
    """Low and high end of a part of `size` things, cut at multiples of `unit`."""
    units = (size + unit - 1) // unit
    return units * part // parts * unit, min(size, units * (part + 1) // parts * unit)


@functools.cache
def matmul_member(dtype):
    """Compile the product of matrices of a dtype; return the address for a team and `JOB`."""
    number = dtype.type

    def multiply_share(thread, n_threads, sync, job_address):
        job = vector_at(job_address, _RECORD)[0]
        m, n, n_k = job.m, job.n, job.k
        a, b, out = vector_at(job.a, number), vector_at(job.b, number), vector_at(job.out, number)
        bias = vector_at(job.bias, number)
        packed = vector_at(job.packed + thread * PACKED_BYTES, number)
        lanes = lanes_of(out)
        low, high, left, right = np.int64(0), m, np.int64(0), n
        if n_threads > 1:
            grid_rows = _grid_rows(m, n, lanes, n_threads)
            grid_columns = n_threads // grid_rows
            low, high = _share(m, TILE_ROWS, thread // grid_columns, grid_rows)
            left, right = _share(n, lanes, thread % grid_columns, grid_columns)
        if low >= high or left >= right:
            return
        b_bytes = n_k * (right - left) * out.itemsize
        by_vectors = job.b_column == 1 and right - left >= lanes
        ragged = lanes < right - left < TILE_VECTORS * lanes and (right - left) % lanes != 0
        if by_vectors and high - low < TILE_ROWS:
            _rows_in_place(
                low, high, left, right, a, job.a_row, job.a_k, b, job.b_k, n_k, bias, out, n
            )
        elif by_vectors and (
            high - low <= IN_PLACE_ROWS
            or (b_bytes <= IN_PLACE_BYTES and not (ragged and n_k >= RAGGED_TERMS))
        ):
            _strips_in_place(
                low, high, left, right, a, job.a_row, job.a_k, b, job.b_k, n_k, bias, out, n
            )
        else:
            _multiply_blocked(
                low, high, left, right, a, job.a_row, job.a_k, b, job.b_k, job.b_column, n_k,
                bias, out, n, packed,
            )  # fmt: skip

    return member(multiply_share)


@inner
def _is_fit(array):
    """Whether elements are aligned and whole elements apart."""
    rows, columns = array.strides
    return (np.int64(array.ctypes.data) | rows | columns) % array.itemsize == 0


@inner
def _bounds(array):
    """First address of a matrix' bytes, and the one behind its last."""
    low = high = np.int64(array.ctypes.data)
    for d in range(2):
        extent = array.strides[d] * (array.shape[d] - 1)
        low += min(extent, 0)
        high += max(extent, 0)
    return low, high + array.itemsize


@inner
def _may_overlap(out, array):
    low, high = _bounds(array)
    out_low, out_high = _bounds(out)
    return array.size > 0 and low < out_high and out_low < high


UNFIT, DONE, FOR_A_TEAM, NO_ROOM = range(4)
"""What `multiply` answers."""


@kernel
def multiply(a, b, out, job_address, has_bias, alone_below):
    """Overwrite out with a @ b + bias, or only prepare the job for a team.

    Parameters
    ----------
    a, b, out : ndarray
        Two-dimensional, of one dtype. Shapes, alignment and shared memory are checked here, but
        not that out is C-contiguous, aligned and writeable.
    job_address : int
        Of a `JOB` with addresses of the member and of memory; the rest is filled in.
    has_bias : int
        Whether the bias is in its place. It is padded with zeros.
    alone_below : int
        From so much work on, multiply-adds times bytes of an element, it is left to a team.

    Returns
    -------
    int
        DONE; FOR_A_TEAM, with a job that is ready for it; UNFIT where the arrays are not fit for
        it, and NO_ROOM where the bias has none: nothing was done.
    """
    m, n_k = a.shape
    n = b.shape[1]
    if b.shape[0] != n_k or out.shape[0] != m or out.shape[1] != n or out.size == 0:
        return UNFIT
    if not (_is_fit(a) and _is_fit(b)) or _may_overlap(out, a) or _may_overlap(out, b):
        return UNFIT
    job = vector_at(job_address, _RECORD)[0]
    padded = round_up(n, lanes_of(out))
    if padded * out.itemsize > job.bias_bytes:
        return NO_ROOM
    bias = vector_at(job.bias, out.dtype.type)
    for j in range(n if has_bias else 0, padded):
        bias[j] = out.dtype.type(0)
    job.a, job.b, job.out = a.ctypes.data, b.ctypes.data, out.ctypes.data
    job.m, job.n, job.k = m, n, n_k
    job.a_row, job.a_k = a.strides[0] // a.itemsize, a.strides[1] // a.itemsize
    job.b_k, job.b_column = b.strides[0] // b.itemsize, b.strides[1] // b.itemsize
    if m * n * n_k * out.itemsize >= alone_below:
        return FOR_A_TEAM
    call(job.member, (0, 1, 0, job_address))
    return DONE
