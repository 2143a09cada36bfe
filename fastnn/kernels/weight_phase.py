"""The weight phase of a training step: gradients of the parameters, and their updates.

Each thread has some tasks: pieces of the blocks of parameters. For each it sums the gradient over
all rows of the batch and applies the update rule to it at once: a gradient never leaves the cache
of its core. Only where the norm of the whole gradient must be known before an update, there are two
passes, and the gradient is kept in memory between them (`fastnn.kernels.limits`).
"""

import numpy as np

from fastnn.kernels.calls import call
from fastnn.kernels.job import job_at
from fastnn.kernels.limits import NORM_FACTOR
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
    prefetch_lines,
)
from fastnn.kernels.pieces import gradient_of, piece_of
from fastnn.kernels.team import barrier
from fastnn.kernels.updates import (
    Updater,
    decay_block,
    update_block,
)
from fastnn.runtime.jit import inner, routine

# Most rows of a block of a weight matrix, which one task sums and updates: a multiple of TILE_ROWS.
# Enough for long loops, and the block stays in the first-level cache.
BLOCK_ROWS = 24


@routine
def sum_gradient(job_address, work_address, task_address, step, params):
    """Sum the gradient of a task over the batch, with its penalty and limit."""
    job, work, task = job_at(job_address), work_at(work_address), task_at(task_address)
    block = block_at(work.blocks + task.block * BLOCK_BYTES)
    if block.sum_gradient != 0:  # otherwise the backward pass has done it
        piece = piece_of(block, task, params)
        to = gradient_of(job, block, task, piece, work, params)
        operation = work.operations + block.operation * OPERATION_BYTES
        call(block.sum_gradient, (operation, task_address, work_address, to))
    if job.limit_kernel != 0:
        call(job.limit_kernel, (job_address, work_address, task_address, step))


@routine
def update_task(job_address, work_address, task_address, updater, params):
    """Update the parameters of a task, and their transposed copy."""
    job, work, task = job_at(job_address), work_at(work_address), task_at(task_address)
    number = params.dtype.type
    block = block_at(work.blocks + task.block * BLOCK_BYTES)
    piece = piece_of(block, task, params)
    g_at = gradient_of(job, block, task, piece, work, params)
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
def weight_phase(team, job_address, work_address, step, params):
    """Update a member's share of all parameters with the gradient of a batch."""
    job, work = job_at(job_address), work_at(work_address)
    rate = vector_at(job.rates, np.float64)[step]
    updater = Updater(job.update_kernel, job.hyperparameters, team.factors, rate, 1.0)
    vector_at(team.factors, np.float64)[0] = rate
    call(job.factors_kernel, (job.hyperparameters, team.factors, work.step))
    one_pass = job.norm_kernel == 0
    n_tasks = max(team.end_task - team.first_task, 1)
    n_rows = (job.batch_size + team.n_threads - 1) // team.n_threads  # of the next batch, to fetch
    next_row = work.start + work.n_rows + n_rows * team.thread
    samples = vector_at(work.x, params.dtype.type)
    for k in range(team.first_task, team.end_task):
        task = job.tasks + k * TASK_BYTES
        sum_gradient(job_address, work_address, task, step, params)
        if one_pass:
            update_task(job_address, work_address, task, updater, params)
        if job.sort_kernel == 0:  # a few samples after each task
            done = k - team.first_task
            low = next_row + n_rows * done // n_tasks
            _prefetch_samples(job, work, low, next_row + n_rows * (done + 1) // n_tasks, samples)
    barrier(team.sync, team.n_threads)
    if not one_pass:
        own = team.thread, team.n_threads, team.sync, team.first_task, team.end_task
        call(job.norm_kernel, (*own, team.factors, job_address, work_address))
        factor = vector_at(team.factors, np.float64)[NORM_FACTOR]
        updater = Updater(job.update_kernel, job.hyperparameters, team.factors, rate, factor)
        for k in range(team.first_task, team.end_task):
            task = job.tasks + k * TASK_BYTES
            update_task(job_address, work_address, task, updater, params)
        barrier(team.sync, team.n_threads)
    if job.is_constrained:
        _constrain(team, job, work_address, params)
        barrier(team.sync, team.n_threads)
