"""Codes of the losses.

The softmax cross-entropy takes integer labels or rows of target probabilities. The absolute error
is twice that of the quantile 1/2.
"""

(
    SQUARED_ERROR,
    BINARY_CROSS_ENTROPY,
    SOFTMAX_CROSS_ENTROPY,
    SOFTMAX_CROSS_ENTROPY_DENSE,
    POISSON,
    HUBER,
    QUANTILE,
) = range(7)
