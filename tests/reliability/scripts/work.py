"""What the scenarios compute: the same bits wherever and beside whomever they run."""

import functools

import numba
import numpy as np

import fastnn
from fastnn import Affine, ReLU, Sequential, Tanh, matmul
from fastnn.runtime import threads
from fastnn.training import Trainer

_RNG = np.random.default_rng(0)
X = _RNG.normal(size=(600, 40)).astype(np.float32)
Y = _RNG.integers(0, 10, 600)


def make_net(k):
    """Return a net that is another for each k."""
    width = 128 + 24 * k
    hidden = [Tanh(), Affine(width, 64 + k), ReLU()] if k % 2 else [ReLU()]
    last = Affine(64 + k if k % 2 else width, 10)
    return Sequential([Affine(40, width), *hidden, last], seed=k)


def fit(k, n_threads=2, epochs=2):
    """Train a net by steps that a team shares where it may; return its weights, predictions."""
    net = make_net(k)
    trainer = Trainer(net, "softmax_cross_entropy", "adam", 150, n_threads=n_threads)
    trainer.use_all_threads = True
    trainer.set_data(X, Y)
    for _ in range(epochs):
        trainer.run_epoch(np.arange(len(X)))
    trainer.sync()
    return net.params.tobytes(), net.predict(X, n_threads=n_threads).tobytes()


def fit_estimator(k, n_threads=2):
    """Fit a classifier, without a word about convergence; return its probabilities."""
    model = fastnn.MLPClassifier(
        32 + k, solver="sgd", max_iter=2, tol=0, random_state=k, n_threads=n_threads
    )
    for _ in range(2):
        model.partial_fit(X, Y, classes=np.arange(10))
    return model.predict_proba(X).tobytes()


shared = make_net(8)
frozen = shared.freeze()


def use_shared(n_threads=2):
    """Predict rows, a tile and many rows by nets that others use at the same time."""
    parts = []
    for net in (shared, frozen):
        parts += [net.predict(X[:n], n_threads=n_threads).tobytes() for n in (1, 13, 600)]
    return b"".join([*parts, matmul(X.T, X, n_threads=n_threads).tobytes()])


def everything(k, n_threads=2):
    """Return all of the above."""
    return fit(k, n_threads), fit_estimator(k, n_threads), use_shared(n_threads)


def team_size():
    """Return how many threads a kernel would be given now that asks for two."""
    with threads.parallel_region(2) as granted:
        return granted


@numba.njit(parallel=True)
def users_loop(x):
    """Stand for a parallel loop of the user's own."""
    out = np.zeros_like(x)
    for i in numba.prange(x.shape[0]):
        for j in range(x.shape[1]):
            out[i, j] = np.exp(np.sin(x[i, j]))
    return out


@functools.cache
def expected():
    """Return by k what must come out always."""
    return [everything(k, n_threads=1) for k in range(8)]
