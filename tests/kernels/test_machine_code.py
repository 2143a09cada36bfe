"""The innermost loops of the products, as machine code: nothing but arithmetic in registers."""

import functools
import importlib
import pkgutil
import re

import llvmlite.binding
import numba
import numpy as np
import pytest
from numba import types
from numba.core.codegen import get_host_cpu_features

from fastnn import kernels
from fastnn.kernels import activations, batch_norm, layer_norm, losses, updates
from fastnn.kernels.panels import Panels
from fastnn.kernels.products import Product, Update, backward_weight_block, multiply_rows
from fastnn.kernels.tile import TILE_ROWS, TILE_VECTORS, lanes_of, rank1, store, zeros
from fastnn.runtime import jit as _jit
from fastnn.runtime.cpu import VECTOR_BYTES
from tests.kernels.dtypes import each_dtype

with_dtypes = each_dtype("machine code")


def product(n, a, b, out):
    step = TILE_VECTORS * lanes_of(out)
    tile = zeros(out, TILE_ROWS, TILE_VECTORS)
    for k in range(n):
        tile = rank1(tile, a, k * TILE_ROWS, 1, b, k * step)
    store(tile, out, 0, step)


def multiply(x, w, b, out, h, row, n_rows, n_in, n_out, x_row, w_row, b_at, finish, distance):
    x, w = Panels(x, 0, distance, n_in), Panels(w, 0, distance, n_out)
    out = Panels(out, 0, distance, n_out)
    multiply_rows(Product(x, x_row, w, w_row, b, b_at, out, h, finish), row, n_rows)


def weigh(x, dout, dw, params, state_1, state_2, n_rows, i, n_i, j, n_in, n_out, distance, at):
    x, dout = Panels(x, 0, distance, n_in), Panels(dout, 0, distance, n_out)
    update = Update(params, state_1, state_2, at)
    backward_weight_block(x, dout, n_rows, i, n_i, j, dw, update)


ARRAYS = {"a", "b", "out", "x", "w", "h", "dout", "dw", "params", "state_1", "state_2"}


@functools.cache
def compiled(function, dtype):
    """Compile as the package does, but without the cache, whose machine code cannot be read."""
    vector = types.Array(numba.from_dtype(np.dtype(dtype)), 1, "C")
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    signature = tuple(vector if name in ARRAYS else types.intp for name in names)
    dispatcher = numba.njit(nogil=True, **_jit._OPTIONS)(function)
    dispatcher.compile(signature)
    return dispatcher, signature


def compile_to_assembly(function, dtype):
    dispatcher, signature = compiled(function, dtype)
    return dispatcher.inspect_asm(signature)


def loops(assembly):
    """Return the basic blocks that jump back to their own label: innermost loops."""
    blocks = re.split(r"^(\.?L\w+):", assembly, flags=re.MULTILINE)
    for label, body in zip(blocks[1::2], blocks[2::2], strict=True):
        if re.search(rf"\s{re.escape(label)}\s*$", body, re.MULTILINE):
            yield body


def tile_loops(function, dtype):
    """Return the loops that update a tile: how many multiply-adds each has, and its code."""
    triple = llvmlite.binding.get_default_triple()
    features = numba.config.CPU_FEATURES
    features = get_host_cpu_features() if features is None else features
    if not triple.startswith("x86_64") or "+fma" not in features.split(","):
        pytest.skip("an x86 CPU with FMA is needed")
    suffix = "ps" if dtype == "float32" else "pd"
    register = {16: "xmm", 32: "ymm", 64: "zmm"}[VECTOR_BYTES]
    fused = re.compile(rf"\bvfmadd\d+{suffix}\b.*%{register}")
    counted = [
        (len(fused.findall(body)), body) for body in loops(compile_to_assembly(function, dtype))
    ]
    return [(at_once, body) for at_once, body in counted if at_once]


def assert_in_registers(at_once, body, spills=0):
    """Check the code of a loop; at most a share of the multiply-adds may spill an accumulator."""
    assert at_once % TILE_ROWS == 0
    assert not re.search(r"\bv(mul|add)p[sd]\b", body)
    assert "call" not in body
    stores = re.findall(r"\bvmov\w+\s+%\wmm\d+,.*\(", body)
    assert len(stores) <= spills * at_once, "accumulators go to memory"


