"""Update rules: the table of them, and how a block of parameters moves, given its gradient.

All operate on equally long flat blocks: the parameters p, the gradient g, and up to two states of
the rule (velocity, running means). They overwrite p and the states.
"""

import functools
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fastnn.kernels.calls import call
from fastnn.kernels.fma import fma
from fastnn.kernels.memory import vector_at
from fastnn.kernels.tile import add_magnitudes, add_squares, cell_of, row_sum, zero_sums
from fastnn.kernels.vectormath import exp
from fastnn.runtime.jit import compile_at_address, inner, routine

FACTORS = 4
"""Numbers that a rule computes once for each update."""
MEMORY = 3
"""That of them which begins at 1, and which the rule finds again in the next update."""


@dataclass(frozen=True, eq=False)
class Rule:
    """A row of the table.

    Attributes
    ----------
    n_states : int
        State vectors, at most 2.
    hyperparameters : dict of str to str
        Names of the numbers that the rule takes besides the learning rate, in their order in h, and
        the range of each: "[0, 1]", "[0, 1)", ">= 0" or "> 0".
    update : callable
        (h, f, p, s1, s2, g): overwrites p and the states by one update. h are the hyperparameters,
        f the factors, both float64; the other arrays have the type of the net.
    factors : callable
        (h, rate, f, t): overwrites the factors f, of which f[0] is the learning rate of most rules,
        for update number t, from 1.
    """

    n_states: int
    hyperparameters: dict
    update: Any
    factors: Any


@inner
def _power(base, n):
    """Return base^n for an integer n >= 0, by squaring: that of the C library differs."""
    result = 1.0
    while n > 0:
        if n & 1:
            result *= base
        base *= base
        n >>= 1
    return result


@inner
def _rate_alone(h, rate, f, t):
    f[0] = rate


@inner
def _sgd(h, f, p, s1, s2, g):
    rate = p.dtype.type(f[0])
    for i in range(p.size):
        p[i] = fma(-rate, g[i], p[i])


@inner
def _momentum(h, f, p, s1, s2, g):
    """v = momentum v - rate g,  p += v."""
    number = p.dtype.type
    rate, momentum = number(f[0]), number(h[0])
    for i in range(p.size):
        s1[i] = fma(momentum, s1[i], -rate * g[i])
        p[i] += s1[i]


@inner
def _nesterov(h, f, p, s1, s2, g):
    """v = momentum v - rate g,  p += momentum v - rate g (Sutskever et al. 2013)."""
    number = p.dtype.type
    rate, momentum = number(f[0]), number(h[0])
    for i in range(p.size):
        step_alone = rate * g[i]
        s1[i] = fma(momentum, s1[i], -step_alone)
        p[i] += fma(momentum, s1[i], -step_alone)


@inner
def _rmsprop(h, f, p, s1, s2, g):
    """s = rho s + (1 - rho) g^2,  p -= rate g / (sqrt(s) + epsilon)."""
    number = p.dtype.type
    rate, rho, rest, epsilon = number(f[0]), number(h[0]), number(1.0 - h[0]), number(h[1])
    for i in range(p.size):
        s1[i] = fma(rho, s1[i], rest * g[i] * g[i])
        p[i] -= rate * g[i] / (math.sqrt(s1[i]) + epsilon)


@inner
def _adagrad(h, f, p, s1, s2, g):
    """s += g^2,  p -= rate g / (sqrt(s) + epsilon)."""
    number = p.dtype.type
    rate, epsilon = number(f[0]), number(h[0])
    for i in range(p.size):
        s1[i] = fma(g[i], g[i], s1[i])
        p[i] -= rate * g[i] / (math.sqrt(s1[i]) + epsilon)


@inner
def _adam_factors(h, rate, f, t):
    """Kingma & Ba 2015, section 2, the efficient form: both corrections are in the rate."""
    f[0] = rate * (math.sqrt(1.0 - _power(h[1], t)) / (1.0 - _power(h[0], t)))


@inner
def _adam(h, f, p, s1, s2, g):
    """m = b1 m + (1 - b1) g,  v = b2 v + (1 - b2) g^2,  p -= rate m / (sqrt(v) + epsilon)."""
    number = p.dtype.type
    rate, beta_1, beta_2, epsilon = number(f[0]), number(h[0]), number(h[1]), number(h[2])
    # Rounded after the subtraction: 1 - 0.999 in float32 would be off in the fifth digit.
    rest_1, rest_2 = number(1.0 - h[0]), number(1.0 - h[1])
    for i in range(p.size):
        s1[i] = fma(beta_1, s1[i], rest_1 * g[i])
        s2[i] = fma(beta_2, s2[i], rest_2 * g[i] * g[i])
        p[i] -= rate * s1[i] / (math.sqrt(s2[i]) + epsilon)


_LOG_OF_GROWTH = 0.004 * math.log(0.96)
"""NAdam's momenta grow as 0.96^(0.004 t)."""


@inner
def _nadam_factors(h, rate, f, t):
    """Return the rates of the mean and of the gradient, and the correction of v.

    Dozat 2016, section 3: a momentum that grows slowly to beta_1; mean and gradient are corrected
    each by the product of the momenta that it has seen.
    """
    now = h[0] * (1.0 - 0.5 * exp(_LOG_OF_GROWTH * t))
    later = h[0] * (1.0 - 0.5 * exp(_LOG_OF_GROWTH * (t + 1)))
    f[MEMORY] *= now
    f[1] = rate * (1.0 - now) / (1.0 - f[MEMORY])
    f[0] = rate * (later / (1.0 - f[MEMORY] * later))
    f[2] = 1.0 / (1.0 - _power(h[1], t))


