"""What is published apart from images and clouds, which have tests of their own, and by whom."""

from __future__ import annotations

import itertools
import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("dkt_ros.msg", reason="needs the generated messages: make build")

import rclpy
from dkt_ros.msg import ScaleAlignment
from fixtures.waiting import PATIENCE_S, eventually
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import String

from dkt_ros.alignment.aligner import Alignment, AlignmentState
from dkt_ros.colors import colored
from dkt_ros.errors import DktError
from dkt_ros.estimator import DepthEstimate
from dkt_ros.frames import Frame
from dkt_ros.geometry import Intrinsics
from dkt_ros.messages.alignment import alignment_fields
from dkt_ros.messages.compressed_images import compressed_to_depth
from dkt_ros.messages.observation import Observation
from dkt_ros.ros import outputs as outputs_module
from dkt_ros.ros.convert.images import mask_to_image
from dkt_ros.ros.convert.messages import make_header
from dkt_ros.ros.masks import KEPT, KEPT_MASKS
from dkt_ros.ros.outputs import Outputs
from dkt_ros.ros.params.command_line import node_parser
from dkt_ros.ros.params.parameters import NodeParameters
from dkt_ros.ros.qos import SENT_DEPTH
from dkt_ros.ros.statistics import Statistics
from dkt_ros.ros.topics import (
    OUTPUTS,
    Output,
    Result,
    topics_text,
)

pytestmark = pytest.mark.ros


def test_topics_named_elsewhere_are_published(repo_root: Path) -> None:
    """Layouts, demonstration and examples are written by hand, for the topics of the table."""
    known = {output.topic for output in OUTPUTS}
    for pattern in ("config/rviz/*", "config/foxglove/*", "demo/*.py", "examples/*.py"):
        for path in repo_root.glob(pattern):
            named = set(re.findall(r"\bdkt/[a-z_]+", path.read_text()))
            assert named <= known, f"{path} names {named - known}"


def test_foxglove_layout_shows_topics_as_what_they_are(repo_root: Path) -> None:
    """Each panel shows topics of the type that it can show, and fields that the message has."""
    layout = json.loads((repo_root / "config/foxglove/dkt.json").read_text())
    panels, types = layout["configById"], {f"/{one.topic}": one.type for one in OUTPUTS}
    assert set(_leaves(layout["layout"])) == set(panels)
    fields = ScaleAlignment.get_fields_and_field_types()
    shown: set[str] = set()
    for name, panel in panels.items():
        kind = name.partition("!")[0]
        if kind == "Image":
            image = panel["imageMode"]
            if "imageTopic" not in image:  # the camera's own, which only its user knows
                assert name == "Image!raw"
                continue
            assert types[image["imageTopic"]] is Image
            assert types[image["calibrationTopic"]] is CameraInfo
            shown.add(image["imageTopic"])
        elif kind == "3D":
            assert {types[topic] for topic in panel["topics"]} == {PointCloud2}
            shown |= panel["topics"].keys()
        elif kind in ("Plot", "StateTransitions"):
            for path in panel["paths"]:
                topic, _, rest = path["value"].partition(".")
                assert types[topic] is ScaleAlignment
                assert re.split(r"[.\[]", rest)[0] in fields
                shown.add(topic)
        else:
            assert panel["topicToRender"] == "/diagnostics"
    names = ("color", "depth", "confidence", "points", "alignment")
    assert shown == {f"/dkt/{name}" for name in names}


def _leaves(node: str | dict[str, Any]) -> list[str]:
    """Names of the panels in a tree of splits."""
    if isinstance(node, str):
        return [node]
    return _leaves(node["first"]) + _leaves(node["second"])


def test_help_lists_every_topic() -> None:
    text = node_parser(topics_text()).format_help()
    assert all(f" {output.topic} " in text for output in OUTPUTS)


