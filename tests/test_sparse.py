"""Sparse samples: the bits of dense ones, and never as much memory."""

import tracemalloc

import numpy as np
import pytest
from scipy import sparse

from fastnn import Affine, Identity, ReLU, Sequential, Tanh
from fastnn.engine.sparse_rows import check_sparse, is_sparse
from fastnn.kernels.panels import padded_width
from fastnn.kernels.tile import CELL_BYTES
from fastnn.runtime.cpu import VECTOR_BYTES
from fastnn.training import Trainer

WIDTHS = [1, 3, 8, 25, 70]  # of the first layer: parts of a panel, and several
with_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


def samples(n, n_columns, dtype="float64", share=0.2, seed=0):
    rng = np.random.default_rng(seed)
    X = np.where(rng.random((n, n_columns)) < share, rng.normal(size=(n, n_columns)), 0)
    X[n // 2] = 0  # a row that names no column
    X[:, n_columns // 3] = 0  # a column that no row names
    return X.astype(dtype)


def net_for(n_columns, width, dtype, activation=ReLU, bias=True):
    layers = [Affine(n_columns, width, bias=bias), activation(), Affine(width, 3)]
    return Sequential(layers, seed=0, dtype=dtype)


@pytest.mark.parametrize("width", WIDTHS)
@with_dtypes
def test_training_and_prediction_give_the_bits_of_dense_samples(dtype, width):
    X, y = samples(67, 41, dtype), np.arange(67) % 3
    nets = [net_for(41, width, dtype, Tanh if width % 2 else ReLU, width != 8) for _ in range(3)]
    for net, table, n_threads in [(nets[0], X, 1), (nets[1], sparse.csr_array(X), 1),
                                  (nets[2], sparse.csr_array(X), 2)]:  # fmt: skip
        trainer = Trainer(net, "softmax_cross_entropy", "adam", 16, alpha=0.01, n_threads=n_threads)
        trainer.use_all_threads = True
        trainer.set_data(table, y)
        losses = [trainer.run_epoch(np.random.default_rng(e).permutation(67)) for e in range(3)]
        trainer.sync()
        net.losses = losses
    for net in nets[1:]:
        assert net.losses == nets[0].losses
        np.testing.assert_array_equal(net.params, nets[0].params)
    for n in (0, 1, 3, 4, 66):
        out = nets[0].predict(X[:n])
        for n_threads in (1, 2):
            table = sparse.csc_array(X[:n])
            np.testing.assert_array_equal(nets[0].predict(table, n_threads=n_threads), out)
    np.testing.assert_array_equal(nets[0].freeze().predict(sparse.csr_array(X)), nets[0].predict(X))


def test_fit_validates_on_sparse_samples_too():
    X, y = samples(80, 30), np.arange(80) % 3
    nets = [net_for(30, 9, "float64") for _ in range(2)]
    rows = slice(60, None)
    dense = nets[0].fit(X[:60], y[:60], epochs=2, validation_data=(X[rows], y[rows]))
    table = sparse.csr_array(X)
    named = nets[1].fit(table[:60], y[:60], epochs=2, validation_data=(table[rows], y[rows]))
    for figure in ("loss", "val_loss", "val_accuracy"):
        assert dense[figure] == named[figure]
    assert nets[1].loss(table, y) == nets[0].loss(X, y)


def test_a_large_sparse_table_needs_no_dense_memory():
    n, n_columns = 2000, 20_000
    rng = np.random.default_rng(0)
    columns = rng.integers(0, n_columns, (n, 20))
    table = sparse.csr_array(
        (rng.random(columns.size), (np.repeat(np.arange(n), 20), columns.ravel())), (n, n_columns)
    )
    net = net_for(n_columns, 4, "float32")
    y = np.arange(n) % 3
    net.fit(table[:100], y[:100], epochs=1)  # compiles
    net.predict(table[:100])
    tracemalloc.start()
    net.fit(table, y, epochs=1, batch_size=100)
    net.predict(table)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    dense = n * n_columns * 4
    # Training has the parameters, those before the epoch, and two states; prediction has them too.
    packed = net.layout.n_packed * net.dtype.itemsize
    assert most < 5 * packed + 4 * table.data.nbytes < dense / 10
    # Packed weights have as many columns as whole vectors, or a cell, have numbers.
    columns = padded_width(4, net.dtype.itemsize)
    assert packed < 1.01 * n_columns * columns * net.dtype.itemsize
    assert columns * net.dtype.itemsize <= max(VECTOR_BYTES, CELL_BYTES)


def test_entries_may_come_in_any_order_and_more_than_once():
    table = sparse.csr_array((np.array([1.0, 2, 3, 4]), [2, 0, 2, 1], [0, 3, 4]), shape=(2, 3))
    rows = check_sparse(table, np.dtype("float64"), 3)
    np.testing.assert_array_equal(rows.data, [2, 4, 4])
    np.testing.assert_array_equal(rows.indices, [0, 2, 1])
    np.testing.assert_array_equal(rows.indptr, [0, 2, 3])
    np.testing.assert_array_equal(table.data, [1, 2, 3, 4])  # the user's is not changed
    assert len(rows) == 2
    assert [rows.most_entries(k) for k in (1, 2, 5)] == [2, 3, 3]


def test_a_matrix_of_the_right_kind_is_not_copied():
    table = sparse.csr_array(samples(9, 5))
    rows = check_sparse(table, np.dtype("float64"), 5)
    assert np.shares_memory(rows.data, table.data)
    assert np.shares_memory(rows.indices, table.indices)


def broken(what):
    table = sparse.csr_array(np.eye(3))
    if what == "column":
        table.indices[1] = 7
    elif what == "negative":
        table.indices[1] = -1
    elif what == "rows":
        table.indptr[1] = 9
    elif what == "nan":
        table.data[1] = np.nan
    return table


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (sparse.csr_array((3, 4)), "X must have 3 columns, got shape"),
        (sparse.csr_array(np.eye(3) + 1j), "X must be numeric, got dtype complex128"),
        (broken("column"), "consistent sparse matrix"),
        (broken("negative"), "consistent sparse matrix"),
        (broken("rows"), "consistent sparse matrix"),
        (broken("nan"), r"X\.data must be finite, got nan at X\.data\[1\]"),
    ],
)
def test_what_kernels_could_not_trust_is_refused(table, message):
    net = Sequential([Affine(3, 2)], dtype="float64")
    with pytest.raises(ValueError, match=message):
        net.fit(table, [0, 1, 1])


def test_a_net_that_begins_with_an_activation_takes_dense_samples_only():
    net = Sequential([Identity(), Affine(3, 2)])
    with pytest.raises(ValueError, match="X must be dense for a net that does not begin with an"):
        net.predict(sparse.csr_array(np.eye(3)))


def test_only_matrices_of_scipy_are_sparse():
    assert is_sparse(sparse.csr_matrix((1, 1)))
    assert not is_sparse(np.eye(2))
    assert not is_sparse([[0]])
