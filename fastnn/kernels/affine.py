"""The three matrix products of an affine layer, on register tiles.

    forward            out = x @ w + b            out (B, O), x (B, I), w (I, O), b (O,)
    backward to input  dx = dout @ w.T            dx (B, I)
    backward to weight dw = x.T @ dout            dw (I, O)

All are the same loop over `rank1`, and differ in which operand is read element by element (the left
one) and which one by whole vectors (the right one). `fastnn.kernels.reference` has the same
products as plain triple loops.

All matrices lie in panels (`fastnn.kernels.panels`). A panel is what a tile reads while it walks
down its rows or along its columns, so the innermost loops go through memory in a straight line,
whichever operand a matrix is. An activation that one product writes is the left operand of the
next, and of two more on the way back: none of them has to rearrange it.

**Blocks of k.** A long sum is cut into blocks, so that the part of the right operand that all rows
read stays in a near cache; between blocks the partial sums lie in the result.

Every element of a result is one chain of fused multiply-adds in the order of k. It does not depend
on the tile it is in, the number of threads, or the rows beside it.
"""

from fastnn.kernels.panels import panel_columns, panel_width, prefetch_lines
from fastnn.kernels.tile import (
    NARROW_ROWS,
    TILE_ROWS,
    TILE_VECTORS,
    keep_where_positive,
    lanes_of,
    load,
    load_row,
    rank1,
    relu,
    store,
    zeros,
)
from fastnn.runtime.jit import inner, routine

# What `multiply_rows` does to a tile before it stores it.
KEEP, RECTIFY, MASK = range(3)

# Length of a block of a sum: whole panels in both dtypes and for all vector widths. A panel of the
# right operand stays in the second-level cache, beside the rows that read it.
K_BLOCK = 480

# Rows of the batch that are summed to a block of dw at a time: the panels of x and of dout stay
# in the first-level cache.
BATCH_BLOCK = 128

# Vectors of a tile that has one row: enough sums at a time that none waits for the last.
ROW_VECTORS = 8

NO_BIAS = -1

# In place of the distance of a matrix' rows: it lies in panels.
IN_PANELS = 0


@inner
def _dot(tile, n_k, a, ao, a_row, a_k, b, bo, b_k):
    """tile[i, :] += sum over k of a[ao + i * a_row + k * a_k] * b[bo + k * b_k : ...]."""
    for k in range(n_k):
        tile = rank1(tile, a, ao + k * a_k, a_row, b, bo + k * b_k)
    return tile


