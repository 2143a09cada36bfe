"""What kernels are compiled for: the width of the CPU's SIMD registers, and how many there are."""

import os
import platform

from numba.core import config
from numba.core.codegen import get_host_cpu_features

from fastnn.errors import shown

WIDTHS = (16, 32, 64)
"""Bytes that a SIMD register can have."""

VARIABLE = "FASTNN_VECTOR_BYTES"
"""An environment variable that overrides the width: code of any width runs on any machine."""


def _vector_bytes():
    """Return the width of a SIMD register: Numba's target CPU may be narrower than the host."""
    chosen = os.environ.get(VARIABLE)
    if chosen:
        if chosen not in map(str, WIDTHS):
            raise ValueError(f"{VARIABLE} must be one of {WIDTHS}, got {shown(chosen)}")
        return int(chosen)
    features = config.CPU_FEATURES if config.CPU_FEATURES is not None else get_host_cpu_features()
    enabled = set(features.split(","))
    if "+avx512f" in enabled:
        return 64
    if "+avx" in enabled:
        return 32
    return 16


VECTOR_BYTES = _vector_bytes()
"""Bytes of a SIMD register. LLVM splits vectors that are wider than those of the machine."""

# By width: AVX-512 and 64-bit ARM have 32 registers, AVX2 and SSE 16.
N_REGISTERS = {16: 32 if platform.machine() in ("aarch64", "arm64") else 16, 32: 16, 64: 32}[
    VECTOR_BYTES
]
