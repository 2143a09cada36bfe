"""The plan: a net's layers as a table that kernels can read, and the memory that they need.

All parameters of a net lie in one flat vector, layer by layer: w (I, O) row by row, then b (O,).
Users see views of it. Training works on a copy in *packed* form: weight matrices in panels, padded
with zeros to whole register tiles (`fastnn.kernels.affine` says why), so that kernels have no
edges to care for. Kernels compile once for each dtype, not for each architecture.
"""

from typing import NamedTuple

import numpy as np

from fastnn.kernels import codes
from fastnn.kernels.tile import TILE_ROWS, TILE_VECTORS, VECTOR_BYTES

CACHE_LINE = 64
PAGE_SET = 4096
"""Addresses this far apart compete for the same few places in the first-level cache."""


class Plan(NamedTuple):
    """A net, laid out in memory for blocks of a given number of rows.

    Attributes
    ----------
    operations : (L,) OPERATION
        What kernels do, in order.
    n_params, n_transposed : int
        Elements of the parameters (packed or not), and of the transposed weights.
    n_acts, n_deltas : int
        Elements of the activations, and of their gradients.
    tasks : (T, 2) int64
        Pieces of the weight phase: operation and row block, or -1 for the bias.
    cost_before : (T + 1,) int64
        Work in the tasks before each one.
    flops : int
        Floating-point operations of one row: forward, backward to input, backward to weight.
    flops_forward : int
        Those of the forward pass alone.
    """

    operations: np.ndarray
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


def aligned_zeros(n, dtype):
    """Return n zeros that begin at a cache line."""
    itemsize = np.dtype(dtype).itemsize
    memory = np.zeros(n * itemsize + CACHE_LINE, np.uint8)
    start = -memory.ctypes.data % CACHE_LINE
    return memory[start : start + n * itemsize].view(dtype)


def _row_distance(n, dtype):
    """Distance of the rows of a block of activations with `n` columns.

    Whole vectors. Where many rows would fall on the same places of the first-level cache, which
    happens when the distance is an even number of cache lines, one line is added.
    """
    itemsize = np.dtype(dtype).itemsize
    line = CACHE_LINE // itemsize
    distance = round_up(n, max(lanes(dtype), TILE_ROWS))
    if distance * itemsize >= PAGE_SET // 8:
        distance = round_up(distance, line)
        if distance // line % 2 == 0:
            distance += line
    return distance


def build(layers, n_inputs, dtype, n_rows, packed):
    """Lay out a net in memory.

    Parameters
    ----------
    layers : sequence of Layer
    n_inputs : int
        Columns of the net's input.
    dtype : numpy.dtype
    n_rows : int
        Rows of the block of activations.
    packed : bool
        Whether parameters are in packed form (training), or as users see them (prediction).

    Returns
    -------
    Plan
    """
    n_rows = round_up(n_rows, TILE_ROWS)
    operations = _operations(layers, n_inputs)
    _place_blocks(operations, n_rows, dtype)
    _mark_derivatives(operations)
    n_params, n_transposed = _place_parameters(operations, dtype, packed)
    tasks, costs = _weight_tasks(operations, dtype, layers)
    affine = operations[operations["kind"] == codes.AFFINE]
    products = affine["n_in"] * affine["n_out"]
    first = operations[0]
    n_deltas = int(first["x"])
    return Plan(
        operations=operations,
        n_params=n_params,
        n_transposed=n_transposed,
        n_acts=n_deltas + n_rows * int(first["ldx"]),
        n_deltas=n_deltas,
        tasks=tasks,
        cost_before=np.concatenate([[0], np.cumsum(costs)]).astype(np.int64),
        flops=int(2 * (2 * products.sum() + products[affine["needs_dx"] != 0].sum())),
        flops_forward=int(2 * products.sum()),
    )


def _operations(layers, n_inputs):
    """One operation for each affine layer with the activation that follows it."""
    rows = []
    width = n_inputs
    for layer in layers:
        if layer.kind == codes.AFFINE:
            rows.append({"kind": codes.AFFINE, "n_in": width, "n_out": layer.n_outputs})
            width = layer.n_outputs
            continue
        follows_affine = rows and rows[-1]["kind"] == codes.AFFINE
        if not follows_affine or rows[-1].get("activation", codes.IDENTITY) != codes.IDENTITY:
            rows.append({"kind": codes.ACTIVATION, "n_in": width, "n_out": width})
        rows[-1].update(activation=layer.activation, slope=layer.slope)
    operations = np.zeros(len(rows), codes.OPERATION)
    for operation, row in zip(operations, rows, strict=True):
        for name, value in row.items():
            operation[name] = value
    return operations


