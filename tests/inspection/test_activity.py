"""What each layer says, and the picture of a net at work."""

import numpy as np
import pytest

from fastnn import Affine, Identity, ReLU, Sequential, Tanh
from fastnn.inspection import activations, plot_activations


class Scale(Identity):
    """A layer whose parameters have other names than those of an affine layer."""

    def __init__(self, n):
        super().__init__()
        self._params = {"gamma": np.ones(n)}

    @property
    def params(self):
        return self._params


def make_net(n_inputs=64, layers=()):
    return Sequential(
        [Affine(n_inputs, 16), ReLU(), *layers, Affine(16, 16), Tanh(), Affine(16, 10)], seed=0
    )


def test_activations_are_the_outputs_of_the_layers_one_by_one(rng):
    net, X = make_net(5), rng.normal(size=(3, 5)).astype(np.float32)
    found = activations(net, X)
    assert [name for name, _ in found] == ["0 Affine", "1 ReLU", "2 Affine", "3 Tanh", "4 Affine"]
    out = X
    for layer, (_, said) in zip(net.layers, found, strict=True):
        out = layer.forward(out)
        np.testing.assert_array_equal(said, out)
    np.testing.assert_allclose(found[-1][1], net.predict(X), rtol=1e-5, atol=1e-6)


def test_what_was_returned_does_not_change_with_the_next_call(rng):
    net, X = make_net(5), rng.normal(size=(3, 5))
    found = activations(net, X)
    before = [out.copy() for _, out in found]
    activations(net, -X)
    for (_, out), copy in zip(found, before, strict=True):
        np.testing.assert_array_equal(out, copy)


def test_the_picture_has_an_image_a_column_for_each_layer_and_all_labels(ax, rng):
    net = make_net()
    x = rng.uniform(0, 1, 64)
    found = plot_activations(net, x, ax, image_shape=(8, 8), n_connections=20)
    for (_, drawn), (_, out) in zip(found, activations(net, x[None]), strict=True):
        np.testing.assert_array_equal(drawn, out)
    assert len(ax.images) == 1
    neurons, lines = by_kind(ax)
    assert [len(part.get_offsets()) for part in neurons] == [16, 16, 10]
    assert [len(part.get_segments()) for part in lines] == [20, 20, 20]
    texts = [text.get_text() for text in ax.texts]
    assert texts[:10] == list("0123456789")
    assert texts[10:] == ["64\ninputs", "16\nReLU", "16\nTanh", "10\noutputs"]


def by_kind(ax):
    neurons = [part for part in ax.collections if hasattr(part, "get_widths")]
    lines = [part for part in ax.collections if hasattr(part, "get_segments")]
    assert len(neurons) + len(lines) == len(ax.collections)
    return neurons, lines


def test_brightness_is_the_share_of_the_largest_output_of_the_column(ax):
    net = Sequential([Affine(3, 3), Affine(3, 2)], dtype="float64")
    net.layers[0].params["w"][...] = np.eye(3)
    net.layers[1].params["w"][...] = [[1, 0], [0, -1], [0, 0]]
    plot_activations(net, [2.0, -1.0, 1.0], ax, labels=["yes", "no"])
    neurons, lines = by_kind(ax)
    grey = [part.get_facecolors()[:, 0].tolist() for part in neurons]
    assert grey == [[1, 0, 0.5], [1, 0, 0.5], [1, 0.5]]
    assert [len(part.get_segments()) for part in lines] == [3, 2]  # the terms that are not zero
    red, green, blue, _ = lines[0].get_colors()[-1]  # the strongest, 2 * 1: positive is blue
    assert blue > green > red


def test_a_wide_layer_is_cut_and_a_dead_net_is_black(ax):
    net = Sequential([Affine(100, 50), ReLU(), Affine(50, 1)], seed=0)
    plot_activations(net, np.zeros(100), ax, max_neurons=9)
    neurons, lines = by_kind(ax)
    assert [len(part.get_offsets()) for part in neurons] == [9, 9, 1]
    assert all((part.get_facecolors()[:, :3] == 0).all() for part in neurons)
    assert all(len(part.get_segments()) == 0 for part in lines)
    assert len(ax.lines) == 2  # the dots
    assert [text.get_text() for text in ax.texts[1:]] == ["100\ninputs", "50\nReLU", "1\noutputs"]


def test_a_layer_of_another_kind_is_passed_through(ax, rng):
    net = make_net(layers=[Scale(16)])
    found = plot_activations(net, rng.normal(size=64), ax)
    assert found[2][0] == "2 Scale"
    assert "16\nScale" in [text.get_text() for text in ax.texts]
    neurons, lines = by_kind(ax)
    assert len(neurons) == 4
    assert len(lines) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_shape": (8, 9)}, "image_shape must have 64 pixels, got 8 x 9 = 72"),
        ({"image_shape": 8}, r"image_shape must be \(height, width\), got 8"),
        ({"labels": "ab"}, "labels must have 10 entries, got 2"),
        ({"n_connections": -1}, "n_connections must be an integer >= 0, got -1"),
        ({"max_neurons": 1}, "max_neurons must be an integer >= 2, got 1"),
        ({"x": np.zeros((2, 64))}, "x must be one input, got 2 rows"),
        ({"x": np.zeros(63)}, "x must have 64 columns, got 63"),
        ({"ax": "ax"}, "ax must be a matplotlib Axes or None, got 'ax'"),
        ({"net": "a net"}, "net must be a Sequential or a fitted estimator of fastnn, got 'a net'"),
    ],
)
def test_wrong_arguments_are_named(ax, options, message):
    arguments = {"net": make_net(), "x": np.zeros(64), "ax": ax} | options
    with pytest.raises(ValueError, match=f"^{message}$"):
        plot_activations(**arguments)
    assert not ax.has_data()
