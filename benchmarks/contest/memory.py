"""Print how much memory a fit takes at most, over what was there before it. In bytes, as JSON.

Before: the import and the data, which are as large as MNIST's. What a fit takes is the net, the
optimizer's state, the workspace, and the compiled kernels with all that loads them.
"""

import json
import resource
import sys
from pathlib import Path

import numpy as np

from fastnn import Adam, Affine, ReLU, Sequential

_ROWS, _INPUTS, _HIDDEN, _CLASSES = 60_000, 784, 128, 10


def peak():
    """Return the most memory that this process has held."""
    # Not ru_maxrss where there is a choice: on Linux it begins with that of the parent process.
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        pass
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size if sys.platform == "darwin" else size * 1024


def fit(X, y):
    """Train for one epoch."""
    net = Sequential([Affine(_INPUTS, _HIDDEN), ReLU(), Affine(_HIDDEN, _CLASSES)], seed=0)
    net.fit(X, y, optimizer=Adam(1e-3), epochs=1, batch_size=128)


def main():
    """Measure with data that are made without anything beside them."""
    rng = np.random.default_rng(0)
    X = np.empty((_ROWS, _INPUTS), np.float32)
    rng.random(out=X, dtype=np.float32)
    y = rng.integers(0, _CLASSES, _ROWS)
    before = peak()
    fit(X[:128], y[:128])
    loaded = peak()
    fit(X, y)
    print(json.dumps({"before": before, "fit": peak() - before, "kernels": loaded - before}))


if __name__ == "__main__":
    main()
