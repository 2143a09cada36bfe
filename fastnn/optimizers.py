"""Optimizers: update rules and their hyperparameters.

The arithmetic is in `fastnn.kernels.updates`; these classes hold the numbers and check them.
"""

from dataclasses import dataclass, field, fields

import numpy as np

from fastnn.errors import shown
from fastnn.kernels.updates import RULES, Rule
from fastnn.validation import SMALLEST, as_number, check_flag, check_number, check_positive


@dataclass(frozen=True, repr=False)
class Optimizer:
    """Base of all optimizers.

    Parameters
    ----------
    learning_rate : float
        Step size, greater than 0.
    clip_value : float, optional
        Each element of the gradient, with the penalties, is brought into
        ``[-clip_value, clip_value]``. By name only.
    clip_norm : float, optional
        Where the norm of the whole gradient, over all parameters with biases and penalties, is
        larger than this, the gradient is scaled down to it (Pascanu et al., 2013). Comes after
        `clip_value`. By name only.

    Raises
    ------
    ValueError
        If a number is out of range.

    Notes
    -----
    All but `SGD` keep squares of the gradient. In float32 those of numbers beyond 1.8e19 are
    infinite, and the element, divided by that, stays where it is from then on, as in PyTorch.
    A limit keeps that away.

    Examples
    --------
    >>> from fastnn import SGD
    >>> SGD(0.1, clip_norm=5.0)
    SGD(learning_rate=0.1, momentum=0.0, nesterov=False, clip_norm=5.0)
    """

    learning_rate: float
    clip_value: float | None = field(default=None, kw_only=True)
    clip_norm: float | None = field(default=None, kw_only=True)

    weight_decay = 0.0
    """Decoupled decay of the weights in units of the learning rate; biases are free."""

    def __post_init__(self):
        for item in fields(self):
            value = getattr(self, item.name)
            if item.type in (float, "float") or (value is not None and "clip" in item.name):
                _check_hyperparameter(item.name, value)
            elif item.type in (bool, "bool"):
                check_flag(item.name, value)

    def __repr__(self):
        shown = (item.name for item in fields(self) if getattr(self, item.name) is not None)
        names = sorted(shown, key=lambda name: "clip" in name)
        arguments = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{type(self).__name__}({arguments})"

    @property
    def rule(self) -> Rule:
        """The update rule (`fastnn.kernels.updates.RULES`)."""
        raise NotImplementedError

    @property
    def hyperparameters(self) -> np.ndarray:
        """The numbers that the rule takes, float64."""
        return np.array([getattr(self, name) for name in self.rule.hyperparameters], np.float64)


_RANGES = {
    name: allowed for rule in RULES.values() for name, allowed in rule.hyperparameters.items()
}
_RANGES |= {"learning_rate": "> 0", "clip_value": "> 0", "clip_norm": "> 0"}


def _check_hyperparameter(name, value):
    """Raise ValueError if a number is not in the range that the rules say."""
    allowed = _RANGES.get(name, ">= 0")
    if allowed == "> 0":
        check_positive(name, value, SMALLEST if name == "epsilon" else 0.0)
    elif allowed == ">= 0":
        check_number(name, value)
    else:
        number = as_number(value)
        if not (0 <= number <= 1 if allowed == "[0, 1]" else 0 <= number < 1):
            raise ValueError(f"{name} must be a number in {allowed}, got {shown(value)}")


@dataclass(frozen=True, repr=False)
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
    clip_value, clip_norm : float, optional
        Limits of the gradient, as for `Optimizer`.

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
    def rule(self) -> Rule:
        if self.momentum == 0:
            return RULES["sgd"]
        return RULES["nesterov" if self.nesterov else "momentum"]


@dataclass(frozen=True, repr=False)
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
    clip_value, clip_norm : float, optional
        Limits of the gradient, as for `Optimizer`.

    Examples
    --------
    >>> from fastnn import RMSProp
    >>> RMSProp(0.01, rho=0.99)
    RMSProp(learning_rate=0.01, rho=0.99, epsilon=1e-07)
    """

    learning_rate: float = 1e-3
    rho: float = 0.9
    epsilon: float = 1e-7

    @property
    def rule(self) -> Rule:
        return RULES["rmsprop"]


@dataclass(frozen=True, repr=False)
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
        Keeps the divisor from zero. Added to the root of v as it is: where v is corrected first,
        as in PyTorch, the same value counts for less in the first updates.
    clip_value, clip_norm : float, optional
        Limits of the gradient, as for `Optimizer`.

    Examples
    --------
    >>> from fastnn import Adam
    >>> Adam(3e-4)
    Adam(learning_rate=0.0003, beta_1=0.9, beta_2=0.999, epsilon=1e-08)
    """

    learning_rate: float = 1e-3
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8

    @property
    def rule(self) -> Rule:
        return RULES["adam"]


