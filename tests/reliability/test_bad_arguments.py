"""Arguments that make no sense: refused in one line that names them, before anything is changed."""

import decimal
import fractions
import functools
import re
import warnings

import numpy as np
import pytest
from public_calls import (
    CALLS,
    LABELS,
    Stop,
    features,
    missing_names,
    new_layer,
    new_trainer,
    rich_net,
    state,
)

import fastnn
from fastnn.layers import LAYERS

ODD = {
    "None": None,
    "NaN": float("nan"),
    "infinity": float("inf"),
    "-1": -1,
    "-0.5": -0.5,
    "0": 0,
    "2": 2,
    "1.5": 1.5,
    "1e-60": 1e-60,
    "1e60": 1e60,
    "1e300": 1e300,
    "2**31": 2**31,
    "2**63": 2**63,
    "2**200": 2**200,
    "2**20000": 2**20000,
    "-2**63": -(2**63),
    "True": True,
    "np.True": np.True_,
    "int8": np.int8(1),
    "uint64": np.uint64(2**64 - 1),
    "float32": np.float32(1),
    "longdouble": np.longdouble("1e4000"),
    "half": fractions.Fraction(1, 2),
    "decimal": decimal.Decimal(1),
    "complex": 1j,
    "text": "nonsense",
    "two lines": "non\nsense",
    "bytes": b"x",
    "list": [1],
    "ragged": [[1, 2], [3]],
    "tuple": (),
    "dict": {},
    "odd dict": {"x": [1]},
    "generator": (k for k in ()),
    "array 0-d": np.array(1),
    "array 1": np.array([1]),
    "array 2x2": np.array([[1.0, 2.0], [3.0, 4.0]]),
    "array 3-d": np.zeros((1, 2, 3)),
    "object array": np.array([None, "a"], dtype=object),
    "long array": np.arange(3000).reshape(1000, 3),
    "date": np.datetime64("2020-01-01"),
    "class": dict,
    "function": len,
    "object": object(),
    "exception": ValueError("two\nlines"),
}


def refusal(call, *names, foreign=False):
    """Call; return None if it returns, else the message, which has to be a fit one."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if foreign:
            from sklearn.exceptions import ConvergenceWarning, DataConversionWarning

            warnings.simplefilter("ignore", ConvergenceWarning)
            warnings.simplefilter("ignore", DataConversionWarning)
        # What training that diverges, and attributions that are not exact, are said to do.
        for text in ("the loss became NaN", "integrated_gradients: "):
            warnings.filterwarnings("ignore", text, RuntimeWarning)
        try:
            call()
        except (ValueError, TypeError) as error:
            message = str(error)
            if not foreign:
                assert "\n" not in message
                assert len(message) < 400
                assert any(re.search(rf"(^|\W){re.escape(name)}(\W|$)", message) for name in names)
            return message
    return None


# A wrong value here may make another argument wrong, or goes by another name in the message.
ALSO_NAMED = {
    "set_num_threads.n": ["n_threads"],
    "Regularization.of.value": ["regularization"],
    "initializers.get.name": ["initializer"],
    "Perceptron.n_inputs": ["weights"],
    "Sequential.fit.y": ["sample_weight"],
    "weigh_samples.y": ["sample_weight"],
    "weigh_samples.n_outputs": ["y"],
    "Trainer.run_epoch.order": ["batch_size"],
    "datasets.load.source": ["no such file"],
    "inspection.integrated_gradients.X": ["output"],
    "inspection.alignment.W": ["x"],
    "inspection.weights_as_images.layer_or_w": ["image_shape"],
}
EVERY = 15
FOREIGN_FAULTS = ("2**20000", "longdouble")
"""What scikit-learn's own checks do not take well."""


def sweep(step):
    """Give every `step`-th odd value to each argument of each public call."""
    turn = 0
    wrong = []
    for name, call in CALLS.items():
        if step > 1 and name.startswith("Activation."):
            continue  # is compiled each time
        for argument in call.arguments:
            turn += 1
            for k, (label, value) in enumerate(ODD.items()):
                if (turn + k) % step or (call.foreign and label in FOREIGN_FAULTS):
                    continue
                arguments = {**call.arguments, argument: value}
                if "layers" in arguments and argument != "layers":
                    arguments["layers"] = [fastnn.Affine(2, 2)]
                names = [argument, *ALSO_NAMED.get(f"{name}.{argument}", [])]
                function = call.make()
                before = state(function)
                try:
                    call_it = functools.partial(function, **arguments)
                    message = refusal(call_it, *names, foreign=call.foreign)
                except Exception as error:
                    if not callable(value):  # which may fail as it likes
                        wrong.append((name, argument, label, repr(error), repr(error.__context__)))
                    continue
                if message is not None and state(function) != before:
                    wrong.append((name, argument, label, "refused, but something has changed"))
    return wrong


