"""Losses over a block of rows: the loss of each row and the gradient with respect to the output.

Each function overwrites the gradient block `dout` (columns from n to ld with zeros) and adds each
row's loss to `row_loss`. Rows lie as in `fastnn.kernels.activations`. `scale` is the factor of the
gradient: 1 / B for a loss that is a mean over the batch.
"""

import math

from fastnn._jit import inner, routine
from fastnn.kernels.codes import (
    BINARY_CROSS_ENTROPY,
    SOFTMAX_CROSS_ENTROPY,
    SQUARED_ERROR,
)
from fastnn.kernels.vectormath import exp, logistic


@inner
def _shift_row(n, z, dz, start, ld):
    """Overwrite a row of dz with z - max(z); return the maximum."""
    largest = z[start]
    for c in range(1, n):
        largest = max(largest, z[start + c])
    for c in range(ld):
        dz[start + c] = z[start + c] - largest
    return largest


@inner
def _normalise_row(n, dz, start, ld, scale):
    """Multiply a row of dz by scale / its sum, clear its padding; return the sum."""
    total = dz.dtype.type(0)
    for c in range(n):
        total += dz[start + c]
    factor = scale / total
    for c in range(n):
        dz[start + c] *= factor
    for c in range(n, ld):
        dz[start + c] = dz.dtype.type(0)
    return total


@inner
def _squared_error(loss_scale, scale, n_rows, n, z, dz, ld, samples, targets, row_loss):
    """loss = loss_scale * sum (z - t)^2,  dz = scale * (z - t)."""
    number = z.dtype.type
    for r in range(n_rows):
        start, sample = r * ld, samples[r]
        total = number(0)
        for c in range(n):
            error = z[start + c] - targets[sample, c]
            total += error * error
            dz[start + c] = scale * error
        for c in range(start + n, start + ld):
            dz[c] = number(0)
        row_loss[r] += loss_scale * total


@inner
def _binary_cross_entropy(loss_scale, scale, n_rows, n, z, dz, ld, samples, targets, row_loss):
    """loss = loss_scale * sum (max(z, 0) - z t + log(1 + e^-|z|)),  dz = scale * (sigmoid(z) - t).

    z are logits. The form with |z| neither overflows nor takes log(0).
    """
    number = z.dtype.type
    for i in range(z.size):
        dz[i] = logistic(z[i])
    for r in range(n_rows):
        start, sample = r * ld, samples[r]
        total = number(0)
        for c in range(n):
            logit, target = z[start + c], targets[sample, c]
            total += max(logit, number(0)) - logit * target + math.log1p(math.exp(-abs(logit)))
            dz[start + c] = scale * (dz[start + c] - target)
        for c in range(start + n, start + ld):
            dz[c] = number(0)
        row_loss[r] += loss_scale * total


@inner
def _softmax_cross_entropy(scale, n_rows, n, z, dz, ld, samples, labels, row_loss):
    """loss = log(sum e^z) - z[label],  dz = scale * (softmax(z) - onehot(label)).

    With m = max z, log(sum e^z) = m + log(sum e^(z - m)), which cannot overflow.
    """
    for r in range(n_rows):
        largest = _shift_row(n, z, dz, r * ld, ld)
        row_loss[r] += largest - z[r * ld + labels[samples[r]]]
    for i in range(z.size):
        dz[i] = exp(dz[i])
    for r in range(n_rows):
        total = _normalise_row(n, dz, r * ld, ld, scale)
        row_loss[r] += math.log(total)
        dz[r * ld + labels[samples[r]]] -= scale


@inner
def _softmax_cross_entropy_dense(scale, n_rows, n, z, dz, ld, samples, targets, row_loss):
    """loss = sum t (log(sum e^z) - z),  dz = scale * (softmax(z) * sum(t) - t)."""
    number = z.dtype.type
    for r in range(n_rows):
        largest = _shift_row(n, z, dz, r * ld, ld)
        for c in range(n):
            row_loss[r] += targets[samples[r], c] * (largest - z[r * ld + c])
    for i in range(z.size):
        dz[i] = exp(dz[i])
    for r in range(n_rows):
        target_sum = number(0)
        for c in range(n):
            target_sum += targets[samples[r], c]
        total = _normalise_row(n, dz, r * ld, ld, scale * target_sum)
        row_loss[r] += target_sum * math.log(total)
        for c in range(n):
            dz[r * ld + c] -= scale * targets[samples[r], c]


@routine
def loss_rows(
    code, loss_scale, scale, n_rows, n, out, o, ld, dout, order, first, labels, targets,
    row_loss, at,
):  # fmt: skip
    """Overwrite dout with d(loss)/d(out) and add each row's loss to row_loss[at : at + n_rows].

    Both blocks begin at o. Row r of the block belongs to sample order[first + r]: its target is
    an integer class in `labels`, or a row of `targets`.
    """
    z, dz = out[o : o + n_rows * ld], dout[o : o + n_rows * ld]
    samples, row_loss = order[first : first + n_rows], row_loss[at : at + n_rows]
    if code == SQUARED_ERROR:
        _squared_error(loss_scale, scale, n_rows, n, z, dz, ld, samples, targets, row_loss)
    elif code == BINARY_CROSS_ENTROPY:
        _binary_cross_entropy(loss_scale, scale, n_rows, n, z, dz, ld, samples, targets, row_loss)
    elif code == SOFTMAX_CROSS_ENTROPY:
        _softmax_cross_entropy(scale, n_rows, n, z, dz, ld, samples, labels, row_loss)
    else:
        _softmax_cross_entropy_dense(scale, n_rows, n, z, dz, ld, samples, targets, row_loss)
