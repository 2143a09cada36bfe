"""Numba decorators for every kernel: what may be relaxed, what is inlined, what is kept on disk."""

import numba
from numba import types
from numba.core import sigutils
from numba.core.ccallback import CFunc

from fastnn.runtime.kernel_cache import enable_caching

FASTMATH = frozenset({"contract"})
"""The relaxations allowed in kernels: a*b + c may become one FMA. NaN and Inf stay visible."""

_OPTIONS = {
    "error_model": "numpy",
    # Kernels own no memory. Otherwise Numba counts references to arrays wherever one is passed on,
    # with calls between which no tile can stay in registers: a quarter of the time of a product.
    "_nrt": False,
}


def _compiled(function, **options):
    dispatcher = numba.njit(**_OPTIONS, **options)(function)
    enable_caching(dispatcher)
    return dispatcher


def kernel(function):
    """Compile a kernel that Python calls: serial, without the GIL, cached on disk.

    Parameters
    ----------
    function : callable
        A top-level function that raises nothing and allocates nothing.

    Returns
    -------
    numba.core.dispatcher.Dispatcher
        Compiled on the first call for each combination of argument types.
    """
    return _compiled(function, nogil=True, fastmath=set(FASTMATH))


def direct_call(compiled, signature):
    """Return what a kernel's dispatcher calls after it has looked at the types of the arguments.

    Parameters
    ----------
    compiled : numba.core.dispatcher.Dispatcher
    signature : tuple of numba.types.Type
        The only types it will be called with. Nothing checks them, but an array of layout "A" may
        have any strides and be read-only.
    """
    compiled.compile(signature)
    return compiled.overloads[signature].entry_point


def parallel_kernel(function):
    """Compile a kernel with `numba.prange` loops: as `kernel`, on several threads."""
    return _compiled(function, nogil=True, parallel=True, fastmath=set(FASTMATH))


def member(function):
    """Compile a function (thread, n_threads, sync, job) for a team; return its address.

    The arguments are int64 (`fastnn.kernels.team`). Compiled at once, cached on disk. What the
    function takes from an enclosing scope is a part of the cache's key and must pickle to the
    same bytes in each process: numbers and NumPy's scalar types do.

    Returns
    -------
    int
    """
    return _address_of(function, 4)


def operation(function, cached=True):
    """Compile a kernel that belongs to an operation of a plan, as `member`; return its address.

    `fastnn.kernels.operation` says what its ten arguments are.

    Parameters
    ----------
    function : callable
    cached : bool, default True
        Whether on disk. Not for a function that takes another one from an enclosing scope.

    Returns
    -------
    int
    """
    return _address_of(function, 10, cached)


def rule_kernel(function):
    """Compile an update rule (`fastnn.kernels.updates`), as `member`; return its address."""
    return _address_of(function, 7)


def _address_of(function, n_arguments, cached=True):
    """Compile a function of int64 arguments that returns nothing; return its address."""
    signature = types.void(*[types.int64] * n_arguments)
    options = {**_OPTIONS, "nogil": True, "fastmath": set(FASTMATH)}
    compiled = CFunc(function, sigutils.normalize_signature(signature), {}, options)
    if cached:
        enable_caching(compiled)
    compiled.compile()
    _members.append(compiled)
    return compiled.address


_members = []  # the code at an address lives as long as its CFunc


def inner(function):
    """Compile a function that other kernels call: LLVM puts its code in the place of each call."""
    return _linked(function, FASTMATH, forceinline=True)


def pasted(function):
    """Compile a function that one other kernel calls, once: as if its text stood there.

    Cheaper to compile than `inner`, which pays for each function once, but not for two calls.
    """
    return numba.njit(inline="always", fastmath=set(FASTMATH), **_OPTIONS)(function)


def routine(function):
    """Compile a function that only other kernels call, too long to be pasted into each.

    Not cached by itself: it is linked into each kernel that calls it, and optimised again there,
    so routines that call routines cost compile time.
    """
    return _linked(function, FASTMATH)


def reduction(function):
    """Compile a `routine` that sums in an order of the compiler's choice: in vectors.

    The order depends on the length of the sum alone, not on the number of threads.
    """
    return _linked(function, FASTMATH | {"reassoc"})


def inner_reduction(function):
    """Compile an `inner` function that sums as a `reduction` does."""
    return _linked(function, FASTMATH | {"reassoc"}, forceinline=True)


def _linked(function, fastmath, **options):
    return numba.njit(
        nogil=True,
        fastmath=set(fastmath),
        no_cpython_wrapper=True,
        no_cfunc_wrapper=True,
        **_OPTIONS,
        **options,
    )(function)


def reference(function):
    """Compile a plain reference loop: strict arithmetic, nothing relaxed."""
    return _compiled(function)
