"""Who clicks on an ad? A net is trained on clicks and compared with the true probabilities.

    python examples/ad_clicks.py [folder for the picture]

The clicks are drawn from known probabilities, so two questions can be answered. How good can a
prediction be at all? And does the net depend on the inputs as much as the true probability does?
`permutation_importance` measures this: the more the loss rises when an input is shuffled, the more
the model depends on it. The same is measured for the true probability.
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score

from fastnn import AdamW, Affine, BatchNorm, Dropout, ReLU, Sequential
from fastnn.inspection import permutation_importance

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("folder", nargs="?", default=".", type=Path, help="for the picture")
folder = parser.parse_args().folder
folder.mkdir(parents=True, exist_ok=True)

NAMES = ["age", "interest match", "times shown", "hour", "screen width"]  # the last two are noise
TRUTH, NET = "#d55e00", "#0072b2"  # safe for colour-blind readers
N, N_TRAIN, LOSS = 60000, 40000, "binary_cross_entropy"  # the loss takes logits


def true_logit(X):
    """Return the logit of a click, (N, 1): a weighted sum, a logarithm and an interaction."""
    age, interest, shown = (X[:, 0] - 45) / 15, (X[:, 1] - 0.5) / 0.25, np.log1p(X[:, 2])
    logit = -1 - 1.2 * age + 0.8 * interest - 0.6 * shown
    return (logit - 0.3 * age * interest)[:, None]  # the young care more about the subject


def probability(logit):
    """Return the logistic function of a column of logits, (N,)."""
    return 1 / (1 + np.exp(-logit[:, 0].astype(float)))


rng = np.random.default_rng(0)
X = np.empty((N, 5), "float32")
X[:, 0], X[:, 1] = rng.uniform(18, 75, N), rng.beta(2, 2, N)  # years; a match from 0 to 1
X[:, 2], X[:, 3] = rng.geometric(0.2, N) - 1, rng.integers(0, 24, N)  # count; hour of the day
X[:, 4] = rng.choice([360, 768, 1280, 1920], N)  # pixels
clicked = (rng.random(N) < probability(true_logit(X))).astype(int)
X_test, y_test = X[N_TRAIN:], clicked[N_TRAIN:]

# The first layer normalises years, shares and pixels. Dropout and weight decay reduce overfitting.
layers = [BatchNorm(5), Affine(5, 32, bias=False), BatchNorm(32), ReLU(), Dropout(0.1)]
net = Sequential([*layers, Affine(32, 16), ReLU(), Affine(16, 1)], seed=0)
options = {"optimizer": AdamW(3e-3), "schedule": "linear", "epochs": 15}
net.fit(X[:N_TRAIN], clicked[:N_TRAIN], loss=LOSS, **options)

truth, predicted = probability(true_logit(X_test)), probability(net.predict(X_test))
auc, best = roc_auc_score(y_test, predicted), roc_auc_score(y_test, truth)
print(f"area under the ROC curve: {auc:.4f}; with the true probability {best:.4f}")

found = {}
for label, model in [("truth", true_logit), ("net", net)]:
    found[label] = permutation_importance(model, X_test, y_test, loss=LOSS, seed=0)
for name, true, learned in zip(NAMES, found["truth"].mean, found["net"].mean, strict=True):
    print(f"{name:>15}: shuffled, the loss rises by {learned:7.4f} (truth: {true:7.4f})")
order = [NAMES[k] for k in np.argsort(-found["net"].mean)[:3]]
assert order == NAMES[:3], order
print(f"the net ranks them like the truth: {', '.join(order)}, then the rest")

figure = Figure(figsize=(13.5, 4.2), layout="constrained")
worth, curves, calibration = figure.subplots(1, 3, width_ratios=[1.2, 1, 1])
places = np.arange(len(NAMES))
for label, shift, color in [("truth", -0.19, TRUTH), ("net", 0.19, NET)]:
    mean, std = found[label].mean, found[label].std
    worth.barh(places + shift, mean, 0.36, xerr=std, color=color, label=label)
worth.set_yticks(places, NAMES)
worth.invert_yaxis()
worth.legend(loc="lower right", frameon=False)
worth.set(xlabel="rise of the loss when shuffled", title="importance of each input")

for interest, place in [(0.8, (43, 0.5)), (0.2, (22, 0.27))]:
    people = np.tile(np.array([0, interest, 2, 12, 1280], "float32"), (100, 1))
    people[:, 0] = np.linspace(18, 75, 100)
    curves.plot(people[:, 0], probability(true_logit(people)), ":", color=TRUTH, linewidth=3)
    curves.plot(people[:, 0], probability(net.predict(people)), color=NET)
    curves.annotate(f"interest match {interest}", place)
curves.set(xlabel="age", ylabel="probability of a click", ylim=(0, 1))
curves.set_title("the truth (dotted) and the net")

# Do 30 % click of those for whom the net predicts about 30 %? Ten groups by predicted probability.
groups = np.array_split(np.argsort(predicted), 10)
promised = np.array([predicted[group].mean() for group in groups])
kept = np.array([y_test[group].mean() for group in groups])
noise = 1.96 * np.sqrt(kept * (1 - kept) / len(groups[0]))
calibration.axline((0, 0), slope=1, color="0.7", linestyle="--")
calibration.errorbar(promised, kept, noise, fmt="o", color=NET, capsize=3)
calibration.set(xlabel="predicted probability", ylabel="share who click")
calibration.set_title("calibration, with 95 % intervals")
for axes in (worth, curves, calibration):
    axes.spines[["top", "right"]].set_visible(False)
path = folder / "ad_clicks.png"
figure.savefig(path, dpi=120)
print(f"drawn in {path}")
