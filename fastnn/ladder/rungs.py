"""The rungs: one product, out = x @ w, from the naive loop to a register tile.

Read it from top to bottom: each loop changes one thing in the one above. Shapes are x (B, I),
w (I, O), out (B, O), all C-contiguous, and every loop overwrites out. `LADDER` at the end says in
two sentences what each of them is about.
"""

import contextlib
import dataclasses
import inspect
from collections.abc import Callable

import numba
import numpy as np
from numba import prange

from fastnn.kernels.memory import aligned_zeros
from fastnn.kernels.packing import pack
from fastnn.kernels.tile import (
    TILE_ROWS,
    TILE_VECTORS,
    VECTOR_BYTES,
    lanes_of,
    load,
    load_row,
    rank1,
    relu,
    store,
    zeros,
)
from fastnn.linalg import matmul
from fastnn.runtime import threads
from fastnn.runtime.jit import inner, kernel, parallel_kernel, reduction, routine

ROW_BLOCK = 64
"""Most rows of out that a thread does in one go. Whole tiles."""
K_BLOCK = 128
"""Terms of a sum in one go."""
COLUMN_BLOCK = 128
"""Columns of w in one go: with K_BLOCK rows, 64 KiB in float32 stay in the second-level cache."""
PANEL_TERMS = 256
"""Terms in one go where w is packed: a panel stays in the first-level cache."""


def pure_python(x, w, out):
    """Lists of lists, and no compiler."""
    for i in range(len(x)):
        for j in range(len(w[0])):
            total = 0.0
            for k in range(len(w)):
                total += x[i][k] * w[k][j]
            out[i][j] = total


@kernel
def ijk(x, w, out):
    """The definition: each element of out is a dot product."""
    for i in range(x.shape[0]):
        for j in range(w.shape[1]):
            total = out.dtype.type(0)
            for k in range(w.shape[0]):
                total += x[i, k] * w[k, j]
            out[i, j] = total


@kernel
def ikj(x, w, out):
    """The two inner loops swapped: rows of w are added to a row of out."""
    for i in range(x.shape[0]):
        for j in range(w.shape[1]):
            out[i, j] = 0
        for k in range(w.shape[0]):
            for j in range(w.shape[1]):
                out[i, j] += x[i, k] * w[k, j]


@reduction  # the compiler may add up in another order, eight partial sums at a time
def _dot(x, i, wt, j):
    total = x.dtype.type(0)
    for k in range(x.shape[1]):
        total += x[i, k] * wt[j, k]
    return total


@kernel
def transposed(x, w, out, wt):
    """Dot products again, of rows alone: w is transposed to wt (O, I) first."""
    for k in range(w.shape[0]):
        for j in range(w.shape[1]):
            wt[j, k] = w[k, j]
    for i in range(x.shape[0]):
        for j in range(w.shape[1]):
            out[i, j] = _dot(x, i, wt, j)


@parallel_kernel
def parallel(x, w, out):
    """The loop `ikj` with `parallel=True`: threads share out the rows."""
    for i in prange(x.shape[0]):
        for j in range(w.shape[1]):
            out[i, j] = 0
        for k in range(w.shape[0]):
            for j in range(w.shape[1]):
                out[i, j] += x[i, k] * w[k, j]


@routine
def _add_block(low, high, first, last, left, right, x, w, out):
    """Accumulate the terms [first, last) of out[low:high, left:right]."""
    for i in range(low, high):
        total = out[i, left:right]
        for k in range(first, last):
            factor, row = x[i, k], w[k, left:right]
            for j in range(len(row)):
                total[j] += factor * row[j]


@parallel_kernel
def blocked(x, w, out, rows):
    """The same, for a block of w at a time: it is used for many rows while it is in the cache."""
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
                _add_block(low, high, first, last, left, right, x, w, out)


# From here on arrays are flat, because a tile is loaded and stored at an offset.


