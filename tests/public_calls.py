"""Every public function and method, with arguments that it accepts: what tests put odd values into.

`tests/reliability` gives each argument of each entry something else. A new public name has to get
an entry here, or a reason why it needs none: `missing_names` says which have neither.
"""

import functools
import importlib
import inspect
import pickle
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse

import fastnn
from fastnn import datasets, initializers, inspection, losses, optimizers, schedules
from fastnn import layers as layer_classes
from fastnn.data.dataset import guess_task
from fastnn.data.table_encoder import TableEncoder
from fastnn.engine.sparse_rows import SparseRows
from fastnn.layers import LAYERS
from fastnn.regularization import Regularization
from fastnn.training import Trainer, objective
from fastnn.training.class_weight import weigh_samples

ROWS, INPUTS, OUTPUTS = 6, 3, 2


class Stop(fastnn.Callback):
    """Ends a training after its first epoch, however many were asked for."""

    def on_epoch_end(self, epoch, logs):
        return True


class Call(NamedTuple):
    """A public function, and how to call it.

    Attributes
    ----------
    make : callable
        Returns the function: for a method, that of a new object, always in the same state.
    arguments : dict
        Values that are accepted.
    arrays : tuple of str
        The arguments that are arrays of numbers.
    sparse : bool
        Whether the first array may be a matrix of SciPy.
    foreign : bool
        Whether scikit-learn checks the arguments, so that errors are worded as its own.
    """

    make: Any
    arguments: dict
    arrays: tuple = ()
    sparse: bool = False
    foreign: bool = False


def features(n_columns=INPUTS, n_rows=ROWS):
    """Return small numbers, halves and wholes, of which no two rows are alike."""
    return np.array(
        [[(3 * i + 5 * j) % 7 / 2 - i % 2 for j in range(n_columns)] for i in range(n_rows)]
    )


X = features()
LABELS = np.array([0, 1, 1, 0, 1, 0])
TARGETS = features(OUTPUTS)
WEIGHTS = np.array([1.0, 2, 0, 1, 0.5, 1])


def new_net(n_inputs=INPUTS, *more, dtype="float32"):
    """Return a small net, the same each time."""
    fastnn_layers = [fastnn.Affine(n_inputs, 4), fastnn.ReLU(), fastnn.Affine(4, OUTPUTS)]
    return fastnn.Sequential([*fastnn_layers, *more], seed=3, dtype=dtype)


def check_samples_as_table(X):
    """Return samples as a net's kernels take them, but sparse ones as a table."""
    samples = rich_net().check_samples(X)
    if isinstance(samples, SparseRows):
        parts = samples.data, samples.indices, samples.indptr
        return scipy.sparse.csr_array(parts, shape=samples.shape).toarray()
    return samples


def rich_net():
    """Return a net with state of all kinds: noise, running statistics, a residual block."""
    block = fastnn.Residual([fastnn.Affine(4, 4), fastnn.GELU()])
    layers = [fastnn.Affine(INPUTS, 4), fastnn.BatchNorm(4), fastnn.Tanh(), block]
    layers += [fastnn.LayerNorm(4), fastnn.Dropout(0.25), fastnn.Affine(4, OUTPUTS)]
    return fastnn.Sequential(layers, seed=4)


LAYER_ARGUMENTS = {
    "Affine": {"n_inputs": INPUTS, "n_outputs": OUTPUTS, "seed": 1},
    "BatchNorm": {"n_features": INPUTS},
    "LayerNorm": {"n_features": INPUTS},
    "Dropout": {"rate": 0.5, "seed": 1},
}


def new_layer(name):
    """Return a layer for `INPUTS` columns."""
    if name == "Residual":
        return fastnn.Residual([fastnn.Affine(INPUTS, INPUTS, seed=2), fastnn.Tanh()])
    if name == "Activation":
        return fastnn.Activation(_square, _double)
    return LAYERS[name](**LAYER_ARGUMENTS.get(name, {}))


def _square(z):
    return z * z


def _double(z):
    return z + z


def _after_forward(model, columns=INPUTS):
    model.forward(features(columns))
    return model


def _trained(model):
    return model.fit(X, LABELS)


