"""The plan and the layout: where everything lies, and what the weight phase has to do."""

import itertools

import numpy as np
import pytest

from fastnn import (
    GELU,
    Affine,
    BatchNorm,
    Dropout,
    Identity,
    LayerNorm,
    LeakyReLU,
    ReLU,
    Residual,
    Sigmoid,
    Softmax,
    Tanh,
)
from fastnn.engine.layout import ParameterLayout
from fastnn.engine.plan import _FEW_BYTES, Holding, Purpose, build
from fastnn.kernels.activations import ACTIVATIONS, activate_kernel, differentiate_kernel
from fastnn.kernels.memory import CACHE_LINE
from fastnn.kernels.operation import BLOCK, MOST_BLOCKS, OPERATION, TASK
from fastnn.kernels.panels import padded_width, panel_columns, panel_width, round_up
from fastnn.kernels.products import KEEP, MASK, NO_BIAS, RECTIFY
from fastnn.kernels.tile import CELL_BYTES, TILE_ROWS
from fastnn.kernels.weight_phase import BLOCK_ROWS
from tests.panel_layout import Panels

# Widths of the layers of a net, around vectors and panels.
NETS = [[1, 1], [3, 1, 2], [7, 24, 25, 3], [97, 48, 13], [784, 256, 128, 10], [5, 400, 300, 50]]

with_nets = pytest.mark.parametrize("sizes", NETS, ids=str)
with_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])
with_bias = pytest.mark.parametrize("bias", [True, False])

TRAINING = Purpose(training=True)
PURPOSES = {
    "training": TRAINING,
    "training on sparse samples": Purpose(training=True, sparse=True),
    "prediction": Purpose(),
    "prediction of sparse samples": Purpose(sparse=True),
    "one row": Purpose(one_row=True, packed=False),
    "one row, packed": Purpose(one_row=True),
}
with_purposes = pytest.mark.parametrize("purpose", PURPOSES.values(), ids=PURPOSES)


def make_layers(sizes, bias=True):
    layers = []
    for n_inputs, n_outputs in itertools.pairwise(sizes):
        layers += [Affine(n_inputs, n_outputs, bias=bias), ReLU()]
    return layers[:-1]


def make_mixed_layers(sizes):
    """Return layers of all kinds that have parameters, and statistics, with and without a bias."""
    layers = []
    for k, (n_inputs, n_outputs) in enumerate(itertools.pairwise(sizes)):
        inner = Residual([LayerNorm(n_outputs), Affine(n_outputs, n_outputs, bias=False), Tanh()])
        layers += [Affine(n_inputs, n_outputs, bias=k % 2 == 0), BatchNorm(n_outputs), inner]
    return layers


def leaves_of(layers):
    return [leaf for layer in layers for leaf in layer.leaves()]


def make_layout(layers, dtype):
    return ParameterLayout(leaves_of(layers), np.dtype(dtype))


def make_plan(layers, dtype, n_rows=32, purpose=TRAINING, held=None):
    """Return the plan of layers, and their layout."""
    layout = make_layout(layers, dtype)
    n_inputs = next(leaf.n_inputs for leaf in leaves_of(layers) if leaf.blocks())
    return build(layers, n_inputs, layout, n_rows, purpose, held), layout


def make_vector(layout):
    """Return parameters and statistics as users see them: each is another number, none is zero."""
    vector = np.zeros(layout.size, layout.dtype)
    vector[: layout.n_params + layout.n_buffers] = 1 + np.arange(layout.n_params + layout.n_buffers)
    return vector


def empty(layout, value=0):
    """Return packed parameters and transposed matrices, filled with a value."""
    return (np.full(n, value, layout.dtype) for n in (layout.n_packed, layout.n_transposed))


def all_kinds(sizes):
    """Yield nets of these widths: affine ones with and without biases, and one of all layers."""
    yield make_layers(sizes)
    yield make_layers(sizes, bias=False)
    yield make_mixed_layers(sizes)


