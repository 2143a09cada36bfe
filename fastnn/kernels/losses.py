"""Losses over some rows of a batch: the loss of each and the gradient with respect to the output.

Each function overwrites rows of dz, the gradient with respect to the net's output z (the padding
with zeros), and each row's loss in `sums`. z and dz lie in panels, alike; row `row` + r of both
belongs to sample samples[r]. `scale` is the factor of the gradient: 1 / B for a loss that is a mean
over the batch.
"""

import functools
import math

import numpy as np

from fastnn.kernels.fma import fma
from fastnn.kernels.job import job_at
from fastnn.kernels.memory import matrix_at, vector_at
from fastnn.kernels.operation import OPERATION_BYTES, operation_at, result_of, work_at
from fastnn.kernels.panels import (
    load_group,
    panel_columns,
    panel_width,
    place,
    place_of,
    row_of,
    store_group,
    sum_of_row,
)
from fastnn.kernels.tile import (
    cell_of,
    fill_after,
    larger,
    row_max,
    row_sum,
    scale_and_shift,
)
from fastnn.kernels.vectormath import exp, logistic, softplus
from fastnn.runtime.jit import compile_at_address, inner


@inner
def _clear_padding(m, r):
    """Overwrite the padding of a row with zeros."""
    panel = panel_columns(m.data.itemsize)
    j = (m.n - 1) // panel * panel
    start = place(m, r, j)
    for c in range(start + m.n - j, start + panel_width(m.n, j, m.data.itemsize)):
        m.data[c] = m.data.dtype.type(0)


# Losses that are sums over outputs. For one output z with the target t there are the loss and its
# derivative, up to their factors. A NaN makes both NaN: comparisons with it are false.


@inner
def _squared_error(z, t, parameter):
    """(z - t)^2."""
    error = z - t
    return error * error


@inner
def _squared_error_slope(z, t, parameter):
    """z - t, half the derivative."""
    return z - t


@inner
def _binary_cross_entropy(z, t, smoothing):
    """max(z, 0) - z s + log(1 + e^-|z|), for s = t + smoothing (1/2 - t).

    z is a logit. The form with |z| neither overflows nor takes log(0).
    """
    return softplus(z) - z * fma(smoothing, type(z)(0.5) - t, t)


@inner
def _binary_cross_entropy_slope(z, t, smoothing):
    """sigmoid(z) - s."""
    return logistic(z) - fma(smoothing, type(z)(0.5) - t, t)


@inner
def _poisson(z, t, parameter):
    """e^z - t z + t log(t) - t.

    Half the deviance of a Poisson distribution whose mean is e^z; the last terms make it zero
    where that mean is t.
    """
    loss = fma(-t, z, exp(z)) - t
    if t > type(z)(0):
        loss += t * math.log(t)
    return loss


@inner
def _poisson_slope(z, t, parameter):
    """e^z - t."""
    return exp(z) - t


@inner
def _huber(z, t, delta):
    """slope * (e - slope / 2), for the error e = z - t and its slope."""
    slope = _huber_slope(z, t, delta)
    return slope * fma(type(z)(-0.5), slope, z - t)


@inner
def _huber_slope(z, t, delta):
    """z - t, cut off at -delta and delta."""
    error = z - t
    slope = error
    if error > delta:
        slope = delta
    elif error < -delta:
        slope = -delta
    return slope


@inner
def _quantile(z, t, q):
    """slope * (z - t)."""
    return _quantile_slope(z, t, q) * (z - t)


@inner
def _quantile_slope(z, t, q):
    """1 - q if z > t, -q if z < t."""
    error, zero = z - t, type(z)(0)
    slope = error  # 0, or NaN
    if error > zero:
        slope = type(z)(1) - q
    elif error < zero:
        slope = -q
    return slope


