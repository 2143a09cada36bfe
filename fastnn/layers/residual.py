"""Residual connections: the sum of a block's input and its output."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastnn.engine.plan import Kernels, PlanBuilder
from fastnn.errors import shown
from fastnn.kernels import residual
from fastnn.layers.base import Layer
from fastnn.validation import float_matrix

MAX_NESTING = 64
"""The most residual blocks within one another, so that recursion stays within Python's limit."""


class Residual(Layer):
    """A residual block: ``out = x + block(x)``.

    The block learns the difference from the identity. In the backward pass, the gradient of the
    output reaches the input without being multiplied by weights, so deep nets learn as easily as
    shallow ones (He et al., 2016).

    Parameters
    ----------
    layers : Layer or list of Layer
        The block: at least one layer, with as many outputs as inputs. May hold residual layers,
        nested at most 64 deep.

    Attributes
    ----------
    layers : list of Layer
        The layers of the block.
    nesting : int
        Levels of residual blocks, this one included.
    params, grads, buffers : dict of str to ndarray
        Those of all layers of the block; "0.w" is the w of its first layer.

    Raises
    ------
    ValueError
        If `layers` is empty, holds something else than layers, or is nested too deep.

    Examples
    --------
    >>> from fastnn import Affine, ReLU, Residual, Sequential
    >>> block = Residual([Affine(16, 16), ReLU(), Affine(16, 16)])
    >>> Sequential([Affine(4, 16), block, ReLU(), Affine(16, 2)]).n_outputs
    2
    """

    def __init__(self, layers: Layer | Sequence[Layer]) -> None:
        super().__init__()
        block: list[Any] = list(layers) if isinstance(layers, (list, tuple)) else [layers]
        if not block or not all(isinstance(layer, Layer) for layer in block):
            raise ValueError(f"layers must be a list of at least one layer, got {shown(block)}")
        self.nesting = 1 + max(getattr(layer, "nesting", 0) for layer in block)
        if self.nesting > MAX_NESTING:
            raise ValueError(
                f"layers must nest residual blocks at most {MAX_NESTING} deep, got {self.nesting}"
            )
        self.layers: list[Layer] = block

    @property
    def params(self) -> dict[str, np.ndarray]:
        """The parameters of the block by name: "0.w" is the w of its first layer."""
        return self._of_all("params")

    @property
    def buffers(self) -> dict[str, np.ndarray]:
        return self._of_all("buffers")

    @property
    def grads(self) -> dict[str, np.ndarray]:
        """The gradients, with the names of `params`."""
        return self._of_all("grads")

    @grads.setter
    def grads(  # pyright: ignore[reportIncompatibleVariableOverride]
        self, value: dict[str, np.ndarray]
    ) -> None:
        pass  # the layers of the block have their own

    def _of_all(self, kind: str) -> dict[str, np.ndarray]:
        """Return the arrays of one kind of all layers of the block, by name."""
        return {
            f"{k}.{name}": array
            for k, layer in enumerate(self.layers)
            for name, array in getattr(layer, kind).items()
        }

    def add_to(self, plan: PlanBuilder) -> None:
        dtype = plan.dtype
        fork = Kernels(backward=residual.fork_backward_kernel(dtype))
        join = Kernels(residual.join_forward_kernel(dtype), residual.copy_backward_kernel(dtype))
        plan.add_residual(self, self.layers, fork, join)

    def config(self) -> dict[str, Any]:
        return {"layers": [[type(layer).__name__, layer.config()] for layer in self.layers]}

    def __repr__(self) -> str:
        return f"Residual([{', '.join(map(repr, self.layers))}])"

    def leaves(self) -> Iterator[Layer]:
        for layer in self.layers:
            yield from layer.leaves()

    def forward(self, x: ArrayLike, training: bool = False) -> np.ndarray:
        """Return ``x + block(x)``.

        Parameters
        ----------
        x : array-like of shape (B, I)
            The batch.
        training : bool, default=False
            Passed on to the layers of the block.

        Returns
        -------
        ndarray of shape (B, I)

        Raises
        ------
        ValueError
            If x does not suit the block, or the block returns another number of columns.
        """
        x = float_matrix("x", x)
        out = x
        for layer in self.layers:
            out = layer.forward(out, training)
        if out.shape != x.shape:
            raise ValueError(
                f"layers must return as many columns as x has, {x.shape[1]}, got {out.shape[1]}"
            )
        return _sum(out, x)

    def backward(self, dout: ArrayLike) -> np.ndarray:
        dout = float_matrix("dout", dout)
        dx = dout
        for layer in reversed(self.layers):
            dx = layer.backward(dx)
        return _sum(dx, dout)


def _sum(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return a + b, which may have infinity and NaN without a warning."""
    with np.errstate(over="ignore", invalid="ignore"):
        return a + b
