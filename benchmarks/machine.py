"""What this machine can do: the peak of its fused multiply-adds, measured, and its description.

Prints the peak of one core and of all in both dtypes::

    python benchmarks/machine.py

The peak is that of a loop over independent chains of multiply-adds that never leave the registers
(`fastnn.ladder.roofline`). With ``--json`` all is printed as JSON, as `benchmarks/peers.py` reads
it.
"""

import argparse
import json

from fastnn.ladder import roofline
from fastnn.ladder.roofline import TRIES, cpu_model, peak, peaks

__all__ = ["cpu_model", "describe", "peak", "peaks"]


def describe(tries=TRIES):
    """Return the machine's description and peaks."""
    about = roofline.describe()
    found = {dtype: peaks(dtype, about["cores"], tries) for dtype in ("float32", "float64")}
    return about | {"peak_flops": found}


def main():
    """Print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--tries", type=int, default=TRIES, help="of which the best counts")
    arguments = parser.parse_args()
    found = describe(arguments.tries)
    if arguments.json:
        print(json.dumps(found))
        return
    print(f"{found['cpu']}, {found['cores']} cores, vectors of {found['vector_bits']} bits")
    for dtype, speeds in found["peak_flops"].items():
        print(
            f"{dtype}: {speeds['one'] / 1e9:.1f} GFLOP/s on one core, "
            f"{speeds['all'] / 1e9:.1f} on all"
        )


if __name__ == "__main__":
    main()
