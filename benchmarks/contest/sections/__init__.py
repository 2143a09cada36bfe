"""What is measured. Each function takes a `Context` and returns a list of `Section`s."""

import importlib

_HOMES = {
    "steps": "steps:run",
    "grid": "steps:run_grid",
    "inference": "inference:run",
    "matmul": "products:run",
    "accuracy": "accuracy:run",
    "widths": "widths:run",
}


def load(name):
    """Return the function that runs a section."""
    module, function = _HOMES[name].split(":")
    return getattr(importlib.import_module(f"{__name__}.{module}"), function)
