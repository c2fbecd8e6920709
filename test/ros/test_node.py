"""The node as its users meet it: camera, node and planner in three processes over real DDS.

One node process serves most tests; each test uses later stamps than the one before, unless time
running back is what it is about.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("dkt_ros.msg", reason="needs the generated messages: make build")

from diagnostic_msgs.msg import DiagnosticStatus
from dkt_ros.msg import ScaleAlignment
from fixtures.camera_process import FOCAL_PX, FRAME_ID
from fixtures.red_network import SCALE, SHIFT, depth_of
from fixtures.three_processes import (
    ROOT,
    START_PATIENCE_S,
    CameraProcess,
    NodeProcess,
    Planner,
    closing,
)
from fixtures.tiny_checkpoint import make_tiny_checkpoint
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import DescribeParameters, SetParametersAtomically
from sensor_msgs.msg import Image, PointCloud2

from examples.planner_subscriber import PlannerSubscriber, Scene, nearest_point

pytestmark = [pytest.mark.ros, pytest.mark.flaky(reruns=2)]

HEIGHT, WIDTH = 64, 96
STEP_NS = 33_333_333


def picture() -> npt.NDArray[np.uint8]:
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    channels = [40 + 2 * x, 200 - 2 * y, 90 + x + y]
    return np.stack(channels, axis=-1).clip(0, 255).astype(np.uint8)


def sensor_depths(checkpoint: Path) -> dict[int, npt.NDArray[np.float32]]:
    """The raw depth that SCALE and SHIFT relate to the network's disparity of a still clip.

    Clips of 1 and of 5 frames, the lengths that a buffer of 5 gives.
    """
    import torch

    from dkt_ros.model.checkpoint import load_checkpoint
    from dkt_ros.model.fast_network import FastNetwork
    from dkt_ros.predict.clip import predict_disparity

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    network = FastNetwork(load_checkpoint(checkpoint))
    disparities = {n: predict_disparity(network, np.stack([picture()] * n))[-1] for n in (1, 5)}
    torch.set_num_threads(threads)
    return {n: (1.0 / (SCALE * d + SHIFT)).astype(np.float32) for n, d in disparities.items()}


def with_hole(depth: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    holed = depth.copy()
    holed[20:40, 30:60] = np.nan
    return holed


@dataclass
class Rig:
    """The three processes and the depth that a sensor would see for a clip of n frames."""

    node: NodeProcess
    camera: CameraProcess
    planner: Planner
    truth: dict[int, npt.NDArray[np.float32]]
    now_ns: int = 1_700_000_000 * 10**9
    name: str = "/dkt_node"

    def __post_init__(self) -> None:
        # Once the node has answered the client made last, it knows all of them.
        self.planner.client(ChangeState, f"{self.name}/change_state")
        self.planner.client(SetParametersAtomically, f"{self.name}/set_parameters_atomically")
        self.planner.client(DescribeParameters, f"{self.name}/describe_parameters")
        last = self.planner.client(GetState, f"{self.name}/get_state")
        self.planner.wait_until(last.service_is_ready, "service of the node", START_PATIENCE_S)
        self.state()

    def next_stamp(self) -> int:
        self.now_ns += STEP_NS
        return self.now_ns

    def show(self, depth: npt.NDArray[Any] | None = None, **changes: Any) -> int:
        stamp = self.next_stamp()
        self.camera.show(stamp, picture(), self.truth[1] if depth is None else depth, **changes)
        return stamp

    def exchange(self, depth: npt.NDArray[Any] | None = None, **changes: Any) -> int:
        """Shows a frame and waits for everything that the node makes of it."""
        stamp = self.next_stamp()
        self.deliver(stamp, picture(), self.truth[1] if depth is None else depth, **changes)
        return stamp

    def deliver(
        self, stamp: int, rgb: npt.NDArray[np.uint8], depth: npt.NDArray[Any], **changes: Any
    ) -> None:
        """Shows a frame until the node's outputs for it are there.

        The node drops whatever half of the frame it has already.
        """

        def show() -> None:
            self.camera.show(stamp, rgb, depth, **changes)

        planner = self.planner
        kept = (planner.depth, planner.camera_info, planner.alignment)
        show()
        planner.wait_until(lambda: all(stamp in messages for messages in kept), "depth", again=show)

    def new_stream(self) -> None:
        """So long a gap that the node starts anew."""
        self.now_ns += 60 * 10**9

    def change_state(self, transition: int) -> bool:
        request = ChangeState.Request(transition=Transition(id=transition))
        name = f"{self.name}/change_state"
        return bool(self.planner.call(ChangeState, name, request, START_PATIENCE_S).success)

    def state(self) -> str:
        name = f"{self.name}/get_state"
        response = self.planner.call(
            GetState, name, GetState.Request(), START_PATIENCE_S, repeatable=True
        )
        return str(response.current_state.label)

    def set(self, **values: float | int | str | bool) -> Any:
        """Sets parameters together; returns the result with successful and reason."""
        parameters = [Parameter(name=name, value=as_value(v)) for name, v in values.items()]
        request = SetParametersAtomically.Request(parameters=parameters)
        name = f"{self.name}/set_parameters_atomically"
        return self.planner.call(SetParametersAtomically, name, request, repeatable=True).result


def as_value(value: float | int | str | bool) -> ParameterValue:
    if isinstance(value, bool):
        return ParameterValue(type=ParameterType.PARAMETER_BOOL, bool_value=value)
    if isinstance(value, int):
        return ParameterValue(type=ParameterType.PARAMETER_INTEGER, integer_value=value)
    if isinstance(value, float):
        return ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=value)
    return ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=value)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


def node_arguments(checkpoint: Path, **parameters: object) -> list[str]:
    given: dict[str, object] = {
        "checkpoint": checkpoint,
        "device": "cpu",
        "cpu_threads": 1,
        "depth": "network",
        "diagnostics_period_s": 0.2,
        "image_timeout_s": 1.0,
    }
    given |= parameters
    return [word for name, value in given.items() for word in ("-p", f"{name}:={value}")]


@pytest.fixture(scope="module")
def rig(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("rig")
    topics = ("/color/image", "/depth/image", "/color/camera_info")
    with closing(NodeProcess(folder / "node.log", *node_arguments(checkpoint))) as node:
        truth = sensor_depths(checkpoint)
        with closing(Planner()) as planner, closing(CameraProcess(folder, *topics)) as camera:
            rig = Rig(node, camera, planner, truth)
            wait_until_heard(rig)
            yield rig


def as_array(message: Image | PointCloud2, dtype: str, *shape: int) -> npt.NDArray[Any]:
    return np.frombuffer(message.data, dtype=dtype).reshape(shape)


def test_every_window_gives_one_depth_under_the_colour_stamp(rig: Rig) -> None:
    """Clips of 1, 1, 1, 1 and 5 frames; all pixels within 1 mm of what the sensor would see."""
    rig.new_stream()
    before = rig.planner.counts["depth"]
    stamps, windows = [], [1, 1, 1, 1, 5]
    for window in windows:
        stamp = rig.exchange(with_hole(rig.truth[window]))
        stamps.append(stamp)
        depth = rig.planner.depth[stamp]
        assert depth.header.frame_id == FRAME_ID
        assert (depth.encoding, depth.step, depth.is_bigendian) == ("32FC1", 4 * WIDTH, 0)
        assert (depth.height, depth.width) == (HEIGHT, WIDTH)
        alignment = rig.planner.alignment[stamp]
        assert alignment.header == depth.header
        assert alignment.state == ScaleAlignment.OK, alignment.reason
        assert alignment.window == window
        error = np.abs(as_array(depth, "<f4", HEIGHT, WIDTH) - rig.truth[window])
        assert np.nanmax(error) < 1e-3, f"clip of {window}"
    rig.planner.spin_for(0.3)
    assert rig.planner.counts["depth"] - before == len(stamps)


def test_camera_info_pairs_with_depth(rig: Rig) -> None:
    stamp = rig.exchange()
    info, depth = rig.planner.camera_info[stamp], rig.planner.depth[stamp]
    assert info.header == depth.header
    assert (info.height, info.width) == (depth.height, depth.width)
    assert info.k[0] == FOCAL_PX


def test_alignment_says_what_was_done(rig: Rig) -> None:
    rig.new_stream()
    stamp = rig.exchange()
    alignment = rig.planner.alignment[stamp]
    assert alignment.scale == pytest.approx(SCALE, rel=0.01)
    assert alignment.shift == pytest.approx(SHIFT, abs=0.02)
    assert alignment.inliers > 1000
    assert 0.9 < alignment.inlier_ratio <= 1.0
    assert alignment.residual < 1e-3
    assert alignment.reason == ""
    stages = {stage.name: stage.seconds for stage in alignment.stages}
    published = ["camera_info message", "depth message"]
    assert list(stages) == ["wait", "predict", "align", "convert", *published]
    assert all(seconds >= 0 for seconds in stages.values())
    assert sum(stages.values()) == pytest.approx(alignment.latency, rel=0.01)


def test_unknown_is_nan_when_there_is_no_scale(rig: Rig) -> None:
    rig.new_stream()
    stamp = rig.exchange(np.full((HEIGHT, WIDTH), np.nan, dtype=np.float32))
    alignment = rig.planner.alignment[stamp]
    assert alignment.state == ScaleAlignment.UNALIGNED
    assert alignment.reason
    assert np.isnan(alignment.scale)
    assert np.isnan(as_array(rig.planner.depth[stamp], "<f4", HEIGHT, WIDTH)).all()


def test_millimetres_and_metres_give_the_same_depth(rig: Rig) -> None:
    rig.new_stream()
    metres = rig.exchange()
    rig.new_stream()
    millimetres = rig.exchange(np.round(rig.truth[1] * 1000).astype(np.uint16))
    depths = [
        as_array(rig.planner.depth[stamp], "<f4", HEIGHT, WIDTH) for stamp in (metres, millimetres)
    ]
    np.testing.assert_allclose(depths[0], depths[1], atol=1e-3)


def test_the_cloud_is_laid_out_as_others_read_it(rig: Rig) -> None:
    rig.new_stream()
    stamp = rig.exchange()
    cloud = rig.planner.wait_until(lambda: rig.planner.points.get(stamp), "cloud")
    depth = as_array(rig.planner.depth[stamp], "<f4", HEIGHT, WIDTH)
    assert cloud.header == rig.planner.depth[stamp].header
    assert [(f.name, f.offset, f.datatype, f.count) for f in cloud.fields] == [
        ("x", 0, 7, 1),
        ("y", 4, 7, 1),
        ("z", 8, 7, 1),
        ("rgb", 16, 7, 1),
    ]
    assert (cloud.height, cloud.width) == (HEIGHT, WIDTH)
    assert (cloud.point_step, cloud.row_step, cloud.is_dense) == (32, 32 * WIDTH, False)
    xyz = as_array(cloud, "<f4", HEIGHT, WIDTH, 8)[..., :3]
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    np.testing.assert_array_equal(xyz[..., 2], depth)
    np.testing.assert_allclose(
        xyz[..., 0], (x - (WIDTH - 1) / 2) / FOCAL_PX * depth, rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(
        xyz[..., 1], (y - (HEIGHT - 1) / 2) / FOCAL_PX * depth, rtol=1e-5, atol=1e-6
    )
    colour = as_array(cloud, "u1", HEIGHT, WIDTH, 32)[..., 16:20]
    np.testing.assert_array_equal(colour[..., 2::-1], picture())
    assert not colour[..., 3].any()


def test_the_picture_for_people(rig: Rig) -> None:
    stamp = rig.exchange()
    picture_ = rig.planner.wait_until(lambda: rig.planner.depth_color.get(stamp), "picture")
    assert (picture_.encoding, picture_.step) == ("rgb8", 3 * WIDTH)
    assert as_array(picture_, "u1", HEIGHT, WIDTH, 3).any(axis=-1).all(), "all depth is known"


def test_the_example_of_a_planner_plans_on_what_it_can_trust(rig: Rig) -> None:
    """examples/planner_subscriber.py, as a second node beside this test's planner."""
    scenes: dict[int, Scene] = {}

    def plan(scene: Scene) -> None:
        scenes[scene.stamp.sec * 10**9 + scene.stamp.nanosec] = scene

    subscriber = PlannerSubscriber(plan, context=rig.planner.context)
    rig.planner.executor.add_node(subscriber)
    try:
        rig.new_stream()
        shown: list[int] = []

        def heard() -> bool:
            shown.append(rig.exchange())
            return any(stamp in scenes for stamp in shown)

        rig.planner.wait_until(heard, "scene")
        scene = scenes[max(scenes)]
        nearest = nearest_point(scene)
        assert nearest is not None
        assert nearest[2] == pytest.approx(rig.truth[1].min(), abs=2e-3)
        assert (scene.frame_id, scene.fx) == (FRAME_ID, FOCAL_PX)
        rig.new_stream()
        unknown = rig.exchange(np.full((HEIGHT, WIDTH), np.nan, dtype=np.float32))
        rig.planner.spin_for(0.3)
        assert unknown not in scenes
    finally:
        rig.planner.executor.remove_node(subscriber)
        subscriber.destroy_node()


