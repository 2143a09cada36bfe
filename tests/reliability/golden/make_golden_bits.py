"""Golden digests: the bits of trained weights, for every layer, loss, optimizer and option.

    python -m tests.reliability.golden.make_golden_bits            # write all digests anew
    python -m tests.reliability.golden.make_golden_bits --add      # only those of new cases
    python -m tests.reliability.golden.make_golden_bits --check    # print the cases that differ

`bits/digests.json` holds the cases together with their digests. A case that is written stays: what
is added to a table below gets new cases, and the others keep theirs, so that their digests go on
proving that the bits are the same before and after a change. `--add` refuses to write if an old
digest differs. `tests/reliability/test_golden_bits.py` trains all cases.

Parameters and samples are fractions with 20 bits made of integers, so that they are the same with
every version of NumPy, and nothing calls the C library's mathematics, but for the momenta of NAdam,
which are powers.

Without scikit-learn there are no estimators to train, and without SciPy no sparse samples: dense
ones take their place, which must give the same bits.
"""

import argparse
import hashlib
import itertools
import json
import platform
import sys
import time
import warnings
from pathlib import Path

import llvmlite.binding
import numba
import numpy as np

import fastnn
from fastnn import (
    ELU,
    GELU,
    SELU,
    SGD,
    Activation,
    AdaGrad,
    Adam,
    AdamW,
    Affine,
    BatchNorm,
    Dropout,
    HardTanh,
    Identity,
    LayerNorm,
    LeakyReLU,
    Mish,
    NAdam,
    Perceptron,
    Regularization,
    ReLU,
    Residual,
    RMSProp,
    Sequential,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Step,
    Tanh,
    losses,
)
from fastnn.training.divergence import DivergenceWarning

try:
    from scipy import sparse
except ImportError:
    sparse = None

FILE = Path(__file__).parent / "bits" / "digests.json"
COMMAND = "python -m tests.reliability.golden.make_golden_bits"

N_SAMPLES, N_PREDICTED = 150, 9
EPOCHS = 3
DTYPES = ("float32", "float64")


# --- the tables -----------------------------------------------------------------------------------


def _softsign(z):
    return z / (1 + abs(z))


def _softsign_slope(z):
    return 1 / (1 + abs(z)) ** 2


def normal_rows(width):
    """Return a net whose rows of `width` columns are normalised twice, and once of its inputs."""
    return lambda i, o: [
        *(LayerNorm(i), Affine(i, width), LayerNorm(width), ReLU(), Affine(width, width)),
        *(LayerNorm(width, 1e-3), Tanh(), Affine(width, o)),
    ]


def softmax_within(width):
    """Return a net with a softmax over `width` columns, and one after normalised columns."""
    return lambda i, o: [
        *(Affine(i, width), Softmax(), Affine(width, width), BatchNorm(width), Softmax()),
        Affine(width, o),
    ]


