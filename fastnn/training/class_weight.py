"""Weights of classes as weights of samples: so that a rare class counts as much as a common one."""

import numbers
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from fastnn import losses
from fastnn.errors import shown
from fastnn.validation import (
    MOST_COLUMNS,
    as_array,
    as_number,
    check_integer,
    check_targets,
    check_weights,
)

ClassWeight: TypeAlias = Mapping[Any, float] | Sequence[float] | np.ndarray | str
"""Weights of classes, as `Sequential.fit` takes them."""


def weigh_samples(
    class_weight: ClassWeight,
    y: ArrayLike,
    loss: str | losses.Loss,
    n_outputs: int,
    sample_weight: ArrayLike | None = None,
) -> np.ndarray:
    """Return the weight of each sample: that of its class, times its own.

    A batch's loss and gradient are means weighted by them, ``sum(w * loss) / sum(w)``.

    Parameters
    ----------
    class_weight : dict, sequence of float, or "balanced"
        A weight of at least 0 for each class: by class, where one that is left out weighs 1, or for
        all classes in their order. "balanced" gives a class ``n / (n_classes * count)``, where
        n_classes counts those that are in y (King & Zeng, 2001; as in scikit-learn).
    y : array_like
        Integer classes (N,) or one-hot rows (N, O) for a softmax; 0 or 1, (N,) or (N, 1), for the
        single output of a binary cross-entropy.
    loss : Loss
        A softmax or binary cross-entropy.
    n_outputs : int
        Of the net.
    sample_weight : array_like (N,), optional
        Weights that the samples have besides.

    Returns
    -------
    ndarray (N,) of float64

    Raises
    ------
    ValueError
        If an argument is out of range, or samples have not one class each.

    Examples
    --------
    >>> from fastnn import losses
    >>> from fastnn.training.class_weight import weigh_samples
    >>> loss = losses.get("softmax_cross_entropy")
    >>> weigh_samples("balanced", [0, 0, 0, 1], loss, n_outputs=2).round(2)
    array([0.67, 0.67, 0.67, 2.  ])
    >>> weigh_samples({1: 5}, [0, 0, 0, 1], loss, n_outputs=2)
    array([1., 1., 1., 5.])
    """
    loss, n_outputs = losses.get(loss), check_integer("n_outputs", n_outputs, 1, MOST_COLUMNS)
    y = as_array("y", y)
    n_rows = len(y) if y.ndim else 0
    _check_loss(loss)
    labels, targets = check_targets(y, loss, n_rows, n_outputs, np.dtype(np.float64))
    weights = weights_of_classes(class_weight, loss, labels, targets)
    if sample_weight is not None:
        weights *= check_weights(sample_weight, len(weights))
    return weights


def weights_of_classes(
    class_weight: ClassWeight, loss: losses.Loss, labels: np.ndarray, targets: np.ndarray
) -> np.ndarray:
    """Return the weight of the class of each sample, for checked labels or targets.

    Parameters
    ----------
    class_weight : dict, sequence of float, or "balanced"
        As for `weigh_samples`.
    loss : Loss
    labels : ndarray of shape (N,)
        Classes; empty where there are targets.
    targets : ndarray of shape (N, O)

    Returns
    -------
    ndarray of shape (N,)
        In float64.

    Raises
    ------
    ValueError
        If samples have not one class each, or a weight is out of range.
    """
    _check_loss(loss)
    classes, n_classes = _classes(loss, labels, targets)
    return _class_weights(class_weight, classes, n_classes)[classes]


def _check_loss(loss: losses.Loss) -> None:
    if loss.task != "classification":
        raise ValueError(f"class_weight needs a loss of a classification, got {shown(loss.name)}")


def _classes(loss: losses.Loss, labels: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the class of each sample, and how many classes there are."""
    n_outputs = targets.shape[1]
    if len(targets) == 0:
        return labels, n_outputs
    if not np.isin(targets, (0, 1)).all():
        raise ValueError("class_weight needs y of classes, or of zeros and ones")
    if loss.name == "binary_cross_entropy":
        if n_outputs > 1:
            raise ValueError(
                f"class_weight needs one class for each sample, got {n_outputs} yes-or-no outputs"
            )
        return targets[:, 0].astype(np.int64), 2
    if (targets.sum(axis=1) != 1).any():
        raise ValueError("class_weight needs rows of y with a single 1 each")
    return targets.argmax(axis=1), n_outputs


def _class_weights(class_weight: ClassWeight, labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Return the weight of each class, float64 (n_classes,)."""
    if isinstance(class_weight, str) and class_weight == "balanced":
        counts = np.bincount(labels, minlength=n_classes)
        return len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    if isinstance(class_weight, Mapping):
        pairs: Any = class_weight.items()
    elif isinstance(class_weight, (Sequence, np.ndarray)) and not isinstance(class_weight, str):
        n = class_weight.size if isinstance(class_weight, np.ndarray) else len(class_weight)
        if n != n_classes or (isinstance(class_weight, np.ndarray) and class_weight.ndim != 1):
            raise ValueError(
                f"class_weight must have {n_classes} weights, one for each class, got {n}"
            )
        pairs = enumerate(class_weight)
    else:
        raise ValueError(
            f"class_weight must be a dict, a sequence or 'balanced', got {shown(class_weight)}"
        )
    weights = np.ones(n_classes)
    for name, weight in pairs:
        if not isinstance(name, numbers.Real) or name not in range(n_classes):
            raise ValueError(
                f"class_weight must name classes from 0 to {n_classes - 1}, got {shown(name)}"
            )
        if not 0 <= as_number(weight) < np.inf:
            raise ValueError(
                f"class_weight[{name!r}] must be a finite number >= 0, got {shown(weight)}"
            )
        weights[int(float(name))] = weight
    return weights
