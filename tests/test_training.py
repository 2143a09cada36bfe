"""The compiled training step against a plain NumPy run, and what the training loop promises."""

import dataclasses

import numpy as np
import pytest
from reference_step import ReferenceTrainer

from fastnn import (
    SGD,
    AdaGrad,
    Adam,
    AdamW,
    Affine,
    BatchNorm,
    Callback,
    EarlyStopping,
    Identity,
    LayerNorm,
    LeakyReLU,
    NAdam,
    Regularization,
    ReLU,
    Residual,
    RMSProp,
    Sequential,
    Sigmoid,
    Softmax,
    Step,
    Tanh,
)
from fastnn.errors import MissingExtraError
from fastnn.kernels.panels import panel_columns
from fastnn.kernels.products import K_BLOCK
from fastnn.kernels.updates import GRADIENT_ALONE
from fastnn.losses import BinaryCrossEntropy, Huber, Quantile, SoftmaxCrossEntropy
from fastnn.optimizers import Optimizer
from fastnn.training import Trainer

LAYERS = {
    "identity": Identity,
    "relu": ReLU,
    "leaky_relu": LeakyReLU,
    "logistic": Sigmoid,
    "tanh": Tanh,
    "softmax": Softmax,
    "step": Step,
}

OPTIMIZERS = [
    (SGD(0.1), {"name": "sgd", "learning_rate": 0.1}),
    (SGD(0.1, momentum=0.9), {"name": "sgd", "learning_rate": 0.1, "momentum": 0.9}),
    (
        SGD(0.1, momentum=0.9, nesterov=True),
        {"name": "sgd", "learning_rate": 0.1, "momentum": 0.9, "nesterov": True},
    ),
    (RMSProp(0.01), {"name": "rmsprop", "learning_rate": 0.01}),
    (Adam(0.01), {"name": "adam", "learning_rate": 0.01}),
    (AdamW(0.01), {"name": "adamw", "learning_rate": 0.01}),
    (AdaGrad(0.1), {"name": "adagrad", "learning_rate": 0.1}),
    (NAdam(0.01), {"name": "nadam", "learning_rate": 0.01}),
]


def make_net(sizes, activations, dtype="float64", seed=0):
    layers = []
    for n_inputs, n_outputs, activation in zip(sizes[:-1], sizes[1:], activations, strict=True):
        layers.append(Affine(n_inputs, n_outputs))
        if activation != "identity":
            layers.append(LAYERS[activation]())
    net = Sequential(layers, seed=seed, dtype=dtype)
    rng = np.random.default_rng(seed)
    net.params[...] = rng.normal(0, 0.5, net.n_params)  # biases too
    return net


def make_data(n, n_inputs, n_outputs, loss, seed=1):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, n_inputs))
    loss = loss.removeprefix("smoothed_")
    if loss == "softmax_cross_entropy":
        return X, rng.integers(0, n_outputs, n)
    if loss == "softmax_dense":
        return X, rng.dirichlet(np.ones(n_outputs), n)
    if loss.startswith("binary"):
        return X, rng.integers(0, 2, (n, n_outputs)).astype(float)
    return X, rng.normal(size=(n, n_outputs))


