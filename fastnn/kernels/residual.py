"""Copies and sums of whole results: an activation that stands alone, and residual connections.

A residual block is a `fork` where its two branches part and a `join` where they are added. The fork
has no memory of its own: its result is its input.
"""

import functools

from fastnn.kernels.memory import vector_at
from fastnn.kernels.operation import (
    input_of,
    operation_at,
    operation_kernel,
    result_of,
    work_at,
)
from fastnn.kernels.panels import Panels, add_rows, copy_rows
from fastnn.runtime.jit import inner


@inner
def _copy_unless_in_place(source, target, low, count):
    if source.at != target.at:
        copy_rows(source, target, low, count)


@functools.cache
def copy_forward_kernel(dtype):
    """Return the address of out = x."""
    number = dtype.type

    def copy_forward(op, low, count, work):
        op, acts = operation_at(op), vector_at(work_at(work).acts, number)
        _copy_unless_in_place(input_of(op, acts), result_of(op, acts), low, count)

    return operation_kernel(copy_forward)


@functools.cache
def copy_backward_kernel(dtype):
    """Return the address of dx = dout."""
    number = dtype.type

    def copy_backward(op, low, count, work):
        op, deltas = operation_at(op), vector_at(work_at(work).deltas, number)
        _copy_unless_in_place(result_of(op, deltas), input_of(op, deltas), low, count)

    return operation_kernel(copy_backward)


@functools.cache
def join_forward_kernel(dtype):
    """Return the address of out = x + the input of the block."""
    number = dtype.type

    def join_forward(op, low, count, work):
        op, acts = operation_at(op), vector_at(work_at(work).acts, number)
        out = result_of(op, acts)
        _copy_unless_in_place(input_of(op, acts), out, low, count)
        add_rows(Panels(acts, op.other_at, op.out_panel, op.n_out), out, low, count)

    return operation_kernel(join_forward)


@functools.cache
def fork_backward_kernel(dtype):
    """Return the address of dx += the gradient of the block's sum."""
    number = dtype.type

    def fork_backward(op, low, count, work):
        op, deltas = operation_at(op), vector_at(work_at(work).deltas, number)
        other = Panels(deltas, op.other_at, op.out_panel, op.n_out)
        add_rows(other, result_of(op, deltas), low, count)

    return operation_kernel(fork_backward)
