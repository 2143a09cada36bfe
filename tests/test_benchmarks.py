"""The asv suite is one that asv can run, and the gate judges made-up figures as it should."""

import importlib
import inspect
import itertools
import json
import math
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks import compare

SUITE = Path(__file__).parent.parent / "benchmarks" / "suite"
MODULES = sorted(path.stem for path in SUITE.glob("bench_*.py"))
KINDS = ("time_", "timeraw_", "peakmem_", "track_")
ONE_THREAD = "bench_step.StepRatio.track_time_ratio_vs_numpy('8-2@4', 'float32', 1)"
ANOTHER = "bench_step.StepRatio.track_time_ratio_vs_numpy('8-2@4', 'float64', 1)"
TWO_THREADS = "bench_step.StepRatio.track_time_ratio_vs_numpy('8-2@4', 'float32', 2)"
COMPILE = "bench_startup.ColdCompileRatio.track_time_ratio_vs_numba('float32', 1)"


def benchmark_classes():
    pytest.importorskip("threadpoolctl")
    for name in MODULES:
        module = importlib.import_module(f"benchmarks.suite.{name}")
        for kind in vars(module).values():
            if isinstance(kind, type) and kind.__module__ == module.__name__:
                yield kind


def benchmark_methods(kind):
    return {name: getattr(kind, name) for name in dir(kind) if name.startswith(KINDS)}


def test_the_suite_covers_products_layers_steps_fits_and_startup():
    expected = {f"bench_{name}" for name in ("matmul", "layers", "step", "fit", "startup")}
    assert expected <= set(MODULES)


def test_every_benchmark_takes_its_parameters_and_each_of_them_has_a_name():
    for kind in benchmark_classes():
        assert len(kind.params) == len(kind.param_names), kind
        assert all(len(values) == len(set(values)) > 0 for values in kind.params), kind
        methods = list(benchmark_methods(kind).values())
        assert methods, kind
        for function in [*methods, *([kind.setup] if hasattr(kind, "setup") else [])]:
            inspect.signature(function).bind(None, *(values[0] for values in kind.params))


def test_every_ratio_on_one_thread_is_found_by_the_gate():
    found = 0
    for kind in benchmark_classes():
        for name in benchmark_methods(kind):
            for parameters in itertools.product(*kind.params):
                full = f"{kind.__name__}.{name}({', '.join(map(repr, parameters))})"
                in_gate = re.search(compare.RATIOS.format(threads=1), full) is not None
                assert in_gate == (name.startswith("track_") and parameters[-1] == 1), full
                found += in_gate
    assert found >= 25


def test_the_shared_file_has_nothing_that_asv_would_run():
    common = importlib.import_module("benchmarks.suite.common")
    names = [*vars(common), *dir(common.Timed)]
    assert not [name for name in names if name.startswith(KINDS)]


def rows_of(base, head):
    return {row.name: row for row in compare.judge(base, head)}


def test_a_round_in_which_something_disturbed_does_not_make_a_benchmark_slower():
    rows = rows_of(
        [{ONE_THREAD: 0.5}] * 3, [{ONE_THREAD: 0.51}, {ONE_THREAD: 0.9}, {ONE_THREAD: 0.5}]
    )
    assert rows[ONE_THREAD].change == pytest.approx(1.02)
    assert not rows[ONE_THREAD].is_slower


def test_a_benchmark_is_slower_beyond_the_limit_of_its_kind():
    for name, factor, slower in [
        (ONE_THREAD, 1.11, False),
        (ONE_THREAD, 1.2, True),
        (TWO_THREADS, 1.5, False),
        (TWO_THREADS, 1.9, True),
        (COMPILE, 1.2, False),
        (COMPILE, 1.4, True),
        (ONE_THREAD, 0.5, False),
    ]:
        row = rows_of([{name: 0.4}], [{name: 0.4 * factor}])[name]
        assert row.is_slower == slower, (name, factor)


def many(factor=1.0):
    names = [f"bench_step.A.track_time_ratio_vs_numpy({k}, 1)" for k in range(12)]
    return dict.fromkeys(names, 0.5 * factor)


def test_a_little_slower_everywhere_is_found_in_the_mean():
    rows = compare.judge([many()], [many(1.06)])
    assert [row.name for row in rows if row.is_slower] == [compare.MEAN]
    assert rows[-1].change == pytest.approx(1.06)
    # Then all are measured again, but for what is not in the mean.
    [(names, pattern)] = compare.suspects(rows)
    assert names == [compare.MEAN]
    assert all(re.search(pattern, name) for name in many())
    assert not re.search(pattern, COMPILE)


