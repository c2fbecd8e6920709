"""What the tests of processing share."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures.recorded_frames import labelled_frames

from dkt_ros.bags.recording import RecordingOptions, record
from dkt_ros.predict.options import PredictorOptions
from dkt_ros.processing.options import ProcessOptions

TOLD = "fixtures.told_network:load"
COUNT = 7


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    """Seven frames with truth and mask, a tenth of a second apart."""
    path = tmp_path / "in" / "scene"
    path.parent.mkdir()
    record(labelled_frames(COUNT), path, RecordingOptions(color="raw", depth="32FC1"))
    return path


@pytest.fixture
def told() -> ProcessOptions:
    """A network that takes no time."""
    return ProcessOptions(predictor=PredictorOptions(predictor=TOLD))
