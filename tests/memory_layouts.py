"""Arrays as users may have them: the same numbers in other memory."""

import numpy as np


def misaligned(array):
    """Return the array at an odd address."""
    memory = np.empty(array.nbytes + 1, np.uint8)[1:]
    view = np.frombuffer(memory.data, array.dtype, array.size).reshape(array.shape)
    view[...] = array
    return view


def read_only(array):
    """Return a copy that nobody may write to."""
    array = array.copy()
    array.flags.writeable = False
    return array
