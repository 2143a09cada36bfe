"""The affine layer as an operation: out = x @ w + b, with x dense or sparse.

The products themselves are in `fastnn.kernels.products` and `fastnn.kernels.sparse`. Its blocks are
w (I, O) and, unless it has none, b (O,).
"""

import functools

import numpy as np

from fastnn.kernels.memory import vector_at
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
from fastnn.kernels.panels import Panels, panel_columns, panel_width, place, weight_distance
from fastnn.kernels.products import (
    IN_PANELS,
    NO_BIAS,
    Product,
    Update,
    backward_weight_block,
    multiply_packed_row,
    multiply_row,
    multiply_rows,
    multiply_rows_in_place,
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


@inner
def _forward_product(op, x, params, acts):
    """Return x @ w + b of an operation, with packed weights."""
    distance = weight_distance(op.n_in, params.itemsize)
    w = Panels(params, op.blocks[W], distance, op.n_out)
    return Product(x, w, params, op.blocks[B], result_of(op, acts), acts, op.finish)


@inner
def _backward_product(op, transposed, acts, deltas):
    """Return dout @ w.T of an operation."""
    distance = panel_columns(deltas.itemsize) * op.n_out
    w = Panels(transposed, op.transposed_at, distance, op.n_in)
    dout, dx = result_of(op, deltas), input_of(op, deltas)
    return Product(dout, w, transposed, NO_BIAS, dx, acts, op.finish_backward)


@functools.cache
def forward_kernel(dtype):
    """Return the address of the forward pass of rows in panels, with packed weights."""
    number = dtype.type

    def affine_forward(op, low, count, work):
        op, work = operation_at(op), work_at(work)
        acts, params = vector_at(work.acts, number), vector_at(work.params, number)
        multiply_rows(_forward_product(op, input_of(op, acts), params, acts), low, count)

    return operation_kernel(affine_forward)


@functools.cache
def sparse_forward_kernel(dtype):
    """Return the address of the forward pass of sparse samples."""
    number = dtype.type

    def affine_forward_sparse(op, low, count, work):
        op, work = operation_at(op), work_at(work)
        acts, params = vector_at(work.acts, number), vector_at(work.params, number)
        data, order = vector_at(work.x, number), vector_at(work.order, np.int64)
        indices, indptr = vector_at(work.indices, np.int32), vector_at(work.indptr, np.int64)
        product = _forward_product(op, input_of(op, acts), params, acts)
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
        op, work = operation_at(op), work_at(work)
        acts, params = vector_at(work.acts, number), vector_at(work.params, number)
        own, x_row = vector_at(work.x, number), op.n_in
        product, w_row = _forward_product(op, input_of(op, acts), params, acts), np.int64(IN_PANELS)
        if work.user_params != 0:
            users, params = operation_at(work.user_operations), vector_at(work.user_params, number)
            w_row, panel = op.n_out, panel_columns(params.itemsize)
            w = Panels(params, users.blocks[W], panel, op.n_out)
            product = Product(
                product.x, w, params, users.blocks[B], product.out, acts, product.finish
            )
        whole = work.n_rows // TILE_ROWS * TILE_ROWS
        x = Panels(own, work.start * x_row, np.int64(0), op.n_in)
        samples = Product(x, product.w, product.b, product.b_at, product.out, acts, product.finish)
        multiply_rows_in_place(samples, np.int64(0), whole, x_row, w_row)
        multiply_rows_in_place(product, whole, count - whole, np.int64(IN_PANELS), w_row)

    return operation_kernel(affine_forward_in_place)


@functools.cache
def row_forward_kernel(dtype, packed):
    """Return the address of the forward pass of one row, with weights packed or as users see them.

    The row lies in the activations as an ordinary vector.
    """
    number = dtype.type

    def affine_forward_row(op, low, count, work):
        op, work = operation_at(op), work_at(work)
        acts, params = vector_at(work.acts, number), vector_at(work.params, number)
        product = _forward_product(op, input_of(op, acts), params, acts)
        if packed:
            multiply_packed_row(product)
        else:
            multiply_row(product)

    return operation_kernel(affine_forward_row)


@functools.cache
def backward_kernel(dtype):
    """Return the address of the backward pass to the input."""
    number = dtype.type

    def affine_backward(op, low, count, work):
        op, work = operation_at(op), work_at(work)
        acts, deltas = vector_at(work.acts, number), vector_at(work.deltas, number)
        transposed = vector_at(work.transposed, number)
        multiply_rows(_backward_product(op, transposed, acts, deltas), low, count)

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
