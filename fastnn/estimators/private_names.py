"""Private names of scikit-learn's classes that its own tests, and so perhaps others, touch.

Thin shims, all in this place; nothing in this package uses them.
"""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np

from fastnn.estimators.attributes import Attributes


class PrivateNames(Attributes):
    """A part of `fastnn.estimators.base.BaseMLP`."""

    @property
    def _optimizer(self) -> SimpleNamespace:
        """What scikit-learn keeps of its optimizer: here the learning rate alone, to be read."""
        trainer = getattr(self, "_trainer", None)
        if trainer is None:
            raise AttributeError("there is no optimizer before a fit with solver 'sgd' or 'adam'")
        rate = trainer.learning_rate
        if self.solver == "adam":  # scikit-learn's includes the corrections of the bias
            t = trainer.step_count
            rate *= math.sqrt(1 - self.beta_2**t) / (1 - self.beta_1**t)
        return SimpleNamespace(learning_rate=rate)

    def _loss_grad_lbfgs(
        self,
        packed_coef_inter: np.ndarray,
        X: Any,
        y: np.ndarray,
        sample_weight: np.ndarray | None,
        activations: object = None,
        deltas: object = None,
        coef_grads: object = None,
        intercept_grads: object = None,
    ) -> tuple[float, np.ndarray]:
        """Return the loss and its gradient at a vector of parameters, and take these over."""
        return self._objective(self._current_net(), X, y, sample_weight)(packed_coef_inter)
