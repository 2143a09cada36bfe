"""`Sequential`: construction, prediction, saving, and what it refuses."""

import copy
import gc
import json
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fastnn import Affine, EarlyStopping, Identity, ReLU, Sequential, Sigmoid, Softmax, Tanh
from fastnn.engine import predictor
from fastnn.engine.plan import build
from fastnn.errors import ModelFileError
from fastnn.files.storage import read
from fastnn.kernels.memory import address_of


def small_net(dtype="float32", seed=0):
    return Sequential([Affine(4, 9), ReLU(), Affine(9, 3)], seed=seed, dtype=dtype)


def data(n=20):
    rng = np.random.default_rng(1)
    return rng.normal(size=(n, 4)), rng.integers(0, 3, n)


def test_all_parameters_are_views_of_one_vector():
    net = small_net()
    assert net.n_params == net.params.size == 4 * 9 + 9 + 9 * 3 + 3
    net.params[:] = np.arange(net.n_params)
    np.testing.assert_array_equal(net.layers[0].params["w"].ravel(), np.arange(36))
    net.layers[2].params["b"][...] = -1
    np.testing.assert_array_equal(net.params[-3:], -1)


def test_parameters_changed_in_place_take_effect_at_once():
    net = small_net()
    X, _ = data()
    net.predict(X)
    net.layers[2].params["w"][...] = 0
    net.layers[2].params["b"][...] = [1, 2, 3]
    np.testing.assert_array_equal(net.predict(X), np.tile(np.float32([1, 2, 3]), (20, 1)))


def test_layers_with_parameters_keep_them():
    layer = Affine(2, 3)
    layer.params["w"][...] = 7
    net = Sequential([layer], seed=0)
    np.testing.assert_array_equal(net.params[:6], 7)
    layer.params["w"][0, 0] = 5
    assert net.params[0] == 5


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, copy.copy, lambda net: pickle.loads(pickle.dumps(net))]
)
def test_a_copy_is_a_net_of_its_own(duplicate):
    X, y = data(300)
    net = small_net()
    before = net.predict(X)
    twin = duplicate(net)
    np.testing.assert_array_equal(twin.predict(X), before)
    twin.fit(X, y, epochs=3)
    np.testing.assert_array_equal(twin.predict(X)[:100], twin.predict(X[:100]))
    np.testing.assert_array_equal(twin.predict(X), twin.forward(X))
    assert (twin.predict(X) != before).any()
    np.testing.assert_array_equal(net.predict(X[:100]), before[:100])
    np.testing.assert_array_equal(net.predict(X), before)
    twin.layers[0].params["w"][...] = 0
    assert (twin.params[:36] == 0).all()


def test_a_layer_belongs_to_one_net():
    layer = Affine(3, 3)
    net = Sequential([layer], seed=0)
    with pytest.raises(ValueError, match=r"^layers\[0\] is in another net already: .* use a copy"):
        Sequential([layer])
    twin = Sequential([copy.deepcopy(layer)])
    twin.params[...] = 0
    assert (net.params[:9] != 0).all()


def test_any_integer_seed_is_saved(tmp_path):
    path = tmp_path / "net.safetensors"
    Sequential([Affine(2, 2)], seed=np.int64(3)).save(path)
    assert Sequential.load(path)._seed == 3


@pytest.mark.parametrize("seed", [-1, 1.5, "a", True, [1]])
def test_a_wrong_seed_is_named(seed):
    with pytest.raises(ValueError, match=r"^seed must be None, an integer >= 0 or"):
        Sequential([Affine(2, 2)], seed=seed)
    with pytest.raises(ValueError, match=r"^seed must be None, an integer >= 0 or"):
        Affine(2, 2, seed=seed)


@pytest.mark.parametrize("layers", [None, Affine(2, 2), "relu", 3])
def test_layers_must_be_a_list(layers):
    with pytest.raises(ValueError, match=r"^layers must be a list of layers, got"):
        Sequential(layers)


def test_paths_that_cannot_be_written_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^path '.*nowhere/x' lies in a folder that"):
        small_net().save(tmp_path / "nowhere" / "x")
    with pytest.raises(IsADirectoryError, match=r"^path '.*' is a folder$"):
        small_net().save(tmp_path)
    with pytest.raises(ValueError, match=r"^tensors\['a'\] must be numeric, got dtype"):
        small_net().save(tmp_path / "x", tensors={"a": np.array("x")})
    assert list(tmp_path.iterdir()) == []


def test_prediction_of_no_rows_is_empty():
    assert small_net().predict(np.empty((0, 4))).shape == (0, 3)