# Of nets with i inputs and o outputs. Sums over a row are shorter and longer than a vector of 16,
# 32 and 64 bytes in both dtypes, and not of whole vectors.
NETS = {
    "affine": lambda i, o: [Affine(i, o)],
    "without bias": lambda i, o: [Affine(i, 13, bias=False), Tanh(), Affine(13, o, bias=False)],
    "sigmoid": lambda i, o: [Affine(i, 20), Sigmoid(), Affine(20, 7), Identity(), Affine(7, o)],
    "wide": lambda i, o: [Affine(i, 500), ReLU(), Affine(500, 70), Tanh(), Affine(70, o)],
    "wide twice": lambda i, o: [
        *(Affine(i, 500), LeakyReLU(0.1), Affine(500, 500), ReLU(), Affine(500, o)),
    ],
    "narrow": lambda i, o: [Affine(i, 1), Tanh(), Affine(1, 2), Tanh(), Affine(2, 3), Affine(3, o)],
    "deep": lambda i, o: [
        Affine(i, 17),
        *(layer for _ in range(6) for layer in (ReLU(), Affine(17, 17))),
        *(Tanh(), Affine(17, o)),
    ],
    "layer norm of 7": normal_rows(7),
    "layer norm of 20": normal_rows(20),
    "layer norm of 40": normal_rows(40),
    "layer norm of 100": normal_rows(100),
    "layer norm of 500": normal_rows(500),
    "softmax of 7": softmax_within(7),
    "softmax of 20": softmax_within(20),
    "softmax of 40": softmax_within(40),
    "softmax of 100": softmax_within(100),
    "batch norm": lambda i, o: [
        *(Affine(i, 30), BatchNorm(30), ReLU(), Affine(30, 17), Tanh(), BatchNorm(17, 0.3, 1e-3)),
        Affine(17, o),
    ],
    "batch norm at both ends": lambda i, o: [
        *(BatchNorm(i), Affine(i, 9), ReLU(), Affine(9, o), BatchNorm(o)),
    ],
    "batch norm twice": lambda i, o: [
        *(Affine(i, 130), BatchNorm(130), BatchNorm(130), LeakyReLU(), Affine(130, o)),
    ],
    "dropout": lambda i, o: [
        *(Dropout(0.2, seed=1), Affine(i, 30), ReLU(), Dropout(seed=2), LeakyReLU(0.2)),
        Affine(30, o),
    ],
    "activations from their input": lambda i, o: [
        *(ELU(0.5), Affine(i, 30), GELU(), Affine(30, 26), BatchNorm(26), Mish(), ReLU()),
        *(Residual([SiLU(), Affine(26, 26), GELU("tanh")]), Softplus(), SELU(), Affine(26, o)),
        HardTanh(),
    ],
    "activations one by one": lambda i, o: [
        *(Affine(i, 40), GELU(), Affine(40, 20), SiLU(), Affine(20, 40), Mish(), Affine(40, 20)),
        *(Softplus(), Affine(20, 7), ELU(), Affine(7, 20), SELU(), Affine(20, 40), HardTanh()),
        Affine(40, o),
    ],
    "step and own function": lambda i, o: [
        *(Affine(i, 30), Activation(_softsign, _softsign_slope), Affine(30, 9), Step()),
        Affine(9, o),
    ],
    "residual": lambda i, o: [
        *(Affine(i, 30), ReLU(), Residual([Affine(30, 30), ReLU(), Affine(30, 30)]), ReLU()),
        *(Residual([Tanh()]), Affine(30, o)),
    ],
    "residual within residual": lambda i, o: [
        Residual([Affine(i, 9), Tanh(), Residual([Affine(9, 9), ReLU()]), Affine(9, i)]),
        *(Affine(i, 30), Tanh()),
        Residual(
            [
                Residual([Affine(30, 30), BatchNorm(30), ReLU()]),
                *(Dropout(0.3, seed=3), LayerNorm(30), Residual([Residual([Affine(30, 30)])])),
            ]
        ),
        *(Residual([Dropout(0.1, seed=4)]), Residual([Identity()]), Affine(30, o)),
    ],
    "regularization of its own": lambda i, o: [
        Affine(i, 40, regularization=Regularization(l1=2**-9, weight_decay=0.25)),
        *(ReLU(), Affine(40, 20, regularization=Regularization(l2=2**-5, max_norm=0.75)), Tanh()),
        Affine(20, o),
    ],
}
FEW_NETS = "layer norm of 40", "softmax of 20", "wide", "residual within residual"
# Of losses for o outputs.
LOSSES = {
    "mse": lambda o: losses.MeanSquaredError(),
    "squared_error": lambda o: losses.SquaredError(),
    "mean squared_error": lambda o: losses.SquaredError("mean"),
    "mae": lambda o: losses.MeanAbsoluteError(),
    "huber": lambda o: losses.Huber(0.25),
    "sum huber": lambda o: losses.Huber(0.5, "sum"),
    "quantile": lambda o: losses.Quantile(0.75),
    "quantiles of one column": lambda o: losses.Quantile([(k + 1) / (o + 1) for k in range(o)]),
    "poisson": lambda o: losses.Poisson(),
    "mean poisson": lambda o: losses.Poisson("mean"),
    "binary": lambda o: losses.BinaryCrossEntropy(),
    "smoothed binary": lambda o: losses.BinaryCrossEntropy("sum", 0.125),
    "labels": lambda o: losses.SoftmaxCrossEntropy(),
    "smoothed labels": lambda o: losses.SoftmaxCrossEntropy(0.125),
    "probabilities": lambda o: losses.SoftmaxCrossEntropy(),
    "smoothed probabilities": lambda o: losses.SoftmaxCrossEntropy(0.125),
}
# The others take logarithms with the C library, which need not be the same everywhere.
LOSSES_WITHOUT_LOGARITHM = {
    *("mse", "squared_error", "mean squared_error", "mae", "huber", "sum huber", "quantile"),
    "quantiles of one column",
}
# Of the arguments. The rates are large, or the last bits of a gradient would not be seen.
OPTIMIZERS = {
    "sgd": (SGD, {"learning_rate": 2**-7}),
    "momentum": (SGD, {"learning_rate": 2**-8, "momentum": 0.75}),
    "nesterov": (SGD, {"learning_rate": 2**-8, "momentum": 0.75, "nesterov": True}),
    "rmsprop": (RMSProp, {"learning_rate": 2**-8, "rho": 0.875, "epsilon": 1e-6}),
    "adam": (Adam, {"learning_rate": 2**-7}),
    "adam, others": (
        Adam,
        {"learning_rate": 2**-7, "beta_1": 0.75, "beta_2": 0.96875, "epsilon": 1e-5},
    ),
    "adamw": (AdamW, {"learning_rate": 2**-7, "weight_decay": 0.125}),
    "adamw, others": (
        AdamW,
        {"learning_rate": 2**-7, "beta_1": 0.75, "beta_2": 0.96875, "epsilon": 1e-5},
    ),
    "adagrad": (AdaGrad, {"learning_rate": 2**-6, "epsilon": 1e-6}),
    "nadam": (NAdam, {"learning_rate": 2**-8}),
    "nadam, others": (
        NAdam,
        {"learning_rate": 2**-8, "beta_1": 0.75, "beta_2": 0.96875, "epsilon": 1e-5},
    ),
}
LIMITS = {
    "none": {},
    "clip_value": {"clip_value": 0.03125},
    "clip_norm": {"clip_norm": 0.125},
    "both": {"clip_value": 0.0625, "clip_norm": 0.25},
}
HELD = {
    "none": {},
    "l1": {"l1": 2**-10},
    "l2": {"l2": 2**-6},
    "weight_decay": {"weight_decay": 0.125},
    "max_norm": {"max_norm": 0.75},
    "all": {"l1": 2**-10, "l2": 2**-6, "weight_decay": 0.125, "max_norm": 1.0},
}


