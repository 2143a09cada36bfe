"""What batch normalisation, dropout and residual blocks cost: training steps with and without them.

    python benchmarks/layer_costs.py [--threads 1] [--seconds 20]

Each net is trained with and without, in turns, in one process. The figure is the speed of the one
with all three as a share of that of the plain one: 1.00 would mean that they cost nothing.
"""

import argparse
import statistics
import time

import numpy as np

from fastnn import Affine, BatchNorm, Dropout, LayerNorm, ReLU, Residual, Sequential
from fastnn.runtime import threads
from fastnn.training import Trainer

# Inputs, width of the hidden layers, how many of them, outputs, rows of a batch.
NETS = [
    (20, 64, 3, 2, 32),
    (64, 128, 3, 10, 128),
    (784, 128, 3, 10, 128),
    (54, 256, 3, 7, 256),
    (784, 512, 3, 10, 128),
]


def plain(n_inputs, width, depth, n_outputs):
    """Return the layers of an ordinary net."""
    layers = [Affine(n_inputs, width), ReLU()]
    for _ in range(depth - 1):
        layers += [Affine(width, width), ReLU()]
    return [*layers, Affine(width, n_outputs)]


def with_all(n_inputs, width, depth, n_outputs, norm=BatchNorm):
    """Return the same net with normalisation and dropout in each layer, and a way around each."""
    layers = [Affine(n_inputs, width), norm(width), ReLU(), Dropout(0.2)]
    for _ in range(depth - 1):
        layers.append(Residual([Affine(width, width), norm(width), ReLU(), Dropout(0.2)]))
    return [*layers, Affine(width, n_outputs)]


def with_layer_norm(*sizes):
    """Return the net with layer normalisation."""
    return with_all(*sizes, norm=LayerNorm)


def make_trainer(make, net, n_threads):
    """Return a trainer with data for some steps."""
    *sizes, batch = net
    rng = np.random.default_rng(0)
    x = rng.normal(size=(16 * batch, sizes[0])).astype("float32")
    trainer = Trainer(
        Sequential(make(*sizes), seed=0),
        "softmax_cross_entropy",
        "adam",
        batch,
        n_threads=n_threads,
    )
    trainer.use_all_threads = True
    trainer.set_data(x, rng.integers(0, sizes[-1], len(x)))
    trainer.run_epoch(np.arange(len(x)))
    return trainer


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=threads.get_num_threads())
    parser.add_argument("--seconds", type=float, default=20, help="for each net")
    options = parser.parse_args()
    makers = {"plain": plain, "batch norm": with_all, "layer norm": with_layer_norm}
    print(f"threads: {options.threads}; microseconds of a step, and the share of the plain speed")
    print("| net | plain | with batch norm, dropout, residual | share | with layer norm | share |")
    print("|---|---|---|---|---|---|")
    for net in NETS:
        trainers = [make_trainer(make, net, options.threads) for make in makers.values()]
        order = np.arange(trainers[0].n_samples)
        times = [[] for _ in trainers]
        end = time.perf_counter() + options.seconds
        while time.perf_counter() < end:
            for trainer, seconds in zip(trainers, times, strict=True):
                began = time.perf_counter()
                trainer.run_epoch(order)
                seconds.append((time.perf_counter() - began) / 16 * 1e6)
        base, *others = map(statistics.median, times)
        n_inputs, width, depth, n_outputs, batch = net
        name = "-".join(map(str, [n_inputs, *[width] * depth, n_outputs])) + f" @ {batch}"
        cells = [f"{other:.1f} | {base / other:.2f}" for other in others]
        print(f"| {name} | {base:.1f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
