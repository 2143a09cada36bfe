"""Read a data set: bundled real ones by name, tables, arrays and folders of IDX files.

Everything ends up as one `Dataset`, features apart from the target, cleaned but not yet scaled or
encoded: that is the work of `fastnn.data.table_encoder`.
"""

import csv
import dataclasses
import difflib
import gzip
import itertools
import math
import numbers
import os
import warnings
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from fastnn.data.table_encoder import guess_task
from fastnn.errors import DataError, require, shown
from fastnn.validation import check_flag

__all__ = ["BUNDLED", "Dataset", "UnknownColumnError", "load", "source_name"]

BUNDLED = MappingProxyType(
    {
        "digits": "1797 images of handwritten digits, 8 x 8 pixels, 10 classes",
        "breast_cancer": "569 tumours, 30 measurements, malignant or benign",
        "wine": "178 wines, 13 chemical measurements, 3 growers",
        "iris": "150 flowers, 4 measurements, 3 species",
        "diabetes": "442 patients, 10 measurements, progress of the disease (regression)",
    }
)
"""The real data sets that come with scikit-learn, by name."""

_TEXT_SUFFIXES = {".csv", ".tsv", ".data", ".txt"}
_PARQUET_SUFFIXES = {".parquet", ".pq"}

# Besides these, pandas takes the usual ones for missing: empty, NA, N/A, NaN, null, None.
_MISSING = "?"
_ALL_MISSING = {"", "?", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "<NA>"}

# A tab or a semicolon seldom stands inside a field, a comma or a blank often does: the order in
# which separators are tried.
_SEPARATORS = ("\t", ";", ",", r"\s+")
_N_SAMPLE_LINES = 200

# The third byte of an IDX file says what its numbers are; they are big-endian.
_IDX_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_IDX_IMAGES = "{}-images-idx3-ubyte"
_IDX_LABELS = "{}-labels-idx1-ubyte"

# What the readers of damaged or foreign files raise.
_UNREADABLE = (OSError, EOFError, ValueError, zlib.error, zipfile.BadZipFile)


