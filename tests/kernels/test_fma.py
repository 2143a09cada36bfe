"""The multiply-add of numbers: one rounding, one type, and no choice for the compiler."""

import math

import numpy as np
import pytest
from numba.core.errors import TypingError

from fastnn.kernels.fma import fma
from fastnn.runtime.jit import kernel
from tests.kernels.dtypes import each_dtype
from tests.kernels.fused import skip_without_fused_multiply_add

with_dtypes = each_dtype("fma")


@kernel
def multiply_add(a, b, c):
    return fma(a, b, c)


@kernel
def multiply_add_arrays(a, b, c, out):
    for i in range(out.size):
        out[i] = fma(a[i], b[i], c[i])


@kernel
def multiply_then_add(a, b, c, out):
    for i in range(out.size):
        out[i] = a[i] * b[i] + c[i]


@with_dtypes
def test_small_integers_are_exact(dtype, rng):
    a, b, c = rng.integers(-50, 51, (3, 131)).astype(dtype)
    out = np.full_like(a, np.nan)
    multiply_add_arrays(a, b, c, out)
    assert (out == a * b + c).all()


@with_dtypes
def test_special_values_are_those_of_a_product_and_a_sum(dtype):
    nan, inf = np.nan, np.inf
    a, b, c, right = np.array(
        [
            (nan, 1, 1, nan), (1, nan, 1, nan), (1, 1, nan, nan), (inf, 0, 1, nan),
            (inf, 1, -inf, nan), (inf, 2, 1, inf), (2, -inf, 1, -inf), (1, 1, inf, inf),
            (0, 5, 3, 3), (-1, 1, 1, 0),
        ],
        dtype,
    ).T.copy()  # fmt: skip
    out = np.zeros_like(a)
    multiply_add_arrays(a, b, c, out)
    np.testing.assert_array_equal(out, right)


@with_dtypes
def test_the_result_is_rounded_once(dtype):
    skip_without_fused_multiply_add()
    number = np.dtype(dtype).type
    eps = np.finfo(dtype).eps
    # The product is 1 - eps^2, which rounds to 1.
    assert multiply_add(1 + eps, 1 - eps, number(-1)) == -(eps**2)


def test_float32_are_multiplied_and_added_with_one_rounding(rng):
    skip_without_fused_multiply_add()
    # Products, and sums of a product and a float32, of multiples of 2^-12 below 4 are exact in
    # float64.
    a, b, c = (rng.integers(-(2**14), 2**14, (3, 1000)) / 2**12).astype("float32")
    out = np.full_like(a, np.nan)
    multiply_add_arrays(a, b, c, out)
    exact = a.astype("float64") * b + c
    np.testing.assert_array_equal(out, exact.astype("float32"))
    assert (out != a * b + c).any(), "nothing was rounded"


def test_float64_are_multiplied_and_added_with_one_rounding(rng):
    skip_without_fused_multiply_add()
    a, b = (1 + rng.integers(1, 2**26, (2, 1000)) / 2.0**52).astype("float64")
    c = -np.ones(1000)
    out = np.full_like(a, np.nan)
    multiply_add_arrays(a, b, c, out)
    for x, y, actual in zip(a, b, out, strict=True):
        # (1 + p)(1 + q) - 1 = p + q + p q, in units of 2^-104.
        p, q = int((x - 1) * 2**52), int((y - 1) * 2**52)
        assert actual == math.ldexp((p + q) * 2**52 + p * q, -104)


@with_dtypes
def test_a_product_and_a_sum_that_are_written_so_are_rounded_twice(dtype, rng):
    # Not fused by the compiler where it pleases, in vectors or alone.
    a, b, c = rng.normal(size=(3, 131)).astype(dtype)
    out = np.full_like(a, np.nan)
    multiply_then_add(a, b, c, out)
    np.testing.assert_array_equal(out, a * b + c)
    for start in (0, 1, 5):
        part = np.full_like(a[start:], np.nan)
        multiply_then_add(a[start:], b[start:], c[start:], part)
        np.testing.assert_array_equal(part, out[start:])


@pytest.mark.parametrize(
    "arguments",
    [
        (1, 2, 3),
        (1.0, 2.0, 3),
        (1, 2.0, 3.0),
        (np.float32(1), 2.0, 3.0),
        (np.float32(1), np.float32(2), 3.0),
        (1.0, 2.0, np.float32(3)),
        (1.0, 2.0, 3j),
    ],
    ids=str,
)
def test_other_types_are_refused(arguments):
    with pytest.raises(TypingError, match="fma takes three floats of one type, got "):
        multiply_add(*arguments)
