"""What importing the package costs, and what it says where an extra is missing.

Each test runs in a fresh interpreter: what this one has loaded must not count.
"""

import os
import subprocess
import sys

import pytest

import fastnn

# Import name -> the extra that installs it.
EXTRAS = {
    "sklearn": "sklearn",
    "matplotlib": "plot",
    "pandas": "data",
    "pyarrow": "data",
    "typer": "cli",
    "rich": "cli",
}

# Put before a script: the listed packages cannot be imported, as if they were not installed.
BLOCKER = """
import sys
class Blocker:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocker)
"""


def python(script, blocked=(), expect=0):
    """Run a script in a fresh interpreter, warnings as errors; return what it prints."""
    script = BLOCKER.format(blocked=set(blocked)) + script
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert done.returncode == expect, done.stderr
    return done.stdout if expect == 0 else done.stderr


def test_importing_the_package_loads_nothing_but_itself():
    script = "import fastnn; print(sorted(m for m in sys.modules if m.startswith('fastnn')))"
    assert python(script) == "['fastnn']\n"
    heavy = {"numpy", "numba", "safetensors", *EXTRAS}
    assert python(f"import fastnn; print({heavy} & set(sys.modules))") == "set()\n"


def test_the_layer_library_loads_no_extra_compiles_nothing_and_starts_no_thread():
    script = f"""
import os, threading
import numpy, numba
from numba.core import event
def n_threads():
    tasks = "/proc/self/task"  # Linux: also the threads that Python did not start
    return len(os.listdir(tasks)) if os.path.isdir(tasks) else threading.active_count()
before = n_threads()
with event.install_recorder("numba:compile") as recorder:
    import fastnn
    for name in fastnn.__all__:
        if fastnn._HOMES[name] != "estimators":
            getattr(fastnn, name)
from numba.np.ufunc import parallel
assert not recorder.buffer, recorder.buffer[0]
assert not parallel._is_initialized, "a threading layer was chosen"
assert n_threads() == before, "threads were started"
print({set(EXTRAS)} & set(sys.modules))
"""
    assert python(script) == "set()\n"


def test_the_layer_library_works_without_any_extra():
    script = """
import fastnn
for name in fastnn.__all__:
    if fastnn._HOMES[name] != "estimators":
        getattr(fastnn, name)
net = fastnn.Sequential([fastnn.Affine(2, 3), fastnn.ReLU(), fastnn.Affine(3, 1)], seed=0)
print(net.predict([[0.0, 1.0]]).shape)
"""
    assert python(script, blocked=EXTRAS) == "(1, 1)\n"


def test_the_estimators_load_no_extra_that_scikit_learn_does_not_load_itself():
    script = f"""
import sklearn.neural_network
before = {set(EXTRAS)} & set(sys.modules)
import fastnn
fastnn.MLPClassifier()
print(({set(EXTRAS)} & set(sys.modules)) - before)
"""
    assert python(script) == "set()\n"


@pytest.mark.parametrize("name", ["MLPClassifier", "MLPRegressor"])
def test_the_estimators_name_the_command_that_installs_scikit_learn(name):
    said = python(f"import fastnn; fastnn.{name}()", blocked=["sklearn"], expect=1)
    line = "scikit-learn is needed for this: pip install scikit-learn (the extra 'sklearn')"
    assert said.endswith(f"fastnn.errors.MissingExtraError: {line}\n")


def test_the_estimators_say_that_a_scikit_learn_is_too_old():
    script = "sys.modules['sklearn.callback'] = None\nimport fastnn; fastnn.MLPClassifier()"
    said = python(script, expect=1)
    line = "a newer scikit-learn is needed for this, one with sklearn.callback: pip install "
    assert f"fastnn.errors.MissingExtraError: {line}" in said


@pytest.mark.parametrize("package", ["typer", "rich"])
def test_the_command_line_names_the_command_that_installs_it_in_one_line(package):
    said = python("from fastnn.cli import main; main()", blocked=[package], expect=1)
    packages = "typer rich threadpoolctl"
    assert said == f"{package} is needed for this: pip install {packages} (the extra 'cli')\n"


def test_every_public_name_resolves_and_is_listed():
    for name in fastnn.__all__:
        assert getattr(fastnn, name).__name__ == name
        assert name in dir(fastnn)
    assert fastnn.__version__


def test_the_modules_of_the_package_are_attributes_loaded_on_first_use():
    script = """
import fastnn
assert set(fastnn._MODULES) <= set(dir(fastnn))
loaded = [m for m in sys.modules if m.startswith("fastnn.")]
assert not loaded, loaded
for name in fastnn._MODULES:
    assert getattr(fastnn, name) is sys.modules[f"fastnn.{name}"]
"""
    assert python(script, blocked=EXTRAS) == ""
    assert set(fastnn._MODULES) >= {"losses", "schedules", "inspection"}


def test_a_star_import_takes_the_public_names_and_loads_no_other_module():
    script = """
from fastnn import *
assert issubclass(ModelFileError, ValueError) and issubclass(DataError, ValueError)
assert issubclass(MissingExtraError, ImportError)
print("losses" in globals(), "fastnn.inspection" in sys.modules, "fastnn.datasets" in sys.modules)
"""
    assert python(script, blocked=EXTRAS) == "False False False\n"


def test_a_wrong_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'fastnn' has no attribute 'Transformer'"):
        fastnn.Transformer  # noqa: B018
