"""Weights of classes: what they are for each sample, and that training heeds them."""

import numpy as np
import pytest

from fastnn import SGD, Affine, Sequential, losses
from fastnn.training.class_weight import weigh_samples

Y = np.array([0, 2, 2, 2, 0, 2])
SOFTMAX, BINARY = losses.SoftmaxCrossEntropy(), losses.BinaryCrossEntropy()


def test_a_sample_has_the_weight_of_its_class():
    for weights in ({0: 3, 2: 0.5}, {np.int64(0): 3, 2.0: 0.5}, [3, 1, 0.5], np.array([3, 1, 0.5])):
        for y in (Y, Y.tolist(), np.eye(3)[Y], Y.astype(float)):
            result = weigh_samples(weights, y, SOFTMAX, 3)
            assert result.dtype == np.float64
            assert result.tolist() == [3, 0.5, 0.5, 0.5, 3, 0.5]


def test_a_class_that_is_left_out_weighs_one():
    assert weigh_samples({2: 0}, Y, SOFTMAX, 3).tolist() == [1, 0, 0, 0, 1, 0]
    assert weigh_samples({}, Y, SOFTMAX, 3).tolist() == [1] * 6


def test_balanced_classes_count_alike():
    # n / (classes that are there * count)
    expected = np.where(Y == 0, 6 / (2 * 2), 6 / (2 * 4))
    np.testing.assert_allclose(weigh_samples("balanced", Y, SOFTMAX, 3), expected)
    assert weigh_samples("balanced", Y, SOFTMAX, 3)[Y == 0].sum() == 3


def test_balanced_is_scikit_learns(rng):
    compute = pytest.importorskip("sklearn.utils.class_weight").compute_sample_weight
    y = rng.integers(0, 5, 50)
    np.testing.assert_allclose(weigh_samples("balanced", y, SOFTMAX, 7), compute("balanced", y))


def test_the_single_output_of_a_binary_cross_entropy_has_two_classes():
    for y in ([0, 1, 1], [[0], [1], [1]], [False, True, True], [0.0, 1.0, 1.0]):
        assert weigh_samples([2, 3], y, BINARY, 1).tolist() == [2, 3, 3]
        assert weigh_samples("balanced", y, BINARY, 1).tolist() == [1.5, 0.75, 0.75]


