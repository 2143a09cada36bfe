"""The base classes of all layers."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from fastnn.engine.plan import Kernels, PlanBuilder, Purpose
from fastnn.kernels.residual import copy_backward_kernel, copy_forward_kernel
from fastnn.validation import Seed, check_dtype, check_inputs, check_seed


class ParameterBlock(NamedTuple):
    """A matrix or a vector of parameters, or of running statistics.

    Attributes
    ----------
    name : str
        Its key in the layer's `params` or `buffers`.
    shape : tuple of int
        (I, O) or (O,).
    is_weight : bool
        Whether regularization applies to it: penalties, decay and the limit of the norm.
    is_buffer : bool
        Whether it holds running statistics, which have no gradient.
    keeps_transposed : bool
        Whether training keeps a transposed copy of it, for the gradient of the layer's input.
    """

    name: str
    shape: tuple[int, ...]
    is_weight: bool = False
    is_buffer: bool = False
    keeps_transposed: bool = False


class Layer:
    """Base class of all layers.

    Attributes
    ----------
    activation : str or None
        Name of the function that the layer applies, a key of
        `fastnn.kernels.activations.ACTIVATIONS`. With ``init="auto"``, the weights of the layer
        before depend on it.
    parameter : float
        Parameter of that function.
    numbers : tuple of float
        Hyperparameters that the layer's kernels need, at most 3.
    n_states : int
        Number of vectors that the forward kernel keeps for the backward kernel.
    only_in_training : bool
        Whether predictions leave the layer out.
    noise_seed : int or None
        Seed of the layer's random numbers.
    params, grads : dict of str to ndarray
        Parameters by name, and, after `backward`, the gradients with respect to them; empty for a
        layer without parameters.
    buffers : dict of str to ndarray
        Running statistics by name; empty for most layers.
    n_params, n_buffers : int
        Elements of all parameters, and of all running statistics.
    by_name : dict of str to type
        The layers of this package by the names of their classes, as model files name them. A class
        whose name begins with an underscore, or that is defined with ``in_files=False``, is not
        in it.

    Examples
    --------
    >>> from fastnn.layers import Layer
    >>> class Double(Layer):
    ...     def forward(self, x, training=False):
    ...         return 2 * x
    ...
    ...     def backward(self, dout):
    ...         return 2 * dout
    >>> Double().forward(1.5)
    3.0
    """

    activation: str | None = None
    parameter: float = 0.0
    n_states: int = 0
    only_in_training: bool = False
    noise_seed: int | None = 0
    by_name: ClassVar[dict[str, type["Layer"]]] = {}

    def __init_subclass__(cls, in_files: bool = True, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        ours = cls.__module__.startswith("fastnn.layers.") and cls.__module__ != __name__
        if in_files and ours and not cls.__name__.startswith("_"):
            Layer.by_name[cls.__name__] = cls

    def __init__(self) -> None:
        self.grads: dict[str, np.ndarray] = {}

    @property
    def params(self) -> dict[str, np.ndarray]:
        """The parameters by name."""
        return {}

    @property
    def buffers(self) -> dict[str, np.ndarray]:
        """The running statistics by name."""
        return {}

    @property
    def numbers(self) -> tuple[float, ...]:
        """The hyperparameters that the layer's kernels need."""
        return ()

    @property
    def n_params(self) -> int:
        """The number of elements of all parameters."""
        return 0

    @property
    def n_buffers(self) -> int:
        """The number of elements of all running statistics."""
        return 0

    def config(self) -> dict[str, Any]:
        """Return the arguments of the constructor, for JSON."""
        return {}

    def blocks(self) -> tuple[ParameterBlock, ...]:
        """Return the blocks of parameters in their order in memory; running statistics come last.

        Returns
        -------
        tuple of ParameterBlock
        """
        return ()

    def kernels(self, dtype: np.dtype, purpose: Purpose) -> Kernels:
        """Compile the kernels of the layer's operation; return their addresses.

        Parameters
        ----------
        dtype : numpy.dtype
            Type of the net.
        purpose : fastnn.engine.plan.Purpose
            Use of the plan.

        Returns
        -------
        fastnn.engine.plan.Kernels
        """
        return Kernels(copy_forward_kernel(dtype), copy_backward_kernel(dtype))

    def add_to(self, plan: PlanBuilder) -> None:
        """Add the layer's operations to a plan.

        Parameters
        ----------
        plan : fastnn.engine.plan.PlanBuilder
        """
        plan.add(self)

    def draw_seed(self, rng: np.random.Generator) -> None:
        """Take a seed for the layer's random numbers from a generator, if it needs one."""

    def leaves(self) -> Iterator["Layer"]:
        """Yield the layer itself, or, of a layer that consists of others, their leaves in order."""
        yield self

    def forward(self, x: ArrayLike, training: bool = False) -> np.ndarray:
        """Return the output of the layer, and keep the arrays that `backward` needs.

        Parameters
        ----------
        x : array-like of shape (B, I)
            The batch.
        training : bool, default=False
            Whether the forward pass is one of training. This makes a difference for `Dropout` and
            `BatchNorm` only.

        Returns
        -------
        ndarray of shape (B, O)
        """
        raise NotImplementedError

    def backward(self, dout: ArrayLike) -> np.ndarray:
        """Overwrite `grads`; return the gradient of the loss with respect to the last input.

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
        """
        raise NotImplementedError

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.config().items())
        return f"{type(self).__name__}({arguments})"


