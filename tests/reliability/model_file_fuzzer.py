"""Damage model files in every way that we can think of, and see what loading makes of them.

A file must be refused with a `ModelFileError` of one line, or give a net that is what the file
says; without any other exception, without a warning, and without memory that the file's own size
does not justify. Run it for longer than the tests do with::

    python tests/reliability/model_file_fuzzer.py 100000 --seed 1
"""

import argparse
import collections
import copy
import itertools
import json
import signal
import struct
import tempfile
import tracemalloc
import warnings
from pathlib import Path

import numpy as np

import fastnn
from fastnn import (
    ELU,
    GELU,
    SELU,
    Affine,
    BatchNorm,
    Dropout,
    HardTanh,
    Identity,
    LayerNorm,
    LeakyReLU,
    Mish,
    Regularization,
    ReLU,
    Residual,
    Sequential,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Step,
    Tanh,
)
from fastnn.cli.predict import _model_facts
from fastnn.data.table_encoder import TableEncoder
from fastnn.datasets import Dataset
from fastnn.errors import ModelFileError

ALLOWANCE = 2**20
"""Bytes that a load may take beside four times the file, for layers and plans of a small net."""

SECONDS = 60
"""After which a load that does not end is interrupted."""

DTYPES = {"F32": np.float32, "F64": np.float64}


def every_layer():
    """Return layers of every kind that a file can hold, all within one net for 3 columns."""
    return [
        *(LayerNorm(3, epsilon=1e-4), Affine(3, 7, init="he_normal"), BatchNorm(7, momentum=0.25)),
        *(ReLU(), Affine(7, 5, bias=False, regularization=Regularization(l2=0.5, max_norm=2))),
        *(LeakyReLU(0.125), Dropout(0.25, seed=9), Identity(), ELU(0.75), SELU(), GELU()),
        Residual([Affine(5, 4), Tanh(), Residual([Affine(4, 4), BatchNorm(4)]), Affine(4, 5)]),
        *(GELU("tanh"), SiLU(), Softplus(), Mish(), HardTanh(), Affine(5, 6), Sigmoid()),
        *(Residual([Affine(6, 6), Step()]), Affine(6, 3), Softmax()),
    ]


def drawn(layers, dtype="float32", seed=3):
    """Return a net none of whose parameters and statistics has its first value."""
    net = Sequential(layers, seed=seed, dtype=dtype)
    rng = np.random.default_rng(seed)
    net.params += rng.normal(0, 0.1, net.n_params)
    for layer in net.leaves():
        for array in layer.buffers.values():
            array += rng.uniform(0.1, 0.5, array.shape)
    return net


def table_data(task):
    """Return a data set with two columns of numbers and one of text."""
    import pandas

    rng = np.random.default_rng(0)
    X = pandas.DataFrame({"size": rng.normal(size=30), "age": rng.normal(40, 9, 30)})
    X["colour"] = rng.choice(["red", "green", "été"], 30).astype(object)
    labels = np.where(X["size"] > 0, "yes", "no").astype(object)
    y = labels if task == "classification" else 3 + 2 * X["size"].to_numpy()
    return Dataset("t", X, y, list(X), "target", 3)


def save_table(path, task):
    """Write a model like those of ``fastnn train``: with the encoding of a table."""
    encoder = TableEncoder.fit(table_data(task), task=task)
    net = drawn([Affine(encoder.n_inputs, 4), ReLU(), Affine(4, encoder.n_outputs)])
    metadata, tensors = encoder.pack()
    training = {"data": "t.csv", "rows": 30, "epochs": 2, "test_score": 0.5}
    metadata["fastnn.training"] = json.dumps(training)
    net.save(path, metadata=metadata, tensors=tensors)


def save_net(path, layers, dtype="float32"):
    """Write a net, with some arrays and texts of the user's beside it."""
    tensors = {f"user {kind}": np.arange(3).astype(kind) for kind in ("f2", "i1", "u8", "?")}
    drawn(layers, dtype).save(path, metadata={"note": "été"}, tensors=tensors)


