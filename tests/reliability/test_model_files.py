"""Model files: damaged ones are refused, whole ones come back in the same bits, and for ever."""

import copy
import hashlib
import json
import os
import stat
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import fastnn
from fastnn import Affine, BatchNorm, Dropout, LeakyReLU, Regularization, ReLU, Residual, Sequential
from fastnn.data.table_encoder import TableEncoder
from fastnn.errors import ModelFileError
from fastnn.files import model_file as model_files
from fastnn.files.storage import read
from fastnn.initializers import constant
from fastnn.layers import LAYERS, from_config
from fastnn.layers.residual import MAX_NESTING
from fastnn.layers.serialize import FORMAT

pytest.importorskip("rich")
pytest.importorskip("sklearn")
pytest.importorskip("pandas")

from reliability import model_file_fuzzer as fuzzer
from reliability.model_file_fuzzer import Parts, drawn, every_layer, join

GOLDEN = Path(__file__).parent / "golden"

# SHA-256 of what the first version with each format wrote. Add to this; never change it.
DIGESTS = {
    1: {
        "every_layer_float32": "d9524e1ff3ed1baf1b99908b6b5674b4c78d851ec4727a8b6dab42c8fb123737",
        "every_layer_float64": "05a8ac498fe28f01cfd7f3667fc7490d631af71c0a28eacd4684f137c2422e35",
        "stopped_early": "b38e728e5de8909a280203988e48b68e6c7ac59df9d1b8221f12181b126e779b",
        "table_classification": "b2777fe97f14c88e02c1920b62636831711486567761726c869e49c2bc1a8454",
        "table_regression": "c40a30dd2804fa17a083d49631fffd38de7f91bc06b411ba9e5ed978d2b60c15",
    },
}


@pytest.fixture(name="path")
def fixture_path(tmp_path):
    """Return where a model may be written."""
    return tmp_path / "net.safetensors"


@pytest.fixture(name="parts")
def fixture_parts(path):
    """Return the file of a small net, taken apart."""
    drawn([Affine(3, 4), BatchNorm(4), ReLU(), Affine(4, 2)]).save(path)
    return Parts(path.read_bytes())


def refuse(path, data=None):
    """Return what a file that must be refused is refused with, without its name."""
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(ModelFileError) as caught:
        Sequential.load(path)
    fuzzer.check_refusal(caught.value, path)
    return str(caught.value).replace(str(path), "")


def with_values(parts, name, value):
    """Return a file in which the second of an array's values is another."""
    values = parts.array(name).copy()
    values.reshape(-1)[1] = value
    first, end = parts.entries[name]["data_offsets"]
    return join(parts.entries, parts.body[:first] + values.tobytes() + parts.body[end:])


def peak(path, outcome=Sequential.load):
    """Return the most memory that loading a file takes, in bytes."""
    outcome(path)  # what is kept for the next call is none of this
    tracemalloc.start()
    try:
        outcome(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# Damage


@pytest.mark.parametrize("count", [1_500, pytest.param(20_000, marks=pytest.mark.slow)])
def test_a_damaged_file_is_refused_in_one_line_or_loaded_as_it_is(count, tmp_path):
    outcomes, _ = fuzzer.fuzz(tmp_path, count)
    assert sum(outcomes.values()) == count
    kinds = {kind.__name__ for kind in fuzzer.KINDS}
    assert {kind for kind, _ in outcomes} == kinds
    # Some damage does no harm, so that is tested as well; most does.
    assert count / 20 < sum(n for (_, outcome), n in outcomes.items() if outcome == "loaded")
    assert count / 2 < sum(n for (_, outcome), n in outcomes.items() if outcome == "refused")
    for kind in ("not_finite", "cut", "extend", "versions", "named_twice", "huge_layers"):
        assert (kind, "loaded") not in outcomes


def test_a_file_is_refused_wherever_it_is_cut(parts, path):
    for length in range(len(parts.data)):
        path.write_bytes(parts.data[:length])
        with pytest.raises(ModelFileError):
            Sequential.load(path)
    path.write_bytes(parts.data)
    Sequential.load(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_not_finite_is_named(value, parts, path):
    said = refuse(path, with_values(parts, "layers.3.w", value))
    assert f"layers.3.w must be finite, got {value} at layers.3.w[0, 1]" in said
    said = refuse(path, with_values(parts, "layers.1.running_mean", value))
    assert f"layers.1.running_mean must be finite, got {value} at" in said


def test_a_negative_variance_is_refused(parts, path):
    said = refuse(path, with_values(parts, "layers.1.running_variance", -0.5))
    assert "layers.1.running_variance must be >= 0, got -0.5" in said


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda e: e["layers.0.w"].update(dtype="I32"), "layers.0.w has the dtype int32, float32"),
        (lambda e: e["layers.0.w"].update(dtype="F99"), "'layers.0.w' has the dtype 'F99'"),
        (lambda e: e["layers.0.w"].update(dtype=["F32"]), "'layers.0.w' has the dtype ['F32']"),
        (lambda e: e["layers.0.w"].update(shape=[4, 3]), "layers.0.w has the shape (4, 3), (3, 4)"),
        (lambda e: e.update({"layers.7.w": e.pop("layers.0.w")}), "no 'layers.0.w'"),
        (lambda e: e.update({"__metadata__": None}), "holds no fastnn model"),
        (lambda e: e["__metadata__"].pop("fastnn"), "holds no fastnn model"),
    ],
)
def test_what_is_wrong_with_an_array_is_said(change, message, parts, path):
    assert message in refuse(path, fuzzer.with_entries(parts, change))


