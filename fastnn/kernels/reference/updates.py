"""Update rules, in plain loops: one step downhill.

`p` holds all parameters of a network in one vector of P numbers, `g` their gradient. A rule
overwrites `p` and its own memory, which starts as zeros.
"""

import math

from fastnn._jit import reference


@reference
def sgd(p, g, learning_rate):
    """Step against the gradient, plain stochastic gradient descent: ``p -= learning_rate * g``.

    Parameters
    ----------
    p : ndarray of shape (P,)
        Parameters, overwritten.
    g : ndarray of shape (P,)
        Gradient of the loss with respect to `p`.
    learning_rate : float
        Length of the step per unit of gradient.

    Examples
    --------
    >>> import numpy as np
    >>> p = np.array([1.0])
    >>> sgd(p, np.array([2.0]), 0.25)
    >>> p
    array([0.5])
    """
    rate = p.dtype.type(learning_rate)
    for i in range(p.shape[0]):
        p[i] -= rate * g[i]


@reference
def momentum(p, velocity, g, learning_rate, momentum):
    """Roll downhill: a velocity gathers the gradients and forgets them slowly (Polyak 1964).

    ``velocity = momentum * velocity - learning_rate * g``, then ``p += velocity``.

    Parameters
    ----------
    p, velocity : ndarray of shape (P,)
        Parameters and their velocity, overwritten.
    g : ndarray of shape (P,)
        Gradient of the loss with respect to `p`.
    learning_rate : float
        Length of the step per unit of gradient.
    momentum : float
        Share of the velocity that is kept, from 0 to below 1.

    Examples
    --------
    >>> import numpy as np
    >>> p, velocity = np.array([1.0]), np.array([0.5])
    >>> momentum(p, velocity, np.array([2.0]), 0.5, 0.5)
    >>> p, velocity
    (array([0.25]), array([-0.75]))
    """
    rate, keep = p.dtype.type(learning_rate), p.dtype.type(momentum)
    for i in range(p.shape[0]):
        velocity[i] = keep * velocity[i] - rate * g[i]
        p[i] += velocity[i]


@reference
def nesterov(p, velocity, g, learning_rate, momentum):
    """Roll downhill and look ahead: Nesterov's momentum.

    ``velocity = momentum * velocity - learning_rate * g``, then
    ``p += momentum * velocity - learning_rate * g``. This is the form of Bengio, Boulanger-
    Lewandowski and Pascanu (2013, equation 7): `p` is the point ahead, where the gradient is taken.

    Parameters
    ----------
    p, velocity : ndarray of shape (P,)
        Parameters and their velocity, overwritten.
    g : ndarray of shape (P,)
        Gradient of the loss with respect to `p`.
    learning_rate : float
        Length of the step per unit of gradient.
    momentum : float
        Share of the velocity that is kept, from 0 to below 1.

    Examples
    --------
    >>> import numpy as np
    >>> p, velocity = np.array([1.0]), np.array([0.5])
    >>> nesterov(p, velocity, np.array([2.0]), 0.5, 0.5)
    >>> p, velocity
    (array([-0.375]), array([-0.75]))
    """
    rate, keep = p.dtype.type(learning_rate), p.dtype.type(momentum)
    for i in range(p.shape[0]):
        velocity[i] = keep * velocity[i] - rate * g[i]
        p[i] += keep * velocity[i] - rate * g[i]


@reference
def rmsprop(p, square, g, learning_rate, rho, epsilon):
    """Divide each step by the recent size of its gradient (Tieleman and Hinton 2012, lecture 6e).

    ``square = rho * square + (1 - rho) * g^2``, then
    ``p -= learning_rate * g / (sqrt(square) + epsilon)``.

    Parameters
    ----------
    p, square : ndarray of shape (P,)
        Parameters and the running mean of their squared gradients, overwritten.
    g : ndarray of shape (P,)
        Gradient of the loss with respect to `p`.
    learning_rate : float
        Length of the step.
    rho : float
        Share of the running mean that is kept, from 0 to below 1.
    epsilon : float
        Keeps the division finite where the gradient vanishes.

    Examples
    --------
    >>> import numpy as np
    >>> p, square = np.array([1.0]), np.array([0.0])
    >>> rmsprop(p, square, np.array([4.0]), 0.25, 0.75, 0.0)
    >>> p, square
    (array([0.5]), array([4.]))
    """
    rate, eps = p.dtype.type(learning_rate), p.dtype.type(epsilon)
    keep, add = p.dtype.type(rho), p.dtype.type(1 - rho)
    for i in range(p.shape[0]):
        square[i] = keep * square[i] + add * (g[i] * g[i])
        p[i] -= rate * g[i] / (math.sqrt(square[i]) + eps)


