"""What is published apart from images and clouds, which have tests of their own."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("dkt_ros.msg", reason="needs the generated messages: make build")

from dkt_ros.msg import ScaleAlignment

from dkt_ros.alignment.aligner import Alignment, AlignmentState
from dkt_ros.ros.convert.messages import make_header
from dkt_ros.ros.outputs import alignment_to_message, colored_depth

pytestmark = pytest.mark.ros


def test_the_states_have_the_messages_numbers() -> None:
    for state in AlignmentState:
        assert getattr(ScaleAlignment, state.name) == state.value


def test_an_alignment_becomes_a_message() -> None:
    alignment = Alignment(2.5, -0.25, 321, 0.75, 0.0035, 0.01, AlignmentState.HELD, "few pixels")
    message = alignment_to_message(alignment, 5, make_header(9, "camera"))
    assert (message.header.stamp.nanosec, message.header.frame_id) == (9, "camera")
    assert (message.state, message.reason) == (ScaleAlignment.HELD, "few pixels")
    assert (message.scale, message.shift, message.inliers) == (2.5, -0.25, 321)
    assert message.inlier_ratio == pytest.approx(0.75)
    assert message.residual == pytest.approx(0.0035)
    assert message.uncertainty == pytest.approx(0.01)
    assert message.window == 5


def test_no_alignment_is_nan_in_the_message() -> None:
    nan = float("nan")
    alignment = Alignment(nan, nan, 0, 0.0, nan, float("inf"), AlignmentState.UNALIGNED, "none")
    message = alignment_to_message(alignment, 1, make_header(9, "camera"))
    assert np.isnan([message.scale, message.shift, message.residual]).all()
    assert message.uncertainty == np.inf


def test_colours_are_fixed_to_depth_and_black_is_unknown() -> None:
    depth = np.array([[np.nan, 0.2, 1.1, 2.0, 0.05, 50.0]], dtype=np.float32)
    picture = colored_depth(depth, 0.2, 2.0)
    assert picture.shape == (1, 6, 3)
    assert picture.dtype == np.uint8
    assert not picture[0, 0].any()
    assert picture[0, 1:].any(axis=-1).all()
    near, middle, far = (
        picture[0, 1].astype(int),
        picture[0, 2].astype(int),
        picture[0, 3].astype(int),
    )
    assert near[2] > near[0], "near is bluish"
    assert middle[1] == max(middle), "the middle is greenish"
    assert far[0] > far[2], "far is reddish"
    np.testing.assert_array_equal(picture[0, 4], near)
    np.testing.assert_array_equal(picture[0, 5], far)
    np.testing.assert_array_equal(picture, colored_depth(depth, 0.2, 2.0))
