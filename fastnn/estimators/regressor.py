"""`MLPRegressor`: numbers, one or several a row."""

import numpy as np
from sklearn import neural_network as original
from sklearn.base import RegressorMixin, _fit_context
from sklearn.metrics import r2_score
from sklearn.utils.metaestimators import available_if

from fastnn.estimators.base import BaseMLP


class MLPRegressor(RegressorMixin, BaseMLP):
    """Multilayer perceptron regressor, a drop-in for scikit-learn's.

    Minimises a loss with stochastic gradient descent, Adam or L-BFGS. In float64 it
    follows :class:`sklearn.neural_network.MLPRegressor` step by step and agrees with it to
    rounding.

    Parameters
    ----------
    loss : {'squared_error', 'poisson'}, default='squared_error'
        Half the squared error, or half the deviance of a Poisson distribution: for counts, and
        other targets >= 0 whose variance grows with their mean. The net learns the logarithm of
        the mean then, and `predict` gives the mean.
    hidden_layer_sizes, activation, solver, alpha, batch_size, learning_rate, \
learning_rate_init, power_t, max_iter, shuffle, random_state, tol, verbose, warm_start, momentum, \
nesterovs_momentum, early_stopping, validation_fraction, beta_1, beta_2, epsilon, \
n_iter_no_change, max_fun, n_threads, dtype
        As for `MLPClassifier`.

    Notes
    -----
    The differences from scikit-learn's class are those of `MLPClassifier`, and three more:

    - With several outputs ``'lbfgs'`` follows the gradient of the loss that `loss_` reports, the
      mean over the outputs; scikit-learn's gradient is that of the sum
      (`#8349 <https://github.com/scikit-learn/scikit-learn/issues/8349>`_).
    - There is no `partial_fit` with ``'lbfgs'``, just as for the classifier; scikit-learn's
      regressor has one that trains with L-BFGS.
    - The Poisson loss refuses targets below zero.

    Attributes
    ----------
    validation_scores_ : list of float or None
        R2 on the held-out rows after every epoch, with early stopping.
    out_activation_ : str
        ``'identity'``, or ``'exp'`` for the Poisson loss.
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
    _parameter_constraints = (
        BaseMLP._parameter_constraints | original.MLPRegressor._parameter_constraints
    )

    def __init__(
        self,
        loss="squared_error",
        hidden_layer_sizes=(100,),
        activation="relu",
        *,
        solver="adam",
        alpha=0.0001,
        batch_size="auto",
        learning_rate="constant",
        learning_rate_init=0.001,
        power_t=0.5,
        max_iter=200,
        shuffle=True,
        random_state=None,
        tol=1e-4,
        verbose=False,
        warm_start=False,
        momentum=0.9,
        nesterovs_momentum=True,
        early_stopping=False,
        validation_fraction=0.1,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        n_iter_no_change=10,
        max_fun=15000,
        n_threads=None,
        dtype="auto",
    ):
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

    @available_if(lambda estimator: estimator._check_solver())
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, sample_weight=None):
        """Train for one epoch, going on from the weights and the optimizer of the last call.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The samples.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Their values.
        sample_weight : array-like of shape (n_samples,), default=None
            Their weights.

        Returns
        -------
        self : MLPRegressor
            The estimator.

        Raises
        ------
        AttributeError
            With ``solver="lbfgs"``, which has no epochs.
        ValueError
            If `y` has another number of outputs, or with ``early_stopping=True``.
        """
        return self._fit(X, y, sample_weight, incremental=True)

    def _encode(self, y, incremental):
        return y

    def _targets(self, y):
        return y.astype(self._net.dtype, copy=False)

    def _out_activation(self):
        return "exp" if self.loss == "poisson" else "identity"

    def _predict(self, X):
        out = self._outputs(X)
        if self.out_activation_ == "exp":
            np.exp(out, out=out)
        return out.ravel() if self.n_outputs_ == 1 else out

    def _score(self, X, y, sample_weight):
        predicted = self._predict(X)
        if not np.isfinite(predicted).all():
            return np.nan
        return r2_score(y, predicted, sample_weight=sample_weight)
