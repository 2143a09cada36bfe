"""Batch normalisation: each column of a batch gets mean 0 and variance 1, then a scale and a shift.

Its blocks are the scale gamma, the shift beta, and the running mean and variance. In training it
needs the whole batch, so threads share out its columns. What the backward pass needs lies in the
state: mean, 1 / sqrt(variance + epsilon), and that times gamma. The backward pass leaves the
gradients of gamma and beta in the state of the gradients.

Each sum runs over the rows in their order, so it does not depend on the number of threads.
`fastnn.kernels.reference` has the plain loops.
"""

import functools
import math

import numpy as np

from fastnn.kernels.fma import fma
from fastnn.kernels.memory import vector_at
from fastnn.kernels.operation import (
    input_of,
    operation_at,
    operation_kernel,
    result_of,
    work_at,
)
from fastnn.kernels.panels import panel_columns, panel_width, place
from fastnn.kernels.tile import (
    add,
    by_width,
    columns_of,
    lanes_of,
    load,
    multiply,
    multiply_add,
    scale_and_shift,
    store,
    subtract,
)
from fastnn.runtime.jit import inner

GAMMA, BETA, MEAN, VARIANCE = range(4)
"""The layer's blocks."""

EPSILON, MOMENTUM = 0, 1
"""The layer's numbers."""

GRADIENTS = {"gamma": 0, "beta": 1}
"""Which vectors of the state the gradients are left in."""


@inner
def or_nan(square):
    """Return a sum of squares, or NaN where it overflowed: 1 / sqrt(infinity) would be 0."""
    number = type(square)
    return square if square < number(np.inf) else number(np.nan)


# The tile `zero` has one row and as many columns as the panel of column j. The mean is taken of the
# distances from the first number. It is exact where all are alike; otherwise what rounding makes of
# the mean would be divided by a variance of nearly zero.


@inner
def _normalise_columns(zero, op, acts, params, rows, j):
    """out = (x - mean) / sqrt(variance + epsilon) * gamma + beta.

    The running statistics move by `momentum` of their distance; there the variance is the unbiased
    one.
    """
    number, width = acts.dtype.type, columns_of(zero)
    xo, oo = place(input_of(op, acts), 0, j), place(result_of(op, acts), 0, j)
    so, step = op.state_at + j, op.state_step
    one, count = number(1), number(rows)
    epsilon, momentum = number(op.numbers[EPSILON]), number(op.numbers[MOMENTUM])
    first, total = load(zero, acts, xo, 0), zero
    for r in range(1, rows):
        total = add(total, subtract(load(zero, acts, xo + r * width, 0), first))
    mean = add(first, scale_and_shift(total, one / count, number(0)))
    squares = zero
    for r in range(rows):
        deviation = subtract(load(zero, acts, xo + r * width, 0), mean)
        squares = multiply_add(deviation, deviation, squares)
    store(mean, acts, so, 0)
    store(squares, acts, so + step, 0)
    gamma, means, variances = op.blocks[GAMMA] + j, op.blocks[MEAN] + j, op.blocks[VARIANCE] + j
    for c in range(width):
        square = or_nan(acts[so + step + c])
        mean_before, variance_before = params[means + c], params[variances + c]
        params[means + c] = fma(momentum, acts[so + c] - mean_before, mean_before)
        change = square / (count - one) - variance_before
        params[variances + c] = fma(momentum, change, variance_before)
        inverse = one / math.sqrt(square / count + epsilon)
        acts[so + step + c] = inverse
        acts[so + 2 * step + c] = inverse * params[gamma + c]
    scale, shift = load(zero, acts, so + 2 * step, 0), load(zero, params, op.blocks[BETA] + j, 0)
    for r in range(rows):
        deviation = subtract(load(zero, acts, xo + r * width, 0), mean)
        store(multiply_add(deviation, scale, shift), acts, oo + r * width, 0)


_normalise_panel = by_width(_normalise_columns, 1)


