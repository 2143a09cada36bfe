"""The affine layer: one neuron for each column of its weights."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from fastnn import initializers
from fastnn.engine.plan import Kernels, Purpose
from fastnn.kernels import affine
from fastnn.kernels.products import product_kernel
from fastnn.layers.base import Layer, ParameterBlock, ParametricLayer
from fastnn.linalg import matmul
from fastnn.regularization import Regularization
from fastnn.validation import (
    MOST_COLUMNS,
    Seed,
    as_array,
    check_elements,
    check_finite,
    check_flag,
    check_integer,
    kernel_array,
)


class Affine(ParametricLayer):
    """An affine layer: ``out = x @ w + b``.

    Each column of w is one neuron: its output is the dot product of the input with that column,
    plus its bias.

    Parameters
    ----------
    n_inputs, n_outputs : int
        Columns of x (B, I) and of out (B, O), at least 1.
    bias : bool, default=True
        Whether the layer has a bias b.
    init : str or callable, default="auto"
        Initializer of w: a name or a function of `fastnn.initializers`, or "auto", which depends on
        the activation after the layer: He uniform before ReLU and its relatives, LeCun normal
        before SELU, Glorot uniform otherwise. b is zero at first.
    regularization : Regularization, default=None
        Regularization of w. None takes that of the net, an argument of `Sequential.fit`.
    seed : int or numpy.random.Generator, default=None
        Seed of w for a layer without a net. A `Sequential` draws the parameters of its layers with
        its own generator.
    dtype : {"float32", "float64"}, default="float32"
        Type of the parameters of a layer without a net.

    Attributes
    ----------
    params : dict of str to ndarray
        "w" of shape (I, O) and "b" of shape (O,). Change them in place.
    grads : dict of str to ndarray
        The gradients with respect to the parameters, with the same names, after `backward`.
    in_net : bool
        Whether a `Sequential` owns the parameters.

    Raises
    ------
    ValueError
        If an argument is out of range, or `init` is not the name of an initializer.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import Affine
    >>> layer = Affine(3, 2, seed=0)
    >>> layer.forward(np.ones((4, 3))).shape
    (4, 2)
    >>> layer.backward(np.ones((4, 2))).shape
    (4, 3)
    >>> layer.grads["w"].shape, layer.grads["b"].tolist()
    ((3, 2), [4.0, 4.0])
    """

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int,
        bias: bool = True,
        init: str | Callable[..., ArrayLike] = "auto",
        *,
        regularization: Regularization | dict[str, float] | None = None,
        seed: Seed = None,
        dtype: DTypeLike = "float32",
    ) -> None:
        n_inputs = check_integer("n_inputs", n_inputs, 1, MOST_COLUMNS)
        n_outputs = check_integer("n_outputs", n_outputs, 1, MOST_COLUMNS)
        check_elements("n_inputs * n_outputs", n_inputs * n_outputs)
        super().__init__(n_inputs, n_outputs, seed, dtype)
        self.bias = check_flag("bias", bias)
        if not isinstance(init, str) or init != "auto":
            initializers.get(init, "init")  # raises ValueError for an unknown name
        self.init = init
        self.regularization = Regularization.of(regularization)

    def config(self) -> dict[str, Any]:
        config: dict[str, Any] = {
            "n_inputs": self.n_inputs,
            "n_outputs": self.n_outputs,
            "bias": self.bias,
            "init": self.init,
        }
        if self.regularization is not None:
            config["regularization"] = self.regularization.config()
        return config

    def blocks(self) -> tuple[ParameterBlock, ...]:
        shape = self.n_inputs, self.n_outputs
        w = ParameterBlock("w", shape, is_weight=True, keeps_transposed=True)
        return (w, ParameterBlock("b", shape[1:])) if self.bias else (w,)

    def kernels(self, dtype: np.dtype, purpose: Purpose) -> Kernels:
        if purpose.one_row:
            forward = affine.row_forward_kernel(dtype, purpose.packed)
            return Kernels(forward, is_product=True)
        forward, in_place = affine.forward_kernel, 0
        product = product_kernel(dtype)
        if purpose.sparse:
            forward = affine.sparse_forward_kernel
        if not purpose.training:
            if not purpose.sparse:
                in_place = affine.in_place_forward_kernel(dtype)
            return Kernels(
                forward(dtype), forward_in_place=in_place, product=product, is_product=True
            )
        weight_gradient = affine.weight_gradient_kernel
        if purpose.sparse:
            weight_gradient = affine.sparse_weight_gradient_kernel
        sums = {"w": weight_gradient(dtype), "b": affine.column_sums_kernel(dtype)}
        backward = affine.backward_kernel(dtype)
        return Kernels(forward(dtype), backward, product=product, sums=sums, is_product=True)

    def _draw(self, rng: np.random.Generator, before: Layer | None) -> None:
        init = self.init
        if init == "auto":
            init = initializers.default_for(None if before is None else before.activation)
        draw = initializers.get(init)
        shape = self.n_inputs, self.n_outputs
        w = as_array("init", draw(rng, *shape, self._dtype))
        if w.shape != shape or w.dtype.kind not in "biuf":
            raise ValueError(
                f"init must return numbers of the shape {shape}, got shape {w.shape} and "
                f"dtype {w.dtype}"
            )
        w = kernel_array(w, self._dtype)
        check_finite("init", w)
        self._params["w"][...] = w
        if self.bias:
            self._params["b"][...] = 0

    def forward(self, x: ArrayLike, training: bool = False) -> np.ndarray:
        """Return ``x @ w + b``, and keep x for `backward`.

        Parameters
        ----------
        x : array-like of shape (B, I)
            The batch.
        training : bool, default=False
            Makes no difference.

        Returns
        -------
        ndarray of shape (B, O)

        Raises
        ------
        ValueError
            If x is not numeric or has not I columns.
        """
        x = self._check_input(x)
        return matmul(x, self.params["w"], bias=self.params.get("b"))

    def backward(self, dout: ArrayLike) -> np.ndarray:
        """Overwrite `grads` with ``x.T @ dout`` and the column sums of dout; return ``dout @ w.T``.

        Parameters
        ----------
        dout : array-like of shape (B, O)
            Gradient of the loss with respect to the output of the last `forward`.

        Returns
        -------
        ndarray of shape (B, I)

        Raises
        ------
        RuntimeError
            If `forward` has not been called.
        ValueError
            If dout has another shape than that output.
        """
        x, dout = self._check_gradient(dout)
        self.grads = {"w": matmul(x.T, dout)}
        if self.bias:
            self.grads["b"] = dout.sum(axis=0)
        return matmul(dout, self.params["w"].T)
