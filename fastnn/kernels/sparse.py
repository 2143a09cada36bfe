"""The first affine layer for sparse samples: rows that name their nonzero columns (CSR).

    data (nnz,), indices (nnz,) int32, indptr (N + 1,) int64

hold row r in [indptr[r], indptr[r + 1]), its columns ascending and each named once. No row is made
dense: the way forward adds the rows of w that a sample names, and the gradient of a row of w sums
over the samples that name it. For that, the entries of a batch are sorted by column first.

Both sums are the chains of `fastnn.kernels.affine` without the terms that are zero, so a sparse
matrix gives the same bits as the dense one.
"""

from fastnn.kernels.affine import NO_BIAS, RECTIFY
from fastnn.kernels.panels import panel_columns, panel_width
from fastnn.kernels.tile import lanes_of, load_row, rank1, relu, store, zeros
from fastnn.runtime.jit import inner, pasted


@inner
def _sum_of_rows(tile, low, high, data, indices, width, w, wo):
    """tile += sum over entries e of data[e] * (the panel's row named indices[e])."""
    for e in range(low, high):
        tile = rank1(tile, data, e, 0, w, wo + indices[e] * width)
    return tile


@inner
def _row_tile(tile, low, high, data, indices, width, w, wo, b, bo, out, oo, finish):
    if bo != NO_BIAS:
        tile = load_row(tile, b, bo)
    tile = _sum_of_rows(tile, low, high, data, indices, width, w, wo)
    if finish == RECTIFY:
        tile = relu(tile)
    store(tile, out, oo, 0)


@inner
def multiply_sparse_row(
    r, low, high, data, indices, n_out, w, wo, w_panel, b, bo, out, oo, out_panel, finish
):
    """Overwrite row r of out with x @ w + b, for the sample x with entries [low, high).

    w, b and out lie in panels as `fastnn.kernels.affine.multiply_rows` says, which see.
    """
    lanes, panel = lanes_of(out), panel_columns(out)
    for j in range(0, n_out, panel):
        width = panel_width(n_out, j, out, panel)
        wj, bj = wo + j // panel * w_panel, bo if bo == NO_BIAS else bo + j
        oj = oo + j // panel * out_panel + r * width
        if width == 3 * lanes:
            tile = zeros(out, 1, 3)
            _row_tile(tile, low, high, data, indices, width, w, wj, b, bj, out, oj, finish)
        elif width == 2 * lanes:
            tile = zeros(out, 1, 2)
            _row_tile(tile, low, high, data, indices, width, w, wj, b, bj, out, oj, finish)
        else:
            for c in range(0, width, lanes):  # more than one vector where a tile's rows are more
                tile = zeros(out, 1, 1)
                bc = bj if bj == NO_BIAS else bj + c
                _row_tile(
                    tile, low, high, data, indices, width, w, wj + c, b, bc, out, oj + c, finish
                )


@pasted
def sort_by_column(
    thread, n_threads, n_columns, n_rows, start, order, data, indices, indptr,
    column_end, entry_row, entry_value,
):  # fmt: skip
    """Sort the entries of a batch by column, then by row: a member's share of the columns.

    Row r of the batch is sample order[start + r]. On return, the entries of column c lie from
    column_end[c - 1] (0 for the first) to column_end[c] in entry_row and entry_value.
    """
    first, last = n_columns * thread // n_threads, n_columns * (thread + 1) // n_threads
    for c in range(first, last):
        column_end[c] = 0
    place = 0
    for r in range(n_rows):
        sample = order[start + r]
        for e in range(indptr[sample], indptr[sample + 1]):
            c = indices[e]
            if c < first:
                place += 1
            elif c < last:
                column_end[c] += 1
    for c in range(first, last):  # from numbers of entries to where they begin
        count = column_end[c]
        column_end[c] = place
        place += count
    for r in range(n_rows):
        sample = order[start + r]
        for e in range(indptr[sample], indptr[sample + 1]):
            c = indices[e]
            if first <= c < last:
                entry_row[column_end[c]] = r
                entry_value[column_end[c]] = data[e]
                column_end[c] += 1


@pasted
def backward_weight_block_sparse(
    i, n_i, n_in, column_end, entry_row, entry_value, dout, do, width, dw, o
):
    """Overwrite rows [i, i + n_i) of a panel of dw with x.T @ dout, for a batch sorted by column.

    dout and dw are as `fastnn.kernels.affine.backward_weight_block` says.
    """
    lanes = lanes_of(dw)
    for t in range(n_i):
        low, high = 0, 0
        if i + t < n_in:
            low, high = column_end[i + t - 1] if i + t > 0 else 0, column_end[i + t]
        oi = o + t * width
        if width == 3 * lanes:
            tile = zeros(dw, 1, 3)
            tile = _sum_of_rows(tile, low, high, entry_value, entry_row, width, dout, do)
            store(tile, dw, oi, 0)
        elif width == 2 * lanes:
            tile = zeros(dw, 1, 2)
            tile = _sum_of_rows(tile, low, high, entry_value, entry_row, width, dout, do)
            store(tile, dw, oi, 0)
        else:
            for c in range(0, width, lanes):
                tile = zeros(dw, 1, 1)
                tile = _sum_of_rows(tile, low, high, entry_value, entry_row, width, dout, do + c)
                store(tile, dw, oi + c, 0)
