"""`fastnn.matmul` against exact integer products and NumPy, for all it takes and all it refuses."""

import itertools
from concurrent.futures import ThreadPoolExecutor

import hypothesis
import numba
import numpy as np
import pytest
from hypothesis import strategies as st
from memory_layouts import misaligned, read_only
from numba.core import event

from fastnn import linalg, matmul
from fastnn.kernels import matmul as blocks
from fastnn.kernels import reference
from fastnn.kernels.activations import ACTIVATIONS
from fastnn.kernels.panels import panel_columns
from fastnn.kernels.tile import TILE_ROWS

# Around the edges of tiles, which have as many columns as a panel: in float64 half as many.
PANEL = panel_columns(4)
SIZES = sorted({0, 1, *(n + k for n in (TILE_ROWS, PANEL) for k in (-1, 0, 1)), 2 * PANEL + 1})

with_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


def integers(rng, shape, dtype="float64"):
    """Draw small integers: their sums of products are exact in any order."""
    return rng.integers(-5, 6, shape).astype(dtype)


def poisoned(shape, dtype="float64"):
    return np.full(shape, np.nan, dtype)


def strided(array):
    """Return the same numbers as every second element of an array full of NaN."""
    view = np.full([2 * n for n in array.shape], np.nan, array.dtype)
    view = view[(slice(None, None, 2),) * array.ndim]
    view[...] = array
    return view


def unaligned(array):
    view = misaligned(array)
    assert not view.flags.aligned
    return view


def byte_swapped(array):
    return array.astype(array.dtype.newbyteorder())


LAYOUTS = {
    "C": lambda array: array,
    "Fortran": np.asfortranarray,
    "strided": strided,
    "reversed": lambda array: np.ascontiguousarray(array[::-1, ::-1])[::-1, ::-1],
    "read-only": read_only,
    "read-only strided": lambda array: np.broadcast_to(strided(array), array.shape),
    "read-only Fortran": lambda array: read_only(array.T.copy()).T,
    "unaligned": unaligned,
    "byte-swapped": byte_swapped,
}


@with_dtypes
@pytest.mark.parametrize("a_transposed", [False, True])
@pytest.mark.parametrize("b_transposed", [False, True])
def test_products_of_integers_are_exact_for_all_shapes(dtype, a_transposed, b_transposed, rng):
    for m, k, n in itertools.product(SIZES, repeat=3):
        a, b = rng.integers(-5, 6, (m, k)), rng.integers(-5, 6, (k, n))
        left = a.T.astype(dtype, order="C").T if a_transposed else a.astype(dtype)
        right = b.T.astype(dtype, order="C").T if b_transposed else b.astype(dtype)
        memory = poisoned(m * n + 128, dtype)
        out = memory[64:-64].reshape(m, n)
        assert matmul(left, right, out=out) is out
        assert (out == a @ b).all(), (m, k, n)
        assert np.isnan(memory[:64]).all()
        assert np.isnan(memory[-64:]).all(), (m, k, n)


def shapes_at_the_edges_of_blocks():
    """Sizes one below, at and one above each place where the kernels take another way."""
    k, rows = blocks.K_BLOCK, blocks.ROW_BLOCK
    panel = blocks.PANEL_BYTES // 4
    for around in (k - 1, k, k + 1, 2 * k + 3):
        yield 13, around, 101
        yield 61, around, 67
        yield 2, around, 131
    for around in (rows - 1, rows, rows + 1, 2 * rows + 5):
        yield around, 113, 211
        yield around, 3, 29
    for around in (blocks.IN_PLACE_ROWS, blocks.IN_PLACE_ROWS + 1):
        yield around, 311, 103
    for panels in (blocks.PACK_COLUMNS_PANELS, blocks.PACK_ROWS_PANELS, blocks.PANEL_BLOCK):
        for around in (-1, 0, 1):
            yield 17, 19, panels * panel + around
            yield 17, 19, panels * panel // 2 + around  # for float64
    yield 1, 1009, 1
    yield 1009, 7, 1
    yield 1, 7, 1009


