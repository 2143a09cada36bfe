"""How matrices lie in panels: kernels, Python and tests agree. And what goes over their rows."""

import numpy as np

from fastnn.kernels import panels
from fastnn.kernels.tile import (
    GROUP_BYTES,
    TILE_ROWS,
    TILE_VECTORS,
    fill_after,
    row_sum,
    scale_and_shift,
)
from fastnn.runtime.jit import kernel
from tests.kernels.dtypes import each_dtype
from tests.panel_layout import Panels, cell, lanes, whole

SIZES = [1, 2, 3, 4, 5, 7, 8, 9, 11, 12, 13, 15, 16, 17, 23, 24, 25, 31, 32, 33, 47, 48, 49, 97]
MANY = [*SIZES, 1009]

with_dtypes = each_dtype("panels")


@kernel
def sizes_in_a_kernel(n, j, itemsize, multiple):
    return (
        panels.round_up(n, multiple),
        panels.panel_columns(itemsize),
        panels.panel_width(n, j, itemsize),
        panels.padded_width(n, itemsize),
        panels.weight_distance(n, itemsize),
    )


@kernel
def find(m, r, c):
    return panels.place(m, r, c), panels.place_of(m, r, c)


@kernel
def write_sums(m, out):
    for r in range(out.size):
        out[r] = panels.sum_of_row(panels.row_of(m, r))


@kernel
def sum_vector(data, at, n):
    return panels.sum_of_row(panels.vector_row(data, at, n))


@kernel
def negate_groups(source, target, r):
    """Overwrite row r of target, group by group, with minus that of source; return its sums."""
    row, to = panels.row_of(source, r), panels.row_of(target, r)
    number, total = source.data.dtype.type, 0.0
    group = GROUP_BYTES // source.data.itemsize
    for c in range(0, row.n, group):
        values = fill_after(panels.load_group(row, c), row.n - c, number(0))
        total += row_sum(values)
        panels.store_group(to, c, scale_and_shift(values, number(-1), number(0)))
    return total


@kernel
def copy(n, source, so, target, to):
    panels.copy(n, source, so, target, to)


@kernel
def copy_to_row(x, xo, m, r):
    panels.copy_to_row(x, xo, m, r)


@kernel
def copy_from_row(m, r, out, o):
    panels.copy_from_row(m, r, out, o)


@kernel
def copy_rows(source, target, row, n_rows):
    panels.copy_rows(source, target, row, n_rows)


@kernel
def add_rows(source, target, row, n_rows):
    panels.add_rows(source, target, row, n_rows)


@kernel
def copy_transposed(w, transposed, i, n_i, j):
    panels.copy_transposed(w, transposed, i, n_i, j)


@kernel
def prefetch_lines(n, array, o):
    panels.prefetch_lines(n, array, o)


def numbered(shape, dtype):
    """Return a matrix whose elements are all different."""
    return np.arange(1, shape[0] * shape[1] + 1, dtype=dtype).reshape(shape)


# --- sizes ----------------------------------------------------------------------------------------


def test_sizes_are_rounded_up_to_the_next_multiple():
    for multiple in (1, 2, 4, 7, 16):
        for n in (0, *MANY):
            assert panels.round_up(n, multiple) == whole(n, multiple)


@with_dtypes
def test_a_panel_is_as_wide_as_a_tile_and_holds_whole_tiles_of_rows(dtype):
    panel = panels.panel_columns(np.dtype(dtype).itemsize)
    assert panel == TILE_VECTORS * lanes(dtype)
    assert panel % TILE_ROWS == 0
    assert panel % cell(dtype) == 0


@with_dtypes
def test_the_last_panel_is_as_narrow_as_whole_vectors_tiles_and_cells_allow(dtype):
    itemsize = np.dtype(dtype).itemsize
    panel = panels.panel_columns(itemsize)
    for n in MANY:
        layout = Panels((1, n), dtype)
        for j in range(0, n, panel):
            actual = panels.panel_width(n, j, itemsize)
            assert actual == layout.width(j)
            assert n - j <= actual or actual == panel
            for multiple in (lanes(dtype), TILE_ROWS, cell(dtype)):
                assert actual % multiple == 0
            assert actual // lanes(dtype) in range(1, TILE_VECTORS + 1)
        assert panels.padded_width(n, itemsize) == j + actual
    assert panels.padded_width(0, itemsize) == 0


