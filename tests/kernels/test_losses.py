"""Losses over rows of matrices in panels, against the plain loops."""

import numpy as np
import pytest

from fastnn import losses as evaluated
from fastnn.kernels import losses, reference
from fastnn.kernels.job import TRAINING_JOB
from fastnn.kernels.tile import TILE_VECTORS
from tests.kernels.dtypes import each_dtype
from tests.kernels.operations import Memory, Unchanged, call, record, work
from tests.panel_layout import lanes

KERNELS = {
    "mse": "squared_error",
    "binary_cross_entropy": "binary_cross_entropy",
    "poisson": "poisson",
    "softmax_cross_entropy": "softmax_cross_entropy",
    "softmax_cross_entropy_dense": "softmax_of_probabilities",
    "huber": "huber",
    "quantile": "quantile",
    "mae": "quantile",  # twice the loss of the median
    "smoothed binary_cross_entropy": "binary_cross_entropy",
    "smoothed softmax_cross_entropy": "softmax_of_smoothed_labels",
    "smoothed softmax_cross_entropy_dense": "softmax_of_probabilities",
}
SOFTMAX = [name for name in KERNELS if "softmax" in name]
LABELLED = ("softmax_cross_entropy", "smoothed softmax_cross_entropy")
SMOOTHED = {
    "smoothed binary_cross_entropy": "binary_cross_entropy",
    "smoothed softmax_cross_entropy": "softmax_cross_entropy_dense",
    "smoothed softmax_cross_entropy_dense": "softmax_cross_entropy_dense",
}
SMOOTHING, DELTA = 0.1, 1.5
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
TOTAL_WEIGHT = 4.0  # of a batch; divides the gradient

with_names = pytest.mark.parametrize("name", KERNELS)
with_dtypes = each_dtype("losses")


def parameters_of(name, n):
    if name == "quantile":
        return np.linspace(0.1, 0.8, n)
    if name == "mae":
        return np.full(n, 0.5)
    return np.array([{"huber": DELTA}.get(name, SMOOTHING if name in SMOOTHED else 0.0)])


def make_targets(name, n_rows, n, dtype, rng):
    name = name.removeprefix("smoothed ")
    if name == "softmax_cross_entropy":
        return rng.integers(0, n, n_rows)
    if name == "softmax_cross_entropy_dense":
        return rng.random((n_rows, n)).astype(dtype)  # rows need not sum to 1
    if name == "binary_cross_entropy":
        return rng.choice([0, 0.25, 1], (n_rows, n)).astype(dtype)
    if name == "poisson":
        return rng.poisson(1.5, (n_rows, n)).astype(dtype)
    return rng.normal(size=(n_rows, n)).astype(dtype)


def run_batch(name, out, target, row=2, loss_before=0.0, weights=None):
    """Compute losses and gradients of rows among others, of samples in another order.

    Return the losses and the gradients of the rows, and what was added to the sums of losses.
    """
    n_rows, n = out.shape
    batch_size = row + n_rows + 3
    # Of the second batch: row r is sample order[batch_size + r].
    n_samples = 2 * batch_size
    order = np.random.default_rng(3).permutation(n_samples)
    samples = order[batch_size + row : batch_size + row + n_rows]
    acts, deltas = (Memory(row + n_rows + 2, 1, n, out.dtype) for _ in range(2))
    # The padding of the output may hold anything: that of the gradient is zero in any case.
    acts.out.fill(out, row, padding=np.nan)
    batch_loss, row_loss = np.full(batch_size, np.nan), np.full(batch_size, 0.25)
    batch_loss[row : row + n_rows] = loss_before
    labels, targets = np.full(n_samples, -1), np.full((n_samples, n), np.nan, out.dtype)
    if name in LABELLED:
        labels[samples] = target
    else:
        targets[samples] = target
    sample_weight = np.full(n_samples, np.nan)
    if weights is not None:
        sample_weight[samples] = weights
    op, parameters = acts.operation(), parameters_of(name, n)
    now = work(operations=op, acts=acts.data, deltas=deltas.data, order=order)
    job = record(
        TRAINING_JOB, work=now, n_operations=1, batch_size=batch_size, n_order=n_samples - 1,
        batch_weight=np.array([np.nan, TOTAL_WEIGHT]), batch_loss=batch_loss, row_loss=row_loss,
        labels=labels, targets=targets, n_samples=n_samples, loss_parameters=parameters,
        loss_scale=LOSS_SCALE, gradient_scale=SCALE * TOTAL_WEIGHT,
        is_weighted=weights is not None, sample_weight=sample_weight,
    )  # fmt: skip
    with Unchanged(acts.data, order, labels, targets, parameters, sample_weight, job):
        call(losses.loss_kernel(KERNELS[name], out.dtype), row, n_rows, 1, job)
    rows = slice(row, row + n_rows)
    rest = np.ones(batch_size, bool)
    rest[rows] = False
    assert np.isnan(batch_loss[rest]).all()
    assert (row_loss[rest] == 0.25).all()
    share = (batch_size - 1) / TOTAL_WEIGHT  # the last batch has one row less
    added = (row_loss[rows] - 0.25) / share
    return batch_loss[rows], deltas.out.take(row, n_rows), added


