"""The parts of `benchmarks/peers.py`: who competes, in what, and how it is told."""
