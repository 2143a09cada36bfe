"""Functions of a net take a fitted estimator: they look at its net, and know its labels."""

import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn")
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastnn import (
    Adam,
    Affine,
    MLPClassifier,
    MLPRegressor,
    Sequential,
    TableModel,
    inspection,
)
from fastnn.data.table_encoder import TableEncoder
from fastnn.datasets import Dataset
from fastnn.inspection import permutation_importance

OPTIONS = {"hidden_layer_sizes": (8,), "solver": "lbfgs", "max_iter": 30, "random_state": 0}
X = np.random.default_rng(0).normal(size=(80, 2))
LABELS = np.array(["none", "one", "two"])[(X[:, 0] > 0).astype(int) + (X[:, 0] > 1)]


@pytest.fixture(scope="module")
def classifier():
    return fit(MLPClassifier(**OPTIONS), X, LABELS)


def fit(model, X, y):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(X, y)


def test_the_net_of_an_estimator_gives_its_outputs(classifier):
    logits = classifier.net_.predict(X)
    assert (classifier.classes_[logits.argmax(axis=1)] == classifier.predict(X)).all()
    assert classifier.net_ is classifier.net_
    assert np.shares_memory(classifier.net_.params, classifier.coefs_[0])
    with pytest.raises(NotFittedError, match="MLPClassifier instance is not fitted yet"):
        _ = MLPClassifier().net_


def test_the_weights_of_an_estimator_are_those_of_its_first_layer(classifier):
    images = inspection.weights_as_images(classifier, (1, 2))
    assert np.array_equal(images[:, 0], classifier.coefs_[0].T)
    expected = inspection.alignment(X[0], classifier.coefs_[0])
    assert np.array_equal(inspection.alignment(X[0], classifier).dot, expected.dot)


@pytest.mark.parametrize(
    "look",
    [
        lambda model: [out for _, out in inspection.activations(model, X)],
        lambda model: inspection.saliency(model, X),
        lambda model: inspection.integrated_gradients(model, X[:3]).attributions,
        lambda model: inspection.decision_grid(model, X, n_points=5).probabilities,
    ],
)
def test_an_estimator_is_seen_as_its_net(classifier, look):
    for own, expected in zip(look(classifier), look(classifier.net_), strict=True):
        assert np.array_equal(own, expected)
    with pytest.raises(ValueError, match="not fitted yet"):
        look(MLPClassifier())


def test_the_grid_of_a_classifier_has_its_probabilities(classifier):
    for model in (classifier, fit(MLPClassifier(**OPTIONS), X, LABELS == "none")):
        grid = inspection.decision_grid(model, X, n_points=4)
        expected = model.predict_proba(grid.points.reshape(-1, 2))
        assert np.allclose(grid.probabilities.reshape(expected.shape), expected)
    model = fit(MLPRegressor(**OPTIONS), X, X[:, 0])
    with pytest.raises(ValueError, match=r"^net must predict one class for each row, got MLPRegr"):
        inspection.decision_grid(model, X)
    model = fit(MLPClassifier(**OPTIONS), X, (X > 0).astype(int))
    with pytest.raises(ValueError, match=r"^net must predict one class for each row, got MLPClass"):
        inspection.decision_grid(model, X)


def test_labels_are_those_of_the_classifier(classifier, ax):
    inspection.plot_activations(classifier, X[0], ax)
    texts = [text.get_text() for text in ax.texts]
    assert {"none", "one", "two"} <= set(texts)
    ax.clear()
    inspection.plot_decision_boundary(classifier, X, LABELS, ax, n_points=5)
    with pytest.raises(ValueError, match=r"^y must hold labels of the estimator, got 'three'$"):
        inspection.plot_decision_boundary(classifier, X[:1], ["three"], ax)


