"""Use the library for a long time in one process, in every way, and see what it leaves behind.

    python tests/reliability/soak.py [--minutes 30] [--seed 0]

Each round does all of `ACTIONS` once, in an order that the seed decides: fits, predictions, files,
copies, estimators, bad arguments, interrupts. Each action checks its own results, too. After a
warm-up the process must stay as it is: no more memory, file handles, threads or temporary files,
and no slower steps. The table at the end says what was done and found; the exit status is 1 if
something grew.
"""

import argparse
import contextlib
import copy
import ctypes
import gc
import itertools
import os
import pickle
import random
import signal
import statistics
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
from scipy import sparse

import fastnn
from fastnn import (
    GELU,
    SGD,
    Activation,
    Adam,
    Affine,
    BatchNorm,
    Callback,
    Dropout,
    EarlyStopping,
    LayerNorm,
    MLPClassifier,
    MLPRegressor,
    Perceptron,
    Regularization,
    ReLU,
    Residual,
    Sequential,
    Tanh,
)
from fastnn.errors import ModelFileError
from fastnn.inspection import integrated_gradients, saliency
from fastnn.losses import Huber
from fastnn.training import Objective, Trainer

MOST_MEMORY = 5 * 2**20
"""Bytes by which the resident memory may grow after the warm-up."""
MOST_DRIFT = 1.5
"""How much slower a step may become, in units of a NumPy loop measured at the same times."""

_PROC = Path("/proc/self")


def resident_memory():
    """Return the bytes of this process that are in memory, without what malloc holds back."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    return int((_PROC / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def open_handles():
    """Return how many file handles this process has."""
    return len(os.listdir(_PROC / "fd")) - 1  # that of the folder itself


def running_threads():
    """Return how many threads the operating system runs for this process."""
    return len(os.listdir(_PROC / "task"))


# --- what is done ---------------------------------------------------------------------------------

# Functions of the module: a new pair would be compiled anew, and its machine code kept for good.


def _softsign(z):
    return z / (1 + abs(z))


def _softsign_slope(z):
    return 1 / (1 + abs(z)) ** 2


def small_net(seed=0, dtype="float32"):
    """Return an ordinary net of 6 inputs and 3 outputs."""
    return Sequential([Affine(6, 40), ReLU(), Affine(40, 3)], seed=seed, dtype=dtype)


def deep_net(seed=0, dtype="float32"):
    """Return a net with one of each kind of layer that has kernels of its own."""
    block = [Affine(30, 30), BatchNorm(30), GELU(), Dropout(0.2)]
    layers = [Affine(6, 30), LayerNorm(30), Tanh(), Residual(block), Affine(30, 3)]
    return Sequential(layers, seed=seed, dtype=dtype)


def own_net(seed=0, dtype="float32"):
    """Return a net with a function of the user's."""
    own = Activation(_softsign, _softsign_slope)
    return Sequential([Affine(6, 30), own, Affine(30, 3)], seed=seed, dtype=dtype)


def same(a, b):
    """Raise AssertionError unless two arrays have the same numbers."""
    np.testing.assert_array_equal(a, b)


class Raises:
    """Let a block pass if it raises what it should."""

    def __init__(self, kind):
        self.kind = kind

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        assert kind is not None and issubclass(kind, self.kind), f"{self.kind} expected"
        return True


class _Interrupts(Callback):
    """Raise an exception at the end of the second epoch."""

    def __init__(self, error):
        self.error = error

    def on_epoch_end(self, epoch, logs):
        if epoch == 1:
            raise self.error


