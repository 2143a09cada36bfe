"""The kernels of batch normalisation, called at their addresses, against the plain loops."""

import numpy as np
import pytest

from fastnn.kernels import batch_norm, reference
from fastnn.kernels.panels import padded_width
from fastnn.kernels.tile import TILE_VECTORS
from tests.kernels.dtypes import each_dtype
from tests.kernels.operations import Memory, Unchanged, call, work
from tests.panel_layout import lanes

EPSILON, MOMENTUM = 1e-3, 0.25
WIDE = TILE_VECTORS * lanes("float32")  # columns of a panel; half as many are one of float64
# (rows, columns): around whole vectors and whole panels.
BLOCKS = [
    (2, 1),
    (3, 7),
    (5, WIDE // 2 - 1),
    (4, WIDE // 2),
    (13, WIDE - 1),
    (3, WIDE),
    (2, WIDE + 1),
    (7, 97),
]

with_dtypes = each_dtype("batch norm")
with_blocks = pytest.mark.parametrize("shape", BLOCKS, ids=str)


class Case:
    """A batch in panels, and the parameters of its columns."""

    def __init__(self, shape, dtype, rng, behind=3):
        self.shape, self.dtype = shape, dtype
        n_rows, n = shape
        self.x, self.dout = rng.normal(size=(2, *shape)).astype(dtype)
        self.x += 2
        self.width = padded_width(n, dtype.itemsize)
        self.step = self.width + 3
        self.acts = Memory(n_rows + behind, n, n, dtype, 3 * self.step)
        self.deltas = Memory(n_rows + behind, n, n, dtype, 3 * self.step)
        self.params = np.zeros((4, self.width + 1), dtype)
        self.params[:, self.width] = np.nan
        self.params[:, :n] = rng.normal(size=(4, n))
        self.params[3, :n] = rng.random(n) + 0.5
        self.numbers = [EPSILON, MOMENTUM, 0]

    def operation(self, needs_dx=True):
        return self.acts.operation(
            blocks=[k * (self.width + 1) for k in range(4)],
            numbers=self.numbers, state_step=self.step, needs_dx=needs_dx,
        )  # fmt: skip

    def call(self, kernel, low, count, needs_dx=True):
        now = work(
            acts=self.acts.data, deltas=self.deltas.data, params=self.params, n_rows=self.shape[0]
        )
        call(kernel(self.dtype), self.operation(needs_dx), low, count, now)

    @property
    def n_panels(self):
        return len(list(self.acts.x.parts()))

    def columns(self, memory, k):
        """Return a vector of the state, of which nothing but its padding may lie behind it."""
        return memory.state[k * self.step :][: self.shape[1]]

    def forward(self, at_once=None):
        """Normalise the batch, some panels at a time; return the result."""
        self.acts.x.fill(self.x)
        given = self.params[:2].copy(), self.acts.x.flat.copy()
        count = at_once or self.n_panels
        for low in range(0, self.n_panels, count):
            self.call(batch_norm.forward_kernel, low, min(count, self.n_panels - low))
        np.testing.assert_array_equal(self.params[:2], given[0])
        np.testing.assert_array_equal(self.acts.x.flat, given[1])
        return self.acts.out.take(0, self.shape[0])

    def statistics(self):
        mean, variance = np.full((2, self.shape[1]), np.nan, self.dtype)
        reference.column_statistics(mean, variance, self.x)
        return mean, variance


@with_blocks
@with_dtypes
def test_columns_are_normalised_as_by_the_plain_loops(shape, dtype, rng):
    eps, (n_rows, n) = np.finfo(dtype).eps, shape
    case = Case(shape, dtype, rng)
    before = case.params[:, :n].copy()
    out = case.forward()
    mean, variance = case.statistics()
    right = np.full_like(out, np.nan)
    reference.batch_norm_forward(right, case.x, mean, variance, *before[:2], EPSILON)
    np.testing.assert_allclose(out, right, rtol=0, atol=64 * n_rows * eps)
    # What the backward pass needs.
    inverse = 1 / np.sqrt(variance + EPSILON)
    np.testing.assert_allclose(case.columns(case.acts, 0), mean, rtol=8 * n_rows * eps)
    np.testing.assert_allclose(case.columns(case.acts, 1), inverse, rtol=16 * n_rows * eps)
    np.testing.assert_allclose(
        case.columns(case.acts, 2), inverse * before[0], rtol=16 * n_rows * eps
    )
    # The running statistics have moved: towards the unbiased variance.
    moved = before[2] + MOMENTUM * (mean - before[2])
    np.testing.assert_allclose(case.params[2, :n], moved, rtol=0, atol=8 * n_rows * eps)
    moved = before[3] + MOMENTUM * (variance * n_rows / (n_rows - 1) - before[3])
    np.testing.assert_allclose(case.params[3, :n], moved, rtol=0, atol=16 * n_rows * eps)
    assert np.isnan(case.params[:, case.width]).all()


@with_blocks
@with_dtypes
def test_gradients_are_those_of_the_plain_loops(shape, dtype, rng):
    eps, (n_rows, n) = np.finfo(dtype).eps, shape
    case = Case(shape, dtype, rng)
    case.forward()
    case.deltas.out.fill(case.dout)
    with Unchanged(case.acts.data, case.params, case.deltas.out.flat):
        case.call(batch_norm.backward_kernel, 0, case.n_panels)
    mean, variance = case.statistics()
    dx, dgamma, dbeta = np.empty_like(case.x), *np.empty((2, n), dtype)
    gamma = case.params[0, :n].copy()
    reference.batch_norm_backward(
        dx, dgamma, dbeta, case.dout, case.x, mean, variance, gamma, EPSILON
    )
    scale = np.abs(case.dout).sum(axis=0).max() * 4
    bound = 64 * n_rows * eps * scale
    np.testing.assert_allclose(case.columns(case.deltas, 0), dgamma, rtol=0, atol=bound)
    np.testing.assert_allclose(case.columns(case.deltas, 1), dbeta, rtol=0, atol=bound)
    actual = case.deltas.x.take(0, n_rows)
    steepest = np.abs(gamma / np.sqrt(variance + EPSILON)).max()
    np.testing.assert_allclose(actual, dx, rtol=0, atol=bound * max(1, steepest))


@with_dtypes
def test_without_a_need_for_it_no_gradient_of_the_input_is_written(dtype, rng):
    case = Case((5, 7), dtype, rng)
    case.forward()
    case.deltas.out.fill(case.dout)
    with Unchanged(case.acts.data, case.deltas.x.flat):
        case.call(batch_norm.backward_kernel, 0, case.n_panels, needs_dx=False)
    assert np.isfinite(case.columns(case.deltas, 0)).all()
    np.testing.assert_allclose(
        case.columns(case.deltas, 1), case.dout.sum(axis=0), atol=16 * np.finfo(dtype).eps
    )


@with_dtypes
def test_panels_do_not_depend_on_each_other(dtype, rng):
    case = Case((5, 97), dtype, rng)
    other = Case((5, 97), dtype, rng)
    other.x, other.dout = case.x, case.dout
    other.params[:] = case.params
    np.testing.assert_array_equal(case.forward(), other.forward(at_once=1))
    np.testing.assert_array_equal(case.params, other.params)
    for one, at_once in ((case, case.n_panels), (other, 1)):
        one.deltas.out.fill(one.dout)
        for low in range(0, one.n_panels, at_once):
            one.call(batch_norm.backward_kernel, low, at_once)
    for k in range(2):
        np.testing.assert_array_equal(case.columns(case.deltas, k), other.columns(other.deltas, k))
    np.testing.assert_array_equal(case.deltas.x.take(0, 5), other.deltas.x.take(0, 5))


@with_dtypes
def test_a_column_of_equal_numbers_is_the_shift(dtype, rng):
    case = Case((7, 5), dtype, rng)
    case.x[:] = np.array([0.1, 1 / 3, 1e6 / 7, -0.7, 0], dtype)
    out = case.forward()
    np.testing.assert_array_equal(out, np.broadcast_to(case.params[1, :5], out.shape))


@with_dtypes
def test_nan_and_what_overflows_stay_in_their_column(dtype, rng):
    case = Case((5, WIDE + 3), dtype, rng)
    case.x[1, 1], case.x[2, WIDE] = np.nan, np.finfo(dtype).max
    case.acts.x.fill(case.x)
    case.call(batch_norm.forward_kernel, 0, case.n_panels)
    out = case.acts.out.take(0, 5)
    assert np.isnan(out[:, [1, WIDE]]).all()
    assert np.isfinite(np.delete(out, [1, WIDE], axis=1)).all()


@with_blocks
@with_dtypes
def test_predictions_take_the_running_statistics(shape, dtype, rng):
    eps, (n_rows, n) = np.finfo(dtype).eps, shape
    case = Case(shape, dtype, rng)
    gamma, beta, mean, variance = (row[:n].copy() for row in case.params)
    right = np.full_like(case.x, np.nan)
    reference.batch_norm_forward(right, case.x, mean, variance, gamma, beta, EPSILON)
    scale = 8 * (np.abs(case.x).max() + np.abs(mean).max()) * max(1, np.abs(gamma).max())
    for low, count in [(0, n_rows), (1, 1), (0, 0)]:
        case.acts.x.fill(case.x, padding=np.nan)
        case.acts.out.flat[:] = np.nan
        case.acts.out.fill(np.full((count, n), np.nan, dtype), low)  # its padding is zero already
        with Unchanged(case.params, case.acts.x.flat):
            case.call(batch_norm.evaluation_kernel, low, count)
        out = case.acts.out.take(low, count)
        np.testing.assert_allclose(out, right[low : low + count], rtol=0, atol=8 * eps * scale)
