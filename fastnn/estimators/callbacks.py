"""scikit-learn's callbacks (`sklearn.callback`) around the iterations of a fit."""

from typing import Any


def fitted_attributes(estimator: object) -> dict[str, Any]:
    """Return what an estimator has learned, by name: as it is, without copies."""
    return {
        name: value
        for name, value in vars(estimator).items()
        if (name.endswith("_") and not name.startswith("_")) or name == "_label_binarizer"
    }


class FitCallbacks:
    """Tells an estimator's callbacks where its fit is; does nothing where there are none.

    Parameters
    ----------
    estimator : BaseMLP
    X, y, sample_weight
        As given to `fit`.
    incremental : bool
        Whether this is a `partial_fit`, which has no callbacks.

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
            # SciPy's L-BFGS says when an iteration ends, so the last that begins is not run.
            most = estimator.max_iter + (estimator.solver == "lbfgs")
            self._fit = estimator._init_callback_context(max_subtasks=most)
            self._fit.call_on_fit_task_begin(estimator=estimator, **self._data)

    def begin(self, name: str) -> Any:
        """Begin an iteration; return what `end` takes."""
        if not self.any:
            return None
        task = self._fit.subcontext(task_name=name)
        task.call_on_fit_task_begin(
            estimator=self._estimator, **self._data, reconstruction_attributes=self._learned
        )
        return task

    def end(self, task: Any) -> bool:
        """End an iteration; return whether a callback wants the fit to stop."""
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
        """What a copy of the estimator needs to predict as it would now."""
        learned = fitted_attributes(self._estimator)
        learned["coefs_"] = [w.copy() for w in self._estimator.coefs_]
        learned["intercepts_"] = [b.copy() for b in self._estimator.intercepts_]
        return learned
