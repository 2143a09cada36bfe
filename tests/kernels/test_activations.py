"""Activations, called at their addresses as a net does, against the plain loops."""

import math
import re

import llvmlite.binding
import numba
import numpy as np
import pytest
from numba import types

from fastnn.kernels import activations, reference
from fastnn.kernels.activations import ACTIVATIONS, SELU_ALPHA, SELU_SCALE
from fastnn.kernels.tile import TILE_VECTORS
from fastnn.runtime import jit as _jit
from tests.kernels.dtypes import each_dtype
from tests.kernels.operations import Memory, Unchanged, call, work
from tests.panel_layout import lanes

PARAMETERS = {"leaky_relu": 0.25, "elu": 1.5}
NAMES = list(ACTIVATIONS)
IN_PLACE = [name for name, row in ACTIVATIONS.items() if row.from_result]
FROM_INPUT = [name for name, row in ACTIVATIONS.items() if not row.from_result]
ELEMENTWISE = [name for name, row in ACTIVATIONS.items() if not row.by_row]
WIDE = TILE_VECTORS * lanes("float32")  # columns of a panel; half as many are one of float64
# (rows, columns): around whole vectors and whole panels.
BLOCKS = [
    (0, 5),
    (1, 1),
    (3, 7),
    (2, 16),
    (5, 17),
    (1, WIDE // 2 - 1),
    (4, WIDE // 2),
    (2, WIDE - 1),
    (3, WIDE),
    (4, WIDE + 1),
    (1, 2 * WIDE),
    (3, 97),
]

with_names = pytest.mark.parametrize("name", NAMES)
with_names_in_place = pytest.mark.parametrize("name", IN_PLACE)
with_names_from_input = pytest.mark.parametrize("name", FROM_INPUT)
with_dtypes = each_dtype("activations")


def apply(row, z, before=2, parameter=0.0, cached=True):
    """Apply an activation to rows of a matrix, with rows of NaN before and behind them."""
    acts = Memory(before + len(z) + 2, z.shape[1], z.shape[1], z.dtype)
    op = acts.operation(activation_number=parameter)
    if row.from_result:
        acts.out.fill(z, before)
        kernel, given = activations.activate_kernel(row, z.dtype), acts.x.flat
    else:
        acts.x.fill(z, before)
        kernel, given = activations.forward_kernel(row, z.dtype, cached), acts.x.flat
    with Unchanged(given):
        call(kernel, op, before, len(z), work(acts=acts.data))
    return acts.out.take(before, len(z))


def apply_backward(row, dout, v, before=2, parameter=0.0, cached=True):
    """Return the gradient before an activation, where v is its result or its input."""
    acts, deltas = (Memory(before + len(v) + 2, v.shape[1], v.shape[1], v.dtype) for _ in range(2))
    deltas.out.fill(dout, before)
    op = acts.operation(activation_number=parameter)
    if row.from_result:
        acts.out.fill(v, before)
        kernel, given = activations.differentiate_kernel(row, v.dtype), deltas.x.flat
    else:
        acts.x.fill(v, before)
        kernel, given = activations.backward_kernel(row, v.dtype, cached), deltas.out.flat
    with Unchanged(acts.data, given):
        call(kernel, op, before, len(v), work(acts=acts.data, deltas=deltas.data))
    result = deltas.out if row.from_result else deltas.x
    return result.take(before, len(v))


def run(name, z, before=2):
    return apply(ACTIVATIONS[name], z, before, PARAMETERS.get(name, 0.0))


def run_backward(name, dout, v, before=2):
    return apply_backward(ACTIVATIONS[name], dout, v, before, PARAMETERS.get(name, 0.0))


def remembered(name, z):
    """Return what the derivative is a function of: the result or the input."""
    return run(name, z) if name in IN_PLACE else z


def settings(name):
    return (PARAMETERS[name],) if name in PARAMETERS else ()


def expected(name, z):
    out = np.full_like(z, np.nan)
    getattr(reference, f"{name}_forward")(out, z, *settings(name))
    return out


def expected_backward(name, dout, v):
    dz = np.full_like(v, np.nan)
    getattr(reference, f"{name}_backward")(dz, dout, v, *settings(name))
    return dz


@with_names_in_place
@with_dtypes
def test_activations_in_place_are_those_of_the_plain_loops(name, dtype, rng):
    eps = np.finfo(dtype).eps
    for n_rows, n in BLOCKS:
        z = rng.normal(0, 3, (n_rows, n)).astype(dtype)
        dout = rng.normal(size=z.shape).astype(dtype)
        # A softmax rounds as often as it has columns.
        out = run(name, z)
        np.testing.assert_allclose(out, expected(name, z), rtol=(8 + n) * eps)
        dz = expected_backward(name, dout, out)
        scale = np.abs(dout).sum(axis=1, keepdims=True) if name == "softmax" else np.abs(dout)
        error = np.abs(run_backward(name, dout, out) - dz)
        assert (error <= (8 + n) * eps * scale).all()


@with_names_from_input
@with_dtypes
def test_activations_that_keep_their_input_are_those_of_the_plain_loops(name, dtype, rng):
    eps = np.finfo(dtype).eps
    for n_rows, n in BLOCKS:
        z = rng.normal(0, 3, (n_rows, n)).astype(dtype)
        dout = rng.normal(size=z.shape).astype(dtype)
        out, dz = run(name, z), run_backward(name, dout, z)
        # Where a power is small, its argument counts: both round it, z^2 / 2 or 2 u.
        error = np.abs(out - expected(name, z))
        assert (error <= (8 + z * z) * eps * np.abs(out)).all() or name == "gelu_tanh"
        assert (error <= 8 * eps * np.maximum(1, np.abs(z))).all()
        error = np.abs(dz - expected_backward(name, dout, z))
        assert (error <= 32 * eps * np.abs(dout)).all()


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "step", "hard_tanh"])
@with_dtypes
def test_piecewise_linear_activations_are_exact(name, dtype, rng):
    for n_rows, n in BLOCKS:
        z = rng.integers(-3, 4, (n_rows, n)).astype(dtype) / 2
        dout = rng.integers(-9, 10, z.shape).astype(dtype)
        v = remembered(name, z)
        assert (run(name, z) == expected(name, z)).all()
        assert (run_backward(name, dout, v) == expected_backward(name, dout, v)).all()


