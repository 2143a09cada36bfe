"""The limits of this machine: its peak of multiply-adds and the bandwidth of its memory.

The *roofline* of a product (Williams, Waterman and Patterson, "Roofline", 2009) is the lower of two
bounds: the peak in FLOP/s, and the FLOPs per byte of the product times the bandwidth in bytes per
second. Peak and bandwidth are measured by loops that do nothing else.
"""

import dataclasses
import os
import platform
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import DTypeLike, NDArray

from fastnn.kernels.memory import aligned_zeros
from fastnn.kernels.tile import TILE_ROWS, TILE_VECTORS, VECTOR_BYTES, load, load_row, store, zeros
from fastnn.runtime.jit import kernel, reduction

SECONDS, TRIES = 0.05, 9
"""Duration of a measurement of the peak, and number of measurements, of which the best is taken."""
_MOST_ATTEMPTS, _LEAST_SCALING = 4, 0.9
"""`peaks` measures again, up to so many times, if all cores scale worse than this."""

_ITERATIONS = 20_000
"""Iterations between two readings of the clock: tens of microseconds."""

_LEAST_READ = 1 << 20
"""Bytes that are read between two readings of the clock."""
_FAR_BYTES, _MOST_FAR_BYTES = 64 << 20, 512 << 20
"""Least and most bytes that are read to measure the bandwidth of main memory."""
# Sizes of the first to the third level, if the system does not tell them.
_USUAL_CACHES = {1: 32 << 10, 2: 512 << 10, 3: 8 << 20}


Shape: TypeAlias = tuple[int, int, int]


