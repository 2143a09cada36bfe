"""``fastnn predict``, ``info`` and ``warmup``."""

import csv
import io
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.text import Text

from fastnn import environment
from fastnn.cli import checks, display
from fastnn.cli.train import can_score, score
from fastnn.data.table_encoder import METADATA_KEY, TableEncoder
from fastnn.errors import ModelFileError, reason, require
from fastnn.files import storage
from fastnn.files.atomic_write import write_atomically
from fastnn.network import Sequential


def predict_command(
    model: str,
    source: str,
    *,
    header: bool | None,
    proba: bool,
    out: Path | None,
    json_path: Path | None,
    force: bool,
) -> None:
    """Run ``fastnn predict``.

    Parameters
    ----------
    model : str
        Model file.
    source : str
        Data set to predict, as `fastnn.datasets.load` takes it.
    header : bool or None
        Whether the first line of a text file names the columns; None detects it.
    proba : bool
        Whether to add the probability of each class.
    out : pathlib.Path or None
        CSV file; None prints the predictions.
    json_path : pathlib.Path or None
        JSON file for the results; None writes none.
    force : bool
        Whether existing files may be replaced.

    Raises
    ------
    UsageError
        If an argument cannot be used.
    DataError, ModelFileError
        If the data or the model cannot be used.
    """
    checks.check_exists("DATA", source)
    checks.check_outputs(
        {"--out": out, "--json": json_path}, {"MODEL": model, "DATA": source}, force
    )
    net, _, encoder = read_model(model)
    if proba and encoder.task != "classification":
        raise checks.UsageError(f"--proba needs a classification, but {model} is a regression")
    data = checks.load_argument(
        "DATA",
        source,
        target=None,
        header=header,
        text=list(encoder.categories),
        needed=encoder.feature_names,
        optional=[encoder.target_name],
    )
    data = data.test or data
    with checks.data_of("DATA"):
        X = encoder.transform(data, dtype=net.dtype)
        y = encoder.encode_target(data)
    began = time.perf_counter()
    outputs = net.predict(X)
    seconds = time.perf_counter() - began

    figures = {"command": "predict", "model": model, "data": data.name, "n_rows": len(data)}
    figures |= {"task": encoder.task, "seconds": seconds}
    summary = ""
    if y is not None and can_score(encoder.task, y):
        metric = "accuracy" if encoder.classes else "R2"
        figures |= {"metric": metric, "score": score(encoder.task, outputs, y)}
        summary = f"{metric} {figures['score']:.4f} on {len(data):,} rows"
    text = _as_csv(encoder, outputs, proba)
    if out is None:
        sys.stdout.write(text)
    else:
        write_atomically(out, text.encode())
        display.show(f"{len(data):,} predictions written to {out}")
    display.write_json(json_path, figures)
    if summary:
        display.show(summary, stderr=out is None)  # not among the predictions


def read_model(path: str) -> tuple[Sequential, dict[str, str], TableEncoder]:
    """Return the network in a model file, its metadata, and the encoder of its data.

    Parameters
    ----------
    path : str
        Model file.

    Raises
    ------
    UsageError
        If there is no such file.
    ModelFileError
        If it is damaged, or was not written by ``fastnn train``.
    """
    net, metadata, tensors = _read_file(path)
    try:
        encoder = TableEncoder.unpack(metadata, tensors)
    except ModelFileError as error:
        raise ModelFileError(f"MODEL {path}: {error}") from error
    if (encoder.n_inputs, encoder.n_outputs) != (net.n_inputs, net.n_outputs):
        raise ModelFileError(f"MODEL {path}: the encoding of the data does not fit the network")
    return net, metadata, encoder


def _read_file(path: str) -> tuple[Sequential, dict[str, str], dict[str, NDArray[Any]]]:
    """Return the network in a model file, and the metadata and arrays saved with it."""
    if Path(path).is_dir():
        raise checks.UsageError(f"MODEL {path} is a folder, but a file is needed")
    if not Path(path).exists():
        raise checks.UsageError(f"MODEL {path}: no such file")
    try:
        return storage.read(path)
    except ModelFileError as error:
        raise ModelFileError(f"MODEL {path}: {error}") from error


