"""The base class of `fastnn.MLPClassifier` and `fastnn.MLPRegressor`."""

import copy
import operator
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import pairwise
from numbers import Integral
from typing import Any, ClassVar, Literal, Never, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import issparse
from sklearn import neural_network as original
from sklearn.base import BaseEstimator, is_classifier
from sklearn.callback import CallbackSupportMixin
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from fastnn.compiling import Line, told
from fastnn.errors import name_after_subclass
from fastnn.estimators.attributes import ActivationName, DTypeName, LearningRate, Solver
from fastnn.estimators.callbacks import FitCallbacks, fitted_attributes
from fastnn.estimators.decorators import checks_parameters, runs_callbacks
from fastnn.estimators.lbfgs import LBFGSSolver
from fastnn.estimators.private_names import PrivateNames
from fastnn.estimators.stochastic import StochasticSolver
from fastnn.layers import Affine, Identity, Layer, ReLU, Sigmoid, Tanh
from fastnn.network import Sequential
from fastnn.runtime.threads import check_num_threads, get_num_threads
from fastnn.validation import Table, check_weights

_HIDDEN_LAYERS: dict[str, Callable[[], Layer]] = {
    "identity": Identity,
    "logistic": Sigmoid,
    "tanh": Tanh,
    "relu": ReLU,
}
_OWN_CONSTRAINTS = {
    "n_threads": [Interval(Integral, 1, None, closed="left"), None],
    "dtype": [StrOptions({"auto", "float32", "float64"})],
}
_OWN_PARAMETERS = tuple(_OWN_CONSTRAINTS)


