"""Layer normalisation: each row gets mean 0 and variance 1, then each column a scale and a shift.

Its blocks are the scale gamma and the shift beta. The state holds each row's mean, and behind it
1 / sqrt(variance + epsilon). Sums over a row are taken in groups of columns, in the same order at
any width of vectors. `fastnn.kernels.reference` has the plain loops.
"""

import functools
import math

from fastnn.kernels.batch_norm import or_nan
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
    add,
    by_width,
    cell_of,
    columns_of,
    fill_after,
    lanes_of,
    load,
    multiply,
    multiply_add,
    row_sum,
    scale_and_shift,
    store,
    subtract,
    zero_group,
)
from fastnn.runtime.jit import inner

GAMMA, BETA = 0, 1
"""The layer's blocks."""

EPSILON = 0
"""The layer's number."""


@inner
def _deviations(x, c, centre):
    """Return a group of a row less `centre`, with zeros behind the last column."""
    number = x.data.dtype.type
    distance = scale_and_shift(load_group(x, c), number(1), -centre)
    return fill_after(distance, x.n - c, number(0))


@inner
def _normalise_row(x, out, gamma, beta, epsilon):
    """Overwrite a row of out; return the mean and 1 / sqrt(variance + epsilon) of that of x."""
    number = x.data.dtype.type
    zero, one, count, group = number(0), number(1), number(x.n), 2 * cell_of(x.data)
    first = x.data[x.at if x.last > 0 else x.last_at]
    total = zero_group(x.data)
    for c in range(0, x.n, group):
        total = add(total, _deviations(x, c, first))
    mean = first + row_sum(total) / count
    squares = zero_group(x.data)
    for c in range(0, x.n, group):
        deviation = _deviations(x, c, mean)
        squares = multiply_add(deviation, deviation, squares)
    inverse = one / math.sqrt(or_nan(row_sum(squares)) / count + epsilon)
    for c in range(0, x.n, group):
        normal = scale_and_shift(_deviations(x, c, mean), inverse, zero)
        normal = multiply_add(normal, load_group(gamma, c), load_group(beta, c))
        store_group(out, c, fill_after(normal, x.n - c, zero))
    return mean, inverse


@inner
def _differentiate_row(x, dx, dout, gamma, mean, inverse):
    """dx = (g - mean(g) - xhat mean(g xhat)) / sqrt(variance + epsilon), for g = dout gamma."""
    number = x.data.dtype.type
    zero, count, group = number(0), number(x.n), 2 * cell_of(x.data)
    total, slope = zero_group(x.data), zero_group(x.data)
    for c in range(0, x.n, group):
        g = fill_after(multiply(load_group(dout, c), load_group(gamma, c)), x.n - c, zero)
        total = add(total, g)
        slope = multiply_add(g, _deviations(x, c, mean), slope)
    mean_gradient = row_sum(total) / count
    factor = row_sum(slope) * inverse * inverse / count
    for c in range(0, x.n, group):
        g = multiply(load_group(dout, c), load_group(gamma, c))
        part = scale_and_shift(_deviations(x, c, mean), factor, mean_gradient)
        gradient = scale_and_shift(subtract(g, part), inverse, zero)
        store_group(dx, c, fill_after(gradient, x.n - c, zero))


@functools.cache
def forward_kernel(dtype):
    """Return the address of the forward pass."""
    number = dtype.type

    def layer_norm_forward(op, low, count, work):
        op, work = operation_at(op), work_at(work)
        a, p = vector_at(work.acts, number), vector_at(work.params, number)
        x, out, epsilon = input_of(op, a), result_of(op, a), number(op.numbers[EPSILON])
        gamma = vector_row(p, op.blocks[GAMMA], op.n_out)
        beta = vector_row(p, op.blocks[BETA], op.n_out)
        for r in range(low, low + count):
            x_row, out_row = row_of(x, r), row_of(out, r)
            mean, inverse = _normalise_row(x_row, out_row, gamma, beta, epsilon)
            a[op.state_at + r], a[op.state_at + op.state_step + r] = mean, inverse

    return operation_kernel(layer_norm_forward)


@functools.cache
def backward_kernel(dtype):
    """Return the address of the backward pass to the input."""
    number = dtype.type

    def layer_norm_backward(op, low, count, work):
        op, work = operation_at(op), work_at(work)
        a, d = vector_at(work.acts, number), vector_at(work.deltas, number)
        x, dx, dout = input_of(op, a), input_of(op, d), result_of(op, d)
        gamma = vector_row(vector_at(work.params, number), op.blocks[GAMMA], op.n_out)
        for r in range(low, low + count):
            mean, inverse = a[op.state_at + r], a[op.state_at + op.state_step + r]
            dx_row, dout_row = row_of(dx, r), row_of(dout, r)
            _differentiate_row(row_of(x, r), dx_row, dout_row, gamma, mean, inverse)

    return operation_kernel(layer_norm_backward)


@inner
def _sum_tile(zero, op, acts, dout, rows, j, out):
    """Overwrite `out` with the sums of dout xhat over the rows, for the panel of column j."""
    number, width, total = acts.dtype.type, columns_of(zero), zero
    xo, do = place(input_of(op, acts), 0, j), place(dout, 0, j)
    for r in range(rows):
        mean, inverse = acts[op.state_at + r], acts[op.state_at + op.state_step + r]
        deviation = scale_and_shift(load(zero, acts, xo + r * width, 0), number(1), -mean)
        normal = scale_and_shift(deviation, inverse, number(0))
        total = multiply_add(load(zero, dout.data, do + r * width, 0), normal, total)
    store(total, out, 0, 0)


_sum_panel = by_width(_sum_tile, 1)


@functools.cache
def scale_gradient_kernel(dtype):
    """Return the address of the gradient of gamma, sum dout xhat, for a panel of columns."""
    number = dtype.type

    def sum_scale_gradient(op, task, work, to):
        op, task, work = operation_at(op), task_at(task), work_at(work)
        acts, out = vector_at(work.acts, number), vector_at(to, number)
        dout = result_of(op, vector_at(work.deltas, number))
        vectors = panel_width(op.n_out, task.j, out.itemsize) // lanes_of(out)
        _sum_panel(vectors, out, op, acts, dout, work.n_rows, task.j, out)

    return operation_kernel(sum_scale_gradient)
