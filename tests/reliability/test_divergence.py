"""Numbers that stop being finite are found, named, and do not spoil the model."""

import re
import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from fastnn import (
    SGD,
    Adam,
    Affine,
    BatchNorm,
    Callback,
    Dropout,
    LayerNorm,
    MLPClassifier,
    MLPRegressor,
    NAdam,
    ReLU,
    Residual,
    Sequential,
    Tanh,
)
from fastnn.training import Trainer
from fastnn.training.divergence import DivergenceWarning


@pytest.fixture(name="data")
def fixture_data(rng):
    return rng.normal(size=(60, 5)), rng.integers(0, 3, 60)


def deep_net(dtype="float32"):
    block = Residual([Affine(16, 16), Tanh(), LayerNorm(16), Affine(16, 16)])
    layers = [Affine(5, 16), BatchNorm(16), ReLU(), block, Dropout(0.2), Affine(16, 3)]
    return Sequential(layers, seed=0, dtype=dtype)


def make_trainer(net, X, y, optimizer="adam", n_threads=2):
    trainer = Trainer(net, "softmax_cross_entropy", optimizer, 10, n_threads=n_threads)
    trainer.use_all_threads = True
    trainer.set_data(X, y)
    return trainer


# Which layer is to blame, by which parameters are spoiled.
PLACES = {
    0: "layers[0] (Affine)",
    1: "layers[1] (BatchNorm)",
    2: "layers[3].layers[0] (Affine)",
    3: "layers[3].layers[2] (LayerNorm)",
    4: "layers[3].layers[3] (Affine)",
    5: "layers[5] (Affine)",
}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", PLACES)
def test_a_parameter_that_is_not_finite_is_named_before_anything_runs(place, value, data):
    net = deep_net()
    net.tensors()[place][0].flat[3] = value
    before = net.params.copy()
    name = "gamma" if "Norm" in PLACES[place] else "w"
    with pytest.raises(ValueError, match="parameters must be finite, got NaN or") as error:
        net.fit(*data, epochs=1)
    assert str(error.value).endswith(f"in {name} of {PLACES[place]}")
    np.testing.assert_array_equal(net.params, before)


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("place", PLACES)
def test_the_layer_that_breaks_down_is_named(place, n_threads, data):
    net = deep_net()
    trainer = make_trainer(net, *data, n_threads=n_threads)
    net.tensors()[place][0].flat[3] = np.nan
    trainer.pull()
    data_loss, _ = trainer.run_epoch(np.arange(60))
    assert np.isnan(data_loss)
    said = trainer.divergence.describe()
    assert said.startswith("the loss became NaN in batch 1, at a learning rate of 0.001: ")
    assert said.endswith(f"the parameters of {PLACES[place]} are not finite")


@pytest.mark.parametrize("n_threads", [1, 2])
def test_the_batch_that_breaks_down_is_named_and_changes_nothing(n_threads, data):
    X, y = data
    net = Sequential([Affine(5, 8), ReLU(), Affine(8, 3)], seed=0)
    trainer = make_trainer(net, X, y, n_threads=n_threads)
    trainer._data.x[37, 2:4] = 3e38  # `set_data` does not refuse it, and a sum of two overflows
    net.params[:] = 1.0
    trainer.pull()
    before = trainer.memory.params.copy()
    trainer.run_epoch(np.arange(60))
    assert trainer.divergence.batch == 3
    assert trainer.divergence.where == "the output of layers[0] (Affine) is"
    np.testing.assert_array_equal(trainer.memory.params, before)
    fresh = make_trainer(net, X, y)
    np.testing.assert_array_equal(trainer.memory.transposed, fresh.memory.transposed)


@pytest.mark.parametrize(
    "limits", [{}, {"clip_value": 1e3}, {"clip_norm": 1e3}], ids=lambda limits: "+".join(limits)
)
def test_a_gradient_that_overflows_is_found_though_the_loss_is_finite(limits):
    net = Sequential([Affine(1, 1)], seed=0)
    net.params[:] = 0
    trainer = Trainer(net, "mse", SGD(0.1, **limits), 1)
    trainer.set_data(np.full((1, 1), 1e30), np.full(1, 1e10))
    data_loss, _ = trainer.run_epoch(np.arange(1))
    if "clip_value" in limits:  # infinity is cut off
        assert trainer.divergence is None
        return
    assert np.isnan(data_loss)
    said = trainer.divergence.describe(2)
    assert said.startswith("the weights became NaN or infinite in epoch 2, batch 1, at a learning")
    assert said.endswith("the parameters of layers[0] (Affine) are not finite")
    trainer.sync()
    assert (net.params == 0).all()


