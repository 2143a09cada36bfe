"""The three products of matrices in panels, against the plain loops."""

import numpy as np
import pytest

from fastnn.kernels import panels, products, reference
from fastnn.kernels.products import (
    BATCH_BLOCK,
    IN_PANELS,
    K_BLOCK,
    KEEP,
    MASK,
    NO_BIAS,
    RECTIFY,
    Product,
    Update,
)
from fastnn.kernels.tile import TILE_ROWS, TILE_VECTORS
from fastnn.runtime.jit import kernel
from tests.kernels.dtypes import each_dtype
from tests.kernels.fused import skip_without_fused_multiply_add
from tests.panel_layout import Panels, lanes, whole

WIDE = TILE_VECTORS * lanes("float32")  # columns of a panel; half as many are one of float64
HALF = WIDE // 2
# Columns of a matrix that is read by vectors: around one vector, one panel, two panels.
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
# Length of the sums: around panels, and around blocks of the sum.
LENGTHS = [1, 2, 13, HALF, HALF + 1, WIDE - 1, WIDE, 2 * WIDE + 1]
LONG = [K_BLOCK - 1, K_BLOCK, K_BLOCK + 1, 2 * K_BLOCK + 5]
LONG_BATCHES = [BATCH_BLOCK - 1, BATCH_BLOCK, BATCH_BLOCK + 1, 2 * BATCH_BLOCK + 5]
ROWS = [TILE_ROWS, 3 * TILE_ROWS]

with_columns = pytest.mark.parametrize("n", COLUMNS)
with_dtypes = each_dtype("products")


@kernel
def multiply(product, row, n_rows):
    products.multiply_rows(product, row, n_rows)


@kernel
def multiply_row(product):
    products.multiply_row(product)


@kernel
def multiply_packed_row(product):
    products.multiply_packed_row(product)


@kernel
def weigh(x, dout, n_rows, i, n_i, j, dw, update):
    products.backward_weight_block(x, dout, n_rows, i, n_i, j, dw, update)


def integers(rng, shape, dtype):
    """Draw small integers: their sums of products are exact in any order."""
    return rng.integers(-5, 6, shape).astype(dtype)


def normals(rng, shape, dtype):
    return rng.normal(size=shape).astype(dtype)


def run(x, w, b=None, finish=KEEP, h=None, before=TILE_ROWS, finite=True):
    """Compute x @ w + b on panels, for rows with others before and behind them."""
    (n_rows, n_in), n_out = x.shape, w.shape[1]
    total = before + n_rows + TILE_ROWS
    # The padding of x is not read: in a prediction it may hold anything.
    left = Panels((total, n_in), x.dtype, offset=2)
    left.fill(x, before, padding=np.nan)
    right = Panels.of(w, offset=3)
    out = Panels((total, n_out), w.dtype, offset=4, gap=7)
    mask = Panels((total, n_out), w.dtype, offset=4, gap=7)
    if h is not None:
        mask.fill(h, before)
    inputs = [left.flat.copy(), right.flat.copy()]
    bias = np.full(1, np.nan, w.dtype)
    if b is not None:
        bias = np.concatenate([bias, b, np.zeros(right.panel, w.dtype)])
    b_at = NO_BIAS if b is None else 1
    x, w, to = left.argument(), right.argument(), out.argument()
    product = Product(x, IN_PANELS, w, IN_PANELS, bias, b_at, to, mask.flat, finish)
    multiply(product, before, n_rows)
    np.testing.assert_array_equal(left.flat, inputs[0])
    np.testing.assert_array_equal(right.flat, inputs[1])
    return out.take(before, n_rows, finite)


def run_backward_input(dout, w, h=None, before=TILE_ROWS, finite=True):
    """Compute the gradient of the input; `h` is an input that came out of a ReLU."""
    finish = KEEP if h is None else MASK
    return run(dout, np.ascontiguousarray(w.T), None, finish, h, before, finite)


