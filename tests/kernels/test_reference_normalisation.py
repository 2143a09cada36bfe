"""The plain loops of normalisation against closed forms and central differences."""

import numpy as np
import pytest

from fastnn.kernels import reference

EPSILON = 1e-3


@pytest.fixture
def matrices(rng):
    """Return x and dout (7, 5), strided, gamma and beta (5,)."""
    x, dout = rng.normal(size=(2, 14, 5))[:, ::2]
    return x + 3, dout, *rng.normal(size=(2, 5))


def statistics(x):
    mean, variance = np.full((2, x.shape[1]), np.nan)
    reference.column_statistics(mean, variance, x)
    return mean, variance


def batch_norm(x, gamma, beta):
    out = np.full(x.shape, np.nan)
    reference.batch_norm_forward(out, x, *statistics(x), gamma, beta, EPSILON)
    return out


def layer_norm(x, gamma, beta):
    out = np.full(x.shape, np.nan)
    reference.layer_norm_forward(out, x, gamma, beta, EPSILON)
    return out


def central_differences(f, array, dout, step=1e-6):
    """Gradient of sum(f() * dout) with respect to an array that f reads."""
    gradient = np.empty_like(array)
    for place in np.ndindex(array.shape):
        value = array[place]
        array[place] = value + step
        above = (f() * dout).sum()
        array[place] = value - step
        below = (f() * dout).sum()
        array[place] = value
        gradient[place] = (above - below) / (2 * step)
    return gradient


def test_statistics_are_those_of_numpy(matrices):
    x = matrices[0]
    mean, variance = statistics(x)
    np.testing.assert_allclose(mean, x.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(variance, x.var(axis=0), rtol=1e-13)


def test_normalised_columns_have_mean_0_and_variance_1_before_scale_and_shift(matrices):
    x, _, gamma, beta = matrices
    normal = (batch_norm(x, gamma, beta) - beta) / gamma
    np.testing.assert_allclose(normal.mean(axis=0), 0, atol=1e-14)
    np.testing.assert_allclose(normal.var(axis=0), x.var(axis=0) / (x.var(axis=0) + EPSILON))


def test_normalised_rows_have_mean_0_and_variance_1_before_scale_and_shift(matrices):
    x, _, gamma, beta = matrices
    normal = (layer_norm(x, gamma, beta) - beta) / gamma
    np.testing.assert_allclose(normal.mean(axis=1), 0, atol=1e-14)
    np.testing.assert_allclose(normal.var(axis=1), x.var(axis=1) / (x.var(axis=1) + EPSILON))


@pytest.mark.parametrize("name", ["batch_norm", "layer_norm", "fixed"])
def test_gradients_are_those_of_central_differences(name, matrices):
    x, dout, gamma, beta = (array.copy() for array in matrices)
    dx, dgamma, dbeta = np.full_like(x, np.nan), np.full(5, np.nan), np.full(5, np.nan)
    mean, variance = statistics(x)

    def forward():
        if name == "layer_norm":
            return layer_norm(x, gamma, beta)
        if name == "batch_norm":
            return batch_norm(x, gamma, beta)
        out = np.empty_like(x)
        reference.batch_norm_forward(out, x, mean, variance, gamma, beta, EPSILON)
        return out

    if name == "layer_norm":
        reference.layer_norm_backward(dx, dgamma, dbeta, dout, x, gamma, EPSILON)
    else:
        backward = {
            "batch_norm": reference.batch_norm_backward,
            "fixed": reference.batch_norm_backward_fixed,
        }[name]
        backward(dx, dgamma, dbeta, dout, x, mean, variance, gamma, EPSILON)
    for array, gradient in ((x, dx), (gamma, dgamma), (beta, dbeta)):
        right = central_differences(forward, array, dout)
        np.testing.assert_allclose(gradient, right, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dropout_drops_its_share_and_scales_the_rest(rate, dtype):
    mask = np.full((500, 200), np.nan, dtype)
    reference.dropout_mask(mask, rate, 7, 3)
    assert set(np.unique(mask)) <= {0.0, np.dtype(dtype).type(1 / (1 - rate))}
    # 5 standard deviations of a binomial share.
    bound = 5 * np.sqrt(rate * (1 - rate) / mask.size)
    assert abs((mask == 0).mean() - rate) <= bound


def test_dropout_has_no_pattern_over_rows_columns_steps_or_seeds():
    masks = np.empty((6, 400, 300))
    for mask, (seed, step) in zip(
        masks, [(0, 0), (0, 1), (0, 2), (1, 0), (2**62, 0), (1, 1)], strict=True
    ):
        reference.dropout_mask(mask, 0.5, seed, step)
    signs = masks - 1  # -1 or 1
    bound = 5 / np.sqrt(signs[0].size)
    for k, one in enumerate(signs):
        for shift in [(0, 1), (1, 0), (1, 1), (2, 0), (0, 8), (0, 24), (64, 0)]:
            moved = np.roll(one, shift, axis=(0, 1))
            assert abs((one * moved).mean()) < bound, (k, shift)
        for other in signs[k + 1 :]:
            assert abs((one * other).mean()) < bound
        assert np.abs(one.mean(axis=0)).max() < 6 / np.sqrt(400)
        assert np.abs(one.mean(axis=1)).max() < 6 / np.sqrt(300)
