"""The reference loops, against closed forms, central differences and scikit-learn."""

import itertools
import math

import numpy as np
import pytest

from fastnn.kernels import reference
from tests.reference_step import ReferenceTrainer, train

# Types with memory layouts: not the full product, which would compile everything twice as often.
CASES = [("float32", "C"), ("float64", "C"), ("float32", "strided"), ("float64", "F")]
SIZES = [(1, 1, 1), (2, 7, 1), (7, 17, 2), (17, 2, 7), (1, 7, 17)]  # B, I, O

with_cases = pytest.mark.parametrize(("dtype", "layout"), CASES)
with_sizes = pytest.mark.parametrize("sizes", SIZES, ids=str)
with_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


def arrange(array, layout):
    """Copy into a layout: C, F, or every second element of a larger array full of NaN."""
    if layout != "strided":
        return np.array(array, order=layout)
    fill = np.nan if np.issubdtype(array.dtype, np.floating) else 0
    view = np.full([2 * n for n in array.shape], fill, array.dtype)[
        (slice(None, None, 2),) * array.ndim
    ]
    view[...] = array
    return view


def given(array, layout):
    """Copy an input into a layout; strided inputs are read-only too."""
    array = arrange(array, layout)
    array.flags.writeable = layout != "strided"
    return array


def poisoned(shape, dtype, layout="C"):
    """Return an output full of NaN, so that an element left alone is seen."""
    return arrange(np.full(shape, np.nan, dtype), layout)


def integers(rng, *shape):
    """Draw small integers: their sums of products are exact in any order."""
    return rng.integers(-5, 6, shape).astype(float)


def widen(array):
    """Return more digits than the array has, to know the right answer."""
    return array.astype(np.longdouble)


def assert_close(actual, expected, factor=16, scale=None):
    """Compare within `factor` units of rounding of the actual type, relative, or of `scale`."""
    eps = np.finfo(actual.dtype).eps
    allowed = np.abs(widen(np.asarray(expected))) if scale is None else scale
    error = np.abs(widen(actual) - expected)
    assert (error <= factor * eps * allowed).all(), f"off by {np.max(error / (eps * allowed))} eps"


def numerical_gradient(function, x):
    """Differentiate a number with respect to a float64 array, by central differences."""
    h = np.finfo(np.float64).eps ** (1 / 3)
    gradient = np.empty_like(x)
    for index in np.ndindex(x.shape):
        above, below = x.copy(), x.copy()
        above[index] += h
        below[index] -= h
        gradient[index] = (function(above) - function(below)) / (above[index] - below[index])
    return gradient


def assert_is_gradient(actual, function, x):
    """Compare with central differences, whose error is of the order of eps^(2/3) of the value."""
    tolerance = 100 * np.finfo(np.float64).eps ** (2 / 3) * max(1, abs(function(x)))
    np.testing.assert_allclose(
        actual, numerical_gradient(function, x), rtol=tolerance, atol=tolerance
    )


# --- products -------------------------------------------------------------------------------------


@with_sizes
@with_cases
def test_products_of_small_integers_are_exact(dtype, layout, sizes, rng):
    n_rows, n_inputs, n_outputs = sizes
    x, w, b, dout = (
        given(integers(rng, *shape).astype(dtype), layout)
        for shape in [(n_rows, n_inputs), (n_inputs, n_outputs), (n_outputs,), (n_rows, n_outputs)]
    )

    out = poisoned((n_rows, n_outputs), dtype, layout)
    reference.affine_forward(out, x, w, b)
    assert (out == x @ w + b).all()
    assert reference.dot(x[0], w[:, 0]) == (x @ w)[0, 0]

    out = poisoned((n_rows, n_outputs), dtype, layout)
    reference.matmul(out, x, w)
    assert (out == x @ w).all()

    dx = poisoned(x.shape, dtype, layout)
    reference.affine_backward_input(dx, dout, w)
    assert (dx == dout @ w.T).all()

    dw, db = poisoned(w.shape, dtype, layout), poisoned(b.shape, dtype, layout)
    reference.affine_backward_weight(dw, db, x, dout)
    assert (dw == x.T @ dout).all()
    assert (db == dout.sum(axis=0)).all()


@with_sizes
def test_gradients_of_an_affine_layer_are_its_central_differences(sizes, rng):
    n_rows, n_inputs, n_outputs = sizes
    x, w = rng.normal(size=(n_rows, n_inputs)), rng.normal(size=(n_inputs, n_outputs))
    b, dout = rng.normal(size=n_outputs), rng.normal(size=(n_rows, n_outputs))

    def total(x, w, b):
        out = poisoned(dout.shape, "float64")
        reference.affine_forward(out, x, w, b)
        return (out * dout).sum()

    dx, dw, db = (poisoned(array.shape, "float64") for array in (x, w, b))
    reference.affine_backward_input(dx, dout, w)
    reference.affine_backward_weight(dw, db, x, dout)
    assert_is_gradient(dx, lambda x: total(x, w, b), x)
    assert_is_gradient(dw, lambda w: total(x, w, b), w)
    assert_is_gradient(db, lambda b: total(x, w, b), b)


def test_sums_are_kept_in_the_type_of_the_arrays():
    # 2^24 + 1 is no float32: added to one by one, the sum stays where it is.
    x = np.array([[2**24, 1, 1, 1, 1]])
    for dtype, expected in [("float32", 2**24), ("float64", 2**24 + 4)]:
        row, ones, zero = x.astype(dtype), np.ones((5, 1), dtype), np.zeros(1, dtype)
        out, dx, dw, db = (poisoned((1, 1), dtype) for _ in range(4))
        assert reference.dot(row[0], ones[:, 0]) == expected
        reference.matmul(out, row, ones)
        assert out == expected
        reference.affine_forward(out, row, ones, zero)
        assert out == expected
        reference.affine_backward_input(dx, row, np.ascontiguousarray(ones.T))
        assert dx == expected
        reference.affine_backward_weight(dw, db[0], ones, np.ascontiguousarray(row.T))
        assert dw == expected
        assert db == expected


@with_dtypes
def test_an_empty_batch_gives_zero_gradients(dtype):
    x, dout = np.empty((0, 7), dtype), np.empty((0, 2), dtype)
    dw, db = poisoned((7, 2), dtype), poisoned(2, dtype)
    reference.affine_backward_weight(dw, db, x, dout)
    assert (dw == 0).all()
    assert (db == 0).all()


# --- activations ----------------------------------------------------------------------------------

