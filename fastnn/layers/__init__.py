"""Layers, the parts of a net. Each can be used without a net too.

A layer has `forward(x)` and `backward(dout)`. In a `Sequential`, the parameters of all layers are
views of one flat vector, and `fit` and `predict` run compiled kernels instead of these methods. The
methods compute the same numbers one layer at a time, to be looked at.

Examples
--------
>>> import numpy as np
>>> from fastnn.layers import Affine, ReLU
>>> relu = ReLU()
>>> out = relu.forward(np.array([[-1.0, 2.0]]))
>>> relu.backward(np.array([[3.0, 3.0]]))
array([[0., 3.]])
"""

from typing import TYPE_CHECKING, Any

from fastnn.errors import shown
from fastnn.layers import activations
from fastnn.layers.activations import *  # noqa: F403
from fastnn.layers.affine import Affine as Affine
from fastnn.layers.base import Layer as Layer
from fastnn.layers.base import ParametricLayer as ParametricLayer
from fastnn.layers.batch_norm import BatchNorm as BatchNorm
from fastnn.layers.dropout import Dropout as Dropout
from fastnn.layers.layer_norm import LayerNorm as LayerNorm
from fastnn.layers.residual import MAX_NESTING as MAX_NESTING
from fastnn.layers.residual import Residual as Residual

# Type checkers see by the imports with `*` and `as` what is public: mypy cannot add up lists.
if not TYPE_CHECKING:
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
        *activations.__all__,
    ]

LAYERS: dict[str, type[Layer]] = dict(sorted(Layer.by_name.items()))
"""The layers by the names of their classes, as model files name them."""


def from_config(name: str, config: dict[str, Any], depth: int = 0) -> Layer:
    """Return a new layer by the name of its class and the arguments that its `config` returned.

    Allocates no parameters, whatever sizes it is given.

    Parameters
    ----------
    name : str
        A name in `LAYERS`.
    config : dict
        Arguments of the constructor. Those with a default may be missing, as in a file of an older
        version, whose layer did not have them.
    depth : int, default=0
        Number of residual blocks around the layer.

    Returns
    -------
    Layer

    Raises
    ------
    TypeError
        If an argument is missing or unknown.
    ValueError
        If there is no such layer, or an argument is not as `config` would return it.

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
    new_layer: Any = LAYERS[name]
    layer: Layer = new_layer(**config)
    kept = layer.config()
    for argument, value in config.items():
        if argument not in kept or kept[argument] != value:
            raise ValueError(f"{name} cannot have {argument}={value!r}")
    return layer


# Arguments of layers with parameters that `config` does not return: the net has its own.
_DECIDED_BY_THE_NET = {"seed", "dtype"}


def layers_from(pairs: list[Any], depth: int = 0) -> list[Layer]:
    """Return new layers by the names of their classes and their arguments, as in a model file.

    Parameters
    ----------
    pairs : list of [str, dict]
        For each layer, the arguments `name` and `config` of `from_config`.
    depth : int, default=0
        Number of residual blocks around the layers.

    Returns
    -------
    list of Layer

    Raises
    ------
    TypeError, ValueError
        As `from_config`, or if `pairs` is no such list.

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


def _residual(config: dict[str, Any], depth: int) -> Residual:
    """Return a residual block with its layers."""
    if depth > MAX_NESTING:
        raise ValueError(f"residual blocks must be nested at most {MAX_NESTING} deep")
    if list(config) != ["layers"]:
        raise ValueError(f"Residual must have layers and nothing else, got {config!r}")
    return Residual(layers_from(config["layers"], depth))