# --- the layout -----------------------------------------------------------------------------------


@with_nets
@with_dtypes
def test_what_is_packed_is_unpacked_again(dtype, sizes):
    for layers in all_kinds(sizes):
        layout = make_layout(layers, dtype)
        vector = make_vector(layout)
        params, transposed = empty(layout)
        layout.pack(vector, params, transposed)
        back = np.full_like(vector, np.nan)
        layout.unpack(params, back)
        n = layout.n_params + layout.n_buffers
        np.testing.assert_array_equal(back[:n], vector[:n])
        assert np.isnan(back[n:]).all()
        np.testing.assert_array_equal(layout.unpacked(params), vector[:n])
        # Each number has one place, and all others are padding.
        np.testing.assert_array_equal(np.sort(params[params != 0]), vector[:n])
        without = np.zeros_like(params)
        layout.pack(vector, without)  # the transposed matrices may be left out
        np.testing.assert_array_equal(without, params)


@with_nets
@with_dtypes
def test_unpacking_does_not_read_padding_and_packing_does_not_write_it(dtype, sizes):
    for layers in all_kinds(sizes):
        layout = make_layout(layers, dtype)
        vector = make_vector(layout)
        params, transposed = empty(layout, np.nan)
        layout.pack(vector, params, transposed)
        n = layout.n_params + layout.n_buffers
        assert np.count_nonzero(~np.isnan(params)) == n
        matrices = [p.n_rows * p.n_columns for p in layout.blocks if p.transposed_at >= 0]
        assert np.count_nonzero(~np.isnan(transposed)) == sum(matrices)
        np.testing.assert_array_equal(layout.unpacked(params), vector[:n])


@with_nets
@with_dtypes
def test_weights_and_their_transposes_lie_in_panels(dtype, sizes):
    for layers in all_kinds(sizes):
        plan, layout = make_plan(layers, dtype)
        vector = make_vector(layout)
        params, transposed = empty(layout)
        layout.pack(vector, params, transposed)
        for placed, block in zip(layout.blocks, plan.blocks, strict=True):
            values = placed.view(vector)
            if not placed.is_matrix:
                at, n = placed.at, placed.n_columns
                np.testing.assert_array_equal(params[at : at + n], values)
                padding = padded_width(n, values.itemsize)
                assert (params[at + n : at + padding] == 0).all()
                assert placed.transposed_at == -1
                continue
            n_in, n_out = values.shape
            rows = round_up(n_in, TILE_ROWS)
            panels = Panels((rows, n_out), dtype, offset=placed.at, gap=0)
            assert placed.distance == panels.distance
            for j, columns, part in panels.parts(params):
                np.testing.assert_array_equal(part[:n_in, :columns], values[:, j : j + columns])
                assert (part[n_in:] == 0).all()
                assert (part[:, columns:] == 0).all()
            assert (placed.transposed_at >= 0) == plan.operations["needs_dx"][block["operation"]]
            if placed.transposed_at >= 0:
                panels = Panels((n_out, n_in), dtype, offset=placed.transposed_at, gap=0)
                for i, columns, part in panels.parts(transposed):
                    np.testing.assert_array_equal(part[:, :columns], values.T[:, i : i + columns])
                    assert (part[:, columns:] == 0).all()


def test_no_transposed_copy_is_kept_where_no_gradient_flows():
    for layers in ([Affine(4, 6)], [Tanh(), Dropout(0.5, seed=0), Affine(4, 6)]):
        (w, _) = make_layout(layers, "float32").blocks
        assert w.transposed_at == -1
    for before in (BatchNorm(4), LayerNorm(4), Affine(4, 4)):
        assert make_layout([before, Affine(4, 6)], "float32").blocks[-2].transposed_at >= 0


