"""Plain loops for activations whose derivative is computed from their input.

The backward pass takes z, the input of the forward pass: the derivative cannot be computed from the
output of these functions, or not easily. Both passes may work in place: `out` may be `z`, `dz` may
be `dout`; but the backward pass still needs z.

With an infinite z, a product such as ``z * P(Z <= z)`` is NaN here if it is infinity times 0; the
fast kernels give the limit, 0.
"""

import math

from fastnn.kernels.reference.activations import logistic
from fastnn.runtime.jit import reference

# Klambauer et al. (2017): solutions of the equations for mean 0 and variance 1.
SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805


@reference
def normal_cdf(z):
    """Return P(Z <= z) for a standard normal Z: ``(1 + erf(z / sqrt(2))) / 2``.

    Computed by the complement erfc, which keeps all digits of a small result.
    """
    number = type(z)
    return number(0.5) * number(math.erfc(-z * number(math.sqrt(0.5))))


@reference
def softplus(z):
    """Return log(1 + e^z) for one number, as max(z, 0) + log(1 + e^-|z|), which cannot overflow."""
    return max(z, type(z)(0)) + math.log1p(math.exp(-abs(z)))


@reference
def elu_forward(out, z, alpha):
    """Compute ELU: ``out = z if z > 0 else alpha * (e^z - 1)``.

    Clevert, Unterthiner and Hochreiter (2016), "Fast and accurate deep network learning by
    exponential linear units (ELUs)".

    Parameters
    ----------
    out : ndarray of shape (B, O)
        Overwritten. May be `z`.
    z : ndarray of shape (B, O)
        Pre-activations.
    alpha : float
        Minus the limit for z to minus infinity.

    Examples
    --------
    >>> import numpy as np
    >>> out = np.empty((1, 2))
    >>> elu_forward(out, np.array([[-1000.0, 2.0]]), 1.0)
    >>> out
    array([[-1.,  2.]])
    """
    a = out.dtype.type(alpha)
    for row in range(z.shape[0]):
        for o in range(z.shape[1]):
            out[row, o] = z[row, o] if z[row, o] > 0 else a * math.expm1(z[row, o])


@reference
def elu_backward(dz, dout, z, alpha):
    """Multiply by the derivative: ``dz = dout * (1 if z > 0 else alpha * e^z)``.

    At ``z = 0`` it is taken as alpha.

    Parameters
    ----------
    dz : ndarray of shape (B, O)
        Overwritten. May be `dout`.
    dout : ndarray of shape (B, O)
        Gradient with respect to the output.
    z : ndarray of shape (B, O)
        Input of `elu_forward`.
    alpha : float
        Minus the limit for z to minus infinity.

    Examples
    --------
    >>> import numpy as np
    >>> dz = np.empty((1, 1))
    >>> elu_backward(dz, np.array([[3.0]]), np.array([[2.0]]), 1.0)
    >>> dz
    array([[3.]])
    """
    one, a = dz.dtype.type(1), dz.dtype.type(alpha)
    for row in range(z.shape[0]):
        for o in range(z.shape[1]):
            slope = one if z[row, o] > 0 else a * math.exp(z[row, o])
            dz[row, o] = dout[row, o] * slope


@reference
def selu_forward(out, z):
    """Compute SELU, a scaled ELU: ``out = scale * (z if z > 0 else alpha * (e^z - 1))``.

    With alpha = 1.6733 and scale = 1.0507, the outputs have mean 0 and variance 1 if z is standard
    normal, and that is a stable fixed point. Klambauer et al. (2017), "Self-normalizing neural
    networks".

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
    >>> selu_forward(out, np.array([[-1000.0, 2.0]]))
    >>> out
    array([[-1.75809934,  2.10140197]])
    """
    number = out.dtype.type
    a, scale = number(SELU_ALPHA), number(SELU_SCALE)
    for row in range(z.shape[0]):
        for o in range(z.shape[1]):
            out[row, o] = scale * (z[row, o] if z[row, o] > 0 else a * math.expm1(z[row, o]))


@reference
def selu_backward(dz, dout, z):
    """Multiply by the derivative: ``dz = dout * scale * (1 if z > 0 else alpha * e^z)``.

    At ``z = 0`` it is taken as scale * alpha.

    Parameters
    ----------
    dz : ndarray of shape (B, O)
        Overwritten. May be `dout`.
    dout : ndarray of shape (B, O)
        Gradient with respect to the output.
    z : ndarray of shape (B, O)
        Input of `selu_forward`.

    Examples
    --------
    >>> import numpy as np
    >>> dz = np.empty((1, 1))
    >>> selu_backward(dz, np.array([[1.0]]), np.array([[2.0]]))
    >>> dz
    array([[1.05070099]])
    """
    number = dz.dtype.type
    one, a, scale = number(1), number(SELU_ALPHA), number(SELU_SCALE)
    for row in range(z.shape[0]):
        for o in range(z.shape[1]):
            slope = scale * (one if z[row, o] > 0 else a * math.exp(z[row, o]))
            dz[row, o] = dout[row, o] * slope


