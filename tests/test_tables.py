"""Tables become arrays and outputs become labels, the same after saving as before."""

import json

import numpy as np
import pytest

from fastnn import errors
from fastnn.data.dataset import guess_task
from fastnn.data.table_encoder import TableEncoder
from fastnn.datasets import Dataset, load

sklearn = pytest.importorskip("sklearn")
pandas = pytest.importorskip("pandas")

nan = float("nan")


def dataset(y, **columns):
    """Return a data set as `load` makes it of a table with a header."""
    y = np.asarray(y, dtype=None if not isinstance(y[0], str) else object)
    frame = pandas.DataFrame(
        {
            name: pandas.Series(values, dtype=object if "text" in name else float)
            for name, values in columns.items()
        }
    )
    return Dataset(
        name="some", X=frame, y=y, feature_names=list(columns), target_name="y",
        target_index=len(columns),
    )  # fmt: skip


@pytest.fixture
def mixed():
    """Return 6 rows with numbers, text and missing values in both."""
    return dataset(
        ["no", "yes", "no", "yes", "no", "yes"],
        a=[1, 2, 3, nan, 5, 6],
        text=["u", "v", nan, "u", "v", "u"],
        b=[10, 20, 30, 40, 50, 60],
    )


# The task


@pytest.mark.parametrize(
    ("y", "task"),
    [
        (["a", "b", "c"], "classification"),
        ([True, False], "classification"),
        ([0, 1] * 5, "classification"),
        ([0.0, 1.0] * 5, "classification"),
        ([0.0, 1.5] * 5, "regression"),
        ([0, 1] * 4, "regression"),
        (list(range(30)) * 5, "classification"),
        (list(range(31)) * 50, "regression"),
        (list(range(20)) * 2, "regression"),
        ([0.0, 1.0, nan] * 5, "classification"),
    ],
)
def test_the_task_is_guessed_from_the_target(y, task):
    y = np.array(y, dtype=object if isinstance(y[0], str) else None)
    assert guess_task(y) == task


