"""Training steps and predictions: everything between two updates in two phases.

**Row phase.** Each thread owns some rows of the batch. It gathers them from X, takes them forward
through all layers, computes their loss and its gradient, and comes back through all layers with
the gradient with respect to each layer's input. No thread waits for another.

**Weight phase.** Each thread owns some tiles of the weight matrices. For each tile it sums the
gradient over all rows of the batch and applies the update rule to it at once: a gradient never
leaves the cache of its core.

Between the phases all threads meet at a barrier. The same code with one thread is the serial twin.
Every number is computed in the same order whatever the number of threads.
"""

import functools

import numpy as np
from numba import from_dtype

from fastnn._jit import inner, member, routine
from fastnn.kernels.activations import activate_rows, differentiate_rows
from fastnn.kernels.affine import (
    backward_input_rows,
    backward_weight_tile,
    forward_rows,
    round_up,
)
from fastnn.kernels.codes import (
    AFFINE,
    B_AT,
    FUNCTION,
    GRADIENT,
    IDENTITY,
    KIND,
    MASKS_DX,
    N_COLUMNS,
    N_IN,
    N_OUT,
    NEEDS_DX,
    OUT_AT,
    OUT_STEP,
    OWN_DERIVATIVE,
    RELU,
    W_AT,
    W_PANEL_STEP,
    W_STEP,
    WT_AT,
    X_AT,
    X_STEP,
)
from fastnn.kernels.losses import loss_rows
from fastnn.kernels.memory import matrix_at, vector_at
from fastnn.kernels.team import barrier, team_starts
from fastnn.kernels.tile import (
    TILE_ROWS,
    TILE_VECTORS,
    lanes_of,
    load,
    store_transposed,
    zeros,
)
from fastnn.kernels.updates import step_size, sum_of_squares, update_block

# Rows that go through one layer together: a weight panel is read once for all of them, and their
# activations stay in the second-level cache.
CHUNK_ROWS = 64

TRAINING_JOB = np.dtype(
    {
        "names": [
            # Addresses. The plan (L, N_COLUMNS) and slopes (L,) say what to do; the tasks (T, 2)
            # are the weight phase in pieces, an operation and its row block or -1 for its bias;
            # cost_before (T + 1,) is the work in all tasks before each one.
            "plan", "slopes", "tasks", "cost_before",
            # Packed parameters (P,), two states of the update rule (P,), panels of w.T.
            "params", "state_1", "state_2", "transposed",
            # Activations and gradients of a batch, laid out by the plan; a tile for each member.
            "acts", "deltas", "scratch",
            # Samples x (N, I), labels (N,) int64 or targets (N, O), and their order (M,) int64.
            "x", "labels", "targets", "order",
            # Loss by position in the batch (batch_size,) float64, sums of squared weights by task
            # (T,) float64: both accumulate.
            "row_loss", "penalty", "hyperparameters",
            # Numbers.
            "n_operations", "n_tasks", "n_samples", "n_inputs", "n_outputs", "n_order",
            "batch_size", "first_step", "last_step", "updates_before", "rule", "loss",
            "scratch_size", "alpha", "loss_scale", "gradient_scale",
        ],
        "formats": [np.int64] * 31 + [np.float64] * 3,
    }
)  # fmt: skip
"""What a team needs to run steps [first_step, last_step) of an epoch."""
_TRAINING_RECORD = from_dtype(TRAINING_JOB)

PREDICTION_JOB = np.dtype(
    {
        "names": [
            "plan", "slopes", "params", "acts", "x", "out",
            "n_operations", "n_rows", "n_inputs", "n_outputs", "acts_size",
        ],
        "formats": [np.int64] * 11,
    }
)  # fmt: skip
"""What a team needs to predict: acts has room for CHUNK_ROWS rows for each member."""
_PREDICTION_RECORD = from_dtype(PREDICTION_JOB)


@inner
def _gather_rows(n_rows, n, x, samples, first, out, o, ld):
    """Overwrite rows of out with the rows x[samples[first : first + n_rows]]."""
    for r in range(n_rows):
        source = x[samples[first + r]]
        target = out[o + r * ld : o + r * ld + n]
        for c in range(n):
            target[c] = source[c]


@inner
def _copy(n, source, so, target, to):
    a, b = source[so : so + n], target[to : to + n]
    for i in range(n):
        b[i] = a[i]


@inner
def forward_chunk(plan, slopes, n_rows, row, params, acts):
    """Take rows [row, row + n_rows) of the workspace forward through all operations."""
    for l in range(plan.shape[0]):
        xo = plan[l, X_AT] + row * plan[l, X_STEP]
        oo, ldo = plan[l, OUT_AT] + row * plan[l, OUT_STEP], plan[l, OUT_STEP]
        n_out, function = plan[l, N_OUT], plan[l, FUNCTION]
        if plan[l, KIND] == AFFINE:
            forward_rows(
                n_rows, plan[l, N_IN], n_out, acts, xo, plan[l, X_STEP], 1, params, plan[l, W_AT],
                plan[l, W_PANEL_STEP], plan[l, W_STEP], params, plan[l, B_AT], acts, oo, ldo,
                function == RELU,
            )  # fmt: skip
            if function != IDENTITY and function != RELU:
                activate_rows(function, slopes[l], n_rows, n_out, acts, oo, ldo)
        else:
            _copy(n_rows * ldo, acts, xo, acts, oo)
            activate_rows(function, slopes[l], n_rows, n_out, acts, oo, ldo)


