"""The dot product as similarity: what a single neuron computes.

    python examples/dot_product_as_similarity.py [folder for the picture]

A neuron multiplies its input x by its weights w element by element and adds the products: the dot
product x . w = |x| |w| cos(angle). For vectors of fixed length it depends only on the angle. It is
largest if x and w have the same direction, zero if they are orthogonal, and negative if the angle
is larger than 90 degrees. So a neuron measures how similar its input is to its weights.
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from fastnn import Affine
from fastnn.inspection import alignment, plot_alignment

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("folder", nargs="?", default=".", type=Path, help="for the picture")
folder = parser.parse_args().folder
folder.mkdir(parents=True, exist_ok=True)

# Three neurons with two inputs. Each column of w holds the weights of one neuron.
x = np.array([1.0, 0.5])
layer = Affine(2, 3, bias=False)
layer.params["w"][...] = np.array([[2.0, 1.0], [-1.0, 2.0], [-2.0, -1.0]]).T

dot, cosine, angle = alignment(x, layer)
assert np.allclose(layer.forward(x[None])[0], dot)  # the layer computes these dot products
for k, name in enumerate(["same direction", "orthogonal", "opposite"]):
    w = layer.params["w"][:, k]
    terms = " + ".join(f"{a:g} * {b:g}" for a, b in zip(x, w, strict=True))
    print(f"{name:>14}: {terms} = {dot[k]:g}, cosine {cosine[k]:.2f}, angle {angle[k]:.0f} degrees")

figure = Figure(figsize=(12, 4), layout="constrained")
arrows, curve, shapes = figure.subplots(1, 3)
plot_alignment(x, layer, arrows)
arrows.set_title("one input and three neurons")

# Rotate the weights by 360 degrees: the dot product is a cosine.
degrees = np.arange(0, 361, 5)
turned = np.radians(degrees) + np.arctan2(x[1], x[0])
dots = alignment(x, np.sqrt(5) * np.stack([np.cos(turned), np.sin(turned)])).dot
curve.axhline(0, color="0.85", linewidth=0.8)
curve.plot(degrees, dots, color="0.4")
curve.scatter([0, 90, 180], dot, c=["#2166ac", "0.55", "#b2182b"], s=60, zorder=3)
curve.set(xlabel="angle between input and weights (degrees)", ylabel="dot product")
curve.set(title="rotating the weights", xticks=range(0, 361, 90))
curve.spines[["top", "right"]].set_visible(False)

# The same with 36 inputs: the pixels of an image, 1 for black and -1 for white. The weights are the
# image of a cross. An image with a black left half is orthogonal to it: half of the pixels agree.
cross = np.eye(6) + np.eye(6)[::-1] > 0
row, column = np.mgrid[:6, :6]
images = {"cross": cross, "part of it": cross & (row > 1), "left half": column < 3}
images["all but it"] = ~cross
pixels = np.array([np.where(image, 1, -1).ravel() for image in images.values()])
found = alignment(pixels, pixels[:1].T)
shapes.bar(range(4), found.cosine[:, 0], color=["#2166ac", "#4393c3", "0.55", "#b2182b"])
shapes.axhline(0, color="0.3", linewidth=0.8)
for k, image in enumerate(images.values()):
    inset = shapes.inset_axes([k - 0.35, -1.85, 0.7, 0.7], transform=shapes.transData)
    inset.imshow(image, cmap="gray_r", vmax=1.2)
    inset.set(xticks=[], yticks=[])
    cosine = found.cosine[k, 0]
    shapes.text(k, max(cosine, 0) + 0.04, f"{cosine:.2f}", ha="center")
shapes.set(ylim=(-1.9, 1.2), xticks=range(4), xticklabels=images, yticks=[-1, 0, 1])
shapes.set(title="a neuron whose weights are a cross", ylabel="cosine")
shapes.spines[["top", "right"]].set_visible(False)

path = folder / "dot_product_as_similarity.png"
figure.savefig(path, dpi=120)
print(f"drawn in {path}")