def test_each_public_name_has_arguments_to_be_tried():
    assert missing_names() == []


@pytest.mark.parametrize("step", [EVERY, pytest.param(1, marks=pytest.mark.slow)])
def test_whatever_an_argument_is_it_is_taken_or_named_in_one_line(step, capsys):
    try:
        assert sweep(step) == []
    finally:
        fastnn.set_num_threads(None)


# --- Named cases ----------------------------------------------------------------------------------

X = features()
Y = LABELS
HUGE = 2**62


def nan_weights(rng, n_inputs, n_outputs, dtype):
    """Draw what no net can start with."""
    return np.full((n_inputs, n_outputs), np.nan, dtype)


def fit(**arguments):
    """Fit a net with state of all kinds, which must be as before if it refuses."""
    net = rich_net()
    before = state(net.fit)
    try:
        return net.fit(**({"X": X, "y": Y, "epochs": 1, "batch_size": 3} | arguments))
    except BaseException:
        assert state(net.fit) == before
        raise


class Raises(fastnn.Callback):
    """A callback that does not like the training."""

    def on_fit_begin(self, net, info):
        raise ValueError("callback says no")


def net_for(*layers):
    return fastnn.Sequential([fastnn.Affine(3, 2), *layers], seed=0)


CASES = {
    # sizes
    "too many weights": (lambda: fastnn.Affine(2**31 - 1, 2**31 - 1), "n_inputs * n_outputs"),
    "too many inputs": (lambda: fastnn.Affine(2**31, 2**31), "n_inputs"),
    "size that overflows": (lambda: fastnn.Affine(HUGE, 4), "n_inputs"),
    "output size that overflows": (lambda: fastnn.Affine(4, HUGE), "n_outputs"),
    "BatchNorm that overflows": (lambda: fastnn.BatchNorm(HUGE), "n_features"),
    "LayerNorm that overflows": (lambda: fastnn.LayerNorm(HUGE), "n_features"),
    "no inputs": (lambda: fastnn.Affine(0, 2), "n_inputs"),
    "no outputs": (lambda: fastnn.Affine(2, 0), "n_outputs"),
    "epochs that overflow": (lambda: fit(epochs=2**63), "epochs"),
    "threads as a bool": (lambda: fit(n_threads=True), "n_threads"),
    "threads as a NumPy bool": (lambda: fit(n_threads=np.True_), "n_threads"),
    "threads as a float": (lambda: fit(n_threads=1.0), "n_threads"),
    "threads as an array": (lambda: fit(n_threads=np.array([1])), "n_threads"),
    # labels and targets
    "a label too large": (lambda: fit(y=[0, 1, 2, 0, 1, 0]), "y"),
    "a negative label": (lambda: fit(y=[0, 1, -1, 0, 1, 0]), "y"),
    "half a label": (lambda: fit(y=[0, 1, 1.5, 0, 1, 0]), "y"),
    "a label of 64 bits": (lambda: fit(y=np.array([0, 1, 2**63, 0, 1, 0], np.uint64)), "y"),
    "a label that is NaN": (lambda: fit(y=[0, 1, np.nan, 0, 1, 0]), "y"),
    "a target that is NaN": (lambda: fit(y=np.full((6, 2), np.nan), loss="mse"), "y"),
    "a target beyond float32": (lambda: fit(y=np.full((6, 2), 1e39), loss="mse"), "y"),
    "labels too few": (lambda: fit(y=Y[:5]), "y"),
    "labels too many": (lambda: fit(y=[*Y, 0]), "y"),
    "no rows": (lambda: fit(X=X[:0], y=Y[:0]), "X"),
    "no rows for the loss": (lambda: rich_net().loss(X[:0], Y[:0]), "X"),
    "no rows to validate": (lambda: fit(validation_data=(X[:0], Y[:0])), "validation_data"),
    "no columns": (lambda: fit(X=X[:, :0]), "X"),
    "one row for BatchNorm": (lambda: fit(X=X[:1], y=Y[:1]), "batch_size"),
    "a last batch of one row": (lambda: fit(batch_size=5), "batch_size"),
    "one row in training mode": (lambda: rich_net().forward(X[:1], training=True), "x"),
    # weights
    "a weight that is NaN": (lambda: fit(sample_weight=[1, np.nan, 1, 1, 1, 1]), "sample_weight"),
    "weights too few": (lambda: fit(sample_weight=[1] * 5), "sample_weight"),
    "a negative class weight": (lambda: fit(class_weight={0: -1}), "class_weight[0]"),
    "a class weight that is NaN": (lambda: fit(class_weight=[1, np.nan]), "class_weight[1]"),
    "a class that is not there": (lambda: fit(class_weight={7: 1}), "class_weight"),
    "a weight that is NaN in an estimator": (
        lambda: fastnn.MLPClassifier(max_iter=1).fit(X, Y, sample_weight=[np.nan, *[1] * 5]),
        "sample_weight",
    ),
    # a softmax that the loss applies as well
    "softmax twice": (lambda: net_for(fastnn.Softmax()).fit(X, Y), "loss"),
    "softmax twice, hidden": (
        lambda: net_for(fastnn.Softmax(), fastnn.Dropout(0.1), fastnn.Identity()).fit(X, Y),
        "loss",
    ),
    "sigmoid twice, hidden": (
        lambda: net_for(fastnn.Sigmoid(), fastnn.Dropout(0.1)).loss(
            X, np.eye(2)[Y], "binary_cross_entropy"
        ),
        "loss",
    ),
    # numbers that are zero or infinite in float32
    "an epsilon that vanishes": (lambda: fastnn.BatchNorm(3, epsilon=1e-60), "epsilon"),
    "another one": (lambda: fastnn.LayerNorm(3, epsilon=1e-60), "epsilon"),
    "an Adam that divides by it": (lambda: fastnn.Adam(epsilon=1e-60), "epsilon"),
    "a slope that overflows": (lambda: fastnn.LeakyReLU(1e60), "negative_slope"),
    "a rate that overflows": (lambda: fastnn.SGD(1e60), "learning_rate"),
    # weights that are drawn by the user
    "init of another shape": (
        lambda: fastnn.Affine(3, 2, init=lambda *_: np.ones(2)).params, "init",
    ),
    "init with NaN": (lambda: fastnn.Affine(3, 2, init=nan_weights).params, "init"),
    "init of complex numbers": (
        lambda: fastnn.Affine(3, 2, init=lambda *_: np.ones((3, 2), complex)).params, "init",
    ),
    "init of text": (lambda: fastnn.Affine(3, 2, init=lambda *_: "w").params, "init"),
    "init of None": (lambda: fastnn.Affine(3, 2, init=lambda *_: None).params, "init"),
    # schedules and callbacks
    "a schedule of NaN": (lambda: fit(schedule=lambda e, n: np.nan), "schedule(0, 1)"),
    "a negative schedule": (lambda: fit(schedule=lambda e, n: -1), "schedule(0, 1)"),
    "a schedule of text": (lambda: fit(schedule=lambda e, n: "1"), "schedule(0, 1)"),
    "a schedule of None": (lambda: fit(schedule=lambda e, n: None), "schedule(0, 1)"),
    "a callback that raises": (lambda: fit(callbacks=Raises()), "callback"),
    "a class for a callback": (lambda: fit(callbacks=[fastnn.EarlyStopping]), "callbacks"),
    "a figure that is not there": (
        lambda: fit(callbacks=fastnn.EarlyStopping("val_loss")), "monitor",
    ),
    # orders
    "an order of floats": (lambda: new_trainer().run_epoch(np.array([0.0, 1.5])), "order"),
    "an order of bools": (lambda: new_trainer().run_epoch(np.array([True, False])), "order"),
    "an order beyond the end": (lambda: new_trainer().run_epoch(np.array([0, 6])), "order"),
    "an order before the start": (lambda: new_trainer().run_epoch(np.array([0, -1])), "order"),
    "an order of 64 bits": (
        lambda: new_trainer().run_epoch(np.array([0, 2**64 - 1], np.uint64)), "order",
    ),
    "an empty order": (lambda: new_trainer().run_epoch(np.array([], int)), "order"),
    "an order of two dimensions": (lambda: new_trainer().run_epoch(np.zeros((2, 2), int)), "order"),
    "too few rates": (lambda: new_trainer().run_epoch(np.arange(6), rates=[0.1]), "rates"),
    "a rate that is negative": (
        lambda: new_trainer().run_epoch(np.arange(6), rates=[0.1, -0.1]), "rates",
    ),
    "a tensor's name": (lambda: rich_net().save("x", tensors={1: X}), "tensors"),
}  # fmt: skip


