"""Operations with kernels of their own: the net's plan holds their addresses.

The products of affine layers, and a ReLU after one, are a part of the training step. All else has
kernels that are compiled only for nets that have it, and called through their addresses:

    (operation, numbers, low, count, rows, acts, deltas, params, step, out), all int64

`operation` is the address of the operation's row of the plan (`fastnn.kernels.codes` names its
columns), `numbers` that of its float64 numbers. An `EXTERN` operation is called for the rows
[low, low + count) of the batch, by each thread for its own. A `BATCH` operation is called for the
panels [low, low + count) of columns and all `rows` of the batch. `acts`, `deltas` and `params` are
addresses of the workspace of activations, of that of their gradients, and of the parameters.

* FORWARD overwrites the operation's result in `acts`, and ACTIVATE its activation in place.
* DIFFERENTIATE multiplies the gradient of the result in `deltas` by the activation's derivative.
* BACKWARD overwrites the gradient with respect to its input in `deltas`, from that of the result.
* SUM_GRADIENT belongs to the weight phase: for the columns [low, low + count) of a panel it writes
  the gradients with respect to scale and shift, summed over `rows`, to the state in `deltas`.
* CONSTRAIN, after an update, changes the weights of a panel, columns [low, low + count), and the
  transposed ones at the address `out`.

`step` counts the updates, for dropout.
"""

from fastnn.kernels.calls import call
from fastnn.kernels.codes import N_COLUMNS, N_NUMBERS
from fastnn.runtime.jit import inner

_WORD = 8  # bytes


@inner
def run_operation(which, plan, numbers, l, low, count, rows, acts, deltas, params, step, out):
    """Call one of the kernels of operation l: `which` is its column, FORWARD for one."""
    call(
        plan[l, which],
        (
            plan.ctypes.data + l * N_COLUMNS * _WORD, numbers.ctypes.data + l * N_NUMBERS * _WORD,
            low, count, rows, acts.ctypes.data, deltas.ctypes.data, params.ctypes.data, step,
            out.ctypes.data,
        ),
    )  # fmt: skip
