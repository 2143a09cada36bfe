"""Calls of compiled functions at addresses, which `fastnn.runtime.jit.member` and others return."""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic


@intrinsic
def call(typingctx, address, arguments):
    """Call the function at an address, which takes int64 and returns nothing."""

    def codegen(context, builder, signature, args):
        values = [
            context.cast(builder, value, number, types.int64)
            for value, number in zip(cgutils.unpack_tuple(builder, args[1]), arguments, strict=True)
        ]
        function = ir.FunctionType(ir.VoidType(), [ir.IntType(64)] * len(values))
        builder.call(builder.inttoptr(args[0], function.as_pointer()), values)
        return context.get_dummy_value()

    return types.void(types.int64, arguments), codegen
