"""``fastnn predict``, ``info`` and ``warmup``."""

import csv
import io
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.text import Text

from fastnn import environment
from fastnn.cli import checks, display
from fastnn.cli.streams import is_stream
from fastnn.errors import ModelFileError
from fastnn.loading import load
from fastnn.network import Sequential
from fastnn.table_model import TableModel, can_score, probabilities, score_outputs

_MOST_CLASSES = 10  # that are listed


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
    inputs: dict[str, str | None] = {"MODEL": model, "DATA": source}
    checks.check_outputs({"--out": out, "--json": json_path}, inputs, force)
    printed = out is None or is_stream(out)
    if printed and is_stream(json_path):
        raise checks.UsageError("--json - needs --out FILE: the predictions are printed")
    loaded = _load_table_model(model)
    encoder = loaded.encoder
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
        X = loaded.encode(data)
        y = encoder.encode_target(data)
    began = time.perf_counter()
    outputs = loaded.net.predict(X)
    seconds = time.perf_counter() - began

    figures = {"command": "predict", "model": model, "data": data.name, "n_rows": len(data)}
    figures |= {"task": encoder.task, "seconds": seconds}
    summary = ""
    if y is not None and can_score(encoder.task, y):
        metric = _metric(encoder.task)
        figures |= {"metric": metric, "score": score_outputs(encoder.task, outputs, y)}
        summary = f"{metric} {figures['score']:.4f} on {len(data):,} rows"
    display.write_text(out, _as_csv(loaded, outputs, proba))
    if not printed:
        display.show(f"{len(data):,} predictions written to {out}")
    display.write_json(json_path, figures)
    if summary:
        display.show(summary, stderr=printed)  # not among the predictions


def _metric(task: str) -> str:
    return "accuracy" if task == "classification" else "R2"


def _load(path: str) -> Sequential | TableModel:
    """Return the model in a file; error messages name the argument."""
    if Path(path).is_dir():
        raise checks.UsageError(f"MODEL {path} is a folder, but a file is needed")
    if not Path(path).exists():
        raise checks.UsageError(f"MODEL {path}: no such file")
    try:
        return load(path)
    except ModelFileError as error:
        raise ModelFileError(f"MODEL {path}: {error}") from error


def _load_table_model(path: str) -> TableModel:
    """Return the model of a table in a file."""
    model = _load(path)
    if not isinstance(model, TableModel):
        raise ModelFileError(f"MODEL {path}: it was saved without the encoding of its data")
    return model


def _as_csv(model: TableModel, outputs: NDArray[np.floating], proba: bool) -> str:
    """Return predictions, and on request probabilities, as the text of a CSV file."""
    columns, header = [model.encoder.decode(outputs)], ["prediction"]
    if proba:
        columns += [*probabilities(outputs).T]
        header += [f"probability_{label}" for label in model.encoder.classes]
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
    if model is None:
        facts: dict[str, Any] = dict(environment.get_config())
        lines = facts
    else:
        facts = _model_facts(model)
        lines = _as_lines(facts)
    table = display.new_table()
    for name, value in lines.items():
        # As `Text`, because brackets in a label would be taken for markup.
        table.add_row(name.replace("_", " "), Text(str(value)))
    if not is_stream(json_path):  # which has all of it
        display.show(table)
    display.write_json(json_path, {"command": "info", **facts})


def _model_facts(path: str) -> dict[str, Any]:
    """Return the description of a model file: numbers, texts and lists by name."""
    model = _load(path)
    net = model.net if isinstance(model, TableModel) else model
    facts = {
        "model": path,
        "layers": [repr(layer) for layer in net.layers],
        "parameters": net.n_params,
        "dtype": net.dtype.name,
        "inputs": net.n_inputs,
        "outputs": net.n_outputs,
    }
    return facts | (_table_facts(model) if isinstance(model, TableModel) else {})


def _table_facts(model: TableModel) -> dict[str, Any]:
    """Return the description of a table, and of the training on it if there is one."""
    facts = {
        "task": model.task,
        "target": model.target_name,
        "columns": model.columns,
        "standardised": model.encoder.standardise,
        "categories": model.categories,
        "classes": list(model.encoder.classes),
    }
    training = dict(model.training)
    score = training.pop("test_score", None)
    if training:
        facts["training"] = training
    if score is not None:
        facts[f"test_{_metric(model.task)}"] = score
    return facts


def _as_lines(facts: dict[str, Any]) -> dict[str, str]:
    """Return the description of a model as people read it."""
    lines = {name: str(value) for name, value in facts.items()}
    lines |= {"layers": "\n".join(facts["layers"]), "parameters": f"{facts['parameters']:,}"}
    if "task" not in facts:
        return lines
    categories, classes = facts["categories"], facts["classes"]
    n_numbers = len(facts["columns"]) - len(categories)
    kind = "standardised" if facts["standardised"] else "as they are"
    texts = (f"text {name!r}: {len(values)} values" for name, values in categories.items())
    lines["columns"] = "\n".join([f"{n_numbers} numeric, {kind}", *texts])
    more = ", ..." if len(classes) > _MOST_CLASSES else ""
    lines["classes"] = f"{len(classes)}: {', '.join(map(str, classes[:_MOST_CLASSES]))}{more}"
    training = facts.get("training")
    if training:
        early = ", interrupted" if training.get("interrupted") else ""
        lines["trained_on"] = (
            f"{training['rows']:,} rows of {training['data']}, {training['epochs']} epochs{early}"
        )
    for name in facts:
        if name.startswith("test_"):
            lines[name] = f"{facts[name]:.4f}"
    left_out = ["standardised", "categories", "training", *([] if classes else ["classes"])]
    return {name: line for name, line in lines.items() if name not in left_out}


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
    with display.progress() as progress:
        parts = environment.warmup(dtypes=dtypes, progress=progress)
    seconds = time.perf_counter() - began
    display.show(f"kernels for {' and '.join(dtypes)} are ready after {display.seconds(seconds)}")
    display.write_json(
        json_path, {"command": "warmup", "seconds": seconds, "dtypes": dtypes, "parts": parts}
    )
