"""The libraries that ``fastnn bench --fit`` compares: each trains the same net with Adam."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastnn.errors import require
from fastnn.layers import Affine, Layer, ReLU
from fastnn.network import Sequential
from fastnn.optimizers import Adam

Params: TypeAlias = Sequence[tuple[NDArray[Any], NDArray[Any]]]
"""The weights (I, O) and the bias (O,) of each layer."""

RATE, BETA_1, BETA_2, EPSILON = 1e-3, 0.9, 0.999, 1e-8
"""Hyperparameters of Adam."""
EPOCHS = 2
"""Epochs of a training."""


class Contestant:
    """A library that trains a net.

    Parameters
    ----------
    weights : list of (ndarray of shape (I, O), ndarray of shape (O,))
        Initial weights and bias of each layer.
    X : ndarray of shape (N, I)
        Samples.
    y : ndarray of int of shape (N,)
        Classes.
    batch_size : int
        Size of a batch; N is a multiple of it.
    n_threads : int
        Number of threads.
    """

    name: ClassVar[str] = ""
    package: ClassVar[str] = ""

    def __init__(
        self, weights: Params, X: NDArray[Any], y: NDArray[Any], batch_size: int, n_threads: int
    ) -> None:
        self.weights, self.X, self.y = weights, X, y
        self.batch_size, self.n_threads = batch_size, n_threads
        self.prepare()

    @classmethod
    def version(cls) -> str | None:
        """Return the version of the package, or None if it is not installed."""
        try:
            return importlib.metadata.version(cls.package)
        except importlib.metadata.PackageNotFoundError:
            return None

    def prepare(self) -> None:
        """Create everything that is not timed."""

    def reset(self) -> None:
        """Restore the initial weights and a new state of Adam."""

    def train(self) -> None:
        """Train for some epochs, without shuffling."""
        raise NotImplementedError

    def params(self) -> Params:
        """Return the current weights, in the form of the initial ones."""
        raise NotImplementedError

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Set the number of threads of the library within the context."""
        yield


class Fastnn(Contestant):
    """`Sequential.fit`."""

    name, package = "fastnn", "numba-fastnn"

    def prepare(self) -> None:
        parts: list[Layer] = []
        for w, _ in self.weights:
            parts += [Affine(*w.shape), ReLU()]
        self.net = Sequential(parts[:-1], seed=0, dtype=self.X.dtype.name)

    def _affines(self) -> list[dict[str, NDArray[Any]]]:
        return [layer.params for layer in self.net.layers if layer.params]

    def reset(self) -> None:
        for params, (w, b) in zip(self._affines(), self.weights, strict=True):
            params["w"][...], params["b"][...] = w, b

    def train(self) -> None:
        self.net.fit(
            self.X, self.y, optimizer=Adam(RATE), epochs=EPOCHS, batch_size=self.batch_size,
            shuffle=False, n_threads=self.n_threads,
        )  # fmt: skip

    def params(self) -> Params:
        return [(params["w"], params["b"]) for params in self._affines()]


class Numpy(Contestant):
    """Forward and backward pass and Adam, written with NumPy's arrays and BLAS."""

    name, package = "NumPy", "numpy"

    def reset(self) -> None:
        self.flat = [part.copy() for pair in self.weights for part in pair]
        self.m = [np.zeros_like(part) for part in self.flat]
        self.v = [np.zeros_like(part) for part in self.flat]
        self.step = 0

    def train(self) -> None:
        for _ in range(EPOCHS):
            for start in range(0, len(self.X), self.batch_size):
                batch = slice(start, start + self.batch_size)
                self._update(self._gradients(self.X[batch], self.y[batch]))

    def _gradients(self, x: NDArray[Any], y: NDArray[Any]) -> list[NDArray[Any]]:
        """Return the gradients of the mean loss of a batch, in the order of `flat`."""
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

    def _update(self, grads: list[NDArray[Any]]) -> None:
        """Update the weights by a step of Adam; overwrites the gradients."""
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

    def params(self) -> Params:
        return list(zip(self.flat[::2], self.flat[1::2], strict=True))