def assert_same_training(
    sizes,
    activations,
    loss="softmax_cross_entropy",
    optimizer=OPTIMIZERS[4],
    n=37,
    batch_size=16,
    alpha=0.0,
    dtype="float64",
    n_threads=1,
    epochs=2,
    tolerance=1e-10,
    regularization=None,
):
    """Train the same net by the package and by the plain run; compare all that comes out."""
    net = make_net(sizes, activations, dtype)
    X, y = make_data(n, sizes[0], sizes[-1], loss)
    our_loss = {
        "binary_cross_entropy_sum": BinaryCrossEntropy(reduction="sum"),
        "softmax_dense": "softmax_cross_entropy",
        "huber": Huber(0.5),
        "quantile": Quantile(np.linspace(0.1, 0.8, sizes[-1])),
        "smoothed_binary_cross_entropy": BinaryCrossEntropy(label_smoothing=0.2),
        "smoothed_softmax_cross_entropy": SoftmaxCrossEntropy(label_smoothing=0.2),
        "smoothed_softmax_dense": SoftmaxCrossEntropy(label_smoothing=0.2),
    }.get(loss, loss)
    reference_loss = loss.replace("softmax_dense", "softmax_cross_entropy")
    expected = ReferenceTrainer(
        sizes,
        activations,
        reference_loss,
        optimizer[1],
        net.weights(),
        X,
        y,
        batch_size,
        alpha,
        regularization,
    )
    trainer = Trainer(
        net,
        our_loss,
        optimizer[0],
        batch_size,
        alpha,
        n_threads,
        Regularization.of(regularization),
    )
    trainer.use_all_threads = True  # also where so little work is not worth it
    trainer.set_data(X, y)
    for epoch in range(epochs):
        order = np.random.default_rng(epoch).permutation(n)
        losses = trainer.run_epoch(order)
        np.testing.assert_allclose(losses, expected.run_epoch(order), rtol=tolerance)
    trainer.sync()
    for (w, b), (w_expected, b_expected) in zip(net.weights(), expected.params, strict=True):
        np.testing.assert_allclose(w, w_expected, rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(b, b_expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda pair: repr(pair[0]))
@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_every_optimizer_makes_the_textbook_update(optimizer, alpha):
    assert_same_training([5, 9, 3], ["relu", "identity"], optimizer=optimizer, alpha=alpha)


def limited(optimizer, **limits):
    """Return an optimizer and the settings of its twin, with limits of the gradient."""
    return dataclasses.replace(optimizer[0], **limits), optimizer[1] | limits


LIMITS = [{"clip_value": 0.02}, {"clip_norm": 0.1}, {"clip_value": 0.05, "clip_norm": 0.1}]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda pair: repr(pair[0]))
@pytest.mark.parametrize("limits", LIMITS, ids=lambda limits: "+".join(limits))
def test_every_optimizer_may_limit_the_gradient(optimizer, limits):
    # The limits are far below the gradients, which contain the penalty; the norm is that of all.
    optimizer = limited(optimizer, **limits)
    assert_same_training([5, 9, 3], ["relu", "identity"], optimizer=optimizer, alpha=0.3)


@pytest.mark.parametrize("limits", LIMITS, ids=lambda limits: "+".join(limits))
@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_limits_of_the_gradient_around_the_edges_of_tiles(limits, n_threads, dtype):
    assert_same_training(
        [47, 25, 53, 3],
        ["relu", "tanh", "identity"],
        optimizer=limited(OPTIMIZERS[1], **limits),
        dtype=dtype,
        n_threads=n_threads,
        tolerance=1e-10 if dtype == "float64" else 2e-4,
    )


def test_the_norm_is_over_all_parameters_with_biases_and_penalties():
    whole, limited, free = gradients_with({}, {"clip_norm": 0.5}, {"clip_norm": 1e6})
    norm = np.linalg.norm(whole)
    assert norm > 1
    np.testing.assert_allclose(limited, whole * (0.5 / norm), rtol=1e-11)
    np.testing.assert_array_equal(free, whole)  # nothing is scaled that is short enough


def test_elements_are_limited_before_the_norm():
    whole, limited, both = gradients_with(
        {}, {"clip_value": 0.1}, {"clip_value": 0.1, "clip_norm": 0.2}
    )
    assert np.abs(whole).max() > 0.2
    assert np.abs(whole).min() < 0.1
    expected = np.clip(whole, -0.1, 0.1)
    np.testing.assert_allclose(limited, expected, rtol=1e-11)
    assert np.linalg.norm(expected) > 0.2
    np.testing.assert_allclose(both, expected * (0.2 / np.linalg.norm(expected)), rtol=1e-11)


def make_mixed_net():
    """Return a net with scales and shifts, with and without biases, of odd widths."""
    block = Residual([LayerNorm(19), Tanh(), Affine(19, 19)])
    layers = [Affine(5, 19, bias=False), BatchNorm(19), ReLU(), block, Affine(19, 3)]
    return Sequential(layers, seed=0, dtype="float64")


