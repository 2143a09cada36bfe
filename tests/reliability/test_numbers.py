"""Numbers of any size: results are right where they can be, and NaN or infinity shows otherwise.

What is right is written here a second time, as closed forms in NumPy's longest float.
"""

import itertools
import platform

import numpy as np
import pytest
from scipy.special import ndtr

from fastnn import (
    ELU,
    GELU,
    SELU,
    SGD,
    AdaGrad,
    Adam,
    AdamW,
    Affine,
    BatchNorm,
    Dropout,
    HardTanh,
    Identity,
    LayerNorm,
    LeakyReLU,
    Mish,
    NAdam,
    ReLU,
    Residual,
    RMSProp,
    Sequential,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Step,
    Tanh,
    matmul,
)
from fastnn.layers import LAYERS
from fastnn.losses import _BY_NAME as LOSSES_BY_NAME
from fastnn.losses import BinaryCrossEntropy, Huber, Quantile, SoftmaxCrossEntropy
from fastnn.losses import get as loss_of
from fastnn.training import Objective, Trainer

long = np.longdouble
with_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])

# --- activations ----------------------------------------------------------------------------------


def logistic(z):
    return 1 / (1 + np.exp(-z))


def log_one_plus_exp(z):
    return np.maximum(z, 0) + np.log1p(np.exp(-abs(z)))


def normal_cdf(z):
    return long(ndtr(np.float64(z)))


def gelu_tanh(z):
    return z * logistic(2 * np.sqrt(2 / long(np.pi)) * (z + long("0.044715") * z**3))


def mish(z):
    return z * np.tanh(log_one_plus_exp(z))


ALPHA, SCALE = long("1.6732632423543772848"), long("1.0507009873554804934")
ACTIVATIONS = {
    Identity(): lambda z: z,
    ReLU(): lambda z: np.maximum(z, 0),
    LeakyReLU(0.1): lambda z: np.where(z > 0, z, long("0.1") * z),
    Sigmoid(): logistic,
    Tanh(): np.tanh,
    Step(): lambda z: np.heaviside(z, 0),
    ELU(0.5): lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0)) / 2),
    SELU(): lambda z: SCALE * np.where(z > 0, z, ALPHA * np.expm1(np.minimum(z, 0))),
    GELU(): lambda z: z * normal_cdf(z),
    GELU("tanh"): gelu_tanh,
    SiLU(): lambda z: z * logistic(z),
    Softplus(): log_one_plus_exp,
    Mish(): mish,
    HardTanh(): lambda z: np.clip(z, -1, 1),
}
SLOPES_AT_BOTH_ENDS = {
    **dict.fromkeys((ReLU, ELU, SELU, GELU, SiLU, Softplus, Mish), (0, 1)),
    **dict.fromkeys((Sigmoid, Tanh, Step, HardTanh), (0, 0)),
    Identity: (1, 1),
    LeakyReLU: (0.1, 1),
    SELU: (0, SCALE),
}
with_activations = pytest.mark.parametrize("layer", ACTIVATIONS, ids=repr)


def sizes(dtype):
    """Return finite numbers of every size, with both signs."""
    limits = np.finfo(dtype)
    denormal = 1e-40 if dtype == "float32" else 1e-310
    least = limits.smallest_subnormal
    positive = [0, least, denormal, limits.tiny, 1e-30, 0.5, 1, 8, 90, 1e4, 1e30, limits.max]
    return np.array([s * value for value in positive for s in (1, -1)], dtype)


def exact(f, z, dtype):
    """Return f(z), rounded to a type; at infinity the limit of f."""
    far = np.isinf(z)
    with np.errstate(all="ignore"):
        values = f(np.where(far, np.sign(z) * long(1e30), z).astype(long))
        values = np.where(far & (abs(values) > 1e20), values * long(1e4900), values)
        return values.astype(dtype)


def test_every_activation_has_a_closed_form():
    others = {Affine, Dropout, BatchNorm, LayerNorm, Residual, Softmax}
    assert {type(layer) for layer in ACTIVATIONS} | others == set(LAYERS.values())


