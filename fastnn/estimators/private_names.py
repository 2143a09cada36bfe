"""Private attributes of scikit-learn's classes that its tests use, and so perhaps other programs.

Nothing in this package uses them.
"""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np

from fastnn.estimators.attributes import Attributes


class PrivateNames(Attributes):
    """The part of `fastnn.estimators.base.BaseMLP` with scikit-learn's private attributes."""

    @property
    def _optimizer(self) -> SimpleNamespace:
        """An object with the learning rate of the optimizer, which cannot be set here."""
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
        """Set the parameters of the net; return the loss and its gradient there."""
        return self._objective(self._current_net(), X, y, sample_weight)(packed_coef_inter)
