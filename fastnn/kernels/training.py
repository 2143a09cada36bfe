"""Training steps: everything between two updates in two phases.

The **row phase** (`fastnn.kernels.row_phase`) takes the rows of a batch forward and back, the
**weight phase** (`fastnn.kernels.weight_phase`) sums gradients and updates parameters. Between them
all threads meet at a barrier. A loss that is not finite stops all threads before the weight phase:
no parameter has moved. The same code with one thread is the serial twin. Every number is computed
in the same order whatever the number of threads.
"""

import functools
from typing import NamedTuple

import numpy as np

from fastnn.kernels.calls import call
from fastnn.kernels.denormals import flush_denormals, restore_denormals
from fastnn.kernels.job import FACTORS_APART, job_at
from fastnn.kernels.memory import vector_at
from fastnn.kernels.operation import WORK_BYTES, work_at
from fastnn.kernels.panels import round_up
from fastnn.kernels.row_phase import row_phase
from fastnn.kernels.team import barrier, team_starts
from fastnn.kernels.updates import MEMORY
from fastnn.kernels.weight_phase import weight_phase
from fastnn.runtime.jit import inner, member

WORK_APART = round_up(WORK_BYTES, 128)
"""Bytes between the copies of the work that members have: on cache lines of their own."""

_WORDS = WORK_BYTES // 8


class Team(NamedTuple):
    """A member, and its share of the weight phase."""

    thread: int
    n_threads: int
    sync: int
    factors: int  # address of the member's factors of the update rule
    first_task: int
    end_task: int


@inner
def copy_work(source, target):
    """Overwrite a member's work with that of all."""
    a, b = vector_at(source, np.int64), vector_at(target, np.int64)
    for k in range(_WORDS):
        b[k] = a[k]


@inner
def _task_at(job, part, parts):
    """Return the first task that begins at or after the fraction part / parts of all work."""
    cost_before = vector_at(job.cost_before, np.int64)
    share, k = cost_before[job.n_tasks] * part // parts, 0
    while cost_before[k] < share:
        k += 1
    return k


@inner
def _join(thread, n_threads, sync, job, work):
    """Prepare a member's own memory; return the member."""
    copy_work(job.work, work)
    own = work_at(work)
    own.scratch += thread * job.scratch_bytes
    own.step = job.updates_before
    factors = job.factors + thread * FACTORS_APART * 8
    vector_at(factors, np.float64)[MEMORY] = job.rule_memory
    first = _task_at(job, thread, n_threads)
    return Team(thread, n_threads, sync, factors, first, _task_at(job, thread + 1, n_threads))


@inner
def _all_finite(n, values):
    """Return whether the first n values are finite.

    They are counted, since a loop that may stop has no vectors.
    """
    count = 0
    for k in range(n):
        count += abs(values[k]) < np.inf
    return count == n


@functools.cache
def training_member(dtype):
    """Compile the training of nets of a dtype; return the member's address.

    Parameters
    ----------
    dtype : numpy.dtype

    Returns
    -------
    int
        Of a member for `TRAINING_JOB` (`fastnn.kernels.team.launch`).
    """
    number = dtype.type

    def train_steps(thread, n_threads, sync, job_address):
        if not team_starts(sync, n_threads):
            return
        denormals_before = flush_denormals()
        job = job_at(job_address)
        work_address = job.works + thread * WORK_APART
        team = _join(thread, n_threads, sync, job, work_address)
        work = work_at(work_address)
        params, x = vector_at(work.params, number), vector_at(work.x, number)
        batch_weight = vector_at(job.batch_weight, np.float64)
        batch_loss = vector_at(job.batch_loss, np.float64)
        stopped_at = -1
        for s in range(job.first_step, job.last_step):
            if batch_weight[s] == 0.0:
                continue  # a batch without any weight has no gradient
            work.start = s * job.batch_size
            work.n_rows = min(job.batch_size, job.n_order - work.start)
            row_phase(team, job_address, work_address, s, x)
            if job.sort_kernel != 0:
                call(job.sort_kernel, (thread, n_threads, work_address))
            barrier(sync, n_threads)
            if job.moves and not _all_finite(work.n_rows, batch_loss):
                stopped_at = s  # every member sees the same losses; no parameter has moved
                break
            work.step += 1
            weight_phase(team, job_address, work_address, s, params)
        if thread == 0:
            job.rule_memory = vector_at(team.factors, np.float64)[MEMORY]
            job.updates_before, job.stopped_at = work.step, stopped_at
        restore_denormals(denormals_before)

    return member(train_steps)