@with_dtypes
def test_the_innermost_loop_is_fused_multiply_adds_in_registers(dtype):
    at_once, body = max(tile_loops(product, dtype))
    assert at_once % (TILE_ROWS * TILE_VECTORS) == 0
    assert_in_registers(at_once, body)


@with_dtypes
@pytest.mark.parametrize("function", [multiply, weigh])
def test_the_products_of_a_layer_have_such_a_loop_for_each_width_of_a_panel(function, dtype):
    found = tile_loops(function, dtype)
    assert len(found) >= TILE_VECTORS
    assert max(at_once for at_once, _ in found) >= TILE_ROWS * TILE_VECTORS
    for at_once, body in found:
        # A loop over a panel may be unrolled as a whole, and then spills now and then. That costs
        # no time. An accumulator that is lost to memory is stored at each multiply-add.
        unrolled = at_once > 2 * TILE_ROWS * TILE_VECTORS
        assert_in_registers(at_once, body, spills=0.25 if unrolled else 0)


def test_a_kernel_cannot_allocate():
    @_jit.kernel
    def make_array(n):
        return np.zeros(n).sum()

    # Kernels are compiled without Numba's memory management, so no step can allocate anything.
    with pytest.raises(numba.core.errors.NumbaError):
        make_array(3)


# --- strict arithmetic ----------------------------------------------------------------------------

FLAGS = re.compile(r"= (?:tail )?(?:f\w+|call|select|phi) (?:\w+ )*?(?:fast|reassoc|contract)\b")
"""An instruction that LLVM may reorder, or fuse with another one, as it likes."""


def add_products(a, b, out):
    total = out.dtype.type(0)
    for i in range(a.size):
        total += a[i] * b[i]
    out[0] = total


@with_dtypes
def test_freedom_to_reorder_or_fuse_would_be_seen(dtype):
    vector = types.Array(numba.from_dtype(dtype), 1, "C")
    for flags in (True, {"reassoc"}, {"contract"}):
        free = numba.njit(fastmath=flags)(add_products)
        free.compile((vector,) * 3)
        assert FLAGS.search(free.inspect_llvm((vector,) * 3))
    strict, signature = compiled(add_products, dtype)
    assert not FLAGS.search(strict.inspect_llvm(signature))


KERNELS = {
    "affine": multiply,
    "weight gradient": weigh,
    "activation": lambda dtype: activations.backward_kernel(activations.ACTIVATIONS["gelu"], dtype),
    "softmax": lambda dtype: activations.activate_kernel(activations.ACTIVATIONS["softmax"], dtype),
    "layer norm": layer_norm.forward_kernel,
    "batch norm": batch_norm.backward_kernel,
    "loss": lambda dtype: losses.loss_kernel("softmax_of_probabilities", dtype),
    "update": lambda dtype: updates.update_kernel(updates.RULES["adam"], dtype),
}


@pytest.mark.parametrize("name", KERNELS)
@with_dtypes
def test_no_instruction_of_a_kernel_may_be_reordered_or_fused(name, dtype):
    if KERNELS[name] in (multiply, weigh):
        dispatcher, signature = compiled(KERNELS[name], dtype)
        code = dispatcher.inspect_llvm(signature)
    else:
        # Compiled once more: machine code from the cache cannot be read.
        address = KERNELS[name](dtype)
        member = next(member for member in _jit._members if member.address == address)
        n_arguments = len(member._sig.args)
        _jit.compile_at_address(member._pyfunc, n_arguments, cached=False)
        code = _jit._members[-1].inspect_llvm()
    assert re.search(r"\bf(mul|add|sub|div)\b|llvm\.fmuladd", code)
    assert not FLAGS.search(code)


def test_no_function_of_kernels_is_compiled_with_fast_arithmetic():
    found = 0
    for module in pkgutil.walk_packages(kernels.__path__, "fastnn.kernels."):
        for value in vars(importlib.import_module(module.name)).values():
            options = getattr(value, "targetoptions", None)
            if isinstance(options, dict):
                assert not options.get("fastmath"), value
                found += 1
    assert found > 100