ORIGINALS = {
    "every layer, float32": lambda path: save_net(path, every_layer()),
    "every layer, float64": lambda path: save_net(path, every_layer(), "float64"),
    "one layer": lambda path: save_net(path, [Affine(2, 1, bias=False)]),
    "blocks": lambda path: save_net(
        path, [Affine(2, 3), *(Residual([Affine(3, 3), ReLU()]) for _ in range(3))]
    ),
    "wide": lambda path: save_net(path, [Affine(20, 300), ReLU(), Affine(300, 3)]),
    "table of a classification": lambda path: save_table(path, "classification"),
    "table of a regression": lambda path: save_table(path, "regression"),
}


class Parts:
    """A model file, taken apart by a few lines that share nothing with the package."""

    def __init__(self, data):
        self.data = data
        self.length = struct.unpack("<Q", data[:8])[0]
        self.entries = json.loads(data[8 : 8 + self.length].decode())
        self.body = data[8 + self.length :]

    def names(self):
        return [name for name in self.entries if name != "__metadata__"]

    def weights(self):
        return [name for name in self.names() if name.startswith("layers.")]

    def text(self, key="fastnn"):
        return self.entries["__metadata__"][key]

    def array(self, name):
        entry = self.entries[name]
        first, end = entry["data_offsets"]
        return np.frombuffer(self.body[first:end], DTYPES[entry["dtype"]]).reshape(entry["shape"])


def join(entries, body):
    """Return a file; entries are a dict, or JSON as it is."""
    text = entries if isinstance(entries, str) else json.dumps(entries)
    header = text.encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(header)) + header + body


def with_entries(parts, change):
    entries = copy.deepcopy(parts.entries)
    change(entries)
    return join(entries, parts.body)


def with_text(parts, text, key="fastnn"):
    """Return the file with another description (or other metadata), given as text."""
    return with_entries(parts, lambda entries: entries["__metadata__"].update({key: text}))


def with_description(parts, change, key="fastnn"):
    """Return the file with a description that `change` was given, and may have replaced."""
    description = json.loads(parts.text(key))
    changed = change(description)
    return with_text(parts, json.dumps(description if changed is None else changed), key)


def nested(depth, inner='["ReLU", {}]'):
    return '["Residual", {"layers": [' * depth + inner + "]}]" * depth


def pick(rng, values):
    return values[rng.integers(len(values))]


JUNK = [
    *(None, True, False, 0, 1, -1, 2, 7, 10**9, 2**31, 2**63 - 1, 2**63, 2**64, 10**30, 10**400),
    *(0.5, -0.0, 1.0, 1e308, -1e308, 5e-324, "", "a", "1", "true", "ReLU", "Affine", "os.system"),
    *("__class__", "__init__", "auto", "float16", "<f4", "f4,f4", "\n\n", "\0", "\u2028", "é"),
    *([], {}, [[]], [{}], {"": None}, ["ReLU", {}], ["Residual", {"layers": []}], [None] * 3),
    *({"self": 1}, {"layers": [1]}, {"dtype": "float64"}, {"seed": 1}, {"n_inputs": 3}),
]


def places(tree, path=()):
    """Yield the path to each value in a tree of lists and dicts."""
    yield path
    children = list(enumerate(tree)) if isinstance(tree, list) else []
    children = list(tree.items()) if isinstance(tree, dict) else children
    for key, value in children:
        yield from places(value, (*path, key))


def at(tree, path):
    for key in path:
        tree = tree[key]
    return tree


def change_a_place(rng, tree, how):
    """Replace, remove, double or rename one value anywhere in a tree; return the tree."""
    where = pick(rng, list(places(tree)))
    if not where:
        return pick(rng, JUNK)
    parent, key = at(tree, where[:-1]), where[-1]
    if how == "replace":
        parent[key] = pick(rng, JUNK)
    elif how == "remove":
        del parent[key]
    elif isinstance(parent, list):
        parent.insert(key, copy.deepcopy(pick(rng, [parent[key], pick(rng, JUNK)])))
    else:
        parent[pick(rng, ["x", "seed", "dtype", "__class__", "init", "self", "é"])] = parent[key]
        if how == "rename":
            del parent[key]
    return tree


