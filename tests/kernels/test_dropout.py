"""The kernels of dropout, called at their addresses, against the plain loop."""

import numpy as np
import pytest

from fastnn.kernels import dropout, reference
from fastnn.kernels.tile import TILE_VECTORS
from tests.kernels.dtypes import each_dtype
from tests.kernels.operations import Memory, Unchanged, call, work
from tests.panel_layout import lanes

WIDE = TILE_VECTORS * lanes("float32")  # columns of a panel; half as many are one of float64
COLUMNS = [1, 7, WIDE // 2, WIDE - 1, WIDE, WIDE + 1, 97]
N_ROWS, SEED, FIRST_STEP, STEP = 6, 2**62 + 5, 10, 3

with_dtypes = each_dtype("dropout")


def mask(rate, shape, dtype):
    result = np.full(shape, np.nan, dtype)
    reference.dropout_mask(result, rate, SEED, FIRST_STEP + STEP)
    return result


def run(make, memory, rate, low, count):
    op = memory.operation(numbers=[rate, 0, 0], seed=SEED, first_step=FIRST_STEP)
    call(
        make(memory.x.dtype), op, low, count, work(acts=memory.data, deltas=memory.data, step=STEP)
    )


@with_dtypes
@pytest.mark.parametrize("rate", [0.0, 0.25, 0.5, 0.9])
def test_both_passes_multiply_by_the_mask_of_the_plain_loop(dtype, rate, rng):
    for n in COLUMNS:
        values = rng.normal(size=(N_ROWS, n)).astype(dtype)
        right = values * mask(rate, values.shape, dtype)
        for low, count in [(0, N_ROWS), (2, 3), (5, 1), (0, 0)]:
            rows = slice(low, low + count)
            memory = Memory(N_ROWS, n, n, dtype)
            memory.x.fill(values)
            with Unchanged(memory.x.flat):
                run(dropout.forward_kernel, memory, rate, low, count)
            np.testing.assert_array_equal(memory.out.take(low, count), right[rows])
            memory = Memory(N_ROWS, n, n, dtype)
            memory.out.fill(values)
            with Unchanged(memory.out.flat):
                run(dropout.backward_kernel, memory, rate, low, count)
            np.testing.assert_array_equal(memory.x.take(low, count), right[rows])


@with_dtypes
def test_the_mask_is_another_one_for_each_step_and_seed(dtype):
    ones, results = np.ones((N_ROWS, 97), dtype), []
    for change in ({}, {"seed": SEED + 1}, {"first_step": FIRST_STEP + 1}):
        memory = Memory(N_ROWS, 97, 97, dtype)
        memory.x.fill(ones)
        given = {"numbers": [0.5, 0, 0], "seed": SEED, "first_step": FIRST_STEP} | change
        now = work(acts=memory.data, step=STEP)
        call(dropout.forward_kernel(dtype), memory.operation(**given), 0, N_ROWS, now)
        results.append(memory.out.take())
    for k, one in enumerate(results):
        for other in results[:k]:
            assert 0.3 < (one != other).mean() < 0.7


@with_dtypes
def test_what_is_dropped_is_zero_whatever_it_was(dtype):
    memory = Memory(N_ROWS, 97, 97, dtype)
    memory.x.fill(np.full((N_ROWS, 97), np.nan, dtype))
    run(dropout.forward_kernel, memory, 0.5, 0, N_ROWS)
    dropped = mask(0.5, (N_ROWS, 97), dtype) == 0
    out = memory.out.take()
    assert (out[dropped] == 0).all()
    assert np.isnan(out[~dropped]).all()
