"""Schedules of the learning rate: closed forms, PyTorch's, and what training does with them."""

import math

import numpy as np
import pytest

from fastnn import SGD, AdamW, Affine, Sequential, schedules
from fastnn.schedules import (
    Constant,
    Cosine,
    Exponential,
    InverseScaling,
    Linear,
    OneCycle,
    StepDecay,
)
from fastnn.training import Trainer

ALL = [kind() for kind in schedules.BY_NAME.values()]


def factors(schedule, epochs):
    return [schedule(epoch, epochs) for epoch in range(epochs)]


def test_schedules_are_found_by_name():
    for name, kind in schedules.BY_NAME.items():
        assert schedules.get(name) == kind()
    mine = Cosine(warmup=3)
    assert schedules.get(mine) is mine


@pytest.mark.parametrize("value", ["Cosine", "", None, 1, Cosine, ["step"]], ids=repr)
def test_an_unknown_schedule_is_named(value):
    message = (
        "^schedule must be one of 'constant', 'linear', 'step', 'exponential', 'cosine', "
        r"'one_cycle', 'inverse_scaling' or a function \(epoch, epochs\), got "
    )
    with pytest.raises(ValueError, match=message):
        schedules.get(value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StepDecay(0), "every must be None or a finite number > 0, got 0"),
        (lambda: StepDecay("2"), "every must be None or a finite number > 0, got '2'"),
        (lambda: StepDecay(2, -1), "factor must be a finite number >= 0, got -1"),
        (lambda: Exponential(math.nan), "factor must be a finite number >= 0, got nan"),
        (lambda: Cosine(-1), "warmup must be a finite number >= 0, got -1"),
        (lambda: Cosine(end=-1), "end must be a finite number >= 0, got -1"),
        (lambda: OneCycle(1.5), r"peak_at must be a number in \[0, 1\], got 1.5"),
        (lambda: OneCycle(start=-1), "start must be a finite number >= 0, got -1"),
        (lambda: OneCycle(end=None), "end must be a finite number >= 0, got None"),
        (lambda: InverseScaling(-1), "power must be a finite number >= 0, got -1"),
    ],
)
def test_numbers_out_of_range_are_named(make, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        make()


def test_factors_by_hand():
    assert factors(Constant(), 3) == [1, 1, 1]
    assert factors(Linear(), 4) == [1, 0.75, 0.5, 0.25]
    assert factors(StepDecay(2, 0.5), 5) == [1, 1, 0.5, 0.5, 0.25]
    assert factors(StepDecay(factor=0.5), 6) == [1, 1, 0.5, 0.5, 0.25, 0.25]
    assert factors(Exponential(0.5), 3) == [1, 0.5, 0.25]
    assert factors(Cosine(), 3) == pytest.approx([1, 0.75, 0.25])
    assert factors(Cosine(end=0.2), 2) == pytest.approx([1, 0.6])
    assert factors(Cosine(warmup=3), 5) == pytest.approx([0.25, 0.5, 0.75, 1, 0.5])
    assert factors(OneCycle(0.5, 0, 0), 4) == pytest.approx([0, 0.5, 1, 0.5])
    assert factors(InverseScaling(2), 3) == pytest.approx([1, 1 / 4, 1 / 9])


def test_one_cycle_may_only_rise_or_only_fall():
    assert factors(OneCycle(0, end=0), 2) == pytest.approx([1, 0.5])
    assert factors(OneCycle(1, start=0), 2) == pytest.approx([0, 0.5])
    assert OneCycle(1)(5, 5) == 1


def test_both_ends_are_where_they_should_be():
    for epochs in (1, 3, 20):
        assert Cosine(end=0.1)(epochs, epochs) == pytest.approx(0.1)
        assert OneCycle()(0, epochs) == pytest.approx(1 / 25)
        assert OneCycle()(0.3 * epochs, epochs) == pytest.approx(1)
        assert OneCycle()(epochs, epochs) == pytest.approx(1e-4)


def test_a_warm_up_may_last_as_long_as_the_training():
    assert factors(Cosine(warmup=3), 3) == pytest.approx([0.25, 0.5, 0.75])
    assert factors(Cosine(warmup=9), 2) == pytest.approx([0.1, 0.2])
    assert Cosine(warmup=3, end=0.5)(3, 3) == 0.5


@pytest.mark.parametrize("schedule", ALL, ids=repr)
@pytest.mark.parametrize("epochs", [1, 2, 7])
def test_factors_are_numbers_of_which_the_first_moves_the_net(schedule, epochs):
    assert 0 < schedule(0, epochs) <= 1
    for epoch in np.linspace(0, epochs, 23):
        assert 0 <= schedules.factor_at(schedule, epoch, epochs) <= 1


@pytest.mark.parametrize("schedule", [s for s in ALL if not isinstance(s, StepDecay)], ids=repr)
def test_the_rate_has_no_jumps(schedule):
    values = [schedule(epoch, 10) for epoch in np.linspace(0, 10, 1001)]
    assert np.abs(np.diff(values)).max() < 0.01


def test_a_factor_that_is_no_number_is_named():
    message = r"^schedule\(2, 5\) must be a finite number >= 0, got None$"
    with pytest.raises(ValueError, match=message):
        schedules.factor_at(lambda epoch, epochs: None, 2, 5)


def torch_factors(make, epochs):
    """Return the factors of a scheduler of PyTorch at 0, 1, ... `epochs`."""
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = make(torch.optim.lr_scheduler, optimizer)
    rates = []
    for epoch in range(epochs + 1):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if epoch < epochs:
            scheduler.step()
    return rates


E = 12


@pytest.mark.peers
@pytest.mark.parametrize(
    ("schedule", "make"),
    [
        (
            Linear(),
            lambda lr, o: lr.LinearLR(o, start_factor=1, end_factor=0, total_iters=E),
        ),
        (StepDecay(5, 0.3), lambda lr, o: lr.StepLR(o, 5, 0.3)),
        (Exponential(0.8), lambda lr, o: lr.ExponentialLR(o, 0.8)),
        (Cosine(end=0.1), lambda lr, o: lr.CosineAnnealingLR(o, E, 0.1)),
        (InverseScaling(0.7), lambda lr, o: lr.LambdaLR(o, lambda epoch: (epoch + 1) ** -0.7)),
        # PyTorch counts its steps from 1: with the peak after 0.3 E steps and the end after E.
        (
            OneCycle(0.3, 0.04, 0.001),
            lambda lr, o: lr.OneCycleLR(
                o,
                max_lr=1.0,
                total_steps=E + 1,
                pct_start=(0.3 * E + 1) / (E + 1),
                div_factor=25,
                final_div_factor=40,
            ),
        ),
    ],
    ids=lambda value: repr(value) if isinstance(value, schedules.Schedule) else "",
)
def test_factors_are_those_of_pytorch(schedule, make):
    ours = [schedule(epoch, E) for epoch in range(E + 1)]
    np.testing.assert_allclose(ours, torch_factors(make, E), rtol=1e-9, atol=1e-9)


def test_training_asks_for_the_factor_of_each_epoch(rng):
    X, y = rng.normal(size=(40, 3)), rng.integers(0, 2, 40)
    asked = []

    def halved(epoch, epochs):
        asked.append((epoch, epochs))
        return 0.5**epoch

    nets = [Sequential([Affine(3, 2)], seed=0) for _ in range(2)]
    options = {"epochs": 3, "optimizer": SGD(0.5), "shuffle": False}
    nets[0].fit(X, y, schedule=halved, **options)
    assert list(dict.fromkeys(asked)) == [(0, 3), (1, 3), (2, 3)]
    nets[1].fit(X, y, schedule=Exponential(0.5), **options)
    np.testing.assert_array_equal(nets[0].params, nets[1].params)


@pytest.mark.parametrize("optimizer", [SGD(0.5), AdamW(0.1)], ids=repr)
@pytest.mark.parametrize("schedule", [Cosine(warmup=1), OneCycle()], ids=repr)
def test_waves_move_from_batch_to_batch(schedule, optimizer, rng):
    X, y = rng.normal(size=(40, 3)), rng.integers(0, 2, 40)
    fitted, by_hand = (Sequential([Affine(3, 2)], seed=0, dtype="float64") for _ in range(2))
    fitted.fit(X, y, schedule=schedule, optimizer=optimizer, epochs=3, batch_size=16, shuffle=False)
    trainer = Trainer(by_hand, "softmax_cross_entropy", optimizer, 16)
    trainer.set_data(X, y)
    for epoch in range(3):
        for step in range(3):  # one batch after the other, each at its own rate
            trainer.learning_rate = optimizer.learning_rate * schedule(epoch + step / 3, 3)
            trainer.run_epoch(np.arange(16 * step, min(16 * step + 16, 40)))
    trainer.sync()
    np.testing.assert_allclose(fitted.params, by_hand.params, rtol=1e-12)


def test_rates_are_as_many_as_batches():
    trainer = Trainer(Sequential([Affine(2, 1)], seed=0), "mse", "sgd", 2)
    trainer.set_data(np.eye(2), np.ones(2))
    with pytest.raises(ValueError, match=r"^rates must be 1 numbers, got shape \(2,\)"):
        trainer.run_epoch(np.arange(2), rates=[0.1, 0.2])


@pytest.mark.parametrize("name", schedules.BY_NAME)
def test_fit_takes_every_name(name, rng):
    X, y = rng.normal(size=(40, 3)), rng.integers(0, 2, 40)
    nets = [Sequential([Affine(3, 2)], seed=0) for _ in range(2)]
    for net, schedule in zip(nets, (name, schedules.BY_NAME[name]()), strict=True):
        net.fit(X, y, schedule=schedule, epochs=3, optimizer=SGD(0.5))
    np.testing.assert_array_equal(nets[0].params, nets[1].params)
