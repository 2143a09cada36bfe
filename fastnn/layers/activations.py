"""Activations: layers that apply a function to each element, or to each row."""

from fastnn.kernels import codes
from fastnn.kernels.activations import activate, differentiate
from fastnn.layers.base import Layer
from fastnn.validation import check_gradient, check_number, float_matrix


class _Activation(Layer):
    """Base of the layers that apply a function to each row or element."""

    def __init__(self):
        super().__init__()
        self._out = None

    def forward(self, x, training=False):
        """Return f(x) for x (B, I)."""
        self._out = float_matrix("x", x)
        if self._out.size:
            activate(self.activation, self.slope, self._out)
        return self._out.copy()

    def backward(self, dout):
        """Return the gradient with respect to x, given dout (B, I)."""
        dx = check_gradient(dout, self._out)
        if dx.size:
            differentiate(self.activation, self.slope, dx, self._out)
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

    activation = codes.RELU
    function = "relu"


class LeakyReLU(_Activation):
    """Leaky ReLU: ``f(x) = x`` for x > 0, else ``negative_slope * x`` (Maas et al., 2013).

    Parameters
    ----------
    negative_slope : float, default 0.01
        At least 0.
    """

    activation = codes.LEAKY_RELU
    function = "leaky_relu"

    def __init__(self, negative_slope=0.01):
        super().__init__()
        self.slope = check_number("negative_slope", negative_slope)

    def config(self):
        return {"negative_slope": self.slope}


class Sigmoid(_Activation):
    """The logistic function: ``f(x) = 1 / (1 + exp(-x))``."""

    activation = codes.LOGISTIC
    function = "logistic"


class Tanh(_Activation):
    """The hyperbolic tangent."""

    activation = codes.TANH
    function = "tanh"


class Softmax(_Activation):
    """Softmax of each row: ``f(x)_c = exp(x_c) / sum_k exp(x_k)``.

    Not needed before the loss "softmax_cross_entropy", which takes logits.
    """

    activation = codes.SOFTMAX
    function = "softmax"


class Step(_Activation):
    """The step of the perceptron: 1 for x > 0, else 0.

    Its derivative is zero everywhere, so nothing before it can be trained by back-propagation.
    """

    activation = codes.STEP
    function = "step"