def new_trainer(with_data=True):
    """Return a trainer of a small net."""
    trainer = Trainer(rich_net(), "softmax_cross_entropy", "adam", 3)
    if with_data:
        trainer.set_data(X, LABELS)
    return trainer


def new_perceptron():
    """Return a neuron that has learned nothing."""
    return fastnn.Perceptron(INPUTS, weights=[0.5, -1, 2], bias=0.5, seed=0)


def _new_estimator(name, **arguments):
    small = {"hidden_layer_sizes": (4,), "max_iter": 20, "tol": 1e6, "random_state": 0}
    return getattr(fastnn, name)(**(small | {"n_iter_no_change": 1} | arguments))


@functools.cache
def _history():
    return new_net().fit(X, LABELS, epochs=2)


@functools.cache
def _table():
    return datasets.load("iris")


@functools.cache
def _encoder():
    return TableEncoder.fit(_table())


@functools.cache
def _figure():
    from matplotlib.figure import Figure

    return Figure(figsize=(1, 1)).subplots()


def _axes():
    _figure().clear()
    return _figure()


FIT = {"X": X, "y": LABELS, "epochs": 1, "batch_size": 4, "callbacks": [Stop()]}
FIT |= {"sample_weight": WEIGHTS, "validation_data": (X, LABELS), "shuffle": True}
FIT |= {"loss": "softmax_cross_entropy", "optimizer": "adam", "schedule": "cosine", "alpha": 0.1}
FIT |= {"n_threads": 1, "regularization": Regularization(l2=0.1), "class_weight": {1: 2.0}}
FIT |= {"verbose": 0}

