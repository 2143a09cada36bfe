"""Functions of one element, called at their addresses as a net does, against the plain loops."""

import ctypes
import math
import re

import llvmlite.binding
import numba
import numpy as np
import pytest
from numba import types

from fastnn.kernels import codes, elementwise, reference
from fastnn.kernels.memory import address_of
from fastnn.kernels.tile import TILE_VECTORS
from fastnn.runtime import jit as _jit
from tests.panel_layout import Panels, lanes

ALPHA = 1.5
NAMES = ["elu", "selu", "gelu", "gelu_tanh", "silu", "softplus", "mish", "hard_tanh"]
CODES = {name: getattr(elementwise, name.upper()) for name in NAMES}
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
CALL = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 10)

with_names = pytest.mark.parametrize("name", NAMES)
with_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


def embed(block, before, **where):
    """Lay a block into panels: zeros as padding, and rows of NaN before and behind it."""
    result = Panels((before + len(block) + 2, block.shape[1]), block.dtype, **where)
    result.fill(block, before)
    return result


def join(x, out):
    """Put two matrices into one array, and return it with the operation's row of the plan."""
    plan = np.zeros(codes.N_COLUMNS, np.int64)
    plan[codes.N_OUT] = x.shape[1]
    plan[codes.X_AT], plan[codes.X_PANEL] = x.offset, x.distance
    plan[codes.OUT_AT], plan[codes.OUT_PANEL] = x.flat.size + out.offset, out.distance
    return np.concatenate([x.flat, out.flat]), plan


def call(address, plan, low, count, acts, deltas):
    numbers = np.array([ALPHA])
    addresses = [address_of(array) for array in (plan, numbers, acts, deltas)]
    CALL(address)(addresses[0], addresses[1], low, count, 0, *addresses[2:], 0, 0, 0)


def run(members, z, before=2):
    x, out = embed(z, before), embed(z[:0], before + len(z), offset=1, gap=3)
    acts, plan = join(x, out)
    given = acts.copy()
    call(members[0], plan, before, len(z), acts, np.empty(0))
    out.flat[:] = acts[x.flat.size :]
    np.testing.assert_array_equal(acts[: x.flat.size], given[: x.flat.size])
    return out.take(before, len(z))


def run_backward(members, dout, z, before=2):
    x, dx = embed(z, before), embed(z[:0], before + len(z))
    dy = embed(dout, before, offset=1, gap=3)
    acts, plan = join(x, dy)
    acts[x.flat.size :] = np.nan  # the output is not read
    deltas, _ = join(dx, dy)
    given = acts.copy(), deltas.copy()
    call(members[1], plan, before, len(z), acts, deltas)
    np.testing.assert_array_equal(acts, given[0])
    np.testing.assert_array_equal(deltas[dx.flat.size :], given[1][dx.flat.size :])
    dx.flat[:] = deltas[: dx.flat.size]
    return dx.take(before, len(dout))


def members_of(name, dtype):
    return tuple(elementwise.elementwise_members(CODES[name], np.dtype(dtype)).values())


def settings(name):
    return (ALPHA,) if name == "elu" else ()


def expected(name, z):
    out = np.full_like(z, np.nan)
    getattr(reference, f"{name}_forward")(out, z, *settings(name))
    return out


def expected_backward(name, dout, z):
    dz = np.full_like(z, np.nan)
    getattr(reference, f"{name}_backward")(dz, dout, z, *settings(name))
    return dz


@with_names
@with_dtypes
def test_both_passes_are_those_of_the_plain_loops(name, dtype, rng):
    eps = np.finfo(dtype).eps
    for n_rows, n in BLOCKS:
        z = rng.normal(0, 3, (n_rows, n)).astype(dtype)
        dout = rng.normal(size=z.shape).astype(dtype)
        out, dz = run(members_of(name, dtype), z), run_backward(members_of(name, dtype), dout, z)
        # Where a power is small, its argument counts: both round it, z^2 / 2 or 2 u.
        error = np.abs(out - expected(name, z))
        assert (error <= (8 + z * z) * eps * np.abs(out)).all() or name == "gelu_tanh"
        assert (error <= 8 * eps * np.maximum(1, np.abs(z))).all()
        error = np.abs(dz - expected_backward(name, dout, z))
        assert (error <= 32 * eps * np.abs(dout)).all()


