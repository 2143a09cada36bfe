"""What `Sequential.predict` keeps from call to call: plans, jobs and memory."""

import numpy as np

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
        self._idle = []  # workspaces: a call takes one away and brings it back
        self._call = None

    def takes(self, x):
        """Return whether `predict_few` can do it: an array of few rows that needs no conversion."""
        return (
            type(x) is np.ndarray
            and x.dtype is self.dtype
            and x.ndim == 2
            and x.shape[1] == self.n_inputs
            and x.shape[0] < self._few_rows
            and x.flags.carray
        )

    def predict_few(self, x):
        """Return the output (N, O) for an array that `takes` accepts, on one thread.

        As little Python as can be: a small net takes less time than many questions.
        """
        if self._call is None:
            self._member = prediction_member(self.dtype)
            self._call = direct_call(predict_alone, self._member, 0, x, x)
        out = np.empty((x.shape[0], self.n_outputs), self.dtype)
        try:
            workspace = self._idle.pop()
        except IndexError:
            workspace = _Workspace(self, False, 1)
        self._call(self._member, workspace.job_address, x, out)
        self._idle.append(workspace)
        return out

    def predict(self, x, n_threads):
        """Return the output (N, O) for a kernel array x (N, I) on up to n_threads threads."""
        out = np.empty((len(x), self.n_outputs), self.dtype)
        flops = self.row_plan.flops_forward * len(x)
        n_threads = max(1, min(threads.at_most(n_threads), flops // _MIN_FLOPS_PER_THREAD))
        workspace = _Workspace(self, len(x) >= _ROWS_WORTH_PACKING, n_threads)
        job = workspace.job
        job["x"], job["out"], job["n_rows"] = address_of(x), address_of(out), len(x)
        launch(prediction_member(self.dtype), job, n_threads)
        return out
