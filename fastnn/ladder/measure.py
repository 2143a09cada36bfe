"""Check each rung, then time all of them and NumPy's BLAS, and relate them to the roofline.

A *cell* is a shape, a dtype and a number of threads. In each round, every rung of a cell is timed
once, so that other load on the machine affects all alike. The result is the median over the rounds.

On several threads, the threads of BLAS wait for more work after each call, at full speed, and would
slow down whatever runs next; so would those of Numba. What is measured is the speed of each alone:
`rest` sleeps until nothing in this process computes before the threads of the other begin.
"""

import contextlib
import dataclasses
import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Self, TypeAlias

import numba
import numpy as np
from numpy.typing import NDArray

from fastnn.errors import require
from fastnn.ladder import WrongRungError, roofline
from fastnn.ladder.rungs import BLAS, BLAS_FUSED, LADDER, Product, Ready, Rung, numba_threads
from fastnn.runtime import threads

Shape: TypeAlias = tuple[int, int, int]
Cell: TypeAlias = dict[str, Any]
"""The results of a cell, in the form in which the JSON file stores them."""
Results: TypeAlias = dict[str, Any]
"""The results of all cells and the description of the machine, as the JSON file stores them."""
ReportProgress: TypeAlias = Callable[[int, int, str], None]
"""Function that is called with the steps done, all steps, and the current step."""

SIZES = (32, 64, 128, 256, 512, 1024)
QUICK_SIZES = (32, 128, 512)
SHAPES: tuple[Shape, ...] = ((128, 784, 128), (1, 784, 128), (512, 512, 10))
"""Layers of a net: a batch of MNIST through 128 units, the same for one sample, an output layer."""

_MOST_SECONDS = 0.3
"""A rung is skipped if one product is expected to take longer than these seconds."""
_LEAST_ROUNDS = 3
_LOOK, _QUIET_LOOKS, _LONGEST_REST = 0.005, 2, 0.5
"""`rest` looks at the clock of the process in steps of so many seconds, until it has hardly moved
in so many steps. OpenBLAS spins for 2**26 or 2**28 cycles, a tenth of a second."""
_IDLE, _AT_WORK = 0.2, 0.8
"""CPUs in use, below which the process is quiet; share of them above which its threads have one
each."""
_LONGEST_WAKE = 0.1
"""Most seconds of warm-up before the first measurement on different threads."""
_SLOW = 0.05
"""What takes longer than these seconds the first time is called once in a turn, uncounted."""
_PARTS = 3
"""Parts of a turn; its result is the median over them."""
_LARGEST = 4
"""Largest element of x, w and bias: whole numbers, so that every sum of products is exact."""


@dataclasses.dataclass(frozen=True)
class Effort:
    """How long to measure.

    Attributes
    ----------
    seconds : float, default=28.0
        Time for all cells together, without checks and compilation.
    rounds : int, default=9
        Most rounds of a cell.
    turn : float, default=0.008
        Least seconds for which a rung runs in a round.
    tries : int, default=3
        Measurements of peak and bandwidth.
    """

    seconds: float = 28.0
    rounds: int = 9
    turn: float = 0.008
    tries: int = 3


