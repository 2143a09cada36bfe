"""What is read from names, tables, arrays and IDX folders, and what is refused in one line."""

import gzip
import struct

import numpy as np
import pytest

from fastnn import errors
from fastnn.datasets import BUNDLED, UnknownColumnError, load

pytest.importorskip("sklearn")
pandas = pytest.importorskip("pandas")


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def idx_bytes(array):
    """Return an array of uint8 in the IDX format."""
    return (
        b"\0\0\x08"
        + bytes([array.ndim])
        + struct.pack(f">{array.ndim}I", *array.shape)
        + (array.astype("u1").tobytes())
    )


@pytest.fixture
def mnist_like(tmp_path, rng):
    """Return a folder with 6 training and 4 test images of 2 x 3 pixels."""
    folder = tmp_path / "images"
    folder.mkdir()
    for part, n_rows in [("train", 6), ("t10k", 4)]:
        images = rng.integers(0, 256, (n_rows, 2, 3))
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx_bytes(images))
        labels = gzip.compress(idx_bytes(np.arange(n_rows) % 2))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(labels)
    return folder


# Bundled sets


@pytest.mark.parametrize(
    ("name", "shape", "task"),
    [
        ("digits", (1797, 64), "classification"),
        ("breast_cancer", (569, 30), "classification"),
        ("wine", (178, 13), "classification"),
        ("iris", (150, 4), "classification"),
        ("diabetes", (442, 10), "regression"),
    ],
)
def test_a_bundled_set_is_loaded_by_name(name, shape, task):
    data = load(name)
    assert (data.name, data.X.shape, data.y.shape, data.task) == (name, shape, shape[:1], task)
    assert len(data.feature_names) == shape[1]
    assert len(data) == shape[0]
    assert name in BUNDLED


def test_bundled_labels_are_text_where_they_have_names():
    assert set(load("iris").y) == {"setosa", "versicolor", "virginica"}
    assert set(load("digits").y) == set(range(10))


def test_a_file_of_a_bundled_name_is_read_only_when_written_as_a_path(mnist_like, monkeypatch):
    (mnist_like.parent / "digits").symlink_to(mnist_like)
    monkeypatch.chdir(mnist_like.parent)
    assert load("digits").X.shape == (1797, 64)
    assert load("./digits").X.shape == (6, 6)
    assert load("./digits").name == "digits"


def test_an_unknown_name_lists_the_bundled_sets():
    with pytest.raises(errors.DataError, match=r"^digit: no such file .* \(digits, breast_cancer"):
        load("digit")


# Text files


@pytest.mark.parametrize("separator", [",", ";", "\t", " ", "  ", ", "])
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".data", ".txt", ".csv.gz"])
def test_the_separator_is_found(tmp_path, separator, suffix):
    rows = [["a", "b", "label"], ["1", "2.5", "x"], ["3", "-4e3", "y"]]
    text = "".join(separator.join(row) + "\n" for row in rows).encode()
    path = tmp_path / f"some.table{suffix}"
    path.write_bytes(gzip.compress(text) if suffix.endswith(".gz") else text)
    data = load(path)
    assert data.name == "some.table"
    assert data.feature_names == ["a", "b"]
    assert data.X.to_numpy().tolist() == [[1, 2.5], [3, -4000]]
    assert data.y.tolist() == ["x", "y"]
    assert data.target_name == "label"


def test_a_quoted_field_may_hold_separators_and_line_ends(tmp_path):
    path = write(tmp_path / "t.csv", 'name,n,y\n"Doe, Jane",1,0\n"two\nlines",2,1\n')
    assert load(path).X["name"].tolist() == ["Doe, Jane", "two\nlines"]


def test_blanks_around_fields_and_names_are_removed(tmp_path):
    path = write(tmp_path / "t.csv", "\ufeff a , b ,y \n 1 , red ,0\n 2 ,red , 1 \n")
    data = load(path)
    assert data.feature_names == ["a", "b"]
    assert data.X["b"].tolist() == ["red", "red"]
    assert data.y.tolist() == [0, 1]


