"""What users are told: each message names what they know, and a cure that fits."""

import importlib
import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastnn
from fastnn import Affine, EarlyStopping, ReLU, Sequential
from fastnn.runtime.kernel_cache import source_stamp
from fastnn.validation import check_inputs

ROOT = Path(__file__).parent.parent


def python(script, *arguments, path=ROOT, **environment):
    """Run a script in a fresh interpreter, with these variables; return the finished process."""
    return subprocess.run(
        [sys.executable, "-P", "-c", script, *map(str, arguments)],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(path), *sys.path])} | environment,
        check=False,
    )


def command(*arguments, **environment):
    """Run the command line; return its exit code, and the lines of both streams."""
    done = python("from fastnn.cli import main; main()", *arguments, **environment)
    return done.returncode, done.stdout.splitlines(), done.stderr.splitlines()


# Modules that are loaded on first use


@pytest.mark.parametrize("name", ["Sequential", "losses"])
def test_an_error_in_a_module_is_not_taken_for_a_missing_name(monkeypatch, name):
    def breaks(module):
        raise AttributeError(f"{module} is broken")

    monkeypatch.delitem(vars(fastnn), name, raising=False)
    monkeypatch.setattr(importlib, "import_module", breaks)
    with pytest.raises(ImportError, match=r"^fastnn\.\w+ cannot be loaded: fastnn\.\w+ is broken$"):
        getattr(fastnn, name)


def test_without_compilation_it_is_said_what_to_unset():
    said = "fastnn runs compiled loops only: unset NUMBA_DISABLE_JIT, which is set here"
    done = python("from fastnn import Sequential", NUMBA_DISABLE_JIT="1")
    assert done.stderr.decode().splitlines()[-1] == f"ImportError: {said}"


@pytest.mark.parametrize("name", ["train", "info", "warmup"])
def test_a_command_without_compilation_says_so_in_one_line(name):
    pytest.importorskip("rich")
    code, out, error = command(name, NUMBA_DISABLE_JIT="1")
    assert (code, out) == (1, [])
    assert error == [
        b"fastnn: error: fastnn runs compiled loops only: unset NUMBA_DISABLE_JIT, which is set "
        b"here"
    ]


# Wrong arguments


def public_classes():
    """Return all classes that users make objects of, by their names."""
    modules = [importlib.import_module(f"fastnn.{name}") for name in (*fastnn._MODULES, "layers")]
    found = [value for module in modules for value in vars(module).values()]
    found += [getattr(fastnn, name) for name in fastnn.__all__]
    return {
        one.__name__: one
        for one in found
        if inspect.isclass(one)
        and one.__module__.startswith("fastnn.")
        and not one.__name__.startswith("_")
    }


CLASSES = public_classes()


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_errors_about_arguments_name_a_class_that_users_know(name):
    one = CLASSES[name]
    for method in dir(one):
        if method.startswith("_") and method != "__init__":
            continue
        static = inspect.getattr_static(one, method)
        function = inspect.unwrap(getattr(static, "__func__", static))
        if inspect.isfunction(function) and function.__module__.startswith("fastnn."):
            owner, _, rest = function.__qualname__.partition(".")
            assert owner in CLASSES, function.__qualname__
            assert rest == method


def test_wrong_arguments_of_an_estimator_are_told_as_its_own():
    pytest.importorskip("sklearn")
    from fastnn import MLPClassifier, MLPRegressor

    class Mine(MLPRegressor):
        pass

    for make, said in (
        (lambda: MLPClassifier(lr=1), "MLPClassifier.__init__() got an unexpected keyword"),
        (lambda: MLPClassifier(1, 2, 3), "MLPClassifier.__init__() takes from 1 to 3 positional"),
        (lambda: MLPClassifier().fit(), "MLPClassifier.fit() missing 2 required positional"),
        (lambda: MLPRegressor().fit([[1.0]], [1.0], epochs=3), "MLPRegressor.fit() got an unex"),
        (lambda: MLPRegressor().predict(), "MLPRegressor.predict() missing 1 required"),
        (lambda: MLPRegressor.from_sklearn(), "MLPRegressor.from_sklearn() missing 1 required"),
        (lambda: Mine(lr=1), "MLPRegressor.__init__() got an unexpected keyword"),
        (lambda: ReLU(0.1), "ReLU.__init__() takes 1 positional argument but 2 were given"),
        (lambda: ReLU().forward(), "ReLU.forward() missing 1 required positional argument: 'x'"),
    ):
        with pytest.raises(TypeError) as caught:
            make()
        assert str(caught.value).startswith(said)


