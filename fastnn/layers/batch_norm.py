"""Batch normalisation: a layer that keeps the size of signals, column by column."""

import numpy as np

from fastnn.engine.plan import Kernels
from fastnn.errors import shown
from fastnn.kernels import batch_norm, reference
from fastnn.layers.base import ParameterBlock
from fastnn.layers.normalisation import _Normalisation
from fastnn.validation import check_flag, check_number


class BatchNorm(_Normalisation):
    """Batch normalisation: each column of a batch gets mean 0 and variance 1, then a new scale.

    ``out = (x - mean) / sqrt(variance + epsilon) * gamma + beta``, with mean and (biased) variance
    over the rows of the batch in training, and with their running values otherwise, so that a
    prediction does not depend on the other rows (Ioffe & Szegedy, 2015). After each batch
    ``running += momentum * (batch's - running)``, where the batch's variance is the unbiased one.
    The same as PyTorch's ``BatchNorm1d``.

    A bias in the affine layer before it has no effect: ``Affine(I, O, bias=False)`` saves it.

    Parameters
    ----------
    n_features : int
        Columns of x (B, I).
    momentum : float, default 0.1
        Share of the newest batch in the running statistics, in [0, 1].
    epsilon : float, default 1e-5
        Keeps the divisor from zero.
    dtype : {"float32", "float64"}, default "float32"
        For a layer used alone.

    Attributes
    ----------
    params : dict
        "gamma" and "beta" (I,), which begin at 1 and 0.
    buffers : dict
        "running_mean" and "running_variance" (I,), which begin at 0 and 1.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import BatchNorm
    >>> layer = BatchNorm(1, dtype="float64")
    >>> out = layer.forward(np.array([[0.0], [2.0]]), training=True)
    >>> out.round(3).tolist()
    [[-1.0], [1.0]]
    >>> layer.buffers["running_mean"].round(3).tolist()
    [0.1]
    """

    n_states = 3

    def __init__(self, n_features, momentum=0.1, epsilon=1e-5, *, dtype="float32"):
        super().__init__(n_features, epsilon, dtype)
        self.momentum = check_number("momentum", momentum)
        if self.momentum > 1:
            raise ValueError(f"momentum must be a number in [0, 1], got {shown(momentum)}")
        self._statistics = None

    @property
    def numbers(self):
        return self.epsilon, self.momentum

    def config(self):
        return {
            "n_features": self.n_features,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
        }

    def blocks(self):
        shape = (self.n_features,)
        statistics = (
            ParameterBlock(name, shape, is_buffer=True)
            for name in ("running_mean", "running_variance")
        )
        return (*super().blocks(), *statistics)

    def set_values(self, params, buffers):
        least = buffers["running_variance"].min()
        if least < 0:
            raise ValueError(f"running_variance must be >= 0, got {least}")
        super().set_values(params, buffers)

    def _draw(self, rng, before):
        super()._draw(rng, before)
        self._buffers["running_mean"][:] = 0
        self._buffers["running_variance"][:] = 1

    def kernels(self, dtype, purpose):
        if not purpose.training:
            return Kernels(batch_norm.evaluation_kernel(dtype))
        return Kernels(
            batch_norm.forward_kernel(dtype),
            batch_norm.backward_kernel(dtype),
            gradients=batch_norm.GRADIENTS,
            whole_batch=True,
        )

    def forward(self, x, training=False):
        """Return the normalised x.

        Parameters
        ----------
        x : array_like (B, I)
            At least 2 rows in training.
        training : bool, default False
            Whether the statistics are those of x, and the running ones follow them.

        Returns
        -------
        ndarray (B, I)
        """
        training = check_flag("training", training)
        if training and np.ndim(x) == 2 and len(x) < 2:
            raise ValueError(f"x must have at least 2 rows in training, got {len(x)}")
        x = self._check_input(x)
        gamma, beta = self.params["gamma"], self.params["beta"]
        if training:
            mean, variance = np.empty_like(gamma), np.empty_like(gamma)
            reference.column_statistics(mean, variance, x)
            unbiased = variance * (len(x) / (len(x) - 1))
            for name, new in (("running_mean", mean), ("running_variance", unbiased)):
                self._buffers[name] += self.momentum * (new - self._buffers[name])
        else:
            mean, variance = (values.copy() for values in self._buffers.values())
        self._statistics = mean, variance, training
        out = np.empty_like(x)
        reference.batch_norm_forward(out, x, mean, variance, gamma, beta, self.epsilon)
        return out

    def backward(self, dout):
        """Overwrite `grads`; return the gradient with respect to x.

        Parameters
        ----------
        dout : array_like (B, I)
            Gradient of the loss with respect to the output of the last `forward`.

        Returns
        -------
        ndarray (B, I)
            After a forward pass in training, with the share that goes through mean and variance.
        """
        dout = self._check_gradient(dout)
        mean, variance, training = self._statistics
        gamma = self.params["gamma"]
        dx, dgamma, dbeta = np.empty_like(dout), np.empty_like(gamma), np.empty_like(gamma)
        differentiate = (
            reference.batch_norm_backward if training else reference.batch_norm_backward_fixed
        )
        differentiate(dx, dgamma, dbeta, dout, self._x, mean, variance, gamma, self.epsilon)
        self.grads = {"gamma": dgamma, "beta": dbeta}
        return dx