def test_a_looped_bag_starts_anew(rig: Rig) -> None:
    """The same five stamps three times over; from the second round on time runs back."""
    rig.new_stream()
    start = rig.now_ns
    for _ in range(3):
        rig.now_ns = start
        rig.planner.alignment.clear()
        rig.planner.depth.clear()
        stamps = [rig.exchange(rig.truth[window]) for window in (1, 1, 1, 1, 5)]
        windows = [rig.planner.alignment[stamp].window for stamp in stamps]
        assert windows == [1, 1, 1, 1, 5]
    flushed = "flushed: stamps ran backwards"
    assert rig.planner.status("inference", lambda s: int(keys(s).get(flushed, "0")) >= 2)


def test_a_gap_starts_anew(rig: Rig) -> None:
    rig.new_stream()
    for _ in range(4):
        rig.exchange()
    assert rig.planner.alignment[rig.exchange()].window == 5
    rig.new_stream()
    assert rig.planner.alignment[rig.exchange()].window == 1


def test_a_new_image_size_starts_anew(rig: Rig) -> None:
    rig.new_stream()
    for _ in range(5):
        stamp = rig.exchange()
    assert rig.planner.alignment[stamp].window == 5
    stamp = rig.next_stamp()
    rig.deliver(stamp, picture()[:48], rig.truth[1][:48])
    assert rig.planner.alignment[stamp].window == 1
    assert rig.planner.depth[stamp].height == 48