class LinearByStep:
    """A schedule that falls from batch to batch."""

    by_step = True

    def __call__(self, epoch, epochs):
        return 1.0 - epoch / (2 * epochs)


SCHEDULES = {"constant": "constant", "linear": "linear", "linear by step": LinearByStep()}

FACTORS = {
    "net": tuple(NETS),
    "inputs": (5, 1, 20, 100),
    "outputs": (3, 1, 10, 20, 40, 50, 100),
    "loss": tuple(LOSSES),
    "optimizer": tuple(OPTIMIZERS),
    "limits": tuple(LIMITS),
    "held": tuple(HELD),
    "alpha": (0.0, 0.125),
    "schedule": tuple(SCHEDULES),
    "batch_size": (64, 7, 33, 1000, 149),
    "samples": ("dense", "sparse"),
    "weights": ("none", "some", "many zeros", "classes"),
}
# What a net and its loss do meets at the net's outputs alone: their pairs are left to chance.
APART = {("net", "loss")}

OTHERS = {
    "MLPClassifier, adam": lambda dtype: fitted(
        fastnn.MLPClassifier((30, 17), solver="adam", batch_size=33, **of_all(dtype)), "labels"
    ),
    "MLPClassifier, sgd": lambda dtype: fitted(
        fastnn.MLPClassifier((40,), "tanh", solver="sgd", batch_size=7, **of_all(dtype)), "labels"
    ),
    "MLPClassifier, two classes": lambda dtype: fitted(
        fastnn.MLPClassifier((7,), "logistic", solver="adam", alpha=0.125, **of_all(dtype)), "two"
    ),
    "MLPRegressor, adam": lambda dtype: fitted(
        fastnn.MLPRegressor("squared_error", (30, 17), solver="adam", **of_all(dtype)), "mse"
    ),
    "MLPRegressor, sgd": lambda dtype: fitted(
        fastnn.MLPRegressor(
            *("squared_error", (20,), "identity"),
            solver="sgd",
            nesterovs_momentum=False,
            learning_rate="adaptive",
            **of_all(dtype),
        ),
        "mse",
    ),
    "Perceptron": lambda dtype: perceptron(),
    "matmul": lambda dtype: products(dtype),
}


