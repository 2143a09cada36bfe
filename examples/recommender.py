"""What might you like next? Two embeddings, compared by their dot product.

    python examples/recommender.py [folder for the picture]

One layer maps each user to a short vector, another one each film. A one-hot input, 1 at the index
of the user and 0 elsewhere, selects one row of the weights, so the rows are the vectors: an
embedding. The dot product of a user and a film is the score of the pair. The genres of the films
are not used in training; they can be found from what users liked.

Two layers side by side do not form a `Sequential`, so they are trained by hand here.
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from fastnn import Affine
from fastnn.inspection import alignment

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("folder", nargs="?", default=".", type=Path, help="for the picture")
folder = parser.parse_args().folder
folder.mkdir(parents=True, exist_ok=True)

GENRES = ["comedy", "crime", "romance"]
COLOURS = np.array(["#0072b2", "#d55e00", "#009e73"])  # safe for colour-blind readers
N_USERS, N_FILMS, N_DIMENSIONS = 500, 150, 3

# Users have a taste, a share for each genre; films have a genre and a popularity.
rng = np.random.default_rng(0)
taste = rng.dirichlet([0.3, 0.3, 0.3], N_USERS)
genre = np.repeat(np.arange(3), N_FILMS // 3)
popularity = rng.normal(0, 0.8, N_FILMS)
truth = 1 / (1 + np.exp(3.5 - 3.5 * taste[:, genre] - popularity))  # (users, films)
liked = rng.random(truth.shape) < truth
hidden = liked & (rng.random(truth.shape) < 0.3)  # to be predicted, not used in training
known = liked & ~hidden

users = Affine(N_USERS, N_DIMENSIONS, bias=False, seed=0)
films = Affine(N_FILMS, N_DIMENSIONS, bias=False, seed=1)
every_user, every_film = np.eye(N_USERS, dtype="float32"), np.eye(N_FILMS, dtype="float32")
for _ in range(200):
    u, f = users.forward(every_user), films.forward(every_film)
    p = 1 / (1 + np.exp(-u @ f.T))  # probability of a like, for all pairs
    dscore = p - known  # gradient of the cross-entropy
    users.backward(dscore @ f / N_FILMS)  # the score is u . f, its gradient by u is f
    films.backward(dscore.T @ u / N_USERS)
    for layer in (users, films):
        w = layer.params["w"]
        w -= 4.0 * (layer.grads["w"] + 0.03 * w)  # with weight decay


def recall(score):
    """Return the share of the hidden likes among a user's 10 best films, averaged over users."""
    best = np.argsort(np.where(known, -np.inf, score), axis=1)[:, -10:]  # without the known likes
    n_found, n_hidden = np.take_along_axis(hidden, best, 1).sum(axis=1), hidden.sum(axis=1)
    return (n_found[n_hidden > 0] / n_hidden[n_hidden > 0]).mean()


scores = {
    "random": rng.random(truth.shape),
    "most popular": np.tile(known.sum(axis=0), (N_USERS, 1)),
    "embeddings": u @ f.T,
    "the truth": truth,
}
recalls = {name: recall(score) for name, score in scores.items()}
for name, value in recalls.items():
    print(f"{name:>12}: {value:5.1%} of the hidden likes are among the 10 best")
assert recalls["embeddings"] > recalls["most popular"] > recalls["random"]

# The mean of the films is the direction of most users. Two other directions separate the genres.
middle = f.mean(axis=0)
plane = np.linalg.svd(f - middle)[2][:2].T
figure = Figure(figsize=(14, 4.3), layout="constrained")
places, matrix, bars = figure.subplots(1, 3, width_ratios=[1.2, 1.1, 0.9])
dots, diamonds = (u - u.mean(axis=0)) @ plane, (f - middle) @ plane
places.scatter(*dots.T, s=12, c=COLOURS[taste.argmax(axis=1)], alpha=0.45, linewidths=0)
style = {"s": 40, "marker": "D", "edgecolors": "white", "linewidths": 0.6}
for k, name in enumerate(GENRES):
    places.scatter(*diamonds[genre == k].T, color=COLOURS[k], label=name, **style)
places.legend(loc="upper right", frameon=False)
places.set(xlabel="first direction", ylabel="second direction")
places.set_title("films (diamonds) and users (by favourite)")

cosine = alignment(f - middle, (f - middle).T).cosine
image = matrix.imshow(cosine, cmap="RdBu", vmin=-1, vmax=1)
figure.colorbar(image, ax=matrix, shrink=0.8, ticks=[-1, 0, 1])
centres = (np.arange(3) + 0.5) * N_FILMS / 3
matrix.set_xticks(centres, GENRES)
matrix.set_yticks(centres, GENRES, rotation=90, va="center")
matrix.tick_params(length=0)
matrix.set_title(f"cosine between the {N_FILMS} films")

drawn = bars.barh(list(recalls), list(recalls.values()), color=["0.75", "0.55", "#0072b2", "0.75"])
bars.bar_label(drawn, fmt="{:.0%}", padding=3)
bars.invert_yaxis()
bars.set(title="hidden likes among the 10 best", xlim=(0, 0.45), xticks=[])
bars.spines[["top", "right", "bottom"]].set_visible(False)
places.spines[["top", "right"]].set_visible(False)
path = folder / "recommender.png"
figure.savefig(path, dpi=120)
print(f"drawn in {path}")
