"""The libraries that compete. Each file here knows one of them and is imported only to run it."""

import importlib
import importlib.util
from dataclasses import dataclass

OURS = "fastnn"


@dataclass(frozen=True)
class Entry:
    """A library as it takes part.

    Parameters
    ----------
    name : str
        As tables and the command line call it.
    home : str
        Module of this package and class in it.
    needs : tuple of str
        Modules that must be installed.
    sections : frozenset of str
        Where it takes part: "steps", "inference", "accuracy", "products".
    pinned : bool
        Whether one thread means one core: for libraries that count the cores they may use.
    compiles_long : bool
        Whether compiling a net takes many seconds.
    """

    name: str
    home: str
    needs: tuple
    sections: frozenset
    pinned: bool = False
    compiles_long: bool = False

    @property
    def ours(self):
        """Whether it is the library that all others are compared with."""
        return self.name == OURS

    @property
    def missing(self):
        """Names of the modules that are not installed."""
        return [name for name in self.needs if importlib.util.find_spec(name) is None]

    def load(self, n_threads):
        """Import the library; return it, ready to compete on a number of threads."""
        module, name = self.home.split(":")
        return getattr(importlib.import_module(f"{__name__}.{module}"), name)(n_threads)


ENTRIES = {
    entry.name: entry
    for entry in (
        Entry(
            OURS,
            "ours:FastNN",
            ("numba",),
            frozenset({"steps", "inference", "accuracy", "products"}),
        ),
        Entry("numpy", "blas:NumPy", (), frozenset({"steps", "inference", "products"})),
        Entry(
            "scikit-learn",
            "scikit:ScikitLearn",
            ("sklearn",),
            frozenset({"steps", "accuracy"}),
        ),
        Entry(
            "torch",
            "pytorch:Eager",
            ("torch",),
            frozenset({"steps", "inference", "accuracy"}),
        ),
        Entry(
            "torch.compile",
            "pytorch:Compiled",
            ("torch",),
            frozenset({"steps"}),
            compiles_long=True,
        ),
        Entry(
            "jax",
            "xla:Jax",
            ("jax", "optax"),
            frozenset({"steps", "inference", "accuracy"}),
            pinned=True,
        ),
        Entry(
            "onnxruntime",
            "onnx_runtime:OnnxRuntime",
            ("onnx", "onnxruntime"),
            frozenset({"inference"}),
        ),
    )
}