def test_backward_gives_the_gradient_of_the_input():
    net = small_net("float64")
    X, _ = data(5)
    dout = np.random.default_rng(2).normal(size=(5, 3))
    net.forward(X)
    dx = net.backward(dout)
    h = 1e-6
    for i, j in ((0, 0), (2, 3), (4, 1)):
        up, down = X.copy(), X.copy()
        up[i, j] += h
        down[i, j] -= h
        numeric = ((net.predict(up) - net.predict(down)) * dout).sum() / (2 * h)
        assert dx[i, j] == pytest.approx(numeric, abs=1e-7)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_saved_net_comes_back_with_the_same_bits(tmp_path, dtype):
    layers = [Tanh(), Affine(4, 9, bias=False), ReLU(), Affine(9, 3, init="he_normal"), Identity()]
    net = Sequential(layers, seed=4, dtype=dtype)
    path = tmp_path / "net.safetensors"
    net.save(path)
    loaded = Sequential.load(path)
    X, _ = data()
    assert repr(loaded) == repr(net)
    np.testing.assert_array_equal(loaded.predict(X), net.predict(X))


def test_what_was_saved_beside_the_net_comes_back(tmp_path):
    path = tmp_path / "net.safetensors"
    small_net().save(path, metadata={"note": "été"}, tensors={"mean": np.arange(3.0)})
    net, metadata, tensors = read(path)
    assert net.n_outputs == 3
    assert metadata == {"note": "été"}
    assert list(tensors) == ["mean"]
    np.testing.assert_array_equal(tensors["mean"], np.arange(3.0))


def test_saving_does_not_replace_a_file_unless_it_may(tmp_path):
    path = tmp_path / "net.safetensors"
    path.write_text("precious")
    with pytest.raises(FileExistsError, match=r"exists already"):
        small_net().save(path, overwrite=False)
    assert path.read_text() == "precious"
    small_net().save(path)
    assert Sequential.load(path).n_inputs == 4
    assert [entry.name for entry in tmp_path.iterdir()] == ["net.safetensors"]


def test_a_failed_save_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "net.safetensors"
    small_net(seed=1).save(path)
    before = path.read_bytes()

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr("fastnn.files.atomic_write.os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        small_net(seed=2).save(path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("keep", [0, 4, 8, 100, -1])
def test_a_file_cut_short_is_refused(tmp_path, keep):
    path = tmp_path / "net.safetensors"
    small_net().save(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(
        ModelFileError, match=r"^path '.*' is not a complete safetensors file \(.*\)$"
    ):
        Sequential.load(path)


def test_a_foreign_safetensors_file_is_refused(tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / "other.safetensors"
    save_file({"w": np.zeros(3)}, path)
    with pytest.raises(ModelFileError, match="holds no fastnn model"):
        Sequential.load(path)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda header: header.update(format=99), "its format is 99, this version reads 1"),
        (lambda header: header.update(layers=[["os.system", {}]]), "layer must be one of .*Affine"),
        (lambda header: header.pop("layers"), "no 'layers'"),
        (lambda header: header.update(dtype="int8"), "dtype must be"),
        (lambda header: header["layers"][0][1].update(n_inputs=5), "has the shape"),
        (lambda header: header["layers"].append(["Affine", {"evil": 1}]), "unexpected keyword"),
        (
            lambda header: header["layers"].append(["Affine", {"n_inputs": 3, "n_outputs": 1}]),
            "no ",
        ),
    ],
)
def test_a_wrong_description_is_refused(tmp_path, change, message):
    from safetensors.numpy import load, save

    path = tmp_path / "net.safetensors"
    small_net().save(path)
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["fastnn"])
    change(header)
    path.write_bytes(save(load(data), {"fastnn": json.dumps(header)}))
    with pytest.raises(ModelFileError, match=message) as error:
        Sequential.load(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("depth", [330, 20000])  # of layers, and of JSON
def test_blocks_nested_too_deeply_are_refused(tmp_path, depth):
    from safetensors.numpy import load, save

    path = tmp_path / "net.safetensors"
    small_net().save(path)
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])["__metadata__"]["fastnn"]
    blocks = '["Residual", {"layers": [' * depth + '["ReLU", {}]' + "]}]" * depth
    header = header.replace('"layers": [', f'"layers": [{blocks}, ', 1)
    path.write_bytes(save(load(data), {"fastnn": header}))
    with pytest.raises(ModelFileError):
        Sequential.load(path)


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        Sequential.load(tmp_path / "nothing")


@pytest.mark.parametrize(
    "layers, message",
    [
        ([], "layers must hold at least one Affine"),
        ([ReLU()], "layers must hold at least one Affine"),
        ([Affine(2, 3), Affine(4, 1)], r"layers\[1\] must take the 3 outputs before it"),
        ([Affine(2, 3), "relu"], r"layers\[1\] must be a Layer, got 'relu'"),
        ([Affine(2, 3), ReLU], r"layers\[1\] must be a Layer"),
    ],
)
def test_layers_that_do_not_fit_are_refused(layers, message):
    with pytest.raises(ValueError, match=message):
        Sequential(layers)


