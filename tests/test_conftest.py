"""What the tests share: skips that fail, and the mark of those that need PyTorch or JAX."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

SKIPS = {
    "in_a_test": "import pytest\ndef test_it(): pytest.skip('not here')\n",
    "by_a_mark": "import pytest\n@pytest.mark.skip(reason='not here')\ndef test_it(): pass\n",
    "in_a_module": "import pytest\npytest.skip('not here', allow_module_level=True)\n",
    "of_an_import": "import pytest\npytest.importorskip('no_such_package')\n",
}


@pytest.mark.parametrize("n_workers", ["0", "1"])
def test_no_skips_makes_every_skip_a_failure(tmp_path, n_workers):
    shutil.copy(TESTS / "conftest.py", tmp_path)
    (tmp_path / "pytest.ini").touch()
    for name, text in SKIPS.items():
        (tmp_path / f"test_{name}.py").write_text(text)
    (tmp_path / "test_fails.py").write_text(
        "import pytest\n@pytest.mark.xfail\ndef test_it(): assert False\n"
    )
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n", n_workers]
    command += ["--continue-on-collection-errors", "--no-skips", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed, 1 xfailed, 3 errors in" in done.stdout, done.stdout


def test_what_needs_a_peer_is_marked():
    needs = re.compile(r"""importorskip\(\s*["'](torch|jax|optax|onnx|onnxruntime)\b""")
    texts = {path: path.read_text(encoding="utf-8") for path in TESTS.rglob("test_*.py")}
    # The stage `peers` of .ci/run would miss a test without the mark.
    assert [
        p for p, text in texts.items() if text.count("mark.peers") < len(needs.findall(text))
    ] == []
