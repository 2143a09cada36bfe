"""Arrays at addresses: how a job's record names the memory that a kernel works on."""

import numpy as np
from numba import types
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

UNBOUNDED = 1 << 60
"""Length of a flat array whose true length the kernel does not need."""


def _make_array(context, builder, array_type, address, shape):
    """Return the struct of a C-contiguous array that owns nothing."""
    dtype = context.get_data_type(array_type.dtype)
    itemsize = context.get_abi_sizeof(dtype)
    strides = [context.get_constant(types.intp, itemsize)]
    for length in shape[:0:-1]:
        strides.insert(0, builder.mul(strides[0], length))
    array = context.make_array(array_type)(context, builder)
    populate_array(
        array,
        data=builder.inttoptr(address, dtype.as_pointer()),
        shape=shape,
        strides=strides,
        itemsize=context.get_constant(types.intp, itemsize),
        meminfo=None,
    )
    return array._getvalue()


@intrinsic
def vector_at(typingctx, address, dtype):
    """Flat array of `dtype` at an address."""
    array_type = types.Array(dtype.instance_type, 1, "C")

    def codegen(context, builder, signature, args):
        shape = [context.get_constant(types.intp, UNBOUNDED)]
        return _make_array(context, builder, array_type, args[0], shape)

    return array_type(types.int64, dtype), codegen


@intrinsic
def matrix_at(typingctx, address, rows, columns, dtype):
    """Array (rows, columns), C-contiguous, of `dtype` at an address."""
    array_type = types.Array(dtype.instance_type, 2, "C")

    def codegen(context, builder, signature, args):
        return _make_array(context, builder, array_type, args[0], args[1:3])

    return array_type(types.int64, types.int64, types.int64, dtype), codegen


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
