"""Arrays at addresses: how a job's record names the memory that a kernel works on."""

import functools

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

CACHE_LINE = 64
"""Bytes."""

# Two lines, because a core may fetch them in pairs.
_APART = 2 * CACHE_LINE

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


@intrinsic
def local_memory(typingctx, record):
    """Address of memory for a record, on the stack: until the function returns."""

    def codegen(context, builder, signature, args):
        words = ir.ArrayType(ir.IntType(64), record.instance_type.size // 8)
        memory = cgutils.alloca_once(builder, words)
        return builder.ptrtoint(memory, ir.IntType(64))

    return types.int64(record), codegen


def address_of(array):
    """Return the address of an array's first element."""
    return array.__array_interface__["data"][0]


def aligned_zeros(n, dtype):
    """Return n zeros of a dtype, with no other memory on their cache lines.

    What one thread writes and another one reads must not share a line with anything that is in
    use meanwhile: the line would go to and fro between their cores.
    """
    size = n * np.dtype(dtype).itemsize
    memory = np.zeros(_APART + size + -size % _APART, np.uint8)
    start = -address_of(memory) % _APART
    return memory[start : start + size].view(dtype)


def record(integers, floats=(), more=()):
    """Return the dtype of a record: int64 fields, named with spaces between; float64 ones; others.

    Parameters
    ----------
    integers : str
    floats : sequence of str
    more : sequence of tuple
        Fields as `numpy.dtype` takes them.

    Returns
    -------
    numpy.dtype
    """
    names = [(name, np.int64) for name in integers.split()]
    return np.dtype([*names, *((name, np.float64) for name in floats), *more])


class Job:
    """A record of int64 and float64 fields, by which a kernel is told all that it needs.

    Parameters
    ----------
    record : numpy.dtype
    **values : int, float or ndarray
        All fields of the record. Of an array, it holds the address; the job keeps it alive. An
        array that is assigned later must be kept alive by others.

    Attributes
    ----------
    address : int
        Of the record.
    """

    __slots__ = ("_arrays", "_floats", "_integers", "_places", "address")

    def __init__(self, record, **values):
        self._places = _places(record)
        if values.keys() != self._places.keys():
            wrong = sorted(values.keys() ^ self._places.keys())
            raise TypeError(f"a job has exactly the fields of its record, not so {wrong}")
        self._integers = aligned_zeros(len(values), np.int64)
        self._floats = self._integers.view(np.float64)
        self.address = address_of(self._integers)
        self._arrays = [value for value in values.values() if isinstance(value, np.ndarray)]
        for name, value in values.items():
            self[name] = value

    def __setitem__(self, name, value):
        # Not through a structured array: one assignment to a field takes NumPy 25 microseconds.
        place, is_float = self._places[name]
        if is_float:
            self._floats[place] = value
        else:
            is_array = isinstance(value, np.ndarray)
            self._integers[place] = address_of(value) if is_array else value

    def __getitem__(self, name):
        place, is_float = self._places[name]
        return (self._floats if is_float else self._integers)[place]


@functools.cache
def _places(record):
    """Place of each field of a record in a vector of 8-byte numbers, and whether it is a float."""
    return {
        name: (offset // 8, kind == np.float64) for name, (kind, offset) in record.fields.items()
    }