class ParametricLayer(Layer):
    """Base class of the layers with parameters: views of one vector, drawn when first needed.

    Parameters
    ----------
    n_inputs, n_outputs : int
        Columns of x (B, I) and of out (B, O).
    seed : int, numpy.random.Generator or None
        Seed of the parameters of a layer without a net. A `Sequential` draws the parameters of its
        layers with its own generator.
    dtype : {"float32", "float64"}
        Type of the parameters of a layer without a net.

    Attributes
    ----------
    in_net : bool
        Whether a `Sequential` owns the parameters.

    Raises
    ------
    ValueError
        If `seed` or `dtype` is none of these.
    """

    def __init__(self, n_inputs: int, n_outputs: int, seed: Seed, dtype: DTypeLike) -> None:
        super().__init__()
        self.n_inputs, self.n_outputs = n_inputs, n_outputs
        self._rng, self._dtype = check_seed(seed), check_dtype(dtype)
        # Empty until they are drawn.
        self._params: dict[str, np.ndarray] = {}
        self._buffers: dict[str, np.ndarray] = {}
        self._x: np.ndarray | None = None
        self.in_net = False

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "in_net": False}  # no net owns the parameters of a copy

    def add_to(self, plan: PlanBuilder) -> None:
        plan.add(self, self.n_outputs)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the parameters by name, in their order in memory."""
        return {block.name: block.shape for block in self.blocks() if not block.is_buffer}

    def buffer_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the running statistics by name, in their order in memory."""
        return {block.name: block.shape for block in self.blocks() if block.is_buffer}

    @property
    def n_params(self) -> int:
        return sum(map(math.prod, self.shapes().values()))

    @property
    def n_buffers(self) -> int:
        return sum(map(math.prod, self.buffer_shapes().values()))

    @property
    def params(self) -> dict[str, np.ndarray]:
        if not self._params:
            self.initialize(self._rng)
        return self._params

    @property
    def buffers(self) -> dict[str, np.ndarray]:
        if not self._params:
            self.initialize(self._rng)
        return self._buffers

    def bind(self, vector: np.ndarray, buffers: np.ndarray) -> None:
        """Make the parameters and the running statistics views of two vectors.

        The layer takes the dtype of the vectors. Values that it has already are copied into them.

        Parameters
        ----------
        vector : ndarray of shape (n_params,)
            Memory for the parameters.
        buffers : ndarray of shape (n_buffers,)
            Memory for the running statistics.
        """
        self._params = _views(vector, self.shapes(), self._params)
        self._buffers = _views(buffers, self.buffer_shapes(), self._buffers)
        self._dtype = vector.dtype

    def set_values(self, params: dict[str, np.ndarray], buffers: dict[str, np.ndarray]) -> None:
        """Replace the parameters and the running statistics by arrays, without a copy.

        Parameters
        ----------
        params, buffers : dict of str to ndarray
            Arrays with the names and shapes of the layer's own.

        Raises
        ------
        ValueError
            If a value is one that the layer cannot have.
        """
        self._params, self._buffers = params, buffers

    def forget(self) -> None:
        """Remove all parameters and running statistics: `params` draws new ones."""
        self._params, self._buffers = {}, {}

    @property
    def initialized(self) -> bool:
        """Whether the parameters have been drawn."""
        return bool(self._params)

    def initialize(self, rng: np.random.Generator, before: Layer | None = None) -> None:
        """Draw the parameters, and reset the running statistics.

        Parameters
        ----------
        rng : numpy.random.Generator
            Source of the random numbers.
        before : Layer, default=None
            The layer that takes the output of this one. With ``init="auto"``, its activation
            decides how the weights are drawn. None is a layer without an activation.
        """
        fresh = not self._params
        if fresh:
            self.bind(np.empty(self.n_params, self._dtype), np.empty(self.n_buffers, self._dtype))
        try:
            self._draw(rng, before)
        except BaseException:
            if fresh:
                self.forget()  # memory without values must not be visible
            raise

    def _draw(self, rng: np.random.Generator, before: Layer | None) -> None:
        """Overwrite parameters and running statistics with their first values."""
        raise NotImplementedError

    def _check_input(self, x: ArrayLike) -> np.ndarray:
        """Return x as a kernel array, and keep it for `backward`; draw the parameters first."""
        if not self._params:
            self.initialize(self._rng)
        self._x = check_inputs(x, self._dtype, self.n_inputs, "x", finite=False)
        return self._x

    def _check_gradient(self, dout: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """Return the last input, and the gradient of the last output, as kernel arrays."""
        if self._x is None:
            raise RuntimeError("backward needs a forward pass before it")
        dout = check_inputs(dout, self._dtype, self.n_outputs, "dout", finite=False)
        if len(dout) != len(self._x):
            raise ValueError(f"dout must have {len(self._x)} rows as x had, got {len(dout)}")
        return self._x, dout


def _views(
    vector: np.ndarray,
    shapes: Mapping[str, tuple[int, ...]],
    values: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """Return views of some shapes into a vector, one after the other; copy values into them."""
    views: dict[str, np.ndarray] = {}
    offset = 0
    for name, shape in shapes.items():
        size = math.prod(shape)
        views[name] = vector[offset : offset + size].reshape(shape)
        if name in values:
            views[name][...] = values[name]
        offset += size
    return views
