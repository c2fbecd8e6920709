"""Clouds in a tf frame over real DDS; tf2_ros is stood in for where it is not installed."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("dkt_ros.msg", reason="needs the generated messages: make build")

from diagnostic_msgs.msg import DiagnosticStatus
from dkt_ros.srv import CaptureDepth
from fixtures.red_rig import HEIGHT, WIDTH, RedRig, red_rig
from fixtures.three_processes import ROOT, START_PATIENCE_S, stamp_ns
from geometry_msgs.msg import Quaternion, TransformStamped, Vector3
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from dkt_ros.ros.convert.images import mask_to_image
from dkt_ros.ros.convert.messages import make_header
from dkt_ros.ros.node import DktNode

pytestmark = [pytest.mark.ros, pytest.mark.flaky(reruns=2)]
FRAME = "camera_color_optical_frame"


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedRig]:
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            words = (str(ROOT / "test" / "fixtures" / "tf2"), os.environ.get("PYTHONPATH", ""))
            patch.setenv("PYTHONPATH", os.pathsep.join(words))
            folder = tmp_path_factory.mktemp("rig")
            rig = stack.enter_context(red_rig(folder, points_frame="base_link"))
        yield rig


def turned(stamp_ns: int) -> TransformStamped:
    """A quarter turn about z and a shift."""
    found = TransformStamped(header=make_header(stamp_ns, "base_link"), child_frame_id=FRAME)
    found.transform.translation = Vector3(x=1.0, y=2.0, z=3.0)
    found.transform.rotation = Quaternion(z=0.5**0.5, w=0.5**0.5)
    return found


def xyz(cloud: PointCloud2) -> np.ndarray:
    cells = np.frombuffer(cloud.data, np.float32).reshape(cloud.height, cloud.width, -1)
    return cells[..., :3]


def turned_points(info: CameraInfo, image: Image) -> np.ndarray:
    """What `turned` makes of the points of that depth."""
    depth = np.frombuffer(image.data, np.float32).reshape(HEIGHT, WIDTH)
    v, u = np.mgrid[0:HEIGHT, 0:WIDTH]
    x, y = (u - info.k[2]) / info.k[0] * depth, (v - info.k[5]) / info.k[4] * depth
    return np.stack([1 - y, 2 + x, 3 + depth], axis=-1)


def test_clouds_stand_in_the_frame_at_their_own_stamp(rig: RedRig) -> None:
    """The whole one and the masked object's; depth stays in the camera's frame."""
    node, planner = rig.planner.node, rig.planner
    tell = node.create_publisher(TransformStamped, "/tf_stand_in", 10)
    mask_of = node.create_publisher(Image, "/mask", 10)
    objects: dict[int, PointCloud2] = {}

    def keep(cloud: PointCloud2) -> None:
        objects[cloud.header.stamp.sec * 10**9 + cloud.header.stamp.nanosec] = cloud

    node.create_subscription(PointCloud2, "/dkt/object_points", keep, 10)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[10:20, 30:40] = 255

    def both() -> int | None:
        stamp = rig.show()
        tell.publish(turned(stamp))
        mask_of.publish(mask_to_image(mask, make_header(stamp, FRAME)))
        planner.spin_for(0.2)
        return stamp if stamp in planner.points and stamp in objects else None

    stamp = planner.wait_until(both, "clouds in base_link", START_PATIENCE_S)
    assert planner.depth[stamp].header.frame_id == FRAME
    cloud = planner.points[stamp]
    assert cloud.header.frame_id == objects[stamp].header.frame_id == "base_link"
    expected = turned_points(planner.camera_info[stamp], planner.depth[stamp])
    np.testing.assert_allclose(xyz(cloud), expected, atol=1e-5)
    np.testing.assert_array_equal(np.isfinite(xyz(objects[stamp])[..., 0]), mask > 0)
    np.testing.assert_array_equal(xyz(objects[stamp])[mask > 0], xyz(cloud)[mask > 0])
    colors = np.frombuffer(cloud.data, np.uint32).reshape(HEIGHT, WIDTH, 8)[..., 4]
    assert (colors >> 16 & 255)[0, 0] == 250, "red"


def test_a_captured_cloud_stands_in_the_frame_that_is_asked_for(rig: RedRig) -> None:
    tell = rig.planner.node.create_publisher(TransformStamped, "/tf_stand_in", 10)
    client = rig.planner.client(CaptureDepth, "/dkt/capture_depth")
    request = CaptureDepth.Request(frames=1, timeout=60.0, frame="base_link")
    asked = [client.call_async(request)]

    def answered() -> Any:
        tell.publish(turned(rig.show()))
        rig.planner.spin_for(0.2)
        if not asked[-1].done():
            return None
        answer = asked[-1].result()
        if answer.status == CaptureDepth.Response.OK:
            return answer
        assert answer.status == CaptureDepth.Response.NO_TRANSFORM  # on a busy machine tf is late
        asked.append(client.call_async(request))
        return None

    answer = rig.planner.wait_until(answered, "answer", START_PATIENCE_S)
    assert answer.depth.header.frame_id == FRAME
    assert answer.points.header == make_header(stamp_ns(answer.depth), "base_link")
    expected = turned_points(answer.camera_info, answer.depth)
    np.testing.assert_allclose(xyz(answer.points), expected, atol=1e-5)


def test_a_stamp_that_tf_has_forgotten_is_told_apart(rig: RedRig) -> None:
    """The camera's clock is years behind the node's, and nobody says where it was then."""
    before = rig.planner.counts["points"]

    def told() -> DiagnosticStatus | None:
        rig.show()
        rig.planner.spin_for(0.2)
        status = rig.planner.statuses.get("/dkt_node: inference")
        return status if status and "and tf remembers 10 s" in status.message else None

    status = rig.planner.wait_until(told, "word of the old stamp")
    assert status.level == DiagnosticStatus.WARN
    assert f"no transform from '{FRAME}' to 'base_link'" in status.message
    assert "use_sim_time" in status.message
    assert rig.planner.counts["points"] == before
    entered = rig.planner.statuses["/dkt_node: input"].values
    assert "dropped: stamp older than tf" in {pair.key for pair in entered}


@pytest.mark.parametrize("node", [["points_frame:=base_link"]], indirect=True)
def test_without_tf2_the_node_says_so_and_stays_unconfigured(node: DktNode) -> None:
    if importlib.util.find_spec("tf2_ros"):
        pytest.skip("tf2_ros is installed")
    node.autostart()
    assert "active" not in str(node._state_machine.current_state[1])
    assert "cannot configure: tf frames need tf2_ros" in node._transition_error
    assert "There is no tf2 among the wheels" in node._transition_error
