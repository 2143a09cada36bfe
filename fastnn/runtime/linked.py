"""Functions that only kernels call: compiled to LLVM's IR, which is linked into each kernel.

Numba optimises and translates to machine code every function by itself, then links what LLVM has
made of it into each caller, and optimises it again there. Nobody calls the machine code of a
function that kernels alone may call, so most of the time that a first training waits for its
kernels would be spent for nothing. Here the compiler stops at the IR. LLVM sees a kernel, with all
that it calls, once.
"""

from typing import Any

from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler


class _LinkedLibrary(JITCodeLibrary):
    """The IR of a function and of those that it calls, without machine code."""

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """Return 0, which stands for no machine code."""
        self._ensure_finalized()
        return 0

    @property
    def codegen(self) -> Any:
        """The owner of `set_env`, which Numba calls for a function that it has compiled."""
        return self

    def set_env(self, env_name: str, env: object) -> None:
        """Do nothing: the environment of a function is for Python objects, which no kernel has."""


class LinkedCompiler(Compiler):
    """A compiler for functions that only kernels call."""

    def define_pipelines(self) -> Any:
        """Compile into a library of the above kind; return Numba's own pipelines."""
        state = self.state
        if state.library is None:
            state.library = _LinkedLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        return super().define_pipelines()
