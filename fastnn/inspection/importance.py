"""Which inputs a net depends on as a whole: what it loses without one of them."""

from typing import NamedTuple

import numpy as np

from fastnn import losses
from fastnn.errors import shown
from fastnn.inspection.checks import VALIDATION, check_axes, check_labels, check_table
from fastnn.network import Sequential
from fastnn.validation import as_array, check_integer, check_seed, check_targets

_MOST_REPEATS = 1_000_000


class Importance(NamedTuple):
    """What was lost by shuffling each column.

    Attributes
    ----------
    mean, std : ndarray (I,) of float64
        Over the repeats.
    repeats : ndarray (I, R) of float64
        By how much each shuffle raised the loss, or lowered the score.
    base : float
        The loss or score on the data as they are.
    """

    mean: np.ndarray
    std: np.ndarray
    repeats: np.ndarray
    base: float


def permutation_importance(model, X, y, *, loss=None, score=None, repeats=5, seed=None):
    """Return how much worse the predictions become when one column is shuffled.

    A shuffled column says nothing about the target any more, but keeps its values; so what is
    lost is what the model took from it (Breiman, "Random forests", 2001). Two columns that say
    the same stand in for each other, and both seem unimportant.

    Parameters
    ----------
    model : Sequential or callable
        A net, or a function from X (N, I) to predictions with N rows.
    X : array_like (N, I)
        Finite numbers. Best a sample that was not trained on.
    y : array_like
        N targets, as the loss or the score takes them.
    loss : str, Loss or callable, optional
        What to make small: a name such as "mse", for predictions (N, O), or a function
        ``loss(y, predictions)``. By default "softmax_cross_entropy", unless there is a `score`.
    score : callable, optional
        What to make large instead: ``score(y, predictions)``.
    repeats : int, default 5
        Shuffles of each column.
    seed : int or numpy.random.Generator, optional

    Returns
    -------
    Importance

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
    X = check_table("X", X).copy()
    y = as_array("y", y)
    if y.ndim == 0 or len(y) != len(X):
        raise ValueError(f"y must have {len(X)} rows as X has, got shape {y.shape}")
    predict = model.predict if isinstance(model, Sequential) else model
    if not callable(predict):
        raise ValueError(f"model must be a Sequential or a function of X, got {shown(model)}")
    figure = _check_figure(loss, score)
    repeats = check_integer("repeats", repeats, 1, _MOST_REPEATS)
    rng = check_seed(seed)

    base = figure(y, predict(X))
    worse = np.empty((X.shape[1], repeats))
    for j in range(X.shape[1]):
        column = X[:, j].copy()
        for k in range(repeats):
            X[:, j] = rng.permutation(column)
            worse[j, k] = figure(y, predict(X)) - base
        X[:, j] = column
    if score is not None:
        worse = -worse
    return Importance(worse.mean(axis=1), worse.std(axis=1), worse, base)


def _check_figure(loss, score):
    """Return a function of (y, predictions) that gives a float, or raise ValueError."""
    if score is not None:
        if loss is not None or not callable(score):
            raise ValueError(f"score must be a function, without a loss, got {shown(score)}")
        return lambda y, out: float(score(y, out))
    if callable(loss):
        return lambda y, out: float(loss(y, out))
    loss = losses.get("softmax_cross_entropy" if loss is None else loss)

    def mean_loss(y, out):
        out = np.asarray(out)
        out = out[:, None] if out.ndim == 1 else out
        target = check_targets(y, loss, len(out), out.shape[1], np.dtype(np.float64))
        return float(loss.of_rows(out, *target).mean())

    return mean_loss


def plot_importance(importance, ax, *, names=None, most=20):
    """Draw what `permutation_importance` found as bars, the most important input on top.

    Parameters
    ----------
    importance : Importance
    ax : matplotlib.axes.Axes
    names : sequence, optional
        Of all I inputs.
    most : int, default 20
        Bars at most.

    Returns
    -------
    ndarray of int
        The inputs that were drawn, the most important first.

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
    names = check_labels("names", names, n) or [f"input {j}" for j in range(n)]
    order = np.argsort(-importance.mean, kind="stable")[: check_integer("most", most, 1)]
    ax.barh(
        range(len(order)),
        importance.mean[order],
        xerr=importance.std[order],
        color=VALIDATION,
        error_kw={"ecolor": "0.3", "capsize": 2},
    )
    ax.set_yticks(range(len(order)), [names[j] for j in order])
    ax.invert_yaxis()
    ax.axvline(0, color="0.3", linewidth=0.8)
    ax.set_xlabel("worse by, when shuffled")
    ax.spines[["top", "right"]].set_visible(False)
    return order
