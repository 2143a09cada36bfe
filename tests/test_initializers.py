"""Starting weights: shapes, types, and distributions that follow the published formulas."""

import functools

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
ALIASES = {
    "xavier_uniform": "glorot_uniform",
    "xavier_normal": "glorot_normal",
    "kaiming_uniform": "he_uniform",
    "kaiming_normal": "he_normal",
}
INDEPENDENT = sorted(VARIANCE)  # each weight is drawn for itself
UNIFORM = [name for name in INDEPENDENT if name.endswith("uniform")]
RANDOM = [*INDEPENDENT, "orthogonal"]
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
@pytest.mark.parametrize("name", INDEPENDENT)
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


@pytest.mark.parametrize("name", [name for name in INDEPENDENT if name not in UNIFORM])
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


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (64, 64), (130, 17), (17, 130)])
def test_orthogonal_weights_have_perpendicular_columns_or_rows_of_the_asked_length(shape, dtype):
    for gain in (1.0, 1.5):
        w = initializers.orthogonal(np.random.default_rng(0), *shape, dtype, gain).astype(float)
        product = w.T @ w if shape[0] >= shape[1] else w @ w.T
        np.testing.assert_allclose(product, gain**2 * np.eye(min(shape)), atol=1e-6, rtol=1e-6)
    assert not initializers.orthogonal(np.random.default_rng(0), *shape, dtype, gain=0).any()


def test_orthogonal_weights_prefer_no_direction():
    # Uniform over the orthogonal group: the trace has mean 0 and variance 1, and one of two is a
    # reflection. Without the correction of signs, the first column would never point upwards.
    drawn = np.array([draw("orthogonal", 3, 3, seed=seed) for seed in range(2000)])
    trace = np.trace(drawn, axis1=1, axis2=2)
    assert abs(trace.mean()) < 5 / np.sqrt(2000)
    assert abs(trace.var() - 1) < 0.15
    assert abs(np.mean(np.linalg.det(drawn) > 0) - 0.5) < 5 * 0.5 / np.sqrt(2000)
    assert (abs(drawn.mean(axis=0)) < 5 * np.sqrt(1 / 3 / 2000)).all()


@pytest.mark.parametrize("gain", [-1.0, np.inf, np.nan])
def test_orthogonal_refuses_a_gain_that_is_no_length(gain):
    with pytest.raises(ValueError, match="gain must be a finite number >= 0, got"):
        initializers.orthogonal(np.random.default_rng(0), 2, 2, gain=gain)


@pytest.mark.parametrize(("alias", "name"), ALIASES.items())
def test_first_names_are_other_names_of_the_same_functions(alias, name):
    assert initializers.get(alias) is initializers.get(name)


def relu(z):
    return np.maximum(z, 0)


def selu(z):  # Klambauer et al. (2017), equation 2
    return 1.0507009873554805 * np.where(z > 0, z, 1.6732632423543772 * np.expm1(np.minimum(z, 0)))


def size_after_20_layers(initializer, activation, width=256):
    """Return the mean square of the activations after 20 layers, over that before them."""
    rng = np.random.default_rng(0)
    start = out = rng.standard_normal((64, width))
    for _ in range(20):
        out = activation(out @ initializer(rng, width, width, "float64"))
    return np.mean(out**2) / np.mean(start**2)


@pytest.mark.parametrize(
    ("name", "activation"),
    [
        ("he_uniform", relu),
        ("he_normal", relu),
        ("lecun_uniform", np.positive),
        ("lecun_normal", np.positive),
        ("glorot_uniform", np.positive),
        ("glorot_normal", np.positive),
        ("lecun_normal", selu),
    ],
)
def test_signals_keep_their_size_in_a_deep_net_with_the_initializer_made_for_it(name, activation):
    assert 1 / 4 < size_after_20_layers(initializers.get(name), activation) < 4


def test_signals_keep_their_size_exactly_in_a_deep_linear_net_of_orthogonal_weights():
    assert size_after_20_layers(initializers.orthogonal, np.positive) == pytest.approx(1)
    gain = functools.partial(initializers.orthogonal, gain=np.sqrt(2))
    assert 1 / 4 < size_after_20_layers(gain, relu) < 4


def test_signals_fade_in_a_deep_net_with_smaller_weights_and_explode_with_larger_ones():
    assert size_after_20_layers(initializers.get("lecun_normal"), relu) < 1e-5  # half a layer
    assert size_after_20_layers(initializers.get("uniform"), np.tanh) < 1e-10
    large = functools.partial(initializers.uniform, limit=0.5)
    assert size_after_20_layers(large, relu) > 1e10
    # With tanh large weights saturate instead: nearly all outputs are -1 or 1.
    assert size_after_20_layers(large, np.tanh) > 0.7


@pytest.mark.parametrize(
    ("expected", "activations"),
    [
        ("he_uniform", ["relu", "leaky_relu", "elu", "gelu", "silu", "mish", "softplus"]),
        ("lecun_normal", ["selu"]),
        ("glorot_uniform", [None, "identity", "tanh", "logistic", "sigmoid", "softmax", "step"]),
    ],
)
def test_the_default_suits_the_activation_that_follows(expected, activations):
    for activation in activations:
        assert initializers.default_for(activation) == expected
    assert initializers.get(expected)


@pytest.mark.parametrize("name", ALL)
def test_a_layer_without_inputs_or_outputs_is_refused(name):
    with pytest.raises(ValueError, match="n_inputs must be an integer >= 1, got 0"):
        draw(name, 0, 3)
    with pytest.raises(ValueError, match="n_outputs must be an integer >= 1, got -2"):
        draw(name, 3, -2)


def test_every_public_function_can_be_looked_up_and_a_function_passes_through():
    for name in initializers.__all__:
        if name not in ("get", "default_for"):
            assert initializers.get(name) is getattr(initializers, name)

    def mine(rng, n_inputs, n_outputs, dtype):
        return np.ones((n_inputs, n_outputs), dtype)

    assert initializers.get(mine) is mine


@pytest.mark.parametrize("name", ["xavier", "", None, 3, "get", "default_for"])
def test_an_unknown_name_is_answered_with_the_known_ones_in_one_line(name):
    with pytest.raises(ValueError, match=r"glorot_uniform.*zeros; got ") as caught:
        initializers.get(name)
    assert "\n" not in str(caught.value)
