"""Activations over blocks of rows with padding, against the plain loops."""

import numpy as np
import pytest

from fastnn._jit import kernel
from fastnn.kernels import activations, codes, reference

SLOPE = 0.25
NAMES = list(codes.ACTIVATION_CODES)
# (rows, columns, distance of rows): no padding, some, and lengths around whole vectors.
BLOCKS = [(1, 1, 1), (1, 1, 8), (3, 7, 8), (2, 16, 16), (5, 17, 24), (1, 31, 31), (4, 33, 48)]

with_names = pytest.mark.parametrize("name", NAMES)
with_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


@kernel
def activate(code, slope, n_rows, n, out, o, ld):
    activations.activate_rows(code, slope, n_rows, n, out, o, ld)


@kernel
def differentiate(code, slope, n_rows, n, dout, do, out, o, ld):
    activations.differentiate_rows(code, slope, n_rows, n, dout, do, out, o, ld)


def embed(block, ld, offset):
    """Lay a block into a flat array: zeros as padding, NaN before and behind it."""
    flat = np.full(offset + len(block) * ld + 9, np.nan, block.dtype)
    padded = np.zeros((len(block), ld), block.dtype)
    padded[:, : block.shape[1]] = block
    flat[offset : offset + padded.size] = padded.ravel()
    return flat


def take(flat, shape, ld, offset):
    """Cut the block out again; check that the padding is zero and nothing else was written."""
    block = flat[offset : offset + shape[0] * ld].reshape(shape[0], ld)
    assert (block[:, shape[1] :] == 0).all(), "padding must stay zero"
    assert np.isnan(flat[:offset]).all()
    assert np.isnan(flat[offset + block.size :]).all()
    return block[:, : shape[1]]


def run(name, z, ld=None):
    ld = ld or z.shape[1]
    flat = embed(z, ld, 3)
    activate(codes.ACTIVATION_CODES[name], SLOPE, *z.shape, flat, 3, ld)
    return take(flat, z.shape, ld, 3)


def run_backward(name, dout, out, ld=None):
    ld = ld or out.shape[1]
    dz, y = embed(dout, ld, 5), embed(out, ld, 3)
    before = y.copy()
    differentiate(codes.ACTIVATION_CODES[name], SLOPE, *out.shape, dz, 5, y, 3, ld)
    np.testing.assert_array_equal(y, before)
    return take(dz, out.shape, ld, 5)


def expected(name, z):
    out = np.full_like(z, np.nan)
    slope = (SLOPE,) if name == "leaky_relu" else ()
    getattr(reference, f"{name}_forward")(out, z, *slope)
    return out


def expected_backward(name, dout, out):
    dz = np.full_like(out, np.nan)
    slope = (SLOPE,) if name == "leaky_relu" else ()
    getattr(reference, f"{name}_backward")(dz, dout, out, *slope)
    return dz


@with_names
@with_dtypes
def test_activations_and_derivatives_are_those_of_the_plain_loops(name, dtype, rng):
    eps = np.finfo(dtype).eps
    for n_rows, n, ld in BLOCKS:
        z = rng.normal(0, 3, (n_rows, n)).astype(dtype)
        dout = rng.normal(size=z.shape).astype(dtype)
        # A softmax rounds as often as it has columns.
        out = run(name, z, ld)
        np.testing.assert_allclose(out, expected(name, z), rtol=(8 + n) * eps)
        dz = expected_backward(name, dout, out)
        scale = np.abs(dout).sum(axis=1, keepdims=True) if name == "softmax" else np.abs(dout)
        error = np.abs(run_backward(name, dout, out, ld) - dz)
        assert (error <= (8 + n) * eps * scale).all()


@pytest.mark.parametrize("name", ["identity", "relu", "leaky_relu", "step"])
@with_dtypes
def test_piecewise_linear_activations_are_exact(name, dtype, rng):
    for n_rows, n, ld in BLOCKS:
        z = rng.integers(-3, 4, (n_rows, n)).astype(dtype)
        dout = rng.integers(-9, 10, z.shape).astype(dtype)
        out = run(name, z, ld)
        assert (out == expected(name, z)).all()
        assert (run_backward(name, dout, out, ld) == expected_backward(name, dout, out)).all()


