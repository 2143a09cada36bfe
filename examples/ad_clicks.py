"""Who clicks on an ad? A net learns it from clicks, and we know the truth to compare it with.

    python examples/ad_clicks.py [folder for the picture]

The clicks are drawn from a probability that is known, so two questions have an answer here. How
good can a prediction be at all? And does the net use the inputs for what they are worth? That is
what `permutation_importance` finds out: the more it hurts to shuffle an input, the more the model
took from it. The true probability is asked in the same way.
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score

from fastnn import AdamW, Affine, BatchNorm, Dropout, ReLU, Sequential
from fastnn.inspection import permutation_importance

NAMES = ["age", "interest match", "times shown", "hour", "screen width"]  # the last two do nothing
TRUTH, NET = "#d55e00", "#0072b2"  # told apart by the colour-blind, too
N, N_TRAIN, LOSS = 60000, 40000, "binary_cross_entropy"  # the loss takes logits


def true_logit(X):
    """Return the logit of a click, (N, 1): a weighted sum, and two things that bend it a little."""
    age, interest, shown = (X[:, 0] - 45) / 15, (X[:, 1] - 0.5) / 0.25, np.log1p(X[:, 2])
    logit = -1 - 1.2 * age + 0.8 * interest - 0.6 * shown
    return (logit - 0.3 * age * interest)[:, None]  # the young care more about the subject


def probability(logit):
    """Return the logistic function of a column of logits, (N,)."""
    return 1 / (1 + np.exp(-logit[:, 0].astype(float)))


rng = np.random.default_rng(0)
X = np.empty((N, 5), "float32")
X[:, 0], X[:, 1] = rng.uniform(18, 75, N), rng.beta(2, 2, N)  # years; a match from 0 to 1
X[:, 2], X[:, 3] = rng.geometric(0.2, N) - 1, rng.integers(0, 24, N)  # so often; hour of the day
X[:, 4] = rng.choice([360, 768, 1280, 1920], N)  # pixels
clicked = (rng.random(N) < probability(true_logit(X))).astype(int)
X_test, y_test = X[N_TRAIN:], clicked[N_TRAIN:]

# The first layer brings years, shares and pixels to one scale. Dropout and a decay of the weights
# keep the net from learning the clicks by heart.
layers = [BatchNorm(5), Affine(5, 32, bias=False), BatchNorm(32), ReLU(), Dropout(0.1)]
net = Sequential([*layers, Affine(32, 16), ReLU(), Affine(16, 1)], seed=0)
options = {"optimizer": AdamW(3e-3), "schedule": "linear", "epochs": 15}
net.fit(X[:N_TRAIN], clicked[:N_TRAIN], loss=LOSS, **options)

truth, said = probability(true_logit(X_test)), probability(net.predict(X_test))
auc, best = roc_auc_score(y_test, said), roc_auc_score(y_test, truth)
print(f"area under the ROC curve: {auc:.4f}; with the true probability {best:.4f}")

found = {}
for label, model in [("truth", true_logit), ("net", net)]:
    found[label] = permutation_importance(model, X_test, y_test, loss=LOSS, seed=0)
for name, true, learned in zip(NAMES, found["truth"].mean, found["net"].mean, strict=True):
    print(f"{name:>15}: shuffled, the loss rises by {learned:7.4f} (truth: {true:7.4f})")
order = [NAMES[k] for k in np.argsort(-found["net"].mean)[:3]]
assert order == NAMES[:3], order
print(f"the net orders them as the truth does: {', '.join(order)}, then the rest")

figure = Figure(figsize=(13.5, 4.2), layout="constrained")
worth, curves, calibration = figure.subplots(1, 3, width_ratios=[1.2, 1, 1])
places = np.arange(len(NAMES))
for label, shift, color in [("truth", -0.19, TRUTH), ("net", 0.19, NET)]:
    mean, std = found[label].mean, found[label].std
    worth.barh(places + shift, mean, 0.36, xerr=std, color=color, label=label)
worth.set_yticks(places, NAMES)
worth.invert_yaxis()
worth.legend(loc="lower right", frameon=False)
worth.set(xlabel="rise of the loss when it is shuffled", title="what each input is worth")

for interest, place in [(0.8, (43, 0.5)), (0.2, (22, 0.27))]:
    people = np.tile(np.array([0, interest, 2, 12, 1280], "float32"), (100, 1))
    people[:, 0] = np.linspace(18, 75, 100)
    curves.plot(people[:, 0], probability(true_logit(people)), ":", color=TRUTH, linewidth=3)
    curves.plot(people[:, 0], probability(net.predict(people)), color=NET)
    curves.annotate(f"interest match {interest}", place)
curves.set(xlabel="age", ylabel="probability of a click", ylim=(0, 1))
curves.set_title("the truth (dotted) and the net")

# Of those to whom the net gives about 30 %, do 30 % click? Ten groups, from the least to the most.
groups = np.array_split(np.argsort(said), 10)
promised = np.array([said[group].mean() for group in groups])
kept = np.array([y_test[group].mean() for group in groups])
noise = 1.96 * np.sqrt(kept * (1 - kept) / len(groups[0]))
calibration.axline((0, 0), slope=1, color="0.7", linestyle="--")
calibration.errorbar(promised, kept, noise, fmt="o", color=NET, capsize=3)
calibration.set(xlabel="probability that the net gives", ylabel="share who click")
calibration.set_title("calibration, with 95 % intervals")
for axes in (worth, curves, calibration):
    axes.spines[["top", "right"]].set_visible(False)
path = Path(sys.argv[1] if len(sys.argv) > 1 else ".") / "ad_clicks.png"
figure.savefig(path, dpi=120)
print(f"drawn in {path}")
