"""The plain loops that anybody can read: what every operation of this package means.

Start here to see how a network computes, from the dot product of one perceptron to the update of
its weights. The fast kernels do the same with other loops, and are tested against these.

Conventions
-----------
Shapes. ``B`` rows in the batch, ``I`` inputs of a layer, ``O`` outputs: ``x (B, I)``,
``w (I, O)``, ``b (O,)``, ``out (B, O)``. A layer computes ``z = x @ w + b``, then an activation
``out = f(z)``.

Gradients. ``dz`` is short for dL/dz, the gradient of the loss L with respect to z, and has the
shape of ``z``. Every operation comes as a pair: ``forward`` computes the result, ``backward``
turns the gradient of the result into the gradient of the argument, by the chain rule.

Results come first and are overwritten, never accumulated, unless the docstring says so. Nothing is
returned, allocated or checked: the callers check shapes.

Types. All arrays of a call have one type, float32 or float64, and sums are kept in that type.
Numbers such as a learning rate are rounded to it once, before the loop, because a single float64
would pull the whole loop up to float64. Arrays may be strided. NaN is never hidden.
"""

import math

from fastnn._jit import reference

__all__ = [
    "adam",
    "adam_step_size",
    "adamw",
    "affine_backward_input",
    "affine_backward_weight",
    "affine_forward",
    "binary_cross_entropy",
    "dot",
    "identity_backward",
    "identity_forward",
    "leaky_relu_backward",
    "leaky_relu_forward",
    "logistic_backward",
    "logistic_forward",
    "matmul",
    "momentum",
    "mse",
    "nesterov",
    "relu_backward",
    "relu_forward",
    "rmsprop",
    "sgd",
    "softmax_backward",
    "softmax_cross_entropy",
    "softmax_cross_entropy_dense",
    "softmax_forward",
    "step_backward",
    "step_forward",
    "tanh_backward",
    "tanh_forward",
]

# --------------------------------------------------------------------------------------------------
# Products
# --------------------------------------------------------------------------------------------------


@reference
def dot(x, w):
    """Return the dot product of two vectors: what one perceptron sums before it decides.

    ``dot(x, w) = sum_i x[i] * w[i]``, summed from the first element to the last.

    Parameters
    ----------
    x, w : ndarray of shape (I,)
        Inputs and weights.

    Returns
    -------
    float
        The sum, in the type of `x`.

    Examples
    --------
    >>> import numpy as np
    >>> dot(np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0]))
    32.0
    """
    total = x.dtype.type(0)
    for i in range(x.shape[0]):
        total += x[i] * w[i]
    return total


@reference
def matmul(out, a, b):
    """Multiply two matrices: ``out = a @ b``, one dot product for each element of `out`.

    ``out[m, n] = sum_k a[m, k] * b[k, n]``

    Parameters
    ----------
    out : ndarray of shape (M, N)
        Overwritten. Must not overlap `a` or `b`.
    a : ndarray of shape (M, K)
        Left factor.
    b : ndarray of shape (K, N)
        Right factor.

    Examples
    --------
    >>> import numpy as np
    >>> out = np.empty((1, 2))
    >>> matmul(out, np.array([[1.0, 2.0]]), np.array([[3.0, 4.0], [5.0, 6.0]]))
    >>> out
    array([[13., 16.]])
    """
    for m in range(a.shape[0]):
        for n in range(b.shape[1]):
            total = out.dtype.type(0)
            for k in range(a.shape[1]):
                total += a[m, k] * b[k, n]
            out[m, n] = total


@reference
def affine_forward(out, x, w, b):
    """Compute a layer of O perceptrons on B rows, before the activation: ``out = x @ w + b``.

    ``out[row, o] = sum_i x[row, i] * w[i, o] + b[o]``

    Parameters
    ----------
    out : ndarray of shape (B, O)
        Overwritten. Must not overlap the others.
    x : ndarray of shape (B, I)
        Inputs.
    w : ndarray of shape (I, O)
        Weights, one column for each perceptron.
    b : ndarray of shape (O,)
        Biases.

    Examples
    --------
    >>> import numpy as np
    >>> out = np.empty((1, 1))
    >>> affine_forward(out, np.array([[1.0, 2.0]]), np.array([[3.0], [4.0]]), np.array([0.5]))
    >>> out
    array([[11.5]])
    """
    for row in range(x.shape[0]):
        for o in range(w.shape[1]):
            total = out.dtype.type(0)
            for i in range(x.shape[1]):
                total += x[row, i] * w[i, o]
            out[row, o] = total + b[o]