@with_names
@with_dtypes
def test_large_arguments_give_finite_results(name, dtype):
    z = np.array([[-1000, 1000], [1000, 1000], [-1000, -1000], [0, -0.0]], dtype)
    out = run(name, z, 8)
    assert np.isfinite(out).all()
    np.testing.assert_array_equal(out, expected(name, z))
    dz = run_backward(name, np.ones_like(z), out, 8)
    assert np.isfinite(dz).all()
    np.testing.assert_array_equal(dz, expected_backward(name, np.ones_like(z), out))


@with_names
@with_dtypes
def test_infinite_arguments_are_not_hidden(name, dtype):
    z = np.array([[np.inf, 0], [-np.inf, 0]], dtype)
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(run(name, z, 8), expected(name, z))


@with_names
@with_dtypes
def test_nan_passes_through_and_stays_in_its_row(name, dtype):
    for place in (0, 1, 16):
        z = np.zeros((3, 17), dtype)
        z[1, place] = np.nan
        out = run(name, z, 24)
        assert np.isnan(out[1, place])
        assert np.isfinite(out[[0, 2]]).all()
        if name == "softmax":
            assert np.isnan(out[1]).all()
        else:
            assert np.isfinite(np.delete(out[1], place)).all()


@with_names
@with_dtypes
def test_nan_in_a_derivative_is_that_of_the_plain_loops(name, dtype):
    out = run(name, np.array([[-1, 0, 0.5, 2]], dtype), 8)
    for place in range(4):
        dout, damaged = np.ones_like(out), out.copy()
        dout[0, place] = damaged[0, place] = np.nan
        for d, y in [(dout, out), (np.ones_like(out), damaged), (dout, damaged)]:
            np.testing.assert_array_equal(
                np.isnan(run_backward(name, d, y, 8)), np.isnan(expected_backward(name, d, y))
            )


@with_dtypes
def test_rows_of_a_softmax_sum_to_one_and_may_be_shifted(dtype, rng):
    z = rng.integers(-8, 9, (6, 37)).astype(dtype)
    out = run("softmax", z, 40)
    np.testing.assert_allclose(out.sum(axis=1), 1, rtol=37 * np.finfo(dtype).eps)
    np.testing.assert_array_equal(run("softmax", z + 64, 40), out)


@pytest.mark.parametrize("name", ["leaky_relu", "logistic", "softmax", "tanh"])
def test_derivatives_are_central_differences(name, rng):
    z, dout = rng.normal(size=(4, 7)), rng.normal(size=(4, 7))
    dz = run_backward(name, dout, run(name, z, 8), 8)
    h = 1e-6
    for place in np.ndindex(z.shape):
        up, down = z.copy(), z.copy()
        up[place] += h
        down[place] -= h
        numeric = ((run(name, up, 8) - run(name, down, 8)) * dout).sum() / (2 * h)
        assert dz[place] == pytest.approx(numeric, abs=1e-8)


@with_names
@with_dtypes
def test_whole_arrays_are_activated_and_differentiated_in_place(name, dtype, rng):
    z = rng.normal(size=(5, 7)).astype(dtype)
    dout = rng.normal(size=(5, 7)).astype(dtype)
    code = codes.ACTIVATION_CODES[name]
    out, dz = z.copy(), dout.copy()
    activations.activate(code, SLOPE, out)
    np.testing.assert_array_equal(out, run(name, z))
    activations.differentiate(code, SLOPE, dz, out)
    np.testing.assert_array_equal(dz, run_backward(name, dout, out))


@with_names
def test_an_array_without_rows_is_left_alone(name):
    activations.activate(codes.ACTIVATION_CODES[name], SLOPE, np.empty((0, 3)))
    activations.differentiate(
        codes.ACTIVATION_CODES[name], SLOPE, np.empty((0, 3)), np.empty((0, 3))
    )
