"""Plain loops for batch and layer normalisation.

xhat stands for the normalised x: ``xhat = (x - mean) / sqrt(variance + epsilon)``.
"""

import math

import numpy as np

from fastnn.runtime.jit import reference


@reference
def column_statistics(mean, variance, x):
    """Compute the mean and the biased variance of each column.

    ``mean = x_0 + 1/B sum_b (x_b - x_0)``, which is exact for a constant column, and
    ``variance = 1/B sum_b (x_b - mean)^2``, or NaN if that overflows: with an infinite variance,
    the normalised x would be zero, and the overflow would not show.

    Parameters
    ----------
    mean, variance : ndarray of shape (I,)
        Overwritten.
    x : ndarray of shape (B, I)
        At least one row.

    Examples
    --------
    >>> import numpy as np
    >>> mean, variance = np.empty(1), np.empty(1)
    >>> column_statistics(mean, variance, np.array([[1.0], [5.0]]))
    >>> mean, variance
    (array([3.]), array([4.]))
    """
    number = x.dtype.type
    count = number(x.shape[0])
    for i in range(x.shape[1]):
        total = number(0)
        for row in range(x.shape[0]):
            total += x[row, i] - x[0, i]
        mean[i] = x[0, i] + total / count
        total = number(0)
        for row in range(x.shape[0]):
            total += (x[row, i] - mean[i]) * (x[row, i] - mean[i])
        variance[i] = total / count if total < np.inf else number(np.nan)


@reference
def batch_norm_forward(out, x, mean, variance, gamma, beta, epsilon):
    """Normalise each column: ``out = (x - mean) / sqrt(variance + epsilon) * gamma + beta``.

    Training gives it the statistics of the batch, a prediction the running statistics (Ioffe &
    Szegedy 2015, algorithms 1 and 2).

    Parameters
    ----------
    out : ndarray of shape (B, I)
        Overwritten.
    x : ndarray of shape (B, I)
        Input.
    mean, variance, gamma, beta : ndarray of shape (I,)
        Statistics, scale and shift of each column.
    epsilon : float
        Added to the variance, so that the divisor is not zero.

    Examples
    --------
    >>> import numpy as np
    >>> out, one = np.empty((1, 1)), np.ones(1)
    >>> batch_norm_forward(out, np.array([[5.0]]), one, 3 * one, one, one, 1.0)
    >>> out
    array([[3.]])
    """
    number = x.dtype.type
    one, epsilon = number(1), number(epsilon)
    for row in range(x.shape[0]):
        for i in range(x.shape[1]):
            xhat = (x[row, i] - mean[i]) * (one / math.sqrt(variance[i] + epsilon))
            out[row, i] = xhat * gamma[i] + beta[i]


@reference
def batch_norm_backward(dx, dgamma, dbeta, dout, x, mean, variance, gamma, epsilon):
    """Compute the gradients of `batch_norm_forward` with the statistics of x.

    ``dgamma = sum_b dout xhat`` and ``dbeta = sum_b dout``. The mean and the variance depend on x
    too, hence ``dx = gamma / sqrt(variance + epsilon) (dout - dbeta / B - xhat dgamma / B)``.

    Parameters
    ----------
    dx : ndarray of shape (B, I)
        Overwritten.
    dgamma, dbeta : ndarray of shape (I,)
        Overwritten.
    dout, x : ndarray of shape (B, I)
        Gradient with respect to the output, and the input.
    mean, variance, gamma : ndarray of shape (I,)
        Arguments of the forward pass.
    epsilon : float
        Argument of the forward pass.

    Examples
    --------
    >>> import numpy as np
    >>> dx, dgamma, dbeta, one = np.empty((2, 1)), np.empty(1), np.empty(1), np.ones(1)
    >>> x, dout = np.array([[-1.0], [1.0]]), np.array([[2.0], [4.0]])
    >>> batch_norm_backward(dx, dgamma, dbeta, dout, x, 0 * one, one, one, 0.0)
    >>> dgamma, dbeta, dx.tolist()
    (array([2.]), array([6.]), [[0.0], [0.0]])
    """
    number = x.dtype.type
    one, epsilon, count = number(1), number(epsilon), number(x.shape[0])
    for i in range(x.shape[1]):
        inverse = one / math.sqrt(variance[i] + epsilon)
        dgamma[i] = dbeta[i] = number(0)
        for row in range(x.shape[0]):
            dgamma[i] += dout[row, i] * ((x[row, i] - mean[i]) * inverse)
            dbeta[i] += dout[row, i]
        for row in range(x.shape[0]):
            xhat = (x[row, i] - mean[i]) * inverse
            rest = dout[row, i] - dbeta[i] / count - xhat * (dgamma[i] / count)
            dx[row, i] = gamma[i] * inverse * rest


