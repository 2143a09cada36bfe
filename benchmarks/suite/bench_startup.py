"""What a process pays before its first result: imports, compiling, loading what is compiled.

Each sample is a process of its own.
"""

import functools
import statistics
import subprocess
import sys

from . import common

IMPORTS = {
    "fastnn": "import fastnn",
    "fastnn.Sequential": "from fastnn import Sequential",
    "numpy": "import numpy",
    "sklearn": "from sklearn.neural_network import MLPClassifier",
}

_FIT = """
import numpy as np
from fastnn import Affine, ReLU, Sequential
net = Sequential([Affine(4, 8), ReLU(), Affine(8, 3)], seed=0, dtype="{dtype}")
net.fit(np.ones((8, 4), "{dtype}"), np.arange(8) % 3, epochs=1, batch_size=8, n_threads={threads})
"""

# Numba reads this when it is imported. The folder goes when the process ends.
EMPTY_CACHE = """
import os, tempfile
folder = tempfile.TemporaryDirectory()
os.environ["NUMBA_CACHE_DIR"] = folder.name
"""

# Something of the same kind that never changes: loops over arrays, for six types of them, which
# takes long enough to be measured. What Numba itself does once is not part of it.
_YARDSTICK = """
import numba
numba.njit(lambda x: x + 1)(1)
def loops(a, b, c):
    for i in range(a.shape[0]):
        for j in range(b.shape[1]):
            total = a[i, 0] * b[0, j]
            for k in range(1, a.shape[1]):
                total += a[i, k] * b[k, j]
            c[i, j] = max(total, 0)
    for i in range(c.shape[0]):
        for j in range(c.shape[1]):
            c[i, j] = c[i, j] / (1 + abs(c[i, j]))
"""
_COMPILE_YARDSTICK = """
for dtype in (numba.float32, numba.float64):
    for layout in "CFA":
        numba.njit(fastmath=True)(loops).compile((numba.types.Array(dtype, 2, layout),) * 3)
"""


def seconds_of(statement, setup=""):
    """Return the seconds of a statement in a new process."""
    code = f"{setup}\nimport time\nbegan = time.perf_counter()\n{statement}\n"
    code += "print(time.perf_counter() - began)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout)


@functools.cache
def _fill_cache(dtype, threads):
    seconds_of(_FIT.format(dtype=dtype, threads=threads))


class Import:
    """Seconds of an import."""

    params = (list(IMPORTS),)
    param_names = ("what",)
    rounds, repeat, number, warmup_time = 1, 5, 1, 0

    def timeraw_import(self, what):
        return IMPORTS[what]


class ColdCompile:
    """Seconds of the first fit of all, with nothing compiled yet."""

    params = (common.DTYPES, [1])
    param_names = ("dtype", "threads")
    rounds, repeat, number, warmup_time, timeout = 1, 1, 1, 0, 300

    def timeraw_cold_compile(self, dtype, threads):
        return _FIT.format(dtype=dtype, threads=threads), EMPTY_CACHE


class WarmFirstFit:
    """Seconds of imports and a first fit, with all compiled by an earlier process."""

    params = (common.DTYPES, common.THREADS)
    param_names = ("dtype", "threads")
    rounds, repeat, number, warmup_time, timeout = 1, 3, 1, 0, 300

    def setup(self, dtype, threads):
        _fill_cache(dtype, threads)

    def timeraw_warm_first_fit(self, dtype, threads):
        return _FIT.format(dtype=dtype, threads=threads)


class WarmFirstFitRatio:
    """The same over an import of Numba, which is most of it."""

    params = (common.DTYPES, [1])
    param_names = ("dtype", "threads")
    timeout = 300
    pairs = 3

    def setup(self, dtype, threads):
        _fill_cache(dtype, threads)

    def track_time_ratio_vs_numba(self, dtype, threads):
        fit = _FIT.format(dtype=dtype, threads=threads)
        return statistics.median(
            seconds_of(fit) / seconds_of("import numba") for _ in range(self.pairs)
        )

    track_time_ratio_vs_numba.unit = "fastnn / numba"


class ColdCompileRatio:
    """Compiling all that a fit needs over compiling a fixed handful of loops."""

    params = (["float32"], [1])
    param_names = ("dtype", "threads")
    timeout = 300

    def track_time_ratio_vs_numba(self, dtype, threads):
        # Before and after, for a machine that changes its pace meanwhile.
        yardsticks = [seconds_of(_COMPILE_YARDSTICK, _YARDSTICK)]
        seconds = seconds_of(_FIT.format(dtype=dtype, threads=threads), EMPTY_CACHE)
        yardsticks += [seconds_of(_COMPILE_YARDSTICK, _YARDSTICK)]
        return seconds / statistics.mean(yardsticks)

    track_time_ratio_vs_numba.unit = "fastnn / numba"
