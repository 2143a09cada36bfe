"""Whole fits of `fastnn.MLPClassifier` beside scikit-learn's, with all that surrounds the steps."""

import warnings

import numpy as np

from . import common

LIBRARIES = ["fastnn", "sklearn"]
# Name: rows, inputs, hidden layers, classes, batch.
TASKS = {
    "400 rows, 20-64-64-2@32": (400, 20, (64, 64), 2, 32),
    "2000 rows, 64-100-10@200": (2000, 64, (100,), 10, 200),
}
EPOCHS = 4


def fit(library, task, dtype, threads):
    """Return a call that fits a classifier."""
    # Here, because scikit-learn takes a second to import, which the other benchmarks need not.
    if library == "fastnn":
        from fastnn import MLPClassifier

        options = {"n_threads": threads}
    else:
        from sklearn.neural_network import MLPClassifier

        options = {}
    warnings.filterwarnings("ignore", message="Stochastic Optimizer: Maximum iterations")
    n_rows, n_inputs, hidden, n_classes, batch = TASKS[task]
    X = common.normal(n_rows, n_inputs, dtype=dtype)
    y = np.arange(n_rows) % n_classes
    model = MLPClassifier(hidden, max_iter=EPOCHS, batch_size=batch, random_state=0, **options)
    return lambda: model.fit(X, y)


class Fit(common.Timed):
    """Seconds of a fit of a few epochs."""

    params = (LIBRARIES, list(TASKS), common.DTYPES, common.THREADS)
    param_names = ("library", "task", "dtype", "threads")
    rounds = 1

    def setup(self, library, task, dtype, threads):
        self.use(fit, (library, task, dtype, threads))

    def time_fit(self, library, task, dtype, threads):
        self.run()


class FitMemory(common.Timed):
    """Bytes of a process that fits."""

    params = (LIBRARIES, list(TASKS)[1:], common.DTYPES, common.THREADS)
    param_names = ("library", "task", "dtype", "threads")

    def setup(self, library, task, dtype, threads):
        self.use(fit, (library, task, dtype, threads))

    def peakmem_fit(self, library, task, dtype, threads):
        self.run()


class FitRatio(common.Timed):
    """Times of fastnn over scikit-learn's."""

    params = (list(TASKS), ["float32"], common.THREADS)
    param_names = ("task", "dtype", "threads")

    def setup(self, task, dtype, threads):
        for library in LIBRARIES:
            common.ready(fit, library, task, dtype, threads)

    def track_time_ratio_vs_sklearn(self, task, dtype, threads):
        calls = (common.ready(fit, library, task, dtype, threads) for library in LIBRARIES)
        return common.ratio_of_times(*calls, n_threads=threads)

    track_time_ratio_vs_sklearn.unit = "fastnn / sklearn"
