"""The layer that scales each column."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from fastnn.engine.plan import Kernels, Purpose
from fastnn.kernels import scale
from fastnn.kernels.reference import normalisation as reference
from fastnn.layers.base import Layer, ParameterBlock, ParametricLayer
from fastnn.validation import MOST_COLUMNS, check_integer


class Scale(ParametricLayer):
    """A scale of each column: ``out = x * s``.

    Parameters
    ----------
    n_features : int
        Columns of x (B, I), at least 1.
    dtype : {"float32", "float64"}, default="float32"
        Type of the parameters of a layer without a net.

    Attributes
    ----------
    params : dict of str to ndarray
        "s" of shape (I,), at first 1.
    grads : dict of str to ndarray
        The gradient with respect to "s", after `backward`.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import Scale
    >>> Scale(2).forward(np.array([[3.0, 5.0]])).tolist()
    [[3.0, 5.0]]
    """

    def __init__(self, n_features: int, *, dtype: DTypeLike = "float32") -> None:
        n_features = check_integer("n_features", n_features, 1, MOST_COLUMNS)
        super().__init__(n_features, n_features, None, dtype)
        self.n_features = n_features

    def config(self) -> dict[str, Any]:
        return {"n_features": self.n_features}

    def blocks(self) -> tuple[ParameterBlock, ...]:
        return (ParameterBlock("s", (self.n_features,)),)

    def kernels(self, dtype: np.dtype, purpose: Purpose) -> Kernels:
        forward = scale.forward_kernel(dtype)
        if not purpose.training:
            return Kernels(forward)
        sums = {"s": scale.sum_gradient_kernel(dtype)}
        return Kernels(forward, scale.backward_kernel(dtype), sums=sums)

    def _draw(self, rng: np.random.Generator, before: Layer | None) -> None:
        self._params["s"][:] = 1

    def forward(self, x: ArrayLike, training: bool = False) -> np.ndarray:
        x = self._check_input(x)
        out = np.empty_like(x)
        reference.scale_forward(out, x, self.params["s"])
        return out

    def backward(self, dout: ArrayLike) -> np.ndarray:
        x, dout = self._check_gradient(dout)
        s = self.params["s"]
        dx, ds = np.empty_like(dout), np.empty_like(s)
        reference.scale_backward(dx, ds, dout, x, s)
        self.grads = {"s": ds}
        return dx