def _as_csv(encoder: TableEncoder, outputs: NDArray[np.floating], proba: bool) -> str:
    """Return predictions, and on request probabilities, as the text of a CSV file."""
    columns, header = [encoder.decode(outputs)], ["prediction"]
    if proba:
        columns += [*require("scipy.special", "sklearn").softmax(outputs, axis=1).T]
        header += [f"probability_{label}" for label in encoder.classes]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(zip(*columns, strict=True))
    return buffer.getvalue()


def info_command(model: str | None, *, json_path: Path | None, force: bool) -> None:
    """Run ``fastnn info``.

    Parameters
    ----------
    model : str or None
        Model file to describe; None describes the machine and the settings.
    json_path : pathlib.Path or None
        JSON file for the results; None writes none.
    force : bool
        Whether existing files may be replaced.
    """
    checks.check_outputs({"--json": json_path}, {"MODEL": model}, force)
    facts = environment.get_config() if model is None else _model_facts(model)
    table = display.new_table()
    for name, value in facts.items():
        lines = value if isinstance(value, list) else [value]
        # As `Text`, because brackets in a label would be taken for markup.
        table.add_row(name.replace("_", " "), Text("\n".join(map(str, lines))))
    display.show(table)
    display.write_json(json_path, {"command": "info", **facts})


def _model_facts(path: str) -> dict[str, Any]:
    """Return the description of a model file: name of a row -> value or list of lines."""
    net, metadata, _ = _read_file(path)
    facts: dict[str, Any] = {
        "model": path,
        "layers": [repr(layer) for layer in net.layers],
        "parameters": f"{net.n_params:,}",
        "dtype": net.dtype.name,
    }
    if METADATA_KEY not in metadata:  # saved by `Sequential.save`
        return facts | {"inputs": net.n_inputs, "outputs": net.n_outputs}
    encoder = read_model(path)[2]
    n_numbers = len(encoder.feature_names) - len(encoder.categories)
    kinds = [
        f"{n_numbers} numeric" + (", standardised" if encoder.standardise else ", as they are")
    ]
    kinds += [f"text {name!r}: {len(values)} values" for name, values in encoder.categories.items()]
    classes = encoder.classes
    facts |= {
        "task": encoder.task,
        "target": encoder.target_name,
        "columns": kinds,
        "inputs": net.n_inputs,
    }
    if classes:
        more = ", ..." if len(classes) > 10 else ""
        facts["classes"] = f"{len(classes)}: " + ", ".join(map(str, classes[:10])) + more
    try:
        return facts | _training_facts(metadata, "accuracy" if classes else "R2")
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ModelFileError(
            f"MODEL {path}: what it says of its training is damaged ({reason(error)})"
        ) from error


def _training_facts(metadata: dict[str, str], metric: str) -> dict[str, str]:
    """Return the description of the training that ``fastnn train`` stored in the metadata."""
    training = json.loads(metadata.get("fastnn.training", "{}"))
    if training == {}:
        return {}
    facts = {
        "trained_on": f"{training['rows']:,} rows of {training['data']}, "
        f"{training['epochs']} epochs"
    }
    if training["test_score"] is not None:
        facts[f"test_{metric}"] = f"{training['test_score']:.4f}"
    return facts


def warmup_command(dtype: str, *, json_path: Path | None, force: bool) -> None:
    """Run ``fastnn warmup``.

    Parameters
    ----------
    dtype : {"float32", "float64", "all"}
        Type of the kernels to compile.
    json_path : pathlib.Path or None
        JSON file for the results; None writes none.
    force : bool
        Whether existing files may be replaced.
    """
    checks.check_choice("--dtype", dtype, ("float32", "float64", "all"))
    checks.check_outputs({"--json": json_path}, {}, force)
    dtypes = ("float32", "float64") if dtype == "all" else (dtype,)
    began = time.perf_counter()
    parts = environment.warmup(dtypes=dtypes)
    seconds = time.perf_counter() - began
    display.show(f"kernels for {' and '.join(dtypes)} are ready after {display.seconds(seconds)}")
    display.write_json(
        json_path, {"command": "warmup", "seconds": seconds, "dtypes": dtypes, "parts": parts}
    )
