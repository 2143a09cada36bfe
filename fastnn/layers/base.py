"""What all layers have in common."""

from fastnn.kernels import codes


class Layer:
    """Base of all layers.

    Attributes
    ----------
    kind, activation : int
        Kind of operation in a plan, and the function it applies (`fastnn.kernels.codes`).
    slope : float
        Of that function for negative input.
    params, grads : dict of str to ndarray
        Parameters, and after `backward` the gradients with respect to them; empty for a layer
        that has none.
    """

    kind = codes.ACTIVATION
    activation = codes.IDENTITY
    slope = 0.0

    def __init__(self):
        self.grads = {}

    @property
    def params(self):
        """Parameters by name."""
        return {}

    def config(self):
        """Return the constructor's arguments, as JSON can hold them."""
        return {}

    def forward(self, x):
        """Return the layer's output for x (B, I), and keep what `backward` needs."""
        raise NotImplementedError

    def backward(self, dout):
        """Return the gradient with respect to the last input, given that of the output."""
        raise NotImplementedError

    def __repr__(self):
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.config().items())
        return f"{type(self).__name__}({arguments})"
