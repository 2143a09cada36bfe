"""fastnn, as its users get it: it may use all cores, and decides how many it does."""

import numpy as np

from contest.rivals.base import LEARNING_RATE, Rival
from fastnn import Adam, Affine, ReLU, Sequential, Sigmoid, Tanh, matmul
from fastnn.training import Trainer

_LAYERS = {"relu": ReLU, "tanh": Tanh, "logistic": Sigmoid}


def make_net(cell, seed=0):
    """Return a cell's net."""
    layers = []
    for n_inputs, n_outputs in cell.shapes:
        layers += [Affine(n_inputs, n_outputs), _LAYERS[cell.activation]()]
    return Sequential(layers[:-1], seed=seed, dtype=cell.dtype)


class FastNN(Rival):
    """A `Trainer` for training, a frozen net for inference: others pack weights once, too."""

    def reset(self, seed):
        cell = self.cell
        self._net = make_net(cell, seed)
        loss = "softmax_cross_entropy" if self.classifies else "mse"
        self._trainer = Trainer(
            self._net, loss, Adam(LEARNING_RATE), cell.batch, n_threads=self.n_threads
        )
        self._trainer.set_data(self.X, self.y)
        self._rng = np.random.default_rng(seed)

    def run_epochs(self, count):
        for _ in range(count):
            self._trainer.run_epoch(self._rng.permutation(len(self.X)))

    def predict(self, X):
        self._trainer.sync()
        out = self._net.predict(X)
        return out.argmax(axis=1) if self.classifies else out

    def prepare_inference(self, cell, weights):
        net = make_net(cell)
        for (w, b), (new_w, new_b) in zip(net.weights(), weights, strict=True):
            w[...], b[...] = new_w, new_b
        frozen, n_threads = net.freeze(), self.n_threads
        return lambda x: frozen.predict(x, n_threads=n_threads)

    def prepare_products(self, a, b, out, n_threads):
        return lambda: matmul(a, b, out=out, n_threads=n_threads)
