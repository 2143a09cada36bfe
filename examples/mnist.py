"""Train 784-128-10 on MNIST: 60000 handwritten digits of 28 x 28 pixels.

    python examples/mnist.py [folder for the picture] [--data FOLDER]

FOLDER holds the four IDX files of MNIST, as they are or with .gz: train-images-idx3-ubyte,
train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte. If it does not exist,
the net is trained on the small digits that come with scikit-learn.
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from fastnn import Adam, Affine, ReLU, Sequential
from fastnn.datasets import load
from fastnn.inspection import plot_history, plot_images

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("folder", nargs="?", default=".", type=Path, help="for the picture")
parser.add_argument("--data", default="../shared/data/mnist", type=Path, help="with IDX files")
options = parser.parse_args()
options.folder.mkdir(parents=True, exist_ok=True)

if options.data.is_dir():
    train = load(options.data)
    X, y, X_test, y_test = train.X, train.y, train.test.X, train.test.y
    name, epochs = "MNIST", 6
else:
    print(f"{options.data}: no such folder. scikit-learn's small digits are used instead of MNIST.")
    digits = load("digits")
    order = np.random.default_rng(0).permutation(len(digits))
    X, y = digits.X[order] / 16, digits.y[order]
    X, X_test, y, y_test = X[:1400], X[1400:], y[:1400], y[1400:]
    name, epochs = "digits", 30
side = int(np.sqrt(X.shape[1]))

# There are 10 outputs, one for each digit; the largest is the prediction.
net = Sequential([Affine(side * side, 128), ReLU(), Affine(128, 10)], seed=0)
history = net.fit(
    X,
    y,
    loss="softmax_cross_entropy",
    optimizer=Adam(2e-3),
    schedule="linear",
    epochs=epochs,
    validation_data=(X_test, y_test),
)
logits = net.predict(X_test)
predicted = logits.argmax(axis=1)
wrong = np.flatnonzero(predicted != y_test)
seconds = sum(history["seconds"])
print(f"{name}: {1 - len(wrong) / len(y_test):.2%} of {len(y_test)} new images, {seconds:.1f} s")

# confusion[i, j]: number of images of the digit i that are classified as j.
confusion = np.zeros((10, 10), int)
np.add.at(confusion, (y_test, predicted), 1)
errors = confusion - np.diag(np.diag(confusion))

figure = Figure(figsize=(13, 9), layout="constrained")
(loss, accuracy), (matrix, examples) = figure.subplots(2, 2, height_ratios=[1, 1.6])
figure.suptitle(f"{name}, {side * side}-128-10: {len(wrong)} errors in {len(y_test)} new images")
plot_history(history, loss)
plot_history(history, accuracy, figure="val_accuracy")

matrix.imshow(errors, cmap="Reds")
for i, j in np.argwhere(errors):
    color = "white" if errors[i, j] > 0.6 * errors.max() else "black"
    matrix.text(j, i, errors[i, j], ha="center", va="center", color=color, fontsize=9)
matrix.set(xticks=range(10), yticks=range(10), xlabel="read as", ylabel="digit")
matrix.set_title("errors")

# The most confident errors: those with the largest difference of the wrong and the right output.
lead = logits[wrong, predicted[wrong]] - logits[wrong, y_test[wrong]]
worst = wrong[np.argsort(-lead)[:20]]
titles = [f"{y_test[k]} read as {predicted[k]}" for k in worst]
plot_images(
    X_test[worst].reshape(-1, side, side), examples, titles=titles, n_columns=5, signed=False
)
examples.set_title("the most confident errors")

path = options.folder / "mnist.png"
figure.savefig(path, dpi=110)
print(f"drawn in {path}")
