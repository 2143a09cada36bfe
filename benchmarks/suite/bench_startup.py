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

# Something of the same kind that never changes: a product, a softmax and an update, in both dtypes,
# as one writes them without thinking of compilers. Seconds of different machines have no meaning.
YARDSTICK = """
import numba, numpy as np
@numba.njit(parallel=True)
def product(a, b, c):
    for i in numba.prange(a.shape[0]):
        for k in range(a.shape[1]):
            for j in range(b.shape[1]):
                c[i, j] += a[i, k] * b[k, j]
@numba.njit
def softmax(z, out):
    for i in range(z.shape[0]):
        top, total = z[i].max(), 0.0
        for j in range(z.shape[1]):
            out[i, j] = np.exp(z[i, j] - top)
            total += out[i, j]
        for j in range(z.shape[1]):
            out[i, j] /= total
@numba.njit
def adam(p, g, m, v, rate):
    for i in range(p.size):
        m[i] = 0.9 * m[i] + 0.1 * g[i]
        v[i] = 0.999 * v[i] + 0.001 * g[i] * g[i]
        p[i] -= rate * m[i] / (np.sqrt(v[i]) + 1e-8)
for dtype in ("f4", "f8"):
    a = np.ones((4, 4), dtype)
    product(a, a, a.copy())
    softmax(a, a.copy())
    adam(a[0], a[1].copy(), a[2].copy(), a[3].copy(), 0.1)
"""

_DIGITS = """
import numpy as np
from sklearn.datasets import load_digits
from fastnn import GELU, Adam, Affine, BatchNorm, Dropout, MLPClassifier, ReLU, Sequential
X, y = load_digits(return_X_y=True)
def fit(layers, dtype):
    net = Sequential(layers, seed=0, dtype=dtype)
    net.fit(X, y, optimizer=Adam(1e-3), epochs=2, batch_size=32)
    net.predict(X[:50])
def plain(dtype):
    fit([Affine(64, 128), ReLU(), Affine(128, 10)], dtype)
"""
_TRAIN = "subprocess.run([sys.executable, '-m', 'fastnn', 'train', 'digits', *options], check=True)"
# What a newcomer waits for, with nothing compiled yet: what is timed, and what comes before it.
FIRSTS = {
    "fit and predict": ("plain('float32')", _DIGITS),
    "classifier in float64": ("MLPClassifier(max_iter=2).fit(X, y).score(X, y)", _DIGITS),
    "fastnn train digits": (
        _TRAIN,
        "import subprocess, sys, tempfile\nplace = tempfile.TemporaryDirectory()\n"
        "options = ['--quiet', '--epochs', '2', '--out', place.name + '/model']\n",
    ),
    "second dtype": ("plain('float64')", _DIGITS + "plain('float32')\n"),
    "more layers": (
        "fit([Affine(64, 128), BatchNorm(128), GELU(), Dropout(0.1), Affine(128, 10)], 'float32')",
        _DIGITS + "plain('float32')\n",
    ),
}

_PART_OF_LLVM = """
import time
from numba.core import event
with event.install_recorder("numba:llvm_lock") as recorder:
    began = time.perf_counter()
    plain("float32")
    seconds = time.perf_counter() - began
times = [when if news.is_end else -when for when, news in recorder.buffer]
print(sum(times) / seconds)
"""


def seconds_of(statement, setup=""):
    """Return the seconds of a statement in a new process."""
    code = f"{setup}\nimport time\nbegan = time.perf_counter()\n{statement}\n"
    return printed_by(code + "print(time.perf_counter() - began)")


def printed_by(code):
    """Return the number that a new process prints last."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout.split()[-1])


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
    """Seconds of the first results, over those of compiling plain loops."""

    params = (list(FIRSTS), [1])
    param_names = ("what", "threads")
    timeout = 600

    def track_time_ratio_vs_numba(self, what, threads):
        # Before and after, for a machine that changes its pace meanwhile.
        yardsticks = [seconds_of(YARDSTICK, EMPTY_CACHE + "import numba, numpy")]
        statement, setup = FIRSTS[what]
        seconds = seconds_of(statement, EMPTY_CACHE + setup)
        yardsticks += [seconds_of(YARDSTICK, EMPTY_CACHE + "import numba, numpy")]
        return seconds / statistics.mean(yardsticks)

    track_time_ratio_vs_numba.unit = "fastnn / plain loops"


class PartOfLLVM:
    """The part of LLVM in the seconds of the first fit and predict; the rest is Numba."""

    params = (["fit and predict"],)
    param_names = ("what",)
    timeout = 300

    def track_part_of_llvm(self, what):
        return printed_by(EMPTY_CACHE + _DIGITS + _PART_OF_LLVM)

    track_part_of_llvm.unit = "of the time"
