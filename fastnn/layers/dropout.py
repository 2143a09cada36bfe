"""Dropout: a layer that sets random elements to zero in training."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastnn.engine.plan import Kernels, PlanBuilder, Purpose
from fastnn.errors import shown
from fastnn.kernels import dropout
from fastnn.kernels.reference.dropout import dropout_mask
from fastnn.layers.base import Layer
from fastnn.validation import (
    MOST,
    as_number,
    check_flag,
    check_gradient,
    check_integer,
    float_matrix,
)


class Dropout(Layer):
    """Dropout: in training, sets each element to zero with the probability `rate`.

    The other elements are divided by ``1 - rate``, which keeps the mean, so predictions leave the
    layer out (Srivastava et al., 2014). No neuron can rely on the output of another one.

    The elements that are dropped depend on the seed, on the number of batches so far, and on the
    place in the batch. They do not depend on the number of threads.

    Parameters
    ----------
    rate : float, default=0.5
        Probability, in [0, 1).
    seed : int, default=None
        Seed of the random numbers, from 0 to 2^63 - 1. None has the net draw one with its own
        generator; a layer without a net draws one at random.

    Attributes
    ----------
    noise_seed : int or None
        The seed; None until it is drawn.
    step : int
        Number of batches in training so far.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import Dropout
    >>> layer = Dropout(0.5, seed=5)
    >>> layer.forward(np.ones((2, 4)), training=True).tolist()
    [[2.0, 2.0, 0.0, 0.0], [0.0, 2.0, 2.0, 2.0]]
    >>> layer.forward(np.ones((1, 4))).tolist()
    [[1.0, 1.0, 1.0, 1.0]]
    """

    only_in_training = True

    def __init__(self, rate: float = 0.5, seed: int | None = None) -> None:
        super().__init__()
        if not 0 <= as_number(rate) < 1:
            raise ValueError(f"rate must be a number in [0, 1), got {shown(rate)}")
        self.rate = float(rate)
        self.noise_seed = None if seed is None else check_integer("seed", seed, 0, MOST)
        self.step = 0
        self._mask: Any = None  # an ndarray after a forward pass: 0 or 1 / (1 - rate)

    @property
    def numbers(self) -> tuple[float, ...]:
        return (self.rate,)

    def config(self) -> dict[str, Any]:
        return {"rate": self.rate, "seed": self.noise_seed}

    def draw_seed(self, rng: np.random.Generator) -> None:
        """Draw the seed with a generator, unless the layer has one."""
        if self.noise_seed is None:
            self.noise_seed = int(rng.integers(2**63))

    def kernels(self, dtype: np.dtype, purpose: Purpose) -> Kernels:
        return Kernels(dropout.forward_kernel(dtype), dropout.backward_kernel(dtype))

    def add_to(self, plan: PlanBuilder) -> None:
        if plan.purpose.training:
            plan.add(self)

    def forward(self, x: ArrayLike, training: bool = False) -> np.ndarray:
        """Return x, in training with some elements set to zero, others in each call.

        Parameters
        ----------
        x : array-like of shape (B, I)
            The batch.
        training : bool, default=False
            Whether to drop elements, and to count the batch.

        Returns
        -------
        ndarray of shape (B, I)
            A copy.

        Raises
        ------
        ValueError
            If x is not a numeric matrix.
        """
        training = check_flag("training", training)
        x = float_matrix("x", x)
        self._mask = np.ones_like(x)
        if training:
            self.draw_seed(np.random.default_rng())
            dropout_mask(self._mask, self.rate, self.noise_seed, self.step)
            self.step += 1
        return x * self._mask

    def backward(self, dout: ArrayLike) -> np.ndarray:
        return check_gradient(dout, self._mask) * self._mask
