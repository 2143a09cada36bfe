"""Print which BLAS NumPy runs, and the kernels that it chose for this CPU."""

import numpy  # noqa: F401, loads the library that is asked about

try:
    from threadpoolctl import threadpool_info
except ImportError:
    print("unknown: threadpoolctl is not installed")
else:
    print(
        "; ".join(
            f"{pool['internal_api']} {pool['version']}, kernels for "
            f"{pool.get('architecture', 'unknown')}, {pool['num_threads']} threads"
            for pool in threadpool_info()
            if pool["user_api"] == "blas"
        )
        or "none that threadpoolctl knows"
    )
