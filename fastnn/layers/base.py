"""What all layers have in common."""

import math
from typing import ClassVar, NamedTuple

import numpy as np

from fastnn.engine.plan import Kernels
from fastnn.kernels.residual import copy_backward_kernel, copy_forward_kernel
from fastnn.validation import check_dtype, check_inputs, check_seed


class ParameterBlock(NamedTuple):
    """A matrix or a vector of parameters.

    Attributes
    ----------
    name : str
        In the layer's `params` or `buffers`.
    shape : tuple of int
        (I, O) or (O,).
    is_weight : bool
        Whether penalties, decay and limits are for it.
    is_buffer : bool
        Whether training changes it, but no gradient: running statistics.
    keeps_transposed : bool
        Whether training keeps a transposed copy, for the gradient of the layer's input.
    """

    name: str
    shape: tuple[int, ...]
    is_weight: bool = False
    is_buffer: bool = False
    keeps_transposed: bool = False


class Layer:
    """Base of all layers.

    Attributes
    ----------
    activation : str or None
        Name of the function it applies (`fastnn.kernels.activations.ACTIVATIONS`), by which the
        layer before finds its first weights too.
    parameter : float
        Of that function.
    numbers : tuple of float
        What the kernels of the layer need to know beside its sizes, at most 3.
    n_states : int
        Vectors that its kernels remember from the forward pass.
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

    activation: str | None = None
    parameter = 0.0
    numbers: tuple[float, ...] = ()
    n_states = 0
    only_in_training = False
    noise_seed: int | None = 0
    n_params = 0
    n_buffers = 0
    by_name: ClassVar[dict[str, type["Layer"]]] = {}
    """Layers of this package by their class name, as model files name them."""

    def __init_subclass__(cls, in_files=True, **arguments):
        super().__init_subclass__(**arguments)
        ours = cls.__module__.startswith("fastnn.layers.") and cls.__module__ != __name__
        if in_files and ours and not cls.__name__.startswith("_"):
            Layer.by_name[cls.__name__] = cls

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

    def blocks(self):
        """Return the blocks of parameters, in their order in memory; statistics come last."""
        return ()

    def kernels(self, dtype, purpose):
        """Return the kernels of the layer's operation, compiled.

        Parameters
        ----------
        dtype : numpy.dtype
        purpose : fastnn.engine.plan.Purpose

        Returns
        -------
        fastnn.engine.plan.Kernels
        """
        return Kernels(copy_forward_kernel(dtype), copy_backward_kernel(dtype))

    def add_to(self, plan):
        """Add the layer's operations to a plan (`fastnn.engine.plan.PlanBuilder`)."""
        plan.add(self)

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

    def add_to(self, plan):
        plan.add(self, self.n_outputs)

    def shapes(self):
        """Return the shapes of the parameters by name, in their order in memory."""
        return {block.name: block.shape for block in self.blocks() if not block.is_buffer}

    def buffer_shapes(self):
        """Return the shapes of the running statistics by name."""
        return {block.name: block.shape for block in self.blocks() if block.is_buffer}

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
