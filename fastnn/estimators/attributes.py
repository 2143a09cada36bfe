"""Parameters and attributes of an estimator, declared for all classes that it is made of."""

from collections.abc import Sequence
from typing import Any, Literal, Never, TypeAlias

import numpy as np

from fastnn.network import Sequential
from fastnn.training import Objective, Trainer

ActivationName: TypeAlias = Literal["identity", "logistic", "tanh", "relu"]
Solver: TypeAlias = Literal["lbfgs", "sgd", "adam"]
LearningRate: TypeAlias = Literal["constant", "invscaling", "adaptive"]
DTypeName: TypeAlias = Literal["auto", "float32", "float64"]


class Attributes:
    """Declarations that `StochasticSolver`, `LBFGSSolver` and `BaseMLP` have in common.

    The parameters are those of the constructor. What ends in an underscore is set by `fit` and
    described in `MLPClassifier`. The methods are those that one class calls and another defines.
    """

    hidden_layer_sizes: int | Sequence[int] | np.ndarray
    activation: ActivationName
    solver: Solver
    alpha: float
    batch_size: int | Literal["auto"]
    learning_rate: LearningRate
    learning_rate_init: float
    power_t: float
    max_iter: int
    shuffle: bool
    random_state: int | np.random.RandomState | None
    tol: float
    verbose: bool | int
    warm_start: bool
    momentum: float
    nesterovs_momentum: bool
    early_stopping: bool
    validation_fraction: float
    beta_1: float
    beta_2: float
    epsilon: float
    n_iter_no_change: int
    max_fun: int
    n_threads: int | None
    dtype: DTypeName

    loss_: float
    best_loss_: float | None
    loss_curve_: list[float]
    validation_scores_: list[float] | None
    best_validation_score_: float | None
    t_: int
    coefs_: list[np.ndarray]
    intercepts_: list[np.ndarray]
    n_features_in_: int
    feature_names_in_: np.ndarray
    n_iter_: int
    n_layers_: int
    n_outputs_: int
    out_activation_: str

    _net: Sequential
    _trainer: Trainer | None
    _no_improvement_count: int
    _best_params: np.ndarray | None

    def _encode(self, y: np.ndarray, incremental: bool) -> np.ndarray:
        """Return targets with a column for each output."""
        raise NotImplementedError

    def _n_outputs_of(self, y: np.ndarray) -> int:
        """Return how many outputs a net has for encoded targets."""
        raise NotImplementedError

    def _targets(self, y: np.ndarray) -> np.ndarray:
        """Return encoded targets as the loss of the trainer takes them."""
        raise NotImplementedError

    def _out_activation(self) -> str:
        """Return the name of the output activation."""
        raise NotImplementedError

    def _predict(self, X: Any) -> np.ndarray:
        """Return predictions for validated samples, in the user's terms."""
        raise NotImplementedError

    def _score(self, X: Any, y: np.ndarray, sample_weight: np.ndarray | None) -> float:
        """Return the score on validated samples and encoded targets."""
        raise NotImplementedError

    def _objective(
        self, net: Sequential, X: Any, y: np.ndarray, sample_weight: np.ndarray | None
    ) -> Objective:
        """Return the loss of all samples as a function of the parameters."""
        raise NotImplementedError

    def _new_net(
        self,
        dtype: np.dtype,
        coefs: list[np.ndarray] | None = None,
        intercepts: list[np.ndarray] | None = None,
    ) -> Sequential:
        """Return a net with these weights, by default those of the model."""
        raise NotImplementedError

    def _current_net(self) -> Sequential:
        """Return the net of `coefs_` and `intercepts_`."""
        raise NotImplementedError

    def _most_threads(self) -> int | None:
        """Return the largest number of threads to use; None is the default."""
        raise NotImplementedError

    @staticmethod
    def _refuse_weights(why: str) -> Never:
        """Raise the error for parameters that are not finite."""
        raise NotImplementedError
