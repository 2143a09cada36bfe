"""Programs with nets that type checkers must accept. Nobody runs them."""

from typing import Any

import numpy as np

import fastnn
from fastnn import (
    Adam,
    Affine,
    Callback,
    Checkpoint,
    Dropout,
    EarlyStopping,
    Regularization,
    ReLU,
    Sequential,
)
from fastnn.losses import Huber, Quantile
from fastnn.schedules import Cosine


class Stop(Callback):
    """A callback may name the types of its arguments, and leave out those it does not need."""

    def on_fit_begin(self, net: Sequential, info: dict[str, Any]) -> None:
        self.net = net

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> bool:
        return logs["loss"] < 0.1

    def state(self) -> dict[str, int]:
        return {"epoch": 1}


def train_a_net(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The layer library, with objects and with names."""
    net = Sequential([Affine(4, 8), ReLU(), Dropout(0.1), Affine(8, 1)], seed=0)
    callbacks = [EarlyStopping(patience=3), Checkpoint("net.safetensors", every=2), Stop()]
    net.fit(X, y, loss=Huber(delta=2), optimizer=Adam(1e-3), callbacks=callbacks)
    net.fit(X, y, loss="mse", schedule=Cosine(warmup=1), regularization=Regularization(l2=1e-3))
    net.fit(X, y, loss=Quantile([0.1, 0.9]), schedule=lambda epoch, epochs: 1 / (epoch + 1))
    return fastnn.matmul(net.predict(X), [[1.0]], bias=[0.5], activation="relu")
