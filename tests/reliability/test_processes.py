"""Child processes, however they come about: they neither die nor hang, and give the same bits."""

import pytest
from scenarios import LAYERS, needs_fork, outcomes

pytestmark = [needs_fork, pytest.mark.xdist_group("scenarios")]


@pytest.mark.parametrize("count", [1, pytest.param(10, marks=pytest.mark.slow)])
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(
    "scenario",
    [
        "children_of_a_process_with_threads",
        "children_of_a_users_parallel_loop",
        "children_of_another_librarys_openmp",
        "children_of_a_thread_that_trains",
        "children_of_a_thread_that_compiles",
        "pools",
        "joblib_backends",
    ],
)
def test_the_same_bits_come_from_child_processes(scenario, layer, count):
    assert outcomes(layer, count)[scenario] == "ok"