@with_nets
@with_dtypes
def test_parameters_lie_in_the_order_of_the_layers_and_statistics_behind_them(dtype, sizes):
    for layers in all_kinds(sizes):
        layout = make_layout(layers, dtype)
        own = [(leaf, block) for leaf in leaves_of(layers) for block in leaf.blocks()]
        assert [(p.layer, p.block) for p in layout.blocks] == own
        for itself, where in (("user_at", None), ("at", layout.dtype.itemsize)):
            trained = [p for p in layout.blocks if not p.block.is_buffer]
            buffers = [p for p in layout.blocks if p.block.is_buffer]
            end = 0
            for placed in [*trained, *buffers]:
                assert getattr(placed, itself) == end
                n_rows, n_columns = placed.n_rows, placed.n_columns
                if where is not None:
                    n_columns = padded_width(n_columns, where)
                    n_rows = round_up(n_rows, TILE_ROWS) if placed.is_matrix else 1
                end += n_rows * n_columns
                if where is None and placed is trained[-1]:
                    assert end == layout.n_params
            assert end == (layout.n_packed if where else layout.n_params + layout.n_buffers)
        end = 0
        for placed in layout.blocks:
            if placed.transposed_at >= 0:
                assert placed.transposed_at == end
                end += placed.n_columns * padded_width(placed.n_rows, layout.dtype.itemsize)
        assert end == layout.n_transposed


@with_nets
@with_dtypes
def test_whole_panels_may_be_read_from_parameters_as_users_see_them(dtype, sizes):
    for layers in all_kinds(sizes):
        layout = make_layout(layers, dtype)
        itemsize = layout.dtype.itemsize
        for placed in layout.blocks:
            n_out = placed.n_columns
            last = (n_out - 1) // panel_columns(itemsize) * panel_columns(itemsize)
            end = last + panel_width(n_out, last, itemsize)
            assert placed.user_at + (placed.n_rows - 1) * n_out + end <= layout.size


@with_nets
@with_dtypes
def test_tensors_are_views_of_a_vector_and_make_it_again(dtype, sizes):
    for layers in all_kinds(sizes):
        layout = make_layout(layers, dtype)
        vector = make_vector(layout)
        tensors = layout.tensors(vector)
        owners = [leaf for leaf in leaves_of(layers) if leaf.blocks()]
        assert [[array.shape for array in own] for own in tensors] == [
            [block.shape for block in leaf.blocks()] for leaf in owners
        ]
        assert all(np.shares_memory(array, vector) for own in tensors for array in own)
        n = layout.n_params + layout.n_buffers
        np.testing.assert_array_equal(layout.vector_of(tensors), vector[:n])
        assert not np.shares_memory(layout.vector_of(tensors), vector)
        assert [len(layout.blocks_of(leaf)) for leaf in owners] == [*map(len, tensors)]
        assert layout.blocks_of(ReLU()) == []
        trained = layout.trained(vector)  # without statistics
        assert [[array.shape for array in own] for own in trained] == [
            [block.shape for block in leaf.blocks() if not block.is_buffer] for leaf in owners
        ]
        numbers = np.concatenate([array.ravel() for own in trained for array in own])
        np.testing.assert_array_equal(numbers, vector[: layout.n_params])
        assert all(np.shares_memory(array, vector) for own in trained for array in own)
        with pytest.raises(ValueError, match="zip"):
            layout.vector_of(tensors[:-1])


# --- the workspace --------------------------------------------------------------------------------


@pytest.mark.parametrize("purpose", [TRAINING, Purpose()], ids=["training", "prediction"])
@pytest.mark.parametrize("n_rows", [1, 7, 64, 200])
@with_nets
@with_dtypes
def test_no_two_panels_of_the_workspace_overlap(dtype, sizes, n_rows, purpose):
    plan, _ = make_plan(make_layers(sizes), dtype, n_rows, purpose)
    assert_apart(plan, sizes, round_up(n_rows, TILE_ROWS), dtype)
    if n_rows == 1:
        plan, _ = make_plan(make_layers(sizes), dtype, n_rows, PURPOSES["one row"])
        assert_apart(plan, sizes, 1, dtype)


