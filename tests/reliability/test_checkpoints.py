"""Checkpoints: whatever kills a training, its file loads, and going on gives the same bits."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scenarios import without_waits

from fastnn import (
    SGD,
    AdaGrad,
    Adam,
    AdamW,
    Affine,
    Callback,
    Checkpoint,
    Dropout,
    EarlyStopping,
    NAdam,
    Regularization,
    ReLU,
    RMSProp,
    Sequential,
)
from fastnn.checkpoint import ENTRY
from fastnn.errors import ModelFileError
from fastnn.files.atomic_write import remove_leftovers, write_atomically
from fastnn.files.storage import read
from fastnn.losses import SoftmaxCrossEntropy
from fastnn.schedules import Cosine

SCRIPT = Path(__file__).with_name("training_script.py")


@pytest.fixture(name="data")
def fixture_data(rng):
    return rng.normal(size=(50, 5)), rng.integers(0, 3, 50)


@pytest.fixture(name="path")
def fixture_path(tmp_path):
    return tmp_path / "net.safetensors"


def make_net(seed=0, dtype="float32"):
    return Sequential([Affine(5, 9), ReLU(), Dropout(0.3), Affine(9, 3)], seed=seed, dtype=dtype)


def half(epoch, epochs):
    return 0.5


class StopError(Exception):
    """What ends a training in a test."""


class StopAfter(Callback):
    """Raise an error behind some epochs, and behind their checkpoint."""

    runs_last = True

    def __init__(self, epochs):
        self.epochs = epochs

    def on_epoch_end(self, epoch, logs):
        if epoch + 1 == self.epochs:
            raise StopError


OPTIMIZERS = [
    SGD(0.1),
    SGD(0.1, 0.9),
    SGD(0.1, 0.9, nesterov=True),
    RMSProp(),
    Adam(),
    AdamW(),
    AdaGrad(),
    NAdam(),
    Adam(clip_norm=0.1),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_going_on_gives_the_same_bits_as_never_having_stopped(optimizer, dtype, data, path):
    if dtype == "float64" and not isinstance(optimizer, Adam):
        return  # the state goes through the same file
    options = {"optimizer": optimizer, "epochs": 7, "batch_size": 16, "schedule": "cosine"}
    whole = make_net(dtype=dtype)
    expected = whole.fit(*data, **options)

    with pytest.raises(StopError):
        make_net(dtype=dtype).fit(*data, **options, callbacks=[Checkpoint(path), StopAfter(3)])
    resumed = make_net(seed=9, dtype=dtype)  # what it begins with does not matter
    checkpoint = Checkpoint(path, resume=True)
    with pytest.warns(UserWarning, match="with the seed 9, which has no effect: .* those of 0$"):
        history = resumed.fit(*data, **options, callbacks=[checkpoint])
    assert checkpoint.resumed_at == 3
    assert history["loss"] == expected["loss"]
    np.testing.assert_array_equal(resumed.params, whole.params)
    # What comes after is the same too: the order of the samples, and what dropout drops.
    for net in (whole, resumed):
        net.fit(*data, epochs=1, batch_size=16)
    np.testing.assert_array_equal(resumed.params, whole.params)


@pytest.mark.parametrize("generator", ["PCG64", "MT19937", "Philox", "SFC64"])
def test_the_order_of_the_samples_goes_on_with_any_generator(generator, data, path):
    def net():
        bits = getattr(np.random, generator)(3)
        return Sequential([Affine(5, 3)], seed=np.random.Generator(bits))

    whole = net()
    whole.fit(*data, epochs=4)
    with pytest.raises(StopError):
        net().fit(*data, epochs=4, callbacks=[Checkpoint(path), StopAfter(2)])
    resumed = net()
    resumed.fit(*data, epochs=4, callbacks=[Checkpoint(path, resume=True)])
    np.testing.assert_array_equal(resumed.params, whole.params)


def test_early_stopping_goes_on_counting_and_gives_back_the_same_best_epoch(data, path):
    def callbacks(*more):
        return [*more, EarlyStopping(patience=3)]  # listed behind the checkpoint

    options = {"epochs": 40, "optimizer": SGD(3.0), "validation_data": data}
    whole = make_net()
    expected = whole.fit(*data, **options, callbacks=callbacks())
    n_epochs = len(expected)
    assert 4 < n_epochs < 40
    for end in range(n_epochs - 3, n_epochs):
        path.unlink(missing_ok=True)
        with pytest.raises(StopError):
            make_net().fit(*data, **options, callbacks=callbacks(Checkpoint(path), StopAfter(end)))
        resumed = make_net()
        resuming = Checkpoint(path, resume=True)
        history = resumed.fit(*data, **options, callbacks=callbacks(resuming))
        assert history["val_loss"] == expected["val_loss"]
        np.testing.assert_array_equal(resumed.params, whole.params)
    # And again, now that nothing is left to do.
    again = make_net()
    again.params[:] = 0.5
    history = again.fit(*data, **options, callbacks=callbacks(Checkpoint(path, resume=True)))
    assert history["val_loss"] == expected["val_loss"]
    np.testing.assert_array_equal(again.params, whole.params)


DIFFERENCES = {
    "learning_rate 0.02, not 0.01": {"optimizer": SGD(0.02, 0.9)},
    "momentum 0.5, not 0.9": {"optimizer": SGD(0.01, 0.5)},
    "schedule Linear(), not Cosine(warmup=0, end=0.0)": {"schedule": "linear"},
    "schedule Cosine(warmup=2, end=0.0), not Cosine(": {"schedule": Cosine(warmup=2)},
    "schedule half, not Cosine(": {"schedule": half},
    "alpha 0.5, not 0.0": {"alpha": 0.5},
    "regularization Regularization(l1=0.5), not Reg": {"regularization": Regularization(l1=0.5)},
    "loss SoftmaxCrossEntropy(label_smoothing=0.5), not": {"loss": SoftmaxCrossEntropy(0.5)},
}


@pytest.mark.parametrize("said", DIFFERENCES)
def test_what_differs_from_the_training_that_is_resumed_is_told(said, data, path):
    options = {"optimizer": SGD(0.01, 0.9), "schedule": "cosine", "epochs": 4}
    with pytest.raises(StopError):
        make_net().fit(*data, **options, callbacks=[Checkpoint(path), StopAfter(2)])
    net = make_net()
    resuming = [Checkpoint(path, resume=True)]
    with pytest.warns(UserWarning, match="the training is resumed with ") as caught:
        net.fit(*data, **options | DIFFERENCES[said], callbacks=resuming)
    assert len(caught) == 1
    assert f"resumed with {said}" in str(caught[0].message)
    assert caught[0].filename == __file__
    net.fit(*data, **options | DIFFERENCES[said], callbacks=resuming)  # they hold from there on


def test_a_function_as_schedule_is_known_by_its_name(data, path):
    for epochs in (2, 3):
        make_net().fit(
            *data, schedule=half, epochs=epochs, callbacks=[Checkpoint(path, resume=True)]
        )


def test_a_checkpoint_of_a_version_that_did_not_keep_how_it_began_is_resumed(data, path):
    make_net().fit(*data, epochs=2, callbacks=[Checkpoint(path)])
    net, metadata, tensors = read(path)
    entry = json.loads(metadata[ENTRY])
    del entry["how"]
    net.save(path, metadata={ENTRY: json.dumps(entry)}, tensors=tensors)
    checkpoint = Checkpoint(path, resume=True)
    make_net(seed=3).fit(*data, epochs=3, callbacks=[checkpoint])
    assert checkpoint.resumed_at == 2


def test_a_checkpoint_is_a_model_file_of_the_net_as_it_was(data, path):
    nets = []

    class Remember(Callback):
        def on_fit_begin(self, net, info):
            self.net = net

        def on_epoch_end(self, epoch, logs):
            nets.append(self.net.params.copy())

    make_net().fit(*data, epochs=5, callbacks=[Checkpoint(path, every=2), Remember()])
    np.testing.assert_array_equal(Sequential.load(path).params, nets[4])  # the last is saved
    with pytest.raises(StopError):
        make_net().fit(
            *data, epochs=5, callbacks=[Checkpoint(path, every=2), Remember(), StopAfter(3)]
        )
    np.testing.assert_array_equal(Sequential.load(path).params, nets[5 + 1])
    # For a machine with other kernels there is nothing special in it.
    assert {name.partition(".")[0] for name in read(path)[2]} == {"optimizer"}


def test_more_epochs_than_before_may_be_asked_for(data, path):
    whole = make_net()
    whole.fit(*data, epochs=9)
    for epochs in (4, 4, 9):
        net = make_net()
        history = net.fit(*data, epochs=epochs, callbacks=[Checkpoint(path, resume=True)])
        assert len(history) == epochs
    np.testing.assert_array_equal(net.params, whole.params)


def test_without_a_file_it_begins_at_the_beginning_and_without_resume_too(data, path):
    checkpoint = Checkpoint(path, resume=True)
    make_net().fit(*data, epochs=2, callbacks=[checkpoint])
    assert checkpoint.resumed_at == 0
    assert len(make_net().fit(*data, epochs=2, callbacks=[Checkpoint(path)])) == 2
    net, expected = make_net(), make_net()
    net.fit(*data, epochs=3, callbacks=[Checkpoint(path)])
    expected.fit(*data, epochs=3)
    np.testing.assert_array_equal(net.params, expected.params)


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"batch_size": 7}, "its batch_size is 16, not 7"),
        ({"optimizer": "sgd"}, "its optimizer is 'Adam', not 'SGD'"),
        ({"shuffle": False}, "its shuffle is True, not False"),
        ({"loss": "mse"}, "its loss is 'softmax_cross_entropy', not 'mse'"),
        ({"rows": 40}, "its n_samples is 50, not 40"),
        ({"dtype": "float64"}, "its dtype is 'float32', not 'float64'"),
        ({"layers": [Affine(5, 3)]}, "its layers is"),
        ({"callbacks": [EarlyStopping("loss")]}, "its callbacks is"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused_and_changes_nothing(
    changed, message, data, path
):
    make_net().fit(*data, epochs=2, batch_size=16, callbacks=[Checkpoint(path)])
    before = path.read_bytes()
    changed = dict(changed)
    n_rows = changed.pop("rows", 50)
    X, y = (array[:n_rows] for array in data)
    if changed.get("loss") == "mse":
        y = np.eye(3)[y]
    net = make_net(4, changed.pop("dtype", "float32"))
    if "layers" in changed:
        net = Sequential(changed.pop("layers"), seed=0)
    callbacks = [Checkpoint(path, resume=True), *changed.pop("callbacks", [])]
    params = net.params.copy()
    with pytest.raises(ValueError, match=message) as error:
        net.fit(X, y, **{"epochs": 3, "batch_size": 16, **changed}, callbacks=callbacks)
    assert str(error.value).startswith(f"path {str(path)!r} is a checkpoint of another training")
    np.testing.assert_array_equal(net.params, params)
    assert path.read_bytes() == before


def test_a_file_that_holds_no_checkpoint_is_refused(data, path):
    make_net().save(path)
    with pytest.raises(ModelFileError, match="holds a net, but no checkpoint"):
        make_net().fit(*data, epochs=1, callbacks=[Checkpoint(path, resume=True)])
    path.write_bytes(b"something else")
    with pytest.raises(ModelFileError, match="is not a complete safetensors file"):
        make_net().fit(*data, epochs=1, callbacks=[Checkpoint(path, resume=True)])


@pytest.mark.parametrize("entry", ['{"settings": 3}', "[]", "{", "{}", "[" * 100_000])
def test_a_damaged_checkpoint_is_refused(entry, data, path):
    make_net().fit(*data, epochs=1, callbacks=[Checkpoint(path)])
    net, _, tensors = read(path)
    net.save(path, metadata={"checkpoint": entry}, tensors=tensors)
    net = make_net()
    before = net.params.copy()
    with pytest.raises(ModelFileError, match=r"damaged checkpoint|damaged model|safetensors"):
        net.fit(*data, epochs=1, callbacks=[Checkpoint(path, resume=True)])
    np.testing.assert_array_equal(net.params, before)


def test_checkpoints_with_a_missing_tensor_are_refused_before_anything_changes(data, path):
    make_net().fit(*data, epochs=1, callbacks=[Checkpoint(path)])
    net, metadata, tensors = read(path)
    del tensors["optimizer.1.1.0"]
    net.save(path, metadata=metadata, tensors=tensors)
    net = make_net(seed=2)
    before = net.params.copy()
    with pytest.raises(ModelFileError, match=r"no 'optimizer\.1\.1\.0'"):
        net.fit(*data, epochs=2, callbacks=[Checkpoint(path, resume=True)])
    np.testing.assert_array_equal(net.params, before)


def test_an_epoch_that_broke_down_is_not_saved(data, path):
    with pytest.warns(RuntimeWarning, match="the loss became"):
        make_net().fit(
            *data,
            epochs=5,
            batch_size=16,
            schedule=lambda epoch, epochs: 1.0 if epoch < 2 else 1e38,
            callbacks=[Checkpoint(path)],
        )
    net, metadata, _ = read(path)
    assert np.isfinite(net.params).all()
    assert '"next_epoch": 2' in metadata["checkpoint"]


# --- the disk -------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["missing/net.safetensors", "", "file/net.safetensors"])
def test_a_folder_that_cannot_be_written_to_is_refused_before_the_first_epoch(
    place, data, tmp_path
):
    (tmp_path / "file").write_text("")
    net = make_net()
    before = net.params.copy()
    with pytest.raises(OSError, match="path "):
        net.fit(*data, epochs=2, callbacks=[Checkpoint(tmp_path / place)])
    np.testing.assert_array_equal(net.params, before)


def in_child(function, *arguments):
    """Run a function in a forked child, which may restrict itself; return what it says."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            said = function(*arguments)
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(write_end, str(said).encode())
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


