"""The three products of an affine layer on packed panels, against the plain loops."""

import numba
import numpy as np
import pytest
from numba.core.codegen import get_host_cpu_features

from fastnn import Affine, ReLU
from fastnn._jit import kernel
from fastnn.kernels import affine, codes, reference
from fastnn.kernels.tile import TILE_ROWS, TILE_VECTORS
from fastnn.plan import build, lanes, pack, round_up, unpack

WIDE = TILE_VECTORS * lanes("float32")  # columns of a tile; half as many are one of float64
HALF = WIDE // 2
# Columns of a matrix that is read by vectors: around one vector, one tile, two tiles.
COLUMNS = [
    1,
    7,
    lanes("float64"),
    lanes("float32") + 1,
    HALF - 1,
    HALF,
    HALF + 1,
    WIDE,
    WIDE + 1,
    97,
]
# Length of the sums.
LENGTHS = [1, 2, 13]
ROWS = [TILE_ROWS, 3 * TILE_ROWS]

with_columns = pytest.mark.parametrize("n", COLUMNS)
with_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


@kernel
def forward(
    n_rows, n_in, n_out, x, xo, x_row, x_k, w, wo, panel_step, ldw, b, bo, out, oo, ldo, with_relu
):
    affine.forward_rows(
        n_rows, n_in, n_out, x, xo, x_row, x_k, w, wo, panel_step, ldw, b, bo, out, oo, ldo,
        with_relu,
    )  # fmt: skip


@kernel
def backward_input(n_rows, n_in, n_out, dout, do, ldd, wt, wo, dx, xo, ldx, h, masked):
    affine.backward_input_rows(n_rows, n_in, n_out, dout, do, ldd, wt, wo, dx, xo, ldx, h, masked)


@kernel
def backward_weight(n_rows, x, xo, ldx, dout, do, ldd, vectors, dw, o):
    affine.backward_weight_tile(n_rows, x, xo, ldx, dout, do, ldd, vectors, dw, o)


def integers(rng, shape, dtype):
    """Draw small integers: their sums of products are exact in any order."""
    return rng.integers(-5, 6, shape).astype(dtype)


def panels(w):
    """Pack a matrix as the kernels read it, written down once more and without cleverness."""
    vector = lanes(w.dtype)
    wide = TILE_VECTORS * vector
    packed = []
    for j in range(0, w.shape[1], wide):
        part = w[:, j : j + wide]
        padding = round_up(part.shape[1], vector) - part.shape[1]
        packed.append(np.pad(part, ((0, 0), (0, padding))).ravel())
    return np.concatenate(packed)


def embed(array, offset=5, step=None, tail=0):
    """Lay rows into a flat array full of NaN: at an offset, `step` apart, and nothing behind."""
    array = np.atleast_2d(array)
    step = step or array.shape[1]
    flat = np.full(offset + (len(array) - 1) * step + array.shape[1] + tail, np.nan, array.dtype)
    for r, row in enumerate(array):
        flat[offset + r * step : offset + r * step + len(row)] = row
    return flat


def take(flat, offset, step, n_rows, n, finite=True):
    """Cut rows out of a flat array, and check that nothing but whole vectors was written.

    Products of padding are zero, but not where a row is not finite: 0 * inf is NaN.
    """
    rows = [flat[offset + r * step : offset + r * step + n] for r in range(n_rows)]
    width = round_up(n, lanes(flat.dtype))
    untouched = np.ones(flat.size, bool)
    for r in range(n_rows):
        untouched[offset + r * step : offset + r * step + width] = False
        padding = flat[offset + r * step + n : offset + r * step + width]
        assert (padding == 0).all() or not finite
    assert np.isnan(flat[untouched]).all(), "something was written beside the rows"
    return np.array(rows)


def run_forward(x, w, b, with_relu=False, transposed=False, finite=True):
    """Compute a layer on packed panels. Rows, weights, biases and results lie at offsets."""
    (n_rows, n_in), n_out = x.shape, w.shape[1]
    width = round_up(n_out, lanes(w.dtype))
    x_step = (n_rows if transposed else n_in) + 3
    x_flat = embed(x.T if transposed else x, 2, x_step)
    strides = (1, x_step) if transposed else (x_step, 1)
    b_flat = embed(np.pad(b, (0, width - n_out)), 1)
    out = np.full(4 + n_rows * (width + 1), np.nan, w.dtype)
    panel_step = TILE_VECTORS * lanes(w.dtype) * n_in
    forward(
        n_rows, n_in, n_out, x_flat, 2, *strides, embed(panels(w), 3), 3, panel_step, 0,
        b_flat, 1, out, 4, width + 1, with_relu,
    )  # fmt: skip
    return take(out, 4, width + 1, n_rows, n_out, finite)


