"""Model files in the safetensors format: written atomically, read without executing any code."""

import json
import math
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as parse_tensors
from safetensors.numpy import save as format_tensors

from fastnn.errors import ModelFileError, reason
from fastnn.files.atomic_write import write_atomically

HEADER = "fastnn"
"""Metadata entry that holds the description of the net as JSON."""

MAX_DESCRIPTION = 2**20
"""Most characters of a description: parsing JSON takes about 20 times its length in memory."""

MAX_HEADER = 100_000_000
"""Most bytes of all names, shapes and metadata: safetensors writes longer headers, but cannot
read them."""

_METADATA = "__metadata__"
# Types of the arrays that users may save with a net: NumPy's real numbers of up to 64 bits.
_DTYPES = ("F64", "F32", "F16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL")


def write_model(
    path: str | os.PathLike[str],
    header: object,
    metadata: Mapping[str, str],
    tensors: Mapping[str, ArrayLike],
    overwrite: bool = True,
) -> None:
    """Write a model file.

    Parameters
    ----------
    path : str or path-like
        File to write.
    header : object
        Description of the net, which JSON can represent.
    metadata : mapping of str to str
        Metadata of the user.
    tensors : mapping of str to array_like
        Arrays by name.
    overwrite : bool, default=True
        Whether an existing file may be replaced.

    Raises
    ------
    FileExistsError
        If the file exists and must not be replaced.
    ValueError
        If an argument cannot be written such that `read_model` returns the same.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import numpy as np
    >>> from fastnn.files.model_file import read_model, write_model
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "m.safetensors"
    ...     write_model(path, {"layers": []}, {"unit": "kg"}, {"mean": np.zeros(2)})
    ...     read_model(path)
    ({'layers': []}, {'unit': 'kg'}, {'mean': array([0., 0.])})
    """
    path = check_path(path)
    write_atomically(path, model_bytes(header, metadata, tensors), overwrite)


def model_bytes(
    header: object, metadata: Mapping[str, str], tensors: Mapping[str, ArrayLike]
) -> bytes:
    """Return the content of a model file, which `write_model` writes.

    Parameters
    ----------
    header, metadata, tensors
        As for `write_model`.

    Raises
    ------
    ValueError
        As by `write_model`.
    """
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
    return data


def read_model(
    path: str | os.PathLike[str],
) -> tuple[Any, dict[str, str], dict[str, NDArray[Any]]]:
    """Read a model file.

    It takes twice the size of the file in memory, and some for the names. The sizes that a damaged
    header claims are checked before any memory is allocated for them.

    Parameters
    ----------
    path : str or path-like
        A regular file: neither a pipe nor a device.

    Returns
    -------
    header : object
        Description of the net as parsed from JSON. Its content is not checked.
    metadata : dict of str to str
        Metadata of the user.
    tensors : dict of str to ndarray
        Arrays by name.

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
    if not stat.S_ISREG(status.st_mode):  # reading a pipe or /dev/zero may never end
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


def check_path(path: object) -> Path:
    """Return a path argument as a `pathlib.Path`, or raise ValueError."""
    if isinstance(path, (str, os.PathLike)):
        name = os.fspath(path)
        if isinstance(name, str) and "\0" not in name:
            return Path(name)
    raise ValueError(f"path must be a str or path-like without null characters, got {path!r}")


def parse_json(text: str) -> Any:
    """Return the value of a JSON text, more strictly than `json.loads`.

    Parameters
    ----------
    text : str
        JSON.

    Raises
    ------
    ValueError
        If it is damaged, an object has two entries of one name, or a number is not finite.
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


def _header_length(data: bytes) -> int:
    """Return the length of the JSON header, the first 8 bytes of a safetensors file."""
    return int.from_bytes(data[:8], "little")


def _read_entries(file: BinaryIO, size: int) -> dict[str, Any]:
    """Return the JSON header of a safetensors file; its parser does the other checks."""
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


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object as a dict, or raise ValueError: parsers disagree on duplicate names."""
    result: dict[str, Any] = {}
    for name, value in pairs:
        if name in result:
            raise ValueError(f"{name!r} is named twice")
        result[name] = value
    return result


def _finite(text: str) -> float:
    """Return a JSON number as a float, or raise ValueError for NaN, Infinity and 1e999."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not a finite number")
    return number


def _is_text(value: object) -> bool:
    """Return whether a value is a str that can be encoded in UTF-8: no lone surrogates."""
    try:
        return isinstance(value, str) and value.encode("utf-8") is not None
    except UnicodeEncodeError:
        return False
