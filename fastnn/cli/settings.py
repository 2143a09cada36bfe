"""`TrainSettings`: the options of ``fastnn train``, and their checks."""

import dataclasses
from pathlib import Path
from typing import Any

from fastnn import optimizers, schedules
from fastnn.cli import checks, interruption, streams
from fastnn.datasets import source_name
from fastnn.errors import ModelFileError, require
from fastnn.inspection.plots import SUFFIXES
from fastnn.layers.activations import HIDDEN_BY_NAME
from fastnn.runtime import threads
from fastnn.validation import check_dtype, check_integer, check_number

ACTIVATIONS = HIDDEN_BY_NAME
OPTIMIZERS = optimizers.BY_NAME
# Activations that scikit-learn has too -> its names for them.
SKLEARN_ACTIVATIONS = {
    "relu": "relu",
    "tanh": "tanh",
    "sigmoid": "logistic",
    "identity": "identity",
}
SKLEARN_SOLVERS = ("adam", "sgd")
_TASKS = ("auto", "classification", "regression")
MOMENTUM = 0.9
_MAX_SEED = 2**32 - 1  # of scikit-learn


@dataclasses.dataclass(frozen=True)
class TrainSettings:
    """The options of ``fastnn train``, by the names that its help explains."""

    data: str
    target: str | None
    drop: str
    task: str
    header: bool | None
    test: str | None
    test_size: float
    validation_size: float
    hidden: str
    activation: str
    dtype: str
    epochs: int | None
    batch_size: int
    optimizer: str
    learning_rate: float | None
    schedule: str
    alpha: float
    weight_decay: float | None
    early_stopping: bool
    patience: int
    seed: int
    threads: int | None
    out: Path | None
    plot: Path | None
    compare: bool
    json: Path | None
    resume: bool
    keep_diverged: bool
    force: bool
    quiet: bool

    @property
    def hidden_sizes(self) -> list[int]:
        """Units of each hidden layer; raises `UsageError` if the option is malformed."""
        try:
            sizes = [int(part) for part in self.hidden.split(",")] if self.hidden.strip() else []
        except ValueError:
            sizes = [0]
        if any(size < 1 for size in sizes):
            raise checks.UsageError(
                f"--hidden must be integers >= 1 such as 128,64, got {self.hidden!r}"
            )
        return sizes

    @property
    def dropped(self) -> list[str]:
        """Columns to drop."""
        return [name.strip() for name in self.drop.split(",") if name.strip()]

    @property
    def source(self) -> str:
        """The name of DATA: the argument, unless it is standard input."""
        return streams.NAME if streams.is_stream(self.data) else self.data

    @property
    def model_path(self) -> Path:
        """The file that the model is saved to."""
        return self.out or Path(f"{source_name(self.source)}.safetensors")

    @property
    def checkpoint_path(self) -> Path:
        """The file of the checkpoint that an interrupted training leaves."""
        return interruption.checkpoint_path(self.model_path)

    @property
    def outputs(self) -> dict[str, Path | None]:
        """The files that are written, by their options."""
        return {"--out": self.model_path, "--plot": self.plot, "--json": self.json}

    def _own_outputs(self) -> list[Path]:
        """Return the files that the training of the checkpoint writes, so that it may again."""
        try:
            return list(map(Path, interruption.Identity.read(self.checkpoint_path).outputs))
        except ModelFileError as error:
            raise ModelFileError(f"--resume: {error}") from error

    def make_optimizer(self) -> optimizers.Optimizer:
        """Return the optimizer with its learning rate."""
        options: dict[str, Any] = {}
        if self.optimizer == "sgd":
            options = {"momentum": MOMENTUM, "nesterov": True}
        if self.learning_rate is not None:
            options["learning_rate"] = self.learning_rate
        return OPTIMIZERS[self.optimizer](**options)

    def check(self) -> None:
        """Check all options before any work begins.

        Raises
        ------
        UsageError
            If an option cannot be used.
        MissingExtraError
            If a package that the options need is not installed.
        """
        checks.check_choice("--task", self.task, _TASKS)
        checks.check_choice("--activation", self.activation, ACTIVATIONS)
        checks.check_choice("--optimizer", self.optimizer, OPTIMIZERS)
        checks.check_choice("--schedule", self.schedule, schedules.BY_NAME)
        checks.check_share("--test-size", self.test_size)
        checks.check_share("--validation-size", self.validation_size)
        _ = self.hidden_sizes
        with checks.named_as_option():
            check_dtype(self.dtype)
            if self.epochs is not None:
                check_integer("epochs", self.epochs, 1)
            check_integer("batch_size", self.batch_size, 1)
            check_integer("patience", self.patience, 1)
            check_number("alpha", self.alpha)
            if self.weight_decay is not None:
                check_number("weight_decay", self.weight_decay)
            self.make_optimizer()
            threads.check_num_threads(self.threads)
        if not 0 <= self.seed <= _MAX_SEED:
            raise checks.UsageError(
                f"--seed must be an integer from 0 to {_MAX_SEED}, got {self.seed}"
            )
        if self.early_stopping and not self.validation_size:
            raise checks.UsageError("--early-stopping needs a --validation-size above 0")
        if self.compare and self.activation not in SKLEARN_ACTIVATIONS:
            allowed = ", ".join(SKLEARN_ACTIVATIONS)
            raise checks.UsageError(
                f"--compare needs an --activation that scikit-learn has ({allowed}), "
                f"got {self.activation!r}"
            )
        if self.compare and self.optimizer not in SKLEARN_SOLVERS:
            allowed = ", ".join(SKLEARN_SOLVERS)
            raise checks.UsageError(
                f"--compare needs an --optimizer that scikit-learn has ({allowed}), "
                f"got {self.optimizer!r}"
            )
        sources = {"DATA": self.data, "--test": self.test}
        for argument, source in sources.items():
            if source is not None:
                checks.check_exists(argument, source)
        if streams.is_stream(self.data) and streams.is_stream(self.test):
            raise checks.UsageError("--test - cannot be used: standard input is DATA")
        if streams.is_stream(self.out):
            raise checks.UsageError("--out - cannot be used: a model needs a file")
        found = self.checkpoint_path.exists() and not self.force
        if found and not self.resume:
            raise checks.UsageError(
                f"--out {self.model_path}: its training was interrupted and left "
                f"{self.checkpoint_path}: --resume continues it, --force starts anew"
            )
        replaceable = self._own_outputs() if found else []
        checks.check_outputs(self.outputs, sources, self.force, replaceable=replaceable)
        if self.plot is not None:
            require("matplotlib", "plot")
            if self.plot.suffix.lower() not in SUFFIXES:
                raise checks.UsageError(
                    f"--plot must end in {' or '.join(SUFFIXES)}, got '{self.plot}'"
                )
        require("sklearn", "sklearn")
