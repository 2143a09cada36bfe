"""The kernels as older CPUs run them: narrower vectors, other tiles, no fused multiply-add."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

HASWELL = "+sse2,+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt,+avx,+avx2,+fma,+bmi,+bmi2,+f16c"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="names CPUs of x86-64")
@pytest.mark.parametrize(
    "cpu, features, vector_bits",
    [pytest.param("haswell", HASWELL, 256, marks=pytest.mark.slow), ("x86-64", "+sse2", 128)],
)
def test_training_is_right_on_an_older_cpu(cpu, features, vector_bits, tmp_path):
    environment = {
        **os.environ,
        "NUMBA_CPU_NAME": cpu,
        "NUMBA_CPU_FEATURES": features,
        "NUMBA_CACHE_DIR": str(tmp_path),
    }
    check = f"import fastnn; assert fastnn.get_config()['vector_bits'] == {vector_bits}"
    subprocess.run([sys.executable, "-c", check], env=environment, check=True, timeout=120)
    tests = Path(__file__).parent.parent / "test_training.py"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests)]
    result = subprocess.run(
        command,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
        cwd=tests.parent.parent,
    )
    assert result.returncode == 0, result.stdout[-3000:]
