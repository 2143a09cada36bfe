"""The number of threads that a kernel may use, and the cases in which it is one.

Kernels give the same bits for any number of threads, so one thread is always right. A kernel runs
on one thread where more would be slow, or where Numba's threading layer could hang or abort the
process:

- while another Python thread runs a kernel on several threads: the two would share the cores;
- in a forked child, if the parent had started the threading layer, or has an OpenMP that the layer
  would share: a child has none of its parent's threads;
- where the layer that NUMBA_THREADING_LAYER names cannot be started;
- on the layer "workqueue", while there is any other Python thread. This layer aborts the process
  when two threads run parallel loops at once, and parallel loops of the user take no lock of ours.
  Numba chooses it if it finds neither TBB nor OpenMP (``pip install tbb``,
  ``apt-get install libgomp1``; on macOS ``pip install intel-openmp``).

These cases cannot be prevented here: on "workqueue", two parallel loops of the user at once, or one
beside a kernel, in a thread that C code started and Python does not know; on "omp", a parallel loop
of the user in a forked child.
"""

import ctypes
import functools
import logging
import math
import numbers
import os
import sys
import threading
import time
import warnings
from pathlib import Path
from types import TracebackType
from typing import Any

import numba
from numba.core.compiler_lock import global_compiler_lock

from fastnn.errors import reason, shown

MIN_FLOPS_PER_THREAD = 150_000
"""The least work of a thread between two barriers, in floating-point operations.

With less, a thread costs more time than it saves: measured by benchmarks/thread_threshold.py.
"""

_SECONDS_BETWEEN_LOOKS = 0.1

# A team whose first thread waited for more than so many seconds, and for more than that share of
# its time, shared its cores with threads of another library: one thread would have been no slower.
# Short jobs then run on one thread for a while, which doubles each time that a team meets such
# threads again.
_MOST_WAIT, _MOST_WAITING = 0.001, 0.4
_SHORTEST_REST, _LONGEST_REST = 0.01, 0.1
_crowded_until, _rest = 0.0, _SHORTEST_REST

_SETTINGS: Any = numba.config  # its values are set when it is loaded
_LOGGER = logging.getLogger("fastnn")

_chosen: int | None = None
_team_limit: float = math.inf
_region = threading.Lock()
_layer: str | None = None
_NO_LAYER = "none"
_error: str | None = None  # empty if the layer has been started
_forked = False


def _in_forked_child() -> None:
    # A child has no threads of its parent, so a thread that held a lock never releases it. If the
    # parent has used no threads, the child may use them as any process may.
    global _forked, _region
    _forked = _forked or _layer_in_use() is not None or _has_openmp()
    _region = threading.Lock()
    global_compiler_lock.release()


if hasattr(os, "register_at_fork"):  # not on Windows
    # A fork waits until no thread compiles: the child has no such thread, so there the function
    # would never be complete, and the lock never be released.
    os.register_at_fork(
        before=global_compiler_lock.acquire,
        after_in_parent=global_compiler_lock.release,
        after_in_child=_in_forked_child,
    )


def _layer_in_use() -> str | None:
    """Return the name of Numba's threading layer, or None if it has not been started."""
    try:
        return numba.threading_layer()
    except ValueError:
        return None


def _has_openmp() -> bool:
    """Return whether the process has loaded an OpenMP that Numba would share, as with PyTorch.

    If it was used before a fork, a parallel loop in the child waits for its threads for ever.
    """
    try:
        ctypes.CDLL("libgomp.so.1", mode=getattr(os, "RTLD_NOLOAD", 0))
    except OSError:
        return False
    return True


def _can_be_entered() -> bool:
    """Return whether the threading layer can run a team, whatever other threads do meanwhile."""
    global _layer
    if _forked:
        return False
    if _layer is None:
        error = layer_error()
        _layer = _NO_LAYER if error else numba.threading_layer()
        if error:
            warnings.warn(f"fastnn uses one thread: {error}", RuntimeWarning, stacklevel=3)
    if _layer == "workqueue":
        return len(sys._current_frames()) == 1
    return _layer != _NO_LAYER


