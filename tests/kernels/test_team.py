"""Teams of threads: all members or none, barriers that order memory, and every awkward start.

What changes the process (the threading layer, forks, thread limits) runs in one of its own. More of
that, with threads and processes of the user's, is in tests/reliability.
"""

import contextlib
import functools
import hashlib
import os
import signal
import subprocess
import sys
import time

import numba
import numpy as np
import pytest
from numba import from_dtype
from scenarios import COMMON_LAYERS, needs_fork

from fastnn import Affine, ReLU, Sequential, linalg
from fastnn.kernels.memory import Job, vector_at
from fastnn.kernels.team import SYNC_SIZE, _leave_core, barrier, launch, team_starts
from fastnn.runtime import threads
from fastnn.runtime.jit import kernel, member
from fastnn.training import Trainer

ROUNDS = 2000
APART = 16  # slots of different members lie on cache lines of their own
ROLL_CALL = np.dtype({"names": ["called", "slots", "mistakes"], "formats": [np.int64] * 3})
_RECORD = from_dtype(ROLL_CALL)

needs_two_threads = pytest.mark.skipif(
    numba.config.NUMBA_NUM_THREADS < 2, reason="Numba may use one thread only"
)
with_layers = pytest.mark.parametrize("layer", COMMON_LAYERS)


@functools.cache
def roll_call():
    """Compile a member that counts itself, and looks at what the others wrote before barriers."""

    def answer(thread, n_threads, sync, job_address):
        if not team_starts(sync, n_threads):
            return
        job = vector_at(job_address, _RECORD)[0]
        called, slots = vector_at(job.called, np.int64), vector_at(job.slots, np.int64)
        mistakes = vector_at(job.mistakes, np.int64)
        called[thread] += 1
        called[8] = n_threads
        for k in range(1, ROUNDS + 1):
            slots[thread * APART] = k
            barrier(sync, n_threads)
            for other in range(n_threads):
                if slots[other * APART] != k:
                    mistakes[thread] += 1
            barrier(sync, n_threads)

    return member(answer)


@kernel
def starts(sync, n_threads):
    return team_starts(sync, n_threads)


def call_the_roll(n_threads):
    """Launch the member; return how often each thread was called, and the size of the team."""
    called, mistakes = np.zeros(9, np.int64), np.zeros(8, np.int64)
    slots = np.zeros(8 * APART, np.int64)
    launch(roll_call(), Job(ROLL_CALL, called=called, slots=slots, mistakes=mistakes), n_threads)
    np.testing.assert_array_equal(mistakes, 0)
    return called[:8].tolist(), called[8]