@pytest.mark.parametrize("missing", ["", "?", "NA", " ? ", " NA ", "nan", "null"])
def test_missing_values_become_nan_and_leave_a_column_of_numbers_numeric(tmp_path, missing):
    path = write(tmp_path / "t.csv", f"a,b,y\n1,u,0\n{missing},{missing},1\n3,v,0\n")
    data = load(path)
    assert data.X["a"].dtype.kind == "f"
    assert data.X["a"].isna().tolist() == data.X["b"].isna().tolist() == [False, True, False]


def test_columns_may_be_read_as_text_though_they_look_like_numbers(tmp_path):
    path = write(tmp_path / "t.csv", "zip,n,y\n02139,1,0\n10115,2,1\n")
    assert load(path, text=["zip"]).X["zip"].tolist() == ["02139", "10115"]
    assert load(path).X["zip"].tolist() == [2139, 10115]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a,b\n1,2\n3,4\n", True),
        ("1,2\n3,4\n", False),
        ("name,color\nann,red\nbob,red\n", True),  # nothing of the first row comes again
        ("p,x,s\ne,x,s\np,x,y\n", False),  # text in all columns, with repetitions
        ("0,1,2,target\n5,6,7,8\n1,2,3,4\n", True),  # only one name is text
        ("39, State-gov, 77516, Male\n50, Private, 83311, Female\n", False),
        (",a,b\n0,1,2\n1,3,4\n", True),
        ("a,b\n1,?\n?,2\n", True),
        ("?,b\n1,x\n2,y\n", False),
        ("5.1,3.5,setosa\n", False),
        ("a,b\nc,d\n", True),
    ],
)
def test_a_header_is_recognised(tmp_path, text, expected):
    data = load(write(tmp_path / "t.csv", text))
    assert data.has_header is expected
    assert len(data) == text.count("\n") - expected
    if not expected:
        assert data.feature_names[0] == "column_0"


def test_a_wrong_guess_about_the_header_can_be_overridden(tmp_path):
    path = write(tmp_path / "t.csv", "ann,red\nbob,blue\n")
    assert len(load(path)) == 1
    assert len(load(path, header=False)) == 2
    path = write(tmp_path / "t.csv", "1,2\n3,4\n")
    assert load(path, header=True).feature_names == ["1"]


# Choosing columns


@pytest.mark.parametrize(
    ("target", "name"),
    [(-1, "c"), (0, "a"), (-3, "a"), ("b", "b"), ("1", "b"), ("-1", "c"), (None, None)],
)
def test_the_target_is_chosen_by_name_or_index(tmp_path, target, name):
    data = load(write(tmp_path / "t.csv", "a,b,c\n1,2,3\n4,5,6\n"), target=target)
    assert data.target_name == name
    assert data.feature_names == [column for column in "abc" if column != name]
    assert (data.y is None) == (name is None)
    assert data.target_index == (None if name is None else "abc".index(name))


def test_a_column_whose_name_is_a_number_wins_over_the_index(tmp_path):
    path = write(tmp_path / "t.csv", "1,0,x\n5,6,7\n8,9,10\n")
    assert load(path, target="0", header=True).target_index == 1


