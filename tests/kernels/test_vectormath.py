"""exp and its relatives: how far they are from the truth, and that they are SIMD code."""

import decimal
import math
import re

import llvmlite.binding
import numba
import numpy as np
import pytest
from numba import types

from fastnn.kernels import vectormath
from tests.kernels.dtypes import each_dtype

# In units of the last place, as the module says.
LIMITS = {
    "exp": 2,
    "expm1": 3,
    "logistic": 3,
    "softplus": 4,
    "tanh": 5,
    "tanh_softplus": 4,
    "normal_cdf": 7,
}
LARGEST_EXPM1 = {"float32": 18, "float64": 38}  # of its arguments

with_functions = pytest.mark.parametrize("name", LIMITS)
with_dtypes = each_dtype("vectormath")


def loop_over(name):
    function = getattr(vectormath, name)

    def loop(out, x):
        for i in range(x.size):
            out[i] = function(x[i])

    return loop


LOOPS = {name: loop_over(name) for name in LIMITS}
# A cache cannot hold a loop that takes a function from around it.
COMPILED = {name: numba.njit(error_model="numpy")(loop) for name, loop in LOOPS.items()}


def compute(name, x):
    out = np.full_like(x, np.nan)
    COMPILED[name](out, x)
    return out


def exact_double(name, x):
    """Return the function of float32 numbers in float64: 29 bits more than float32 has."""
    x = x.astype(np.float64)
    with np.errstate(over="ignore"):
        if name == "logistic":
            return 1 / (1 + np.exp(-x))
        if name == "softplus":
            return np.logaddexp(0, x)
        if name == "tanh_softplus":
            return np.tanh(np.logaddexp(0, x))
        if name == "normal_cdf":
            return np.fromiter((math.erfc(-v / math.sqrt(2)) / 2 for v in x.tolist()), float)
        return getattr(np, name)(x)


def exact_decimal(name, x):
    """Return the function of one float, to 50 digits."""
    if name == "softplus" and x > 1000:
        return decimal.Decimal(float(x))
    with decimal.localcontext(prec=50, Emin=-9999, Emax=9999):
        x = decimal.Decimal(max(-1000.0, min(float(x), 1000.0)))  # no other results beyond
        tiny = abs(x) < decimal.Decimal("1e-10")
        if name == "exp":
            return x.exp()
        if name == "expm1":
            return x + x**2 / 2 + x**3 / 6 if tiny else x.exp() - 1
        if name == "logistic":
            return 1 / (1 + (-x).exp())
        if name == "softplus":
            return x.exp() - (2 * x).exp() / 2 if x < -40 else (1 + x.exp()).ln()
        if name == "tanh_softplus":
            above = x.exp() * (x.exp() + 2)
            return above / (above + 2)
        if name == "normal_cdf":
            return normal_tail(-x) if x < 0 else 1 - normal_tail(x)
        if tiny:
            return x - x**3 / 3  # the fraction below would lose its digits
        return ((2 * x).exp() - 1) / ((2 * x).exp() + 1)


def pi_of_decimals():
    """Machin's formula: pi = 16 arctan(1/5) - 4 arctan(1/239)."""

    def arctan_of_inverse(n):
        power, total, k = decimal.Decimal(1) / n, decimal.Decimal(0), 1
        while power > decimal.Decimal(10) ** -decimal.getcontext().prec:
            total += power / k if k % 4 == 1 else -power / k
            power /= n * n
            k += 2
        return total

    with decimal.localcontext(prec=500):
        return 16 * arctan_of_inverse(5) - 4 * arctan_of_inverse(239)


PI = pi_of_decimals()


def normal_tail(y):
    """1/2 - phi(y) (y + y^3/3 + y^5/(3*5) + ...) for y >= 0; what is small is a difference."""
    if y > 40:
        return decimal.Decimal(0)
    with decimal.localcontext(prec=50 + int(y * y / 4)):
        total, term, n = decimal.Decimal(0), y, 1
        while term > total.scaleb(-decimal.getcontext().prec):
            total += term
            n += 2
            term *= y * y / n
        return decimal.Decimal("0.5") - (-y * y / 2).exp() / (2 * PI).sqrt() * total


def ulps_single(name, x):
    """Return the error of each result, in units of the last place of the right one."""
    actual, exact = compute(name, x).astype(np.float64), exact_double(name, x)
    with np.errstate(over="ignore"):
        rounded = exact.astype(np.float32)
    overflow = np.isinf(rounded)
    np.testing.assert_array_equal(actual[overflow], rounded[overflow])
    actual, exact, rounded = actual[~overflow], exact[~overflow], rounded[~overflow]
    return np.abs(actual - exact) / np.spacing(np.abs(rounded)).astype(np.float64), x[~overflow]


