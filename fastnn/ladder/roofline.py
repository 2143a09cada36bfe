"""What this machine can do at most: the peak of its multiply-adds, and the bandwidth of its memory.

The *roofline* (Williams, Waterman and Patterson, 2009) of a product is the lower of two bounds: the
peak, and its FLOPs for each byte times the bytes that memory delivers in a second. Both are
measured by loops that do nothing else.
"""

import dataclasses
import os
import platform
import threading
import time
from pathlib import Path

import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

from fastnn.kernels.memory import aligned_zeros
from fastnn.kernels.tile import TILE_ROWS, TILE_VECTORS, VECTOR_BYTES, load, load_row, store, zeros
from fastnn.runtime.jit import kernel, reduction

SECONDS, TRIES = 0.05, 9
_PATIENCE, _USUAL = 4, 0.9

# Iterations between two looks at the clock: some tens of microseconds.
_ITERATIONS = 20_000

_LEAST_READ = 1 << 20
"""Bytes that are read between two looks at the clock."""
_FAR_BYTES, _MOST_FAR_BYTES = 64 << 20, 512 << 20
"""Bounds of what is read to measure memory beyond all caches."""
# Where the system does not say: first to third level.
_USUAL_CACHES = {1: 32 << 10, 2: 512 << 10, 3: 8 << 20}


@intrinsic
def _multiply_add(typingctx, tile, factor, term):
    """Return tile * factor + term, for each element."""

    def codegen(context, builder, signature, args):
        value, factor, term = args
        fma = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(tile.vector, [tile.vector] * 3),
            f"llvm.fmuladd.v{tile.lanes}f{tile.dtype.bitwidth}",
        )
        # One factor and one term for all, so that the registers are left to the chains.
        x, y = (builder.extract_value(one, 0) for one in (factor, term))
        for _, _, at in tile.cells():
            total = builder.call(fma, [builder.extract_value(value, at), x, y])
            value = builder.insert_value(value, total, at)
        return value

    return tile(tile, factor, term), codegen


@kernel
def _chains(memory, iterations):
    """Run all chains of a tile; `memory` holds the factor, the term, and each of its rows.

    The rows come from different places, or the compiler would see that chains are equal, and run
    one for all.
    """
    row = len(memory) // (2 + TILE_ROWS)
    shape = zeros(memory, TILE_ROWS, TILE_VECTORS)
    factor, term = load_row(shape, memory, 0), load_row(shape, memory, row)
    tile = load(shape, memory, 2 * row, row)
    for _ in range(iterations):
        tile = _multiply_add(tile, factor, term)
    store(tile, memory, 2 * row, row)


def _together(n_threads, make_work, seconds):
    """Return the work a second that so many threads do together.

    Parameters
    ----------
    n_threads : int
    make_work : callable
        Called in each thread; returns a function that does some work and says how much it was.
    seconds : float
    """
    barrier = threading.Barrier(n_threads)
    rates = [0.0] * n_threads

    def run(thread):
        work = make_work()
        barrier.wait()
        began = now = time.perf_counter()
        done = 0
        while now - began < seconds:
            done += work()
            now = time.perf_counter()
        rates[thread] = done / (now - began)

    members = [threading.Thread(target=run, args=(k,)) for k in range(n_threads)]
    for member in members:
        member.start()
    for member in members:
        member.join()
    return sum(rates)


def peak(dtype, n_threads, seconds=SECONDS, tries=TRIES):
    """Return the most FLOP/s that so many threads reach together, the best of some tries.

    That of a loop over independent chains of multiply-adds that never leave the registers.
    """
    dtype = np.dtype(dtype)
    lanes = VECTOR_BYTES // dtype.itemsize
    flops = 2 * TILE_ROWS * TILE_VECTORS * lanes * _ITERATIONS

    def make_work():
        rows = np.ones((2 + TILE_ROWS, TILE_VECTORS * lanes), dtype)
        rows[0] = 0.5  # x / 2 + 1: the chains tend to 2
        memory = rows.ravel()

        def work():
            _chains(memory, _ITERATIONS)
            return flops

        return work

    _chains(np.ones((2 + TILE_ROWS) * TILE_VECTORS * lanes, dtype), 1)  # compiles
    return max(_together(n_threads, make_work, seconds) for _ in range(tries))


def peaks(dtype, cores, tries):
    """Return the peaks of one core and of all.

    Where all together reach little more than one, others may be at work, and it is tried again.
    """
    for _ in range(_PATIENCE):
        found = {"one": peak(dtype, 1, tries=tries), "all": peak(dtype, cores, tries=tries)}
        if found["all"] > _USUAL * cores * found["one"]:
            break
    return found


