"""What no camera's calibration is like; how the intake tells it is test_intake.py's."""

from __future__ import annotations

import pytest

from dkt_ros.geometry import Intrinsics
from dkt_ros.messages.calibration import unlikely


@pytest.mark.parametrize(
    ("size", "centre", "said"),
    [
        ((640, 480), (0.0, 0.0), "expected a centre near the image's, in pixels."),
        ((640, 480), (0.49, 0.51), "expected a centre near the image's, in pixels."),
        ((640, 480), (239.5, 319.5), "images that were turned by a quarter."),
        ((480, 848), (421.0, 244.0), "images that were turned by a quarter."),
        ((640, 480), (642.0, 359.0), "for images of 1280x720, unless these were cut out"),
        ((640, 480), (424.3, 238.1), "for images of 848x480, unless these were cut out"),
        ((848, 480), (318.0, 243.0), "for images of 640x480, unless these were cut out"),
        ((640, 480), (320.0, -30.0), "a centre inside the image."),
        ((640, 480), (320.0, 530.0), "a centre inside the image."),
        ((848, 480), (431.0, 236.0), ""),
        ((640, 400), (331.0, 178.0), ""),
        ((640, 480), (50.0, 10.0), ""),  # cut out of a larger image
        ((640, 480), (500.0, 210.0), ""),
        ((600, 500), (249.5, 299.5), ""),
        ((480, 640), (240.5, 317.0), ""),
    ],
)
def test_a_centre_in_the_corner_or_of_turned_images_is_remarked_on(
    size: tuple[int, int], centre: tuple[float, float], said: str
) -> None:
    camera = Intrinsics(500.0, 500.0, *centre, *size)
    found = unlikely(camera)
    assert said in found
    assert bool(found) == bool(said)