@inner
def _add_tile(tile, n_k, n_inputs, n_outputs, x, xo, w, wo, out, oo):
    """Accumulate n_k terms of a tile of out."""
    tile = load(tile, out, oo, n_outputs)
    for k in range(n_k):
        # tile[r, :] += x[r, k] * w[k, :], for all of its rows r
        tile = rank1(tile, x, xo + k, n_inputs, w, wo + k * n_outputs)
    store(tile, out, oo, n_outputs)


@routine
def _add_column(j, low, high, first, last, n_inputs, n_outputs, x, w, out):
    """Accumulate out[low:high, j], for what is left beside whole vectors."""
    for i in range(low, high):
        for k in range(first, last):
            out[i * n_outputs + j] += x[i * n_inputs + k] * w[k * n_outputs + j]


@routine
def _add_tiles(low, high, first, last, n_inputs, n_outputs, x, w, out):
    """Accumulate the terms [first, last) of out[low:high], in tiles as large as there is room."""
    lanes, n_k = lanes_of(out), last - first
    j = 0
    while j + lanes <= n_outputs:
        is_wide = j + TILE_VECTORS * lanes <= n_outputs
        i = low
        while i < high:
            is_high = i + TILE_ROWS <= high
            xo, wo, oo = i * n_inputs + first, first * n_outputs + j, i * n_outputs + j
            if is_high and is_wide:
                _add_tile(
                    zeros(out, TILE_ROWS, TILE_VECTORS), n_k, n_inputs, n_outputs,
                    x, xo, w, wo, out, oo,
                )  # fmt: skip
            elif is_high:
                _add_tile(zeros(out, TILE_ROWS, 1), n_k, n_inputs, n_outputs, x, xo, w, wo, out, oo)
            elif is_wide:
                _add_tile(
                    zeros(out, 1, TILE_VECTORS), n_k, n_inputs, n_outputs, x, xo, w, wo, out, oo
                )
            else:
                _add_tile(zeros(out, 1, 1), n_k, n_inputs, n_outputs, x, xo, w, wo, out, oo)
            i += TILE_ROWS if is_high else 1
        j += TILE_VECTORS * lanes if is_wide else lanes
    for column in range(j, n_outputs):
        _add_column(column, low, high, first, last, n_inputs, n_outputs, x, w, out)


