"""Losses over blocks of rows with padding, against the plain loops."""

import numpy as np
import pytest

from fastnn import losses as evaluated
from fastnn._jit import kernel
from fastnn.kernels import codes, losses, reference

CODES = {
    "mse": codes.SQUARED_ERROR,
    "binary_cross_entropy": codes.BINARY_CROSS_ENTROPY,
    "softmax_cross_entropy": codes.SOFTMAX_CROSS_ENTROPY,
    "softmax_cross_entropy_dense": codes.SOFTMAX_CROSS_ENTROPY_DENSE,
}
SOFTMAX = ("softmax_cross_entropy", "softmax_cross_entropy_dense")
# (rows, columns, distance of rows)
BLOCKS = [(1, 1, 1), (1, 1, 16), (3, 2, 8), (8, 10, 16), (5, 17, 24), (2, 33, 33)]
LOSS_SCALE, SCALE = 0.5, 0.125  # exact in any type

with_names = pytest.mark.parametrize("name", CODES)
with_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


@kernel
def loss_rows(
    code,
    loss_scale,
    scale,
    n_rows,
    n,
    out,
    o,
    ld,
    dout,
    order,
    first,
    labels,
    targets,
    row_loss,
    at,
):
    losses.loss_rows(
        code, out.dtype.type(loss_scale), out.dtype.type(scale), n_rows, n, out, o, ld, dout,
        order, first, labels, targets, row_loss, at,
    )  # fmt: skip


def make_targets(name, n_rows, n, dtype, rng):
    if name == "softmax_cross_entropy":
        return rng.integers(0, n, n_rows)
    if name == "softmax_cross_entropy_dense":
        return rng.random((n_rows, n)).astype(dtype)  # rows need not sum to 1
    if name == "binary_cross_entropy":
        return rng.choice([0, 0.25, 1], (n_rows, n)).astype(dtype)
    return rng.normal(size=(n_rows, n)).astype(dtype)


def run(name, out, target, ld=None, row_loss_before=0.0):
    """Compute losses and gradients of a block at an offset, of samples in another order."""
    n_rows, n = out.shape
    ld = ld or n
    offset, at, first, n_samples = 3, 2, 4, n_rows + 5
    logits = np.full(offset + n_rows * ld + 9, np.nan, out.dtype)
    block = np.zeros((n_rows, ld), out.dtype)
    block[:, :n] = out
    logits[offset : offset + block.size] = block.ravel()
    dout = np.full_like(logits, np.nan)
    row_loss = np.full(at + n_rows + 1, np.nan)
    row_loss[at : at + n_rows] = row_loss_before
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
        CODES[name], LOSS_SCALE, SCALE, n_rows, n, logits, offset, ld, dout, order, first, labels,
        targets, row_loss, at,
    )  # fmt: skip
    assert np.isnan(row_loss[:at]).all()
    assert np.isnan(row_loss[at + n_rows :]).all()
    assert np.isnan(dout[:offset]).all()
    assert np.isnan(dout[offset + block.size :]).all()
    gradient = dout[offset : offset + block.size].reshape(n_rows, ld)
    assert (gradient[:, n:] == 0).all(), "padding must be zero"
    np.testing.assert_array_equal(logits[offset : offset + block.size], block.ravel())
    return row_loss[at : at + n_rows], gradient[:, :n]


def expected(name, out, target):
    row_loss, dout = np.full(len(out), np.nan, out.dtype), np.full_like(out, np.nan)
    scales = (SCALE,) if name in SOFTMAX else (LOSS_SCALE, SCALE)
    getattr(reference, name)(row_loss, dout, out, target, *scales)
    return row_loss, dout


@with_names
@with_dtypes
def test_losses_and_gradients_are_those_of_the_plain_loops(name, dtype, rng):
    eps = np.finfo(dtype).eps
    for n_rows, n, ld in BLOCKS:
        out = rng.normal(0, 2, (n_rows, n)).astype(dtype)
        target = make_targets(name, n_rows, n, dtype, rng)
        row_loss, dout = run(name, out, target, ld)
        right_loss, right_dout = expected(name, out, target)
        scale = (n + 8) * np.abs(out).max()
        np.testing.assert_allclose(row_loss, right_loss, rtol=8 * eps, atol=scale * eps)
        np.testing.assert_allclose(dout, right_dout, rtol=8 * eps, atol=scale * eps)


