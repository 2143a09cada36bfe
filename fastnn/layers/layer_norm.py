"""Layer normalisation: a layer that keeps the size of signals, row by row."""

import numpy as np

from fastnn.engine.plan import Kernels
from fastnn.kernels import layer_norm, reference
from fastnn.kernels.affine import column_sums_kernel
from fastnn.layers.normalisation import _Normalisation


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

    n_states = 2

    def __init__(self, n_features, epsilon=1e-5, *, dtype="float32"):
        super().__init__(n_features, epsilon, dtype)

    @property
    def numbers(self):
        return (self.epsilon,)

    def config(self):
        return {"n_features": self.n_features, "epsilon": self.epsilon}

    def kernels(self, dtype, purpose):
        forward = layer_norm.forward_kernel(dtype)
        if not purpose.training:
            return Kernels(forward)
        sums = {"gamma": layer_norm.scale_gradient_kernel(dtype), "beta": column_sums_kernel(dtype)}
        return Kernels(forward, layer_norm.backward_kernel(dtype), sums=sums)

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