def run(name, out, target, row=2, loss_before=0.0):
    loss, dout, _ = run_batch(name, out, target, row, loss_before)
    return loss, dout


def expected(name, out, target):
    row_loss, dout = np.full(len(out), np.nan, out.dtype), np.full_like(out, np.nan)
    numbers = (SCALE,) if name in SOFTMAX else (LOSS_SCALE, SCALE)
    if name in ("huber", "quantile"):
        parameters = parameters_of(name, out.shape[1])
        numbers = (parameters if name == "quantile" else DELTA, *numbers)
    if name == "mae":
        numbers = (LOSS_SCALE / 2, SCALE / 2)
    if name in SMOOTHED:
        if name in LABELLED:
            target = np.eye(out.shape[1], dtype=out.dtype)[target]
        choices = out.shape[1] if name in SOFTMAX else 2
        smooth = np.full_like(target, np.nan)
        reference.smooth_targets(smooth, target, SMOOTHING, choices)
        target, name = smooth, SMOOTHED[name]
    getattr(reference, name)(row_loss, dout, out, target, *numbers)
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
    again, _ = run(name, out, target, loss_before=np.nan)
    np.testing.assert_array_equal(again, once)


@with_names
@with_dtypes
def test_losses_are_added_to_the_sums_of_rows_in_shares_of_the_batch(name, dtype, rng):
    out = rng.normal(size=(5, 7)).astype(dtype)
    target = make_targets(name, 5, 7, dtype, rng)
    loss, _, added = run_batch(name, out, target)
    np.testing.assert_allclose(added, loss, rtol=1e-13)


@with_names
@with_dtypes
@pytest.mark.parametrize("n", [1, 2 * WIDE + 5])
def test_weights_of_samples_multiply_gradients_and_what_is_added_to_the_sums(name, dtype, n, rng):
    out = rng.normal(size=(4, n)).astype(dtype)
    target = make_targets(name, 4, n, dtype, rng)
    weights = np.array([0, 1, 0.5, 3])
    loss, dout, _ = run_batch(name, out, target)
    weighted_loss, weighted, added = run_batch(name, out, target, weights=weights)
    np.testing.assert_array_equal(weighted_loss, loss)  # those of the batch have no weights
    np.testing.assert_array_equal(weighted, dout * weights[:, None].astype(dtype))
    np.testing.assert_allclose(added, weights * loss, rtol=1e-13)


