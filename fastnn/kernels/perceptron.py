"""The perceptron: one neuron with a step, and the rule by which it learns.

Plain loops that are their own reference: there is nothing to compute in blocks, because the
weights may change after every sample.
"""

from fastnn.kernels.fma import fma
from fastnn.runtime.jit import inner, kernel


@inner
def _decide(w, b, x, row):
    """Return the dot product of a row of x (N, I) and w (I,), plus b."""
    total = b
    for i in range(w.shape[0]):
        total = fma(x[row, i], w[i], total)
    return total


@kernel
def perceptron_decisions(out, w, b, x):
    """Overwrite out (N,) with x @ w + b.

    Parameters
    ----------
    out : ndarray (N,)
    w : ndarray (I,)
    b : ndarray (1,)
    x : ndarray (N, I)
    """
    for row in range(x.shape[0]):
        out[row] = _decide(w, b[0], x, row)


@kernel
def perceptron_epoch(w, b, x, y, order, learning_rate):
    """Show all samples once, and after each mistake move w and b; return the number of mistakes.

    Parameters
    ----------
    w : ndarray (I,)
        Updated.
    b : ndarray (1,)
        Updated.
    x : ndarray (N, I)
    y : ndarray (N,) of int64
        0 or 1 for each row of x.
    order : ndarray (N,) of int64
        The rows of x, in the order in which they are shown.
    learning_rate : float
        Of the type of w.
    """
    mistakes = 0
    for k in range(order.shape[0]):
        row = order[k]
        prediction = 1 if _decide(w, b[0], x, row) > 0 else 0
        if prediction != y[row]:
            mistakes += 1
            step = learning_rate * (y[row] - prediction)  # up if it should fire, else down
            for i in range(w.shape[0]):
                w[i] = fma(step, x[row, i], w[i])
            b[0] += step
    return mistakes