class UnknownColumnError(DataError):
    """A column was asked for, by name or by index, that the data set does not have."""


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Features, and the target if there is one, as they were read.

    Attributes
    ----------
    name : str
        The name of the file or folder without suffixes, or of the bundled set.
    X : ndarray of shape (N, I) or pandas.DataFrame
        The features. A DataFrame where they come from a table: its columns are numbers (NaN where
        missing) or text (dtype object, NaN where missing).
    y : ndarray of shape (N,) or None
        The target: numbers, or text as dtype object.
    feature_names : list of str
        One name a column of `X`; ``column_0`` and so on for a table without a header.
    target_name : str or None
        Name of the target column.
    target_index : int or None
        Where the target stood among all columns of the table.
    has_header : bool
        Whether the names were read; else they only count the columns.
    standardise : bool
        False for images, whose pixels are in [0, 1] and are used as they are.
    test : Dataset or None
        The test set, where the source names one.
    """

    name: str
    X: Any
    y: np.ndarray | None
    feature_names: list[str]
    target_name: str | None = None
    target_index: int | None = None
    has_header: bool = True
    standardise: bool = True
    test: "Dataset | None" = None

    def __len__(self) -> int:
        """Return the number of rows N."""
        return len(self.X)

    @property
    def task(self) -> str | None:
        """``"classification"`` or ``"regression"``, guessed from the target; None without one."""
        return None if self.y is None else guess_task(self.y)


def _check_path(source):
    if not isinstance(source, (str, os.PathLike)):
        raise ValueError(f"source must be a str or a path, got {shown(source)}")


def _names(argument, names):
    """Return names of columns as a list, or raise ValueError."""
    try:
        found = [] if isinstance(names, (str, bytes)) else list(names)
    except TypeError:
        found = [None]
    if isinstance(names, (str, bytes)) or not all(
        isinstance(name, (str, numbers.Integral)) for name in found
    ):
        raise ValueError(f"{argument} must be a list of names of columns, got {shown(names)}")
    return found


def source_name(source: str | Path) -> str:
    """Return the name of a data set: that of its file or folder, without suffixes.

    Examples
    --------
    >>> source_name("data/adult.csv.gz"), source_name("iris")
    ('adult', 'iris')
    """
    _check_path(source)
    path = Path(source)
    if path.is_dir():
        return path.absolute().name
    name = path.name.removesuffix(".gz")
    return name.rpartition(".")[0] or name


def load(
    source: str | Path = "digits",
    *,
    target: str | int | None = -1,
    header: bool | None = None,
    drop: Iterable[str] = (),
    text: Iterable[str] = (),
    needed: Iterable[str] = (),
    optional: Iterable[str] = (),
) -> Dataset:
    """Read a data set.

    Parameters
    ----------
    source : str or pathlib.Path
        One of

        - the name of a bundled real set, see `BUNDLED`. It wins over a file of that name in the
          current folder: write ``./digits`` for the file, or pass a `pathlib.Path`;
        - a ``.csv``, ``.tsv``, ``.data`` or ``.txt`` file, also with ``.gz`` behind. Fields are
          separated by commas, semicolons, tabs or blanks, whichever fits; blanks around fields
          are removed; empty fields, ``?`` and ``NA`` are missing values;
        - a ``.parquet`` file;
        - a ``.npz`` file with the arrays ``X`` (N, ...), flattened to (N, I), and ``y`` (N,);
        - a folder with IDX files named as those of MNIST: ``train-images-idx3-ubyte``,
          ``train-labels-idx1-ubyte``, and ``t10k-...`` for the test set, also with ``.gz``.
          uint8 pixels become float32 numbers in [0, 1].
    target : str, int or None
        The target column of a table by name or index, the last by default; None takes all columns
        as features. The other kinds of source have their own target.
    header : bool, optional
        Whether the first line of a text file names the columns. Guessed by default.
    drop : iterable of str
        Columns of a table to leave out.
    text : iterable of str
        Columns of a text file to read as text even where they look like numbers.
    needed, optional : iterable of str
        The columns that matter, such as the features of a model and its target. Where a table has
        all the needed ones, its columns besides these are left out, whatever they hold.

    Returns
    -------
    Dataset
        The rows in the order in which they were read.

    Raises
    ------
    DataError
        If the file is missing, empty, damaged or of an unknown kind, if a line has too many or
        too few fields, or if there is an infinite number.
    UnknownColumnError
        If the table has no such column.
    MissingExtraError
        If the package that reads such a source is not installed.

    Examples
    --------
    >>> from fastnn.datasets import load
    >>> iris = load("iris")
    >>> iris.X.shape, iris.task
    ((150, 4), 'classification')
    >>> iris.feature_names[0], str(iris.y[0])
    ('sepal length (cm)', 'setosa')
    """
    _check_path(source)
    drop, text = _names("drop", drop), _names("text", text)
    needed, optional = set(_names("needed", needed)), _names("optional", optional)
    kept = needed.union(optional)
    header = None if header is None else check_flag("header", header)
    if not isinstance(target, (str, numbers.Integral, type(None))) or isinstance(target, bool):
        raise ValueError(f"target must be a name, an index or None, got {shown(target)}")
    if isinstance(source, str) and source in BUNDLED:
        data = _load_bundled(source)
    else:
        path = Path(source)
        suffix = Path(path.stem if path.suffix == ".gz" else path.name).suffix.lower()
        if not path.exists():
            names = ", ".join(BUNDLED)
            name = " ".join(str(source).split())
            raise DataError(f"{name}: no such file or folder, nor a bundled set ({names})")
        if path.is_dir():
            data = _load_idx_folder(path)
        elif suffix in _TEXT_SUFFIXES:
            frame, has_header = _read_text(path, header, text)
            frame = _keep(frame, needed, kept)
            return _from_table(path, frame, has_header, target, drop, text)
        elif suffix in _PARQUET_SUFFIXES:
            frame = _keep(_read_parquet(path), needed, kept)
            # Parquet says itself what is text.
            return _from_table(path, frame, True, target, drop, text=frame.columns)
        elif suffix == ".npz":
            data = _load_npz(path)
        else:
            allowed = ", ".join(sorted(_TEXT_SUFFIXES | _PARQUET_SUFFIXES | {".npz"}))
            raise DataError(f"{path}: unknown kind of file {suffix!r}, allowed are {allowed}")
    if target not in (None, -1, "-1", data.target_name):
        raise UnknownColumnError(
            f"target {shown(target)} cannot be chosen: {source} is not a table, "
            f"its target is {data.target_name!r}"
        )
    if drop:
        raise UnknownColumnError(f"drop {drop[0]!r} is not possible: {source} is not a table")
    return data


def _load_bundled(name: str) -> Dataset:
    bunch = getattr(require("sklearn.datasets", "sklearn"), f"load_{name}")()
    y = bunch.target
    if "target_names" in bunch and bunch.target_names.dtype.kind == "U":
        y = bunch.target_names[y].astype(object)
    return Dataset(
        name=name,
        X=bunch.data,
        y=y,
        feature_names=[str(column) for column in bunch.feature_names],
        target_name="target",
        target_index=bunch.data.shape[1],
    )


# Tables


def _keep(frame, needed: set[str], kept: set[str]):
    """Leave out the columns that are not to be kept, if all that are needed are there."""
    names = [str(column).strip() for column in frame.columns]
    if not needed or not needed.issubset(names):
        return frame
    return frame.loc[:, [name in kept for name in names]]


def _from_table(
    path: Path, frame, has_header: bool, target: str | int | None, drop: list[str], text
) -> Dataset:
    """Set the target of a table apart; leave out the columns of `drop`; clean the others."""
    columns = [str(column).strip() for column in frame.columns]
    if len(set(columns)) < len(columns):
        twice = next(column for column in columns if columns.count(column) > 1)
        raise DataError(f"{path}: two columns have the name {twice!r}")
    if frame.empty:
        raise DataError(f"{path}: there are no rows of data")
    is_text = [name in text for name in frame.columns]
    frame.columns = columns
    target_index = None if target is None else _column_index("target", target, columns, path)
    dropped = {_column_index("drop", name, columns, path) for name in drop}
    if target_index in dropped:
        raise UnknownColumnError(f"drop {columns[target_index]!r} would drop the target")
    cleaned = {
        name: _clean(frame[name], f"{path}: column {name!r}", is_text[i])
        for i, name in enumerate(columns)
        if i not in dropped
    }
    y = None if target_index is None else cleaned.pop(columns[target_index]).to_numpy()
    if not cleaned:
        raise DataError(f"{path}: there is no column besides the target {columns[target_index]!r}")
    return Dataset(
        name=source_name(path),
        X=require("pandas", "data").DataFrame(cleaned),
        y=y,
        feature_names=list(cleaned),
        target_name=None if target_index is None else columns[target_index],
        target_index=target_index,
        has_header=has_header,
    )


def _column_index(role: str, wanted: str | int, columns: list[str], path: Path) -> int:
    """Find a column by its name or, where no column has such a name, by its index."""
    if wanted in columns:
        return columns.index(wanted)
    try:
        return range(len(columns))[int(wanted)]
    except IndexError:
        hint = f"{path} has {len(columns)} columns"
    except ValueError:
        close = difflib.get_close_matches(wanted, columns, n=1)
        more = ", ..." if len(columns) > 8 else ""
        hint = f"did you mean {close[0]!r}?" if close else ", ".join(columns[:8]) + more
    raise UnknownColumnError(f"{role} {wanted!r} is not a column of {path}: {hint}")


def _clean(column, where: str, is_text: bool):
    """Return a column as numbers or as text of dtype object; NaN where a value is missing.

    Where `is_text` is false, text that reads as numbers becomes numbers.
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
        column = column.where(~column.isin(_ALL_MISSING), np.nan).astype(object)
        if not is_text:
            # Blanks behind a "?" kept pandas from seeing the numbers.
            numbers = pandas.to_numeric(column, errors="coerce")
            column = numbers if numbers.isna().equals(column.isna()) else column
    if types.is_numeric_dtype(column):
        if types.is_extension_array_dtype(column):
            column = column.astype("float64" if column.hasnans else column.dtype.numpy_dtype)
        infinite = int(np.isinf(column.to_numpy()).sum())
        if infinite:
            raise DataError(f"{where} has infinite values, in {infinite} of {len(column)} rows")
    return column


