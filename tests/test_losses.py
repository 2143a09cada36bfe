"""Losses as their users see them: names, scales, and what a net's loss then is."""

import numpy as np
import pytest

from fastnn import Affine, Sequential, losses
from fastnn.kernels import codes

NAMES = ["mse", "squared_error", "poisson", "binary_cross_entropy", "softmax_cross_entropy"]


def loss_of(out, y, loss):
    """Return the loss of given outputs: those of a net that hands its input on."""
    out = np.asarray(out, float)
    net = Sequential([Affine(out.shape[1], out.shape[1])], dtype="float64")
    net.layers[0].params["w"][...] = np.eye(out.shape[1])
    net.layers[0].params["b"][...] = 0
    return net.loss(out, y, loss=loss)


def test_losses_are_found_by_name():
    for name in NAMES:
        loss = losses.get(name)
        assert isinstance(loss, losses.Loss)
        assert loss.name == name
    mine = losses.BinaryCrossEntropy(reduction="sum")
    assert losses.get(mine) is mine


@pytest.mark.parametrize("value", ["MSE", "", None, 1, losses.SquaredError, ["mse"]], ids=repr)
def test_an_unknown_loss_is_named(value):
    message = (
        "^loss must be one of 'mse', 'squared_error', 'poisson', 'binary_cross_entropy', "
        "'softmax_cross_entropy' or a Loss, got "
    )
    with pytest.raises(ValueError, match=message):
        losses.get(value)


@pytest.mark.parametrize("reduction", ["none", None, "", 1, ["mean"]], ids=repr)
def test_an_unknown_reduction_is_named(reduction):
    with pytest.raises(ValueError, match=r"^reduction must be 'mean' or 'sum', got "):
        losses.BinaryCrossEntropy(reduction)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (losses.SquaredError(), (0.5, 1.0)),
        (losses.SquaredError("mean"), (0.125, 0.25)),
        (losses.Poisson(), (1.0, 1.0)),
        (losses.MeanSquaredError(), (0.25, 0.5)),
        (losses.BinaryCrossEntropy(), (0.25, 0.25)),
        (losses.BinaryCrossEntropy("sum"), (1.0, 1.0)),
        (losses.SoftmaxCrossEntropy(), (1.0, 1.0)),
    ],
    ids=repr,
)
def test_scales_depend_on_the_number_of_outputs(loss, expected):
    assert loss.scales(4) == expected


def test_tasks_logits_and_codes():
    for name in NAMES:
        loss = losses.get(name)
        is_classification = name.endswith("entropy")
        assert loss.task == ("classification" if is_classification else "regression")
        assert loss.takes_logits == (is_classification or name == "poisson")
    assert losses.get("mse").code(False) == codes.SQUARED_ERROR
    assert losses.get("binary_cross_entropy").code(False) == codes.BINARY_CROSS_ENTROPY
    assert losses.get("softmax_cross_entropy").code(True) == codes.SOFTMAX_CROSS_ENTROPY
    assert losses.get("softmax_cross_entropy").code(False) == codes.SOFTMAX_CROSS_ENTROPY_DENSE


def test_repr_is_the_call_that_makes_it():
    for loss in (losses.MeanSquaredError(), losses.SoftmaxCrossEntropy()):
        assert repr(loss) == f"{type(loss).__name__}()"
    assert repr(losses.SquaredError()) == "SquaredError(reduction='sum')"
    assert repr(losses.BinaryCrossEntropy("sum")) == "BinaryCrossEntropy(reduction='sum')"


def test_squared_errors_by_hand():
    out, y = [[1, 2], [3, 5]], [[0, 2], [1, 1]]  # squared errors 1 + 0 and 4 + 16
    assert loss_of(out, y, "squared_error") == (0.5 + 10) / 2
    assert loss_of(out, y, "mse") == (1 + 0 + 4 + 16) / 4
    assert loss_of([[1], [3]], [0, 1], "mse") == 2.5


def test_poisson_losses_by_hand():
    # e^z - t z + t log t - t
    assert loss_of([[0.0]], [[1]], "poisson") == 0
    assert loss_of([[1.0]], [[0]], "poisson") == pytest.approx(np.e)
    assert loss_of([[0.0, 0.0]], [[3, 0]], "poisson") == pytest.approx(3 * np.log(3) - 2 + 1)
    with pytest.raises(ValueError, match="y must be >= 0 for poisson, got values from -1 to 2"):
        loss_of([[0.0]] * 2, [-1, 2], "poisson")


def test_cross_entropies_by_hand(rng):
    out = rng.normal(size=(5, 3))
    y = rng.integers(0, 2, (5, 3))
    p = 1 / (1 + np.exp(-out))
    each = -(y * np.log(p) + (1 - y) * np.log(1 - p))
    assert loss_of(out, y, "binary_cross_entropy") == pytest.approx(each.mean())
    summed = losses.BinaryCrossEntropy(reduction="sum")
    assert loss_of(out, y, summed) == pytest.approx(each.sum(axis=1).mean())

    labels = rng.integers(0, 3, 5)
    p = np.exp(out) / np.exp(out).sum(axis=1, keepdims=True)
    expected = -np.log(p[np.arange(5), labels]).mean()
    assert loss_of(out, labels, "softmax_cross_entropy") == pytest.approx(expected)
    assert loss_of(out, np.eye(3)[labels], "softmax_cross_entropy") == pytest.approx(expected)


def test_one_row_more_does_not_change_the_loss_of_the_others(rng):
    out, y = rng.normal(size=(9, 3)), rng.integers(0, 3, 9)
    each = [loss_of(out[r : r + 1], y[r : r + 1], "softmax_cross_entropy") for r in range(9)]
    assert loss_of(out, y, "softmax_cross_entropy") == pytest.approx(np.mean(each))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "poisson"])
def test_the_loss_of_large_outputs_is_finite(name):
    y = [1, 0] if name == "softmax_cross_entropy" else [[0, 1], [1, 0]]
    assert np.isfinite(loss_of([[1000, -1000], [-1000, 1000]], y, name))
