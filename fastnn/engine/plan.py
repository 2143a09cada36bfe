"""The plan: a net's layers as a table that kernels can read, and the memory that they need.

All parameters of a net lie in one flat vector, layer by layer: w (I, O) row by row, then b (O,).
Users see views of it; running statistics follow behind. Training works on a copy in *packed* form:
weight matrices in panels, padded with zeros to whole register tiles (`fastnn.kernels.affine` says
why), so that kernels have no edges to care for. Kernels compile once for each dtype, not for each
architecture.
"""

from typing import NamedTuple

import numpy as np

from fastnn.kernels import codes
from fastnn.kernels.activations import activation_member, derivative_member
from fastnn.kernels.affine import NO_BIAS
from fastnn.kernels.memory import CACHE_LINE
from fastnn.kernels.step import BLOCK_ROWS
from fastnn.kernels.tile import CELL_BYTES, TILE_ROWS, TILE_VECTORS, VECTOR_BYTES

# A net with fewer bytes of weights gets smaller blocks, so that threads can share them out evenly.
_FEW_BYTES = 147_456


class Plan(NamedTuple):
    """A net, laid out in memory for blocks of a given number of rows.

    Attributes
    ----------
    operations : (L, N_COLUMNS) int64
        What kernels do, in order; `fastnn.kernels.codes` names the columns.
    numbers : (L, N_NUMBERS) float64
        Numbers that belong to the operations; the columns are named there too.
    layers : tuple of Layer
        What each operation came from.
    n_params, n_transposed : int
        Elements of the parameters with running statistics (packed or not), and of the transposed
        weights.
    n_acts, n_deltas : int
        Elements of the activations, and of their gradients.
    tasks : (T, 5) int64
        Pieces of the weight phase: operation, first row, rows and first column of a block, and the
        first of its cells of columns.
    n_cells : int
        Cells of columns in all blocks, for which sums over weights are kept.
    cost_before : (T + 1,) int64
        Work in the tasks before each one.
    flops : int
        Floating-point operations of one row: forward, backward to input, backward to weight.
    flops_forward : int
        Those of the forward pass alone.
    """

    operations: np.ndarray
    numbers: np.ndarray
    layers: tuple
    n_params: int
    n_transposed: int
    n_acts: int
    n_deltas: int
    tasks: np.ndarray
    n_cells: int
    cost_before: np.ndarray
    flops: int
    flops_forward: int


