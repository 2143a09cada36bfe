"""The plan: where everything lies, and what the weight phase has to do."""

import itertools

import numpy as np
import pytest

from fastnn import Affine, LeakyReLU, ReLU, Sigmoid, Softmax, Tanh
from fastnn.engine.plan import (
    CACHE_LINE,
    affine_parts,
    build,
    pack,
    padded_size,
    padded_width,
    panel_columns,
    panel_width,
    round_up,
    unpack,
)
from fastnn.kernels import codes
from fastnn.kernels.affine import NO_BIAS
from fastnn.kernels.step import BLOCK_ROWS
from fastnn.kernels.tile import TILE_ROWS
from tests.panel_layout import Panels

# Widths of the layers of a net, around vectors and panels.
NETS = [[1, 1], [3, 1, 2], [7, 24, 25, 3], [97, 48, 13], [784, 256, 128, 10], [5, 400, 300, 50]]

with_nets = pytest.mark.parametrize("sizes", NETS, ids=str)
with_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


def make_layers(sizes, bias=True):
    layers = []
    for n_inputs, n_outputs in itertools.pairwise(sizes):
        layers += [Affine(n_inputs, n_outputs, bias=bias), ReLU()]
    return layers[:-1]


def make_plan(sizes, dtype, n_rows=32, packed=True, bias=True):
    return build(make_layers(sizes, bias), sizes[0], np.dtype(dtype), n_rows, packed)


def make_weights(sizes, dtype, bias=True):
    """Return pairs (w, b) in which every element is another number, and none is zero."""
    weights, start = [], 1
    for n_in, n_out in itertools.pairwise(sizes):
        w = np.arange(start, start + n_in * n_out, dtype=dtype).reshape(n_in, n_out)
        start += w.size
        b = np.arange(start, start + n_out, dtype=dtype) if bias else None
        start += n_out
        weights.append((w, b))
    return weights


@pytest.mark.parametrize("bias", [True, False])
@with_nets
@with_dtypes
def test_what_is_packed_is_unpacked_again(dtype, sizes, bias):
    plan, weights = make_plan(sizes, dtype, bias=bias), make_weights(sizes, dtype, bias)
    params = np.zeros(plan.n_params, dtype)
    pack(plan, weights, params, np.zeros(plan.n_transposed, dtype))
    back = [
        (np.full_like(w, np.nan), np.full_like(b, np.nan) if bias else None) for w, b in weights
    ]
    unpack(plan, params, back)
    for before, after in zip(weights, back, strict=True):
        np.testing.assert_array_equal(after[0], before[0])
        np.testing.assert_array_equal(after[1], before[1])
    # Each number has one place, and all others are padding.
    numbers = np.concatenate([a.ravel() for pair in weights for a in pair if a is not None])
    np.testing.assert_array_equal(np.sort(params[params != 0]), numbers)


@with_nets
@with_dtypes
def test_unpacking_does_not_read_padding_and_packing_does_not_write_it(dtype, sizes):
    plan, weights = make_plan(sizes, dtype), make_weights(sizes, dtype)
    params, transposed = (np.full(n, np.nan, dtype) for n in (plan.n_params, plan.n_transposed))
    pack(plan, weights, params, transposed)
    n_numbers = [w.size for w, _ in weights]
    assert np.count_nonzero(~np.isnan(params)) == sum(n_numbers) + sum(sizes[1:])
    assert np.count_nonzero(~np.isnan(transposed)) == sum(n_numbers[1:])
    unpack(plan, params, weights)
    assert all(np.isfinite(a).all() for pair in weights for a in pair)


@with_nets
@with_dtypes
def test_weights_and_their_transposes_lie_in_panels(dtype, sizes):
    plan, weights = make_plan(sizes, dtype), make_weights(sizes, dtype)
    params, transposed = np.zeros(plan.n_params, dtype), np.zeros(plan.n_transposed, dtype)
    pack(plan, weights, params, transposed)
    for operation, (w, b) in zip(plan.operations, weights, strict=True):
        n_in, n_out = w.shape
        rows = round_up(n_in, TILE_ROWS)
        layout = Panels((rows, n_out), dtype, offset=operation[codes.W_AT], gap=0)
        assert operation[codes.W_PANEL] == layout.distance
        for j, columns, part in layout.parts(params):
            np.testing.assert_array_equal(part[:n_in, :columns], w[:, j : j + columns])
            assert (part[n_in:] == 0).all()
            assert (part[:, columns:] == 0).all()
        at = operation[codes.B_AT]
        np.testing.assert_array_equal(params[at : at + n_out], b)
        if operation[codes.NEEDS_DX]:
            layout = Panels((n_out, n_in), dtype, offset=operation[codes.WT_AT], gap=0)
            for i, columns, part in layout.parts(transposed):
                np.testing.assert_array_equal(part[:, :columns], w.T[:, i : i + columns])
                assert (part[:, columns:] == 0).all()


@with_nets
@with_dtypes
def test_without_packing_parameters_lie_as_users_see_them(dtype, sizes):
    for bias in (True, False):
        plan = make_plan(sizes, dtype, packed=False, bias=bias)
        weights = make_weights(sizes, dtype, bias)
        params = np.concatenate([a.ravel() for pair in weights for a in pair if a is not None])
        assert plan.n_params == params.size
        assert plan.n_transposed == 0
        for operation, (w, b) in zip(plan.operations, weights, strict=True):
            at = operation[codes.W_AT]
            np.testing.assert_array_equal(params[at : at + w.size], w.ravel())
            at = operation[codes.B_AT]
            assert at == NO_BIAS if b is None else (params[at : at + b.size] == b).all()


