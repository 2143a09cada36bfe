"""Activations and their derivatives, in place, over a block of rows.

A block is `n_rows` rows of `n` columns, `ld` apart, in a flat array from `o` on. The columns from
n to ld are padding: they are computed along (one long loop is faster than many short ones) and
stay zero. Derivatives are in terms of the activation's output, which backward passes keep.
"""

from fastnn._jit import inner, kernel, routine
from fastnn.kernels.codes import LEAKY_RELU, LOGISTIC, RELU, SOFTMAX, STEP, TANH
from fastnn.kernels.vectormath import exp, logistic, tanh


@inner
def _softmax_rows(n_rows, n, z, ld):
    """Overwrite each row with exp(z - max) / sum: shifted by its maximum, nothing overflows."""
    number = z.dtype.type
    for r in range(n_rows):
        row = z[r * ld : r * ld + n]
        largest = row[0]
        for c in range(1, n):
            largest = max(largest, row[c])
        for c in range(n):
            row[c] = exp(row[c] - largest)
        total = number(0)
        for c in range(n):
            total += row[c]
        scale = number(1) / total
        for c in range(n):
            row[c] *= scale


@routine
def activate_rows(code, slope, n_rows, n, out, o, ld):
    """Overwrite a block of pre-activations with the activation: out = f(out)."""
    z = out[o : o + n_rows * ld]
    number = out.dtype.type
    zero, one = number(0), number(1)
    if code == RELU:
        for i in range(z.size):
            z[i] = zero if z[i] <= zero else z[i]
    elif code == LEAKY_RELU:
        a = number(slope)
        for i in range(z.size):
            z[i] = a * z[i] if z[i] <= zero else z[i]
    elif code == LOGISTIC:
        for i in range(z.size):
            z[i] = logistic(z[i])
        for r in range(n_rows):  # logistic(0) is not 0
            for c in range(r * ld + n, (r + 1) * ld):
                z[c] = zero
    elif code == TANH:
        for i in range(z.size):
            z[i] = tanh(z[i])
    elif code == SOFTMAX:
        _softmax_rows(n_rows, n, z, ld)
    elif code == STEP:
        for i in range(z.size):
            positive = one if z[i] > zero else zero
            z[i] = positive if z[i] == z[i] else z[i]


@routine
def differentiate_rows(code, slope, n_rows, n, dout, do, out, o, ld):
    """Overwrite a block of gradients dout with the gradient before the activation.

    `out` holds the activation's output; both blocks have the same shape and row distance.
    """
    dz = dout[do : do + n_rows * ld]
    y = out[o : o + n_rows * ld]
    number = out.dtype.type
    zero, one = number(0), number(1)
    if code == RELU:
        for i in range(dz.size):
            dz[i] = zero if y[i] <= zero else dz[i]
    elif code == LEAKY_RELU:
        a = number(slope)
        for i in range(dz.size):
            dz[i] = a * dz[i] if y[i] <= zero else dz[i]
    elif code == LOGISTIC:
        for i in range(dz.size):
            dz[i] *= y[i] * (one - y[i])
    elif code == TANH:
        for i in range(dz.size):
            dz[i] *= one - y[i] * y[i]
    elif code == SOFTMAX:
        # dz = y * (dout - sum(dout * y)): the Jacobian diag(y) - y y^T times dout.
        for r in range(n_rows):
            total = zero
            for c in range(r * ld, r * ld + n):
                total += dz[c] * y[c]
            for c in range(r * ld, r * ld + n):
                dz[c] = y[c] * (dz[c] - total)
    elif code == STEP:
        for i in range(dz.size):  # flat on both sides: nothing can be learned through it
            dz[i] = zero


@kernel
def activate(code, slope, out):
    """Overwrite a whole array (B, O) with its activation."""
    activate_rows(code, slope, out.shape[0], out.shape[1], out.reshape(-1), 0, out.shape[1])


@kernel
def differentiate(code, slope, dout, out):
    """Overwrite gradients dout (B, O) with those before the activation, given its output."""
    n_rows, n = out.shape
    differentiate_rows(code, slope, n_rows, n, dout.reshape(-1), 0, out.reshape(-1), 0, n)
