"""``fastnn train``: split, encode, train, test, save, and compare."""

import dataclasses
import functools
import itertools
import json
import math
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from rich.text import Text

from fastnn import network
from fastnn.callbacks import Callback, EarlyStopping, ProgressBar
from fastnn.cli import checks, display
from fastnn.cli.interruption import CtrlC, Identity, TrainingCheckpoint
from fastnn.cli.settings import ACTIVATIONS, MOMENTUM, SKLEARN_ACTIVATIONS, TrainSettings
from fastnn.compiling import seconds_compiled
from fastnn.data.dataset import Features
from fastnn.data.table_encoder import TableEncoder
from fastnn.datasets import BUNDLED, Dataset
from fastnn.errors import DataError, require
from fastnn.files.atomic_write import write_atomically
from fastnn.inspection.plots import training_curve
from fastnn.layers import Affine, Layer
from fastnn.regularization import Regularization
from fastnn.table_model import TableModel, can_score, score_outputs
from fastnn.training.divergence import DivergenceWarning
from fastnn.training.run import default_epochs

# "squared_error" is also what scikit-learn's regressor minimises.
_LOSSES = {"classification": "softmax_cross_entropy", "regression": "squared_error"}
_SCORE_NAMES = {"classification": "accuracy", "regression": "R2"}
_LEAST_EPOCHS = 20
# With fewer rows than this, a net that is trained for long enough to learn anything learns their
# noise too. 20 epochs of them, in batches of 32, are 2000 updates.
_FEW_ROWS = 3200
# Of few rows, each update takes this over their number off the weights. It is what a normal prior
# of the weights asks for: a penalty that does not grow with the number of rows.
_DECAY_OF_FEW_ROWS = 0.3

