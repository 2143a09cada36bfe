"""Panels: how matrices lie in memory while a net is trained.

A matrix (B, n) is stored as its columns in groups of `TILE_VECTORS` vectors. Each group, a *panel*,
is row-major with nothing between its rows; the last one is narrower. Columns beyond n, up to whole
vectors, are padding, which holds zeros. `distance` is that from one panel to the next.

    element (r, c) is at   start + (c // panel) * distance + r * panel_width + c % panel

Kernels that serve ordinary row-major arrays too take the length of a panel as an argument: such an
array is a single panel that is n wide, without padding.
"""

from fastnn._jit import inner
from fastnn.kernels.tile import TILE_ROWS, TILE_VECTORS, lanes_of, prefetch

_LINE_BYTES = 64


@inner
def round_up(n, multiple):
    """Smallest multiple of `multiple` that is not below n."""
    return (n + multiple - 1) // multiple * multiple


@inner
def panel_columns(like):
    """Columns of a full panel in an array of the dtype of `like`."""
    return TILE_VECTORS * lanes_of(like)


@inner
def panel_width(n, j, like, panel):
    """Columns, with padding, of the panel that begins at column j of n."""
    return min(round_up(n - j, max(lanes_of(like), TILE_ROWS)), panel)


@inner
def prefetch_lines(n, array, o):
    """Fetch n elements from o on for later, line by line of the cache."""
    for c in range(0, n, _LINE_BYTES // array.itemsize):
        prefetch(array, o + c)
