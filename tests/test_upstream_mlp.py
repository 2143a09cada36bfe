"""scikit-learn's own tests, on our estimators: its file as installed, with one import changed."""

import ast
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from sklearn import neural_network
from sklearn.utils.estimator_checks import check_estimator

from fastnn import MLPClassifier, MLPRegressor

UPSTREAM = Path(neural_network.__file__).with_name("tests") / "test_mlp.py"
IMPORT = "from sklearn.neural_network import MLPClassifier, MLPRegressor\n"


def test_scikit_learns_own_test_file_passes_with_one_import_changed(tmp_path):
    source = UPSTREAM.read_text(encoding="utf-8")
    assert source.count(IMPORT) == 1
    source = source.replace(IMPORT, "from fastnn import MLPClassifier, MLPRegressor\n")
    test_file, report = tmp_path / "test_mlp.py", tmp_path / "report.xml"
    test_file.write_text(source, encoding="utf-8")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "sklearn.conftest"),
            *("-p", "no:cacheprovider", "-p", "no:xdist"),
            *("--rootdir", str(tmp_path), "-c", os.devnull),
            f"--junitxml={report}",
            str(test_file),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    cases = list(ElementTree.parse(report).iter("testcase"))
    # Nothing may be left out: not a function, and none of its cases.
    assert [case.get("name") for case in cases if len(case)] == []
    written = {
        node.name
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }
    assert {case.get("name").partition("[")[0] for case in cases} == written
    assert len(written) >= 43


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("ours", [MLPClassifier, MLPRegressor])
def test_scikit_learns_checks_of_estimators_pass_and_skip_no_more_than_for_its_own(ours):
    theirs = getattr(neural_network, ours.__name__)

    def results(cls):
        return check_estimator(cls(max_iter=100), on_skip=None, on_fail=None)

    def names(cls, status):
        return sorted(r["check_name"] for r in results(cls) if r["status"] == status)

    found = results(ours)
    bad = [(r["check_name"], r["exception"]) for r in found if r["status"] in ("failed", "xfail")]
    assert bad == []
    skipped = sorted(r["check_name"] for r in found if r["status"] == "skipped")
    assert skipped == names(theirs, "skipped")
    assert not any("array_api" in name or "dataframe" in name for name in skipped), skipped
    assert len(found) > 50
