"""exp and functions made of it as plain arithmetic, so that LLVM can vectorise them.

A call to the C library's `exp` handles one element. These are polynomials without a branch: in a
loop over an array LLVM turns them into SIMD code. NaN passes through, overflow gives infinity.
The errors are below 2 units in the last place for exp, 3 for the logistic function and expm1, 4 for
softplus and tanh_softplus, 5 for tanh and 7 for normal_cdf. But below zero normal_cdf(x) may be off
by another x^2 / 2 units: as many as the power makes of the rounding of x^2
(tests/kernels/test_vectormath.py).

exp(x) is reduced to a small argument, x = n ln 2 + r with |r| <= ln(2) / 2, and summed as its
Taylor series: exp(x) = 2^n exp(r).
"""

import math

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from fastnn.kernels.fma import fma
from fastnn.runtime.jit import inner


@intrinsic
def _float_bits(typingctx, x):
    """The bits of a float as a signed integer of the same width."""
    integer = types.int32 if x == types.float32 else types.int64

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], ir.IntType(integer.bitwidth))

    return integer(x), codegen


@intrinsic
def _power_of_two(typingctx, n, like):
    """2**n as a float of the type of `like`, for n within the range of normal numbers."""
    bits, mantissa, bias = (32, 23, 127) if like == types.float32 else (64, 52, 1023)

    def codegen(context, builder, signature, args):
        integer = ir.IntType(bits)
        n = args[0] if args[0].type == integer else builder.trunc(args[0], integer)
        n = builder.add(n, ir.Constant(integer, bias))
        n = builder.shl(n, ir.Constant(integer, mantissa))
        return builder.bitcast(n, context.get_value_type(like))

    return like(n, like), codegen


class _Constants:
    """What the reduction of an argument needs to know about a float type."""

    def __init__(self, number, integer, mantissa_bits, ln2, largest, smallest, tanh_limit):
        # Adding 1.5 * 2^mantissa rounds to an integer, which then stands in the lowest bits.
        self.magic = number(1.5 * 2.0**mantissa_bits)
        self.magic_bits = integer(self.magic.view(integer))
        self.log2_e = number(1.0 / math.log(2.0))
        # ln 2 = high + low, to more digits than a float holds; n * high is exact.
        self.ln2_high, self.ln2_low = number(ln2[0]), number(ln2[1])
        # exp is infinite above `largest`, zero below `smallest`; tanh is 1 above `tanh_limit`.
        self.largest, self.smallest = number(largest), number(smallest)
        self.tanh_limit = number(tanh_limit)


_CONSTANTS = {
    types.float32: _Constants(
        np.float32, np.int32, 23, (0.693359375, -2.1219444005469057e-4), 89.0, -104.0, 9.1
    ),
    types.float64: _Constants(
        np.float64,
        np.int64,
        52,
        (0.693147182464599609375, -1.904654299957767878541824e-9),
        710.0,
        -746.0,
        19.1,
    ),
}


# These series are summed in pairs, then pairs of pairs (Estrin's scheme): Horner's would wait for
# each of its terms.


@inner
def _series_single(r):
    """exp(r) - 1 for |r| <= ln(2) / 2, to the precision of float32."""
    r2 = r * r
    low = fma(np.float32(1 / 6), r, np.float32(1 / 2))
    middle = fma(np.float32(1 / 120), r, np.float32(1 / 24))
    high = fma(np.float32(1 / 5040), r, np.float32(1 / 720))
    return fma(fma(r2 * r2, high, fma(r2, middle, low)), r2, r)


@inner
def _series_double(r):
    """exp(r) - 1 for |r| <= ln(2) / 2, to the precision of float64."""
    r2 = r * r
    r4 = r2 * r2
    low = fma(r2, fma(1 / 120, r, 1 / 24), fma(1 / 6, r, 1 / 2))
    middle = fma(r2, fma(1 / 362880, r, 1 / 40320), fma(1 / 5040, r, 1 / 720))
    high = fma(r2, fma(1 / 6227020800, r, 1 / 479001600), fma(1 / 39916800, r, 1 / 3628800))
    return fma(fma(r4, fma(r4, high, middle), low), r2, r)


_SERIES = {types.float32: _series_single, types.float64: _series_double}
_INLINED = {"forceinline": True, "error_model": "numpy"}


def exp(x):
    """e**x, for kernels."""
    return math.exp(x)


