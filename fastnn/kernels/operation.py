"""Operations: what a plan consists of, and what their kernels are given.

A net is a row of operations, each of which turns rows of one matrix into rows of another one. All
arithmetic of an operation is in kernels of its own, which a plan names by their addresses. Four
records describe everything to them:

* an `OPERATION` says where its matrices lie and what its numbers are; it is complete when the plan
  is made; later only the seeds of dropout change,
* a `BLOCK` is one of its matrices or vectors of parameters,
* a `TASK` is a piece of a block that one thread updates at a time,
* a `WORK` is what one thread works on: addresses of memory, and which batch it is at.

The kernels of an operation take (operation, low, count, work), all int64, the first and the last of
them addresses of these records. They are called for the rows [low, low + count) of the batch, by
each thread for its own; of an operation that needs the whole batch (`whole_batch`), for the panels
[low, low + count) of its columns.

* `forward` overwrites the operation's result in the activations; `activate` overwrites it once
  more, with an activation of it.
* `differentiate` multiplies the gradient of the result by the activation's derivative.
* `backward` overwrites the gradient of its input, from that of the result.

Those of a block belong to the weight phase:

* `sum_gradient` takes (operation, task, work, to): it writes the gradient of the task's piece,
  summed over the batch, to the address `to`. Without one, the backward pass has left the gradient
  at `gradient_at` in the gradients.
* `constrain` takes (block, j, work): it changes the weights of the panel of column j after all
  updates, and their transposed copy.
"""

import numpy as np
from numba import from_dtype

from fastnn.kernels.calls import call
from fastnn.kernels.memory import record, vector_at
from fastnn.kernels.panels import Panels
from fastnn.runtime.jit import compile_at_address, inner

MOST_BLOCKS = 4
"""Blocks of parameters that an operation may have."""
MOST_NUMBERS = 3
"""Numbers that a layer may give to its operation."""

OPERATION = record(
    # Columns of the input and of the result; where their panels begin, and the distance of panels.
    "n_in n_out x_at x_panel out_at out_panel "
    # What a product does to a tile before it is stored, forward and backward; whether the gradient
    # of the input is needed.
    "finish finish_backward needs_dx "
    # The result of the operation at the other end of a residual block.
    "other_at "
    # Vectors that the operation remembers from the forward pass, state_step apart.
    "state_at state_step "
    # Dropout: where its random numbers come from.
    "seed first_step "
    # Addresses of kernels, or 0; `product` is the one that those of an affine layer call.
    "whole_batch forward backward activate differentiate forward_in_place product",
    # The parameter of the activation.
    ["activation_number"],
    [
        ("blocks", np.int64, (MOST_BLOCKS,)),  # where the parameters lie, in the layer's order
        ("transposed_at", np.int64),  # of the first block
        ("numbers", np.float64, (MOST_NUMBERS,)),  # of the layer
    ],
)
"""An operation of a plan."""

BLOCK = record(
    "operation "
    # In the packed parameters: start, rows and columns, and the distance of panels; its panels of
    # the transposed matrix, or -1; where the backward pass leaves the gradient, or -1.
    "at n_rows n_columns distance transposed_at gradient_at "
    # Where it begins in the parameters as the user sees them, row by row.
    "user_at "
    # Addresses of kernels, or 0.
    "sum_gradient constrain "
    # Whether it is a weight, which penalties and limits are for.
    "is_weight",
    ["l1", "l2", "decay", "max_norm"],
)
"""A matrix or a vector of parameters."""

TASK = record("block i n_i j cell")
"""A piece of a block: rows [i, i + n_i) of the panel of column j, and the first of its cells."""

WORK = record(
    # Addresses: of the plan's records; of the packed parameters, both states of the update rule,
    # the panels of w.T, and the gradient if it is kept; of the activations and gradients of a
    # batch; of room for a block of a gradient, the member's own.
    "operations blocks params state_1 state_2 transposed gradient acts deltas scratch "
    # Samples x (N, I), or their nonzero entries with indices and indptr (`fastnn.kernels.sparse`),
    # and room for those of a batch, sorted by column. The order of the samples, or 0.
    "x indices indptr column_end entry_row entry_value order "
    # For predictions: the parameters as the user sees them, where they are read in place.
    "user_params user_operations "
    # Numbers: columns of a sample; rows of the batch, the place of its first in the order, and how
    # many updates there were before it.
    "n_inputs n_rows start step"
)
"""What one thread works on."""

OPERATION_BYTES, BLOCK_BYTES, TASK_BYTES, WORK_BYTES = (
    record.itemsize for record in (OPERATION, BLOCK, TASK, WORK)
)
_OPERATION, _BLOCK, _TASK, _WORK = map(from_dtype, (OPERATION, BLOCK, TASK, WORK))


@inner
def operation_at(address):
    """Return the operation at an address."""
    return vector_at(address, _OPERATION)[0]


@inner
def block_at(address):
    """Return the block of parameters at an address."""
    return vector_at(address, _BLOCK)[0]


@inner
def task_at(address):
    """Return the task at an address."""
    return vector_at(address, _TASK)[0]


@inner
def work_at(address):
    """Return the work at an address."""
    return vector_at(address, _WORK)[0]


@inner
def input_of(op, data):
    """Return the matrix in `data`, activations or gradients, that an operation reads."""
    return Panels(data, op.x_at, op.x_panel, op.n_in)


@inner
def result_of(op, data):
    """Return the matrix in `data`, activations or gradients, that an operation writes."""
    return Panels(data, op.out_at, op.out_panel, op.n_out)


@inner
def weights_of(block, params):
    """Return a block as a matrix in panels."""
    return Panels(params, block.at, block.distance, block.n_columns)


@inner
def sample_of(work, order, r):
    """Return which sample row r of the batch is."""
    return order[work.start + r] if work.order != 0 else work.start + r


@inner
def run(kernel, operation, low, count, work):
    """Call a kernel of an operation, if there is one."""
    if kernel != 0:
        call(kernel, (operation, low, count, work))


def operation_kernel(function, cached=True):
    """Compile a kernel of an operation, or a `sum_gradient`; return its address.

    Parameters
    ----------
    function : callable
        Takes four int64.
    cached : bool, default=True
        Whether its machine code is kept on disk. Not where it depends on a function of a user.

    Returns
    -------
    int
    """
    return compile_at_address(function, 4, cached)


def constraint_kernel(function):
    """Compile a `constrain`; return its address."""
    return compile_at_address(function, 3)
