"""Trainings that end early: their checkpoint, and whether it belongs to a training."""

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from fastnn.checkpoint import ENTRY, Checkpoint, content_of
from fastnn.cli.checks import TrainingError, UsageError
from fastnn.cli.streams import is_stream
from fastnn.errors import DataError, ModelFileError, reason
from fastnn.files.atomic_write import write_atomically
from fastnn.files.model_file import parse_json, read_model
from fastnn.network import Sequential

SUFFIX = ".safetensors"
_KEY = "fastnn.train"  # the entry of a checkpoint's metadata that says which training it is of

# A training that is killed has lost no more than the first of these; Ctrl-C, which leaves time to
# write a file, no more than the second, or twenty times what it takes to remember the state.
_SECONDS_BETWEEN_FILES, _SECONDS_BETWEEN_STATES, _MOST_COST = 10.0, 0.1, 0.05

# Options that make no difference to a training, or only by way of its data, of which there is a
# digest.
_NOT_COMPARED = frozenset(
    {
        *("data", "target", "drop", "task", "header", "test", "test_size", "validation_size"),
        *("threads", "out", "plot", "compare", "json", "resume", "force", "quiet"),
        "keep_diverged",
    }
)


def checkpoint_path(model_path: Path) -> Path:
    """Return where the checkpoint of a training lies: beside its model."""
    return model_path.with_name(f"{model_path.name.removesuffix(SUFFIX)}.checkpoint{SUFFIX}")


@dataclasses.dataclass(frozen=True)
class Identity:
    """What must be the same to continue a training.

    Attributes
    ----------
    options : dict of str to (str, int, float, bool or None)
        Options of the network and of the training.
    data : str
        Digest of the encoded training and validation rows.
    outputs : list of str
        Absolute paths of the files that the training writes: another run of it may replace them.
    """

    options: dict[str, Any]
    data: str
    outputs: list[str]

    @classmethod
    def of(cls, settings: Any, encoding: str, *arrays: np.ndarray) -> "Identity":
        """Return the identity of a training.

        Parameters
        ----------
        settings : TrainSettings
            The options.
        encoding : str
            Description of the encoder.
        *arrays : ndarray
            Encoded features and targets.
        """
        digest = hashlib.sha256(encoding.encode())
        for array in arrays:
            digest.update(f"{array.shape} {array.dtype}".encode())
            digest.update(np.ascontiguousarray(array).data)
        options = {
            name: value
            for name, value in dataclasses.asdict(settings).items()
            if name not in _NOT_COMPARED
        }
        files = (path for path in settings.outputs.values() if path and not is_stream(path))
        outputs = [str(path.resolve()) for path in files]
        return cls(options, digest.hexdigest(), outputs)

    @classmethod
    def read(cls, path: Path) -> "Identity":
        """Return the identity of the training that a checkpoint is of.

        Raises
        ------
        ModelFileError
            If the file is damaged, or is no checkpoint of ``fastnn train``.
        """
        _, metadata, _ = read_model(path)
        if _KEY not in metadata or ENTRY not in metadata:
            raise ModelFileError(f"path {str(path)!r} holds no checkpoint of fastnn train")
        try:
            found = cls(**parse_json(metadata[_KEY]))
            types = {name: type(value) for name, value in vars(found).items()}
            if types != {"options": dict, "data": str, "outputs": list}:
                raise ValueError(f"types {types}")
            return found
        except (TypeError, ValueError, RecursionError) as error:
            raise ModelFileError(
                f"path {str(path)!r} holds a damaged checkpoint: {reason(error)}"
            ) from error

    def check(self, found: "Identity", path: Path) -> None:
        """Raise `UsageError` or `DataError` if a checkpoint is of another training."""
        for name, ours in self.options.items():
            theirs = found.options.get(name, ours)
            if theirs != ours:
                option = f"--{name.replace('_', '-')}"
                raise UsageError(
                    f"--resume: {path} is the checkpoint of another training: its {option} is "
                    f"{_shown(theirs)}, not {_shown(ours)}"
                )
        if found.data != self.data:
            raise DataError(
                f"--resume: {path} is the checkpoint of another training: its rows are not those "
                "of DATA and the options of the data"
            )


