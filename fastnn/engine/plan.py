"""The plan: a net's layers as records that kernels can read, and the memory that they need.

Layers add operations to a plan (`Layer.add_to`); then each gets its place in the workspace, and the
records are written, with the addresses of all kernels. Kernels compile once for each dtype, not for
each architecture.
"""

import math
from typing import NamedTuple

import numpy as np

from fastnn.kernels.activations import ACTIVATIONS, activate_kernel, differentiate_kernel
from fastnn.kernels.constraint import max_norm_kernel
from fastnn.kernels.memory import CACHE_LINE
from fastnn.kernels.operation import BLOCK, MOST_BLOCKS, OPERATION, TASK
from fastnn.kernels.panels import padded_width, panel_columns, panel_width, round_up
from fastnn.kernels.products import KEEP, MASK, NO_BIAS, RECTIFY
from fastnn.kernels.tile import CELL_BYTES, TILE_ROWS
from fastnn.kernels.weight_phase import BLOCK_ROWS

# A net with fewer bytes of weights gets smaller blocks, so that threads can share them out evenly.
_FEW_BYTES = 147_456


class Purpose(NamedTuple):
    """What a plan is for.

    Attributes
    ----------
    training : bool
        Otherwise dropout is left out, and batch normalisation takes its running statistics.
    sparse : bool
        Whether samples are sparse. The first layer is affine then.
    one_row : bool
        Whether it is for one row at a time, which lies as in an ordinary array.
    packed : bool
        Whether the parameters are packed, and not as users see them.
    """

    training: bool = False
    sparse: bool = False
    one_row: bool = False
    packed: bool = True


class Kernels(NamedTuple):
    """The kernels of a layer's operation (`fastnn.kernels.operation`): addresses, or 0.

    Attributes
    ----------
    forward, backward : int
    forward_in_place : int
        A forward pass of a prediction that reads samples where they lie.
    sums : dict of str to int
        `sum_gradient` of each block of parameters.
    gradients : dict of str to int
        Of blocks without: in which vector of its state the backward pass leaves the gradient.
    whole_batch : bool
    is_product : bool
        Whether it applies a ReLU to its result, and the derivative of one to its gradient.
    """

    forward: int = 0
    backward: int = 0
    forward_in_place: int = 0
    sums: dict = {}  # noqa: RUF012  # never changed
    gradients: dict = {}  # noqa: RUF012
    whole_batch: bool = False
    is_product: bool = False


class Holding(NamedTuple):
    """What holds the weights of a block back: penalties, decay, and a limit of their norm."""

    l1: float = 0.0
    l2: float = 0.0
    decay: float = 0.0
    max_norm: float = np.inf


class Plan(NamedTuple):
    """A net, laid out in memory for blocks of a given number of rows.

    Attributes
    ----------
    operations : ndarray (L,) of OPERATION
        What kernels do, in order.
    blocks : ndarray of BLOCK
        Where the parameters of the operations are.
    tasks : ndarray (T,) of TASK
        Pieces of the weight phase.
    cost_before : ndarray (T + 1,) of int64
        Work in the tasks before each one.
    segments : ndarray (S + 1,) of int64
        The operations in pieces: each but the first begins with one that needs the whole batch.
    layers : tuple of Layer
        What each operation came from.
    n_acts, n_deltas : int
        Elements of the activations, and of their gradients.
    n_cells : int
        Cells of columns in all blocks, for which sums over weights are kept.
    flops : int
        Floating-point operations of one row: forward, backward to input, backward to weight.
    flops_forward : int
        Those of the forward pass alone.
    """

    operations: np.ndarray
    blocks: np.ndarray
    tasks: np.ndarray
    cost_before: np.ndarray
    segments: np.ndarray
    layers: tuple
    n_acts: int
    n_deltas: int
    n_cells: int
    flops: int
    flops_forward: int

    @property
    def needs_whole_batch(self):
        """Whether an operation takes statistics of a batch."""
        return bool(self.operations["whole_batch"].any())

    @property
    def is_constrained(self):
        """Whether weights have a limit."""
        return bool(self.blocks["constrain"].any())

    def set_noise(self, layer, first_step):
        """Write where the random numbers of a layer come from."""
        for k, owner in enumerate(self.layers):
            if owner is layer:
                self.operations["seed"][k] = layer.noise_seed
                self.operations["first_step"][k] = first_step


