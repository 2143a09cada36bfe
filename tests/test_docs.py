"""The table of the theory: what it names exists, and nothing public is missing from it."""

import ast
import importlib
import re
from pathlib import Path

import pytest

import fastnn
from fastnn import layers, losses, optimizers, schedules

ROOT = Path(__file__).parent.parent
THEORY = ROOT / "docs" / "theory.md"

ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in THEORY.read_text(encoding="utf-8").splitlines()
    if line.startswith("|") and "`" in line
]


def find(name):
    """Return what a dotted name of the table means."""
    head, *rest = name.split(".")
    if head in fastnn.__all__:
        value = getattr(fastnn, head)
    else:
        value = importlib.import_module(f"fastnn.{head}")
    for part in rest:
        fields = getattr(value, "__dataclass_fields__", {})
        value = fields[part] if part in fields else getattr(value, part)
    return value


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_what_a_row_of_the_table_names_exists(row):
    idea, names, test = row
    assert idea
    for name in re.findall(r"`([^`]+)`", names):
        assert find(name) is not None
    path, _, function = re.fullmatch(r"`([^`]+)`", test).group(1).partition("::")
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_layer_loss_optimizer_and_schedule_is_in_the_table():
    text = THEORY.read_text(encoding="utf-8")
    activations = layers.activations.__all__
    public = [name for name in layers.LAYERS if name not in activations]
    public += ["layers.activations", "optimizers", "Activation", "Perceptron", "Regularization"]
    public += [f"losses.{value.__name__}" for value in losses._BY_NAME.values()]
    public += [f"schedules.{value.__name__}" for value in schedules.BY_NAME.values()]
    assert [name for name in public if f"`{name}`" not in text] == []


def test_activations_and_optimizers_say_their_formula_in_their_docstring():
    # The table names them as a whole, so that a new one needs no row.
    kinds = [getattr(layers.activations, name) for name in layers.activations.__all__]
    for kind in [*kinds, *optimizers.BY_NAME.values()]:
        assert "``" in kind.__doc__ or kind is layers.Tanh, f"{kind.__name__} has no formula"


def test_the_page_on_reliability_names_every_file_of_its_tests():
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    files = {path.name for path in (ROOT / "tests" / "reliability").glob("test_*.py")}
    assert set(re.findall(r"`(test_\w+\.py)`", page)) == files