def test_the_mean_is_of_one_thread_and_of_what_both_versions_have():
    base = [many() | {TWO_THREADS: 0.1, COMPILE: 7.0, ANOTHER: 3.0}]
    head = [many() | {TWO_THREADS: 0.4, COMPILE: 9.0}]
    mean = rows_of(base, head)[compare.MEAN]
    assert (mean.base, mean.head) == (pytest.approx(0.5), pytest.approx(0.5))


def test_a_few_benchmarks_have_no_mean():
    assert compare.MEAN not in rows_of([{ONE_THREAD: 0.5}], [{ONE_THREAD: 0.53}])


def test_only_what_is_slower_twice_is_a_regression():
    def rows(first, second):
        base = [{ONE_THREAD: 1.0, ANOTHER: 1.0, COMPILE: 1.0}]
        return compare.judge(base, [{ONE_THREAD: first, ANOTHER: second, COMPILE: 1.0}])

    [(names, pattern)] = compare.suspects(rows(1.3, 1.0))
    assert names == [ONE_THREAD]
    assert re.search(pattern, ONE_THREAD)
    assert not re.search(pattern, ANOTHER) and not re.search(pattern, COMPILE)
    assert compare.confirmed(names, rows(1.3, 1.0)) == [ONE_THREAD]
    assert compare.confirmed(names, rows(1.0, 1.0)) == []
    # Another one, which was fine before, has no confirmation of its own.
    assert compare.confirmed(names, rows(1.0, 1.3)) == []


def test_nothing_is_measured_again_if_nothing_is_slower():
    assert compare.suspects(compare.judge([{ONE_THREAD: 1.0}], [{ONE_THREAD: 1.0}])) == []


def test_a_benchmark_that_fails_in_the_head_only_is_broken():
    rows = rows_of([{ONE_THREAD: 1.0, ANOTHER: None}], [{ONE_THREAD: None, ANOTHER: 1.0}])
    assert rows[ONE_THREAD].is_broken and not rows[ANOTHER].is_broken
    assert compare.MEAN not in rows
    assert "BROKEN" in compare.table(list(rows.values()))


def test_figures_are_read_as_asv_writes_them(tmp_path):
    folder = tmp_path / "this_machine"
    folder.mkdir()
    (folder / "machine.json").write_text("{}")
    with pytest.raises(compare.MeasuringError):
        compare.read_results(tmp_path)
    name = "bench_step.StepRatio.track_time_ratio_vs_numpy"
    values = [0.5, None, math.nan, 0.25]
    results = {
        "result_columns": ["result", "params", "version", "samples"],
        "results": {
            name: [values, [["'a'", "'b'"], ["1", "2"]], "0123"],
            "bench_step.Failed.track_time_ratio_vs_numpy": [None, [["1"]], "0123"],
        },
    }
    (folder / "0123-existing.json").write_text(json.dumps(results))
    assert compare.read_results(tmp_path) == {
        f"{name}('a', 1)": 0.5,
        f"{name}('a', 2)": None,
        f"{name}('b', 1)": None,
        f"{name}('b', 2)": 0.25,
        "bench_step.Failed.track_time_ratio_vs_numpy(1)": None,
    }


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_working_tree_becomes_a_commit_and_stays_as_it_is(tmp_path, monkeypatch):
    def git(*arguments):
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        command = ["git", *who, *arguments]
        return subprocess.run(
            command, cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout

    monkeypatch.setattr(compare, "ROOT", tmp_path)
    source = tmp_path / "fastnn" / "layers.py"
    source.parent.mkdir()
    source.write_text("old\n")
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "first")
    head = git("rev-parse", "HEAD").strip()
    assert compare.working_tree() == head
    source.write_text("new\n")
    (source.parent / "more.py").write_text("more\n")
    status = git("status", "--porcelain")
    commit = compare.working_tree()
    assert commit == compare.working_tree() != head
    assert git("show", f"{commit}:fastnn/layers.py") == "new\n"
    assert git("show", f"{commit}:fastnn/more.py") == "more\n"
    assert git("status", "--porcelain") == status
    assert git("rev-parse", "HEAD").strip() == head