@pytest.mark.parametrize("optimizer", [SGD(0.1, 0.9), Adam(), NAdam()], ids=repr)
def test_after_a_breakdown_the_optimizer_begins_anew(optimizer, data):
    """What it remembers is of the way to nowhere, and not finite at worst."""
    nets = [deep_net(), deep_net()]
    trainer = make_trainer(nets[0], *data, optimizer)
    rate = trainer.learning_rate
    trainer.run_epoch(np.arange(60))
    trainer.sync()
    nets[1].params[:] = nets[0].params
    nets[1].memory[:] = nets[0].memory  # running statistics too
    before = nets[0].params.copy()
    trainer.learning_rate = 1e37
    trainer.run_epoch(np.arange(60))
    assert trainer.divergence is not None
    trainer.learning_rate = rate
    trainer.sync()
    np.testing.assert_array_equal(nets[0].params, before)

    fresh = make_trainer(nets[1], *data, optimizer)
    for theirs, ours in zip(trainer._noisy, fresh._noisy, strict=True):
        ours.step = theirs.step
    fresh._begin_noise_at(0)
    results = [t.run_epoch(np.arange(60)) for t in (trainer, fresh)]
    assert results[0] == results[1]
    assert trainer.divergence is None


def test_fit_names_epoch_batch_and_layer_and_keeps_the_parameters_of_the_epoch_before(data):
    class Remember(Callback):
        def on_fit_begin(self, net, info):
            self.net, self.params = net, [net.params.copy()]

        def on_epoch_end(self, epoch, logs):
            self.params.append(self.net.params.copy())

    def schedule(epoch, epochs):
        return 1.0 if epoch < 2 else 1e38

    net, remember = deep_net(), Remember()
    with pytest.warns(RuntimeWarning, match="learning rate") as caught:
        history = net.fit(*data, epochs=9, batch_size=10, schedule=schedule, callbacks=[remember])
    assert len(caught) == 1
    said = str(caught[0].message)
    assert said.startswith("the loss became ")
    assert "in epoch 3, batch 2, at a learning rate of 1e+35: the output of layers[" in said
    assert said.endswith("try a smaller learning rate")
    assert said.startswith(history.divergence)
    assert len(history) == 3
    assert not np.isfinite(history["loss"][2])
    np.testing.assert_array_equal(net.params, remember.params[2])
    np.testing.assert_array_equal(net.params, remember.params[3])
    assert np.isfinite(net.predict(data[0])).all()


# --- losses that rise though all numbers stay finite ----------------------------------------------


def test_a_loss_that_rises_tenfold_within_the_first_epoch_is_told(data):
    net = Sequential([Affine(5, 3)], seed=0)
    with pytest.warns(DivergenceWarning, match=r"the loss rose from 1\.\d+ to ") as caught:
        history = net.fit(*data, epochs=1, batch_size=10, optimizer=SGD(1000.0))
    said = str(caught[0].message)
    assert said == f"{history.divergence}: try another learning rate, or more epochs"
    assert history.divergence.endswith(" within the first epoch, at a learning rate of 1000")
    assert not np.allclose(net.params, Sequential([Affine(5, 3)], seed=0).params)  # they are kept


def test_a_loss_that_ends_above_that_of_the_best_constant_guess_is_told(data):
    net = Sequential([Affine(5, 3)], seed=0)
    with pytest.warns(DivergenceWarning, match="at a learning rate of 1000") as caught:
        history = net.fit(*data, epochs=100, batch_size=60, optimizer=SGD(1000.0))
    assert history["loss"][-1] > 10
    ended = f"the loss ended at {history['loss'][-1]:.3g}, above the 1.1 of the best constant guess"
    assert str(caught[0].message).startswith(ended)


def test_penalties_are_no_part_of_a_loss_that_rises(data):
    net = Sequential([Affine(5, 3)], seed=0)
    net.params[:] = 1e-3
    options = {"alpha": 1e9, "optimizer": SGD(1e-12), "epochs": 200, "batch_size": 60}
    history = net.fit(data[0], np.arange(60) % 3, **options)
    assert history["loss"][-1] > 100
    assert history.divergence is None