# Each kind of damage: (rng, parts, all originals) -> the bytes of a damaged file.


def flip_bits(rng, parts, _):
    data = bytearray(parts.data)
    region = pick(rng, [(0, 8), (8, 8 + parts.length), (8 + parts.length, len(data))])
    for _ in range(pick(rng, [1, 1, 1, 3])):
        data[rng.integers(*region)] ^= 1 << int(rng.integers(8))
    return bytes(data)


def set_bytes(rng, parts, _):
    data = bytearray(parts.data)
    first = int(rng.integers(8, len(data)))
    values = pick(rng, [rng.bytes(4), b"\0", b"\xff" * 4, b'"', b"}", b"]", b",", b"0", b" "])
    data[first : first + len(values)] = values
    return bytes(data)


def cut(rng, parts, _):
    return parts.data[: pick(rng, [rng.integers(len(parts.data)), rng.integers(parts.length + 8)])]


def extend(rng, parts, _):
    more = rng.bytes(int(rng.integers(1, 40)))
    where = pick(rng, [0, 8, 8 + parts.length, len(parts.data)])
    return parts.data[:where] + more + parts.data[where:]


def splice(rng, parts, originals):
    other = pick(rng, originals).data
    return parts.data[: rng.integers(len(parts.data))] + other[rng.integers(len(other)) :]


def header_size(rng, parts, _):
    sizes = [0, 1, 7, parts.length - 1, parts.length + 1, len(parts.data), 2**31, 2**32, 2**63]
    size = pick(rng, [*sizes, 2**64 - 1, 10**8, 10**8 + 1, int(rng.integers(2**63))])
    return struct.pack("<Q", size) + parts.data[8:]


def offsets(rng, parts, _):
    def change(entries):
        first, end = entries[pick(rng, parts.names())]["data_offsets"]
        size, all_ = end - first, len(parts.body)
        choices = [[end, first], [first + 4, end + 4], [first - 4, end - 4], [-4, size - 4]]
        choices += [[all_, all_ + size], [0, 2**63], [2**64 - size, 2**64], [first, end + 4]]
        choices += [[0, size], [first], [first, end, end], [], None, "0", [float(first), end]]
        choices += [[str(first), end], [first, None], [10**30, 10**30 + size], [first, 1e308]]
        entries[pick(rng, parts.names())]["data_offsets"] = pick(rng, choices)

    return with_entries(parts, change)


def dtype(rng, parts, _):
    names = ["F16", "BF16", "I8", "U8", "BOOL", "I32", "I64", "F32", "F64", "C64", "F8_E5M2", "F4"]
    names += ["F8_E4M3", "f32", "", None, 3, ["F32"], "float32", "object", "U64", "U16", "I16"]

    def change(entries):
        entry = entries[pick(rng, parts.names())]
        # Types of the same size are wrong as well, and only we can tell.
        same = {"F32": ["I32", "U32"], "F64": ["I64", "U64"]}.get(entry["dtype"], [])
        entry["dtype"] = pick(rng, same if same and rng.integers(2) else names)
        if rng.integers(2) and entry["dtype"] in ("F16", "BF16"):
            entry["shape"] = [*entry["shape"], 2]

    return with_entries(parts, change)


def swap_tensors(rng, parts, _):
    def change(entries):
        a, b = (pick(rng, parts.names()) for _ in range(2))
        part = pick(rng, ["data_offsets", "shape", None])
        if part is None:
            entries[a], entries[b] = entries[b], entries[a]
        else:
            entries[a][part], entries[b][part] = entries[b][part], entries[a][part]

    return with_entries(parts, change)


def missing_tensor(rng, parts, _):
    name = pick(rng, parts.names())
    first, end = parts.entries[name]["data_offsets"]
    with_body = rng.integers(2)

    def change(entries):
        del entries[name]
        for other in parts.names() if with_body else ():
            if other != name and entries[other]["data_offsets"][0] >= end:
                entries[other]["data_offsets"] = [
                    offset - (end - first) for offset in entries[other]["data_offsets"]
                ]

    data = with_entries(parts, change)
    length = len(data) - len(parts.body)
    return data[:length] + parts.body[:first] + parts.body[end:] if with_body else data