def test_the_importance_is_the_loss_of_score_of_an_estimator_or_a_pipeline(classifier):
    pipeline = make_pipeline(StandardScaler(), MLPClassifier(**OPTIONS))
    for model in (classifier, fit(pipeline, X, LABELS)):
        found = permutation_importance(model, X, LABELS, seed=0)
        assert found.base == model.score(X, LABELS)
        assert found.mean[0] > 0.2 > abs(found.mean[1])
    regressor = fit(MLPRegressor(**OPTIONS), X, X[:, 0])
    found = permutation_importance(regressor, X, X[:, 0], seed=0)
    assert found.base == regressor.score(X, X[:, 0])
    assert found.mean[0] > 0.5


def test_a_named_loss_takes_logits_and_a_function_predictions(classifier):
    codes = np.searchsorted(classifier.classes_, LABELS)
    of_model = permutation_importance(
        classifier, X, LABELS, loss="softmax_cross_entropy", seed=0, repeats=2
    )
    of_net = permutation_importance(classifier.net_, X, codes, seed=0, repeats=2)
    assert np.array_equal(of_model.repeats, of_net.repeats)
    wrong = permutation_importance(
        classifier, X, LABELS, loss=lambda y, out: (y != out).mean(), seed=0, repeats=2
    )
    score = permutation_importance(classifier, X, LABELS, seed=0, repeats=2)
    assert np.allclose(wrong.repeats, score.repeats)
    with pytest.raises(ValueError, match=r"^model must be a Sequential, a fitted estimator or"):
        permutation_importance("model", X, LABELS)


def test_an_estimator_that_knows_the_names_of_columns_is_given_them():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=["width", "height"])
    model = fit(MLPClassifier(**OPTIONS), frame, LABELS)
    found = permutation_importance(model, frame, LABELS, seed=0)  # a warning would be an error
    assert found.base == model.score(frame, LABELS)


def test_the_curves_of_an_estimator_are_those_of_its_epochs(ax):
    options = {"hidden_layer_sizes": (4,), "max_iter": 5, "random_state": 0, "early_stopping": True}
    model = fit(MLPClassifier(**options), X, LABELS)
    assert inspection.plot_history(model, ax)["loss"].tolist() == model.loss_curve_
    drawn = inspection.plot_history(model, ax, figure="val_accuracy")
    assert drawn["val_accuracy"].tolist() == model.validation_scores_
    model = fit(MLPRegressor(**options), X, X[:, 0])
    assert "val_r2" in inspection.plot_history(model, ax, figure="val_r2")
    model = fit(MLPRegressor(**OPTIONS), X, X[:, 0])  # which has no epochs
    with pytest.raises(ValueError, match="figure must be one of the history's, none, got 'loss'"):
        inspection.plot_history(model, ax)
    with pytest.raises(ValueError, match="not fitted yet"):
        inspection.plot_history(MLPClassifier(), ax)


def test_columns_of_any_kind_are_shuffled_where_the_model_takes_frames():
    pandas = pytest.importorskip("pandas")
    colour = np.array(["red", "green", "blue"])[np.arange(80) % 3]
    frame = pandas.DataFrame({"colour": colour, "width": X[:, 0]}, index=np.arange(80) * 7)
    frame["colour"] = frame["colour"].astype("category")
    before = frame.copy(deep=True)
    y = np.where(colour == "red", "yes", "no")
    encoder = TableEncoder.fit(Dataset("t", frame.astype({"colour": object}), y, [*frame], "y", 2))
    net = Sequential([Affine(4, 2)], seed=0)
    data = Dataset("t", frame.astype({"colour": object}), y.astype(object), [*frame], "y", 2)
    net.fit(encoder.transform(data), encoder.encode_target(data), optimizer=Adam(0.1), epochs=50)
    found = permutation_importance(TableModel(net, encoder), frame, y, seed=0)
    assert found.base == 1
    assert found.mean[0] > 0.2
    assert abs(found.mean[1]) < 0.1
    pandas.testing.assert_frame_equal(frame, before)
