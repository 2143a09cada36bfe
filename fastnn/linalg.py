"""The matrix product on our own loops, for users and for layers used one by one."""

import numpy as np

from fastnn import threads
from fastnn.kernels.activations import activate
from fastnn.kernels.codes import ACTIVATION_CODES
from fastnn.kernels.matmul import MATMUL_JOB, matmul_member
from fastnn.kernels.memory import make_job
from fastnn.kernels.team import launch
from fastnn.kernels.tile import TILE_ROWS, TILE_VECTORS
from fastnn.plan import aligned_zeros, lanes, round_up
from fastnn.validation import kernel_array


def matmul(a, b, out=None, bias=None, activation=None, n_threads=None):
    """Return activation(a @ b + bias), computed by loops over register tiles, without BLAS.

    Each element is one chain of fused multiply-adds in the order of k, beginning with the bias:
    the result has the same bits for any number of threads, and a row of it does not depend on the
    rows beside it.

    Parameters
    ----------
    a : array_like (M, K)
    b : array_like (K, N)
        float32 or float64, both promoted to the wider of the two; other types become float64.
        Transposed and strided arrays are fine.
    out : ndarray (M, N), optional
        Overwritten with the result. C-contiguous, of the result's dtype, sharing no memory with
        the inputs.
    bias : array_like (N,), optional
        Added to each row.
    activation : {"identity", "relu", "leaky_relu", "logistic", "tanh", "softmax", "step"}, optional
        Applied to the sum.
    n_threads : int, optional
        The most threads to use; default `fastnn.get_num_threads()`.

    Returns
    -------
    ndarray (M, N)
        `out` if it was given.

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
    a, b = np.asarray(a), np.asarray(b)
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
    (m, n_k), n = a.shape, b.shape[1]
    n_threads = threads.check_num_threads(n_threads)
    if activation is not None and activation not in list(ACTIVATION_CODES):
        names = ", ".join(repr(name) for name in ACTIVATION_CODES)
        raise ValueError(f"activation must be one of {names} or None, got {activation!r}")
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
    panel = TILE_VECTORS * lanes(dtype)
    padded_bias = np.zeros(round_up(n, panel), dtype)
    if bias is not None:
        bias = np.asarray(bias)
        if bias.shape != (n,) or bias.dtype.kind not in "biuf":
            raise ValueError(
                f"bias must be numeric and have the shape {(n,)}, got shape {bias.shape} and "
                f"dtype {bias.dtype}"
            )
        padded_bias[:n] = bias
    if m == 0 or n == 0:
        return out
    a, a_transposed = _by_rows(a, dtype)
    b, b_transposed = _by_rows(b, dtype)
    n_threads = threads.worthwhile(2.0 * m * n * n_k, n_threads)
    tile = TILE_ROWS * panel
    packed = aligned_zeros(n_k * round_up(n, lanes(dtype)), dtype)
    edge = aligned_zeros(TILE_ROWS * n_k, dtype)
    scratch = aligned_zeros(n_threads * tile, dtype)
    job = make_job(
        MATMUL_JOB,
        a=a,
        b=b,
        bias=padded_bias,
        out=out,
        m=m,
        n=n,
        k=n_k,
        a_transposed=a_transposed,
        b_transposed=b_transposed,
        packed=packed,
        edge=edge,
        scratch=scratch,
        scratch_size=tile,
    )
    launch(matmul_member(dtype), job, n_threads)
    if activation is not None:
        activate(ACTIVATION_CODES[activation], 0.01, out)
    return out


def _by_rows(array, dtype):
    """Return the array or its transpose, whichever is C-contiguous, and whether it is the latter.

    Anything else is copied.
    """
    if array.flags.f_contiguous and not array.flags.c_contiguous:
        return kernel_array(array.T, dtype), True
    return kernel_array(array, dtype), False
