"""Starting weights: shapes, types, and distributions that follow the published formulas."""

import numpy as np
import pytest

from fastnn import initializers

# name -> variance for I inputs and O outputs, as the papers give it
VARIANCE = {
    "glorot_uniform": lambda i, o: 2 / (i + o),
    "glorot_normal": lambda i, o: 2 / (i + o),
    "he_uniform": lambda i, o: 2 / i,
    "he_normal": lambda i, o: 2 / i,
    "lecun_uniform": lambda i, o: 1 / i,
    "lecun_normal": lambda i, o: 1 / i,
    "uniform": lambda i, o: 0.05**2 / 3,
}
RANDOM = sorted(VARIANCE)
UNIFORM = [name for name in RANDOM if name.endswith("uniform")]
ALL = [*RANDOM, "constant", "zeros"]


def draw(name, n_inputs, n_outputs, dtype="float64", seed=0):
    return initializers.get(name)(np.random.default_rng(seed), n_inputs, n_outputs, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (5, 3)])
@pytest.mark.parametrize("name", ALL)
def test_the_result_is_a_fresh_array_of_the_asked_shape_and_type(name, shape, dtype):
    w = draw(name, *shape, dtype)
    assert w.shape == shape
    assert w.dtype == dtype
    assert w.flags.c_contiguous
    assert w.flags.writeable
    assert np.isfinite(w).all()


@pytest.mark.parametrize("name", RANDOM)
def test_a_seed_gives_the_same_weights_and_another_seed_gives_others(name):
    np.testing.assert_array_equal(draw(name, 9, 4, seed=3), draw(name, 9, 4, seed=3))
    assert not np.array_equal(draw(name, 9, 4, seed=3), draw(name, 9, 4, seed=4))


@pytest.mark.parametrize("name", RANDOM)
def test_a_seed_gives_the_same_weights_in_both_precisions(name):
    np.testing.assert_array_equal(
        draw(name, 9, 4, "float32"), draw(name, 9, 4, "float64").astype(np.float32)
    )


@pytest.mark.parametrize("name", RANDOM)
def test_two_draws_from_one_generator_differ(name):
    rng = np.random.default_rng(0)
    function = initializers.get(name)
    assert not np.array_equal(function(rng, 5, 5, "float64"), function(rng, 5, 5, "float64"))


@pytest.mark.parametrize("shape", [(300, 200), (200, 300), (20, 3000)])
@pytest.mark.parametrize("name", RANDOM)
def test_mean_and_variance_are_those_of_the_formula(name, shape):
    w = draw(name, *shape)
    expected = VARIANCE[name](*shape)
    # Standard errors over n draws: of the mean sqrt(var / n); of the variance
    # var * sqrt((kurtosis - 1) / n), with kurtosis 3 (normal) or 1.8 (uniform). Five of each.
    kurtosis = 1.8 if name in UNIFORM else 3.0
    assert abs(w.mean()) < 5 * np.sqrt(expected / w.size)
    assert abs(w.var() / expected - 1) < 5 * np.sqrt((kurtosis - 1) / w.size)


@pytest.mark.parametrize("shape", [(300, 200), (20, 3000)])
@pytest.mark.parametrize("name", UNIFORM)
def test_uniform_weights_fill_their_range_and_stay_in_it(name, shape):
    w = draw(name, *shape)
    limit = np.sqrt(3 * VARIANCE[name](*shape))
    assert -limit <= w.min() < -0.999 * limit
    assert 0.999 * limit < w.max() < limit


@pytest.mark.parametrize("name", [name for name in RANDOM if name not in UNIFORM])
def test_normal_weights_have_the_tails_of_a_normal_distribution(name):
    w = draw(name, 300, 200)
    beyond_two = np.mean(abs(w) > 2 * np.sqrt(VARIANCE[name](300, 200)))
    assert abs(beyond_two - 0.0455) < 5 * np.sqrt(0.0455 / w.size)


def test_glorot_is_symmetric_in_inputs_and_outputs_and_he_is_not():
    assert draw("glorot_uniform", 10, 90).std() == pytest.approx(
        draw("glorot_uniform", 90, 10).std(), rel=0.1
    )
    assert draw("he_normal", 10, 90).std() > 2 * draw("he_normal", 90, 10).std()


def test_constant_and_uniform_take_their_parameter():
    np.testing.assert_array_equal(
        initializers.constant(None, 2, 3, "float32", value=0.25), np.full((2, 3), 0.25)
    )
    assert not initializers.zeros(None, 2, 3, "float32").any()
    w = initializers.uniform(np.random.default_rng(0), 50, 50, "float64", limit=2.0)
    assert 1.9 < abs(w).max() < 2.0
    assert not initializers.uniform(np.random.default_rng(0), 5, 5, limit=0.0).any()


@pytest.mark.parametrize("limit", [-1.0, np.inf, np.nan])
def test_uniform_refuses_a_limit_that_is_no_range(limit):
    with pytest.raises(ValueError, match="limit must be a finite number >= 0, got"):
        initializers.uniform(np.random.default_rng(0), 2, 2, limit=limit)


@pytest.mark.parametrize("name", ALL)
def test_a_layer_without_inputs_or_outputs_is_refused(name):
    with pytest.raises(ValueError, match="n_inputs must be an integer >= 1, got 0"):
        draw(name, 0, 3)
    with pytest.raises(ValueError, match="n_outputs must be an integer >= 1, got -2"):
        draw(name, 3, -2)


def test_every_public_function_can_be_looked_up_and_a_function_passes_through():
    for name in initializers.__all__:
        if name != "get":
            assert initializers.get(name) is getattr(initializers, name)

    def mine(rng, n_inputs, n_outputs, dtype):
        return np.ones((n_inputs, n_outputs), dtype)

    assert initializers.get(mine) is mine


@pytest.mark.parametrize("name", ["xavier", "", None, 3, "get"])
def test_an_unknown_name_is_answered_with_the_known_ones_in_one_line(name):
    with pytest.raises(ValueError, match=r"glorot_uniform.*zeros; got ") as caught:
        initializers.get(name)
    assert "\n" not in str(caught.value)
