"""What a scikit-learn user relies on: the same path from the same seed, inputs, errors, files."""

import copy
import io
import itertools
import pickle
import warnings

import joblib
import numpy as np
import pytest
from scipy import sparse
from sklearn import neural_network as original
from sklearn.datasets import make_classification, make_regression
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler

from fastnn import MLPClassifier, MLPRegressor

pytestmark = [
    pytest.mark.filterwarnings("ignore:Stochastic Optimizer"),
    pytest.mark.filterwarnings("ignore:lbfgs failed to converge"),
]

CLASSES = [MLPClassifier, MLPRegressor]
SOLVERS = {
    "sgd": {"solver": "sgd", "momentum": 0.0, "learning_rate_init": 0.05},
    "momentum": {"solver": "sgd", "nesterovs_momentum": False, "learning_rate_init": 0.02},
    "nesterov": {"solver": "sgd", "nesterovs_momentum": True, "learning_rate_init": 0.02},
    "adam": {"solver": "adam", "learning_rate_init": 0.005},
}
with_classes = pytest.mark.parametrize("cls", CLASSES)


def data(cls, n=150, n_outputs=3):
    if cls is MLPClassifier:
        X, y = make_classification(
            n, 12, n_informative=6, n_classes=n_outputs, class_sep=2.0, random_state=0
        )
    else:
        X, y = make_regression(n, 12, n_targets=n_outputs, random_state=0)
        y = StandardScaler().fit_transform(y.reshape(n, -1)).reshape(y.shape)
    return StandardScaler().fit_transform(X), y


def theirs_of(model):
    """Return scikit-learn's estimator with the same parameters."""
    parameters = model.get_params()
    for name in ("n_threads", "dtype"):
        del parameters[name]
    return getattr(original, type(model).__name__)(**parameters)


def relative(a, b):
    a, b = np.asarray(a, float), np.asarray(b, float)
    assert a.shape == b.shape
    return np.max(np.abs(a - b) / np.maximum(np.abs(b), 1e-12), initial=0)


def assert_same_path(ours, theirs):
    assert ours.n_iter_ == theirs.n_iter_
    assert relative(ours.loss_curve_, theirs.loss_curve_) < 1e-7
    for a, b in zip(
        [*ours.coefs_, *ours.intercepts_], [*theirs.coefs_, *theirs.intercepts_], strict=True
    ):
        assert np.abs(a - b).max() <= 1e-6 * np.abs(b).max()


# --- the same path --------------------------------------------------------------------------------


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("solver", SOLVERS)
@with_classes
def test_fifty_epochs_follow_scikit_learns(cls, solver, activation, early_stopping):
    X, y = data(cls)
    ours = cls(
        hidden_layer_sizes=(16, 9),
        activation=activation,
        batch_size=32,
        max_iter=50,
        n_iter_no_change=50,
        early_stopping=early_stopping,
        random_state=7,
        **SOLVERS[solver],
    )
    theirs = theirs_of(ours).fit(X, y)
    assert theirs.n_iter_ == 50
    assert_same_path(ours.fit(X, y), theirs)
    if early_stopping:
        assert relative(ours.validation_scores_, theirs.validation_scores_) < 1e-7


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("solver", ["adam", "nesterov"])
@with_classes
def test_weighted_samples_follow_scikit_learns(cls, solver, early_stopping):
    X, y = data(cls)
    weights = np.random.default_rng(0).uniform(0, 3, len(X)) ** 2
    weights[::20] *= -0.1  # as it allows
    ours = cls(
        hidden_layer_sizes=(11,),
        batch_size=32,
        max_iter=20,
        early_stopping=early_stopping,
        random_state=1,
        alpha=0.1,
        **SOLVERS[solver],
    )
    theirs = theirs_of(ours).fit(X, y, sample_weight=weights)
    assert_same_path(ours.fit(X, y, sample_weight=weights), theirs)
    plain = theirs_of(ours).fit(X, y)
    assert relative(plain.loss_curve_[:5], theirs.loss_curve_[:5]) > 1e-3


