"""The loss of a net on a data set as a function of all its parameters, with the gradient.

For optimizers that want that of all samples at once, such as L-BFGS.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastnn.engine.layout import ParameterLayout
from fastnn.kernels.updates import GRADIENT_ALONE, Rule
from fastnn.losses import Loss
from fastnn.optimizers import Optimizer
from fastnn.training.trainer import Trainer
from fastnn.validation import Table, as_array, kernel_array


@dataclass(frozen=True)
class _NoUpdate(Optimizer):
    """Leaves the parameters alone; the gradient takes the place of the optimizer's state."""

    learning_rate: float = 1.0

    @property
    def rule(self) -> Rule:
        return GRADIENT_ALONE


class Objective:
    """Call it with a vector of parameters to get the loss there and its gradient.

    Parameters
    ----------
    net : Sequential
        Its parameters are overwritten in each call, and running statistics follow, as in training.
        With `Dropout` the loss is another one in each call.
    loss : str or Loss
    X, y, sample_weight
        As for `fastnn.training.Trainer.set_data`.
    alpha : float, default 0
        Strength of the L2 penalty, as for the trainer.
    n_threads : int, optional
        The most to use.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import Affine, Sequential
    >>> from fastnn.training import Objective
    >>> net = Sequential([Affine(2, 1)], dtype="float64")
    >>> objective = Objective(net, "mse", np.eye(2), np.ones(2))
    >>> objective(np.array([0.0, 0.5, 0.5]))  # two weights, then the bias
    (0.125, array([-0.5,  0. , -0.5]))
    """

    def __init__(
        self,
        net: Any,
        loss: str | Loss,
        X: Table,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        alpha: float = 0.0,
        n_threads: int | None = None,
    ) -> None:
        self._net = net
        self._trainer = Trainer(net, loss, _NoUpdate(), 1, alpha, n_threads)
        x = net.check_samples(X)
        self._order = np.arange(len(x))
        self._trainer.batch_size = max(1, len(x))
        self._trainer.set_data(x, y, sample_weight)

    def parameters(self) -> np.ndarray:
        """Return the net's parameters as a vector: all weights layer by layer, then all biases.

        Scales of normalisation stand among the weights, shifts among the biases.
        """
        return _flatten(self._net.layout, self._net.memory)

    def set_parameters(self, vector: ArrayLike) -> None:
        """Overwrite the net's parameters.

        Parameters
        ----------
        vector : array_like (P,)
            As `parameters` returns it.

        Raises
        ------
        ValueError
            If it is none of that length.
        """
        vector = as_array("vector", vector)
        if vector.dtype.kind not in "biuf" or vector.shape != (self._net.n_params,):
            raise ValueError(
                f"vector must be {self._net.n_params} numbers, got shape {vector.shape} and "
                f"dtype {vector.dtype}"
            )
        vector = kernel_array(vector, self._net.dtype)
        place = 0
        for array in _in_order(self._net.layout, self._net.memory):
            array[...] = vector[place : place + array.size].reshape(array.shape)
            place += array.size

    def __call__(self, vector: ArrayLike) -> tuple[float, np.ndarray]:
        """Return the loss, a float, and its gradient, shaped as the vector of parameters."""
        self.set_parameters(vector)
        self._trainer.pull()
        data_loss, penalty = self._trainer.run_epoch(self._order)
        if any(layer.n_buffers for layer in self._net.leaves()):
            self._trainer.sync()
        return data_loss + penalty, _flatten(
            self._net.layout, self._trainer.memory.state_vectors()[0]
        )


def _in_order(layout: ParameterLayout, vector: np.ndarray) -> list[np.ndarray]:
    """Return views of all trained parameters: each layer's first block, then all others."""
    trained = layout.trained(vector)
    return [own[0] for own in trained] + [array for own in trained for array in own[1:]]


def _flatten(layout: ParameterLayout, vector: np.ndarray) -> np.ndarray:
    parts = [array.ravel() for array in _in_order(layout, vector)]
    return np.concatenate(parts, dtype=np.float64)
