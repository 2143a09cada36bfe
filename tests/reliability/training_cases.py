"""Trainings with every layer, loss, optimizer and option, and digests of all that they compute.

    python -m tests.reliability.training_cases N [N ...] [--all]

prints as JSON a digest of each training for each of some numbers of threads.
`tests/reliability/test_determinism.py` compares them.
"""

import argparse
import hashlib
import itertools
import json
import warnings

import numpy as np
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning

from fastnn import (
    SGD,
    Activation,
    AdaGrad,
    Adam,
    AdamW,
    Affine,
    MLPClassifier,
    MLPRegressor,
    NAdam,
    Regularization,
    ReLU,
    RMSProp,
    Sequential,
    Step,
    Tanh,
    losses,
    schedules,
)
from fastnn.engine import predictor as prediction
from fastnn.runtime import threads
from fastnn.training import Trainer
from fastnn.training import trainer as training
from fastnn.training.run import Run
from tests import test_deep_nets

N_SAMPLES, N_INPUTS, N_OUTPUTS = 150, 5, 3
EPOCHS = 2


def _softsign(z):
    return z / (1 + abs(z))


def _softsign_slope(z):
    return 1 / (1 + abs(z)) ** 2


NETS = test_deep_nets.NETS | {
    "step and own function": lambda: [
        *(Affine(5, 30), Activation(_softsign, _softsign_slope), Affine(30, 9), Step()),
        Affine(9, 3),
    ],
    "sums of several blocks": lambda: [
        *(Affine(5, 500), ReLU(), Affine(500, 70), Tanh(), Affine(70, 3)),
    ],
}
LOSSES = {
    "mse": losses.MeanSquaredError(),
    "squared_error": losses.SquaredError(),
    "mae": losses.MeanAbsoluteError(),
    "huber": losses.Huber(0.3),
    "quantile": losses.Quantile(0.7),
    "three quantiles": losses.Quantile([0.1, 0.5, 0.9]),
    "poisson": losses.Poisson(),
    "binary": losses.BinaryCrossEntropy(),
    "smoothed binary": losses.BinaryCrossEntropy("sum", 0.1),
    "labels": losses.SoftmaxCrossEntropy(),
    "smoothed labels": losses.SoftmaxCrossEntropy(0.1),
    "probabilities": losses.SoftmaxCrossEntropy(),
    "smoothed probabilities": losses.SoftmaxCrossEntropy(0.1),
}
OPTIMIZERS = {
    "sgd": (SGD, {"learning_rate": 1e-5}),
    "momentum": (SGD, {"learning_rate": 1e-5, "momentum": 0.9}),
    "nesterov": (SGD, {"learning_rate": 1e-5, "momentum": 0.9, "nesterov": True}),
    "rmsprop": (RMSProp, {}),
    "adam": (Adam, {"learning_rate": 0.01}),
    "adamw": (AdamW, {"weight_decay": 0.1}),
    "adagrad": (AdaGrad, {}),
    "nadam": (NAdam, {}),
}
OPTIONS = {
    "dtype": ("float32", "float64"),
    "schedule": tuple(schedules.BY_NAME),
    "limits": (
        {},
        {"clip_value": 0.01},
        {"clip_norm": 0.1},
        {"clip_value": 0.02, "clip_norm": 0.05},
    ),
    "held": (
        {},
        {"l1": 1e-3},
        {"l2": 1e-2},
        {"weight_decay": 0.1},
        {"max_norm": 0.7},
        {"l1": 1e-3, "l2": 1e-2, "weight_decay": 0.1, "max_norm": 0.9},
    ),
    "alpha": (0.0, 0.1),
    "batch_size": (64, 7, 33, 1000, 149),
    "input": ("dense", "sparse"),
    "weights": ("none", "some", "many zeros"),
}


