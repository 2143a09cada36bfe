"""How the number of threads follows the measured time of a step."""

import pytest

from fastnn.runtime import threads
from fastnn.training.thread_choice import SECONDS_PER_CALL, Pace


def calls_of(pace, seconds_of_step, calls):
    """Make calls that take the time a machine would need; yield the threads and seconds of each."""
    for _ in range(calls):
        n_threads, steps = pace.next_call()
        seconds = steps * seconds_of_step(n_threads)
        pace.record(n_threads, steps, seconds)
        yield n_threads, seconds


def run(pace, seconds_of_step, calls):
    """Make calls; return the threads of each."""
    return [n_threads for n_threads, _ in calls_of(pace, seconds_of_step, calls)]


def share_of_time(n_threads, pace, seconds_of_step, calls):
    """Make calls; return the part of the time that went to a number of threads."""
    made = list(calls_of(pace, seconds_of_step, calls))
    return sum(s for n, s in made if n == n_threads) / sum(s for _, s in made)


@pytest.mark.parametrize("flops", [1e3, 1e6, 1e10])
@pytest.mark.parametrize("best", [1, 2, 4, 8])
def test_the_fastest_number_of_threads_is_found_and_kept(flops, best):
    pace = Pace(flops, n_threads=8, fixed=False)
    run(pace, lambda n: 1e-3 * (1 + abs(n - best)), 150)
    assert share_of_time(best, pace, lambda n: 1e-3 * (1 + abs(n - best)), 50) > 0.9


def test_a_change_of_the_machine_is_followed():
    pace = Pace(1e7, n_threads=2, fixed=False)
    assert share_of_time(2, pace, lambda n: 1e-3 / n, 50) > 0.9
    # Something else takes a core: two long calls are slow before that is believed.
    assert share_of_time(1, pace, lambda n: 1e-3 * n, 50) > 0.7
    assert share_of_time(2, pace, lambda n: 1e-3 / n, 50) > 0.8


def test_a_single_slow_call_changes_nothing():
    pace = Pace(1e7, n_threads=2, fixed=False)
    run(pace, lambda n: 1e-3 / n, 50)
    for _ in range(20):
        n_threads, steps = pace.next_call()
        pace.record(n_threads, steps, steps * 1e-2)
        assert share_of_time(2, pace, lambda n: 1e-3 / n, 10) > 0.9


def test_threads_that_have_slept_are_woken_before_they_are_measured():
    pace, slept = Pace(1e7, n_threads=2, fixed=False), False
    run(pace, lambda n: 1e-3 * n, 50)  # alone is better
    used = []
    for _ in range(50):
        n_threads, steps = pace.next_call()
        step = 1e-3 if n_threads == 1 else (3e-3 if slept else 5e-4)
        slept = n_threads == 1
        pace.record(n_threads, steps, steps * step)
        used.append(n_threads)
    assert used[-1] == used[-2] == 2


def test_a_call_comes_back_soon_enough_for_the_user():
    pace = Pace(1e7, n_threads=1, fixed=False)
    run(pace, lambda n: 3e-4, 10)
    steps = pace.next_call()[1]
    assert steps * 3e-4 == pytest.approx(SECONDS_PER_CALL, rel=0.01)


def test_a_step_longer_than_that_is_still_one_step():
    pace = Pace(1e12, n_threads=1, fixed=False)
    assert set(run(pace, lambda n: 10.0, 5)) == {1}
    assert pace.next_call()[1] == 1


def test_a_fixed_number_of_threads_stays():
    pace = Pace(1e7, n_threads=4, fixed=True)
    assert set(run(pace, lambda n: 1e-3 * n, 100)) == {4}


def test_no_more_threads_are_tried_than_can_run_together(monkeypatch):
    monkeypatch.setattr(threads, "_team_limit", 2)
    pace = Pace(1e10, n_threads=8, fixed=False)
    assert max(run(pace, lambda n: 1e-3 / n, 100)) == 2
