"""Plain NumPy: a step written by hand, in place and into memory that is there, over its BLAS."""

import math

import numpy as np

from contest.rivals.base import LEARNING_RATE, Rival

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-8

# Adam goes through the parameters in pieces that stay in a core's cache.
_PIECE = 16_384


def activate(name, z):
    """Apply an activation in place."""
    if name == "relu":
        np.maximum(z, 0, out=z)
    elif name == "tanh":
        np.tanh(z, out=z)
    else:  # 1 / (1 + exp(-z)) as a tanh, which cannot overflow
        z *= 0.5
        np.tanh(z, out=z)
        z += 1
        z *= 0.5


def differentiate(name, h, dh, scratch):
    """Multiply dh in place by the derivative, given the activation's output h."""
    if name == "relu":
        np.greater(h, 0, out=scratch)
    elif name == "tanh":
        np.multiply(h, h, out=scratch)
        np.subtract(1, scratch, out=scratch)
    else:
        np.subtract(1, h, out=scratch)
        scratch *= h
    dh *= scratch


class NumPy(Rival):
    """All parameters lie in one vector, and so do their gradients and the state of Adam."""

    def reset(self, seed):
        cell = self.cell
        self._rng = np.random.default_rng(seed)
        size = sum(n_inputs * n_outputs + n_outputs for n_inputs, n_outputs in cell.shapes)
        vectors = [np.zeros(size, cell.dtype) for _ in range(4)]
        self._params, self._grads = (self._views(vector) for vector in vectors[:2])
        for (w, b), (new_w, new_b) in zip(self._params, cell.weights(seed), strict=True):
            w[...], b[...] = new_w, new_b
        scratch = np.empty((2, min(_PIECE, size)), cell.dtype)
        self._pieces = []
        for start in range(0, size, _PIECE):
            piece = [vector[start : start + _PIECE] for vector in vectors]
            self._pieces.append((*piece, *scratch[:, : len(piece[0])]))
        self._updates = 0
        self._outs, self._douts, self._scratch = (
            [np.empty((cell.batch, width), cell.dtype) for width in widths]
            for widths in (cell.sizes, cell.sizes[1:], cell.sizes[1:])
        )
        self._labels = np.empty(cell.batch, self.y.dtype)
        self._targets = np.empty((cell.batch, cell.sizes[-1]), cell.dtype)
        self._column = np.empty((cell.batch, 1), cell.dtype)
        self._rows = np.arange(cell.batch)

    def _views(self, vector):
        pairs, at = [], 0
        for n_inputs, n_outputs in self.cell.shapes:
            w = vector[at : at + n_inputs * n_outputs].reshape(n_inputs, n_outputs)
            at += w.size + n_outputs
            pairs.append((w, vector[at - n_outputs : at]))
        return pairs

    def run_epochs(self, count):
        batch = self.cell.batch
        for _ in range(count):
            order = self._rng.permutation(len(self.X))
            for start in range(0, len(order), batch):
                self._step(order[start : start + batch])

    def _step(self, indices):
        outs, douts, activation = self._outs, self._douts, self.cell.activation
        # Without mode="clip", take writes to a copy of `out` first.
        np.take(self.X, indices, axis=0, out=outs[0], mode="clip")
        last = len(self._params) - 1
        for k, (w, b) in enumerate(self._params):
            np.matmul(outs[k], w, out=outs[k + 1])
            outs[k + 1] += b
            if k < last:
                activate(activation, outs[k + 1])
        self._loss_gradient(indices)
        for k in range(last, -1, -1):
            w, _ = self._params[k]
            dw, db = self._grads[k]
            np.matmul(outs[k].T, douts[k], out=dw)
            np.sum(douts[k], axis=0, out=db)
            if k:
                np.matmul(douts[k], w.T, out=douts[k - 1])
                differentiate(activation, outs[k], douts[k - 1], self._scratch[k - 1])
        self._update()

    def _loss_gradient(self, indices):
        """Write the derivative of the batch's mean loss by the last layer's outputs."""
        out, dout = self._outs[-1], self._douts[-1]
        if not self.classifies:
            np.take(self.y, indices, axis=0, out=self._targets, mode="clip")
            np.subtract(out, self._targets, out=dout)
            dout *= 2 / dout.size
            return
        np.take(self.y, indices, out=self._labels, mode="clip")
        np.max(out, axis=1, keepdims=True, out=self._column)
        np.subtract(out, self._column, out=dout)
        np.exp(dout, out=dout)
        np.sum(dout, axis=1, keepdims=True, out=self._column)
        dout /= self._column
        dout[self._rows, self._labels] -= 1
        dout *= 1 / len(dout)

    def _update(self):
        self._updates += 1
        t = self._updates
        rate = LEARNING_RATE * math.sqrt(1 - _BETA_2**t) / (1 - _BETA_1**t)
        for params, grads, first, second, scratch, step in self._pieces:
            first *= _BETA_1
            np.multiply(grads, 1 - _BETA_1, out=scratch)
            first += scratch
            second *= _BETA_2
            np.multiply(grads, grads, out=scratch)
            scratch *= 1 - _BETA_2
            second += scratch
            np.sqrt(second, out=scratch)
            scratch += _EPSILON
            np.divide(first, scratch, out=step)
            step *= rate
            params -= step

    def prepare_inference(self, cell, weights):
        last = len(weights) - 1

        def predict(x):
            for k, (w, b) in enumerate(weights):
                x = x @ w
                x += b
                if k < last:
                    activate(cell.activation, x)
            return x

        return predict

    def prepare_products(self, a, b, out, n_threads):
        return lambda: np.matmul(a, b, out=out)  # on all threads of this process