def pairwise(factors, apart=()):
    """Return few dicts in which each pair of values of two factors occurs.

    Greedy: each begins with a pair that is missing, and takes what adds most to it. The pairs of
    the two factors `apart` are left to chance.
    """
    order = {name: k for k, name in enumerate(factors)}
    missing = {
        ((a, i), (b, j)): None
        for a, b in itertools.combinations(factors, 2)
        for i, j in itertools.product(range(len(factors[a])), range(len(factors[b])))
        if (a, b) != apart
    }
    cases = []
    while missing:
        chosen = dict(next(iter(missing)))
        for name in [name for name in factors if name not in chosen]:
            n, before = len(factors[name]), list(chosen.items())

            def gain(k, name=name, before=before):
                new = (name, k)
                return sum(
                    ((old, new) if order[old[0]] < order[name] else (new, old)) in missing
                    for old in before
                )

            chosen[name] = max(((len(cases) + k) % n for k in range(n)), key=gain)
        for a, b in itertools.combinations(factors, 2):
            missing.pop(((a, chosen[a]), (b, chosen[b])), None)
        cases.append({name: factors[name][chosen[name]] for name in factors})
    return cases


def few_cases():
    """Return cases with each pair of a net, a loss, an optimizer and the options.

    But for pairs of a net and a loss, which meet at the net's output alone.
    """
    ends = {"net": tuple(NETS), "loss": tuple(LOSSES)}
    return pairwise({**ends, "optimizer": tuple(OPTIMIZERS), **OPTIONS}, apart=("net", "loss"))


def all_cases():
    """Return the cases of every net with every loss, optimizer and dtype; options take turns."""
    cases = []
    turns = {name: itertools.cycle(values) for name, values in OPTIONS.items() if name != "dtype"}
    for net, loss, optimizer, dtype in itertools.product(
        NETS, LOSSES, OPTIMIZERS, OPTIONS["dtype"]
    ):
        what = {"net": net, "loss": loss, "optimizer": optimizer, "dtype": dtype}
        cases.append(what | {name: next(turn) for name, turn in turns.items()})
        next(turns[list(turns)[len(cases) % len(turns)]])  # or they would go in step with dtype
    return cases


def samples():
    """Return X (N_SAMPLES, N_INPUTS)."""
    return np.random.default_rng(1).normal(size=(N_SAMPLES, N_INPUTS))


def targets_of(loss, rng):
    """Return targets that suit a loss."""
    shape = N_SAMPLES, N_OUTPUTS
    if "labels" in loss:
        return rng.integers(0, N_OUTPUTS, N_SAMPLES)
    if "probabilities" in loss:
        return rng.dirichlet(np.ones(N_OUTPUTS), N_SAMPLES)
    if "binary" in loss:
        return rng.uniform(size=shape)
    if loss == "three quantiles":
        return rng.normal(size=N_SAMPLES)
    return abs(rng.normal(size=shape)) if loss == "poisson" else rng.normal(size=shape)


def make_net(case, seed=0):
    """Return the net of a case: its biases are not zero, its outputs no large powers of e."""
    net = Sequential(NETS[case["net"]](), seed=seed, dtype=case["dtype"])
    net.params *= 0.5
    net.params += np.random.default_rng(seed).normal(0, 0.1, net.n_params)
    return net


def data_of(case):
    """Return (X, y, weights) of a case."""
    X, rng = samples(), np.random.default_rng(4)
    y = targets_of(case["loss"], rng)
    weights = None
    if case["weights"] != "none":
        weights = rng.uniform(size=N_SAMPLES)
    if case["weights"] == "many zeros":
        weights[rng.uniform(size=N_SAMPLES) < 0.9] = 0  # small batches without any weight
    if case["input"] == "sparse" and isinstance(NETS[case["net"]]()[0], Affine):
        X = sparse.csr_array(np.where(abs(X) < 0.7, 0, X))
    return X, y, weights


def make_trainer(case, net, n_threads=1):
    """Return the trainer of a case, with its data."""
    kind, settings = OPTIMIZERS[case["optimizer"]]
    batch_size = case["batch_size"]
    if "BatchNorm" in repr(net):
        batch_size -= batch_size == N_SAMPLES - 1  # the last batch must have two rows
    trainer = Trainer(
        net, LOSSES[case["loss"]], kind(**settings, **case["limits"]), batch_size, case["alpha"],
        n_threads, Regularization(**case["held"]),
    )  # fmt: skip
    trainer.use_all_threads = True
    trainer.set_data(*data_of(case))
    return trainer


