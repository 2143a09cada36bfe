"""scikit-learn's transformers for a table: unfitted ones, and ones restored from saved tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastnn.errors import require
from fastnn.validation import check_finite

if TYPE_CHECKING:
    from sklearn.compose import ColumnTransformer


def numeric_columns(
    feature_names: list[str], categories: Mapping[str, list[str]]
) -> list[int] | list[str]:
    """Return the numeric columns: by index if there are no text columns, otherwise by name."""
    if not categories:
        return list(range(len(feature_names)))
    return [name for name in feature_names if name not in categories]


def new_transformer(
    numbers: list[int] | list[str], categories: Mapping[str, list[str]]
) -> ColumnTransformer:
    """Return an unfitted transformer of the numeric columns and the text columns.

    If a text column's list of values is empty, fitting determines the values of all of them.

    Parameters
    ----------
    numbers : list of int or list of str
        The numeric columns, as `numeric_columns` returns them.
    categories : mapping of str to list of str
        Text column -> its values.

    Raises
    ------
    MissingExtraError
        If scikit-learn is not installed.
    """
    impute = require("sklearn.impute", "sklearn")
    preprocessing = require("sklearn.preprocessing", "sklearn")
    make_pipeline = require("sklearn.pipeline", "sklearn").make_pipeline
    # Scaled before the imputation, so that 0 is the mean.
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


def restore_transformer(
    feature_names: list[str],
    categories: Mapping[str, list[str]],
    tensors: Mapping[str, NDArray[Any]],
) -> ColumnTransformer:
    """Return a fitted transformer with saved categories, means and scales.

    It is fitted to one made-up row, then its means and scales are replaced. Only public attributes
    are set, so that it works with other versions of scikit-learn.

    Parameters
    ----------
    feature_names : list of str
        All columns, in order.
    categories : mapping of str to list of str
        Text column -> its values.
    tensors : mapping of str to ndarray
        ``"table.mean"`` and ``"table.scale"``, one float64 number for each numeric column; both
        NaN for a column that was missing in all training rows.

    Raises
    ------
    KeyError
        If a tensor is missing.
    ValueError
        If a tensor has another shape or type, or values that fitting cannot yield.
    MissingExtraError
        If scikit-learn is not installed.
    """
    row: dict[str, list[Any]] = {
        name: [categories[name][0] if name in categories else 0.0] for name in feature_names
    }
    if categories:
        table = require("pandas", "data").DataFrame(row)
    else:
        table = np.array(list(row.values())).T
    numbers = numeric_columns(feature_names, categories)
    transformer = new_transformer(numbers, categories).fit(table)
    if numbers:
        scaler = transformer.named_transformers_["numbers"][0]
        mean, scale = (np.asarray(tensors[f"table.{name}"]) for name in ("mean", "scale"))
        _check_scaler(mean, scale, len(numbers))
        scaler.mean_, scaler.scale_ = mean, scale
    return transformer


def _check_scaler(mean: NDArray[Any], scale: NDArray[Any], n_numbers: int) -> None:
    """Raise ValueError if saved means and scales cannot be those of a fitted scaler."""
    if mean.shape != (n_numbers,) or scale.shape != (n_numbers,):
        raise ValueError("a mean and a scale are needed for each column")
    if mean.dtype != np.float64 or scale.dtype != np.float64:
        raise ValueError("means and scales must be float64")
    known = ~np.isnan(mean)
    if np.isnan(scale[known]).any() or not np.isnan(scale[~known]).all():
        raise ValueError("table.mean and table.scale are not of the same columns")
    check_finite("table.mean", mean[known])
    check_finite("table.scale", scale[known])
    if (scale[known] <= 0).any():
        raise ValueError("table.scale must be > 0")
