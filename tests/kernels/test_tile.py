"""The operations of the register tile, each alone, against the same thing said in NumPy."""

import functools

import numpy as np
import pytest
from numba import types

from fastnn.kernels.memory import UNBOUNDED
from fastnn.kernels.tile import (
    CELL_BYTES,
    GROUP_BYTES,
    NARROW_ROWS,
    TILE_ROWS,
    TILE_VECTORS,
    Tile,
    add,
    add_magnitudes,
    add_squares,
    by_width,
    cell_of,
    columns_of,
    factors_within,
    fill_after,
    keep_where_positive,
    lanes_of,
    larger,
    load,
    load_halves,
    load_row,
    multiply,
    multiply_add,
    prefetch,
    rank1,
    relu,
    row_max,
    row_sum,
    scale_and_shift,
    store,
    store_columns,
    store_halves,
    store_transposed,
    subtract,
    zero_group,
    zero_sums,
    zeros,
)
from fastnn.runtime.cpu import N_REGISTERS, VECTOR_BYTES
from fastnn.runtime.jit import inner, kernel
from tests.kernels.dtypes import each_dtype
from tests.kernels.fused import skip_without_fused_multiply_add

ZEROS, LOAD, LOAD_ROW, RANK1, STORE_TRANSPOSED, STORE_COLUMNS, RELU, KEEP = range(8)
SHAPES = [(TILE_ROWS, 1), (TILE_ROWS, 2), (TILE_ROWS, 3), (1, 1), (2, 2)]
# Rows that `store_columns` can take: whole groups of 128 bits, in both dtypes.
BLOCKS = [shape for shape in SHAPES if shape[0] % 4 == 0]

with_shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)
with_blocks = pytest.mark.parametrize("shape", BLOCKS, ids=str)
with_dtypes = each_dtype("tile")


@functools.cache
def compiled(rows, vectors):
    """Compile all operations for one shape of tile: each one between a load and a store."""
    in_groups = rows % 4 == 0

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
        elif in_groups and operation == STORE_COLUMNS:
            store_columns(tile, out, oo, out_step)
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
        shape = self.rows, self.columns
        if operation in (STORE_TRANSPOSED, STORE_COLUMNS):
            shape = shape[::-1]
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


def test_a_tile_and_what_it_reads_fit_into_the_registers():
    for rows, vectors in [(TILE_ROWS, TILE_VECTORS), (NARROW_ROWS, 1)]:
        assert rows * vectors + vectors + 1 <= N_REGISTERS


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
@with_blocks
def test_store_columns_writes_columns_as_rows(case):
    expected = np.arange(case.rows * case.columns).reshape(case.rows, case.columns)
    case.block(case.c, 3)[...] = expected
    np.testing.assert_array_equal(case.run(STORE_COLUMNS, case.rows), expected.T)
    np.testing.assert_array_equal(case.run(STORE_COLUMNS, case.rows + 3), expected.T)


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


# --- the choice of a tile by its width ------------------------------------------------------------


@inner
def _mark_tile(tile, out, step):
    store(scale_and_shift(tile, out.dtype.type(0), out.dtype.type(1)), out, 0, step)
    out[out.size - 1] = columns_of(tile)


_mark_any = by_width(_mark_tile, TILE_ROWS)


@kernel
def mark_any(n_vectors, out, step):
    _mark_any(n_vectors, out, out, step)


@with_dtypes
def test_a_function_gets_the_tile_of_its_width(dtype):
    for vectors in range(1, TILE_VECTORS + 1):
        columns = vectors * lanes(np.empty(0, dtype))
        step = columns + 3
        out = np.full(TILE_ROWS * step + 1, np.nan, dtype)
        mark_any(vectors, out, step)
        assert out[-1] == columns
        marked = out[:-1].reshape(TILE_ROWS, step)
        assert (marked[:, :columns] == 1).all()
        assert np.isnan(marked[:, columns:]).all()


# --- tiles of one row -----------------------------------------------------------------------------

(
    HALVES, STORE_HALVES, FILL, LARGER, SCALE, ADD, SUBTRACT, MULTIPLY, MULTIPLY_ADD, FACTORS, MAX,
    SUM,
) = range(12)  # fmt: skip