# name -> the closed form, and settings of the activation
ACTIVATIONS = {
    "identity": (lambda z: z, ()),
    "relu": (lambda z: (z + np.abs(z)) / 2, ()),
    "leaky_relu": (lambda z: np.where(z < 0, z / 4, z), (0.25,)),
    "logistic": (lambda z: 1 / (1 + np.exp(-z)), ()),
    "tanh": (lambda z: (np.exp(z) - np.exp(-z)) / (np.exp(z) + np.exp(-z)), ()),
    "softmax": (lambda z: np.exp(z) / np.exp(z).sum(axis=1, keepdims=True), ()),
    "step": (lambda z: (np.sign(z) + 1) // 2, ()),
}
with_activations = pytest.mark.parametrize("name", ACTIVATIONS)


def forward(name, z, out=None):
    out = poisoned(z.shape, z.dtype) if out is None else out
    getattr(reference, f"{name}_forward")(out, z, *ACTIVATIONS[name][1])
    return out


def backward(name, dout, out, dz=None):
    dz = poisoned(out.shape, out.dtype) if dz is None else dz
    getattr(reference, f"{name}_backward")(dz, dout, out, *ACTIVATIONS[name][1])
    return dz


def pre_activations(rng, *shape):
    """Draw numbers that keep away from 0, where some derivatives jump."""
    z = 2 * rng.normal(size=shape)
    return z + np.copysign(0.1, z)


@with_sizes
@with_cases
@with_activations
def test_an_activation_is_its_closed_form(name, dtype, layout, sizes, rng):
    z = given(pre_activations(rng, *sizes[1:]).astype(dtype), layout)
    out = forward(name, z, poisoned(z.shape, dtype, layout))
    # softmax takes e to differences of up to 20, which are rounded.
    assert_close(out, ACTIVATIONS[name][0](widen(z)), factor=32)


@with_sizes
@with_activations
def test_the_backward_pass_of_an_activation_is_its_central_differences(name, sizes, rng):
    z, dout = pre_activations(rng, *sizes[1:]), rng.normal(size=sizes[1:])
    dz = backward(name, dout, forward(name, z))
    assert_is_gradient(dz, lambda z: (forward(name, z) * dout).sum(), z)


@with_sizes
@with_cases
@with_activations
def test_every_layout_and_type_gives_the_same_gradient(name, dtype, layout, sizes, rng):
    z, dout = pre_activations(rng, *sizes[1:]), rng.normal(size=sizes[1:]).astype("float32")
    out = forward(name, z).astype(dtype)
    expected = backward(name, dout.astype("float64"), out.astype("float64"))
    dz = backward(
        name,
        given(dout.astype(dtype), layout),
        given(out, layout),
        poisoned(out.shape, dtype, layout),
    )
    # Differences such as 1 - out^2 and dout - mean are as good as their larger part.
    assert_close(dz, expected, scale=np.abs(dout).max())


@with_dtypes
@with_activations
def test_both_passes_may_work_in_place(name, dtype, rng):
    z, dout = pre_activations(rng, 7, 17).astype(dtype), rng.normal(size=(7, 17)).astype(dtype)
    out = forward(name, z)
    dz = backward(name, dout, out)
    assert (forward(name, z, z) == out).all()
    assert (backward(name, dout, out, dout) == dz).all()


@with_dtypes
@with_activations
def test_nan_passes_through_every_activation(name, dtype):
    z = np.array([[1, np.nan, -1], [np.nan, 1, 2], [0, 1, 2]], dtype)
    nan = np.isnan(forward(name, z))
    if name == "softmax":  # the sum spreads it over its row, and no further
        assert nan.tolist() == [[True] * 3, [True] * 3, [False] * 3]
    else:
        assert (nan == np.isnan(z)).all()


@with_dtypes
def test_huge_pre_activations_are_finite_and_right(dtype):
    z = np.array([[-1000, 0, 1000]], dtype)
    expected = {
        "identity": [-1000, 0, 1000],
        "relu": [0, 0, 1000],
        "leaky_relu": [-250, 0, 1000],
        "logistic": [0, 0.5, 1],
        "tanh": [-1, 0, 1],
        "softmax": [0, 0, 1],
        "step": [0, 0, 1],
    }
    slopes = {
        "identity": [1, 1, 1],
        "relu": [0, 0, 1],
        "leaky_relu": [0.25, 0.25, 1],
        "logistic": [0, 0.25, 0],
        "tanh": [0, 1, 0],
        "softmax": [0, 0, 0],
        "step": [0, 0, 0],
    }
    for name in ACTIVATIONS:
        out = forward(name, z)
        assert out.tolist() == [expected[name]], name
        assert backward(name, np.ones_like(out), out).tolist() == [slopes[name]], name


@with_dtypes
def test_bounded_activations_reach_their_limits_at_infinity(dtype):
    z = np.array([[-np.inf, np.inf]], dtype)
    assert forward("logistic", z).tolist() == [[0, 1]]
    assert forward("tanh", z).tolist() == [[-1, 1]]
    assert forward("step", z).tolist() == [[0, 1]]
    assert forward("softmax", np.array([[-np.inf, 0]], dtype)).tolist() == [[0, 1]]


@with_dtypes
def test_small_results_of_the_logistic_function_keep_their_digits(dtype):
    z = np.array([[-80.0, -40.0, -20.0]], dtype)
    # z is rounded nowhere, so only the exponential's own error remains.
    assert_close(forward("logistic", z), 1 / (1 + np.exp(-widen(z))), factor=4)


@pytest.mark.parametrize(("dtype", "z"), [("float32", -100.0), ("float64", -740.0)])
def test_the_logistic_function_does_not_vanish_before_the_exponential_does(dtype, z):
    # Here e^-z overflows, and 1 / (1 + e^-z) would be 0.
    out = forward("logistic", np.array([[z]], dtype))
    # A subnormal number has few digits: compare to within two of its smallest steps.
    assert out > 0
    assert abs(out[0, 0] - math.exp(z)) <= 2 * float(np.finfo(dtype).smallest_subnormal)


@with_dtypes
def test_softmax_rows_sum_to_one_and_ignore_a_common_shift(dtype, rng):
    z = integers(rng, 7, 17).astype(dtype)
    out = forward("softmax", z)
    assert_close(out.sum(axis=1), np.ones(7))
    assert (forward("softmax", z + dtype_value(dtype, 1024)) == out).all()


def dtype_value(dtype, value):
    return np.dtype(dtype).type(value)


# --- functions of one element, differentiated from their input ------------------------------------


def probability_below(z):
    """P(Z <= z) of a standard normal Z, to the digits of a float64."""
    return np.vectorize(lambda z: math.erfc(-z / math.sqrt(2)) / 2)(z.astype("float64"))


PI = np.longdouble("3.14159265358979323846264338327950288")

# name -> the closed form, its largest error in units of rounding, and settings
ELEMENTWISE = {
    "elu": (lambda z: np.where(z < 0, 1.5 * (np.exp(z) - 1), z), 8, (1.5,)),
    "selu": (
        lambda z: 1.0507009873554805 * np.where(z < 0, 1.6732632423543772 * (np.exp(z) - 1), z),
        8,
        (),
    ),
    # The argument z / sqrt(2) of erfc is rounded, which counts z^2 times.
    "gelu": (lambda z: z * probability_below(z), 80, ()),
    # So is u = sqrt(2 / pi) * (z + ...), which counts 2 u times.
    "gelu_tanh": (
        lambda z: z / (1 + np.exp(-2 * np.sqrt(2 / PI) * (z + 0.044715 * z**3))),
        300,
        (),
    ),
    "silu": (lambda z: z / (1 + np.exp(-z)), 8, ()),
    "softplus": (lambda z: np.log1p(np.exp(z)), 8, ()),
    "mish": (lambda z: z * np.tanh(np.log1p(np.exp(z))), 8, ()),
    "hard_tanh": (lambda z: np.clip(z, -1, 1), 0, ()),
}
with_elementwise = pytest.mark.parametrize("name", ELEMENTWISE)


def elementwise_forward(name, z, out=None):
    out = poisoned(z.shape, z.dtype) if out is None else out
    getattr(reference, f"{name}_forward")(out, z, *ELEMENTWISE[name][2])
    return out


def elementwise_backward(name, dout, z, dz=None):
    dz = poisoned(z.shape, z.dtype) if dz is None else dz
    getattr(reference, f"{name}_backward")(dz, dout, z, *ELEMENTWISE[name][2])
    return dz


@with_sizes
@with_cases
@with_elementwise
def test_a_function_of_one_element_is_its_closed_form(name, dtype, layout, sizes, rng):
    z = given(pre_activations(rng, *sizes[1:]).astype(dtype), layout)
    out = elementwise_forward(name, z, poisoned(z.shape, dtype, layout))
    closed_form, factor, _ = ELEMENTWISE[name]
    assert_close(out, closed_form(widen(z)), factor)


@with_sizes
@with_elementwise
def test_the_backward_pass_of_a_function_of_one_element_is_its_central_differences(
    name, sizes, rng
):
    z, dout = pre_activations(rng, *sizes[1:]), rng.normal(size=sizes[1:])
    dz = elementwise_backward(name, dout, z)
    assert_is_gradient(dz, lambda z: (elementwise_forward(name, z) * dout).sum(), z)


@with_sizes
@with_cases
@with_elementwise
def test_every_layout_and_type_of_a_function_of_one_element_gives_the_same_gradient(
    name, dtype, layout, sizes, rng
):
    z, dout = (array.astype("float32") for array in rng.normal(size=(2, *sizes[1:])))
    expected = elementwise_backward(name, dout.astype("float64"), z.astype("float64"))
    dz = elementwise_backward(
        name,
        given(dout.astype(dtype), layout),
        given(z.astype(dtype), layout),
        poisoned(z.shape, dtype, layout),
    )
    assert_close(dz, expected, scale=2 * np.abs(dout).max())


@with_dtypes
@with_elementwise
def test_both_passes_of_a_function_of_one_element_may_work_in_place(name, dtype, rng):
    z, dout = rng.normal(size=(2, 7, 17)).astype(dtype)
    out, dz = elementwise_forward(name, z), elementwise_backward(name, dout, z)
    assert (elementwise_backward(name, dout, z, dout) == dz).all()
    assert (elementwise_forward(name, z, z) == out).all()


@with_dtypes
@with_elementwise
def test_nan_passes_through_every_function_of_one_element(name, dtype):
    z = np.array([[1, np.nan, -1], [0, 1, 2]], dtype)
    assert (np.isnan(elementwise_forward(name, z)) == np.isnan(z)).all()
    assert (np.isnan(elementwise_backward(name, z, np.ones_like(z))) == np.isnan(z)).all()


@with_dtypes
def test_huge_arguments_of_functions_of_one_element_are_finite_and_right(dtype):
    z = np.array([[-1000, 1000]], dtype)
    scale = dtype_value(dtype, 1.0507009873554805)
    limits = {name: ([0, 1000], [0, 1]) for name in ELEMENTWISE}
    limits["elu"] = [-1.5, 1000], [0, 1]
    limits["selu"] = [-scale * dtype_value(dtype, 1.6732632423543772), scale * 1000], [0, scale]
    limits["hard_tanh"] = [-1, 1], [0, 0]
    for name, (values, slopes) in limits.items():
        assert (elementwise_forward(name, z) == np.array([values], dtype)).all(), name
        assert (elementwise_backward(name, np.ones_like(z), z) == [slopes]).all(), name


@with_dtypes
def test_outputs_of_selu_have_mean_0_and_variance_1_where_its_inputs_have(dtype, rng):
    z = rng.normal(size=(400, 400))
    z = ((z - z.mean()) / z.std()).astype(dtype)
    out = elementwise_forward("selu", z).astype("float64")
    assert abs(out.mean()) < 0.01
    assert abs(out.var() - 1) < 0.02


# --- losses ---------------------------------------------------------------------------------------

LOSSES = [
    "mse",
    "mae",
    "huber",
    "quantile",
    "binary_cross_entropy",
    "softmax_cross_entropy",
    "softmax_cross_entropy_dense",
]
DELTA = 1.5
SCALE_LOSS, SCALE_GRADIENT = 0.75, 0.125
with_losses = pytest.mark.parametrize("loss", LOSSES)


def draw_loss_inputs(rng, loss, n_rows, n_outputs, dtype="float64"):
    out = rng.normal(size=(n_rows, n_outputs), scale=3).astype(dtype)
    if loss == "softmax_cross_entropy":
        return out, rng.integers(0, n_outputs, n_rows)
    return out, rng.uniform(size=out.shape).astype(dtype)


def quantiles(n_outputs):
    return np.linspace(0.1, 0.8, n_outputs)


def numbers(loss, n_outputs):
    """Return the arguments of a loss behind the targets."""
    if loss.startswith("softmax"):
        return (SCALE_GRADIENT,)
    own = {"huber": (DELTA,), "quantile": (quantiles(n_outputs),)}
    return *own.get(loss, ()), SCALE_LOSS, SCALE_GRADIENT


def compute_loss(loss, out, target, layout="C"):
    row_loss = poisoned(len(out), out.dtype, layout)
    dout = poisoned(out.shape, out.dtype, layout)
    getattr(reference, loss)(row_loss, dout, out, target, *numbers(loss, out.shape[1]))
    return row_loss, dout


def loss_by_definition(loss, out, target):
    """Return the loss of each row by the formula of a textbook, with more digits."""
    out = widen(out)
    if loss == "softmax_cross_entropy":
        log_p = np.log(np.exp(out) / np.exp(out).sum(axis=1, keepdims=True))
        return -log_p[np.arange(len(out)), target]
    if loss == "mse":
        return SCALE_LOSS * ((out - target) ** 2).sum(axis=1)
    error = np.abs(out - target)
    if loss == "mae":
        return SCALE_LOSS * error.sum(axis=1)
    if loss == "huber":
        linear = DELTA * (error - DELTA / 2)
        return SCALE_LOSS * np.where(error <= DELTA, error**2 / 2, linear).sum(axis=1)
    if loss == "quantile":
        q = quantiles(out.shape[1])
        return SCALE_LOSS * np.where(out > target, (1 - q) * error, q * error).sum(axis=1)
    if loss == "binary_cross_entropy":
        p = 1 / (1 + np.exp(-out))
        return SCALE_LOSS * -(target * np.log(p) + (1 - target) * np.log(1 - p)).sum(axis=1)
    log_p = np.log(np.exp(out) / np.exp(out).sum(axis=1, keepdims=True))
    return -(target * log_p).sum(axis=1)


@with_sizes
@with_cases
@with_losses
def test_a_loss_is_its_definition(loss, dtype, layout, sizes, rng):
    out, target = draw_loss_inputs(rng, loss, sizes[0], sizes[2], dtype)
    row_loss, dout = compute_loss(loss, given(out, layout), given(target, layout), layout)
    # Sums of up to 17 terms that are each as large as the logits.
    largest = 10 * out.shape[1]
    assert_close(row_loss, loss_by_definition(loss, out, target), scale=largest)

    double = target.astype("float64") if target.dtype == dtype else target
    _, expected = compute_loss(loss, out.astype("float64"), double)
    assert_close(dout, expected, scale=largest)


@with_sizes
@with_losses
def test_the_gradient_of_a_loss_is_its_central_differences(loss, sizes, rng):
    out, target = draw_loss_inputs(rng, loss, sizes[0], sizes[2])
    _, dout = compute_loss(loss, out, target)
    # The factor 2 of a square is left to scale_gradient.
    factor = {"mse": 2 * SCALE_LOSS}.get(loss, 1 if loss.startswith("softmax") else SCALE_LOSS)
    assert_is_gradient(
        dout * factor / SCALE_GRADIENT, lambda out: compute_loss(loss, out, target)[0].sum(), out
    )


@with_dtypes
def test_squared_errors_of_small_integers_are_exact(dtype, rng):
    out, target = integers(rng, 7, 17).astype(dtype), integers(rng, 7, 17).astype(dtype)
    row_loss, dout = compute_loss("mse", out, target)
    assert (row_loss == SCALE_LOSS * ((out - target) ** 2).sum(axis=1)).all()
    assert (dout == SCALE_GRADIENT * (out - target)).all()


@with_dtypes
def test_huge_logits_give_finite_and_right_binary_cross_entropy(dtype):
    logits = np.array([[-1000], [-1000], [1000], [1000]], dtype)
    target = np.array([[0], [1], [0], [1]], dtype)
    row_loss, dlogits = compute_loss("binary_cross_entropy", logits, target)
    assert (row_loss / SCALE_LOSS).tolist() == [0, 1000, 1000, 0]
    assert (dlogits / SCALE_GRADIENT).tolist() == [[0], [-1], [1], [0]]


@with_dtypes
@pytest.mark.parametrize("dense", [False, True])
def test_huge_logits_give_finite_and_right_softmax_cross_entropy(dense, dtype):
    logits = np.array([[1000, -1000, 0]] * 3, dtype)
    labels = np.arange(3)
    loss = "softmax_cross_entropy_dense" if dense else "softmax_cross_entropy"
    row_loss, dlogits = compute_loss(loss, logits, np.eye(3, dtype=dtype) if dense else labels)
    assert row_loss.tolist() == [0, 2000, 1000]
    assert (dlogits / SCALE_GRADIENT).tolist() == [[0, 0, 0], [1, -1, 0], [1, 0, -1]]


@with_dtypes
def test_a_confident_right_answer_keeps_the_digits_of_its_small_loss(dtype):
    logits = np.array([[-30.0], [30.0]], dtype)
    row_loss, _ = compute_loss("binary_cross_entropy", logits, np.array([[0], [1]], dtype))
    assert_close(row_loss, [SCALE_LOSS * math.log1p(math.exp(-30))] * 2, factor=4)


@with_dtypes
@with_losses
def test_a_bad_row_spoils_no_other_row(loss, dtype, rng):
    out, target = draw_loss_inputs(rng, loss, 7, 2, dtype)
    expected_loss, expected_dout = compute_loss(loss, out, target)
    out[3, 1] = np.nan
    row_loss, dout = compute_loss(loss, out, target)
    others = np.arange(7) != 3
    assert np.isnan(row_loss[3])
    assert np.isnan(dout[3, 1])
    assert (row_loss[others] == expected_loss[others]).all()
    assert (dout[others] == expected_dout[others]).all()


@with_dtypes
def test_onehot_targets_mean_the_same_as_labels(dtype, rng):
    logits, labels = draw_loss_inputs(rng, "softmax_cross_entropy", 17, 7, dtype)
    row_loss, dlogits = compute_loss("softmax_cross_entropy", logits, labels)
    onehot = np.eye(7, dtype=dtype)[labels]
    dense_loss, dense_dlogits = compute_loss("softmax_cross_entropy_dense", logits, onehot)
    assert_close(dense_loss, row_loss, scale=10)
    assert_close(dense_dlogits, dlogits, scale=SCALE_GRADIENT)
    narrow_loss, _ = compute_loss("softmax_cross_entropy", logits, labels.astype(np.int32))
    assert (narrow_loss == row_loss).all()


@with_dtypes
def test_losses_of_absolute_errors_by_hand(dtype):
    out = np.array([[3, -3, 0.5, 0]], dtype)
    target = np.zeros_like(out)
    expected = {
        "mae": (6.5, [1, -1, 1, 0]),
        "huber": (2 * 1.5 * (3 - 0.75) + 0.125, [1.5, -1.5, 0.5, 0]),
    }
    for loss, (right_loss, right) in expected.items():
        row_loss, dout = compute_loss(loss, out, target)
        assert row_loss[0] == SCALE_LOSS * right_loss
        assert (dout == SCALE_GRADIENT * np.array([right])).all()
    row_loss, dout = poisoned(1, dtype), poisoned((1, 4), dtype)
    reference.quantile(row_loss, dout, out, target, np.full(4, 0.25), 1, 1)
    assert row_loss[0] == 0.75 * 3 + 0.25 * 3 + 0.75 * 0.5
    assert dout.tolist() == [[0.75, -0.25, 0.75, 0]]


def test_a_quantile_loss_is_least_at_the_quantile(rng):
    target = rng.normal(size=(101, 1))
    losses = []
    for out in np.sort(target[:, 0]):
        row_loss, dout = poisoned(101, "float64"), poisoned((101, 1), "float64")
        out = np.full((101, 1), out)
        reference.quantile(row_loss, dout, out, target, np.array([0.25]), 1.0, 1.0)
        losses.append(row_loss.sum())
    assert np.argmin(losses) == 25  # a quarter of the 100 others lie below it


@with_cases
def test_smooth_targets_are_mixed_with_equal_ones(dtype, layout, rng):
    target = rng.dirichlet(np.ones(5), 7).astype(dtype)
    smooth = poisoned((7, 5), dtype, layout)
    reference.smooth_targets(smooth, given(target, layout), 0.25, 5)
    assert_close(smooth, 0.75 * widen(target) + 0.05, factor=2)
    assert_close(smooth.sum(axis=1), np.ones(7))
    reference.smooth_targets(smooth, given(target, layout), 0.0, 5)
    assert (smooth == target).all()


# --- updates --------------------------------------------------------------------------------------

# name -> number of memory vectors, settings
UPDATES = {
    "sgd": (0, (0.1,)),
    "momentum": (1, (0.1, 0.9)),
    "nesterov": (1, (0.1, 0.9)),
    "rmsprop": (1, (0.1, 0.9, 1e-7)),
    "adam": (2, (0.1, 0.9, 0.999, 1e-8)),
    "adamw": (2, (0.1, 0.9, 0.999, 1e-8, 0.01)),
    "adagrad": (1, (0.1, 1e-10)),
    "nadam": (2, (0.1, 0.05, 1.5, 0.9, 0.999, 1e-8)),
}
with_updates = pytest.mark.parametrize("name", UPDATES)


def expected_update(name, p, states, g, settings):
    """Apply a rule in NumPy, operation for operation as documented; return p and the states."""
    if name == "sgd":
        (rate,) = settings
        return p - rate * g, []
    if name in ("momentum", "nesterov"):
        rate, keep = settings
        velocity = keep * states[0] - rate * g
        return p + (keep * velocity - rate * g if name == "nesterov" else velocity), [velocity]
    if name == "rmsprop":
        rate, rho, epsilon = settings
        square = rho * states[0] + (1 - rho) * (g * g)
        return p - rate * g / (np.sqrt(square) + epsilon), [square]
    if name == "adagrad":
        rate, epsilon = settings
        total = states[0] + g * g
        return p - rate * g / (np.sqrt(total) + epsilon), [total]
    if name == "nadam":
        mean_step, gradient_step, factor, beta_1, beta_2, epsilon = settings
        m = beta_1 * states[0] + (1 - beta_1) * g
        v = beta_2 * states[1] + (1 - beta_2) * (g * g)
        return p - (gradient_step * g + mean_step * m) / (np.sqrt(factor * v) + epsilon), [m, v]
    step, beta_1, beta_2, epsilon, *decay = settings
    if decay:
        p = p - decay[0] * p
    m = beta_1 * states[0] + (1 - beta_1) * g
    v = beta_2 * states[1] + (1 - beta_2) * (g * g)
    return p - step * m / (np.sqrt(v) + epsilon), [m, v]


def draw_update(rng, name, size, dtype, layout="C"):
    """Return parameters, states (never negative, as squares are) and a gradient."""
    p, g = rng.normal(size=size).astype(dtype), rng.normal(size=size).astype(dtype)
    states = [rng.uniform(size=size).astype(dtype) for _ in range(UPDATES[name][0])]
    return arrange(p, layout), [arrange(s, layout) for s in states], given(g, layout)


@pytest.mark.parametrize("size", [1, 2, 7, 17])
@with_cases
@with_updates
def test_an_update_is_its_formula_bit_for_bit(name, dtype, layout, size, rng):
    settings = UPDATES[name][1]
    p, states, g = draw_update(rng, name, size, dtype, layout)
    for _ in range(3):
        expected_p, expected_states = expected_update(name, p, states, g, settings)
        assert expected_p.dtype == dtype
        getattr(reference, name)(p, *states, g, *settings)
        # NumPy rounds after each operation, in the same type: so does a strict loop.
        assert (p == expected_p).all()
        for state, expected in zip(states, expected_states, strict=True):
            assert (state == expected).all()


@with_dtypes
@with_updates
def test_a_bad_gradient_spoils_only_its_own_parameter(name, dtype, rng):
    settings = UPDATES[name][1]
    p, states, g = draw_update(rng, name, 7, dtype)
    expected, _ = expected_update(name, p, states, g, settings)
    g[3] = np.nan
    getattr(reference, name)(p, *states, g, *settings)
    assert np.isnan(p[3])
    others = np.arange(7) != 3
    assert (p[others] == expected[others]).all()


def test_the_first_step_of_adam_has_the_length_of_the_learning_rate():
    p, m, v = np.zeros(3), np.zeros(3), np.zeros(3)
    g = np.array([1e-3, -1.0, 1e3])
    reference.adam(p, m, v, g, reference.adam_step_size(0.1, 0.9, 0.999, 1), 0.9, 0.999, 0.0)
    np.testing.assert_allclose(p, [-0.1, 0.1, -0.1], rtol=1e-12)


def test_adam_is_the_form_with_corrected_means(rng):
    # Kingma and Ba, algorithm 1: m and v are corrected first. Without epsilon both are one.
    p, m, v = np.zeros(7), np.zeros(7), np.zeros(7)
    expected, mean, square = np.zeros(7), np.zeros(7), np.zeros(7)
    for t in range(1, 20):
        g = rng.normal(size=7)
        reference.adam(p, m, v, g, reference.adam_step_size(0.1, 0.9, 0.999, t), 0.9, 0.999, 0.0)
        mean = 0.9 * mean + 0.1 * g
        square = 0.999 * square + 0.001 * g**2
        expected -= 0.1 * (mean / (1 - 0.9**t)) / np.sqrt(square / (1 - 0.999**t))
    np.testing.assert_allclose(p, expected, rtol=1e-10)


def test_without_momentum_both_kinds_of_momentum_are_plain_descent(rng):
    p, _, g = draw_update(rng, "sgd", 17, "float64")
    expected = p - 0.1 * g
    for rule in (reference.momentum, reference.nesterov):
        moved, velocity = p.copy(), np.zeros(17)
        rule(moved, velocity, g, 0.1, 0.0)
        assert (moved == expected).all()


def test_weight_decay_alone_shrinks_the_parameters(rng):
    p, states, _ = draw_update(rng, "adamw", 7, "float64")
    states[0][:] = 0
    expected = p - 0.25 * p
    shrunk = p.copy()
    reference.weight_decay(shrunk, 0.25)
    assert (shrunk == expected).all()
    reference.adamw(p, *states, np.zeros(7), 0.1, 0.9, 0.999, 1e-8, 0.25)
    assert (p == expected).all()


def test_adagrad_divides_by_the_length_of_all_gradients_so_far(rng):
    gradients = rng.normal(size=(9, 7))
    p, total, expected = np.zeros(7), np.zeros(7), np.zeros(7)
    for t, g in enumerate(gradients, 1):
        reference.adagrad(p, total, g, 0.1, 0.0)
        expected -= 0.1 * g / np.linalg.norm(gradients[:t], axis=0)
    np.testing.assert_allclose(p, expected, rtol=1e-12)


def test_nadam_is_the_form_with_corrected_means(rng):
    # Dozat 2016, section 3, with the products of the momenta written out.
    p, m, v = np.zeros(7), np.zeros(7), np.zeros(7)
    mu = [math.nan] + [0.9 * (1 - 0.5 * 0.96 ** (t / 250)) for t in range(1, 30)]
    expected, mean, square, product = np.zeros(7), np.zeros(7), np.zeros(7), 1.0
    for t in range(1, 20):
        g = rng.normal(size=7)
        *sizes, product = reference.nadam_step_sizes(0.1, 0.9, 0.999, product, t)
        reference.nadam(p, m, v, g, *sizes, 0.9, 0.999, 1e-8)
        assert product == pytest.approx(math.prod(mu[1 : t + 1]), rel=1e-12)
        mean = 0.9 * mean + 0.1 * g
        square = 0.999 * square + 0.001 * g**2
        corrected = mu[t + 1] * mean / (1 - math.prod(mu[1 : t + 2]))
        corrected += (1 - mu[t]) * g / (1 - math.prod(mu[1 : t + 1]))
        expected -= 0.1 * corrected / (np.sqrt(square / (1 - 0.999**t)) + 1e-8)
    np.testing.assert_allclose(p, expected, rtol=1e-10)


def test_the_momentum_of_nadam_grows_from_half_of_its_limit():
    momenta = [reference.nadam_momentum(0.9, t) for t in (0, 1, 10, 1000, 100_000)]
    assert momenta == sorted(momenta)
    assert momenta[0] == 0.45
    assert momenta[-1] == pytest.approx(0.9, rel=1e-6)


# --- what holds parameters back -------------------------------------------------------------------


@with_cases
def test_a_penalty_is_its_formula(dtype, layout, rng):
    p = given(rng.normal(size=17).astype(dtype), layout)
    expected = 0.25 * np.abs(widen(p)).sum() + 0.5 / 2 * (widen(p) ** 2).sum()
    value = reference.penalty(p, 0.25, 0.5)
    assert value == pytest.approx(float(expected), rel=32 * float(np.finfo(dtype).eps))
    g = arrange(rng.normal(size=17).astype(dtype), layout)
    expected = (g + 0.5 * p) + np.sign(p) * np.asarray(0.25, dtype)
    reference.penalty_backward(g, p, 0.25, 0.5)
    assert (g == expected).all()


def test_the_derivative_of_a_penalty_is_its_central_differences(rng):
    p = rng.normal(size=7)
    g = np.zeros(7)
    reference.penalty_backward(g, p, 0.3, 0.7)
    assert_is_gradient(g, lambda p: reference.penalty(p, 0.3, 0.7), p)


@with_dtypes
def test_a_parameter_at_zero_is_not_penalised(dtype):
    g = np.ones(3, dtype)
    reference.penalty_backward(g, np.array([0.0, -0.0, 0.0], dtype), 0.5, 0.5)
    assert (g == 1).all()


@with_cases
def test_clipping_by_value_bounds_each_element(dtype, layout):
    g = arrange(np.array([-3, -2, -1, 0, 1, 2, 3, np.inf, -np.inf, np.nan], dtype), layout)
    reference.clip_by_value(g, 2.0)
    expected = np.array([-2, -2, -1, 0, 1, 2, 2, 2, -2, np.nan], dtype)
    np.testing.assert_array_equal(g, expected)


@with_cases
def test_clipping_by_norm_keeps_the_direction(dtype, layout, rng):
    before = rng.normal(size=17).astype(dtype)
    for share in (0.25, 4.0):
        norm = np.linalg.norm(before)
        g = arrange(before, layout)
        reference.clip_by_norm(g, share * norm)
        assert_close(g, widen(before) * min(share, 1.0), scale=np.abs(before).max())


def test_clipping_by_a_norm_that_is_not_exceeded_changes_nothing():
    for g in (np.array([3.0, -4.0]), np.zeros(2), np.array([np.nan, 9.0])):
        before = g.copy()
        reference.clip_by_norm(g, 5.0)
        np.testing.assert_array_equal(g, before)


@with_cases
def test_max_norm_shortens_the_columns_that_are_too_long(dtype, layout, rng):
    before = rng.normal(size=(7, 5)).astype(dtype)
    norms = np.linalg.norm(before, axis=0)
    limit = np.median(norms)
    w = arrange(before, layout)
    reference.max_norm(w, limit)
    assert (w[:, norms <= limit] == before[:, norms <= limit]).all()
    expected = widen(before) * np.minimum(1, limit / widen(norms))
    assert_close(w, expected, scale=np.abs(before).max())


# --- scikit-learn ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["identity", "relu", "logistic", "tanh", "softmax"])
def test_activations_agree_with_scikit_learn(name, rng):
    base = pytest.importorskip("sklearn.neural_network._base")
    z, dout = pre_activations(rng, 7, 17), rng.normal(size=(7, 17))
    out = forward(name, z)
    expected = z.copy()
    base.ACTIVATIONS[name](expected)
    np.testing.assert_allclose(out, expected, rtol=1e-13)
    if name in base.DERIVATIVES:
        expected = dout.copy()
        base.DERIVATIVES[name](out, expected)
        np.testing.assert_allclose(backward(name, dout, out), expected, rtol=1e-13)


def test_losses_agree_with_scikit_learn(rng):
    losses = pytest.importorskip("sklearn.neural_network._base").LOSS_FUNCTIONS
    n_rows, n_outputs = 17, 7
    row_loss, dout = poisoned(n_rows, "float64"), poisoned((n_rows, n_outputs), "float64")
    out, target = draw_loss_inputs(rng, "mse", n_rows, n_outputs)
    # scikit-learn's squared loss is a mean over outputs too.
    reference.mse(row_loss, dout, out, target, 0.5 / n_outputs, 1.0)
    assert row_loss.mean() == pytest.approx(losses["squared_error"](target, out), rel=1e-13)

    p = forward("logistic", out)
    answers = (target > 0.5).astype(float)
    reference.binary_cross_entropy(row_loss, dout, out, answers, 1.0, 1.0)
    assert row_loss.mean() == pytest.approx(losses["binary_log_loss"](answers, p), rel=1e-12)
    np.testing.assert_allclose(dout, p - answers, rtol=1e-12)

    p = forward("softmax", out)
    labels = rng.integers(0, n_outputs, n_rows)
    onehot = np.eye(n_outputs)[labels]
    reference.softmax_cross_entropy(row_loss, dout, out, labels, 1.0)
    assert row_loss.mean() == pytest.approx(losses["log_loss"](onehot, p), rel=1e-12)
    np.testing.assert_allclose(dout, p - onehot, rtol=1e-12)


@pytest.mark.parametrize("name", ["momentum", "nesterov", "adam"])
def test_updates_agree_with_scikit_learn(name, rng):
    optimizers = pytest.importorskip("sklearn.neural_network._stochastic_optimizers")
    p = rng.normal(size=17)
    expected = [p.copy()]
    if name == "adam":
        optimizer = optimizers.AdamOptimizer(expected, learning_rate_init=0.1)
    else:
        optimizer = optimizers.SGDOptimizer(expected, 0.1, nesterov=name == "nesterov")
    states = [np.zeros(17) for _ in range(UPDATES[name][0])]
    for t in range(1, 6):
        g = rng.normal(size=17)
        optimizer.update_params(expected, [g])
        if name == "adam":
            step_size = reference.adam_step_size(0.1, 0.9, 0.999, t)
            reference.adam(p, *states, g, step_size, 0.9, 0.999, 1e-8)
        else:
            getattr(reference, name)(p, *states, g, 0.1, 0.9)
        np.testing.assert_allclose(p, expected[0], rtol=1e-12)


# --- the training run that serves as the oracle of the compiled step ------------------------------


def draw_params(rng, sizes, dtype="float64"):
    """Draw weights and biases of a chain of affine layers."""
    return [
        (
            rng.normal(size=(n_inputs, n_outputs)).astype(dtype),
            rng.normal(size=n_outputs).astype(dtype),
        )
        for n_inputs, n_outputs in itertools.pairwise(sizes)
    ]


RUNS = {
    "softmax_cross_entropy": ["tanh", ("leaky_relu", 0.25), "identity"],
    "binary_cross_entropy": ["logistic", "relu", "identity"],
    "binary_cross_entropy_sum": ["relu", "softmax", "identity"],
    "mse": ["relu", "identity", "softmax"],
    "squared_error": ["tanh", "relu", "logistic"],
    "mae": ["tanh", "relu", "identity"],
    "huber": ["logistic", "tanh", "identity"],
    "quantile": ["tanh", "relu", "identity"],
    "smoothed_binary_cross_entropy": ["tanh", "relu", "identity"],
    "smoothed_softmax_cross_entropy": ["relu", "tanh", "identity"],
}


@pytest.mark.parametrize("loss", RUNS)
def test_the_oracle_descends_along_the_central_differences_of_its_loss(loss, rng):
    sizes, alpha = [3, 5, 4, 2], 0.5
    regularization = [{}, {"l1": 0.25}, {"l1": 0.125, "l2": 0.5}]
    X, y = rng.normal(size=(7, 3)), rng.integers(0, 2, (7, 2)).astype(float)
    y = y.argmax(axis=1) if loss.endswith("softmax_cross_entropy") else y

    def trainer(params):
        return ReferenceTrainer(
            sizes, RUNS[loss], loss, {"name": "sgd"}, params, X, y, 7, alpha, regularization
        )

    params = draw_params(rng, sizes)
    _, grads = trainer(params).gradients(X, y)
    for layer, pair in enumerate(params):
        for which in range(2):

            def total(changed, layer=layer, which=which):
                moved = [list(p) for p in params]
                moved[layer][which] = changed
                return sum(trainer(moved).run_epoch(np.arange(7)))

            assert_is_gradient(grads[layer][which], total, pair[which])


@with_dtypes
@pytest.mark.parametrize("optimizer", UPDATES)
def test_the_oracle_makes_the_steps_of_the_reference_loops(optimizer, dtype, rng):
    sizes, n_rows, batch_size, alpha = [7, 5, 3], 17, 7, 0.25
    params = draw_params(rng, sizes, dtype)
    X = rng.normal(size=(n_rows, 7)).astype(dtype)
    y = rng.integers(0, 3, n_rows)
    orders = [rng.permutation(n_rows) for _ in range(2)]
    settings = {"name": optimizer, "learning_rate": 0.05, "clip_value": 0.2, "clip_norm": 0.5}
    regularization = {"l1": 0.1, "l2": 0.2, "max_norm": 1.5}
    if optimizer in ("momentum", "nesterov"):
        settings |= {"name": "sgd", "momentum": 0.9, "nesterov": optimizer == "nesterov"}
    trained, losses = train(
        sizes,
        ["tanh", "identity"],
        "softmax_cross_entropy",
        settings,
        params,
        X,
        y,
        orders,
        batch_size,
        alpha,
        regularization=regularization,
    )

    arrays = [array for pair in params for array in pair]
    p = np.concatenate([array.ravel() for array in arrays])
    parts = np.split(p, np.cumsum([array.size for array in arrays])[:-1])
    w_1, b_1, w_2, b_2 = (part.reshape(a.shape) for part, a in zip(parts, arrays, strict=True))
    states = [np.zeros_like(p) for _ in range(UPDATES[optimizer][0])]
    t, product = 0, 1.0
    for order, (data_loss, penalty) in zip(orders, losses, strict=True):
        expected_data_loss = expected_penalty = 0.0
        for start in range(0, n_rows, batch_size):
            rows = order[start : start + batch_size]
            x, n = X[rows], len(rows)
            hidden, logits = poisoned((n, 5), dtype), poisoned((n, 3), dtype)
            reference.affine_forward(hidden, x, w_1, b_1)
            reference.tanh_forward(hidden, hidden)
            reference.affine_forward(logits, hidden, w_2, b_2)
            row_loss, dlogits, dhidden = poisoned(n, dtype), logits.copy(), hidden.copy()
            reference.softmax_cross_entropy(row_loss, dlogits, logits, y[rows], 1 / n)
            dw_1, db_1, dw_2, db_2 = (poisoned(array.shape, dtype) for array in arrays)
            reference.affine_backward_weight(dw_2, db_2, hidden, dlogits)
            reference.affine_backward_input(dhidden, dlogits, w_2)
            reference.tanh_backward(dhidden, dhidden, hidden)
            reference.affine_backward_weight(dw_1, db_1, x, dhidden)
            for w, dw in ((w_1, dw_1), (w_2, dw_2)):
                reference.penalty_backward(dw.ravel(), w.ravel(), 0.1, 0.2 + alpha / n)
                expected_penalty += n * reference.penalty(w.ravel(), 0.1, 0.2 + alpha / n)
            g = np.concatenate([array.ravel() for array in (dw_1, db_1, dw_2, db_2)])
            expected_data_loss += row_loss.sum()
            reference.clip_by_value(g, 0.2)
            reference.clip_by_norm(g, 0.5)
            t += 1
            *nadam_sizes, product = reference.nadam_step_sizes(0.05, 0.9, 0.999, product, t)
            step_size = reference.adam_step_size(0.05, 0.9, 0.999, t)
            reference_settings = {
                "sgd": (0.05,),
                "momentum": (0.05, 0.9),
                "nesterov": (0.05, 0.9),
                "rmsprop": (0.05, 0.9, 1e-7),
                "adam": (step_size, 0.9, 0.999, 1e-8),
                "adamw": (step_size, 0.9, 0.999, 1e-8),
                "adagrad": (0.05, 1e-10),
                "nadam": (*nadam_sizes, 0.9, 0.999, 1e-8),
            }[optimizer]
            if optimizer == "adamw":  # decays all that it gets, and biases are free
                reference.weight_decay(w_1.ravel(), 0.05 * 0.01)
                reference.weight_decay(w_2.ravel(), 0.05 * 0.01)
            rule = {"adamw": "adam"}.get(optimizer, optimizer)
            getattr(reference, rule)(p, *states, g, *reference_settings)
            for w in (w_1, w_2):
                reference.max_norm(w, 1.5)
        tolerance = 1000 * float(np.finfo(dtype).eps)
        assert data_loss == pytest.approx(expected_data_loss / n_rows, rel=tolerance)
        assert penalty == pytest.approx(expected_penalty / n_rows, rel=tolerance)
    for actual, expected in zip(
        [array for pair in trained for array in pair], (w_1, b_1, w_2, b_2), strict=True
    ):
        assert actual.dtype == dtype
        np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize(
    ("activation", "solver"),
    [("relu", "adam"), ("tanh", "sgd"), ("logistic", "nesterov")],
)
def test_the_oracle_trains_like_scikit_learn(activation, solver, n_classes, rng):
    neural_network = pytest.importorskip("sklearn.neural_network")
    n_rows, n_inputs, batch_size, epochs, alpha = 53, 7, 16, 4, 0.5
    X, y = rng.normal(size=(n_rows, n_inputs)), rng.integers(0, n_classes, n_rows)
    y[:n_classes] = np.arange(n_classes)
    order = rng.permutation(n_rows)  # scikit-learn is given the rows in this order

    def partial_fit(learning_rate, epochs):
        model = neural_network.MLPClassifier(
            (9, 5),
            activation=activation,
            solver="adam" if solver == "adam" else "sgd",
            nesterovs_momentum=solver == "nesterov",
            learning_rate_init=learning_rate,
            alpha=alpha,
            batch_size=batch_size,
            shuffle=False,
            random_state=0,
        )
        for _ in range(epochs):
            model.partial_fit(X[order], y[order], classes=range(n_classes))
        return model

    start = partial_fit(1e-300, 1)  # too small a step to change anything: the starting weights
    model = partial_fit(0.01, epochs)

    n_outputs = 1 if n_classes == 2 else n_classes
    params, losses = train(
        [n_inputs, 9, 5, n_outputs],
        [activation, activation, "identity"],
        "binary_cross_entropy_sum" if n_classes == 2 else "softmax_cross_entropy",
        {"name": "adam", "learning_rate": 0.01}
        if solver == "adam"
        else {
            "name": "sgd",
            "learning_rate": 0.01,
            "momentum": 0.9,
            "nesterov": solver == "nesterov",
        },
        list(zip(start.coefs_, start.intercepts_, strict=True)),
        X,
        y,
        [order] * epochs,
        batch_size,
        alpha,
    )
    np.testing.assert_allclose(np.sum(losses, axis=1), model.loss_curve_, rtol=1e-10)
    for (w, b), coef, intercept in zip(params, model.coefs_, model.intercepts_, strict=True):
        np.testing.assert_allclose(w, coef, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(b, intercept, rtol=1e-8, atol=1e-10)


def test_the_oracle_trains_like_the_regressor_of_scikit_learn(rng):
    neural_network = pytest.importorskip("sklearn.neural_network")
    X, y = rng.normal(size=(53, 7)), rng.normal(size=(53, 2))

    def partial_fit(learning_rate, epochs):
        model = neural_network.MLPRegressor(
            hidden_layer_sizes=(9,),
            learning_rate_init=learning_rate,
            batch_size=16,
            shuffle=False,
            random_state=0,
        )
        for _ in range(epochs):
            model.partial_fit(X, y)
        return model

    start, model = partial_fit(1e-300, 1), partial_fit(0.01, 4)
    params, losses = train(
        [7, 9, 2],
        ["relu", "identity"],
        "squared_error",
        {"name": "adam", "learning_rate": 0.01},
        list(zip(start.coefs_, start.intercepts_, strict=True)),
        X,
        y,
        [np.arange(53)] * 4,
        batch_size=16,
        alpha=1e-4,
    )
    # Its loss is a mean over outputs, its gradient that of a sum: a quirk that the curve must copy.
    curve = [data_loss / 2 + penalty for data_loss, penalty in losses]
    np.testing.assert_allclose(curve, model.loss_curve_, rtol=1e-10)
    for (w, b), coef, intercept in zip(params, model.coefs_, model.intercepts_, strict=True):
        np.testing.assert_allclose(w, coef, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(b, intercept, rtol=1e-8, atol=1e-10)
