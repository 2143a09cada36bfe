"""Figures against the epoch."""

import numpy as np
import pytest

from fastnn import Affine, Sequential
from fastnn.inspection import plot_history


def test_the_history_of_a_fit_is_drawn_with_its_validation(ax, rng):
    X, y = rng.normal(size=(30, 4)), rng.integers(0, 3, 30)
    net = Sequential([Affine(4, 3)], seed=0)
    history = net.fit(X, y, epochs=5, validation_data=(X, y))
    drawn = plot_history(history, ax)
    assert list(drawn) == ["loss", "val_loss"]
    assert [line.get_ydata().tolist() for line in ax.lines] == [
        history["loss"],
        history["val_loss"],
    ]
    assert ax.lines[0].get_xdata().tolist() == [1, 2, 3, 4, 5]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["training", "validation"]
    assert ax.get_ylim()[0] == 0


def test_the_best_epoch_of_a_score_is_marked(ax):
    drawn = plot_history({"val_r2": [0.5, 0.75, 0.7]}, ax, figure="val_r2")
    assert drawn["val_r2"].tolist() == [0.5, 0.75, 0.7]
    assert [text.get_text() for text in ax.texts] == ["best 0.7500 in epoch 2"]
    assert ax.get_ylabel() == "validation R²"


@pytest.mark.parametrize("figure", ["loss", "val_accuracy"])
def test_a_fit_that_diverged_can_be_drawn(ax, figure):
    plot_history({figure: [np.nan]}, ax, figure=figure)
    assert len(ax.texts) == 0  # no epoch is the best


def test_a_loss_may_be_negative(ax):
    plot_history({"loss": [-1.0, -2.0]}, ax)
    assert ax.get_ylim()[0] < -2


@pytest.mark.parametrize("history", [{"loss": [1.0], "seconds": [0.1]}, None])
def test_an_unknown_figure_is_named(ax, history):
    known = "'loss', 'seconds'" if history else "none"
    with pytest.raises(ValueError, match=f"figure must be one of the history's, {known}, got 'f1'"):
        plot_history(history, ax, figure="f1")
