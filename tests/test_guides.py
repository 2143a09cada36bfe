"""The recipes of CONTRIBUTING.md, followed: toy additions to a copy of the package.

A recipe is a numbered list under the heading "Add an activation", "Add an optimizer" or "Add a
layer". Each of its items begins with the file that it changes. The toys are in `tests/guides/`.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from guides import additions

ROOT = Path(__file__).parent.parent
GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
SCRIPT = ROOT / "tests" / "guides" / "check_addition.py"

# Heading -> the toy addition, the number of files, and what stands for `<...>` in their names.
RECIPES = {
    "Add an activation": (additions.add_activation, 4, {}),
    "Add an optimizer": (additions.add_optimizer, 4, {}),
    "Add a layer": (additions.add_layer, 6, {"name": "scale", "relatives": "normalisation"}),
}
with_recipes = pytest.mark.parametrize("heading", RECIPES)


def items_of(heading):
    """Return the items of the numbered list under a heading of the guide."""
    sections = re.findall(rf"^## {heading}\n(.*?)(?=^## )", GUIDE, re.MULTILINE | re.DOTALL)
    assert len(sections) == 1, f"CONTRIBUTING.md has {len(sections)} sections {heading!r}"
    items = re.findall(r"^(\d+)\. (.*)", sections[0], re.MULTILINE)
    assert [int(number) for number, _ in items] == [*range(1, len(items) + 1)]
    return [text for _, text in items]


def files_of(heading):
    """Return the files that a recipe names, each at the beginning of an item."""
    files = []
    for text in items_of(heading):
        match = re.match(r"\*\*`([\w/<>.]+)`\*\*", text)
        assert match, f"{heading}: an item must begin with its file in bold, not {text[:40]!r}"
        files.append(re.sub(r"<(\w+)>", lambda m: RECIPES[heading][2][m[1]], match[1]))
    return files


def new_copy(folder):
    """Copy the package and its documents to a folder."""
    left_out = shutil.ignore_patterns("__pycache__", "*.nbc", "*.nbi")
    for name in ("fastnn", "docs"):
        shutil.copytree(ROOT / name, folder / name, ignore=left_out)
    return additions.Copy(folder)


def contents(folder):
    """Return the content of each file in a folder by its name."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@with_recipes
def test_an_addition_touches_the_files_that_its_recipe_names_and_no_others(heading, tmp_path):
    add, count, _ = RECIPES[heading]
    copy = new_copy(tmp_path)
    before = contents(tmp_path)
    add(copy)
    after = contents(tmp_path)
    assert before.keys() <= after.keys()
    touched = {name for name, content in after.items() if before.get(name) != content}
    named = files_of(heading)
    assert len(named) == len(set(named))
    assert touched == set(named)
    assert len(touched) == count


@pytest.fixture(scope="module")
def copy_with_all(tmp_path_factory):
    """Return a folder with all three additions, so that the kernels are compiled only once."""
    folder = tmp_path_factory.mktemp("additions")
    copy = new_copy(folder)
    for add, _, _ in RECIPES.values():
        add(copy)
    return folder


@pytest.mark.xdist_group("guides")  # one worker for all, since they share compiled kernels
@with_recipes
def test_an_addition_works_like_what_was_there_before(heading, copy_with_all):
    caches = {"NUMBA_CACHE_DIR": str(copy_with_all / "cache")}
    done = subprocess.run(
        [sys.executable, "-W", "error", SCRIPT, copy_with_all, heading.split()[-1]],
        capture_output=True,
        text=True,
        env=os.environ | caches | {"PYTHONPATH": str(copy_with_all)},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@with_recipes
def test_files_that_exist_are_named_as_they_are_called(heading):
    new = {"fastnn/kernels/scale.py", "fastnn/layers/scale.py"}
    for name in files_of(heading):
        assert (name in new) != (ROOT / name).is_file(), name


def test_every_file_and_link_of_the_guide_exists():
    links = re.findall(r"\]\((?!https?:)([^)#]+)", GUIDE)
    names = re.findall(r"`((?:fastnn|tests|docs|benchmarks)/[\w/.]*)`", GUIDE)
    assert [name for name in {*links, *names} if not (ROOT / name).exists()] == []
    for name, test in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", GUIDE):
        assert f"def {test}(" in (ROOT / name).read_text(encoding="utf-8"), test
