"""The kernel of the max-norm, called at its address, against the plain loop."""

import numpy as np
import pytest

from fastnn.kernels import constraint, reference
from fastnn.kernels.tile import TILE_ROWS, TILE_VECTORS
from tests.kernels.dtypes import each_dtype
from tests.kernels.operations import Unchanged, block, call, work
from tests.panel_layout import Panels, lanes, whole

WIDE = TILE_VECTORS * lanes("float32")  # columns of a panel; half as many are one of float64
SHAPES = [(1, 1), (7, WIDE // 2 - 1), (TILE_ROWS + 1, WIDE), (WIDE + 1, WIDE + 1), (97, 97)]

with_dtypes = each_dtype("constraint")
with_shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)


class Case:
    """Weights in panels and their transposed copy."""

    def __init__(self, w):
        (n_in, n_out), rows = w.shape, whole(len(w), TILE_ROWS)
        self.w = Panels((rows, n_out), w.dtype)
        self.w.fill(np.zeros((rows, n_out), w.dtype))
        self.w.fill(w)
        self.transposed = Panels.of(np.ascontiguousarray(w.T), gap=0)
        self.n_in, self.n_out = n_in, n_out

    def limit(self, max_norm, transposed=True, panels=None):
        record = block(
            at=self.w.offset, n_rows=self.n_in, n_columns=self.n_out, distance=self.w.distance,
            transposed_at=self.transposed.offset if transposed else -1, max_norm=max_norm,
        )  # fmt: skip
        now = work(params=self.w.flat, transposed=self.transposed.flat)
        kernel = constraint.max_norm_kernel(self.w.dtype)
        for j in range(0, self.n_out, self.w.panel) if panels is None else panels:
            call(kernel, record, j, now)
        return self.w.take()[: self.n_in]


@with_shapes
@with_dtypes
def test_columns_that_are_too_long_are_shortened_as_by_the_plain_loop(shape, dtype, rng):
    w = (rng.normal(size=shape) * rng.random(shape[1])).astype(dtype)
    right, limit = w.copy(), 0.5 * np.sqrt(shape[0])
    reference.max_norm(right, limit)
    case = Case(w)
    result = case.limit(limit)
    np.testing.assert_allclose(result, right, rtol=(shape[0] + 8) * np.finfo(dtype).eps)
    short = np.sqrt((w.astype("float64") ** 2).sum(axis=0)) < limit * (1 - 1e-4)
    np.testing.assert_array_equal(result[:, short], w[:, short])
    np.testing.assert_array_equal(case.transposed.take(), result.T)


@with_dtypes
def test_without_a_transposed_copy_none_is_written(dtype, rng):
    w = rng.normal(size=(13, WIDE + 1)).astype(dtype)
    case = Case(w)
    with Unchanged(case.transposed.flat):
        result = case.limit(0.5, transposed=False)
    np.testing.assert_array_equal(result, Case(w).limit(0.5))


@with_dtypes
def test_only_the_panel_of_the_column_is_limited(dtype, rng):
    w = rng.normal(size=(13, 2 * WIDE)).astype(dtype)
    case = Case(w)
    panel = case.w.panel
    result = case.limit(0.5, panels=[panel])
    rest = np.delete(result, range(panel, 2 * panel), axis=1)
    np.testing.assert_array_equal(rest, np.delete(w, range(panel, 2 * panel), axis=1))
    np.testing.assert_array_equal(
        result[:, panel : 2 * panel], Case(w).limit(0.5)[:, panel : 2 * panel]
    )
    np.testing.assert_array_equal(case.transposed.take(), result.T)


@with_dtypes
def test_zeros_and_nan_are_left_alone(dtype):
    w = np.zeros((5, 7), dtype)
    w[1, 2] = np.nan
    np.testing.assert_array_equal(Case(w).limit(0.5), w)
