"""`Checkpoint`: a callback that saves the training, to be resumed after an interruption."""

import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fastnn.callbacks import Callback, arrays_of, overwrite_arrays
from fastnn.errors import ModelFileError, reason
from fastnn.files.atomic_write import check_writable, remove_leftovers, write_atomically
from fastnn.files.storage import read
from fastnn.schedules import Schedule
from fastnn.validation import check_integer

ENTRY = "checkpoint"
"""The entry of the metadata with all of a checkpoint except its arrays, as JSON."""


class Checkpoint(Callback):
    """Save the training every few epochs, and resume it after a restart.

    The file is a model file, from which `Sequential.load` reads the net. Besides the net it holds
    the state of the optimizer, of the shuffling, of dropout and of the other callbacks, and the
    history. A resumed training ends with the same bits as one without interruption. A new file
    replaces the old one only when it is complete and on the disk: if the process is killed or the
    power fails, the file of the last save is still there.

    Parameters
    ----------
    path : str or path-like
        The file.
    every : int, default=1
        Epochs between two saves. The last epoch is always saved.
    resume : bool, default=False
        Whether to resume the training of the file, if there is one. The net, the data and the
        arguments of `fit` must be those of that training, but `epochs` may be larger. Those that
        only say how to go on may differ, with a warning: the schedule, the optimizer's learning
        rate and other numbers, penalties and parameters of the loss.

    Raises
    ------
    OSError
        By `fit`, if the file cannot be written: at the beginning if its folder is missing or
        read-only, later if the disk is full. An old file is kept.
    ModelFileError
        By `fit`, if the file is damaged or holds no checkpoint.
    ValueError
        If `every` is out of range; by `fit`, if the file belongs to another training.

    Warns
    -----
    UserWarning
        By `fit`, if a training is resumed with another learning rate, schedule or the like, which
        hold from there on, or with another seed, which has no effect: the random numbers go on.

    Examples
    --------
    A script that can be killed and started again at any time:

    >>> import os, tempfile
    >>> import numpy as np
    >>> from fastnn import Affine, Checkpoint, Sequential
    >>> path = os.path.join(tempfile.mkdtemp(), "net.safetensors")
    >>> for epochs in (2, 5):  # the second run resumes after the second epoch
    ...     net = Sequential([Affine(3, 2)], seed=0)
    ...     checkpoint = Checkpoint(path, every=2, resume=True)
    ...     history = net.fit(np.eye(3), [0, 1, 1], epochs=epochs, callbacks=[checkpoint])
    >>> len(history), checkpoint.resumed_at
    (5, 2)

    Attributes
    ----------
    resumed_at : int
        Number of epochs that the last `fit` found in the file and did not repeat.
    """

    runs_last = True  # the file holds what the other callbacks do at the end of the epoch

    def __init__(self, path: str | os.PathLike[str], every: int = 1, resume: bool = False) -> None:
        self.path = Path(path)
        self.every = check_integer("every", every, 1)
        self.resume = bool(resume)
        self.resumed_at = 0
        self._run: Any = None

    def attach(self, run: Any) -> None:
        self._run = run

    def on_fit_begin(self, net: Any, info: dict[str, Any]) -> None:
        self.resumed_at = 0
        if self.resume and self.path.exists():
            differences = _restore(self.path, self._run)
            self.resumed_at = self._run.next_epoch
            if differences:
                where = f"path {str(self.path)!r}: the training is resumed with"
                warnings.warn(f"{where} {'; '.join(differences)}", UserWarning, stacklevel=4)
        check_writable(self.path)
        remove_leftovers(self.path)

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        run = self._run
        if run.history.divergence is None and (
            run.next_epoch % self.every == 0 or run.next_epoch == run.epochs or run.stopped
        ):
            write_atomically(self.path, content_of(run))


def content_of(
    run: Any,
    metadata: Mapping[str, str] | None = None,
    tensors: Mapping[str, np.ndarray] | None = None,
) -> bytes:
    """Return the content of a checkpoint's file: the net and the state of a training.

    Parameters
    ----------
    run : fastnn.training.run.Run
        The training, at the end of an epoch.
    metadata : mapping of str to str, optional
        Kept beside it.
    tensors : mapping of str to ndarray, optional
        Kept beside it; names must not begin with "layers.", "optimizer." or "callbacks.".

    Returns
    -------
    bytes
    """
    state = run.trainer.state()
    arrays = {
        f"optimizer.{k}.{i}.{j}": array
        for k, vectors in enumerate(state.pop("vectors"))
        for i, arrays in enumerate(vectors)
        for j, array in enumerate(arrays)
        if array is not None
    }
    callbacks: list[dict[str, Any]] = []
    for k, callback in enumerate(_with_state(run)):
        callbacks.append({})
        for name, value in callback.state().items():
            if isinstance(value, np.ndarray):
                arrays[f"callbacks.{k}.{name}"] = value
            else:
                callbacks[k][name] = value
    entry = {
        "settings": _settings(run),
        "how": _how(run),
        "next_epoch": run.next_epoch,
        "stopped": run.stopped,
        "trainer": state,
        "shuffle": None if run.shuffle_rng is None else run.shuffle_rng.bit_generator.state,
        "history": {name: run.history[name] for name in run.history.keys()},  # noqa: SIM118
        "callbacks": callbacks,
    }
    entries = {**(metadata or {}), ENTRY: json.dumps(entry, default=_as_json)}
    return run.net.to_bytes(metadata=entries, tensors={**(tensors or {}), **arrays})


