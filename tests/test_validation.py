"""Checks of arguments: what passes comes out as kernels take it, what does not is named."""

import decimal
import fractions

import numpy as np
import pytest

from fastnn import losses
from fastnn.validation import (
    check_dtype,
    check_finite,
    check_inputs,
    check_integer,
    check_number,
    check_targets,
    kernel_array,
)

F4, F8 = np.dtype("f4"), np.dtype("f8")


def frozen(array):
    array.flags.writeable = False
    return array


def unaligned(array):
    view = np.zeros(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


def base_array():
    return np.arange(12, dtype="f4").reshape(3, 4)


# --- kernel_array ---------------------------------------------------------------------------------

NEEDS_A_COPY = {
    "Fortran": lambda: np.asfortranarray(base_array()),
    "strided": lambda: np.repeat(base_array(), 2, axis=1)[:, ::2],
    "reversed": lambda: base_array()[::-1].copy()[::-1],
    "broadcast": lambda: np.broadcast_to(np.float32(3), (3, 4)),
    "unaligned": lambda: unaligned(base_array()),
    "byte-swapped": lambda: base_array().astype(F4.newbyteorder()),
    "float64": lambda: base_array().astype("f8"),
    "integer": lambda: base_array().astype("i2"),
    "bool": lambda: base_array().astype(bool),
    "list": lambda: base_array().tolist(),
    "empty": lambda: np.empty((0, 4), "f4"),
    "frozen empty": lambda: frozen(np.empty((0, 4), "f4")),
    "frozen strided": lambda: frozen(np.repeat(base_array(), 2, axis=1))[:, ::2],
    "frozen unaligned": lambda: frozen(unaligned(base_array())),
    "frozen byte-swapped": lambda: frozen(base_array().astype(F4.newbyteorder())),
    "from bytes, byte-swapped": lambda: np.frombuffer(b"\0\0\1\2" * 4, F4.newbyteorder()),
    "swapped and unaligned": lambda: unaligned(base_array().astype(F4.newbyteorder())),
}


@pytest.mark.parametrize("make", NEEDS_A_COPY.values(), ids=NEEDS_A_COPY)
def test_any_array_becomes_one_of_the_only_kind_that_kernels_know(make):
    given = make()
    before = np.array(given)
    for dtype in (F4, F8, np.dtype("i8")):
        array = kernel_array(given, dtype)
        assert type(array) is np.ndarray
        assert array.dtype == dtype
        assert array.dtype.isnative
        assert array.flags.c_contiguous
        assert array.flags.aligned
        assert array.flags.writeable
        np.testing.assert_array_equal(array, before.astype(dtype))
    np.testing.assert_array_equal(given, before)


@pytest.mark.parametrize("make", NEEDS_A_COPY.values(), ids=NEEDS_A_COPY)
def test_without_a_type_the_array_keeps_its_own(make):
    given = make()
    array = kernel_array(given, None)
    assert array.dtype == np.asarray(given).dtype.newbyteorder("=")
    assert array.dtype.isnative
    assert array.flags.carray
    np.testing.assert_array_equal(array, given)


def test_an_array_of_the_right_kind_is_not_copied():
    given = base_array()
    assert kernel_array(given, F4) is given
    assert kernel_array(given, None) is given
    rows = given[1:]
    assert kernel_array(rows, F4) is rows


def test_a_read_only_array_is_aliased_without_a_copy():
    given = frozen(base_array())
    array = kernel_array(given, F4)
    assert array.flags.writeable
    assert not given.flags.writeable
    assert array.__array_interface__["data"][0] == given.__array_interface__["data"][0]
    assert array.shape == given.shape
    assert array.dtype == given.dtype
    assert array.flags.carray
    np.testing.assert_array_equal(array, given)


def test_an_alias_keeps_the_memory_alive():
    array = kernel_array(np.frombuffer(bytes(range(200)) * 1000, np.uint8), None)
    expected = np.tile(np.arange(200), 1000)
    noise = [b"\xff" * 200_000 for _ in range(20)]  # would take the freed memory
    np.testing.assert_array_equal(array, expected)
    del noise


def test_an_alias_of_a_memory_mapped_file_reads_it(tmp_path):
    np.save(tmp_path / "x.npy", base_array())
    given = np.load(tmp_path / "x.npy", mmap_mode="r")
    array = kernel_array(given, F4)
    assert array.flags.writeable
    assert np.shares_memory(array, given)
    np.testing.assert_array_equal(array, base_array())


# --- check_inputs ---------------------------------------------------------------------------------


def test_inputs_come_out_as_kernels_take_them():
    for make in (base_array, NEEDS_A_COPY["byte-swapped"], NEEDS_A_COPY["bool"]):
        array = check_inputs(make(), F4, 4)
        assert array.dtype == F4
        assert array.flags.carray
        np.testing.assert_array_equal(array, make())
    given = base_array()
    assert check_inputs(given, F4, 4) is given
    assert check_inputs(np.empty((0, 4)), F4, 4).shape == (0, 4)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (
            np.ones(4),
            r"^X must have 2 dimensions \(rows, columns\), got 1; reshape it to \(1, 4\)$",
        ),
        (1.0, r"^X must have 2 dimensions \(rows, columns\), got 0$"),
        (np.ones((1, 2, 4)), r"^X must have 2 dimensions \(rows, columns\), got 3$"),
        (np.ones((2, 3)), r"^X must have 4 columns, got 3$"),
        ([["a"] * 4], r"^X must be numeric, got dtype <U1$"),
        (None, r"^X must be numeric, got dtype object$"),
        (np.ones((1, 4), "M8[D]"), r"^X must be numeric, got dtype datetime64\[D\]$"),
        (np.ones((1, 4), complex), r"^X must be numeric, got dtype complex128$"),
        ([[1, 2, 3, np.nan]], r"^X must be finite, got nan at X\[0, 3\]$"),
        ([[1] * 4, [-np.inf, 1, 1, 1]], r"^X must be finite, got -inf at X\[1, 0\]$"),
    ],
)
def test_unfit_inputs_are_named(x, message):
    with pytest.raises(ValueError, match=message):
        check_inputs(x, F4, 4)


