"""``fastnn bench --fit``: the same net trained on the same batches by fastnn and by others.

All begin with the same weights, take the samples in the same order, and update by Adam with the
same numbers. So all must end at the same loss, which is checked before anything is timed. Then they
take turns, and the median counts.
"""

import contextlib
import importlib.metadata
import importlib.util
import itertools
import statistics
import time
import warnings

import numpy as np
import rich.box
from rich.table import Table

from fastnn.errors import require
from fastnn.ladder import WrongRungError, roofline
from fastnn.ladder.measure import PAUSE, blas_facts, count, limits
from fastnn.ladder.reading import times as times_text
from fastnn.layers import Affine, ReLU
from fastnn.network import Sequential
from fastnn.optimizers import Adam

RATE, BETA_1, BETA_2, EPSILON = 1e-3, 0.9, 0.999, 1e-8
NETS = (((784, 128, 10), 128), ((64, 128, 64, 10), 32), ((784, 512, 512, 10), 128))
"""Sizes of the layers, and of a batch."""
_STEPS = 40
_EPOCHS = 2
_TOLERANCE = 0.02
"""Relative, of the loss: rounding grows from step to step, but not so far."""


class Contestant:
    """A library that trains a net.

    Parameters
    ----------
    weights : list of (ndarray (I, O), ndarray (O,))
        What training begins with, each time.
    X : ndarray (N, I)
    y : ndarray (N,)
        Classes.
    batch_size : int
        Divides N.
    n_threads : int
    """

    name = package = ""

    def __init__(self, weights, X, y, batch_size, n_threads):
        self.weights, self.X, self.y = weights, X, y
        self.batch_size, self.n_threads = batch_size, n_threads
        self.prepare()

    @classmethod
    def version(cls):
        """Return the version of the package, or None where it is not installed."""
        try:
            return importlib.metadata.version(cls.package)
        except importlib.metadata.PackageNotFoundError:
            return None

    def prepare(self):
        """Do what is not to be timed."""

    def reset(self):
        """Go back to the first weights and a new Adam."""

    def train(self):
        """Train for some epochs, in the order of the samples."""
        raise NotImplementedError

    def params(self):
        """Return the weights, as they were given."""
        raise NotImplementedError

    @contextlib.contextmanager
    def turn(self):
        """Be in this while it trains."""
        yield


class Fastnn(Contestant):
    """`Sequential.fit`."""

    name, package = "fastnn", "numba-fastnn"

    def prepare(self):
        parts = []
        for w, _ in self.weights:
            parts += [Affine(*w.shape), ReLU()]
        self.net = Sequential(parts[:-1], seed=0, dtype=self.X.dtype.name)

    def _affines(self):
        return [layer.params for layer in self.net.layers if layer.params]

    def reset(self):
        for params, (w, b) in zip(self._affines(), self.weights, strict=True):
            params["w"][...], params["b"][...] = w, b

    def train(self):
        self.net.fit(
            self.X, self.y, optimizer=Adam(RATE), epochs=_EPOCHS, batch_size=self.batch_size,
            shuffle=False, n_threads=self.n_threads,
        )  # fmt: skip

    def params(self):
        return [(params["w"], params["b"]) for params in self._affines()]


