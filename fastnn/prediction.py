"""What `Sequential.predict` keeps from call to call: plans, jobs and memory."""

import numpy as np
from numba import from_dtype, types

from fastnn import threads
from fastnn._jit import direct_call
from fastnn.kernels.memory import address_of, make_job
from fastnn.kernels.prediction import PREDICTION_JOB, predict_alone, prediction_member
from fastnn.kernels.step import CHUNK_ROWS
from fastnn.kernels.team import launch
from fastnn.plan import aligned_zeros, build

# With this many rows, packing the weights first costs less than it saves.
_ROWS_WORTH_PACKING = 256

# Below this many floating-point operations for each thread, a team costs more than it gains.
_MIN_FLOPS_PER_THREAD = 1_500_000


class _Workspace:
    """A job, and all the memory that its addresses name but for x and out."""

    def __init__(self, predictor, packed, n_threads):
        plan, row_plan, dtype = predictor.plans[packed], predictor.row_plan, predictor.dtype
        size = max(plan.n_acts, row_plan.n_acts)
        self.acts = aligned_zeros(n_threads * size, dtype)
        self.packed = aligned_zeros(plan.n_params, dtype) if packed else 0
        self.job = make_job(
            PREDICTION_JOB,
            x=0,
            out=0,
            plan=plan.operations,
            row_plan=row_plan.operations,
            slopes=plan.slopes,
            params=predictor.params,
            packed=self.packed,
            acts=self.acts,
            n_operations=len(plan.operations),
            n_rows=0,
            n_inputs=predictor.n_inputs,
            n_outputs=predictor.n_outputs,
            acts_size=size,
        )
        self.job_address = address_of(self.job)


class Predictor:
    """The forward pass of a net on its compiled plan.

    Parameters
    ----------
    layers : sequence of Layer
    n_inputs, n_outputs : int
    params : ndarray
        All parameters, with the padding of `fastnn.plan.padded_size`. Read anew in each call.
    """

    def __init__(self, layers, n_inputs, n_outputs, params):
        self.n_inputs, self.n_outputs = n_inputs, n_outputs
        self.params, self.dtype = params, params.dtype
        self.plans = {
            packed: build(layers, n_inputs, self.dtype, CHUNK_ROWS, packed)
            for packed in (False, True)
        }
        self.row_plan = build(layers, n_inputs, self.dtype, 1, packed=False)
        self._few_rows = min(
            _ROWS_WORTH_PACKING, 2 * _MIN_FLOPS_PER_THREAD // self.row_plan.flops_forward
        )
        self._idle = []  # workspaces of one thread: a call takes one away and brings it back
        self._idle_for_teams = {}  # the same, by (packed, number of threads)
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
        """Return the output (N, O) for a kernel array x (N, I).

        As little Python as can be: a small net takes less time than many questions.

        Parameters
        ----------
        x : ndarray (N, I)
        n_threads : int or None
            The most to use; None is the default.
        """
        n = x.shape[0]
        if n < self._few_rows or (n_threads == 1 and n < _ROWS_WORTH_PACKING):
            return self._predict_few(x)
        n_threads = threads.get_num_threads() if n_threads is None else n_threads
        flops = self.row_plan.flops_forward * n
        n_threads = threads.worthwhile(flops, n_threads, _MIN_FLOPS_PER_THREAD)
        return self._predict_many(x, n_threads)

    def _predict_few(self, x):
        """Predict on one thread, with the weights where the user sees them."""
        if self._call is None:
            self._member = prediction_member(self.dtype)
            matrix = types.Array(from_dtype(self.dtype), 2, "C")
            self._call = direct_call(predict_alone, (*[types.int64] * 2, matrix, matrix))
        out = np.empty((x.shape[0], self.n_outputs), self.dtype)
        try:
            workspace = self._idle.pop()
        except IndexError:
            workspace = _Workspace(self, False, 1)
        self._call(self._member, workspace.job_address, x, out)
        self._idle.append(workspace)
        return out

    def _predict_many(self, x, n_threads):
        """Predict on a team of threads, or with packed weights."""
        out = np.empty((len(x), self.n_outputs), self.dtype)
        kind = len(x) >= _ROWS_WORTH_PACKING, n_threads
        idle = self._idle_for_teams.setdefault(kind, [])
        try:
            workspace = idle.pop()
        except IndexError:
            workspace = _Workspace(self, *kind)
        job = workspace.job
        job["x"], job["out"], job["n_rows"] = address_of(x), address_of(out), len(x)
        launch(prediction_member(self.dtype), job, n_threads)
        idle.append(workspace)
        return out
