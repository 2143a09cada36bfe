"""What `fastnn.MLPClassifier` and `fastnn.MLPRegressor` share: all but the meaning of ``y``.

The training loop is scikit-learn's ``_fit_stochastic`` [1]_ with the same decisions in the same
order; only the epoch itself is run by `fastnn.training.Trainer`.

References
----------
.. [1] scikit-learn, ``sklearn/neural_network/_multilayer_perceptron.py`` (BSD-3-Clause).
"""

import operator
import warnings
from itertools import pairwise
from numbers import Integral, Real

import numpy as np

from fastnn.errors import require

require("sklearn", "sklearn")  # one clear line instead of the ModuleNotFoundError below

# ruff: noqa: E402
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, _fit_context, is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from fastnn.layers import Affine, Identity, ReLU, Sigmoid, Tanh
from fastnn.losses import BinaryCrossEntropy, SoftmaxCrossEntropy, SquaredError
from fastnn.network import Sequential
from fastnn.optimizers import SGD, Adam
from fastnn.threads import get_num_threads
from fastnn.training import Trainer

_HIDDEN_LAYERS = {"identity": Identity, "logistic": Sigmoid, "tanh": Tanh, "relu": ReLU}
# The stack level of warnings raised in _train: _fit, fit, its wrapper, and then the caller.
_CALLER = 5
# The batch size that "auto" stands for; data with fewer rows is one batch.
_AUTO_BATCH_SIZE = 200
# What scikit-learn's classes do not have, or have and we do not.
OWN_CONSTRAINTS = {
    "solver": [StrOptions({"adam", "sgd"})],
    "momentum": [Interval(Real, 0, 1, closed="left")],
    "n_threads": [Interval(Integral, 1, None, closed="left"), None],
    "dtype": [StrOptions({"auto", "float32", "float64"})],
}


