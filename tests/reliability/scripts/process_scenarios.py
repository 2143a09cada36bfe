"""Child processes of a process that has used threads, or is using them."""

import ctypes
import multiprocessing
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numba
import numpy as np
from joblib import parallel_backend
from scenarios import run_in_child
from sklearn.model_selection import GridSearchCV, cross_val_score
from work import X, Y, everything, expected, fit, team_size, users_loop

import fastnn


def check(k=0):
    assert everything(k) == expected()[k]


def do_in_child(function):
    outcome = run_in_child(function)
    assert outcome == "ok", outcome


def check_in_child(size=1):
    """Fork; train, predict and fork again in the child. Teams have the given size there."""

    def in_child():
        assert team_size() == size
        check()
        do_in_child(check)
        check(1)

    do_in_child(in_child)


def children_of_a_process_with_threads(count):
    check_in_child(2)  # no threads have run yet, so it may use some
    for _ in range(count):
        check()
        assert team_size() == 2
        check_in_child()
    check()
    assert team_size() == 2, "the parent keeps its threads"


def children_of_a_users_parallel_loop(count):
    """OpenMP kills or hangs a child that uses threads, whoever used them in the parent."""
    users_loop(X)
    for _ in range(count):
        check_in_child()
    check()


def children_of_another_librarys_openmp(count):
    """PyTorch brings the library along that Numba uses as well."""
    try:
        openmp = ctypes.CDLL("libgomp.so.1")
    except OSError:
        return
    seen = []
    share = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: seen.append(threading.get_ident()))
    openmp.GOMP_parallel(share, None, 2, 0)
    assert len(set(seen)) == 2
    for _ in range(count):
        check_in_child()


def children_of_a_thread_that_trains(count):
    stop = threading.Event()

    def train():
        while not stop.is_set():
            check(2)

    check(2)
    with ThreadPoolExecutor(1) as pool:
        training = pool.submit(train)
        for k in range(3 * count):
            time.sleep(0.003 * (k % 7))
            check_in_child()
        stop.set()
        training.result()


def children_of_a_thread_that_compiles(count):
    """The compiler's lock is held by a thread that is not there in the child."""
    stop = threading.Event()

    def compile_one(k):
        names = {}
        exec(f"def add(x):\n    return x.sum() + {k}", names)
        assert numba.njit(names["add"])(np.ones(3)) == 3 + k

    def compile_many():
        k = 0
        while not stop.is_set():
            compile_one(k)
            k += 1

    with ThreadPoolExecutor(1) as pool:
        compiling = pool.submit(compile_many)
        for k in range(3 * count):
            do_in_child(lambda k=k: (compile_one(k), check()))
        stop.set()
        compiling.result()


def pools(count):
    """Executors of all kinds. Processes that start afresh take longest."""
    fresh = ["spawn"] if numba.config.THREADING_LAYER == "omp" else ["forkserver"]
    kinds = ["fork", *(fresh if count == 1 else ["spawn", "forkserver"])]
    right = [one[0] for one in expected()]
    check()
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(fit, range(8))) == right
    for kind in kinds:
        context = multiprocessing.get_context(kind)
        n_workers = 2 if kind == "fork" or count > 1 else 1
        with ProcessPoolExecutor(n_workers, mp_context=context) as pool:
            for _ in range(count):
                assert list(pool.map(fit, range(8), chunksize=2)) == right
    assert team_size() == 2


def joblib_backends(count):
    """Searches whose workers fit and predict, after a fit with threads."""
    model = fastnn.MLPClassifier(
        16, solver="sgd", max_iter=3, tol=0, n_iter_no_change=99, random_state=0, n_threads=2
    )
    search = GridSearchCV(model, {"alpha": [1e-4, 1.0]}, cv=2)
    alone = search.fit(X, Y).cv_results_["mean_test_score"]
    scores = cross_val_score(model, X, Y, cv=2)
    check()
    for _ in range(count):
        for backend in ("threading", "multiprocessing", *(["loky"] if count > 1 else [])):
            with parallel_backend(backend, n_jobs=2):
                found = search.set_params(n_jobs=2).fit(X, Y).cv_results_["mean_test_score"]
                assert found.tolist() == alone.tolist(), backend
                assert cross_val_score(model, X, Y, cv=2, n_jobs=2).tolist() == scores.tolist()
    if numba.threading_layer() != "workqueue":  # loky keeps threads for its next call
        assert team_size() == 2


ALL = [
    children_of_a_process_with_threads,
    children_of_a_users_parallel_loop,
    children_of_another_librarys_openmp,
    children_of_a_thread_that_trains,
    children_of_a_thread_that_compiles,
    pools,
    joblib_backends,
]
