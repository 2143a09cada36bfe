"""``fastnn train``: split, encode, train, test, save, and compare."""

import dataclasses
import itertools
import json
import math
import time
import warnings
from pathlib import Path

import numpy as np
from rich.text import Text

from fastnn import network
from fastnn.callbacks import EarlyStopping, ProgressBar
from fastnn.cli import checks, display
from fastnn.cli.settings import ACTIVATIONS, MOMENTUM, SKLEARN_ACTIVATIONS, TrainSettings
from fastnn.data.table_encoder import TableEncoder
from fastnn.datasets import BUNDLED, Dataset
from fastnn.environment import warmup
from fastnn.errors import DataError, require
from fastnn.files.atomic_write import write_atomically
from fastnn.inspection.plots import training_curve
from fastnn.layers import Affine

# scikit-learn's regressor minimises this too.
_LOSSES = {"classification": "softmax_cross_entropy", "regression": "squared_error"}
_SCORE_NAMES = {"classification": "accuracy", "regression": "R2"}

Arrays = tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Prepared:
    """Arrays ready for a network: X (N, I) and y (N,); None where there is no such part."""

    encoder: TableEncoder
    train: Arrays
    validation: Arrays | None
    test: Arrays | None


def train_command(settings: TrainSettings) -> None:
    """Do what ``fastnn train`` does."""
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
    net = build_net(settings, prepared.encoder)
    if not settings.quiet:
        display.show(*_describe(settings, data, prepared, net))
    figures = _fit(settings, net, prepared)
    _save(settings, net, prepared, figures)
    if settings.plot is not None:
        title = f"{data.name}: {_shape(net)}, {settings.optimizer}"
        kind = settings.plot.suffix[1:].lower()
        image = training_curve(figures["history"], title=title, kind=kind)
        write_atomically(settings.plot, image)
    results = {"fastnn": figures}
    try:
        if settings.compare:
            results |= _compare(settings, prepared, figures["epochs"])
    finally:  # whatever ends the comparison, Ctrl-C too: our own figures are there
        display.write_json(settings.json, _all_figures(settings, data, prepared, net, results))
        if not settings.quiet:
            display.show(_results_table(prepared.encoder.task, results, settings.model_path))
            if settings.plot is not None:
                display.show(f"curve drawn in {settings.plot}")


# Data


def prepare(settings: TrainSettings, data: Dataset, task: str | None) -> Prepared:
    """Split the rows into training, validation and test, and encode them.

    Parameters
    ----------
    settings : TrainSettings
    data : Dataset
    task : str or None
        None guesses it.

    Returns
    -------
    Prepared
        The encoding is learnt from the training rows alone.
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
        encoded = [
            None if part is None else _encode(encoder, data, part, settings.dtype)
            for part in (rows, validation_rows, test_rows)
        ]
    if test is not None:
        with checks.data_of(test_argument):
            encoded[2] = _encode(encoder, test, None, settings.dtype)
    return Prepared(encoder, *encoded)


def _is_text(X, name: str) -> bool:
    return not isinstance(X, np.ndarray) and X[name].dtype == object


def _encode(encoder: TableEncoder, data: Dataset, rows: np.ndarray | None, dtype: str) -> Arrays:
    X, y = encoder.transform(data, rows, dtype), encoder.encode_target(data, rows)
    if y is None:
        raise DataError(f"{data.name}: there is no target {encoder.target_name!r} to test with")
    return X, y


def _hold_out(
    rows: np.ndarray, share: float, labels: np.ndarray | None, seed: int, name: str
) -> tuple[np.ndarray, np.ndarray | None]:
    """Split rows into two parts, the second of the size `share`; None where that is 0.

    Each class is in both parts by its share, unless some class has too few rows for that.
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


def build_net(settings: TrainSettings, encoder: TableEncoder) -> network.Sequential:
    """Return an untrained network of the sizes asked for."""
    sizes = [encoder.n_inputs, *settings.hidden_sizes, encoder.n_outputs]
    parts = []
    for n_inputs, n_outputs in itertools.pairwise(sizes):
        parts += [Affine(n_inputs, n_outputs), ACTIVATIONS[settings.activation]()]
    return network.Sequential(parts[:-1], seed=settings.seed, dtype=settings.dtype)


def _fit(settings: TrainSettings, net: network.Sequential, prepared: Prepared) -> dict:
    """Train the network; return its figures."""
    began = time.perf_counter()
    warmup(dtypes=(settings.dtype,))
    compile_seconds = time.perf_counter() - began
    task = prepared.encoder.task
    score_name = f"val_{_SCORE_NAMES[task].lower()}"
    callbacks = [] if settings.quiet else [ProgressBar()]
    if settings.early_stopping:
        callbacks.append(EarlyStopping(score_name, patience=settings.patience))
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="the (loss|weights) (became|grew)"
        )  # reported below
        history = net.fit(
            *prepared.train,
            loss=_LOSSES[task],
            optimizer=settings.make_optimizer(),
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            validation_data=prepared.validation,
            n_threads=settings.threads,
            alpha=settings.alpha,
            schedule=settings.schedule,
            callbacks=callbacks,
        )
    wall_seconds = time.perf_counter() - began
    if history.divergence is not None:
        raise checks.TrainingError(f"{history.divergence}; try a smaller --learning-rate")
    figures = _figures(len(history), len(prepared.train[0]), sum(history["seconds"]))
    figures |= {
        "seconds_with_validation": wall_seconds,
        "compile_seconds": compile_seconds,
        "history": {name: list(history[name]) for name in history.keys()},  # noqa: SIM118
    }
    if _has_test_score(prepared):
        X, y = prepared.test
        figures["test_score"] = score(task, net.predict(X, n_threads=settings.threads), y)
    return figures


