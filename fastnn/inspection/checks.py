"""Checks of arguments that the functions of this package share, and the colours of its drawings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeGuard

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn.errors import require, shown
from fastnn.layers import Layer
from fastnn.network import Sequential
from fastnn.validation import as_array, check_finite, check_inputs, check_integer

if TYPE_CHECKING:
    from matplotlib.axes import Axes

POSITIVE, NEGATIVE = "#2166ac", "#b2182b"
"""Blue and red, the ends of `DIVERGING`; colour-blind people can distinguish them."""

DIVERGING = "RdBu"
"""Colour map of signed numbers: red below zero, white at zero, blue above."""

TRAIN, VALIDATION = "#1f77b4", "#d95f02"
"""Colours of training and validation data."""


class FittedEstimator(Protocol):
    """A fitted estimator with a net, such as `fastnn.MLPClassifier`."""

    @property
    def net_(self) -> Sequential:
        """The net."""


Net: TypeAlias = Sequential | FittedEstimator
"""What functions of this package inspect: a net, or a fitted estimator with one."""


def check_net(net: object) -> Sequential:
    """Return a net, that of an estimator if the argument is one, or raise ValueError."""
    if has_net(net):
        net = net.net_  # raises ValueError if it is not fitted
    if not isinstance(net, Sequential):
        raise ValueError(
            f"net must be a Sequential or a fitted estimator of fastnn, got {shown(net)}"
        )
    return net


def has_net(model: object) -> TypeGuard[FittedEstimator]:
    """Return whether an object is an estimator with a net, fitted or not."""
    return hasattr(type(model), "net_")


def classes_of(model: object) -> NDArray[Any] | None:
    """Return the labels of an estimator's classes; None for a net, and for a regressor."""
    return getattr(model, "classes_", None) if has_net(model) else None


def class_numbers(model: object, y: ArrayLike) -> ArrayLike:
    """Return labels (N,) of an estimator as numbers of classes; those of a net are as they are.

    Raises
    ------
    ValueError
        If a label is none of the estimator's.
    """
    classes = classes_of(model)
    if classes is None:
        return y
    labels = as_array("y", y)
    numbers = {label: number for number, label in enumerate(np.asarray(classes).tolist())}
    try:
        return np.array([numbers[label] for label in labels.tolist()], np.int64)
    except (KeyError, TypeError) as error:
        raise ValueError(f"y must hold labels of the estimator, got {error}") from None


def check_rows(net: Sequential, X: ArrayLike, name: str = "X") -> NDArray[np.floating]:
    """Return finite samples X (N, I) in the dtype of a net, N at least 1, or raise ValueError."""
    x = check_inputs(X, net.dtype, net.n_inputs, name)
    if len(x) == 0:
        raise ValueError(f"{name} must have at least 1 row, got 0")
    return x


def check_row(net: Sequential, x: ArrayLike) -> NDArray[np.floating]:
    """Return one finite sample x (I,) or (1, I) as (1, I), or raise ValueError."""
    array = as_array("x", x)
    row = check_rows(net, array[None] if array.ndim == 1 else array, "x")
    if len(row) != 1:
        raise ValueError(f"x must be one input, got {len(row)} rows")
    return row


def check_table(name: str, values: ArrayLike) -> NDArray[Any]:
    """Return a table of finite numbers (N, I), N and I at least 1, or raise ValueError."""
    array = as_array(name, values)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must be numeric, got dtype {array.dtype}")
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"{name} must have rows and columns, got shape {array.shape}")
    check_finite(name, array)
    return array


def check_weight_matrix(name: str, layer_or_w: Layer | FittedEstimator | ArrayLike) -> NDArray[Any]:
    """Return weights (I, O), those of a layer or of the first of an estimator, if it is one.

    Raises
    ------
    ValueError
        If it is something else, or has no weights.
    """
    weights: Any = check_net(layer_or_w).layers[0] if has_net(layer_or_w) else layer_or_w
    if isinstance(weights, Layer):
        w = weights.params.get("w")
        if w is None or w.ndim != 2:
            raise ValueError(f"{name} must be weights or a layer with some, got {shown(weights)}")
        return w
    return check_table(name, weights)


def check_image_shape(image_shape: object, n_pixels: int) -> tuple[int, int]:
    """Return (height, width) of an image, or raise ValueError unless it has `n_pixels` pixels."""
    try:
        pair: Any = image_shape
        height, width = pair
    except (TypeError, ValueError):
        raise ValueError(f"image_shape must be (height, width), got {shown(image_shape)}") from None
    height = check_integer("image_shape[0]", height, 1)
    width = check_integer("image_shape[1]", width, 1)
    if height * width != n_pixels:
        raise ValueError(
            f"image_shape must have {n_pixels} pixels, got {height} x {width} = {height * width}"
        )
    return height, width


def check_labels(name: str, labels: Iterable[object] | None, n: int) -> list[str] | None:
    """Return n labels as a list of str, or None for None, or raise ValueError."""
    if labels is None:
        return None
    try:
        texts = [str(label) for label in labels]
    except TypeError:
        raise ValueError(f"{name} must be a sequence, got {shown(labels)}") from None
    if len(texts) != n:
        raise ValueError(f"{name} must have {n} entries, got {len(texts)}")
    return texts


def check_axes(ax: object) -> None:
    """Check an argument that must be matplotlib axes or None.

    Raises
    ------
    ValueError
        If it is something else.
    MissingExtraError
        If matplotlib is not installed.
    """
    if not isinstance(ax, (require("matplotlib.axes", "plot").Axes, type(None))):
        raise ValueError(f"ax must be a matplotlib Axes or None, got {shown(ax)}")


def given_or_new(ax: Axes | None) -> Axes:
    """Return axes, or those of a new figure of pyplot for None, which notebooks show.

    Called when all other arguments have been checked: an error leaves no empty figure.
    """
    if ax is not None:
        return ax
    return require("matplotlib.pyplot", "plot").subplots(layout="constrained")[1]


def largest(values: NDArray[Any]) -> float:
    """Return the largest absolute value, to scale colours by; 1 if all values are zero."""
    return float(np.nanmax(np.abs(values))) or 1.0