def test_an_array_without_a_layer_is_refused(parts, path):
    entry = {"dtype": "F32", "shape": [1], "data_offsets": [len(parts.body), len(parts.body) + 4]}
    more = join({**parts.entries, "layers.2.w": entry}, parts.body + bytes(4))
    assert "there is no layer for 'layers.2.w'" in refuse(path, more)
    path.write_bytes(join({**parts.entries, "mine": entry}, parts.body + bytes(4)))
    assert list(read(path)[2]) == ["mine"]


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda d: d.update(extra=1), "its description has the unknown entry 'extra'"),
        (lambda d: d.update(seed=-1), "seed must be None, an integer >= 0 or"),
        (lambda d: d.update(dtype="<f4"), "dtype must be 'float32' or 'float64', got '<f4'"),
        (lambda d: d.update(layers={}), "layers must be a list, got {}"),
        (lambda d: [1], "its description must be a dict, got a list"),
        (
            lambda d: d["layers"][0].append({}),
            "a layer must be a list of its name and its arguments",
        ),
        (
            lambda d: d["layers"][0][1].update(bias="false"),
            "bias must be True or False, got 'false'",
        ),
        (lambda d: d["layers"][0][1].update(bias=2), "bias must be True or False, got 2"),
        (lambda d: d["layers"][0][1].update(seed=1), "Affine got an unexpected argument 'seed'"),
        (lambda d: d["layers"][0][1].update(n_inputs=3.0), "n_inputs must be an integer >= 1"),
        (lambda d: d["layers"].append(["ReLU", []]), "the arguments of ReLU must be a dict"),
        (lambda d: d["layers"].append([["ReLU"], {}]), "layer must be one of Affine,"),
        (lambda d: d["layers"].append(["Activation", {}]), "layer must be one of Affine,"),
        (
            lambda d: d["layers"].append(["Residual", {"layers": "x"}]),
            "layers must be a list, got 'x'",
        ),
        (lambda d: d["layers"].append(["Dropout", {"rate": 1}]), "rate must be a number in [0, 1)"),
    ],
)
def test_what_is_wrong_with_a_description_is_said(change, message, parts, path):
    assert message in refuse(path, fuzzer.with_description(parts, change))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_json_does_not_know_are_refused(number, parts, path):
    text = parts.text().replace('"momentum": 0.1', f'"momentum": {number}')
    said = refuse(path, fuzzer.with_text(parts, text))
    assert f"has a damaged model description ({number} is not a finite number)" in said


@pytest.mark.parametrize("version", [2, 3, 10**30])
def test_a_file_of_a_later_format_is_refused_with_both_versions(version, parts, path):
    assert FORMAT == 1, "take later versions"
    # Whatever else a later version may put there.
    text = json.dumps({"format": version, "layers": "elsewhere", "graph": []})
    assert (
        f"its format is {version}, this version reads 1; a newer version of fastnn wrote it"
        in refuse(path, fuzzer.with_text(parts, text))
    )


