"""Update rules: how a block of parameters moves, given its gradient.

All operate on equally long flat blocks: the parameters p, the gradient g, and the states s1 and s2
of the rule (velocity, running means). They overwrite p and the states. `decay` adds decay * p to
the gradient: the derivative of the L2 penalty decay / 2 * sum p^2.
"""

import math

import numpy as np

from fastnn._jit import pasted, reduction, routine
from fastnn.kernels.codes import (
    ADAM,
    ADAMW,
    BETA_1,
    BETA_2,
    EPSILON,
    GRADIENT,
    LEARNING_RATE,
    MOMENTUM,
    NESTEROV,
    RMSPROP,
    SGD,
    WEIGHT_DECAY,
)


@pasted
def step_size(rule, hyperparameters, t):
    """Learning rate of update number t (from 1): Adam's includes both bias corrections."""
    rate = hyperparameters[LEARNING_RATE]
    if rule in (ADAM, ADAMW):
        # Kingma & Ba 2015, section 2, the efficient form.
        corrected = 1.0 - hyperparameters[BETA_2] ** t
        rate *= corrected**0.5 / (1.0 - hyperparameters[BETA_1] ** t)
    return rate


@pasted
def _adam(p, m, v, g, rate, l2, shrink, beta_1, beta_2, rest_1, rest_2, epsilon):
    for i in range(p.size):
        gradient = g[i] + l2 * p[i]
        m[i] = beta_1 * m[i] + rest_1 * gradient
        v[i] = beta_2 * v[i] + rest_2 * gradient * gradient
        p[i] = (p[i] - shrink * p[i]) - rate * m[i] / (math.sqrt(v[i]) + epsilon)


@routine
def update_block(rule, hyperparameters, step, decay, p, s1, s2, g):
    """Overwrite p, s1 and s2 by one update with the gradient g.

    The rule GRADIENT only writes the gradient, with the decay, to s1.
    """
    number = p.dtype.type
    rate, l2 = number(step), number(decay)
    beta_1, beta_2 = number(hyperparameters[BETA_1]), number(hyperparameters[BETA_2])
    # Rounded after the subtraction: 1 - 0.999 in float32 would be off in the fifth digit.
    rest_1, rest_2 = number(1.0 - hyperparameters[BETA_1]), number(1.0 - hyperparameters[BETA_2])
    epsilon = number(hyperparameters[EPSILON])
    if rule in (ADAM, ADAMW):
        if rule == ADAMW:
            # Decoupled decay (Loshchilov & Hutter 2019): not a part of the gradient.
            shrink = number(hyperparameters[LEARNING_RATE] * hyperparameters[WEIGHT_DECAY])
        else:
            shrink = number(0)
        _adam(p, s1, s2, g, rate, l2, shrink, beta_1, beta_2, rest_1, rest_2, epsilon)
    elif rule == SGD:
        for i in range(p.size):
            p[i] -= rate * (g[i] + l2 * p[i])
    elif rule == MOMENTUM:
        for i in range(p.size):
            s1[i] = beta_1 * s1[i] - rate * (g[i] + l2 * p[i])
            p[i] += s1[i]
    elif rule == NESTEROV:
        for i in range(p.size):
            step_alone = rate * (g[i] + l2 * p[i])
            s1[i] = beta_1 * s1[i] - step_alone
            p[i] += beta_1 * s1[i] - step_alone
    elif rule == GRADIENT:
        for i in range(p.size):
            s1[i] = g[i] + l2 * p[i]
    elif rule == RMSPROP:
        for i in range(p.size):
            gradient = g[i] + l2 * p[i]
            s1[i] = beta_1 * s1[i] + rest_1 * gradient * gradient
            p[i] -= rate * gradient / (math.sqrt(s1[i]) + epsilon)


@reduction
def sum_of_squares(p):
    """Sum of p[i]^2, in float64."""
    total = 0.0
    for i in range(p.size):
        value = np.float64(p[i])
        total += value * value
    return total
