"""Layers: the pieces of a net, each usable alone.

A layer has `forward(x)` and `backward(dout)`. In a `Sequential` the parameters of all layers are
views of one flat vector, and training runs on compiled kernels instead of these methods; the
methods compute the same numbers one layer at a time, for those who want to watch.
"""

from fastnn.errors import shown
from fastnn.layers import activations
from fastnn.layers.activations import *  # noqa: F403
from fastnn.layers.affine import Affine
from fastnn.layers.base import Layer, ParametricLayer
from fastnn.layers.batch_norm import BatchNorm
from fastnn.layers.dropout import Dropout
from fastnn.layers.layer_norm import LayerNorm
from fastnn.layers.residual import MAX_NESTING, Residual

__all__ = [
    "LAYERS",
    "MAX_NESTING",
    "Affine",
    "BatchNorm",
    "Dropout",
    "Layer",
    "LayerNorm",
    "ParametricLayer",
    "Residual",
    "from_config",
    "layers_from",
]
__all__ += activations.__all__

LAYERS = Layer.by_name
"""Layers by their class name, as model files name them."""


def from_config(name, config, depth=0):
    """Return a new layer by its class name and the arguments that its `config` returned.

    Allocates no parameters, whatever sizes it is given.

    Parameters
    ----------
    name : str
    config : dict
        May leave out arguments that have a default: a later version may have more of them.
    depth : int
        Residual blocks around the layer.

    Raises
    ------
    TypeError
        If an argument is missing, or unknown.
    ValueError
        If there is no such layer, or an argument is not what `config` would return.

    Examples
    --------
    >>> from fastnn.layers import from_config
    >>> from_config("LeakyReLU", {"negative_slope": 0.25})
    LeakyReLU(negative_slope=0.25)
    """
    if not isinstance(name, str) or name not in LAYERS:
        raise ValueError(f"layer must be one of {', '.join(LAYERS)}, got {shown(name)}")
    if not isinstance(config, dict):
        raise ValueError(f"the arguments of {name} must be a dict, got {config!r}")
    if LAYERS[name] is Residual:
        return _residual(config, depth + 1)
    for argument in _DECIDED_BY_THE_NET.intersection(config):
        if issubclass(LAYERS[name], ParametricLayer):
            raise TypeError(f"{name} got an unexpected argument {argument!r}")
    layer = LAYERS[name](**config)
    kept = layer.config()
    for argument, value in config.items():
        if argument not in kept or kept[argument] != value:
            raise ValueError(f"{name} cannot have {argument}={value!r}")
    return layer


_DECIDED_BY_THE_NET = {"seed", "dtype"}  # the other arguments of layers with parameters


def layers_from(pairs, depth=0):
    """Return new layers from a list of ``[name, config]``, by which model files describe them.

    Raises
    ------
    TypeError, ValueError
        As `from_config`, or if it is no such list.

    Examples
    --------
    >>> from fastnn.layers import layers_from
    >>> layers_from([["ReLU", {}], ["ELU", {"alpha": 0.5}]])
    [ReLU(), ELU(alpha=0.5)]
    """
    if not isinstance(pairs, list):
        raise ValueError(f"layers must be a list, got {pairs!r}")
    for pair in pairs:
        if not isinstance(pair, list) or len(pair) != 2:
            raise ValueError(f"a layer must be a list of its name and its arguments, got {pair!r}")
    return [from_config(name, config, depth) for name, config in pairs]


def _residual(config, depth):
    """Return a residual block and the layers in it."""
    if depth > MAX_NESTING:
        raise ValueError(f"residual blocks must be nested at most {MAX_NESTING} deep")
    if list(config) != ["layers"]:
        raise ValueError(f"Residual must have layers and nothing else, got {config!r}")
    return Residual(layers_from(config["layers"], depth))
