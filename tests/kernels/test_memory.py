"""Arrays at addresses, and the records of jobs."""

import functools
import weakref

import numpy as np
import pytest
from numba import from_dtype

from fastnn.kernels.memory import (
    CACHE_LINE,
    UNBOUNDED,
    Job,
    address_of,
    aligned_zeros,
    matrix_at,
    vector_at,
)
from fastnn.runtime.jit import kernel

JOB = np.dtype(
    {"names": ["a", "n", "rate"], "formats": [np.int64, np.int64, np.float64]}, align=True
)
_RECORD = from_dtype(JOB)
DTYPES = ["float32", "float64", "int64"]

with_dtypes = pytest.mark.parametrize("dtype", DTYPES)


@functools.cache
def compiled(dtype):
    """Compile kernels that read and write a vector, and a matrix row by row."""
    number = np.dtype(dtype).type

    def reverse(address, n):
        vector = vector_at(address, number)
        for i in range(n // 2):
            vector[i], vector[n - 1 - i] = vector[n - 1 - i], vector[i]
        return vector.size

    def write_places(address, n_rows, n_columns):
        matrix = matrix_at(address, n_rows, n_columns, number)
        for r in range(matrix.shape[0]):
            row = matrix[r]
            for c in range(row.size):
                row[c] = 100 * r + c
        return matrix.size

    return kernel(reverse), kernel(write_places)


@kernel
def take_job(address, k):
    job = vector_at(address, _RECORD)[k]
    return job.a, job.n, job.rate


@kernel
def fill_by_job(address):
    job = vector_at(address, _RECORD)[0]
    a = vector_at(job.a, np.float64)
    part = a[1 : job.n]
    for i in range(part.size):
        part[i] = job.rate


@with_dtypes
def test_a_vector_lies_at_its_address(dtype):
    for n in (0, 1, 2, 7):
        memory = np.arange(20).astype(dtype)
        before = memory.copy()
        size = compiled(dtype)[0](address_of(memory[5:]), n)
        assert size == UNBOUNDED
        before[5 : 5 + n] = before[5 : 5 + n][::-1]
        np.testing.assert_array_equal(memory, before)


@with_dtypes
def test_the_rows_of_a_matrix_follow_one_another(dtype):
    for n_rows, n_columns in [(0, 3), (3, 0), (1, 1), (1, 5), (5, 1), (3, 7)]:
        memory = np.full(40, -1).astype(dtype)
        size = compiled(dtype)[1](address_of(memory[2:]), n_rows, n_columns)
        assert size == n_rows * n_columns
        places = 100 * np.arange(n_rows)[:, None] + np.arange(n_columns)
        np.testing.assert_array_equal(memory[2 : 2 + size], places.ravel())
        np.testing.assert_array_equal(np.delete(memory, range(2, 2 + size)), -1)


def test_a_job_has_the_addresses_of_arrays_and_the_values_of_numbers():
    a = np.zeros(9)
    job = Job(JOB, a=a[3:], n=4, rate=0.1)
    assert take_job(job.address, 0) == (a.ctypes.data + 3 * 8, 4, 0.1)
    fill_by_job(job.address)
    np.testing.assert_array_equal(a, [0, 0, 0, 0, 0.1, 0.1, 0.1, 0, 0])
    job["a"], job["rate"] = a, 0.5
    assert take_job(job.address, 0) == (a.ctypes.data, 4, 0.5)


def test_a_job_keeps_the_arrays_that_it_was_made_with():
    a = np.zeros(9)
    alive = weakref.ref(a)
    job = Job(JOB, a=a, n=4, rate=0.1)
    del a
    assert alive() is not None
    assert job["a"] == alive().ctypes.data
    del job
    assert alive() is None


def test_a_job_needs_all_of_its_fields_and_no_others():
    with pytest.raises(TypeError, match=r"fields of its record, not so .'n'."):
        Job(JOB, a=1, rate=0.5)
    with pytest.raises(TypeError, match=r"fields of its record, not so .'speed'."):
        Job(JOB, a=1, n=2, rate=0.5, speed=3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_aligned_memory_has_cache_lines_of_its_own(dtype):
    for n in (0, 1, 15, 16, 17, 1000):
        memory = aligned_zeros(n, dtype)
        assert memory.shape == (n,)
        assert memory.dtype == dtype
        assert (memory == 0).all()
        if n:
            whole = memory
            while isinstance(whole.base, np.ndarray):
                whole = whole.base
            before = address_of(memory) - address_of(whole)
            assert address_of(memory) % CACHE_LINE == 0
            assert before + -(-memory.nbytes // CACHE_LINE) * CACHE_LINE <= whole.nbytes
