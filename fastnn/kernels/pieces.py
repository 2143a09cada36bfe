"""Pieces: where the parameters and the gradient of a task lie."""

from typing import NamedTuple

import numpy as np

from fastnn.kernels.operation import weights_of
from fastnn.kernels.panels import panel_width, place
from fastnn.kernels.tile import cell_of
from fastnn.runtime.jit import inner


class Piece(NamedTuple):
    """Where the parameters of a task lie: `size` of them from `at` on, in rows of `width`."""

    at: int
    size: int
    width: int
    columns: int  # that are no padding


@inner
def piece_of(block, task, params):
    """Return the piece of a block of parameters that a task updates."""
    width = panel_width(block.n_columns, task.j, params.itemsize)
    at = place(weights_of(block, params), 0, task.j) + task.i * width
    return Piece(at, task.n_i * width, width, min(width, block.n_columns - task.j))


@inner
def gradient_of(job, block, task, piece, work, like):
    """Return the address where the gradient of a task is: left by the backward pass, or scratch."""
    if block.gradient_at >= 0:
        return work.deltas + (block.gradient_at + task.j) * like.itemsize
    if job.clip_norm < np.inf:
        return work.gradient + piece.at * like.itemsize
    return work.scratch


@inner
def end_of_cells(task, piece, like):
    """Return the end of the cells that belong to a task."""
    return task.cell + (piece.columns + cell_of(like) - 1) // cell_of(like)
