"""The plan: a net's layers as a table that kernels can read, and the memory that they need.

All parameters of a net lie in one flat vector, layer by layer: w (I, O) row by row, then b (O,).
Users see views of it. Training works on a copy in *packed* form: weight matrices in panels, padded
with zeros to whole register tiles (`fastnn.kernels.affine` says why), so that kernels have no
edges to care for. Kernels compile once for each dtype, not for each architecture.
"""

from typing import NamedTuple

import numpy as np

from fastnn.kernels import codes
from fastnn.kernels.affine import NO_BIAS
from fastnn.kernels.memory import CACHE_LINE
from fastnn.kernels.step import BLOCK_ROWS
from fastnn.kernels.tile import TILE_ROWS, TILE_VECTORS, VECTOR_BYTES

# A net with fewer blocks of weights gets smaller ones, so that threads can share them out evenly.
_MANY_BLOCKS = 64


class Plan(NamedTuple):
    """A net, laid out in memory for blocks of a given number of rows.

    Attributes
    ----------
    operations : (L, N_COLUMNS) int64
        What kernels do, in order; `fastnn.kernels.codes` names the columns.
    slopes : (L,) float64
        Slopes of the activations for negative input (leaky ReLU).
    n_params, n_transposed : int
        Elements of the parameters (packed or not), and of the transposed weights.
    n_acts, n_deltas : int
        Elements of the activations, and of their gradients.
    tasks : (T, 4) int64
        Pieces of the weight phase: operation, first row, rows and first column of a block.
    cost_before : (T + 1,) int64
        Work in the tasks before each one.
    flops : int
        Floating-point operations of one row: forward, backward to input, backward to weight.
    flops_forward : int
        Those of the forward pass alone.
    """

    operations: np.ndarray
    slopes: np.ndarray
    n_params: int
    n_transposed: int
    n_acts: int
    n_deltas: int
    tasks: np.ndarray
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
    return min(round_up(n - j, max(lanes(dtype), TILE_ROWS)), panel_columns(dtype))


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
    line = CACHE_LINE // np.dtype(dtype).itemsize
    lines = -(-n_rows * panel_columns(dtype) // line)
    return (lines | 1) * line


def build(layers, n_inputs, dtype, n_rows, packed, dense_input=True):
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

    Returns
    -------
    Plan
    """
    n_rows = round_up(n_rows, TILE_ROWS) if n_rows > 1 else 1
    operations, slopes = _operations(layers, n_inputs)
    _place_blocks(operations, n_rows, dtype)
    _mark_derivatives(operations)
    n_params, n_transposed = _place_parameters(operations, dtype, packed)
    tasks, costs = _weight_tasks(operations, dtype)
    affine = operations[operations[:, codes.KIND] == codes.AFFINE]
    products = affine[:, codes.N_IN] * affine[:, codes.N_OUT]
    first = operations[0]
    n_deltas = int(first[codes.X_AT])
    n_input = _block_size(int(first[codes.N_IN]), n_rows, dtype) if dense_input else 0
    return Plan(
        operations=operations,
        slopes=slopes,
        n_params=n_params,
        n_transposed=n_transposed,
        n_acts=n_deltas + n_input,
        n_deltas=n_deltas,
        tasks=tasks,
        cost_before=np.concatenate([[0], np.cumsum(costs)]).astype(np.int64),
        flops=int(2 * (2 * products.sum() + products[affine[:, codes.NEEDS_DX] != 0].sum())),
        flops_forward=int(2 * products.sum()),
    )


def _operations(layers, n_inputs):
    """One operation for each affine layer with the activation that follows it; their slopes."""
    rows = []
    slopes = []
    width = n_inputs
    for layer in layers:
        row = dict.fromkeys(range(codes.N_COLUMNS), 0)
        if layer.kind == codes.AFFINE:
            row[codes.KIND], row[codes.N_IN] = codes.AFFINE, width
            row[codes.N_OUT] = width = layer.n_outputs
            row[codes.HAS_BIAS] = layer.bias
        elif (
            rows
            and rows[-1][codes.KIND] == codes.AFFINE
            and (rows[-1][codes.FUNCTION] == codes.IDENTITY)
        ):
            rows[-1][codes.FUNCTION], slopes[-1] = layer.activation, layer.slope
            continue
        else:
            row[codes.KIND], row[codes.FUNCTION] = codes.ACTIVATION, layer.activation
            row[codes.N_IN] = row[codes.N_OUT] = width
        rows.append(row)
        slopes.append(layer.slope)
    return np.array([list(row.values()) for row in rows], np.int64), np.array(slopes)


def _block_size(n, n_rows, dtype):
    """Elements of a matrix (n_rows, n) in panels, up to the next cache line."""
    panel = panel_columns(dtype)
    last = (n - 1) // panel
    size = last * _panel_distance(n_rows, dtype) + n_rows * panel_width(n, last * panel, dtype)
    return round_up(size, CACHE_LINE // np.dtype(dtype).itemsize)


def _place_blocks(operations, n_rows, dtype):
    """Give each result its panels in the workspace; the net's input comes last (no gradient)."""
    offset = 0
    operations[:, [codes.X_PANEL, codes.OUT_PANEL]] = _panel_distance(n_rows, dtype)
    for operation in operations:
        operation[codes.OUT_AT] = offset
        offset += _block_size(int(operation[codes.N_OUT]), n_rows, dtype)
    operations[1:, codes.X_AT] = operations[:-1, codes.OUT_AT]
    operations[0, codes.X_AT] = offset


def _place_parameters(operations, dtype, packed):
    """Give weights, biases and transposed weights their places; return both sizes."""
    panel = panel_columns(dtype)
    offset = transposed = 0
    for k in np.flatnonzero(operations[:, codes.KIND] == codes.AFFINE):
        operation = operations[k]
        n_in, n_out = int(operation[codes.N_IN]), int(operation[codes.N_OUT])
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
    operations[operations[:, codes.HAS_BIAS] == 0, codes.B_AT] = NO_BIAS
    return offset, transposed


def padded_size(n_params, dtype):
    """Length of a zeroed vector that holds parameters as users see them.

    Kernels read whole vectors, which may reach past the last one.
    """
    return n_params + panel_columns(dtype)


def _mark_derivatives(operations):
    """Decide who multiplies by the derivative of each activation."""
    has_parameters = np.cumsum(operations[:, codes.KIND] == codes.AFFINE) > 0
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


def _weight_tasks(operations, dtype):
    """Cut the weight phase into blocks of the weight matrices, panel by panel; and their costs."""
    affine = operations[operations[:, codes.KIND] == codes.AFFINE]
    work = sum(int(row[codes.N_IN]) * padded_width(int(row[codes.N_OUT]), dtype) for row in affine)
    few = work < _MANY_BLOCKS * BLOCK_ROWS * panel_columns(dtype)
    block_rows = max(BLOCK_ROWS // 3, TILE_ROWS) if few else BLOCK_ROWS
    tasks, costs = [], []
    for k in np.flatnonzero(operations[:, codes.KIND] == codes.AFFINE):
        n_in, n_out = int(operations[k][codes.N_IN]), int(operations[k][codes.N_OUT])
        for j in range(0, n_out, panel_columns(dtype)):
            for i in range(0, n_in, block_rows):
                rows = min(block_rows, round_up(n_in - i, TILE_ROWS))
                tasks.append((k, i, rows, j))
                costs.append((rows + (i == 0)) * panel_width(n_out, j, dtype))
    return np.array(tasks, np.int64).reshape(-1, 4), np.array(costs, np.int64)


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


def pack(plan, weights, params, transposed):
    """Overwrite packed `params` (P,) and, unless None, `transposed` (T,) with pairs (w, b)."""
    parts = affine_parts(plan, params.dtype)
    for (w, b), (panels, bias, transposed_panels) in zip(weights, parts, strict=True):
        for where, rows, width, j, columns in panels:
            params[where].reshape(rows, width)[: w.shape[0], :columns] = w[:, j : j + columns]
        if b is not None:
            params[bias] = b
        for where, rows, width, i, columns in transposed_panels if transposed is not None else []:
            transposed[where].reshape(rows, width)[:, :columns] = w[i : i + columns].T


def unpack(plan, params, weights):
    """Overwrite `weights`, pairs (w, b), with packed `params`."""
    parts = affine_parts(plan, params.dtype)
    for (w, b), (panels, bias, _) in zip(weights, parts, strict=True):
        for where, rows, width, j, columns in panels:
            w[:, j : j + columns] = params[where].reshape(rows, width)[: w.shape[0], :columns]
        if b is not None:
            b[:] = params[bias]