@with_dtypes
@pytest.mark.parametrize("n_threads", [1, 2])
def test_products_of_integers_are_exact_at_the_edges_of_blocks(dtype, n_threads, rng, monkeypatch):
    if n_threads > numba.config.NUMBA_NUM_THREADS:
        pytest.skip("Numba may use one thread only")
    monkeypatch.setattr(linalg, "MIN_WORK_PER_THREAD", 1)
    for m, k, n in shapes_at_the_edges_of_blocks():
        a, b = integers(rng, (m, k), dtype), integers(rng, (k, n), dtype)
        expected = a @ b
        for left, right in itertools.product((a, np.asfortranarray(a)), (b, np.asfortranarray(b))):
            memory = poisoned(m * n + 128, dtype)
            out = memory[64:-64].reshape(m, n)
            matmul(left, right, out=out, n_threads=n_threads)
            assert (out == expected).all(), (m, k, n)
            assert np.isnan(memory[:64]).all()
            assert np.isnan(memory[-64:]).all(), (m, k, n)


@with_dtypes
def test_a_sum_begins_with_the_bias_and_goes_on_in_the_order_of_k(dtype, rng):
    for m, k, n in [(1, 700, 70), (5, 300, 31), (40, 520, 130), (150, 260, 10), (9, 30, 800)]:
        a, b = rng.normal(size=(m, k)).astype(dtype), rng.normal(size=(k, n)).astype(dtype)
        bias = rng.normal(size=n).astype(dtype)
        # 0 + 1 * bias is the bias, so one more term in front must change nothing, though it moves
        # all the others to other places in their blocks.
        longer = matmul(np.c_[np.ones(m, dtype), a], np.r_[bias[None], b])
        np.testing.assert_array_equal(matmul(a, b, bias=bias), longer)
        # A sum may also be broken off anywhere, and taken up again.
        for split in (1, k // 2, k - 1):
            row = matmul(a[:1, :split], b[:split], bias=bias)[0]
            row = matmul(a[:1, split:], b[split:], bias=row)[0]
            np.testing.assert_array_equal(row, longer[0])


@with_dtypes
def test_parts_of_a_product_have_the_bits_of_the_whole(dtype, rng):
    """Blocked or in place, on tiles of any shape."""
    a, b = rng.normal(size=(150, 600)).astype(dtype), rng.normal(size=(600, 200)).astype(dtype)
    whole = matmul(a, b, n_threads=1)
    for left, right in itertools.product((a, np.asfortranarray(a)), (b, np.asfortranarray(b))):
        np.testing.assert_array_equal(matmul(left, right), whole)
        for rows in (slice(0, 1), slice(3, 6), slice(20, 29), slice(100, 150)):
            np.testing.assert_array_equal(matmul(left[rows], right), whole[rows])
            for columns in (slice(0, 1), slice(1, 8), slice(50, 75), slice(9, 200)):
                part = matmul(left[rows], right[:, columns])
                np.testing.assert_array_equal(part, whole[rows, columns])


@with_dtypes
def test_the_short_way_and_the_long_way_give_the_same_bits(dtype, rng):
    for m, k, n in [(1, 1, 1), (3, 70, 9), (12, 12, 12), (50, 300, 70), (130, 200, 150)]:
        a, b = rng.normal(size=(m, k)).astype(dtype), rng.normal(size=(k, n)).astype(dtype)
        short = matmul(a, b)
        np.testing.assert_array_equal(matmul(a, b, activation="identity"), short)
        np.testing.assert_array_equal(matmul(a, b, bias=np.zeros(n, dtype)), short)
        np.testing.assert_array_equal(matmul(unaligned(a), byte_swapped(b)), short)
        np.testing.assert_array_equal(matmul(a.view(np.matrix), b), short)
        assert type(matmul(a.view(np.matrix), b)) is np.ndarray


def test_python_threads_may_multiply_at_the_same_time(rng):
    pairs = [(integers(rng, (m, 70), "f4"), integers(rng, (70, 300), "f4")) for m in range(1, 60)]
    biases = [integers(rng, 300, "f4") for _ in pairs]

    def product(pair, bias):
        return matmul(*pair, bias=bias), matmul(*pair)

    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            results = pool.map(product, pairs, biases)
            for (a, b), bias, (with_bias, without) in zip(pairs, biases, results, strict=True):
                assert (without == a @ b).all()
                assert (with_bias == a @ b + bias).all()


@with_dtypes
def test_products_of_real_numbers_round_within_their_bound(dtype, rng):
    eps = np.finfo(dtype).eps
    for m, k, n in [(1, 1, 1), (9, 97, 49), (47, 331, 31), (8, 1009, 48)]:
        a, b = rng.normal(size=(m, k)).astype(dtype), rng.normal(size=(k, n)).astype(dtype)
        bias = rng.normal(size=n).astype(dtype)
        A, B = a.astype(np.longdouble), b.astype(np.longdouble)
        error = np.abs(matmul(a, b, bias=bias) - (A @ B + bias))
        assert (error <= (k + 1) * eps * (np.abs(A) @ np.abs(B) + np.abs(bias))).all()


@hypothesis.given(
    m=st.integers(0, 70), k=st.integers(0, 70), n=st.integers(0, 110), seed=st.integers(0, 999),
    dtype=st.sampled_from(["float32", "float64"]), with_bias=st.booleans(),
    a_layout=st.sampled_from(list(LAYOUTS)), b_layout=st.sampled_from(list(LAYOUTS)),
)  # fmt: skip
@hypothesis.settings(max_examples=200)
def test_products_are_exact_for_any_shape_and_layout(
    m, k, n, seed, dtype, with_bias, a_layout, b_layout
):
    rng = np.random.default_rng(seed)
    a, b, bias = integers(rng, (m, k)), integers(rng, (k, n)), integers(rng, n)
    out = matmul(
        LAYOUTS[a_layout](a.astype(dtype)) if m and k else np.zeros((m, k), dtype),
        LAYOUTS[b_layout](b.astype(dtype)) if k and n else np.zeros((k, n), dtype),
        bias=bias if with_bias else None,
    )
    assert out.dtype == dtype
    assert out.flags.c_contiguous
    assert (out == a @ b + bias * with_bias).all()


@pytest.mark.parametrize("a_layout", LAYOUTS)
@pytest.mark.parametrize("b_layout", LAYOUTS)
def test_all_layouts_give_the_same_bits_and_are_left_alone(a_layout, b_layout, rng):
    a, b = rng.normal(size=(9, 13)).astype("f4"), rng.normal(size=(13, 50)).astype("f4")
    left, right = LAYOUTS[a_layout](a), LAYOUTS[b_layout](b)
    out = matmul(left, right)
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out, matmul(a, b))
    np.testing.assert_array_equal(left, a)
    np.testing.assert_array_equal(right, b)


