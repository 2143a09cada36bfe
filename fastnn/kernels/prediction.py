"""Predictions: the way forward alone, from weights as the user sees them.

The weights are packed into panels first, which takes as long as one row or two; then rows go
through the net in chunks, as in training. Fewer rows than a tile has would leave most of it idle:
for them there is a product that reads the user's weights. The results are the same bits each time.
"""

import functools

import numpy as np
from numba import from_dtype

from fastnn.kernels.affine import (
    IN_PANELS,
    KEEP,
    RECTIFY,
    multiply_packed_row,
    multiply_row,
    multiply_rows_in_place,
)
from fastnn.kernels.calls import call
from fastnn.kernels.codes import (
    ACTIVATE,
    ADD,
    AFFINE,
    B_AT,
    EXTERN,
    FORWARD,
    FUNCTION,
    HAS_BIAS,
    KIND,
    N_COLUMNS,
    N_IN,
    N_NUMBERS,
    N_OUT,
    N_VECTORS,
    OTHER_AT,
    OUT_AT,
    OUT_PANEL,
    RELU,
    VECTORS,
    W_AT,
    W_PANEL,
    X_AT,
    X_PANEL,
)
from fastnn.kernels.denormals import flush_denormals, restore_denormals
from fastnn.kernels.memory import matrix_at, vector_at
from fastnn.kernels.operation import run_operation
from fastnn.kernels.panels import add_rows, copy, copy_to_panels, panel_columns, panel_width
from fastnn.kernels.step import CHUNK_ROWS, first_row, forward_chunk, forward_sparse_row
from fastnn.kernels.team import barrier, team_starts
from fastnn.kernels.tile import TILE_ROWS
from fastnn.runtime.jit import kernel, member, pasted

PREDICTION_JOB = np.dtype(
    {
        "names": [
            # Addresses. Samples x (N, I), or their nonzero entries with indices and indptr
            # (`fastnn.kernels.sparse`), and results out (N, O).
            "x", "indices", "indptr", "out",
            # Plans (L, N_COLUMNS): for chunks of rows, and for one row of ordinary arrays; and
            # what both have in common, (L, N_NUMBERS).
            "plan", "row_plan", "numbers",
            # Parameters as the user sees them; room for packed ones, which the plan is for, and
            # for each member's activations.
            "params", "packed", "acts",
            # Numbers.
            "n_operations", "n_rows", "n_inputs", "n_outputs", "acts_size", "is_packed",
        ],
        "formats": [np.int64] * 16,
    }
)  # fmt: skip
"""What a team needs to predict."""
_PREDICTION_RECORD = from_dtype(PREDICTION_JOB)


# Most rows of a member that read the first weights where they lie: one chunk of rows, or fewer
# where the weights do not stay in the second-level cache.
IN_PLACE_BYTES = 2**19
IN_PLACE_ROWS = 16


@pasted
def _copy_from_panels(n, acts, at, distance, r, out, o):
    """Overwrite the n numbers at out[o] with row r of a matrix in panels."""
    panel = panel_columns(acts)
    for j in range(0, n, panel):
        start = at + j // panel * distance + r * panel_width(n, j, acts, panel)
        copy(min(panel, n - j), acts, start, out, o + j)


@pasted
def _pack(thread, n_threads, first, plan, row_plan, params, packed):
    """Overwrite a member's share of the panels with what the user sees, from operation `first` on.

    Members share out the rows of w, which lie one after the other: read in this order, they come
    from far caches in time.
    """
    for l in range(first, plan.shape[0]):
        n_in, n_out = plan[l, N_IN], plan[l, N_OUT]
        if plan[l, KIND] == EXTERN and thread == 0:
            for k in range(plan[l, N_VECTORS]):
                copy(n_out, params, row_plan[l, VECTORS[k]], packed, plan[l, VECTORS[k]])
        if plan[l, KIND] != AFFINE:
            continue
        low, high = n_in * thread // n_threads, n_in * (thread + 1) // n_threads
        for k in range(low, high):
            at = row_plan[l, W_AT] + k * n_out
            copy_to_panels(n_out, params, at, k, packed, plan[l, W_AT], plan[l, W_PANEL])
        if plan[l, HAS_BIAS] and thread == 0:
            copy(n_out, params, row_plan[l, B_AT], packed, plan[l, B_AT])


@pasted
def _forward_row(plan, numbers, params, is_packed, packed_plan, packed, acts):
    """Take one row, in ordinary arrays, forward through all operations.

    The weights are in `params`, where `plan` says, or if they are packed already in `packed`,
    where `packed_plan` says.
    """
    panel = panel_columns(acts)
    for l in range(plan.shape[0]):
        n_out, function = plan[l, N_OUT], plan[l, FUNCTION]
        finish = RECTIFY if function == RELU else KEEP
        if plan[l, KIND] == AFFINE and is_packed:
            multiply_packed_row(
                plan[l, N_IN], n_out, acts, plan[l, X_AT], packed, packed_plan[l, W_AT],
                packed_plan[l, W_PANEL], packed, packed_plan[l, B_AT], acts, plan[l, OUT_AT],
                finish,
            )  # fmt: skip
        elif plan[l, KIND] == AFFINE:
            multiply_row(
                plan[l, N_IN], n_out, acts, plan[l, X_AT], params, plan[l, W_AT], n_out, params,
                plan[l, B_AT], acts, plan[l, OUT_AT], finish,
            )  # fmt: skip
        elif plan[l, KIND] == EXTERN:
            run_operation(FORWARD, plan, numbers, l, 0, 1, 1, acts, acts, params, 0, acts)
        elif plan[l, X_AT] != plan[l, OUT_AT]:
            copy(n_out, acts, plan[l, X_AT], acts, plan[l, OUT_AT])
        if plan[l, KIND] == ADD:
            add_rows(0, 1, n_out, acts, plan[l, OTHER_AT], acts, plan[l, OUT_AT], panel)
        if plan[l, ACTIVATE] != 0:
            run_operation(ACTIVATE, plan, numbers, l, 0, 1, 1, acts, acts, params, 0, acts)