@pytest.mark.parametrize(("kind", "said"), [("color", "9216 bytes"), ("depth", "12288 bytes")])
def test_a_broken_message_is_named_and_the_next_frame_works(rig: Rig, kind: str, said: str) -> None:
    broken = [rig.show(truncate=kind)]
    status = rig.planner.status(
        "input",
        lambda s: f"holds {said}, expected" in s.message,
        again=lambda: broken.append(rig.show(truncate=kind)),
    )
    assert status.level in (DiagnosticStatus.WARN, DiagnosticStatus.ERROR)
    rig.exchange()
    assert not rig.planner.depth.keys() & set(broken)
    assert rig.node.process.poll() is None


def test_colour_alone_gives_nothing_and_says_so(rig: Rig) -> None:
    stamps = []

    def says_so(status: DiagnosticStatus) -> bool:
        stamps.append(rig.next_stamp())
        rig.camera.show(stamps[-1], picture(), None)
        return "no message on /depth/image" in status.message

    status = rig.planner.status("input", says_so)
    assert status.level == DiagnosticStatus.WARN
    assert "it has a publisher" in status.message
    logged = re.compile(r"input: no message on .*/depth/image for")
    rig.planner.wait_until(lambda: logged.search(rig.node.output()), "line in the log")
    assert not rig.planner.depth.keys() & set(stamps)
    rig.exchange()


