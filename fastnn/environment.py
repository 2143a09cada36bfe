"""Information on the installation, and ahead-of-time compilation of the kernels."""

import importlib
import platform
import time
from collections.abc import Sequence
from importlib import metadata, util
from typing import Any

import llvmlite.binding
import numba
import numpy as np
from numpy.typing import DTypeLike

import fastnn
from fastnn.compiling import silent
from fastnn.engine.common_kernels import ReportProgress, compile_in_processes
from fastnn.errors import shown
from fastnn.kernels.tile import TILE_ROWS, TILE_VECTORS, VECTOR_BYTES
from fastnn.layers import Affine, ReLU
from fastnn.linalg import matmul
from fastnn.network import Sequential
from fastnn.runtime import threads
from fastnn.runtime.kernel_cache import cache_folder
from fastnn.training import Trainer
from fastnn.training.data import check_data
from fastnn.validation import check_dtype

_SETTINGS: Any = numba.config  # its values are set when it is loaded
_PACKAGES = ("numpy", "numba", "llvmlite", "safetensors")
_OPTIONAL = ("scikit-learn", "pandas", "pyarrow", "matplotlib", "typer", "rich")


def get_config() -> dict[str, str | int]:
    """Return the versions and settings that the speed of the kernels depends on.

    Returns
    -------
    dict of str to (str or int)
        Versions of the packages, CPU, vector width in bits, tile shape, number of threads,
        threading layer, and the folder of the compiled kernels.

    Examples
    --------
    >>> import fastnn
    >>> fastnn.get_config()["vector_bits"] in (128, 256, 512)
    True
    """
    config: dict[str, str | int] = {
        "fastnn": fastnn.__version__,
        "python": platform.python_version(),
    }
    config.update({name: metadata.version(name) for name in _PACKAGES})
    for name in _OPTIONAL:
        try:
            config[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            config[name] = "not installed"
    lanes = VECTOR_BYTES // np.dtype(np.float32).itemsize
    config.update(
        {
            "cpu": _SETTINGS.CPU_NAME or llvmlite.binding.get_host_cpu_name(),
            "vector_bits": VECTOR_BYTES * 8,
            "tile": f"{TILE_ROWS} x {TILE_VECTORS * lanes} float32",
            "threads": threads.get_num_threads(),
            "threading_layer": _threading_layer(),
            "kernel_cache": cache_folder() or "none: no writable folder",
        }
    )
    return config


def _threading_layer() -> str:
    """Return the name of Numba's threading layer, without starting one if there is none yet."""
    try:
        return numba.threading_layer()
    except ValueError:
        wanted = _SETTINGS.THREADING_LAYER
    if threads.layer_error(start=False):
        return f"{wanted} (cannot be started)"
    if wanted not in ("default", "threadsafe", "forksafe", "safe"):
        return wanted
    if util.find_spec("numba.np.ufunc.omppool") is not None:
        return "omp (not started)"
    return "workqueue (not started)"


def show_config() -> None:
    """Print the entries of `get_config`, one line each.

    Examples
    --------
    >>> import fastnn
    >>> fastnn.show_config()  # doctest: +ELLIPSIS
    fastnn ...
    """
    config = get_config()
    width = max(map(len, config))
    for name, value in config.items():
        print(f"{name:<{width}}  {value}")


def warmup(
    dtypes: str | Sequence[DTypeLike] = ("float32",),
    verbose: bool = False,
    *,
    progress: ReportProgress | None = None,
) -> dict[str, float]:
    """Compile the kernels of training and prediction, so that the first `fit` is fast.

    Several processes compile at once, on as many cores as there are. Compiled kernels are cached on
    disk, from where later processes load them. It is done for common nets: of affine layers and
    ReLU, with Adam, for dense and sparse samples. Other layers are compiled when they are needed.

    Parameters
    ----------
    dtypes : str or sequence of dtype-like, default=("float32",)
        The dtypes, of "float32" and "float64".
    verbose : bool, default=False
        Whether to print the time for each dtype.
    progress : callable, optional
        Called with the number of parts that are compiled, that of all, and the name of the last.

    Returns
    -------
    dict of str to float
        For each dtype, the seconds until its kernels were ready. Where processes compile, the
        dtypes share the work, and the first one gets the time of what they have in common.

    Raises
    ------
    ValueError
        If a dtype is neither of the two.

    Examples
    --------
    >>> import fastnn
    >>> list(fastnn.warmup())
    ['float32']
    """
    try:
        given = [dtypes] if isinstance(dtypes, str) else list(dtypes)
    except TypeError:
        raise ValueError(f"dtypes must be a sequence, got {shown(dtypes)}") from None
    if progress is not None and not callable(progress):
        raise ValueError(f"progress must be a function, got {shown(progress)}")
    names = list(dict.fromkeys(check_dtype(name, "dtypes").name for name in given))
    seconds = {}
    began = time.perf_counter()
    with silent():
        if names and cache_folder() is not None:
            compile_in_processes(names, progress or (lambda done, total, part: None))
        for name in names:
            _use_every_kernel(np.dtype(name))
            ended = time.perf_counter()
            seconds[name], began = ended - began, ended
            if verbose:
                print(f"{name}: {seconds[name]:.2f} s")
    return seconds


def _use_every_kernel(dtype: np.dtype) -> None:
    """Train small nets and predict, for dense and sparse samples, on one thread and on two."""
    X, y = np.eye(2, dtype=dtype), np.array([0, 1])
    samples = [X]
    if util.find_spec("scipy") is not None:
        samples.append(importlib.import_module("scipy.sparse").csr_matrix(X))
    net = Sequential([Affine(2, 3), ReLU(), Affine(3, 2)], seed=0, dtype=dtype.name)
    for x in samples:
        for loss, target in (("softmax_cross_entropy", y), ("mse", X)):
            for n_threads in {1, min(2, threads.get_num_threads())}:
                trainer = Trainer(net, loss, "adam", 2, n_threads=n_threads)
                trainer.use_all_threads = True
                trainer.use(check_data(net, net.check_samples(x), target, trainer.loss))
                trainer.run_epoch(np.arange(2))
        net.predict(x)
    net.freeze().predict(X)
    net.predict(np.zeros((TILE_ROWS, 2), dtype))
    matmul(X, X, n_threads=1)
