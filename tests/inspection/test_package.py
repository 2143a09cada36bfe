"""What holds for the whole package."""

import inspect
import os
import subprocess
import sys

import numpy as np
import pytest

from fastnn import Affine, ReLU, Sequential, inspection

X, Y = np.eye(2), [0, 1]


def test_every_name_is_there_and_sorted():
    assert inspection.__all__ == sorted(inspection.__all__)
    assert all(hasattr(inspection, name) for name in inspection.__all__)


def test_every_drawing_function_takes_axes_and_makes_them_where_there_are_none():
    for name in inspection.__all__:
        function = getattr(inspection, name)
        if inspect.isfunction(function):
            parameters = inspect.signature(function).parameters
            assert ("ax" in parameters) == name.startswith("plot_"), name
            assert "ax" not in parameters or parameters["ax"].default is None


def python(script):
    """Run a script in a fresh interpreter, warnings as errors."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


NET = """
import sys
import numpy as np
from fastnn import Affine, ReLU, Sequential
net = Sequential([Affine(2, 4), ReLU(), Affine(4, 2)], seed=0)
X, y = np.eye(2), [0, 1]
"""


def test_arrays_are_had_without_matplotlib():
    script = """
sys.modules["matplotlib"] = None
from fastnn.inspection import *
histograms = Histograms(X, y)
net.fit(X, y, epochs=1, callbacks=[histograms])
alignment(X, net.layers[0]); activations(net, X); weights_as_images(net.layers[0], (1, 2))
saliency(net, X); integrated_gradients(net, X); permutation_importance(net, X, y)
decision_grid(net, X)
print("matplotlib" in {name.partition(".")[0] for name, module in sys.modules.items() if module})
"""
    assert python(NET + script) == "False\n"


DRAWINGS = (
    lambda net, history, histograms, ax: inspection.plot_alignment(X[0], net.layers[0], **ax),
    lambda net, history, histograms, ax: inspection.plot_activations(net, X[0], **ax),
    lambda net, history, histograms, ax: inspection.plot_images(np.ones((2, 3, 3)), **ax),
    lambda net, history, histograms, ax: inspection.plot_importance(
        inspection.permutation_importance(net, X, Y, seed=0), **ax
    ),
    lambda net, history, histograms, ax: inspection.plot_history(history, **ax),
    lambda net, history, histograms, ax: inspection.plot_decision_boundary(net, X, Y, **ax),
    lambda net, history, histograms, ax: histograms.plot("0 Affine.w", **ax),
)


@pytest.mark.parametrize("draw", DRAWINGS)
def test_without_axes_a_figure_of_pyplot_shows_the_same_drawing(draw, ax, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "agg")
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.close("all")
    net = Sequential([Affine(2, 4), ReLU(), Affine(4, 2)], seed=0)
    histograms = inspection.Histograms(X, Y)
    history = net.fit(X, Y, epochs=2, callbacks=[histograms])
    draw(net, history, histograms, {"ax": ax})
    assert pyplot.get_fignums() == []
    try:
        draw(net, history, histograms, {})
        (own,) = pyplot.gcf().axes
        assert [type(part) for part in own.get_children()] == [
            type(part) for part in ax.get_children()
        ]
        assert own.get_xlabel() == ax.get_xlabel()
    finally:
        pyplot.close("all")


def test_an_error_leaves_no_empty_figure():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    for wrong in (
        lambda: inspection.plot_history({"loss": [1.0]}, figure="val_loss"),
        lambda: inspection.plot_images(np.ones(3)),
        lambda: inspection.plot_alignment([1.0], [[2.0]]),
        lambda: inspection.plot_importance(3),
    ):
        with pytest.raises(ValueError):  # noqa: PT011
            wrong()
    assert pyplot.get_fignums() == []


def test_drawing_on_given_axes_never_loads_pyplot():
    pytest.importorskip("matplotlib")
    script = """
from matplotlib.figure import Figure
from fastnn.inspection import *
histograms = Histograms(X, y)
history = net.fit(X, y, epochs=1, callbacks=[histograms])
figure = Figure()
ax = iter(figure.subplots(1, 7))
plot_alignment(X[0], net.layers[0], next(ax))
plot_activations(net, X[0], next(ax))
plot_images(weights_as_images(net.layers[0], (1, 2)), next(ax))
plot_importance(permutation_importance(net, X, y), next(ax))
plot_history(history, next(ax))
plot_decision_boundary(net, X, y, next(ax))
histograms.plot("0 Affine.w", next(ax))
figure.savefig("/dev/null", format="png")
print("matplotlib.pyplot" in sys.modules)
"""
    assert python(NET + script) == "False\n"
