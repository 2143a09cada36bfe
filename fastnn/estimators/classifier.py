"""`MLPClassifier`: labels, probabilities, and indicator matrices for several labels a row."""

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit
from sklearn import neural_network as original
from sklearn.base import ClassifierMixin
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils.multiclass import _check_partial_fit_first_call, type_of_target, unique_labels
from sklearn.utils.validation import check_is_fitted

from fastnn.estimators.base import BaseMLP
from fastnn.estimators.decorators import checks_parameters, needs_epochs
from fastnn.validation import Table


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

    loss: ClassVar[str] = "log_loss"  # as in scikit-learn an attribute, but no parameter

    @needs_epochs
    @checks_parameters
    def partial_fit(
        self,
        X: Table,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        classes: ArrayLike | None = None,
    ) -> Self:
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

    def predict_proba(self, X: Table) -> np.ndarray:
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

    def predict_log_proba(self, X: Table) -> np.ndarray:
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
        with np.errstate(divide="ignore"):  # the logarithm of 0 is not a surprise here
            return np.log(p, out=p)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def _encode(self, y: np.ndarray, incremental: bool) -> np.ndarray:
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

    def _targets(self, y: np.ndarray) -> np.ndarray:
        """Turn the indicator matrix into what the trainer's loss takes."""
        if self.out_activation_ == "softmax":
            return y.argmax(axis=1)
        return y.astype(self._net.dtype)

    def _out_activation(self) -> str:
        return "softmax" if self._label_binarizer.y_type_ == "multiclass" else "logistic"

    def _probabilities(self, X: Any) -> np.ndarray:
        out = self._outputs(X)
        if self.out_activation_ == "logistic":
            return expit(out, out=out)
        out -= out.max(axis=1, keepdims=True)
        np.exp(out, out=out)
        out /= out.sum(axis=1, keepdims=True)
        return out

    def _predict(self, X: Any) -> np.ndarray:
        p = self._probabilities(X)
        column = p.ravel() if self.n_outputs_ == 1 else p
        labels: Any = self._label_binarizer.inverse_transform(column)
        return labels

    def _score(self, X: Any, y: np.ndarray, sample_weight: np.ndarray | None) -> float:
        """Accuracy with respect to an indicator matrix; without labels, and so without delay."""
        p = self._probabilities(X)
        if self.out_activation_ == "softmax":
            right = p.argmax(axis=1) == y.argmax(axis=1)
        else:
            right = ((p > 0.5) == y).all(axis=1)
        return float(np.average(right, weights=sample_weight))
