"""The weight phase of a training step: gradients of the parameters, and their updates.

Each thread has some tasks: pieces of the blocks of parameters. For each it sums the gradient over
all rows of the batch and applies the update rule to it at once: a gradient never leaves the cache
of its core. Only where the norm of the whole gradient must be known before an update, there are two
passes, and the gradient is kept in memory between them.
"""

import math
from typing import NamedTuple

import numpy as np

from fastnn.kernels.calls import call
from fastnn.kernels.job import job_at
from fastnn.kernels.memory import vector_at
from fastnn.kernels.operation import (
    BLOCK_BYTES,
    OPERATION_BYTES,
    TASK_BYTES,
    block_at,
    task_at,
    weights_of,
    work_at,
)
from fastnn.kernels.panels import (
    Panels,
    copy_transposed,
    panel_columns,
    panel_width,
    place,
    prefetch_lines,
)
from fastnn.kernels.team import barrier
from fastnn.kernels.tile import cell_of
from fastnn.kernels.updates import (
    Updater,
    clip_block,
    decay_block,
    penalise,
    scale_block,
    update_block,
    write_squares,
)
from fastnn.runtime.jit import inner, routine

# Most rows of a block of a weight matrix, which one task sums and updates: a multiple of TILE_ROWS.
# Enough for long loops, and the block stays in the first-level cache.
BLOCK_ROWS = 24

# A gradient in float64 is multiplied by this where the squares of its elements overflow: a power of
# two, so that no digit is lost.
SHRINKAGE = 2.0**-600


class Piece(NamedTuple):
    """Where the parameters of a task lie: `size` of them from `at` on, in rows of `width`."""

    at: int
    size: int
    width: int
    columns: int  # that are no padding


@inner
def _piece_of(block, task, params):
    width = panel_width(block.n_columns, task.j, params.itemsize)
    at = place(weights_of(block, params), 0, task.j) + task.i * width
    return Piece(at, task.n_i * width, width, min(width, block.n_columns - task.j))


@inner
def _gradient_of(job, block, task, piece, work, like):
    """Return the address where the gradient of a task is: left by the backward pass, or scratch."""
    if block.gradient_at >= 0:
        return work.deltas + (block.gradient_at + task.j) * like.itemsize
    if job.clip_norm < np.inf:
        return work.gradient + piece.at * like.itemsize
    return work.scratch


@inner
def _end_of_cells(task, piece, like):
    """Return the end of the cells that belong to a task."""
    return task.cell + (piece.columns + cell_of(like) - 1) // cell_of(like)


@routine
def sum_gradient(job_address, work_address, task_address, alpha, params):
    """Sum the gradient of a task over the batch, with its penalty and limit.

    `alpha` is the strength of the L2 penalty that all weights have.
    """
    job, work, task = job_at(job_address), work_at(work_address), task_at(task_address)
    block = block_at(work.blocks + task.block * BLOCK_BYTES)
    piece = _piece_of(block, task, params)
    g_at = _gradient_of(job, block, task, piece, work, params)
    g, end = vector_at(g_at, params.dtype.type)[: piece.size], _end_of_cells(task, piece, params)
    if block.sum_gradient != 0:  # otherwise the backward pass has done it
        operation = work.operations + block.operation * OPERATION_BYTES
        call(block.sum_gradient, (operation, task_address, work_address, g_at))
    l2 = block.l2 + alpha
    if block.is_weight and (block.l1 != 0.0 or l2 != 0.0):
        p = params[piece.at : piece.at + piece.size]
        sums = vector_at(job.penalty, np.float64)[task.cell : end]
        penalise(block.l1, l2, p, g, piece.width, piece.columns, 1.0 * work.n_rows, sums)
    if job.clip_value < np.inf:
        clip_block(job.clip_value, g)
    if job.clip_norm < np.inf:
        sums = vector_at(job.squares, np.float64)[task.cell : end]
        write_squares(g, piece.width, piece.columns, sums)


@routine
def update_task(job_address, work_address, task_address, updater, params):
    """Update the parameters of a task, and their transposed copy."""
    job, work, task = job_at(job_address), work_at(work_address), task_at(task_address)
    number = params.dtype.type
    block = block_at(work.blocks + task.block * BLOCK_BYTES)
    piece = _piece_of(block, task, params)
    g_at = _gradient_of(job, block, task, piece, work, params)
    g = vector_at(g_at, number)[: piece.size]
    low, high = piece.at, piece.at + piece.size
    p = params[low:high]
    if block.decay != 0.0:
        decay_block(updater.rate * block.decay, p)
    state_1, state_2 = vector_at(work.state_1, number), vector_at(work.state_2, number)
    update_block(updater, p, state_1[low:high], state_2[low:high], g)
    if block.transposed_at >= 0 and job.moves:
        distance = panel_columns(params.itemsize) * block.n_columns
        data = vector_at(work.transposed, number)
        transposed = Panels(data, block.transposed_at, distance, block.n_rows)
        copy_transposed(weights_of(block, params), transposed, task.i, task.n_i, task.j)


