"""scikit-learn's MLPClassifier and MLPRegressor."""

import time
import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor

from contest.rivals.base import LEARNING_RATE, Rival

warnings.simplefilter("ignore", ConvergenceWarning)

# Longer than any fit here: it never stops by itself.
_EVER = 1_000_000

# A fit of one epoch that takes so many seconds is not repeated each time.
_LONG = 0.2


class ScikitLearn(Rival):
    """Steps are measured in `fit`, without its checks and preparations.

    With two classes it has one logistic output instead of two of a softmax: a little less work.
    """

    def reset(self, seed):
        cell, X, y = self.cell, self.X, self.y
        self._shortest = 0.0
        kind = MLPClassifier if self.classifies else MLPRegressor
        self._y = y.ravel() if y.ndim == 2 and y.shape[1] == 1 else y
        # What partial_fit wants to know beside the data, the first time.
        self._more = {"classes": np.unique(y)} if self.classifies else {}
        self._model = kind(
            hidden_layer_sizes=cell.sizes[1:-1],
            activation=cell.activation,
            solver="adam",
            alpha=0.0,
            batch_size=min(cell.batch, len(X)),
            learning_rate_init=LEARNING_RATE,
            random_state=seed,
            tol=0.0,
            n_iter_no_change=_EVER,
        )

    def seconds_of_epochs(self, count):
        # What a fit costs once is the same in both fits, and drops out.
        if self._shortest < _LONG:
            self._shortest = self._fit(1)
        return self._fit(1 + count) - self._shortest

    def _fit(self, epochs):
        self._model.set_params(max_iter=epochs)
        began = time.perf_counter()
        self._model.fit(self.X, self._y)
        return time.perf_counter() - began

    def run_epochs(self, count):
        for _ in range(count):
            self._model.partial_fit(self.X, self._y, **self._more)

    def predict(self, X):
        out = self._model.predict(X)
        return out if self.classifies else out.reshape(len(X), -1)
