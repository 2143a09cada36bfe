"""Where compiled kernels are kept on disk, so that no process ever runs the wrong machine code.

Numba's own cache falls short in two ways. It keys a function by the text of the file that holds it
and does not see the other files that the function calls, so after an upgrade it could run old
code: here the key has a digest of the whole kernel source. And it numbers the files of a function
through an index which two processes may read, change and write at the same time; then one number
stands for two functions, and a later process calls code made for other types of arguments. Here a
file is named by what it holds, and holds a digest of its content.
"""

import functools
import hashlib
import pickle
import re
import warnings
from pathlib import Path
from types import FunctionType

import llvmlite
import numba
import numpy as np
from numba.core.caching import IndexDataCacheFile

from fastnn.runtime.cpu import VECTOR_BYTES

_DIGEST_BYTES = 32
_STAMP_DIGITS = 12  # of the name of a file; all of the stamp is in its content


@functools.cache
def source_stamp():
    """Digest of all that decides a kernel's machine code: kernel sources and compiler versions.

    Returns
    -------
    str
        Hexadecimal SHA-256 digest.
    """
    digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__}".encode())
    runtime = Path(__file__).parent
    for path in [
        *sorted(runtime.glob("*.py")),
        *sorted((runtime.parent / "kernels").rglob("*.py")),
    ]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


_warned = []


def _warn_no_cache(reason):
    """Say once, in one line, why everything is compiled in each process."""
    if not _warned:
        _warned.append(reason)
        warnings.warn(
            f"fastnn compiles its kernels anew in each process: {reason}. Set NUMBA_CACHE_DIR to "
            "a folder for them.",
            RuntimeWarning,
            stacklevel=4,
        )


class _ContentNamedFiles(IndexDataCacheFile):
    """The compiled versions of one function: a file for each, and no index."""

    def __init__(self, numbered):
        super().__init__(
            numbered._cache_path,
            numbered._index_name.removesuffix(".nbi"),
            (numbered._source_stamp, source_stamp()),
        )
        # Without the number of the line, which changes with the text above the function.
        self._base = re.sub(r"-\d+(?=\.py)", "", self._index_name.removesuffix(".nbi"))
        self._stamp = hashlib.sha256(repr(self._source_stamp).encode()).hexdigest()

    def _name_of(self, key):
        digest = hashlib.sha256(f"{self._stamp} {VECTOR_BYTES} {key!r}".encode()).hexdigest()
        return f"{self._base}.{self._stamp[:_STAMP_DIGITS]}.{digest[:32]}.nbc"

    def save(self, key, data):
        """Write a file for this version of the function; remove those of older code."""
        content = self._dump((self._stamp, VECTOR_BYTES, key, data))
        try:
            with self._open_for_write(self._data_path(self._name_of(key))) as file:
                file.write(hashlib.sha256(content).digest())
                file.write(content)
            for old in Path(self._cache_path).glob(f"{self._base}.*.nbc"):
                if not old.name.startswith(f"{self._base}.{self._stamp[:_STAMP_DIGITS]}."):
                    old.unlink(missing_ok=True)
        except OSError as error:  # a full disk must not stop a computation
            _warn_no_cache(f"{self._cache_path} cannot be written to ({error.strerror})")

    def load(self, key):
        """Return what `save` was given for the key; None if there is none, or it is damaged."""
        try:
            file = Path(self._data_path(self._name_of(key))).read_bytes()
        except OSError:
            return None
        digest, content = file[:_DIGEST_BYTES], file[_DIGEST_BYTES:]
        if digest != hashlib.sha256(content).digest():
            return None
        *stored_for, data = pickle.loads(content)
        return data if stored_for == [self._stamp, VECTOR_BYTES, key] else None


def _described(value):
    """Describe what a function takes from an enclosing scope, the same text in each process.

    Functions of this package are described by their names, since the stamp covers their code.
    """
    function = getattr(value, "py_func", value)
    if isinstance(function, FunctionType):
        name = f"{function.__module__}.{function.__qualname__}"
        if not name.startswith("fastnn."):
            raise TypeError(f"{name} is no function of this package, so its code cannot be cached")
        return name, _described_scope(function)
    if isinstance(value, tuple):
        return tuple(map(_described, value))
    if value is None or isinstance(value, (bool, int, float, str, type, np.generic)):
        return repr(value)
    raise TypeError(f"the key of a cached function cannot hold {value!r}")


def _described_scope(function):
    return tuple(_described(cell.cell_contents) for cell in function.__closure__ or ())


def enable_caching(compiled):
    """Keep the machine code of a dispatcher or a `CFunc` on disk, if a folder can be written to."""
    try:
        compiled.enable_caching()
    except RuntimeError:  # Numba found no writable folder
        _warn_no_cache("there is no writable folder to keep them in")
    else:
        function = getattr(compiled, "py_func", None) or compiled._pyfunc
        scope = repr(_described_scope(function))
        cache = compiled._cache
        cache._cache_file = _ContentNamedFiles(cache._cache_file)
        cache._index_key = lambda signature, codegen: (signature, codegen.magic_tuple(), scope)


def cache_folder():
    """Return the folder where compiled kernels are kept, or None where none is writable."""
    compiled = numba.njit(source_stamp.__wrapped__)
    try:
        compiled.enable_caching()
    except RuntimeError:
        return None
    return compiled._cache.cache_path