def round_up(n, multiple):
    """Return the smallest multiple of `multiple` that is not below `n`."""
    return -(-n // multiple) * multiple


def lanes(dtype):
    """Return how many elements of `dtype` one SIMD vector holds."""
    return VECTOR_BYTES // np.dtype(dtype).itemsize


def panel_columns(dtype):
    """Return how many columns a full panel has."""
    return TILE_VECTORS * lanes(dtype)


def panel_width(n, j, dtype):
    """Return how many columns the panel that begins at column j of n has, with padding."""
    unit = max(lanes(dtype), TILE_ROWS, CELL_BYTES // np.dtype(dtype).itemsize)
    return min(round_up(n - j, unit), panel_columns(dtype))


def padded_width(n, dtype):
    """Return how many columns all panels of n columns have, with padding."""
    last = (n - 1) // panel_columns(dtype) * panel_columns(dtype)
    return last + panel_width(n, last, dtype)


def _panel_distance(n_rows, dtype):
    """Distance of the panels of a matrix with `n_rows` rows, in elements.

    An odd number of cache lines: places in the first-level cache repeat every 64 lines, so those
    of a row in all panels would coincide. A single row lies as in an ordinary array.
    """
    if n_rows == 1:
        return panel_columns(dtype)
    lines = -(-n_rows * panel_columns(dtype) // _line(dtype))
    return (lines | 1) * _line(dtype)


def _line(dtype):
    """Return how many elements a cache line holds."""
    return CACHE_LINE // np.dtype(dtype).itemsize


def build(layers, n_inputs, dtype, n_rows, packed, dense_input=True, training=True):
    """Lay out a net in memory.

    Parameters
    ----------
    layers : sequence of Layer
    n_inputs : int
        Columns of the net's input.
    dtype : numpy.dtype
    n_rows : int
        Rows of the activations, padded to whole tiles where it is not one.
    packed : bool
        Whether parameters are in packed form (training), or as users see them (prediction).
    dense_input : bool
        Whether the workspace has room for the net's input.
    training : bool
        Whether it is for training: otherwise dropout is left out, and batch normalisation takes
        its running statistics.

    Returns
    -------
    Plan
    """
    n_rows = round_up(n_rows, TILE_ROWS) if n_rows > 1 else 1
    operations, numbers, owners = _operations(layers, n_inputs, training)
    _mark_derivatives(operations, owners)
    size = _place_blocks(operations, owners, n_rows, dtype)
    n_params, n_transposed = _place_parameters(operations, owners, dtype, packed)
    tasks, costs, n_cells = _weight_tasks(operations, owners, dtype)
    affine = operations[operations[:, codes.KIND] == codes.AFFINE]
    products = affine[:, codes.N_IN] * affine[:, codes.N_OUT]
    n_input = _block_size(n_inputs, n_rows, dtype) if dense_input else 0
    return Plan(
        operations=operations,
        numbers=numbers,
        layers=tuple(owners),
        n_params=n_params,
        n_transposed=n_transposed,
        n_acts=size + n_input,
        n_deltas=size,
        tasks=tasks,
        n_cells=n_cells,
        cost_before=np.concatenate([[0], np.cumsum(costs)]).astype(np.int64),
        flops=int(2 * (2 * products.sum() + products[affine[:, codes.NEEDS_DX] != 0].sum())),
        flops_forward=int(2 * products.sum()),
    )


def link(plan, dtype, training=True):
    """Write the addresses of the kernels that operations bring along into a plan.

    Compiles them, the first time.
    """
    for operation, layer in zip(plan.operations, plan.layers, strict=True):
        if operation[codes.KIND] in (codes.EXTERN, codes.BATCH):
            for column, address in layer.members(dtype, training).items():
                operation[column] = address
        function = int(operation[codes.FUNCTION])
        in_product = function == codes.RELU and operation[codes.KIND] == codes.AFFINE
        if function != codes.IDENTITY and not in_product:
            operation[codes.ACTIVATE] = activation_member(function, dtype)
        if training and operation[codes.OWN_DERIVATIVE]:
            operation[codes.DIFFERENTIATE] = derivative_member(function, dtype)


class _Operations:
    """Collects operations, one for each layer or for a layer with the activation after it."""

    def __init__(self, n_inputs, training):
        self.width, self.training = n_inputs, training
        self.rows, self.numbers, self.owners = [], [], []

    def add(self, kind, layer, n_out=None):
        """Add an operation; return its index."""
        n_out = self.width if n_out is None else n_out
        row = np.zeros(codes.N_COLUMNS, np.int64)
        row[[codes.KIND, codes.N_IN, codes.N_OUT]] = kind, self.width, n_out
        numbers = np.zeros(codes.N_NUMBERS)
        numbers[codes.MAX_NORM] = np.inf
        numbers[codes.OWN : codes.OWN + len(layer.numbers)] = layer.numbers
        self.rows.append(row)
        self.numbers.append(numbers)
        self.owners.append(layer)
        self.width = n_out
        return len(self.rows) - 1

    def add_layers(self, layers):
        """Add the operations of some layers in a row."""
        for layer in layers:
            if layer.kind == codes.AFFINE:
                k = self.add(codes.AFFINE, layer, layer.n_outputs)
                self.rows[k][codes.HAS_BIAS] = layer.bias
            elif layer.kind == codes.ACTIVATION:
                self._add_activation(layer)
            elif layer.kind == codes.FORK:
                fork = self.add(codes.FORK, layer)
                self.add_layers(layer.layers)
                end = self.add(codes.ADD, layer)
                self.rows[fork][codes.OTHER_AT], self.rows[end][codes.OTHER_AT] = end, fork
            elif self.training or not layer.only_in_training:
                self.add(layer.kind if self.training else codes.EXTERN, layer)

    def _add_activation(self, layer):
        """Let the operation before apply an activation, if it has none yet."""
        if (
            self.rows
            and self.rows[-1][codes.KIND] not in (codes.ACTIVATION, codes.FORK)
            and (self.rows[-1][codes.FUNCTION] == codes.IDENTITY)
        ):
            k = len(self.rows) - 1
        else:
            k = self.add(codes.ACTIVATION, layer)
        self.rows[k][codes.FUNCTION], self.numbers[k][codes.SLOPE] = layer.activation, layer.slope


def _operations(layers, n_inputs, training):
    """Return the operations, their numbers, and the layers that they came from."""
    operations = _Operations(n_inputs, training)
    operations.add_layers(layers)
    return np.array(operations.rows), np.array(operations.numbers), operations.owners


def _block_size(n, n_rows, dtype):
    """Elements of a matrix (n_rows, n) in panels, up to the next cache line."""
    panel = panel_columns(dtype)
    last = (n - 1) // panel
    size = last * _panel_distance(n_rows, dtype) + n_rows * panel_width(n, last * panel, dtype)
    return round_up(size, _line(dtype))


_INPUT = -1  # where the net's input lies: behind all other blocks, since it has no gradient


def _place_blocks(operations, owners, n_rows, dtype):
    """Give each result its panels in the workspace; return its size, without the net's input."""
    offset = 0
    operations[:, [codes.X_PANEL, codes.OUT_PANEL]] = _panel_distance(n_rows, dtype)
    before = _INPUT
    for k, operation in enumerate(operations):
        n_out = int(operation[codes.N_OUT])
        operation[codes.X_AT] = before
        if operation[codes.KIND] == codes.FORK or _adds_in_place(operations, k):
            operation[codes.OUT_AT] = before
        else:
            operation[codes.OUT_AT] = offset
            offset += _block_size(n_out, n_rows, dtype)
        if operation[codes.KIND] != codes.AFFINE and owners[k].n_params:
            step = round_up(max(padded_width(n_out, dtype), n_rows), _line(dtype))
            operation[codes.STATE_AT], operation[codes.STATE_STEP] = offset, step
            offset += 3 * step
        before = operation[codes.OUT_AT]
    places = operations[:, [codes.X_AT, codes.OUT_AT]]
    operations[:, [codes.X_AT, codes.OUT_AT]] = np.where(places == _INPUT, offset, places)
    for operation in operations:
        if operation[codes.KIND] in (codes.FORK, codes.ADD):
            other = operations[operation[codes.OTHER_AT]]
            operation[codes.OTHER_AT] = other[codes.OUT_AT]
    return offset


def _adds_in_place(operations, k):
    """Whether operation k is a sum that may overwrite its first term, which nobody else reads."""
    return (
        operations[k][codes.KIND] == codes.ADD
        and operations[k - 1][codes.KIND] != codes.FORK
        and operations[k - 1][codes.FUNCTION] == codes.IDENTITY
    )


def _place_parameters(operations, owners, dtype, packed):
    """Give weights, biases and transposed weights their places; return both sizes."""
    panel = panel_columns(dtype)
    offset = transposed = 0
    for operation, layer in zip(operations, owners, strict=True):
        n_in, n_out = int(operation[codes.N_IN]), int(operation[codes.N_OUT])
        if operation[codes.KIND] == codes.AFFINE:
            operation[codes.W_AT] = offset
            if packed:
                rows = round_up(n_in, TILE_ROWS)
                operation[codes.W_PANEL] = panel * rows
                operation[codes.B_AT] = offset + rows * padded_width(n_out, dtype)
                offset = int(operation[codes.B_AT]) + padded_width(n_out, dtype)
                if operation[codes.NEEDS_DX]:
                    operation[codes.WT_AT] = transposed
                    transposed += n_out * padded_width(n_in, dtype)
            else:
                offset += n_in * n_out
                operation[codes.B_AT] = offset
                offset += n_out if operation[codes.HAS_BIAS] else 0
        elif _has_vectors(operation, layer):
            operation[codes.N_VECTORS] = 4 if layer.n_buffers else 2
            for column in codes.VECTORS[:2]:
                operation[column] = offset
                offset += padded_width(n_out, dtype) if packed else n_out
    for k in np.flatnonzero(operations[:, codes.N_VECTORS] == 4):
        operation = operations[k]
        n_out = int(operation[codes.N_OUT])
        for column in codes.VECTORS[2:]:
            operation[column] = offset
            offset += padded_width(n_out, dtype) if packed else n_out
    affine = operations[:, codes.KIND] == codes.AFFINE
    operations[affine & (operations[:, codes.HAS_BIAS] == 0), codes.B_AT] = NO_BIAS
    return offset, transposed


def _has_vectors(operation, layer):
    """Whether an operation has a scale and a shift for each column."""
    return operation[codes.KIND] in (codes.EXTERN, codes.BATCH) and layer.n_params > 0


def padded_size(n_params, dtype):
    """Length of a zeroed vector that holds parameters as users see them.

    Kernels read whole vectors, which may reach past the last one.
    """
    return n_params + panel_columns(dtype)


def _mark_derivatives(operations, owners):
    """Decide who multiplies by the derivative of each activation."""
    own = [
        operation[codes.KIND] == codes.AFFINE or _has_vectors(operation, layer)
        for operation, layer in zip(operations, owners, strict=True)
    ]
    has_parameters = np.cumsum(own) > 0
    for k, operation in enumerate(operations):
        before = operations[k - 1] if k else None
        operation[codes.NEEDS_DX] = k > 0 and has_parameters[k - 1]
        operation[codes.MASKS_DX] = (
            operation[codes.NEEDS_DX]
            and operation[codes.KIND] == codes.AFFINE
            and before[codes.FUNCTION] == codes.RELU
        )
        if operation[codes.MASKS_DX]:
            before[codes.OWN_DERIVATIVE] = False
        operation[codes.OWN_DERIVATIVE] = (
            has_parameters[k] and operation[codes.FUNCTION] != codes.IDENTITY
        )


def _weight_tasks(operations, owners, dtype):
    """Cut the weight phase into blocks of the weight matrices, panel by panel; and their costs.

    The blocks have the same rows at every width of vectors, and their cells of columns (CELL_BYTES)
    have the same numbers: sums over weights are taken by cell.
    """
    cell, size = CELL_BYTES // dtype.itemsize, dtype.itemsize
    affine = operations[operations[:, codes.KIND] == codes.AFFINE]
    work = sum(int(row[codes.N_IN]) * round_up(int(row[codes.N_OUT]), cell) for row in affine)
    block_rows = BLOCK_ROWS // 3 if work * size < _FEW_BYTES else BLOCK_ROWS
    tasks, costs, n_cells = [], [], 0
    for k, (operation, layer) in enumerate(zip(operations, owners, strict=True)):
        n_in, n_out = int(operation[codes.N_IN]), int(operation[codes.N_OUT])
        is_affine = operation[codes.KIND] == codes.AFFINE
        if not is_affine and not _has_vectors(operation, layer):
            continue
        starts = range(0, n_in, block_rows) if is_affine else [0]
        row_cells = -(-n_out // cell)
        for j in range(0, n_out, panel_columns(dtype)):
            width = panel_width(n_out, j, dtype)
            for i in starts:
                rows = min(block_rows, round_up(n_in - i, TILE_ROWS)) if is_affine else 0
                # The cells of the vector beside the matrix come first.
                tasks.append(
                    (k, i, rows, j, n_cells + row_cells * (1 + i // block_rows) + j // cell)
                )
                costs.append((rows + (i == 0)) * width if is_affine else 2 * width)
        n_cells += row_cells * (len(starts) + 1)
    return np.array(tasks, np.int64).reshape(-1, 5), np.array(costs, np.int64), n_cells


def affine_parts(plan, dtype):
    """Yield for each affine operation (weight panels, bias, transposed panels) as slices.

    For a packed plan. Each list of panels holds (slice, rows, width, first column, columns).
    """
    for operation in plan.operations[plan.operations[:, codes.KIND] == codes.AFFINE]:
        n_in, n_out = int(operation[codes.N_IN]), int(operation[codes.N_OUT])
        rows = round_up(n_in, TILE_ROWS)
        yield (
            list(_panels(int(operation[codes.W_AT]), rows, n_out, dtype)),
            slice(int(operation[codes.B_AT]), int(operation[codes.B_AT]) + n_out),
            list(_panels(int(operation[codes.WT_AT]), n_out, n_in, dtype))
            if operation[codes.NEEDS_DX]
            else [],
        )


def _panels(offset, rows, n, dtype):
    panel = panel_columns(dtype)
    for j in range(0, n, panel):
        width = panel_width(n, j, dtype)
        yield slice(offset, offset + rows * width), rows, width, j, min(panel, n - j)
        offset += rows * width


def _vectors(plan, dtype):
    """Yield of each operation with parameters what `affine_parts` does, or slices of vectors."""
    affine = affine_parts(plan, dtype)
    for operation, layer in zip(plan.operations, plan.layers, strict=True):
        if operation[codes.KIND] == codes.AFFINE:
            yield next(affine), None
        elif _has_vectors(operation, layer):
            n = int(operation[codes.N_OUT])
            yield None, [slice(int(operation[c]), int(operation[c]) + n) for c in codes.VECTORS]


def pack(plan, tensors, params, transposed):
    """Overwrite packed `params` (P,) and, unless None, `transposed` (T,).

    `tensors` has a tuple for each layer with parameters: (w, b), where b may be None, or vectors
    (scale, shift) or (scale, shift, running mean, running variance).
    """
    for arrays, (affine, vectors) in zip(tensors, _vectors(plan, params.dtype), strict=True):
        if affine is None:
            for array, where in zip(arrays, vectors, strict=False):
                params[where] = array
            continue
        (w, b), (panels, bias, transposed_panels) = arrays, affine
        for where, rows, width, j, columns in panels:
            params[where].reshape(rows, width)[: w.shape[0], :columns] = w[:, j : j + columns]
        if b is not None:
            params[bias] = b
        for where, rows, width, i, columns in transposed_panels if transposed is not None else []:
            transposed[where].reshape(rows, width)[:, :columns] = w[i : i + columns].T


def unpack(plan, params, tensors):
    """Overwrite `tensors`, tuples as for `pack`, with packed `params`."""
    for arrays, (affine, vectors) in zip(tensors, _vectors(plan, params.dtype), strict=True):
        if affine is None:
            for array, where in zip(arrays, vectors, strict=False):
                array[:] = params[where]
            continue
        (w, b), (panels, bias, _) = arrays, affine
        for where, rows, width, j, columns in panels:
            w[:, j : j + columns] = params[where].reshape(rows, width)[: w.shape[0], :columns]
        if b is not None:
            b[:] = params[bias]
