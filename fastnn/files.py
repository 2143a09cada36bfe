"""Model files: safetensors, written whole or not at all, read without running anything."""

import json
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as parse_tensors
from safetensors.numpy import save as format_tensors

from fastnn.errors import ModelFileError
from fastnn.writing import write_atomically

HEADER = "fastnn"
"""Metadata entry that holds the net's description as JSON."""


def write_model(path, header, metadata, tensors, overwrite=True):
    """Write a net's description, the user's metadata (str to str) and named arrays to a file."""
    for name, value in metadata.items():
        if name == HEADER or not isinstance(name, str) or not isinstance(value, str):
            raise ValueError(
                f"metadata must map str to str, without the name {HEADER!r}, got {name!r}"
            )
    arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise ValueError(f"tensors[{name!r}] must be numeric, got dtype {array.dtype}")
    data = format_tensors(arrays, {**metadata, HEADER: json.dumps(header)})
    write_atomically(path, data, overwrite)


def read_model(path):
    """Return (header, metadata, tensors) of a model file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ModelFileError
        If it is damaged, or is not a model file of this package.
    """
    data = Path(path).read_bytes()
    try:
        tensors = parse_tensors(data)
        # The format: a length of 8 bytes, a JSON header, then the numbers.
        length = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + length]).get("__metadata__", {})
    except (SafetensorError, ValueError, KeyError, OverflowError, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelFileError(
            f"path {str(path)!r} is not a complete safetensors file ({reason})"
        ) from error
    if HEADER not in metadata:
        raise ModelFileError(f"path {str(path)!r} holds no fastnn model")
    try:
        header = json.loads(metadata.pop(HEADER))
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"path {str(path)!r} has a damaged model description") from error
    return header, metadata, tensors
