"""Callbacks: what happens while a net is trained."""

import math

from fastnn.errors import MissingExtraError, require
from fastnn.validation import check_integer, check_number


class Callback:
    """Base of all callbacks: override what you need.

    Examples
    --------
    >>> from fastnn import Callback
    >>> class StopWhenGood(Callback):
    ...     def on_epoch_end(self, epoch, logs):
    ...         return logs["loss"] < 0.1
    """

    def on_fit_begin(self, net, info):
        """Training begins.

        Parameters
        ----------
        net : Sequential
        info : dict
            "epochs", "n_samples", "batch_size", "n_threads", "steps_per_epoch", and "figures",
            the names of what `on_epoch_end` will get.
        """

    def on_progress(self, epoch, samples_done, mean_loss):
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

    def on_epoch_end(self, epoch, logs):
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

    def on_fit_end(self, history):
        """Training is over, for whatever reason."""


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
        Whether the net gets back the parameters of its best epoch.

    Attributes
    ----------
    best : float
        The best figure so far.
    best_epoch : int
        When it was reached, from 0; -1 before the first epoch.
    """

    def __init__(self, monitor="val_loss", patience=10, min_delta=0.0, restore_best=True):
        self.monitor = monitor
        self.patience = check_integer("patience", patience, 1)
        self.min_delta = check_number("min_delta", min_delta)
        self.restore_best = restore_best
        self.best, self.best_epoch = math.nan, -1

    def on_fit_begin(self, net, info):
        if self.monitor not in info["figures"]:
            raise ValueError(
                f"monitor must be one of {', '.join(map(repr, info['figures']))}, "
                f"got {self.monitor!r}"
                + ("; give validation_data to fit" if self.monitor.startswith("val_") else "")
            )
        self._net, self._best_params = net, None
        self.best, self.best_epoch = math.nan, -1

    def on_epoch_end(self, epoch, logs):
        value = logs[self.monitor]
        sign = 1.0 if self.monitor.endswith(("accuracy", "r2")) else -1.0
        if self.best_epoch < 0 or sign * (value - self.best) > self.min_delta:
            self.best, self.best_epoch = value, epoch
            if self.restore_best:
                self._best_params = self._net.params.copy()
        return epoch - self.best_epoch >= self.patience

    def on_fit_end(self, history):
        if self._best_params is not None:
            self._net.params[...] = self._best_params
            self._best_params = None


def _figures(logs):
    """One line of an epoch's figures."""
    shown = {name: value for name, value in logs.items() if name not in ("seconds",)}
    speed = shown.pop("samples_per_second", None)
    parts = [f"{name} {value:.4f}" for name, value in shown.items()]
    if speed is not None:
        parts.append(f"{speed:,.0f} samples/s")
    return "  ".join(parts)


class EpochPrinter(Callback):
    """Print one line for each epoch."""

    def on_fit_begin(self, net, info):
        self._epochs = info["epochs"]

    def on_epoch_end(self, epoch, logs):
        print(f"epoch {epoch + 1}/{self._epochs}  {_figures(logs)}")


class ProgressBar(Callback):
    """A progress bar in the terminal, with the figures of the last epoch. Needs the `cli` extra.

    Raises
    ------
    MissingExtraError
        If rich is not installed.
    """

    def __init__(self):
        self._rich = require("rich.progress", "cli")

    def on_fit_begin(self, net, info):
        rich = self._rich
        self._info = info
        self._progress = rich.Progress(
            rich.TextColumn("{task.description}"),
            rich.BarColumn(),
            rich.TaskProgressColumn(),
            rich.TextColumn("{task.fields[figures]}"),
            rich.TimeElapsedColumn(),
        )
        self._task = self._progress.add_task(
            "epoch 1", total=info["epochs"] * info["n_samples"], figures=""
        )
        self._progress.start()

    def on_progress(self, epoch, samples_done, mean_loss):
        self._progress.update(
            self._task,
            completed=epoch * self._info["n_samples"] + samples_done,
            description=f"epoch {epoch + 1}/{self._info['epochs']}",
        )

    def on_epoch_end(self, epoch, logs):
        self._progress.update(self._task, figures=_figures(logs))

    def on_fit_end(self, history):
        self._progress.stop()


def check_callbacks(callbacks):
    """Return the callbacks as a list, or raise ValueError if one is none."""
    callbacks = list(callbacks) if isinstance(callbacks, (list, tuple)) else [callbacks]
    for callback in callbacks:
        if not isinstance(callback, Callback):
            raise ValueError(f"callbacks must be a list of Callback objects, got {callback!r}")
    return callbacks


def for_verbosity(verbose):
    """Return the callbacks that `verbose` asks for: a bar, or lines where rich is missing."""
    if not verbose:
        return []
    try:
        return [ProgressBar()]
    except MissingExtraError:
        return [EpochPrinter()]
