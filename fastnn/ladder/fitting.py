"""``fastnn bench --fit``: train the same net on the same batches with fastnn and other libraries.

All start with the same weights, take the samples in the same order, and use Adam with the same
hyperparameters. So all must reach the same loss, which is checked before anything is timed. They
are timed in turns; the result is the median over the rounds.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import rich.box
from numpy.typing import ArrayLike, DTypeLike, NDArray
from rich.table import Table

from fastnn.ladder import WrongRungError, roofline
from fastnn.ladder.contestants import CONTESTANTS, EPOCHS, Contestant, Jax, Params
from fastnn.ladder.measure import (
    ReportProgress,
    Results,
    blas_facts,
    count,
    environment,
    limits,
    rest,
)
from fastnn.ladder.reading import environment_lines
from fastnn.ladder.reading import times as times_text

Net: TypeAlias = tuple[tuple[int, ...], int]
"""The sizes of the layers, and the size of a batch."""

NETS: tuple[Net, ...] = (
    ((784, 128, 10), 128),
    ((64, 128, 64, 10), 32),
    ((784, 512, 512, 10), 128),
)
_STEPS = 40
_TOLERANCE = 0.02
"""Relative tolerance of the final loss: rounding errors grow from step to step, but not so far."""


def make_task(
    sizes: Sequence[int], batch_size: int, dtype: DTypeLike, seed: int = 0
) -> tuple[Params, NDArray[Any], NDArray[np.int64]]:
    """Return a net and data: the classes of the samples are given by a random linear map.

    Parameters
    ----------
    sizes : sequence of int
        Sizes of the layers, the inputs first.
    batch_size : int
        Size of a batch; there are 40 batches.
    dtype : {"float32", "float64"}
        Type of weights and samples.
    seed : int, default=0
        Seed of weights and samples.

    Returns
    -------
    weights : list of (ndarray of shape (I, O), ndarray of shape (O,))
        Initial weights and bias of each layer.
    X : ndarray of shape (N, I)
        Samples.
    y : ndarray of int64 of shape (N,)
        Classes.

    Examples
    --------
    >>> from fastnn.ladder.fitting import make_task
    >>> weights, X, y = make_task((4, 8, 3), 5, "float32")
    >>> len(weights), X.shape, y.shape
    (2, (200, 4), (200,))
    """
    rng = np.random.default_rng(seed)
    weights = []
    for n_inputs, n_outputs in itertools.pairwise(sizes):
        bound = np.sqrt(6 / (n_inputs + n_outputs))
        w = rng.uniform(-bound, bound, (n_inputs, n_outputs)).astype(dtype)
        weights.append((w, np.zeros(n_outputs, dtype)))
    X = rng.random((_STEPS * batch_size, sizes[0])).astype(dtype)
    y = ((X - 0.5) @ rng.normal(size=(sizes[0], sizes[-1]))).argmax(axis=1)
    y[: sizes[-1]] = np.arange(sizes[-1])  # every class occurs
    return weights, X, y.astype(np.int64)


def loss_of(
    params: Sequence[tuple[ArrayLike, ArrayLike]], X: NDArray[Any], y: NDArray[Any]
) -> float:
    """Return the mean cross-entropy of a ReLU net, computed in float64.

    Parameters
    ----------
    params : list of (ndarray of shape (I, O), ndarray of shape (O,))
        Weights and bias of each layer.
    X : ndarray of shape (N, I)
        Samples.
    y : ndarray of int of shape (N,)
        Classes.

    Examples
    --------
    >>> from fastnn.ladder.fitting import loss_of, make_task
    >>> 1.0 < loss_of(*make_task((4, 8, 3), 5, "float32")) < 1.3
    True
    """
    out = X.astype(np.float64)
    for k, (w, b) in enumerate(params):
        out = out @ np.asarray(w, np.float64) + np.asarray(b, np.float64)
        if k < len(params) - 1:
            out = np.maximum(out, 0)
    out -= out.max(axis=1, keepdims=True)
    return float((np.log(np.exp(out).sum(axis=1)) - out[np.arange(len(y)), y]).mean())


def check(losses: dict[str, float]) -> None:
    """Raise `WrongRungError` unless all final losses are that of the first contestant."""
    (reference, expected), *others = losses.items()
    for name, loss in others:
        if not abs(loss - expected) <= _TOLERANCE * expected:
            raise WrongRungError(
                f"{name} ends at the loss {loss:.6g}, {reference} at {expected:.6g}: they do not "
                "train the same net"
            )


def compete(
    dtype: str = "float32",
    threads: Sequence[int] = (1,),
    quick: bool = False,
    progress: ReportProgress = lambda done, total, doing: None,
    contestants: Sequence[type[Contestant]] = CONTESTANTS,
    nets: Sequence[Net] | None = None,
) -> Results:
    """Time the training of all nets by all contestants that are installed.

    Parameters
    ----------
    dtype : {"float32", "float64"}, default="float32"
        Type of weights and samples.
    threads : sequence of int, default=(1,)
        Numbers of threads.
    quick : bool, default=False
        Whether to train only the first net, in fewer rounds.
    progress : callable, default=a function that does nothing
        Called with the steps done, all steps, and the current step.
    contestants : sequence of type, default=CONTESTANTS
        Subclasses of `Contestant`; the first one is compared with the others.
    nets : sequence of (sizes, batch_size) or None, default=None
        Nets to train; None takes `NETS`.

    Returns
    -------
    dict
        All results, in the form in which the JSON file stores them.

    Raises
    ------
    WrongRungError
        If a contestant reaches another loss than the first one.
    """
    nets = (NETS[:1] if quick else NETS) if nets is None else nets
    rounds = 3 if quick else 7
    # JAX computes in float32 unless it is configured otherwise for the whole process.
    usable = [
        one for one in contestants if one.version() and not (one is Jax and dtype != "float32")
    ]
    tasks = [(net, n) for n in threads for net in nets]
    total, done, cells = len(tasks) * (rounds + 1), 0, []
    for (sizes, batch_size), n_threads in tasks:
        name = f"{'-'.join(map(str, sizes))}, batches of {batch_size}, {count(n_threads)}"
        weights, X, y = make_task(sizes, batch_size, dtype)
        losses: dict[str, float] = {}
        spent: dict[str, list[float]] = {}
        running: list[Contestant] = []
        for kind in usable:
            progress(done, total, f"{name}: {kind.name}")
            with limits(n_threads):
                one = kind(weights, X, y, batch_size, n_threads)
                one.reset()
                with one.turn():
                    one.train()  # compiles
            losses[one.name] = loss_of(one.params(), X, y)
            running.append(one)
            spent[one.name] = []
        check(losses)
        for r in range(rounds):
            done += 1
            progress(done, total, f"{name}: round {r + 1} of {rounds}")
            for one in running:
                one.reset()
                rest()  # until the threads of the previous library sleep
                with limits(n_threads), one.turn():
                    began = time.perf_counter()
                    one.train()
                    spent[one.name].append(time.perf_counter() - began)
        done += 1
        cells.append(
            {
                "sizes": list(sizes),
                "batch_size": batch_size,
                "threads": n_threads,
                "seconds_per_step": {
                    name: statistics.median(seconds) / (EPOCHS * _STEPS)
                    for name, seconds in spent.items()
                },
                "loss": losses,
            }
        )
    progress(total, total, "done")
    blas = blas_facts()
    results = {
        "machine": roofline.describe() | {"blas": blas, "environment": environment(blas["name"])},
        "versions": {one.name: one.version() for one in usable},
        "missing": [one.name for one in contestants if one not in usable],
        "dtype": dtype,
        "rounds": rounds,
        "cells": cells,
    }
    return results | {"reading": read(results)}


def read(results: Results) -> list[str]:
    """Return lines that compare the first contestant with the others.

    Parameters
    ----------
    results : dict
        Result of `compete`.
    """
    lines = []
    for cell in results["cells"]:
        ours, *others = cell["seconds_per_step"].items()
        parts = [f"{times_text(spent / ours[1])} as fast as {name}" for name, spent in others]
        if parts:
            lines.append(
                f"{'-'.join(map(str, cell['sizes']))}, {count(cell['threads'])}: {ours[0]} is "
                f"{', '.join(parts)}."
            )
    lines += environment_lines(results["machine"]["environment"])
    if results["missing"]:
        lines.append(
            f"Not measured (not installed, or not for this dtype): {', '.join(results['missing'])}."
        )
    if "JAX" in results["versions"]:
        lines.append("JAX ignores the number of threads in the table and uses as many as it likes.")
    return lines


def tables(results: Results) -> list[Table]:
    """Return the table of all results, to be printed in the terminal.

    Parameters
    ----------
    results : dict
        Result of `compete`.
    """
    names = list(results["versions"])
    table = Table(
        box=rich.box.SIMPLE_HEAD,
        pad_edge=False,
        title=f"microseconds of a training step (Adam, {results['dtype']}, medians of "
        f"{results['rounds']} rounds)",
        title_justify="left",
        title_style="bold",
    )
    for head in ("net", "batch", "threads"):
        table.add_column(head, no_wrap=True, justify="left" if head == "net" else "right")
    for name in names:
        table.add_column(f"{name}\n{results['versions'][name]}", justify="right", no_wrap=True)
    for cell in results["cells"]:
        spent = cell["seconds_per_step"]
        table.add_row(
            "-".join(map(str, cell["sizes"])),
            str(cell["batch_size"]),
            str(cell["threads"]),
            *(f"{1e6 * spent[name]:,.0f}" for name in names),
        )
    return [table]