@pytest.mark.parametrize("call, name", CASES.values(), ids=CASES)
def test_what_makes_no_sense_is_refused_before_anything_is_changed(call, name):
    assert refusal(call, name) is not None


def test_what_is_unusual_but_right_is_taken():
    for n_threads in (np.int8(1), np.uint64(1), 1):
        fit(n_threads=n_threads)
    for batch_size in (2**70, np.uint8(6)):
        fit(batch_size=batch_size)
    fit(sample_weight=np.zeros(6))  # a batch without weight is no update
    fit(y=Y.astype(np.float16), sample_weight=[True] * 6, schedule=lambda e, n: np.float32(0))
    assert rich_net().predict(X[:0]).shape == (0, 2)
    assert fastnn.matmul(X[:0], X.T).shape == (0, 6)
    assert (fastnn.matmul(X[:, :0], X[:, :0].T, bias=np.ones(6)) == 1).all()
    softmax = fastnn.Residual([fastnn.Softmax()])  # is added to: the sum may be logits
    net_for(softmax, fastnn.Dropout(0.1)).fit(X, Y, epochs=1)


def test_a_schedule_that_goes_wrong_late_is_found_before_training_begins():
    with pytest.raises(ValueError, match=r"^schedule\(4321, 5000\) must be"):
        fit(epochs=5000, schedule=lambda epoch, epochs: -1.0 if epoch == 4321 else 1.0)


