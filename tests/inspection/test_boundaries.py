"""Where a net with two inputs changes its answer."""

import numpy as np
import pytest

from fastnn import Affine, Sequential, Sigmoid, Softmax, Step
from fastnn.inspection import decision_grid, plot_decision_boundary

X = np.array([[0.0, -1.0], [1.0, 1.0], [0.5, 0.5]])


def linear_net(n_outputs, *end):
    """Return a net whose outputs are the first input, the second, and zero."""
    net = Sequential([Affine(2, n_outputs), *end], dtype="float64")
    net.layers[0].params["w"][...] = np.eye(2, 3)[:, :n_outputs]
    return net


def test_the_grid_covers_the_data_and_a_margin():
    points = decision_grid(linear_net(1), X, n_points=5).points
    assert points.shape == (5, 5, 2)
    np.testing.assert_allclose(points[0, 0], [-0.15, -1.3])
    np.testing.assert_allclose(points[-1, -1], [1.15, 1.3])
    assert (np.ptp(points[..., 0], axis=0) == 0).all()  # the first input goes along the columns


def test_one_output_decides_between_two_classes():
    grid = decision_grid(linear_net(1), X, n_points=6)
    np.testing.assert_array_equal(grid.predictions, grid.points[..., 0] > 0)
    sigmoid = 1 / (1 + np.exp(-grid.points[..., 0]))
    np.testing.assert_allclose(grid.probabilities[..., 1], sigmoid, rtol=1e-12)
    again = decision_grid(linear_net(1, Sigmoid()), X, n_points=6)
    np.testing.assert_allclose(again.probabilities, grid.probabilities, rtol=1e-12)
    perceptron = decision_grid(linear_net(1, Step()), X, n_points=6)
    np.testing.assert_array_equal(perceptron.predictions, grid.predictions)


def test_the_largest_of_many_outputs_is_the_class():
    grid = decision_grid(linear_net(3), X, n_points=6)
    outputs = np.concatenate([grid.points, np.zeros((6, 6, 1))], axis=-1)
    np.testing.assert_array_equal(grid.predictions, outputs.argmax(axis=-1))
    np.testing.assert_allclose(grid.probabilities.sum(axis=-1), 1, rtol=1e-12)
    again = decision_grid(linear_net(3, Softmax()), X, n_points=6)
    np.testing.assert_allclose(again.probabilities, grid.probabilities, rtol=1e-12)


def test_data_on_a_line_or_in_one_point_have_a_grid():
    for data in ([[1.0, 2.0]], [[1.0, 2.0], [1.0, 3.0]]):
        points = decision_grid(linear_net(1), data, n_points=3).points
        assert (np.ptp(points, axis=(0, 1)) > 0).all()


@pytest.mark.parametrize(("n_outputs", "n_lines"), [(1, 1), (2, 1), (3, 3)])
def test_the_picture_has_the_plane_the_lines_and_the_data(ax, n_outputs, n_lines):
    X = np.array([[-2.0, -2.0], [2.0, 2.0], [1.0, -1.0]])
    grid = plot_decision_boundary(linear_net(n_outputs), X, [0, 1, 1], ax, n_points=30)
    assert grid.predictions.shape == (30, 30)
    assert len(ax.images) == 1
    *lines, data = ax.collections
    assert len(lines) == n_lines
    assert len(data.get_offsets()) == 3


def test_a_net_that_never_changes_its_answer_has_no_line(ax):
    net = linear_net(1)
    net.layers[0].params["b"][...] = 100
    plot_decision_boundary(net, X, [1, 1, 1], ax, n_points=10)
    assert len(ax.collections) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"net": Sequential([Affine(3, 2)])}, "net must have 2 inputs, got 3"),
        ({"y": [0, 1]}, r"y must have 3 rows as X has, got shape \(2,\)"),
        ({"y": [0, 1, 2]}, "y must hold classes from 0 to 1 for 2 outputs, got 2"),
        ({"y": np.eye(3)[:, :2]}, r"y must have the shape \(3,\), got \(3, 2\)"),
        ({"n_points": 1}, "n_points must be an integer >= 2, got 1"),
        ({"ax": 1}, "ax must be a matplotlib Axes or None, got 1"),
    ],
)
def test_wrong_arguments_are_named(ax, options, message):
    arguments = {"net": linear_net(1), "X": X, "y": [0, 1, 1], "ax": ax} | options
    with pytest.raises(ValueError, match=f"^{message}"):
        plot_decision_boundary(**arguments)
