"""What the library takes of the machine, and what it leaves as it was."""

import contextlib
import math
import os
import uuid
from pathlib import Path

import numba
import numpy as np
import pytest
from reliability.scripts import work
from scenarios import LAYERS, SCRIPTS, needs_fork, outcomes, run_python

import fastnn
from fastnn.runtime import threads

needs_affinity = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="this system has no CPU affinity"
)
BEFORE_IMPORT = str(SCRIPTS / "before_import.py")


@pytest.fixture(name="forget", autouse=True)
def fixture_forget():
    """Return a function that makes the library look at the machine anew."""

    def forget():
        for known in (threads._available_in, threads._cgroup_quota, threads._openmp_setting):
            known.cache_clear()

    yield forget
    forget()


@needs_fork
@pytest.mark.xdist_group("scenarios")
@pytest.mark.parametrize("count", [1, pytest.param(10, marks=pytest.mark.slow)])
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(
    "scenario",
    ["settings_are_left_as_they_were", "cpus_may_come_and_go"],
)
def test_the_process_is_respected(scenario, layer, count):
    assert outcomes(layer, count)[scenario] == "ok"


# --- CPUs -----------------------------------------------------------------------------------------


@needs_affinity
def test_the_affinity_from_before_the_import_is_respected_and_all_settings_are_kept():
    assert int(run_python([BEFORE_IMPORT, "affinity", "use"], 100)) == 1


@pytest.mark.parametrize(
    "given, expected",
    [("1", 1), ("1,4", 1), (" 1 ", 1), ("2", 2), ("0", 2), ("-1", 2), ("many", 2), ("", 2)],
)
def test_the_number_of_openmp_threads_is_respected(given, expected, forget, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", 2)
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    monkeypatch.setattr(threads, "_cgroup_quota", lambda: math.inf)
    threads._available_in.cache_clear()
    threads._openmp_setting.cache_clear()
    assert fastnn.get_num_threads() == expected
    fastnn.set_num_threads(2)  # who asks for them gets them
    try:
        assert fastnn.get_num_threads() == 2
    finally:
        fastnn.set_num_threads(None)
    monkeypatch.undo()


def test_the_number_of_numba_threads_is_respected(monkeypatch):
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", 1)
    threads._available_in.cache_clear()
    assert fastnn.get_num_threads() == 1
    with pytest.raises(ValueError, match="n_threads must be an integer >= 1, got 0"):
        fastnn.set_num_threads(0)


def test_more_threads_than_there_are_mean_all_of_them_and_one_record_says_so(monkeypatch, caplog):
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", 1)
    threads._available_in.cache_clear()
    threads._say_that_all_are_used.cache_clear()
    net = fastnn.Sequential([fastnn.Affine(2, 2)], seed=0)
    net.fit(np.eye(2), [0, 1], epochs=2, n_threads=64)
    net.predict(np.eye(2), n_threads=64)
    model = fastnn.MLPRegressor(hidden_layer_sizes=(2,), solver="lbfgs", n_threads=64)
    model.fit(np.eye(2), [0, 1]).predict(np.eye(2))
    fastnn.set_num_threads(64)
    try:
        assert fastnn.get_num_threads() == 1
    finally:
        fastnn.set_num_threads(None)
    (record,) = [record for record in caplog.records if record.name == "fastnn"]
    assert record.getMessage() == (
        "64 threads were asked for, more than this process may start: all 1 are used"
    )


GROUPS = {
    "no Linux": (None, {}, math.inf),
    "version 2, no quota": ("0::/\n", {"cpu.max": "max 100000\n"}, math.inf),
    "version 2, at the top": ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
    "version 2, its own": ("0::/a/b\n", {"a/b/cpu.max": "100000 100000", "cpu.max": "max 1"}, 1),
    "version 2, above its own": (
        "0::/a/b/c\n",
        {"a/b/c/cpu.max": "max 100000", "a/cpu.max": "300000 100000", "d/cpu.max": "1 100000"},
        3,
    ),
    "version 2, a path of the host": (
        "0::/docker/0123\n",
        {"cpu.max": "200000 100000"},
        2,
    ),
    "version 2, above what is visible": ("0::/../a\n", {"cpu.max": "200000 100000"}, 2),
    "version 1, no quota": (
        "3:cpu,cpuacct:/\n",
        {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"},
        math.inf,
    ),
    "version 1, its own, beside others": (
        "4:memory:/m\n3:cpu,cpuacct:/a/b\n2:cpuset:/c\n1:name=systemd:/x:y\n0::/\n",
        {
            "cpu/a/b/cpu.cfs_quota_us": "50000\n",
            "cpu/a/b/cpu.cfs_period_us": "100000\n",
            "cpu/cpu.cfs_quota_us": "-1\n",
            "cpu/cpu.cfs_period_us": "100000\n",
        },
        1,
    ),
    "version 1, above its own": (
        "1:cpu:/a/b\n",
        {"cpu/a/cpu.cfs_quota_us": "400000", "cpu/a/cpu.cfs_period_us": "100000"},
        4,
    ),
    "nonsense": ("0::/\n", {"cpu.max": "much\n"}, math.inf),
    "half of it": ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "100000"}, math.inf),
}


@pytest.mark.parametrize("groups, files, expected", GROUPS.values(), ids=GROUPS)
def test_the_quotas_of_control_groups_are_read(groups, files, expected, tmp_path):
    files = {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    if groups is not None:
        files["proc/self/cgroup"] = groups
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert threads._cgroup_quota(str(tmp_path)) == expected


@pytest.fixture(name="group")
def fixture_group():
    """Make a control group below one with a quota of one CPU; return its folder."""
    made = []
    for top, files in (
        ("/sys/fs/cgroup/cpu", {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "100000"}),
        ("/sys/fs/cgroup", {"cpu.max": "100000 100000"}),
    ):
        outer = Path(top, f"fastnn-test-{uuid.uuid4().hex}")
        with contextlib.suppress(OSError):
            outer.mkdir()
            made.append(outer)
            for file, text in files.items():
                (outer / file).write_text(text)
            inner = outer / "inner"
            inner.mkdir()
            made.append(inner)
            break
    else:
        inner = None
    if inner is not None:
        yield inner
    for folder in reversed(made):
        folder.rmdir()
    if inner is None:
        pytest.skip("control groups cannot be made here")


@pytest.mark.skipif(fastnn.get_num_threads() < 2, reason="there is one CPU only")
def test_the_quota_of_a_real_control_group_is_respected(group):
    assert int(run_python([BEFORE_IMPORT, str(group)], 100)) == 1


@pytest.mark.peers
def test_pytorchs_number_of_threads_is_left_as_it_was():
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads(), torch.get_num_interop_threads()
    work.everything(0)
    assert (torch.get_num_threads(), torch.get_num_interop_threads()) == before
