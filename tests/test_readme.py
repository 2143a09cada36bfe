"""Every code block of the README runs, in order, in one empty folder.

The two commands that set up an environment are run by ``.ci/run``; here their shape is checked.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")

SET_UP = re.compile(
    r"python3 -m venv --without-pip \.venv && "
    r'python3 -m pip --python \.venv install -e "\.\[(?P<extra>\w+)\]" && '
    r"\.venv/bin/(?P<run>.*)"
)


def blocks():
    """Return the fenced code blocks of the README as (line number, language, text)."""
    found, start, fence = [], None, ""
    lines = README.splitlines()
    for number, line in enumerate(lines, start=1):
        match = re.match(r"\s*(```+|~~~+)(.*)", line)
        if start is None and match:
            start, fence, language = number, match[1], match[2].strip()
        elif start is not None and match and match[1].startswith(fence) and not match[2].strip():
            found.append((start, language, "\n".join(lines[start : number - 1])))
            start = None
    assert start is None, f"README.md:{start}: this code block is never closed"
    return found


BLOCKS = blocks()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return the one folder in which all blocks run: later ones use what earlier ones wrote."""
    return tmp_path_factory.mktemp("readme")


def run_python(text, line):
    # Padding puts the README's own line numbers into a traceback.
    code = compile("\n" * line + text, str(ROOT / "README.md"), "exec")
    exec(code, {"__name__": "__main__"})


def run_shell(text):
    for command in text.replace("\\\n", " ").splitlines():
        if SET_UP.fullmatch(command):
            continue  # its shape is checked below
        words = shlex.split(command, comments=True)
        if not words:
            continue
        assert words[0] == "fastnn", f"no test knows how to run: {command}"
        program = shutil.which("fastnn", path=Path(sys.executable).parent)
        assert program, "the fastnn command is not installed beside this Python"
        done = subprocess.run(
            [program, *words[1:]],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            env=os.environ | {"PYTHONWARNINGS": "error"},
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


@pytest.mark.xdist_group("readme")  # one worker for all, since they share a folder
@pytest.mark.parametrize(("line", "language", "text"), BLOCKS, ids=lambda value: str(value)[:12])
def test_a_block_of_the_readme_runs(line, language, text, folder, monkeypatch):
    monkeypatch.chdir(folder)
    if language == "python":
        run_python(text, line)
    elif language == "sh":
        run_shell(text)
    else:
        pytest.fail(f"README.md:{line}: no test knows how to run a block of kind {language!r}")


def test_no_code_hides_outside_the_fenced_blocks():
    outside = re.sub(r"^```.*?^```$", "", README, flags=re.MULTILINE | re.DOTALL)
    assert not re.search(r"^( {4}|\t)", outside, flags=re.MULTILINE), "an indented code block"
    assert "<pre" not in outside


def test_the_two_set_up_commands_run_the_main_job_and_the_tests():
    commands = [match for _, _, text in BLOCKS if (match := SET_UP.fullmatch(text))]
    assert [(match["extra"], match["run"]) for match in commands] == [
        ("all", "fastnn train digits --force"),
        ("test", "python -m pytest -n auto"),
    ]


def test_the_files_that_the_readme_points_to_exist():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", README):
        assert (ROOT / target).exists(), target