def test_a_matrix_times_its_own_transpose_is_symmetric(rng):
    a = rng.normal(size=(31, 17)).astype("f4")
    out = matmul(a, a.T)
    np.testing.assert_array_equal(out, out.T)


def test_types_are_promoted_to_the_wider_one(rng):
    for left, right, expected in [
        ("f4", "f4", "f4"),
        ("f4", "f8", "f8"),
        ("f8", "f4", "f8"),
        (">f4", "f4", "f4"),
        (">f4", ">f4", "f4"),
        (">f8", ">f4", "f8"),
        ("i8", "i8", "f8"),
        ("u1", "?", "f8"),
        ("f4", "i8", "f8"),
        ("f2", "f2", "f8"),
    ]:
        a, b = rng.integers(0, 2, (3, 4)), rng.integers(0, 2, (4, 5))
        out = matmul(a.astype(left), b.astype(right))
        assert out.dtype == np.dtype(expected), (left, right)
        assert out.dtype.isnative
        assert (out == a @ b).all()


def test_lists_are_arrays():
    out = matmul([[1, 2], [3, 4]], [[1], [1]], bias=[10])
    assert out.tolist() == [[13.0], [17.0]]


def test_sums_without_terms_are_the_bias():
    bias = np.arange(5, dtype="f4")
    out = matmul(np.empty((3, 0), "f4"), np.empty((0, 5), "f4"), bias=bias, activation="relu")
    np.testing.assert_array_equal(out, np.tile(bias, (3, 1)))
    np.testing.assert_array_equal(matmul(np.empty((2, 0)), np.empty((0, 3))), np.zeros((2, 3)))


