"""Losses over some rows of a batch: the loss of each and the gradient with respect to the output.

Each function overwrites rows of dz, the gradient with respect to the net's output z (the padding
with zeros), and adds each row's loss to `row_loss`, which holds zeros. z and dz lie in panels,
alike; the arguments that say which rows are those of `fastnn.kernels.activations`, and z and dz
begin at o both. `scale` is the factor of the gradient: 1 / B for a loss that is a mean over the
batch.
"""

import math

import numpy as np

from fastnn._jit import inner, pasted
from fastnn.kernels.codes import (
    BINARY_CROSS_ENTROPY,
    POISSON,
    SOFTMAX_CROSS_ENTROPY,
    SQUARED_ERROR,
)
from fastnn.kernels.panels import panel_columns, panel_width
from fastnn.kernels.tile import (
    fill_after,
    lanes_of,
    load,
    row_max,
    row_sum,
    scale_and_shift,
    store,
    zeros,
)
from fastnn.kernels.vectormath import exp, logistic


@inner
def _place(r, j, n, z, o, distance):
    """Place of row r in the panel that begins at column j."""
    panel = panel_columns(z)
    return o + j // panel * distance + r * panel_width(n, j, z, panel)


@inner
def _clear_padding(r, n, dz, o, distance):
    """Overwrite the padding of a row with zeros."""
    panel = panel_columns(dz)
    j = (n - 1) // panel * panel
    start = _place(r, j, n, dz, o, distance)
    for c in range(start + n - j, start + panel_width(n, j, dz, panel)):
        dz[c] = dz.dtype.type(0)


@inner
def _shift_row(r, n, z, dz, o, distance):
    """Overwrite a row of dz with z - max(z); return the maximum."""
    panel, lanes = panel_columns(z), lanes_of(z)
    width, start = panel_width(n, 0, z, panel), _place(r, 0, n, z, o, distance)
    if n <= width and width == lanes:
        return _shift_tile(zeros(z, 1, 1), n, z, dz, start)
    if n <= width and width == 2 * lanes:
        return _shift_tile(zeros(z, 1, 2), n, z, dz, start)
    largest = z[start]
    for j in range(0, n, panel):
        start = _place(r, j, n, z, o, distance)
        for c in range(start, start + min(panel, n - j)):
            largest = max(largest, z[c])
    for j in range(0, n, panel):
        start = _place(r, j, n, z, o, distance)
        for c in range(start, start + panel_width(n, j, z, panel)):
            dz[c] = z[c] - largest
    return largest


@inner
def _shift_tile(tile, n, z, dz, start):
    """Do what `_shift_row` does for a row of few outputs, and give its padding the weight zero."""
    tile = fill_after(load(tile, z, start, 0), n, z.dtype.type(-np.inf))
    largest = row_max(tile)
    store(scale_and_shift(tile, z.dtype.type(1), -largest), dz, start, 0)
    return largest


@inner
def _normalise_tile(tile, n, dz, start, scale):
    """Do what `_normalise_row` does for a row of few outputs, whose padding is zero."""
    tile = load(tile, dz, start, 0)
    total = row_sum(tile)
    zero = dz.dtype.type(0)
    # Zero times NaN is NaN, but padding stays zero whatever the row holds.
    store(fill_after(scale_and_shift(tile, scale / total, zero), n, zero), dz, start, 0)
    return total


@inner
def _exponentiate_rows(row, n_rows, n, dz, o, distance):
    """Overwrite rows of dz with e^dz."""
    panel = panel_columns(dz)
    for j in range(0, n, panel):
        start = _place(row, j, n, dz, o, distance)
        part = dz[start : start + n_rows * panel_width(n, j, dz, panel)]
        for i in range(part.size):
            part[i] = exp(part[i])


@inner
def _normalise_row(r, n, dz, o, distance, scale):
    """Multiply a row of dz by scale / its sum, clear its padding; return the sum."""
    panel, lanes = panel_columns(dz), lanes_of(dz)
    width, start = panel_width(n, 0, dz, panel), _place(r, 0, n, dz, o, distance)
    if n <= width and width == lanes:
        return _normalise_tile(zeros(dz, 1, 1), n, dz, start, scale)
    if n <= width and width == 2 * lanes:
        return _normalise_tile(zeros(dz, 1, 2), n, dz, start, scale)
    total = dz.dtype.type(0)
    for j in range(0, n, panel):
        start = _place(r, j, n, dz, o, distance)
        for c in range(start, start + min(panel, n - j)):
            total += dz[c]
    factor = scale / total
    for j in range(0, n, panel):
        start = _place(r, j, n, dz, o, distance)
        for c in range(start, start + min(panel, n - j)):
            dz[c] *= factor
    _clear_padding(r, n, dz, o, distance)
    return total


@pasted
def _squared_error(
    loss_scale, scale, row, n_rows, n, z, dz, o, distance, samples, targets, row_loss
):
    """loss = loss_scale * sum (z - t)^2,  dz = scale * (z - t)."""
    panel = panel_columns(z)
    for r in range(n_rows):
        total = z.dtype.type(0)
        for j in range(0, n, panel):
            start = _place(row + r, j, n, z, o, distance)
            for c in range(min(panel, n - j)):
                error = z[start + c] - targets[samples[r], j + c]
                total += error * error
                dz[start + c] = scale * error
        _clear_padding(row + r, n, dz, o, distance)
        row_loss[r] += loss_scale * total