@reference
def batch_norm_backward_fixed(dx, dgamma, dbeta, dout, x, mean, variance, gamma, epsilon):
    """Compute the gradients of `batch_norm_forward` with statistics that do not depend on x.

    ``dx = gamma / sqrt(variance + epsilon) dout``; the arguments are those of
    `batch_norm_backward`.

    Examples
    --------
    >>> import numpy as np
    >>> dx, dgamma, dbeta, one = np.empty((1, 1)), np.empty(1), np.empty(1), np.ones(1)
    >>> batch_norm_backward_fixed(
    ...     dx, dgamma, dbeta, np.array([[2.0]]), np.array([[5.0]]), one, one, 3 * one, 0.0
    ... )
    >>> dx, dgamma, dbeta
    (array([[6.]]), array([8.]), array([2.]))
    """
    number = x.dtype.type
    one, epsilon = number(1), number(epsilon)
    for i in range(x.shape[1]):
        inverse = one / math.sqrt(variance[i] + epsilon)
        dgamma[i] = dbeta[i] = number(0)
        for row in range(x.shape[0]):
            dgamma[i] += dout[row, i] * ((x[row, i] - mean[i]) * inverse)
            dbeta[i] += dout[row, i]
            dx[row, i] = gamma[i] * inverse * dout[row, i]


@reference
def layer_norm_forward(out, x, gamma, beta, epsilon):
    """Normalise each row: ``out = (x - mean) / sqrt(variance + epsilon) * gamma + beta``.

    Mean and biased variance are those of the row (Ba, Kiros & Hinton 2016).

    Parameters
    ----------
    out : ndarray of shape (B, I)
        Overwritten.
    x : ndarray of shape (B, I)
        Input.
    gamma, beta : ndarray of shape (I,)
        Scale and shift of each column.
    epsilon : float
        Added to the variance, so that the divisor is not zero.

    Examples
    --------
    >>> import numpy as np
    >>> out = np.empty((1, 2))
    >>> layer_norm_forward(out, np.array([[1.0, 5.0]]), np.ones(2), np.array([0.0, 10.0]), 0.0)
    >>> out
    array([[-1., 11.]])
    """
    number = x.dtype.type
    one, epsilon, count = number(1), number(epsilon), number(x.shape[1])
    for row in range(x.shape[0]):
        distance = variance = number(0)
        for i in range(x.shape[1]):
            distance += (x[row, i] - x[row, 0]) / count
        mean = x[row, 0] + distance
        for i in range(x.shape[1]):
            variance += (x[row, i] - mean) * (x[row, i] - mean) / count
        variance = variance if variance < np.inf else number(np.nan)
        inverse = one / math.sqrt(variance + epsilon)
        for i in range(x.shape[1]):
            out[row, i] = (x[row, i] - mean) * inverse * gamma[i] + beta[i]


@reference
def layer_norm_backward(dx, dgamma, dbeta, dout, x, gamma, epsilon):
    """Compute the gradients of `layer_norm_forward`.

    ``dgamma = sum_b dout xhat``, ``dbeta = sum_b dout``, and, with ``g = dout gamma`` and means
    over the columns, ``dx = (g - mean(g) - xhat mean(g xhat)) / sqrt(variance + epsilon)``.

    Parameters
    ----------
    dx : ndarray of shape (B, I)
        Overwritten.
    dgamma, dbeta : ndarray of shape (I,)
        Overwritten.
    dout, x : ndarray of shape (B, I)
        Gradient with respect to the output, and the input.
    gamma : ndarray of shape (I,)
        Argument of the forward pass.
    epsilon : float
        Argument of the forward pass.

    Examples
    --------
    >>> import numpy as np
    >>> dx, dgamma, dbeta = np.empty((1, 2)), np.empty(2), np.empty(2)
    >>> x, dout = np.array([[-1.0, 1.0]]), np.array([[2.0, 4.0]])
    >>> layer_norm_backward(dx, dgamma, dbeta, dout, x, np.ones(2), 0.0)
    >>> dgamma, dbeta, dx
    (array([-2.,  4.]), array([2., 4.]), array([[0., 0.]]))
    """
    number = x.dtype.type
    one, epsilon, count = number(1), number(epsilon), number(x.shape[1])
    for i in range(x.shape[1]):
        dgamma[i] = dbeta[i] = number(0)
    for row in range(x.shape[0]):
        distance = variance = number(0)
        for i in range(x.shape[1]):
            distance += (x[row, i] - x[row, 0]) / count
        mean = x[row, 0] + distance
        for i in range(x.shape[1]):
            variance += (x[row, i] - mean) * (x[row, i] - mean) / count
        variance = variance if variance < np.inf else number(np.nan)
        inverse = one / math.sqrt(variance + epsilon)
        mean_g = mean_g_xhat = number(0)
        for i in range(x.shape[1]):
            xhat, g = (x[row, i] - mean) * inverse, dout[row, i] * gamma[i]
            dgamma[i] += dout[row, i] * xhat
            dbeta[i] += dout[row, i]
            mean_g += g / count
            mean_g_xhat += g * xhat / count
        for i in range(x.shape[1]):
            xhat, g = (x[row, i] - mean) * inverse, dout[row, i] * gamma[i]
            dx[row, i] = (g - mean_g - xhat * mean_g_xhat) * inverse
