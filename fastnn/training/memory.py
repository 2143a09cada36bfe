"""The memory of a training: packed parameters, optimizer states, workspace, plan and job."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from fastnn.engine.plan import Holding, Purpose, build
from fastnn.engine.sparse_rows import SparseRows
from fastnn.kernels.job import FACTORS_APART, TRAINING_JOB
from fastnn.kernels.limits import limit_kernel, norm_kernel
from fastnn.kernels.losses import loss_kernel
from fastnn.kernels.memory import Job, aligned_zeros
from fastnn.kernels.operation import WORK
from fastnn.kernels.panels import panel_columns
from fastnn.kernels.sparse import sort_kernel
from fastnn.kernels.team import launch
from fastnn.kernels.training import WORK_APART, training_member
from fastnn.kernels.updates import GRADIENT_ALONE, factors_kernel, update_kernel
from fastnn.kernels.weight_phase import BLOCK_ROWS
from fastnn.losses import Loss
from fastnn.optimizers import Optimizer
from fastnn.training.data import TrainingData

_FIRST_MEMORY = 1.0
"""What update rules find at their first update."""


class TrainingMemory:
    """What a net and its optimizer have in memory while they are trained.

    Parameters
    ----------
    net : Sequential
    optimizer : Optimizer
    held : callable
        Returns the `fastnn.engine.plan.Holding` of a layer's weights.
    n_threads : int
        The most that will be used.

    Attributes
    ----------
    params : ndarray
        All parameters and running statistics, packed.
    plan : Plan or None
        Of the operations, for batches of `rows` rows.
    moves : bool
        Whether the update rule moves parameters.
    epoch : tuple of ndarray
        Order of the samples, weight and learning rate of each batch, of the last epoch.
    """

    def __init__(
        self,
        net: Any,
        optimizer: Optimizer,
        held: Callable[[Any], Holding],
        n_threads: int,
    ) -> None:
        self.net, self.layout, self.dtype = net, net.layout, net.dtype
        self.optimizer, self._held, self._n_threads = optimizer, held, n_threads
        self.moves = optimizer.rule is not GRADIENT_ALONE
        size, n_states = self.layout.n_packed, optimizer.rule.n_states
        self.params = aligned_zeros(size, self.dtype)
        self.transposed = aligned_zeros(self.layout.n_transposed, self.dtype)
        self.states = [aligned_zeros(size if k < n_states else 0, self.dtype) for k in range(2)]
        self._gradient = aligned_zeros(size if optimizer.clip_norm else 0, self.dtype)
        self._before = np.empty_like(self.params if self.moves else self.params[:0])
        self._hyperparameters = optimizer.hyperparameters
        self.rule_memory = _FIRST_MEMORY
        self.plan: Any = None
        self.rows, self.is_sparse = 0, False
        self.job: Any = None
        self._work: Any = None
        self._pushed: np.ndarray | None = None
        self.pull()

    # Parameters and states.

    def pull(self) -> None:
        """Read the net's parameters again, after something else changed them."""
        self.layout.pack(self.net.memory, self.params, self.transposed)

    def push(self) -> None:
        """Write the trained parameters to the net."""
        self.layout.unpack(self.params, self.net.memory)

    def push_to_be_seen(self) -> None:
        """Write the parameters to the net, where callbacks may change them."""
        self.push()
        self._pushed = self.net.memory.copy()

    def pull_if_changed(self) -> None:
        """Read the net's parameters again if they changed since `push_to_be_seen`."""
        if self._pushed is not None and not _same_bits(self._pushed, self.net.memory):
            self.pull()
        self._pushed = None

    def remember(self) -> None:
        """Keep the parameters for `undo`."""
        if self.moves:
            self._before[:] = self.params

    def undo(self) -> None:
        """Put the parameters back to what they were at `remember`; the optimizer begins anew."""
        vector = self.layout.unpacked(self._before)
        self.layout.pack(vector, self.params, self.transposed)
        for state in self.states:
            state[:] = 0
        self.rule_memory = _FIRST_MEMORY

    def state_vectors(self) -> list[np.ndarray]:
        """Return the optimizer's states as vectors that lie as the net's parameters do."""
        return [self.layout.unpacked(state) for state in self.states if len(state)]

    def set_state_vectors(self, vectors: Iterable[np.ndarray]) -> None:
        """Overwrite the optimizer's states."""
        for state, vector in zip(self.states, vectors, strict=False):
            self.layout.pack(vector, state)

    # A data set.

    def prepare(self, x: Any, rows: int) -> bool:
        """Make room for batches of so many rows of x, and compile the kernels of all operations.

        Returns
        -------
        bool
            Whether there is a new plan.
        """
        is_sparse = isinstance(x, SparseRows)
        if is_sparse:  # room for the entries of a batch, by column
            n_entries = x.most_entries(rows)
            self._column_end = aligned_zeros(self.net.n_inputs, np.int64)
            self._entry_row = aligned_zeros(n_entries, np.int32)
            self._entry_value = aligned_zeros(n_entries, self.dtype)
        if self.plan is not None and (rows, is_sparse) == (self.rows, self.is_sparse):
            return False
        purpose = Purpose(training=True, sparse=is_sparse)
        net = self.net
        plan = build(net.layers, net.n_inputs, self.layout, rows, purpose, self._held)
        self.plan, self.rows, self.is_sparse = plan, rows, is_sparse
        self.acts = aligned_zeros(plan.n_acts, self.dtype)
        self._deltas = aligned_zeros(plan.n_deltas, self.dtype)
        self._batch_loss, self.row_loss = (aligned_zeros(rows, np.float64) for _ in range(2))
        self.penalty, self._squares = (aligned_zeros(plan.n_cells, np.float64) for _ in range(2))
        self._factors = aligned_zeros(self._n_threads * FACTORS_APART, np.float64)
        self._works = aligned_zeros(self._n_threads * WORK_APART, np.uint8)
        self._block = BLOCK_ROWS * panel_columns(self.dtype.itemsize)
        self._scratch = aligned_zeros(self._n_threads * self._block, self.dtype)
        return True

    def start(self, data: TrainingData, loss: Loss) -> None:
        """Make the job of all steps on a data set, but for their order and rates."""
        plan, rule = self.plan, self.optimizer.rule
        self._work = Job(WORK, **dict.fromkeys(WORK.names or (), 0) | self._work_values(data))
        loss_scale, gradient_scale = loss.scales(self.net.n_outputs)
        self._loss_parameters = loss.parameters(self.net.n_outputs)  # the job has its address
        has_targets = len(data.targets) > 0
        clip_value, clip_norm = self.optimizer.clip_value, self.optimizer.clip_norm
        values = {
            "work": self._work.address,
            "works": self._works,
            "tasks": plan.tasks,
            "cost_before": plan.cost_before,
            "segments": plan.segments,
            "labels": data.labels,
            "targets": data.targets,
            "sample_weight": data.weights,
            "batch_loss": self._batch_loss,
            "row_loss": self.row_loss,
            "penalty": self.penalty,
            "squares": self._squares,
            "loss_parameters": self._loss_parameters,
            "hyperparameters": self._hyperparameters,
            "factors": self._factors,
            "loss_kernel": loss_kernel(loss.kernel_name(not has_targets), self.dtype),
            "update_kernel": update_kernel(rule, self.dtype),
            "factors_kernel": factors_kernel(rule),
            "sort_kernel": sort_kernel(self.dtype) if self.is_sparse else 0,
            "norm_kernel": norm_kernel(self.dtype) if clip_norm else 0,
            "n_operations": len(plan.operations),
            "n_blocks": len(plan.blocks),
            "n_tasks": len(plan.tasks),
            "n_cells": plan.n_cells,
            "n_segments": len(plan.segments) - 1,
            "n_samples": len(data),
            "n_targets": self.net.n_outputs if has_targets else 0,
            "batch_size": self.rows,
            "scratch_bytes": self._block * self.dtype.itemsize,
            "is_weighted": len(data.weights) > 0,
            "is_constrained": plan.is_constrained,
            "moves": self.moves,
            "loss_scale": loss_scale,
            "gradient_scale": gradient_scale,
            "clip_value": np.inf if clip_value is None else clip_value,
            "clip_norm": clip_norm or np.inf,
        }
        self.job = Job(TRAINING_JOB, **dict.fromkeys(TRAINING_JOB.names or (), 0) | values)

    def _limits_gradient(self, alpha: float) -> bool:
        """Return whether gradients have penalties or limits, of which `alpha` is one."""
        blocks, optimizer = self.plan.blocks, self.optimizer
        clips = optimizer.clip_value is not None or bool(optimizer.clip_norm)
        return bool(clips or alpha or blocks["l1"].any() or blocks["l2"].any())

    def _work_values(self, data: TrainingData) -> dict[str, Any]:
        """Return what all members work on."""
        plan = self.plan
        values = {
            "operations": plan.operations,
            "blocks": plan.blocks,
            "params": self.params,
            "state_1": self.states[0],
            "state_2": self.states[1],
            "transposed": self.transposed,
            "gradient": self._gradient,
            "acts": self.acts,
            "deltas": self._deltas,
            "scratch": self._scratch,
            "x": data.x,
            "n_inputs": self.net.n_inputs,
        }
        if self.is_sparse:
            values |= {
                "x": data.x.data,
                "indices": data.x.indices,
                "indptr": data.x.indptr,
                "column_end": self._column_end,
                "entry_row": self._entry_row,
                "entry_value": self._entry_value,
            }
        return values

    def begin_epoch(
        self, order: np.ndarray, batch_weight: np.ndarray, rates: np.ndarray, alpha: float
    ) -> None:
        """Let the next steps take samples in some order, with a weight and a rate of each batch."""
        self.epoch = order, batch_weight, rates  # the job has their addresses
        self._work["order"], self.job["n_order"], self.job["alpha"] = order, len(order), alpha
        self.job["batch_weight"], self.job["rates"] = batch_weight, rates
        limits = self._limits_gradient(alpha)
        self.job["limit_kernel"] = limit_kernel(self.dtype) if limits else 0
        self.job["stopped_at"] = -1
        self.row_loss[:] = 0
        self.penalty[:] = 0

    def run_steps(self, first: int, last: int, step_count: int, n_threads: int) -> None:
        """Run the steps [first, last) of the epoch, after `step_count` updates.

        Ctrl-C meanwhile is raised right behind the kernel; `end_steps` is right even then.
        """
        job = self.job
        job["first_step"], job["last_step"] = first, last
        job["updates_before"] = step_count
        job["rule_memory"] = self.rule_memory
        launch(training_member(self.dtype), job, n_threads)  # compiles, the first time

    def end_steps(self) -> int:
        """Return how many updates there have been, after `run_steps`."""
        self.rule_memory = float(self.job["rule_memory"])
        return int(self.job["updates_before"])

    @property
    def stopped_at(self) -> int:
        """The step whose loss was not finite, or -1."""
        return int(self.job["stopped_at"])

    def release(self) -> None:
        """Forget the data set."""
        self.job = self._work = None


def _same_bits(one: np.ndarray, other: np.ndarray) -> bool:
    """Return whether two vectors have the same bits: NaN equals itself."""
    return np.array_equal(one.view(np.uint8), other.view(np.uint8))
