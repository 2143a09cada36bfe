"""Activations over rows of matrices in panels, against the plain loops."""

import numpy as np
import pytest

from fastnn.kernels import activations, codes, reference
from fastnn.kernels.tile import TILE_VECTORS
from fastnn.runtime.jit import kernel
from tests.panel_layout import Panels, lanes

SLOPE = 0.25
NAMES = list(codes.ACTIVATION_CODES)
WIDE = TILE_VECTORS * lanes("float32")  # columns of a panel; half as many are one of float64
# (rows, columns): around whole vectors and whole panels.
BLOCKS = [
    (1, 1),
    (3, 7),
    (2, 16),
    (5, 17),
    (1, WIDE // 2 - 1),
    (4, WIDE // 2),
    (2, WIDE - 1),
    (3, WIDE),
    (4, WIDE + 1),
    (1, 2 * WIDE),
    (3, 97),
]

with_names = pytest.mark.parametrize("name", NAMES)
with_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


@kernel
def activate(code, slope, row, n_rows, n, out, o, panel, distance):
    activations.activate_rows(code, slope, row, n_rows, n, out, o, panel, distance)


@kernel
def differentiate(code, slope, row, n_rows, n, dout, do, out, o, panel, distance):
    activations.differentiate_rows(code, slope, row, n_rows, n, dout, do, out, o, panel, distance)


def embed(block, before, offset=3, **where):
    """Lay a block into panels: zeros as padding, and rows of NaN before and behind it."""
    result = Panels((before + len(block) + 2, block.shape[1]), block.dtype, offset, **where)
    result.fill(block, before)
    return result


def run(name, z, before=2, **where):
    out = embed(z, before, **where)
    activate(
        codes.ACTIVATION_CODES[name], SLOPE, before, *z.shape, out.flat, out.offset, out.panel,
        out.distance,
    )  # fmt: skip
    return out.take(before, len(z))


def run_backward(name, dout, out, before=2, **where):
    dz, y = embed(dout, before, 5, **where), embed(out, before, **where)
    untouched = y.flat.copy()
    differentiate(
        codes.ACTIVATION_CODES[name], SLOPE, before, *out.shape, dz.flat, dz.offset, y.flat,
        y.offset, y.panel, y.distance,
    )  # fmt: skip
    np.testing.assert_array_equal(y.flat, untouched)
    return dz.take(before, len(dout))


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
    for n_rows, n in BLOCKS:
        z = rng.normal(0, 3, (n_rows, n)).astype(dtype)
        dout = rng.normal(size=z.shape).astype(dtype)
        # A softmax rounds as often as it has columns.
        out = run(name, z)
        np.testing.assert_allclose(out, expected(name, z), rtol=(8 + n) * eps)
        dz = expected_backward(name, dout, out)
        scale = np.abs(dout).sum(axis=1, keepdims=True) if name == "softmax" else np.abs(dout)
        error = np.abs(run_backward(name, dout, out) - dz)
        assert (error <= (8 + n) * eps * scale).all()


@pytest.mark.parametrize("name", ["identity", "relu", "leaky_relu", "step"])
@with_dtypes
def test_piecewise_linear_activations_are_exact(name, dtype, rng):
    for n_rows, n in BLOCKS:
        z = rng.integers(-3, 4, (n_rows, n)).astype(dtype)
        dout = rng.integers(-9, 10, z.shape).astype(dtype)
        out = run(name, z)
        assert (out == expected(name, z)).all()
        assert (run_backward(name, dout, out) == expected_backward(name, dout, out)).all()


@with_names
@with_dtypes
def test_large_arguments_give_finite_results(name, dtype):
    z = np.array([[-1000, 1000], [1000, 1000], [-1000, -1000], [0, -0.0]], dtype)
    out = run(name, z)
    assert np.isfinite(out).all()
    np.testing.assert_array_equal(out, expected(name, z))
    dz = run_backward(name, np.ones_like(z), out)
    assert np.isfinite(dz).all()
    np.testing.assert_array_equal(dz, expected_backward(name, np.ones_like(z), out))


@with_names
@with_dtypes
def test_infinite_arguments_are_not_hidden(name, dtype):
    z = np.zeros((4, WIDE + 3), dtype)
    z[:, [0, -1]] = [[np.inf, 0], [-np.inf, 0], [0, np.inf], [0, -np.inf]]
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(np.isnan(run(name, z)), np.isnan(expected(name, z)))
    z = z[:, [0, -1]]
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(run(name, z), expected(name, z))


@with_names
@with_dtypes
def test_nan_passes_through_and_stays_in_its_row(name, dtype):
    for place in (0, 1, WIDE // 2, WIDE - 1, WIDE + 2):
        z = np.zeros((3, WIDE + 3), dtype)
        z[1, place] = np.nan
        out = run(name, z)
        assert np.isnan(out[1, place])
        assert np.isfinite(out[[0, 2]]).all()
        if name == "softmax":
            assert np.isnan(out[1]).all()
        else:
            assert np.isfinite(np.delete(out[1], place)).all()


@with_names
@with_dtypes
def test_nan_in_a_derivative_is_that_of_the_plain_loops(name, dtype):
    out = run(name, np.array([[-1, 0, 0.5, 2]], dtype))
    for place in range(4):
        dout, damaged = np.ones_like(out), out.copy()
        dout[0, place] = damaged[0, place] = np.nan
        for d, y in [(dout, out), (np.ones_like(out), damaged), (dout, damaged)]:
            np.testing.assert_array_equal(
                np.isnan(run_backward(name, d, y)), np.isnan(expected_backward(name, d, y))
            )


@with_dtypes
def test_rows_of_a_softmax_sum_to_one_and_may_be_shifted(dtype, rng):
    z = rng.integers(-8, 9, (6, 37)).astype(dtype)
    out = run("softmax", z)
    np.testing.assert_allclose(out.sum(axis=1), 1, rtol=37 * np.finfo(dtype).eps)
    np.testing.assert_array_equal(run("softmax", z + 64), out)


@with_dtypes
def test_the_largest_argument_of_a_softmax_may_be_in_any_panel(dtype):
    n = 2 * WIDE + 5
    places = [0, WIDE // 2, WIDE, n - 1]
    z = np.full((4, n), -1000, dtype)
    z[range(4), places] = 1000
    out = run("softmax", z)
    np.testing.assert_array_equal(out, np.eye(n, dtype=dtype)[places])
    # On a row of zeros and a one, the derivative is zero, whatever the gradient.
    np.testing.assert_array_equal(run_backward("softmax", z, out), np.zeros_like(z))


@with_names
@with_dtypes
def test_a_row_does_not_depend_on_the_rows_beside_it(name, dtype, rng):
    z, dout = rng.normal(0, 3, (2, 7, 97)).astype(dtype)
    out = run(name, z, before=0)
    dz = run_backward(name, dout, out, before=0)
    for row, n_rows in [(0, 1), (1, 4), (5, 2)]:
        rows = slice(row, row + n_rows)
        np.testing.assert_array_equal(run(name, z[rows], before=row), out[rows])
        np.testing.assert_array_equal(
            run_backward(name, dout[rows], out[rows], before=row), dz[rows]
        )


@pytest.mark.parametrize("n", [7, WIDE // 2 + 1])
@pytest.mark.parametrize("name", ["leaky_relu", "logistic", "softmax", "tanh"])
def test_derivatives_are_central_differences(name, n, rng):
    z, dout = rng.normal(size=(4, n)), rng.normal(size=(4, n))
    dz = run_backward(name, dout, run(name, z))
    h = 1e-6
    for place in np.ndindex(z.shape):
        up, down = z.copy(), z.copy()
        up[place] += h
        down[place] -= h
        numeric = ((run(name, up) - run(name, down)) * dout).sum() / (2 * h)
        assert dz[place] == pytest.approx(numeric, abs=1e-8)


@with_names
@with_dtypes
@pytest.mark.parametrize("n", [1, 7, 97])
def test_whole_arrays_have_the_bits_of_panels(name, dtype, n, rng):
    z, dout = rng.normal(size=(2, 5, n)).astype(dtype)
    code = codes.ACTIVATION_CODES[name]
    out, dz = z.copy(), dout.copy()
    activations.activate(code, SLOPE, out)
    np.testing.assert_array_equal(out, run(name, z))
    np.testing.assert_array_equal(out, run(name, z, panel=n))
    activations.differentiate(code, SLOPE, dz, out)
    np.testing.assert_array_equal(dz, run_backward(name, dout, out))
    np.testing.assert_array_equal(dz, run_backward(name, dout, out, panel=n))


@with_names
def test_without_rows_nothing_is_written(name):
    empty = np.empty((0, 29))
    run(name, empty)
    run_backward(name, empty, empty)
    activations.activate(codes.ACTIVATION_CODES[name], SLOPE, empty)
    activations.differentiate(codes.ACTIVATION_CODES[name], SLOPE, empty, empty)