# --- what is trained ------------------------------------------------------------------------------


def fractions(shape, seed):
    """Return numbers k / 2^20 in [-1, 1): SplitMix64 (Steele, Lea and Flood, 2014)."""
    n = int(np.prod(shape))
    bits = np.arange(1, n + 1, dtype=np.uint64) + np.uint64((seed + 1) << 32)
    bits *= np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        bits = (bits ^ (bits >> np.uint64(shift))) * np.uint64(factor)
    bits ^= bits >> np.uint64(31)
    whole = (bits >> np.uint64(43)).astype(np.int64) - 2**20
    return (whole / 2.0**20).reshape(shape)


def integers(shape, below, seed):
    """Return integers from 0 up to `below`."""
    return ((fractions(shape, seed) + 1) * 2**20).astype(np.int64) % below


def samples_of(n_inputs, as_sparse):
    """Return X (N_SAMPLES, n_inputs), with values in [-2, 2)."""
    X = fractions((N_SAMPLES, n_inputs), 1) * 2
    return np.where(abs(X) < 1, 0, X) if as_sparse else X


def targets_of(loss, n_outputs):
    """Return targets that suit a loss."""
    shape = N_SAMPLES, n_outputs
    if "labels" in loss:
        return integers(N_SAMPLES, n_outputs, 2)
    if "probabilities" in loss:
        whole = integers(shape, 1000, 2) + 1
        return whole / whole.sum(axis=1, keepdims=True)
    if "binary" in loss:
        return (fractions(shape, 2) + 1) / 2
    if loss == "quantiles of one column":
        return fractions(N_SAMPLES, 2) * 2
    return abs(fractions(shape, 2)) * 2 if "poisson" in loss else fractions(shape, 2) * 2


def weights_of(case):
    """Return the arguments of `fit` that weigh the samples.

    Classes can be weighed only where there are labels; the samples are elsewhere.
    """
    if case["weights"] == "none":
        return {}
    if case["weights"] == "classes" and "labels" in case["loss"]:
        return {"class_weight": [(k % 4 + 1) / 4 for k in range(case["outputs"])]}
    weights = (fractions(N_SAMPLES, 3) + 1) / 2
    if case["weights"] == "many zeros":
        weights[fractions(N_SAMPLES, 4) < 0.8] = 0  # small batches without any weight
    return {"sample_weight": weights}


def make_net(case, dtype):
    """Return the net of a case, with parameters that no library has drawn."""
    net = Sequential(NETS[case["net"]](case["inputs"], case["outputs"]), seed=0, dtype=dtype)
    params = []
    for layer in net.leaves():
        for name, array in layer.params.items():
            values = fractions(array.shape, 10 + len(params))
            if name == "w":  # of about the size that keeps the outputs' size
                values *= 2.0 / (1 << len(array).bit_length() // 2)
            elif name == "gamma":
                values = 1 + values / 4
            else:
                values /= 8
            params.append(values.ravel())
    net.params[:] = np.concatenate(params)
    return net


def train(case, dtype):
    """Train as a case says; return the net, the history and some samples."""
    net = make_net(case, dtype)
    kind, settings = OPTIMIZERS[case["optimizer"]]
    batch_size = case["batch_size"]
    if "BatchNorm" in repr(net):
        batch_size -= batch_size == N_SAMPLES - 1  # the last batch must have two rows
    as_sparse = case["samples"] == "sparse" and isinstance(net.layers[0], Affine)
    X = samples_of(case["inputs"], as_sparse)
    if as_sparse and sparse is not None:
        X = sparse.csr_array(X)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DivergenceWarning)  # some do, and have bits too
        history = net.fit(
            X,
            targets_of(case["loss"], case["outputs"]),
            loss=LOSSES[case["loss"]](case["outputs"]),
            optimizer=kind(**settings, **LIMITS[case["limits"]]),
            epochs=EPOCHS,
            batch_size=batch_size,
            shuffle=False,
            alpha=case["alpha"],
            schedule=SCHEDULES[case["schedule"]],
            regularization=Regularization(**HELD[case["held"]]),
            **weights_of(case),
        )
    return net, history, X[:N_PREDICTED]


