"""How matrices lie in panels: kernels, plan and tests agree."""

import numpy as np
import pytest

from fastnn.engine import plan
from fastnn.kernels import panels
from fastnn.kernels.tile import TILE_ROWS, TILE_VECTORS
from fastnn.runtime.jit import kernel
from tests.panel_layout import Panels, lanes, whole

SIZES = [1, 2, 3, 4, 5, 7, 8, 9, 11, 12, 13, 23, 24, 25, 47, 48, 49, 97, 1009]

with_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


@kernel
def columns(like):
    return panels.panel_columns(like)


@kernel
def width(n, j, like, panel):
    return panels.panel_width(n, j, like, panel)


@kernel
def round_up(n, multiple):
    return panels.round_up(n, multiple)


def test_sizes_are_rounded_up_to_the_next_multiple():
    for multiple in (1, 2, 4, 7, 16):
        for n in (0, *SIZES):
            assert round_up(n, multiple) == plan.round_up(n, multiple) == whole(n, multiple)


@with_dtypes
def test_a_panel_is_as_wide_as_a_tile_and_holds_whole_tiles_of_rows(dtype):
    panel = columns(np.empty(0, dtype))
    assert panel == plan.panel_columns(dtype) == TILE_VECTORS * lanes(dtype)
    assert panel % TILE_ROWS == 0


@with_dtypes
def test_the_last_panel_is_as_narrow_as_whole_vectors_and_tiles_allow(dtype):
    like, panel = np.empty(0, dtype), plan.panel_columns(dtype)
    for n in SIZES:
        layout = Panels((1, n), dtype)
        for j in range(0, n, panel):
            actual = width(n, j, like, panel)
            assert actual == plan.panel_width(n, j, dtype) == layout.width(j)
            assert n - j <= actual or actual == panel
            assert actual % lanes(dtype) == actual % TILE_ROWS == 0
            assert actual // lanes(dtype) in (1, 2, 3), "the products have a branch for each"
        assert plan.padded_width(n, dtype) == j + actual


@with_dtypes
def test_an_ordinary_matrix_is_one_panel_without_padding(dtype):
    for n in SIZES:
        assert width(n, 0, np.empty(0, dtype), n) == n


@with_dtypes
def test_elements_lie_where_the_formula_says(dtype):
    matrix = np.arange(1, 5 * 97 + 1, dtype=dtype).reshape(5, 97)
    laid = Panels.of(matrix)
    panel, like = laid.panel, np.empty(0, dtype)
    for (r, c), value in np.ndenumerate(matrix):
        panel_width = width(97, c // panel * panel, like, panel)
        at = laid.offset + c // panel * laid.distance + r * panel_width + c % panel
        assert laid.flat[at] == value
