"""Training curves: losses and scores over the epochs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastnn.errors import require, shown
from fastnn.inspection.checks import (
    TRAIN,
    VALIDATION,
    check_axes,
    check_net,
    classes_of,
    given_or_new,
    has_net,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes

    from fastnn.inspection.checks import FittedEstimator
    from fastnn.training.run import History

_NAMES = {
    "loss": "loss",
    "val_accuracy": "validation accuracy",
    "val_r2": "validation R²",
}
_FEW = 40  # up to so many epochs, each has a marker


def plot_history(
    history: History | Mapping[str, Sequence[float]] | FittedEstimator,
    ax: Axes | None = None,
    *,
    figure: str = "loss",
) -> dict[str, NDArray[np.float64]]:
    """Draw a loss or score over the epochs, together with the one on the validation data.

    The best epoch of a score, whose name ends in "accuracy" or "r2", is marked.

    Parameters
    ----------
    history : History, mapping of str to sequence of float, or fitted estimator
        Result of `Sequential.fit`, or losses and scores by name: one number for each epoch. An
        estimator has its ``loss_curve_`` and, with early stopping, its ``validation_scores_``.
    ax : matplotlib.axes.Axes or None, default=None
        Axes to draw on; None makes a new figure with pyplot.
    figure : str, default="loss"
        Which one: "loss" (together with "val_loss" if there is one), "val_accuracy", "val_r2" or
        another key of the history.

    Returns
    -------
    dict of str to ndarray of shape (E,)
        What was drawn, by its name in the history.

    Raises
    ------
    ValueError
        If the history has no such key.
    MissingExtraError
        If matplotlib is not installed.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from fastnn.inspection import plot_history
    >>> drawn = plot_history({"loss": [1.0, 0.5], "val_loss": [1.0, 0.7]}, Figure().subplots())
    >>> drawn["val_loss"].tolist()
    [1.0, 0.7]
    """
    check_axes(ax)
    curves: Any = _history_of(history) if has_net(history) else history
    if not hasattr(curves, "keys") or not isinstance(figure, str) or figure not in curves:
        known = ", ".join(map(repr, getattr(curves, "keys", dict)())) or "none"
        raise ValueError(f"figure must be one of the history's, {known}, got {shown(figure)}")
    names = [name for name in (figure, f"val_{figure}") if name in curves]
    drawn = {name: np.asarray(curves[name], np.float64) for name in names}
    epochs = np.arange(1, len(drawn[figure]) + 1)
    ax = given_or_new(ax)
    # Few epochs have a marker each.
    style: dict[str, Any] = {"marker": "o", "markersize": 3.5} if len(epochs) <= _FEW else {}
    for name, values in drawn.items():
        is_validation = name.startswith("val_")
        color = VALIDATION if is_validation else TRAIN
        label = "validation" if is_validation else "training"
        ax.plot(epochs, values, color=color, label=label, **style)
    if figure.endswith(("accuracy", "r2")):
        _mark_best(ax, drawn[names[-1]])
        ax.margins(y=0.15)
    else:
        if not any((values < 0).any() for values in drawn.values()):
            ax.set_ylim(bottom=0)
        ax.legend(frameon=False)
    ax.set(xlabel="epoch", ylabel=_NAMES.get(figure, figure))
    ax.xaxis.set_major_locator(require("matplotlib.ticker", "plot").MaxNLocator(integer=True))
    ax.grid(alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)
    return drawn


def _history_of(estimator: Any) -> dict[str, Sequence[float]]:
    """Return the curves of a fitted estimator by the names that they have in a history."""
    check_net(estimator)
    score = "val_r2" if classes_of(estimator) is None else "val_accuracy"
    curves = {
        "loss": getattr(estimator, "loss_curve_", None),
        score: getattr(estimator, "validation_scores_", None),
    }
    return {name: curve for name, curve in curves.items() if curve is not None}


def _mark_best(ax: Axes, values: NDArray[np.float64]) -> None:
    """Draw a line at the best score, with its epoch."""
    if np.isnan(values).all():
        return
    best = int(np.nanargmax(values))
    ax.axhline(values[best], color="0.6", linewidth=0.8, linestyle="--", zorder=0)
    ax.annotate(
        f"best {values[best]:.4f} in epoch {best + 1}",
        (1, values[best]),
        xycoords=("axes fraction", "data"),
        xytext=(-4, 4),
        textcoords="offset points",
        ha="right",
        va="bottom",
        color="0.3",
    )