def test_a_read_only_folder_gives_an_error_that_names_the_file(path):
    make_net().save(path)
    before = path.read_bytes()

    def save():
        if os.getuid() == 0:
            os.chown(path.parent, 0, 0)
            for parent in path.parents:  # to be found, but not written to, by others than root
                if parent.stat().st_uid == 0 and not parent.stat().st_mode & 0o001:
                    os.chmod(parent, parent.stat().st_mode | 0o055)
            os.setuid(65534)
        else:
            os.chmod(path.parent, 0o555)
        try:
            make_net(seed=1).save(path)
        finally:
            if os.getuid() != 65534:
                os.chmod(path.parent, 0o755)

    assert in_child(save) == f"PermissionError: [Errno 13] Permission denied: {str(path)!r}"
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_full_disk_gives_an_error_and_leaves_the_old_file(path):
    """A limit on the size of files stands for the disk: the write fails in the middle."""
    make_net().save(path)
    before = path.read_bytes()

    def save():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))
        make_net(seed=1).save(path)

    assert in_child(save) == f"OSError: [Errno 27] File too large: {str(path)!r}"
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_full_file_system_in_the_middle_of_a_training(data, tmp_path):
    """A real one of 64 KiB, where this process may mount it; else it is skipped and says so."""
    script = f"""
import numpy as np
from fastnn import Affine, Checkpoint, Sequential
rng = np.random.default_rng(0)
small, large = (Sequential([Affine(5, n), Affine(n, 3)], seed=0) for n in (4, 4000))
X, y = rng.normal(size=(20, 5)), rng.integers(0, 3, 20)
path = "{tmp_path}/small/net.safetensors"
small.fit(X, y, epochs=2, callbacks=[Checkpoint(path)])
before = open(path, "rb").read()
params = large.params.copy()
try:
    large.fit(X, y, epochs=2, callbacks=[Checkpoint(path)])
except OSError as error:
    print(error)
assert open(path, "rb").read() == before
assert len(large.history) == 1 and (large.params != params).any()
import os
assert os.listdir("{tmp_path}/small") == ["net.safetensors"]
"""
    (tmp_path / "small").mkdir()
    mount = f"mount -t tmpfs -o size=64k tmpfs {tmp_path}/small"
    (tmp_path / "script.py").write_text(script)
    command = f"{mount} && echo mounted && exec {sys.executable} {tmp_path}/script.py"
    arguments = ["unshare", "--mount", *([] if os.getuid() == 0 else ["--map-root-user"])]
    done = subprocess.run(
        [*arguments, "sh", "-c", command], capture_output=True, text=True, timeout=300
    )
    if "mounted" not in done.stdout:
        pytest.skip(f"no file system may be mounted here: {done.stderr.strip()}")
    said = f"[Errno 28] No space left on device: '{tmp_path}/small/net.safetensors'\n"
    assert (without_waits(done.stderr), done.stdout) == ("", f"mounted\n{said}")


