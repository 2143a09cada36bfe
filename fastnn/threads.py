"""How many threads a kernel may use, and when it must do with one.

Kernels give the same bits for any number of threads, so falling back to one is always right.
"""

import functools
import math
import os
import threading
import time
from pathlib import Path

import numba

# Below this many floating-point operations between two barriers, threads cost more than they gain.
# Measured by benchmarks/thread_threshold.py.
MIN_FLOPS_PER_THREAD = 150_000

_SECONDS_BETWEEN_LOOKS = 0.1

_chosen = None
_team_limit = math.inf
_region = threading.Lock()
_launched = False
_forked = False


def _in_forked_child():
    # OpenMP kills a forked child at its first parallel region, and its hold of a lock is
    # inherited too. A child of a process that never used threads is as good as new.
    global _forked, _region
    _forked = _launched
    _region = threading.Lock()


os.register_at_fork(after_in_child=_in_forked_child)


@functools.cache
def _cgroup_quota():
    """CPUs that the container's quota allows, rounded up; infinity without one."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return math.inf
    return math.inf if quota == "max" else math.ceil(int(quota) / int(period))


@functools.cache
def _available_in(period):
    """CPUs that this process may use, in a period of time."""
    _available_in.cache_clear()  # forgets the periods before
    try:
        affinity = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        affinity = os.cpu_count() or 1
    return int(max(1, min(numba.config.NUMBA_NUM_THREADS, affinity, _cgroup_quota())))


def _available():
    """CPUs that this process may use. They may change, but asking takes 10 microseconds."""
    return _available_in(int(time.monotonic() / _SECONDS_BETWEEN_LOOKS))


def set_num_threads(n):
    """Set how many threads kernels may use at most in this process.

    Parameters
    ----------
    n : int or None
        From 1 to `NUMBA_NUM_THREADS`, which is by default the number of CPUs that this process
        may use. None goes back to the default of `get_num_threads`.

    Raises
    ------
    ValueError
        If `n` is out of range.

    Examples
    --------
    >>> import fastnn
    >>> fastnn.set_num_threads(1)
    >>> fastnn.get_num_threads()
    1
    >>> fastnn.set_num_threads(None)
    """
    global _chosen
    _chosen = None if n is None else check_num_threads(n)


def get_num_threads():
    """Return how many threads kernels may use at most.

    Returns
    -------
    int
        What `set_num_threads` said, else the number of CPUs that this process may use: the
        least of its CPU affinity, the container's quota and `NUMBA_NUM_THREADS`.
    """
    return _chosen if _chosen is not None else _available()


def check_num_threads(n):
    """Return `n`, a number of threads given by the user, or raise ValueError; None is the default.

    Raises
    ------
    ValueError
        If `n` is not an integer from 1 to the number of threads that Numba may use.
    """
    if n is None:
        return get_num_threads()
    limit = numba.config.NUMBA_NUM_THREADS
    if isinstance(n, bool) or not hasattr(n, "__index__") or not 1 <= n <= limit:
        raise ValueError(f"n_threads must be an integer from 1 to {limit}, got {n!r}")
    return int(n)


def limit_teams(n):
    """Remember that the threading layer cannot run more than `n` threads together."""
    global _team_limit
    _team_limit = max(1, n)


def at_most(n_threads):
    """Return `n_threads`, or fewer if the threading layer has failed to run so many together."""
    return min(n_threads, _team_limit)


def worthwhile(flops, n_threads, min_flops=MIN_FLOPS_PER_THREAD):
    """Return how many of `n_threads` threads pay off for a piece of work.

    Parameters
    ----------
    flops : float
        Floating-point operations between two meetings of the threads.
    n_threads : int
        The most to use.
    min_flops : float
        Operations below which a thread costs more than it gains.
    """
    return max(1, min(at_most(n_threads), int(flops / min_flops)))


class parallel_region:  # noqa: N801
    """Reserve the threading layer; yield how many threads the caller may use now.

    One thread where the layer must not be entered: another Python thread is in it (the workqueue
    layer would abort the process, OpenMP would oversubscribe the cores), or this is a forked
    child of a process that has used it.

    A class, because a generator would take longer than the rest of a launch.
    """

    __slots__ = ("_granted",)

    def __init__(self, n_threads):
        self._granted = n_threads

    def __enter__(self):
        global _launched
        if self._granted > 1 and (_forked or not _region.acquire(blocking=False)):
            self._granted = 1
        elif self._granted > 1:
            _launched = True
        return self._granted

    def __exit__(self, *_):
        if self._granted > 1:
            _region.release()
