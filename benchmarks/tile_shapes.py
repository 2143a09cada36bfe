"""Which shape of register tile is fastest on this CPU?

Multiplies matrices that fit the second-level cache with tiles of several shapes and prints
GFLOP/s of one thread, the median of interleaved repetitions. `fastnn.kernels.tile` holds the
shapes that were chosen. To measure narrower vectors on the same CPU, name an older one, for
example::

    export NUMBA_CPU_NAME=haswell NUMBA_CPU_FEATURES=+sse4.2,+avx,+avx2,+fma
    python benchmarks/tile_shapes.py

or ``NUMBA_CPU_NAME=x86-64 NUMBA_CPU_FEATURES=`` for SSE2.
"""

import statistics
import time

import numpy as np
from numba import njit

from fastnn.kernels import tile as t
from fastnn.kernels.tile import lanes_of, rank1, store, zeros

SHAPES = [(4, 2), (4, 3), (4, 4), (6, 2), (6, 4), (8, 1), (8, 2), (8, 3), (12, 2), (14, 2)]
SIZE, REPETITIONS = 192, 15


def product(rows, vectors):
    """Compile out = a @ b for panels of b, on tiles of a shape."""

    @njit(error_model="numpy")
    def multiply(m, n, n_k, a, b, out):
        width = vectors * lanes_of(out)
        for j in range(0, n, width):
            for i in range(0, m, rows):
                tile = zeros(out, rows, vectors)
                for k in range(n_k):
                    tile = rank1(tile, a, i * n_k + k, n_k, b, j * n_k + k * width)
                store(tile, out, i * n + j, n)

    return multiply


def main():
    """Print a table."""
    print(f"vectors of {t.VECTOR_BYTES * 8} bits; chosen: {t.TILE_ROWS} x {t.TILE_VECTORS}")
    for dtype in (np.float32, np.float64):
        lanes = t.VECTOR_BYTES // np.dtype(dtype).itemsize
        runs = []
        for rows, vectors in SHAPES:
            m, n = SIZE // rows * rows, max(1, SIZE // (vectors * lanes)) * vectors * lanes
            a, b, out = (np.ones(s, dtype) for s in (m * SIZE, SIZE * n, m * n))
            call = (product(rows, vectors), (m, n, SIZE, a, b, out), 2 * m * n * SIZE)
            call[0](*call[1])
            runs.append((rows, vectors, call, []))
        for _ in range(REPETITIONS):
            for _, _, (multiply, arguments, _), times in runs:
                began = time.perf_counter()
                for _ in range(10):
                    multiply(*arguments)
                times.append((time.perf_counter() - began) / 10)
        for rows, vectors, (_, _, flops), times in runs:
            speed = flops / statistics.median(times) / 1e9
            print(f"{np.dtype(dtype).name}  {rows:2} x {vectors}  {speed:6.1f} GFLOP/s")


if __name__ == "__main__":
    main()
