"""The command line: what it writes, and that every error is one line with the right exit code."""

import csv
import gzip
import io
import json
import math
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import fastnn
from fastnn.data.table_encoder import TableEncoder
from fastnn.datasets import load
from fastnn.files import storage

typer = pytest.importorskip("typer")
pytest.importorskip("rich")
pytest.importorskip("sklearn")
pandas = pytest.importorskip("pandas")

from sklearn.neural_network import MLPClassifier  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from fastnn import cli  # noqa: E402
from fastnn.cli import app, checks, display  # noqa: E402
from fastnn.table_model import score_outputs as score  # noqa: E402

QUICK = ("--epochs", "2", "--hidden", "8")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Run each test in a folder of its own, with a wide terminal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def run(*args):
    return CliRunner().invoke(app.app, [str(arg) for arg in args])


def succeed(*args):
    result = run(*args)
    assert result.exit_code == 0, result.output
    return result


def fail(code, *args):
    """Run a command that must fail; return its only line on stderr, without the prefix."""
    before = sorted(os.listdir())
    result = run(*args)
    assert result.exit_code == code, result.output
    lines = [line for line in result.stderr.splitlines() if not line.startswith("epoch ")]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("fastnn: error: ")
    assert sorted(os.listdir()) == before, "something was written"
    return lines[0].removeprefix("fastnn: error: ")


def read_json(path):
    return json.loads(Path(path).read_text())


def write_table(path, n_rows=60, seed=0, **changes):
    """Write a CSV with two numeric columns, one text column and a target that follows them."""
    rng = np.random.default_rng(seed)
    columns = {
        "size": rng.normal(size=n_rows).round(3),
        "age": rng.integers(1, 90, n_rows),
        "colour": rng.choice(["red", "green", "blue"], n_rows),
    }
    columns["bought"] = np.where(columns["size"] + (columns["colour"] == "red") > 0.3, "yes", "no")
    table = pandas.DataFrame(columns)
    for name, change in changes.items():
        table[name] = change(table[name]) if callable(change) else change
    table.to_csv(path, index=False)
    return path


def replace_first(value):
    """Return a function that puts a value into the first row of a column."""
    return lambda column: [value, *column[1:]]


# train


def test_train_without_arguments_learns_the_digits_and_saves_them():
    result = succeed("train", "--epochs", "15")
    assert "digits: 1,293 training, 144 validation, 360 test rows" in result.stdout
    assert "model saved to digits.safetensors" in " ".join(result.stdout.split())
    accuracy = float(result.stdout.partition("test accuracy")[2].split()[0])
    assert accuracy > 0.9
    net = fastnn.Sequential.load("digits.safetensors")
    assert [net.n_inputs, net.n_outputs] == [64, 10]


@pytest.mark.parametrize("name", ["breast_cancer", "wine", "iris", "diabetes"])
def test_each_bundled_set_is_learnt(name):
    succeed("train", name, *QUICK, "--quiet")
    assert storage.read(f"{name}.safetensors")[0].n_inputs == load(name).X.shape[1]


def test_the_progress_shows_epoch_loss_score_and_speed():
    said = succeed("train", "iris", *QUICK).stderr
    assert "epoch 2/2" in said
    for label in ("loss ", "val accuracy ", " samples/s"):
        assert label in said
    assert "val R2" in succeed("train", "diabetes", *QUICK).stderr


def test_quiet_prints_nothing():
    result = succeed("train", "iris", *QUICK, "--quiet", "--compare")
    assert result.stdout == result.stderr == ""


def test_the_figures_are_written_as_json():
    succeed("train", "iris", "--json", "f.json", "--out", "m.safetensors", *QUICK, "--seed", 3)
    figures = read_json("f.json")
    assert figures["command"] == "train"
    assert figures["options"]["seed"] == 3
    assert figures["task"] == "classification"
    assert figures["metric"] == "accuracy"
    assert [figures[f"n_{part}"] for part in ("train", "validation", "test")] == [108, 12, 30]
    assert figures["model"] == "m.safetensors"
    ours = figures["fastnn"]
    assert ours["epochs"] == len(ours["history"]["loss"]) == 2
    assert 0 <= ours["test_score"] <= 1
    assert ours["samples_per_second"] == pytest.approx(2 * 108 / ours["seconds"])
    assert ours["compile_seconds"] >= 0
    assert "scikit_learn" not in figures


def test_the_same_seed_gives_the_same_model_whatever_the_number_of_threads():
    for name, options in [("a", ()), ("b", ("--threads", 1)), ("c", ("--seed", 1))]:
        succeed("train", "iris", *QUICK, "--out", name, "--quiet", *options)
    a, b, c = (storage.read(name)[0].params for name in "abc")
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_validation_and_test_rows_can_be_none():
    options = ("--validation-size", 0, "--test-size", 0, "--json", "f.json")
    result = succeed("train", "iris", *QUICK, *options)
    assert "iris: 150 training rows;" in result.stdout
    assert "test accuracy" not in result.stdout
    figures = read_json("f.json")
    assert (figures["n_train"], figures["n_validation"], figures["n_test"]) == (150, 0, 0)
    assert "test_score" not in figures["fastnn"]


def test_classes_are_split_by_their_shares():
    succeed("train", "iris", *QUICK, "--quiet", "--json", "f.json")
    # 12 of 120: 4 of each class, so that a net that knows one class only has a third.
    curve = read_json("f.json")["fastnn"]["history"]["val_accuracy"]
    assert all((12 * value) % 1 == pytest.approx(0, abs=1e-9) for value in curve)


