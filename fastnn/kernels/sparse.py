"""The first affine layer for sparse samples: rows that name their nonzero columns (CSR).

    data (nnz,), indices (nnz,) int32, indptr (N + 1,) int64

hold row r in [indptr[r], indptr[r + 1]), its columns ascending and each named once. No row is made
dense: the forward pass adds the rows of w that a sample names, and the gradient of a row of w sums
over the samples that name it. For that, the entries of a batch are sorted by column first.

Both sums are the chains of `fastnn.kernels.products` without the terms that are zero, so a sparse
matrix gives the same bits as the dense one.
"""

import functools
from typing import NamedTuple

import numpy as np

from fastnn.kernels.memory import vector_at
from fastnn.kernels.operation import sample_of, work_at
from fastnn.kernels.panels import panel_columns, panel_width, place
from fastnn.kernels.products import NO_BIAS, RECTIFY
from fastnn.kernels.tile import by_width, columns_of, lanes_of, load_row, rank1, relu, store
from fastnn.runtime.jit import compile_at_address, inner


class Entries(NamedTuple):
    """Entries [low, high) of a sparse table: a row of samples, or a column of a batch."""

    low: int
    high: int
    values: np.ndarray
    places: np.ndarray  # the column of each, or the row


@inner
def _sum_of_rows(tile, entries, w, at):
    """tile += sum over the entries of value * the row of w that they name, from the place `at`."""
    width = columns_of(tile)
    for e in range(entries.low, entries.high):
        tile = rank1(tile, entries.values, e, 0, w.data, at + entries.places[e] * width)
    return tile


@inner
def _row_tile(tile, r, j, entries, p):
    """Columns from j on of row r of a product."""
    if p.b_at != NO_BIAS:
        tile = load_row(tile, p.b, p.b_at + j)
    tile = _sum_of_rows(tile, entries, p.w, place(p.w, 0, j))
    if p.finish == RECTIFY:
        tile = relu(tile)
    store(tile, p.out.data, place(p.out, r, j), 0)


_any_row_tile = by_width(_row_tile, 1)


@inner
def multiply_sparse_row(r, entries, p):
    """Overwrite row r of a product's result for a sample with some entries; p.x is not read."""
    out = p.out
    for j in range(0, out.n, panel_columns(out.data.itemsize)):
        vectors = panel_width(out.n, j, out.data.itemsize) // lanes_of(out.data)
        _any_row_tile(vectors, out.data, r, j, entries, p)


@inner
def _sort_by_column(thread, n_threads, work, data):
    """Sort the entries of a batch by column, then by row: a member's share of the columns.

    On return, the entries of column c lie from column_end[c - 1] (0 for the first) to column_end[c]
    in entry_row and entry_value.
    """
    n_columns = work.n_inputs
    first, last = n_columns * thread // n_threads, n_columns * (thread + 1) // n_threads
    indices, indptr = vector_at(work.indices, np.int32), vector_at(work.indptr, np.int64)
    order, column_end = vector_at(work.order, np.int64), vector_at(work.column_end, np.int64)
    entry_row = vector_at(work.entry_row, np.int32)
    entry_value = vector_at(work.entry_value, data.dtype.type)
    for c in range(first, last):
        column_end[c] = 0
    to = 0
    for r in range(work.n_rows):
        sample = sample_of(work, order, r)
        for e in range(indptr[sample], indptr[sample + 1]):
            c = indices[e]
            if c < first:
                to += 1
            elif c < last:
                column_end[c] += 1
    for c in range(first, last):  # from numbers of entries to where they begin
        count = column_end[c]
        column_end[c] = to
        to += count
    for r in range(work.n_rows):
        sample = sample_of(work, order, r)
        for e in range(indptr[sample], indptr[sample + 1]):
            c = indices[e]
            if first <= c < last:
                entry_row[column_end[c]] = r
                entry_value[column_end[c]] = data[e]
                column_end[c] += 1


@functools.cache
def sort_kernel(dtype):
    """Return the address of (thread, n_threads, work), which sorts a member's share of a batch."""
    number = dtype.type

    def sort_by_column(thread, n_threads, work):
        work = work_at(work)
        _sort_by_column(thread, n_threads, work, vector_at(work.x, number))

    return compile_at_address(sort_by_column, 3)


@inner
def _gradient_tile(tile, entries, dout, j, dw, o):
    store(_sum_of_rows(tile, entries, dout, place(dout, 0, j)), dw, o, 0)


_any_gradient_tile = by_width(_gradient_tile, 1)


@inner
def backward_weight_block_sparse(entries_of, dout, task, n_in, dw):
    """Overwrite dw with a block of x.T @ dout, as `backward_weight_block`, for a sorted batch.

    `entries_of` is (column_end, entry_value, entry_row).
    """
    column_end, values, rows = entries_of
    width = panel_width(dout.n, task.j, dw.itemsize)
    for t in range(task.n_i):
        low, high, i = 0, 0, task.i + t
        if i < n_in:
            low, high = column_end[i - 1] if i > 0 else 0, column_end[i]
        entries = Entries(low, high, values, rows)
        _any_gradient_tile(width // lanes_of(dw), dw, entries, dout, task.j, dw, t * width)
