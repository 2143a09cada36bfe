"""Update rules, penalties, decay and clipping against the plain loops."""

import numpy as np
import pytest

from fastnn.kernels import codes, reference, updates
from fastnn.runtime.jit import kernel
from fastnn.training.trainer import _STATES

RATE, BETA_1, BETA_2, EPSILON = 0.01, 0.9, 0.999, 1e-8
HYPERPARAMETERS = np.zeros(codes.N_HYPERPARAMETERS)
HYPERPARAMETERS[[codes.LEARNING_RATE, codes.BETA_1, codes.BETA_2, codes.EPSILON]] = [
    RATE,
    BETA_1,
    BETA_2,
    EPSILON,
]
HYPERPARAMETERS[codes.MOMENTUM_PRODUCT] = 1.0

RULES = {
    "sgd": codes.SGD,
    "momentum": codes.MOMENTUM,
    "nesterov": codes.NESTEROV,
    "rmsprop": codes.RMSPROP,
    "adam": codes.ADAM,
    "adagrad": codes.ADAGRAD,
    "nadam": codes.NADAM,
}
SIZES = [1, 7, 8, 9, 16, 31, 97]

with_rules = pytest.mark.parametrize("rule", RULES)
with_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


@kernel
def update(rule, hyperparameters, product, t, p, s1, s2, g):
    sizes = updates.step_sizes(
        rule, hyperparameters, hyperparameters[codes.LEARNING_RATE], product, t
    )
    updates.update_block(rule, hyperparameters, sizes[0], sizes[1], sizes[2], p, s1, s2, g)
    return sizes[3]


@kernel
def step_sizes(rule, hyperparameters, product, t):
    return updates.step_sizes(
        rule, hyperparameters, hyperparameters[codes.LEARNING_RATE], product, t
    )


@kernel
def penalise(l1, l2, p, g):
    return updates.penalise(l1, l2, p, g)


@kernel
def decay_block(factor, p):
    updates.decay_block(factor, p)


@kernel
def clip_block(hyperparameters, g):
    updates.clip_block(hyperparameters, g)


@kernel
def scale_block(factor, g):
    updates.scale_block(factor, g)


@kernel
def sum_of_squares(g):
    return updates.sum_of_squares(g)


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
    n_states = _STATES.get(RULES[rule], 2)
    return [np.zeros(size if k < n_states else 0, dtype) for k in range(2)]


@with_rules
@with_dtypes
def test_updates_are_those_of_the_plain_loops(rule, dtype, rng):
    eps = np.finfo(dtype).eps
    for size in SIZES:
        p = rng.normal(size=size).astype(dtype)
        states = [np.zeros_like(p), np.zeros_like(p)]
        right, right_states = p.copy(), [np.zeros_like(p), np.zeros_like(p)]
        product = right_product = 1.0
        for t in range(1, 6):
            g = rng.normal(size=size).astype(dtype)
            product = update(RULES[rule], HYPERPARAMETERS, product, t, p, *states, g)
            right_product = expected_update(rule, right_product, t, right, *right_states, g)
            assert product == pytest.approx(right_product, rel=1e-14)
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
    update(RULES[rule], HYPERPARAMETERS, 1.0, 1, p, *states, g)
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
    product = 1.0
    for t in range(1, 4):
        assert penalise(0.25, 0.5, p, g) == 0
        clip_block(hyperparameters_with(CLIP_VALUE=0.5), g)
        scale_block(0.5, g)
        decay_block(0.5, p)
        product = update(RULES[rule], HYPERPARAMETERS, product, t, p, *states, g)
    for array in (p, g, *states):
        np.testing.assert_array_equal(array, 0)


@with_rules
@with_dtypes
def test_nan_and_infinite_gradients_reach_their_parameter_and_no_other(rule, dtype):
    p, g = np.ones(19, dtype), np.ones(19, dtype)
    g[5], g[17] = np.nan, np.inf
    update(RULES[rule], HYPERPARAMETERS, 1.0, 1, p, *states_of(rule, 19, dtype), g)
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
    update(RULES[rule], HYPERPARAMETERS, 1.0, 1, p, *states_of(rule, 17, dtype), g)
    np.testing.assert_array_equal(g, before)