@pytest.mark.parametrize(
    "options",
    [
        ("--hidden", ""),
        ("--hidden", "5,6,7"),
        ("--activation", "tanh"),
        ("--activation", "leaky_relu"),
        ("--activation", "sigmoid"),
        ("--activation", "identity"),
        ("--optimizer", "sgd"),
        ("--optimizer", "rmsprop"),
        ("--optimizer", "sgd", "--schedule", "one_cycle"),
        ("--optimizer", "adamw", "--learning-rate", "0.01", "--alpha", "0"),
        ("--dtype", "float64"),
        ("--batch-size", "1"),
        ("--batch-size", "100000"),
        ("--threads", "1"),
        ("--task", "regression", "--target", "target"),
    ],
)
def test_the_options_of_a_network_and_its_training_work(options):
    source = "digits" if "regression" in options else "iris"
    succeed("train", source, "--epochs", "1", "--hidden", "4", *options, "--out", "m.safetensors")
    net = fastnn.Sequential.load("m.safetensors")
    if "--hidden" in options:
        assert len(net.layers) == (7 if options[1] else 1)
    assert net.dtype == ("float64" if "float64" in options else "float32")
    assert net.n_outputs == (1 if "regression" in options else 3)


def test_early_stopping_ends_before_the_last_epoch():
    options = ("--early-stopping", "--patience", "1", "--epochs", "200", "--json", "f.json")
    succeed("train", "wine", "--hidden", "8", "--learning-rate", "0.05", *options)
    assert read_json("f.json")["fastnn"]["epochs"] < 200


def test_the_curve_is_drawn():
    pytest.importorskip("matplotlib")
    assert "curve drawn in c.png" in succeed("train", "iris", *QUICK, "--plot", "c.png").stdout
    assert Path("c.png").read_bytes()[:4] == b"\x89PNG"
    options = ("--validation-size", 0, "--epochs", 1, "--plot", "c.svg", "--quiet", "--force")
    succeed("train", "diabetes", *options)
    assert "<svg" in Path("c.svg").read_text()


@pytest.mark.parametrize(
    ("source", "options"),
    [
        ("iris", ()),
        ("diabetes", ("--optimizer", "sgd", "--activation", "tanh")),
        ("iris", ("--activation", "sigmoid", "--hidden", "5,4", "--threads", 1)),
    ],
)
def test_scikit_learn_is_compared_over_the_same_epochs_without_a_warning(source, options):
    result = succeed("train", source, *QUICK, "--compare", "--json", "f.json", *options)
    assert "scikit-learn" in result.stdout
    assert "speed-up" in result.stdout
    figures = read_json("f.json")
    ours, theirs = figures["fastnn"], figures["scikit_learn"]
    assert theirs["epochs"] == ours["epochs"] == 2
    assert {"test_score", "seconds", "samples_per_second"} <= theirs.keys()
    assert figures["ratio"] == theirs["seconds"] / ours["seconds"]


def test_figures_are_written_without_the_comparison_where_scikit_learn_fails(monkeypatch):
    pytest.importorskip("matplotlib")

    def break_down(*args):
        raise ValueError("Solver produced non-finite parameter weights.")

    monkeypatch.setattr("fastnn.cli.train.train_sklearn", break_down)
    options = ("--compare", "--json", "f.json", "--plot", "c.png", "--quiet")
    result = succeed("train", "iris", *QUICK, *options)
    assert result.stderr == (
        "fastnn: warning: --compare: scikit-learn failed: "
        "Solver produced non-finite parameter weights.\n"
    )
    figures = read_json("f.json")
    assert figures["fastnn"]["epochs"] == 2
    assert "scikit_learn" not in figures
    assert Path("c.png").exists()


class Interrupted(MLPClassifier):
    """Does at Ctrl-C in the second epoch what scikit-learn does: it warns, and is trained."""

    def fit(self, X, y):
        self.set_params(max_iter=1)
        super().fit(X, y)
        warnings.warn("Training interrupted by user.", stacklevel=1)
        return self


class InterruptedAtOnce(MLPClassifier):
    """Ctrl-C where scikit-learn does not catch it."""

    def fit(self, X, y):
        raise KeyboardInterrupt


@pytest.mark.parametrize("kind", [Interrupted, InterruptedAtOnce])
def test_ctrl_c_during_the_comparison_leaves_the_own_figures(monkeypatch, kind):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr("sklearn.neural_network.MLPClassifier", kind)
    result = run("train", "iris", *QUICK, "--compare", "--json", "f.json", "--plot", "c.png")
    assert result.exit_code == 130
    assert result.stderr.endswith("fastnn: error: interrupted\n")
    assert "test accuracy" in result.stdout
    assert "scikit-learn" not in result.stdout
    assert read_json("f.json")["fastnn"]["epochs"] == 2
    assert "scikit_learn" not in read_json("f.json")
    assert Path("c.png").exists()
    assert Path("iris.safetensors").exists()


def test_a_regression_is_not_scored_on_one_row():
    table = pandas.DataFrame({"x": np.arange(40.0), "y": np.arange(40) / 3})
    table.to_csv("t.csv", index=False)
    table.iloc[[3]].to_csv("row.csv", index=False)
    options = ("--test", "row.csv", "--compare", "--json", "f.json")
    assert "test R2" not in succeed("train", "t.csv", *QUICK, *options).stdout
    figures = read_json("f.json")
    assert figures["n_test"] == 1
    assert all("test_score" not in figures[name] for name in ("fastnn", "scikit_learn"))
    result = succeed("predict", "t.safetensors", "row.csv", "--json", "p.json")
    assert result.stderr == ""
    assert "score" not in read_json("p.json")


def test_numbers_that_json_does_not_have_become_null():
    display.write_json(Path("f.json"), {"a": math.nan, "b": [1.5, {"c": math.inf}], "d": (2,)})
    assert read_json("f.json") == {"a": None, "b": [1.5, {"c": None}], "d": [2]}


def test_a_table_is_learnt_by_name_of_its_target_with_text_and_missing_values():
    table = write_table("t.csv", size=replace_first(np.nan))
    result = succeed("train", table, "--target", "colour", "--drop", "age", *QUICK)
    assert "2 columns make 3 inputs; target 'colour', 3 classes" in result.stdout
    table = write_table("t.csv", size=replace_first(np.nan), colour=lambda c: c.replace("red", "?"))
    result = succeed("train", table, "--force", *QUICK)
    assert "3 columns make 5 inputs; target 'bought', 2 classes" in result.stdout


