"""Models of tables: what `fastnn.load` gives back predicts on frames of every kind."""

import copy
import json
import pickle

import numpy as np
import pytest

import fastnn
from fastnn import Affine, DataError, ModelFileError, Sequential, TableModel
from fastnn.data.table_encoder import TableEncoder
from fastnn.datasets import Dataset, load

pandas = pytest.importorskip("pandas")
pytest.importorskip("sklearn")

COLUMNS = {
    "size": [1.5, -0.5, np.nan, 0.25, 2.0, -1.0],
    "age": [10, 20, 30, 40, 50, 60],
    "colour": ["red", "blue", np.nan, "red", "green", "blue"],
}
TARGET = ["yes", "no", "no", "yes", "yes", "no"]
FACTS = {"data": "t.csv", "rows": 6, "epochs": 3, "test_score": 0.5}


def table():
    return pandas.DataFrame(COLUMNS)


def make_model(task="classification", dtype="float32"):
    y = np.array(TARGET, object) if task == "classification" else np.arange(6.0) * 10
    data = Dataset("t", table(), y, list(COLUMNS), "bought", 3)
    encoder = TableEncoder.fit(data, task=task)
    net = Sequential([Affine(encoder.n_inputs, encoder.n_outputs)], seed=0, dtype=dtype)
    loss = "softmax_cross_entropy" if task == "classification" else "squared_error"
    X, y = encoder.transform(data, dtype=dtype), encoder.encode_target(data)
    net.fit(X, y, loss=loss, optimizer=fastnn.Adam(0.1), epochs=100)
    return TableModel(net, encoder, FACTS)


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture(scope="module")
def regression():
    return make_model("regression")


def test_a_model_says_what_it_wants_and_what_it_gives(model, regression):
    assert model.columns == model.feature_names_in_.tolist() == list(COLUMNS)
    assert model.n_features_in_ == 3
    assert model.categories == {"colour": ["blue", "green", "missing", "red"]}
    assert (model.task, model.target_name) == ("classification", "bought")
    assert model.classes_.tolist() == ["no", "yes"]
    assert model.training == FACTS
    assert not hasattr(regression, "classes_")
    assert str(model.summary()) == str(model.net.summary())
    assert repr(model) == (
        "<TableModel: classification of 'bought', 2 classes, from 3 columns that make 6 inputs>"
    )
    assert model._repr_html_().startswith("<p>classification of &#x27;bought&#x27;, 2 classes, ")
    assert model.net._repr_html_() in model._repr_html_()


def test_predictions_probabilities_and_the_score_agree(model):
    frame = table().assign(bought=TARGET)
    out = model.net.predict(model.encode(frame))
    assert np.array_equal(model.outputs(frame), out)
    predicted = model.predict(frame)
    assert predicted.tolist() == model.classes_[out.argmax(axis=1)].tolist() == TARGET
    proba = model.predict_proba(frame)
    assert proba.shape == (6, 2) and np.allclose(proba.sum(axis=1), 1)
    assert (model.classes_[proba.argmax(axis=1)] == predicted).all()
    assert model.score(frame) == model.score(table(), TARGET) == 1.0
    assert model.score(table(), ["no"] * 6) == 0.5


def test_a_regression_predicts_in_the_unit_of_its_target(regression):
    y = np.arange(6.0) * 10
    predicted = regression.predict(table())
    assert predicted.dtype == np.float64
    r2 = 1 - ((predicted - y) ** 2).mean() / y.var()
    assert regression.score(table().assign(bought=y)) == pytest.approx(r2)
    assert regression.score(table(), y) == pytest.approx(r2)
    with pytest.raises(AttributeError, match="a regression has no classes_"):
        regression.predict_proba(table())
    with pytest.raises(DataError, match="X: R2 needs at least 2 rows, got 1"):
        regression.score(table()[:1], [1.0])


def as_dict():
    return {name: list(values) for name, values in COLUMNS.items()}


def as_polars():
    polars = pytest.importorskip("polars")
    return polars.DataFrame(
        {
            "size": [1.5, -0.5, None, 0.25, 2.0, -1.0],
            "age": COLUMNS["age"],
            "colour": ["red", "blue", None, "red", "green", "blue"],
        }
    )


def as_arrow():
    return pytest.importorskip("pyarrow").table(as_polars().to_dict(as_series=False))


