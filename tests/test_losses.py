"""Losses as their users see them: names, scales, and what a net's loss then is."""

import numpy as np
import pytest

from fastnn import Affine, Sequential, losses

NAMES = [
    "mse",
    "squared_error",
    "mae",
    "huber",
    "quantile",
    "poisson",
    "binary_cross_entropy",
    "softmax_cross_entropy",
]


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
    assert losses.get("categorical_cross_entropy").name == "softmax_cross_entropy"


@pytest.mark.parametrize("value", ["MSE", "", None, 1, losses.SquaredError, ["mse"]], ids=repr)
def test_an_unknown_loss_is_named(value):
    message = (
        "^loss must be one of 'mse', 'squared_error', 'mae', 'huber', 'quantile', 'poisson', "
        "'binary_cross_entropy', 'softmax_cross_entropy', 'categorical_cross_entropy' or a Loss, "
        "got "
    )
    with pytest.raises(ValueError, match=message):
        losses.get(value)


@pytest.mark.parametrize("reduction", ["none", None, "", 1, ["mean"]], ids=repr)
def test_an_unknown_reduction_is_named(reduction):
    with pytest.raises(ValueError, match=r"^reduction must be 'mean' or 'sum', got "):
        losses.BinaryCrossEntropy(reduction)
    with pytest.raises(ValueError, match=r"^reduction must be 'mean' or 'sum', got "):
        losses.Huber(reduction=reduction)


@pytest.mark.parametrize("delta", [0, -1, np.nan, np.inf, "1", None, True], ids=repr)
def test_a_bad_delta_is_named(delta):
    with pytest.raises(ValueError, match=r"^delta must be a finite number > 0, got "):
        losses.Huber(delta)


@pytest.mark.parametrize(
    "quantiles", [0, 1.0, -0.1, [0.1, 1.0], [], [[0.5]], "0.5", None, np.nan, [0.5, None]], ids=repr
)
def test_a_bad_quantile_is_named(quantiles):
    message = "^quantiles must be a number between 0 and 1 or a sequence of them, got "
    with pytest.raises(ValueError, match=message):
        losses.Quantile(quantiles)


@pytest.mark.parametrize("kind", [losses.BinaryCrossEntropy, losses.SoftmaxCrossEntropy])
@pytest.mark.parametrize("smoothing", [-0.1, 1.1, np.nan, "0", None], ids=repr)
def test_a_bad_smoothing_is_named(kind, smoothing):
    with pytest.raises(ValueError, match=r"^label_smoothing must be a number in \[0, 1\], got "):
        kind(label_smoothing=smoothing)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (losses.SquaredError(), (0.5, 1.0)),
        (losses.SquaredError("mean"), (0.125, 0.25)),
        (losses.Poisson(), (1.0, 1.0)),
        (losses.MeanSquaredError(), (0.25, 0.5)),
        (losses.Huber(), (0.25, 0.25)),
        (losses.Huber(reduction="sum"), (1.0, 1.0)),
        (losses.Quantile(), (0.25, 0.25)),
        (losses.BinaryCrossEntropy(), (0.25, 0.25)),
        (losses.BinaryCrossEntropy("sum"), (1.0, 1.0)),
        (losses.SoftmaxCrossEntropy(), (1.0, 1.0)),
    ],
    ids=repr,
)
def test_scales_depend_on_the_number_of_outputs(loss, expected):
    assert loss.scales(4) == expected


def test_tasks_logits_and_kernels():
    for name in NAMES:
        loss = losses.get(name)
        is_classification = name.endswith("entropy")
        assert loss.task == ("classification" if is_classification else "regression")
        assert loss.takes_logits == (is_classification or name == "poisson")
        assert len(loss.parameters(3)) >= 1
    assert losses.get("mse").kernel_name(False) == "squared_error"
    assert losses.get("binary_cross_entropy").kernel_name(False) == "binary_cross_entropy"
    assert losses.get("softmax_cross_entropy").kernel_name(True) == "softmax_cross_entropy"
    assert losses.get("softmax_cross_entropy").kernel_name(False) == "softmax_of_probabilities"


