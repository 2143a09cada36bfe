"""Regularisation: what keeps weights small, or few, or short. Biases are free."""

import math
from dataclasses import asdict, dataclass

from fastnn.validation import as_number, check_number


@dataclass(frozen=True)
class Regularization:
    """What holds the weights w of a layer back, or those of all layers.

    An L1 or L2 penalty is a part of the loss, so its derivative passes through the optimizer: with
    Adam it is divided by the size of the gradients. Weight decay is not: it shrinks the weights
    themselves (Loshchilov & Hutter, 2019). For plain SGD L2 and weight decay are the same.

    Parameters
    ----------
    l1 : float, default 0
        ``l1 * sum |w|`` is added to the loss. Drives weights that are of little use to zero, by
        the same small step each time, and then they stay around it.
    l2 : float, default 0
        ``l2 / 2 * sum w^2`` is added to the loss: the derivative is ``l2 * w``.
    weight_decay : float, optional
        Before each update ``w -= learning_rate * weight_decay * w``. Default that of the
        optimizer, which is 0 but for `AdamW`.
    max_norm : float, default inf
        After each update, the weights of a neuron (a column of w) that are longer than this are
        scaled down to it (Srebro et al., 2005).

    Examples
    --------
    >>> from fastnn import Affine, Regularization
    >>> layer = Affine(64, 32, regularization=Regularization(l1=1e-4))
    >>> layer.regularization.l1
    0.0001
    """

    l1: float = 0.0
    l2: float = 0.0
    weight_decay: float | None = None
    max_norm: float = math.inf

    def __post_init__(self):
        for name in ("l1", "l2"):
            check_number(name, getattr(self, name))
        if self.weight_decay is not None:
            check_number("weight_decay", self.weight_decay)
        if not as_number(self.max_norm) > 0:
            raise ValueError(f"max_norm must be a number > 0, got {self.max_norm!r}")

    @classmethod
    def of(cls, value):
        """Return `value` if it is one or None, or one made from what `config` returned."""
        if value is None or isinstance(value, cls):
            return value
        if isinstance(value, dict) and value.keys() <= set(cls.__dataclass_fields__):
            if value.get("max_norm", 0) is None:
                value = {**value, "max_norm": math.inf}
            return cls(**value)
        raise ValueError(f"regularization must be a Regularization or None, got {value!r}")

    def config(self):
        """Return the constructor's arguments, as JSON can hold them."""
        config = asdict(self)
        if math.isinf(self.max_norm):
            config["max_norm"] = None
        return config
