"""The estimators inside scikit-learn: pipelines, searches, ensembles, callbacks, notebooks."""

import warnings

import numpy as np
import pytest
import sklearn
from joblib import Parallel, cpu_count, delayed, parallel_backend
from sklearn import neural_network as original
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.callback import ProgressBar
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.ensemble import BaggingClassifier, VotingClassifier, VotingRegressor
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from fastnn import MLPClassifier, MLPRegressor, get_num_threads

pytestmark = pytest.mark.filterwarnings("ignore:Stochastic Optimizer")


@pytest.fixture(name="cancer", scope="module")
def fixture_cancer():
    X, y = load_breast_cancer(return_X_y=True)
    return StandardScaler().fit_transform(X), np.array(["bad", "good"])[y]


@pytest.fixture(name="diabetes", scope="module")
def fixture_diabetes():
    X, y = load_diabetes(return_X_y=True)
    return StandardScaler().fit_transform(X), (y - y.mean()) / y.std()


def classifier(**parameters):
    return MLPClassifier(
        8, learning_rate_init=0.01, random_state=0, **{"max_iter": 15} | parameters
    )


def regressor(**parameters):
    parameters = {"learning_rate_init": 0.01, "random_state": 0, "max_iter": 15} | parameters
    return MLPRegressor(hidden_layer_sizes=8, **parameters)


@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing"])
@pytest.mark.filterwarnings("ignore")  # of the workers, and of forks
def test_a_search_on_two_workers_finds_what_one_finds(cancer, backend):
    X, y = cancer
    grid = {"mlpclassifier__alpha": [1e-4, 1.0], "mlpclassifier__activation": ["relu", "tanh"]}
    search = GridSearchCV(make_pipeline(StandardScaler(), classifier()), grid, cv=2)
    alone = clone(search).fit(X, y)
    with parallel_backend(backend, n_jobs=2):
        together = clone(search).set_params(n_jobs=2).fit(X, y)
    np.testing.assert_array_equal(
        alone.cv_results_["mean_test_score"], together.cv_results_["mean_test_score"]
    )
    assert alone.best_params_ == together.best_params_
    assert together.score(X, y) > 0.9


@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing"])
@pytest.mark.filterwarnings("ignore")
def test_cross_validation_gives_scikit_learns_scores(cancer, backend):
    X, y = cancer
    theirs = original.MLPClassifier(8, learning_rate_init=0.01, random_state=0, max_iter=15)
    with parallel_backend(backend, n_jobs=2):
        scores = cross_val_score(classifier(), X, y, cv=3, n_jobs=2)
    np.testing.assert_allclose(scores, cross_val_score(theirs, X, y, cv=3))


@pytest.mark.filterwarnings("ignore")
def test_the_workers_of_a_search_share_out_the_cores():
    with parallel_backend("loky", n_jobs=2):
        counts = Parallel()(delayed(get_num_threads)() for _ in range(4))
    assert max(counts) <= max(1, cpu_count() // 2)


def test_a_column_transformer_may_hand_over_sparse_columns():
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    frame = pandas.DataFrame(
        {"colour": rng.choice(["red", "green", "blue"], 300), "size": rng.normal(size=300)}
    )
    y = (frame["colour"] == "red") ^ (frame["size"] > 0)
    columns = ColumnTransformer(
        [("colour", OneHotEncoder(), ["colour"]), ("size", StandardScaler(), ["size"])],
        sparse_threshold=1.0,
    )
    assert sklearn.utils._safe_indexing(columns.fit_transform(frame), [0]).shape == (1, 4)
    model = make_pipeline(columns, classifier(max_iter=150)).fit(frame, y)
    assert model.score(frame, y) > 0.9


def test_probabilities_can_be_calibrated(cancer):
    X, y = cancer
    model = CalibratedClassifierCV(classifier(), cv=3).fit(X, y)
    assert model.score(X, y) > 0.9
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1)


def test_models_vote(cancer, diabetes):
    X, y = cancer
    vote = VotingClassifier([("mlp", classifier()), ("line", LogisticRegression())], voting="soft")
    assert vote.fit(X, y).score(X, y) > 0.9
    X, y = diabetes
    vote = VotingRegressor([("one", regressor()), ("two", regressor(activation="tanh"))])
    assert vote.fit(X, y).score(X, y) > 0.3