def _as_json(value: object) -> Any:
    """Return numbers and arrays of NumPy, as in the state of a generator, in a form for JSON."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    raise TypeError(f"a callback's state must hold numbers, texts and arrays, got {value!r}")


def _with_state(run: Any) -> list[Callback]:
    """Return the callbacks of a training that have a state."""
    return [callback for callback in run.callbacks if callback.state()]


def _settings(run: Any) -> dict[str, Any]:
    """Return the settings that must be the same to resume a training, after a trip through JSON."""
    trainer, net = run.trainer, run.net
    settings = {
        "layers": _without_seeds([[type(x).__name__, x.config()] for x in net.layers]),
        "dtype": net.dtype.name,
        "loss": trainer.loss.name,
        "optimizer": type(trainer.optimizer).__name__,
        "batch_size": trainer.batch_size,
        "n_samples": trainer.n_samples,
        "shuffle": run.shuffle_rng is not None,
        "callbacks": [type(callback).__name__ for callback in _with_state(run)],
    }
    return json.loads(json.dumps(settings))


def _how(run: Any) -> dict[str, str | None]:
    """Return the settings that may differ when a training is resumed; None is unknown."""
    trainer, seed, schedule = run.trainer, run.net._seed, run.schedule
    if not isinstance(schedule, Schedule):  # a function, whose `repr` is another in each process
        schedule = getattr(schedule, "__qualname__", type(schedule).__qualname__)
    return {
        "seed": None if seed is None else str(seed),
        **{name: str(value) for name, value in vars(trainer.optimizer).items()},
        "schedule": str(schedule),
        "alpha": str(trainer.alpha),
        "regularization": str(trainer.regularization),
        "loss": str(trainer.loss),
    }


def _differences(ours: dict[str, str | None], saved: dict[str, str | None]) -> list[str]:
    """Return how the settings of a resumed training differ from those in its file."""
    differences = []
    for name, value in ours.items():
        before = saved.get(name)
        if value is None or before is None or value == before:
            continue
        differences.append(
            f"the seed {value}, which has no effect: the random numbers are those of {before}"
            if name == "seed"
            else f"{name} {value}, not {before}"
        )
    return differences


def _without_seeds(config: Any) -> Any:
    """Return a description of layers without seeds, at any depth: those belong to the state."""
    if isinstance(config, dict):
        return {name: _without_seeds(x) for name, x in config.items() if name != "seed"}
    return [_without_seeds(x) for x in config] if isinstance(config, list) else config


def _restore(path: Path, run: Any) -> list[str]:
    """Restore the state of a training from a file; return what differs from how it began."""
    net, metadata, tensors = read(path)
    if ENTRY not in metadata:
        raise ModelFileError(f"path {str(path)!r} holds a net, but no checkpoint")
    try:
        entry = json.loads(metadata[ENTRY])
        saved = entry["settings"]
        for name, ours in _settings(run).items():
            if saved[name] != ours:
                break
        else:
            differences = _differences(_how(run), dict(entry.get("how", {})))
            _restore_parts(run, net, entry, tensors)
            return differences
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ModelFileError(
            f"path {str(path)!r} holds a damaged checkpoint: {reason(error)}"
        ) from error
    raise ValueError(
        f"path {str(path)!r} is a checkpoint of another training: its {name} is "
        f"{saved[name]!r}, not {ours!r}"
    )


def _restore_parts(
    run: Any, net: Any, entry: dict[str, Any], tensors: dict[str, np.ndarray]
) -> None:
    """Restore the parts of a training: everything is read first, then everything is changed."""
    state = {
        **entry["trainer"],
        "vectors": [
            [
                tuple(
                    None if array is None else tensors[f"optimizer.{k}.{i}.{j}"]
                    for j, array in enumerate(arrays)
                )
                for i, arrays in enumerate(run.net.tensors())
            ]
            for k in range(len(run.trainer.state_vectors()))
        ],
    }
    callbacks = []
    for k, numbers in enumerate(entry["callbacks"]):
        prefix = f"callbacks.{k}."
        arrays = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        callbacks.append(numbers | arrays)
    figures = entry["history"]
    logs = [dict(zip(figures, row, strict=True)) for row in zip(*figures.values(), strict=True)]

    run.trainer.restore(state)
    overwrite_arrays(run.net, arrays_of(net))
    run.trainer.pull()
    if run.shuffle_rng is not None:
        run.shuffle_rng.bit_generator.state = entry["shuffle"]
    for callback, own in zip(_with_state(run), callbacks, strict=True):
        callback.restore(own)
    for row in logs:
        run.history.append(row)
    run.next_epoch, run.stopped = int(entry["next_epoch"]), bool(entry["stopped"])