@with_dtypes
@pytest.mark.parametrize("activation", [None, "identity", *ACTIVATIONS])
def test_bias_and_activation_are_applied(dtype, activation, rng):
    for m, k, n in [(1, 1, 1), (7, 9, PANEL + 1), (33, 8, 31)]:
        a, b = rng.normal(size=(m, k)).astype(dtype), rng.normal(size=(k, n)).astype(dtype)
        bias = rng.normal(size=n).astype(dtype)
        z = matmul(a, b, bias=bias)
        expected = z.copy()
        if activation is not None:
            of_function = {"leaky_relu": (0.01,), "elu": (1.0,)}.get(activation, ())
            getattr(reference, f"{activation}_forward")(expected, expected, *of_function)
        out = matmul(a, b, bias=bias, activation=activation)
        # The tail of a GELU is a power with the exponent z^2, whose rounding it multiplies.
        steepness = z**2 if activation in ("gelu", "gelu_tanh") else 0
        tolerance = (8 + n + steepness) * np.finfo(dtype).eps
        np.testing.assert_array_less(abs(out - expected) - tolerance * abs(expected), 1e-300)


@with_dtypes
def test_nan_and_infinity_are_seen(dtype):
    a, b = np.ones((9, 4), dtype), np.ones((4, 5), dtype)
    a[3, 2], a[5, 0], b[1, 4] = np.nan, np.inf, -np.inf
    with np.errstate(invalid="ignore"):
        expected = a @ b
    for activation in (None, "relu"):
        out = matmul(a, b, activation=activation)
        right = np.where(expected <= 0, 0, expected) if activation else expected
        np.testing.assert_array_equal(out, right)
    # 0 * inf and 0 * nan are nan.
    assert np.isnan(matmul(np.zeros((1, 1)), np.array([[np.inf]])))
    assert np.isnan(matmul(np.array([[np.nan]]), np.zeros((1, 1))))


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="Numba may use one thread only")
@with_dtypes
def test_results_have_the_same_bits_for_any_number_of_threads(dtype, rng, monkeypatch):
    monkeypatch.setattr(linalg, "MIN_WORK_PER_THREAD", 1)
    for m, k, n in [(1, 2, 3), (8, 97, 97), (9, 31, 49), (97, 97, 97), (131, 61, 7), (3, 500, 200)]:
        a, b = rng.normal(size=(m, k)).astype(dtype), rng.normal(size=(k, n)).astype(dtype)
        for left, right in [(a, b), (np.asfortranarray(a), np.asfortranarray(b))]:
            alone = matmul(left, right, n_threads=1)
            together = matmul(left, right, n_threads=2, out=poisoned((m, n), dtype))
            np.testing.assert_array_equal(alone, together)


def test_a_row_does_not_depend_on_the_rows_beside_it(rng):
    a, b = rng.normal(size=(97, 61)).astype("f4"), rng.normal(size=(61, 50)).astype("f4")
    together = matmul(a, b)
    for row in (0, 7, 8, 95, 96):
        np.testing.assert_array_equal(matmul(a[row : row + 1], b)[0], together[row])
    for n in (1, 17, 48):
        np.testing.assert_array_equal(matmul(a, b[:, :n]), together[:, :n])


def test_out_is_overwritten_and_returned(rng):
    a, b = integers(rng, (9, 13)), integers(rng, (13, 50))
    memory = poisoned((11, 50))
    out = memory[1:10]
    assert matmul(a, b, out=out) is out
    assert (out == a @ b).all()
    assert np.isnan(memory[[0, 10]]).all()


def test_bias_may_be_strided_and_of_another_type(rng):
    a, b, bias = integers(rng, (3, 4), "f4"), integers(rng, (4, 5), "f4"), integers(rng, 5)
    for given in (bias, strided(bias), read_only(bias), byte_swapped(bias), bias.astype("i8")):
        out = matmul(a, b, bias=given)
        assert out.dtype == np.float32
        assert (out == a @ b + bias).all()


def test_no_layout_compiles_anything_new(rng):
    a, b = integers(rng, (97, 97), "f4"), integers(rng, (97, 97), "f4")
    matmul(a, b, activation="relu")  # compiles what there is to compile
    with event.install_recorder("numba:compile") as recorder:
        for left, right in itertools.product(LAYOUTS.values(), repeat=2):
            matmul(left(a), right(b), activation="tanh", n_threads=1)
            matmul(left(a), right(b), bias=read_only(a[0]), activation="relu")
        matmul(left(a), right(b), out=np.empty((97, 97), "f4"), activation="relu")
    assert not recorder.buffer


