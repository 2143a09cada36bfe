"""What numbers too small for the full precision cost: steps and predictions with weights of 1e-40.

    python benchmarks/denormals.py [--threads 1] [--seconds 4]

A float smaller than 1.2e-38 (float32) or 2.2e-308 (float64) is denormal. Some CPUs compute with
such numbers in microcode, up to a hundred times more slowly. Each net is run with ordinary numbers
and with denormal ones of the same kind, in turns, in one process. The figure is the median of the
ratios: 1.00 would mean that they cost nothing.
"""

import argparse
import statistics
import time

import numpy as np

from fastnn import (
    GELU,
    SGD,
    Adam,
    Affine,
    BatchNorm,
    LayerNorm,
    ReLU,
    RMSProp,
    Sequential,
    Sigmoid,
    Tanh,
)
from fastnn.runtime import threads
from fastnn.training import Trainer

DENORMAL = {"float32": 1e-40, "float64": 1e-310}
BATCH, STEPS = 64, 8


def chain(function, norm=None):
    """Return the layers of a net of three hidden layers."""
    layers = []
    for n_inputs in (64, 128, 128):
        layers += [Affine(n_inputs, 128), *([norm(128)] if norm else []), function()]
    return [*layers, Affine(128, 10)]


NETS = {
    "relu": lambda: chain(ReLU),
    "tanh": lambda: chain(Tanh),
    "sigmoid": lambda: chain(Sigmoid),
    "gelu": lambda: chain(GELU),
    "relu, batch norm": lambda: chain(ReLU, BatchNorm),
    "relu, layer norm": lambda: chain(ReLU, LayerNorm),
}
OPTIMIZERS = {"sgd": SGD(1e-12), "adam": Adam(1e-12), "rmsprop": RMSProp(1e-12)}


def make_net(make, dtype, factor):
    """Return a net whose weights and biases are ordinary ones times a factor."""
    net = Sequential(make(), seed=0, dtype=dtype)
    for layer in net.layers:
        if isinstance(layer, Affine):
            for values in layer.params.values():
                values += np.random.default_rng(0).normal(0, 0.1, values.shape)
                values *= factor
    return net


def make_data(dtype, factor):
    """Return samples and regression targets, times a factor."""
    rng = np.random.default_rng(0)
    x = factor * rng.normal(size=(STEPS * BATCH, 64))
    return x.astype(dtype), (factor * rng.normal(size=(STEPS * BATCH, 10))).astype(dtype)


def step_of(make, optimizer, dtype, weights, data, n_threads):
    """Return a function that trains for an epoch from the same parameters each time."""
    net = make_net(make, dtype, weights)
    trainer = Trainer(net, "mse", optimizer, BATCH, n_threads=n_threads)
    trainer.use_all_threads = True
    trainer.set_data(*make_data(dtype, data))
    order = np.arange(trainer.n_samples)

    def run():
        trainer.pull()
        trainer.run_epoch(order)

    return run


def prediction_of(make, dtype, weights, data, n_threads):
    """Return a function that predicts."""
    net = make_net(make, dtype, weights).freeze()
    x = make_data(dtype, data)[0]
    return lambda: net.predict(x, n_threads=n_threads)


def compare(runs, seconds):
    """Return microseconds of the first function, and the medians of the others' ratios to it.

    A ratio is that of the best of three calls each: a call takes about as long as the time that
    another process may take a core for.
    """
    best = [[] for _ in runs]
    for run in runs:
        run()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(best[0]) < 5:
        taken = [[] for _ in runs]
        for _ in range(3):
            for run, times in zip(runs, taken, strict=True):
                began = time.perf_counter()
                run()
                times.append(time.perf_counter() - began)
        for times, least in zip(taken, best, strict=True):
            least.append(min(times))
    ratios = [[t / b for t, b in zip(each, best[0], strict=True)] for each in best[1:]]
    return statistics.median(best[0]) * 1e6, [statistics.median(each) for each in ratios]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=threads.get_num_threads())
    parser.add_argument("--seconds", type=float, default=4, help="for each row")
    options = parser.parse_args()
    print(f"threads: {options.threads}; microseconds with ordinary numbers, and times as long with")
    print("| what | dtype | ordinary | denormal weights | denormal samples | both |")
    print("|---|---|---|---|---|---|")
    worst = 0.0
    for dtype, small in DENORMAL.items():
        kinds = ((1.0, 1.0), (small, 1.0), (1.0, small), (small, small))
        rows = {}
        for name, make in NETS.items():
            for title, optimizer in OPTIMIZERS.items():
                if title == "sgd" or name == "relu":
                    rows[f"step, {name}, {title}"] = [
                        step_of(make, optimizer, dtype, *kind, options.threads) for kind in kinds
                    ]
            rows[f"prediction, {name}"] = [
                prediction_of(make, dtype, *kind, options.threads) for kind in kinds
            ]
        for title, runs in rows.items():
            base, ratios = compare(runs, options.seconds)
            worst = max(worst, *ratios)
            cells = " | ".join(f"{ratio:.2f}" for ratio in ratios)
            print(f"| {title} | {dtype} | {base:.0f} | {cells} |", flush=True)
    print(f"worst: {worst:.2f}")


if __name__ == "__main__":
    main()
