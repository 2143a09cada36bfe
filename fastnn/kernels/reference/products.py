"""Plain loops for the products of an affine layer."""

from fastnn.runtime.jit import reference


@reference
def dot(x, w):
    """Return the dot product of two vectors: the input of the step function of one perceptron.

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
        Overwritten. Must not overlap the other arrays.
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

    The derivative of output o with respect to input i is ``w[i, o]``, so by the chain rule
    ``dx[row, i] = sum_o dout[row, o] * w[i, o]``.

    Parameters
    ----------
    dx : ndarray of shape (B, I)
        Overwritten. Must not overlap the other arrays.
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

    Weight (i, o) multiplies ``x[row, i]`` in every row, and a bias is added in every row, so
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
