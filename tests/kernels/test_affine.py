"""The kernels of the affine layer as an operation, dense and sparse, against the plain loops."""

import numpy as np
import pytest

from fastnn import Affine, ReLU
from fastnn.engine.layout import ParameterLayout
from fastnn.engine.plan import Purpose, build
from fastnn.kernels import affine, panels, reference
from fastnn.kernels.products import K_BLOCK, KEEP, MASK, NO_BIAS, RECTIFY, product_kernel
from fastnn.kernels.sparse import sort_kernel
from fastnn.kernels.tile import TILE_ROWS, TILE_VECTORS
from tests.kernels.dtypes import each_dtype
from tests.kernels.operations import Memory, Unchanged, block, call, task, work
from tests.panel_layout import Panels, lanes, whole

WIDE = TILE_VECTORS * lanes("float32")  # columns of a panel; half as many are one of float64
HALF = WIDE // 2
# (columns of x, of out): around one vector, one panel, two panels.
SHAPES = [
    (1, 1),
    (7, HALF - 1),
    (HALF, HALF + 1),
    (WIDE + 1, WIDE),
    (2 * WIDE + 1, 97),
    (K_BLOCK + 3, 5),
]
N_ROWS = 3 * TILE_ROWS

with_shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)
with_dtypes = each_dtype("affine")


class Case:
    """An affine layer with weights, and the memory of its operation."""

    def __init__(self, shape, dtype, rng, bias=True, n_rows=N_ROWS):
        self.dtype, (self.n_in, self.n_out) = dtype, shape
        self.w, self.b = self.draw(rng, shape), self.draw(rng, shape[1])
        if not bias:
            self.b[:] = 0
        self.n_rows = n_rows
        self.x, self.dout = self.draw(rng, (n_rows, shape[0])), self.draw(rng, (n_rows, shape[1]))
        self.acts = Memory(n_rows, *shape, dtype)
        self.deltas = Memory(n_rows, *shape, dtype)
        self.params, blocks = self.pack()
        if not bias:
            blocks = blocks[0], NO_BIAS
        self.transposed = Panels.of(self.w.T, gap=0)
        self.places = {
            "blocks": [*blocks, 0, 0],
            "transposed_at": self.transposed.offset,
            "product": product_kernel(self.dtype),
        }
        self.memory = {
            "acts": self.acts.data,
            "deltas": self.deltas.data,
            "params": self.params,
            "transposed": self.transposed.flat,
            "n_rows": n_rows,
            "n_inputs": self.n_in,
        }

    def draw(self, rng, shape):
        """Draw small integers: their sums of products are exact in any order."""
        return rng.integers(-5, 6, shape).astype(self.dtype)

    def pack(self):
        """Return w and b as kernels read them, with NaN around them, and where they begin."""
        rows, n = whole(self.n_in, TILE_ROWS), self.n_out
        w = Panels((rows, n), self.dtype, gap=0)
        w.fill(np.zeros((rows, n), self.dtype))
        w.fill(self.w)
        padding = np.zeros(panels.padded_width(n, self.dtype.itemsize) - n, self.dtype)
        params = np.concatenate([w.flat, self.b, padding, np.full(3, np.nan, self.dtype)])
        return params, (w.offset, w.flat.size)

    def operation(self, **values):
        return self.acts.operation(**self.places | values)

    def work(self, **values):
        return work(**self.memory | values)

    def expected(self, finish=KEEP, x=None):
        x = self.x if x is None else x
        out = np.full((len(x), self.n_out), np.nan, self.dtype)
        reference.affine_forward(out, x, self.w, self.b)
        if finish == RECTIFY:
            reference.relu_forward(out, out)
        return out


