"""Check a toy addition in the copy of the package that `PYTHONPATH` names.

Started as a program by `tests/test_guides.py`, with the recipe as its argument.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import fastnn
from fastnn import SGD, Affine, Checkpoint, Sequential, Tanh, optimizers
from fastnn.cli import checks, settings
from fastnn.kernels.reference import updates as reference
from fastnn.training import Objective

N, I, O = 9, 3, 30  # columns of more than one panel in float64
STEP = 1e-6


def make_net(*layers):
    """Return a net with odd numbers for all parameters."""
    net = Sequential([Affine(I, O), *layers, Affine(O, 1)], seed=0, dtype="float64")
    net.params += np.random.default_rng(1).normal(0, 0.1, net.n_params)
    return net


def make_data():
    rng = np.random.default_rng(2)
    return rng.normal(size=(N, I)), rng.normal(size=N)


def gradient_by_layers(net, X, y):
    """Return the mean squared error, and its gradient by the layers' own methods."""
    error = net.forward(X, training=True)[:, 0] - y
    dx = net.backward(2 * error[:, None] / N)
    parts = [layer.grads[name].ravel() for layer in net.layers for name in layer.params]
    return (error**2).mean(), np.concatenate(parts), dx


def central_differences(net, array, X, y):
    """Return the derivatives of the loss with respect to the elements of an array in place."""
    flat, slopes = array.reshape(-1), np.empty(array.size)
    for k, value in enumerate(flat.copy()):
        flat[k] = value + STEP
        above = ((net.forward(X)[:, 0] - y) ** 2).mean()
        flat[k] = value - STEP
        below = ((net.forward(X)[:, 0] - y) ** 2).mean()
        flat[k] = value
        slopes[k] = (above - below) / (2 * STEP)
    return slopes.reshape(array.shape)


def compiled_gradient(net, X, y):
    """Return the loss and the gradient of the compiled step, in the order of `net.params`."""
    values = net.params.copy()
    objective = Objective(net, "mse", X, y)
    net.params[:] = np.arange(net.n_params)
    order = objective.parameters().astype(int)
    net.params[:] = values
    loss, gradient = objective(objective.parameters())
    ordered = np.empty_like(gradient)
    ordered[order] = gradient
    assert_array_equal(net.params, values)
    return loss, ordered


def check_net(net):
    """Check gradients, a compiled step, predictions and files of a net."""
    X, y = make_data()
    loss, gradient, dx = gradient_by_layers(net, X, y)
    assert_allclose(gradient, central_differences(net, net.params, X, y), rtol=1e-6, atol=1e-8)
    assert_allclose(dx, central_differences(net, X, X, y), rtol=1e-6, atol=1e-8)
    by_step = compiled_gradient(net, X, y)
    assert_allclose(by_step[0], loss, rtol=1e-12)
    assert_allclose(by_step[1], gradient, rtol=1e-11, atol=1e-14)

    expected = net.params - 0.1 * gradient
    history = net.fit(X, y, loss="mse", optimizer=SGD(0.1), epochs=1, batch_size=N)
    assert_allclose(net.params, expected, rtol=1e-12, atol=1e-14)
    history = net.fit(X, y, loss="mse", optimizer=SGD(0.02), epochs=30, batch_size=N)
    assert history["loss"][-1] < 0.9 * history["loss"][0]

    out = net.predict(X)
    assert_allclose(out, net.forward(X), rtol=1e-12)
    for row, result in zip(X, out, strict=True):
        assert_allclose(net.predict(row[None]), result[None], rtol=1e-12)
    check_file(net, X)


def check_file(net, X):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.safetensors"
        net.save(path)
        loaded = Sequential.load(path)
    assert repr(loaded) == repr(net)
    assert_array_equal(loaded.params, net.params)
    assert_array_equal(loaded.predict(X), net.predict(X))


def check_activation():
    layer = fastnn.HardSigmoid(0.25)
    assert repr(layer) == "HardSigmoid(slope=0.25)"
    check_net(make_net(layer))
    a, b = np.array([[1.0, 2.0]]), np.array([[3.0, 3.0], [-1.25, 5.0]])
    out = fastnn.matmul(a, b, activation="hard_sigmoid")
    assert_array_equal(out, [[0.75, 1.0]])  # of 0.5 and of 13, with the slope 0.5
    checks.check_choice("--activation", "hard_sigmoid", settings.ACTIVATIONS)
    assert type(settings.ACTIVATIONS["hard_sigmoid"]()) is fastnn.HardSigmoid


def check_optimizer():
    X, y = make_data()
    optimizer = fastnn.Signum(0.01, beta_1=0.75)
    net, by_hand = make_net(Tanh()), make_net(Tanh())
    state = np.zeros(net.n_params)
    losses = []
    for _ in range(4):
        loss, gradient, _ = gradient_by_layers(by_hand, X, y)
        losses.append(loss)
        reference.signum(by_hand.params, state, gradient, 0.01, 0.75)
    history = net.fit(X, y, loss="mse", optimizer=optimizer, epochs=4, batch_size=N)
    assert_allclose(history["loss"], losses, rtol=1e-12)
    assert_allclose(net.params, by_hand.params, rtol=1e-12, atol=1e-14)
    assert losses[-1] < losses[0]
    check_file(net, X)
    check_checkpoint(optimizer, X, y, net)

    assert optimizers.get("signum") == fastnn.Signum()
    named, given = make_net(Tanh()), make_net(Tanh())
    named.fit(X, y, loss="mse", optimizer="signum", epochs=2, batch_size=N)
    given.fit(X, y, loss="mse", optimizer=fastnn.Signum(), epochs=2, batch_size=N)
    assert_array_equal(named.params, given.params)
    checks.check_choice("--optimizer", "signum", settings.OPTIMIZERS)
    with pytest.raises(ValueError, match=r"^beta_1 must be a number in \[0, 1\), got 1.0$"):
        fastnn.Signum(beta_1=1.0)


def check_checkpoint(optimizer, X, y, expected):
    """Check that a resumed training ends as the one without interruption that is given."""
    with tempfile.TemporaryDirectory() as folder:
        for epochs in (2, 4):
            net = make_net(Tanh())
            checkpoint = Checkpoint(Path(folder) / "net.safetensors", resume=True)
            arguments = {"loss": "mse", "optimizer": optimizer, "batch_size": N}
            net.fit(X, y, epochs=epochs, callbacks=[checkpoint], **arguments)
    assert checkpoint.resumed_at == 2
    assert_array_equal(net.params, expected.params)


def check_layer():
    layer = fastnn.Scale(O)
    assert repr(layer) == "Scale(n_features=30)"
    assert_array_equal(layer.params["s"], np.ones(O))
    check_net(make_net(layer, Tanh()))


if __name__ == "__main__":
    copy, recipe = sys.argv[1:]
    assert Path(fastnn.__file__).is_relative_to(copy), fastnn.__file__
    {"activation": check_activation, "optimizer": check_optimizer, "layer": check_layer}[recipe]()