@pasted
def _binary_cross_entropy(
    loss_scale, scale, row, n_rows, n, z, dz, o, distance, samples, targets, row_loss
):
    """loss = loss_scale * sum (max(z, 0) - z t + log(1 + e^-|z|)),  dz = scale * (sigmoid(z) - t).

    z are logits. The form with |z| neither overflows nor takes log(0).
    """
    number, panel = z.dtype.type, panel_columns(z)
    for j in range(0, n, panel):
        start = _place(row, j, n, z, o, distance)
        for i in range(start, start + n_rows * panel_width(n, j, z, panel)):
            dz[i] = logistic(z[i])
    for r in range(n_rows):
        total = number(0)
        for j in range(0, n, panel):
            start = _place(row + r, j, n, z, o, distance)
            for c in range(min(panel, n - j)):
                logit, target = z[start + c], targets[samples[r], j + c]
                total += max(logit, number(0)) - logit * target + math.log1p(math.exp(-abs(logit)))
                dz[start + c] = scale * (dz[start + c] - target)
        _clear_padding(row + r, n, dz, o, distance)
        row_loss[r] += loss_scale * total


@pasted
def _softmax_cross_entropy(scale, row, n_rows, n, z, dz, o, distance, samples, labels, row_loss):
    """loss = log(sum e^z) - z[label],  dz = scale * (softmax(z) - onehot(label)).

    With m = max z, log(sum e^z) = m + log(sum e^(z - m)), which cannot overflow.
    """
    panel = panel_columns(z)
    for r in range(n_rows):
        largest = _shift_row(row + r, n, z, dz, o, distance)
        label = labels[samples[r]]
        j = label // panel * panel
        row_loss[r] += largest - z[_place(row + r, j, n, z, o, distance) + label - j]
    _exponentiate_rows(row, n_rows, n, dz, o, distance)
    for r in range(n_rows):
        total = _normalise_row(row + r, n, dz, o, distance, scale)
        row_loss[r] += math.log(total)
        label = labels[samples[r]]
        j = label // panel * panel
        dz[_place(row + r, j, n, z, o, distance) + label - j] -= scale


@pasted
def _softmax_cross_entropy_dense(
    scale, row, n_rows, n, z, dz, o, distance, samples, targets, row_loss
):
    """loss = sum t (log(sum e^z) - z),  dz = scale * (softmax(z) * sum(t) - t)."""
    number, panel = z.dtype.type, panel_columns(z)
    for r in range(n_rows):
        largest = _shift_row(row + r, n, z, dz, o, distance)
        for j in range(0, n, panel):
            start = _place(row + r, j, n, z, o, distance)
            for c in range(min(panel, n - j)):
                row_loss[r] += targets[samples[r], j + c] * (largest - z[start + c])
    _exponentiate_rows(row, n_rows, n, dz, o, distance)
    for r in range(n_rows):
        target_sum = number(0)
        for c in range(n):
            target_sum += targets[samples[r], c]
        total = _normalise_row(row + r, n, dz, o, distance, scale * target_sum)
        row_loss[r] += target_sum * math.log(total)
        for j in range(0, n, panel):
            start = _place(row + r, j, n, z, o, distance)
            for c in range(min(panel, n - j)):
                dz[start + c] -= scale * targets[samples[r], j + c]


@pasted
def _poisson(loss_scale, scale, row, n_rows, n, z, dz, o, distance, samples, targets, row_loss):
    """loss = loss_scale * sum (e^z - t z + t log(t) - t),  dz = scale * (e^z - t).

    Half the deviance of a Poisson distribution whose mean is e^z; the last terms make it zero
    where that mean is t.
    """
    number, panel = z.dtype.type, panel_columns(z)
    for j in range(0, n, panel):
        start = _place(row, j, n, z, o, distance)
        for i in range(start, start + n_rows * panel_width(n, j, z, panel)):
            dz[i] = exp(z[i])
    for r in range(n_rows):
        total = number(0)
        for j in range(0, n, panel):
            start = _place(row + r, j, n, z, o, distance)
            for c in range(min(panel, n - j)):
                log_mean, target = z[start + c], targets[samples[r], j + c]
                total += dz[start + c] - target * log_mean - target
                if target > number(0):
                    total += target * math.log(target)
                dz[start + c] = scale * (dz[start + c] - target)
        _clear_padding(row + r, n, dz, o, distance)
        row_loss[r] += loss_scale * total


@inner
def weigh_row(weight, r, n, dz, o, distance):
    """Multiply row r of the gradient by the weight of its sample."""
    panel = panel_columns(dz)
    for j in range(0, n, panel):
        start = _place(r, j, n, dz, o, distance)
        for c in range(start, start + min(panel, n - j)):
            dz[c] *= weight


@inner
def loss_rows(
    code, loss_scale, scale, row, n_rows, n, out, dout, o, distance, order, first, labels, targets,
    row_loss,
):  # fmt: skip
    """Overwrite rows of dout with d(loss)/d(out), and row_loss[row : row + n_rows].

    Row `row` + r belongs to sample order[first + r]: its target is an integer class in `labels`,
    or a row of `targets`.
    """
    samples, sums = order[first : first + n_rows], row_loss[row : row + n_rows]
    for r in range(n_rows):
        sums[r] = 0.0
    if code == SQUARED_ERROR:
        _squared_error(
            loss_scale, scale, row, n_rows, n, out, dout, o, distance, samples, targets, sums
        )
    elif code == BINARY_CROSS_ENTROPY:
        _binary_cross_entropy(
            loss_scale, scale, row, n_rows, n, out, dout, o, distance, samples, targets, sums
        )
    elif code == SOFTMAX_CROSS_ENTROPY:
        _softmax_cross_entropy(scale, row, n_rows, n, out, dout, o, distance, samples, labels, sums)
    elif code == POISSON:
        _poisson(loss_scale, scale, row, n_rows, n, out, dout, o, distance, samples, targets, sums)
    else:
        _softmax_cross_entropy_dense(
            scale, row, n_rows, n, out, dout, o, distance, samples, targets, sums
        )
