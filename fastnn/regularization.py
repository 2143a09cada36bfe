"""Regularization of the weights: penalties, weight decay and a limit of norms; never of biases."""

import math
from dataclasses import dataclass, fields
from typing import Self

from fastnn.errors import shown
from fastnn.validation import as_number, check_number


@dataclass(frozen=True, repr=False)
class Regularization:
    """Penalties, decay and limit of the weights w of a layer, or of all layers.

    The derivative of an L1 or L2 penalty is added to the gradient, so it passes through the
    optimizer: Adam divides it by the size of the gradients. Weight decay shrinks the weights
    directly (Loshchilov & Hutter, 2019). For plain SGD, L2 and weight decay are the same.

    Parameters
    ----------
    l1 : float, default=0.0
        Adds ``l1 * sum |w|`` to the loss. The derivative is ``l1 * sign(w)``, 0 at zero: weights
        of little use shrink by equal steps and then oscillate around zero.
    l2 : float, default=0.0
        Adds ``l2 / 2 * sum w^2`` to the loss. The derivative is ``l2 * w``.
    weight_decay : float, default=None
        Before each update, ``w -= learning_rate * weight_decay * w``. None takes the decay of the
        optimizer, which is 0 for all but `AdamW`.
    max_norm : float, default=inf
        After each update, a column of w (the weights of one neuron) with a larger Euclidean norm
        is scaled down to this norm (Srebro et al., 2005).

    Raises
    ------
    ValueError
        If a number is out of range.

    Examples
    --------
    An L2 penalty for all layers except the last, which has a regularization of its own:

    >>> import numpy as np
    >>> from fastnn import Affine, ReLU, Regularization, Sequential
    >>> last = Affine(3, 2, regularization=Regularization(l1=1e-4, max_norm=3))
    >>> last.regularization
    Regularization(l1=0.0001, max_norm=3.0)
    >>> net = Sequential([Affine(2, 3), ReLU(), last], seed=0)
    >>> history = net.fit(np.eye(2), [0, 1], regularization=Regularization(l2=1e-3))
    """

    l1: float = 0.0
    l2: float = 0.0
    weight_decay: float | None = None
    max_norm: float = math.inf

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name == "max_norm":
                number = as_number(value)
                if not number > 0:
                    raise ValueError(f"max_norm must be a number > 0, got {shown(value)}")
            elif item.name == "weight_decay" and value is None:
                continue
            else:
                number = check_number(item.name, value)
            object.__setattr__(self, item.name, number)  # a float, for JSON

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.config().items())
        return f"{type(self).__name__}({arguments})"

    @classmethod
    def of(cls, value: Self | dict[str, float] | None) -> Self | None:
        """Return a regularization from the dict of `config`; others and None as they are.

        Parameters
        ----------
        value : Regularization, dict or None

        Returns
        -------
        Regularization or None

        Raises
        ------
        ValueError
            If `value` is none of these, or a number in it is out of range.

        Examples
        --------
        >>> from fastnn import Regularization
        >>> Regularization.of({"l2": 0.001})
        Regularization(l2=0.001)
        """
        if value is None or isinstance(value, cls):
            return value
        if isinstance(value, dict) and value.keys() <= set(cls.__dataclass_fields__):
            return cls(**value)
        raise ValueError(f"regularization must be a Regularization or None, got {shown(value)}")

    def config(self) -> dict[str, float]:
        """Return the arguments of the constructor that differ from the defaults, for JSON.

        Returns
        -------
        dict of str to float

        Examples
        --------
        >>> from fastnn import Regularization
        >>> Regularization(l2=0.001).config()
        {'l2': 0.001}
        """
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        defaults = {item.name: item.default for item in fields(self)}
        return {name: value for name, value in values.items() if value != defaults[name]}
