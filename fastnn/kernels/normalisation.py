"""Batch and layer normalisation, as operations with kernels of their own.

Both bring numbers to mean 0 and variance 1, then give each column a scale (gamma) and a shift
(beta) to learn: over the batch for each column, or over the columns for each row.
`fastnn.kernels.operation` says how they are called. What the way back needs lies in the state.

Each sum runs over the rows in their order, or over the columns panel by panel, so it does not
depend on the number of threads. `fastnn.kernels.reference` has the plain loops.
"""

import functools
import math

import numpy as np

from fastnn.kernels.codes import (
    B_AT,
    BACKWARD,
    FORWARD,
    MEAN_AT,
    N_OUT,
    NEEDS_DX,
    OUT_AT,
    OUT_PANEL,
    OWN,
    STATE_AT,
    STATE_STEP,
    SUM_GRADIENT,
    VARIANCE_AT,
    W_AT,
    X_AT,
    X_PANEL,
)
from fastnn.kernels.fma import fma
from fastnn.kernels.memory import vector_at
from fastnn.kernels.panels import (
    Panels,
    load_group,
    panel_columns,
    panel_width,
    place,
    store_group,
)
from fastnn.kernels.tile import (
    TILE_VECTORS,
    add,
    cell_of,
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
    zeros,
)
from fastnn.runtime.jit import inner, operation

EPSILON, MOMENTUM = OWN, OWN + 1
"""Where the numbers of a layer lie."""


@inner
def _or_nan(square):
    """A sum of squares, or NaN where it overflowed: 1 / sqrt(infinity) would be a silent zero."""
    number = type(square)
    return square if square < number(np.inf) else number(np.nan)


# Means are taken of the distances from the first number. They are exact where all are alike;
# otherwise what rounding makes of the mean would be divided by a variance of nearly zero.


# Batch normalisation, some columns at a time: as many as `zero`, a tile of one row, has. The rows
# of x and out lie `width` apart, the vectors of the state `step`.


@inner
def _normalise_columns(
    zero, columns, rows, width, x, xo, out, oo, so, step, params, gamma, beta, mean_at, variance_at,
    epsilon, momentum,
):  # fmt: skip
    """out = (x - mean) / sqrt(variance + epsilon) * gamma + beta.

    The state, in x's array, becomes mean, 1 / sqrt(variance + epsilon) and that times gamma. The
    running statistics at mean_at and variance_at move by `momentum` of their distance; there the
    variance is the unbiased one.
    """
    number = x.dtype.type
    one, count = number(1), number(rows)
    first, total = load(zero, x, xo, 0), zero
    for r in range(1, rows):
        total = add(total, subtract(load(zero, x, xo + r * width, 0), first))
    mean = add(first, scale_and_shift(total, one / count, number(0)))
    squares = zero
    for r in range(rows):
        deviation = subtract(load(zero, x, xo + r * width, 0), mean)
        squares = multiply_add(deviation, deviation, squares)
    store(mean, x, so, 0)
    store(squares, x, so + step, 0)
    for c in range(columns):
        square = _or_nan(x[so + step + c])
        mean_before, variance_before = params[mean_at + c], params[variance_at + c]
        params[mean_at + c] = fma(momentum, x[so + c] - mean_before, mean_before)
        change = square / (count - one) - variance_before
        params[variance_at + c] = fma(momentum, change, variance_before)
        inverse = one / math.sqrt(square / count + epsilon)
        x[so + step + c] = inverse
        x[so + 2 * step + c] = inverse * params[gamma + c]
    scale, shift = load(zero, x, so + 2 * step, 0), load(zero, params, beta, 0)
    for r in range(rows):
        deviation = subtract(load(zero, x, xo + r * width, 0), mean)
        store(multiply_add(deviation, scale, shift), out, oo + r * width, 0)


