"""What is trained: a net, a batch, a dtype, and made-up data of that shape."""

import itertools
import math
from dataclasses import dataclass

import numpy as np

ACTIVATIONS = ("relu", "tanh", "logistic")
TASKS = ("classification", "regression")
DTYPES = ("float32", "float64")

# Ratio to the best rival that each net is to reach.
TARGETS = {
    "784-128-10@128": 1.5,
    "784-16-16-10@32": 3.0,
    "784-512-512-10@128": 1.25,
    "64-100-10@200": 3.0,
    "20-64-64-2@32": 3.0,
    "784-1024-1024-1024-10@512": 1.15,
    "8-32-32-2@32": 4.0,
    "54-256-256-7@256": 1.5,
}

# Steps of an epoch: many, so that shuffling costs what it costs with real data, but an epoch must
# not take seconds, and its data must fit into the memory of a dozen processes.
_ROWS, _FLOPS, _MIN_STEPS, _MAX_STEPS = 12_800, 1e10, 4, 200

_MAX_WIDTH, _MAX_BATCH, _MAX_HIDDEN, _MAX_CLASSES = 2048, 4096, 6, 128


@dataclass(frozen=True)
class Cell:
    """One measurement of training.

    Parameters
    ----------
    sizes : tuple of int
        Inputs, hidden layers, outputs.
    batch : int
        Rows of a step.
    dtype : {"float32", "float64"}
    activation : {"relu", "tanh", "logistic"}
        Of all hidden layers.
    task : {"classification", "regression"}
        Softmax cross-entropy of integer labels, or the mean squared error.
    """

    sizes: tuple
    batch: int
    dtype: str = "float32"
    activation: str = "relu"
    task: str = "classification"

    @classmethod
    def parse(cls, name):
        """Return the cell with a name such as ``8-32-32-2@32`` or ``8-32-1@32/float64/tanh``.

        Raises
        ------
        ValueError
            If it is not the name of a cell.
        """
        net, *words = name.strip().split("/")
        options = {}
        for word in words:
            known = {"dtype": DTYPES, "activation": ACTIVATIONS, "task": TASKS}
            kind = next((kind for kind, names in known.items() if word in names), None)
            if kind is None:
                raise ValueError(f"a cell has no option {word!r}, in {name!r}")
            options[kind] = word
        try:
            layers, batch = net.split("@")
            sizes = tuple(int(size) for size in layers.split("-"))
            batch = int(batch)
        except ValueError:
            raise ValueError(f"a cell is named like 784-128-10@128, got {name!r}") from None
        if len(sizes) < 2 or min(*sizes, batch) < 1:
            raise ValueError(f"a cell has two or more widths and a batch, all >= 1, got {name!r}")
        return cls(sizes, batch, **options)

    @property
    def name(self):
        """Its name; what is usual is not in it."""
        usual = Cell(self.sizes, self.batch)
        words = [
            getattr(self, kind)
            for kind in ("dtype", "activation", "task")
            if getattr(self, kind) != getattr(usual, kind)
        ]
        return "/".join(["-".join(map(str, self.sizes)) + f"@{self.batch}", *words])

    @property
    def target(self):
        """Ratio to the best rival that is to be reached."""
        return TARGETS.get(self.name, 1.0)

    @property
    def shapes(self):
        """Pairs (inputs, outputs) of the layers."""
        return list(itertools.pairwise(self.sizes))

    @property
    def flops(self):
        """Of a step: forward, dW, and dX of all layers but the first."""
        products = [n_inputs * n_outputs for n_inputs, n_outputs in self.shapes]
        return 2 * self.batch * (3 * sum(products) - products[0])

    @property
    def steps(self):
        """Steps of an epoch of the made-up data."""
        most = min(_ROWS // self.batch, int(_FLOPS / self.flops), _MAX_STEPS)
        return max(most, _MIN_STEPS)

    def data(self):
        """Return made-up X (N, I) and y: (N,) labels or (N, O) targets."""
        rng = np.random.default_rng(0)
        rows, n_outputs = self.steps * self.batch, self.sizes[-1]
        X = rng.standard_normal((rows, self.sizes[0]), dtype=self.dtype)
        if self.task == "regression":
            return X, rng.standard_normal((rows, n_outputs), dtype=self.dtype)
        y = rng.integers(0, n_outputs, rows)
        y[:n_outputs] = np.arange(n_outputs)[:rows]  # scikit-learn counts the classes it sees
        return X, y

    def weights(self, seed=0):
        """Return initial pairs (w, b) for those who draw none of their own."""
        rng = np.random.default_rng(seed)
        pairs = []
        for n_inputs, n_outputs in self.shapes:
            bound = math.sqrt((6 if self.activation == "relu" else 3) / n_inputs)
            w = rng.uniform(-bound, bound, (n_inputs, n_outputs)).astype(self.dtype)
            pairs.append((w, np.zeros(n_outputs, self.dtype)))
        return pairs


def targets():
    """Return the cells that have a target of their own."""
    return [Cell.parse(name) for name in TARGETS]


def sample(count, seed, max_flops):
    """Return random cells, the same for the same seed.

    Parameters
    ----------
    count, seed : int
    max_flops : float
        Larger steps are drawn again, so that a run ends.
    """
    rng = np.random.default_rng(seed)

    def log_uniform(low, high):
        return int(math.exp(rng.uniform(math.log(low), math.log(high + 1))))

    found = []
    while len(found) < count:
        task = TASKS[rng.integers(len(TASKS))]
        hidden = [log_uniform(1, _MAX_WIDTH) for _ in range(rng.integers(1, _MAX_HIDDEN + 1))]
        least, most = (2, _MAX_CLASSES) if task == "classification" else (1, _MAX_WIDTH)
        cell = Cell(
            (log_uniform(1, _MAX_WIDTH), *hidden, log_uniform(least, most)),
            log_uniform(1, _MAX_BATCH),
            DTYPES[rng.integers(2)],
            ACTIVATIONS[rng.integers(3)],
            task,
        )
        if cell.flops <= max_flops:
            found.append(cell)
    return found
