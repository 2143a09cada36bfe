"""Make a `Dataset` of a DataFrame: select its columns, clean them, split off the target."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastnn.data.dataset import UNREADABLE, Dataset, UnknownColumnError, one_line, source_name
from fastnn.data.text_files import MISSING
from fastnn.errors import DataError, reason, require, shown
from fastnn.validation import as_array

if TYPE_CHECKING:
    import pandas

PARQUET_SUFFIXES = frozenset({".parquet", ".pq"})
"""Suffixes of Parquet files."""

_MOST_LISTED = 8  # names of columns in an error message

Frame: TypeAlias = Any
"""Rows with named columns: a DataFrame of pandas, a dict of columns, a table of polars or pyarrow,
or a `Dataset`; or an array without names."""


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


def as_dataset(
    X: Frame,
    *,
    names: list[str],
    text: Collection[str],
    optional: Collection[str],
    may_be_missing: bool,
) -> Dataset:
    """Return a frame that was given to a model as a data set.

    Parameters
    ----------
    X : frame of N rows
        A pandas DataFrame, a dict of columns, a table with a method ``to_pandas``, such as those
        of polars and pyarrow, a `Dataset`, or an array with the columns in the order of `names`.
        It is not changed.
    names : list of str
        Columns that the model needs; others are dropped before they are looked at.
    text : collection of str
        Those of them that are text, even if they hold numbers.
    optional : collection of str
        Columns that are kept if they are there.
    may_be_missing : bool
        Whether values of an array may be NaN.

    Returns
    -------
    Dataset
        Called "X".

    Raises
    ------
    DataError
        If it is no frame, has no rows, or has values that are neither finite numbers nor text.
    MissingExtraError
        If pandas is needed and not installed.

    Examples
    --------
    >>> from fastnn.data.frames import as_dataset
    >>> columns = {"size": [1.5, None], "colour": ["red", "?"], "day": ["Mo", "Tu"]}
    >>> data = as_dataset(
    ...     columns, names=["size", "colour"], text=["colour"], optional=[], may_be_missing=True
    ... )
    >>> data.feature_names, len(data)
    (['size', 'colour'], 2)
    """
    if isinstance(X, Dataset):
        return X
    frame = _as_pandas(X)
    if frame is None:
        array = as_array("X", X)
        if array.ndim != 2 or array.shape[1] != len(names):
            raise DataError(
                f"X must be a frame with named columns, or an array with {len(names)} columns, got "
                f"{shown(X) if array.ndim == 0 else f'an array of shape {array.shape}'}"
            )
        if array.dtype.kind in "biuf" and not text:
            return _from_array(array, names, may_be_missing)
        frame = require("pandas", "data").DataFrame(array, columns=names)
    has_header = True
    if not set(names).issubset(map(str, frame.columns)) and list(frame.columns) == [
        *range(frame.shape[1])
    ]:  # numbered by pandas: the columns are known by their places
        has_header = frame.shape[1] == len(names)
        frame.columns = names if has_header else [f"column_{k}" for k in frame.columns]
    frame = select_columns(frame, set(names), set(optional))
    return from_frame(Path("X"), frame, has_header=has_header, target=None, drop=(), text=text)


def _as_pandas(X: Frame) -> pandas.DataFrame | None:
    """Return a frame as a new DataFrame of pandas; None for an array."""
    if isinstance(X, Mapping):
        for name, column in X.items():
            if isinstance(column, (str, bytes)) or not hasattr(column, "__len__"):
                raise DataError(
                    f"X must be a dict of columns, got a single value for {name!r}: {shown(column)}"
                )
        frame = require("pandas", "data").DataFrame
        try:
            return frame(dict(X))
        except (TypeError, ValueError) as error:
            raise DataError(f"X must be a dict of columns of one length: {reason(error)}") from None
    if hasattr(X, "to_pandas") and hasattr(X, "columns"):
        require("pandas", "data")
        require("pyarrow", "data")
        return X.to_pandas()
    if hasattr(X, "iloc") and hasattr(X, "columns"):
        return X.copy(deep=False)
    return None


def _from_array(array: NDArray[Any], names: list[str], may_be_missing: bool) -> Dataset:
    """Return numbers (N, I) as a data set, or raise `DataError`."""
    if len(array) == 0:
        raise DataError("X: there are no rows of data")
    array = array.astype(np.int8) if array.dtype.kind == "b" else array
    bad = np.isinf(array) if may_be_missing else ~np.isfinite(array)
    if bad.any():
        column = int(bad.any(axis=0).argmax())
        what = "infinite values" if may_be_missing else "NaN or infinite values"
        raise DataError(
            f"X: column {names[column]!r} has {what}, in {int(bad[:, column].sum())} of "
            f"{len(array)} rows"
        )
    return Dataset(name="X", X=array, y=None, feature_names=list(names))


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
        # NaN stands for all that is missing: None and pandas.NA too.
        column = column.where(column.notna() & ~column.isin(MISSING), np.nan).astype(object)
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
