"""What is wrong with the arguments of a command: found before any work begins, said in one line."""

import contextlib
import tempfile
from pathlib import Path

from fastnn.datasets import BUNDLED, Dataset, UnknownColumnError, load
from fastnn.errors import DataError


class UsageError(Exception):
    """An argument cannot be used; the message names it."""


class TrainingError(Exception):
    """Training led to no usable network."""


# Options that have another name than the argument of the function behind them.
_OPTION_NAMES = {"n_threads": "threads"}


@contextlib.contextmanager
def named_as_option():
    """Turn ``ValueError("batch_size must be ...")`` into ``UsageError("--batch-size must ...")``.

    All checks of this package begin their message with the name of the argument.
    """
    try:
        yield
    except ValueError as error:
        argument, _, rest = str(error).partition(" ")
        option = _OPTION_NAMES.get(argument, argument).replace("_", "-")
        raise UsageError(f"--{option} {rest}") from error


def check_choice(option: str, value: str, allowed) -> None:
    """Raise `UsageError` if `value` is not one of those allowed."""
    if value not in allowed:
        raise UsageError(f"{option} must be one of {', '.join(allowed)}, got {value!r}")


def check_share(option: str, value: float) -> None:
    """Raise `UsageError` if `value` is no share of the rows, 0 <= value < 1."""
    if not 0 <= value < 1:
        raise UsageError(f"{option} must be a number >= 0 and < 1, got {value}")


def check_outputs(outputs: dict[str, Path | None], inputs: dict[str, str | None], force: bool):
    """Raise `UsageError` if a file cannot be written.

    Parameters
    ----------
    outputs : dict of str to Path or None
        Option -> the file it writes.
    inputs : dict of str to str or None
        Argument -> what it reads, which no output may replace.
    force : bool
        Whether existing files may be replaced.
    """
    taken = {
        Path(source).resolve(): argument
        for argument, source in inputs.items()
        if source and source not in BUNDLED
    }
    for option, path in outputs.items():
        if path is None:
            continue
        other = taken.setdefault(path.resolve(), option)
        if other != option:
            raise UsageError(f"{option} {path} is the file of {other} already")
        if path.is_dir():
            raise UsageError(f"{option} {path} is a folder, but a file is needed")
        if path.exists() and not path.is_file():
            raise UsageError(f"{option} {path} is not an ordinary file")
        if path.exists() and not force:
            raise UsageError(f"{option} {path} exists already: --force replaces it")
        if not path.parent.is_dir():
            raise UsageError(f"{option} {path} cannot be written: no folder {path.parent}")
        try:
            # Asking for permissions is not enough: a file system may be mounted read-only.
            tempfile.TemporaryFile(dir=path.parent).close()
        except OSError as error:
            raise UsageError(f"{option} {path} cannot be written: {error.strerror}") from error


def check_exists(argument: str, source: str) -> None:
    """Raise `UsageError` if a source is neither a file or folder nor a bundled set."""
    if source not in BUNDLED and not Path(source).exists():
        names = ", ".join(BUNDLED)
        raise UsageError(
            f"{argument} {source}: no such file or folder, nor a bundled set ({names})"
        )


def load_argument(argument: str, source: str, **options) -> Dataset:
    """Read a data set; errors name the argument."""
    try:
        return load(source, **options)
    except UnknownColumnError as error:
        raise UsageError(f"--{error}") from error
    except DataError as error:
        raise DataError(f"{argument} {error}") from error


@contextlib.contextmanager
def data_of(argument: str):
    """Let errors about data name the argument that brought it."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{argument} {error}") from error
