"""Files that appear whole or stay as they were, whatever happens while they are written."""

import contextlib
import glob
import os
import tempfile
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_SUFFIX = ".part"


def write_atomically(path, data, overwrite=True):
    """Write bytes to a file: it appears complete, and lies on the disk, or stays as it was.

    Parameters
    ----------
    path : str or path-like
    data : bytes
    overwrite : bool, default True
        Whether an existing file may be replaced.

    Raises
    ------
    FileExistsError
        If the file exists and must not be replaced.
    OSError
        If the folder is missing or cannot be written to, or the disk is full.
    """
    path = Path(path)
    if not overwrite and path.exists():
        raise FileExistsError(f"path {str(path)!r} exists already")
    with _temporary_beside(path) as (file, temporary):
        file.write(data)
        file.flush()
        os.fsync(file.fileno())  # before the rename: that of an empty file might survive alone
        os.chmod(temporary, 0o666 & ~_umask())
        if fcntl is None:  # Windows renames no open file
            file.close()
        os.replace(temporary, path)
        _sync_folder(path.parent)


def check_writable(path):
    """Raise the OSError that `write_atomically` would raise, but for a disk that is full.

    Parameters
    ----------
    path : str or path-like
    """
    with _temporary_beside(Path(path)) as (_, temporary):
        os.unlink(temporary)


@contextlib.contextmanager
def _temporary_beside(path):
    """Open a new file in the folder of `path`; remove it if anything goes wrong."""
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
        if isinstance(error, OSError) and error.errno:  # name the file instead of the temporary one
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


# A process that is killed while it writes leaves its temporary file behind. A living one holds a
# lock on its own, so a file without a lock is nobody's.


def _open_locked(path):
    """Open a temporary file beside `path` and lock it; return its descriptor and its name."""
    while True:
        descriptor, temporary = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.name}.", suffix=_SUFFIX
        )
        try:
            _lock(descriptor)
            removed = not os.path.exists(temporary)
        except BlockingIOError:  # `remove_leftovers` has just found it
            removed = True
        except OSError:  # a file system without locks: nobody removes anything there
            removed = False
        if not removed:
            return descriptor, temporary
        os.close(descriptor)


def remove_leftovers(path):
    """Remove what processes left beside a file that were killed while they wrote it.

    Parameters
    ----------
    path : path-like
    """
    path = Path(path)
    if fcntl is not None:
        for leftover in path.parent.glob(f".{glob.escape(path.name)}.*{_SUFFIX}"):
            with contextlib.suppress(OSError), open(leftover, "rb") as file:
                _lock(file.fileno())
                leftover.unlink()


def _lock(descriptor):
    """Lock a file until it is closed, or raise OSError: `BlockingIOError` if it is locked."""
    if fcntl is not None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _sync_folder(folder):
    """Let a rename reach the disk, where folders can be opened."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _umask():
    """Permissions that new files must not have; it can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