@reference
def affine_backward_input(dx, dout, w):
    """Compute the gradient of an affine layer with respect to its input: ``dx = dout @ w.T``.

    Input i reaches each output o with weight ``w[i, o]``, so by the chain rule
    ``dx[row, i] = sum_o dout[row, o] * w[i, o]``.

    Parameters
    ----------
    dx : ndarray of shape (B, I)
        Overwritten. Must not overlap the others.
    dout : ndarray of shape (B, O)
        Gradient with respect to the layer's output.
    w : ndarray of shape (I, O)
        Weights.

    Examples
    --------
    >>> import numpy as np
    >>> dx = np.empty((1, 2))
    >>> affine_backward_input(dx, np.array([[2.0]]), np.array([[3.0], [4.0]]))
    >>> dx
    array([[6., 8.]])
    """
    for row in range(dout.shape[0]):
        for i in range(w.shape[0]):
            total = dx.dtype.type(0)
            for o in range(w.shape[1]):
                total += dout[row, o] * w[i, o]
            dx[row, i] = total


@reference
def affine_backward_weight(dw, db, x, dout):
    """Compute the gradient of an affine layer with respect to its weights and biases.

    Weight (i, o) multiplies ``x[row, i]`` in every row, a bias is added in every row, so
    ``dw[i, o] = sum_row x[row, i] * dout[row, o]``, that is ``dw = x.T @ dout``, and
    ``db[o] = sum_row dout[row, o]``.

    Parameters
    ----------
    dw : ndarray of shape (I, O)
        Overwritten.
    db : ndarray of shape (O,)
        Overwritten.
    x : ndarray of shape (B, I)
        Inputs of the forward pass.
    dout : ndarray of shape (B, O)
        Gradient with respect to the layer's output.

    Examples
    --------
    >>> import numpy as np
    >>> dw, db = np.empty((2, 1)), np.empty(1)
    >>> x, dout = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0], [10.0]])
    >>> affine_backward_weight(dw, db, x, dout)
    >>> dw, db
    (array([[31.],
           [42.]]), array([11.]))
    """
    for o in range(dout.shape[1]):
        for i in range(x.shape[1]):
            total = dw.dtype.type(0)
            for row in range(x.shape[0]):
                total += x[row, i] * dout[row, o]
            dw[i, o] = total
        total = db.dtype.type(0)
        for row in range(dout.shape[0]):
            total += dout[row, o]
        db[o] = total


# --------------------------------------------------------------------------------------------------
# Activations. Backward takes the forward OUTPUT, which the next layer keeps anyway as its input, so
# `z` can be forgotten. Both passes may work in place: `out` may be `z`, `dz` may be `dout`.
# --------------------------------------------------------------------------------------------------


@reference
def identity_forward(out, z):
    """Copy: ``out = z``. The activation of a linear layer.

    Parameters
    ----------
    out : ndarray of shape (B, O)
        Overwritten. May be `z`.
    z : ndarray of shape (B, O)
        Pre-activations.

    Examples
    --------
    >>> import numpy as np
    >>> out = np.empty((1, 2))
    >>> identity_forward(out, np.array([[-1.0, 2.0]]))
    >>> out
    array([[-1.,  2.]])
    """
    for row in range(z.shape[0]):
        for o in range(z.shape[1]):
            out[row, o] = z[row, o]


@reference
def identity_backward(dz, dout, out):
    """Copy the gradient: ``dz = dout``, for the derivative is 1 everywhere.

    Parameters
    ----------
    dz : ndarray of shape (B, O)
        Overwritten. May be `dout`.
    dout : ndarray of shape (B, O)
        Gradient with respect to the output.
    out : ndarray of shape (B, O)
        Output of `identity_forward`; not read.

    Examples
    --------
    >>> import numpy as np
    >>> dz = np.empty((1, 1))
    >>> identity_backward(dz, np.array([[3.0]]), np.array([[2.0]]))
    >>> dz
    array([[3.]])
    """
    for row in range(out.shape[0]):
        for o in range(out.shape[1]):
            dz[row, o] = dout[row, o]