@with_dtypes
def test_a_hard_tanh_is_exact(dtype, rng):
    z = rng.integers(-3, 4, (5, 97)).astype(dtype) / 2
    dout = rng.integers(-9, 10, z.shape).astype(dtype)
    members = members_of("hard_tanh", dtype)
    assert (run(members, z) == expected("hard_tanh", z)).all()
    assert (run_backward(members, dout, z) == expected_backward("hard_tanh", dout, z)).all()


@with_names
@with_dtypes
def test_derivatives_are_central_differences(name, dtype, rng):
    # Of the float64 function; z keeps away from the corners.
    z = rng.uniform(-6, 6, (3, 97)).astype(dtype)
    z = z[(np.abs(z) > 1e-3) & (np.abs(np.abs(z) - 1) > 1e-3)].reshape(1, -1)
    h, wide = 1e-5, z.astype("float64")
    members = members_of(name, "float64")
    slope = (run(members, wide + h) - run(members, wide - h)) / (2 * h)
    actual = run_backward(members_of(name, dtype), np.ones_like(z), z)
    np.testing.assert_allclose(actual, slope, atol=1e-8 + 16 * np.finfo(dtype).eps)


@with_names
@with_dtypes
def test_large_and_infinite_arguments_give_the_limits(name, dtype):
    for large in (1e3, 1e30, np.inf):
        z = np.array([[-large, large]], dtype)
        low, high = {
            "elu": (-ALPHA, large),
            "selu": (
                -elementwise.SELU_ALPHA * elementwise.SELU_SCALE,
                elementwise.SELU_SCALE * large,
            ),
            "hard_tanh": (-1, 1),
        }.get(name, (0, large))
        out = run(members_of(name, dtype), z)
        np.testing.assert_allclose(out, [[low, high]], rtol=4 * np.finfo(dtype).eps)
        slopes = {"selu": (0, elementwise.SELU_SCALE), "hard_tanh": (0, 0)}.get(name, (0, 1))
        dz = run_backward(members_of(name, dtype), np.ones_like(z), z)
        np.testing.assert_array_equal(dz, np.array([slopes], dtype))


