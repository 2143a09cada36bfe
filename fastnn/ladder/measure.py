"""Check each rung, then time all of them in turns, beside NumPy's BLAS and below the roofline.

A *cell* is a shape, a dtype and a number of threads. In each round every rung of a cell has its
turn, so that whatever else the machine does meets all alike; the median of the rounds counts.
"""

import contextlib
import dataclasses
import statistics
import time

import numba
import numpy as np

from fastnn.errors import require
from fastnn.ladder import WrongRungError, roofline
from fastnn.ladder.rungs import BLAS, BLAS_FUSED, LADDER, Product, numba_threads
from fastnn.runtime import threads

SIZES = (32, 64, 128, 256, 512, 1024)
QUICK_SIZES = (32, 128, 512)
SHAPES = ((128, 784, 128), (1, 784, 128), (512, 512, 10))
"""Layers of a net: a batch of MNIST through 128 units, one sample, and an output layer."""

_MOST_SECONDS = 0.3
"""A rung is left out where one product is expected to take longer."""
_LEAST_ROUNDS = 3
PAUSE, _SHORT_PAUSE = 0.04, 0.005
"""Seconds of rest before others have a turn: threads of OpenBLAS spin for 34 ms after work."""
_WAKE = 0.01
"""Seconds of work before the first turn of a round on other threads."""
_PARTS = 3
"""Of a turn, of which the median counts."""
_LARGEST = 4
"""Of the elements of x, w and bias: whole numbers, so that each sum of them is exact."""


@dataclasses.dataclass(frozen=True)
class Effort:
    """How long to measure.

    Attributes
    ----------
    seconds : float
        For all cells together, without checks and compilation.
    rounds : int
        Most rounds of a cell.
    turn : float
        Least seconds of a rung's turn.
    tries : int
        For peak and bandwidth.
    """

    seconds: float = 28.0
    rounds: int = 9
    turn: float = 0.008
    tries: int = 3


QUICK = Effort(seconds=3.0, rounds=5, turn=0.004, tries=2)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to measure.

    Attributes
    ----------
    shapes : sequence of (int, int, int)
        (B, I, O) each.
    dtypes : sequence of str
    threads : sequence of int
    effort : Effort
    rungs : sequence of Rung
        By default the ladder, with BLAS above it.
    """

    shapes: tuple
    dtypes: tuple
    threads: tuple
    effort: Effort = Effort()
    rungs: tuple = (*LADDER, BLAS, BLAS_FUSED)

    def cells(self):
        """Return (shape, dtype, n_threads) of all cells; shapes change fastest."""
        return [
            (shape, dtype, n)
            for n in self.threads
            for dtype in self.dtypes
            for shape in self.shapes
        ]


def square(n):
    """Return the shape of a product of square matrices."""
    return (n, n, n)


def thread_counts(most=None):
    """Return the numbers of threads to measure: 1, 2, 4, and so on, and all."""
    most = threads.get_num_threads() if most is None else most
    counts, n = [], 1
    while n < most:
        counts.append(n)
        n *= 2
    return (*counts, most)


def blas_facts():
    """Return what NumPy's BLAS says of itself: its name, version, threads and kernels.

    Where `threadpoolctl` does not know it, the threads are None: they cannot be limited.
    """
    np.matmul(np.ones((2, 2)), np.ones((2, 2)))  # loads it
    found = require("threadpoolctl", "cli").threadpool_info()
    ours = [entry for entry in found if entry["user_api"] == "blas"]
    # SciPy brings one of its own, which lies in its own folder.
    ours.sort(key=lambda entry: "numpy" not in str(entry.get("filepath")))
    if not ours:
        built = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
        return {"name": built.get("name", "unknown"), "version": built.get("version"),
                "threads": None, "kernels": None}  # fmt: skip
    return {
        "name": ours[0]["internal_api"],
        "version": ours[0].get("version"),
        "threads": ours[0]["num_threads"],
        "kernels": ours[0].get("architecture"),
    }


def make_product(shape, dtype, n_threads=1, seed=0):
    """Return a product of random whole numbers, which is exact in both dtypes."""
    rows, inputs, outputs = shape
    rng = np.random.default_rng(seed)

    def numbers(*size):
        return rng.integers(-_LARGEST, _LARGEST, size, endpoint=True).astype(dtype)

    return Product(numbers(rows, inputs), numbers(inputs, outputs), numbers(outputs), n_threads)


def check(rung, product, ready, exact):
    """Compute once; raise `WrongRungError` unless the result is the exact one.

    Parameters
    ----------
    rung : Rung
    product : Product
        Of whole numbers, so that no order of the sums changes a bit.
    ready : Ready
    exact : ndarray (B, O)
        The same in float64.
    """
    ready.call()
    out = ready.result()
    shape = "x".join(map(str, product.shape))
    where = (
        f"{rung.title}: wrong product for {shape}, {product.x.dtype}, {product.n_threads} threads"
    )
    if out.shape != exact.shape:
        raise WrongRungError(f"{where}: its shape is {out.shape}, not {exact.shape}")
    wrong = ~(out == exact)
    if wrong.any():
        i, j = np.argwhere(wrong)[0]
        raise WrongRungError(
            f"{where}: {wrong.sum()} of {wrong.size} elements differ, the first is "
            f"out[{i}, {j}] = {out[i, j]:g}, not {exact[i, j]:g}"
        )


def compile_rungs(plan):
    """Compute a small product with each rung, so that nothing is compiled later.

    Returns
    -------
    float
        Seconds that it took: compilation, or loading what is kept on disk.
    """
    began = time.perf_counter()
    with limits(1):
        for dtype in plan.dtypes:
            product = make_product((2, 3, 5), dtype)
            for rung in plan.rungs:
                ready = rung.prepare(product)
                check(rung, product, ready, product.exact(rung.fused))
        for dtype in plan.dtypes:
            roofline.peak(dtype, 1, seconds=1e-4, tries=1)
        roofline.bandwidth(1, 1, seconds=1e-4, tries=1)
    return time.perf_counter() - began


@contextlib.contextmanager
def limits(n_threads):
    """Have BLAS and Numba's parallel loops use so many threads."""
    blas = require("threadpoolctl", "cli").threadpool_limits(limits=n_threads, user_api="blas")
    with blas, numba_threads(n_threads):
        yield