CALLS = {
    "matmul": Call(
        lambda: fastnn.matmul,
        {
            "a": X,
            "b": features(4, INPUTS),
            "bias": np.arange(4.0),
            "activation": None,
            "out": None,
            "n_threads": None,
        },
        ("a", "b", "bias"),
    ),
    "set_num_threads": Call(lambda: fastnn.set_num_threads, {"n": None}),
    "Sequential": Call(
        lambda: fastnn.Sequential,
        {"layers": [fastnn.Softmax(), fastnn.ReLU()], "seed": 0, "dtype": "float32"},
    ),
    "Sequential.fit": Call(lambda: rich_net().fit, FIT, ("X", "y", "sample_weight")),
    "Sequential.predict": Call(lambda: rich_net().predict, {"X": X, "n_threads": 1}, ("X",), True),
    "Sequential.loss": Call(
        lambda: rich_net().loss,
        {"X": X, "y": LABELS, "loss": "softmax_cross_entropy"},
        ("X", "y"),
        True,
    ),
    "Sequential.forward": Call(lambda: rich_net().forward, {"X": X, "training": False}, ("X",)),
    "Sequential.backward": Call(
        lambda: _after_forward(rich_net()).backward, {"dout": TARGETS}, ("dout",)
    ),
    "Sequential.check_samples": Call(lambda: check_samples_as_table, {"X": X}, ("X",), True),
    "FrozenNet.predict": Call(
        lambda: rich_net().freeze().predict, {"X": X, "n_threads": 1}, ("X",), True
    ),
    "Perceptron": Call(
        lambda: fastnn.Perceptron,
        {"n_inputs": INPUTS, "weights": [1, 2, 3], "bias": 1.0, "threshold": None, "seed": 0},
        ("weights",),
    ),
    "Perceptron.fit": Call(
        lambda: new_perceptron().fit,
        {"X": X[:2], "y": LABELS[:2], "learning_rate": 1.0, "epochs": 1, "shuffle": True},
        ("X", "y"),
    ),
    "Perceptron.predict": Call(lambda: new_perceptron().predict, {"X": X}, ("X",)),
    "Perceptron.decision_function": Call(
        lambda: new_perceptron().decision_function, {"X": X}, ("X",)
    ),
    "Regularization": Call(
        lambda: Regularization, {"l1": 0.1, "l2": 0.2, "weight_decay": None, "max_norm": 3.0}
    ),
    "Regularization.of": Call(lambda: Regularization.of, {"value": None}),
    "SGD": Call(
        lambda: fastnn.SGD,
        {
            "learning_rate": 0.1,
            "momentum": 0.5,
            "nesterov": True,
            "clip_value": 1.0,
            "clip_norm": 1.0,
        },
    ),
    "RMSProp": Call(lambda: fastnn.RMSProp, {"learning_rate": 0.1, "rho": 0.9, "epsilon": 1e-7}),
    "AdaGrad": Call(lambda: fastnn.AdaGrad, {"learning_rate": 0.1, "epsilon": 1e-7}),
    **{
        name: Call(
            functools.partial(getattr, fastnn, name),
            {"learning_rate": 0.1, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8}
            | ({"weight_decay": 0.1} if name == "AdamW" else {}),
        )
        for name in ("Adam", "AdamW", "NAdam")
    },
    "optimizers.get": Call(lambda: optimizers.get, {"optimizer": "sgd"}),
    "losses.get": Call(lambda: losses.get, {"loss": "mse"}),
    "losses.SquaredError": Call(lambda: losses.SquaredError, {"reduction": "sum"}),
    "losses.Huber": Call(lambda: losses.Huber, {"delta": 1.0, "reduction": "mean"}),
    "losses.Quantile": Call(lambda: losses.Quantile, {"quantiles": [0.1, 0.5]}, ("quantiles",)),
    "losses.Poisson": Call(lambda: losses.Poisson, {"reduction": "mean"}),
    "losses.BinaryCrossEntropy": Call(
        lambda: losses.BinaryCrossEntropy, {"reduction": "mean", "label_smoothing": 0.1}
    ),
    "losses.SoftmaxCrossEntropy": Call(
        lambda: losses.SoftmaxCrossEntropy, {"label_smoothing": 0.1}
    ),
    "schedules.get": Call(lambda: schedules.get, {"schedule": "cosine"}),
    "schedules.StepDecay": Call(lambda: schedules.StepDecay, {"every": 2.0, "factor": 0.5}),
    "schedules.Exponential": Call(lambda: schedules.Exponential, {"factor": 0.5}),
    "schedules.Cosine": Call(lambda: schedules.Cosine, {"warmup": 1, "end": 0.1}),
    "schedules.OneCycle": Call(
        lambda: schedules.OneCycle, {"peak_at": 0.3, "start": 0.1, "end": 0.1}
    ),
    "schedules.InverseScaling": Call(lambda: schedules.InverseScaling, {"power": 0.5}),
    "EarlyStopping": Call(
        lambda: fastnn.EarlyStopping,
        {"monitor": "loss", "patience": 2, "min_delta": 0.0, "restore_best": True},
    ),
    "warmup": Call(lambda: fastnn.warmup, {"dtypes": (), "verbose": False, "progress": None}),
    "weigh_samples": Call(
        lambda: weigh_samples,
        {
            "class_weight": {0: 2.0},
            "y": LABELS,
            "loss": losses.get("softmax_cross_entropy"),
            "n_outputs": 2,
            "sample_weight": WEIGHTS,
        },
        ("y", "sample_weight"),
    ),
    "Trainer": Call(
        lambda: Trainer,
        {
            "net": new_net(),
            "loss": "mse",
            "optimizer": "sgd",
            "batch_size": 3,
            "alpha": 0.1,
            "n_threads": 1,
            "regularization": None,
        },
    ),
    "Trainer.set_data": Call(
        lambda: new_trainer(False).set_data,
        {"X": X, "y": LABELS, "sample_weight": WEIGHTS},
        ("X", "y", "sample_weight"),
        True,
    ),
    "Trainer.run_epoch": Call(
        lambda: new_trainer().run_epoch,
        {"order": np.array([5, 0, 3, 1, 2]), "on_progress": None, "rates": np.array([0.1, 0.2])},
        ("order", "rates"),
    ),
    "Trainer.restore": Call(lambda: new_trainer().restore, {"state": new_trainer().state()}),
    "Objective": Call(
        lambda: objective.Objective,
        {
            "net": new_net(),
            "loss": "softmax_cross_entropy",
            "X": X,
            "y": LABELS,
            "sample_weight": WEIGHTS,
            "alpha": 0.1,
            "n_threads": 1,
        },
        ("X", "y", "sample_weight"),
    ),
    "Objective.set_parameters": Call(
        lambda: objective.Objective(new_net(), "mse", X, TARGETS).set_parameters,
        {"vector": np.linspace(-1, 1, 26)},
        ("vector",),
    ),
    "Objective.__call__": Call(
        lambda: objective.Objective(new_net(), "mse", X, TARGETS).__call__,
        {"vector": np.linspace(-1, 1, 26)},
        ("vector",),
    ),
    "guess_task": Call(lambda: guess_task, {"y": LABELS}, ("y",)),
    "TableEncoder.fit": Call(
        lambda: TableEncoder.fit,
        {"data": _table(), "rows": np.arange(0, 150, 2), "task": None},
        ("rows",),
    ),
    "TableEncoder.transform": Call(
        lambda: _encoder().transform,
        {"data": _table(), "rows": np.arange(0, 150, 50), "dtype": "float32"},
        ("rows",),
    ),
    "TableEncoder.encode_target": Call(
        lambda: _encoder().encode_target,
        {"data": _table(), "rows": np.arange(0, 150, 50)},
        ("rows",),
    ),
    "TableEncoder.decode": Call(lambda: _encoder().decode, {"out": features(3)}, ("out",)),
    "datasets.load": Call(
        lambda: datasets.load,
        {
            "source": "iris",
            "target": -1,
            "header": None,
            "drop": (),
            "text": (),
            "needed": (),
            "optional": (),
        },
    ),
    "datasets.source_name": Call(lambda: datasets.source_name, {"source": "iris"}),
}

