"""Scenarios that may kill or hang a process, each in a forked child of a script's own process.

The script imports what is slow to import, then calls `run`. A child of it is as good as a fresh
process until somebody starts threads. A test asks for one of the `outcomes`.
"""

import contextlib
import faulthandler
import functools
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

import pytest

SECONDS = 100
"""After so long, a scenario of ordinary size hangs."""

SCRIPTS = Path(__file__).parent / "reliability" / "scripts"


def without_waits(stderr):
    """Return what a process has said, but for how long it compiled: that depends on the machine."""
    lines = stderr.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("compiling kernels, once on"))


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def _tbb_is_there():
    try:  # Numba always has the module, but not the library that it is linked to
        return importlib.import_module("numba.np.ufunc.tbbpool") is not None
    except ImportError:
        return False


COMMON_LAYERS = [
    pytest.param(
        "omp",
        marks=pytest.mark.skipif(
            importlib.util.find_spec("numba.np.ufunc.omppool") is None,
            reason="this Numba has no OpenMP",
        ),
    ),
    "workqueue",
]
LAYERS = [
    *COMMON_LAYERS,
    pytest.param(
        "tbb", marks=pytest.mark.skipif(not _tbb_is_there(), reason="TBB is not installed")
    ),
]
"""Numba's threading layers, for `pytest.mark.parametrize`."""


def environment(layer="default", **more):
    """Return the environment of a script in which Numba has two threads on a threading layer."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(SCRIPTS), *sys.path]),
        "NUMBA_THREADING_LAYER": layer,
        "NUMBA_NUM_THREADS": "2",
        **more,
    }


def run_python(arguments, timeout, **more):
    """Run Python; return what it prints. What it prints to stderr is shown if it fails."""
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        # Not to pipes: who outlives the process would keep them open.
        code = subprocess.run(
            [sys.executable, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            env=environment(**more),
            timeout=timeout,
        ).returncode
        output.seek(0)
        errors.seek(0)
        assert code == 0, f"exit code {code}\n{errors.read()}"
        return output.read()


@functools.cache
def outcomes(layer, count=1):
    """Run all scenarios in a process of their own; return by name "ok", or what happened instead.

    Parameters
    ----------
    layer : str
        Numba's threading layer.
    count : int
        How often a scenario does what it does.
    """
    script = str(SCRIPTS / "all_scenarios.py")
    lines = run_python([script, str(count)], None, layer=layer).splitlines()
    return dict(json.loads(line) for line in lines if line.startswith("["))


def run(scenarios):
    """Run functions of a count one after the other; print their names and outcomes."""
    count = int(sys.argv[1])
    for scenario in scenarios:
        with tempfile.TemporaryFile("w+") as output:
            outcome = run_in_child(lambda s=scenario: s(count), SECONDS * (1 + count / 10), output)
            output.seek(0)
            if outcome != "ok":
                outcome = f"{outcome}\n{output.read()[-3000:]}"
        print(json.dumps([scenario.__name__, outcome]), flush=True)


def run_in_child(function, seconds=SECONDS / 2, output=None):
    """Return "ok" if a function comes back from a forked child, or what happened instead.

    Parameters
    ----------
    function : callable
    seconds : float
        After so long, it and all that it has started are killed.
    output : file, optional
        In place of stdout and stderr.
    """
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setsid()
            if output is not None:
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
                # To see where it hangs. Only here: it would itself hang in a child of this child.
                faulthandler.dump_traceback_later(seconds * 0.9)
            function()
            code = 0
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(code)
    end = time.monotonic() + seconds
    done, status = 0, 0
    while done == 0 and time.monotonic() < end:
        time.sleep(0.01)
        done, status = os.waitpid(child, os.WNOHANG)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if done == 0:
        os.waitpid(child, 0)
        return f"it hung for {seconds:.0f} s"
    code = os.waitstatus_to_exitcode(status)
    return "ok" if code == 0 else f"exit code {code}"