@overload(exp, jit_options=_INLINED)
def _exp(x):
    c, series = _CONSTANTS[x], _SERIES[x]
    magic, magic_bits, log2_e = c.magic, c.magic_bits, c.log2_e
    ln2_high, ln2_low, largest, smallest = c.ln2_high, c.ln2_low, c.largest, c.smallest
    number, integer = type(magic), type(magic_bits)
    one, half = number(1), number(0.5)

    def implementation(x):
        x = largest if x > largest else x  # comparisons with NaN are false: it stays
        x = smallest if x < smallest else x
        shifted = fma(x, log2_e, magic)
        n = shifted - magic
        r = fma(-n, ln2_low, fma(-n, ln2_high, x))
        # 2^n in two factors: n itself may lie outside the exponents of normal numbers.
        n_bits = integer(_float_bits(shifted) - magic_bits)
        first = integer(_float_bits(fma(n, half, magic)) - magic_bits)
        second = integer(n_bits - first)
        return (series(r) + one) * _power_of_two(first, x) * _power_of_two(second, x)

    return implementation


def logistic(x):
    """1 / (1 + e**-x), for kernels."""
    return 1 / (1 + math.exp(-x))


@overload(logistic, jit_options=_INLINED)
def _logistic(x):
    one = type(_CONSTANTS[x].magic)(1)

    def implementation(x):
        # e^-|x| does not overflow, and for negative x it keeps the digits of a small result.
        power = exp(-abs(x))
        return (power if x < 0 else one) / (one + power)

    return implementation


def expm1(x):
    """e**x - 1, for kernels, where x is at most 18 (float32) or 38 (float64)."""
    return math.expm1(x)


@overload(expm1, jit_options=_INLINED)
def _expm1(x):
    c, series = _CONSTANTS[x], _SERIES[x]
    magic, magic_bits, log2_e = c.magic, c.magic_bits, c.log2_e
    ln2_high, ln2_low = c.ln2_high, c.ln2_low
    number = type(magic)
    one, lowest = number(1), number(-2) * c.tanh_limit  # below, the result is -1

    def implementation(x):
        # No digits are lost near zero, because 2^n (e^r - 1) + (2^n - 1) is summed without
        # forming e^x first.
        x = lowest if x < lowest else x
        shifted = fma(x, log2_e, magic)
        n = shifted - magic
        r = fma(-n, ln2_low, fma(-n, ln2_high, x))
        scale = _power_of_two(_float_bits(shifted) - magic_bits, x)
        return fma(scale, series(r), scale - one)

    return implementation


def tanh(x):
    """The hyperbolic tangent, for kernels."""
    return math.tanh(x)


@overload(tanh, jit_options=_INLINED)
def _tanh(x):
    limit = _CONSTANTS[x].tanh_limit
    two = type(limit)(2)

    def implementation(x):
        # tanh |x| = u / (u + 2) with u = e^(2|x|) - 1.
        y = abs(x)
        y = limit if y > limit else y
        u = expm1(two * y)
        return math.copysign(u / (u + two), x)

    return implementation


@inner
def _log1p_single(u):
    """log(1 + u) for 0 <= u <= 1, to the precision of float32; see `softplus`."""
    w = u / (np.float32(2) + u)
    s = w * w
    s2 = s * s
    low = fma(np.float32(2 / 5), s, np.float32(2 / 3))
    middle = fma(np.float32(2 / 9), s, np.float32(2 / 7))
    high = fma(s2, np.float32(2 / 15), fma(np.float32(2 / 13), s, np.float32(2 / 11)))
    series = fma(s2 * s2, high, fma(s2, middle, low))
    return fma(series * s, w, np.float32(2) * w)


@inner
def _log1p_double(u):
    """log(1 + u) for 0 <= u <= 1, to the precision of float64; see `softplus`."""
    w = u / (2.0 + u)
    s = w * w
    s2 = s * s
    s4 = s2 * s2
    a = fma(s2, fma(2 / 9, s, 2 / 7), fma(2 / 5, s, 2 / 3))
    b = fma(s2, fma(2 / 17, s, 2 / 15), fma(2 / 13, s, 2 / 11))
    c = fma(s2, fma(2 / 25, s, 2 / 23), fma(2 / 21, s, 2 / 19))
    d = fma(s2, 2 / 31, fma(2 / 29, s, 2 / 27))
    return fma(fma(s4, fma(s4, fma(s4, d, c), b), a) * s, w, 2.0 * w)


_LOG1P = {types.float32: _log1p_single, types.float64: _log1p_double}


def softplus(x):
    """log(1 + e**x), for kernels."""
    return max(x, 0) + math.log1p(math.exp(-abs(x)))


@overload(softplus, jit_options=_INLINED)
def _softplus(x):
    log1p = _LOG1P[x]
    zero = type(_CONSTANTS[x].magic)(0)

    def implementation(x):
        # log(1 + e^x) = x + log(1 + e^-x), so the power never exceeds 1. And with
        # w = u / (2 + u) <= 1/3, log(1 + u) = log((1 + w) / (1 - w)) = 2 (w + w^3/3 + w^5/5 + ...).
        positive = x if x > zero else zero
        return positive + log1p(exp(-abs(x)))

    return implementation


