"""Turn a table into arrays that a network can learn from, and its outputs back into labels.

Numbers are standardised, text is one-hot encoded, missing values are filled in, all by
scikit-learn's transformers. What they learnt is saved as JSON and tensors, never as a pickle;
loading makes new transformers of it.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastnn.errors import DataError, ModelFileError, reason, require, shown
from fastnn.files.model_file import parse_json
from fastnn.validation import as_array, check_dtype, check_finite

__all__ = ["TableEncoder", "guess_task"]

MAX_CLASSES_GUESSED = 30
"""More distinct whole numbers than this are taken for a quantity, not for labels."""

MIN_ROWS_PER_CLASS_GUESSED = 5
"""Fewer rows a distinct whole number than this, and they are taken for a quantity."""

MAX_CATEGORIES = 1000
"""A text column with more distinct values is an error: each would become an input."""

METADATA_KEY = "fastnn.table"
"""The entry of a model file's metadata that holds a `TableEncoder`."""

# A text column with at least so many distinct values, and so large a share of numbers among them,
# is a numeric one with a mistyped value.
_MIN_DISTINCT_MISTYPED = 10
_MIN_NUMBERS_MISTYPED = 0.9


def guess_task(y: np.ndarray) -> str:
    """Guess what a target is for.

    Parameters
    ----------
    y : ndarray of shape (N,)
        Numbers or text; NaN where missing.

    Returns
    -------
    str
        ``"classification"`` for text, and for whole numbers with few distinct values: at most 30,
        and at most a fifth of the rows. Else ``"regression"``.

    Examples
    --------
    >>> import numpy as np
    >>> guess_task(np.array(["yes", "no"], dtype=object))
    'classification'
    >>> guess_task(np.arange(10) % 2), guess_task(np.arange(10))
    ('classification', 'regression')
    """
    y = as_array("y", y)
    if y.ndim != 1:
        raise ValueError(f"y must have 1 dimension, got shape {y.shape}")
    if y.dtype.kind not in "iuf":
        return "classification"
    known = y[~_is_missing(y)]
    n_distinct = len(np.unique(known))
    few = n_distinct <= min(MAX_CLASSES_GUESSED, len(known) / MIN_ROWS_PER_CLASS_GUESSED)
    return "classification" if few and np.all(known == np.floor(known)) else "regression"