def _read_parquet(path: Path):
    pandas = require("pandas", "data")
    require("pyarrow", "data")
    try:
        return pandas.read_parquet(path)
    except _UNREADABLE as error:
        raise DataError(f"{path}: cannot be read as Parquet: {_first_line(error)}") from error


def _read_text(path: Path, header: bool | None, text: list[str]) -> tuple[Any, bool]:
    """Read a text file; return the DataFrame and whether its first line named the columns."""
    pandas = require("pandas", "data")
    try:
        with _open_text(path) as file:
            sample = list(itertools.islice(filter(str.strip, file), _N_SAMPLE_LINES))
        if not sample:
            raise DataError("the file is empty")
        separator = _separator(sample)
        rows = [[field.strip() for field in row] for row in _split(sample, separator)]
        if header is None:
            header = _has_header(rows)
        names = rows[0] if header else [f"column_{i}" for i in range(len(rows[0]))]
        with warnings.catch_warnings():
            # pandas only warns where a row is longer than the first, and cuts it.
            warnings.simplefilter("error", pandas.errors.ParserWarning)
            frame = pandas.read_csv(
                path,
                sep=separator,
                header=0 if header else None,
                names=None if header else names,
                index_col=False,
                skipinitialspace=True,
                na_values=[_MISSING],
                dtype=dict.fromkeys(set(text) & set(names), str),
                encoding="utf-8-sig",
                compression="gzip" if path.suffix == ".gz" else None,
                low_memory=False,
            )
        # pandas fills up a row that is too short: then its last value is missing.
        if len(frame) and frame.iloc[:, -1].isna().any():
            with _open_text(path) as file:
                _check_lengths(file, separator, len(names))
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not text in UTF-8: {error.reason}") from error
    except (*_UNREADABLE, csv.Error, pandas.errors.ParserWarning) as error:
        raise DataError(f"{path}: {_first_line(error)}") from error
    return frame, header


