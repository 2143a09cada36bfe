"""Schedules of the learning rate.

A schedule is a function ``(epoch, epochs) -> factor``, where `epoch` counts from 0 and `epochs` is
the number of epochs of the whole training. Training multiplies the optimizer's learning rate by the
factor: at the beginning of each epoch or, if the schedule has a true attribute `by_step`, at each
step. Then `epoch` has a fraction.

Examples
--------
>>> from fastnn import Affine, Sequential
>>> from fastnn.schedules import Cosine
>>> net = Sequential([Affine(1, 1)], seed=0)
>>> history = net.fit([[0.0], [1.0]], [1.0, 2.0], loss="mse", schedule=Cosine(), epochs=3)
>>> history = net.fit([[0.0], [1.0]], [1.0, 2.0], loss="mse", schedule=lambda epoch, epochs: 0.5)
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np

from fastnn.errors import shown
from fastnn.validation import as_number, check_number

ScheduleLike: TypeAlias = str | Callable[[Any, int], float]
"""A schedule as `Sequential.fit` takes it: a name of `BY_NAME`, or a function."""


@dataclass(frozen=True)
class Schedule:
    """Base class of the schedules of this module. Other callables are schedules too.

    Attributes
    ----------
    by_step : bool
        Whether the factor changes at each step. If not, it changes at each epoch.
    """

    by_step: ClassVar[bool] = False

    def __call__(self, epoch: float, epochs: int) -> float:
        """Return the factor of the learning rate.

        Parameters
        ----------
        epoch : float
            Epochs done, from 0 to `epochs`.
        epochs : int
            Number of epochs of the whole training.

        Returns
        -------
        float
            At least 0.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Constant(Schedule):
    """A constant learning rate: the factor is 1.

    Examples
    --------
    >>> from fastnn.schedules import Constant
    >>> Constant()(2, 4)
    1.0
    """

    def __call__(self, epoch: float, epochs: int) -> float:
        return 1.0


@dataclass(frozen=True)
class Linear(Schedule):
    """Linear decay to zero: ``1 - epoch / epochs``.

    Examples
    --------
    >>> from fastnn.schedules import Linear
    >>> [Linear()(epoch, 4) for epoch in range(4)]
    [1.0, 0.75, 0.5, 0.25]
    """

    def __call__(self, epoch: float, epochs: int) -> float:
        return 1.0 - epoch / epochs


@dataclass(frozen=True)
class StepDecay(Schedule):
    """Decay at regular intervals: ``factor^floor(epoch / every)``.

    Parameters
    ----------
    every : float, default=None
        Epochs between two changes, greater than 0. None is a third of all epochs.
    factor : float, default=0.1
        Factor of each change, at least 0.

    Raises
    ------
    ValueError
        If a number is out of range.

    Examples
    --------
    >>> from fastnn.schedules import StepDecay
    >>> [StepDecay(every=2, factor=0.5)(epoch, 6) for epoch in range(6)]
    [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
    """

    every: float | None = None
    factor: float = 0.1

    def __post_init__(self) -> None:
        if self.every is not None and not 0 < as_number(self.every) < np.inf:
            raise ValueError(f"every must be None or a finite number > 0, got {shown(self.every)}")
        check_number("factor", self.factor)

    def __call__(self, epoch: float, epochs: int) -> float:
        every = epochs / 3 if self.every is None else self.every
        return self.factor ** math.floor(epoch / every)


@dataclass(frozen=True)
class Exponential(Schedule):
    """Exponential decay: ``factor^epoch``.

    Parameters
    ----------
    factor : float, default=0.95
        Factor of each epoch, at least 0.

    Raises
    ------
    ValueError
        If `factor` is out of range.

    Examples
    --------
    >>> from fastnn.schedules import Exponential
    >>> [Exponential(0.5)(epoch, 3) for epoch in range(3)]
    [1.0, 0.5, 0.25]
    """

    factor: float = 0.95

    def __post_init__(self) -> None:
        check_number("factor", self.factor)

    def __call__(self, epoch: float, epochs: int) -> float:
        return self.factor**epoch


@dataclass(frozen=True)
class Cosine(Schedule):
    """Cosine decay from 1 to `end`, after a linear warm-up (Loshchilov & Hutter, 2017).

    In the first w epochs the factor is ``(epoch + 1) / (w + 1)``, and after them
    ``end + (1 - end) * (1 + cos(pi * t)) / 2`` with ``t = (epoch - w) / (epochs - w)``. It changes
    at each step.

    Parameters
    ----------
    warmup : float, default=0
        Epochs of warm-up, w, at least 0.
    end : float, default=0.0
        Factor after the last epoch, at least 0.

    Raises
    ------
    ValueError
        If a number is out of range.

    Examples
    --------
    >>> from fastnn.schedules import Cosine
    >>> [round(Cosine(warmup=1)(epoch, 4), 2) for epoch in range(4)]
    [0.5, 1.0, 0.75, 0.25]
    """

    by_step: ClassVar[bool] = True

    warmup: float = 0
    end: float = 0.0

    def __post_init__(self) -> None:
        check_number("warmup", self.warmup)
        check_number("end", self.end)

    def __call__(self, epoch: float, epochs: int) -> float:
        if epoch < self.warmup:
            return (epoch + 1) / (self.warmup + 1)
        if epoch >= epochs:
            return float(self.end)
        return _cosine(1.0, self.end, (epoch - self.warmup) / (epochs - self.warmup))


