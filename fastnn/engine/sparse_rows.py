"""Sparse samples: sparse matrices of SciPy in the form that kernels take."""

import sys
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from fastnn.validation import Table, check_finite, check_inputs, kernel_array


def is_sparse(x: object) -> bool:
    """Return whether x is a sparse matrix or array of SciPy.

    Examples
    --------
    >>> from fastnn.engine.sparse_rows import is_sparse
    >>> is_sparse([[0.0, 1.0]])
    False
    """
    module = sys.modules.get("scipy.sparse")  # if it is not loaded, x cannot be of it
    return module is not None and module.issparse(x)


class SparseRows:
    """A table of samples that has only the nonzero elements of each row, in compressed rows (CSR).

    Parameters
    ----------
    data : ndarray of shape (nnz,)
        Values of the elements, row by row, by ascending column in each row.
    indices : ndarray of int32 of shape (nnz,)
        Columns of the elements.
    indptr : ndarray of int64 of shape (N + 1,)
        Bounds of the rows: the elements of row i are ``indptr[i]`` to ``indptr[i + 1] - 1``.
    shape : tuple of int
        (N, I).

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.engine.sparse_rows import SparseRows
    >>> indices, indptr = np.array([0, 2, 1], np.int32), np.array([0, 2, 3])
    >>> rows = SparseRows(np.ones(3), indices, indptr, (2, 4))
    >>> len(rows), rows.most_entries(1)
    (2, 2)
    """

    def __init__(
        self, data: np.ndarray, indices: np.ndarray, indptr: np.ndarray, shape: tuple[int, int]
    ) -> None:
        self.data, self.indices, self.indptr, self.shape = data, indices, indptr, shape

    def __len__(self) -> int:
        return self.shape[0]

    def most_entries(self, n_rows: int) -> int:
        """Return the largest number of elements that any `n_rows` of the rows have together."""
        entries = np.diff(self.indptr)
        if n_rows >= len(entries):
            return int(entries.sum())
        return int(np.partition(entries, -n_rows)[-n_rows:].sum())


def check_samples(
    X: Table | SparseRows,
    dtype: DTypeLike,
    n_inputs: int,
    takes_sparse: bool = True,
    name: str = "X",
    finite: bool = True,
) -> np.ndarray | SparseRows:
    """Return samples in the form that kernels take.

    Parameters
    ----------
    X : array-like, sparse matrix of SciPy or SparseRows, of shape (N, I)
        `SparseRows` are returned as they are.
    dtype : dtype-like
        Type of the result.
    n_inputs : int
        I.
    takes_sparse : bool, default=True
        Whether a sparse matrix is allowed.
    name : str, default="X"
        Name of the argument in errors.
    finite : bool, default=True
        Whether all values must be finite.

    Returns
    -------
    ndarray of shape (N, I), or SparseRows
        Without a copy if X has that form already.

    Raises
    ------
    ValueError
        If X is not numeric, has not I columns, is not finite though it must be, or is sparse though
        that is not allowed.

    Examples
    --------
    >>> from fastnn.engine.sparse_rows import check_samples
    >>> check_samples([[0, 1]], "float32", n_inputs=2)
    array([[0., 1.]], dtype=float32)
    """
    if isinstance(X, SparseRows):  # checked already
        return X
    table: Any = X
    if not is_sparse(table):
        return check_inputs(table, dtype, n_inputs, name, finite)
    if not takes_sparse:
        raise ValueError(f"{name} must be dense for a net that does not begin with an affine layer")
    return check_sparse(table, dtype, n_inputs, name, finite)


def check_sparse(
    x: Any, dtype: DTypeLike, n_inputs: int, name: str = "X", finite: bool = True
) -> SparseRows:
    """Return a sparse matrix as `SparseRows`, without a copy if it is in CSR form of that dtype.

    Parameters
    ----------
    x : sparse matrix of SciPy, of shape (N, I)
        Its indices are checked, its duplicates summed.
    dtype : dtype-like
        Type of the values.
    n_inputs : int
        I.
    name : str, default="X"
        Name of the argument in errors.
    finite : bool, default=True
        Whether all values must be finite.

    Returns
    -------
    SparseRows

    Raises
    ------
    ValueError
        If x is not numeric, has not I columns, has indices out of range, or is not finite though it
        must be.
    """
    if x.dtype.kind not in "biuf":
        raise ValueError(f"{name} must be numeric, got dtype {x.dtype}")
    if x.ndim != 2 or x.shape[1] != n_inputs:
        raise ValueError(f"{name} must have {n_inputs} columns, got shape {x.shape}")
    if n_inputs > np.iinfo(np.int32).max:
        raise ValueError(f"{name} must have fewer than 2**31 columns, got {n_inputs}")
    rows = x.tocsr()
    # Neither kernels nor SciPy check the indices of a matrix that was built from its arrays.
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
