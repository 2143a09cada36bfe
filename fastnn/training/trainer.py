"""`Trainer`: epochs of compiled steps on a net."""

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastnn import losses, optimizers
from fastnn.engine.plan import Holding
from fastnn.engine.sparse_rows import check_samples
from fastnn.errors import shown
from fastnn.kernels.updates import GRADIENT_ALONE, RULES, Rule
from fastnn.layers import Affine, BatchNorm
from fastnn.losses import Loss
from fastnn.optimizers import Optimizer
from fastnn.regularization import Regularization
from fastnn.runtime import threads
from fastnn.training.data import TrainingData, check_data
from fastnn.training.divergence import Divergence, is_finite, turn_back
from fastnn.training.memory import TrainingMemory
from fastnn.training.thread_choice import Pace
from fastnn.validation import (
    Table,
    as_array,
    check_integer,
    check_number,
    check_weights,
    kernel_array,
)


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
    start_loss : float
        Mean loss of the first batch of the data, before its update; NaN before it is trained.
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
        self,
        net: Any,
        loss: str | Loss,
        optimizer: str | Optimizer,
        batch_size: int,
        alpha: float = 0.0,
        n_threads: int | None = None,
        regularization: Regularization | None = None,
    ) -> None:
        if not hasattr(net, "check_samples"):
            raise ValueError(f"net must be a Sequential, got {shown(net)}")
        self._net = net
        self.loss = losses.get(loss)
        self._optimizer = optimizers.get(optimizer)
        self.learning_rate = self._optimizer.learning_rate
        self.batch_size = check_integer("batch_size", batch_size, 1)
        self.alpha = check_number("alpha", alpha)
        self.n_threads = threads.check_num_threads(n_threads)
        self._regularization = Regularization.of(regularization) or Regularization()
        if self.loss.takes_logits:
            net.check_ends_in_logits(self.loss)
        self.step_count = 0
        self.use_all_threads = False
        self.divergence: Divergence | None = None
        self.start_loss = math.nan
        self._data: Any = None
        self._pace: Any = None
        self._has_batch_norm = any(isinstance(layer, BatchNorm) for layer in net.leaves())
        self._noisy = [layer for layer in net.leaves() if layer.only_in_training]
        self._first_noise = [layer.step for layer in self._noisy]
        self._memory = TrainingMemory(net, self._optimizer, self._held, self.n_threads)

    def _held(self, layer: Any) -> Holding:
        """Return what holds the weights of a layer back."""
        if not isinstance(layer, Affine):
            return Holding()
        rule = layer.regularization or self._regularization
        if self._optimizer.rule is GRADIENT_ALONE:  # moves no parameter
            return Holding(rule.l1, rule.l2)
        decay = self._optimizer.weight_decay if rule.weight_decay is None else rule.weight_decay
        return Holding(rule.l1, rule.l2, decay, rule.max_norm)

    # Plans and jobs hold addresses, which mean nothing in another process or for other arrays. A
    # copy or a pickle has what they are made from instead, in the order that users see.

    def __getstate__(self) -> dict[str, Any]:
        data = self._data
        return {
            "arguments": (
                self._net,
                self.loss,
                self._optimizer,
                self.batch_size,
                self.alpha,
                self.n_threads,
                self._regularization,
            ),
            "use_all_threads": self.use_all_threads,
            "parameters": self._memory.layout.unpacked(self._memory.params),
            "state": self.state(),
            "data": None if data is None else (data.x, data.y, data.weights),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        net, loss, optimizer, batch_size, alpha, n_threads, regularization = state["arguments"]
        n_threads = min(n_threads, threads.get_num_threads())  # it may come from a larger machine
        self.__init__(  # type: ignore[misc]
            net, loss, optimizer, batch_size, alpha, n_threads, regularization
        )
        self.use_all_threads = state["use_all_threads"]
        memory = self._memory
        memory.layout.pack(state["parameters"], memory.params, memory.transposed)
        self.restore(state["state"])
        if state["data"] is not None:
            x, y, weights = state["data"]
            self.set_data(x, y, weights if len(weights) else None)

    @property
    def learning_rate(self) -> float:
        """The optimizer's learning rate; may be changed between epochs."""
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self._learning_rate = check_number("learning_rate", value)

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer, as it was before the training."""
        return self._optimizer

    @property
    def regularization(self) -> Regularization:
        """That of the weights of all layers that have none of their own."""
        return self._regularization

    @property
    def n_samples(self) -> int:
        """Number of samples of the data set."""
        return len(self._data)

    @property
    def memory(self) -> TrainingMemory:
        """The packed parameters, the optimizer's states, and all else that training needs."""
        return self._memory

    def pull(self) -> None:
        """Read the net's parameters again, after something else changed them."""
        self._memory.pull()

    def sync(self) -> None:
        """Write the trained parameters back to the net."""
        self._memory.push()

    def state_vectors(self) -> list[list[tuple[np.ndarray, ...]]]:
        """Return the optimizer's states, shaped as the net's `tensors`."""
        layout = self._memory.layout
        return [layout.tensors(vector) for vector in self._memory.state_vectors()]

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs to go on with this optimizer, on any machine."""
        return {
            "rule": _number_of(self._optimizer.rule),
            "learning_rate": self.learning_rate,
            "step_count": self.step_count,
            "momentum_product": self._memory.rule_memory,
            "noise": [(layer.noise_seed, layer.step) for layer in self._noisy],
            "vectors": self.state_vectors(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on with the state of another trainer's optimizer, of the same rule.

        Raises
        ------
        ValueError
            If it is of another rule, or of a net of other shapes.
        """
        shapes = _shapes(self._net.tensors())
        try:
            fits = (
                state["rule"] == _number_of(self._optimizer.rule)
                and all(_shapes(tensors) == shapes for tensors in state["vectors"])
                and len(state["noise"]) == len(self._noisy)
            )
        except (TypeError, LookupError, AttributeError):
            fits = False
        if not fits:
            raise ValueError("state must come from a trainer of the same rule and shapes")
        layout = self._memory.layout
        self._memory.set_state_vectors([layout.vector_of(v) for v in state["vectors"]])
        self.learning_rate, self.step_count = state["learning_rate"], state["step_count"]
        self._memory.rule_memory = state["momentum_product"]
        for layer, noise in zip(self._noisy, state["noise"], strict=True):
            layer.noise_seed, layer.step = noise
        self._begin_noise_at(self.step_count)

    def _begin_noise_at(self, step_count: int) -> None:
        """Let random numbers go on from where each layer is, after so many updates."""
        self._first_noise = [layer.step - step_count for layer in self._noisy]
        if self._memory.plan is not None:
            self._set_noise()

    def _set_noise(self) -> None:
        for layer, first in zip(self._noisy, self._first_noise, strict=True):
            self._memory.plan.set_noise(layer, first)

    def set_data(self, X: Table, y: ArrayLike, sample_weight: ArrayLike | None = None) -> None:
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
        x = check_samples(X, net.dtype, net.n_inputs, net.takes_sparse)
        self.use(check_data(net, x, y, self.loss, sample_weight))

    def use(self, data: TrainingData) -> None:
        """Set what the next epochs train on: a `fastnn.training.data.TrainingData`."""
        rows = min(self.batch_size, len(data))
        self._check_batches(len(data), rows)
        self.release_data()  # a layer's kernels may turn out not to compile
        if self._memory.prepare(data.x, rows):
            self._set_noise()
            flops = self._memory.plan.flops * rows
            self._pace = Pace(flops, self.n_threads, self.use_all_threads)
        self._data = data
        self.start_loss = math.nan

    def _check_batches(self, n: int, rows: int) -> None:
        """Refuse a batch of a single row where statistics over a batch are needed."""
        if n % rows == 1 % rows and self._has_batch_norm:
            raise ValueError(
                f"batch_size must leave at least 2 rows for each batch with BatchNorm, got {rows} "
                f"for {n} rows: the last batch has 1"
            )

    def release_data(self) -> None:
        """Forget the data, but not the state of the optimizer: `set_data` comes next."""
        self._data = None
        self._memory.release()

    def run_epoch(
        self,
        order: ArrayLike,
        on_progress: Callable[[int, float], object] | None = None,
        rates: ArrayLike | None = None,
    ) -> tuple[float, float]:
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
        if self._data is None:
            raise RuntimeError("run_epoch needs set_data before it")
        order = self._checked_order(order)
        if on_progress is not None and not callable(on_progress):
            raise ValueError(f"on_progress must be a function, got {shown(on_progress)}")
        memory, n = self._memory, len(order)
        self._check_batches(n, memory.rows)
        n_steps = -(-n // memory.rows)
        rates = (
            np.full(n_steps, self.learning_rate)
            if rates is None
            else check_weights(rates, n_steps, "rates", least=0)
        )
        self.divergence = None
        memory.remember()
        if memory.job is None:
            memory.start(self._data, self.loss)
        memory.begin_epoch(order, self._weigh_batches(order), rates, self.alpha)
        step = 0
        while step < n_steps and memory.stopped_at < 0:
            step = self._run_steps(step, n_steps)
            if on_progress is not None and memory.stopped_at < 0:
                done = min(step * memory.rows, n)
                on_progress(done, float(memory.row_loss.sum()) / done)
        data_loss = float(memory.row_loss.sum()) / n
        penalty = math.fsum(memory.penalty) / n
        if memory.moves and not (math.isfinite(data_loss) and is_finite(memory.params)):
            data_loss = data_loss if not math.isfinite(data_loss) else math.nan
            self.divergence = turn_back(memory, data_loss, rates)
            self.step_count = 0
            self._begin_noise_at(0)
        return data_loss, penalty

    def constant_loss(self) -> float:
        """Return what the loss of the last epoch would be for the best constant guess.

        Returns
        -------
        float
            With the samples and the weights of that epoch; infinity if the weights are none that
            a mean can have, some of them negative or all of them 0.
        """
        order, batch_weight, _ = self._memory.epoch
        data, rows, n, own = self._data, self._memory.rows, len(order), None
        if len(data.weights):
            totals = np.repeat(batch_weight, rows)[:n]
            sizes = np.minimum(n - np.arange(n) // rows * rows, rows)
            own = data.weights[order] * sizes
            own = np.divide(own, totals, out=np.zeros(n), where=totals != 0)
        weights = np.bincount(order, own, len(data))
        if weights.min() < 0 or not 0 < weights.sum() < math.inf:
            return math.inf
        with np.errstate(over="ignore", invalid="ignore"):
            return self.loss.constant_loss(data.labels, data.targets, weights)

    def _checked_order(self, order: ArrayLike) -> np.ndarray:
        """Return the order of samples as kernels take it, or raise ValueError."""
        order = as_array("order", order)
        n = len(self._data)
        if (
            order.dtype.kind not in "iu"
            or order.ndim != 1
            or order.size == 0
            or order.min() < 0
            or order.max() >= n
        ):
            raise ValueError(
                f"order must be a vector of integers from 0 to {n - 1}, got {shown(order)}"
            )
        return kernel_array(order, np.int64)

    def _weigh_batches(self, order: np.ndarray) -> np.ndarray:
        """Return the sum of the weights of each batch, which is its size without weights."""
        rows, weights = self._memory.rows, self._data.weights
        starts = np.arange(0, len(order), rows)
        if len(weights):
            return np.add.reduceat(weights[order], starts)
        return np.minimum(len(order) - starts, rows).astype(np.float64)

    def _run_steps(self, step: int, n_steps: int) -> int:
        """Run some of the steps that are left; return how many have been made then."""
        n_threads, steps = self._pace.next_call()
        is_first = math.isnan(self.start_loss)
        last = min(step + (1 if is_first else steps), n_steps)
        began = time.perf_counter()
        try:
            self._memory.run_steps(step, last, self.step_count, n_threads)
        finally:  # Ctrl-C meanwhile is raised right behind the kernel
            self.step_count = self._memory.end_steps()
            for layer, before in zip(self._noisy, self._first_noise, strict=True):
                layer.step = before + self.step_count
        self._pace.record(n_threads, last - step, time.perf_counter() - began)
        if is_first:
            n_rows = min(self._memory.rows, int(self._memory.job["n_order"]))
            self.start_loss = float(self._memory.row_loss.sum()) / n_rows
        return last


def _number_of(rule: Rule) -> int:
    """Return the position of an update rule in the table, by which checkpoints know it."""
    rules = [*RULES.values()]
    return rules.index(rule) if rule in rules else len(rules)


def _shapes(tensors: list[tuple[np.ndarray, ...]]) -> list[list[tuple[int, ...]]]:
    return [[array.shape for array in arrays] for arrays in tensors]
