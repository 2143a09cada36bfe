"""Losses over some rows of a batch: the loss of each and the gradient with respect to the output.

Each function overwrites rows of dz, the gradient with respect to the net's output z (the padding
with zeros), and adds each row's loss to `row_loss`, which holds zeros. z and dz lie in panels,
alike; the arguments that say which rows are those of `fastnn.kernels.activations`, and z and dz
begin at o both. `scale` is the factor of the gradient: 1 / B for a loss that is a mean over the
batch.
"""

import functools
import math

import numpy as np

from fastnn.kernels.codes import (
    BINARY_CROSS_ENTROPY,
    HUBER,
    N_COLUMNS,
    N_OUT,
    OUT_AT,
    OUT_PANEL,
    POISSON,
    QUANTILE,
    SOFTMAX_CROSS_ENTROPY,
    SQUARED_ERROR,
)
from fastnn.kernels.job import TRAINING_RECORD
from fastnn.kernels.memory import matrix_at, vector_at
from fastnn.kernels.panels import panel_columns, panel_width
from fastnn.kernels.tile import (
    add,
    fill_after,
    lanes_of,
    larger,
    load,
    row_max,
    row_sum,
    scale_and_shift,
    store,
    zeros,
)
from fastnn.kernels.vectormath import exp, logistic, softplus
from fastnn.runtime.jit import inner, inner_reduction, member, pasted


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
    """Overwrite a row of dz with z - max(z), and its padding with -infinity; return the maximum."""
    lanes, start = lanes_of(z), _place(r, 0, n, z, o, distance)
    width = panel_width(n, 0, z, panel_columns(z))
    if n <= width and width == lanes:
        return _shift_tile(zeros(z, 1, 1), n, z, dz, start)
    if n <= width and width == 2 * lanes:
        return _shift_tile(zeros(z, 1, 2), n, z, dz, start)
    return _shift_long_row(r, n, z, dz, o, distance)


@inner
def _shift_tile(tile, n, z, dz, start):
    """Do what `_shift_row` does for a row of few outputs."""
    number = z.dtype.type
    tile = fill_after(load(tile, z, start, 0), n, number(-np.inf))
    largest = row_max(tile)
    store(scale_and_shift(tile, number(1), -largest), dz, start, 0)
    return largest


@inner
def _keep_columns(vector, n, padding, like):
    """Return the vector with `padding` in place of what follows its first n elements."""
    return vector if n >= lanes_of(like) else fill_after(vector, n, padding)


@inner
def _shift_long_row(r, n, z, dz, o, distance):
    """Do what `_shift_row` does, vector by vector."""
    number, panel, lanes = z.dtype.type, panel_columns(z), lanes_of(z)
    lowest = number(-np.inf)
    highest = fill_after(zeros(z, 1, 1), 0, lowest)
    for j in range(0, n, panel):
        start = _place(r, j, n, z, o, distance)
        for c in range(0, min(panel, n - j), lanes):
            vector = load(zeros(z, 1, 1), z, start + c, 0)
            highest = larger(highest, _keep_columns(vector, n - j - c, lowest, z))
    largest = row_max(highest)
    for j in range(0, n, panel):
        start = _place(r, j, n, z, o, distance)
        for c in range(0, panel_width(n, j, z, panel), lanes):
            vector = scale_and_shift(load(zeros(z, 1, 1), z, start + c, 0), number(1), -largest)
            store(_keep_columns(vector, n - j - c, lowest, z), dz, start + c, 0)
    return largest


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
    """Multiply a row of dz, whose padding is zero, by scale / its sum; return the sum."""
    lanes, start = lanes_of(dz), _place(r, 0, n, dz, o, distance)
    width = panel_width(n, 0, dz, panel_columns(dz))
    if n <= width and width == lanes:
        return _normalise_tile(zeros(dz, 1, 1), n, dz, start, scale)
    if n <= width and width == 2 * lanes:
        return _normalise_tile(zeros(dz, 1, 2), n, dz, start, scale)
    return _normalise_long_row(r, n, dz, o, distance, scale)


