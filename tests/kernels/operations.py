"""Operations alone: matrices that they read and write, and calls of their kernels at addresses."""

import ctypes

import numpy as np

from fastnn.kernels.memory import address_of
from fastnn.kernels.operation import BLOCK, OPERATION, TASK, WORK
from tests.panel_layout import Panels


def call(address, *arguments):
    """Call a kernel at an address with integers; of an array, with its address."""
    function = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * len(arguments))(int(address))
    function(*[address_of(a) if isinstance(a, np.ndarray) else int(a) for a in arguments])


class Record(np.ndarray):
    """One record, and the values in it: arrays of which it has the addresses stay alive with it."""

    values = None


def record(dtype, **values):
    """Return a record of zeros with some values; of an array, with its address."""
    result = np.zeros(1, dtype).view(Record)
    result.values = values
    for name, value in values.items():
        is_address = isinstance(value, np.ndarray) and dtype[name].shape == ()
        result[name] = address_of(value) if is_address else value
    return result


class Memory:
    """The input and the result of an operation in one array: activations, or their gradients.

    Parameters
    ----------
    n_rows, n_in, n_out : int
    dtype : dtype
    state : int
        Elements behind the result.

    Attributes
    ----------
    x, out : Panels
        Full of NaN.
    state : ndarray
    data : ndarray
        All of it.
    """

    def __init__(self, n_rows, n_in, n_out, dtype, state=0):
        self.x = Panels((n_rows, n_in), dtype)
        self.out = Panels((n_rows, n_out), dtype, offset=1, gap=3)
        n, end = self.x.flat.size, self.x.flat.size + self.out.flat.size
        self.data = np.full(end + state, np.nan, dtype)
        self.x.flat, self.out.flat = self.data[:n], self.data[n:end]
        self.state, self.state_at = self.data[end:], end

    def operation(self, **values):
        """Return the record of an operation on this memory."""
        places = {
            "n_in": self.x.shape[1],
            "n_out": self.out.shape[1],
            "x_at": self.x.offset,
            "x_panel": self.x.distance,
            "out_at": self.x.flat.size + self.out.offset,
            "out_panel": self.out.distance,
            "state_at": self.state_at,
        }
        return record(OPERATION, **places | values)


class Unchanged:
    """Checks on leaving that a kernel has not written to arrays, where NaN is like any number."""

    def __init__(self, *arrays):
        self.arrays = arrays

    def __enter__(self):
        self.before = [array.copy() for array in self.arrays]

    def __exit__(self, error, *_):
        if error is None:
            for array, before in zip(self.arrays, self.before, strict=True):
                np.testing.assert_array_equal(array, before)


def work(**values):
    """Return the record of what a thread works on."""
    return record(WORK, **values)


def task(**values):
    """Return the record of a task."""
    return record(TASK, **values)


def block(**values):
    """Return the record of a block of parameters."""
    return record(BLOCK, **values)