class BaseMLP(BaseEstimator):
    """A multilayer perceptron with scikit-learn's interface.

    The subclasses say what ``y`` is: `_encode` turns what the user gave into a matrix with a
    column per output, `_targets` turns that into what the loss takes, `_score` compares
    predictions with it, `_predict` gives predictions as the user knows them.
    """

    def __init__(
        self,
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

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y):
        """Train on a table of samples.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The samples. A sparse matrix is made dense, which needs memory for all its zeros.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Class labels or a 0/1 indicator matrix (classifier), numbers (regressor).

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or the data is not usable, or if training diverged to weights that
            are not finite.
        """
        return self._fit(X, y, incremental=False)

    def predict(self, X):
        """Predict labels (classifier) or values (regressor).

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The samples; converted to the dtype the model was trained in.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
            One prediction per sample.
        """
        check_is_fitted(self)
        return self._predict(self._validate(X))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    # The net and its trainer hold compiled code and thread teams: neither is pickled, both are
    # made again from coefs_ and intercepts_ when they are needed.

    def __getstate__(self):
        state = super().__getstate__().copy()
        for name in ("_net", "_trainer"):
            state.pop(name, None)
        return state

    def _build_net(self, coefs, intercepts):
        """Make the net of these weights; coefs_ and intercepts_ become views of its parameters."""
        layers = [Affine(*coefs[0].shape, init="zeros")]
        for w in coefs[1:]:
            layers += [_HIDDEN_LAYERS[self.activation](), Affine(*w.shape, init="zeros")]
        net = Sequential(layers, dtype=coefs[0].dtype)
        for (w, b), coef, intercept in zip(net.weights(), coefs, intercepts, strict=True):
            w[...] = coef
            b[...] = intercept
        # Only now, for threads that predict meanwhile: each of them needs a net with its weights.
        self.coefs_ = [w for w, _ in net.weights()]
        self.intercepts_ = [b for _, b in net.weights()]
        self._net, self._trainer = net, None
        return net

    def _current_net(self):
        """Return the net of coefs_ and intercepts_, made anew if those arrays were replaced."""
        net = getattr(self, "_net", None)
        arrays = [*self.coefs_, *self.intercepts_]
        if net is not None and len(arrays) == 2 * len(net.weights()):
            views = [array for column in zip(*net.weights(), strict=True) for array in column]
            if all(map(operator.is_, arrays, views)):
                return net
        return self._build_net(self.coefs_, self.intercepts_)

    def _most_threads(self):
        # Not an error if there are fewer: the model may have come from a larger machine.
        return None if self.n_threads is None else min(self.n_threads, get_num_threads())

    def _outputs(self, X):
        """Return the net's output (N, O) for a validated X, before the output activation."""
        return self._current_net().predict(X, n_threads=self._most_threads())

    def _validate(self, X, reset=False, **options):
        """Check X, and y if it is among the options; X becomes of the model's dtype, and dense."""
        if not reset:
            dtype = self.coefs_[0].dtype
        elif self.dtype == "auto":
            dtype = (np.float64, np.float32)  # the first is for whatever is neither
        else:
            dtype = np.dtype(self.dtype)
        checked = validate_data(
            self, X, accept_sparse=["csr", "csc"], dtype=dtype, reset=reset, **options
        )
        X, *y = checked if "y" in options else (checked,)
        X = X.toarray() if issparse(X) else X
        return (X, *y) if y else X

    def _fit(self, X, y, incremental):
        units = self.hidden_layer_sizes
        units = list(units) if hasattr(units, "__iter__") else [units]
        if any(n <= 0 for n in units):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {units}.")
        if self.early_stopping and incremental:
            raise ValueError("partial_fit does not support early_stopping=True")

        first_pass = not hasattr(self, "coefs_") or not (self.warm_start or incremental)
        X, y = self._validate(
            X, reset=first_pass, y=y, multi_output=True, y_numeric=not is_classifier(self)
        )
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        y = self._encode(y, incremental)
        if y.ndim == 1:
            y = y.reshape(-1, 1)

        rng = check_random_state(self.random_state)
        if first_pass:
            self._initialize([X.shape[1], *units, y.shape[1]], rng, X.dtype)
        elif y.shape[1] != self.n_outputs_:
            raise ValueError(f"y must have {self.n_outputs_} columns, as before, got {y.shape[1]}")
        elif incremental:
            self._current_net()
        else:
            self._build_net(self.coefs_, self.intercepts_)  # the activation may have been changed
        if first_pass or self.early_stopping != (self.best_loss_ is None):
            self._forget_best()
        self._train(X, y, rng, incremental)

        if not np.isfinite(self._net.params).all():
            raise ValueError(
                "Solver produced non-finite parameter weights. The input data may"
                " contain large values and need to be preprocessed."
            )
        return self

    def _initialize(self, units, rng, dtype):
        """Draw the weights in scikit-learn's order, and reset what a warm start goes on with."""
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

        self.t_ = 0
        self.loss_curve_ = []
        self._no_improvement_count = 0

    def _forget_best(self):
        """Reset what the stopping rules compare with."""
        self.best_loss_ = None if self.early_stopping else np.inf
        self.validation_scores_ = [] if self.early_stopping else None
        self.best_validation_score_ = -np.inf if self.early_stopping else None
        self._best_params = self._net.params.copy() if self.early_stopping else None

    def _make_trainer(self):
        """Return a fresh optimizer around the net."""
        if self.solver == "adam":
            optimizer = Adam(self.learning_rate_init, self.beta_1, self.beta_2, self.epsilon)
        else:
            nesterov = self.nesterovs_momentum and self.momentum > 0
            optimizer = SGD(self.learning_rate_init, self.momentum, nesterov)
        losses = {
            "softmax": SoftmaxCrossEntropy(),
            "logistic": BinaryCrossEntropy(reduction="sum"),
            "identity": SquaredError(),
        }
        return Trainer(
            self._net,
            loss=losses[self.out_activation_],
            optimizer=optimizer,
            batch_size=_AUTO_BATCH_SIZE,
            n_threads=self._most_threads(),
        )

    def _train(self, X, y, rng, incremental):
        """Run epochs until a stopping rule holds; scikit-learn's ``_fit_stochastic``."""
        rows = np.arange(len(X))
        if self.early_stopping:
            stratify = y if is_classifier(self) and self.n_outputs_ == 1 else None
            rows, held_out = train_test_split(
                rows, random_state=rng, test_size=self.validation_fraction, stratify=stratify
            )
            if len(held_out) < 2:
                raise ValueError(
                    "The validation set is too small. Increase 'validation_fraction' "
                    "or the size of your dataset."
                )
            X_val, y_val = X[held_out], y[held_out]
        if self.batch_size != "auto" and self.batch_size > len(rows):
            message = "Got `batch_size` larger than sample size. It is going to be clipped"
            warnings.warn(message, stacklevel=_CALLER)

        trainer = self._trainer if incremental else None
        if trainer is None:
            trainer = self._make_trainer()
        else:
            trainer.pull()  # the weights may have been edited since the last call
        # A batch never has more rows than the data, so there is no need to clip this.
        trainer.batch_size = _AUTO_BATCH_SIZE if self.batch_size == "auto" else self.batch_size
        trainer.alpha = self.alpha
        trainer.set_data(X, self._targets(y))
        # scikit-learn's squared error is a mean over the outputs too (its gradient is not).
        scale = 1 / self.n_outputs_ if self.out_activation_ == "identity" else 1.0

        self.n_iter_ = 0
        warning = None
        try:
            for _ in range(1 if incremental else self.max_iter):
                if self.shuffle:
                    rows = rows[rng.permutation(len(rows))]
                data_loss, penalty = trainer.run_epoch(rows)
                self.n_iter_ += 1
                self.t_ += len(rows)
                self.loss_ = float(scale * data_loss + penalty)
                self.loss_curve_.append(self.loss_)
                if self.verbose:
                    print(f"Iteration {self.n_iter_}, loss = {self.loss_:.8f}")
                if self.early_stopping:
                    trainer.sync()
                    self._count_score(self._score(X_val, y_val))
                else:
                    self._count_loss(self.loss_)
                if self.solver == "sgd" and self.learning_rate == "invscaling":
                    trainer.learning_rate = self.learning_rate_init / (self.t_ + 1) ** self.power_t
                if self._no_improvement_count > self.n_iter_no_change:
                    if self._stops(trainer):
                        break
                    self._no_improvement_count = 0
            else:
                if not incremental:
                    warning = ConvergenceWarning(
                        f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) "
                        "reached and the optimization hasn't converged yet."
                    )
        except KeyboardInterrupt:
            warning = UserWarning("Training interrupted by user.")
        trainer.sync()
        if self.early_stopping:
            self._net.params[:] = self._best_params
        # partial_fit goes on with this optimizer; the data should not live as long as the model.
        trainer.release_data()
        self._trainer = trainer
        if warning is not None:  # last, for a caller who turns warnings into errors
            warnings.warn(warning, stacklevel=_CALLER)

    def _count_loss(self, loss):
        """Count the epochs in a row whose training loss was no better than the best by tol."""
        worse = loss > self.best_loss_ - self.tol
        self._no_improvement_count = self._no_improvement_count + 1 if worse else 0
        if loss < self.best_loss_:
            self.best_loss_ = loss

    def _count_score(self, score):
        """Count the epochs in a row without a better validation score; keep the best weights."""
        self.validation_scores_.append(score)
        if self.verbose:
            print(f"Validation score: {score:f}")
        worse = score < self.best_validation_score_ + self.tol
        self._no_improvement_count = self._no_improvement_count + 1 if worse else 0
        if score > self.best_validation_score_:
            self.best_validation_score_ = score
            self._best_params = self._net.params.copy()

    def _stops(self, trainer):
        """Decide what to do after too many epochs without progress: stop, or slow down."""
        adaptive = self.solver == "sgd" and self.learning_rate == "adaptive"
        too_small = adaptive and trainer.learning_rate <= 1e-6
        stops = too_small or not adaptive
        if not stops:
            trainer.learning_rate /= 5.0
        if self.verbose:
            what = "Validation score" if self.early_stopping else "Training loss"
            reason = "Learning rate too small. " if too_small else ""
            action = "Stopping." if stops else f"Setting learning rate to {trainer.learning_rate:f}"
            print(
                f"{what} did not improve more than tol={self.tol:f} for "
                f"{self.n_iter_no_change} consecutive epochs. {reason}{action}"
            )
        return stops
