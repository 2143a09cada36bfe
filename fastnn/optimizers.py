"""Optimizers: update rules and their hyperparameters.

The arithmetic is in `fastnn.kernels.updates`; these classes hold the numbers and check them.
"""

from dataclasses import dataclass, fields

import numpy as np

from fastnn.kernels import codes
from fastnn.validation import as_number


@dataclass(frozen=True)
class Optimizer:
    """Base of all optimizers.

    Parameters
    ----------
    learning_rate : float
        Step size, greater than 0.
    """

    learning_rate: float

    def __post_init__(self):
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type is float or field.type == "float":
                self._check_number(field.name, value)

    def _check_number(self, name, value):
        number = as_number(value)
        if name == "momentum":
            valid, allowed = 0 <= number <= 1, "a number in [0, 1]"
        elif name in ("rho", "beta_1", "beta_2"):
            valid, allowed = 0 <= number < 1, "a number in [0, 1)"
        elif name in ("learning_rate", "epsilon"):
            valid, allowed = 0 < number < np.inf, "a finite number > 0"
        else:
            valid, allowed = 0 <= number < np.inf, "a finite number >= 0"
        if not valid:
            raise ValueError(f"{name} must be {allowed}, got {value!r}")

    @property
    def rule(self):
        """Code of the update rule (`fastnn.kernels.codes`)."""
        raise NotImplementedError

    @property
    def hyperparameters(self):
        """Hyperparameters as the kernels take them, float64 (N_HYPERPARAMETERS,)."""
        values = np.zeros(codes.N_HYPERPARAMETERS)
        values[codes.LEARNING_RATE] = self.learning_rate
        return values


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent, with momentum or Nesterov's.

    ``v = momentum * v - learning_rate * g``, then ``p += v``, or with Nesterov
    ``p += momentum * v - learning_rate * g`` (Sutskever et al., 2013).

    Parameters
    ----------
    learning_rate : float, default 0.01
        Step size.
    momentum : float, default 0
        How much of the last step is kept, in [0, 1].
    nesterov : bool, default False
        Whether to use Nesterov's momentum.

    Examples
    --------
    >>> from fastnn import SGD
    >>> SGD(0.1, momentum=0.9)
    SGD(learning_rate=0.1, momentum=0.9, nesterov=False)
    """

    learning_rate: float = 0.01
    momentum: float = 0.0
    nesterov: bool = False

    @property
    def rule(self):
        if self.momentum == 0:
            return codes.SGD
        return codes.NESTEROV if self.nesterov else codes.MOMENTUM

    @property
    def hyperparameters(self):
        values = super().hyperparameters
        values[codes.BETA_1] = self.momentum
        return values


@dataclass(frozen=True)
class RMSProp(Optimizer):
    """RMSProp: each gradient divided by the root of its running mean square.

    ``s = rho * s + (1 - rho) * g^2``, then ``p -= learning_rate * g / (sqrt(s) + epsilon)``
    (Tieleman & Hinton, 2012).

    Parameters
    ----------
    learning_rate : float, default 0.001
        Step size.
    rho : float, default 0.9
        Decay of the running mean, in [0, 1).
    epsilon : float, default 1e-7
        Keeps the divisor from zero.
    """

    learning_rate: float = 1e-3
    rho: float = 0.9
    epsilon: float = 1e-7

    @property
    def rule(self):
        return codes.RMSPROP

    @property
    def hyperparameters(self):
        values = super().hyperparameters
        values[codes.BETA_1] = self.rho
        values[codes.EPSILON] = self.epsilon
        return values


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam: running means of the gradient and of its square.

    ``m = beta_1 * m + (1 - beta_1) * g``, ``v = beta_2 * v + (1 - beta_2) * g^2``, then
    ``p -= step * m / (sqrt(v) + epsilon)`` with
    ``step = learning_rate * sqrt(1 - beta_2^t) / (1 - beta_1^t)`` (Kingma & Ba, 2015, the
    efficient form of section 2, which scikit-learn uses too).

    Parameters
    ----------
    learning_rate : float, default 0.001
        Step size.
    beta_1, beta_2 : float, default 0.9 and 0.999
        Decay of the two running means, in [0, 1).
    epsilon : float, default 1e-8
        Keeps the divisor from zero.
    """

    learning_rate: float = 1e-3
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8

    @property
    def rule(self):
        return codes.ADAM

    @property
    def hyperparameters(self):
        values = super().hyperparameters
        values[codes.BETA_1] = self.beta_1
        values[codes.BETA_2] = self.beta_2
        values[codes.EPSILON] = self.epsilon
        return values


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay.

    Before Adam's step, ``p -= learning_rate * weight_decay * p`` (Loshchilov & Hutter, 2019). The
    decay applies to weights and biases.

    Parameters
    ----------
    learning_rate, beta_1, beta_2, epsilon : float
        As for `Adam`.
    weight_decay : float, default 0.01
        Decay in units of the learning rate.
    """

    weight_decay: float = 0.01

    @property
    def rule(self):
        return codes.ADAMW

    @property
    def hyperparameters(self):
        values = super().hyperparameters
        values[codes.WEIGHT_DECAY] = self.weight_decay
        return values


_BY_NAME = {"sgd": SGD, "rmsprop": RMSProp, "adam": Adam, "adamw": AdamW}


def get(optimizer):
    """Return the optimizer itself, or one with default hyperparameters by its name.

    Parameters
    ----------
    optimizer : Optimizer or {"sgd", "rmsprop", "adam", "adamw"}

    Raises
    ------
    ValueError
        If it is neither.
    """
    if isinstance(optimizer, Optimizer):
        return optimizer
    if isinstance(optimizer, str) and optimizer in _BY_NAME:
        return _BY_NAME[optimizer]()
    names = ", ".join(repr(name) for name in _BY_NAME)
    raise ValueError(f"optimizer must be one of {names} or an Optimizer, got {optimizer!r}")
