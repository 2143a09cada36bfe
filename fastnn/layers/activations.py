"""Activations: layers that apply a function to each element, or to each row.

`fastnn.kernels.activations` has the functions and their derivatives.
"""


from fastnn.engine.plan import Kernels
from fastnn.errors import shown
from fastnn.kernels.activations import (
    ACTIVATIONS,
    array_kernels,
    backward_kernel,
    forward_kernel,
    user_activation,
)
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
    """Base of the layers that apply a function to each row or element."""

    def __init__(self):
        super().__init__()
        self._kept = None  # the result or the input, whichever the derivative is a function of

    def _row(self, dtype):
        """Return the function's row of the table, for arrays of a dtype."""
        return ACTIVATIONS.get(self.activation)

    def kernels(self, dtype, purpose):
        row = self._row(dtype)
        if row is None or row.from_result:
            return super().kernels(dtype, purpose)
        cached = self.activation is not None
        return Kernels(forward_kernel(row, dtype, cached), backward_kernel(row, dtype, cached))

    def add_to(self, plan):
        row = self._row(plan.dtype)
        if row is None or row.from_result:
            plan.activate(self, self.kernels(plan.dtype, plan.purpose))
        else:
            plan.add(self)

    def forward(self, x, training=False):
        """Return f(x) for x (B, I)."""
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

    def backward(self, dout):
        """Return the gradient with respect to x, given dout (B, I)."""
        dx = check_gradient(dout, self._kept)
        row = self._row(dx.dtype)
        if dx.size and row is not None:
            _, differentiate = array_kernels(row, self.activation is not None)
            differentiate(dx, self._kept, self.parameter)
        return dx


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

    activation = "relu"


class LeakyReLU(_Activation):
    """Leaky ReLU: ``f(x) = x`` for x > 0, else ``negative_slope * x`` (Maas et al., 2013).

    Parameters
    ----------
    negative_slope : float, default 0.01
        At least 0.
    """

    activation = "leaky_relu"

    def __init__(self, negative_slope=0.01):
        super().__init__()
        self.parameter = check_number("negative_slope", negative_slope)

    def config(self):
        return {"negative_slope": self.parameter}


class Sigmoid(_Activation):
    """The logistic function: ``f(x) = 1 / (1 + exp(-x))``."""

    activation = "logistic"


class Tanh(_Activation):
    """The hyperbolic tangent."""

    activation = "tanh"


class Softmax(_Activation):
    """Softmax of each row: ``f(x)_c = exp(x_c) / sum_k exp(x_k)``.

    Not needed before the loss "softmax_cross_entropy", which takes logits.
    """

    activation = "softmax"


class Step(_Activation):
    """The step of the perceptron: 1 for x > 0, else 0.

    Its derivative is zero everywhere, so nothing before it can be trained by back-propagation.
    """

    activation = "step"


class ELU(_Activation):
    """Exponential linear unit: ``f(z) = z`` for z > 0, else ``alpha * (exp(z) - 1)``.

    Its mean is nearer to zero than that of a ReLU (Clevert, Unterthiner and Hochreiter, 2016).

    Parameters
    ----------
    alpha : float, default 1.0
        At least 0. Minus the limit for z to minus infinity.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import ELU
    >>> ELU().forward(np.array([[-1.0, 2.0]])).round(4)
    array([[-0.6321,  2.    ]])
    """

    activation = "elu"

    def __init__(self, alpha=1.0):
        super().__init__()
        self.parameter = check_number("alpha", alpha)

    @property
    def alpha(self):
        """Minus the limit for z to minus infinity."""
        return self.parameter

    def config(self):
        return {"alpha": self.parameter}


class SELU(_Activation):
    """Scaled ELU: ``f(z) = 1.0507 * ELU(alpha=1.6733)(z)`` (Klambauer et al., 2017).

    With these two numbers, activations of mean 0 and variance 1 keep them from layer to layer,
    where weights have the variance 1 / I: ``Affine(..., init="lecun_normal")``.

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
    approximate : {"none", "tanh"}, default "none"
        "tanh" is ``z * (1 + tanh(sqrt(2 / pi) * (z + 0.044715 * z**3))) / 2``, off by at most
        0.0005, which some models were trained with.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import GELU
    >>> GELU().forward(np.array([[-1.0, 1.0]])).round(4)
    array([[-0.1587,  0.8413]])
    """

    def __init__(self, approximate="none"):
        super().__init__()
        if not isinstance(approximate, str) or approximate not in ("none", "tanh"):
            raise ValueError(f'approximate must be "none" or "tanh", got {shown(approximate)}')
        self.approximate = approximate
        self.activation = "gelu" if approximate == "none" else "gelu_tanh"

    def config(self):
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
    """A tanh of straight lines: ``f(z) = max(-1, min(z, 1))``; at -1 and 1 the derivative is 0.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import HardTanh
    >>> HardTanh().forward(np.array([[-1.0, 2.0]])).round(4)
    array([[-1.,  1.]])
    """

    activation = "hard_tanh"


class Activation(_Activation, in_files=False):
    """A function of your own: ``f(z)`` for each element z, with its derivative ``df(z)``.

    Both take one number and return one, and are compiled by Numba when a net first needs them: so
    they may use `math`, NumPy's functions of numbers, and other functions that Numba compiled.
    Nothing checks that df is the derivative of f; the example does, by a central difference.

    Parameters
    ----------
    f, df : callable
        Python functions, or ones that `numba.njit` has compiled. In a net of float32 they get a
        float32. Literals such as ``1.0`` make the arithmetic float64, which is right but slower;
        ``type(z)(1.0)`` does not. Results are rounded to the type of the net. An exception is only
        printed, and the results are wrong: return NaN instead. Define them once, outside any loop:
        what is compiled for a new pair, about 2 MB, stays until the process ends.

    Raises
    ------
    ValueError
        When the layer is first used, if Numba cannot compile a function, or it does not return a
        real number. By `config`, and so by saving a net: a file cannot hold the functions.

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

    def __init__(self, f, df):
        super().__init__()
        for name, function in (("f", f), ("df", df)):
            if not callable(function):
                raise ValueError(f"{name} must be a function of one number, got {shown(function)}")
        self.f, self.df = f, df

    def _row(self, dtype):
        return user_activation(self.f, self.df, dtype)

    def config(self):
        raise ValueError(
            "an Activation cannot be saved, for a file cannot hold its functions: use a built-in "
            "activation, or build the net anew and set its parameters"
        )

    def __repr__(self):
        names = (getattr(g, "__name__", repr(g)) for g in (self.f, self.df))
        return f"Activation({', '.join(names)})"
