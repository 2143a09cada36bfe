"""Figures: how training went."""

import io
from collections.abc import Mapping, Sequence

from fastnn.errors import require

__all__ = ["SUFFIXES", "training_curve"]

SUFFIXES = (".png", ".svg", ".pdf")
"""The kinds of file that a figure is written to."""

_TRAIN, _VALIDATION = "#1f77b4", "#d95f02"  # told apart by the colour-blind, too
_SCORES = {"val_accuracy": "validation accuracy", "val_r2": "validation R²"}


def training_curve(
    history: Mapping[str, Sequence[float]], *, title: str = "", kind: str = "png"
) -> bytes:
    """Draw the loss, and the validation score if there is one, against the epoch.

    Parameters
    ----------
    history : mapping of str to sequence of float
        What `Sequential.fit` returned, or the same figures as lists: "loss", and where they were
        recorded "val_loss" and "val_accuracy" or "val_r2". One number for each epoch.
    title : str
        Put above the figure.
    kind : {"png", "svg", "pdf"}
        Format of the result.

    Returns
    -------
    bytes
        The content of an image file.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.

    Examples
    --------
    >>> from fastnn.plots import training_curve
    >>> image = training_curve({"loss": [1.0, 0.5], "val_accuracy": [0.8, 0.9]})
    >>> image[1:4]
    b'PNG'
    """
    # Without pyplot there is no state shared with the user's own figures, and no screen.
    figure_module = require("matplotlib.figure", "plot")
    ticker = require("matplotlib.ticker", "plot")
    score = next((name for name in _SCORES if name in history), None)
    figure = figure_module.Figure(figsize=(9 if score else 5, 3.6), layout="constrained")
    axes = figure.subplots(1, 2 if score else 1, squeeze=False)[0]
    epochs = range(1, len(history["loss"]) + 1)
    # Markers show single epochs while there are few.
    style = {"marker": "o", "markersize": 3.5} if len(epochs) <= 40 else {}

    axes[0].plot(epochs, history["loss"], color=_TRAIN, label="training", **style)
    if "val_loss" in history:
        axes[0].plot(epochs, history["val_loss"], color=_VALIDATION, label="validation", **style)
    axes[0].set_ylabel("loss")
    axes[0].set_ylim(bottom=0)
    axes[0].legend(frameon=False)
    if score:
        axes[1].plot(epochs, history[score], color=_VALIDATION, **style)
        best = max(range(len(epochs)), key=history[score].__getitem__)
        axes[1].axhline(history[score][best], color="0.6", linewidth=0.8, linestyle="--", zorder=0)
        axes[1].annotate(
            f"best {history[score][best]:.4f} in epoch {best + 1}",
            (1, history[score][best]),
            xycoords=("axes fraction", "data"),
            xytext=(-4, 4),
            textcoords="offset points",
            ha="right",
            va="bottom",
            color="0.3",
        )
        axes[1].set_ylabel(_SCORES[score])
        axes[1].margins(y=0.15)
    for axis in axes:
        axis.set_xlabel("epoch")
        axis.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title)
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=150)
    return buffer.getvalue()