def test_weights_of_samples_and_of_classes_are_multiplied():
    result = weigh_samples([3, 1, 0.5], Y, SOFTMAX, 3, sample_weight=[1, 2, 3, 4, 5, 6])
    assert result.tolist() == [3, 1, 1.5, 2, 15, 3]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("even", Y, SOFTMAX, 3), "class_weight must be a dict, a sequence or 'balanced', got 'ev"),
        ((2, Y, SOFTMAX, 3), "class_weight must be a dict, a sequence or 'balanced', got 2"),
        (([1, 2], Y, SOFTMAX, 3), "class_weight must have 3 weights, one for each class, got 2"),
        (([1, 2], [0, 1, 2], SOFTMAX, 2), "y must hold classes from 0 to 1 for 2 outputs, got 2"),
        (({3: 1}, Y, SOFTMAX, 3), "class_weight must name classes from 0 to 2, got 3"),
        (({"a": 1}, Y, SOFTMAX, 3), "class_weight must name classes from 0 to 2, got 'a'"),
        (({0: -1}, Y, SOFTMAX, 3), r"class_weight\[0\] must be a finite number >= 0, got -1"),
        (([1, np.inf, 1], Y, SOFTMAX, 3), r"class_weight\[1\] must be a finite number >= 0, got "),
        (([1, "2", 1], Y, SOFTMAX, 3), r"class_weight\[1\] must be a finite number >= 0, got '2'"),
        (
            ("balanced", [1.0, 2.0], losses.SquaredError(), 1),
            "class_weight needs a loss of a classification, got 'squared_error'",
        ),
        (
            ("balanced", [[0.5, 0.5]], SOFTMAX, 2),
            "class_weight needs y of classes, or of zeros and ones",
        ),
        (("balanced", [[1, 1]], SOFTMAX, 2), "class_weight needs rows of y with a single 1 each"),
        (("balanced", [0.5], BINARY, 1), "class_weight needs y of classes, or of zeros and ones"),
        (
            ("balanced", [[1, 0]], BINARY, 2),
            "class_weight needs one class for each sample, got 2 yes-or-no outputs",
        ),
        (("balanced", 3, SOFTMAX, 3), r"y must have 0 rows as X has, got shape \(\)"),
        (("balanced", Y, SOFTMAX, 3, [1, 2]), r"sample_weight must be 6 numbers, got shape \(2,\)"),
    ],
)
def test_what_is_out_of_range_is_named(arguments, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        weigh_samples(*arguments)


def fit(X, y, **options):
    net = Sequential([Affine(X.shape[1], 3)], seed=0, dtype="float64")
    options = {"optimizer": SGD(0.5), "epochs": 3, "batch_size": 16, "shuffle": False} | options
    history = net.fit(X, y, **options)
    return net.params.copy(), history["loss"]


def test_fit_takes_weights_of_samples_and_of_classes(rng):
    X, y, weights = rng.normal(size=(50, 4)), rng.integers(0, 3, 50), rng.random(50)
    by_sample = fit(X, y, sample_weight=weights * np.array([1, 5, 2.5])[y])
    by_class = fit(X, y, sample_weight=weights, class_weight={1: 5, 2: 2.5})
    np.testing.assert_array_equal(by_class[0], by_sample[0])
    assert by_class[1] == by_sample[1]
    assert (fit(X, y)[0] != by_sample[0]).any()


def test_equal_weights_change_nothing(rng):
    X, y = rng.normal(size=(50, 4)), rng.integers(0, 3, 50)
    plain = fit(X, y)
    for weights in ({"class_weight": [4, 4, 4]}, {"sample_weight": np.full(50, 4.0)}):
        np.testing.assert_allclose(fit(X, y, **weights)[0], plain[0], rtol=1e-12)


def test_a_class_of_weight_zero_is_as_good_as_absent(rng):
    X, y = rng.normal(size=(50, 4)), rng.integers(0, 3, 50)
    params, _ = fit(X, y, class_weight={2: 0}, batch_size=50)
    expected, _ = fit(X[y != 2], y[y != 2], batch_size=50)
    np.testing.assert_allclose(params, expected, rtol=1e-10)


def test_a_weighted_step_follows_the_weighted_mean(rng):
    X, y, per_class = rng.normal(size=(20, 4)), rng.integers(0, 3, 20), np.array([1, 5, 2.5])
    net = Sequential([Affine(4, 3)], seed=0, dtype="float64")
    logits = net.predict(X)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    w = per_class[y] / per_class[y].sum()
    loss = -(w * np.log(p[np.arange(20), y])).sum()
    dz = w[:, None] * (p - np.eye(3)[y])
    params, losses_seen = fit(X, y, class_weight=per_class, epochs=1, batch_size=20)
    assert losses_seen[0] == pytest.approx(loss)
    before, after = (params_of(net.params), params_of(params))
    np.testing.assert_allclose(before[0] - after[0], 0.5 * X.T @ dz, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(before[1] - after[1], 0.5 * dz.sum(axis=0), rtol=1e-9, atol=1e-12)


def params_of(vector):
    """Return w and b of `fit`'s layer."""
    net = Sequential([Affine(4, 3)], dtype="float64")
    net.params[...] = vector
    return net.layers[0].params["w"], net.layers[0].params["b"]


@pytest.mark.peers
def test_weighted_training_is_that_of_pytorch(rng):
    torch = pytest.importorskip("torch")
    X, y, per_class = rng.normal(size=(40, 4)), rng.integers(0, 3, 40), [1, 5, 2.5]
    net = Sequential([Affine(4, 3)], seed=0, dtype="float64")
    layer = torch.nn.Linear(4, 3, dtype=torch.float64)
    with torch.no_grad():
        layer.weight[...] = torch.tensor(net.layers[0].params["w"].T)
        layer.bias[...] = torch.tensor(net.layers[0].params["b"])
    criterion = torch.nn.CrossEntropyLoss(torch.tensor(per_class, dtype=torch.float64))
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.5)
    for _ in range(3):
        for start in range(0, 40, 16):
            rows = slice(start, start + 16)
            optimizer.zero_grad()
            criterion(layer(torch.tensor(X[rows])), torch.tensor(y[rows])).backward()
            optimizer.step()
    w, b = params_of(fit(X, y, class_weight=per_class)[0])
    np.testing.assert_allclose(w.T, layer.weight.detach().numpy(), rtol=1e-10)
    np.testing.assert_allclose(b, layer.bias.detach().numpy(), rtol=1e-10)


def test_a_bad_weight_is_refused_before_anything_changes(rng):
    X, y = rng.normal(size=(20, 4)), rng.integers(0, 3, 20)
    net = Sequential([Affine(4, 3)], seed=0)
    before = net.params.copy()
    for wrong in ({"class_weight": [1, 2]}, {"sample_weight": [1.0]}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            net.fit(X, y, **wrong)
    np.testing.assert_array_equal(net.params, before)
