"""Layers used one by one: forward, backward, parameters, and what they refuse."""

import json

import numpy as np
import pytest

from fastnn import (
    Affine,
    Identity,
    LeakyReLU,
    ReLU,
    Sigmoid,
    Softmax,
    Step,
    Tanh,
    initializers,
    layers,
)
from fastnn.kernels import reference

# Layer -> the name of its plain loops, and their further arguments.
ACTIVATIONS = {
    Identity: ("identity",),
    ReLU: ("relu",),
    LeakyReLU: ("leaky_relu", 0.01),
    Sigmoid: ("logistic",),
    Tanh: ("tanh",),
    Softmax: ("softmax",),
    Step: ("step",),
}
SIZES = [(1, 1, 1), (2, 7, 9), (8, 16, 48), (9, 17, 49), (31, 1, 13)]

with_activations = pytest.mark.parametrize("layer_class", ACTIVATIONS, ids=lambda c: c.__name__)
with_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])
with_sizes = pytest.mark.parametrize("sizes", SIZES, ids=str)


def integers(rng, *shape):
    return rng.integers(-5, 6, shape)


def awkward(array):
    """Return the same numbers strided, read-only and, where they are floats, byte-swapped."""
    view = np.zeros([2 * n for n in array.shape], array.dtype.newbyteorder())[::2, ::2]
    view[...] = array
    view.flags.writeable = False
    return view


def numeric_gradient(function, x):
    """Differentiate a number with respect to an array, in place, by central differences."""
    gradient, h = np.empty_like(x), 1e-5
    for place in np.ndindex(x.shape):
        value = x[place]
        x[place] = value + h
        up = function()
        x[place] = value - h
        gradient[place] = (up - function()) / (2 * h)
        x[place] = value
    return gradient


# --- Affine ---------------------------------------------------------------------------------------


@with_sizes
@with_dtypes
def test_an_affine_layer_of_integers_is_exact(dtype, sizes, rng):
    n_rows, n_inputs, n_outputs = sizes
    layer = Affine(n_inputs, n_outputs, dtype=dtype)
    w, b = integers(rng, n_inputs, n_outputs), integers(rng, n_outputs)
    layer.params["w"][...], layer.params["b"][...] = w, b
    x, dout = integers(rng, n_rows, n_inputs), integers(rng, n_rows, n_outputs)
    for given_x, given_dout in [
        (x, dout),
        (awkward(x), awkward(dout)),
        (x.tolist(), dout.tolist()),
    ]:
        out = layer.forward(given_x)
        assert out.dtype == dtype
        assert (out == x @ w + b).all()
        dx = layer.backward(given_dout)
        assert dx.dtype == dtype
        assert (dx == dout @ w.T).all()
        assert (layer.grads["w"] == x.T @ dout).all()
        assert (layer.grads["b"] == dout.sum(axis=0)).all()


@with_dtypes
def test_an_affine_layer_is_the_plain_loops(dtype, rng):
    layer = Affine(31, 17, seed=0, dtype=dtype)
    layer.params["b"][...] = rng.normal(size=17)
    x = rng.normal(size=(9, 31)).astype(dtype)
    dout = rng.normal(size=(9, 17)).astype(dtype)
    w, b = layer.params["w"], layer.params["b"]
    out, dx, dw, db = (np.full(s, np.nan, dtype) for s in [(9, 17), (9, 31), (31, 17), (17,)])
    reference.affine_forward(out, x, w, b)
    reference.affine_backward_input(dx, dout, w)
    reference.affine_backward_weight(dw, db, x, dout)
    tolerance = 64 * np.finfo(dtype).eps
    np.testing.assert_allclose(layer.forward(x), out, rtol=0, atol=tolerance)
    np.testing.assert_allclose(layer.backward(dout), dx, rtol=0, atol=tolerance)
    np.testing.assert_allclose(layer.grads["w"], dw, rtol=0, atol=tolerance)
    np.testing.assert_allclose(layer.grads["b"], db, rtol=0, atol=tolerance)


@pytest.mark.parametrize("bias", [True, False])
def test_gradients_of_an_affine_layer_are_central_differences(bias, rng):
    layer = Affine(5, 3, bias=bias, seed=0, dtype="float64")
    x, dout = rng.normal(size=(4, 5)), rng.normal(size=(4, 3))

    def total():
        return (layer.forward(x) * dout).sum()

    layer.forward(x)
    gradients = {"x": layer.backward(dout), **layer.grads}
    assert set(layer.grads) == set(layer.params) == ({"w", "b"} if bias else {"w"})
    for name, values in {"x": x, **layer.params}.items():
        np.testing.assert_allclose(gradients[name], numeric_gradient(total, values), atol=1e-8)


