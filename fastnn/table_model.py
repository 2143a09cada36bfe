"""`TableModel`: a net with the encoding of its table, which predicts on frames."""

from __future__ import annotations

import dataclasses
import html
import json
import math
import os
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn.data.dataset import Dataset
from fastnn.data.frames import Frame, as_dataset
from fastnn.data.table_encoder import TableEncoder
from fastnn.errors import DataError, ModelFileError, reason, require, shown
from fastnn.files.model_file import parse_json
from fastnn.network import Sequential
from fastnn.summary import Summary
from fastnn.validation import as_array

__all__ = ["TableModel", "can_score", "probabilities", "score_outputs"]

TRAINING_KEY = "fastnn.training"
"""The entry of a model file's metadata that describes the training, as JSON."""

# What a description of a training must hold, and what it may.
_NEEDED = {"data": (str,), "rows": (int,), "epochs": (int,)}
_ALLOWED: dict[str, tuple[type, ...]] = _NEEDED | {
    "interrupted": (bool,),
    "test_score": (float, int, type(None)),
}


class TableModel:
    """A trained net with all that turns a table into its inputs, and its outputs into predictions.

    ``fastnn train`` makes one, `fastnn.load` gives it back. Frames are prepared as the training
    rows were: columns are found by name, in any order, and others are ignored; numbers are
    standardised, missing ones become the mean; text is one-hot encoded, a missing value is a
    category of its own, and one that the training rows did not have sets no input.

    Parameters
    ----------
    net : Sequential
        With an output for each class, or one for a regression.
    encoder : fastnn.data.table_encoder.TableEncoder
        Fitted to the training rows.
    training : mapping of str to (str, int, float, bool or None), default=None
        What is known of the training: "data" (its name), "rows", "epochs", and perhaps
        "interrupted" and "test_score". None if nothing is known.

    Attributes
    ----------
    net : Sequential
        The net. Its inputs are what `encode` returns.
    encoder : fastnn.data.table_encoder.TableEncoder
        The encoder of the table.
    training : dict
        As given; empty for None.
    task : {"classification", "regression"}
        What the net was trained for.
    columns : list of str
        The columns that a frame must have.
    categories : dict of str to list of str
        The text columns among them, with the values that are known.
    target_name : str or None
        The column that is predicted.
    classes_ : ndarray of shape (K,)
        Labels, in the order of the columns of `predict_proba`. A regression has none.
    feature_names_in_, n_features_in_ : ndarray of str, int
        `columns`, and how many, as scikit-learn names them.

    Raises
    ------
    ValueError
        If the encoder does not fit the net, or `training` holds something else.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import fastnn
    >>> from fastnn import Affine, Sequential, TableModel
    >>> from fastnn.data.table_encoder import TableEncoder
    >>> iris = fastnn.datasets.load("iris")
    >>> encoder = TableEncoder.fit(iris)
    >>> net = Sequential([Affine(4, 3)], seed=0)
    >>> X, y = encoder.transform(iris), encoder.encode_target(iris)
    >>> history = net.fit(X, y, optimizer=fastnn.Adam(0.05), epochs=30)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "iris.safetensors"
    ...     TableModel(net, encoder).save(path)
    ...     model = fastnn.load(path)
    >>> model.columns[0], model.classes_.tolist()
    ('sepal length (cm)', ['setosa', 'versicolor', 'virginica'])
    >>> flower = dict(zip(model.columns, [[5.1], [3.5], [1.4], [0.2]]))
    >>> model.predict(flower).tolist(), model.predict_proba(flower).shape
    (['setosa'], (1, 3))
    """

    def __init__(
        self, net: Sequential, encoder: TableEncoder, training: Mapping[str, Any] | None = None
    ) -> None:
        if not isinstance(net, Sequential):
            raise ValueError(f"net must be a Sequential, got {shown(net)}")
        if not isinstance(encoder, TableEncoder):
            raise ValueError(f"encoder must be a TableEncoder, got {shown(encoder)}")
        if (encoder.n_inputs, encoder.n_outputs) != (net.n_inputs, net.n_outputs):
            raise ValueError("encoder: the encoding of the data does not fit the network")
        self.net, self.encoder = net, encoder
        self.training = _check_training(training)

    def __repr__(self) -> str:
        return f"<TableModel: {self._description()}>"

    def _repr_html_(self) -> str:
        """Return the description and the table of the layers, which notebooks show."""
        return f"<p>{html.escape(self._description())}</p>{self.net._repr_html_()}"

    def _description(self) -> str:
        kind = f", {self.encoder.n_outputs} classes" if self.encoder.classes else ""
        return (
            f"{self.task} of {self.target_name!r}{kind}, from {len(self.columns)} columns that "
            f"make {self.net.n_inputs} inputs"
        )

    def summary(self) -> Summary:
        """Return a table of the layers of the net, as `Sequential.summary` does."""
        return self.net.summary()

    @property
    def task(self) -> str:
        """What the net was trained for: "classification" or "regression"."""
        return self.encoder.task

    @property
    def columns(self) -> list[str]:
        """The columns that a frame must have."""
        return list(self.encoder.feature_names)

    @property
    def categories(self) -> dict[str, list[str]]:
        """The text columns, with the values that are known."""
        return {name: list(values) for name, values in self.encoder.categories.items()}

    @property
    def target_name(self) -> str | None:
        """The column that is predicted."""
        return self.encoder.target_name

    @property
    def classes_(self) -> NDArray[Any]:
        """The labels, in the order of the columns of `predict_proba`."""
        if not self.encoder.classes:
            raise AttributeError("a regression has no classes_")
        return self.encoder.decode(np.eye(self.encoder.n_outputs))

    @property
    def feature_names_in_(self) -> NDArray[Any]:
        """The columns that a frame must have, as scikit-learn names them."""
        return np.array(self.encoder.feature_names, dtype=object)

    @property
    def n_features_in_(self) -> int:
        """The number of columns that a frame must have."""
        return len(self.encoder.feature_names)

    # Predictions

    def encode(self, X: Frame) -> NDArray[np.floating]:
        """Return the inputs of the net for the rows of a frame.

        Parameters
        ----------
        X : frame of N rows
            A pandas DataFrame, a dict of columns, a table of polars or pyarrow, a
            `fastnn.datasets.Dataset`, or an array with the columns in the order of `columns`.

        Returns
        -------
        ndarray of shape (N, I)
            In the dtype of the net.

        Raises
        ------
        DataError
            If a column is missing, has text among its numbers, or infinite values.
        MissingExtraError
            If pandas is needed and not installed.

        Examples
        --------
        >>> from fastnn import Affine, Sequential, TableModel
        >>> from fastnn.data.table_encoder import TableEncoder
        >>> from fastnn.datasets import load
        >>> wine = load("wine")
        >>> model = TableModel(Sequential([Affine(13, 3)], seed=0), TableEncoder.fit(wine))
        >>> model.encode(wine).shape
        (178, 13)
        """
        data = self._read(X, with_target=False)
        return self.encoder.transform(data, dtype=self.net.dtype)

    def outputs(self, X: Frame) -> NDArray[np.floating]:
        """Return the outputs of the net: logits of the classes, or the standardised target.

        Parameters
        ----------
        X : frame of N rows
            As for `encode`.

        Returns
        -------
        ndarray of shape (N, O)
        """
        return self.net.predict(self.encode(X))

    def predict(self, X: Frame) -> NDArray[Any]:
        """Return the label or the value that is predicted for each row.

        Parameters
        ----------
        X : frame of N rows
            As for `encode`.

        Returns
        -------
        ndarray of shape (N,)
            Labels (int64, or object for text), or values in the unit of the target (float64).

        Raises
        ------
        DataError
            As by `encode`.

        Examples
        --------
        >>> from fastnn import Affine, Sequential, TableModel
        >>> from fastnn.data.table_encoder import TableEncoder
        >>> from fastnn.datasets import load
        >>> wine = load("wine")
        >>> model = TableModel(Sequential([Affine(13, 3)], seed=0), TableEncoder.fit(wine))
        >>> model.predict(wine).shape
        (178,)
        """
        return self.encoder.decode(self.outputs(X))

    def predict_proba(self, X: Frame) -> NDArray[np.floating]:
        """Return the probability of each class for each row; only of a classification.

        Parameters
        ----------
        X : frame of N rows
            As for `encode`.

        Returns
        -------
        ndarray of shape (N, K)
            Columns in the order of `classes_`.

        Raises
        ------
        AttributeError
            If the model is a regression.
        DataError
            As by `encode`.

        Examples
        --------
        >>> from fastnn import Affine, Sequential, TableModel
        >>> from fastnn.data.table_encoder import TableEncoder
        >>> from fastnn.datasets import load
        >>> wine = load("wine")
        >>> model = TableModel(Sequential([Affine(13, 3)], seed=0), TableEncoder.fit(wine))
        >>> model.predict_proba(wine).sum(axis=1).round(3).min()
        np.float32(1.0)
        """
        _ = self.classes_
        return probabilities(self.outputs(X))

    def score(self, X: Frame, y: ArrayLike | None = None) -> float:
        """Return the accuracy of a classification, or R2 of a regression.

        Parameters
        ----------
        X : frame of N rows
            As for `encode`.
        y : array_like of shape (N,) or None, default=None
            The true targets; None takes the column `target_name` of X.

        Returns
        -------
        float

        Raises
        ------
        DataError
            As by `encode`; if there is no target, one is missing in some row, or is a label that
            the training rows did not have; if there are too few rows for R2.

        Examples
        --------
        >>> from fastnn import Affine, Sequential, TableModel
        >>> from fastnn.data.table_encoder import TableEncoder
        >>> from fastnn.datasets import load
        >>> wine = load("wine")
        >>> model = TableModel(Sequential([Affine(13, 3)], seed=0), TableEncoder.fit(wine))
        >>> 0 <= model.score(wine) <= 1
        True
        """
        data = self._read(X, with_target=y is None)
        if y is not None:
            data = dataclasses.replace(data, y=_target(y, len(data)))
        inputs = self.encoder.transform(data, dtype=self.net.dtype)
        target = self.encoder.encode_target(data)
        if target is None:
            raise DataError(f"{data.name}: there is no target {self.target_name!r} to score with")
        if not can_score(self.task, target):
            raise DataError(f"{data.name}: R2 needs at least 2 rows, got {len(target)}")
        return score_outputs(self.task, self.net.predict(inputs), target)

    def _read(self, X: Frame, with_target: bool) -> Dataset:
        """Return a frame as a data set with the columns that are needed."""
        encoder = self.encoder
        return as_dataset(
            X,
            names=encoder.feature_names,
            text=list(encoder.categories),
            optional=[encoder.target_name] if with_target and encoder.target_name else [],
            may_be_missing=encoder.standardise,
        )

    # Files

    def save(self, path: str | os.PathLike[str], overwrite: bool = True) -> None:
        """Write the model to a safetensors file, whole or not at all; `fastnn.load` reads it.

        Parameters
        ----------
        path : str or path-like
            The file.
        overwrite : bool, default=True
            Whether an existing file may be replaced.

        Raises
        ------
        FileExistsError
            If the file exists and must not be replaced.
        ValueError
            If a parameter of the net is not finite.
        """
        metadata, tensors = self.pack()
        self.net.save(path, metadata=metadata, tensors=tensors, overwrite=overwrite)

    def pack(self) -> tuple[dict[str, str], dict[str, NDArray[Any]]]:
        """Return what a model file holds besides the net: metadata and tensors."""
        metadata, tensors = self.encoder.pack()
        return metadata | {TRAINING_KEY: json.dumps(self.training)}, {**tensors}

    @classmethod
    def unpack(
        cls, net: Sequential, metadata: Mapping[str, str], tensors: Mapping[str, NDArray[Any]]
    ) -> Self:
        """Return the model of a net and of what `pack` returned.

        Raises
        ------
        ModelFileError
            If it is damaged, or does not fit the net.
        """
        encoder = TableEncoder.unpack(metadata, tensors)
        try:
            training = _check_training(parse_json(metadata.get(TRAINING_KEY, "{}")))
        except (ValueError, RecursionError) as error:
            raise ModelFileError(
                f"what it says of its training is damaged ({reason(error)})"
            ) from error
        try:
            return cls(net, encoder, training)
        except ValueError as error:
            raise ModelFileError(str(error)) from error