@with_dtypes
def test_squared_errors_of_integers_are_exact(dtype, rng):
    for n_rows, n, ld in BLOCKS:
        out = rng.integers(-9, 10, (n_rows, n)).astype(dtype)
        target = rng.integers(-9, 10, (n_rows, n)).astype(dtype)
        row_loss, dout = run("mse", out, target, ld)
        assert (row_loss == LOSS_SCALE * ((out - target) ** 2).sum(axis=1)).all()
        assert (dout == SCALE * (out - target)).all()


@with_names
@with_dtypes
def test_losses_of_rows_accumulate(name, dtype, rng):
    out = rng.normal(size=(3, 4)).astype(dtype)
    target = make_targets(name, 3, 4, dtype, rng)
    once, _ = run(name, out, target)
    again, _ = run(name, out, target, row_loss_before=100.0)
    np.testing.assert_allclose(again, once + 100, rtol=1e-12)


@with_names
@with_dtypes
def test_large_logits_give_finite_losses(name, dtype):
    out = np.array([[1000, -1000], [-1000, 1000], [1000, 1000], [-1000, -1000]], dtype)
    target = np.tile(np.array([1, 0], dtype), (4, 1))
    if name == "softmax_cross_entropy":
        target = np.zeros(4, np.int64)
    row_loss, dout = run(name, out, target, 8)
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
    for place in (0, 9, 16):
        out = rng.normal(size=(3, 17)).astype(dtype)
        target = make_targets(name, 3, 17, dtype, rng)
        right_loss, right_dout = run(name, out, target, 24)
        out[1, place] = np.nan
        row_loss, dout = run(name, out, target, 24)
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
    row_loss, _ = run(name, out, target, 8)
    assert not np.isfinite(row_loss).any()


@with_dtypes
def test_one_hot_rows_are_labels(dtype, rng):
    out, labels = rng.normal(size=(5, 7)).astype(dtype), rng.integers(0, 7, 5)
    row_loss, dout = run("softmax_cross_entropy", out, labels, 8)
    dense_loss, dense_dout = run(
        "softmax_cross_entropy_dense", out, np.eye(7, dtype=dtype)[labels], 8
    )
    tolerance = 16 * np.finfo(dtype).eps
    np.testing.assert_allclose(dense_loss, row_loss, rtol=tolerance)
    np.testing.assert_allclose(dense_dout, dout, rtol=tolerance, atol=tolerance)


@with_dtypes
def test_a_row_does_not_depend_on_the_rows_beside_it(dtype, rng):
    for name in CODES:
        out = rng.normal(size=(6, 17)).astype(dtype)
        target = make_targets(name, 6, 17, dtype, rng)
        row_loss, dout = run(name, out, target, 24)
        alone_loss, alone_dout = run(name, out[4:5], target[4:5], 24)
        np.testing.assert_array_equal(alone_loss, row_loss[4:5])
        np.testing.assert_array_equal(alone_dout, dout[4:5])


@with_names
def test_gradients_are_central_differences(name, rng):
    out, target = rng.normal(size=(3, 4)), make_targets(name, 3, 4, "float64", rng)
    _, dout = run(name, out, target, 8)
    # The gradient of the sum of the rows' losses, with the factor that belongs to it.
    factor = {"mse": SCALE / (2 * LOSS_SCALE), "binary_cross_entropy": SCALE / LOSS_SCALE}
    h = 1e-6
    for place in np.ndindex(out.shape):
        up, down = out.copy(), out.copy()
        up[place] += h
        down[place] -= h
        change = (run(name, up, target)[0] - run(name, down, target)[0]).sum() / (2 * h)
        assert dout[place] == pytest.approx(factor.get(name, SCALE) * change, abs=1e-8)


@with_names
@with_dtypes
def test_evaluation_gives_the_losses_of_training(name, dtype, rng):
    out = 5 * rng.normal(size=(5, 7)).astype(dtype)
    target = make_targets(name, 5, 7, dtype, rng)
    labels, targets = np.empty(0, np.int64), np.empty((0, 7), dtype)
    if name == "softmax_cross_entropy":
        labels = target
    else:
        targets = target
    loss = evaluated.get("softmax_cross_entropy" if name in SOFTMAX else name)
    expected = run(name, out, target)[0] / (LOSS_SCALE if name not in SOFTMAX else 1)
    rows = loss.of_rows(out, labels, targets) / loss.scales(7)[0]
    np.testing.assert_allclose(rows, expected, rtol=20 * np.finfo(dtype).eps)
