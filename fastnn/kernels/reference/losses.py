"""Plain loops for losses and their gradients.

Each computes the loss of every row and, in the same loop, the gradient with respect to the output
of the network. The scales make it a mean over the batch, or over the batch and the outputs. With
the activation that matches the loss, the gradient is always (activation - target).
"""

import math

from fastnn.kernels.reference.activations import logistic
from fastnn.runtime.jit import reference


@reference
def mse(row_loss, dout, out, target, scale_loss, scale_gradient):
    """Compute the squared error of each row, summed over the outputs.

    ``row_loss[row] = scale_loss * sum_o (out[row, o] - target[row, o])^2`` and
    ``dout = scale_gradient * (out - target)``. The factor 2 of the derivative is part of
    `scale_gradient`:

    ========================================  ==================  =======================
    loss of the batch                         `scale_loss`        `scale_gradient`
    ========================================  ==================  =======================
    mean over rows and outputs of error^2     1 / O               2 / (B * O)
    mean over rows of 1/2 sum_o error^2       1 / 2               1 / B
    ========================================  ==================  =======================

    Parameters
    ----------
    row_loss : ndarray of shape (B,)
        Overwritten.
    dout : ndarray of shape (B, O)
        Overwritten.
    out, target : ndarray of shape (B, O)
        Outputs of the network, and targets.
    scale_loss, scale_gradient : float
        Factors of the loss and of the gradient.

    Examples
    --------
    >>> import numpy as np
    >>> row_loss, dout = np.empty(1), np.empty((1, 2))
    >>> mse(row_loss, dout, np.array([[1.0, 2.0]]), np.array([[1.0, 5.0]]), 0.5, 1.0)
    >>> row_loss, dout
    (array([4.5]), array([[ 0., -3.]]))
    """
    loss_factor = out.dtype.type(scale_loss)
    gradient_factor = out.dtype.type(scale_gradient)
    for row in range(out.shape[0]):
        total = out.dtype.type(0)
        for o in range(out.shape[1]):
            error = out[row, o] - target[row, o]
            total += error * error
            dout[row, o] = gradient_factor * error
        row_loss[row] = loss_factor * total


@reference
def mae(row_loss, dout, out, target, scale_loss, scale_gradient):
    """Compute the absolute error of each row, summed over the outputs.

    ``row_loss[row] = scale_loss * sum_o |out[row, o] - target[row, o]|`` and
    ``dout = scale_gradient * sign(out - target)``, which is 0 where they are equal.

    Parameters
    ----------
    row_loss : ndarray of shape (B,)
        Overwritten.
    dout : ndarray of shape (B, O)
        Overwritten.
    out, target : ndarray of shape (B, O)
        Outputs of the network, and targets.
    scale_loss, scale_gradient : float
        Factors of the loss and of the gradient.

    Examples
    --------
    >>> import numpy as np
    >>> row_loss, dout = np.empty(1), np.empty((1, 2))
    >>> mae(row_loss, dout, np.array([[1.0, 2.0]]), np.array([[1.0, 5.0]]), 1.0, 1.0)
    >>> row_loss, dout
    (array([3.]), array([[ 0., -1.]]))
    """
    loss_factor = out.dtype.type(scale_loss)
    gradient_factor = out.dtype.type(scale_gradient)
    zero, one = out.dtype.type(0), out.dtype.type(1)
    for row in range(out.shape[0]):
        total = zero
        for o in range(out.shape[1]):
            error = out[row, o] - target[row, o]
            slope = error  # 0, or NaN
            if error > zero:
                slope = one
            elif error < zero:
                slope = -one
            total += abs(error)
            dout[row, o] = gradient_factor * slope
        row_loss[row] = loss_factor * total


