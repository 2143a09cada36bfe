"""Schedules: how the learning rate goes on while a net is trained.

A schedule is any function ``(epoch, epochs) -> factor``: training multiplies the optimizer's
learning rate by it at the beginning of each epoch, counted from 0, and keeps it until the next;
or, if the schedule has a true attribute `by_step`, at each batch. Time runs from 0 to `epochs`, and
`epoch` may be a fraction.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np

from fastnn.errors import shown
from fastnn.validation import as_number, check_number

ScheduleLike: TypeAlias = str | Callable[[Any, int], float]
"""What `Sequential.fit` takes for a schedule: a name of `BY_NAME` or any function."""


@dataclass(frozen=True)
class Schedule:
    """Base of all schedules of this module; any other callable will do as well.

    Attributes
    ----------
    by_step : bool
        Whether the factor changes from batch to batch, and not only from epoch to epoch.
    """

    by_step: ClassVar[bool] = False

    def __call__(self, epoch: float, epochs: int) -> float:
        """Return the factor of the learning rate.

        Parameters
        ----------
        epoch : float
            From 0 to `epochs`.
        epochs : int
            Of the whole training.

        Returns
        -------
        float
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Constant(Schedule):
    """The learning rate stays as it is: a factor of 1."""

    def __call__(self, epoch: float, epochs: int) -> float:
        return 1.0


@dataclass(frozen=True)
class Linear(Schedule):
    """By equal steps towards zero: ``1 - epoch / epochs``.

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
    """A lower rate from time to time: ``factor^floor(epoch / every)``.

    Parameters
    ----------
    every : float, optional
        Epochs between two steps, greater than 0; default a third of all epochs.
    factor : float, default 0.1
        Of each step, at least 0.

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
    """The same share less in each epoch: ``factor^epoch``.

    Parameters
    ----------
    factor : float, default 0.95
        What an epoch leaves of the rate, at least 0.

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
    """Half a wave of the cosine, from 1 to `end`, after a warm-up (Loshchilov & Hutter, 2017).

    For w epochs of warm-up the factor is ``(epoch + 1) / (w + 1)``, and then
    ``end + (1 - end) * (1 + cos(pi * t)) / 2`` with ``t = (epoch - w) / (epochs - w)``.

    Parameters
    ----------
    warmup : float, default 0
        Epochs in which the rate grows, at least 0.
    end : float, default 0
        Factor after the last epoch, at least 0.

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
    """Up to the full rate and down again, both along a cosine (Smith, 2018).

    With a rate that is the largest a net bears, it needs few epochs. The optimizer's learning rate
    is that of the peak.

    Parameters
    ----------
    peak_at : float, default 0.3
        When the peak is reached: a share of all epochs, in [0, 1].
    start : float, default 1/25
        Factor at the beginning, at least 0.
    end : float, default 1e-4
        Factor after the last epoch, at least 0.

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
    """Falling ever more slowly: ``1 / (epoch + 1)^power``.

    The form of scikit-learn's "invscaling", which counts samples instead of epochs.

    Parameters
    ----------
    power : float, default 0.5
        At least 0.

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
    """From `first` to `last` along half a wave, while t goes from 0 to 1."""
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
"""Schedules by the names that `Sequential.fit` and the command line take."""


def get(schedule: ScheduleLike) -> Callable[[Any, int], float]:
    """Return the schedule itself, or one with default numbers by its name.

    Parameters
    ----------
    schedule : str or callable

    Raises
    ------
    ValueError
        If it is neither a name nor a function ``(epoch, epochs) -> factor``.

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
    """Return the factor that a schedule gives, checked: it may be anybody's function.

    Raises
    ------
    ValueError
        If it is no finite number of at least 0.
    """
    return check_number(f"schedule({epoch}, {epochs})", schedule(epoch, epochs))