@inner
def _differentiate_columns(zero, op, acts, deltas, rows, j):
    """dgamma = sum dout xhat,  dbeta = sum dout.

    With xhat, the normalised x, and where it is needed (Ioffe & Szegedy 2015, section 3)
    dx = gamma / sqrt(variance + epsilon) (dout - dbeta / B - xhat dgamma / B).
    """
    number, width = deltas.dtype.type, columns_of(zero)
    xo, oo = place(input_of(op, acts), 0, j), place(result_of(op, deltas), 0, j)
    so, step = op.state_at + j, op.state_step
    mean, inverse = load(zero, acts, so, 0), load(zero, acts, so + step, 0)
    dgamma, dbeta = zero, zero
    for r in range(rows):
        gradient = load(zero, deltas, oo + r * width, 0)
        normal = multiply(subtract(load(zero, acts, xo + r * width, 0), mean), inverse)
        dbeta = add(dbeta, gradient)
        dgamma = multiply_add(gradient, normal, dgamma)
    store(dgamma, deltas, so, 0)
    store(dbeta, deltas, so + step, 0)
    if op.needs_dx:
        share, nothing = number(1) / number(rows), number(0)
        scale = load(zero, acts, so + 2 * step, 0)
        mean_gradient = scale_and_shift(dbeta, share, nothing)
        slope = multiply(scale_and_shift(dgamma, -share, nothing), inverse)
        for r in range(rows):
            gradient = subtract(load(zero, deltas, oo + r * width, 0), mean_gradient)
            deviation = subtract(load(zero, acts, xo + r * width, 0), mean)
            gradient = multiply_add(deviation, slope, gradient)
            store(multiply(scale, gradient), deltas, xo + r * width, 0)


_differentiate_panel = by_width(_differentiate_columns, 1)


@functools.cache
def forward_kernel(dtype):
    """Return the address of the forward pass of training, for panels of columns."""
    number = dtype.type

    def batch_norm_forward(op, low, count, work):
        op, work = operation_at(op), work_at(work)
        acts, params = vector_at(work.acts, number), vector_at(work.params, number)
        panel = panel_columns(acts.itemsize)
        for j in range(low * panel, (low + count) * panel, panel):
            vectors = panel_width(op.n_out, j, acts.itemsize) // lanes_of(acts)
            _normalise_panel(vectors, acts, op, acts, params, work.n_rows, j)

    return operation_kernel(batch_norm_forward)


@functools.cache
def backward_kernel(dtype):
    """Return the address of the backward pass, for panels of columns."""
    number = dtype.type

    def batch_norm_backward(op, low, count, work):
        op, work = operation_at(op), work_at(work)
        acts, deltas = vector_at(work.acts, number), vector_at(work.deltas, number)
        panel = panel_columns(acts.itemsize)
        for j in range(low * panel, (low + count) * panel, panel):
            vectors = panel_width(op.n_out, j, acts.itemsize) // lanes_of(acts)
            _differentiate_panel(vectors, acts, op, acts, deltas, work.n_rows, j)

    return operation_kernel(batch_norm_backward)


@functools.cache
def evaluation_kernel(dtype):
    """Return the address of the forward pass of prediction: it takes the running statistics."""
    number = dtype.type

    def batch_norm_evaluate(op, low, count, work):
        op, work = operation_at(op), work_at(work)
        a, p = vector_at(work.acts, number), vector_at(work.params, number)
        gamma, beta, mean = op.blocks[GAMMA], op.blocks[BETA], op.blocks[MEAN]
        epsilon, one, scale = number(op.numbers[EPSILON]), number(1), op.state_at
        for c in range(op.n_out):
            variance = p[op.blocks[VARIANCE] + c]
            a[scale + c] = one / math.sqrt(variance + epsilon) * p[gamma + c]
        panel = panel_columns(a.itemsize)
        for j in range(0, op.n_out, panel):
            for r in range(low, low + count):
                x, out = place(input_of(op, a), r, j), place(result_of(op, a), r, j)
                for c in range(min(panel, op.n_out - j)):
                    deviation = a[x + c] - p[mean + j + c]
                    a[out + c] = fma(deviation, a[scale + j + c], p[beta + j + c])

    return operation_kernel(batch_norm_evaluate)
