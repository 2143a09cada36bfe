"""Run each benchmark once, to see that none is broken. Measures nothing."""

import importlib
import itertools
import subprocess
import sys
import time
from pathlib import Path

from suite import bench_startup, common

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


def classes():
    """Yield all classes of benchmarks."""
    for path in sorted(Path(__file__).with_name("suite").glob("bench_*.py")):
        module = importlib.import_module(f"suite.{path.stem}")
        for member in list(vars(module).values()):
            if isinstance(member, type) and member.__module__ == module.__name__:
                yield member


def run_class(kind):
    """Run the benchmarks of a class for all parameters; return how many ran."""
    ran = 0
    for parameters in itertools.product(*kind.params):
        benchmark = kind()
        try:
            getattr(benchmark, "setup", lambda *_: None)(*parameters)
        except NotImplementedError as reason:
            print(f"{kind.__name__}{parameters} left out: {reason}")
            continue
        for name in dir(benchmark):
            if name.startswith(("time_", "peakmem_", "track_")):
                getattr(benchmark, name)(*parameters)
                ran += 1
            elif name.startswith("timeraw_"):
                code = getattr(benchmark, name)(*parameters)
                bench_startup.seconds_of(*([code] if isinstance(code, str) else code))
                ran += 1
    return ran


def main():
    """Run the suite and a small contest."""
    common.RATIO_SECONDS, common.MIN_PAIRS = 0, 1
    bench_startup.WarmFirstFitRatio.pairs = 1
    # Compiling takes minutes, so only see that the cache can be emptied.
    bench_startup.seconds_of("pass", bench_startup.EMPTY_CACHE)
    bench_startup.EMPTY_CACHE = ""
    ran = 0
    for kind in classes():
        began = time.perf_counter()
        ran += run_class(kind)
        print(f"{kind.__name__}: {time.perf_counter() - began:.1f} s", flush=True)
    print(f"{ran} benchmarks ran")
    if ran == 0:
        raise SystemExit("no benchmark was found")
    run_peers()


if __name__ == "__main__":
    main()
