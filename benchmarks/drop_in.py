"""Whole fits of `fastnn.MLPClassifier` beside scikit-learn's: the same data, seed and epochs.

Prints how many times as fast, and writes the table and the machine to a file::

    python -m pip install -e ".[sklearn,data,bench]"
    python benchmarks/drop_in.py --data FOLDER --markdown benchmarks/DROP_IN.md

Each contestant has a process of its own, set up for its number of threads, and they take turns.
scikit-learn runs on one thread and on all; its better time counts. fastnn may use all. Nothing is
compiled in the measured fits. In float64 both must have the same losses. Data that is not in the
folder is left out.
"""

import argparse
import datetime
import importlib.metadata
import os
import platform
import statistics
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from contest.context import geometric_mean
from contest.report import Table, number
from contest.team import environment, n_cores
from machine import cpu_model

TASKS = {
    # Name: (hidden layers, epochs, more parameters).
    "200 rows, 20-64-64-2": ((64, 64), 50, {}),
    "small, 20-64-64-2": ((64, 64), 40, {"batch_size": 32}),
    "digits, 64-100-10": ((100,), 40, {}),
    "Adult one-hot, 108-100-2": ((100,), 4, {}),
    "covertype, 54-256-256-7": ((256, 256), 4, {}),
    "MNIST, 784-128-10": ((128,), 2, {}),
    "sparse text, 10000-100-20": ((100,), 3, {}),
}
LEAST, MEANS = 1.3, {"float64": 2.5, "float32": 4.0}


def _blobs(n, features, classes):
    from sklearn.datasets import make_classification

    return make_classification(
        n, features, n_informative=features // 2, n_classes=classes, random_state=0
    )


def _table(path, target, **options):
    from fastnn.data.table_encoder import TableEncoder
    from fastnn.datasets import load

    data = load(path, target=target, **options)
    rows = np.arange(len(data))
    encoder = TableEncoder.fit(data, rows=rows, task="classification")
    X = encoder.transform(data, rows=rows).astype(np.float64)
    return X, encoder.encode_target(data, rows=rows)