@reference
def relu_forward(out, z):
    """Keep what is positive: ``out = max(z, 0)``, the rectified linear unit. NaN stays NaN.

    Parameters
    ----------
    out : ndarray of shape (B, O)
        Overwritten. May be `z`.
    z : ndarray of shape (B, O)
        Pre-activations.

    Examples
    --------
    >>> import numpy as np
    >>> out = np.empty((1, 3))
    >>> relu_forward(out, np.array([[-1.0, 2.0, np.nan]]))
    >>> out
    array([[ 0.,  2., nan]])
    """
    zero = out.dtype.type(0)
    for row in range(z.shape[0]):
        for o in range(z.shape[1]):
            # Asked this way round, NaN (which compares false with everything) is kept.
            out[row, o] = zero if z[row, o] <= zero else z[row, o]


@reference
def relu_backward(dz, dout, out):
    """Pass the gradient where the unit is on: ``dz = dout`` where ``out > 0``, else 0.

    The derivative is 1 for ``z > 0`` and 0 for ``z < 0``; at ``z = 0``, where there is none, it is
    taken as 0. ``out > 0`` exactly where ``z > 0``. Where `out` is NaN, `dout` passes.

    Parameters
    ----------
    dz : ndarray of shape (B, O)
        Overwritten. May be `dout`.
    dout : ndarray of shape (B, O)
        Gradient with respect to the output.
    out : ndarray of shape (B, O)
        Output of `relu_forward`.

    Examples
    --------
    >>> import numpy as np
    >>> dz = np.empty((1, 2))
    >>> relu_backward(dz, np.array([[5.0, 5.0]]), np.array([[0.0, 2.0]]))
    >>> dz
    array([[0., 5.]])
    """
    zero = dz.dtype.type(0)
    for row in range(out.shape[0]):
        for o in range(out.shape[1]):
            dz[row, o] = zero if out[row, o] <= zero else dout[row, o]


@reference
def leaky_relu_forward(out, z, negative_slope):
    """Keep what is positive and shrink the rest: ``out = z if z > 0 else negative_slope * z``.

    Parameters
    ----------
    out : ndarray of shape (B, O)
        Overwritten. May be `z`.
    z : ndarray of shape (B, O)
        Pre-activations.
    negative_slope : float
        Slope for negative `z`, at least 0.

    Examples
    --------
    >>> import numpy as np
    >>> out = np.empty((1, 2))
    >>> leaky_relu_forward(out, np.array([[-1.0, 2.0]]), 0.25)
    >>> out
    array([[-0.25,  2.  ]])
    """
    zero = out.dtype.type(0)
    slope = out.dtype.type(negative_slope)
    for row in range(z.shape[0]):
        for o in range(z.shape[1]):
            out[row, o] = slope * z[row, o] if z[row, o] <= zero else z[row, o]


@reference
def leaky_relu_backward(dz, dout, out, negative_slope):
    """Scale the gradient where the unit leaks: ``dz = dout if out > 0 else negative_slope * dout``.

    A slope of at least 0 makes `out` positive exactly where `z` is, so `out` tells the side. At
    ``z = 0`` the derivative is taken as `negative_slope`.

    Parameters
    ----------
    dz : ndarray of shape (B, O)
        Overwritten. May be `dout`.
    dout : ndarray of shape (B, O)
        Gradient with respect to the output.
    out : ndarray of shape (B, O)
        Output of `leaky_relu_forward`.
    negative_slope : float
        The slope given to `leaky_relu_forward`.

    Examples
    --------
    >>> import numpy as np
    >>> dz = np.empty((1, 2))
    >>> leaky_relu_backward(dz, np.array([[4.0, 4.0]]), np.array([[-0.25, 2.0]]), 0.25)
    >>> dz
    array([[1., 4.]])
    """
    zero = dz.dtype.type(0)
    slope = dz.dtype.type(negative_slope)
    for row in range(out.shape[0]):
        for o in range(out.shape[1]):
            dz[row, o] = slope * dout[row, o] if out[row, o] <= zero else dout[row, o]


@reference
def _logistic(z):
    """Return 1 / (1 + e^-z) of one number, without ever taking e to a positive power.

    For ``z < 0`` the fraction is expanded by e^z: e^-z would overflow, and e^z keeps every digit
    of a small result.
    """
    one = type(z)(1)
    if z >= 0:
        return one / (one + math.exp(-z))
    power = math.exp(z)
    return power / (one + power)


