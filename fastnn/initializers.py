"""Initializers: functions that draw the first weights of a layer.

Every initializer is a function ``(rng, n_inputs, n_outputs, dtype)`` that returns a new array of
shape ``(n_inputs, n_outputs)``. Most choose the variance by the sizes of the layer, so that the
variance of the activations is about the same in all layers. With weights that are too small, the
activations and their gradients vanish from layer to layer; with too large ones they explode.

A uniform draw on ``[-limit, limit)`` has variance ``limit**2 / 3``; each ``*_uniform`` function
has the variance of its ``*_normal`` twin.

Glorot's and He's functions have names after the authors' first names as well: ``xavier_uniform``
is `glorot_uniform`, ``kaiming_normal`` is `he_normal`.

Numbers are drawn in float64 and rounded to `dtype` afterwards, so a seed gives the same weights in
both precisions.

References
----------
.. [1] Y. LeCun, L. Bottou, G. Orr, K.-R. Müller, "Efficient BackProp", in *Neural Networks:
   Tricks of the Trade*, Springer, 1998, section 4.6.
.. [2] X. Glorot, Y. Bengio, "Understanding the difficulty of training deep feedforward neural
   networks", AISTATS 2010, equations 12 and 16.
.. [3] K. He, X. Zhang, S. Ren, J. Sun, "Delving Deep into Rectifiers", ICCV 2015, equation 10.
.. [4] A. M. Saxe, J. L. McClelland, S. Ganguli, "Exact solutions to the nonlinear dynamics of
   learning in deep linear neural networks", ICLR 2014.
.. [5] G. Klambauer, T. Unterthiner, A. Mayr, S. Hochreiter, "Self-Normalizing Neural Networks",
   NeurIPS 2017.

Examples
--------
>>> import numpy as np
>>> from fastnn import initializers
>>> initializers.he_normal(np.random.default_rng(0), 784, 128).shape
(784, 128)
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from fastnn.errors import shown
from fastnn.kernels.activations import ACTIVATIONS
from fastnn.validation import (
    MOST_COLUMNS,
    as_number,
    check_dtype,
    check_elements,
    check_integer,
    check_number,
)

__all__ = [
    "constant",
    "default_for",
    "get",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "kaiming_normal",
    "kaiming_uniform",
    "lecun_normal",
    "lecun_uniform",
    "orthogonal",
    "uniform",
    "xavier_normal",
    "xavier_uniform",
    "zeros",
]


def _check_shape(n_inputs: int, n_outputs: int, dtype: DTypeLike) -> None:
    """Raise ValueError for a dtype or sizes that no layer can have."""
    check_dtype(dtype)
    for name, value in (("n_inputs", n_inputs), ("n_outputs", n_outputs)):
        check_integer(name, value, 1, MOST_COLUMNS)
    check_elements("n_inputs * n_outputs", n_inputs * n_outputs)


def _check(rng: object, n_inputs: int, n_outputs: int, dtype: DTypeLike) -> None:
    """Raise ValueError for arguments that no random weights can be drawn with."""
    if not isinstance(rng, np.random.Generator):
        raise ValueError(f"rng must be a numpy.random.Generator, got {shown(rng)}")
    _check_shape(n_inputs, n_outputs, dtype)


def _normal(
    rng: np.random.Generator, n_inputs: int, n_outputs: int, dtype: DTypeLike, variance: float
) -> np.ndarray:
    """Return weights from the normal distribution of mean 0 and the given variance."""
    return (np.sqrt(variance) * rng.standard_normal((n_inputs, n_outputs))).astype(dtype)


def uniform(
    rng: np.random.Generator,
    n_inputs: int,
    n_outputs: int,
    dtype: DTypeLike = np.float32,
    limit: float = 0.05,
) -> np.ndarray:
    """Return weights drawn uniformly from ``[-limit, limit)``.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the random numbers.
    n_inputs, n_outputs : int
        Sizes I and O of the layer, at least 1.
    dtype : dtype-like, default=float32
        Type of the result.
    limit : float, default=0.05
        Half the width of the range, finite and >= 0.

    Returns
    -------
    ndarray of shape (I, O)

    Raises
    ------
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.initializers import uniform
    >>> w = uniform(np.random.default_rng(0), 3, 2, limit=0.1)
    >>> w.shape, bool(abs(w).max() <= 0.1)
    ((3, 2), True)
    """
    _check(rng, n_inputs, n_outputs, dtype)
    limit = check_number("limit", limit)
    return rng.uniform(-limit, limit, (n_inputs, n_outputs)).astype(dtype)


def glorot_uniform(
    rng: np.random.Generator, n_inputs: int, n_outputs: int, dtype: DTypeLike = np.float32
) -> np.ndarray:
    """Return weights drawn uniformly, with ``limit = sqrt(6 / (n_inputs + n_outputs))``.

    A compromise between the variance that keeps the size of the activations in the forward pass,
    ``1 / n_inputs``, and the one that keeps the size of the gradients in the backward pass,
    ``1 / n_outputs``. For layers before Tanh, Sigmoid and Softmax.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the random numbers.
    n_inputs, n_outputs : int
        Sizes I and O of the layer, at least 1.
    dtype : dtype-like, default=float32
        Type of the result.

    Returns
    -------
    ndarray of shape (I, O)

    Raises
    ------
    ValueError
        If an argument is out of range.

    Notes
    -----
    Glorot and Bengio (2010), equation 16, also known as Xavier initialization.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.initializers import glorot_uniform
    >>> w = glorot_uniform(np.random.default_rng(0), 4, 2)
    >>> w.shape, bool(abs(w).max() <= 1.0)  # sqrt(6 / 6)
    ((4, 2), True)
    """
    _check(rng, n_inputs, n_outputs, dtype)
    return uniform(rng, n_inputs, n_outputs, dtype, np.sqrt(6.0 / (n_inputs + n_outputs)))


def glorot_normal(
    rng: np.random.Generator, n_inputs: int, n_outputs: int, dtype: DTypeLike = np.float32
) -> np.ndarray:
    """Return weights of the normal distribution with variance ``2 / (n_inputs + n_outputs)``.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the random numbers.
    n_inputs, n_outputs : int
        Sizes I and O of the layer, at least 1.
    dtype : dtype-like, default=float32
        Type of the result.

    Returns
    -------
    ndarray of shape (I, O)

    Raises
    ------
    ValueError
        If an argument is out of range.

    Notes
    -----
    Glorot and Bengio (2010), equation 12.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.initializers import glorot_normal
    >>> w = glorot_normal(np.random.default_rng(0), 100, 100)
    >>> round(float(w.std()), 1)  # sqrt(2 / 200)
    0.1
    """
    _check(rng, n_inputs, n_outputs, dtype)
    return _normal(rng, n_inputs, n_outputs, dtype, 2.0 / (n_inputs + n_outputs))


def he_uniform(
    rng: np.random.Generator, n_inputs: int, n_outputs: int, dtype: DTypeLike = np.float32
) -> np.ndarray:
    """Return weights drawn uniformly, with ``limit = sqrt(6 / n_inputs)``.

    Twice the variance of `lecun_uniform`, because a ReLU sets about half of its inputs to zero.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the random numbers.
    n_inputs, n_outputs : int
        Sizes I and O of the layer, at least 1.
    dtype : dtype-like, default=float32
        Type of the result.

    Returns
    -------
    ndarray of shape (I, O)

    Raises
    ------
    ValueError
        If an argument is out of range.

    Notes
    -----
    The uniform distribution with the variance of He et al. (2015), equation 10.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.initializers import he_uniform
    >>> w = he_uniform(np.random.default_rng(0), 6, 2)
    >>> w.shape, bool(abs(w).max() <= 1.0)  # sqrt(6 / 6)
    ((6, 2), True)
    """
    _check(rng, n_inputs, n_outputs, dtype)
    return uniform(rng, n_inputs, n_outputs, dtype, np.sqrt(6.0 / n_inputs))


def he_normal(
    rng: np.random.Generator, n_inputs: int, n_outputs: int, dtype: DTypeLike = np.float32
) -> np.ndarray:
    """Return weights of the normal distribution with variance ``2 / n_inputs``.

    For layers before ReLU, as `he_uniform`.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the random numbers.
    n_inputs, n_outputs : int
        Sizes I and O of the layer, at least 1.
    dtype : dtype-like, default=float32
        Type of the result.

    Returns
    -------
    ndarray of shape (I, O)

    Raises
    ------
    ValueError
        If an argument is out of range.

    Notes
    -----
    He et al. (2015), equation 10.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.initializers import he_normal
    >>> w = he_normal(np.random.default_rng(0), 200, 100)
    >>> round(float(w.std()), 1)  # sqrt(2 / 200)
    0.1
    """
    _check(rng, n_inputs, n_outputs, dtype)
    return _normal(rng, n_inputs, n_outputs, dtype, 2.0 / n_inputs)


def lecun_uniform(
    rng: np.random.Generator, n_inputs: int, n_outputs: int, dtype: DTypeLike = np.float32
) -> np.ndarray:
    """Return weights drawn uniformly, with ``limit = sqrt(3 / n_inputs)``.

    With the variance ``1 / n_inputs``, as `lecun_normal`.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the random numbers.
    n_inputs, n_outputs : int
        Sizes I and O of the layer, at least 1.
    dtype : dtype-like, default=float32
        Type of the result.

    Returns
    -------
    ndarray of shape (I, O)

    Raises
    ------
    ValueError
        If an argument is out of range.

    Notes
    -----
    The uniform distribution with the variance of LeCun et al. (1998), section 4.6.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.initializers import lecun_uniform
    >>> w = lecun_uniform(np.random.default_rng(0), 3, 2)
    >>> w.shape, bool(abs(w).max() <= 1.0)  # sqrt(3 / 3)
    ((3, 2), True)
    """
    _check(rng, n_inputs, n_outputs, dtype)
    return uniform(rng, n_inputs, n_outputs, dtype, np.sqrt(3.0 / n_inputs))


def lecun_normal(
    rng: np.random.Generator, n_inputs: int, n_outputs: int, dtype: DTypeLike = np.float32
) -> np.ndarray:
    """Return weights of the normal distribution with variance ``1 / n_inputs``.

    With inputs of mean 0 and variance 1, the outputs have variance 1 too. For layers before SELU.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the random numbers.
    n_inputs, n_outputs : int
        Sizes I and O of the layer, at least 1.
    dtype : dtype-like, default=float32
        Type of the result.

    Returns
    -------
    ndarray of shape (I, O)

    Raises
    ------
    ValueError
        If an argument is out of range.

    Notes
    -----
    LeCun et al. (1998), section 4.6.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.initializers import lecun_normal
    >>> w = lecun_normal(np.random.default_rng(0), 100, 100)
    >>> round(float(w.std()), 1)  # sqrt(1 / 100)
    0.1
    """
    _check(rng, n_inputs, n_outputs, dtype)
    return _normal(rng, n_inputs, n_outputs, dtype, 1.0 / n_inputs)


def orthogonal(
    rng: np.random.Generator,
    n_inputs: int,
    n_outputs: int,
    dtype: DTypeLike = np.float32,
    gain: float = 1.0,
) -> np.ndarray:
    """Return a random matrix whose columns, or rows if there are fewer, are orthogonal.

    Each has the length `gain`. A square w with gain 1 is a rotation or a reflection, so however
    many such layers follow one another, activations in the forward pass and gradients in the
    backward pass keep their length exactly, not just on average, as long as there is no activation
    between them. Before ReLU, which sets about half of its inputs to zero, use the gain
    ``sqrt(2)``.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the random numbers.
    n_inputs, n_outputs : int
        Sizes I and O of the layer, at least 1.
    dtype : dtype-like, default=float32
        Type of the result.
    gain : float, default=1.0
        Length of the columns or rows, finite and >= 0.

    Returns
    -------
    ndarray of shape (I, O)
        ``w.T @ w`` is ``gain**2`` times the identity if I >= O, ``w @ w.T`` if
        I <= O.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Notes
    -----
    Saxe et al. (2014). Q of the QR decomposition of a matrix of normally distributed numbers, with
    the signs that make the diagonal of R positive: otherwise the distribution of Q over all
    rotations and reflections would not be uniform (F. Mezzadri, "How to generate random matrices
    from the classical compact groups", Notices of the AMS 54, 2007).

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.initializers import orthogonal
    >>> w = orthogonal(np.random.default_rng(0), 3, 2)
    >>> np.allclose(w.T @ w, np.eye(2), atol=1e-6)
    True
    """
    _check(rng, n_inputs, n_outputs, dtype)
    gain = check_number("gain", gain)
    tall = rng.standard_normal((max(n_inputs, n_outputs), min(n_inputs, n_outputs)))
    q, r = np.linalg.qr(tall)
    q *= gain * np.where(np.diag(r) < 0, -1.0, 1.0)
    return (q if n_inputs >= n_outputs else q.T).astype(dtype, order="C")


def constant(
    rng: np.random.Generator | None,
    n_inputs: int,
    n_outputs: int,
    dtype: DTypeLike = np.float32,
    value: float = 0.0,
) -> np.ndarray:
    """Return weights that all have one value.

    In a hidden layer, all neurons would have the same gradient and so the same weights for ever.
    This is for the last layer, and for examples that are computed by hand.

    Parameters
    ----------
    rng : numpy.random.Generator or None
        Not used: all initializers take the same arguments.
    n_inputs, n_outputs : int
        Sizes I and O of the layer, at least 1.
    dtype : dtype-like, default=float32
        Type of the result.
    value : float, default=0.0
        The value, finite in `dtype`.

    Returns
    -------
    ndarray of shape (I, O)

    Raises
    ------
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> from fastnn.initializers import constant
    >>> constant(None, 1, 2, "float64", 0.5)
    array([[0.5, 0.5]])
    """
    _check_shape(n_inputs, n_outputs, dtype)
    number = as_number(value)
    if not abs(number) <= float(np.finfo(dtype).max):
        raise ValueError(
            f"value must be a number that {check_dtype(dtype)} holds, got {shown(value)}"
        )
    return np.full((n_inputs, n_outputs), number, dtype)


def zeros(
    rng: np.random.Generator | None,
    n_inputs: int,
    n_outputs: int,
    dtype: DTypeLike = np.float32,
) -> np.ndarray:
    """Return weights that are zero. For the last layer only, as `constant`.

    Parameters
    ----------
    rng : numpy.random.Generator or None
        Not used: all initializers take the same arguments.
    n_inputs, n_outputs : int
        Sizes I and O of the layer, at least 1.
    dtype : dtype-like, default=float32
        Type of the result.

    Returns
    -------
    ndarray of shape (I, O)

    Raises
    ------
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> from fastnn.initializers import zeros
    >>> zeros(None, 1, 2, "float64")
    array([[0., 0.]])
    """
    return constant(rng, n_inputs, n_outputs, dtype)


# Their names in other libraries.
xavier_uniform, xavier_normal = glorot_uniform, glorot_normal
kaiming_uniform, kaiming_normal = he_uniform, he_normal

_BY_NAME = {
    "glorot_uniform": glorot_uniform,
    "glorot_normal": glorot_normal,
    "xavier_uniform": xavier_uniform,
    "xavier_normal": xavier_normal,
    "he_uniform": he_uniform,
    "he_normal": he_normal,
    "kaiming_uniform": kaiming_uniform,
    "kaiming_normal": kaiming_normal,
    "lecun_uniform": lecun_uniform,
    "lecun_normal": lecun_normal,
    "orthogonal": orthogonal,
    "uniform": uniform,
    "constant": constant,
    "zeros": zeros,
}


def get(name: str | Callable[..., Any], argument: str = "initializer") -> Callable[..., np.ndarray]:
    """Return an initializer by its name; a function is returned as it is.

    Parameters
    ----------
    name : str or callable
        The name of a function of this module, or a function with the same four arguments.
    argument : str, default="initializer"
        Name of the argument in errors.

    Returns
    -------
    callable

    Raises
    ------
    ValueError
        If `name` is neither a function nor the name of an initializer.

    Examples
    --------
    >>> from fastnn import initializers
    >>> initializers.get("he_normal") is initializers.he_normal
    True
    """
    if callable(name):
        return name
    if not isinstance(name, str) or name not in _BY_NAME:
        raise ValueError(f"{argument} must be one of {', '.join(_BY_NAME)}; got {shown(name)}")
    return _BY_NAME[name]


def default_for(activation: str | None) -> str:
    """Return the name of the initializer for a layer before an activation.

    Parameters
    ----------
    activation : str or None
        Name of the activation, such as "relu"; None if there is none.

    Returns
    -------
    str
        "he_uniform" for ReLU and its relatives, which set about half of their inputs to zero;
        "lecun_normal" for SELU, which keeps mean 0 and variance 1 only if its inputs have them [5];
        "glorot_uniform" for all others and for None.

    Examples
    --------
    >>> from fastnn.initializers import default_for
    >>> default_for("relu"), default_for("tanh"), default_for(None)
    ('he_uniform', 'glorot_uniform', 'glorot_uniform')
    """
    row = ACTIVATIONS.get(activation) if isinstance(activation, str) else None
    return "glorot_uniform" if row is None else row.first_weights
