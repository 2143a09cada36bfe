"""asv suite: a training step, a prediction and a matrix product, beside NumPy."""

import itertools

import numpy as np

import fastnn
from fastnn import Affine, ReLU, Sequential
from fastnn.training import Trainer

NETS = {
    "784-128-10 @ 128": ((784, 128, 10), 128),
    "64-100-10 @ 200": ((64, 100, 10), 200),
    "20-64-64-2 @ 32": ((20, 64, 64, 2), 32),
}


def make_net(sizes, dtype):
    """A classifier with ReLU between its layers."""
    layers = []
    for n_inputs, n_outputs in itertools.pairwise(sizes):
        layers += [Affine(n_inputs, n_outputs), ReLU()]
    return Sequential(layers[:-1], seed=0, dtype=dtype)


class Training:
    """Seconds of an epoch of 20 steps."""

    params = (list(NETS), ["float32", "float64"])
    param_names = ("net", "dtype")

    def setup(self, name, dtype):
        """Compile, and warm the caches."""
        sizes, batch = NETS[name]
        rng = np.random.default_rng(0)
        self.order = np.arange(20 * batch)
        self.trainer = Trainer(make_net(sizes, dtype), "softmax_cross_entropy", "adam", batch)
        X = rng.normal(size=(20 * batch, sizes[0])).astype(dtype)
        self.trainer.set_data(X, rng.integers(0, sizes[-1], 20 * batch))
        self.trainer.run_epoch(self.order)

    def time_epoch(self, name, dtype):
        """20 steps."""
        self.trainer.run_epoch(self.order)


class Prediction:
    """Seconds of a prediction from Python."""

    params = (list(NETS), [1, 32, 1024])
    param_names = ("net", "rows")

    def setup(self, name, rows):
        """Compile, and warm the caches."""
        sizes, _ = NETS[name]
        self.net = make_net(sizes, "float32")
        self.X = np.random.default_rng(0).normal(size=(rows, sizes[0])).astype("float32")
        self.net.predict(self.X)

    def time_predict(self, name, rows):
        """One call."""
        self.net.predict(self.X)


class Product:
    """Seconds of a matrix product, on our loops and on NumPy's BLAS."""

    params = ([16, 64, 256, 1024], ["float32", "float64"])
    param_names = ("n", "dtype")

    def setup(self, n, dtype):
        """Compile, and warm the caches."""
        self.a, self.b = np.random.default_rng(0).normal(size=(2, n, n)).astype(dtype)
        self.out = np.empty((n, n), dtype)
        fastnn.matmul(self.a, self.b, out=self.out)

    def time_fastnn(self, n, dtype):
        """Loops over register tiles."""
        fastnn.matmul(self.a, self.b, out=self.out)

    def time_numpy(self, n, dtype):
        """BLAS."""
        np.matmul(self.a, self.b, out=self.out)
