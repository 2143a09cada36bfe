"""Batch normalisation: a layer that standardises each column."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from fastnn.engine.plan import Kernels, Purpose
from fastnn.errors import shown
from fastnn.kernels import batch_norm
from fastnn.kernels.reference import normalisation as reference
from fastnn.layers.base import Layer, ParameterBlock
from fastnn.layers.normalisation import _Normalisation
from fastnn.validation import check_flag, check_number


class BatchNorm(_Normalisation):
    """Batch normalisation: standardises each column of a batch, then scales and shifts it.

    ``out = (x - mean) / sqrt(variance + epsilon) * gamma + beta`` (Ioffe & Szegedy, 2015). In
    training, mean and (biased) variance are those of the rows of the batch. In predictions they are
    the running statistics, so a prediction does not depend on the other rows. Each batch of the
    training updates them: ``running += momentum * (batch - running)``, with the unbiased variance
    of the batch. All as in PyTorch's ``BatchNorm1d``.

    A bias of the affine layer before it has no effect: use ``Affine(I, O, bias=False)``.

    Parameters
    ----------
    n_features : int
        Columns of x (B, I), at least 1.
    momentum : float, default=0.1
        Weight of the newest batch in the running statistics, in [0, 1].
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
    buffers : dict of str to ndarray
        "running_mean" and "running_variance" of shape (I,), at first 0 and 1.

    Raises
    ------
    ValueError
        If an argument is out of range.

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

    def __init__(
        self,
        n_features: int,
        momentum: float = 0.1,
        epsilon: float = 1e-5,
        *,
        dtype: DTypeLike = "float32",
    ) -> None:
        super().__init__(n_features, epsilon, dtype)
        self.momentum = check_number("momentum", momentum)
        if self.momentum > 1:
            raise ValueError(f"momentum must be a number in [0, 1], got {shown(momentum)}")
        self._statistics: Any = None  # (mean, variance, training) of the last forward pass

    @property
    def numbers(self) -> tuple[float, ...]:
        return self.epsilon, self.momentum

    def config(self) -> dict[str, Any]:
        return {
            "n_features": self.n_features,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
        }

    def blocks(self) -> tuple[ParameterBlock, ...]:
        shape = (self.n_features,)
        statistics = (
            ParameterBlock(name, shape, is_buffer=True)
            for name in ("running_mean", "running_variance")
        )
        return (*super().blocks(), *statistics)

    def set_values(self, params: dict[str, np.ndarray], buffers: dict[str, np.ndarray]) -> None:
        least = buffers["running_variance"].min()
        if least < 0:
            raise ValueError(f"running_variance must be >= 0, got {least}")
        super().set_values(params, buffers)

    def _draw(self, rng: np.random.Generator, before: Layer | None) -> None:
        super()._draw(rng, before)
        self._buffers["running_mean"][:] = 0
        self._buffers["running_variance"][:] = 1

    def kernels(self, dtype: np.dtype, purpose: Purpose) -> Kernels:
        if not purpose.training:
            return Kernels(batch_norm.evaluation_kernel(dtype))
        return Kernels(
            batch_norm.forward_kernel(dtype),
            batch_norm.backward_kernel(dtype),
            gradients=batch_norm.GRADIENTS,
            whole_batch=True,
        )

    def forward(self, x: ArrayLike, training: bool = False) -> np.ndarray:
        """Return the normalised batch.

        Parameters
        ----------
        x : array-like of shape (B, I)
            The batch; at least 2 rows in training.
        training : bool, default=False
            Whether to use the statistics of x and to update the running statistics. If not, the
            running statistics are used.

        Returns
        -------
        ndarray of shape (B, I)

        Raises
        ------
        ValueError
            If x is not numeric, has not I columns, or in training fewer than 2 rows.
        """
        training = check_flag("training", training)
        if training and np.ndim(x) == 2 and np.shape(x)[0] < 2:
            raise ValueError(f"x must have at least 2 rows in training, got {np.shape(x)[0]}")
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

    def backward(self, dout: ArrayLike) -> np.ndarray:
        """Overwrite `grads`; return the gradient of the loss with respect to the last input.

        Parameters
        ----------
        dout : array-like of shape (B, I)
            Gradient of the loss with respect to the output of the last `forward`.

        Returns
        -------
        ndarray of shape (B, I)
            If that `forward` was one of training, the gradient includes those of the mean and of
            the variance of the batch.

        Raises
        ------
        RuntimeError
            If `forward` has not been called.
        ValueError
            If dout has another shape than that output.
        """
        x, dout = self._check_gradient(dout)
        mean, variance, training = self._statistics
        gamma = self.params["gamma"]
        dx, dgamma, dbeta = np.empty_like(dout), np.empty_like(gamma), np.empty_like(gamma)
        differentiate = (
            reference.batch_norm_backward if training else reference.batch_norm_backward_fixed
        )
        differentiate(dx, dgamma, dbeta, dout, x, mean, variance, gamma, self.epsilon)
        self.grads = {"gamma": dgamma, "beta": dbeta}
        return dx