def train(trainer, net, case, epochs=EPOCHS, seed=2):
    """Train for some epochs; return the losses."""
    schedule, rng = schedules.get(case["schedule"]), np.random.default_rng(seed)
    return Run(net, trainer, epochs, schedule, rng, None, (), ()).train()["loss"]


def digest_of(*arrays):
    """Return a digest of the bits of arrays and numbers."""
    digest = hashlib.sha256()
    for array in arrays:
        array = np.asarray(array)
        assert np.isfinite(array).all()
        digest.update(f"{array.dtype} {array.shape}".encode() + array.tobytes())
    return digest.hexdigest()


def digest_of_training(trainer, net, history):
    """Return a digest of all that a training has computed, and of predictions."""
    states = [a for tensors in trainer.state_vectors() for t in tensors for a in t if a is not None]
    out = net.predict(samples(), n_threads=trainer.n_threads)
    return digest_of(net.memory, out, history, trainer.step_count, *states)


def digest_of_case(case, n_threads):
    """Train as a case says, on that many threads; return the digest."""
    net = make_net(case)
    trainer = make_trainer(case, net, n_threads)
    history = train(trainer, net, case)
    assert trainer._pace.next_call()[0] == n_threads
    return digest_of_training(trainer, net, history)


ESTIMATORS = [
    {"kind": kind, "solver": solver, "dtype": dtype, "activation": activation, **more}
    for kind in (MLPClassifier, MLPRegressor)
    for solver, dtype, activation, more in (
        ("adam", "float32", "relu", {}),
        ("sgd", "float64", "tanh", {"learning_rate": "invscaling", "batch_size": 7}),
        ("adam", "float64", "logistic", {"early_stopping": True}),
        ("sgd", "float32", "identity", {"nesterovs_momentum": False, "batch_size": 33}),
        ("lbfgs", "float64", "relu", {}),
    )
]


def digest_of_estimator(settings, n_threads, as_sparse=False):
    """Fit an estimator, go on with `partial_fit` where it can; return a digest."""
    settings = dict(settings)
    rng = np.random.default_rng(3)
    X = rng.normal(size=(N_SAMPLES, N_INPUTS)) * (rng.uniform(size=(N_SAMPLES, N_INPUTS)) < 0.6)
    y = rng.integers(0, 3, N_SAMPLES)
    kind = settings.pop("kind")
    model = kind(
        hidden_layer_sizes=(30, 17), random_state=0, n_threads=n_threads, max_iter=4, **settings
    )
    data = sparse.csr_array(X) if as_sparse else X
    model.fit(data, y, rng.uniform(size=N_SAMPLES))
    if not (settings.get("early_stopping") or settings["solver"] == "lbfgs"):
        model.partial_fit(data, y)
        model.partial_fit(data[:77], y[:77])
    probabilities = model.predict_proba(X) if kind is MLPClassifier else 0
    return digest_of(
        *model.coefs_, *model.intercepts_, model.loss_, model.predict(X), probabilities
    )


def use_all_threads():
    """Let all nets of this process be trained and used on as many threads as they may."""
    pace = training.Pace
    training.Pace = lambda flops, n_threads, fixed: pace(flops, n_threads, True)
    prediction._MIN_FLOPS_PER_THREAD = 1


def digests(n_threads, cases):
    """Return a digest of each case, by its description."""
    found = {str(case): digest_of_case(case, n_threads) for case in cases}
    for settings in ESTIMATORS:
        for as_sparse in (False, True):
            name = f"{settings['kind'].__name__} {settings} {as_sparse}"
            found[name] = digest_of_estimator(settings, n_threads, as_sparse)
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("threads", type=int, nargs="+")
    parser.add_argument("--all", action="store_true")
    options = parser.parse_args()
    use_all_threads()
    warnings.filterwarnings("ignore", category=ConvergenceWarning)
    found = []
    for n in options.threads:
        # More threads than cores take turns, and most of their time to do so.
        cases = all_cases() if options.all else few_cases()[:: 1 if n <= 2 else 3]
        found.append(digests(n, cases))
    print(json.dumps(found))
    # Otherwise the threading layer has failed to start so many, and fewer were compared.
    assert threads.at_most(max(options.threads)) == max(options.threads)


if __name__ == "__main__":
    main()
