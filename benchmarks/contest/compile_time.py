"""Print the seconds that fastnn's first step of all takes, with nothing compiled yet."""

import os
import tempfile
import time


def main():
    """Train one step, with a folder for compiled kernels that is new."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NUMBA_CACHE_DIR"] = folder
        import numpy as np

        from fastnn import Affine, ReLU, Sequential

        net = Sequential([Affine(4, 8), ReLU(), Affine(8, 3)], seed=0)
        X, y = np.ones((8, 4), np.float32), np.arange(8) % 3
        began = time.perf_counter()
        net.fit(X, y, epochs=1, batch_size=8)
        print(f"{time.perf_counter() - began:.2f}")


if __name__ == "__main__":
    main()
