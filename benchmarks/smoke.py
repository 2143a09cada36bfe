"""Run each benchmark once, to see that none is broken. Measures nothing."""

import itertools
import subprocess
import sys
from pathlib import Path

PEERS = "--quick --only steps --cells 8-32-32-2@32 --rounds 1 --rivals numpy,scikit-learn"


def run_peers():
    """Compare one net with those libraries that the tests need anyway."""
    script = Path(__file__).with_name("peers.py")
    told = subprocess.run(
        [sys.executable, str(script), *PEERS.split()], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    rows = [line for line in told.splitlines() if line.startswith("| 8-32-32-2@32 ")]
    if not rows or not any(sign.isdigit() for sign in rows[0].partition("@32 ")[2]):
        raise SystemExit(f"peers.py printed no table:\n{told}")
    print("peers.py ran")


def main():
    """Run every method `time_*` for every parameter, and a small contest."""
    # Not above: asv imports this file too, from a place where it would not find the other.
    import bench_training

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
    run_peers()


if __name__ == "__main__":
    main()
