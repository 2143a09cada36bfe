"""Which sizes of blocks are fastest for `fastnn.matmul`, and from how much work on two threads?

``python benchmarks/matmul_blocks.py K_BLOCK 128 192 256`` compiles the product anew for each value
of a constant of `fastnn.kernels.matmul`, in a process of its own, and prints GFLOP/s of one
thread. Without arguments, it prints what a second thread gains with growing size:
`fastnn.linalg.MIN_WORK_PER_THREAD` is set where that is 1.
"""

import os
import subprocess
import sys
import tempfile
import time

import numpy as np

from fastnn.kernels import matmul as blocks

SHAPES = [(100,) * 3, (256,) * 3, (512,) * 3, (1024,) * 3, (128, 784, 128), (512, 512, 10)]
WIDTHS = [48, 64, 80, 96, 112, 128, 160, 200]
REPETITIONS = 9


def shortest(calls):
    """Seconds of each of some calls: the best of interleaved repetitions."""
    best = [float("inf")] * len(calls)
    for _ in range(REPETITIONS):
        for i, call in enumerate(calls):
            call()
            began = time.perf_counter()
            repeats = 0
            while time.perf_counter() - began < 0.005:
                call()
                repeats += 1
            best[i] = min(best[i], (time.perf_counter() - began) / repeats)
    return best


def product(m, k, n, dtype, n_threads):
    """Return a function that multiplies two matrices."""
    from fastnn import matmul

    a, b, out = (np.ones(shape, dtype) for shape in ((m, k), (k, n), (m, n)))
    return lambda: matmul(a, b, out=out, n_threads=n_threads)


def show_speeds(name, value):
    """Print the speeds with one value of a constant."""
    setattr(blocks, name, value)
    blocks.PACKED_BYTES *= 4  # enough for any value worth trying
    for dtype in ("float32", "float64"):
        for m, k, n in SHAPES:
            (seconds,) = shortest([product(m, k, n, dtype, 1)])
            speed = 2 * m * k * n / seconds / 1e9
            print(f"{name} = {value}  {dtype}  {m} x {k} x {n}: {speed:.1f} GFLOP/s", flush=True)


def show_threshold():
    """Print the gain of a second thread."""
    from fastnn import linalg

    linalg.MIN_WORK_PER_THREAD = 1
    for dtype in ("float32", "float64"):
        for n in WIDTHS:
            alone, together = shortest([product(n, n, n, dtype, t) for t in (1, 2)])
            work = n**3 * np.dtype(dtype).itemsize
            print(f"{dtype}  {n:4}  work {work:10}: gain {alone / together:.2f}")


def main():
    """Print a table."""
    if len(sys.argv) == 1:
        show_threshold()
    elif len(sys.argv) == 3:
        show_speeds(sys.argv[1], int(sys.argv[2]))
    else:
        for value in sys.argv[2:]:
            with tempfile.TemporaryDirectory() as folder:  # the cache does not see the constant
                environment = {**os.environ, "NUMBA_CACHE_DIR": folder}
                command = [sys.executable, __file__, sys.argv[1], value]
                subprocess.run(command, env=environment, check=True)


if __name__ == "__main__":
    main()
