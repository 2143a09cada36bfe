"""Any array that there is, at every public function: the right answer, or one clear line.

Each test draws arrays of odd shapes, types, layouts and values (`odd_arrays`) and puts them in
the place of an argument of each entry of `public_calls.CALLS`. What comes out must be the same as
for a plain array of the same numbers, or, where there is a formula, what NumPy computes in float64.
"""

import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import scipy.special
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from memory_layouts import misaligned, read_only
from public_calls import CALLS, INPUTS, OUTPUTS, new_layer, new_net, rich_net, state

import fastnn
from fastnn.layers import LAYERS

EXAMPLES = int(os.environ.get("FASTNN_TEST_EXAMPLES", "4"))
"""Of each argument; `test_the_same_with_many_more_examples` asks for more."""

# --- What an array may be -------------------------------------------------------------------------

NUMBERS = "?bhilqBHILQefdg"
OTHERS = ["c8", "c16", "O", "U4", "S3", "M8[D]", "m8[s]", [("a", "f4"), ("b", "i4")], "V3"]
SPECIAL = [np.nan, np.inf, -np.inf, 1e300, -1e39, 3.4e38, 1e-310, 1e-45, -0.0]


def strided(array):
    """Return the array as every other element of a larger one."""
    if array.ndim == 0:
        return array
    wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
    wide[..., ::2] = array
    return wide[..., ::2]


def reversed_memory(array):
    """Return the array with a negative stride along each axis."""
    turned = (slice(None, None, -1),) * array.ndim
    return array[turned].copy()[turned]


def repeated(array):
    """Return rows that are all the first one, with the stride 0."""
    return np.broadcast_to(array[:1], array.shape) if array.ndim and len(array) else array


def masked(array):
    """Return an array of which some elements are masked, which no function here looks at."""
    return np.ma.masked_array(array, mask=np.arange(array.size).reshape(array.shape) % 3 == 1)


def pandas_frame(array):
    """Return a table of pandas, or its column."""
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame(array) if array.ndim == 2 else pandas.Series(array)


def polars_frame(array):
    """Return a table of Polars, or its column."""
    polars = pytest.importorskip("polars")
    return (
        polars.from_numpy(
            np.ascontiguousarray(array),
            schema=[f"c{k}" for k in range(array.shape[1])] if array.ndim == 2 else None,
        )
        if array.ndim == 2
        else polars.Series(array)
    )


def overlapping_windows(array):
    """Return rows that overlap in memory."""
    if array.ndim != 2 or array.size == 0:
        return array
    line = np.resize(array, sum(array.shape))
    return np.lib.stride_tricks.sliding_window_view(line, array.shape[1])[: array.shape[0]]


PLAIN_LAYOUTS = [
    np.ascontiguousarray,
    np.asfortranarray,
    strided,
    reversed_memory,
    read_only,
    repeated,
    misaligned,
    overlapping_windows,
    lambda array: array.T.copy().T,
    lambda array: array.astype(array.dtype.newbyteorder()),
]
CONTAINERS = [
    masked,
    lambda array: array.tolist(),
    lambda array: tuple(array.tolist()),
    lambda array: np.asmatrix(array),
    lambda array: [*array.tolist()[:-1], [0] * 7],
    lambda array: array.astype(object),
]
SPARSE = [
    getattr(scipy.sparse, f"{name}_{kind}")
    for name in ("csr", "csc", "coo", "lil", "dok", "bsr", "dia")
    for kind in ("array", "matrix")
]


