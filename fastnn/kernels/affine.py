"""The affine layer as an operation: out = x @ w + b, with x dense or sparse.

The products themselves are in `fastnn.kernels.products` and `fastnn.kernels.sparse`. Its blocks are
w (I, O) and, unless it has none, b (O,).
"""

import functools

import numpy as np
from numba import from_dtype

from fastnn.kernels.calls import call
from fastnn.kernels.memory import local_memory, vector_at
from fastnn.kernels.operation import (
    BLOCK_BYTES,
    block_at,
    input_of,
    operation_at,
    operation_kernel,
    result_of,
    sample_of,
    task_at,
    weights_of,
    work_at,
)
from fastnn.kernels.panels import panel_columns, panel_width, place, weight_distance
from fastnn.kernels.products import (
    IN_PANELS,
    NO_BIAS,
    PRODUCT,
    Update,
    backward_weight_block,
    multiply_packed_row,
    multiply_row,
    product_at,
    product_of,
)
from fastnn.kernels.sparse import (
    Entries,
    backward_weight_block_sparse,
    multiply_sparse_row,
)
from fastnn.kernels.tile import TILE_ROWS, add, by_width, lanes_of, load, store
from fastnn.runtime.jit import inner

W, B = 0, 1
"""The layer's blocks."""

_PRODUCT = from_dtype(PRODUCT)


@inner
def _describe_forward(p, op, work, number):
    """Describe x @ w + b of an operation, with packed weights."""
    itemsize = vector_at(work.acts, number).itemsize
    p.x, p.x_at, p.x_distance, p.x_row = work.acts, op.x_at, op.x_panel, IN_PANELS
    p.w, p.w_at, p.w_row = work.params, op.blocks[W], IN_PANELS
    p.w_distance = weight_distance(op.n_in, itemsize)
    p.b, p.b_at = work.params, op.blocks[B]
    p.out, p.out_at, p.out_distance = work.acts, op.out_at, op.out_panel
    p.h, p.finish, p.n_k, p.n = work.acts, op.finish, op.n_in, op.n_out


@inner
def _describe_backward(p, op, work, number):
    """Describe dout @ w.T of an operation."""
    panel = panel_columns(vector_at(work.acts, number).itemsize)
    p.x, p.x_at, p.x_distance, p.x_row = work.deltas, op.out_at, op.out_panel, IN_PANELS
    p.w, p.w_at, p.w_row = work.transposed, op.transposed_at, IN_PANELS
    p.w_distance = panel * op.n_out
    p.b, p.b_at = work.transposed, NO_BIAS
    p.out, p.out_at, p.out_distance = work.deltas, op.x_at, op.x_panel
    p.h, p.finish, p.n_k, p.n = work.acts, op.finish_backward, op.n_out, op.n_in


@functools.cache
def forward_kernel(dtype):
    """Return the address of the forward pass of rows in panels, with packed weights."""
    number = dtype.type

    def affine_forward(op, low, count, work):
        address, op, work = local_memory(_PRODUCT), operation_at(op), work_at(work)
        _describe_forward(product_at(address), op, work, number)
        call(op.product, (address, low, count))

    return operation_kernel(affine_forward)


@functools.cache
def sparse_forward_kernel(dtype):
    """Return the address of the forward pass of sparse samples."""
    number = dtype.type

    def affine_forward_sparse(op, low, count, work):
        op, work = operation_at(op), work_at(work)
        p = product_at(local_memory(_PRODUCT))
        _describe_forward(p, op, work, number)
        product = product_of(p, number)
        data, order = vector_at(work.x, number), vector_at(work.order, np.int64)
        indices, indptr = vector_at(work.indices, np.int32), vector_at(work.indptr, np.int64)
        for r in range(low, min(low + count, work.n_rows)):
            sample = sample_of(work, order, r)
            entries = Entries(indptr[sample], indptr[sample + 1], data, indices)
            multiply_sparse_row(r, entries, product)

    return operation_kernel(affine_forward_sparse)