def assert_apart(plan, sizes, rows, dtype):
    """Check that results lie apart, row by row in panels, and the input behind them."""
    itemsize = np.dtype(dtype).itemsize
    used = np.zeros(plan.n_acts, int)
    first = plan.operations[0]
    matrices = [(first["x_at"], first["x_panel"], sizes[0])]
    for k, operation in enumerate(plan.operations):
        matrices.append((operation["out_at"], operation["out_panel"], sizes[k + 1]))
        assert (operation["x_at"], operation["x_panel"]) == matrices[-2][:2]
    for at, distance, n in matrices:
        # Places in the first-level cache repeat: a row's must not coincide in all panels.
        assert at * itemsize % CACHE_LINE == 0
        if rows > 1:
            assert distance * itemsize % CACHE_LINE == 0
            assert distance * itemsize // CACHE_LINE % 2 == 1
        else:  # a single row lies as in an ordinary array
            assert distance == panel_columns(itemsize)
        for p, j in enumerate(range(0, n, panel_columns(itemsize))):
            start = at + p * distance
            end = start + rows * panel_width(n, j, itemsize)
            assert end <= plan.n_acts
            used[start:end] += 1
    assert used.max() == 1
    # The input comes last: it has no gradient.
    assert used[plan.n_deltas :].any()
    assert first["x_at"] == plan.n_deltas


@with_purposes
@with_nets
@with_dtypes
def test_what_a_layer_remembers_lies_apart_from_all_results(dtype, sizes, purpose):
    layers = make_mixed_layers(sizes)
    plan, _ = make_plan(layers, dtype, 64, purpose)
    itemsize, rows = np.dtype(dtype).itemsize, 1 if purpose.one_row else 64
    used = np.zeros(plan.n_acts, int)
    for k, (op, layer) in enumerate(zip(plan.operations, plan.layers, strict=True)):
        n, panel = int(op["n_out"]), panel_columns(itemsize)
        if op["out_at"] != op["x_at"]:  # a result of its own
            for p, j in enumerate(range(0, n, panel)):
                start = op["out_at"] + p * op["out_panel"]
                used[start : start + rows * panel_width(n, j, itemsize)] += 1
        else:
            assert isinstance(layer, Residual), k
        if layer.n_states:
            assert op["state_at"] * itemsize % CACHE_LINE == 0
            assert op["state_step"] * itemsize % CACHE_LINE == 0
            assert op["state_step"] >= max(padded_width(n, itemsize), rows)
            used[op["state_at"] :][: layer.n_states * op["state_step"]] += 1
    assert used.max() == 1
    assert not used[plan.n_deltas :].any()
    n_input = sum(panel_width(sizes[0], j, itemsize) for j in range(0, sizes[0], panel))
    if purpose.sparse:  # nobody copies the samples
        assert plan.n_acts == plan.n_deltas
    else:
        assert plan.n_acts >= plan.n_deltas + rows * n_input


@with_purposes
def test_both_ends_of_a_residual_block_know_each_other(purpose):
    inside = [
        # The sum overwrites its first term, unless somebody needs that again.
        ([Affine(5, 5)], True),
        ([Affine(5, 5), Tanh()], False),
        ([Residual([Affine(5, 5)])], True),
        ([Identity()], True),  # of a copy
        ([Dropout(0.5, seed=0)], purpose.training),  # otherwise it is passed by
    ]
    for layers, in_place in inside:
        plan, _ = make_plan([Affine(3, 5), Residual(layers), Affine(5, 2)], "float64", 8, purpose)
        ends = [k for k, layer in enumerate(plan.layers) if isinstance(layer, Residual)]
        fork, join = plan.operations[[ends[0], ends[-1]]]
        assert fork["out_at"] == fork["x_at"] == plan.operations[0]["out_at"]
        assert (fork["other_at"], join["other_at"]) == (join["out_at"], fork["out_at"])
        assert (join["out_at"] == join["x_at"]) == in_place
        assert join["out_at"] != fork["out_at"]


