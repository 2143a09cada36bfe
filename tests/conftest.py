"""Settings shared by all tests: nothing here depends on the machine, the clock or chance."""

import math
import os

import hypothesis
import numpy as np
import pytest

from fastnn import compiling

# Figures go to files; a test machine has no screen.
os.environ.setdefault("MPLBACKEND", "Agg")

# scikit-learn's checks of other array types run only with this. SciPy reads it when imported.
os.environ.setdefault("SCIPY_ARRAY_API", "1")

# Teams of two are tested on a machine with one core as well. Numba reads this when it is imported.
os.environ.setdefault("NUMBA_NUM_THREADS", str(max(2, os.cpu_count() or 1)))

# The same examples every time, and no time limit on one: the first call of a kernel compiles it.
hypothesis.settings.register_profile(
    "deterministic", derandomize=True, deadline=None, database=None, print_blob=False
)
hypothesis.settings.load_profile("deterministic")


# How long kernels compile, and so whether a wait is logged, depends on the machine.
compiling.SILENT_SECONDS = math.inf

# Scripts that tests start in processes of their own.
collect_ignore_glob = ["reliability/scripts/*"]


def pytest_addoption(parser):
    parser.addoption("--no-skips", action="store_true", help="a test that is skipped fails")


def _fail_if_skipped(report, config):
    """Turn a skip into a failure under --no-skips; an expected failure is no skip."""
    if report.skipped and not hasattr(report, "wasxfail") and config.getoption("--no-skips"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which --no-skips forbids: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    return _fail_if_skipped((yield), item.config)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    return _fail_if_skipped((yield), collector.config)


@pytest.fixture
def rng():
    """Return a seeded source of random numbers."""
    return np.random.default_rng(20260101)