def run_backward_weight(x, dout, n_i=None, finite=True):
    """Compute the gradient of the weights, in blocks of n_i rows of each panel of dout.

    The last block is shorter. The batch is the first rows of larger matrices.
    """
    n_rows, n_in, n_out = *x.shape, dout.shape[1]
    rows = -(-n_in // TILE_ROWS) * TILE_ROWS
    left = Panels((n_rows + 3, n_in), x.dtype, offset=2)
    left.fill(x)
    right = Panels((n_rows + 3, n_out), x.dtype, offset=3)
    right.fill(dout)
    dw = np.full((rows, n_out), np.nan, x.dtype)
    for j in range(0, n_out, right.panel):
        width = right.width(j)
        columns = min(width, n_out - j)
        for i in range(0, rows, n_i or rows):
            size = min(n_i or rows, rows - i)
            block = np.full(4 + size * width + 4, np.nan, x.dtype)
            ahead = np.full(size * width, np.nan, x.dtype)
            update = Update(ahead, ahead[:1], ahead[:0], 0)
            left_panels, right_panels = left.argument(), right.argument()
            weigh(left_panels, right_panels, n_rows, i, size, j, block[4:], update)
            assert np.isnan(block[:4]).all()
            assert np.isnan(block[-4:]).all()
            assert np.isnan(ahead).all()
            part = block[4:-4].reshape(size, width)
            assert not finite or (part[:, columns:] == 0).all()
            dw[i : i + size, j : j + columns] = part[:, :columns]
    assert not finite or (dw[n_in:] == 0).all()
    return dw[:n_in]


def expected_forward(x, w, b, finish=KEEP):
    out = np.full((len(x), w.shape[1]), np.nan, w.dtype)
    reference.affine_forward(out, x, w, b)
    if finish == RECTIFY:
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


def assert_exact(n_rows, n_in, n_out, dtype, rng):
    """Compare both products over rows with the plain loops, for small integers."""
    x, w = integers(rng, (n_rows, n_in), dtype), integers(rng, (n_in, n_out), dtype)
    b = integers(rng, n_out, dtype)
    for finish in (KEEP, RECTIFY):
        right = expected_forward(x, w, b, finish)
        for before in (0, 2 * TILE_ROWS):
            assert (run(x, w, b, finish, before=before) == right).all()
        without = expected_forward(x, w, np.zeros_like(b), finish)
        assert (run(x, w, None, finish) == without).all()
    w, h = integers(rng, (n_out, n_in), dtype), integers(rng, (n_rows, n_out), dtype)
    for mask in (None, h):
        right = expected_backward_input(x, w, mask)
        for before in (0, 2 * TILE_ROWS):
            assert (run_backward_input(x, w, mask, before) == right).all()


@with_columns
@with_dtypes
def test_products_over_rows_of_small_integers_are_exact(dtype, n, rng):
    for n_rows in ROWS:
        for length in LENGTHS:
            assert_exact(n_rows, length, n, dtype, rng)


@pytest.mark.parametrize("length", LONG)
@with_dtypes
def test_long_sums_of_small_integers_are_exact(dtype, length, rng):
    for n in (1, HALF, 2 * WIDE + 1):
        assert_exact(2 * TILE_ROWS, length, n, dtype, rng)


@with_columns
@with_dtypes
def test_backward_to_weight_of_small_integers_is_exact(dtype, n, rng):
    for n_rows in (1, 2, 13):
        for n_in in (1, TILE_ROWS - 1, TILE_ROWS, TILE_ROWS + 1, HALF + 1, 2 * WIDE + 1):
            x, dout = integers(rng, (n_rows, n_in), dtype), integers(rng, (n_rows, n), dtype)
            right = expected_backward_weight(x, dout)
            # Blocks of one tile, of tiles that do not fill a panel, across panels, of everything.
            for n_i in (TILE_ROWS, 2 * TILE_ROWS, WIDE + TILE_ROWS, None):
                assert (run_backward_weight(x, dout, n_i) == right).all()


@pytest.mark.parametrize("n_rows", LONG_BATCHES)
@with_dtypes
def test_backward_to_weight_of_long_batches_is_exact(dtype, n_rows, rng):
    for n_in, n_out in [(1, 1), (WIDE + 1, HALF), (TILE_ROWS, 2 * WIDE + 1)]:
        x, dout = integers(rng, (n_rows, n_in), dtype), integers(rng, (n_rows, n_out), dtype)
        right = expected_backward_weight(x, dout)
        for n_i in (TILE_ROWS, None):
            assert (run_backward_weight(x, dout, n_i) == right).all()


@with_dtypes
def test_without_rows_or_columns_nothing_is_written(dtype):
    empty = np.empty((0, 5), dtype)
    assert run(empty, np.ones((5, 3), dtype), np.ones(3, dtype)).shape == (0, 3)
    assert run(np.ones((TILE_ROWS, 5), dtype), empty.T, empty[:, 0]).shape == (TILE_ROWS, 0)
    block, nothing = np.full(TILE_ROWS * WIDE, np.nan, dtype), np.empty(0, dtype)
    x, dout = (panels.Panels(nothing, 0, 0, n) for n in (5, 1))
    weigh(x, dout, 3, 0, 0, 0, block, Update(nothing, nothing, nothing, 0))
    assert np.isnan(block).all()


@with_dtypes
@pytest.mark.parametrize("length", [61, 2 * K_BLOCK + 5])
def test_products_round_within_their_bounds(dtype, length, rng):
    def assert_within(actual, exact, magnitude, length):
        eps = np.finfo(dtype).eps
        assert (np.abs(actual - exact) <= (length + 1) * eps * magnitude).all()

    x, w = normals(rng, (2 * TILE_ROWS, length), dtype), normals(rng, (length, 53), dtype)
    b, dout = normals(rng, 53, dtype), normals(rng, (2 * TILE_ROWS, 53), dtype)
    X, W, B, D = (array.astype(np.longdouble) for array in (x, w, b, dout))
    assert_within(run(x, w, b), X @ W + B, np.abs(X) @ np.abs(W) + np.abs(B), length)
    assert_within(run_backward_input(dout, w), D @ W.T, np.abs(D) @ np.abs(W.T), 53)
    dw = run_backward_weight(x, dout)
    assert_within(dw, X.T @ D, np.abs(X.T) @ np.abs(D), 2 * TILE_ROWS)
    dw = run_backward_weight(np.ascontiguousarray(x.T), w)
    assert_within(dw, X @ W, np.abs(X) @ np.abs(W), length)


@with_dtypes
def test_a_row_does_not_depend_on_the_rows_beside_it(dtype, rng):
    n_in, n_out = K_BLOCK + 61, 53
    x, w = normals(rng, (3 * TILE_ROWS, n_in), dtype), normals(rng, (n_in, n_out), dtype)
    b = normals(rng, n_out, dtype)
    together = run(x, w, b)
    for row in (0, TILE_ROWS - 1, TILE_ROWS, 3 * TILE_ROWS - 1):
        alone = np.full((TILE_ROWS, n_in), np.nan, dtype)
        alone[3 % TILE_ROWS] = x[row]
        actual = run(alone, w, b, finite=False)[3 % TILE_ROWS]
        np.testing.assert_array_equal(actual, together[row])


@with_dtypes
def test_a_row_does_not_depend_on_its_chunk(dtype, rng):
    n_in, n_out = K_BLOCK + 61, 53
    x, w = normals(rng, (6 * TILE_ROWS, n_in), dtype), normals(rng, (n_in, n_out), dtype)
    h = normals(rng, (6 * TILE_ROWS, n_out), dtype)
    together = run(x, w, None, MASK, h, before=0)
    for row, n_rows in [(0, TILE_ROWS), (TILE_ROWS, 3 * TILE_ROWS), (4 * TILE_ROWS, 2 * TILE_ROWS)]:
        chunk = slice(row, row + n_rows)
        actual = run(x[chunk], w, None, MASK, h[chunk], before=row)
        np.testing.assert_array_equal(actual, together[chunk])


@with_dtypes
def test_a_gradient_does_not_depend_on_its_block(dtype, rng):
    n_rows = BATCH_BLOCK + 13
    x, dout = normals(rng, (n_rows, 61), dtype), normals(rng, (n_rows, 53), dtype)
    together = run_backward_weight(x, dout)
    for n_i in (TILE_ROWS, 3 * TILE_ROWS):
        np.testing.assert_array_equal(run_backward_weight(x, dout, n_i), together)


def fractions(rng, shape):
    """Draw multiples of 2^-12 below 4.

    Their products, and sums of a product and a float32, are exact in float64: each addition is
    rounded once, to float32, as by a fused multiply-add.
    """
    return (rng.integers(-(2**14), 2**14, shape) / 2**12).astype("float32")


def chain(start, x, w):
    """Add the outer products of the columns of x and rows of w, one after the other."""
    total = np.array(np.broadcast_to(start, (len(x), w.shape[1])))
    for k in range(len(w)):
        total = (total + np.outer(x[:, k].astype("float64"), w[k])).astype("float32")
    assert (total != x.astype("float64") @ w + start).any(), "nothing was rounded"
    return total


@pytest.mark.parametrize("n_in", [97, 2 * K_BLOCK + 5])
def test_an_element_is_one_chain_of_fused_multiply_adds_beginning_with_the_bias(n_in, rng):
    skip_without_fused_multiply_add()
    x, w, b = fractions(rng, (TILE_ROWS, n_in)), fractions(rng, (n_in, 19)), fractions(rng, 19)
    np.testing.assert_array_equal(run(x, w, b), chain(b, x, w))
    np.testing.assert_array_equal(run(x, w), chain(np.zeros_like(b), x, w))


@pytest.mark.parametrize("n_rows", [97, 2 * BATCH_BLOCK + 5])
def test_a_gradient_of_weights_is_one_chain_in_the_order_of_the_rows(n_rows, rng):
    skip_without_fused_multiply_add()
    x, dout = fractions(rng, (n_rows, 19)), fractions(rng, (n_rows, 2 * WIDE + 1))
    right = chain(np.zeros(2 * WIDE + 1, "float32"), x.T, dout)
    np.testing.assert_array_equal(run_backward_weight(x, dout, TILE_ROWS), right)


@with_dtypes
@pytest.mark.parametrize("n_in", [3, K_BLOCK + 3])
def test_nan_and_infinity_reach_their_row_and_no_other(dtype, n_in):
    for place in (0, n_in - 1):
        x, w = np.ones((2 * TILE_ROWS, n_in), dtype), np.ones((n_in, WIDE + 1), dtype)
        x[1, place], x[2, place] = np.nan, -np.inf
        for finish in (KEEP, RECTIFY):
            out = run(x, w, np.zeros(WIDE + 1, dtype), finish, finite=False)
            assert np.isnan(out[1]).all()
            assert (out[2] == (0 if finish == RECTIFY else -np.inf)).all()
            assert (np.delete(out, [1, 2], axis=0) == n_in).all()


@with_dtypes
@pytest.mark.parametrize("n_rows", [3, BATCH_BLOCK + 3])
def test_nan_and_infinity_reach_their_gradients_and_no_others(dtype, n_rows):
    for place in (0, n_rows - 1):
        x, dout = np.ones((n_rows, WIDE + 1), dtype), np.ones((n_rows, WIDE + 1), dtype)
        x[place, [1, WIDE]] = np.nan, -np.inf
        dw = run_backward_weight(x, dout, TILE_ROWS, finite=False)
        assert np.isnan(dw[1]).all()
        assert (dw[WIDE] == -np.inf).all()
        assert (np.delete(dw, [1, WIDE], axis=0) == n_rows).all()


@with_dtypes
def test_a_gradient_passes_where_the_input_is_nan(dtype):
    dout, w = np.ones((TILE_ROWS, 2), dtype), np.ones((3, 2), dtype)
    h = np.tile(np.array([np.nan, 0, 1], dtype), (TILE_ROWS, 1))
    right = expected_backward_input(dout, w, h)
    np.testing.assert_array_equal(right[0], [2, 0, 2])
    np.testing.assert_array_equal(run_backward_input(dout, w, h), right)


# --- operands that are ordinary arrays ------------------------------------------------------------


def ordinary(array, offset, behind):
    """Lay a matrix or a vector out as users have it; return a flat array, and its start."""
    flat = np.full(offset + array.size + behind, np.nan, array.dtype)
    flat[offset : offset + array.size] = array.ravel()
    return flat, offset


def run_in_place(x, w, b, finish, before, x_ordinary, w_ordinary):
    """Compute x @ w + b, for rows with others before and behind them, as `run` does."""
    (n_rows, n_in), n_out = x.shape, w.shape[1]
    total = before + n_rows + TILE_ROWS
    out = Panels((total, n_out), w.dtype, offset=4, gap=7)
    rows = np.full((total, n_in), np.nan, x.dtype)
    rows[before : before + n_rows] = x
    left = Panels.of(rows, offset=2).argument()
    right, bias = Panels.of(w).argument(), b
    x_row = w_row = IN_PANELS
    if x_ordinary:
        data, at = ordinary(rows, 3, 0)
        left, x_row = panels.Panels(data, at, 0, n_in), n_in
    # Behind w and b there is something else: whole vectors of it are read.
    bias, b_at = ordinary(b, 1, out.panel)
    if w_ordinary:
        data, at = ordinary(w, 5, out.panel)
        right, w_row = panels.Panels(data, at, out.panel, n_out), n_out
    elif b.size:
        bias[b_at + b.size :] = 0
    inputs = [left.data.copy(), right.data.copy(), bias.copy()]
    product = Product(left, x_row, right, w_row, bias, b_at, out.argument(), out.flat, finish)
    multiply(product, before, n_rows)
    for array, given in zip((left.data, right.data, bias), inputs, strict=True):
        np.testing.assert_array_equal(array, given)
    return out.take(before, n_rows, finite=not w_ordinary)


@with_columns
@with_dtypes
@pytest.mark.parametrize("places", [(True, False), (False, True), (True, True)], ids=str)
def test_operands_that_are_ordinary_arrays_give_the_bits_of_panels(dtype, n, places, rng):
    for n_rows in ROWS:
        for length in (1, 13, WIDE, 2 * WIDE + 1, K_BLOCK + 1):
            x, w = normals(rng, (n_rows, length), dtype), normals(rng, (length, n), dtype)
            b = normals(rng, n, dtype)
            for finish, before in [(KEEP, 0), (RECTIFY, 2 * TILE_ROWS)]:
                actual = run_in_place(x, w, b, finish, before, *places)
                np.testing.assert_array_equal(actual, run(x, w, b, finish))


def run_one_row(x, w, b, finish, packed):
    """Compute x @ w + b for a vector x: vectors as they are, w as users have it or in panels."""
    n_in, n_out = w.shape
    panel = TILE_VECTORS * lanes(w.dtype)
    behind = whole(n_out, panel) - n_out + panel
    data, at = ordinary(w, 5, 8 * lanes(w.dtype))
    right = panels.Panels(data, at, panel, n_out)
    if packed:
        right = Panels.of(w).argument()
    x, x_at = ordinary(x, 2, 0)
    bias, b_at = np.full(1, np.nan, w.dtype), NO_BIAS
    if b is not None:
        bias, b_at = ordinary(b, 1, behind)
    out = np.full(4 + n_out + behind, np.nan, w.dtype)
    inputs = [x.copy(), right.data.copy(), bias.copy()]
    left, to = panels.Panels(x, x_at, 0, n_in), panels.Panels(out, 4, panel, n_out)
    product = Product(left, n_in, right, IN_PANELS, bias, b_at, to, out, finish)
    (multiply_packed_row if packed else multiply_row)(product)
    for array, given in zip((x, right.data, bias), inputs, strict=True):
        np.testing.assert_array_equal(array, given)
    assert np.isnan(out[:4]).all()
    written = whole(n_out, lanes(w.dtype))
    if packed:
        written = panels.padded_width(n_out, w.itemsize)
    assert np.isnan(out[4 + written :]).all(), "more than whole vectors was written"
    return out[4 : 4 + n_out]


@with_columns
@with_dtypes
@pytest.mark.parametrize("packed", [False, True])
def test_one_row_has_the_bits_of_many(dtype, n, packed, rng):
    for length in (1, 13, WIDE, 2 * WIDE + 1, K_BLOCK + 1):
        for columns in (n, n + 2 * WIDE, n + 8 * WIDE):
            x, w = normals(rng, (TILE_ROWS, length), dtype), normals(rng, (length, columns), dtype)
            b = normals(rng, columns, dtype)
            for finish in (KEEP, RECTIFY):
                for bias in (b, None):
                    actual = run_one_row(x[1], w, bias, finish, packed)
                    np.testing.assert_array_equal(actual, run(x, w, bias, finish)[1])


@with_dtypes
@pytest.mark.parametrize("packed", [False, True])
def test_one_row_without_columns_is_the_bias(dtype, packed):
    b = np.arange(-3, 4, dtype=dtype)
    w = np.empty((0, 7), dtype)
    np.testing.assert_array_equal(run_one_row(w[:, 0], w, b, KEEP, packed), b)
    np.testing.assert_array_equal(run_one_row(w[:, 0], w, b, RECTIFY, packed), np.maximum(b, 0))


def test_blocks_of_a_sum_are_whole_panels():
    for dtype in ("float32", "float64"):
        assert K_BLOCK % (TILE_VECTORS * lanes(dtype)) == 0
        assert TILE_VECTORS * lanes(dtype) % TILE_ROWS == 0