Arrays = tuple[NDArray[Any], NDArray[Any]]
Results = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Prepared:
    """Encoded data: X (N, I) and y (N,) of each part, None for a part without rows.

    Attributes
    ----------
    encoder : TableEncoder
        Fitted to the training rows.
    train, validation, test : tuple of (ndarray, ndarray) or None
        The parts.
    """

    encoder: TableEncoder
    train: Arrays
    validation: Arrays | None
    test: Arrays | None


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What depends on the number of rows: see ``--epochs`` and ``--weight-decay``.

    Attributes
    ----------
    few_rows : bool
        Whether a net can learn their noise.
    epochs : int
        As given, or as many as the rows need.
    keeps_best : bool
        Whether the epoch with the least validation loss is kept, and not the last one.
    weight_decay : float or None
        None leaves it to the optimizer.
    """

    few_rows: bool
    epochs: int
    keeps_best: bool
    weight_decay: float | None

    @classmethod
    def of(cls, settings: TrainSettings, prepared: Prepared) -> "Recipe":
        """Return the recipe for some options and rows."""
        n_rows, decay = len(prepared.train[0]), settings.weight_decay
        epochs = settings.epochs
        if epochs is None:
            epochs = default_epochs(n_rows, settings.batch_size, _LEAST_EPOCHS)
        few_rows = n_rows < _FEW_ROWS
        if settings.epochs is not None or not few_rows:
            return cls(few_rows, epochs, False, decay)
        if decay is None:
            decay = _DECAY_OF_FEW_ROWS / n_rows / settings.make_optimizer().learning_rate
        keeps_best = prepared.validation is not None and not settings.early_stopping
        return cls(few_rows, epochs, keeps_best, decay)

    def describe(self) -> str:
        """Return it as the end of a line."""
        parts = [f"{self.epochs} epochs"]
        if self.keeps_best:
            parts[0] += " of which the best is kept"
        if self.weight_decay is not None:
            parts.append(f"weight decay {self.weight_decay:.2g}")
        return ", ".join(parts)


def train_command(settings: TrainSettings) -> None:
    """Run ``fastnn train``.

    Parameters
    ----------
    settings : TrainSettings
        The options.

    Raises
    ------
    UsageError
        If an option cannot be used.
    DataError
        If the data cannot be used.
    TrainingError
        If training diverges, and the model is not to be kept then.
    InterruptedTrainingError
        If Ctrl-C ended the training, after the model was saved as it was then.
    """
    settings.check()
    if settings.data in BUNDLED and Path(settings.data).exists() and not settings.quiet:
        display.show(
            f"{settings.data} is the bundled set; for the file, write ./{settings.data}",
            stderr=True,
        )
    task = None if settings.task == "auto" else settings.task
    target = -1 if settings.target is None else settings.target
    data = checks.load_argument(
        "DATA", settings.data, target=target, header=settings.header, drop=settings.dropped
    )
    prepared = prepare(settings, data, task)
    recipe = Recipe.of(settings, prepared)
    net = build_net(settings, prepared.encoder, recipe)
    if not settings.quiet:
        display.show(*_describe(settings, data, prepared, net, recipe))
    checkpoint = _new_checkpoint(settings, prepared)
    ours = _fit(settings, net, prepared, recipe, checkpoint)
    interrupted = ours["interrupted"]
    resumable = interrupted and checkpoint.write()
    _save(settings, net, prepared, ours)
    if not interrupted:
        checkpoint.discard()
    if settings.plot is not None and ours["epochs"]:
        # Bytes of a file's name that the locale cannot decode are no characters for a font.
        name = data.name.encode(errors="surrogateescape").decode(errors="replace")
        title = f"{name}: {_shape(net)}, {settings.optimizer}"
        kind = settings.plot.suffix[1:].lower()
        image = training_curve(ours["history"], title=title, kind=kind)
        write_atomically(settings.plot, image)
    results = {"fastnn": ours}
    try:
        if settings.compare and not interrupted:
            results |= _compare(settings, prepared, ours["epochs"])
    finally:  # our own results are written even if the comparison fails or is interrupted
        display.write_json(settings.json, _all_results(settings, data, prepared, net, results))
        if not settings.quiet:
            display.show(_results_table(prepared.encoder.task, results, settings.model_path))
            if settings.plot is not None and ours["epochs"]:
                display.show(f"curve drawn in {settings.plot}")
    if interrupted:
        more = f"; --resume continues from {checkpoint.path}" if resumable else ""
        raise checks.InterruptedTrainingError(
            f"interrupted after {ours['epochs']} of {checkpoint.epochs} epochs: the model so far "
            f"is saved to {settings.model_path}{more}"
        )


# Data


def prepare(settings: TrainSettings, data: Dataset, task: str | None) -> Prepared:
    """Split the rows into training, validation and test, and encode them.

    Parameters
    ----------
    settings : TrainSettings
        The options.
    data : Dataset
        All rows.
    task : {"classification", "regression"} or None
        None guesses it from the target.

    Returns
    -------
    Prepared
        The encoder is fitted to the training rows only.

    Raises
    ------
    DataError
        If the data cannot be encoded, or has too few rows.
    """
    test, test_argument = data.test, "DATA"
    if settings.test is not None:
        test = checks.load_argument(
            "--test",
            settings.test,
            target=None,
            header=settings.header,
            text=[name for name in data.feature_names if _is_text(data.X, name)],
            needed=data.feature_names,
            optional=[data.target_name],
        )
        test, test_argument = test.test or test, "--test"
    elif test is not None and test.y is None:
        test = None
    with checks.data_of("DATA"):
        if data.y is None:
            raise DataError(f"{data.name}: there is no target to learn")
        labels = data.y.astype(str) if (task or data.task) == "classification" else None
        rows = np.arange(len(data))
        test_rows = None
        if test is None:
            rows, test_rows = _hold_out(rows, settings.test_size, labels, settings.seed, data.name)
        rows, validation_rows = _hold_out(
            rows, settings.validation_size, labels, settings.seed, data.name
        )
        encoder = TableEncoder.fit(data, rows=rows, task=task)
        train = _encode(encoder, data, rows, settings.dtype)
        validation, tested = (
            None if part is None else _encode(encoder, data, part, settings.dtype)
            for part in (validation_rows, test_rows)
        )
    if test is not None:
        with checks.data_of(test_argument):
            tested = _encode(encoder, test, None, settings.dtype)
    return Prepared(encoder, train, validation, tested)


def _is_text(X: Features, name: str) -> bool:
    return not isinstance(X, np.ndarray) and X[name].dtype == object


def _encode(
    encoder: TableEncoder, data: Dataset, rows: NDArray[np.int64] | None, dtype: str
) -> Arrays:
    """Return the encoded features and target of some rows, or of all for None."""
    X, y = encoder.transform(data, rows, dtype), encoder.encode_target(data, rows)
    if y is None:
        raise DataError(f"{data.name}: there is no target {encoder.target_name!r} to test with")
    if y.dtype.kind == "f" and np.abs(y).max() > np.finfo(dtype).max:
        n_rows = int((np.abs(y) > np.finfo(dtype).max).sum())
        raise DataError(
            f"{data.name}: target {encoder.target_name!r} has values too large for {dtype}, in "
            f"{n_rows} of {len(y)} rows"
        )
    return X, y


def _hold_out(
    rows: NDArray[np.int64], share: float, labels: NDArray[Any] | None, seed: int, name: str
) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
    """Split off a fraction of some rows; return the remaining and the held-out ones.

    The split is stratified by class unless a class has too few rows. None is held out if `share`
    is 0.
    """
    if not share:
        return rows, None
    n_held_out = max(2, math.ceil(share * len(rows)))  # R2 needs two rows
    if len(rows) - n_held_out < 2:
        raise DataError(f"{name}: too few rows to train, validate and test on")
    stratify = None
    if labels is not None:
        counts = np.unique(labels[rows], return_counts=True)[1]
        if counts.min() >= 2 and len(counts) <= min(n_held_out, len(rows) - n_held_out):
            stratify = labels[rows]
    split = require("sklearn.model_selection", "sklearn").train_test_split
    kept, held_out = split(rows, test_size=n_held_out, random_state=seed, stratify=stratify)
    return np.sort(kept), np.sort(held_out)


# Training


def build_net(settings: TrainSettings, encoder: TableEncoder, recipe: Recipe) -> network.Sequential:
    """Return an untrained network with the layers that the options ask for.

    For few rows the last one begins with zeros: the first guess is a constant, and what random
    weights make of a row need not be unlearned. Many rows are learned a little faster without.
    """
    sizes = [encoder.n_inputs, *settings.hidden_sizes]
    parts: list[Layer] = []
    for n_inputs, n_outputs in itertools.pairwise(sizes):
        parts += [Affine(n_inputs, n_outputs), ACTIVATIONS[settings.activation]()]
    init = "zeros" if recipe.few_rows else "auto"
    parts.append(Affine(sizes[-1], encoder.n_outputs, init=init))
    return network.Sequential(parts, seed=settings.seed, dtype=settings.dtype)


def _new_checkpoint(settings: TrainSettings, prepared: Prepared) -> TrainingCheckpoint:
    """Return the checkpoint of the training, after a check that the one to resume is of it."""
    path, encoder = settings.checkpoint_path, prepared.encoder
    metadata, tensors = encoder.pack()

    @functools.cache
    def identity() -> Identity:  # the digest of many rows takes a while
        arrays = [*prepared.train, *(prepared.validation or ())]
        return Identity.of(settings, json.dumps(metadata), *arrays)

    if settings.resume:
        if path.exists():
            identity().check(Identity.read(path), path)
        elif not settings.quiet:
            display.show(f"there is no {path}: training begins with the first epoch", stderr=True)
    return TrainingCheckpoint(path, identity, settings.resume, metadata, tensors)


def _fit(
    settings: TrainSettings,
    net: network.Sequential,
    prepared: Prepared,
    recipe: Recipe,
    checkpoint: TrainingCheckpoint,
) -> Results:
    """Train the network, until Ctrl-C ends it; return its results."""
    compiled_before = seconds_compiled()
    task = prepared.encoder.task
    callbacks: list[Callback] = [] if settings.quiet else [ProgressBar()]
    stopping = None
    if settings.early_stopping or recipe.keeps_best:
        patience = settings.patience if settings.early_stopping else recipe.epochs
        stopping = EarlyStopping("val_loss", patience)
        callbacks.append(stopping)
    callbacks.append(checkpoint)
    regularization = None
    if recipe.weight_decay is not None:
        regularization = Regularization(weight_decay=recipe.weight_decay)
    began = time.perf_counter()
    with warnings.catch_warnings(), CtrlC(net) as ctrl_c:
        warnings.simplefilter("ignore", DivergenceWarning)  # reported below
        net.fit(
            *prepared.train,
            loss=_LOSSES[task],
            optimizer=settings.make_optimizer(),
            epochs=recipe.epochs,
            batch_size=settings.batch_size,
            validation_data=prepared.validation,
            n_threads=settings.threads,
            alpha=settings.alpha,
            schedule=settings.schedule,
            regularization=regularization,
            callbacks=callbacks,
        )
    history = cast(network.History, net.history)
    compile_seconds = seconds_compiled() - compiled_before
    wall_seconds = time.perf_counter() - began - compile_seconds
    if history.divergence is not None:
        if not settings.keep_diverged:
            checkpoint.discard()
            raise checks.TrainingError(
                f"{history.divergence}. Nothing is saved without --keep-diverged; try a smaller "
                "--learning-rate"
            )
        display.warn(history.divergence)
    results = _speed(len(history), len(prepared.train[0]), sum(history.get("seconds", ())))
    results |= {
        "seconds_with_validation": wall_seconds,
        "compile_seconds": compile_seconds,
        "resumed_at": checkpoint.resumed_at,
        "interrupted": ctrl_c.pressed,
        "history": {name: list(figures) for name, figures in history.items()},
    }
    if stopping is not None:
        results["best_epoch"] = stopping.best_epoch + 1
    test = _scorable_test(prepared)
    if test is not None:
        X, y = test
        results["test_score"] = score_outputs(task, net.predict(X, n_threads=settings.threads), y)
        results["constant_score"] = _constant_score(task, prepared.train[1], y)
        if not results["test_score"] > results["constant_score"]:
            display.warn(
                f"the test {_SCORE_NAMES[task]}, {results['test_score']:.4g}, is no better than "
                f"that of a constant guess, {results['constant_score']:.4g}"
            )
    return results


def _constant_score(task: str, y_train: NDArray[Any], y: NDArray[Any]) -> float:
    """Return the score of guessing the most frequent class, or the mean, for each row."""
    if task == "classification":
        return float((y == np.bincount(y_train).argmax()).mean())
    return score_outputs(task, np.full((len(y), 1), y_train.mean()), y)


def _speed(epochs: int, n_rows: int, seconds: float) -> Results:
    """Return the results that describe the speed of a training."""
    return {
        "epochs": epochs,
        "seconds": seconds,
        "samples_per_second": epochs * n_rows / seconds if seconds else 0.0,
    }


def _scorable_test(prepared: Prepared) -> Arrays | None:
    """Return the test part if there is a score for it."""
    test = prepared.test
    return test if test is not None and can_score(prepared.encoder.task, test[1]) else None


def _compare(settings: TrainSettings, prepared: Prepared, epochs: int) -> dict[str, Results]:
    """Return the results of scikit-learn's network, by its name; nothing if its training fails."""
    if not settings.quiet:
        display.show("training scikit-learn's network ...", stderr=True)
    try:
        return {"scikit_learn": train_sklearn(settings, prepared, epochs)}
    except ValueError as error:  # for example a loss that is not finite
        display.warn(f"--compare: scikit-learn failed: {error}")
        return {}