def test_repr_is_the_call_that_makes_it():
    for call in (
        "MeanSquaredError()",
        "MeanAbsoluteError()",
        "SquaredError(reduction='sum')",
        "Huber(delta=2.0, reduction='sum')",
        "Quantile(quantiles=0.5)",
        "Quantile(quantiles=[0.1, 0.9])",
        "BinaryCrossEntropy(reduction='sum', label_smoothing=0.0)",
        "SoftmaxCrossEntropy(label_smoothing=0.1)",
    ):
        assert repr(eval(call, vars(losses))) == call


def test_squared_errors_by_hand():
    out, y = [[1, 2], [3, 5]], [[0, 2], [1, 1]]  # squared errors 1 + 0 and 4 + 16
    assert loss_of(out, y, "squared_error") == (0.5 + 10) / 2
    assert loss_of(out, y, "mse") == (1 + 0 + 4 + 16) / 4
    assert loss_of([[1], [3]], [0, 1], "mse") == 2.5


def test_absolute_errors_by_hand():
    out, y = [[1, 2], [3, 5]], [[0, 2], [1, 1]]  # absolute errors 1 + 0 and 2 + 4
    assert loss_of(out, y, "mae") == (1 + 0 + 2 + 4) / 4
    assert loss_of(out, y, "huber") == (0.5 + 0 + 1.5 + 3.5) / 4
    assert loss_of(out, y, losses.Huber(3)) == (0.5 + 0 + 2 + 3 * 2.5) / 4
    assert loss_of(out, y, losses.Huber(3, "sum")) == (0.5 + 0 + 2 + 3 * 2.5) / 2
    assert loss_of(out, y, "quantile") == (1 + 0 + 2 + 4) / 8
    assert loss_of([[1], [-3]], [0, 0], losses.Quantile(0.75)) == (0.25 * 1 + 0.75 * 3) / 2


def test_with_several_quantiles_one_target_is_compared_with_each_output():
    out, y = [[1, 2, 3], [5, 5, 5]], [2, 6]
    loss = losses.Quantile([0.25, 0.5, 0.75])
    expected = (0.25 * 1 + 0 + 0.25 * 1 + 0.25 + 0.5 + 0.75) / 6
    for targets in (y, [[value] for value in y], [[value] * 3 for value in y]):
        assert loss_of(out, targets, loss) == pytest.approx(expected)
    with pytest.raises(ValueError, match=r"^y must have 3 columns, got 1$"):
        loss_of(out, y, "quantile")  # one quantile, several outputs: each has a target of its own
    with pytest.raises(ValueError, match=r"^y must have 3 columns, got 2$"):
        loss_of(out, [[1, 2], [3, 4]], loss)


def test_quantiles_are_as_many_as_outputs():
    X, net = np.ones((4, 1)), Sequential([Affine(1, 3)], seed=0)
    before = net.params.copy()
    message = "^quantiles must be 1 or as many as the net's 3 outputs, got 2$"
    with pytest.raises(ValueError, match=message):
        net.fit(X, np.ones(4), loss=losses.Quantile([0.1, 0.9]))
    np.testing.assert_array_equal(net.params, before)


def test_smoothed_labels_are_smoothed_targets(rng):
    out, labels = rng.normal(size=(5, 3)), rng.integers(0, 3, 5)
    rows = rng.dirichlet(np.ones(3), 5)
    smoothed = losses.SoftmaxCrossEntropy(label_smoothing=0.3)
    for y, target in ((labels, np.eye(3)[labels]), (rows, rows)):
        expected = loss_of(out, 0.7 * target + 0.1, "softmax_cross_entropy")
        assert loss_of(out, y, smoothed) == pytest.approx(expected)
    smoothed = losses.BinaryCrossEntropy(label_smoothing=0.3)
    expected = loss_of(out, 0.7 * rows + 0.15, "binary_cross_entropy")
    assert loss_of(out, rows, smoothed) == pytest.approx(expected)


