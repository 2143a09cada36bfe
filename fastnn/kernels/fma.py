"""The multiply-add with one rounding, of numbers.

Kernels are compiled with strict arithmetic: LLVM neither reorders a sum nor decides which product
it joins with which sum. Where one rounding in place of two is wanted, the source says so. Hence the
same bits for any width of vectors and any version of the compiler.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic


@intrinsic
def fma(typingctx, a, b, c):
    """Return a * b + c, rounded once, for three floats of one type.

    On a CPU without the instruction it is rounded twice: `llvm.fma` would call a function there.
    """
    if not (isinstance(c, types.Float) and a == b == c):
        raise TypingError(f"fma takes three floats of one type, got {a}, {b}, {c}")

    def codegen(context, builder, signature, args):
        number = context.get_value_type(c)
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(number, [number] * 3), f"llvm.fmuladd.f{c.bitwidth}"
        )
        return builder.call(function, args)

    return c(a, b, c), codegen
