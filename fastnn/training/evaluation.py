"""How good the outputs of a net are: the mean loss, and a score."""

import numpy as np

from fastnn.losses import Loss


def mean_loss(loss: Loss, out: np.ndarray, labels: np.ndarray, targets: np.ndarray) -> float:
    """Mean loss of the rows of `out` (N, O)."""
    return float(loss.of_rows(out, labels, targets).mean())


def score_name(loss: Loss) -> str:
    """Return the name of the score of a loss in a history."""
    return "val_r2" if loss.task == "regression" else "val_accuracy"


def score(loss: Loss, out: np.ndarray, labels: np.ndarray, targets: np.ndarray) -> float:
    """R^2 of a regression, accuracy of a classification."""
    if loss.task == "regression":
        error = ((out - targets) ** 2).sum(dtype=np.float64)
        spread = ((targets - targets.mean(axis=0, dtype=np.float64)) ** 2).sum(dtype=np.float64)
        return float(1 - error / spread) if spread > 0 else float(error == 0)
    if loss.name == "binary_cross_entropy":
        return float(((out > 0) == (targets > 0.5)).all(axis=1).mean())
    expected = labels if len(labels) else targets.argmax(axis=1)
    return float((out.argmax(axis=1) == expected).mean())