QUICK = Effort(seconds=3.0, rounds=5, turn=0.003, tries=2)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to measure.

    Attributes
    ----------
    shapes : tuple of (int, int, int)
        Shapes (B, I, O).
    dtypes : tuple of str
        Names of dtypes.
    threads : tuple of int
        Numbers of threads.
    effort : Effort, default=Effort()
        How long to measure.
    rungs : tuple of Rung, default=(*LADDER, BLAS, BLAS_FUSED)
        What to measure.

    Examples
    --------
    >>> from fastnn.ladder.measure import Plan
    >>> Plan(((2, 3, 4),), ("float32",), (1, 2)).cells()
    [((2, 3, 4), 'float32', 1), ((2, 3, 4), 'float32', 2)]
    """

    shapes: tuple[Shape, ...]
    dtypes: tuple[str, ...]
    threads: tuple[int, ...]
    effort: Effort = Effort()
    rungs: tuple[Rung, ...] = (*LADDER, BLAS, BLAS_FUSED)

    def cells(self) -> list[tuple[Shape, str, int]]:
        """Return (shape, dtype, n_threads) of all cells, shapes varying fastest."""
        return [
            (shape, dtype, n)
            for n in self.threads
            for dtype in self.dtypes
            for shape in self.shapes
        ]


def square(n: int) -> Shape:
    """Return the shape (n, n, n) of a product of square matrices."""
    return (n, n, n)


def thread_counts(most: int | None = None) -> tuple[int, ...]:
    """Return the numbers of threads to measure: the powers of 2 below the most, and the most.

    Parameters
    ----------
    most : int or None, default=None
        None takes the number of threads that fastnn uses.

    Examples
    --------
    >>> from fastnn.ladder.measure import thread_counts
    >>> thread_counts(6)
    (1, 2, 4, 6)
    """
    most = threads.get_num_threads() if most is None else most
    counts: list[int] = []
    n = 1
    while n < most:
        counts.append(n)
        n *= 2
    return (*counts, most)


def blas_facts() -> dict[str, Any]:
    """Return name, version, number of threads and kernels of NumPy's BLAS.

    "threads" is None if `threadpoolctl` does not know the library: they cannot be limited then.
    """
    np.matmul(np.ones((2, 2)), np.ones((2, 2)))  # loads the library
    found = require("threadpoolctl", "cli").threadpool_info()
    ours = [entry for entry in found if entry["user_api"] == "blas"]
    # SciPy has a BLAS of its own, in another folder.
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


# Environment variables that choose the loops of a library in place of the CPU.
_BLAS_SETTINGS = (
    "OPENBLAS_CORETYPE",
    "OPENBLAS_L2_SIZE",
    "MKL_DEBUG_CPU_TYPE",
    "MKL_ENABLE_INSTRUCTIONS",
    "BLIS_ARCH_TYPE",
    "NVPL_BLAS_DEBUG_CPU_TYPE",
)
_NUMBA_SETTINGS = ("FASTNN_VECTOR_BYTES", "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "NUMBA_OPT")


def environment(blas: str = "") -> dict[str, dict[str, str]]:
    """Return the environment variables that slow a library on this CPU, or may do so.

    Parameters
    ----------
    blas : str, default=""
        Name of NumPy's BLAS, such as "openblas". Variables of others have no effect on it.

    Returns
    -------
    dict of str to dict
        Variables with their values, under "blas" and "loops".
    """

    def values_of(names: Iterable[str]) -> dict[str, str]:
        return {name: os.environ[name] for name in names if os.environ.get(name)}

    used = [name for name in _BLAS_SETTINGS if name.partition("_")[0].lower() in blas.lower()]
    return {"blas": values_of(used), "loops": values_of(_NUMBA_SETTINGS)}


def make_product(shape: Shape, dtype: str, n_threads: int = 1, seed: int = 0) -> Product:
    """Return a product of random whole numbers, which is exact in both dtypes.

    Parameters
    ----------
    shape : tuple of (int, int, int)
        Shape (B, I, O).
    dtype : {"float32", "float64"}
        Type of the operands.
    n_threads : int, default=1
        Number of threads.
    seed : int, default=0
        Seed of the numbers.

    Examples
    --------
    >>> from fastnn.ladder.measure import make_product
    >>> make_product((2, 3, 4), "float32").exact().shape
    (2, 4)
    """
    rows, inputs, outputs = shape
    rng = np.random.default_rng(seed)

    def numbers(*size: int) -> NDArray[Any]:
        return rng.integers(-_LARGEST, _LARGEST, size, endpoint=True).astype(dtype)

    return Product(numbers(rows, inputs), numbers(inputs, outputs), numbers(outputs), n_threads)


def check(rung: Rung, product: Product, ready: Ready, exact: NDArray[np.float64]) -> None:
    """Compute a product once and compare the result with the exact one.

    Parameters
    ----------
    rung : Rung
        The rung that is checked, for the error message.
    product : Product
        Of whole numbers, so that the order of a sum does not change its result.
    ready : Ready
        The rung bound to the product.
    exact : ndarray of shape (B, O)
        The exact result in float64.

    Raises
    ------
    WrongRungError
        If the result has another shape or an element differs.
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


def compile_rungs(plan: Plan) -> float:
    """Compute a small product with each rung, so that nothing is compiled later.

    Parameters
    ----------
    plan : Plan
        Its rungs and dtypes are compiled.

    Returns
    -------
    float
        Seconds of compiling, or of loading compiled loops from disk.

    Raises
    ------
    WrongRungError
        If a rung computes a wrong product.
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
def limits(n_threads: int) -> Iterator[None]:
    """Run BLAS and Numba's parallel loops on `n_threads` threads within the context."""
    blas = require("threadpoolctl", "cli").threadpool_limits(limits=n_threads, user_api="blas")
    with blas, numba_threads(n_threads):
        yield


