"""The stochastic solvers of the estimators, after scikit-learn's ``_fit_stochastic``.

The decisions and their order are scikit-learn's. The epochs are run by `fastnn.training.Trainer`.

References
----------
.. [1] scikit-learn, ``sklearn/neural_network/_multilayer_perceptron.py`` (BSD-3-Clause).
"""

import contextlib
import dataclasses
import warnings
from typing import Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from fastnn.estimators.attributes import Attributes
from fastnn.estimators.callbacks import FitCallbacks
from fastnn.losses import BinaryCrossEntropy, Loss, Poisson, SoftmaxCrossEntropy, SquaredError
from fastnn.optimizers import SGD, Adam, Optimizer
from fastnn.training import Trainer
from fastnn.training.data import TrainingData, check_data

# The stack level that makes warnings of _fit_stochastic point to the caller of fit: above it are
# _fit, fit and its two wrappers. partial_fit has one wrapper.
_CALLER = 6
# The batch size of "auto". Data with fewer rows is a single batch.
_AUTO_BATCH_SIZE = 200

LOSSES: dict[str, Loss] = {
    "softmax": SoftmaxCrossEntropy(),
    "logistic": BinaryCrossEntropy(reduction="sum"),
    "identity": SquaredError(),
    "exp": Poisson(),
}
"""The loss for each output activation."""