@inner
def _normalise_tile(tile, n, dz, start, scale):
    """Do what `_normalise_row` does for a row of few outputs."""
    tile, zero = load(tile, dz, start, 0), dz.dtype.type(0)
    total = row_sum(tile)
    # Zero times NaN is NaN, but padding stays zero whatever the row holds.
    store(fill_after(scale_and_shift(tile, scale / total, zero), n, zero), dz, start, 0)
    return total


@inner
def _normalise_long_row(r, n, dz, o, distance, scale):
    """Do what `_normalise_row` does, vector by vector."""
    panel, lanes, zero = panel_columns(dz), lanes_of(dz), dz.dtype.type(0)
    sums = zeros(dz, 1, 1)
    for j in range(0, n, panel):
        start = _place(r, j, n, dz, o, distance)
        for c in range(0, panel_width(n, j, dz, panel), lanes):
            sums = add(sums, load(zeros(dz, 1, 1), dz, start + c, 0))
    total = row_sum(sums)
    factor = scale / total
    for j in range(0, n, panel):
        start = _place(r, j, n, dz, o, distance)
        for c in range(0, panel_width(n, j, dz, panel), lanes):
            vector = scale_and_shift(load(zeros(dz, 1, 1), dz, start + c, 0), factor, zero)
            store(_keep_columns(vector, n - j - c, zero, dz), dz, start + c, 0)
    return total


# Losses that are sums over outputs: each returns the loss of one output z and its derivative, up to
# their factors, given the target t. `link` is the function of z that the loss needs, if any. A NaN
# makes both NaN: comparisons with it are false. The loop around them is pasted for each, so that
# the choice of the loss lies outside it.


@inner
def _squared_error(z, link, t, parameter):
    """loss = (z - t)^2,  derivative = z - t."""
    error = z - t
    return error * error, error


@inner
def _binary_cross_entropy(z, link, t, parameter):
    """loss = max(z, 0) - z t + log(1 + e^-|z|),  derivative = sigmoid(z) - t.

    z is a logit. The form with |z| neither overflows nor takes log(0).
    """
    return softplus(z) - z * t, link - t


@inner
def _poisson(z, link, t, parameter):
    """loss = e^z - t z + t log(t) - t,  derivative = e^z - t.

    Half the deviance of a Poisson distribution whose mean is e^z; the last terms make it zero
    where that mean is t.
    """
    loss = link - t * z - t
    if t > type(z)(0):
        loss += t * math.log(t)
    return loss, link - t


@inner
def _huber(z, link, t, delta):
    """loss = slope * (e - slope / 2),  derivative = slope: e = z - t, cut off at +-delta."""
    error = z - t
    slope = error
    if error > delta:
        slope = delta
    elif error < -delta:
        slope = -delta
    return slope * (error - type(z)(0.5) * slope), slope


@inner
def _quantile(z, link, t, q):
    """loss = slope * (z - t),  derivative = slope: 1 - q if z > t, -q if z < t."""
    error, zero = z - t, type(z)(0)
    slope = error  # 0, or NaN
    if error > zero:
        slope = type(z)(1) - q
    elif error < zero:
        slope = -q
    return slope * error, slope


@inner_reduction
def _sum_over_outputs(
    loss_of, parameters, step, loss_scale, scale, row, n_rows, n, z, dz, o, distance, samples,
    targets, row_loss,
):  # fmt: skip
    """loss = loss_scale * sum loss_of(z, t),  dz = scale * its derivative.

    dz holds what `loss_of` gets as `link`. The parameter of output c is parameters[c * step].
    """
    number, panel = z.dtype.type, panel_columns(z)
    shared = number(parameters[0])
    for r in range(n_rows):
        total = number(0)
        for j in range(0, n, panel):
            start, count = _place(row + r, j, n, z, o, distance), min(panel, n - j)
            outputs, results = z[start : start + count], dz[start : start + count]
            wanted = targets[samples[r], j : j + count]
            for c in range(count):
                parameter = number(parameters[j + c]) if step else shared
                loss, derivative = loss_of(outputs[c], results[c], wanted[c], parameter)
                total += loss
                results[c] = scale * derivative
        _clear_padding(row + r, n, dz, o, distance)
        row_loss[r] += loss_scale * total