def test_diagnostics_carry_the_numbers_an_operator_needs(rig: Rig) -> None:
    rig.exchange()
    status = rig.planner.status("inference", lambda s: "depth images per second" in s.message)
    values = keys(status)
    assert values["checkpoint"] == "tiny-random"
    assert values["device"] == "cpu"
    assert int(values["depth images"]) > 10
    for stage in ("predict", "align", "convert", "total", "depth message", "points message"):
        assert f"{stage} (ms, mean and max)" in values
    values = keys(rig.planner.status("input", lambda s: True))
    assert values["color topic"] == "/color/image"
    assert values["depth publishers"] == "1"
    assert int(values["frames accepted"]) > 10
    assert int(values["dropped: truncated image"]) >= 2
    rig.new_stream()
    rig.exchange()
    rig.planner.status(
        "alignment",
        lambda s: (
            s.level == DiagnosticStatus.OK
            and float(keys(s)["scale (1/m)"]) == pytest.approx(SCALE, rel=0.05)
        ),
        again=rig.exchange,
    )
    assert rig.planner.status("lifecycle", lambda s: s.message == "active")


def keys(status: DiagnosticStatus) -> dict[str, str]:
    return {pair.key: pair.value for pair in status.values}


def test_a_parameter_that_acts_at_once_does(rig: Rig) -> None:
    rig.new_stream()
    truth = rig.truth[1]
    limit = float(np.median(truth))
    assert rig.set(max_depth_m=limit).successful
    stamp = rig.exchange()
    depth = as_array(rig.planner.depth[stamp], "<f4", HEIGHT, WIDTH)
    assert np.nanmax(depth) <= limit
    assert np.isnan(depth[truth > limit + 1e-3]).all()
    assert np.isfinite(depth[truth < limit - 1e-3]).all()
    assert rig.set(points_organized=False, points_voxel_m=0.05).successful
    stamp = rig.exchange()
    cloud = rig.planner.wait_until(lambda: rig.planner.points.get(stamp), "cloud")
    assert (cloud.height, cloud.is_dense) == (1, True)
    assert 0 < cloud.width < 500
    assert np.isfinite(as_array(cloud, "<f4", cloud.width, 8)).all()
    assert rig.set(points_organized=True, points_voxel_m=0.0, max_depth_m=10.0).successful