@inner
def backward_chunk(plan, slopes, n_rows, row, transposed, acts, deltas):
    """Take the gradients of rows [row, row + n_rows) back to the input of each operation.

    On entry the last operation's block of `deltas` holds the gradient of the loss; on return each
    operation's block holds the gradient before its activation.
    """
    for l in range(plan.shape[0] - 1, -1, -1):
        xo, ldx = plan[l, X_AT] + row * plan[l, X_STEP], plan[l, X_STEP]
        oo, ldo = plan[l, OUT_AT] + row * plan[l, OUT_STEP], plan[l, OUT_STEP]
        n_out = plan[l, N_OUT]
        if plan[l, OWN_DERIVATIVE]:
            differentiate_rows(
                plan[l, FUNCTION], slopes[l], n_rows, n_out, deltas, oo, acts, oo, ldo
            )
        if plan[l, NEEDS_DX]:
            if plan[l, KIND] == AFFINE:
                backward_input_rows(
                    n_rows, plan[l, N_IN], n_out, deltas, oo, ldo, transposed, plan[l, WT_AT],
                    deltas, xo, ldx, acts, plan[l, MASKS_DX] != 0,
                )  # fmt: skip
            else:
                _copy(n_rows * ldo, deltas, oo, deltas, xo)


@inner
def _copy_transposed(n_in, n_out, i, j, vectors, params, o, transposed, wt):
    """Write the tile of weights at o, rows from i and columns from j, into the panels of w.T."""
    lanes = lanes_of(params)
    panel = TILE_VECTORS * lanes
    p = i // panel
    width = min(round_up(n_in - p * panel, lanes), panel)
    at = i - p * panel
    target = wt + p * panel * n_out + j * width + at
    columns = min(vectors * lanes, n_out - j)
    whole = columns // lanes if at + TILE_ROWS <= width else 0
    for v in range(whole):
        tile = load(zeros(params, TILE_ROWS, 1), params, o + v * lanes, vectors * lanes)
        store_transposed(tile, transposed, target + v * lanes * width, width)
    for c in range(whole * lanes, columns):
        for r in range(min(TILE_ROWS, width - at)):
            transposed[target + c * width + r] = params[o + r * vectors * lanes + c]


@inner
def _sum_rows(n_rows, n, deltas, o, ld, out, to):
    """Overwrite out[to : to + n] with the sum of rows of deltas, one after the other."""
    total = out[to : to + n]
    for c in range(n):
        total[c] = out.dtype.type(0)
    for r in range(n_rows):
        row = deltas[o + r * ld : o + r * ld + n]
        for c in range(n):
            total[c] += row[c]