@reference
def huber(row_loss, dout, out, target, delta, scale_loss, scale_gradient):
    """Compute the Huber loss of each row: quadratic for small errors, linear for large ones.

    With ``e = out - target``, the loss of one output is ``e^2 / 2`` if ``|e| <= delta``, else
    ``delta * (|e| - delta / 2)``; its derivative is e, clipped to [-delta, delta] (Huber, 1964).
    ``row_loss[row] = scale_loss * sum_o loss`` and ``dout = scale_gradient * derivative``.

    Parameters
    ----------
    row_loss : ndarray of shape (B,)
        Overwritten.
    dout : ndarray of shape (B, O)
        Overwritten.
    out, target : ndarray of shape (B, O)
        Outputs of the network, and targets.
    delta : float
        The largest error that is squared, greater than 0.
    scale_loss, scale_gradient : float
        Factors of the loss and of the gradient.

    Examples
    --------
    >>> import numpy as np
    >>> row_loss, dout = np.empty(1), np.empty((1, 2))
    >>> huber(row_loss, dout, np.array([[1.5, 9.0]]), np.array([[1.0, 5.0]]), 1.0, 1.0, 1.0)
    >>> row_loss, dout
    (array([3.625]), array([[0.5, 1. ]]))
    """
    loss_factor = out.dtype.type(scale_loss)
    gradient_factor = out.dtype.type(scale_gradient)
    limit, half = out.dtype.type(delta), out.dtype.type(0.5)
    for row in range(out.shape[0]):
        total = out.dtype.type(0)
        for o in range(out.shape[1]):
            error = out[row, o] - target[row, o]
            slope = error
            loss = half * error * error
            if error > limit:
                slope = limit
                loss = limit * (error - half * limit)
            elif error < -limit:
                slope = -limit
                loss = limit * (-error - half * limit)
            total += loss
            dout[row, o] = gradient_factor * slope
        row_loss[row] = loss_factor * total


@reference
def quantile(row_loss, dout, out, target, quantiles, scale_loss, scale_gradient):
    """Compute the quantile loss, or "pinball" loss, of each row.

    With ``e = out - target`` and the quantile q, the loss of one output is ``(1 - q) * e`` if the
    output is too large and ``-q * e`` if it is too small. Its mean is least if a share q of the
    targets is below the output (Koenker & Bassett, 1978). The derivative is ``1 - q`` or ``-q``,
    and 0 if output and target are equal.
    ``row_loss[row] = scale_loss * sum_o loss`` and ``dout = scale_gradient * derivative``.

    Parameters
    ----------
    row_loss : ndarray of shape (B,)
        Overwritten.
    dout : ndarray of shape (B, O)
        Overwritten.
    out, target : ndarray of shape (B, O)
        Outputs of the network, and targets.
    quantiles : ndarray of shape (O,)
        The quantile of each output, between 0 and 1.
    scale_loss, scale_gradient : float
        Factors of the loss and of the gradient.

    Examples
    --------
    >>> import numpy as np
    >>> row_loss, dout, q = np.empty(1), np.empty((1, 2)), np.array([0.25, 0.75])
    >>> quantile(row_loss, dout, np.array([[1.0, 9.0]]), np.array([[5.0, 5.0]]), q, 1.0, 1.0)
    >>> row_loss, dout
    (array([2.]), array([[-0.25,  0.25]]))
    """
    loss_factor = out.dtype.type(scale_loss)
    gradient_factor = out.dtype.type(scale_gradient)
    zero, one = out.dtype.type(0), out.dtype.type(1)
    for row in range(out.shape[0]):
        total = zero
        for o in range(out.shape[1]):
            q = out.dtype.type(quantiles[o])
            error = out[row, o] - target[row, o]
            slope = error  # 0, or NaN
            if error > zero:
                slope = one - q
            elif error < zero:
                slope = -q
            total += slope * error
            dout[row, o] = gradient_factor * slope
        row_loss[row] = loss_factor * total


@reference
def smooth_targets(smooth, target, smoothing, choices):
    """Compute smoothed target probabilities: "label smoothing" (Szegedy et al., 2016).

    ``smooth = (1 - smoothing) * target + smoothing / choices``. Cross-entropies with such targets
    are least for finite logits, so training does not make the logits larger and larger.

    Parameters
    ----------
    smooth : ndarray of shape (B, O)
        Overwritten.
    target : ndarray of shape (B, O)
        Probabilities.
    smoothing : float
        From 0 to 1.
    choices : int
        Number of classes that a target is one of: O for one class of O, 2 for a binary target.

    Examples
    --------
    >>> import numpy as np
    >>> smooth = np.empty((1, 2))
    >>> smooth_targets(smooth, np.array([[0.0, 1.0]]), 0.2, 2)
    >>> smooth
    array([[0.1, 0.9]])
    """
    keep = target.dtype.type(1.0 - smoothing)
    floor = target.dtype.type(smoothing / choices)
    for row in range(target.shape[0]):
        for o in range(target.shape[1]):
            smooth[row, o] = keep * target[row, o] + floor


