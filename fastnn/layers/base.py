"""What all layers have in common."""

import math

import numpy as np

from fastnn.kernels import codes
from fastnn.validation import check_dtype, check_inputs, check_seed


class Layer:
    """Base of all layers.

    Attributes
    ----------
    kind, activation : int
        Kind of operation in a plan, and the function it applies (`fastnn.kernels.codes`).
    slope : float
        Of that function for negative input.
    function : str or None
        Name of an activation, by which the layer before finds its first weights
        (`fastnn.initializers.default_for`).
    numbers : tuple of float
        What the kernels of the layer need to know beside its sizes.
    only_in_training : bool
        Whether predictions pass it by.
    noise_seed : int
        Where its random numbers come from.
    params, grads : dict of str to ndarray
        Parameters, and after `backward` the gradients with respect to them; empty for a layer
        that has none.
    buffers : dict of str to ndarray
        What training changes but no gradient does; empty for most layers.
    n_params, n_buffers : int
        Elements in all of them.
    """

    kind = codes.ACTIVATION
    activation = codes.IDENTITY
    slope = 0.0
    function = None
    numbers = ()
    only_in_training = False
    noise_seed = 0
    n_params = 0
    n_buffers = 0

    def __init__(self):
        self.grads = {}

    @property
    def params(self):
        """Parameters by name."""
        return {}

    @property
    def buffers(self):
        """Running statistics by name."""
        return {}

    def config(self):
        """Return the constructor's arguments, as JSON can hold them."""
        return {}

    def members(self, dtype, training):
        """Return the addresses of the layer's own kernels, by column of a plan; compile them.

        Parameters
        ----------
        dtype : numpy.dtype
        training : bool
            Whether they are for training or for prediction.
        """
        raise NotImplementedError

    def leaves(self):
        """Yield the layers that do the work: this one, or those inside of it."""
        yield self

    def forward(self, x, training=False):
        """Return the layer's output for x (B, I), and keep what `backward` needs.

        Parameters
        ----------
        x : array_like (B, I)
        training : bool, default False
            Only `Dropout` and `BatchNorm` do another thing then.
        """
        raise NotImplementedError

    def backward(self, dout):
        """Return the gradient with respect to the last input, given that of the output."""
        raise NotImplementedError

    def __repr__(self):
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.config().items())
        return f"{type(self).__name__}({arguments})"


class ParametricLayer(Layer):
    """Base of the layers with parameters, which are views of one vector.

    Parameters
    ----------
    n_inputs, n_outputs : int
        Columns of x (B, I) and of out (B, O).
    seed : int or numpy.random.Generator, optional
        For a layer used alone; a `Sequential` draws with its own.
    dtype : {"float32", "float64"}
        For a layer used alone.

    Attributes
    ----------
    in_net : bool
        Whether a `Sequential` owns the parameters.
    """

    def __init__(self, n_inputs, n_outputs, seed, dtype):
        super().__init__()
        self.n_inputs, self.n_outputs = n_inputs, n_outputs
        self._rng, self._dtype = check_seed(seed), check_dtype(dtype)
        self._params = self._buffers = None
        self._x = None
        self.in_net = False

    def __getstate__(self):
        return {**vars(self), "in_net": False}  # a copy belongs to no net yet

    def shapes(self):
        """Return the shapes of the parameters by name, in their order in memory."""
        raise NotImplementedError

    def buffer_shapes(self):
        """Return the shapes of the running statistics by name."""
        return {}

    @property
    def n_params(self):
        """Number of parameters."""
        return sum(map(math.prod, self.shapes().values()))

    @property
    def n_buffers(self):
        """Number of running statistics."""
        return sum(map(math.prod, self.buffer_shapes().values()))

    @property
    def params(self):
        if self._params is None:
            self.initialize(self._rng)
        return self._params

    @property
    def buffers(self):
        if self._params is None:
            self.initialize(self._rng)
        return self._buffers

    def bind(self, vector, buffers):
        """Let the parameters be views of `vector` (n_params,), the statistics of `buffers`.

        Those that exist already are copied there.
        """
        self._params = _views(vector, self.shapes(), self._params)
        self._buffers = _views(buffers, self.buffer_shapes(), self._buffers)
        self._dtype = vector.dtype

    def set_values(self, params, buffers):
        """Take arrays with the layer's shapes as its parameters and statistics, without a copy.

        Raises
        ------
        ValueError
            If no layer can have such values.
        """
        self._params, self._buffers = params, buffers

    def forget(self):
        """Go back to having no parameters: `params` draws them anew."""
        self._params = self._buffers = None

    def tensors(self):
        """Return parameters and statistics as a plan takes them (`fastnn.engine.plan.pack`)."""
        return (*self.params.values(), *self.buffers.values())

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
            The layer that takes this one's output.
        """
        fresh = self._params is None
        if fresh:
            self.bind(np.empty(self.n_params, self._dtype), np.empty(self.n_buffers, self._dtype))
        try:
            self._draw(rng, before)
        except BaseException:
            if fresh:
                self.forget()  # what has not been drawn must not be seen
            raise

    def _draw(self, rng, before):
        """Overwrite parameters and statistics with their first values."""
        raise NotImplementedError

    def _check_input(self, x):
        """Return x as a kernel array, and keep it for `backward`."""
        self.params  # noqa: B018  # drawn now, if not yet
        self._x = check_inputs(x, self._dtype, self.n_inputs, "x", finite=False)
        return self._x

    def _check_gradient(self, dout):
        """Return the gradient of the last output as a kernel array."""
        if self._x is None:
            raise RuntimeError("backward needs a forward pass before it")
        dout = check_inputs(dout, self._dtype, self.n_outputs, "dout", finite=False)
        if len(dout) != len(self._x):
            raise ValueError(f"dout must have {len(self._x)} rows as x had, got {len(dout)}")
        return dout


def _views(vector, shapes, values):
    """Cut a vector into arrays of some shapes; fill those for which there are values."""
    views, offset = {}, 0
    for name, shape in shapes.items():
        size = math.prod(shape)
        views[name] = vector[offset : offset + size].reshape(shape)
        if values is not None:
            views[name][...] = values[name]
        offset += size
    return views
