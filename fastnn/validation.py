"""Checks of arguments, and the conversion of arrays to the form that kernels take.

Kernels trust their arguments, so everything is checked here, in Python. They take arrays of one
form only (native byte order, aligned, C-contiguous, writeable): Numba compiles them once per dtype.
"""

import numbers
from typing import Any, ClassVar, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from fastnn.errors import reason, shown

_ROWS_AT_ONCE = 4096

MOST = 2**63 - 1
"""The largest integer argument: kernels count in int64."""

MOST_COLUMNS = 2**31 - 1
"""The largest width of a layer: the columns of a sparse matrix are counted in int32."""

MOST_ELEMENTS = 2**44
"""The largest number of elements of an array: no machine can address more."""

LARGEST, SMALLEST = float(np.finfo(np.float32).max), float(np.finfo(np.float32).tiny)
"""The largest and the smallest positive number argument: beyond them float32 has infinity or zero.

Kernels compute in the dtype of the net, where infinity times zero and zero by zero are NaN.
"""


# Losses that are tried for classes, which they take one-hot encoded only.
_OFTEN_FOR_CLASSES = ("mse", "squared_error", "binary_cross_entropy")


class SparseMatrix(Protocol):
    """A sparse matrix or array of SciPy, which has no types of its own."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def tocsr(self, copy: bool = False) -> Any: ...


Table: TypeAlias = ArrayLike | SparseMatrix
"""A table of samples: anything that NumPy makes an array of, or a sparse matrix."""

Seed: TypeAlias = int | np.random.Generator | None
"""A seed as `check_seed` takes it."""


class TargetRules(Protocol):
    """The part of a `fastnn.losses.Loss` that `check_targets` needs."""

    name: ClassVar[str]
    target_range: ClassVar[tuple[float, float]]

    @property
    def shares_target(self) -> bool: ...

    def check_outputs(self, n_outputs: int) -> None: ...


class _WritableAlias:
    """The array interface of a read-only array, without the read-only flag.

    To Numba a read-only array is of another type, for which it would compile every kernel again.
    Kernels do not write to their inputs.
    """

    def __init__(self, array: np.ndarray) -> None:
        address, _ = array.__array_interface__["data"]
        self.__array_interface__ = {**array.__array_interface__, "data": (address, False)}
        self.owner = array  # keeps the memory alive


def kernel_array(array: ArrayLike, dtype: DTypeLike) -> np.ndarray:
    """Return an array in the form that kernels take, without a copy if it has that form already.

    Parameters
    ----------
    array : array-like
    dtype : dtype-like
        None keeps the dtype of the array.

    Returns
    -------
    ndarray
        Native, aligned, C-contiguous and writeable. Numbers that are too large for the dtype are
        infinite.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.validation import kernel_array
    >>> kernel_array(np.eye(4)[::2], np.float32).flags.c_contiguous
    True
    """
    with np.errstate(over="ignore"):  # the caller refuses infinity
        array = np.require(array, dtype=dtype, requirements=["C", "A"])
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if not array.flags.writeable:
        array = np.asarray(_WritableAlias(array)) if array.size else array.copy()
    return array


def check_finite(name: str, array: np.ndarray) -> None:
    """Raise ValueError with the first index at which an array holds NaN or infinity, if any."""
    for start in range(0, len(array), _ROWS_AT_ONCE):  # the mask of a whole array may be large
        finite = np.isfinite(array[start : start + _ROWS_AT_ONCE])
        if not finite.all():
            place = np.argwhere(~finite)[0]
            value = array[start : start + _ROWS_AT_ONCE][tuple(place)]
            where = ", ".join(str(int(k)) for k in (place[0] + start, *place[1:]))
            raise ValueError(f"{name} must be finite, got {value} at {name}[{where}]")


def check_inputs(
    x: ArrayLike, dtype: DTypeLike, n_inputs: int, name: str = "X", finite: bool = True
) -> np.ndarray:
    """Return the input of a net as a kernel array.

    Parameters
    ----------
    x : array-like of shape (N, I)
    dtype : dtype-like
        The dtype of the net.
    n_inputs : int
        The number of columns, I.
    name : str, default="X"
        The name of the argument in errors.
    finite : bool, default=True
        Whether to refuse NaN and infinity.

    Returns
    -------
    ndarray of shape (N, I)

    Raises
    ------
    ValueError
        If `x` is not a numeric table with `n_inputs` columns, or not finite.

    Examples
    --------
    >>> from fastnn.validation import check_inputs
    >>> check_inputs([[1, 2]], "float32", 2)
    array([[1., 2.]], dtype=float32)
    """
    array = as_array(name, x)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must be numeric, got {_what_is_not_numeric(x, array)}")
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
    """Return a copy of a numeric matrix as a kernel array, float32 for float32 and else float64.

    Parameters
    ----------
    name : str
        The name of the argument in errors.
    x : array-like of shape (N, I)

    Returns
    -------
    ndarray of shape (N, I)

    Raises
    ------
    ValueError
        If `x` is not a numeric matrix.

    Examples
    --------
    >>> from fastnn.validation import float_matrix
    >>> float_matrix("x", [[1, 2]])
    array([[1., 2.]])
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
    """Return the gradient of the output of a layer, in the dtype of the array that `forward` kept.

    Parameters
    ----------
    dout : array-like of shape (B, I)
    kept : ndarray of shape (B, I) or None
        The array that the forward pass of the layer has kept; None before the first one.

    Returns
    -------
    ndarray of shape (B, I)
        A copy.

    Raises
    ------
    RuntimeError
        If there has been no forward pass.
    ValueError
        If `dout` has another shape than `kept`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.validation import check_gradient
    >>> check_gradient([[1, 2]], np.zeros((1, 2), np.float32))
    array([[1., 2.]], dtype=float32)
    """
    if kept is None:
        raise RuntimeError("backward needs a forward pass before it")
    with np.errstate(over="ignore"):  # infinity is passed on, to be seen in the gradients
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
    """Return targets as kernels take them: integer labels or dense targets.

    Parameters
    ----------
    y : array-like of shape (N,) or (N, O)
    loss : fastnn.losses.Loss
    n_rows, n_outputs : int
        N and O.
    dtype : dtype-like
        The dtype of the net.
    name : str, default="y"
        The name of the argument in errors.

    Returns
    -------
    labels : ndarray of int64 of shape (N,)
        Integer classes, for a softmax cross-entropy with one-dimensional `y`; else empty.
    targets : ndarray of shape (N, O)
        Dense targets; empty where `labels` is not.

    Raises
    ------
    ValueError
        If shape or values of `y` do not fit the loss.

    Examples
    --------
    >>> from fastnn import losses
    >>> from fastnn.validation import check_targets
    >>> check_targets([1, 0], losses.get("softmax_cross_entropy"), 2, 3, "float32")[0]
    array([1, 0])
    """
    loss.check_outputs(n_outputs)
    y = as_array(name, y)
    if y.dtype.kind not in "biuf":
        raise ValueError(f"{name} must be numeric, got dtype {y.dtype}: encode labels as 0..C-1")
    if y.ndim not in (1, 2) or len(y) != n_rows:
        raise ValueError(f"{name} must have {n_rows} rows as X has, got shape {y.shape}")
    if loss.name == "softmax_cross_entropy" and n_outputs == 1:
        _check_single_class(y)
    no_labels, no_targets = np.empty(0, np.int64), np.empty((0, n_outputs), dtype)
    if loss.name == "softmax_cross_entropy" and y.ndim == 1:
        return kernel_array(_class_labels(y, n_outputs, name), np.int64), no_targets
    targets = y[:, None] if y.ndim == 1 else y
    if loss.shares_target and targets.shape[1] == 1:
        targets = np.broadcast_to(targets, (n_rows, n_outputs))
    if targets.shape[1] != n_outputs:
        hint = ""
        if loss.name == "softmax_cross_entropy" and targets.shape[1] == 1:
            hint = f"; classes must have the shape ({n_rows},): use {name}.ravel()"
        elif y.ndim == 1 and y.dtype.kind in "biu" and loss.name in _OFTEN_FOR_CLASSES:
            hint = "; for classes use loss='softmax_cross_entropy'"
        raise ValueError(f"{name} must have {n_outputs} columns, got {targets.shape[1]}{hint}")
    targets = kernel_array(targets, dtype)
    check_finite(name, targets)
    least, most = loss.target_range
    if len(targets) and not least <= targets.min() <= targets.max() <= most:
        span = f"lie in [{least:g}, {most:g}]" if most < np.inf else f"be >= {least:g}"
        hint = ""
        if loss.name == "binary_cross_entropy" and y.dtype.kind in "biu":
            hint = "; for more than two classes use loss='softmax_cross_entropy'"
        raise ValueError(
            f"{name} must {span} for {loss.name}, got values from {targets.min():g} to "
            f"{targets.max():g}{hint}"
        )
    return no_labels, targets