@reference
def poisson(row_loss, dlogs, logs, target, scale_loss, scale_gradient):
    """Compute half the deviance of counts from Poisson distributions with the means e^z.

    ``row_loss[row] = scale_loss * sum_o (e^z - t z + t log(t) - t)`` and
    ``dz = scale_gradient * (e^z - t)``.

    Parameters
    ----------
    row_loss : ndarray of shape (B,)
        Overwritten.
    dlogs : ndarray of shape (B, O)
        Overwritten.
    logs : ndarray of shape (B, O)
        Outputs of the network: logarithms of means.
    target : ndarray of shape (B, O)
        Counts, at least 0.
    scale_loss, scale_gradient : float
        Factors of the loss and of the gradient.

    Examples
    --------
    >>> import numpy as np
    >>> row_loss, dlogs = np.empty(1), np.empty((1, 1))
    >>> poisson(row_loss, dlogs, np.array([[0.0]]), np.array([[3.0]]), 1.0, 1.0)
    >>> row_loss.round(3), dlogs
    (array([1.296]), array([[-2.]]))
    """
    loss_factor = logs.dtype.type(scale_loss)
    gradient_factor = logs.dtype.type(scale_gradient)
    zero = logs.dtype.type(0)
    for row in range(logs.shape[0]):
        total = zero
        for o in range(logs.shape[1]):
            z, t = logs[row, o], target[row, o]
            total += math.exp(z) - t * z - t
            if t > zero:
                total += t * math.log(t)
            dlogs[row, o] = gradient_factor * (math.exp(z) - t)
        row_loss[row] = loss_factor * total


@reference
def binary_cross_entropy(row_loss, dlogits, logits, target, scale_loss, scale_gradient):
    """Compute the cross-entropy of independent binary outputs, given as logits.

    With ``p = logistic(z)`` and target t, the loss of one output is
    ``-t log p - (1 - t) log(1 - p) = max(z, 0) - z t + log(1 + e^-|z|)``; the right side never
    overflows and never takes the logarithm of 0. Its derivative is ``p - t``.
    ``row_loss[row] = scale_loss * sum_o loss`` and ``dlogits = scale_gradient * (p - t)``.

    Parameters
    ----------
    row_loss : ndarray of shape (B,)
        Overwritten.
    dlogits : ndarray of shape (B, O)
        Overwritten.
    logits : ndarray of shape (B, O)
        Output of the network before the logistic function; finite.
    target : ndarray of shape (B, O)
        Probabilities of 1, from 0 to 1.
    scale_loss, scale_gradient : float
        Factors of the loss and of the gradient: 1 and 1 / B for the mean over rows of the sum over
        outputs; 1 / O and 1 / (B * O) for the mean over both.

    Examples
    --------
    >>> import numpy as np
    >>> row_loss, dlogits = np.empty(1), np.empty((1, 1))
    >>> binary_cross_entropy(row_loss, dlogits, np.array([[0.0]]), np.array([[1.0]]), 1.0, 1.0)
    >>> row_loss.round(4), dlogits
    (array([0.6931]), array([[-0.5]]))
    """
    zero = logits.dtype.type(0)
    loss_factor = logits.dtype.type(scale_loss)
    gradient_factor = logits.dtype.type(scale_gradient)
    for row in range(logits.shape[0]):
        total = zero
        for o in range(logits.shape[1]):
            z, t = logits[row, o], target[row, o]
            positive_part = z if z > zero else zero
            total += positive_part - z * t + math.log1p(math.exp(-abs(z)))
            dlogits[row, o] = gradient_factor * (logistic(z) - t)
        row_loss[row] = loss_factor * total


