"""What the tests of processing share."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest
from fixtures.recorded_frames import known, labelled_frames

from dkt_ros.bags.recording import RecordingOptions, record
from dkt_ros.geometry import to_millimetres
from dkt_ros.predict.options import PredictorOptions
from dkt_ros.processing.options import ProcessOptions

TOLD = "fixtures.told_network:load"
COUNT = 7


@pytest.fixture(scope="session")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven frames with truth and mask, a tenth of a second apart; tests never change it."""
    path = tmp_path_factory.mktemp("in") / "scene"
    record(labelled_frames(COUNT), path, RecordingOptions(color="raw", depth="32FC1"))
    return path


@pytest.fixture(scope="session")
def told() -> ProcessOptions:
    """A network that takes no time."""
    return ProcessOptions(predictor=PredictorOptions(predictor=TOLD))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of three scenes' pictures, colour and depth beside each other."""
    folder = tmp_path / "pictures"
    for name in ("color", "depth"):
        (folder / name).mkdir(parents=True)
    for index, labelled in enumerate(labelled_frames(3)):
        frame = labelled.frame
        cv2.imwrite(str(folder / "color" / f"{index}.png"), frame.rgb[..., ::-1])
        millimetres = to_millimetres(known(frame.raw_depth))
        cv2.imwrite(str(folder / "depth" / f"{index}.png"), millimetres)
    (folder / "intrinsics.txt").write_text("48 0 24\n0 49 16\n0 0 1\n")
    return folder
