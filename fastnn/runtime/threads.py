"""How many threads a kernel may use, and when it must do with one.

Kernels give the same bits for any number of threads, so falling back to one is always right. It
is done wherever Numba's threading layer could kill the process or hang:

- while another Python thread is in a kernel with several threads: they would share the cores,
- in a forked child, if threads of the layer, or of an OpenMP that it would use, did not come along,
- on the layer "workqueue", while there are other Python threads at all. It aborts the process when
  two threads are in parallel loops at once, and a loop of the user's in another thread (or one that
  calls back to Python) asks nobody. Numba takes this layer where it finds neither TBB nor OpenMP
  (``pip install tbb``, ``apt-get install libgomp1``; on macOS ``pip install intel-openmp``).

What cannot be helped: two parallel loops of the user's at once on "workqueue"; one that a thread
runs there which C code started, while kernels run, since Python does not know of that thread; and
the user's own loops in a forked child on "omp".
"""

import ctypes
import functools
import math
import numbers
import os
import sys
import threading
import time
from pathlib import Path

import numba
from numba.core.compiler_lock import global_compiler_lock

from fastnn.errors import shown

# Below this many floating-point operations between two barriers, threads cost more than they gain.
# Measured by benchmarks/thread_threshold.py.
MIN_FLOPS_PER_THREAD = 150_000

_SECONDS_BETWEEN_LOOKS = 0.1

# A team that has waited for so many seconds, and for that share of its time, met another library's
# threads: alone it would not have taken longer. Short jobs then do without a team for a while,
# longer each time that it turns out to be too early.
_MOST_WAIT, _MOST_WAITING = 0.001, 0.4
_SHORTEST_REST, _LONGEST_REST = 0.01, 0.1
_crowded_until, _rest = 0.0, _SHORTEST_REST

_chosen = None
_team_limit = math.inf
_region = threading.Lock()
_layer = None
_forked = False


def _in_forked_child():
    # Threads do not come along, nor does who would release a lock. A child of a process that
    # never used threads is as good as new.
    global _forked, _region
    _forked = _forked or _layer_in_use() is not None or _has_openmp()
    _region = threading.Lock()
    global_compiler_lock.release()


if hasattr(os, "register_at_fork"):  # not on Windows
    # A fork waits for the compiler: in the child, nobody would complete what another thread has
    # begun to compile, or release its locks.
    os.register_at_fork(
        before=global_compiler_lock.acquire,
        after_in_parent=global_compiler_lock.release,
        after_in_child=_in_forked_child,
    )


def _layer_in_use():
    """Name of Numba's threading layer, or None if it has not been started."""
    try:
        return numba.threading_layer()
    except ValueError:
        return None


def _has_openmp():
    """Whether there is an OpenMP in the process that Numba would share, with PyTorch for example.

    If anybody has used it before a fork, the child waits for its threads for ever.
    """
    try:
        ctypes.CDLL("libgomp.so.1", mode=getattr(os, "RTLD_NOLOAD", 0))
    except OSError:
        return False
    return True


def _can_be_entered():
    """Whether the threading layer can take a team, whatever others do meanwhile."""
    global _layer
    if _forked:
        return False
    if _layer is None:
        with global_compiler_lock:  # a fork must not come between
            numba.get_num_threads()  # starts it
        _layer = numba.threading_layer()
    return _layer != "workqueue" or len(sys._current_frames()) == 1


@functools.cache
def _cgroup_quota(root="/"):
    """CPUs that the quotas of this process's control groups allow, rounded up; or infinity.

    Those of the groups above it count too. In a container the path of a group may be that of the
    host, of which only the top can be seen.

    Parameters
    ----------
    root : str
        Where the folders proc and sys are.
    """
    try:
        lines = Path(root, "proc/self/cgroup").read_text().splitlines()
    except OSError:  # no Linux
        return math.inf
    quotas = [math.inf]
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":  # version 2
            top, files = Path(root, "sys/fs/cgroup"), ("cpu.max",)
        elif "cpu" in controllers.split(","):  # version 1
            top, files = Path(root, "sys/fs/cgroup/cpu"), ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        else:
            continue
        group = top / path.lstrip("/")
        quotas += [_quota_of(folder, files) for folder in (group, *group.parents)]
    return min(quotas)


def _quota_of(folder, files):
    """CPUs by the quota and the period that stand in the files of a control group."""
    try:
        quota, period = " ".join((folder / file).read_text() for file in files).split()
    except (OSError, ValueError):
        return math.inf
    return math.inf if quota in ("max", "-1") else math.ceil(int(quota) / int(period))


@functools.cache
def _openmp_setting():
    """Return the number in OMP_NUM_THREADS, of which there may be one for each level of nesting."""
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) > 0 else math.inf


@functools.cache
def _available_in(period):
    """CPUs that this process may use, in a period of time."""
    _available_in.cache_clear()  # forgets the periods before
    try:
        affinity = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        affinity = os.cpu_count() or 1
    limits = numba.config.NUMBA_NUM_THREADS, affinity, _cgroup_quota(), _openmp_setting()
    return int(max(1, min(limits)))


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
        least of its CPU affinity, the quotas of its control groups (of a container, for
        example), and the environment's `NUMBA_NUM_THREADS` and `OMP_NUM_THREADS`.
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
    if isinstance(n, bool) or not isinstance(n, numbers.Integral) or not 1 <= n <= limit:
        raise ValueError(f"n_threads must be an integer from 1 to {limit}, got {shown(n)}")
    return int(n)


def limit_teams(n):
    """Remember that the threading layer cannot run more than `n` threads together."""
    global _team_limit
    _team_limit = max(1, n)


def at_most(n_threads):
    """Return `n_threads`, or fewer if the threading layer has failed to run so many together."""
    return min(n_threads, _team_limit)


def note_wait(waited, seconds):
    """Take note of how long a team took, and how long of that its first member waited for the last.

    Another library's threads may spin on the cores for a while after each call, as those of
    OpenBLAS do for 30 milliseconds. A member then waits for its core for one or two time slices.
    """
    global _crowded_until, _rest
    if waited > _MOST_WAIT and waited > _MOST_WAITING * seconds:
        _rest = min(2 * _rest, _LONGEST_REST)
        _crowded_until = time.monotonic() + _rest
    else:
        _rest = _SHORTEST_REST


def at_most_now(n_threads):
    """Return `n_threads`, or one while the cores are crowded: for jobs shorter than a time slice.

    Long jobs, such as trainings, find out for themselves how many threads are best.
    """
    return 1 if n_threads > 1 and time.monotonic() < _crowded_until else n_threads


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

    One thread where the layer must not be entered: see the top of the file.

    A class, because a generator would take longer than the rest of a launch.
    """

    __slots__ = ("_granted",)

    def __init__(self, n_threads):
        self._granted = n_threads

    def __enter__(self):
        if self._granted > 1 and not (_can_be_entered() and _region.acquire(blocking=False)):
            self._granted = 1
        return self._granted

    def __exit__(self, *_):
        if self._granted > 1:
            _region.release()