def train_sklearn(settings: TrainSettings, prepared: Prepared, epochs: int) -> Results:
    """Train scikit-learn's network on the same arrays with the same settings; return its results.

    Parameters
    ----------
    settings : TrainSettings
        The options; all but the schedule apply.
    prepared : Prepared
        The encoded data.
    epochs : int
        Number of epochs.

    Raises
    ------
    KeyboardInterrupt
        If scikit-learn was interrupted by Ctrl-C.
    """
    neural_network = require("sklearn.neural_network", "sklearn")
    convergence_warning = require("sklearn.exceptions", "sklearn").ConvergenceWarning
    limits = require("threadpoolctl", "sklearn").threadpool_limits  # scikit-learn depends on it
    classify = prepared.encoder.task == "classification"
    kind = neural_network.MLPClassifier if classify else neural_network.MLPRegressor
    X, y = prepared.train
    model = kind(
        hidden_layer_sizes=settings.hidden_sizes,
        activation=SKLEARN_ACTIVATIONS[settings.activation],
        solver=settings.optimizer,
        alpha=settings.alpha,
        batch_size=min(settings.batch_size, len(X)),
        learning_rate_init=settings.make_optimizer().learning_rate,
        momentum=MOMENTUM,
        max_iter=epochs,
        tol=0.0,
        n_iter_no_change=epochs + 1,  # no early stopping
        random_state=settings.seed,
    )
    with limits(settings.threads), warnings.catch_warnings():
        warnings.simplefilter("ignore", convergence_warning)  # it is to run for all epochs
        warnings.filterwarnings("ignore", message="Training interrupted")
        began = time.perf_counter()
        model.fit(X, y.astype(X.dtype) if not classify else y)
        seconds = time.perf_counter() - began
    if model.n_iter_ < epochs:  # on Ctrl-C, scikit-learn ends the training without an exception
        raise KeyboardInterrupt
    results = _speed(model.n_iter_, len(X), seconds)
    test = _scorable_test(prepared)
    if test is not None:
        results["test_score"] = float(model.score(*test))
    return results