def test_a_rare_class_and_a_rare_category_do_not_break_the_split():
    table = write_table("t.csv", colour=replace_first("mauve"), bought=replace_first("perhaps"))
    for seed in range(3):
        succeed("train", table, *QUICK, "--seed", seed, "--force", "--quiet")


def test_a_test_file_is_used_whole():
    write_table("a.csv")
    write_table("b.csv", n_rows=20, seed=1, colour="red", age=replace_first(np.nan))
    succeed("train", "a.csv", "--test", "b.csv", *QUICK, "--json", "f.json")
    figures = read_json("f.json")
    assert [figures[f"n_{part}"] for part in ("train", "validation", "test")] == [54, 6, 20]


def test_idx_images_are_tested_on_their_own_test_set(rng):
    os.mkdir("images")
    for part, n_rows in [("train", 50), ("t10k", 10)]:
        labels = np.arange(n_rows) % 2
        images = rng.integers(0, 100, (n_rows, 4, 4)) + 100 * labels[:, None, None]
        for name, array in [("images-idx3", images), ("labels-idx1", labels)]:
            header = b"\0\0\x08" + bytes([array.ndim])
            header += b"".join(int(size).to_bytes(4, "big") for size in array.shape)
            with gzip.open(f"images/{part}-{name}-ubyte.gz", "wb") as file:
                file.write(header + array.astype("u1").tobytes())
    succeed("train", "images", "--json", "f.json", "--epochs", "30", "--batch-size", "10")
    figures = read_json("f.json")
    assert (figures["n_train"], figures["n_test"]) == (45, 10)
    assert figures["fastnn"]["test_score"] == 1
    assert "10 rows" in succeed("predict", "images.safetensors", "images").stderr


def test_the_bundled_set_is_taken_and_said_so_where_a_file_has_its_name():
    os.mkdir("iris")
    result = succeed("train", "iris", *QUICK)
    assert "iris is the bundled set; for the file, write ./iris" in result.stderr
    assert "DATA iris" in fail(1, "train", "./iris", *QUICK, "--force")


# train: arguments that cannot be used


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--epochs", "0"), "--epochs must be an integer >= 1, got 0"),
        (("--epochs", "many"), "Invalid value for '--epochs'"),
        (("--batch-size", "0"), "--batch-size must be an integer >= 1, got 0"),
        (("--learning-rate", "-0.1"), "--learning-rate must be a finite number > 0, got -0.1"),
        (("--learning-rate", "0"), "--learning-rate must be"),
        (("--learning-rate", "nan"), "--learning-rate must be"),
        (("--alpha", "-1"), "--alpha must be a finite number >= 0, got -1.0"),
        (("--optimizer", "lion"), "--optimizer must be one of sgd, rmsprop, adam, adamw, adagrad"),
        (("--schedule", "poly"), "--schedule must be one of constant, linear, step, exponential"),
        (("--activation", "step"), "--activation must be one of relu, leaky_relu"),
        (("--task", "guess"), "--task must be one of auto, classification, regression, got"),
        (("--dtype", "int8"), "--dtype must be 'float32' or 'float64', got 'int8'"),
        (("--hidden", "12,x"), "--hidden must be integers >= 1 such as 128,64, got '12,x'"),
        (("--hidden", "12,0"), "--hidden must be integers >= 1"),
        (("--threads", "0"), "--threads must be an integer >= 1, got 0"),
        (("--seed", "-1"), "--seed must be an integer from 0 to 4294967295, got -1"),
        (("--seed", "4294967296"), "--seed must be an integer from 0 to 4294967295, got 4294"),
        (("--patience", "0"), "--patience must be an integer >= 1, got 0"),
        (("--test-size", "1"), "--test-size must be a number >= 0 and < 1, got 1.0"),
        (("--validation-size", "-0.1"), "--validation-size must be a number"),
        (("--validation-size", "nan"), "--validation-size must be a number"),
        (("--early-stopping", "--validation-size", "0"), "--early-stopping needs a --validation-s"),
        (("--compare", "--optimizer", "rmsprop"), "--compare needs an --optimizer that"),
        (("--compare", "--activation", "leaky_relu"), "--compare needs an --activation that"),
        (("--target", "color"), "--target 'color' cannot be chosen: iris is not a table"),
        (("--drop", "color"), "--drop 'color' is not possible"),
        (("--test", "nothing.csv"), "--test nothing.csv: no such file or folder"),
        (("--surprise",), "No such option: --surprise"),
    ],
)
def test_an_argument_that_cannot_be_used_is_named_with_code_2(options, said):
    assert fail(2, "train", "iris", *options).startswith(said)


def test_a_source_that_does_not_exist_is_named_with_code_2():
    assert fail(2, "train", "irsi").startswith(
        "DATA irsi: no such file or folder, nor a bundled set (digits"
    )
    assert fail(2, "nonsense") == "No such command 'nonsense'."


def test_an_unknown_column_is_named_with_code_2():
    write_table("t.csv")
    said = fail(2, "train", "t.csv", "--target", "color")
    assert said == "--target 'color' is not a column of t.csv: did you mean 'colour'?"
    assert fail(2, "train", "t.csv", "--target", "9").startswith("--target '9' is not a column")
    assert fail(2, "train", "t.csv", "--drop", "x,age").startswith("--drop 'x' is not a column")


@pytest.mark.parametrize("option", ["--out", "--plot", "--json"])
def test_an_existing_file_is_kept_unless_forced(folder, option):
    path = folder / "there.png"
    path.write_text("precious")
    said = fail(2, "train", "iris", option, path)
    assert said == f"{option} {path} exists already: --force replaces it"
    assert path.read_text() == "precious"
    succeed("train", "iris", option, path, "--force", *QUICK)
    assert path.read_bytes() != b"precious"