@with_dtypes
@with_shapes
def test_forward_overwrites_its_rows(dtype, shape, rng):
    for bias in (True, False):
        case = Case(shape, dtype, rng, bias)
        case.acts.x.fill(case.x, padding=np.nan)  # which is not read
        for finish in (KEEP, RECTIFY):
            right = case.expected(finish)
            for low, count in [(0, N_ROWS), (TILE_ROWS, TILE_ROWS), (0, 0)]:
                case.acts.out.flat[:] = np.nan
                op = case.operation(finish=finish)
                with Unchanged(case.params, case.acts.x.flat):
                    call(affine.forward_kernel(dtype), op, low, count, case.work())
                rows = slice(low, low + count)
                assert (case.acts.out.take(low, count) == right[rows]).all()


@with_dtypes
@with_shapes
def test_backward_overwrites_the_gradient_of_the_input(dtype, shape, rng):
    case = Case(shape, dtype, rng)
    case.deltas.out.fill(case.dout, padding=np.nan)
    h = case.draw(rng, case.x.shape)
    case.acts.x.fill(h)
    right = np.full_like(case.x, np.nan)
    reference.affine_backward_input(right, case.dout, case.w)
    masked = np.full_like(right, np.nan)
    reference.relu_backward(masked, right, h)
    for finish, expected in [(KEEP, right), (MASK, masked)]:
        for low, count in [(0, N_ROWS), (TILE_ROWS, TILE_ROWS), (0, 0)]:
            case.deltas.x.flat[:] = np.nan
            op = case.operation(finish_backward=finish)
            with Unchanged(case.transposed.flat, case.acts.data, case.deltas.out.flat):
                call(affine.backward_kernel(dtype), op, low, count, case.work())
            rows = slice(low, low + count)
            assert (case.deltas.x.take(low, count) == expected[rows]).all()


def sum_by_tasks(case, kernel, n_i, op, work):
    """Return x.T @ dout as the kernel writes it, for tasks of n_i rows, the last one shorter."""
    itemsize, rows = case.dtype.itemsize, whole(case.n_in, TILE_ROWS)
    w = block(at=case.places["blocks"][0], n_columns=case.n_out)
    w["distance"] = panels.weight_distance(case.n_in, itemsize)
    work["blocks"] = w.ctypes.data
    states = np.zeros(case.params.size, case.dtype)
    work["state_1"], work["state_2"] = states.ctypes.data, states.ctypes.data
    dw = np.full((rows, case.n_out), np.nan, case.dtype)
    panel = panels.panel_columns(itemsize)
    for j in range(0, case.n_out, panel):
        width = panels.panel_width(case.n_out, j, itemsize)
        for i in range(0, rows, n_i):
            size = min(n_i, rows - i)
            out = np.full(3 + size * width + 3, np.nan, case.dtype)
            with Unchanged(case.params, states, case.acts.data, case.deltas.data):
                call(kernel, op, task(i=i, n_i=size, j=j), work, out[3:])
            assert np.isnan(out[:3]).all()
            assert np.isnan(out[-3:]).all()
            part = out[3:-3].reshape(size, width)
            assert (part[:, case.n_out - j :] == 0).all()
            dw[i : i + size, j : j + panel] = part[:, : case.n_out - j]
    assert (dw[case.n_in :] == 0).all()
    return dw[: case.n_in]


@with_dtypes
@with_shapes
def test_gradients_of_weights_and_biases_are_summed_over_the_batch(dtype, shape, rng):
    case = Case(shape, dtype, rng)
    case.acts.x.fill(case.x)
    case.deltas.out.fill(case.dout)
    for n_rows in (1, TILE_ROWS + 1, N_ROWS):
        dw, db = np.full_like(case.w, np.nan), np.full_like(case.b, np.nan)
        reference.affine_backward_weight(dw, db, case.x[:n_rows], case.dout[:n_rows])
        for n_i in (TILE_ROWS, 3 * TILE_ROWS, whole(case.n_in, TILE_ROWS)):
            kernel, now = affine.weight_gradient_kernel(dtype), case.work(n_rows=n_rows)
            assert (sum_by_tasks(case, kernel, n_i, case.operation(), now) == dw).all()
        panel = panels.panel_columns(dtype.itemsize)
        for j in range(0, case.n_out, panel):
            width = panels.panel_width(case.n_out, j, dtype.itemsize)
            out = np.full(width + 3, np.nan, dtype)
            now = case.work(n_rows=n_rows)
            with Unchanged(case.deltas.data):
                kernel = affine.column_sums_kernel(dtype)
                call(kernel, case.operation(), task(n_i=1, j=j), now, out)
            columns = min(panel, case.n_out - j)
            assert (out[:columns] == db[j : j + columns]).all()
            assert (out[columns:width] == 0).all()
            assert np.isnan(out[width:]).all()