def extra_tensor(rng, parts, _):
    name = pick(rng, ["layers.99.w", "layers.0.x", "layers.", "layers.00.w", "x", "é", "a" * 5000])
    shape = pick(rng, [[2], [1, 2], [], [0], [0, 2**40], [0, 2**62], [0, 2**63], [1] * 70, [2, 1]])
    size = 4 * int(np.prod([min(n, 2) for n in shape]))
    n = len(parts.body)
    entry = {"dtype": "F32", "shape": shape, "data_offsets": [n, n + size]}
    return join({**parts.entries, name: entry}, parts.body + bytes(size))


def many_tensors(rng, parts, _):
    n = len(parts.body)
    entry = {"dtype": "F32", "shape": [0], "data_offsets": [n, n]}
    return join({**parts.entries, **{f"x{k}": entry for k in range(rng.integers(300))}}, parts.body)


def named_twice(rng, parts, _):
    if rng.integers(2):
        name = pick(rng, list(parts.entries))
        again = json.dumps({name: parts.entries[pick(rng, [name, *parts.names()])]})
        return join(json.dumps(parts.entries)[:-1] + ", " + again[1:], parts.body)
    text = parts.text()
    name = pick(rng, ['"format": 1', '"layers": []', '"dtype": "float64"', '"seed": 3'])
    inner = text.replace('{"n_inputs"', '{"n_inputs": 1, "n_inputs"', 1)
    return with_text(parts, pick(rng, [f"{{{name}, {text[1:]}", f"{text[:-1]}, {name}}}", inner]))


def not_finite(rng, parts, _):
    name = pick(rng, parts.weights())
    values = parts.array(name).copy()
    values.reshape(-1)[rng.integers(values.size)] = pick(rng, [np.nan, np.inf, -np.inf])
    first, end = parts.entries[name]["data_offsets"]
    return join(parts.entries, parts.body[:first] + values.tobytes() + parts.body[end:])


def extreme_weights(rng, parts, _):
    name = pick(rng, parts.weights())
    values = parts.array(name).copy()
    limits = np.finfo(values.dtype)
    extremes = [limits.max, limits.min, limits.tiny, limits.smallest_subnormal, -0.0, -1.0]
    values.reshape(-1)[rng.integers(values.size)] = pick(rng, extremes)
    first, end = parts.entries[name]["data_offsets"]
    return join(parts.entries, parts.body[:first] + values.tobytes() + parts.body[end:])


def deep_header(rng, parts, _):
    depth = pick(rng, [100, 1000, 10_000, 100_000])
    deep = pick(rng, ["[" * depth + "]" * depth, "[" * depth, '{"a":' * depth + "1" + "}" * depth])
    return join(json.dumps(parts.entries)[:-1] + f', "x": {deep}}}', parts.body)


def deep_description(rng, parts, _):
    depth = pick(rng, [100, 1000, 10_000, 100_000])
    deep = pick(rng, ["[" * depth + "]" * depth, "[" * depth, '{"a":' * depth + "1" + "}" * depth])
    return with_text(parts, pick(rng, [deep, parts.text()[:-1] + f', "x": {deep}}}']))


def nested_blocks(rng, parts, _):
    depth = pick(rng, [1, 63, 64, 65, 66, 100, 330, 10_000])
    inner = pick(rng, ['["ReLU", {}]', '["Affine", {"n_inputs": 1, "n_outputs": 1}]', ""])
    head, _, tail = parts.text().rpartition("]")  # at the end, where it renames no layer
    return with_text(parts, f"{head}, {nested(depth, inner)}]{tail}")