def _sparse_text(n=4000, n_words=10_000, words_a_text=80, n_topics=20):
    """Texts whose words are drawn by their topic, as counts in a CSR matrix."""
    from scipy import sparse

    rng = np.random.default_rng(0)
    y = rng.integers(0, n_topics, n)
    common = rng.power(0.35, (n, words_a_text // 2)) * n_words
    own = y[:, None] * n_words / n_topics + rng.power(0.5, common.shape) * n_words / n_topics
    columns = np.hstack([common, own]).astype(int)
    rows = np.repeat(np.arange(n), columns.shape[1])
    counts = np.ones(columns.size)
    return sparse.csr_array((counts, (rows, columns.ravel())), shape=(n, n_words)), y


def load_task(name, folder):
    """Return X in float64 and y of a task, or None where its data is not there."""
    kind = name.partition(",")[0]
    if kind == "200 rows":
        return _blobs(200, 20, 2)
    if kind == "small":
        return _blobs(3200, 20, 2)
    if kind == "digits":
        from sklearn.datasets import load_digits

        X, y = load_digits(return_X_y=True)
        return X / 16, y
    if kind == "sparse text":
        return _sparse_text()
    places = {
        "Adult one-hot": ("tabular/adult_train.data", -1),
        "covertype": ("tabular/covtype_subset_24744.csv.gz", -1),
        "MNIST": ("mnist", None),
    }
    source, target = places[kind]
    path = Path(folder, source)
    if not path.exists():
        return None
    if kind == "MNIST":
        from fastnn.datasets import load

        data = load(path)
        return data.X.astype(np.float64), data.y
    return _table(path, target)


@cache
def _task(name, folder, dtype):
    X, y = load_task(name, folder)
    return X.astype(dtype), y


def fit(library, name, folder, dtype):
    """Fit an estimator; return the seconds, and its losses."""
    if library == "fastnn":
        from fastnn import MLPClassifier
    else:
        from sklearn.neural_network import MLPClassifier
    hidden, epochs, more = TASKS[name]
    X, y = _task(name, folder, dtype)
    model = MLPClassifier(hidden, max_iter=epochs, n_iter_no_change=epochs, random_state=0, **more)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        began = time.perf_counter()
        model.fit(X, y)
        return time.perf_counter() - began, model.loss_curve_


class Contestant:
    """A library in a process of its own."""

    def __init__(self, library, n_threads):
        self.library, self.n_threads = library, n_threads
        before = dict(os.environ)
        os.environ.clear()
        os.environ.update(environment(n_threads))
        try:
            self._pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
            self._pool.submit(os.getpid).result()
        finally:
            os.environ.clear()
            os.environ.update(before)

    def fit(self, *arguments):
        return self._pool.submit(fit, self.library, *arguments).result()


def measure(contestants, name, folder, dtype, rounds):
    """Return the median seconds of fastnn and of the best of the others, and who that is."""
    seconds = {contestant: [] for contestant in contestants}
    losses = {}
    for contestant in contestants:  # reads the data, and compiles
        _, losses[contestant.library] = contestant.fit(name, folder, dtype)
    if dtype == "float64":
        np.testing.assert_allclose(losses["fastnn"], losses["scikit-learn"], rtol=1e-6)
    for _ in range(rounds):
        for contestant in contestants:
            seconds[contestant].append(contestant.fit(name, folder, dtype)[0])
    medians = {c: statistics.median(values) for c, values in seconds.items()}
    ours = next(medians[c] for c in contestants if c.library == "fastnn")
    best = min((c for c in contestants if c.library != "fastnn"), key=medians.get)
    return ours, medians[best], best.n_threads


def _machine():
    """Lines that say where it was measured."""
    versions = [
        f"{name} {importlib.metadata.version(name)}"
        for name in ("numpy", "numba", "scipy", "scikit-learn")
    ]
    return [
        f"- Machine: {cpu_model()}, {n_cores()} cores, {platform.platform()}",
        f"- Python {platform.python_version()}, {', '.join(versions)}",
    ]


def main():
    """Measure all tasks in both dtypes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default=str(Path(__file__).parents[2] / "shared" / "data"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="a part of the names of the tasks to run")
    parser.add_argument("--markdown", type=Path)
    arguments = parser.parse_args()
    cores = n_cores()
    contestants = [Contestant("fastnn", cores)]
    contestants += [Contestant("scikit-learn", n) for n in sorted({1, cores})]
    table = Table(["data, net", "dtype", "fastnn, s", "scikit-learn, s", "threads", "ratio"])
    ratios = {dtype: [] for dtype in MEANS}
    for name in TASKS:
        if arguments.only not in name or load_task(name, arguments.data) is None:
            continue
        for dtype, found in ratios.items():
            ours, theirs, threads = measure(
                contestants, name, arguments.data, dtype, arguments.rounds
            )
            found.append(theirs / ours)
            row = [name, dtype, number(ours), number(theirs), str(threads), f"{theirs / ours:.2f}"]
            table.rows.append(row)
            print("  ".join(row), flush=True)
    lines = [
        "# Whole fits beside scikit-learn's",
        "",
        f"Measured on {datetime.date.today()} by `python benchmarks/drop_in.py`, median of "
        f"{arguments.rounds} rounds. Seconds of a whole `MLPClassifier.fit` with the same "
        "parameters, seed, data and number of epochs; scikit-learn on one thread or all, whichever "
        "is faster.",
        "",
        *_machine(),
        "",
        *table.markdown(),
        "",
    ]
    for dtype, found in ratios.items():
        mean, least = geometric_mean(found), min(found)
        lines.append(
            f"- {dtype}: geometric mean {mean:.2f} (target {MEANS[dtype]:g}), least {least:.2f} "
            f"(target {LEAST:g})"
        )
    print("\n".join(lines))
    if arguments.markdown is not None:
        arguments.markdown.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