def test_something_named_twice_is_refused(parts, path):
    text = '{"format": 1, ' + parts.text()[1:]
    assert "('format' is named twice)" in refuse(path, fuzzer.with_text(parts, text))
    entry = json.dumps({"layers.0.w": parts.entries["layers.0.w"]})
    header = json.dumps(parts.entries)[:-1] + ", " + entry[1:]
    assert "('layers.0.w' is named twice)" in refuse(path, join(header, parts.body))


@pytest.fixture(name="table", scope="module")
def fixture_table(tmp_path_factory):
    """Return the file of a model with the encoding of a table, taken apart."""
    path = tmp_path_factory.mktemp("table") / "net.safetensors"
    fuzzer.save_table(path, "classification")
    return Parts(path.read_bytes())


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t: t.update(classes=[False, True]), "classes cannot be [False, True]"),
        (lambda t: t.update(classes=["no", 1]), "classes cannot be ['no', 1]"),
        (lambda t: t.update(classes=["no", "no"]), "classes cannot be ['no', 'no']"),
        (lambda t: t.update(classes=[0, 2**63]), f"classes cannot be [0, {2**63}]"),
        (lambda t: t.update(classes="no"), "classes cannot be 'no'"),
        (lambda t: t.update(classes=[]), "0 classes are not right for a classification"),
        (lambda t: t.update(classes=["a", "b", "c"]), "does not fit the network"),
        (lambda t: t.update(task="cluster"), "task cannot be 'cluster'"),
        (lambda t: t.update(feature_names="size"), "feature_names cannot be 'size'"),
        (lambda t: t.update(categories={"colour": []}), "categories cannot be {'colour': []}"),
        (lambda t: t.update(categories={"taste": ["x"]}), "must be of columns that are there"),
        (lambda t: t.update(target_scale=0.0), "target_scale cannot be 0.0"),
        (lambda t: t.update(target_mean="0"), "target_mean cannot be '0'"),
        (lambda t: t.update(_transformer=[]), "_transformer cannot be []"),
        (lambda t: t.update(surprise=1), "unexpected keyword argument 'surprise'"),
        (lambda t: [], "must be a mapping"),
    ],
)
def test_what_is_wrong_with_the_encoding_of_a_table_is_said(change, message, table, path):
    path.write_bytes(fuzzer.with_description(table, change, "fastnn.table"))
    with pytest.raises(ModelFileError) as caught:
        fuzzer.load(path, is_table=True)
    fuzzer.check_refusal(caught.value, path)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("table.mean", np.inf, "table.mean must be finite"),
        ("table.mean", np.nan, "table.mean and table.scale are not of the same columns"),
        ("table.scale", np.nan, "table.mean and table.scale are not of the same columns"),
        ("table.scale", 0.0, "table.scale must be > 0"),
    ],
)
def test_a_column_that_is_scaled_by_no_number_is_refused(name, value, message, table, path):
    path.write_bytes(with_values(table, name, value))
    with pytest.raises(ModelFileError, match=message):
        fuzzer.load(path, is_table=True)


@pytest.mark.parametrize(
    "training", ["{", "[]", "3", '{"rows": 3}', '{"rows": "3", "data": 1, "epochs": 1}', "[" * 5000]
)
def test_a_damaged_record_of_the_training_is_refused(training, table, path):
    path.write_bytes(fuzzer.with_text(table, training, "fastnn.training"))
    with pytest.raises(ModelFileError, match="what it says of its training is damaged"):
        fuzzer.load(path, is_table=True)
    Sequential.load(path)  # which does not read it


# Memory


@pytest.mark.parametrize(
    "layer",
    [
        ["Affine", {"n_inputs": 10**9, "n_outputs": 10**9}],
        ["Affine", {"n_inputs": 3, "n_outputs": 10**6, "init": "orthogonal"}],
        ["BatchNorm", {"n_features": 10**9}],
        ["Residual", {"layers": [["LayerNorm", {"n_features": 2**62}]]}],
    ],
)
@pytest.mark.parametrize("place", ["first", "last"])
def test_a_large_layer_in_a_small_file_takes_no_memory(layer, place, parts, path):
    def change(description):
        description["layers"].insert(0 if place == "first" else 4, layer)

    data = fuzzer.with_description(parts, change)
    assert len(data) < 2000
    assert peak(path, lambda path: refuse(path, data)) < 2**17