def huge_numbers(rng, parts, _):
    digits = "9" * int(pick(rng, [30, 400, 4000, 4400, 100_000]))
    number = pick(rng, [digits, "-" + digits, f"1e{digits[:5]}", f"0.{digits}", "NaN", "-Infinity"])
    text = parts.text()
    spots = [("1", 1), ('"format": 1', 1), ('"seed": 3', 1), ('"n_inputs": ', 1), ("0.5", 1)]
    old, _ = pick(rng, spots)
    head = old.rpartition(" ")[0] + " " if '"' in old else ""
    return with_text(parts, text.replace(old, f"{head}{number}", 1))


def huge_strings(rng, parts, _):
    huge = pick(rng, ["A", "\n", "\\", '"', "é", "\0"]) * int(pick(rng, [10**3, 10**5]))
    if rng.integers(3) == 0:
        return with_entries(parts, lambda entries: entries["__metadata__"].update(note=huge))

    def change(description):
        where = [path for path in places(description) if isinstance(at(description, path), str)]
        *parent, key = pick(rng, where)
        at(description, parent)[key] = huge

    return with_description(parts, change)


def shapes(rng, parts, _):
    def change(entries):
        shape = entries[pick(rng, parts.names())]["shape"]
        huge = [[2**32, 2**32], [2**63, 2], [10**9, 10**9], [2**64], [2**63 - 1], [0, 2**62]]
        choices = [*huge, shape[::-1], [*shape, 1], [1, *shape], [int(np.prod(shape))], [], [-1]]
        choices += [[-n for n in shape], [1.0], ["1"], None, 3, [None], [True], [10**40], [0]]
        entries[pick(rng, parts.names())]["shape"] = pick(rng, choices)

    return with_entries(parts, change)


def huge_layers(rng, parts, _):
    n, m = (pick(rng, [10**9, 10**6, 2**31, 2**32, 2**63, 1, 10**18, 10**400]) for _ in range(2))
    extra = pick(
        rng,
        [
            ["Affine", {"n_inputs": n, "n_outputs": m}],
            ["Affine", {"n_inputs": n, "n_outputs": m, "bias": False, "init": "orthogonal"}],
            ["BatchNorm", {"n_features": n}],
            ["LayerNorm", {"n_features": m}],
            ["Residual", {"layers": [["Affine", {"n_inputs": n, "n_outputs": n}]]}],
        ],
    )

    def change(description):
        layers = description["layers"]
        if rng.integers(3) == 0:
            description["layers"] = [extra]
        elif rng.integers(2):
            layers.insert(rng.integers(len(layers) + 1), extra)
        else:
            layers[rng.integers(len(layers))] = extra

    return with_description(parts, change)


def many_layers(rng, parts, _):
    extra = pick(rng, [["ReLU", {}], ["Dropout", {}], ["Affine", {"n_inputs": 3, "n_outputs": 3}]])

    def change(description):
        layers = description["layers"]
        where = pick(rng, [0, len(layers)])
        layers[where:where] = [extra] * int(pick(rng, [1, 2, 100]))

    return with_description(parts, change)


def changed_description(rng, parts, _):
    how = pick(rng, ["replace", "replace", "replace", "remove", "double", "rename"])
    return with_description(parts, lambda tree: change_a_place(rng, tree, how))


def changed_metadata(rng, parts, _):
    """Change what lies beside the description; for tables, how their data is encoded."""
    keys = [key for key in parts.entries["__metadata__"] if key.startswith("fastnn.")]
    if not keys:
        return with_entries(parts, lambda entries: change_a_place(rng, entries, "replace"))
    how = pick(rng, ["replace", "replace", "remove", "double", "rename"])
    key = pick(rng, keys)
    if rng.integers(8) == 0:
        deep = "[" * 10_000
        return with_text(parts, pick(rng, ["", "{", "null", "[]", "3", deep, "{}"]), key)
    return with_description(parts, lambda tree: change_a_place(rng, tree, how), key)


def changed_entries(rng, parts, _):
    how = pick(rng, ["replace", "remove", "double", "rename"])
    entries = change_a_place(rng, copy.deepcopy(parts.entries), how)
    return join(entries, parts.body)


