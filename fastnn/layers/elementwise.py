"""Activations whose code is compiled only for the nets that have them.

Each is a function f(z) of one element, which is differentiated from its input
(`fastnn.kernels.elementwise` has the formulas as code).
"""

import ctypes

import numpy as np

from fastnn.errors import shown
from fastnn.kernels import codes, elementwise
from fastnn.kernels.memory import address_of
from fastnn.kernels.tile import TILE_VECTORS, VECTOR_BYTES
from fastnn.layers.base import Layer
from fastnn.validation import check_gradient, check_number, float_matrix

_CALL = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 10)


class _Elementwise(Layer):
    """Base of the layers that apply a compiled function to each element.

    Attributes
    ----------
    code : int
        The function (`fastnn.kernels.elementwise`).
    numbers : tuple of float
        Its parameters, the only one so far first.
    """

    kind = codes.EXTERN
    code = None
    numbers = (0.0,)

    def __init__(self):
        super().__init__()
        self._z = None

    def members(self, dtype, training=True):
        return elementwise.elementwise_members(self.code, dtype)

    def forward(self, x, training=False):
        """Return f(x) for x (B, I), and keep x."""
        self._z = float_matrix("x", x)
        acts = self._panel(self._z)
        self._run(codes.FORWARD, acts, acts)
        return self._matrix(acts[1])

    def backward(self, dout):
        """Return dout * f'(x), the gradient with respect to x, given dout (B, I)."""
        dout = check_gradient(dout, self._z)
        deltas = self._panel(dout)[::-1].copy()
        self._run(codes.BACKWARD, self._panel(self._z), deltas)
        return self._matrix(deltas[0])

    def _panel(self, array):
        """Lay elements into the first of two matrices, each of them a single full panel."""
        width = TILE_VECTORS * VECTOR_BYTES // array.itemsize
        panels = np.zeros((2, -(-array.size // width), width), array.dtype)
        panels[0].reshape(-1)[: array.size] = array.reshape(-1)
        return panels

    def _matrix(self, panel):
        return panel.reshape(-1)[: self._z.size].reshape(self._z.shape).copy()

    def _run(self, which, acts, deltas):
        """Run what a net runs, on a plan of one operation."""
        _, n_rows, width = acts.shape
        plan = np.zeros(codes.N_COLUMNS, np.int64)
        plan[[codes.N_IN, codes.N_OUT]] = width
        plan[codes.OUT_AT] = n_rows * width
        numbers = np.array(self.numbers, np.float64)
        at = address_of
        _CALL(self.members(acts.dtype)[which])(
            at(plan), at(numbers), 0, n_rows, 0, at(acts), at(deltas), 0, 0, 0
        )


class ELU(_Elementwise):
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

    code = elementwise.ELU
    function = "elu"

    def __init__(self, alpha=1.0):
        super().__init__()
        self.alpha = check_number("alpha", alpha)

    @property
    def numbers(self):
        return (self.alpha,)

    def config(self):
        return {"alpha": self.alpha}


class SELU(_Elementwise):
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

    code = elementwise.SELU
    function = "selu"


class GELU(_Elementwise):
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

    function = "gelu"

    def __init__(self, approximate="none"):
        super().__init__()
        if not isinstance(approximate, str) or approximate not in ("none", "tanh"):
            raise ValueError(f'approximate must be "none" or "tanh", got {shown(approximate)}')
        self.approximate = approximate

    @property
    def code(self):
        return elementwise.GELU if self.approximate == "none" else elementwise.GELU_TANH

    def config(self):
        return {"approximate": self.approximate}


class SiLU(_Elementwise):
    """Sigmoid linear unit, or Swish: ``f(z) = z / (1 + exp(-z))``.

    Elfwing, Uchibe and Doya (2017); Ramachandran, Zoph and Le (2017).

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import SiLU
    >>> SiLU().forward(np.array([[-1.0, 2.0]])).round(4)
    array([[-0.2689,  1.7616]])
    """

    code = elementwise.SILU
    function = "silu"


class Softplus(_Elementwise):
    """A smooth ReLU: ``f(z) = log(1 + exp(z))`` (Dugas et al., 2001).

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import Softplus
    >>> Softplus().forward(np.array([[-1.0, 2.0]])).round(4)
    array([[0.3133, 2.1269]])
    """

    code = elementwise.SOFTPLUS
    function = "softplus"


class Mish(_Elementwise):
    """Mish: ``f(z) = z * tanh(log(1 + exp(z)))`` (Misra, 2019).

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import Mish
    >>> Mish().forward(np.array([[-1.0, 2.0]])).round(4)
    array([[-0.3034,  1.944 ]])
    """

    code = elementwise.MISH
    function = "mish"


class HardTanh(_Elementwise):
    """A tanh of straight lines: ``f(z) = max(-1, min(z, 1))``; at -1 and 1 the derivative is 0.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import HardTanh
    >>> HardTanh().forward(np.array([[-1.0, 2.0]])).round(4)
    array([[-1.,  1.]])
    """

    code = elementwise.HARD_TANH
    function = "hard_tanh"


class Activation(_Elementwise):
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

    def members(self, dtype, training=True):
        return elementwise.user_members(self.f, self.df, dtype)

    def config(self):
        raise ValueError(
            "an Activation cannot be saved, for a file cannot hold its functions: use a built-in "
            "activation, or build the net anew and set its parameters"
        )

    def __repr__(self):
        names = (getattr(g, "__name__", repr(g)) for g in (self.f, self.df))
        return f"Activation({', '.join(names)})"