@st.composite
def odd_arrays(draw, base):
    """Draw something in the place of an array (ndarray) that an argument is known to take.

    Parameters
    ----------
    base : ndarray
        Its shape and values are kept in more than half of the examples.
    """
    base = np.asarray(base)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    array = base
    if draw(st.integers(0, 2)) == 0:
        array = np.resize(base, draw(st.sampled_from(other_shapes(base.shape))))
    if draw(st.booleans()):
        if draw(st.integers(0, 9)):
            dtype = draw(st.sampled_from(NUMBERS))
            if dtype in "?BHILQ":
                array = np.abs(array)
            array = array.astype(dtype)
        else:
            array = np.zeros(array.shape, draw(st.sampled_from(OTHERS)))
    if array.dtype.kind == "f" and array.size and draw(st.integers(0, 3)) == 0:
        array = array.copy()
        with np.errstate(over="ignore"):
            array[np.unravel_index(rng.integers(array.size), array.shape)] = draw(
                st.sampled_from(SPECIAL)
            )
    where = draw(st.integers(0, 9))
    try:
        if where < 6:
            return draw(st.sampled_from(PLAIN_LAYOUTS))(array)
        if where < 8:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", PendingDeprecationWarning)  # that of a matrix
                return draw(st.sampled_from(CONTAINERS))(array)
        if where == 8 and array.ndim == 2 and array.dtype.char in NUMBERS and array.size:
            return draw(st.sampled_from(SPARSE))(array.astype(array.dtype.newbyteorder("=")))
        if where == 9 and array.dtype.char in "?bhilqBHILQfd" and array.ndim in (1, 2):
            return draw(st.sampled_from([pandas_frame, polars_frame]))(array)
    except (ValueError, TypeError, AttributeError, NotImplementedError, BufferError):
        pass  # there is no such array
    return array


def other_shapes(shape):
    """Return shapes that are not quite right, with zeros and ones among them."""
    shapes = [(), (0,), (1,), (0, 0), (1, 1), (3, 1, 2), (2, 3), (1, *shape), (*shape, 1)]
    for axis, size in enumerate(shape):
        shapes += [(*shape[:axis], n, *shape[axis + 1 :]) for n in (0, 1, size + 1)]
    return shapes


def plain(value):
    """Return the numbers of an odd array as an ordinary one, or None if it has none."""
    if scipy.sparse.issparse(value):
        return np.ascontiguousarray(value.toarray())
    try:
        array = np.asarray(value)
    except ValueError:
        return None
    if array.dtype.kind not in "biuf":
        return None
    return np.array(array, array.dtype.newbyteorder("="), order="C", copy=True, subok=False)


# --- What may come out ----------------------------------------------------------------------------


def outcome(call, arguments, given):
    """Call; return (result, None) or (None, message), and check all that must hold in any case."""
    function = call.make()
    before, bits = state(function), image(arguments[given])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for text in ("the loss became NaN", "integrated_gradients: "):  # as documented
            warnings.filterwarnings("ignore", text, RuntimeWarning)
        if call.foreign:
            from sklearn.exceptions import ConvergenceWarning, DataConversionWarning

            warnings.simplefilter("ignore", ConvergenceWarning)
            warnings.simplefilter("ignore", DataConversionWarning)
            for text in (r"R.2 score is not well-defined", "X has feature names"):
                warnings.filterwarnings("ignore", text)
        try:
            result = function(**arguments)
        except (ValueError, TypeError) as error:
            result, message = None, str(error)
        else:
            message = None
    assert image(arguments[given]) == bits, "an argument has been changed"
    if message is None:
        for array in arrays_in(result):
            for argument in arguments.values():
                if isinstance(argument, np.ndarray) and "check_samples" not in repr(function):
                    assert not np.shares_memory(array, argument), "the result is the argument"
        return [*arrays_in(result), np.frombuffer(state(function), np.uint8)], None
    assert state(function) == before, "refused, but something has changed"
    if not call.foreign:
        assert "\n" not in message
        names = "|".join(map(re.escape, [*arguments, "batch_size"]))  # of a trainer
        assert re.search(rf"(^|\W)({names})(\W|$)", message), message
    return None, message


def image(value):
    """Return what an array-like is, to compare with later."""
    if scipy.sparse.issparse(value):
        return scipy.sparse.coo_array(value).toarray().tobytes(), repr(value)
    if isinstance(value, np.ndarray):
        return value.tobytes(), value.dtype, value.shape, value.strides, value.flags.writeable
    return repr(value)