@with_names
@with_dtypes
def test_nan_passes_through_and_stays_where_it_is(name, dtype):
    members = members_of(name, dtype)
    for place in (0, 1, WIDE // 2, WIDE - 1, WIDE + 2):
        z, ones = np.zeros((2, 3, WIDE + 3), dtype)
        ones[:] = 1
        z[1, place] = np.nan
        assert (np.isnan(run(members, z)) == np.isnan(z)).all()
        assert (np.isnan(run_backward(members, z, ones)) == np.isnan(z)).all()
        spread = np.isnan(run_backward(members, ones, z))
        assert (spread == (np.isnan(z) & (name != "hard_tanh"))).all()


@with_names
@with_dtypes
def test_a_row_does_not_depend_on_the_rows_beside_it(name, dtype, rng):
    members = members_of(name, dtype)
    z, dout = rng.normal(0, 3, (2, 7, 97)).astype(dtype)
    out, dz = run(members, z, before=0), run_backward(members, dout, z, before=0)
    for row, n_rows in [(0, 1), (1, 4), (5, 2)]:
        rows = slice(row, row + n_rows)
        np.testing.assert_array_equal(run(members, z[rows], before=row), out[rows])
        np.testing.assert_array_equal(
            run_backward(members, dout[rows], z[rows], before=row), dz[rows]
        )


def test_small_results_of_gelu_keep_their_digits():
    # Computed as 1 + erf(z / sqrt 2), they would lose all of them.
    z = np.linspace(-12, -5, 50).reshape(1, -1)
    exact = [[x * math.erfc(-x / math.sqrt(2)) / 2 for x in z[0]]]
    np.testing.assert_allclose(run(members_of("gelu", "float64"), z), exact, rtol=1e-13)


def test_members_are_compiled_once():
    assert members_of("elu", "float32") == members_of("elu", "float32")
    assert (
        len({members_of(name, dtype) for name in NAMES for dtype in ("float32", "float64")}) == 16
    )


# --- functions of users ---------------------------------------------------------------------------


def softsign(z):
    return z / (1 + abs(z))


def softsign_slope(z):
    return 1 / (1 + abs(z)) ** 2


def user_members(f=softsign, df=softsign_slope, dtype="float64"):
    return tuple(elementwise.user_members(f, df, np.dtype(dtype)).values())


@with_dtypes
@pytest.mark.parametrize("compiled", [False, True])
def test_functions_of_a_user_run_on_every_element(dtype, compiled, rng):
    functions = [numba.njit(f) if compiled else f for f in (softsign, softsign_slope)]
    members = user_members(*functions, dtype)
    for n_rows, n in BLOCKS:
        z, dout = rng.normal(size=(2, n_rows, n)).astype(dtype)
        tolerance = 4 * np.finfo(dtype).eps
        np.testing.assert_allclose(run(members, z), softsign(z), rtol=tolerance)
        np.testing.assert_allclose(
            run_backward(members, dout, z), dout * softsign_slope(z), rtol=tolerance
        )


def test_padding_is_cleared_where_a_function_of_a_user_is_not_zero_at_zero(rng):
    z = rng.normal(size=(3, 7))
    members = user_members(lambda z: 1 / z, lambda z: -1 / (z * z))
    np.testing.assert_allclose(run(members, z), 1 / z)  # `run` looks at the padding
    np.testing.assert_allclose(run_backward(members, z, z), -1 / z, rtol=1e-14)


def test_a_division_by_zero_in_a_function_of_a_user_gives_infinity():
    members = user_members(numba.njit(lambda z: 1 / z), numba.njit(lambda z: -1 / z**2))
    assert run(members, np.array([[0.0, -0.0, 2.0]])).tolist() == [[np.inf, -np.inf, 0.5]]


@pytest.mark.parametrize("function", [math.tanh, np.tanh])
def test_functions_of_a_user_may_be_those_of_a_library(function):
    z = np.array([[-2.0, 0.0, 3.0]])
    members = user_members(function, lambda z: 1 - math.tanh(z) ** 2)
    np.testing.assert_allclose(run(members, z), np.tanh(z), rtol=1e-15)


def test_functions_of_a_user_may_return_integers_and_call_others():
    inner = numba.njit(lambda z: z * z)
    members = user_members(lambda z: math.sqrt(inner(z)), lambda z: 1 if z > 0 else -1)
    z = np.array([[-2.0, 3.0]])
    assert run(members, z).tolist() == [[2, 3]]
    assert run_backward(members, z, z).tolist() == [[2, 3]]


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
        user_members(function, softsign_slope, "float32")
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=message.replace("f must", "df must")):
        user_members(softsign, function, "float32")


# --- machine code ---------------------------------------------------------------------------------


def forward_loop(code):
    def loop(out, z, a):
        for i in range(z.size):
            out[i] = elementwise.apply(code, z[i], a)

    return loop


def backward_loop(code):
    def loop(out, z, a):
        for i in range(z.size):
            out[i] *= elementwise.derivative(code, z[i], a)

    return loop


@with_names
@pytest.mark.parametrize("make", [forward_loop, backward_loop])
@pytest.mark.parametrize(("dtype", "suffix"), [("float32", "ps"), ("float64", "pd")])
def test_a_loop_over_one_function_is_packed_instructions_and_no_calls(make, name, dtype, suffix):
    number = numba.from_dtype(np.dtype(dtype))
    signature = (types.Array(number, 1, "C"), types.Array(number, 1, "C"), number)
    # Not cached: machine code from a file cannot be read again.
    options = {"nogil": True, "fastmath": set(_jit.FASTMATH), **_jit._OPTIONS}
    compiled = numba.njit(**options)(make(CODES[name]))
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
        assert re.search(rf"\bv?(mul{suffix}|fn?madd\d+{suffix}|min{suffix})\b", assembly)
        assert not re.search(r"\bcall", assembly)