def check_weights(
    weights: ArrayLike, n_rows: int, name: str = "sample_weight", least: float = -np.inf
) -> np.ndarray:
    """Return sample weights as a float64 kernel array.

    They may be negative, as in scikit-learn: those of simulated particle collisions are.

    Parameters
    ----------
    weights : array-like of shape (N,)
    n_rows : int
        N.
    name : str, default="sample_weight"
        The name of the argument in errors.
    least : float, default=-inf
        The smallest valid weight.

    Returns
    -------
    ndarray of float64 of shape (N,)

    Raises
    ------
    ValueError
        If `weights` are not `n_rows` finite numbers >= `least`.

    Examples
    --------
    >>> from fastnn.validation import check_weights
    >>> check_weights([1, 2], 2)
    array([1., 2.])
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


def _check_single_class(y: np.ndarray) -> None:
    """Raise ValueError if targets hold more than the class of a single output.

    The softmax of one output is 1 whatever the input, so nothing could be learned.
    """
    if y.any() if y.ndim == 1 else not np.allclose(y, 1):
        raise ValueError(
            "loss 'softmax_cross_entropy' needs an output for each class, and the net has 1: for "
            "two classes, 0 and 1, use loss='binary_cross_entropy', for numbers loss='mse'"
        )


def _class_labels(y: np.ndarray, n_classes: int, name: str) -> np.ndarray:
    """Return classes from 0 to ``n_classes - 1`` as int64, or raise ValueError."""
    if y.dtype.kind == "f":
        check_finite(name, y)
        if (y != np.floor(y)).any():
            raise ValueError(
                f"{name} must hold integer classes, got {y[y != np.floor(y)][0]:g}; for numbers "
                "use loss='mse'"
            )
    if len(y) and not 0 <= y.min() <= y.max() < n_classes:
        wrong = y.max() if y.max() >= n_classes else y.min()
        raise ValueError(
            f"{name} must hold classes from 0 to {n_classes - 1} for {n_classes} outputs, "
            f"got {wrong:g}"
        )
    return y.astype(np.int64)


def check_integer(name: str, value: object, least: int, most: int | None = None) -> int:
    """Return an integer argument as an int, or raise ValueError if it is not in [least, most].

    Examples
    --------
    >>> from fastnn.validation import check_integer
    >>> check_integer("epochs", 3, 1)
    3
    >>> check_integer("epochs", 0, 1)
    Traceback (most recent call last):
    ValueError: epochs must be an integer >= 1, got 0
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or int(value) < least:
        raise ValueError(f"{name} must be an integer >= {least}, got {shown(value)}")
    if most is not None and int(value) > most:
        raise ValueError(f"{name} must be an integer <= {most}, got {shown(value)}")
    return int(value)