class Slow:
    """An output whose message is made when the test says so, or fails."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.made: list[int] = []
        self.failure: Exception | None = None

    def __call__(self, result: Any) -> String:
        assert self.go.wait(PATIENCE_S)
        if self.failure is not None:
            raise self.failure
        self.made.append(result.estimate.frame.stamp_ns)
        return String()


@pytest.fixture
def node() -> Iterator[LifecycleNode]:
    rclpy.init()
    node = LifecycleNode("outputs")
    node.create_subscription(String, "slow", lambda message: None, 1)
    yield node
    node.destroy_node()
    rclpy.try_shutdown()


def publish(outputs: Outputs, stamp_ns: int, row: Sequence[float] = (1, 1, 1)) -> None:
    """row: of the depth, metres; all are alike."""
    depth, width = np.array([row, row], np.float32), len(row)
    rgb = np.zeros((2, width, 3), np.uint8)
    frame = Frame(rgb, None, Intrinsics(1.0, 1.0, 1.0, 1.0, width, 2), stamp_ns, "camera")
    alignment = Alignment(1.0, 0.0, 1, 1.0, 0.0, 0.0, AlignmentState.OK, "")
    estimate = DepthEstimate(frame, depth, depth, alignment, None, {"total": 0.0}, 1)
    observation = Observation(
        lambda: frame, stamp_ns, (2, width), CameraInfo(), 0, time.monotonic(), Image()
    )
    outputs.publish(observation, estimate)


def outputs_beside(
    node: LifecycleNode,
    *more: Output,
    statistics: Statistics | None = None,
    fails: Callable[[str, str], None] = lambda *report: None,
) -> Outputs:
    """All that the node has, and more."""
    everything, told = (*OUTPUTS, *more), statistics or Statistics()
    return Outputs(node, NodeParameters(), told, lambda *report: None, fails, everything)


def test_what_a_planner_waits_for_is_made_at_once_and_all_else_beside() -> None:
    at_once = {output.name for output in OUTPUTS if not output.lazy}
    assert at_once == {"camera_info", "depth", "alignment"}


def test_what_is_paired_by_stamp_is_kept_until_its_readers_have_it(node: LifecycleNode) -> None:
    outputs = Outputs(
        node, NodeParameters(), Statistics(), lambda *report: None, lambda *report: None
    )
    kept = {topic: sent.qos_profile.depth for topic, sent in outputs._publishers.items()}
    assert {topic for topic, depth in kept.items() if depth == 1} == {
        "dkt/points",
        "dkt/object_points",
        "dkt/depth_color",
    }
    assert {depth for depth in kept.values() if depth > 1} == {SENT_DEPTH}
    outputs.destroy()


def result_of(depth: np.ndarray, parameters: NodeParameters | None = None) -> Result:
    """Of one frame with that depth."""
    height, width = depth.shape
    intrinsics = Intrinsics(1.0, 1.0, 1.0, 1.0, width, height)
    frame = Frame(np.zeros((height, width, 3), np.uint8), None, intrinsics, 7, "camera")
    alignment = Alignment(1.0, 0.0, 1, 1.0, 0.0, 0.0, AlignmentState.OK, "")
    estimate = DepthEstimate(frame, depth, depth, alignment, None, {}, 1)
    observation = Observation(
        lambda: frame, 7, (height, width), CameraInfo(), 0, time.monotonic(), Image()
    )
    return Result(observation, estimate, make_header(7, "camera"), parameters or NodeParameters())


def test_confidence_is_zero_without_depth_and_unknown_where_nobody_tells_it() -> None:
    result = result_of(np.array([[1.0, np.nan]], np.float32))
    [output] = [one for one in OUTPUTS if one.name == "confidence"]
    told = np.frombuffer(output.make(result).data, np.float32)
    np.testing.assert_array_equal(told, [np.nan, 0.0])


@pytest.mark.parametrize("kind", ["png", "rvl"])
def test_depth_to_record_is_the_depth_under_its_stamp(kind: str) -> None:
    depth = np.array([[1.0, np.nan, 0.5], [2.0, 15.0, np.nan]], np.float32)
    [output] = [one for one in OUTPUTS if one.name == "depth/compressedDepth"]
    parameters = NodeParameters(compressed_depth_format=kind, max_depth_m=20.0)
    message = output.make(result_of(depth, parameters))
    assert (message.header.stamp.nanosec, message.header.frame_id) == (7, "camera")
    assert message.format == f"32FC1; compressedDepth {kind}"
    np.testing.assert_allclose(compressed_to_depth(message), depth, rtol=2e-3)


def test_an_alignment_tells_where_the_time_went() -> None:
    result = result_of(np.ones((2, 3), np.float32))
    estimate = replace(result.estimate, timings_s={"predict": 0.1, "align": 0.02, "total": 0.12})
    observation = replace(result.observation, arrived_s=time.monotonic() - 0.5)
    result = replace(result, estimate=estimate, observation=observation)
    result.stages_s["depth message"] = 0.01
    [output] = [one for one in OUTPUTS if one.name == "alignment"]
    message = output.make(result)
    assert message.latency >= 0.5
    stages = {stage.name: stage.seconds for stage in message.stages}
    assert stages.keys() == {"wait", "predict", "align", "depth message"}
    assert sum(stages.values()) == pytest.approx(message.latency)


def test_the_range_of_the_colours_is_as_set() -> None:
    depth = np.array([[0.4, 0.6, 0.9]], np.float32)
    parameters = NodeParameters(depth_color_min_m=0.3, depth_color_max_m=1.0)
    [output] = [one for one in OUTPUTS if one.name == "depth_color"]
    told = np.frombuffer(output.make(result_of(depth, parameters)).data, np.uint8)
    np.testing.assert_array_equal(told.reshape(1, 3, 3), colored(depth, 0.3, 1.0))


def test_a_slow_lazy_output_delays_no_depth_and_keeps_the_newest(node: LifecycleNode) -> None:
    slow, statistics = Slow(), Statistics()
    lazy = Output("slow", String, slow, "waits", lazy=True)
    outputs = outputs_beside(node, lazy, statistics=statistics)
    eventually(lambda: node.count_subscribers("slow") and node.count_publishers("slow"))
    for stamp in range(1, 9):
        publish(outputs, stamp)
    assert statistics.snapshot().streams["dkt/depth"].count == 8, "while the first is not made"
    slow.go.set()
    eventually(lambda: slow.made[-1:] == [8])
    assert len(slow.made) <= 2, "the one under way, then the newest"
    outputs.destroy()


def test_colour_goes_with_every_depth_however_busy_the_lazy_outputs_are(
    node: LifecycleNode,
) -> None:
    slow, statistics = Slow(), Statistics()
    lazy = Output("slow", String, slow, "waits", lazy=True)
    for topic in ("dkt/color", "dkt/depth_mm"):
        node.create_subscription(Image, topic, lambda message: None, 1)
    outputs = outputs_beside(node, lazy, statistics=statistics)

    def heard() -> bool:
        publish(outputs, 1)
        return {"dkt/color", "dkt/depth_mm"} <= statistics.snapshot().streams.keys()

    eventually(heard)
    before = {name: stream.count for name, stream in statistics.snapshot().streams.items()}
    for stamp in range(2, 10):
        publish(outputs, stamp)
    after = statistics.snapshot().streams
    for topic in ("dkt/depth", "dkt/color", "dkt/depth_mm"):
        assert after[topic].count == before[topic] + 8, topic
    assert "dkt/normals" not in after, "nobody listens"
    slow.go.set()
    outputs.destroy()


@pytest.mark.parametrize("organized", [True, False])
@pytest.mark.parametrize(
    ("given", "row", "said"),
    [
        ({"crop_box": "-9 9 -9 9 5 6"}, (1, 1, 1), "lies in crop_box, -9 9 -9 9 5 6 m in camera"),
        ({"crop_box": "-9 9 -9 9 0 9"}, (1, 1, 1), ""),
        ({}, (1, 1, 1), ""),
        ({"crop_box": "-9 9 -9 9 5 6"}, (np.nan, np.nan, np.nan), ""),
        ({"crop_box": "-9 9 -9 9 0 9", "points_max_jump": 0.5}, (1, 2, 1), "points_max_jump, 0.5:"),
        ({"points_stride": 3}, (np.nan, 1, 1), "at the pixels that points_stride, 3, takes"),
    ],
)
def test_a_cloud_without_points_is_told(
    node: LifecycleNode, given: dict[str, Any], row: Sequence[float], said: str, organized: bool
) -> None:
    """By what has emptied it, such as a box that was measured in another frame."""
    reports: list[tuple[str, str]] = []
    statistics = Statistics()
    parameters = NodeParameters(points_organized=organized, **given)
    node.create_subscription(PointCloud2, "dkt/points", lambda message: None, 1)
    outputs = Outputs(
        node, parameters, statistics, lambda *one: reports.append(one), lambda *one: None
    )

    def came() -> bool:
        publish(outputs, 1, row)
        return "dkt/points" in statistics.snapshot().streams

    eventually(came)
    outputs.destroy()
    told = dict(reports)
    assert said in told.get("empty cloud", "")
    assert ("empty cloud" in told) == bool(said)


def test_a_tf_frame_without_tf2_is_refused(
    node: LifecycleNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tf2_ros", None)
    parameters = NodeParameters(crop_box="0 1 0 1 0 1", crop_frame="base_link")
    with pytest.raises(DktError, match="tf2_ros, which is not installed here"):
        Outputs(node, parameters, Statistics(), lambda *r: None, lambda *r: None)


def test_a_failing_lazy_output_is_named_and_depth_counts(
    node: LifecycleNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outputs_module, "FAILED_S", 1e9)
    slow, statistics, failures = Slow(), Statistics(), []
    slow.go.set()
    slow.failure = ImportError("no open3d")
    broken = Output("slow", String, slow, "fails", lazy=True)
    outputs = outputs_beside(
        node,
        broken,
        statistics=statistics,
        fails=lambda cause, text: failures.append((cause, text)),
    )
    eventually(lambda: node.count_subscribers("slow") and node.count_publishers("slow"))
    publish(outputs, 1)
    eventually(lambda: outputs.error)
    assert failures == [("publishing failed", "slow failed: ImportError: no open3d")]
    assert statistics.snapshot().streams["dkt/depth"].count == 1
    slow.failure = None
    publish(outputs, 2)
    eventually(lambda: slow.made == [2] and not outputs.error)
    outputs.destroy()


def test_a_topic_whose_readers_cannot_be_counted_is_named_and_the_thread_goes_on(
    node: LifecycleNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, failures = Slow(), []
    slow.go.set()
    lazy = Output("slow", String, slow, "fails", lazy=True)
    outputs = outputs_beside(node, lazy, fails=lambda *report: failures.append(report))
    eventually(lambda: node.count_subscribers("slow") and node.count_publishers("slow"))
    is_heard = outputs.is_heard

    def broken(topic: str) -> bool:
        if topic == "slow" and threading.current_thread().name == "dkt_outputs":
            monkeypatch.undo()
            raise RuntimeError("no count")
        return is_heard(topic)

    monkeypatch.setattr(outputs, "is_heard", broken)
    publish(outputs, 1)
    eventually(lambda: failures)
    assert failures == [("publishing failed", "slow failed: RuntimeError: no count")]
    publish(outputs, 2)
    eventually(lambda: slow.made == [2])
    outputs.destroy()


@pytest.mark.parametrize("because", ["nobody listens", "no mask comes any more"])
def test_a_failure_that_is_not_tried_again_is_not_told_for_ever(
    node: LifecycleNode, monkeypatch: pytest.MonkeyPatch, because: str
) -> None:
    slow = Slow()
    slow.go.set()
    slow.failure = DktError("mask of 100x50 pixels")
    outputs = outputs_beside(node, Output("slow", String, slow, "fails", lazy=True))
    eventually(lambda: node.count_subscribers("slow") and node.count_publishers("slow"))
    publish(outputs, 1)
    eventually(lambda: outputs.error == "slow failed: mask of 100x50 pixels")
    if because == "nobody listens":
        for subscription in list(node.subscriptions):
            node.destroy_subscription(subscription)
    else:
        monkeypatch.setattr(outputs_module, "FAILED_S", 0.0)
    eventually(lambda: not outputs.error)
    outputs.destroy()


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"height": 0, "data": b""}, "mask: image size"),
        ({"data": b""}, "mask: truncated image"),
        ({"encoding": ""}, "mask: unsupported encoding"),
    ],
)
def test_a_mask_without_pixels_is_told_apart_from_frames_and_costs_none(
    node: LifecycleNode, change: dict[str, Any], cause: str
) -> None:
    reports: list[tuple[str, str]] = []
    statistics = Statistics()
    outputs = Outputs(
        node,
        NodeParameters(),
        statistics,
        lambda *report: reports.append(report),
        lambda *report: None,
    )
    message = mask_to_image(np.ones((2, 3), np.uint8), make_header(1, "camera"))
    for name, value in change.items():
        setattr(message, name, value)
    outputs.on_mask(message)
    assert [one for one, text in reports if text.startswith("mask dropped: ")] == [cause]
    assert not any("camera's driver" in text for _, text in reports)
    assert not statistics.snapshot().drops
    outputs.destroy()


@pytest.mark.parametrize(
    ("lag", "frame_id", "cause", "said"),
    [
        (0, "camera", "", ""),
        (0, "", "", ""),
        (0, "left", "mask of another camera", "the mask has frame_id 'left', the colour image 'c"),
        (KEPT + 2, "camera", "mask without depth", "masks come after the depth of their stamp"),
        (-(10**9), "camera", "mask without depth", "no depth has"),
    ],
)
def test_masks_of_which_no_or_a_wrong_object_is_made_are_told_to_who_waits_for_one(
    node: LifecycleNode, lag: int, frame_id: str, cause: str, said: str
) -> None:
    """A segmenter that takes longer than its images' depth waits, or that reads other images."""
    period_ns = 10**8
    reports: list[tuple[str, str]] = []
    outputs = Outputs(
        node,
        NodeParameters(),
        Statistics(),
        lambda *report: reports.append(report),
        lambda *report: None,
    )

    def play() -> None:
        for stamp in range(1, 2 * KEPT_MASKS):
            publish(outputs, period_ns * stamp)
            if stamp > lag:
                mask = np.ones((2, 3), np.uint8)
                header = make_header(period_ns * (stamp - lag), frame_id)
                outputs.on_mask(mask_to_image(mask, header))

    play()
    assert reports == [], "nobody waits for objects"
    node.create_subscription(PointCloud2, "dkt/object_points", lambda message: None, 1)
    eventually(lambda: outputs.is_heard("dkt/object_points"))
    play()
    assert {one for one, _ in reports} == ({cause} if cause else set())
    assert all(text.startswith(said) for _, text in reports)
    outputs.destroy()