@kernel
def apply_to_group(operation, a, low, high, b, c, factor, term, n, out, o, second):
    """Overwrite out[o:] with an operation on groups at a[low:], b[0:] and c[0:]."""
    zero = zero_group(out)
    one = load_halves(zero, a, low, high) if operation == HALVES else load(zero, a, low, 0)
    if operation == STORE_HALVES:
        store_halves(one, out, o, second)
        return
    if operation == MAX:
        out[o] = row_max(one)
        return
    if operation == SUM:
        out[o] = row_sum(one)
        return
    two, three = load(zero, b, 0, 0), load(zero, c, 0, 0)
    if operation == FILL:
        one = fill_after(one, n, term)
    elif operation == LARGER:
        one = larger(one, two)
    elif operation == SCALE:
        one = scale_and_shift(one, factor, term)
    elif operation == ADD:
        one = add(one, two)
    elif operation == SUBTRACT:
        one = subtract(one, two)
    elif operation == MULTIPLY:
        one = multiply(one, two)
    elif operation == MULTIPLY_ADD:
        one = multiply_add(one, two, three)
    elif operation == FACTORS:
        one = factors_within(one, factor)
    store(one, out, o, 0)


@kernel
def sum_cells(c, offset, n, step, squares, out):
    """Overwrite `out` with the sums of squares, or of magnitudes, of the columns of n cells."""
    total = zero_sums(c)
    for k in range(n):
        if squares:
            total = add_squares(total, c, offset + k * step)
        else:
            total = add_magnitudes(total, c, offset + k * step)
    store(total, out, 1, 0)
    out[0] = row_sum(total)


@kernel
def sizes_of(c):
    return columns_of(zero_group(c)), columns_of(zero_sums(c)), cell_of(c)


def by_halves(values):
    """Add numbers as `row_sum` says: the upper half to the lower one, again and again."""
    while len(values) > 1:
        half = len(values) // 2
        values = values[:half] + values[half:]
    return values[0]


class Groups:
    """Groups of columns for an operation on tiles of one row."""

    def __init__(self, dtype):
        self.number = np.dtype(dtype).type
        self.n = GROUP_BYTES // np.dtype(dtype).itemsize
        self.a, self.b, self.c = np.full((3, 4 * self.n), np.nan, dtype)

    def fill(self, *arrays):
        for place, array in zip((self.a, self.b, self.c), arrays, strict=False):
            place[: self.n] = array

    def run(self, operation, low=0, high=0, factor=0, term=0, n=0, places=(3, None), size=None):
        """Return what is written, of which everything else must have been left alone."""
        out, (o, second) = np.full(4 * self.n, np.nan, self.number), places
        size = self.n if size is None else size
        apply_to_group(
            operation, self.a, low, high, self.b, self.c, self.number(factor), self.number(term),
            n, out, o, o if second is None else second,
        )  # fmt: skip
        written = out[o : o + size].copy()
        out[o : o + size] = np.nan
        if second is not None:
            written = np.concatenate([written, out[second : second + size]])
            out[second : second + size] = np.nan
        assert np.isnan(out).all(), "something was written beside the tile"
        return written


@pytest.fixture(name="groups")
def fixture_groups(dtype):
    return Groups(dtype)


@with_dtypes
def test_groups_and_cells_have_the_same_columns_at_any_width(dtype):
    itemsize = np.dtype(dtype).itemsize
    cell = 32 // itemsize
    assert sizes_of(np.empty(0, dtype)) == (2 * cell, cell, cell)
    assert GROUP_BYTES == 2 * CELL_BYTES == 64


@with_dtypes
def test_halves_are_read_from_two_places_and_written_to_two(groups):
    half = groups.n // 2
    groups.a[:] = np.arange(groups.a.size)
    for low, high in [(0, half), (1, 2 * groups.n + 3), (2 * groups.n + 1, 0), (5, 5)]:
        expected = np.concatenate([groups.a[low : low + half], groups.a[high : high + half]])
        np.testing.assert_array_equal(groups.run(HALVES, low, high), expected)
    for o, second in [(0, half), (1, groups.n + 2), (2 * groups.n, 3)]:
        written = groups.run(STORE_HALVES, 1, places=(o, second), size=half)
        np.testing.assert_array_equal(written, groups.a[1 : 1 + groups.n])


@with_dtypes
def test_of_halves_for_one_place_the_lower_is_written(groups):
    half = groups.n // 2
    groups.a[:] = np.arange(groups.a.size)
    written = groups.run(STORE_HALVES, 1, places=(3, None), size=half)
    np.testing.assert_array_equal(written, groups.a[1 : 1 + half])