class World:
    """Data and a folder, which all actions share.

    Parameters
    ----------
    folder : path-like
        For model files.
    seed : int
    """

    def __init__(self, folder, seed):
        self.folder = Path(folder)
        self.random = random.Random(seed)
        rng = np.random.default_rng(seed)
        self.X = rng.normal(size=(500, 6))
        self.y = rng.integers(0, 3, 500)
        self.thin = sparse.random_array((500, 6), density=0.4, format="csr", rng=rng)

    def dtype(self):
        return self.random.choice(["float32", "float64"])

    def batch(self):
        return self.random.randrange(2, 300)

    def net(self):
        """Return a net that can be saved."""
        make = self.random.choice([small_net, deep_net])
        return make(self.random.randrange(1000), self.dtype())

    def rows(self):
        """Number of rows to train on: never a last batch of one row."""
        return 2 * self.random.randrange(60, 250)


OPTIMIZERS = ("sgd", "adam", "nadam", "rmsprop", "adagrad", "adamw")
REGRESSION_LOSSES = ("mse", "mae", "poisson", Huber(0.5), "squared_error")


def load_all_kernels(world):
    """Do what an action may draw by chance later, so that all machine code is there."""
    for dtype in ("float32", "float64"):
        for make, optimizer in itertools.product((small_net, deep_net), OPTIMIZERS):
            fit_once(world, make(0, dtype), optimizer=optimizer)
        for loss in REGRESSION_LOSSES:
            fit_a_regression(world, dtype, loss)
        fit_with_own_function(world, dtype)
        fit_once(world, small_net(0, dtype), optimizer=SGD(0.1, momentum=0.9))
        fit_once(world, small_net(0, dtype), optimizer=SGD(0.1, momentum=0.9, nesterov=True))
        for kind, activation in itertools.product(
            (MLPClassifier, MLPRegressor), ("relu", "tanh", "logistic", "identity")
        ):
            for solver in ("adam", "sgd", "lbfgs"):
                estimate(world, kind, solver, activation, dtype)


def fit(world):
    fit_once(world, world.net(), world.random.choice(OPTIMIZERS))


def fit_once(world, net, optimizer):
    n = world.rows()
    net.fit(
        world.X[:n], world.y[:n], epochs=3, batch_size=n // 2, optimizer=optimizer,
        schedule=world.random.choice(["linear", "cosine", "one_cycle", "step"]),
        validation_data=(world.X, world.y), callbacks=[EarlyStopping(patience=1)],
        regularization=Regularization(l1=1e-5, l2=1e-4, max_norm=3.0),
        sample_weight=np.ones(n), class_weight="balanced",
        n_threads=world.random.choice([1, None]),
    )  # fmt: skip


def fit_a_regression(world, dtype=None, loss=None):
    net = Sequential([Affine(6, 20), Tanh(), Affine(20, 1)], dtype=dtype or world.dtype())
    loss = loss or world.random.choice(REGRESSION_LOSSES)
    optimizer = Adam(0.01, clip_norm=1.0, clip_value=0.5)
    net.fit(world.X, np.abs(world.X[:, 0]), loss=loss, optimizer=optimizer, epochs=2)


def fit_with_own_function(world, dtype=None):
    net = own_net(dtype=dtype or world.dtype())
    net.fit(world.X, world.y, epochs=2)
    same(copy.deepcopy(net).predict(world.X), net.predict(world.X))


def fit_sparse(world):
    net = world.net()
    net.fit(world.thin, world.y, epochs=2, batch_size=50)
    np.testing.assert_allclose(net.predict(world.thin), net.predict(world.thin.toarray()), 1e-3, 1)


def predict(world):
    net = world.net()
    out = net.predict(world.X)
    for n_rows in (1, 2, 7, 63, 499, 500):
        same(net.predict(world.X[:n_rows]), out[:n_rows])
    same(net.predict(np.asfortranarray(world.X), n_threads=1), out)


def predict_many_rows(world):
    net = world.net()
    X = np.tile(world.X, (40, 1))
    same(net.predict(X)[-500:], net.predict(world.X))


