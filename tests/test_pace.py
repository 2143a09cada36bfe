"""How the number of threads follows the measured time of a step."""

import pytest

from fastnn import threads
from fastnn.pace import SECONDS_PER_CALL, Pace


def run(pace, seconds_of_step, calls):
    """Make calls that take the time a machine would need; return the threads of each."""
    used = []
    for _ in range(calls):
        n_threads, steps = pace.next_call()
        pace.record(n_threads, steps, steps * seconds_of_step(n_threads))
        used.append(n_threads)
    return used


@pytest.mark.parametrize("flops", [1e3, 1e6, 1e10])
@pytest.mark.parametrize("best", [1, 2, 4, 8])
def test_the_fastest_number_of_threads_is_found_and_kept(flops, best):
    pace = Pace(flops, n_threads=8, fixed=False)
    used = run(pace, lambda n: 1e-3 * (1 + abs(n - best)), 200)
    assert used[-50:].count(best) >= 35  # the rest are short trials


def test_a_change_of_the_machine_is_followed():
    pace = Pace(1e7, n_threads=2, fixed=False)
    assert run(pace, lambda n: 1e-3 / n, 50).count(2) > 35
    assert run(pace, lambda n: 1e-3 * n, 50).count(1) > 35  # something else takes a core
    assert run(pace, lambda n: 1e-3 / n, 50).count(2) > 35


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
