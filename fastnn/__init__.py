"""Train multilayer perceptrons on CPUs with hand-written loops.

``import fastnn`` loads none of the modules of the package: each public name is loaded when it is
first used. So the import takes milliseconds and loads neither Numba nor scikit-learn.

Examples
--------
>>> import fastnn
>>> net = fastnn.Sequential([fastnn.Affine(2, 3), fastnn.ReLU(), fastnn.Affine(3, 1)], seed=0)
>>> history = net.fit([[0, 1], [1, 0]], [1.0, 2.0], loss=fastnn.losses.Huber(), epochs=2)
>>> net.predict([[0, 1]]).shape
(1, 1)
"""

import importlib
import importlib.util
from typing import TYPE_CHECKING

__version__ = "0.1.0"

# Public name -> the module that defines it.
_HOMES = {
    "MLPClassifier": "estimators",
    "MLPRegressor": "estimators",
    "Sequential": "network",
    "Perceptron": "perceptron",
    "TableModel": "table_model",
    "load": "loading",
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
    "ModelFileError": "errors",
    "DataError": "errors",
    "MissingExtraError": "errors",
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

# Modules that `import fastnn` makes available as attributes.
_MODULES = (
    "callbacks",
    "datasets",
    "initializers",
    "inspection",
    "losses",
    "optimizers",
    "schedules",
)


def _has_sklearn() -> bool:
    """Return whether scikit-learn is installed, without loading it."""
    try:
        return importlib.util.find_spec("sklearn") is not None
    except ModuleNotFoundError:  # from import hooks that block a package
        return False


if TYPE_CHECKING:
    # For type checkers and editors, which cannot follow `__getattr__` and would give every name
    # the type `Any`. tests/test_floors.py compares these imports with `_HOMES` and `_MODULES`.
    from fastnn import callbacks as callbacks
    from fastnn import datasets as datasets
    from fastnn import initializers as initializers
    from fastnn import inspection as inspection
    from fastnn import losses as losses
    from fastnn import optimizers as optimizers
    from fastnn import schedules as schedules
    from fastnn.callbacks import Callback as Callback
    from fastnn.callbacks import EarlyStopping as EarlyStopping
    from fastnn.callbacks import ProgressBar as ProgressBar
    from fastnn.checkpoint import Checkpoint as Checkpoint
    from fastnn.environment import get_config as get_config
    from fastnn.environment import show_config as show_config
    from fastnn.environment import warmup as warmup
    from fastnn.errors import DataError as DataError
    from fastnn.errors import MissingExtraError as MissingExtraError
    from fastnn.errors import ModelFileError as ModelFileError
    from fastnn.estimators import MLPClassifier as MLPClassifier
    from fastnn.estimators import MLPRegressor as MLPRegressor
    from fastnn.layers import ELU as ELU
    from fastnn.layers import GELU as GELU
    from fastnn.layers import SELU as SELU
    from fastnn.layers import Activation as Activation
    from fastnn.layers import Affine as Affine
    from fastnn.layers import BatchNorm as BatchNorm
    from fastnn.layers import Dropout as Dropout
    from fastnn.layers import HardTanh as HardTanh
    from fastnn.layers import Identity as Identity
    from fastnn.layers import LayerNorm as LayerNorm
    from fastnn.layers import LeakyReLU as LeakyReLU
    from fastnn.layers import Mish as Mish
    from fastnn.layers import ReLU as ReLU
    from fastnn.layers import Residual as Residual
    from fastnn.layers import Sigmoid as Sigmoid
    from fastnn.layers import SiLU as SiLU
    from fastnn.layers import Softmax as Softmax
    from fastnn.layers import Softplus as Softplus
    from fastnn.layers import Step as Step
    from fastnn.layers import Tanh as Tanh
    from fastnn.linalg import matmul as matmul
    from fastnn.loading import load as load
    from fastnn.network import Sequential as Sequential
    from fastnn.optimizers import SGD as SGD
    from fastnn.optimizers import AdaGrad as AdaGrad
    from fastnn.optimizers import Adam as Adam
    from fastnn.optimizers import AdamW as AdamW
    from fastnn.optimizers import NAdam as NAdam
    from fastnn.optimizers import RMSProp as RMSProp
    from fastnn.perceptron import Perceptron as Perceptron
    from fastnn.regularization import Regularization as Regularization
    from fastnn.runtime.threads import get_num_threads as get_num_threads
    from fastnn.runtime.threads import set_num_threads as set_num_threads
    from fastnn.table_model import TableModel as TableModel
else:
    # Without the estimators where scikit-learn is missing: `from fastnn import *` must not fail.
    __all__ = [name for name, home in _HOMES.items() if home != "estimators" or _has_sklearn()]

    def _load(module: str) -> object:
        """Import a module of the package, and let no error of it look like a missing name."""
        try:
            return importlib.import_module(f"fastnn.{module}")
        except AttributeError as error:
            # `from fastnn import X` would say "cannot import name", `hasattr` would be false.
            raise ImportError(f"fastnn.{module} cannot be loaded: {error}") from error

    def __getattr__(name: str) -> object:
        """Load a public name or a module on first use (PEP 562)."""
        if name in _HOMES:
            value = getattr(_load(_HOMES[name]), name)
        elif name in _MODULES:
            value = _load(name)
        else:
            raise AttributeError(f"module 'fastnn' has no attribute {name!r}")
        globals()[name] = value  # later uses do not call this function
        return value

    def __dir__() -> list[str]:
        """Return the public names and modules without loading them."""
        return sorted({*globals(), *__all__, *_MODULES})
