"""The SIMD registers that kernels are compiled for: their width and their number."""

import os
import platform
from typing import Any

from numba.core import config
from numba.core.codegen import get_host_cpu_features

from fastnn.errors import shown

WIDTHS = (16, 32, 64)
"""The possible widths of a SIMD register, in bytes."""

VARIABLE = "FASTNN_VECTOR_BYTES"
"""The environment variable that overrides the width: code of any width runs on any machine."""


def _vector_bytes() -> int:
    """Return the width of a SIMD register of the CPU that Numba compiles for, in bytes.

    That CPU may have narrower registers than the host.

    Raises
    ------
    ValueError
        If the environment variable `VARIABLE` is set to something that is not in `WIDTHS`.
    """
    chosen = os.environ.get(VARIABLE)
    if chosen:
        if chosen not in map(str, WIDTHS):
            raise ValueError(f"{VARIABLE} must be one of {WIDTHS}, got {shown(chosen)}")
        return int(chosen)
    settings: Any = config  # its values are set when it is loaded
    features = settings.CPU_FEATURES
    if features is None:
        features = get_host_cpu_features()
    enabled = set(features.split(","))
    if "+avx512f" in enabled:
        return 64
    if "+avx" in enabled:
        return 32
    return 16


VECTOR_BYTES = _vector_bytes()
"""The width of a SIMD register in bytes. LLVM splits vectors that are wider than the machine's."""

N_REGISTERS = {16: 32 if platform.machine() in ("aarch64", "arm64") else 16, 32: 16, 64: 32}[
    VECTOR_BYTES
]
"""The number of SIMD registers: 32 with AVX-512 and on 64-bit ARM, 16 with AVX2 and SSE."""
