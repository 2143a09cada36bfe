"""Activations of their input: their numbers, what they refuse, and the addresses of kernels."""

import copy
import json

import numpy as np
import pytest

from fastnn import (
    ELU,
    GELU,
    SELU,
    Activation,
    Affine,
    HardTanh,
    Mish,
    Sequential,
    SiLU,
    Softplus,
    layers,
)
from fastnn.engine.plan import Purpose
from fastnn.kernels import reference
from fastnn.kernels.activations import ACTIVATIONS, backward_kernel, forward_kernel
from fastnn.training import Trainer

LAYERS = [
    ELU(),
    ELU(alpha=1.5),
    SELU(),
    GELU(),
    GELU(approximate="tanh"),
    SiLU(),
    Softplus(),
    Mish(),
    HardTanh(),
]
LOOPS = ["elu", "elu", "selu", "gelu", "gelu_tanh", "silu", "softplus", "mish", "hard_tanh"]

with_layers = pytest.mark.parametrize("layer", LAYERS, ids=repr)
with_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


def square():
    return Activation(lambda z: z * z, lambda z: 2 * z)


@with_layers
@with_dtypes
def test_a_layer_is_the_plain_loop(layer, dtype, rng):
    layer, loop = copy.deepcopy(layer), LOOPS[LAYERS.index(layer)]
    settings = (layer.parameter,) if loop == "elu" else ()
    tolerance = 32 * np.finfo(dtype).eps
    for shape in [(0, 3), (3, 0), (1, 1), (3, 7), (9, 49)]:
        x, dout = rng.normal(size=(2, *shape)).astype(dtype)
        out, dx = np.full(shape, np.nan, dtype), np.full(shape, np.nan, dtype)
        getattr(reference, f"{loop}_forward")(out, x, *settings)
        getattr(reference, f"{loop}_backward")(dx, dout, x, *settings)
        actual = layer.forward(x)
        assert actual.dtype == dtype
        np.testing.assert_allclose(actual, out, rtol=tolerance)
        actual[...] = np.nan  # the layer keeps no view of it
        for _ in range(2):
            np.testing.assert_allclose(layer.backward(dout), dx, rtol=0, atol=4 * tolerance)
        assert layer.params == layer.grads == {}


@pytest.mark.parametrize("layer", [*LAYERS, square()], ids=repr)
def test_gradients_are_central_differences(layer, rng):
    x, dout = rng.normal(size=(2, 4, 5))
    x[(np.abs(x) < 1e-3) | (np.abs(np.abs(x) - 1) < 1e-3)] = 0.5  # away from the corners
    h = 1e-5
    slope = (layer.forward(x + h) - layer.forward(x - h)) / (2 * h)
    layer.forward(x, training=True)
    np.testing.assert_allclose(layer.backward(dout), dout * slope, atol=1e-8)


@pytest.mark.peers
@with_layers
@with_dtypes
def test_values_and_gradients_are_those_of_torch(layer, dtype, rng):
    torch = pytest.importorskip("torch")
    twin = {
        ELU: lambda: torch.nn.ELU(layer.alpha),
        SELU: torch.nn.SELU,
        GELU: lambda: torch.nn.GELU(approximate=layer.approximate),
        SiLU: torch.nn.SiLU,
        Softplus: lambda: torch.nn.Softplus(threshold=50),  # a straight line above it
        Mish: torch.nn.Mish,
        HardTanh: torch.nn.Hardtanh,
    }[type(layer)]()
    x, dout = 3 * rng.normal(size=(2, 9, 49)).astype(dtype)
    x[0, :5] = [-1, 0, 1, -30, 30]
    z = torch.tensor(x, requires_grad=True)
    out = twin(z)
    out.backward(torch.tensor(dout))
    tolerance = 64 * np.finfo(dtype).eps
    np.testing.assert_allclose(layer.forward(x), out.detach().numpy(), rtol=0, atol=tolerance)
    np.testing.assert_allclose(layer.backward(dout), z.grad.numpy(), rtol=0, atol=4 * tolerance)


def test_integers_become_float64_and_any_layout_is_taken(rng):
    layer = SiLU()
    assert layer.forward([[1, -2], [3, 0]]).dtype == np.float64
    x, dout = rng.normal(size=(2, 9, 17)).astype("f4")
    out, dx = layer.forward(x), layer.backward(dout)
    np.testing.assert_array_equal(layer.forward(np.asfortranarray(x)), out)
    np.testing.assert_array_equal(layer.forward(x.astype(">f4")), out)
    assert layer.backward(dout[::-1][::-1].astype("f8")).dtype == np.float32
    np.testing.assert_array_equal(layer.backward(np.asfortranarray(dout)), dx)


