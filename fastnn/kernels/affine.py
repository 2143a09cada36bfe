"""The three matrix products of an affine layer, on register tiles.

    forward            out = x @ w + b            out (B, O), x (B, I), w (I, O), b (O,)
    backward to input  dx = dout @ w.T            dx (B, I)
    backward to weight dw = x.T @ dout            dw (I, O)

Each function here computes a few rows of one of them. They differ only in which operand is read
element by element (the left one) and which one by whole vectors (the right one), so each is the
same loop over `rank1`; `fastnn.kernels.reference` has the same products as plain triple loops.

**Panels.** A matrix that is read by vectors is stored as panels: its columns in groups of
`TILE_VECTORS` vectors, each group row-major with nothing between its rows, so that the innermost
loop walks memory in a straight line. The last panel is narrower (whole vectors, zero padded). An
ordinary row-major matrix is the case of a panel whose rows lie further apart.

Every element of a result is one chain of fused multiply-adds in the order of k. It does not depend
on the tile it is in, the number of threads, or the rows beside it.
"""

from fastnn._jit import inner, routine
from fastnn.kernels.tile import (
    TILE_ROWS,
    TILE_VECTORS,
    keep_where_positive,
    lanes_of,
    load_row,
    rank1,
    relu,
    store,
    zeros,
)


@inner
def round_up(n, multiple):
    """Smallest multiple of `multiple` that is not below n."""
    return (n + multiple - 1) // multiple * multiple


@inner
def _dot_tile(tile, a, ao, a_row, a_k, w, wo, ldw, n_k):
    """tile[i, :] += sum over k of a[ao + i * a_row + k * a_k] * w[wo + k * ldw : ...]."""
    for k in range(n_k):
        tile = rank1(tile, a, ao + k * a_k, a_row, w, wo + k * ldw)
    return tile


@inner
def _forward_tile(tile, n_in, x, xo, x_row, x_k, w, wo, ldw, b, bo, out, oo, ldo, with_relu):
    tile = _dot_tile(load_row(tile, b, bo), x, xo, x_row, x_k, w, wo, ldw, n_in)
    if with_relu:
        tile = relu(tile)
    store(tile, out, oo, ldo)


@inner
def _backward_input_tile(tile, n_out, dout, do, ldd, wt, wo, ldw, dx, xo, ldx, h, masked):
    tile = _dot_tile(tile, dout, do, ldd, 1, wt, wo, ldw, n_out)
    if masked:
        tile = keep_where_positive(tile, h, xo, ldx)
    store(tile, dx, xo, ldx)


@routine
def forward_rows(
    n_rows, n_in, n_out, x, xo, x_row, x_k, w, wo, panel_step, ldw, b, bo, out, oo, ldo, with_relu
):
    """Overwrite rows of out with x @ w + b, or relu of it.

    x (n_rows, n_in) starts at xo; its rows are x_row apart, its columns x_k (1, unless x is
    given by its transpose). The rows of out are ldo apart. n_rows is a multiple of
    TILE_ROWS. Panel j of w starts at wo + j * panel_step; ldw is the distance of its rows, or 0
    for rows packed without gaps.
    """
    lanes = lanes_of(out)
    panel = TILE_VECTORS * lanes
    j = 0
    while j < n_out:
        width = min(round_up(n_out - j, lanes), panel)
        step = ldw if ldw > 0 else width
        for i in range(0, n_rows, TILE_ROWS):
            xi, oi = xo + i * x_row, oo + i * ldo + j
            if width == 3 * lanes:
                tile = zeros(out, TILE_ROWS, 3)
                _forward_tile(
                    tile, n_in, x, xi, x_row, x_k, w, wo, step, b, bo + j, out, oi, ldo, with_relu
                )
            elif width == 2 * lanes:
                tile = zeros(out, TILE_ROWS, 2)
                _forward_tile(
                    tile, n_in, x, xi, x_row, x_k, w, wo, step, b, bo + j, out, oi, ldo, with_relu
                )
            else:
                tile = zeros(out, TILE_ROWS, 1)
                _forward_tile(
                    tile, n_in, x, xi, x_row, x_k, w, wo, step, b, bo + j, out, oi, ldo, with_relu
                )
        wo += panel_step
        j += panel


@routine
def backward_input_rows(n_rows, n_in, n_out, dout, do, ldd, wt, wo, dx, xo, ldx, h, masked):
    """Overwrite rows of dx with dout @ w.T, where `masked` only where h is positive.

    wt holds the panels of w.T (n_out rows, n_in columns) from wo on. h, the layer's input, has
    the layout of dx: when it came out of a ReLU, `masked` multiplies by that ReLU's derivative.
    """
    lanes = lanes_of(dx)
    panel = TILE_VECTORS * lanes
    j = 0
    while j < n_in:
        width = min(round_up(n_in - j, lanes), panel)
        for i in range(0, n_rows, TILE_ROWS):
            di, xi = do + i * ldd, xo + i * ldx + j
            if width == 3 * lanes:
                tile = zeros(dx, TILE_ROWS, 3)
                _backward_input_tile(
                    tile, n_out, dout, di, ldd, wt, wo, width, dx, xi, ldx, h, masked
                )
            elif width == 2 * lanes:
                tile = zeros(dx, TILE_ROWS, 2)
                _backward_input_tile(
                    tile, n_out, dout, di, ldd, wt, wo, width, dx, xi, ldx, h, masked
                )
            else:
                tile = zeros(dx, TILE_ROWS, 1)
                _backward_input_tile(
                    tile, n_out, dout, di, ldd, wt, wo, width, dx, xi, ldx, h, masked
                )
        wo += panel * n_out
        j += panel


@routine
def backward_weight_tile(n_rows, x, xo, ldx, dout, do, ldd, vectors, dw, o):
    """Overwrite dw[o : ...] with a tile of x.T @ dout, summed over n_rows rows.

    The tile has TILE_ROWS rows (inputs) and `vectors` vectors of columns (outputs), stored
    without gaps.
    """
    lanes = lanes_of(dw)
    if vectors == 3:
        tile = _dot_tile(zeros(dw, TILE_ROWS, 3), x, xo, 1, ldx, dout, do, ldd, n_rows)
        store(tile, dw, o, 3 * lanes)
    elif vectors == 2:
        tile = _dot_tile(zeros(dw, TILE_ROWS, 2), x, xo, 1, ldx, dout, do, ldd, n_rows)
        store(tile, dw, o, 2 * lanes)
    else:
        tile = _dot_tile(zeros(dw, TILE_ROWS, 1), x, xo, 1, ldx, dout, do, ldd, n_rows)
        store(tile, dw, o, lanes)
