"""A training that can be killed and started again: python training_script.py FOLDER EPOCHS.

It goes on from FOLDER/net.safetensors if that is there, and writes the parameters of the end, with
the history, to FOLDER/done.npz. ``--slow`` lets an epoch take longer, ``--huge`` a file.
"""

import sys
import time
from pathlib import Path

import numpy as np

from fastnn import (
    Affine,
    BatchNorm,
    Callback,
    Checkpoint,
    Dropout,
    EarlyStopping,
    ReLU,
    Sequential,
)


class Slow(Callback):
    """Says when an epoch ends, and waits."""

    def on_epoch_end(self, epoch, logs):
        print(epoch, flush=True)
        time.sleep(0.002 if "--slow" in sys.argv else 0)


def main():
    """Train."""
    folder, epochs = Path(sys.argv[1]), int(sys.argv[2])
    width = 512 if "--huge" in sys.argv else 16
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(64, 8)), rng.integers(0, 3, 64)
    layers = [Affine(8, width), BatchNorm(width), ReLU(), Dropout(0.3), Affine(width, 3)]
    net = Sequential(layers, seed=1)
    checkpoint = Checkpoint(folder / "net.safetensors", resume=True)
    history = net.fit(
        X,
        y,
        epochs=epochs,
        batch_size=20,
        optimizer="nadam",
        schedule="one_cycle",
        validation_data=(X, y),
        callbacks=[Slow(), checkpoint, EarlyStopping(patience=epochs)],
    )
    print("went on from", checkpoint.resumed_at, flush=True)
    figures = [history[name] for name in ("loss", "val_loss", "val_accuracy")]
    with open(folder / "done.part", "wb") as file:
        np.savez(file, params=net.memory, history=figures)
    (folder / "done.part").rename(folder / "done.npz")


if __name__ == "__main__":
    main()
