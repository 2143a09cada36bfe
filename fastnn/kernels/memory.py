"""Arrays at addresses: how a job's record names the memory that a kernel works on."""

import numpy as np
from numba import carray, types
from numba.extending import intrinsic

from fastnn._jit import inner

UNBOUNDED = 1 << 60
"""Length of a flat array whose true length the kernel does not need."""


@intrinsic
def _pointer(typingctx, address, dtype):
    pointer = types.CPointer(dtype.instance_type)

    def codegen(context, builder, signature, args):
        return builder.inttoptr(args[0], context.get_value_type(pointer))

    return pointer(types.int64, dtype), codegen


@inner
def vector_at(address, dtype):
    """Flat array of `dtype` at an address."""
    return carray(_pointer(address, dtype), (UNBOUNDED,))


@inner
def matrix_at(address, rows, columns, dtype):
    """Array (rows, columns), C-contiguous, of `dtype` at an address."""
    return carray(_pointer(address, dtype), (rows, columns))


def address_of(array):
    """Return the address of an array's first element."""
    return array.__array_interface__["data"][0]


def make_job(record, **values):
    """Return a job: a record of int64 and float64 fields; arrays are given by their address.

    Parameters
    ----------
    record : numpy.dtype
    **values : int, float or ndarray
        All fields of the record.
    """
    job = np.zeros(1, record)
    for name in record.names:
        value = values.pop(name)
        job[name] = address_of(value) if isinstance(value, np.ndarray) else value
    if values:
        raise TypeError(f"the job has no fields {', '.join(values)}")
    return job