for _name in (*LAYERS, "Activation"):
    _class = getattr(layer_classes, _name)
    _arguments = {"Residual": {"layers": []}, "Activation": {"f": _square, "df": _double}}
    _given = (LAYER_ARGUMENTS | _arguments).get(_name, {})
    _rest = {
        name: parameter.default
        for name, parameter in inspect.signature(_class).parameters.items()
        if name not in _given
    }
    if _given or _rest:
        CALLS[_name] = Call(functools.partial(getattr, layer_classes, _name), _rest | _given)
    CALLS[f"{_name}.forward"] = Call(
        lambda name=_name: new_layer(name).forward, {"x": X, "training": False}, ("x",)
    )
    CALLS[f"{_name}.backward"] = Call(
        lambda name=_name: _after_forward(new_layer(name)).backward,
        {"dout": features(OUTPUTS if _name == "Affine" else INPUTS)},
        ("dout",),
    )

for _name in initializers.__all__:
    _function = getattr(initializers, _name)
    _first = {"rng": np.random.default_rng(0), "n_inputs": 2, "n_outputs": 3}
    _parameters = inspect.signature(_function).parameters
    _given = {name: _first.get(name, parameter.default) for name, parameter in _parameters.items()}
    _given |= {"get": {"name": "zeros"}, "default_for": {"activation": "relu"}}.get(_name, {})
    CALLS[f"initializers.{_name}"] = Call(functools.partial(getattr, initializers, _name), _given)

for _name in ("MLPClassifier", "MLPRegressor"):
    CALLS[f"{_name}.fit"] = Call(
        lambda name=_name: _new_estimator(name).fit,
        {"X": X, "y": LABELS, "sample_weight": WEIGHTS},
        ("X", "y", "sample_weight"),
        True,
        foreign=True,
    )
    CALLS[f"{_name}.partial_fit"] = Call(
        lambda name=_name: _new_estimator(name).partial_fit,
        {"X": X, "y": LABELS, "sample_weight": WEIGHTS}
        | ({"classes": [0, 1]} if _name == "MLPClassifier" else {}),
        ("X", "y", "sample_weight"),
        True,
        foreign=True,
    )
    CALLS[f"{_name}.predict"] = Call(
        lambda name=_name: _trained(_new_estimator(name)).predict,
        {"X": X},
        ("X",),
        True,
        foreign=True,
    )
    CALLS[f"{_name}.score"] = Call(
        lambda name=_name: _trained(_new_estimator(name)).score,
        {"X": X, "y": LABELS, "sample_weight": WEIGHTS},
        ("X", "y", "sample_weight"),
        True,
        foreign=True,
    )
    CALLS[f"{_name}.from_sklearn"] = Call(
        lambda name=_name: getattr(fastnn, name).from_sklearn,
        {"estimator": _new_estimator(_name).to_sklearn(), "n_threads": None, "dtype": "auto"},
        foreign=True,
    )
    for _argument in ("n_threads", "dtype"):  # the others are those of scikit-learn
        CALLS[f"{_name}({_argument})"] = Call(
            lambda name=_name, argument=_argument: (
                lambda **value: _trained(_new_estimator(name, **value))
            ),
            {_argument: {"n_threads": None, "dtype": "auto"}[_argument]},
            foreign=True,
        )
