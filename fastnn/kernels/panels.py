"""Panels: how matrices lie in memory while a net is trained.

A matrix (B, n) is stored as its columns in groups of `TILE_VECTORS` vectors. Each group, a *panel*,
is row-major with nothing between its rows; the last one is narrower. Columns beyond n, up to whole
vectors, are padding, which holds zeros. `distance` is that from one panel to the next.

    element (r, c) is at   at + (c // panel) * distance + r * panel_width + c % panel

Sizes are functions that Python calls too: where a plan puts a matrix, and where a kernel finds it,
follow from the same lines.
"""

from typing import NamedTuple

import numpy as np

from fastnn.kernels.memory import CACHE_LINE
from fastnn.kernels.tile import (
    CELL_BYTES,
    GROUP_BYTES,
    TILE_ROWS,
    TILE_VECTORS,
    add,
    cell_of,
    fill_after,
    lanes_of,
    load,
    load_halves,
    prefetch,
    row_sum,
    store,
    store_halves,
    store_transposed,
    zero_group,
    zeros,
)
from fastnn.runtime.cpu import VECTOR_BYTES
from fastnn.runtime.jit import inner, shared

# Sizes. `itemsize` is that of an element: 4 or 8 bytes.


@shared
def round_up(n, multiple):
    """Return the smallest multiple of `multiple` that is not below n."""
    return (n + multiple - 1) // multiple * multiple


@shared
def panel_columns(itemsize):
    """Return how many columns a full panel has."""
    return TILE_VECTORS * VECTOR_BYTES // itemsize