def _figures(epochs: int, n_rows: int, seconds: float) -> dict:
    return {
        "epochs": epochs,
        "seconds": seconds,
        "samples_per_second": epochs * n_rows / seconds,
    }


def can_score(task: str, y: np.ndarray) -> bool:
    """Whether there is a score for these targets (N,): R2 needs two rows."""
    return task == "classification" or len(y) > 1


def _has_test_score(prepared: Prepared) -> bool:
    return prepared.test is not None and can_score(prepared.encoder.task, prepared.test[1])


def score(task: str, out: np.ndarray, y: np.ndarray) -> float:
    """Return the accuracy of outputs (N, O) for classes (N,), or R2 of values (N, 1)."""
    if task == "classification":
        return float((out.argmax(axis=1) == y).mean())
    return float(require("sklearn.metrics", "sklearn").r2_score(y, out[:, 0]))


def _compare(settings: TrainSettings, prepared: Prepared, epochs: int) -> dict[str, dict]:
    """Return the figures of scikit-learn's network by its name; none where it cannot train it."""
    if not settings.quiet:
        display.show("training scikit-learn's network ...", stderr=True)
    try:
        return {"scikit_learn": train_sklearn(settings, prepared, epochs)}
    except ValueError as error:  # such as a loss that is no longer finite
        display.warn(f"--compare: scikit-learn failed: {error}")
        return {}


def train_sklearn(settings: TrainSettings, prepared: Prepared, epochs: int) -> dict:
    """Train scikit-learn's network with the same settings on the same arrays for as many epochs."""
    neural_network = require("sklearn.neural_network", "sklearn")
    convergence_warning = require("sklearn.exceptions", "sklearn").ConvergenceWarning
    limits = require("threadpoolctl", "sklearn").threadpool_limits  # comes with scikit-learn
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
        n_iter_no_change=epochs + 1,  # it never stops early
        random_state=settings.seed,
    )
    with limits(settings.threads), warnings.catch_warnings():
        warnings.simplefilter("ignore", convergence_warning)  # max_iter is meant to be reached
        warnings.filterwarnings("ignore", message="Training interrupted")
        began = time.perf_counter()
        model.fit(X, y.astype(X.dtype) if not classify else y)
        seconds = time.perf_counter() - began
    if model.n_iter_ < epochs:  # scikit-learn catches Ctrl-C and goes on with what it has
        raise KeyboardInterrupt
    figures = _figures(model.n_iter_, len(X), seconds)
    if _has_test_score(prepared):
        figures["test_score"] = float(model.score(*prepared.test))
    return figures


# Results


def _save(
    settings: TrainSettings, net: network.Sequential, prepared: Prepared, figures: dict
) -> None:
    metadata, tensors = prepared.encoder.pack()
    training = {
        "data": settings.data,
        "rows": len(prepared.train[0]),
        "epochs": figures["epochs"],
        "test_score": figures.get("test_score"),
    }
    metadata["fastnn.training"] = json.dumps(training)
    net.save(settings.model_path, metadata=metadata, tensors=tensors, overwrite=settings.force)


def _shape(net: network.Sequential) -> str:
    """Return the sizes of the layers, such as 64-128-10."""
    sizes = [layer.n_outputs for layer in net.layers if isinstance(layer, Affine)]
    return "-".join(map(str, [net.n_inputs, *sizes]))


def _n_rows(arrays: Arrays | None) -> int:
    return 0 if arrays is None else len(arrays[0])


def _describe(
    settings: TrainSettings, data: Dataset, prepared: Prepared, net: network.Sequential
) -> list[str]:
    """Return lines that say what is trained on what."""
    encoder = prepared.encoder
    aim = f"{encoder.n_outputs} classes" if encoder.classes else "regression"
    rows = {
        "training": _n_rows(prepared.train),
        "validation": _n_rows(prepared.validation),
        "test": _n_rows(prepared.test),
    }
    parts = ", ".join(f"{n:,} {name}" for name, n in rows.items() if n)
    return [
        f"{data.name}: {parts} rows; {len(encoder.feature_names)} columns make "
        f"{encoder.n_inputs} inputs; target {encoder.target_name!r}, {aim}",
        f"network {_shape(net)}, {settings.activation}, {net.n_params:,} parameters, "
        f"{settings.dtype}; {settings.optimizer}, batches of {settings.batch_size}",
    ]


def _results_table(task: str, results: dict[str, dict], model_path: Path):
    ours, theirs = results["fastnn"], results.get("scikit_learn")
    table = display.new_table(*(["fastnn", "scikit-learn", "speed-up"] if theirs else []))

    def row(label, name, text, *more):
        table.add_row(label, *(text(figures[name]) for figures in results.values()), *more)

    if "test_score" in ours:
        row(f"test {_SCORE_NAMES[task]}", "test_score", "{:.4f}".format)
    row("epochs", "epochs", str)
    speed_up = [f"{_speed_up(results):.2f} x"] if theirs else []
    row("training time", "seconds", display.seconds, *speed_up)
    row("samples/s", "samples_per_second", "{:,.0f}".format)
    table.add_row("compile time", display.seconds(ours["compile_seconds"]))
    table.add_row("model saved to", Text(str(model_path)))
    return table


def _speed_up(results: dict[str, dict]) -> float:
    """Return how many times longer scikit-learn took."""
    return results["scikit_learn"]["seconds"] / results["fastnn"]["seconds"]


def _all_figures(
    settings: TrainSettings,
    data: Dataset,
    prepared: Prepared,
    net: network.Sequential,
    results: dict,
) -> dict:
    options = dataclasses.asdict(settings)
    figures = {
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
        figures["ratio"] = _speed_up(results)
    return figures
