"""Plain loops for update rules and for regularization.

`p` holds all parameters of a network in one vector of P numbers, `g` their gradient. A rule
overwrites `p` and its optimizer state, which is zero at first.

The order in a step: the gradient of the penalties is added to the gradient, which is then clipped
by value, then by norm. Then the weights decay, the rule updates the parameters, and columns of
weights whose norm is too large are scaled down.
"""

import math

from fastnn.runtime.jit import reference


@reference
def sgd(p, g, learning_rate):
    """Update by stochastic gradient descent: ``p -= learning_rate * g``.

    Parameters
    ----------
    p : ndarray of shape (P,)
        Parameters, overwritten.
    g : ndarray of shape (P,)
        Gradient of the loss with respect to `p`.
    learning_rate : float
        Size of the update per unit of gradient.

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
    """Update by gradient descent with momentum (Polyak 1964).

    ``velocity = momentum * velocity - learning_rate * g``, then ``p += velocity``.

    Parameters
    ----------
    p, velocity : ndarray of shape (P,)
        Parameters and their velocity, overwritten.
    g : ndarray of shape (P,)
        Gradient of the loss with respect to `p`.
    learning_rate : float
        Size of the update per unit of gradient.
    momentum : float
        Factor of the last velocity, in [0, 1).

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
    """Update by gradient descent with Nesterov's momentum.

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
        Size of the update per unit of gradient.
    momentum : float
        Factor of the last velocity, in [0, 1).

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
    """Update by RMSProp (Tieleman and Hinton 2012, lecture 6e).

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
        Added to the divisor, so that it is not zero.

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
    """Return the step size of Adam's update `t`, which corrects the running means.

    They are zero at first, so after t updates m and v are too small by the factors ``1 - beta_1^t``
    and ``1 - beta_2^t``. Kingma and Ba (2015, end of section 2) correct both in the step size:
    ``learning_rate * sqrt(1 - beta_2^t) / (1 - beta_1^t)``.

    Parameters
    ----------
    learning_rate, beta_1, beta_2 : float
        Hyperparameters of Adam.
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
    """Update by Adam (Kingma and Ba 2015).

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
        Factors of the last m and v, in [0, 1).
    epsilon : float
        Added to the divisor, so that it is not zero.

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
    """Update by AdamW (Loshchilov and Hutter 2019, algorithm 2).

    ``p -= decay * p``, then Adam's update. Unlike the gradient of an L2 penalty, the decay does not
    change m and v.

    Parameters
    ----------
    p, m, v : ndarray of shape (P,)
        Parameters, running mean of the gradient and of its square, overwritten.
    g : ndarray of shape (P,)
        Gradient of the loss with respect to `p`.
    step_size : float
        From `adam_step_size`.
    beta_1, beta_2 : float
        Factors of the last m and v, in [0, 1).
    epsilon : float
        Added to the divisor, so that it is not zero.
    decay : float
        Share of each parameter that is subtracted: learning rate times weight decay.

    Examples
    --------
    >>> import numpy as np
    >>> p, m, v = np.array([1.0]), np.array([0.0]), np.array([0.0])
    >>> adamw(p, m, v, np.array([4.0]), 0.5, 0.5, 0.75, 0.0, 0.25)
    >>> p
    array([0.25])
    """
    weight_decay(p, decay)
    adam(p, m, v, g, step_size, beta_1, beta_2, epsilon)


@reference
def adagrad(p, total, g, learning_rate, epsilon):
    """Update by AdaGrad (Duchi, Hazan and Singer 2011).

    ``total += g^2``, then ``p -= learning_rate * g / (sqrt(total) + epsilon)``. The sum only
    grows, so the updates become smaller, later for a parameter whose gradient is rarely not zero.

    Parameters
    ----------
    p, total : ndarray of shape (P,)
        Parameters and the sum of their squared gradients, overwritten.
    g : ndarray of shape (P,)
        Gradient of the loss with respect to `p`.
    learning_rate : float
        Size of the first update.
    epsilon : float
        Added to the divisor, so that it is not zero.

    Examples
    --------
    >>> import numpy as np
    >>> p, total = np.array([1.0]), np.array([9.0])
    >>> adagrad(p, total, np.array([4.0]), 0.25, 0.0)
    >>> p, total
    (array([0.8]), array([25.]))
    """
    rate, eps = p.dtype.type(learning_rate), p.dtype.type(epsilon)
    for i in range(p.shape[0]):
        total[i] += g[i] * g[i]
        p[i] -= rate * g[i] / (math.sqrt(total[i]) + eps)


