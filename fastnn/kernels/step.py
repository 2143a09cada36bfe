"""Training steps: everything between two updates in two phases.

**Row phase.** Each thread owns some rows of the batch. It gathers them from X, takes them forward
through all layers, computes their loss and its gradient, and comes back through all layers with
the gradient with respect to each layer's input. No thread waits for another.

**Weight phase.** Each thread owns some tiles of the weight matrices. For each tile it sums the
gradient over all rows of the batch and applies the update rule to it at once: a gradient never
leaves the cache of its core.

Between the phases all threads meet at a barrier. An operation that needs the whole batch (batch
normalisation) cuts the row phase: all threads meet, share out its columns, and meet again. Where
the norm of the whole gradient must be known before an update, the weight phase takes two passes.
A loss that is not finite stops all threads before the weight phase: no parameter has moved.
The same code with one thread is the serial twin.
Every number is computed in the same order whatever the number of threads.
"""

import functools
import math

import numpy as np

from fastnn.kernels.affine import (
    KEEP,
    MASK,
    NO_BIAS,
    RECTIFY,
    backward_weight_block,
    multiply_rows,
)
from fastnn.kernels.calls import call
from fastnn.kernels.codes import (
    ACTIVATE,
    ACTIVATION,
    ADD,
    AFFINE,
    B_AT,
    BACKWARD,
    BATCH,
    CLIP_VALUE,
    CONSTRAIN,
    DECAY,
    DIFFERENTIATE,
    EXTERN,
    FORK,
    FORWARD,
    FUNCTION,
    GRADIENT,
    HAS_BIAS,
    KIND,
    L1,
    L2,
    MASKS_DX,
    MOMENTUM_PRODUCT,
    N_COLUMNS,
    N_IN,
    N_NUMBERS,
    N_OUT,
    NEEDS_DX,
    OTHER_AT,
    OUT_AT,
    OUT_PANEL,
    RELU,
    STATE_AT,
    STATE_STEP,
    SUM_GRADIENT,
    W_AT,
    W_PANEL,
    WT_AT,
    X_AT,
    X_PANEL,
)
from fastnn.kernels.denormals import flush_denormals, restore_denormals
from fastnn.kernels.job import SIZES, TRAINING_RECORD
from fastnn.kernels.memory import matrix_at, vector_at
from fastnn.kernels.operation import run_operation
from fastnn.kernels.panels import (
    add_rows,
    copy_rows,
    copy_to_panels,
    copy_transposed,
    panel_columns,
    panel_width,
    prefetch_lines,
)
from fastnn.kernels.sparse import (
    backward_weight_block_sparse,
    multiply_sparse_row,
    sort_by_column,
)
from fastnn.kernels.team import barrier, team_starts
from fastnn.kernels.tile import TILE_ROWS, add, cell_of, lanes_of, load, store, zeros
from fastnn.kernels.updates import (
    clip_block,
    decay_block,
    penalise,
    scale_block,
    write_squares,
    write_step_sizes,
)
from fastnn.runtime.jit import inner, member, pasted

# Rows that go through one layer together: a weight panel is read once for all of them, and their
# activations stay in the second-level cache.
CHUNK_ROWS = 64

# Most rows of a block of a weight matrix, which one task of the weight phase sums and updates:
# a multiple of TILE_ROWS. Enough for long loops, and the block stays in the first-level cache.
BLOCK_ROWS = 24


@pasted
def _prefetch_samples(first, last, n, x, n_targets, targets, order):
    """Fetch the samples order[first : last] for later: n numbers of x each, and their targets."""
    for r in range(first, last):
        prefetch_lines(n, x, order[r] * n)
        prefetch_lines(n_targets, targets, order[r] * n_targets)


@pasted
def forward_chunk(plan, numbers, first, end, row, n_rows, params, acts, deltas, step):
    """Take rows [row, row + n_rows) of the workspace through the operations [first, end).

    Those of the kind BATCH have been done already, but for their activation.
    """
    for l in range(first, end):
        kind, n_out = plan[l, KIND], plan[l, N_OUT]
        at, distance = plan[l, OUT_AT], plan[l, OUT_PANEL]
        if kind == AFFINE:
            multiply_rows(
                row, n_rows, plan[l, N_IN], n_out, acts, plan[l, X_AT], plan[l, X_PANEL],
                params, plan[l, W_AT], plan[l, W_PANEL], params, plan[l, B_AT],
                acts, at, distance, acts, RECTIFY if plan[l, FUNCTION] == RELU else KEEP,
            )  # fmt: skip
        elif kind == EXTERN:
            run_operation(
                FORWARD, plan, numbers, l, row, n_rows, n_rows, acts, deltas, params, step, acts
            )
        elif (kind == ACTIVATION or kind == ADD) and plan[l, X_AT] != at:
            copy_rows(row, n_rows, n_out, acts, plan[l, X_AT], acts, at, distance)
        if kind == ADD:
            add_rows(row, n_rows, n_out, acts, plan[l, OTHER_AT], acts, at, distance)
        if plan[l, ACTIVATE] != 0:
            run_operation(
                ACTIVATE, plan, numbers, l, row, n_rows, n_rows, acts, deltas, params, step, acts
            )