def test_a_layer_cannot_be_used_twice():
    layer = Affine(3, 3)
    with pytest.raises(ValueError, match=r"layers\[1\] is used twice"):
        Sequential([layer, layer])


@pytest.mark.parametrize("dtype", ["float16", "int32", "quadruple", 7])
def test_other_dtypes_are_refused(dtype):
    with pytest.raises(ValueError, match="dtype must be 'float32' or 'float64', got"):
        small_net(dtype)


X_GOOD, Y_GOOD = data()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"X": X_GOOD[:, :3]}, "X must have 4 columns, got 3"),
        ({"X": X_GOOD[0]}, r"X must have 2 dimensions .* reshape it to \(1, 4\)"),
        ({"X": X_GOOD.astype(str)}, "X must be numeric"),
        ({"X": X_GOOD[:0], "y": Y_GOOD[:0]}, "X must have at least 1 row"),
        ({"X": np.where(X_GOOD[3, 2] == X_GOOD, np.nan, X_GOOD)}, r"X must be finite.*X\[3, 2\]"),
        ({"X": np.where(X_GOOD[3, 2] == X_GOOD, np.inf, X_GOOD)}, r"got inf at X\[3, 2\]"),
        ({"y": Y_GOOD[:-1]}, r"y must have 20 rows as X has, got shape \(19,\)"),
        ({"y": Y_GOOD + 1}, "y must hold classes from 0 to 2 for 3 outputs, got 3"),
        ({"y": Y_GOOD - 1}, "got -1"),
        ({"y": Y_GOOD + 0.5}, "y must hold integer classes"),
        ({"y": Y_GOOD.astype(str)}, "y must be numeric.*encode labels"),
        ({"y": np.full(20, np.nan)}, "y must be finite"),
        ({"y": np.full((20, 3), 2.0)}, r"y must lie in \[0, 1\]"),
        ({"y": np.full((20, 2), 0.5)}, "y must have 3 columns, got 2"),
        ({"y": np.full((20, 3), np.inf), "loss": "mse"}, "y must be finite"),
        ({"epochs": 0}, "epochs must be an integer >= 1, got 0"),
        ({"epochs": 1.5}, "epochs must be an integer >= 1, got 1.5"),
        ({"epochs": True}, "epochs must be"),
        ({"batch_size": 0}, "batch_size must be an integer >= 1, got 0"),
        ({"alpha": -1}, "alpha must be a finite number >= 0, got -1"),
        ({"n_threads": 0}, "n_threads must be an integer >= 1, got 0"),
        ({"loss": "hinge"}, "loss must be one of 'mse'.* got 'hinge'"),
        ({"X": [[1, 2, 3, 4], [1]]}, "X must be an array, got rows of different lengths"),
        ({"callbacks": None}, "callbacks must be a list of Callback objects, got None"),
        (
            {"callbacks": [EarlyStopping]},
            "callbacks must be a list of Callback objects, got <class",
        ),
        ({"callbacks": [EarlyStopping()]}, "monitor must be one of 'loss'.* give validation_data"),
        ({"schedule": "poly"}, "schedule must be one of 'constant'.* got 'poly'"),
        ({"schedule": lambda epoch, epochs: -1}, r"schedule\(0, 2000\) must be a finite number"),
        ({"optimizer": "lbfgs"}, "optimizer must be one of 'sgd'.* got 'lbfgs'"),
        ({"validation_data": 3}, "validation_data must be a pair"),
        ({"validation_data": (X_GOOD[:, 1:], Y_GOOD)}, r"validation_data\[0\] must have 4 columns"),
        ({"validation_data": (X_GOOD, Y_GOOD + 9)}, r"validation_data\[1\] must hold classes"),
        ({"validation_data": (X_GOOD[:0], Y_GOOD[:0])}, "validation_data must have at least 1"),
    ],
)
def test_bad_arguments_are_refused_before_anything_changes(arguments, message):
    net = small_net()
    before = net.params.copy()
    with pytest.raises(ValueError, match=message) as error:
        net.fit(**{"X": X_GOOD, "y": Y_GOOD, **arguments})
    assert "\n" not in str(error.value)
    np.testing.assert_array_equal(net.params, before)


@pytest.mark.parametrize("last", [Softmax(), Sigmoid()])
@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "binary_cross_entropy"])
def test_a_loss_that_takes_logits_refuses_probabilities(last, loss):
    net = Sequential([Affine(4, 3), last], seed=0)
    with pytest.raises(ValueError, match="takes logits: remove the last layer"):
        net.fit(X_GOOD, np.eye(3)[Y_GOOD], loss=loss)


