"""`Sequential`: layers in a row, trained as one compiled plan."""

import copy
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from fastnn import losses, schedules
from fastnn.callbacks import Callback, check_callbacks, for_verbosity, telling
from fastnn.engine.layout import ParameterLayout
from fastnn.engine.predictor import Predictor
from fastnn.engine.sparse_rows import SparseRows, check_samples
from fastnn.errors import ModelFileError, reason, shown
from fastnn.files.model_file import model_bytes, read_model, write_model
from fastnn.kernels.memory import aligned_zeros
from fastnn.layers import (
    Affine,
    BatchNorm,
    Dropout,
    Identity,
    Layer,
    LayerNorm,
    ParametricLayer,
    Residual,
    Sigmoid,
    Softmax,
)
from fastnn.layers.serialize import describe, layers_of
from fastnn.optimizers import Optimizer
from fastnn.regularization import Regularization
from fastnn.runtime import threads
from fastnn.summary import Summary
from fastnn.training import Trainer
from fastnn.training.data import check_data
from fastnn.training.divergence import DivergenceWarning, first_not_finite
from fastnn.training.evaluation import mean_loss, score, score_name
from fastnn.training.run import History, Run, default_epochs
from fastnn.validation import (
    MOST,
    Seed,
    Table,
    check_dtype,
    check_flag,
    check_inputs,
    check_integer,
    check_seed,
    check_targets,
)

_EPOCHS_CHECKED = 5000
"""Of a schedule before training: half a second. So many, and up to twice as many, are all."""


