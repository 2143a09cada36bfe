"""The affine layer: one neuron for each column of its weights."""

from fastnn import initializers
from fastnn.engine.plan import Kernels
from fastnn.kernels import affine
from fastnn.layers.base import ParameterBlock, ParametricLayer
from fastnn.linalg import matmul
from fastnn.regularization import Regularization
from fastnn.validation import (
    MOST_COLUMNS,
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
        Columns of x (B, I) and of out (B, O).
    bias : bool, default True
        Whether there is a b.
    init : str, default "auto"
        How w is drawn: a name of `fastnn.initializers`, or "auto": what suits the activation that
        comes after, He uniform before a ReLU and its like, LeCun normal before SELU, Glorot uniform
        otherwise. b begins at zero.
    regularization : Regularization, optional
        Of w; default that of the whole net, which `Sequential.fit` is given.
    seed : int or numpy.random.Generator, optional
        For a layer used alone; a `Sequential` draws with its own.
    dtype : {"float32", "float64"}, default "float32"
        For a layer used alone.

    Attributes
    ----------
    params : dict
        "w" (I, O) and "b" (O,). Change them in place.
    grads : dict
        The same names and shapes, after `backward`.
    in_net : bool
        Whether a `Sequential` owns the parameters.

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
        n_inputs,
        n_outputs,
        bias=True,
        init="auto",
        *,
        regularization=None,
        seed=None,
        dtype="float32",
    ):
        n_inputs = check_integer("n_inputs", n_inputs, 1, MOST_COLUMNS)
        n_outputs = check_integer("n_outputs", n_outputs, 1, MOST_COLUMNS)
        check_elements("n_inputs * n_outputs", n_inputs * n_outputs)
        super().__init__(n_inputs, n_outputs, seed, dtype)
        self.bias = check_flag("bias", bias)
        if not isinstance(init, str) or init != "auto":
            initializers.get(init, "init")  # refuses unknown names
        self.init = init
        self.regularization = Regularization.of(regularization)

    def config(self):
        config = {
            "n_inputs": self.n_inputs,
            "n_outputs": self.n_outputs,
            "bias": self.bias,
            "init": self.init,
        }
        if self.regularization is not None:
            config["regularization"] = self.regularization.config()
        return config

    def blocks(self):
        shape = self.n_inputs, self.n_outputs
        w = ParameterBlock("w", shape, is_weight=True, keeps_transposed=True)
        return (w, ParameterBlock("b", shape[1:])) if self.bias else (w,)

    def kernels(self, dtype, purpose):
        if purpose.one_row:
            forward = affine.row_forward_kernel(dtype, purpose.packed)
            return Kernels(forward, is_product=True)
        forward, in_place = affine.forward_kernel, 0
        if purpose.sparse:
            forward = affine.sparse_forward_kernel
        if not purpose.training:
            if not purpose.sparse:
                in_place = affine.in_place_forward_kernel(dtype)
            return Kernels(forward(dtype), forward_in_place=in_place, is_product=True)
        weight_gradient = affine.weight_gradient_kernel
        if purpose.sparse:
            weight_gradient = affine.sparse_weight_gradient_kernel
        sums = {"w": weight_gradient(dtype), "b": affine.column_sums_kernel(dtype)}
        return Kernels(forward(dtype), affine.backward_kernel(dtype), sums=sums, is_product=True)

    def _draw(self, rng, before):
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

    def forward(self, x, training=False):
        """Return x @ w + b.

        Parameters
        ----------
        x : array_like (B, I)
        training : bool
            Makes no difference.

        Returns
        -------
        ndarray (B, O)
        """
        x = self._check_input(x)
        return matmul(x, self.params["w"], bias=self.params.get("b"))

    def backward(self, dout):
        """Overwrite `grads` with x.T @ dout and the column sums of dout; return dout @ w.T.

        Parameters
        ----------
        dout : array_like (B, O)
            Gradient of the loss with respect to the output of the last `forward`.

        Returns
        -------
        ndarray (B, I)

        Raises
        ------
        RuntimeError
            If `forward` has not been called.
        """
        dout = self._check_gradient(dout)
        self.grads = {"w": matmul(self._x.T, dout)}
        if self.bias:
            self.grads["b"] = dout.sum(axis=0)
        return matmul(dout, self.params["w"].T)