@inner
def _for_outputs(function, factor, parameters, step, z, dz, r, wanted):
    """Overwrite row r of dz with factor * function(z, t), for each output and its target.

    The parameter of output c is parameters[c * step].
    """
    number, panel = z.data.dtype.type, panel_columns(z.data.itemsize)
    shared = number(parameters[0])
    for j in range(0, z.n, panel):
        at, count = place(z, r, j), min(panel, z.n - j)
        outputs, results = z.data[at : at + count], dz.data[at : at + count]
        targets = wanted[j : j + count]
        for c in range(count):
            parameter = number(parameters[j + c]) if step else shared
            results[c] = factor * function(outputs[c], targets[c], parameter)


@inner
def _sum_over_outputs(loss, slope, scales, parameters, step, z, dz, row, wanted, sums):
    """sums[r] = scales[0] * sum of the losses of a row, dz = scales[1] * slope.

    `wanted` is (samples, targets).
    """
    samples, targets = wanted
    number = z.data.dtype.type
    for r in range(samples.size):
        if z.n == 1:
            at, target = place(z, row + r, 0), targets[samples[r], 0]
            parameter = number(parameters[0])
            sums[r] = scales[0] * loss(z.data[at], target, parameter)
            dz.data[at] = scales[1] * slope(z.data[at], target, parameter)
        else:
            own = targets[samples[r]]
            _for_outputs(loss, number(1), parameters, step, z, dz, row + r, own)
            sums[r] = scales[0] * sum_of_row(row_of(dz, row + r))
            _for_outputs(slope, scales[1], parameters, step, z, dz, row + r, own)
        _clear_padding(dz, row + r)


# The softmax cross-entropy: dz goes through z - max z, e^(z - max z) and softmax(z).


@inner
def _shift_row(z, dz):
    """Overwrite a row of dz with z - max z, and its padding with -infinity; return the maximum."""
    number = z.data.dtype.type
    one, lowest, group = number(1), number(-np.inf), 2 * cell_of(z.data)
    first = fill_after(load_group(z, 0), z.n, lowest)
    if z.n <= group:  # in one go
        largest = row_max(first)
        store_group(dz, 0, scale_and_shift(first, one, -largest))
        return largest
    highest = first
    for c in range(group, z.n, group):
        highest = larger(highest, fill_after(load_group(z, c), z.n - c, lowest))
    largest = row_max(highest)
    for c in range(0, z.n, group):
        shifted = scale_and_shift(load_group(z, c), one, -largest)
        store_group(dz, c, fill_after(shifted, z.n - c, lowest))
    return largest


@inner
def _exponentiate_rows(dz, row, n_rows):
    """Overwrite rows of dz with e^dz."""
    panel = panel_columns(dz.data.itemsize)
    for j in range(0, dz.n, panel):
        start = place(dz, row, j)
        part = dz.data[start : start + n_rows * panel_width(dz.n, j, dz.data.itemsize)]
        for i in range(part.size):
            part[i] = exp(part[i])


@inner
def _normalise_row(dz, scale):
    """Multiply a row of dz, whose padding is zero, by scale / its sum; return the sum."""
    zero, group = dz.data.dtype.type(0), 2 * cell_of(dz.data)
    if dz.n <= group:  # in one go
        row = fill_after(load_group(dz, 0), dz.n, zero)
        total = row_sum(row)
        # Zero times NaN is NaN, but padding stays zero whatever the row holds.
        store_group(dz, 0, fill_after(scale_and_shift(row, scale / total, zero), dz.n, zero))
        return total
    total = sum_of_row(dz)
    factor = scale / total
    for c in range(0, dz.n, group):
        product = scale_and_shift(load_group(dz, c), factor, zero)
        store_group(dz, c, fill_after(product, dz.n - c, zero))
    return total


