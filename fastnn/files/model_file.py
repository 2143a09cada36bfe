"""Model files: safetensors, written whole or not at all, read without running anything."""

import json
import math
import os
import stat
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as parse_tensors
from safetensors.numpy import save as format_tensors

from fastnn.errors import ModelFileError, reason
from fastnn.files.atomic_write import write_atomically

HEADER = "fastnn"
"""Metadata entry that holds the net's description as JSON."""

MAX_DESCRIPTION = 2**20
"""Characters of a description: JSON takes about 20 times its length in memory."""

MAX_HEADER = 100_000_000
"""Bytes of all names, shapes and metadata in a file: more safetensors would write, but not read."""

_METADATA = "__metadata__"
# What users may save beside a net: all types of NumPy that are real numbers of up to 64 bits.
_DTYPES = ("F64", "F32", "F16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL")


def write_model(path, header, metadata, tensors, overwrite=True):
    """Write a net's description, the user's metadata (str to str) and named arrays to a file.

    Raises
    ------
    FileExistsError
        If the file exists and must not be replaced.
    ValueError
        If something cannot be written so that `read_model` returns it again.
    """
    path = check_path(path)
    for name, value in metadata.items():
        if name == HEADER or not _is_text(name) or not _is_text(value):
            raise ValueError(
                f"metadata must map str to str, without the name {HEADER!r}, got {name!r}"
            )
    arrays = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    for name, array in arrays.items():
        if not _is_text(name) or name == _METADATA:
            raise ValueError(f"tensors must have names other than {_METADATA!r}, got {name!r}")
        if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
            raise ValueError(
                f"tensors[{name!r}] must be numeric, got dtype {array.dtype}; a file holds numbers "
                f"of at most 64 bits"
            )
    description = json.dumps(header, allow_nan=False)
    if len(description) > MAX_DESCRIPTION:
        raise ValueError(
            f"layers must have a description of at most {MAX_DESCRIPTION} characters, got "
            f"{len(description)}"
        )
    data = format_tensors(arrays, {**metadata, HEADER: description})
    length = _header_length(data)
    if length > MAX_HEADER:
        raise ValueError(
            f"metadata must take at most {MAX_HEADER} bytes, with all names, got {length}"
        )
    write_atomically(path, data, overwrite)


def read_model(path):
    """Return (header, metadata, tensors) of a model file.

    Takes the memory of the file twice, and some for the names: a file of a few bytes that speaks of
    huge tensors costs nothing.

    Parameters
    ----------
    path : str or path-like
        Of a regular file: neither a pipe nor a device.

    Returns
    -------
    header : object
        The net's description, as JSON has it. It may be anything.
    metadata : dict of str to str
    tensors : dict of str to ndarray

    Raises
    ------
    OSError
        If there is no such file, or it cannot be read.
    ModelFileError
        If it is damaged, or is not a model file of this package.
    """
    path = check_path(path)
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(f"path {str(path)!r} is a folder")
    if not stat.S_ISREG(status.st_mode):  # a pipe may never end, and /dev/zero never does
        raise ModelFileError(f"path {str(path)!r} is not a regular file")
    try:
        with path.open("rb") as file:
            entries = _read_entries(file, status.st_size)
            file.seek(0)
            tensors = parse_tensors(file.read(status.st_size))
    except (SafetensorError, ValueError, KeyError, OverflowError, RecursionError) as error:
        raise ModelFileError(
            f"path {str(path)!r} is not a complete safetensors file ({reason(error)})"
        ) from error
    metadata = entries.get(_METADATA) or {}
    if HEADER not in metadata:
        raise ModelFileError(f"path {str(path)!r} holds no fastnn model")
    description = metadata.pop(HEADER)
    try:
        if len(description) > MAX_DESCRIPTION:
            raise ValueError(f"{len(description)} characters, at most {MAX_DESCRIPTION} are read")
        header = parse_json(description)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(
            f"path {str(path)!r} has a damaged model description ({reason(error)})"
        ) from error
    return header, metadata, tensors


def check_path(path):
    """Return a path argument as a `pathlib.Path`, or raise ValueError."""
    if isinstance(path, (str, os.PathLike)):
        name = os.fspath(path)
        if isinstance(name, str) and "\0" not in name:
            return Path(name)
    raise ValueError(f"path must be a str or path-like without null characters, got {path!r}")


def parse_json(text):
    """Return what JSON says, if it can be understood in one way only.

    Raises
    ------
    ValueError
        If it is damaged, names something twice, or has a number that is not finite.
    RecursionError
        If it is nested too deeply.

    Examples
    --------
    >>> from fastnn.files.model_file import parse_json
    >>> parse_json('{"a": [1, null]}')
    {'a': [1, None]}
    >>> parse_json('{"a": 1, "a": 2}')
    Traceback (most recent call last):
    ValueError: 'a' is named twice
    """
    return json.loads(text, object_pairs_hook=_unique, parse_constant=_finite, parse_float=_finite)


def _header_length(data):
    """Length of the JSON header: the format begins with it, in 8 bytes."""
    return int.from_bytes(data[:8], "little")


def _read_entries(file, size):
    """Return the JSON header of a safetensors file; what only its parser knows is left to that."""
    length = _header_length(file.read(8))
    if length > min(size - 8, MAX_HEADER):
        raise ValueError(f"a header of {length} bytes, in a file of {size}")
    entries = parse_json(file.read(length).decode("utf-8"))
    if not isinstance(entries, dict):
        raise ValueError("no names")
    for name, entry in entries.items():
        if name != _METADATA and isinstance(entry, dict) and entry.get("dtype") not in _DTYPES:
            raise ValueError(f"{name!r} has the dtype {entry.get('dtype')!r}")
    return entries


def _unique(pairs):
    """Return a JSON object as a dict. Of a name that is there twice, each parser takes another."""
    result = dict(pairs)
    if len(result) < len(pairs):
        seen = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))
        raise ValueError(f"{twice!r} is named twice")
    return result


def _finite(text):
    """Return a JSON number as a float. Python reads 1e999 as infinity, and takes NaN as well."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not a finite number")
    return number


def _is_text(value):
    """Whether a value is a str that UTF-8 can hold: lone surrogates it cannot."""
    try:
        return isinstance(value, str) and value.encode("utf-8") is not None
    except UnicodeEncodeError:
        return False
