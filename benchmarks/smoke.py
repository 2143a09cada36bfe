"""Run each benchmark once, to see that none is broken. Measures nothing."""

import itertools

import bench_training


def main():
    """Run every method `time_*` for every parameter."""
    ran = 0
    for suite in vars(bench_training).values():
        if getattr(suite, "__module__", None) != bench_training.__name__:
            continue  # what it imports
        if not isinstance(suite, type):
            continue
        for parameters in itertools.product(*suite.params):
            benchmark = suite()
            benchmark.setup(*parameters)
            for name in dir(benchmark):
                if name.startswith("time_"):
                    getattr(benchmark, name)(*parameters)
                    ran += 1
    print(f"{ran} benchmarks ran")
    if ran == 0:
        raise SystemExit("no benchmark was found")


if __name__ == "__main__":
    main()
