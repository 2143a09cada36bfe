"""The description of a net in a model file: layers and their arguments as JSON, named arrays."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fastnn.errors import reason
from fastnn.layers import (
    LAYERS,
    Activation,
    Layer,
    ParametricLayer,
    Residual,
    from_config,
    layers_from,
)
from fastnn.validation import check_finite

FORMAT = 1
"""The version of the description."""

_ENTRIES = ("format", "dtype", "seed", "layers")


def describe(
    layers: Sequence[Layer], dtype: np.dtype, seed: int | None
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the description of a net, from which `layers_of` makes the same layers.

    Parameters
    ----------
    layers : sequence of Layer
        The layers of the net.
    dtype : numpy.dtype
        Type of the net.
    seed : int or None
        Seed of the net.

    Returns
    -------
    header : dict
        The layers and their arguments, for JSON.
    arrays : dict of str to ndarray
        The parameters and running statistics by name, such as "layers.0.w".

    Raises
    ------
    ValueError
        If `layers_of` could not make the layers again: one is not of this package or has a function
        of the user, or a parameter is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import Affine
    >>> from fastnn.layers.serialize import describe
    >>> header, arrays = describe([Affine(2, 1)], np.dtype("float32"), seed=None)
    >>> header["dtype"], list(arrays)
    ('float32', ['layers.0.w', 'layers.0.b'])
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


def layers_of(header: Any, tensors: dict[str, np.ndarray]) -> list[Layer]:
    """Return new layers with the parameters of a file; remove their arrays from `tensors`.

    The sizes in a description may be wrong, so no memory is allocated by them: the layers take the
    arrays of the file, whose shapes are compared with the description.

    Parameters
    ----------
    header : dict
        The description, as `describe` returned it. Anything else is an error.
    tensors : dict of str to ndarray
        The arrays of the file.

    Returns
    -------
    list of Layer

    Raises
    ------
    TypeError, ValueError
        If the description is damaged, or does not match the arrays.
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


def _check_description(header: Any) -> None:
    """Raise ValueError if a description does not have exactly the entries of this version."""
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


def _take(
    tensors: dict[str, np.ndarray], name: str, shape: tuple[int, ...], dtype: np.dtype
) -> np.ndarray:
    """Remove an array of a net from those of a file; return it if its shape and dtype are right."""
    if name not in tensors:
        raise ValueError(f"no {name!r}")
    array = tensors.pop(name)
    if array.shape != shape:
        raise ValueError(f"{name} has the shape {array.shape}, {shape} is needed")
    if array.dtype != dtype:
        raise ValueError(f"{name} has the dtype {array.dtype}, {dtype} is needed")
    check_finite(name, array)
    return array


def _named_leaves(layers: Sequence[Layer], name: str) -> Iterator[tuple[str, Layer]]:
    """Yield (name, layer) for each leaf of the layers, with its name in model files."""
    for k, layer in enumerate(layers):
        if isinstance(layer, Residual):
            yield from _named_leaves(layer.layers, f"{name}.{k}")
        else:
            yield f"{name}.{k}", layer


def _describe_layer(layer: Layer, where: str) -> list[Any]:
    """Return the class name and the arguments of a layer, as `from_config` takes them."""
    try:
        for leaf in layer.leaves():
            if LAYERS.get(type(leaf).__name__) is not type(leaf) and type(leaf) is not Activation:
                raise ValueError(f"{type(leaf).__name__} is not a layer of this package")
        pair = [type(layer).__name__, layer.config()]
        from_config(*json.loads(json.dumps(pair, allow_nan=False)))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where} cannot be saved, {layer!r}: {reason(error)}") from error
    return pair
