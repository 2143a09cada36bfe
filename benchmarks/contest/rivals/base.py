"""What a library must be able to do to compete."""

import time

LEARNING_RATE = 1e-3


class Rival:
    """Base of all libraries.

    Parameters
    ----------
    n_threads : int
        How many it may use. Its process has been started for that number.
    """

    def __init__(self, n_threads):
        self.n_threads = n_threads

    def prepare(self, cell, X, y, seed):
        """Make a net with fresh parameters, to be trained on X and y with Adam."""
        self.cell, self.X, self.y = cell, X, y
        self.classifies = cell.task == "classification"
        self.build()
        self.reset(seed)

    def build(self):
        """Make what does not depend on the seed."""

    def reset(self, seed):
        """Begin again, with fresh parameters."""
        raise NotImplementedError

    def run_epochs(self, count):
        """Train for some epochs, each in a new order; come back when all is computed."""
        raise NotImplementedError

    def seconds_of_epochs(self, count):
        """Train for some epochs; return how long it took, without what a fit costs once."""
        began = time.perf_counter()
        self.run_epochs(count)
        return time.perf_counter() - began

    def predict(self, X):
        """Return the trained net's labels (N,) or outputs (N, O), to score it."""
        raise NotImplementedError

    def prepare_inference(self, cell, weights):
        """Return a function from rows (N, I) to outputs (N, O), both NumPy's, for given weights."""
        raise NotImplementedError

    def prepare_products(self, a, b, out, n_threads):
        """Return a function without arguments that overwrites out with a @ b on n_threads."""
        raise NotImplementedError

    def release(self):
        """Forget the net and its data."""
        self.__dict__ = {"n_threads": self.n_threads}