def ulps_double(name, x):
    errors = []
    for value, actual in zip(x, compute(name, x), strict=True):
        exact = exact_decimal(name, value)
        rounded = float(exact)  # rounds correctly, subnormal numbers too
        if np.isinf(rounded):
            assert actual == rounded
            errors.append(0.0)
        else:
            unit = decimal.Decimal(float(np.spacing(abs(rounded))))
            errors.append(float(abs(decimal.Decimal(float(actual)) - exact) / unit))
    return np.array(errors), x


def assert_below_limit(name, x):
    if name == "expm1":
        x = x[x <= LARGEST_EXPM1[x.dtype.name]]
    errors, x = (ulps_single if x.dtype == np.float32 else ulps_double)(name, x)
    if name == "normal_cdf":  # the power makes that much of the rounding of x^2
        below = np.clip(x.astype(np.float64), -40, 0)
        errors = errors - below**2 / 2
    worst = errors.argmax()
    assert errors[worst] < LIMITS[name], f"{name}({x[worst]!r})"


def around(*centres, steps, dtype):
    """Return floats within some steps of each centre, one by one."""
    integer = np.int32 if dtype == "float32" else np.int64
    bits = np.array(centres, dtype).view(integer)[:, None] + np.arange(-steps, steps + 1)
    return bits.astype(integer).ravel().view(dtype)


@with_functions
def test_every_thousandth_float32_is_within_the_bounds(name):
    # Bit patterns of all finite floats, negative ones too; 1009 is a prime number.
    bits = np.arange(0, 0x7F800000, 1009, dtype=np.uint32)
    x = np.concatenate([bits.view(np.float32), (bits | np.uint32(1 << 31)).view(np.float32)])
    if name == "logistic":
        x = x[x > -88.7]  # below, see the test of its smallest results
    assert_below_limit(name, x)


@with_functions
def test_float64_over_the_whole_range_is_within_the_bounds(name, rng):
    magnitudes = 2.0 ** rng.uniform(-1074, 1023.9, 1500)  # mostly 0, 1 and infinity
    ordinary = rng.uniform(-746, 710, 1500)
    small = np.concatenate([rng.uniform(-40, 40, 2000), rng.uniform(-1, 1, 2000)])
    x = np.concatenate([magnitudes, -magnitudes, ordinary, small])
    if name == "logistic":
        x = x[x > -709.7]
    if name == "normal_cdf":
        x = x[::10]  # 400 digits take their time
    assert_below_limit(name, x)


@with_functions
def test_floats_around_the_edges_of_reduction_are_within_the_bounds(name):
    # Where n of x = n ln 2 + r changes: the series is used at its ends.
    half_ln2 = np.log(2) / 2
    for dtype, steps in [("float32", 100), ("float64", 20)]:
        centres = [k * half_ln2 for k in range(-25, 26, 2)]
        assert_below_limit(name, around(*centres, steps=steps, dtype=dtype))


def test_subnormal_results_of_exp_are_within_the_bounds(rng):
    for dtype, low, high, n in [("float32", -104, -87, 100_000), ("float64", -746, -708, 3000)]:
        x = rng.uniform(low, high, n).astype(dtype)
        results = compute("exp", x)
        subnormal = (results > 0) & (results < np.finfo(dtype).smallest_normal)
        assert subnormal.mean() > 0.5
        assert_below_limit("exp", x)


def test_the_last_finite_and_the_first_infinite_exp():
    for dtype in ("float32", "float64"):
        largest = np.log(np.finfo(dtype).max.astype(np.float64))
        smallest = np.log(np.finfo(dtype).smallest_subnormal.astype(np.longdouble))
        x = around(largest, smallest, float(smallest) - np.log(2), steps=200, dtype=dtype)
        assert_below_limit("exp", x)


def test_smallest_results_of_logistic_are_within_the_bounds(rng):
    """Below -88.7 (float32) e^-x overflows, though the result e^x does not vanish."""
    for dtype, low, high, n in [("float32", -104, -87, 100_000), ("float64", -746, -708, 2000)]:
        assert_below_limit("logistic", rng.uniform(low, high, n).astype(dtype))


def test_results_between_which_the_clamp_of_tanh_lies_are_within_the_bounds():
    for dtype, limit in [("float32", 9.1), ("float64", 19.1)]:
        assert_below_limit("tanh", around(limit, -limit, steps=100, dtype=dtype))
        assert_below_limit("tanh", np.linspace(limit - 1, limit + 1, 1000, dtype=dtype))


