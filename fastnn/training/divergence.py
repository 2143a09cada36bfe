"""Trainings that break down: where numbers stopped being finite, and losses that only rose."""

import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from fastnn.kernels.panels import panel_columns, panel_width

# A loss that is so many times what it was before the first update has risen, not fallen.
_GROWTH = 10
# The mean over the batches of an epoch is known no better than to this share.
_NOISE = 0.01
# After fewer updates, or one epoch, whose mean looks back at its beginning, a loss may still be
# above that of a constant guess, unless it has doubled: the first batch says no more about where
# it began.
_FEW_UPDATES = 100


class DivergenceWarning(RuntimeWarning):
    """A training diverged: its loss rose, or its numbers stopped being finite."""


class Losses(NamedTuple):
    """Mean losses of a training, without the penalties.

    Attributes
    ----------
    start : float
        Of its first batch, before any update.
    first_epoch, last_epoch : float
        Over all samples, each at the time it was trained on.
    constant : float
        Of the best constant guess for the samples of the last epoch.
    """

    start: float
    first_epoch: float
    last_epoch: float
    constant: float


def describe_rise(
    losses: Losses, n_epochs: int, n_updates: int, learning_rate: float
) -> str | None:
    """Return in one line that the loss of a training rose, or is above that of a constant guess.

    Parameters
    ----------
    losses : Losses
        All of them finite.
    n_epochs, n_updates : int
        Since the first batch.
    learning_rate : float
        The one to name.

    Returns
    -------
    str or None
        None if the net has learned something, or has had too few updates to say.

    Examples
    --------
    >>> from fastnn.training.divergence import Losses, describe_rise
    >>> describe_rise(Losses(2.3, 60.0, 5.0, 2.3), 5, 800, 1.0)
    'the loss rose from 2.3 to 60 within the first epoch, at a learning rate of 1'
    >>> describe_rise(Losses(2.3, 2.1, 1.2, 2.3), 5, 800, 1.0)
    """
    start, first, last, constant = losses
    rate = f"at a learning rate of {learning_rate:g}"
    if first > _GROWTH * max(start, constant):
        return f"the loss rose from {start:.3g} to {first:.3g} within the first epoch, {rate}"
    is_constant = constant <= np.finfo(np.float32).eps * start  # no guess can be better
    limit = (1 + _NOISE) * constant
    if n_epochs == 1 or n_updates < _FEW_UPDATES or is_constant:
        limit = 2 * max(start, constant)
    if last <= limit:
        return None
    return (
        f"the loss ended at {last:.3g}, above the {constant:.3g} of the best constant guess, {rate}"
    )


class Divergence(NamedTuple):
    """An epoch that broke down.

    Attributes
    ----------
    batch : int
        Of the epoch, from 0: the first whose loss was not finite, or the last if only the weights
        are not finite after it.
    what : str
        What happened: "the loss became NaN", ...
    where : str
        The first thing in the forward pass that is not finite.
    learning_rate : float
        At that batch.
    """

    batch: int
    what: str
    where: str
    learning_rate: float

    def describe(self, epoch: int | None = None) -> str:
        """Return all of it in one line; epochs are counted from 1 there, and batches too."""
        when = f"batch {self.batch + 1}"
        when = when if epoch is None else f"epoch {epoch}, {when}"
        rate = f"a learning rate of {self.learning_rate:g}"
        return f"{self.what} in {when}, at {rate}: {self.where} not finite"


def names_of(layers: Iterable[Any], prefix: str = "layers") -> Iterator[tuple[Any, str]]:
    """Yield (layer, name) of all layers, those of residual blocks too: ``layers[1].layers[0]``."""
    for k, layer in enumerate(layers):
        name = f"{prefix}[{k}]"
        yield layer, name
        yield from names_of(getattr(layer, "layers", []), f"{name}.layers")


def first_not_finite(layers: Iterable[Any]) -> str | None:
    """Return the name of the first layer with a parameter that is not finite, or None.

    Parameters
    ----------
    layers : sequence of Layer

    Returns
    -------
    str or None
        Such as ``"w of layers[2] (Affine)"``.
    """
    for layer, name in names_of(layers):
        if layer in layer.leaves():  # a residual block only has those of its layers
            for key, array in (layer.params | layer.buffers).items():
                if not np.isfinite(array).all():
                    return f"{key} of {name} ({type(layer).__name__})"
    return None


def locate(memory: Any, n_rows: int) -> str:
    """Return the first thing in the forward pass that is not finite.

    Parameters
    ----------
    memory : fastnn.training.memory.TrainingMemory
        After the forward pass of a batch.
    n_rows : int
        Of the batch.

    Returns
    -------
    str
        To be followed by "not finite".
    """
    layers, layout, plan = memory.net.layers, memory.layout, memory.plan
    names = {id(layer): f"{name} ({type(layer).__name__})" for layer, name in names_of(layers)}
    values, largest, layer = layout.unpacked(memory.params), 0.0, None
    for operation, layer in zip(plan.operations, plan.layers, strict=True):
        for placed in layout.blocks_of(layer):
            if not placed.block.is_buffer and not np.isfinite(placed.view(values)).all():
                return f"the parameters of {names[id(layer)]} are"
        largest = _largest(operation, memory.acts, n_rows)
        if not largest < np.inf:
            return f"the output of {names[id(layer)]} is"
    return f"the output of {names[id(layer)]} reaches {largest:.2g}, and the loss is"


def _largest(operation: Any, acts: np.ndarray, n_rows: int) -> float:
    """Return the largest magnitude in all rows and columns of an operation's result, or NaN."""
    largest, itemsize = 0.0, acts.itemsize
    n, panel = int(operation["n_out"]), panel_columns(itemsize)
    for j in range(0, n, panel):
        width = panel_width(n, j, itemsize)
        start = int(operation["out_at"]) + j // panel * int(operation["out_panel"])
        rows = acts[start : start + n_rows * width].reshape(n_rows, width)
        largest = np.maximum(largest, np.abs(rows[:, : n - j]).max())  # NaN stays NaN
    return largest


def is_finite(vector: np.ndarray) -> bool:
    """Return whether all elements are finite; a sum is enough unless it overflows."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(vector.sum()) or np.isfinite(vector).all())


def turn_back(memory: Any, data_loss: float, rates: np.ndarray) -> Divergence:
    """Undo an epoch that broke down; return what happened.

    Parameters
    ----------
    memory : fastnn.training.memory.TrainingMemory
    data_loss : float
        Of the epoch.
    rates : ndarray
        Learning rate of each batch.

    Returns
    -------
    Divergence
    """
    batch = memory.stopped_at if memory.stopped_at >= 0 else len(rates) - 1
    what = "the loss became " + ("NaN" if math.isnan(data_loss) else "infinite")
    if memory.stopped_at < 0:
        what = "the weights became NaN or infinite"
    n_rows = min(memory.rows, int(memory.job["n_order"]) - batch * memory.rows)
    divergence = Divergence(batch, what, locate(memory, n_rows), float(rates[batch]))
    memory.undo()
    return divergence