class _Operation:
    """An operation while the plan is made."""

    def __init__(self, layer, kernels, n_in, n_out, blocks=()):
        self.layer, self.kernels, self.blocks = layer, kernels, blocks
        self.n_in, self.n_out = n_in, n_out
        self.activation, self.parameter = None, layer.parameter
        self.fork = self.join = None  # the other end of a residual block
        self.is_activation = False
        self.has_parameters = any(not placed.block.is_buffer for placed in blocks)
        self.needs_dx = self.masks_dx = self.differentiates = False
        self.x_at = self.out_at = self.state_at = self.state_step = 0

    @property
    def activation_in_product(self):
        """Whether the product applies the activation to a tile before it stores it."""
        return self.kernels.is_product and self.activation == "relu"


class PlanBuilder:
    """Collects the operations of a net.

    Parameters
    ----------
    n_inputs : int
        Columns of the net's input.
    layout : ParameterLayout
    purpose : Purpose
    """

    def __init__(self, n_inputs, layout, purpose):
        self.width, self.layout, self.purpose = n_inputs, layout, purpose
        self.dtype, self.operations = layout.dtype, []

    def add(self, layer, n_out=None):
        """Add the operation of a layer; return it. A later layer takes its n_out columns."""
        first = not self.operations
        purpose = self.purpose if first else self.purpose._replace(sparse=False)
        kernels = layer.kernels(self.dtype, purpose)
        return self._append(layer, kernels, n_out, self.layout.blocks_of(layer))

    def _append(self, layer, kernels, n_out=None, blocks=()):
        n_out = self.width if n_out is None else n_out
        self.operations.append(_Operation(layer, kernels, self.width, n_out, blocks))
        self.width = n_out
        return self.operations[-1]

    def activate(self, layer, copy):
        """Let the operation before apply a layer's activation, if it has none yet.

        Parameters
        ----------
        layer : Layer
            Its `activation` is a name, or None for the identity.
        copy : Kernels
            Of the operation that is needed otherwise.
        """
        last = self.operations[-1] if self.operations else None
        if last is None or last.is_activation or last.join is not None or last.activation:
            last = self._append(layer, copy)
            last.is_activation = True
        if layer.activation is not None:
            last.activation, last.parameter = layer.activation, layer.parameter

    def add_residual(self, layer, block, fork, join):
        """Add a residual block: the layers of `block`, between the operations of both ends."""
        begin = self._append(layer, fork)
        begin.join = begin  # no activation is joined to it meanwhile
        for inner in block:
            inner.add_to(self)
        begin.join = self._append(layer, join)
        begin.join.fork = begin


def build(layers, n_inputs, layout, n_rows, purpose, held=None):
    """Lay out a net in memory, and compile the kernels that it needs.

    Parameters
    ----------
    layers : sequence of Layer
    n_inputs : int
        Columns of the net's input.
    layout : ParameterLayout
    n_rows : int
        Rows of the activations, padded to whole tiles where it is not one.
    purpose : Purpose
    held : callable, optional
        Returns the `Holding` of a layer's weights.

    Returns
    -------
    Plan
    """
    dtype = layout.dtype
    n_rows = 1 if purpose.one_row else round_up(n_rows, TILE_ROWS)
    builder = PlanBuilder(n_inputs, layout, purpose)
    for layer in layers:
        layer.add_to(builder)
    operations = builder.operations
    _decide_derivatives(operations)
    size = _place(operations, n_rows, dtype)
    blocks = _block_records(operations, layout, purpose, held or (lambda layer: Holding()))
    tasks, costs, n_cells = _weight_tasks(operations, dtype)
    products = [
        (math.prod(placed.block.shape), op.needs_dx)
        for op in operations
        for placed in op.blocks
        if placed.is_matrix
    ]
    forward = sum(size for size, _ in products)
    backward = sum(size for size, needs_dx in products if needs_dx)
    begins = [k for k, op in enumerate(operations) if purpose.training and op.kernels.whole_batch]
    n_input = 0 if purpose.sparse else _matrix_size(n_inputs, n_rows, dtype)
    return Plan(
        operations=_operation_records(operations, n_rows, layout, purpose),
        blocks=blocks,
        tasks=tasks,
        cost_before=np.concatenate([[0], np.cumsum(costs)]).astype(np.int64),
        segments=np.array([0, *begins, len(operations)], np.int64),
        layers=tuple(op.layer for op in operations),
        n_acts=size + n_input,
        n_deltas=size,
        n_cells=n_cells,
        flops=2 * (2 * forward + backward),
        flops_forward=2 * forward,
    )


