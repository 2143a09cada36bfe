"""Losses over rows of matrices in panels, against the plain loops."""

import numpy as np
import pytest

from fastnn import losses as evaluated
from fastnn._jit import kernel
from fastnn.kernels import codes, losses, reference
from fastnn.kernels.tile import TILE_VECTORS
from tests.panel_layout import Panels, lanes

CODES = {
    "mse": codes.SQUARED_ERROR,
    "binary_cross_entropy": codes.BINARY_CROSS_ENTROPY,
    "poisson": codes.POISSON,
    "softmax_cross_entropy": codes.SOFTMAX_CROSS_ENTROPY,
    "softmax_cross_entropy_dense": codes.SOFTMAX_CROSS_ENTROPY_DENSE,
}
SOFTMAX = ("softmax_cross_entropy", "softmax_cross_entropy_dense")
WIDE = TILE_VECTORS * lanes("float32")  # columns of a panel; half as many are one of float64
# (rows, columns): around whole vectors and whole panels.
BLOCKS = [
    (1, 1),
    (3, 2),
    (8, 10),
    (5, 17),
    (4, WIDE // 2),
    (3, WIDE // 2 + 1),
    (2, WIDE - 1),
    (3, WIDE),
    (4, WIDE + 1),
    (2, 2 * WIDE),
    (3, 97),
]
LOSS_SCALE, SCALE = 0.5, 0.125  # exact in any type

with_names = pytest.mark.parametrize("name", CODES)
with_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


@kernel
def loss_rows(
    code, loss_scale, scale, row, n_rows, n, out, dout, o, distance, order, first, labels, targets,
    row_loss,
):  # fmt: skip
    losses.loss_rows(
        code, out.dtype.type(loss_scale), out.dtype.type(scale), row, n_rows, n, out, dout, o,
        distance, order, first, labels, targets, row_loss,
    )  # fmt: skip


def make_targets(name, n_rows, n, dtype, rng):
    if name == "softmax_cross_entropy":
        return rng.integers(0, n, n_rows)
    if name == "softmax_cross_entropy_dense":
        return rng.random((n_rows, n)).astype(dtype)  # rows need not sum to 1
    if name == "binary_cross_entropy":
        return rng.choice([0, 0.25, 1], (n_rows, n)).astype(dtype)
    if name == "poisson":
        return rng.poisson(1.5, (n_rows, n)).astype(dtype)
    return rng.normal(size=(n_rows, n)).astype(dtype)


def run(name, out, target, row=2, row_loss_before=0.0):
    """Compute losses and gradients of rows among others, of samples in another order."""
    n_rows, n = out.shape
    first, n_samples, shape = 4, n_rows + 5, (row + n_rows + 2, n)
    # The padding of the output may hold anything: that of the gradient is zero in any case.
    logits, dout = Panels(shape, out.dtype), Panels(shape, out.dtype)
    logits.fill(out, row, padding=np.nan)
    before = logits.flat.copy()
    row_loss = np.full(row + n_rows + 1, np.nan)
    row_loss[row : row + n_rows] = row_loss_before
    # Row r of the block is sample order[first + r].
    order = np.random.default_rng(3).permutation(n_samples)
    order = np.concatenate([np.full(first, -1), order])
    samples = order[first : first + n_rows]
    labels, targets = np.full(n_samples, -1), np.full((n_samples, n), np.nan, out.dtype)
    if name == "softmax_cross_entropy":
        labels[samples] = target
    else:
        targets[samples] = target
    loss_rows(
        CODES[name], LOSS_SCALE, SCALE, row, n_rows, n, logits.flat, dout.flat, dout.offset,
        dout.distance, order, first, labels, targets, row_loss,
    )  # fmt: skip
    assert np.isnan(row_loss[:row]).all()
    assert np.isnan(row_loss[row + n_rows :]).all()
    np.testing.assert_array_equal(logits.flat, before)
    return row_loss[row : row + n_rows], dout.take(row, n_rows)


def expected(name, out, target):
    row_loss, dout = np.full(len(out), np.nan, out.dtype), np.full_like(out, np.nan)
    scales = (SCALE,) if name in SOFTMAX else (LOSS_SCALE, SCALE)
    getattr(reference, name)(row_loss, dout, out, target, *scales)
    return row_loss, dout


@with_names
@with_dtypes
def test_losses_and_gradients_are_those_of_the_plain_loops(name, dtype, rng):
    eps = np.finfo(dtype).eps
    for n_rows, n in BLOCKS:
        out = rng.normal(0, 2, (n_rows, n)).astype(dtype)
        target = make_targets(name, n_rows, n, dtype, rng)
        row_loss, dout = run(name, out, target)
        right_loss, right_dout = expected(name, out, target)
        scale = (n + 8) * np.abs(out).max()
        np.testing.assert_allclose(row_loss, right_loss, rtol=8 * eps, atol=scale * eps)
        np.testing.assert_allclose(dout, right_dout, rtol=8 * eps, atol=scale * eps)


@with_dtypes
def test_squared_errors_of_integers_are_exact(dtype, rng):
    for n_rows, n in BLOCKS:
        out = rng.integers(-9, 10, (n_rows, n)).astype(dtype)
        target = rng.integers(-9, 10, (n_rows, n)).astype(dtype)
        row_loss, dout = run("mse", out, target)
        assert (row_loss == LOSS_SCALE * ((out - target) ** 2).sum(axis=1)).all()
        assert (dout == SCALE * (out - target)).all()


@with_names
@with_dtypes
def test_losses_of_rows_are_overwritten(name, dtype, rng):
    out = rng.normal(size=(3, 4)).astype(dtype)
    target = make_targets(name, 3, 4, dtype, rng)
    once, _ = run(name, out, target)
    again, _ = run(name, out, target, row_loss_before=np.nan)
    np.testing.assert_array_equal(again, once)


@pytest.mark.parametrize("name", [name for name in CODES if name != "poisson"])
@with_dtypes
def test_large_logits_give_finite_losses(name, dtype):
    out = np.array([[1000, -1000], [-1000, 1000], [1000, 1000], [-1000, -1000]], dtype)
    target = np.tile(np.array([1, 0], dtype), (4, 1))
    if name == "softmax_cross_entropy":
        target = np.zeros(4, np.int64)
    row_loss, dout = run(name, out, target)
    assert np.isfinite(row_loss).all()
    assert np.isfinite(dout).all()
    if name in SOFTMAX:
        np.testing.assert_allclose(row_loss, [0, 2000, np.log(2), np.log(2)], rtol=1e-6)
        np.testing.assert_allclose(dout / SCALE, [[0, 0], [-1, 1], [-0.5, 0.5], [-0.5, 0.5]])
    elif name == "binary_cross_entropy":
        np.testing.assert_array_equal(row_loss / LOSS_SCALE, [0, 2000, 1000, 1000])
        np.testing.assert_array_equal(dout / SCALE, [[0, 0], [-1, 1], [0, 1], [-1, 0]])


@with_names
@with_dtypes
def test_nan_reaches_the_loss_of_its_row_and_no_other(name, dtype, rng):
    n = WIDE + 5
    for place in (0, 9, WIDE // 2, WIDE - 1, n - 1):
        out = rng.normal(size=(3, n)).astype(dtype)
        target = make_targets(name, 3, n, dtype, rng)
        right_loss, right_dout = run(name, out, target)
        out[1, place] = np.nan
        row_loss, dout = run(name, out, target)
        assert np.isnan(row_loss[1])
        assert np.isnan(dout[1, place])
        if name in SOFTMAX:
            assert np.isnan(dout[1]).all()
        np.testing.assert_array_equal(row_loss[[0, 2]], right_loss[[0, 2]])
        np.testing.assert_array_equal(dout[[0, 2]], right_dout[[0, 2]])


@with_names
@with_dtypes
def test_an_infinite_output_is_not_a_finite_loss(name, dtype):
    out, target = np.array([[np.inf, 0]], dtype), np.array([[0, 1]], dtype)
    if name == "softmax_cross_entropy":
        target = np.ones(1, np.int64)
    row_loss, _ = run(name, out, target)
    assert not np.isfinite(row_loss).any()


@with_dtypes
def test_one_hot_rows_are_labels(dtype, rng):
    out, labels = rng.normal(size=(5, 7)).astype(dtype), rng.integers(0, 7, 5)
    row_loss, dout = run("softmax_cross_entropy", out, labels)
    dense_loss, dense_dout = run("softmax_cross_entropy_dense", out, np.eye(7, dtype=dtype)[labels])
    tolerance = 16 * np.finfo(dtype).eps
    np.testing.assert_allclose(dense_loss, row_loss, rtol=tolerance)
    np.testing.assert_allclose(dense_dout, dout, rtol=tolerance, atol=tolerance)


@with_dtypes
def test_the_largest_output_and_the_label_may_be_in_any_panel(dtype):
    n = 2 * WIDE + 5
    places = np.array([0, WIDE // 2 - 1, WIDE // 2, WIDE - 1, WIDE, n - 1])
    hot = np.eye(n, dtype=dtype)[places]
    out = 1000 * hot
    for label, right in [(places, 0), (np.roll(places, 1), 1000)]:
        dense = np.eye(n, dtype=dtype)[label]
        row_loss, dout = run("softmax_cross_entropy", out, label)
        assert (row_loss == right).all()
        assert (dout == SCALE * (hot - dense)).all()
        row_loss, dout = run("softmax_cross_entropy_dense", out, dense)
        assert (row_loss == right).all()
        assert (dout == SCALE * (hot - dense)).all()


@with_names
@with_dtypes
def test_a_row_does_not_depend_on_the_rows_beside_it(name, dtype, rng):
    out = rng.normal(size=(7, 97)).astype(dtype)
    target = make_targets(name, 7, 97, dtype, rng)
    row_loss, dout = run(name, out, target, row=0)
    for row, n_rows in [(0, 1), (1, 4), (5, 2)]:
        rows = slice(row, row + n_rows)
        some_loss, some_dout = run(name, out[rows], target[rows], row=row)
        np.testing.assert_array_equal(some_loss, row_loss[rows])
        np.testing.assert_array_equal(some_dout, dout[rows])


@with_names
def test_without_rows_nothing_is_written(name, rng):
    run(name, np.empty((0, 29)), make_targets(name, 0, 29, "float64", rng))


@with_names
@pytest.mark.parametrize("n", [4, WIDE // 2 + 1])
def test_gradients_are_central_differences(name, n, rng):
    out, target = rng.normal(size=(3, n)), make_targets(name, 3, n, "float64", rng)
    _, dout = run(name, out, target)
    # The gradient of the sum of the rows' losses, with the factor that belongs to it.
    one = SCALE / LOSS_SCALE
    factor = {"mse": one / 2, "binary_cross_entropy": one, "poisson": one}
    h = 1e-6
    for place in np.ndindex(out.shape):
        up, down = out.copy(), out.copy()
        up[place] += h
        down[place] -= h
        change = (run(name, up, target)[0] - run(name, down, target)[0]).sum() / (2 * h)
        assert dout[place] == pytest.approx(factor.get(name, SCALE) * change, abs=1e-8)


@with_names
@with_dtypes
@pytest.mark.parametrize("n", [7, WIDE + 1])
def test_evaluation_gives_the_losses_of_training(name, dtype, n, rng):
    out = 5 * rng.normal(size=(5, n)).astype(dtype)
    target = make_targets(name, 5, n, dtype, rng)
    labels, targets = np.empty(0, np.int64), np.empty((0, n), dtype)
    if name == "softmax_cross_entropy":
        labels = target
    else:
        targets = target
    loss = evaluated.get("softmax_cross_entropy" if name in SOFTMAX else name)
    expected = run(name, out, target)[0] / (LOSS_SCALE if name not in SOFTMAX else 1)
    rows = loss.of_rows(out, labels, targets) / loss.scales(n)[0]
    np.testing.assert_allclose(rows, expected, rtol=20 * np.finfo(dtype).eps)
