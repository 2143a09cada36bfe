"""The estimators against scikit-learn's: the same numbers, attributes, messages and manners."""

import copy
import gc
import inspect
import pickle
import warnings
import weakref

import numpy as np
import pytest
from scipy import sparse
from sklearn import neural_network as original
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.preprocessing import StandardScaler

from fastnn import MLPClassifier, MLPRegressor, get_num_threads
from fastnn.training import Trainer

pytestmark = pytest.mark.filterwarnings("ignore:Stochastic Optimizer")

ORIGINALS = {
    MLPClassifier: original.MLPClassifier,
    MLPRegressor: original.MLPRegressor,
}


def digits(n):
    X, y = load_digits(return_X_y=True)
    return X[:n] / 16, y[:n]


def multiclass():
    return MLPClassifier, *digits(330)


def binary():
    X, y = load_breast_cancer(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    return MLPClassifier, X[:330], np.array(["bad", "good"])[y[:330]]


def multilabel():
    X, y = digits(330)
    return MLPClassifier, X, (y[:, np.newaxis] >> np.arange(4)) & 1


def one_output():
    X, y = load_diabetes(return_X_y=True)
    return MLPRegressor, X[:330], y[:330] / 100


def three_outputs():
    _, X, y = one_output()
    return MLPRegressor, X, np.column_stack([y, X[:, 0] * 10, X.sum(axis=1)])


TASKS = [multiclass, binary, multilabel, one_output, three_outputs]


def pair(cls, **parameters):
    """Return an estimator and scikit-learn's with the same parameters."""
    parameters = {"hidden_layer_sizes": (19,), "max_iter": 5, "random_state": 3} | parameters
    return cls(**parameters), ORIGINALS[cls](**parameters)


def difference(ours, theirs):
    """Return the largest difference relative to the largest number."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape
    return np.max(np.abs(ours - theirs), initial=0) / max(1e-300, np.max(np.abs(theirs), initial=0))


def assert_same(ours, theirs, X, tolerance=1e-9):
    """Check that two fitted estimators are one, up to rounding."""
    for name in ("n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_"):
        assert getattr(ours, name) == getattr(theirs, name), name
    for a, b in zip(
        [*ours.coefs_, *ours.intercepts_], [*theirs.coefs_, *theirs.intercepts_], strict=True
    ):
        assert a.dtype == b.dtype
        assert difference(a, b) < tolerance
    for name in ("loss_", "loss_curve_", "best_loss_", "validation_scores_"):
        a, b = getattr(ours, name), getattr(theirs, name)
        assert (a is None) == (b is None), name
        assert a is None or difference(a, b) < tolerance, name
    if isinstance(ours, MLPClassifier):
        np.testing.assert_array_equal(ours.classes_, theirs.classes_)
        np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
        assert difference(ours.predict_proba(X), theirs.predict_proba(X)) < tolerance
        assert difference(ours.predict_log_proba(X), theirs.predict_log_proba(X)) < tolerance
    else:
        assert difference(ours.predict(X), theirs.predict(X)) < tolerance


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"activation": "relu", "hidden_layer_sizes": (17, 9), "batch_size": 37},
        {"activation": "tanh", "shuffle": False, "batch_size": 64},
        {"activation": "logistic", "alpha": 0.1, "batch_size": 1, "max_iter": 2},
        {"activation": "identity", "beta_1": 0.8, "beta_2": 0.99, "epsilon": 1e-3},
        {"hidden_layer_sizes": (), "batch_size": 330},
    ],
    ids=str,
)
def test_adam_gives_the_numbers_of_scikit_learn(task, parameters):
    cls, X, y = task()
    ours, theirs = pair(cls, **parameters)
    assert_same(ours.fit(X, y), theirs.fit(X, y), X)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("learning_rate", ["constant", "invscaling", "adaptive"])
@pytest.mark.parametrize(("momentum", "nesterov"), [(0.9, True), (0.5, False), (0.0, True)])
def test_sgd_gives_the_numbers_of_scikit_learn(task, learning_rate, momentum, nesterov):
    cls, X, y = task()
    ours, theirs = pair(
        cls,
        solver="sgd",
        learning_rate=learning_rate,
        learning_rate_init=0.02,
        power_t=0.3,
        momentum=momentum,
        nesterovs_momentum=nesterov,
        batch_size=50,
        max_iter=12,
        tol=0.02,
        n_iter_no_change=1,
    )
    assert_same(ours.fit(X, y), theirs.fit(X, y), X)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_early_stopping_gives_the_numbers_of_scikit_learn(task, solver):
    cls, X, y = task()
    ours, theirs = pair(
        cls,
        solver=solver,
        learning_rate="adaptive",
        learning_rate_init=0.01,
        early_stopping=True,
        validation_fraction=0.2,
        n_iter_no_change=2,
        max_iter=15,
    )
    assert_same(ours.fit(X, y), theirs.fit(X, y), X)
    assert ours.best_validation_score_ == pytest.approx(theirs.best_validation_score_, rel=1e-9)
    assert ours.best_validation_score_ == max(ours.validation_scores_)


@pytest.mark.parametrize("task", TASKS)
def test_float32_data_stays_float32_and_agrees_to_its_precision(task):
    cls, X, y = task()
    X = X.astype(np.float32)
    ours, theirs = pair(cls)
    y_32 = y.astype(np.float32) if cls is MLPRegressor else y
    ours.fit(X, y_32)
    assert_same(ours, theirs.fit(X, y_32), X, tolerance=1e-4)
    assert ours.coefs_[0].dtype == np.float32
    if cls is MLPClassifier:
        assert ours.predict_proba(X).dtype == np.float32


def test_the_dtype_of_the_model_can_be_chosen():
    _, X, y = one_output()
    for dtype in ("float32", "float64"):
        model = MLPRegressor(max_iter=1, dtype=dtype).fit(X, y)
        assert {a.dtype for a in [*model.coefs_, *model.intercepts_]} == {np.dtype(dtype)}
        assert model.predict(X).dtype == dtype


@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize("task", TASKS)
def test_partial_fit_gives_the_numbers_of_scikit_learn(task, solver):
    cls, X, y = task()
    ours, theirs = pair(cls, solver=solver, learning_rate="adaptive", n_iter_no_change=1, tol=0.05)
    classes = np.unique(y) if y.ndim == 1 else np.arange(y.shape[1])
    labels = {"classes": classes} if cls is MLPClassifier else {}
    for start, stop in [(0, 100), (100, 330), (0, 7), (50, 330), (0, 330)]:
        for model in (ours, theirs):
            model.partial_fit(X[start:stop], y[start:stop], **labels)
    assert_same(ours, theirs, X)


def test_parameters_may_change_between_calls_of_partial_fit():
    _, X, y = multiclass()
    ours, theirs = pair(MLPClassifier)
    for model in (ours, theirs):
        model.partial_fit(X, y, classes=np.arange(10))
        model.set_params(alpha=1.0, batch_size=50, shuffle=False).partial_fit(X, y)
    assert_same(ours, theirs, X)


@pytest.mark.parametrize("task", TASKS)
def test_partial_fit_goes_on_after_fit(task):
    cls, X, y = task()
    ours, theirs = pair(cls)
    for model in (ours, theirs):
        model.fit(X, y).partial_fit(X[:99], y[:99])
    assert_same(ours, theirs, X)


@pytest.mark.parametrize("task", TASKS)
def test_a_warm_start_gives_the_numbers_of_scikit_learn(task):
    cls, X, y = task()
    ours, theirs = pair(cls, warm_start=True, max_iter=3)
    for _ in range(2):
        assert_same(ours.fit(X, y), theirs.fit(X, y), X)
    assert len(ours.loss_curve_) == 6


def test_a_warm_start_with_early_stopping_keeps_the_best_weights_of_all_fits():
    # scikit-learn trains its copy of the best weights in place here, and so loses them.
    _, X, y = multiclass()
    model = MLPClassifier(max_iter=9, early_stopping=True, warm_start=True, random_state=0)
    model.set_params(learning_rate_init=0.01)
    best = [w.copy() for w in model.fit(X, y).coefs_]
    model.set_params(learning_rate_init=10.0).fit(X, y)
    assert max(model.validation_scores_[9:]) < max(model.validation_scores_[:9])
    assert all((a == b).all() for a, b in zip(best, model.coefs_, strict=True))


def test_a_warm_start_may_turn_early_stopping_on():
    _, X, y = multiclass()
    model = MLPClassifier(5, max_iter=2, warm_start=True).fit(X, y)
    model.set_params(early_stopping=True).fit(X, y)
    assert len(model.validation_scores_) == 2


def test_a_fit_starts_anew_without_warm_start():
    _, X, y = multiclass()
    model = MLPClassifier(5, max_iter=3, random_state=0).fit(X, y)
    first = [w.copy() for w in model.coefs_]
    model.fit(X, y)
    assert all((a == b).all() for a, b in zip(first, model.coefs_, strict=True))
    assert len(model.loss_curve_) == 3


def test_a_random_state_instance_is_drawn_from_as_scikit_learn_draws():
    _, X, y = multiclass()
    ours, theirs = np.random.RandomState(7), np.random.RandomState(7)
    MLPClassifier(5, max_iter=3, early_stopping=True, random_state=ours).fit(X, y)
    original.MLPClassifier(5, max_iter=3, early_stopping=True, random_state=theirs).fit(X, y)
    assert ours.uniform() == theirs.uniform()


@pytest.mark.parametrize("cls", ORIGINALS)
def test_parameters_are_scikit_learns_and_ours_come_last(cls):
    ours = inspect.signature(cls).parameters
    theirs = inspect.signature(ORIGINALS[cls]).parameters
    names = list(ours)
    assert names[-2:] == ["n_threads", "dtype"]
    assert names[:-2] == list(theirs)
    for name, parameter in theirs.items():
        assert ours[name].default == parameter.default
        assert ours[name].kind == parameter.kind


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("task", TASKS)
def test_fitted_attributes_are_scikit_learns(task, early_stopping):
    def public(model):
        return {name for name in vars(model) if name.endswith("_") and not name.startswith("_")}

    cls, X, y = task()
    ours, theirs = pair(cls, early_stopping=early_stopping)
    assert public(ours.fit(X, y)) == public(theirs.fit(X, y))


def test_column_names_are_kept_and_checked():
    pandas = pytest.importorskip("pandas")
    table, y = load_diabetes(return_X_y=True, as_frame=True)
    model = MLPRegressor(hidden_layer_sizes=5, max_iter=1).fit(table, y)
    assert list(model.feature_names_in_) == list(table.columns)
    assert isinstance(table, pandas.DataFrame)
    with pytest.raises(ValueError, match="feature names"):
        model.predict(table.rename(columns={"age": "years"}))


@pytest.mark.parametrize("task", TASKS)
def test_early_stopping_reports_progress_as_scikit_learn_does(task, capsys):
    cls, X, y = task()
    options = {"early_stopping": True, "n_iter_no_change": 1, "tol": 0.1, "max_iter": 20}
    said = []
    for model in pair(cls, verbose=True, **options):
        model.fit(X, y)
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert "Validation score did not improve more than tol=0.1" in said[0]


def test_a_falling_learning_rate_is_reported_as_scikit_learn_does(capsys):
    _, X, y = one_output()
    options = {"solver": "sgd", "learning_rate": "adaptive", "learning_rate_init": 1e-5}
    said = []
    for model in pair(
        MLPRegressor, verbose=True, n_iter_no_change=1, tol=1, max_iter=20, **options
    ):
        model.fit(X, y)
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert "Setting learning rate to 0.000002" in said[0]
    assert said[0].endswith("Learning rate too small. Stopping.\n")


@pytest.mark.parametrize("task", TASKS)
def test_sparse_data_gives_what_dense_data_gives(task):
    cls, X, y = task()
    X = np.where(X > 0.5, X, 0)
    dense = cls(hidden_layer_sizes=5, max_iter=2, random_state=0).fit(X, y)
    for convert in (sparse.csr_array, sparse.csc_array, sparse.csr_matrix):
        model = clone(dense).fit(convert(X), y)
        assert (model.coefs_[0] == dense.coefs_[0]).all()
        assert (model.predict(convert(X)) == dense.predict(X)).all()


@pytest.mark.parametrize("task", TASKS)
def test_a_pickled_copied_or_cloned_estimator_is_the_same(task):
    cls, X, y = task()
    model = cls(hidden_layer_sizes=5, max_iter=2, random_state=0).fit(X, y)
    for twin in (
        pickle.loads(pickle.dumps(model)),
        copy.deepcopy(model),
        clone(model).fit(X, y),
    ):
        assert (twin.predict(X) == model.predict(X)).all()
        assert twin.get_params() == model.get_params()
    twin.coefs_[0][...] = 0
    assert not (twin.predict(X) == model.predict(X)).all()


def test_partial_fit_goes_on_from_the_weights_after_pickling():
    _, X, y = one_output()
    model = MLPRegressor(solver="sgd", momentum=0.0, random_state=0)
    model.partial_fit(X, y).partial_fit(X, y)
    twin = pickle.loads(pickle.dumps(model))
    for each in (model, twin):
        each.partial_fit(X, y).partial_fit(X, y)
    assert twin.loss_curve_ == model.loss_curve_
    assert (twin.coefs_[0] == model.coefs_[0]).all()


def test_a_fitted_estimator_does_not_keep_the_data_alive():
    _, X, y = one_output()
    X = X.copy()
    alive = weakref.ref(X)
    model = MLPRegressor(max_iter=1).fit(X, y)
    del X
    gc.collect()
    assert alive() is None
    assert model.n_iter_ == 1


@pytest.mark.parametrize("task", TASKS)
def test_weights_may_be_edited_or_replaced(task):
    cls, X, y = task()
    ours, theirs = (model.fit(X, y) for model in pair(cls))
    for model in (ours, theirs):
        model.coefs_[0] *= 0.5
        model.intercepts_[-1][0] = 0.25
    assert_same(ours, theirs, X)
    for model in (ours, theirs):
        model.coefs_ = [w * 1.5 for w in model.coefs_]
        model.intercepts_[0] = model.intercepts_[0] + 0.1
    assert_same(ours, theirs, X)


def test_partial_fit_starts_from_edited_weights():
    _, X, y = one_output()
    ours, theirs = (model.fit(X, y) for model in pair(MLPRegressor))
    for model in (ours, theirs):
        model.coefs_[0][...] *= 0.5
        model.partial_fit(X, y)
    assert_same(ours, theirs, X)


@pytest.mark.parametrize("task", TASKS)
def test_the_number_of_threads_does_not_change_a_bit(task):
    cls, X, y = task()
    models = [
        cls(max_iter=3, random_state=0, n_threads=n).fit(X, y) for n in (1, get_num_threads())
    ]
    for a, b in zip(models[0].coefs_, models[1].coefs_, strict=True):
        assert (a == b).all()
    assert models[0].loss_curve_ == models[1].loss_curve_
    assert (models[0].predict(X) == models[1].predict(X)).all()


def test_a_fit_that_ran_out_of_epochs_says_so_where_it_was_called():
    _, X, y = multiclass()
    with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(2\) reached") as caught:
        MLPClassifier(5, max_iter=2).fit(X, y)
    assert caught[0].filename == __file__


def test_a_warning_turned_into_an_error_leaves_a_trained_model():
    _, X, y = multiclass()
    ours, theirs = pair(MLPClassifier)
    for model in (ours, theirs):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(ConvergenceWarning):
                model.fit(X, y)
    assert_same(ours, theirs, X)


def test_an_interrupted_fit_warns_and_keeps_what_was_learned(monkeypatch):
    _, X, y = multiclass()
    run_epoch = Trainer.run_epoch

    def interrupted(self, *args, **kwargs):
        result = run_epoch(self, *args, **kwargs)
        interrupted.epochs += 1
        if interrupted.epochs == 4:
            raise KeyboardInterrupt
        return result

    interrupted.epochs = 0
    monkeypatch.setattr(Trainer, "run_epoch", interrupted)
    model = MLPClassifier(5, max_iter=50, random_state=0)
    with pytest.warns(UserWarning, match="Training interrupted by user") as caught:
        model.fit(X, y)
    assert caught[0].filename == __file__
    assert model.n_iter_ == len(model.loss_curve_) == 3
    monkeypatch.undo()
    uninterrupted = MLPClassifier(5, max_iter=4, random_state=0).fit(X, y)
    assert (model.coefs_[0] == uninterrupted.coefs_[0]).all()


def test_a_batch_larger_than_the_data_is_clipped_with_a_warning():
    _, X, y = multiclass()
    ours, theirs = pair(MLPClassifier, batch_size=331)
    for model in (ours, theirs):
        with pytest.warns(UserWarning, match="It is going to be clipped"):
            model.fit(X, y)
    assert_same(ours, theirs, X)


@pytest.mark.parametrize(
    ("cls", "parameters", "message"),
    [
        (MLPRegressor, {"n_threads": 0}, "'n_threads' .* Got 0"),
        (MLPRegressor, {"dtype": "float16"}, "'dtype' .* Got 'float16'"),
        (MLPRegressor, {"activation": "swish"}, "'activation' .* Got 'swish'"),
        (MLPRegressor, {"hidden_layer_sizes": (5, 0)}, "hidden_layer_sizes must be > 0"),
        (
            MLPRegressor,
            {"early_stopping": True, "validation_fraction": 0.001},
            "validation set is too small",
        ),
    ],
)
def test_a_parameter_that_cannot_be_used_is_named_in_one_line(cls, parameters, message):
    _, X, y = one_output()
    with pytest.raises(ValueError, match=message) as caught:
        cls(**parameters).fit(X, y > 1 if cls is MLPClassifier else y)
    assert "\n" not in str(caught.value)


def test_partial_fit_refuses_what_it_cannot_go_on_with():
    _, X, y = multiclass()
    with pytest.raises(ValueError, match="does not support early_stopping"):
        MLPClassifier(early_stopping=True).partial_fit(X, y, classes=np.arange(10))
    with pytest.raises(ValueError, match="classes must be passed"):
        MLPClassifier().partial_fit(X, y)
    model = MLPClassifier(5).partial_fit(X, y, classes=np.arange(10))
    with pytest.raises(ValueError, match="`y` has classes not in"):
        model.partial_fit(X, y + 1)
    model = MLPRegressor(hidden_layer_sizes=5).partial_fit(X, y)
    with pytest.raises(ValueError, match="y must have 1 columns, as before, got 2"):
        model.partial_fit(X, np.column_stack([y, y]))


def test_a_warm_start_refuses_other_classes():
    _, X, y = multiclass()
    model = MLPClassifier(5, max_iter=1, warm_start=True).fit(X, y)
    with pytest.raises(ValueError, match="same classes"):
        model.fit(X, y % 3)


def test_weights_that_are_not_finite_are_an_error():
    _, X, y = one_output()
    model = MLPRegressor(hidden_layer_sizes=5, solver="sgd", learning_rate_init=1e10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match="non-finite parameter weights"):
            model.fit(X, y)


def test_an_estimator_that_is_not_fitted_says_so():
    with pytest.raises(NotFittedError):
        MLPClassifier().predict_proba([[0.0]])
