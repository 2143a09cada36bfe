"""The operations of the register tile, each alone, against the same thing said in NumPy."""

import functools

import numpy as np
import pytest
from numba import types

from fastnn.kernels.memory import UNBOUNDED
from fastnn.kernels.tile import (
    TILE_ROWS,
    TILE_VECTORS,
    VECTOR_BYTES,
    Tile,
    keep_where_positive,
    lanes_of,
    load,
    load_row,
    prefetch,
    rank1,
    relu,
    store,
    store_transposed,
    zeros,
)
from fastnn.runtime.jit import kernel

ZEROS, LOAD, LOAD_ROW, RANK1, STORE_TRANSPOSED, RELU, KEEP = range(7)
SHAPES = [(TILE_ROWS, 1), (TILE_ROWS, 2), (TILE_ROWS, 3), (1, 1), (2, 2)]

with_shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)
with_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


@functools.cache
def compiled(rows, vectors):
    """Compile all operations for one shape of tile: each one between a load and a store."""

    def apply(operation, c, co, c_step, a, ao, a_step, b, bo, out, oo, out_step):
        tile = zeros(out, rows, vectors)
        if operation == LOAD_ROW:
            tile = load_row(tile, c, co)
        elif operation != ZEROS:
            tile = load(tile, c, co, c_step)
        if operation == RANK1:
            tile = rank1(tile, a, ao, a_step, b, bo)
        elif operation == RELU:
            tile = relu(tile)
        elif operation == KEEP:
            tile = keep_where_positive(tile, b, bo, c_step)
        if operation == STORE_TRANSPOSED:
            store_transposed(tile, out, oo, out_step)
        else:
            store(tile, out, oo, out_step)

    return kernel(apply)


@kernel
def lanes(array):
    return lanes_of(array)


@kernel
def fetch(array, offset):
    prefetch(array, offset)


class Case:
    """Memory for one operation: flat arrays full of NaN, in which the operands lie at offsets."""

    def __init__(self, shape, dtype):
        self.rows, self.vectors = shape
        self.dtype = np.dtype(dtype)
        self.columns = self.vectors * VECTOR_BYTES // self.dtype.itemsize
        self.step = self.columns + 5  # rows that do not begin at whole vectors
        self.a_step = 3
        self.c, self.b, self.out = (self.nothing(7 + 3 * self.columns * self.step) for _ in "cbo")
        self.a = self.nothing(2 + self.rows * self.a_step)

    def nothing(self, size):
        return np.full(size, np.nan, self.dtype)

    def block(self, array, offset, rows=None, columns=None, step=None):
        """Return rows of a flat array as a matrix that shares its memory."""
        rows, columns = rows or self.rows, columns or self.columns
        itemsize = self.dtype.itemsize
        view = array[offset : offset + (rows - 1) * (step or self.step) + columns]
        strides = ((step or self.step) * itemsize, itemsize)
        return np.lib.stride_tricks.as_strided(view, (rows, columns), strides)

    def run(self, operation, out_step=None):
        """Run it with c at offset 3, a at 1, b at 2 and out at 4; return out as a matrix."""
        out_step = out_step or self.step
        shape = (self.columns, self.rows) if operation == STORE_TRANSPOSED else None
        shape = shape or (self.rows, self.columns)
        compiled(self.rows, self.vectors)(
            operation, self.c, 3, self.step, self.a, 1, self.a_step, self.b, 2,
            self.out, 4, out_step,
        )  # fmt: skip
        result = self.block(self.out, 4, *shape, out_step).copy()
        self.block(self.out, 4, *shape, out_step)[...] = np.nan
        assert np.isnan(self.out).all(), "something was written beside the tile"
        return result


@pytest.fixture(name="case")
def fixture_case(shape, dtype):
    return Case(shape, dtype)


@with_dtypes
def test_a_vector_is_as_wide_as_the_register(dtype):
    assert lanes(np.empty(0, dtype)) == VECTOR_BYTES // np.dtype(dtype).itemsize
    assert VECTOR_BYTES in (16, 32, 64)
    assert TILE_ROWS & (TILE_ROWS - 1) == 0, "transposed stores need a power of two"
    assert TILE_VECTORS in (1, 2, 3), "the products have a branch for each"


@with_dtypes
@with_shapes
def test_zeros_are_zeros(case):
    np.testing.assert_array_equal(case.run(ZEROS), np.zeros((case.rows, case.columns)))


@with_dtypes
@with_shapes
def test_load_reads_and_store_writes_rows_at_any_distance(case, rng):
    expected = rng.normal(size=(case.rows, case.columns)).astype(case.dtype)
    case.block(case.c, 3)[...] = expected
    np.testing.assert_array_equal(case.run(LOAD), expected)
    np.testing.assert_array_equal(case.run(LOAD, out_step=case.columns), expected)