def test_a_parameter_that_cannot_act_is_refused(rig: Rig) -> None:
    result = rig.set(checkpoint="/elsewhere")
    assert not result.successful
    assert "acts when the node is configured" in result.reason


def test_parameters_are_described(rig: Rig) -> None:
    request = DescribeParameters.Request(names=["max_depth_m"])
    name = f"{rig.name}/describe_parameters"
    answer = rig.planner.call(DescribeParameters, name, request, repeatable=True)
    descriptor = answer.descriptors[0]
    assert descriptor.description == "Farther depth becomes NaN."
    assert descriptor.floating_point_range[0].to_value == 1000.0


def test_lifecycle_by_service(rig: Rig) -> None:
    assert rig.state() == "active"
    assert rig.change_state(Transition.TRANSITION_DEACTIVATE)
    assert rig.state() == "inactive"
    rig.planner.status("lifecycle", lambda s: s.level == DiagnosticStatus.WARN)
    missed = rig.show()
    rig.planner.spin_for(0.3)
    assert missed not in rig.planner.depth

    assert rig.change_state(Transition.TRANSITION_CLEANUP)
    assert rig.set(checkpoint="/nowhere").successful
    assert not rig.change_state(Transition.TRANSITION_CONFIGURE)
    assert rig.state() == "unconfigured"
    status = rig.planner.status("lifecycle", lambda s: s.level == DiagnosticStatus.ERROR)
    assert "checkpoint /nowhere does not exist" in status.message


def test_lifecycle_recovers(rig: Rig, checkpoint: Path) -> None:
    assert rig.set(checkpoint=str(checkpoint), buffer_frames=1).successful
    assert rig.change_state(Transition.TRANSITION_CONFIGURE)
    for _ in range(2):
        assert rig.change_state(Transition.TRANSITION_ACTIVATE)
        assert rig.change_state(Transition.TRANSITION_DEACTIVATE)
    assert rig.change_state(Transition.TRANSITION_ACTIVATE)
    rig.new_stream()
    wait_until_heard(rig)
    stamps = [rig.exchange() for _ in range(5)]
    assert [rig.planner.alignment[stamp].window for stamp in stamps] == [1] * 5


