"""What the library takes of the machine, and what it leaves as it was."""

import pytest
from scenarios import LAYERS, needs_fork, outcomes

pytestmark = [needs_fork, pytest.mark.xdist_group("scenarios")]


@pytest.mark.parametrize("count", [1, pytest.param(50, marks=pytest.mark.slow)])
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(
    "scenario",
    ["settings_are_left_as_they_were", "cpus_may_come_and_go"],
)
def test_the_process_is_respected(scenario, layer, count):
    assert outcomes(layer, count)[scenario] == "ok"
