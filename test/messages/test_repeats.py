"""Images that are sent again are found among all that come."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("sensor_msgs", reason="needs the ROS message packages")

from fixtures.repeated_images import CAMERA, Choice, as_png, itself, pairs, twice
from sensor_msgs.msg import CompressedImage

from dkt_ros.messages.intake import Intake
from dkt_ros.messages.observation import Observation
from dkt_ros.messages.repeats import Repeats
from dkt_ros.ros.params.parameters import NodeParameters
from dkt_ros.ros.statistics import Statistics

pytestmark = pytest.mark.ros


def seen(color: Choice, depth: Choice, png: bool = False, **more: Any) -> list[Observation]:
    """What an intake makes of such pairs."""
    filed: list[Observation] = []
    intake = Intake(NodeParameters(), Statistics(), filed.append, lambda *report: None)
    intake.on_camera_info(CAMERA)
    for image, readings in pairs(color, depth, **more):
        intake.on_color(as_png(image) if png else image)
        intake.on_depth(readings)
    return filed


def told(observations: list[Observation]) -> list[str]:
    """What is said of the last."""
    watch = Repeats()
    *_, last = (watch.take(observation) for observation in observations)
    return [suspicion.text for suspicion in last]


@pytest.mark.parametrize("png", [False, True])
@pytest.mark.parametrize(
    ("color", "depth", "which"), [(twice, itself, "colour"), (itself, twice, "depth")]
)
def test_a_stream_of_which_every_image_comes_twice_is_told(
    color: Choice, depth: Choice, which: str, png: bool
) -> None:
    (text,) = told(seen(color, depth, png=png))
    assert f"8 of the newest 16 {which} images are the one before to the bit" in text


def test_what_is_new_stands_still_or_shows_nothing_is_well() -> None:
    for observations in (
        seen(itself, itself),
        seen(twice, twice),
        seen(itself, twice, moves=0),
        seen(itself, twice, holes=True),
    ):
        assert len(observations) == 24
        assert told(observations) == []


def test_nothing_is_known_of_a_stream_that_has_just_begun_anew() -> None:
    observations = seen(itself, twice)
    assert told([*observations[:-1], replace(observations[-1], epoch=1)]) == []


def test_a_picture_that_cannot_be_decoded_is_none_that_moved() -> None:
    broken = [replace(one, color=CompressedImage()) for one in seen(itself, twice)]
    assert told(broken) == []
