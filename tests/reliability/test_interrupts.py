"""Ctrl-C during a training: it ends soon, with the parameters of the last finished batch."""

import os
import random
import signal
import threading
import time

import numpy as np
import pytest

from fastnn import Affine, Callback, Dropout, MLPClassifier, ReLU, Sequential
from fastnn.training import Trainer


@pytest.fixture(name="data", scope="module")
def fixture_data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(40_000, 20)).astype(np.float32), rng.integers(0, 5, 40_000)


@pytest.fixture(autouse=True)
def _ctrl_c_raises():
    """A process that runs tests in parallel may have been told to ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Watch(Callback):
    """Interrupts a training some seconds after it began; keeps what there is to see of it."""

    def __init__(self, seconds):
        self._seconds = seconds
        self.ends = 0
        self.began = threading.Event()

    def attach(self, run):
        self.trainer = run.trainer

    def on_fit_begin(self, net, info):
        self._timer = threading.Timer(self._seconds, self._interrupt)
        self._timer.start()

    def _interrupt(self):
        self.sent_at = time.perf_counter()
        os.kill(os.getpid(), signal.SIGINT)

    def on_fit_end(self, history):
        self.ends += 1
        self._timer.cancel()


def make_net():
    layers = [Affine(20, 64), ReLU(), Dropout(0.2), Affine(64, 64), ReLU(), Affine(64, 5)]
    return Sequential(layers, seed=3)


BATCH = 32


def compile_kernels(data):
    X, y = data
    make_net().fit(X[: 10 * BATCH], y[: 10 * BATCH], epochs=1, batch_size=BATCH)


def interrupt(data, seconds):
    """Interrupt a training; return its net, what was seen, and the seconds until it ended."""
    net, watch = make_net(), Watch(seconds)
    with pytest.raises(KeyboardInterrupt):
        net.fit(*data, epochs=1000, batch_size=BATCH, callbacks=[watch])
    return net, watch, time.perf_counter() - watch.sent_at


def check_consistency(net, watch, data):
    """Train again for as many batches as the interrupted training says it did."""
    n = len(data[0])
    done = watch.trainer.step_count
    epochs = len(net.history)
    batches = -(-n // BATCH)
    # It may come behind the last batch of an epoch and before the history knows.
    assert 0 <= done - epochs * batches <= batches, "the history is of another training"
    again = make_net()
    trainer = Trainer(again, "softmax_cross_entropy", "adam", BATCH)
    trainer.set_data(*data)
    for epoch in range(epochs + 1):
        order = again._rng.permutation(n)
        if epoch == epochs:
            order = order[: (done - epochs * batches) * BATCH]
        if len(order):
            trainer.run_epoch(order)
    trainer.sync()
    np.testing.assert_array_equal(net.params, again.params)
    assert watch.ends == 1
    assert np.isfinite(net.predict(data[0][:10])).all()


def test_ctrl_c_leaves_the_parameters_of_the_last_batch_and_the_history(data):
    compile_kernels(data)
    for seconds in (0.01, 0.05, 0.3):
        net, watch, _ = interrupt(data, seconds)
        check_consistency(net, watch, data)


@pytest.mark.slow
def test_ctrl_c_takes_effect_within_half_a_second(data):
    compile_kernels(data)
    chance, delays = random.Random(0), []
    for _ in range(100):
        net, watch, delay = interrupt(data, chance.uniform(0.01, 0.5))
        check_consistency(net, watch, data)
        delays.append(delay)
    print(
        f"100 interrupts took effect after {np.median(delays):.3f} s, at most {max(delays):.3f} s"
    )
    assert np.median(delays) < 0.5


def test_an_interrupted_net_can_be_trained_on(data):
    net, _, _ = interrupt(data, 0.05)
    before = net.params.copy()
    history = net.fit(*data, epochs=1)
    assert (net.params != before).any()
    assert net.history is history
    assert len(history) == 1


def test_an_interrupted_estimator_keeps_what_it_has_learned(data):
    X, y = data
    model = MLPClassifier(hidden_layer_sizes=(64,), max_iter=1000, random_state=0)
    model.partial_fit(X[:100], y[:100], classes=np.arange(5))  # compiles
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.warns(UserWarning, match=r"Training interrupted by user\."):
        model.fit(X, y)
    assert model.loss_curve_ == [] or np.isfinite(model.loss_curve_).all()
    assert model.predict(X[:10]).shape == (10,)
    steps = model._trainer.step_count
    assert steps > 0
    model.partial_fit(X[:200], y[:200])
    assert model._trainer.step_count == steps + 1


def test_an_error_in_a_callback_reaches_the_caller_and_leaves_a_usable_net(data):
    class Broken(Callback):
        def on_progress(self, epoch, samples_done, mean_loss):
            raise ZeroDivisionError

    net = make_net()
    before = net.params.copy()
    with pytest.raises(ZeroDivisionError):
        net.fit(*data, epochs=3, callbacks=[Broken()])
    assert (net.params != before).any()
    assert np.isfinite(net.params).all()
    assert len(net.history) == 0
