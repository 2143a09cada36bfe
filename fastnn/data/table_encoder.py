"""`TableEncoder`: turn a table into arrays that a network is trained on, and outputs into labels.

Numbers are standardised, text is one-hot encoded and missing values are imputed, all by
scikit-learn's transformers. The fitted state is saved as JSON and tensors, never as a pickle;
loading builds new transformers from it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from fastnn.data.columns import (
    as_text,
    check_rows,
    known_target,
    take_column,
    take_columns,
    take_rows,
    text_columns,
)
from fastnn.data.dataset import Dataset, Features, guess_task, is_missing
from fastnn.data.transformers import new_transformer, numeric_columns, restore_transformer
from fastnn.errors import DataError, ModelFileError, reason, require, shown
from fastnn.files.model_file import parse_json
from fastnn.validation import as_array, check_dtype

__all__ = ["METADATA_KEY", "TableEncoder"]

METADATA_KEY = "fastnn.table"
"""The entry of a model file's metadata that holds a `TableEncoder`."""


@dataclasses.dataclass
class TableEncoder:
    """Encoder of the features and target of a `fastnn.datasets.Dataset`, and decoder of outputs.

    Numeric columns are standardised (mean 0, standard deviation 1), and their missing values
    become the mean. Text columns are one-hot encoded: a missing value is a category of its own; a
    value that was not in the training rows sets no input. Images are left as they are. Labels
    become 0 to K - 1 in sorted order; the target of a regression is standardised.

    Create one with `fit`, or with `unpack` from the result of `pack`.

    Attributes
    ----------
    task : {"classification", "regression"}
        What the network is trained for.
    feature_names : list of str
        Columns that are encoded as inputs.
    has_header : bool
        Whether these names come from a header; if False, they are made up from the indices.
    categories : dict of str to list of str
        Text column -> its values, each of which has an input of its own.
    standardise : bool
        False for images, which are used as they are.
    target_name : str or None
        Name of the target column.
    target_index : int or None
        Index of the target among all columns.
    classes : list of int or list of str, default=[]
        The label of each output; empty for a regression.
    target_mean, target_scale : float, default=0.0, 1.0
        Mean and standard deviation by which the target of a regression is standardised.

    Examples
    --------
    >>> from fastnn.data.table_encoder import TableEncoder
    >>> from fastnn.datasets import load
    >>> iris = load("iris")
    >>> encoder = TableEncoder.fit(iris)
    >>> encoder.n_inputs, encoder.n_outputs, encoder.classes[:2]
    (4, 3, ['setosa', 'versicolor'])
    """

    task: str
    feature_names: list[str]
    has_header: bool
    categories: dict[str, list[str]]
    standardise: bool
    target_name: str | None
    target_index: int | None
    classes: list[int] | list[str] = dataclasses.field(default_factory=list)
    target_mean: float = 0.0
    target_scale: float = 1.0
    _transformer: Any = dataclasses.field(default=None, repr=False, compare=False)

    @classmethod
    def fit(cls, data: Dataset, rows: ArrayLike | None = None, task: str | None = None) -> Self:
        """Fit an encoder to a data set.

        Parameters
        ----------
        data : fastnn.datasets.Dataset
            All its rows are checked, and all its labels get an output.
        rows : ndarray of int of shape (M,) or None, default=None
            Indices of the training rows, from which means, scales and categories are computed;
            None takes all rows.
        task : {"classification", "regression"} or None, default=None
            None guesses it from the target.

        Returns
        -------
        TableEncoder
            The fitted encoder.

        Raises
        ------
        DataError
            If a column has no values, or numbers whose variance overflows; if a text column has
            only one value, or more than 1000, or seems to be a numeric column with mistyped values;
            if the target is missing in some row, has only one value, or does not fit the task.
        ValueError
            If `rows` or `task` is out of range.
        MissingExtraError
            If scikit-learn is not installed.

        Examples
        --------
        >>> from fastnn.data.table_encoder import TableEncoder
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
        chosen = check_rows(rows, len(data.X))
        encoder = cls(
            task=task or guess_task(data.y),
            feature_names=list(data.feature_names),
            has_header=data.has_header,
            categories={name: [] for name in text_columns(data)},
            standardise=data.standardise,
            target_name=data.target_name,
            target_index=data.target_index,
        )
        y = known_target(data.y, encoder.task, encoder._target_of(data))
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
            train = y if chosen is None else y[chosen]
            with np.errstate(over="ignore", invalid="ignore"):
                encoder.target_mean = float(train.mean())
                encoder.target_scale = float(train.std()) or 1.0
            if not np.isfinite([encoder.target_mean, encoder.target_scale]).all():
                raise DataError(_too_large(encoder._target_of(data), train))
        if encoder.standardise:
            X = take_rows(data.X, chosen)
            encoder._transformer = new_transformer(encoder._numbers, encoder.categories)
            with np.errstate(over="ignore", invalid="ignore"):  # a column may have no values
                encoder._transformer.fit(encoder._arrange(X, data.name))
            encoder._check_scales(X, data.name)
            if encoder.categories:
                one_hot = encoder._transformer.named_transformers_["text"][-1]
                encoder.categories = {
                    name: values.tolist()
                    for name, values in zip(encoder.categories, one_hot.categories_, strict=True)
                }
        return encoder

    def _check_scales(self, X: Features, where: str) -> None:
        """Raise `DataError` if a mean or a standard deviation of the training rows overflowed."""
        if not self._numbers:
            return
        scaler = self._transformer.named_transformers_["numbers"][0]
        overflowed = ~np.isfinite(scaler.mean_) | ~np.isfinite(scaler.var_)
        for k in np.flatnonzero(overflowed):
            index = self._indices_of_numbers[k]
            column = take_column(X, index).astype(np.float64)
            if not np.isnan(column).all():
                raise DataError(
                    _too_large(f"{where}: column {self.feature_names[index]!r}", column)
                )

    @property
    def _indices_of_numbers(self) -> list[int]:
        """Numeric columns by their indices in `feature_names`, in the order of the inputs."""
        return [i for i, name in enumerate(self.feature_names) if name not in self.categories]

    # Features

    @property
    def n_inputs(self) -> int:
        """Number of inputs that `transform` returns."""
        return len(self._numbers) + sum(map(len, self.categories.values()))

    @property
    def _numbers(self) -> list[int] | list[str]:
        """Numeric columns: by name, or by index if `_arrange` returns an array."""
        return numeric_columns(self.feature_names, self.categories)

    @property
    def n_outputs(self) -> int:
        """Number of outputs the network needs: one for each class, or one for a regression."""
        return len(self.classes) or 1

    def transform(
        self, data: Dataset, rows: ArrayLike | None = None, dtype: DTypeLike = "float32"
    ) -> NDArray[Any]:
        """Encode the features of a data set.

        Parameters
        ----------
        data : fastnn.datasets.Dataset
            Columns are found by name, or by position if this table or the one of `fit` had no
            header. Other columns are ignored.
        rows : ndarray of int of shape (M,) or None, default=None
            Indices of the rows to encode; None encodes all.
        dtype : {"float32", "float64"}, default="float32"
            Type of the result.

        Returns
        -------
        ndarray of shape (N, n_inputs)
            Numeric columns first, then the categories of the text columns.

        Raises
        ------
        DataError
            If a column is missing, has text although it was numeric in the training rows, or has
            a number that is too large for `dtype`.
        ValueError
            If `rows` or `dtype` is out of range.

        Examples
        --------
        >>> from fastnn.data.table_encoder import TableEncoder
        >>> from fastnn.datasets import load
        >>> iris = load("iris")
        >>> X = TableEncoder.fit(iris).transform(iris, rows=[0, 1])
        >>> X.shape, X.dtype.name
        ((2, 4), 'float32')
        """
        dtype = check_dtype(dtype)
        features, _ = self._find(data)
        chosen = check_rows(rows, len(features))
        X = self._arrange(take_rows(features, chosen), data.name)
        if self.standardise:
            X = self._transformer.transform(X)
        with np.errstate(over="ignore"):
            X = np.ascontiguousarray(X, dtype=dtype)
        self._check_encoded(X, data.name)
        return X

    def _check_encoded(self, X: NDArray[Any], where: str) -> None:
        """Raise `DataError` with the first column whose inputs overflowed in the type of X."""
        finite = np.isfinite(X)
        if finite.all():
            return
        k = int(np.argmin(finite.all(axis=0)))  # of the numeric inputs, which are the first
        name, n_rows = self.feature_names[self._indices_of_numbers[k]], len(X)
        raise DataError(
            f"{where}: column {name!r} has values too large for {X.dtype}, in "
            f"{n_rows - int(finite[:, k].sum())} of {n_rows} rows"
        )

    def _find(self, data: Dataset) -> tuple[Features, NDArray[Any] | None]:
        """Return the features in the order of `feature_names`, and the target or None."""
        _check_data(data)
        names, wanted = data.feature_names, self.feature_names
        absent = sorted(set(wanted) - set(names), key=wanted.index)
        both_have_headers = data.has_header and self.has_header
        # Without a header, a table with one column more than the features includes the target.
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
            y = take_column(data.X, target)
        return take_columns(data.X, features), None if y is None else np.asarray(y)

    def _arrange(self, X: Features, where: str) -> Features:
        """Return features as a DataFrame if there are text columns, else as an array.

        The columns of X (N, I) are in the order of `feature_names`. Raises `DataError` if a
        numeric one has text.
        """
        if isinstance(X, np.ndarray) and not self.categories:
            return X
        pandas = require("pandas", "data")
        X = pandas.DataFrame(X)
        columns = {}
        for i, name in enumerate(self.feature_names):
            column = X.iloc[:, i]
            if name in self.categories:
                columns[name] = as_text(column)
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

    def encode_target(self, data: Dataset, rows: ArrayLike | None = None) -> NDArray[Any] | None:
        """Encode the target of a data set.

        Parameters
        ----------
        data : fastnn.datasets.Dataset
            As for `transform`.
        rows : ndarray of int of shape (M,) or None, default=None
            Indices of the rows to encode; None encodes all.

        Returns
        -------
        ndarray of shape (N,) or None
            Classes 0 to K - 1 (int64), or standardised values (float64). None if the data set has
            no target, or if it is missing in all rows. If each unknown label is a known one
            followed by a full stop, such as ``<=50K.`` in the test file of UCI Adult, it is
            encoded as that one.

        Raises
        ------
        DataError
            If the target is missing in some rows, or has a label that is not in `classes`.
        ValueError
            If `rows` is out of range.

        Examples
        --------
        >>> from fastnn.data.table_encoder import TableEncoder
        >>> from fastnn.datasets import load
        >>> iris = load("iris")
        >>> TableEncoder.fit(iris).encode_target(iris, rows=[0, 50, 100])
        array([0, 1, 2])
        """
        _, y = self._find(data)
        chosen = check_rows(rows, len(data.X))
        if y is None or is_missing(y).all():
            return None
        y = known_target(y, self.task, self._target_of(data))
        y = y if chosen is None else y[chosen]
        if self.task == "regression":
            return (y - self.target_mean) / self.target_scale
        codes = {label: code for code, label in enumerate(self.classes)}
        distinct, inverse = np.unique(y, return_inverse=True)
        labels = distinct.tolist()
        if isinstance(self.classes[0], str):
            labels = list(map(str, labels))
        unseen = [label for label in labels if label not in codes]
        bare = {label: str(label).removesuffix(".") for label in unseen}
        if not all(label in codes for label in bare.values()):
            known = ", ".join(map(str, self.classes[:5])) + (", ..." if self.n_outputs > 5 else "")
            raise DataError(
                f"{data.name}: target {self.target_name!r} has the label {unseen[0]!r}, which was "
                f"not there at training ({known})"
            )
        return np.array([codes[bare.get(label, label)] for label in labels])[inverse]

    def decode(self, out: ArrayLike) -> NDArray[Any]:
        """Decode outputs of the network: labels, or values in the unit of the target.

        Parameters
        ----------
        out : ndarray of shape (N, n_outputs)
            Outputs of the last layer.

        Returns
        -------
        ndarray of shape (N,)
            Labels (int64, or object for text), or values (float64).

        Raises
        ------
        ValueError
            If `out` is not numeric or has another shape.

        Examples
        --------
        >>> import numpy as np
        >>> from fastnn.data.table_encoder import TableEncoder
        >>> from fastnn.datasets import load
        >>> TableEncoder.fit(load("iris")).decode(np.eye(3)).tolist()
        ['setosa', 'versicolor', 'virginica']
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

    def _target_of(self, data: Dataset) -> str:
        """Return how error messages name the target of a data set."""
        return f"{data.name}: target {self.target_name!r}"

    # Storage

    def pack(self) -> tuple[dict[str, str], dict[str, NDArray[np.float64]]]:
        """Return the fitted state, in the form in which a model file stores it.

        Returns
        -------
        metadata : dict of str to str
            One entry, JSON.
        tensors : dict of str to ndarray
            The means and scales of the numeric columns (float64).

        Examples
        --------
        >>> from fastnn.data.table_encoder import TableEncoder
        >>> from fastnn.datasets import load
        >>> wine = load("wine")
        >>> encoder = TableEncoder.fit(wine)
        >>> again = TableEncoder.unpack(*encoder.pack())
        >>> bool((again.transform(wine) == encoder.transform(wine)).all())
        True
        """
        facts = dataclasses.asdict(dataclasses.replace(self, _transformer=None))
        del facts["_transformer"]
        tensors: dict[str, NDArray[np.float64]] = {}
        if self._transformer is not None and "numbers" in self._transformer.named_transformers_:
            scaler = self._transformer.named_transformers_["numbers"][0]
            tensors = {"table.mean": scaler.mean_, "table.scale": scaler.scale_}
        return {METADATA_KEY: json.dumps(facts)}, tensors

    @classmethod
    def unpack(cls, metadata: Mapping[str, str], tensors: Mapping[str, NDArray[Any]]) -> Self:
        """Restore an encoder from the result of `pack`.

        Parameters
        ----------
        metadata : mapping of str to str
            Metadata of a model file; other entries are ignored.
        tensors : mapping of str to ndarray
            Tensors of a model file; others are ignored.

        Returns
        -------
        TableEncoder
            An encoder equal to the packed one.

        Raises
        ------
        ModelFileError
            If there is no encoder in the metadata, or if it is damaged.
        MissingExtraError
            If scikit-learn is not installed.

        Examples
        --------
        >>> from fastnn.data.table_encoder import TableEncoder
        >>> from fastnn.datasets import load
        >>> encoder = TableEncoder.fit(load("wine"))
        >>> TableEncoder.unpack(*encoder.pack()) == encoder
        True
        """
        if METADATA_KEY not in metadata:
            raise ModelFileError("the model was saved without the encoding of its data")
        try:
            encoder = cls(**parse_json(metadata[METADATA_KEY]))
            encoder._check_facts()
            if encoder.standardise:
                encoder._transformer = restore_transformer(
                    encoder.feature_names, encoder.categories, tensors
                )
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise ModelFileError(
                f"the encoding of the data in the model is damaged ({reason(error)})"
            ) from error
        return encoder

    def _check_facts(self) -> None:
        """Raise ValueError if an attribute has a type or value that `fit` never sets."""
        names, categories, classes = self.feature_names, self.categories, self.classes
        a_class = str if isinstance(classes, list) and _all_of(str, classes) else int
        right = {
            "task": self.task in ("classification", "regression"),
            "feature_names": isinstance(names, list) and names and _all_of(str, names),
            "has_header": isinstance(self.has_header, bool),
            "categories": isinstance(categories, dict)
            and all(
                isinstance(values, list) and values and _all_of(str, values) and _distinct(values)
                for values in categories.values()
            ),
            "standardise": isinstance(self.standardise, bool),
            "target_name": isinstance(self.target_name, str | None),
            "target_index": self.target_index is None or type(self.target_index) is int,
            "classes": isinstance(classes, list)
            and _all_of(a_class, classes)
            and _distinct(classes)
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
        if categories and not (self.standardise and _distinct(names)):
            raise ValueError("columns with text must have names of their own, and be standardised")


def _all_of(kind: type, values: list[Any]) -> bool:
    """Return whether all values are exactly of one type: a bool is not an int here."""
    return all(type(value) is kind for value in values)


def _distinct(values: list[Any]) -> bool:
    """Return whether all values are different."""
    return len(set(values)) == len(values)


def _too_large(where: str, values: NDArray[np.floating]) -> str:
    """Return the message for a column of values whose mean or variance overflows."""
    largest = values[np.nanargmax(np.abs(values))]
    return f"{where} has values too large to be standardised, such as {largest:g}"


def _check_data(data: object) -> None:
    """Raise `DataError` if an argument is not a data set."""
    if not hasattr(data, "feature_names"):
        raise DataError(f"data must be a fastnn.datasets.Dataset, got {shown(data)}")
