"""What this machine can do: the peak of its fused multiply-adds, measured, and its description.

Prints the peak of one core and of all in both dtypes::

    python benchmarks/machine.py

The peak is that of a loop over independent chains of multiply-adds that never leave the registers.
With ``--json`` all is printed as JSON, as `benchmarks/peers.py` reads it.
"""

import argparse
import json
import os
import platform
import threading
import time
from pathlib import Path

import numpy as np
from llvmlite import ir
from numba import njit
from numba.core import cgutils
from numba.extending import intrinsic

from fastnn.kernels.tile import TILE_ROWS, TILE_VECTORS, VECTOR_BYTES, load, load_row, store, zeros

SECONDS, TRIES = 0.05, 9
_PATIENCE, _USUAL = 4, 0.9

# Iterations between two looks at the clock: some tens of microseconds.
_ITERATIONS = 20_000


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


@njit(error_model="numpy", nogil=True)
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


def peak(dtype, n_threads, seconds=SECONDS, tries=TRIES):
    """Return the most FLOP/s that so many threads reach together, the best of some tries."""
    dtype = np.dtype(dtype)
    lanes = VECTOR_BYTES // dtype.itemsize
    flops = 2 * TILE_ROWS * TILE_VECTORS * lanes * _ITERATIONS

    def memory():
        result = np.ones((2 + TILE_ROWS, TILE_VECTORS * lanes), dtype)
        result[0] = 0.5  # x / 2 + 1: the chains tend to 2
        return result.ravel()

    _chains(memory(), 1)  # compiles
    best = 0.0
    for _ in range(tries):
        together = threading.Barrier(n_threads)
        done = [0.0] * n_threads

        def run(k, together=together, done=done):
            own = memory()
            together.wait()
            began = now = time.perf_counter()
            count = 0
            while now - began < seconds:
                _chains(own, _ITERATIONS)
                count += 1
                now = time.perf_counter()
            done[k] = count * flops / (now - began)

        members = [threading.Thread(target=run, args=(k,)) for k in range(n_threads)]
        for member in members:
            member.start()
        for member in members:
            member.join()
        best = max(best, sum(done))
    return best


def cpu_model():
    """Return the CPU's name, as well as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def peaks(dtype, cores, tries):
    """Return the peaks of one core and of all.

    Where all together reach little more than one, others may be at work, and it is tried again.
    """
    for _ in range(_PATIENCE):
        found = {"one": peak(dtype, 1, tries=tries), "all": peak(dtype, cores, tries=tries)}
        if found["all"] > _USUAL * cores * found["one"]:
            break
    return found


def describe(tries=TRIES):
    """Return the machine's description and peaks."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": cpu_model(),
        "cores": cores,
        "vector_bits": VECTOR_BYTES * 8,
        "system": platform.platform(),
        "python": platform.python_version(),
        "peak_flops": {dtype: peaks(dtype, cores, tries) for dtype in ("float32", "float64")},
    }


def main():
    """Print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--tries", type=int, default=TRIES, help="of which the best counts")
    arguments = parser.parse_args()
    found = describe(arguments.tries)
    if arguments.json:
        print(json.dumps(found))
        return
    print(f"{found['cpu']}, {found['cores']} cores, vectors of {found['vector_bits']} bits")
    for dtype, speeds in found["peak_flops"].items():
        print(
            f"{dtype}: {speeds['one'] / 1e9:.1f} GFLOP/s on one core, "
            f"{speeds['all'] / 1e9:.1f} on all"
        )


if __name__ == "__main__":
    main()