@dataclass(frozen=True)
class OneCycle(Schedule):
    """One cycle: a cosine rise from `start` to 1, then a cosine decay to `end` (Smith, 2018).

    The optimizer's learning rate is that of the peak. With the largest rate that still converges,
    training needs few epochs. The factor changes at each step.

    Parameters
    ----------
    peak_at : float, default=0.3
        Position of the peak, as a share of all epochs in [0, 1].
    start : float, default=1/25
        Factor at the beginning, at least 0.
    end : float, default=1e-4
        Factor after the last epoch, at least 0.

    Raises
    ------
    ValueError
        If a number is out of range.

    Examples
    --------
    >>> from fastnn.schedules import OneCycle
    >>> [round(OneCycle(peak_at=0.5)(epoch, 4), 2) for epoch in range(4)]
    [0.04, 0.52, 1.0, 0.5]
    """

    by_step: ClassVar[bool] = True

    peak_at: float = 0.3
    start: float = 1 / 25
    end: float = 1e-4

    def __post_init__(self) -> None:
        if not 0 <= as_number(self.peak_at) <= 1:
            raise ValueError(f"peak_at must be a number in [0, 1], got {shown(self.peak_at)}")
        check_number("start", self.start)
        check_number("end", self.end)

    def __call__(self, epoch: float, epochs: int) -> float:
        peak = self.peak_at * epochs
        if epoch < peak:
            return _cosine(self.start, 1.0, epoch / peak)
        return _cosine(1.0, self.end, (epoch - peak) / (epochs - peak)) if peak < epochs else 1.0


@dataclass(frozen=True)
class InverseScaling(Schedule):
    """Decay by a power of the epoch: ``1 / (epoch + 1)^power``.

    The form of scikit-learn's "invscaling", which counts samples instead of epochs.

    Parameters
    ----------
    power : float, default=0.5
        Exponent, at least 0.

    Raises
    ------
    ValueError
        If `power` is out of range.

    Examples
    --------
    >>> from fastnn.schedules import InverseScaling
    >>> [InverseScaling()(epoch, 9) for epoch in (0, 3)]
    [1.0, 0.5]
    """

    power: float = 0.5

    def __post_init__(self) -> None:
        check_number("power", self.power)

    def __call__(self, epoch: float, epochs: int) -> float:
        return (epoch + 1.0) ** -self.power


def _cosine(first: float, last: float, t: float) -> float:
    """Return the value at t, from 0 to 1, of half a cosine wave from `first` to `last`."""
    return last + (first - last) * (1.0 + math.cos(math.pi * t)) / 2


BY_NAME: dict[str, type[Schedule]] = {
    "constant": Constant,
    "linear": Linear,
    "step": StepDecay,
    "exponential": Exponential,
    "cosine": Cosine,
    "one_cycle": OneCycle,
    "inverse_scaling": InverseScaling,
}
"""The schedules by name, as `Sequential.fit` and the command line take them."""


def get(schedule: ScheduleLike) -> Callable[[Any, int], float]:
    """Return a schedule by its name; a function is returned as it is.

    Parameters
    ----------
    schedule : str or callable
        A name of `BY_NAME` gives the schedule with its default parameters.

    Returns
    -------
    callable

    Raises
    ------
    ValueError
        If `schedule` is neither a name nor a function ``(epoch, epochs) -> factor``.

    Examples
    --------
    >>> from fastnn import schedules
    >>> schedules.get("cosine")
    Cosine(warmup=0, end=0.0)
    """
    if isinstance(schedule, str) and schedule in BY_NAME:
        return BY_NAME[schedule]()
    if callable(schedule) and not isinstance(schedule, type):
        return schedule
    names = ", ".join(map(repr, BY_NAME))
    raise ValueError(
        f"schedule must be one of {names} or a function (epoch, epochs), got {shown(schedule)}"
    )


def factor_at(schedule: Callable[[Any, int], float], epoch: float, epochs: int) -> float:
    """Return the factor of a schedule at a time, after a check: it may be a function of the user.

    Parameters
    ----------
    schedule : callable
    epoch : float
        Epochs done, from 0 to `epochs`.
    epochs : int
        Number of epochs of the whole training.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If the factor is not a finite number >= 0.

    Examples
    --------
    >>> from fastnn.schedules import Linear, factor_at
    >>> factor_at(Linear(), 1, 4)
    0.75
    """
    return check_number(f"schedule({epoch}, {epochs})", schedule(epoch, epochs))
