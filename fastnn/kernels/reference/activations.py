"""Plain loops for activations whose derivative is computed from their output.

The backward pass takes the output of the forward pass, which the next layer keeps anyway as its
input, so `z` need not be kept. Both passes may work in place: `out` may be `z`, `dz` may be `dout`.
"""

import math

from fastnn.runtime.jit import reference


@reference
def identity_forward(out, z):
    """Copy: ``out = z``. The activation of a linear layer.

    Parameters
    ----------
    out : ndarray of shape (B, O)
        Overwritten. May be `z`.
    z : ndarray of shape (B, O)
        Pre-activations.

    Examples
    --------
    >>> import numpy as np
    >>> out = np.empty((1, 2))
    >>> identity_forward(out, np.array([[-1.0, 2.0]]))
    >>> out
    array([[-1.,  2.]])
    """
    for row in range(z.shape[0]):
        for o in range(z.shape[1]):
            out[row, o] = z[row, o]


@reference
def identity_backward(dz, dout, out):
    """Copy the gradient: ``dz = dout``, since the derivative is 1 everywhere.

    Parameters
    ----------
    dz : ndarray of shape (B, O)
        Overwritten. May be `dout`.
    dout : ndarray of shape (B, O)
        Gradient with respect to the output.
    out : ndarray of shape (B, O)
        Output of `identity_forward`; not read.

    Examples
    --------
    >>> import numpy as np
    >>> dz = np.empty((1, 1))
    >>> identity_backward(dz, np.array([[3.0]]), np.array([[2.0]]))
    >>> dz
    array([[3.]])
    """
    for row in range(out.shape[0]):
        for o in range(out.shape[1]):
            dz[row, o] = dout[row, o]


@reference
def relu_forward(out, z):
    """Set negative elements to zero: ``out = max(z, 0)``, the rectified linear unit. NaN stays NaN.

    Parameters
    ----------
    out : ndarray of shape (B, O)
        Overwritten. May be `z`.
    z : ndarray of shape (B, O)
        Pre-activations.

    Examples
    --------
    >>> import numpy as np
    >>> out = np.empty((1, 3))
    >>> relu_forward(out, np.array([[-1.0, 2.0, np.nan]]))
    >>> out
    array([[ 0.,  2., nan]])
    """
    zero = out.dtype.type(0)
    for row in range(z.shape[0]):
        for o in range(z.shape[1]):
            # NaN is kept: it compares false with everything.
            out[row, o] = zero if z[row, o] <= zero else z[row, o]


@reference
def relu_backward(dz, dout, out):
    """Multiply by the derivative of ReLU: ``dz = dout`` where ``out > 0``, else 0.

    The derivative is 1 for ``z > 0`` and 0 for ``z < 0``; at ``z = 0``, where there is none, it is
    taken as 0. ``out > 0`` exactly where ``z > 0``. Where `out` is NaN, ``dz = dout``.

    Parameters
    ----------
    dz : ndarray of shape (B, O)
        Overwritten. May be `dout`.
    dout : ndarray of shape (B, O)
        Gradient with respect to the output.
    out : ndarray of shape (B, O)
        Output of `relu_forward`.

    Examples
    --------
    >>> import numpy as np
    >>> dz = np.empty((1, 2))
    >>> relu_backward(dz, np.array([[5.0, 5.0]]), np.array([[0.0, 2.0]]))
    >>> dz
    array([[0., 5.]])
    """
    zero = dz.dtype.type(0)
    for row in range(out.shape[0]):
        for o in range(out.shape[1]):
            dz[row, o] = zero if out[row, o] <= zero else dout[row, o]


@reference
def leaky_relu_forward(out, z, negative_slope):
    """Scale negative elements: ``out = z if z > 0 else negative_slope * z``.

    Parameters
    ----------
    out : ndarray of shape (B, O)
        Overwritten. May be `z`.
    z : ndarray of shape (B, O)
        Pre-activations.
    negative_slope : float
        Slope for negative `z`, at least 0.

    Examples
    --------
    >>> import numpy as np
    >>> out = np.empty((1, 2))
    >>> leaky_relu_forward(out, np.array([[-1.0, 2.0]]), 0.25)
    >>> out
    array([[-0.25,  2.  ]])
    """
    zero = out.dtype.type(0)
    slope = out.dtype.type(negative_slope)
    for row in range(z.shape[0]):
        for o in range(z.shape[1]):
            out[row, o] = slope * z[row, o] if z[row, o] <= zero else z[row, o]


