"""The affine layer: one neuron for each column of its weights."""

import numpy as np

from fastnn import initializers
from fastnn.kernels import codes
from fastnn.layers.activations import LeakyReLU, ReLU
from fastnn.layers.base import Layer
from fastnn.linalg import matmul
from fastnn.validation import check_dtype, check_inputs, check_integer, check_seed


class Affine(Layer):
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
        How w is drawn: a name of `fastnn.initializers`, or "auto": He uniform before a ReLU or
        leaky ReLU, Glorot uniform otherwise. b begins at zero.
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

    kind = codes.AFFINE

    def __init__(self, n_inputs, n_outputs, bias=True, init="auto", *, seed=None, dtype="float32"):
        super().__init__()
        self.n_inputs = check_integer("n_inputs", n_inputs, 1)
        self.n_outputs = check_integer("n_outputs", n_outputs, 1)
        self.bias = bool(bias)
        if init != "auto":
            initializers.get(init)  # refuses unknown names
        self.init = init
        self._rng, self._dtype = check_seed(seed), check_dtype(dtype)
        self._params = None
        self._x = None
        self.in_net = False

    def __getstate__(self):
        return {**vars(self), "in_net": False}  # a copy belongs to no net yet

    def config(self):
        return {
            "n_inputs": self.n_inputs,
            "n_outputs": self.n_outputs,
            "bias": self.bias,
            "init": self.init,
        }

    @property
    def n_params(self):
        """Number of parameters."""
        return self.n_inputs * self.n_outputs + (self.n_outputs if self.bias else 0)

    @property
    def params(self):
        if self._params is None:
            self.initialize(self._rng)
        return self._params

    def bind(self, vector):
        """Let the parameters be views of `vector` (n_params,): w row by row, then b.

        Parameters that exist already are copied there.
        """
        n_weights = self.n_inputs * self.n_outputs
        views = {"w": vector[:n_weights].reshape(self.n_inputs, self.n_outputs)}
        if self.bias:
            views["b"] = vector[n_weights : self.n_params]
        for name, values in (self._params or {}).items():
            views[name][...] = values
        self._params, self._dtype = views, vector.dtype

    @property
    def initialized(self):
        """Whether the parameters have values."""
        return self._params is not None

    def initialize(self, rng, before=None):
        """Draw the parameters anew.

        Parameters
        ----------
        rng : numpy.random.Generator
        before : Layer, optional
            The layer that takes this one's output; decides what "auto" means.
        """
        init = self.init
        if init == "auto":
            init = "he_uniform" if isinstance(before, (ReLU, LeakyReLU)) else "glorot_uniform"
        if self._params is None:
            self.bind(np.empty(self.n_params, self._dtype))
        draw = initializers.get(init)
        self._params["w"][...] = draw(rng, self.n_inputs, self.n_outputs, self._dtype)
        if self.bias:
            self._params["b"][...] = 0

    def forward(self, x):
        """Return x @ w + b.

        Parameters
        ----------
        x : array_like (B, I)

        Returns
        -------
        ndarray (B, O)
        """
        params = self.params
        x = check_inputs(x, self._dtype, self.n_inputs, "x", finite=False)
        self._x = x
        return matmul(x, params["w"], bias=params.get("b"))

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
        if self._x is None:
            raise RuntimeError("backward needs a forward pass before it")
        dout = check_inputs(dout, self._dtype, self.n_outputs, "dout", finite=False)
        if len(dout) != len(self._x):
            raise ValueError(f"dout must have {len(self._x)} rows as x had, got {len(dout)}")
        self.grads = {"w": matmul(self._x.T, dout)}
        if self.bias:
            self.grads["b"] = dout.sum(axis=0)
        return matmul(dout, self.params["w"].T)
