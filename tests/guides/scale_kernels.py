"""Scale: each column times a number of its own. Its block is the vector s of these numbers."""

import functools

from fastnn.kernels.memory import vector_at
from fastnn.kernels.operation import (
    input_of,
    operation_at,
    operation_kernel,
    result_of,
    task_at,
    work_at,
)
from fastnn.kernels.panels import (
    load_group,
    panel_width,
    place,
    row_of,
    store_group,
    vector_row,
)
from fastnn.kernels.tile import (
    by_width,
    cell_of,
    columns_of,
    fill_after,
    lanes_of,
    load,
    multiply,
    multiply_add,
    store,
)
from fastnn.runtime.jit import inner

S = 0
"""The layer's block."""


@inner
def _scale_rows(x, s, out, low, count):
    """Overwrite the rows [low, low + count) of out with those of x, times s."""
    zero, group = x.data.dtype.type(0), 2 * cell_of(x.data)
    for r in range(low, low + count):
        x_row, out_row = row_of(x, r), row_of(out, r)
        for c in range(0, x.n, group):
            product = multiply(load_group(x_row, c), load_group(s, c))
            store_group(out_row, c, fill_after(product, x.n - c, zero))


@functools.cache
def forward_kernel(dtype):
    """Return the address of the forward pass."""
    number = dtype.type

    def scale_forward(op, low, count, work):
        op, work = operation_at(op), work_at(work)
        acts, params = vector_at(work.acts, number), vector_at(work.params, number)
        s = vector_row(params, op.blocks[S], op.n_out)
        _scale_rows(input_of(op, acts), s, result_of(op, acts), low, count)

    return operation_kernel(scale_forward)


@functools.cache
def backward_kernel(dtype):
    """Return the address of the backward pass to the input."""
    number = dtype.type

    def scale_backward(op, low, count, work):
        op, work = operation_at(op), work_at(work)
        deltas, params = vector_at(work.deltas, number), vector_at(work.params, number)
        s = vector_row(params, op.blocks[S], op.n_out)
        _scale_rows(result_of(op, deltas), s, input_of(op, deltas), low, count)

    return operation_kernel(scale_backward)


@inner
def _sum_tile(zero, x, dout, n_rows, j, out):
    """Overwrite `out` with the sums of dout x over the rows, for the panel of column j."""
    width, total = columns_of(zero), zero
    xo, do = place(x, 0, j), place(dout, 0, j)
    for r in range(n_rows):
        factor = load(zero, x.data, xo + r * width, 0)
        total = multiply_add(load(zero, dout.data, do + r * width, 0), factor, total)
    store(total, out, 0, 0)


_sum_panel = by_width(_sum_tile, 1)


@functools.cache
def sum_gradient_kernel(dtype):
    """Return the address of the gradient of s, sum dout x, for a panel of columns."""
    number = dtype.type

    def sum_scale_factors(op, task, work, to):
        op, task, work = operation_at(op), task_at(task), work_at(work)
        x = input_of(op, vector_at(work.acts, number))
        dout = result_of(op, vector_at(work.deltas, number))
        out = vector_at(to, number)
        vectors = panel_width(op.n_out, task.j, out.itemsize) // lanes_of(out)
        _sum_panel(vectors, out, x, dout, work.n_rows, task.j, out)

    return operation_kernel(sum_scale_factors)