# Losses


@pytest.mark.parametrize(
    "n_outputs, loss, y, said",
    [
        (1, "softmax_cross_entropy", [0, 1], "for two classes, 0 and 1, use loss='binary_cross_"),
        (1, "softmax_cross_entropy", [0.5, 3], "for numbers loss='mse'"),
        (1, "softmax_cross_entropy", [[1], [0]], "needs an output for each class, and the net has"),
        (3, "softmax_cross_entropy", [0.5, 3], "got 0.5; for numbers use loss='mse'"),
        (3, "softmax_cross_entropy", [[0], [1]], r"must have the shape (2,): use y.ravel()"),
        (3, "mse", [0, 1], "for classes use loss='softmax_cross_entropy'"),
        (1, "binary_cross_entropy", [0, 2], "more than two classes use loss='softmax_cross_entr"),
    ],
)
def test_a_loss_that_does_not_fit_is_told_with_one_that_does(n_outputs, loss, y, said):
    net = Sequential([Affine(2, n_outputs)], seed=0)
    for call in (net.fit, net.loss):
        with pytest.raises(ValueError, match=re.escape(said)) as caught:
            call(np.eye(2), np.array(y), loss=loss)
        assert "\n" not in str(caught.value)


def test_validation_data_is_asked_for_only_where_there_is_none():
    X, y = np.eye(2), [0, 1]
    net = Sequential([Affine(2, 2)], seed=0)
    with pytest.raises(ValueError, match=r"got 'val_loss'; give validation_data to fit$"):
        net.fit(X, y, callbacks=[EarlyStopping("val_loss")])
    with pytest.raises(ValueError, match=r"'val_loss', 'val_accuracy', got 'val_r2'$"):
        net.fit(X, y, callbacks=[EarlyStopping("val_r2")], validation_data=(X, y))


# The threading layer

TRAINING = """
import numpy as np, fastnn
X, y = np.random.default_rng(0).random((4000, 20)), np.arange(4000) % 3
net = fastnn.Sequential([fastnn.Affine(20, 64), fastnn.ReLU(), fastnn.Affine(64, 3)], seed=0)
net.fit(X, y, epochs=2, n_threads=min(2, fastnn.get_num_threads()))
print(fastnn.matmul(np.ones((400, 400)), np.ones((400, 400))).shape)
print(net.params.tobytes().hex(), fastnn.get_config()["threading_layer"])
"""


def test_a_threading_layer_that_is_missing_costs_threads_and_one_warning():
    if fastnn.get_num_threads() == 1:
        pytest.skip("no layer is needed for one thread")
    usual = python(TRAINING)
    assert usual.returncode == 0, usual.stderr
    done = python(TRAINING, NUMBA_THREADING_LAYER="nonesuch")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[:3] == usual.stdout.split()[:3]
    assert done.stdout.decode().endswith(" nonesuch (cannot be started)\n")
    said = done.stderr.decode()
    assert said.count("Warning") == 1
    assert "fastnn uses one thread: Numba's threading layer 'nonesuch' cannot be started" in said
    assert "unset NUMBA_THREADING_LAYER" in said


def test_the_bench_says_that_it_needs_the_threading_layer():
    pytest.importorskip("threadpoolctl")
    code, out, (line,) = command("bench", "--quick", NUMBA_THREADING_LAYER="nonesuch")
    assert (code, out) == (2, [])
    assert line.startswith(b"fastnn: error: bench runs parallel loops, and Numba's threading layer")