def test_a_number_too_large_for_the_type_is_refused_without_a_warning():
    with pytest.raises(ValueError, match=r"^X must .* at X\[0, 2\]"):
        check_inputs([[1, 2, 1e300, 4]], F4, 4)


def test_messages_carry_the_name_of_the_argument():
    with pytest.raises(ValueError, match=r"^validation_data\[0\] must have 4 columns, got 3$"):
        check_inputs(np.ones((2, 3)), F4, 4, name="validation_data[0]")
    with pytest.raises(ValueError, match=r"^dout must be finite, got inf at dout\[0, 1\]$"):
        check_inputs([[1, np.inf]], F4, 2, name="dout")


def test_values_are_not_looked_at_where_nan_is_allowed():
    array = check_inputs([[np.nan, np.inf]], F4, 2, finite=False)
    np.testing.assert_array_equal(array, [[np.nan, np.inf]])


@pytest.mark.parametrize("row", [0, 1, 4095, 4096, 9999])
def test_the_first_place_that_is_not_finite_is_named(row):
    x = np.zeros((10_000, 2))
    x[row, 1] = x[9999, 1] = np.nan
    with pytest.raises(ValueError, match=rf"^x must be finite, got nan at x\[{row}, 1\]$"):
        check_finite("x", x)
    with pytest.raises(ValueError, match=rf"^x must be finite, got nan at x\[{row}\]$"):
        check_finite("x", x[:, 1])
    check_finite("x", np.delete(x, [row, 9999], axis=0))


# --- check_targets --------------------------------------------------------------------------------


def targets(y, loss, n_rows=3, n_outputs=2, dtype=F4, **name):
    return check_targets(y, losses.get(loss), n_rows, n_outputs, dtype, **name)


@pytest.mark.parametrize(
    "y", [[0, 1, 1], np.array([0.0, 1, 1]), np.array([0, 1, 1], ">u2"), [False, True, True]]
)
def test_labels_become_int64(y):
    labels, rows = targets(y, "softmax_cross_entropy")
    assert labels.dtype == np.int64
    assert labels.flags.carray
    assert labels.tolist() == [0, 1, 1]
    assert rows.shape == (0, 2)
    assert rows.dtype == F4


@pytest.mark.parametrize("loss", ["mse", "binary_cross_entropy", "softmax_cross_entropy"])
def test_rows_of_targets_become_kernel_arrays(loss):
    y = np.asfortranarray([[0, 1], [1, 0], [0.5, 0.5]])
    labels, rows = targets(y, loss)
    assert labels.size == 0
    assert rows.dtype == F4
    assert rows.flags.carray
    np.testing.assert_array_equal(rows, y)


def test_a_vector_is_one_column():
    for loss in ("mse", "squared_error", "binary_cross_entropy"):
        _, rows = targets([0, 1, 1], loss, n_outputs=1)
        np.testing.assert_array_equal(rows, [[0], [1], [1]])


