"""The plan of a net: its operations as records that kernels read, and their places in memory.

Each layer adds its operations to a `PlanBuilder` (`Layer.add_to`). Then each operation gets places
in the workspace, and the records are written, with the addresses of all kernels. A kernel is
compiled once for each dtype, not for each net.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from fastnn.engine.layout import Block, ParameterLayout, PlacedBlock
from fastnn.kernels.activations import ACTIVATIONS, activate_kernel, differentiate_kernel
from fastnn.kernels.constraint import max_norm_kernel
from fastnn.kernels.memory import CACHE_LINE
from fastnn.kernels.operation import BLOCK, MOST_BLOCKS, MOST_NUMBERS, OPERATION, TASK
from fastnn.kernels.panels import padded_width, panel_columns, panel_width, round_up
from fastnn.kernels.products import KEEP, MASK, NO_BIAS, RECTIFY
from fastnn.kernels.tile import CELL_BYTES, TILE_ROWS
from fastnn.kernels.weight_phase import BLOCK_ROWS

# A net with fewer bytes of weights gets smaller tasks, so that all threads have the same work.
_FEW_BYTES = 147_456

_INPUT = -1  # the place of the net's input, until it is known


class Purpose(NamedTuple):
    """The use of a plan.

    Attributes
    ----------
    training : bool
        Whether the plan is for training. One for predictions has no dropout and no backward pass,
        and its batch normalisation takes the running statistics.
    sparse : bool
        Whether samples are sparse. Then the first layer is affine.
    one_row : bool
        Whether the plan computes one row at a time. Then a row is contiguous, not in panels.
    packed : bool
        Whether kernels read the packed parameters, not the user's vector.
    """

    training: bool = False
    sparse: bool = False
    one_row: bool = False
    packed: bool = True


class Kernels(NamedTuple):
    """The kernels of a layer's operation (`fastnn.kernels.operation`): addresses, or 0 for none.

    Attributes
    ----------
    forward, backward : int
        The kernels of the forward pass and of the backward pass.
    forward_in_place : int
        A kernel for predictions that reads the samples from the user's array, without a copy.
    product : int
        The product of matrices that the other kernels call (`fastnn.kernels.products`).
    sums : mapping of str to int
        For each block of parameters by name, its `sum_gradient`.
    gradients : mapping of str to int
        For each block without a `sum_gradient`, the number of the vector, among the `n_states` of
        the layer, that the backward pass overwrites with the gradient.
    whole_batch : bool
        Whether the operation needs the whole batch at once.
    is_product : bool
        Whether the forward kernel can apply a ReLU to its result, and the backward kernel the
        derivative of one to its gradient.
    """

    forward: int = 0
    backward: int = 0
    forward_in_place: int = 0
    product: int = 0
    sums: Mapping[str, int] = {}
    gradients: Mapping[str, int] = {}
    whole_batch: bool = False
    is_product: bool = False


class PlanLayer(Protocol):
    """The part of a `fastnn.layers.Layer` that a plan needs."""

    @property
    def activation(self) -> str | None: ...

    @property
    def parameter(self) -> float: ...

    @property
    def numbers(self) -> tuple[float, ...]: ...

    @property
    def n_states(self) -> int: ...

    @property
    def noise_seed(self) -> int | None: ...

    def blocks(self) -> Sequence[Block]: ...

    def kernels(self, dtype: np.dtype, purpose: Purpose) -> Kernels: ...

    def add_to(self, plan: "PlanBuilder") -> None: ...

    def leaves(self) -> Iterator["PlanLayer"]: ...


class Holding(NamedTuple):
    """The regularization of the weights of a block, as `fastnn.regularization.Regularization`.

    Attributes
    ----------
    l1, l2 : float
        Factors of the penalties.
    decay : float
        Decoupled weight decay, in units of the learning rate.
    max_norm : float
        Limit of the norm of each column.
    """

    l1: float = 0.0
    l2: float = 0.0
    decay: float = 0.0
    max_norm: float = np.inf


class Plan(NamedTuple):
    """The plan of a net for a given number of rows.

    Attributes
    ----------
    operations : ndarray of OPERATION of shape (L,)
        The operations, in the order of the forward pass.
    blocks : ndarray of BLOCK
        The blocks of parameters, operation by operation.
    tasks : ndarray of TASK of shape (T,)
        The tasks of the weight phase.
    cost_before : ndarray of int64 of shape (T + 1,)
        For each task, the sum of the costs of all tasks before it; the sum of all at the end.
    segments : ndarray of int64 of shape (S + 1,)
        Bounds of the segments that the operations are cut into: each segment but the first begins
        with an operation that needs the whole batch.
    layers : tuple of Layer
        For each operation, the layer that added it.
    n_acts, n_deltas : int
        Elements of the activations, and of their gradients.
    n_cells : int
        Number of cells of columns in all blocks. Sums over weights are kept by cell.
    flops : int
        Floating-point operations for one row: of the forward pass, and of the gradients of inputs
        and of weights.
    flops_forward : int
        Floating-point operations for one row of the forward pass alone.
    """

    operations: np.ndarray
    blocks: np.ndarray
    tasks: np.ndarray
    cost_before: np.ndarray
    segments: np.ndarray
    layers: tuple[PlanLayer, ...]
    n_acts: int
    n_deltas: int
    n_cells: int
    flops: int
    flops_forward: int

    @property
    def needs_whole_batch(self) -> bool:
        """Whether there is an operation that needs the whole batch."""
        return bool(self.operations["whole_batch"].any())

    @property
    def is_constrained(self) -> bool:
        """Whether there are weights whose norm has a limit."""
        return bool(self.blocks["constrain"].any())

    def set_noise(self, layer: PlanLayer, first_step: int) -> None:
        """Write the source of a layer's random numbers into its operations.

        Parameters
        ----------
        layer : Layer
            Its `noise_seed` is written.
        first_step : int
            The number of the first batch.
        """
        for k, owner in enumerate(self.layers):
            if owner is layer:
                self.operations["seed"][k] = layer.noise_seed
                self.operations["first_step"][k] = first_step


class _Operation:
    """An operation of a plan that is being built."""

    def __init__(
        self,
        layer: PlanLayer,
        kernels: Kernels,
        n_in: int,
        n_out: int,
        blocks: Sequence[PlacedBlock] = (),
    ) -> None:
        self.layer, self.kernels, self.blocks = layer, kernels, blocks
        self.n_in, self.n_out = n_in, n_out
        self.activation: str | None = None
        self.parameter = layer.parameter
        self.fork: _Operation | None = None  # of the end of a residual block, its beginning
        self.join: _Operation | None = None  # of the beginning of a residual block, its end
        self.is_activation = False
        self.has_parameters = any(not placed.block.is_buffer for placed in blocks)
        self.needs_dx = self.masks_dx = self.differentiates = False
        self.x_at = self.out_at = self.state_at = self.state_step = 0

    @property
    def activation_in_product(self) -> bool:
        """Whether the product applies the activation to a tile before it stores it."""
        return self.kernels.is_product and self.activation == "relu"


class PlanBuilder:
    """The operations of a net, to which each layer adds its own.

    Parameters
    ----------
    n_inputs : int
        Columns of the net's input.
    layout : ParameterLayout
        Places of the net's parameters.
    purpose : Purpose
        Use of the plan.

    Attributes
    ----------
    width : int
        Columns of the result of the last operation.
    dtype : numpy.dtype
        Type of the net.
    operations : list
        The operations so far.
    """

    def __init__(self, n_inputs: int, layout: ParameterLayout, purpose: Purpose) -> None:
        self.width, self.layout, self.purpose = n_inputs, layout, purpose
        self.dtype = layout.dtype
        self.operations: list[_Operation] = []

    def add(self, layer: PlanLayer, n_out: int | None = None) -> _Operation:
        """Add the operation of a layer; return it.

        Parameters
        ----------
        layer : Layer
            Its `kernels` are compiled.
        n_out : int, default=None
            Columns of the result. None is as many as those of the input.
        """
        first = not self.operations
        purpose = self.purpose if first else self.purpose._replace(sparse=False)
        kernels = layer.kernels(self.dtype, purpose)
        return self._append(layer, kernels, n_out, self.layout.blocks_of(layer))

    def _append(
        self,
        layer: PlanLayer,
        kernels: Kernels,
        n_out: int | None = None,
        blocks: Sequence[PlacedBlock] = (),
    ) -> _Operation:
        n_out = self.width if n_out is None else n_out
        self.operations.append(_Operation(layer, kernels, self.width, n_out, blocks))
        self.width = n_out
        return self.operations[-1]

    def activate(self, layer: PlanLayer) -> None:
        """Add the activation of a layer to the last operation, or an operation of its own.

        The latter if there is no operation yet, or the last one has an activation, is the identity,
        or is an end of a residual block.

        Parameters
        ----------
        layer : Layer
            Its `activation` is a name, or None for the identity. Its `kernels`, which copy, are
            compiled for an operation of its own.
        """
        last = self.operations[-1] if self.operations else None
        if last is None or last.is_activation or last.join is not None or last.activation:
            last = self._append(layer, layer.kernels(self.dtype, self.purpose))
            last.is_activation = True
        if layer.activation is not None:
            last.activation, last.parameter = layer.activation, layer.parameter

    def add_residual(
        self, layer: PlanLayer, block: Sequence[PlanLayer], fork: Kernels, join: Kernels
    ) -> None:
        """Add a residual block.

        Parameters
        ----------
        layer : Layer
            The residual layer.
        block : sequence of Layer
            The layers inside.
        fork, join : Kernels
            Kernels of the operations at the beginning and at the end of the block.
        """
        begin = self._append(layer, fork)
        begin.join = begin  # until the end is known: no activation is added to it
        for inner in block:
            inner.add_to(self)
        begin.join = self._append(layer, join)
        begin.join.fork = begin


def build(
    layers: Sequence[PlanLayer],
    n_inputs: int,
    layout: ParameterLayout,
    n_rows: int,
    purpose: Purpose,
    held: Callable[[Any], Holding] | None = None,
) -> Plan:
    """Build the plan of a net, and compile the kernels that it needs.

    Parameters
    ----------
    layers : sequence of Layer
        The layers of the net.
    n_inputs : int
        Columns of the net's input.
    layout : ParameterLayout
        Places of the net's parameters.
    n_rows : int
        Rows of the activations; unless `purpose` is for one row, padded to whole tiles.
    purpose : Purpose
        Use of the plan.
    held : callable, default=None
        A function of a layer that returns the `Holding` of its weights. None regularizes none.

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
    products = [  # multiply-adds for one row, and whether the gradient of the input is needed
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


def _decide_derivatives(operations: list[_Operation]) -> None:
    """Decide which gradients are needed, and which kernel applies the derivative of an activation.

    That of a ReLU is applied by the backward kernel of the product after it, all others by the
    `differentiate` of their own operation.
    """
    trained = False  # whether there are parameters in the operation or before it
    for before, op in zip([None, *operations], operations, strict=False):
        op.needs_dx = trained
        op.masks_dx = False
        if trained and op.kernels.is_product and before is not None and before.activation == "relu":
            op.masks_dx, before.differentiates = True, False
        trained = trained or op.has_parameters
        op.differentiates = trained and op.activation is not None


def _line(dtype: np.dtype) -> int:
    """Return the number of elements of a cache line."""
    return CACHE_LINE // dtype.itemsize


def _distance(n_rows: int, dtype: np.dtype) -> int:
    """Return the distance of the panels of a matrix with `n_rows` rows, in elements.

    It is an odd number of cache lines: places in the first-level cache repeat every 64 lines, so
    with a multiple of 64 lines the parts of one row would all have the same place. The panels of a
    single row are adjacent: it is contiguous.
    """
    panel = panel_columns(dtype.itemsize)
    if n_rows == 1:
        return panel
    return (-(-n_rows * panel // _line(dtype)) | 1) * _line(dtype)


def _matrix_size(n: int, n_rows: int, dtype: np.dtype) -> int:
    """Return the number of elements of a matrix (n_rows, n) in panels, in whole cache lines."""
    panel = panel_columns(dtype.itemsize)
    last = (n - 1) // panel
    size = last * _distance(n_rows, dtype) + n_rows * panel_width(n, last * panel, dtype.itemsize)
    return round_up(size, _line(dtype))


def _place(operations: list[_Operation], n_rows: int, dtype: np.dtype) -> int:
    """Give each result a place in the workspace; return the size of all, without the net's input.

    The input is at the end of the activations, since it has no gradient.
    """
    offset, before = 0, _INPUT
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
        op.x_at = offset if op.x_at == _INPUT else op.x_at
        op.out_at = offset if op.out_at == _INPUT else op.out_at
    return offset


def _adds_in_place(operations: list[_Operation], k: int) -> bool:
    """Return whether operation k is a sum that may overwrite its first term."""
    op, before = operations[k], operations[k - 1]
    return op.fork is not None and before.join is None and before.activation is None


def _operation_records(
    operations: list[_Operation], n_rows: int, layout: ParameterLayout, purpose: Purpose
) -> np.ndarray:
    """Return the records of all operations."""
    dtype = layout.dtype
    records = np.zeros(len(operations), OPERATION)
    for record, op in zip(records, operations, strict=True):
        kernels = op.kernels
        activation = None if op.activation is None else ACTIVATIONS.get(op.activation)
        values: dict[str, Any] = {
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
            "product": kernels.product,
            "activation_number": op.parameter,
            "numbers": _filled(op.layer.numbers, 0.0, MOST_NUMBERS, "numbers"),
            "transposed_at": op.blocks[0].transposed_at if op.blocks else -1,
        }
        places = [p.at if purpose.packed else p.user_at for p in op.blocks]
        values["blocks"] = _filled(places, NO_BIAS, MOST_BLOCKS, "blocks of parameters")
        other = op.fork or op.join
        if other is not None:
            values["other_at"] = other.out_at
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


def _filled(values: Sequence[Any], filling: Any, n: int, what: str) -> list[Any]:
    """Return n values, of which the last ones are the filling.

    Raises
    ------
    ValueError
        If there are more.
    """
    if len(values) > n:
        raise ValueError(f"a layer has at most {n} {what}, got {len(values)}")
    return [*values, *[filling] * (n - len(values))]


def _block_records(
    operations: list[_Operation],
    layout: ParameterLayout,
    purpose: Purpose,
    held: Callable[[Any], Holding],
) -> np.ndarray:
    """Return the records of all blocks of parameters, operation by operation."""
    rows = []
    for k, op in enumerate(operations):
        holding = held(op.layer)
        for placed in op.blocks:
            block, kernels = placed.block, op.kernels
            row: dict[str, Any] = {
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
            rows.append(tuple(row.get(name, 0) for name in BLOCK.names or ()))
    return np.array(rows, BLOCK)


def _weight_tasks(
    operations: list[_Operation], dtype: np.dtype
) -> tuple[np.ndarray, np.ndarray, int]:
    """Cut the weight phase into tasks, panel by panel; return them, their costs, and `n_cells`.

    At every width of SIMD registers, tasks have the same rows, and their cells of columns
    (CELL_BYTES) the same numbers: sums over weights are taken by cell. A bias comes before the
    matrix of its layer, so that both read the gradients of a panel while it is in the cache.
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
    tasks: list[tuple[int, ...]] = []
    costs: list[int] = []
    first = n_cells = 0
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
