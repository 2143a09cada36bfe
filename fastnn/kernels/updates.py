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
from fastnn.kernels.fma import fma
from fastnn.kernels.memory import vector_at
from fastnn.kernels.tile import add_magnitudes, add_squares, cell_of, row_sum, zero_sums
from fastnn.kernels.vectormath import exp
from fastnn.runtime.jit import inner, pasted, routine, rule_kernel

_LOG_OF_GROWTH = 0.004 * math.log(0.96)
"""NAdam's momenta grow as 0.96^(0.004 t)."""


@inner
def _power(base, n):
    """Return base^n for an integer n >= 0 by squaring: the C library's power differs by platform."""
    result = 1.0
    while n > 0:
        if n & 1:
            result *= base
        base *= base
        n >>= 1
    return result


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
        rate *= math.sqrt(1.0 - _power(beta_2, t)) / (1.0 - _power(beta_1, t))
    elif rule == NADAM:
        # Dozat 2016, section 3: a momentum that grows slowly to beta_1; mean and gradient are
        # corrected each by the momenta that it has seen.
        now = beta_1 * (1.0 - 0.5 * exp(_LOG_OF_GROWTH * t))
        later = beta_1 * (1.0 - 0.5 * exp(_LOG_OF_GROWTH * (t + 1)))
        product *= now
        gradient_rate = rate * (1.0 - now) / (1.0 - product)
        rate *= later / (1.0 - product * later)
        square = 1.0 / (1.0 - _power(beta_2, t))
    return rate, gradient_rate, square, product


@pasted
def _adam(p, m, v, g, rate, beta_1, beta_2, rest_1, rest_2, epsilon):
    for i in range(p.size):
        m[i] = fma(beta_1, m[i], rest_1 * g[i])
        v[i] = fma(beta_2, v[i], rest_2 * g[i] * g[i])
        p[i] -= rate * m[i] / (math.sqrt(v[i]) + epsilon)


@pasted
def _nadam(p, m, v, g, rate, gradient_rate, square, beta_1, beta_2, rest_1, rest_2, epsilon):
    for i in range(p.size):
        m[i] = fma(beta_1, m[i], rest_1 * g[i])
        v[i] = fma(beta_2, v[i], rest_2 * g[i] * g[i])
        p[i] -= fma(gradient_rate, g[i], rate * m[i]) / (math.sqrt(square * v[i]) + epsilon)


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
            p[i] = fma(-rate, g[i], p[i])
    elif rule == MOMENTUM:
        for i in range(p.size):
            s1[i] = fma(beta_1, s1[i], -rate * g[i])
            p[i] += s1[i]
    elif rule == NESTEROV:
        for i in range(p.size):
            step_alone = rate * g[i]
            s1[i] = fma(beta_1, s1[i], -step_alone)
            p[i] += fma(beta_1, s1[i], -step_alone)
    elif rule == GRADIENT:
        for i in range(p.size):
            s1[i] = g[i]
    elif rule == RMSPROP:
        for i in range(p.size):
            s1[i] = fma(beta_1, s1[i], rest_1 * g[i] * g[i])
            p[i] -= rate * g[i] / (math.sqrt(s1[i]) + epsilon)
    elif rule == ADAGRAD:
        for i in range(p.size):
            s1[i] = fma(g[i], g[i], s1[i])
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


# Sums over a block of parameters or of their gradient are taken of each cell of its columns, in
# the order of its rows: the blocks of all widths of vectors consist of the same cells. The block has
# n_rows rows of `width` numbers that lie one after the other; `columns` of them are no padding.


@inner
def _sum_of_squares(n_rows, width, c, block):
    """Return the sum of the squares in the cell of columns from c on, in float64."""
    total = zero_sums(block)
    for r in range(n_rows):
        total = add_squares(total, block, r * width + c)
    return row_sum(total)


@inner
def _sum_of_magnitudes(n_rows, width, c, block):
    """Return the sum of the magnitudes in the cell of columns from c on, in float64."""
    total = zero_sums(block)
    for r in range(n_rows):
        total = add_magnitudes(total, block, r * width + c)
    return row_sum(total)


@routine
def write_squares(n_rows, width, columns, block, sums):
    """Overwrite `sums` with the sum of squares of each cell of columns."""
    cell = cell_of(block)
    for c in range(0, columns, cell):
        sums[c // cell] = _sum_of_squares(n_rows, width, c, block)


@routine
def penalise(l1, l2, n_rows, width, columns, p, g, share, sums):
    """Add to g the derivative of the penalty ``l1 sum |p| + l2 / 2 sum p^2``.

    And add to `sums` for each cell of columns `share` times its penalty. The derivative of |p| at
    zero is taken as zero.
    """
    number, cell = p.dtype.type, cell_of(p)
    zero = number(0)
    for c in range(0, columns, cell):
        penalty = 0.5 * l2 * _sum_of_squares(n_rows, width, c, p)
        if l1 != 0.0:
            penalty += l1 * _sum_of_magnitudes(n_rows, width, c, p)
        sums[c // cell] += share * penalty
    strength = number(l2)
    for i in range(p.size):
        g[i] = fma(strength, p[i], g[i])
    if l1 != 0.0:
        strength = number(l1)
        for i in range(p.size):
            if p[i] > zero:
                g[i] += strength
            elif p[i] < zero:
                g[i] -= strength


@routine
def decay_block(factor, p):
    """Overwrite p with p - factor * p: decoupled weight decay (Loshchilov & Hutter 2019)."""
    share = p.dtype.type(factor)
    for i in range(p.size):
        p[i] = fma(-share, p[i], p[i])


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
