"""Starting values for the weights of a layer.

Every initializer is a function ``(rng, n_inputs, n_outputs, dtype)`` that returns a new array of
shape ``(n_inputs, n_outputs)``. The scaled ones choose the variance so that signals keep their
size from layer to layer: with too small weights they fade, with too large ones they explode, and
either way the gradient carries nothing.

A uniform draw on ``[-limit, limit)`` has variance ``limit**2 / 3``; each ``*_uniform`` function
has the variance of its ``*_normal`` twin.

Glorot's and He's functions go by the authors' first names as well: ``xavier_uniform`` is
`glorot_uniform`, ``kaiming_normal`` is `he_normal`.

Numbers are drawn in float64 and rounded to `dtype` afterwards, so a seed gives the same network
in both precisions.

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
"""

from collections.abc import Callable

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
    """Refuse a layer without inputs or outputs, for which the formulas divide by zero."""
    check_dtype(dtype)
    for name, value in (("n_inputs", n_inputs), ("n_outputs", n_outputs)):
        check_integer(name, value, 1, MOST_COLUMNS)
    check_elements("n_inputs * n_outputs", n_inputs * n_outputs)


def _check(rng, n_inputs: int, n_outputs: int, dtype: DTypeLike) -> None:
    """Refuse arguments that no random weights can be drawn for."""
    if not isinstance(rng, np.random.Generator):
        raise ValueError(f"rng must be a numpy.random.Generator, got {shown(rng)}")
    _check_shape(n_inputs, n_outputs, dtype)


def _normal(rng, n_inputs, n_outputs, dtype, variance):
    """Draw from the normal distribution of mean 0 and the given variance."""
    return (np.sqrt(variance) * rng.standard_normal((n_inputs, n_outputs))).astype(dtype)