@inner
def _smooth_labels(smoothing, scale, z, dz, row, samples, labels, sums):
    """Turn what `_softmax_cross_entropy` gave into that for smoothed labels.

    These are t + smoothing * (1/n - t), where t is 1 for the label and 0 for the others. The loss
    is linear in t, so ``smoothing / n * sum (z[label] - z)`` is added.
    """
    number, panel = z.data.dtype.type, panel_columns(z.data.itemsize)
    share = smoothing / number(z.n)
    for r in range(samples.size):
        at_label, total = place_of(z, row + r, labels[samples[r]]), number(0)
        for j in range(0, z.n, panel):
            start = place(z, row + r, j)
            for c in range(start, start + min(panel, z.n - j)):
                total += z.data[at_label] - z.data[c]
                dz.data[c] = fma(-scale, share, dz.data[c])
        dz.data[at_label] = fma(scale, smoothing, dz.data[at_label])
        if sums[r] < np.inf:  # where the logits are too far apart, `total` is -infinity
            sums[r] += share * total


@inner
def _softmax_cross_entropy(scale, z, dz, row, samples, labels, sums):
    """loss = log(sum e^z) - z[label],  dz = scale * (softmax(z) - onehot(label)).

    With m = max z, log(sum e^z) = m + log(sum e^(z - m)), which cannot overflow.
    """
    for r in range(samples.size):
        largest = _shift_row(row_of(z, row + r), row_of(dz, row + r))
        sums[r] = largest - z.data[place_of(z, row + r, labels[samples[r]])]
    _exponentiate_rows(dz, row, samples.size)
    for r in range(samples.size):
        total = _normalise_row(row_of(dz, row + r), scale)
        sums[r] += math.log(total)
        dz.data[place_of(dz, row + r, labels[samples[r]])] -= scale


@inner
def _softmax_cross_entropy_dense(smoothing, scale, z, dz, row, samples, targets, sums):
    """loss = sum t (log(sum e^z) - z),  dz = scale * (softmax(z) * sum(t) - t).

    t are the targets, smoothed: t + smoothing * (1/n - t).
    """
    number, panel = z.data.dtype.type, panel_columns(z.data.itemsize)
    keep, share = number(1) - smoothing, smoothing / number(z.n)
    for r in range(samples.size):
        largest, total = _shift_row(row_of(z, row + r), row_of(dz, row + r)), 0.0
        for j in range(0, z.n, panel):
            start = place(z, row + r, j)
            for c in range(min(panel, z.n - j)):
                target = fma(keep, targets[samples[r], j + c], share)
                total += target * (largest - z.data[start + c])
        if total != total:  # 0 times infinity, or a NaN that the sum of the exponentials has too
            total = 0.0
            for c in range(z.n):
                target = fma(keep, targets[samples[r], c], share)
                if target != number(0):
                    total += target * (largest - z.data[place_of(z, row + r, c)])
        sums[r] = total
    _exponentiate_rows(dz, row, samples.size)
    for r in range(samples.size):
        target_sum = number(0)
        for c in range(z.n):
            target_sum += fma(keep, targets[samples[r], c], share)
        total = _normalise_row(row_of(dz, row + r), scale * target_sum)
        sums[r] += target_sum * math.log(total)
        for j in range(0, z.n, panel):
            start = place(z, row + r, j)
            for c in range(min(panel, z.n - j)):
                target = fma(keep, targets[samples[r], j + c], share)
                dz.data[start + c] = fma(-scale, target, dz.data[start + c])


@inner
def weigh_row(weight, m, r):
    """Multiply row r of the gradient by the weight of its sample."""
    panel = panel_columns(m.data.itemsize)
    for j in range(0, m.n, panel):
        start = place(m, r, j)
        for c in range(start, start + min(panel, m.n - j)):
            m.data[c] *= weight


# The table. Each function overwrites rows of dz with the derivative of the loss by z, and `sums`
# with each row's loss. Row `row` + r belongs to sample samples[r]: its target is an integer class
# in `labels`, or a row of `targets`. `parameters` are the loss's own numbers, float64: the
# smoothing of a cross-entropy, Huber's delta, or the quantile of each output. `scales` has the
# factors of a row's loss and of its derivative.


