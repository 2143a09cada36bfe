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

import numpy as np
from numba import prange

from fastnn._jit import inner, kernel, parallel_kernel, routine
from fastnn.kernels.activations import activate_rows, differentiate_rows
from fastnn.kernels.affine import (
    backward_input_rows,
    backward_weight_tile,
    forward_rows,
    round_up,
)
from fastnn.kernels.codes import AFFINE, GRADIENT, IDENTITY, RELU
from fastnn.kernels.losses import loss_rows
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


@routine
def gather_rows(n_rows, x, samples, out, o, ld):
    """Overwrite rows of out with the rows x[samples]."""
    n = x.shape[1]
    for r in range(n_rows):
        source = x[samples[r]]
        target = out[o + r * ld : o + r * ld + n]
        for c in range(n):
            target[c] = source[c]


@routine
def forward_chunk(plan, n_rows, row, params, acts):
    """Take rows [row, row + n_rows) of the workspace forward through all operations."""
    for l in range(plan.size):
        op = plan[l]
        xo, oo = op.x + row * op.ldx, op.out + row * op.ldo
        if op.kind == AFFINE:
            forward_rows(
                n_rows, op.n_in, op.n_out, acts, xo, op.ldx, params, op.w, op.panel_step, op.ldw,
                params, op.b, acts, oo, op.ldo, op.activation == RELU,
            )  # fmt: skip
        else:
            acts[oo : oo + n_rows * op.ldo] = acts[xo : xo + n_rows * op.ldx]
        if op.activation != IDENTITY and not (op.kind == AFFINE and op.activation == RELU):
            activate_rows(op.activation, op.slope, n_rows, op.n_out, acts, oo, op.ldo)


@routine
def backward_chunk(plan, n_rows, row, transposed, acts, deltas):
    """Take the gradients of rows [row, row + n_rows) back to the input of each operation.

    On entry the last operation's block of `deltas` holds the gradient of the loss; on return each
    operation's block holds the gradient before its activation.
    """
    for l in range(plan.size - 1, -1, -1):
        op = plan[l]
        xo, oo = op.x + row * op.ldx, op.out + row * op.ldo
        if op.own_derivative:
            differentiate_rows(
                op.activation, op.slope, n_rows, op.n_out, deltas, oo, acts, oo, op.ldo
            )
        if op.needs_dx:
            if op.kind == AFFINE:
                backward_input_rows(
                    n_rows, op.n_in, op.n_out, deltas, oo, op.ldo, transposed, op.wt,
                    deltas, xo, op.ldx, acts, op.masks_dx != 0,
                )  # fmt: skip
            else:
                deltas[xo : xo + n_rows * op.ldx] = deltas[oo : oo + n_rows * op.ldo]


@routine
def _copy_transposed(n_in, n_out, i, j, vectors, params, o, transposed, wt):
    """Write the tile of weights at o, rows from i and columns from j, into the panels of w.T."""
    lanes = lanes_of(params)
    panel = TILE_VECTORS * lanes
    p = i // panel
    width = min(round_up(n_in - p * panel, lanes), panel)
    target = wt + p * panel * n_out + j * width + (i - p * panel)
    columns = min(vectors * lanes, n_out - j)
    if columns == vectors * lanes:
        for v in range(vectors):
            tile = load(zeros(params, TILE_ROWS, 1), params, o + v * lanes, vectors * lanes)
            store_transposed(tile, transposed, target + v * lanes * width, width)
    else:
        for c in range(columns):
            for r in range(TILE_ROWS):
                transposed[target + c * width + r] = params[o + r * vectors * lanes + c]