def test_the_default_model_file_is_not_overwritten_either():
    succeed("train", "iris", *QUICK, "--quiet")
    assert fail(2, "train", "iris", *QUICK).startswith("--out iris.safetensors exists already")


@pytest.mark.parametrize(
    ("option", "path", "said"),
    [
        ("--out", "none/m.safetensors", "cannot be written: no folder none"),
        ("--json", "file.txt/f.json", "cannot be written: no folder file.txt"),
        ("--plot", "subfolder", "is a folder, but a file is needed"),
        ("--json", os.devnull, "is not an ordinary file"),
        ("--out", "t.csv", "is the file of DATA already"),
        ("--json", "m.png", "is the file of --plot already"),
    ],
)
def test_an_output_that_cannot_be_written_is_named_before_training(folder, option, path, said):
    (folder / "file.txt").touch()
    (folder / "subfolder").mkdir()
    write_table("t.csv")
    options = ("--plot", "m.png", option, path) if path == "m.png" else (option, path)
    assert fail(2, "train", "t.csv", *options, "--force") == f"{option} {path} {said}"


def test_a_read_only_folder_is_found_before_training(monkeypatch):
    def refuse(dir):
        raise PermissionError(13, "Permission denied", str(dir))

    monkeypatch.setattr(checks.tempfile, "TemporaryFile", refuse)
    said = fail(2, "train", "iris")
    assert said == "--out iris.safetensors cannot be written: Permission denied"


def test_a_figure_of_an_unknown_kind_is_refused_before_training():
    said = fail(2, "train", "iris", "--plot", "c.xyz")
    assert said == "--plot must end in .png or .svg or .pdf, got 'c.xyz'"


# train: data that cannot be used


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"size": replace_first(np.inf)}, "t.csv: column 'size' has infinite values, in 1 of 60 r"),
        ({"colour": "red"}, "t: column 'colour' has only one value, 'red': drop the column"),
        ({"size": np.nan}, "t: column 'size' has no values: drop the column"),
        ({"bought": "yes"}, "t: target 'bought' has only one value, yes"),
        ({"bought": 1}, "t: target 'bought' has only one value, 1"),
        ({"bought": replace_first(None)}, "t: target 'bought' is missing in 1 of 60 rows: remove"),
        ({"bought": [f"name {i}" for i in range(60)]}, "t: target 'bought' has 60 different labe"),
    ],
)
def test_unfit_data_is_named_with_code_1(changes, said):
    write_table("t.csv", **changes)
    assert fail(1, "train", "t.csv").startswith(f"DATA {said}")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "DATA t.csv: the file is empty"),
        (b"a,b\n1,2\n3,4,5\n", "DATA t.csv: Error tokenizing data"),
        (b"a,b\n1,x\n2,y\n3,x\n4,y\n", "DATA t: too few rows to train, validate and test on"),
        (b"a,b\n\xff\xfe,x\n", "DATA t.csv: is not text in UTF-8"),
    ],
)
def test_a_damaged_file_is_named_with_code_1(folder, content, said):
    (folder / "t.csv").write_bytes(content)
    assert fail(1, "train", "t.csv").startswith(said)


def test_nan_in_arrays_is_refused_but_in_tables_filled_in():
    X = np.ones((20, 2))
    X[3, 1] = np.nan
    np.savez("t.npz", X=X, y=np.arange(20) % 2)
    assert fail(1, "train", "t.npz").startswith("DATA t.npz: X has NaN or infinite values, in 1 of")
    write_table("t.csv", size=replace_first(np.nan))
    succeed("train", "t.csv", *QUICK)


def test_arrays_without_a_target_are_refused():
    np.savez("t.npz", X=np.ones((20, 2)))
    assert fail(1, "train", "t.npz") == "DATA t: there is no target to learn"


def test_a_label_unseen_at_training_is_named():
    write_table("a.csv")
    write_table("b.csv", bought=replace_first("maybe"))
    said = fail(1, "train", "a.csv", "--test", "b.csv")
    assert said.startswith("--test b: target 'bought' has the label 'maybe', which was not there")


def test_columns_that_were_dropped_may_hold_anything_later():
    write_table("a.csv", id=range(60))
    write_table("b.csv", id=np.inf)
    succeed("train", "a.csv", "--target", "bought", "--drop", "id", "--test", "b.csv", *QUICK)
    result = succeed("predict", "a.safetensors", "b.csv")
    assert "on 60 rows" in result.stderr
    write_table("b.csv", id=np.inf, size=replace_first(np.inf))
    assert "column 'size' has infinite values" in fail(1, "predict", "a.safetensors", "b.csv")


def test_columns_that_were_dropped_may_hold_anything_later_without_a_header_too():
    write_table("a.csv", n=range(60))
    table = pandas.read_csv("a.csv")[["n", "size", "age", "bought"]]
    table.to_csv("a.csv", index=False, header=False)
    table.assign(n=np.inf).to_csv("b.csv", index=False, header=False)
    succeed("train", "a.csv", "--drop", "0", "--test", "b.csv", *QUICK)
    expected = succeed("predict", "a.safetensors", "a.csv").stdout
    assert succeed("predict", "a.safetensors", "b.csv").stdout == expected
    table.drop(columns="bought").to_csv("b.csv", index=False, header=False)
    assert succeed("predict", "a.safetensors", "b.csv").stdout == expected


def test_labels_of_a_test_file_may_end_in_a_full_stop():
    write_table("a.csv")
    write_table("b.csv", bought=lambda column: column + ".")
    options = ("--epochs", "2", "--hidden", "8", "--quiet", "--json")
    scores = []
    for test in ("a.csv", "b.csv"):
        out = f"{test}.safetensors"
        succeed("train", "a.csv", "--test", test, *options, f"{test}.json", "--out", out)
        scores.append(read_json(f"{test}.json")["fastnn"]["test_score"])
    assert scores[0] == scores[1]


