"""Standard input and output as files: ``-``."""

import gzip
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

from fastnn.datasets import Dataset, UnknownColumnError, load
from fastnn.errors import DataError

STREAM = "-"
"""The name of standard input, as a source, and of standard output, as a file to be written."""

NAME = "stdin"
"""The name of a data set that was read from standard input."""

# The first bytes of files that are no text -> the suffix of their names.
_KINDS = {b"PAR1": ".parquet", b"PK\x03\x04": ".npz"}
_GZIP = b"\x1f\x8b"


def is_stream(path: Path | str | None) -> bool:
    """Return whether a file is standard input or output."""
    return path is not None and str(path) == STREAM


def load_stdin(**options: Any) -> Dataset:
    """Load a data set from standard input, of which the first bytes say what kind of file it is.

    Parameters
    ----------
    **options
        Those of `fastnn.datasets.load`.

    Raises
    ------
    DataError, UnknownColumnError
        As by `load`; messages name standard input.
    """
    content = sys.stdin.buffer.read()
    if content.startswith(_GZIP):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"standard input: cannot be decompressed: {error}") from error
    suffix = next((kind for first, kind in _KINDS.items() if content.startswith(first)), ".csv")
    # Readers go through a file more than once.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{NAME}{suffix}"
        path.write_bytes(content)
        try:
            return load(path, **options)
        except (UnknownColumnError, DataError) as error:
            raise type(error)(str(error).replace(str(path), "standard input")) from error
