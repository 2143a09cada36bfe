"""The caller's settings, and CPUs that come and go."""

import os
import threading
import time

import numba
import numpy as np
from settings import assert_same, settings
from work import everything, expected, team_size

import fastnn


def settings_are_left_as_they_were(count):
    assert team_size() == 2
    numba.set_num_threads(1)
    np.seterr(over="raise", invalid="raise")  # of the caller; ours must not trip over it
    before = settings()
    for k in range(3 * count):
        assert everything(k % 8) == expected()[k % 8]
        assert_same(before)
    thread = threading.Thread(target=everything, args=(0,))
    thread.start()
    thread.join()
    assert_same(before)


def cpus_may_come_and_go(count):
    """At least it is noticed soon."""
    if not hasattr(os, "sched_setaffinity"):
        return
    cpus = os.sched_getaffinity(0)
    for _ in range(count):
        for some in ({min(cpus)}, cpus):
            os.sched_setaffinity(0, some)
            time.sleep(0.15)
            assert fastnn.get_num_threads() == min(2, len(some))
            assert everything(0, n_threads=None) == expected()[0]
            assert everything(1, n_threads=2) == expected()[1]
    assert os.sched_getaffinity(0) == cpus


ALL = [settings_are_left_as_they_were, cpus_may_come_and_go]
