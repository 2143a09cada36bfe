"""One neuron learns AND, OR and NAND, and fails at XOR.

    python examples/perceptron_gates.py [folder for the picture]

The output of a perceptron is 1 on one side of a straight line and 0 on the other. The perceptron
rule moves the line after each mistake until there is none. For XOR there is no such line.
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from fastnn import Perceptron

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("folder", nargs="?", default=".", type=Path, help="for the picture")
folder = parser.parse_args().folder
folder.mkdir(parents=True, exist_ok=True)

X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
GATES = {"AND": [0, 0, 0, 1], "OR": [0, 1, 1, 1], "NAND": [1, 1, 1, 0], "XOR": [0, 1, 1, 0]}
LOW, HIGH = -0.6, 1.6  # limits of both axes
COLOURS = np.array(["#0072b2", "#d55e00"])  # of 0 and 1; safe for colour-blind readers


def draw(axes, neuron, y):
    """Draw the output of the neuron over the plane, and the four rows with their targets."""
    x1, x2 = np.meshgrid(*[np.linspace(LOW, HIGH, 400)] * 2)
    score = neuron.decision_function(np.column_stack([x1.ravel(), x2.ravel()])).reshape(x1.shape)
    axes.pcolormesh(x1, x2, score > 0, cmap=ListedColormap(COLOURS), alpha=0.22, rasterized=True)
    axes.contour(x1, x2, score, levels=[0], colors="0.2", linewidths=1.5)
    axes.scatter(*X.T, s=330, c=COLOURS[y], edgecolors="white", linewidths=2, zorder=3)
    for point, target in zip(X, y, strict=True):
        axes.annotate(str(target), point, color="white", weight="bold", ha="center", va="center")
    wrong = X[neuron.predict(X) != y]
    axes.scatter(*wrong.T, s=800, facecolors="none", edgecolors="0.1", linewidths=2, zorder=3)
    axes.set(xlim=(LOW, HIGH), ylim=(LOW, HIGH), aspect="equal", xticks=[0, 1], yticks=[0, 1])
    axes.set_xlabel("$x_1$")


def describe(neuron):
    """Return where the output of the neuron is 1: ``1 where 2.1 x1 + 1.3 x2 > 2.7``."""
    (w1, w2), theta = neuron.weights, neuron.threshold
    sign = "-" if w2 < 0 else "+"
    return f"1 where ${w1:.2f}\\,x_1 {sign} {abs(w2):.2f}\\,x_2 > {theta:.2f}$"


figure = Figure(figsize=(13, 4), layout="constrained")
panels = figure.subplots(1, 4, sharey=True)
rng = np.random.default_rng(139)
for axes, (name, y) in zip(panels, GATES.items(), strict=True):
    # With zeros as initial weights, all lines would pass exactly through some of the points.
    neuron = Perceptron(2, rng.uniform(-1, 1, 2), bias=rng.uniform(-1, 1), seed=rng)
    neuron.fit(X, y, epochs=100)
    n_epochs, n_wrong = len(neuron.mistakes_), int((neuron.predict(X) != y).sum())
    if neuron.converged_:
        result = f"learned in {n_epochs} epochs"
        caption = describe(neuron)
    else:
        result = "no line separates it"
        caption = f"after {n_epochs} epochs {n_wrong} of 4 are wrong (circled)"
    print(f"{name:4s}  {result:20s}  w = {neuron.weights.round(2)}", end="")
    print(f"  threshold = {neuron.threshold:5.2f}  wrong: {n_wrong} of 4")
    draw(axes, neuron, y)
    axes.set_title(f"{name}: {result}\n", weight="bold", fontsize=12)
    axes.text(0.5, 1.03, caption, transform=axes.transAxes, ha="center", color="0.3")
panels[0].set_ylabel("$x_2$")
figure.savefig(folder / "perceptron_gates.png", dpi=120)
print(f"wrote {folder / 'perceptron_gates.png'}")
