"""Limits of the gradient: penalties on the weights, and clipping.

Only trainings that have some compile these kernels.
"""

import functools
import math

import numpy as np

from fastnn.kernels.job import job_at
from fastnn.kernels.memory import vector_at
from fastnn.kernels.operation import BLOCK_BYTES, TASK_BYTES, block_at, task_at, work_at
from fastnn.kernels.pieces import end_of_cells, gradient_of, piece_of
from fastnn.kernels.team import barrier
from fastnn.kernels.updates import FACTORS, clip_block, penalise, scale_block, write_squares
from fastnn.runtime.jit import compile_at_address, inner, routine

NORM_FACTOR = FACTORS
"""Place, among a member's factors, of what it multiplies the gradient by: so its norm is kept."""

# A gradient in float64 is multiplied by this where the squares of its elements overflow: a power of
# two, so that no digit is lost.
SHRINKAGE = 2.0**-600


@functools.cache
def limit_kernel(dtype):
    """Return the address of (job, work, task, step): penalty and limit of a task's gradient.

    It adds the derivative of the penalty to the gradient, and brings its elements into their
    limits; the penalty is added to that of the cells of columns, and where the norm has a limit
    the sums of squares are written.
    """
    number = dtype.type

    def limit_gradient(job, work_address, task, step):
        job, work, task = job_at(job), work_at(work_address), task_at(task)
        params = vector_at(work.params, number)
        block = block_at(work.blocks + task.block * BLOCK_BYTES)
        piece = piece_of(block, task, params)
        to = gradient_of(job, block, task, piece, work, params)
        g, end = vector_at(to, number)[: piece.size], end_of_cells(task, piece, params)
        l2 = block.l2 + job.alpha / vector_at(job.batch_weight, np.float64)[step]
        if block.is_weight and (block.l1 != 0.0 or l2 != 0.0):
            p = params[piece.at : piece.at + piece.size]
            sums = vector_at(job.penalty, np.float64)[task.cell : end]
            penalise(block.l1, l2, p, g, piece.width, piece.columns, 1.0 * work.n_rows, sums)
        if job.clip_value < np.inf:
            clip_block(job.clip_value, g)
        if job.clip_norm < np.inf:
            sums = vector_at(job.squares, np.float64)[task.cell : end]
            write_squares(g, piece.width, piece.columns, sums)

    return compile_at_address(limit_gradient, 4)


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
        piece = piece_of(block, task, params)
        g_at = gradient_of(job, block, task, piece, work, params)
        g = vector_at(g_at, params.dtype.type)[: piece.size]
        sums = vector_at(job.squares, np.float64)[task.cell : end_of_cells(task, piece, params)]
        scale_block(SHRINKAGE, g)
        write_squares(g, piece.width, piece.columns, sums)


@functools.cache
def norm_kernel(dtype):
    """Return the address of what writes a member's `NORM_FACTOR`.

    It takes (thread, n_threads, sync, first_task, end_task, factors, job, work), for a gradient of
    which all sums of squares are known. All members come to the same sum, so either all of them
    shrink their shares or none does.
    """
    number, is_double = dtype.type, dtype.itemsize == 8

    def find_norm(thread, n_threads, sync, first_task, end_task, factors, job_address, work):
        job = job_at(job_address)
        total, factor = _sum_of_squares(job), 1.0
        if is_double and total == np.inf:  # squares of float32 are far from it
            barrier(sync, n_threads)  # all have read the sums
            params = vector_at(work_at(work).params, number)
            _shrink_gradient(job_address, work, first_task, end_task, params)
            barrier(sync, n_threads)
            factor = job.clip_norm / math.sqrt(_sum_of_squares(job))
        else:
            norm = math.sqrt(total)
            if norm > job.clip_norm:
                factor = job.clip_norm / norm
        vector_at(factors, np.float64)[NORM_FACTOR] = factor

    return compile_at_address(find_norm, 8)