# Results


def _save(
    settings: TrainSettings, net: network.Sequential, prepared: Prepared, results: Results
) -> None:
    """Save the network with the encoder of its data and a description of its training."""
    test_score = results.get("test_score", math.nan)
    training = {
        "data": settings.source,
        "rows": len(prepared.train[0]),
        "epochs": results["epochs"],
        "interrupted": results["interrupted"],
        "test_score": test_score if math.isfinite(test_score) else None,
    }
    model = TableModel(net, prepared.encoder, training)
    overwrite = settings.force or settings.resume  # as checked before the training
    model.save(settings.model_path, overwrite=overwrite)


def _shape(net: network.Sequential) -> str:
    """Return the sizes of the layers, for example 64-128-10."""
    sizes = [layer.n_outputs for layer in net.layers if isinstance(layer, Affine)]
    return "-".join(map(str, [net.n_inputs, *sizes]))


def _n_rows(arrays: Arrays | None) -> int:
    return 0 if arrays is None else len(arrays[0])


def _describe(
    settings: TrainSettings,
    data: Dataset,
    prepared: Prepared,
    net: network.Sequential,
    recipe: Recipe,
) -> list[str]:
    """Return lines that describe the data, the network and its training."""
    encoder = prepared.encoder
    kind = f"{encoder.n_outputs} classes" if encoder.classes else "regression"
    rows = {
        "training": _n_rows(prepared.train),
        "validation": _n_rows(prepared.validation),
        "test": _n_rows(prepared.test),
    }
    parts = ", ".join(f"{n:,} {name}" for name, n in rows.items() if n)
    return [
        f"{data.name}: {parts} rows; {len(encoder.feature_names)} columns make "
        f"{encoder.n_inputs} inputs; target {encoder.target_name!r}, {kind}",
        f"network {_shape(net)}, {settings.activation}, {net.n_params:,} parameters, "
        f"{settings.dtype}; {settings.optimizer}, batches of {settings.batch_size}, "
        f"{recipe.describe()}",
    ]