# Characters


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_names_that_a_stream_cannot_write_do_not_end_a_command(encoding, tmp_path):
    pytest.importorskip("pandas")
    pytest.importorskip("rich")
    table = tmp_path / "données日.csv"
    rows = "".join(f"{k % 7},{('rosé', '日本')[k % 2]}\n" for k in range(40))
    table.write_text("長さ,Zielgröße\n" + rows, encoding="utf-8")
    model = tmp_path / "modèle日.safetensors"
    options = ("--epochs", 2, "--hidden", 4, "--out", model)
    code, out, error = command("train", table, *options, PYTHONIOENCODING=encoding)
    assert code == 0, error
    assert any(rb"\u65e5" in line for line in out)
    assert model.exists()
    code, out, error = command("predict", model, table, PYTHONIOENCODING=encoding)
    assert code == 0, error
    assert {rb"\u65e5\u672c", "rosé".encode(encoding, "backslashreplace")} & set(out)
    code, out, error = command("info", model, PYTHONIOENCODING=encoding)
    assert code == 0, error
    code, out, (line,) = command("train", tmp_path / "日.csv", PYTHONIOENCODING=encoding)
    assert code == 2
    assert rb"\u65e5.csv: no such file" in line


# Data frames


def frames():
    """Return data frames whose columns are numbers, though NumPy makes objects of some of them."""
    pandas = pytest.importorskip("pandas")
    plain = pandas.DataFrame({"a": [1.5, 2.0, 3.0], "b": [1, 2, 3], "c": [True, False, True]})
    found = {
        "get_dummies": pandas.get_dummies(pandas.DataFrame({"a": [1.5, 2, 3], "k": list("xyx")})),
        "convert_dtypes": plain.convert_dtypes(),
        "float and bool": plain[["a", "c"]],
        "equal names": plain.set_axis(["a", "a", "a"], axis=1),
    }
    if importlib.util.find_spec("pyarrow"):
        found["pyarrow"] = plain.convert_dtypes(dtype_backend="pyarrow")
    if importlib.util.find_spec("polars"):
        import polars

        found["polars"] = polars.DataFrame({"a": [1.5, 2.0, 3.0], "c": [True, False, True]})
    return found


def test_a_frame_of_numbers_is_taken_whatever_its_dtypes():
    for name, frame in frames().items():
        expected = np.array([list(map(float, row)) for row in np.asarray(frame)])
        array = check_inputs(frame, "float64", expected.shape[1])
        assert np.array_equal(array, expected), name
        net = Sequential([Affine(expected.shape[1], 2)], seed=0)
        assert np.array_equal(net.predict(frame), net.predict(expected)), name
        assert len(net.fit(frame, [0, 1, 0], epochs=1)) == 1


def test_targets_and_weights_of_other_dtypes_are_taken():
    pandas = pytest.importorskip("pandas")
    net = Sequential([Affine(2, 2)], seed=0)
    X = np.eye(2)
    for y in (pandas.Series([0, 1], dtype="Int64"), pandas.Series([False, True], dtype="boolean")):
        weights = pandas.Series([1.0, 2.0], dtype="Float64")
        assert net.loss(X, y) == net.loss(X, [0, 1])
        assert len(net.fit(X, y, sample_weight=weights, epochs=1)) == 1


def test_a_missing_value_is_told_as_one():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1, 2], "b": [True, None]}).convert_dtypes()
    with pytest.raises(ValueError, match=r"^X must be finite, got nan at X\[1, 1\]$"):
        Sequential([Affine(2, 2)], seed=0).fit(frame, [0, 1])


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_column_that_is_not_numeric_is_named(library):
    module = pytest.importorskip(library)
    frame = module.DataFrame({"size": [1.0, 2.0], "city": ["Bonn", "Ulm"], "old": [True, False]})
    with pytest.raises(ValueError, match=r"^X must be numeric, got dtype \w+ in column 'city'; "):
        Sequential([Affine(3, 2)], seed=0).fit(frame, [0, 1])


# Sources in a zip file


def test_the_package_runs_from_a_zip_file(tmp_path):
    sources = tmp_path / "sources"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "fastnn", sources / "fastnn", ignore=ignored)
    packed = shutil.make_archive(str(tmp_path / "packed"), "zip", sources)
    script = """
import fastnn
from fastnn.runtime.kernel_cache import source_stamp
print(fastnn.ReLU().forward([[-1.0, 2.0]]).tolist(), fastnn.__file__, source_stamp())
"""
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "LOCALAPPDATA": str(tmp_path)}
    done = python(script, path=packed, **home)
    assert done.returncode == 0, done.stderr
    # The same digest as of the sources in a folder: another one is another machine code.
    expected = f"[[0.0, 2.0]] {Path(packed, 'fastnn', '__init__.py')} {source_stamp()}"
    assert done.stdout.decode().strip() == expected