def test_a_task_can_be_forced():
    data = dataset([0.0, 1, 2, 3] * 5, a=np.arange(20.0))
    assert TableEncoder.fit(data).task == "classification"
    assert TableEncoder.fit(data, task="regression").classes == []
    data = dataset(np.arange(20.0) // 2 * 10, a=np.arange(20.0))
    assert TableEncoder.fit(data).task == "regression"
    assert TableEncoder.fit(data, task="classification").classes[:3] == [0, 10, 20]


# Features


def test_numbers_are_standardised_and_missing_ones_become_the_mean(mixed):
    X = TableEncoder.fit(mixed).transform(mixed, dtype="float64")
    known = mixed.X["a"].dropna()
    assert X.dtype == np.float64
    np.testing.assert_allclose(X[:3, 0], (known[:3] - known.mean()) / known.std(ddof=0))
    assert X[3, 0] == 0
    np.testing.assert_allclose([X[:, 1].mean(), X[:, 1].std()], [0, 1], atol=1e-15)


def test_text_is_one_hot_encoded_and_a_missing_value_is_a_category(mixed):
    encoder = TableEncoder.fit(mixed)
    assert encoder.categories == {"text": ["missing", "u", "v"]}
    assert encoder.n_inputs == 5
    one_hot = encoder.transform(mixed)[:, 2:].astype(int)
    assert " ".join("".join(map(str, row)) for row in one_hot) == "010 001 100 010 001 010"


def test_a_category_unseen_at_training_sets_no_input(mixed):
    encoder = TableEncoder.fit(mixed)
    new = dataset(["no"], a=[1], text=["w"], b=[2])
    assert encoder.transform(new)[0, 2:].tolist() == [0, 0, 0]


def test_means_scales_and_categories_come_from_the_training_rows_only(mixed):
    encoder = TableEncoder.fit(mixed, rows=np.array([0, 1]))
    assert encoder.categories == {"text": ["u", "v"]}
    X = encoder.transform(mixed, rows=np.array([1, 0]))
    assert X[:, :2].tolist() == [[1, 1], [-1, -1]]


def test_a_number_missing_in_all_training_rows_is_left_at_zero(mixed):
    encoder = TableEncoder.fit(mixed, rows=np.array([3, 3]))
    X = encoder.transform(mixed)
    assert np.isfinite(X).all()
    assert X[3, 0] == 0


def test_a_table_of_text_only_is_encoded():
    data = dataset(["p", "q"] * 3, text=["u", "v"] * 3, text2=["1", "2", "3"] * 2)
    encoder = TableEncoder.fit(data)
    assert encoder.transform(data).shape == (6, 5)
    again = TableEncoder.unpack(*encoder.pack())
    assert np.array_equal(again.transform(data), encoder.transform(data))


def test_images_are_left_as_they_are(rng):
    X = rng.random((10, 4), dtype=np.float32)
    data = Dataset("images", X, np.arange(10) % 2, list("abcd"), "label", 4, False, False)
    encoder = TableEncoder.fit(data)
    assert np.array_equal(encoder.transform(data), X)
    again = TableEncoder.unpack(*encoder.pack())
    assert np.array_equal(again.transform(data), X)


def test_a_numeric_column_with_one_value_is_no_error():
    data = dataset(["p", "q"] * 3, a=[7] * 6, b=range(6))
    assert TableEncoder.fit(data).transform(data)[:, 0].tolist() == [0] * 6


def test_the_result_equals_a_column_transformer_made_by_hand(mixed):
    from sklearn.compose import make_column_transformer
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    rows = np.array([0, 1, 4, 5])  # nothing is missing in them
    by_hand = make_column_transformer(
        (StandardScaler(), ["a", "b"]), (OneHotEncoder(sparse_output=False), ["text"])
    ).fit_transform(mixed.X.iloc[rows])
    X = TableEncoder.fit(mixed, rows=rows).transform(mixed, rows=rows, dtype="float64")
    np.testing.assert_array_equal(X, by_hand)


# Features that are refused


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"text": ["u"] * 4}, "some: column 'text' has only one value, 'u': drop the column"),
        ({"text": [nan] * 4}, "some: column 'text' has no values: drop the column"),
        ({"a": [nan] * 4}, "some: column 'a' has no values: drop the column"),
    ],
)
def test_a_column_that_teaches_nothing_is_named(columns, said):
    with pytest.raises(errors.DataError) as caught:
        TableEncoder.fit(dataset(["p", "q", "p", "q"], b=range(4), **columns))
    assert str(caught.value) == said


def test_a_text_column_with_too_many_values_is_named_with_what_makes_it_text():
    values = [str(i) for i in range(1000)] + [f"no {i}" for i in range(500)]
    with pytest.raises(errors.DataError, match=r"'text' is text with 1500 .* such as 'no 0', at"):
        TableEncoder.fit(dataset(np.arange(1500) % 2, text=values))


def test_a_mistyped_number_is_named():
    values = [str(i) for i in range(19)]
    for odd in (["1O"], ["1O", nan, nan]):
        data = dataset(np.arange(19 + len(odd)) % 2, text=[*values, *odd])
        with pytest.raises(errors.DataError) as caught:
            TableEncoder.fit(data)
        assert str(caught.value) == (
            "some: column 'text' has text, '1O', among its numbers: correct it, or drop the column"
        )


@pytest.mark.parametrize(
    "values",
    [
        [*"123456789", *"123456789", "x"],  # few enough values to be categories
        [*map(str, range(17)), "x", "y"],  # too many that are no numbers
        [f"{i:02}" for i in range(19)],  # text on purpose
    ],
    ids=["few", "mixed", "codes"],
)
def test_text_with_numbers_in_it_may_be_meant_as_text(values):
    if values[-1] == "x":
        values = [value.replace("9", "8") for value in values]
    encoder = TableEncoder.fit(dataset(np.arange(19) % 2, text=values))
    assert encoder.categories["text"] == sorted(set(values))