@reduction
def _sum(memory):
    total = np.float32(0)
    for k in range(len(memory)):
        total += memory[k]
    return total


@kernel
def _read(memory, times):
    """Return the sum of all elements, read from first to last so many times."""
    total = np.float32(0)
    for _ in range(times):
        total += _sum(memory)
    return total


def bandwidth(n_bytes, n_threads, seconds=0.02, tries=3):
    """Return the bytes a second that so many threads read, each its own share of n_bytes.

    Parameters
    ----------
    n_bytes : int
        Of all threads together. The least that holds them decides from which cache they come.
    n_threads : int
    seconds : float
    tries : int
        Of which the best counts.
    """
    length = max(1024, n_bytes // n_threads // 4)
    times = max(1, _LEAST_READ // (4 * length))

    def make_work():
        memory = aligned_zeros(length, np.float32)
        memory[:] = 1  # a page that was never written to is not in memory
        _read(memory, 1)

        def work():
            _read(memory, times)
            return 4 * length * times

        return work

    _read(np.ones(1, np.float32), 1)  # compiles
    return max(_together(n_threads, make_work, seconds) for _ in range(tries))


def caches():
    """Return the bytes of one cache of each level: {1: 32768, 2: 524288, 3: 8388608}.

    Of the first core, as Linux tells them; elsewhere, usual ones.
    """
    found = {}
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
    """A cache, or the memory beyond all of them.

    Attributes
    ----------
    name : str
        L1, L2, L3 or "memory".
    room : int
        Most bytes of all threads together that come from here.
    bytes_per_second : float
        That all threads together read from it.
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
        No loop is faster, whose operands come from where they are.
    limit : str
        "arithmetic", or the name of the level that cannot deliver more.
    level : str
        The level that holds the operands.
    intensity : float
        FLOPs for each byte of x, w and out.
    """

    flops_per_second: float
    limit: str
    level: str
    intensity: float


@dataclasses.dataclass(frozen=True)
class Roofline:
    """What so many threads can do at most.

    Attributes
    ----------
    n_threads : int
    peak : dict of str to float
        FLOP/s for each dtype.
    levels : tuple of Level
        From the first cache to memory.
    """

    n_threads: int
    peak: dict[str, float]
    levels: tuple[Level, ...]

    def bound(self, shape, dtype):
        """Return the `Bound` of the product x (B, I) @ w (I, O) of a shape (B, I, O)."""
        rows, inputs, outputs = shape
        n_bytes = np.dtype(dtype).itemsize * (rows * inputs + inputs * outputs + rows * outputs)
        intensity = 2 * rows * inputs * outputs / n_bytes
        level = next(level for level in self.levels if n_bytes <= level.room)
        by_memory, peak = intensity * level.bytes_per_second, self.peak[np.dtype(dtype).name]
        limit = "arithmetic" if peak <= by_memory else level.name
        return Bound(min(peak, by_memory), limit, level.name, intensity)


def measure(n_threads, dtypes, seconds=SECONDS, tries=3):
    """Return the `Roofline` of so many threads."""
    sizes = caches()
    # Each thread has its own first and second level; the third one is shared.
    rooms = {f"L{k}": size * (n_threads if k < 3 else 1) for k, size in sorted(sizes.items())}
    far = min(max(_FAR_BYTES, 4 * max(rooms.values())), _MOST_FAR_BYTES)
    levels = [
        Level(name, room, bandwidth(room // 2, n_threads, tries=tries))
        for name, room in rooms.items()
    ]
    levels.append(Level("memory", float("inf"), bandwidth(far, n_threads, seconds, tries)))
    # A machine that others share may measure a near level below a far one.
    for k in range(len(levels) - 2, -1, -1):
        faster = max(levels[k].bytes_per_second, levels[k + 1].bytes_per_second)
        levels[k] = dataclasses.replace(levels[k], bytes_per_second=faster)
    peaks_of = {np.dtype(dtype).name: peak(dtype, n_threads, seconds, tries) for dtype in dtypes}
    return Roofline(n_threads, peaks_of, tuple(levels))


def cpu_model():
    """Return the CPU's name, as well as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def describe():
    """Return the machine's description, without its peaks."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": cpu_model(),
        "cores": cores,
        "vector_bits": VECTOR_BYTES * 8,
        "system": platform.platform(),
        "python": platform.python_version(),
    }
