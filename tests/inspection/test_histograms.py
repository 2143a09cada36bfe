"""Histograms of weights and gradients while a net is trained."""

import numpy as np
import pytest

from fastnn import Affine, Identity, ReLU, Sequential, Sigmoid, Tanh
from fastnn.inspection import Histograms
from fastnn.inspection.histograms import _histogram, _LossGradient
from fastnn.training import Objective


class Scale(Identity):
    """A layer whose parameters have other names than those of an affine layer."""

    def __init__(self, n):
        super().__init__()
        self._params = {"gamma": np.ones(n)}

    @property
    def params(self):
        return self._params

    def forward(self, x, training=False):
        self._out = super().forward(x, training)
        return self._out

    def backward(self, dout):
        self.grads = {"gamma": (dout * self._out).sum(axis=0)}
        return dout


def make_net(dtype="float64"):
    return Sequential([Affine(4, 6), Tanh(), Affine(6, 3)], seed=0, dtype=dtype)


def make_data(n=600):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 4)), rng.integers(0, 3, n)


def test_there_is_a_histogram_of_everything_before_and_after_each_epoch():
    X, y = make_data()
    histograms = Histograms(X, y, bins=20)
    net = make_net()
    start = net.params.copy()
    net.fit(X, y, epochs=3, callbacks=[histograms])
    names = ["0 Affine.w", "0 Affine.b", "2 Affine.w", "2 Affine.b"]
    for kind in (histograms.values, histograms.gradients):
        assert list(kind) == names
        assert [len(found) for found in kind.values()] == [4] * 4
        for found, layer_size in zip(kind.values(), (24, 6, 18, 3), strict=True):
            assert all(part.counts.sum() == layer_size for part in found)
            assert all(len(part.edges) == 21 for part in found)
    first, last = histograms.values["0 Affine.w"][0], histograms.values["0 Affine.w"][-1]
    assert first.edges[[0, -1]].tolist() == [start[:24].min(), start[:24].max()]
    w = net.layers[0].params["w"]
    assert last.edges[[0, -1]].tolist() == [w.min(), w.max()]


def test_it_does_not_disturb_the_training():
    X, y = make_data(100)
    watched, alone = make_net("float32"), make_net("float32")
    watched.fit(X, y, epochs=3, callbacks=[Histograms(X[:20], y[:20])])
    alone.fit(X, y, epochs=3)
    np.testing.assert_array_equal(watched.params, alone.params)


@pytest.mark.parametrize("n", [5, 256, 600])
@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "binary_cross_entropy", "mse"])
def test_the_gradients_are_those_of_the_mean_loss(loss, n):
    X, y = make_data(n)
    y = y if loss == "softmax_cross_entropy" else np.eye(3)[y]
    net = make_net()
    net.backward(_LossGradient(loss, y, n, net)(net.forward(X)))
    ours = [layer.grads[name] for name in "wb" for layer in (net.layers[0], net.layers[2])]
    objective = Objective(net, loss, X, y)
    _, theirs = objective(objective.parameters())
    np.testing.assert_allclose(np.concatenate([part.ravel() for part in ours]), theirs, atol=1e-14)


def test_the_gradients_of_a_net_that_ends_in_an_activation_are_known():
    net = Sequential([Affine(4, 2), Sigmoid()], seed=0, dtype="float64")
    X, y = make_data(10)
    targets = np.eye(3)[y][:, :2]
    slopes = _LossGradient("mse", targets, 10, net)(net.forward(X))
    np.testing.assert_allclose(slopes, (net.predict(X) - targets) / 10, rtol=1e-10)


def test_layers_of_other_kinds_are_watched_under_the_names_of_their_parameters():
    X, y = make_data(30)
    net = Sequential([Affine(4, 6), Scale(6), ReLU(), Affine(6, 3)], seed=0)
    histograms = Histograms(X, y)
    net.fit(X, y, epochs=1, callbacks=[histograms])
    assert "1 Scale.gamma" in histograms.values
    assert histograms.gradients["1 Scale.gamma"][1].counts.sum() == 6


def test_equal_and_infinite_values_have_a_histogram():
    assert _histogram(np.zeros(5), 4).counts.sum() == 5
    assert _histogram(np.full(5, 1e30), 50).counts.sum() == 5
    assert _histogram(np.array([1, np.nan, np.inf, 2]), 4).counts.sum() == 2
    assert _histogram(np.full(3, np.nan), 4).counts.sum() == 0


def test_a_second_fit_begins_anew():
    X, y = make_data(30)
    histograms, net = Histograms(X, y), make_net()
    for epochs in (3, 2):
        net.fit(X, y, epochs=epochs, callbacks=[histograms])
    assert len(histograms.values["0 Affine.w"]) == 3


@pytest.mark.parametrize("gradients", [False, True])
def test_the_picture_has_a_ridge_for_each_epoch(ax, gradients):
    X, y = make_data(30)
    histograms = Histograms(X, y)
    make_net().fit(X, y, epochs=5, callbacks=[histograms])
    drawn = histograms.plot("2 Affine.w", ax, gradients=gradients)
    kind = histograms.gradients if gradients else histograms.values
    assert drawn == kind["2 Affine.w"]
    assert len(ax.collections) == len(drawn) == 6


def test_wrong_arguments_are_named(ax):
    X, y = make_data(30)
    with pytest.raises(ValueError, match="bins must be an integer >= 1, got 0"):
        Histograms(X, y, bins=0)
    with pytest.raises(ValueError, match=r"name must be a parameter \(none before the training\)"):
        Histograms(X, y).plot("0 Affine.w", ax)
    for wrong, message in [
        (Histograms(X[:, :3], y), "X must have 4 columns, got 3"),
        (Histograms(X, y[:20]), "y must have 30 rows as X has, got 20"),
        (Histograms(X, y, "log"), "loss must be one of"),
    ]:
        with pytest.raises(ValueError, match=message):
            make_net().fit(X, y, callbacks=[wrong])
