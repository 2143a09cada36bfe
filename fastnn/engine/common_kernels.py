"""The kernels of common nets, compiled by several processes at once (`fastnn.warmup`).

Numba compiles in one thread of a process. What one process has compiled, the others find on disk.
"""

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from fastnn.kernels import affine, losses, matmul, prediction, sparse, training, updates
from fastnn.kernels.products import product_kernel
from fastnn.runtime import threads

ReportProgress: TypeAlias = Callable[[int, int, str], object]
"""A function of the number of parts that are compiled, of all parts, and the name of the last."""

# In the order in which they are handed out: those that take long come first.
_PARTS: dict[str, Callable[[np.dtype], object]] = {
    "training": training.training_member,
    "matrix products": matmul.matmul_member,
    "products of layers": product_kernel,
    "losses": lambda dtype: [
        losses.loss_kernel(name, dtype) for name in ("softmax_cross_entropy", "squared_error")
    ],
    "sparse samples": lambda dtype: [
        kernel(dtype)
        for kernel in (
            affine.sparse_forward_kernel,
            affine.sparse_weight_gradient_kernel,
            sparse.sort_kernel,
        )
    ],
    "gradients of weights": affine.weight_gradient_kernel,
    "predictions": prediction.prediction_member,
    "predictions of few rows": lambda dtype: [
        affine.row_forward_kernel(dtype, packed) for packed in (False, True)
    ],
    "layers": lambda dtype: [
        kernel(dtype)
        for kernel in (
            affine.column_sums_kernel,
            affine.forward_kernel,
            affine.backward_kernel,
            affine.in_place_forward_kernel,
        )
    ],
    "updates": lambda dtype: [
        updates.update_kernel(updates.RULES["adam"], dtype),
        updates.factors_kernel(updates.RULES["adam"]),
    ],
}

_SCRIPT = "from fastnn.engine.common_kernels import work; work()"


def compile_in_processes(dtypes: Sequence[str], progress: ReportProgress) -> None:
    """Compile the kernels of common nets for some dtypes, in as many processes as there are cores.

    Where processes cannot be started, or fail, nothing is compiled: the kernels are compiled when
    they are needed.

    Parameters
    ----------
    dtypes : sequence of str
    progress : callable
        Told of each part.
    """
    tasks = [(name, dtype) for name in _PARTS for dtype in dtypes]
    waiting: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
    for task in tasks:
        waiting.put(task)
    done: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    n_processes = min(threads.get_num_threads(), len(tasks))
    helpers = [
        threading.Thread(target=_supply, args=(waiting, done), daemon=True)
        for _ in range(n_processes)
    ]
    for helper in helpers:
        helper.start()
    n_done, running = 0, len(helpers)
    progress(0, len(tasks), "starting")
    while running:
        part = done.get()
        if part is None:
            running -= 1
        else:
            n_done += 1
            progress(n_done, len(tasks), part)


def _supply(
    waiting: "queue.SimpleQueue[tuple[str, str]]", done: "queue.SimpleQueue[str | None]"
) -> None:
    """Start a process, and give it one part after the other, until there is none or it fails."""
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(path for path in sys.path if path))
    try:
        with subprocess.Popen(
            [sys.executable, "-c", _SCRIPT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        ) as process:
            pipes: Any = process
            while True:
                try:
                    name, dtype = waiting.get_nowait()
                except queue.Empty:
                    break
                print(name, dtype, sep="\t", file=pipes.stdin, flush=True)
                if not pipes.stdout.readline():
                    break
                done.put(f"{name}, {dtype}")
            pipes.stdin.close()
    except OSError:
        pass
    finally:
        done.put(None)


def work() -> None:
    """Compile parts that standard input names; answer each with a line."""
    for line in sys.stdin:
        name, dtype = line.rstrip("\n").split("\t")
        _PARTS[name](np.dtype(dtype))
        print("done", flush=True)