def results_in_nets(layer, z):
    """Yield what a layer makes of numbers in a net, and in one that sees single rows."""
    net = Sequential([Affine(1, 1, init="zeros"), type(layer)(**layer.config())], dtype=z.dtype)
    net.params[:] = [1, 0]
    yield net.predict(z[:, None])[:, 0]
    yield np.array([net.predict([[value]])[0, 0] for value in z])


@with_activations
@with_dtypes
def test_an_activation_is_right_for_numbers_of_any_size(layer, dtype):
    z = np.append(sizes(dtype), np.array([np.inf, -np.inf], dtype))
    right = exact(ACTIVATIONS[layer], z, dtype)
    limits = np.finfo(dtype)
    rtol, least, tiny = 64 * limits.eps, float(limits.smallest_subnormal), float(limits.tiny)
    out = layer.forward(z[:, None])[:, 0]
    np.testing.assert_allclose(out, right, rtol=rtol, atol=4 * least)
    # Nets may take denormal numbers for zero, and exp(-90) is one, which SiLU multiplies by 90.
    right_of_zero = exact(ACTIVATIONS[layer], np.where(abs(z) < tiny, 0, z).astype(dtype), dtype)
    for out in results_in_nets(layer, z):
        is_right = np.isclose(out, right, rtol=rtol, atol=4 * least)
        assert (is_right | np.isclose(out, right_of_zero, rtol=rtol, atol=90 * tiny)).all()


@with_activations
@with_dtypes
def test_an_activation_shows_nan(layer, dtype):
    z = np.array([1, np.nan, -1, -np.nan], dtype)
    for out in (layer.forward(z[:, None])[:, 0], *results_in_nets(layer, z)):
        np.testing.assert_array_equal(np.isnan(out), np.isnan(z))


@with_activations
@with_dtypes
def test_the_slope_of_an_activation_is_finite_and_right_at_both_ends(layer, dtype):
    z = sizes(dtype)
    layer.forward(z[:, None])
    assert np.isfinite(layer.backward(np.ones((len(z), 1), dtype))).all()
    left, right = SLOPES_AT_BOTH_ENDS[type(layer)]
    for large in (1e4, 1e30, np.finfo(dtype).max, np.inf):
        layer.forward(np.array([[-large], [large]], dtype))
        slopes = layer.backward(np.ones((2, 1), dtype))[:, 0]
        np.testing.assert_allclose(slopes, [left, float(right)], rtol=1e-6)


