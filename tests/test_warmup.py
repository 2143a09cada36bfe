"""`fastnn.warmup`: what it compiles, in processes of its own, and what it says meanwhile."""

import os
import subprocess
import sys

import pytest

import fastnn
from fastnn.engine import common_kernels

SCRIPT = """
import pathlib, sys
import numpy as np, scipy.sparse
import fastnn
from fastnn import Affine, ReLU, Sequential, matmul

def files():
    return sorted(path.name for path in pathlib.Path(sys.argv[1]).rglob("*.nbc"))

heard = []
fastnn.warmup("float32", progress=lambda *news: heard.append(news))
before = files()
X, y = np.ones((8, 3), np.float32), np.arange(8) % 2
for x in (X, scipy.sparse.csr_matrix(X)):
    for loss, target in (("softmax_cross_entropy", y), ("mse", X[:, :2])):
        net = Sequential([Affine(3, 5), ReLU(), Affine(5, 2)], seed=0)
        net.fit(x, target, loss=loss, epochs=2, batch_size=4, validation_data=(x, target))
        for rows in (x[:1], x):
            net.predict(rows)
net.freeze().predict(X[:1])
matmul(X.T, X)
assert before and files() == before, set(files()) - set(before)
assert [news[0] for news in heard] == list(range(len(heard))), heard
assert heard[-1][0] == heard[-1][1] == len(heard) - 1, heard
"""


def test_common_nets_find_all_their_kernels_on_disk(tmp_path):
    environment = dict(os.environ, NUMBA_CACHE_DIR=str(tmp_path))
    command = [sys.executable, "-W", "error", "-c", SCRIPT, str(tmp_path)]
    subprocess.run(command, check=True, env=environment, timeout=600)


def test_where_no_process_can_be_started_kernels_are_compiled_here(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    heard = []
    assert list(fastnn.warmup(["float32"], progress=lambda *news: heard.append(news))) == [
        "float32"
    ]
    assert [news[0] for news in heard] == [0]


def test_a_process_that_fails_is_given_up(monkeypatch):
    monkeypatch.setattr(common_kernels, "_SCRIPT", "import sys; sys.stdin.readline(); sys.exit(3)")
    heard = []
    common_kernels.compile_in_processes(["float32"], lambda *news: heard.append(news))
    assert [news[0] for news in heard] == [0]


def test_progress_must_be_a_function():
    with pytest.raises(ValueError, match="progress must be a function, got 3"):
        fastnn.warmup(progress=3)
