"""Optimizers as their users see them: hyperparameters, checks, names."""

import dataclasses

import numpy as np
import pytest

from fastnn import SGD, AdaGrad, Adam, AdamW, Affine, NAdam, RMSProp, Sequential, optimizers
from fastnn.kernels.updates import GRADIENT_ALONE, RULES
from fastnn.training import Trainer

ALL = [SGD, RMSProp, Adam, AdamW, AdaGrad, NAdam]
BELOW_ONE = {RMSProp: ["rho"], **{key: ["beta_1", "beta_2"] for key in [Adam, AdamW, NAdam]}}

with_optimizers = pytest.mark.parametrize("optimizer", ALL, ids=lambda c: c.__name__)

NOT_NUMBERS = [np.nan, np.inf, -np.inf, -1, "0.1", None, True, 1j, np.complex64(1), [0.1]]


@with_optimizers
@pytest.mark.parametrize("value", [0, 0.0, *NOT_NUMBERS], ids=repr)
def test_a_wrong_learning_rate_is_named(optimizer, value):
    with pytest.raises(ValueError, match=r"^learning_rate must be a finite number > 0, got "):
        optimizer(value)


@with_optimizers
@pytest.mark.parametrize("name", ["clip_value", "clip_norm"])
@pytest.mark.parametrize("value", [v for v in (0, *NOT_NUMBERS) if v is not None], ids=repr)
def test_a_wrong_limit_of_the_gradient_is_named(optimizer, name, value):
    with pytest.raises(ValueError, match=rf"^{name} must be a finite number > 0, got "):
        optimizer(**{name: value})


@with_optimizers
def test_limits_of_the_gradient_are_given_by_name(optimizer):
    for name in ("clip_value", "clip_norm"):
        assert getattr(optimizer(), name) is None
        assert getattr(optimizer(**{name: 2}), name) == 2
        assert optimizer(**{name: None}) == optimizer()
    n_positional = len(dataclasses.fields(optimizer)) - 2
    with pytest.raises(TypeError):
        optimizer(*[0.5] * (n_positional + 1))


@pytest.mark.parametrize("optimizer", [o for o in ALL if o is not SGD], ids=lambda c: c.__name__)
@pytest.mark.parametrize("value", [0, *NOT_NUMBERS], ids=repr)
def test_a_wrong_epsilon_is_named(optimizer, value):
    with pytest.raises(ValueError, match=r"^epsilon must be a finite number > 0, got "):
        optimizer(epsilon=value)


@pytest.mark.parametrize("value", [1.5, *NOT_NUMBERS], ids=repr)
def test_a_wrong_momentum_is_named(value):
    with pytest.raises(ValueError, match=r"^momentum must be a number in \[0, 1\], got "):
        SGD(momentum=value)
    SGD(momentum=0)
    SGD(momentum=1)  # nothing is lost: as scikit-learn allows


@pytest.mark.parametrize("optimizer", list(BELOW_ONE), ids=lambda c: c.__name__)
@pytest.mark.parametrize("value", [1, 1.5, *NOT_NUMBERS], ids=repr)
def test_a_wrong_decay_of_a_mean_is_named(optimizer, value):
    for name in BELOW_ONE[optimizer]:
        with pytest.raises(ValueError, match=rf"^{name} must be a number in \[0, 1\), got "):
            optimizer(**{name: value})
        optimizer(**{name: 0})


@pytest.mark.parametrize("value", NOT_NUMBERS, ids=repr)
def test_a_wrong_weight_decay_is_named(value):
    with pytest.raises(ValueError, match=r"^weight_decay must be a finite number >= 0, got "):
        AdamW(weight_decay=value)
    AdamW(weight_decay=0)


def test_what_was_given_is_shown():
    with pytest.raises(ValueError, match=r"got -3$"):
        SGD(-3)
    with pytest.raises(ValueError, match=r"got 'fast'$"):
        Adam(learning_rate="fast")


@with_optimizers
def test_numbers_of_any_kind_are_taken(optimizer):
    for value in (1, 0.5, np.float32(0.5), np.float64(0.5), np.int64(1)):
        assert optimizer(value).learning_rate == value
    for name in optimizer().rule.hyperparameters:
        for value in (0.5, np.float32(0.5), np.float64(0.5)):
            made = optimizer(**{name: value})
            assert 0.5 in made.hyperparameters


@with_optimizers
def test_an_optimizer_cannot_be_changed(optimizer):
    with pytest.raises(dataclasses.FrozenInstanceError):
        optimizer().learning_rate = 1.0


@with_optimizers
def test_equal_optimizers_compare_equal(optimizer):
    assert optimizer(0.5) == optimizer(0.5)
    assert optimizer(0.5) != optimizer(0.25)


def test_kinds_of_adam_are_not_equal():
    assert Adam() != AdamW(weight_decay=0.0)
    assert Adam(2e-3) != NAdam(2e-3)


@with_optimizers
def test_repr_is_the_call_that_makes_it(optimizer):
    for example in (optimizer(0.25), optimizer(0.25, clip_value=1, clip_norm=2.5)):
        assert eval(repr(example)) == example
    assert repr(example).endswith(", clip_value=1, clip_norm=2.5)")
    assert "clip" not in repr(optimizer())