def test_a_test_file_needs_the_columns_of_the_data():
    write_table("a.csv")
    pandas.read_csv("a.csv").drop(columns="bought").to_csv("b.csv", index=False)
    said = fail(1, "train", "a.csv", "--test", "b.csv")
    assert said == "--test b: there is no target 'bought' to test with"
    pandas.read_csv("a.csv").drop(columns="age").to_csv("b.csv", index=False)
    assert fail(1, "train", "a.csv", "--test", "b.csv") == "--test b: there is no column 'age'"


def test_a_training_that_diverges_saves_nothing():
    options = ("--optimizer", "sgd", "--learning-rate", "1e30", "--activation", "identity")
    said = fail(1, "train", "diabetes", "--epochs", "5", *options)
    assert said.startswith("the loss became NaN in epoch 1, batch 2, at a learning rate of 1e+30: ")
    assert said.endswith("without --keep-diverged; try a smaller --learning-rate")
    assert not list(Path().iterdir())


def test_a_training_whose_loss_only_rises_saves_nothing_unless_it_is_to_be_kept():
    options = ("--optimizer", "sgd", "--learning-rate", "1", "--epochs", "3", "--hidden", "8")
    outputs = ("--json", "f.json", "--out", "m.safetensors")
    said = fail(1, "train", "digits", *options, *outputs)
    assert re.match(r"the loss rose from 2\.3 to \S+ within the first epoch, at a .* of 1\.", said)
    assert not list(Path().iterdir())
    result = succeed("train", "digits", *options, *outputs, "--keep-diverged", "--quiet")
    assert f"fastnn: warning: {said.partition('. ')[0]}\n" in result.stderr
    assert fastnn.Sequential.load("m.safetensors").n_outputs == 10


def test_a_score_no_better_than_a_constant_guess_is_a_warning():
    np.savez("nothing.npz", X=np.zeros((40, 2)), y=np.arange(40) % 2)
    result = succeed("train", "nothing.npz", *QUICK, "--quiet", "--json", "f.json")
    ours = read_json("f.json")["fastnn"]
    assert ours["constant_score"] == ours["test_score"] == 0.5
    said = "the test accuracy, 0.5, is no better than that of a constant guess, 0.5"
    assert result.stderr == f"fastnn: warning: {said}\n"


@pytest.mark.parametrize("source", ["iris", "diabetes"])
def test_few_rows_get_as_many_updates_as_they_need(source):
    result = succeed("train", source, "--hidden", "4", "--json", "f.json")
    figures = read_json("f.json")
    ours, steps = figures["fastnn"], -(-figures["n_train"] // 32)
    assert ours["epochs"] == len(ours["history"]["loss"]) == -(-2000 // steps)
    assert f"{ours['epochs']} epochs of which the best is kept, weight decay" in result.stdout
    losses = ours["history"]["val_loss"]
    assert ours["best_epoch"] == 1 + losses.index(min(losses))
    constant = 0.5 if source == "diabetes" else np.log(3)
    assert ours["history"]["loss"][0] < 1.05 * constant
    succeed("train", source, *QUICK, "--json", "f.json", "--force")
    ours = read_json("f.json")["fastnn"]
    assert ours["epochs"] == 2
    assert "best_epoch" not in ours


def test_weight_decay_may_be_chosen():
    sizes = {}
    for decay in ("0", "100"):
        options = ("--weight-decay", decay, "--out", f"{decay}.safetensors", "--quiet")
        succeed("train", "iris", "--epochs", "9", "--hidden", "8", *options)
        net = fastnn.Sequential.load(f"{decay}.safetensors")
        sizes[decay] = np.abs(net.layers[0].params["w"]).mean()
    assert sizes["100"] < 0.5 * sizes["0"]


def test_a_column_whose_numbers_overflow_is_named():
    write_table("a.csv", age=replace_first(1e300))
    no_parts = ("--test-size", 0, "--validation-size", 0)
    said = fail(1, "train", "a.csv", *QUICK, *no_parts)
    assert said == "DATA a: column 'age' has values too large to be standardised, such as 1e+300"
    write_table("b.csv")
    succeed("train", "b.csv", *QUICK)
    for command in (("predict", "b.safetensors", "a.csv"), ("train", "b.csv", "--test", "a.csv")):
        said = fail(1, *command, *(() if "predict" in command else ("--force",)))
        assert "a: column 'age' has values too large for float32, in 1 of 60 rows" in said
    write_table("c.csv", size=lambda column: 1e200 * column)
    said = fail(1, "train", "c.csv", "--target", "size", *QUICK)
    assert said.startswith("DATA c: target 'size' has values too large to be standardised, such as")


# train: accidents


def test_an_error_of_our_own_is_one_line_and_a_traceback_only_with_debug(monkeypatch):
    monkeypatch.setattr("fastnn.cli.train.prepare", lambda *args: 1 / 0)
    said = fail(1, "train", "iris")
    assert said == "unexpected ZeroDivisionError: division by zero (--debug shows where)"
    result = run("train", "iris", "--debug")
    assert result.exit_code == 1
    assert result.stderr.startswith("Traceback")
    assert result.stderr.endswith(f"fastnn: error: {said}\n")


def test_debug_leaves_the_exit_code_as_it_is():
    result = run("train", "iris", "--epochs", "0", "--debug")
    assert result.exit_code == 2
    assert result.stderr.startswith("Traceback")
    Path("t.csv").touch()
    assert run("train", "t.csv", "--debug").exit_code == 1


def test_debug_shows_no_traceback_of_the_parser():
    assert fail(2, "train", "iris", "--surprise", "--debug") == "No such option: --surprise"
    assert fail(2, "--debug", "train") == "No such option: --debug"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError("5 GiB"), "not enough memory: 5 GiB"),
        (OSError(28, "No space left on device", "m"), "[Errno 28] No space left on device: 'm'"),
        (fastnn.errors.MissingExtraError("pandas is needed"), "pandas is needed"),
    ],
)
def test_what_the_machine_lacks_is_one_line(monkeypatch, error, said):
    def raise_it(*args, **kwargs):
        raise error

    monkeypatch.setattr("fastnn.cli.train.prepare", raise_it)
    assert fail(1, "train", "iris") == said