def test_nan_in_a_row_shows_in_its_prediction_and_in_no_other():
    net = small_net()
    X, _ = data()
    clean = net.predict(X)
    X[3, 1] = np.nan
    out = net.predict(X)
    assert np.isnan(out[3]).all()
    np.testing.assert_array_equal(np.delete(out, 3, 0), np.delete(clean, 3, 0))


def test_inputs_are_never_written_to():
    X, y = data()
    X, y = X.astype(np.float32), y.astype(np.int64)
    X.flags.writeable = y.flags.writeable = False
    before = X.copy()
    net = small_net()
    net.fit(X, y, epochs=2)
    net.predict(X)
    np.testing.assert_array_equal(X, before)


@pytest.mark.parametrize(
    "change",
    [
        np.asfortranarray,
        lambda X: np.repeat(X, 2, axis=0)[::2],
        lambda X: X[::-1][::-1],
        lambda X: X.astype(">f4"),
        lambda X: X.tolist(),
        lambda X: X.astype(np.float64),
    ],
)
def test_the_layout_of_the_input_does_not_matter(change):
    X = data()[0].astype(np.float32)
    net = small_net()
    np.testing.assert_array_equal(net.predict(change(X)), net.predict(X))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("width", [2, 50, 700])  # the last ones take half a megabyte and more
def test_few_rows_have_the_bits_of_many(width, bias, dtype, rng):
    layers = [Affine(191, width, bias=bias), Tanh(), Affine(width, 5, bias=bias)]
    net = Sequential(layers, seed=0, dtype=dtype)
    X = rng.normal(size=(140, 191)).astype(dtype)
    out = net.freeze().predict(X, n_threads=1)
    for n in (1, 2, 4, 5, 8, 15, 16, 17, 33, 63, 64, 65, 67, 129, 140):
        np.testing.assert_array_equal(net.predict(X[-n:], n_threads=1), out[-n:])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_frozen_net_gives_the_same_bits(dtype, rng):
    layers = [Affine(37, 221), Tanh(), Affine(221, 61), ReLU(), Affine(61, 5, bias=False)]
    net = Sequential(layers, seed=0, dtype=dtype)
    frozen = net.freeze()
    tables = [rng.normal(size=(n, 37)).astype(dtype) for n in (0, 1, 3, 4, 33, 300)]
    expected = [net.predict(X) for X in tables]
    net.params[:] = np.nan  # a copy does not see it
    for twin in (frozen, pickle.loads(pickle.dumps(frozen)), copy.deepcopy(frozen)):
        for X, out in zip(tables, expected, strict=True):
            for n_threads in (1, 2):
                np.testing.assert_array_equal(twin.predict(X, n_threads=n_threads), out)
    with pytest.raises(ValueError, match="X must have 37 columns"):
        frozen.predict(np.ones((2, 3)))
    assert repr(frozen).endswith(".freeze()")


def test_two_threads_that_predict_for_the_first_time_share_one_plan(monkeypatch):
    meeting = threading.Barrier(2, timeout=60)

    def build_together(*arguments):
        meeting.wait()  # both are building now: whichever ends last must not replace the other's
        plan = build(*arguments)
        meeting.wait()
        return plan

    net = small_net()
    X = data()[0].astype(np.float32)
    expected = net.predict(X[:1])
    monkeypatch.setattr(predictor, "build", build_together)
    for _ in range(3):
        shared = net.freeze()
        with ThreadPoolExecutor(2) as pool:
            outs = list(pool.map(lambda _, shared=shared: shared.predict(X[:1]), range(2)))
        gc.collect()
        outs.append(shared.predict(X[:1]))
        for out in outs:
            np.testing.assert_array_equal(out, expected)
        made = shared._predictor
        used = {workspace.job["row_operations"] for workspace in made._idle[True, 1]}
        assert used == {address_of(made._plans[predictor._FEW].operations)}


def test_a_history_is_a_dict_of_figures_and_makes_a_table():
    pandas = pytest.importorskip("pandas")
    net = small_net()
    history = net.fit(X_GOOD, Y_GOOD, epochs=3, validation_data=(X_GOOD, Y_GOOD))
    frame = pandas.DataFrame(history)
    assert frame.columns.tolist() == list(history) == list(history.keys())
    assert len(frame) == len(history) == 3
    assert frame["val_loss"].tolist() == history["val_loss"]
    assert json.loads(json.dumps(history)) == {name: list(x) for name, x in history.items()}
    for again in (pickle.loads(pickle.dumps(history)), copy.deepcopy(history)):
        assert again == history
        assert (len(again), again.divergence) == (3, None)
