"""Checks of what users give, before any kernel sees it, and the one place that converts arrays.

Kernels get arrays of one kind only: native, aligned, C-contiguous and writable, so that Numba
compiles them once for each dtype.
"""

import numbers
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from fastnn.errors import reason, shown

_ROWS_AT_ONCE = 4096

MOST = 2**63 - 1
"""The greatest number of anything: kernels count in int64."""

MOST_COLUMNS = 2**31 - 1
"""The widest layer: the columns of a sparse matrix are counted in int32."""

MOST_ELEMENTS = 2**44
"""The most elements of an array: no machine has an address for more of them."""

LARGEST, SMALLEST = float(np.finfo(np.float32).max), float(np.finfo(np.float32).tiny)
"""The greatest and the least positive number argument: beyond them float32 has infinity, or zero.

Kernels take numbers in the dtype of the net, and infinity times zero, or zero by zero, is NaN.
"""


class SparseMatrix(Protocol):
    """A sparse matrix or array of SciPy, which has no types of its own."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def tocsr(self, copy: bool = False) -> Any: ...


Table: TypeAlias = ArrayLike | SparseMatrix
"""A table of samples, as estimators take it."""

Seed: TypeAlias = int | np.random.Generator | None
"""What a random generator is made from."""


class TargetRules(Protocol):
    """What `check_targets` asks of a `fastnn.losses.Loss`."""

    @property
    def name(self) -> str: ...

    @property
    def target_range(self) -> tuple[float, float]: ...

    @property
    def shares_target(self) -> bool: ...

    def check_outputs(self, n_outputs: int) -> None: ...


class _WritableAlias:
    """The array interface of a read-only array, without the mark.

    Numba takes a read-only array for another type and would compile every kernel again. Kernels
    do not write to their inputs.
    """

    def __init__(self, array: np.ndarray) -> None:
        address, _ = array.__array_interface__["data"]
        self.__array_interface__ = {**array.__array_interface__, "data": (address, False)}
        self.owner = array  # keeps the memory alive


def kernel_array(array: ArrayLike, dtype: DTypeLike) -> np.ndarray:
    """Return `array` as kernels take it: no copy where it is of that kind already.

    Parameters
    ----------
    array : array_like
    dtype : numpy.dtype or None
        None keeps the array's own.
    """
    with np.errstate(over="ignore"):  # infinite: for the caller to refuse
        array = np.require(array, dtype=dtype, requirements=["C", "A"])
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if not array.flags.writeable:
        array = np.asarray(_WritableAlias(array)) if array.size else array.copy()
    return array


def check_finite(name: str, array: np.ndarray) -> None:
    """Raise ValueError if the array holds a NaN or an infinity: name the first place."""
    for start in range(0, len(array), _ROWS_AT_ONCE):  # a mask of everything would be large
        finite = np.isfinite(array[start : start + _ROWS_AT_ONCE])
        if not finite.all():
            place = np.argwhere(~finite)[0]
            value = array[start : start + _ROWS_AT_ONCE][tuple(place)]
            where = ", ".join(str(int(k)) for k in (place[0] + start, *place[1:]))
            raise ValueError(f"{name} must be finite, got {value} at {name}[{where}]")


def check_inputs(
    x: ArrayLike, dtype: DTypeLike, n_inputs: int, name: str = "X", finite: bool = True
) -> np.ndarray:
    """Return a net's input as a kernel array (N, I).

    Raises
    ------
    ValueError
        If it is not a table of numbers with `n_inputs` columns and, where asked, finite.
    """
    array = as_array(name, x)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must be numeric, got dtype {array.dtype}")
    if array.ndim != 2:
        hint = f"; reshape it to (1, {array.size})" if array.ndim == 1 else ""
        raise ValueError(f"{name} must have 2 dimensions (rows, columns), got {array.ndim}{hint}")
    if array.shape[1] != n_inputs:
        raise ValueError(f"{name} must have {n_inputs} columns, got {array.shape[1]}")
    array = kernel_array(array, dtype)
    if finite:
        check_finite(name, array)
    return array


def float_matrix(name: str, x: ArrayLike) -> np.ndarray:
    """Return a copy of a numeric matrix as a kernel array: float32 stays, all else is float64.

    Raises
    ------
    ValueError
        If it is none.
    """
    x = as_array(name, x)
    if x.dtype.kind not in "biuf" or x.ndim != 2:
        raise ValueError(
            f"{name} must be a numeric array with 2 dimensions, got shape {x.shape} and "
            f"dtype {x.dtype}"
        )
    single = x.dtype.kind == "f" and x.dtype.itemsize == 4
    return np.array(x, np.float32 if single else np.float64, order="C")


def check_gradient(dout: ArrayLike, kept: np.ndarray | None) -> np.ndarray:
    """Return the gradient of a layer's output as an array like the one kept by `forward`.

    Raises
    ------
    RuntimeError
        If nothing has been kept yet.
    ValueError
        If it has another shape.
    """
    if kept is None:
        raise RuntimeError("backward needs a forward pass before it")
    with np.errstate(over="ignore"):  # infinite: to be seen in the gradients
        dout = float_matrix("dout", dout).astype(kept.dtype, copy=False)
    if dout.shape != kept.shape:
        raise ValueError(f"dout must have the shape {kept.shape} of x, got {dout.shape}")
    return dout


def check_targets(
    y: ArrayLike,
    loss: TargetRules,
    n_rows: int,
    n_outputs: int,
    dtype: DTypeLike,
    name: str = "y",
) -> tuple[np.ndarray, np.ndarray]:
    """Return targets as kernels take them: (labels (N,) int64, targets (N, O)), one of them empty.

    Raises
    ------
    ValueError
        If their shape or values do not suit the loss.
    """
    loss.check_outputs(n_outputs)
    y = as_array(name, y)
    if y.dtype.kind not in "biuf":
        raise ValueError(f"{name} must be numeric, got dtype {y.dtype}: encode labels as 0..C-1")
    if y.ndim not in (1, 2) or len(y) != n_rows:
        raise ValueError(f"{name} must have {n_rows} rows as X has, got shape {y.shape}")
    no_labels, no_targets = np.empty(0, np.int64), np.empty((0, n_outputs), dtype)
    if loss.name == "softmax_cross_entropy" and y.ndim == 1:
        return kernel_array(_class_labels(y, n_outputs, name), np.int64), no_targets
    targets = y[:, None] if y.ndim == 1 else y
    if loss.shares_target and targets.shape[1] == 1:
        targets = np.broadcast_to(targets, (n_rows, n_outputs))
    if targets.shape[1] != n_outputs:
        raise ValueError(f"{name} must have {n_outputs} columns, got {targets.shape[1]}")
    targets = kernel_array(targets, dtype)
    check_finite(name, targets)
    least, most = loss.target_range
    if len(targets) and not least <= targets.min() <= targets.max() <= most:
        span = f"lie in [{least:g}, {most:g}]" if most < np.inf else f"be >= {least:g}"
        raise ValueError(
            f"{name} must {span} for {loss.name}, got values from {targets.min():g} to "
            f"{targets.max():g}"
        )
    return no_labels, targets


def check_weights(
    weights: ArrayLike, n_rows: int, name: str = "sample_weight", least: float = -np.inf
) -> np.ndarray:
    """Return weights of samples (N,) as kernels take them.

    They may be negative, as in scikit-learn: simulated events of particle physics are.

    Raises
    ------
    ValueError
        If they are not `n_rows` finite numbers, each at least `least`.
    """
    weights = as_array(name, weights)
    if weights.dtype.kind not in "biuf" or weights.shape != (n_rows,):
        raise ValueError(
            f"{name} must be {n_rows} numbers, got shape {weights.shape} and dtype {weights.dtype}"
        )
    weights = kernel_array(weights, np.float64)
    check_finite(name, weights)
    if len(weights) and weights.min() < least:
        place = int(weights.argmin())
        raise ValueError(f"{name} must be >= {least:g}, got {weights[place]:g} at {name}[{place}]")
    return weights


def _class_labels(y: np.ndarray, n_classes: int, name: str) -> np.ndarray:
    if y.dtype.kind == "f":
        check_finite(name, y)
        if (y != np.floor(y)).any():
            raise ValueError(f"{name} must hold integer classes, got {y[y != np.floor(y)][0]:g}")
    if len(y) and not 0 <= y.min() <= y.max() < n_classes:
        wrong = y.max() if y.max() >= n_classes else y.min()
        raise ValueError(
            f"{name} must hold classes from 0 to {n_classes - 1} for {n_classes} outputs, "
            f"got {wrong:g}"
        )
    return y.astype(np.int64)


def check_integer(name: str, value: object, least: int, most: int | None = None) -> int:
    """Return an integer argument from `least` to `most`, if any, or raise ValueError."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or int(value) < least:
        raise ValueError(f"{name} must be an integer >= {least}, got {shown(value)}")
    if most is not None and int(value) > most:
        raise ValueError(f"{name} must be an integer <= {most}, got {shown(value)}")
    return int(value)


