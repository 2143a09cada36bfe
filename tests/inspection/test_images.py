"""Weights as images, and images in a grid."""

import numpy as np
import pytest

from fastnn import Affine, Tanh
from fastnn.inspection import plot_images, weights_as_images


def test_each_neuron_becomes_an_image_of_its_weights():
    layer = Affine(6, 4, seed=0)
    images = weights_as_images(layer, (2, 3))
    assert images.shape == (4, 2, 3)
    for k in range(4):
        np.testing.assert_array_equal(images[k].ravel(), layer.params["w"][:, k])
    np.testing.assert_array_equal(weights_as_images(layer.params["w"], (2, 3)), images)


def test_the_images_do_not_share_memory_with_the_weights():
    layer = Affine(6, 1, seed=0)
    before = layer.params["w"].copy()
    weights_as_images(layer, (2, 3))[...] = 0
    np.testing.assert_array_equal(layer.params["w"], before)


def test_the_colours_are_symmetric_around_zero(ax):
    images = np.array([[[1.0, -4.0]], [[2.0, 0.0]], [[0.0, 0.0]]])
    mosaic = plot_images(images, ax, n_columns=2)
    nan = np.nan
    np.testing.assert_array_equal(
        mosaic, [[0.25, -1, nan, 0.5, 0], [nan] * 5, [0, 0, nan, nan, nan]]
    )
    assert len(ax.images) == 1
    assert ax.images[0].get_clim() == (-1, 1)


def test_each_image_may_have_its_own_scale(ax):
    images = np.array([[[1.0, -4.0]], [[2.0, 0.0]], [[0.0, 0.0]]])
    mosaic = plot_images(images, ax, n_columns=3, shared_scale=False)
    np.testing.assert_array_equal(mosaic[0, [0, 1, 3, 4, 6, 7]], [0.25, -1, 1, 0, 0, 0])


def test_unsigned_images_go_from_zero_to_one(ax):
    mosaic = plot_images(np.array([[[3, 5], [7, 11]]]), ax, signed=False)
    np.testing.assert_array_equal(mosaic, [[0, 0.25], [0.5, 1]])
    assert ax.images[0].get_clim() == (0, 1)


def test_titles_stand_above_their_images(ax):
    mosaic = plot_images(np.ones((3, 10, 10)), ax, titles=[7, "b", "c"], n_columns=2)
    assert [text.get_text() for text in ax.texts] == ["7", "b", "c"]
    assert ax.texts[2].get_position()[1] > ax.texts[0].get_position()[1]  # the y axis goes down
    assert mosaic.shape == (24, 21)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda ax: weights_as_images(Tanh(), (1, 1)),
            "layer_or_w must be weights or a layer with",
        ),
        (lambda ax: weights_as_images(np.ones((4, 2)), (2, 3)), "image_shape must have 4 pixels"),
        (lambda ax: weights_as_images(np.ones((4, 2)), (-2, -2)), r"image_shape\[0\] must be an"),
        (lambda ax: plot_images(np.ones((2, 2)), ax), r"images must be numbers of the shape \(N,"),
        (lambda ax: plot_images(np.full((1, 2, 2), np.inf), ax), "images must be finite, got inf"),
        (lambda ax: plot_images(np.ones((1, 2, 2)), ax, titles=[]), "titles must have 1 entries"),
        (lambda ax: plot_images(np.ones((1, 2, 2)), ax, n_columns=0), "n_columns must be an int"),
        (lambda ax: plot_images(np.ones((1, 2, 2)), "ax"), "ax must be a matplotlib Axes"),
    ],
)
def test_wrong_arguments_are_named(ax, call, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        call(ax)
