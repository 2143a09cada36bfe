"""Layers: the pieces of a net, each usable alone.

A layer has `forward(x)` and `backward(dout)`. In a `Sequential` the parameters of all layers are
views of one flat vector, and training runs on compiled kernels instead of these methods; the
methods compute the same numbers one layer at a time, for those who want to watch.
"""

import numpy as np

from fastnn import initializers
from fastnn.kernels import codes
from fastnn.kernels.activations import activate, differentiate
from fastnn.linalg import matmul
from fastnn.validation import check_dtype, check_inputs, check_integer, check_number, check_seed


class Layer:
    """Base of all layers.

    Attributes
    ----------
    kind, activation : int
        Kind of operation in a plan, and the function it applies (`fastnn.kernels.codes`).
    slope : float
        Of that function for negative input.
    params, grads : dict of str to ndarray
        Parameters, and after `backward` the gradients with respect to them; empty for a layer
        that has none.
    """

    kind = codes.ACTIVATION
    activation = codes.IDENTITY
    slope = 0.0

    def __init__(self):
        self.grads = {}

    @property
    def params(self):
        """Parameters by name."""
        return {}

    def config(self):
        """Return the constructor's arguments, as JSON can hold them."""
        return {}

    def forward(self, x):
        """Return the layer's output for x (B, I), and keep what `backward` needs."""
        raise NotImplementedError

    def backward(self, dout):
        """Return the gradient with respect to the last input, given that of the output."""
        raise NotImplementedError

    def __repr__(self):
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.config().items())
        return f"{type(self).__name__}({arguments})"


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


class _Activation(Layer):
    """Base of the layers that apply a function to each row or element."""

    def __init__(self):
        super().__init__()
        self._out = None

    def forward(self, x):
        """Return f(x) for x (B, I)."""
        self._out = self._copy(x, "x")
        if self._out.size:
            activate(self.activation, self.slope, self._out)
        return self._out.copy()

    def backward(self, dout):
        """Return the gradient with respect to x, given dout (B, I)."""
        if self._out is None:
            raise RuntimeError("backward needs a forward pass before it")
        dx = self._copy(dout, "dout").astype(self._out.dtype, copy=False)
        if dx.shape != self._out.shape:
            raise ValueError(f"dout must have the shape {self._out.shape} of x, got {dx.shape}")
        if dx.size:
            differentiate(self.activation, self.slope, dx, self._out)
        return dx

    def _copy(self, x, name):
        x = np.asarray(x)
        if x.dtype.kind not in "biuf" or x.ndim != 2:
            raise ValueError(
                f"{name} must be a numeric array with 2 dimensions, got shape {x.shape} and "
                f"dtype {x.dtype}"
            )
        single = x.dtype.kind == "f" and x.dtype.itemsize == 4
        return np.array(x, np.float32 if single else np.float64, order="C")


class Identity(_Activation):
    """The identity: ``f(x) = x``."""


class ReLU(_Activation):
    """Rectified linear unit: ``f(x) = max(x, 0)``, with the derivative 0 at 0.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import ReLU
    >>> ReLU().forward(np.array([[-1.0, 2.0]]))
    array([[0., 2.]])
    """

    activation = codes.RELU


class LeakyReLU(_Activation):
    """Leaky ReLU: ``f(x) = x`` for x > 0, else ``negative_slope * x`` (Maas et al., 2013).

    Parameters
    ----------
    negative_slope : float, default 0.01
        At least 0.
    """

    activation = codes.LEAKY_RELU

    def __init__(self, negative_slope=0.01):
        super().__init__()
        self.slope = check_number("negative_slope", negative_slope)

    def config(self):
        return {"negative_slope": self.slope}


class Sigmoid(_Activation):
    """The logistic function: ``f(x) = 1 / (1 + exp(-x))``."""

    activation = codes.LOGISTIC


class Tanh(_Activation):
    """The hyperbolic tangent."""

    activation = codes.TANH


class Softmax(_Activation):
    """Softmax of each row: ``f(x)_c = exp(x_c) / sum_k exp(x_k)``.

    Not needed before the loss "softmax_cross_entropy", which takes logits.
    """

    activation = codes.SOFTMAX


class Step(_Activation):
    """The step of the perceptron: 1 for x > 0, else 0.

    Its derivative is zero everywhere, so nothing before it can be trained by back-propagation.
    """

    activation = codes.STEP


LAYERS = {
    layer.__name__: layer
    for layer in (Affine, Identity, ReLU, LeakyReLU, Sigmoid, Tanh, Softmax, Step)
}
"""Layers by their class name, as model files name them."""


def from_config(name, config):
    """Return a new layer by its class name and constructor arguments.

    Raises
    ------
    ValueError
        If there is no such layer.
    """
    if name not in LAYERS:
        raise ValueError(f"layer must be one of {', '.join(LAYERS)}, got {name!r}")
    return LAYERS[name](**config)
