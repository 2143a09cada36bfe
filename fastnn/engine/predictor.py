"""The forward pass of a net on its compiled plan: what `Sequential.predict` keeps between calls."""

import numpy as np
from numba import from_dtype, types

from fastnn.engine.plan import Purpose, build
from fastnn.kernels.memory import Job, aligned_zeros
from fastnn.kernels.operation import WORK
from fastnn.kernels.prediction import PREDICTION_JOB, prediction_member, start_prediction
from fastnn.kernels.row_phase import CHUNK_ROWS
from fastnn.kernels.team import launch
from fastnn.kernels.tile import TILE_ROWS
from fastnn.kernels.training import WORK_APART
from fastnn.runtime import threads
from fastnn.runtime.jit import direct_call

# Below this many floating-point operations for each thread, a team costs more than it gains.
_MIN_FLOPS_PER_THREAD = 1_500_000

_FEW = 0
"""In place of a number of threads: fewer rows than a tile has, one after the other."""
_SPARSE = -1


class _Workspace:
    """A job, and all the memory that its addresses name but for x and out."""

    def __init__(self, predictor, plan, kind, n_threads):
        dtype, packed = predictor.dtype, predictor.packed
        size = plan.n_acts
        self.acts = aligned_zeros(n_threads * size, dtype)
        self.packed = packed
        if packed is None:
            self.packed = aligned_zeros(0 if kind == _FEW else predictor.layout.n_packed, dtype)
        self.works = aligned_zeros(n_threads * WORK_APART, np.uint8)
        work = {
            "operations": plan.operations,
            "blocks": plan.blocks,
            "params": self.packed,
            "acts": self.acts,
            "user_operations": predictor.places_of_user,
            "n_inputs": predictor.n_inputs,
        }
        self.work = Job(WORK, **dict.fromkeys(WORK.names, 0) | work)
        job = {
            "work": self.work.address,
            "works": self.works,
            "row_operations": plan.operations,
            "params": predictor.params,
            "n_operations": len(plan.operations),
            "n_blocks": len(plan.blocks),
            "acts_bytes": size * dtype.itemsize,
            "is_sparse": kind == _SPARSE,
            "is_packed": packed is not None,
        }
        self.job = Job(PREDICTION_JOB, **dict.fromkeys(PREDICTION_JOB.names, 0) | job)


class Predictor:
    """The forward pass of a net on its compiled plan.

    Plans are made, and kernels compiled, when they are first needed.

    Parameters
    ----------
    layers : sequence of Layer
    n_inputs, n_outputs : int
    layout : fastnn.engine.layout.ParameterLayout
    params : ndarray
        All parameters as users see them (`ParameterLayout.size`). Read anew in each call.
    packed : ndarray, optional
        All parameters in packed form. Then `params` is not read.
    """

    def __init__(self, layers, n_inputs, n_outputs, layout, params, packed=None):
        self.layers, self.n_inputs, self.n_outputs = layers, n_inputs, n_outputs
        self.layout, self.params, self.packed, self.dtype = layout, params, packed, layout.dtype
        self._plans = {}
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

    def _plan(self, kind):
        """Return the plan for few rows, sparse samples, or others."""
        if kind not in self._plans:
            few = kind == _FEW
            packed = not few or self.packed is not None
            purpose = Purpose(sparse=kind == _SPARSE, one_row=few, packed=packed)
            self._plans[kind] = build(
                self.layers, self.n_inputs, self.layout, 1 if few else CHUNK_ROWS, purpose
            )
        return self._plans[kind]

    def _prepare(self):
        """Compile what all calls need."""
        # Where users see the first parameters: few samples read them there.
        self.places_of_user = self._plan(1).operations.copy()
        blocks = self.layout.blocks_of(self._plan(1).layers[0])
        for k, placed in enumerate(blocks):
            self.places_of_user["blocks"][0, k] = placed.user_at
        self._member = prediction_member(self.dtype)
        matrix = types.Array(from_dtype(self.dtype), 2, "C")
        self._call = direct_call(start_prediction, (*[types.int64] * 3, matrix, matrix))
        self._flops = self._plan(1).flops_forward

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
            self._prepare()
        n_rows = x.shape[0]
        out = np.empty((n_rows, self.n_outputs), self.dtype)
        if n_threads != 1:
            most = self._flops * n_rows // _MIN_FLOPS_PER_THREAD
            if most > 1 and n_threads is None:
                n_threads = threads.get_num_threads()
            n_threads = threads.at_most_now(max(1, min(most, n_threads or 1)))
        is_dense = type(x) is np.ndarray
        key = n_threads if is_dense and n_rows >= TILE_ROWS else (is_dense, n_threads)
        try:
            workspace = self._idle.setdefault(key, []).pop()
        except IndexError:
            kind = (_FEW if is_dense else _SPARSE) if type(key) is tuple else 1
            workspace = _Workspace(self, self._plan(kind), kind, n_threads)
        job = workspace.job
        if is_dense:
            self._call(self._member, job.address, n_threads, x, out)
            if n_threads > 1:
                launch(self._member, job, n_threads)
        else:
            work = workspace.work
            job["x"], work["indices"], work["indptr"] = x.data, x.indices, x.indptr
            job["out"], job["n_rows"] = out, n_rows
            launch(self._member, job, n_threads)
        self._idle[key].append(workspace)
        return out