def uniform(
    rng: np.random.Generator,
    n_inputs: int,
    n_outputs: int,
    dtype: DTypeLike = np.float32,
    limit: float = 0.05,
) -> np.ndarray:
    """Draw uniformly from ``[-limit, limit)``.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the random numbers; its state advances.
    n_inputs, n_outputs : int
        Sizes I and O of the layer, each >= 1.
    dtype : data-type, default=float32
        Type of the result.
    limit : float, default=0.05
        Half the width of the range, finite and >= 0.

    Returns
    -------
    ndarray of shape (I, O)
        The weights.

    Raises
    ------
    ValueError
        If a size is below 1, or `limit` is negative or not finite.

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
    """Draw uniformly with ``limit = sqrt(6 / (n_inputs + n_outputs))``.

    A compromise between keeping the variance of the signals on the way forward (``1 / n_inputs``)
    and of the gradients on the way back (``1 / n_outputs``). For Tanh, Sigmoid and Softmax layers.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the random numbers; its state advances.
    n_inputs, n_outputs : int
        Sizes I and O of the layer, each >= 1.
    dtype : data-type, default=float32
        Type of the result.

    Returns
    -------
    ndarray of shape (I, O)
        The weights.

    Raises
    ------
    ValueError
        If a size is below 1.

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
    """Draw normally with variance ``2 / (n_inputs + n_outputs)``.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the random numbers; its state advances.
    n_inputs, n_outputs : int
        Sizes I and O of the layer, each >= 1.
    dtype : data-type, default=float32
        Type of the result.

    Returns
    -------
    ndarray of shape (I, O)
        The weights.

    Raises
    ------
    ValueError
        If a size is below 1.

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
    """Draw uniformly with ``limit = sqrt(6 / n_inputs)``.

    Twice the variance of :func:`lecun_uniform`, because a ReLU silences half of its inputs.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the random numbers; its state advances.
    n_inputs, n_outputs : int
        Sizes I and O of the layer, each >= 1.
    dtype : data-type, default=float32
        Type of the result.

    Returns
    -------
    ndarray of shape (I, O)
        The weights.

    Raises
    ------
    ValueError
        If a size is below 1.

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
    """Draw normally with variance ``2 / n_inputs``, for layers followed by ReLU.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the random numbers; its state advances.
    n_inputs, n_outputs : int
        Sizes I and O of the layer, each >= 1.
    dtype : data-type, default=float32
        Type of the result.

    Returns
    -------
    ndarray of shape (I, O)
        The weights.

    Raises
    ------
    ValueError
        If a size is below 1.

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
    """Draw uniformly with ``limit = sqrt(3 / n_inputs)``.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the random numbers; its state advances.
    n_inputs, n_outputs : int
        Sizes I and O of the layer, each >= 1.
    dtype : data-type, default=float32
        Type of the result.

    Returns
    -------
    ndarray of shape (I, O)
        The weights.

    Raises
    ------
    ValueError
        If a size is below 1.

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
    """Draw normally with variance ``1 / n_inputs``: each output starts with its input's variance.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the random numbers; its state advances.
    n_inputs, n_outputs : int
        Sizes I and O of the layer, each >= 1.
    dtype : data-type, default=float32
        Type of the result.

    Returns
    -------
    ndarray of shape (I, O)
        The weights.

    Raises
    ------
    ValueError
        If a size is below 1.

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
    """Draw a random rotation: columns, or rows where there are fewer, of length `gain`.

    All columns (rows) are perpendicular to each other. A square w turns its input and changes no
    length, so however many such layers follow one another, signals on the way forward and
    gradients on the way back keep their size exactly, not just on average. That holds as long as
    there is no activation between; before a ReLU, which silences half, take the gain ``sqrt(2)``.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the random numbers; its state advances.
    n_inputs, n_outputs : int
        Sizes I and O of the layer, each >= 1.
    dtype : data-type, default=float32
        Type of the result.
    gain : float, default=1.0
        Factor of the result, finite and >= 0.

    Returns
    -------
    ndarray of shape (I, O)
        The weights: ``w.T @ w`` is ``gain**2`` times the identity if I >= O, ``w @ w.T`` if
        I <= O.

    Raises
    ------
    ValueError
        If a size is below 1, or `gain` is negative or not finite.

    Notes
    -----
    Saxe et al. (2014). Q of the QR decomposition of a matrix of normally distributed numbers, with
    the signs chosen so that the diagonal of R is positive: without that, Q would not be uniform
    over all rotations and reflections (F. Mezzadri, "How to generate random matrices from the
    classical compact groups", Notices of the AMS 54, 2007).

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
    """Fill with one value.

    With equal weights all the units of a hidden layer stay equal for ever, so this is for the
    last layer and for examples worked by hand.

    Parameters
    ----------
    rng : numpy.random.Generator or None
        Not used; there so that all initializers are called alike.
    n_inputs, n_outputs : int
        Sizes I and O of the layer, each >= 1.
    dtype : data-type, default=float32
        Type of the result.
    value : float, default=0.0
        The value.

    Returns
    -------
    ndarray of shape (I, O)
        The weights.

    Raises
    ------
    ValueError
        If a size is below 1.

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
    """Fill with zeros; :func:`constant` says what that is good for.

    Parameters
    ----------
    rng : numpy.random.Generator or None
        Not used; there so that all initializers are called alike.
    n_inputs, n_outputs : int
        Sizes I and O of the layer, each >= 1.
    dtype : data-type, default=float32
        Type of the result.

    Returns
    -------
    ndarray of shape (I, O)
        The weights.

    Raises
    ------
    ValueError
        If a size is below 1.

    Examples
    --------
    >>> from fastnn.initializers import zeros
    >>> zeros(None, 1, 2, "float64")
    array([[0., 0.]])
    """
    return constant(rng, n_inputs, n_outputs, dtype)


# Names by which other libraries know them.
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


def get(name: str | Callable, argument: str = "initializer") -> Callable[..., np.ndarray]:
    """Find an initializer by its name; a function is handed back as it is.

    Parameters
    ----------
    name : str or callable
        Name of a function of this module, or a function with the same four arguments.
    argument : str, default="initializer"
        What to call it in errors.

    Returns
    -------
    callable
        The initializer.

    Raises
    ------
    ValueError
        If there is no initializer of that name.

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
    """Name the initializer for a layer whose outputs go through an activation.

    Parameters
    ----------
    activation : str or None
        Its name, such as "relu"; None where there is none.

    Returns
    -------
    str
        "he_uniform" for ReLU and its relatives, which silence about half of their inputs;
        "lecun_normal" for SELU, which keeps mean 0 and variance 1 only if it begins with them [5];
        "glorot_uniform" for all others and for none.

    Examples
    --------
    >>> from fastnn.initializers import default_for
    >>> default_for("relu"), default_for("tanh"), default_for(None)
    ('he_uniform', 'glorot_uniform', 'glorot_uniform')
    """
    row = ACTIVATIONS.get(activation) if isinstance(activation, str) else None
    return "glorot_uniform" if row is None else row.first_weights