class StochasticSolver(Attributes):
    """The part of `fastnn.estimators.base.BaseMLP` for ``solver="sgd"`` and ``solver="adam"``."""

    def _prepare_stopping(self, first_pass: bool) -> None:
        """Reset the state of the stopping rules, unless this call continues the previous one."""
        if first_pass or not hasattr(self, "loss_curve_"):
            self.loss_curve_ = []
            self._no_improvement_count = 0
        elif self.early_stopping == (self.best_loss_ is None):
            return
        self.best_loss_ = None if self.early_stopping else np.inf
        self.validation_scores_ = [] if self.early_stopping else None
        self.best_validation_score_ = -np.inf if self.early_stopping else None
        self._best_params = self._net.params.copy() if self.early_stopping else None

    def _make_trainer(self) -> Trainer:
        """Return a new trainer of the net, with a new optimizer."""
        optimizer: Optimizer
        if self.solver == "adam":
            optimizer = Adam(self.learning_rate_init, self.beta_1, self.beta_2, self.epsilon)
        else:
            nesterov = self.nesterovs_momentum and self.momentum > 0
            optimizer = SGD(self.learning_rate_init, self.momentum, nesterov)
        return Trainer(
            self._net,
            loss=LOSSES[self.out_activation_],
            optimizer=optimizer,
            batch_size=_AUTO_BATCH_SIZE,
            n_threads=self._most_threads(),
        )

    def _continued_trainer(self) -> Trainer:
        """Return the trainer of the previous call, or one with the optimizer state of a pickle."""
        trainer = self._trainer
        if trainer is not None:
            trainer.pull()  # the weights may have been changed since then
            return trainer
        trainer = self._make_trainer()
        state = self.__dict__.pop("_optimizer_state", None)
        if state is not None:
            with contextlib.suppress(ValueError):  # of another solver or of other layers
                trainer.restore(state)
        return trainer

    def _hold_out(
        self, y: np.ndarray, rows: np.ndarray, rng: np.random.RandomState
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows for training and for validation, split as in scikit-learn."""
        stratify = y if is_classifier(self) and self.n_outputs_ == 1 else None
        parts: Any = train_test_split(
            rows, random_state=rng, test_size=self.validation_fraction, stratify=stratify
        )
        rows, held_out = parts
        if len(held_out) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' "
                "or the size of your dataset."
            )
        return rows, held_out

    def _training_data(
        self, X: Any, y: np.ndarray, sample_weight: np.ndarray | None, loss: Loss
    ) -> TrainingData:
        """Return data that scikit-learn has checked, without a second look for NaN."""
        x = self._net.check_samples(X, finite=False)
        data = check_data(self._net, x, self._targets(y), loss)
        return data if sample_weight is None else dataclasses.replace(data, weights=sample_weight)

    def _fit_stochastic(
        self,
        X: Any,
        y: np.ndarray,
        sample_weight: np.ndarray | None,
        rng: np.random.RandomState,
        callbacks: FitCallbacks,
        incremental: bool,
    ) -> None:
        """Train until a stopping rule applies, or for one epoch if `incremental` is true."""
        caller = _CALLER - incremental
        rows = np.arange(X.shape[0])
        validation = None
        if self.early_stopping:
            rows, held_out = self._hold_out(y, rows, rng)
            weights = None if sample_weight is None else sample_weight[held_out]
            validation = X[held_out], y[held_out], weights
        if not isinstance(self.batch_size, str) and self.batch_size > len(rows):
            message = "Got `batch_size` larger than sample size. It is going to be clipped"
            warnings.warn(message, stacklevel=caller)

        trainer = self._continued_trainer() if incremental else self._make_trainer()
        # A batch has no more rows than the data, so this size needs no clipping.
        given = self.batch_size
        trainer.batch_size = _AUTO_BATCH_SIZE if isinstance(given, str) else given
        trainer.alpha = self.alpha
        trainer.use(self._training_data(X, y, sample_weight, trainer.loss))
        # scikit-learn's squared error is also a mean over the outputs (but its gradient a sum).
        scale = 1 / self.n_outputs_ if self.out_activation_ == "identity" else 1.0

        self.n_iter_ = 0
        warning: Warning | None = None
        diverged = None
        try:
            for _ in range(1 if incremental else self.max_iter):
                epoch = callbacks.begin("epoch")
                if self.shuffle:
                    rows = rows[rng.permutation(len(rows))]
                data_loss, penalty = trainer.run_epoch(rows)
                self.n_iter_ += 1
                self.t_ += len(rows)
                self.loss_ = float(scale * data_loss + penalty)
                self.loss_curve_.append(self.loss_)
                if trainer.divergence is not None:
                    diverged = trainer.divergence.describe(self.n_iter_)
                    break
                if self.verbose:
                    print(f"Iteration {self.n_iter_}, loss = {self.loss_:.8f}")
                if validation is not None:
                    trainer.sync()
                    self._count_score(self._score(*validation))
                else:
                    self._count_loss(self.loss_)
                if self.solver == "sgd" and self.learning_rate == "invscaling":
                    trainer.learning_rate = self.learning_rate_init / (self.t_ + 1) ** self.power_t
                if callbacks.any and validation is None:
                    trainer.sync()  # a callback may call predict
                if callbacks.end(epoch):
                    break
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
        if validation is not None:
            self._net.params[:] = self._best_params
            if diverged is not None:  # the best weights are finite nevertheless
                assert self.validation_scores_ is not None
                self.validation_scores_.append(np.nan)
                warning = ConvergenceWarning(f"Stochastic Optimizer: {diverged}")
        # partial_fit continues with this trainer, which must not keep the data in memory.
        trainer.release_data()
        self._trainer = trainer
        if diverged is not None and validation is None:
            self._refuse_weights(diverged)
        if warning is not None:  # last: warnings may be errors, and the fit is complete then
            warnings.warn(warning, stacklevel=caller)

    def _count_loss(self, loss: float) -> None:
        """Count consecutive epochs whose training loss is not below the best one by `tol`."""
        assert self.best_loss_ is not None
        worse = loss > self.best_loss_ - self.tol
        self._no_improvement_count = self._no_improvement_count + 1 if worse else 0
        if loss < self.best_loss_:
            self.best_loss_ = loss

    def _count_score(self, score: float) -> None:
        """Count consecutive epochs without a better validation score; keep the best weights."""
        assert self.validation_scores_ is not None and self.best_validation_score_ is not None
        self.validation_scores_.append(score)
        if self.verbose:
            print(f"Validation score: {score:f}")
        worse = score < self.best_validation_score_ + self.tol
        self._no_improvement_count = self._no_improvement_count + 1 if worse else 0
        if score > self.best_validation_score_:
            self.best_validation_score_ = score
            self._best_params = self._net.params.copy()

    def _stops(self, trainer: Trainer) -> bool:
        """Return whether to stop after too many epochs without progress, or lower the rate."""
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