def test_fused_depth_goes_out_with_its_source_and_confidence(rig: Rig) -> None:
    for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP):
        assert rig.change_state(transition)
    assert rig.set(depth="fused").successful
    for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
        assert rig.change_state(transition)
    rig.new_stream()
    wait_until_heard(rig)
    raw = with_hole(rig.truth[1])
    stamp, planner = rig.exchange(raw), rig.planner
    planner.wait_until(lambda: stamp in planner.confidence and stamp in planner.source, "maps")
    size = HEIGHT, WIDTH
    depth = as_array(planner.depth[stamp], "<f4", *size)
    confidence = as_array(planner.confidence[stamp], "<f4", *size)
    source = as_array(planner.source[stamp], "u1", *size)
    known = np.isfinite(raw)
    assert np.isfinite(depth).all()
    assert set(np.unique(source)) <= {1, 2}
    assert (source[~known] == 2).all()
    assert (depth[known] == raw[known]).mean() > 0.5
    assert 0 <= confidence.min() < confidence.max() <= 1
    said = planner.alignment[stamp]
    assert said.state in (ScaleAlignment.OK, ScaleAlignment.SENSOR)
    assert said.share_sensor == pytest.approx((source == 1).mean(), abs=1e-6)
    assert said.share_network == pytest.approx((source == 2).mean(), abs=1e-6)
    assert "fuse" in [stage.name for stage in said.stages]


def wait_until_heard(rig: Rig) -> None:
    """Shows frames until one has come through on every topic: before discovery all is lost."""
    planner = rig.planner
    shown = []

    def heard() -> bool:
        assert rig.node.process.poll() is None, rig.node.output()
        shown.append(rig.show())
        planner.spin_for(0.5)
        return any(all(stamp in kept for kept in planner.messages.values()) for stamp in shown)

    planner.wait_until(heard, "frame on every topic", START_PATIENCE_S)
    rig.exchange()  # and with it, whatever was shown before is done


def test_a_second_camera_in_a_namespace(
    rig: Rig, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each node hears its own camera only; compressed transports; states set by service.

    What it was started with is wrong, and its network is not there.
    """
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "test"), prepend=os.pathsep)
    arguments = node_arguments(
        tmp_path / "none",
        max_deph_m=3.0,
        color_transport="compressed",
        depth_transport="compressedDepth",
    )
    topics = ("color/image/compressed", "depth/image/compressedDepth", "color/camera_info")
    truth = depth_of(picture())
    depth = np.round(truth * 1000).astype(np.uint16)
    with (
        closing(NodeProcess(tmp_path / "left.log", "-r", "__ns:=/left", *arguments)) as node,
        closing(Planner("/left")) as planner,
        closing(CameraProcess(tmp_path, *[f"/left/{topic}" for topic in topics])) as camera,
    ):
        left = Rig(node, camera, planner, {1: depth}, rig.next_stamp(), "/left/dkt_node")
        status = planner.status(
            "lifecycle", lambda s: s.level == DiagnosticStatus.ERROR, timeout_s=START_PATIENCE_S
        )
        assert "does not exist; make one with `dkt convert`" in status.message
        assert "parameter max_deph_m is not known" in node.output()
        assert left.state() == "unconfigured"
        red = "fixtures.red_network:load"
        assert left.set(checkpoint=str(checkpoint), predictor=red).successful
        assert left.change_state(Transition.TRANSITION_CONFIGURE)
        assert left.change_state(Transition.TRANSITION_ACTIVATE)
        wait_until_heard(left)
        stamp = left.exchange()
        seen = as_array(left.planner.depth[stamp], "<f4", HEIGHT, WIDTH)
        np.testing.assert_allclose(seen, truth, atol=2e-3)
        rig.now_ns = stamp
        other = rig.exchange()
        rig.planner.spin_for(0.1)
        left.planner.spin_for(0.1)
        assert stamp not in rig.planner.depth
        assert other not in left.planner.depth
        left.planner.wait_until(
            lambda: f"{left.name}: input" in left.planner.statuses, "diagnostics of its own"
        )
        assert node.interrupt() == 0


def test_ctrl_c_ends_the_node_cleanly(rig: Rig) -> None:
    """The last test of the rig: it takes the node down, in the middle of its work."""
    rig.show()
    assert rig.node.interrupt() == 0
    assert "Traceback" not in rig.node.output()