def _open_text(path: Path):
    opener = gzip.open if path.suffix == ".gz" else open
    return opener(path, "rt", encoding="utf-8-sig", newline="")


def _check_lengths(lines: Iterable[str], separator: str, n_fields: int) -> None:
    """Raise `DataError` for the first line that has too few fields; blank lines are passed over."""
    if separator == r"\s+":
        rows = map(str.split, lines)
        numbers = itertools.count(1)
    else:
        rows = csv.reader(lines, delimiter=separator, skipinitialspace=True)
        numbers = (rows.line_num for _ in itertools.repeat(None))
    for row, number in zip(rows, numbers, strict=False):
        if len(row) < n_fields and any(map(str.strip, row)):
            raise DataError(f"line {number} has {len(row)} fields, but {n_fields} are needed")


def _split(lines: list[str], separator: str) -> list[list[str]]:
    """Split lines into fields."""
    if separator == r"\s+":
        return [line.split() for line in lines]
    return list(csv.reader(lines, delimiter=separator, skipinitialspace=True))


def _separator(lines: list[str]) -> str:
    """Return the separator that cuts all lines into the same number of fields, two or more."""
    for separator in _SEPARATORS:
        counts = {len(fields) for fields in _split(lines, separator)}
        if len(counts) == 1 and counts != {1}:
            return separator
    # Some line is damaged: the reader will name it if the separator is the likely one.
    return max(_SEPARATORS[:3], key=lambda separator: lines[0].count(separator))


def _has_header(rows: list[list[str]]) -> bool:
    """Guess whether the first row names the columns.

    It does where some column holds numbers but for its first field. Where no column does so, and
    all of the first row is text, it does if none of its fields comes again in its column.
    """
    first, *rest = rows
    columns = [
        [row[i] for row in rest if i < len(row) and row[i] not in _ALL_MISSING]
        for i in range(len(first))
    ]
    for name, column in zip(first, columns, strict=True):
        is_name = not _is_number(name) and name not in _ALL_MISSING
        if is_name and column and all(map(_is_number, column)):
            return True
    if any(_is_number(name) or name in _ALL_MISSING for name in first):
        return False
    return not any(name in column for name, column in zip(first, columns, strict=True))


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _first_line(error: Exception) -> str:
    """Return what an exception says, in one line."""
    return " ".join(str(error).split()) or type(error).__name__


# Arrays


