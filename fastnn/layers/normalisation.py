"""The base class of batch and layer normalisation."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from fastnn.errors import name_after_subclass
from fastnn.layers.base import Layer, ParameterBlock, ParametricLayer
from fastnn.validation import MOST_COLUMNS, SMALLEST, check_integer, check_positive


class _Normalisation(ParametricLayer):
    """Base class of normalisations, with a scale gamma and a shift beta for each column."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        name_after_subclass(_Normalisation, cls)

    def __init__(self, n_features: int, epsilon: float, dtype: DTypeLike) -> None:
        n_features = check_integer("n_features", n_features, 1, MOST_COLUMNS)
        super().__init__(n_features, n_features, None, dtype)
        self.n_features = n_features
        self.epsilon = check_positive("epsilon", epsilon, SMALLEST)

    def blocks(self) -> tuple[ParameterBlock, ...]:
        shape = (self.n_features,)
        return ParameterBlock("gamma", shape), ParameterBlock("beta", shape)

    def _draw(self, rng: np.random.Generator, before: Layer | None) -> None:
        self._params["gamma"][:] = 1
        self._params["beta"][:] = 0
