"""How certain is a prediction? A net that predicts an interval instead of one number.

    python examples/quantile_intervals.py [folder for the picture]

The squared error is minimal for the mean of the targets, which does not depend on their noise; here
the noise depends on x. The quantile loss weights the distance of an output that is too low by q,
and of one that is too high by 1 - q. It is minimal if a fraction q of the targets is below the
output. So three outputs with q = 0.05, 0.5 and 0.95 learn a median and an interval of 90 %.
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import norm

from fastnn import Adam, Affine, Sequential, Tanh
from fastnn.losses import Quantile

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("folder", nargs="?", default=".", type=Path, help="for the picture")
folder = parser.parse_args().folder
folder.mkdir(parents=True, exist_ok=True)

QUANTILES = (0.05, 0.5, 0.95)
BAND, LINE, TRUTH, DATA = "#c6dbef", "#0072b2", "#d55e00", "0.6"  # safe for colour-blind readers


def curve(x):
    """Return the median of the targets at x."""
    return np.sin(1.5 * x) + 0.3 * x


def noise(x):
    """Return the standard deviation of the targets at x."""
    return 0.08 + 0.5 * np.exp(-((x - 1) ** 2) / 2)


def draw(n):
    """Return n samples: x (n, 1) and y (n,)."""
    x = rng.uniform(-4, 4, (n, 1))
    return x, rng.normal(curve(x), noise(x))[:, 0]


rng = np.random.default_rng(0)
X, y = draw(4000)
net = Sequential([Affine(1, 32), Tanh(), Affine(32, 32), Tanh(), Affine(32, 3)], seed=0)
net.fit(X, y, loss=Quantile(QUANTILES), optimizer=Adam(5e-3), schedule="linear", epochs=150)

X_new, y_new = draw(20000)
out = net.predict(X_new)
low, middle, high = out.T
inside = (low <= y_new) & (y_new <= high)
print(f"{inside.mean():.1%} of {len(y_new)} new targets are in their interval of 90 %")
for q, output in zip(QUANTILES, out.T, strict=True):
    print(f"{(y_new <= output).mean():6.1%} are below the output for {q:.0%}")
assert abs(inside.mean() - 0.9) < 0.02
assert (low < middle).all() and (middle < high).all()  # the loss does not enforce this order

x = np.linspace(-4, 4, 400)
low, middle, high = net.predict(x[:, None]).T
figure = Figure(figsize=(13, 4.6), layout="constrained")
fit, width, coverage = figure.subplots(1, 3, width_ratios=[1.8, 1, 1])
fit.fill_between(x, low, high, color=BAND, linewidth=0, label="interval of 90 %")
fit.scatter(X[::4], y[::4], s=7, color=DATA, linewidths=0, label="a quarter of the data")
fit.plot(x, middle, color=LINE, linewidth=2.5, label="median")
for q in QUANTILES:
    true = norm.ppf(q, curve(x), noise(x))
    fit.plot(x, true, ":", color=TRUTH, linewidth=2, label="true quantiles" if q == 0.5 else None)
fit.legend(loc="upper left", frameon=False)
fit.set(xlabel="x", ylabel="y", title="a median and an interval")

width.plot(x, high - low, color=LINE, linewidth=2, label="net")
width.plot(x, 2 * norm.ppf(0.95) * noise(x), ":", color=TRUTH, linewidth=2.5, label="truth")
width.legend(frameon=False)
width.set(xlabel="x", ylabel="high - low", ylim=(0, None), title="width of the interval")

edges = np.linspace(-4, 4, 17)
parts = np.digitize(X_new[:, 0], edges[1:-1])
shares = np.bincount(parts, inside) / np.bincount(parts)
coverage.bar(edges[:-1], shares, 0.45, align="edge", color=BAND)
coverage.axhline(0.9, color="0.2", linestyle="--")
coverage.set(xlabel="x", ylabel="share of new targets", ylim=(0, 1))
coverage.set_title(f"in the interval: {inside.mean():.1%}")
for axes in (fit, width, coverage):
    axes.spines[["top", "right"]].set_visible(False)
path = folder / "quantile_intervals.png"
figure.savefig(path, dpi=120)
print(f"drawn in {path}")