# --- the weight phase -----------------------------------------------------------------------------


@with_nets
@with_dtypes
def test_the_tasks_cover_all_parameters_once_and_no_statistics(dtype, sizes):
    for layers in all_kinds(sizes):
        plan, layout = make_plan(layers, dtype)
        itemsize = layout.dtype.itemsize
        covered = np.zeros(layout.n_packed, int)
        assert plan.tasks.dtype == TASK
        for task in plan.tasks:
            block = plan.blocks[task["block"]]
            width = panel_width(int(block["n_columns"]), int(task["j"]), itemsize)
            assert task["j"] % panel_columns(itemsize) == 0
            if layout.blocks[task["block"]].is_matrix:
                assert task["i"] % TILE_ROWS == task["n_i"] % TILE_ROWS == 0
            else:
                assert (task["i"], task["n_i"]) == (0, 1)
            assert 0 < task["n_i"] <= BLOCK_ROWS, "a task has room in the scratch memory"
            p = task["j"] // panel_columns(itemsize)
            start = block["at"] + p * block["distance"] + task["i"] * width
            covered[start : start + task["n_i"] * width] += 1
        trained = np.ones_like(covered)
        for placed in layout.blocks:
            if placed.block.is_buffer:
                trained[placed.at :][: padded_width(placed.n_columns, itemsize)] = 0
        np.testing.assert_array_equal(covered, trained)
        assert len(plan.cost_before) == len(plan.tasks) + 1
        assert plan.cost_before[0] == 0
        assert (np.diff(plan.cost_before) > 0).all()
        assert plan.cost_before[-1] == trained.sum()


@with_nets
@with_dtypes
def test_cells_are_numbered_alike_at_every_width_of_vectors(dtype, sizes):
    """Sums over weights are taken by cell, in their order: so it must depend on nothing else."""
    for layers in all_kinds(sizes):
        plan, layout = make_plan(layers, dtype)
        cell = CELL_BYTES // layout.dtype.itemsize
        matrices = [(p.n_rows, p.n_columns) for p in layout.blocks if p.is_matrix]
        few = sum(n * round_up(m, cell) for n, m in matrices) * layout.dtype.itemsize < _FEW_BYTES
        most_rows = BLOCK_ROWS // 3 if few else BLOCK_ROWS
        expected = []  # of each cell the block, the rows, and the column
        for _, group in itertools.groupby(range(len(plan.blocks)), plan.blocks["operation"].item):
            for k in reversed([*group]):  # vectors come first
                placed = layout.blocks[k]
                if not placed.block.is_buffer:
                    starts = range(0, placed.n_rows, most_rows)
                    columns = range(0, placed.n_columns, cell)
                    expected += [(k, i, c) for i in starts for c in columns]
        actual = [None] * plan.n_cells
        for task in plan.tasks:
            n_columns = int(plan.blocks["n_columns"][task["block"]])
            width = panel_width(n_columns, int(task["j"]), layout.dtype.itemsize)
            end = min(int(task["j"]) + width, n_columns)
            for k, c in enumerate(range(int(task["j"]), end, cell)):
                assert actual[task["cell"] + k] is None
                actual[task["cell"] + k] = int(task["block"]), int(task["i"]), c
        assert actual == expected


def test_a_vector_comes_before_the_matrix_beside_it_in_each_panel():
    plan, layout = make_plan([Affine(40, 100)], "float64")
    w, b = 0, 1
    for j in range(0, 100, panel_columns(8)):
        assert plan.tasks["block"][plan.tasks["j"] == j].tolist()[:2] == [b, w]
    assert (np.diff(plan.tasks["j"]) >= 0).all()
    assert [placed.block.name for placed in layout.blocks] == ["w", "b"]


