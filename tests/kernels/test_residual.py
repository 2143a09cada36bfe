"""The kernels that copy and add whole results, called at their addresses."""

import numpy as np

from fastnn.kernels import residual
from fastnn.kernels.tile import TILE_VECTORS
from tests.kernels.dtypes import each_dtype
from tests.kernels.operations import Memory, Unchanged, call, work
from tests.panel_layout import Panels, lanes

WIDE = TILE_VECTORS * lanes("float32")  # columns of a panel; half as many are one of float64
COLUMNS = [1, 7, WIDE // 2, WIDE - 1, WIDE, WIDE + 1, 97]
ROWS = [(0, 5), (1, 3), (4, 1), (2, 0)]
N_ROWS = 5

with_dtypes = each_dtype("residual")


def draw(rng, n, dtype):
    return rng.integers(-50, 51, (N_ROWS, n)).astype(dtype)


@with_dtypes
def test_rows_are_copied_forward_and_back(dtype, rng):
    for n in COLUMNS:
        values = draw(rng, n, dtype)
        for low, count in ROWS:
            memory = Memory(N_ROWS, n, n, dtype)
            memory.x.fill(values)
            with Unchanged(memory.x.flat):
                kernel = residual.copy_forward_kernel(dtype)
                call(kernel, memory.operation(), low, count, work(acts=memory.data))
            np.testing.assert_array_equal(memory.out.take(low, count), values[low : low + count])
            memory = Memory(N_ROWS, n, n, dtype)
            memory.out.fill(values)
            with Unchanged(memory.out.flat):
                kernel = residual.copy_backward_kernel(dtype)
                call(kernel, memory.operation(), low, count, work(deltas=memory.data))
            np.testing.assert_array_equal(memory.x.take(low, count), values[low : low + count])


@with_dtypes
def test_a_result_in_the_place_of_its_input_is_not_copied(dtype, rng):
    values = draw(rng, 97, dtype)
    memory = Memory(N_ROWS, 97, 97, dtype)
    memory.x.fill(values)
    op = memory.operation(out_at=memory.x.offset, out_panel=memory.x.distance)
    with Unchanged(memory.data):
        now = work(acts=memory.data, deltas=memory.data)
        call(residual.copy_forward_kernel(dtype), op, 0, N_ROWS, now)
        call(residual.copy_backward_kernel(dtype), op, 0, N_ROWS, now)


class Block:
    """A residual block's result, its input x, and the result at its other end, in one array."""

    def __init__(self, n, dtype):
        self.memory = Memory(N_ROWS, n, n, dtype, 2 * N_ROWS * (n + 2 * WIDE))
        self.other = Panels((N_ROWS, n), dtype, offset=2, gap=3)
        self.other.flat = self.memory.state[: self.other.flat.size]

    def operation(self, **values):
        other_at = self.memory.state_at + self.other.offset
        return self.memory.operation(other_at=other_at, **values)


@with_dtypes
def test_a_join_adds_the_input_of_the_block(dtype, rng):
    for n in COLUMNS:
        x, skipped = draw(rng, n, dtype), draw(rng, n, dtype)
        for low, count in ROWS:
            rows, block = slice(low, low + count), Block(n, dtype)
            block.memory.x.fill(x)
            block.other.fill(skipped)
            with Unchanged(block.memory.x.flat, block.memory.state):
                kernel = residual.join_forward_kernel(dtype)
                call(kernel, block.operation(), low, count, work(acts=block.memory.data))
            out = block.memory.out.take(low, count)
            np.testing.assert_array_equal(out, x[rows] + skipped[rows])


@with_dtypes
def test_a_join_may_overwrite_its_first_term(dtype, rng):
    x, skipped = draw(rng, 97, dtype), draw(rng, 97, dtype)
    block = Block(97, dtype)
    block.memory.out.fill(x)
    block.other.fill(skipped)
    op = block.operation()
    op["x_at"], op["x_panel"] = op["out_at"], op["out_panel"]
    with Unchanged(block.memory.x.flat, block.memory.state):
        kernel = residual.join_forward_kernel(dtype)
        call(kernel, op, 0, N_ROWS, work(acts=block.memory.data))
    np.testing.assert_array_equal(block.memory.out.take(), x + skipped)


@with_dtypes
def test_a_fork_adds_the_gradient_of_the_sum(dtype, rng):
    for n in COLUMNS:
        dout, skipped = draw(rng, n, dtype), draw(rng, n, dtype)
        for low, count in ROWS:
            rows, block = slice(low, low + count), Block(n, dtype)
            block.memory.out.fill(dout)
            block.other.fill(skipped)
            with Unchanged(block.memory.x.flat, block.memory.state):
                kernel = residual.fork_backward_kernel(dtype)
                call(kernel, block.operation(), low, count, work(deltas=block.memory.data))
            right = dout.copy()
            right[rows] += skipped[rows]
            np.testing.assert_array_equal(block.memory.out.take(), right)
