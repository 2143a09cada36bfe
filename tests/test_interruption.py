"""Ctrl-C in ``fastnn train``: the model is saved, and ``--resume`` goes on to the same bits."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import fastnn
from fastnn.files import storage

pytest.importorskip("typer")
pytest.importorskip("rich")
pytest.importorskip("sklearn")
pandas = pytest.importorskip("pandas")

from typer.testing import CliRunner  # noqa: E402

from fastnn.callbacks import ProgressBar  # noqa: E402
from fastnn.cli import app, interruption  # noqa: E402
from fastnn.cli.display import write_json  # noqa: E402

EPOCHS = 6
OPTIONS = ("--epochs", EPOCHS, "--hidden", "8")
CHECKPOINT = "iris.checkpoint.safetensors"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Run each test in a folder of its own; the state is remembered after each epoch."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(interruption, "_SECONDS_BETWEEN_STATES", 0.0)
    monkeypatch.setattr(interruption, "_MOST_COST", 1e9)
    return tmp_path


def train(*args, source="iris"):
    args = ["train", source, *OPTIONS, *args]
    return CliRunner().invoke(app.app, [str(arg) for arg in args])


def interrupt(monkeypatch, epoch, at_end=True, again=False):
    """Press Ctrl-C at the end of an epoch, or within it; perhaps again while the training ends."""
    method = "on_epoch_end" if at_end else "on_progress"

    def press(self, now, *_):
        if now == epoch:
            raise KeyboardInterrupt

    def press_again(self, history):
        raise KeyboardInterrupt

    patch = monkeypatch.context()
    with patch as patched:
        patched.setattr(ProgressBar, method, press)
        if again:
            patched.setattr(ProgressBar, "on_fit_end", press_again)
        yield


def interrupted(monkeypatch, epoch, *args, at_end=True, again=False, **options):
    """Return the result of a training that Ctrl-C ends."""
    for _ in interrupt(monkeypatch, epoch, at_end, again):
        result = train(*args, **options)
    assert result.exit_code == 130, result.output
    return result


def error_of(result):
    lines = [line for line in result.stderr.splitlines() if line.startswith("fastnn: error: ")]
    (line,) = lines
    return line.removeprefix("fastnn: error: ")


def test_ctrl_c_saves_the_model_and_says_where(monkeypatch):
    result = interrupted(monkeypatch, 2, "--json", "f.json")
    assert error_of(result) == (
        f"interrupted after 3 of {EPOCHS} epochs: the model so far is saved to iris.safetensors; "
        f"--resume continues from {CHECKPOINT}"
    )
    assert "model saved to" in result.stdout
    assert sorted(os.listdir()) == sorted(["f.json", CHECKPOINT, "iris.safetensors"])
    figures = json.loads(Path("f.json").read_text())["fastnn"]
    assert figures["epochs"] == len(figures["history"]["loss"]) == 3
    assert figures["interrupted"] is True
    model = fastnn.load("iris.safetensors")
    assert model.training["interrupted"] is True
    assert model.training["test_score"] == figures["test_score"]
    assert (
        "3 epochs, interrupted" in CliRunner().invoke(app.app, ["info", "iris.safetensors"]).stdout
    )


def test_the_weights_are_those_of_the_last_batch_or_the_best(monkeypatch):
    interrupted(monkeypatch, 2)
    last = storage.read("iris.safetensors")[0].params
    assert train("--epochs", "3", "--schedule", "constant", "--out", "a").exit_code == 0
    interrupted(monkeypatch, 2, "--schedule", "constant", "--out", "b")
    assert np.array_equal(storage.read("a")[0].params, storage.read("b")[0].params)
    interrupted(monkeypatch, 4, "--out", "c", at_end=False)
    assert not np.array_equal(storage.read("c")[0].params, last)
    options = ("--early-stopping", "--learning-rate", 0.3, "--epochs", 40, "--patience", 40)
    interrupted(monkeypatch, 30, *options, "--json", "f.json", "--out", "d")
    curve = json.loads(Path("f.json").read_text())["fastnn"]["history"]["val_loss"]
    best = int(np.argmin(curve)) + 1
    assert best < 31
    interrupted(monkeypatch, best, *options, "--out", "e", at_end=False)
    assert np.array_equal(storage.read("d")[0].params, storage.read("e")[0].params)


@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize("options", [(), ("--early-stopping", "--optimizer", "sgd")])
def test_a_resumed_training_ends_with_the_same_bits(monkeypatch, at_end, options):
    assert train(*options, "--out", "whole", "--json", "whole.json").exit_code == 0
    interrupted(monkeypatch, 2, *options, at_end=at_end)
    interrupted(monkeypatch, 4, *options, "--resume", at_end=at_end)  # twice
    result = train(*options, "--resume", "--json", "f.json", "--threads", 1)
    assert result.exit_code == 0, result.output
    assert "resumed after" in result.stdout
    ends = [fastnn.load(path).net.params for path in ("whole", "iris.safetensors")]
    assert np.array_equal(*ends)
    whole, own = (json.loads(Path(path).read_text())["fastnn"] for path in ("whole.json", "f.json"))
    for name in ("loss", "val_accuracy"):
        assert whole["history"][name] == own["history"][name]
    assert whole["test_score"] == own["test_score"]
    assert own["resumed_at"] == 4
    assert not Path(CHECKPOINT).exists()  # the training has ended


def test_a_checkpoint_is_a_model_too(monkeypatch):
    interrupted(monkeypatch, 2)
    model = fastnn.load(CHECKPOINT)
    iris = fastnn.datasets.load("iris")
    assert model.columns == iris.feature_names
    assert model.predict(iris).shape == (150,)
    result = CliRunner().invoke(app.app, ["predict", CHECKPOINT, "iris"])
    assert result.exit_code == 0, result.output


def test_the_outputs_of_an_interrupted_training_are_replaced_when_it_is_resumed(monkeypatch):
    pytest.importorskip("matplotlib")
    outputs = ("--json", "f.json", "--plot", "c.png")
    interrupted(monkeypatch, 2, *outputs)
    Path("other.json").write_text("{}")
    result = train("--resume", "--json", "other.json", "--plot", "c.png")
    assert result.exit_code == 2
    assert error_of(result) == "--json other.json exists already: --force replaces it"
    assert train("--resume", *outputs).exit_code == 0
    assert json.loads(Path("f.json").read_text())["fastnn"]["epochs"] == EPOCHS
    result = train("--resume", *outputs)  # it has ended
    assert result.exit_code == 2
    assert error_of(result) == "--out iris.safetensors exists already: --force replaces it"


def test_a_new_training_does_not_overwrite_a_checkpoint_unasked(monkeypatch):
    interrupted(monkeypatch, 2)
    before = Path(CHECKPOINT).read_bytes()
    result = train()
    assert result.exit_code == 2
    assert error_of(result) == (
        f"--out iris.safetensors: its training was interrupted and left {CHECKPOINT}: --resume "
        "continues it, --force starts anew"
    )
    assert Path(CHECKPOINT).read_bytes() == before
    assert "--resume" not in error_of(interrupted(monkeypatch, 0, "--force", at_end=False))
    assert not Path(CHECKPOINT).exists()
    interrupted(monkeypatch, 2, "--force")
    assert train("--force").exit_code == 0
    assert not Path(CHECKPOINT).exists()


def test_without_a_checkpoint_resume_begins_at_the_beginning_and_says_so():
    result = train("--resume")
    assert result.exit_code == 0
    assert f"there is no {CHECKPOINT}: training begins with the first epoch" in result.stderr
    assert "resumed" not in result.stdout
    result = train("--resume", "--quiet", "--force")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--epochs", 7), 2, f"its --epochs is {EPOCHS}, not 7"),
        (("--seed", 1), 2, "its --seed is 0, not 1"),
        (("--learning-rate", 0.1), 2, "its --learning-rate is by default, not 0.1"),
        (("--hidden", "9"), 2, "its --hidden is '8', not '9'"),
        (("--schedule", "cosine"), 2, "its --schedule is 'linear', not 'cosine'"),
        (("--early-stopping",), 2, "its --early-stopping is False, not True"),
        (("--test-size", 0.3), 1, "its rows are not those of DATA and the options of the data"),
        (("--target", "target", "--validation-size", 0), 1, "its rows are not those of DATA"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(monkeypatch, options, code, said):
    interrupted(monkeypatch, 2)
    before = {name: Path(name).read_bytes() for name in os.listdir()}
    result = train(*options, "--resume")
    assert result.exit_code == code
    assert error_of(result).startswith(
        f"--resume: {CHECKPOINT} is the checkpoint of another training: {said}"
    )
    assert {name: Path(name).read_bytes() for name in os.listdir()} == before


def test_a_checkpoint_of_other_data_is_refused(monkeypatch):
    table = pandas.DataFrame({"x": np.arange(60.0), "y": np.arange(60) % 2})
    table.to_csv("t.csv", index=False)
    interrupted(monkeypatch, 2, source="t.csv")
    table.assign(x=table["x"] ** 2).to_csv("t.csv", index=False)
    result = train("--resume", source="t.csv")
    assert result.exit_code == 1
    assert error_of(result).startswith("--resume: t.checkpoint.safetensors is the checkpoint of")
    table.to_csv("t.csv", index=False)
    assert train("--resume", source="t.csv").exit_code == 0


def test_a_damaged_checkpoint_is_refused_in_one_line(monkeypatch):
    interrupted(monkeypatch, 2)
    whole = Path(CHECKPOINT).read_bytes()
    for content in (b"", whole[: len(whole) // 2], Path("iris.safetensors").read_bytes()):
        Path(CHECKPOINT).write_bytes(content)
        result = train("--resume")
        assert result.exit_code == 1
        assert error_of(result).startswith(f"--resume: path '{CHECKPOINT}' ")
    Path(CHECKPOINT).write_bytes(whole.replace(b'\\"data\\":', b'\\"dada\\":', 1))
    result = train("--resume")
    assert result.exit_code == 1, result.output
    assert "damaged checkpoint" in error_of(result)


def test_before_anything_is_learned_ctrl_c_saves_nothing(monkeypatch):
    def press(self, net, info):
        raise KeyboardInterrupt

    monkeypatch.setattr(ProgressBar, "on_fit_begin", press)
    result = train()
    assert (result.exit_code, error_of(result)) == (130, "interrupted")
    assert os.listdir() == []


def test_ctrl_c_within_the_first_epoch_saves_the_model_without_a_curve(monkeypatch):
    pytest.importorskip("matplotlib")
    result = interrupted(monkeypatch, 0, "--plot", "c.png", "--json", "f.json", at_end=False)
    assert error_of(result) == (
        f"interrupted after 0 of {EPOCHS} epochs: the model so far is saved to iris.safetensors"
    )
    assert sorted(os.listdir()) == ["f.json", "iris.safetensors"]
    assert json.loads(Path("f.json").read_text())["fastnn"]["samples_per_second"] == 0


def test_a_second_ctrl_c_ends_at_once(monkeypatch):
    result = interrupted(monkeypatch, 2, again=True)
    assert error_of(result) == "interrupted"
    assert os.listdir() == []


def test_weights_that_are_not_finite_are_not_saved(monkeypatch):
    def press(self, epoch, *_):
        self_net.params[0] = np.nan
        raise KeyboardInterrupt

    real = ProgressBar.on_fit_begin
    self_net = None

    def begin(self, net, info):
        nonlocal self_net
        self_net = net
        real(self, net, info)

    def end(self, history):
        self_net.params[0] = np.nan
        self._progress.stop()

    monkeypatch.setattr(ProgressBar, "on_fit_begin", begin)
    monkeypatch.setattr(ProgressBar, "on_epoch_end", press)
    monkeypatch.setattr(ProgressBar, "on_fit_end", end)
    result = train()
    assert result.exit_code == 1
    assert "its weights are not finite: nothing is saved" in error_of(result)
    assert os.listdir() == []


def test_a_training_that_diverges_leaves_no_checkpoint(monkeypatch):
    monkeypatch.setattr(interruption, "_SECONDS_BETWEEN_FILES", 0.0)
    options = ("--optimizer", "sgd", "--learning-rate", "1e30", "--activation", "identity")
    result = train(*options, source="diabetes")
    assert result.exit_code == 1
    assert os.listdir() == []


def test_a_state_that_no_file_holds_leaves_the_one_before(monkeypatch):
    real = interruption.content_of

    def too_long(run, *parts):
        if run.next_epoch > 2:
            raise ValueError("metadata must take at most 100000000 bytes")
        return real(run, *parts)

    monkeypatch.setattr(interruption, "content_of", too_long)
    interrupted(monkeypatch, 4)
    assert train("--resume", "--json", "f.json").exit_code == 0
    assert json.loads(Path("f.json").read_text())["fastnn"]["resumed_at"] == 2


def test_the_checkpoint_is_written_from_time_to_time(monkeypatch):
    seen = []
    monkeypatch.setattr(interruption, "_SECONDS_BETWEEN_FILES", 0.0)
    real = ProgressBar.on_progress

    def look(self, epoch, *rest):
        seen.append(Path(CHECKPOINT).exists())
        real(self, epoch, *rest)

    monkeypatch.setattr(ProgressBar, "on_progress", look)
    assert train().exit_code == 0
    assert not seen[0] and seen[-1]
    assert not Path(CHECKPOINT).exists()


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_a_process_that_is_sent_sigint_exits_with_130_and_is_resumed():
    # Far more epochs than it will train; the checkpoint tells when there is something to lose.
    command = [sys.executable, "-m", "fastnn", "train", "digits", "--epochs", "1000000"]
    starter = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from fastnn.cli import interruption, main; interruption._SECONDS_BETWEEN_FILES = 0;"
        "main(sys.argv[1:])"
    )
    command = [sys.executable, "-c", starter, *command[3:], "--threads", "1"]
    checkpoint = Path("digits.checkpoint.safetensors")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not checkpoint.exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130, said
    assert "the model so far is saved to digits.safetensors; --resume continues from" in said
    model = fastnn.load("digits.safetensors")
    assert model.training["interrupted"]
    assert model.score(fastnn.datasets.load("digits")) > 0.5


def test_json_for_a_stream_is_flushed(capsys):
    write_json(Path("-"), {"a": 1})
    assert json.loads(capsys.readouterr().out) == {"a": 1}
