"""Programs that type checkers must accept. Nobody runs them: mypy and pyright read them."""

from typing import Any, assert_type

import numpy as np

import fastnn
from fastnn import (
    GELU,
    SGD,
    Activation,
    Adam,
    Affine,
    BatchNorm,
    DataError,
    Dropout,
    MissingExtraError,
    MLPClassifier,
    MLPRegressor,
    ModelFileError,
    Perceptron,
    Regularization,
    Residual,
    Sequential,
)
from fastnn.initializers import orthogonal
from fastnn.layers import LAYERS, Layer, ReLU, layers_from
from fastnn.losses import Loss
from fastnn.optimizers import Optimizer


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


def hold_a_model(path: str, frame: Any) -> None:
    """Models are loaded by what their files say they are."""
    model = fastnn.load(path)
    if isinstance(model, fastnn.TableModel):
        labels: np.ndarray = model.predict(frame)
        print(labels, model.predict_proba({"size": [1.0]}).shape, model.classes_, model.columns)
        assert_type(model.score(frame), float)
        model = model.net
    assert_type(model, Sequential)
    print(model.summary().n_params, model.summary())
    history = model.fit([[1.0]], [1.0], loss="mse")
    assert_type(history["loss"], list[float])
    fastnn.inspection.plot_history(history)


def look_inside_an_estimator(model: MLPClassifier, frame: Any, y: Any) -> None:
    """Functions of a net take estimators."""
    assert_type(model.net_, Sequential)
    fastnn.inspection.saliency(model, frame)
    fastnn.inspection.plot_decision_boundary(model, frame, y)
    fastnn.inspection.permutation_importance(model, frame, y)


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


def use_layers_alone(x: np.ndarray) -> list[Layer]:
    """A layer takes lists and arrays, and gives arrays."""
    layer = Affine(2, 3, init="he_normal", regularization=Regularization(l2=0.1), seed=0)
    assert_type(layer.forward([[1.0, 2.0]]), np.ndarray)
    assert_type(layer.backward(x), np.ndarray)
    assert_type(layer.params, dict[str, np.ndarray])
    assert_type(layer.grads["w"], np.ndarray)
    print(layer.n_params, layer.initialized, layer.config()["bias"])
    block = Residual([BatchNorm(3, dtype=np.float64), GELU("tanh"), Affine(3, 3, init=orthogonal)])
    softsign = Activation(lambda z: z / (1 + abs(z)), lambda z: 1 / (1 + abs(z)) ** 2)
    assert_type(ReLU().forward(x, training=True), np.ndarray)
    assert_type(LAYERS["ReLU"], type[Layer])
    return [layer, block, softsign, Dropout(0.1, seed=1), *layers_from([["ReLU", {}]])]


class Double(Layer):
    """A layer of the user."""

    def forward(self, x: Any, training: bool = False) -> np.ndarray:
        return 2 * np.asarray(x)

    def backward(self, dout: Any) -> np.ndarray:
        self.grads = {}
        return 2 * np.asarray(dout)


def choose_an_optimizer(name: str) -> Optimizer:
    """Optimizers are found by name, and have their hyperparameters as attributes."""
    chosen = fastnn.optimizers.get(name)
    assert_type(chosen.learning_rate, float)
    assert_type(chosen.hyperparameters, np.ndarray)
    return SGD(0.1, momentum=0.9, clip_norm=5.0) if chosen.clip_value is None else chosen


def draw_weights() -> np.ndarray:
    """Initializers are functions, and have names."""
    fastnn.set_num_threads(None)
    assert_type(fastnn.get_num_threads(), int)
    draw = fastnn.initializers.get(fastnn.initializers.default_for("relu"))
    assert_type(orthogonal(np.random.default_rng(0), 3, 2, "float64", gain=2), np.ndarray)
    return draw(np.random.default_rng(0), 3, 2, np.float32)


def handle_errors() -> None:
    """The package's errors are exported at its top."""
    try:
        Sequential.load("net.safetensors")
        fastnn.datasets.load("digits")
    except (ModelFileError, DataError) as error:
        print(error)
    except MissingExtraError as error:
        print(error.name)