def run_backward_input(dout, w, h=None):
    """Compute the gradient of the input; `h` is an input that came out of a ReLU."""
    (n_rows, n_out), n_in = dout.shape, w.shape[0]
    width = round_up(n_in, lanes(w.dtype))
    dx = np.full(4 + n_rows * (width + 1), np.nan, w.dtype)
    masked = h is not None
    h = np.pad(
        np.full((n_rows, n_in), np.nan, w.dtype) if h is None else h, ((0, 0), (0, width - n_in))
    )
    backward_input(
        n_rows, n_in, n_out, embed(dout, 2, n_out + 3), 2, n_out + 3, embed(panels(w.T), 3), 3,
        dx, 4, width + 1, embed(h, 4, width + 1), masked,
    )  # fmt: skip
    return take(dx, 4, width + 1, n_rows, n_in)


def run_backward_weight(x, dout):
    """Compute the gradient of the weights, tile by tile."""
    vector = lanes(x.dtype)
    wide = TILE_VECTORS * vector
    n_rows, n_in, n_out = *x.shape, dout.shape[1]
    in_step, out_step = round_up(n_in, TILE_ROWS), round_up(n_out, vector)
    x_flat = embed(np.pad(x, ((0, 0), (0, in_step - n_in))), 2)
    dout_flat = embed(np.pad(dout, ((0, 0), (0, out_step - n_out))), 3)
    dw = np.full((in_step, out_step), np.nan, x.dtype)
    for i in range(0, n_in, TILE_ROWS):
        for j in range(0, n_out, wide):
            vectors = min(wide, out_step - j) // vector
            tile = np.full(4 + TILE_ROWS * vectors * vector + 4, np.nan, x.dtype)
            backward_weight(
                n_rows, x_flat, 2 + i, in_step, dout_flat, 3 + j, out_step, vectors, tile, 4
            )
            assert np.isnan(tile[:4]).all()
            assert np.isnan(tile[-4:]).all()
            dw[i : i + TILE_ROWS, j : j + vectors * vector] = tile[4:-4].reshape(TILE_ROWS, -1)
    assert (dw[n_in:] == 0).all()
    assert (dw[:, n_out:] == 0).all()
    return dw[:n_in, :n_out]


def expected_forward(x, w, b, with_relu=False):
    out = np.full((len(x), w.shape[1]), np.nan, w.dtype)
    reference.affine_forward(out, x, w, b)
    if with_relu:
        reference.relu_forward(out, out)
    return out


def expected_backward_input(dout, w, h=None):
    dx = np.full((len(dout), len(w)), np.nan, w.dtype)
    reference.affine_backward_input(dx, dout, w)
    if h is not None:
        reference.relu_backward(dx, dx, h)
    return dx


def expected_backward_weight(x, dout):
    dw = np.full((x.shape[1], dout.shape[1]), np.nan, x.dtype)
    reference.affine_backward_weight(dw, np.empty(dout.shape[1], x.dtype), x, dout)
    return dw


@with_columns
@with_dtypes
def test_forward_of_small_integers_is_exact(dtype, n, rng):
    for n_rows in ROWS:
        for n_in in LENGTHS:
            x, w = integers(rng, (n_rows, n_in), dtype), integers(rng, (n_in, n), dtype)
            b = integers(rng, n, dtype)
            for with_relu in (False, True):
                expected = expected_forward(x, w, b, with_relu)
                assert (run_forward(x, w, b, with_relu) == expected).all()
                assert (run_forward(x, w, b, with_relu, transposed=True) == expected).all()


@with_columns
@with_dtypes
def test_backward_to_input_of_small_integers_is_exact(dtype, n, rng):
    for n_rows in ROWS:
        for n_out in LENGTHS:
            dout, w = integers(rng, (n_rows, n_out), dtype), integers(rng, (n, n_out), dtype)
            h = integers(rng, (n_rows, n), dtype)
            assert (run_backward_input(dout, w) == expected_backward_input(dout, w)).all()
            assert (run_backward_input(dout, w, h) == expected_backward_input(dout, w, h)).all()


