"""Layer normalisation: a layer that standardises each row."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from fastnn.engine.plan import Kernels, Purpose
from fastnn.kernels import layer_norm
from fastnn.kernels.affine import column_sums_kernel
from fastnn.kernels.reference import normalisation as reference
from fastnn.layers.normalisation import _Normalisation


class LayerNorm(_Normalisation):
    """Layer normalisation: standardises each row, then scales and shifts each column.

    ``out = (x - mean) / sqrt(variance + epsilon) * gamma + beta``, with mean and (biased) variance
    over the columns of a row (Ba, Kiros & Hinton, 2016). The same in training and prediction.

    Parameters
    ----------
    n_features : int
        Columns of x (B, I), at least 1.
    epsilon : float, default=1e-5
        Added to the variance, so that the divisor is not zero; greater than 0.
    dtype : {"float32", "float64"}, default="float32"
        Type of the parameters of a layer without a net.

    Attributes
    ----------
    params : dict of str to ndarray
        "gamma" and "beta" of shape (I,), at first 1 and 0.
    grads : dict of str to ndarray
        The gradients with respect to the parameters, with the same names, after `backward`.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import LayerNorm
    >>> LayerNorm(2).forward(np.array([[3.0, 5.0], [10.0, 20.0]])).round(3).tolist()
    [[-1.0, 1.0], [-1.0, 1.0]]
    """

    n_states = 2

    def __init__(
        self, n_features: int, epsilon: float = 1e-5, *, dtype: DTypeLike = "float32"
    ) -> None:
        super().__init__(n_features, epsilon, dtype)

    @property
    def numbers(self) -> tuple[float, ...]:
        return (self.epsilon,)

    def config(self) -> dict[str, Any]:
        return {"n_features": self.n_features, "epsilon": self.epsilon}

    def kernels(self, dtype: np.dtype, purpose: Purpose) -> Kernels:
        forward = layer_norm.forward_kernel(dtype)
        if not purpose.training:
            return Kernels(forward)
        sums = {"gamma": layer_norm.scale_gradient_kernel(dtype), "beta": column_sums_kernel(dtype)}
        return Kernels(forward, layer_norm.backward_kernel(dtype), sums=sums)

    def forward(self, x: ArrayLike, training: bool = False) -> np.ndarray:
        """Return the normalised batch.

        Parameters
        ----------
        x : array-like of shape (B, I)
            The batch.
        training : bool, default=False
            Makes no difference.

        Returns
        -------
        ndarray of shape (B, I)

        Raises
        ------
        ValueError
            If x is not numeric or has not I columns.
        """
        x = self._check_input(x)
        out = np.empty_like(x)
        reference.layer_norm_forward(
            out, x, self.params["gamma"], self.params["beta"], self.epsilon
        )
        return out

    def backward(self, dout: ArrayLike) -> np.ndarray:
        x, dout = self._check_gradient(dout)
        gamma = self.params["gamma"]
        dx, dgamma, dbeta = np.empty_like(dout), np.empty_like(gamma), np.empty_like(gamma)
        reference.layer_norm_backward(dx, dgamma, dbeta, dout, x, gamma, self.epsilon)
        self.grads = {"gamma": dgamma, "beta": dbeta}
        return dx
