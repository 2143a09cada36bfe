"""How much worse a model becomes when a column is shuffled."""

import numpy as np
import pytest

from fastnn import Affine, MLPClassifier, Sequential
from fastnn.inspection import Importance, permutation_importance, plot_importance


def test_a_linear_model_loses_twice_its_squared_weight_times_the_variance(rng):
    # The mean over all permutations p of (x - x[p])^2 is 2 var(x).
    X, w = rng.normal(size=(400, 3)) * [1, 2, 3], np.array([1.0, -2.0, 0.0])
    net = Sequential([Affine(3, 1, bias=False)], dtype="float64")
    net.layers[0].params["w"][:, 0] = w
    found = permutation_importance(net, X, X @ w, loss="mse", repeats=50, seed=0)
    np.testing.assert_allclose(found.mean, 2 * w**2 * X.var(axis=0), rtol=0.03)
    assert found.base == pytest.approx(0, abs=1e-24)
    assert found.mean[2] == found.std[2] == 0


def test_it_agrees_with_scikit_learn_on_an_estimator():
    inspection = pytest.importorskip("sklearn.inspection")
    from sklearn.datasets import load_iris

    X, y = load_iris(return_X_y=True)
    model = MLPClassifier((10,), solver="lbfgs", alpha=1, max_iter=1000, random_state=0).fit(X, y)
    ours = permutation_importance(
        model.predict, X, y, score=lambda y, said: (y == said).mean(), repeats=100, seed=0
    )
    theirs = inspection.permutation_importance(model, X, y, n_repeats=100, random_state=0)
    assert ours.base == model.score(X, y)
    error = np.hypot(ours.std, theirs.importances_std) / 10  # of the mean of 100 repeats
    assert (np.abs(ours.mean - theirs.importances_mean) <= 4 * error + 1e-12).all()
    np.testing.assert_allclose(ours.std, theirs.importances_std, rtol=0.35, atol=1e-3)
    assert ours.mean.argmax() == theirs.importances_mean.argmax()


def test_mean_and_std_are_those_of_the_repeats(rng):
    X = rng.normal(size=(30, 2))
    found = permutation_importance(lambda X: X, X, X, loss="squared_error", repeats=7, seed=0)
    assert found.repeats.shape == (2, 7)
    np.testing.assert_array_equal(found.mean, found.repeats.mean(axis=1))
    np.testing.assert_array_equal(found.std, found.repeats.std(axis=1))


def test_the_same_seed_gives_the_same_numbers_and_the_data_stay_as_they_are(rng):
    X, net = rng.normal(size=(50, 4)), Sequential([Affine(4, 3)], seed=0)
    y, before = rng.integers(0, 3, 50), X.copy()
    first, second = (permutation_importance(net, X, y, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.repeats, second.repeats)
    assert (first.repeats != permutation_importance(net, X, y, seed=4).repeats).any()
    np.testing.assert_array_equal(X, before)
    assert first.base == pytest.approx(net.loss(X, y))


def test_a_score_is_the_negative_of_a_loss(rng):
    X, y = rng.normal(size=(50, 2)), rng.normal(size=50)

    def error(y, said):
        return np.abs(said - y).mean()

    loss = permutation_importance(lambda X: X[:, 0], X, y, loss=error, seed=0)
    score = permutation_importance(
        lambda X: X[:, 0], X, y, score=lambda y, said: -error(y, said), seed=0
    )
    np.testing.assert_array_equal(loss.repeats, score.repeats)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"model": "net"},
            "model must be a Sequential, a fitted estimator or a function of X, got 'net'",
        ),
        ({"X": np.ones(4)}, r"X must have rows and columns, got shape \(4,\)"),
        ({"y": np.ones(3)}, r"y must have 4 rows as X has, got shape \(3,\)"),
        ({"y": [0, 1, 2, 3]}, "y must hold classes from 0 to 2 for 3 outputs, got 3"),
        ({"loss": "accuracy"}, "loss must be one of 'mse', .*got 'accuracy'"),
        ({"loss": "mse", "score": max}, "score must be a function, without a loss, got <built-in"),
        ({"score": "r2"}, "score must be a function, without a loss, got 'r2'"),
        ({"repeats": 0}, "repeats must be an integer >= 1, got 0"),
        ({"seed": -1}, "seed must be None, an integer >= 0 or"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    net = Sequential([Affine(2, 3)], seed=0)
    arguments = {"model": net, "X": np.ones((4, 2)), "y": [0, 1, 2, 0]} | options
    with pytest.raises(ValueError, match=f"^{message}"):
        permutation_importance(**arguments)


def test_the_picture_has_a_bar_for_each_input_the_most_important_on_top(ax):
    found = Importance(np.array([0.1, 0.7, 0.3]), np.ones(3), np.zeros((3, 5)), 0.2)
    assert plot_importance(found, ax, names="abc", most=2).tolist() == [1, 2]
    assert [bar.get_width() for bar in ax.patches] == [0.7, 0.3]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["b", "c"]
    assert ax.yaxis_inverted()
    with pytest.raises(ValueError, match="names must have 3 entries, got 1"):
        plot_importance(found, ax, names="a")
    with pytest.raises(ValueError, match="importance must be an Importance, got None"):
        plot_importance(None, ax)