def test_bagging_hands_over_sample_weights(cancer):
    X, y = cancer
    ours = BaggingClassifier(classifier(), n_estimators=2, random_state=0).fit(X, y)
    theirs = original.MLPClassifier(8, learning_rate_init=0.01, random_state=0, max_iter=15)
    theirs = BaggingClassifier(theirs, n_estimators=2, random_state=0).fit(X, y)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=1e-6)


def test_a_constant_column_has_no_permutation_importance(cancer):
    X, y = cancer
    X = np.column_stack([X, np.ones(len(X))])
    model = classifier().fit(X, y)
    found = permutation_importance(model, X, y, n_repeats=2, random_state=0, n_jobs=2)
    assert found.importances_mean[-1] == 0
    assert found.importances_mean.max() > 0


def test_other_wrappers_work(diabetes):
    X, y = diabetes
    both = np.column_stack([y, -y])
    assert MultiOutputRegressor(regressor()).fit(X, both).score(X, both) > 0.3
    model = TransformedTargetRegressor(regressor(), transformer=StandardScaler()).fit(X, 100 * y)
    assert model.score(X, 100 * y) > 0.3


def test_a_pipeline_keeps_its_frames(diabetes):
    pandas = pytest.importorskip("pandas")
    X, y = diabetes
    frame = pandas.DataFrame(X, columns=[f"x{k}" for k in range(X.shape[1])])
    model = make_pipeline(StandardScaler(), regressor()).set_output(transform="pandas")
    model.fit(frame, y)
    assert model[-1].feature_names_in_.tolist() == list(frame.columns)
    assert model.score(frame, y) > 0.3


def test_sample_weights_are_routed(diabetes):
    X, y = diabetes
    weights = np.linspace(0, 2, len(X))
    with sklearn.config_context(enable_metadata_routing=True):
        model = regressor().set_fit_request(sample_weight=True)
        model = model.set_score_request(sample_weight=True)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        pipeline = make_pipeline(scaler, model)
        routed = cross_validate(
            pipeline, X, y, params={"sample_weight": weights}, return_estimator=True, cv=2
        )
        pipeline.fit(X, y, sample_weight=weights)
    half = routed["estimator"][0][-1]
    assert half.loss_ > 0
    by_hand = regressor().fit(StandardScaler().fit_transform(X), y, sample_weight=weights)
    np.testing.assert_array_equal(pipeline[-1].coefs_[0], by_hand.coefs_[0])


@pytest.mark.parametrize("model", [classifier(), regressor(solver="sgd")])
def test_a_notebook_shows_a_diagram(model):
    html = model._repr_html_()
    assert type(model).__name__ in html
    assert "n_threads" in html


class Recorder:
    """A callback of scikit-learn that notes what it is told, and may stop the fit."""

    def __init__(self, stop_after=None):
        self.stop_after, self.told = stop_after, []

    def setup(self, estimator, context):
        self.told.append("setup")

    def on_fit_task_begin(self, estimator, context):
        self.told.append(("begin", context.task_name))

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        self.told.append(("end", context.task_name))
        if context.task_name != "fit":
            self.last = None if fitted_estimator is None else fitted_estimator.coefs_[0].copy()
            done = self.told.count(("end", context.task_name))
            return self.stop_after is not None and done >= self.stop_after
        return False

    def teardown(self, estimator, context):
        self.told.append("teardown")


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("make", [classifier, regressor])
@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
def test_callbacks_follow_the_fit_and_may_stop_it(cancer, make, solver):
    X, y = cancer
    y = y == "good"
    recorder = Recorder()
    model = make(max_iter=4, solver=solver).set_callbacks(recorder).fit(X, y)
    name = "epoch" if solver == "adam" else "lbfgs-iter"
    assert recorder.told[0] == "setup"
    assert recorder.told[-1] == "teardown"
    assert recorder.told.count(("begin", name)) == recorder.told.count(("end", name))
    assert recorder.told.count(("end", name)) >= 4
    assert recorder.told.count(("begin", "fit")) == recorder.told.count(("end", "fit")) == 1
    plain = make(max_iter=4, solver=solver).fit(X, y)
    np.testing.assert_array_equal(model.coefs_[0], plain.coefs_[0])
    np.testing.assert_array_equal(recorder.last, plain.coefs_[0])
    stopped = make(max_iter=4, solver=solver).set_callbacks(Recorder(stop_after=2)).fit(X, y)
    assert stopped.n_iter_ == 2


def test_a_progress_bar_shows_the_epochs(cancer, capsys):
    pytest.importorskip("rich")
    X, y = cancer
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        classifier().set_callbacks(ProgressBar()).fit(X, y)
    assert "MLPClassifier" in capsys.readouterr().out
