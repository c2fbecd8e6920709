"""What the tests of bags share."""

from __future__ import annotations

import pytest
from fixtures.recorded_frames import labelled_frames

from dkt_ros.bags.recording import LabelledFrame


@pytest.fixture
def frames() -> list[LabelledFrame]:
    """Four frames, a tenth of a second apart."""
    return labelled_frames(4)
