"""Activations: layers that apply a function to each element or to each row.

The functions and their derivatives are in `fastnn.kernels.activations`. In the formulas, z is an
element of the batch, or a row of it.

Examples
--------
>>> import numpy as np
>>> from fastnn.layers.activations import ReLU
>>> ReLU().forward(np.array([[-1.0, 2.0]]))
array([[0., 2.]])
"""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from fastnn.engine.plan import Kernels, PlanBuilder, Purpose
from fastnn.errors import name_after_subclass, shown
from fastnn.kernels.activations import (
    ACTIVATIONS,
    array_kernels,
    backward_kernel,
    forward_kernel,
    user_activation,
)
from fastnn.kernels.activations import Activation as Row
from fastnn.layers.base import Layer
from fastnn.validation import check_gradient, check_number, float_matrix

__all__ = [
    "ELU",
    "GELU",
    "SELU",
    "Activation",
    "HardTanh",
    "Identity",
    "LeakyReLU",
    "Mish",
    "ReLU",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Step",
    "Tanh",
]


class _Activation(Layer):
    """Base class of the layers that apply a function to each element or row."""

    user_name: str | None = None
    """The name that users give it, where it is not that of the table."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        name_after_subclass(_Activation, cls)

    def __init__(self) -> None:
        super().__init__()
        # The result or the input of the last forward pass, whichever the derivative depends on.
        self._kept: np.ndarray | None = None

    def _row(self, dtype: np.dtype) -> Row | None:
        """Return the row of the function in the table, for a dtype; None for the identity."""
        return None if self.activation is None else ACTIVATIONS.get(self.activation)

    def kernels(self, dtype: np.dtype, purpose: Purpose) -> Kernels:
        row = self._row(dtype)
        if row is None or row.from_result:
            return super().kernels(dtype, purpose)
        cached = self.activation is not None
        return Kernels(forward_kernel(row, dtype, cached), backward_kernel(row, dtype, cached))

    def add_to(self, plan: PlanBuilder) -> None:
        row = self._row(plan.dtype)
        if row is None or row.from_result:
            plan.activate(self)
        else:
            plan.add(self)

    def forward(self, x: ArrayLike, training: bool = False) -> np.ndarray:
        """Return the function of x.

        Parameters
        ----------
        x : array-like of shape (B, I)
            The batch.
        training : bool, default=False
            Makes no difference.

        Returns
        -------
        ndarray of shape (B, I)
            A new array, of float32 if x is of float32, else of float64.

        Raises
        ------
        ValueError
            If x is not a numeric matrix.
        """
        out = self._kept = float_matrix("x", x)
        row = self._row(out.dtype)
        if row is None:
            return out.copy()
        if not row.from_result:
            out = out.copy()
        if out.size:
            apply, _ = array_kernels(row, self.activation is not None)
            apply(out, self.parameter)
        return out.copy() if row.from_result else out

    def backward(self, dout: ArrayLike) -> np.ndarray:
        dx = check_gradient(dout, self._kept)
        row = self._row(dx.dtype)
        if dx.size and row is not None:
            _, differentiate = array_kernels(row, self.activation is not None)
            differentiate(dx, self._kept, self.parameter)
        return dx


class Identity(_Activation):
    """The identity: ``f(z) = z``.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import Identity
    >>> Identity().forward(np.array([[-1.0, 2.0]]))
    array([[-1.,  2.]])
    """


class ReLU(_Activation):
    """Rectified linear unit: ``f(z) = max(z, 0)``, with the derivative 0 at 0.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import ReLU
    >>> ReLU().forward(np.array([[-1.0, 2.0]]))
    array([[0., 2.]])
    """

    activation = "relu"


class LeakyReLU(_Activation):
    """Leaky ReLU: ``f(z) = z`` for z > 0, else ``negative_slope * z`` (Maas et al., 2013).

    Parameters
    ----------
    negative_slope : float, default=0.01
        At least 0.

    Raises
    ------
    ValueError
        If `negative_slope` is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import LeakyReLU
    >>> LeakyReLU(0.25).forward(np.array([[-1.0, 2.0]]))
    array([[-0.25,  2.  ]])
    """

    activation = "leaky_relu"

    def __init__(self, negative_slope: float = 0.01) -> None:
        super().__init__()
        self.parameter = check_number("negative_slope", negative_slope)

    def config(self) -> dict[str, Any]:
        return {"negative_slope": self.parameter}


class Sigmoid(_Activation):
    """The logistic function: ``f(z) = 1 / (1 + exp(-z))``.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import Sigmoid
    >>> Sigmoid().forward(np.array([[0.0, 2.0]])).round(4)
    array([[0.5   , 0.8808]])
    """

    activation = "logistic"
    user_name = "sigmoid"


class Tanh(_Activation):
    """The hyperbolic tangent: ``f(z) = (exp(z) - exp(-z)) / (exp(z) + exp(-z))``.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import Tanh
    >>> Tanh().forward(np.array([[0.0, 2.0]])).round(4)
    array([[0.   , 0.964]])
    """

    activation = "tanh"


class Softmax(_Activation):
    """Softmax of each row: ``f(z)_c = exp(z_c) / sum_k exp(z_k)``.

    Not to be used before the loss "softmax_cross_entropy", which takes logits.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import Softmax
    >>> Softmax().forward(np.array([[0.0, 0.0, 0.0, 0.0]]))
    array([[0.25, 0.25, 0.25, 0.25]])
    """

    activation = "softmax"


class Step(_Activation):
    """The step function of the perceptron: ``f(z) = 1`` for z > 0, else 0.

    The derivative is taken to be 0 everywhere, so layers before it cannot be trained by
    back-propagation.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import Step
    >>> Step().forward(np.array([[-1.0, 0.0, 2.0]]))
    array([[0., 0., 1.]])
    """

    activation = "step"


class ELU(_Activation):
    """Exponential linear unit: ``f(z) = z`` for z > 0, else ``alpha * (exp(z) - 1)``.

    The mean of its outputs is nearer to zero than that of a ReLU (Clevert, Unterthiner and
    Hochreiter, 2016).

    Parameters
    ----------
    alpha : float, default=1.0
        At least 0; ``-alpha`` is the limit for z to minus infinity.

    Raises
    ------
    ValueError
        If `alpha` is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import ELU
    >>> ELU().forward(np.array([[-1.0, 2.0]])).round(4)
    array([[-0.6321,  2.    ]])
    """

    activation = "elu"

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__()
        self.parameter = check_number("alpha", alpha)

    @property
    def alpha(self) -> float:
        """Minus the limit for z to minus infinity."""
        return self.parameter

    def config(self) -> dict[str, Any]:
        return {"alpha": self.parameter}


class SELU(_Activation):
    """Scaled ELU: ``f(z) = 1.0507 * ELU(alpha=1.6733)(z)`` (Klambauer et al., 2017).

    With these two constants, and weights of variance 1 / I (``Affine(..., init="lecun_normal")``),
    the activations keep mean 0 and variance 1 from layer to layer.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import SELU
    >>> SELU().forward(np.array([[-1.0, 2.0]])).round(4)
    array([[-1.1113,  2.1014]])
    """

    activation = "selu"


class GELU(_Activation):
    """Gaussian error linear unit: ``f(z) = z * P(Z <= z)``, Z standard normal.

    That is ``z * (1 + erf(z / sqrt(2))) / 2`` (Hendrycks and Gimpel, 2016).

    Parameters
    ----------
    approximate : {"none", "tanh"}, default="none"
        "tanh" is ``z * (1 + tanh(sqrt(2 / pi) * (z + 0.044715 * z**3))) / 2``, which differs by at
        most 0.0005. Some models were trained with it.

    Raises
    ------
    ValueError
        If `approximate` is neither of the two.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import GELU
    >>> GELU().forward(np.array([[-1.0, 1.0]])).round(4)
    array([[-0.1587,  0.8413]])
    """

    activation = "gelu"

    def __init__(self, approximate: Literal["none", "tanh"] = "none") -> None:
        super().__init__()
        if not isinstance(approximate, str) or approximate not in ("none", "tanh"):
            raise ValueError(f'approximate must be "none" or "tanh", got {shown(approximate)}')
        self.approximate: Literal["none", "tanh"] = approximate
        self.activation = "gelu" if approximate == "none" else "gelu_tanh"

    def config(self) -> dict[str, Any]:
        return {"approximate": self.approximate}


class SiLU(_Activation):
    """Sigmoid linear unit, or Swish: ``f(z) = z / (1 + exp(-z))``.

    Elfwing, Uchibe and Doya (2017); Ramachandran, Zoph and Le (2017).

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import SiLU
    >>> SiLU().forward(np.array([[-1.0, 2.0]])).round(4)
    array([[-0.2689,  1.7616]])
    """

    activation = "silu"


class Softplus(_Activation):
    """A smooth ReLU: ``f(z) = log(1 + exp(z))`` (Dugas et al., 2001).

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import Softplus
    >>> Softplus().forward(np.array([[-1.0, 2.0]])).round(4)
    array([[0.3133, 2.1269]])
    """

    activation = "softplus"


class Mish(_Activation):
    """Mish: ``f(z) = z * tanh(log(1 + exp(z)))`` (Misra, 2019).

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import Mish
    >>> Mish().forward(np.array([[-1.0, 2.0]])).round(4)
    array([[-0.3034,  1.944 ]])
    """

    activation = "mish"


class HardTanh(_Activation):
    """Piecewise linear tanh: ``f(z) = max(-1, min(z, 1))``; at -1 and 1 the derivative is 0.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import HardTanh
    >>> HardTanh().forward(np.array([[-1.0, 2.0]])).round(4)
    array([[-1.,  1.]])
    """

    activation = "hard_tanh"


class Activation(_Activation, in_files=False):
    """A function of the user: ``f(z)`` for each element z, with the derivative ``df(z)``.

    Both functions take one number and return one. Numba compiles them when the layer is first used,
    so they may call `math`, NumPy's functions of numbers, and other functions that Numba has
    compiled. Nothing checks that df is the derivative of f; the example does, by a central
    difference.

    Parameters
    ----------
    f, df : callable
        Python functions, or functions that `numba.njit` has compiled. In a net of float32 they are
        given a float32. A literal such as ``1.0`` makes the arithmetic float64, which is right but
        slower; ``type(z)(1.0)`` does not. Results are rounded to the type of the net. They must not
        raise: an exception is only printed, and the results are wrong. Return NaN instead. Define
        them once, outside any loop: the code of each new pair takes about 2 MB of memory until the
        process ends.

    Raises
    ------
    ValueError
        If f or df is not callable; when the layer is first used, if Numba cannot compile one of
        them, or it does not return a real number; by `config`, and so by saving a net, since a file
        cannot hold the functions.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import Activation
    >>> softsign = Activation(lambda z: z / (1 + abs(z)), lambda z: 1 / (1 + abs(z)) ** 2)
    >>> softsign.forward(np.array([[-1.0, 3.0]]))
    array([[-0.5 ,  0.75]])
    >>> slope = softsign.backward(np.ones((1, 2)))
    >>> above, below = (softsign.forward(np.array([[-1.0, 3.0]]) + h) for h in (1e-5, -1e-5))
    >>> bool(np.allclose(slope, (above - below) / 2e-5))
    True
    """

    def __init__(self, f: Callable[[Any], Any], df: Callable[[Any], Any]) -> None:
        super().__init__()
        for name, function in (("f", f), ("df", df)):
            if not callable(function):
                raise ValueError(f"{name} must be a function of one number, got {shown(function)}")
        self.f, self.df = f, df

    def _row(self, dtype: np.dtype) -> Row | None:
        return user_activation(self.f, self.df, dtype)

    def config(self) -> dict[str, Any]:
        raise ValueError(
            "an Activation cannot be saved, for a file cannot hold its functions: use a built-in "
            "activation, or build the net anew and set its parameters"
        )

    def __repr__(self) -> str:
        names = (getattr(g, "__name__", repr(g)) for g in (self.f, self.df))
        return f"Activation({', '.join(names)})"


def _hidden_by_name() -> dict[str, type[_Activation]]:
    """Return the activations that hidden layers may have, by the names that users give them."""
    found: dict[str, type[_Activation]] = {}
    for layer in _Activation.__subclasses__():
        row = ACTIVATIONS.get(layer.activation or "")
        if row is not None and not (row.by_row or row.is_flat):
            found[layer.user_name or str(layer.activation)] = layer
    return found | {"identity": Identity}


HIDDEN_BY_NAME = _hidden_by_name()
"""Activations of hidden layers by name, as the command line takes them."""
