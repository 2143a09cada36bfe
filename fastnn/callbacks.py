"""Callbacks: what happens while a net is trained."""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from fastnn.errors import MissingExtraError, require, shown
from fastnn.validation import check_flag, check_integer, check_number

_SECONDS_BETWEEN_REFRESHES = 0.1

State: TypeAlias = Mapping[str, bool | int | float | str | np.ndarray]
"""What a checkpoint keeps of a callback."""


class Callback:
    """Base of all callbacks: override what you need.

    Examples
    --------
    >>> from fastnn import Callback
    >>> class StopWhenGood(Callback):
    ...     def on_epoch_end(self, epoch, logs):
    ...         return logs["loss"] < 0.1

    Attributes
    ----------
    runs_last : bool
        Whether it is called after all callbacks that are not so, instead of in the order of the
        list.
    """

    runs_last: bool = False

    def on_fit_begin(self, net: Any, info: dict[str, Any]) -> None:
        """Training begins.

        Parameters
        ----------
        net : Sequential
        info : dict
            "epochs", "n_samples", "batch_size", "n_threads", "steps_per_epoch", "figures",
            the names of what `on_epoch_end` will get, and "run", the `fastnn.training.run.Run`.
        """

    def on_progress(self, epoch: int, samples_done: int, mean_loss: float) -> None:
        """Some batches of an epoch are done.

        Called after every 80 ms or so of training, and at the end of each epoch.

        Parameters
        ----------
        epoch : int
            From 0.
        samples_done : int
            In this epoch.
        mean_loss : float
            Over those samples.
        """

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> bool | None:
        """Handle the end of an epoch; the net's parameters are up to date and may be changed.

        Parameters
        ----------
        epoch : int
            From 0.
        logs : dict
            What the history records of this epoch: "loss", "seconds", ...

        Returns
        -------
        bool or None
            True stops the training.
        """

    def on_fit_end(self, history: Any) -> None:
        """Training is over, for whatever reason."""

    def state(self) -> State:
        """Return what a checkpoint keeps of the callback, to go on with it after a restart.

        Returns
        -------
        dict of str to (bool, int, float, str or ndarray)
        """
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on with what `state` returned in another process; `on_fit_begin` came before it."""


class EarlyStopping(Callback):
    """Stop when a figure has not improved for some epochs.

    Parameters
    ----------
    monitor : str, default "val_loss"
        A key of the history. Figures whose name ends in "accuracy" or "r2" improve upwards, all
        others downwards.
    patience : int, default 10
        Epochs without improvement before training stops.
    min_delta : float, default 0
        The least change that counts as an improvement.
    restore_best : bool, default True
        Whether the net gets back the parameters of its best epoch, and the running statistics.

    Attributes
    ----------
    best : float
        The best figure so far.
    best_epoch : int
        When it was reached, from 0; -1 before the first epoch.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 10,
        min_delta: float = 0.0,
        restore_best: bool = True,
    ) -> None:
        if not isinstance(monitor, str):
            raise ValueError(f"monitor must be the name of a figure, got {shown(monitor)}")
        self.monitor = monitor
        self.patience = check_integer("patience", patience, 1)
        self.min_delta = check_number("min_delta", min_delta)
        self.restore_best = check_flag("restore_best", restore_best)
        self.best, self.best_epoch = math.nan, -1
        self._net: Any = None
        self._best_tensors: list[np.ndarray] | None = None

    def on_fit_begin(self, net: Any, info: dict[str, Any]) -> None:
        if self.monitor not in info["figures"]:
            raise ValueError(
                f"monitor must be one of {', '.join(map(repr, info['figures']))}, "
                f"got {shown(self.monitor)}"
                + ("; give validation_data to fit" if self.monitor.startswith("val_") else "")
            )
        self._net, self._best_tensors = net, None
        self.best, self.best_epoch = math.nan, -1

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> bool:
        value = logs[self.monitor]
        sign = 1.0 if self.monitor.endswith(("accuracy", "r2")) else -1.0
        if self.best_epoch < 0 or sign * (value - self.best) > self.min_delta:
            self.best, self.best_epoch = value, epoch
            if self.restore_best:
                self._best_tensors = [array.copy() for array in arrays_of(self._net)]
        return epoch - self.best_epoch >= self.patience

    def on_fit_end(self, history: Any) -> None:
        if self._best_tensors is not None:
            overwrite_arrays(self._net, self._best_tensors)
            self._best_tensors = None

    def state(self) -> State:
        figures = {"best": self.best, "best_epoch": self.best_epoch}
        arrays = {f"best_tensors.{k}": array for k, array in enumerate(self._best_tensors or [])}
        return figures | arrays

    def restore(self, state: dict[str, Any]) -> None:
        self.best, self.best_epoch = state["best"], state["best_epoch"]
        if "best_tensors.0" in state:
            count = len(arrays_of(self._net))
            self._best_tensors = [state[f"best_tensors.{k}"] for k in range(count)]


