"""What all kernels need: compilation, the cache of machine code on disk, threads."""

from typing import Any

from numba.core import config

_SETTINGS: Any = config  # its values are set when it is loaded
if _SETTINGS.DISABLE_JIT:
    # Tiles and addresses of kernels exist in compiled code only: Python cannot run the loops.
    raise ImportError("fastnn runs compiled loops only: unset NUMBA_DISABLE_JIT, which is set here")
