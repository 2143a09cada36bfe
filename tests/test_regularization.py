"""Penalties, decay and max-norm: against the plain trainer, by hand, and what they are for."""

import dataclasses

import numpy as np
import pytest
from reference_step import ReferenceTrainer

from fastnn import (
    SGD,
    AdaGrad,
    Adam,
    AdamW,
    Affine,
    NAdam,
    Regularization,
    ReLU,
    Residual,
    RMSProp,
    Sequential,
    Tanh,
)
from fastnn.training import Trainer

SIZES = [11, 25, 18, 3]
ACTIVATIONS = ["relu", "tanh", "identity"]

RULES = {
    "l1": {"l1": 0.01},
    "l2": {"l2": 0.3},
    "weight_decay": {"weight_decay": 0.5},
    "max_norm": {"max_norm": 1.25},
    "all": {"l1": 0.01, "l2": 0.3, "weight_decay": 0.5, "max_norm": 1.25},
}
OPTIMIZERS = {
    "sgd": (SGD(0.1), {"learning_rate": 0.1}),
    "nesterov": (
        SGD(0.1, momentum=0.9, nesterov=True),
        {"name": "sgd", "learning_rate": 0.1, "momentum": 0.9, "nesterov": True},
    ),
    "rmsprop": (RMSProp(0.01), {"learning_rate": 0.01}),
    "adam": (Adam(0.01), {"learning_rate": 0.01}),
    "adamw": (AdamW(0.01, weight_decay=2.0), {"learning_rate": 0.01, "weight_decay": 2.0}),
    "adagrad": (AdaGrad(0.1), {"learning_rate": 0.1}),
    "nadam": (NAdam(0.01), {"learning_rate": 0.01}),
}

with_rules = pytest.mark.parametrize("rule", RULES)


def make_net(rules=(None, None, None), dtype="float64", seed=0):
    """Return a net whose layers have each a rule of its own, or none; biases are not zero."""
    layers = []
    for n_inputs, n_outputs, rule, activation in zip(
        SIZES[:-1], SIZES[1:], rules, [ReLU, Tanh, None], strict=True
    ):
        layers.append(Affine(n_inputs, n_outputs, regularization=rule))
        layers.extend([activation()] if activation else [])
    net = Sequential(layers, seed=seed, dtype=dtype)
    net.params[...] = np.random.default_rng(seed).normal(0, 0.5, net.n_params)
    return net


def make_data(n=37):
    rng = np.random.default_rng(1)
    return rng.normal(size=(n, SIZES[0])), rng.integers(0, SIZES[-1], n)


