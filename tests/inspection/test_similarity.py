"""The dot product as similarity."""

import numpy as np
import pytest

from fastnn import Affine, ReLU
from fastnn.inspection import alignment, plot_alignment


def test_same_direction_orthogonal_and_opposite_are_told_apart():
    x = np.array([3.0, 4.0])
    W = np.array([[6.0, -4.0, -3.0], [8.0, 3.0, -4.0]])
    result = alignment(x, W)
    assert result.dot.tolist() == [50, 0, -25]
    np.testing.assert_allclose(result.cosine, [1, 0, -1], atol=1e-15)
    np.testing.assert_allclose(result.angle, [0, 90, 180], atol=2e-6)


def test_the_cosine_and_the_angle_follow_the_definition(rng):
    x, W = rng.normal(size=(5, 7)), rng.normal(size=(7, 4))
    result = alignment(x, W)
    lengths = np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(W, axis=0)
    np.testing.assert_allclose(result.dot, x @ W, rtol=1e-12)
    np.testing.assert_allclose(result.cosine, x @ W / lengths, rtol=1e-12)
    np.testing.assert_allclose(np.cos(np.radians(result.angle)), result.cosine, atol=1e-12)
    assert all(part.shape == (5, 4) for part in result)


def test_one_input_gives_the_same_numbers_as_in_a_batch(rng):
    x, W = rng.normal(size=(5, 7)), rng.normal(size=(7, 4))
    for one, batch in zip(alignment(x[2], W), alignment(x, W), strict=True):
        assert one.tolist() == batch[2].tolist()


def test_a_layer_stands_for_its_weights():
    layer = Affine(3, 2, seed=0)
    x = np.array([1, 2, 3])
    np.testing.assert_array_equal(alignment(x, layer).dot, alignment(x, layer.params["w"]).dot)


@pytest.mark.parametrize("scale", [1e-300, 1e-200, 1e200])
def test_the_angle_does_not_depend_on_lengths(scale):
    result = alignment([scale, scale], [[scale], [0.0]])
    np.testing.assert_allclose(result.angle, 45, rtol=1e-12)


def test_a_zero_vector_has_no_direction():
    result = alignment([[0.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [1.0, 0.0]])
    assert result.dot.tolist() == [[0, 0], [1, 0]]
    assert np.isnan(result.cosine).tolist() == [[True, True], [False, True]]
    assert np.isnan(result.angle).tolist() == [[True, True], [False, True]]


@pytest.mark.parametrize(
    ("x", "W", "message"),
    [
        ([1.0, 2.0], [[1.0]], "x must have 1 columns, got 2"),
        ([np.nan], [[1.0]], r"x must be finite, got nan at x\[0, 0\]"),
        ([1.0], [1.0], r"W must have rows and columns, got shape \(1,\)"),
        ([1.0], [["a"]], "W must be numeric, got dtype <U1"),
        ([1.0], ReLU(), r"W must be weights or a layer with some, got ReLU\(\)"),
    ],
)
def test_wrong_arguments_are_named(x, W, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        alignment(x, W)


def test_the_picture_has_an_arrow_and_a_text_for_the_input_and_each_neuron(ax):
    result = plot_alignment([1.0, 1.0], [[2.0, 1.0, 0.0], [2.0, -1.0, 0.0]], ax)
    assert result.dot.tolist() == [4, 0, 0]
    texts = [text.get_text() for text in ax.texts if text.get_text()]
    assert texts == ["0°\ndot 4", "90°\ndot 0", "no direction\ndot 0", "input"]
    assert sum(text.arrow_patch is not None for text in ax.texts) == 4


def test_only_two_inputs_can_be_drawn(ax):
    with pytest.raises(ValueError, match="x and W must have two inputs to be drawn, got shapes"):
        plot_alignment([1.0, 1.0, 1.0], np.ones((3, 2)), ax)