def test_where_the_process_is_ending_nothing_is_sent_and_nothing_said(node: LifecycleNode) -> None:
    slow, begun, failures = Slow(), threading.Event(), []

    def make(result: Any) -> String:
        begun.set()
        return slow(result)

    lazy = Output("slow", String, make, "waits", lazy=True)
    last = Output("last", String, slow, "comes after it", lazy=True)
    outputs = outputs_beside(node, lazy, last, fails=lambda *report: failures.append(report))
    eventually(lambda: node.count_subscribers("slow") and node.count_publishers("slow"))
    publish(outputs, 1)
    assert begun.wait(PATIENCE_S)
    node.context.try_shutdown()
    slow.go.set()
    outputs.wind_down()
    assert slow.made == [1]
    assert not outputs.is_heard("last")
    publish(outputs, 2)
    assert failures == []


READER = """
import rclpy
from sensor_msgs.msg import Image
from std_msgs.msg import String
rclpy.init()
node = rclpy.create_node("hung")
node.create_subscription(Image, "dkt/depth", lambda message: None, 5)
node.create_subscription(String, "slow", lambda message: None, 5)
rclpy.spin(node)
"""


def test_a_reader_whose_process_stands_still_is_told_and_holds_up_clouds_alone(
    node: LifecycleNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outputs_module, "HANGS_AFTER_S", 0.5)
    monkeypatch.setattr(outputs_module, "HELD_PERIOD_S", 1e9)
    slow, statistics = Slow(), Statistics()
    slow.go.set()
    lazy = Output("slow", String, slow, "waits", lazy=True)
    outputs = outputs_beside(node, lazy, statistics=statistics)
    node.trigger_configure()
    node.trigger_activate()
    stamps = itertools.count(1)

    def publish_until(condition: Callable[[], Any]) -> None:
        def met() -> Any:
            publish(outputs, next(stamps))
            time.sleep(0.02)
            return condition()

        eventually(met)

    reader = subprocess.Popen([sys.executable, "-c", READER])
    try:
        eventually(
            lambda: node.count_subscribers("dkt/depth") and node.count_subscribers("slow") == 2
        )
        publish_until(lambda: len(slow.made) > 10)
        # A node's name comes by a message of its own, after its subscriptions.
        eventually(lambda: "hung" in node.get_node_names())
        assert outputs.hanging() == {}
        reader.send_signal(signal.SIGSTOP)
        publish_until(lambda: outputs.hanging().keys() == {"dkt/depth", "slow"})
        assert outputs.hanging()["dkt/depth"][1] == ("/hung",)
        before, depths = len(slow.made), statistics.snapshot().streams["dkt/depth"].count
        for _ in range(10):
            publish(outputs, next(stamps))
            time.sleep(0.02)
        assert len(slow.made) <= before + 1, "the one under way"
        assert statistics.snapshot().streams["dkt/depth"].count == depths + 10
        reader.send_signal(signal.SIGCONT)
        publish_until(lambda: not outputs.hanging())
        publish_until(lambda: len(slow.made) > before + 1)
    finally:
        reader.kill()
        reader.wait()
        outputs.destroy()


def test_the_states_have_the_messages_numbers() -> None:
    for state in AlignmentState:
        assert getattr(ScaleAlignment, state.name) == state.value


def scale_alignment(alignment: Alignment, window: int) -> ScaleAlignment:
    header = make_header(9, "camera")
    return ScaleAlignment(header=header, **alignment_fields(alignment, window))


def test_an_alignment_becomes_a_message() -> None:
    alignment = Alignment(2.5, -0.25, 321, 0.75, 0.0035, 0.01, AlignmentState.HELD, "few pixels")
    message = scale_alignment(alignment, 5)
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
    message = scale_alignment(alignment, 1)
    assert np.isnan([message.scale, message.shift, message.residual]).all()
    assert message.uncertainty == np.inf


def test_colours_are_fixed_to_depth_and_black_is_unknown() -> None:
    depth = np.array([[np.nan, 0.2, 1.1, 2.0, 0.05, 50.0]], dtype=np.float32)
    picture = colored(depth, 0.2, 2.0)
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
    np.testing.assert_array_equal(picture, colored(depth, 0.2, 2.0))
