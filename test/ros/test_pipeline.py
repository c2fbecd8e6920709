"""From the camera's messages to published depth in one process: inference slower than the camera.

The messages are handed to the intake as the subscriptions would; no network, no DDS to wait for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("dkt_ros.msg", reason="needs the generated messages: make build")

import rclpy
from fixtures.repeated_images import CAMERA, itself, pairs, twice
from fixtures.waiting import PATIENCE_S, eventually
from fixtures.workshop import NoNetwork
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, RegionOfInterest

from dkt_ros.alignment.aligner import Alignment, AlignmentState
from dkt_ros.estimator import DepthEstimate
from dkt_ros.frames import FlushReason, Frame
from dkt_ros.fusion.suspicion import REMEDIES, Suspicion
from dkt_ros.model.live_options import PRESETS
from dkt_ros.predict.predictor import Predictor, PredictorInfo
from dkt_ros.ros.capture import Capture
from dkt_ros.ros.convert.images import depth_to_image, rgb_to_image
from dkt_ros.ros.convert.messages import make_header
from dkt_ros.ros.node import DktNode
from dkt_ros.ros.node_report import InputTopic
from dkt_ros.ros.params.parameters import NodeParameters

pytestmark = pytest.mark.ros
HEIGHT, WIDTH = 4, 6
CAMERA_S, INFERENCE_S = 0.01, 0.035


class SlowEstimator:
    """Depth of one metre, after a while."""

    def __init__(self) -> None:
        self.predictor = Predictor(PredictorInfo("none", steps=1))
        self.stamps_ns: list[int] = []
        self.flush: FlushReason | None = None
        self.suspicions: tuple[Suspicion, ...] = ()
        self.free = threading.Event()
        self.free.set()

    def push(self, frame: Frame) -> DepthEstimate:
        self.stamps_ns.append(frame.stamp_ns)
        time.sleep(INFERENCE_S)
        self.free.wait(PATIENCE_S)
        depth = np.ones((HEIGHT, WIDTH), dtype=np.float32)
        alignment = Alignment(1.0, 0.0, 1, 1.0, 0.0, 0.0, AlignmentState.OK, "")
        timings_s = {"total": INFERENCE_S}
        estimate = DepthEstimate(frame, depth, depth, alignment, self.flush, timings_s, 1)
        return replace(estimate, suspicions=self.suspicions)

    def reset(self) -> None:
        """There is nothing to forget."""


@pytest.fixture
def node(request: pytest.FixtureRequest) -> Iterator[DktNode]:
    def build(parameters: NodeParameters) -> NoNetwork:
        estimator: Any = SlowEstimator()
        if parameters.mode == "live" and parameters.live_publish == "latest":
            estimator.predictor.answers_every = 4 * PRESETS[parameters.live_preset].new
        return NoNetwork(estimator)

    settings = [
        word
        for setting in request.param.split()
        for word in ("-r" if "/" in setting else "-p", setting)
    ]
    rclpy.init(args=["--ros-args", *settings])
    node = DktNode(build)
    node.autostart()
    yield node
    node.close()
    rclpy.shutdown()


def lens() -> CameraInfo:
    info = CameraInfo(width=WIDTH, height=HEIGHT)
    info.k = [50.0, 0.0, 2.5, 0.0, 50.0, 1.5, 0.0, 0.0, 1.0]
    return info


def show_frames(node: DktNode, count: int, first: int = 0) -> None:
    """A camera at its own pace; a busy machine makes it slower, in bunches, never faster."""
    assert node._pipeline is not None
    intake = node._pipeline._intake
    intake.on_camera_info(lens())
    began = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, began + number * CAMERA_S - time.monotonic()))
        header = make_header(10**18 + round((first + number) * CAMERA_S * 1e9), "camera")
        intake.on_color(rgb_to_image(np.zeros((HEIGHT, WIDTH, 3), np.uint8), header))
        intake.on_depth(depth_to_image(np.ones((HEIGHT, WIDTH), np.float32), header))


def values(node: DktNode, part: str) -> dict[str, str]:
    from dkt_ros.ros.diagnostics import diagnostic_array

    array = diagnostic_array(node._node_report(), make_header(0, ""))
    [found] = [status for status in array.status if status.name.endswith(f": {part}")]
    return {pair.key: pair.value for pair in found.values}


@pytest.mark.parametrize("node", ["frame_choice:=newest"], indirect=True)
def test_newest_skips_what_comes_while_it_is_busy(node: DktNode) -> None:
    show_frames(node, 60)
    inference = values(node, "inference")
    assert inference["frame choice"] == "newest"
    skipped = int(inference["frames skipped by choice"])
    assert skipped >= 20
    assert skipped + len(estimator(node).stamps_ns) >= 59, "all others were taken, one may wait"
    assert int(inference["frames used (%)"]) == pytest.approx(100 * (60 - skipped) / 60, abs=1)
    assert not [key for key in values(node, "input") if key.startswith("dropped")]


@pytest.mark.parametrize("node", ["publish:=on_demand"], indirect=True)
def test_images_that_are_sent_again_are_told_though_the_network_sees_none(node: DktNode) -> None:
    assert node._pipeline is not None
    intake = node._pipeline._intake
    intake.on_camera_info(CAMERA)
    for color, depth in pairs(itself, twice):
        intake.on_color(color)
        intake.on_depth(depth)
    text, _ = node._node_report().complaints["sent again"]
    assert "8 of the newest 16 depth images are the one before to the bit" in text
    assert "Have the driver take both at one rate" in text
    assert estimator(node).stamps_ns == []


@pytest.mark.parametrize("node", ["frame_choice:=even"], indirect=True)
def test_even_finds_a_pace_and_keeps_it(node: DktNode) -> None:
    show_frames(node, 150)
    inference = values(node, "inference")
    policy, _, stride = inference["frame choice"].rpartition("1 in ")
    assert policy == "even, "
    assert int(stride) >= 2, "4 on a machine that is not busy"
    skipped, late = int(inference["frames skipped by choice"]), values(node, "input")
    assert skipped > 30
    assert skipped + int(late.get("dropped: inference was late for its turn", 0)) < 150
    assert 0 < int(inference["frames used (%)"]) < 75


@pytest.mark.parametrize(
    ("node", "room"),
    [
        ("mode:=live frame_choice:=even", 12),
        ("mode:=live frame_choice:=even live_preset:=fast", 8),
        ("mode:=live frame_choice:=even live_publish:=all", 1),
        ("mode:=live frame_choice:=newest", 1),
        ("frame_choice:=even", 1),
    ],
    indirect=["node"],
)
def test_frames_of_one_window_wait_and_no_more(node: DktNode, room: int) -> None:
    slow = estimator(node)
    slow.free.clear()
    show_frames(node, 1)
    eventually(lambda: slow.stamps_ns)
    show_frames(node, room + 3, first=1)

    def lost(cause: str) -> int:
        if node.parameters.frame_choice == "newest":
            return int(values(node, "inference")["frames skipped by choice"])
        return int(values(node, "input").get(f"dropped: {cause}", 0))

    assert lost("inference was late for its turn") == 3
    began_anew = "the stream began anew before its turn"
    before = lost(began_anew)
    show_frames(node, 1)  # time runs back: who waits is of a stream that is over
    assert lost(began_anew) - before == room
    slow.free.set()
    eventually(lambda: len(slow.stamps_ns) == 2)
    assert slow.stamps_ns[1] == slow.stamps_ns[0], "the new stream's first frame"


@pytest.mark.parametrize("node", ["publish:=on_demand frame_choice:=newest"], indirect=True)
def test_a_frame_that_came_before_the_request_begins_no_stream_for_it(node: DktNode) -> None:
    """Its depth image came after: it would be inferred, and count for nobody."""
    assert node._pipeline is not None
    intake, header = node._pipeline._intake, make_header(10**18 - 10**7, "camera")
    intake.on_camera_info(lens())
    intake.on_color(rgb_to_image(np.zeros((HEIGHT, WIDTH, 3), np.uint8), header))
    capture = Capture(1, 0.0, RegionOfInterest(), None)
    node._captures._open.append(capture)
    intake.on_depth(depth_to_image(np.ones((HEIGHT, WIDTH), np.float32), header))
    assert values(node, "inference")["frames skipped by choice"] == "1"
    show_frames(node, 1)
    assert capture.done.wait(PATIENCE_S)
    assert estimator(node).stamps_ns == [10**18]


@pytest.mark.parametrize("node", ["frame_choice:=newest"], indirect=True)
def test_deactivation_does_not_wait_for_ever(
    node: DktNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dkt_ros.ros.node.HALT_PATIENCE_S", 0.02)
    slow = estimator(node)
    slow.free.clear()
    show_frames(node, 1)
    eventually(lambda: slow.stamps_ns)
    assert node.trigger_deactivate() == TransitionCallbackReturn.FAILURE
    assert "the inference has not ended within 0.02 s" in node._transition_error
    slow.free.set()
    monkeypatch.setattr("dkt_ros.ros.node.HALT_PATIENCE_S", PATIENCE_S)
    assert node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS


@pytest.mark.parametrize("node", ["frame_choice:=newest"], indirect=True)
def test_a_camera_of_an_unforeseen_size_is_remarked_on_once(node: DktNode) -> None:
    assert node._engine is not None
    asked: list[tuple[int, int]] = []

    def remark_on(height: int, width: int) -> str:
        asked.append((height, width))
        return "set warm_up_size"

    node._engine.remark_on = remark_on  # type: ignore[method-assign]
    show_frames(node, 3)
    assert asked == [(HEIGHT, WIDTH)]
    assert "set warm_up_size" in values(node, "input")["last warm-up"]


@pytest.mark.parametrize("node", ["frame_choice:=newest"], indirect=True)
def test_normals_that_nobody_listens_to_are_not_wanted(node: DktNode) -> None:
    assert node._engine is not None
    node._engine.predictor.normals_wanted = True
    show_frames(node, 1)
    eventually(lambda: estimator(node).stamps_ns)
    assert not node._engine.predictor.normals_wanted


@pytest.mark.parametrize("node", ["frame_choice:=newest"], indirect=True)
def test_publishers_of_another_type_and_of_the_past_are_seen(node: DktNode) -> None:
    assert node._pipeline is not None
    context = rclpy.Context()  # one participant has one type for a topic
    rclpy.init(context=context)
    camera = rclpy.create_node("camera", context=context)
    late = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    camera.create_publisher(CompressedImage, "depth/image", 1)
    camera.create_publisher(CameraInfo, "color/camera_info", late)
    camera.create_publisher(Image, "color/image", 1)
    report = node._pipeline.report
    eventually(lambda: all(topic.nodes for topic in report().inputs.values()))
    found = report().inputs
    camera.destroy_node()
    rclpy.shutdown(context=context)
    assert found["depth"].other_types == ("sensor_msgs/msg/CompressedImage",)
    assert found["color"].other_types == ()
    assert found["color"].nodes == ("/camera",)
    assert {name: topic.latched for name, topic in found.items()} == {
        "camera_info": True,
        "color": False,
        "depth": False,
    }


@pytest.mark.parametrize("node", ["frame_choice:=newest"], indirect=True)
def test_for_how_long_two_publishers_are_there_together_is_seen(
    node: DktNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time that a driver is killed and started anew it is another."""
    assert node._pipeline is not None
    report, ahead, clock = node._pipeline.report, [0.0], time.monotonic
    monkeypatch.setattr("dkt_ros.ros.pipeline.time.monotonic", lambda: clock() + ahead[0])

    def color(publishers: int) -> InputTopic:
        eventually(lambda: report().inputs["color"].publishers == publishers)
        return report().inputs["color"]

    camera = rclpy.create_node("camera")
    first, second = (camera.create_publisher(Image, "color/image", 1) for _ in range(2))
    assert color(2).crowded_s < 20
    ahead[0] += 40
    assert color(2).crowded_s > 30
    camera.destroy_publisher(first)
    assert color(1).crowded_s == 0
    camera.create_publisher(Image, "color/image", 1)
    assert color(2).crowded_s < 20, "of another, however long the second is there"
    camera.destroy_publisher(second)
    camera.destroy_node()


