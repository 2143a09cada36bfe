"""What the tests of pictures share."""

import pytest


@pytest.fixture
def ax():
    """Return axes of a figure that no window shows."""
    return pytest.importorskip("matplotlib.figure").Figure().subplots()
