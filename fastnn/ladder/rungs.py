"""The rungs: a description of each way to compute the product, and how it is called.

`LADDER` holds the loops of `fastnn.ladder.loops` in ascending order; `BLAS` and `BLAS_FUSED` are
what they are compared with.
"""

import contextlib
import dataclasses
import inspect
from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeAlias

import numba
import numpy as np
from numpy.typing import NDArray

from fastnn.kernels.memory import aligned_zeros
from fastnn.kernels.packing import pack
from fastnn.kernels.tile import TILE_ROWS, TILE_VECTORS, VECTOR_BYTES
from fastnn.ladder import loops
from fastnn.ladder.loops import ROW_BLOCK
from fastnn.linalg import matmul
from fastnn.runtime import threads


@dataclasses.dataclass(frozen=True)
class Product:
    """Operands of a product, and the number of threads that compute it.

    Attributes
    ----------
    x : ndarray of shape (B, I)
        Left operand. All arrays have the same dtype, float32 or float64; they may have any strides
        and be read-only.
    w : ndarray of shape (I, O)
        Right operand.
    bias : ndarray of shape (O,)
        Added to each row by fused rungs.
    n_threads : int, default=1
        Number of threads.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.ladder.rungs import Product
    >>> product = Product(np.ones((2, 3)), np.ones((3, 1)), np.zeros(1))
    >>> product.shape, product.exact().tolist()
    ((2, 3, 1), [[3.0], [3.0]])
    """

    x: NDArray[Any]
    w: NDArray[Any]
    bias: NDArray[Any]
    n_threads: int = 1

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (B, I, O)."""
        return (*self.x.shape, self.w.shape[1])

    def exact(self, fused: bool = False) -> NDArray[np.float64]:
        """Return x @ w in float64 or, if `fused`, relu(x @ w + bias)."""
        out = self.x.astype(np.float64) @ self.w.astype(np.float64)
        return np.maximum(out + self.bias, 0) if fused else out


@dataclasses.dataclass(frozen=True)
class Ready:
    """A loop bound to its arguments.

    Attributes
    ----------
    call : callable
        Computes the product.
    result : callable
        Returns the computed array (B, O).
    """

    call: Callable[[], object]
    result: Callable[[], NDArray[Any]]


Prepare: TypeAlias = Callable[[Product], Ready]


@dataclasses.dataclass(frozen=True)
class Rung:
    """One implementation of the product.

    Attributes
    ----------
    name : str
        Key of its results.
    title : str
        Name shown to users.
    about : str
        What it changes and why that helps, in two sentences.
    gain : str
        Why it is faster than the previous rung, in a few words.
    prepare : callable
        Takes a `Product`, allocates all memory, returns a `Ready`.
    code : tuple of callable, default=()
        Functions whose source is shown.
    threaded : bool, default=False
        Whether it can run on several threads.
    fused : bool, default=False
        Whether it computes relu(x @ w + bias).
    pool : {"numba", "blas", "own"}, default="numba"
        Whose threads it runs on, when it runs on several.
    most_work : float, default=inf
        Most multiply-adds of a product it is measured for.
    """

    name: str
    title: str
    about: str
    gain: str
    prepare: Prepare
    code: tuple[Callable[..., Any], ...] = ()
    threaded: bool = False
    fused: bool = False
    pool: Literal["numba", "blas", "own"] = "numba"
    most_work: float = float("inf")

    def source(self) -> str:
        """Return the source of its functions."""
        parts = [getattr(function, "py_func", function) for function in self.code]
        return "\n\n".join(inspect.getsource(part).rstrip() for part in parts)


@contextlib.contextmanager
def numba_threads(n_threads: int) -> Iterator[None]:
    """Run Numba's parallel loops on `n_threads` threads within the context."""
    before = numba.get_num_threads()
    numba.set_num_threads(n_threads)
    try:
        yield
    finally:
        numba.set_num_threads(before)


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    """Return a C-contiguous, writable array: Numba compiles a function anew for other layouts."""
    return np.require(array, requirements=["C", "A", "W"])


def _poisoned(
    product: Product, rows: int | None = None, columns: int | None = None
) -> NDArray[Any]:
    """Return memory for out, filled with NaN to detect elements that are not written."""
    n_rows, _, n_outputs = product.shape
    return np.full((rows or n_rows, columns or n_outputs), np.nan, product.x.dtype)