def check_number(name: str, value: object, least: float = 0.0) -> float:
    """Return a finite number argument as a float, or raise ValueError if it is below `least`.

    Examples
    --------
    >>> from fastnn.validation import check_number
    >>> check_number("alpha", 1)
    1.0
    """
    number = as_number(value)
    if not least <= number < np.inf:
        raise ValueError(f"{name} must be a finite number >= {least:g}, got {shown(value)}")
    if number > LARGEST:
        raise ValueError(f"{name} must be a number <= {LARGEST:.8g}, got {shown(value)}")
    return number


def check_positive(name: str, value: object, least: float = 0.0) -> float:
    """Return a finite number > 0 and >= `least` as a float, or raise ValueError.

    Examples
    --------
    >>> from fastnn.validation import check_positive
    >>> check_positive("learning_rate", 1)
    1.0
    """
    number = as_number(value)
    if not 0 < number < np.inf:
        raise ValueError(f"{name} must be a finite number > 0, got {shown(value)}")
    if not least <= number <= LARGEST:
        raise ValueError(
            f"{name} must be a number from {least:.8g} to {LARGEST:.8g}, got {shown(value)}"
        )
    return number


def check_flag(name: str, value: object) -> bool:
    """Return a boolean argument as a bool, or raise ValueError; 0, 1 and None are accepted.

    Examples
    --------
    >>> from fastnn.validation import check_flag
    >>> check_flag("shuffle", 1), check_flag("shuffle", None)
    (True, False)
    """
    if value is None or isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, numbers.Integral) and value in (0, 1):
        return bool(value)
    raise ValueError(f"{name} must be True or False, got {shown(value)}")