# --- predictions ----------------------------------------------------------------------------------


@with_dtypes
@with_shapes
@pytest.mark.parametrize("own_weights", [False, True])
def test_samples_and_weights_may_be_read_where_the_user_has_them(dtype, shape, own_weights, rng):
    """The rows that fill tiles from x, from work.start on; the others from the activations."""
    case = Case(shape, dtype, rng)
    case.w[...], case.b[...] = rng.normal(size=shape), rng.normal(size=shape[1])
    case.params[...], _ = case.pack()
    start = 2
    samples = np.full((start + N_ROWS, case.n_in), np.nan, dtype)
    samples[start:] = rng.normal(size=case.x.shape)
    case.acts.x.fill(samples[start:])
    op = case.operation(finish=RECTIFY)
    call(affine.forward_kernel(dtype), op, 0, N_ROWS, case.work())
    right = case.acts.out.take()
    # Behind the parameters of a user there is a panel's width of other numbers.
    own = [np.full(2, np.nan), case.w.ravel(), case.b, np.full(WIDE, 7)]
    own = np.concatenate(own).astype(dtype)
    users = case.operation(blocks=[2, 2 + case.w.size, 0, 0])
    given = {"user_params": own, "user_operations": users} if own_weights else {}
    if own_weights:
        case.params[:] = np.nan
    for n_rows in (0, 1, TILE_ROWS, 2 * TILE_ROWS + 1, N_ROWS):
        in_tiles = n_rows // TILE_ROWS * TILE_ROWS
        case.acts.x.flat[:] = case.acts.out.flat[:] = np.nan
        count = whole(n_rows, TILE_ROWS)
        rest = np.zeros((count - in_tiles, case.n_in), dtype)
        rest[: n_rows - in_tiles] = samples[start + in_tiles : start + n_rows]
        case.acts.x.fill(rest, in_tiles)
        now = case.work(x=samples, start=start, n_rows=n_rows, **given)
        with Unchanged(samples, own, case.acts.x.flat):
            call(affine.in_place_forward_kernel(dtype), op, 0, count, now)
        out = case.acts.out.take(0, count, finite=not own_weights)
        np.testing.assert_array_equal(out[:n_rows], right[:n_rows])


@with_dtypes
@with_shapes
@pytest.mark.parametrize("packed", [False, True])
def test_one_row_that_lies_as_a_vector_has_the_bits_of_many(dtype, shape, packed, rng):
    case = Case(shape, dtype, rng)
    case.w[...], case.b[...] = rng.normal(size=shape), rng.normal(size=shape[1])
    case.params[...], blocks = case.pack()
    case.x[...] = rng.normal(size=case.x.shape)
    case.acts.x.fill(case.x)
    for finish in (KEEP, RECTIFY):
        call(affine.forward_kernel(dtype), case.operation(finish=finish), 0, TILE_ROWS, case.work())
        right = case.acts.out.take(0, TILE_ROWS)[0]
        case.acts.out.flat[:] = np.nan
        params = case.params
        if not packed:
            own = [case.w.ravel(), case.b, np.zeros(8 * lanes(dtype))]
            params, blocks = np.concatenate(own).astype(dtype), (0, case.w.size)
        out_at = 3 + case.n_in
        acts = np.full(out_at + whole(case.n_out, WIDE) + WIDE, np.nan, dtype)
        acts[3:out_at] = case.x[0]
        op = case.operation(finish=finish, blocks=[*blocks, 0, 0], x_at=3, out_at=out_at)
        with Unchanged(params, acts[:out_at]):
            kernel = affine.row_forward_kernel(dtype, packed)
            call(kernel, op, 0, 1, case.work(params=params, acts=acts))
        np.testing.assert_array_equal(acts[out_at : out_at + case.n_out], right)


