"""Activations: the table of them, and the kernels that apply one to rows of a matrix in panels.

An activation is a row of `ACTIVATIONS`: a function of one number, and its derivative. Those that
are differentiated from their result work in place on the result of the operation before; those that
are differentiated from their input z are operations of their own, since a net keeps z for them.
Either way a kernel is compiled for one activation and one dtype, when a net first has it.

The padding of a panel is computed along (one long loop is faster than many short ones) and stays
zero.
"""

import functools
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import numba
import numpy as np
from numba.core.errors import NumbaError

from fastnn.kernels.fma import fma
from fastnn.kernels.memory import vector_at
from fastnn.kernels.operation import (
    input_of,
    operation_at,
    operation_kernel,
    result_of,
    work_at,
)
from fastnn.kernels.panels import Panels, panel_columns, panel_width, place
from fastnn.kernels.vectormath import (
    bounded,
    exp,
    expm1,
    logistic,
    normal_cdf,
    softplus,
    tanh,
    tanh_softplus,
)
from fastnn.runtime.jit import inner, kernel

# Klambauer et al. (2017), to the digits of a float64: with these, activations of mean 0 and
# variance 1 keep them from layer to layer.
SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805

# tanh in GELU's approximation is of SLOPE * (z + CUBIC * z^3).
GELU_SLOPE, GELU_CUBIC = 0.7978845608028654, 0.044715  # sqrt(2 / pi), and a fit

_DENSITY_AT_0 = 0.3989422804014327  # 1 / sqrt(2 pi), of the normal distribution


@dataclass(frozen=True, eq=False)
class Activation:
    """A row of the table.

    Attributes
    ----------
    function : callable
        f(z, a), of one number z and the activation's parameter a, both of the net's type.
    backward : callable
        (dout, v, a): dout times the derivative, where v is f(z) with `from_result`, else z.
    from_result : bool
        Whether the derivative is a function of the result.
    by_row : bool
        Whether it is a function of a row: then `function` and `backward` take rows of a matrix.
    zero_at_zero : bool
        Whether f(0) is 0, and the derivative there is finite.
    first_weights : str
        The initializer (`fastnn.initializers`) of the weights before it.
    parameter : float
        The usual a.
    is_flat : bool
        Whether the derivative is 0 everywhere, so that nothing can be learned through it.
    """

    function: Any
    backward: Any
    from_result: bool = True
    by_row: bool = False
    zero_at_zero: bool = True
    first_weights: str = "glorot_uniform"
    parameter: float = 0.0
    is_flat: bool = False


# Functions of one number. Literals have the type of z; NaN passes: comparisons with it are false.


@inner
def _relu(z, a):
    zero = type(z)(0)
    return zero if z <= zero else z


@inner
def _relu_backward(dout, y, a):
    """dout where y > 0."""
    zero = type(y)(0)
    return zero if y <= zero else dout


@inner
def _leaky_relu(z, a):
    """z if z > 0 else a z (Maas et al., 2013)."""
    return a * z if z <= type(z)(0) else z


@inner
def _leaky_relu_backward(dout, y, a):
    """dout where y > 0, else a dout."""
    return a * dout if y <= type(y)(0) else dout


@inner
def _logistic(z, a):
    return logistic(z)


@inner
def _logistic_backward(dout, y, a):
    """dout y (1 - y)."""
    return dout * (y * (type(y)(1) - y))


@inner
def _tanh(z, a):
    return tanh(z)


@inner
def _tanh_backward(dout, y, a):
    """dout (1 - y^2)."""
    return dout * fma(-y, y, type(y)(1))


@inner
def _step(z, a):
    """1 if z > 0 else 0."""
    zero, one = type(z)(0), type(z)(1)
    positive = one if z > zero else zero
    return positive if z == z else z


@inner
def _step_backward(dout, y, a):
    """0: flat on both sides, so nothing can be learned through it."""
    return type(y)(0)


@inner
def _elu(z, a):
    """z if z > 0 else a (e^z - 1) (Clevert, Unterthiner and Hochreiter, 2016)."""
    zero = type(z)(0)
    return z if z > zero else a * expm1(zero if z > zero else z)


@inner
def _elu_backward(dout, z, a):
    """dout times 1 if z > 0 else a e^z."""
    number = type(z)
    return dout * (number(1) if z > number(0) else a * exp(z))


@inner
def _selu(z, a):
    """scale times the ELU with a = alpha (Klambauer et al., 2017)."""
    number = type(z)
    zero = number(0)
    below = number(SELU_ALPHA) * expm1(zero if z > zero else z)
    return number(SELU_SCALE) * (z if z > zero else below)