@with_columns
@with_dtypes
def test_backward_to_weight_of_small_integers_is_exact(dtype, n, rng):
    for n_rows in LENGTHS:
        for n_in in (1, TILE_ROWS - 1, TILE_ROWS, TILE_ROWS + 1):
            x, dout = integers(rng, (n_rows, n_in), dtype), integers(rng, (n_rows, n), dtype)
            assert (run_backward_weight(x, dout) == expected_backward_weight(x, dout)).all()


@with_dtypes
def test_products_round_within_their_bounds(dtype, rng):
    n_rows, n_in, n_out = 2 * TILE_ROWS, 61, 53
    x, w, b, dout = (
        rng.normal(size=shape).astype(dtype)
        for shape in [(n_rows, n_in), (n_in, n_out), (n_out,), (n_rows, n_out)]
    )
    eps = np.finfo(dtype).eps

    def wide(*arrays):
        return [array.astype(np.longdouble) for array in arrays]

    def assert_within(actual, exact, magnitude, length):
        assert (np.abs(actual - exact) <= (length + 1) * eps * magnitude).all()

    X, W, B, D = wide(x, w, b, dout)
    magnitude = np.abs(X) @ np.abs(W) + np.abs(B)
    assert_within(run_forward(x, w, b), X @ W + B, magnitude, n_in)
    assert_within(run_backward_input(dout, w), D @ W.T, np.abs(D) @ np.abs(W.T), n_out)
    assert_within(run_backward_weight(x, dout), X.T @ D, np.abs(X.T) @ np.abs(D), n_rows)


@with_dtypes
@pytest.mark.parametrize("n", [WIDE, WIDE + 1, HALF - 1, 1])
def test_forward_reads_an_ordinary_row_major_matrix_as_well(dtype, n, rng):
    n_rows, n_in = 2 * TILE_ROWS, 13
    x, w = integers(rng, (n_rows, n_in), dtype), integers(rng, (n_in, n), dtype)
    b = integers(rng, n, dtype)
    width = round_up(n, lanes(dtype))
    # Whole vectors are read: what lies behind the last row and the bias must be memory, but its
    # values only reach the padding of the result.
    tail = width - n
    out = np.full(n_rows * width, np.nan, dtype)
    forward(
        n_rows, n_in, n, embed(x, 0), 0, n_in, 1, embed(w, 3, tail=tail), 3,
        TILE_VECTORS * lanes(dtype), n, embed(b, 1, tail=tail), 1, out, 0, width, False,
    )  # fmt: skip
    assert (out.reshape(n_rows, width)[:, :n] == expected_forward(x, w, b)).all()


@with_dtypes
def test_a_panel_and_a_row_major_matrix_give_the_same_bits(dtype, rng):
    n_rows, n_in, n = TILE_ROWS, 61, 4 * TILE_VECTORS * lanes(dtype)
    x, w = rng.normal(size=(n_rows, n_in)).astype(dtype), rng.normal(size=(n_in, n)).astype(dtype)
    b = rng.normal(size=n).astype(dtype)
    out = np.full((n_rows, n), np.nan, dtype)
    forward(
        n_rows, n_in, n, x.ravel(), 0, n_in, 1, w.ravel(), 0, TILE_VECTORS * lanes(dtype), n,
        b, 0, out.ravel(), 0, n, False,
    )  # fmt: skip
    np.testing.assert_array_equal(out, run_forward(x, w, b))


@with_dtypes
def test_a_row_does_not_depend_on_the_rows_beside_it(dtype, rng):
    n_in, n_out = 61, 53
    x, w = rng.normal(size=(3 * TILE_ROWS, n_in)), rng.normal(size=(n_in, n_out))
    x, w, b = x.astype(dtype), w.astype(dtype), rng.normal(size=n_out).astype(dtype)
    together = run_forward(x, w, b)
    for row in (0, TILE_ROWS - 1, TILE_ROWS, 3 * TILE_ROWS - 1):
        alone = np.full((TILE_ROWS, n_in), np.nan, dtype)
        alone[3 % TILE_ROWS] = x[row]
        actual = run_forward(alone, w, b, finite=False)[3 % TILE_ROWS]
        np.testing.assert_array_equal(actual, together[row])