@reference
def logistic_forward(out, z):
    """Squash to (0, 1): ``out = 1 / (1 + e^-z)``, the logistic function or sigmoid.

    Parameters
    ----------
    out : ndarray of shape (B, O)
        Overwritten. May be `z`.
    z : ndarray of shape (B, O)
        Pre-activations.

    Examples
    --------
    >>> import numpy as np
    >>> out = np.empty((1, 3))
    >>> logistic_forward(out, np.array([[-1000.0, 0.0, 1000.0]]))
    >>> out
    array([[0. , 0.5, 1. ]])
    """
    for row in range(z.shape[0]):
        for o in range(z.shape[1]):
            out[row, o] = _logistic(z[row, o])


@reference
def logistic_backward(dz, dout, out):
    """Multiply by the derivative of the logistic function: ``dz = dout * out * (1 - out)``.

    With ``out = 1 / (1 + e^-z)``, ``d out/dz = e^-z / (1 + e^-z)^2 = out * (1 - out)``.

    Parameters
    ----------
    dz : ndarray of shape (B, O)
        Overwritten. May be `dout`.
    dout : ndarray of shape (B, O)
        Gradient with respect to the output.
    out : ndarray of shape (B, O)
        Output of `logistic_forward`.

    Examples
    --------
    >>> import numpy as np
    >>> dz = np.empty((1, 1))
    >>> logistic_backward(dz, np.array([[4.0]]), np.array([[0.5]]))
    >>> dz
    array([[1.]])
    """
    one = dz.dtype.type(1)
    for row in range(out.shape[0]):
        for o in range(out.shape[1]):
            dz[row, o] = dout[row, o] * out[row, o] * (one - out[row, o])


@reference
def tanh_forward(out, z):
    """Squash to (-1, 1): ``out = tanh(z) = (e^z - e^-z) / (e^z + e^-z)``.

    Parameters
    ----------
    out : ndarray of shape (B, O)
        Overwritten. May be `z`.
    z : ndarray of shape (B, O)
        Pre-activations.

    Examples
    --------
    >>> import numpy as np
    >>> out = np.empty((1, 3))
    >>> tanh_forward(out, np.array([[-1000.0, 0.0, 1000.0]]))
    >>> out
    array([[-1.,  0.,  1.]])
    """
    for row in range(z.shape[0]):
        for o in range(z.shape[1]):
            out[row, o] = math.tanh(z[row, o])


@reference
def tanh_backward(dz, dout, out):
    """Multiply by the derivative of tanh: ``dz = dout * (1 - out^2)``.

    By the quotient rule on ``sinh(z) / cosh(z)``:
    ``d out/dz = (cosh^2 - sinh^2) / cosh^2 = 1 - out^2``.

    Parameters
    ----------
    dz : ndarray of shape (B, O)
        Overwritten. May be `dout`.
    dout : ndarray of shape (B, O)
        Gradient with respect to the output.
    out : ndarray of shape (B, O)
        Output of `tanh_forward`.

    Examples
    --------
    >>> import numpy as np
    >>> dz = np.empty((1, 1))
    >>> tanh_backward(dz, np.array([[4.0]]), np.array([[0.5]]))
    >>> dz
    array([[3.]])
    """
    one = dz.dtype.type(1)
    for row in range(out.shape[0]):
        for o in range(out.shape[1]):
            dz[row, o] = dout[row, o] * (one - out[row, o] * out[row, o])


@reference
def step_forward(out, z):
    """Decide as Rosenblatt's perceptron does: ``out = 1 if z > 0 else 0``. NaN stays NaN.

    This is Heaviside's step with the value 0 at 0, ``numpy.heaviside(z, 0)``.

    Parameters
    ----------
    out : ndarray of shape (B, O)
        Overwritten. May be `z`.
    z : ndarray of shape (B, O)
        Pre-activations.

    Examples
    --------
    >>> import numpy as np
    >>> out = np.empty((1, 3))
    >>> step_forward(out, np.array([[-2.0, 0.0, 2.0]]))
    >>> out
    array([[0., 0., 1.]])
    """
    zero, one = out.dtype.type(0), out.dtype.type(1)
    for row in range(z.shape[0]):
        for o in range(z.shape[1]):
            if z[row, o] > zero:
                out[row, o] = one
            elif z[row, o] <= zero:
                out[row, o] = zero
            else:
                out[row, o] = z[row, o]  # NaN


