"""Callbacks: objects whose methods `Sequential.fit` calls during training."""

import html
import importlib
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias

import numpy as np

from fastnn.compiling import NOTICED_SECONDS, Line, message, seconds_compiled, told
from fastnn.errors import MissingExtraError, require, shown
from fastnn.validation import check_flag, check_integer, check_number

_SECONDS_BETWEEN_REFRESHES = 0.1

State: TypeAlias = Mapping[str, bool | int | float | str | np.ndarray]
"""The state of a callback in a checkpoint."""


class Callback:
    """Base class of all callbacks: its methods do nothing. Override the ones you need.

    Attributes
    ----------
    runs_last : bool
        Whether the callback is called after all those whose `runs_last` is false. Apart from this,
        callbacks are called in the order of the list.

    Examples
    --------
    >>> from fastnn import Affine, Callback, Sequential
    >>> class StopWhenGood(Callback):
    ...     def on_epoch_end(self, epoch, logs):
    ...         return logs["loss"] < 0.1
    >>> net = Sequential([Affine(2, 2)], seed=0)
    >>> history = net.fit([[0, 1], [1, 0]], [0, 1], callbacks=[StopWhenGood()], epochs=3)
    """

    runs_last: bool = False

    def attach(self, run: Any) -> None:
        """Take note of the training itself; called before `on_fit_begin`.

        Parameters
        ----------
        run : fastnn.training.run.Run
            For callbacks that save or resume a training, such as `fastnn.Checkpoint`.
        """

    def on_compiling(self, seconds: float) -> None:
        """Handle the compilation of a kernel, which may be before `on_fit_begin`.

        While a callback has this method, `Sequential.fit` leaves it to the callback to tell of
        the wait.

        Parameters
        ----------
        seconds : float
            What the wait for kernels has taken so far.

        Examples
        --------
        >>> import numpy as np
        >>> from fastnn import Affine, Callback, Sequential
        >>> class Waits(Callback):
        ...     longest = 0.0
        ...     def on_compiling(self, seconds):
        ...         self.longest = max(self.longest, seconds)
        >>> waits, net = Waits(), Sequential([Affine(2, 2)], seed=0)
        >>> history = net.fit(np.eye(2), [0, 1], epochs=1, callbacks=[waits])
        >>> waits.longest >= 0.0
        True
        """

    def on_fit_begin(self, net: Any, info: dict[str, Any]) -> None:
        """Handle the beginning of the training.

        Parameters
        ----------
        net : Sequential
            The net to be trained.
        info : dict
            The settings of the training: "epochs", "n_samples", "batch_size", "n_threads",
            "steps_per_epoch" and "figures" (the keys of the `logs` of `on_epoch_end`).
        """

    def on_progress(self, epoch: int, samples_done: int, mean_loss: float) -> None:
        """Handle the end of some batches: about every 80 ms, and at the end of each epoch.

        Parameters
        ----------
        epoch : int
            Counted from 0.
        samples_done : int
            Number of samples trained in this epoch so far.
        mean_loss : float
            Mean loss over these samples.
        """

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> bool | None:
        """Handle the end of an epoch.

        The parameters of the net are up to date. They may be changed here.

        Parameters
        ----------
        epoch : int
            Counted from 0.
        logs : dict of str to float
            The figures of the epoch, as in the history: "loss", "seconds", ...

        Returns
        -------
        bool or None
            Whether to stop the training.
        """

    def on_fit_end(self, history: Any) -> None:
        """Handle the end of the training, however it ended.

        Parameters
        ----------
        history : fastnn.training.run.History
            The figures of all epochs.
        """

    def state(self) -> State:
        """Return the state of the callback, for a checkpoint.

        Returns
        -------
        dict of str to (bool, int, float, str or ndarray)
            All that `restore` needs; empty for a callback without state.
        """
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore the state from a checkpoint; called after `on_fit_begin`.

        Parameters
        ----------
        state : dict
            The dict that `state` returned, perhaps in another process.
        """


class EarlyStopping(Callback):
    """Stop the training when a figure has not improved for some epochs.

    Parameters
    ----------
    monitor : str, default="val_loss"
        The figure, a key of the history. Larger is better if its name ends in "accuracy" or "r2",
        smaller is better for all others.
    patience : int, default=10
        Epochs without improvement before the training stops.
    min_delta : float, default=0.0
        A change by no more than this is no improvement.
    restore_best : bool, default=True
        Whether to restore the parameters and running statistics of the best epoch at the end.

    Attributes
    ----------
    best : float
        The best figure so far.
    best_epoch : int
        Its epoch, counted from 0; -1 before the first one.

    Raises
    ------
    ValueError
        If an argument is out of range; by `fit`, if the training has no such figure.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import Affine, EarlyStopping, Sequential
    >>> X, y = np.eye(2), [0, 1]
    >>> stopping = EarlyStopping("val_loss", patience=2)
    >>> net = Sequential([Affine(2, 2)], seed=0)
    >>> history = net.fit(X, y, validation_data=(X, [1, 0]), callbacks=[stopping], epochs=50)
    >>> len(history), stopping.best_epoch
    (3, 0)
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
        figures = info["figures"]
        if self.monitor not in figures:
            validated = any(name.startswith("val_") for name in figures)
            needs_more = self.monitor.startswith("val_") and not validated
            raise ValueError(
                f"monitor must be one of {', '.join(map(repr, figures))}, "
                f"got {shown(self.monitor)}"
                + ("; give validation_data to fit" if needs_more else "")
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
    """Return all arrays of parameters and of running statistics of a net."""
    return [array for arrays in net.tensors() for array in arrays if array is not None]


def overwrite_arrays(net: Any, values: list[np.ndarray]) -> None:
    """Overwrite the arrays of a net, in the order of `arrays_of`, with others."""
    for array, value in zip(arrays_of(net), values, strict=True):
        array[...] = value


class EpochPrinter(Callback):
    """Print one line for each epoch.

    Examples
    --------
    >>> from fastnn import Affine, Sequential
    >>> from fastnn.callbacks import EpochPrinter
    >>> net = Sequential([Affine(1, 1)], seed=0)
    >>> history = net.fit([[1.0]], [1.0], loss="mse", epochs=1, callbacks=[EpochPrinter()])
    ... # doctest: +ELLIPSIS
    epoch 1/1  loss ...  ... samples/s
    """

    def __init__(self) -> None:
        self._wait = Line()

    def on_compiling(self, seconds: float) -> None:
        self._wait(seconds)

    def on_fit_begin(self, net: Any, info: dict[str, Any]) -> None:
        self._epochs = info["epochs"]

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        parts = [f"epoch {epoch + 1}/{self._epochs}"]
        for name, value in logs.items():
            if name not in ("seconds", "samples_per_second"):
                parts.append(f"{name} {value:.4f}")
        print(*parts, f"{logs['samples_per_second']:,.0f} samples/s", sep="  ")


def _in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")  # a kernel has loaded it
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


class _NotebookBar:
    """The part of `rich.progress.Progress` that `ProgressBar` needs, in the output of a cell.

    In a notebook rich draws with ipywidgets only, whose output is lost where no browser runs them:
    in a notebook that is executed by a program, and in its export. This is HTML with the same
    words, which is replaced in place and stays in the file. It needs IPython, as each kernel does.
    """

    def __init__(self) -> None:
        self._fields: dict[str, Any] = {"completed": 0}
        self._handle: Any = None

    def add_task(self, description: str, total: float, **fields: Any) -> int:
        """Set the length of the bar and its fields."""
        self._fields |= {"total": total, **fields}
        return 0

    def start(self) -> None:
        """Display the bar."""
        self._began = time.perf_counter()
        display = importlib.import_module("IPython.display").display
        self._handle = display(self._content(), raw=True, display_id=True)

    def update(self, task: int, **fields: Any) -> None:
        """Change some fields; `refresh` shows them."""
        self._fields |= fields

    def refresh(self) -> None:
        """Replace what is displayed."""
        self._handle.update(self._content(), raw=True)

    def stop(self) -> None:
        """Display the end."""
        self.refresh()

    def _content(self) -> dict[str, str]:
        """Return the bar as HTML, and as text for what shows no HTML."""
        fields = self._fields
        done, total = fields["completed"], fields["total"]
        words = f"epoch {fields['epoch']}/{fields['epochs']}  {fields['figures']}"
        if 0 < done < total:
            left = (time.perf_counter() - self._began) * (total - done) / done
            words += f"  {int(left) // 60}:{int(left) % 60:02} left"
        bar = f'<progress value="{done}" max="{total}" style="width: 12em"></progress>'
        style = "font-family: monospace; white-space: pre-wrap"
        return {
            "text/plain": words,
            "text/html": f'<div style="{style}">{bar}  {html.escape(words)}</div>',
        }


def _terminal_bar() -> Callable[[], Any]:
    """Return a function that makes the bar of a terminal, on standard error.

    Raises
    ------
    MissingExtraError
        If rich is not installed.
    """
    rich, console = require("rich.progress", "cli"), require("rich.console", "cli")
    return lambda: rich.Progress(
        rich.TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
        rich.BarColumn(bar_width=24),
        rich.TextColumn("{task.fields[figures]}"),
        rich.TimeRemainingColumn(compact=True),
        console=console.Console(stderr=True),
        auto_refresh=False,
    )


class ProgressBar(Callback):
    """A progress bar with epoch, loss, validation score and speed.

    On standard error or, in a notebook, in the output of the cell, where it stays when the notebook
    is saved or exported. It is drawn by the callback itself, at most ten times a second: a thread
    of its own would delay the training. Needs the `cli` extra, but not in a notebook.

    Raises
    ------
    MissingExtraError
        If rich is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import Affine, ProgressBar, Sequential
    >>> net = Sequential([Affine(2, 2)], seed=0)
    >>> history = net.fit(np.eye(2), [0, 1], epochs=2, callbacks=[ProgressBar()])
    """

    def __init__(self) -> None:
        self._new_bar = _NotebookBar if _in_notebook() else _terminal_bar()
        self._wait = Line()
        self._progress: Any = None

    def on_compiling(self, seconds: float) -> None:
        """Tell of the wait: in the bar where it is drawn, else on a line of its own."""
        if self._progress is None:
            self._wait(seconds)
        elif seconds >= NOTICED_SECONDS:
            self._progress.update(self._bar, figures=message(seconds))
            self._progress.refresh()

    def on_fit_begin(self, net: Any, info: dict[str, Any]) -> None:
        """Draw the empty bar."""
        self._epochs, self._n_samples = info["epochs"], info["n_samples"]
        self._progress = self._new_bar()
        self._bar = self._progress.add_task(
            "", total=self._epochs * self._n_samples, epoch=0, epochs=self._epochs, figures=""
        )
        self._loss, self._score, self._speed = math.nan, "", 0.0
        self._trained, self._seconds = 0, 0.0
        self._began = self._drawn = time.perf_counter()
        self._compiled_before = seconds_compiled()
        self._progress.start()

    def on_progress(self, epoch: int, samples_done: int, mean_loss: float) -> None:
        """Move the bar within an epoch."""
        self._loss = mean_loss
        self._draw(epoch, samples_done)

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Show the figures of the epoch."""
        self._loss = logs["loss"]
        self._trained += self._n_samples
        self._seconds += logs["seconds"]
        self._speed = self._trained / self._seconds  # of all epochs, without validation
        for name, label in (("val_accuracy", "val accuracy"), ("val_r2", "val R2")):
            if name in logs:
                self._score = f"  {label} {logs[name]:.4f}"
        self._draw(epoch, self._n_samples)

    def on_fit_end(self, history: Any) -> None:
        """Draw the bar a last time, with the number of epochs that were trained, and end it."""
        if len(history):
            self._progress.update(self._bar, total=len(history) * self._n_samples)
            self._draw(len(history) - 1, self._n_samples, at_once=True)
        self._progress.stop()
        self._progress = None

    def _draw(self, epoch: int, samples_done: int, at_once: bool = False) -> None:
        now = time.perf_counter()
        if now - self._drawn < _SECONDS_BETWEEN_REFRESHES and not at_once:
            return
        self._drawn = now
        done = epoch * self._n_samples + samples_done
        compiled = seconds_compiled() - self._compiled_before
        speed = self._speed or done / (now - self._began - compiled)
        self._progress.update(
            self._bar,
            completed=done,
            epoch=epoch + 1,
            figures=f"loss {self._loss:.4f}{self._score}  {speed:,.0f} samples/s",
        )
        self._progress.refresh()


def telling(callbacks: Sequence[Callback]) -> AbstractContextManager[None]:
    """Let the callbacks tell of kernels that are compiled meanwhile, if one of them does.

    Examples
    --------
    >>> from fastnn.callbacks import EpochPrinter, telling
    >>> with telling([EpochPrinter()]):
    ...     pass
    """
    own = [c for c in callbacks if type(c).on_compiling is not Callback.on_compiling]
    if not own:
        return nullcontext()

    def tell(seconds: float) -> None:
        for callback in own:
            callback.on_compiling(seconds)

    return told(tell)


def check_callbacks(callbacks: Callback | Sequence[Callback]) -> list[Callback]:
    """Return callbacks as a list, or raise ValueError if one of them is not a `Callback`.

    Parameters
    ----------
    callbacks : Callback, or list or tuple of Callback

    Returns
    -------
    list of Callback

    Examples
    --------
    >>> from fastnn.callbacks import EarlyStopping, check_callbacks
    >>> len(check_callbacks(EarlyStopping()))
    1
    """
    given: list[Any] = list(callbacks) if isinstance(callbacks, (list, tuple)) else [callbacks]
    for callback in given:
        if not isinstance(callback, Callback):
            raise ValueError(f"callbacks must be a list of Callback objects, got {shown(callback)}")
    return given


def for_verbosity(verbose: bool | int | None) -> list[Callback]:
    """Return the callbacks that show progress: a bar, or lines where rich is not installed.

    Parameters
    ----------
    verbose : bool, int or None
        Returns no callback if this is 0, False or None.

    Returns
    -------
    list of Callback

    Raises
    ------
    ValueError
        If `verbose` is not an integer >= 0.

    Examples
    --------
    >>> from fastnn.callbacks import for_verbosity
    >>> for_verbosity(0)
    []
    """
    if verbose is None or isinstance(verbose, (bool, np.bool_)):
        verbose = int(bool(verbose))
    if check_integer("verbose", verbose, 0) == 0:
        return []
    try:
        return [ProgressBar()]
    except MissingExtraError:
        return [EpochPrinter()]
