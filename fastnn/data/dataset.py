"""`Dataset`, which every reader returns, and the errors that readers share."""

from __future__ import annotations

import dataclasses
import os
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn.errors import DataError, shown
from fastnn.validation import as_array

if TYPE_CHECKING:
    import pandas

__all__ = ["Dataset", "UnknownColumnError", "guess_task", "source_name"]

Features: TypeAlias = "NDArray[Any] | pandas.DataFrame"
"""Features of N samples: an array of shape (N, I), or a table with one column per feature."""

MAX_CLASSES_GUESSED = 30
"""A target with more distinct whole numbers than this is guessed to be a quantity, not labels."""

MIN_ROWS_PER_CLASS_GUESSED = 5
"""A target with fewer rows per distinct whole number is guessed to be a quantity, not labels."""

UNREADABLE = (OSError, EOFError, ValueError, zlib.error, zipfile.BadZipFile)
"""The exceptions that readers raise for a file that is damaged or has another format."""


class UnknownColumnError(DataError):
    """A column that was asked for, by name or by index, is not in the data set."""


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Features and, if there is one, the target, as they were read: not yet scaled or encoded.

    Attributes
    ----------
    name : str
        Name of the file or folder without suffixes, or of the bundled set.
    X : ndarray of shape (N, I) or pandas.DataFrame
        The features. A DataFrame if they come from a table: its columns are numbers or text (dtype
        object), NaN where a value is missing.
    y : ndarray of shape (N,) or None
        The target: numbers, or text as dtype object.
    feature_names : list of str
        One name for each column of `X`; ``column_0``, ``column_1``, ... for a table without a
        header.
    target_name : str or None, default=None
        Name of the target column.
    target_index : int or None, default=None
        Index of the target among all columns of the table.
    has_header : bool, default=True
        Whether the names were read from the source; if False, they are made up from the indices.
    standardise : bool, default=True
        Whether features should be standardised before training. False for images, whose pixels
        are in [0, 1] and are used as they are.
    test : Dataset or None, default=None
        The test set, if the source has one.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.datasets import Dataset
    >>> data = Dataset("pairs", np.eye(2), np.array(["a", "b"], dtype=object), ["left", "right"])
    >>> len(data), data.task
    (2, 'classification')
    """

    name: str
    X: Features
    y: NDArray[Any] | None
    feature_names: list[str]
    target_name: str | None = None
    target_index: int | None = None
    has_header: bool = True
    standardise: bool = True
    test: Dataset | None = None

    def __len__(self) -> int:
        """Return the number of rows N."""
        return len(self.X)

    @property
    def task(self) -> str | None:
        """``"classification"`` or ``"regression"``, guessed from the target; None without one."""
        return None if self.y is None else guess_task(self.y)


def guess_task(y: ArrayLike) -> str:
    """Guess from a target whether the task is a classification or a regression.

    Parameters
    ----------
    y : ndarray of shape (N,)
        Numbers or text; NaN where a value is missing.

    Returns
    -------
    {"classification", "regression"}
        ``"classification"`` for text, and for whole numbers with few distinct values: at most 30,
        and at least 5 rows for each. ``"regression"`` for all other numbers.

    Raises
    ------
    ValueError
        If y is not one-dimensional.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.data.dataset import guess_task
    >>> guess_task(np.array(["yes", "no"], dtype=object))
    'classification'
    >>> guess_task(np.arange(10) % 2), guess_task(np.arange(10))
    ('classification', 'regression')
    """
    target = as_array("y", y)
    if target.ndim != 1:
        raise ValueError(f"y must have 1 dimension, got shape {target.shape}")
    if target.dtype.kind not in "iuf":
        return "classification"
    known = target[~is_missing(target)]
    n_distinct = len(np.unique(known))
    few = n_distinct <= min(MAX_CLASSES_GUESSED, len(known) / MIN_ROWS_PER_CLASS_GUESSED)
    return "classification" if few and np.all(known == np.floor(known)) else "regression"


def source_name(source: str | os.PathLike[str]) -> str:
    """Return the name of a data set: that of its file or folder, without suffixes.

    Parameters
    ----------
    source : str or path-like
        File, folder or name of a bundled set; it need not exist.

    Returns
    -------
    str
        Such as ``"adult"`` for ``data/adult.csv.gz``.

    Raises
    ------
    ValueError
        If the source is neither a str nor path-like.

    Examples
    --------
    >>> from fastnn.datasets import source_name
    >>> source_name("data/adult.csv.gz"), source_name("iris")
    ('adult', 'iris')
    """
    path = check_source(source)
    if path.is_dir():
        return path.absolute().name
    name = path.name.removesuffix(".gz")
    return name.rpartition(".")[0] or name


def check_source(source: object) -> Path:
    """Return a source as a path, or raise ValueError if it is neither a str nor path-like."""
    if not isinstance(source, (str, os.PathLike)):
        raise ValueError(f"source must be a str or a path, got {shown(source)}")
    return Path(source)


def is_missing(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Return a mask of the missing values: NaN, also among text."""
    return values != values  # NaN is the only value that differs from itself


def one_line(error: Exception) -> str:
    """Return the message of an exception on one line, or its type if it has no message."""
    return " ".join(str(error).split()) or type(error).__name__