@dataclasses.dataclass
class TableEncoder:
    """Encode features and target of a `fastnn.datasets.Dataset` for a network, and decode outputs.

    Numeric columns are standardised (mean 0, standard deviation 1) and their missing values become
    the mean. Text columns are one-hot encoded; a missing value is a category of its own, one not
    seen at training sets no input. Images are left as they are. Labels become 0 to K - 1 in sorted
    order; the target of a regression is standardised.

    Make one with `fit`, or with `unpack` from what `pack` returned.

    Attributes
    ----------
    task : str
        ``"classification"`` or ``"regression"``.
    feature_names : list of str
        The columns the network is fed with.
    has_header : bool
        Whether these names come from a header; else they only count the columns.
    categories : dict of str to list of str
        The values of each text column that have an input of their own.
    standardise : bool
        False for images, which are used as they are.
    target_name : str
        Name of the target column.
    target_index : int
        Where it stood among all columns.
    classes : list of int or list of str
        The label of each output; empty for regression.
    target_mean, target_scale : float
        How the target of a regression was standardised.
    """

    task: str
    feature_names: list[str]
    has_header: bool
    categories: dict[str, list[str]]
    standardise: bool
    target_name: str
    target_index: int
    classes: list[int] | list[str] = dataclasses.field(default_factory=list)
    target_mean: float = 0.0
    target_scale: float = 1.0
    _transformer: Any = dataclasses.field(default=None, repr=False, compare=False)

    @classmethod
    def fit(cls, data, rows: np.ndarray | None = None, task: str | None = None) -> "TableEncoder":
        """Learn the encoding from a data set.

        Parameters
        ----------
        data : fastnn.datasets.Dataset
            All its rows are checked, and all its labels get an output.
        rows : ndarray of int, optional
            The training rows, from which means, scales and categories are taken; all by default.
        task : {"classification", "regression"}, optional
            Guessed from the target by default.

        Returns
        -------
        TableEncoder
            The fitted encoder.

        Raises
        ------
        DataError
            If a column has no values; if a text column has only one value, or more than 1000, or
            is one of numbers but for some mistyped values; if the target is missing in some row,
            has only one value, or does not fit the task.

        Examples
        --------
        >>> from fastnn.datasets import load
        >>> iris = load("iris")
        >>> encoder = TableEncoder.fit(iris)
        >>> encoder.transform(iris).shape, encoder.encode_target(iris)[:3]
        ((150, 4), array([0, 0, 0]))
        """
        _check_data(data)
        if data.y is None:
            raise DataError(f"{data.name}: there is no target")
        known = isinstance(task, str) and task in ("classification", "regression")
        if task is not None and not known:
            raise ValueError(f"task must be 'classification' or 'regression', got {shown(task)}")
        rows = _check_row_numbers(rows, len(data.X))
        encoder = cls(
            task=task or guess_task(data.y),
            feature_names=list(data.feature_names),
            has_header=data.has_header,
            categories={name: [] for name in _checked_text_columns(data)},
            standardise=data.standardise,
            target_name=data.target_name,
            target_index=data.target_index,
        )
        y = encoder._known_target(data.y, data.name)
        distinct = np.unique(y)
        if len(distinct) == 1:
            raise DataError(
                f"{data.name}: target {data.target_name!r} has only one value, {distinct[0]!s}"
            )
        if encoder.task == "classification":
            if len(distinct) > len(y) / 2:
                raise DataError(
                    f"{data.name}: target {data.target_name!r} has {len(distinct)} different "
                    f"labels in {len(y)} rows: too many to learn"
                )
            encoder.classes = distinct.tolist()
        else:
            train = y if rows is None else y[rows]
            encoder.target_mean = float(train.mean())
            encoder.target_scale = float(train.std()) or 1.0
        if encoder.standardise:
            X = data.X if rows is None else _take_rows(data.X, rows)
            encoder._transformer = _new_transformer(encoder._numbers, encoder.categories)
            with np.errstate(invalid="ignore"):  # a column may be missing in all of `rows`
                encoder._transformer.fit(encoder._arrange(X, data.name))
            if encoder.categories:
                one_hot = encoder._transformer.named_transformers_["text"][-1]
                encoder.categories = {
                    name: values.tolist()
                    for name, values in zip(encoder.categories, one_hot.categories_, strict=True)
                }
        return encoder

    # Features

    @property
    def n_inputs(self) -> int:
        """The number of inputs that `transform` makes."""
        return len(self._numbers) + sum(map(len, self.categories.values()))

    @property
    def _numbers(self) -> list:
        """The numeric columns: by name, or by index where `_arrange` makes an array."""
        if not self.categories:
            return list(range(len(self.feature_names)))
        return [name for name in self.feature_names if name not in self.categories]

    @property
    def n_outputs(self) -> int:
        """The number of outputs a network needs: one a class, or one."""
        return len(self.classes) or 1

    def transform(self, data, rows: np.ndarray | None = None, dtype="float32") -> np.ndarray:
        """Encode the features of a data set.

        Parameters
        ----------
        data : fastnn.datasets.Dataset
            Columns are found by name, or by position where one of the two tables had no header.
            Columns that are not needed are passed over.
        rows : ndarray of int, optional
            Which rows; all by default.
        dtype : {"float32", "float64"}
            Type of the result.

        Returns
        -------
        ndarray of shape (N, n_inputs)
            Numeric columns first, then the categories of the text columns.

        Raises
        ------
        DataError
            If a column is missing, or has text where there were numbers at training, or a number
            is too large for `dtype`.
        """
        dtype = check_dtype(dtype)
        X, _ = self._find(data)
        rows = _check_row_numbers(rows, len(X))
        X = self._arrange(X if rows is None else _take_rows(X, rows), data.name)
        if self.standardise:
            X = self._transformer.transform(X)
        with np.errstate(over="ignore"):
            X = np.ascontiguousarray(X, dtype=dtype)
        if not np.isfinite(X).all():
            raise DataError(f"{data.name}: some numbers are too large for {np.dtype(dtype)}")
        return X

    def _find(self, data) -> tuple[Any, np.ndarray | None]:
        """Return the features in the order of training, and the target or None."""
        _check_data(data)
        names, wanted = data.feature_names, self.feature_names
        absent = sorted(set(wanted) - set(names), key=wanted.index)
        both_have_headers = data.has_header and self.has_header
        # Without a header, a table with one column more than the features holds the target too.
        by_index = data.y is None and not both_have_headers and len(names) == len(wanted) + 1
        target = self.target_index if by_index else None
        if not absent:
            features = [names.index(name) for name in wanted]
            if self.target_name in names:
                target = names.index(self.target_name)
        elif both_have_headers:
            more = f" and {len(absent) - 3} more" if len(absent) > 3 else ""
            listed = ", ".join(map(repr, absent[:3]))
            raise DataError(f"{data.name}: there is no column {listed}{more}")
        elif by_index or len(names) == len(wanted):
            features = [i for i in range(len(names)) if i != target]
        else:
            raise DataError(
                f"{data.name}: there are {len(names)} columns, but {len(wanted)} features are "
                f"needed (and the target, if it is known)"
            )
        y = data.y
        if y is None and target is not None:
            y = data.X[:, target] if isinstance(data.X, np.ndarray) else data.X.iloc[:, target]
        return _take_columns(data.X, features), None if y is None else np.asarray(y)

    def _arrange(self, X, where: str):
        """Return a DataFrame if there are text columns, else an array; check the kinds of columns.

        X (N, I) has the features in the order of training.
        """
        if isinstance(X, np.ndarray) and not self.categories:
            return X
        pandas = require("pandas", "data")
        X = pandas.DataFrame(X)
        columns = {}
        for i, name in enumerate(self.feature_names):
            column = X.iloc[:, i]
            if name in self.categories:
                columns[name] = _as_text(column)
            elif column.dtype.kind in "iuf":
                columns[name] = column
            elif column.isna().all():
                columns[name] = column.astype("float64")
            else:
                example = next(value for value in column if isinstance(value, str))
                raise DataError(
                    f"{where}: column {name!r} has text, {example!r}, among its numbers"
                )
        X = pandas.DataFrame(columns)
        return X if self.categories else X.to_numpy()

    # The target

    def encode_target(self, data, rows: np.ndarray | None = None) -> np.ndarray | None:
        """Encode the target of a data set.

        Parameters
        ----------
        data : fastnn.datasets.Dataset
            As for `transform`.
        rows : ndarray of int, optional
            Which rows; all by default.

        Returns
        -------
        ndarray of shape (N,) or None
            Classes 0 to K - 1 (int64), or standardised values (float64). None if the data set has
            no target, or if it is missing in all rows. UCI Adult's test file writes its labels
            with a full stop, ``<=50K.``: where the labels that were not there at training are
            all known without one, they are taken for these.

        Raises
        ------
        DataError
            If the target is missing in some rows, or if there is a label that was not there at
            training.
        """
        _, y = self._find(data)
        rows = _check_row_numbers(rows, len(data.X))
        if y is None or _is_missing(y).all():
            return None
        y = self._known_target(y, data.name)
        y = y if rows is None else y[rows]
        if self.task == "regression":
            return (y - self.target_mean) / self.target_scale
        codes = {label: code for code, label in enumerate(self.classes)}
        as_trained = str if isinstance(self.classes[0], str) else lambda label: label
        distinct, inverse = np.unique(y, return_inverse=True)
        labels = [as_trained(label) for label in distinct.tolist()]
        unseen = [label for label in labels if label not in codes]
        bare = {label: str(label).removesuffix(".") for label in unseen}
        if not all(label in codes for label in bare.values()):
            known = ", ".join(map(str, self.classes[:5])) + (", ..." if self.n_outputs > 5 else "")
            raise DataError(
                f"{data.name}: target {self.target_name!r} has the label {unseen[0]!r}, which was "
                f"not there at training ({known})"
            )
        return np.array([codes[bare.get(label, label)] for label in labels])[inverse]

    def decode(self, out: np.ndarray) -> np.ndarray:
        """Turn outputs of the network into labels, or values in the unit of the target.

        Parameters
        ----------
        out : ndarray of shape (N, n_outputs)
            What the last layer returned.

        Returns
        -------
        ndarray of shape (N,)
            Labels (int64, or object for text), or values (float64).
        """
        out = as_array("out", out)
        if out.ndim != 2 or out.shape[1] != self.n_outputs or out.dtype.kind not in "biuf":
            raise ValueError(
                f"out must be numbers of the shape (N, {self.n_outputs}), got shape {out.shape} "
                f"and dtype {out.dtype}"
            )
        if self.task == "regression":
            return out[:, 0].astype(np.float64) * self.target_scale + self.target_mean
        dtype = object if isinstance(self.classes[0], str) else np.int64
        return np.array(self.classes, dtype=dtype)[out.argmax(axis=1)]

    def _known_target(self, y: np.ndarray, where: str) -> np.ndarray:
        """Return the target as labels (int64, or object for text) or as float64; none missing."""
        where = f"{where}: target {self.target_name!r}"
        n_missing = int(_is_missing(y).sum())
        if n_missing:
            raise DataError(
                f"{where} is missing in {n_missing} of {len(y)} rows: remove these rows"
            )
        if self.task == "regression":
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

    # Storage

    def pack(self) -> tuple[dict[str, str], dict[str, np.ndarray]]:
        """Return all that `unpack` needs.

        Returns
        -------
        metadata : dict of str to str
            One entry, JSON.
        tensors : dict of str to ndarray
            The means and scales of the numeric columns (float64).

        Examples
        --------
        >>> from fastnn.datasets import load
        >>> wine = load("wine")
        >>> encoder = TableEncoder.fit(wine)
        >>> again = TableEncoder.unpack(*encoder.pack())
        >>> bool((again.transform(wine) == encoder.transform(wine)).all())
        True
        """
        facts = dataclasses.asdict(dataclasses.replace(self, _transformer=None))
        del facts["_transformer"]
        tensors = {}
        if self._transformer is not None and "numbers" in self._transformer.named_transformers_:
            scaler = self._transformer.named_transformers_["numbers"][0]
            tensors = {"table.mean": scaler.mean_, "table.scale": scaler.scale_}
        return {METADATA_KEY: json.dumps(facts)}, tensors

    @classmethod
    def unpack(
        cls, metadata: Mapping[str, str], tensors: Mapping[str, np.ndarray]
    ) -> "TableEncoder":
        """Make the encoder again from what `pack` returned.

        Parameters
        ----------
        metadata : mapping of str to str
            May hold more than what `pack` returned.
        tensors : mapping of str to ndarray
            The same.

        Returns
        -------
        TableEncoder
            It encodes and decodes as the packed one did.

        Raises
        ------
        ModelFileError
            If there is no encoder in the metadata, or if it is damaged.
        """
        if METADATA_KEY not in metadata:
            raise ModelFileError("the model was saved without the encoding of its data")
        try:
            encoder = cls(**parse_json(metadata[METADATA_KEY]))
            encoder._check_facts()
            if encoder.standardise:
                encoder._restore_transformer(tensors)
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise ModelFileError(
                f"the encoding of the data in the model is damaged ({reason(error)})"
            ) from error
        return encoder

    def _check_facts(self) -> None:
        """Raise ValueError if an attribute has a type or value that `fit` does not give it."""
        names, categories, classes = self.feature_names, self.categories, self.classes
        a_class = str if isinstance(classes, list) and _all_of(str, classes) else int
        right = {
            "task": self.task in ("classification", "regression"),
            "feature_names": isinstance(names, list) and names and _all_of(str, names),
            "has_header": isinstance(self.has_header, bool),
            "categories": isinstance(categories, dict)
            and all(
                isinstance(values, list) and values and _all_of(str, values) and _no_twins(values)
                for values in categories.values()
            ),
            "standardise": isinstance(self.standardise, bool),
            "target_name": isinstance(self.target_name, str | None),
            "target_index": self.target_index is None or type(self.target_index) is int,
            "classes": isinstance(classes, list)
            and _all_of(a_class, classes)
            and _no_twins(classes)
            and all(isinstance(label, str) or -(2**63) <= label < 2**63 for label in classes),
            "target_mean": type(self.target_mean) is float,
            "target_scale": type(self.target_scale) is float and self.target_scale > 0,
            "_transformer": self._transformer is None,
        }
        for name, is_right in right.items():
            if not is_right:
                raise ValueError(f"{name} cannot be {getattr(self, name)!r}")
        if (self.task == "classification") != (len(classes) > 1):
            raise ValueError(f"{len(classes)} classes are not right for a {self.task}")
        if not categories.keys() <= set(names):
            raise ValueError("categories must be of columns that are there")
        if categories and not (self.standardise and _no_twins(names)):
            raise ValueError("columns with text must have names of their own, and be standardised")

    def _restore_transformer(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Fit new transformers to one row, which sets all but what is then put in their place.

        Only public attributes are set, so this holds for other versions of scikit-learn too.
        """
        row = {
            name: [self.categories[name][0] if name in self.categories else 0.0]
            for name in self.feature_names
        }
        if self.categories:
            table = require("pandas", "data").DataFrame(row)
        else:
            table = np.array(list(row.values())).T
        self._transformer = _new_transformer(self._numbers, self.categories).fit(table)
        n_numbers = len(self._numbers)
        if n_numbers:
            scaler = self._transformer.named_transformers_["numbers"][0]
            mean, scale = (np.asarray(tensors[f"table.{name}"]) for name in ("mean", "scale"))
            if mean.shape != (n_numbers,) or scale.shape != (n_numbers,):
                raise ValueError("a mean and a scale are needed for each column")
            if mean.dtype != np.float64 or scale.dtype != np.float64:
                raise ValueError("means and scales must be float64")
            known = ~np.isnan(mean)  # not those that were missing in all rows
            if np.isnan(scale[known]).any() or not np.isnan(scale[~known]).all():
                raise ValueError("table.mean and table.scale are not of the same columns")
            check_finite("table.mean", mean[known])
            check_finite("table.scale", scale[known])
            if (scale[known] <= 0).any():
                raise ValueError("table.scale must be > 0")
            scaler.mean_, scaler.scale_ = mean, scale


def _all_of(kind: type, values: list) -> bool:
    """Return whether all values are exactly of one type: True is no integer."""
    return all(type(value) is kind for value in values)


def _no_twins(values: list) -> bool:
    """Return whether all values differ."""
    return len(set(values)) == len(values)


def _new_transformer(numbers: list, categories: dict[str, list[str]]):
    """Return an unfitted transformer for the columns `numbers` and the text columns.

    The values of text columns are found by fitting where their lists are empty.
    """
    impute = require("sklearn.impute", "sklearn")
    preprocessing = require("sklearn.preprocessing", "sklearn")
    make_pipeline = require("sklearn.pipeline", "sklearn").make_pipeline
    # Scaled first, so that 0 is the mean.
    for_numbers = make_pipeline(
        preprocessing.StandardScaler(),
        impute.SimpleImputer(strategy="constant", fill_value=0.0, keep_empty_features=True),
    )
    known = [np.array(values, dtype=object) for values in categories.values()]
    for_text = make_pipeline(
        impute.SimpleImputer(strategy="constant", fill_value="missing", keep_empty_features=True),
        preprocessing.OneHotEncoder(
            categories=known if all(map(len, known)) else "auto",
            handle_unknown="ignore",
            sparse_output=False,
            dtype=np.float32,
        ),
    )
    parts = [("numbers", for_numbers, numbers), ("text", for_text, list(categories))]
    return require("sklearn.compose", "sklearn").ColumnTransformer([p for p in parts if p[2]])


def _checked_text_columns(data) -> list[str]:
    """Return the names of the text columns; refuse columns that nothing can be learnt from.

    A numeric column with one value is no error: images have many, and it does no harm.
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
                f"{where} has text, {_odd_one(column)!r}, among its numbers: correct it, or drop "
                f"the column"
            )
        n_distinct = column.nunique(dropna=False)
        if n_distinct == 1:
            raise DataError(f"{where} has only one value, {column.iloc[0]!r}: drop the column")
        if n_distinct > MAX_CATEGORIES:
            raise DataError(
                f"{where} is text with {n_distinct} different values, such as "
                f"{_odd_one(column)!r}, at most {MAX_CATEGORIES} are allowed: drop the column"
            )
        names.append(name)
    return names