@pasted
def _multiply_first(whole, padded, plan, x, xo, w, wo, w_panel, w_row, bo, acts):
    """Take rows of x through the first operation, an affine one, but for its activation.

    The first `whole` of them, which fill tiles, are read where they lie; up to `padded` they are
    in the workspace already, because behind them x may end.
    """
    n_in, n_out = plan[0, N_IN], plan[0, N_OUT]
    finish = RECTIFY if plan[0, FUNCTION] == RELU else KEEP
    multiply_rows_in_place(
        0, whole, n_in, n_out, x, xo, 0, n_in, w, wo, w_panel, w_row, w, bo,
        acts, plan[0, OUT_AT], plan[0, OUT_PANEL], finish,
    )  # fmt: skip
    multiply_rows_in_place(
        whole, padded - whole, n_in, n_out, acts, plan[0, X_AT], plan[0, X_PANEL], IN_PANELS,
        w, wo, w_panel, w_row, w, bo, acts, plan[0, OUT_AT], plan[0, OUT_PANEL], finish,
    )  # fmt: skip


@functools.cache
def prediction_member(dtype, sparse=False):
    """Compile the forward pass of nets of a dtype; return the address for `PREDICTION_JOB`.

    Parameters
    ----------
    dtype : numpy.dtype
    sparse : bool
        Whether samples are sparse. The first operation is affine then.
    """
    number, itemsize = dtype.type, dtype.itemsize

    def predict_rows(thread, n_threads, sync, job_address):
        if not team_starts(sync, n_threads):
            return
        denormals_before = flush_denormals()
        job = vector_at(job_address, _PREDICTION_RECORD)[0]
        plan = matrix_at(job.plan, job.n_operations, N_COLUMNS, np.int64)
        row_plan = matrix_at(job.row_plan, job.n_operations, N_COLUMNS, np.int64)
        numbers = matrix_at(job.numbers, job.n_operations, N_NUMBERS, np.float64)
        params, packed = vector_at(job.params, number), vector_at(job.packed, number)
        acts = vector_at(job.acts + thread * job.acts_size * itemsize, number)
        x, out = vector_at(job.x, number), vector_at(job.out, number)
        indices, indptr = vector_at(job.indices, np.int32), vector_at(job.indptr, np.int64)
        last = job.n_operations - 1
        n_in, n_out = job.n_inputs, job.n_outputs
        if not sparse and job.n_rows < TILE_ROWS:
            if thread == 0:
                for r in range(job.n_rows):
                    copy(n_in, x, r * n_in, acts, row_plan[0, X_AT])
                    _forward_row(row_plan, numbers, params, job.is_packed, plan, packed, acts)
                    copy(n_out, acts, row_plan[last, OUT_AT], out, r * n_out)
            restore_denormals(denormals_before)
            return
        starts_affine = plan[0, KIND] == AFFINE  # always, if sparse
        w, wo, bo = packed, plan[0, W_AT], plan[0, B_AT]
        w_panel, w_row = plan[0, W_PANEL], np.int64(IN_PANELS)
        if not job.is_packed:
            # The first weights are often the most: few rows read them where they lie.
            packed_from = 0
            most = CHUNK_ROWS
            if n_in * plan[0, N_OUT] * itemsize > IN_PLACE_BYTES:
                most = IN_PLACE_ROWS
            if not sparse and starts_affine and job.n_rows <= most * n_threads:
                w, wo, bo = params, row_plan[0, W_AT], row_plan[0, B_AT]
                w_panel, w_row = panel_columns(acts), plan[0, N_OUT]
                packed_from = 1
            _pack(thread, n_threads, packed_from, plan, row_plan, params, packed)
            barrier(sync, n_threads)
        high = first_row(job.n_rows, thread + 1, n_threads)
        for row in range(first_row(job.n_rows, thread, n_threads), high, CHUNK_ROWS):
            padded = min(CHUNK_ROWS, high - row)
            real = min(padded, job.n_rows - row)
            if sparse:
                for r in range(real):
                    low, end = indptr[row + r], indptr[row + r + 1]
                    forward_sparse_row(plan, r, low, end, x, indices, packed, acts)
            else:
                whole = real // TILE_ROWS * TILE_ROWS if starts_affine else 0
                for r in range(whole, real):
                    at = (row + r) * n_in
                    copy_to_panels(n_in, x, at, r, acts, plan[0, X_AT], plan[0, X_PANEL])
                if starts_affine:
                    _multiply_first(
                        whole, padded, plan, x, row * n_in, w, wo, w_panel, w_row, bo, acts
                    )
            if starts_affine and plan[0, ACTIVATE] != 0:
                run_operation(
                    ACTIVATE, plan, numbers, 0, 0, padded, padded, acts, acts, packed, 0, acts
                )
            forward_chunk(
                plan, numbers, 1 if starts_affine else 0, plan.shape[0], 0, padded, packed,
                acts, acts, 0,
            )  # fmt: skip
            for r in range(real):
                _copy_from_panels(
                    n_out, acts, plan[last, OUT_AT], plan[last, OUT_PANEL], r, out,
                    (row + r) * n_out,
                )  # fmt: skip
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
