"""Dropout, as an operation (`fastnn.kernels.operation`).

Which elements are dropped is computed in the forward pass and again in the backward pass, from the
seed of the layer and their place: cheaper than to remember it.
"""

import functools

from fastnn.kernels.memory import vector_at
from fastnn.kernels.noise import dropout_limit, row_key
from fastnn.kernels.operation import (
    input_of,
    operation_at,
    operation_kernel,
    result_of,
    work_at,
)
from fastnn.kernels.panels import panel_columns, panel_width, place
from fastnn.kernels.tile import by_width, drop, lanes_of, load, store
from fastnn.runtime.jit import inner

RATE = 0
"""The layer's number."""


@inner
def _drop_tile(zero, x, out, r, j, key, rate):
    limit, scale = dropout_limit(rate), x.data.dtype.type(1.0 / (1.0 - rate))
    tile = load(zero, x.data, place(x, r, j), 0)
    store(drop(tile, key, j, limit, scale), out.data, place(out, r, j), 0)


_drop_panel = by_width(_drop_tile, 1)


@inner
def _drop_rows(op, low, count, step, x, out):
    """out = x / (1 - rate) where the element is kept, else 0, for the rows [low, low + count)."""
    lanes, rate = lanes_of(x.data), op.numbers[RATE]
    for r in range(low, low + count):
        key = row_key(op.seed, op.first_step + step, r)
        for j in range(0, x.n, panel_columns(x.data.itemsize)):
            vectors = panel_width(x.n, j, x.data.itemsize) // lanes
            _drop_panel(vectors, x.data, x, out, r, j, key, rate)


@functools.cache
def forward_kernel(dtype):
    """Return the address of the forward pass."""
    number = dtype.type

    def dropout_forward(op, low, count, work):
        op, work = operation_at(op), work_at(work)
        acts = vector_at(work.acts, number)
        _drop_rows(op, low, count, work.step, input_of(op, acts), result_of(op, acts))

    return operation_kernel(dropout_forward)


@functools.cache
def backward_kernel(dtype):
    """Return the address of the backward pass."""
    number = dtype.type

    def dropout_backward(op, low, count, work):
        op, work = operation_at(op), work_at(work)
        deltas = vector_at(work.deltas, number)
        _drop_rows(op, low, count, work.step, result_of(op, deltas), input_of(op, deltas))

    return operation_kernel(dropout_backward)