def test_columns_can_be_left_out(tmp_path):
    path = write(tmp_path / "t.csv", "a,b,c,d\n1,2,3,0\n4,5,6,1\n")
    assert load(path, drop=["b", "0"]).feature_names == ["c"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"target": "colour"}, r"target 'colour' is not a column of .*: did you mean 'color'\?"),
        ({"target": "zzz"}, r"target 'zzz' is not a column of .*: color, size, y$"),
        ({"target": 3}, r"target 3 is not a column of .* has 3 columns"),
        ({"target": "-4"}, r"target '-4' is not a column"),
        ({"drop": ["shape"]}, r"drop 'shape' is not a column"),
        ({"drop": ["y"]}, r"drop 'y' would drop the target"),
    ],
)
def test_an_unknown_column_is_named(tmp_path, options, said):
    path = write(tmp_path / "t.csv", "color,size,y\nred,1,0\nblue,2,1\n")
    with pytest.raises(UnknownColumnError, match=said):
        load(path, **options)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_columns_that_do_not_matter_are_left_out_whatever_they_hold(tmp_path, suffix):
    table = pandas.DataFrame({"id": [np.inf, 1.0], "a": [1, 2], "b": [3, 4], "y": [0, 1]})
    path = tmp_path / f"t{suffix}"
    if suffix == ".csv":
        table.to_csv(path, index=False)
    else:
        pytest.importorskip("pyarrow")
        table.to_parquet(path)
    data = load(path, target=None, needed=["b", "a"], optional=["y", "z"])
    assert data.feature_names == ["a", "b", "y"]
    assert data.X.to_numpy().tolist() == [[1, 3, 0], [2, 4, 1]]
    with pytest.raises(errors.DataError, match="column 'id' has infinite values"):
        load(path, target=None)
    # One is absent: the columns may have other names, and all may matter.
    with pytest.raises(errors.DataError, match="column 'id' has infinite values"):
        load(path, target=None, needed=["b", "c"])


def test_only_a_table_lets_one_choose_columns():
    assert load("iris", target="target").name == "iris"
    with pytest.raises(UnknownColumnError, match="target 'color' cannot be chosen: iris is not"):
        load("iris", target="color")
    with pytest.raises(UnknownColumnError, match="drop 'color' is not possible"):
        load("iris", drop=["color"])


# Text files that are refused


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the file is empty"),
        ("\n  \n", "the file is empty"),
        ("a,b,c\n", "there are no rows of data"),
        ("a\n1\n2\n", "there is no column besides the target 'a'"),
        ("a,b\n1,2\n3,4,5\n", "Expected 2 fields in line 3, saw 3"),
        ("a,b\n1,2,3\n4,5,6\n", "Length of header or names does not match"),
        ("a,b\n1,2\ninf,4\n", "column 'a' has infinite values, in 1 of 2 rows"),
        ("a,b\n1,2\n1,-inf\n", "column 'b' has infinite values"),
        ("a,a ,b\n1,2,3\n4,5,6\n", "two columns have the name 'a'"),
        ('a,b\n1,"2\n', "EOF inside string"),
    ],
)
def test_a_damaged_text_file_is_refused_with_its_name_in_one_line(tmp_path, text, said):
    path = write(tmp_path / "t.csv", text)
    with pytest.raises(errors.DataError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("suffix", "text", "line", "n_fields"),
    [
        (".csv", "a,b,c\n1,2,3\n4,5\n", 3, 2),
        (".csv", "a,b,c\n\n1,2,3\n   \n4,5,6\n7\n", 6, 1),
        (".csv", 'a,b,c\n"1\n1",2,3\n4,5\n', 4, 2),
        (".csv", "1,2,3\n4,5\n", 2, 2),
        (".csv", "a,b,c\n" + 300 * "1,2,3\n" + "1,2\n", 302, 2),
        (".csv", "a,b,c\n1,2\n3,4\n", 2, 2),
        (".tsv", "a\tb\tc\n1\t2\t3\n4\t5\n", 3, 2),
        (".data", "1 2 3\n4  5  6\n" * 150 + "\n7 8\n", 302, 2),
    ],
)
def test_a_line_with_too_few_fields_is_named(tmp_path, suffix, text, line, n_fields):
    said = f": line {line} has {n_fields} fields, but 3 are needed"
    plain = write(tmp_path / f"t{suffix}", text)
    zipped = tmp_path / f"t{suffix}.gz"
    zipped.write_bytes(gzip.compress(text.encode()))
    for path in (plain, zipped):
        with pytest.raises(errors.DataError) as caught:
            load(path)
        assert str(caught.value) == f"{path}{said}"