def test_a_prediction_has_the_same_tasks_but_no_kernel_that_would_do_them():
    plan, _ = make_plan(make_mixed_layers([7, 5]), "float32", purpose=Purpose())
    assert not plan.blocks["sum_gradient"].any()
    assert not plan.blocks["constrain"].any()
    assert not plan.operations["backward"].any()
    assert not plan.operations["differentiate"].any()


# --- records --------------------------------------------------------------------------------------


def test_an_activation_joins_the_affine_layer_before_it():
    layers = [Tanh(), Affine(4, 6), Sigmoid(), ReLU(), Affine(6, 3), LeakyReLU(0.25), Softmax()]
    plan, _ = make_plan(layers, "float64", 8)
    dtype, operations = np.dtype("float64"), plan.operations
    expected = [
        (layers[0], "tanh", 4, 4),
        (layers[1], "logistic", 4, 6),
        (layers[3], "relu", 6, 6),
        (layers[4], "leaky_relu", 6, 3),
        (layers[6], "softmax", 3, 3),
    ]
    assert plan.layers == tuple(layer for layer, *_ in expected)
    for operation, (_, name, n_in, n_out) in zip(operations, expected, strict=True):
        assert (operation["n_in"], operation["n_out"]) == (n_in, n_out)
        assert operation["activate"] == activate_kernel(ACTIVATIONS[name], dtype)
    assert operations["activation_number"][3] == 0.25
    # Nothing before the first affine layer learns. The derivative of a ReLU is applied by the
    # affine layer behind it, in the same tile.
    assert operations["needs_dx"].tolist() == [0, 0, 1, 1, 1]
    assert operations["finish_backward"].tolist() == [KEEP, KEEP, KEEP, MASK, KEEP]
    differentiate = [
        differentiate_kernel(ACTIVATIONS[name], dtype) if name else 0
        for name in (None, "logistic", None, "leaky_relu", "softmax")
    ]
    assert operations["differentiate"].tolist() == differentiate


def test_a_product_applies_a_relu_to_its_tiles():
    plan, _ = make_plan([Affine(4, 6), ReLU(), ReLU(), Affine(6, 3), Tanh()], "float32")
    assert plan.operations["finish"].tolist() == [RECTIFY, KEEP, KEEP]
    assert [*(plan.operations["activate"] != 0)] == [False, True, True]


@pytest.mark.parametrize("after", [GELU(), Dropout(0.5, seed=1), BatchNorm(6)], ids=repr)
def test_what_is_no_function_of_a_result_is_an_operation_of_its_own(after):
    layers = [Affine(4, 6), after, Affine(6, 3)]
    plan, _ = make_plan(layers, "float32")
    assert plan.layers == tuple(layers)
    assert not plan.operations["activate"].any()
    # An activation behind it joins it, unless it may read what it overwrites.
    plan, _ = make_plan([Affine(4, 6), after, Tanh(), Affine(6, 3)], "float32")
    assert [*(plan.operations["activate"] != 0)] == [False, True, False]


def make_every_layer():
    """Return a net in which each field of the records has something to say."""
    block = [LayerNorm(25, epsilon=0.5), Affine(25, 25, bias=False), ReLU(), Dropout(0.25, seed=9)]
    return [
        *(Affine(7, 25), LeakyReLU(0.125), BatchNorm(25, momentum=0.25, epsilon=0.0625)),
        *(Residual([*block, Affine(25, 25)]), Tanh(), GELU(), Affine(25, 3)),
    ]


def held(layer):
    """Hold the weights of affine layers back, each with other numbers."""
    if not isinstance(layer, Affine):
        return Holding()
    n = layer.n_inputs
    return Holding(0.5 / n, 0.25 / n, 0.125 / n, 2.0 if layer.bias else np.inf)