@inner
def _nadam(h, f, p, s1, s2, g):
    """m and v as for Adam,  p -= (f1 g + f0 m) / (sqrt(f2 v) + epsilon)."""
    number = p.dtype.type
    mean_rate, gradient_rate, square = number(f[0]), number(f[1]), number(f[2])
    beta_1, beta_2, epsilon = number(h[0]), number(h[1]), number(h[2])
    rest_1, rest_2 = number(1.0 - h[0]), number(1.0 - h[1])
    for i in range(p.size):
        s1[i] = fma(beta_1, s1[i], rest_1 * g[i])
        s2[i] = fma(beta_2, s2[i], rest_2 * g[i] * g[i])
        step = fma(gradient_rate, g[i], mean_rate * s1[i])
        p[i] -= step / (math.sqrt(square * s2[i]) + epsilon)


@inner
def _keep_gradient(h, f, p, s1, s2, g):
    for i in range(p.size):
        s1[i] = g[i]


_BETAS = {"beta_1": "[0, 1)", "beta_2": "[0, 1)", "epsilon": "> 0"}

RULES = {
    "sgd": Rule(0, {}, _sgd, _rate_alone),
    "momentum": Rule(1, {"momentum": "[0, 1]"}, _momentum, _rate_alone),
    "nesterov": Rule(1, {"momentum": "[0, 1]"}, _nesterov, _rate_alone),
    "rmsprop": Rule(1, {"rho": "[0, 1)", "epsilon": "> 0"}, _rmsprop, _rate_alone),
    "adam": Rule(2, _BETAS, _adam, _adam_factors),
    "adagrad": Rule(1, {"epsilon": "> 0"}, _adagrad, _rate_alone),
    "nadam": Rule(2, _BETAS, _nadam, _nadam_factors),
}
"""Update rules by name. Checkpoints know them by their position."""

GRADIENT_ALONE = Rule(1, {}, _keep_gradient, _rate_alone)
"""Not an update: it leaves the parameters alone and the gradient in the first state."""


@functools.cache
def _update_kernel(update, dtype):
    number = dtype.type

    def update_block(h, f, n, p, s1, s2, g):
        h, f = vector_at(h, np.float64), vector_at(f, np.float64)
        p, g = vector_at(p, number)[:n], vector_at(g, number)[:n]
        update(h, f, p, vector_at(s1, number)[:n], vector_at(s2, number)[:n], g)

    return compile_at_address(update_block, 7)


def update_kernel(rule, dtype):
    """Compile a rule; return the address of its kernel.

    It takes (h, f, n, p, s1, s2, g), all but the length n addresses, and does `rule.update`.
    """
    return _update_kernel(rule.update, dtype)


@functools.cache
def _factors_kernel(factors):
    def update_factors(h, f, t):
        f = vector_at(f, np.float64)
        factors(vector_at(h, np.float64), f[0], f, t)

    return compile_at_address(update_factors, 3)


def factors_kernel(rule):
    """Compile the factors of a rule; return the address of (h, f, t), where f[0] is the rate."""
    return _factors_kernel(rule.factors)


class Updater(NamedTuple):
    """What the updates of a step have in common."""

    kernel: int  # address of an update kernel
    h: int  # addresses of the hyperparameters and of the factors
    f: int
    rate: float
    factor: float  # of the gradient, where its norm is too large


@inner
def update_block(updater, p, s1, s2, g):
    """Overwrite a block of parameters and its states by one update with the gradient g."""
    if updater.factor != 1.0:
        scale_block(updater.factor, g)
    call(
        updater.kernel,
        (
            updater.h, updater.f, p.size, p.ctypes.data, s1.ctypes.data, s2.ctypes.data,
            g.ctypes.data,
        ),
    )  # fmt: skip


# Sums over a block of parameters or of their gradient are taken of each cell of its columns, in
# the order of its rows: the blocks of all widths of vectors consist of the same cells. The rows of
# a block have `width` numbers and lie one after the other; `columns` of them are no padding.


@inner
def _sum_of_squares(block, width, c):
    """Return the sum of the squares in the cell of columns from c on, in float64."""
    total = zero_sums(block)
    for start in range(c, block.size, width):
        total = add_squares(total, block, start)
    return row_sum(total)


@inner
def _sum_of_magnitudes(block, width, c):
    """Return the sum of the magnitudes in the cell of columns from c on, in float64."""
    total = zero_sums(block)
    for start in range(c, block.size, width):
        total = add_magnitudes(total, block, start)
    return row_sum(total)


@routine
def write_squares(block, width, columns, sums):
    """Overwrite `sums` with the sum of squares of each cell of columns."""
    cell = cell_of(block)
    for c in range(0, columns, cell):
        sums[c // cell] = _sum_of_squares(block, width, c)


@routine
def penalise(l1, l2, p, g, width, columns, share, sums):
    """Add to g the derivative of the penalty ``l1 sum |p| + l2 / 2 sum p^2``.

    And add to `sums` for each cell of columns `share` times its penalty. The derivative of |p| at
    zero is taken as zero.
    """
    number, cell = p.dtype.type, cell_of(p)
    zero = number(0)
    for c in range(0, columns, cell):
        penalty = 0.5 * l2 * _sum_of_squares(p, width, c)
        if l1 != 0.0:
            penalty += l1 * _sum_of_magnitudes(p, width, c)
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
def clip_block(clip_value, g):
    """Overwrite g with its elements brought into [-clip_value, clip_value]; NaN stays."""
    limit = g.dtype.type(clip_value)
    for i in range(g.size):
        value = limit if g[i] > limit else g[i]
        g[i] = -limit if value < -limit else value


@routine
def scale_block(factor, g):
    """Multiply g by a factor."""
    share = g.dtype.type(factor)
    for i in range(g.size):
        g[i] *= share