def arrays_in(result):
    """Return all arrays in a result, however they are packed."""
    if isinstance(result, np.ndarray):
        return [result]
    if isinstance(result, (float, int)):
        return [np.array(result)]
    if isinstance(result, (list, tuple)):
        return [array for part in result for array in arrays_in(part)]
    if isinstance(result, fastnn.Perceptron):
        return [result.weights.copy()]
    if hasattr(result, "coefs_"):
        return [*(w.copy() for w in result.coefs_), *(b.copy() for b in result.intercepts_)]
    if hasattr(result, "keys") and "loss" in result:
        return [np.array(result["loss"])]
    return []


def same(results, others, exact=True):
    """Return whether two outcomes have the same numbers, NaN included."""
    if len(results) != len(others):
        return False
    pairs = list(zip(results, others, strict=True))
    if exact:
        return all(
            a.dtype == b.dtype and np.array_equal(a, b, equal_nan=True)
            if a.dtype.kind == "f"
            else np.array_equal(a, b)
            for a, b in pairs
        )
    return all(
        np.allclose(a, b, 1e-3, 1e-4, equal_nan=True) for a, b in pairs[:-1] if a.dtype.kind == "f"
    )


def slow_to_compile(name, *more):
    """Return a parameter of a test, marked where a function of a user is compiled each time."""
    marks = [pytest.mark.slow] if name.startswith("Activation") else []
    return pytest.param(name, *more, marks=marks, id="-".join((name, *more)))


ARGUMENTS = [
    slow_to_compile(name, argument) for name, call in CALLS.items() for argument in call.arrays
]


@pytest.mark.parametrize("name, argument", ARGUMENTS)
def test_an_odd_array_gives_what_a_plain_one_with_its_numbers_gives(name, argument):
    call = CALLS[name]

    @settings(max_examples=EXAMPLES, phases=[Phase.generate])  # shrinking would take minutes
    @given(odd_arrays(call.arguments[argument]))
    def check(value):
        numbers = plain(value)
        result, message = outcome(call, {**call.arguments, argument: value}, argument)
        if numbers is None:  # text, objects, rows of different lengths
            assert call.foreign or name == "guess_task" or message is not None
            return
        expected, refused = outcome(call, {**call.arguments, argument: numbers}, argument)
        if scipy.sparse.issparse(value):
            assert message is not None or same(result, expected, exact=False)
        else:
            assert call.foreign or (message is None) == (refused is None), (message, refused)
            assert message is not None or same(result, expected)

    check()


# --- Formulas -------------------------------------------------------------------------------------

SIGMOID = scipy.special.expit
SELU = 1.0507009873554805, 1.6732632423543772


def softmax(x):
    return scipy.special.softmax(x, axis=1) if x.size else x


def elu(x, alpha=1.0):
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def gelu(x):
    return x * scipy.special.ndtr(x)


def normalised(x, axis):
    return (x - x.mean(axis, keepdims=True)) / np.sqrt(x.var(axis, keepdims=True) + 1e-5)


def affine(x):
    params = new_layer("Affine").params
    return x @ params["w"].astype(np.float64) + params["b"]


def residual(x):
    w, b = new_layer("Residual").layers[0].params.values()
    return x + np.tanh(x @ w.astype(np.float64) + b)


