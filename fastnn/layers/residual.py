"""Residual connections: a way around some layers."""

import numpy as np

from fastnn.engine.plan import Kernels
from fastnn.errors import shown
from fastnn.kernels import residual
from fastnn.layers.base import Layer
from fastnn.validation import float_matrix

MAX_NESTING = 64
"""Blocks within blocks, so that no walk through them exceeds Python's limit of recursion."""


class Residual(Layer):
    """Layers with a way around them: ``out = x + block(x)``.

    The block learns what to change, and the gradient has a way back that no weight can close, so
    deep nets learn as easily as shallow ones (He et al., 2016).

    Parameters
    ----------
    layers : sequence of Layer
        The block: at least one layer, with as many outputs as inputs. May hold residual layers,
        nested at most 64 deep.

    Examples
    --------
    >>> from fastnn import Affine, ReLU, Residual, Sequential
    >>> block = Residual([Affine(16, 16), ReLU(), Affine(16, 16)])
    >>> Sequential([Affine(4, 16), block, ReLU(), Affine(16, 2)]).n_outputs
    2
    """

    def __init__(self, layers):
        super().__init__()
        layers = list(layers) if isinstance(layers, (list, tuple)) else [layers]
        if not layers or not all(isinstance(layer, Layer) for layer in layers):
            raise ValueError(f"layers must be a list of at least one layer, got {shown(layers)}")
        self.nesting = 1 + max(getattr(layer, "nesting", 0) for layer in layers)
        if self.nesting > MAX_NESTING:
            raise ValueError(
                f"layers must nest residual blocks at most {MAX_NESTING} deep, got {self.nesting}"
            )
        self.layers = layers

    @property
    def params(self):
        """Parameters of the block by name: "0.w" is the w of its first layer."""
        return self._of_all("params")

    @property
    def buffers(self):
        return self._of_all("buffers")

    @property
    def grads(self):
        """Gradients with the names of `params`."""
        return self._of_all("grads")

    @grads.setter
    def grads(self, value):
        pass  # those of the layers

    def _of_all(self, kind):
        return {
            f"{k}.{name}": array
            for k, layer in enumerate(self.layers)
            for name, array in getattr(layer, kind).items()
        }

    def add_to(self, plan):
        dtype = plan.dtype
        fork = Kernels(backward=residual.fork_backward_kernel(dtype))
        join = Kernels(residual.join_forward_kernel(dtype), residual.copy_backward_kernel(dtype))
        plan.add_residual(self, self.layers, fork, join)

    def config(self):
        return {"layers": [[type(layer).__name__, layer.config()] for layer in self.layers]}

    def __repr__(self):
        return f"Residual([{', '.join(map(repr, self.layers))}])"

    def leaves(self):
        for layer in self.layers:
            yield from layer.leaves()

    def forward(self, x, training=False):
        """Return x + block(x) for x (B, I)."""
        x = out = float_matrix("x", x)
        for layer in self.layers:
            out = layer.forward(out, training)
        if out.shape != x.shape:
            raise ValueError(
                f"layers must return as many columns as x has, {x.shape[1]}, got {out.shape[1]}"
            )
        return _sum(out, x)

    def backward(self, dout):
        """Return the gradient with respect to x, given dout (B, I): that of both ways."""
        dout = dx = float_matrix("dout", dout)
        for layer in reversed(self.layers):
            dx = layer.backward(dx)
        return _sum(dx, dout)


def _sum(a, b):
    """Return a + b; infinity and NaN are there to be seen, without a warning."""
    with np.errstate(over="ignore", invalid="ignore"):
        return a + b
