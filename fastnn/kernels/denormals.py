"""Numbers too small for all of their digits, which count as zero while a net computes.

Below 1.2e-38 (float32) or 2.2e-308 (float64) floats lose digits one by one: they are *denormal*.
Many CPUs of x86 compute with them in microcode, up to a hundred times as slowly, and nets make
them: the momentum of a neuron that has died shrinks by a tenth in each step and stays at the least
denormal for ever, since rounding takes it no further. A net without them learns the same. CPUs of
other kinds are as quick with denormal numbers as with all others, and keep them.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_FLUSH = 0x8040
"""Bits of x86's MXCSR: denormal results become zero (FTZ), denormal operands count as it (DAZ)."""


def _is_x86(builder):
    return builder.module.triple.startswith(("x86_64", "i386", "i686"))


def _access_mxcsr(builder, name, slot):
    pointer = builder.bitcast(slot, ir.IntType(8).as_pointer())
    function = ir.FunctionType(ir.VoidType(), [ir.IntType(8).as_pointer()])
    builder.call(cgutils.get_or_insert_function(builder.module, function, name), [pointer])


@intrinsic
def flush_denormals(typingctx):
    """Let this thread take denormal numbers for zero; return what `restore_denormals` needs."""

    def codegen(context, builder, signature, args):
        i32, i64 = ir.IntType(32), ir.IntType(64)
        if not _is_x86(builder):
            return ir.Constant(i64, 0)
        slot = cgutils.alloca_once(builder, i32)
        _access_mxcsr(builder, "llvm.x86.sse.stmxcsr", slot)
        before = builder.load(slot)
        builder.store(builder.or_(before, ir.Constant(i32, _FLUSH)), slot)
        _access_mxcsr(builder, "llvm.x86.sse.ldmxcsr", slot)
        return builder.zext(before, i64)

    return types.int64(), codegen


@intrinsic
def restore_denormals(typingctx, before):
    """Let this thread compute as before `flush_denormals`: it may belong to somebody else."""

    def codegen(context, builder, signature, args):
        if _is_x86(builder):
            slot = cgutils.alloca_once(builder, ir.IntType(32))
            builder.store(builder.trunc(args[0], ir.IntType(32)), slot)
            _access_mxcsr(builder, "llvm.x86.sse.ldmxcsr", slot)
        return context.get_dummy_value()

    return types.void(types.int64), codegen
