"""The record by which a team is told all that it needs to train."""

import numpy as np
from numba import from_dtype

SIZES = 16
"""Numbers of float64 on cache lines of their own."""

_FLOATS = ("alpha", "loss_scale", "gradient_scale", "clip_norm")

_NAMES = [
    # Addresses. The plan (L, N_COLUMNS) and its numbers (L, N_NUMBERS) say what to do; the
    # tasks (T, 4) are the weight phase in pieces: an operation, and the first row, rows and
    # first column of a block; cost_before (T + 1,) is the work in all tasks before each.
    "plan", "numbers", "tasks", "cost_before",
    # Packed parameters (P,), two states of the update rule (P,), panels of w.T; where the
    # norm of the gradient is limited, the gradient (P,), and by task (T,) float64 the sums
    # of its squares.
    "params", "state_1", "state_2", "transposed", "gradient", "squares",
    # Activations and gradients of a batch, laid out by the plan; a block for each member.
    "acts", "deltas", "scratch",
    # Samples x (N, I), or their nonzero entries with indices and indptr
    # (`fastnn.kernels.sparse`); those of a batch, sorted by column.
    "x", "indices", "indptr", "column_end", "entry_row", "entry_value",
    # Labels (N,) int64 or targets (N, O), weights of samples (N,) float64 or nothing; the
    # order of the samples (M,) int64; for each batch, float64, the sum of its weights and
    # the learning rate.
    "labels", "targets", "sample_weight", "order", "batch_weight", "rates",
    # By position in the batch (batch_size,) float64: the loss, and its sum over all
    # batches; by cell of columns of a task, also over all batches: the penalty on its weights.
    "batch_loss", "row_loss", "penalty", "hyperparameters",
    # By member, SIZES apart: the factors of an update (`fastnn.kernels.updates`).
    "sizes",
    # Numbers of the loss, float64 (`fastnn.losses.Loss.parameters`).
    "loss_parameters",
    # Numbers; n_targets are the columns of targets, 0 where there are labels.
    "n_operations", "n_tasks", "n_units", "n_samples", "n_inputs", "n_outputs", "n_targets", "n_order",
    "batch_size", "first_step", "last_step", "updates_before", "is_weighted",
    "is_constrained", "scratch_size",
    # The team adds its updates to updates_before, and writes to stopped_at the step whose loss
    # was not finite, where it stopped, or -1.
    "stopped_at",
    # The rule, and addresses of the kernels of the loss and of the rule.
    "rule", "loss", "update",
    *_FLOATS,
]  # fmt: skip

TRAINING_JOB = np.dtype([(n, np.float64 if n in _FLOATS else np.int64) for n in _NAMES])
"""What a team needs to run steps [first_step, last_step) of an epoch."""
TRAINING_RECORD = from_dtype(TRAINING_JOB)
