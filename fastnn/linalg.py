"""The matrix product, computed by our own loops: for users, and for layers used without a net."""

from typing import Any

import numba
import numpy as np
from numba import from_dtype, types
from numpy.typing import ArrayLike

from fastnn.errors import shown
from fastnn.kernels.activations import ACTIVATIONS, array_kernels
from fastnn.kernels.matmul import (
    DONE,
    FOR_A_TEAM,
    JOB,
    NO_ROOM,
    PACKED_BYTES,
    UNFIT,
    matmul_member,
    multiply,
)
from fastnn.kernels.memory import CACHE_LINE, Job, aligned_zeros
from fastnn.kernels.team import run_alone, run_team
from fastnn.runtime import threads
from fastnn.runtime.jit import direct_call
from fastnn.validation import as_array

MIN_WORK_PER_THREAD = 2_000_000
"""The least work of a thread, in multiply-adds times the bytes of an element.

With less, starting the thread takes longer than it saves: measured by benchmarks/matmul_blocks.py.
"""
_ACTIVATION_NAMES = ("identity", *ACTIVATIONS)
_NEVER = 2**62
_SETTINGS: Any = numba.config  # its values are set when it is loaded
_MOST: int = _SETTINGS.NUMBA_NUM_THREADS


class _Workspace:
    """The memory of one product: its job record, its bias, and packed blocks for each thread."""

    def __init__(self, member: int) -> None:
        self.job = Job(JOB, **dict.fromkeys(JOB.names or (), 0) | {"member": member})
        self.reserve_bias(1024)
        self.reserve_blocks(1)

    def reserve_bias(self, n_bytes: int) -> None:
        """Allocate memory for a bias of `n_bytes` bytes and for its padding."""
        self.bias = aligned_zeros(n_bytes + CACHE_LINE, np.uint8)
        self.job["bias"], self.job["bias_bytes"] = self.bias, self.bias.size

    def reserve_blocks(self, n_threads: int) -> None:
        """Allocate memory for the packed blocks of `n_threads` threads."""
        self.n_threads, self.blocks = n_threads, aligned_zeros(n_threads * PACKED_BYTES, np.uint8)
        self.job["packed"] = self.blocks