def _decide_derivatives(operations):
    """Decide which gradients are needed, and who multiplies by the derivative of an activation."""
    trained = False  # whether there are parameters in or before the operation
    for before, op in zip([None, *operations], operations, strict=False):
        op.needs_dx = trained
        op.masks_dx = trained and op.kernels.is_product and before.activation == "relu"
        if op.masks_dx:
            before.differentiates = False
        trained = trained or op.has_parameters
        op.differentiates = trained and op.activation is not None


def _line(dtype):
    """Return how many elements a cache line holds."""
    return CACHE_LINE // dtype.itemsize


def _distance(n_rows, dtype):
    """Return the distance of the panels of a matrix with `n_rows` rows, in elements.

    An odd number of cache lines: places in the first-level cache repeat every 64 lines, so those
    of a row in all panels would coincide. A single row lies as in an ordinary array.
    """
    panel = panel_columns(dtype.itemsize)
    if n_rows == 1:
        return panel
    return (-(-n_rows * panel // _line(dtype)) | 1) * _line(dtype)


def _matrix_size(n, n_rows, dtype):
    """Return the elements of a matrix (n_rows, n) in panels, up to the next cache line."""
    panel = panel_columns(dtype.itemsize)
    last = (n - 1) // panel
    size = last * _distance(n_rows, dtype) + n_rows * panel_width(n, last * panel, dtype.itemsize)
    return round_up(size, _line(dtype))


def _place(operations, n_rows, dtype):
    """Give each result its panels in the workspace; return its size, without the net's input.

    The input lies behind all else, since it has no gradient.
    """
    offset, before = 0, None
    for k, op in enumerate(operations):
        op.x_at = before
        if op.join is not None or _adds_in_place(operations, k):
            op.out_at = before
        else:
            op.out_at = offset
            offset += _matrix_size(op.n_out, n_rows, dtype)
        if op.layer.n_states and op.blocks:
            op.state_step = round_up(
                max(padded_width(op.n_out, dtype.itemsize), n_rows), _line(dtype)
            )
            op.state_at = offset
            offset += op.layer.n_states * op.state_step
        before = op.out_at
    for op in operations:
        op.x_at = offset if op.x_at is None else op.x_at
        op.out_at = offset if op.out_at is None else op.out_at
    return offset


def _adds_in_place(operations, k):
    """Return whether operation k is a sum that may overwrite its first term."""
    op, before = operations[k], operations[k - 1]
    return op.fork is not None and before.join is None and before.activation is None


def _operation_records(operations, n_rows, layout, purpose):
    """Write the records of all operations."""
    dtype = layout.dtype
    records = np.zeros(len(operations), OPERATION)
    for record, op in zip(records, operations, strict=True):
        kernels, activation = op.kernels, ACTIVATIONS.get(op.activation)
        values = {
            "n_in": op.n_in,
            "n_out": op.n_out,
            "x_at": op.x_at,
            "x_panel": _distance(n_rows, dtype),
            "out_at": op.out_at,
            "out_panel": _distance(n_rows, dtype),
            "finish": RECTIFY if op.activation_in_product else KEEP,
            "finish_backward": MASK if op.masks_dx else KEEP,
            "needs_dx": op.needs_dx,
            "state_at": op.state_at,
            "state_step": op.state_step,
            "whole_batch": purpose.training and kernels.whole_batch,
            "forward": kernels.forward,
            "forward_in_place": kernels.forward_in_place,
            "activation_number": op.parameter,
            "numbers": (*op.layer.numbers, 0.0, 0.0, 0.0)[:3],
            "transposed_at": op.blocks[0].transposed_at if op.blocks else -1,
        }
        places = [p.at if purpose.packed else p.user_at for p in op.blocks]
        values["blocks"] = [*places, *[NO_BIAS] * MOST_BLOCKS][:MOST_BLOCKS]
        if op.fork or op.join:
            values["other_at"] = (op.fork or op.join).out_at
        if activation is not None and not op.activation_in_product:
            values["activate"] = activate_kernel(activation, dtype)
        if purpose.training:
            if op.needs_dx or kernels.whole_batch:
                values["backward"] = kernels.backward
            if op.differentiates:
                values["differentiate"] = differentiate_kernel(activation, dtype)
        for name, value in values.items():
            record[name] = value
    return records


def _block_records(operations, layout, purpose, held):
    """Write the records of all blocks of parameters, operation by operation."""
    rows = []
    for k, op in enumerate(operations):
        holding = held(op.layer)
        for placed in op.blocks:
            block, kernels = placed.block, op.kernels
            row = {
                "operation": k,
                "at": placed.at,
                "n_rows": placed.n_rows,
                "n_columns": placed.n_columns,
                "distance": placed.distance,
                "transposed_at": placed.transposed_at,
                "user_at": placed.user_at,
                "sum_gradient": kernels.sums.get(block.name, 0),
                "gradient_at": -1,
                "is_weight": block.is_weight,
                "max_norm": np.inf,
            }
            if block.name in kernels.gradients:
                row["gradient_at"] = op.state_at + kernels.gradients[block.name] * op.state_step
            if block.is_weight and purpose.training:
                row |= holding._asdict()
                if holding.max_norm < np.inf:
                    row["constrain"] = max_norm_kernel(layout.dtype)
            rows.append(tuple(row.get(name, 0) for name in BLOCK.names))
    return np.array(rows, BLOCK)


def _weight_tasks(operations, dtype):
    """Cut the weight phase into pieces of the blocks, panel by panel; return also their costs.

    The pieces have the same rows at every width of vectors, and their cells of columns (CELL_BYTES)
    have the same numbers: sums over weights are taken by cell. A vector comes before the matrix
    beside it, so that both read the gradients of a panel while it is near.
    """
    cell, itemsize = CELL_BYTES // dtype.itemsize, dtype.itemsize
    work = sum(
        p.n_rows * round_up(p.n_columns, cell)
        for op in operations
        for p in op.blocks
        if p.is_matrix
    )
    few = work * itemsize < _FEW_BYTES
    most_rows = BLOCK_ROWS // 3 if few else BLOCK_ROWS
    tasks, costs, n_cells = [], [], 0
    first = 0
    for op in operations:
        own = [
            (first + k, placed) for k, placed in enumerate(op.blocks) if not placed.block.is_buffer
        ][::-1]
        first += len(op.blocks)
        cells = {}
        for k, placed in own:
            cells[k] = n_cells
            n_cells += -(-placed.n_rows // most_rows) * -(-placed.n_columns // cell)
        for j in range(0, max((p.n_columns for _, p in own), default=0), panel_columns(itemsize)):
            for k, placed in own:
                if j >= placed.n_columns:
                    continue
                width, n_rows = panel_width(placed.n_columns, j, itemsize), placed.n_rows
                for i in range(0, n_rows, most_rows):
                    rows = (
                        min(most_rows, round_up(n_rows - i, TILE_ROWS)) if placed.is_matrix else 1
                    )
                    row_cells = -(-placed.n_columns // cell)
                    at = cells[k] + i // most_rows * row_cells + j // cell
                    tasks.append((k, i, rows, j, at))
                    costs.append(rows * width)
    return np.array(tasks, TASK), np.array(costs, np.int64), n_cells