def test_defaults_are_those_of_the_literature():
    assert repr(SGD()) == "SGD(learning_rate=0.01, momentum=0.0, nesterov=False)"
    assert repr(RMSProp()) == "RMSProp(learning_rate=0.001, rho=0.9, epsilon=1e-07)"
    assert repr(Adam()) == "Adam(learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-08)"
    assert repr(AdaGrad()) == "AdaGrad(learning_rate=0.01, epsilon=1e-10)"
    assert repr(NAdam()) == "NAdam(learning_rate=0.002, beta_1=0.9, beta_2=0.999, epsilon=1e-08)"
    assert AdamW().weight_decay == 0.01
    assert all(optimizer().weight_decay == 0 for optimizer in ALL if optimizer is not AdamW)


@pytest.mark.parametrize(
    ("optimizer", "rule"),
    [
        (SGD(), "sgd"),
        (SGD(nesterov=True), "sgd"),  # nothing to look ahead with
        (SGD(momentum=0.5), "momentum"),
        (SGD(momentum=0.5, nesterov=True), "nesterov"),
        (RMSProp(), "rmsprop"),
        (Adam(), "adam"),
        (AdamW(), "adam"),  # the trainer lets the weights decay
        (AdaGrad(), "adagrad"),
        (NAdam(), "nadam"),
    ],
    ids=repr,
)
def test_each_optimizer_names_its_rule(optimizer, rule):
    assert optimizer.rule is RULES[rule]


def test_checkpoints_find_the_rules_in_their_places():
    """A state of an optimizer is kept with the position of its rule: new ones come last."""
    places = ["sgd", "momentum", "nesterov", "rmsprop", "adam", "adagrad", "nadam"]
    assert [*RULES][: len(places)] == places
    assert GRADIENT_ALONE not in RULES.values()


@pytest.mark.parametrize(
    ("optimizer", "values"),
    [
        (SGD(0.5), {}),
        (SGD(0.5, momentum=0.25), {"momentum": 0.25}),
        (SGD(0.5, momentum=0.25, nesterov=True), {"momentum": 0.25}),
        (RMSProp(0.5, rho=0.25, epsilon=0.125), {"rho": 0.25, "epsilon": 0.125}),
        (
            AdamW(0.5, 0.25, 0.75, 0.125, 2.0),
            {"beta_1": 0.25, "beta_2": 0.75, "epsilon": 0.125},
        ),
        (AdaGrad(0.5, 0.25), {"epsilon": 0.25}),
        (
            NAdam(0.5, 0.25, 0.75, 0.125, clip_value=2.0, clip_norm=9.0),
            {"beta_1": 0.25, "beta_2": 0.75, "epsilon": 0.125},
        ),
    ],
    ids=repr,
)
def test_hyperparameters_lie_where_the_kernels_look(optimizer, values):
    expected = np.array([*values.values()], float)
    assert [*optimizer.rule.hyperparameters] == [*values]
    np.testing.assert_array_equal(optimizer.hyperparameters, expected)
    assert optimizer.hyperparameters.dtype == np.float64
    optimizer.hyperparameters[:1] = 9  # a copy
    np.testing.assert_array_equal(optimizer.hyperparameters, expected)

    trainer = Trainer(Sequential([Affine(2, 1)], seed=0), "mse", optimizer, 2)
    trainer.set_data(np.eye(2), np.ones(2))
    trainer.run_epoch(np.arange(2))
    job = trainer.memory.job
    assert job["clip_value"] == (optimizer.clip_value or np.inf)
    assert job["clip_norm"] == (optimizer.clip_norm or np.inf)
    begins = Trainer(Sequential([Affine(2, 1)], seed=0), "mse", optimizer, 2).memory.rule_memory
    assert begins == 1  # a product of momenta
    assert (trainer.memory.rule_memory != 1) == isinstance(optimizer, NAdam)


@pytest.mark.parametrize("name", RULES)
def test_a_rule_of_the_table_says_what_its_numbers_may_be(name):
    rule = RULES[name]
    assert rule.n_states in (0, 1, 2)
    ranges = {"[0, 1]", "[0, 1)", ">= 0", "> 0"}
    assert set(rule.hyperparameters.values()) <= ranges
    kinds = [SGD(), SGD(momentum=0.5), SGD(momentum=0.5, nesterov=True)]
    kinds += [optimizers.get(other) for other in optimizers.BY_NAME]
    (first, *_) = [made for made in kinds if made.rule is rule]
    wrong = {"[0, 1]": 1.5, "[0, 1)": 1.0, ">= 0": -1.0, "> 0": 0.0}
    for parameter, allowed in rule.hyperparameters.items():
        with pytest.raises(ValueError, match=rf"^{parameter} must be "):
            dataclasses.replace(first, **{parameter: wrong[allowed]})


def test_optimizers_are_found_by_name():
    for optimizer in ALL:
        assert optimizers.get(optimizer.__name__.lower()) == optimizer()
    mine = Adam(0.5)
    assert optimizers.get(mine) is mine


@pytest.mark.parametrize("value", ["Adam", "", None, 1, Adam, ["adam"]], ids=repr)
def test_an_unknown_optimizer_is_named(value):
    names = "'sgd', 'rmsprop', 'adam', 'adamw', 'adagrad', 'nadam'"
    message = f"^optimizer must be one of {names} or an Optimizer, got "
    with pytest.raises(ValueError, match=message):
        optimizers.get(value)