def test_a_missing_column_is_named(mixed):
    encoder = TableEncoder.fit(mixed)
    with pytest.raises(errors.DataError, match="there is no column 'text'"):
        encoder.transform(dataset(["no"], a=[1], b=[2]))
    with pytest.raises(errors.DataError, match="no column 'a', 'text', 'b'"):
        encoder.transform(dataset(["no"], c=[1]))


def test_text_in_a_column_of_numbers_is_named(mixed):
    encoder = TableEncoder.fit(mixed)
    new = dataset(["no", "no"], a=[1, 2], text=["u", "v"], b=[1, 2])
    new.X["a"] = pandas.Series([nan, "many"], dtype=object)
    with pytest.raises(errors.DataError, match="column 'a' has text, 'many', among its numbers"):
        encoder.transform(new)
    new.X["a"] = pandas.Series([nan, nan], dtype=object)
    assert encoder.transform(new)[:, 0].tolist() == [0, 0]


def test_numbers_in_a_column_of_text_are_taken_as_text():
    encoder = TableEncoder.fit(dataset(["p", "q"] * 2, text=["1", "2", "x", "2.5"]))
    for values, expected in [([1, 2], [1, 1]), ([1.0, nan], [1, 0]), ([2.5, 9.0], [1, 0])]:
        data = Dataset("n", pandas.DataFrame({"text": values}), None, ["text"])
        assert encoder.transform(data).sum(axis=1).tolist() == expected


def test_numbers_beyond_float32_are_refused():
    data = dataset(["p", "q"] * 2, a=[0, 1, 2, 3])
    encoder = TableEncoder.fit(data)
    data.X["a"] = [0, 1, 2, 1e300]
    with pytest.raises(errors.DataError, match="too large for float32"):
        encoder.transform(data)
    assert encoder.transform(data, dtype="float64")[3, 0] > 1e299


# Finding columns by name or position


def table(columns, values, has_header, y=None):
    return Dataset("new", pandas.DataFrame(values, columns=columns), y, columns,
                   has_header=has_header)  # fmt: skip


@pytest.fixture
def numbers():
    """Return an encoder of two features, a and c, with the target y between them."""
    X = pandas.DataFrame({"a": [1.0, 2, 3, 4], "c": [10.0, 20, 30, 40]})
    data = Dataset("t", X, np.array(["p", "q"] * 2, dtype=object), ["a", "c"], "y", 1)
    return TableEncoder.fit(data)


def test_columns_are_found_by_name_in_any_order(numbers):
    shuffled = table(list("zcya"), [["z", 10.0, "q", 1.0]], True)
    straight = table(list("ac"), [[1.0, 10.0]], True)
    assert np.array_equal(numbers.transform(shuffled), numbers.transform(straight))
    assert numbers.encode_target(shuffled).tolist() == [1]
    assert numbers.encode_target(straight) is None


def test_columns_are_found_by_position_where_a_header_is_missing(numbers):
    expected = numbers.transform(table(list("ac"), [[1.0, 10.0]], True))
    with_target = table(["column_0", "column_1", "column_2"], [[1.0, "q", 10.0]], False)
    without = table(["column_0", "column_1"], [[1.0, 10.0]], False)
    for new in (with_target, without):
        assert np.array_equal(numbers.transform(new), expected)
    assert numbers.encode_target(with_target).tolist() == [1]
    assert numbers.encode_target(without) is None
    array = Dataset("new", np.array([[1.0, 10.0]]), np.array(["p"]), ["x", "y"], has_header=False)
    assert np.array_equal(numbers.transform(array), expected)
    assert numbers.encode_target(array).tolist() == [0]
    with pytest.raises(errors.DataError, match="there are 4 columns, but 2 features are needed"):
        numbers.transform(table(list("0123"), [[1.0, 2, 3, 4]], False))


