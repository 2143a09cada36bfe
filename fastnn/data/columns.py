"""Rows and columns of a data set: selection, and checks of features and target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastnn.data.dataset import Dataset, Features, is_missing
from fastnn.errors import DataError, require, shown
from fastnn.validation import as_array

if TYPE_CHECKING:
    import pandas

MAX_CATEGORIES = 1000
"""A text column with more distinct values is an error: each would become an input."""

# A text column is taken for a numeric one with mistyped values if it has at least so many distinct
# values, and at least this share of its values are numbers.
_MIN_DISTINCT_MISTYPED = 10
_MIN_NUMBERS_MISTYPED = 0.9


def check_rows(rows: Any, n: int) -> NDArray[np.int64] | None:
    """Return indices of rows, from -n to n - 1, as an array; None for None.

    Raises
    ------
    ValueError
        If they are not a vector of such integers, or there are none.
    """
    if rows is None:
        return None
    rows = as_array("rows", rows)
    if rows.ndim != 1 or rows.dtype.kind not in "iu" or (rows.size and rows.max() >= n):
        raise ValueError(f"rows must be a vector of integers below {n}, got {shown(rows)}")
    if len(rows) == 0:
        raise ValueError("rows must name at least 1 row, got 0")
    if rows.min() < -n:
        raise ValueError(f"rows must be a vector of integers below {n}, got {shown(rows)}")
    return rows.astype(np.int64)


def take_rows(X: Features, rows: NDArray[np.int64] | None) -> Features:
    """Return some rows of features, all for None."""
    if rows is None:
        return X
    return X[rows] if isinstance(X, np.ndarray) else X.iloc[rows]


def take_columns(X: Features, indices: list[int]) -> Features:
    """Return columns of features by their indices, without a copy if these are all, in order."""
    if indices == list(range(X.shape[1])):
        return X
    return X[:, indices] if isinstance(X, np.ndarray) else X.iloc[:, indices]


def take_column(X: Features, index: int) -> NDArray[Any]:
    """Return one column of features as an array."""
    return X[:, index] if isinstance(X, np.ndarray) else X.iloc[:, index].to_numpy()


def text_columns(data: Dataset) -> list[str]:
    """Return the names of the text columns, after a check of all columns.

    A numeric column with a single value is accepted: images have many of them, and they do no harm.

    Raises
    ------
    DataError
        If a column has no values; if a text column has only one value, or more than
        `MAX_CATEGORIES`, or seems to be a numeric column with mistyped values.
    """
    if isinstance(data.X, np.ndarray):
        return []
    names = []
    for name, column in data.X.items():
        where = f"{data.name}: column {name!r}"
        if column.isna().all():
            raise DataError(f"{where} has no values: drop the column")
        if column.dtype.kind in "iuf":
            continue
        if _is_mistyped(column):
            raise DataError(
                f"{where} has text, {_non_number(column)!r}, among its numbers: correct it, or "
                f"drop the column"
            )
        n_distinct = column.nunique(dropna=False)
        if n_distinct == 1:
            raise DataError(f"{where} has only one value, {column.iloc[0]!r}: drop the column")
        if n_distinct > MAX_CATEGORIES:
            raise DataError(
                f"{where} is text with {n_distinct} different values, such as "
                f"{_non_number(column)!r}, at most {MAX_CATEGORIES} are allowed: drop the column"
            )
        names.append(name)
    return names


def _is_mistyped(column: pandas.Series) -> bool:
    """Return whether a text column would be numeric but for a few of its values."""
    known = column[column.notna()]
    share = require("pandas", "data").to_numeric(known, errors="coerce").notna().mean()
    return bool(_MIN_NUMBERS_MISTYPED <= share < 1 and known.nunique() >= _MIN_DISTINCT_MISTYPED)


def _non_number(column: pandas.Series) -> str:
    """Return the first value that is not a number, the likely reason why a column is text."""
    pandas = require("pandas", "data")
    known = column[column.notna()]
    others = known[pandas.to_numeric(known, errors="coerce").isna()]
    return others.iloc[0] if len(others) else known.iloc[0]


def as_text(column: pandas.Series) -> pandas.Series:
    """Return a column as text of dtype object; whole numbers have no decimal point."""
    if column.dtype.kind == "f" and np.all(column.isna() | (column == np.floor(column))):
        text = column.map(lambda value: str(int(value)), na_action="ignore")
    else:
        text = column.map(str, na_action="ignore")
    return text.astype(object)


def known_target(y: NDArray[Any], task: str, where: str) -> NDArray[Any]:
    """Return a target as labels (int64, or object for text) or, for a regression, as float64.

    Parameters
    ----------
    y : ndarray of shape (N,)
        Numbers or text.
    task : {"classification", "regression"}
        What the network is trained for.
    where : str
        Name of the target in error messages.

    Raises
    ------
    DataError
        If a value is missing or does not fit the task.
    """
    n_missing = int(is_missing(y).sum())
    if n_missing:
        raise DataError(f"{where} is missing in {n_missing} of {len(y)} rows: remove these rows")
    if task == "regression":
        if y.dtype.kind not in "iuf":
            raise DataError(f"{where} is text, {y[0]!r}, but a regression needs numbers")
        return y.astype(np.float64)
    if y.dtype.kind not in "iuf":
        return np.array([str(label) for label in y], dtype=object)
    if np.any(y != np.floor(y)):
        broken = y[y != np.floor(y)][0]
        raise DataError(
            f"{where} has the value {broken}, but a classification needs whole numbers or text"
        )
    return y.astype(np.int64)
