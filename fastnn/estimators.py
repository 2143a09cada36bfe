"""Multilayer perceptrons with scikit-learn's interface.

`MLPClassifier` and `MLPRegressor` take the parameters of the classes of the same names in
:mod:`sklearn.neural_network`, set the same fitted attributes, and follow the same algorithm step
by step: weights, shuffles and splits are drawn in the same order from the same
`numpy.random.RandomState`, and the stopping rules compare the same losses. In float64 a fit
agrees with scikit-learn's to rounding.

Needs the ``sklearn`` extra.
"""

import numpy as np

from fastnn.errors import require

require("sklearn", "sklearn")  # one clear line instead of the ModuleNotFoundError below

# ruff: noqa: E402
from scipy.special import expit
from sklearn import neural_network as original
from sklearn.base import ClassifierMixin, RegressorMixin, _fit_context
from sklearn.metrics import r2_score
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call, type_of_target, unique_labels
from sklearn.utils.validation import check_is_fitted

from fastnn._mlp_base import BaseMLP

__all__ = ["MLPClassifier", "MLPRegressor"]


class MLPClassifier(ClassifierMixin, BaseMLP):
    """Multilayer perceptron classifier, a drop-in for scikit-learn's.

    Minimises the cross-entropy with stochastic gradient descent, Adam or L-BFGS. In float64 it
    follows :class:`sklearn.neural_network.MLPClassifier` step by step and agrees with it to
    rounding.

    Parameters
    ----------
    hidden_layer_sizes : int or array-like of int, default=(100,)
        Units of each hidden layer; ``()`` is a linear model.
    activation : {'identity', 'logistic', 'tanh', 'relu'}, default='relu'
        Activation of the hidden layers.
    solver : {'lbfgs', 'sgd', 'adam'}, default='adam'
        The optimizer. ``'lbfgs'`` takes all samples at once; it is SciPy's, on our gradient.
    alpha : float, default=0.0001
        Strength of the L2 penalty on the weights; divided by the rows of the batch.
    batch_size : int or 'auto', default='auto'
        Rows per update; ``'auto'`` is ``min(200, n_samples)``.
    learning_rate : {'constant', 'invscaling', 'adaptive'}, default='constant'
        Schedule of ``'sgd'``: constant; ``learning_rate_init / (t_ + 1) ** power_t`` after each
        epoch; or divided by 5 whenever training would otherwise stop, down to 1e-6.
    learning_rate_init : float, default=0.001
        The (first) learning rate.
    power_t : float, default=0.5
        Exponent of ``'invscaling'``.
    max_iter : int, default=200
        Most epochs, or iterations of ``'lbfgs'``, to run.
    shuffle : bool, default=True
        Whether to visit the rows in a new order each epoch.
    random_state : int, RandomState instance or None, default=None
        Source of the weights, the validation split and the shuffles.
    tol : float, default=1e-4
        The least improvement that counts as one.
    verbose : bool, default=False
        Whether to print the loss of each epoch.
    warm_start : bool, default=False
        Whether `fit` starts from the weights of the fit before.
    momentum : float, default=0.9
        Momentum of ``'sgd'``, in [0, 1].
    nesterovs_momentum : bool, default=True
        Whether the momentum of ``'sgd'`` is Nesterov's.
    early_stopping : bool, default=False
        Whether to hold out a validation set, stop on its score instead of the training loss, and
        keep the weights of the best epoch.
    validation_fraction : float, default=0.1
        The part of the rows held out; stratified for binary classification.
    beta_1, beta_2 : float, default=0.9, 0.999
        Decay rates of Adam's moments, in [0, 1).
    epsilon : float, default=1e-8
        Adam's term against division by zero.
    n_iter_no_change : int, default=10
        Training stops after more than this many epochs in a row without improvement.
    max_fun : int, default=15000
        Most evaluations of the loss by ``'lbfgs'``.
    n_threads : int or None, default=None
        The most threads to use; None leaves it to :func:`fastnn.set_num_threads`. The result
        does not depend on it.
    dtype : {'auto', 'float32', 'float64'}, default='auto'
        Precision of the model. ``'auto'`` is float32 for float32 `X` and float64 for all else, as
        in scikit-learn; ``'float32'`` is the faster choice.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels.
    loss_ : float
        Loss of the last epoch, penalty included.
    best_loss_ : float or None
        The smallest loss so far; None with early stopping.
    loss_curve_ : list of float
        Loss of every epoch.
    validation_scores_ : list of float or None
        Accuracy on the held-out rows after every epoch, with early stopping.
    best_validation_score_ : float or None
        The best of them.
    t_ : int
        Rows seen, counted once per visit.
    coefs_ : list of ndarray of shape (fan_in, fan_out)
        Weights per layer. Writing into an array, or replacing it, changes the predictions.
    intercepts_ : list of ndarray of shape (fan_out,)
        Biases per layer.
    n_features_in_ : int
        Columns of `X`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, where `X` had any.
    n_iter_ : int
        Epochs run by the last call.
    n_layers_ : int
        Layers, the input included.
    n_outputs_ : int
        Output units: 1 for two classes.
    out_activation_ : str
        ``'softmax'`` for more than two classes, else ``'logistic'``.

    Notes
    -----
    Differences from scikit-learn's class:

    - Predictions are computed in the precision of the model, whatever that of `X`.
    - scikit-learn clips probabilities at the machine epsilon before it takes their logarithm, so
      a row's loss never exceeds 36 (float64) or 16 (float32); here it is the true one. Only
      `loss_curve_` and what is derived from it can differ, and only where a net is that
      wrong, as in the first epochs on data that is not scaled. With ``'lbfgs'`` it also makes the
      gradient that of the loss.
    - A batch whose weights sum to zero changes nothing; in scikit-learn it makes all weights NaN.
    - ``'lbfgs'`` works in float64 also for a float32 model, whose weights stay float32.
    - A warm start with early stopping never ends with weights worse than the best ones before.

    Examples
    --------
    >>> from fastnn import MLPClassifier
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> model = MLPClassifier(learning_rate_init=0.01, random_state=0).fit(X, y)
    >>> model.predict(X[:3])
    array([0, 0, 0])
    >>> model.score(X, y) > 0.95
    True
    """

    _original = original.MLPClassifier

    loss = "log_loss"  # as in scikit-learn an attribute, but no parameter

    @available_if(lambda estimator: estimator._check_solver())
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, sample_weight=None, classes=None):
        """Train for one epoch, going on from the weights and the optimizer of the last call.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The samples.
        y : array-like of shape (n_samples,) or (n_samples, n_classes)
            Their labels, or a 0/1 indicator matrix.
        sample_weight : array-like of shape (n_samples,), default=None
            Their weights.
        classes : array-like of shape (n_classes,), default=None
            All the labels there will ever be; needed in the first call only.

        Returns
        -------
        self : MLPClassifier
            The estimator.

        Raises
        ------
        AttributeError
            With ``solver="lbfgs"``, which has no epochs.
        ValueError
            If `classes` is missing in the first call, if `y` has other labels, or with
            ``early_stopping=True``.
        """
        if _check_partial_fit_first_call(self, classes):
            multilabel = type_of_target(y).startswith("multilabel")
            self._label_binarizer = LabelBinarizer().fit(y if multilabel else classes)
        return self._fit(X, y, sample_weight, incremental=True)

    def predict_proba(self, X):
        """Estimate the probability of each class.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The samples.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Probabilities, columns in the order of `classes_`, in the dtype of the model. A row
            sums to 1, except for indicator-matrix targets, whose columns are independent.
        """
        check_is_fitted(self)
        p = self._probabilities(self._validate(X))
        return np.hstack([1 - p, p]) if self.n_outputs_ == 1 else p

    def predict_log_proba(self, X):
        """Estimate the logarithm of the probability of each class.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The samples.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            ``log(predict_proba(X))``; -inf where a probability is 0.
        """
        p = self.predict_proba(X)
        return np.log(p, out=p)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def _encode(self, y, incremental):
        """Turn labels into a boolean indicator matrix, and check them against earlier fits."""
        if not hasattr(self, "classes_") or not (self.warm_start or incremental):
            self._label_binarizer = LabelBinarizer().fit(y)
            self.classes_ = self._label_binarizer.classes_
        else:
            classes = unique_labels(y)
            if self.warm_start:
                if set(classes) != set(self.classes_):
                    raise ValueError(
                        "warm_start can only be used where `y` has the same "
                        "classes as in the previous call to fit. Previously "
                        f"got {self.classes_}, `y` has {classes}"
                    )
            elif len(np.setdiff1d(classes, self.classes_, assume_unique=True)):
                raise ValueError(
                    "`y` has classes not in `self.classes_`. "
                    f"`self.classes_` has {self.classes_}. 'y' has {classes}."
                )
        return self._label_binarizer.transform(y).astype(bool)

    def _targets(self, y):
        """Turn the indicator matrix into what the trainer's loss takes."""
        if self.out_activation_ == "softmax":
            return y.argmax(axis=1)
        return y.astype(self._net.dtype)

    def _out_activation(self):
        return "softmax" if self._label_binarizer.y_type_ == "multiclass" else "logistic"

    def _probabilities(self, X):
        out = self._outputs(X)
        if self.out_activation_ == "logistic":
            return expit(out, out=out)
        out -= out.max(axis=1, keepdims=True)
        np.exp(out, out=out)
        out /= out.sum(axis=1, keepdims=True)
        return out

    def _predict(self, X):
        p = self._probabilities(X)
        return self._label_binarizer.inverse_transform(p.ravel() if self.n_outputs_ == 1 else p)

    def _score(self, X, y, sample_weight):
        """Accuracy with respect to an indicator matrix; without labels, and so without delay."""
        p = self._probabilities(X)
        if self.out_activation_ == "softmax":
            right = p.argmax(axis=1) == y.argmax(axis=1)
        else:
            right = ((p > 0.5) == y).all(axis=1)
        return float(np.average(right, weights=sample_weight))


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
