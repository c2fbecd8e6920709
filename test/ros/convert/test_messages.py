"""Stamps survive the round trip; calibration is read as ROS means it and refused when wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("sensor_msgs", reason="needs the ROS message packages")

from sensor_msgs.msg import CameraInfo, RegionOfInterest

from dkt_ros.messages.cameras import lens_of, rotation_matrix
from dkt_ros.messages.fields import (
    MessageError,
    camera_info_to_intrinsics,
    has_distortion,
    of_images_as_sent,
    stamp_to_ns,
)
from dkt_ros.ros.convert.messages import camera_info_with_header, make_header

pytestmark = pytest.mark.ros


def camera_info(**changes: Any) -> CameraInfo:
    fields = {
        "width": 640,
        "height": 480,
        "k": [600.0, 0.0, 320.5, 0.0, 601.0, 240.25, 0.0, 0.0, 1.0],
        "p": [500.0, 0.0, 310.0, 7.0, 0.0, 501.0, 230.0, 0.0, 0.0, 0.0, 1.0, 0.0],
        "d": [0.1, 0.0, 0.0, 0.0, 0.0],
    }
    return CameraInfo(**(fields | changes))


@given(st.integers(0, (2**31 - 1) * 10**9 + 999_999_999))
def test_stamps_are_exact(stamp_ns: int) -> None:
    header = make_header(stamp_ns, "camera")
    assert stamp_to_ns(header.stamp) == stamp_ns
    assert header.frame_id == "camera"


def test_raw_images_use_k_and_rectified_ones_p() -> None:
    raw = camera_info_to_intrinsics(camera_info(), rectified=False)
    assert (raw.fx, raw.fy, raw.cx, raw.cy) == (600.0, 601.0, 320.5, 240.25)
    rectified = camera_info_to_intrinsics(camera_info(), rectified=True)
    assert (rectified.fx, rectified.fy, rectified.cx, rectified.cy) == (500.0, 501.0, 310.0, 230.0)
    assert (raw.width, raw.height) == (640, 480)


def test_region_of_interest_and_binning_move_the_camera() -> None:
    roi = RegionOfInterest(x_offset=100, y_offset=40, width=400, height=200)
    intrinsics = camera_info_to_intrinsics(
        camera_info(roi=roi, binning_x=2, binning_y=4), rectified=False
    )
    assert (intrinsics.width, intrinsics.height) == (200, 50)
    assert (intrinsics.fx, intrinsics.fy) == (300.0, 150.25)
    assert (intrinsics.cx, intrinsics.cy) == (110.25, 50.0625)


@pytest.mark.parametrize("rectified", [False, True])
def test_region_and_binning_are_in_what_planners_read_alone(rectified: bool) -> None:
    roi = RegionOfInterest(x_offset=100, y_offset=40, width=400, height=200, do_rectify=True)
    sent = camera_info(roi=roi, binning_x=2, binning_y=4)
    expected = camera_info_to_intrinsics(sent, rectified)
    info = of_images_as_sent(sent)
    assert camera_info_to_intrinsics(info, rectified) == expected
    matrix, columns = (info.p, 4) if rectified else (info.k, 3)
    read = [float(matrix[at]) for at in (0, 2, columns + 1, columns + 2)]
    assert read == [expected.fx, expected.cx, expected.fy, expected.cy]
    assert (info.width, info.height, info.binning_x, info.roi.width) == (200, 50, 0, 0)
    assert info.roi.do_rectify
    assert info.p[3] == 3.5, "a stereo pair's baseline times fx"
    assert list(info.d) == list(sent.d)
    assert (sent.k[0], sent.p[3], sent.roi.x_offset, sent.binning_y) == (600.0, 7.0, 100, 4)


def test_a_calibration_without_region_and_binning_is_left_as_it_is() -> None:
    whole = RegionOfInterest(width=640, height=480)
    for sent in (camera_info(), camera_info(binning_x=1, binning_y=1), camera_info(roi=whole)):
        assert of_images_as_sent(sent) is sent


@pytest.mark.parametrize(
    ("changes", "rectified", "cause", "found", "remedy"),
    [
        ({"k": [0.0] * 9}, False, "uncalibrated camera", r"K\[0\]=0", "set rectified to true"),
        ({"p": [0.0] * 12}, True, "uncalibrated camera", r"P\[0\]=0", "set rectified to false"),
        (
            {"k": [0.0] * 9, "p": [0.0] * 12},
            False,
            "uncalibrated camera",
            r"K\[0\]=0, and no P",
            "Calibrate",
        ),
        ({"k": [float("nan")] * 9}, False, "invalid camera_info", "fx=nan", "Calibrate"),
        ({"k": [-600.0] * 9}, False, "invalid camera_info", "fx=-600", "Calibrate"),
        ({"k": [9.0] * 4 + [-9.0] * 5}, False, "invalid camera_info", "fy=-9", "Calibrate"),
        ({"width": 0}, False, "invalid camera_info", "0x480", "Mend"),
        ({"binning_x": 1000}, False, "invalid camera_info", "binned 1000x1", "Mend"),
    ],
)
def test_a_bad_calibration_is_named(
    changes: dict[str, Any], rectified: bool, cause: str, found: str, remedy: str
) -> None:
    with pytest.raises(MessageError, match=found) as caught:
        camera_info_to_intrinsics(camera_info(**changes), rectified)
    assert caught.value.cause == cause
    assert remedy in str(caught.value)


def test_distortion() -> None:
    assert has_distortion(camera_info())
    assert not has_distortion(camera_info(d=[0.0] * 5))
    assert not has_distortion(camera_info(d=[]))


@pytest.mark.parametrize(
    ("said", "model", "numbers"),
    [
        ("Inverse Brown Conrady", "plumb_bob", 5),
        ("Kannala Brandt4", "equidistant", 4),  # RealSense's, of which the fifth is 0
        ("equidistant", "equidistant", 4),
        ("rational_polynomial", "rational_polynomial", 5),
    ],
)
def test_a_distortion_is_known_by_either_name(said: str, model: str, numbers: int) -> None:
    sent = [0.1, 0.02, 0.003, 0.004, 0.0]
    lens = lens_of(camera_info(distortion_model=said, d=sent))
    assert (lens.model, lens.coefficients) == (model, tuple(sent[:numbers]))


@pytest.mark.parametrize("length", [1.0, 0.5, 3.0])
def test_a_quaternion_of_any_length_is_a_rotation(length: float) -> None:
    half = length * 0.5**0.5
    turned = rotation_matrix(0.0, 0.0, half, half) @ (1.0, 0.0, 0.0)
    np.testing.assert_allclose(turned, (0.0, 1.0, 0.0), atol=1e-12)
    np.testing.assert_array_equal(rotation_matrix(0.0, 0.0, 0.0, 0.0), np.eye(3))


def test_camera_info_is_copied_but_for_its_header() -> None:
    info = camera_info(roi=RegionOfInterest(width=7), binning_x=2, distortion_model="plumb_bob")
    info.header.frame_id = "camera"
    copy = camera_info_with_header(info, make_header(5, "color"))
    assert copy.header.frame_id == "color"
    assert info.header.frame_id == "camera"
    copy.header = info.header
    assert copy == info