@with_purposes
@with_dtypes
def test_the_records_of_operations_are_complete(dtype, purpose):
    layers = make_every_layer()
    plan, layout = make_plan(layers, dtype, 20, purpose, held)
    first, _, norm, residual, _, gelu, last = layers
    scale, thin, _, dropout, wide = residual.layers
    owners = [first, norm, residual, scale, thin, dropout, wide, residual, gelu, last]
    if not purpose.training:
        owners.remove(dropout)
    assert plan.layers == tuple(owners)
    operations = {id(layer): op for layer, op in zip(plan.layers, plan.operations, strict=True)}
    fork, join = plan.operations[[owners.index(residual), owners.index(gelu) - 1]]
    assert plan.operations.dtype == OPERATION
    training, dtype = purpose.training, np.dtype(dtype)

    for layer in owners:
        op = operations[id(layer)]
        placed = layout.blocks_of(layer)
        n_in, n_out = (7, 25) if layer is first else (25, 3) if layer is last else (25, 25)
        assert (op["n_in"], op["n_out"]) == (n_in, n_out)
        numbers = {norm: [0.0625, 0.25, 0], scale: [0.5, 0, 0], dropout: [0.25, 0, 0]}
        assert op["numbers"].tolist() == numbers.get(layer, [0, 0, 0])
        places = [p.at if purpose.packed else p.user_at for p in placed]
        assert op["blocks"].tolist() == places + [NO_BIAS] * (MOST_BLOCKS - len(places))
        assert op["transposed_at"] == (placed[0].transposed_at if placed else -1)
        assert op["whole_batch"] == (training and layer is norm)
        of_layer = layer.kernels(dtype, purpose._replace(sparse=purpose.sparse and layer is first))
        if layer is not residual:
            assert op["forward"] == of_layer.forward != 0
            assert op["backward"] == (of_layer.backward if training and layer is not first else 0)
            assert op["forward_in_place"] == of_layer.forward_in_place
        reads_table = not (training or purpose.one_row or (purpose.sparse and layer is first))
        assert (op["forward_in_place"] != 0) == (isinstance(layer, Affine) and reads_table)
        assert op["needs_dx"] == (layer is not first)
        assert op["finish"] == (RECTIFY if layer is thin else KEEP)
        # Dropout stands between the ReLU and the product behind it.
        after_relu = layer is wide and not training
        assert op["finish_backward"] == (MASK if after_relu else KEEP)
        if layer not in (norm, scale):
            assert (op["state_at"], op["state_step"]) == (0, 0)

    activated = {"leaky_relu": operations[id(first)], "tanh": join}
    for name, op in activated.items():
        assert op["activate"] == activate_kernel(ACTIVATIONS[name], dtype)
        derivative = differentiate_kernel(ACTIVATIONS[name], dtype) if training else 0
        assert op["differentiate"] == derivative
    assert operations[id(first)]["activation_number"] == 0.125
    others = [op for op in plan.operations if op not in [*activated.values()]]
    assert not any(op["activate"] for op in others)
    if training:
        relu = differentiate_kernel(ACTIVATIONS["relu"], dtype)
        assert operations[id(thin)]["differentiate"] == relu

    assert fork["forward"] == 0
    assert join["forward"] != 0
    assert (fork["backward"] != 0) == (join["backward"] != 0) == training
    assert (fork["other_at"], join["other_at"]) == (join["out_at"], fork["out_at"])

    starts = [0, owners.index(norm), len(owners)] if training else [0, len(owners)]
    assert plan.segments.tolist() == starts
    assert plan.needs_whole_batch == training
    matrices = {layer: layer.n_inputs * layer.n_outputs for layer in (first, thin, wide, last)}
    forward = sum(matrices.values())
    assert plan.flops_forward == 2 * forward
    assert plan.flops == 2 * (3 * forward - matrices[first])


