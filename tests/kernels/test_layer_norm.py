"""The kernels of layer normalisation, called at their addresses, against the plain loops."""

import numpy as np
import pytest

from fastnn.kernels import affine, layer_norm, reference
from fastnn.kernels.panels import padded_width, panel_columns, panel_width
from fastnn.kernels.tile import TILE_VECTORS
from tests.kernels.dtypes import each_dtype
from tests.kernels.operations import Memory, Unchanged, call, task, work
from tests.panel_layout import lanes

EPSILON = 1e-3
WIDE = TILE_VECTORS * lanes("float32")  # columns of a panel; half as many are one of float64
# (rows, columns): around cells, groups, whole vectors and whole panels.
BLOCKS = [
    (1, 1),
    (3, 3),
    (2, 4),
    (3, 7),
    (5, 8),
    (2, 15),
    (3, 17),
    (4, WIDE // 2),
    (2, WIDE - 1),
    (3, WIDE),
    (2, WIDE + 1),
    (7, 97),
]

with_dtypes = each_dtype("layer norm")
with_blocks = pytest.mark.parametrize("shape", BLOCKS, ids=str)


class Case:
    """Rows in panels among others, and the parameters of their columns."""

    def __init__(self, shape, dtype, rng, before=2):
        self.shape, self.dtype, self.before = shape, dtype, before
        n_rows, n = shape
        self.x, self.dout = rng.normal(size=(2, *shape)).astype(dtype)
        self.x += 2
        self.total = before + n_rows + 2
        self.step = self.total + 3
        self.acts = Memory(self.total, n, n, dtype, 2 * self.step)
        self.deltas = Memory(self.total, n, n, dtype)
        width = padded_width(n, dtype.itemsize)
        self.params = np.full((2, width + 1), np.nan, dtype)
        self.params[:, :n] = rng.normal(size=(2, n))
        self.params[:, n:width] = 0
        self.gamma, self.beta = (row[:n].copy() for row in self.params)

    def call(self, kernel, *arguments, n_rows=0):
        now = work(acts=self.acts.data, deltas=self.deltas.data, params=self.params, n_rows=n_rows)
        op = self.acts.operation(
            blocks=[0, self.params.shape[1], 0, 0], numbers=[EPSILON, 0, 0], state_step=self.step
        )
        arguments = [*arguments[:1], now, *arguments[1:]] if n_rows else [*arguments, now]
        call(kernel(self.dtype), op, *arguments)

    def forward(self):
        self.acts.x.fill(self.x, self.before, padding=np.nan)
        with Unchanged(self.params, self.acts.x.flat):
            self.call(layer_norm.forward_kernel, self.before, len(self.x))
        return self.acts.out.take(self.before, len(self.x))

    def backward(self):
        self.deltas.out.fill(self.dout, self.before, padding=np.nan)
        with Unchanged(self.params, self.acts.data, self.deltas.out.flat):
            self.call(layer_norm.backward_kernel, self.before, len(self.x))
        return self.deltas.x.take(self.before, len(self.x))

    def expected_backward(self):
        dx, dgamma, dbeta = np.empty_like(self.x), *np.empty((2, self.shape[1]), self.dtype)
        reference.layer_norm_backward(dx, dgamma, dbeta, self.dout, self.x, self.gamma, EPSILON)
        return dx, dgamma, dbeta


@with_blocks
@with_dtypes
def test_rows_are_normalised_as_by_the_plain_loops(shape, dtype, rng):
    eps, (n_rows, n) = np.finfo(dtype).eps, shape
    case = Case(shape, dtype, rng)
    out, right = case.forward(), np.full_like(case.x, np.nan)
    reference.layer_norm_forward(right, case.x, case.gamma, case.beta, EPSILON)
    np.testing.assert_allclose(out, right, rtol=0, atol=64 * (n + 8) * eps)
    rows = slice(case.before, case.before + n_rows)
    mean, inverse = case.acts.state[rows], case.acts.state[case.step :][rows]
    np.testing.assert_allclose(mean, case.x.mean(axis=1), rtol=8 * (n + 8) * eps)
    right = 1 / np.sqrt(case.x.var(axis=1) + EPSILON)
    np.testing.assert_allclose(inverse, right, rtol=16 * (n + 8) * eps)
    # Nothing else of the state was written.
    assert np.isnan(case.acts.state).sum() == 2 * (case.step - n_rows)


@with_blocks
@with_dtypes
def test_gradients_of_the_input_are_those_of_the_plain_loops(shape, dtype, rng):
    eps, (_, n) = np.finfo(dtype).eps, shape
    case = Case(shape, dtype, rng)
    case.forward()
    right = case.expected_backward()[0]
    scale = np.abs(case.dout * case.gamma).max() / np.sqrt(case.x.var(axis=1) + EPSILON).min()
    np.testing.assert_allclose(case.backward(), right, rtol=0, atol=64 * (n + 8) * eps * scale)


@with_blocks
@with_dtypes
def test_gradients_of_scale_and_shift_are_those_of_the_plain_loops(shape, dtype, rng):
    eps, (n_rows, n) = np.finfo(dtype).eps, shape
    case = Case(shape, dtype, rng, before=0)
    case.forward()
    case.acts.x.fill(case.x)
    case.deltas.out.fill(case.dout)
    _, dgamma, dbeta = case.expected_backward()
    scale = 4 * np.abs(case.dout).sum(axis=0).max()
    for kernel, right in [
        (layer_norm.scale_gradient_kernel, dgamma), (affine.column_sums_kernel, dbeta)
    ]:  # fmt: skip
        for j in range(0, n, panel_columns(dtype.itemsize)):
            width = panel_width(n, j, dtype.itemsize)
            out = np.full(width + 3, np.nan, dtype)
            with Unchanged(case.acts.data, case.deltas.data):
                case.call(kernel, task(n_i=1, j=j), out, n_rows=n_rows)
            columns = min(n - j, width)
            np.testing.assert_allclose(
                out[:columns], right[j : j + columns], rtol=0, atol=64 * (n_rows + n) * eps * scale
            )
            assert (out[columns:width] == 0).all()
            assert np.isnan(out[width:]).all()


@with_dtypes
def test_a_row_does_not_depend_on_the_rows_beside_it(dtype, rng):
    case = Case((7, 97), dtype, rng, before=0)
    out, dx = case.forward(), case.backward()
    for row, n_rows in [(0, 1), (1, 4), (5, 2)]:
        some = Case((n_rows, 97), dtype, rng, before=row)
        some.x, some.dout = case.x[row : row + n_rows], case.dout[row : row + n_rows]
        some.params[:] = case.params
        np.testing.assert_array_equal(some.forward(), out[row : row + n_rows])
        np.testing.assert_array_equal(some.backward(), dx[row : row + n_rows])


@with_dtypes
def test_a_row_of_equal_numbers_is_the_shift(dtype, rng):
    for n in (1, 5, 97):
        case = Case((4, n), dtype, rng)
        case.x[:] = np.array([[0.1], [1 / 3], [1e6 / 7], [0]], dtype)
        np.testing.assert_array_equal(case.forward(), np.broadcast_to(case.beta, (4, n)))


@with_dtypes
def test_nan_and_what_overflows_stay_in_their_row(dtype, rng):
    for n in (2, 7, WIDE + 3):
        case = Case((4, n), dtype, rng)
        case.x[1, n - 1], case.x[2, 0] = np.nan, np.finfo(dtype).max
        out = case.forward()
        assert np.isnan(out[[1, 2]]).all()
        assert np.isfinite(out[[0, 3]]).all()


@with_dtypes
def test_without_rows_nothing_is_written(dtype, rng):
    case = Case((0, 29), dtype, rng)
    assert case.forward().shape == case.backward().shape == (0, 29)
    assert np.isnan(case.acts.state).all()
