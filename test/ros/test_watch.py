"""Live topics for `dkt view`: every message that dkt_node and its camera publish is shown."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs rclpy")
pytest.importorskip("dkt_ros.msg", reason="needs the generated messages: make build")

import rclpy
from builtin_interfaces.msg import Time
from dkt_ros.msg import ScaleAlignment
from fixtures.recorded_frames import known
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from dkt_ros.messages.moments import Moment
from dkt_ros.ros.convert.images import depth_to_image, rgb_to_image
from dkt_ros.ros.watch import watch

pytestmark = [pytest.mark.ros, pytest.mark.flaky(reruns=2)]

PATIENCE_S = 60.0
STAMP = Time(sec=5, nanosec=7)
DEPTH = np.array([[0.5, np.nan, 0.7], [0.8, 0.9, 1.0]], np.float32)
KNOWN = {"color", "raw", "depth", "confidence", "intrinsics", "series", "state"}
RGB = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)


def messages() -> dict[str, Any]:
    """Topic -> message."""
    header = Header(stamp=STAMP, frame_id="camera")
    lens = CameraInfo(header=header, height=2, width=3)
    lens.k = [3.0, 0.0, 1.5, 0.0, 3.0, 1.0, 0.0, 0.0, 1.0]
    lens.p = [4.0, 0.0, 1.5, 0.0, 0.0, 4.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    return {
        "/robot/dkt/camera_info": lens,
        "/robot/dkt/depth": depth_to_image(DEPTH, header),
        "/robot/dkt/confidence": depth_to_image(DEPTH / 2, header),
        "/robot/dkt/color": rgb_to_image(RGB, header),
        "/robot/dkt/alignment": ScaleAlignment(
            header=header, scale=0.25, state=1, reason="few pixels"
        ),
        "/camera/depth": depth_to_image(DEPTH + 1, header),
    }


def publish(stopped: threading.Event) -> None:
    """All of them, again and again."""
    context = rclpy.Context()
    rclpy.init(context=context)
    node = Node("robot", context=context)
    sent = messages()
    publishers = {topic: node.create_publisher(type(m), topic, 5) for topic, m in sent.items()}
    while not stopped.wait(0.05):
        for topic, message in sent.items():
            publishers[topic].publish(message)
    rclpy.shutdown(context=context)


@pytest.mark.parametrize("rectified", [False, True])
def test_every_message_is_shown(rectified: bool) -> None:
    stopped = threading.Event()
    camera = threading.Thread(target=publish, args=(stopped,))
    camera.start()
    found: dict[str, Moment] = {}

    def show(moment: Moment) -> None:
        for name, value in vars(moment).items():
            if value is not None and (name != "series" or value):
                found[name] = moment
        if found.keys() >= KNOWN:
            raise KeyboardInterrupt  # as by Ctrl-C

    try:
        assert watch(show, "/camera/depth", "robot", PATIENCE_S, rectified) >= 1
    finally:
        stopped.set()
        camera.join()
    assert found["depth"].stamp_ns == 5_000_000_007
    np.testing.assert_array_equal(known(found["depth"].depth), DEPTH)
    np.testing.assert_array_equal(known(found["raw"].raw), DEPTH + 1)
    np.testing.assert_array_equal(known(found["confidence"].confidence), DEPTH / 2)
    np.testing.assert_array_equal(known(found["color"].color), RGB)
    assert found["series"].series["scale"] == 0.25
    assert found["state"].state == "HELD: few pixels"
    intrinsics = found["intrinsics"].intrinsics
    assert intrinsics is not None
    assert (intrinsics.fx, intrinsics.cx, intrinsics.width) == (4.0 if rectified else 3.0, 1.5, 3)
