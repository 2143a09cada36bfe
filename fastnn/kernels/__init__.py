"""Hand-written Numba kernels: from plain reference loops to register tiles."""
