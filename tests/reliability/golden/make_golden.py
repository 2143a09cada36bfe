"""Make the golden model files, which all later versions must load: each of them once.

Each file lies beside a JSON with inputs, and with what the version that wrote it made of them. A
file that exists is never made again, for then it would only show that a version reads what it
writes; `test_model_files.py` knows the digests. After raising `fastnn.layers.serialize.FORMAT`, or
adding a file to `main`, such as for a new layer, run this script once, and add the digests that it
prints::

    python tests/reliability/golden/make_golden.py
"""

import hashlib
import json
from pathlib import Path

import numpy as np
from reliability.model_file_fuzzer import drawn, every_layer, save_table, table_data

from fastnn import Adam, Affine, BatchNorm, EarlyStopping, ReLU, Sequential
from fastnn.data.table_encoder import TableEncoder
from fastnn.files import storage
from fastnn.layers.serialize import FORMAT

FOLDER = Path(__file__).parent / f"format_{FORMAT}"


def fitted():
    """Return a net that training has stopped early, with running statistics and a Dropout seed."""
    rng = np.random.default_rng(5)
    X = rng.normal(size=(80, 3))
    y = (X[:, 0] * X[:, 1] > 0).astype(int)
    net = Sequential([Affine(3, 8), BatchNorm(8), ReLU(), Affine(8, 2)], seed=5)
    stop = EarlyStopping("val_loss", patience=2)
    validation = (X[60:], y[60:])
    net.fit(
        *(X[:60], y[:60]),
        optimizer=Adam(0.05),
        epochs=100,
        batch_size=20,
        validation_data=validation,
        callbacks=[stop],
    )
    return net


def write(name, save, inputs, predict):
    """Write one model, and a JSON with its outputs."""
    path = FOLDER / f"{name}.safetensors"
    if path.exists():
        return
    save(path)
    net = storage.read(path)[0]
    outputs = predict(path, net)
    facts = {
        "inputs": inputs,
        "outputs": outputs,
        "sha256_of_params": hashlib.sha256(net.params.tobytes()).hexdigest(),
    }
    path.with_suffix(".json").write_text(json.dumps(facts, indent=1) + "\n")
    print(f'    "{name}": "{hashlib.sha256(path.read_bytes()).hexdigest()}",')


def predictions_of_table(path, net):
    """Return labels or values that a model predicts for the table of the fuzzer."""
    _, metadata, tensors = storage.read(path)
    encoder = TableEncoder.unpack(metadata, tensors)
    data = table_data(encoder.task)
    return encoder.decode(net.predict(encoder.transform(data))).tolist()


def main():
    FOLDER.mkdir(exist_ok=True)
    X = np.random.default_rng(1).normal(size=(6, 3)).round(3)

    def predict(path, net):
        return net.predict(X).astype(float).tolist()

    for dtype in ("float32", "float64"):
        net = drawn(every_layer(), dtype)
        # The step must not depend on the last bits of what it is given.
        moved = np.abs(net.predict(X + 1e-5) - net.predict(X)).max()
        assert moved < 1e-3, "choose other inputs"
        write(f"every_layer_{dtype}", net.save, X.tolist(), predict)
    write("stopped_early", fitted().save, X.tolist(), predict)
    for task in ("classification", "regression"):
        write(f"table_{task}", lambda p, t=task: save_table(p, t), None, predictions_of_table)


if __name__ == "__main__":
    main()
