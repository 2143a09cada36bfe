"""Image files of training curves."""

import io
from collections.abc import Mapping, Sequence

from fastnn.errors import require

__all__ = ["SUFFIXES", "training_curve"]

SUFFIXES = (".png", ".svg", ".pdf")
"""Suffixes of the image files that can be written."""

_SCORES = ("val_accuracy", "val_r2")


def training_curve(
    history: Mapping[str, Sequence[float]], *, title: str = "", kind: str = "png"
) -> bytes:
    """Return an image of the loss and, if there is one, the validation score over the epochs.

    Parameters
    ----------
    history : mapping of str to sequence of float
        Result of `Sequential.fit`, or a mapping with one number per epoch for "loss" and, if they
        were recorded, "val_loss" and "val_accuracy" or "val_r2".
    title : str, default=""
        Text above the plot.
    kind : {"png", "svg", "pdf"}, default="png"
        Format of the image.

    Returns
    -------
    bytes
        Content of an image file.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.

    Examples
    --------
    >>> from fastnn.inspection.plots import training_curve
    >>> image = training_curve({"loss": [1.0, 0.5], "val_accuracy": [0.8, 0.9]})
    >>> image[1:4]
    b'PNG'
    """
    # Imported here because it loads Numba, and the command line imports this module for its help.
    from fastnn.inspection import plot_history

    # pyplot would share state with the user's figures, and may need a screen.
    figure_module = require("matplotlib.figure", "plot")
    score = next((name for name in _SCORES if name in history), None)
    figure = figure_module.Figure(figsize=(9 if score else 5, 3.6), layout="constrained")
    drawn = ["loss", score] if score else ["loss"]
    for name, axes in zip(drawn, figure.subplots(1, len(drawn), squeeze=False)[0], strict=True):
        plot_history(history, axes, figure=name)
    figure.suptitle(title)
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=150)
    return buffer.getvalue()