def _is_mistyped(column) -> bool:
    """Whether a text column would be numeric but for a few values."""
    known = column[column.notna()]
    share = require("pandas", "data").to_numeric(known, errors="coerce").notna().mean()
    return _MIN_NUMBERS_MISTYPED <= share < 1 and known.nunique() >= _MIN_DISTINCT_MISTYPED


def _odd_one(column) -> str:
    """Return a value that is no number, as it is the likely reason why a column is text."""
    pandas = require("pandas", "data")
    known = column[column.notna()]
    odd = known[pandas.to_numeric(known, errors="coerce").isna()]
    return odd.iloc[0] if len(odd) else known.iloc[0]


def _as_text(column):
    """Return a column as text; whole numbers without a decimal point."""
    if column.dtype.kind == "f" and np.all(column.isna() | (column == np.floor(column))):
        text = column.map(lambda value: str(int(value)), na_action="ignore")
    else:
        text = column.map(str, na_action="ignore")
    return text.astype(object)


def _is_missing(y: np.ndarray) -> np.ndarray:
    return y != y  # of all values, only NaN


def _check_data(data):
    if not hasattr(data, "feature_names"):
        raise DataError(f"data must be a fastnn.datasets.Dataset, got {shown(data)}")


def _check_row_numbers(rows, n):
    """Return numbers of rows as an array of integers, or None for None."""
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


def _take_columns(X, indices: list[int]):
    if indices == list(range(X.shape[1])):
        return X
    return X[:, indices] if isinstance(X, np.ndarray) else X.iloc[:, indices]


def _take_rows(X, rows: np.ndarray):
    return X[rows] if isinstance(X, np.ndarray) else X.iloc[rows]
