"""Layers: the pieces of a net, each usable alone.

A layer has `forward(x)` and `backward(dout)`. In a `Sequential` the parameters of all layers are
views of one flat vector, and training runs on compiled kernels instead of these methods; the
methods compute the same numbers one layer at a time, for those who want to watch.
"""

from fastnn.layers.activations import Identity, LeakyReLU, ReLU, Sigmoid, Softmax, Step, Tanh
from fastnn.layers.affine import Affine
from fastnn.layers.base import Layer

__all__ = [
    "LAYERS",
    "Affine",
    "Identity",
    "Layer",
    "LeakyReLU",
    "ReLU",
    "Sigmoid",
    "Softmax",
    "Step",
    "Tanh",
    "from_config",
]

LAYERS = {
    layer.__name__: layer
    for layer in (Affine, Identity, ReLU, LeakyReLU, Sigmoid, Tanh, Softmax, Step)
}
"""Layers by their class name, as model files name them."""


def from_config(name, config):
    """Return a new layer by its class name and constructor arguments.

    Raises
    ------
    ValueError
        If there is no such layer.
    """
    if name not in LAYERS:
        raise ValueError(f"layer must be one of {', '.join(LAYERS)}, got {name!r}")
    return LAYERS[name](**config)