@reference
def leaky_relu_backward(dz, dout, out, negative_slope):
    """Multiply by the derivative: ``dz = dout if out > 0 else negative_slope * dout``.

    Since the slope is at least 0, `out` is positive exactly where `z` is. At ``z = 0`` the
    derivative is taken as `negative_slope`.

    Parameters
    ----------
    dz : ndarray of shape (B, O)
        Overwritten. May be `dout`.
    dout : ndarray of shape (B, O)
        Gradient with respect to the output.
    out : ndarray of shape (B, O)
        Output of `leaky_relu_forward`.
    negative_slope : float
        The slope given to `leaky_relu_forward`.

    Examples
    --------
    >>> import numpy as np
    >>> dz = np.empty((1, 2))
    >>> leaky_relu_backward(dz, np.array([[4.0, 4.0]]), np.array([[-0.25, 2.0]]), 0.25)
    >>> dz
    array([[1., 4.]])
    """
    zero = dz.dtype.type(0)
    slope = dz.dtype.type(negative_slope)
    for row in range(out.shape[0]):
        for o in range(out.shape[1]):
            dz[row, o] = slope * dout[row, o] if out[row, o] <= zero else dout[row, o]


@reference
def logistic(z):
    """Return 1 / (1 + e^-z) for one number, without overflow.

    For ``z < 0`` numerator and denominator are multiplied by e^z: e^-z could overflow, and e^z
    keeps all digits of a small result.
    """
    one = type(z)(1)
    if z >= 0:
        return one / (one + math.exp(-z))
    power = math.exp(z)
    return power / (one + power)


@reference
def logistic_forward(out, z):
    """Compute the logistic function or sigmoid: ``out = 1 / (1 + e^-z)``, in (0, 1).

    Parameters
    ----------
    out : ndarray of shape (B, O)
        Overwritten. May be `z`.
    z : ndarray of shape (B, O)
        Pre-activations.

    Examples
    --------
    >>> import numpy as np
    >>> out = np.empty((1, 3))
    >>> logistic_forward(out, np.array([[-1000.0, 0.0, 1000.0]]))
    >>> out
    array([[0. , 0.5, 1. ]])
    """
    for row in range(z.shape[0]):
        for o in range(z.shape[1]):
            out[row, o] = logistic(z[row, o])


@reference
def logistic_backward(dz, dout, out):
    """Multiply by the derivative of the logistic function: ``dz = dout * out * (1 - out)``.

    With ``out = 1 / (1 + e^-z)``, ``d out/dz = e^-z / (1 + e^-z)^2 = out * (1 - out)``.

    Parameters
    ----------
    dz : ndarray of shape (B, O)
        Overwritten. May be `dout`.
    dout : ndarray of shape (B, O)
        Gradient with respect to the output.
    out : ndarray of shape (B, O)
        Output of `logistic_forward`.

    Examples
    --------
    >>> import numpy as np
    >>> dz = np.empty((1, 1))
    >>> logistic_backward(dz, np.array([[4.0]]), np.array([[0.5]]))
    >>> dz
    array([[1.]])
    """
    one = dz.dtype.type(1)
    for row in range(out.shape[0]):
        for o in range(out.shape[1]):
            dz[row, o] = dout[row, o] * out[row, o] * (one - out[row, o])


@reference
def tanh_forward(out, z):
    """Compute tanh: ``out = (e^z - e^-z) / (e^z + e^-z)``, in (-1, 1).

    Parameters
    ----------
    out : ndarray of shape (B, O)
        Overwritten. May be `z`.
    z : ndarray of shape (B, O)
        Pre-activations.

    Examples
    --------
    >>> import numpy as np
    >>> out = np.empty((1, 3))
    >>> tanh_forward(out, np.array([[-1000.0, 0.0, 1000.0]]))
    >>> out
    array([[-1.,  0.,  1.]])
    """
    for row in range(z.shape[0]):
        for o in range(z.shape[1]):
            out[row, o] = math.tanh(z[row, o])


@reference
def tanh_backward(dz, dout, out):
    """Multiply by the derivative of tanh: ``dz = dout * (1 - out^2)``.

    By the quotient rule on ``sinh(z) / cosh(z)``:
    ``d out/dz = (cosh^2 - sinh^2) / cosh^2 = 1 - out^2``.

    Parameters
    ----------
    dz : ndarray of shape (B, O)
        Overwritten. May be `dout`.
    dout : ndarray of shape (B, O)
        Gradient with respect to the output.
    out : ndarray of shape (B, O)
        Output of `tanh_forward`.

    Examples
    --------
    >>> import numpy as np
    >>> dz = np.empty((1, 1))
    >>> tanh_backward(dz, np.array([[4.0]]), np.array([[0.5]]))
    >>> dz
    array([[3.]])
    """
    one = dz.dtype.type(1)
    for row in range(out.shape[0]):
        for o in range(out.shape[1]):
            dz[row, o] = dout[row, o] * (one - out[row, o] * out[row, o])