def layer_error(start: bool = True) -> str | None:
    """Start Numba's threading layer if it has not been started, or say why it cannot be.

    Parameters
    ----------
    start : bool, default=True
        False only says what is known already.

    Returns
    -------
    str or None
        What is wrong, in one line; None if the layer runs.

    Examples
    --------
    >>> from fastnn.runtime.threads import layer_error
    >>> layer_error()
    """
    global _error
    if _error is None and start:
        try:
            with global_compiler_lock:  # no fork before the layer is started
                numba.get_num_threads()  # starts it
            _error = ""
        except ValueError as error:
            wanted = _SETTINGS.THREADING_LAYER
            _error = (
                f"Numba's threading layer {wanted!r} cannot be started ({reason(error)}): unset "
                "NUMBA_THREADING_LAYER, or install what provides it"
            )
    return _error or None


@functools.cache
def _cgroup_quota(root: str = "/") -> float:
    """Return how many CPUs the quotas of this process's control groups allow, or infinity.

    The least of the quotas of the group and of all groups above it. In a container, the path of the
    group may be that on the host, where only the files of the topmost group are visible.

    Parameters
    ----------
    root : str, default="/"
        The folder that has the folders proc and sys.

    Returns
    -------
    int or inf
        Rounded up.
    """
    try:
        lines = Path(root, "proc/self/cgroup").read_text().splitlines()
    except OSError:  # no Linux
        return math.inf
    quotas = [math.inf]
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":  # version 2
            top, files = Path(root, "sys/fs/cgroup"), ["cpu.max"]
        elif "cpu" in controllers.split(","):  # version 1
            top, files = Path(root, "sys/fs/cgroup/cpu"), ["cpu.cfs_quota_us", "cpu.cfs_period_us"]
        else:
            continue
        group = top / path.lstrip("/")
        quotas += [_quota_of(folder, files) for folder in (group, *group.parents)]
    return min(quotas)


def _quota_of(folder: Path, files: list[str]) -> float:
    """Return how many CPUs the quota and the period in the files of a control group allow."""
    try:
        quota, period = " ".join((folder / file).read_text() for file in files).split()
    except (OSError, ValueError):
        return math.inf
    return math.inf if quota in ("max", "-1") else math.ceil(int(quota) / int(period))


@functools.cache
def _openmp_setting() -> float:
    """Return the first number in OMP_NUM_THREADS, for the outermost loops, or infinity."""
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) > 0 else math.inf


@functools.cache
def _available_in(period: int) -> int:
    """Return how many CPUs this process may use in a period of time."""
    _available_in.cache_clear()  # forgets the periods before
    try:
        affinity = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        affinity = os.cpu_count() or 1
    limits = _SETTINGS.NUMBA_NUM_THREADS, affinity, _cgroup_quota(), _openmp_setting()
    return int(max(1, min(limits)))


def _available() -> int:
    """Return how many CPUs this process may use, looked up at most ten times a second.

    The number may change, but a look at the system takes 10 microseconds.
    """
    return _available_in(int(time.monotonic() / _SECONDS_BETWEEN_LOOKS))