@inner
def _apply(function, row, n_rows, n, z, dz, o, distance):
    """Overwrite rows of dz with a function of z."""
    panel = panel_columns(z)
    for j in range(0, n, panel):
        start = _place(row, j, n, z, o, distance)
        for i in range(start, start + n_rows * panel_width(n, j, z, panel)):
            dz[i] = function(z[i])


@inner
def _smooth_answers(
    smoothing, loss_scale, scale, row, n_rows, n, z, dz, o, distance, samples, targets, row_loss
):
    """Turn what `_binary_cross_entropy` gave into that for the targets t + smoothing * (1/2 - t).

    Its loss is linear in t, with the factor -z, and its derivative with the factor -1.
    """
    number, panel = z.dtype.type, panel_columns(z)
    for r in range(n_rows):
        total = number(0)
        for j in range(0, n, panel):
            start = _place(row + r, j, n, z, o, distance)
            for c in range(min(panel, n - j)):
                change = smoothing * (number(0.5) - targets[samples[r], j + c])
                total -= z[start + c] * change
                dz[start + c] -= scale * change
        row_loss[r] += loss_scale * total


@inner
def _smooth_labels(smoothing, scale, row, n_rows, n, z, dz, o, distance, samples, labels, row_loss):
    """Turn what `_softmax_cross_entropy` gave into that for smoothed labels.

    These are t + smoothing * (1/n - t), where t is 1 for the label and 0 for the others. The loss
    is linear in t, so ``smoothing / n * sum (z[label] - z)`` is added.
    """
    number, panel = z.dtype.type, panel_columns(z)
    share = smoothing / number(n)
    for r in range(n_rows):
        label = labels[samples[r]]
        j = label // panel * panel
        place = _place(row + r, j, n, z, o, distance) + label - j
        at_label, total = z[place], number(0)
        for j in range(0, n, panel):
            start = _place(row + r, j, n, z, o, distance)
            for c in range(start, start + min(panel, n - j)):
                total += at_label - z[c]
                dz[c] -= scale * share
        dz[place] += scale * smoothing
        row_loss[r] += share * total


@inner
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


@inner
def _softmax_cross_entropy_dense(
    smoothing, scale, row, n_rows, n, z, dz, o, distance, samples, targets, row_loss
):
    """loss = sum t (log(sum e^z) - z),  dz = scale * (softmax(z) * sum(t) - t).

    t are the targets, smoothed: t + smoothing * (1/n - t).
    """
    number, panel = z.dtype.type, panel_columns(z)
    keep, share = number(1) - smoothing, smoothing / number(n)
    for r in range(n_rows):
        largest = _shift_row(row + r, n, z, dz, o, distance)
        for j in range(0, n, panel):
            start = _place(row + r, j, n, z, o, distance)
            for c in range(min(panel, n - j)):
                target = keep * targets[samples[r], j + c] + share
                row_loss[r] += target * (largest - z[start + c])
    _exponentiate_rows(row, n_rows, n, dz, o, distance)
    for r in range(n_rows):
        target_sum = number(0)
        for c in range(n):
            target_sum += keep * targets[samples[r], c] + share
        total = _normalise_row(row + r, n, dz, o, distance, scale * target_sum)
        row_loss[r] += target_sum * math.log(total)
        for j in range(0, n, panel):
            start = _place(row + r, j, n, z, o, distance)
            for c in range(min(panel, n - j)):
                dz[start + c] -= scale * (keep * targets[samples[r], j + c] + share)


@inner
def weigh_row(weight, r, n, dz, o, distance):
    """Multiply row r of the gradient by the weight of its sample."""
    panel = panel_columns(dz)
    for j in range(0, n, panel):
        start = _place(r, j, n, dz, o, distance)
        for c in range(start, start + min(panel, n - j)):
            dz[c] *= weight