def check_number(name: str, value: object, least: float = 0.0) -> float:
    """Return a finite number argument that is at least `least`, or raise ValueError."""
    number = as_number(value)
    if not least <= number < np.inf:
        raise ValueError(f"{name} must be a finite number >= {least:g}, got {shown(value)}")
    if number > LARGEST:
        raise ValueError(f"{name} must be a number <= {LARGEST:.8g}, got {shown(value)}")
    return number


def check_positive(name: str, value: object, least: float = 0.0) -> float:
    """Return a finite number argument greater than 0, at least `least`, or raise ValueError."""
    number = as_number(value)
    if not 0 < number < np.inf:
        raise ValueError(f"{name} must be a finite number > 0, got {shown(value)}")
    if not least <= number <= LARGEST:
        raise ValueError(
            f"{name} must be a number from {least:.8g} to {LARGEST:.8g}, got {shown(value)}"
        )
    return number


def check_flag(name: str, value: object) -> bool:
    """Return a yes or no as a bool, or raise ValueError: 0, 1 and None will do as well."""
    if value is None or isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, numbers.Integral) and value in (0, 1):
        return bool(value)
    raise ValueError(f"{name} must be True or False, got {shown(value)}")


def check_elements(name: str, n: int) -> None:
    """Raise ValueError if an array of n elements has no place in any memory."""
    if n > MOST_ELEMENTS:
        raise ValueError(f"{name} must be at most {MOST_ELEMENTS}, got {shown(n)}")


