"""Atomic writes: a file is replaced as a whole or not at all, whatever happens meanwhile."""

import contextlib
import glob
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import BinaryIO

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_SUFFIX = ".part"


def write_atomically(path: str | os.PathLike[str], data: bytes, overwrite: bool = True) -> None:
    """Write bytes to a file and to the disk; if that fails, the file stays as it was.

    Parameters
    ----------
    path : str or path-like
        File to write.
    data : bytes
        Its whole content.
    overwrite : bool, default=True
        Whether an existing file may be replaced.

    Raises
    ------
    FileExistsError
        If the file exists and must not be replaced.
    OSError
        If the folder is missing or cannot be written to, or the disk is full.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from fastnn.files.atomic_write import write_atomically
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "figures.txt"
    ...     write_atomically(path, b"0.97")
    ...     path.read_bytes()
    b'0.97'
    """
    path = Path(path)
    if not overwrite and path.exists():
        raise FileExistsError(f"path {str(path)!r} exists already")
    with _temporary_beside(path) as (file, temporary):
        file.write(data)
        file.flush()
        os.fsync(file.fileno())  # else the rename might reach the disk before the content
        os.chmod(temporary, 0o666 & ~_umask())
        if fcntl is None:  # Windows cannot rename an open file
            file.close()
        os.replace(temporary, path)
        _sync_folder(path.parent)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise the OSError that `write_atomically` would raise, unless the disk is full.

    Parameters
    ----------
    path : str or path-like
        File that is to be written; it is not changed.

    Raises
    ------
    OSError
        If the path is a folder, or its folder is missing or cannot be written to.
    """
    with _temporary_beside(Path(path)) as (_, temporary):
        os.unlink(temporary)


@contextlib.contextmanager
def _temporary_beside(path: Path) -> Iterator[tuple[BinaryIO, str]]:
    """Open a temporary file in the folder of `path`; remove it if an exception is raised."""
    if path.is_dir():
        raise IsADirectoryError(f"path {str(path)!r} is a folder")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path {str(path)!r} lies in a folder that does not exist")
    temporary = None
    try:
        descriptor, temporary = _open_locked(path)
        with os.fdopen(descriptor, "wb") as file:
            yield file, temporary
    except BaseException as error:
        if temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
        if isinstance(error, OSError) and error.errno:  # with the name of the file itself
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


# A process that is killed while it writes leaves its temporary file behind. A running one holds a
# lock on its temporary file, so a temporary file without a lock can be removed.


def _open_locked(path: Path) -> tuple[int, str]:
    """Return the descriptor and the name of a new temporary file beside `path`, locked."""
    while True:
        descriptor, temporary = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.name}.", suffix=_SUFFIX
        )
        try:
            _lock(descriptor)
            removed = not os.path.exists(temporary)
        except BlockingIOError:  # `remove_leftovers` has locked it and is about to remove it
            removed = True
        except OSError:  # a file system without locks, where `remove_leftovers` removes nothing
            removed = False
        if not removed:
            return descriptor, temporary
        os.close(descriptor)


def remove_leftovers(path: str | os.PathLike[str]) -> None:
    """Remove the temporary files of processes that were killed while they wrote a file.

    Parameters
    ----------
    path : str or path-like
        The file that was to be written.
    """
    path = Path(path)
    if fcntl is not None:
        for leftover in path.parent.glob(f".{glob.escape(path.name)}.*{_SUFFIX}"):
            with contextlib.suppress(OSError), open(leftover, "rb") as file:
                _lock(file.fileno())
                leftover.unlink()


def _lock(descriptor: int) -> None:
    """Lock a file until it is closed; raise BlockingIOError if another process has locked it."""
    if fcntl is not None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _sync_folder(folder: Path) -> None:
    """Write a rename to the disk, on systems where folders can be opened."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _umask() -> int:
    """Return the permissions that new files must not have; reading them takes setting them."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