@with_classes
def test_weighted_partial_fits_follow_scikit_learns(cls):
    X, y = data(cls)
    weights = np.random.default_rng(0).uniform(0, 3, len(X))
    models = (
        cls(random_state=0, hidden_layer_sizes=7),
        original.__dict__[cls.__name__](random_state=0, hidden_layer_sizes=7),
    )
    classes = {"classes": np.unique(y)} if cls is MLPClassifier else {}
    for model in models:
        for _ in range(3):
            model.partial_fit(X, y, weights, **classes)
    assert_same_path(*models)


@with_classes
def test_ones_as_weights_change_no_bit(cls):
    X, y = data(cls)
    fits = [
        cls(9, max_iter=5, random_state=0)
        if cls is MLPClassifier
        else cls(hidden_layer_sizes=9, max_iter=5, random_state=0)
        for _ in range(2)
    ]
    fits[0].fit(X, y)
    fits[1].fit(X, y, sample_weight=np.ones(len(X)))
    assert fits[0].loss_curve_ == fits[1].loss_curve_
    np.testing.assert_array_equal(fits[0].coefs_[0], fits[1].coefs_[0])


@with_classes
def test_a_batch_whose_weights_are_all_zero_changes_nothing(cls):
    X, y = data(cls)
    weights = np.ones(len(X))
    weights[:50] = 0
    options = {"hidden_layer_sizes": 9, "max_iter": 3, "random_state": 0, "shuffle": False}
    options |= {"batch_size": 50, "solver": "sgd"}
    ours = cls(**options).fit(X, y, sample_weight=weights)
    without = cls(**options).fit(X[50:], y[50:]) if cls is MLPRegressor else None
    assert np.isfinite(ours.loss_curve_).all()
    if without is not None:
        np.testing.assert_array_equal(ours.coefs_[0], without.coefs_[0])


@pytest.mark.parametrize("n_outputs", [1, 3])
def test_the_poisson_loss_follows_scikit_learns(n_outputs):
    X, _ = data(MLPRegressor)
    rng = np.random.default_rng(0)
    y = rng.poisson(np.exp(0.4 * X[:, :n_outputs] + 0.2)).astype(float)
    y = y[:, 0] if n_outputs == 1 else y
    ours = MLPRegressor("poisson", 9, batch_size=32, max_iter=30, random_state=0)
    theirs = theirs_of(ours).fit(X, y)
    assert_same_path(ours.fit(X, y), theirs)
    assert ours.out_activation_ == "exp"
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-7)


# --- L-BFGS ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@with_classes
def test_lbfgs_follows_scikit_learns(cls, activation):
    X, y = data(cls, n_outputs=3 if cls is MLPClassifier else 1)
    ours = cls(
        hidden_layer_sizes=(9,), activation=activation, solver="lbfgs", max_iter=8, random_state=2,
        alpha=0.1,
    )  # fmt: skip
    theirs = theirs_of(ours).fit(X, y)
    ours.fit(X, y)
    assert ours.n_iter_ == theirs.n_iter_
    assert ours.loss_ == pytest.approx(theirs.loss_, rel=1e-7)
    assert relative(ours.coefs_[0], theirs.coefs_[0]) < 1e-4
    assert {n for n in vars(ours) if n.endswith("_") and n[0] != "_"} == {
        n for n in vars(theirs) if n.endswith("_") and n[0] != "_"
    }


@pytest.mark.parametrize("loss", ["squared_error", "poisson"])
def test_the_gradient_that_lbfgs_follows_is_that_of_its_loss_for_several_outputs(loss):
    X, y = data(MLPRegressor, n=20)
    y = np.abs(y)
    weights = np.linspace(0, 2, 20)
    model = MLPRegressor(loss, 4, activation="tanh", solver="lbfgs", max_iter=1, alpha=0.3).fit(
        X, y
    )
    theta = np.concatenate([a.ravel() for a in [*model.coefs_, *model.intercepts_]])
    _, gradient = model._loss_grad_lbfgs(theta, X, y, weights)
    step = 1e-6 * np.eye(len(theta))
    numeric = [
        (
            model._loss_grad_lbfgs(theta + h, X, y, weights)[0]
            - model._loss_grad_lbfgs(theta - h, X, y, weights)[0]
        )
        / 2e-6
        for h in step
    ]
    np.testing.assert_allclose(gradient, numeric, rtol=1e-5, atol=1e-7)