def save_and_load(world):
    net, path = world.net(), world.folder / "net.safetensors"
    net.save(path, metadata={"round": "1"})
    same(Sequential.load(path).predict(world.X[:9]), net.predict(world.X[:9]))
    with Raises(FileExistsError):
        net.save(path, overwrite=False)
    path.unlink()


def load_a_damaged_file(world):
    path = world.folder / "damaged.safetensors"
    small_net().save(path)
    data = path.read_bytes()
    path.write_bytes(data[: world.random.randrange(len(data))])
    with Raises(ModelFileError):
        Sequential.load(path)
    path.unlink()


def save_to_nowhere(world):
    with Raises(FileNotFoundError):
        small_net().save(world.folder / "missing" / "net.safetensors")
    with Raises(ValueError):
        own_net().save(world.folder / "net.safetensors")  # its functions cannot be written


def freeze_and_copy(world):
    net = world.net()
    out = net.predict(world.X[:70])
    same(net.freeze().predict(world.X[:70]), out)
    same(copy.deepcopy(net.freeze()).predict(world.X[:70]), out)
    same(copy.copy(net).predict(world.X[:70]), out)


def pickle_a_net(world):
    net = small_net(world.random.randrange(99))
    same(pickle.loads(pickle.dumps(net)).predict(world.X), net.predict(world.X))
    same(pickle.loads(pickle.dumps(net.freeze())).predict(world.X), net.predict(world.X))


def train_by_epochs(world):
    order = np.arange(500)
    trainer = Trainer(small_net(), "softmax_cross_entropy", "adam", world.batch())
    trainer.set_data(world.X, world.y)
    trainer.run_epoch(order)
    other = pickle.loads(pickle.dumps(trainer))
    third = copy.deepcopy(trainer)
    third.restore(trainer.state())
    assert trainer.run_epoch(order) == other.run_epoch(order) == third.run_epoch(order)
    trainer.batch_size = world.batch()
    trainer.set_data(world.thin, world.y)
    trainer.run_epoch(order)


def estimate(world, kind=None, solver=None, activation=None, dtype=None):
    choose = world.random.choice
    kind = kind or choose([MLPClassifier, MLPRegressor])
    model = kind(
        hidden_layer_sizes=(20, 7), solver=solver or choose(["adam", "sgd", "lbfgs"]), max_iter=3,
        activation=activation or choose(["relu", "tanh", "logistic", "identity"]),
        random_state=0, dtype=dtype or world.dtype(), warm_start=True,
    )  # fmt: skip
    model.fit(world.X, world.y)
    model.fit(world.X, world.y)
    same(pickle.loads(pickle.dumps(model)).predict(world.X), model.predict(world.X))
    kind.from_sklearn(model.to_sklearn()).predict(world.thin)


def estimate_in_parts(world):
    model = MLPClassifier((20,), random_state=0)
    for part in range(5):
        rows = slice(100 * part, 100 * part + 100)
        model.partial_fit(world.X[rows], world.y[rows], classes=[0, 1, 2])
    twin = copy.deepcopy(model)
    for one in (model, twin):
        one.partial_fit(world.thin, world.y)
    same(twin.coefs_[0], model.coefs_[0])


def stop_estimator_early(world):
    MLPClassifier((10,), early_stopping=True, max_iter=3, random_state=1).fit(world.X, world.y)


def give_bad_arguments(world):
    net = world.net()
    for change in (
        {"batch_size": 0}, {"epochs": "many"}, {"loss": "none"}, {"optimizer": 3}, {"alpha": -1},
        {"schedule": "sometimes"}, {"n_threads": 0}, {"sample_weight": np.ones(3)},
        {"validation_data": 1}, {"regularization": 1}, {"class_weight": "fair"},
    ):  # fmt: skip
        with Raises(ValueError):
            net.fit(world.X, world.y, **change)
    for X, y in ((world.X[:, :3], world.y), (world.X, world.y[:7]), (world.X * np.nan, world.y)):
        with Raises(ValueError):
            net.fit(X, y)
    with Raises(ValueError):
        net.predict(world.X[:, :3])
    with Raises(ValueError):
        Sequential([Affine(2, 3), Affine(2, 3)])