def _mean_seconds(call: Callable[[], object], n_calls: int) -> float:
    """Return the mean duration of some calls."""
    began = time.perf_counter()
    for _ in range(n_calls):
        call()
    return (time.perf_counter() - began) / n_calls


class _Usage:
    """A context manager that counts the CPUs that all threads of this process use within it."""

    def __enter__(self) -> Self:
        self.began, self._used = time.perf_counter(), time.process_time()
        self.cpus = 0.0
        return self

    def __exit__(self, *_: object) -> None:
        used = time.process_time() - self._used
        self.cpus = used / max(time.perf_counter() - self.began, 1e-9)


def rest() -> None:
    """Sleep until no thread of this process computes, or spins while it waits for work."""
    began, quiet = time.perf_counter(), 0
    while quiet < _QUIET_LOOKS and time.perf_counter() - began < _LONGEST_REST:
        with _Usage() as usage:
            time.sleep(_LOOK)
        quiet = quiet + 1 if usage.cpus < _IDLE else 0


class _Clock:
    """Timer of a few functions, which are called in turns.

    Parameters
    ----------
    effort : Effort
        Number of rounds, and how long each function runs in a round.
    seconds : float
        Time for all rounds, approximately.
    pools : dict of str to str
        Name of a function -> whose threads it runs on. Empty for a single thread.
    n_threads : int
        Number of threads on which the functions run.
    """

    def __init__(
        self, effort: Effort, seconds: float, pools: Mapping[str, str], n_threads: int
    ) -> None:
        self.effort, self.seconds, self.pools, self.n_threads = effort, seconds, pools, n_threads
        self._last = list(pools.values())[-1] if pools else None  # as it was checked last

    def _in_turns(
        self, calls: Mapping[str, Callable[[], object]]
    ) -> Iterator[tuple[str, Callable[[], object]]]:
        """Yield names and functions; rest when the next one runs on different threads.

        It begins with those on the threads that ran last, so there is a rest less in a round.
        """
        for name in sorted(calls, key=lambda name: self.pools.get(name) != self._last):
            pool = self.pools.get(name)
            if pool != self._last:
                rest()
                self._wake(calls[name])
            self._last = pool
            yield name, calls[name]

    def _wake(self, call: Callable[[], object]) -> None:
        """Call a function for a while: threads that wake up may share a core at first."""
        began = time.perf_counter()
        longest = min(_LONGEST_WAKE, 10 * self.effort.turn)
        while True:
            with _Usage() as usage:
                while time.perf_counter() - usage.began < longest / 10:
                    call()
            if usage.cpus > _AT_WORK * self.n_threads or time.perf_counter() - began > longest:
                break

    def measure(
        self, calls: Mapping[str, Callable[[], object]], first: Mapping[str, float]
    ) -> dict[str, list[float]]:
        """Return the seconds that each function takes in each round.

        Parameters
        ----------
        calls : dict of str to callable
            Functions by name; each has been called before.
        first : dict of str to float
            The seconds that each took in its first call, about.
        """
        counts = {name: 1 for name in calls if first[name] > _SLOW}
        quick = {name: call for name, call in calls.items() if name not in counts}
        for name, call in self._in_turns(quick):
            once = _mean_seconds(call, 1)
            if once < self.effort.turn:  # for a short one, the mean of several calls
                once = _mean_seconds(call, 1 + int(self.effort.turn / 4 / max(once, 1e-7)))
            counts[name] = max(1, round(self.effort.turn / _PARTS / once))
        times: dict[str, list[float]] = {name: [] for name in calls}
        began = time.perf_counter()
        for r in range(self.effort.rounds):
            if r >= _LEAST_ROUNDS and time.perf_counter() - began > self.seconds:
                break
            for name, call in self._in_turns(calls):
                if counts[name] > 1:
                    call()  # brings its operands into the cache and wakes its threads
                parts = [_mean_seconds(call, counts[name])]
                while len(parts) < _PARTS and sum(parts) < self.effort.turn:
                    parts.append(_mean_seconds(call, counts[name]))
                # A turn has several parts, so that an interruption affects only one of them.
                times[name].append(statistics.median(parts))
        return times


def _expected_seconds(work: float, known: list[tuple[float, float]]) -> float:
    """Estimate the time of a product from the (work, seconds) that the rung took for others.

    The factor of 2 is for larger products, which may not fit into the cache any more.
    """
    seconds = [spent / before * work * (1 if work <= before else 2) for before, spent in known]
    return min(seconds, default=0.0)