KINDS = {
    "a dict of lists": as_dict,
    "a dict of arrays": lambda: {name: np.array(x, object) for name, x in COLUMNS.items()},
    "a dict of None": lambda: as_dict() | {"colour": ["red", "blue", None, "red", "green", "blue"]},
    "polars": as_polars,
    "polars, categorical": lambda: as_polars().cast(
        {"colour": pytest.importorskip("polars").Categorical}
    ),
    "arrow": as_arrow,
    "other order, more columns": lambda: table()[["colour", "size", "age"]].assign(
        day=pandas.Timestamp("2026-01-01"), bought="perhaps"
    ),
    "blanks around names and text": lambda: pandas.DataFrame(
        {" size": COLUMNS["size"], "age ": COLUMNS["age"], "colour": table()["colour"] + " "}
    ),
    "categorical": lambda: table().astype({"colour": "category"}),
    "nullable": lambda: table().convert_dtypes(),
    "numbers as text": lambda: table().astype({"age": str}),
    "an index of its own": lambda: table().set_index(pandas.Index(list("abcdef"))),
    "an array": lambda: table().to_numpy(),
    "a numbered frame": lambda: pandas.DataFrame(table().to_numpy()),
    "a data set": lambda: Dataset("t", table(), None, list(COLUMNS)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_frame_is_encoded_alike(model, kind):
    frame = KINDS[kind]()
    before = copy.deepcopy(frame)
    assert np.array_equal(model.encode(frame), model.encode(table()))
    if isinstance(frame, pandas.DataFrame):
        pandas.testing.assert_frame_equal(frame, before)


def test_categories_that_are_unknown_or_missing_are_no_error(model):
    frame = pandas.DataFrame({"size": [1.0] * 3, "age": [10] * 3, "colour": ["mauve", "?", None]})
    unknown, *missing = model.encode(frame)[:, 2:]
    assert unknown.tolist() == [0, 0, 0, 0]
    for row in missing:
        assert row.tolist() == [0, 0, 1, 0]


def test_text_that_looks_like_numbers_stays_text():
    X = pandas.DataFrame({"code": ["01", "2", "01", "2"], "n": [1, 2, 3, 4]})
    data = Dataset("t", X, np.array(["a", "b", "a", "b"], object), ["code", "n"], "y", 2)
    encoder = TableEncoder.fit(data)
    model = TableModel(Sequential([Affine(3, 2)], seed=0), encoder)
    assert np.array_equal(model.encode(X), encoder.transform(data))
    assert np.array_equal(model.encode({"code": [2], "n": [2]}), encoder.transform(data, rows=[1]))


def test_arrays_are_predicted_by_place_without_a_look_at_their_names():
    iris = load("iris")
    encoder = TableEncoder.fit(iris)
    model = TableModel(Sequential([Affine(4, 3)], seed=0), encoder)
    expected = model.predict(iris)
    frame = pandas.DataFrame(iris.X, columns=iris.feature_names)
    for X in (iris.X, iris.X.tolist(), iris.X.astype(object), frame, pandas.DataFrame(iris.X)):
        assert (model.predict(X) == expected).all()
    assert model.score(iris) == model.score(iris.X, iris.y) == (expected == iris.y).mean()


def test_missing_numbers_of_an_array_become_the_mean_unless_they_are_pixels():
    iris = load("iris")
    encoder = TableEncoder.fit(iris)
    model = TableModel(Sequential([Affine(4, 3)], seed=0), encoder)
    assert model.encode([[np.nan] * 4]).tolist() == [[0] * 4]
    with pytest.raises(
        DataError, match=r"^X: column 'sepal width \(cm\)' has infinite values, in "
    ):
        model.predict([[1, np.inf, 1, 1]])
    pixels = TableModel(model.net, TableEncoder(**{**vars(encoder), "standardise": False}))
    with pytest.raises(DataError, match=r"has NaN or infinite values, in 1 of 2 rows$"):
        pixels.predict([[1, np.nan, 1, 1], [1, 1, 1, 1]])


@pytest.mark.parametrize(
    ("X", "said"),
    [
        ({"size": [1.0]}, "X: there is no column 'age', 'colour'"),
        ({"size": [1.0, 2.0], "age": [1]}, "X must be a dict of columns of one length: "),
        (
            {"size": 1.0, "age": 3, "colour": "red"},
            "X must be a dict of columns, got a single value",
        ),
        ({"size": [1.0], "age": [3], "colour": "red"}, "X must be a dict of columns, got a single"),
        (table().assign(size="tall"), "X: column 'size' has text, 'tall', among its numbers"),
        (table().assign(size=np.inf), "X: column 'size' has infinite values, in 6 of 6 rows"),
        (table().assign(size=pandas.Timestamp("2026-01-01")), "X: column 'size' holds dates or"),
        (table()[:0], "X: there are no rows of data"),
        (table()["size"], "X must be a frame with named columns, or an array with 3 columns, got"),
        (np.ones((2, 4)), "X must be a frame with named columns, or an array with 3 columns, got"),
        ("t.csv", "X must be a frame with named columns, or an array with 3 columns, got 't.csv'"),
        (None, "X must be a frame with named columns, or an array with 3 columns, got None"),
    ],
)
def test_what_is_no_fitting_frame_is_refused_in_one_line(model, X, said):
    for use in (model.predict, model.predict_proba, model.score, model.encode):
        with pytest.raises(DataError) as error:
            use(X)
        assert str(error.value).startswith(said)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("y", "said"),
    [
        (None, "X: there is no target 'bought' to score with"),
        (["yes"] * 5, r"y must have 6 values, one for each row, got shape \(5,\)"),
        (["yes"] * 5 + ["perhaps"], "X: target 'bought' has the label 'perhaps', which was not"),
        (["yes"] * 5 + [np.nan], None),
    ],
)
def test_targets_that_do_not_fit_are_refused(model, y, said):
    with pytest.raises(DataError, match=said):
        model.score(table(), y)


def test_targets_that_are_missing_in_some_rows_are_refused(model):
    frame = table().assign(bought=[*TARGET[:5], None])
    with pytest.raises(DataError, match="X: target 'bought' is missing in 1 of 6 rows"):
        model.score(frame)
    assert model.predict(frame).tolist() == TARGET  # which do not need it


# Files


def test_a_file_gives_the_same_model_back(model, regression, tmp_path):
    for own in (model, regression):
        own.save(tmp_path / "m.safetensors")
        again = fastnn.load(tmp_path / "m.safetensors")
        assert isinstance(again, TableModel)
        assert again.encoder == own.encoder
        assert again.training == FACTS
        assert np.array_equal(again.outputs(table()), own.outputs(table()))
        assert np.array_equal(Sequential.load(tmp_path / "m.safetensors").params, own.net.params)
    with pytest.raises(FileExistsError):
        model.save(tmp_path / "m.safetensors", overwrite=False)


def test_a_net_is_loaded_as_a_net(tmp_path):
    net = Sequential([Affine(2, 3)], seed=0)
    net.save(tmp_path / "net.safetensors", metadata={"unit": "kg"})
    assert np.array_equal(fastnn.load(str(tmp_path / "net.safetensors")).params, net.params)
    checkpoint = fastnn.Checkpoint(tmp_path / "c.safetensors")
    net.fit(np.eye(2), [0, 1], epochs=1, callbacks=[checkpoint])
    loaded = fastnn.load(tmp_path / "c.safetensors")
    assert isinstance(loaded, Sequential)
    assert np.array_equal(loaded.params, net.params)


def test_copies_and_pickles_predict_alike(model):
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert np.array_equal(again.outputs(table()), model.outputs(table()))


def test_files_that_are_missing_or_damaged_are_refused(model, tmp_path):
    path = tmp_path / "m.safetensors"
    with pytest.raises(FileNotFoundError):
        fastnn.load(path)
    metadata, tensors = model.pack()
    for damage in (
        {"fastnn.training": json.dumps(["rows"])},
        {"fastnn.training": json.dumps(FACTS | {"rows": "many"})},
        {"fastnn.training": json.dumps({"rows": 3})},
        {"fastnn.training": "{"},
        {"fastnn.table": "{}"},
    ):
        model.net.save(path, metadata=metadata | damage, tensors=tensors)
        with pytest.raises(ModelFileError, match=r"^path '.*m\.safetensors': .* damaged"):
            fastnn.load(path)
    Sequential([Affine(2, 2)], seed=0).save(path, metadata=metadata, tensors=tensors)
    with pytest.raises(ModelFileError, match="does not fit the network"):
        fastnn.load(path)
    path.write_bytes(b"no model")
    with pytest.raises(ModelFileError, match="is not a complete safetensors file"):
        fastnn.load(path)


def test_arguments_of_the_constructor_are_checked(model):
    with pytest.raises(ValueError, match=r"^net must be a Sequential, got 3$"):
        TableModel(3, model.encoder)
    with pytest.raises(ValueError, match=r"^encoder must be a TableEncoder, got 3$"):
        TableModel(model.net, 3)
    with pytest.raises(ValueError, match=r"^encoder: the encoding of the data does not fit"):
        TableModel(Sequential([Affine(2, 2)]), model.encoder)
    with pytest.raises(ValueError, match=r"^training cannot hold 'rows': 'many'$"):
        TableModel(model.net, model.encoder, {"rows": "many"})
    with pytest.raises(
        ValueError, match=r"^training must hold data, rows, epochs, got {'rows': 3}"
    ):
        TableModel(model.net, model.encoder, {"rows": 3})
    with pytest.raises(ValueError, match=r"^training cannot hold 'test_score': -inf$"):
        TableModel(model.net, model.encoder, FACTS | {"test_score": -np.inf})
    with pytest.raises(ValueError, match=r"^training must be a dict, got 3$"):
        TableModel(model.net, model.encoder, 3)
