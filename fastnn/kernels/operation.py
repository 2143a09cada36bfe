"""Operations with kernels of their own: the net's plan holds their addresses.

Affine layers and the usual activations are a part of the training step. All other layers bring
kernels that are compiled only for nets that have them, and called through their addresses:

    (operation, numbers, low, count, rows, acts, deltas, params, step, out), all int64

`operation` is the address of the operation's row of the plan (`fastnn.kernels.codes` names its
columns), `numbers` that of its float64 numbers. An `EXTERN` operation is called for the rows
[low, low + count) of the batch, by each thread for its own. A `BATCH` operation is called for the
panels [low, low + count) of columns and all `rows` of the batch. `acts`, `deltas` and `params` are
addresses of the workspace of activations, of that of their gradients, and of the parameters.

* FORWARD overwrites the operation's result in `acts`.
* BACKWARD overwrites the gradient with respect to its input in `deltas`, from that of the result.
* SUM_GRADIENT belongs to the weight phase: for the columns [low, low + count) of a panel it writes
  the gradients with respect to scale and shift, summed over `rows`, to the state in `deltas`.
* CONSTRAIN, after an update, changes the weights of a panel, columns [low, low + count), and the
  transposed ones at the address `out`.

`step` counts the updates, for dropout.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastnn._jit import inner
from fastnn.kernels.codes import N_COLUMNS, N_NUMBERS

_N_ARGUMENTS = 10
_WORD = 8  # bytes


@intrinsic
def call_operation(
    typingctx, address, operation, numbers, low, count, rows, acts, deltas, params, step, out
):
    """Call the kernel at an address."""

    def codegen(context, builder, signature, args):
        function = ir.FunctionType(ir.VoidType(), [ir.IntType(64)] * _N_ARGUMENTS)
        builder.call(builder.inttoptr(args[0], function.as_pointer()), args[1:])
        return context.get_dummy_value()

    return types.void(*[types.int64] * (_N_ARGUMENTS + 1)), codegen


@inner
def run_operation(which, plan, numbers, l, low, count, rows, acts, deltas, params, step, out):
    """Call one of the kernels of operation l: FORWARD, BACKWARD, SUM_GRADIENT or CONSTRAIN."""
    call_operation(
        plan[l, which], plan.ctypes.data + l * N_COLUMNS * _WORD,
        numbers.ctypes.data + l * N_NUMBERS * _WORD, low, count, rows, acts.ctypes.data,
        deltas.ctypes.data, params.ctypes.data, step,
        out.ctypes.data,
    )  # fmt: skip