@with_dtypes
@with_shapes
def test_all_bits_survive_load_and_store(case):
    special = np.array([-0.0, np.inf, -np.inf, np.nan, np.finfo(case.dtype).smallest_subnormal])
    expected = np.resize(special, (case.rows, case.columns)).astype(case.dtype)
    case.block(case.c, 3)[...] = expected
    for operation in (LOAD, STORE_TRANSPOSED):
        result = case.run(operation)
        result = result.T if operation == STORE_TRANSPOSED else result
        np.testing.assert_array_equal(result, expected)
        np.testing.assert_array_equal(np.signbit(result), np.signbit(expected))


@with_dtypes
@with_shapes
def test_load_row_repeats_one_row(case, rng):
    expected = rng.normal(size=case.columns).astype(case.dtype)
    case.c[3 : 3 + case.columns] = expected
    np.testing.assert_array_equal(case.run(LOAD_ROW), np.tile(expected, (case.rows, 1)))


@with_dtypes
@with_shapes
def test_rank1_adds_the_outer_product(case, rng):
    c = rng.integers(-50, 51, (case.rows, case.columns))
    a, b = rng.integers(-50, 51, case.rows), rng.integers(-50, 51, case.columns)
    case.block(case.c, 3)[...] = c
    case.a[1 :: case.a_step][: case.rows] = a
    case.b[2 : 2 + case.columns] = b
    assert (case.run(RANK1) == c + np.outer(a, b)).all()


@with_dtypes
@with_shapes
def test_rank1_rounds_within_its_bound(case, rng):
    c = rng.normal(size=(case.rows, case.columns)).astype(case.dtype)
    a = rng.normal(size=case.rows).astype(case.dtype)
    b = rng.normal(size=case.columns).astype(case.dtype)
    case.block(case.c, 3)[...] = c
    case.a[1 :: case.a_step][: case.rows] = a
    case.b[2 : 2 + case.columns] = b
    products = np.outer(a.astype(np.longdouble), b)
    bound = np.finfo(case.dtype).eps * (np.abs(c) + np.abs(products))  # with or without FMA
    assert (np.abs(case.run(RANK1) - (c + products)) <= bound).all()


@with_dtypes
@with_shapes
def test_store_transposed_writes_columns_as_rows(case):
    # Every element is another number: a lane in the wrong place is seen.
    expected = np.arange(case.rows * case.columns).reshape(case.rows, case.columns)
    case.block(case.c, 3)[...] = expected
    np.testing.assert_array_equal(case.run(STORE_TRANSPOSED, case.rows), expected.T)
    np.testing.assert_array_equal(case.run(STORE_TRANSPOSED, case.rows + 3), expected.T)


@with_dtypes
@with_shapes
def test_relu_keeps_positives_and_nan(case):
    tiny = np.finfo(case.dtype).smallest_subnormal
    special = np.array([-np.inf, -1, -tiny, -0.0, 0.0, tiny, 1, np.inf, np.nan], case.dtype)
    z = np.resize(special, (case.rows, case.columns))
    case.block(case.c, 3)[...] = z
    result = case.run(RELU)
    np.testing.assert_array_equal(result, np.where(z <= 0, 0, z))
    assert not np.signbit(result[z == 0]).any(), "a zero with a sign is not one of the padding"


@with_dtypes
@with_shapes
def test_keep_where_positive_is_the_derivative_of_relu(case, rng):
    tiny = np.finfo(case.dtype).smallest_subnormal
    special = np.array([-1, -0.0, 0.0, tiny, 1, np.inf, np.nan], case.dtype)
    out = np.resize(special, (case.rows, case.columns))
    dout = rng.normal(size=out.shape).astype(case.dtype)
    dout[0, 0] = np.nan  # where the output is negative: hidden, as by a multiplication by zero
    case.block(case.c, 3)[...] = dout
    case.block(case.b, 2)[...] = out
    np.testing.assert_array_equal(case.run(KEEP), np.where(out <= 0, 0, dout))


@with_dtypes
def test_any_place_may_be_prefetched(dtype):
    for array in (np.arange(9, dtype=dtype), np.empty(0, dtype)):
        before = array.copy()
        for offset in (0, 8, 9, 10**6, 2**40, UNBOUNDED, 2**63 - 1):
            fetch(array, offset)
            fetch(array, -offset)
        np.testing.assert_array_equal(array, before)


def test_tiles_are_one_type_for_each_shape():
    tile = Tile(types.float32, 4, 2)
    assert tile == Tile(types.float32, 4, 2)
    assert tile != Tile(types.float32, 2, 4)
    assert tile != Tile(types.float64, 4, 2)
    assert (tile.lanes, Tile(types.float64, 4, 2).lanes) == (VECTOR_BYTES // 4, VECTOR_BYTES // 8)
