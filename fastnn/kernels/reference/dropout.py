"""Dropout, in plain loops."""

from fastnn.kernels.noise import dropout_limit, random_bits, row_key
from fastnn.runtime.jit import reference


@reference
def dropout_mask(mask, rate, seed, step):
    """Draw what each element is multiplied by: 0 with probability `rate`, else 1 / (1 - rate).

    The way forward is ``out = x * mask``, the way back ``dx = dout * mask`` (Srivastava et al.
    2014, section 10, the scaled form).

    Parameters
    ----------
    mask : ndarray of shape (B, I)
        Overwritten.
    rate : float
        In [0, 1).
    seed, step : int
        Whence the random numbers come, and which batch this is.

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
