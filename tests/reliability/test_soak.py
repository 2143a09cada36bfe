"""Nothing grows while the library is used for long, and what would grow is found."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.reliability import soak

SCRIPT = Path(__file__).with_name("soak.py")


def run(minutes):
    done = subprocess.run(
        [sys.executable, SCRIPT, "--minutes", str(minutes)],
        capture_output=True,
        text=True,
        timeout=60 * minutes + 400,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing grew" in done.stdout


@pytest.mark.parametrize(
    "minutes", [0.2, pytest.param(30, marks=pytest.mark.slow)], ids=["short", "half an hour"]
)
def test_a_process_that_is_used_for_long_stays_as_it_is(minutes):
    run(minutes)


def predict(world):
    soak.small_net().predict(world.X)


ROUNDS = 10


class LeaksEverything:
    """An action that leaves 10 MiB behind, a little in each round, and one of all the rest."""

    def __init__(self):
        self._memory, self._handle, self._stop = [], None, threading.Event()

    def __call__(self, world):
        self._memory.append(b"x" * (10 * 2**20 // ROUNDS))
        if len(self._memory) == ROUNDS // 2:
            self._handle = open(os.devnull)  # noqa: SIM115
            threading.Thread(target=self._stop.wait).start()
            (world.folder / "left").write_text("")

    def close(self):
        """Give back what was left."""
        self._handle.close()
        self._stop.set()


def test_what_is_left_behind_is_found():
    leak = LeaksEverything()
    try:
        report = soak.soak(0, actions=[predict, leak], warmup=2, least_rounds=ROUNDS)
    finally:
        leak.close()
    assert report.rounds == ROUNDS and report.actions["predict"] == ROUNDS + 2
    assert report.faults()[:4] == [
        f"memory grew by {report.memory / 2**20:.1f} MiB",
        "1 file handles were left open",
        "1 threads were left running",
        "temporary files were left: left",
    ]


def test_steps_that_become_slower_are_found():
    report = soak.Report()
    report.drift = 1.4
    assert report.faults() == []
    report.drift = 1.6
    assert report.faults() == ["steps became 1.60 times as slow"]
