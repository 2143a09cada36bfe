"""Data sets: bundled real ones by name, tables, arrays and folders of IDX files.

`load` returns each of them as a `Dataset`: features and target, cleaned but not yet scaled or
encoded, which is the work of `fastnn.data.table_encoder`.
"""

from __future__ import annotations

import numbers
import os
from collections.abc import Iterable
from pathlib import Path
from types import MappingProxyType

from fastnn.data.arrays import load_idx_folder, load_npz
from fastnn.data.dataset import Dataset, UnknownColumnError, check_source, source_name
from fastnn.data.frames import PARQUET_SUFFIXES, from_frame, read_parquet, select_columns
from fastnn.data.text_files import TEXT_SUFFIXES, read_text
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
"""The real data sets that come with scikit-learn: name -> description."""


def load(
    source: str | os.PathLike[str] = "digits",
    *,
    target: str | int | None = -1,
    header: bool | None = None,
    drop: Iterable[str] = (),
    text: Iterable[str] = (),
    needed: Iterable[str] = (),
    optional: Iterable[str] = (),
) -> Dataset:
    """Load a data set from a file or folder, or a bundled one by its name.

    Parameters
    ----------
    source : str or path-like, default="digits"
        One of

        - the name of a bundled real set, see `BUNDLED`. It takes precedence over a file of the
          same name in the current folder: write ``./digits`` for the file, or pass a
          `pathlib.Path`;
        - a ``.csv``, ``.tsv``, ``.data`` or ``.txt`` file, perhaps followed by ``.gz``. Fields are
          separated by commas, semicolons, tabs or blanks, which is detected; blanks around fields
          are removed; empty fields, ``?``, ``NA`` and the like are missing values;
        - a ``.parquet`` or ``.pq`` file;
        - a ``.npz`` file with the arrays ``X`` (N, ...), flattened to (N, I), and ``y`` (N,);
        - a folder with IDX files named as those of MNIST: ``train-images-idx3-ubyte``,
          ``train-labels-idx1-ubyte``, and ``t10k-...`` for the test set, perhaps followed by
          ``.gz``. uint8 pixels become float32 numbers in [0, 1].
    target : str, int or None, default=-1
        The target column of a table by name or index, the last by default; None takes all columns
        as features. Sources other than tables define their own target.
    header : bool or None, default=None
        Whether the first line of a text file names the columns; None guesses it.
    drop : iterable of str, default=()
        Names or indices of columns of a table to drop.
    text : iterable of str, default=()
        Names of columns of a text file to read as text even if they hold numbers.
    needed, optional : iterable of str, default=()
        Names of the columns to keep, such as a model's features (needed) and its target
        (optional). If a table has all the needed ones, all columns but these are dropped before
        they are checked.

    Returns
    -------
    Dataset
        Rows in the order of the source.

    Raises
    ------
    ValueError
        If an argument has the wrong type.
    DataError
        If the file is missing, empty, damaged or of an unknown kind, if a line has too many or
        too few fields, or if a number is infinite.
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
    path = check_source(source)
    drop, text = _check_names("drop", drop), _check_names("text", text)
    required = set(_check_names("needed", needed))
    others = set(_check_names("optional", optional))
    header = None if header is None else check_flag("header", header)
    if not isinstance(target, (str, numbers.Integral, type(None))) or isinstance(target, bool):
        raise ValueError(f"target must be a name, an index or None, got {shown(target)}")
    if isinstance(source, str) and source in BUNDLED:
        data = _load_bundled(source)
    elif not path.exists():
        names = ", ".join(BUNDLED)
        name = " ".join(str(source).split())
        raise DataError(f"{name}: no such file or folder, nor a bundled set ({names})")
    elif path.is_dir():
        data = load_idx_folder(path)
    else:
        suffix = Path(path.stem if path.suffix == ".gz" else path.name).suffix.lower()
        if suffix in TEXT_SUFFIXES:
            frame, has_header = read_text(path, header, text)
            frame = select_columns(frame, required, others)
            return from_frame(
                path, frame, has_header=has_header, target=target, drop=drop, text=text
            )
        if suffix in PARQUET_SUFFIXES:
            frame = select_columns(read_parquet(path), required, others)
            # A Parquet file stores types: its text stays text.
            text = list(frame.columns)
            return from_frame(path, frame, has_header=True, target=target, drop=drop, text=text)
        if suffix != ".npz":
            allowed = ", ".join(sorted(TEXT_SUFFIXES | PARQUET_SUFFIXES | {".npz"}))
            raise DataError(f"{path}: unknown kind of file {suffix!r}, allowed are {allowed}")
        data = load_npz(path)
    if target not in (None, -1, "-1", data.target_name):
        raise UnknownColumnError(
            f"target {shown(target)} cannot be chosen: {source} is not a table, "
            f"its target is {data.target_name!r}"
        )
    if drop:
        raise UnknownColumnError(f"drop {drop[0]!r} is not possible: {source} is not a table")
    return data


def _check_names(argument: str, names: Iterable[str]) -> list[str]:
    """Return names of columns as a list, or raise ValueError."""
    try:
        found = None if isinstance(names, (str, bytes)) else list(names)
    except TypeError:
        found = None
    if found is None or not all(isinstance(name, (str, numbers.Integral)) for name in found):
        raise ValueError(f"{argument} must be a list of names of columns, got {shown(names)}")
    return found


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