def test_loading_takes_at_most_four_times_the_file(path):
    drawn([Affine(500, 2000), ReLU(), Affine(2000, 3)]).save(path)
    assert path.stat().st_size > 4_000_000
    assert peak(path) < 4 * path.stat().st_size
    drawn([Affine(500, 2000), BatchNorm(2000)], "float64").save(path)
    assert peak(path) < 4 * path.stat().st_size


def test_descriptions_take_memory_in_proportion_to_their_length(parts, path):
    """As much as layers and JSON need; no more text is read than a net has use for."""
    blocks = [["Residual", {"layers": [["ReLU", {}]]}]] * 1000
    many = fuzzer.with_description(parts, lambda d: d["layers"].extend(blocks))
    path.write_bytes(many)
    assert peak(path) < 120 * len(many)
    lists = fuzzer.with_text(parts, "[" + "[]," * 10_000 + "1]")
    assert peak(path, lambda path: refuse(path, lists)) < 40 * len(lists)
    entry = {"dtype": "F32", "shape": [0], "data_offsets": [len(parts.body)] * 2}
    arrays = {**parts.entries, **{f"x{k}": entry for k in range(1000)}}
    path.write_bytes(join(arrays, parts.body))
    assert peak(path) < 40 * path.stat().st_size
    long = fuzzer.with_text(parts, "[" * (model_files.MAX_DESCRIPTION + 1))
    assert peak(path, lambda path: refuse(path, long)) < 8 * len(long)
    assert "1048577 characters, at most 1048576 are read" in refuse(path)


def test_a_header_longer_than_is_read_is_refused_unread(parts, path):
    length = model_files.MAX_HEADER + 1
    with path.open("wb") as file:
        file.write(length.to_bytes(8, "little"))
        file.truncate(length + 8)
    assert peak(path, refuse) < 2**17
    assert f"a header of {length} bytes, in a file of {length + 8}" in refuse(path)


def test_a_file_of_a_terabyte_of_nothing_is_refused_unread(path):
    with path.open("wb") as file:
        file.truncate(2**40)  # takes no place on the disk
    assert peak(path, refuse) < 2**17


def test_blocks_nested_up_to_the_limit_are_saved_and_loaded(path):
    block = ReLU()
    for _ in range(MAX_NESTING):
        block = Residual([block])
    with pytest.raises(ValueError, match=r"^layers must nest residual blocks at most 64 deep, got"):
        Residual([block])
    net = drawn([Affine(2, 2), block])
    net.save(path)
    assert repr(Sequential.load(path)) == repr(net)
    parts = Parts(path.read_bytes())
    deeper = parts.text().replace('["ReLU", {}]', '["Residual", {"layers": [["ReLU", {}]]}]')
    said = refuse(path, fuzzer.with_text(parts, deeper))
    assert "residual blocks must be nested at most 64 deep" in said


# Nothing runs

