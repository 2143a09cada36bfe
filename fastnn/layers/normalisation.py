"""What batch and layer normalisation have in common."""

from fastnn.layers.base import ParameterBlock, ParametricLayer
from fastnn.validation import MOST_COLUMNS, SMALLEST, check_integer, check_positive


class _Normalisation(ParametricLayer):
    """Base of the two: a scale and a shift for each column."""

    def __init__(self, n_features, epsilon, dtype):
        n_features = check_integer("n_features", n_features, 1, MOST_COLUMNS)
        super().__init__(n_features, n_features, None, dtype)
        self.n_features = n_features
        self.epsilon = check_positive("epsilon", epsilon, SMALLEST)

    def blocks(self):
        shape = (self.n_features,)
        return ParameterBlock("gamma", shape), ParameterBlock("beta", shape)

    def _draw(self, rng, before):
        self._params["gamma"][:] = 1
        self._params["beta"][:] = 0