def test_lbfgs_reports_the_loss_of_the_other_solvers():
    X, y = data(MLPRegressor)
    model = MLPRegressor(hidden_layer_sizes=5, solver="lbfgs", max_iter=20, random_state=0)
    model.fit(X, y)
    penalty = 0.5 * model.alpha * sum((w**2).sum() for w in model.coefs_) / len(X)
    expected = 0.5 * ((model.predict(X) - y) ** 2).mean() + penalty
    assert model.loss_ == pytest.approx(expected, rel=1e-12)


def test_lbfgs_on_float32_data_gives_a_float32_model():
    X, y = data(MLPRegressor, n_outputs=1)
    models = [
        MLPRegressor(hidden_layer_sizes=5, solver="lbfgs", max_iter=30, random_state=0).fit(
            X.astype(dtype), y.astype(dtype)
        )
        for dtype in ("float32", "float64")
    ]
    assert models[0].coefs_[0].dtype == models[0].predict(X).dtype == np.float32
    assert models[0].score(X, y) == pytest.approx(models[1].score(X, y), abs=0.02)


@with_classes
def test_there_is_no_partial_fit_with_lbfgs(cls):
    assert not hasattr(cls(solver="lbfgs"), "partial_fit")
    assert hasattr(cls(), "partial_fit")


# --- inputs ---------------------------------------------------------------------------------------


def tables(X, tmp_path):
    """Yield the same samples as users have them, and whether they are exact."""
    yield "list", X.tolist()
    yield "fortran", np.asfortranarray(X)
    yield "strided", np.repeat(X, 2, axis=1)[:, ::2]
    yield "big endian", X.astype(">f8")
    read_only = X.copy()
    read_only.setflags(write=False)
    yield "read-only", read_only
    np.save(tmp_path / "x.npy", X)
    yield "memory-mapped", np.load(tmp_path / "x.npy", mmap_mode="r")
    for form in (sparse.csr_array, sparse.csc_array, sparse.csr_matrix):
        yield form.__name__, form(X)
    with_doubles = sparse.coo_array(
        (
            np.concatenate([X.ravel() - 1, np.ones(X.size)]),
            (
                np.tile(np.repeat(np.arange(len(X)), X.shape[1]), 2),
                np.tile(np.tile(np.arange(X.shape[1]), len(X)), 2),
            ),
        ),
        shape=X.shape,
    ).tocsr()
    yield "csr from sums", with_doubles


@with_classes
def test_samples_may_come_in_any_shape_that_scikit_learn_takes(cls, tmp_path):
    X, y = data(cls)
    X = np.round(X)
    X[:, 0] = X[:, 0] > 0
    expected = cls(hidden_layer_sizes=7, max_iter=3, random_state=0).fit(X, y)
    for name, table in tables(X, tmp_path):
        model = cls(hidden_layer_sizes=7, max_iter=3, random_state=0).fit(table, y)
        np.testing.assert_array_equal(model.coefs_[0], expected.coefs_[0], err_msg=name)
        np.testing.assert_array_equal(model.predict(table), expected.predict(X), err_msg=name)


@pytest.mark.parametrize("dtype", ["float16", "int8", "int64", "uint16", "bool", "float32"])
@with_classes
def test_numbers_of_any_type_follow_scikit_learns(cls, dtype):
    X, y = data(cls)
    X = np.abs(np.round(2 * X)).astype(dtype)
    ours = cls(hidden_layer_sizes=7, max_iter=3, random_state=0).fit(X, y)
    theirs = theirs_of(ours).fit(X, y)
    assert ours.coefs_[0].dtype == theirs.coefs_[0].dtype
    tolerance = 1e-4 if dtype == "float32" else 1e-9
    assert relative(ours.loss_curve_, theirs.loss_curve_) < tolerance