def _place_blocks(operations, n_rows, dtype):
    """Give each result a block in the workspace; the net's input comes last (no gradient)."""
    offset = 0
    for operation in operations:
        operation["ldo"] = _row_distance(operation["n_out"], dtype)
        operation["out"] = offset
        offset += n_rows * operation["ldo"]
    operations["x"][1:], operations["ldx"][1:] = operations["out"][:-1], operations["ldo"][:-1]
    operations["x"][0] = offset
    operations["ldx"][0] = _row_distance(operations["n_in"][0], dtype)


def _place_parameters(operations, dtype, packed):
    """Give weights, biases and transposed weights their places; return both sizes."""
    vector = lanes(dtype)
    panel = TILE_VECTORS * vector
    offset = transposed = 0
    for k in np.flatnonzero(operations["kind"] == codes.AFFINE):
        operation = operations[k]
        n_in, n_out = int(operation["n_in"]), int(operation["n_out"])
        operation["w"] = offset
        if packed:
            rows = round_up(n_in, TILE_ROWS)
            operation["panel_step"], operation["ldw"] = panel * rows, 0
            operation["b"] = offset + rows * round_up(n_out, vector)
            offset = int(operation["b"]) + round_up(n_out, vector)
            if operation["needs_dx"]:
                operation["wt"] = transposed
                transposed += n_out * round_up(n_in, vector)
        else:
            operation["panel_step"], operation["ldw"] = panel, n_out
            operation["b"] = offset + n_in * n_out
            offset = int(operation["b"]) + n_out
    return offset, transposed


def _mark_derivatives(operations):
    """Decide who multiplies by the derivative of each activation."""
    has_parameters = np.cumsum(operations["kind"] == codes.AFFINE) > 0
    for k, operation in enumerate(operations):
        before = operations[k - 1] if k else None
        operation["needs_dx"] = k > 0 and has_parameters[k - 1]
        operation["masks_dx"] = (
            operation["needs_dx"]
            and operation["kind"] == codes.AFFINE
            and before["activation"] == codes.RELU
        )
        if k:
            before["own_derivative"] = before["own_derivative"] and not operation["masks_dx"]
        operation["own_derivative"] = (
            has_parameters[k] and operation["activation"] != codes.IDENTITY
        )


def _weight_tasks(operations, dtype, layers):
    """Cut the weight phase into row blocks of the weight matrices, and biases."""
    biased = iter([layer.bias for layer in layers if layer.kind == codes.AFFINE])
    tasks, costs = [], []
    for k in np.flatnonzero(operations["kind"] == codes.AFFINE):
        columns = round_up(int(operations[k]["n_out"]), lanes(dtype))
        if next(biased):
            tasks.append((k, -1))
            costs.append(columns * 2)
        for i in range(0, int(operations[k]["n_in"]), TILE_ROWS):
            tasks.append((k, i))
            costs.append(columns * TILE_ROWS)
    return np.array(tasks, np.int64).reshape(-1, 2), np.array(costs, np.int64)


def affine_parts(plan, dtype):
    """Yield for each affine operation (weight panels, bias, transposed panels) as slices.

    For a packed plan. Each list of panels holds (slice, rows, width, first column, columns).
    """
    vector = lanes(dtype)
    panel = TILE_VECTORS * vector
    for operation in plan.operations[plan.operations["kind"] == codes.AFFINE]:
        n_in, n_out = int(operation["n_in"]), int(operation["n_out"])
        rows = round_up(n_in, TILE_ROWS)
        yield (
            list(_panels(int(operation["w"]), rows, n_out, panel, vector)),
            slice(int(operation["b"]), int(operation["b"]) + n_out),
            list(_panels(int(operation["wt"]), n_out, n_in, panel, vector))
            if operation["needs_dx"]
            else [],
        )


def _panels(offset, rows, columns, panel, vector):
    for j in range(0, columns, panel):
        width = min(round_up(columns - j, vector), panel)
        yield slice(offset, offset + rows * width), rows, width, j, min(panel, columns - j)
        offset += rows * width


def pack(plan, weights, params, transposed):
    """Overwrite packed `params` (P,) and `transposed` (T,) with `weights`, pairs (w, b)."""
    parts = affine_parts(plan, params.dtype)
    for (w, b), (panels, bias, transposed_panels) in zip(weights, parts, strict=True):
        for where, rows, width, j, columns in panels:
            params[where].reshape(rows, width)[: w.shape[0], :columns] = w[:, j : j + columns]
        if b is not None:
            params[bias] = b
        for where, rows, width, i, columns in transposed_panels:
            transposed[where].reshape(rows, width)[:, :columns] = w[i : i + columns].T


def unpack(plan, params, weights):
    """Overwrite `weights`, pairs (w, b), with packed `params`."""
    parts = affine_parts(plan, params.dtype)
    for (w, b), (panels, bias, _) in zip(weights, parts, strict=True):
        for where, rows, width, j, columns in panels:
            w[:, j : j + columns] = params[where].reshape(rows, width)[: w.shape[0], :columns]
        if b is not None:
            b[:] = params[bias]