OUT_REFUSED = r"^out must be a writable C-contiguous float64 array of shape \(3, 5\)"


def refused_outputs():
    frozen = np.empty((3, 5))
    frozen.flags.writeable = False
    yield "shape", np.empty((5, 3))
    yield "type", np.empty((3, 5), "f4")
    yield "byte order", np.empty((3, 5), np.dtype("f8").newbyteorder())
    yield "read-only", frozen
    yield "Fortran", np.empty((3, 5), order="F")
    yield "strided", strided(np.empty((3, 5)))
    yield "unaligned", unaligned(np.empty((3, 5)))
    yield "a list", [[0.0] * 5] * 3


@pytest.mark.parametrize("out", [pytest.param(out, id=name) for name, out in refused_outputs()])
def test_an_unfit_out_is_refused(out):
    with pytest.raises(ValueError, match=OUT_REFUSED):
        matmul(np.ones((3, 4)), np.ones((4, 5)), out=out)


def test_an_out_that_shares_memory_with_the_inputs_is_refused():
    memory = np.ones(40)
    for a, b in [
        (memory[:12].reshape(3, 4), np.ones((4, 5))),
        (np.ones((3, 4)), memory[10:30].reshape(4, 5)),
    ]:
        with pytest.raises(ValueError, match=OUT_REFUSED):
            matmul(a, b, out=memory[:15].reshape(3, 5))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a": np.ones(4)}, r"^a must be a numeric array with 2 dimensions, got shape \(4,\)"),
        ({"a": np.ones((1, 3, 4))}, r"^a must be .* got shape \(1, 3, 4\) and dtype float64$"),
        ({"a": 1.0}, r"^a must be .* got shape \(\)"),
        ({"a": np.ones((3, 4), complex)}, r"^a must be .* dtype complex128$"),
        ({"a": np.ones((3, 4), object)}, r"^a must be .* dtype object$"),
        ({"a": [["x"] * 4] * 3}, r"^a must be .* dtype <U1$"),
        ({"b": np.ones(4)}, r"^b must be a numeric array with 2 dimensions, got shape \(4,\)"),
        ({"b": np.ones((4, 5), "M8[s]")}, r"^b must be .* dtype datetime64\[s\]$"),
        (
            {"b": np.ones((3, 5))},
            r"^b must have as many rows as a has columns \(4\), got shape \(3",
        ),
        (
            {"bias": np.ones(4)},
            r"^bias must be numeric and .* \(5,\), got shape \(4,\) and dtype float64$",
        ),
        (
            {"bias": np.ones((1, 5))},
            r"^bias must be numeric and .* \(5,\), got shape \(1, 5\) and dtype float64$",
        ),
        ({"bias": 1.0}, r"^bias must be numeric and .* \(5,\), got shape \(\) and dtype float64$"),
        ({"bias": ["x"] * 5}, r"^bias must "),
        ({"bias": np.ones(5, complex)}, r"^bias must "),
        ({"activation": "glu"}, r"^activation must be one of 'identity', .* or None, got 'glu'$"),
        ({"activation": 1}, r"^activation must be one of .* got 1$"),
        ({"activation": ["relu"]}, r"^activation must be one of .* got \['relu'\]$"),
        ({"n_threads": 0}, r"^n_threads must be an integer >= 1, got 0$"),
        ({"n_threads": 1.0}, r"^n_threads must be an integer >= 1, got 1.0$"),
        ({"n_threads": True}, r"^n_threads must be an integer >= 1, got True$"),
    ],
)
def test_wrong_arguments_are_named(change, message):
    matmul(np.ones((3, 4)), np.ones((4, 5)))  # from now on there is a short way
    arguments = {"a": np.ones((3, 4)), "b": np.ones((4, 5)), **change}
    with pytest.raises(ValueError, match=message):
        matmul(**arguments)


def test_nothing_is_computed_before_the_arguments_are_checked():
    out = poisoned((3, 5))
    with pytest.raises(ValueError, match=r"^bias must"):
        matmul(np.ones((3, 4)), np.ones((4, 5)), out=out, bias=np.ones(4))
    assert np.isnan(out).all()