def assert_trains_like_the_plain_run(
    whole=None,
    by_layer=(None, None, None),
    optimizer="sgd",
    alpha=0.0,
    dtype="float64",
    n_threads=1,
    epochs=3,
):
    """Train with rules, dicts for the whole net and for each layer; compare all that comes out."""
    net, (X, y) = make_net(by_layer, dtype), make_data()
    ours, settings = OPTIMIZERS[optimizer]
    rules = [whole if rule is None else rule for rule in by_layer]
    expected = ReferenceTrainer(
        SIZES,
        ACTIVATIONS,
        "softmax_cross_entropy",
        {"name": optimizer} | settings,
        net.weights(),
        X,
        y,
        16,
        alpha,
        [rule or {} for rule in rules],
    )
    trainer = Trainer(
        net, "softmax_cross_entropy", ours, 16, alpha, n_threads, Regularization.of(whole)
    )
    trainer.use_all_threads = True
    trainer.set_data(X, y)
    tolerance = 1e-10 if dtype == "float64" else 2e-4
    for epoch in range(epochs):
        order = np.random.default_rng(epoch).permutation(len(X))
        losses = trainer.run_epoch(order)
        np.testing.assert_allclose(losses, expected.run_epoch(order), rtol=tolerance)
    trainer.sync()
    for (w, b), (w_expected, b_expected) in zip(net.weights(), expected.params, strict=True):
        np.testing.assert_allclose(w, w_expected, rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(b, b_expected, rtol=tolerance, atol=tolerance)
    return net


# --- against the plain trainer --------------------------------------------------------------------


@with_rules
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_whole_net_is_held_back_with_every_optimizer(rule, optimizer):
    assert_trains_like_the_plain_run(RULES[rule], optimizer=optimizer)


@with_rules
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n_threads", [1, 2])
def test_alpha_comes_on_top_of_the_other_penalties(rule, dtype, n_threads):
    assert_trains_like_the_plain_run(RULES[rule], alpha=0.3, dtype=dtype, n_threads=n_threads)


@with_rules
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_a_single_layer_is_held_back(rule, layer):
    by_layer = [None] * 3
    by_layer[layer] = RULES[rule]
    assert_trains_like_the_plain_run(None, by_layer, optimizer="adam")


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_layer_with_a_rule_of_its_own_has_nothing_of_the_whole_net(optimizer):
    by_layer = [{"l1": 0.02}, None, {}]
    assert_trains_like_the_plain_run(RULES["all"], by_layer, optimizer=optimizer)


def test_a_layer_may_be_free_of_the_decay_of_adamw():
    by_layer = [None, {"weight_decay": 0.0}, {"l2": 0.1}]
    assert_trains_like_the_plain_run(None, by_layer, optimizer="adamw")


def test_max_norm_holds_through_many_steps_of_a_deep_net():
    # The way back takes transposed weights: they must be those that have been shortened.
    net = assert_trains_like_the_plain_run({"max_norm": 0.75}, optimizer="nesterov", epochs=12)
    for w, _ in net.weights():
        assert (np.linalg.norm(w, axis=0) <= 0.75 * (1 + 1e-12)).all()


# --- the numbers ----------------------------------------------------------------------------------


def make_single(w, b, optimizer, alpha=0.0, rule=None):
    """Return a net of one neuron per column of w, and a trainer whose gradient of the data is 1."""
    net = Sequential([Affine(len(w), len(w[0]))], dtype="float64")
    net.layers[0].params["w"][...], net.layers[0].params["b"][...] = w, b
    trainer = Trainer(net, "squared_error", optimizer, 1, alpha, regularization=rule)
    x = np.ones((1, len(w)))
    trainer.set_data(x, net.predict(x) - 1)
    return net, trainer


def step(w, b, optimizer, alpha=0.0, rule=None):
    """Return weights, biases and penalty after one step."""
    net, trainer = make_single(w, b, optimizer, alpha, rule)
    _, penalty = trainer.run_epoch([0])
    trainer.sync()
    return net.layers[0].params["w"], net.layers[0].params["b"], penalty


def test_an_l2_penalty_passes_through_the_division_of_adam_and_decay_does_not():
    w, b = [[4.0], [-2.0]], [3.0]
    # Adam's first step is the learning rate times the sign of the gradient, however large.
    plain, b_plain, _ = step(w, b, Adam(0.5))
    np.testing.assert_allclose(plain, [[3.5], [-2.5]], rtol=1e-6)
    # L2: the gradients are 1 + 1 * 4 = 5 and 1 + 1 * (-2) = -1: other signs, the same lengths.
    penalised, b_penalised, penalty = step(w, b, Adam(0.5), rule=Regularization(l2=1.0))
    np.testing.assert_allclose(penalised, [[3.5], [-1.5]], rtol=1e-6)
    assert penalty == 0.5 * (16 + 4)
    # Decay: first 0.5 * 0.25 of each weight is taken away, 0.5 and -0.25, then comes Adam's step.
    decayed, b_decayed, penalty = step(w, b, AdamW(0.5, weight_decay=0.25))
    np.testing.assert_allclose(decayed, [[3.0], [-2.25]], rtol=1e-6)
    assert penalty == 0
    same, _, _ = step(w, b, Adam(0.5), rule=Regularization(weight_decay=0.25))
    np.testing.assert_array_equal(same, decayed)
    np.testing.assert_allclose([b_plain, b_penalised, b_decayed], 2.5, rtol=1e-6)


def test_an_l1_penalty_pulls_all_weights_alike_and_leaves_zero_alone():
    w, _, penalty = step([[4.0, -0.5, 0.0]], [1, 1, 1], SGD(0.5), rule=Regularization(l1=0.25))
    np.testing.assert_allclose(w, [[4 - 0.625, -0.5 - 0.375, -0.5]], rtol=1e-15)
    assert penalty == 0.25 * 4.5


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_for_plain_descent_l2_and_weight_decay_are_the_same(strength):
    X, y = make_data()

    def trained(optimizer, rule):
        net = make_net()
        net.fit(X, y, epochs=3, batch_size=16, optimizer=optimizer, shuffle=False,
                regularization=rule)  # fmt: skip
        return net.params

    l2, decay = Regularization(l2=strength), Regularization(weight_decay=strength)
    plain, momentum = SGD(0.1), SGD(0.1, momentum=0.9)
    np.testing.assert_allclose(trained(plain, l2), trained(plain, decay), rtol=1e-11, atol=1e-13)
    difference = trained(momentum, l2) - trained(momentum, decay)
    assert np.abs(difference).max() > 1e-3  # with momentum they are not


def test_the_decay_follows_the_learning_rate():
    net, trainer = make_single([[4.0]], [0.0], SGD(0.5), rule=Regularization(weight_decay=0.5))
    trainer.learning_rate = 0.25
    trainer.run_epoch([0])
    trainer.sync()
    assert net.params[0] == 4 - 0.25 * 0.5 * 4 - 0.25


def test_max_norm_scales_columns_that_are_too_long_and_leaves_the_others_alone():
    w = np.array([[3.0, 0.3], [4.0, 0.4]])
    free, _, _ = step(w, [9.0, 9.0], SGD(1e-3))
    held, b, penalty = step(w, [9.0, 9.0], SGD(1e-3), rule=Regularization(max_norm=2.0))
    np.testing.assert_array_equal(held[:, 1], free[:, 1])
    np.testing.assert_allclose(held[:, 0], 2 * free[:, 0] / np.linalg.norm(free[:, 0]), rtol=1e-14)
    np.testing.assert_array_equal(b, 9 - 1e-3)
    assert penalty == 0


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_biases_are_free(optimizer):
    # Without an error nothing pulls at a bias but a rule that should not.
    net = make_net()
    X, _ = make_data()
    biases = [b.copy() for _, b in net.weights()]
    trainer = Trainer(
        net, "mse", OPTIMIZERS[optimizer][0], len(X), regularization=Regularization(1, 1, 1)
    )
    trainer.set_data(X, net.predict(X))
    trainer.run_epoch(np.arange(len(X)))
    trainer.sync()
    for (_, b), before in zip(net.weights(), biases, strict=True):
        np.testing.assert_allclose(b, before, rtol=1e-6)  # RMSProp enlarges what is rounded off


def test_the_reported_penalty_is_the_mean_over_the_samples_before_each_update():
    X, y = make_data(40)
    net = make_net()
    weights = [w for w, _ in net.weights()]
    rule = Regularization(l1=0.125, l2=0.5)
    trainer = Trainer(net, "softmax_cross_entropy", SGD(1e-300), 16, 3.0, regularization=rule)
    trainer.set_data(X, y)
    _, penalty = trainer.run_epoch(np.arange(40))
    squares, magnitudes = (sum((abs(w) ** k).sum() for w in weights) for k in (2, 1))
    batches = (16, 16, 8)  # alpha is divided by the rows of a batch, the others are not
    expected = [0.125 * magnitudes + 0.25 * squares + 1.5 * squares / n for n in batches]
    assert penalty == pytest.approx(np.average(expected, weights=batches), rel=1e-12)
    plain = make_net().fit(X, y, optimizer=SGD(1e-300), epochs=1)
    held = make_net().fit(X, y, optimizer=SGD(1e-300), epochs=1, regularization=rule)
    difference = held["loss"][0] - plain["loss"][0]
    assert difference == pytest.approx(0.125 * magnitudes + 0.25 * squares, rel=1e-12)


# --- what they are for ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adagrad", "nadam"])
def test_after_every_epoch_no_neuron_is_longer_than_max_norm(dtype, optimizer):
    X, y = make_data()
    net = make_net(dtype=dtype)
    for _ in range(3):
        net.fit(X, y, epochs=1, optimizer=OPTIMIZERS[optimizer][0], batch_size=8,
                regularization=Regularization(max_norm=0.5))  # fmt: skip
        for w, _ in net.weights():
            norms = np.linalg.norm(w.astype(np.float64), axis=0)
            assert norms.max() <= 0.5 * (1 + 32 * np.finfo(dtype).eps)
            assert norms.max() > 0.49  # and it is reached


def test_l1_silences_inputs_that_say_nothing():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 20))
    y = X[:, :5] @ [3.0, -2.0, 2.0, -3.0, 4.0] + 0.1 * rng.normal(size=400)

    def weights_of_inputs(rule):
        net = Sequential([Affine(20, 8), Tanh(), Affine(8, 1)], seed=0, dtype="float64")
        net.fit(X, y / y.std(), loss="mse", optimizer=Adam(0.01), epochs=150, batch_size=40,
                regularization=rule, schedule="linear")  # fmt: skip
        return np.abs(net.layers[0].params["w"]).max(axis=1)

    free, sparse = weights_of_inputs(None), weights_of_inputs(Regularization(l1=0.005))
    assert free[5:].max() > 0.05
    assert sparse[5:].max() < 0.005
    assert sparse[:5].min() > 0.1