@pytest.mark.parametrize(
    ("module", "args", "package", "command"),
    [
        ("pandas", ("train", "t.csv"), "pandas", "pandas pyarrow (the extra 'data')"),
        ("pyarrow", ("train", "t.parquet"), "pyarrow", "pandas pyarrow (the extra 'data')"),
        ("sklearn", ("train",), "scikit-learn", "scikit-learn (the extra 'sklearn')"),
        ("matplotlib", ("train", "--plot", "c.png"), "matplotlib", "matplotlib (the extra 'plot')"),
    ],
)
def test_a_missing_extra_is_named_before_any_work(monkeypatch, module, args, package, command):
    write_table("t.csv")
    Path("t.parquet").touch()
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    assert fail(1, *args) == f"{package} is needed for this: pip install {command}"


_MODULES_OF_DATA = ("columns", "frames", "table_encoder", "text_files", "transformers")


def test_arrays_are_learnt_and_predicted_without_pandas(monkeypatch):
    def refuse_pandas(module, extra):
        assert module != "pandas"
        return fastnn.errors.require(module, extra)

    for module in ("datasets", *(f"data.{name}" for name in _MODULES_OF_DATA)):
        monkeypatch.setattr(f"fastnn.{module}.require", refuse_pandas)
    succeed("train", "iris", *QUICK)
    succeed("predict", "iris.safetensors", "iris")


# standard input and output


def pipe(content, *args):
    return CliRunner().invoke(app.app, [str(arg) for arg in args], input=content)


def test_data_is_read_from_standard_input_whatever_kind_of_file_it_is():
    table = write_table("t.csv")
    content = table.read_bytes() if isinstance(table, Path) else Path(table).read_bytes()
    expected = load("t.csv")
    pandas.read_csv("t.csv").to_parquet("t.parquet")
    assert pipe(content, "train", "-", *QUICK, "--quiet").exit_code == 0
    assert fastnn.load("stdin.safetensors").training["data"] == "stdin"
    succeed("train", "t.csv", *QUICK, "--quiet")
    one, other = (fastnn.load(f"{name}.safetensors") for name in ("stdin", "t"))
    assert np.array_equal(one.outputs(expected), other.outputs(expected))
    printed = succeed("predict", "t.safetensors", "t.csv").stdout
    for piped in (content, gzip.compress(content), Path("t.parquet").read_bytes()):
        result = pipe(piped, "predict", "t.safetensors", "-")
        assert result.exit_code == 0, result.output
        assert result.stdout == printed
        assert result.stderr.startswith("accuracy")
    iris = load("iris")
    succeed("train", "iris", *QUICK, "--quiet")
    buffer = io.BytesIO()
    np.savez(buffer, X=iris.X)
    result = pipe(buffer.getvalue(), "predict", "iris.safetensors", "-", "--out", "-")
    assert result.stdout == succeed("predict", "iris.safetensors", "iris").stdout


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "DATA standard input: the file is empty"),
        (b"a,b\n1,2\n3,4,5\n", "DATA standard input: Error tokenizing data"),
        (b"PK\x03\x04", "DATA standard input: cannot be read as .npz"),
        (b"PAR1", "DATA standard input: cannot be read as Parquet"),
        (gzip.compress(b"a,b\n" * 99, mtime=0)[:20], "DATA standard input: cannot be decompressed"),
        (b"a,b\n1,x\n2,y\n3,x\n4,y\n", "DATA stdin: too few rows to train, validate and test on"),
    ],
)
def test_what_cannot_be_read_from_standard_input_is_one_line(content, said):
    result = pipe(content, "train", "-")
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"fastnn: error: {said}")
    assert os.listdir() == []


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("train", "-", "--test", "-"), "--test - cannot be used: standard input is DATA"),
        (("train", "--out", "-"), "--out - cannot be used: a model needs a file"),
        (("train", "--plot", "-"), "--plot - cannot be used: a file is needed"),
        (("predict", "m", "-", "--json", "-"), "--json - needs --out FILE: the predictions are"),
        (("predict", "m", "-", "--json", "-", "--out", "-"), "--json - is the standard output of"),
        (("predict", "-", "iris"), "MODEL -: no such file"),
    ],
)
def test_standard_output_is_for_one_thing_and_a_model_is_a_file(args, said):
    assert fail(1 if args[0] == "info" else 2, *args).startswith(said)


def test_results_as_json_have_standard_output_for_themselves():
    for json_option in (("--json", "-"), ("--json=-",), ("--json",)):
        result = succeed("train", "iris", *QUICK, "--force", *json_option)
        assert json.loads(result.stdout)["n_train"] == 108
        assert "test accuracy" in result.stderr
    result = succeed("predict", "iris.safetensors", "iris", "--json", "--out", "p.csv")
    assert json.loads(result.stdout)["n_rows"] == 150
    assert json.loads(succeed("info", "--json").stdout)["command"] == "info"
    assert "fastnn" in succeed("info").stdout  # the next command is as before


def test_a_reader_that_stops_early_is_no_error_to_read_about():
    succeed("train", "iris", *QUICK, "--quiet")
    command = [sys.executable, "-m", "fastnn", "predict", "iris.safetensors", "iris"]
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as stdout:
        done = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (1, b"")


# predict


@pytest.fixture
def model():
    """Return a model of the table that `write_table` makes, and its test score."""
    write_table("t.csv")
    succeed("train", "t.csv", *QUICK, "--quiet", "--out", "m.safetensors")
    return "m.safetensors"


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_predictions_are_printed_as_csv_and_the_score_apart(model):
    result = succeed("predict", model, "t.csv")
    predictions = [row["prediction"] for row in rows_of(result.stdout)]
    net, metadata, tensors = storage.read(model)
    encoder = TableEncoder.unpack(metadata, tensors)
    data = load("t.csv")
    out = net.predict(encoder.transform(data))
    assert predictions == encoder.decode(out).tolist()
    accuracy = score("classification", out, encoder.encode_target(data))
    assert result.stderr == f"accuracy {accuracy:.4f} on 60 rows\n"


