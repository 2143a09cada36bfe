"""A net's loss as a function of its parameters, and the state of an optimizer as a value."""

import numpy as np
import pytest

from fastnn import (
    SGD,
    AdaGrad,
    Adam,
    Affine,
    NAdam,
    Regularization,
    RMSProp,
    Sequential,
    Tanh,
)
from fastnn.losses import SquaredError
from fastnn.training import Objective, Trainer
from fastnn.training.thread_choice import Pace


def make_net(seed=0, bias=True):
    layers = [Affine(4, 6, bias=bias), Tanh(), Affine(6, 3)]
    return Sequential(layers, seed=seed, dtype="float64")


def make_data(n=30):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 4)), rng.normal(size=(n, 3)), rng.uniform(0, 2, n)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", ["mse", "poisson", "softmax_cross_entropy"])
def test_the_gradient_is_the_central_difference(loss, weighted, bias):
    X, y, weights = make_data()
    y = np.abs(y) if loss != "softmax_cross_entropy" else np.arange(30) % 3
    net = make_net(bias=bias)
    objective = Objective(net, loss, X, y, weights if weighted else None, alpha=0.3)
    theta = objective.parameters()
    assert theta.shape == (net.n_params,)
    _, gradient = objective(theta)
    numeric = [
        (objective(theta + h)[0] - objective(theta - h)[0]) / 2e-6
        for h in 1e-6 * np.eye(len(theta))
    ]
    np.testing.assert_allclose(gradient, numeric, rtol=1e-5, atol=1e-8)


def test_weights_of_samples_count_as_copies_of_them():
    X, y, _ = make_data()
    copies = np.arange(30) % 3
    net = make_net()
    theta = Objective(net, "mse", X, y).parameters()
    once = Objective(net, SquaredError(), X, y, copies)(theta)
    often = Objective(net, SquaredError(), np.repeat(X, copies, 0), np.repeat(y, copies, 0))(theta)
    assert once[0] == pytest.approx(often[0], rel=1e-12)
    np.testing.assert_allclose(once[1], often[1], rtol=1e-10, atol=1e-14)


def test_samples_weigh_nothing_in_a_batch_without_weight():
    X, y, _ = make_data()
    net = make_net()
    trainer = Trainer(net, "mse", "adam", 10)
    trainer.set_data(X, y, np.zeros(30))
    before = net.params.copy()
    assert trainer.run_epoch(np.arange(30)) == (0, 0)
    assert trainer.step_count == 0
    trainer.sync()
    np.testing.assert_array_equal(net.params, before)


@pytest.mark.parametrize("optimizer", ["adam", "nadam"])
@pytest.mark.parametrize("steps", [1, 2, 9])
def test_a_batch_without_weight_is_not_counted_however_calls_are_cut(optimizer, steps, monkeypatch):
    # Adam's step depends on the number of updates, so it must not depend on the pace.
    monkeypatch.setattr(Pace, "next_call", lambda self: (1, steps))
    X, y, _ = make_data(30)
    weights = np.repeat([0.0, 1.0, 0.0, 2.0, 0.0, 1.0], 5)
    net, twin = make_net(), make_net()
    trainer = Trainer(net, "mse", optimizer, 5)
    trainer.set_data(X, y, weights)
    seen = Trainer(twin, "mse", optimizer, 5)
    seen.set_data(X, y, weights)
    for _ in range(2):
        trainer.run_epoch(np.arange(30))
        seen.run_epoch(np.flatnonzero(weights))
    assert trainer.step_count == seen.step_count == 6
    trainer.sync()
    seen.sync()
    np.testing.assert_array_equal(net.params, twin.params)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(29), r"sample_weight must be 30 numbers, got shape \(29,\)"),
        (np.ones((30, 1)), "sample_weight must be 30 numbers"),
        (["a"] * 30, "sample_weight must be 30 numbers"),
        (np.full(30, np.inf), "sample_weight must be finite, got inf"),
    ],
)
def test_weights_that_cannot_be_used_are_named(weights, message):
    X, y, _ = make_data()
    with pytest.raises(ValueError, match=message):
        Trainer(make_net(), "mse", "adam", 10).set_data(X, y, weights)


@pytest.mark.parametrize(
    "optimizer",
    [
        SGD(0.1),
        SGD(0.1, momentum=0.9),
        RMSProp(0.01),
        Adam(0.01),
        AdaGrad(0.1),
        NAdam(0.01),
        NAdam(0.01, clip_value=0.1, clip_norm=0.2),
    ],
    ids=repr,
)
def test_training_goes_on_from_a_state_as_if_it_had_not_stopped(optimizer):
    X, y, _ = make_data()
    net = make_net()
    trainer = Trainer(net, "mse", optimizer, 7)
    trainer.set_data(X, y)
    trainer.run_epoch(np.arange(30))
    trainer.sync()
    state = trainer.state()
    twin_net = make_net(seed=1)
    twin_net.params[:] = net.params
    twin = Trainer(twin_net, "mse", optimizer, 7)
    twin.restore(state)
    twin.set_data(X, y)
    assert trainer.run_epoch(np.arange(30)) == twin.run_epoch(np.arange(30))
    trainer.sync()
    twin.sync()
    np.testing.assert_array_equal(net.params, twin_net.params)
    assert twin.step_count == trainer.step_count
    assert twin.state()["momentum_product"] == trainer.state()["momentum_product"]


def test_regularisation_is_a_part_of_the_objective_but_nothing_moves():
    X, y, _ = make_data()
    rule = Regularization(l1=0.1, l2=0.2, weight_decay=0.5, max_norm=0.1)
    net = make_net()
    plain = Objective(net, "mse", X, y)
    theta = plain.parameters()
    value, gradient = plain(theta)
    for layer in net.layers[::2]:
        layer.regularization = rule
    objective = Objective(net, "mse", X, y)
    penalised, penalised_gradient = objective(theta)
    w = theta[: 4 * 6 + 6 * 3]  # biases come last
    assert penalised - value == pytest.approx(0.1 * np.abs(w).sum() + 0.1 * (w**2).sum())
    expected = gradient.copy()
    expected[: len(w)] += 0.1 * np.sign(w) + 0.2 * w
    np.testing.assert_allclose(penalised_gradient, expected, rtol=1e-12, atol=1e-14)
    objective._trainer.sync()
    np.testing.assert_array_equal(objective.parameters(), theta)


def test_a_state_of_another_kind_is_refused():
    state = Trainer(make_net(), "mse", "adam", 7).state()
    with pytest.raises(ValueError, match="state must come from a trainer of the same rule"):
        Trainer(make_net(), "mse", "sgd", 7).restore(state)
    with pytest.raises(ValueError, match="same rule and shapes"):
        Trainer(make_net(bias=False), "mse", "adam", 7).restore(state)