def check_elements(name: str, n: int) -> None:
    """Raise ValueError if an array of `n` elements is larger than any memory."""
    if n > MOST_ELEMENTS:
        raise ValueError(f"{name} must be at most {MOST_ELEMENTS}, got {shown(n)}")


def as_number(value: object) -> float:
    """Return a real number as a float, or NaN if it is not a real number or too large.

    Examples
    --------
    >>> from fastnn.validation import as_number
    >>> as_number(3), as_number("3")
    (3.0, nan)
    """
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
        return np.nan
    try:
        with np.errstate(over="ignore"):
            return float(value)
    except OverflowError:
        return np.nan


def check_seed(seed: object) -> np.random.Generator:
    """Return the random generator of a seed, or raise ValueError; a generator is returned as it is.

    Examples
    --------
    >>> from fastnn.validation import check_seed
    >>> int(check_seed(0).integers(100))
    85
    """
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
    """Return values as an array, or raise ValueError if NumPy cannot make one of them.

    Examples
    --------
    >>> from fastnn.validation import as_array
    >>> as_array("x", [[1, 2], [3]])
    Traceback (most recent call last):
    ValueError: x must be an array, got rows of different lengths
    """
    try:
        array = np.asarray(values)
        return _as_numbers(values, array) if array.dtype == object else array
    except ValueError:
        raise ValueError(f"{name} must be an array, got rows of different lengths") from None
    except (TypeError, RuntimeError) as error:  # such as a tensor of PyTorch with a gradient
        what = f"{shown(type(values))}: {reason(error)}"
        raise ValueError(f"{name} must be an array, got {what}") from error


def _column_dtypes(values: Any) -> list[tuple[Any, Any]]:
    """Return (name, dtype) of each column of a data frame or series; of anything else nothing."""
    if hasattr(values, "columns") and np.ndim(getattr(values, "dtypes", 0)) == 1:
        return list(zip(values.columns, values.dtypes, strict=True))
    return [(values.name, values.dtype)] if hasattr(values, "to_numpy") else []


def _kind(dtype: Any) -> str:
    """Return the kind of a dtype of NumPy, pandas or polars; that of other objects is "O"."""
    if callable(getattr(dtype, "is_numeric", None)):  # of polars
        return "f" if dtype.is_numeric() else "b" if str(dtype) == "Boolean" else "O"
    return str(getattr(dtype, "kind", "O"))


def _as_numbers(values: Any, array: np.ndarray) -> np.ndarray:
    """Return the array that NumPy made of a data frame; float64 if all its columns are numeric.

    NumPy makes objects of columns that have no dtype in common (of `pandas.get_dummies`, truth
    values beside numbers), and of those with dtypes that it does not have (of `convert_dtypes`). A
    missing value becomes NaN.
    """
    columns = _column_dtypes(values)
    if columns and all(getattr(dtype, "kind", "O") in "biuf" for _, dtype in columns):  # of pandas
        return np.asarray(values.to_numpy(dtype=np.float64, na_value=np.nan))
    return array


def _what_is_not_numeric(values: Any, array: np.ndarray) -> str:
    """Return what to say of values that are not numeric: the column of a data frame, or a dtype."""
    for column, dtype in _column_dtypes(values):
        if _kind(dtype) not in "biuf" and array.ndim == 2:
            return (
                f"dtype {dtype} in column {shown(column)}; encode it as numbers, for example with "
                "pandas.get_dummies"
            )
    return f"dtype {array.dtype}"


def check_dtype(dtype: object, name: str = "dtype") -> np.dtype:
    """Return float32 or float64 as a `numpy.dtype`, or raise ValueError for any other dtype.

    Examples
    --------
    >>> from fastnn.validation import check_dtype
    >>> check_dtype("float32")
    dtype('float32')
    """
    for allowed in (np.dtype(np.float32), np.dtype(np.float64)):
        try:
            known = isinstance(dtype, (str, type, np.dtype, np.generic)) and np.dtype(dtype)
            if known == allowed:
                return allowed
        except (TypeError, ValueError):
            break
    raise ValueError(f"{name} must be 'float32' or 'float64', got {shown(dtype)}")