@functools.cache
def in_place_forward_kernel(dtype):
    """Return the address of the forward pass of a prediction's rows where the user has them.

    `count` rows are taken, of which the first work.n_rows are samples. Those that fill tiles are
    read from the samples, from work.start on; the rest is in the activations already, because
    behind them x may end. With work.user_params, w and b are read where the user sees them too.
    """
    number = dtype.type

    def affine_forward_in_place(op, low, count, work):
        address, op, work = local_memory(_PRODUCT), operation_at(op), work_at(work)
        p = product_at(address)
        _describe_forward(p, op, work, number)
        if work.user_params != 0:
            users = operation_at(work.user_operations)
            p.w, p.w_at, p.w_row = work.user_params, users.blocks[W], op.n_out
            p.w_distance = panel_columns(vector_at(work.acts, number).itemsize)
            p.b, p.b_at = work.user_params, users.blocks[B]
        whole = work.n_rows // TILE_ROWS * TILE_ROWS
        if whole < count:
            call(op.product, (address, whole, count - whole))
        p.x, p.x_at, p.x_distance, p.x_row = work.x, work.start * op.n_in, 0, op.n_in
        if whole > 0:
            call(op.product, (address, 0, whole))

    return operation_kernel(affine_forward_in_place)


@functools.cache
def row_forward_kernel(dtype, packed):
    """Return the address of the forward pass of one row, with weights packed or as users see them.

    The row lies in the activations as an ordinary vector.
    """
    number = dtype.type

    def affine_forward_row(op, low, count, work):
        op, work = operation_at(op), work_at(work)
        p = product_at(local_memory(_PRODUCT))
        _describe_forward(p, op, work, number)
        if packed:
            multiply_packed_row(product_of(p, number))
        else:
            multiply_row(product_of(p, number))

    return operation_kernel(affine_forward_row)


@functools.cache
def backward_kernel(dtype):
    """Return the address of the backward pass to the input."""
    number = dtype.type

    def affine_backward(op, low, count, work):
        address, op, work = local_memory(_PRODUCT), operation_at(op), work_at(work)
        _describe_backward(product_at(address), op, work, number)
        call(op.product, (address, low, count))

    return operation_kernel(affine_backward)


@functools.cache
def weight_gradient_kernel(dtype):
    """Return the address of x.T @ dout, for the block of a task."""
    number = dtype.type

    def sum_weight_gradient(op, task, work, to):
        op, task, work = operation_at(op), task_at(task), work_at(work)
        acts, deltas = vector_at(work.acts, number), vector_at(work.deltas, number)
        params = vector_at(work.params, number)
        w = weights_of(block_at(work.blocks + task.block * BLOCK_BYTES), params)
        width = panel_width(w.n, task.j, w.data.itemsize)
        at = place(w, 0, task.j) + task.i * width
        update = Update(
            params, vector_at(work.state_1, number), vector_at(work.state_2, number), at
        )
        backward_weight_block(
            input_of(op, acts), result_of(op, deltas), work.n_rows, task.i, task.n_i, task.j,
            vector_at(to, number), update,
        )  # fmt: skip

    return operation_kernel(sum_weight_gradient)


@functools.cache
def sparse_weight_gradient_kernel(dtype):
    """Return the address of x.T @ dout for a batch of sparse samples, sorted by column."""
    number = dtype.type

    def sum_weight_gradient_sparse(op, task, work, to):
        op, task, work = operation_at(op), task_at(task), work_at(work)
        deltas = vector_at(work.deltas, number)
        entries = (
            vector_at(work.column_end, np.int64),
            vector_at(work.entry_value, number),
            vector_at(work.entry_row, np.int32),
        )
        backward_weight_block_sparse(
            entries, result_of(op, deltas), task, op.n_in, vector_at(to, number)
        )

    return operation_kernel(sum_weight_gradient_sparse)


@inner
def _sum_tile(tile, dout, n_rows, j, width, out):
    start = place(dout, 0, j)
    for r in range(n_rows):
        tile = add(tile, load(tile, dout.data, start + r * width, 0))
    store(tile, out, 0, 0)


_sum_any_tile = by_width(_sum_tile, 1)


@functools.cache
def column_sums_kernel(dtype):
    """Return the address of the sums of dout over the batch: the gradient of a bias or a shift."""
    number = dtype.type

    def sum_columns(op, task, work, to):
        op, task, work = operation_at(op), task_at(task), work_at(work)
        dout, out = result_of(op, vector_at(work.deltas, number)), vector_at(to, number)
        width = panel_width(op.n_out, task.j, out.itemsize)
        _sum_any_tile(width // lanes_of(out), out, dout, work.n_rows, task.j, width, out)

    return operation_kernel(sum_columns)
