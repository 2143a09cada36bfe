"""Functions of one element, each compiled only for the nets that use it.

Those of `activations.py` work in place and are differentiated from their output. These are
differentiated from their input z, which a net that has one therefore keeps. A net calls them
through two addresses, forward and backward, compiled for one function and one dtype.

`fastnn.kernels.operation` says how they are called; the parameter a is the first of the numbers.
"""

import functools
from types import FunctionType

import numba
import numpy as np
from numba.core.errors import NumbaError

from fastnn.kernels.codes import (
    BACKWARD,
    FORWARD,
    N_OUT,
    OUT_AT,
    OUT_PANEL,
    OWN,
    X_AT,
    X_PANEL,
)
from fastnn.kernels.fma import fma
from fastnn.kernels.memory import vector_at
from fastnn.kernels.panels import panel_columns, panel_width
from fastnn.kernels.vectormath import (
    bounded,
    exp,
    expm1,
    logistic,
    normal_cdf,
    softplus,
    tanh_softplus,
)
from fastnn.runtime.jit import inner, operation, pasted

ELU, SELU, GELU, GELU_TANH, SILU, SOFTPLUS, MISH, HARD_TANH, USER = range(9)

# Klambauer et al. (2017), to the digits of a float64: with these, activations of mean 0 and
# variance 1 keep them from layer to layer.
SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805

# tanh in GELU's approximation is of SLOPE * (z + CUBIC * z^3).
GELU_SLOPE, GELU_CUBIC = 0.7978845608028654, 0.044715  # sqrt(2 / pi), and a fit

_DENSITY_AT_0 = 0.3989422804014327  # 1 / sqrt(2 pi), of the normal distribution

# In both functions the code is a constant of the function they are pasted into, so that Numba drops
# all branches but one before it compiles. Literals have the type of z.


@pasted
def apply(code, z, a):
    """Return f(z) of one number z.

    ========= ================================================ =================================
    ELU       z if z > 0 else a (e^z - 1)                      Clevert, Unterthiner and
                                                               Hochreiter (2016)
    SELU      scale times the ELU with a = alpha               Klambauer et al. (2017)
    GELU      z Phi(z), Phi the normal distribution function   Hendrycks and Gimpel (2016)
    GELU_TANH z (1 + tanh(u)) / 2, which is z logistic(2 u),   the same; the usual approximation
              with u = sqrt(2 / pi) (z + 0.044715 z^3)
    SILU      z logistic(z)                                    Elfwing, Uchibe and Doya (2017);
                                                               Ramachandran et al. (2017), Swish
    SOFTPLUS  log(1 + e^z)                                     Dugas et al. (2001)
    MISH      z tanh(log(1 + e^z))                             Misra (2019)
    HARD_TANH z between -1 and 1, which it does not leave      Collobert (2004)
    ========= ================================================ =================================

    Products tend to 0 for z to minus infinity, and are 0 there. NaN passes.
    """
    number = type(z)
    zero, one = number(0), number(1)
    if code == ELU:
        return z if z > zero else a * expm1(zero if z > zero else z)
    if code == SELU:
        below = number(SELU_ALPHA) * expm1(zero if z > zero else z)
        return number(SELU_SCALE) * (z if z > zero else below)
    if code == SOFTPLUS:
        return softplus(z)
    if code == HARD_TANH:
        high = one if z > one else z
        return -one if high < -one else high
    x = z if z > zero else bounded(z)
    if code == GELU:
        return x * normal_cdf(x)
    if code == GELU_TANH:
        u = number(GELU_SLOPE) * fma(number(GELU_CUBIC) * x * x, x, x)
        return x * logistic(number(2) * u)
    if code == SILU:
        return x * logistic(x)
    return x * tanh_softplus(x)  # MISH


@pasted
def derivative(code, z, a):
    """Return f'(z) of one number z.

    ========= ==================================================================================
    ELU       1 if z > 0 else a e^z
    SELU      scale times that of the ELU with a = alpha
    GELU      Phi(z) + z phi(z), phi = Phi' the normal density
    GELU_TANH s + z s (1 - s) 2 u', s = logistic(2 u), u' = sqrt(2 / pi) (1 + 3 * 0.044715 z^2)
    SILU      s + z s (1 - s), s = logistic(z)
    SOFTPLUS  logistic(z)
    MISH      t + z (1 - t^2) logistic(z), t = tanh(log(1 + e^z))
    HARD_TANH 1 if -1 < z < 1 else 0
    ========= ==================================================================================
    """
    number = type(z)
    zero, one, two = number(0), number(1), number(2)
    if code == ELU:
        return one if z > zero else a * exp(z)
    if code == SELU:
        below = number(SELU_ALPHA) * exp(z)
        return number(SELU_SCALE) * (one if z > zero else below)
    if code == SOFTPLUS:
        return logistic(z)
    if code == HARD_TANH:
        return zero if abs(z) >= one else one
    x = bounded(z)
    if code == GELU:
        y = abs(x)  # as in `normal_cdf`, so that the compiler sees that it is the same power
        density = number(_DENSITY_AT_0) * exp(-number(0.5) * y * y)
        return fma(x, density, normal_cdf(x))
    if code == GELU_TANH:
        u = number(GELU_SLOPE) * fma(number(GELU_CUBIC) * x * x, x, x)
        du = number(GELU_SLOPE) * fma(number(3 * GELU_CUBIC) * x, x, one)
        s = logistic(two * u)
        return fma(x * s * (one - s), two * du, s)
    if code == SILU:
        s = logistic(x)
        return fma(x * s, one - s, s)
    t = tanh_softplus(x)  # MISH
    return fma(x * fma(-t, t, one), logistic(x), t)