def test_a_batch_without_rows_passes_through():
    layer = Affine(3, 2, seed=0)
    assert layer.forward(np.empty((0, 3))).shape == (0, 2)
    assert layer.backward(np.empty((0, 2))).shape == (0, 3)
    np.testing.assert_array_equal(layer.grads["w"], np.zeros((3, 2)))
    np.testing.assert_array_equal(layer.grads["b"], np.zeros(2))


def test_nan_in_the_input_is_shown_not_refused():
    layer = Affine(2, 3, seed=0)
    out = layer.forward([[1, 2], [np.nan, 2], [3, 4]])
    np.testing.assert_array_equal(np.isnan(out), [[False] * 3, [True] * 3, [False] * 3])


def test_parameters_changed_in_place_take_effect_at_once():
    layer = Affine(2, 1, seed=0)
    layer.params["w"][...] = [[1], [2]]
    layer.params["b"] += 5
    assert layer.forward([[1, 1]]).tolist() == [[8.0]]
    assert layer.params["w"] is layer.params["w"]


def test_backward_uses_the_last_input():
    layer = Affine(2, 1, seed=0)
    layer.forward([[1, 2]])
    layer.forward([[3, 4], [5, 6]])
    layer.backward([[1], [1]])
    assert layer.grads["w"].ravel().tolist() == [8.0, 10.0]


def test_forward_does_not_write_to_its_input(rng):
    x = rng.normal(size=(4, 3)).astype("f4")
    for layer in [Affine(3, 3, seed=0), *(layer_class() for layer_class in ACTIVATIONS)]:
        before = x.copy()
        out = layer.forward(x)
        dout = np.ones_like(out)
        dx = layer.backward(dout)
        assert not np.shares_memory(out, x)
        assert not np.shares_memory(dx, dout)
        np.testing.assert_array_equal(x, before)
        np.testing.assert_array_equal(dout, 1)


def test_parameters_are_drawn_by_the_seed():
    w = [Affine(9, 7, seed=seed).params["w"] for seed in (3, 3, 4)]
    np.testing.assert_array_equal(w[0], w[1])
    assert (w[0] != w[2]).any()
    drawn = Affine(9, 7, seed=np.random.default_rng(3)).params["w"]
    np.testing.assert_array_equal(w[0], drawn)
    assert (Affine(9, 7).params["w"] != Affine(9, 7).params["w"]).any()


@with_dtypes
@pytest.mark.parametrize("init", list(initializers._BY_NAME))
def test_weights_are_drawn_as_asked_and_biases_are_zero(dtype, init):
    layer = Affine(9, 7, init=init, seed=5, dtype=dtype)
    expected = initializers.get(init)(np.random.default_rng(5), 9, 7, np.dtype(dtype))
    np.testing.assert_array_equal(layer.params["w"], expected)
    np.testing.assert_array_equal(layer.params["b"], np.zeros(7))
    assert layer.params["w"].dtype == layer.params["b"].dtype == dtype


@pytest.mark.parametrize(
    ("before", "init"),
    [(ReLU(), "he_uniform"), (LeakyReLU(), "he_uniform"), (Tanh(), "glorot_uniform"), (None, None)],
)
def test_auto_looks_at_the_activation_that_follows(before, init):
    layer = Affine(9, 7)
    assert layer.params["w"].any()
    layer.initialize(np.random.default_rng(5), before)
    expected = Affine(9, 7, init=init or "glorot_uniform", seed=5).params["w"]
    np.testing.assert_array_equal(layer.params["w"], expected)


def test_a_new_layer_may_be_initialized_by_hand():
    layer = Affine(9, 7)
    layer.initialize(np.random.default_rng(5))
    np.testing.assert_array_equal(layer.params["w"], Affine(9, 7, seed=5).params["w"])


def test_bound_parameters_are_views_that_keep_their_values():
    layer = Affine(3, 2, seed=0)
    w = layer.params["w"].copy()
    vector = np.full(layer.n_params + 4, np.nan, "f4")
    layer.bind(vector, vector[:0])
    np.testing.assert_array_equal(vector[:6].reshape(3, 2), w)
    assert np.isnan(vector[8:]).all()
    vector[:8] = np.arange(8)
    np.testing.assert_array_equal(layer.params["w"], np.arange(6).reshape(3, 2))
    np.testing.assert_array_equal(layer.params["b"], [6, 7])