@pasted
def loss_rows(
    code, parameters, loss_scale, scale, row, n_rows, n, out, dout, o, distance, order, first,
    labels, targets, row_loss,
):  # fmt: skip
    """Overwrite rows of dout with d(loss)/d(out), and row_loss[row : row + n_rows].

    Row `row` + r belongs to sample order[first + r]: its target is an integer class in `labels`,
    or a row of `targets`. `parameters` are the loss's own numbers, float64: the smoothing of a
    cross-entropy, Huber's delta, or the quantile of each output.
    """
    samples, sums = order[first : first + n_rows], row_loss[row : row + n_rows]
    number = out.dtype.type
    for r in range(n_rows):
        sums[r] = 0.0
    if code == SQUARED_ERROR:
        _sum_over_outputs(
            _squared_error, parameters, 0, loss_scale, scale, row, n_rows, n, out, dout, o,
            distance, samples, targets, sums,
        )  # fmt: skip
    elif code == BINARY_CROSS_ENTROPY:
        _apply(logistic, row, n_rows, n, out, dout, o, distance)
        _sum_over_outputs(
            _binary_cross_entropy, parameters, 0, loss_scale, scale, row, n_rows, n, out, dout, o,
            distance, samples, targets, sums,
        )  # fmt: skip
        if parameters[0] > 0.0:
            _smooth_answers(
                number(parameters[0]), loss_scale, scale, row, n_rows, n, out, dout, o, distance,
                samples, targets, sums,
            )  # fmt: skip
    elif code == SOFTMAX_CROSS_ENTROPY:
        _softmax_cross_entropy(scale, row, n_rows, n, out, dout, o, distance, samples, labels, sums)
        if parameters[0] > 0.0:
            _smooth_labels(
                number(parameters[0]), scale, row, n_rows, n, out, dout, o, distance, samples,
                labels, sums,
            )  # fmt: skip
    elif code == POISSON:
        _apply(exp, row, n_rows, n, out, dout, o, distance)
        _sum_over_outputs(
            _poisson, parameters, 0, loss_scale, scale, row, n_rows, n, out, dout, o, distance,
            samples, targets, sums,
        )  # fmt: skip
    elif code == HUBER:
        _sum_over_outputs(
            _huber, parameters, 0, loss_scale, scale, row, n_rows, n, out, dout, o, distance,
            samples, targets, sums,
        )  # fmt: skip
    elif code == QUANTILE:
        _sum_over_outputs(
            _quantile, parameters, 1, loss_scale, scale, row, n_rows, n, out, dout, o, distance,
            samples, targets, sums,
        )  # fmt: skip
    else:
        _softmax_cross_entropy_dense(
            number(parameters[0]), scale, row, n_rows, n, out, dout, o, distance, samples, targets,
            sums,
        )  # fmt: skip


@functools.cache
def loss_member(code, dtype):
    """Compile a loss; return the address of its kernel, which is called for rows of a batch.

    It takes (row, n_rows, step, job), where `job` is the address of a `TRAINING_JOB`: rows
    [row, row + n_rows) of the batch that belongs to the step. It overwrites the gradient of the
    mean loss with respect to the last operation's result, and adds to the sums of the losses.
    """
    number = dtype.type

    def loss_of_rows(row, n_rows, step, job_address):
        job = vector_at(job_address, TRAINING_RECORD)[0]
        plan = matrix_at(job.plan, job.n_operations, N_COLUMNS, np.int64)
        acts, deltas = vector_at(job.acts, number), vector_at(job.deltas, number)
        labels = vector_at(job.labels, np.int64)
        targets = matrix_at(job.targets, job.n_samples, job.n_outputs, number)
        order = vector_at(job.order, np.int64)
        sample_weight = vector_at(job.sample_weight, np.float64)
        batch_loss = vector_at(job.batch_loss, np.float64)
        row_loss = vector_at(job.row_loss, np.float64)
        parameters = vector_at(job.loss_parameters, np.float64)
        last, start = job.n_operations - 1, step * job.batch_size
        n_out, at, distance = plan[last, N_OUT], plan[last, OUT_AT], plan[last, OUT_PANEL]
        total = vector_at(job.batch_weight, np.float64)[step]
        share = min(job.batch_size, job.n_order - start) / total
        loss_rows(
            code, parameters, number(job.loss_scale), number(job.gradient_scale / total), row,
            n_rows, n_out, acts, deltas, at, distance, order, start + row, labels, targets,
            batch_loss,
        )  # fmt: skip
        for r in range(row, row + n_rows):
            weight = 1.0
            if job.is_weighted:
                weight = sample_weight[order[start + r]]
                weigh_row(number(weight), r, n_out, deltas, at, distance)
            row_loss[r] += weight * share * batch_loss[r]

    return member(loss_of_rows)