def _check_training(training: Any) -> dict[str, Any]:
    """Return the description of a training, or raise ValueError."""
    if training is None or training == {}:
        return {}
    if not isinstance(training, Mapping):
        raise ValueError(f"training must be a dict, got {shown(training)}")
    for name, value in training.items():
        if type(value) not in _ALLOWED.get(name, ()):
            raise ValueError(f"training cannot hold {shown(name)}: {shown(value)}")
        if isinstance(value, float) and not math.isfinite(value):  # which JSON does not have
            raise ValueError(f"training cannot hold {shown(name)}: {value}")
    if not _NEEDED.keys() <= training.keys():
        raise ValueError(f"training must hold {', '.join(_NEEDED)}, got {shown(training)}")
    return dict(training)


def _target(y: ArrayLike, n_rows: int) -> NDArray[Any]:
    """Return targets that were given apart from their frame, or raise `DataError`."""
    target = as_array("y", y)
    if target.shape not in ((n_rows,), (n_rows, 1)):
        raise DataError(f"y must have {n_rows} values, one for each row, got shape {target.shape}")
    return target.reshape(n_rows)


def can_score(task: str, y: NDArray[Any]) -> bool:
    """Return whether there is a score for targets (N,): R2 needs two rows."""
    return task == "classification" or len(y) > 1


def score_outputs(task: str, out: NDArray[np.floating], y: NDArray[Any]) -> float:
    """Return the score of outputs: the accuracy for a classification, R2 for a regression.

    Parameters
    ----------
    task : {"classification", "regression"}
        What the net was trained for.
    out : ndarray of shape (N, O)
        Outputs of the net; O is 1 for a regression, whose score is -inf if one is not finite.
    y : ndarray of shape (N,)
        Encoded targets.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.table_model import score_outputs
    >>> score_outputs("classification", np.eye(4), np.array([0, 1, 2, 2]))
    0.75
    """
    if task == "classification":
        return float((out.argmax(axis=1) == y).mean())
    if not np.isfinite(out).all():
        return -math.inf
    return float(require("sklearn.metrics", "sklearn").r2_score(y, out[:, 0].astype(np.float64)))


def probabilities(out: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the probabilities (N, K) of the classes for logits (N, K): their softmax."""
    return require("scipy.special", "sklearn").softmax(out, axis=1)