@inner
def _differentiate_columns(zero, rows, width, x, xo, so, step, needs_dx, dout, do, dx, dxo):
    """dgamma = sum dout xhat,  dbeta = sum dout; both go to the state in the array of dout.

    With xhat, the normalised x, and where it is needed (Ioffe & Szegedy 2015, section 3)
    dx = gamma / sqrt(variance + epsilon) (dout - dbeta / B - xhat dgamma / B).
    """
    mean, inverse = load(zero, x, so, 0), load(zero, x, so + step, 0)
    dgamma, dbeta = zero, zero
    for r in range(rows):
        gradient = load(zero, dout, do + r * width, 0)
        normal = multiply(subtract(load(zero, x, xo + r * width, 0), mean), inverse)
        dbeta = add(dbeta, gradient)
        dgamma = multiply_add(gradient, normal, dgamma)
    store(dgamma, dout, so, 0)
    store(dbeta, dout, so + step, 0)
    if needs_dx:
        share = dout.dtype.type(1) / dout.dtype.type(rows)
        nothing = dout.dtype.type(0)
        scale = load(zero, x, so + 2 * step, 0)
        mean_gradient = scale_and_shift(dbeta, share, nothing)
        slope = multiply(scale_and_shift(dgamma, -share, nothing), inverse)
        for r in range(rows):
            gradient = subtract(load(zero, dout, do + r * width, 0), mean_gradient)
            deviation = subtract(load(zero, x, xo + r * width, 0), mean)
            gradient = multiply_add(deviation, slope, gradient)
            store(multiply(scale, gradient), dx, dxo + r * width, 0)


@functools.cache
def batch_norm_members(dtype):
    """Return the addresses of the kernels for training, by their column of a plan."""
    number = dtype.type

    def forward(plan, numbers, low, count, rows, acts, deltas, params, step, out):
        plan, own = vector_at(plan, np.int64), vector_at(numbers, np.float64)
        a, p = vector_at(acts, number), vector_at(params, number)
        epsilon, momentum = number(own[EPSILON]), number(own[MOMENTUM])
        panel, lanes = panel_columns(a), lanes_of(a)
        n, state_step = plan[N_OUT], plan[STATE_STEP]
        for k in range(low, low + count):
            j = k * panel
            width = panel_width(n, j, a, panel)
            xo, oo = plan[X_AT] + k * plan[X_PANEL], plan[OUT_AT] + k * plan[OUT_PANEL]
            if width == TILE_VECTORS * lanes:
                _normalise_columns(
                    zeros(a, 1, TILE_VECTORS), width, rows, width, a, xo, a, oo, plan[STATE_AT] + j,
                    state_step, p, plan[W_AT] + j, plan[B_AT] + j, plan[MEAN_AT] + j,
                    plan[VARIANCE_AT] + j, epsilon, momentum,
                )  # fmt: skip
            else:
                for c in range(0, width, lanes):
                    _normalise_columns(
                        zeros(a, 1, 1), lanes, rows, width, a, xo + c, a, oo + c,
                        plan[STATE_AT] + j + c, state_step, p, plan[W_AT] + j + c,
                        plan[B_AT] + j + c, plan[MEAN_AT] + j + c, plan[VARIANCE_AT] + j + c,
                        epsilon, momentum,
                    )  # fmt: skip

    def backward(plan, numbers, low, count, rows, acts, deltas, params, step, out):
        plan = vector_at(plan, np.int64)
        a, d = vector_at(acts, number), vector_at(deltas, number)
        panel, lanes = panel_columns(a), lanes_of(a)
        n, state_step, needs_dx = plan[N_OUT], plan[STATE_STEP], plan[NEEDS_DX]
        for k in range(low, low + count):
            j = k * panel
            width = panel_width(n, j, a, panel)
            xo, oo = plan[X_AT] + k * plan[X_PANEL], plan[OUT_AT] + k * plan[OUT_PANEL]
            if width == TILE_VECTORS * lanes:
                _differentiate_columns(
                    zeros(a, 1, TILE_VECTORS), rows, width, a, xo, plan[STATE_AT] + j, state_step,
                    needs_dx, d, oo, d, xo,
                )  # fmt: skip
            else:
                for c in range(0, width, lanes):
                    _differentiate_columns(
                        zeros(a, 1, 1), rows, width, a, xo + c, plan[STATE_AT] + j + c, state_step,
                        needs_dx, d, oo + c, d, xo + c,
                    )  # fmt: skip

    return {FORWARD: operation(forward), BACKWARD: operation(backward)}


