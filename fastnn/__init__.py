"""Train multilayer perceptrons on CPUs with hand-written loops.

Importing this package imports none of its parts: each public name is loaded when it is first
used, so ``import fastnn`` costs milliseconds and needs neither Numba nor scikit-learn to be
loaded.
"""

import importlib
import importlib.util

__version__ = "0.1.0"

# Public name -> the module that holds it.
_HOMES = {
    "MLPClassifier": "estimators",
    "MLPRegressor": "estimators",
    "Sequential": "network",
    "Perceptron": "perceptron",
    "Affine": "layers",
    "ReLU": "layers",
    "LeakyReLU": "layers",
    "Sigmoid": "layers",
    "Tanh": "layers",
    "Softmax": "layers",
    "Identity": "layers",
    "Step": "layers",
    "Dropout": "layers",
    "BatchNorm": "layers",
    "LayerNorm": "layers",
    "Residual": "layers",
    "Regularization": "regularization",
    "ELU": "layers",
    "SELU": "layers",
    "GELU": "layers",
    "SiLU": "layers",
    "Softplus": "layers",
    "Mish": "layers",
    "HardTanh": "layers",
    "Activation": "layers",
    "SGD": "optimizers",
    "RMSProp": "optimizers",
    "Adam": "optimizers",
    "AdamW": "optimizers",
    "AdaGrad": "optimizers",
    "NAdam": "optimizers",
    "Callback": "callbacks",
    "EarlyStopping": "callbacks",
    "Checkpoint": "checkpoint",
    "ProgressBar": "callbacks",
    "matmul": "linalg",
    "warmup": "environment",
    "show_config": "environment",
    "get_config": "environment",
    "set_num_threads": "runtime.threads",
    "get_num_threads": "runtime.threads",
}


def _has_sklearn():
    try:
        return importlib.util.find_spec("sklearn") is not None
    except ModuleNotFoundError:  # how some import hooks say no
        return False


# `from fastnn import *` must not fail where the extra `sklearn` is not installed.
__all__ = [name for name, home in _HOMES.items() if home != "estimators" or _has_sklearn()]


def __getattr__(name: str):
    """Load a public name on first use (PEP 562)."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'fastnn' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"fastnn.{home}"), name)
    globals()[name] = value  # the next use does not come through here
    return value


def __dir__() -> list[str]:
    """List the public names without loading them."""
    return sorted({*globals(), *__all__})
