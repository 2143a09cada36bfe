"""The process in which one library runs on one number of threads: it does what it is told.

Each library has processes of its own, because OpenMP runtimes, BLAS and their numbers of threads
get into each other's way in one. A command is the name of a method of `Arena` and its arguments;
the answer is ("done", result) or ("failed", message). `contest.team` is the other end.

The peers' script starts it: ``python worker.py FILE_DESCRIPTOR LIBRARY THREADS``.
"""

import math
import os
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

# After a parallel region, threads may wait for the next one by spinning, for up to some tenths of a
# second: until they stop, nobody else can be measured.
_NAP, _IDLE_SHARE, _MAX_NAPS = 0.004, 0.1, 100

# Of an element of a product, as a part of the largest.
_TOLERANCES = {"float32": 1e-4, "float64": 1e-10}


def settle():
    """Wait until no thread of this process is running any more."""
    for _ in range(_MAX_NAPS):
        before = time.process_time()
        time.sleep(_NAP)
        if time.process_time() - before < _IDLE_SHARE * _NAP:
            return


def _random_matrix(rng, rows, columns, dtype, transposed):
    if transposed:
        return rng.standard_normal((columns, rows), dtype=dtype).T
    return rng.standard_normal((rows, columns), dtype=dtype)


class Arena:
    """Runs one library.

    Parameters
    ----------
    entry : contest.rivals.Entry
    n_threads : int
    """

    def __init__(self, entry, n_threads):
        self.rival = entry.load(n_threads)

    def prepare(self, cell, warm_seconds):
        """Get ready to train a cell, and warm up.

        Returns
        -------
        float
            Seconds that the first epoch took longer than the last: compiling, and all else that
            happens once.
        """
        X, y = cell.data()
        began = time.perf_counter()
        self.rival.prepare(cell, X, y, seed=0)
        self.rival.run_epochs(1)
        first = time.perf_counter() - began
        self._steps = cell.steps
        self._epoch_seconds = first
        self._run(warm_seconds)
        return max(first - self._epoch_seconds, 0.0)

    def round(self, min_seconds):
        """Train for at least so long; return the seconds of a step."""
        return self._run(min_seconds)

    def _run(self, min_seconds):
        seconds = epochs = 0
        while seconds < min_seconds or not epochs:
            left = (min_seconds - seconds) / max(self._epoch_seconds, 1e-6)
            count = max(1, math.ceil(left))
            seconds += self.rival.seconds_of_epochs(count)
            epochs += count
            self._epoch_seconds = seconds / epochs
        return self._epoch_seconds / self._steps

    def study(self, path, cell, goal):
        """Get ready to learn what `path`, a file of arrays, holds; compile all that it takes."""
        with np.load(path) as arrays:
            data = [arrays[name] for name in ("X", "y", "X_test", "y_test")]
        self._goal, (X, y, *self._test) = goal, data
        self.rival.prepare(cell, X, y, seed=0)
        self.rival.run_epochs(1)
        self.rival.predict(self._test[0])

    def begin(self, seed):
        """Forget what was learnt, and begin with other parameters."""
        self.rival.reset(seed)

    def epoch(self):
        """Train for an epoch; return its seconds, and the score on the test set."""
        began = time.perf_counter()
        self.rival.run_epochs(1)
        seconds = time.perf_counter() - began
        return seconds, self._goal.rate(self.rival.predict(self._test[0]), self._test[1])

    def prepare_calls(self, cell, x, warm_seconds):
        """Get ready to predict x with a cell's weights; return the outputs."""
        self._x = x
        self._call = self.rival.prepare_inference(cell, cell.weights())
        out = self._call(x)  # compiles
        began = time.perf_counter()
        self._call(x)
        self._call_seconds = max(time.perf_counter() - began, 1e-6)
        self.round_of_calls(warm_seconds)
        return out

    def prepare_products(self, shape, dtype, layout, n_threads, warm_seconds):
        """Get ready to multiply random matrices, M x K by K x N; check a product.

        In the layout a letter for each says whether it is the transpose ("t") of a contiguous one.
        """
        m, n_k, n = shape
        rng = np.random.default_rng(0)
        a = _random_matrix(rng, m, n_k, dtype, layout[0] == "t")
        b = _random_matrix(rng, n_k, n, dtype, layout[1] == "t")
        out = np.full((m, n), np.nan, dtype)
        multiply = self.rival.prepare_products(a, b, out, n_threads)
        self._x, self._call, self._call_seconds = None, lambda _: multiply(), 1.0
        self.round_of_calls(warm_seconds)
        rows = rng.integers(0, m, 50)  # of a large product, a sample is enough
        expected = a[rows].astype(np.float64) @ b.astype(np.float64)
        tolerance = _TOLERANCES[dtype] * max(np.abs(expected).max(), 1e-30)
        if not np.abs(out[rows] - expected).max() < tolerance:
            raise ValueError("the product is wrong")

    def round_of_calls(self, min_seconds):
        """Predict again and again for at least so long; return the seconds of a call."""
        call, x = self._call, self._x
        seconds = calls = 0
        while seconds < min_seconds:
            count = max(1, math.ceil((min_seconds - seconds) / self._call_seconds))
            began = time.perf_counter()
            for _ in range(count):
                call(x)
            seconds += time.perf_counter() - began
            calls += count
            self._call_seconds = seconds / calls
        return self._call_seconds

    def release(self):
        """Forget everything."""
        kept = self.rival
        kept.release()
        self.__dict__ = {"rival": kept}


def serve(connection, arena):
    """Do as told until the other end is closed."""
    while True:
        try:
            command, *arguments = connection.recv()
        except EOFError:
            return
        try:
            answer = ("done", getattr(arena, command)(*arguments))
        except Exception as error:
            text = str(error).strip() or "no message"
            answer = ("failed", f"{type(error).__name__}: {text.splitlines()[0]}")
        settle()
        connection.send(answer)


def main():
    """Start the library named on the command line, and serve."""
    descriptor, name, n_threads = sys.argv[1:]
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from contest.rivals import ENTRIES

    connection = Connection(int(descriptor))
    entry, n_threads = ENTRIES[name], int(n_threads)
    if entry.pinned and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[-n_threads:])
    try:
        arena = Arena(entry, n_threads)
    except Exception as error:
        connection.send(("failed", f"{type(error).__name__}: {error}"))
        return
    connection.send(("done", None))
    serve(connection, arena)


if __name__ == "__main__":
    main()
