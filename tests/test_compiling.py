"""Who waits for kernels is told: by whom, when, and how often."""

import gc
import io
import logging
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from fastnn import Affine, Callback, Sequential, compiling
from fastnn.compiling import Line, message, told


@pytest.fixture
def clock(monkeypatch):
    """Let the tests decide how long compiling takes."""

    class Clock:
        now = 1000.0

        def perf_counter(self):
            return self.now

        def compile(self, seconds, pause=0.0):
            with compiling.compiling():
                self.now += seconds
            self.now += pause

    clock = Clock()
    monkeypatch.setattr(compiling, "time", clock)
    monkeypatch.setattr(compiling, "_wait", compiling._Wait())
    monkeypatch.setattr(compiling, "SILENT_SECONDS", 3.0)
    return clock


def test_a_wait_is_logged_once_when_it_has_taken_three_seconds(clock, caplog):
    caplog.set_level(logging.WARNING)
    for seconds in (1.5, 1.4):
        clock.compile(seconds)
    assert not caplog.records
    for seconds in (0.2, 4.0):
        clock.compile(seconds)
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("fastnn", "WARNING")
    assert record.getMessage() == "compiling kernels, once on this machine: 3 s"


def test_a_wait_that_a_line_has_told_of_is_not_logged(clock, caplog):
    with told(Line(io.StringIO())):
        clock.compile(2.0)
    clock.compile(2.0)
    assert not caplog.records


def test_kernels_with_a_pause_between_them_are_two_waits(clock, caplog):
    for _ in range(3):
        clock.compile(2.0, pause=5.0)
    assert not caplog.records
    for _ in range(2):
        clock.compile(3.5, pause=5.0)
    assert len(caplog.records) == 2
    assert compiling.seconds_compiled() == 3 * 2.0 + 2 * 3.5


def test_the_last_listener_is_told_of_each_kernel_and_nothing_is_logged(clock, caplog):
    outer, inner = [], []
    with told(outer.append):
        clock.compile(1.0)
        with told(inner.append):
            clock.compile(2.0)
        clock.compile(4.0)
    assert (outer, inner) == ([1.0, 7.0], [3.0])
    assert not caplog.records


def test_nested_compilations_and_those_of_two_threads_count_once(clock):
    def compile_too():
        with compiling.compiling():
            pass

    with compiling.compiling():
        with compiling.compiling():
            clock.now += 1.0
        thread = threading.Thread(target=compile_too)
        thread.start()
        thread.join()
        clock.now += 1.0
    assert compiling.seconds_compiled() == 2.0


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_is_not_collected_meanwhile_and_as_before_afterwards(clock, enabled):
    before = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        seen = []

        def fail():
            with compiling.compiling():
                seen.append(gc.isenabled())
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail()
        assert seen == [False]
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if before else gc.disable)()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_a_child_forked_while_another_thread_compiles_starts_anew(tmp_path):
    script = """
import gc, os, threading
from fastnn import compiling
inside, leave = threading.Event(), threading.Event()
def compile():
    with compiling.compiling():
        inside.set()
        leave.wait()
thread = threading.Thread(target=compile)
thread.start()
inside.wait()
child = os.fork()
if child == 0:
    with compiling.compiling():
        pass
    os._exit(0 if gc.isenabled() else 3)
leave.set()
thread.join()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    command = [sys.executable, "-W", "ignore", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == ["0"]


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("kind", [Terminal, io.StringIO])
def test_a_line_is_written_anew_on_a_terminal_and_once_elsewhere(clock, kind):
    stream, other = kind(), kind()
    line = Line(stream)
    for seconds in (0.5, 1.2, 2.7):
        line(seconds)
        Line(other)(seconds)  # another one is silent: the wait has been told of
    both = f"{message(1.2)}\n\x1b[A\r\x1b[K{message(2.7)}\n"
    assert stream.getvalue() == (both if kind is Terminal else f"{message(1.2)}\n")
    assert not other.getvalue()
    clock.compile(0.1)  # a wait that is new
    line(1.7)
    assert message(1.7) in stream.getvalue()


def test_callbacks_are_told_of_kernels_and_epochs_leave_them_out(monkeypatch):
    heard = []

    class Listener(Callback):
        def on_compiling(self, seconds):
            heard.append(seconds)

    monkeypatch.setattr(compiling, "_wait", compiling._Wait())
    net = Sequential([Affine(2, 2)], seed=0)
    history = net.fit(np.eye(2), [0, 1], epochs=2, callbacks=[Listener()])
    # Whether kernels are compiled or known already depends on what ran before.
    with compiling.told(heard.append), compiling.compiling():
        pass
    assert heard
    assert heard == sorted(heard)
    assert all(seconds > 0 for seconds in history["seconds"])
    assert not compiling._wait.listeners


def test_the_progress_bar_tells_of_the_wait_before_and_while_it_is_drawn(monkeypatch, capsys):
    pytest.importorskip("rich")
    from fastnn import ProgressBar

    monkeypatch.setattr(compiling, "_wait", compiling._Wait())
    bar = ProgressBar()
    bar.on_compiling(2.0)
    assert message(2.0) in capsys.readouterr().err
    bar.on_fit_begin(None, {"epochs": 1, "n_samples": 4})
    bar.on_compiling(3.0)
    task = bar._progress.tasks[0]
    assert task.fields["figures"] == message(3.0)
    bar.on_fit_end({})


def test_the_bar_ends_with_the_speed_of_all_epochs(monkeypatch):
    pytest.importorskip("rich")
    from fastnn import ProgressBar

    bar = ProgressBar()
    bar.on_fit_begin(None, {"epochs": 2, "n_samples": 30})
    progress = bar._progress
    for epoch, seconds in enumerate([0.02, 0.01]):
        bar.on_epoch_end(epoch, {"loss": 1.0, "seconds": seconds, "samples_per_second": 0.0})
    bar.on_fit_end([0, 0])
    assert progress.tasks[0].fields["figures"].endswith("2,000 samples/s")