def test_the_number_of_parameters_counts_the_bias():
    assert Affine(3, 2).n_params == 8
    assert Affine(3, 2, bias=False).n_params == 6
    assert list(Affine(3, 2, bias=False, seed=0).params) == ["w"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_inputs": 0}, r"^n_inputs must be an integer >= 1, got 0$"),
        ({"n_inputs": 2.0}, r"^n_inputs must be an integer >= 1, got 2.0$"),
        ({"n_outputs": -1}, r"^n_outputs must be an integer >= 1, got -1$"),
        ({"n_outputs": True}, r"^n_outputs must be an integer >= 1, got True$"),
        ({"n_outputs": "3"}, r"^n_outputs must be an integer >= 1, got '3'$"),
        ({"init": "he"}, r"^init.* must be one of .*he_uniform.*got 'he'$"),
        ({"init": None}, r"^init.* must be one of .*got None$"),
        ({"dtype": "float16"}, r"^dtype must be 'float32' or 'float64', got 'float16'$"),
        ({"dtype": None}, r"^dtype must be 'float32' or 'float64', got None$"),
        ({"dtype": ">f4"}, r"^dtype must be 'float32' or 'float64', got '>f4'$"),
    ],
)
def test_an_affine_layer_names_a_wrong_argument(arguments, message):
    with pytest.raises(ValueError, match=message):
        Affine(**{"n_inputs": 2, "n_outputs": 3, **arguments})


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (
            np.ones(2),
            r"^x must have 2 dimensions \(rows, columns\), got 1; reshape it to \(1, 2\)$",
        ),
        (np.ones((1, 1, 2)), r"^x must have 2 dimensions \(rows, columns\), got 3$"),
        (np.ones((4, 3)), r"^x must have 2 columns, got 3$"),
        ([["a", "b"]], r"^x must be numeric, got dtype <U1$"),
        (np.ones((4, 2), complex), r"^x must be numeric, got dtype complex128$"),
        (np.ones((4, 2), object), r"^x must be numeric, got dtype object$"),
    ],
)
def test_an_affine_layer_names_a_wrong_input(x, message):
    with pytest.raises(ValueError, match=message):
        Affine(2, 3, seed=0).forward(x)


def test_an_affine_layer_names_a_wrong_gradient():
    layer = Affine(2, 3, seed=0)
    with pytest.raises(RuntimeError, match=r"^backward needs a forward pass before it$"):
        layer.backward(np.ones((1, 3)))
    layer.forward(np.ones((4, 2)))
    with pytest.raises(ValueError, match=r"^dout must have 3 columns, got 2$"):
        layer.backward(np.ones((4, 2)))
    with pytest.raises(ValueError, match=r"^dout must have 4 rows as x had, got 5$"):
        layer.backward(np.ones((5, 3)))


# --- activations ----------------------------------------------------------------------------------


@with_activations
@with_dtypes
def test_an_activation_layer_is_the_plain_loop(layer_class, dtype, rng):
    name, *arguments = ACTIVATIONS[layer_class]
    eps = np.finfo(dtype).eps
    for shape in [(1, 1), (3, 7), (8, 48), (9, 49), (1, 97)]:
        layer = layer_class()
        x, dout = rng.normal(size=(2, *shape)).astype(dtype)
        out, dx = np.full(shape, np.nan, dtype), np.full(shape, np.nan, dtype)
        getattr(reference, f"{name}_forward")(out, x, *arguments)
        actual = layer.forward(x)
        assert actual.dtype == dtype
        np.testing.assert_allclose(actual, out, rtol=(8 + shape[1]) * eps)
        getattr(reference, f"{name}_backward")(dx, dout, actual, *arguments)
        scale = np.abs(dout).max() * (shape[1] if layer_class is Softmax else 1)
        np.testing.assert_allclose(layer.backward(dout), dx, rtol=8 * eps, atol=8 * eps * scale)
        assert layer.params == layer.grads == {}


@with_activations
@with_dtypes
def test_activation_layers_take_any_layout_and_keep_the_type(layer_class, dtype, rng):
    x, dout = rng.normal(size=(2, 9, 17)).astype(dtype)
    layer = layer_class()
    out, dx = layer.forward(x), layer.backward(dout)
    for arrange in (awkward, np.asfortranarray, lambda array: array[::-1, ::-1][::-1, ::-1]):
        actual = layer.forward(arrange(x))
        assert actual.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(actual, out)
        actual = layer.backward(arrange(dout))
        assert actual.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(actual, dx)


@with_activations
def test_integers_become_float64(layer_class):
    out = layer_class().forward([[1, -2], [3, 0]])
    assert out.dtype == np.float64
    np.testing.assert_array_equal(out, layer_class().forward([[1.0, -2.0], [3.0, 0.0]]))