def _block_rows(product: Product) -> int:
    """Return the rows of a block: whole tiles, and at least one block for each thread."""
    share = -(-product.shape[0] // product.n_threads)
    return min(ROW_BLOCK, -(-share // TILE_ROWS) * TILE_ROWS)


def _in_parallel_region(
    loop: Callable[..., object], product: Product, *arguments: Any
) -> Callable[[], None]:
    """Return a function that calls a parallel loop within `threads.parallel_region`."""

    def call() -> None:
        with threads.parallel_region(product.n_threads):
            loop(*arguments)

    return call


def _prepare_python(product: Product) -> Ready:
    x, w, out = product.x.tolist(), product.w.tolist(), _poisoned(product)
    rows = out.tolist()
    return Ready(lambda: loops.pure_python(x, w, rows), lambda: np.array(rows, out.dtype))


def serial(loop: Callable[[NDArray[Any], NDArray[Any], NDArray[Any]], object]) -> Prepare:
    """Return the `Rung.prepare` of a loop with the arguments (x, w, out).

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.ladder.rungs import Product, serial
    >>> prepare = serial(lambda x, w, out: np.matmul(x, w, out=out))
    >>> ready = prepare(Product(np.ones((2, 3)), np.ones((3, 1)), np.zeros(1)))
    >>> ready.call() is ready.result()
    True
    """

    def prepare(product: Product) -> Ready:
        x, w, out = _plain(product.x), _plain(product.w), _poisoned(product)
        return Ready(lambda: loop(x, w, out), lambda: out)

    return prepare


def _prepare_transposed(product: Product) -> Ready:
    x, w, out = _plain(product.x), _plain(product.w), _poisoned(product)
    wt = np.empty(w.shape[::-1], w.dtype)
    return Ready(lambda: loops.transposed(x, w, out, wt), lambda: out)


def _prepare_parallel(product: Product) -> Ready:
    x, w, out = _plain(product.x), _plain(product.w), _poisoned(product)
    return Ready(_in_parallel_region(loops.parallel, product, x, w, out), lambda: out)


def _prepare_blocked(product: Product) -> Ready:
    x, w, out = _plain(product.x), _plain(product.w), _poisoned(product)
    return Ready(
        _in_parallel_region(loops.blocked, product, x, w, out, _block_rows(product)), lambda: out
    )


def _prepare_tiled(product: Product) -> Ready:
    x, w, out = _plain(product.x), _plain(product.w), _poisoned(product)
    flat = (part.reshape(-1) for part in (x, w, out))
    call = _in_parallel_region(loops.tiled, product, *product.shape, *flat, _block_rows(product))
    return Ready(call, lambda: out)


def _prepare_packed(product: Product) -> Ready:
    x, w, out = product.x, product.w, _poisoned(product)
    return Ready(lambda: matmul(x, w, out=out, n_threads=product.n_threads), lambda: out)


def _prepare_fused(product: Product) -> Ready:
    n_rows, n_inputs, n_columns = product.shape
    dtype = product.x.dtype
    lanes = VECTOR_BYTES // dtype.itemsize
    rows, columns = -(-n_rows // TILE_ROWS) * TILE_ROWS, -(-n_columns // lanes) * lanes
    x, bias = np.zeros((rows, n_inputs), dtype), np.zeros(columns, dtype)
    x[:n_rows], bias[:n_columns] = product.x, product.bias
    out = _poisoned(product, rows, columns)
    packed = aligned_zeros(n_inputs * columns, dtype)
    call = _in_parallel_region(
        loops.fused,
        product,
        *(rows, n_inputs, columns, n_columns),
        *(x.reshape(-1), _plain(product.w).reshape(-1), bias, out.reshape(-1), packed),
        _block_rows(product),
    )
    return Ready(call, lambda: out[:n_rows, :n_columns])


def _prepare_blas(product: Product) -> Ready:
    x, w, out = product.x, product.w, _poisoned(product)
    return Ready(lambda: np.matmul(x, w, out=out), lambda: out)


def _prepare_blas_fused(product: Product) -> Ready:
    x, w, bias, out = product.x, product.w, product.bias, _poisoned(product)

    def call() -> None:
        np.matmul(x, w, out=out)
        np.add(out, bias, out=out)
        np.maximum(out, 0, out=out)

    return Ready(call, lambda: out)


LADDER = (
    Rung(
        "python",
        "pure Python",
        "Three loops over lists of numbers, run by the interpreter. Each multiply-add takes tens "
        "of nanoseconds, in which numbers are unpacked, types are looked up and new objects are "
        "created.",
        "",
        _prepare_python,
        (loops.pure_python,),
        most_work=3e5,
    ),
    Rung(
        "ijk",
        "naive loop (ijk)",
        "The same three loops, compiled by Numba to machine code. Each multiply-add has to wait "
        "for the previous one of its sum, and w is read down its columns, so that only one number "
        "of each fetched cache line is used.",
        "compiled code works on numbers, not on objects",
        serial(loops.ijk),
        (loops.ijk,),
    ),
    Rung(
        "ikj",
        "loops swapped (ikj)",
        "The two inner loops are swapped, so that w and out are both read along their rows. Now "
        "the compiler can vectorise the innermost loop (SIMD), and whole cache lines are used.",
        "rows are read in order, in SIMD vectors",
        serial(loops.ikj),
        (loops.ikj,),
    ),
    Rung(
        "transposed",
        "transposed dot product",
        "w is transposed first, and each element is a dot product of two rows whose sum stays in "
        "registers. The compiler can vectorise it only because it may change the order of the sum "
        "(the fastmath flag reassoc).",
        "the sum stays in a register and is stored once",
        _prepare_transposed,
        (loops.dot, loops.transposed),
    ),
    Rung(
        "parallel",
        "parallel=True",
        "The loop ikj with prange: the rows do not depend on each other and are divided among the "
        "threads. The speed grows with the number of cores, as long as the threads do not have to "
        "wait for memory.",
        "the rows are divided among the threads",
        _prepare_parallel,
        (loops.parallel,),
        threaded=True,
    ),
    Rung(
        "blocked",
        "cache-blocked",
        "w is processed in blocks, each of which stays in the second-level cache while many rows "
        "of x use it. This pays if w is larger than that cache, and costs a little if it is not.",
        "a block of w stays in the cache while many rows use it",
        _prepare_blocked,
        (loops.add_block, loops.blocked),
        threaded=True,
    ),
    Rung(
        "tiled",
        "register-tiled",
        f"A tile of out, {TILE_ROWS} rows by {TILE_VECTORS} vectors here, stays in registers "
        "while outer products are added to it. Each iteration loads "
        f"{TILE_ROWS + TILE_VECTORS} operands for {TILE_ROWS * TILE_VECTORS} vector multiply-adds; "
        "the previous loops load two or three operands and store one for a single multiply-add.",
        "a tile of out stays in registers, so there are few loads and stores",
        _prepare_tiled,
        (loops.add_tile, loops.add_tiles, loops.tiled),
        threaded=True,
    ),
    Rung(
        "packed",
        "packed (fastnn.matmul)",
        "Register-tiled as before, but panels of w are copied (packed) so that the innermost loop "
        "reads memory sequentially, and the edges are padded or computed with smaller tiles. This "
        "is fastnn.matmul; its loops are in fastnn/kernels/matmul.py and read arrays in place if "
        "packing does not pay. The code below is the packing.",
        "memory is read sequentially, and the edges are tiles too",
        _prepare_packed,
        (pack,),
        threaded=True,
    ),
    Rung(
        "fused",
        "fused bias and ReLU",
        "A layer is relu(x @ w + b): here the bias is the initial value of a tile, and the "
        "activation is applied before the tile leaves the registers. NumPy needs two more passes "
        "over out, which matter most for small products; for a single row, packing w takes most "
        "of the time.",
        "bias and activation need no pass over memory of their own",
        _prepare_fused,
        (loops.fused_tile, loops.fused),
        threaded=True,
        fused=True,
    ),
)
"""The rungs in ascending order."""

BLAS = Rung(
    "blas",
    "NumPy (BLAS)",
    "The library that np.matmul calls: loops written in assembler for each kind of CPU. It uses "
    "the same ideas, tiles in registers and packed blocks for the caches.",
    "",
    _prepare_blas,
    threaded=True,
    pool="blas",
)
BLAS_FUSED = Rung(
    "blas_fused",
    "NumPy, bias and ReLU",
    "np.matmul, then np.add, then np.maximum, all into the same array: for comparison with the "
    "fused rung.",
    "",
    _prepare_blas_fused,
    threaded=True,
    fused=True,
    pool="blas",
)
