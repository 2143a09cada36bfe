"""Matrix products: our loops beside NumPy's BLAS."""

import numpy as np

import fastnn

from . import common

# Small, whole in the cache, a layer's, and one with few columns.
SHAPES = ["32x32x32", "256x256x256", "128x784x128", "512x512x10", "512x512x512"]
_FLOPS_PER_SAMPLE = 4e7


def product(library, shape, dtype, threads):
    """Return a call that multiplies (M, K) by (K, N)."""
    m, k, n = map(int, shape.split("x"))
    a, b = common.normal(m, k, dtype=dtype), common.normal(k, n, dtype=dtype)
    out = np.empty((m, n), dtype)
    if library == "numpy":
        return lambda: np.matmul(a, b, out=out)
    return lambda: fastnn.matmul(a, b, out=out, n_threads=threads)


def _repeats(shape):
    m, k, n = map(int, shape.split("x"))
    return max(1, round(_FLOPS_PER_SAMPLE / (2 * m * k * n)))


class Product(common.Timed):
    """Seconds of a product."""

    params = (common.LIBRARIES, SHAPES, common.DTYPES, common.THREADS)
    param_names = ("library", "shape", "dtype", "threads")

    def setup(self, library, shape, dtype, threads):
        self.use(product, (library, shape, dtype, threads), _repeats(shape))

    def time_product(self, library, shape, dtype, threads):
        self.run()


class ProductMemory(common.Timed):
    """Bytes of a process that multiplies."""

    params = (common.LIBRARIES, ["512x512x512"], common.DTYPES, common.THREADS)
    param_names = ("library", "shape", "dtype", "threads")

    def setup(self, library, shape, dtype, threads):
        self.use(product, (library, shape, dtype, threads))

    def peakmem_product(self, library, shape, dtype, threads):
        self.run()


class ProductRatio(common.Timed):
    """Times of fastnn over NumPy's."""

    params = (SHAPES[:-1], common.DTYPES, common.THREADS)
    param_names = ("shape", "dtype", "threads")

    def setup(self, shape, dtype, threads):
        for library in common.LIBRARIES:
            common.ready(product, library, shape, dtype, threads)

    def track_time_ratio_vs_numpy(self, shape, dtype, threads):
        return common.ratio_vs_numpy(product, shape, dtype, threads)

    track_time_ratio_vs_numpy.unit = "fastnn / numpy"