def _over_outputs(loss, slope, step=0):
    """Return the function of a loss that is a sum over outputs, whose parameters lie step apart."""

    @inner
    def rows_of_sum(parameters, scales, z, dz, row, samples, labels, targets, sums):
        wanted = samples, targets
        _sum_over_outputs(loss, slope, scales, parameters, step, z, dz, row, wanted, sums)

    return rows_of_sum


@inner
def _rows_of_labels(parameters, scales, z, dz, row, samples, labels, targets, sums):
    _softmax_cross_entropy(scales[1], z, dz, row, samples, labels, sums)


@inner
def _rows_of_smoothed_labels(parameters, scales, z, dz, row, samples, labels, targets, sums):
    smoothing = z.data.dtype.type(parameters[0])
    _softmax_cross_entropy(scales[1], z, dz, row, samples, labels, sums)
    _smooth_labels(smoothing, scales[1], z, dz, row, samples, labels, sums)


@inner
def _rows_of_probabilities(parameters, scales, z, dz, row, samples, labels, targets, sums):
    smoothing = z.data.dtype.type(parameters[0])
    _softmax_cross_entropy_dense(smoothing, scales[1], z, dz, row, samples, targets, sums)


LOSSES = {
    "squared_error": _over_outputs(_squared_error, _squared_error_slope),
    "binary_cross_entropy": _over_outputs(_binary_cross_entropy, _binary_cross_entropy_slope),
    "poisson": _over_outputs(_poisson, _poisson_slope),
    "huber": _over_outputs(_huber, _huber_slope),
    "quantile": _over_outputs(_quantile, _quantile_slope, step=1),
    "softmax_cross_entropy": _rows_of_labels,
    "softmax_of_smoothed_labels": _rows_of_smoothed_labels,
    "softmax_of_probabilities": _rows_of_probabilities,
}
"""Losses by name. The absolute error is twice that of the quantile 1/2."""


@functools.cache
def loss_kernel(name, dtype):
    """Compile a loss of the table; return the address of its kernel, called for rows of a batch.

    It takes (row, n_rows, step, job), where `job` is the address of a `TRAINING_JOB`: rows
    [row, row + n_rows) of the batch that belongs to the step. It overwrites the gradient of the
    mean loss with respect to the last operation's result, and adds to the sums of the losses.
    """
    number, loss_rows = dtype.type, LOSSES[name]

    def loss_of_rows(row, n_rows, step, job_address):
        job = job_at(job_address)
        work = work_at(job.work)
        op = operation_at(work.operations + (job.n_operations - 1) * OPERATION_BYTES)
        z = result_of(op, vector_at(work.acts, number))
        dz = result_of(op, vector_at(work.deltas, number))
        start = step * job.batch_size
        total = vector_at(job.batch_weight, np.float64)[step]
        share = min(job.batch_size, job.n_order - start) / total
        order = vector_at(work.order, np.int64)
        samples = order[start + row : start + row + n_rows]
        sums = vector_at(job.batch_loss, np.float64)[row : row + n_rows]
        row_loss = vector_at(job.row_loss, np.float64)[row : row + n_rows]
        labels = vector_at(job.labels, np.int64)
        targets = matrix_at(job.targets, job.n_samples, op.n_out, number)
        parameters = vector_at(job.loss_parameters, np.float64)
        scales = number(job.loss_scale), number(job.gradient_scale / total)
        loss_rows(parameters, scales, z, dz, row, samples, labels, targets, sums)
        sample_weight = vector_at(job.sample_weight, np.float64)
        for r in range(n_rows):
            weight = 1.0
            if job.is_weighted:
                weight = sample_weight[samples[r]]
                weigh_row(number(weight), dz, row + r)
            row_loss[r] += weight * share * sums[r]

    return compile_at_address(loss_of_rows, 4)