@pytest.mark.peers
def test_losses_are_those_of_pytorch(rng):
    torch = pytest.importorskip("torch")
    nn = torch.nn
    out, real = 3 * rng.normal(size=(9, 4)), 3 * rng.normal(size=(9, 4))
    labels, rows = rng.integers(0, 4, 9), rng.dirichlet(np.ones(4), 9)
    for ours, y, theirs in (
        ("mse", real, nn.MSELoss()),
        ("mae", real, nn.L1Loss()),
        ("huber", real, nn.HuberLoss()),
        (losses.Huber(0.7), real, nn.HuberLoss(delta=0.7)),
        ("binary_cross_entropy", rows, nn.BCEWithLogitsLoss()),
        ("softmax_cross_entropy", labels, nn.CrossEntropyLoss()),
        (losses.SoftmaxCrossEntropy(0.2), labels, nn.CrossEntropyLoss(label_smoothing=0.2)),
        (losses.SoftmaxCrossEntropy(0.2), rows, nn.CrossEntropyLoss(label_smoothing=0.2)),
    ):
        expected = theirs(torch.tensor(out), torch.tensor(y)).item()
        assert loss_of(out, y, ours) == pytest.approx(expected, rel=1e-12)


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
    assert np.isfinite(loss_of([[1e4, -1e4], [-1e4, 1e4]], y, name))


EACH = [
    losses.MeanSquaredError(),
    losses.SquaredError(),
    losses.MeanAbsoluteError(),
    losses.Huber(0.3),
    losses.Huber(0.001),
    losses.Huber(100.0),
    losses.Quantile(0.2),
    losses.Poisson(),
    losses.BinaryCrossEntropy(),
    losses.BinaryCrossEntropy(label_smoothing=0.1),
]
NO_LABELS = np.empty(0, np.int64)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", EACH, ids=repr)
def test_no_constant_guess_is_better_than_the_best(loss, weighted, rng):
    targets = rng.normal(size=(30, 1)) ** 3
    weights = rng.integers(0, 4, 30) if weighted else None
    least, most = loss.target_range
    targets = np.clip(targets, least, most)
    guesses = [np.linspace(-6, 6, 10_001), targets.ravel()]
    rows = [
        loss.of_rows(np.full((30, 1), guess), NO_LABELS, targets)
        for guess in np.concatenate(guesses)
    ]
    on_grid = np.average(rows, axis=1, weights=weights).min()
    best = loss.constant_loss(NO_LABELS, targets, weights)
    assert best <= on_grid * (1 + 1e-12)
    np.testing.assert_allclose(best, on_grid, rtol=1e-4)


def test_the_best_constant_guess_of_several_outputs_is_that_of_each(rng):
    targets = rng.normal(size=(40, 3))
    for loss in EACH[:6]:
        alone = [loss.constant_loss(NO_LABELS, targets[:, c : c + 1]) for c in range(3)]
        reduced = sum(alone) * loss.scales(3)[0] / loss.scales(1)[0]
        np.testing.assert_allclose(loss.constant_loss(NO_LABELS, targets), reduced)
    quantiles = losses.Quantile([0.1, 0.5, 0.9])
    alone = [
        losses.Quantile(q).constant_loss(NO_LABELS, targets[:, c : c + 1])
        for c, q in enumerate(quantiles.quantiles)
    ]
    np.testing.assert_allclose(quantiles.constant_loss(NO_LABELS, targets), np.mean(alone))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_best_constant_guess_of_classes_are_their_frequencies(smoothing, rng):
    loss = losses.SoftmaxCrossEntropy(smoothing)
    labels, weights = np.array([0, 0, 2, 2, 2, 1]), np.array([1, 2, 0.5, 1, 1, 0])
    share = np.array([3, 0, 2.5]) / 5.5
    share = (1 - smoothing) * share + smoothing / 3
    entropy = -(share[share > 0] * np.log(share[share > 0])).sum()
    no_targets = np.empty((0, 3))
    np.testing.assert_allclose(loss.constant_loss(labels, no_targets, weights), entropy)
    hot = np.eye(3)[labels]
    np.testing.assert_allclose(loss.constant_loss(NO_LABELS, hot, weights), entropy)
    if not smoothing:  # rows need not sum to 1
        np.testing.assert_allclose(loss.constant_loss(NO_LABELS, 5 * hot, weights), 5 * entropy)


def test_the_best_guess_of_targets_that_are_all_alike_has_no_loss():
    for loss in EACH[:9]:
        for value in (0.0, 1.0):
            best = loss.constant_loss(NO_LABELS, np.full((5, 2), value))
            assert 0 <= best < 1e-12, (loss, value)
    assert losses.SoftmaxCrossEntropy().constant_loss(np.ones(4, np.int64), np.empty((0, 3))) == 0