@pytest.mark.parametrize("n_threads", [1, 2])
def test_limits_of_the_gradient_hold_for_scales_and_shifts_too(n_threads):
    limits = {"clip_value": 0.3, "clip_norm": 0.4}
    whole, by_value, by_norm, both = gradients_with(
        {},
        {"clip_value": 0.3},
        {"clip_norm": 0.4},
        limits,
        make=make_mixed_net,
        n_threads=n_threads,
    )
    assert np.linalg.norm(whole) > 1
    expected = np.clip(whole, -0.3, 0.3)
    assert (expected != whole).any()
    np.testing.assert_allclose(by_value, expected, rtol=1e-9, atol=1e-13)
    norms = np.linalg.norm(whole), np.linalg.norm(expected)
    np.testing.assert_allclose(by_norm, whole * (0.4 / norms[0]), rtol=1e-9, atol=1e-13)
    np.testing.assert_allclose(both, expected * (0.4 / norms[1]), rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("limits", LIMITS, ids=lambda limits: "+".join(limits))
def test_sparse_samples_are_limited_like_dense_ones(limits):
    sparse = pytest.importorskip("scipy.sparse")
    X, y = make_data(30, 29, 3, "softmax_cross_entropy")
    X[np.random.default_rng(0).random(X.shape) < 0.8] = 0
    held = Regularization(l1=0.01, l2=0.1, weight_decay=0.1, max_norm=1.0)
    params = []
    for samples in (X, sparse.csr_array(X)):
        net = make_net([29, 25, 3], ["tanh", "identity"])
        trainer = Trainer(
            net, "softmax_cross_entropy", NAdam(0.01, **limits), 8, 0.1, 2, regularization=held
        )
        trainer.use_all_threads = True
        trainer.set_data(samples, y)
        for _ in range(3):
            trainer.run_epoch(np.arange(30))
        trainer.sync()
        params.append(net.params)
    np.testing.assert_array_equal(params[0], params[1])


def make_plain_net():
    return make_net([5, 9, 3], ["tanh", "identity"])


def gradients_with(*all_limits, make=make_plain_net, n_threads=1):
    """Return the steps of a net from the same place, each with other limits."""
    X, y = make_data(30, 5, 3, "mse")
    gradients = []
    for limits in all_limits:
        net = make()
        before = net.params.copy()
        trainer = Trainer(net, "mse", SGD(1.0, **limits), 30, 9.0, n_threads)
        trainer.use_all_threads = True
        trainer.set_data(X, y)
        trainer.run_epoch(np.arange(30))
        trainer.sync()
        gradients.append(before - net.params)
    return gradients


@pytest.mark.parametrize("activation", LAYERS)
def test_every_activation_is_differentiated(activation):
    assert_same_training([5, 9, 7, 3], [activation, activation, "identity"])
    assert_same_training([5, 53, 25, 3], [activation, activation, "identity"])


@pytest.mark.parametrize(
    "loss",
    [
        "mse",
        "squared_error",
        "binary_cross_entropy",
        "binary_cross_entropy_sum",
        "softmax_cross_entropy",
        "softmax_dense",
        "mae",
        "huber",
        "quantile",
        "smoothed_binary_cross_entropy",
        "smoothed_softmax_cross_entropy",
        "smoothed_softmax_dense",
    ],
)
@pytest.mark.parametrize("n_outputs", [1, 2, 10, 17, 53])
def test_every_loss_has_the_textbook_gradient(loss, n_outputs):
    assert_same_training([4, 6, n_outputs], ["tanh", "identity"], loss=loss, alpha=0.1)


def test_one_target_is_that_of_each_quantile():
    X, y = make_data(37, 4, 1, "quantile")
    loss = Quantile([0.1, 0.45, 0.8])
    nets = [make_net([4, 6, 3], ["tanh", "identity"]) for _ in range(3)]
    for net, targets in zip(nets, (y, y[:, 0], np.tile(y, 3)), strict=True):
        net.fit(X, targets, loss=loss, epochs=3, batch_size=16)
        assert net.loss(X, targets, loss=loss) == net.loss(X, y, loss=loss)
        np.testing.assert_array_equal(net.params, nets[0].params)


@pytest.mark.parametrize("activation", ["relu", "logistic", "softmax"])
def test_a_regression_may_end_in_an_activation(activation):
    assert_same_training([4, 6, 3], ["tanh", activation], loss="mse")


# Around whole vectors, cells and panels of both dtypes; at every width of vectors there are more.
WIDTHS = {1, 7, 8, 9, 15, 16, 17, 23, 24, 25, 47, 48, 49, 50, 97}
WIDTHS |= {panel_columns(itemsize) + k for itemsize in (4, 8) for k in (-1, 0, 1)}


@pytest.mark.parametrize("width", sorted(WIDTHS))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_widths_around_the_edges_of_tiles(width, dtype):
    assert_same_training(
        [width, width + 1, width, 3],
        ["relu", "tanh", "identity"],
        optimizer=OPTIMIZERS[1],
        dtype=dtype,
        tolerance=1e-10 if dtype == "float64" else 2e-4,
    )


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_sums_longer_than_a_block(activation):
    assert_same_training(
        [K_BLOCK + 1, 2 * K_BLOCK + 5, K_BLOCK - 1, 3],
        [activation, activation, "identity"],
        optimizer=(SGD(1e-3), {"name": "sgd", "learning_rate": 1e-3}),
        alpha=0.1,
        n_threads=2,
    )


@pytest.mark.parametrize(
    "n, batch_size", [(1, 1), (7, 8), (8, 8), (9, 8), (65, 64), (131, 129), (300, 261)]
)
@pytest.mark.parametrize("n_threads", [1, 2])
def test_batches_around_the_edges_of_tiles_and_chunks(n, batch_size, n_threads):
    assert_same_training(
        [6, 10, 3], ["relu", "identity"], n=n, batch_size=batch_size, n_threads=n_threads
    )


def test_activations_that_follow_no_affine_layer_are_trained_through():
    layers = [Tanh(), Affine(4, 6), Sigmoid(), ReLU(), Tanh(), Affine(6, 3), Identity()]
    net = Sequential(layers, seed=0, dtype="float64")
    X, y = make_data(9, 4, 3, "softmax_cross_entropy")
    before = net.params.copy()
    net.forward(X)
    gradient = numeric_gradient(net, X, y)
    take_step(net, X, y, learning_rate=0.5)
    np.testing.assert_allclose(before - net.params, 0.5 * gradient, atol=1e-7)


def numeric_gradient(net, X, y, h=1e-5):
    """Central differences of the mean loss."""
    gradient = np.empty(net.n_params)
    for k in range(net.n_params):
        value = net.params[k]
        net.params[k] = value + h
        up = net.loss(X, y)
        net.params[k] = value - h
        gradient[k] = (up - net.loss(X, y)) / (2 * h)
        net.params[k] = value
    return gradient


def take_step(net, X, y, learning_rate, n_threads=1):
    trainer = Trainer(net, "softmax_cross_entropy", SGD(learning_rate), len(X), 0.0, n_threads)
    trainer.set_data(X, y)
    trainer.run_epoch(np.arange(len(X)))
    trainer.sync()


@pytest.mark.parametrize("activation", [ReLU, LeakyReLU, Sigmoid, Tanh, Softmax])
def test_a_step_follows_the_numeric_gradient(activation):
    net = Sequential([Affine(4, 7), activation(), Affine(7, 3)], seed=3, dtype="float64")
    X, y = make_data(11, 4, 3, "softmax_cross_entropy")
    before = net.params.copy()
    gradient = numeric_gradient(net, X, y)
    take_step(net, X, y, learning_rate=1.0)
    np.testing.assert_allclose(before - net.params, gradient, atol=1e-7)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_layer_by_layer_training_equals_the_compiled_plan(dtype):
    X, y = make_data(40, 20, 5, "softmax_cross_entropy")
    X = X.astype(dtype)
    layers = [Affine(20, 33), ReLU(), Affine(33, 18), Tanh(), Affine(18, 5)]
    net = Sequential(layers, seed=0, dtype=dtype)
    twin = Sequential(
        [Affine(20, 33), ReLU(), Affine(33, 18), Tanh(), Affine(18, 5)], seed=0, dtype=dtype
    )
    np.testing.assert_array_equal(net.params, twin.params)
    rate = 0.5
    for _ in range(3):
        logits = twin.forward(X)
        probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        probabilities[np.arange(40), y] -= 1
        twin.backward(probabilities / 40)
        for layer in twin.layers:
            for name, parameter in layer.params.items():
                parameter -= rate * layer.grads[name]
        take_step(net, X, y, learning_rate=rate, n_threads=2)
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(net.params, twin.params, rtol=tolerance, atol=tolerance)


class GradientOnly(Optimizer):
    """Writes the gradient to the first state vector and leaves the parameters alone."""

    rule = GRADIENT_ALONE


def test_the_gradient_alone_is_that_of_the_layers():
    X, y = make_data(30, 20, 5, "mse")
    net = make_net([20, 33, 18, 5], ["relu", "tanh", "identity"])
    before = net.params.copy()
    trainer = Trainer(net, "squared_error", GradientOnly(1.0), 30)
    trainer.set_data(X, y)
    trainer.run_epoch(np.arange(30))
    trainer.sync()
    np.testing.assert_array_equal(net.params, before)
    net.backward((net.forward(X) - y) / 30)
    (gradients,) = trainer.state_vectors()
    for layer, (dw, db) in zip(net.layers[::2], gradients, strict=True):
        np.testing.assert_allclose(dw, layer.grads["w"], rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(db, layer.grads["b"], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", [optimizer for optimizer, _ in OPTIMIZERS])
def test_transposed_weights_follow_the_weights_and_padding_stays_zero(dtype, optimizer):
    X, y = make_data(50, 30, 3, "softmax_cross_entropy")
    net = make_net([30, 25, 53, 3], ["logistic", "relu", "identity"], dtype)
    held = Regularization(l1=0.01, l2=0.1, weight_decay=0.1, max_norm=1.5)
    optimizer = dataclasses.replace(optimizer, clip_value=0.1, clip_norm=0.5)
    trainer = Trainer(net, "softmax_cross_entropy", optimizer, 16, 0.1, regularization=held)
    trainer.set_data(X, y)
    trainer.run_epoch(np.arange(50))
    trainer.sync()
    memory = trainer.memory
    params, transposed = np.zeros_like(memory.params), np.zeros_like(memory.transposed)
    net.layout.pack(net.memory, params, transposed)
    np.testing.assert_array_equal(memory.params, params)
    np.testing.assert_array_equal(memory.transposed, transposed)
    assert (transposed != 0).sum() > 1000


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_predict_and_forward_have_the_same_bits(dtype):
    layers = [Affine(20, 33), ReLU(), Affine(33, 50), LeakyReLU(), Affine(50, 5), Softmax()]
    net = Sequential(layers, seed=0, dtype=dtype)
    X = np.random.default_rng(0).normal(size=(301, 20))
    np.testing.assert_array_equal(net.predict(X), net.forward(X))


def test_a_seed_decides_everything():
    X, y = make_data(100, 6, 3, "softmax_cross_entropy")
    nets = [Sequential([Affine(6, 9), ReLU(), Affine(9, 3)], seed=s) for s in (5, 5, 6)]
    for net in nets:
        net.fit(X, y, epochs=3, batch_size=16)
    np.testing.assert_array_equal(nets[0].params, nets[1].params)
    assert (nets[0].params != nets[2].params).any()


def test_without_shuffling_the_order_is_that_of_the_data():
    X, y = make_data(50, 6, 3, "softmax_cross_entropy")
    net, twin = (Sequential([Affine(6, 3)], seed=0) for _ in range(2))
    net.fit(X, y, epochs=2, batch_size=16, shuffle=False)
    trainer = Trainer(twin, "softmax_cross_entropy", "adam", 16)
    trainer.set_data(X, y)
    for _ in range(2):
        trainer.run_epoch(np.arange(50))
    trainer.sync()
    np.testing.assert_array_equal(net.params, twin.params)


def test_a_linear_schedule_lowers_the_learning_rate_by_equal_steps():
    X, y = make_data(50, 6, 3, "softmax_cross_entropy")
    net, twin = (Sequential([Affine(6, 3)], seed=0) for _ in range(2))
    net.fit(X, y, epochs=4, optimizer=SGD(0.8), shuffle=False, schedule="linear")
    trainer = Trainer(twin, "softmax_cross_entropy", SGD(0.8), 128)
    trainer.set_data(X, y)
    for rate in (0.8, 0.6, 0.4, 0.2):
        trainer.learning_rate = rate
        trainer.run_epoch(np.arange(50))
    trainer.sync()
    np.testing.assert_allclose(net.params, twin.params, rtol=1e-6)


def test_history_has_one_entry_for_each_epoch():
    X, y = make_data(50, 6, 3, "softmax_cross_entropy")
    net = Sequential([Affine(6, 3)], seed=0)
    history = net.fit(X, y, epochs=4, validation_data=(X, y))
    assert len(history) == 4
    for name in ("loss", "val_loss", "val_accuracy", "seconds", "samples_per_second"):
        assert len(history[name]) == 4
    assert history["val_loss"][-1] == pytest.approx(net.loss(X, y))
    assert history["val_accuracy"][-1] == (net.predict(X).argmax(axis=1) == y).mean()


def test_validation_of_a_regression_reports_r2():
    X, y = make_data(50, 6, 2, "mse")
    net = Sequential([Affine(6, 2)], seed=0)
    history = net.fit(X, y, loss="mse", epochs=1, validation_data=(X, y))
    out = net.predict(X)
    expected = 1 - ((out - y) ** 2).sum() / ((y - y.mean(axis=0)) ** 2).sum()
    assert history["val_r2"][0] == pytest.approx(expected, rel=1e-4)


def test_early_stopping_restores_the_best_epoch():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 5)), rng.integers(0, 2, 40)  # nothing to learn: it overfits
    X_val, y_val = rng.normal(size=(40, 5)), rng.integers(0, 2, 40)
    net = Sequential([Affine(5, 50), ReLU(), Affine(50, 2)], seed=0)
    stopping = EarlyStopping(patience=3)
    history = net.fit(
        X, y, epochs=500, optimizer=Adam(0.01), validation_data=(X_val, y_val), callbacks=[stopping]
    )
    assert len(history) < 500
    assert len(history) == stopping.best_epoch + 1 + 3
    assert net.loss(X_val, y_val) == pytest.approx(min(history["val_loss"]))


class Recorder(Callback):
    def __init__(self):
        self.events = []

    def on_fit_begin(self, net, info):
        self.events.append(("begin", info))

    def on_progress(self, epoch, samples_done, mean_loss):
        self.events.append(("progress", epoch, samples_done))

    def on_epoch_end(self, epoch, logs):
        self.events.append(("epoch", epoch))

    def on_fit_end(self, history):
        self.events.append(("end", len(history)))


def test_callbacks_are_called_in_order():
    X, y = make_data(50, 6, 3, "softmax_cross_entropy")
    recorder = Recorder()
    Sequential([Affine(6, 3)], seed=0).fit(X, y, epochs=2, batch_size=20, callbacks=[recorder])
    kinds = [event[0] for event in recorder.events]
    assert kinds[0] == "begin" and kinds[-1] == "end"
    assert recorder.events[0][1]["steps_per_epoch"] == 3
    assert [event for event in recorder.events if event[0] == "epoch"] == [
        ("epoch", 0),
        ("epoch", 1),
    ]
    assert ("progress", 1, 50) in recorder.events


def test_a_callback_may_change_the_parameters():
    class Reset(Callback):
        def on_fit_begin(self, net, info):
            self.net = net

        def on_epoch_end(self, epoch, logs):
            self.net.params[...] = 0

    net = Sequential([Affine(2, 2)], seed=0)
    net.fit(np.eye(2), [0, 1], epochs=3, callbacks=[Reset()])
    # The changes of the last epoch are kept as well: nothing is trained after it.
    np.testing.assert_array_equal(net.params, 0)


def test_an_interrupt_leaves_a_consistent_net_and_ends_the_callbacks():
    class Interrupt(Recorder):
        def on_epoch_end(self, epoch, logs):
            raise KeyboardInterrupt

    X, y = make_data(50, 6, 3, "softmax_cross_entropy")
    net = Sequential([Affine(6, 3)], seed=0)
    before = net.params.copy()
    interrupt = Interrupt()
    with pytest.raises(KeyboardInterrupt):
        net.fit(X, y, epochs=3, callbacks=[interrupt])
    assert interrupt.events[-1] == ("end", 1)
    assert (net.params != before).any()
    assert np.isfinite(net.params).all()


def test_one_hot_targets_train_like_labels():
    X, y = make_data(50, 6, 3, "softmax_cross_entropy")
    nets = [Sequential([Affine(6, 3)], seed=0, dtype="float64") for _ in range(2)]
    nets[0].fit(X, y, epochs=3)
    nets[1].fit(X, np.eye(3)[y], epochs=3)
    np.testing.assert_allclose(nets[0].params, nets[1].params, rtol=1e-12)


def test_layers_without_bias_keep_no_bias():
    net = Sequential([Affine(6, 9, bias=False), ReLU(), Affine(9, 3, bias=False)], seed=0)
    X, y = make_data(50, 6, 3, "softmax_cross_entropy")
    net.fit(X, y, epochs=3)
    assert net.n_params == 6 * 9 + 9 * 3
    w = [layer.params["w"] for layer in (net.layers[0], net.layers[2])]
    expected = np.maximum(X.astype(np.float32) @ w[0], 0) @ w[1]
    np.testing.assert_allclose(net.predict(X), expected, rtol=1e-4, atol=1e-5)


def test_verbose_shows_the_figures_of_the_training(capsys):
    X, y = make_data(50, 6, 3, "softmax_cross_entropy")
    net = Sequential([Affine(6, 3)], seed=0)
    net.fit(X, y, epochs=2, validation_data=(X, y), verbose=1)
    shown = capsys.readouterr().err
    for part in ("epoch 2/2", "loss ", "val accuracy ", "samples/s"):
        assert part in shown


def test_verbose_prints_lines_where_rich_is_missing(capsys, monkeypatch):
    def missing(module, extra):
        raise MissingExtraError("rich is needed for this")

    monkeypatch.setattr("fastnn.callbacks.require", missing)
    X, y = make_data(50, 6, 3, "softmax_cross_entropy")
    Sequential([Affine(6, 3)], seed=0).fit(X, y, epochs=2, verbose=1)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]


@pytest.mark.parametrize(
    ("n", "batch_size", "epochs"), [(4, 4, 2000), (100, 16, 286), (1000, 1, 10), (2001, 10, 10)]
)
def test_without_a_number_of_epochs_small_data_get_as_many_updates_as_they_need(
    n, batch_size, epochs, rng
):
    seen = []

    class Count(Callback):
        def on_fit_begin(self, net, info):
            seen.append(info["epochs"])

        def on_epoch_end(self, epoch, logs):
            return True

    X = rng.normal(size=(n, 6))
    net = Sequential([Affine(6, 3)], seed=0)
    history = net.fit(X, X[:, 0] > 0, batch_size=batch_size, callbacks=[Count()])
    assert len(history) == 1
    net.fit(X, X[:, 0] > 0, batch_size=batch_size, callbacks=[Count()], epochs=3)
    assert seen == [epochs, 3]
    steps = -(-n // batch_size)
    assert epochs == max(10, -(-2000 // steps))