@pytest.mark.parametrize("library", ["pandas", "polars"])
@with_classes
def test_data_frames_keep_the_names_of_their_columns(cls, library):
    frames = pytest.importorskip(library)
    X, y = data(cls, n_outputs=3 if cls is MLPClassifier else 1)
    names = [f"column {k}" for k in range(X.shape[1])]
    frame = frames.DataFrame(dict(zip(names, X.T, strict=True)))
    target = frames.Series(name="y", data=y) if library == "pandas" else frames.Series("y", y)
    model = cls(hidden_layer_sizes=7, max_iter=3, random_state=0, early_stopping=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(frame, target)
        in_frame = model.predict(frame)
    assert model.feature_names_in_.tolist() == names
    plain = cls(hidden_layer_sizes=7, max_iter=3, random_state=0, early_stopping=True).fit(X, y)
    np.testing.assert_array_equal(in_frame, plain.predict(X))
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame[names[::-1]])


# --- errors ---------------------------------------------------------------------------------------


def faults():
    """Yield (what is wrong, parameters, a function that changes X, y and weights)."""
    nan = np.nan

    def replace(value):
        def change(X, y, w):
            X = X.copy()
            X[3, 2] = value
            return X, y, w

        return change

    yield "NaN", {}, replace(nan)
    yield "infinity", {}, replace(np.inf)
    yield "too large for float32", {}, lambda X, y, w: (X.astype("float32") * 1e38 * 10, y, w)
    yield "one dimension", {}, lambda X, y, w: (X[0], y[:12], w)
    yield "three dimensions", {}, lambda X, y, w: (X[None], y, w)
    yield "no rows", {}, lambda X, y, w: (X[:0], y[:0], w)
    yield "no columns", {}, lambda X, y, w: (X[:, :0], y, w)
    yield "short y", {}, lambda X, y, w: (X, y[:-1], w)
    yield "y of None", {}, lambda X, y, w: (X, None, w)
    yield "text", {}, lambda X, y, w: (np.full(X.shape, "a"), y, w)
    yield "complex", {}, lambda X, y, w: (X + 1j, y, w)
    yield "NaN in y", {}, lambda X, y, w: (X, np.where(np.arange(len(y)) == 4, nan, y), w)
    yield "short weights", {}, lambda X, y, w: (X, y, np.ones(3))
    yield "NaN in weights", {}, lambda X, y, w: (X, y, np.full(len(X), nan))
    yield "weights of two columns", {}, lambda X, y, w: (X, y, np.ones((len(X), 2)))
    for name, value in [
        ("hidden_layer_sizes", (5, -1)),
        ("hidden_layer_sizes", 0),
        ("activation", "swish"),
        ("solver", "newton"),
        ("alpha", -1),
        ("batch_size", 0),
        ("learning_rate", "fast"),
        ("learning_rate_init", 0.0),
        ("power_t", -1.0),
        ("max_iter", 0),
        ("shuffle", "yes"),
        ("random_state", "seed"),
        ("tol", -1.0),
        ("momentum", 2),
        ("nesterovs_momentum", 3),
        ("early_stopping", "no"),
        ("validation_fraction", 1.5),
        ("beta_1", 1.0),
        ("beta_2", -0.1),
        ("epsilon", 0.0),
        ("n_iter_no_change", 0),
        ("max_fun", 0),
    ]:
        yield f"{name}={value}", {name: value}, lambda X, y, w: (X, y, w)


@pytest.mark.parametrize(
    ("parameters", "change"),
    [pytest.param(p, c, id=name) for name, p, c in faults()],
)
@with_classes
@pytest.mark.filterwarnings("ignore")  # of conversions that fail in the end
def test_bad_input_is_refused_in_scikit_learns_words(cls, parameters, change):
    X, y = data(cls, n_outputs=3 if cls is MLPClassifier else 1)
    X, y, weights = change(X, y, None)
    said = []
    for kind in (cls, getattr(original, cls.__name__)):
        with pytest.raises((ValueError, TypeError)) as caught:
            kind(**parameters).fit(X, y, sample_weight=weights)
        said.append((type(caught.value), str(caught.value)))
    assert said[0] == said[1]