@routine
def update_weights(
    op, i, n_rows, rule, hyperparameters, step, decay, params, state_1, state_2, transposed, acts,
    deltas, scratch, so,
):  # fmt: skip
    """Sum the gradient of TILE_ROWS rows of w over the batch, and update them.

    Return the sum of their squares before the update (the L2 penalty), or 0 when decay is 0.
    """
    lanes = lanes_of(params)
    panel = TILE_VECTORS * lanes
    squares = 0.0
    j = 0
    o = op.w
    while j < op.n_out:
        vectors = min((op.n_out - j + lanes - 1) // lanes, TILE_VECTORS)
        size = TILE_ROWS * vectors * lanes
        po = o + i * vectors * lanes
        backward_weight_tile(
            n_rows, acts, op.x + i, op.ldx, deltas, op.out + j, op.ldo, vectors, scratch, so
        )
        p = params[po : po + size]
        if decay != 0.0:
            squares += sum_of_squares(p)
        if rule == GRADIENT:
            gradient = state_1[po : po + size]
            for k in range(size):
                gradient[k] = scratch[so + k] + params.dtype.type(decay) * p[k]
        else:
            update_block(
                rule, hyperparameters, step, decay, p, state_1[po : po + size],
                state_2[po : po + size], scratch[so : so + size],
            )  # fmt: skip
            if op.needs_dx:
                _copy_transposed(op.n_in, op.n_out, i, j, vectors, params, po, transposed, op.wt)
        o += op.panel_step
        j += panel
    return squares


@routine
def update_bias(
    op, n_rows, rule, hyperparameters, step, params, state_1, state_2, deltas, scratch, so
):
    """Sum the gradient of the bias over the batch, and update it."""
    lanes = lanes_of(params)
    panel = TILE_VECTORS * lanes
    for j in range(0, op.n_out, panel):
        size = min(round_up(op.n_out - j, lanes), panel)
        gradient = scratch[so : so + size]
        gradient[:] = params.dtype.type(0)
        for r in range(n_rows):
            row = deltas[op.out + r * op.ldo + j : op.out + r * op.ldo + j + size]
            for c in range(size):
                gradient[c] += row[c]
        o = op.b + j
        if rule == GRADIENT:
            state_1[o : o + size] = gradient
        else:
            update_block(
                rule, hyperparameters, step, 0.0, params[o : o + size], state_1[o : o + size],
                state_2[o : o + size], gradient,
            )  # fmt: skip


@inner
def _task_at(cost_before, part, parts):
    """First task that begins at or after the fraction part / parts of all work."""
    share = cost_before[cost_before.size - 1] * part // parts
    k = 0
    while cost_before[k] < share:
        k += 1
    return k


@kernel
def train_steps(
    thread, n_threads, sync, plan, tasks, cost_before, params, state_1, state_2, transposed, acts,
    deltas, scratch, x, labels, targets, order, batch_size, first, last, rule, hyperparameters,
    updates_before, alpha, loss, loss_scale, gradient_scale, row_loss, penalty,
):  # fmt: skip
    """Run steps [first, last) of an epoch as member `thread` of a team of `n_threads`.

    Parameters
    ----------
    sync : (SYNC_SIZE,) int64
        Zeros: where the team meets.
    plan : (L,) OPERATION
    tasks : (T, 2) int64
        The weight phase in pieces: an operation and its row block, or -1 for its bias.
    cost_before : (T + 1,) int64
        Work in all tasks before each one: members get equal shares of neighbouring tasks.
    params, state_1, state_2, transposed : (P,) float
        Packed parameters, the two states of the update rule, panels of the transposed weights.
    acts, deltas : float
        Activations and gradients of a batch, laid out by the plan.
    scratch : (n_threads * S,) float
        A tile for each member.
    x : (N, I) float
    labels : (N,) int64
    targets : (N, O) float
        Either labels or targets is used, by the kind of loss; the other one is empty.
    order : (N,) int64
        Samples of the epoch in the order of training.
    row_loss : (batch_size,) float64
        Accumulates the loss by position in the batch.
    penalty : (T,) float64
        Accumulates the sums of squares of the weights before each update, by task.
    """
    if not team_starts(sync, n_threads):
        return
    number = params.dtype.type
    so = thread * (scratch.size // n_threads)
    last_op = plan[plan.size - 1]
    first_task = _task_at(cost_before, thread, n_threads)
    end_task = _task_at(cost_before, thread + 1, n_threads)
    for s in range(first, last):
        start = s * batch_size
        n = min(batch_size, order.size - start)
        scale = gradient_scale / n
        blocks = (n + TILE_ROWS - 1) // TILE_ROWS
        low = blocks * thread // n_threads * TILE_ROWS
        high = blocks * (thread + 1) // n_threads * TILE_ROWS
        for row in range(low, high, CHUNK_ROWS):
            padded = min(CHUNK_ROWS, high - row)
            real = min(padded, n - row)
            samples = order[start + row : start + row + real]
            gather_rows(real, x, samples, acts, plan[0].x + row * plan[0].ldx, plan[0].ldx)
            forward_chunk(plan, padded, row, params, acts)
            oo = last_op.out + row * last_op.ldo
            loss_rows(
                loss, number(loss_scale), number(scale), real, last_op.n_out, acts, oo,
                last_op.ldo, deltas, oo, samples, labels, targets, row_loss[row : row + real],
            )  # fmt: skip
            backward_chunk(plan, padded, row, transposed, acts, deltas)
        barrier(sync, n_threads)
        step = step_size(rule, hyperparameters, updates_before + s - first + 1)
        for k in range(first_task, end_task):
            op = plan[tasks[k, 0]]
            if tasks[k, 1] < 0:
                update_bias(
                    op, n, rule, hyperparameters, step, params, state_1, state_2, deltas, scratch,
                    so,
                )  # fmt: skip
            else:
                penalty[k] += update_weights(
                    op, tasks[k, 1], n, rule, hyperparameters, step, alpha / n, params, state_1,
                    state_2, transposed, acts, deltas, scratch, so,
                )  # fmt: skip
        barrier(sync, n_threads)


@parallel_kernel
def train_steps_parallel(
    n_threads, sync, plan, tasks, cost_before, params, state_1, state_2, transposed, acts,
    deltas, scratch, x, labels, targets, order, batch_size, first, last, rule, hyperparameters,
    updates_before, alpha, loss, loss_scale, gradient_scale, row_loss, penalty,
):  # fmt: skip
    """Run `train_steps` on all members of a team at the same time."""
    for thread in prange(n_threads):
        train_steps(
            np.intp(thread), n_threads, sync, plan, tasks, cost_before, params, state_1, state_2,
            transposed, acts, deltas, scratch, x, labels, targets, order, batch_size, first, last,
            rule, hyperparameters, updates_before, alpha, loss, loss_scale, gradient_scale,
            row_loss, penalty,
        )  # fmt: skip


@kernel
def predict_rows(thread, n_threads, sync, plan, params, acts, x, out):
    """Overwrite out (N, O) with the net's output for x (N, I), as member `thread` of a team.

    `acts` has room for CHUNK_ROWS rows for each member. Members never meet: `sync` is not used.
    """
    last_op = plan[plan.size - 1]
    part = acts.size // n_threads
    own = acts[thread * part : (thread + 1) * part]
    blocks = (x.shape[0] + TILE_ROWS - 1) // TILE_ROWS
    low = blocks * thread // n_threads * TILE_ROWS
    high = blocks * (thread + 1) // n_threads * TILE_ROWS
    n_in, n_out = x.shape[1], last_op.n_out
    for row in range(low, high, CHUNK_ROWS):
        padded = min(CHUNK_ROWS, high - row)
        real = min(padded, x.shape[0] - row)
        for r in range(real):
            source, target = x[row + r], own[plan[0].x + r * plan[0].ldx :]
            for c in range(n_in):
                target[c] = source[c]
        forward_chunk(plan, padded, 0, params, own)
        for r in range(real):
            source, target = own[last_op.out + r * last_op.ldo :], out[row + r]
            for c in range(n_out):
                target[c] = source[c]


@parallel_kernel
def predict_rows_parallel(n_threads, sync, plan, params, acts, x, out):
    """Run `predict_rows` on all members of a team."""
    for thread in prange(n_threads):
        predict_rows(np.intp(thread), n_threads, sync, plan, params, acts, x, out)
