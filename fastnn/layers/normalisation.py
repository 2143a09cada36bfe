"""Layers that keep the size of signals: batch and layer normalisation."""

import numpy as np

from fastnn.errors import shown
from fastnn.kernels import codes, reference
from fastnn.kernels.normalisation import (
    batch_norm_evaluation,
    batch_norm_members,
    layer_norm_members,
)
from fastnn.layers.base import ParametricLayer
from fastnn.validation import (
    MOST_COLUMNS,
    SMALLEST,
    check_flag,
    check_integer,
    check_number,
    check_positive,
)


class _Normalisation(ParametricLayer):
    """Base of the two: a scale and a shift for each column."""

    def __init__(self, n_features, epsilon, dtype):
        n_features = check_integer("n_features", n_features, 1, MOST_COLUMNS)
        super().__init__(n_features, n_features, None, dtype)
        self.n_features = n_features
        self.epsilon = check_positive("epsilon", epsilon, SMALLEST)

    def shapes(self):
        return {"gamma": (self.n_features,), "beta": (self.n_features,)}

    def _draw(self, rng, before):
        self._params["gamma"][:] = 1
        self._params["beta"][:] = 0


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

    kind = codes.BATCH

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

    def buffer_shapes(self):
        return {"running_mean": (self.n_features,), "running_variance": (self.n_features,)}

    def set_values(self, params, buffers):
        least = buffers["running_variance"].min()
        if least < 0:
            raise ValueError(f"running_variance must be >= 0, got {least}")
        super().set_values(params, buffers)

    def _draw(self, rng, before):
        super()._draw(rng, before)
        self._buffers["running_mean"][:] = 0
        self._buffers["running_variance"][:] = 1

    def members(self, dtype, training):
        return batch_norm_members(dtype) if training else batch_norm_evaluation(dtype)

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


class LayerNorm(_Normalisation):
    """Layer normalisation: each row gets mean 0 and variance 1, then each column a new scale.

    ``out = (x - mean) / sqrt(variance + epsilon) * gamma + beta``, with mean and (biased) variance
    over the columns of a row (Ba, Kiros & Hinton, 2016). The same in training and prediction.

    Parameters
    ----------
    n_features : int
        Columns of x (B, I).
    epsilon : float, default 1e-5
        Keeps the divisor from zero.
    dtype : {"float32", "float64"}, default "float32"
        For a layer used alone.

    Attributes
    ----------
    params : dict
        "gamma" and "beta" (I,), which begin at 1 and 0.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import LayerNorm
    >>> LayerNorm(2).forward(np.array([[3.0, 5.0], [10.0, 20.0]])).round(3).tolist()
    [[-1.0, 1.0], [-1.0, 1.0]]
    """

    kind = codes.EXTERN

    def __init__(self, n_features, epsilon=1e-5, *, dtype="float32"):
        super().__init__(n_features, epsilon, dtype)

    @property
    def numbers(self):
        return (self.epsilon,)

    def config(self):
        return {"n_features": self.n_features, "epsilon": self.epsilon}

    def members(self, dtype, training):
        return layer_norm_members(dtype)

    def forward(self, x, training=False):
        """Return the normalised x (B, I); `training` makes no difference."""
        x = self._check_input(x)
        out = np.empty_like(x)
        reference.layer_norm_forward(
            out, x, self.params["gamma"], self.params["beta"], self.epsilon
        )
        return out

    def backward(self, dout):
        """Overwrite `grads`; return the gradient with respect to x (B, I), given dout (B, I)."""
        dout = self._check_gradient(dout)
        gamma = self.params["gamma"]
        dx, dgamma, dbeta = np.empty_like(dout), np.empty_like(gamma), np.empty_like(gamma)
        reference.layer_norm_backward(dx, dgamma, dbeta, dout, self._x, gamma, self.epsilon)
        self.grads = {"gamma": dgamma, "beta": dbeta}
        return dx
