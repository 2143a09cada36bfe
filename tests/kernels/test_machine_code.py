"""The innermost loops of the products, as machine code: nothing but arithmetic in registers."""

import re

import llvmlite.binding
import numba
import numpy as np
import pytest
from numba import types
from numba.core.codegen import get_host_cpu_features

from fastnn.kernels.affine import backward_weight_block, multiply_rows
from fastnn.kernels.tile import (
    TILE_ROWS,
    TILE_VECTORS,
    VECTOR_BYTES,
    lanes_of,
    rank1,
    store,
    zeros,
)
from fastnn.runtime import jit as _jit

with_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


def product(n, a, b, out):
    step = TILE_VECTORS * lanes_of(out)
    tile = zeros(out, TILE_ROWS, TILE_VECTORS)
    for k in range(n):
        tile = rank1(tile, a, k * TILE_ROWS, 1, b, k * step)
    store(tile, out, 0, step)


def multiply(
    row, n_rows, n_in, n_out, x, xo, x_panel, w, wo, w_panel, b, bo, out, oo, out_panel, h, finish
):  # fmt: skip
    multiply_rows(
        row, n_rows, n_in, n_out, x, xo, x_panel, w, wo, w_panel, b, bo, out, oo, out_panel, h,
        finish,
    )  # fmt: skip


def weigh(
    n_rows, i, n_i, n_in, x, xo, x_panel, dout, do, width, dw, o, params, state_1, state_2, po
):
    backward_weight_block(
        n_rows, i, n_i, n_in, x, xo, x_panel, dout, do, width, dw, o, params, state_1, state_2, po
    )


ARRAYS = {"a", "b", "out", "x", "w", "h", "dout", "dw", "params", "state_1", "state_2"}


def compile_to_assembly(function, dtype):
    """Compile as the package does, but without the cache, whose machine code cannot be read."""
    vector = types.Array(numba.from_dtype(np.dtype(dtype)), 1, "C")
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    signature = tuple(vector if name in ARRAYS else types.intp for name in names)
    compiled = numba.njit(nogil=True, fastmath=set(_jit.FASTMATH), **_jit._OPTIONS)(function)
    compiled.compile(signature)
    return compiled.inspect_asm(signature)


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