def digest(n_threads, epochs=50):
    """Train a net; return a digest of its weights."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(300, 20)), rng.integers(0, 10, 300)
    net = Sequential([Affine(20, 64), ReLU(), Affine(64, 10)], seed=0)
    trainer = Trainer(net, "softmax_cross_entropy", "adam", 150, n_threads=n_threads)
    trainer.use_all_threads = True
    trainer.set_data(X, y)
    for _ in range(epochs):
        trainer.run_epoch(np.arange(300))
    trainer.sync()
    return hashlib.sha256(net.params.tobytes()).hexdigest()


@pytest.fixture(name="python")
def fixture_python(tmp_path):
    """Return a function that runs a script in a fresh process, and kills what does not end."""

    def run(script, **environment):
        script = f"from tests.kernels.test_team import *\nright = {digest(1)!r}\n" + script
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(sys.path),
            "NUMBA_NUM_THREADS": "2",
            **environment,
        }
        # To a file: a child that hangs would keep a pipe open.
        with open(tmp_path / "output", "w+") as output:
            process = subprocess.Popen(
                [sys.executable, "-c", script],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
            try:
                code = process.wait(timeout=120)
            except subprocess.TimeoutExpired:
                code = "none: it hung"
            finally:
                if hasattr(os, "killpg"):
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
                else:
                    process.kill()
                process.wait()
            output.seek(0)
            assert code == 0, f"exit code {code}\n{output.read()}"

    return run


@pytest.fixture(name="allowed", autouse=True)
def fixture_allowed(monkeypatch):
    """Let teams run beside threads of the test runner, which enter no parallel loops."""
    monkeypatch.setattr(threads, "_can_be_entered", lambda: True)


# --- one process ----------------------------------------------------------------------------------


def test_one_thread_runs_alone():
    assert call_the_roll(1) == ([1, 0, 0, 0, 0, 0, 0, 0], 1)


@needs_two_threads
def test_each_member_is_called_once_and_meets_the_others_at_every_barrier():
    for _ in range(5):
        assert call_the_roll(2) == ([1, 1, 0, 0, 0, 0, 0, 0], 2)


@needs_two_threads
def test_numbas_own_number_of_threads_is_restored():
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        call_the_roll(2)
        assert numba.get_num_threads() == 1
    finally:
        numba.set_num_threads(before)


@functools.cache
def late_member():
    """Compile a member of which the second takes three hundred naps, 15 ms or more."""

    def come_late(thread, n_threads, sync, job_address):
        if team_starts(sync, n_threads):
            for _ in range(thread * 300):
                _leave_core()

    return member(come_late)


@needs_two_threads
@pytest.mark.skipif(sys.platform != "linux", reason="the clock is read on Linux only")
def test_short_jobs_do_without_a_team_after_one_that_waited_long_for_a_member(monkeypatch):
    call_the_roll(2)  # the first launch compiles, which would count as time of its team
    monkeypatch.setattr(threads, "_crowded_until", 0.0)
    monkeypatch.setattr(threads, "_LONGEST_REST", 60.0)
    monkeypatch.setattr(threads, "_rest", 30.0)
    a = np.ones((300, 300))
    launch(late_member(), Job(ROLL_CALL, called=0, slots=0, mistakes=0), 2)
    assert threads.at_most_now(2) == 1
    with monkeypatch.context() as without_teams:
        without_teams.setattr(linalg, "run_team", None)
        np.testing.assert_array_equal(linalg.matmul(a, a, n_threads=2), np.full_like(a, 300))
    assert call_the_roll(2)[1] == 2, "a long job asks for itself"


def test_the_rest_after_a_crowded_team_grows_and_ends(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(threads.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(threads, "_crowded_until", 0.0)
    monkeypatch.setattr(threads, "_rest", threads._SHORTEST_REST)
    rests = []
    for _ in range(6):
        threads.note_wait(0.004, 0.005)
        rests.append(threads._crowded_until - now[0])
        assert (threads.at_most_now(4), threads.at_most_now(1)) == (1, 1)
        now[0] = threads._crowded_until
        assert threads.at_most_now(4) == 4
    assert rests == sorted(rests)
    assert rests[-1] == pytest.approx(threads._LONGEST_REST)
    for waited, seconds in ((0.0005, 0.0006), (0.004, 0.1), (0.0, 0.0)):  # short, or a small part
        threads.note_wait(waited, seconds)
        assert threads.at_most_now(4) == 4
    assert threads._rest == threads._SHORTEST_REST


@needs_two_threads
@pytest.mark.skipif(sys.platform != "linux", reason="threads move on Linux only")
def test_members_that_leave_a_shared_core_may_use_all_cores_again():
    allowed = os.sched_getaffinity(0)
    for _ in range(20):
        time.sleep(0.01)  # the others fall asleep, and may wake on the core of the first
        assert call_the_roll(2)[1] == 2
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(ProcessLookupError):
            assert os.sched_getaffinity(int(task)) == allowed


@needs_two_threads
def test_who_finds_the_threading_layer_taken_runs_alone():
    with threads.parallel_region(2) as granted:
        assert granted == 2
        assert call_the_roll(2) == ([1, 0, 0, 0, 0, 0, 0, 0], 1)
    assert call_the_roll(2)[1] == 2


def test_the_last_to_arrive_decides_that_the_team_starts():
    sync = np.zeros(SYNC_SIZE, np.int64)
    sync[0] = 2  # two of three are here
    assert starts(sync.ctypes.data, 3)
    assert sync[16] == 1


def test_who_comes_after_the_start_was_called_off_does_not_start():
    for arrived in (0, 1):
        sync = np.zeros(SYNC_SIZE, np.int64)
        sync[0], sync[16] = arrived, 2
        assert not starts(sync.ctypes.data, 2)
        assert sync[16] == 2


def test_a_team_of_one_needs_no_start():
    sync = np.zeros(SYNC_SIZE, np.int64)
    assert starts(sync.ctypes.data, 1)
    np.testing.assert_array_equal(sync, 0)


@needs_two_threads
def test_threads_do_not_change_the_bits_of_a_training():
    assert digest(2) == digest(1)


# --- fresh processes ------------------------------------------------------------------------------


@with_layers
def test_every_threading_layer_gives_the_same_bits(python, layer):
    script = f"""
assert digest(2) == right
assert numba.threading_layer() == {layer!r}
assert threads._team_limit > 2, "the start was called off"
assert call_the_roll(2)[1] == 2
"""
    python(script, NUMBA_THREADING_LAYER=layer)


def test_a_layer_that_runs_members_one_after_the_other_gives_the_same_bits(python):
    script = """
right = digest(1, epochs=2)
assert digest(2, epochs=2) == right
assert threads._team_limit == 1
"""
    python(script, NUMBA_THREADING_LAYER="omp", OMP_THREAD_LIMIT="1")


def test_a_start_that_was_called_off_is_not_waited_for_again(python):
    script = """
from fastnn.kernels import team
calls = []
run_team = team.run_team
team.run_team = lambda *arguments: calls.append(1) or run_team(*arguments)
for _ in range(2):
    assert call_the_roll(2) == ([1, 0, 0, 0, 0, 0, 0, 0], 1)
assert len(calls) == 1, f"{len(calls)} launches waited for a team"
"""
    python(script, NUMBA_THREADING_LAYER="omp", OMP_THREAD_LIMIT="1")


@needs_fork
def test_a_child_forked_while_another_thread_trains_can_train(python):
    script = """
with threads.parallel_region(2):  # what the other thread holds while it trains
    digest(1)
    child = os.fork()
    if child == 0:
        os._exit(0 if digest(2) == right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert digest(2) == right
"""
    python(script)