@reference
def step_backward(dz, dout, out):
    """Block the gradient: ``dz = 0``, for a step is flat on both sides.

    (At 0, where it jumps, the derivative is taken as 0 too.) No gradient reaches the layers below;
    that is why networks of several layers use smoother activations.

    Parameters
    ----------
    dz : ndarray of shape (B, O)
        Overwritten. May be `dout`.
    dout : ndarray of shape (B, O)
        Gradient with respect to the output; not read.
    out : ndarray of shape (B, O)
        Output of `step_forward`; not read.

    Examples
    --------
    >>> import numpy as np
    >>> dz = np.empty((1, 1))
    >>> step_backward(dz, np.array([[4.0]]), np.array([[1.0]]))
    >>> dz
    array([[0.]])
    """
    for row in range(out.shape[0]):
        for o in range(out.shape[1]):
            dz[row, o] = dz.dtype.type(0)


@reference
def softmax_forward(out, z):
    """Turn each row into probabilities: ``out[row, o] = e^z[row, o] / sum_k e^z[row, k]``.

    A number subtracted from the whole row cancels in the fraction, so the largest is subtracted
    first: no power overflows, and the sum is at least 1. A NaN makes its whole row NaN.

    Parameters
    ----------
    out : ndarray of shape (B, O)
        Overwritten. May be `z`.
    z : ndarray of shape (B, O)
        Pre-activations, the logits.

    Examples
    --------
    >>> import numpy as np
    >>> out = np.empty((1, 2))
    >>> softmax_forward(out, np.array([[1000.0, 1000.0]]))
    >>> out
    array([[0.5, 0.5]])
    """
    for row in range(z.shape[0]):
        largest = z[row, 0]
        for o in range(1, z.shape[1]):
            if z[row, o] > largest:
                largest = z[row, o]
        total = out.dtype.type(0)
        for o in range(z.shape[1]):
            out[row, o] = math.exp(z[row, o] - largest)
            total += out[row, o]
        for o in range(z.shape[1]):
            out[row, o] /= total


@reference
def softmax_backward(dz, dout, out):
    """Multiply each row of gradients by the Jacobian of softmax.

    With ``p = out[row]``, ``dp[k]/dz[o] = p[k] * ((k == o) - p[o])``: every output depends on every
    logit. The chain rule sums over k, ``dz[o] = p[o] * (dout[o] - sum_k dout[k] * p[k])``.

    Parameters
    ----------
    dz : ndarray of shape (B, O)
        Overwritten. May be `dout`.
    dout : ndarray of shape (B, O)
        Gradient with respect to the output.
    out : ndarray of shape (B, O)
        Output of `softmax_forward`.

    Examples
    --------
    >>> import numpy as np
    >>> dz = np.empty((1, 2))
    >>> softmax_backward(dz, np.array([[4.0, 0.0]]), np.array([[0.5, 0.5]]))
    >>> dz
    array([[ 1., -1.]])
    """
    for row in range(out.shape[0]):
        mean = dz.dtype.type(0)
        for o in range(out.shape[1]):
            mean += dout[row, o] * out[row, o]
        for o in range(out.shape[1]):
            dz[row, o] = out[row, o] * (dout[row, o] - mean)


# --------------------------------------------------------------------------------------------------
# Losses. Each gives the loss of every row and, in the same pass, the gradient with respect to the
# network's output. The scales make it a mean over the batch, or over the batch and the outputs.
# With the activation that matches the loss, the gradient is always (activation - target).
# --------------------------------------------------------------------------------------------------


@reference
def mse(row_loss, dout, out, target, scale_loss, scale_gradient):
    """Sum the squared errors of each row: the loss of regression.

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
        What the network says and what it should say.
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
def binary_cross_entropy(row_loss, dlogits, logits, target, scale_loss, scale_gradient):
    """Score independent yes/no answers given as logits: the loss of binary classification.

    With ``p = logistic(z)`` and target t, the loss of one answer is
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
        Probability of "yes", from 0 to 1.
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
            dlogits[row, o] = gradient_factor * (_logistic(z) - t)
        row_loss[row] = loss_factor * total


@reference
def softmax_cross_entropy(row_loss, dlogits, logits, labels, scale_gradient):
    """Score the probability given to the right class: the loss of classification.

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
        The right class of each row, from 0 to O - 1; not checked.
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
    """Score probabilities against target probabilities: `softmax_cross_entropy` for soft labels.

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
            loss += target[row, o] * (log_total - (logits[row, o] - largest))
            weight += target[row, o]
        row_loss[row] = loss
        for o in range(logits.shape[1]):
            p = dlogits[row, o] / total
            dlogits[row, o] = gradient_factor * (p * weight - target[row, o])


