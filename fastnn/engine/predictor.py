"""The forward pass of a net on its compiled plan, for `Sequential.predict`."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numba import from_dtype, types

from fastnn.engine.layout import ParameterLayout
from fastnn.engine.plan import Plan, PlanLayer, Purpose, build
from fastnn.engine.sparse_rows import SparseRows
from fastnn.kernels.memory import Job, aligned_zeros
from fastnn.kernels.operation import WORK
from fastnn.kernels.prediction import PREDICTION_JOB, prediction_member, start_prediction
from fastnn.kernels.row_phase import CHUNK_ROWS
from fastnn.kernels.team import launch
from fastnn.kernels.tile import TILE_ROWS
from fastnn.kernels.training import WORK_APART
from fastnn.runtime import threads
from fastnn.runtime.jit import direct_call

# The least work of a thread in floating-point operations: with less, a team costs more than it
# saves.
_MIN_FLOPS_PER_THREAD = 1_500_000

# Kinds of plans. _FEW is for fewer rows than a tile has, which are computed one by one.
_DENSE, _FEW, _SPARSE = 1, 0, -1

_Key: TypeAlias = int | tuple[bool, int]
"""The key of idle workspaces: the number of threads, or (is dense, that) for few or sparse rows."""


class _Workspace:
    """The job of a prediction, and all memory that it has addresses of, except x and out."""

    def __init__(self, predictor: "Predictor", plan: Plan, kind: int, n_threads: int) -> None:
        dtype, packed = predictor.dtype, predictor.packed
        size = plan.n_acts
        self.acts = aligned_zeros(n_threads * size, dtype)
        if packed is None:
            packed = aligned_zeros(0 if kind == _FEW else predictor.layout.n_packed, dtype)
        self.packed = packed
        self.works = aligned_zeros(n_threads * WORK_APART, np.uint8)
        work = {
            "operations": plan.operations,
            "blocks": plan.blocks,
            "params": self.packed,
            "acts": self.acts,
            "user_operations": predictor.places_of_user,
            "n_inputs": predictor.n_inputs,
        }
        self.work = Job(WORK, **dict.fromkeys(WORK.names or (), 0) | work)
        job = {
            "work": self.work.address,
            "works": self.works,
            "row_operations": plan.operations,
            "params": predictor.params,
            "n_operations": len(plan.operations),
            "n_blocks": len(plan.blocks),
            "acts_bytes": size * dtype.itemsize,
            "is_sparse": kind == _SPARSE,
            "is_packed": predictor.packed is not None,
        }
        self.job = Job(PREDICTION_JOB, **dict.fromkeys(PREDICTION_JOB.names or (), 0) | job)


class Predictor:
    """The forward pass of a net on its compiled plan.

    Plans are built, and kernels compiled, when they are first needed. Several Python threads may
    call `predict` at once.

    Parameters
    ----------
    layers : sequence of Layer
        The layers of the net.
    n_inputs, n_outputs : int
        Columns of the input and of the output.
    layout : fastnn.engine.layout.ParameterLayout
        Places of the parameters.
    params : ndarray of shape (layout.size,)
        The user's vector. Each call reads it anew.
    packed : ndarray of shape (layout.n_packed,), default=None
        The packed parameters. If they are given, `params` is not read.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import Affine, Sequential
    >>> net = Sequential([Affine(2, 1, init="zeros")])
    >>> net.make_predictor().predict(np.ones((3, 2), np.float32), n_threads=1).tolist()
    [[0.0], [0.0], [0.0]]
    """

    def __init__(
        self,
        layers: Sequence[PlanLayer],
        n_inputs: int,
        n_outputs: int,
        layout: ParameterLayout,
        params: np.ndarray,
        packed: np.ndarray | None = None,
    ) -> None:
        self.layers, self.n_inputs, self.n_outputs = layers, n_inputs, n_outputs
        self.layout, self.params, self.packed, self.dtype = layout, params, packed, layout.dtype
        self._plans: dict[int, Plan] = {}
        # A call removes a workspace and puts it back at its end, so no two calls share one.
        self._idle: dict[_Key, list[_Workspace]] = {}
        self._call: Any = None  # the compiled entry point
        self._is_prepared = False

    def takes(self, x: object) -> bool:
        """Return whether x is a kernel array with the right columns, which needs no conversion."""
        return (
            type(x) is np.ndarray
            and x.dtype == self.dtype  # equal, but perhaps not the same object
            and x.ndim == 2
            and x.shape[1] == self.n_inputs
            and x.flags.carray
        )

    def _plan(self, kind: int) -> Plan:
        """Return the plan of a kind, which is built when it is first needed."""
        plan = self._plans.get(kind)
        if plan is not None:
            return plan
        few = kind == _FEW
        packed = not few or self.packed is not None
        purpose = Purpose(sparse=kind == _SPARSE, one_row=few, packed=packed)
        plan = build(self.layers, self.n_inputs, self.layout, 1 if few else CHUNK_ROWS, purpose)
        return self._plans.setdefault(kind, plan)  # another Python thread may have built it too

    def _prepare(self) -> None:
        """Build the plan of dense rows, and compile the entry point."""
        plan = self._plan(_DENSE)
        # The operations with the places of the first layer's parameters in the user's vector, where
        # a call with few rows reads them.
        places_of_user = plan.operations.copy()
        for k, placed in enumerate(self.layout.blocks_of(plan.layers[0])):
            places_of_user["blocks"][0, k] = placed.user_at
        self.places_of_user = places_of_user
        self._flops = plan.flops_forward
        self._member = prediction_member(self.dtype)
        matrix = types.Array(from_dtype(self.dtype), 2, "C")
        self._call = direct_call(start_prediction, (*[types.int64] * 3, matrix, matrix))
        self._is_prepared = True  # last: another Python thread may look at it meanwhile

    def predict(self, x: np.ndarray | SparseRows, n_threads: int | None) -> np.ndarray:
        """Return the output of the net.

        Parameters
        ----------
        x : ndarray or fastnn.engine.sparse_rows.SparseRows of shape (N, I)
            Samples in the form that kernels take: nothing checks them.
        n_threads : int or None
            The largest number of threads; None is `fastnn.get_num_threads()`.

        Returns
        -------
        ndarray of shape (N, O)
        """
        # Few checks and few steps: with a small net, they take longer than the kernels.
        if not self._is_prepared:
            self._prepare()
        n_rows = x.shape[0]
        out = np.empty((n_rows, self.n_outputs), self.dtype)
        if n_threads != 1:
            most = self._flops * n_rows // _MIN_FLOPS_PER_THREAD
            if most > 1 and n_threads is None:
                n_threads = threads.get_num_threads()
            n_threads = threads.at_most_now(max(1, min(most, n_threads or 1)))
        is_dense = type(x) is np.ndarray
        key: _Key = n_threads if is_dense and n_rows >= TILE_ROWS else (is_dense, n_threads)
        try:
            workspace = self._idle.setdefault(key, []).pop()
        except IndexError:
            kind = (_FEW if is_dense else _SPARSE) if type(key) is tuple else _DENSE
            workspace = _Workspace(self, self._plan(kind), kind, n_threads)
        job = workspace.job
        if is_dense:
            self._call(self._member, job.address, n_threads, x, out)
            if n_threads > 1:
                launch(self._member, job, n_threads)
        else:
            rows: Any = x
            work = workspace.work
            job["x"], work["indices"], work["indptr"] = rows.data, rows.indices, rows.indptr
            job["out"], job["n_rows"] = out, n_rows
            launch(self._member, job, n_threads)
        self._idle[key].append(workspace)
        return out