@reference
def adam_step_size(learning_rate, beta_1, beta_2, t):
    """Return Adam's step size at update `t`, with the correction for means that start at zero.

    After t updates from zero the running means m and v are too small by the factors
    ``1 - beta_1^t`` and ``1 - beta_2^t``. Kingma and Ba (2015, end of section 2) put both
    corrections into the step: ``learning_rate * sqrt(1 - beta_2^t) / (1 - beta_1^t)``.

    Parameters
    ----------
    learning_rate, beta_1, beta_2 : float
        Settings of Adam.
    t : int
        Number of this update, from 1.

    Returns
    -------
    float
        The step size, in float64.

    Examples
    --------
    >>> adam_step_size(0.5, 0.5, 0.75, 1)
    0.5
    """
    return learning_rate * math.sqrt(1 - beta_2**t) / (1 - beta_1**t)


@reference
def adam(p, m, v, g, step_size, beta_1, beta_2, epsilon):
    """Step along the mean gradient, divided by its recent size (Kingma and Ba 2015).

    ``m = beta_1 * m + (1 - beta_1) * g``, ``v = beta_2 * v + (1 - beta_2) * g^2``, then
    ``p -= step_size * m / (sqrt(v) + epsilon)``. Here epsilon is added before v is corrected, as
    in the paper's efficient form and in scikit-learn.

    Parameters
    ----------
    p, m, v : ndarray of shape (P,)
        Parameters, running mean of the gradient and of its square, overwritten.
    g : ndarray of shape (P,)
        Gradient of the loss with respect to `p`.
    step_size : float
        From `adam_step_size`.
    beta_1, beta_2 : float
        Share of m and of v that is kept, from 0 to below 1.
    epsilon : float
        Keeps the division finite where the gradient vanishes.

    Examples
    --------
    >>> import numpy as np
    >>> p, m, v = np.array([1.0]), np.array([0.0]), np.array([0.0])
    >>> adam(p, m, v, np.array([4.0]), 0.5, 0.5, 0.75, 0.0)
    >>> p, m, v
    (array([0.5]), array([2.]), array([4.]))
    """
    step, eps = p.dtype.type(step_size), p.dtype.type(epsilon)
    keep_m, add_m = p.dtype.type(beta_1), p.dtype.type(1 - beta_1)
    keep_v, add_v = p.dtype.type(beta_2), p.dtype.type(1 - beta_2)
    for i in range(p.shape[0]):
        m[i] = keep_m * m[i] + add_m * g[i]
        v[i] = keep_v * v[i] + add_v * (g[i] * g[i])
        p[i] -= step * m[i] / (math.sqrt(v[i]) + eps)


@reference
def adamw(p, m, v, g, step_size, beta_1, beta_2, epsilon, decay):
    """Shrink the parameters, then step as `adam` does (Loshchilov and Hutter 2019, algorithm 2).

    ``p -= decay * p``, then Adam's update. The decay does not pass through m and v: that is the
    difference from adding a penalty to the loss.

    Parameters
    ----------
    p, m, v : ndarray of shape (P,)
        Parameters, running mean of the gradient and of its square, overwritten.
    g : ndarray of shape (P,)
        Gradient of the loss with respect to `p`.
    step_size : float
        From `adam_step_size`.
    beta_1, beta_2 : float
        Share of m and of v that is kept, from 0 to below 1.
    epsilon : float
        Keeps the division finite where the gradient vanishes.
    decay : float
        Share of each parameter taken away: learning rate times weight decay.

    Examples
    --------
    >>> import numpy as np
    >>> p, m, v = np.array([1.0]), np.array([0.0]), np.array([0.0])
    >>> adamw(p, m, v, np.array([4.0]), 0.5, 0.5, 0.75, 0.0, 0.25)
    >>> p
    array([0.25])
    """
    share = p.dtype.type(decay)
    for i in range(p.shape[0]):
        p[i] -= share * p[i]
    adam(p, m, v, g, step_size, beta_1, beta_2, epsilon)