@shared
def panel_width(n, j, itemsize):
    """Return how many columns, with padding, the panel has that begins at column j of n."""
    unit = max(VECTOR_BYTES // itemsize, TILE_ROWS, CELL_BYTES // itemsize)
    return min(round_up(n - j, unit), panel_columns(itemsize))


@shared
def padded_width(n, itemsize):
    """Return how many columns all panels of n columns have, with padding."""
    last = (n - 1) // panel_columns(itemsize) * panel_columns(itemsize)
    return last + panel_width(n, last, itemsize)


@shared
def weight_distance(n_rows, itemsize):
    """Return the distance of the panels of packed weights: rows fill whole tiles."""
    return panel_columns(itemsize) * round_up(n_rows, TILE_ROWS)


class Panels(NamedTuple):
    """A matrix in panels: n columns, whose first panel begins at data[at]."""

    data: np.ndarray
    at: int
    distance: int
    n: int


@inner
def place(m, r, j):
    """Return where row r lies in the panel that begins at column j."""
    itemsize = m.data.itemsize
    return m.at + j // panel_columns(itemsize) * m.distance + r * panel_width(m.n, j, itemsize)


@inner
def place_of(m, r, c):
    """Return where the element in row r and column c lies."""
    panel = panel_columns(m.data.itemsize)
    return place(m, r, c // panel * panel) + c % panel


# Groups: the columns of a row, GROUP_BYTES at a time (`fastnn.kernels.tile`).


class Row(NamedTuple):
    """A row of a matrix in panels: where its columns lie is quickly found, one after the other."""

    data: np.ndarray
    at: int  # of column 0
    step: int  # from the end of its part of one panel to the next part
    n: int
    last: int  # first column of the last panel
    last_at: int  # `last` less than its place
    end: int  # columns with padding


@inner
def row_of(m, r):
    """Return row r of a matrix."""
    itemsize = m.data.itemsize
    panel = panel_columns(itemsize)
    last = (m.n - 1) // panel * panel
    width = panel_width(m.n, last, itemsize)
    last_at = m.at + last // panel * m.distance + r * width - last
    return Row(m.data, m.at + r * panel, m.distance - panel, m.n, last, last_at, last + width)


@inner
def vector_row(data, at, n):
    """Return an ordinary vector of n parameters, with its padding, as a row."""
    return Row(data, at, np.int64(0), n, np.int64(0), at, padded_width(n, data.itemsize))


@inner
def _in_row(row, c):
    """Return where column c of a row lies."""
    if c >= row.last:
        return row.last_at + c
    return row.at + c // panel_columns(row.data.itemsize) * row.step + c


if VECTOR_BYTES == GROUP_BYTES:  # a panel consists of whole groups

    @inner
    def load_group(row, c):
        """Return the group of a row that begins at column c, with what is behind the last one."""
        return load(zero_group(row.data), row.data, _in_row(row, c), 0)

    @inner
    def store_group(row, c, group):
        """Overwrite the group of a row that begins at column c, and the padding behind it."""
        store(group, row.data, _in_row(row, c), 0)

else:

    @inner
    def _places_of_cells(row, c):
        """Return the places of both cells of a group; the lower for both where the row ends."""
        low, second = _in_row(row, c), c + cell_of(row.data)
        return low, _in_row(row, second) if second < row.end else low

    @inner
    def load_group(row, c):
        """Return the group of a row that begins at column c, with what is behind the last one."""
        low, high = _places_of_cells(row, c)
        return load_halves(zero_group(row.data), row.data, low, high)

    @inner
    def store_group(row, c, group):
        """Overwrite the group of a row that begins at column c, and the padding behind it."""
        low, high = _places_of_cells(row, c)
        store_halves(group, row.data, low, high)


@inner
def sum_of_row(row):
    """Return the sum of a row, in the order of a group's partial sums."""
    if row.n == 1:
        return row.data[row.last_at]
    zero, group = row.data.dtype.type(0), 2 * cell_of(row.data)
    total = zero_group(row.data)
    for c in range(0, row.n, group):
        total = add(total, fill_after(load_group(row, c), row.n - c, zero))
    return row_sum(total)


# Copies.


@inner
def prefetch_lines(n, array, o):
    """Fetch n elements from o on for later, line by line of the cache."""
    for c in range(0, n, CACHE_LINE // array.itemsize):
        prefetch(array, o + c)


@inner
def copy(n, source, so, target, to):
    """Overwrite n elements of target from `to` on with those of source from `so` on."""
    a, b = source[so : so + n], target[to : to + n]
    for i in range(n):
        b[i] = a[i]


@inner
def copy_to_row(x, xo, m, r):
    """Overwrite row r of a matrix in panels with the numbers of an ordinary row at x[xo]."""
    panel = panel_columns(m.data.itemsize)
    for j in range(0, m.n, panel):
        start = place(m, r, j)
        if m.n - j >= panel:
            store(load(zeros(x, 1, TILE_VECTORS), x, xo + j, 0), m.data, start, 0)
        else:
            copy(m.n - j, x, xo + j, m.data, start)


@inner
def copy_from_row(m, r, out, o):
    """Overwrite the numbers of an ordinary row at out[o] with row r of a matrix in panels."""
    panel = panel_columns(m.data.itemsize)
    for j in range(0, m.n, panel):
        copy(min(panel, m.n - j), m.data, place(m, r, j), out, o + j)


@inner
def copy_rows(source, target, row, n_rows):
    """Overwrite rows of a matrix in panels with those of another one."""
    for j in range(0, source.n, panel_columns(source.data.itemsize)):
        size = n_rows * panel_width(source.n, j, source.data.itemsize)
        copy(size, source.data, place(source, row, j), target.data, place(target, row, j))


@inner
def add_rows(source, target, row, n_rows):
    """Add rows of a matrix in panels to those of another one."""
    for j in range(0, source.n, panel_columns(source.data.itemsize)):
        size = n_rows * panel_width(source.n, j, source.data.itemsize)
        so, to = place(source, row, j), place(target, row, j)
        a, b = source.data[so : so + size], target.data[to : to + size]
        for i in range(size):
            b[i] += a[i]


@inner
def copy_transposed(w, transposed, i, n_i, j):
    """Overwrite panels of w.T with a block of w: rows from i on, in the panel of column j."""
    lanes, panel = lanes_of(w.data), panel_columns(w.data.itemsize)
    width = panel_width(w.n, j, w.data.itemsize)
    columns = min(width, w.n - j)
    whole = columns // lanes * lanes
    for t in range(i, i + n_i, TILE_ROWS):
        p = t // panel * panel
        step = panel_width(transposed.n, p, w.data.itemsize)
        source, target = place(w, t, j), place(transposed, j, p) + t - p
        for c in range(0, whole, lanes):
            tile = load(zeros(w.data, TILE_ROWS, 1), w.data, source + c, width)
            store_transposed(tile, transposed.data, target + c * step, step)
        for c in range(whole, columns):
            for r in range(TILE_ROWS):
                transposed.data[target + c * step + r] = w.data[source + r * width + c]