@inner
def _selu_backward(dout, z, a):
    """dout times the scale times the derivative of that ELU."""
    number = type(z)
    below = number(SELU_ALPHA) * exp(z)
    return dout * (number(SELU_SCALE) * (number(1) if z > number(0) else below))


# Products of z tend to 0 for z to minus infinity, and are 0 there: `bounded`.


@inner
def _towards_zero(z):
    return z if z > type(z)(0) else bounded(z)


@inner
def _gelu(z, a):
    """z Phi(z), Phi the normal distribution function (Hendrycks and Gimpel, 2016)."""
    x = _towards_zero(z)
    return x * normal_cdf(x)


@inner
def _gelu_backward(dout, z, a):
    """dout (Phi(z) + z phi(z)), phi = Phi' the normal density."""
    number, x = type(z), bounded(z)
    y = abs(x)  # as in `normal_cdf`, so that the compiler sees that it is the same power
    density = number(_DENSITY_AT_0) * exp(-number(0.5) * y * y)
    return dout * fma(x, density, normal_cdf(x))


@inner
def _gelu_tanh(z, a):
    """z (1 + tanh(u)) / 2 = z logistic(2 u), u = sqrt(2 / pi) (z + 0.044715 z^3)."""
    number, x = type(z), _towards_zero(z)
    u = number(GELU_SLOPE) * fma(number(GELU_CUBIC) * x * x, x, x)
    return x * logistic(number(2) * u)


@inner
def _gelu_tanh_backward(dout, z, a):
    """dout (s + z s (1 - s) 2 u'), s = logistic(2 u), u' = sqrt(2 / pi) (1 + 3 * 0.044715 z^2)."""
    number, x = type(z), bounded(z)
    one, two = number(1), number(2)
    u = number(GELU_SLOPE) * fma(number(GELU_CUBIC) * x * x, x, x)
    du = number(GELU_SLOPE) * fma(number(3 * GELU_CUBIC) * x, x, one)
    s = logistic(two * u)
    return dout * fma(x * s * (one - s), two * du, s)


@inner
def _silu(z, a):
    """z logistic(z) (Elfwing, Uchibe and Doya, 2017; Ramachandran et al., 2017: Swish)."""
    x = _towards_zero(z)
    return x * logistic(x)


@inner
def _silu_backward(dout, z, a):
    """dout (s + z s (1 - s)), s = logistic(z)."""
    x = bounded(z)
    s = logistic(x)
    return dout * fma(x * s, type(z)(1) - s, s)


@inner
def _softplus(z, a):
    """log(1 + e^z) (Dugas et al., 2001)."""
    return softplus(z)


@inner
def _softplus_backward(dout, z, a):
    """dout logistic(z)."""
    return dout * logistic(z)


@inner
def _mish(z, a):
    """z tanh(log(1 + e^z)) (Misra, 2019)."""
    x = _towards_zero(z)
    return x * tanh_softplus(x)


@inner
def _mish_backward(dout, z, a):
    """dout (t + z (1 - t^2) logistic(z)), t = tanh(log(1 + e^z))."""
    x = bounded(z)
    t = tanh_softplus(x)
    return dout * fma(x * fma(-t, t, type(z)(1)), logistic(x), t)


@inner
def _hard_tanh(z, a):
    """z between -1 and 1, which it does not leave (Collobert, 2004)."""
    one = type(z)(1)
    high = one if z > one else z
    return -one if high < -one else high


@inner
def _hard_tanh_backward(dout, z, a):
    """dout times 1 if -1 < z < 1 else 0."""
    zero, one = type(z)(0), type(z)(1)
    return dout * (zero if abs(z) >= one else one)


# Functions of a row. An ordinary matrix is a single panel of n columns; `panel` says which.


@inner
def _piece(m, r, j, panel):
    """Return where row r lies in the panel of column j, for panels of `panel` columns."""
    width, itemsize = panel, m.data.itemsize
    if panel == panel_columns(itemsize):
        width = panel_width(m.n, j, itemsize)
    return m.at + j // panel * m.distance + r * width


@inner
def _softmax_row(m, r, panel):
    """Overwrite a row with exp(z - max) / sum: shifted by its maximum, nothing overflows."""
    z, n, number = m.data, m.n, m.data.dtype.type
    largest = z[_piece(m, r, 0, panel)]
    for j in range(0, n, panel):
        start = _piece(m, r, j, panel)
        for c in range(start, start + min(panel, n - j)):
            largest = max(largest, z[c])
    total = number(0)
    for j in range(0, n, panel):
        start = _piece(m, r, j, panel)
        part = z[start : start + min(panel, n - j)]
        for c in range(part.size):
            part[c] = exp(part[c] - largest)
        for c in range(part.size):
            total += part[c]
    scale = number(1) / total
    for j in range(0, n, panel):
        start = _piece(m, r, j, panel)
        for c in range(start, start + min(panel, n - j)):
            z[c] *= scale