@inner
def forward_sparse_row(plan, r, low, high, data, indices, params, acts):
    """Take a sparse sample with entries [low, high) through the first operation, but for its end.

    Its result is row r of the workspace.
    """
    multiply_sparse_row(
        r, low, high, data, indices, plan[0, N_OUT], params, plan[0, W_AT], plan[0, W_PANEL],
        params, plan[0, B_AT], acts, plan[0, OUT_AT], plan[0, OUT_PANEL],
        RECTIFY if plan[0, FUNCTION] == RELU else KEEP,
    )  # fmt: skip


@pasted
def backward_chunk(plan, numbers, first, end, row, n_rows, params, transposed, acts, deltas, step):
    """Take the gradients of rows [row, row + n_rows) back through the operations [first, end).

    On entry the last operation's panels in `deltas` hold the gradient of the loss; on return each
    operation's panels hold the gradient before its activation, and of those of the kind BATCH that
    is all that has been done.
    """
    panel = panel_columns(acts)
    for l in range(end - 1, first - 1, -1):
        kind, n_out = plan[l, KIND], plan[l, N_OUT]
        oo, distance = plan[l, OUT_AT], plan[l, OUT_PANEL]
        if plan[l, DIFFERENTIATE] != 0:
            run_operation(
                DIFFERENTIATE, plan, numbers, l, row, n_rows, n_rows, acts, deltas, params, step,
                deltas,
            )  # fmt: skip
        if plan[l, NEEDS_DX]:
            if kind == AFFINE:
                multiply_rows(
                    row, n_rows, n_out, plan[l, N_IN], deltas, oo, distance,
                    transposed, plan[l, WT_AT], panel * n_out, transposed, NO_BIAS,
                    deltas, plan[l, X_AT], plan[l, X_PANEL], acts,
                    MASK if plan[l, MASKS_DX] else KEEP,
                )  # fmt: skip
            elif kind == EXTERN:
                run_operation(
                    BACKWARD, plan, numbers, l, row, n_rows, n_rows, acts, deltas, params, step,
                    deltas,
                )  # fmt: skip
            elif kind == FORK:
                add_rows(row, n_rows, n_out, deltas, plan[l, OTHER_AT], deltas, oo, distance)
            elif kind != BATCH and plan[l, X_AT] != oo:
                copy_rows(row, n_rows, n_out, deltas, oo, deltas, plan[l, X_AT], distance)


@inner
def _sum_tile(tile, n_rows, n, deltas, o, out, to):
    for r in range(n_rows):
        tile = add(tile, load(tile, deltas, o + r * n, 0))
    store(tile, out, to, 0)


@pasted
def _sum_rows(n_rows, n, deltas, o, out, to):
    """Overwrite out[to : to + n] with the sum of n_rows rows of n, one after the other."""
    lanes = lanes_of(out)
    if n == 3 * lanes:
        _sum_tile(zeros(out, 1, 3), n_rows, n, deltas, o, out, to)
    elif n == 2 * lanes:
        _sum_tile(zeros(out, 1, 2), n_rows, n, deltas, o, out, to)
    else:
        _sum_tile(zeros(out, 1, 1), n_rows, n, deltas, o, out, to)