FORMULAS = {
    "Affine": affine,
    "Identity": lambda x: x,
    "ReLU": lambda x: np.maximum(x, 0),
    "LeakyReLU": lambda x: np.where(x > 0, x, 0.01 * x),
    "Sigmoid": SIGMOID,
    "Tanh": np.tanh,
    "Softmax": softmax,
    "Step": lambda x: np.where(np.isnan(x), x, x > 0),
    "ELU": elu,
    "SELU": lambda x: SELU[0] * elu(x, SELU[1]),
    "GELU": gelu,
    "SiLU": lambda x: x * SIGMOID(x),
    "Softplus": lambda x: np.logaddexp(0, x),
    "Mish": lambda x: x * np.tanh(np.logaddexp(0, x)),
    "HardTanh": lambda x: np.clip(x, -1, 1),
    "Dropout": lambda x: x,
    "BatchNorm": lambda x: x / np.sqrt(1 + 1e-5),
    "LayerNorm": lambda x: normalised(x, 1) if len(x) else x,
    "Residual": residual,
    "Activation": lambda x: x * x,
}
SMOOTH = {"Sigmoid", "Tanh", "Softmax", "ELU", "GELU", "SiLU", "Softplus", "Mish", "Affine"}
SMOOTH |= {"LayerNorm", "Residual", "Activation", "BatchNorm", "Identity", "Dropout"}
KINDS = st.sampled_from("dfeg?bhilqBHILQ")