@parallel_kernel
def tiled(n_rows, n_inputs, n_outputs, x, w, out, rows):
    """Tiles of out that stay in registers while terms are added to them."""
    for block in prange((n_rows + rows - 1) // rows):
        low = np.int64(block) * rows
        high = min(low + rows, n_rows)
        for place in range(low * n_outputs, high * n_outputs):
            out[place] = 0
        for first in range(0, n_inputs, PANEL_TERMS):
            last = min(first + PANEL_TERMS, n_inputs)
            _add_tiles(low, high, first, last, n_inputs, n_outputs, x, w, out)


@inner
def _fused_tile(tile, first, last, n_inputs, x, xo, packed, po, width, bias, bo, out, oo, ld):
    # The bias is where the sum begins.
    tile = load_row(tile, bias, bo) if first == 0 else load(tile, out, oo, ld)
    for k in range(first, last):
        tile = rank1(tile, x, xo + k, n_inputs, packed, po + k * width)
    if last == n_inputs:
        tile = relu(tile)  # the activation is applied before the sum leaves the registers
    store(tile, out, oo, ld)


@routine
def _fused_rows(low, high, first, last, n_inputs, n_outputs, x, packed, bias, out):
    lanes = lanes_of(out)
    panel = TILE_VECTORS * lanes
    for j in range(0, n_outputs, panel):
        width = min(panel, n_outputs - j)
        for i in range(low, high, TILE_ROWS):
            xo, po, oo = i * n_inputs, j * n_inputs, i * n_outputs + j
            if width == 3 * lanes:
                _fused_tile(
                    zeros(out, TILE_ROWS, 3), first, last, n_inputs, x, xo,
                    packed, po, width, bias, j, out, oo, n_outputs,
                )  # fmt: skip
            elif width == 2 * lanes:
                _fused_tile(
                    zeros(out, TILE_ROWS, 2), first, last, n_inputs, x, xo,
                    packed, po, width, bias, j, out, oo, n_outputs,
                )  # fmt: skip
            else:
                _fused_tile(
                    zeros(out, TILE_ROWS, 1), first, last, n_inputs, x, xo,
                    packed, po, width, bias, j, out, oo, n_outputs,
                )  # fmt: skip


@parallel_kernel
def fused(n_rows, n_inputs, n_outputs, n_columns, x, w, bias, out, packed, rows):
    """Overwrite out with relu(x @ w + bias) in one go, with w packed into panels.

    x, bias and out have rows and columns up to whole tiles, n_rows and n_outputs of them: so it is
    in a net, whose own memory that is. w has n_columns.
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
            _fused_rows(low, high, first, last, n_inputs, n_outputs, x, packed, bias, out)


# How each of them is called.


@dataclasses.dataclass(frozen=True)
class Product:
    """What is to be computed, on how many threads.

    Attributes
    ----------
    x : ndarray (B, I)
    w : ndarray (I, O)
    bias : ndarray (O,)
        All of one dtype, float32 or float64; of any strides, and read-only if they like.
    n_threads : int
    """

    x: np.ndarray
    w: np.ndarray
    bias: np.ndarray
    n_threads: int = 1

    @property
    def shape(self):
        """(B, I, O)."""
        return (*self.x.shape, self.w.shape[1])

    def exact(self, fused=False):
        """Return the product in float64, or relu(x @ w + bias)."""
        out = self.x.astype(np.float64) @ self.w.astype(np.float64)
        return np.maximum(out + self.bias, 0) if fused else out


@dataclasses.dataclass(frozen=True)
class Ready:
    """A loop with its arguments: `call` computes, `result` returns what came out (B, O)."""

    call: Callable[[], object]
    result: Callable[[], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Rung:
    """A way to compute the product.

    Attributes
    ----------
    name : str
        By which results are filed.
    title : str
    about : str
        What it changes and why that helps, in two sentences.
    gain : str
        Why it is faster than the rung below, in a few words.
    prepare : callable
        Takes a `Product`, returns a `Ready`. Memory that is needed is made here.
    code : tuple of callable
        The functions that show how it works.
    threaded : bool
        Whether it runs on more than one thread.
    fused : bool
        Whether it computes relu(x @ w + bias).
    blas : bool
        Whether it runs on the threads of BLAS.
    most_work : float
        Multiply-adds above which it is not measured.
    """

    name: str
    title: str
    about: str
    gain: str
    prepare: Callable[[Product], Ready]
    code: tuple[Callable, ...] = ()
    threaded: bool = False
    fused: bool = False
    blas: bool = False
    most_work: float = float("inf")

    def source(self):
        """Return the text of its functions."""
        parts = [getattr(function, "py_func", function) for function in self.code]
        return "\n\n".join(inspect.getsource(part).rstrip() for part in parts)


@contextlib.contextmanager
def numba_threads(n_threads):
    """Let Numba's parallel loops run on so many threads."""
    before = numba.get_num_threads()
    numba.set_num_threads(n_threads)
    try:
        yield
    finally:
        numba.set_num_threads(before)


def _plain(array):
    """Return a C-contiguous, writeable array: each other kind would be compiled anew."""
    return np.require(array, requirements=["C", "A", "W"])


def _poisoned(product, rows=None, columns=None):
    """Return memory for out, full of NaN, so that what is not written is found."""
    n_rows, _, n_outputs = product.shape
    return np.full((rows or n_rows, columns or n_outputs), np.nan, product.x.dtype)


def _rows_at_once(product):
    """Rows in a block, so that each thread has one. Whole tiles."""
    share = -(-product.shape[0] // product.n_threads)
    return min(ROW_BLOCK, -(-share // TILE_ROWS) * TILE_ROWS)


def _shared_out(loop, product, *arguments):
    """Return a function that calls a parallel loop within Numba's threading layer."""

    def call():
        with threads.parallel_region(product.n_threads):
            loop(*arguments)

    return call


def _prepare_python(product):
    x, w, out = product.x.tolist(), product.w.tolist(), _poisoned(product)
    rows = out.tolist()
    return Ready(lambda: pure_python(x, w, rows), lambda: np.array(rows, out.dtype))


def serial(loop):
    """Return how to prepare a loop (x, w, out), for a `Rung`."""

    def prepare(product):
        x, w, out = _plain(product.x), _plain(product.w), _poisoned(product)
        return Ready(lambda: loop(x, w, out), lambda: out)

    return prepare


def _prepare_transposed(product):
    x, w, out = _plain(product.x), _plain(product.w), _poisoned(product)
    wt = np.empty(w.shape[::-1], w.dtype)
    return Ready(lambda: transposed(x, w, out, wt), lambda: out)


def _prepare_parallel(product):
    x, w, out = _plain(product.x), _plain(product.w), _poisoned(product)
    return Ready(_shared_out(parallel, product, x, w, out), lambda: out)


def _prepare_blocked(product):
    x, w, out = _plain(product.x), _plain(product.w), _poisoned(product)
    return Ready(_shared_out(blocked, product, x, w, out, _rows_at_once(product)), lambda: out)


def _prepare_tiled(product):
    x, w, out = _plain(product.x), _plain(product.w), _poisoned(product)
    flat = (part.reshape(-1) for part in (x, w, out))
    call = _shared_out(tiled, product, *product.shape, *flat, _rows_at_once(product))
    return Ready(call, lambda: out)


def _prepare_packed(product):
    x, w, out = product.x, product.w, _poisoned(product)
    return Ready(lambda: matmul(x, w, out=out, n_threads=product.n_threads), lambda: out)


def _prepare_fused(product):
    n_rows, n_inputs, n_columns = product.shape
    dtype = product.x.dtype
    lanes = VECTOR_BYTES // dtype.itemsize
    rows, columns = -(-n_rows // TILE_ROWS) * TILE_ROWS, -(-n_columns // lanes) * lanes
    x, bias = np.zeros((rows, n_inputs), dtype), np.zeros(columns, dtype)
    x[:n_rows], bias[:n_columns] = product.x, product.bias
    out = _poisoned(product, rows, columns)
    packed = aligned_zeros(n_inputs * columns, dtype)
    call = _shared_out(
        fused,
        product,
        *(rows, n_inputs, columns, n_columns),
        *(x.reshape(-1), _plain(product.w).reshape(-1), bias, out.reshape(-1), packed),
        _rows_at_once(product),
    )
    return Ready(call, lambda: out[:n_rows, :n_columns])


def _prepare_blas(product):
    x, w, out = product.x, product.w, _poisoned(product)
    return Ready(lambda: np.matmul(x, w, out=out), lambda: out)


def _prepare_blas_fused(product):
    x, w, bias, out = product.x, product.w, product.bias, _poisoned(product)

    def call():
        np.matmul(x, w, out=out)
        np.add(out, bias, out=out)
        np.maximum(out, 0, out=out)

    return Ready(call, lambda: out)


LADDER = (
    Rung(
        "python",
        "pure Python",
        "Three loops over lists of numbers, run by the interpreter. Each multiply-add costs some "
        "dozens of nanoseconds, in which numbers are unpacked, types are looked up and new objects "
        "are made.",
        "",
        _prepare_python,
        (pure_python,),
        most_work=3e5,
    ),
    Rung(
        "ijk",
        "naive loop (ijk)",
        "The same three loops, compiled by Numba to machine code. Each sum waits for its last "
        "multiply-add before the next one, and w is read down its columns, so that of each cache "
        "line that is fetched a single number is used.",
        "compiled code works on numbers, not on objects",
        serial(ijk),
        (ijk,),
    ),
    Rung(
        "ikj",
        "loops swapped (ikj)",
        "The two inner loops change places, so that w and out are both read along their rows. Now "
        "the compiler can do the innermost loop in SIMD vectors, and whole cache lines are used.",
        "rows are read in order, in SIMD vectors",
        serial(ikj),
        (ikj,),
    ),
    Rung(
        "transposed",
        "transposed dot product",
        "w is transposed first, and each element is a dot product of two rows, whose sum stays in "
        "registers. The compiler may use vectors only because it is allowed to add up in another "
        "order (the fastmath flag reassoc).",
        "the sum stays in a register, nothing is stored until it is complete",
        _prepare_transposed,
        (_dot, transposed),
    ),
    Rung(
        "parallel",
        "parallel=True",
        "The loop ikj with prange: threads share out the rows, which do not depend on each other. "
        "That helps with as many cores as there are, as long as the threads do not wait for the "
        "same memory.",
        "threads share out the rows",
        _prepare_parallel,
        (parallel,),
        threaded=True,
    ),
    Rung(
        "blocked",
        "cache-blocked",
        "The product is done for a block of w at a time, which stays in the second-level cache "
        "while many rows of x use it. It pays where w is larger than that cache, and costs a "
        "little where it is not.",
        "a block of w stays in the cache while many rows use it",
        _prepare_blocked,
        (_add_block, blocked),
        threaded=True,
    ),
    Rung(
        "tiled",
        "register-tiled",
        f"A tile of out, {TILE_ROWS} rows by {TILE_VECTORS} vectors here, stays in registers "
        "while outer products are added to it. Each step loads "
        f"{TILE_ROWS + TILE_VECTORS} operands for {TILE_ROWS * TILE_VECTORS} multiply-adds of "
        "vectors, where the loops before load two or three and store one for a single one.",
        "a tile of out stays in registers, so there is little to load and store",
        _prepare_tiled,
        (_add_tile, _add_tiles, tiled),
        threaded=True,
    ),
    Rung(
        "packed",
        "packed (fastnn.matmul)",
        "Register-tiled as before, but panels of w are copied so that the innermost loop walks "
        "through memory in a straight line, and edges are filled up or done by smaller tiles. This "
        "is fastnn.matmul, whose loops are in fastnn/kernels/matmul.py and read arrays in place "
        "where packing does not pay; below is how it packs.",
        "memory is read in a straight line, and edges are tiles too",
        _prepare_packed,
        (pack,),
        threaded=True,
    ),
    Rung(
        "fused",
        "fused bias and ReLU",
        "A layer is relu(x @ w + b): here a tile begins as the bias, and the activation is applied "
        "before it leaves the registers. NumPy does that in two more passes over out, which cost "
        "most where the product is small; for a row alone it is packing w that costs most.",
        "bias and activation need no pass over memory of their own",
        _prepare_fused,
        (_fused_tile, fused),
        threaded=True,
        fused=True,
    ),
)
"""The rungs, from the lowest."""

BLAS = Rung(
    "blas",
    "NumPy (BLAS)",
    "What np.matmul calls: a library of loops in assembler, written for each kind of CPU by hand. "
    "It uses the same ideas, tiles in registers and packed blocks for the caches.",
    "",
    _prepare_blas,
    threaded=True,
    blas=True,
)
BLAS_FUSED = Rung(
    "blas_fused",
    "NumPy, bias and ReLU",
    "np.matmul, then np.add, then np.maximum, all into the same array. It is what the fused rung "
    "is to be compared with.",
    "",
    _prepare_blas_fused,
    threaded=True,
    fused=True,
    blas=True,
)
