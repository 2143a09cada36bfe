"""Real data for the contest of accuracy, read and scaled the way `fastnn.datasets` does it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from contest.cells import Cell

_TEST_SHARE = 0.2


@dataclass(frozen=True)
class Goal:
    """What is to be learnt, and how well.

    Parameters
    ----------
    title, source : str
        The data's name, and its place in the folder of data.
    hidden : tuple of int
        Widths of the hidden layers.
    batch : int
    task : str
    score : float
        Accuracy on the test set, or R2.
    target : str, optional
        Column of a table.
    """

    title: str
    source: str
    hidden: tuple
    batch: int
    task: str
    score: float
    target: str = None

    @property
    def score_name(self):
        """What is counted."""
        return "R2" if self.task == "regression" else "accuracy"

    def rate(self, predicted, expected):
        """Return the accuracy or R2 of predictions."""
        if self.task == "classification":
            return float(np.mean(predicted == expected))
        error = np.sum((predicted.astype(np.float64) - expected) ** 2)
        return float(1 - error / np.sum((expected - expected.mean(axis=0)) ** 2))


GOALS = (
    Goal("MNIST", "mnist", (128,), 128, "classification", 0.975),
    Goal(
        "California housing",
        "tabular/california_housing.csv",
        (128, 64),
        32,
        "regression",
        0.78,
        target="median_house_value",
    ),
)


def read(goal, folder):
    """Return the cell and X, y, X_test, y_test of a goal, in float32."""
    from fastnn.data.table_encoder import TableEncoder
    from fastnn.datasets import load

    data = load(Path(folder, goal.source), target=goal.target)
    if data.test is not None:
        train, test = (data.X, data.y), (data.test.X, data.test.y)
        arrays = [np.ascontiguousarray(a) for a in (*train, *test)]
    else:
        order = np.random.default_rng(0).permutation(len(data))
        n_test = round(_TEST_SHARE * len(data))
        rows, test_rows = order[n_test:], order[:n_test]
        encoder = TableEncoder.fit(data, rows=rows, task=goal.task)
        arrays = []
        for part in (rows, test_rows):
            arrays += [encoder.transform(data, rows=part), encoder.encode_target(data, rows=part)]
    X, y, X_test, y_test = arrays
    if goal.task == "regression":
        y, y_test = (a.reshape(len(a), -1).astype(np.float32) for a in (y, y_test))
        n_outputs = y.shape[1]
    else:
        n_outputs = int(y.max()) + 1
    cell = Cell((X.shape[1], *goal.hidden, n_outputs), goal.batch, task=goal.task)
    return cell, X, y, X_test, y_test