@inner
def _start(plan, at, distance, j, low, width, panel):
    """Where row `low` lies in the panel that begins at column j, of a matrix that a plan names."""
    return plan[at] + j // panel * plan[distance] + low * width


@inner
def _clear_padding(rows, n, width):
    """Set the padding in rows of a panel, behind n columns, to zero: f(0) need not be."""
    for start in range(0, rows.size, width):
        for c in range(start + n, start + width):
            rows[c] = rows.dtype.type(0)


def _members(code, f, df, dtype, cached):
    """Compile both passes; return their addresses by their column of a plan.

    With USER they apply f and df; a branch that a constant rules out is not compiled.
    """
    number = dtype.type

    def forward(plan, numbers, low, count, rows, acts, deltas, params, step, out):
        plan, acts = vector_at(plan, np.int64), vector_at(acts, number)
        a = number(vector_at(numbers, np.float64)[OWN])
        n, panel = plan[N_OUT], panel_columns(acts)
        for j in range(0, n, panel):
            width = panel_width(n, j, acts, panel)
            z_at = _start(plan, X_AT, X_PANEL, j, low, width, panel)
            y_at = _start(plan, OUT_AT, OUT_PANEL, j, low, width, panel)
            z, y = acts[z_at : z_at + count * width], acts[y_at : y_at + count * width]
            for i in range(z.size):
                if code == USER:
                    y[i] = number(f(z[i]))
                else:
                    y[i] = apply(code, z[i], a)
            _clear_padding(y, n - j, width)

    def backward(plan, numbers, low, count, rows, acts, deltas, params, step, out):
        plan, acts = vector_at(plan, np.int64), vector_at(acts, number)
        deltas = vector_at(deltas, number)
        a = number(vector_at(numbers, np.float64)[OWN])
        n, panel = plan[N_OUT], panel_columns(acts)
        for j in range(0, n, panel):
            width = panel_width(n, j, acts, panel)
            z_at = _start(plan, X_AT, X_PANEL, j, low, width, panel)
            y_at = _start(plan, OUT_AT, OUT_PANEL, j, low, width, panel)
            z, dz = acts[z_at : z_at + count * width], deltas[z_at : z_at + count * width]
            dy = deltas[y_at : y_at + count * width]
            for i in range(z.size):
                if code == USER:
                    dz[i] = dy[i] * number(df(z[i]))
                else:
                    dz[i] = dy[i] * derivative(code, z[i], a)
            _clear_padding(dz, n - j, width)

    return {FORWARD: operation(forward, cached), BACKWARD: operation(backward, cached)}


@functools.cache
def elementwise_members(code, dtype):
    """Return the addresses of the compiled passes of a function, by their column of a plan.

    Parameters
    ----------
    code : int
        ELU, SELU, and so on.
    dtype : numpy.dtype
    """
    return _members(code, None, None, dtype, cached=True)


@functools.cache
def user_members(f, df, dtype):
    """Return the addresses of such passes for functions of a user.

    They are not cached on disk, for nothing tells there whether a function is still the same.

    Parameters
    ----------
    f, df : callable
        f(z) and its derivative for one number z: Python functions that Numba can compile, or
        compiled ones. Compiled once more as a kernel is: a division by zero gives infinity. They
        must raise nothing.
    dtype : numpy.dtype

    Raises
    ------
    ValueError
        If Numba cannot compile one, or it does not return a real number.
    """
    f, df = _compile_scalar("f", f, dtype.name), _compile_scalar("df", df, dtype.name)
    return _members(USER, f, df, dtype, cached=False)


def _compile_scalar(name, function, dtype):
    if not callable(function):
        raise ValueError(f"{name} must be a function of one number, got {function!r}")
    argument = numba.from_dtype(np.dtype(dtype))
    scalar = getattr(function, "py_func", function)
    if not isinstance(scalar, FunctionType):  # such as math.tanh, which has no code to compile

        def scalar(z):
            return function(z)

    compiled = inner(scalar)
    try:
        compiled.compile((argument,))
    except (NumbaError, TypeError) as error:
        lines = [line for line in str(error).splitlines() if not line.startswith("Failed in")]
        raise ValueError(
            f"{name} must be a function of one {dtype} that Numba can compile: {lines[0]}"
        ) from error
    result = numba.types.unliteral(compiled.overloads[(argument,)].signature.return_type)
    number = numba.types.Float | numba.types.Integer | numba.types.Boolean
    if not isinstance(result, number):
        raise ValueError(f"{name} must return a real number for a {dtype}, got {result}")
    return compiled