@with_names_in_place
@with_dtypes
def test_large_arguments_give_finite_results(name, dtype):
    z = np.array([[-1000, 1000], [1000, 1000], [-1000, -1000], [0, -0.0]], dtype)
    out = run(name, z)
    assert np.isfinite(out).all()
    np.testing.assert_array_equal(out, expected(name, z))
    dz = run_backward(name, np.ones_like(z), out)
    assert np.isfinite(dz).all()
    np.testing.assert_array_equal(dz, expected_backward(name, np.ones_like(z), out))


@with_names_in_place
@with_dtypes
def test_infinite_arguments_are_not_hidden(name, dtype):
    z = np.zeros((4, WIDE + 3), dtype)
    z[:, [0, -1]] = [[np.inf, 0], [-np.inf, 0], [0, np.inf], [0, -np.inf]]
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(np.isnan(run(name, z)), np.isnan(expected(name, z)))
    z = z[:, [0, -1]]
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(run(name, z), expected(name, z))


@with_names_from_input
@with_dtypes
def test_large_and_infinite_arguments_give_the_limits(name, dtype):
    for large in (1e3, 1e30, np.inf):
        z = np.array([[-large, large]], dtype)
        low, high = {
            "elu": (-PARAMETERS["elu"], large),
            "selu": (-SELU_ALPHA * SELU_SCALE, SELU_SCALE * large),
            "hard_tanh": (-1, 1),
        }.get(name, (0, large))
        out = run(name, z)
        np.testing.assert_allclose(out, [[low, high]], rtol=4 * np.finfo(dtype).eps)
        slopes = {"selu": (0, SELU_SCALE), "hard_tanh": (0, 0)}.get(name, (0, 1))
        dz = run_backward(name, np.ones_like(z), z)
        np.testing.assert_array_equal(dz, np.array([slopes], dtype))