def test_a_training_of_few_updates_may_still_be_above_a_constant_guess(data):
    X, y = data
    net = Sequential([Affine(5, 3)], seed=0)
    net.params *= 10
    assert net.fit(X, y, epochs=5).divergence is None
    assert net.loss(X, y) > 1.5


def test_targets_that_are_all_alike_are_no_divergence(data):
    net = Sequential([Affine(5, 1)], seed=0)
    history = net.fit(data[0], np.full(60, 3.0), loss="mse", optimizer=SGD(0.1), epochs=200)
    assert history.divergence is None


@pytest.mark.parametrize("batch_size", [1, 7, 60])
@pytest.mark.parametrize("loss", ["mse", "softmax_cross_entropy"])
def test_the_constant_guess_is_for_the_weights_that_samples_have_in_their_batches(
    loss, batch_size, data
):
    """The loss of the epoch and that of the guess are the same where the net is that guess."""
    X, y = data
    weights = np.where(y == 0, 5.0, np.arange(60) % 3)
    net = Sequential([Affine(5, 3 if loss != "mse" else 1)], seed=0, dtype="float64")
    net.params[:] = 0
    trainer = Trainer(net, loss, SGD(1e-300), batch_size)
    trainer.set_data(X, y, weights)
    order = np.random.default_rng(1).permutation(60)
    trainer.run_epoch(order)
    effective = np.zeros(60)
    for start in range(0, 60, batch_size):
        batch = order[start : start + batch_size]
        if weights[batch].sum():
            effective[batch] = len(batch) * weights[batch] / weights[batch].sum()
    if loss == "mse":
        net.params[-1] = np.average(y, weights=effective)
    else:
        net.params[-3:] = np.log(np.bincount(y, effective))
    trainer.pull()
    data_loss, _ = trainer.run_epoch(order)
    np.testing.assert_allclose(trainer.constant_loss() * effective.sum() / 60, data_loss)


@pytest.mark.parametrize("weights", [np.zeros(60), np.arange(60) - 10.0], ids=["zero", "negative"])
def test_without_weights_that_a_mean_can_have_there_is_no_guess_to_compare_with(weights, data):
    trainer = Trainer(Sequential([Affine(5, 3)]), "softmax_cross_entropy", SGD(1e-9), 60)
    trainer.set_data(*data, weights)
    trainer.run_epoch(np.arange(60))
    assert trainer.constant_loss() == np.inf


@pytest.mark.parametrize("estimator", [MLPClassifier, MLPRegressor])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_an_estimator_that_breaks_down_says_where_and_keeps_its_weights(estimator, method, data):
    X, y = data
    model = estimator(hidden_layer_sizes=(8,), solver="sgd", batch_size=10, random_state=0)
    classes = {"classes": np.unique(y)} if estimator is MLPClassifier else {}
    X = X.astype(np.float32)  # weights of this type overflow sooner
    model.partial_fit(X, y, **classes)
    shapes = [w.shape for w in model.coefs_]
    model.set_params(warm_start=True, learning_rate_init=1e38)
    if method == "partial_fit":
        model._trainer.learning_rate = 1e38

    def train():
        for _ in range(3):
            getattr(model, method)(X, y)

    with pytest.raises(ValueError, match="Solver produced non-finite parameter weights") as error:
        train()
    where = r"Here the loss became \w+ in epoch 1, batch 2, at .* of layers\["
    assert re.search(where, str(error.value))
    assert all(np.isfinite(w).all() for w in model.coefs_)
    assert [w.shape for w in model.coefs_] == shapes
    model.predict(X)


def test_with_early_stopping_the_best_weights_survive_a_breakdown(data):
    X, y = data[0].astype(np.float32), data[1]
    model = MLPClassifier((8,), solver="sgd", batch_size=10, random_state=0, early_stopping=True)
    model.set_params(learning_rate_init=1e38)
    with pytest.warns(ConvergenceWarning, match="the loss became .* in epoch 1, batch 2, at a"):
        model.fit(X, y)
    assert np.isnan(model.validation_scores_[-1])
    assert np.isfinite(model.predict_proba(X)).all()


def test_a_line_search_may_meet_infinite_losses(data):
    """L-BFGS tries steps that are too long, and needs the loss, not an end of all training."""
    X, y = data
    model = MLPRegressor(
        hidden_layer_sizes=(8,), solver="lbfgs", random_state=0, max_iter=50, tol=0.0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X * 1e3, y.astype(float) * 1e3)
    assert np.isfinite(model.loss_)
