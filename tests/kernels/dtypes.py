"""Tests for both dtypes of kernels."""

import numpy as np
import pytest


def each_dtype(group):
    """Return the mark of tests that run for both dtypes.

    Those of one dtype and group run in one process, so that no kernel is compiled in two at once.
    """
    return pytest.mark.parametrize(
        "dtype",
        [
            pytest.param(np.dtype(name), id=name, marks=pytest.mark.xdist_group(f"{group}-{name}"))
            for name in ("float32", "float64")
        ],
    )
