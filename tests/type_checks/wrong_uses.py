"""Mistakes that type checkers must find. Nobody runs them: mypy and pyright read them.

Each marked line is an error. The mark silences it; both checkers report a mark that silences
nothing, so a line that is no longer found is an error as well.
"""

import fastnn
from fastnn import (
    GELU,
    Adam,
    Affine,
    Callback,
    Dropout,
    EarlyStopping,
    MLPClassifier,
    MLPRegressor,
    Perceptron,
    ReLU,
    Residual,
)
from fastnn.losses import Huber
from fastnn.schedules import Cosine


def unknown_keywords() -> None:
    """A keyword that does not exist is an error wherever one is given."""
    MLPClassifier(nope=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    MLPRegressor(hidden_layers=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Adam(lr=1e-3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    EarlyStopping(nope=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Cosine(warm_up=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Affine(2, 3, activation="relu")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ReLU(0.1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    fastnn.Sequential([], nope=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    fastnn.warmup(nope=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    fastnn.losses.Huber(nope=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    MLPClassifier().fit([[1]], [1], nope=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def wrong_values() -> None:
    """A value of a wrong type, or a name that is not in the list."""
    MLPClassifier(solver="adamw")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    MLPClassifier(alpha="big")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Huber(reduction="max")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Perceptron("2")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Affine("2", 3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Adam("0.1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Dropout(seed="a")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    GELU("erf")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Residual([3])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    fastnn.set_num_threads("2")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    fastnn.matmul([[1]], [[1]], activation=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def wrong_uses_of_results() -> None:
    """What a function returns is known."""
    count: int = MLPClassifier().predict([[1.0]])  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    MLPClassifier().fit([[1.0]], [1]).predict_prob([[1.0]])  # pyright: ignore[reportAttributeAccessIssue]
    weights: list[float] = Affine(2, 3).params["w"]  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    Affine(2, 3).weights()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    fastnn.show_config().keys()  # type: ignore[attr-defined, func-returns-value]  # pyright: ignore[reportAttributeAccessIssue]
    print(count, weights)


def unknown_names() -> None:
    """The package has no attributes of its own making."""
    print(fastnn.Transformer)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]


class WrongCallback(Callback):
    """A method with other arguments than those it is called with."""

    def on_epoch_end(self, epoch: str, logs: int) -> None: ...  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