@functools.cache
def batch_norm_evaluation(dtype):
    """Return the address of the kernel for prediction: it takes the running statistics."""
    number = dtype.type

    def evaluate(plan, numbers, low, count, rows, acts, deltas, params, step, out):
        plan, own = vector_at(plan, np.int64), vector_at(numbers, np.float64)
        a, p = vector_at(acts, number), vector_at(params, number)
        n, panel, epsilon, one = plan[N_OUT], panel_columns(a), number(own[EPSILON]), number(1)
        scale = plan[STATE_AT]
        for c in range(n):
            variance = p[plan[VARIANCE_AT] + c]
            a[scale + c] = one / math.sqrt(variance + epsilon) * p[plan[W_AT] + c]
        for j in range(0, n, panel):
            width, columns = panel_width(n, j, a, panel), min(panel, n - j)
            for r in range(low, low + count):
                x = plan[X_AT] + j // panel * plan[X_PANEL] + r * width
                o = plan[OUT_AT] + j // panel * plan[OUT_PANEL] + r * width
                for c in range(columns):
                    deviation = a[x + c] - p[plan[MEAN_AT] + j + c]
                    a[o + c] = fma(deviation, a[scale + j + c], p[plan[B_AT] + j + c])

    return {FORWARD: operation(evaluate)}


# Layer normalisation, a row at a time, group by group of its columns.


@inner
def _deviations(x, r, c, centre):
    """Return a group of row r less `centre`, with zeros behind the last column."""
    zero = x.data.dtype.type(0)
    distance = scale_and_shift(load_group(x, r, c), x.data.dtype.type(1), -centre)
    return fill_after(distance, x.n - c, zero)


@inner
def _normalise_row(r, x, out, gamma, beta, epsilon):
    """Overwrite row r of out; return the mean and 1 / sqrt(variance + epsilon) of that of x."""
    number = x.data.dtype.type
    zero, one, count, group = number(0), number(1), number(x.n), 2 * cell_of(x.data)
    first = x.data[place(x, r, 0)]
    total = zero_group(x.data)
    for c in range(0, x.n, group):
        total = add(total, _deviations(x, r, c, first))
    mean = first + row_sum(total) / count
    squares = zero_group(x.data)
    for c in range(0, x.n, group):
        deviation = _deviations(x, r, c, mean)
        squares = multiply_add(deviation, deviation, squares)
    inverse = one / math.sqrt(_or_nan(row_sum(squares)) / count + epsilon)
    for c in range(0, x.n, group):
        normal = scale_and_shift(_deviations(x, r, c, mean), inverse, zero)
        normal = multiply_add(normal, load_group(gamma, 0, c), load_group(beta, 0, c))
        store_group(out, r, c, fill_after(normal, x.n - c, zero))
    return mean, inverse


@inner
def _differentiate_row(r, x, dx, dout, gamma, mean, inverse):
    """dx = (g - mean(g) - xhat mean(g xhat)) / sqrt(variance + epsilon), for g = dout gamma."""
    number = x.data.dtype.type
    zero, count, group = number(0), number(x.n), 2 * cell_of(x.data)
    total, slope = zero_group(x.data), zero_group(x.data)
    for c in range(0, x.n, group):
        g = multiply(load_group(dout, r, c), load_group(gamma, 0, c))
        g = fill_after(g, x.n - c, zero)
        total = add(total, g)
        slope = multiply_add(g, _deviations(x, r, c, mean), slope)
    mean_gradient = row_sum(total) / count
    factor = row_sum(slope) * inverse * inverse / count
    for c in range(0, x.n, group):
        g = multiply(load_group(dout, r, c), load_group(gamma, 0, c))
        part = scale_and_shift(_deviations(x, r, c, mean), factor, mean_gradient)
        gradient = scale_and_shift(subtract(g, part), inverse, zero)
        store_group(dx, r, c, fill_after(gradient, x.n - c, zero))