@inner
def _constrain(team, job, work_address, like):
    """Bring a member's share of all limited weights back into their limits."""
    blocks, panel = work_at(work_address).blocks, panel_columns(like.itemsize)
    for k in range(job.n_blocks):
        address = blocks + k * BLOCK_BYTES
        block = block_at(address)
        if block.constrain != 0:
            for j in range(team.thread * panel, block.n_columns, team.n_threads * panel):
                call(block.constrain, (address, j, work_address))


@inner
def _prefetch_samples(job, work, low, high, x):
    """Fetch samples of the next batch for later, and their targets: they lie anywhere in memory."""
    order, targets = vector_at(work.order, np.int64), vector_at(job.targets, x.dtype.type)
    for r in range(low, min(high, job.n_order)):
        prefetch_lines(work.n_inputs, x, order[r] * work.n_inputs)
        prefetch_lines(job.n_targets, targets, order[r] * job.n_targets)


@inner
def _sum_of_squares(job):
    """Return the sum of the squares of the gradient."""
    squares, total = vector_at(job.squares, np.float64), 0.0
    for k in range(job.n_cells):
        total += squares[k]
    return total


@routine
def _shrink_gradient(job_address, work_address, first_task, end_task, params):
    """Multiply the gradient of some tasks by `SHRINKAGE`, and sum its squares again."""
    job, work = job_at(job_address), work_at(work_address)
    for k in range(first_task, end_task):
        task = task_at(job.tasks + k * TASK_BYTES)
        block = block_at(work.blocks + task.block * BLOCK_BYTES)
        piece = _piece_of(block, task, params)
        g_at = _gradient_of(job, block, task, piece, work, params)
        g = vector_at(g_at, params.dtype.type)[: piece.size]
        sums = vector_at(job.squares, np.float64)[task.cell : _end_of_cells(task, piece, params)]
        scale_block(SHRINKAGE, g)
        write_squares(g, piece.width, piece.columns, sums)


@inner
def _factor_within_norm(team, job_address, work_address, params):
    """Return what the gradient is multiplied by so that its norm is at most clip_norm.

    All members come to the same sum, so either all of them shrink their shares or none does.
    """
    job = job_at(job_address)
    total = _sum_of_squares(job)
    if params.itemsize == 8 and total == np.inf:  # squares of float32 are far from it
        barrier(team.sync, team.n_threads)  # all have read the sums
        _shrink_gradient(job_address, work_address, team.first_task, team.end_task, params)
        barrier(team.sync, team.n_threads)
        return job.clip_norm / math.sqrt(_sum_of_squares(job))
    norm = math.sqrt(total)
    return job.clip_norm / norm if norm > job.clip_norm else 1.0


@inner
def weight_phase(team, job_address, work_address, step, params):
    """Update a member's share of all parameters with the gradient of a batch."""
    job, work = job_at(job_address), work_at(work_address)
    rate = vector_at(job.rates, np.float64)[step]
    total = vector_at(job.batch_weight, np.float64)[step]
    updater = Updater(job.update_kernel, job.hyperparameters, team.factors, rate, 1.0)
    vector_at(team.factors, np.float64)[0] = rate
    call(job.factors_kernel, (job.hyperparameters, team.factors, work.step))
    one_pass = not job.clip_norm < np.inf
    n_tasks = max(team.end_task - team.first_task, 1)
    n_rows = (job.batch_size + team.n_threads - 1) // team.n_threads  # of the next batch, to fetch
    next_row = work.start + work.n_rows + n_rows * team.thread
    samples = vector_at(work.x, params.dtype.type)
    for k in range(team.first_task, team.end_task):
        task = job.tasks + k * TASK_BYTES
        sum_gradient(job_address, work_address, task, job.alpha / total, params)
        if one_pass:
            update_task(job_address, work_address, task, updater, params)
        if job.sort_kernel == 0:  # a few samples after each task
            done = k - team.first_task
            low = next_row + n_rows * done // n_tasks
            _prefetch_samples(job, work, low, next_row + n_rows * (done + 1) // n_tasks, samples)
    barrier(team.sync, team.n_threads)
    if not one_pass:
        factor = _factor_within_norm(team, job_address, work_address, params)
        updater = Updater(job.update_kernel, job.hyperparameters, team.factors, rate, factor)
        for k in range(team.first_task, team.end_task):
            task = job.tasks + k * TASK_BYTES
            update_task(job_address, work_address, task, updater, params)
        barrier(team.sync, team.n_threads)
    if job.is_constrained:
        _constrain(team, job, work_address, params)
        barrier(team.sync, team.n_threads)