class Sequential:
    """A net of layers in a row.

    Parameters
    ----------
    layers : sequence of Layer
        At least one `Affine` among them. Layers that have parameters already keep their values.
    seed : int or numpy.random.Generator, optional
        For the initial parameters and for shuffling.
    dtype : {"float32", "float64"}, default "float32"
        Of the parameters and of all arithmetic.

    Attributes
    ----------
    layers : list of Layer
    params : ndarray (P,)
        All parameters in one vector; each layer's `params` are views of it.
    n_inputs, n_outputs, n_params : int
    dtype : numpy.dtype
    history : History or None
        Of the last `fit`, even of one that was interrupted.

    Raises
    ------
    ValueError
        If the layers do not fit together.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import Affine, ReLU, Sequential
    >>> X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    >>> net = Sequential([Affine(2, 8), ReLU(), Affine(8, 2)], seed=0)
    >>> history = net.fit(X, [0, 1, 1, 0], epochs=200, batch_size=4)
    >>> net.predict(X).shape
    (4, 2)
    """

    def __init__(
        self, layers: Iterable[Layer], *, seed: Seed = None, dtype: DTypeLike = "float32"
    ) -> None:
        self.dtype = check_dtype(dtype)
        self._rng = check_seed(seed)
        self.history: History | None = None
        self._seed = None if isinstance(seed, np.random.Generator) or seed is None else int(seed)
        if isinstance(layers, (str, Layer)) or not isinstance(layers, Iterable):
            raise ValueError(f"layers must be a list of layers, got {shown(layers)}")
        try:
            self.layers = list(layers)
        except TypeError:  # an array without dimensions
            raise ValueError(f"layers must be a list of layers, got {shown(layers)}") from None
        self.n_inputs, self.n_outputs = self._check_layers()
        self._parametric = [x for x in self.leaves() if isinstance(x, ParametricLayer)]
        self.n_params = sum(layer.n_params for layer in self._parametric)
        for layer in self.leaves():
            if layer.only_in_training:
                layer.draw_seed(self._rng)
        self._bind()

    def leaves(self) -> Iterator[Layer]:
        """Yield all layers that do the work: those of a residual block one by one."""
        for layer in self.layers:
            yield from layer.leaves()

    def _check_layers(self) -> tuple[int, int]:
        """Check that the layers fit; return the widths at both ends."""
        for k, layer in enumerate(self.layers):
            if not isinstance(layer, Layer):
                raise ValueError(f"layers[{k}] must be a Layer, got {shown(layer)}")
        seen: dict[int, Layer] = {}  # by identity: there may be many
        for k, outer in enumerate(self.layers):
            for layer in outer.leaves():
                if id(layer) in seen:
                    raise ValueError(f"layers[{k}] is used twice: {layer!r}")
                if isinstance(layer, ParametricLayer) and layer.in_net:
                    raise ValueError(
                        f"layers[{k}] is in another net already: {layer!r}; use a copy of it"
                    )
                seen[id(layer)] = layer
        leaves = seen.values()
        if not any(isinstance(layer, Affine) for layer in leaves):
            raise ValueError(f"layers must hold at least one Affine, got {shown(self.layers)}")
        first = next(x.n_inputs for x in leaves if isinstance(x, ParametricLayer))
        return first, _check_widths(self.layers, first, "layers")

    def _bind(self) -> None:
        """Let all layers' parameters be views of one vector; draw those without values."""
        self.layout = ParameterLayout(list(self.leaves()), self.dtype)
        self.memory = aligned_zeros(self.layout.size, self.dtype)
        self.params = self.memory[: self.n_params]
        offset, place = 0, self.n_params
        fresh = []
        for layer in self._parametric:
            if not layer.initialized:
                fresh.append(layer)
            layer.bind(
                self.memory[offset : offset + layer.n_params],
                self.memory[place : place + layer.n_buffers],
            )
            offset += layer.n_params
            place += layer.n_buffers
            layer.in_net = True
        try:
            for layer in fresh:
                layer.initialize(self._rng, self._activation_after(layer))
        except BaseException:  # of a function that draws weights
            for layer in self._parametric:
                layer.in_net = False
            for layer in fresh:
                layer.forget()
            raise
        self._predictor = self.make_predictor()

    def make_predictor(self, packed: np.ndarray | None = None) -> Predictor:
        """Return the compiled forward pass of the net, or of packed parameters instead of its own.

        Parameters
        ----------
        packed : ndarray, optional
            As `ParameterLayout.pack` makes them.
        """
        return Predictor(
            self.layers, self.n_inputs, self.n_outputs, self.layout, self.memory, packed
        )

    def _activation_after(self, layer: Layer) -> Layer | None:
        """Return the layer that decides how another one's weights begin, or None at the end."""
        between = (BatchNorm, LayerNorm, Dropout)
        leaves = [leaf for leaf in self.leaves() if leaf is layer or not isinstance(leaf, between)]
        place = next(k for k, leaf in enumerate(leaves) if leaf is layer) + 1
        return leaves[place] if place < len(leaves) else None

    # A copy or a pickle holds each layer's parameters; they become views of one vector again.

    def __getstate__(self) -> dict[str, Any]:
        views = ("memory", "params", "layout", "_predictor")
        return {name: value for name, value in vars(self).items() if name not in views}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._bind()

    def __copy__(self) -> "Sequential":
        return copy.deepcopy(self)  # two nets cannot share a vector of parameters

    def __repr__(self) -> str:
        layers = ", ".join(map(repr, self.layers))
        return f"Sequential([{layers}], dtype={self.dtype.name!r})"

    def summary(self) -> Summary:
        """Return a table of the layers: shapes, parameters and activations.

        Returns
        -------
        Summary
            Printed, it is a table; a notebook shows it, and the net itself, as one too.

        Examples
        --------
        >>> from fastnn import Affine, BatchNorm, Sequential, Tanh
        >>> net = Sequential([Affine(4, 8, bias=False), BatchNorm(8), Tanh(), Affine(8, 1)])
        >>> net.summary()
           layer            shape             parameters  activation
        0  Affine, no bias  (N, 4) -> (N, 8)          32
        1  BatchNorm        (N, 8) -> (N, 8)          16  Tanh
        3  Affine           (N, 8) -> (N, 1)           9
        57 parameters and 16 running statistics of float32, 292 bytes
        """
        return Summary(self.layers, self.n_inputs, self.dtype)

    def _repr_html_(self) -> str:
        """Return the table of `summary` as HTML, which notebooks show."""
        return self.summary()._repr_html_()

    def weights(self) -> list[tuple[np.ndarray, np.ndarray | None]]:
        """Return the pairs (w, b) of all affine layers; b is None where there is no bias."""
        layers = (layer for layer in self._parametric if isinstance(layer, Affine))
        return [(layer.params["w"], layer.params.get("b")) for layer in layers]

    def tensors(self) -> list[tuple[np.ndarray, ...]]:
        """Return of each layer with parameters a tuple of them, then of its running statistics."""
        return self.layout.tensors(self.memory)

    def check_ends_in_logits(self, loss: losses.Loss) -> None:
        """Raise ValueError if the net ends in what `loss` applies by itself.

        Whatever comes after it and lets numbers pass, like `Dropout`, makes no difference.
        """
        last = next(x for x in reversed(self.layers) if not isinstance(x, (Dropout, Identity)))
        if isinstance(last, (Softmax, Sigmoid)):
            raise ValueError(f"loss {loss.name!r} takes logits: remove the last layer, {last!r}")

    def fit(
        self,
        X: Table,
        y: ArrayLike,
        *,
        loss: str | losses.Loss = "softmax_cross_entropy",
        optimizer: str | Optimizer = "adam",
        epochs: int | None = None,
        batch_size: int = 128,
        shuffle: bool = True,
        validation_data: tuple[Table, ArrayLike] | None = None,
        n_threads: int | None = None,
        verbose: bool | int = 0,
        callbacks: Sequence[Callback] = (),
        alpha: float = 0.0,
        schedule: schedules.ScheduleLike = "constant",
        regularization: Regularization | None = None,
        sample_weight: ArrayLike | None = None,
        class_weight: Mapping[Any, float] | Sequence[float] | np.ndarray | str | None = None,
    ) -> History:
        """Train the net.

        Parameters
        ----------
        X : array_like (N, I)
            Finite numbers.
        y : array_like
            (N,) integer classes or (N, O) weights of the classes, usually probabilities, for
            "softmax_cross_entropy"; (N, O), or (N,) for one output, in [0, 1] for
            "binary_cross_entropy", at least 0 for "poisson", any finite number for the others. One
            column for several quantiles.
        loss : str or Loss, default "softmax_cross_entropy"
            "softmax_cross_entropy", "binary_cross_entropy", "poisson" (all of which take
            logits), "mse", "squared_error", "mae", "huber", "quantile", or an object of
            `fastnn.losses` such as ``Huber(delta=2)``.
        optimizer : str or Optimizer, default "adam"
            "sgd", "rmsprop", "adam", "adamw", "adagrad", "nadam", or an object such as
            ``Adam(1e-3)``.
        epochs : int, optional
            Passes through the data. By default 10, or as many as 2000 updates take if these are
            more: with batches of 128, for fewer than 25 473 rows.
        batch_size : int, default 128
            Rows of an update; the last batch of an epoch may be smaller.
        shuffle : bool, default True
            Whether each epoch has an order of its own.
        validation_data : (X_val, y_val), optional
            Evaluated after each epoch.
        n_threads : int, optional
            The most to use; default `fastnn.get_num_threads()`. The result does not depend on it.
        verbose : int, default 0
            1 shows a progress bar.
        callbacks : sequence of Callback
            See `fastnn.callbacks`.
        alpha : float, default 0
            L2 penalty as in scikit-learn: ``alpha / 2 * sum(w^2) / batch rows``, without biases.
        regularization : Regularization, optional
            Penalties, decay and limit of the weights of all layers that have none of their own.
        schedule : str or callable, default "constant"
            How the learning rate goes on from epoch to epoch: "constant", "linear", "step",
            "exponential", "cosine", "one_cycle", "inverse_scaling", an object of
            `fastnn.schedules` such as ``Cosine(warmup=5)``, or any function
            ``(epoch, epochs) -> factor``. Most nets end better with "linear" or "cosine",
            which lower the rate to almost nothing.
        sample_weight : array_like (N,), optional
            A batch's loss and gradient are means weighted by it. Validation has no weights.
        class_weight : dict, sequence of float, or "balanced", optional
            A weight for each class, which those of the samples are multiplied by, for a
            classification with one class for each sample. A class that a dict leaves out weighs 1;
            "balanced" lets all classes count alike: see `fastnn.training.class_weight`.

        Returns
        -------
        History
            Figures by epoch: "loss", "seconds" and "samples_per_second" (of training alone, without
            compiling and validation), "val_loss", ...

        Raises
        ------
        ValueError
            If an argument is out of range, or a parameter of the net is not finite, before
            anything is changed.

        Warns
        -----
        RuntimeWarning
            If the training diverges; `History.divergence` says so too. Either the loss or the
            weights stop being finite: in which epoch, batch and layer. Training ends, and the net
            has the parameters of the epoch before. Or the loss, without penalties, rises tenfold
            within the first epoch, or ends above that of the best constant guess (the entropy of
            the class frequencies, the variance of the targets, ...); after one epoch, or fewer
            than 100 updates, it must have doubled too. The net keeps its parameters then.

        Notes
        -----
        Ctrl-C takes effect after the batch, or the few batches, that a kernel is at: a tenth of a
        second for most nets. The net then has the parameters of the last batch that was trained,
        and `history` tells of the epochs that were finished.
        """
        if epochs is not None:
            epochs = check_integer("epochs", epochs, 1, MOST)
        callbacks = check_callbacks(callbacks)
        schedule = schedules.get(schedule)
        shuffle = check_flag("shuffle", shuffle)
        where = first_not_finite(self.layers)
        if where is not None:
            raise ValueError(f"parameters must be finite, got NaN or infinity in {where}")
        callbacks = [*callbacks, *for_verbosity(verbose)]
        trainer = Trainer(self, loss, optimizer, batch_size, alpha, n_threads, regularization)
        x = self.check_samples(X)
        if epochs is None:
            epochs = default_epochs(max(len(x), 1), trainer.batch_size)
        for epoch in range(0, epochs, max(1, epochs // _EPOCHS_CHECKED)):
            schedules.factor_at(schedule, epoch, epochs)
        data = check_data(self, x, y, trainer.loss, sample_weight, class_weight)
        validate: Callable[[], dict[str, float]] | None = None
        val_figures: Sequence[str] = ()
        rng = self._rng if shuffle else None
        with telling(callbacks):
            trainer.use(data)
            if validation_data is not None:
                validate = self._validator(validation_data, trainer)
                val_figures = ("val_loss", score_name(trainer.loss))
            run = Run(self, trainer, epochs, schedule, rng, validate, val_figures, callbacks)
            self.history = run.history
            history = run.train()
        if history.divergence is not None:
            advice = ": try another learning rate, or more epochs"
            if trainer.divergence is not None:
                advice = (
                    ". Training stopped, and the net has the parameters of the epoch before; try a "
                    "smaller learning rate"
                )
            warnings.warn(history.divergence + advice, DivergenceWarning, stacklevel=2)
        return history

    def _validator(self, validation_data: Any, trainer: Trainer) -> Callable[[], dict[str, float]]:
        """Return a function that evaluates what is being trained on the validation data."""
        loss = trainer.loss
        try:
            X, y = validation_data
        except (TypeError, ValueError):
            raise ValueError("validation_data must be a pair (X_val, y_val)") from None
        x = self.check_samples(X, "validation_data[0]")
        target = check_targets(y, loss, len(x), self.n_outputs, self.dtype, "validation_data[1]")
        if len(x) == 0:
            raise ValueError("validation_data must have at least 1 row, got 0")

        # Reads the parameters where training has them: nothing is unpacked or packed for it.
        predictor = self.make_predictor(trainer.memory.params)

        def validate() -> dict[str, float]:
            out = predictor.predict(x, trainer.n_threads)
            own = score(loss, out, *target)
            return {"val_loss": mean_loss(loss, out, *target), score_name(loss): own}

        return validate

    def predict(self, X: Table, *, n_threads: int | None = None) -> np.ndarray:
        """Return the net's output for each row: logits, where the loss takes logits.

        A row's output does not depend on the rows beside it, nor on the number of threads. NaN
        in a row gives NaN in its output.

        Parameters
        ----------
        X : array_like or scipy.sparse matrix (N, I)
            A sparse one is never made dense. The net must begin with an affine layer then.
        n_threads : int, optional
            The most to use; default `fastnn.get_num_threads()`.

        Returns
        -------
        ndarray (N, O)
        """
        return _predict(self, self._predictor, X, n_threads)

    def freeze(self) -> "FrozenNet":
        """Return a copy of the net that predicts only.

        Its weights can no longer change, so it rearranges them once and not in each call. That
        saves most for some rows of a wide net: with 32 rows up to half of the time.

        Returns
        -------
        FrozenNet

        Examples
        --------
        >>> import numpy as np
        >>> from fastnn import Affine, Sequential
        >>> net = Sequential([Affine(3, 2)], seed=0)
        >>> frozen = net.freeze()
        >>> bool((frozen.predict(np.ones((5, 3))) == net.predict(np.ones((5, 3)))).all())
        True
        """
        return FrozenNet(self)

    @property
    def takes_sparse(self) -> bool:
        """Whether samples may be sparse: the net begins with an affine layer."""
        return isinstance(self.layers[0], Affine)

    def check_samples(
        self, X: Table | SparseRows, name: str = "X", finite: bool = True
    ) -> np.ndarray | SparseRows:
        """Return samples as kernels take them: an array, or `fastnn.engine.sparse_rows.SparseRows`.

        Parameters
        ----------
        X : array_like or scipy.sparse matrix (N, I)
        name : str
            What to call it in errors.
        finite : bool
            Whether all values must be finite.

        Raises
        ------
        ValueError
            If it does not suit the net.
        """
        return check_samples(X, self.dtype, self.n_inputs, self.takes_sparse, name, finite)

    def forward(self, X: ArrayLike, training: bool = False) -> np.ndarray:
        """Return the output for X (B, I), layer by layer; each layer keeps what `backward` needs.

        The same numbers as `predict`, which runs the compiled plan (to rounding, where layers of
        other kinds than affine and activations are used).

        Parameters
        ----------
        X : array_like (B, I)
        training : bool, default False
            Whether `Dropout` drops, and `BatchNorm` takes the statistics of X.
        """
        training = check_flag("training", training)
        out = check_inputs(X, self.dtype, self.n_inputs, finite=False)
        for layer in self.layers:
            out = layer.forward(out, training)
        return out

    def backward(self, dout: ArrayLike) -> np.ndarray:
        """Return the gradient with respect to the input of the last `forward`.

        Parameters
        ----------
        dout : array_like (B, O)
            Gradient of the loss with respect to the output. Each layer's `grads` are overwritten.
        """
        dout = check_inputs(dout, self.dtype, self.n_outputs, "dout", finite=False)
        for layer in reversed(self.layers):
            dout = layer.backward(np.asarray(dout, self.dtype))
        return dout

    def loss(
        self, X: Table, y: ArrayLike, loss: str | losses.Loss = "softmax_cross_entropy"
    ) -> float:
        """Return the mean loss on some data, without any penalty.

        Parameters
        ----------
        X : array_like (N, I)
        y : array_like
            As for `fit`.
        loss : str or Loss

        Returns
        -------
        float
        """
        loss = losses.get(loss)
        if loss.takes_logits:
            self.check_ends_in_logits(loss)
        x = self.check_samples(X)
        target = check_targets(y, loss, len(x), self.n_outputs, self.dtype)
        if len(x) == 0:
            raise ValueError("X must have at least 1 row, got 0")
        out = self._predictor.predict(x, None)
        return mean_loss(loss, out, *target)

    def save(
        self,
        path: str | os.PathLike[str],
        metadata: Mapping[str, str] | None = None,
        tensors: Mapping[str, np.ndarray] | None = None,
        overwrite: bool = True,
    ) -> None:
        """Write the net to a safetensors file, whole or not at all.

        Parameters
        ----------
        path : str or path-like
        metadata : dict of str to str, optional
            Kept beside the net.
        tensors : dict of str to ndarray, optional
            Kept beside the net; names must not begin with "layers.".
        overwrite : bool, default True
            Whether an existing file may be replaced.

        Raises
        ------
        FileExistsError
            If the file exists and must not be replaced.
        ValueError
            If `load` could not read it: a layer holds a function of yours, or a parameter is not
            finite. A file that is there already stays as it is.
        """
        write_model(path, *self._file_parts(metadata, tensors), overwrite)

    def to_bytes(
        self,
        metadata: Mapping[str, str] | None = None,
        tensors: Mapping[str, np.ndarray] | None = None,
    ) -> bytes:
        """Return the content of the file that `save` writes.

        Parameters
        ----------
        metadata : dict of str to str, optional
        tensors : dict of str to ndarray, optional
            As for `save`.

        Returns
        -------
        bytes

        Raises
        ------
        ValueError
            As by `save`.
        """
        return model_bytes(*self._file_parts(metadata, tensors))

    def _file_parts(
        self, metadata: Mapping[str, str] | None, tensors: Mapping[str, np.ndarray] | None
    ) -> tuple[Any, Mapping[str, str], dict[str, np.ndarray]]:
        """Return header, metadata and arrays of a model file."""
        header, arrays = describe(self.layers, self.dtype, self._seed)
        for name, array in (tensors or {}).items():
            if str(name).startswith("layers."):
                raise ValueError(f"tensors must not use names of layers, got {shown(name)}")
            arrays[name] = array
        return header, metadata or {}, arrays

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Sequential":
        """Read a net from a file that `save` wrote. Nothing in the file is executed.

        Sizes are checked before memory is taken for them: parameters need twice what they take in
        the file. The net's random numbers begin anew, at its seed.

        Parameters
        ----------
        path : str or path-like

        Returns
        -------
        Sequential

        Raises
        ------
        OSError
            If there is no such file, or it cannot be read.
        ModelFileError
            If it is damaged, or is not a model file of this package.
        """
        header, _, tensors = read_model(path)
        return from_file_parts(path, header, tensors)


class FrozenNet:
    """A net that predicts only; made by `Sequential.freeze`.

    Parameters
    ----------
    net : Sequential
        It is copied.
    """

    def __init__(self, net: Sequential) -> None:
        self._net = copy.deepcopy(net)
        self._bind()

    def _bind(self) -> None:
        layout = self._net.layout
        packed = aligned_zeros(layout.n_packed, layout.dtype)
        layout.pack(self._net.memory, packed)
        self._predictor = self._net.make_predictor(packed)

    def __getstate__(self) -> dict[str, Any]:
        return {"_net": self._net}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._bind()

    def __repr__(self) -> str:
        return f"{self._net!r}.freeze()"

    def summary(self) -> Summary:
        """Return a table of the layers, as `Sequential.summary` does."""
        return self._net.summary()

    def _repr_html_(self) -> str:
        return self._net._repr_html_()

    def predict(self, X: Table, *, n_threads: int | None = None) -> np.ndarray:
        """Return the output for each row, in the same bits as `Sequential.predict`, which see."""
        return _predict(self._net, self._predictor, X, n_threads)


def _predict(net: Sequential, predictor: Predictor, X: Any, n_threads: int | None) -> np.ndarray:
    """Return the output of a predictor of a net, after checks."""
    if not predictor.takes(X):
        X = net.check_samples(X, finite=False)
    if n_threads is not None:
        n_threads = threads.check_num_threads(n_threads)
    return predictor.predict(X, n_threads)


def from_file_parts(
    path: str | os.PathLike[str], header: Any, tensors: dict[str, np.ndarray]
) -> Sequential:
    """Return the net that a model file describes; remove its arrays from `tensors`."""
    try:
        layers = layers_of(header, tensors)
        return Sequential(layers, seed=header["seed"], dtype=header["dtype"])
    except (TypeError, ValueError, RecursionError) as error:
        raise ModelFileError(
            f"path {str(path)!r} holds no model that can be read: {reason(error)}"
        ) from error


def _check_widths(layers: Iterable[Layer], width: int, name: str) -> int:
    """Check that layers fit one after the other; return the width of what comes out."""
    for k, layer in enumerate(layers):
        here = f"{name}[{k}]"
        if isinstance(layer, Residual):
            end = _check_widths(layer.layers, width, f"{here}.layers")
            if end != width:
                raise ValueError(
                    f"{here} must return as many columns as it takes, {width}, got {end}: {layer!r}"
                )
        elif isinstance(layer, ParametricLayer):
            if layer.n_inputs != width:
                raise ValueError(
                    f"{here} must take the {width} outputs before it, got {shown(layer)}"
                )
            width = layer.n_outputs
    return width