@with_dtypes
def test_special_values(dtype):
    tiny = np.finfo(dtype).smallest_subnormal
    x = np.array([0.0, -0.0, tiny, -tiny, np.inf, -np.inf, np.nan, -np.nan], dtype)
    nan = np.nan
    np.testing.assert_array_equal(compute("exp", x), [1, 1, 1, 1, np.inf, 0, nan, nan])
    np.testing.assert_array_equal(compute("logistic", x), [0.5] * 4 + [1, 0, nan, nan])
    np.testing.assert_array_equal(compute("tanh", x), [0, 0, tiny, -tiny, 1, -1, nan, nan])
    x, ln2 = x[[0, 1, 4, 5, 6]], np.log(np.array(2, dtype))
    np.testing.assert_array_equal(compute("expm1", x)[[0, 1, 3, 4]], [0, 0, -1, nan])
    np.testing.assert_allclose(compute("softplus", x), [ln2, ln2, np.inf, 0, nan], rtol=5e-7)
    np.testing.assert_allclose(compute("tanh_softplus", x), [0.6, 0.6, 1, 0, nan], rtol=5e-7)
    np.testing.assert_allclose(compute("normal_cdf", x), [0.5, 0.5, 1, 0, nan], rtol=5e-7)


@with_dtypes
def test_nan_passes_through_whatever_its_bits(dtype):
    integer, exponent = (np.uint32, 23) if dtype == "float32" else (np.uint64, 52)
    quiet = np.array(np.inf, dtype).view(integer) | integer(1 << (exponent - 1))
    payloads = quiet | np.arange(0, 2**16, 97).astype(integer)
    x = np.concatenate([payloads, payloads | integer(1 << (8 * quiet.itemsize - 1))]).view(dtype)
    for name in LIMITS:
        assert np.isnan(compute(name, x)).all()


@with_dtypes
def test_tanh_is_odd(dtype, rng):
    x = np.concatenate([rng.normal(size=1000), rng.uniform(0, 20, 1000), [0.0]]).astype(dtype)
    result, negative = compute("tanh", x), compute("tanh", -x)
    np.testing.assert_array_equal(negative, -result)


@with_dtypes
def test_tanh_keeps_the_sign_of_zero(dtype):
    result = compute("tanh", np.array([0.0, -0.0], dtype))
    np.testing.assert_array_equal(np.signbit(result), [False, True])


@with_dtypes
@with_functions
def test_results_stay_in_the_range_of_the_function(name, dtype, rng):
    x = np.sort(rng.uniform(-30, 30, 20_000)).astype(dtype)
    result = compute(name, x)
    if name == "expm1":
        x = x[x <= 18]
        result = result[: x.size]
    ranges = {"exp": (0, np.inf), "softplus": (0, np.inf), "expm1": (-1, np.inf), "tanh": (-1, 1)}
    low, high = ranges.get(name, (0, 1))
    assert ((result >= low) & (result <= high)).all()


@with_dtypes
@with_functions
def test_a_result_does_not_depend_on_the_place_in_the_array(name, dtype, rng):
    # The last elements of an array are computed one by one, the others by vectors.
    x = rng.uniform(-20, 18, 131).astype(dtype)
    expected = compute(name, x)
    for start in (0, 1, 5):
        for size in (1, 3, 31, 64):
            part = x[start : start + size]
            np.testing.assert_array_equal(compute(name, part), expected[start : start + size])


@with_functions
@pytest.mark.parametrize(("dtype", "suffix"), [("float32", "ps"), ("float64", "pd")])
def test_a_loop_is_packed_instructions_and_no_calls(name, dtype, suffix):
    if not llvmlite.binding.get_default_triple().startswith("x86_64"):
        pytest.skip("an x86 CPU is needed")
    vector = types.Array(numba.from_dtype(np.dtype(dtype)), 1, "C")
    # Not cached: machine code from a file cannot be read again.
    function = numba.njit(error_model="numpy", nogil=True)(LOOPS[name])
    function.compile((vector, vector))
    assembly = function.inspect_asm((vector, vector))
    body = assembly[: assembly.index(".Lfunc_end0")]  # behind it are wrappers for Python
    assert re.search(rf"\bv?(mul{suffix}|fn?madd\d+{suffix})\b", body)
    if name not in ("exp", "expm1"):
        assert re.search(rf"\bv?div{suffix}\b", body)
    assert not re.search(r"\bcall", body)
    assert not re.search(r"[\s$](exp|expm1|tanh|log1p|erfc)f?(@PLT)?\b", body)