def test_layers_inside_of_a_residual_block_are_held_back_too():
    rule = Regularization(max_norm=0.125)
    block = Residual([Affine(6, 6), Tanh(), Affine(6, 6, regularization=Regularization(l2=0.0))])
    net = Sequential([Affine(4, 6), block, Affine(6, 2)], seed=0, dtype="float64")
    rng = np.random.default_rng(0)
    net.fit(rng.normal(size=(30, 4)), rng.integers(0, 2, 30), epochs=2, regularization=rule)
    norms = [np.linalg.norm(w, axis=0).max() for w, _ in (t[:2] for t in net.tensors())]
    assert [norm <= 0.125 * (1 + 1e-12) for norm in norms] == [True, True, False, True]


# --- the class ------------------------------------------------------------------------------------

NOT_NUMBERS = [np.nan, -np.inf, -1, "0.1", True, 1j, [0.1]]


@pytest.mark.parametrize("name", ["l1", "l2", "weight_decay"])
@pytest.mark.parametrize("value", [np.inf, *NOT_NUMBERS], ids=repr)
def test_a_wrong_strength_is_named(name, value):
    with pytest.raises(ValueError, match=rf"^{name} must be a finite number >= 0, got [^\n]+$"):
        Regularization(**{name: value})
    Regularization(**{name: 0})


