"""All settings of a process that a numeric library could leave changed."""

import ctypes
import gc
import locale
import os
import signal
import sys
import threading
import warnings

import numba
import numpy as np
import threadpoolctl


def settings():
    """Return them by name; of BLAS and OpenMP by the file of a library."""
    tiny = np.float32(1e-40)  # zero, if denormal numbers are flushed
    libm = ctypes.CDLL(None)
    return {
        "numba.get_num_threads": numba.get_num_threads(),
        **{one["filepath"]: one["num_threads"] for one in threadpoolctl.threadpool_info()},
        "denormal numbers": bool(tiny * np.float32(0.5) > 0),
        "rounding": libm.fegetround() if hasattr(libm, "fegetround") else None,
        "numpy.errstate": np.geterr(),
        "numpy.random": repr(np.random.get_state()),  # noqa: NPY002
        "numpy.printoptions": np.get_printoptions(),
        "warnings.filters": list(warnings.filters),
        "signal handlers": [signal.getsignal(one) for one in signal.valid_signals()],
        "environment": dict(os.environ),
        "switch interval": sys.getswitchinterval(),
        "recursion limit": sys.getrecursionlimit(),
        "hooks": (sys.excepthook, threading.excepthook, sys.gettrace(), sys.getprofile()),
        "garbage collection": (gc.isenabled(), gc.get_threshold()),
        "locale": locale.setlocale(locale.LC_ALL),
        "affinity": os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None,
        "folder": os.getcwd(),
    }


def assert_same(before):
    """Compare with settings from before."""
    after = settings()
    changed = [name for name in before if after[name] != before[name]]
    assert not changed, changed
