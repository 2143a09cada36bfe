"""Inspect a net that classifies handwritten digits.

    python examples/digits_neurons.py [folder for the picture]

The net has 64 inputs, one for each pixel of an 8 x 8 image, two hidden layers of 16 neurons and 10
outputs, one for each digit. The picture shows its activations for one image, the weights of the
neurons of the first layer, and how much each pixel of some images contributes to the prediction.
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from fastnn import Adam, Affine, ReLU, Sequential
from fastnn.inspection import (
    integrated_gradients,
    plot_activations,
    plot_images,
    saliency,
    weights_as_images,
)

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("folder", nargs="?", default=".", type=Path, help="for the picture")
folder = parser.parse_args().folder
folder.mkdir(parents=True, exist_ok=True)

SHAPE = (8, 8)

images, y = load_digits(return_X_y=True)
X = (images / 16).astype("float32")  # pixels from 0 to 1
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=400, random_state=0)

net = Sequential([Affine(64, 16), ReLU(), Affine(16, 16), ReLU(), Affine(16, 10)], seed=0)
net.fit(
    X_train, y_train, optimizer=Adam(3e-3), schedule="linear", epochs=60, batch_size=32, alpha=1.0
)
predicted = net.predict(X_test).argmax(axis=1)
print(f"{(predicted == y_test).mean():.1%} of {len(X_test)} new images are classified correctly")

figure = Figure(figsize=(12, 9.5), layout="constrained")
axes = figure.subplot_mosaic(
    [["work", "weights"], ["image", "image"], ["saliency", "saliency"], ["shares", "shares"]],
    height_ratios=[3, 1.375, 1, 1],
    width_ratios=[1.75, 1],
)

# 1. The activations. A neuron is bright if it is active; lines are the largest terms x_i w_ij.
three = int(np.flatnonzero((y_test == 3) & (predicted == 3))[0])
plot_activations(net, X_test[three], axes["work"], image_shape=SHAPE)
axes["work"].set_title("activations for a 3")

# 2. The weights of each neuron of the first layer, as an image: positive weights are blue.
plot_images(weights_as_images(net.layers[0], SHAPE), axes["weights"])
axes["weights"].set_title("weights of the first 16 neurons (red: negative)")

# 3. The contribution of each pixel: some digits that are classified correctly, then two errors.
right = [np.flatnonzero((y_test == k) & (predicted == k))[0] for k in range(0, 10, 2)]
chosen = np.concatenate([right, np.flatnonzero(predicted != y_test)[:2]])
X_chosen, titles = X_test[chosen], [f"{y_test[k]}, read as {predicted[k]}" for k in chosen]
plot_images(X_chosen.reshape(-1, *SHAPE), axes["image"], titles=titles, n_columns=7, signed=False)
axes["image"].set_ylabel("image")

# The absolute gradient of the largest output with respect to each pixel.
gradients = saliency(net, X_chosen).reshape(-1, *SHAPE)
plot_images(gradients, axes["saliency"], n_columns=7, signed=False, shared_scale=False)
axes["saliency"].set_ylabel("saliency")

# Integrated gradients divide the change of the largest output from a black image among the pixels.
shares = integrated_gradients(net, X_chosen).attributions
plot_images(shares.reshape(-1, *SHAPE), axes["shares"], n_columns=7, shared_scale=False)
axes["shares"].set_ylabel("integrated\ngradients")
black = net.predict(np.zeros((1, 64)))[0]
print("sum of the contributions to the largest output, and its change from a black image:")
for title, out, share in zip(titles, net.predict(X_chosen), shares, strict=True):
    print(f"  {title}: {share.sum():6.2f}, {out.max() - black[out.argmax()]:6.2f}")

path = folder / "digits_neurons.png"
figure.savefig(path, dpi=110)
print(f"drawn in {path}")
