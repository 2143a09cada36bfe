"""Random numbers that depend on their place alone: the same for any number of threads.

A generator with a state gives its numbers in an order, and threads would have to agree on it. Here
a number is a function of a seed, a step, a row and a column: all are mixed until no pattern is
left. For dropout that is random enough, and it costs a few integer operations, in vectors.
"""

import numpy as np

from fastnn.runtime.jit import inner

# Odd numbers near 2^n divided by the golden ratio: multiples of them are spread evenly.
_GOLDEN_64 = np.uint64(0x9E3779B97F4A7C15)
GOLDEN_32 = 0x9E3779B9

ROUNDS = ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1))
"""Of `random_bits`: x becomes x ^ (x >> shift), times a factor. Wellons' `lowbias32`."""


@inner
def _mix(x):
    """Scramble 64 bits: the end of the generator SplitMix64 (Steele, Lea & Flood 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@inner
def row_key(seed, step, row):
    """Key of a row, 64 bits."""
    key = _mix(np.uint64(seed) + np.uint64(step) * _GOLDEN_64)
    return _mix(key + np.uint64(row + 1) * _GOLDEN_64)


@inner
def random_bits(key, column):
    """32 random bits for a column of the row with this key.

    `fastnn.kernels.tile.drop` computes the same for all columns of a tile.
    """
    x = np.uint32(np.uint32(column) * np.uint32(GOLDEN_32) + np.uint32(key))
    x ^= np.uint32(key >> np.uint64(32))
    for shift, factor in ROUNDS:
        x = np.uint32((x ^ (x >> np.uint32(shift))) * np.uint32(factor))
    return x


@inner
def dropout_limit(rate):
    """Random numbers of 32 bits below this one mean that an element is dropped."""
    return np.uint32(min(rate * 4294967296.0, 4294967295.0))
