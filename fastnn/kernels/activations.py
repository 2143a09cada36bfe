"""Activations and their derivatives, in place, over some rows of a matrix in panels.

The padding of a panel is computed along (one long loop is faster than many short ones) and stays
zero. Derivatives are in terms of the activation's output, which backward passes keep.

Arguments that say which rows: `n_rows` of them from `row` on, of a matrix with n columns whose
panels of `panel` columns begin at o, `distance` apart (`fastnn.kernels.panels`).
"""

import functools

import numpy as np

from fastnn.kernels.codes import (
    LEAKY_RELU,
    LOGISTIC,
    N_OUT,
    OUT_AT,
    OUT_PANEL,
    RELU,
    SLOPE,
    SOFTMAX,
    STEP,
    TANH,
)
from fastnn.kernels.fma import fma
from fastnn.kernels.memory import vector_at
from fastnn.kernels.panels import panel_columns, panel_width
from fastnn.kernels.vectormath import exp, logistic, tanh
from fastnn.runtime.jit import kernel, operation, pasted


@pasted
def _softmax_rows(row, n_rows, n, z, o, panel, distance):
    """Overwrite each row with exp(z - max) / sum: shifted by its maximum, nothing overflows."""
    number = z.dtype.type
    for r in range(row, row + n_rows):
        largest = z[o + r * panel_width(n, 0, z, panel)]
        for j in range(0, n, panel):
            start = o + j // panel * distance + r * panel_width(n, j, z, panel)
            for c in range(start, start + min(panel, n - j)):
                largest = max(largest, z[c])
        total = number(0)
        for j in range(0, n, panel):
            start = o + j // panel * distance + r * panel_width(n, j, z, panel)
            part = z[start : start + min(panel, n - j)]
            for c in range(part.size):
                part[c] = exp(part[c] - largest)
            for c in range(part.size):
                total += part[c]
        scale = number(1) / total
        for j in range(0, n, panel):
            start = o + j // panel * distance + r * panel_width(n, j, z, panel)
            for c in range(start, start + min(panel, n - j)):
                z[c] *= scale


@pasted
def _differentiate_softmax_rows(row, n_rows, n, dz, do, y, o, panel, distance):
    """dz = y * (dout - sum(dout * y)): the Jacobian diag(y) - y y^T times dout."""
    for r in range(row, row + n_rows):
        total = dz.dtype.type(0)
        for j in range(0, n, panel):
            at = j // panel * distance + r * panel_width(n, j, y, panel)
            for c in range(at, at + min(panel, n - j)):
                total = fma(dz[do + c], y[o + c], total)
        for j in range(0, n, panel):
            at = j // panel * distance + r * panel_width(n, j, y, panel)
            for c in range(at, at + min(panel, n - j)):
                dz[do + c] = y[o + c] * (dz[do + c] - total)


@pasted
def _activate(code, slope, z, width, n):
    """Overwrite rows of a panel, n of whose `width` columns are not padding."""
    number = z.dtype.type
    zero, one = number(0), number(1)
    if code == RELU:
        for i in range(z.size):
            z[i] = zero if z[i] <= zero else z[i]
    elif code == LEAKY_RELU:
        a = number(slope)
        for i in range(z.size):
            z[i] = a * z[i] if z[i] <= zero else z[i]
    elif code == LOGISTIC:
        for i in range(z.size):
            z[i] = logistic(z[i])
        if n < width:  # logistic(0) is not 0
            for start in range(0, z.size, width):
                for c in range(start + n, start + width):
                    z[c] = zero
    elif code == TANH:
        for i in range(z.size):
            z[i] = tanh(z[i])
    elif code == STEP:
        for i in range(z.size):
            positive = one if z[i] > zero else zero
            z[i] = positive if z[i] == z[i] else z[i]


@pasted
def _differentiate(code, slope, dz, y):
    """Overwrite rows of a panel of gradients, given the activation's output y."""
    number = y.dtype.type
    zero, one = number(0), number(1)
    if code == RELU:
        for i in range(dz.size):
            dz[i] = zero if y[i] <= zero else dz[i]
    elif code == LEAKY_RELU:
        a = number(slope)
        for i in range(dz.size):
            dz[i] = a * dz[i] if y[i] <= zero else dz[i]
    elif code == LOGISTIC:
        for i in range(dz.size):
            dz[i] *= y[i] * (one - y[i])
    elif code == TANH:
        for i in range(dz.size):
            dz[i] *= fma(-y[i], y[i], one)
    elif code == STEP:
        for i in range(dz.size):  # flat on both sides: nothing can be learned through it
            dz[i] = zero


@pasted
def activate_rows(code, slope, row, n_rows, n, out, o, panel, distance):
    """Overwrite rows of pre-activations with the activation: out = f(out)."""
    if code == SOFTMAX:
        _softmax_rows(row, n_rows, n, out, o, panel, distance)
        return
    for j in range(0, n, panel):
        width = panel_width(n, j, out, panel)
        start = o + j // panel * distance + row * width
        _activate(code, slope, out[start : start + n_rows * width], width, min(panel, n - j))


@pasted
def differentiate_rows(code, slope, row, n_rows, n, dout, do, out, o, panel, distance):
    """Overwrite rows of gradients dout with the gradient before the activation.

    `out` holds the activation's output, in panels as those of dout, which begin at do.
    """
    if code == SOFTMAX:
        _differentiate_softmax_rows(row, n_rows, n, dout, do, out, o, panel, distance)
        return
    for j in range(0, n, panel):
        width = panel_width(n, j, out, panel)
        at, size = j // panel * distance + row * width, n_rows * width
        _differentiate(code, slope, dout[do + at : do + at + size], out[o + at : o + at + size])


@functools.cache
def activation_member(code, dtype):
    """Return the address of the ACTIVATE kernel of an activation (`fastnn.kernels.operation`)."""
    number = dtype.type

    def activate_result(plan, numbers, low, count, rows, acts, deltas, params, step, out):
        plan, own = vector_at(plan, np.int64), vector_at(numbers, np.float64)
        a = vector_at(acts, number)
        activate_rows(
            code, own[SLOPE], low, count, plan[N_OUT], a, plan[OUT_AT], panel_columns(a),
            plan[OUT_PANEL],
        )  # fmt: skip

    return operation(activate_result)


@functools.cache
def derivative_member(code, dtype):
    """Return the address of the DIFFERENTIATE kernel of an activation."""
    number = dtype.type

    def differentiate_result(plan, numbers, low, count, rows, acts, deltas, params, step, out):
        plan, own = vector_at(plan, np.int64), vector_at(numbers, np.float64)
        a, d = vector_at(acts, number), vector_at(deltas, number)
        differentiate_rows(
            code, own[SLOPE], low, count, plan[N_OUT], d, plan[OUT_AT], a, plan[OUT_AT],
            panel_columns(a), plan[OUT_PANEL],
        )  # fmt: skip

    return operation(differentiate_result)


@kernel
def activate(code, slope, out):
    """Overwrite a whole array (B, O) with its activation."""
    n_rows, n = out.shape
    activate_rows(code, slope, 0, n_rows, n, out.reshape(-1), 0, n, 0)


@kernel
def differentiate(code, slope, dout, out):
    """Overwrite gradients dout (B, O) with those before the activation, given its output."""
    n_rows, n = out.shape
    differentiate_rows(code, slope, 0, n_rows, n, dout.reshape(-1), 0, out.reshape(-1), 0, n, 0)