@with_purposes
@with_dtypes
def test_the_records_of_blocks_are_complete(dtype, purpose):
    plan, layout = make_plan(make_every_layer(), dtype, 20, purpose, held)
    assert plan.blocks.dtype == BLOCK
    assert len(plan.blocks) == len(layout.blocks)
    for block, placed in zip(plan.blocks, layout.blocks, strict=True):
        layer, name = placed.layer, placed.block.name
        assert plan.layers[block["operation"]] is layer
        op = plan.operations[block["operation"]]
        for field in ("at", "distance", "transposed_at", "user_at", "n_rows", "n_columns"):
            assert block[field] == getattr(placed, field), field
        kernels = layer.kernels(
            np.dtype(dtype), purpose._replace(sparse=purpose.sparse and block["operation"] == 0)
        )
        assert block["sum_gradient"] == kernels.sums.get(name, 0)
        in_state = -1
        if purpose.training and isinstance(layer, BatchNorm) and not placed.block.is_buffer:
            in_state = op["state_at"] + ("gamma", "beta").index(name) * op["state_step"]
        assert block["gradient_at"] == in_state
        if purpose.training:  # each gradient is in one place
            has_kernel, has_place = block["sum_gradient"] != 0, block["gradient_at"] >= 0
            assert has_kernel + has_place == (not placed.block.is_buffer)
        is_weight = isinstance(layer, Affine) and name == "w"
        assert block["is_weight"] == is_weight
        holding = held(layer) if is_weight and purpose.training else Holding()
        assert tuple(block[field] for field in Holding._fields) == holding
        assert (block["constrain"] != 0) == (holding.max_norm < np.inf)
    assert plan.is_constrained == purpose.training


def test_without_penalties_decay_and_limits_nothing_holds_the_weights_back():
    plan, _ = make_plan(make_every_layer(), "float32")
    assert not plan.is_constrained
    for field, value in Holding()._asdict().items():
        assert (plan.blocks[field] == value).all()


@with_bias
@with_nets
@with_dtypes
def test_without_packing_parameters_lie_as_users_see_them(dtype, sizes, bias):
    plan, layout = make_plan(make_layers(sizes, bias), dtype, 1, PURPOSES["one row"])
    vector = make_vector(layout)
    for operation, own in zip(plan.operations, layout.tensors(vector), strict=True):
        w, b = own if bias else (own[0], None)
        at = operation["blocks"][0]
        np.testing.assert_array_equal(vector[at : at + w.size], w.ravel())
        at = operation["blocks"][1]
        assert at == NO_BIAS if b is None else (vector[at : at + b.size] == b).all()
    sizes_of_all = [n * m + bias * m for n, m in itertools.pairwise(sizes)]
    assert layout.n_params == sum(sizes_of_all)


def test_the_noise_of_a_layer_is_written_to_its_record_alone():
    one, other = Dropout(0.5, seed=5), Dropout(0.5, seed=6)
    plan, _ = make_plan([Affine(4, 6), one, Residual([other]), Affine(6, 2)], "float32")
    plan.set_noise(other, 17)
    expected = [(6, 17) if layer is other else (0, 0) for layer in plan.layers]
    assert [(op["seed"], op["first_step"]) for op in plan.operations] == expected
    plan.set_noise(one, -3)  # steps may have been counted from elsewhere
    k = plan.layers.index(one)
    assert (plan.operations[k]["seed"], plan.operations[k]["first_step"]) == (5, -3)


@with_purposes
def test_a_plan_made_again_is_the_same(purpose):
    """Kernels are compiled once: an address stands for each."""
    plans = [make_plan(make_every_layer(), "float64", 20, purpose, held)[0] for _ in range(2)]
    for one, other in zip(*plans, strict=True):
        if isinstance(one, np.ndarray):
            np.testing.assert_array_equal(one, other)
    others = make_plan(make_every_layer(), "float32", 20, purpose, held)[0].operations
    has_kernel = plans[0].operations["forward"] != 0
    assert (plans[0].operations["forward"] != others["forward"])[has_kernel].all()