@inner
def _sum_rows(zero, rows, width, x, xo, mean_at, inverse_at, dout, do, dgamma_at, dbeta_at):
    """Overwrite sums of dout xhat and of dout, for as many columns as the tile `zero` has."""
    one, nothing = x.dtype.type(1), x.dtype.type(0)
    dgamma, dbeta = zero, zero
    for r in range(rows):
        gradient = load(zero, dout, do + r * width, 0)
        deviation = scale_and_shift(load(zero, x, xo + r * width, 0), one, -x[mean_at + r])
        normal = scale_and_shift(deviation, x[inverse_at + r], nothing)
        dgamma, dbeta = multiply_add(gradient, normal, dgamma), add(dbeta, gradient)
    store(dgamma, dout, dgamma_at, 0)
    store(dbeta, dout, dbeta_at, 0)


@functools.cache
def layer_norm_members(dtype):
    """Return the addresses of the kernels, by their column of a plan."""
    number = dtype.type

    def forward(plan, numbers, low, count, rows, acts, deltas, params, step, out):
        plan, own = vector_at(plan, np.int64), vector_at(numbers, np.float64)
        a, p = vector_at(acts, number), vector_at(params, number)
        n, panel = plan[N_OUT], panel_columns(a)
        x = Panels(a, plan[X_AT], plan[X_PANEL], n)
        result = Panels(a, plan[OUT_AT], plan[OUT_PANEL], n)
        gamma, beta = Panels(p, plan[W_AT], panel, n), Panels(p, plan[B_AT], panel, n)
        for r in range(low, low + count):
            mean, inverse = _normalise_row(r, x, result, gamma, beta, number(own[EPSILON]))
            a[plan[STATE_AT] + r], a[plan[STATE_AT] + plan[STATE_STEP] + r] = mean, inverse

    def backward(plan, numbers, low, count, rows, acts, deltas, params, step, out):
        plan = vector_at(plan, np.int64)
        a, d, p = vector_at(acts, number), vector_at(deltas, number), vector_at(params, number)
        n = plan[N_OUT]
        x, dx = Panels(a, plan[X_AT], plan[X_PANEL], n), Panels(d, plan[X_AT], plan[X_PANEL], n)
        dout = Panels(d, plan[OUT_AT], plan[OUT_PANEL], n)
        gamma = Panels(p, plan[W_AT], panel_columns(a), n)
        for r in range(low, low + count):
            mean, inverse = a[plan[STATE_AT] + r], a[plan[STATE_AT] + plan[STATE_STEP] + r]
            _differentiate_row(r, x, dx, dout, gamma, mean, inverse)

    def sum_gradient(plan, numbers, low, count, rows, acts, deltas, params, step, out):
        # dgamma = sum dout xhat, dbeta = sum dout, for the panel of columns from `low` on
        plan = vector_at(plan, np.int64)
        a, d = vector_at(acts, number), vector_at(deltas, number)
        k, lanes = low // panel_columns(a), lanes_of(a)
        xo, oo = plan[X_AT] + k * plan[X_PANEL], plan[OUT_AT] + k * plan[OUT_PANEL]
        mean_at, inverse_at = plan[STATE_AT], plan[STATE_AT] + plan[STATE_STEP]
        if count == TILE_VECTORS * lanes:
            _sum_rows(
                zeros(a, 1, TILE_VECTORS), rows, count, a, xo, mean_at, inverse_at, d, oo,
                mean_at + low, inverse_at + low,
            )  # fmt: skip
        else:
            for c in range(0, count, lanes):
                _sum_rows(
                    zeros(a, 1, 1), rows, count, a, xo + c, mean_at, inverse_at, d, oo + c,
                    mean_at + low + c, inverse_at + low + c,
                )  # fmt: skip

    return {
        FORWARD: operation(forward),
        BACKWARD: operation(backward),
        SUM_GRADIENT: operation(sum_gradient),
    }