@st.composite
def tables(draw, n_columns=INPUTS, far=True):
    """Draw a table of numbers of any type and layout, often with large, small and odd values."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(KINDS)
    scale = draw(st.sampled_from([1, 3, 30, 1e-3, 1e-40] if far else [1, 3]))
    x = scale * rng.standard_normal((draw(st.sampled_from([17, 3, 2, 1, 0, 65])), n_columns))
    x = (np.abs(np.rint(x)) if kind in "?BHILQ" else x).astype(kind)
    if kind in "efdg" and x.size and far and draw(st.booleans()):
        x[rng.integers(len(x)), rng.integers(n_columns)] = draw(
            st.sampled_from([np.nan, 1e4, -1e4, 6e4, -0.0, 0.0])
        )
    return draw(st.sampled_from(PLAIN_LAYOUTS))(x)


def close(result, expected, magnitude=1.0):
    """Check numbers against those of float64: where those are finite, and NaN where they are."""
    eps = np.finfo(result.dtype).eps
    assert result.shape == expected.shape
    with np.errstate(over="ignore"):
        in_range = np.abs(expected) < np.finfo(result.dtype).max / 4
    assert np.isfinite(result[in_range]).all()
    assert np.isnan(result[np.isnan(expected)]).all()
    allowed = 30 * eps * (magnitude + np.abs(expected)) + np.finfo(result.dtype).tiny
    assert (
        np.abs(result - expected)[in_range] <= np.broadcast_to(allowed, result.shape)[in_range]
    ).all()


@pytest.mark.parametrize("name", [slow_to_compile(name) for name in FORMULAS])
def test_a_layer_computes_its_formula_and_its_derivative(name):
    @settings(max_examples=8 * EXAMPLES, phases=[Phase.generate])
    @given(tables())
    def check(x):
        layer = new_layer(name)
        with np.errstate(invalid="ignore"):
            out, wide = layer.forward(x), np.asarray(x, np.float64)
            if name in ("Affine", "BatchNorm", "LayerNorm", "Residual"):  # of float32 parameters
                wide, out = wide.astype(np.float32).astype(np.float64), out.astype(np.float32)
            # The error of a sum is that of its terms; a normalised row, of its length.
            size = np.abs(wide).max(initial=1.0) if np.isfinite(wide).all() else 1e4
            close(out, FORMULAS[name](wide), 1e2 * size if name == "LayerNorm" else 10 * size)
        assert not np.shares_memory(out, x)

    @settings(max_examples=4 * EXAMPLES, phases=[Phase.generate])
    @given(tables(far=False), st.integers(0, 99))
    def check_derivative(x, seed):
        x = np.asarray(x, np.float64)
        dout = np.random.default_rng(seed).standard_normal(FORMULAS[name](x).shape)
        layer, step = new_layer(name), 1e-6
        layer.forward(x)
        dx = layer.backward(dout)
        for j in range(INPUTS):
            e = step * np.eye(INPUTS)[j]
            slopes = (FORMULAS[name](x + e) - FORMULAS[name](x - e)) / (2 * step)
            np.testing.assert_allclose(dx[:, j], (dout * slopes).sum(axis=1), 1e-3, 2e-3)

    check()
    if name in SMOOTH:
        check_derivative()


def test_each_layer_has_a_formula():
    assert FORMULAS.keys() == {*LAYERS, "Activation"}


@settings(max_examples=25 * EXAMPLES, phases=[Phase.generate])
@given(st.data())
def test_a_product_is_that_of_numpy_whatever_the_arrays_are(data):
    n = data.draw(st.sampled_from([0, 1, 2, 7, 33]))
    a, b = data.draw(tables(n)), data.draw(tables(n)).T
    out = fastnn.matmul(a, b)
    wide_a, wide_b = (np.asarray(x, out.dtype).astype(np.float64) for x in (a, b))
    assert out.dtype == (np.float32 if np.result_type(a, b) == np.float32 else np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        magnitude = np.abs(wide_a) @ np.abs(wide_b)
        # Of float64 the reference is not more exact than the result.
        close(out, wide_a @ wide_b, (1 + n) * np.nan_to_num(magnitude, nan=0.0))
    assert not np.shares_memory(out, a) and not np.shares_memory(out, b)


@settings(max_examples=5 * EXAMPLES, phases=[Phase.generate])
@given(tables())
def test_a_net_predicts_what_numpy_computes(x):
    net = new_net()
    (w, b), (v, c) = ((w.astype(np.float64), b.astype(np.float64)) for w, b in net.weights())
    with np.errstate(invalid="ignore", over="ignore"):
        wide = np.asarray(x, np.float32).astype(np.float64)
        expected = np.maximum(wide @ w + b, 0) @ v + c
        size = 1e4 if not np.isfinite(wide).all() else np.abs(wide).max(initial=1.0)
        out = net.predict(x)
        close(out, expected, 50 * size)
        close(net.forward(x), expected, 50 * size)


@settings(max_examples=10 * EXAMPLES, phases=[Phase.generate])
@given(st.data())
def test_arrays_that_share_memory_are_never_mixed_up(data):
    dtype = data.draw(st.sampled_from(["f4", "f8"]))
    memory = np.random.default_rng(0).standard_normal(200).astype(dtype)
    part = st.integers(0, 60)

    def matrix(rows, columns):
        start = data.draw(part)
        return memory[start : start + rows * columns].reshape(rows, columns)

    m, k, n = (data.draw(st.integers(1, 8)) for _ in range(3))
    a, b = matrix(m, k), matrix(k, n)
    expected, before = a.copy() @ b.copy(), memory.copy()
    np.testing.assert_allclose(fastnn.matmul(a, b), expected, 1e-4, 1e-5)
    out = matrix(m, n)
    if np.shares_memory(out, a) or np.shares_memory(out, b):
        with pytest.raises(ValueError, match=r"^out must .* shares no memory with a and b"):
            fastnn.matmul(a, b, out=out)
        assert memory.tobytes() == before.tobytes()
    else:
        fastnn.matmul(a, b, out=out)
        np.testing.assert_allclose(out, expected, 1e-4, 1e-5)
    # Data and targets in one array, as columns of a table often are.
    table = np.random.default_rng(1).random((12, INPUTS + OUTPUTS)).astype(dtype)
    nets = [rich_net(), rich_net()]
    nets[0].fit(table[:, :INPUTS], table[:, -OUTPUTS:], loss="mse", epochs=1, batch_size=4)
    nets[1].fit(
        table[:, :INPUTS].copy(), table[:, -OUTPUTS:].copy(), loss="mse", epochs=1, batch_size=4
    )
    assert nets[0].params.tobytes() == nets[1].params.tobytes()


@pytest.mark.slow
def test_the_same_with_many_more_examples():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-x", __file__]
    done = subprocess.run(
        command,
        env={**os.environ, "FASTNN_TEST_EXAMPLES": "100"},
        cwd=Path(__file__).parent.parent.parent,
        capture_output=True,
        text=True,
        timeout=3000,
    )
    assert done.returncode == 0, done.stdout[-3000:]