@routine
def run_task(
    plan, l, i, n_rows, rule, hyperparameters, step, decay, params, state_1, state_2, transposed,
    acts, deltas, scratch, so,
):  # fmt: skip
    """Sum the gradient of rows [i, i + TILE_ROWS) of w over the batch, and update them.

    With i < 0 the same for the bias. Returns the sum of the squares of the weights before the
    update where `decay` asks for it, else 0.
    """
    lanes = lanes_of(params)
    panel = TILE_VECTORS * lanes
    n_out = plan[l, N_OUT]
    squares = 0.0
    panel_at = plan[l, W_AT]
    for j in range(0, n_out, panel):
        vectors = min((n_out - j + lanes - 1) // lanes, TILE_VECTORS)
        delta_at = plan[l, OUT_AT] + j
        if i < 0:
            size = vectors * lanes
            at = plan[l, B_AT] + j
            _sum_rows(n_rows, size, deltas, delta_at, plan[l, OUT_STEP], scratch, so)
        else:
            size = TILE_ROWS * vectors * lanes
            at = panel_at + i * vectors * lanes
            backward_weight_tile(
                n_rows, acts, plan[l, X_AT] + i, plan[l, X_STEP], deltas, delta_at,
                plan[l, OUT_STEP], vectors, scratch, so,
            )  # fmt: skip
        p, g = params[at : at + size], scratch[so : so + size]
        l2 = decay if i >= 0 else 0.0
        if l2 != 0.0:
            squares += sum_of_squares(p)
        update_block(
            rule, hyperparameters, step, l2, p, state_1[at : at + size], state_2[at : at + size], g
        )
        if i >= 0 and plan[l, NEEDS_DX] and rule != GRADIENT:
            _copy_transposed(plan[l, N_IN], n_out, i, j, vectors, params, at, transposed,
                             plan[l, WT_AT])  # fmt: skip
        panel_at += plan[l, W_PANEL_STEP]
    return squares


@inner
def _task_at(cost_before, n_tasks, part, parts):
    """First task that begins at or after the fraction part / parts of all work."""
    share = cost_before[n_tasks] * part // parts
    k = 0
    while cost_before[k] < share:
        k += 1
    return k


@inner
def _first_row(n_rows, part, parts):
    """First row of a member's share of n_rows, in whole tiles."""
    return (n_rows + TILE_ROWS - 1) // TILE_ROWS * part // parts * TILE_ROWS


@functools.cache
def training_member(dtype):
    """Compile the training of nets of a dtype; return the member's address.

    Parameters
    ----------
    dtype : numpy.dtype

    Returns
    -------
    int
        Of a member for `TRAINING_JOB` (`fastnn.kernels.team.launch`).
    """
    number = dtype.type

    def train_steps(thread, n_threads, sync, job_address):
        if not team_starts(sync, n_threads):
            return
        job = vector_at(job_address, _TRAINING_RECORD)[0]
        plan = matrix_at(job.plan, job.n_operations, N_COLUMNS, np.int64)
        slopes = vector_at(job.slopes, np.float64)
        tasks = matrix_at(job.tasks, job.n_tasks, 2, np.int64)
        cost_before = vector_at(job.cost_before, np.int64)
        params, transposed = vector_at(job.params, number), vector_at(job.transposed, number)
        state_1, state_2 = vector_at(job.state_1, number), vector_at(job.state_2, number)
        acts, deltas = vector_at(job.acts, number), vector_at(job.deltas, number)
        scratch = vector_at(job.scratch, number)
        so = thread * job.scratch_size
        x = matrix_at(job.x, job.n_samples, job.n_inputs, number)
        labels = vector_at(job.labels, np.int64)
        targets = matrix_at(job.targets, job.n_samples, job.n_outputs, number)
        order = vector_at(job.order, np.int64)
        row_loss, penalty = vector_at(job.row_loss, np.float64), vector_at(job.penalty, np.float64)
        hyperparameters = vector_at(job.hyperparameters, np.float64)

        last = job.n_operations - 1
        first_task = _task_at(cost_before, job.n_tasks, thread, n_threads)
        end_task = _task_at(cost_before, job.n_tasks, thread + 1, n_threads)
        updates = job.updates_before
        for s in range(job.first_step, job.last_step):
            start = s * job.batch_size
            n = min(job.batch_size, job.n_order - start)

            # Row phase.
            high = _first_row(n, thread + 1, n_threads)
            for row in range(_first_row(n, thread, n_threads), high, CHUNK_ROWS):
                padded = min(CHUNK_ROWS, high - row)
                real = min(padded, n - row)
                _gather_rows(
                    real, job.n_inputs, x, order, start + row, acts,
                    plan[0, X_AT] + row * plan[0, X_STEP], plan[0, X_STEP],
                )  # fmt: skip
                forward_chunk(plan, slopes, padded, row, params, acts)
                loss_rows(
                    job.loss, number(job.loss_scale), number(job.gradient_scale / n), real,
                    plan[last, N_OUT], acts, plan[last, OUT_AT] + row * plan[last, OUT_STEP],
                    plan[last, OUT_STEP], deltas, order, start + row, labels, targets, row_loss,
                    row,
                )  # fmt: skip
                backward_chunk(plan, slopes, padded, row, transposed, acts, deltas)
            barrier(sync, n_threads)

            # Weight phase.
            updates += 1
            step = step_size(job.rule, hyperparameters, updates)
            for k in range(first_task, end_task):
                penalty[k] += run_task(
                    plan, tasks[k, 0], tasks[k, 1], n, job.rule, hyperparameters, step,
                    job.alpha / n, params, state_1, state_2, transposed, acts, deltas, scratch, so,
                )  # fmt: skip
            barrier(sync, n_threads)

    return member(train_steps)


@functools.cache
def prediction_member(dtype):
    """Compile the forward pass of nets of a dtype; return the address for `PREDICTION_JOB`."""
    number, itemsize = dtype.type, dtype.itemsize

    def predict_rows(thread, n_threads, sync, job_address):
        job = vector_at(job_address, _PREDICTION_RECORD)[0]
        plan = matrix_at(job.plan, job.n_operations, N_COLUMNS, np.int64)
        slopes = vector_at(job.slopes, np.float64)
        params, out = vector_at(job.params, number), vector_at(job.out, number)
        acts = vector_at(job.acts + thread * job.acts_size * itemsize, number)
        x = vector_at(job.x, number)
        last = job.n_operations - 1
        n_in, n_out = job.n_inputs, job.n_outputs
        high = _first_row(job.n_rows, thread + 1, n_threads)
        for row in range(_first_row(job.n_rows, thread, n_threads), high, CHUNK_ROWS):
            padded = min(CHUNK_ROWS, high - row)
            real = min(padded, job.n_rows - row)
            for r in range(real):
                _copy(n_in, x, (row + r) * n_in, acts, plan[0, X_AT] + r * plan[0, X_STEP])
            forward_chunk(plan, slopes, padded, 0, params, acts)
            for r in range(real):
                at = plan[last, OUT_AT] + r * plan[last, OUT_STEP]
                _copy(n_out, acts, at, out, (row + r) * n_out)

    return member(predict_rows)