@pytest.mark.parametrize("target", [0, 1, 3])
def test_a_table_without_a_header_is_found_again_with_or_without_its_target(tmp_path, rng, target):
    path = tmp_path / "t.csv"
    rows = rng.random((20, 4)).round(3)
    rows[:, target] = np.arange(20) % 2
    np.savetxt(path, rows, delimiter=",")
    data = load(path, target=target)
    assert not data.has_header
    encoder = TableEncoder.fit(data)
    whole = load(path, target=None)
    assert np.array_equal(encoder.transform(whole), encoder.transform(data))
    assert encoder.encode_target(whole).tolist() == encoder.encode_target(data).tolist()
    np.savetxt(path, np.delete(rows, target, axis=1), delimiter=",")
    features = load(path, target=None)
    assert np.array_equal(encoder.transform(features), encoder.transform(data))
    assert encoder.encode_target(features) is None


# The target


def test_labels_are_encoded_in_sorted_order_and_decoded(mixed):
    encoder = TableEncoder.fit(mixed)
    assert encoder.classes == ["no", "yes"]
    assert encoder.n_outputs == 2
    assert encoder.encode_target(mixed).tolist() == [0, 1, 0, 1, 0, 1]
    assert encoder.encode_target(mixed, rows=np.array([1, 2])).tolist() == [1, 0]
    assert encoder.decode(np.array([[0.0, 1.0], [3.0, -1.0]])).tolist() == ["yes", "no"]


def test_all_labels_of_the_data_have_an_output_even_outside_the_training_rows(mixed):
    assert TableEncoder.fit(mixed, rows=np.array([0, 2])).classes == ["no", "yes"]


def test_whole_numbers_are_labels_whatever_their_type():
    data = dataset([3.0, 7.0] * 5, a=range(10))
    encoder = TableEncoder.fit(data)
    assert encoder.classes == [3, 7]
    assert encoder.decode(np.eye(2)).tolist() == [3, 7]
    assert encoder.encode_target(dataset([7, 3], a=[0, 1])).tolist() == [1, 0]


def test_labels_that_were_text_are_recognised_as_numbers():
    encoder = TableEncoder.fit(dataset(["1", "2", "x"] * 2, a=range(6)))
    assert encoder.encode_target(dataset([2, 1], a=[0, 1])).tolist() == [1, 0]


def test_the_target_of_a_regression_is_standardised_over_the_training_rows():
    data = dataset([1.0, 3.0, 100.5, 2.25], a=range(4))
    encoder = TableEncoder.fit(data, rows=np.array([0, 1]))
    assert encoder.encode_target(data)[:2].tolist() == [-1, 1]
    assert encoder.n_outputs == 1
    out = np.array([[-1.0], [0.5]], dtype=np.float32)
    assert encoder.decode(out).tolist() == [1, 2.5]


@pytest.mark.parametrize(
    ("y", "task", "said"),
    [
        (["p"] * 4, None, "target 'y' has only one value, p"),
        ([1.5] * 4, None, "target 'y' has only one value, 1.5"),
        ([0, 1, nan, nan], None, "target 'y' is missing in 2 of 4 rows: remove these rows"),
        (["p", nan, "q", "p"], None, "target 'y' is missing in 1 of 4 rows"),
        (["p", "q", "r", "p"], None, "target 'y' has 3 different labels in 4 rows: too many"),
        (["p", "q"] * 2, "regression", "target 'y' is text, 'p', but a regression needs numbers"),
        ([0, 1.5, 0, 1.5], "classification", "target 'y' has the value 1.5, but a classification"),
    ],
)
def test_a_target_that_cannot_be_learnt_is_refused(y, task, said):
    with pytest.raises(errors.DataError) as caught:
        TableEncoder.fit(dataset(y, a=range(4)), task=task)
    assert str(caught.value).startswith(f"some: {said}")


def test_a_label_unseen_at_training_is_named(mixed):
    encoder = TableEncoder.fit(mixed)
    new = dataset(["no", "maybe"], a=[1, 1], text=["u", "u"], b=[1, 1])
    with pytest.raises(errors.DataError, match=r"label 'maybe', which was not .* \(no, yes\)"):
        encoder.encode_target(new)


