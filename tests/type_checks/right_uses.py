"""Programs that type checkers must accept. Nobody runs them: mypy and pyright read them."""

from typing import Any, assert_type

import numpy as np

import fastnn
from fastnn import (
    Adam,
    DataError,
    MissingExtraError,
    MLPClassifier,
    MLPRegressor,
    ModelFileError,
    Perceptron,
    Sequential,
)
from fastnn.losses import Loss


def train_an_estimator(X: np.ndarray, y: list[str]) -> list[float]:
    """Estimators return themselves from `fit`, so calls can be chained."""
    model = MLPClassifier((64, 32), solver="sgd", alpha=1e-3, n_threads=2, dtype="float32")
    assert_type(model.fit(X, y), MLPClassifier)
    model.partial_fit(X, y, classes=["a", "b"]).partial_fit(X, y)
    probabilities: np.ndarray = model.predict_proba(X)
    print(probabilities.shape, model.score(X, y), model.n_iter_)
    copied = MLPClassifier.from_sklearn(model.to_sklearn(), n_threads=1)
    assert_type(copied, MLPClassifier)
    return model.loss_curve_


def take_any_table(frame: Any, matrix: Any) -> None:
    """Lists, frames and sparse matrices are tables too."""
    model = MLPRegressor("poisson", hidden_layer_sizes=(8,), batch_size="auto", random_state=0)
    model.fit([[1.0, 2.0], [3.0, 4.0]], [1, 2], sample_weight=[1.0, 0.5])
    model.fit(frame, frame["y"]).predict(matrix)
    model.set_params(alpha=0.1).fit(matrix, [1.0])


def use_the_modules() -> Loss:
    """Modules are attributes of the package, without imports of their own."""
    fastnn.schedules.get("cosine")(0, 10)
    fastnn.callbacks.EarlyStopping("loss")
    assert_type(fastnn.optimizers.Adam(), Adam)
    assert_type(fastnn.warmup(["float32", np.float64], verbose=True), dict[str, float])
    print(fastnn.__version__, fastnn.get_config()["cpu"])
    return fastnn.losses.get("mae")


def learn_a_line(X: list[list[int]]) -> bool:
    """The perceptron takes weights of any kind and gives arrays."""
    neuron = Perceptron(2, weights=[1, 1], threshold=1.5, seed=np.random.default_rng(0))
    neuron.weights = [0.5, 0.5]
    assert_type(neuron.fit(X, [0, 0, 0, 1], epochs=3), Perceptron)
    return bool(neuron.weights.any()) and neuron.converged_


def handle_errors() -> None:
    """The package's errors are exported at its top."""
    try:
        Sequential.load("net.safetensors")
        fastnn.datasets.load("digits")
    except (ModelFileError, DataError) as error:
        print(error)
    except MissingExtraError as error:
        print(error.name)