def _turn(call, count):
    """Return the seconds of a call, the mean of some."""
    began = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - began) / count


class _Clock:
    """Times a few functions in turns.

    Parameters
    ----------
    effort : Effort
    seconds : float
        To be spent, about.
    pools : dict of str to bool
        Whether each function runs on threads of BLAS, where there are several.
    """

    def __init__(self, effort, seconds, pools):
        self.effort, self.seconds, self.pools = effort, seconds, pools
        self._last = True if pools else None  # BLAS was the last to be checked

    def _in_turns(self, calls):
        """Yield names and functions; before the threads are others than the last time, rest."""
        for name, call in calls.items():
            pool = self.pools.get(name)
            if pool != self._last:
                time.sleep(PAUSE if self._last else _SHORT_PAUSE)
                self._wake(call)
            self._last = pool
            yield name, call

    def _wake(self, call):
        """Call for a while: threads that slept may begin on one core, and need time to part."""
        began = time.perf_counter()
        while time.perf_counter() - began < min(_WAKE, 10 * self.effort.turn):
            call()

    def measure(self, calls):
        """Return lists of seconds by the functions' names, one for each round.

        Parameters
        ----------
        calls : dict of str to callable
            Each has been called once.
        """
        counts = {}
        for name, call in self._in_turns(calls):
            once = _turn(call, 1)
            if once < self.effort.turn:  # the second time of a short one is more honest
                once = _turn(call, 1 + int(self.effort.turn / 4 / max(once, 1e-7)))
            counts[name] = max(1, round(self.effort.turn / _PARTS / once))
        times = {name: [] for name in calls}
        began = time.perf_counter()
        for r in range(self.effort.rounds):
            if r >= _LEAST_ROUNDS and time.perf_counter() - began > self.seconds:
                break
            for name, call in self._in_turns(calls):
                if counts[name] > 1:
                    call()  # its operands come back to the cache, its threads awake
                parts = [_turn(call, counts[name])]
                while len(parts) < _PARTS and sum(parts) < self.effort.turn:
                    parts.append(_turn(call, counts[name]))
                # A turn is cut up, so that an interruption spoils a part of it only.
                times[name].append(statistics.median(parts))
        return times


def _expected_seconds(rung, work, known):
    """Guess the time of a product from those of the same rung that were measured before it.

    A larger product than any before may lose the caches, hence the factor.
    """
    seconds = [spent / before * work * (1 if work <= before else 2) for before, spent in known]
    return min(seconds, default=0.0)