def table_numbers(rng, parts, _):
    """Change the means and scales of a table's columns; or weights, where there are none."""
    names = [name for name in parts.names() if name.startswith("table.")] or parts.weights()
    name = pick(rng, names)
    values = parts.array(name).copy()
    values.reshape(-1)[rng.integers(values.size)] = pick(
        rng, [np.nan, np.inf, 0.0, -1.0, np.finfo(values.dtype).max, np.finfo(values.dtype).tiny]
    )
    first, end = parts.entries[name]["data_offsets"]
    return join(parts.entries, parts.body[:first] + values.tobytes() + parts.body[end:])


def versions(rng, parts, _):
    values = [2, 99, 0, -1, 10**30, True, 1.0, 1.5, "1", None, [1], {}, "", "2"]
    return with_description(parts, lambda tree: tree.update(format=pick(rng, values)))


def wrong_arguments(rng, parts, _):
    wrong = [
        *(["LeakyReLU", {"negative_slope": value}] for value in (-1, 1e400, "0", None, True, 2)),
        *(["ELU", {"alpha": value}] for value in (-1e-9, [], 1e308)),
        *(["Dropout", {"rate": value}] for value in (1, -0.1, 2, True, "0.5", 0.5, 0)),
        *(["Dropout", {"rate": 0.5, "seed": value}] for value in (-1, 2**63, 1.5, True, 3, None)),
        *(["GELU", {"approximate": value}] for value in ("exact", None, True, [])),
        *(["ReLU", value] for value in ({"x": 1}, [], None, "", [["a", 1]], {"": 1}, {"self": 1})),
        *(["BatchNorm", {"n_features": 3, "momentum": value}] for value in (1.1, -1, True)),
        *(["LayerNorm", {"n_features": 3, "epsilon": value}] for value in (0, -1, 1e400, "1")),
        *([name, {}] for name in ("__class__", "Activation", "Layer", "relu", "Sequential", "")),
        *([name, {}] for name in (["ReLU"], None, 3, True, {"ReLU": 1}, "ParametricLayer")),
        *(["Residual", {"layers": value}] for value in ([], {}, None, "ReLU", [["ReLU"]], [[]])),
        *([], ["ReLU"], ["ReLU", {}, {}], {"ReLU": {}}, "ReLU", None, 3, True, [[], []], "ab"),
    ]

    def change(description):
        layers = description["layers"]
        affine = [pair for pair in layers if pair[0] == "Affine"]
        if rng.integers(3) == 0:
            rule = pick(rng, [*JUNK, {"l1": -1}, {"l1": 0.0}, {"max_norm": 0}, {"x": 1}])
            arguments = {"regularization": rule, "init": pick(rng, JUNK), "bias": pick(rng, JUNK)}
            name = pick(rng, list(arguments))
            pick(rng, affine)[1][name] = arguments[name]
        else:
            layers.insert(pick(rng, [rng.integers(len(layers)), len(layers)]), pick(rng, wrong))

    return with_description(parts, change)


def other_encodings(rng, parts, _):
    text = json.dumps(parts.entries, ensure_ascii=bool(rng.integers(2)))
    encoding = pick(rng, ["utf-16", "utf-16-le", "utf-32", "utf-8-sig", "latin-1", "utf-7"])
    header = text.encode(encoding, "replace")
    if rng.integers(4) == 0:
        header = text.replace("layers", "\ud800", 1).encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(header)) + header + parts.body


KINDS = [
    *(flip_bits, set_bytes, cut, extend, splice, header_size, offsets, dtype, swap_tensors),
    *(missing_tensor, extra_tensor, many_tensors, named_twice, not_finite, extreme_weights),
    *(deep_header, deep_description, nested_blocks, huge_numbers, huge_strings, shapes),
    *(huge_layers, many_layers, changed_description, changed_metadata, changed_entries),
    *(table_numbers, versions, wrong_arguments, other_encodings),
]


def originals(folder):
    """Return all undamaged files by name, taken apart."""
    files = {}
    for name, save in ORIGINALS.items():
        path = Path(folder) / "original.safetensors"
        save(path)
        files[name] = Parts(path.read_bytes())
    return files


