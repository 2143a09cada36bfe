"""What a model file says of a net: its layers and their arguments as JSON, and named arrays."""

import json

import numpy as np

from fastnn.errors import reason
from fastnn.layers import (
    LAYERS,
    Activation,
    ParametricLayer,
    Residual,
    from_config,
    layers_from,
)
from fastnn.validation import check_finite

FORMAT = 1
"""Version of the description."""

_ENTRIES = ("format", "dtype", "seed", "layers")


def describe(layers, dtype, seed):
    """Return (header, arrays), from which `layers_of` makes the same layers.

    Parameters
    ----------
    layers : sequence of Layer
    dtype : numpy.dtype
    seed : int or None

    Returns
    -------
    header : dict
        That JSON can hold.
    arrays : dict of str to ndarray
        Parameters and running statistics.

    Raises
    ------
    ValueError
        If they could not be made again: a layer holds a function of the user's, or a parameter is
        not finite.
    """
    arrays = {}
    for name, layer in _named_leaves(layers, "layers"):
        for part, array in (layer.params | layer.buffers).items():
            check_finite(f"{name}.{part}", array)
            arrays[f"{name}.{part}"] = array
    header = {
        "format": FORMAT,
        "dtype": dtype.name,
        "seed": seed,
        "layers": [_describe_layer(layer, f"layers[{k}]") for k, layer in enumerate(layers)],
    }
    return header, arrays


def layers_of(header, tensors):
    """Return new layers with the parameters that a file holds; remove these from `tensors`.

    Sizes in a description are but words. Those of the arrays that are there are compared with
    them, and only then memory is taken.

    Raises
    ------
    TypeError, ValueError
        If the description is damaged, or does not fit the arrays.
    """
    _check_description(header)
    layers, dtype = layers_from(header["layers"]), np.dtype(header["dtype"])
    for name, layer in _named_leaves(layers, "layers"):
        if isinstance(layer, ParametricLayer):
            values = [
                {
                    part: _take(tensors, f"{name}.{part}", shape, dtype)
                    for part, shape in shapes.items()
                }
                for shapes in (layer.shapes(), layer.buffer_shapes())
            ]
            try:
                layer.set_values(*values)
            except ValueError as error:
                raise ValueError(f"{name}.{error}") from None
    for name in tensors:
        if name.startswith("layers."):
            raise ValueError(f"there is no layer for {name!r}")
    return layers


def _check_description(header):
    """Raise ValueError if a description does not have the entries that this version knows."""
    if not isinstance(header, dict):
        raise ValueError(f"its description must be a dict, got a {type(header).__name__}")
    if "format" not in header:
        raise ValueError("no 'format'")
    version = header["format"]
    if type(version) is not int or version != FORMAT:
        newer = type(version) is int and version > FORMAT
        hint = "; a newer version of fastnn wrote it" if newer else ""
        raise ValueError(f"its format is {version!r}, this version reads {FORMAT}{hint}")
    for name in _ENTRIES:
        if name not in header:
            raise ValueError(f"no {name!r}")
    if len(header) > len(_ENTRIES):
        unknown = next(name for name in header if name not in _ENTRIES)
        raise ValueError(f"its description has the unknown entry {unknown!r}")
    if header["dtype"] not in ("float32", "float64"):
        raise ValueError(f"dtype must be 'float32' or 'float64', got {header['dtype']!r}")


def _take(tensors, name, shape, dtype):
    """Remove an array of a net from those of a file, and return it."""
    if name not in tensors:
        raise ValueError(f"no {name!r}")
    array = tensors.pop(name)
    if array.shape != shape:
        raise ValueError(f"{name} has the shape {array.shape}, {shape} is needed")
    if array.dtype != dtype:
        raise ValueError(f"{name} has the dtype {array.dtype}, {dtype} is needed")
    check_finite(name, array)
    return array


def _named_leaves(layers, name):
    """Yield (name, layer) of all layers that do the work, as model files name them."""
    for k, layer in enumerate(layers):
        if isinstance(layer, Residual):
            yield from _named_leaves(layer.layers, f"{name}.{k}")
        else:
            yield f"{name}.{k}", layer


def _describe_layer(layer, where):
    """Return a layer's name and arguments, from which `from_config` makes the same one again."""
    try:
        for leaf in layer.leaves():
            if LAYERS.get(type(leaf).__name__) is not type(leaf) and type(leaf) is not Activation:
                raise ValueError(f"{type(leaf).__name__} is not a layer of this package")
        pair = [type(layer).__name__, layer.config()]
        from_config(*json.loads(json.dumps(pair, allow_nan=False)))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where} cannot be saved, {layer!r}: {reason(error)}") from error
    return pair
