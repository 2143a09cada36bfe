"""Checks of a command's arguments before any work begins; error messages are one line."""

import contextlib
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from fastnn.cli.streams import STREAM, is_stream, load_stdin
from fastnn.datasets import BUNDLED, Dataset, UnknownColumnError, load
from fastnn.errors import DataError


class UsageError(Exception):
    """An argument cannot be used; the message names it."""


class TrainingError(Exception):
    """Training diverged."""


class InterruptedTrainingError(Exception):
    """Training was interrupted by Ctrl-C; the message says what has been saved."""


# The outputs that may be standard output.
_PRINTABLE = ("--out", "--json")

# Options that are not named after the argument that is checked.
_OPTION_NAMES = {"n_threads": "threads"}


@contextlib.contextmanager
def named_as_option() -> Iterator[None]:
    """Turn ``ValueError("batch_size must be ...")`` into ``UsageError("--batch-size must ...")``.

    Error messages of this package begin with the name of the argument.

    Examples
    --------
    >>> from fastnn.cli.checks import named_as_option
    >>> with named_as_option():
    ...     raise ValueError("n_threads must be an integer >= 1, got 0")
    Traceback (most recent call last):
    fastnn.cli.checks.UsageError: --threads must be an integer >= 1, got 0
    """
    try:
        yield
    except ValueError as error:
        argument, _, rest = str(error).partition(" ")
        option = _OPTION_NAMES.get(argument, argument).replace("_", "-")
        raise UsageError(f"--{option} {rest}") from error


def check_choice(option: str, value: str, allowed: Collection[str]) -> None:
    """Raise `UsageError` if `value` is not one of those allowed."""
    if value not in allowed:
        raise UsageError(f"{option} must be one of {', '.join(allowed)}, got {value!r}")


def check_share(option: str, value: float) -> None:
    """Raise `UsageError` unless 0 <= value < 1."""
    if not 0 <= value < 1:
        raise UsageError(f"{option} must be a number >= 0 and < 1, got {value}")


def check_outputs(
    outputs: dict[str, Path | None],
    inputs: dict[str, str | None],
    force: bool,
    *,
    replaceable: Collection[Path] = (),
) -> None:
    """Check that all files can be written.

    Parameters
    ----------
    outputs : dict of str to Path or None
        Option -> the file it writes.
    inputs : dict of str to str or None
        Argument -> the source it reads, which no output may replace.
    force : bool
        Whether existing files may be replaced.
    replaceable : collection of Path, default=()
        Absolute paths of files that may be replaced anyway.

    Raises
    ------
    UsageError
        If two outputs are standard output, or one that cannot be; if a file exists and must not
        be replaced, is also an input or another output, or cannot be written.
    """
    taken = {
        Path(source).resolve(): argument
        for argument, source in inputs.items()
        if source and source not in BUNDLED and source != STREAM
    }
    printed: list[str] = []
    for option, path in outputs.items():
        if path is None:
            continue
        if is_stream(path):
            if option not in _PRINTABLE:
                raise UsageError(f"{option} - cannot be used: a file is needed")
            if printed:
                raise UsageError(f"{option} - is the standard output of {printed[0]} already")
            printed.append(option)
            continue
        other = taken.setdefault(path.resolve(), option)
        if other != option:
            raise UsageError(f"{option} {path} is the file of {other} already")
        if path.is_dir():
            raise UsageError(f"{option} {path} is a folder, but a file is needed")
        if path.exists() and not path.is_file():
            raise UsageError(f"{option} {path} is not an ordinary file")
        if path.exists() and not force and path.resolve() not in replaceable:
            raise UsageError(f"{option} {path} exists already: --force replaces it")
        if not path.parent.is_dir():
            raise UsageError(f"{option} {path} cannot be written: no folder {path.parent}")
        try:
            # Permissions are not enough: the file system may be mounted read-only.
            tempfile.TemporaryFile(dir=path.parent).close()
        except OSError as error:
            raise UsageError(f"{option} {path} cannot be written: {error.strerror}") from error


def check_exists(argument: str, source: str) -> None:
    """Raise `UsageError` if a source is neither a file or folder nor a bundled set, nor ``-``."""
    if source != STREAM and source not in BUNDLED and not Path(source).exists():
        names = ", ".join(BUNDLED)
        raise UsageError(
            f"{argument} {source}: no such file or folder, nor a bundled set ({names})"
        )


def load_argument(argument: str, source: str, **options: Any) -> Dataset:
    """Load a data set with `fastnn.datasets.load`; error messages name the argument.

    ``-`` is standard input: a text file or a ``.parquet`` or ``.npz`` file, perhaps compressed.
    """
    try:
        if source == STREAM:
            return load_stdin(**options)
        return load(source, **options)
    except UnknownColumnError as error:
        raise UsageError(f"--{error}") from error
    except DataError as error:
        raise DataError(f"{argument} {error}") from error


@contextlib.contextmanager
def data_of(argument: str) -> Iterator[None]:
    """Prepend the argument that names a data set to the messages of `DataError`."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{argument} {error}") from error