def a_callback_that_raises(world):
    net = world.net()
    for error in (RuntimeError("no"), KeyboardInterrupt(), MemoryError(), SystemExit(1)):
        with Raises(type(error)):
            net.fit(world.X, world.y, epochs=3, callbacks=[_Interrupts(error)])
    assert np.isfinite(net.predict(world.X)).all()


def interrupt_by_a_signal(world):
    net = small_net()
    signal.setitimer(signal.ITIMER_REAL, 0.05 + 0.1 * world.random.random())
    with Raises(KeyboardInterrupt):
        net.fit(world.X, world.y, epochs=100_000, batch_size=20)
    assert np.isfinite(net.predict(world.X)).all()


def diverge(world):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        history = small_net().fit(world.X * 1e9, world.y, optimizer=SGD(1e30), epochs=5)
    assert np.isnan(history["loss"][-1])


def predict_in_threads(world):
    net = world.net()
    out = net.predict(world.X)
    results = []
    workers = [
        threading.Thread(target=lambda: results.append(net.predict(world.X))) for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for result in results:
        same(result, out)
    assert len(results) == 3


def look_inside(world):
    net = small_net()
    integrated_gradients(net, world.X[:3], 1)
    saliency(net, world.X[:3], 1)
    objective = Objective(net, "softmax_cross_entropy", world.X, world.y)
    objective(objective.parameters())


def other_parts(world):
    n = world.random.randrange(1, 300)
    product = fastnn.matmul(np.ones((n, 7)), np.ones((7, n)))
    assert (product == 7).all()
    Perceptron(6, seed=0).fit(world.X, world.y > 0, epochs=2)
    fastnn.set_num_threads(1)
    small_net().predict(world.X)
    fastnn.set_num_threads(None)


ACTIONS = (
    fit, fit_a_regression, fit_with_own_function, fit_sparse, predict, predict_many_rows,
    save_and_load, load_a_damaged_file, save_to_nowhere, freeze_and_copy, pickle_a_net,
    train_by_epochs, estimate, estimate_in_parts, stop_estimator_early, give_bad_arguments,
    a_callback_that_raises, interrupt_by_a_signal, diverge, predict_in_threads, look_inside,
    other_parts,
)  # fmt: skip
"""All that is done in a round, in an order that the seed decides."""


# --- what is measured -----------------------------------------------------------------------------


class _StepClock:
    """Times steps of one trainer against a loop of NumPy's, at the same moments."""

    def __init__(self, world):
        net = Sequential([Affine(6, 64), ReLU(), Affine(64, 64), ReLU(), Affine(64, 3)], seed=0)
        self._trainer = Trainer(net, "softmax_cross_entropy", SGD(1e-9), 50, n_threads=1)
        self._trainer.set_data(world.X, world.y)
        self._order = np.arange(500)
        self._a = np.random.default_rng(0).normal(size=20_000)

    def sample(self):
        """Return the time of some steps as a share of that of the loop: the best of five each."""
        steps, loops = [], []
        for _ in range(5):
            began = time.perf_counter()
            self._trainer.run_epoch(self._order)
            between = time.perf_counter()
            for _ in range(25):
                np.sqrt(self._a * self._a + 1.0)
            loops.append(time.perf_counter() - between)
            steps.append(between - began)
        return min(steps) / min(loops)


class Report:
    """What a soak did and what it left behind.

    Attributes
    ----------
    rounds : int
        After the warm-up.
    actions : Counter
        How often each was done, with the warm-up.
    memory, handles, threads : int
        Growth after the warm-up.
    files : list of str
        Left in the folder for temporary files.
    drift : float
        Time of a step in the last third, as a multiple of that in the first.
    """

    def __init__(self):
        self.rounds, self.actions, self.seconds = 0, Counter(), 0.0
        self.memory = self.handles = self.threads = self.resident = 0
        self.files, self.drift = [], 1.0

    def faults(self):
        """Return a sentence for each thing that grew."""
        found = []
        if self.memory > MOST_MEMORY:
            found.append(f"memory grew by {self.memory / 2**20:.1f} MiB")
        if self.handles > 0:
            found.append(f"{self.handles} file handles were left open")
        if self.threads > 0:
            found.append(f"{self.threads} threads were left running")
        if self.files:
            found.append(f"temporary files were left: {', '.join(self.files)}")
        if self.drift > MOST_DRIFT:
            found.append(f"steps became {self.drift:.2f} times as slow")
        return found

    def __str__(self):
        rows = [(name.replace("_", " "), str(n)) for name, n in sorted(self.actions.items())]
        rows += [
            ("rounds after the warm-up", str(self.rounds)),
            ("seconds after the warm-up", f"{self.seconds:.0f}"),
            ("resident memory, MiB", f"{self.resident / 2**20:.1f}"),
            ("growth of memory, MiB", f"{self.memory / 2**20:+.2f}"),
            ("growth of file handles", f"{self.handles:+d}"),
            ("growth of threads", f"{self.threads:+d}"),
            ("temporary files left", str(len(self.files))),
            ("drift of the time of a step", f"{self.drift:.3f}"),
        ]
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:{width}}  {value:>10}" for name, value in rows)