@reference
def step_forward(out, z):
    """Compute the step function of the perceptron: ``out = 1 if z > 0 else 0``. NaN stays NaN.

    It is Heaviside's step function with the value 0 at 0, ``numpy.heaviside(z, 0)``.

    Parameters
    ----------
    out : ndarray of shape (B, O)
        Overwritten. May be `z`.
    z : ndarray of shape (B, O)
        Pre-activations.

    Examples
    --------
    >>> import numpy as np
    >>> out = np.empty((1, 3))
    >>> step_forward(out, np.array([[-2.0, 0.0, 2.0]]))
    >>> out
    array([[0., 0., 1.]])
    """
    zero, one = out.dtype.type(0), out.dtype.type(1)
    for row in range(z.shape[0]):
        for o in range(z.shape[1]):
            if z[row, o] > zero:
                out[row, o] = one
            elif z[row, o] <= zero:
                out[row, o] = zero
            else:
                out[row, o] = z[row, o]  # NaN


@reference
def step_backward(dz, dout, out):
    """Set the gradient to zero: ``dz = 0``, since the step function is constant on both sides.

    At 0, where it jumps, the derivative is taken as 0 too. The layers before have no gradient, so
    nets of several layers use other activations.

    Parameters
    ----------
    dz : ndarray of shape (B, O)
        Overwritten. May be `dout`.
    dout : ndarray of shape (B, O)
        Gradient with respect to the output; not read.
    out : ndarray of shape (B, O)
        Output of `step_forward`; not read.

    Examples
    --------
    >>> import numpy as np
    >>> dz = np.empty((1, 1))
    >>> step_backward(dz, np.array([[4.0]]), np.array([[1.0]]))
    >>> dz
    array([[0.]])
    """
    for row in range(out.shape[0]):
        for o in range(out.shape[1]):
            dz[row, o] = dz.dtype.type(0)


@reference
def softmax_forward(out, z):
    """Compute softmax of each row: ``out[row, o] = e^z[row, o] / sum_k e^z[row, k]``.

    A number that is subtracted from the whole row cancels in the fraction. The largest element is
    subtracted first: so no power overflows, and the sum is at least 1. With a NaN in it, the whole
    row is NaN.

    Parameters
    ----------
    out : ndarray of shape (B, O)
        Overwritten. May be `z`.
    z : ndarray of shape (B, O)
        Pre-activations, the logits.

    Examples
    --------
    >>> import numpy as np
    >>> out = np.empty((1, 2))
    >>> softmax_forward(out, np.array([[1000.0, 1000.0]]))
    >>> out
    array([[0.5, 0.5]])
    """
    for row in range(z.shape[0]):
        largest = z[row, 0]
        for o in range(1, z.shape[1]):
            if z[row, o] > largest:
                largest = z[row, o]
        total = out.dtype.type(0)
        for o in range(z.shape[1]):
            out[row, o] = math.exp(z[row, o] - largest)
            total += out[row, o]
        for o in range(z.shape[1]):
            out[row, o] /= total


@reference
def softmax_backward(dz, dout, out):
    """Multiply each row of gradients by the Jacobian of softmax.

    With ``p = out[row]``, ``dp[k]/dz[o] = p[k] * ((k == o) - p[o])``: every output depends on every
    logit. By the chain rule, summed over k, ``dz[o] = p[o] * (dout[o] - sum_k dout[k] * p[k])``.

    Parameters
    ----------
    dz : ndarray of shape (B, O)
        Overwritten. May be `dout`.
    dout : ndarray of shape (B, O)
        Gradient with respect to the output.
    out : ndarray of shape (B, O)
        Output of `softmax_forward`.

    Examples
    --------
    >>> import numpy as np
    >>> dz = np.empty((1, 2))
    >>> softmax_backward(dz, np.array([[4.0, 0.0]]), np.array([[0.5, 0.5]]))
    >>> dz
    array([[ 1., -1.]])
    """
    for row in range(out.shape[0]):
        mean = dz.dtype.type(0)
        for o in range(out.shape[1]):
            mean += dout[row, o] * out[row, o]
        for o in range(out.shape[1]):
            dz[row, o] = out[row, o] * (dout[row, o] - mean)