@reference
def gelu_forward(out, z):
    """Compute GELU: ``out = z * P(Z <= z)`` for a standard normal Z.

    Hendrycks and Gimpel (2016), "Gaussian error linear units (GELUs)".

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
    >>> gelu_forward(out, np.array([[-1.0, 0.0, 1.0]]))
    >>> out
    array([[-0.15865525,  0.        ,  0.84134475]])
    """
    for row in range(z.shape[0]):
        for o in range(z.shape[1]):
            out[row, o] = z[row, o] * normal_cdf(z[row, o])


@reference
def gelu_backward(dz, dout, z):
    """Multiply by the derivative: ``dz = dout * (P(Z <= z) + z * p(z))``.

    p is the density of the normal distribution, the derivative of P: ``e^(-z^2 / 2) / sqrt(2 pi)``.

    Parameters
    ----------
    dz : ndarray of shape (B, O)
        Overwritten. May be `dout`.
    dout : ndarray of shape (B, O)
        Gradient with respect to the output.
    z : ndarray of shape (B, O)
        Input of `gelu_forward`.

    Examples
    --------
    >>> import numpy as np
    >>> dz = np.empty((1, 1))
    >>> gelu_backward(dz, np.array([[4.0]]), np.array([[0.0]]))
    >>> dz
    array([[2.]])
    """
    number = dz.dtype.type
    half, at_0 = number(0.5), number(1 / math.sqrt(2 * math.pi))
    for row in range(z.shape[0]):
        for o in range(z.shape[1]):
            density = at_0 * math.exp(-half * z[row, o] * z[row, o])
            slope = normal_cdf(z[row, o]) + z[row, o] * density
            dz[row, o] = dout[row, o] * slope


@reference
def gelu_tanh_forward(out, z):
    """Compute an approximate GELU: ``out = z (1 + tanh(u)) / 2``.

    ``u = sqrt(2 / pi) (z + 0.044715 z^3)``. (1 + tanh(u)) / 2 is the logistic function of 2 u,
    which keeps the digits of a small result. Hendrycks and Gimpel (2016).

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
    >>> gelu_tanh_forward(out, np.array([[-1.0, 0.0, 1.0]]))
    >>> out
    array([[-0.15880801,  0.        ,  0.84119199]])
    """
    number = out.dtype.type
    two, k, cubic = number(2), number(math.sqrt(2 / math.pi)), number(0.044715)
    for row in range(z.shape[0]):
        for o in range(z.shape[1]):
            u = k * (z[row, o] + cubic * z[row, o] * z[row, o] * z[row, o])
            out[row, o] = z[row, o] * logistic(two * u)


@reference
def gelu_tanh_backward(dz, dout, z):
    """Multiply by the derivative: ``dz = dout * (s + z s (1 - s) 2 u')``, ``s = logistic(2 u)``.

    ``u' = sqrt(2 / pi) (1 + 3 * 0.044715 z^2)``.

    Parameters
    ----------
    dz : ndarray of shape (B, O)
        Overwritten. May be `dout`.
    dout : ndarray of shape (B, O)
        Gradient with respect to the output.
    z : ndarray of shape (B, O)
        Input of `gelu_tanh_forward`.

    Examples
    --------
    >>> import numpy as np
    >>> dz = np.empty((1, 1))
    >>> gelu_tanh_backward(dz, np.array([[4.0]]), np.array([[0.0]]))
    >>> dz
    array([[2.]])
    """
    number = dz.dtype.type
    one, two, three = number(1), number(2), number(3)
    k, cubic = number(math.sqrt(2 / math.pi)), number(0.044715)
    for row in range(z.shape[0]):
        for o in range(z.shape[1]):
            x = z[row, o]
            s = logistic(two * k * (x + cubic * x * x * x))
            du = k * (one + three * cubic * x * x)
            slope = s + x * s * (one - s) * two * du
            dz[row, o] = dout[row, o] * slope


@reference
def silu_forward(out, z):
    """Compute SiLU, also known as Swish: ``out = z / (1 + e^-z)``.

    Elfwing, Uchibe and Doya (2017), "Sigmoid-weighted linear units for neural network function
    approximation in reinforcement learning"; Ramachandran, Zoph and Le (2017), "Searching for
    activation functions".

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
    >>> silu_forward(out, np.array([[-1.0, 0.0, 1.0]]))
    >>> out
    array([[-0.26894142,  0.        ,  0.73105858]])
    """
    for row in range(z.shape[0]):
        for o in range(z.shape[1]):
            out[row, o] = z[row, o] * logistic(z[row, o])


@reference
def silu_backward(dz, dout, z):
    """Multiply by the derivative: ``dz = dout * (s + z s (1 - s))``, ``s = logistic(z)``.

    By the product rule, with ``s' = s (1 - s)``.

    Parameters
    ----------
    dz : ndarray of shape (B, O)
        Overwritten. May be `dout`.
    dout : ndarray of shape (B, O)
        Gradient with respect to the output.
    z : ndarray of shape (B, O)
        Input of `silu_forward`.

    Examples
    --------
    >>> import numpy as np
    >>> dz = np.empty((1, 1))
    >>> silu_backward(dz, np.array([[4.0]]), np.array([[0.0]]))
    >>> dz
    array([[2.]])
    """
    one = dz.dtype.type(1)
    for row in range(z.shape[0]):
        for o in range(z.shape[1]):
            s = logistic(z[row, o])
            slope = s + z[row, o] * s * (one - s)
            dz[row, o] = dout[row, o] * slope


