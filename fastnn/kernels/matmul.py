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
from typing import NamedTuple

import numpy as np
from numba import from_dtype

from fastnn.kernels.calls import call
from fastnn.kernels.memory import vector_at
from fastnn.kernels.packing import Matrix, matrix_from, pack, transposed
from fastnn.kernels.panels import round_up
from fastnn.kernels.tile import (
    TILE_ROWS,
    TILE_VECTORS,
    VECTOR_BYTES,
    by_width,
    dot,
    lanes_of,
    load,
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

# Of `matmul_member`; of a bias, padded to whole vectors; of PACKED_BYTES for each thread; of
# a (M, K) and b (K, N); of out (M, N), which is C-contiguous.
_ADDRESSES = ["member", "bias", "packed", "a", "b", "out"]
# Bytes that the bias has room for; sizes of the matrices.
_SIZES = ["bias_bytes", "m", "n", "k"]
# Of the rows and the columns of a and of b, in elements.
_DISTANCES = ["a_row", "a_k", "b_k", "b_column"]
JOB = np.dtype([(name, np.int64) for name in (*_ADDRESSES, *_SIZES, *_DISTANCES)])
"""What a team needs to multiply two matrices."""
_RECORD = from_dtype(JOB)

# Arguments of one type for all calls: a routine would be compiled anew for a literal.
_ZERO, _ONE, _STRIP = np.int64(0), np.int64(1), np.int64(TILE_ROWS)


class Product(NamedTuple):
    """out = start + a @ b, or a block of it, or some of the terms of its sums.

    a is (m, n_k), b (n_k, n). The sums start with the bias, all of whose rows are the same memory,
    or with what is in out already. Rows of `start` and of `out` are contiguous.
    """

    m: int
    n: int
    n_k: int
    a: Matrix
    b: Matrix
    start: Matrix
    out: Matrix


@inner
def _by_rows(data, at, row):
    """Return a matrix with contiguous rows, which lie `row` apart."""
    return Matrix(data, at, row, _ONE)


@inner
def _block(p, i, j, m, n):
    """Return the part of a product that computes out[i : i + m, j : j + n]."""
    a, b = matrix_from(p.a, i, _ZERO), matrix_from(p.b, _ZERO, j)
    return Product(m, n, p.n_k, a, b, matrix_from(p.start, i, j), matrix_from(p.out, i, j))


@inner
def _terms(p, k, n_k):
    """Return the part of a product that adds the terms [k, k + n_k) of its sums."""
    a, b = matrix_from(p.a, _ZERO, k), matrix_from(p.b, k, _ZERO)
    return Product(p.m, p.n, n_k, a, b, p.start if k == 0 else p.out, p.out)


@inner
def even_block(n, most, multiple):
    """Size of a block, so that few blocks of at most `most` share n evenly."""
    if n <= most:
        return max(multiple, round_up(n, multiple))
    blocks = (n + most - 1) // most
    return round_up((n + blocks - 1) // blocks, multiple)


@inner
def _add_tiles(tile, rows, a_step, p):
    """Compute a product, as wide as a tile, in tiles of `rows` rows, one below the other.

    Their rows of a begin a_step apart. The last tile is whole, even if p.m is no multiple of rows.
    """
    a, b, start, out = p.a, p.b, p.start, p.out
    for t in range((p.m + rows - 1) // rows):
        total = load(tile, start.data, start.at + t * rows * start.row, start.row)
        at = a.at + t * a_step
        total = dot(total, p.n_k, a.data, at, a.row, a.column, b.data, b.at, b.row)
        store(total, out.data, out.at + t * rows * out.row, out.row)


_add_any_tiles = by_width(_add_tiles, TILE_ROWS)


@routine
def _add_strips(vectors, a_step, p):
    """Do `_add_tiles` for tiles of TILE_ROWS rows and some vectors."""
    _add_any_tiles(vectors, p.out.data, TILE_ROWS, a_step, p)


@inner
def _add_rows(vectors, p):
    """Do `_add_tiles` for tiles of a single row and ROW_VECTORS or one vector."""
    if vectors == ROW_VECTORS:
        _add_tiles(zeros(p.out.data, 1, ROW_VECTORS), 1, p.a.row, p)
    else:
        _add_tiles(zeros(p.out.data, 1, 1), 1, p.a.row, p)


@inner
def _strips_in_place(p):
    """Compute a product in tiles of which the last overlap those before.

    It has at least TILE_ROWS rows and one vector of columns; rows of b are contiguous.
    """
    lanes, a_step = lanes_of(p.out.data), TILE_ROWS * p.a.row
    # LOOP 1: blocks of rows, so that a comes from far away only once.
    block = even_block(p.m, ROW_BLOCK, TILE_ROWS)
    for low in range(0, p.m, block):
        high = min(low + block, p.m)
        first = max(0, min(low, high - TILE_ROWS))
        inside = (high - first) // TILE_ROWS * TILE_ROWS
        # LOOP 2: columns, as many vectors at once as there are left. LOOP 3: tiles.
        j = 0
        while j < p.n:
            vectors = min(TILE_VECTORS, (p.n - j + lanes - 1) // lanes)
            if p.n < vectors * lanes:
                vectors -= 1
            width = vectors * lanes
            j = min(j, p.n - width)
            _add_strips(vectors, a_step, _block(p, first, j, inside, width))
            if first + inside < high:
                _add_strips(vectors, a_step, _block(p, high - TILE_ROWS, j, _STRIP, width))
            j += width


@inner
def _rows_in_place(p):
    """Compute a product, at least one vector wide, row by row; rows of b are contiguous."""
    lanes = lanes_of(p.out.data)
    whole = p.n // lanes * lanes
    # LOOP 1: a few rows of b at a time, so that memory is read in order; for one tile, all.
    block = p.n_k if p.m == 1 and whole == ROW_VECTORS * lanes else ROW_K_BLOCK
    for k in range(0, max(1, p.n_k), max(1, block)):
        part = _terms(p, k, min(block, p.n_k - k))
        # LOOP 2: columns. LOOP 3: rows.
        j = _ZERO
        while j < whole:
            vectors = ROW_VECTORS if whole - j >= ROW_VECTORS * lanes else 1
            _add_rows(vectors, _block(part, _ZERO, j, p.m, vectors * lanes))
            j += vectors * lanes
    if whole < p.n:  # overlaps columns that are complete, and gives them the same bits
        _add_rows(_ONE, _block(p, _ZERO, p.n - lanes, p.m, lanes))


@routine
def _copy(rows, columns, source, target):
    """Overwrite a block of a matrix with one of another; the rows of both are contiguous."""
    for r in range(rows):
        at, to = source.at + r * source.row, target.at + r * target.row
        for c in range(columns):
            target.data[to + c] = source.data[at + c]


@routine
def _add_packed(a_step, p, scratch):
    """Compute a product whose b is a packed panel, and whose strips of a begin a_step apart.

    Where tiles are larger than out they are computed in the scratch memory.
    """
    width, rows = p.b.row, round_up(p.m, TILE_ROWS)
    is_whole, is_bias = p.n == width and p.m == rows, p.start.row == 0
    out = p.out if is_whole else _by_rows(scratch, _ZERO, width)
    if not is_whole and not is_bias:
        _copy(p.m, p.n, p.out, out)
    start = p.start if is_bias else out
    tiles = Product(rows, width, p.n_k, p.a, p.b, start, out)
    _add_strips(width // lanes_of(scratch), a_step, tiles)
    if not is_whole:
        _copy(p.m, p.n, out, p.out)


@inner
def _pack_strips(a, rows, n_k, packed, at):
    """Pack rows of a in strips, one after the other."""
    for i in range(0, rows, TILE_ROWS):
        strip, size = matrix_from(a, i, _ZERO), min(TILE_ROWS, rows - i)
        pack(strip, size, n_k, packed, at + i * n_k, _STRIP)


@inner
def _pack_panels(b, n_k, columns, packed, at):
    """Pack columns of b in panels, one after the other."""
    lanes = lanes_of(packed)
    panel = TILE_VECTORS * lanes
    for j in range(0, columns, panel):
        size, strip = min(panel, columns - j), transposed(matrix_from(b, _ZERO, j))
        pack(strip, size, n_k, packed, at + j * n_k, round_up(size, lanes))


@inner
def _multiply_packed(p, packed):
    """Compute a product of a block of rows, whose panels of b are packed already."""
    lanes, n_k = lanes_of(packed), p.n_k
    panel = TILE_VECTORS * lanes
    b_at = ROW_BLOCK * panel
    a_at = b_at + K_BLOCK * PANEL_BLOCK * panel
    inside = p.m // TILE_ROWS * TILE_ROWS
    # Where b has few panels, only the last rows are packed, which fill no strip.
    most_panels = PACK_ROWS_PANELS if p.a.column == 1 else PACK_COLUMNS_PANELS
    first = 0 if p.n > most_panels * panel else inside
    _pack_strips(matrix_from(p.a, first, _ZERO), p.m - first, n_k, packed, a_at)
    a, a_step, last = p.a, TILE_ROWS * p.a.row, Matrix(packed, a_at, _ONE, _STRIP)
    if first < inside:
        a, a_step, last = last, _STRIP * n_k, matrix_from(last, inside * n_k, _ZERO)
    # LOOP 4: panels of columns, for the first-level cache; in them LOOP 5: tiles.
    for j in range(0, p.n, panel):
        size = min(panel, p.n - j)
        b = _by_rows(packed, b_at + j * n_k, round_up(size, lanes))
        start, out = matrix_from(p.start, _ZERO, j), matrix_from(p.out, _ZERO, j)
        _add_packed(a_step, Product(inside, size, n_k, a, b, start, out), packed)
        if inside < p.m:
            start, out = matrix_from(start, inside, _ZERO), matrix_from(out, inside, _ZERO)
            _add_packed(_ZERO, Product(p.m - inside, size, n_k, last, b, start, out), packed)


@inner
def _multiply_blocked(p, packed):
    """Compute a product; `packed` has room for a tile and packed blocks, PACKED_BYTES."""
    lanes = lanes_of(packed)
    panel = TILE_VECTORS * lanes
    k_block = even_block(p.n_k, K_BLOCK, lanes)
    row_block = even_block(p.m, ROW_BLOCK, TILE_ROWS)
    # LOOP 1: columns, in blocks for the third-level cache.
    for j in range(0, p.n, PANEL_BLOCK * panel):
        columns = min(PANEL_BLOCK * panel, p.n - j)
        # LOOP 2: terms of the sums.
        for k in range(0, max(1, p.n_k), k_block):
            part = _block(_terms(p, k, min(k_block, p.n_k - k)), _ZERO, j, p.m, columns)
            _pack_panels(part.b, part.n_k, columns, packed, ROW_BLOCK * panel)
            # LOOP 3: rows, in blocks for the second-level cache.
            for i in range(0, p.m, row_block):
                rows = min(row_block, p.m - i)
                _multiply_packed(_block(part, i, _ZERO, rows, columns), packed)


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


@inner
def _share_of(p, thread, n_threads):
    """Return the part of a product that one of some threads computes; it may be empty."""
    lanes = lanes_of(p.out.data)
    grid_rows = _grid_rows(p.m, p.n, lanes, n_threads)
    grid_columns = n_threads // grid_rows
    low, high = _share(p.m, _STRIP, thread // grid_columns, grid_rows)
    left, right = _share(p.n, lanes, thread % grid_columns, grid_columns)
    return _block(p, low, left, high - low, right - left)


@functools.cache
def matmul_member(dtype):
    """Compile the product of matrices of a dtype; return the address for a team and `JOB`."""
    number = dtype.type

    def multiply_share(thread, n_threads, sync, job_address):
        job = vector_at(job_address, _RECORD)[0]
        a = Matrix(vector_at(job.a, number), _ZERO, job.a_row, job.a_k)
        b = Matrix(vector_at(job.b, number), _ZERO, job.b_k, job.b_column)
        bias = _by_rows(vector_at(job.bias, number), _ZERO, _ZERO)
        out = _by_rows(vector_at(job.out, number), _ZERO, job.n)
        p = Product(job.m, job.n, job.k, a, b, bias, out)
        if n_threads > 1:
            p = _share_of(p, thread, n_threads)
        if p.m <= 0 or p.n <= 0:
            return
        packed = vector_at(job.packed + thread * PACKED_BYTES, number)
        lanes = lanes_of(packed)
        b_bytes = p.n_k * p.n * packed.itemsize
        by_vectors = p.b.column == 1 and p.n >= lanes
        ragged = lanes < p.n < TILE_VECTORS * lanes and p.n % lanes != 0
        if by_vectors and p.m < TILE_ROWS:
            _rows_in_place(p)
        elif by_vectors and (
            p.m <= IN_PLACE_ROWS
            or (b_bytes <= IN_PLACE_BYTES and not (ragged and p.n_k >= RAGGED_TERMS))
        ):
            _strips_in_place(p)
        else:
            _multiply_blocked(p, packed)

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
