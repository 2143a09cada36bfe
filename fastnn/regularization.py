"""Regularisation: what keeps weights small, or few, or short. Biases are free."""

import math
from dataclasses import dataclass, fields
from typing import Self

from fastnn.errors import shown
from fastnn.validation import as_number, check_number


@dataclass(frozen=True, repr=False)
class Regularization:
    """What holds the weights w of a layer back, or those of all layers.

    An L1 or L2 penalty is a part of the loss, so its derivative passes through the optimizer: with
    Adam it is divided by the size of the gradients. Weight decay is not: it shrinks the weights
    themselves (Loshchilov & Hutter, 2019). For plain SGD L2 and weight decay are the same.

    Parameters
    ----------
    l1 : float, default 0
        ``l1 * sum |w|`` is added to the loss: the derivative is ``l1 * sign(w)``, or 0 at zero.
        Drives weights that are of little use to zero, by the same small step each time, and then
        they stay around it.
    l2 : float, default 0
        ``l2 / 2 * sum w^2`` is added to the loss: the derivative is ``l2 * w``.
    weight_decay : float, optional
        Before each update ``w -= learning_rate * weight_decay * w``. Default that of the
        optimizer, which is 0 but for `AdamW`.
    max_norm : float, default inf
        After each update, the weights of a neuron (a column of w) that are longer than this are
        scaled down to it (Srebro et al., 2005).

    Raises
    ------
    ValueError
        If a number is out of range.

    Examples
    --------
    Of all layers, but for the last, which has its own:

    >>> from fastnn import Affine, ReLU, Regularization, Sequential
    >>> last = Affine(32, 10, regularization=Regularization(l1=1e-4, max_norm=3))
    >>> last.regularization
    Regularization(l1=0.0001, max_norm=3.0)
    >>> net = Sequential([Affine(64, 32), ReLU(), last])

    Then ``net.fit(X, y, regularization=Regularization(l2=1e-3))``.
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
            object.__setattr__(self, item.name, number)  # a float, which JSON can hold

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.config().items())
        return f"{type(self).__name__}({arguments})"

    @classmethod
    def of(cls, value: Self | dict[str, float] | None) -> Self | None:
        """Return `value` if it is one or None, or one made from what `config` returned."""
        if value is None or isinstance(value, cls):
            return value
        if isinstance(value, dict) and value.keys() <= set(cls.__dataclass_fields__):
            return cls(**value)
        raise ValueError(f"regularization must be a Regularization or None, got {shown(value)}")

    def config(self) -> dict[str, float]:
        """Return the constructor's arguments that are not its defaults, as JSON can hold them."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        defaults = {item.name: item.default for item in fields(self)}
        return {name: value for name, value in values.items() if value != defaults[name]}