def test_what_killed_processes_left_is_removed_but_nothing_else(tmp_path):
    path = tmp_path / "net.safetensors"
    others = [".net.safetensors.bak", ".net.safetensors.part", "net.safetensors.x.part"]
    for name in others:
        (tmp_path / name).write_text("precious")

    def die_while_writing():
        import fastnn.files.atomic_write

        fastnn.files.atomic_write.os.replace = lambda *paths: os.kill(os.getpid(), signal.SIGKILL)
        write_atomically(path, b"x" * 1000)

    in_child(die_while_writing)
    (left,) = {file.name for file in tmp_path.iterdir()} - set(others)
    assert left.startswith(".net.safetensors.")
    assert left.endswith(".part")
    remove_leftovers(path)
    assert {file.name for file in tmp_path.iterdir()} == set(others)


def test_a_file_that_is_being_written_is_no_leftover(tmp_path, monkeypatch):
    path = tmp_path / "net.safetensors"
    replace = os.replace

    def clean_up_first(source, target):
        child = in_child(lambda: remove_leftovers(path))
        assert child == "None"
        remove_leftovers(path)
        replace(source, target)

    monkeypatch.setattr("fastnn.files.atomic_write.os.replace", clean_up_first)
    write_atomically(path, b"content")
    assert path.read_bytes() == b"content"