def test_so_many_epochs_that_nobody_waits_for_them_can_be_stopped():
    assert len(fit(epochs=2**63 - 1, callbacks=[Stop()])) == 1


@pytest.mark.parametrize("epsilon", [1.2e-38, 1e-20])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", [fastnn.BatchNorm, fastnn.LayerNorm])
def test_a_constant_column_is_no_nan_for_the_least_epsilon(kind, dtype, epsilon):
    net = fastnn.Sequential([kind(3, epsilon=epsilon), fastnn.Affine(3, 2)], seed=0, dtype=dtype)
    constant = np.full((4, 3), 2.5)
    history = net.fit(constant, Y[:4], epochs=2, batch_size=4, optimizer=fastnn.SGD(1e-3))
    assert np.isfinite(history["loss"]).all()
    assert np.isfinite(net.params).all()
    assert np.isfinite(net.predict(constant)).all()
    assert np.isfinite(net.forward(constant, training=True)).all()
    assert np.isfinite(net.backward(np.ones((4, 2)))).all()


def test_a_net_whose_weights_cannot_be_drawn_leaves_its_layers_free():
    first, second = fastnn.Affine(3, 4), fastnn.Affine(4, 2, init=nan_weights)
    with pytest.raises(ValueError, match=r"^init must be finite"):
        fastnn.Sequential([first, fastnn.ReLU(), second], seed=0)
    again = fastnn.Sequential([first, fastnn.Affine(4, 2)], seed=0)
    assert np.isfinite(again.params).all()
    with pytest.raises(ValueError, match=r"^init must be finite"):  # not the zeros of before
        second.forward(np.ones((1, 4)))


@pytest.mark.parametrize("answer", [1, "yes", np.array([1.0])])
def test_what_a_callback_returns_is_taken_for_yes_or_no(answer):
    class Odd(fastnn.Callback):
        def on_epoch_end(self, epoch, logs):
            return answer

    assert len(fit(epochs=3, callbacks=[Odd()])) == 1


def test_backward_before_forward_says_so():
    for name in LAYERS:
        if name != "Affine":
            with pytest.raises(RuntimeError, match=r"^backward needs a forward pass before it$"):
                new_layer(name).backward(features())
    with pytest.raises(RuntimeError, match=r"^backward needs a forward pass before it$"):
        rich_net().backward(np.ones((6, 2)))
    with pytest.raises(RuntimeError, match=r"^run_epoch needs set_data before it$"):
        new_trainer(with_data=False).run_epoch(np.arange(6))
