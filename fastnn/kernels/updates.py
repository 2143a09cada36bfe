"""Update rules: how a block of parameters moves, given its gradient.

All operate on equally long flat blocks: the parameters p, the gradient g, and the states s1 and s2
of the rule (velocity, running means). They overwrite p and the states.
"""

import functools
import math

import numpy as np

from fastnn.kernels.codes import (
    ADAGRAD,
    ADAM,
    BETA_1,
    BETA_2,
    CLIP_VALUE,
    EPSILON,
    GRADIENT,
    MOMENTUM,
    NADAM,
    NESTEROV,
    RMSPROP,
    SGD,
)
from fastnn.kernels.memory import vector_at
from fastnn.runtime.jit import pasted, reduction, routine, rule_kernel


@pasted
def step_sizes(rule, hyperparameters, rate, product, t):
    """Factors of update number t (from 1), with all corrections of running means that begin at 0.

    `rate` is the learning rate. Returns (of the step, of the gradient alone, of the running mean of
    squares), the last two for NAdam, and the product of NAdam's momenta, which goes on from
    `product`.
    """
    beta_1, beta_2 = hyperparameters[BETA_1], hyperparameters[BETA_2]
    gradient_rate, square = 0.0, 1.0
    if rule == ADAM:
        # Kingma & Ba 2015, section 2, the efficient form.
        rate *= (1.0 - beta_2**t) ** 0.5 / (1.0 - beta_1**t)
    elif rule == NADAM:
        # Dozat 2016, section 3: a momentum that grows slowly to beta_1; mean and gradient are
        # corrected each by the momenta that it has seen.
        now = beta_1 * (1.0 - 0.5 * 0.96 ** (0.004 * t))
        later = beta_1 * (1.0 - 0.5 * 0.96 ** (0.004 * (t + 1)))
        product *= now
        gradient_rate = rate * (1.0 - now) / (1.0 - product)
        rate *= later / (1.0 - product * later)
        square = 1.0 / (1.0 - beta_2**t)
    return rate, gradient_rate, square, product


@pasted
def _adam(p, m, v, g, rate, beta_1, beta_2, rest_1, rest_2, epsilon):
    for i in range(p.size):
        m[i] = beta_1 * m[i] + rest_1 * g[i]
        v[i] = beta_2 * v[i] + rest_2 * g[i] * g[i]
        p[i] -= rate * m[i] / (math.sqrt(v[i]) + epsilon)


@pasted
def _nadam(p, m, v, g, rate, gradient_rate, square, beta_1, beta_2, rest_1, rest_2, epsilon):
    for i in range(p.size):
        m[i] = beta_1 * m[i] + rest_1 * g[i]
        v[i] = beta_2 * v[i] + rest_2 * g[i] * g[i]
        p[i] -= (gradient_rate * g[i] + rate * m[i]) / (math.sqrt(square * v[i]) + epsilon)


@pasted
def update_block(rule, hyperparameters, step, gradient_step, square, p, s1, s2, g):
    """Overwrite p, s1 and s2 by one update with the gradient g; `step_sizes` gives the factors.

    The rule GRADIENT only writes the gradient to s1.
    """
    number = p.dtype.type
    rate = number(step)
    beta_1, beta_2 = number(hyperparameters[BETA_1]), number(hyperparameters[BETA_2])
    # Rounded after the subtraction: 1 - 0.999 in float32 would be off in the fifth digit.
    rest_1, rest_2 = number(1.0 - hyperparameters[BETA_1]), number(1.0 - hyperparameters[BETA_2])
    epsilon = number(hyperparameters[EPSILON])
    if rule == ADAM:
        _adam(p, s1, s2, g, rate, beta_1, beta_2, rest_1, rest_2, epsilon)
    elif rule == SGD:
        for i in range(p.size):
            p[i] -= rate * g[i]
    elif rule == MOMENTUM:
        for i in range(p.size):
            s1[i] = beta_1 * s1[i] - rate * g[i]
            p[i] += s1[i]
    elif rule == NESTEROV:
        for i in range(p.size):
            step_alone = rate * g[i]
            s1[i] = beta_1 * s1[i] - step_alone
            p[i] += beta_1 * s1[i] - step_alone
    elif rule == GRADIENT:
        for i in range(p.size):
            s1[i] = g[i]
    elif rule == RMSPROP:
        for i in range(p.size):
            s1[i] = beta_1 * s1[i] + rest_1 * g[i] * g[i]
            p[i] -= rate * g[i] / (math.sqrt(s1[i]) + epsilon)
    elif rule == ADAGRAD:
        for i in range(p.size):
            s1[i] += g[i] * g[i]
            p[i] -= rate * g[i] / (math.sqrt(s1[i]) + epsilon)
    elif rule == NADAM:
        _nadam(
            p, s1, s2, g, rate, number(gradient_step), number(square), beta_1, beta_2, rest_1,
            rest_2, epsilon,
        )  # fmt: skip


@pasted
def write_step_sizes(rule, hyperparameters, rate, product, t, sizes):
    """Write the factors of update t to `sizes`; return the new product."""
    sizes[0], sizes[1], sizes[2], product = step_sizes(rule, hyperparameters, rate, product, t)
    return product


@functools.cache
def rule_member(rule, dtype):
    """Compile an update rule; return the address of its kernel.

    It takes (hyperparameters, sizes, n, p, s1, s2, g), all but n addresses, and does what
    `update_block` does.
    """
    number = dtype.type

    def update(hyperparameters, sizes, n, p, s1, s2, g):
        own, factors = vector_at(hyperparameters, np.float64), vector_at(sizes, np.float64)
        update_block(
            rule, own, factors[0], factors[1], factors[2], vector_at(p, number)[:n],
            vector_at(s1, number)[:n], vector_at(s2, number)[:n], vector_at(g, number)[:n],
        )  # fmt: skip

    return rule_kernel(update)


@reduction
def penalise(l1, l2, p, g):
    """Add to g the derivative of the penalty ``l1 sum |p| + l2 / 2 sum p^2``; return the penalty.

    The derivative of |p| at zero is taken as zero.
    """
    number = p.dtype.type
    zero = number(0)
    strength = number(l2)
    squares = magnitudes = 0.0
    for i in range(p.size):
        value = np.float64(p[i])
        squares += value * value
        g[i] += strength * p[i]
    if l1 != 0.0:
        strength = number(l1)
        for i in range(p.size):
            magnitudes += abs(np.float64(p[i]))
            if p[i] > zero:
                g[i] += strength
            elif p[i] < zero:
                g[i] -= strength
    return l1 * magnitudes + 0.5 * l2 * squares


@routine
def decay_block(factor, p):
    """Overwrite p with p - factor * p: decoupled weight decay (Loshchilov & Hutter 2019)."""
    share = p.dtype.type(factor)
    for i in range(p.size):
        p[i] -= share * p[i]


@routine
def clip_block(hyperparameters, g):
    """Overwrite g with its elements brought into [-limit, limit]; NaN stays."""
    limit = g.dtype.type(hyperparameters[CLIP_VALUE])
    for i in range(g.size):
        value = limit if g[i] > limit else g[i]
        g[i] = -limit if value < -limit else value


@routine
def scale_block(factor, g):
    """Multiply g by a factor."""
    share = g.dtype.type(factor)
    for i in range(g.size):
        g[i] *= share


@reduction
def sum_of_squares(g):
    """Sum of g[i]^2, in float64."""
    total = 0.0
    for i in range(g.size):
        value = np.float64(g[i])
        total += value * value
    return total
