"""Functions that only kernels call: compiled to LLVM's IR, which is linked into each kernel.

Numba optimises and translates to machine code every function by itself, then links what LLVM has
made of it into each caller, and optimises it again there. Nobody calls the machine code of a
function that kernels alone may call, so most of the time that a first training waits for its
kernels would be spent for nothing. Here the compiler stops at the IR. LLVM sees a kernel, with all
that it calls, once. And it leaves out those of Numba's passes that find nothing to do in kernels.
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


_NEEDLESS = frozenset(
    {
        # There are no `with` blocks, closures, comprehensions, `literally`, tuples to loop over,
        # messages of errors made at run time, or functions that Numba inlines.
        "WithLifting",
        "InlineClosureLikes",
        "MakeFunctionToJitFunction",
        "FindLiterallyCalls",
        "LiteralUnroll",
        "LiteralPropagationSubPipelinePass",
        "RewriteDynamicRaises",
        "InlineInlinables",
        "InlineOverloads",
        # Arrays are not added as a whole, nor loops run in parallel.
        "NopythonRewrites",
        "DumpParforDiagnostics",
    }
)
"""Names of passes that do nothing here, or nothing that is needed."""


class KernelCompiler(Compiler):
    """A compiler for kernels that run on one thread."""

    needless = _NEEDLESS

    def define_pipelines(self) -> Any:
        """Return Numba's pipelines, shortened."""
        pipelines = super().define_pipelines()
        for pipeline in pipelines:
            pipeline.passes = [
                (step, words)
                for step, words in pipeline.passes
                if getattr(step, "__name__", "") not in self.needless
            ]
            pipeline.finalize()
        return pipelines


class LinkedCompiler(KernelCompiler):
    """A compiler for functions that only kernels call."""

    needless = _NEEDLESS | {"DeadBranchPrune"}  # LLVM prunes branches, when all are in one kernel

    def define_pipelines(self) -> Any:
        """Compile into a library of the above kind."""
        state = self.state
        if state.library is None:
            state.library = _LinkedLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        return super().define_pipelines()