def test_predictions_do_not_need_the_target(model):
    expected = succeed("predict", model, "t.csv").stdout
    features = pandas.read_csv("t.csv")[["colour", "age", "size"]]  # in another order, too
    features.to_csv("new.csv", index=False)
    result = succeed("predict", model, "new.csv")
    assert (result.stdout, result.stderr) == (expected, "")


def test_a_single_row_is_predicted_as_among_others(model):
    expected = rows_of(succeed("predict", model, "t.csv", "--proba").stdout)
    pandas.read_csv("t.csv").iloc[[7]].to_csv("row.csv", index=False)
    assert rows_of(succeed("predict", model, "row.csv", "--proba").stdout) == [expected[7]]


def test_probabilities_sum_to_one_and_agree_with_the_prediction(model):
    for row in rows_of(succeed("predict", model, "t.csv", "--proba").stdout):
        no, yes = float(row["probability_no"]), float(row["probability_yes"])
        assert math.isclose(no + yes, 1, rel_tol=1e-5)
        assert row["prediction"] == ("yes" if yes > no else "no")


def test_predictions_and_figures_go_to_files(model):
    result = succeed("predict", model, "t.csv", "--out", "p.csv", "--json", "p.json")
    assert "60 predictions written to p.csv" in result.stdout
    assert "accuracy" in result.stdout
    assert len(rows_of(Path("p.csv").read_text())) == 60
    figures = read_json("p.json")
    assert (figures["n_rows"], figures["metric"]) == (60, "accuracy")
    assert fail(2, "predict", model, "t.csv", "--out", "p.csv").startswith("--out p.csv exists alr")


def test_a_regression_is_predicted_in_the_unit_of_its_target():
    succeed("train", "diabetes", "--epochs", "20", "--quiet")
    result = succeed("predict", "diabetes.safetensors", "diabetes")
    predictions = np.array([float(row["prediction"]) for row in rows_of(result.stdout)])
    y = load("diabetes").y
    assert abs(predictions.mean() - y.mean()) < y.std()
    r2 = 1 - ((predictions - y) ** 2).mean() / y.var()
    assert result.stderr.startswith(f"R2 {r2:.4f} on 442 rows")
    said = fail(2, "predict", "diabetes.safetensors", "diabetes", "--proba")
    assert said.startswith("--proba needs a classification")


def test_text_that_looks_like_numbers_stays_text_in_prediction():
    write_table("t.csv", colour=lambda column: column.replace({"red": "01", "green": "2"}))
    succeed("train", "t.csv", *QUICK, "--quiet", "--out", "m.safetensors")
    table = pandas.read_csv("t.csv", dtype=str)
    expected = rows_of(succeed("predict", "m.safetensors", "t.csv", "--proba").stdout)
    table[table["colour"] == "01"].to_csv("ones.csv", index=False)  # only numbers are left
    wanted = [expected[i] for i in np.flatnonzero(table["colour"] == "01")]
    assert rows_of(succeed("predict", "m.safetensors", "ones.csv", "--proba").stdout) == wanted


def test_an_unseen_category_is_no_error_but_an_unseen_label_is(model):
    write_table("new.csv", colour=replace_first("mauve"))
    succeed("predict", model, "new.csv")
    write_table("new.csv", bought=replace_first("maybe"))
    assert fail(1, "predict", model, "new.csv").startswith(
        "DATA new: target 'bought' has the label 'maybe', which was not there at training"
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"size": replace_first("tall")}, "new: column 'size' has text, 'tall', among its numbers"),
        ({"size": replace_first(np.inf)}, "new.csv: column 'size' has infinite values"),
    ],
)
def test_unfit_data_for_a_prediction_is_named(model, changes, said):
    write_table("new.csv", **changes)
    assert fail(1, "predict", model, "new.csv").startswith(f"DATA {said}")


def test_columns_that_a_prediction_lacks_are_named(model):
    pandas.read_csv("t.csv")[["size"]].to_csv("new.csv", index=False)
    assert fail(1, "predict", model, "new.csv") == "DATA new: there is no column 'age', 'colour'"
    assert fail(1, "predict", model, "iris").startswith("DATA iris: there is no column")


def test_an_all_blank_column_is_filled_in_where_a_prediction_is_made(model):
    write_table("new.csv", size=np.nan, colour=np.nan)
    succeed("predict", model, "new.csv")


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_a_model_file_cut_short_is_refused_in_one_line(model, folder, share):
    content = (folder / model).read_bytes()
    (folder / model).write_bytes(content[: int(share * len(content))])
    for command in (("predict", model, "t.csv"), ("info", model)):
        assert fail(1, *command).startswith("MODEL m.safetensors: ")


def test_files_that_are_no_models_are_refused(model):
    assert fail(1, "predict", "t.csv", "t.csv", "--json", "f.json").startswith("MODEL t.csv: ")
    assert fail(2, "predict", "none.safetensors", "t.csv") == "MODEL none.safetensors: no such file"
    fastnn.Sequential([fastnn.Affine(3, 2)], seed=0).save("bare.safetensors")
    said = fail(1, "predict", "bare.safetensors", "t.csv")
    assert "saved without the encoding of its data" in said


def test_a_folder_is_no_model(folder, model):
    for command in (("info", folder), ("predict", folder, "t.csv")):
        assert fail(2, *command) == f"MODEL {folder} is a folder, but a file is needed"


def test_an_encoding_that_does_not_fit_the_network_is_refused(model):
    _, metadata, tensors = storage.read(model)
    net = fastnn.Sequential([fastnn.Affine(3, 2)], seed=0)
    net.save("other.safetensors", metadata=metadata, tensors=tensors)
    assert "does not fit the network" in fail(1, "predict", "other.safetensors", "t.csv")


# info and warmup