# --- copies and files -----------------------------------------------------------------------------


def copies(model):
    yield pickle.loads(pickle.dumps(model))
    yield copy.deepcopy(model)
    file = io.BytesIO()
    joblib.dump(model, file)
    file.seek(0)
    yield joblib.load(file)


@pytest.mark.parametrize("solver", SOLVERS)
@with_classes
def test_a_copy_goes_on_with_the_optimizer(cls, solver):
    X, y = data(cls)
    classes = {"classes": np.unique(y)} if cls is MLPClassifier else {}
    model = cls(hidden_layer_sizes=7, random_state=0, **SOLVERS[solver])
    for _ in range(3):
        model.partial_fit(X, y, **classes)
    twins = list(copies(model))
    for each in (model, *twins):
        each.partial_fit(X, y)
    for twin in twins:
        np.testing.assert_array_equal(twin.coefs_[0], model.coefs_[0])
        assert twin.loss_curve_ == model.loss_curve_


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@with_classes
def test_models_go_to_scikit_learn_and_back(cls, solver):
    X, y = data(cls)
    ours = cls(hidden_layer_sizes=(9, 5), solver=solver, max_iter=10, random_state=0, n_threads=1)
    ours.fit(X, y)
    theirs = ours.to_sklearn()
    assert type(theirs) is getattr(original, cls.__name__)
    back = cls.from_sklearn(theirs, n_threads=2)
    assert back.get_params() == ours.get_params() | {"n_threads": 2}
    assert back.loss_ == theirs.loss_ == ours.loss_
    method = "predict_proba" if cls is MLPClassifier else "predict"
    np.testing.assert_allclose(getattr(theirs, method)(X), getattr(ours, method)(X), rtol=1e-9)
    np.testing.assert_array_equal(getattr(back, method)(X), getattr(ours, method)(X))
    theirs.coefs_[0][...] = 0
    assert (ours.coefs_[0] != 0).any()
    if solver != "lbfgs":
        back.partial_fit(X, y)
        ours.to_sklearn().partial_fit(X, y)


@with_classes
def test_what_scikit_learn_has_learned_predicts_the_same_here(cls):
    X, y = data(cls)
    theirs = getattr(original, cls.__name__)(hidden_layer_sizes=9, max_iter=10).fit(X, y)
    ours = cls.from_sklearn(theirs)
    np.testing.assert_allclose(
        ours.predict_proba(X) if cls is MLPClassifier else ours.predict(X),
        theirs.predict_proba(X) if cls is MLPClassifier else theirs.predict(X),
        rtol=1e-9,
    )
    assert ours.score(X, y) == pytest.approx(theirs.score(X, y), rel=1e-12)
    assert not hasattr(cls.from_sklearn(type(theirs)()), "coefs_")


@with_classes
def test_only_its_own_counterpart_is_taken_over(cls):
    other = original.MLPRegressor if cls is MLPClassifier else original.MLPClassifier
    with pytest.raises(TypeError, match=r"must be an instance of sklearn\.neural_network\.MLP"):
        cls.from_sklearn(other())


def test_every_pair_of_options_of_a_fit_is_accepted():
    X, y = data(MLPClassifier, n=40)
    options = {
        "solver": ["lbfgs", "sgd", "adam"],
        "hidden_layer_sizes": [(), 3, (3,), [4, 2]],
        "early_stopping": [False, True],
        "warm_start": [False, True],
    }
    for values in itertools.product(*options.values()):
        parameters = dict(zip(options, values, strict=True))
        model = MLPClassifier(max_iter=2, random_state=0, **parameters).fit(X, y).fit(X, y)
        theirs = theirs_of(model).fit(X, y).fit(X, y)
        np.testing.assert_allclose(model.loss_, theirs.loss_, rtol=1e-6, err_msg=str(parameters))