# --------------------------------------------------------------------------------------------------
# Updates: one step downhill. `p` holds all parameters of a network in one vector of P numbers, `g`
# their gradient. A rule overwrites `p` and its own memory, which starts as zeros.
# --------------------------------------------------------------------------------------------------


@reference
def sgd(p, g, learning_rate):
    """Step against the gradient, plain stochastic gradient descent: ``p -= learning_rate * g``.

    Parameters
    ----------
    p : ndarray of shape (P,)
        Parameters, overwritten.
    g : ndarray of shape (P,)
        Gradient of the loss with respect to `p`.
    learning_rate : float
        Length of the step per unit of gradient.

    Examples
    --------
    >>> import numpy as np
    >>> p = np.array([1.0])
    >>> sgd(p, np.array([2.0]), 0.25)
    >>> p
    array([0.5])
    """
    rate = p.dtype.type(learning_rate)
    for i in range(p.shape[0]):
        p[i] -= rate * g[i]


@reference
def momentum(p, velocity, g, learning_rate, momentum):
    """Roll downhill: a velocity gathers the gradients and forgets them slowly (Polyak 1964).

    ``velocity = momentum * velocity - learning_rate * g``, then ``p += velocity``.

    Parameters
    ----------
    p, velocity : ndarray of shape (P,)
        Parameters and their velocity, overwritten.
    g : ndarray of shape (P,)
        Gradient of the loss with respect to `p`.
    learning_rate : float
        Length of the step per unit of gradient.
    momentum : float
        Share of the velocity that is kept, from 0 to below 1.

    Examples
    --------
    >>> import numpy as np
    >>> p, velocity = np.array([1.0]), np.array([0.5])
    >>> momentum(p, velocity, np.array([2.0]), 0.5, 0.5)
    >>> p, velocity
    (array([0.25]), array([-0.75]))
    """
    rate, keep = p.dtype.type(learning_rate), p.dtype.type(momentum)
    for i in range(p.shape[0]):
        velocity[i] = keep * velocity[i] - rate * g[i]
        p[i] += velocity[i]


@reference
def nesterov(p, velocity, g, learning_rate, momentum):
    """Roll downhill and look ahead: Nesterov's momentum.

    ``velocity = momentum * velocity - learning_rate * g``, then
    ``p += momentum * velocity - learning_rate * g``. This is the form of Bengio, Boulanger-
    Lewandowski and Pascanu (2013, equation 7): `p` is the point ahead, where the gradient is taken.

    Parameters
    ----------
    p, velocity : ndarray of shape (P,)
        Parameters and their velocity, overwritten.
    g : ndarray of shape (P,)
        Gradient of the loss with respect to `p`.
    learning_rate : float
        Length of the step per unit of gradient.
    momentum : float
        Share of the velocity that is kept, from 0 to below 1.

    Examples
    --------
    >>> import numpy as np
    >>> p, velocity = np.array([1.0]), np.array([0.5])
    >>> nesterov(p, velocity, np.array([2.0]), 0.5, 0.5)
    >>> p, velocity
    (array([-0.375]), array([-0.75]))
    """
    rate, keep = p.dtype.type(learning_rate), p.dtype.type(momentum)
    for i in range(p.shape[0]):
        velocity[i] = keep * velocity[i] - rate * g[i]
        p[i] += keep * velocity[i] - rate * g[i]


@reference
def rmsprop(p, square, g, learning_rate, rho, epsilon):
    """Divide each step by the recent size of its gradient (Tieleman and Hinton 2012, lecture 6e).

    ``square = rho * square + (1 - rho) * g^2``, then
    ``p -= learning_rate * g / (sqrt(square) + epsilon)``.

    Parameters
    ----------
    p, square : ndarray of shape (P,)
        Parameters and the running mean of their squared gradients, overwritten.
    g : ndarray of shape (P,)
        Gradient of the loss with respect to `p`.
    learning_rate : float
        Length of the step.
    rho : float
        Share of the running mean that is kept, from 0 to below 1.
    epsilon : float
        Keeps the division finite where the gradient vanishes.

    Examples
    --------
    >>> import numpy as np
    >>> p, square = np.array([1.0]), np.array([0.0])
    >>> rmsprop(p, square, np.array([4.0]), 0.25, 0.75, 0.0)
    >>> p, square
    (array([0.5]), array([4.]))
    """
    rate, eps = p.dtype.type(learning_rate), p.dtype.type(epsilon)
    keep, add = p.dtype.type(rho), p.dtype.type(1 - rho)
    for i in range(p.shape[0]):
        square[i] = keep * square[i] + add * (g[i] * g[i])
        p[i] -= rate * g[i] / (math.sqrt(square[i]) + eps)