def test_info_shows_the_machine_and_its_settings():
    result = succeed("info", "--json", "i.json")
    figures = read_json("i.json")
    assert figures.pop("command") == "info"
    assert figures.keys() == fastnn.get_config().keys()
    assert all(name.replace("_", " ") in result.stdout for name in figures)


def test_info_shows_what_is_in_a_model(model):
    said = " ".join(succeed("info", model).stdout.split())
    parts = ["parameters", "ReLU()", "2 numeric, standardised", "text 'colour': 3 values"]
    parts += ["target bought", "2: no, yes", "43 rows of t.csv, 2 epochs", "test accuracy"]
    for part in parts:
        assert part in said


def test_info_shows_a_net_that_was_saved_without_a_table():
    fastnn.Sequential([fastnn.Affine(3, 2), fastnn.ReLU()], seed=0).save("bare.safetensors")
    said = " ".join(succeed("info", "bare.safetensors", "--json", "i.json").stdout.split())
    for part in ("Affine(n_inputs=3", "ReLU()", "parameters 8", "dtype float32", "outputs 2"):
        assert part in said
    assert read_json("i.json")["inputs"] == 3


def test_info_as_json_has_numbers_as_numbers_and_lists_as_lists(model):
    facts = json.loads(succeed("info", model, "--json").stdout)
    net = fastnn.load(model).net
    assert facts["parameters"] == net.n_params
    assert (facts["inputs"], facts["outputs"]) == (5, 2)
    assert facts["layers"] == [repr(layer) for layer in net.layers]
    assert facts["columns"] == ["size", "age", "colour"]
    assert facts["categories"] == {"colour": ["blue", "green", "red"]}
    assert facts["classes"] == ["no", "yes"]
    assert facts["standardised"] is True
    assert facts["training"] == {"data": "t.csv", "rows": 43, "epochs": 2, "interrupted": False}
    assert 0 <= facts["test_accuracy"] <= 1
    succeed("train", "diabetes", *QUICK, "--quiet")
    facts = json.loads(succeed("info", "diabetes.safetensors", "--json").stdout)
    assert isinstance(facts["test_R2"], float)
    assert facts["classes"] == []


def test_labels_and_names_with_brackets_are_shown_as_they_are():
    write_table("[red].csv", bought=lambda column: "[/" + column + "]")
    said = succeed("train", "[red].csv", "--target", "bought", *QUICK).stdout
    assert "[red]: 43 training" in said
    assert "model saved to [red].safetensors" in " ".join(said.split())
    said = succeed("info", "[red].safetensors").stdout
    assert "2: [/no], [/yes]" in said
    assert "'[red]" in said.replace("rows of [red].csv", "'[red]")


def test_warmup_says_how_long_it_took():
    result = succeed("warmup", "--json", "w.json")
    assert "kernels for float32 are ready after" in result.stdout
    assert read_json("w.json")["seconds"] >= 0
    assert fail(2, "warmup", "--dtype", "int8").startswith(
        "--dtype must be one of float32, float64"
    )


# The program


@pytest.mark.parametrize("command", [(), ("train",), ("predict",), ("info",), ("warmup",)])
def test_every_command_explains_itself(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for flag in ("--help", "-h"):
        result = succeed(*command, flag)
        assert "Usage:" in result.stdout
        assert result.stderr == ""


@pytest.mark.parametrize("command", ["train", "predict"])
def test_the_help_fills_its_lines_and_has_an_example_on_each(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text, examples = succeed(command, "--help").stdout.partition("Arguments")[0].split("Examples")
    assert any(len(line.rstrip()) > 70 for line in text.splitlines())
    lines = [line.strip() for line in examples.splitlines() if "fastnn" in line]
    assert len(lines) >= 2
    assert all(line.startswith(f"fastnn {command}") for line in lines)
    if command == "predict":
        assert "only the test set is predicted" in text


def test_without_arguments_the_help_is_printed():
    assert succeed().stdout.split() == succeed("--help").stdout.split()


def test_python_m_fastnn_is_the_same_command():
    done = subprocess.run(
        [sys.executable, "-m", "fastnn", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"fastnn {fastnn.__version__}\n"


def test_the_shell_completes_commands_and_options(monkeypatch):
    assert "--install-completion" in succeed("--help").stdout
    for words, found in (("fastnn tr", "train"), ("fastnn train --resu", "--resume")):
        environment = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        done = subprocess.run(
            [sys.executable, "-m", "fastnn"],
            env=os.environ | environment | {"_FASTNN_COMPLETE": "complete_bash"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split() == [found]


def test_the_version_is_printed():
    assert succeed("--version").stdout == f"fastnn {fastnn.__version__}\n"


def test_main_leaves_with_the_exit_code(capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(["train", "iris", "--epochs", "0"])
    assert left.value.code == 2
    assert capsys.readouterr().err == "fastnn: error: --epochs must be an integer >= 1, got 0\n"


def test_ctrl_c_while_modules_are_loaded_is_one_line_too(capsys, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(app, "run", interrupt)
    with pytest.raises(SystemExit) as left:
        cli.main([])
    assert left.value.code == 130
    assert capsys.readouterr().err == "fastnn: error: interrupted\n"


def python(script, *args):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", script, *args],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )


def test_a_process_trains_and_predicts_without_a_warning():
    script = "from fastnn.cli import main; main()"
    done = python(script, "train", "iris", *QUICK)
    assert done.returncode == 0, done.stderr
    done = python(script, "predict", "iris.safetensors", "iris")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("prediction\n")
    assert done.stderr.startswith("accuracy ")
    done = python(script, "predict", "iris.safetensors", "none.csv")
    assert done.returncode == 2
    assert done.stderr.startswith("fastnn: error: DATA none.csv: no such file")


def test_help_loads_neither_numba_nor_scikit_learn():
    script = (
        "import sys; from fastnn.cli import app; "
        "print({'numba', 'sklearn', 'pandas', 'matplotlib'} & set(sys.modules))"
    )
    assert python(script).stdout == "set()\n"
