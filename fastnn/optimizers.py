"""Optimizers: update rules and their hyperparameters.

The arithmetic is in `fastnn.kernels.updates`. The classes of this module hold the hyperparameters
and check them.

Symbols in the formulas: p is a parameter, g its gradient, t the number of the update, from 1.

Examples
--------
>>> from fastnn import optimizers
>>> optimizers.get("sgd")
SGD(learning_rate=0.01, momentum=0.0, nesterov=False)
"""

from dataclasses import dataclass, field, fields

import numpy as np

from fastnn.errors import shown
from fastnn.kernels.updates import RULES, Rule
from fastnn.validation import SMALLEST, as_number, check_flag, check_number, check_positive


@dataclass(frozen=True, repr=False)
class Optimizer:
    """Base class of all optimizers.

    Parameters
    ----------
    learning_rate : float
        Step size, greater than 0.
    clip_value : float, default=None
        Limit of each element of the gradient, penalties included: it is clipped to
        ``[-clip_value, clip_value]``. Greater than 0, keyword only. None is no limit.
    clip_norm : float, default=None
        Limit of the Euclidean norm of the whole gradient, over all parameters and with the
        penalties: a gradient with a larger norm is scaled down to it (Pascanu et al., 2013), after
        `clip_value`. Greater than 0, keyword only. None is no limit.

    Attributes
    ----------
    weight_decay : float
        Decoupled decay of the weights, in units of the learning rate; biases have none.

    Raises
    ------
    ValueError
        If a hyperparameter is out of range.

    Notes
    -----
    All optimizers but `SGD` keep squares of the gradient. In float32 the square of a number beyond
    1.8e19 is infinite. The update is divided by it, so from then on the parameter does not change,
    as in PyTorch. `clip_value` and `clip_norm` prevent that.

    Examples
    --------
    >>> from fastnn import SGD
    >>> SGD(0.1, clip_norm=5.0)
    SGD(learning_rate=0.1, momentum=0.0, nesterov=False, clip_norm=5.0)
    """

    learning_rate: float
    clip_value: float | None = field(default=None, kw_only=True)
    clip_norm: float | None = field(default=None, kw_only=True)

    weight_decay = 0.0  # of a class, not a hyperparameter of all optimizers

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if item.type in (float, "float") or (value is not None and "clip" in item.name):
                _check_hyperparameter(item.name, value, self._own_ranges())
            elif item.type in (bool, "bool"):
                check_flag(item.name, value)

    def _own_ranges(self) -> dict[str, str]:
        try:
            return self.rule.hyperparameters
        except NotImplementedError:  # of the base
            return {}

    def __repr__(self) -> str:
        shown = (item.name for item in fields(self) if getattr(self, item.name) is not None)
        names = sorted(shown, key=lambda name: "clip" in name)
        arguments = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{type(self).__name__}({arguments})"

    @property
    def rule(self) -> Rule:
        """The update rule, a row of `fastnn.kernels.updates.RULES`."""
        raise NotImplementedError

    @property
    def hyperparameters(self) -> np.ndarray:
        """The hyperparameters that the rule takes, in its order.

        Returns
        -------
        ndarray of float64 of shape (H,)
        """
        return np.array([getattr(self, name) for name in self.rule.hyperparameters], np.float64)


_RANGES = {
    name: allowed for rule in RULES.values() for name, allowed in rule.hyperparameters.items()
}
_RANGES |= {"learning_rate": "> 0", "clip_value": "> 0", "clip_norm": "> 0"}


