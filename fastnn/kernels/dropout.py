"""Dropout, as an operation with kernels of its own (`fastnn.kernels.operation`).

Which elements are dropped is computed on the way forward and again on the way back, from the seed
of the layer and their place: cheaper than to remember it.
"""

import functools

import numpy as np

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
from fastnn.kernels.noise import dropout_limit, row_key
from fastnn.kernels.panels import panel_columns, panel_width
from fastnn.kernels.tile import TILE_VECTORS, drop, lanes_of, load, store, zeros
from fastnn.runtime.jit import inner, operation

RATE = OWN
"""Where the rate of a layer lies among its numbers."""


@inner
def _drop_rows(plan, rate, low, count, step, x, xo, x_panel, out, oo, out_panel):
    """out = x / (1 - rate) where the element is kept, else 0, for the rows [low, low + count)."""
    n, panel, lanes, limit = plan[N_OUT], panel_columns(x), lanes_of(x), dropout_limit(rate)
    scale, full = x.dtype.type(1.0 / (1.0 - rate)), zeros(x, 1, TILE_VECTORS)
    for r in range(low, low + count):
        key = row_key(plan[SEED], plan[FIRST_STEP] + step, r)
        for j in range(0, n, panel):
            width = panel_width(n, j, x, panel)
            at, to = xo + j // panel * x_panel + r * width, oo + j // panel * out_panel + r * width
            if width == panel:
                store(drop(load(full, x, at, 0), key, j, limit, scale), out, to, 0)
            else:
                for c in range(0, width, lanes):
                    tile = load(zeros(x, 1, 1), x, at + c, 0)
                    store(drop(tile, key, j + c, limit, scale), out, to + c, 0)


@functools.cache
def dropout_members(dtype):
    """Return the addresses of the kernels, by their column of a plan."""
    number = dtype.type

    def forward(plan, numbers, low, count, rows, acts, deltas, params, step, out):
        plan, own = vector_at(plan, np.int64), vector_at(numbers, np.float64)
        a = vector_at(acts, number)
        _drop_rows(
            plan, own[RATE], low, count, step, a, plan[X_AT], plan[X_PANEL], a, plan[OUT_AT],
            plan[OUT_PANEL],
        )  # fmt: skip

    def backward(plan, numbers, low, count, rows, acts, deltas, params, step, out):
        plan, own = vector_at(plan, np.int64), vector_at(numbers, np.float64)
        d = vector_at(deltas, number)
        _drop_rows(
            plan, own[RATE], low, count, step, d, plan[OUT_AT], plan[OUT_PANEL], d, plan[X_AT],
            plan[X_PANEL],
        )  # fmt: skip

    return {FORWARD: operation(forward), BACKWARD: operation(backward)}
