"""`MLPClassifier`: classes, their probabilities, and several labels per row."""

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
    """Multilayer perceptron classifier, a drop-in replacement for scikit-learn's.

    Minimises the cross-entropy with stochastic gradient descent, Adam or L-BFGS. It follows the
    algorithm of :class:`sklearn.neural_network.MLPClassifier`; in float64 the two agree to
    rounding.

    Parameters
    ----------
    hidden_layer_sizes : int or array-like of int, default=(100,)
        Units of each hidden layer; ``()`` is a linear model.
    activation : {"identity", "logistic", "tanh", "relu"}, default="relu"
        Activation of the hidden layers.
    solver : {"lbfgs", "sgd", "adam"}, default="adam"
        The optimizer. ``"lbfgs"`` uses all samples in each iteration; it is SciPy's L-BFGS.
    alpha : float, default=0.0001
        Strength of the L2 penalty on the weights. It is divided by the rows of the batch.
    batch_size : int or "auto", default="auto"
        Rows per update; ``"auto"`` is ``min(200, n_samples)``.
    learning_rate : {"constant", "invscaling", "adaptive"}, default="constant"
        Schedule of ``"sgd"``. ``"constant"``: no change. ``"invscaling"``:
        ``learning_rate_init / (t_ + 1) ** power_t`` after each epoch. ``"adaptive"``: divided by 5
        whenever the training would stop otherwise, down to 1e-6.
    learning_rate_init : float, default=0.001
        The initial learning rate.
    power_t : float, default=0.5
        Exponent of ``"invscaling"``.
    max_iter : int, default=200
        The most epochs, or iterations of ``"lbfgs"``, to run.
    shuffle : bool, default=True
        Whether to visit the rows in a new random order in each epoch.
    random_state : int, RandomState instance or None, default=None
        Source of the initial weights, the validation split and the order of the rows.
    tol : float, default=1e-4
        The smallest change of the loss or score that counts as an improvement.
    verbose : bool, default=False
        Whether to print the loss of each epoch.
    warm_start : bool, default=False
        Whether `fit` starts from the weights of the previous fit.
    momentum : float, default=0.9
        Momentum of ``"sgd"``, in [0, 1].
    nesterovs_momentum : bool, default=True
        Whether the momentum of ``"sgd"`` is Nesterov's.
    early_stopping : bool, default=False
        Whether to hold out a validation set, to stop on its score instead of the training loss,
        and to keep the weights of the best epoch.
    validation_fraction : float, default=0.1
        The share of the rows that is held out; stratified for binary classification.
    beta_1 : float, default=0.9
        Decay rate of Adam's mean of the gradients, in [0, 1).
    beta_2 : float, default=0.999
        Decay rate of Adam's mean of the squared gradients, in [0, 1).
    epsilon : float, default=1e-8
        Adam's term against division by zero.
    n_iter_no_change : int, default=10
        Training stops after more than this number of consecutive epochs without improvement.
    max_fun : int, default=15000
        The most evaluations of the loss by ``"lbfgs"``.
    n_threads : int, default=None
        The most threads to use. None is :func:`fastnn.get_num_threads`. The result does not depend
        on it.
    dtype : {"auto", "float32", "float64"}, default="auto"
        Precision of the model. ``"auto"`` is float32 for float32 `X` and float64 for any other, as
        in scikit-learn. ``"float32"`` is faster.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The class labels.
    loss_ : float
        Loss of the last epoch, with the penalty.
    best_loss_ : float or None
        The smallest loss so far; None with early stopping.
    loss_curve_ : list of float
        Loss of each epoch.
    validation_scores_ : list of float or None
        Accuracy on the held-out rows after each epoch; None without early stopping.
    best_validation_score_ : float or None
        The best of them.
    t_ : int
        Number of rows trained on, counted in each epoch again.
    coefs_ : list of ndarray of shape (fan_in, fan_out)
        The weights of each layer. Writing to an array, or replacing it, changes the predictions.
    intercepts_ : list of ndarray of shape (fan_out,)
        The biases of each layer.
    n_features_in_ : int
        Number of columns of `X`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, if `X` had names.
    n_iter_ : int
        Number of epochs that the last call has run.
    n_layers_ : int
        Number of layers, with the input.
    n_outputs_ : int
        Number of outputs of the net: 1 for two classes.
    out_activation_ : str
        ``"softmax"`` for more than two classes, else ``"logistic"``.

    Notes
    -----
    Differences from scikit-learn's class:

    - Predictions are computed in the precision of the model, not of `X`.
    - scikit-learn clips probabilities at the machine epsilon before it takes their logarithm, so
      the loss of a row never exceeds 36 (float64) or 16 (float32). Here the loss is not clipped.
      This changes `loss_curve_` and the decisions based on it, for nets with such losses, as in the
      first epochs on data that is not scaled. With ``"lbfgs"``, the gradient is that of the loss.
    - A batch whose sample weights sum to zero changes nothing; in scikit-learn all weights of the
      net become NaN.
    - ``"lbfgs"`` computes in float64, also for a float32 model, whose weights stay float32.
    - A warm start with early stopping never ends with worse weights than the best ones before it.

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

    classes_: np.ndarray
    loss: ClassVar[str] = "log_loss"  # an attribute but no parameter, as in scikit-learn

    @needs_epochs
    @checks_parameters
    def partial_fit(
        self,
        X: Table,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        classes: ArrayLike | None = None,
    ) -> Self:
        """Train for one epoch, from the weights and the optimizer state of the previous call.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The samples.
        y : array-like of shape (n_samples,) or (n_samples, n_classes)
            Class labels, or a 0/1 indicator matrix.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples.
        classes : array-like of shape (n_classes,), default=None
            The labels of all calls. Required in the first call.

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

        Examples
        --------
        >>> from fastnn import MLPClassifier
        >>> model = MLPClassifier((4,), random_state=0)
        >>> model.partial_fit([[0.0], [1.0]], [0, 1], classes=[0, 1]).n_iter_
        1
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
            Probabilities in the dtype of the model, with the columns in the order of `classes_`.
            A row sums to 1, except for indicator-matrix targets, whose columns are independent.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator has not been fitted.
        ValueError
            If `X` is invalid or has another number of columns than in `fit`.

        Examples
        --------
        >>> from fastnn import MLPClassifier
        >>> model = MLPClassifier((4,), solver="lbfgs", random_state=0)
        >>> model.fit([[0.0], [1.0], [2.0]], [0, 1, 2]).predict_proba([[1.0]]).shape
        (1, 3)
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

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator has not been fitted.
        ValueError
            If `X` is invalid or has another number of columns than in `fit`.

        Examples
        --------
        >>> from fastnn import MLPClassifier
        >>> model = MLPClassifier((4,), solver="lbfgs", random_state=0)
        >>> model.fit([[0.0], [1.0], [2.0]], [0, 1, 2]).predict_log_proba([[1.0]]).shape
        (1, 3)
        """
        p = self.predict_proba(X)
        with np.errstate(divide="ignore"):  # the logarithm of 0 is -inf
            return np.log(p, out=p)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def _encode(self, y: np.ndarray, incremental: bool) -> np.ndarray:
        """Return classes for a softmax, else a boolean indicator matrix.

        They are compared with those of before.
        """
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
        if self._out_activation() == "softmax":
            return np.searchsorted(self.classes_, y)
        return self._label_binarizer.transform(y).astype(bool)

    def _targets(self, y: np.ndarray) -> np.ndarray:
        """Return classes for a softmax, else the indicator matrix in the dtype of the net."""
        return y if self.out_activation_ == "softmax" else y.astype(self._net.dtype)

    def _n_outputs_of(self, y: np.ndarray) -> int:
        return y.shape[1] if y.ndim == 2 else len(self.classes_)

    def _out_activation(self) -> str:
        return "softmax" if self._label_binarizer.y_type_ == "multiclass" else "logistic"

    def _probabilities(self, X: Any) -> np.ndarray:
        """Return the outputs of the net after the output activation."""
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
        """Return the accuracy on encoded targets, without a conversion to labels."""
        p = self._probabilities(X)
        if self.out_activation_ == "softmax":
            right = p.argmax(axis=1) == y
        else:
            right = ((p > 0.5) == y).all(axis=1)
        return float(np.average(right, weights=sample_weight))
