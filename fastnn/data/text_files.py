"""Read tables from text files: guess the separator and the header, check the length of lines."""

from __future__ import annotations

import csv
import gzip
import itertools
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, cast

from fastnn.data.dataset import UNREADABLE, one_line
from fastnn.errors import DataError, require

if TYPE_CHECKING:
    import pandas

TEXT_SUFFIXES = frozenset({".csv", ".tsv", ".data", ".txt"})
"""Suffixes of the text files that are read, all of them also with ``.gz`` appended."""

MISSING = frozenset({"", "?", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "<NA>"})
"""Fields that stand for a missing value."""

# pandas takes all others of `MISSING` for missing by itself.
_MISSING_FOR_PANDAS = "?"

# In the order in which they are tried: tabs and semicolons seldom occur inside a field, commas and
# blanks often do.
_SEPARATORS = ("\t", ";", ",", r"\s+")
_N_SAMPLE_LINES = 200


def read_text(
    path: Path, header: bool | None, text: Iterable[str]
) -> tuple[pandas.DataFrame, bool]:
    r"""Read a text file as a table.

    Parameters
    ----------
    path : pathlib.Path
        A file with one of `TEXT_SUFFIXES`, perhaps followed by ``.gz``.
    header : bool or None
        Whether the first line names the columns; None guesses it.
    text : iterable of str
        Names of columns to read as text even if they hold numbers.

    Returns
    -------
    frame : pandas.DataFrame
        Columns are named ``column_0``, ``column_1``, ... if there is no header.
    has_header : bool
        Whether the first line named the columns.

    Raises
    ------
    DataError
        If the file is empty, damaged or not UTF-8, or a line has too many or too few fields.
    MissingExtraError
        If pandas is not installed.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from fastnn.data.text_files import read_text
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "t.csv"
    ...     size = path.write_text("height; weight\n1.8; 75\n")
    ...     frame, has_header = read_text(path, None, [])
    >>> list(frame.columns), has_header
    (['height', 'weight'], True)
    """
    pandas = require("pandas", "data")
    try:
        with _open_text(path) as file:
            sample = list(itertools.islice(filter(str.strip, file), _N_SAMPLE_LINES))
        if not sample:
            raise DataError("the file is empty")
        separator = _guess_separator(sample)
        rows = [[field.strip() for field in row] for row in _split(sample, separator)]
        if header is None:
            header = _guess_header(rows)
        names = rows[0] if header else [f"column_{i}" for i in range(len(rows[0]))]
        with warnings.catch_warnings():
            # For a row longer than the first one, pandas only warns and drops the rest of it.
            warnings.simplefilter("error", pandas.errors.ParserWarning)
            frame = pandas.read_csv(
                path,
                sep=separator,
                header=0 if header else None,
                names=None if header else names,
                index_col=False,
                skipinitialspace=True,
                na_values=[_MISSING_FOR_PANDAS],
                dtype=dict.fromkeys(set(text) & set(names), str),
                encoding="utf-8-sig",
                compression="gzip" if path.suffix == ".gz" else None,
                low_memory=False,
            )
        # pandas pads a row that is too short, so that its last value is missing.
        if len(frame) and frame.iloc[:, -1].isna().any():
            with _open_text(path) as file:
                _check_lengths(file, separator, len(names))
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not text in UTF-8: {error.reason}") from error
    except (*UNREADABLE, csv.Error, pandas.errors.ParserWarning) as error:
        raise DataError(f"{path}: {one_line(error)}") from error
    return frame, header


def _open_text(path: Path) -> TextIO:
    opener = gzip.open if path.suffix == ".gz" else open
    return cast(TextIO, opener(path, "rt", encoding="utf-8-sig", newline=""))


def _check_lengths(lines: Iterable[str], separator: str, n_fields: int) -> None:
    """Raise `DataError` for the first line with too few fields; blank lines are ignored."""
    for number, row in _numbered_rows(lines, separator):
        if len(row) < n_fields and any(map(str.strip, row)):
            raise DataError(f"line {number} has {len(row)} fields, but {n_fields} are needed")


def _numbered_rows(lines: Iterable[str], separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the fields of each row, with the number of its last line: a field may hold newlines."""
    if separator == r"\s+":
        yield from enumerate(map(str.split, lines), 1)
        return
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=True)
    for row in reader:
        yield reader.line_num, row


def _split(lines: list[str], separator: str) -> list[list[str]]:
    """Split lines into fields."""
    if separator == r"\s+":
        return [line.split() for line in lines]
    return list(csv.reader(lines, delimiter=separator, skipinitialspace=True))


def _guess_separator(lines: list[str]) -> str:
    """Return the separator that splits all lines into the same number of fields, two or more."""
    for separator in _SEPARATORS:
        counts = {len(fields) for fields in _split(lines, separator)}
        if len(counts) == 1 and counts != {1}:
            return separator
    # Some line is damaged. With the likeliest separator, the reader will report which one.
    return max(_SEPARATORS[:3], key=lambda separator: lines[0].count(separator))


def _guess_header(rows: list[list[str]]) -> bool:
    """Return whether the first row seems to name the columns.

    It does if some column holds only numbers below it. If no column does, and the whole first row
    is text, it does if no field of it occurs again in its column.
    """
    first, *rest = rows
    columns = [
        [row[i] for row in rest if i < len(row) and row[i] not in MISSING]
        for i in range(len(first))
    ]
    for name, column in zip(first, columns, strict=True):
        is_name = not _is_number(name) and name not in MISSING
        if is_name and column and all(map(_is_number, column)):
            return True
    if any(_is_number(name) or name in MISSING for name in first):
        return False
    return not any(name in column for name, column in zip(first, columns, strict=True))


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True
