"""Panels: how matrices lie in memory while a net is trained.

A matrix (B, n) is stored as its columns in groups of `TILE_VECTORS` vectors. Each group, a *panel*,
is row-major with nothing between its rows; the last one is narrower. Columns beyond n, up to whole
vectors, are padding, which holds zeros. `distance` is that from one panel to the next.

    element (r, c) is at   start + (c // panel) * distance + r * panel_width + c % panel

Kernels that serve ordinary row-major arrays too take the length of a panel as an argument: such an
array is a single panel that is n wide, without padding.
"""

from typing import NamedTuple

import numpy as np

from fastnn.kernels.tile import (
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
from fastnn.runtime.jit import inner, pasted

_LINE_BYTES = 64


@inner
def round_up(n, multiple):
    """Smallest multiple of `multiple` that is not below n."""
    return (n + multiple - 1) // multiple * multiple


@inner
def panel_columns(like):
    """Columns of a full panel in an array of the dtype of `like`."""
    return TILE_VECTORS * lanes_of(like)


@inner
def panel_width(n, j, like, panel):
    """Columns, with padding, of the panel that begins at column j of n."""
    return min(round_up(n - j, max(lanes_of(like), TILE_ROWS, cell_of(like))), panel)


class Panels(NamedTuple):
    """A matrix in panels: n columns, whose first panel begins at data[at]."""

    data: np.ndarray
    at: int
    distance: int
    n: int


@inner
def place(m, r, j):
    """Place of row r in the panel that begins at column j."""
    panel = panel_columns(m.data)
    return m.at + j // panel * m.distance + r * panel_width(m.n, j, m.data, panel)


@inner
def _place_of_cell(m, r, c):
    """Place of row r in the cell that begins at column c."""
    panel = panel_columns(m.data)
    return place(m, r, c // panel * panel) + c % panel


@inner
def _places_of_cells(m, r, c):
    """Places of both cells of a group in row r; the lower for both where the panels end with it."""
    last = (m.n - 1) // panel_columns(m.data) * panel_columns(m.data)
    end = last + panel_width(m.n, last, m.data, panel_columns(m.data))
    low, second = _place_of_cell(m, r, c), c + cell_of(m.data)
    return low, _place_of_cell(m, r, second) if second < end else low


@inner
def load_group(m, r, c):
    """Return the group of columns of row r that begins at column c, with what is behind them."""
    low, high = _places_of_cells(m, r, c)
    return load_halves(zero_group(m.data), m.data, low, high)


@inner
def store_group(m, r, c, group):
    """Overwrite the group of columns of row r that begins at column c, and padding behind it."""
    low, high = _places_of_cells(m, r, c)
    store_halves(group, m.data, low, high)


@inner
def sum_of_row(m, r):
    """Return the sum of a row, in the order of a group's partial sums."""
    if m.n == 1:
        return m.data[place(m, r, 0)]
    total, zero = zero_group(m.data), m.data.dtype.type(0)
    for c in range(0, m.n, 2 * cell_of(m.data)):
        total = add(total, fill_after(load_group(m, r, c), m.n - c, zero))
    return row_sum(total)


@inner
def prefetch_lines(n, array, o):
    """Fetch n elements from o on for later, line by line of the cache."""
    for c in range(0, n, _LINE_BYTES // array.itemsize):
        prefetch(array, o + c)


@inner
def copy(n, source, so, target, to):
    """Overwrite n elements of target from `to` on with those of source from `so` on."""
    a, b = source[so : so + n], target[to : to + n]
    for i in range(n):
        b[i] = a[i]


@pasted
def copy_to_panels(n, x, xo, r, acts, at, distance):
    """Overwrite row r of a matrix in panels with the n numbers at x[xo]."""
    panel = panel_columns(acts)
    for j in range(0, n, panel):
        start = at + j // panel * distance + r * panel_width(n, j, acts, panel)
        if n - j >= panel:
            store(load(zeros(x, 1, TILE_VECTORS), x, xo + j, 0), acts, start, 0)
        else:
            copy(n - j, x, xo + j, acts, start)


@inner
def copy_rows(row, n_rows, n, source, so, target, to, distance):
    """Overwrite rows of a matrix in panels with those of another one."""
    panel = panel_columns(source)
    for j in range(0, n, panel):
        width = panel_width(n, j, source, panel)
        at = j // panel * distance + row * width
        copy(n_rows * width, source, so + at, target, to + at)


@inner
def add_rows(row, n_rows, n, source, so, target, to, distance):
    """Add rows of a matrix in panels to those of another one."""
    panel = panel_columns(source)
    for j in range(0, n, panel):
        width = panel_width(n, j, source, panel)
        at, size = j // panel * distance + row * width, n_rows * width
        a, b = source[so + at : so + at + size], target[to + at : to + at + size]
        for i in range(size):
            b[i] += a[i]


@inner
def copy_transposed(n_in, n_out, i, n_i, j, width, params, o, transposed, wt):
    """Write the block of weights at o, rows from i and columns from j, into the panels of w.T."""
    lanes, panel = lanes_of(params), panel_columns(params)
    columns = min(width, n_out - j)
    for t in range(i, i + n_i, TILE_ROWS):
        p = t // panel
        wt_width = panel_width(n_in, p * panel, params, panel)
        source = o + (t - i) * width
        target = wt + p * panel * n_out + j * wt_width + t - p * panel
        whole = columns // lanes * lanes
        for c in range(0, whole, lanes):
            tile = load(zeros(params, TILE_ROWS, 1), params, source + c, width)
            store_transposed(tile, transposed, target + c * wt_width, wt_width)
        for c in range(whole, columns):
            for r in range(TILE_ROWS):
                transposed[target + c * wt_width + r] = params[source + r * width + c]
