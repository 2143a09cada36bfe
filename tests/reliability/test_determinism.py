"""The same seed gives the same bits: on any number of threads, in any process, interrupted or not.

`training_cases` names what is trained. Predictions are the same bits in any company.
"""

import copy
import dataclasses
import json
import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning

from fastnn import (
    Activation,
    Callback,
    MLPClassifier,
    Sequential,
    optimizers,
    schedules,
)
from fastnn.engine import predictor as prediction
from fastnn.kernels.updates import RULES
from fastnn.layers import LAYERS
from fastnn.losses import _BY_NAME as LOSSES_BY_NAME
from fastnn.optimizers import BY_NAME as OPTIMIZERS_BY_NAME
from fastnn.regularization import Regularization
from tests.reliability import training_cases as cases

ROOT = Path(__file__).parent.parent.parent
FEW = cases.few_cases()

with_nets = pytest.mark.parametrize("name", cases.NETS)
with_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


# --- the cases have everything --------------------------------------------------------------------


def all_cases():
    return [FEW, cases.all_cases()]


def test_every_layer_is_trained():
    leaves = {type(leaf) for make in cases.NETS.values() for x in make() for leaf in x.leaves()}
    outer = {type(layer) for make in cases.NETS.values() for layer in make()}
    missing = {*LAYERS.values(), Activation} - leaves - outer
    assert not missing, f"add a net with {missing} to NETS of training_cases.py"
    for some in all_cases():
        assert {case["net"] for case in some} == set(cases.NETS)


def test_every_loss_is_trained():
    missing = set(LOSSES_BY_NAME.values()) - {type(loss) for loss in cases.LOSSES.values()}
    assert not missing, f"add {missing} to LOSSES of training_cases.py"
    for some in all_cases():
        assert {case["loss"] for case in some} == set(cases.LOSSES)


def test_every_optimizer_is_used():
    made = [kind(**settings) for kind, settings in cases.OPTIMIZERS.values()]
    missing = set(OPTIMIZERS_BY_NAME.values()) - {type(optimizer) for optimizer in made}
    assert not missing, f"add {missing} to OPTIMIZERS of training_cases.py"
    rules = {optimizer.rule for optimizer in made}
    assert rules == set(RULES.values())
    for some in all_cases():
        assert {case["optimizer"] for case in some} == set(cases.OPTIMIZERS)


def test_every_option_is_used():
    held = {name for settings in cases.OPTIONS["held"] for name in settings}
    assert held == {item.name for item in dataclasses.fields(Regularization)}
    limits = {name for settings in cases.OPTIONS["limits"] for name in settings}
    by_name = {item.name for item in dataclasses.fields(optimizers.Optimizer) if item.kw_only}
    assert limits == by_name
    assert set(cases.OPTIONS["schedule"]) == set(schedules.BY_NAME)
    for some in all_cases():
        for name, values in cases.OPTIONS.items():
            assert {str(case[name]) for case in some} == {str(value) for value in values}


def test_few_cases_hold_all_pairs():
    for a in ("net", "loss", "dtype", "batch_size"):
        pairs = {(case[a], case["optimizer"]) for case in FEW}
        values = {"net": cases.NETS, "loss": cases.LOSSES, **cases.OPTIONS}[a]
        assert len(pairs) == len(values) * len(cases.OPTIMIZERS)


# --- threads and processes ------------------------------------------------------------------------