def _load_npz(path: Path) -> Dataset:
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path}: cannot be read as .npz: it is not a complete zip file")
    try:
        # np.load leaves a file that it opened itself open where it finds it damaged.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files if name in ("X", "y")}
            names = ", ".join(arrays.files) or "none"
    except (*_UNREADABLE, AttributeError, TypeError) as error:
        raise DataError(f"{path}: cannot be read as .npz: {_first_line(error)}") from error
    if "X" not in found:
        raise DataError(f"{path}: there is no array 'X', only: {names}")
    X, y = found["X"], found.get("y")
    if X.ndim < 2 or not X.size or X.dtype.kind not in "biuf":
        raise DataError(
            f"{path}: X must hold numbers in the shape (rows, features), got {X.dtype} {X.shape}"
        )
    X = X.reshape(len(X), math.prod(X.shape[1:]))
    X = X.astype(np.float32) if X.dtype in (np.bool_, np.float16) else X
    _check_finite(X, f"{path}: X")
    if y is not None:
        y = _array_target(y, len(X), path)
    return Dataset(
        name=source_name(path),
        X=X,
        y=y,
        feature_names=[f"column_{i}" for i in range(X.shape[1])],
        target_name="y",
        target_index=X.shape[1],
        has_header=False,
    )


def _array_target(y: np.ndarray, n_rows: int, path: Path) -> np.ndarray:
    if y.shape not in ((n_rows,), (n_rows, 1)) or y.dtype.kind not in "biufU":
        raise DataError(
            f"{path}: y must hold numbers or text in the shape ({n_rows},), got {y.dtype} {y.shape}"
        )
    y = y.reshape(n_rows)
    if y.dtype.kind == "f":
        _check_finite(y, f"{path}: y")
    return y.astype(str).astype(object) if y.dtype.kind in "bU" else y


def _check_finite(array: np.ndarray, where: str) -> None:
    bad = ~np.isfinite(array)
    if bad.any():
        n_rows = int(bad.reshape(len(array), -1).any(axis=1).sum())
        raise DataError(f"{where} has NaN or infinite values, in {n_rows} of {len(array)} rows")


# Folders of IDX files


def _load_idx_folder(folder: Path) -> Dataset:
    train, test = (_load_idx_pair(folder, part) for part in ("train", "t10k"))
    if train is None and test is None:
        wanted = " or ".join(_IDX_IMAGES.format(part) for part in ("train", "t10k"))
        raise DataError(f"{folder}: the folder holds no {wanted} (.gz)")
    if train is None:
        return test
    if test is not None and train.X.shape[1] != test.X.shape[1]:
        raise DataError(f"{folder}: the images of train and t10k differ in size")
    return dataclasses.replace(train, test=test)


def _load_idx_pair(folder: Path, part: str) -> Dataset | None:
    """Load the images and labels of ``train`` or ``t10k``; None where there are no images."""
    images_path = _idx_path(folder / _IDX_IMAGES.format(part))
    labels_path = _idx_path(folder / _IDX_LABELS.format(part))
    if images_path is None:
        return None
    images = _read_idx(images_path)
    if images.ndim < 2 or not images.size:
        raise DataError(f"{images_path}: holds no images, but numbers of shape {images.shape}")
    X = images.reshape(len(images), -1)
    X = X / np.float32(255) if X.dtype == np.uint8 else X.astype(np.float32)
    _check_finite(X, str(images_path))
    y = None
    if labels_path is not None:
        y = _array_target(_read_idx(labels_path).astype(np.int64), len(X), labels_path)
    return Dataset(
        name=source_name(folder),
        X=X,
        y=y,
        feature_names=[f"pixel_{i}" for i in range(X.shape[1])],
        target_name="label",
        target_index=X.shape[1],
        has_header=False,
        standardise=False,
    )


def _idx_path(path: Path) -> Path | None:
    candidates = (path, path.with_name(f"{path.name}.gz"))
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _read_idx(path: Path) -> np.ndarray:
    """Read one IDX file: two zero bytes, the type, the number of dimensions, sizes, numbers.

    The format is described beside the original files of MNIST (LeCun, Cortes and Burges).
    """
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            content = file.read()
    except _UNREADABLE as error:
        raise DataError(f"{path}: cannot be read: {_first_line(error)}") from error
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _IDX_DTYPES:
        raise DataError(f"{path}: is not an IDX file")
    dtype, n_dims = np.dtype(_IDX_DTYPES[content[2]]), content[3]
    start = 4 + 4 * n_dims
    shape = [int.from_bytes(content[i : i + 4], "big") for i in range(4, start, 4)]
    expected = start + dtype.itemsize * math.prod(shape)
    if len(content) != expected:
        raise DataError(
            f"{path}: is damaged: {expected} bytes expected for the shape {tuple(shape)}, "
            f"got {len(content)}"
        )
    return np.frombuffer(content, dtype, offset=start).reshape(shape)