for _name in ("predict_proba", "predict_log_proba"):
    CALLS[f"MLPClassifier.{_name}"] = Call(
        lambda name=_name: getattr(_trained(_new_estimator("MLPClassifier")), name),
        {"X": X},
        ("X",),
        True,
        foreign=True,
    )

IMAGES = features(16).reshape(ROWS, 4, 4)
IMPORTANCE = inspection.Importance(np.ones(3), np.ones(3), np.ones((3, 2)), 0.5)
CALLS |= {
    "inspection.activations": Call(
        lambda: inspection.activations, {"net": new_net(), "X": X}, ("X",)
    ),
    "inspection.saliency": Call(
        lambda: inspection.saliency,
        {"net": new_net(), "X": X, "output": 1, "signed": False},
        ("X",),
    ),
    "inspection.integrated_gradients": Call(
        lambda: inspection.integrated_gradients,
        {
            "net": fastnn.Sequential([fastnn.Affine(INPUTS, OUTPUTS)], seed=0, dtype="float64"),
            "X": X,
            "baseline": X[0] - 1,
            "output": LABELS,
            "steps": 4,
            "tolerance": 0.001,
        },
        ("X", "baseline", "output"),
    ),
    "inspection.permutation_importance": Call(
        lambda: inspection.permutation_importance,
        {
            "model": new_net(),
            "X": X,
            "y": LABELS,
            "loss": None,
            "score": None,
            "repeats": 2,
            "seed": 0,
        },
        ("X", "y"),
    ),
    "inspection.decision_grid": Call(
        lambda: inspection.decision_grid,
        {"net": new_net(2), "X": features(2), "n_points": 3},
        ("X",),
    ),
    "inspection.alignment": Call(
        lambda: inspection.alignment, {"x": X + 3, "W": features(2, INPUTS) + 3}, ("x", "W")
    ),
    "inspection.weights_as_images": Call(
        lambda: inspection.weights_as_images,
        {"layer_or_w": features(3, 16), "image_shape": (4, 4)},
        ("layer_or_w",),
    ),
    "inspection.Histograms": Call(
        lambda: inspection.Histograms, {"X": X, "y": LABELS, "loss": "mse", "bins": 5}
    ),
    "inspection.plot_history": Call(
        lambda: lambda **given: inspection.plot_history(ax=_axes(), **given),
        {"history": _history(), "figure": "loss"},
    ),
    "inspection.plot_activations": Call(
        lambda: lambda **given: inspection.plot_activations(ax=_axes(), **given),
        {
            "net": new_net(),
            "x": X[0],
            "image_shape": None,
            "labels": None,
            "n_connections": 3,
            "max_neurons": 4,
        },
        ("x",),
    ),
    "inspection.plot_images": Call(
        lambda: lambda **given: inspection.plot_images(ax=_axes(), **given),
        {
            "images": IMAGES,
            "titles": None,
            "n_columns": 2,
            "signed": True,
            "shared_scale": True,
        },
        ("images",),
    ),
    "inspection.plot_importance": Call(
        lambda: lambda **given: inspection.plot_importance(ax=_axes(), **given),
        {"importance": IMPORTANCE, "names": None, "most": 2},
    ),
    "inspection.plot_alignment": Call(
        lambda: lambda **given: inspection.plot_alignment(ax=_axes(), **given),
        {"x": np.array([1.0, 2.0]), "W": features(2, 2) + 3},
        ("x", "W"),
    ),
    "inspection.plot_decision_boundary": Call(
        lambda: lambda **given: inspection.plot_decision_boundary(ax=_axes(), **given),
        {"net": new_net(2), "X": features(2), "y": LABELS, "n_points": 3},
        ("X", "y"),
    ),
}