def tanh_softplus(x):
    """tanh(log(1 + e**x)), for kernels: what Mish multiplies x by."""
    return math.tanh(math.log1p(math.exp(x)))


@overload(tanh_softplus, jit_options=_INLINED)
def _tanh_softplus(x):
    number = type(_CONSTANTS[x].magic)
    zero, one, two = number(0), number(1), number(2)

    def implementation(x):
        # tanh(log y) = (y^2 - 1) / (y^2 + 1), and with y = 1 + e^x: e^x (e^x + 2) in place of
        # y^2 - 1. For positive x the fraction is divided by e^2x on both sides.
        p = exp(-abs(x))
        negative = x < zero
        above = p * (p + two) if negative else fma(two, p, one)
        return above / (above + (two if negative else two * p * p))

    return implementation


@inner
def _mills_single(q):
    """(y + 4) e^(y^2/2) normal_cdf(-y) for q = (y - 4) / (y + 4), to the precision of float32."""
    p = np.float32(-0.00012082212)
    p = fma(p, q, np.float32(0.00019919379))
    p = fma(p, q, np.float32(0.001570282))
    p = fma(p, q, -np.float32(0.0035262525))
    p = fma(p, q, -np.float32(0.0075283665))
    p = fma(p, q, np.float32(0.06040699))
    p = fma(p, q, -np.float32(0.18652277))
    p = fma(p, q, np.float32(0.38713664))
    p = fma(p, q, -np.float32(0.6078966))
    return fma(p, q, np.float32(0.75528514))


@inner
def _mills_double(q):
    """(y + 4) e^(y^2/2) normal_cdf(-y) for q = (y - 4) / (y + 4), to the precision of float64."""
    p = -9.6615755481553e-10
    p = fma(p, q, 7.731895808625608e-11)
    p = fma(p, q, 1.3938808852558355e-08)
    p = fma(p, q, 1.4569488564608778e-08)
    p = fma(p, q, -7.642482978378022e-08)
    p = fma(p, q, -1.5426167593457165e-07)
    p = fma(p, q, 2.63742514249532e-07)
    p = fma(p, q, 1.0198152807723923e-06)
    p = fma(p, q, -6.251785640512302e-07)
    p = fma(p, q, -5.918905080396581e-06)
    p = fma(p, q, 7.150276513545111e-07)
    p = fma(p, q, 3.5144187813104215e-05)
    p = fma(p, q, -1.907873095933309e-06)
    p = fma(p, q, -0.0002310948203047214)
    p = fma(p, q, 0.00013334425522449717)
    p = fma(p, q, 0.0016308184422239424)
    p = fma(p, q, -0.0034796923623715906)
    p = fma(p, q, -0.0075401889656226675)
    p = fma(p, q, 0.0603965748907066)
    p = fma(p, q, -0.18652185795969298)
    p = fma(p, q, 0.3871374007422187)
    p = fma(p, q, -0.6078966419718917)
    return fma(p, q, 0.7552851304157515)


_MILLS = {types.float32: _mills_single, types.float64: _mills_double}


def normal_cdf(x):
    """The distribution function of the normal distribution, (1 + erf(x / sqrt 2)) / 2."""
    return math.erfc(-x / math.sqrt(2)) / 2


@overload(normal_cdf, jit_options=_INLINED)
def _normal_cdf(x):
    mills = _MILLS[x]
    number = type(_CONSTANTS[x].magic)
    zero, half, one = number(0), number(0.5), number(1)
    four, eight = number(4), number(8)

    def implementation(x):
        # The tail below -|x| is e^(-x^2/2) times a function that is nearly 1/|x| for large |x|
        # (Mills' ratio). On the whole half-line that is a polynomial in q, over |x| + 4: the
        # coefficients are of its Chebyshev series, as Shepherd and Laframboise (1981) do it.
        y = abs(x)
        inverse = one / (y + four)
        tail = exp(-half * y * y) * (mills(fma(-eight, inverse, one)) * inverse)
        return tail if x < zero else one - tail

    return implementation


def bounded(x):
    """x, or where it is infinite or large a number beyond which e**-abs(x) is 0, for kernels.

    For products such as x * logistic(x), which would be infinity times 0.
    """
    return max(-746.0, min(x, 746.0))


@overload(bounded, jit_options=_INLINED)
def _bounded(x):
    lowest = _CONSTANTS[x].smallest

    def implementation(x):
        x = lowest if x < lowest else x  # comparisons with NaN are false: it stays
        return -lowest if x > -lowest else x

    return implementation
