"""Update rules, penalties, decay and clipping against the plain loops."""

import math

import numpy as np
import pytest

from fastnn.kernels import reference, updates
from fastnn.kernels.memory import address_of
from fastnn.kernels.updates import FACTORS, GRADIENT_ALONE, MEMORY, RULES, Updater
from fastnn.runtime.jit import kernel
from tests.kernels.dtypes import each_dtype
from tests.kernels.fused import skip_without_fused_multiply_add
from tests.kernels.operations import Unchanged, call
from tests.panel_layout import cell, whole

RATE, BETA_1, BETA_2, EPSILON = 0.01, 0.9, 0.999, 1e-8
HYPERPARAMETERS = {
    "momentum": BETA_1,
    "rho": BETA_1,
    "beta_1": BETA_1,
    "beta_2": BETA_2,
    "epsilon": EPSILON,
}
SIZES = [1, 7, 8, 9, 16, 31, 97]

with_rules = pytest.mark.parametrize("rule", RULES)
with_dtypes = each_dtype("updates")


@kernel
def power(base, n):
    return updates._power(base, n)


@kernel
def update_block(updater, p, s1, s2, g):
    updates.update_block(updater, p, s1, s2, g)


@kernel
def write_squares(block, width, columns, sums):
    updates.write_squares(block, width, columns, sums)


@kernel
def penalise(l1, l2, p, g, width, columns, share, sums):
    updates.penalise(l1, l2, p, g, width, columns, share, sums)


@kernel
def decay_block(factor, p):
    updates.decay_block(factor, p)


@kernel
def clip_block(clip_value, g):
    updates.clip_block(clip_value, g)


@kernel
def scale_block(factor, g):
    updates.scale_block(factor, g)


def hyperparameters_of(rule):
    """Return the numbers of a rule in its order, and NaN behind them."""
    return np.array([*(HYPERPARAMETERS[name] for name in rule.hyperparameters), np.nan])


def first_factors():
    """Return the factors before the first update: only the one that is remembered has a value."""
    factors = np.full(FACTORS, np.nan)
    factors[MEMORY] = 1.0
    return factors


def write_factors(rule, factors, t):
    factors[0] = RATE
    h = hyperparameters_of(rule)
    with Unchanged(h):
        call(updates.factors_kernel(rule), h, factors, t)


def update(rule, factors, t, p, s1, s2, g):
    """Overwrite p and the states by update number t; the factors remember what belongs to it."""
    rule = RULES.get(rule, rule)
    write_factors(rule, factors, t)
    h = hyperparameters_of(rule)
    with Unchanged(h, factors, g):
        call(updates.update_kernel(rule, p.dtype), h, factors, p.size, p, s1, s2, g)