def _shown(value: Any) -> str:
    return "by default" if value is None else repr(value)


class CtrlC:
    """A context in which a net is trained, and which the first Ctrl-C ends without an exception.

    It is raised nevertheless if nothing has been learned yet, or pressed again meanwhile.

    Parameters
    ----------
    net : Sequential
        The net, before its training.

    Attributes
    ----------
    pressed : bool
        Whether Ctrl-C ended the training.

    Raises
    ------
    TrainingError
        On Ctrl-C, if the weights are not finite by then.
    """

    def __init__(self, net: Sequential) -> None:
        self._net, self._first = net, net.params.copy()
        self.pressed = False

    def __enter__(self) -> "CtrlC":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        again = error is not None and isinstance(error.__context__, KeyboardInterrupt)
        learned = self._net.history is not None and (self._net.params != self._first).any()
        if not isinstance(error, KeyboardInterrupt) or again or not learned:
            return False
        if not np.isfinite(self._net.params).all():
            raise TrainingError(
                "the training was interrupted, and its weights are not finite: nothing is saved"
            ) from error
        self.pressed = True
        return True


class TrainingCheckpoint(Checkpoint):
    """The checkpoint of ``fastnn train``.

    The state of the training is remembered at the ends of epochs, some time apart, and written to
    the file from time to time, and by `write` after Ctrl-C.

    Parameters
    ----------
    path : Path
        The file.
    identity : callable
        Returns the identity of the training; called when it is first needed.
    resume : bool
        Whether to continue the training of the file, if there is one.
    metadata, tensors : mapping
        What makes a model of the net in the file: `fastnn.load` gives back a `TableModel`.
    """

    def __init__(
        self,
        path: Path,
        identity: Callable[[], Identity],
        resume: bool,
        metadata: Mapping[str, str],
        tensors: Mapping[str, np.ndarray],
    ) -> None:
        super().__init__(path, resume=resume)
        self._identity, self._metadata, self._tensors = identity, metadata, tensors
        self._content: bytes | None = None  # remembered, but not written
        self._next_state = self._next_file = 0.0

    @property
    def epochs(self) -> int:
        """The number of epochs of the training."""
        return self._run.epochs

    def on_fit_begin(self, net: Any, info: dict[str, Any]) -> None:
        try:
            super().on_fit_begin(net, info)
        except ModelFileError as error:
            raise ModelFileError(f"--resume: {error}") from error
        except ValueError as error:
            raise UsageError(f"--resume: {error}") from error
        if not self.resume:  # of a training that is begun anew
            self.path.unlink(missing_ok=True)
        now = time.monotonic()
        self._next_state = now + _SECONDS_BETWEEN_STATES
        self._next_file = now + _SECONDS_BETWEEN_FILES

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        began = time.monotonic()
        if began < self._next_state or self._run.history.divergence is not None:
            return
        identity = json.dumps(dataclasses.asdict(self._identity()))
        try:
            self._content = content_of(self._run, {**self._metadata, _KEY: identity}, self._tensors)
        except ValueError:  # a history of a million epochs, which no file holds
            self._next_state = math.inf  # it is continued from the last state that one holds
            return
        now = time.monotonic()
        self._next_state = now + max(_SECONDS_BETWEEN_STATES, (now - began) / _MOST_COST)
        if now >= self._next_file:
            self.write()

    def write(self) -> bool:
        """Write the last state that was remembered; return whether there is a file now."""
        if self._content is not None:
            write_atomically(self.path, self._content)
            self._content = None
            self._next_file = time.monotonic() + _SECONDS_BETWEEN_FILES
        return self.path.exists()

    def discard(self) -> None:
        """Remove the file: the training has ended."""
        self._content = None
        self.path.unlink(missing_ok=True)
