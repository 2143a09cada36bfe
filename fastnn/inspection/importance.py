"""Permutation importance: how much a model depends on each input, over a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn import losses
from fastnn.errors import shown
from fastnn.inspection.checks import (
    VALIDATION,
    check_axes,
    check_labels,
    check_net,
    check_table,
    class_numbers,
    given_or_new,
    has_net,
)
from fastnn.network import Sequential
from fastnn.validation import as_array, check_integer, check_seed, check_targets

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_REPEATS = 1_000_000

# A function of (y, predictions): a loss or a score.
_Metric: TypeAlias = Callable[[Any, Any], float]


class FittedModel(Protocol):
    """What `permutation_importance` needs of an estimator."""

    def predict(self, X: Any, /) -> Any:
        """Return predictions for the rows of X."""

    def score(self, X: Any, y: Any, /) -> Any:
        """Return the score of the predictions for X, the larger the better."""


class Importance(NamedTuple):
    """The increase of the loss, or decrease of the score, when each column is shuffled.

    Attributes
    ----------
    mean, std : ndarray of float64 of shape (I,)
        Mean and standard deviation over the repeats.
    repeats : ndarray of float64 of shape (I, R)
        Increase of the loss, or decrease of the score, for each shuffle.
    base : float
        Loss or score on the unchanged data.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    repeats: NDArray[np.float64]
    base: float


def permutation_importance(
    model: Sequential | FittedModel | Callable[[Any], ArrayLike],
    X: ArrayLike,
    y: ArrayLike,
    *,
    loss: str | losses.Loss | _Metric | None = None,
    score: _Metric | None = None,
    repeats: int = 5,
    seed: int | np.random.Generator | None = None,
) -> Importance:
    """Return how much worse the predictions become when one column is shuffled.

    A shuffled column keeps its values but is independent of the target, so the predictions lose
    the information that the model takes from it (Breiman, "Random forests", 2001). If two columns
    have the same information, the model can use either of them, and both seem unimportant.

    Parameters
    ----------
    model : Sequential, fitted estimator or callable
        A net, anything with `predict` and `score` as scikit-learn's estimators have them, such as
        a pipeline or a `fastnn.TableModel`, or a function from X (N, I) to predictions with N rows.
    X : array_like of shape (N, I)
        Finite numbers, preferably samples that were not used in training. For an estimator also a
        DataFrame with columns of any kind, which the estimator gets as one.
    y : array_like of shape (N,) or (N, O)
        Targets, as the loss or the score takes them; labels for a classifier.
    loss : str, Loss, callable or None, default=None
        The loss, the smaller the better: a name such as "mse", for predictions (N, O), or a
        function ``loss(y, predictions)``. None takes "softmax_cross_entropy" for a net or a
        function, and the `score` method of an estimator, unless there is a `score`. The
        predictions of a classifier are labels for a function, and logits for a named loss.
    score : callable or None, default=None
        A score instead, the larger the better: a function ``score(y, predictions)``.
    repeats : int, default=5
        Number of shuffles of each column, R.
    seed : int, numpy.random.Generator or None, default=None
        Seed of the shuffles; None makes them differ from call to call.

    Returns
    -------
    Importance
        Mean, standard deviation and single results for each column.

    Raises
    ------
    ValueError
        If an argument is out of range, or both `loss` and `score` are given.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.inspection import permutation_importance
    >>> X = np.random.default_rng(0).normal(size=(100, 2))
    >>> result = permutation_importance(lambda X: X[:, :1], X, X[:, 0], loss="mse", seed=0)
    >>> bool(result.mean[0] > 1), float(result.mean[1])
    (True, 0.0)
    """
    is_estimator = _is_estimator(model)
    x: Any
    shuffled: Callable[[int, NDArray[np.intp]], Any]
    if is_estimator and hasattr(X, "columns") and hasattr(X, "iloc"):
        x, shuffled = X, _shuffler_of_frame(X)
    else:
        x = check_table("X", X)
        shuffled = _shuffler_of_array(x)
    targets = as_array("y", y)
    if targets.ndim == 0 or len(targets) != len(x):
        raise ValueError(f"y must have {len(x)} rows as X has, got shape {targets.shape}")
    figure = _figure_of(model, is_estimator, targets, loss, score)
    repeats = check_integer("repeats", repeats, 1, _MOST_REPEATS)
    rng = check_seed(seed)

    base = figure.value(x)
    worse = np.empty((x.shape[1], repeats))
    for j in range(x.shape[1]):
        for k in range(repeats):
            worse[j, k] = figure.value(shuffled(j, rng.permutation(len(x)))) - base
    if figure.is_score:
        worse = -worse
    return Importance(worse.mean(axis=1), worse.std(axis=1), worse, base)


def _is_estimator(model: object) -> bool:
    """Return whether a model has the methods of scikit-learn's estimators."""
    methods = (getattr(model, name, None) for name in ("predict", "score"))
    return not isinstance(model, Sequential) and all(map(callable, methods))