def as_number(value: object) -> float:
    """Return a real number as a float; NaN for what is none, or does not fit."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
        return np.nan
    try:
        with np.errstate(over="ignore"):
            return float(value)
    except OverflowError:
        return np.nan


def check_seed(seed: object) -> np.random.Generator:
    """Return the random generator that a seed means, or raise ValueError."""
    if isinstance(seed, np.random.Generator):
        return seed
    if seed is None:
        return np.random.default_rng()
    if not isinstance(seed, numbers.Integral) or isinstance(seed, bool) or int(seed) < 0:
        raise ValueError(
            f"seed must be None, an integer >= 0 or a numpy.random.Generator, got {shown(seed)}"
        )
    return np.random.default_rng(int(seed))


def as_array(name: str, values: object) -> np.ndarray:
    """Return values as an array, or raise ValueError if they have no common shape."""
    try:
        return np.asarray(values)
    except ValueError:
        raise ValueError(f"{name} must be an array, got rows of different lengths") from None
    except (TypeError, RuntimeError) as error:  # a tensor that needs its gradient, for example
        what = f"{shown(type(values))}: {reason(error)}"
        raise ValueError(f"{name} must be an array, got {what}") from error


def check_dtype(dtype: object, name: str = "dtype") -> np.dtype:
    """Return float32 or float64 as a numpy.dtype, or raise ValueError."""
    for allowed in (np.dtype(np.float32), np.dtype(np.float64)):
        try:
            known = isinstance(dtype, (str, type, np.dtype, np.generic)) and np.dtype(dtype)
            if known == allowed:
                return allowed
        except (TypeError, ValueError):
            break
    raise ValueError(f"{name} must be 'float32' or 'float64', got {shown(dtype)}")