def soak(seconds, seed=0, actions=ACTIONS, warmup=2, least_rounds=9):
    """Do rounds of actions for some time; return a `Report`.

    Parameters
    ----------
    seconds : float
        After the warm-up; the round that is under way then is completed.
    seed : int
        Decides the order of the actions and all that they draw.
    actions : sequence of callable
        Each is given a `World`.
    warmup : int
        Rounds before anything is compared.
    least_rounds : int
        After the warm-up, however long they take.
    """
    report = Report()
    memory, ratios = [], []
    own_temporary = tempfile.tempdir
    interrupt = signal.signal(signal.SIGALRM, signal.default_int_handler)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Stochastic Optimizer: Maximum iterations")
        warnings.filterwarnings("ignore", "lbfgs failed to converge")
        tempfile.tempdir = folder
        try:
            world = World(folder, seed)
            clock = _StepClock(world)
            if len(actions) > 1:
                load_all_kernels(world)
            gc.freeze()  # what is there stays, and need not be looked at in each round
            began = time.perf_counter()
            while report.rounds < least_rounds or time.perf_counter() - began < seconds:
                for action in world.random.sample(actions, len(actions)):
                    action(world)
                    report.actions[getattr(action, "__name__", "action")] += 1
                warm = report.actions.total() > warmup * len(actions)
                ratios.append(clock.sample())
                memory.append(resident_memory())
                if not warm:
                    began = time.perf_counter()
                    memory, ratios = memory[-1:], ratios[-1:]
                    handles, running = open_handles(), running_threads()
                else:
                    report.rounds += 1
            report.seconds = time.perf_counter() - began
            report.handles = open_handles() - handles
            report.threads = running_threads() - running
            report.files = sorted(os.listdir(folder))
        finally:
            tempfile.tempdir = own_temporary
            signal.signal(signal.SIGALRM, interrupt)
            gc.unfreeze()
    third = max(len(ratios) // 3, 1)
    tenth = max(len(memory) // 10, 1)
    report.resident = memory[-1]
    report.memory = int(statistics.median(memory[-tenth:]) - statistics.median(memory[:tenth]))
    report.drift = statistics.median(ratios[-third:]) / statistics.median(ratios[:third])
    return report


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    report = soak(60 * options.minutes, options.seed)
    print(report)
    faults = report.faults()
    print("; ".join(faults) if faults else "nothing grew")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
