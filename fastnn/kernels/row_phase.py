"""The row phase of a training step: forward pass, loss, and backward pass of a thread's rows.

Each thread has some rows of the batch. It gathers them from X, takes them forward through all
operations, computes their loss and its gradient, and goes back through all operations with the
gradient of each one's input. No thread waits for another one, but for an operation that needs the
whole batch (batch normalisation): there all threads meet, share out its columns, and meet again.
"""

import numpy as np

from fastnn.kernels.calls import call
from fastnn.kernels.job import job_at
from fastnn.kernels.memory import vector_at
from fastnn.kernels.operation import (
    OPERATION_BYTES,
    input_of,
    operation_at,
    run,
    work_at,
)
from fastnn.kernels.panels import copy_to_row, panel_columns
from fastnn.kernels.team import barrier
from fastnn.kernels.tile import TILE_ROWS
from fastnn.runtime.jit import inner

# Rows that go through one operation together: a weight panel is read once for all of them, and
# their activations stay in the second-level cache.
CHUNK_ROWS = 64


@inner
def first_row(n_rows, part, parts):
    """Return the first row of a member's share of n_rows, in whole tiles."""
    return (n_rows + TILE_ROWS - 1) // TILE_ROWS * part // parts * TILE_ROWS


@inner
def forward_chunk(first, end, row, n_rows, work):
    """Take rows through the operations [first, end).

    Those that need the whole batch have been done already, but for their activation.
    """
    operations = work_at(work).operations
    for l in range(first, end):
        address = operations + l * OPERATION_BYTES
        op = operation_at(address)
        if not op.whole_batch:
            run(op.forward, address, row, n_rows, work)
        run(op.activate, address, row, n_rows, work)


@inner
def backward_chunk(first, end, row, n_rows, work):
    """Take the gradients of rows back through the operations [first, end).

    At first the gradient of the last result is that of the loss; in the end the gradient of each
    result is the one before its activation. Of an operation that needs the whole batch, that is all
    that has been done.
    """
    operations = work_at(work).operations
    for l in range(end - 1, first - 1, -1):
        address = operations + l * OPERATION_BYTES
        op = operation_at(address)
        run(op.differentiate, address, row, n_rows, work)
        if not op.whole_batch:
            run(op.backward, address, row, n_rows, work)


@inner
def _gather(low, high, work, x):
    """Copy samples to the rows [low, high) of the first operation's input."""
    work = work_at(work)
    op, order = operation_at(work.operations), vector_at(work.order, np.int64)
    rows = input_of(op, vector_at(work.acts, x.dtype.type))
    for r in range(low, high):
        copy_to_row(x, order[work.start + r] * work.n_inputs, rows, r)


@inner
def _share_columns(team, l, forward, work, itemsize):
    """Do a member's share of an operation that needs the whole batch; wait before and after it."""
    address = work_at(work).operations + l * OPERATION_BYTES
    op = operation_at(address)
    panel = panel_columns(itemsize)
    n_panels = (op.n_out + panel - 1) // panel
    low = n_panels * team.thread // team.n_threads
    count = n_panels * (team.thread + 1) // team.n_threads - low
    barrier(team.sync, team.n_threads)
    run(op.forward if forward else op.backward, address, low, count, work)
    barrier(team.sync, team.n_threads)


@inner
def row_phase(team, job_address, work, step, x):
    """Compute the loss and all gradients of a member's rows of a batch."""
    job, n_rows = job_at(job_address), work_at(work).n_rows
    segments, n_segments = vector_at(job.segments, np.int64), job.n_segments
    low = first_row(n_rows, team.thread, team.n_threads)
    high = first_row(n_rows, team.thread + 1, team.n_threads)
    for turn in range(2 * n_segments - 1):  # Forward from segment to segment, then back.
        forward, backward = turn < n_segments, turn >= n_segments - 1
        segment = turn if forward else 2 * n_segments - 2 - turn
        first, end = segments[segment], segments[segment + 1]
        if turn > 0:
            _share_columns(team, first if forward else end, forward, work, x.itemsize)
        for row in range(low, high, CHUNK_ROWS):
            padded = min(CHUNK_ROWS, high - row)
            real = min(padded, n_rows - row)
            if turn == 0 and job.sort_kernel == 0:
                _gather(row, row + real, work, x)
            if forward:
                forward_chunk(first, end, row, padded, work)
            if forward and backward:
                call(job.loss_kernel, (row, real, step, job_address))
            if backward:
                backward_chunk(first, end, row, padded, work)