def measure_cell(
    plan: Plan,
    shape: Shape,
    dtype: str,
    n_threads: int,
    roof: roofline.Roofline,
    known: dict[tuple[str, str, int], list[tuple[float, float]]],
    seconds: float,
) -> Cell:
    """Check and time all rungs of a cell.

    Parameters
    ----------
    plan : Plan
        Its rungs are measured, with its effort.
    shape : tuple of (int, int, int)
        Shape (B, I, O).
    dtype : {"float32", "float64"}
        Type of the operands.
    n_threads : int
        Number of threads.
    roof : fastnn.ladder.roofline.Roofline
        Limits of the machine for this number of threads.
    known : dict
        (rung, dtype, threads) -> list of (multiply-adds, seconds) measured so far. Extended.
    seconds : float
        Time for the measurements, approximately.

    Returns
    -------
    dict
        The results of the cell, in the form in which the JSON file stores them.

    Raises
    ------
    WrongRungError
        If a rung computes a wrong product.
    """
    product = make_product(shape, dtype, n_threads)
    work = float(np.prod(shape))
    with limits(1):  # or the threads of BLAS would spin beside the cells of one thread
        exact = {fused: product.exact(fused) for fused in (False, True)}
    rungs: dict[str, Any] = {}
    calls: dict[str, Callable[[], object]] = {}
    first: dict[str, float] = {}
    with limits(n_threads):
        for rung in plan.rungs:
            if n_threads > 1 and not rung.threaded:
                continue
            past = known.setdefault((rung.name, dtype, n_threads), [])
            if work > rung.most_work or _expected_seconds(work, past) > _MOST_SECONDS:
                rungs[rung.name] = {"skipped": "takes too long"}
                continue
            ready = rung.prepare(product)
            began = time.perf_counter()
            check(rung, product, ready, exact[rung.fused])
            first[rung.name] = time.perf_counter() - began
            calls[rung.name] = ready.call
        pools = {rung.name: rung.pool for rung in plan.rungs} if n_threads > 1 else {}
        clock = _Clock(plan.effort, seconds, pools, n_threads)
        for name, times in clock.measure(calls, first).items():
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


def _roof_figures(roof: roofline.Roofline) -> dict[str, Any]:
    """Return a roofline in the form in which the JSON file stores it."""
    return {
        "peak_gflops": {dtype: value / 1e9 for dtype, value in roof.peak.items()},
        "read_gb_per_second": {level.name: level.bytes_per_second / 1e9 for level in roof.levels},
    }


def climb(plan: Plan, progress: ReportProgress = lambda done, total, doing: None) -> Results:
    """Measure all cells of a plan.

    Parameters
    ----------
    plan : Plan
        What to measure.
    progress : callable, default=a function that does nothing
        Called with the steps done, all steps, and the current step.

    Returns
    -------
    dict
        All results, in the form in which the JSON file stores them: "machine", "compile_seconds",
        "seconds", "titles", "cells".

    Raises
    ------
    WrongRungError
        If a rung computes a wrong product.
    """
    cells = plan.cells()
    total = 1 + len(plan.threads) + len(cells)
    progress(0, total, "compiling the loops")
    compile_seconds = compile_rungs(plan)
    began = time.perf_counter()
    machine = roofline.describe()
    machine |= {"numpy": np.__version__, "numba": numba.__version__, "blas": blas_facts()}
    machine["environment"] = environment(machine["blas"]["name"])
    roofs: dict[int, roofline.Roofline] = {}
    machine["roofline"] = {}
    for done, n in enumerate(plan.threads, 1):
        progress(done, total, f"peak and bandwidth, {count(n)}")
        roofs[n] = roofline.measure(n, plan.dtypes, tries=plan.effort.tries)
        machine["roofline"][str(n)] = _roof_figures(roofs[n])
    figures: list[Cell] = []
    known: dict[tuple[str, str, int], list[tuple[float, float]]] = {}
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


def name_of(shape: Iterable[int]) -> str:
    """Return a shape (B, I, O) as text.

    Examples
    --------
    >>> from fastnn.ladder.measure import name_of
    >>> name_of((128, 784, 128))
    '128x784x128'
    """
    return "x".join(map(str, shape))


def count(n: int, noun: str = "thread") -> str:
    """Return a number with its noun in singular or plural.

    Examples
    --------
    >>> from fastnn.ladder.measure import count
    >>> count(1), count(2)
    ('1 thread', '2 threads')
    """
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
