"""Max-norm: after an update, no neuron's weights are longer than a limit (Srebro et al. 2005).

A kernel of its own for layers that have the limit (`fastnn.kernels.operation`).
"""

import functools

import numpy as np

from fastnn.kernels.codes import CONSTRAIN, MAX_NORM, N_IN, N_OUT, NEEDS_DX, W_AT, W_PANEL, WT_AT
from fastnn.kernels.memory import vector_at
from fastnn.kernels.panels import copy_transposed, panel_columns, round_up
from fastnn.kernels.tile import (
    TILE_ROWS,
    factors_within,
    lanes_of,
    load,
    multiply,
    multiply_add,
    store,
    zeros,
)
from fastnn.runtime.jit import inner, operation


@inner
def _limit_columns(zero, rows, width, w, o, limit):
    """Shorten the columns of w that are longer than `limit`: as many as the tile `zero` has."""
    squares = zero
    for r in range(rows):
        values = load(zero, w, o + r * width, 0)
        squares = multiply_add(values, values, squares)
    factors = factors_within(squares, limit)
    for r in range(rows):
        store(multiply(load(zero, w, o + r * width, 0), factors), w, o + r * width, 0)


@functools.cache
def max_norm_members(dtype):
    """Return the address of the kernel, by its column of a plan."""
    number = dtype.type

    def constrain(plan, numbers, low, count, rows, acts, deltas, params, step, out):
        plan, own = vector_at(plan, np.int64), vector_at(numbers, np.float64)
        p, transposed = vector_at(params, number), vector_at(out, number)
        lanes, n_in, limit = lanes_of(p), plan[N_IN], number(own[MAX_NORM])
        at = plan[W_AT] + low // panel_columns(p) * plan[W_PANEL]
        for c in range(0, count, lanes):
            _limit_columns(zeros(p, 1, 1), n_in, count, p, at + c, limit)
        if plan[NEEDS_DX]:
            copy_transposed(
                n_in, plan[N_OUT], 0, round_up(n_in, TILE_ROWS), low, count, p, at, transposed,
                plan[WT_AT],
            )  # fmt: skip

    return {CONSTRAIN: operation(constrain)}