# Loads files while anything that runs code, or writes, or opens another file, is an error; and with
# 256 MB of addresses to spare.
CHILD = """
import json, resource, sys, warnings
from pathlib import Path
from reliability import model_file_fuzzer as fuzzer
from fastnn.errors import ModelFileError
from fastnn.data.table_encoder import TableEncoder

warnings.simplefilter("error")
folder = Path(sys.argv[1])
TableEncoder.unpack(*TableEncoder.fit(fuzzer.table_data("regression")).pack())  # imports
address_space = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
limit = address_space + 2**28
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

FORBIDDEN = ("exec", "compile", "import", "pickle.", "marshal.", "os.", "subprocess.", "ctypes.",
             "socket.", "shutil.", "tempfile.", "code.", "sys.settrace", "function.__new__")
events = []
allowed = None

def hook(event, arguments):
    if allowed is None:
        return
    if event == "open":
        path, mode, flags = arguments
        if str(path) != str(allowed) or flags & 3 or mode not in ("r", "rb"):
            events.append(f"open {path} {mode} {flags}")
    elif event.startswith(FORBIDDEN):
        events.append(f"{event} {arguments!r:.200}")

sys.addaudithook(hook)
outcomes = {"loaded": 0, "refused": 0}
for path in sorted(folder.iterdir()):
    allowed = path
    try:
        fuzzer.load(path, path.suffix == ".table")
        outcome = "loaded"
    except ModelFileError as error:
        outcome = "refused"
    allowed = None
    outcomes[outcome] += 1
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"events": events[:20], "grown": (after - before) * 1024, **outcomes}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_loading_runs_nothing_and_takes_no_memory_that_a_file_does_not_fill(tmp_path):
    originals = fuzzer.originals(tmp_path)
    folder = tmp_path / "files"
    folder.mkdir()
    for name, parts in originals.items():
        suffix = ".table" if name.startswith("table") else ".net"
        (folder / f"{name}{suffix}").write_bytes(parts.data)
    for number, (kind, name, data) in enumerate(fuzzer.mutations(originals, 240, seed=1)):
        suffix = ".table" if name.startswith("table") else ".net"
        (folder / f"{number} {kind}{suffix}").write_bytes(data)
    tests = Path(__file__).parent.parent
    package = Path(fastnn.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(package), str(tests)])},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout)
    assert result["events"] == []
    assert result["loaded"] + result["refused"] == 240 + len(originals)
    assert result["loaded"] > len(originals)
    assert result["grown"] < 2**25


# Paths


def test_paths_may_be_text_objects_or_links(path, tmp_path):
    net = drawn([Affine(2, 2)])
    net.save(str(path))
    link = tmp_path / "link"
    link.symlink_to(path)
    for name in (str(path), path, link, os.path.relpath(path)):
        assert Sequential.load(name).params.tobytes() == net.params.tobytes()


@pytest.mark.parametrize("wrong", [b"net", 3, None, "a\0b", ["net"]])
def test_other_paths_are_refused(wrong):
    with pytest.raises(ValueError, match=r"^path must be a str or path-like without null .*, got"):
        Sequential.load(wrong)
    with pytest.raises(ValueError, match=r"^path must be a str or path-like without null .*, got"):
        drawn([Affine(2, 2)]).save(wrong)


@pytest.mark.parametrize("name", ["two\nlines", "été", "\x1b[31m", "a" * 200, "\udcff"])
def test_errors_are_one_line_whatever_a_file_is_called(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(b"")
    with pytest.raises(ModelFileError) as caught:
        Sequential.load(path)
    assert str(caught.value).isprintable()
    assert repr(str(path))[1:-1] in str(caught.value)


def test_a_pipe_is_refused_without_waiting_for_it(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    assert refuse(path) == "path '' is not a regular file"
    with pytest.raises(ModelFileError, match=r"^MODEL .*: path '.*' is not a regular file$"):
        fuzzer.load(path, is_table=True)


@pytest.mark.parametrize("device", ["/dev/null", "/dev/zero", "/dev/urandom"])
def test_devices_are_refused(device):
    path = Path(device)
    if not path.exists() or stat.S_ISREG(path.stat().st_mode):
        pytest.skip("no such device")
    assert refuse(path) == "path '' is not a regular file"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_file_that_claims_to_be_empty_is_not_read_on():
    assert "is not a complete safetensors file" in refuse(Path("/proc/self/maps"))


def test_what_cannot_be_opened_raises_the_error_of_the_system(tmp_path, path, monkeypatch):
    with pytest.raises(FileNotFoundError):
        Sequential.load(path)
    with pytest.raises(IsADirectoryError, match=r"^path '.*' is a folder$"):
        Sequential.load(tmp_path)
    drawn([Affine(2, 2)]).save(path)
    with pytest.raises(NotADirectoryError):
        Sequential.load(path / "below")

    def refuse_to_open(*args, **kwargs):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse_to_open)  # nothing is forbidden to root
    with pytest.raises(PermissionError):
        Sequential.load(path)


def test_a_file_that_shrinks_while_it_is_read_is_refused(path, monkeypatch):
    drawn([Affine(500, 500)]).save(path)
    size = path.stat().st_size
    parse = model_files._read_entries

    def shrink(*args):
        entries = parse(*args)
        os.truncate(path, size - 1)
        return entries

    monkeypatch.setattr(model_files, "_read_entries", shrink)
    assert "is not a complete safetensors file" in refuse(path)


# Golden files


@pytest.mark.parametrize(
    "version, name", [(version, name) for version, names in DIGESTS.items() for name in names]
)
def test_files_of_every_format_there_has_been_are_loaded(version, name):
    path = GOLDEN / f"format_{version}" / f"{name}.safetensors"
    expected = json.loads(path.with_suffix(".json").read_text())
    net, metadata, tensors = read(path)
    digest = hashlib.sha256(net.params.astype(net.dtype.newbyteorder("<")).tobytes())
    assert digest.hexdigest() == expected["sha256_of_params"]
    if name.startswith("table"):
        encoder = TableEncoder.unpack(metadata, tensors)
        out = net.predict(encoder.transform(fuzzer.table_data(encoder.task)))
        decoded = encoder.decode(out)
        if encoder.task == "classification":
            assert decoded.tolist() == expected["outputs"]
            return
        out, tolerance = decoded, 1e-4
    else:
        out = net.predict(np.array(expected["inputs"]))
        tolerance = 1e-4 if net.dtype == np.float32 else 1e-10
    # Not the same bits: CPUs with other vectors sum in another order, and some round only once
    # where others round a product and then a sum.
    np.testing.assert_allclose(out, expected["outputs"], rtol=tolerance, atol=tolerance / 100)


def test_golden_files_are_never_made_again():
    """If this fails, restore the files: do not change the digests.

    They are what earlier versions wrote, and users have files like them. A new format gets a new
    folder, a new layer a new file (`golden/make_golden.py`).
    """
    assert DIGESTS.keys() == set(range(1, FORMAT + 1))
    for version, digests in DIGESTS.items():
        folder = GOLDEN / f"format_{version}"
        found = {
            path.stem: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in folder.glob("*.safetensors")
        }
        assert found == digests


def test_golden_nets_have_every_layer():
    kinds = set()
    for path in (GOLDEN / f"format_{FORMAT}").glob("*.safetensors"):
        net = Sequential.load(path)
        kinds |= {type(layer).__name__ for layer in [*net.layers, *net.leaves()]}
    assert kinds == set(LAYERS), "add a file with the new layer to `make_golden.py`"


def test_numbers_are_written_with_the_lowest_byte_first(path):
    net = Sequential([Affine(1, 1)], dtype="float32")
    net.params[:] = 1, -2
    swapped = np.array([1, 258], ">i2")
    net.save(path, tensors={"mine": swapped})
    parts = Parts(path.read_bytes())
    (w, w_end), (b, b_end), (mine, mine_end) = (
        parts.entries[name]["data_offsets"] for name in ("layers.0.w", "layers.0.b", "mine")
    )
    assert parts.body[w:w_end] == b"\x00\x00\x80\x3f"
    assert parts.body[b:b_end] == b"\x00\x00\x00\xc0"
    assert parts.body[mine:mine_end] == b"\x01\x00\x02\x01"
    assert read(path)[2]["mine"].tolist() == [1, 258]


# Round trips

ARGUMENTS = {
    "Affine": [
        {"bias": bias, "init": init, "regularization": rule}
        for bias, init, rule in [
            (True, "auto", None),
            (False, "orthogonal", Regularization(l1=1e-300, weight_decay=0.0)),
            (True, "zeros", Regularization(l2=0.1, max_norm=1e308)),
            (True, "lecun_normal", Regularization()),
        ]
    ],
    "LeakyReLU": [{"negative_slope": value} for value in (0, 0.1, 1 / 3, 1e38)],
    "ELU": [{"alpha": value} for value in (0, 0.1, 1 / 3)],
    "GELU": [{"approximate": value} for value in ("none", "tanh")],
    "Dropout": [{"rate": 0.1, "seed": seed} for seed in (0, 2**63 - 1, None)],
    "BatchNorm": [{"momentum": 1 / 3, "epsilon": 1e-37}, {"momentum": 0}, {"momentum": 1}],
    "LayerNorm": [{"epsilon": 1 / 3}, {"epsilon": np.float32(0.1)}],
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_with_any_arguments_comes_back(name, dtype, path):
    sizes = {"Affine": (3, 3), "BatchNorm": (3,), "LayerNorm": (3,)}.get(name, ())
    for arguments in ARGUMENTS.get(name, [{}]):
        if name == "Residual":
            layer = Residual([Affine(3, 4), Residual([ReLU(), Dropout(0.5)]), Affine(4, 3)])
        else:
            layer = LAYERS[name](*sizes, **arguments)
        net = drawn([Affine(2, 3), layer, Affine(3, 2)], dtype)
        net.save(path)
        loaded = Sequential.load(path)
        assert repr(loaded) == repr(net)
        assert loaded.layers[1].config() == net.layers[1].config()
        for before, after in zip(net.leaves(), loaded.leaves(), strict=True):
            for kind in ("params", "buffers"):
                ours, theirs = getattr(before, kind), getattr(after, kind)
                assert ours.keys() == theirs.keys()
                assert all(ours[key].tobytes() == theirs[key].tobytes() for key in ours)
        X = np.linspace(-1, 1, 6).reshape(3, 2)
        assert loaded.predict(X).tobytes() == net.predict(X).tobytes()


@pytest.mark.parametrize("seed", [None, 0, 3, np.int64(7), 2**200])
def test_a_loaded_net_is_trained_as_its_seed_says(seed, path):
    net = drawn([Affine(2, 8), ReLU(), Dropout(0.5), Affine(8, 2)], seed=3)
    net._seed = None if seed is None else int(seed)
    net.save(path)
    X = np.random.default_rng(0).normal(size=(50, 2))
    y = (X[:, 0] > 0).astype(int)
    nets = [Sequential.load(path) for _ in range(2)]
    for loaded in nets:
        loaded.fit(X, y, epochs=2, batch_size=10)
    same = nets[0].params.tobytes() == nets[1].params.tobytes()
    assert same == (seed is not None)


def test_a_loaded_net_does_not_share_memory_with_another(path):
    drawn([Affine(2, 2)]).save(path)
    first, second = Sequential.load(path), Sequential.load(path)
    first.params[...] = 0
    assert second.params.any()
    copy.deepcopy(first).predict(np.ones((1, 2)))


def test_loading_draws_no_weights_to_overwrite_them(path, monkeypatch):
    drawn([Affine(2, 2)]).save(path)

    def fail(*args):
        raise AssertionError("weights were drawn")

    monkeypatch.setattr(Affine, "_draw", fail)
    Sequential.load(path)


@pytest.mark.parametrize("kind", ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3)])
def test_arrays_of_the_user_come_back(kind, shape, path):
    array = np.ones(shape, kind)
    drawn([Affine(2, 2)]).save(path, tensors={"mine": array, "turned": array.T})
    tensors = read(path)[2]
    for name, expected in (("mine", array), ("turned", array.T)):
        assert tensors[name].dtype == expected.dtype
        assert tensors[name].shape == expected.shape
        assert (tensors[name] == expected).all()


@pytest.mark.parametrize("text", ["", "é\n\0😀", '{"a": 1}', "a" * 10**5, "\u2028"])
def test_texts_of_the_user_come_back(text, path):
    drawn([Affine(2, 2)]).save(path, metadata={text: text})
    assert read(path)[1] == {text: text}


class _Other(LeakyReLU):
    pass


_Other.__name__ = "LeakyReLU"


def _nan_net():
    net = drawn([Affine(2, 2), Affine(2, 2)])
    net.layers[1].params["w"][1, 0] = np.nan
    return net


@pytest.mark.parametrize(
    "make, options, message",
    [
        (
            lambda: drawn([Affine(2, 2), Affine(2, 2, init=constant)]),
            {},
            r"^layers\[1\] cannot be saved, Affine\(.*constant.*\): .*function is not JSON",
        ),
        (
            lambda: drawn([Affine(2, 2), fastnn.Activation(abs, abs)]),
            {},
            r"^layers\[1\] cannot be saved, Activation\(.*\): an Activation cannot be saved",
        ),
        (
            lambda: drawn([Affine(2, 2), Residual([fastnn.Activation(abs, abs)])]),
            {},
            r"^layers\[1\] cannot be saved, Residual\(.*\): an Activation cannot be saved",
        ),
        (
            lambda: drawn([Affine(2, 2), _Other()]),
            {},
            r"^layers\[1\] cannot be saved, .*LeakyReLU is not a layer of this package",
        ),
        (
            lambda: drawn([Affine(2, 2), Residual([_Other()])]),
            {},
            r"^layers\[1\] cannot be saved, .*LeakyReLU is not a layer of this package",
        ),
        (_nan_net, {}, r"^layers\.1\.w must be finite, got nan at layers\.1\.w\[1, 0\]$"),
        (lambda: drawn([Affine(2, 2)]), {"metadata": {"fastnn": "x"}}, r"^metadata must map str"),
        (lambda: drawn([Affine(2, 2)]), {"metadata": {"a": 1}}, r"^metadata must map str to str"),
        (lambda: drawn([Affine(2, 2)]), {"metadata": {"a": "\ud800"}}, r"^metadata must map str"),
        (
            lambda: drawn([Affine(2, 2)]),
            {"metadata": {"a": "x" * 2**20}},
            r"^metadata must take at most 1048576 bytes, with all names, got 1048",
        ),
        (
            lambda: drawn([Affine(2, 2)]),
            {"tensors": {"a": np.zeros(2, complex)}},
            r"^tensors\['a'\] must be numeric, got dtype complex128",
        ),
        (
            lambda: drawn([Affine(2, 2)]),
            {"tensors": {"a": np.zeros(2, object)}},
            r"^tensors\['a'\] must be numeric, got dtype object",
        ),
        pytest.param(
            lambda: drawn([Affine(2, 2)]),
            {"tensors": {"a": np.zeros(2, np.longdouble)}},
            r"^tensors\['a'\] must be numeric, got dtype float.*; a file holds numbers of at",
            marks=pytest.mark.skipif(np.dtype(np.longdouble).itemsize == 8, reason="no longer"),
        ),
        (lambda: drawn([Affine(2, 2)]), {"tensors": {3: np.ones(2)}}, r"^tensors must have names"),
        (
            lambda: drawn([Affine(2, 2)]),
            {"tensors": {"__metadata__": np.ones(2)}},
            r"^tensors must have names other than '__metadata__'",
        ),
        (
            lambda: drawn([Affine(2, 2)]),
            {"tensors": {"layers.0.w": np.ones(2)}},
            r"^tensors must not use names of layers, got 'layers.0.w'",
        ),
    ],
)
def test_what_could_not_be_loaded_is_not_saved_and_the_old_file_stays(
    make, options, message, path, monkeypatch
):
    monkeypatch.setattr(model_files, "MAX_HEADER", 2**20)
    drawn([Affine(3, 3)]).save(path)
    before = path.read_bytes()
    net = make()
    with pytest.raises(ValueError, match=message) as caught:
        net.save(path, **options)
    assert len(str(caught.value).splitlines()) == 1
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("name", ["", "two\nlines"])
def test_any_name_without_a_slash_is_written(name, tmp_path):
    path = tmp_path / f"{name}été 😀"
    drawn([Affine(2, 2)]).save(path)
    Sequential.load(path)


def test_a_net_with_more_layers_than_a_file_may_describe_is_not_saved(path, monkeypatch):
    net = drawn([Affine(1, 1), *(ReLU() for _ in range(100))])
    net.save(path)
    path.unlink()
    monkeypatch.setattr(model_files, "MAX_DESCRIPTION", 1000)
    with pytest.raises(ValueError, match=r"^layers must have a description of at most 1000 char"):
        net.save(path)
    assert not path.exists()


def test_a_configuration_may_leave_out_what_has_a_default():
    """A later version may have given a layer more arguments than an older file names."""
    assert repr(from_config("Affine", {"n_inputs": 2, "n_outputs": 3})) == repr(Affine(2, 3))
    for name, layer_class in LAYERS.items():
        if name not in ("Affine", "BatchNorm", "LayerNorm", "Residual"):
            assert repr(from_config(name, {})) == repr(layer_class())


def test_the_fuzzed_net_has_every_layer():
    net = drawn(every_layer())
    assert {type(x).__name__ for x in [*net.layers, *net.leaves()]} == set(LAYERS)
