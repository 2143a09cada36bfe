"""`MLPRegressor`: one or several numbers per row."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn import neural_network as original
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score

from fastnn.estimators.attributes import ActivationName, DTypeName, LearningRate, Solver
from fastnn.estimators.base import BaseMLP
from fastnn.estimators.decorators import checks_parameters, needs_epochs
from fastnn.validation import Table


class MLPRegressor(RegressorMixin, BaseMLP):
    """Multilayer perceptron regressor, a drop-in replacement for scikit-learn's.

    Minimises a loss with stochastic gradient descent, Adam or L-BFGS. It follows the algorithm of
    :class:`sklearn.neural_network.MLPRegressor`; in float64 the two agree to rounding.

    Parameters
    ----------
    loss : {"squared_error", "poisson"}, default="squared_error"
        Half the squared error, or half the Poisson deviance. The second is for counts, and for
        other targets >= 0 whose variance grows with their mean: the output of the net is the
        logarithm of the mean, and `predict` returns the mean.
    hidden_layer_sizes, activation, solver, alpha, batch_size, learning_rate, \
learning_rate_init, power_t, max_iter, shuffle, random_state, tol, verbose, warm_start, momentum, \
nesterovs_momentum, early_stopping, validation_fraction, beta_1, beta_2, epsilon, \
n_iter_no_change, max_fun, n_threads, dtype
        As for `MLPClassifier`.

    Notes
    -----
    The differences from scikit-learn's class are those of `MLPClassifier`, and three more:

    - With several outputs, ``"lbfgs"`` uses the gradient of the loss that `loss_` reports, which
      is the mean over the outputs. scikit-learn's gradient is that of the sum
      (`#8349 <https://github.com/scikit-learn/scikit-learn/issues/8349>`_).
    - `partial_fit` does not exist with ``"lbfgs"``, as in the classifier. scikit-learn's regressor
      trains with L-BFGS there.
    - The Poisson loss refuses negative targets.

    Attributes
    ----------
    validation_scores_ : list of float or None
        R2 on the held-out rows after each epoch; None without early stopping.
    out_activation_ : str
        ``"identity"``, or ``"exp"`` for the Poisson loss.
    loss_, best_loss_, loss_curve_, best_validation_score_, t_, coefs_, intercepts_, \
n_features_in_, feature_names_in_, n_iter_, n_layers_, n_outputs_
        As for `MLPClassifier`.

    Examples
    --------
    >>> from fastnn import MLPRegressor
    >>> from sklearn.datasets import load_diabetes
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = MLPRegressor(learning_rate_init=0.1, random_state=0).fit(X, y)
    >>> model.predict(X[:3]).shape
    (3,)
    >>> model.score(X, y) > 0.5
    True
    """

    _original = original.MLPRegressor
    _parameter_constraints: ClassVar[dict[str, Any]] = (
        BaseMLP._parameter_constraints | original.MLPRegressor._parameter_constraints
    )

    def __init__(
        self,
        loss: Literal["squared_error", "poisson"] = "squared_error",
        hidden_layer_sizes: int | Sequence[int] | np.ndarray = (100,),
        activation: ActivationName = "relu",
        *,
        solver: Solver = "adam",
        alpha: float = 0.0001,
        batch_size: int | Literal["auto"] = "auto",
        learning_rate: LearningRate = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: int | np.random.RandomState | None = None,
        tol: float = 1e-4,
        verbose: bool | int = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: int = 10,
        max_fun: int = 15000,
        n_threads: int | None = None,
        dtype: DTypeName = "auto",
    ) -> None:
        super().__init__(
            hidden_layer_sizes=hidden_layer_sizes,
            activation=activation,
            solver=solver,
            alpha=alpha,
            batch_size=batch_size,
            learning_rate=learning_rate,
            learning_rate_init=learning_rate_init,
            power_t=power_t,
            max_iter=max_iter,
            shuffle=shuffle,
            random_state=random_state,
            tol=tol,
            verbose=verbose,
            warm_start=warm_start,
            momentum=momentum,
            nesterovs_momentum=nesterovs_momentum,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            n_iter_no_change=n_iter_no_change,
            max_fun=max_fun,
            n_threads=n_threads,
            dtype=dtype,
        )
        self.loss = loss

    @needs_epochs
    @checks_parameters
    def partial_fit(self, X: Table, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Train for one epoch, from the weights and the optimizer state of the previous call.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The samples.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets of the samples.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples.

        Returns
        -------
        self : MLPRegressor
            The estimator.

        Raises
        ------
        AttributeError
            With ``solver="lbfgs"``, which has no epochs.
        ValueError
            If `y` has another number of outputs than before, or with ``early_stopping=True``.

        Examples
        --------
        >>> from fastnn import MLPRegressor
        >>> model = MLPRegressor(hidden_layer_sizes=(4,), random_state=0)
        >>> model.partial_fit([[0.0], [1.0]], [0.0, 1.0]).partial_fit([[2.0]], [2.0]).t_
        3
        """
        return self._fit(X, y, sample_weight, incremental=True)

    def _encode(self, y: np.ndarray, incremental: bool) -> np.ndarray:
        return y.reshape(-1, 1) if y.ndim == 1 else y

    def _targets(self, y: np.ndarray) -> np.ndarray:
        return y.astype(self._net.dtype, copy=False)

    def _n_outputs_of(self, y: np.ndarray) -> int:
        return y.shape[1]

    def _out_activation(self) -> str:
        return "exp" if self.loss == "poisson" else "identity"

    def _predict(self, X: Any) -> np.ndarray:
        out = self._outputs(X)
        if self.out_activation_ == "exp":
            np.exp(out, out=out)
        return out.ravel() if self.n_outputs_ == 1 else out

    def _score(self, X: Any, y: np.ndarray, sample_weight: np.ndarray | None) -> float:
        predicted = self._predict(X)
        if not np.isfinite(predicted).all():
            return np.nan
        return r2_score(y, predicted, sample_weight=sample_weight)