@inner
def _softmax_row_backward(dz, y, r, panel):
    """dz = y * (dout - sum(dout * y)): the Jacobian diag(y) - y y^T times dout."""
    n, total = y.n, y.data.dtype.type(0)
    for j in range(0, n, panel):
        at, d = _piece(y, r, j, panel), _piece(dz, r, j, panel)
        for c in range(min(panel, n - j)):
            total = fma(dz.data[d + c], y.data[at + c], total)
    for j in range(0, n, panel):
        at, d = _piece(y, r, j, panel), _piece(dz, r, j, panel)
        for c in range(min(panel, n - j)):
            dz.data[d + c] = y.data[at + c] * (dz.data[d + c] - total)


_HE = {"first_weights": "he_uniform"}  # before those that silence about half of their inputs
_FROM_INPUT = {"from_result": False}

ACTIVATIONS = {
    "relu": Activation(_relu, _relu_backward, **_HE),
    "leaky_relu": Activation(_leaky_relu, _leaky_relu_backward, **_HE, parameter=0.01),
    "logistic": Activation(_logistic, _logistic_backward, zero_at_zero=False),
    "tanh": Activation(_tanh, _tanh_backward),
    "softmax": Activation(_softmax_row, _softmax_row_backward, by_row=True),
    "step": Activation(_step, _step_backward, is_flat=True),
    "elu": Activation(_elu, _elu_backward, **_FROM_INPUT, **_HE, parameter=1.0),
    "selu": Activation(_selu, _selu_backward, **_FROM_INPUT, first_weights="lecun_normal"),
    "gelu": Activation(_gelu, _gelu_backward, **_FROM_INPUT, **_HE),
    "gelu_tanh": Activation(_gelu_tanh, _gelu_tanh_backward, **_FROM_INPUT, **_HE),
    "silu": Activation(_silu, _silu_backward, **_FROM_INPUT, **_HE),
    "softplus": Activation(_softplus, _softplus_backward, **_FROM_INPUT, **_HE, zero_at_zero=False),
    "mish": Activation(_mish, _mish_backward, **_FROM_INPUT, **_HE),
    "hard_tanh": Activation(_hard_tanh, _hard_tanh_backward, **_FROM_INPUT),
}
"""Activations by their name."""


# Kernels for a net: rows of matrices in panels.


@inner
def _clear_padding(rows, n, width):
    """Set the padding in rows of a panel, behind n columns, to zero."""
    for start in range(0, rows.size, width):
        for c in range(start + n, start + width):
            rows[c] = rows.dtype.type(0)


@inner
def _rows_of_panel(m, low, count, j):
    """Return where rows of the panel of column j begin and end, and the width of the panel."""
    width, start = panel_width(m.n, j, m.data.itemsize), place(m, low, j)
    return start, start + count * width, width


@functools.cache
def activate_kernel(activation, dtype):
    """Return the address of `activate` for one of the activations that work in place."""
    function, zero_at_zero, number = activation.function, activation.zero_at_zero, dtype.type

    def activate_rows(op, low, count, work):
        op = operation_at(op)
        out = result_of(op, vector_at(work_at(work).acts, number))
        for r in range(low, low + count):
            function(out, r, panel_columns(out.data.itemsize))

    def activate_elements(op, low, count, work):
        op = operation_at(op)
        out = result_of(op, vector_at(work_at(work).acts, number))
        a = number(op.activation_number)
        for j in range(0, out.n, panel_columns(out.data.itemsize)):
            start, end, width = _rows_of_panel(out, low, count, j)
            y = out.data[start:end]
            for i in range(y.size):
                y[i] = function(y[i], a)
            if not zero_at_zero:
                _clear_padding(y, out.n - j, width)

    return operation_kernel(activate_rows if activation.by_row else activate_elements)


