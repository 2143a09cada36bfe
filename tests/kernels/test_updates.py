"""Update rules against the plain loops."""

import numpy as np
import pytest

from fastnn._jit import kernel
from fastnn.kernels import codes, reference, updates

RATE, BETA_1, BETA_2, EPSILON, WEIGHT_DECAY = 0.01, 0.9, 0.999, 1e-8, 0.1
HYPERPARAMETERS = np.zeros(codes.N_HYPERPARAMETERS)
HYPERPARAMETERS[
    [codes.LEARNING_RATE, codes.BETA_1, codes.BETA_2, codes.EPSILON, codes.WEIGHT_DECAY]
] = [RATE, BETA_1, BETA_2, EPSILON, WEIGHT_DECAY]

RULES = {
    "sgd": codes.SGD,
    "momentum": codes.MOMENTUM,
    "nesterov": codes.NESTEROV,
    "rmsprop": codes.RMSPROP,
    "adam": codes.ADAM,
    "adamw": codes.ADAMW,
}
SIZES = [1, 7, 8, 9, 16, 31, 97]

with_rules = pytest.mark.parametrize("rule", RULES)
with_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


@kernel
def update(rule, hyperparameters, t, decay, p, s1, s2, g):
    step = updates.step_size(rule, hyperparameters, t)
    updates.update_block(rule, hyperparameters, step, decay, p, s1, s2, g)


@kernel
def step_size(rule, hyperparameters, t):
    return updates.step_size(rule, hyperparameters, t)


@kernel
def sum_of_squares(p):
    return updates.sum_of_squares(p)


def expected_update(rule, t, decay, p, s1, s2, g):
    """Overwrite p and the states by the plain loops; the penalty is a part of the gradient."""
    g = (g + p.dtype.type(decay) * p).astype(p.dtype)
    step = reference.adam_step_size(RATE, BETA_1, BETA_2, t)
    if rule == "sgd":
        reference.sgd(p, g, RATE)
    elif rule in ("momentum", "nesterov"):
        getattr(reference, rule)(p, s1, g, RATE, BETA_1)
    elif rule == "rmsprop":
        reference.rmsprop(p, s1, g, RATE, BETA_1, EPSILON)
    elif rule == "adam":
        reference.adam(p, s1, s2, g, step, BETA_1, BETA_2, EPSILON)
    else:
        reference.adamw(p, s1, s2, g, step, BETA_1, BETA_2, EPSILON, RATE * WEIGHT_DECAY)


@with_rules
@with_dtypes
@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_updates_are_those_of_the_plain_loops(rule, dtype, decay, rng):
    eps = np.finfo(dtype).eps
    for size in SIZES:
        p = rng.normal(size=size).astype(dtype)
        states = [np.zeros_like(p), np.zeros_like(p)]
        right, right_states = p.copy(), [np.zeros_like(p), np.zeros_like(p)]
        for t in range(1, 6):
            g = rng.normal(size=size).astype(dtype)
            update(RULES[rule], HYPERPARAMETERS, t, decay, p, *states, g)
            expected_update(rule, t, decay, right, *right_states, g)
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
    update(RULES[rule], HYPERPARAMETERS, 1, 0.0, p, *states, g)
    right = {
        "momentum": [-RATE, 0],
        "nesterov": [-RATE, 0],
        "rmsprop": [1 - BETA_1, 0],
        "adam": [1 - BETA_1, 1 - BETA_2],
        "adamw": [1 - BETA_1, 1 - BETA_2],
    }.get(rule, [0, 0])
    for state, value in zip(states, right, strict=True):
        np.testing.assert_allclose(state, value, rtol=4 * np.finfo(dtype).eps)


@with_rules
@with_dtypes
def test_padding_stays_zero(rule, dtype):
    p, g, s1, s2 = (np.zeros(9, dtype) for _ in range(4))
    for t in range(1, 4):
        update(RULES[rule], HYPERPARAMETERS, t, 0.5, p, s1, s2, g)
    for array in (p, s1, s2):
        np.testing.assert_array_equal(array, 0)


@with_rules
@with_dtypes
def test_nan_and_infinite_gradients_reach_their_parameter_and_no_other(rule, dtype):
    p, g = np.ones(19, dtype), np.ones(19, dtype)
    s1, s2 = np.zeros(19, dtype), np.zeros(19, dtype)
    g[5], g[17] = np.nan, np.inf
    update(RULES[rule], HYPERPARAMETERS, 1, 0.0, p, s1, s2, g)
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
    update(RULES[rule], HYPERPARAMETERS, 1, 0.5, p, np.zeros_like(p), np.zeros_like(p), g)
    np.testing.assert_array_equal(g, before)


@with_dtypes
def test_rules_do_not_touch_states_they_do_not_have(dtype, rng):
    for rule, n_states in [("sgd", 0), ("momentum", 1), ("nesterov", 1), ("rmsprop", 1)]:
        p, g = rng.normal(size=(2, 17)).astype(dtype)
        states = [np.zeros_like(p) if k < n_states else np.empty(0, dtype) for k in range(2)]
        update(RULES[rule], HYPERPARAMETERS, 1, 0.5, p, *states, g)
        assert np.isfinite(p).all()


@with_dtypes
def test_the_rule_gradient_writes_the_gradient_with_the_penalty(dtype, rng):
    p, g = rng.integers(-9, 10, (2, 17)).astype(dtype)
    before, s1 = p.copy(), np.full_like(p, np.nan)
    update(codes.GRADIENT, HYPERPARAMETERS, 1, 0.5, p, s1, np.empty(0, dtype), g)
    np.testing.assert_array_equal(s1, g + p / 2)
    np.testing.assert_array_equal(p, before)


def test_only_the_step_of_adam_depends_on_the_number_of_updates():
    for rule, code in RULES.items():
        for t in (1, 2, 10, 100_000):
            right = RATE
            if rule in ("adam", "adamw"):
                right = reference.adam_step_size(RATE, BETA_1, BETA_2, t)
            assert step_size(code, HYPERPARAMETERS, t) == pytest.approx(right, rel=1e-12)


def test_squares_of_float32_are_summed_in_float64():
    p = np.full(2**16 + 1, 4097, np.float32)
    assert sum_of_squares(p) == (2**16 + 1) * 4097.0**2
    assert np.isnan(sum_of_squares(np.array([1, np.nan], np.float32)))
    assert sum_of_squares(np.array([1e30], np.float32)) > 9e59