# --- sparse samples -------------------------------------------------------------------------------


class SparseSamples:
    """Samples in sparse form, with memory for their sorting by column."""

    def __init__(self, x):
        rows, columns = np.nonzero(x)
        self.data = x[rows, columns].copy()
        self.indices = columns.astype(np.int32)
        counts = np.bincount(rows, minlength=len(x))
        self.indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self.column_end = np.full(x.shape[1] + 1, -1, np.int64)
        self.entry_row = np.full(self.data.size + 1, -1, np.int32)
        self.entry_value = np.full(self.data.size + 1, np.nan, x.dtype)

    def memory(self):
        return {
            "x": self.data,
            "indices": self.indices,
            "indptr": self.indptr,
            "column_end": self.column_end,
            "entry_row": self.entry_row,
            "entry_value": self.entry_value,
        }

    def given(self):
        return self.data, self.indices, self.indptr


def sparse(rng, shape, dtype):
    """Draw normal numbers, most of them zero; a whole row and a whole column too."""
    x = rng.normal(size=shape) * (rng.random(shape) < 0.3)
    x[1] = x[:, shape[1] // 2] = 0
    return x.astype(dtype)


@with_dtypes
@with_shapes
@pytest.mark.parametrize("ordered", [False, True])
def test_the_forward_pass_of_sparse_samples_has_the_bits_of_dense_ones(dtype, shape, ordered, rng):
    case, start = Case(shape, dtype, rng), 2
    case.w[...], case.b[...] = rng.normal(size=shape), rng.normal(size=shape[1])
    case.params[...], _ = case.pack()
    x = sparse(rng, (start + N_ROWS, case.n_in), dtype)
    order = np.arange(len(x))
    if ordered:
        rng.shuffle(order)
    rows = x[order[start:]]
    case.acts.x.fill(rows)
    for finish in (KEEP, RECTIFY):
        op = case.operation(finish=finish)
        call(affine.forward_kernel(dtype), op, 0, N_ROWS, case.work())
        right = case.acts.out.take()
        samples = SparseSamples(x)
        memory = samples.memory() | {"order": order if ordered else 0, "start": start}
        for low, count, n_rows in [(0, N_ROWS, N_ROWS), (1, 2, N_ROWS), (2, 9, 4), (0, 0, N_ROWS)]:
            case.acts.out.flat[:] = np.nan
            now = case.work(n_rows=n_rows, **memory)
            with Unchanged(*samples.given(), case.params):
                call(affine.sparse_forward_kernel(dtype), op, low, count, now)
            high = min(low + count, n_rows)
            actual = case.acts.out.take(low, high - low)
            np.testing.assert_array_equal(actual, right[low:high])


@with_dtypes
@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_entries_are_sorted_by_column_by_any_number_of_members(dtype, n_threads, rng):
    n_in, start, n_rows = 13, 3, 7
    x, order = sparse(rng, (20, n_in), dtype), rng.permutation(20)
    for ordered in (order, 0):
        samples = SparseSamples(x)
        memory = samples.memory() | {"order": ordered, "start": start}
        now = work(n_rows=n_rows, n_inputs=n_in, **memory)
        with Unchanged(*samples.given()):
            for thread in range(n_threads):
                call(sort_kernel(dtype), thread, n_threads, now)
        rows = x[order[start : start + n_rows]] if ordered is order else x[start : start + n_rows]
        columns, places = np.nonzero(rows.T)
        n = columns.size
        ends = np.cumsum(np.bincount(columns, minlength=n_in))
        np.testing.assert_array_equal(samples.column_end, [*ends, -1])
        np.testing.assert_array_equal(samples.entry_row[:n], places)
        np.testing.assert_array_equal(samples.entry_value[:n], rows.T[columns, places])
        assert (samples.entry_row[n:] == -1).all()
        assert np.isnan(samples.entry_value[n:]).all()


@with_dtypes
@with_shapes
def test_gradients_of_weights_for_sparse_samples_have_the_bits_of_dense_ones(dtype, shape, rng):
    case = Case(shape, dtype, rng)
    x = sparse(rng, (N_ROWS, case.n_in), dtype)
    case.acts.x.fill(x)
    case.deltas.out.fill(rng.normal(size=case.dout.shape).astype(dtype))
    for n_rows in (1, N_ROWS - 1):
        op, n_i = case.operation(), 3 * TILE_ROWS
        dense = affine.weight_gradient_kernel(dtype)
        right = sum_by_tasks(case, dense, n_i, op, case.work(n_rows=n_rows))
        samples = SparseSamples(x)
        now = case.work(n_rows=n_rows, **samples.memory())
        call(sort_kernel(dtype), 0, 1, now)
        kernel = affine.sparse_weight_gradient_kernel(dtype)
        with Unchanged(*samples.memory().values()):
            actual = sum_by_tasks(case, kernel, n_i, op, now)
        np.testing.assert_array_equal(actual, right)


# --- the plan -------------------------------------------------------------------------------------


@with_dtypes
@pytest.mark.parametrize(("n_in", "n_out"), [(1, 1), (TILE_ROWS + 1, WIDE + 1), (97, HALF)])
def test_the_layout_packs_weights_as_the_kernels_of_a_plan_read_them(dtype, n_in, n_out, rng):
    layers = [Affine(2, n_in), ReLU(), Affine(n_in, n_out)]
    layout, n_rows = ParameterLayout(layers, dtype), 2 * TILE_ROWS
    plan = build(layers, 2, layout, n_rows, Purpose(training=True))
    vector = rng.integers(-5, 6, layout.n_params).astype(dtype)
    params, transposed = np.zeros(layout.n_packed, dtype), np.zeros(layout.n_transposed, dtype)
    layout.pack(vector, params, transposed)
    (w, b), op = layout.tensors(vector)[-1], plan.operations[-1]
    gap = int(op["x_panel"]) - n_rows * TILE_VECTORS * lanes(dtype)
    acts, deltas = (np.full(plan.n_acts, np.nan, dtype) for _ in range(2))

    def matrix(data, at, n):
        laid = Panels((n_rows, n), dtype, offset=int(op[at]), gap=gap)
        laid.flat = data
        return laid

    x, dout = (rng.integers(-5, 6, (n_rows, n)).astype(dtype) for n in (n_in, n_out))
    right_out, right_dx = np.full_like(dout, np.nan), np.full_like(x, np.nan)
    reference.affine_forward(right_out, x, w, b)
    reference.affine_backward_input(right_dx, dout, w)
    reference.relu_backward(right_dx, right_dx, x)
    matrix(acts, "x_at", n_in).fill(x)
    matrix(deltas, "out_at", n_out).fill(dout)
    now = work(acts=acts, deltas=deltas, params=params, transposed=transposed, n_rows=n_rows)
    call(op["forward"], plan.operations[-1:], 0, n_rows, now)
    call(op["backward"], plan.operations[-1:], 0, n_rows, now)
    out, dx = matrix(acts, "out_at", n_out), matrix(deltas, "x_at", n_in)
    for laid, right in [(out, right_out), (dx, right_dx)]:
        for j, columns, rows in laid.parts():
            assert (rows[:, :columns] == right[:, j : j + columns]).all()
            assert (rows[:, columns:] == 0).all()
