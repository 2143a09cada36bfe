"""The cache of compiled kernels on disk. No process ever loads the wrong machine code from it.

It replaces two parts of Numba's own cache.

- Numba's key of a function is the text of the file that defines it, not of the other files whose
  functions it calls, so after an upgrade it could load old code. Here the key has a digest of the
  source of all kernels.
- Numba numbers the compiled versions of a function in an index file. When two processes read,
  change and write it at the same time, one number stands for two versions, and a later process
  calls code that was compiled for other types of arguments. Here the name of a file is a digest of
  its key, there is no index, and the file begins with a digest of its content.
"""

import functools
import hashlib
import inspect
import pickle
import re
import warnings
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from types import FunctionType
from typing import Any

import llvmlite
import numba
import numpy as np
from numba.core.caching import IndexDataCacheFile

from fastnn.runtime.cpu import VECTOR_BYTES

_DIGEST_BYTES = 32
_STAMP_DIGITS = 12  # in the name of a file, whose content has the whole stamp


@functools.cache
def source_stamp() -> str:
    """Return a digest of what decides all machine code: sources of kernels, versions of compilers.

    Returns
    -------
    str
        Hexadecimal SHA-256 digest.
    """
    digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__}".encode())
    for package in ("runtime", "kernels"):
        for source in _sources(resources.files("fastnn") / package):
            digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()


def _sources(folder: Any) -> Iterator[Any]:
    """Yield the Python files of a folder, which may be in a zip file, in a fixed order."""
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir():
            yield from _sources(entry)
        elif entry.name.endswith(".py"):
            yield entry


_SET_FOLDER = "Set NUMBA_CACHE_DIR to a folder for them"
_warned: list[str] = []


def _warn_no_cache(reason: str) -> None:
    """Warn, once in a process and in one line, that kernels cannot be cached on disk."""
    if not _warned:
        _warned.append(reason)
        warnings.warn(
            f"fastnn compiles its kernels anew in each process: {reason}.",
            RuntimeWarning,
            stacklevel=4,
        )


class _ContentNamedFiles(IndexDataCacheFile):
    """The compiled versions of one function: a file for each, and no index.

    Parameters
    ----------
    numbered : numba.core.caching.IndexDataCacheFile
        Numba's own files of the function, which this takes the place of.
    """

    def __init__(self, numbered: Any) -> None:
        super().__init__(
            numbered._cache_path,
            numbered._index_name.removesuffix(".nbi"),
            (numbered._source_stamp, source_stamp()),
        )
        # Without the line number, which changes with the text above the function.
        self._base = re.sub(r"-\d+(?=\.py)", "", self._index_name.removesuffix(".nbi"))
        self._stamp = hashlib.sha256(repr(self._source_stamp).encode()).hexdigest()

    def _name_of(self, key: Any) -> str:
        digest = hashlib.sha256(f"{self._stamp} {VECTOR_BYTES} {key!r}".encode()).hexdigest()
        return f"{self._base}.{self._stamp[:_STAMP_DIGITS]}.{digest[:32]}.nbc"

    def save(self, key: Any, data: Any) -> None:
        """Write the file of a version of the function; remove those of older source.

        Warns once if the folder cannot be written to.
        """
        content = self._dump((self._stamp, VECTOR_BYTES, key, data))
        try:
            with self._open_for_write(self._data_path(self._name_of(key))) as file:
                file.write(hashlib.sha256(content).digest())
                file.write(content)
            for old in Path(self._cache_path).glob(f"{self._base}.*.nbc"):
                if not old.name.startswith(f"{self._base}.{self._stamp[:_STAMP_DIGITS]}."):
                    old.unlink(missing_ok=True)
        except OSError as error:  # a full disk must not stop a computation
            _warn_no_cache(
                f"{self._cache_path} cannot be written to ({error.strerror}). {_SET_FOLDER}"
            )

    def load(self, key: Any) -> Any:
        """Return the data that was saved with a key; None if there is no file, or a damaged one."""
        try:
            file = Path(self._data_path(self._name_of(key))).read_bytes()
        except OSError:
            return None
        digest, content = file[:_DIGEST_BYTES], file[_DIGEST_BYTES:]
        if digest != hashlib.sha256(content).digest():
            return None
        *stored_for, data = pickle.loads(content)
        return data if stored_for == [self._stamp, VECTOR_BYTES, key] else None


def _described(value: Any) -> Any:
    """Return a value of an enclosing scope in a form whose `repr` is the same in each process.

    Functions of kernels become their names, since the stamp covers their code.

    Raises
    ------
    TypeError
        If there is no such form.
    """
    function = getattr(value, "py_func", value)
    if isinstance(function, FunctionType):
        name = f"{function.__module__}.{function.__qualname__}"
        if not name.startswith(("fastnn.kernels.", "fastnn.runtime.")):  # the stamp has no others
            raise TypeError(f"{name} is no function of fastnn.kernels, so it cannot be cached")
        return name, _described_scope(function)
    if isinstance(value, tuple):
        return tuple(map(_described, value))
    if value is None or isinstance(value, (bool, int, float, str, type, np.generic)):
        return repr(value)
    raise TypeError(f"the key of a cached function cannot hold {value!r}")


def _described_scope(function: FunctionType) -> tuple[Any, ...]:
    """Return the variables of enclosing scopes that a function uses, as `_described` does."""
    return tuple(_described(cell.cell_contents) for cell in function.__closure__ or ())


def enable_caching(compiled: Any) -> None:
    """Cache the machine code of a dispatcher or a `CFunc` on disk.

    Warns once in a process if there is no writable folder.

    Raises
    ------
    TypeError
        If the function uses a variable of an enclosing scope that has no form for the key.
    """
    try:
        compiled.enable_caching()
    except RuntimeError:  # Numba found no writable folder
        if Path(inspect.getfile(getattr(compiled, "py_func", None) or compiled._pyfunc)).exists():
            _warn_no_cache(f"there is no writable folder to keep them in. {_SET_FOLDER}")
        else:  # NUMBA_CACHE_DIR is for functions whose source is a file
            _warn_no_cache("its sources are no files, as in a zip file. Install or unpack them")
    else:
        function = getattr(compiled, "py_func", None) or compiled._pyfunc
        scope = repr(_described_scope(function))
        cache = compiled._cache
        cache._cache_file = _ContentNamedFiles(cache._cache_file)
        cache._index_key = lambda signature, codegen: (signature, codegen.magic_tuple(), scope)


def cache_folder() -> str | None:
    """Return the folder of the cache, or None if none is writable."""
    compiled: Any = numba.njit(source_stamp.__wrapped__)
    try:
        compiled.enable_caching()
    except RuntimeError:
        return None
    return compiled._cache.cache_path
