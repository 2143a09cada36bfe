"""The extras of pyproject.toml, and what is said where a package of one is missing."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

import fastnn
from fastnn import errors

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_a_missing_package_is_an_import_error_that_names_the_command():
    with pytest.raises(errors.MissingExtraError) as caught:
        errors.require("no_such_package.part", "data")
    assert str(caught.value) == (
        "no_such_package is needed for this: pip install pandas pyarrow (the extra 'data')"
    )
    assert isinstance(caught.value, ImportError)
    assert caught.value.name == "no_such_package"


def test_a_package_that_is_too_old_is_told_with_the_command_that_upgrades_it():
    with pytest.raises(errors.MissingExtraError) as caught:
        errors.require("json.no_such_part", "data")
    assert str(caught.value) == (
        "a newer json is needed for this, one with json.no_such_part: "
        "pip install --upgrade pandas pyarrow (the extra 'data')"
    )


def test_an_extra_that_is_there_is_imported():
    assert errors.require("json.decoder", "cli").JSONDecoder


def test_an_import_error_inside_an_installed_extra_is_not_taken_for_a_missing_one(
    tmp_path, monkeypatch
):
    (tmp_path / "broken_extra.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_package") as caught:
        errors.require("broken_extra", "cli")
    assert not isinstance(caught.value, errors.MissingExtraError)


@pytest.mark.parametrize("extra", errors.EXTRAS)
def test_the_packages_of_a_hint_are_those_of_the_extra(extra):
    listed = PROJECT["optional-dependencies"][extra]
    assert [re.match(r"[\w-]+", line)[0] for line in listed] == list(errors.EXTRAS[extra])


def test_every_extra_that_the_package_asks_for_has_a_hint():
    calls = [
        extra
        for path in (ROOT / "fastnn").rglob("*.py")
        for extra in re.findall(r'\brequire\([^()]+, "(\w+)"\)', path.read_text(encoding="utf-8"))
    ]
    assert set(calls) == set(errors.EXTRAS)


def test_the_installed_distribution_has_the_version_of_the_package():
    assert metadata.version("numba-fastnn") == fastnn.__version__


@pytest.mark.parametrize("folder", ["fastnn", "docs", "examples", "benchmarks", "."])
def test_no_hint_installs_the_package_that_the_index_calls_fastnn(folder):
    # The index has another project of that name; ours is installed from a checkout.
    pattern = re.compile(r"(pip install [^\n`]*|['\"])\bfastnn\[")
    paths = (ROOT / folder).glob("*.*") if folder == "." else (ROOT / folder).rglob("*.*")
    for path in paths:
        if path.suffix in {".py", ".md", ".toml", ".json"}:
            assert not pattern.search(path.read_text(encoding="utf-8")), path
