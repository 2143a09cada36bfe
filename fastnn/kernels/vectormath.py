"""exp, tanh and the logistic function as plain arithmetic, so that LLVM can vectorise them.

A call to the C library's `exp` handles one element. These are polynomials without a branch: in a
loop over an array LLVM turns them into SIMD code. NaN passes through, overflow gives infinity.
The errors are below 2 units in the last place for exp, 3 for the logistic function and 5 for tanh
(tests/kernels/test_vectormath.py).

exp(x) is reduced to a small argument, x = n ln 2 + r with |r| <= ln(2) / 2, and summed as its
Taylor series: exp(x) = 2^n exp(r).
"""

import math

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from fastnn._jit import FASTMATH, inner


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


@inner
def _series_single(r):
    """exp(r) - 1 for |r| <= ln(2) / 2, to the precision of float32."""
    p = np.float32(1 / 5040)
    p = p * r + np.float32(1 / 720)
    p = p * r + np.float32(1 / 120)
    p = p * r + np.float32(1 / 24)
    p = p * r + np.float32(1 / 6)
    p = p * r + np.float32(1 / 2)
    return p * r * r + r


@inner
def _series_double(r):
    """exp(r) - 1 for |r| <= ln(2) / 2, to the precision of float64."""
    p = 1 / 6227020800
    p = p * r + 1 / 479001600
    p = p * r + 1 / 39916800
    p = p * r + 1 / 3628800
    p = p * r + 1 / 362880
    p = p * r + 1 / 40320
    p = p * r + 1 / 5040
    p = p * r + 1 / 720
    p = p * r + 1 / 120
    p = p * r + 1 / 24
    p = p * r + 1 / 6
    p = p * r + 1 / 2
    return p * r * r + r


_SERIES = {types.float32: _series_single, types.float64: _series_double}
_INLINED = {"forceinline": True, "fastmath": set(FASTMATH), "error_model": "numpy"}


def exp(x):
    """e**x, for kernels."""
    return math.exp(x)


@overload(exp, jit_options=_INLINED)
def _exp(x):
    c, series = _CONSTANTS[x], _SERIES[x]
    magic, magic_bits, log2_e = c.magic, c.magic_bits, c.log2_e
    ln2_high, ln2_low, largest, smallest = c.ln2_high, c.ln2_low, c.largest, c.smallest
    one = type(magic)(1)

    def implementation(x):
        x = largest if x > largest else x  # comparisons with NaN are false: it stays
        x = smallest if x < smallest else x
        shifted = x * log2_e + magic
        n = shifted - magic
        r = (x - n * ln2_high) - n * ln2_low
        # 2^n in two factors: n itself may lie outside the exponents of normal numbers.
        n_bits = _float_bits(shifted) - magic_bits
        half = n_bits >> 1
        return (series(r) + one) * _power_of_two(half, x) * _power_of_two(n_bits - half, x)

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


def tanh(x):
    """The hyperbolic tangent, for kernels."""
    return math.tanh(x)


@overload(tanh, jit_options=_INLINED)
def _tanh(x):
    c, series = _CONSTANTS[x], _SERIES[x]
    magic, magic_bits, log2_e = c.magic, c.magic_bits, c.log2_e
    ln2_high, ln2_low, limit = c.ln2_high, c.ln2_low, c.tanh_limit
    number = type(magic)
    one, two = number(1), number(2)

    def implementation(x):
        # With u = e^(2|x|) - 1, tanh |x| = u / (u + 2): no digits are lost near zero, because
        # u = 2^n (e^r - 1) + (2^n - 1) is summed without forming e^(2|x|) first.
        y = abs(x)
        y = limit if y > limit else y
        y = two * y
        shifted = y * log2_e + magic
        n = shifted - magic
        r = (y - n * ln2_high) - n * ln2_low
        scale = _power_of_two(_float_bits(shifted) - magic_bits, y)
        u = scale * series(r) + (scale - one)
        t = u / (u + two)
        return math.copysign(t, x)

    return implementation
