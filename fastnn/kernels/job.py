"""The record by which a team is told all that it needs to train."""

import numpy as np
from numba import from_dtype

from fastnn.kernels.memory import vector_at
from fastnn.runtime.jit import inner

_INTEGERS = [
    # Addresses. What all members work on (`fastnn.kernels.operation.WORK`), and room for a copy of
    # each. The tasks are the weight phase in pieces; cost_before (T + 1,) is the work in all tasks
    # before each. The operations in segments (S + 1,): each but the first begins with one that
    # needs the whole batch.
    "work", "works", "tasks", "cost_before", "segments",
    # Labels (N,) int64 or targets (N, O), weights of samples (N,) float64 or nothing; for each
    # batch, float64, the sum of its weights and the learning rate.
    "labels", "targets", "sample_weight", "batch_weight", "rates",
    # By position in the batch (batch_size,) float64: the loss, and its sum over all batches; by
    # cell of columns, float64: the penalty on the weights, over all batches, and where the norm of
    # the gradient is limited the sum of its squares.
    "batch_loss", "row_loss", "penalty", "squares",
    # Numbers of the loss and of the update rule, float64; its factors, by member FACTORS_APART.
    "loss_parameters", "hyperparameters", "factors",
    # Kernels: of the loss, of the rule and of its factors, for sparse samples of their sorting, and
    # for penalties and limits of the gradient, or 0.
    "loss_kernel", "update_kernel", "factors_kernel", "sort_kernel", "limit_kernel", "norm_kernel",
    # Numbers; n_targets are the columns of targets, 0 where there are labels.
    "n_operations", "n_blocks", "n_tasks", "n_cells", "n_segments", "n_samples", "n_targets",
    "n_order", "batch_size", "scratch_bytes",
    # Yes or no: whether samples have weights, weights have limits, and the rule moves parameters.
    "is_weighted", "is_constrained", "moves",
    # Which steps of the epoch. The team adds its updates to updates_before, and writes to
    # stopped_at the step whose loss was not finite, where it stopped, or -1.
    "first_step", "last_step", "updates_before", "stopped_at",
]  # fmt: skip
_FLOATS = ["alpha", "loss_scale", "gradient_scale", "clip_value", "clip_norm", "rule_memory"]

TRAINING_JOB = np.dtype([*((n, np.int64) for n in _INTEGERS), *((n, np.float64) for n in _FLOATS)])
"""What a team needs to run steps [first_step, last_step) of an epoch."""
_RECORD = from_dtype(TRAINING_JOB)

FACTORS_APART = 16
"""Numbers of float64 on cache lines of their own."""


@inner
def job_at(address):
    """Return the job at an address."""
    return vector_at(address, _RECORD)[0]
