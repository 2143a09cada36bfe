"""From how much work on do two threads train faster than one?

Trains nets of growing width with one and with two threads, interleaved, and prints the time of a
step and their ratio. `fastnn.runtime.threads` has the threshold, where the ratio crosses 1.
"""

import statistics
import time

import numpy as np

from fastnn import Affine, ReLU, Sequential
from fastnn.training import Trainer

WIDTHS = [4, 8, 12, 16, 24, 32, 48, 64, 96, 128]
BATCH, STEPS, REPETITIONS = 32, 400, 9


def trainer(width, n_threads):
    """A trainer with its data set, on exactly n_threads."""
    net = Sequential([Affine(width, width), ReLU(), Affine(width, 10)], seed=0)
    rng = np.random.default_rng(0)
    result = Trainer(net, "softmax_cross_entropy", "adam", BATCH, n_threads=n_threads)
    result.use_all_threads = True
    result.set_data(rng.normal(size=(BATCH * STEPS, width)), rng.integers(0, 10, BATCH * STEPS))
    return result


def main():
    """Print a table."""
    order = np.arange(BATCH * STEPS)
    print("width   MFLOP/step   1 thread   2 threads   gain")
    for width in WIDTHS:
        pair = [trainer(width, n) for n in (1, 2)]
        times = [[], []]
        for _ in range(REPETITIONS):
            for one, spent in zip(pair, times, strict=True):
                began = time.perf_counter()
                one.run_epoch(order)
                spent.append((time.perf_counter() - began) / STEPS * 1e6)
        alone, together = (statistics.median(spent) for spent in times)
        flops = 2 * BATCH * (2 * width * width + 3 * width * 10)
        print(
            f"{width:5}   {flops / 1e6:10.3f}   {alone:5.1f} us   {together:6.1f} us   "
            f"{alone / together:.2f}"
        )


if __name__ == "__main__":
    main()
