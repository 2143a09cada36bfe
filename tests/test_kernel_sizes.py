"""Kernels stay readable: few parameters, short functions, and hardly any line out of format."""

import ast
from pathlib import Path

import pytest

KERNELS = Path(__file__).parent.parent / "fastnn" / "kernels"
FILES = sorted(path for path in KERNELS.rglob("*.py"))

MOST_PARAMETERS = 10
MOST_LINES = 60
MOST_UNFORMATTED = 4  # statements in all of kernels/: tables of names, calls of addresses


def functions(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def n_parameters(function):
    arguments = function.args
    return len(arguments.posonlyargs + arguments.args + arguments.kwonlyargs)


def code_lines(function):
    """Lines from the first statement to the end, without the docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(KERNELS)))
def test_functions_have_few_parameters_and_lines(path):
    for function in functions(path):
        assert n_parameters(function) <= MOST_PARAMETERS, function.name
        inner = sum(code_lines(node) for node in functions_within(function))
        assert code_lines(function) - inner <= MOST_LINES, function.name


def functions_within(function):
    return [node for node in function.body if isinstance(node, ast.FunctionDef)]


def test_hardly_a_line_is_out_of_format():
    text = "".join(path.read_text(encoding="utf-8") for path in FILES)
    assert text.count("# fmt: skip") <= MOST_UNFORMATTED


def test_the_measures_count():
    source = 'def f(a, b, *, c):\n    """Doc."""\n    x = 1\n    return x\n'
    function = ast.parse(source).body[0]
    assert n_parameters(function) == 3
    assert code_lines(function) == 2