@with_dtypes
def test_a_softmax_of_huge_numbers_is_right(dtype):
    largest = float(np.finfo(dtype).max)
    for n in (1, 3, 8, 50):
        net = Sequential([Affine(n, n, init="zeros"), Softmax()], dtype=dtype)
        layer = Softmax()
        for value in (0, 1e4, -1e4, 1e30, -1e30, largest, -largest):
            rows = np.full((2, n), value, dtype)
            rows[1, : n // 2] = -largest  # the others share the probability
            right = np.full((2, n), 1 / n)
            if value > -largest and n > 1:
                right[1] = np.where(np.arange(n) < n // 2, 0, 1 / (n - n // 2))
            np.testing.assert_allclose(layer.forward(rows), right, rtol=1e-6)
            for row, expected in zip(rows, right, strict=True):
                net.layers[0].params["b"][:] = row
                np.testing.assert_allclose(net.predict(np.zeros((1, n)))[0], expected, rtol=1e-6)
                np.testing.assert_allclose(net.predict(np.zeros((9, n)))[8], expected, rtol=1e-6)
    rows = np.array([[np.inf, 0], [np.inf, np.inf], [-np.inf, -np.inf], [np.nan, 0]], dtype)
    with np.errstate(invalid="ignore"):
        assert np.isnan(Softmax().forward(rows)).all()  # infinity minus infinity is anything
    np.testing.assert_array_equal(Softmax().forward(np.array([[-np.inf, 5]], dtype)), [[0, 1]])


# --- losses ---------------------------------------------------------------------------------------

N = 3
CLASS = 1  # the two others take turns
LOGITS = [z for z in itertools.product([-1e30, -1e4, 0.0, 1e4, 1e30], repeat=N) if z[0] <= z[2]]
ONE_HOT = np.eye(N, dtype=long)[CLASS]
SHARES = np.array([0.25, 0.25, 0.5], long)
NUMBERS = np.array([0.5, 0.0, 2.0], long)


def softmax_loss(t, smoothing=0.0):
    """Return the closed form of the cross-entropy with a softmax: loss, gradient."""

    def f(z):
        smoothed = (1 - long(smoothing)) * t + long(smoothing) / N
        shifted = z - z.max()
        log_p = shifted - np.log(np.exp(shifted).sum())
        return -(smoothed * log_p).sum(), np.exp(log_p) * smoothed.sum() - smoothed

    return f


def binary_loss(t, smoothing=0.0):
    def f(z):
        smoothed = (1 - long(smoothing)) * t + long(smoothing) / 2
        # max(z, 0) - z t without the difference of two large numbers
        loss = np.where(z > 0, (1 - smoothed) * z, -smoothed * z) + np.log1p(np.exp(-abs(z)))
        return loss.mean(), (logistic(z) - smoothed) / N

    return f


def poisson(z):
    t = NUMBERS
    least = t * np.log(np.where(t > 0, t, 1)) - t
    return (np.exp(z) - t * z + least).sum(), np.exp(z) - t


def quantile(q):
    def f(z):
        e = z - NUMBERS
        slope = np.where(e > 0, 1 - long(q), np.where(e < 0, -long(q), 0))
        return (slope * e).mean(), slope / N

    return f


def huber(z):
    e = z - NUMBERS
    slope = np.clip(e, -1, 1)
    return (slope * (e - slope / 2)).mean(), slope / N


LOSSES = {
    "mse": ("mse", NUMBERS, lambda z: (((z - NUMBERS) ** 2).mean(), 2 * (z - NUMBERS) / N)),
    "squared error": (
        *("squared_error", NUMBERS),
        lambda z: (((z - NUMBERS) ** 2).sum() / 2, z - NUMBERS),
    ),
    "mae": ("mae", NUMBERS, lambda z: (abs(z - NUMBERS).mean(), np.sign(z - NUMBERS) / N)),
    "huber": (Huber(1.0), NUMBERS, huber),
    "quantile": (Quantile(0.75), NUMBERS, quantile(0.75)),
    "poisson": ("poisson", NUMBERS, poisson),
    "binary": ("binary_cross_entropy", SHARES, binary_loss(SHARES)),
    "binary of a sure target": ("binary_cross_entropy", ONE_HOT, binary_loss(ONE_HOT)),
    "smoothed binary": (
        *(BinaryCrossEntropy(label_smoothing=0.25), ONE_HOT),
        binary_loss(ONE_HOT, 0.25),
    ),
    "label": ("softmax_cross_entropy", CLASS, softmax_loss(ONE_HOT)),
    "smoothed label": (
        *(SoftmaxCrossEntropy(label_smoothing=0.25), CLASS),
        softmax_loss(ONE_HOT, 0.25),
    ),
    "probabilities": ("softmax_cross_entropy", SHARES, softmax_loss(SHARES)),
    "smoothed probabilities": (
        *(SoftmaxCrossEntropy(label_smoothing=0.25), SHARES),
        softmax_loss(SHARES, 0.25),
    ),
}


def one_row(loss, target, dtype):
    """Return a net whose output is its bias, its data, and the objective."""
    net = Sequential([Affine(1, N, init="zeros")], dtype=dtype)
    X, y = np.zeros((1, 1)), np.array([target], int if np.ndim(target) == 0 else float)
    return net, X, y, Objective(net, loss, X, y)


def test_every_loss_has_a_closed_form():
    kinds = {type(loss_of(loss)) for loss, _, _ in LOSSES.values()}
    assert kinds == set(LOSSES_BY_NAME.values())


@pytest.mark.parametrize("name", LOSSES)
@with_dtypes
def test_losses_and_gradients_of_logits_of_any_size_are_right(name, dtype):
    loss, target, closed_form = LOSSES[name]
    net, X, y, objective = one_row(loss, target, dtype)
    eps = np.finfo(dtype).eps
    for z in LOGITS:
        value, gradient = objective(np.append(np.zeros(N), z))
        with np.errstate(all="ignore"):
            right, slopes = closed_form(np.array(z, dtype).astype(long))
            in_type, in_double = right.astype(dtype), right.astype("float64")
            slopes = slopes.astype(dtype)
        assert not np.isnan(value), z
        np.testing.assert_allclose(value, in_type, rtol=16 * eps, err_msg=str(z))
        np.testing.assert_allclose(
            gradient[N:], slopes, rtol=16 * eps, atol=4 * eps, err_msg=str(z)
        )
        evaluated = net.loss(X, y, loss)
        np.testing.assert_allclose(evaluated, in_double, rtol=eps, atol=1e-15, err_msg=str(z))


@pytest.mark.parametrize("size", [1e4, 1e30])
@with_dtypes
def test_the_cross_entropy_of_a_wrong_class_is_the_distance_of_the_logits(size, dtype):
    _, _, _, objective = one_row("softmax_cross_entropy", CLASS, dtype)
    loss, gradient = objective(np.array([0, 0, 0, size, 0, 0]))
    assert loss == np.dtype(dtype).type(size)
    np.testing.assert_array_equal(gradient, [0, 0, 0, 1, -1, 0])


@pytest.mark.parametrize("name", LOSSES)
@with_dtypes
def test_a_loss_shows_nan(name, dtype):
    loss, target, _ = LOSSES[name]
    net, X, y, objective = one_row(loss, target, dtype)
    for place in range(N):
        z = np.zeros(N)
        z[place] = np.nan
        value, gradient = objective(np.append(np.zeros(N), z))
        assert np.isnan(value) and np.isnan(gradient[N + place])
        assert np.isnan(net.loss(X, y, loss))


# --- normalisation --------------------------------------------------------------------------------


def step_on(layers, X, dtype):
    """Train a net for one step; return its loss against zeros, and the net."""
    net = Sequential(layers, seed=0, dtype=dtype)
    trainer = Trainer(net, "squared_error", SGD(1e-3), len(X), n_threads=1)
    trainer.set_data(X, np.zeros((len(X), net.n_outputs)))
    loss, _ = trainer.run_epoch(np.arange(len(X)))
    trainer.sync()
    return loss, net


@pytest.mark.parametrize("value", [0, 7, 2024, 1e5, 1.7e9, -1.7e9, 1e18, 1e-30, 1e-40])
@with_dtypes
def test_a_constant_column_becomes_zero(value, dtype):
    for n, columns in ((2, 1), (7, 30), (100, 53)):
        X = np.full((n, columns), value, dtype)
        layer = BatchNorm(columns, dtype=dtype)
        np.testing.assert_array_equal(layer.forward(X, training=True), 0)
        assert (layer.backward(np.ones_like(X)) == 0).all()
        loss, net = step_on([BatchNorm(columns), Affine(columns, 1)], X, dtype)
        assert loss == 0  # of the output zero
        buffers = net.layers[0].buffers
        np.testing.assert_allclose(buffers["running_mean"], X[0] / 10, rtol=1e-6, atol=1e-41)
        np.testing.assert_allclose(buffers["running_variance"], 0.9, rtol=1e-6)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="others have no need to")
@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("n_rows", [1, 40])
def test_nets_take_denormal_numbers_for_zero_and_the_caller_does_not(n_rows, n_threads):
    """Else the momentum of a dead neuron stays denormal for ever, and slows every step."""
    net = Sequential([Affine(8, 8)], seed=0)
    net.params[:] = 1e-40
    np.testing.assert_array_equal(net.predict(np.ones((n_rows, 8)), n_threads=n_threads), 0)
    trainer = Trainer(net, "mse", SGD(1e-3, 0.9), n_rows, n_threads=n_threads)
    trainer.use_all_threads = True
    trainer.set_data(np.ones((n_rows, 8)), np.zeros((n_rows, 8)))
    assert trainer.run_epoch(np.arange(n_rows)) == (0, 0)
    trainer.sync()
    np.testing.assert_array_equal(net.params, 0)
    # What is no net keeps all its digits, on this thread as on all others.
    tiny = np.full((40, 40), 1e-20, np.float32)
    products = [matmul(tiny, tiny, n_threads=n) for n in (1, 2)]
    np.testing.assert_allclose(products, np.full((2, 40, 40), 4e-39), rtol=1e-5)


@pytest.mark.parametrize("value", [0, 7, 2024, 1e5, 1.7e9, -1.7e9, 1e18, 1e-30, 1e-40])
@with_dtypes
def test_a_constant_row_becomes_zero(value, dtype):
    for n in (1, 3, 30, 53):
        X = np.full((9, n), value, dtype)
        layer = LayerNorm(n, dtype=dtype)
        np.testing.assert_array_equal(layer.forward(X), 0)
        assert np.isfinite(layer.backward(np.ones_like(X))).all()
        net = Sequential([LayerNorm(n), Affine(n, 2)], seed=0, dtype=dtype)
        np.testing.assert_array_equal(net.predict(X), 0)
        np.testing.assert_array_equal(net.predict(X[:1]), 0)
        assert step_on([LayerNorm(n), Affine(n, 2)], X, dtype)[0] == 0


@pytest.mark.parametrize("size", [1e-30, 1e-3, 1, 1e9, 1e18])
@with_dtypes
def test_normalised_numbers_of_any_size_are_right(size, dtype):
    X = (np.random.default_rng(0).normal(size=(64, 30)) * size).astype(dtype)
    for layer, axis in ((BatchNorm(30, dtype=dtype), 0), (LayerNorm(30, dtype=dtype), 1)):
        x = X.astype(long)
        deviation = x - x.mean(axis=axis, keepdims=True)
        variance = (deviation**2).mean(axis=axis, keepdims=True)
        right = (deviation / np.sqrt(variance + long("1e-5"))).astype(dtype)
        eps = np.finfo(dtype).eps
        out = layer.forward(X, training=True)
        scale = abs(right).max()
        np.testing.assert_allclose(out / scale, right / scale, rtol=0, atol=32 * eps)
        last = Affine(30, 1)
        last.initialize(np.random.default_rng(1), None)
        w = last.params["w"].astype(dtype).astype("float64")
        loss, _ = step_on([type(layer)(30), last], X, dtype)
        expected = 0.5 * ((right.astype("float64") @ w) ** 2).mean()
        np.testing.assert_allclose(loss, expected, rtol=1e3 * eps, atol=1e-45)


def test_a_variance_that_overflows_shows():
    X = (np.random.default_rng(0).normal(size=(64, 30)) * 1e20).astype("float32")
    with np.errstate(over="ignore"):
        assert np.isnan(BatchNorm(30).forward(X, training=True)).all()
        assert np.isnan(LayerNorm(30).forward(X)).all()
    assert np.isnan(Sequential([LayerNorm(30), Affine(30, 1)], seed=0).predict(X)).all()
    for layer in (BatchNorm(30), LayerNorm(30)):
        loss, net = step_on([layer, Affine(30, 1)], X, "float32")
        assert np.isnan(loss) and np.isfinite(net.memory).all()


# --- optimizers -----------------------------------------------------------------------------------

RATE = 0.125
SQUARING = [
    RMSProp(RATE),
    Adam(RATE),
    AdamW(RATE, weight_decay=0),
    AdaGrad(RATE),
    NAdam(RATE),
]


class Pull:
    """Two weights, the first of which is pulled by a gradient of any size, at a loss of 1 / 2."""

    def __init__(self, optimizer, dtype):
        self.net = Sequential([Affine(2, 1, init="zeros", bias=False)], dtype=dtype)
        self.trainer = Trainer(self.net, "squared_error", optimizer, 1)

    def __call__(self, first, second):
        """Make an update with these gradients; return the weights."""
        self.trainer.sync()
        w = self.net.layers[0].params["w"][:, 0]
        self.trainer.set_data([[first, second]], [w.astype("float64") @ [first, second] - 1])
        self.trainer.run_epoch([0])
        self.trainer.sync()
        return w.copy()


@pytest.mark.parametrize("size", [1e30, 1e-30])
@with_dtypes
def test_the_step_of_gradient_descent_is_as_large_as_the_gradient(size, dtype):
    for optimizer, factor in (
        (SGD(RATE), 1),
        (SGD(RATE, momentum=0.5), 1),
        (SGD(RATE, momentum=0.5, nesterov=True), 1.5),
    ):
        b = Pull(optimizer, dtype)(size, -1.0)
        np.testing.assert_allclose(b, [-factor * RATE * size, factor * RATE], rtol=1e-6)


@pytest.mark.parametrize("optimizer", [SGD(RATE), SGD(RATE, momentum=0.9), *SQUARING], ids=repr)
@with_dtypes
def test_no_gradient_is_no_step(optimizer, dtype):
    pull = Pull(optimizer, dtype)
    for _ in range(3):
        np.testing.assert_array_equal(pull(0, 0), 0)


@pytest.mark.parametrize("optimizer", SQUARING, ids=repr)
def test_a_gradient_whose_square_overflows_stops_its_own_parameter_alone(optimizer):
    pull = Pull(optimizer, "float32")
    first = pull(1e30, 1.0)
    assert first[0] == 0 and first[1] < -RATE / 2
    squares = pull.trainer.state_vectors()[-1][0][0][:, 0]
    assert np.isinf(squares[0]) and np.isfinite(squares[1])  # to be seen there
    for _ in range(5):
        b = pull(1.0, 1.0)
        assert b[0] == 0 and b[1] < first[1]
    # Twice the digits of the exponent, or a limit, and all is well.
    assert Pull(optimizer, "float64")(1e30, 1.0)[0] < -RATE / 2
    limited = type(optimizer)(RATE, clip_value=1e6)
    assert -4 * RATE < Pull(limited, "float32")(1e30, 1.0)[0] < -RATE / 2


@pytest.mark.parametrize("optimizer", SQUARING, ids=repr)
@with_dtypes
def test_a_gradient_whose_square_vanishes_is_divided_by_epsilon(optimizer, dtype):
    b = Pull(optimizer, dtype)(1e-30, 1.0)
    # The mean of the squares is nothing beside epsilon: what is left is linear in the gradient.
    assert b[1] < -RATE / 2
    assert -1.5 * RATE * 1e-30 / optimizer.epsilon <= b[0] < 0


@pytest.mark.parametrize("size", [1e30, 1e19])
@with_dtypes
def test_the_norm_of_a_gradient_whose_squares_overflow_float32_is_limited(size, dtype):
    b = Pull(SGD(RATE, clip_norm=5.0), dtype)(3 * size, -4 * size)
    np.testing.assert_allclose(b, [-3 * RATE, 4 * RATE], rtol=1e-6)


@pytest.mark.parametrize("size", [1e150, 1e154, 1e160, 1e250, 4e307])
def test_the_norm_of_a_gradient_whose_squares_overflow_float64_is_limited(size):
    b = Pull(SGD(RATE, clip_norm=5.0), "float64")(3 * size, -4 * size)
    np.testing.assert_allclose(b, [-3 * RATE, 4 * RATE], rtol=1e-15)
    b = Pull(SGD(RATE, clip_norm=5.0), "float64")(size, 1.0)
    np.testing.assert_allclose(b, [-5 * RATE, -5 * RATE / size], rtol=1e-15, atol=3e-308)


@pytest.mark.parametrize("size", [1.0, 1e160, 1e300])
def test_the_limited_norm_is_that_of_all_parameters_on_any_number_of_threads(size, rng):
    X, y = size * rng.normal(size=(16, 70)), rng.normal(size=(16, 30))
    exact = X.T.astype(np.longdouble) @ (np.sign(y) / (16 * 30))
    scale = np.abs(exact).max()
    norm = scale * np.sqrt(((exact / scale) ** 2).sum())
    expected = exact * min(1, 0.125 / norm)
    steps = []
    for n_threads in (1, 2):
        net = Sequential([Affine(70, 30, init="zeros", bias=False)], dtype="float64")
        trainer = Trainer(net, "mae", SGD(1.0, clip_norm=0.125), 16, n_threads=n_threads)
        trainer.use_all_threads = True
        trainer.set_data(X, y)
        trainer.run_epoch(np.arange(16))
        trainer.sync()
        steps.append(net.layers[0].params["w"].copy())
    np.testing.assert_array_equal(*steps)
    np.testing.assert_allclose(steps[0], expected.astype(float), rtol=1e-12, atol=1e-15)


def test_a_gradient_that_is_infinite_is_not_limited_but_found():
    net = Sequential([Affine(2, 1, init="zeros")], dtype="float64")
    trainer = Trainer(net, "mse", SGD(RATE, clip_norm=5.0), 1)
    trainer.set_data([[1e300, 1.0]], [1e10])
    trainer.run_epoch([0])
    assert trainer.divergence.what == "the weights became NaN or infinite"