@reference
def nadam_momentum(beta_1, t):
    """Return the momentum of NAdam's update `t`, which grows slowly from `beta_1` / 2 to `beta_1`.

    ``mu_t = beta_1 * (1 - 0.96^(0.004 t) / 2)`` (Dozat 2016, section 3, and Sutskever et al. 2013).

    Parameters
    ----------
    beta_1 : float
        The limit of the momentum, in [0, 1).
    t : int
        Number of this update, from 1.

    Returns
    -------
    float
        The momentum, in float64.

    Examples
    --------
    >>> round(nadam_momentum(0.9, 1), 4), round(nadam_momentum(0.9, 100_000), 4)
    (0.4501, 0.9)
    """
    return beta_1 * (1 - 0.5 * 0.96 ** (0.004 * t))


@reference
def nadam_step_sizes(learning_rate, beta_1, beta_2, product, t):
    """Return the factors of NAdam's update `t`, corrected for running means that are zero at first.

    With the momenta mu of `nadam_momentum` and their product ``P_t = mu_1 * ... * mu_t``, the mean
    of the gradients has the factor ``learning_rate * mu_(t+1) / (1 - P_(t+1))``, the gradient
    itself ``learning_rate * (1 - mu_t) / (1 - P_t)``, and the mean of the squares
    ``1 / (1 - beta_2^t)`` (Dozat 2016, section 3).

    Parameters
    ----------
    learning_rate, beta_1, beta_2 : float
        Hyperparameters of NAdam.
    product : float
        ``P_(t-1)``; 1 before the first update.
    t : int
        Number of this update, from 1.

    Returns
    -------
    mean_step, gradient_step, square_factor, product : float
        The three factors and ``P_t``, in float64.

    Examples
    --------
    Without momentum, the factor of the mean is zero.

    >>> nadam_step_sizes(0.5, 0.0, 0.75, 1.0, 1)
    (0.0, 0.5, 4.0, 0.0)
    """
    now, later = nadam_momentum(beta_1, t), nadam_momentum(beta_1, t + 1)
    seen = product * now
    mean_step = learning_rate * later / (1 - seen * later)
    gradient_step = learning_rate * (1 - now) / (1 - seen)
    return mean_step, gradient_step, 1 / (1 - beta_2**t), seen


@reference
def nadam(p, m, v, g, mean_step, gradient_step, square_factor, beta_1, beta_2, epsilon):
    """Update by NAdam: Adam with Nesterov's momentum (Dozat 2016, section 3).

    ``m = beta_1 * m + (1 - beta_1) * g``, ``v = beta_2 * v + (1 - beta_2) * g^2``, then
    ``p -= (gradient_step * g + mean_step * m) / (sqrt(square_factor * v) + epsilon)``. As in
    PyTorch, the factor of the last m is always `beta_1`.

    Parameters
    ----------
    p, m, v : ndarray of shape (P,)
        Parameters, running mean of the gradient and of its square, overwritten.
    g : ndarray of shape (P,)
        Gradient of the loss with respect to `p`.
    mean_step, gradient_step, square_factor : float
        From `nadam_step_sizes`.
    beta_1, beta_2 : float
        Factors of the last m and v, in [0, 1).
    epsilon : float
        Added to the divisor, so that it is not zero.

    Examples
    --------
    >>> import numpy as np
    >>> p, m, v = np.array([1.0]), np.array([0.0]), np.array([0.0])
    >>> nadam(p, m, v, np.array([4.0]), 0.25, 0.125, 4.0, 0.5, 0.75, 0.0)
    >>> p, m, v
    (array([0.75]), array([2.]), array([4.]))
    """
    along, ahead = p.dtype.type(mean_step), p.dtype.type(gradient_step)
    factor, eps = p.dtype.type(square_factor), p.dtype.type(epsilon)
    keep_m, add_m = p.dtype.type(beta_1), p.dtype.type(1 - beta_1)
    keep_v, add_v = p.dtype.type(beta_2), p.dtype.type(1 - beta_2)
    for i in range(p.shape[0]):
        m[i] = keep_m * m[i] + add_m * g[i]
        v[i] = keep_v * v[i] + add_v * (g[i] * g[i])
        p[i] -= (ahead * g[i] + along * m[i]) / (math.sqrt(factor * v[i]) + eps)


@reference
def penalty(p, l1, l2):
    """Return the L1 and the L2 penalty of parameters: ``l1 * sum |p| + l2 / 2 * sum p^2``.

    Parameters
    ----------
    p : ndarray of shape (P,)
        The weights; biases have no penalty.
    l1, l2 : float
        Factors of the two penalties.

    Returns
    -------
    float
        Added to the loss, in the type of `p`.

    Examples
    --------
    >>> import numpy as np
    >>> float(penalty(np.array([1.0, -2.0]), 0.5, 0.25))
    2.125
    """
    first, half = p.dtype.type(l1), p.dtype.type(0.5 * l2)
    total = p.dtype.type(0)
    for i in range(p.shape[0]):
        total += first * abs(p[i]) + half * (p[i] * p[i])
    return total


