"""Figures: how training went."""

import io
from collections.abc import Mapping, Sequence

from fastnn.errors import require

__all__ = ["SUFFIXES", "training_curve"]

SUFFIXES = (".png", ".svg", ".pdf")
"""The kinds of file that a figure is written to."""

_SCORES = ("val_accuracy", "val_r2")


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
    >>> from fastnn.inspection.plots import training_curve
    >>> image = training_curve({"loss": [1.0, 0.5], "val_accuracy": [0.8, 0.9]})
    >>> image[1:4]
    b'PNG'
    """
    # The command line knows this module before it loads Numba, which a net needs.
    from fastnn.inspection import plot_history

    # Without pyplot there is no state shared with the user's own figures, and no screen.
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
