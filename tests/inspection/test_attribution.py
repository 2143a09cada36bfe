"""Saliency and integrated gradients: closed forms, central differences, completeness."""

import numpy as np
import pytest

from fastnn import Affine, LeakyReLU, ReLU, Sequential, Sigmoid, Softmax, Step, Tanh
from fastnn.inspection import integrated_gradients, saliency


def make_net(activation, dtype="float64", seed=0):
    layers = [Affine(12, 40), activation(), Affine(40, 24), activation(), Affine(24, 5)]
    net = Sequential(layers, seed=seed, dtype=dtype)
    net.params[...] += np.random.default_rng(seed).normal(size=net.n_params) * 0.2  # biases, too
    return net


@pytest.fixture
def linear():
    net = Sequential([Affine(4, 3)], seed=0, dtype="float64")
    return net, net.layers[0].params["w"]


def test_the_saliency_of_a_linear_net_is_its_weights(linear, rng):
    net, w = linear
    X = rng.normal(size=(6, 4))
    chosen = np.array([0, 1, 2, 2, 1, 0])
    np.testing.assert_array_equal(saliency(net, X, chosen, signed=True), w[:, chosen].T)
    np.testing.assert_array_equal(saliency(net, X, 1), np.abs(w[:, [1] * 6]).T)


def test_the_largest_output_is_the_default(linear, rng):
    net, w = linear
    X = rng.normal(size=(6, 4))
    largest = net.predict(X).argmax(axis=1)
    np.testing.assert_array_equal(saliency(net, X), np.abs(w[:, largest]).T)
    found = integrated_gradients(net, X)
    np.testing.assert_allclose(found.attributions, X * w[:, largest].T, rtol=1e-12)


@pytest.mark.parametrize("end", [[], [Softmax()], [Sigmoid()]])
@pytest.mark.parametrize("activation", [Tanh, Sigmoid, LeakyReLU, ReLU])
def test_the_saliency_is_the_central_difference(activation, end, rng):
    net = Sequential(
        [Affine(4, 8, seed=1, dtype="float64"), activation(), Affine(8, 3), *end],
        seed=0,
        dtype="float64",
    )
    X, h = rng.normal(size=(3, 4)), 1e-6
    numeric = np.stack(
        [(net.predict(X + step) - net.predict(X - step))[:, 2] / (2 * h) for step in h * np.eye(4)],
        axis=1,
    )
    np.testing.assert_allclose(saliency(net, X, 2, signed=True), numeric, rtol=1e-6, atol=1e-9)


def test_the_gradients_of_many_rows_are_those_of_each(rng):
    net = make_net(Tanh)
    X = rng.normal(size=(5000, 12))
    rows = [0, 4095, 4096, 4999]
    np.testing.assert_allclose(saliency(net, X, 1)[rows], saliency(net, X[rows], 1), rtol=1e-12)


def test_the_integrated_gradients_of_a_linear_net_are_weights_times_inputs(linear, rng):
    net, w = linear
    X, baseline = rng.normal(size=(6, 4)), rng.normal(size=4)
    found = integrated_gradients(net, X, baseline, 1)
    np.testing.assert_allclose(found.attributions, (X - baseline) * w[:, 1], rtol=1e-12)
    np.testing.assert_allclose(found.gap, 0, atol=1e-13)
    assert found.steps == 64


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", [ReLU, Tanh, Sigmoid])
@pytest.mark.parametrize("baseline", [0.0, -1.5, "rows"])
def test_the_attributions_sum_to_the_change_of_the_output(activation, dtype, baseline, rng):
    net = make_net(activation, dtype)
    X = 3 * rng.normal(size=(10, 12)).astype(dtype)
    baseline = rng.normal(size=X.shape).astype(dtype) if baseline == "rows" else baseline
    output = np.arange(10) % 5
    found = integrated_gradients(net, X, baseline, output)
    rows = np.arange(10)
    at_end = net.predict(X)[rows, output].astype(np.float64)
    at_start = net.predict(np.broadcast_to(np.asarray(baseline, dtype), X.shape))[rows, output]
    allowed = 1e-3 * np.maximum(np.abs(at_end), np.abs(at_start))
    gap = found.attributions.sum(axis=1) - (at_end - at_start.astype(np.float64))
    assert (np.abs(gap) <= allowed).all()
    np.testing.assert_allclose(found.gap, gap, atol=1e-12)
    assert found.attributions.dtype == np.float64