@inner
def _multiply_tile(
    tile, i, low, high, n_in, x, xo, x_panel, x_row, w, wo, w_row, b, bo, out, oo, width, h, finish
):
    """One tile of `_multiply_rows` over the block [low, high) of the sum."""
    panel = panel_columns(x)
    if low > 0:
        tile = load(tile, out, oo, width)
    elif bo != NO_BIAS:
        tile = load_row(tile, b, bo)
    if x_row != IN_PANELS:
        tile = _dot(tile, high - low, x, xo + i * x_row + low, x_row, 1, w, wo + low * w_row, w_row)
    else:
        whole = min(high, n_in // panel * panel)
        for k in range(low, whole, panel):  # of a length that the compiler knows
            xi = xo + k // panel * x_panel + i * panel
            tile = _dot(tile, panel, x, xi, panel, 1, w, wo + k * w_row, w_row)
        if whole < high:
            last = panel_width(n_in, whole, x, panel)
            xi = xo + whole // panel * x_panel + i * last
            tile = _dot(tile, high - whole, x, xi, last, 1, w, wo + whole * w_row, w_row)
    if high == n_in:
        if finish == RECTIFY:
            tile = relu(tile)
        elif finish == MASK:
            tile = keep_where_positive(tile, h, oo, width)
    store(tile, out, oo, width)


@inner
def _multiply_rows(
    row, n_rows, n_in, n_out, x, xo, x_panel, x_row, w, wo, w_panel, w_row, b, bo, out, oo,
    out_panel, h, finish,
):  # fmt: skip
    """Do `multiply_rows` where rows of x and w may lie a distance apart that is not IN_PANELS."""
    lanes, panel = lanes_of(out), panel_columns(out)
    for low in range(0, n_in, K_BLOCK):  # Blocks of the sum.
        high = min(low + K_BLOCK, n_in)
        for j in range(0, n_out, panel):  # Panels of w, which all rows read.
            width = panel_width(n_out, j, out, panel)
            w_step = width if w_row == IN_PANELS else w_row
            wj, bj = wo + j // panel * w_panel, bo if bo == NO_BIAS else bo + j
            i, end = row, row + n_rows
            while i < end:  # Tiles: in registers.
                oi = oo + j // panel * out_panel + i * width
                if width == 3 * lanes:
                    _multiply_tile(
                        zeros(out, TILE_ROWS, 3), i, low, high, n_in, x, xo, x_panel, x_row,
                        w, wj, w_step, b, bj, out, oi, width, h, finish,
                    )  # fmt: skip
                elif width == 2 * lanes:
                    _multiply_tile(
                        zeros(out, TILE_ROWS, 2), i, low, high, n_in, x, xo, x_panel, x_row,
                        w, wj, w_step, b, bj, out, oi, width, h, finish,
                    )  # fmt: skip
                elif i + NARROW_ROWS <= end:  # a narrow tile alone would wait for each sum
                    _multiply_tile(
                        zeros(out, NARROW_ROWS, 1), i, low, high, n_in, x, xo, x_panel, x_row,
                        w, wj, w_step, b, bj, out, oi, width, h, finish,
                    )  # fmt: skip
                    i += NARROW_ROWS - TILE_ROWS
                else:
                    _multiply_tile(
                        zeros(out, TILE_ROWS, 1), i, low, high, n_in, x, xo, x_panel, x_row,
                        w, wj, w_step, b, bj, out, oi, width, h, finish,
                    )  # fmt: skip
                i += TILE_ROWS


@routine
def multiply_rows(
    row, n_rows, n_in, n_out, x, xo, x_panel, w, wo, w_panel, b, bo, out, oo, out_panel, h, finish
):  # fmt: skip
    """Overwrite rows [row, row + n_rows) of out with x @ w + b, finished in one of three ways.

    Panels of x (B, n_in) begin at xo, x_panel apart, those of out (B, n_out) at oo, out_panel
    apart. row and n_rows are multiples of TILE_ROWS. Panels of w (n_in, n_out) begin at wo,
    w_panel apart. With bo NO_BIAS there is no b.

    The way forward ends with KEEP, or RECTIFY for relu. The way back, dx = dout @ w.T, is the same
    product with the panels of w.T: KEEP, or MASK where the layer's input h came out of a ReLU. h
    lies as out does; where it is not positive, out is zero.
    """
    _multiply_rows(
        row, n_rows, n_in, n_out, x, xo, x_panel, IN_PANELS, w, wo, w_panel, IN_PANELS, b, bo,
        out, oo, out_panel, h, finish,
    )  # fmt: skip


@routine
def multiply_rows_in_place(
    row, n_rows, n_in, n_out, x, xo, x_panel, x_row, w, wo, w_panel, w_row, b, bo,
    out, oo, out_panel, finish,
):  # fmt: skip
    """Do `multiply_rows` for an x or a w that is an ordinary array.

    Its rows lie x_row or w_row apart, which otherwise is IN_PANELS; its panels are next to each
    other. Of an ordinary w and b whole vectors are read, which may reach beyond the last column,
    into the padding of out.
    """
    _multiply_rows(
        row, n_rows, n_in, n_out, x, xo, x_panel, x_row, w, wo, w_panel, w_row, b, bo,
        out, oo, out_panel, out, finish,
    )  # fmt: skip


@inner
def _row_tile(tile, n_in, x, xo, w, wo, ldw, b, bo, out, oo, finish):
    if bo != NO_BIAS:
        tile = load_row(tile, b, bo)
    tile = _dot(tile, n_in, x, xo, 0, 1, w, wo, ldw)
    if finish == RECTIFY:
        tile = relu(tile)
    store(tile, out, oo, 0)


@routine
def multiply_row(n_in, n_out, x, xo, w, wo, ldw, b, bo, out, oo, finish):
    """Overwrite one row of out with x @ w + b: KEEP it, or RECTIFY it.

    All lie as ordinary row-major arrays; the rows of w are ldw apart. Reads and writes whole
    vectors, which may reach beyond the last column. The same bits as `multiply_rows`.
    """
    lanes = lanes_of(out)
    j = 0
    while j < n_out:
        bj = bo if bo == NO_BIAS else bo + j
        vectors = (n_out - j + lanes - 1) // lanes
        if vectors >= ROW_VECTORS:
            tile = zeros(out, 1, ROW_VECTORS)
            _row_tile(tile, n_in, x, xo, w, wo + j, ldw, b, bj, out, oo + j, finish)
            j += ROW_VECTORS * lanes
        elif vectors > 1:
            tile = zeros(out, 1, 2)
            _row_tile(tile, n_in, x, xo, w, wo + j, ldw, b, bj, out, oo + j, finish)
            j += 2 * lanes
        else:
            tile = zeros(out, 1, 1)
            _row_tile(tile, n_in, x, xo, w, wo + j, ldw, b, bj, out, oo + j, finish)
            j += lanes


@inner
def _two_row_tiles(n_in, x, xo, w, wo, w_panel, b, bo, out, oo, finish):
    """Two full panels at a time: enough sums that none waits for the last."""
    panel = panel_columns(out)
    one, two = zeros(out, 1, TILE_VECTORS), zeros(out, 1, TILE_VECTORS)
    if bo != NO_BIAS:
        one, two = load_row(one, b, bo), load_row(two, b, bo + panel)
    for k in range(n_in):
        one = rank1(one, x, xo + k, 0, w, wo + k * panel)
        two = rank1(two, x, xo + k, 0, w, wo + w_panel + k * panel)
    if finish == RECTIFY:
        one, two = relu(one), relu(two)
    store(one, out, oo, 0)
    store(two, out, oo + panel, 0)


@routine
def multiply_packed_row(n_in, n_out, x, xo, w, wo, w_panel, b, bo, out, oo, finish):
    """Do `multiply_row` for w in panels that begin at wo, w_panel apart."""
    lanes, panel = lanes_of(out), panel_columns(out)
    j = 0
    while j < n_out:
        width = panel_width(n_out, j, out, panel)
        wj, bj = wo + j // panel * w_panel, bo if bo == NO_BIAS else bo + j
        if j + 2 * panel <= n_out:
            _two_row_tiles(n_in, x, xo, w, wj, w_panel, b, bj, out, oo + j, finish)
            j += panel
        elif width == panel:
            tile = zeros(out, 1, TILE_VECTORS)
            _row_tile(tile, n_in, x, xo, w, wj, width, b, bj, out, oo + j, finish)
        else:
            for c in range(0, width, lanes):
                bc = bj if bj == NO_BIAS else bj + c
                tile = zeros(out, 1, 1)
                _row_tile(tile, n_in, x, xo, w, wj + c, width, b, bc, out, oo + j + c, finish)
        j += panel


@inner
def _weight_tile(tile, low, n_rows, x, xo, x_row, dout, do, width, dw, o):
    """One tile of `backward_weight_block` over rows of the batch from `low` on."""
    if low > 0:
        tile = load(tile, dw, o, width)
    store(_dot(tile, n_rows, x, xo, 1, x_row, dout, do, width), dw, o, width)


@inner
def backward_weight_block(
    n_rows, i, n_i, n_in, x, xo, x_panel, dout, do, width, dw, o, params, state_1, state_2, po
):
    """Overwrite rows [i, i + n_i) of a panel of dw with x.T @ dout, summed over n_rows rows.

    i and n_i are multiples of TILE_ROWS. Panels of x (B, n_in) begin at xo, x_panel apart. The
    panel of dout begins at do and has `width` columns. The rows of dw begin at o, without gaps.
    Meanwhile, what the update needs is fetched: the same block, from po on, of the parameters
    and of the states of the update rule.
    """
    lanes, panel = lanes_of(dw), panel_columns(dw)
    for low in range(0, n_rows, BATCH_BLOCK):
        rows = min(BATCH_BLOCK, n_rows - low)
        at = do + low * width
        t = 0
        while t < n_i:
            p = (i + t) // panel
            x_row = panel_width(n_in, p * panel, x, panel)
            xi = xo + p * x_panel + low * x_row + i + t - p * panel
            oi = o + t * width
            if low + rows == n_rows:
                prefetch_lines(TILE_ROWS * width, params, po + t * width)
                prefetch_lines(TILE_ROWS * width, state_1, po + t * width)
                prefetch_lines(TILE_ROWS * width, state_2, po + t * width)
            if width == 3 * lanes:
                tile = zeros(dw, TILE_ROWS, 3)
                _weight_tile(tile, low, rows, x, xi, x_row, dout, at, width, dw, oi)
            elif width == 2 * lanes:
                tile = zeros(dw, TILE_ROWS, 2)
                _weight_tile(tile, low, rows, x, xi, x_row, dout, at, width, dw, oi)
            elif t + NARROW_ROWS <= n_i and i + t + NARROW_ROWS <= p * panel + x_row:
                tile = zeros(dw, NARROW_ROWS, 1)
                _weight_tile(tile, low, rows, x, xi, x_row, dout, at, width, dw, oi)
                t += NARROW_ROWS - TILE_ROWS
            else:
                tile = zeros(dw, TILE_ROWS, 1)
                _weight_tile(tile, low, rows, x, xi, x_row, dout, at, width, dw, oi)
            t += TILE_ROWS
