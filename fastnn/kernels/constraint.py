"""Max-norm: after an update, no neuron's weights are longer than a limit (Srebro et al. 2005).

A kernel of its own for blocks that have the limit (`fastnn.kernels.operation`).
"""

import functools

from fastnn.kernels.memory import vector_at
from fastnn.kernels.operation import block_at, constraint_kernel, weights_of, work_at
from fastnn.kernels.panels import (
    Panels,
    copy_transposed,
    panel_columns,
    panel_width,
    place,
    round_up,
)
from fastnn.kernels.tile import (
    TILE_ROWS,
    by_width,
    columns_of,
    factors_within,
    lanes_of,
    load,
    multiply,
    multiply_add,
    store,
)
from fastnn.runtime.jit import inner


@inner
def _limit_columns(zero, w, j, rows, limit):
    """Shorten the columns of w that are longer than `limit`: as many as the tile `zero` has."""
    o, width, squares = place(w, 0, j), columns_of(zero), zero
    for r in range(rows):
        values = load(zero, w.data, o + r * width, 0)
        squares = multiply_add(values, values, squares)
    factors = factors_within(squares, limit)
    for r in range(rows):
        shortened = multiply(load(zero, w.data, o + r * width, 0), factors)
        store(shortened, w.data, o + r * width, 0)


_limit_panel = by_width(_limit_columns, 1)


@functools.cache
def max_norm_kernel(dtype):
    """Return the address of the kernel."""
    number = dtype.type

    def limit_norms(block, j, work):
        block, work = block_at(block), work_at(work)
        w, n_in = weights_of(block, vector_at(work.params, number)), block.n_rows
        vectors = panel_width(w.n, j, w.data.itemsize) // lanes_of(w.data)
        _limit_panel(vectors, w.data, w, j, n_in, number(block.max_norm))
        if block.transposed_at >= 0:
            distance = panel_columns(w.data.itemsize) * w.n
            data = vector_at(work.transposed, number)
            transposed = Panels(data, block.transposed_at, distance, n_in)
            copy_transposed(w, transposed, 0, round_up(n_in, TILE_ROWS), j)

    return constraint_kernel(limit_norms)