class ScikitLearn(Contestant):
    """`sklearn.neural_network.MLPClassifier`."""

    name, package = "scikit-learn", "scikit-learn"

    def prepare(self) -> None:
        self.model = require("sklearn.neural_network", "sklearn").MLPClassifier(
            hidden_layer_sizes=[w.shape[1] for w, _ in self.weights[:-1]],
            alpha=0.0,
            batch_size=self.batch_size,
            learning_rate_init=RATE,
            max_iter=EPOCHS,
            n_iter_no_change=EPOCHS + 1,
            shuffle=False,
            warm_start=True,
        )
        self.train()  # creates the weights that `reset` overwrites

    def reset(self) -> None:
        for k, (w, b) in enumerate(self.weights):
            self.model.coefs_[k][...] = w
            self.model.intercepts_[k][...] = b

    def train(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it has not converged
            self.model.fit(self.X, self.y)

    def params(self) -> Params:
        return list(zip(self.model.coefs_, self.model.intercepts_, strict=True))


class PyTorch(Contestant):
    """`torch.nn` with `torch.optim.Adam`."""

    name, package = "PyTorch", "torch"

    def prepare(self) -> None:
        self.torch = importlib.import_module("torch")
        self.tensors = self.torch.from_numpy(self.X), self.torch.from_numpy(self.y)

    def reset(self) -> None:
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

    def train(self) -> None:
        X, y = self.tensors
        loss = self.torch.nn.functional.cross_entropy
        for _ in range(EPOCHS):
            for start in range(0, len(X), self.batch_size):
                stop = start + self.batch_size
                self.adam.zero_grad(set_to_none=True)
                loss(self.net(X[start:stop]), y[start:stop]).backward()
                self.adam.step()

    def params(self) -> Params:
        values = [value.detach().numpy() for value in self.net.parameters()]
        return [(w.T, b) for w, b in zip(values[::2], values[1::2], strict=True)]

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        before = self.torch.get_num_threads()
        self.torch.set_num_threads(self.n_threads)
        try:
            yield
        finally:
            self.torch.set_num_threads(before)


class Jax(Contestant):
    """JAX, compiled by XLA: an epoch is one call. It ignores the number of threads."""

    name, package = "JAX", "jax"

    @classmethod
    def version(cls) -> str | None:
        return super().version() if importlib.util.find_spec("jaxlib") else None

    def prepare(self) -> None:
        jax = self.jax = importlib.import_module("jax")
        numpy = importlib.import_module("jax.numpy")
        batches = len(self.X) // self.batch_size
        self.data = (
            numpy.asarray(self.X.reshape(batches, self.batch_size, -1)),
            numpy.asarray(self.y.reshape(batches, self.batch_size)),
        )

        def loss(params: Any, x: Any, y: Any) -> Any:
            for k, (w, b) in enumerate(params):
                x = x @ w + b
                if k < len(params) - 1:
                    x = jax.nn.relu(x)
            return -numpy.take_along_axis(jax.nn.log_softmax(x), y[:, None], 1).mean()

        def update(state: Any, batch: Any) -> Any:
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

    def reset(self) -> None:
        numpy = importlib.import_module("jax.numpy")
        params = [(numpy.asarray(w), numpy.asarray(b)) for w, b in self.weights]
        zeros = self.jax.tree.map(numpy.zeros_like, params)
        self.state = (params, zeros, zeros, numpy.zeros((), self.X.dtype))

    def train(self) -> None:
        for _ in range(EPOCHS):
            self.state = self.epoch(self.state, self.data)
        self.jax.block_until_ready(self.state)

    def params(self) -> Params:
        return [(np.asarray(w), np.asarray(b)) for w, b in self.state[0]]


CONTESTANTS = (Fastnn, Numpy, ScikitLearn, PyTorch, Jax)
