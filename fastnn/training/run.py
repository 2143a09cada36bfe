"""Training over some epochs: order, learning rate, callbacks, and the history."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fastnn.compiling import seconds_compiled
from fastnn.schedules import factor_at
from fastnn.training.divergence import Losses, describe_rise
from fastnn.training.trainer import Trainer

MIN_UPDATES = 2000
"""Updates that a training makes at least if its number of epochs is not given."""

LEAST_EPOCHS = 10
"""Epochs that `Sequential.fit` makes at least if their number is not given."""


def default_epochs(n_samples: int, batch_size: int, least: int = LEAST_EPOCHS) -> int:
    """Return the number of epochs of a training for which none is given.

    Small data need many epochs: it is the number of updates that counts.

    Parameters
    ----------
    n_samples, batch_size : int
        At least 1.
    least : int, default=10
        Epochs for data of any size.

    Returns
    -------
    int
        `least`, or as many as `MIN_UPDATES` updates take.

    Examples
    --------
    >>> from fastnn.training.run import default_epochs
    >>> default_epochs(100, 25), default_epochs(1_000_000, 25)
    (500, 10)
    """
    return max(least, -(-MIN_UPDATES // -(-n_samples // batch_size)))


class History(dict[str, list[float]]):
    """What happened in each epoch: a dict of figures by name.

    ``history["loss"]`` is a list with one entry for each epoch, so ``pandas.DataFrame(history)``
    is a table with a row for each epoch. One thing is not as in other dicts: `len(history)` is the
    number of epochs. The names: "loss" (mean over the samples seen, with the penalty), "seconds"
    and "samples_per_second" (training alone), and with validation data "val_loss" and
    "val_accuracy" or "val_r2".

    Attributes
    ----------
    divergence : str or None
        What happened, if the training diverged: its numbers did not stay finite, which ended it;
        its loss rose tenfold within the first epoch; or it ended above that of the best constant
        guess.
    """

    def __init__(self) -> None:
        super().__init__()
        self.divergence: str | None = None
        self._epochs = 0

    def append(self, logs: Mapping[str, float]) -> None:
        """Add the figures of one epoch."""
        for name, value in logs.items():
            self.setdefault(name, []).append(value)
        self._epochs += 1

    def __len__(self) -> int:
        return self._epochs

    def __repr__(self) -> str:
        return f"<History of {self._epochs} epochs: {', '.join(self)}>"


class Run:
    """A training over some epochs: what `Sequential.fit` does, and what a checkpoint keeps of it.

    Parameters
    ----------
    net : Sequential
    trainer : Trainer
        With its data set.
    epochs : int
    schedule : callable
        Of `fastnn.schedules`; asked at the beginning of each epoch.
    shuffle_rng : numpy.random.Generator or None
        None keeps the samples in their order.
    validate : callable or None
        Returns a dict of figures at the end of an epoch.
    val_figures : sequence of str
        Their names.
    callbacks : sequence of Callback

    Attributes
    ----------
    schedule : callable
    history : History
    next_epoch : int
        From 0.
    stopped : bool
        Whether a callback, or numbers that were not finite, ended the training.
    """

    def __init__(
        self,
        net: Any,
        trainer: Trainer,
        epochs: int,
        schedule: Callable[[Any, int], float],
        shuffle_rng: np.random.Generator | None,
        validate: Callable[[], dict[str, float]] | None,
        val_figures: Sequence[str],
        callbacks: Sequence[Any],
    ) -> None:
        self.net, self.trainer, self.epochs = net, trainer, epochs
        self.shuffle_rng = shuffle_rng
        self.callbacks = sorted(callbacks, key=lambda callback: callback.runs_last)
        self.schedule, self._validate, self._val_figures = schedule, validate, val_figures
        self._learning_rate = trainer.learning_rate
        self.history = History()
        self.next_epoch, self.stopped = 0, False
        self._data_losses: list[float] = []  # without penalties, of the epochs of this run

    def train(self) -> History:
        """Train until all epochs are done or something stops it; return the history.

        However it ends, the net has the parameters of the last batch that was trained.
        """
        trainer, n_samples = self.trainer, self.trainer.n_samples
        batch_size = min(trainer.batch_size, n_samples)
        n_steps = -(-n_samples // batch_size)
        info: dict[str, Any] = {
            "epochs": self.epochs,
            "n_samples": n_samples,
            "batch_size": batch_size,
            "n_threads": trainer.n_threads,
            "steps_per_epoch": n_steps,
            "figures": ["loss", "seconds", "samples_per_second", *self._val_figures],
        }
        begun = []
        try:
            for callback in self.callbacks:
                callback.attach(self)
                callback.on_fit_begin(self.net, info)
                begun.append(callback)
            while self.next_epoch < self.epochs and not self.stopped:
                self._train_epoch(n_steps)
            self._look_back(n_steps)
        finally:
            try:
                trainer.sync()
            except KeyboardInterrupt:  # half of the parameters may be those of an epoch before
                trainer.sync()
                raise
            finally:
                for callback in begun:
                    callback.on_fit_end(self.history)
        return self.history

    def _look_back(self, n_steps: int) -> None:
        """Note in the history whether the training diverged though all numbers stayed finite."""
        trainer, data_losses, history = self.trainer, self._data_losses, self.history
        if history.divergence is not None or not data_losses or not trainer.memory.moves:
            return
        losses = Losses(
            trainer.start_loss, data_losses[0], data_losses[-1], trainer.constant_loss()
        )
        if all(map(math.isfinite, losses)):
            n_epochs = len(data_losses)
            history.divergence = describe_rise(
                losses, n_epochs, n_epochs * n_steps, self._learning_rate
            )

    def _train_epoch(self, n_steps: int) -> None:
        trainer, callbacks, epoch = self.trainer, self.callbacks, self.next_epoch

        def on_progress(samples_done: int, mean_loss: float) -> None:
            for callback in callbacks:
                callback.on_progress(epoch, samples_done, mean_loss)

        began, compiled_before = time.perf_counter(), seconds_compiled()
        trainer.learning_rate = self._rate_at(epoch)
        order = np.arange(trainer.n_samples)
        if self.shuffle_rng is not None:
            order = self.shuffle_rng.permutation(trainer.n_samples)
        rates = None
        if getattr(self.schedule, "by_step", False):
            rates = [self._rate_at(epoch + step / n_steps) for step in range(n_steps)]
        data_loss, penalty = trainer.run_epoch(order, on_progress if callbacks else None, rates)
        compiled = seconds_compiled() - compiled_before
        seconds = time.perf_counter() - began - compiled
        self._data_losses.append(data_loss)
        logs = {
            "loss": data_loss + penalty,
            "seconds": seconds,
            "samples_per_second": trainer.n_samples / seconds,
        }
        if self._validate is not None:
            logs.update(self._validate())
        if callbacks:
            trainer.memory.push_to_be_seen()
        self.history.append(logs)
        self.next_epoch += 1
        if trainer.divergence is not None:
            self.stopped = True
            self.history.divergence = trainer.divergence.describe(epoch + 1)
        for callback in callbacks:
            self.stopped = bool(callback.on_epoch_end(epoch, logs)) or self.stopped
        if callbacks:
            trainer.memory.pull_if_changed()

    def _rate_at(self, epoch: float) -> float:
        return self._learning_rate * factor_at(self.schedule, epoch, self.epochs)
