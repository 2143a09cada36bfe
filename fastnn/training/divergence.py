"""Where numbers stopped being finite: the layer to look at when a training breaks down."""

from typing import NamedTuple

import numpy as np

from fastnn.engine.plan import panel_columns, panel_width
from fastnn.kernels import codes


class Divergence(NamedTuple):
    """An epoch that broke down.

    Attributes
    ----------
    batch : int
        Of the epoch, from 0: the first whose loss was not finite, or the last if only the weights
        are not finite after it.
    what : str
        What happened: "the loss became NaN", ...
    where : str
        The first thing on the way forward that is not finite.
    learning_rate : float
        At that batch.
    """

    batch: int
    what: str
    where: str
    learning_rate: float

    def describe(self, epoch=None):
        """Return all of it in one line; epochs are counted from 1 there, and batches too."""
        when = f"batch {self.batch + 1}"
        when = when if epoch is None else f"epoch {epoch}, {when}"
        rate = f"a learning rate of {self.learning_rate:g}"
        return f"{self.what} in {when}, at {rate}: {self.where} not finite"


def names_of(layers, prefix="layers"):
    """Yield (layer, name) of all layers, those of residual blocks too: ``layers[1].layers[0]``."""
    for k, layer in enumerate(layers):
        name = f"{prefix}[{k}]"
        yield layer, name
        yield from names_of(getattr(layer, "layers", []), f"{name}.layers")


def first_not_finite(layers):
    """Return the name of the first layer with a parameter that is not finite, or None.

    Parameters
    ----------
    layers : sequence of Layer

    Returns
    -------
    str or None
        Such as ``"w of layers[2] (Affine)"``.
    """
    for layer, name in names_of(layers):
        if layer in layer.leaves():  # a residual block only has those of its layers
            for key, array in (layer.params | layer.buffers).items():
                if not np.isfinite(array).all():
                    return f"{key} of {name} ({type(layer).__name__})"
    return None


def locate(layers, plan, tensors, acts, n_rows):
    """Say what is the first thing on the way forward that is not finite.

    Parameters
    ----------
    layers : sequence of Layer
        Of the net.
    plan : fastnn.engine.plan.Plan
        Of its training.
    tensors : list of tuple of ndarray
        Parameters and running statistics of each layer that has any, in order.
    acts : ndarray
        The workspace after the forward pass of a batch.
    n_rows : int
        Of the batch.

    Returns
    -------
    str
        To be followed by "not finite".
    """
    names = {id(layer): f"{name} ({type(layer).__name__})" for layer, name in names_of(layers)}
    tensors = iter(tensors)
    for operation, layer in zip(plan.operations, plan.layers, strict=True):
        if layer.n_params and operation[codes.KIND] not in (codes.FORK, codes.ADD):
            arrays = [array for array in next(tensors) if array is not None]
            if not all(np.isfinite(array).all() for array in arrays[:2]):
                return f"the parameters of {names[id(layer)]} are"
        largest = _largest(operation, acts, n_rows)
        if not largest < np.inf:
            return f"the output of {names[id(layer)]} is"
    return f"the output of {names[id(layer)]} reaches {largest:.2g}, and the loss is"


def _largest(operation, acts, n_rows):
    """Return the largest magnitude in all rows and columns of an operation's result, or NaN."""
    largest = 0.0
    n, panel = int(operation[codes.N_OUT]), panel_columns(acts.dtype)
    for j in range(0, n, panel):
        width = panel_width(n, j, acts.dtype)
        start = int(operation[codes.OUT_AT]) + j // panel * int(operation[codes.OUT_PANEL])
        rows = acts[start : start + n_rows * width].reshape(n_rows, width)
        largest = np.maximum(largest, np.abs(rows[:, : n - j]).max())  # NaN stays NaN
    return largest