@with_nets
@with_dtypes
def test_whole_panels_may_be_read_from_parameters_as_users_see_them(dtype, sizes):
    plan = make_plan(sizes, dtype, packed=False)
    size = padded_size(plan.n_params, dtype)
    for operation in plan.operations:
        n_in, n_out = operation[codes.N_IN], operation[codes.N_OUT]
        last = (n_out - 1) // panel_columns(dtype) * panel_columns(dtype)
        end = last + panel_width(n_out, last, dtype)
        assert operation[codes.W_AT] + (n_in - 1) * n_out + end <= size
        assert operation[codes.B_AT] + end <= size


@pytest.mark.parametrize("n_rows", [1, 7, 64, 200])
@with_nets
@with_dtypes
def test_no_two_panels_of_the_workspace_overlap(dtype, sizes, n_rows):
    plan = make_plan(sizes, dtype, n_rows)
    used = np.zeros(plan.n_acts, int)
    first = plan.operations[0]
    matrices = [(first[codes.X_AT], first[codes.X_PANEL], sizes[0])]
    for k, operation in enumerate(plan.operations):
        matrices.append((operation[codes.OUT_AT], operation[codes.OUT_PANEL], sizes[k + 1]))
        if k:
            assert (operation[codes.X_AT], operation[codes.X_PANEL]) == matrices[-2][:2]
    rows = round_up(n_rows, TILE_ROWS) if n_rows > 1 else 1
    itemsize = np.dtype(dtype).itemsize
    for at, distance, n in matrices:
        # Places in the first-level cache repeat: a row's must not coincide in all panels.
        assert at * itemsize % CACHE_LINE == 0
        if n_rows > 1:
            assert distance * itemsize % CACHE_LINE == 0
            assert distance * itemsize // CACHE_LINE % 2 == 1
        else:  # a single row lies as in an ordinary array
            assert distance == panel_columns(dtype)
        for p, j in enumerate(range(0, n, panel_columns(dtype))):
            start = at + p * distance
            end = start + rows * panel_width(n, j, dtype)
            assert end <= plan.n_acts
            used[start:end] += 1
    assert used.max() == 1
    # The input comes last: it has no gradient.
    assert used[plan.n_deltas :].any()
    assert first[codes.X_AT] == plan.n_deltas


@with_nets
@with_dtypes
def test_the_tasks_cover_all_weights_once_and_each_bias_once(dtype, sizes):
    plan = make_plan(sizes, dtype)
    covered = np.zeros(plan.n_params, int)
    for l, i, n_i, j in plan.tasks:
        operation = plan.operations[l]
        width = panel_width(operation[codes.N_OUT], j, dtype)
        assert i % TILE_ROWS == n_i % TILE_ROWS == j % panel_columns(dtype) == 0
        assert 0 < n_i <= BLOCK_ROWS, "the block of a task has room in the scratch memory"
        p = j // panel_columns(dtype)
        start = operation[codes.W_AT] + p * operation[codes.W_PANEL] + i * width
        covered[start : start + n_i * width] += 1
        if i == 0:
            covered[operation[codes.B_AT] + j :][:width] += 1
    assert (covered == 1).all()
    assert len(plan.cost_before) == len(plan.tasks) + 1
    assert plan.cost_before[0] == 0
    assert (np.diff(plan.cost_before) > 0).all()


@with_nets
@with_dtypes
def test_packed_parameters_lie_one_after_the_other(dtype, sizes):
    plan = make_plan(sizes, dtype)
    end = 0
    for panels, bias, _ in affine_parts(plan, dtype):
        for where, rows, width, _, _ in panels:
            assert where.start == end
            assert where.stop - where.start == rows * width
            end = where.stop
        assert bias.start == end
        end += padded_width(bias.stop - bias.start, dtype)
    assert end == plan.n_params


def test_an_activation_joins_the_affine_layer_before_it():
    layers = [Tanh(), Affine(4, 6), Sigmoid(), ReLU(), Affine(6, 3), LeakyReLU(0.25), Softmax()]
    plan = build(layers, 4, np.dtype("float64"), 8, packed=True)
    kinds = plan.operations[:, [codes.KIND, codes.FUNCTION, codes.N_IN, codes.N_OUT]].tolist()
    assert kinds == [
        [codes.ACTIVATION, codes.TANH, 4, 4],
        [codes.AFFINE, codes.LOGISTIC, 4, 6],
        [codes.ACTIVATION, codes.RELU, 6, 6],
        [codes.AFFINE, codes.LEAKY_RELU, 6, 3],
        [codes.ACTIVATION, codes.SOFTMAX, 3, 3],
    ]
    assert plan.numbers[3, codes.SLOPE] == 0.25
    # Nothing before the first affine layer learns. The derivative of a ReLU is applied by the
    # affine layer behind it, in the same tile.
    assert plan.operations[:, codes.NEEDS_DX].tolist() == [0, 0, 1, 1, 1]
    assert plan.operations[:, codes.MASKS_DX].tolist() == [0, 0, 0, 1, 0]
    assert plan.operations[:, codes.OWN_DERIVATIVE].tolist() == [0, 1, 0, 1, 1]