def test_an_element_is_one_chain_of_fused_multiply_adds_beginning_with_the_bias(rng):
    features = numba.config.CPU_FEATURES
    features = get_host_cpu_features() if features is None else features
    if "+fma" not in features.split(","):
        pytest.skip("a CPU with FMA is needed")
    # With multiples of 2^-12 below 4, products and sums are exact in float64: each addition is
    # rounded once, to float32, as by a fused multiply-add.
    n_in, n_out = 97, 19
    x = (rng.integers(-(2**14), 2**14, (TILE_ROWS, n_in)) / 2**12).astype("float32")
    w = (rng.integers(-(2**14), 2**14, (n_in, n_out)) / 2**12).astype("float32")
    b = (rng.integers(-(2**14), 2**14, n_out) / 2**12).astype("float32")
    expected = np.tile(b, (TILE_ROWS, 1))
    for k in range(n_in):
        expected = (expected + np.outer(x[:, k].astype("float64"), w[k])).astype("float32")
    assert (expected != x.astype("float64") @ w + b).any(), "nothing was rounded"
    np.testing.assert_array_equal(run_forward(x, w, b), expected)


@with_dtypes
def test_nan_and_infinity_reach_their_row_and_no_other(dtype, rng):
    x, w = np.ones((TILE_ROWS, 3), dtype), np.ones((3, 5), dtype)
    b = np.zeros(5, dtype)
    x[1, 2], x[2, 0] = np.nan, -np.inf
    for with_relu in (False, True):
        out = run_forward(x, w, b, with_relu, finite=False)
        assert np.isnan(out[1]).all()
        assert (out[2] == (0 if with_relu else -np.inf)).all()
        assert (np.delete(out, [1, 2], axis=0) == 3).all()


@with_dtypes
def test_a_gradient_passes_where_the_input_is_nan(dtype):
    dout, w = np.ones((TILE_ROWS, 2), dtype), np.ones((3, 2), dtype)
    h = np.tile(np.array([np.nan, 0, 1], dtype), (TILE_ROWS, 1))
    expected = expected_backward_input(dout, w, h)
    np.testing.assert_array_equal(expected[0], [2, 0, 2])
    np.testing.assert_array_equal(run_backward_input(dout, w, h), expected)


@with_dtypes
@pytest.mark.parametrize(("n_in", "n_out"), [(1, 1), (TILE_ROWS + 1, WIDE + 1), (97, HALF)])
def test_the_plan_packs_weights_as_the_kernels_read_them(dtype, n_in, n_out, rng):
    layers = [Affine(2, n_in), ReLU(), Affine(n_in, n_out)]
    plan = build(layers, 2, np.dtype(dtype), TILE_ROWS, packed=True)
    weights = [
        (integers(rng, (i, o), dtype), integers(rng, o, dtype))
        for i, o in [(2, n_in), (n_in, n_out)]
    ]
    params, transposed = np.zeros(plan.n_params, dtype), np.zeros(plan.n_transposed, dtype)
    pack(plan, weights, params, transposed)
    operation, (w, b) = plan.operations[-1], weights[-1]
    x, dout = integers(rng, (TILE_ROWS, n_in), dtype), integers(rng, (TILE_ROWS, n_out), dtype)

    width = round_up(n_out, lanes(dtype))
    out = np.full(TILE_ROWS * width, np.nan, dtype)
    forward(
        TILE_ROWS, n_in, n_out, x.ravel(), 0, n_in, 1, params, operation[codes.W_AT],
        operation[codes.W_PANEL_STEP], operation[codes.W_STEP], params, operation[codes.B_AT],
        out, 0, width, False,
    )  # fmt: skip
    assert (take(out, 0, width, TILE_ROWS, n_out) == expected_forward(x, w, b)).all()

    width = round_up(n_in, lanes(dtype))
    dx = np.full(TILE_ROWS * width, np.nan, dtype)
    backward_input(
        TILE_ROWS, n_in, n_out, dout.ravel(), 0, n_out, transposed, operation[codes.WT_AT],
        dx, 0, width, dx, False,
    )  # fmt: skip
    assert (take(dx, 0, width, TILE_ROWS, n_in) == expected_backward_input(dout, w)).all()

    back = [(np.full_like(w, np.nan), np.full_like(b, np.nan)) for w, b in weights]
    unpack(plan, params, back)
    for before, after in zip(weights, back, strict=True):
        np.testing.assert_array_equal(after[0], before[0])
        np.testing.assert_array_equal(after[1], before[1])
