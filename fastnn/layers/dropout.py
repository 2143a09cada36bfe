"""Dropout: a layer that forgets at random while a net is trained."""

import numpy as np

from fastnn.engine.plan import Kernels
from fastnn.errors import shown
from fastnn.kernels import dropout, reference
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
    """Dropout: in training, each element is zero with probability `rate`.

    The others are divided by ``1 - rate``, so that the mean stays, and a prediction passes the
    layer by (Srivastava et al., 2014). No neuron can rely on another one being there.

    Which elements are dropped depends on the seed, on how many batches the layer has seen, and on
    the place in the batch. It does not depend on the number of threads.

    Parameters
    ----------
    rate : float, default 0.5
        In [0, 1).
    seed : int, optional
        Below 2^63. Default: drawn by the net from its own seed.

    Attributes
    ----------
    noise_seed : int or None
        The seed; None before a net or a forward pass has drawn one.
    step : int
        Batches seen in training.

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

    def __init__(self, rate=0.5, seed=None):
        super().__init__()
        if not 0 <= as_number(rate) < 1:
            raise ValueError(f"rate must be a number in [0, 1), got {shown(rate)}")
        self.rate = float(rate)
        self.noise_seed = None if seed is None else check_integer("seed", seed, 0, MOST)
        self.step = 0
        self._mask = None

    @property
    def numbers(self):
        return (self.rate,)

    def config(self):
        return {"rate": self.rate, "seed": self.noise_seed}

    def draw_seed(self, rng):
        """Take a seed from a generator, unless there is one."""
        if self.noise_seed is None:
            self.noise_seed = int(rng.integers(2**63))

    def kernels(self, dtype, purpose):
        return Kernels(dropout.forward_kernel(dtype), dropout.backward_kernel(dtype))

    def add_to(self, plan):
        if plan.purpose.training:
            plan.add(self)

    def forward(self, x, training=False):
        """Return x (B, I), in training with some elements dropped, others each time."""
        training = check_flag("training", training)
        x = float_matrix("x", x)
        self._mask = np.ones_like(x)
        if training:
            self.draw_seed(np.random.default_rng())
            reference.dropout_mask(self._mask, self.rate, self.noise_seed, self.step)
            self.step += 1
        return x * self._mask

    def backward(self, dout):
        """Return the gradient with respect to x, given dout (B, I)."""
        return check_gradient(dout, self._mask) * self._mask