def penalty_of(l1, l2, p, g, share=1.0):
    """Call `penalise` for a vector of any length; return the penalty, summed over cells."""
    size = whole(max(p.size, 1), cell(p.dtype))
    block, gradient = np.zeros((2, size), p.dtype)
    block[: p.size], gradient[: p.size] = p, g
    sums = np.zeros(size // cell(p.dtype))
    with Unchanged(block, gradient[p.size :]):
        penalise(l1, l2, block, gradient, size, p.size, share, sums)
    g[:] = gradient[: p.size]
    return sums.sum()


def sum_of_squares(g):
    """Call `write_squares` for a vector of any length; return the sum over cells."""
    size = whole(max(g.size, 1), cell(g.dtype))
    block, sums = np.zeros(size, g.dtype), np.full(size // cell(g.dtype), np.nan)
    block[: g.size] = g
    write_squares(block, size, g.size, sums)
    return sums.sum()


def expected_update(rule, product, t, p, s1, s2, g):
    """Overwrite p and the states by the plain loops; return the product of NAdam's momenta."""
    *sizes, next_product = reference.nadam_step_sizes(RATE, BETA_1, BETA_2, product, t)
    step = reference.adam_step_size(RATE, BETA_1, BETA_2, t)
    if rule == "sgd":
        reference.sgd(p, g, RATE)
    elif rule in ("momentum", "nesterov"):
        getattr(reference, rule)(p, s1, g, RATE, BETA_1)
    elif rule == "rmsprop":
        reference.rmsprop(p, s1, g, RATE, BETA_1, EPSILON)
    elif rule == "adagrad":
        reference.adagrad(p, s1, g, RATE, EPSILON)
    elif rule == "nadam":
        reference.nadam(p, s1, s2, g, *sizes, BETA_1, BETA_2, EPSILON)
        return next_product
    else:
        reference.adam(p, s1, s2, g, step, BETA_1, BETA_2, EPSILON)
    return product


def states_of(rule, size, dtype):
    """Return as much memory as a trainer gives to a rule: where it has none, nothing."""
    return [np.zeros(size if k < RULES[rule].n_states else 0, dtype) for k in range(2)]


@with_rules
@with_dtypes
def test_updates_are_those_of_the_plain_loops(rule, dtype, rng):
    eps = np.finfo(dtype).eps
    for size in SIZES:
        p = rng.normal(size=size).astype(dtype)
        states = [np.zeros_like(p), np.zeros_like(p)]
        right, right_states = p.copy(), [np.zeros_like(p), np.zeros_like(p)]
        factors, right_product = first_factors(), 1.0
        for t in range(1, 6):
            g = rng.normal(size=size).astype(dtype)
            update(rule, factors, t, p, *states, g)
            right_product = expected_update(rule, right_product, t, right, *right_states, g)
            assert factors[MEMORY] == pytest.approx(right_product, rel=1e-14)
        np.testing.assert_allclose(p, right, rtol=0, atol=64 * eps)
        for state, right_state in zip(states, right_states, strict=True):
            scale = np.abs(right_state).max()
            np.testing.assert_allclose(state, right_state, rtol=0, atol=64 * eps * scale)


@with_rules
@with_dtypes
def test_running_means_keep_the_digits_of_the_type(rule, dtype):
    # 1 - 0.999, with 0.999 rounded to float32 first, would be wrong in the fifth digit.
    p, g = np.zeros(9, dtype), np.ones(9, dtype)
    states = [np.zeros_like(p), np.zeros_like(p)]
    update(rule, first_factors(), 1, p, *states, g)
    right = {
        "momentum": [-RATE, 0],
        "nesterov": [-RATE, 0],
        "rmsprop": [1 - BETA_1, 0],
        "adam": [1 - BETA_1, 1 - BETA_2],
        "adagrad": [1, 0],
        "nadam": [1 - BETA_1, 1 - BETA_2],
    }.get(rule, [0, 0])
    for state, value in zip(states, right, strict=True):
        np.testing.assert_allclose(state, value, rtol=4 * np.finfo(dtype).eps)


@with_rules
@with_dtypes
def test_padding_stays_zero(rule, dtype):
    p, g = np.zeros(9, dtype), np.zeros(9, dtype)
    states = states_of(rule, 9, dtype)
    factors = first_factors()
    for t in range(1, 4):
        assert penalty_of(0.25, 0.5, p, g) == 0
        clip_block(0.5, g)
        scale_block(0.5, g)
        decay_block(0.5, p)
        update(rule, factors, t, p, *states, g)
    for array in (p, g, *states):
        np.testing.assert_array_equal(array, 0)


@with_rules
@with_dtypes
def test_nan_and_infinite_gradients_reach_their_parameter_and_no_other(rule, dtype):
    p, g = np.ones(19, dtype), np.ones(19, dtype)
    g[5], g[17] = np.nan, np.inf
    update(rule, first_factors(), 1, p, *states_of(rule, 19, dtype), g)
    assert np.isnan(p[5])
    assert not np.isfinite(p[17])
    rest = np.delete(p, [5, 17])
    assert np.isfinite(rest).all()
    assert (rest == rest[0]).all()


@with_rules
@with_dtypes
def test_the_gradient_is_left_alone(rule, dtype, rng):
    p, g = rng.normal(size=(2, 17)).astype(dtype)
    before = g.copy()
    update(rule, first_factors(), 1, p, *states_of(rule, 17, dtype), g)
    np.testing.assert_array_equal(g, before)


@with_dtypes
def test_rules_do_not_touch_states_they_do_not_have(dtype, rng):
    for name, rule in RULES.items():
        p, g = rng.normal(size=(2, 17)).astype(dtype)
        states = [np.full(17, np.nan, dtype) for _ in range(2)]
        n_states = rule.n_states
        for state in states[:n_states]:
            state[:] = 0
        update(name, first_factors(), 1, p, *states, g)
        assert np.isfinite(p).all()
        assert all(np.isfinite(state).all() and state.any() for state in states[:n_states])
        assert all(np.isnan(state).all() for state in states[n_states:])


@with_dtypes
def test_without_a_rule_the_first_state_is_the_gradient(dtype, rng):
    p, g = rng.integers(-9, 10, (2, 17)).astype(dtype)
    before, s1 = p.copy(), np.full_like(p, np.nan)
    update(GRADIENT_ALONE, first_factors(), 1, p, s1, np.empty(0, dtype), g)
    np.testing.assert_array_equal(s1, g)
    np.testing.assert_array_equal(p, before)


def power_by_squaring(base, n):
    result = 1.0
    while n:
        result *= base if n % 2 else 1.0
        base, n = base * base, n // 2
    return result


def test_powers_are_products_in_one_order():
    assert [power(2.0, n) for n in (0, 1, 2, 3, 10, 1000)] == [
        2.0**n for n in (0, 1, 2, 3, 10, 1000)
    ]
    assert power(3.0, 33) == 3**33
    assert (power(0.0, 0), power(0.0, 5)) == (1, 0)
    for base in (0.9, 0.999, 1 - 2.0**-53, 0.5):
        for n in (0, 1, 2, 3, 7, 100, 12_345, 10**6):
            assert power(base, n) == power_by_squaring(base, n)
            assert power(base, n) == pytest.approx(base**n, rel=(n + 1) * 2.0**-52)


def test_only_the_factors_of_adam_and_nadam_depend_on_the_number_of_updates():
    for name, rule in RULES.items():
        for t in (1, 2, 10, 100_000):
            factors = first_factors()
            factors[MEMORY] = 0.125
            write_factors(rule, factors, t)
            if name == "nadam":
                right = reference.nadam_step_sizes(RATE, BETA_1, BETA_2, 0.125, t)
                assert factors.tolist() == pytest.approx(right, rel=1e-12)
                continue
            step = reference.adam_step_size(RATE, BETA_1, BETA_2, t) if name == "adam" else RATE
            assert factors[0] == pytest.approx(step, rel=1e-12)
            np.testing.assert_array_equal(factors[1:], [np.nan, np.nan, 0.125])


def test_the_factor_of_adam_has_the_bits_of_pythons_arithmetic():
    for t in (1, 2, 3, 10, 1000, 123_456):
        factors = first_factors()
        write_factors(RULES["adam"], factors, t)
        root = math.sqrt(1.0 - power_by_squaring(BETA_2, t))
        assert factors[0] == RATE * (root / (1.0 - power_by_squaring(BETA_1, t)))


def test_the_factors_of_nadam_are_its_formula_over_many_updates():
    def momentum(t):
        return BETA_1 * (1.0 - 0.5 * 0.96 ** (0.004 * t))

    factors, product = first_factors(), 1.0
    for t in range(1, 300):
        write_factors(RULES["nadam"], factors, t)
        product *= momentum(t)
        mean = RATE * momentum(t + 1) / (1 - product * momentum(t + 1))
        gradient = RATE * (1 - momentum(t)) / (1 - product)
        right = [mean, gradient, 1 / (1 - BETA_2**t), product]
        assert factors.tolist() == pytest.approx(right, rel=1e-12)


def test_rules_say_how_many_states_they_have_and_in_which_order_their_numbers_come():
    assert {name: rule.n_states for name, rule in RULES.items()} == {
        "sgd": 0, "momentum": 1, "nesterov": 1, "rmsprop": 1, "adam": 2, "adagrad": 1, "nadam": 2,
    }  # fmt: skip
    assert list(RULES["adam"].hyperparameters) == ["beta_1", "beta_2", "epsilon"]
    for rule in RULES.values():
        assert set(rule.hyperparameters) <= set(HYPERPARAMETERS)


@with_rules
@with_dtypes
def test_a_gradient_that_is_too_long_is_shortened_before_the_update(rule, dtype, rng):
    p, g = rng.normal(size=(2, 17)).astype(dtype)
    right, short = p.copy(), g.copy()
    scale_block(0.25, short)
    for factor, given in [(1.0, short.copy()), (0.25, g.copy())]:
        actual, states, factors = p.copy(), states_of(rule, 17, dtype), first_factors()
        write_factors(RULES[rule], factors, 1)
        h = hyperparameters_of(RULES[rule])
        address = updates.update_kernel(RULES[rule], dtype)
        updater = Updater(address, address_of(h), address_of(factors), RATE, factor)
        update_block(updater, actual, *states, given)
        np.testing.assert_array_equal(given, short)
        right, right_states = p.copy(), states_of(rule, 17, dtype)
        update(rule, first_factors(), 1, right, *right_states, short)
        np.testing.assert_array_equal(actual, right)
        for state, right_state in zip(states, right_states, strict=True):
            np.testing.assert_array_equal(state, right_state)


@with_dtypes
@pytest.mark.parametrize(("l1", "l2"), [(0.0, 0.0), (0.3, 0.0), (0.0, 0.7), (0.3, 0.7)])
def test_penalties_are_those_of_the_plain_loops(dtype, l1, l2, rng):
    eps = float(np.finfo(dtype).eps)
    for size in SIZES:
        p, g = rng.normal(size=(2, size)).astype(dtype)
        p[size // 2] = 0
        before, right = p.copy(), g.copy()
        reference.penalty_backward(right, p, l1, l2)
        value = penalty_of(l1, l2, p, g)
        np.testing.assert_allclose(g, right, rtol=0, atol=4 * eps)
        # The kernel sums in float64 whatever the type of the parameters.
        right = reference.penalty(p.astype(np.float64), l1, l2)
        assert value == pytest.approx(right, rel=1e-13)
        np.testing.assert_array_equal(p, before)


@with_dtypes
def test_the_derivative_of_the_penalty_at_zero_is_zero(dtype):
    g = np.ones(17, dtype)
    penalty_of(0.5, 0.5, np.zeros(17, dtype), g)
    penalty_of(0.5, 0.5, np.full(17, -0.0, dtype), g)
    np.testing.assert_array_equal(g, 1)


@with_dtypes
def test_a_penalty_on_nan_is_nan_and_leaves_other_gradients_alone(dtype):
    p, g = np.ones(17, dtype), np.zeros(17, dtype)
    p[5] = np.nan
    assert np.isnan(penalty_of(0.25, 0.5, p, g))
    assert np.isnan(g[5])
    np.testing.assert_array_equal(np.delete(g, 5), 0.75)


@with_dtypes
def test_decay_is_that_of_the_plain_loop(dtype, rng):
    for size in SIZES:
        p = rng.normal(size=size).astype(dtype)
        right = p.copy()
        reference.weight_decay(right, 0.3)
        decay_block(0.3, p)
        np.testing.assert_allclose(p, right, rtol=2 * np.finfo(dtype).eps)


@with_dtypes
def test_clipping_by_value_is_that_of_the_plain_loop(dtype, rng):
    for size in SIZES:
        g = rng.normal(size=size).astype(dtype)
        right = g.copy()
        reference.clip_by_value(right, 0.5)
        clip_block(0.5, g)
        np.testing.assert_array_equal(g, right)


@with_dtypes
def test_clipping_by_value_bounds_infinity_and_shows_nan(dtype):
    g = np.array([np.inf, -np.inf, np.nan, 2, -2, 1, 0] * 5, dtype)
    clip_block(1.5, g)
    np.testing.assert_array_equal(g, np.array([1.5, -1.5, np.nan, 1.5, -1.5, 1, 0] * 5, dtype))


@with_dtypes
def test_the_norm_is_clipped_as_by_the_plain_loop(dtype, rng):
    for size in SIZES:
        g = rng.normal(size=size).astype(dtype)
        right, norm = g.copy(), sum_of_squares(g) ** 0.5
        reference.clip_by_norm(right, norm / 4)
        scale_block(0.25, g)
        np.testing.assert_allclose(g, right, rtol=64 * np.finfo(dtype).eps)


def test_squares_of_float32_are_summed_in_float64():
    p = np.full(2**16 + 1, 4097, np.float32)
    assert sum_of_squares(p) == (2**16 + 1) * 4097.0**2
    assert np.isnan(sum_of_squares(np.array([1, np.nan], np.float32)))
    assert sum_of_squares(np.array([1e30], np.float32)) > 9e59


# --- sums by cell ---------------------------------------------------------------------------------


def in_rows(matrix, width):
    """Lay a matrix out in rows of `width`, with zeros behind its columns."""
    block = np.zeros((len(matrix), width), matrix.dtype)
    block[:, : matrix.shape[1]] = matrix
    return block.ravel()


def by_halves(totals):
    while totals.size > 1:
        totals = totals[: totals.size // 2] + totals[totals.size // 2 :]
    return totals[0]


def expected_sums(matrix, power):
    """Return the sum of each cell: of its columns down the rows, then of these by halves."""
    n = cell(matrix.dtype)
    width = whole(matrix.shape[1], n)
    wide = in_rows(matrix, width).reshape(len(matrix), width).astype("float64")
    sums = []
    for c in range(0, wide.shape[1], n):
        totals = np.zeros(n)
        for row in wide[:, c : c + n]:
            totals = totals + np.abs(row) ** power
        sums.append(by_halves(totals))
    return np.array(sums)


@with_dtypes
@pytest.mark.parametrize("columns", [1, 3, 4, 7, 8, 9, 24, 47])
def test_sums_of_squares_are_those_of_cells_whatever_the_width_of_a_panel(dtype, columns, rng):
    n = cell(dtype)
    cells = -(-columns // n)
    for n_rows in (0, 1, 2, 13):
        matrix = rng.normal(size=(n_rows, columns)).astype(dtype)
        right = None
        for width in (cells * n, (cells + 1) * n, (cells + 5) * n):
            block, sums = in_rows(matrix, width), np.full(cells + 2, np.nan)
            with Unchanged(block):
                write_squares(block, width, columns, sums)
            assert np.isnan(sums[cells:]).all()
            right = sums if right is None else right
            np.testing.assert_array_equal(sums, right)
        # A square of a float32 is exact in float64.
        tolerance = 0 if dtype == np.float32 else 1e-14
        np.testing.assert_allclose(right[:cells], expected_sums(matrix, 2), rtol=tolerance)
        # The same cells in narrower panels, one after the other.
        for j in range(0, columns, n):
            part, sums = matrix[:, j : j + n], np.full(1, np.nan)
            write_squares(in_rows(part, n), n, part.shape[1], sums)
            assert sums[0] == right[j // n]


@with_dtypes
def test_squares_of_float64_are_added_with_one_rounding(dtype):
    skip_without_fused_multiply_add()
    eps = np.finfo(dtype).eps
    block, sums = np.zeros(2 * cell(dtype), dtype), np.full(1, np.nan)
    block[0], block[cell(dtype)] = 1, eps * (1 + eps)
    write_squares(block, cell(dtype), 1, sums)
    assert sums[0] == 1 + np.float64(block[cell(dtype)]) ** 2


@with_dtypes
@pytest.mark.parametrize("columns", [1, 4, 9, 47])
@pytest.mark.parametrize(("l1", "l2"), [(0.0, 0.0), (0.3, 0.0), (0.0, 0.7), (0.3, 0.7)])
def test_penalties_are_added_to_the_sums_of_cells_whatever_the_width(dtype, columns, l1, l2, rng):
    n, share = cell(dtype), 3.0
    cells = -(-columns // n)
    matrix, gradient = rng.normal(size=(2, 5, columns)).astype(dtype)
    before = rng.random(cells)
    exact = 0.5 * l2 * expected_sums(matrix, 2) + l1 * expected_sums(matrix, 1)
    right = None
    for width in (cells * n, (cells + 3) * n):
        p, g = in_rows(matrix, width), in_rows(gradient, width)
        sums = np.concatenate([before, [np.nan]])
        with Unchanged(p):
            penalise(l1, l2, p, g, width, columns, share, sums)
        assert np.isnan(sums[cells])
        right = sums if right is None else right
        np.testing.assert_array_equal(sums, right)
        np.testing.assert_allclose(sums[:cells], before + share * exact, rtol=1e-13)
        g = g.reshape(5, width)
        assert (g[:, columns:] == 0).all()
        added = gradient.ravel().copy()
        reference.penalty_backward(added, matrix.ravel(), l1, l2)
        np.testing.assert_allclose(
            g[:, :columns].ravel(), added, rtol=0, atol=4 * np.finfo(dtype).eps
        )