@functools.cache
def differentiate_kernel(activation, dtype):
    """Return the address of `differentiate` for one of the activations that work in place."""
    backward, number = activation.backward, dtype.type

    def differentiate_rows(op, low, count, work):
        op, work = operation_at(op), work_at(work)
        out = result_of(op, vector_at(work.acts, number))
        dout = result_of(op, vector_at(work.deltas, number))
        for r in range(low, low + count):
            backward(dout, out, r, panel_columns(out.data.itemsize))

    def differentiate_elements(op, low, count, work):
        op, work = operation_at(op), work_at(work)
        out = result_of(op, vector_at(work.acts, number))
        dout = result_of(op, vector_at(work.deltas, number))
        a = number(op.activation_number)
        for j in range(0, out.n, panel_columns(out.data.itemsize)):
            start, end, _ = _rows_of_panel(out, low, count, j)
            y = out.data[start:end]
            start, end, _ = _rows_of_panel(dout, low, count, j)
            dz = dout.data[start:end]
            for i in range(dz.size):
                dz[i] = backward(dz[i], y[i], a)

    return operation_kernel(differentiate_rows if activation.by_row else differentiate_elements)


@functools.cache
def forward_kernel(activation, dtype, cached=True):
    """Return the address of `forward` for an activation that keeps its input."""
    function, zero_at_zero, number = activation.function, activation.zero_at_zero, dtype.type

    def activation_forward(op, low, count, work):
        op, acts = operation_at(op), vector_at(work_at(work).acts, number)
        x, out, a = input_of(op, acts), result_of(op, acts), number(op.activation_number)
        for j in range(0, out.n, panel_columns(acts.itemsize)):
            start, end, width = _rows_of_panel(x, low, count, j)
            z = x.data[start:end]
            start, end, _ = _rows_of_panel(out, low, count, j)
            y = out.data[start:end]
            for i in range(z.size):
                y[i] = number(function(z[i], a))
            if not zero_at_zero:
                _clear_padding(y, out.n - j, width)

    return operation_kernel(activation_forward, cached)


@functools.cache
def backward_kernel(activation, dtype, cached=True):
    """Return the address of `backward` for an activation that keeps its input."""
    backward, zero_at_zero, number = activation.backward, activation.zero_at_zero, dtype.type

    def activation_backward(op, low, count, work):
        op, work = operation_at(op), work_at(work)
        acts, deltas = vector_at(work.acts, number), vector_at(work.deltas, number)
        x, dx, dout = input_of(op, acts), input_of(op, deltas), result_of(op, deltas)
        a = number(op.activation_number)
        for j in range(0, dout.n, panel_columns(acts.itemsize)):
            start, end, width = _rows_of_panel(x, low, count, j)
            z = x.data[start:end]
            start, end, _ = _rows_of_panel(dx, low, count, j)
            dz = dx.data[start:end]
            start, end, _ = _rows_of_panel(dout, low, count, j)
            dy = dout.data[start:end]
            for i in range(z.size):
                dz[i] = number(backward(dy[i], z[i], a))
            if not zero_at_zero:
                _clear_padding(dz, dout.n - j, width)

    return operation_kernel(activation_backward, cached)


# Kernels for ordinary arrays, which Python calls.


@functools.cache
def array_kernels(activation, cached=True):
    """Return two kernels for arrays (B, O) of any float type, compiled when they are called.

    The first one, (out, a), overwrites `out` with its activation; the second one, (dout, v, a), the
    gradient `dout` with that before the activation, where v is the result or the input.
    """
    function, backward = activation.function, activation.backward
    compiled = kernel if cached else inner_kernel

    if activation.by_row:

        def apply(out, a):
            n_rows, n = out.shape
            m = Panels(out.reshape(-1), 0, 0, n)
            for r in range(n_rows):
                function(m, r, n)

        def differentiate(dout, v, a):
            n_rows, n = v.shape
            m, d = Panels(v.reshape(-1), 0, 0, n), Panels(dout.reshape(-1), 0, 0, n)
            for r in range(n_rows):
                backward(d, m, r, n)

    else:

        def apply(out, a):
            z = out.reshape(-1)
            number = z.dtype.type(a)
            for i in range(z.size):
                z[i] = function(z[i], number)

        def differentiate(dout, v, a):
            d, values = dout.reshape(-1), v.reshape(-1)
            number = d.dtype.type(a)
            for i in range(d.size):
                d[i] = backward(d[i], values[i], number)

    return compiled(apply), compiled(differentiate)


# Functions of a user.


def inner_kernel(function):
    """Compile a kernel that Python calls and that is not kept on disk."""
    return numba.njit(nogil=True, error_model="numpy", _nrt=False)(function)


@functools.cache
def user_activation(f, df, dtype):
    """Return a row of the table for functions of a user.

    Kernels of it are not cached on disk, for nothing tells there whether a function is still the
    same.

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

    @inner
    def function(z, a):
        return f(z)

    @inner
    def backward(dout, z, a):
        return dout * type(dout)(df(z))

    return Activation(function, backward, from_result=False, zero_at_zero=False)


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