@with_dtypes
def test_panels_of_weights_hold_whole_tiles_of_rows(dtype):
    itemsize = np.dtype(dtype).itemsize
    for n in (0, *MANY):
        rows = whole(n, TILE_ROWS)
        assert panels.weight_distance(n, itemsize) == rows * panels.panel_columns(itemsize)


@with_dtypes
def test_sizes_are_the_same_in_a_kernel(dtype):
    itemsize = np.dtype(dtype).itemsize
    panel = panels.panel_columns(itemsize)
    for n in MANY:
        for j in range(0, n, panel):
            assert sizes_in_a_kernel(n, j, itemsize, 7) == (
                panels.round_up(n, 7), panel, panels.panel_width(n, j, itemsize),
                panels.padded_width(n, itemsize), panels.weight_distance(n, itemsize),
            )  # fmt: skip


# --- places ---------------------------------------------------------------------------------------


@with_dtypes
def test_elements_lie_where_the_formula_says(dtype):
    for n in (1, 7, 97):
        matrix = numbered((5, n), dtype)
        laid = Panels.of(matrix)
        m, panel = laid.argument(), laid.panel
        for (r, c), value in np.ndenumerate(matrix):
            j = c // panel * panel
            at = laid.offset + c // panel * laid.distance + r * laid.width(j) + c % panel
            assert laid.flat[at] == value
            assert find(m, r, j)[0] == at - c % panel
            assert find(m, r, c)[1] == at


@with_dtypes
def test_groups_of_a_row_are_read_and_written_wherever_their_cells_lie(dtype):
    # At some widths a group lies in two panels, and the last one may have no second cell.
    for n in SIZES:
        matrix = numbered((3, n), dtype)
        source, target = Panels.of(matrix, padding=np.nan), Panels((3, n), dtype, gap=7)
        before = source.flat.copy()
        total = negate_groups(source.argument(), target.argument(), 1)
        assert total == matrix[1].sum()
        np.testing.assert_array_equal(target.take(1, 1), -matrix[1:2])
        np.testing.assert_array_equal(source.flat, before)


