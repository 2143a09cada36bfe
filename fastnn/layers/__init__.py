"""Layers: the pieces of a net, each usable alone.

A layer has `forward(x)` and `backward(dout)`. In a `Sequential` the parameters of all layers are
views of one flat vector, and training runs on compiled kernels instead of these methods; the
methods compute the same numbers one layer at a time, for those who want to watch.
"""

from fastnn.layers.activations import Identity, LeakyReLU, ReLU, Sigmoid, Softmax, Step, Tanh
from fastnn.layers.affine import Affine
from fastnn.layers.base import Layer, ParametricLayer
from fastnn.layers.dropout import Dropout
from fastnn.layers.elementwise import ELU, GELU, SELU, Activation, HardTanh, Mish, SiLU, Softplus
from fastnn.layers.normalisation import BatchNorm, LayerNorm
from fastnn.layers.residual import Residual

LAYERS = {
    layer.__name__: layer
    for layer in (
        Affine,
        Identity,
        ReLU,
        LeakyReLU,
        Sigmoid,
        Tanh,
        Softmax,
        Step,
        ELU,
        SELU,
        GELU,
        SiLU,
        Softplus,
        Mish,
        HardTanh,
        Dropout,
        BatchNorm,
        LayerNorm,
        Residual,
    )
}
"""Layers by their class name, as model files name them."""

__all__ = ["LAYERS", "Activation", "Layer", "ParametricLayer", "from_config", *LAYERS]


def from_config(name, config):
    """Return a new layer by its class name and constructor arguments.

    Raises
    ------
    ValueError
        If there is no such layer.
    """
    if name not in LAYERS:
        raise ValueError(f"layer must be one of {', '.join(LAYERS)}, got {name!r}")
    if LAYERS[name] is Residual:
        return Residual([from_config(*layer) for layer in config["layers"]])
    return LAYERS[name](**config)
