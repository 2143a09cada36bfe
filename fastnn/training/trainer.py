"""`Trainer`: the memory of a training, and epochs of compiled steps on it."""

import math
import time

import numpy as np

from fastnn import losses, optimizers
from fastnn.engine.plan import build, link, pack, panel_columns, unpack
from fastnn.engine.sparse_rows import SparseRows
from fastnn.errors import shown
from fastnn.kernels import codes
from fastnn.kernels.constraint import max_norm_members
from fastnn.kernels.job import SIZES, TRAINING_JOB
from fastnn.kernels.losses import loss_member
from fastnn.kernels.memory import Job, aligned_zeros
from fastnn.kernels.step import BLOCK_ROWS, training_member
from fastnn.kernels.team import launch
from fastnn.kernels.tile import TILE_ROWS
from fastnn.kernels.updates import rule_member
from fastnn.regularization import Regularization
from fastnn.runtime import threads
from fastnn.training.divergence import Divergence, locate
from fastnn.training.thread_choice import Pace
from fastnn.validation import (
    as_array,
    check_integer,
    check_number,
    check_targets,
    check_weights,
    kernel_array,
)

_NO_WEIGHTS = np.empty(0)
_ENTRIES = ("indices", "indptr", "column_end", "entry_row", "entry_value")

_STATES = {
    codes.SGD: 0,
    codes.MOMENTUM: 1,
    codes.NESTEROV: 1,
    codes.RMSPROP: 1,
    codes.ADAGRAD: 1,
}
"""How many state vectors a rule has, where it is not two."""


