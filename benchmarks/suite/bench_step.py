"""Training steps with Adam, and predictions from Python."""

import itertools

import numpy as np

from fastnn import Affine, ReLU, Sequential
from fastnn.training import Trainer

from . import common  # before the contest, whose folder it adds to the path

from contest.cells import Cell  # isort: skip
from contest.rivals.blas import NumPy  # isort: skip

NETS = ["784-128-10@128", "64-100-10@200", "20-64-64-2@32"]
DEEP_NET = "64-128-128-128-10@128"
STEPS = 10
ROWS = [1, 32, 1024]


def make_net(sizes, dtype):
    """Return a classifier with ReLU between its layers."""
    layers = []
    for n_inputs, n_outputs in itertools.pairwise(sizes):
        layers += [Affine(n_inputs, n_outputs), ReLU()]
    return Sequential(layers[:-1], seed=0, dtype=dtype)


def make_deep_net(sizes, dtype):
    """Return it with batch normalisation, dropout, and a way around each layer of equal widths."""
    from fastnn import BatchNorm, Dropout, Residual  # which older versions do not have

    layers = []
    for n_in, n_out in itertools.pairwise(sizes[:-1]):
        block = [Affine(n_in, n_out), BatchNorm(n_out), ReLU(), Dropout(0.2)]
        layers += [Residual(block)] if n_in == n_out else block
    return Sequential([*layers, Affine(*sizes[-2:])], seed=0, dtype=dtype)


def epoch(library, net, dtype, threads, make=make_net):
    """Return a call that trains an epoch of STEPS steps; NumPy's net is always an ordinary one."""
    cell = Cell.parse(f"{net}/{dtype}")
    n_samples = STEPS * cell.batch
    X = common.normal(n_samples, cell.sizes[0], dtype=dtype)
    y = np.random.default_rng(0).integers(0, cell.sizes[-1], n_samples)
    if library == "numpy":
        rival = NumPy(threads)
        rival.prepare(cell, X, y, seed=0)
        return lambda: rival.run_epochs(1)
    trainer = Trainer(
        make(cell.sizes, dtype),
        "softmax_cross_entropy",
        "adam",
        cell.batch,
        n_threads=threads,
    )
    trainer.use_all_threads = True  # otherwise it would choose, and the parameter would say nothing
    trainer.set_data(X, y)
    order = np.random.default_rng(0).permutation(n_samples)
    return lambda: trainer.run_epoch(order)


class Step(common.Timed):
    """Seconds of a training step."""

    params = (common.LIBRARIES, NETS, common.DTYPES, common.THREADS)
    param_names = ("library", "net", "dtype", "threads")

    def setup(self, library, net, dtype, threads):
        self.use(epoch, (library, net, dtype, threads), inside=STEPS)

    def time_step(self, library, net, dtype, threads):
        self.run()


class StepMemory(common.Timed):
    """Bytes of a process that trains."""

    params = (common.LIBRARIES, NETS[:1], common.DTYPES, common.THREADS)
    param_names = ("library", "net", "dtype", "threads")

    def setup(self, library, net, dtype, threads):
        self.use(epoch, (library, net, dtype, threads))

    def peakmem_step(self, library, net, dtype, threads):
        self.run()


class StepRatio(common.Timed):
    """Times of fastnn over NumPy's."""

    params = (NETS, common.DTYPES, common.THREADS)
    param_names = ("net", "dtype", "threads")

    def setup(self, net, dtype, threads):
        for library in common.LIBRARIES:
            common.ready(epoch, library, net, dtype, threads)

    def track_time_ratio_vs_numpy(self, net, dtype, threads):
        return common.ratio_vs_numpy(epoch, net, dtype, threads)

    track_time_ratio_vs_numpy.unit = "fastnn / numpy"


def deep_epoch(library, net, dtype, threads):
    """Return `epoch` of a deep net."""
    return epoch(library, net, dtype, threads, make_deep_net)


class DeepStepRatio(common.Timed):
    """Times of fastnn with all layers over NumPy's without them."""

    params = ([DEEP_NET], common.DTYPES[:1], common.THREADS)
    param_names = ("net", "dtype", "threads")

    def setup(self, net, dtype, threads):
        for library in common.LIBRARIES:
            common.ready(deep_epoch, library, net, dtype, threads)

    def track_time_ratio_vs_numpy(self, net, dtype, threads):
        return common.ratio_vs_numpy(deep_epoch, net, dtype, threads)

    track_time_ratio_vs_numpy.unit = "fastnn / numpy"


def prediction(library, rows, dtype, threads):
    """Return a call that predicts some rows."""
    cell = Cell.parse(f"{NETS[0]}/{dtype}")
    x = common.normal(rows, cell.sizes[0], dtype=dtype)
    if library == "numpy":
        predict = NumPy(threads).prepare_inference(cell, cell.weights())
        return lambda: predict(x)
    net = make_net(cell.sizes, dtype)
    return lambda: net.predict(x, n_threads=threads)


class Prediction(common.Timed):
    """Seconds of a prediction of the first of the nets."""

    params = (common.LIBRARIES, ROWS, common.DTYPES, common.THREADS)
    param_names = ("library", "rows", "dtype", "threads")

    def setup(self, library, rows, dtype, threads):
        self.use(prediction, (library, rows, dtype, threads), repeats=max(1, 200 // rows))

    def time_predict(self, library, rows, dtype, threads):
        self.run()


class PredictionRatio(common.Timed):
    """Times of fastnn over NumPy's."""

    params = (ROWS, ["float32"], common.THREADS)
    param_names = ("rows", "dtype", "threads")

    def setup(self, rows, dtype, threads):
        for library in common.LIBRARIES:
            common.ready(prediction, library, rows, dtype, threads)

    def track_time_ratio_vs_numpy(self, rows, dtype, threads):
        return common.ratio_vs_numpy(prediction, rows, dtype, threads)

    track_time_ratio_vs_numpy.unit = "fastnn / numpy"