def state(function):
    """Return all that a method could change in its object, as bytes; empty for a function."""
    holder = getattr(function, "__self__", None)
    owner = getattr(holder, "_net", holder)
    if isinstance(owner, fastnn.Sequential):
        tensors = [a.tobytes() for arrays in owner.tensors() for a in arrays if a is not None]
        steps = [layer.step for layer in owner.leaves() if isinstance(layer, fastnn.Dropout)]
        # The net of an estimator has a generator of its own that nobody uses.
        drawn = owner._rng.bit_generator.state if owner is holder else None
        return pickle.dumps((tensors, steps, drawn))
    if isinstance(owner, fastnn.Perceptron):
        learned = owner.weights.tobytes(), owner.bias, getattr(owner, "mistakes_", None)
        return pickle.dumps((learned, owner._rng.bit_generator.state))
    if isinstance(owner, layer_classes.Layer):
        arrays = [array.tobytes() for array in (owner.params | owner.buffers).values()]
        return pickle.dumps((arrays, getattr(owner, "step", None)))
    return b""


WITHOUT_ARGUMENTS_OF_THEIR_OWN = {
    "Callback.": "its methods are there to be overridden; the arguments come from the training",
    "ProgressBar.": "a callback",
    "EarlyStopping.": "a callback",
    "Checkpoint": "files have tests of their own",
    "Checkpoint.": "a callback",
    "Affine.set_values": "takes arrays of a file that have been checked",
    "BatchNorm.set_values": "the same",
    "LayerNorm.set_values": "the same",
    "MLPClassifier": "scikit-learn's constructors check nothing: fit does",
    "MLPRegressor": "scikit-learn's constructors check nothing: fit does",
    "Sequential.save": "files have tests of their own",
    "Sequential.load": "files have tests of their own",
    "Sequential.to_bytes": "files have tests of their own",
    "load": "files have tests of their own",
    "TableModel": "tests/test_table_model.py has what it refuses",
    "TableModel.": "tests/test_table_model.py has the frames that it refuses",
    "Sequential.check_ends_in_logits": "takes a Loss that has been checked",
    "Sequential.make_predictor": "takes parameters that the layout has packed",
    "inspection.Alignment": "a tuple of results",
    "inspection.DecisionGrid": "a tuple of results",
    "inspection.Histogram": "a tuple of results",
    "inspection.IntegratedGradients": "a tuple of results",
    "inspection.Importance": "a tuple of results",
    "inspection.Histograms.": "a callback; plot looks up a name",
}
"""Public names without an entry in `CALLS`; one that ends in a dot stands for all methods."""

# What a net asks of its layers, for those who add one.
_OF_LAYERS = {"add_to", "bind", "draw_seed", "initialize", "kernels", "set_values"}


def public_names():
    """Yield all public functions and classes, and the public methods of the classes."""
    homes = {name: f"fastnn.{home}" for name, home in fastnn._HOMES.items()}
    for name, home in homes.items():
        yield name, getattr(importlib.import_module(home), name)
    for name in inspection.__all__:
        yield f"inspection.{name}", getattr(inspection, name)
    for name in initializers.__all__:
        yield f"initializers.{name}", getattr(initializers, name)
    for module, base in ((losses, losses.Loss), (schedules, schedules.Schedule)):
        for name, value in vars(module).items():
            if inspect.isclass(value) and issubclass(value, base) and not name.startswith("_"):
                yield f"{module.__name__.partition('.')[2]}.{name}", value


def missing_names():
    """Return the public names that have neither an entry nor a reason to need none."""
    missing = []
    for name, value in public_names():
        takes = [name] if _takes_arguments(value) else []
        if inspect.isclass(value):
            layer = issubclass(value, layer_classes.Layer)
            for method, function in inspect.getmembers(value, callable):
                own = (getattr(function, "__module__", None) or "").startswith("fastnn")
                public = not method.startswith("_") and not (layer and method in _OF_LAYERS)
                internal = name.startswith(("losses.", "schedules."))
                if own and public and not internal and _takes_arguments(function, 1):
                    takes.append(f"{name}.{method}")
        for entry in takes:
            whole = f"{entry.rpartition('.')[0]}."
            if not {entry, whole} & {*CALLS, *WITHOUT_ARGUMENTS_OF_THEIR_OWN}:
                missing.append(entry)
    return missing


def _takes_arguments(function, implicit=0):
    try:
        parameters = inspect.signature(function).parameters
    except ValueError:
        return False
    if inspect.ismethod(function):
        implicit = 0
    return len(parameters) > implicit and list(parameters) != ["args", "kwargs"]
