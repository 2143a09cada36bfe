"""Numba decorators for all kernels: what is inlined, what is cached on disk.

Arithmetic is strict everywhere: no `fastmath`. LLVM may neither reorder a sum nor choose which
product it fuses with which sum, so it cannot change a bit from one version, or one CPU, to another.
Where a fused multiply-add is wanted, kernels call `fastnn.kernels.fma`.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numba
from numba import types
from numba.core import sigutils
from numba.core.ccallback import CFunc
from numba.extending import register_jitable

from fastnn.compiling import compiling
from fastnn.runtime.kernel_cache import enable_caching
from fastnn.runtime.linked import KernelCompiler, LinkedCompiler

_Function = TypeVar("_Function", bound=Callable[..., Any])

_njit: Any = numba.njit

_OPTIONS: dict[str, Any] = {
    "error_model": "numpy",
    # Kernels own no memory. With Numba's runtime (NRT), each array that is passed on would have its
    # references counted, by calls across which no tile stays in registers: a quarter of the time of
    # a product.
    "_nrt": False,
}


def _compiled(function: Callable[..., Any], **options: Any) -> Any:
    """Return a dispatcher whose machine code is cached on disk."""
    dispatcher = _njit(**_OPTIONS, **options)(function)
    enable_caching(dispatcher)
    compile_for = dispatcher.compile

    def compile_and_tell(signature: Any) -> Any:
        with compiling():
            return compile_for(signature)

    dispatcher.compile = compile_and_tell
    return dispatcher


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a kernel that Python calls: on one thread, without the GIL, cached on disk.

    Parameters
    ----------
    function : callable
        A top-level function that raises nothing and allocates nothing.

    Returns
    -------
    numba.core.dispatcher.Dispatcher
        Compiled on the first call for each combination of argument types.
    """
    return _compiled(function, nogil=True, pipeline_class=KernelCompiler)


def direct_call(compiled: Any, signature: tuple[Any, ...]) -> Any:
    """Compile a kernel for some types of arguments; return the compiled function.

    A call of it skips the dispatcher, which looks at the types of the arguments each time.

    Parameters
    ----------
    compiled : numba.core.dispatcher.Dispatcher
        The kernel.
    signature : tuple of numba.types.Type
        Types of the arguments. Nothing checks that a call keeps to them, but an array of layout
        "A" may have any strides and be read-only.

    Returns
    -------
    callable
    """
    compiled.compile(signature)
    return compiled.overloads[signature].entry_point


def parallel_kernel(function: Callable[..., Any]) -> Any:
    """Compile a kernel as `kernel` does, with `numba.prange` loops that run on several threads."""
    return _compiled(function, nogil=True, parallel=True)


def member(function: Callable[..., Any]) -> int:
    """Compile a member, the function that each thread of a team runs; return its address.

    Compiled at once, cached on disk.

    Parameters
    ----------
    function : callable
        Takes (thread, n_threads, sync, job), all int64 (`fastnn.kernels.team`).

    Returns
    -------
    int
    """
    return compile_at_address(function, 4)


def compile_at_address(function: Callable[..., Any], n_arguments: int, cached: bool = True) -> int:
    """Compile a function of int64 arguments that returns nothing; return its address.

    Compiled at once. The variables of an enclosing scope that it uses are part of the cache's key:
    numbers, types, and functions of this package, by their names (`fastnn.runtime.kernel_cache`).

    Parameters
    ----------
    function : callable
    n_arguments : int
    cached : bool, default=True
        Whether the machine code is cached on disk; False if it depends on a function of a user.

    Returns
    -------
    int

    Raises
    ------
    TypeError
        If `cached` is true, and the function uses a variable of an enclosing scope that the key
        cannot hold.
    """
    signature = types.void(*[types.int64] * n_arguments)
    options = {**_OPTIONS, "nogil": True}
    signature = sigutils.normalize_signature(signature)
    compiled: Any = CFunc(function, signature, {}, options, pipeline_class=KernelCompiler)
    if cached:
        enable_caching(compiled)
    with compiling():
        compiled.compile()
    _members.append(compiled)
    return compiled.address


_members: list[Any] = []  # the code at an address lives as long as its CFunc


def inner(function: Callable[..., Any]) -> Any:
    """Compile a function that only kernels call: LLVM inlines each call."""
    return _linked(function, forceinline=True)


def routine(function: Callable[..., Any]) -> Any:
    """Compile a function that only kernels call, and that is too long to be inlined in each.

    It is linked into each kernel that calls it, and optimised there.
    """
    return _linked(function)


def shared(function: _Function) -> _Function:
    """Make a Python function of numbers one that kernels can call too: LLVM inlines it there."""
    return register_jitable(forceinline=True, error_model="numpy")(function)


def reduction(function: Callable[..., Any]) -> Any:
    """Compile a `routine` whose sums LLVM may reorder and fuse, for comparisons in the ladder.

    The order depends on the CPU, and so do the bits of the result.
    """
    return _linked(function, fastmath={"contract", "reassoc"})


def _linked(function: Callable[..., Any], **options: Any) -> Any:
    """Return a dispatcher that only kernels can call."""
    return _njit(
        nogil=True,
        no_cpython_wrapper=True,
        no_cfunc_wrapper=True,
        pipeline_class=LinkedCompiler,
        **_OPTIONS,
        **options,
    )(function)


def reference(function: Callable[..., Any]) -> Any:
    """Compile a reference loop (`fastnn.kernels.reference`), cached on disk."""
    return _compiled(function)
