"""scikit-learn's decorators, with the types that it does not declare.

To a type checker a function is of no known type once an untyped decorator has been applied to it.
These return what they are given, as far as a checker can see.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from sklearn.base import _fit_context
from sklearn.callback import with_callbacks
from sklearn.utils.metaestimators import available_if

Method = TypeVar("Method", bound=Callable[..., Any])


def checks_parameters(method: Method) -> Method:
    """Return a method that first checks the parameters of its estimator."""
    checked: Any = _fit_context(prefer_skip_nested_validation=True)(method)
    return checked


def runs_callbacks(method: Method) -> Method:
    """Return a `fit` that runs scikit-learn's callbacks."""
    wrapped: Any = with_callbacks(method)
    return wrapped


def needs_epochs(method: Method) -> Method:
    """Return a method that estimators with ``solver="lbfgs"`` do not have."""
    available: Any = available_if(lambda estimator: estimator._check_solver())(method)
    return available