@pasted
def _sum_gradients(
    sparse, plan, numbers, l, i, n_i, j, width, n_rows, params, state_1, state_2, at, acts, deltas,
    column_end, entry_row, entry_value, g, w_to, b_to,
):  # fmt: skip
    """Overwrite g[w_to :] with the gradient of a task's weights, summed over the batch.

    And, if the task has one, g[b_to :] with that of its bias. The weights are at params[at :].
    With `sparse`, the first operation takes the sorted entries of a batch.
    """
    if plan[l, KIND] != AFFINE:
        if plan[l, SUM_GRADIENT] != 0:  # otherwise the way back has done it
            run_operation(
                SUM_GRADIENT, plan, numbers, l, j, width, n_rows, acts, deltas, params, 0, g
            )
        return
    panel, n_in = panel_columns(params), plan[l, N_IN]
    delta_at = plan[l, OUT_AT] + j // panel * plan[l, OUT_PANEL]
    if i == 0 and plan[l, HAS_BIAS]:
        _sum_rows(n_rows, width, deltas, delta_at, g, b_to)
    if sparse and l == 0:
        backward_weight_block_sparse(
            i, n_i, n_in, column_end, entry_row, entry_value, deltas, delta_at, width, g, w_to
        )
    else:
        backward_weight_block(
            n_rows, i, n_i, n_in, acts, plan[l, X_AT], plan[l, X_PANEL], deltas, delta_at, width,
            g, w_to, params, state_1, state_2, at,
        )  # fmt: skip