def measure_cell(plan, shape, dtype, n_threads, roof, known, seconds):
    """Check and time all rungs of a cell.

    Parameters
    ----------
    plan : Plan
    shape : tuple of int
        (B, I, O).
    dtype : str
    n_threads : int
    roof : fastnn.ladder.roofline.Roofline
        For so many threads.
    known : dict
        (rung, dtype, threads) -> (multiply-adds, seconds) measured so far. Appended to.
    seconds : float
        To be spent, about.

    Returns
    -------
    dict
        The figures of the cell, as the JSON file has them.
    """
    product = make_product(shape, dtype, n_threads)
    work = float(np.prod(shape))
    exact = {fused: product.exact(fused) for fused in (False, True)}
    rungs, calls = {}, {}
    with limits(n_threads):
        for rung in plan.rungs:
            if n_threads > 1 and not rung.threaded:
                continue
            past = known.setdefault((rung.name, dtype, n_threads), [])
            if work > rung.most_work or _expected_seconds(rung, work, past) > _MOST_SECONDS:
                rungs[rung.name] = {"skipped": "takes too long"}
                continue
            ready = rung.prepare(product)
            check(rung, product, ready, exact[rung.fused])
            calls[rung.name] = ready.call
        pools = {rung.name: rung.blas for rung in plan.rungs} if n_threads > 1 else {}
        for name, times in _Clock(plan.effort, seconds, pools).measure(calls).items():
            median = statistics.median(times)
            known[name, dtype, n_threads].append((work, median))
            rungs[name] = {
                "seconds": median,
                "rounds": len(times),
                "gflops": 2e-9 * work / median,
                "part_of_bound": 2 * work / median / roof.bound(shape, dtype).flops_per_second,
            }
    bound = roof.bound(shape, dtype)
    return {
        "shape": list(shape),
        "dtype": dtype,
        "threads": n_threads,
        "bound": {
            "gflops": bound.flops_per_second / 1e9,
            "limit": bound.limit,
            "operands_in": bound.level,
            "flops_per_byte": bound.intensity,
        },
        "rungs": {rung.name: rungs[rung.name] for rung in plan.rungs if rung.name in rungs},
    }


def _roof_figures(roof):
    return {
        "peak_gflops": {dtype: value / 1e9 for dtype, value in roof.peak.items()},
        "read_gb_per_second": {level.name: level.bytes_per_second / 1e9 for level in roof.levels},
    }


def climb(plan, progress=lambda done, total, doing: None):
    """Measure all cells of a plan.

    Parameters
    ----------
    plan : Plan
    progress : callable
        Called with the steps done, the steps there are, and what is done now.

    Returns
    -------
    dict
        All figures, as the JSON file has them: "machine", "compile_seconds", "seconds", "cells".

    Raises
    ------
    WrongRungError
        If a rung is wrong: there are no figures then.
    """
    cells = plan.cells()
    total = 1 + len(plan.threads) + len(cells)
    progress(0, total, "compiling the loops")
    compile_seconds = compile_rungs(plan)
    began = time.perf_counter()
    machine = roofline.describe()
    machine |= {"numpy": np.__version__, "numba": numba.__version__, "blas": blas_facts()}
    roofs, machine["roofline"] = {}, {}
    for done, n in enumerate(plan.threads, 1):
        progress(done, total, f"peak and bandwidth, {count(n)}")
        roofs[n] = roofline.measure(n, plan.dtypes, tries=plan.effort.tries)
        machine["roofline"][str(n)] = _roof_figures(roofs[n])
    figures, known = [], {}
    for done, (shape, dtype, n) in enumerate(cells, 1 + len(plan.threads)):
        progress(done, total, f"{name_of(shape)}, {dtype}, {count(n)}")
        seconds = plan.effort.seconds / len(cells)
        figures.append(measure_cell(plan, shape, dtype, n, roofs[n], known, seconds))
    progress(total, total, "done")
    return {
        "machine": machine,
        "compile_seconds": compile_seconds,
        "seconds": time.perf_counter() - began,
        "titles": {rung.name: rung.title for rung in plan.rungs},
        "cells": figures,
    }


def name_of(shape):
    """Return the name of a shape (B, I, O): 128 x 784 x 128.

    Examples
    --------
    >>> name_of((128, 784, 128))
    '128x784x128'
    """
    return "x".join(map(str, shape))


def count(n, noun="thread"):
    """Return a number with its noun.

    Examples
    --------
    >>> count(1), count(2)
    ('1 thread', '2 threads')
    """
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