@reference
def penalty_backward(g, p, l1, l2):
    """Add the gradient of `penalty` to a gradient: ``g += l1 * sign(p) + l2 * p``.

    The L1 term moves all parameters towards zero at the same rate, the L2 term in proportion to
    their size. ``|p|`` has no derivative at zero; it is taken as 0, so a zero stays zero.

    Parameters
    ----------
    g : ndarray of shape (P,)
        Gradient of the loss with respect to `p`; accumulated.
    p : ndarray of shape (P,)
        Parameters.
    l1, l2 : float
        Factors of the two penalties.

    Examples
    --------
    >>> import numpy as np
    >>> g = np.zeros(3)
    >>> penalty_backward(g, np.array([2.0, 0.0, -4.0]), 1.0, 0.5)
    >>> g
    array([ 2.,  0., -3.])
    """
    first, second = p.dtype.type(l1), p.dtype.type(l2)
    for i in range(p.shape[0]):
        g[i] += second * p[i]
        if p[i] > 0:
            g[i] += first
        elif p[i] < 0:
            g[i] -= first


@reference
def weight_decay(p, decay):
    """Decay parameters: ``p -= decay * p``, decoupled weight decay.

    It comes before the update of a rule and does not change its optimizer state (Loshchilov and
    Hutter 2019, algorithm 2).

    Parameters
    ----------
    p : ndarray of shape (P,)
        Parameters, overwritten.
    decay : float
        Share of each parameter that is subtracted: learning rate times weight decay.

    Examples
    --------
    >>> import numpy as np
    >>> p = np.array([1.0, -2.0])
    >>> weight_decay(p, 0.25)
    >>> p
    array([ 0.75, -1.5 ])
    """
    share = p.dtype.type(decay)
    for i in range(p.shape[0]):
        p[i] -= share * p[i]


@reference
def clip_by_value(g, limit):
    """Clip each element of a gradient to [-limit, limit]: ``g = min(max(g, -limit), limit)``.

    This may change the direction of the gradient. NaN stays NaN.

    Parameters
    ----------
    g : ndarray of shape (P,)
        Gradient, overwritten.
    limit : float
        Largest magnitude of an element, greater than 0.

    Examples
    --------
    >>> import numpy as np
    >>> g = np.array([0.5, -3.0])
    >>> clip_by_value(g, 1.0)
    >>> g
    array([ 0.5, -1. ])
    """
    largest = g.dtype.type(limit)
    for i in range(g.shape[0]):
        if g[i] > largest:
            g[i] = largest
        elif g[i] < -largest:
            g[i] = -largest


@reference
def clip_by_norm(g, limit):
    """Scale a gradient down to a norm, if its own is larger: ``g *= limit / ||g||``.

    g is the gradient of all parameters together, so its direction does not change (Pascanu, Mikolov
    and Bengio 2013, algorithm 1). If the norm is NaN, nothing changes.

    Parameters
    ----------
    g : ndarray of shape (P,)
        Gradient, overwritten.
    limit : float
        Largest Euclidean norm, greater than 0.

    Examples
    --------
    >>> import numpy as np
    >>> g = np.array([3.0, -4.0])
    >>> clip_by_norm(g, 2.5)
    >>> g
    array([ 1.5, -2. ])
    """
    longest, largest, squares = g.dtype.type(limit), g.dtype.type(0), g.dtype.type(0)
    for i in range(g.shape[0]):
        largest = max(largest, abs(g[i]))
        squares += g[i] * g[i]
    norm = math.sqrt(squares)
    if norm == math.inf and largest < math.inf:  # only the squares are too large
        squares = g.dtype.type(0)
        for i in range(g.shape[0]):
            g[i] /= largest
            squares += g[i] * g[i]
        norm = math.sqrt(squares)
        for i in range(g.shape[0]):
            g[i] *= longest / norm
    elif norm > longest:
        for i in range(g.shape[0]):
            g[i] *= longest / norm


@reference
def max_norm(w, limit):
    """Scale the weights of each neuron down to a norm, if their own is larger.

    A neuron is a column of w: ``w[:, j] *= limit / ||w[:, j]||`` (Srebro, Rennie and Jaakkola 2005;
    Hinton et al. 2012, section 2).

    Parameters
    ----------
    w : ndarray of shape (I, O)
        Weights, overwritten.
    limit : float
        Largest Euclidean norm of a column, greater than 0.

    Examples
    --------
    >>> import numpy as np
    >>> w = np.array([[3.0, 1.0], [4.0, 1.0]])
    >>> max_norm(w, 2.5)
    >>> w
    array([[1.5, 1. ],
           [2. , 1. ]])
    """
    longest = w.dtype.type(limit)
    for j in range(w.shape[1]):
        squares = w.dtype.type(0)
        for i in range(w.shape[0]):
            squares += w[i, j] * w[i, j]
        norm = math.sqrt(squares)
        if norm > longest:
            for i in range(w.shape[0]):
                w[i, j] *= longest / norm