@reference
def softplus_forward(out, z):
    """Compute softplus, a smooth ReLU: ``out = log(1 + e^z)``.

    Dugas et al. (2001), "Incorporating second-order functional knowledge for better option
    pricing".

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
    >>> softplus_forward(out, np.array([[-1000.0, 0.0, 1000.0]]))
    >>> out
    array([[0.00000000e+00, 6.93147181e-01, 1.00000000e+03]])
    """
    for row in range(z.shape[0]):
        for o in range(z.shape[1]):
            out[row, o] = softplus(z[row, o])


@reference
def softplus_backward(dz, dout, z):
    """Multiply by the derivative, the logistic function: ``dz = dout / (1 + e^-z)``.

    Parameters
    ----------
    dz : ndarray of shape (B, O)
        Overwritten. May be `dout`.
    dout : ndarray of shape (B, O)
        Gradient with respect to the output.
    z : ndarray of shape (B, O)
        Input of `softplus_forward`.

    Examples
    --------
    >>> import numpy as np
    >>> dz = np.empty((1, 1))
    >>> softplus_backward(dz, np.array([[4.0]]), np.array([[0.0]]))
    >>> dz
    array([[2.]])
    """
    for row in range(z.shape[0]):
        for o in range(z.shape[1]):
            slope = logistic(z[row, o])
            dz[row, o] = dout[row, o] * slope


@reference
def mish_forward(out, z):
    """Compute Mish: ``out = z * tanh(log(1 + e^z))``.

    Misra (2019), "Mish: a self regularized non-monotonic activation function".

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
    >>> mish_forward(out, np.array([[-1.0, 0.0, 1.0]]))
    >>> out
    array([[-0.30340146,  0.        ,  0.86509839]])
    """
    for row in range(z.shape[0]):
        for o in range(z.shape[1]):
            out[row, o] = z[row, o] * math.tanh(softplus(z[row, o]))


@reference
def mish_backward(dz, dout, z):
    """Multiply by the derivative: ``dz = dout * (t + z (1 - t^2) s)``.

    ``t = tanh(softplus(z))``, and s = logistic(z) is the derivative of softplus.

    Parameters
    ----------
    dz : ndarray of shape (B, O)
        Overwritten. May be `dout`.
    dout : ndarray of shape (B, O)
        Gradient with respect to the output.
    z : ndarray of shape (B, O)
        Input of `mish_forward`.

    Examples
    --------
    >>> import numpy as np
    >>> dz = np.empty((1, 1))
    >>> mish_backward(dz, np.array([[5.0]]), np.array([[0.0]]))
    >>> dz
    array([[3.]])
    """
    one = dz.dtype.type(1)
    for row in range(z.shape[0]):
        for o in range(z.shape[1]):
            t = math.tanh(softplus(z[row, o]))
            slope = t + z[row, o] * (one - t * t) * logistic(z[row, o])
            dz[row, o] = dout[row, o] * slope


@reference
def hard_tanh_forward(out, z):
    """Clip to [-1, 1]: ``out = max(-1, min(z, 1))``. NaN stays NaN.

    A piecewise linear tanh. Collobert (2004), "Large scale machine learning".

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
    >>> hard_tanh_forward(out, np.array([[-3.0, 0.5, 3.0]]))
    >>> out
    array([[-1. ,  0.5,  1. ]])
    """
    one = out.dtype.type(1)
    for row in range(z.shape[0]):
        for o in range(z.shape[1]):
            clipped = one if z[row, o] > one else z[row, o]
            out[row, o] = -one if clipped < -one else clipped


@reference
def hard_tanh_backward(dz, dout, z):
    """Multiply by the derivative: ``dz = dout * (1 if -1 < z < 1 else 0)``.

    At -1 and 1 it is taken as 0. Where z is NaN, ``dz = dout``.

    Parameters
    ----------
    dz : ndarray of shape (B, O)
        Overwritten. May be `dout`.
    dout : ndarray of shape (B, O)
        Gradient with respect to the output.
    z : ndarray of shape (B, O)
        Input of `hard_tanh_forward`.

    Examples
    --------
    >>> import numpy as np
    >>> dz = np.empty((1, 2))
    >>> hard_tanh_backward(dz, np.array([[4.0, 4.0]]), np.array([[0.5, 3.0]]))
    >>> dz
    array([[4., 0.]])
    """
    zero, one = dz.dtype.type(0), dz.dtype.type(1)
    for row in range(z.shape[0]):
        for o in range(z.shape[1]):
            slope = zero if abs(z[row, o]) >= one else one
            dz[row, o] = dout[row, o] * slope
