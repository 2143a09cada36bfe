"""Make a `Dataset` of a DataFrame: select its columns, clean them, split off the target."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fastnn.data.dataset import UNREADABLE, Dataset, UnknownColumnError, one_line, source_name
from fastnn.data.text_files import MISSING
from fastnn.errors import DataError, require

if TYPE_CHECKING:
    import pandas

PARQUET_SUFFIXES = frozenset({".parquet", ".pq"})
"""Suffixes of Parquet files."""

_MOST_LISTED = 8  # names of columns in an error message


def read_parquet(path: Path) -> pandas.DataFrame:
    """Read a Parquet file as a table.

    Raises
    ------
    DataError
        If the file is damaged.
    MissingExtraError
        If pandas or pyarrow is not installed.
    """
    pandas = require("pandas", "data")
    require("pyarrow", "data")
    try:
        return pandas.read_parquet(path)
    except UNREADABLE as error:
        raise DataError(f"{path}: cannot be read as Parquet: {one_line(error)}") from error


def select_columns(
    frame: pandas.DataFrame, needed: set[str], optional: set[str]
) -> pandas.DataFrame:
    """Return the needed and optional columns, or the whole frame if a needed one is not there."""
    names = [str(column).strip() for column in frame.columns]
    if not needed or not needed.issubset(names):
        return frame
    return frame.loc[:, [name in needed or name in optional for name in names]]


def from_frame(
    path: Path,
    frame: pandas.DataFrame,
    *,
    has_header: bool,
    target: str | int | None,
    drop: Collection[str],
    text: Collection[str],
) -> Dataset:
    """Split the target off a table, drop columns, and clean the others.

    Parameters
    ----------
    path : pathlib.Path
        File the table was read from, for its name and for error messages.
    frame : pandas.DataFrame
        The whole table. Its columns are renamed: blanks around names are removed.
    has_header : bool
        Whether the names of the columns were read from the file.
    target : str, int or None
        Name or index of the target; None takes all columns as features.
    drop : collection of str
        Names or indices of columns to drop.
    text : collection of str
        Names of columns that stay text even if they hold numbers.

    Returns
    -------
    Dataset
        Features as a DataFrame.

    Raises
    ------
    DataError
        If there are no rows, no features or two columns of one name, or if a column has values
        that are neither finite numbers nor text.
    UnknownColumnError
        If there is no such target, or no such column to drop.
    """
    columns = [str(column).strip() for column in frame.columns]
    if len(set(columns)) < len(columns):
        duplicate = next(column for column in columns if columns.count(column) > 1)
        raise DataError(f"{path}: two columns have the name {duplicate!r}")
    if frame.empty:
        raise DataError(f"{path}: there are no rows of data")
    is_text = [name in text for name in frame.columns]
    frame.columns = columns
    target_index = None if target is None else _column_index("target", target, columns, path)
    dropped = {_column_index("drop", name, columns, path) for name in drop}
    if target_index is not None and target_index in dropped:
        raise UnknownColumnError(f"drop {columns[target_index]!r} would drop the target")
    cleaned = {
        name: _clean(frame[name], f"{path}: column {name!r}", is_text[i])
        for i, name in enumerate(columns)
        if i not in dropped
    }
    target_name = y = None
    if target_index is not None:
        target_name = columns[target_index]
        y = cleaned.pop(target_name).to_numpy()
    if not cleaned:
        raise DataError(f"{path}: there is no column besides the target {target_name!r}")
    return Dataset(
        name=source_name(path),
        X=require("pandas", "data").DataFrame(cleaned),
        y=y,
        feature_names=list(cleaned),
        target_name=target_name,
        target_index=target_index,
        has_header=has_header,
    )


def _column_index(role: str, wanted: str | int, columns: list[str], path: Path) -> int:
    """Return the index of a column, given by its name or, if no column has it, by its index."""
    if isinstance(wanted, str) and wanted in columns:
        return columns.index(wanted)
    try:
        return range(len(columns))[int(wanted)]
    except IndexError:
        hint = f"{path} has {len(columns)} columns"
    except ValueError:
        close = difflib.get_close_matches(str(wanted), columns, n=1)
        more = ", ..." if len(columns) > _MOST_LISTED else ""
        hint = f"did you mean {close[0]!r}?" if close else ", ".join(columns[:_MOST_LISTED]) + more
    raise UnknownColumnError(f"{role} {wanted!r} is not a column of {path}: {hint}")


def _clean(column: pandas.Series, where: str, is_text: bool) -> pandas.Series:
    """Return a column as numbers, or as text of dtype object; NaN where a value is missing.

    Unless `is_text`, text that can all be parsed as numbers becomes numbers.
    """
    pandas = require("pandas", "data")
    types = pandas.api.types
    if types.is_datetime64_any_dtype(column) or types.is_timedelta64_dtype(column):
        raise DataError(f"{where} holds dates or times: make numbers of them, or drop the column")
    if types.is_complex_dtype(column):
        raise DataError(f"{where} has complex numbers")
    if types.infer_dtype(column, skipna=True) == "decimal":
        column = column.astype("float64")
    if types.is_bool_dtype(column) or not types.is_numeric_dtype(column):
        column = column.astype(object).map(lambda value: str(value).strip(), na_action="ignore")
        column = column.where(~column.isin(MISSING), np.nan).astype(object)
        if not is_text:
            # A "?" followed by blanks kept pandas from parsing the column as numbers.
            numbers = pandas.to_numeric(column, errors="coerce")
            column = numbers if numbers.isna().equals(column.isna()) else column
    if types.is_numeric_dtype(column):
        if types.is_extension_array_dtype(column):
            column = column.astype("float64" if column.hasnans else column.dtype.numpy_dtype)
        infinite = int(np.isinf(column.to_numpy()).sum())
        if infinite:
            raise DataError(f"{where} has infinite values, in {infinite} of {len(column)} rows")
    return column
