"""Kinds of customers, found by clustering the activations of a hidden layer.

    python examples/customer_segments.py [folder for the picture]

Clustering groups similar customers, but similar in which respect? Here young and old customers
differ in most columns of the table, so clusters of the table mainly follow age. The hidden neurons
of a net that is trained to predict spending depend on what is relevant to spending, and hardly on
the rest, so clusters of their outputs are kinds of customers. The kinds are not used in training;
as they are known here, both clusterings are compared with them.
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score, confusion_matrix

from fastnn import AdamW, Affine, Sequential, Tanh
from fastnn.inspection import activations

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("folder", nargs="?", default=".", type=Path, help="for the picture")
folder = parser.parse_args().folder
folder.mkdir(parents=True, exist_ok=True)

KINDS = ["families", "neighbours", "gourmets", "bargain hunters"]
# Frequency of visits, size of a purchase and share of discounts, relative to the mean.
HABITS = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
# Logarithms of the spending on food, household and wine.
SPENDING = np.array([[5.5, 4.5, 2.5], [4.5, 3.0, 3.0], [4.0, 3.0, 5.0], [3.0, 4.0, 2.0]])
COLOURS = np.array(["#0072b2", "#d55e00", "#009e73", "#cc79a7"])  # safe for colour-blind readers
N, N_TRAIN = 8000, 5000

rng = np.random.default_rng(0)
kind, old = rng.integers(0, 4, N), rng.choice([-1, 1], N)
habits = HABITS[kind] + rng.normal(0, 0.7, (N, 3))
# Age, hour of the purchase, payment in cash and use of the app: all four depend on age.
about_age = old[:, None] * [1, -1, 1, -1] + rng.normal(0, 0.5, (N, 4))
X = np.column_stack([habits, about_age]).astype("float32")
y = SPENDING[kind] + rng.normal(0, 0.5, (N, 3))
y = (y - y.mean(axis=0)) / y.std(axis=0)

net = Sequential([Affine(7, 32), Tanh(), Affine(32, 8), Tanh(), Affine(8, 3)], seed=0)
net.fit(X[:N_TRAIN], y[:N_TRAIN], loss="mse", optimizer=AdamW(3e-3), schedule="linear", epochs=30)

X_new, y_new, kind_new = X[N_TRAIN:], y[N_TRAIN:], kind[N_TRAIN:]
r2 = 1 - ((net.predict(X_new) - y_new) ** 2).mean() / y_new.var()
print(f"the net explains {r2:.0%} of the variance of the spending of {len(X_new)} new customers")

features = {"the table": X_new, "hidden neurons": activations(net, X_new)[3][1]}
agreement = {}
figure = Figure(figsize=(14, 4.1), layout="constrained")
panels = figure.subplots(1, 4).reshape(2, 2)
for (name, values), (true, found) in zip(features.items(), panels, strict=True):
    cluster = KMeans(4, n_init=10, random_state=0).fit_predict(values)
    agreement[name] = adjusted_rand_score(kind_new, cluster)
    print(f"clusters of {name:>14}: adjusted Rand index {agreement[name]:.2f}")

    # Each cluster gets the colour of the kind that it matches best, each kind once.
    colour_of = linear_sum_assignment(-confusion_matrix(cluster, kind_new))[1]
    place = PCA(2).fit_transform(values)
    for axes, colours in ((true, kind_new), (found, colour_of[cluster])):
        axes.scatter(*place.T, s=7, c=COLOURS[colours], alpha=0.6, linewidths=0)
        axes.set(xticks=[], yticks=[], xlabel="first principal component")
    true.set_title(f"{name}: the kinds")
    found.set_title(f"{name}: clusters, index {agreement[name]:.2f}")
    true.set_ylabel("second principal component")
assert agreement["hidden neurons"] > agreement["the table"] + 0.3

for colour, label in zip(COLOURS, KINDS, strict=True):
    panels[0, 0].scatter([], [], s=50, color=colour, label=label)
figure.legend(loc="outside lower center", ncols=4, frameon=False)
path = folder / "customer_segments.png"
figure.savefig(path, dpi=120)
print(f"drawn in {path}")