def _shuffler_of_array(x: NDArray[Any]) -> Callable[[int, NDArray[np.intp]], NDArray[Any]]:
    """Return a function of (column, order) that returns a table with that column shuffled.

    The arrays that it returns share their memory: only the last one is right.
    """
    out, last = x.copy(), 0

    def shuffled(j: int, order: NDArray[np.intp]) -> NDArray[Any]:
        nonlocal last
        out[:, last] = x[:, last]
        out[:, j] = x[order, j]
        last = j
        return out

    return shuffled


def _shuffler_of_frame(X: Any) -> Callable[[int, NDArray[np.intp]], Any]:
    """Return a function of (column, order) that returns a DataFrame with that column shuffled."""

    def shuffled(j: int, order: NDArray[np.intp]) -> Any:
        frame = X.copy(deep=False)
        frame.isetitem(j, X.iloc[order, j].array)
        return frame

    return shuffled


class _Figure(NamedTuple):
    """What is measured: a function of X (N, I), and whether it is the larger the better."""

    value: Callable[[Any], float]
    is_score: bool


def _figure_of(
    model: Any,
    is_estimator: bool,
    y: NDArray[Any],
    loss: str | losses.Loss | _Metric | None,
    score: _Metric | None,
) -> _Figure:
    """Return the loss or the score of a model on targets, or raise ValueError."""
    if not (is_estimator or isinstance(model, Sequential) or callable(model)):
        raise ValueError(
            f"model must be a Sequential, a fitted estimator or a function of X, got {shown(model)}"
        )
    if is_estimator and loss is None and score is None:
        return _Figure(lambda x: float(model.score(x, y)), True)
    metric = _check_metric(loss, score)
    predict = model if callable(model) else model.predict
    if has_net(model) and score is None and not callable(loss):  # a loss of outputs
        predict = check_net(model).predict
        y = np.asarray(class_numbers(model, y)) if y.ndim == 1 else y
    return _Figure(lambda x: metric(y, predict(x)), score is not None)


def _check_metric(loss: str | losses.Loss | _Metric | None, score: _Metric | None) -> _Metric:
    """Return the loss or score as a function of (y, predictions), or raise ValueError."""
    if score is not None:
        if loss is not None or not callable(score):
            raise ValueError(f"score must be a function, without a loss, got {shown(score)}")
        return lambda y, out: float(score(y, out))
    if callable(loss):
        return lambda y, out: float(loss(y, out))
    known = losses.get("softmax_cross_entropy" if loss is None else loss)

    def mean_loss(y: Any, out: Any) -> float:
        out = np.asarray(out)
        out = out[:, None] if out.ndim == 1 else out
        target = check_targets(y, known, len(out), out.shape[1], np.dtype(np.float64))
        return float(known.of_rows(out, *target).mean())

    return mean_loss


def plot_importance(
    importance: Importance,
    ax: Axes | None = None,
    *,
    names: Iterable[object] | None = None,
    most: int = 20,
) -> NDArray[np.intp]:
    """Draw the result of `permutation_importance` as bars, the most important input on top.

    Parameters
    ----------
    importance : Importance
        Result of `permutation_importance`.
    ax : matplotlib.axes.Axes or None, default=None
        Axes to draw on; None makes a new figure with pyplot.
    names : sequence or None, default=None
        Names of all I inputs; None takes "input 0", "input 1", ...
    most : int, default=20
        Most bars to draw.

    Returns
    -------
    ndarray of int of shape (min(I, most),)
        Indices of the inputs that were drawn, the most important first.

    Raises
    ------
    ValueError
        If an argument has another type or length.
    MissingExtraError
        If matplotlib is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> from fastnn.inspection import Importance, plot_importance
    >>> found = Importance(np.array([0.1, 0.7]), np.array([0.01, 0.1]), np.zeros((2, 5)), 0.2)
    >>> plot_importance(found, Figure().subplots(), names=["width", "height"]).tolist()
    [1, 0]
    """
    check_axes(ax)
    if not isinstance(importance, Importance):
        raise ValueError(f"importance must be an Importance, got {shown(importance)}")
    n = len(importance.mean)
    labels = check_labels("names", names, n) or [f"input {j}" for j in range(n)]
    order = np.argsort(-importance.mean, kind="stable")[: check_integer("most", most, 1)]
    ax = given_or_new(ax)
    ax.barh(
        range(len(order)),
        importance.mean[order],
        xerr=importance.std[order],
        color=VALIDATION,
        error_kw={"ecolor": "0.3", "capsize": 2},
    )
    ax.set_yticks(range(len(order)), [labels[j] for j in order])
    ax.invert_yaxis()
    ax.axvline(0, color="0.3", linewidth=0.8)
    ax.set_xlabel("loss of quality when shuffled")
    ax.spines[["top", "right"]].set_visible(False)
    return order