@with_dtypes
def test_rules_do_not_touch_states_they_do_not_have(dtype, rng):
    for code in RULES.values():
        p, g = rng.normal(size=(2, 17)).astype(dtype)
        states = [np.full(17, np.nan, dtype) for _ in range(2)]
        n_states = _STATES.get(code, 2)
        for state in states[:n_states]:
            state[:] = 0
        update(code, HYPERPARAMETERS, 1.0, 1, p, *states, g)
        assert np.isfinite(p).all()
        assert all(np.isfinite(state).all() and state.any() for state in states[:n_states])
        assert all(np.isnan(state).all() for state in states[n_states:])


@with_dtypes
def test_the_rule_gradient_writes_the_gradient(dtype, rng):
    p, g = rng.integers(-9, 10, (2, 17)).astype(dtype)
    before, s1 = p.copy(), np.full_like(p, np.nan)
    update(codes.GRADIENT, HYPERPARAMETERS, 1.0, 1, p, s1, np.empty(0, dtype), g)
    np.testing.assert_array_equal(s1, g)
    np.testing.assert_array_equal(p, before)


def test_only_the_steps_of_adam_and_nadam_depend_on_the_number_of_updates():
    product = 0.125
    for rule, code in RULES.items():
        for t in (1, 2, 10, 100_000):
            right = RATE, 0.0, 1.0, product
            if rule == "adam":
                right = reference.adam_step_size(RATE, BETA_1, BETA_2, t), 0.0, 1.0, product
            elif rule == "nadam":
                right = reference.nadam_step_sizes(RATE, BETA_1, BETA_2, product, t)
            sizes = step_sizes(code, HYPERPARAMETERS, product, t)
            assert sizes == pytest.approx(right, rel=1e-12)


def hyperparameters_with(**values):
    """Return hyperparameters, some of them changed, by the name of their place."""
    hyperparameters = HYPERPARAMETERS.copy()
    for name, value in values.items():
        hyperparameters[getattr(codes, name)] = value
    return hyperparameters


@with_dtypes
@pytest.mark.parametrize(("l1", "l2"), [(0.0, 0.0), (0.3, 0.0), (0.0, 0.7), (0.3, 0.7)])
def test_penalties_are_those_of_the_plain_loops(dtype, l1, l2, rng):
    eps = float(np.finfo(dtype).eps)
    for size in SIZES:
        p, g = rng.normal(size=(2, size)).astype(dtype)
        p[size // 2] = 0
        before, right = p.copy(), g.copy()
        reference.penalty_backward(right, p, l1, l2)
        value = penalise(l1, l2, p, g)
        np.testing.assert_allclose(g, right, rtol=0, atol=4 * eps)
        # The kernel sums in float64 whatever the type of the parameters.
        right = reference.penalty(p.astype(np.float64), l1, l2)
        assert value == pytest.approx(right, rel=1e-13)
        np.testing.assert_array_equal(p, before)


@with_dtypes
def test_the_derivative_of_the_penalty_at_zero_is_zero(dtype):
    g = np.ones(17, dtype)
    penalise(0.5, 0.5, np.zeros(17, dtype), g)
    penalise(0.5, 0.5, np.full(17, -0.0, dtype), g)
    np.testing.assert_array_equal(g, 1)


@with_dtypes
def test_a_penalty_on_nan_is_nan_and_leaves_other_gradients_alone(dtype):
    p, g = np.ones(17, dtype), np.zeros(17, dtype)
    p[5] = np.nan
    assert np.isnan(penalise(0.25, 0.5, p, g))
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
        clip_block(hyperparameters_with(CLIP_VALUE=0.5), g)
        np.testing.assert_array_equal(g, right)


@with_dtypes
def test_clipping_by_value_bounds_infinity_and_shows_nan(dtype):
    g = np.array([np.inf, -np.inf, np.nan, 2, -2, 1, 0] * 5, dtype)
    clip_block(hyperparameters_with(CLIP_VALUE=1.5), g)
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