@dataclass(frozen=True, repr=False)
class AdamW(Adam):
    """Adam with decoupled weight decay.

    Before Adam's step, ``w -= learning_rate * weight_decay * w`` for all weights w but not for
    biases (Loshchilov & Hutter, 2019). An L2 penalty would pass through Adam's division; this does
    not.

    Parameters
    ----------
    learning_rate, beta_1, beta_2, epsilon : float
        As for `Adam`.
    weight_decay : float, default 0.01
        Decay in units of the learning rate. A layer's `Regularization` may say otherwise.
    clip_value, clip_norm : float, optional
        Limits of the gradient, as for `Optimizer`.

    Examples
    --------
    >>> from fastnn import AdamW
    >>> AdamW(weight_decay=0.1).weight_decay
    0.1
    """

    weight_decay: float = 0.01


@dataclass(frozen=True, repr=False)
class AdaGrad(Optimizer):
    """AdaGrad: each gradient divided by the root of the sum of all its squares so far.

    ``s += g^2``, then ``p -= learning_rate * g / (sqrt(s) + epsilon)`` (Duchi et al., 2011).

    Parameters
    ----------
    learning_rate : float, default 0.01
        Step size.
    epsilon : float, default 1e-10
        Keeps the divisor from zero.
    clip_value, clip_norm : float, optional
        Limits of the gradient, as for `Optimizer`.

    Examples
    --------
    >>> from fastnn import AdaGrad
    >>> AdaGrad(0.1)
    AdaGrad(learning_rate=0.1, epsilon=1e-10)
    """

    learning_rate: float = 0.01
    epsilon: float = 1e-10

    @property
    def rule(self) -> Rule:
        return RULES["adagrad"]


@dataclass(frozen=True, repr=False)
class NAdam(Adam):
    """Adam with Nesterov's momentum.

    m and v are as in `Adam`, the momenta ``mu_t = beta_1 * (1 - 0.96^(0.004 t) / 2)`` grow slowly
    to beta_1, and ``P_t`` is the product of those up to t. Then
    ``p -= learning_rate * mean / (sqrt(v / (1 - beta_2^t)) + epsilon)`` with
    ``mean = mu_(t+1) * m / (1 - P_(t+1)) + (1 - mu_t) * g / (1 - P_t)`` (Dozat, 2016, section 3).

    Parameters
    ----------
    learning_rate : float, default 0.002
        Step size.
    beta_1, beta_2, epsilon : float
        As for `Adam`; but epsilon is added after v is corrected.
    clip_value, clip_norm : float, optional
        Limits of the gradient, as for `Optimizer`.

    Examples
    --------
    >>> from fastnn import NAdam
    >>> NAdam()
    NAdam(learning_rate=0.002, beta_1=0.9, beta_2=0.999, epsilon=1e-08)
    """

    learning_rate: float = 2e-3

    @property
    def rule(self) -> Rule:
        return RULES["nadam"]


BY_NAME = {
    "sgd": SGD,
    "rmsprop": RMSProp,
    "adam": Adam,
    "adamw": AdamW,
    "adagrad": AdaGrad,
    "nadam": NAdam,
}
"""Optimizers by the names that `Sequential.fit` and the command line take."""


def get(optimizer):
    """Return the optimizer itself, or one with default hyperparameters by its name.

    Parameters
    ----------
    optimizer : Optimizer or {"sgd", "rmsprop", "adam", "adamw", "adagrad", "nadam"}

    Raises
    ------
    ValueError
        If it is neither.
    """
    if isinstance(optimizer, Optimizer):
        return optimizer
    if isinstance(optimizer, str) and optimizer in BY_NAME:
        return BY_NAME[optimizer]()
    names = ", ".join(repr(name) for name in BY_NAME)
    raise ValueError(f"optimizer must be one of {names} or an Optimizer, got {shown(optimizer)}")