@with_names_in_place
@with_dtypes
def test_nan_passes_through_and_stays_in_its_row(name, dtype):
    for place in (0, 1, WIDE // 2, WIDE - 1, WIDE + 2):
        z = np.zeros((3, WIDE + 3), dtype)
        z[1, place] = np.nan
        out = run(name, z)
        assert np.isnan(out[1, place])
        assert np.isfinite(out[[0, 2]]).all()
        if name == "softmax":
            assert np.isnan(out[1]).all()
        else:
            assert np.isfinite(np.delete(out[1], place)).all()


@with_names_from_input
@with_dtypes
def test_nan_passes_through_and_stays_where_it_is(name, dtype):
    for place in (0, 1, WIDE // 2, WIDE - 1, WIDE + 2):
        z, ones = np.zeros((2, 3, WIDE + 3), dtype)
        ones[:] = 1
        z[1, place] = np.nan
        assert (np.isnan(run(name, z)) == np.isnan(z)).all()
        assert (np.isnan(run_backward(name, z, ones)) == np.isnan(z)).all()
        spread = np.isnan(run_backward(name, ones, z))
        assert (spread == (np.isnan(z) & (name != "hard_tanh"))).all()


@with_names_in_place
@with_dtypes
def test_nan_in_a_derivative_is_that_of_the_plain_loops(name, dtype):
    out = run(name, np.array([[-1, 0, 0.5, 2]], dtype))
    for place in range(4):
        dout, damaged = np.ones_like(out), out.copy()
        dout[0, place] = damaged[0, place] = np.nan
        for d, y in [(dout, out), (np.ones_like(out), damaged), (dout, damaged)]:
            np.testing.assert_array_equal(
                np.isnan(run_backward(name, d, y)), np.isnan(expected_backward(name, d, y))
            )


@with_dtypes
def test_rows_of_a_softmax_sum_to_one_and_may_be_shifted(dtype, rng):
    z = rng.integers(-8, 9, (6, 37)).astype(dtype)
    out = run("softmax", z)
    np.testing.assert_allclose(out.sum(axis=1), 1, rtol=37 * np.finfo(dtype).eps)
    np.testing.assert_array_equal(run("softmax", z + 64), out)


@with_dtypes
def test_the_largest_argument_of_a_softmax_may_be_in_any_panel(dtype):
    n = 2 * WIDE + 5
    places = [0, WIDE // 2, WIDE, n - 1]
    z = np.full((4, n), -1000, dtype)
    z[range(4), places] = 1000
    out = run("softmax", z)
    np.testing.assert_array_equal(out, np.eye(n, dtype=dtype)[places])
    # On a row of zeros and a one, the derivative is zero, whatever the gradient.
    np.testing.assert_array_equal(run_backward("softmax", z, out), np.zeros_like(z))


@with_names
@with_dtypes
def test_a_row_does_not_depend_on_the_rows_beside_it(name, dtype, rng):
    z, dout = rng.normal(0, 3, (2, 7, 97)).astype(dtype)
    v, out = remembered(name, z), run(name, z, before=0)
    dz = run_backward(name, dout, v, before=0)
    for row, n_rows in [(0, 1), (1, 4), (5, 2)]:
        rows = slice(row, row + n_rows)
        np.testing.assert_array_equal(run(name, z[rows], before=row), out[rows])
        np.testing.assert_array_equal(run_backward(name, dout[rows], v[rows], before=row), dz[rows])


@pytest.mark.parametrize("n", [7, WIDE // 2 + 1])
@pytest.mark.parametrize("name", ["leaky_relu", "logistic", "softmax", "tanh"])
def test_derivatives_in_place_are_central_differences(name, n, rng):
    z, dout = rng.normal(size=(4, n)), rng.normal(size=(4, n))
    dz = run_backward(name, dout, run(name, z))
    h = 1e-6
    for place in np.ndindex(z.shape):
        up, down = z.copy(), z.copy()
        up[place] += h
        down[place] -= h
        numeric = ((run(name, up) - run(name, down)) * dout).sum() / (2 * h)
        assert dz[place] == pytest.approx(numeric, abs=1e-8)


@with_names_from_input
@with_dtypes
def test_derivatives_from_the_input_are_central_differences(name, dtype, rng):
    # Of the float64 function; z keeps away from the corners.
    z = rng.uniform(-6, 6, (3, 97)).astype(dtype)
    z = z[(np.abs(z) > 1e-3) & (np.abs(np.abs(z) - 1) > 1e-3)].reshape(1, -1)
    h, wide = 1e-5, z.astype("float64")
    slope = (run(name, wide + h) - run(name, wide - h)) / (2 * h)
    actual = run_backward(name, np.ones_like(z), z)
    np.testing.assert_allclose(actual, slope, atol=1e-8 + 16 * np.finfo(dtype).eps)


@with_names
@with_dtypes
@pytest.mark.parametrize("n", [1, 7, 97])
def test_whole_arrays_have_the_bits_of_panels(name, dtype, n, rng):
    z, dout = rng.normal(size=(2, 5, n)).astype(dtype)
    apply_to_array, differentiate = activations.array_kernels(ACTIVATIONS[name])
    parameter = PARAMETERS.get(name, 0.0)
    out, dz = z.copy(), dout.copy()
    apply_to_array(out, parameter)
    np.testing.assert_array_equal(out, run(name, z))
    v = out if name in IN_PLACE else z
    with Unchanged(v):
        differentiate(dz, v, parameter)
    np.testing.assert_array_equal(dz, run_backward(name, dout, v))


@with_names
def test_without_rows_nothing_is_written(name):
    empty = np.empty((0, 29))
    run(name, empty)
    run_backward(name, empty, empty)
    apply_to_array, differentiate = activations.array_kernels(ACTIVATIONS[name])
    apply_to_array(empty, 1.0)
    differentiate(empty, empty, 1.0)


@with_names
@with_dtypes
def test_the_table_says_which_activations_of_zero_are_zero(name, dtype):
    row, zero = ACTIVATIONS[name], np.zeros((1, 1), dtype)
    if row.by_row:
        return
    v = remembered(name, zero)
    is_zero = run(name, zero)[0, 0] == 0 and np.isfinite(run_backward(name, zero + 1, v)[0, 0])
    assert row.zero_at_zero == is_zero


def test_small_results_of_gelu_keep_their_digits():
    # Computed as 1 + erf(z / sqrt 2), they would lose all of them.
    z = np.linspace(-12, -5, 50).reshape(1, -1)
    exact = [[x * math.erfc(-x / math.sqrt(2)) / 2 for x in z[0]]]
    np.testing.assert_allclose(run("gelu", z), exact, rtol=1e-13)


def test_kernels_are_compiled_once_for_each_activation_and_dtype():
    addresses = {
        make(row, np.dtype(dtype))
        for dtype in ("float32", "float64")
        for row in ACTIVATIONS.values()
        for make in (
            (activations.activate_kernel, activations.differentiate_kernel)
            if row.from_result
            else (activations.forward_kernel, activations.backward_kernel)
        )
    }
    assert len(addresses) == 4 * len(ACTIVATIONS)
    elu = ACTIVATIONS["elu"]
    one, other = (activations.forward_kernel(elu, np.dtype("float32")) for _ in range(2))
    assert one == other


# --- functions of users ---------------------------------------------------------------------------


def softsign(z):
    return z / (1 + abs(z))


def softsign_slope(z):
    return 1 / (1 + abs(z)) ** 2


def user_row(f=softsign, df=softsign_slope, dtype="float64"):
    return activations.user_activation(f, df, np.dtype(dtype))


def run_user(row, z):
    return apply(row, z, cached=False)


def run_user_backward(row, dout, z):
    return apply_backward(row, dout, z, cached=False)


@with_dtypes
@pytest.mark.parametrize("compiled", [False, True])
def test_functions_of_a_user_run_on_every_element(dtype, compiled, rng):
    functions = [numba.njit(f) if compiled else f for f in (softsign, softsign_slope)]
    row = user_row(*functions, dtype)
    for n_rows, n in BLOCKS:
        z, dout = rng.normal(size=(2, n_rows, n)).astype(dtype)
        tolerance = 4 * np.finfo(dtype).eps
        np.testing.assert_allclose(run_user(row, z), softsign(z), rtol=tolerance)
        np.testing.assert_allclose(
            run_user_backward(row, dout, z), dout * softsign_slope(z), rtol=tolerance
        )


def test_padding_is_cleared_where_a_function_of_a_user_is_not_zero_at_zero(rng):
    z = rng.normal(size=(3, 7))
    row = user_row(lambda z: 1 / z, lambda z: -1 / (z * z))
    np.testing.assert_allclose(run_user(row, z), 1 / z)  # `run` looks at the padding
    np.testing.assert_allclose(run_user_backward(row, z, z), -1 / z, rtol=1e-14)


def test_a_division_by_zero_in_a_function_of_a_user_gives_infinity():
    row = user_row(numba.njit(lambda z: 1 / z), numba.njit(lambda z: -1 / z**2))
    assert run_user(row, np.array([[0.0, -0.0, 2.0]])).tolist() == [[np.inf, -np.inf, 0.5]]


@pytest.mark.parametrize("function", [math.tanh, np.tanh])
def test_functions_of_a_user_may_be_those_of_a_library(function):
    z = np.array([[-2.0, 0.0, 3.0]])
    row = user_row(function, lambda z: 1 - math.tanh(z) ** 2)
    np.testing.assert_allclose(run_user(row, z), np.tanh(z), rtol=1e-15)


def test_functions_of_a_user_may_return_integers_and_call_others():
    inner = numba.njit(lambda z: z * z)
    row = user_row(lambda z: math.sqrt(inner(z)), lambda z: 1 if z > 0 else -1)
    z = np.array([[-2.0, 3.0]])
    assert run_user(row, z).tolist() == [[2, 3]]
    assert run_user_backward(row, z, z).tolist() == [[2, 3]]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (3, "f must be a function of one number, got 3"),
        (lambda: 1.0, "f must be a function of one float32 that Numba can compile: "),
        (lambda z, w: z, "f must be a function of one float32 that Numba can compile: "),
        (lambda z: np.ones(3)[0] * z, "f must be a function of one float32 that Numba can compile"),
        (lambda z: no_such_name, ".*can compile: NameError: .*no_such_name"),  # noqa: F821
        (lambda z: 1j * z, "f must return a real number for a float32, got complex128"),
        (lambda z: (z, z), "f must return a real number for a float32, got UniTuple"),
        (str.lower, "f must be a function of one float32 that Numba can compile: "),
        (lambda z: "z", "f must return a real number for a float32, got unicode_type"),
        (lambda z: None, "f must return a real number for a float32, got none"),
    ],
)
def test_a_function_of_a_user_that_cannot_run_is_refused_in_one_line(function, message):
    with pytest.raises(ValueError, match=message) as caught:
        user_row(function, softsign_slope, "float32")
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=message.replace("f must", "df must")):
        user_row(softsign, function, "float32")


# --- machine code ---------------------------------------------------------------------------------


def forward_loop(function):
    def loop(out, z, a):
        for i in range(z.size):
            out[i] = function(z[i], a)

    return loop


def backward_loop(function):
    def loop(out, z, a):
        for i in range(z.size):
            out[i] = function(out[i], z[i], a)

    return loop


@pytest.mark.parametrize("name", [name for name in ELEMENTWISE if name != "step"])
@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize(("dtype", "suffix"), [("float32", "ps"), ("float64", "pd")])
def test_a_loop_over_one_function_is_packed_instructions_and_no_calls(
    backward, name, dtype, suffix
):
    number = numba.from_dtype(np.dtype(dtype))
    signature = (types.Array(number, 1, "C"), types.Array(number, 1, "C"), number)
    # Not cached: machine code from a file cannot be read again.
    row = ACTIVATIONS[name]
    loop = backward_loop(row.backward) if backward else forward_loop(row.function)
    compiled = numba.njit(nogil=True, **_jit._OPTIONS)(loop)
    compiled.compile(signature)
    code = compiled.inspect_llvm(signature)
    code = code[code.index("define") :].split("\n}\n")[0]  # behind it are wrappers for Python
    if dtype == "float32":
        assert not re.search(r"\bdouble\b", code)
    assert re.search(rf"<\d+ x {'float' if dtype == 'float32' else 'double'}>", code)
    assert not re.search(r"call (?!.*@llvm\.)", code)
    if llvmlite.binding.get_default_triple().startswith("x86_64"):
        assembly = compiled.inspect_asm(signature)
        assembly = assembly[: assembly.index(".Lfunc_end0")]
        assert re.search(rf"\bv?(mul|fn?madd\d+|min|max|cmp\w*){suffix}\b", assembly)
        assert not re.search(r"\bcall", assembly)