# --- kills ----------------------------------------------------------------------------------------


def run_to_the_end(folder, epochs, *options):
    done = subprocess.run(
        [sys.executable, SCRIPT, folder, str(epochs), *options],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1])


def kill_at_random(folder, epochs, kills, *options, seed=0):
    """Kill trainings after random times within their epochs; return where each went on."""
    chance = random.Random(seed)
    reached = [0]
    for _ in range(kills):
        (folder / "done.npz").unlink(missing_ok=True)
        with subprocess.Popen(
            [sys.executable, SCRIPT, folder, str(epochs), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process:
            for _ in range(chance.randint(1, 4)):  # epochs; then a moment within one
                process.stdout.readline()
            try:
                process.wait(chance.uniform(0, 0.02))
            except subprocess.TimeoutExpired:
                process.kill()
        path = folder / "net.safetensors"
        if path.exists():  # always a whole one
            _, metadata, _ = read(path)
            reached.append(int(metadata["checkpoint"].split('"next_epoch": ')[1].split(",")[0]))
            assert reached[-1] >= reached[-2], "epochs were lost"
    return reached


def check_kills(tmp_path, kills, epochs):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    run_to_the_end(whole, epochs)
    reached = kill_at_random(killed, epochs, kills, "--slow")
    assert 0 < reached[-1] < epochs, "the kills came too early or too late to prove anything"
    assert run_to_the_end(killed, epochs) == reached[-1]
    results = [np.load(folder / "done.npz") for folder in (whole, killed)]
    np.testing.assert_array_equal(results[1]["params"], results[0]["params"])
    np.testing.assert_array_equal(results[1]["history"], results[0]["history"])
    assert len(list(killed.iterdir())) == 2, "something was left behind"
    return reached


def test_a_training_killed_some_times_ends_with_the_same_bits(tmp_path):
    check_kills(tmp_path, kills=3, epochs=60)


@pytest.mark.slow
def test_a_training_killed_a_hundred_times_ends_with_the_same_bits(tmp_path):
    reached = check_kills(tmp_path, kills=100, epochs=1500)
    print(f"100 kills; the training went on from epochs {reached}")


@pytest.mark.slow
def test_kills_in_the_middle_of_writing_a_large_file_lose_nothing(tmp_path):
    reached = kill_at_random(tmp_path, 1500, 50, "--huge", seed=1)
    print(f"50 kills; the training went on from epochs {reached}")