@with_dtypes
def test_columns_from_n_on_are_filled(groups):
    groups.fill(np.arange(groups.n))
    for n in range(-1, groups.n + 2):
        expected = np.where(np.arange(groups.n) < n, np.arange(groups.n), -7)
        np.testing.assert_array_equal(groups.run(FILL, term=-7, n=n), expected)
    groups.fill(np.nan)
    assert (groups.run(FILL, term=0, n=0) == 0).all()


@with_dtypes
def test_arithmetic_of_tiles_is_that_of_arrays(groups, rng):
    one, two, three = rng.integers(-50, 51, (3, groups.n))
    groups.fill(one, two, three)
    np.testing.assert_array_equal(groups.run(ADD), one + two)
    np.testing.assert_array_equal(groups.run(SUBTRACT), one - two)
    np.testing.assert_array_equal(groups.run(MULTIPLY), one * two)
    np.testing.assert_array_equal(groups.run(LARGER), np.maximum(one, two))
    np.testing.assert_array_equal(groups.run(MULTIPLY_ADD), one * two + three)
    np.testing.assert_array_equal(groups.run(SCALE, factor=3, term=-4), 3 * one - 4)
    np.testing.assert_array_equal(groups.run(MAX, size=1), one.max())
    np.testing.assert_array_equal(groups.run(SUM, size=1), one.sum())


@with_dtypes
def test_multiply_adds_of_tiles_are_rounded_once(groups):
    skip_without_fused_multiply_add()
    eps = np.finfo(groups.number).eps
    groups.fill(1 + eps, 1 - eps, -1)  # the product is 1 - eps^2
    assert (groups.run(MULTIPLY_ADD) == -(eps**2)).all()
    assert (groups.run(SCALE, factor=1 - eps, term=-1) == -(eps**2)).all()


@with_dtypes
def test_a_row_is_summed_by_halves(groups, rng):
    values = (10.0 ** rng.integers(-4, 5, groups.n) * rng.normal(size=groups.n)).astype(
        groups.number
    )
    groups.fill(values)
    assert groups.run(SUM, size=1)[0] == by_halves(values)


@with_dtypes
def test_the_largest_may_be_anywhere_and_infinite(groups):
    for place in range(groups.n):
        for value in (1.0, np.inf):
            values = np.full(groups.n, -np.inf)
            values[place] = value
            groups.fill(values)
            assert groups.run(MAX, size=1)[0] == value


@with_dtypes
def test_factors_bring_roots_down_to_the_limit(groups, rng):
    squares = rng.random(groups.n).astype(groups.number) * 8
    squares[:4] = 0, 4, np.inf, np.nan
    groups.fill(squares)
    root = np.sqrt(squares)
    expected = np.where(root > 2, 2 / np.maximum(root, groups.number(1)), groups.number(1))
    expected[2] = np.nan  # the squares overflowed
    np.testing.assert_array_equal(groups.run(FACTORS, factor=2), expected)
    assert (groups.run(FACTORS, factor=np.inf) == 1).all()


@with_dtypes
def test_squares_and_magnitudes_of_columns_are_summed_in_float64(dtype, rng):
    cell = CELL_BYTES // np.dtype(dtype).itemsize
    for n in (0, 1, 2, 7):
        step = cell + 3
        c = np.full(2 + n * step + cell, np.nan, dtype)
        values = rng.integers(-4000, 4001, (n, cell)).astype(dtype)
        for k in range(n):
            c[2 + k * step :][:cell] = values[k]
        for squares, power in ((True, 2), (False, 1)):
            out = np.full(1 + cell + 1, np.nan)
            sum_cells(c, 2, n, step, squares, out)
            right = (np.abs(values.astype("float64")) ** power).sum(axis=0)
            np.testing.assert_array_equal(out[1:-1], right)
            assert out[0] == right.sum()
            assert np.isnan(out[-1])


@with_dtypes
def test_sums_of_columns_keep_the_digits_of_float64_and_nan(dtype):
    cell = CELL_BYTES // np.dtype(dtype).itemsize
    out = np.full(1 + cell, np.nan)
    values = np.full(2**16 * cell, 4097, dtype)
    sum_cells(values, 0, 2**16, cell, True, out)
    assert (out[1:] == 2**16 * 4097.0**2).all()
    sum_cells(np.full(cell, 1e30, dtype), 0, 1, cell, True, out)
    assert (out[1:] > 9e59).all()
    values[1] = np.nan
    for squares in (True, False):
        sum_cells(values, 0, 3, cell, squares, out)
        np.testing.assert_array_equal(np.isnan(out), np.isin(np.arange(1 + cell), [0, 2]))
