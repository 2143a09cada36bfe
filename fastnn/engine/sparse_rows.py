"""Sparse samples: SciPy's matrices as kernels take them."""

import sys

import numpy as np

from fastnn.validation import check_finite, check_inputs, kernel_array


def is_sparse(x):
    """Return whether x is a sparse matrix or array of SciPy."""
    module = sys.modules.get("scipy.sparse")  # without it there can be none
    return module is not None and module.issparse(x)


class SparseRows:
    """A table of samples that names the nonzero columns of each row.

    Attributes
    ----------
    data : ndarray (nnz,)
        Values, row by row, by ascending column in each row.
    indices : ndarray (nnz,) of int32
        Their columns.
    indptr : ndarray (N + 1,) of int64
        Where each row begins in both.
    shape : tuple of int
        (N, I).
    """

    def __init__(self, data, indices, indptr, shape):
        self.data, self.indices, self.indptr, self.shape = data, indices, indptr, shape

    def __len__(self):
        return self.shape[0]

    def most_entries(self, n_rows):
        """Return how many entries `n_rows` rows have at most."""
        entries = np.diff(self.indptr)
        if n_rows >= len(entries):
            return int(entries.sum())
        return int(np.partition(entries, -n_rows)[-n_rows:].sum())


def check_samples(X, dtype, n_inputs, takes_sparse=True, name="X", finite=True):
    """Return samples as kernels take them: an array, or `SparseRows`.

    Parameters
    ----------
    X : array_like, scipy.sparse matrix or SparseRows (N, I)
    dtype : numpy.dtype
    n_inputs : int
        I.
    takes_sparse : bool, default=True
        Whether a sparse matrix will do.
    name : str, default="X"
        What to call it in errors.
    finite : bool, default=True
        Whether all values must be finite.

    Raises
    ------
    ValueError
        If they do not suit.
    """
    if isinstance(X, SparseRows):  # checked already
        return X
    if not is_sparse(X):
        return check_inputs(X, dtype, n_inputs, name, finite)
    if not takes_sparse:
        raise ValueError(f"{name} must be dense for a net that does not begin with an affine layer")
    return check_sparse(X, dtype, n_inputs, name, finite)


def check_sparse(x, dtype, n_inputs, name="X", finite=True):
    """Return a sparse matrix (N, I) as `SparseRows`, without a copy where it is CSR of that dtype.

    Raises
    ------
    ValueError
        If it is not numeric, has not `n_inputs` columns or, where asked, is not finite.
    """
    if x.dtype.kind not in "biuf":
        raise ValueError(f"{name} must be numeric, got dtype {x.dtype}")
    if x.ndim != 2 or x.shape[1] != n_inputs:
        raise ValueError(f"{name} must have {n_inputs} columns, got shape {x.shape}")
    if n_inputs > np.iinfo(np.int32).max:
        raise ValueError(f"{name} must have fewer than 2**31 columns, got {n_inputs}")
    rows = x.tocsr()
    # Kernels and SciPy trust these: a matrix may have been put together by hand.
    indices, indptr = rows.indices, rows.indptr
    if (
        len(indptr) != x.shape[0] + 1
        or indptr[0] != 0
        or (np.diff(indptr) < 0).any()
        or indptr[-1] > min(len(rows.data), len(indices))
        or (len(indices) and not 0 <= indices.min() <= indices.max() < n_inputs)
    ):
        raise ValueError(f"{name} must be a consistent sparse matrix, got indices out of range")
    if not rows.has_canonical_format:  # ascending, each column once
        rows = rows.copy()
        rows.sum_duplicates()
    data = kernel_array(rows.data, dtype)
    if finite:
        check_finite(f"{name}.data", data)
    indices, indptr = kernel_array(rows.indices, np.int32), kernel_array(rows.indptr, np.int64)
    return SparseRows(data, indices, indptr, x.shape)