class BaseMLP(StochasticSolver, LBFGSSolver, PrivateNames, CallbackSupportMixin, BaseEstimator):
    """A multilayer perceptron with scikit-learn's interface.

    The subclasses define the meaning of ``y``: `_encode` converts it to a matrix with a column per
    output, `_targets` converts this matrix to the targets of the loss, `_score` compares
    predictions with it, and `_predict` returns predictions in the terms of ``y``.
    """

    _original: ClassVar[Any]  # scikit-learn's class
    _parameter_constraints: ClassVar[dict[str, Any]] = (
        original.MLPClassifier._parameter_constraints | _OWN_CONSTRAINTS
    )

    def __init_subclass__(cls, **kwargs: Any) -> None:
        name_after_subclass(BaseMLP, cls)
        super().__init_subclass__(**kwargs)

    def __init__(
        self,
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
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.n_threads = n_threads
        self.dtype = dtype

    @runs_callbacks
    @checks_parameters
    def fit(self, X: Table, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Train the net.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The samples. A sparse matrix is never converted to a dense one.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Class labels or a 0/1 indicator matrix (classifier), numbers (regressor).
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples. A batch whose weights sum to zero changes nothing.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or the data is invalid, or if training diverged to weights that are not
            finite.

        Examples
        --------
        >>> from fastnn import MLPRegressor
        >>> model = MLPRegressor(hidden_layer_sizes=(4,), solver="lbfgs", random_state=0)
        >>> model.fit([[0.0], [1.0], [2.0]], [0.0, 1.0, 2.0]).n_layers_
        3
        """
        return self._fit(X, y, sample_weight, incremental=False)

    def _check_solver(self) -> bool:
        if self.solver == "lbfgs":
            raise AttributeError(
                "partial_fit is only available for stochastic optimizers. "
                f"{self.solver} is not stochastic."
            )
        return True

    def predict(self, X: Table) -> np.ndarray:
        """Predict class labels (classifier) or values (regressor).

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The samples. They are converted to the dtype of the model.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
            One prediction per sample.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator has not been fitted.
        ValueError
            If `X` is invalid or has another number of columns than in `fit`.

        Examples
        --------
        >>> from fastnn import MLPClassifier
        >>> X, y = [[0.0], [1.0], [2.0], [3.0]], ["low", "low", "high", "high"]
        >>> model = MLPClassifier((4,), solver="lbfgs", random_state=0).fit(X, y)
        >>> model.predict([[-1.0], [5.0]]).tolist()
        ['low', 'high']
        """
        check_is_fitted(self)
        return self._predict(self._validate(X))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    # The net and its trainer hold addresses and compiled code, so they are not pickled. They are
    # rebuilt from coefs_, intercepts_ and the state of the optimizer when they are needed.

    def __getstate__(self) -> dict[str, Any]:
        saved: Any = super().__getstate__()
        state: dict[str, Any] = saved.copy()
        trainer = state.pop("_trainer", None)
        state.pop("_net", None)
        if trainer is not None:
            state["_optimizer_state"] = trainer.state()
        return state

    def _new_net(
        self,
        dtype: np.dtype,
        coefs: list[np.ndarray] | None = None,
        intercepts: list[np.ndarray] | None = None,
    ) -> Sequential:
        """Return a new net with the given weights, by default those of the model."""
        coefs = self.coefs_ if coefs is None else coefs
        intercepts = self.intercepts_ if intercepts is None else intercepts
        layers: list[Layer] = []
        for w in coefs:
            if layers:
                layers.append(_HIDDEN_LAYERS[self.activation]())
            layers.append(Affine(w.shape[0], w.shape[1], init="zeros"))
        net = Sequential(layers, dtype=dtype.name)
        weights: Any = net.weights()
        for (w, b), coef, intercept in zip(weights, coefs, intercepts, strict=True):
            w[...] = coef
            b[...] = intercept
        return net

    def _build_net(self, coefs: list[np.ndarray], intercepts: list[np.ndarray]) -> Sequential:
        """Build the net of the model; coefs_ and intercepts_ become views of its parameters."""
        net = self._new_net(coefs[0].dtype, coefs, intercepts)
        # Last, for threads that predict at the same time: they see coefs_ and a net that match.
        weights: Any = net.weights()
        self.coefs_ = [w for w, _ in weights]
        self.intercepts_ = [b for _, b in weights]
        self._net, self._trainer = net, None
        return net

    def _current_net(self) -> Sequential:
        """Return the net of coefs_ and intercepts_, rebuilt if these arrays have been replaced."""
        net = getattr(self, "_net", None)
        arrays = [*self.coefs_, *self.intercepts_]
        if net is not None and len(arrays) == 2 * len(net.weights()):
            views = [array for column in zip(*net.weights(), strict=True) for array in column]
            if all(map(operator.is_, arrays, views)):
                return net
        return self._build_net(self.coefs_, self.intercepts_)

    @property
    def net_(self) -> Sequential:
        """The fitted net, without the activation of its outputs: `fastnn.inspection` shows it.

        `coefs_` and `intercepts_` are views of its parameters.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        """
        check_is_fitted(self)
        return self._current_net()

    def _most_threads(self) -> int:
        return min(check_num_threads(self.n_threads), get_num_threads())

    def _outputs(self, X: Table) -> np.ndarray:
        """Return the outputs of the net for validated samples, before the output activation."""
        return self._current_net().predict(X, n_threads=self._most_threads())

    def _validate(self, X: Any, reset: bool = False, **options: Any) -> Any:
        """Return X, and y if it is among the options, after scikit-learn's checks.

        X is converted to the dtype of the model.
        """
        dtype: Any
        if not reset:
            dtype = self.coefs_[0].dtype
        elif self.dtype == "auto":
            dtype = (np.float64, np.float32)  # float32 stays, anything else becomes float64
        else:
            dtype = np.dtype(self.dtype)
        return validate_data(
            self, X, accept_sparse=["csr", "csc"], dtype=dtype, reset=reset, **options
        )

    def _fit(self, X: Any, y: Any, sample_weight: Any, incremental: bool) -> Self:
        sizes: Any = self.hidden_layer_sizes
        units = list(sizes) if hasattr(sizes, "__iter__") else [sizes]
        if any(n <= 0 for n in units):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {units}.")
        if self.early_stopping and incremental:
            raise ValueError("partial_fit does not support early_stopping=True")

        callbacks = FitCallbacks(self, X, y, sample_weight, incremental)
        first_pass = not hasattr(self, "coefs_") or not (self.warm_start or incremental)
        X, y = self._validate(
            X, reset=first_pass, y=y, multi_output=True, y_numeric=not is_classifier(self)
        )
        X = X.tocsr() if issparse(X) else X
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        y = self._encode(y, incremental)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X)
            sample_weight = check_weights(sample_weight, X.shape[0])  # before anything is changed
        n_outputs = self._n_outputs_of(y)

        rng = check_random_state(self.random_state)
        if first_pass:
            self._initialize([X.shape[1], *units, n_outputs], rng, X.dtype)
        elif n_outputs != self.n_outputs_:
            raise ValueError(f"y must have {self.n_outputs_} columns, as before, got {n_outputs}")
        elif incremental:
            self._current_net()
        else:
            self._build_net(self.coefs_, self.intercepts_)  # the activation may be another one
        if not incremental:
            self.__dict__.pop("_optimizer_state", None)
        with told(Line()) if self.verbose else nullcontext():
            if self.solver == "lbfgs":
                self._fit_lbfgs(X, y, sample_weight, callbacks)
            else:
                self._prepare_stopping(first_pass)
                self._fit_stochastic(X, y, sample_weight, rng, callbacks, incremental)
        callbacks.close()

        if not np.isfinite(self._net.params).all():
            self._refuse_weights("")
        return self

    @staticmethod
    def _refuse_weights(why: str) -> Never:
        """Raise scikit-learn's error for weights that are not finite, with the place if known."""
        raise ValueError(
            "Solver produced non-finite parameter weights. The input data may contain large "
            "values and need to be preprocessed." + (f" Here {why}." if why else "")
        )

    def _initialize(self, units: list[int], rng: np.random.RandomState, dtype: np.dtype) -> None:
        """Draw the weights in scikit-learn's order, and reset the counts of earlier fits."""
        factor = 2.0 if self.activation == "logistic" else 6.0
        coefs, intercepts = [], []
        for fan_in, fan_out in pairwise(units):
            bound = np.sqrt(factor / (fan_in + fan_out))
            coefs.append(rng.uniform(-bound, bound, (fan_in, fan_out)).astype(dtype, copy=False))
            intercepts.append(rng.uniform(-bound, bound, fan_out).astype(dtype, copy=False))
        self.n_layers_ = len(units)
        self.n_outputs_ = units[-1]
        self.out_activation_ = self._out_activation()
        self._build_net(coefs, intercepts)
        self.n_iter_ = self.t_ = 0

    def to_sklearn(self) -> Any:
        """Return scikit-learn's estimator with the parameters and fitted attributes of this one.

        The parameters `n_threads` and `dtype` are lost.

        Returns
        -------
        sklearn.neural_network.MLPClassifier or sklearn.neural_network.MLPRegressor
            It shares no memory with this estimator. Its predictions agree to rounding.
            `partial_fit` continues from the weights, with a new optimizer.

        Examples
        --------
        >>> from fastnn import MLPRegressor
        >>> model = MLPRegressor(hidden_layer_sizes=(4,), solver="lbfgs", random_state=0)
        >>> type(model.fit([[0.0], [1.0]], [0.0, 1.0]).to_sklearn()).__module__
        'sklearn.neural_network._multilayer_perceptron'
        """
        parameters = self.get_params(deep=False)
        for name in _OWN_PARAMETERS:
            del parameters[name]
        return _hand_over(self, self._original(**parameters))

    @classmethod
    def from_sklearn(
        cls,
        estimator: Any,
        *,
        n_threads: int | None = None,
        dtype: DTypeName = "auto",
    ) -> Self:
        """Return an estimator with the parameters and fitted attributes of scikit-learn's.

        Parameters
        ----------
        estimator : sklearn.neural_network.MLPClassifier or sklearn.neural_network.MLPRegressor
            Fitted or not.
        n_threads : int, default=None
            As for the constructor.
        dtype : {"auto", "float32", "float64"}, default="auto"
            As for the constructor. Fitted weights keep their dtype.

        Returns
        -------
        MLPClassifier or MLPRegressor
            It shares no memory with `estimator`.

        Raises
        ------
        TypeError
            If `estimator` is of another class.

        Examples
        --------
        >>> from fastnn import MLPClassifier
        >>> from sklearn import neural_network
        >>> MLPClassifier.from_sklearn(neural_network.MLPClassifier(alpha=0.01), n_threads=2)
        MLPClassifier(alpha=0.01, n_threads=2)
        """
        if not isinstance(estimator, cls._original):
            raise TypeError(
                f"estimator must be an instance of sklearn.neural_network.{cls._original.__name__},"
                f" got {estimator!r}"
            )
        return _hand_over(
            estimator, cls(**estimator.get_params(deep=False), n_threads=n_threads, dtype=dtype)
        )


def _hand_over(source: Any, target: Any) -> Any:
    """Return `target` after copying the fitted attributes of `source` to it."""
    learned = fitted_attributes(source)
    if hasattr(source, "_no_improvement_count"):
        learned["_no_improvement_count"] = source._no_improvement_count
    for name, value in learned.items():
        setattr(target, name, copy.deepcopy(value))
    return target
