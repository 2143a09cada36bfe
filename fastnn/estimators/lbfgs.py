"""The ``solver="lbfgs"`` of the estimators: SciPy's L-BFGS with the gradient of all samples."""

from typing import Any

import numpy as np
from scipy.optimize import minimize
from sklearn.utils.fixes import _get_additional_lbfgs_options_dict
from sklearn.utils.optimize import _check_optimize_result

from fastnn.estimators.attributes import Attributes
from fastnn.estimators.callbacks import FitCallbacks
from fastnn.estimators.stochastic import LOSSES
from fastnn.losses import Loss, SquaredError
from fastnn.network import Sequential
from fastnn.training import Objective


class LBFGSSolver(Attributes):
    """The part of `fastnn.estimators.base.BaseMLP` for ``solver="lbfgs"``.

    The objective is the loss that `loss_` reports, with its exact gradient. scikit-learn divides a
    squared error by the number of outputs, but not its gradient
    (https://github.com/scikit-learn/scikit-learn/issues/8349). The solver computes in float64 for
    every dtype of the model, because the line search compares losses that differ little.
    """

    def _objective(
        self, net: Sequential, X: Any, y: np.ndarray, sample_weight: np.ndarray | None
    ) -> Objective:
        loss: Loss = LOSSES[self.out_activation_]
        if self.out_activation_ == "identity":
            loss = SquaredError(reduction="mean")
        return Objective(
            net, loss, X, self._targets(y), sample_weight, self.alpha, self._most_threads()
        )

    def _fit_lbfgs(
        self, X: Any, y: np.ndarray, sample_weight: np.ndarray | None, callbacks: FitCallbacks
    ) -> None:
        net = self._net if self._net.dtype == np.float64 else self._new_net(np.dtype(np.float64))
        objective = self._objective(net, X, y, sample_weight)
        iteration = callbacks.begin("lbfgs-iter")

        def next_iteration(intermediate_result: Any) -> None:
            nonlocal iteration
            if callbacks.any:
                objective.set_parameters(intermediate_result.x)
                self._net.params[:] = net.params
            if callbacks.end(iteration):
                raise StopIteration
            iteration = callbacks.begin("lbfgs-iter")

        verbose = self.verbose is True or self.verbose >= 1
        result: Any = minimize(
            objective,
            objective.parameters(),
            method="L-BFGS-B",
            jac=True,
            callback=next_iteration,
            options={
                "maxfun": self.max_fun,
                "maxiter": self.max_iter,
                "gtol": self.tol,
                **_get_additional_lbfgs_options_dict("iprint", 1 if verbose else -1),
            },
        )
        callbacks.end(iteration)  # the last one has begun but not run
        objective.set_parameters(result.x)
        self._net.params[:] = net.params
        self._trainer = None
        self.n_iter_ = _check_optimize_result("lbfgs", result, self.max_iter)
        self.loss_ = float(result.fun)