def arrays_of(net: Any) -> list[np.ndarray]:
    """Return all parameters and running statistics of a net."""
    return [array for arrays in net.tensors() for array in arrays if array is not None]


def overwrite_arrays(net: Any, values: list[np.ndarray]) -> None:
    """Overwrite all parameters and running statistics of a net, as `arrays_of` returns them."""
    for array, value in zip(arrays_of(net), values, strict=True):
        array[...] = value


class EpochPrinter(Callback):
    """Print one line for each epoch."""

    def on_fit_begin(self, net: Any, info: dict[str, Any]) -> None:
        self._epochs = info["epochs"]

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        parts = [f"epoch {epoch + 1}/{self._epochs}"]
        for name, value in logs.items():
            if name not in ("seconds", "samples_per_second"):
                parts.append(f"{name} {value:.4f}")
        print(*parts, f"{logs['samples_per_second']:,.0f} samples/s", sep="  ")


class ProgressBar(Callback):
    """A bar with epoch, loss, validation score and speed, on the error stream.

    It is drawn from the callbacks, at most ten times a second: a thread of its own would hold up
    the training now and then. Needs the `cli` extra.

    Raises
    ------
    MissingExtraError
        If rich is not installed.
    """

    def __init__(self) -> None:
        self._rich = require("rich.progress", "cli")
        self._console = require("rich.console", "cli")

    def on_fit_begin(self, net: Any, info: dict[str, Any]) -> None:
        """Draw the empty bar."""
        self._epochs, self._n_samples = info["epochs"], info["n_samples"]
        rich = self._rich
        self._progress = rich.Progress(
            rich.TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            rich.BarColumn(bar_width=24),
            rich.TextColumn("{task.fields[figures]}"),
            rich.TimeRemainingColumn(compact=True),
            console=self._console.Console(stderr=True),
            auto_refresh=False,
        )
        self._bar = self._progress.add_task(
            "", total=self._epochs * self._n_samples, epoch=0, epochs=self._epochs, figures=""
        )
        self._loss, self._score, self._speed = math.nan, "", 0.0
        self._began = self._drawn = time.perf_counter()
        self._progress.start()

    def on_progress(self, epoch: int, samples_done: int, mean_loss: float) -> None:
        """Move the bar within an epoch."""
        self._loss = mean_loss
        self._draw(epoch, samples_done)

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Take over the figures of the epoch."""
        self._loss, self._speed = logs["loss"], logs["samples_per_second"]
        for name, label in (("val_accuracy", "val accuracy"), ("val_r2", "val R2")):
            if name in logs:
                self._score = f"  {label} {logs[name]:.4f}"
        self._draw(epoch, self._n_samples)

    def on_fit_end(self, history: Any) -> None:
        """Leave the bar as it ended."""
        if len(history):
            self._progress.update(self._bar, total=len(history) * self._n_samples)
            self._draw(len(history) - 1, self._n_samples, at_once=True)
        self._progress.stop()

    def _draw(self, epoch: int, samples_done: int, at_once: bool = False) -> None:
        now = time.perf_counter()
        if now - self._drawn < _SECONDS_BETWEEN_REFRESHES and not at_once:
            return
        self._drawn = now
        done = epoch * self._n_samples + samples_done
        speed = self._speed or done / (now - self._began)
        self._progress.update(
            self._bar,
            completed=done,
            epoch=epoch + 1,
            figures=f"loss {self._loss:.4f}{self._score}  {speed:,.0f} samples/s",
        )
        self._progress.refresh()


def check_callbacks(callbacks: Callback | Sequence[Callback]) -> list[Callback]:
    """Return the callbacks as a list, or raise ValueError if one is none."""
    given: list[Any] = list(callbacks) if isinstance(callbacks, (list, tuple)) else [callbacks]
    for callback in given:
        if not isinstance(callback, Callback):
            raise ValueError(f"callbacks must be a list of Callback objects, got {shown(callback)}")
    return given


def for_verbosity(verbose: bool | int | None) -> list[Callback]:
    """Return the callbacks that `verbose` asks for: a bar, or lines where rich is missing."""
    if verbose is None or isinstance(verbose, (bool, np.bool_)):
        verbose = int(bool(verbose))
    if check_integer("verbose", verbose, 0) == 0:
        return []
    try:
        return [ProgressBar()]
    except MissingExtraError:
        return [EpochPrinter()]
