"""`Perceptron`: one neuron with a step function, the first trainable neural network."""

from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from fastnn.errors import shown
from fastnn.kernels.perceptron import perceptron_decisions, perceptron_epoch
from fastnn.validation import (
    MOST,
    MOST_COLUMNS,
    Seed,
    as_array,
    as_number,
    check_finite,
    check_flag,
    check_inputs,
    check_integer,
    check_number,
    check_seed,
    kernel_array,
)

__all__ = ["Perceptron"]


class Perceptron:
    """One neuron with a step function: 1 where ``x @ w + b > 0``, else 0.

    Parameters
    ----------
    n_inputs : int
        Number of inputs I.
    weights : array-like of shape (I,), default=None
        One weight for each input. None is zeros.
    bias : float, default=None
        The bias b. None is 0, or follows from `threshold`.
    threshold : float, default=None
        The negative bias: ``threshold = -bias``. Give one of the two.
    seed : int, numpy.random.Generator or None, default=None
        Source of the order of the samples in `fit`.

    Attributes
    ----------
    weights : ndarray of float64 of shape (I,)
    bias, threshold : float
        The same number with opposite signs: setting one sets the other.
    n_inputs : int
    mistakes_ : list of int
        Number of mistakes in each epoch of the last `fit`.
    converged_ : bool
        Whether the last epoch of the last `fit` had no mistake.

    Raises
    ------
    ValueError
        If an argument is out of range, or both `bias` and `threshold` are given.

    Notes
    -----
    **A line.** The prediction changes where ``x @ w + b = 0``. With two inputs this is a straight
    line, with three a plane, with more a hyperplane. w is perpendicular to it and points to the
    side where the prediction is 1. b shifts it: its signed distance from the origin, in the
    direction of w, is ``-b / |w|``.

    **Threshold and bias.** A neuron fires where its weighted input exceeds a threshold:
    ``x @ w > theta``. Written as ``x @ w - theta > 0``, the threshold is one more weight,
    b = -theta, of an input that is always 1, and can be learned like the others.

    **Learning rule** [1]_. After each sample on the wrong side ::

        w += learning_rate * (y - prediction) * x
        b += learning_rate * (y - prediction)

    which moves the line towards the right side of that sample. From weights of zero, the learning
    rate scales all weights and changes no prediction.

    **Convergence** [2]_. If a line separates the classes, the rule finds one. Append a 1 to each
    sample, for the bias. Let R be the largest norm of these extended samples, and gamma the largest
    distance that a hyperplane through the origin can keep from all of them while it separates the
    classes. Starting from zeros, the rule makes at most ``(R / gamma)**2`` mistakes, for any number
    and any order of the samples.

    **XOR** [3]_. No line has (0, 1) and (1, 0) on one side and (0, 0) and (1, 1) on the other:
    the sum of ``w1 + b > 0`` and ``w2 + b > 0`` is ``w1 + w2 + 2 b > 0``, the sum of ``b <= 0``
    and ``w1 + w2 + b <= 0`` is the opposite. Two layers can represent it, as the AND of NAND and
    OR. The rule cannot train the first layer, because it needs a target for each neuron.
    Back-propagation through a smooth activation can: see `Sequential`.

    References
    ----------
    .. [1] F. Rosenblatt, "The Perceptron: A Probabilistic Model for Information Storage and
       Organization in the Brain", Psychological Review 65(6), 1958.
    .. [2] A. B. J. Novikoff, "On Convergence Proofs on Perceptrons", Symposium on the Mathematical
       Theory of Automata, 1962.
    .. [3] M. Minsky, S. Papert, "Perceptrons", MIT Press, 1969.

    Examples
    --------
    The logical AND with fixed weights: only the sum of both inputs exceeds the threshold.

    >>> from fastnn import Perceptron
    >>> X = [[0, 0], [0, 1], [1, 0], [1, 1]]
    >>> Perceptron(2, weights=[1, 1], threshold=1.5).predict(X)
    array([0, 0, 0, 1])

    The same, learned:

    >>> neuron = Perceptron(2, seed=0).fit(X, [0, 0, 0, 1])
    >>> neuron.predict(X), neuron.converged_
    (array([0, 0, 0, 1]), True)
    """

    def __init__(
        self,
        n_inputs: int,
        weights: ArrayLike | None = None,
        bias: float | None = None,
        threshold: float | None = None,
        seed: Seed = None,
    ) -> None:
        self.n_inputs = check_integer("n_inputs", n_inputs, 1, MOST_COLUMNS)
        self._bias = np.zeros(1)
        self._weights: np.ndarray
        self.weights = np.zeros(self.n_inputs) if weights is None else weights
        if bias is not None and threshold is not None:
            raise ValueError(
                f"threshold must be left out where bias is given, got bias {shown(bias)} and "
                f"threshold {shown(threshold)}"
            )
        if bias is not None:
            self.bias = bias
        if threshold is not None:
            self.threshold = threshold
        self._rng = check_seed(seed)

    def __repr__(self) -> str:
        weights = self.weights.tolist()
        return f"Perceptron({self.n_inputs}, weights={weights}, bias={self.bias!r})"

    @property
    def weights(self) -> np.ndarray:
        """The weights, of shape (I,)."""
        return self._weights

    @weights.setter
    def weights(self, values: ArrayLike) -> None:
        array = as_array("weights", values)
        if array.dtype.kind not in "biuf" or array.shape != (self.n_inputs,):
            raise ValueError(
                f"weights must be {self.n_inputs} numbers, got shape {array.shape} and "
                f"dtype {array.dtype}"
            )
        array = np.array(array, np.float64)  # a copy, which `fit` writes to
        check_finite("weights", array)
        self._weights = array

    @property
    def bias(self) -> float:
        """The bias b."""
        return float(self._bias[0])

    @bias.setter
    def bias(self, value: float) -> None:
        self._bias[0] = _check_finite_number("bias", value)

    @property
    def threshold(self) -> float:
        """The threshold ``-b``, which ``x @ w`` must exceed for a prediction of 1."""
        return 0.0 - self.bias  # not -0.0

    @threshold.setter
    def threshold(self, value: float) -> None:
        self._bias[0] = 0.0 - _check_finite_number("threshold", value)

    def decision_function(self, X: ArrayLike) -> np.ndarray:
        """Return ``x @ w + b`` for each row: |w| times its signed distance from the line.

        Parameters
        ----------
        X : array-like of shape (N, I)
            Finite numbers.

        Returns
        -------
        ndarray of float64 of shape (N,)

        Raises
        ------
        ValueError
            If X is not a finite numeric table with I columns.

        Examples
        --------
        >>> from fastnn import Perceptron
        >>> Perceptron(2, weights=[3, 4], bias=-5).decision_function([[0, 0], [3, 4]])
        array([-5., 20.])
        """
        x = check_inputs(X, np.float64, self.n_inputs)
        out = np.empty(len(x))
        perceptron_decisions(out, self._weights, self._bias, x)
        return out

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Return 1 for each row where ``x @ w + b > 0``, else 0 (also on the line itself).

        Parameters
        ----------
        X : array-like of shape (N, I)
            Finite numbers.

        Returns
        -------
        ndarray of int64 of shape (N,)

        Raises
        ------
        ValueError
            If X is not a finite numeric table with I columns.

        Examples
        --------
        >>> from fastnn import Perceptron
        >>> Perceptron(1, weights=[1], threshold=2).predict([[1], [2], [3]])
        array([0, 0, 1])
        """
        return (self.decision_function(X) > 0).astype(np.int64)

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        learning_rate: float = 1.0,
        epochs: int = 100,
        shuffle: bool = True,
    ) -> Self:
        """Train from the current weights until an epoch has no mistake.

        Parameters
        ----------
        X : array-like of shape (N, I)
            Finite numbers.
        y : array-like of shape (N,)
            0 or 1 for each row.
        learning_rate : float, default=1.0
            Factor of each correction, at least 0.
        epochs : int, default=100
            The most passes through the data.
        shuffle : bool, default=True
            Whether to visit the rows in a new random order in each epoch.

        Returns
        -------
        self : Perceptron
            With `converged_` and `mistakes_` set.

        Raises
        ------
        ValueError
            If an argument is out of range. Nothing has been changed then.

        Examples
        --------
        >>> from fastnn import Perceptron
        >>> X = [[0, 0], [0, 1], [1, 0], [1, 1]]
        >>> neuron = Perceptron(2).fit(X, [0, 1, 1, 1], shuffle=False)
        >>> neuron.mistakes_
        [1, 2, 1, 0]
        >>> neuron
        Perceptron(2, weights=[1.0, 1.0], bias=0.0)
        >>> Perceptron(2).fit(X, [0, 1, 1, 0]).converged_  # XOR
        False
        """
        x = check_inputs(X, np.float64, self.n_inputs)
        targets = _check_bits(y, len(x))
        learning_rate = check_number("learning_rate", learning_rate)
        epochs = check_integer("epochs", epochs, 1, MOST)
        shuffle = check_flag("shuffle", shuffle)
        self.mistakes_: list[int] = []
        for _ in range(epochs):
            order = self._rng.permutation(len(x)) if shuffle else np.arange(len(x))
            mistakes = perceptron_epoch(self._weights, self._bias, x, targets, order, learning_rate)
            self.mistakes_.append(mistakes)
            if mistakes == 0:
                break
        self.converged_ = self.mistakes_[-1] == 0
        return self


def _check_finite_number(name: str, value: object) -> float:
    """Return a finite number argument, or raise ValueError."""
    number = as_number(value)
    if not np.isfinite(number):
        raise ValueError(f"{name} must be a finite number, got {shown(value)}")
    return number


def _check_bits(values: ArrayLike, n_rows: int) -> np.ndarray:
    """Return targets as an int64 array of shape (N,), each 0 or 1, or raise ValueError."""
    y = as_array("y", values)
    if y.dtype.kind not in "biuf" or y.shape != (n_rows,):
        raise ValueError(
            f"y must be {n_rows} numbers, one for each row of X, got shape {y.shape} and "
            f"dtype {y.dtype}"
        )
    if n_rows == 0:
        raise ValueError("X must have at least 1 row, got 0")
    wrong = (y != 0) & (y != 1)
    if wrong.any():
        raise ValueError(f"y must hold 0 and 1 only, got {y[wrong][0]:g}")
    return kernel_array(y, np.int64)