def test_empty_last_fields_are_missing_values_and_no_error(tmp_path):
    data = load(write(tmp_path / "t.csv", 'a,b,c\n1,2,\n\n"x\ny",4,5\n6,7,\n   \n'))
    assert np.isnan(data.y).tolist() == [True, False, True]


def test_a_file_that_is_not_text_is_refused(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(b"a,b\n\xff\xfe,1\n")
    with pytest.raises(errors.DataError, match="is not text in UTF-8"):
        load(path)
    path.write_bytes(b"a,b\n" + b"1,2\n" * 300 + b"\xff,1\n")  # beyond what is sampled
    with pytest.raises(errors.DataError, match="is not text in UTF-8"):
        load(path)


@pytest.mark.parametrize("n_bytes", [0, 10, 40])
def test_a_truncated_gzip_file_is_refused(tmp_path, n_bytes):
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n" + b"1,2\n" * 1000)[:n_bytes])
    with pytest.raises(errors.DataError, match=r"t\.csv\.gz: "):
        load(path)


def test_a_file_that_is_not_gzip_is_refused(tmp_path):
    with pytest.raises(errors.DataError, match="Not a gzipped file"):
        load(write(tmp_path / "t.csv.gz", "a,b\n1,2\n"))


def test_an_unknown_kind_of_file_names_the_known_ones(tmp_path):
    with pytest.raises(errors.DataError, match=r"unknown kind of file '\.xlsx', allowed are \.csv"):
        load(write(tmp_path / "t.xlsx", "x"))


# Parquet


def test_parquet_keeps_the_types_of_its_columns(tmp_path):
    pytest.importorskip("pyarrow")
    path = tmp_path / "t.parquet"
    pandas.DataFrame(
        {
            "whole": pandas.array([1, None, 3], dtype="Int64"),
            "real": np.array([0.5, np.nan, 2], dtype=np.float32),
            "flag": [True, False, True],
            "code": ["01", "02", None],
            "kind": pandas.Categorical(["u", "v", "u"]),
            "y": [0, 1, 0],
        }
    ).to_parquet(path)
    X = load(path).X
    assert [X[name].dtype.kind for name in X] == ["f", "f", "O", "O", "O"]
    assert X["whole"].tolist()[::2] == [1, 3]
    assert X["flag"].tolist() == ["True", "False", "True"]
    assert X["code"].tolist()[:2] == ["01", "02"]
    assert X["code"].isna().tolist() == [False, False, True]
    assert X["kind"].tolist() == ["u", "v", "u"]


def test_parquet_with_dates_or_damage_is_refused(tmp_path):
    pytest.importorskip("pyarrow")
    path = tmp_path / "t.parquet"
    pandas.DataFrame({"when": pandas.to_datetime(["2020-01-01"] * 2), "y": [0, 1]}).to_parquet(path)
    with pytest.raises(errors.DataError, match="column 'when' holds dates or times"):
        load(path)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(errors.DataError, match="cannot be read as Parquet"):
        load(path)


# Arrays


def save_npz(path, **arrays):
    np.savez(path, **arrays)
    return path


def test_arrays_are_read_and_images_flattened(tmp_path, rng):
    X, y = rng.random((5, 2, 3), dtype=np.float32), np.arange(5)
    data = load(save_npz(tmp_path / "t.npz", X=X, y=y))
    assert np.array_equal(data.X, X.reshape(5, 6))
    assert np.array_equal(data.y, y)
    assert data.target_name == "y"
    assert load(save_npz(tmp_path / "t.npz", X=X)).y is None
    column = load(save_npz(tmp_path / "t.npz", X=X, y=y[:, None].astype(str)))
    assert column.y.tolist() == list("01234")


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": np.ones((2, 2))}, "there is no array 'X', only: x"),
        ({"X": np.ones(3)}, "X must hold numbers in the shape (rows, features), got float64 (3,)"),
        ({"X": np.ones((0, 3))}, "X must hold numbers"),
        ({"X": np.array([["a", "b"]])}, "X must hold numbers"),
        ({"X": np.array([[1, np.nan], [1, 2]])}, "X has NaN or infinite values, in 1 of 2 rows"),
        ({"X": np.array([[1, np.inf], [1, 2]])}, "X has NaN or infinite values"),
        ({"X": np.ones((2, 2)), "y": np.ones(3)}, "y must hold numbers or text in the shape (2,)"),
        ({"X": np.ones((2, 2)), "y": np.array([1, np.nan])}, "y has NaN or infinite values"),
        ({"X": np.ones((2, 2)), "y": np.ones((2, 3))}, "y must hold numbers or text"),
    ],
)
def test_unfit_arrays_are_refused(tmp_path, arrays, said):
    path = save_npz(tmp_path / "t.npz", **arrays)
    with pytest.raises(errors.DataError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: {said}")


def test_pickled_and_damaged_arrays_are_refused(tmp_path):
    path = save_npz(tmp_path / "t.npz", X=np.array([[{"code": "runs"}]], dtype=object))
    with pytest.raises(errors.DataError, match=r"cannot be read as \.npz: .*allow_pickle=False"):
        load(path)
    for content in (b"", b"not a zip", save_npz(path, X=np.ones((9, 9))).read_bytes()[:200]):
        path.write_bytes(content)
        with pytest.raises(errors.DataError, match=r"cannot be read as \.npz"):
            load(path)
    with path.open("wb") as file:
        np.save(file, np.ones(3))
    with pytest.raises(errors.DataError, match=r"cannot be read as \.npz"):
        load(path)


# IDX folders


def test_idx_images_are_scaled_to_one_and_t10k_is_the_test_set(mnist_like):
    data = load(mnist_like)
    raw = (mnist_like / "train-images-idx3-ubyte").read_bytes()[16:]
    assert data.X.dtype == np.float32
    assert np.array_equal(data.X.ravel(), np.frombuffer(raw, "u1") / np.float32(255))
    assert data.y.tolist() == [0, 1, 0, 1, 0, 1]
    assert data.test.X.shape == (4, 6)
    assert data.name == "images"
    assert not data.standardise


def test_an_idx_folder_may_lack_labels_or_a_part(mnist_like):
    (mnist_like / "t10k-labels-idx1-ubyte.gz").unlink()
    assert load(mnist_like).test.y is None
    (mnist_like / "train-images-idx3-ubyte").unlink()
    assert len(load(mnist_like)) == 4
    (mnist_like / "t10k-images-idx3-ubyte").unlink()
    with pytest.raises(errors.DataError, match="holds no train-images-idx3-ubyte or t10k"):
        load(mnist_like)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda content: content[:-1], "is damaged: 52 bytes expected"),
        (lambda content: content + b"x", "is damaged"),
        (lambda content: b"x" + content, "is not an IDX file"),
        (lambda content: b"", "is not an IDX file"),
        (lambda content: content[:8], "is damaged"),
        (lambda content: idx_bytes(np.zeros(6)), "holds no images"),
    ],
)
def test_a_damaged_idx_file_is_refused(mnist_like, damage, said):
    path = mnist_like / "train-images-idx3-ubyte"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(errors.DataError, match=said):
        load(mnist_like)


def test_idx_labels_must_be_as_many_as_images(mnist_like):
    path = mnist_like / "train-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(idx_bytes(np.zeros(5))))
    with pytest.raises(errors.DataError, match=r"y must hold numbers .* \(6,\), got int64 \(5,\)"):
        load(mnist_like)
    path.write_bytes(path.read_bytes()[:12])
    with pytest.raises(errors.DataError, match=r"train-labels-idx1-ubyte\.gz: cannot be read"):
        load(mnist_like)