class Numpy(Contestant):
    """Arrays and BLAS, by hand."""

    name, package = "NumPy", "numpy"

    def reset(self):
        self.flat = [part.copy() for pair in self.weights for part in pair]
        self.m = [np.zeros_like(part) for part in self.flat]
        self.v = [np.zeros_like(part) for part in self.flat]
        self.step = 0

    def train(self):
        for _ in range(_EPOCHS):
            for start in range(0, len(self.X), self.batch_size):
                batch = slice(start, start + self.batch_size)
                self._update(self._gradients(self.X[batch], self.y[batch]))

    def _gradients(self, x, y):
        w, b = self.flat[::2], self.flat[1::2]
        inputs = [x]
        for k in range(len(w)):
            out = inputs[-1] @ w[k]
            out += b[k]
            if k < len(w) - 1:
                np.maximum(out, 0, out=out)
            inputs.append(out)
        delta = inputs.pop()
        delta -= delta.max(axis=1, keepdims=True)
        np.exp(delta, out=delta)
        delta /= delta.sum(axis=1, keepdims=True)
        delta[np.arange(len(y)), y] -= 1
        delta /= len(y)
        grads = []
        for k in range(len(w) - 1, -1, -1):
            grads += [delta.sum(axis=0), inputs[k].T @ delta]
            if k:
                delta = delta @ w[k].T
                delta *= inputs[k] > 0
        return grads[::-1]

    def _update(self, grads):
        self.step += 1
        rate = RATE / (1 - BETA_1**self.step)
        correction = np.sqrt(1 - BETA_2**self.step)
        for value, grad, m, v in zip(self.flat, grads, self.m, self.v, strict=True):
            m *= BETA_1
            m += (1 - BETA_1) * grad
            v *= BETA_2
            grad *= grad
            v += (1 - BETA_2) * grad
            root = np.sqrt(v)
            root /= correction
            root += EPSILON
            value -= rate * m / root

    def params(self):
        return list(zip(self.flat[::2], self.flat[1::2], strict=True))


