"""What holds for the whole package."""

import inspect
import os
import subprocess
import sys

import pytest

from fastnn import inspection


def test_every_name_is_there_and_sorted():
    assert inspection.__all__ == sorted(inspection.__all__)
    assert all(hasattr(inspection, name) for name in inspection.__all__)


def test_every_drawing_function_must_be_given_its_axes():
    for name in inspection.__all__:
        function = getattr(inspection, name)
        if inspect.isfunction(function):
            parameters = inspect.signature(function).parameters
            assert ("ax" in parameters) == name.startswith("plot_"), name
            assert "ax" not in parameters or parameters["ax"].default is inspect.Parameter.empty


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


def test_drawing_never_loads_pyplot():
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