def sum_in_groups(values):
    """Add the columns of a group over all groups, then the upper half to the lower, and again."""
    n = GROUP_BYTES // values.itemsize
    total = np.zeros(n, values.dtype)
    for c in range(0, values.size, n):
        part = np.zeros(n, values.dtype)
        part[: values.size - c] = values[c : c + n]
        total += part
    while total.size > 1:
        total = total[: total.size // 2] + total[total.size // 2 :]
    return total[0]


@with_dtypes
def test_a_row_is_summed_in_an_order_that_knows_no_width_of_vectors(dtype, rng):
    for n in MANY:
        matrix = rng.normal(size=(3, n)).astype(dtype)
        laid, out = Panels.of(matrix, padding=np.nan), np.full(3, np.nan, dtype)
        write_sums(laid.argument(), out)
        np.testing.assert_array_equal(out, [sum_in_groups(row) for row in matrix])


@with_dtypes
def test_a_vector_of_parameters_is_a_row(dtype, rng):
    for n in MANY:
        values = rng.normal(size=n).astype(dtype)
        padding = np.full(panels.padded_width(n, values.itemsize) - n, np.nan, dtype)
        data = np.concatenate([np.full(5, np.nan, dtype), values, padding])
        assert sum_vector(data, 5, n) == sum_in_groups(values)


@with_dtypes
def test_nan_and_infinity_reach_the_sum_of_their_row_and_no_other(dtype):
    for n in (1, 7, 97):
        for place in (0, n - 1):
            matrix = np.ones((3, n), dtype)
            matrix[1, place], matrix[2, place] = np.nan, -np.inf
            out = np.zeros(3, dtype)
            write_sums(Panels.of(matrix).argument(), out)
            np.testing.assert_array_equal(out, [n, np.nan, -np.inf])


# --- copies ---------------------------------------------------------------------------------------


@with_dtypes
def test_elements_are_copied_from_one_place_to_another(dtype):
    for n in (0, 1, 17, 31):
        source, target = np.arange(40, dtype=dtype), np.full(40, np.nan, dtype)
        copy(n, source, 3, target, 5)
        np.testing.assert_array_equal(target[5 : 5 + n], np.arange(3, 3 + n))
        assert np.isnan(np.delete(target, range(5, 5 + n))).all()
        np.testing.assert_array_equal(source, np.arange(40))


@with_dtypes
def test_a_row_goes_into_panels_and_comes_out_again(dtype):
    for n in MANY:
        x = numbered((3, n), dtype)
        laid = Panels((4, n), dtype)
        copy_to_row(x.ravel(), n, laid.argument(), 2)
        # The padding is not written: it is zero from the beginning.
        for j, columns, rows in laid.parts():
            np.testing.assert_array_equal(rows[2, :columns], x[1, j : j + columns])
            assert np.isnan(rows[2, columns:]).all()
            rows[2, columns:] = 0
        np.testing.assert_array_equal(laid.take(2, 1), x[1:2])
        out = np.full(n + 9, np.nan, dtype)
        copy_from_row(laid.argument(), 2, out, 4)
        np.testing.assert_array_equal(out[4:-5], x[1])
        assert np.isnan(np.delete(out, range(4, 4 + n))).all()


@with_dtypes
def test_rows_are_copied_and_added_with_their_padding(dtype):
    for n in SIZES:
        for row, n_rows in [(0, 5), (1, 3), (2, 0), (4, 1)]:
            matrix = numbered((5, n), dtype)
            source, target = Panels.of(matrix, offset=2), Panels((5, n), dtype, gap=11)
            before, rows = source.flat.copy(), slice(row, row + n_rows)
            copy_rows(source.argument(), target.argument(), row, n_rows)
            np.testing.assert_array_equal(target.take(row, n_rows), matrix[rows])
            add_rows(source.argument(), target.argument(), row, n_rows)
            np.testing.assert_array_equal(target.take(row, n_rows), 2 * matrix[rows])
            np.testing.assert_array_equal(source.flat, before)


@with_dtypes
def test_blocks_of_a_matrix_are_copied_to_panels_of_the_transposed_one(dtype):
    for n_in, n_out in [(1, 1), (TILE_ROWS, 7), (TILE_ROWS + 1, 97), (31, 33), (97, 23)]:
        w = numbered((n_in, n_out), dtype)
        rows = whole(n_in, TILE_ROWS)
        source = Panels((rows, n_out), dtype, offset=2)
        source.fill(np.zeros((rows, n_out), dtype))
        source.fill(w)
        for n_i in (TILE_ROWS, 2 * TILE_ROWS, rows):
            transposed, before = Panels((n_out, n_in), dtype), source.flat.copy()
            for j in range(0, n_out, source.panel):
                for i in range(0, rows, n_i):
                    size = min(n_i, rows - i)
                    copy_transposed(source.argument(), transposed.argument(), i, size, j)
            clear_behind_tiles(transposed, rows)
            np.testing.assert_array_equal(transposed.take(), w.T)
            np.testing.assert_array_equal(source.flat, before)


def clear_behind_tiles(transposed, rows):
    """Check that the padding behind `rows` columns, whole tiles, is left alone; set it to zero."""
    for j, _, part in transposed.parts():
        if rows - j < part.shape[1]:
            assert np.isnan(part[:, rows - j :]).all()
            part[:, rows - j :] = 0


@with_dtypes
def test_any_lines_may_be_prefetched(dtype):
    for array in (np.arange(9, dtype=dtype), np.empty(0, dtype)):
        before = array.copy()
        for n, offset in [(0, 0), (9, 0), (1000, 5), (100, 10**6), (100, -(10**6))]:
            prefetch_lines(n, array, offset)
        np.testing.assert_array_equal(array, before)
