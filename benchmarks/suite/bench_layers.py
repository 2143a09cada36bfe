"""Layers one by one, as `Layer.forward` and `Layer.backward` run them."""

import numpy as np

import fastnn
from fastnn import Affine

from . import common

SIZES = ["784-128@128", "64-64@32"]
OPERATIONS = ["forward", "backward_to_input", "backward_to_weight"]
_FLOPS_PER_SAMPLE = 4e7

ACTIVATIONS = ["Identity", "ReLU", "LeakyReLU", "Sigmoid", "Tanh", "Softmax", "Step"]
WAYS = ["forward", "backward"]
_SHAPE = (128, 256)


def _parse(size):
    widths, rows = size.split("@")
    n_inputs, n_outputs = map(int, widths.split("-"))
    return n_inputs, n_outputs, int(rows)


def affine(library, operation, size, dtype, threads):
    """Return a call of one of the three products of an affine layer."""
    n_inputs, n_outputs, rows = _parse(size)
    x = common.normal(rows, n_inputs, dtype=dtype)
    dout = common.normal(rows, n_outputs, dtype=dtype)
    layer = Affine(n_inputs, n_outputs, seed=0, dtype=dtype)
    w, b = layer.params["w"], layer.params["b"]
    if operation == "forward":

        def forward():
            out = x @ w
            out += b
            return out

        return forward if library == "numpy" else lambda: layer.forward(x)
    # Apart, because `Affine.backward` does both.
    left, right = (dout, w.T) if operation == "backward_to_input" else (x.T, dout)
    if library == "numpy":
        return lambda: left @ right
    return lambda: fastnn.matmul(left, right, n_threads=threads)


def _repeats(size):
    n_inputs, n_outputs, rows = _parse(size)
    return max(1, round(_FLOPS_PER_SAMPLE / (2 * n_inputs * n_outputs * rows)))


class AffineLayer(common.Timed):
    """Seconds of a product of an affine layer."""

    params = (common.LIBRARIES, OPERATIONS, SIZES, common.DTYPES, common.THREADS)
    param_names = ("library", "operation", "size", "dtype", "threads")

    def setup(self, library, operation, size, dtype, threads):
        self.use(affine, (library, operation, size, dtype, threads), _repeats(size))

    def time_affine(self, library, operation, size, dtype, threads):
        self.run()


class AffineRatio(common.Timed):
    """Times of fastnn over NumPy's."""

    params = (OPERATIONS, SIZES, ["float32"], common.THREADS)
    param_names = ("operation", "size", "dtype", "threads")

    def setup(self, operation, size, dtype, threads):
        for library in common.LIBRARIES:
            common.ready(affine, library, operation, size, dtype, threads)

    def track_time_ratio_vs_numpy(self, operation, size, dtype, threads):
        return common.ratio_vs_numpy(affine, operation, size, dtype, threads)

    track_time_ratio_vs_numpy.unit = "fastnn / numpy"


def _softmax(x):
    out = np.exp(x - x.max(axis=1, keepdims=True))
    out /= out.sum(axis=1, keepdims=True)
    return out


# Name: forward of x, and backward of dout given the output, each into an array of its own.
_NUMPY = {
    "Identity": (np.copy, lambda dout, out: dout.copy()),
    "ReLU": (lambda x: np.maximum(x, 0), lambda dout, out: dout * (out > 0)),
    "LeakyReLU": (
        lambda x: np.maximum(x, 0.01 * x),
        lambda dout, out: np.where(out > 0, dout, 0.01 * dout),
    ),
    "Sigmoid": (lambda x: 1 / (1 + np.exp(-x)), lambda dout, out: dout * out * (1 - out)),
    "Tanh": (np.tanh, lambda dout, out: dout * (1 - out * out)),
    "Softmax": (
        _softmax,
        lambda dout, out: out * (dout - (dout * out).sum(axis=1, keepdims=True)),
    ),
    "Step": (lambda x: (x > 0).astype(x.dtype), lambda dout, out: np.zeros_like(dout)),
}


def activation(library, name, way, dtype, threads):
    """Return a call of an activation, forward, backward, or both one after the other."""
    x, dout = (common.normal(*_SHAPE, dtype=dtype, seed=seed) for seed in (0, 1))
    if library == "numpy":
        forward, derivative = _NUMPY[name]
        out = forward(x)

        def backward(dout):
            return derivative(dout, out)
    else:
        layer = getattr(fastnn, name)()
        forward, backward = layer.forward, layer.backward
        forward(x)
    calls = {
        "forward": lambda: forward(x),
        "backward": lambda: backward(dout),
        "both": lambda: (forward(x), backward(dout)),
    }
    return calls[way]


class Activation(common.Timed):
    """Seconds of an activation of 128 x 256 numbers; used alone, it has one thread."""

    params = (common.LIBRARIES, ACTIVATIONS, WAYS, common.DTYPES, [1])
    param_names = ("library", "activation", "way", "dtype", "threads")
    repeats = 10

    def setup(self, library, name, way, dtype, threads):
        self.use(activation, (library, name, way, dtype, threads), self.repeats)

    def time_activation(self, library, name, way, dtype, threads):
        self.run()


class ActivationRatio(common.Timed):
    """Times of fastnn over NumPy's, forward and backward together."""

    params = (["ReLU", "Sigmoid", "Tanh", "Softmax"], ["float32"], [1])
    param_names = ("activation", "dtype", "threads")

    def setup(self, name, dtype, threads):
        for library in common.LIBRARIES:
            common.ready(activation, library, name, "both", dtype, threads)

    def track_time_ratio_vs_numpy(self, name, dtype, threads):
        return common.ratio_vs_numpy(activation, name, "both", dtype, threads)

    track_time_ratio_vs_numpy.unit = "fastnn / numpy"