@reference
def adam_step_size(learning_rate, beta_1, beta_2, t):
    """Return Adam's step size at update `t`, with the correction for means that start at zero.

    After t updates from zero the running means m and v are too small by the factors
    ``1 - beta_1^t`` and ``1 - beta_2^t``. Kingma and Ba (2015, end of section 2) put both
    corrections into the step: ``learning_rate * sqrt(1 - beta_2^t) / (1 - beta_1^t)``.

    Parameters
    ----------
    learning_rate, beta_1, beta_2 : float
        Settings of Adam.
    t : int
        Number of this update, from 1.

    Returns
    -------
    float
        The step size, in float64.

    Examples
    --------
    >>> adam_step_size(0.5, 0.5, 0.75, 1)
    0.5
    """
    return learning_rate * math.sqrt(1 - beta_2**t) / (1 - beta_1**t)


@reference
def adam(p, m, v, g, step_size, beta_1, beta_2, epsilon):
    """Step along the mean gradient, divided by its recent size (Kingma and Ba 2015).

    ``m = beta_1 * m + (1 - beta_1) * g``, ``v = beta_2 * v + (1 - beta_2) * g^2``, then
    ``p -= step_size * m / (sqrt(v) + epsilon)``. Here epsilon is added before v is corrected, as
    in the paper's efficient form and in scikit-learn.

    Parameters
    ----------
    p, m, v : ndarray of shape (P,)
        Parameters, running mean of the gradient and of its square, overwritten.
    g : ndarray of shape (P,)
        Gradient of the loss with respect to `p`.
    step_size : float
        From `adam_step_size`.
    beta_1, beta_2 : float
        Share of m and of v that is kept, from 0 to below 1.
    epsilon : float
        Keeps the division finite where the gradient vanishes.

    Examples
    --------
    >>> import numpy as np
    >>> p, m, v = np.array([1.0]), np.array([0.0]), np.array([0.0])
    >>> adam(p, m, v, np.array([4.0]), 0.5, 0.5, 0.75, 0.0)
    >>> p, m, v
    (array([0.5]), array([2.]), array([4.]))
    """
    step, eps = p.dtype.type(step_size), p.dtype.type(epsilon)
    keep_m, add_m = p.dtype.type(beta_1), p.dtype.type(1 - beta_1)
    keep_v, add_v = p.dtype.type(beta_2), p.dtype.type(1 - beta_2)
    for i in range(p.shape[0]):
        m[i] = keep_m * m[i] + add_m * g[i]
        v[i] = keep_v * v[i] + add_v * (g[i] * g[i])
        p[i] -= step * m[i] / (math.sqrt(v[i]) + eps)


@reference
def adamw(p, m, v, g, step_size, beta_1, beta_2, epsilon, decay):
    """Shrink the parameters, then step as `adam` does (Loshchilov and Hutter 2019, algorithm 2).

    ``p -= decay * p``, then Adam's update. The decay does not pass through m and v: that is the
    difference from adding a penalty to the loss.

    Parameters
    ----------
    p, m, v : ndarray of shape (P,)
        Parameters, running mean of the gradient and of its square, overwritten.
    g : ndarray of shape (P,)
        Gradient of the loss with respect to `p`.
    step_size : float
        From `adam_step_size`.
    beta_1, beta_2 : float
        Share of m and of v that is kept, from 0 to below 1.
    epsilon : float
        Keeps the division finite where the gradient vanishes.
    decay : float
        Share of each parameter taken away: learning rate times weight decay.

    Examples
    --------
    >>> import numpy as np
    >>> p, m, v = np.array([1.0]), np.array([0.0]), np.array([0.0])
    >>> adamw(p, m, v, np.array([4.0]), 0.5, 0.5, 0.75, 0.0, 0.25)
    >>> p
    array([0.25])
    """
    share = p.dtype.type(decay)
    for i in range(p.shape[0]):
        p[i] -= share * p[i]
    adam(p, m, v, g, step_size, beta_1, beta_2, epsilon)