def test_steps_are_doubled_until_the_tolerance_is_met(rng):
    net, X = make_net(Tanh), 3 * rng.normal(size=(4, 12))
    exact = integrated_gradients(net, X, output=0, steps=2048, tolerance=1)
    rough = integrated_gradients(net, X, output=0, steps=2, tolerance=10)
    fine = integrated_gradients(net, X, output=0, steps=2, tolerance=1e-3)
    assert (exact.steps, rough.steps) == (2048, 2)
    assert 2 < fine.steps <= 512
    assert np.abs(fine.gap).max() < np.abs(rough.gap).max()
    np.testing.assert_allclose(fine.attributions, exact.attributions, atol=0.1)
    np.testing.assert_allclose(exact.gap, 0, atol=1e-5)


def test_an_input_that_does_not_matter_gets_nothing(rng):
    net = make_net(ReLU)
    net.layers[0].params["w"][3] = 0
    X = rng.normal(size=(4, 12))
    found = integrated_gradients(net, X)
    assert (found.attributions[:, 3] == 0).all()
    assert (saliency(net, X)[:, 3] == 0).all()


def test_the_baseline_itself_has_no_attributions(rng):
    X = rng.normal(size=(2, 12))
    found = integrated_gradients(make_net(ReLU), X, X)
    assert not found.attributions.any()
    assert not found.gap.any()


def test_a_net_with_jumps_is_warned_of():
    net = Sequential([Affine(1, 1, bias=False), Step()], seed=0, dtype="float64")
    net.layers[0].params["w"][...] = 1
    with pytest.warns(RuntimeWarning, match="attributions of 1 of 2 samples miss .* worst by 1$"):
        found = integrated_gradients(net, [[1.0], [-1.0]], steps=1)
    assert found.gap.tolist() == [-1, 0]


@pytest.mark.parametrize("explain", [saliency, integrated_gradients])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"X": np.zeros((0, 4))}, "X must have at least 1 row, got 0"),
        ({"X": np.zeros(4)}, r"X must have 2 dimensions \(rows, columns\), got 1; reshape it to"),
        ({"X": [[np.inf, 0, 0, 0]]}, r"X must be finite, got inf at X\[0, 0\]"),
        ({"output": 3}, "output must be from 0 to 2, got 3"),
        ({"output": [0, -1]}, "output must be from 0 to 2, got -1"),
        ({"output": [0]}, r"output must be None, an integer or 2 integers, got \[0\]"),
        ({"output": 1.0}, "output must be None, an integer or 2 integers, got 1.0"),
        ({"net": None}, "net must be a Sequential or a fitted estimator of fastnn, got None"),
    ],
)
def test_wrong_arguments_are_named(explain, options, message):
    net = Sequential([Affine(4, 3)], seed=0)
    with pytest.raises(ValueError, match=f"^{message}"):
        explain(**({"net": net, "X": np.zeros((2, 4))} | options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"baseline": [1.0]}, r"baseline must be a number, or numbers of shape \(4,\) or \(2, 4\)"),
        ({"baseline": np.nan}, "baseline must be finite, got nan"),
        ({"baseline": "black"}, "baseline must be a number, or numbers of shape"),
        ({"steps": 0}, "steps must be an integer >= 1, got 0"),
        ({"tolerance": -1}, "tolerance must be a finite number >= 0, got -1"),
    ],
)
def test_wrong_arguments_of_integrated_gradients_are_named(options, message):
    net = Sequential([Affine(4, 3)], seed=0)
    with pytest.raises(ValueError, match=f"^{message}"):
        integrated_gradients(net, np.zeros((2, 4)), **options)
