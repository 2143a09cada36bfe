"""The process in which matrix products are measured: fastnn's and NumPy's in turn.

One process for both, because both take the same arrays. Their threads spin for a while after a
call, so each block of calls waits until the other's threads have stopped.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

sys.path.insert(0, str(Path(__file__).parents[1]))

import fastnn
from contest.worker import settle

_BLOCK_SECONDS, _SLOW_SECONDS, _MIN_ROUNDS = 0.004, 0.05, 5


def operand(rng, rows, columns, dtype, transposed):
    """Return a random matrix, as the transpose of a contiguous one if asked to."""
    if transposed:
        return rng.standard_normal((columns, rows), dtype=dtype).T
    return rng.standard_normal((rows, columns), dtype=dtype)


def check(ours, theirs, expected):
    """Raise ValueError if one of the results is wrong."""
    tolerance = 1e-4 if ours.dtype == np.float32 else 1e-10
    for name, result in (("fastnn", ours), ("numpy", theirs)):
        error = np.abs(result - expected).max() / max(np.abs(expected).max(), 1e-30)
        if not error < tolerance:
            raise ValueError(f"the product of {name} is wrong by {error:.1e}")


def measure(shape, dtype, layout, n_threads, rounds):
    """Return the median seconds of fastnn's and of NumPy's product."""
    m, n_k, n = shape
    rng = np.random.default_rng(0)
    a = operand(rng, m, n_k, dtype, layout[0] == "t")
    b = operand(rng, n_k, n, dtype, layout[1] == "t")
    outs = [np.full((m, n), np.nan, dtype) for _ in range(2)]
    calls = [
        lambda: fastnn.matmul(a, b, out=outs[0], n_threads=n_threads),
        lambda: np.matmul(a, b, out=outs[1]),
    ]
    counts = []
    for call in calls:
        call()
        began = time.perf_counter()
        call()
        once = time.perf_counter() - began
        counts.append(max(1, round(_BLOCK_SECONDS / once)))
        settle()
    check(*outs, outs[1].astype(np.float64) if m * n * n_k > 2e8 else a.astype(float) @ b)
    if once > _SLOW_SECONDS:
        rounds = min(rounds, _MIN_ROUNDS)
    times = [[], []]
    for turn in range(rounds):
        for which in (0, 1) if turn % 2 else (1, 0):
            call, count = calls[which], counts[which]
            call()  # wakes the threads, and brings the matrices into the cache
            began = time.perf_counter()
            for _ in range(count):
                call()
            spent = (time.perf_counter() - began) / count
            times[which].append(spent)
            counts[which] = max(1, round(_BLOCK_SECONDS / spent))
            settle()
    return [float(np.median(spent)) for spent in times]


def main():
    """Measure each task, a JSON list on a line of the standard input, and print the seconds."""
    for line in sys.stdin:
        shape, dtype, layout, n_threads, rounds = json.loads(line)
        with threadpool_limits(n_threads):
            print(json.dumps(measure(shape, dtype, layout, n_threads, rounds)), flush=True)


if __name__ == "__main__":
    main()