def mutations(files, count, seed=0):
    """Yield (kind, name of the original, bytes) of damaged files, all kinds in turn."""
    for number, kind in zip(range(count), itertools.cycle(KINDS), strict=False):
        rng = np.random.default_rng([seed, number])
        # scikit-learn takes most of the time, so files with tables are seldom but where it matters.
        share = 0.5 if kind in (changed_metadata, table_numbers) else 0.04
        with_table = rng.random() < share
        name = pick(rng, [name for name in files if name.startswith("table") == with_table])
        yield kind.__name__, name, kind(rng, files[name], list(files.values()))


def load(path, is_table):
    """Load a file in all ways that there are; return the net."""
    if is_table:
        _model_facts(str(path))  # which reads the encoding of the table as well
        fastnn.load(path)
    return Sequential.load(path)


def check_refusal(error, path):
    """Check that an error says in one line which file is wrong."""
    said = str(error)
    assert type(error) is ModelFileError, repr(error)
    assert said.splitlines() == [said], said
    assert str(path) in said
    assert len(said) < 2 * len(str(path)) + 500, said


def check_net(net, data):
    """Check that a net which has been loaded is what the file says."""
    parts = Parts(data)
    for k, layer in enumerate(net.layers):
        for name, array in (layer.params | layer.buffers).items():
            stored = parts.array(f"layers.{k}.{name}")
            assert array.dtype == stored.dtype
            assert array.shape == stored.shape
            assert array.tobytes() == stored.tobytes()
            assert np.isfinite(array).all()
    said = json.loads(parts.text())
    assert said["dtype"] == net.dtype.name
    assert [pair[0] for pair in said["layers"]] == [type(layer).__name__ for layer in net.layers]


def check_use(net, path):
    """Check that a net which has been loaded predicts, and can be saved again."""
    with np.errstate(all="ignore"):
        assert net.predict(np.ones((2, net.n_inputs))).shape == (2, net.n_outputs)
    net.save(path)
    again = Sequential.load(path)
    assert repr(again) == repr(net)
    assert again.params.tobytes() == net.params.tobytes()


def _interrupt(signum, frame):
    raise TimeoutError(f"a load has not ended after {SECONDS} seconds")


def fuzz(folder, count, seed=0):
    """Load damaged files; return how many of each (kind, outcome) there were, and the most memory.

    The latter is the largest share of what is allowed: 1 would be all of it.
    """
    files = originals(folder)
    path = Path(folder) / "damaged.safetensors"
    outcomes, most = collections.Counter(), 0.0
    signal.signal(signal.SIGALRM, _interrupt)
    tracemalloc.start()
    try:
        for number, (kind, name, data) in enumerate(mutations(files, count, seed)):
            path.write_bytes(data)
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            net = None
            signal.alarm(SECONDS)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    net = load(path, name.startswith("table"))
            except ModelFileError as error:
                check_refusal(error, path)
            except BaseException as error:
                error.add_note(f"mutation {number} of seed {seed}: {kind} of {name!r}")
                raise
            finally:
                signal.alarm(0)
            taken = tracemalloc.get_traced_memory()[1] - before
            allowed = 4 * len(data) + ALLOWANCE
            most = max(most, taken / allowed)
            assert taken <= allowed, f"{kind} of {name!r}: {taken} bytes for {len(data)}"
            if net is not None:
                try:
                    check_net(net, data)
                    if number % 4 == 0:  # it takes longer than all else
                        check_use(net, path)
                except Exception as error:
                    error.add_note(f"mutation {number} of seed {seed}: {kind} of {name!r}")
                    raise
            outcomes[kind, "refused" if net is None else "loaded"] += 1
    finally:
        tracemalloc.stop()
    return outcomes, most


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("count", type=int, nargs="?", default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcomes, most = fuzz(folder, arguments.count, arguments.seed)
    print(f"fastnn {fastnn.__version__}: {arguments.count} files, {100 * most:.0f} % of the memory")
    for kind in KINDS:
        loaded, refused = (outcomes[kind.__name__, how] for how in ("loaded", "refused"))
        print(f"{kind.__name__:<22} {loaded:>6} loaded {refused:>6} refused")


if __name__ == "__main__":
    main()
