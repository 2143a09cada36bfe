"""Several Python threads in one process, and parallel loops of the user's."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
from work import X, everything, expected, team_size, use_shared, users_loop

N_THREADS = len(expected())


def eight_threads(count):
    """All do everything at once, each with nets of its own and one that they share."""
    together = threading.Barrier(N_THREADS)

    def job(k):
        together.wait()
        return everything(k)

    with ThreadPoolExecutor(N_THREADS) as pool:
        for _ in range(3 * count):
            assert list(pool.map(job, range(N_THREADS))) == expected()
    assert team_size() == 2, "threads must come back when the others have ended"
    assert everything(0) == expected()[0]


def a_users_parallel_loop_in_another_thread(count):
    """Numba's workqueue aborts a process that has two threads in parallel loops."""
    big = np.tile(X, (20, 1))
    right = users_loop(big)
    assert everything(0) == expected()[0], "between two loops of the user's"
    stop, mistakes = threading.Event(), []

    def loop():
        while not stop.is_set():
            if not np.array_equal(users_loop(big), right):
                mistakes.append(1)

    user = threading.Thread(target=loop)
    user.start()
    for _ in range(count):
        for k in range(4):
            assert everything(k) == expected()[k]
    stop.set()
    user.join()
    assert not mistakes
    assert team_size() == 2


def predictions_within_a_users_parallel_loop(count):
    right = use_shared(1)

    @numba.njit(parallel=True)
    def loop(n):
        n_right = 0
        for _ in numba.prange(n):
            with numba.objmode(same="int64"):
                same = int(use_shared(2) == right)
            n_right += same
        return n_right

    assert loop(8 * count) == 8 * count


ALL = [
    eight_threads,
    a_users_parallel_loop_in_another_thread,
    predictions_within_a_users_parallel_loop,
]