class Trainer:
    """Trains a net with compiled steps, one epoch at a time.

    `Sequential.fit` is built on it. Use it directly where you need your own loop.

    Parameters
    ----------
    net : Sequential
    loss : str or Loss
    optimizer : str or Optimizer
    batch_size : int
    alpha : float, default 0
        Strength of the L2 penalty as scikit-learn defines it: alpha / 2 times the sum of the
        squared weights (not biases), divided by the rows of a batch, is added to its loss.
    n_threads : int, optional
        The most to use; default `fastnn.get_num_threads()`.
    regularization : Regularization, optional
        Of the weights of all layers that have none of their own.

    Attributes
    ----------
    batch_size, alpha
        As given; may be changed before `set_data`.
    learning_rate : float
        The optimizer's; may be changed between epochs.
    step_count : int
        Updates so far.
    divergence : fastnn.training.divergence.Divergence or None
        What made the last epoch break down, if it did.
    use_all_threads : bool
        Whether `n_threads` are used even where fewer would be faster. For measurements; set it
        before `set_data`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import Affine, Sequential
    >>> from fastnn.training import Trainer
    >>> net = Sequential([Affine(2, 1)], seed=0)
    >>> trainer = Trainer(net, "mse", "sgd", batch_size=2)
    >>> trainer.set_data(np.eye(2), np.ones(2))
    >>> data_loss, penalty = trainer.run_epoch(np.arange(2))
    >>> trainer.sync()
    """

    def __init__(
        self, net, loss, optimizer, batch_size, alpha=0.0, n_threads=None, regularization=None
    ):
        if not hasattr(net, "check_samples"):
            raise ValueError(f"net must be a Sequential, got {shown(net)}")
        self._net = net
        self.loss = losses.get(loss)
        self._optimizer = optimizers.get(optimizer)
        self._hyperparameters = self._optimizer.hyperparameters
        self.batch_size = check_integer("batch_size", batch_size, 1)
        self.alpha = check_number("alpha", alpha)
        self.n_threads = threads.check_num_threads(n_threads)
        self._regularization = Regularization.of(regularization) or Regularization()
        if self.loss.takes_logits:
            net.check_ends_in_logits(self.loss)
        self.step_count = 0
        self.use_all_threads = False
        self.divergence = None
        self._capacity, self._sparse = 0, False
        self._x = self._labels = self._targets = self._weights = None
        self._job = None
        self._pace = None
        plan = build(net.layers, net.n_inputs, net.dtype, 1, packed=True)
        n_states = _STATES.get(self._optimizer.rule, 2)
        self._params = aligned_zeros(plan.n_params, net.dtype)
        self._transposed = aligned_zeros(plan.n_transposed, net.dtype)
        self._states = [
            aligned_zeros(plan.n_params if k < n_states else 0, net.dtype) for k in range(2)
        ]
        self._gradient = _NO_WEIGHTS
        if self._optimizer.clip_norm is not None:
            self._gradient = aligned_zeros(plan.n_params, net.dtype)
        self._moves = self._optimizer.rule != codes.GRADIENT
        self._good = np.empty_like(self._params) if self._moves else None
        self._packed_plan = plan
        self._noisy = [layer for layer in net.leaves() if layer.only_in_training]
        self._first_noise = [layer.step for layer in self._noisy]
        self.pull()

    # Plans and jobs hold addresses, which mean nothing in another process or for other arrays. A
    # copy or a pickle has what they are made from instead, in the order that users see.

    def __getstate__(self):
        y = self._labels if self._labels is not None and len(self._labels) else self._targets
        return {
            "arguments": (
                self._net, self.loss, self._optimizer, self.batch_size, self.alpha, self.n_threads,
                self._regularization,
            ),
            "use_all_threads": self.use_all_threads,
            "tensors": self._unpacked(self._params),
            "state": self.state(),
            "data": None if self._x is None else (self._x, y, self._weights),
        }  # fmt: skip

    def __setstate__(self, state):
        net, loss, optimizer, batch_size, alpha, n_threads, regularization = state["arguments"]
        n_threads = min(n_threads, threads.get_num_threads())  # it may come from a larger machine
        self.__init__(net, loss, optimizer, batch_size, alpha, n_threads, regularization)
        self.use_all_threads = state["use_all_threads"]
        pack(self._packed_plan, state["tensors"], self._params, self._transposed)
        self.restore(state["state"])
        if state["data"] is not None:
            x, y, weights = state["data"]
            self.set_data(x, y, weights if len(weights) else None)

    @property
    def learning_rate(self):
        """The optimizer's learning rate; may be changed between epochs."""
        return float(self._hyperparameters[codes.LEARNING_RATE])

    @learning_rate.setter
    def learning_rate(self, value):
        self._hyperparameters[codes.LEARNING_RATE] = check_number("learning_rate", value)

    @property
    def optimizer(self):
        """The optimizer, as it was before the training."""
        return self._optimizer

    @property
    def n_samples(self):
        """Number of samples of the data set."""
        return len(self._x)

    def pull(self):
        """Read the net's parameters again, after something else changed them."""
        pack(self._packed_plan, self._net.tensors(), self._params, self._transposed)

    def sync(self):
        """Write the trained parameters back to the net."""
        unpack(self._packed_plan, self._params, self._net.tensors())

    def state_vectors(self):
        """Return the optimizer's states, shaped as the net's `tensors`."""
        return [self._unpacked(packed) for packed in self._states if len(packed)]

    def _unpacked(self, packed):
        """Return a packed vector as new arrays, shaped as the net's `tensors`."""
        tensors = [
            tuple(None if array is None else np.empty_like(array) for array in arrays)
            for arrays in self._net.tensors()
        ]
        unpack(self._packed_plan, packed, tensors)
        return tensors

    def state(self):
        """Return what `restore` needs to go on with this optimizer, on any machine."""
        return {
            "rule": self._optimizer.rule,
            "learning_rate": self.learning_rate,
            "step_count": self.step_count,
            "momentum_product": float(self._hyperparameters[codes.MOMENTUM_PRODUCT]),
            "noise": [(layer.noise_seed, layer.step) for layer in self._noisy],
            "vectors": self.state_vectors(),
        }

    def restore(self, state):
        """Go on with the state of another trainer's optimizer, of the same rule.

        Raises
        ------
        ValueError
            If it is of another rule, or of a net of other shapes.
        """
        shapes = _shapes(self._net.tensors())
        try:
            fits = (
                state["rule"] == self._optimizer.rule
                and all(_shapes(tensors) == shapes for tensors in state["vectors"])
                and len(state["noise"]) == len(self._noisy)
            )
        except (TypeError, LookupError, AttributeError):
            fits = False
        if not fits:
            raise ValueError("state must come from a trainer of the same rule and shapes")
        for packed, tensors in zip(self._states, state["vectors"], strict=False):
            pack(self._packed_plan, tensors, packed, None)
        self.learning_rate, self.step_count = state["learning_rate"], state["step_count"]
        self._hyperparameters[codes.MOMENTUM_PRODUCT] = state["momentum_product"]
        for layer, noise in zip(self._noisy, state["noise"], strict=True):
            layer.noise_seed, layer.step = noise
        self._first_noise = [layer.step - self.step_count for layer in self._noisy]
        if self._capacity:
            self._complete(self._plan)

    def set_data(self, X, y, sample_weight=None):
        """Set what the next epochs train on.

        Parameters
        ----------
        X : array_like or scipy.sparse matrix (N, I)
            A sparse one is never made dense. The net must begin with an affine layer then.
        y : array_like
            (N,) integer classes, (N, O) rows of targets, or (N,) for one output.
        sample_weight : array_like (N,), optional
            A batch's loss and gradient are means weighted by it. A batch whose weights sum to
            zero changes nothing.

        Raises
        ------
        ValueError
            If shapes or values do not suit the net and the loss.
        """
        net = self._net
        x = net.check_samples(X)
        if len(x) == 0:
            raise ValueError("X must have at least 1 row, got 0")
        labels, targets = check_targets(y, self.loss, len(x), net.n_outputs, net.dtype)
        weights = _NO_WEIGHTS if sample_weight is None else check_weights(sample_weight, len(x))
        self._check_batches(len(x), min(self.batch_size, len(x)))
        self.release_data()  # a layer's kernels may turn out not to compile
        self._make_workspace(min(self.batch_size, len(x)), x)
        self._x, self._labels, self._targets, self._weights = x, labels, targets, weights

    def _check_batches(self, n, rows):
        """Refuse a batch of a single row where statistics over a batch are needed."""
        if (
            n % rows == 1 % rows
            and (self._packed_plan.operations[:, codes.KIND] == codes.BATCH).any()
        ):
            raise ValueError(
                f"batch_size must leave at least 2 rows for each batch with BatchNorm, got {rows} "
                f"for {n} rows: the last batch has 1"
            )

    def release_data(self):
        """Forget the data, but not the state of the optimizer: `set_data` comes next."""
        self._x = self._labels = self._targets = self._weights = self._job = None

    def _make_workspace(self, rows, x):
        """Make room for batches of so many rows of x, and compile the layers' own kernels."""
        sparse = isinstance(x, SparseRows)
        if sparse:  # room for the entries of a batch, by column
            n_entries = x.most_entries(rows)
            self._column_end = aligned_zeros(self._net.n_inputs, np.int64)
            self._entry_row = aligned_zeros(n_entries, np.int32)
            self._entry_value = aligned_zeros(n_entries, self._net.dtype)
        if (rows, sparse) == (self._capacity, self._sparse):
            return
        dtype = self._net.dtype
        room = max(rows, TILE_ROWS)
        plan = build(
            self._net.layers, self._net.n_inputs, dtype, room, packed=True, dense_input=not sparse
        )
        self._complete(plan)
        self._plan = plan
        self._acts = aligned_zeros(self._plan.n_acts, dtype)
        self._deltas = aligned_zeros(self._plan.n_deltas, dtype)
        self._batch_loss = aligned_zeros(rows, np.float64)
        self._row_loss = aligned_zeros(rows, np.float64)
        self._penalty = aligned_zeros(self._plan.n_cells, np.float64)
        self._squares = aligned_zeros(self._plan.n_cells, np.float64)
        self._pace = Pace(self._plan.flops * rows, self.n_threads, self.use_all_threads)
        self._sizes = aligned_zeros(self.n_threads * SIZES, np.float64)
        block = (BLOCK_ROWS + 1) * panel_columns(dtype)  # of weights, and of biases
        self._scratch = aligned_zeros(self.n_threads * block, dtype)
        self._capacity, self._sparse = rows, sparse

    def _complete(self, plan):
        """Write into a plan what the net's layers do not know by themselves."""
        link(plan, self._net.dtype)
        for operation, numbers, layer in zip(
            plan.operations, plan.numbers, plan.layers, strict=True
        ):
            if operation[codes.KIND] == codes.AFFINE:
                rule = layer.regularization or self._regularization
                decay = rule.weight_decay
                numbers[codes.L1], numbers[codes.L2] = rule.l1, rule.l2
                numbers[codes.DECAY] = self._optimizer.weight_decay if decay is None else decay
                numbers[codes.MAX_NORM] = rule.max_norm
                if self._optimizer.rule == codes.GRADIENT:  # moves no parameter
                    numbers[codes.DECAY], numbers[codes.MAX_NORM] = 0, np.inf
                if numbers[codes.MAX_NORM] < np.inf:
                    for column, address in max_norm_members(self._net.dtype).items():
                        operation[column] = address
            elif layer.only_in_training:
                operation[codes.SEED] = layer.noise_seed
                operation[codes.FIRST_STEP] = self._first_noise[self._noisy.index(layer)]

    def run_epoch(self, order, on_progress=None, rates=None):
        """Train once through the samples named by `order`, in batches.

        Parameters
        ----------
        order : array_like (M,) of int
            Samples in the order of training. The last batch may be smaller.
        on_progress : callable, optional
            Called with (samples_done, mean_loss) after every 80 ms or so, and at the end.
        rates : array_like (batches,), optional
            Learning rate of each batch; default `learning_rate`.

        Returns
        -------
        data_loss : float
            Mean loss of the samples, each at the time it was trained on.
        penalty : float
            Mean over the samples of the penalty of their batch.

        Notes
        -----
        At the first batch whose loss is not finite the epoch ends, and `data_loss` is NaN or
        infinite; if only the weights are not finite in the end, it is NaN. `divergence` says
        where. The parameters are put back to what they were before the epoch, and the optimizer
        begins anew.
        """
        if self._x is None:
            raise RuntimeError("run_epoch needs set_data before it")
        order = as_array("order", order)
        if (
            order.dtype.kind not in "iu"
            or order.ndim != 1
            or order.size == 0
            or order.min() < 0
            or order.max() >= len(self._x)
        ):
            raise ValueError(
                f"order must be a vector of integers from 0 to {len(self._x) - 1}, "
                f"got {shown(order)}"
            )
        if on_progress is not None and not callable(on_progress):
            raise ValueError(f"on_progress must be a function, got {shown(on_progress)}")
        order, n = kernel_array(order, np.int64), len(order)
        self._check_batches(n, self._capacity)
        n_steps = -(-n // self._capacity)
        rates = (
            np.full(n_steps, self.learning_rate)
            if rates is None
            else check_weights(rates, n_steps, "rates", least=0)
        )
        self._row_loss[:] = 0
        self._penalty[:] = 0
        self.divergence = None
        if self._moves:
            self._good[:] = self._params
        if self._job is None:
            self._job = self._make_job(order)
        job = self._job
        batch_weight = self._weigh_batches(order)
        job["order"], job["n_order"], job["alpha"] = order, n, self.alpha
        job["batch_weight"], job["rates"] = batch_weight, rates
        step = 0
        while step < n_steps:
            n_threads, steps = self._pace.next_call()
            end = min(step + steps, n_steps)
            self._run_steps(job, step, end, n_threads)
            step = end
            if job["stopped_at"] >= 0:
                break
            if on_progress is not None:
                done = min(step * self._capacity, n)
                on_progress(done, float(self._row_loss.sum()) / done)
        data_loss, penalty = float(self._row_loss.sum()) / n, math.fsum(self._penalty) / n
        if self._moves and not (math.isfinite(data_loss) and _is_finite(self._params)):
            data_loss = data_loss if not math.isfinite(data_loss) else math.nan
            self._turn_back(data_loss, n_steps, rates)
        return data_loss, penalty

    def _turn_back(self, data_loss, n_steps, rates):
        """Say what broke down in this epoch, and undo it."""
        stopped_at = int(self._job["stopped_at"])
        batch = stopped_at if stopped_at >= 0 else n_steps - 1
        what = "the loss became " + ("NaN" if math.isnan(data_loss) else "infinite")
        if stopped_at < 0:
            what = "the weights became NaN or infinite"
        n_rows = min(self._capacity, int(self._job["n_order"]) - batch * self._capacity)
        tensors = self._unpacked(self._params)
        where = locate(self._net.layers, self._plan, tensors, self._acts, n_rows)
        self.divergence = Divergence(batch, what, where, float(rates[batch]))
        good = self._unpacked(self._good)
        pack(self._packed_plan, good, self._params, self._transposed)
        for vector in self._states:
            vector[:] = 0
        self._hyperparameters[codes.MOMENTUM_PRODUCT] = 1.0
        self._first_noise = [layer.step for layer in self._noisy]
        self.step_count = 0
        if self._noisy:
            self._complete(self._plan)

    def _weigh_batches(self, order):
        """Return the sum of the weights of each batch, which is its size without weights."""
        starts = np.arange(0, len(order), self._capacity)
        if len(self._weights):
            return np.add.reduceat(self._weights[order], starts)
        return np.minimum(len(order) - starts, self._capacity).astype(np.float64)

    def _make_job(self, order):
        """Return the job of all steps of an epoch, but for which of them."""
        x = self._x
        if self._sparse:
            x = self._x.data
            entries = {
                "indices": self._x.indices,
                "indptr": self._x.indptr,
                "column_end": self._column_end,
                "entry_row": self._entry_row,
                "entry_value": self._entry_value,
            }
        else:
            entries = dict.fromkeys(_ENTRIES, 0)
        loss_scale, gradient_scale = self.loss.scales(self._net.n_outputs)
        self._loss_parameters = self.loss.parameters(self._net.n_outputs)  # the job has its address
        plan = self._plan
        return Job(
            TRAINING_JOB,
            plan=plan.operations,
            numbers=plan.numbers,
            tasks=plan.tasks,
            cost_before=plan.cost_before,
            params=self._params,
            state_1=self._states[0],
            state_2=self._states[1],
            transposed=self._transposed,
            gradient=self._gradient,
            squares=self._squares,
            acts=self._acts,
            deltas=self._deltas,
            scratch=self._scratch,
            x=x,
            **entries,
            labels=self._labels,
            targets=self._targets,
            sample_weight=self._weights,
            order=order,
            batch_weight=0,
            rates=0,
            batch_loss=self._batch_loss,
            row_loss=self._row_loss,
            penalty=self._penalty,
            hyperparameters=self._hyperparameters,
            loss_parameters=self._loss_parameters,
            n_operations=len(plan.operations),
            n_tasks=len(plan.tasks),
            n_units=plan.n_cells,
            n_samples=len(self._x),
            n_inputs=self._net.n_inputs,
            n_outputs=self._net.n_outputs,
            n_targets=self._net.n_outputs if len(self._targets) else 0,
            n_order=len(order),
            batch_size=self._capacity,
            first_step=0,
            last_step=0,
            updates_before=0,
            stopped_at=-1,
            rule=self._optimizer.rule,
            loss=loss_member(self.loss.code(len(self._labels) > 0), self._net.dtype),
            update=rule_member(self._optimizer.rule, self._net.dtype),
            sizes=self._sizes,
            is_weighted=len(self._weights) > 0,
            is_constrained=bool(plan.operations[:, codes.CONSTRAIN].any()),
            scratch_size=len(self._scratch) // self.n_threads,
            alpha=self.alpha,
            loss_scale=loss_scale,
            gradient_scale=gradient_scale,
            clip_norm=self._optimizer.clip_norm or np.inf,
        )

    def _run_steps(self, job, first, last, n_threads):
        job["first_step"], job["last_step"] = first, last
        job["updates_before"] = self.step_count
        member = training_member(self._net.dtype, self._sparse)  # compiles, the first time
        began = time.perf_counter()
        try:
            launch(member, job, n_threads)
        finally:  # Ctrl-C meanwhile is raised right behind the kernel
            self.step_count = int(job["updates_before"])
            for layer, before in zip(self._noisy, self._first_noise, strict=True):
                layer.step = before + self.step_count
        self._pace.record(n_threads, last - first, time.perf_counter() - began)


def _is_finite(vector):
    """Whether all elements are finite; a sum finds that out without a vector of answers."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(vector.sum()) or np.isfinite(vector).all())


def _shapes(tensors):
    return [[None if array is None else array.shape for array in arrays] for arrays in tensors]
