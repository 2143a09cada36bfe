"""What all benchmarks share: threads, operands, and how times and ratios of times are taken."""

import functools
import os
import statistics
import sys
import time
from pathlib import Path

import numba
import numpy as np
from threadpoolctl import threadpool_limits

import fastnn

# For the NumPy rival, which is the contest's.
sys.path.append(str(Path(__file__).parents[1]))

LIBRARIES = ["fastnn", "numpy"]
DTYPES = ["float32", "float64"]
# Always the last parameter: `compare.py` picks the benchmarks of one thread by it.
THREADS = [1, 2]

RATIO_SECONDS, MIN_PAIRS = 0.15, 5
_BLOCK_SECONDS = 0.001
_NAP, _IDLE_SHARE, _MAX_NAPS = 0.004, 0.1, 100

# An installed or neighbouring copy would be measured without anybody noticing.
_tree = os.environ.get("FASTNN_BENCH_TREE")
if _tree and not Path(fastnn.__file__).is_relative_to(_tree):
    raise ImportError(f"fastnn must come from {_tree}, not from {fastnn.__file__}")

# What Numba does once in a process, before asv forks one for each benchmark: a third of a second.
numba.njit(lambda x: x + 1)(1)


def normal(*shape, dtype, seed=0):
    """Return normally distributed numbers."""
    return np.random.default_rng(seed).standard_normal(shape, dtype=dtype)


@functools.lru_cache(maxsize=2)
def ready(make, *parameters):
    """Return the call that `make` makes of a benchmark's parameters, compiled and pinned.

    asv repeats `setup` before each sample, so the work is kept. The last parameter is the number
    of threads; a machine that has fewer leaves the benchmark out.
    """
    n_threads = parameters[-1]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if n_threads > cores:
        raise NotImplementedError(f"{n_threads} threads on {cores} cores")
    fastnn.set_num_threads(n_threads)
    threadpool_limits(n_threads, user_api="blas")
    call = make(*parameters)
    call()
    return call


class Timed:
    """Base of benchmarks whose subject is a call that `ready` returns.

    It has no method that asv would take for a benchmark.
    """

    timeout = 300  # the first of all compiles
    rounds = 2
    repeat = (5, 20, 0.25)
    warmup_time = 0.05

    def use(self, make, parameters, repeats=1, inside=1):
        """Set up `make(*parameters)` as what `run` calls.

        Parameters
        ----------
        make : callable
        parameters : tuple
        repeats : int
            Calls of a sample. asv takes one sample after each `setup`, too short for its clock
            if a call takes microseconds.
        inside : int
            What a call does so many times, such as training steps.
        """
        self._call, self._repeats = ready(make, *parameters), range(repeats)
        parts = repeats * inside
        # asv subtracts two of these: seconds of one part, whatever a sample holds.
        self.timer = lambda: time.perf_counter() / parts

    def run(self):
        """Take a sample."""
        call = self._call
        for _ in self._repeats:
            call()


def _settle():
    """Wait until no thread of this process spins for its next parallel region any more."""
    for _ in range(_MAX_NAPS):
        before = time.process_time()
        time.sleep(_NAP)
        if time.process_time() - before < _IDLE_SHARE * _NAP:
            return


def _seconds(call, count):
    began = time.perf_counter()
    for _ in range(count):
        call()
    return time.perf_counter() - began


def ratio_of_times(ours, theirs, n_threads=1):
    """Return how many times as long ours takes as theirs: the median of many short pairs.

    Both meet the same clock rate and the same neighbours within a pair, so they drop out. The
    order alternates, for what one leaves in the caches to the other.
    """
    calls = (ours, theirs)
    block = _BLOCK_SECONDS if n_threads == 1 else 10 * _BLOCK_SECONDS
    counts = [max(1, round(block / min(_seconds(call, 1) for _ in range(2)))) for call in calls]
    ratios = []
    end = time.perf_counter() + RATIO_SECONDS
    while len(ratios) < MIN_PAIRS or time.perf_counter() < end:
        pair = [0.0, 0.0]
        for which in (0, 1) if len(ratios) % 2 else (1, 0):
            if n_threads > 1:
                _settle()
            pair[which] = _seconds(calls[which], counts[which]) / counts[which]
        ratios.append(pair[0] / pair[1])
    return statistics.median(ratios)


def ratio_vs_numpy(make, *parameters):
    """Return `ratio_of_times` of fastnn to NumPy; both have been made `ready`."""
    calls = (ready(make, library, *parameters) for library in LIBRARIES)
    return ratio_of_times(*calls, n_threads=parameters[-1])
