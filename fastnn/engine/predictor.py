"""What `Sequential.predict` keeps from call to call: plans, jobs and memory."""

import numpy as np
from numba import from_dtype, types

from fastnn.engine.plan import build, link, pack
from fastnn.kernels.memory import Job, aligned_zeros
from fastnn.kernels.prediction import PREDICTION_JOB, prediction_member, start_prediction
from fastnn.kernels.step import CHUNK_ROWS
from fastnn.kernels.team import launch
from fastnn.runtime import threads
from fastnn.runtime.jit import direct_call

# Below this many floating-point operations for each thread, a team costs more than it gains.
_MIN_FLOPS_PER_THREAD = 1_500_000


class _Workspace:
    """A job, and all the memory that its addresses name but for x and out."""

    def __init__(self, predictor, n_threads):
        plan, row_plan, dtype = predictor.plan, predictor.row_plan, predictor.dtype
        size = max(plan.n_acts, row_plan.n_acts)
        self.acts = aligned_zeros(n_threads * size, dtype)
        packed = predictor.packed
        self.packed = aligned_zeros(plan.n_params, dtype) if packed is None else packed
        self.job = Job(
            PREDICTION_JOB,
            x=0,
            indices=0,
            indptr=0,
            out=0,
            plan=plan.operations,
            row_plan=row_plan.operations,
            numbers=plan.numbers,
            params=predictor.params,
            packed=self.packed,
            acts=self.acts,
            n_operations=len(plan.operations),
            n_rows=0,
            n_inputs=predictor.n_inputs,
            n_outputs=predictor.n_outputs,
            acts_size=size,
            is_packed=packed is not None,
        )


class Predictor:
    """The forward pass of a net on its compiled plan.

    Parameters
    ----------
    layers : sequence of Layer
    n_inputs, n_outputs : int
    params : ndarray
        All parameters, padded as `fastnn.engine.plan.padded_size` says. Read anew in each call.
    weights : sequence of tuples of ndarray, optional
        What they are (`Sequential.tensors`), if they are never going to change: packed once.
    """

    def __init__(self, layers, n_inputs, n_outputs, params, weights=None):
        self.n_inputs, self.n_outputs = n_inputs, n_outputs
        self.params, self.dtype = params, params.dtype
        self.plan, self.row_plan = (
            build(layers, n_inputs, self.dtype, rows, packed=rows > 1, training=False)
            for rows in (CHUNK_ROWS, 1)
        )
        self.packed = None
        if weights is not None:
            self.packed = aligned_zeros(self.plan.n_params, self.dtype)
            pack(self.plan, weights, self.packed, None)
        self._idle = {}  # workspaces by number of threads: a call takes one, and returns it
        self._call = None

    def takes(self, x):
        """Return whether x is an array that needs no conversion."""
        return (
            type(x) is np.ndarray
            and x.dtype == self.dtype  # which may be another object
            and x.ndim == 2
            and x.shape[1] == self.n_inputs
            and x.flags.carray
        )

    def predict(self, x, n_threads):
        """Return the output (N, O) for x (N, I), a kernel array or `SparseRows`.

        As little Python as can be: a small net takes less time than many questions.

        Parameters
        ----------
        x : ndarray or fastnn.engine.sparse_rows.SparseRows (N, I)
        n_threads : int or None
            The most to use; None is the default.
        """
        if self._call is None:
            for plan in (self.plan, self.row_plan):
                link(plan, self.dtype, training=False)
            self._member = prediction_member(self.dtype)
            matrix = types.Array(from_dtype(self.dtype), 2, "C")
            self._call = direct_call(start_prediction, (*[types.int64] * 3, matrix, matrix))
        out = np.empty((x.shape[0], self.n_outputs), self.dtype)
        if n_threads != 1:
            flops = self.plan.flops_forward * x.shape[0]
            most = flops // _MIN_FLOPS_PER_THREAD
            if most > 1 and n_threads is None:
                n_threads = threads.get_num_threads()
            n_threads = threads.at_most_now(max(1, min(most, n_threads or 1)))
        try:
            workspace = self._idle.setdefault(n_threads, []).pop()
        except IndexError:
            workspace = _Workspace(self, n_threads)
        if type(x) is np.ndarray:
            self._call(self._member, workspace.job.address, n_threads, x, out)
            if n_threads > 1:
                launch(self._member, workspace.job, n_threads)
        else:
            job = workspace.job
            job["x"], job["indices"], job["indptr"] = x.data, x.indices, x.indptr
            job["out"], job["n_rows"] = out, len(x)
            launch(prediction_member(self.dtype, sparse=True), job, n_threads)
        self._idle[n_threads].append(workspace)
        return out
