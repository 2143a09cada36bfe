"""The notebooks of ``examples/`` run as they stand, and progress is seen in them."""

import builtins
import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from fastnn import Affine, ProgressBar, Sequential
from fastnn.callbacks import for_verbosity

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
NUMBERS = r"epoch 3/3  loss \d+\.\d{4}  val accuracy \d\.\d{4}  [\d,]+ samples/s"


# A notebook without a kernel


class Display:
    """What IPython displays: one entry for each cell's output, replaced when it is updated."""

    def __init__(self):
        self.shown, self.updates = [], 0

    def display(self, data, raw, display_id):
        assert raw and display_id
        self.shown.append(data)
        return self

    def update(self, data, raw):
        assert raw
        self.shown[-1] = data
        self.updates += 1


@pytest.fixture
def notebook(monkeypatch):
    """Let this process look like a kernel, without rich or ipywidgets."""
    shell, display = types.SimpleNamespace(kernel=object()), Display()
    ipython = types.SimpleNamespace(get_ipython=lambda: shell)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(
        sys.modules, "IPython.display", types.SimpleNamespace(display=display.display)
    )
    whole = builtins.__import__

    def lacks(name, *arguments, **options):
        if name.partition(".")[0] in {"rich", "ipywidgets"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name.partition(".")[0])
        return whole(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", lacks)
    return display


def fit(**options):
    X, y = np.eye(4), [0, 1, 0, 1]
    net = Sequential([Affine(4, 2)], seed=0)
    return net.fit(X, y, epochs=3, validation_data=(X, y), **options)


def test_a_notebook_shows_one_bar_that_ends_with_all_numbers(notebook, capsys):
    history = fit(verbose=1)
    (shown,) = notebook.shown
    assert notebook.updates > 0
    words = shown["text/plain"]
    for figure in ("loss", "val_accuracy"):
        assert f"{history[figure][-1]:.4f}" in words
    assert words.startswith("epoch 3/3  loss ")
    assert words in shown["text/html"] and '<progress value="12" max="12"' in shown["text/html"]
    said = capsys.readouterr()
    assert said.out == said.err == ""
    fit(callbacks=[ProgressBar()])
    assert len(notebook.shown) == 2


def test_a_bar_under_way_says_how_long_it_takes(notebook):
    (bar,) = for_verbosity(1)
    bar.on_fit_begin(None, {"epochs": 2, "n_samples": 50})
    assert "epoch 0/2" in notebook.shown[0]["text/plain"]
    bar._drawn = -1.0
    bar.on_progress(0, 25, 0.5)
    assert notebook.shown[0]["text/plain"].endswith(" left")
    assert 'value="25" max="100"' in notebook.shown[0]["text/html"]
    bar.on_fit_end([])
    assert len(notebook.shown) == 1


def test_ipython_in_a_terminal_is_no_notebook(monkeypatch, capsys):
    pytest.importorskip("rich")
    shell = types.SimpleNamespace()
    ipython = types.SimpleNamespace(get_ipython=lambda: shell)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    fit(verbose=1)
    assert "epoch 3/3" in capsys.readouterr().err


# Kernels


def executed(cells, tmp_path):
    """Run the cells of a notebook in a kernel, in a folder; return the notebook."""
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    nbformat = pytest.importorskip("nbformat")
    first = (
        f"import sys, warnings; sys.path.insert(0, {str(ROOT)!r}); warnings.simplefilter('error')"
    )
    new_cell = nbformat.v4.new_code_cell
    notebook = nbformat.v4.new_notebook(cells=[new_cell(first), *cells])
    nbclient.NotebookClient(
        notebook,
        timeout=600,  # only against hanging
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute()
    return notebook


@pytest.fixture(autouse=True)
def quiet_kernels(monkeypatch):
    """Keep the settings of this test run from kernels, and their warnings from the tests."""
    monkeypatch.delenv("MPLBACKEND", raising=False)
    monkeypatch.delenv("PYTHONWARNINGS", raising=False)


# The tools of Jupyter warn of each other and of files that they leave open.
jupyter = pytest.mark.filterwarnings("ignore")


@jupyter
@pytest.mark.parametrize("widgets", [True, False], ids=["widgets", "no widgets"])
def test_an_executed_and_exported_notebook_shows_the_numbers(tmp_path, widgets):
    nbformat = pytest.importorskip("nbformat")
    nbconvert = pytest.importorskip("nbconvert")
    if widgets:
        pytest.importorskip("ipywidgets")
    without = "" if widgets else "sys.modules['ipywidgets'] = None\n"
    code = f"""{without}
import numpy as np
from fastnn import Affine, Sequential
X, y = np.eye(4), [0, 1, 0, 1]
net = Sequential([Affine(4, 2)], seed=0)
net.fit(X, y, epochs=3, validation_data=(X, y), verbose=1);
"""
    notebook = executed([nbformat.v4.new_code_cell(code)], tmp_path)
    (output,) = (output for output in notebook.cells[1].outputs if output.get("name") != "stderr")
    assert output.output_type == "display_data"
    page, _ = nbconvert.HTMLExporter().from_notebook_node(notebook)
    text, _ = nbconvert.MarkdownExporter().from_notebook_node(notebook)
    for said in (output.data["text/plain"], output.data["text/html"], page, text):
        assert len(re.findall(NUMBERS, said)) == 1


def kinds_of_outputs(cell):
    """Return the kinds of data in each output, but for the line that tells of compiling."""
    outputs = [output for output in cell.get("outputs", []) if output.get("name") != "stderr"]
    return [sorted(output.get("data", {})) for output in outputs]


@jupyter
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_anew(path, tmp_path):
    nbformat = pytest.importorskip("nbformat")
    stored = nbformat.read(path, as_version=4)
    notebook = executed(stored.cells, tmp_path)
    for cell, before in zip(notebook.cells[1:], nbformat.read(path, 4).cells, strict=True):
        assert kinds_of_outputs(cell) == kinds_of_outputs(before)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_stored_notebook_has_its_outputs_and_nothing_of_the_machine(path):
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert any("image/png" in output.get("data", {}) for cell in code for output in cell.outputs)
    assert notebook.cells[0].source.startswith("# ")
    text = path.read_text(encoding="utf-8")
    assert "/home/" not in text and "/tmp/" not in text and "Traceback" not in text
    assert path.stat().st_size < 300_000


def test_the_notebooks_are_listed():
    assert len(NOTEBOOKS) >= 2
    index = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    for path in NOTEBOOKS:
        assert f"[{path.name}]({path.name})" in index
