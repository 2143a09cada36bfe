"""Each script in ``examples/`` runs by itself and leaves a picture that shows something."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted((ROOT / "examples").glob("*.py"))

image = pytest.importorskip("matplotlib.image")


def run(script, *arguments, cwd):
    """Run a script as a reader would, with warnings as errors; return what it prints."""
    environment = {
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "PYTHONWARNINGS": "error",
        "MPLBACKEND": "Agg",
    }
    done = subprocess.run(
        [sys.executable, str(script), *map(str, arguments)],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        cwd=cwd,
        env=os.environ | environment,
        timeout=600,  # only against hanging
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_an_example_writes_a_picture_into_the_folder_it_is_given_and_nowhere_else(script, tmp_path):
    here, folder = tmp_path / "here", tmp_path / "pictures"
    here.mkdir()
    folder.mkdir()
    assert run(script, folder, cwd=here).strip(), "it says nothing"
    assert not list(here.iterdir())
    pictures = sorted(folder.glob("*.png"))
    assert pictures, "no picture"
    for picture in pictures:
        pixels = image.imread(picture)[..., :3]
        assert min(pixels.shape[:2]) >= 200, picture.name
        # Neither blank nor a few letters on an empty page.
        assert pixels.std() > 0.05, picture.name
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50, picture.name
        assert np.any(pixels != pixels[0, 0], axis=-1).mean() > 0.05, picture.name


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_an_example_says_what_it_shows_and_how_to_run_it(script):
    text = script.read_text(encoding="utf-8")
    compile(text, str(script), "exec")
    assert text.startswith('"""')
    assert f"python examples/{script.name}" in text.split('"""')[1]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_an_example_explains_itself_and_its_arguments_before_any_work(script, tmp_path):
    said = run(script, "--help", cwd=tmp_path)
    assert said.startswith(f"usage: {script.name}")
    assert script.read_text(encoding="utf-8").split('"""')[1].strip() in said
    assert "for the picture" in said
    assert not list(tmp_path.iterdir())


def test_there_are_examples():
    assert SCRIPTS