@pytest.mark.parametrize("value", [0, None, *NOT_NUMBERS], ids=repr)
def test_a_wrong_max_norm_is_named(value):
    with pytest.raises(ValueError, match=r"^max_norm must be a number > 0, got [^\n]+$"):
        Regularization(max_norm=value)
    Regularization(max_norm=np.inf)


@pytest.mark.parametrize("value", [1, "l2", [0.1], {"l3": 0.1}, Regularization], ids=repr)
def test_what_is_no_regularization_is_named(value):
    message = r"^regularization must be a Regularization or None, got [^\n]+$"
    net = Sequential([Affine(2, 2)], seed=0)
    with pytest.raises(ValueError, match=message):
        Affine(2, 2, regularization=value)
    with pytest.raises(ValueError, match=message):
        Trainer(net, "mse", "sgd", 1, regularization=value)
    with pytest.raises(ValueError, match=message):
        net.fit(np.eye(2), [0, 1], epochs=1, regularization=value)


def test_numbers_of_any_kind_are_taken_as_floats():
    rule = Regularization(np.float32(0.5), np.int64(1), np.float64(0.25), 3)
    assert rule == Regularization(0.5, 1.0, 0.25, 3.0)
    assert all(type(value) is float for value in dataclasses.astuple(rule))


def test_repr_is_the_call_that_makes_it():
    for rule in (Regularization(), Regularization(0.5, 0.25, 0.0, 3.0), Regularization(l2=0.1)):
        assert eval(repr(rule)) == rule
    assert repr(Regularization(l2=0.1)) == "Regularization(l2=0.1)"
    layer = Affine(3, 2, regularization=Regularization(l1=0.5))
    assert eval(repr(layer)).regularization == layer.regularization
    assert "regularization" not in repr(Affine(3, 2))


def test_a_rule_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Regularization().l1 = 1.0


@pytest.mark.parametrize(
    "rule",
    [
        None,
        Regularization(),
        Regularization(np.float32(0.5), np.int64(1), 0.0, 3),
        Regularization(l2=0.25),
    ],
    ids=repr,
)
def test_a_layer_keeps_its_rule_in_a_model_file(rule, tmp_path):
    net = Sequential([Affine(3, 4, regularization=rule), ReLU(), Affine(4, 2)], seed=0)
    net.save(tmp_path / "net.safetensors")
    loaded = Sequential.load(tmp_path / "net.safetensors")
    assert loaded.layers[0].regularization == rule
    assert loaded.layers[2].regularization is None


@pytest.mark.parametrize(("dtype", "size"), [("float32", 1e25), ("float64", 1e200)])
def test_weights_whose_squares_overflow_are_found_and_not_made_zero(dtype, size):
    net = Sequential([Affine(2, 2, bias=False)], seed=0, dtype=dtype)
    before = net.params.copy()
    rule = Regularization(max_norm=1.0)
    trainer = Trainer(net, "mae", SGD(1.0), 1, regularization=rule)
    trainer.set_data([[size, size]], [[1.0, 1e3]])
    trainer.run_epoch([0])
    trainer.sync()
    assert trainer.divergence.what == "the weights became NaN or infinite"
    np.testing.assert_array_equal(net.params, before)