def digests(*n_threads, hash_seed, more=()):
    """Return the digests that a process of its own finds for some numbers of threads."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests"), *sys.path])
    environment = os.environ | {
        "PYTHONPATH": paths,
        "NUMBA_NUM_THREADS": "8",
        "PYTHONHASHSEED": str(hash_seed),
    }
    command = [sys.executable, "-m", "tests.reliability.training_cases", *map(str, n_threads)]
    done = subprocess.run(
        [*command, *more], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(n_threads, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize(
    "more", [(), pytest.param(("--all",), marks=pytest.mark.slow)], ids=["pairs", "all"]
)
def test_any_number_of_threads_in_any_process_gives_the_same_bits(more):
    found = digests(1, 8, hash_seed=0, more=more) | digests(2, 3, hash_seed=12345, more=more)
    first = found.pop(1)
    assert len(first) > len(cases.all_cases() if more else FEW)
    for n_threads, others in found.items():
        assert 3 * len(others) >= len(first)
        different = [case for case, digest in others.items() if first[case] != digest]
        assert not different, f"{len(different)} differ on {n_threads} threads: {different[:3]}"


def test_a_digest_tells_any_two_trainings_apart():
    case = FEW[0]
    net = cases.make_net(case)
    trainer = cases.make_trainer(case, net)
    history = cases.train(trainer, net, case)
    first = cases.digest_of_training(trainer, net, history)
    assert first == cases.digest_of_case(case, 1)
    net.params[-1] = np.nextafter(net.params[-1], np.inf)
    assert first != cases.digest_of_training(trainer, net, history)
    assert first != cases.digest_of_case(case | {"alpha": 1e-3}, 1)


# --- interrupted and not --------------------------------------------------------------------------


def epochs_of(trainer, first, last):
    """Train the epochs from one to another, each in an order of its own; return what they say."""
    n = trainer.n_samples
    orders = [np.random.default_rng(epoch).permutation(n) for epoch in range(first, last)]
    return [trainer.run_epoch(order) for order in orders]


def restored(case, trainer, net):
    """Return a new trainer that goes on from the parameters of a net and the state of another."""
    trainer.sync()
    other = cases.make_net(case, seed=99)
    other.memory[:] = net.memory
    resumed = cases.make_trainer(case, other)
    resumed.restore(trainer.state())
    return resumed


RESUME = {
    "restored": restored,
    "pickled": lambda case, trainer, net: pickle.loads(pickle.dumps(trainer)),
    "copied": lambda case, trainer, net: copy.deepcopy(trainer),
}


def values_are_all_there(some):
    """Whether some of the cases still have every net, loss and optimizer."""
    names = {"net": cases.NETS, "loss": cases.LOSSES, "optimizer": cases.OPTIMIZERS}
    return all({case[name] for case in some} == set(values) for name, values in names.items())


@pytest.mark.parametrize("resume", RESUME)
def test_an_interrupted_training_goes_on_with_the_same_bits(resume):
    some = FEW[list(RESUME).index(resume) :: len(RESUME)]
    assert values_are_all_there(some)
    for case in some:
        through = cases.make_net(case)
        trainer = cases.make_trainer(case, through)
        expected = epochs_of(trainer, 0, 3)
        trainer.sync()
        stopped = cases.make_net(case)
        trainer = cases.make_trainer(case, stopped)
        told = epochs_of(trainer, 0, 1)
        resumed = RESUME[resume](case, trainer, stopped)
        told += epochs_of(resumed, 1, 3)
        resumed.sync()
        assert told == expected, case
        np.testing.assert_array_equal(resumed._net.memory, through.memory, str(case))


@pytest.mark.parametrize("as_sparse", [False, True])
@with_dtypes
def test_an_estimator_trained_in_parts_is_one_trained_at_once(dtype, as_sparse):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(150, 5)) * (rng.uniform(size=(150, 5)) < 0.6), rng.integers(0, 3, 150)
    data = sparse.csr_array(X) if as_sparse else X
    settings = {"random_state": 0, "dtype": dtype, "shuffle": False, "batch_size": 33}
    once = MLPClassifier((30,), max_iter=4, **settings)
    parts = MLPClassifier((30,), **settings)
    pickled = MLPClassifier((30,), **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        once.fit(data, y)
    for _ in range(4):
        parts.partial_fit(data, y, classes=[0, 1, 2])
        pickled = pickle.loads(pickle.dumps(pickled.partial_fit(data, y, classes=[0, 1, 2])))
    for model in (parts, pickled):
        for ours, expected in zip(model.coefs_, once.coefs_, strict=True):
            np.testing.assert_array_equal(ours, expected)
        np.testing.assert_array_equal(model.predict_proba(data), once.predict_proba(data))


@with_dtypes
def test_a_warm_start_of_an_optimizer_without_memory_goes_on_with_the_same_bits(dtype):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(150, 5)), rng.integers(0, 3, 150)
    settings = {"solver": "sgd", "momentum": 0, "shuffle": False, "dtype": dtype}
    once = MLPClassifier((30,), max_iter=4, random_state=0, **settings)
    twice = MLPClassifier((30,), max_iter=2, random_state=0, warm_start=True, **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        once.fit(X, y)
        twice.fit(X, y).fit(X, y)
    for ours, expected in zip(twice.coefs_, once.coefs_, strict=True):
        np.testing.assert_array_equal(ours, expected)


@with_nets
def test_who_watches_a_fit_does_not_change_it(name):
    X, y = cases.samples(), np.arange(cases.N_SAMPLES) % 3
    watched, alone = (Sequential(cases.NETS[name](), seed=5) for _ in range(2))
    settings = {"epochs": 2, "batch_size": 33, "schedule": "cosine"}
    first = alone.fit(X, y, n_threads=1, **settings)
    second = watched.fit(X, y, callbacks=[Callback()], validation_data=(X[:9], y[:9]), **settings)
    assert first["loss"] == second["loss"]
    np.testing.assert_array_equal(watched.memory, alone.memory)


# --- predictions ----------------------------------------------------------------------------------


def fitted_net(name, dtype):
    net = cases.make_net({"net": name, "dtype": dtype})
    net.fit(cases.samples(), np.arange(cases.N_SAMPLES) % 3, epochs=1, batch_size=50)
    return net


@with_nets
@with_dtypes
def test_a_row_is_predicted_alike_in_any_company(name, dtype, monkeypatch):
    monkeypatch.setattr(prediction, "_MIN_FLOPS_PER_THREAD", 1)  # threads where they do not pay
    net = fitted_net(name, dtype)
    X = cases.samples()
    out = net.predict(X, n_threads=1)
    assert np.isfinite(out).all()
    frozen = net.freeze()
    order = np.random.default_rng(0).permutation(len(X))
    for predict in (net.predict, frozen.predict):
        for n_threads in (1, 2):
            np.testing.assert_array_equal(predict(X, n_threads=n_threads), out)
        for first, n_rows in ((3, 2), (1, 7), (5, 8), (9, 63), (20, 65)):
            part = slice(first, first + n_rows)
            np.testing.assert_array_equal(predict(X[part], n_threads=1), out[part])
        alone = np.vstack([predict(X[r : r + 1], n_threads=1) for r in range(len(X))])
        np.testing.assert_array_equal(alone, out)
        np.testing.assert_array_equal(predict(X[order], n_threads=1), out[order])


@with_dtypes
def test_the_layout_of_samples_does_not_change_their_predictions(dtype):
    net = fitted_net("sums of several blocks", dtype)
    X = cases.samples().astype(dtype)
    out = net.predict(X)
    wide = np.full((300, 10), np.nan, dtype)
    wide[::2, ::2] = X
    read_only = X.copy()
    read_only.flags.writeable = False
    unaligned = np.frombuffer(b"x" + X.tobytes(), dtype, offset=1).reshape(X.shape)
    swapped = X.astype(X.dtype.newbyteorder())
    for x in (
        np.asfortranarray(X), wide[::2, ::2], read_only, unaligned, swapped, X[::-1][::-1],
        X.tolist(), np.ma.asarray(X),
    ):  # fmt: skip
        np.testing.assert_array_equal(net.predict(x), out)
        np.testing.assert_array_equal(net.freeze().predict(x), out)
    np.testing.assert_array_equal(net.predict(X[::-1]), out[::-1])
    np.testing.assert_array_equal(wide[::2, ::2], X)


@pytest.mark.parametrize("name", ["sums of several blocks", "batch norm", "residual"])
@with_dtypes
def test_sparse_samples_are_predicted_alike_in_any_company(name, dtype, monkeypatch):
    monkeypatch.setattr(prediction, "_MIN_FLOPS_PER_THREAD", 1)
    net = fitted_net(name, dtype)
    X = cases.samples()
    X[np.abs(X) < 0.7] = 0
    X[4] = 0  # no entries at all
    thin = sparse.csr_array(X)
    out = net.predict(thin, n_threads=1)
    np.testing.assert_array_equal(net.predict(X), out)
    for x in (sparse.csc_array(X), sparse.coo_array(X), sparse.lil_array(X)):
        np.testing.assert_array_equal(net.predict(x, n_threads=1), out)
    np.testing.assert_array_equal(net.predict(thin, n_threads=2), out)
    np.testing.assert_array_equal(net.freeze().predict(thin, n_threads=1), out)
    for first, n_rows in ((0, 1), (4, 1), (149, 1), (3, 2), (1, 7), (5, 8), (9, 63), (20, 65)):
        part = thin[first : first + n_rows]
        np.testing.assert_array_equal(net.predict(part, n_threads=1), out[first : first + n_rows])