class _Product:
    """The compiled product of matrices of one dtype, with its workspaces."""

    def __init__(self, dtype: np.dtype) -> None:
        matrix = types.Array(from_dtype(dtype), 2, "A")
        signature = (matrix, matrix, matrix, *[types.int64] * 3)
        self.entry_point = direct_call(multiply, signature)
        self.member: Any = matmul_member(dtype)  # an address
        # A call removes a workspace and puts it back at its end, so no two calls share one.
        self.idle: list[_Workspace] = []

    def run(
        self,
        a: np.ndarray,
        b: np.ndarray,
        out: np.ndarray,
        bias: np.ndarray | None,
        n_threads: int | None,
    ) -> bool:
        """Overwrite `out` with ``a @ b + bias``; return False if the kernel cannot take the arrays.

        All are matrices of the dtype; `out` is C-contiguous, aligned and writeable.
        """
        try:
            workspace = self.idle.pop()
        except IndexError:
            workspace = _Workspace(self.member)
        if bias is not None:
            if bias.size * out.itemsize > workspace.bias.size - CACHE_LINE:
                workspace.reserve_bias(bias.size * out.itemsize)
            workspace.bias[: bias.size * out.itemsize].view(out.dtype)[:] = bias
        alone_below = _NEVER if n_threads == 1 else 2 * MIN_WORK_PER_THREAD
        arguments = a, b, out, workspace.job.address, bias is not None, alone_below
        code = self.entry_point(*arguments)
        if code == NO_ROOM:
            workspace.reserve_bias(b.shape[1] * out.itemsize)
            code = self.entry_point(*arguments)
        if code == FOR_A_TEAM:
            work = a.size * b.shape[1] * out.itemsize
            n_threads = threads.get_num_threads() if n_threads is None else n_threads
            self._share_out(workspace, max(1, min(n_threads, work // MIN_WORK_PER_THREAD)))
        self.idle.append(workspace)
        return code != UNFIT

    def _share_out(self, workspace: _Workspace, n_threads: int) -> None:
        """Compute a product on threads. None waits for another, so any number may be granted."""
        n_threads = threads.at_most_now(n_threads)
        if n_threads > workspace.n_threads:
            workspace.reserve_blocks(n_threads)
        with threads.parallel_region(n_threads) as granted:
            if granted > 1:
                run_team(self.member, granted, workspace.job.address)
                return
        run_alone(self.member, 0, workspace.job.address)


_products: dict[np.dtype, _Product] = {}


def _converted(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return an array in a dtype; numbers that are too large for it become infinite."""
    if array.dtype == dtype:
        return array  # `errstate` takes longer than a small product
    with np.errstate(over="ignore"):
        return array.astype(dtype)


def _activate(name: str, out: np.ndarray) -> None:
    """Overwrite a matrix with its activation."""
    if name != "identity":
        row = ACTIVATIONS[name]
        apply, _ = array_kernels(row)
        apply(out, row.parameter)


def matmul(
    a: ArrayLike,
    b: ArrayLike,
    out: np.ndarray | None = None,
    bias: ArrayLike | None = None,
    activation: str | None = None,
    n_threads: int | None = None,
) -> np.ndarray:
    """Return ``activation(a @ b + bias)``, computed by loops over register tiles, without BLAS.

    Each element is one chain of fused multiply-adds in the order of k that starts at the bias. So
    the result has the same bits for any number of threads, and a row of it does not depend on the
    other rows.

    Parameters
    ----------
    a : array-like of shape (M, K)
    b : array-like of shape (K, N)
        Numeric matrices, of any memory layout. Their common dtype is NumPy's; if it is neither
        float32 nor float64, they are converted to float64.
    out : ndarray of shape (M, N), default=None
        Overwritten with the result. C-contiguous, writeable, of the dtype of the result; shares no
        memory with `a` and `b`. None allocates a new array.
    bias : array-like of shape (N,), default=None
        Added to each row.
    activation : {"identity", "relu", "leaky_relu", "logistic", "tanh", "softmax", "step"}, \
default=None
        Function applied to the sum; softmax goes over the rows. None is the identity.
    n_threads : int, default=None
        The most threads to use; None is `fastnn.get_num_threads()`.

    Returns
    -------
    ndarray of shape (M, N)
        `out`, if it was given.

    Raises
    ------
    ValueError
        If shapes do not match or an argument is out of range.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> fastnn.matmul(np.array([[1.0, 2.0]]), np.array([[3.0], [4.0]]))
    array([[11.]])
    """
    # The fast path, for two ordinary matrices. It has few checks, because a small product takes
    # less time than ten of them. Anything unusual goes on to the slow path below: an object that is
    # no array lacks an attribute here, or is refused by the entry point.
    if bias is None and activation is None:
        x: Any = a
        y: Any = b
        try:
            dtype = x.dtype
            product = _products[dtype]
            if out is None:
                result, fit = np.empty((x.shape[0], y.shape[1]), dtype), True
            else:
                result, fit = out, out.dtype == dtype and out.ndim == 2 and out.flags.carray
            if (
                fit
                and y.dtype == dtype
                and x.ndim == y.ndim == 2
                and (n_threads is None or (type(n_threads) is int and 0 < n_threads <= _MOST))
            ):
                workspace = product.idle.pop() if product.idle else _Workspace(product.member)
                alone_below = _NEVER if n_threads == 1 else 2 * MIN_WORK_PER_THREAD
                code = product.entry_point(x, y, result, workspace.job.address, 0, alone_below)
                product.idle.append(workspace)
                if code == DONE:
                    return result
                if code != UNFIT:
                    product.run(x, y, result, None, n_threads)
                    return result
        except (AttributeError, LookupError, TypeError):
            pass

    a, b = as_array("a", a), as_array("b", b)
    for name, array in (("a", a), ("b", b)):
        if array.ndim != 2 or array.dtype.kind not in "biuf":
            raise ValueError(
                f"{name} must be a numeric array with 2 dimensions, got shape {array.shape} "
                f"and dtype {array.dtype}"
            )
    if a.shape[1] != b.shape[0]:
        raise ValueError(
            f"b must have as many rows as a has columns ({a.shape[1]}), got shape {b.shape}"
        )
    dtype = np.result_type(a, b)
    dtype = dtype if dtype in (np.float32, np.float64) else np.dtype(np.float64)
    m, n = a.shape[0], b.shape[1]
    n_threads = threads.check_num_threads(n_threads)
    known = isinstance(activation, str) and activation in _ACTIVATION_NAMES
    if activation is not None and not known:
        names = ", ".join(repr(name) for name in _ACTIVATION_NAMES)
        raise ValueError(f"activation must be one of {names} or None, got {shown(activation)}")
    if out is None:
        out = np.empty((m, n), dtype)
    elif (
        not isinstance(out, np.ndarray)
        or out.shape != (m, n)
        or out.dtype != dtype
        or not out.flags.carray
        or np.may_share_memory(out, a)
        or np.may_share_memory(out, b)
    ):
        raise ValueError(
            f"out must be a writable C-contiguous {dtype} array of shape {(m, n)} that shares no "
            "memory with a and b"
        )
    if bias is not None:
        bias = as_array("bias", bias)
        if bias.shape != (n,) or bias.dtype.kind not in "biuf":
            raise ValueError(
                f"bias must be numeric and have the shape {(n,)}, got shape {bias.shape} and "
                f"dtype {bias.dtype}"
            )
    if m == 0 or n == 0:
        return out
    if dtype not in _products:
        _products[dtype] = _Product(dtype)
    run = _products[dtype].run
    a, b = _converted(a, dtype), _converted(b, dtype)
    bias = None if bias is None else _converted(bias, dtype)
    if not run(a, b, out, bias, n_threads):  # for example not aligned
        run(a.copy(), b.copy(), out, bias, n_threads)
    if activation is not None:
        _activate(activation, out)
    return out
