"""Twenty steps of a small net beside the same steps of PyTorch, in float64."""

import numpy as np
import pytest

from fastnn import (
    SGD,
    AdaGrad,
    Adam,
    AdamW,
    Affine,
    NAdam,
    Regularization,
    RMSProp,
    Sequential,
    Tanh,
)

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peers

BATCH_SIZE, EPOCHS, N_SAMPLES = 10, 4, 50  # twenty steps

# PyTorch adds Adam's epsilon after v has been corrected, we before: without it both are one.
NO_EPSILON = 1e-30


@pytest.fixture(autouse=True)
def in_float64():
    """Let PyTorch count in float64: NAdam keeps the product of its momenta in the default type."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def make_data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(N_SAMPLES, 7)), rng.integers(0, 3, N_SAMPLES)


def make_net():
    net = Sequential([Affine(7, 9), Tanh(), Affine(9, 3)], seed=0, dtype="float64")
    net.params[...] = np.random.default_rng(1).normal(0, 0.5, net.n_params)
    return net


def limit_norm(parameters, limit):
    """Let PyTorch clip the norm.

    It divides by the norm plus 1e-6: the limit is raised by as much.
    """
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters])
    torch.nn.utils.clip_grad_norm_(parameters, limit * (norm + 1e-6) / norm)


def train_by_torch(make_optimizer, clip_value=None, clip_norm=None):
    """Return the parameters in our order; the optimizer gets weights and biases apart."""
    net = make_net()
    layers = [torch.nn.Linear(7, 9), torch.nn.Linear(9, 3)]
    with torch.no_grad():
        for layer, (w, b) in zip(layers, net.weights(), strict=True):
            layer.weight.copy_(torch.from_numpy(w.T.copy()))
            layer.bias.copy_(torch.from_numpy(b.copy()))
    model = torch.nn.Sequential(layers[0], torch.nn.Tanh(), layers[1])
    optimizer = make_optimizer([x.weight for x in layers], [x.bias for x in layers])
    X, y = map(torch.from_numpy, make_data())
    for _ in range(EPOCHS):
        for start in range(0, N_SAMPLES, BATCH_SIZE):
            rows = slice(start, start + BATCH_SIZE)
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(X[rows]), y[rows]).backward()
            if clip_value is not None:
                torch.nn.utils.clip_grad_value_(model.parameters(), clip_value)
            if clip_norm is not None:
                limit_norm(list(model.parameters()), clip_norm)
            optimizer.step()
    return [(x.weight.detach().numpy().T, x.bias.detach().numpy()) for x in layers]


def assert_same_steps(optimizer, make_optimizer, regularization=None, **limits):
    net, (X, y) = make_net(), make_data()
    net.fit(X, y, epochs=EPOCHS, batch_size=BATCH_SIZE, optimizer=optimizer, shuffle=False,
            regularization=regularization)  # fmt: skip
    expected = train_by_torch(make_optimizer, **limits)
    for (w, b), (w_expected, b_expected) in zip(net.weights(), expected, strict=True):
        np.testing.assert_allclose(w, w_expected, rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(b, b_expected, rtol=1e-10, atol=1e-10)


OPTIMIZERS = {
    "sgd": (SGD(0.1), lambda p: torch.optim.SGD(p, 0.1)),
    "momentum": (SGD(0.1, momentum=0.9), lambda p: torch.optim.SGD(p, 0.1, momentum=0.9)),
    "nesterov": (
        SGD(0.1, momentum=0.9, nesterov=True),
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True),
    ),
    "rmsprop": (RMSProp(0.01, 0.9, 1e-7), lambda p: torch.optim.RMSprop(p, 0.01, 0.9, 1e-7)),
    "adagrad": (AdaGrad(0.1, 1e-10), lambda p: torch.optim.Adagrad(p, 0.1, eps=1e-10)),
    "adam": (Adam(0.01, epsilon=NO_EPSILON), lambda p: torch.optim.Adam(p, 0.01, eps=NO_EPSILON)),
    "nadam": (NAdam(0.01, epsilon=1e-8), lambda p: torch.optim.NAdam(p, 0.01, eps=1e-8)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_makes_the_steps_of_torch(name):
    ours, theirs = OPTIMIZERS[name]
    assert_same_steps(ours, lambda weights, biases: theirs([*weights, *biases]))


@pytest.mark.parametrize("ours", [AdamW, Adam], ids=lambda c: c.__name__)
def test_the_decay_of_the_weights_is_that_of_torch(ours):
    rule = None if ours is AdamW else Regularization(weight_decay=0.5)
    more = {"weight_decay": 0.5} if ours is AdamW else {}
    assert_same_steps(
        ours(0.01, epsilon=NO_EPSILON, **more),
        lambda weights, biases: torch.optim.AdamW(
            [{"params": weights}, {"params": biases, "weight_decay": 0.0}],
            0.01,
            eps=NO_EPSILON,
            weight_decay=0.5,
        ),
        regularization=rule,
    )


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_l2_penalty_is_what_torch_calls_weight_decay(optimizer):
    ours, theirs = OPTIMIZERS[optimizer]

    def make(weights, biases):
        optimizer = theirs([*weights, *biases])
        kind, defaults = type(optimizer), optimizer.defaults | {"weight_decay": 0.5}
        groups = [{"params": weights}, {"params": biases, "weight_decay": 0.0}]
        return kind(groups, **defaults)

    assert_same_steps(ours, make, regularization=Regularization(l2=0.5))


@pytest.mark.parametrize(
    "limits",
    [{"clip_value": 0.02}, {"clip_norm": 0.25}, {"clip_value": 0.05, "clip_norm": 0.25}],
    ids=lambda limits: "+".join(limits),
)
def test_limits_of_the_gradient_are_those_of_torch(limits):
    assert_same_steps(
        SGD(0.5, momentum=0.5, **limits),
        lambda weights, biases: torch.optim.SGD([*weights, *biases], 0.5, momentum=0.5),
        **limits,
    )
