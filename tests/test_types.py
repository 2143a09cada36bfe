"""The type hints of the package: mypy on the programs of `tests/type_checks`.

``python -m mypy`` and ``python -m pyright`` check these programs and the package itself, with the
settings of `pyproject.toml`.
"""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fastnn.layers

pytest.importorskip("mypy", reason="the types are checked where mypy is installed")

ROOT = Path(__file__).parent.parent
PROGRAMS = ROOT / "tests" / "type_checks"
MARK = re.compile(r"  # type: ignore\[([\w, -]+)\]")
EVERY_MARK = re.compile(r"  # (type|pyright): ignore.*")


@pytest.fixture(scope="module")
def mypy(tmp_path_factory):
    """Return a function that runs mypy and gives (line, code, message) of each error or note."""
    cache = tmp_path_factory.mktemp("mypy")

    def run(*files, kind="error"):
        options = ["--config-file", ROOT / "pyproject.toml", "--cache-dir", cache]
        done = subprocess.run(
            [sys.executable, "-m", "mypy", "--no-error-summary", *options, *files],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={name: value for name, value in os.environ.items() if name != "MYPYPATH"},
            check=False,
        )
        assert done.returncode in (0, 1) and not done.stderr, done.stderr
        lines = [line for line in done.stdout.splitlines() if f": {kind}: " in line]
        found = [re.fullmatch(rf".*?:(\d+): {kind}: (.*?)(?:  \[([\w-]+)\])?", x) for x in lines]
        return [(int(m[1]), m[3], m[2]) for m in found]

    return run


def test_right_programs_have_no_errors(mypy):
    assert mypy(PROGRAMS / "right_uses.py", PROGRAMS / "nets.py") == []


def test_each_marked_mistake_is_an_error_of_the_kind_that_its_mark_names(mypy, tmp_path):
    lines = (PROGRAMS / "wrong_uses.py").read_text(encoding="utf-8").splitlines()
    expected = {
        (number, code.strip())
        for number, line in enumerate(lines, 1)
        for match in MARK.finditer(line)
        for code in match[1].split(",")
    }
    assert len(expected) >= 15
    program = tmp_path / "program.py"
    program.write_text("\n".join(EVERY_MARK.sub("", line) for line in lines), encoding="utf-8")
    assert {(number, code) for number, code, _ in mypy(program)} == expected


def test_every_public_name_is_known_and_an_unknown_one_is_not(mypy, tmp_path):
    program = tmp_path / "program.py"
    names = [*fastnn._HOMES, *fastnn._MODULES]
    uses = "".join(f"reveal_type(fastnn.{name})\n" for name in names)
    program.write_text(f"import fastnn\n{uses}print(fastnn.no_such_name)\n", encoding="utf-8")
    ((line, code, message),) = mypy(program)
    assert (line, code) == (len(names) + 2, "attr-defined") and "no_such_name" in message
    types = [message for _, _, message in mypy(program, kind="note")]
    assert len(types) == len(names)
    assert not [text for text in types if text.endswith('"Any"')]


def test_every_layer_is_known_by_the_name_that_the_package_of_layers_exports(mypy, tmp_path):
    # Activations are exported by a `*`, so that a new one needs no line there.
    names = fastnn.layers.__all__
    assert {"LAYERS", "Affine", "ReLU", "from_config"} <= set(names)
    program = tmp_path / "program.py"
    uses = "".join(f"reveal_type({name})\nreveal_type(fastnn.layers.{name})\n" for name in names)
    program.write_text(
        f"import fastnn.layers\nfrom fastnn.layers import *\n{uses}", encoding="utf-8"
    )
    assert mypy(program, "--strict") == []
    types = [message for _, _, message in mypy(program, kind="note")]
    assert len(types) == 2 * len(names)
    assert not [text for text in types if text.endswith('"Any"')]


def test_every_function_of_the_checked_files_has_types():
    # mypy requires them too, but only in CI. Folders that pyproject.toml leaves out do not count.
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    unchecked = set(re.findall(r'^    "fastnn\.([\w.*]+)",$', settings, re.MULTILINE))
    bare = set()
    for path in (ROOT / "fastnn").rglob("*.py"):
        parts = path.relative_to(ROOT / "fastnn").with_suffix("").parts
        folder = f"{parts[0]}.*" if len(parts) > 1 else parts[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.FunctionDef)
                and node.returns is None
                and folder not in unchecked
            ):
                bare.add(f"{'.'.join(parts)}.{node.name}")
    assert not bare
    assert (ROOT / "fastnn" / "py.typed").is_file()
