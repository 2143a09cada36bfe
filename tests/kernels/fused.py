"""The fused multiply-add, which not every CPU has: for tests of kernels that round once."""

import numba
import pytest
from numba.core.codegen import get_host_cpu_features


def skip_without_fused_multiply_add():
    """Skip a test where the CPU that Numba compiles for rounds twice."""
    features = numba.config.CPU_FEATURES
    features = get_host_cpu_features() if features is None else features
    if "+fma" not in features.split(","):
        pytest.skip("a CPU with FMA is needed")