@pasted
def run_task(
    phase, last_phase, factor, sparse, plan, numbers, tasks, k, n_rows, rule, update,
    hyperparameters, sizes, rate, alpha, all_penalties, all_squares, params, state_1, state_2,
    transposed, acts, deltas, column_end, entry_row, entry_value, gradient, scratch, so,
):  # fmt: skip
    """Sum the gradient of a block of w over the batch, and update the block.

    The block has n_i rows from i on, and the columns of the panel that begins at j.
    The first block of a panel updates its part of the bias too. Of an operation with scale and
    shift for each column, a task has those of a panel.

    In phase 0 the gradient is summed; in the last phase, which may be the same, it is multiplied by
    `factor` and used. Between two phases it stays in `gradient`.

    In phase 0 the penalty on the weights before the update is added to the penalties of the
    block's cells, and where there is another phase the sums of the squares of the gradient are
    written.
    """
    l, i, n_i, j, unit = tasks[k, 0], tasks[k, 1], tasks[k, 2], tasks[k, 3], tasks[k, 4]
    panel = panel_columns(params)
    is_affine, n_out = plan[l, KIND] == AFFINE, plan[l, N_OUT]
    width = panel_width(n_out, j, params, panel)
    b_at = plan[l, B_AT] + j
    if is_affine:
        at, size = plan[l, W_AT] + j // panel * plan[l, W_PANEL] + i * width, n_i * width
        has_shift = i == 0 and plan[l, HAS_BIAS] != 0
        if last_phase == 0:
            g, w_to, b_to = scratch, so, so + BLOCK_ROWS * panel
        else:
            g, w_to, b_to = gradient, at, b_at
    else:
        at, size, has_shift = plan[l, W_AT] + j, width, True
        g, w_to = deltas, plan[l, STATE_AT] + j
        b_to = w_to + plan[l, STATE_STEP]
    if phase == 0:
        _sum_gradients(
            sparse, plan, numbers, l, i, n_i, j, width, n_rows, params, state_1, state_2, at, acts,
            deltas, column_end, entry_row, entry_value, g, w_to, b_to,
        )  # fmt: skip
    columns, cell = min(width, n_out - j), cell_of(params)
    n_units, row_units = (columns + cell - 1) // cell, (n_out + cell - 1) // cell
    for is_shift in (True, False):
        if is_shift and not has_shift:
            continue
        first, n, start = (b_at, width, b_to) if is_shift else (at, size, w_to)
        weights = is_affine and not is_shift
        at_unit = unit - row_units if is_shift else unit
        p, block = params[first : first + n], g[start : start + n]
        if phase == 0:
            l1, l2 = numbers[l, L1], numbers[l, L2] + alpha
            if weights and (l1 != 0.0 or l2 != 0.0):
                penalties = all_penalties[at_unit : at_unit + n_units]
                penalise(l1, l2, n // width, width, columns, p, block, 1.0 * n_rows, penalties)
            if hyperparameters[CLIP_VALUE] < np.inf:
                clip_block(hyperparameters, block)
            if last_phase > 0:
                squares = all_squares[at_unit : at_unit + n_units]
                write_squares(n // width, width, columns, block, squares)
        if phase == last_phase:
            if factor != 1.0:
                scale_block(factor, block)
            if weights and numbers[l, DECAY] != 0.0:
                decay_block(rate * numbers[l, DECAY], p)
            call(
                update,
                (
                    hyperparameters.ctypes.data, sizes, n, p.ctypes.data,
                    state_1[first : first + n].ctypes.data, state_2[first : first + n].ctypes.data,
                    block.ctypes.data,
                ),
            )  # fmt: skip
    if phase == last_phase and is_affine and plan[l, NEEDS_DX] and rule != GRADIENT:
        copy_transposed(
            plan[l, N_IN], n_out, i, n_i, j, width, params, at, transposed, plan[l, WT_AT]
        )


@pasted
def _constrain(thread, n_threads, plan, numbers, acts, deltas, params, transposed):
    """Let a member bring its share of all constrained weights back into their limits."""
    panel = panel_columns(params)
    for l in range(plan.shape[0]):
        if plan[l, CONSTRAIN] != 0:
            for j in range(thread * panel, plan[l, N_OUT], n_threads * panel):
                width = panel_width(plan[l, N_OUT], j, params, panel)
                run_operation(
                    CONSTRAIN, plan, numbers, l, j, width, 0, acts, deltas, params, 0, transposed
                )


@inner
def _segment_start(plan, k):
    """First operation of segment k of the row phase: the k-th BATCH, counted from 1.

    Segment 0 begins with the net, even if that begins with a BATCH.
    """
    l = 0
    while k > 0 and l < plan.shape[0]:
        if plan[l, KIND] == BATCH:
            k -= 1
        l += 1
    return l if k > 0 else max(l - 1, 0)


@inner
def _task_at(cost_before, n_tasks, part, parts):
    """First task that begins at or after the fraction part / parts of all work."""
    share = cost_before[n_tasks] * part // parts
    k = 0
    while cost_before[k] < share:
        k += 1
    return k


@inner
def _all_finite(n, values):
    """Whether the first n values are finite: counted, since a loop that may stop has no vectors."""
    count = 0
    for k in range(n):
        count += abs(values[k]) < np.inf
    return count == n


@inner
def first_row(n_rows, part, parts):
    """First row of a member's share of n_rows, in whole tiles."""
    return (n_rows + TILE_ROWS - 1) // TILE_ROWS * part // parts * TILE_ROWS


@functools.cache
def training_member(dtype, sparse=False):
    """Compile the training of nets of a dtype; return the member's address.

    Parameters
    ----------
    dtype : numpy.dtype
    sparse : bool
        Whether samples are sparse (`fastnn.kernels.sparse`). The first operation is affine then.

    Returns
    -------
    int
        Of a member for `TRAINING_JOB` (`fastnn.kernels.team.launch`).
    """
    number = dtype.type

    def train_steps(thread, n_threads, sync, job_address):
        if not team_starts(sync, n_threads):
            return
        denormals_before = flush_denormals()
        job = vector_at(job_address, TRAINING_RECORD)[0]
        plan = matrix_at(job.plan, job.n_operations, N_COLUMNS, np.int64)
        numbers = matrix_at(job.numbers, job.n_operations, N_NUMBERS, np.float64)
        tasks = matrix_at(job.tasks, job.n_tasks, 5, np.int64)
        cost_before = vector_at(job.cost_before, np.int64)
        params, transposed = vector_at(job.params, number), vector_at(job.transposed, number)
        state_1, state_2 = vector_at(job.state_1, number), vector_at(job.state_2, number)
        acts, deltas = vector_at(job.acts, number), vector_at(job.deltas, number)
        gradient, scratch = vector_at(job.gradient, number), vector_at(job.scratch, number)
        squares = vector_at(job.squares, np.float64)
        so = thread * job.scratch_size
        x = vector_at(job.x, number)
        indices, indptr = vector_at(job.indices, np.int32), vector_at(job.indptr, np.int64)
        column_end = vector_at(job.column_end, np.int64)
        entry_row = vector_at(job.entry_row, np.int32)
        entry_value = vector_at(job.entry_value, number)
        targets, order = vector_at(job.targets, number), vector_at(job.order, np.int64)
        batch_weight = vector_at(job.batch_weight, np.float64)
        batch_loss = vector_at(job.batch_loss, np.float64)
        penalty = vector_at(job.penalty, np.float64)
        rates = vector_at(job.rates, np.float64)
        sizes = vector_at(job.sizes + thread * SIZES * 8, np.float64)
        hyperparameters = vector_at(job.hyperparameters, np.float64)

        panel = panel_columns(params)
        n_segments = 1
        for l in range(job.n_operations):
            n_segments += plan[l, KIND] == BATCH
        first_task = _task_at(cost_before, job.n_tasks, thread, n_threads)
        end_task = _task_at(cost_before, job.n_tasks, thread + 1, n_threads)
        own_rows = (job.batch_size + n_threads - 1) // n_threads
        own_tasks = max(end_task - first_task, 1)
        last_phase = 1 if job.clip_norm < np.inf else 0
        updates, product = job.updates_before, hyperparameters[MOMENTUM_PRODUCT]
        stopped_at = -1
        for s in range(job.first_step, job.last_step):
            start = s * job.batch_size
            n = min(job.batch_size, job.n_order - start)

            total = batch_weight[s]  # n, where samples have no weights
            if total == 0.0:
                continue  # a batch without any weight says nothing

            # Row phase: forward from segment to segment, then back.
            for turn in range(2 * n_segments - 1):
                forward, backward = turn < n_segments, turn >= n_segments - 1
                segment = turn if forward else 2 * n_segments - 2 - turn
                first, end = _segment_start(plan, segment), _segment_start(plan, segment + 1)
                if turn > 0:
                    l = first if forward else end
                    n_panels = (plan[l, N_OUT] + panel - 1) // panel
                    low = n_panels * thread // n_threads
                    barrier(sync, n_threads)
                    run_operation(
                        FORWARD if forward else BACKWARD, plan, numbers, l, low,
                        n_panels * (thread + 1) // n_threads - low, n, acts, deltas, params,
                        updates, acts,
                    )  # fmt: skip
                    barrier(sync, n_threads)
                high = first_row(n, thread + 1, n_threads)
                for row in range(first_row(n, thread, n_threads), high, CHUNK_ROWS):
                    padded = min(CHUNK_ROWS, high - row)
                    real = min(padded, n - row)
                    if turn == 0 and sparse:
                        for r in range(row, row + real):
                            at, stop = indptr[order[start + r]], indptr[order[start + r] + 1]
                            forward_sparse_row(plan, r, at, stop, x, indices, params, acts)
                        if plan[0, ACTIVATE] != 0:
                            run_operation(
                                ACTIVATE, plan, numbers, 0, row, padded, n, acts, deltas, params,
                                updates, acts,
                            )  # fmt: skip
                    elif turn == 0:
                        for r in range(row, row + real):
                            copy_to_panels(
                                job.n_inputs, x, order[start + r] * job.n_inputs, r, acts,
                                plan[0, X_AT], plan[0, X_PANEL],
                            )  # fmt: skip
                    if forward:
                        done = 1 if sparse and turn == 0 else 0
                        forward_chunk(
                            plan, numbers, first + done, end, row, padded, params, acts, deltas,
                            updates,
                        )  # fmt: skip
                    if forward and backward:
                        call(job.loss, (row, real, s, job_address))
                    if backward:
                        backward_chunk(
                            plan, numbers, first, end, row, padded, params, transposed, acts,
                            deltas, updates,
                        )  # fmt: skip
            if sparse:
                sort_by_column(
                    thread, n_threads, job.n_inputs, n, start, order, x, indices, indptr,
                    column_end, entry_row, entry_value,
                )  # fmt: skip
            barrier(sync, n_threads)
            if job.rule != GRADIENT and not _all_finite(n, batch_loss):
                stopped_at = s  # every member sees the same losses; no parameter has moved
                break

            # Weight phase.
            updates += 1
            product = write_step_sizes(job.rule, hyperparameters, rates[s], product, updates, sizes)
            next_row = start + n + own_rows * thread
            factor = 1.0
            for phase in range(last_phase + 1):
                for k in range(first_task, end_task):
                    run_task(
                        phase, last_phase, factor, sparse, plan, numbers, tasks, k, n, job.rule,
                        job.update, hyperparameters,
                        sizes.ctypes.data, rates[s],
                        job.alpha / total, penalty, squares, params, state_1, state_2, transposed, acts, deltas,
                        column_end, entry_row, entry_value, gradient, scratch, so,
                    )  # fmt: skip
                    # Rows of the next batch lie anywhere in memory: fetch a few after each task.
                    done = k - first_task
                    if not sparse and phase == 0:
                        _prefetch_samples(
                            next_row + own_rows * done // own_tasks,
                            min(next_row + own_rows * (done + 1) // own_tasks, job.n_order),
                            job.n_inputs, x, job.n_targets, targets, order,
                        )  # fmt: skip
                barrier(sync, n_threads)
                if phase < last_phase:
                    norm = 0.0
                    for k in range(job.n_units):
                        norm += squares[k]
                    norm = math.sqrt(norm)
                    factor = job.clip_norm / norm if norm > job.clip_norm else 1.0
            if job.is_constrained:
                _constrain(thread, n_threads, plan, numbers, acts, deltas, params, transposed)
                barrier(sync, n_threads)
        if thread == 0:
            hyperparameters[MOMENTUM_PRODUCT] = product
            job.updates_before, job.stopped_at = updates, stopped_at
        restore_denormals(denormals_before)

    return member(train_steps)
