"""Numba decorators for every kernel: what is inlined, what is kept on disk.

Arithmetic is strict everywhere: no `fastmath`. LLVM may neither reorder a sum nor choose which
product it fuses with which sum, so it cannot change a bit from one version, or one CPU, to another.
`fastnn.kernels.fma` is the fused multiply-add where it is wanted.
"""

import numba
from numba import types
from numba.core import sigutils
from numba.core.ccallback import CFunc
from numba.extending import register_jitable

from fastnn.runtime.kernel_cache import enable_caching

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
    return _compiled(function, nogil=True)


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
    return _compiled(function, nogil=True, parallel=True)


def member(function):
    """Compile a function (thread, n_threads, sync, job) for a team; return its address.

    The arguments are int64 (`fastnn.kernels.team`). Compiled at once, cached on disk.

    Returns
    -------
    int
    """
    return compile_at_address(function, 4)


def compile_at_address(function, n_arguments, cached=True):
    """Compile a function of int64 arguments that returns nothing; return its address.

    Compiled at once. What it takes from an enclosing scope is a part of the cache's key: numbers,
    types, and functions of this package, by their names (`fastnn.runtime.kernel_cache`).

    Parameters
    ----------
    function : callable
    n_arguments : int
    cached : bool, default=True
        Whether the machine code is kept on disk. Not where it depends on a function of a user.

    Returns
    -------
    int
    """
    signature = types.void(*[types.int64] * n_arguments)
    options = {**_OPTIONS, "nogil": True}
    compiled = CFunc(function, sigutils.normalize_signature(signature), {}, options)
    if cached:
        enable_caching(compiled)
    compiled.compile()
    _members.append(compiled)
    return compiled.address


_members = []  # the code at an address lives as long as its CFunc


def inner(function):
    """Compile a function that other kernels call: LLVM puts its code in the place of each call."""
    return _linked(function, forceinline=True)


def pasted(function):
    """Compile a function that one other kernel calls, once: as if its text stood there.

    Cheaper to compile than `inner`, which pays for each function once, but not for two calls.
    """
    return numba.njit(inline="always", **_OPTIONS)(function)


def routine(function):
    """Compile a function that only other kernels call, too long to be pasted into each.

    Not cached by itself: it is linked into each kernel that calls it, and optimised again there,
    so routines that call routines cost compile time.
    """
    return _linked(function)


def shared(function):
    """Let Python and kernels call one function of numbers: LLVM inlines it in kernels."""
    return register_jitable(forceinline=True, error_model="numpy")(function)


def reduction(function):
    """Compile a `routine` whose sums LLVM may reorder and fuse: to compare with, in the ladder.

    The order, and so the bits, depends on the CPU.
    """
    return _linked(function, fastmath={"contract", "reassoc"})


def _linked(function, **options):
    return numba.njit(
        nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True, **_OPTIONS, **options
    )(function)


def reference(function):
    """Compile a plain reference loop."""
    return _compiled(function)