@pytest.mark.parametrize("node", ["frame_choice:=newest"], indirect=True)
def test_topics_that_others_publish_in_place_of_absent_ones_are_seen(node: DktNode) -> None:
    assert node._pipeline is not None
    camera = rclpy.create_node("camera")
    for topic in ("robot/speech_picture", "camera/color/image_raw", "depth/image"):
        camera.create_publisher(Image, topic, 1)
    camera.create_publisher(CompressedImage, "color/image/compressed", 1)
    report = node._pipeline.report
    images = ("/camera/color/image_raw", "/color/image/compressed", "/robot/speech_picture")
    eventually(lambda: report().inputs["color"].elsewhere == images)
    found = report().inputs
    assert found["camera_info"].elsewhere == (), "this node's own is none"
    assert found["depth"].elsewhere == (), "it is there"
    camera.destroy_node()


@pytest.mark.parametrize(
    "node",
    [
        f"{transports} color/image:=/robot/color/compressed depth/image:=/robot/depth/compressed"
        for transports in (
            "color_transport:=raw depth_transport:=raw",
            "color_transport:=compressed depth_transport:=compressedDepth",
        )
    ],
    indirect=True,
)
def test_a_topic_that_names_its_transport_is_heard(node: DktNode) -> None:
    """Whatever the parameters say: people map what `ros2 topic list` shows."""
    assert node._pipeline is not None
    listens = {one.topic_name: one.msg_type for one in node._pipeline._subscriptions.values()}
    assert listens == {
        "/color/camera_info": CameraInfo,
        "/robot/color/compressed": CompressedImage,
        "/robot/depth/compressed": CompressedImage,
    }


@pytest.mark.parametrize("node", ["frame_choice:=newest"], indirect=True)
def test_a_live_stream_that_drifted_is_told(node: DktNode) -> None:
    slow = estimator(node)
    slow.flush = FlushReason.DRIFT
    show_frames(node, 3)
    eventually(lambda: "flushed: live stream had drifted" in values(node, "inference"))
    told = values(node, "input")["last live stream had drifted"]
    assert "restarted" in told
    assert "live_preset" in told


@pytest.mark.parametrize("node", ["frame_choice:=newest"], indirect=True)
@pytest.mark.parametrize("cause", sorted(REMEDIES))
def test_what_does_not_belong_together_is_told_with_its_remedy(node: DktNode, cause: str) -> None:
    estimator(node).suspicions = (Suspicion(cause, "something is wrong", True),)
    show_frames(node, 1)
    told = eventually(lambda: values(node, "input").get(f"last {cause}"))
    assert f"something is wrong. {REMEDIES[cause]}." in (told or "")


def estimator(node: DktNode) -> SlowEstimator:
    assert node._engine is not None
    slow: Any = node._engine.estimator
    assert isinstance(slow, SlowEstimator)
    return slow