def test_unseen_labels_may_be_known_ones_with_a_full_stop(mixed):
    encoder = TableEncoder.fit(mixed)
    columns = {"a": [1, 1, 1], "text": ["u"] * 3, "b": [1, 1, 1]}
    assert encoder.encode_target(dataset(["no.", "yes.", "no"], **columns)).tolist() == [0, 1, 0]
    for odd in ("maybe.", "no..", "."):
        with pytest.raises(errors.DataError, match="which was not there at training"):
            encoder.encode_target(dataset(["no.", odd, "yes"], **columns))


def test_a_known_label_with_a_full_stop_stays_what_it_is():
    data = dataset(["no", "no.", "yes"] * 2, a=range(6))
    encoder = TableEncoder.fit(data)
    assert encoder.encode_target(data).tolist() == [0, 1, 2] * 2


def test_a_target_that_is_blank_in_all_rows_counts_as_none(mixed):
    new = dataset([nan, nan], a=[1, 1], text=["u", "u"], b=[1, 1])
    assert TableEncoder.fit(mixed).encode_target(new) is None


def test_data_without_a_target_cannot_be_fitted(rng):
    with pytest.raises(errors.DataError, match="there is no target"):
        TableEncoder.fit(Dataset("x", rng.random((3, 2)), None, ["a", "b"]))


# Storage


@pytest.mark.parametrize("name", ["digits", "iris", "diabetes"])
def test_an_unpacked_encoder_does_exactly_what_the_packed_one_did(name):
    data = load(name)
    encoder = TableEncoder.fit(data, rows=np.arange(0, len(data), 2))
    metadata, tensors = encoder.pack()
    assert all(isinstance(text, str) for text in metadata.values())
    again = TableEncoder.unpack(metadata, tensors)
    assert again == encoder
    assert np.array_equal(again.transform(data), encoder.transform(data))
    assert np.array_equal(again.encode_target(data), encoder.encode_target(data))


def test_an_unpacked_encoder_handles_text_and_missing_values_as_before(mixed):
    encoder = TableEncoder.fit(mixed)
    again = TableEncoder.unpack(*encoder.pack())
    assert np.array_equal(again.transform(mixed), encoder.transform(mixed))
    new = dataset(["no"], a=[nan], text=["w"], b=[nan])
    assert again.transform(new).tolist() == [[0] * 5]


def test_what_is_packed_is_json_and_numbers(mixed):
    metadata, tensors = TableEncoder.fit(mixed).pack()
    facts = json.loads(metadata["fastnn.table"])
    assert facts["categories"] == {"text": ["missing", "u", "v"]}
    assert {name: tensor.dtype for name, tensor in tensors.items()} == {
        "table.mean": np.float64,
        "table.scale": np.float64,
    }


def test_a_model_without_an_encoder_is_refused():
    with pytest.raises(errors.ModelFileError, match="without the encoding of its data"):
        TableEncoder.unpack({}, {})


@pytest.mark.parametrize(
    "damage",
    [
        lambda facts, tensors: facts.clear(),
        lambda facts, tensors: facts.update(surprise=1),
        lambda facts, tensors: facts.update(categories={"text": []}),
        lambda facts, tensors: facts.update(categories=3),
        lambda facts, tensors: tensors.clear(),
        lambda facts, tensors: tensors.update({"table.mean": np.zeros(7)}),
    ],
)
def test_a_damaged_encoder_is_refused(mixed, damage):
    metadata, tensors = TableEncoder.fit(mixed).pack()
    facts = json.loads(metadata["fastnn.table"])
    damage(facts, tensors)
    with pytest.raises(errors.ModelFileError, match="encoding of the data in the model is damaged"):
        TableEncoder.unpack({"fastnn.table": json.dumps(facts)}, tensors)


def test_json_that_does_not_parse_is_refused():
    with pytest.raises(errors.ModelFileError, match="damaged"):
        TableEncoder.unpack({"fastnn.table": "{"}, {})
