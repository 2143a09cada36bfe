"""Calls of scikit-learn's callbacks (`sklearn.callback`) around the iterations of a fit."""

from typing import Any


def fitted_attributes(estimator: object) -> dict[str, Any]:
    """Return the fitted attributes of an estimator by name, without copies."""
    return {
        name: value
        for name, value in vars(estimator).items()
        if (name.endswith("_") and not name.startswith("_")) or name == "_label_binarizer"
    }


class FitCallbacks:
    """The calls of an estimator's callbacks during a fit; does nothing if it has none.

    Parameters
    ----------
    estimator : BaseMLP
    X, y, sample_weight
        As given to `fit`.
    incremental : bool
        Whether this is a `partial_fit`, which calls no callbacks.

    Attributes
    ----------
    any : bool
        Whether there are callbacks.
    """

    def __init__(
        self, estimator: Any, X: object, y: object, sample_weight: object, incremental: bool
    ) -> None:
        self._estimator = estimator
        self.any = not incremental and (
            hasattr(estimator, "_skl_callbacks") or hasattr(estimator, "_parent_callback_ctx")
        )
        if self.any:
            self._data: dict[str, Any] = {"X": X, "y": y}
            if sample_weight is not None:
                self._data["metadata"] = {"sample_weight": sample_weight}
            # SciPy's L-BFGS reports the end of an iteration, so one more begins than is run.
            most = estimator.max_iter + (estimator.solver == "lbfgs")
            self._fit = estimator._init_callback_context(max_subtasks=most)
            self._fit.call_on_fit_task_begin(estimator=estimator, **self._data)

    def begin(self, name: str) -> Any:
        """Begin an iteration; return its task, the argument of `end`."""
        if not self.any:
            return None
        task = self._fit.subcontext(task_name=name)
        task.call_on_fit_task_begin(
            estimator=self._estimator, **self._data, reconstruction_attributes=self._learned
        )
        return task

    def end(self, task: Any) -> bool:
        """End an iteration; return whether a callback stops the fit."""
        if not self.any:
            return False
        stop = task.call_on_fit_task_end(
            estimator=self._estimator, **self._data, reconstruction_attributes=self._learned
        )
        return bool(stop)

    def close(self) -> None:
        """End the fit."""
        if self.any:
            self._fit.call_on_fit_task_end(estimator=self._estimator, **self._data)

    def _learned(self) -> dict[str, Any]:
        """Return the attributes with which a copy of the estimator predicts as this one would."""
        learned = fitted_attributes(self._estimator)
        learned["coefs_"] = [w.copy() for w in self._estimator.coefs_]
        learned["intercepts_"] = [b.copy() for b in self._estimator.intercepts_]
        return learned
