"""Predictions: the forward pass alone, from weights as the user sees them.

The weights are packed into panels first, which takes as long as one row or two; then rows go
through the net in chunks, as in training. Fewer rows than a tile has would leave most of it idle:
for them there is a product that reads the user's weights. The results are the same bits each time.
"""

import functools

import numpy as np
from numba import from_dtype

from fastnn.kernels.calls import call
from fastnn.kernels.denormals import flush_denormals, restore_denormals
from fastnn.kernels.memory import vector_at
from fastnn.kernels.operation import (
    BLOCK_BYTES,
    OPERATION_BYTES,
    block_at,
    input_of,
    operation_at,
    result_of,
    run,
    weights_of,
    work_at,
)
from fastnn.kernels.panels import copy, copy_from_row, copy_to_row
from fastnn.kernels.row_phase import CHUNK_ROWS, first_row, forward_chunk
from fastnn.kernels.team import barrier, team_starts
from fastnn.kernels.tile import TILE_ROWS
from fastnn.kernels.training import WORK_APART, copy_work
from fastnn.runtime.jit import inner, kernel, member

PREDICTION_JOB = np.dtype(
    {
        "names": [
            # Addresses: what all members work on, room for a copy of each, the operations for one
            # row, the parameters as the user sees them, samples x (N, I) and results out (N, O).
            "work", "works", "row_operations", "params", "x", "out",
            # Numbers.
            "n_operations", "n_blocks", "n_rows", "acts_bytes",
            # Whether samples are sparse, and whether the parameters are packed already.
            "is_sparse", "is_packed",
        ],
        "formats": [np.int64] * 12,
    }
)  # fmt: skip
"""What a team needs to predict."""
_RECORD = from_dtype(PREDICTION_JOB)

# Most rows of a member that read the first weights where they lie: one chunk of rows, or fewer
# where the weights do not stay in the second-level cache.
IN_PLACE_BYTES = 2**19
IN_PLACE_ROWS = 16


@inner
def _pack(thread, n_threads, first, job, work, number):
    """Overwrite a member's share of the panels with the parameters of operations from `first` on.

    Members share out the rows of w, which lie one after the other: read in this order, they come
    from far caches in time.
    """
    params, packed = vector_at(job.params, number), vector_at(work.params, number)
    for k in range(job.n_blocks):
        block = block_at(work.blocks + k * BLOCK_BYTES)
        if block.operation >= first:
            rows = block.n_rows
            for r in range(rows * thread // n_threads, rows * (thread + 1) // n_threads):
                at = block.user_at + r * block.n_columns
                copy_to_row(params, at, weights_of(block, packed), r)


@inner
def _reads_weights_in_place(job, n_threads, itemsize):
    """Return whether so few rows come that the first weights, often the most, are not packed."""
    op = operation_at(work_at(job.work).operations)
    if job.is_packed or op.forward_in_place == 0:
        return False
    fit = op.n_in * op.n_out * itemsize <= IN_PLACE_BYTES
    return job.n_rows <= (CHUNK_ROWS if fit else IN_PLACE_ROWS) * n_threads


@inner
def _predict_row_by_row(job, work_address, x, out):
    """Predict a few rows, each of which lies in the activations as an ordinary vector."""
    work, last = work_at(work_address), job.n_operations - 1
    work.operations = job.row_operations
    if not job.is_packed:
        work.params = job.params
    acts, op = vector_at(work.acts, x.dtype.type), operation_at(job.row_operations)
    end = operation_at(job.row_operations + last * OPERATION_BYTES)
    for r in range(job.n_rows):
        copy(op.n_in, x, r * op.n_in, acts, op.x_at)
        forward_chunk(0, job.n_operations, 0, 1, work_address)
        copy(end.n_out, acts, end.out_at, out, r * end.n_out)


@inner
def _predict_chunk(row, real, padded, job, work_address, x):
    """Take some samples, from `row` on, through the net: to the first rows of the activations."""
    work = work_at(work_address)
    work.start, work.n_rows = row, real
    op = operation_at(work.operations)
    samples, first = input_of(op, vector_at(work.acts, x.dtype.type)), 0
    if not job.is_sparse:
        in_place = op.forward_in_place != 0
        for r in range(real // TILE_ROWS * TILE_ROWS if in_place else 0, real):
            copy_to_row(x, (row + r) * op.n_in, samples, r)
        if in_place:
            call(op.forward_in_place, (work.operations, 0, padded, work_address))
            run(op.activate, work.operations, 0, padded, work_address)
            first = 1
    forward_chunk(first, job.n_operations, 0, padded, work_address)


@functools.cache
def prediction_member(dtype):
    """Compile the forward pass of nets of a dtype; return the address for `PREDICTION_JOB`."""
    number, itemsize = dtype.type, dtype.itemsize

    def predict_rows(thread, n_threads, sync, job_address):
        if not team_starts(sync, n_threads):
            return
        denormals_before = flush_denormals()
        job = vector_at(job_address, _RECORD)[0]
        work_address = job.works + thread * WORK_APART
        copy_work(job.work, work_address)
        work = work_at(work_address)
        work.x, work.acts = job.x, work.acts + thread * job.acts_bytes
        x, out = vector_at(job.x, number), vector_at(job.out, number)
        if not job.is_sparse and job.n_rows < TILE_ROWS:
            if thread == 0:
                _predict_row_by_row(job, work_address, x, out)
            restore_denormals(denormals_before)
            return
        in_place = _reads_weights_in_place(job, n_threads, itemsize)
        work.user_params = job.params if in_place else 0
        if not job.is_packed:
            _pack(thread, n_threads, 1 if in_place else 0, job, work, number)
            barrier(sync, n_threads)
        acts = vector_at(work.acts, number)
        last = operation_at(work.operations + (job.n_operations - 1) * OPERATION_BYTES)
        high = first_row(job.n_rows, thread + 1, n_threads)
        for row in range(first_row(job.n_rows, thread, n_threads), high, CHUNK_ROWS):
            padded = min(CHUNK_ROWS, high - row)
            real = min(padded, job.n_rows - row)
            _predict_chunk(row, real, padded, job, work_address, x)
            for r in range(real):
                copy_from_row(result_of(last, acts), r, out, (row + r) * last.n_out)
        restore_denormals(denormals_before)

    return member(predict_rows)


_X, _OUT, _N_ROWS = (PREDICTION_JOB.names.index(name) for name in ("x", "out", "n_rows"))


@kernel
def start_prediction(address, job_address, n_threads, x, out):
    """Prepare a job for x (N, I) and out (N, O); do it, by the member at an address, if alone."""
    job = vector_at(job_address, np.int64)
    job[_X], job[_OUT], job[_N_ROWS] = x.ctypes.data, out.ctypes.data, x.shape[0]
    if n_threads == 1:
        call(address, (0, 1, 0, job_address))
