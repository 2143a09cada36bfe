"""Plain loops for dropout."""

from fastnn.kernels.noise import dropout_limit, random_bits, row_key
from fastnn.runtime.jit import reference


@reference
def dropout_mask(mask, rate, seed, step):
    """Draw the factor of each element: 0 with the probability `rate`, else 1 / (1 - rate).

    The forward pass is ``out = x * mask``, the backward pass ``dx = dout * mask`` (Srivastava et
    al. 2014, section 10, the scaled form).

    Parameters
    ----------
    mask : ndarray of shape (B, I)
        Overwritten.
    rate : float
        Probability of a zero, in [0, 1).
    seed : int
        Seed of the random numbers.
    step : int
        Number of this batch, from 0.

    Examples
    --------
    >>> import numpy as np
    >>> mask = np.empty((2, 4))
    >>> dropout_mask(mask, 0.5, 5, 0)
    >>> mask
    array([[2., 2., 0., 0.],
           [0., 2., 2., 2.]])
    """
    number = mask.dtype.type
    limit = dropout_limit(rate)
    for row in range(mask.shape[0]):
        key = row_key(seed, step, row)
        for i in range(mask.shape[1]):
            kept = random_bits(key, i) >= limit
            mask[row, i] = number(1.0 / (1.0 - rate)) if kept else number(0)