@pytest.mark.parametrize("name", [name for name in KERNELS if name != "poisson"])
@pytest.mark.parametrize("large", [1e3, 1e4])
@with_dtypes
def test_large_logits_give_finite_and_right_losses(name, large, dtype):
    out = large * np.array([[1, -1], [-1, 1], [1, 1], [-1, -1]], dtype)
    target = np.tile(np.array([1, 0], dtype), (4, 1))
    if name in LABELLED:
        target = np.zeros(4, np.int64)
    row_loss, dout = run(name, out, target)
    assert np.isfinite(row_loss).all()
    assert np.isfinite(dout).all()
    s = SMOOTHING if name in SMOOTHED else 0
    scale, moved = LOSS_SCALE, np.array([s / 2, -s / 2])
    if name in SOFTMAX:
        right_loss = np.array([s * large, (2 - s) * large, np.log(2), np.log(2)])
        right = np.array([[0, 0], [-1, 1], [-0.5, 0.5], [-0.5, 0.5]]) + moved
        scale = 1
    elif "binary" in name:
        right_loss = large * np.array([s, 2 - s, 1, 1])
        right = np.array([[0, 0], [-1, 1], [0, 1], [-1, 0]]) + moved
    elif name == "huber":
        error = np.abs(out - target)
        right_loss = (DELTA * (error - DELTA / 2)).sum(axis=1)
        right = DELTA * np.sign(out)
    elif name == "quantile":
        right = np.where(out > 0, 1 - np.array([0.1, 0.8]), -np.array([0.1, 0.8]))
        right_loss = (right * (out - target)).sum(axis=1)
    elif name == "mae":
        right_loss, right = np.abs(out - target).sum(axis=1) / 2, np.sign(out) / 2
    else:
        right_loss, right = ((out - target) ** 2).sum(axis=1), out - target
    np.testing.assert_allclose(row_loss, scale * right_loss, rtol=1e-6, atol=1e-30)
    np.testing.assert_allclose(dout, SCALE * right, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", SOFTMAX)
@with_dtypes
def test_logits_further_apart_than_the_largest_number_are_no_nan(name, dtype):
    largest = np.finfo(dtype).max
    out = np.array([[largest, -largest, 0], [0, largest, -largest]], dtype)
    for label, right in [([0, 1], [0, 0]), ([2, 0], [largest] * 2), ([1, 2], [np.inf] * 2)]:
        target = np.array(label) if name in LABELLED else np.eye(3, dtype=dtype)[label]
        row_loss, dout = run(name, out, target)
        hot = np.eye(3, dtype=dtype)
        expected = SCALE * (hot[[0, 1]] - hot[label])
        if name in SMOOTHED:  # has something of each class, so of the one that is too far
            assert not np.isnan(row_loss).any()
            assert row_loss[1] > 0.05 * largest
            expected = SCALE * (hot[[0, 1]] - 0.9 * hot[label] - 0.1 / 3)
        else:
            np.testing.assert_array_equal(row_loss, right)
            evaluate = evaluated.SoftmaxCrossEntropy().of_rows
            empty = np.empty(0, np.int64), np.empty((0, 3))
            of_rows = evaluate(
                out, *((target, empty[1]) if name in LABELLED else (empty[0], target))
            )
            assert not np.isnan(of_rows).any()
        np.testing.assert_allclose(dout, expected, rtol=1e-6, atol=1e-7)


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
    if name in LABELLED:
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
    factor = SCALE if name in SOFTMAX else SCALE / LOSS_SCALE
    factor /= 2 if name == "mse" else 1
    h = 1e-6
    for place in np.ndindex(out.shape):
        up, down = out.copy(), out.copy()
        up[place] += h
        down[place] -= h
        change = (run(name, up, target)[0] - run(name, down, target)[0]).sum() / (2 * h)
        assert dout[place] == pytest.approx(factor * change, abs=1e-8)


def evaluated_loss(name, n):
    """Return the loss as users have it."""
    if name == "huber":
        return evaluated.Huber(DELTA)
    if name == "quantile":
        return evaluated.Quantile(parameters_of(name, n))
    smoothing = SMOOTHING if name in SMOOTHED else 0.0
    if "binary" in name:
        return evaluated.BinaryCrossEntropy(label_smoothing=smoothing)
    return evaluated.SoftmaxCrossEntropy(smoothing) if name in SOFTMAX else evaluated.get(name)


@with_names
@with_dtypes
@pytest.mark.parametrize("n", [7, WIDE + 1])
def test_evaluation_gives_the_losses_of_training(name, dtype, n, rng):
    out = 5 * rng.normal(size=(5, n)).astype(dtype)
    target = make_targets(name, 5, n, dtype, rng)
    labels, targets = np.empty(0, np.int64), np.empty((0, n), dtype)
    if name in LABELLED:
        labels = target
    else:
        targets = target
    loss = evaluated_loss(name, n)
    assert loss.kernel_name(len(labels) > 0) == KERNELS[name]
    np.testing.assert_array_equal(loss.parameters(n), parameters_of(name, n))
    expected = run(name, out, target)[0] / (LOSS_SCALE if name not in SOFTMAX else 1)
    rows = loss.of_rows(out, labels, targets) / loss.scales(n)[0]
    np.testing.assert_allclose(rows, expected, rtol=20 * np.finfo(dtype).eps)


@with_dtypes
def test_without_an_error_a_quantile_has_no_gradient(dtype):
    out = np.array([[1, 2, 0]], dtype)
    row_loss, dout = run("quantile", out, out)
    assert row_loss[0] == 0
    assert (dout == 0).all()


@with_dtypes
def test_an_error_of_delta_is_where_both_parts_of_huber_meet(dtype):
    out = np.array([[DELTA, -DELTA, 2 * DELTA, 0]], dtype)
    row_loss, dout = run("huber", out, np.zeros_like(out))
    assert row_loss[0] == LOSS_SCALE * DELTA**2 * (0.5 + 0.5 + 1.5)
    assert (dout == SCALE * np.array([DELTA, -DELTA, DELTA, 0])).all()