def test_wrong_arguments_are_named():
    layer = ELU()
    with pytest.raises(RuntimeError, match=r"^backward needs a forward pass before it$"):
        layer.backward(np.ones((1, 3)))
    with pytest.raises(ValueError, match=r"^x must be a numeric array with 2 dimensions, got"):
        layer.forward(np.ones(3))
    layer.forward(np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"^dout must have the shape \(2, 3\) of x, got \(3, 2\)$"):
        layer.backward(np.ones((3, 2)))
    for alpha in (-0.1, np.nan, np.inf, "1", None, True):
        with pytest.raises(ValueError, match=r"^alpha must be a finite number >= 0, got "):
            ELU(alpha)
    for approximate in ("erf", None, True, ["tanh"]):
        with pytest.raises(ValueError, match=r'^approximate must be "none" or "tanh", got '):
            GELU(approximate)


@with_layers
def test_a_configuration_survives_json(layer):
    config = json.loads(json.dumps(layer.config()))
    again = layers.from_config(type(layer).__name__, config)
    assert repr(again) == repr(layer)
    assert again.activation == layer.activation
    assert (again.parameter, again.numbers) == (layer.parameter, layer.numbers)


PURPOSES = {"training": Purpose(training=True), "prediction": Purpose()}
with_purposes = pytest.mark.parametrize("purpose", PURPOSES.values(), ids=PURPOSES)


@with_layers
@with_purposes
def test_a_net_is_told_the_function_its_number_and_the_addresses(layer, purpose):
    row = ACTIVATIONS[layer.activation]
    assert layer.activation == LOOPS[LAYERS.index(layer)]
    assert not row.from_result
    assert type(layer.parameter) is float
    assert layer.numbers == ()
    kernels = layer.kernels(np.dtype("float32"), purpose)
    assert kernels == layer.kernels(np.dtype("float32"), purpose)
    others = layer.kernels(np.dtype("float64"), purpose)
    assert others.forward != kernels.forward
    assert others.backward != kernels.backward
    assert kernels.forward == forward_kernel(row, np.dtype("float32"), True) != 0
    assert kernels.backward == backward_kernel(row, np.dtype("float32"), True) != 0
    assert kernels == kernels._replace(forward_in_place=0, sums={}, gradients={})
    assert not (kernels.whole_batch or kernels.is_product)


# --- functions of users ---------------------------------------------------------------------------


@with_dtypes
def test_an_activation_applies_the_functions_it_is_given(dtype, rng):
    layer = square()
    x, dout = rng.integers(-5, 6, (2, 9, 17)).astype(dtype)
    out = layer.forward(x)
    assert out.dtype == dtype
    np.testing.assert_array_equal(out, x * x)
    np.testing.assert_array_equal(layer.backward(dout), dout * 2 * x)


def test_an_activation_cannot_be_saved_but_shown():
    layer = square()
    with pytest.raises(ValueError, match=r"^an Activation cannot be saved, for a file cannot hold"):
        layer.config()
    assert "Activation" not in layers.LAYERS
    assert repr(layer) == "Activation(<lambda>, <lambda>)"


def test_an_activation_needs_two_functions():
    with pytest.raises(ValueError, match=r"^f must be a function of one number, got 'relu'$"):
        Activation("relu", np.sign)
    with pytest.raises(ValueError, match=r"^df must be a function of one number, got None$"):
        Activation(abs, None)
    with pytest.raises(TypeError, match="df"):
        Activation(abs)


def test_a_function_that_numba_cannot_compile_is_refused_when_it_is_used():
    layer = Activation(lambda z: z.nothing, lambda z: z)
    with pytest.raises(ValueError, match=r"^f must be a function of one float64 that Numba can"):
        layer.forward(np.ones((1, 1)))


def test_a_copy_of_an_activation_needs_no_second_compilation():
    layer, dtype = square(), np.dtype("float64")
    for purpose in PURPOSES.values():
        kernels = layer.kernels(dtype, purpose)
        assert copy.deepcopy(layer).kernels(dtype, purpose) == kernels
        assert square().kernels(dtype, purpose) != kernels  # of two other functions


def test_a_trainer_without_data_says_so_after_a_function_did_not_compile():
    net = Sequential([Affine(2, 1), Activation(lambda z: undefined(z), lambda z: z)])  # noqa: F821
    trainer = Trainer(net, "mse", "sgd", 2)
    with pytest.raises(ValueError, match="f must be a function of one float32"):
        trainer.set_data(np.eye(2), np.ones(2))
    with pytest.raises(RuntimeError, match="run_epoch needs set_data before it"):
        trainer.run_epoch(np.arange(2))
