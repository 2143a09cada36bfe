"""What the commands print: progress while training, tables of figures, files of figures."""

import json
import math
import sys
import time
from pathlib import Path

import rich.box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from fastnn.callbacks import Callback
from fastnn.files import write_atomically

_SECONDS_BETWEEN_REFRESHES = 0.1


class TrainingProgress(Callback):
    """A bar with epoch, loss, validation score and speed, on the error stream.

    It is drawn from the callbacks, at most ten times a second: a thread of its own would hold up
    the training now and then.
    """

    def on_fit_begin(self, net, info):
        """Draw the empty bar."""
        self._epochs, self._n_samples = info["epochs"], info["n_samples"]
        self._progress = Progress(
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(compact=True),
            console=Console(stderr=True),
            auto_refresh=False,
        )
        self._bar = self._progress.add_task(
            "", total=self._epochs * self._n_samples, epoch=0, epochs=self._epochs, figures=""
        )
        self._loss, self._score, self._speed = None, "", 0.0
        self._began = self._drawn = time.perf_counter()
        self._progress.start()

    def on_progress(self, epoch, samples_done, mean_loss):
        """Move the bar within an epoch."""
        self._loss = mean_loss
        self._draw(epoch, samples_done)

    def on_epoch_end(self, epoch, logs):
        """Take over the figures of the epoch."""
        self._loss, self._speed = logs["loss"], logs["samples_per_second"]
        for name, label in (("val_accuracy", "val accuracy"), ("val_r2", "val R2")):
            if name in logs:
                self._score = f"  {label} {logs[name]:.4f}"
        self._draw(epoch, self._n_samples)

    def on_fit_end(self, history):
        """Leave the bar as it ended."""
        if len(history):
            self._progress.update(self._bar, total=len(history) * self._n_samples)
            self._draw(len(history) - 1, self._n_samples, at_once=True)
        self._progress.stop()

    def _draw(self, epoch, samples_done, at_once=False):
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


def new_table(*columns: str) -> Table:
    """Return an empty table: a column of names, then columns of figures."""
    table = Table(box=rich.box.SIMPLE_HEAD, show_header=any(columns), pad_edge=False)
    table.add_column("", style="bold", no_wrap=True)
    for name in columns or ("",):
        table.add_column(name, justify="right" if columns else "left", overflow="fold")
    return table


def show(*things, stderr: bool = False) -> None:
    """Print tables, and text just as it is."""
    console = Console(stderr=stderr)
    for thing in things:
        plain = isinstance(thing, str)
        console.print(thing, markup=not plain, highlight=not plain, soft_wrap=plain)


def warn(message: str) -> None:
    """Print a warning in one line on the error stream."""
    print(f"fastnn: warning: {' '.join(message.split())}", file=sys.stderr)


def seconds(value: float) -> str:
    """Return a duration in three digits and a unit.

    Examples
    --------
    >>> seconds(0.01234), seconds(1.234), seconds(125.0)
    ('12.3 ms', '1.23 s', '125 s')
    """
    if value < 1:
        return f"{1000 * value:.3g} ms"
    return f"{value:.3g} s" if value < 1000 else f"{value:.0f} s"


def write_json(path: Path | None, figures: dict) -> None:
    """Write figures to a file, if there is one to write to; null where a number is not finite."""
    if path is not None:
        text = json.dumps(_finite(figures), indent=2, allow_nan=False)
        write_atomically(path, (text + "\n").encode())


def _finite(value):
    """Return figures with None for NaN and infinities, which JSON does not have."""
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