@with_activations
def test_a_gradient_of_another_type_is_converted(layer_class, rng):
    x, dout = rng.normal(size=(2, 3, 4)).astype("f4")
    layer = layer_class()
    layer.forward(x)
    expected = layer.backward(dout)
    dx = layer.backward(dout.astype("f8"))
    assert dx.dtype == np.float32
    np.testing.assert_array_equal(dx, expected)
    np.testing.assert_array_equal(layer.backward(np.zeros((3, 4), int)), np.zeros((3, 4)))


@with_activations
def test_a_result_may_be_changed_before_backward(layer_class, rng):
    x, dout = rng.normal(size=(2, 3, 4))
    layer = layer_class()
    layer.forward(x)
    expected = layer.backward(dout)
    out = layer.forward(x)
    out[...] = np.nan
    np.testing.assert_array_equal(layer.backward(dout), expected)
    np.testing.assert_array_equal(layer.backward(dout), expected)  # again


@pytest.mark.parametrize(
    "layer", [Identity(), ReLU(), LeakyReLU(0.3), Sigmoid(), Tanh(), Softmax()], ids=repr
)
def test_gradients_of_an_activation_layer_are_central_differences(layer, rng):
    x, dout = rng.normal(size=(4, 5)), rng.normal(size=(4, 5))
    x[np.abs(x) < 1e-3] = 1  # away from the kinks
    layer.forward(x)
    dx = layer.backward(dout)
    expected = numeric_gradient(lambda: (layer.forward(x) * dout).sum(), x)
    np.testing.assert_allclose(dx, expected, atol=1e-8)


def test_a_step_lets_no_gradient_pass():
    layer = Step()
    assert layer.forward([[-1, 0, 2]]).tolist() == [[0, 0, 1]]
    assert layer.backward([[1, 1, 1]]).tolist() == [[0, 0, 0]]


@with_activations
def test_batches_without_rows_or_columns_pass_through(layer_class):
    for shape in [(0, 3), (3, 0), (0, 0)]:
        layer = layer_class()
        assert layer.forward(np.empty(shape)).shape == shape
        assert layer.backward(np.empty(shape)).shape == shape


@with_activations
def test_an_activation_layer_names_a_wrong_argument(layer_class):
    layer = layer_class()
    with pytest.raises(RuntimeError, match=r"^backward needs a forward pass before it$"):
        layer.backward(np.ones((1, 3)))
    for x, got in [
        (np.ones(3), r"shape \(3,\)"),
        (1.0, r"shape \(\)"),
        ([["a"]], "dtype <U1"),
        (np.ones((2, 3), complex), "dtype complex128"),
    ]:
        with pytest.raises(ValueError, match=f"^x must be a numeric array with 2 dim.*{got}"):
            layer.forward(x)
    layer.forward(np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"^dout must be a numeric array with 2 dimensions"):
        layer.backward(np.ones(3))
    with pytest.raises(ValueError, match=r"^dout must have the shape \(2, 3\) of x, got \(3, 2\)$"):
        layer.backward(np.ones((3, 2)))


@pytest.mark.parametrize("slope", [-0.1, np.nan, np.inf, "0.1", None, True])
def test_a_wrong_slope_is_named(slope):
    with pytest.raises(ValueError, match=r"^negative_slope must be a finite number >= 0, got "):
        LeakyReLU(slope)


# --- configuration --------------------------------------------------------------------------------


def test_a_layer_is_described_by_its_constructor():
    layer = Affine(3, 2, bias=False, init="he_normal", seed=0)
    assert repr(layer) == "Affine(n_inputs=3, n_outputs=2, bias=False, init='he_normal')"
    assert repr(LeakyReLU(0.25)) == "LeakyReLU(negative_slope=0.25)"
    assert [repr(layer_class()) for layer_class in (ReLU, Tanh)] == ["ReLU()", "Tanh()"]


def test_a_configuration_survives_json():
    for layer in [Affine(np.int64(3), 2, bias=False, init="zeros"), LeakyReLU(np.float32(0.25))]:
        config = json.loads(json.dumps(layer.config()))
        again = layers.from_config(type(layer).__name__, config)
        assert repr(again) == repr(layer)


def test_layers_are_found_by_their_class_name():
    for name, layer_class in layers.LAYERS.items():
        config = {
            "Affine": {"n_inputs": 2, "n_outputs": 3},
            "BatchNorm": {"n_features": 2},
            "LayerNorm": {"n_features": 2},
            "Residual": {"layers": [["ReLU", {}]]},
        }.get(name, {})
        assert type(layers.from_config(name, config)) is layer_class
        assert layer_class.__name__ == name
    names = ", ".join(layers.LAYERS)
    with pytest.raises(ValueError, match=rf"^layer must be one of {names}, got 'Dense'$"):
        layers.from_config("Dense", {})