def _check_hyperparameter(name: str, value: object, own: dict[str, str]) -> None:
    """Raise ValueError if a hyperparameter is not in the range that the rule, or any, allows."""
    allowed = own.get(name) or _RANGES.get(name, ">= 0")
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
    """Stochastic gradient descent, without momentum, with it, or with Nesterov's.

    ``v = momentum * v - learning_rate * g``, then ``p += v``, or with Nesterov
    ``p += momentum * v - learning_rate * g`` (Sutskever et al., 2013).

    Parameters
    ----------
    learning_rate : float, default=0.01
        Step size, greater than 0.
    momentum : float, default=0.0
        Factor of the velocity v of the last update, in [0, 1].
    nesterov : bool, default=False
        Whether to use Nesterov's momentum.
    clip_value, clip_norm : float, default=None
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
    """RMSProp: each element of the gradient is divided by its running root mean square.

    ``s = rho * s + (1 - rho) * g^2``, then ``p -= learning_rate * g / (sqrt(s) + epsilon)``
    (Tieleman & Hinton, 2012).

    Parameters
    ----------
    learning_rate : float, default=0.001
        Step size, greater than 0.
    rho : float, default=0.9
        Decay of the running mean, in [0, 1).
    epsilon : float, default=1e-7
        Added to the divisor, so that it is not zero; greater than 0.
    clip_value, clip_norm : float, default=None
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
    """Adam: updates by running means of the gradient and of its square.

    ``m = beta_1 * m + (1 - beta_1) * g``, ``v = beta_2 * v + (1 - beta_2) * g^2``, then
    ``p -= rate * m / (sqrt(v) + epsilon)`` with
    ``rate = learning_rate * sqrt(1 - beta_2^t) / (1 - beta_1^t)`` (Kingma & Ba, 2015, the
    efficient form of section 2, which scikit-learn uses too).

    Parameters
    ----------
    learning_rate : float, default=0.001
        Step size, greater than 0.
    beta_1 : float, default=0.9
        Decay of the running mean m, in [0, 1).
    beta_2 : float, default=0.999
        Decay of the running mean v, in [0, 1).
    epsilon : float, default=1e-8
        Added to the divisor, so that it is not zero; greater than 0. PyTorch divides v by
        ``1 - beta_2^t`` before it adds epsilon, so there the same value has less effect in the
        first updates.
    clip_value, clip_norm : float, default=None
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

    Before Adam's update, ``w -= learning_rate * weight_decay * w`` for all weights w but not for
    biases (Loshchilov & Hutter, 2019). The gradient of an L2 penalty would be divided by
    ``sqrt(v)``; this decay is not.

    Parameters
    ----------
    learning_rate, beta_1, beta_2, epsilon : float
        As for `Adam`.
    weight_decay : float, default=0.01
        Decay in units of the learning rate, at least 0. The `Regularization` of a layer may
        override it.
    clip_value, clip_norm : float, default=None
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
    """AdaGrad: each element of the gradient is divided by the root of the sum of its squares.

    ``s += g^2``, then ``p -= learning_rate * g / (sqrt(s) + epsilon)`` (Duchi et al., 2011). So the
    updates become smaller and smaller.

    Parameters
    ----------
    learning_rate : float, default=0.01
        Step size, greater than 0.
    epsilon : float, default=1e-10
        Added to the divisor, so that it is not zero; greater than 0.
    clip_value, clip_norm : float, default=None
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
    to beta_1, and ``P_t`` is the product of the momenta 1 to t. Then
    ``p -= learning_rate * mean / (sqrt(v / (1 - beta_2^t)) + epsilon)`` with
    ``mean = mu_(t+1) * m / (1 - P_(t+1)) + (1 - mu_t) * g / (1 - P_t)`` (Dozat, 2016, section 3).

    Parameters
    ----------
    learning_rate : float, default=0.002
        Step size, greater than 0.
    beta_1, beta_2, epsilon : float
        As for `Adam`, but v is divided by ``1 - beta_2^t`` before epsilon is added.
    clip_value, clip_norm : float, default=None
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


BY_NAME: dict[str, type[SGD | RMSProp | Adam | AdaGrad]] = {
    "sgd": SGD,
    "rmsprop": RMSProp,
    "adam": Adam,
    "adamw": AdamW,
    "adagrad": AdaGrad,
    "nadam": NAdam,
}
"""The optimizers by name, as `Sequential.fit` and the command line take them."""


def get(optimizer: str | Optimizer) -> Optimizer:
    """Return an optimizer by its name; an `Optimizer` is returned as it is.

    Parameters
    ----------
    optimizer : str or Optimizer
        A name of `BY_NAME` gives the optimizer with its default hyperparameters.

    Returns
    -------
    Optimizer

    Raises
    ------
    ValueError
        If `optimizer` is neither an `Optimizer` nor the name of one.

    Examples
    --------
    >>> from fastnn import optimizers
    >>> optimizers.get("rmsprop")
    RMSProp(learning_rate=0.001, rho=0.9, epsilon=1e-07)
    """
    if isinstance(optimizer, Optimizer):
        return optimizer
    if isinstance(optimizer, str) and optimizer in BY_NAME:
        return BY_NAME[optimizer]()
    names = ", ".join(repr(name) for name in BY_NAME)
    raise ValueError(f"optimizer must be one of {names} or an Optimizer, got {shown(optimizer)}")
