"""Python threads that train and predict at once, also beside parallel loops of the user's.

On each of Numba's threading layers; "workqueue" aborts a process with two threads in such loops.
"""

import pytest
from scenarios import LAYERS, needs_fork, outcomes

pytestmark = [needs_fork, pytest.mark.xdist_group("scenarios")]


@pytest.mark.parametrize("count", [1, pytest.param(10, marks=pytest.mark.slow)])
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(
    "scenario",
    [
        "eight_threads",
        "a_users_parallel_loop_in_another_thread",
        "predictions_within_a_users_parallel_loop",
    ],
)
def test_the_same_bits_come_from_many_threads_as_from_one(scenario, layer, count):
    assert outcomes(layer, count)[scenario] == "ok"
