"""Kernels stay within the arrays that they are given, although nothing checks an index.

Most kernels get addresses, of which Numba knows no length, so its own bounds checks see only
the arrays that have one. Guarded pages see the rest: `guarded_memory` says how.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent

# A member that reads outside of an array whose shape Numba knows, as the check of the check.
OUTSIDE = """
import ctypes
import numpy as np
from fastnn.runtime import jit as _jit
from fastnn.kernels.memory import address_of, matrix_at

@_jit.member
def outside(thread, n_threads, sync, job):
    matrix = matrix_at(job, 2, 3, np.float64)
    matrix[0, 0] = matrix[2 + thread, 0]

memory = np.ones((40, 3))
ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 4)(outside)(0, 1, 0, address_of(memory))
"""


def run(*command, **environment):
    """Run Python; return (exit code, standard output, standard error)."""
    done = subprocess.run(
        [sys.executable, *command],
        env={**os.environ, **environment},
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
        timeout=1800,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="protects pages as Linux does")
@pytest.mark.slow
def test_no_kernel_leaves_its_memory_and_none_depends_on_what_lies_beside_it():
    script = str(TESTS / "guarded_memory.py")
    answers = []
    for side in ("plain", "end", "start"):
        code, out, error = run(script, side)
        assert code == 0, (side, code, error[-2000:])
        digest, fits, n_arrays, n_touched, *unguarded = out.split()
        assert n_touched == "0"
        assert (int(n_arrays) > 20 * int(fits)) == (side != "plain")
        assert unguarded == []
        answers.append(digest)
    assert answers == 3 * answers[:1]


@pytest.mark.skipif(sys.platform != "linux", reason="protects pages as Linux does")
@pytest.mark.slow
def test_a_kernel_that_is_given_too_little_memory_is_caught():
    code, _, _ = run(str(TESTS / "guarded_memory.py"), "short")
    assert code == -signal.SIGSEGV


@pytest.mark.slow
def test_no_index_is_out_of_range_where_numba_knows_the_length(tmp_path):
    environment = {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    _, _, error = run("-c", OUTSIDE, **environment)
    assert "IndexError" in error  # in a member an exception is printed, and no more
    code, _, error = run(str(TESTS / "guarded_memory.py"), "plain", **environment)
    assert code == 0, error[-2000:]
    assert error == ""
    properties = str(TESTS / "reliability" / "test_properties.py")
    options = ["-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", properties]
    code, out, error = run(*options, FASTNN_TEST_EXAMPLES="2", **environment)
    assert code == 0, out[-3000:]
    assert "IndexError" not in out + error
