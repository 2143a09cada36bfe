"""All processes of a contest, of which exactly one works at any moment."""

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
from multiprocessing import Pipe
from pathlib import Path

# What may hold a library back, or give it a number of threads that it was not asked to use.
_UNSET = (
    "OPENBLAS_CORETYPE",
    "OPENBLAS_L2_SIZE",
    "NUMBA_NUM_THREADS",
    "NUMBA_CPU_NAME",
    "NUMBA_CPU_FEATURES",
    "XLA_FLAGS",
    "JAX_PLATFORMS",
)
_UNSET_PREFIXES = ("OMP_", "GOMP_", "KMP_", "MKL_", "GOTO_")
_THREAD_COUNTS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class WorkerError(Exception):
    """A library could not do what it was told to."""


def n_cores():
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def environment(n_threads=None):
    """Return the environment of a process that may use so many threads, or all."""
    result = {
        name: value
        for name, value in os.environ.items()
        if name not in (*_UNSET, *_THREAD_COUNTS) and not name.startswith(_UNSET_PREFIXES)
    }
    if n_threads is not None:
        result |= dict.fromkeys(_THREAD_COUNTS, str(n_threads))
    return result | {"JAX_PLATFORMS": "cpu", "PYTHONWARNINGS": "ignore"}


def ask(script, *arguments):
    """Run a Python script in the environment of the contestants; return what it printed."""
    command = [sys.executable, str(script), *arguments]
    done = subprocess.run(command, env=environment(), stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


class Worker:
    """A library in a process of its own.

    Parameters
    ----------
    entry : contest.rivals.Entry
    n_threads : int
    folder : str
        For what it writes: compiled code, and what it has to say.
    """

    def __init__(self, entry, n_threads, folder):
        self.entry = entry
        self.n_threads = n_threads
        self.alive = True
        ours, theirs = Pipe()
        self._connection = ours
        # Compiling is measured, so what was compiled in an earlier run must not be found.
        cache = Path(folder, f"{entry.name}-{n_threads}")
        self._log_path = Path(folder, f"{entry.name}-{n_threads}.log")
        with self._log_path.open("w") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    str(Path(__file__).with_name("worker.py")),
                    str(theirs.fileno()),
                    entry.name,
                    str(n_threads),
                ],
                env=environment(n_threads) | {"TORCHINDUCTOR_CACHE_DIR": str(cache)},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        theirs.close()

    def ask(self, command, *arguments):
        """Tell it to run a method of `contest.worker.Arena`."""
        with contextlib.suppress(OSError):  # it has ended, as `answer` will find
            self._connection.send((command, *arguments))

    def answer(self):
        """Wait for the result: first of all, for nothing but that it has started.

        Raises
        ------
        WorkerError
            If it failed, or the process has ended.
        """
        try:
            kind, result = self._connection.recv()
        except (EOFError, OSError):
            self.alive = False
            lines = self._log_path.read_text(errors="replace").split("\n")
            last = next((line for line in reversed(lines) if line.strip()), "it said nothing")
            raise WorkerError(f"the process ended: {last.strip()}") from None
        if kind == "failed":
            raise WorkerError(result)
        return result

    def close(self, at_once=False):
        """End the process, whatever it is doing if it has to be at once."""
        self._connection.close()
        if at_once:
            self._process.kill()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __repr__(self):
        return f"{self.entry.name} x{self.n_threads}"


class Team:
    """Workers that take turns.

    Parameters
    ----------
    entries : sequence of contest.rivals.Entry
    section : str
        Those that take part in it are started: our own library on all cores, where it decides
        how many to use, the others on one core and on all.
    log : callable
        Told about those that do not start.
    """

    def __init__(self, entries, section, log):
        self.log = log
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        everything = n_cores()
        self._started = [
            Worker(entry, n_threads, self._folder.name)
            for entry in entries
            if section in entry.sections
            for n_threads in ([everything] if entry.ours else sorted({1, everything}))
        ]
        self.workers = []
        for worker in self._started:
            try:
                worker.answer()
            except WorkerError as error:
                log(f"left out: {worker}: {error}")
            else:
                self.workers.append(worker)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        for worker in self._started:
            worker.close(at_once=kind is not None)
        self._folder.cleanup()

    def each(self, workers, command, *arguments):
        """Let workers do the same one after the other; return a dict of the results.

        One that fails is not in it, and one whose process has ended takes no further part.
        """
        results = {}
        for worker in workers:
            results |= self.all_at_once([worker], command, *arguments)
        return results

    def all_at_once(self, workers, command, *arguments):
        """Let workers do the same together: what is not measured. Otherwise as `each`."""
        results = {}
        asked = [worker for worker in workers if worker.alive]
        for worker in asked:
            worker.ask(command, *arguments)
        for worker in asked:
            try:
                results[worker] = worker.answer()
            except WorkerError as error:
                self.log(f"{worker}: {command} failed: {error}")
        self.workers = [worker for worker in self.workers if worker.alive]
        return results

    def take_turns(self, workers, rounds, command, *arguments):
        """Let workers do the same in turn, again and again; return a dict of the medians.

        Parameters
        ----------
        workers : iterable of Worker
        rounds : int
        command, *arguments
            Something that returns seconds.
        """
        seconds = {worker: [] for worker in workers}
        for _ in range(rounds):
            for worker, result in self.each(seconds, command, *arguments).items():
                seconds[worker].append(result)
        return {worker: statistics.median(s) for worker, s in seconds.items() if s}