def _results_table(task: str, results: dict[str, Results], model_path: Path) -> Table:
    """Return a table with a column for fastnn and, after a comparison, one for scikit-learn."""
    ours, theirs = results["fastnn"], results.get("scikit_learn")
    table = display.new_table(*(["fastnn", "scikit-learn", "speed-up"] if theirs else []))

    def row(label: str, name: str, text: Callable[[Any], str], *more: str) -> None:
        table.add_row(label, *(text(column[name]) for column in results.values()), *more)

    if "test_score" in ours:
        row(f"test {_SCORE_NAMES[task]}", "test_score", "{:.4f}".format)
    row("epochs", "epochs", str)
    if "best_epoch" in ours:
        table.add_row("best epoch", str(ours["best_epoch"]))
    speed_up = [f"{_speed_up(results):.2f} x"] if theirs else []
    if ours["resumed_at"]:
        table.add_row("resumed after", f"{ours['resumed_at']} epochs")
    row("training time", "seconds", display.seconds, *speed_up)
    row("samples/s", "samples_per_second", "{:,.0f}".format)
    table.add_row("compile time", display.seconds(ours["compile_seconds"]))
    table.add_row("model saved to", Text(str(model_path)))
    return table


def _speed_up(results: dict[str, Results]) -> float:
    """Return scikit-learn's training time divided by ours."""
    return results["scikit_learn"]["seconds"] / results["fastnn"]["seconds"]


def _all_results(
    settings: TrainSettings,
    data: Dataset,
    prepared: Prepared,
    net: network.Sequential,
    results: dict[str, Results],
) -> Results:
    """Return everything that the JSON file contains."""
    options = dataclasses.asdict(settings)
    everything = {
        "command": "train",
        "options": {
            name: str(value) if isinstance(value, Path) else value
            for name, value in options.items()
        },
        "data": data.name,
        "task": prepared.encoder.task,
        "metric": _SCORE_NAMES[prepared.encoder.task],
        "n_train": _n_rows(prepared.train),
        "n_validation": _n_rows(prepared.validation),
        "n_test": _n_rows(prepared.test),
        "n_inputs": net.n_inputs,
        "n_outputs": net.n_outputs,
        "n_params": net.n_params,
        "model": str(settings.model_path),
        **results,
    }
    if "scikit_learn" in results:
        everything["ratio"] = _speed_up(results)
    return everything
