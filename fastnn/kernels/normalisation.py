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
from fastnn.kernels.memory import vector_at
from fastnn.kernels.panels import panel_columns, panel_width
from fastnn.kernels.tile import (
    TILE_VECTORS,
    add,
    fill_after,
    lanes_of,
    load,
    multiply,
    row_sum,
    scale_and_shift,
    store,
    subtract,
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
        squares = add(squares, multiply(deviation, deviation))
    store(mean, x, so, 0)
    store(squares, x, so + step, 0)
    for c in range(columns):
        square = _or_nan(x[so + step + c])
        params[mean_at + c] += momentum * (x[so + c] - params[mean_at + c])
        params[variance_at + c] += momentum * (square / (count - one) - params[variance_at + c])
        inverse = one / math.sqrt(square / count + epsilon)
        x[so + step + c] = inverse
        x[so + 2 * step + c] = inverse * params[gamma + c]
    scale, shift = load(zero, x, so + 2 * step, 0), load(zero, params, beta, 0)
    for r in range(rows):
        deviation = subtract(load(zero, x, xo + r * width, 0), mean)
        store(add(multiply(deviation, scale), shift), out, oo + r * width, 0)


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
        dgamma = add(dgamma, multiply(gradient, normal))
    store(dgamma, dout, so, 0)
    store(dbeta, dout, so + step, 0)
    if needs_dx:
        share = dout.dtype.type(1) / dout.dtype.type(rows)
        nothing = dout.dtype.type(0)
        scale = load(zero, x, so + 2 * step, 0)
        mean_gradient = scale_and_shift(dbeta, share, nothing)
        slope = multiply(scale_and_shift(dgamma, share, nothing), inverse)
        for r in range(rows):
            gradient = subtract(load(zero, dout, do + r * width, 0), mean_gradient)
            deviation = subtract(load(zero, x, xo + r * width, 0), mean)
            gradient = subtract(gradient, multiply(deviation, slope))
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
                    a[o + c] = deviation * a[scale + j + c] + p[plan[B_AT] + j + c]

    return {FORWARD: operation(evaluate)}


# Layer normalisation, a row at a time: full panels, then the vectors of the last, narrower one,
# whose padding counts as zero.


@inner
def _sum_rows(zero, rows, width, x, xo, mean_at, inverse_at, dout, do, dgamma_at, dbeta_at):
    """Overwrite sums of dout xhat and of dout, for as many columns as the tile `zero` has."""
    one, nothing = x.dtype.type(1), x.dtype.type(0)
    dgamma, dbeta = zero, zero
    for r in range(rows):
        gradient = load(zero, dout, do + r * width, 0)
        deviation = scale_and_shift(load(zero, x, xo + r * width, 0), one, -x[mean_at + r])
        normal = scale_and_shift(deviation, x[inverse_at + r], nothing)
        dgamma, dbeta = add(dgamma, multiply(gradient, normal)), add(dbeta, gradient)
    store(dgamma, dout, dgamma_at, 0)
    store(dbeta, dout, dbeta_at, 0)


@functools.cache
def layer_norm_members(dtype):
    """Return the addresses of the kernels, by their column of a plan."""
    number = dtype.type

    def forward(plan, numbers, low, count, rows, acts, deltas, params, step, out):
        plan, own = vector_at(plan, np.int64), vector_at(numbers, np.float64)
        a, p = vector_at(acts, number), vector_at(params, number)
        panel, lanes, n = panel_columns(a), lanes_of(a), plan[N_OUT]
        xo, x_panel, oo, out_panel = plan[X_AT], plan[X_PANEL], plan[OUT_AT], plan[OUT_PANEL]
        gamma, beta, one, nothing = plan[W_AT], plan[B_AT], number(1), number(0)
        full = n // panel
        tail = n - full * panel
        tail_width = panel_width(n, full * panel, a, panel)
        for r in range(low, low + count):
            xt = xo + full * x_panel + r * tail_width
            first = a[xo + r * panel_width(n, 0, a, panel)]
            total, total_tail = zeros(a, 1, TILE_VECTORS), zeros(a, 1, 1)
            for k in range(full):
                x = load(total, a, xo + k * x_panel + r * panel, 0)
                total = add(total, scale_and_shift(x, one, -first))
            for c in range(0, tail, lanes):
                distance = scale_and_shift(load(total_tail, a, xt + c, 0), one, -first)
                total_tail = add(total_tail, fill_after(distance, tail - c, nothing))
            mean = first + (row_sum(total) + row_sum(total_tail)) / number(n)

            squares, squares_tail = zeros(a, 1, TILE_VECTORS), zeros(a, 1, 1)
            for k in range(full):
                x = load(squares, a, xo + k * x_panel + r * panel, 0)
                deviation = scale_and_shift(x, one, -mean)
                squares = add(squares, multiply(deviation, deviation))
            for c in range(0, tail, lanes):
                deviation = scale_and_shift(load(squares_tail, a, xt + c, 0), one, -mean)
                deviation = fill_after(deviation, tail - c, nothing)
                squares_tail = add(squares_tail, multiply(deviation, deviation))
            variance = _or_nan(row_sum(squares) + row_sum(squares_tail)) / number(n)
            inverse = one / math.sqrt(variance + number(own[EPSILON]))
            a[plan[STATE_AT] + r], a[plan[STATE_AT] + plan[STATE_STEP] + r] = mean, inverse

            for k in range(full):
                x = load(squares, a, xo + k * x_panel + r * panel, 0)
                normal = scale_and_shift(scale_and_shift(x, one, -mean), inverse, nothing)
                normal = multiply(normal, load(squares, p, gamma + k * panel, 0))
                normal = add(normal, load(squares, p, beta + k * panel, 0))
                store(normal, a, oo + k * out_panel + r * panel, 0)
            at = oo + full * out_panel + r * tail_width
            for c in range(0, tail, lanes):
                x, j = load(squares_tail, a, xt + c, 0), full * panel + c
                normal = scale_and_shift(scale_and_shift(x, one, -mean), inverse, nothing)
                normal = multiply(normal, load(squares_tail, p, gamma + j, 0))
                normal = add(normal, load(squares_tail, p, beta + j, 0))
                store(fill_after(normal, tail - c, nothing), a, at + c, 0)

    def backward(plan, numbers, low, count, rows, acts, deltas, params, step, out):
        # dx = (g - mean(g) - xhat mean(g xhat)) / sqrt(variance + epsilon), g = dout gamma
        plan = vector_at(plan, np.int64)
        a, d, p = vector_at(acts, number), vector_at(deltas, number), vector_at(params, number)
        panel, lanes, n = panel_columns(a), lanes_of(a), plan[N_OUT]
        xo, x_panel, oo, out_panel = plan[X_AT], plan[X_PANEL], plan[OUT_AT], plan[OUT_PANEL]
        gamma, one, nothing = plan[W_AT], number(1), number(0)
        full = n // panel
        tail = n - full * panel
        tail_width = panel_width(n, full * panel, a, panel)
        for r in range(low, low + count):
            mean = a[plan[STATE_AT] + r]
            inverse = a[plan[STATE_AT] + plan[STATE_STEP] + r]
            xt, ot = xo + full * x_panel + r * tail_width, oo + full * out_panel + r * tail_width
            total, total_tail = zeros(a, 1, TILE_VECTORS), zeros(a, 1, 1)
            slope, slope_tail = zeros(a, 1, TILE_VECTORS), zeros(a, 1, 1)
            for k in range(full):
                x = load(total, a, xo + k * x_panel + r * panel, 0)
                g = load(total, d, oo + k * out_panel + r * panel, 0)
                g = multiply(g, load(total, p, gamma + k * panel, 0))
                total = add(total, g)
                slope = add(slope, multiply(g, scale_and_shift(x, one, -mean)))
            for c in range(0, tail, lanes):
                x, j = load(total_tail, a, xt + c, 0), full * panel + c
                g = multiply(load(total_tail, d, ot + c, 0), load(total_tail, p, gamma + j, 0))
                total_tail = add(total_tail, g)
                slope_tail = add(slope_tail, multiply(g, scale_and_shift(x, one, -mean)))
            mean_g = (row_sum(total) + row_sum(total_tail)) / number(n)
            factor = (row_sum(slope) + row_sum(slope_tail)) * inverse * inverse / number(n)
            for k in range(full):
                x = load(total, a, xo + k * x_panel + r * panel, 0)
                g = load(total, d, oo + k * out_panel + r * panel, 0)
                g = multiply(g, load(total, p, gamma + k * panel, 0))
                part = scale_and_shift(scale_and_shift(x, one, -mean), factor, mean_g)
                dx = scale_and_shift(subtract(g, part), inverse, nothing)
                store(dx, d, xo + k * x_panel + r * panel, 0)
            for c in range(0, tail, lanes):
                x, j = load(total_tail, a, xt + c, 0), full * panel + c
                g = multiply(load(total_tail, d, ot + c, 0), load(total_tail, p, gamma + j, 0))
                part = scale_and_shift(scale_and_shift(x, one, -mean), factor, mean_g)
                dx = scale_and_shift(subtract(g, part), inverse, nothing)
                store(fill_after(dx, tail - c, nothing), d, xt + c, 0)

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