class ScikitLearn(Contestant):
    """`sklearn.neural_network.MLPClassifier`."""

    name, package = "scikit-learn", "scikit-learn"

    def prepare(self):
        self.model = require("sklearn.neural_network", "sklearn").MLPClassifier(
            hidden_layer_sizes=[w.shape[1] for w, _ in self.weights[:-1]],
            alpha=0.0,
            batch_size=self.batch_size,
            learning_rate_init=RATE,
            max_iter=_EPOCHS,
            n_iter_no_change=_EPOCHS + 1,
            shuffle=False,
            warm_start=True,
        )
        self.train()  # makes its weights, which `reset` overwrites

    def reset(self):
        for k, (w, b) in enumerate(self.weights):
            self.model.coefs_[k][...] = w
            self.model.intercepts_[k][...] = b

    def train(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it has not converged
            self.model.fit(self.X, self.y)

    def params(self):
        return list(zip(self.model.coefs_, self.model.intercepts_, strict=True))


class PyTorch(Contestant):
    """`torch.nn` with `torch.optim.Adam`."""

    name, package = "PyTorch", "torch"

    def prepare(self):
        self.torch = importlib.import_module("torch")
        self.tensors = self.torch.from_numpy(self.X), self.torch.from_numpy(self.y)

    def reset(self):
        torch = self.torch
        parts = []
        for w, b in self.weights:
            layer = torch.nn.Linear(*w.shape, dtype=self.tensors[0].dtype)
            with torch.no_grad():
                layer.weight.copy_(torch.from_numpy(w.T.copy()))
                layer.bias.copy_(torch.from_numpy(b))
            parts += [layer, torch.nn.ReLU()]
        self.net = torch.nn.Sequential(*parts[:-1])
        self.adam = torch.optim.Adam(
            self.net.parameters(), RATE, betas=(BETA_1, BETA_2), eps=EPSILON
        )

    def train(self):
        X, y = self.tensors
        loss = self.torch.nn.functional.cross_entropy
        for _ in range(_EPOCHS):
            for start in range(0, len(X), self.batch_size):
                stop = start + self.batch_size
                self.adam.zero_grad(set_to_none=True)
                loss(self.net(X[start:stop]), y[start:stop]).backward()
                self.adam.step()

    def params(self):
        values = [value.detach().numpy() for value in self.net.parameters()]
        return [(w.T, b) for w, b in zip(values[::2], values[1::2], strict=True)]

    @contextlib.contextmanager
    def turn(self):
        before = self.torch.get_num_threads()
        self.torch.set_num_threads(self.n_threads)
        try:
            yield
        finally:
            self.torch.set_num_threads(before)


class Jax(Contestant):
    """Compiled by XLA: a whole epoch is one call. It takes all threads whatever it is told."""

    name, package = "JAX", "jax"

    @classmethod
    def version(cls):
        return super().version() if importlib.util.find_spec("jaxlib") else None

    def prepare(self):
        jax = self.jax = importlib.import_module("jax")
        numpy = importlib.import_module("jax.numpy")
        batches = len(self.X) // self.batch_size
        self.data = (
            numpy.asarray(self.X.reshape(batches, self.batch_size, -1)),
            numpy.asarray(self.y.reshape(batches, self.batch_size)),
        )

        def loss(params, x, y):
            for k, (w, b) in enumerate(params):
                x = x @ w + b
                if k < len(params) - 1:
                    x = jax.nn.relu(x)
            return -numpy.take_along_axis(jax.nn.log_softmax(x), y[:, None], 1).mean()

        def update(state, batch):
            params, m, v, step = state
            grads = jax.grad(loss)(params, *batch)
            step = step + 1
            m = jax.tree.map(lambda a, g: BETA_1 * a + (1 - BETA_1) * g, m, grads)
            v = jax.tree.map(lambda a, g: BETA_2 * a + (1 - BETA_2) * g * g, v, grads)
            rate = RATE / (1 - BETA_1**step)
            root = numpy.sqrt(1 - BETA_2**step)
            params = jax.tree.map(
                lambda p, a, b: p - rate * a / (numpy.sqrt(b) / root + EPSILON), params, m, v
            )
            return (params, m, v, step), None

        self.epoch = jax.jit(lambda state, data: jax.lax.scan(update, state, data)[0])

    def reset(self):
        numpy = importlib.import_module("jax.numpy")
        params = [(numpy.asarray(w), numpy.asarray(b)) for w, b in self.weights]
        zeros = self.jax.tree.map(numpy.zeros_like, params)
        self.state = (params, zeros, zeros, numpy.zeros((), self.X.dtype))

    def train(self):
        for _ in range(_EPOCHS):
            self.state = self.epoch(self.state, self.data)
        self.jax.block_until_ready(self.state)

    def params(self):
        return [(np.asarray(w), np.asarray(b)) for w, b in self.state[0]]


CONTESTANTS = (Fastnn, Numpy, ScikitLearn, PyTorch, Jax)


def make_task(sizes, batch_size, dtype, seed=0):
    """Return first weights, samples and their classes, which a random linear map chose."""
    rng = np.random.default_rng(seed)
    weights = []
    for n_inputs, n_outputs in itertools.pairwise(sizes):
        bound = np.sqrt(6 / (n_inputs + n_outputs))
        w = rng.uniform(-bound, bound, (n_inputs, n_outputs)).astype(dtype)
        weights.append((w, np.zeros(n_outputs, dtype)))
    X = rng.random((_STEPS * batch_size, sizes[0])).astype(dtype)
    y = ((X - 0.5) @ rng.normal(size=(sizes[0], sizes[-1]))).argmax(axis=1)
    y[: sizes[-1]] = np.arange(sizes[-1])  # each class is there
    return weights, X, y.astype(np.int64)


def loss_of(params, X, y):
    """Return the mean cross-entropy of a net with parameters, in float64."""
    out = X.astype(np.float64)
    for k, (w, b) in enumerate(params):
        out = out @ np.asarray(w, np.float64) + np.asarray(b, np.float64)
        if k < len(params) - 1:
            out = np.maximum(out, 0)
    out -= out.max(axis=1, keepdims=True)
    return float((np.log(np.exp(out).sum(axis=1)) - out[np.arange(len(y)), y]).mean())


def check(losses):
    """Raise `WrongRungError` unless all end at the loss of the first; none is timed then."""
    (reference, expected), *others = losses.items()
    for name, loss in others:
        if not abs(loss - expected) <= _TOLERANCE * expected:
            raise WrongRungError(
                f"{name} ends at the loss {loss:.6g}, {reference} at {expected:.6g}: they do not "
                "train the same net"
            )


def compete(
    dtype="float32",
    threads=(1,),
    quick=False,
    progress=lambda done, total, doing: None,
    contestants=CONTESTANTS,
    nets=None,
):
    """Train all nets with all contestants that are installed.

    Parameters
    ----------
    dtype : str
    threads : sequence of int
    quick : bool
        The first net alone, and fewer rounds.
    progress : callable
        As for `fastnn.ladder.measure.climb`.
    contestants : sequence of type
        Subclasses of `Contestant`; the first is compared with the others.
    nets : sequence of (sizes, batch_size), optional

    Returns
    -------
    dict
        All figures, as the JSON file has them.

    Raises
    ------
    WrongRungError
        If one of them trains something else.
    """
    nets = (NETS[:1] if quick else NETS) if nets is None else nets
    rounds = 3 if quick else 7
    # JAX has one precision for the whole process.
    usable = [
        one for one in contestants if one.version() and not (one is Jax and dtype != "float32")
    ]
    tasks = [(net, n) for n in threads for net in nets]
    total, done, cells = len(tasks) * (rounds + 1), 0, []
    for (sizes, batch_size), n_threads in tasks:
        name = f"{'-'.join(map(str, sizes))}, batches of {batch_size}, {count(n_threads)}"
        weights, X, y = make_task(sizes, batch_size, dtype)
        losses, spent, running = {}, {}, []
        for kind in usable:
            progress(done, total, f"{name}: {kind.name}")
            with limits(n_threads):
                one = kind(weights, X, y, batch_size, n_threads)
                one.reset()
                with one.turn():
                    one.train()  # compiles, too
            losses[one.name] = loss_of(one.params(), X, y)
            running.append(one)
            spent[one.name] = []
        check(losses)
        for r in range(rounds):
            done += 1
            progress(done, total, f"{name}: round {r + 1} of {rounds}")
            for one in running:
                one.reset()
                time.sleep(PAUSE)  # other libraries have other threads
                with limits(n_threads), one.turn():
                    began = time.perf_counter()
                    one.train()
                    spent[one.name].append(time.perf_counter() - began)
        done += 1
        cells.append(
            {
                "sizes": list(sizes),
                "batch_size": batch_size,
                "threads": n_threads,
                "seconds_per_step": {
                    name: statistics.median(seconds) / (_EPOCHS * _STEPS)
                    for name, seconds in spent.items()
                },
                "loss": losses,
            }
        )
    progress(total, total, "done")
    results = {
        "machine": roofline.describe() | {"blas": blas_facts()},
        "versions": {one.name: one.version() for one in usable},
        "missing": [one.name for one in contestants if one not in usable],
        "dtype": dtype,
        "rounds": rounds,
        "cells": cells,
    }
    return results | {"reading": read(results)}


def read(results):
    """Return lines that say how fastnn stands."""
    lines = []
    for cell in results["cells"]:
        ours, *others = cell["seconds_per_step"].items()
        parts = [f"{times_text(spent / ours[1])} as fast as {name}" for name, spent in others]
        if parts:
            lines.append(
                f"{'-'.join(map(str, cell['sizes']))}, {count(cell['threads'])}: {ours[0]} is "
                f"{', '.join(parts)}."
            )
    if results["missing"]:
        lines.append(
            f"Left out, not installed or not for this dtype: {', '.join(results['missing'])}."
        )
    if "JAX" in results["versions"]:
        lines.append("JAX takes as many threads as it likes, whatever the table says.")
    return lines


def tables(results):
    """Return the table for the terminal."""
    names = list(results["versions"])
    table = Table(
        box=rich.box.SIMPLE_HEAD,
        pad_edge=False,
        title=f"microseconds of a training step (Adam, {results['dtype']}, medians of "
        f"{results['rounds']} rounds)",
        title_justify="left",
        title_style="bold",
    )
    for head in ("net", "batch", "threads"):
        table.add_column(head, no_wrap=True, justify="left" if head == "net" else "right")
    for name in names:
        table.add_column(f"{name}\n{results['versions'][name]}", justify="right", no_wrap=True)
    for cell in results["cells"]:
        spent = cell["seconds_per_step"]
        table.add_row(
            "-".join(map(str, cell["sizes"])),
            str(cell["batch_size"]),
            str(cell["threads"]),
            *(f"{1e6 * spent[name]:,.0f}" for name in names),
        )
    return [table]