@reference
def softmax_cross_entropy(row_loss, dlogits, logits, labels, scale_gradient):
    """Compute the cross-entropy of one class out of O, given as logits.

    With ``p = softmax(z)``, the loss of a row is ``-log p[label] = log(sum_o e^z[o]) - z[label]``;
    the largest logit is subtracted from all, as in `softmax_forward`. The derivative of the
    logarithm of the sum is p, so ``dlogits = scale_gradient * (p - onehot(label))``.

    Parameters
    ----------
    row_loss : ndarray of shape (B,)
        Overwritten.
    dlogits : ndarray of shape (B, O)
        Overwritten. Must not overlap `logits`.
    logits : ndarray of shape (B, O)
        Output of the network before softmax.
    labels : ndarray of int of shape (B,)
        Class of each row, from 0 to O - 1; not checked.
    scale_gradient : float
        Factor of the gradient: 1 / B for the mean over rows.

    Examples
    --------
    >>> import numpy as np
    >>> row_loss, dlogits = np.empty(1), np.empty((1, 2))
    >>> softmax_cross_entropy(row_loss, dlogits, np.array([[3.0, 3.0]]), np.array([1]), 1.0)
    >>> row_loss.round(4), dlogits
    (array([0.6931]), array([[ 0.5, -0.5]]))
    """
    zero, one = logits.dtype.type(0), logits.dtype.type(1)
    gradient_factor = logits.dtype.type(scale_gradient)
    for row in range(logits.shape[0]):
        largest = logits[row, 0]
        for o in range(1, logits.shape[1]):
            if logits[row, o] > largest:
                largest = logits[row, o]
        total = zero
        for o in range(logits.shape[1]):
            dlogits[row, o] = math.exp(logits[row, o] - largest)
            total += dlogits[row, o]
        label = labels[row]
        row_loss[row] = math.log(total) - (logits[row, label] - largest)
        for o in range(logits.shape[1]):
            onehot = one if o == label else zero
            dlogits[row, o] = gradient_factor * (dlogits[row, o] / total - onehot)


@reference
def softmax_cross_entropy_dense(row_loss, dlogits, logits, target, scale_gradient):
    """Compute `softmax_cross_entropy` for target probabilities instead of one class.

    With ``p = softmax(z)``, the loss of a row is ``-sum_o t[o] log p[o]`` with
    ``log p[o] = z[o] - log(sum_k e^z[k])``. Each term gives ``t[o]`` times the gradient of
    `softmax_cross_entropy`, so ``dlogits = scale_gradient * (p * sum_o t[o] - t)``.

    Parameters
    ----------
    row_loss : ndarray of shape (B,)
        Overwritten.
    dlogits : ndarray of shape (B, O)
        Overwritten. Must not overlap `logits`.
    logits : ndarray of shape (B, O)
        Output of the network before softmax; finite.
    target : ndarray of shape (B, O)
        Weight of each class: one-hot rows, probabilities, or any numbers of at least 0 (rows need
        not sum to 1).
    scale_gradient : float
        Factor of the gradient: 1 / B for the mean over rows.

    Examples
    --------
    >>> import numpy as np
    >>> row_loss, dlogits = np.empty(1), np.empty((1, 2))
    >>> logits, target = np.array([[3.0, 3.0]]), np.array([[0.25, 0.75]])
    >>> softmax_cross_entropy_dense(row_loss, dlogits, logits, target, 1.0)
    >>> row_loss.round(4), dlogits
    (array([0.6931]), array([[ 0.25, -0.25]]))
    """
    zero = logits.dtype.type(0)
    gradient_factor = logits.dtype.type(scale_gradient)
    for row in range(logits.shape[0]):
        largest = logits[row, 0]
        for o in range(1, logits.shape[1]):
            if logits[row, o] > largest:
                largest = logits[row, o]
        total = zero
        for o in range(logits.shape[1]):
            dlogits[row, o] = math.exp(logits[row, o] - largest)
            total += dlogits[row, o]
        log_total = math.log(total)
        loss, weight = zero, zero
        for o in range(logits.shape[1]):
            if target[row, o] != zero:  # 0 * infinity, if the logits are far apart
                loss += target[row, o] * (log_total - (logits[row, o] - largest))
            weight += target[row, o]
        row_loss[row] = loss
        for o in range(logits.shape[1]):
            p = dlogits[row, o] / total
            dlogits[row, o] = gradient_factor * (p * weight - target[row, o])