def set_num_threads(n: int | None) -> None:
    """Set the largest number of threads that kernels use in this process.

    Parameters
    ----------
    n : int or None
        At least 1. More than `NUMBA_NUM_THREADS`, which is by default the number of CPUs that this
        process may use, means all that it may use. None restores the default of
        `get_num_threads`.

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


def get_num_threads() -> int:
    """Return the largest number of threads that kernels use.

    Returns
    -------
    int
        The number given to `set_num_threads`. By default the number of CPUs that this process may
        use: the least of its CPU affinity, the quotas of its control groups (of a container, for
        example), and the environment variables `NUMBA_NUM_THREADS` and `OMP_NUM_THREADS`.

    Examples
    --------
    >>> import fastnn
    >>> fastnn.get_num_threads() >= 1
    True
    """
    return _chosen if _chosen is not None else _available()


def check_num_threads(n: object) -> int:
    """Return a number of threads that the user gave, or raise ValueError.

    A number above the one that Numba may start comes from a larger machine, in the settings of a
    model for example: all threads are used then, and a record of the logger "fastnn" says so,
    once for each number.

    Parameters
    ----------
    n : int or None
        None is `get_num_threads()`.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If `n` is not an integer >= 1.

    Examples
    --------
    >>> from fastnn.runtime.threads import check_num_threads
    >>> check_num_threads(1)
    1
    """
    if n is None:
        return get_num_threads()
    limit = _SETTINGS.NUMBA_NUM_THREADS
    if isinstance(n, bool) or not isinstance(n, numbers.Integral) or int(n) < 1:
        raise ValueError(f"n_threads must be an integer >= 1, got {shown(n)}")
    if int(n) <= limit:
        return int(n)
    _say_that_all_are_used(int(n))
    return _available()


@functools.cache
def _say_that_all_are_used(n: int) -> None:
    _LOGGER.warning(
        "%s threads were asked for, more than this process may start: all %d are used",
        shown(n),
        _available(),
    )


def limit_teams(n: int) -> None:
    """Limit all later teams to `n` threads: the threading layer cannot run more at once."""
    global _team_limit
    _team_limit = max(1, n)


def at_most(n_threads: int) -> int:
    """Return `n_threads`, or fewer if the threading layer has failed to run so many at once."""
    return int(min(n_threads, _team_limit))


def note_wait(waited: float, seconds: float) -> None:
    """Record the times of a team, from which `at_most_now` knows whether the cores are crowded.

    Threads of another library may keep a core busy for a while after each call, as those of
    OpenBLAS do for 30 milliseconds. A thread of a team then waits for its core for one or two time
    slices.

    Parameters
    ----------
    waited : float
        Seconds for which the first thread of the team waited for the last one.
    seconds : float
        Seconds that the team took in all.
    """
    global _crowded_until, _rest
    if waited > _MOST_WAIT and waited > _MOST_WAITING * seconds:
        _rest = min(2 * _rest, _LONGEST_REST)
        _crowded_until = time.monotonic() + _rest
    else:
        _rest = _SHORTEST_REST


def at_most_now(n_threads: int) -> int:
    """Return `n_threads`, or 1 while the cores are crowded: for jobs shorter than a time slice.

    Long jobs such as a training measure by themselves how many threads are best.
    """
    return 1 if n_threads > 1 and time.monotonic() < _crowded_until else n_threads


def worthwhile(flops: float, n_threads: int, min_flops: float = MIN_FLOPS_PER_THREAD) -> int:
    """Return the number of threads that is fastest for some work, by its size.

    Parameters
    ----------
    flops : float
        Floating-point operations between two barriers.
    n_threads : int
        The largest number to return.
    min_flops : float, default=150_000
        The least work of a thread, in floating-point operations.

    Returns
    -------
    int

    Examples
    --------
    >>> from fastnn.runtime.threads import worthwhile
    >>> worthwhile(flops=200_000, n_threads=2)
    1
    """
    return max(1, min(at_most(n_threads), int(flops / min_flops)))


class parallel_region:  # noqa: N801
    """A context manager that reserves the threading layer for a team.

    It gives the number of threads that the team may have: `n_threads`, or 1 where the threading
    layer must not be entered (see the top of this file). It is a class because one made by
    `contextlib` would take longer than the rest of a launch.

    Parameters
    ----------
    n_threads : int
        The number of threads that are wanted.
    """

    __slots__ = ("_granted",)

    def __init__(self, n_threads: int) -> None:
        self._granted = n_threads

    def __enter__(self) -> int:
        if self._granted > 1 and not (_can_be_entered() and _region.acquire(blocking=False)):
            self._granted = 1
        return self._granted

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._granted > 1:
            _region.release()
