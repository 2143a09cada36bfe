"""Dropout, as an operation with kernels of its own (`fastnn.kernels.operation`).

Which elements are dropped is computed on the way forward and again on the way back, from the seed
of the layer and their place: cheaper than to remember it.
"""

import functools

import numpy as np

from fastnn._jit import inner, operation
from fastnn.kernels.codes import (
    BACKWARD,
    FIRST_STEP,
    FORWARD,
    N_OUT,
    OUT_AT,
    OUT_PANEL,
    OWN,
    SEED,
    X_AT,
    X_PANEL,
)
from fastnn.kernels.memory import vector_at
from fastnn.kernels.noise import random_bits, row_key
from fastnn.kernels.panels import panel_columns, panel_width

RATE = OWN
"""Where the rate of a layer lies among its numbers."""


@inner
def threshold(rate):
    """Random numbers of 32 bits below this one mean that an element is dropped."""
    return np.uint32(min(rate * 4294967296.0, 4294967295.0))


@inner
def _drop_rows(plan, rate, low, count, step, x, xo, x_panel, out, oo, out_panel):
    """out = x / (1 - rate) where the element is kept, else 0, for the rows [low, low + count)."""
    number = x.dtype.type
    n, panel, limit = plan[N_OUT], panel_columns(x), threshold(rate)
    scale, zero = number(1.0 / (1.0 - rate)), number(0)
    for r in range(low, low + count):
        key = row_key(plan[SEED], plan[FIRST_STEP] + step, r)
        for j in range(0, n, panel):
            width = panel_width(n, j, x, panel)
            at, to = xo + j // panel * x_panel + r * width, oo + j // panel * out_panel + r * width
            row, result = x[at : at + width], out[to : to + width]
            for c in range(width):
                kept = random_bits(key, j + c) >= limit
                result[c] = row[c] * scale if kept else zero


@functools.cache
def dropout_members(dtype):
    """Return the addresses of the kernels, by their column of a plan."""
    number = dtype.type

    def forward(operation, numbers, low, count, rows, acts, deltas, params, step, out):
        plan, own = vector_at(operation, np.int64), vector_at(numbers, np.float64)
        a = vector_at(acts, number)
        _drop_rows(
            plan, own[RATE], low, count, step, a, plan[X_AT], plan[X_PANEL], a, plan[OUT_AT],
            plan[OUT_PANEL],
        )  # fmt: skip

    def backward(operation, numbers, low, count, rows, acts, deltas, params, step, out):
        plan, own = vector_at(operation, np.int64), vector_at(numbers, np.float64)
        d = vector_at(deltas, number)
        _drop_rows(
            plan, own[RATE], low, count, step, d, plan[OUT_AT], plan[OUT_PANEL], d, plan[X_AT],
            plan[X_PANEL],
        )  # fmt: skip

    return {FORWARD: operation(forward), BACKWARD: operation(backward)}
