"""The table of a net's layers, as text and as HTML."""

from fastnn import (
    Activation,
    Affine,
    BatchNorm,
    Dropout,
    LeakyReLU,
    ReLU,
    Residual,
    Sequential,
    Softmax,
)


def deep_net():
    block = Residual([Affine(4, 4, bias=False), BatchNorm(4), ReLU(), Dropout(0.2)])
    layers = [Affine(3, 4), LeakyReLU(0.2), block, ReLU(), Softmax(), Affine(4, 2)]
    return Sequential(layers, seed=0, dtype="float64")


def test_each_layer_has_its_place_its_shape_and_its_parameters():
    summary = deep_net().summary()
    assert [row.place for row in summary.rows] == ["0", "2", "2.0", "2.1", "2.3", "4", "5"]
    assert [row.layer for row in summary.rows] == [
        *("Affine", "Residual", "Affine, no bias", "BatchNorm", "Dropout(rate=0.2)", "", "Affine")
    ]
    assert [row.activation for row in summary.rows] == [
        *("LeakyReLU(negative_slope=0.2)", "ReLU", "", "ReLU", "", "Softmax", "")
    ]
    assert [(row.n_inputs, row.n_outputs) for row in summary.rows] == [
        *((3, 4), (4, 4), (4, 4), (4, 4), (4, 4), (4, 4), (4, 2))
    ]
    assert [row.n_params for row in summary.rows] == [16, 0, 16, 8, 0, 0, 10]


def test_the_sums_are_those_of_the_net():
    net = deep_net()
    summary = net.summary()
    assert summary.n_params == net.n_params
    assert summary.n_buffers == 8
    assert (summary.n_inputs, summary.n_outputs) == (net.n_inputs, net.n_outputs)
    assert summary.n_bytes == 8 * (net.n_params + 8)
    assert str(summary).endswith("50 parameters and 8 running statistics of float64, 464 bytes")


def test_the_text_has_a_line_for_each_row_and_columns_that_line_up():
    head, *lines, total = str(
        Sequential([Affine(1000, 900), ReLU(), Affine(900, 1)]).summary()
    ).splitlines()
    assert lines[0].index("(N, 1000)") == lines[1].index("(N, 900)") == head.index("shape")
    assert lines[0].index("900,900") + 7 == lines[1].index("901") + 3
    assert total == "901,801 parameters of float32, 3.44 MiB"


def test_notebooks_get_a_table_without_anything_that_could_be_markup():
    def f(z):
        return z

    f.__name__ = "<b>f</b>"
    net = Sequential([Affine(2, 2), Activation(f, f)], seed=0)
    text = net._repr_html_()
    assert "Activation(&lt;b&gt;f&lt;/b&gt;" in text
    assert "<b>" not in text
    assert text.count("<tr>") == 2
    assert text == net.summary()._repr_html_() == net.freeze()._repr_html_()