def digest_of(*arrays):
    """Return a digest of the bits of arrays and numbers."""
    digest = hashlib.sha256()
    for array in map(np.asarray, arrays):
        assert np.isfinite(array).all()
        array = array.astype(array.dtype.newbyteorder("<"))
        digest.update(f"{array.dtype.name} {array.shape}".encode() + array.tobytes())
    return digest.hexdigest()[:32]


def digests_of(case, dtype):
    """Return the digests of a case: of weights, of predictions, of losses where they have bits."""
    if "other" in case:
        return OTHERS[case["other"]](dtype)
    net, history, X = train(case, dtype)
    buffers = [array for layer in net.leaves() for array in getattr(layer, "buffers", {}).values()]
    found = {"weights": digest_of(net.params, *buffers), "outputs": digest_of(net.predict(X))}
    if case["loss"] in LOSSES_WITHOUT_LOGARITHM:
        found["losses"] = digest_of(history["loss"])
    return found


def of_all(dtype):
    """Return the settings of all estimators."""
    return {"dtype": dtype, "random_state": 0, "shuffle": False, "max_iter": EPOCHS}


def fitted(model, target):
    """Return the digests of an estimator, whose weights NumPy's `RandomState` has drawn."""
    X = samples_of(20, False)
    y = integers(N_SAMPLES, 2, 2) if target == "two" else targets_of(target, 10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it has not converged
        model.fit(X, y)
    return {
        "weights": digest_of(*model.coefs_, *model.intercepts_),
        "outputs": digest_of(model.predict(X)),
    }


def perceptron():
    """Return the digests of a perceptron, which has one dtype."""
    X = samples_of(100, False)
    model = Perceptron(100, weights=fractions(100, 5))
    model.fit(X, integers(N_SAMPLES, 2, 2), epochs=EPOCHS, learning_rate=0.1, shuffle=False)
    return {
        "weights": digest_of(model.weights, model.bias),
        "outputs": digest_of(model.predict(X)),
    }


def products(dtype):
    """Return the digests of products of matrices, with sums shorter and longer than a block."""
    found = []
    for m, k, n in ((1, 1, 1), (3, 7, 5), (20, 40, 100), (9, 1000, 17), (130, 300, 70)):
        a, b = fractions((m, k), 1).astype(dtype), fractions((k, n), 2).astype(dtype)
        found.append(fastnn.matmul(a, b))
    return {"outputs": digest_of(*found)}


# --- the cases ------------------------------------------------------------------------------------


def missing_pairs(cases):
    """Return in a dict the pairs of two factors' values that no case has."""
    pairs = {
        ((a, x), (b, y)): None
        for a, b in itertools.combinations(FACTORS, 2)
        for x, y in itertools.product(FACTORS[a], FACTORS[b])
        if (a, b) not in APART
    }
    for case in cases:
        for pair in itertools.combinations([(name, case[name]) for name in FACTORS], 2):
            pairs.pop(pair, None)
    return pairs


def is_valid(case):
    """Whether the tables have what a case names."""
    if "other" in case:
        return case["other"] in OTHERS
    return case.keys() == FACTORS.keys() and all(case[name] in FACTORS[name] for name in FACTORS)


def add_cases(cases):
    """Return cases and those that must be added to have each pair; the others are dropped.

    Greedy: each begins with a pair that is missing, and takes what adds most to it.
    """
    cases = [case for case in cases if is_valid(case)]
    mixed = [case for case in cases if "other" not in case]
    missing = missing_pairs(mixed)
    order = {name: k for k, name in enumerate(FACTORS)}
    while missing:
        chosen = dict(next(iter(missing)))
        for name in [name for name in FACTORS if name not in chosen]:
            before, values = list(chosen.items()), FACTORS[name]

            def gain(value, name=name, before=before):
                new = (name, value)
                return sum(
                    ((old, new) if order[old[0]] < order[name] else (new, old)) in missing
                    for old in before
                )

            turn = len(mixed) % len(values)
            chosen[name] = max(values[turn:] + values[:turn], key=gain)
        for pair in itertools.combinations([(name, chosen[name]) for name in FACTORS], 2):
            missing.pop(pair, None)
        mixed.append({name: chosen[name] for name in FACTORS})
    return mixed + [{"other": name} for name in OTHERS]


def name_of(case):
    """Return the description of a case that is its key, and that a message shows."""
    return ", ".join(f"{name}={value}" for name, value in case.items())


def read():
    """Return the golden cases: a list of pairs of a case and its digests by dtype."""
    if not FILE.exists():
        return []
    return [(entry["case"], entry["digests"]) for entry in json.loads(FILE.read_text())]


def write(golden):
    """Write golden cases, a line each."""
    lines = [json.dumps({"case": case, "digests": digests}) for case, digests in golden]
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text("[\n" + ",\n".join(lines) + "\n]\n")


def can_run(case):
    """Whether what a case needs is installed: scikit-learn for the estimators."""
    return case.get("other", "Sequential").partition(",")[0] in fastnn.__all__


def differences(golden, dtypes=DTYPES):
    """Train golden cases, where they can run; return a line for each whose bits are others."""
    lines = []
    for case, expected in golden:
        for dtype in dtypes if can_run(case) else ():
            found = digests_of(case, dtype)
            names = sorted(expected[dtype].keys() | found.keys())
            other = [name for name in names if expected[dtype].get(name) != found.get(name)]
            if other:
                lines.append(f"{dtype}, {' and '.join(other)}: {name_of(case)}")
    return lines


def representatives(golden):
    """Return a few golden cases, with whose kernels a width of vectors is soon compiled."""
    return [pair for name in FEW_NETS for pair in golden if pair[0].get("net") == name][::3]


def has_fused_multiply_add():
    """Whether the CPU that Numba compiles for has it: digests hold for no other."""
    if platform.machine().lower() in ("aarch64", "arm64"):
        return True
    features = numba.config.CPU_FEATURES
    if features is None:
        features = llvmlite.binding.get_host_cpu_features().flatten()
    return platform.machine().lower() in ("x86_64", "amd64") and "+fma" in features.split(",")


# --- the script -----------------------------------------------------------------------------------


def check(golden):
    """Print the cases whose bits are others; return how many there are."""
    began = time.perf_counter()
    lines = differences(golden)
    print(*lines, sep="\n", end="\n" if lines else "")
    seconds = time.perf_counter() - began
    total = sum(can_run(case) for case, _ in golden) * len(DTYPES)
    bits = fastnn.get_config()["vector_bits"]
    print(f"{len(lines)} of {total} trainings differ, vectors of {bits} bits, {seconds:.0f} s")
    return len(lines)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="print what differs, write nothing")
    parser.add_argument(
        "--add", action="store_true", help="keep all digests, add those of new cases"
    )
    parser.add_argument("--few", action="store_true", help="with --check: representative cases")
    options = parser.parse_args(arguments)
    if not has_fused_multiply_add():
        sys.exit("this CPU has no fused multiply-add: its bits are others")
    golden = read()
    if options.check:
        return int(check(representatives(golden) if options.few else golden) > 0)
    if sparse is None or "MLPClassifier" not in fastnn.__all__:
        sys.exit("nothing written: install SciPy and scikit-learn")
    known = {name_of(case): digests for case, digests in golden}
    if options.add and check(golden):
        sys.exit("nothing written: digests of old cases differ")
    written = []
    for case in add_cases([case for case, _ in golden]):
        digests = known.get(name_of(case)) if options.add else None
        written.append((case, digests or {dtype: digests_of(case, dtype) for dtype in DTYPES}))
    write(written)
    changed = sum(known.get(name_of(case)) != digests for case, digests in written)
    print(f"{len(written)} cases written to {FILE}; {changed} of them are new or have changed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