@pytest.mark.parametrize(
    ("y", "loss", "message"),
    [
        ([0, 1], "mse", r"^y must have 3 rows as X has, got shape \(2,\)$"),
        (1, "mse", r"^y must have 3 rows as X has, got shape \(\)$"),
        (np.ones((3, 1, 1)), "mse", r"^y must have 3 rows as X has, got shape \(3, 1, 1\)$"),
        ([0, 1, 1], "mse", r"^y must have 2 columns, got 1; for classes use loss='soft"),
        ([0.5, 1, 1], "mse", r"^y must have 2 columns, got 1$"),
        (np.ones((3, 3)), "softmax_cross_entropy", r"^y must have 2 columns, got 3$"),
        (list("abc"), "mse", r"^y must be numeric, got dtype <U1: encode labels as 0..C-1$"),
        ([None] * 3, "mse", r"^y must be numeric, got dtype object: encode"),
        ([[0, np.nan]] * 3, "mse", r"^y must be finite, got nan at y\[0, 1\]$"),
        ([[0, 2.5]] * 3, "binary_cross_entropy", r"^y must lie in \[0, 1\] .* from 0 to 2.5$"),
        ([[0, 2]] * 3, "binary_cross_entropy", r"^y must lie in \[0, 1\] .* 0 to 2; for more "),
        ([[-1, 1]] * 3, "softmax_cross_entropy", r"^y must lie in \[0, 1\] .* from -1 to 1$"),
        ([0, 1, 2], "softmax_cross_entropy", r"^y must hold classes from 0 to 1 .*, got 2$"),
        ([0, -1, 1], "softmax_cross_entropy", r"^y must hold classes from 0 to 1 .*, got -1$"),
        ([0, 0.5, 1], "softmax_cross_entropy", r"^y must hold integer classes, got 0.5; for numb"),
        ([0, np.nan, 1], "softmax_cross_entropy", r"^y must be finite, got nan at y\[1\]$"),
        ([0, np.inf, 1], "softmax_cross_entropy", r"^y must be finite, got inf at y\[1\]$"),
        ([0, 2**63, 1], "softmax_cross_entropy", r"^y must hold classes from 0 to 1"),
        ([0, 1e30, 1], "softmax_cross_entropy", r"^y must hold classes from 0 to 1"),
    ],
)
def test_unfit_targets_are_named(y, loss, message):
    with pytest.raises(ValueError, match=message):
        targets(y, loss)


def test_messages_carry_the_name_of_the_target():
    with pytest.raises(ValueError, match=r"^validation_data\[1\] must have 2 columns, got 1$"):
        targets([0, 1, 0.5], "mse", name="validation_data[1]")


# --- numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [1, 5, np.int8(5), np.uint64(5), 10**30])
def test_integers_of_any_kind_are_taken(value):
    result = check_integer("n", value, 1)
    assert type(result) is int
    assert result == value


@pytest.mark.parametrize("value", [0, -1, 1.0, np.float64(2), True, np.True_, "1", None, [1], 1j])
def test_what_is_no_integer_is_named(value):
    with pytest.raises(ValueError, match=r"^n must be an integer >= 1, got ") as caught:
        check_integer("n", value, 1)
    assert str(caught.value).endswith(repr(value))


@pytest.mark.parametrize("value", [0, 0.5, np.float32(0.5), np.int16(3), fractions.Fraction(1, 2)])
def test_numbers_of_any_kind_are_taken(value):
    result = check_number("x", value)
    assert type(result) is float
    assert result == value


@pytest.mark.parametrize(
    "value",
    [-1e-9, np.nan, np.inf, True, "1", None, [1.0], 1j, decimal.Decimal(1), 10**400],
    ids=lambda value: repr(value)[:20],
)
def test_what_is_no_number_is_named(value):
    with pytest.raises(ValueError, match=r"^x must be a finite number >= 0, got "):
        check_number("x", value)


def test_the_least_number_is_named():
    assert check_number("x", 2, least=2) == 2
    with pytest.raises(ValueError, match=r"^x must be a finite number >= 2, got 1.5$"):
        check_number("x", 1.5, least=2)


@pytest.mark.parametrize("dtype", ["float32", "f4", np.float32, F4, float, "d", F8])
def test_float32_and_float64_are_known_by_all_their_names(dtype):
    result = check_dtype(dtype)
    assert result == np.dtype(dtype)
    assert result in (F4, F8)


@pytest.mark.parametrize(
    "dtype",
    ["float16", "int32", "complex64", int, object, "nonsense", 3, [], None, F4.newbyteorder()],
    ids=repr,
)
def test_other_types_are_named(dtype):
    with pytest.raises(ValueError, match=r"^dtype must be 'float32' or 'float64', got ") as caught:
        check_dtype(dtype)
    assert str(caught.value).endswith(repr(dtype))