@intrinsic
def _multiply_add(typingctx: Any, tile: Any, factor: Any, term: Any) -> Any:
    """Return tile * factor + term, element by element."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value, factor, term = args
        fma = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(tile.vector, [tile.vector] * 3),
            f"llvm.fmuladd.v{tile.lanes}f{tile.dtype.bitwidth}",
        )
        # One factor and one term for all, so that the other registers hold the chains.
        x, y = (builder.extract_value(one, 0) for one in (factor, term))
        for _, _, at in tile.cells():
            total = builder.call(fma, [builder.extract_value(value, at), x, y])
            value = builder.insert_value(value, total, at)
        return value

    return tile(tile, factor, term), codegen


@kernel
def _chains(memory: NDArray[Any], iterations: int) -> None:
    """Compute all chains of multiply-adds of a tile.

    `memory` holds the factor, the term and the rows of the tile, one after the other. Each row is
    loaded separately: if the compiler knew that they are equal, it would compute only one chain.
    """
    row = len(memory) // (2 + TILE_ROWS)
    shape = zeros(memory, TILE_ROWS, TILE_VECTORS)
    factor, term = load_row(shape, memory, 0), load_row(shape, memory, row)
    tile = load(shape, memory, 2 * row, row)
    for _ in range(iterations):
        tile = _multiply_add(tile, factor, term)
    store(tile, memory, 2 * row, row)


def _together(
    n_threads: int, make_work: Callable[[], Callable[[], float]], seconds: float
) -> float:
    """Return the work per second of several threads together.

    Parameters
    ----------
    n_threads : int
        Number of threads.
    make_work : callable
        Called in each thread; returns a function that does some work and returns its amount.
    seconds : float
        How long the threads work.
    """
    barrier = threading.Barrier(n_threads)
    rates = [0.0] * n_threads

    def run(thread: int) -> None:
        work = make_work()
        barrier.wait()
        began = now = time.perf_counter()
        done = 0.0
        while now - began < seconds:
            done += work()
            now = time.perf_counter()
        rates[thread] = done / (now - began)

    workers = [threading.Thread(target=run, args=(k,)) for k in range(n_threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(rates)


def peak(dtype: DTypeLike, n_threads: int, seconds: float = SECONDS, tries: int = TRIES) -> float:
    """Return the FLOP/s of independent chains of multiply-adds in registers.

    Parameters
    ----------
    dtype : {"float32", "float64"}
        Type of the numbers.
    n_threads : int
        Number of threads that compute at the same time.
    seconds : float, default=0.05
        Duration of a measurement.
    tries : int, default=9
        Number of measurements, of which the best is returned.

    Returns
    -------
    float
        FLOP/s of all threads together.

    Examples
    --------
    >>> from fastnn.ladder.roofline import peak
    >>> peak("float32", 1, seconds=1e-3, tries=1) > 1e6
    True
    """
    dtype = np.dtype(dtype)
    lanes = VECTOR_BYTES // dtype.itemsize
    flops = 2 * TILE_ROWS * TILE_VECTORS * lanes * _ITERATIONS

    def make_work() -> Callable[[], float]:
        rows = np.ones((2 + TILE_ROWS, TILE_VECTORS * lanes), dtype)
        rows[0] = 0.5  # x / 2 + 1: the chains converge to 2
        memory = rows.ravel()

        def work() -> float:
            _chains(memory, _ITERATIONS)
            return flops

        return work

    _chains(np.ones((2 + TILE_ROWS) * TILE_VECTORS * lanes, dtype), 1)  # compiles
    return max(_together(n_threads, make_work, seconds) for _ in range(tries))


def peaks(dtype: DTypeLike, cores: int, tries: int) -> dict[str, float]:
    """Return the peaks of one core and of all cores.

    If all cores are hardly faster than one, other processes may be running: it measures again.

    Parameters
    ----------
    dtype : {"float32", "float64"}
        Type of the numbers.
    cores : int
        Number of cores.
    tries : int
        Number of measurements of each peak, of which the best is taken.

    Returns
    -------
    dict of str to float
        FLOP/s under "one" and "all".
    """
    for _ in range(_MOST_ATTEMPTS):
        found = {"one": peak(dtype, 1, tries=tries), "all": peak(dtype, cores, tries=tries)}
        if found["all"] > _LEAST_SCALING * cores * found["one"]:
            break
    return found


@reduction
def _sum(memory: NDArray[np.float32]) -> np.float32:
    """Return the sum of all elements."""
    total = np.float32(0)
    for k in range(len(memory)):
        total += memory[k]
    return total


@kernel
def _read(memory: NDArray[np.float32], times: int) -> np.float32:
    """Read all elements in order, `times` times; return their sum."""
    total = np.float32(0)
    for _ in range(times):
        total += _sum(memory)
    return total


def bandwidth(n_bytes: int, n_threads: int, seconds: float = 0.02, tries: int = 3) -> float:
    """Return the bytes per second that several threads read, each from memory of its own.

    Parameters
    ----------
    n_bytes : int
        Memory of all threads together. Its size determines from which cache it is read.
    n_threads : int
        Number of threads that read at the same time.
    seconds : float, default=0.02
        Duration of a measurement.
    tries : int, default=3
        Number of measurements, of which the best is returned.

    Returns
    -------
    float
        Bytes per second of all threads together.

    Examples
    --------
    >>> from fastnn.ladder.roofline import bandwidth
    >>> bandwidth(1 << 14, 1, seconds=1e-3, tries=1) > 1e6
    True
    """
    length = max(1024, n_bytes // n_threads // 4)
    times = max(1, _LEAST_READ // (4 * length))

    def make_work() -> Callable[[], float]:
        memory = aligned_zeros(length, np.float32)
        memory[:] = 1  # memory is allocated page by page, on the first write
        _read(memory, 1)

        def work() -> float:
            _read(memory, times)
            return 4 * length * times

        return work

    _read(np.ones(1, np.float32), 1)  # compiles
    return max(_together(n_threads, make_work, seconds) for _ in range(tries))


def caches() -> dict[int, int]:
    """Return the size in bytes of one cache of each level: {1: 32768, 2: 524288, 3: 8388608}.

    On Linux, those of the first core; on other systems, usual sizes.
    """
    found: dict[int, int] = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            kind, level, size = (
                (folder / name).read_text().strip() for name in ("type", "level", "size")
            )
            if kind != "Instruction" and size.endswith("K"):
                found[int(level)] = int(size[:-1]) << 10
        except (OSError, ValueError):
            continue
    return found or dict(_USUAL_CACHES)


@dataclasses.dataclass(frozen=True)
class Level:
    """A cache, or main memory.

    Attributes
    ----------
    name : {"L1", "L2", "L3", "memory"}
        Which one.
    room : float
        Capacity in bytes for all threads together; infinite for main memory.
    bytes_per_second : float
        Bandwidth of all threads together.
    """

    name: str
    room: float
    bytes_per_second: float


@dataclasses.dataclass(frozen=True)
class Bound:
    """The roofline of one product.

    Attributes
    ----------
    flops_per_second : float
        Upper bound of the speed of a loop that reads its operands from `level`.
    limit : str
        "arithmetic", or the name of the level whose bandwidth is the limit.
    level : str
        Name of the smallest level that holds the operands.
    intensity : float
        FLOPs per byte of x, w and out.
    """

    flops_per_second: float
    limit: str
    level: str
    intensity: float


@dataclasses.dataclass(frozen=True)
class Roofline:
    """The limits of the machine for a number of threads.

    Attributes
    ----------
    n_threads : int
        Number of threads.
    peak : dict of str to float
        Name of a dtype -> FLOP/s.
    levels : tuple of Level
        Caches and main memory, the smallest first.

    Examples
    --------
    >>> from fastnn.ladder.roofline import Level, Roofline
    >>> roof = Roofline(1, {"float32": 5e10}, (Level("memory", float("inf"), 1e10),))
    >>> roof.bound((1, 784, 128), "float32").limit
    'memory'
    """

    n_threads: int
    peak: dict[str, float]
    levels: tuple[Level, ...]

    def bound(self, shape: Shape, dtype: DTypeLike) -> Bound:
        """Return the bound of the product x (B, I) @ w (I, O) for a shape (B, I, O)."""
        rows, inputs, outputs = shape
        n_bytes = np.dtype(dtype).itemsize * (rows * inputs + inputs * outputs + rows * outputs)
        intensity = 2 * rows * inputs * outputs / n_bytes
        level = next(level for level in self.levels if n_bytes <= level.room)
        by_memory, peak = intensity * level.bytes_per_second, self.peak[np.dtype(dtype).name]
        limit = "arithmetic" if peak <= by_memory else level.name
        return Bound(min(peak, by_memory), limit, level.name, intensity)


def measure(
    n_threads: int, dtypes: Iterable[str], seconds: float = SECONDS, tries: int = 3
) -> Roofline:
    """Measure the roofline of the machine.

    Parameters
    ----------
    n_threads : int
        Number of threads.
    dtypes : iterable of str
        Names of the dtypes whose peak is measured.
    seconds : float, default=0.05
        Duration of a measurement.
    tries : int, default=3
        Number of measurements of each figure, of which the best is taken.

    Returns
    -------
    Roofline
        Peak of each dtype, bandwidth of each level.
    """
    sizes = caches()
    # Each core has a first and a second level of its own; the third one is shared.
    rooms = {f"L{k}": size * (n_threads if k < 3 else 1) for k, size in sorted(sizes.items())}
    far = min(max(_FAR_BYTES, 4 * max(rooms.values())), _MOST_FAR_BYTES)
    levels = [
        Level(name, room, bandwidth(room // 2, n_threads, tries=tries))
        for name, room in rooms.items()
    ]
    levels.append(Level("memory", float("inf"), bandwidth(far, n_threads, seconds, tries)))
    # On a shared machine, a level may seem slower than the next larger one.
    for k in range(len(levels) - 2, -1, -1):
        faster = max(levels[k].bytes_per_second, levels[k + 1].bytes_per_second)
        levels[k] = dataclasses.replace(levels[k], bytes_per_second=faster)
    peaks_of = {np.dtype(dtype).name: peak(dtype, n_threads, seconds, tries) for dtype in dtypes}
    return Roofline(n_threads, peaks_of, tuple(levels))


def cpu_model() -> str:
    """Return the name of the CPU or, if the system does not tell it, its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def describe() -> dict[str, Any]:
    """Return the CPU, its cores and vector width, and the versions of system and Python."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": cpu_model(),
        "cores": cores,
        "vector_bits": VECTOR_BYTES * 8,
        "system": platform.platform(),
        "python": platform.python_version(),
    }
