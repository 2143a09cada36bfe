"""XOR needs two layers: built by hand from three gates, then learned by back-propagation.

    python examples/xor.py [folder for the picture]

Two hidden neurons are enough for XOR, but training fails for about half of the initial weights:
most of these nets are right on two rows and predict 1/2 for the other two, whose gradients cancel.
With 3 or 4 hidden neurons this is less likely. So each size is trained with 20 seeds.
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from fastnn import Adam, Affine, Perceptron, Sequential, Sigmoid

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("folder", nargs="?", default=".", type=Path, help="for the picture")
folder = parser.parse_args().folder
folder.mkdir(parents=True, exist_ok=True)

X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
Y = np.array([0, 1, 1, 0])
LOW, HIGH, N_SEEDS = -0.6, 1.6, 20
COLOURS = np.array(["#0072b2", "#d55e00"])  # of 0 and 1; safe for colour-blind readers
SHADES = LinearSegmentedColormap.from_list("shades", [COLOURS[0], "white", COLOURS[1]])
NAND, OR = Perceptron(2, [-1, -1], threshold=-1.5), Perceptron(2, [1, 1], threshold=0.5)
AND = Perceptron(2, [1, 1], threshold=1.5)


def gates(x):
    """Return XOR, which is 1 if both NAND and OR are 1."""
    return AND.predict(np.column_stack([NAND.predict(x), OR.predict(x)]))


def train(n_hidden, seed):
    """Return a trained net as a function: rows -> probabilities of 1."""
    net = Sequential([Affine(2, n_hidden), Sigmoid(), Affine(n_hidden, 1)], seed=seed)
    loss = "binary_cross_entropy"  # takes logits: it includes the sigmoid of the last neuron
    net.fit(X, Y, loss=loss, optimizer=Adam(0.1), epochs=1000, batch_size=4, n_threads=1)
    return lambda x: 1 / (1 + np.exp(-net.predict(x)[:, 0].astype(float)))


def draw(axes, title, probability):
    """Draw the probability of 1 over the plane, and the four rows with their targets."""
    x1, x2 = np.meshgrid(*[np.linspace(LOW, HIGH, 300)] * 2)
    p = probability(np.column_stack([x1.ravel(), x2.ravel()])).reshape(x1.shape)
    axes.pcolormesh(x1, x2, p, cmap=SHADES, vmin=-0.6, vmax=1.6, rasterized=True)
    axes.contour(x1, x2, p, levels=[0.5], colors="0.2", linewidths=1.5)
    axes.scatter(*X.T, s=330, c=COLOURS[Y], edgecolors="white", linewidths=2, zorder=3)
    for (a, b), target, predicted in zip(X, Y, probability(X), strict=True):
        axes.text(a, b, target, color="white", weight="bold", ha="center", va="center")
        label = axes.text(
            a, b - 0.2, f"output {predicted:.2f}", fontsize=9, ha="center", va="center"
        )
        label.set_bbox({"facecolor": "white", "alpha": 0.6, "linewidth": 0, "pad": 1.5})
    axes.set(xlim=(LOW, HIGH), ylim=(LOW, HIGH), aspect="equal", xticks=[0, 1], yticks=[0, 1])
    axes.set(xlabel="$x_1$", ylabel="$x_2$")
    axes.set_title(title, weight="bold")


assert (gates(X) == Y).all()
nets = {n_hidden: [train(n_hidden, seed) for seed in range(N_SEEDS)] for n_hidden in (2, 3, 4)}
solves = {n_hidden: [abs(net(X) - Y).max() < 0.25 for net in nets[n_hidden]] for n_hidden in nets}
for n_hidden, results in solves.items():
    print(f"{n_hidden} hidden neurons: {sum(results):2d} of {N_SEEDS} seeds solve XOR")

figure = Figure(figsize=(14, 3.9), layout="constrained")
by_hand, good, stuck, counts = figure.subplots(1, 4)
draw(by_hand, "by hand: NAND and OR", gates)
draw(good, "2 hidden neurons: solved", nets[2][solves[2].index(True)])
draw(stuck, "2 hidden neurons: stuck", nets[2][solves[2].index(False)])
bars = counts.bar(["2", "3", "4"], [sum(results) for results in solves.values()], color="0.45")
counts.bar_label(bars, fmt="%d", padding=2)
counts.set(xlabel="hidden neurons", ylim=(0, N_SEEDS + 2), yticks=[0, 5, 10, 15, 20])
counts.set_title(f"nets that solve it, of {N_SEEDS}", weight="bold")
counts.set_box_aspect(1)
counts.spines[["top", "right"]].set_visible(False)
figure.savefig(folder / "xor.png", dpi=120)
print(f"wrote {folder / 'xor.png'}")
