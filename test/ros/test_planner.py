"""dkt_planner beside dkt_node, both processes of their own: a scene in, grasps out."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("dkt_ros.srv", reason="needs the generated services: make build")

from dkt_ros.msg import GraspCandidates, ScaleAlignment
from dkt_ros.srv import CaptureDepth, PlanGrasps
from fixtures.grasp_scenes import CAMERA, Box, Cylinder, View, depth_of, view
from fixtures.interrupts import heed_interrupts
from fixtures.red_rig import RedRig, red_rig
from fixtures.three_processes import PATIENCE_S, ROOT, START_PATIENCE_S, NodeProcess, closing
from geometry_msgs.msg import Pose, PoseArray, Quaternion, TransformStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.exceptions import InvalidHandle
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import Image, RegionOfInterest

from dkt_ros.errors import DktError
from dkt_ros.grasp.antipodal import GraspConfig, Gripper
from dkt_ros.messages.cameras import rotation_matrix
from dkt_ros.ros.capture import RefusedError
from dkt_ros.ros.convert.images import depth_to_image, mask_to_image
from dkt_ros.ros.convert.messages import make_header
from dkt_ros.ros.params.command_line import planner_parser
from dkt_ros.ros.params.planner_parameters import PlannerParameters
from dkt_ros.ros.params.spec import specs
from dkt_ros.ros.planner import TOPICS, DktPlanner, markers
from dkt_ros.ros.transforms import quaternion

pytestmark = [pytest.mark.ros, pytest.mark.flaky(reruns=2)]

Response = PlanGrasps.Response
CAMERA_ID = "camera_color_optical_frame"
SEEN = view(0.4)
THINGS: list[Box | Cylinder] = [Box(-0.06, 0.0, (0.05, 0.1, 0.06)), Cylinder(0.08, 0.0, 0.03, 0.08)]
DEPTH = depth_of(THINGS, SEEN)
K = [CAMERA.fx, 0.0, CAMERA.cx, 0.0, CAMERA.fy, CAMERA.cy, 0.0, 0.0, 1.0]


def colors(confidence: int = 230) -> np.ndarray:
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 255, (*DEPTH.shape, 3)).astype(np.uint8)
    rgb[..., 2] = confidence
    return rgb


class Cell:
    """The rig, the planner's process and what it publishes."""

    def __init__(self, rig: RedRig, process: subprocess.Popen[bytes], log: Path) -> None:
        self.rig, self.process, self.log = rig, process, log
        self.heard: dict[str, list[Any]] = {topic: [] for topic in TOPICS}
        for topic, kind in TOPICS.items():
            if kind is not None:
                keep = self.heard[topic].append
                rig.planner.node.create_subscription(kind, f"/{topic}", keep, 10)

    def show(self, rgb: np.ndarray | None = None, depth: np.ndarray = DEPTH) -> None:
        """One frame."""
        self.rig.now_ns += 33_333_333
        rgb = colors() if rgb is None else rgb
        self.rig.camera.show(self.rig.now_ns, rgb, depth, info={"k": K})

    def plan(
        self,
        rgb: np.ndarray | None = None,
        depth: np.ndarray | Callable[[], np.ndarray] = DEPTH,
        service: str = "/dkt/plan_grasps",
        shown: Callable[[int], object] = lambda stamp_ns: None,
        **request: Any,
    ) -> Any:
        """The planner's answer while the camera shows this; `shown` is told each stamp before."""
        planner = self.rig.planner
        client = planner.client(PlanGrasps, service)
        planner.wait_until(client.service_is_ready, "planner", START_PATIENCE_S)

        def show() -> None:
            shown(self.rig.now_ns + 33_333_333)
            self.show(rgb, depth() if callable(depth) else depth)

        self.rig.settle(show)
        future = client.call_async(PlanGrasps.Request(**request))

        def answered() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            show()
            planner.spin_for(0.05)
            return bool(future.done())

        planner.wait_until(answered, "grasps", START_PATIENCE_S)
        return future.result()


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cell]:
    folder = tmp_path_factory.mktemp("cell")
    log = folder / "planner.log"
    words = ["--ros-args", "-p", "frames:=2", "-p", "timeout_s:=30.0"]
    with (
        log.open("w") as file,
        red_rig(folder, publish="on_demand", predictor="fixtures.red_network:load_raw") as rig,
    ):
        process = subprocess.Popen(
            [sys.executable, "-m", "dkt_ros.ros.planner", *words],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=file,
            stderr=subprocess.STDOUT,
            preexec_fn=heed_interrupts,
        )
        try:
            cell = Cell(rig, process, log)
            rig.planner.wait_until(
                lambda: cell.plan().status in (Response.OK, Response.NO_GRASP),
                "first plan",
                START_PATIENCE_S,
            )
            yield cell
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def in_table(grasps: GraspCandidates) -> tuple[np.ndarray, np.ndarray]:
    poses = grasps.poses
    positions = np.array([[p.position.x, p.position.y, p.position.z] for p in poses])
    turns = [p.orientation for p in poses]
    rotations = np.stack([rotation_matrix(q.x, q.y, q.z, q.w) for q in turns])
    return SEEN.to_table(positions), SEEN.rotation.T @ rotations


@pytest.fixture(scope="module")
def planned(cell: Cell) -> Any:
    """The answer for the scene."""
    return cell.plan()


def test_grasps_of_what_stands_on_the_table(cell: Cell, planned: Any) -> None:
    answer = planned
    assert answer.status == Response.OK, answer.message
    assert "left out: " in answer.message
    grasps = answer.grasps
    assert grasps.header.frame_id == "camera_color_optical_frame"
    assert len(grasps.poses) == len(grasps.scores) == len(grasps.widths) > 3
    assert list(grasps.scores) == sorted(grasps.scores, reverse=True)
    assert 0.05 < min(grasps.widths) <= max(grasps.widths) <= 0.085
    positions, rotations = in_table(grasps)
    near_box = (np.abs(positions[:, 0] + 0.06) < 0.02) & (np.abs(positions[:, 1]) < 0.06)
    near_glass = np.hypot(positions[:, 0] - 0.08, positions[:, 1]) < 0.03
    assert (near_box | near_glass).all()
    assert (near_box & ~near_glass).any()
    np.testing.assert_allclose(rotations[:, :, 2], [[0, 0, -1]] * len(positions), atol=0.02)
    assert (np.abs(rotations[near_box][:, 0, 1]) > 0.85).all(), "across the box's narrow side"
    loaded = Path(f"/proc/{cell.process.pid}/maps").read_text()
    assert "libtorch" not in loaded, "it needs no torch, which takes seconds to import"


def test_what_it_publishes_is_its_answer_the_same_for_the_same_scene(
    cell: Cell, planned: Any
) -> None:
    for messages in cell.heard.values():
        messages.clear()
    answer = cell.plan()
    assert answer.grasps.poses == planned.grasps.poses
    assert answer.grasps.widths == planned.grasps.widths
    heard = cell.heard
    wait = cell.rig.planner.wait_until
    wait(lambda: heard["dkt/grasp_candidates"][-1:] == [answer.grasps], "candidates")
    poses = PoseArray(header=answer.grasps.header, poses=answer.grasps.poses)
    wait(lambda: heard["dkt/grasps"][-1:] == [poses], "poses")
    if TOPICS["dkt/grasp_markers"] is None:
        assert "visualization_msgs is not installed: no dkt/grasp_markers" in cell.log.read_text()
    else:
        wait(lambda: heard["dkt/grasp_markers"], "markers")
        first, *rest = heard["dkt/grasp_markers"][-1].markers
        assert first.action == 3
        assert [marker.pose for marker in rest] == answer.grasps.poses
        assert all(len(marker.points) == 8 for marker in rest)


def test_a_marker_is_as_wide_as_its_grasp() -> None:
    if TOPICS["dkt/grasp_markers"] is None:
        pytest.skip("visualization_msgs is not installed")
    grasps = GraspCandidates(poses=[Pose()] * 2, scores=[0.2, 1.0], widths=[0.03, 0.08])
    _, *shown = markers(grasps, Gripper()).markers
    across = [[point.y for point in marker.points] for marker in shown]
    assert [max(y) - min(y) for y in across] == pytest.approx([0.03, 0.08])
    assert [marker.color.g for marker in shown] == pytest.approx([0.2, 1.0])


def test_depth_that_is_not_trusted_is_not_grasped(cell: Cell) -> None:
    answer = cell.plan(colors(confidence=40))
    assert answer.status == Response.NO_GRASP
    assert "depth is not trusted" in answer.message
    assert not answer.grasps.poses


def test_a_scene_that_moves_is_told(cell: Cell) -> None:
    """The camera slides over the table: no pixel tells where it is, but at the things' edges."""
    turns = count()

    def shown() -> np.ndarray:
        # Enough from any frame to the next, and never so far that the things leave the picture.
        slid = View(SEEN.rotation, SEEN.position + np.array([0.03 * (next(turns) % 5), 0, 0]))
        return depth_of(THINGS, slid)

    answer = cell.plan(depth=shown)
    assert answer.status == Response.NO_GRASP
    assert "of the depth varied by more than 0.01 m: expected camera and scene to" in answer.message


@pytest.mark.parametrize("by", ["mask", "region"])
def test_grasps_of_one_object_alone(cell: Cell, by: str) -> None:
    glass = depth_of(THINGS[1:], SEEN) < depth_of([], SEEN) - 1e-4
    if by == "mask":
        request = {"mask": mask_to_image(glass.astype(np.uint8), make_header(0, "left"))}
    else:
        rows, columns = np.nonzero(glass)
        corner = int(columns.min()), int(rows.min())
        size = int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1
        region = RegionOfInterest(
            x_offset=corner[0], y_offset=corner[1], width=size[0], height=size[1]
        )
        request = {"region": region}
    answer = cell.plan(**request)
    assert answer.status == Response.OK, answer.message
    positions, _ = in_table(answer.grasps)
    assert (np.hypot(positions[:, 0] - 0.08, positions[:, 1]) < 0.03).all()
    assert ("the mask has frame_id 'left', the colour image '" in answer.message) == (by == "mask")


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"region": RegionOfInterest(x_offset=300, width=30, height=9)}, "region is 30x9"),
        ({"mask": Image(height=1, width=2, encoding="mono8", step=2, data=b"12")}, "mask is 2x1"),
    ],
)
def test_what_cannot_be_meant_is_refused(cell: Cell, request_: dict[str, Any], said: str) -> None:
    answer = cell.plan(**request_)
    assert answer.status == Response.BAD_REQUEST
    assert said in answer.message


def test_an_empty_table_and_no_table_are_told(cell: Cell) -> None:
    answer = cell.plan(depth=depth_of([], SEEN))
    assert (answer.status, len(answer.grasps.poses)) == (Response.NO_GRASP, 0)
    assert "nothing stands over the table" in answer.message


def test_a_frame_tells_what_is_up(cell: Cell, tmp_path: Path) -> None:
    """At the depth's own stamp; without it no plane is taken for the table."""
    tell = cell.rig.planner.node.create_publisher(TransformStamped, "/tf_stand_in", 10)

    def turned(rotation: np.ndarray) -> Callable[[int], None]:
        x, y, z, w = quaternion(rotation)

        def send(stamp_ns: int) -> None:
            way = TransformStamped(header=make_header(stamp_ns, "base"), child_frame_id=CAMERA_ID)
            way.transform.rotation = Quaternion(x=x, y=y, z=z, w=w)
            tell.publish(way)

        return send

    words = ("-r", "__ns:=/up", "-r", "dkt/capture_depth:=/dkt/capture_depth")
    with pytest.MonkeyPatch.context() as patch:
        paths = (str(ROOT / "test" / "fixtures" / "tf2"), os.environ.get("PYTHONPATH", ""))
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        given = ("-p", "frames:=2", "-p", "timeout_s:=30.0", "-p", "up_frame:=base")
        planner = NodeProcess(tmp_path / "up.log", *words, *given, module="planner")
    with closing(planner):

        def plan(**how: Any) -> Any:
            return cell.plan(service="/up/dkt/plan_grasps", **how)

        level = turned(SEEN.rotation.T)
        cell.rig.planner.wait_until(
            lambda: plan(shown=level).status == Response.OK, "plan", START_PATIENCE_S
        )
        answer = plan(shown=turned(np.eye(3)))
        assert answer.status == Response.NO_GRASP
        assert "no table" in answer.message
        assert "level to 20 degrees" in answer.message
        answer = plan()
        assert answer.status == Response.NO_GRASP
        assert "no transform from 'camera_color_optical_frame' to 'base'" in answer.message
        assert planner.interrupt() == 0


def test_a_planner_that_is_deactivated_amid_a_plan_states_no_grasp(cell: Cell) -> None:
    def change(transition: int) -> None:
        request = ChangeState.Request(transition=Transition(id=transition))
        answer = cell.rig.planner.call(ChangeState, "/dkt_planner/change_state", request)
        assert answer.success

    cell.rig.settle(cell.show)
    client = cell.rig.planner.client(PlanGrasps, "/dkt/plan_grasps")
    waiting = client.call_async(PlanGrasps.Request())  # the camera is silent
    cell.rig.planner.spin_for(1.0)
    assert not waiting.done()
    change(Transition.TRANSITION_DEACTIVATE)
    cell.rig.planner.wait_until(waiting.done, "answer")
    assert waiting.result().status == Response.NOT_ACTIVE
    assert "/dkt_planner is inactive" in waiting.result().message
    change(Transition.TRANSITION_ACTIVATE)
    assert cell.plan().status == Response.OK


def captured(depth: np.ndarray = DEPTH, spread: float = 0.0, confidence: float = 1.0) -> Any:
    """What dkt_node answers, of one spread and confidence throughout."""
    header = make_header(0, CAMERA_ID)
    answer = CaptureDepth.Response(
        frames=5,
        depth=depth_to_image(depth, header),
        spread=depth_to_image(np.full_like(depth, spread), header),
        confidence=depth_to_image(np.full_like(depth, confidence), header),
    )
    answer.camera_info.height, answer.camera_info.width = depth.shape
    answer.camera_info.k = K
    return answer


def stand_in(answer: Any = None, **parameters: Any) -> Any:
    """A planner whose request gets this answer."""
    future = rclpy.task.Future()
    future.set_result(answer)
    client = SimpleNamespace(service_is_ready=lambda: True, call_async=lambda request: future)
    return SimpleNamespace(
        parameters=PlannerParameters(**parameters),
        resolve_service_name=lambda name: f"/{name}",
        create_timer=lambda *words, **options: None,
        destroy_timer=lambda timer: None,
        idle=lambda: "",
        _client=client,
        _is_silent=False,
        _up=lambda header: None,
    )


def test_depth_without_confidence_is_told() -> None:
    seen = captured(confidence=np.nan)
    with pytest.raises(
        RefusedError, match="capture_depth gives no confidence: expected dkt_node"
    ) as no:
        DktPlanner._plan(stand_in(), RegionOfInterest(), None, seen)
    assert no.value.status == Response.NO_DEPTH
    plan, _, _ = DktPlanner._plan(stand_in(min_confidence=0.0), RegionOfInterest(), None, seen)
    assert plan.grasps


def test_what_is_unknown_is_not_said_to_have_varied() -> None:
    nothing = np.full_like(DEPTH, np.nan)
    for seen, told in ((captured(nothing), ""), (captured(spread=0.02), "100% of the depth")):
        plan, _, remark = DktPlanner._plan(stand_in(), RegionOfInterest(), None, seen)
        assert not plan.grasps
        assert "no table" in plan.problem
        assert remark.startswith(told)
        assert bool(remark) == bool(told)


@pytest.mark.parametrize(
    ("changes", "parameters", "refused"),
    [
        ({}, {}, ""),
        ({"state": ScaleAlignment.HELD}, {}, "earlier frame's scale (why): look again, or set"),
        ({"state": ScaleAlignment.HELD}, {"accept_held": True}, ""),
        ({"status": CaptureDepth.Response.TIMEOUT, "frames": 3}, {}, ""),
        ({"status": CaptureDepth.Response.TIMEOUT, "frames": 2}, {}, "capture_depth: 2 came"),
        ({"status": CaptureDepth.Response.OK, "depth": Image()}, {}, "capture_depth: 5 came"),
    ],
)
def test_depth_of_few_frames_or_an_earlier_scale_is_not_planned_on(
    changes: dict[str, Any], parameters: dict[str, Any], refused: str
) -> None:
    answer = captured()
    answer.alignment.state = changes.pop("state", ScaleAlignment.OK)
    answer.alignment.reason = "why"
    for name, value in changes.items():
        setattr(answer, name, value)
    answer.message = f"{answer.frames} came"
    asked = DktPlanner._capture(stand_in(answer, frames=5, **parameters))
    if refused:
        with pytest.raises(RefusedError, match=re.escape(refused)) as no:
            asked.send(None)
        assert no.value.status == Response.NO_DEPTH
        return
    with pytest.raises(StopIteration) as given:
        asked.send(None)
    assert given.value.value is answer


def test_the_node_s_refusal_is_passed_on_and_the_planner_s_state_counts(cell: Cell) -> None:
    def change(node: str, transition: int) -> None:
        request = ChangeState.Request(transition=Transition(id=transition))
        answer = cell.rig.planner.call(ChangeState, f"/{node}/change_state", request)
        assert answer.success

    change("dkt_node", Transition.TRANSITION_DEACTIVATE)
    answer = cell.plan()
    assert answer.status == Response.NO_DEPTH
    assert "/dkt/capture_depth: /dkt_node is inactive" in answer.message
    mask = Image(height=1, width=2, encoding="rgb8", step=6, data=bytes(6))
    assert cell.plan(mask=mask).status == Response.BAD_REQUEST, "told before any depth is taken"
    change("dkt_planner", Transition.TRANSITION_DEACTIVATE)
    answer = cell.plan()
    assert answer.status == Response.NOT_ACTIVE
    assert "/dkt_planner is inactive" in answer.message
    for name in ("dkt_node", "dkt_planner"):
        change(name, Transition.TRANSITION_ACTIVATE)


def test_a_node_that_is_killed_while_it_is_asked_is_told_before_dds_forgets_it(cell: Cell) -> None:
    """Its service is in the graph for 20 s more. The last one: it takes both down."""
    planner = cell.rig.planner
    cell.rig.settle(cell.show)
    client = planner.client(PlanGrasps, "/dkt/plan_grasps")
    waiting = client.call_async(PlanGrasps.Request())  # the camera is silent
    planner.spin_for(1.0)
    assert not waiting.done()
    cell.rig.node.kill()
    planner.wait_until(waiting.done, "answer")
    assert waiting.result().status == Response.NO_DEPTH
    assert waiting.result().message == (
        "/dkt/capture_depth did not answer: its process was killed or stands still"
    )
    cell.process.send_signal(signal.SIGINT)
    assert cell.process.wait(60) == 0
    assert "Traceback" not in cell.log.read_text()


def test_nothing_is_planned_by_itself_while_any_request_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of two at once the first to end is not the last."""
    rclpy.init()
    planner, begun = DktPlanner(), []

    class Pause:
        def __await__(self) -> Generator[None, None, None]:
            yield

    async def answer(request: Any, response: Any) -> None:
        begun.append(request)
        await Pause()

    def ticks() -> bool:
        """Whether the timer begins to plan."""
        before, tick = len(begun), planner._tick()
        with suppress(StopIteration):
            tick.send(None)
        tick.close()
        return len(begun) > before

    try:
        monkeypatch.setattr(planner, "_answer", answer)
        first, second = (planner._serve(PlanGrasps.Request(), Response()) for _ in range(2))
        assert ticks()
        first.send(None)
        second.send(None)
        assert not ticks()
        with pytest.raises(StopIteration):
            second.send(None)
        assert not ticks()
        with pytest.raises(StopIteration):
            first.send(None)
        assert ticks()
    finally:
        planner.close()
        rclpy.shutdown()


def test_a_node_that_ends_while_it_is_asked_is_told_at_once() -> None:
    """Its restart does not cost the planner the whole timeout."""
    rclpy.init(args=["--ros-args", "-r", "__ns:=/gone", "-p", "timeout_s:=600.0"])
    planner, node, robot = DktPlanner(), Node("dkt_node"), Node("robot")
    planner.autostart()
    asked, ends = threading.Event(), threading.Event()

    def spin(executor: SingleThreadedExecutor) -> None:
        while not ends.is_set():
            with suppress(InvalidHandle):  # the service of what hangs is gone when it answers
                executor.spin_once(timeout_sec=0.05)

    def hang(request: Any, response: Any) -> Any:
        asked.set()
        ends.wait(START_PATIENCE_S)
        return response

    server = node.create_service(CaptureDepth, "dkt/capture_depth", hang)
    client = robot.create_client(PlanGrasps, "dkt/plan_grasps")
    executors = []
    for one in (planner, node, robot):
        executors.append(SingleThreadedExecutor())
        executors[-1].add_node(one)
    threads = [threading.Thread(target=spin, args=[one]) for one in executors]
    for thread in threads:
        thread.start()
    try:
        assert client.wait_for_service(START_PATIENCE_S)
        futures: list[Any] = []
        while not asked.wait(0.2) and len(futures) < 300:  # until it sees the node
            futures.append(client.call_async(PlanGrasps.Request()))
        node.destroy_service(server)
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and not all(one.done() for one in futures):
            time.sleep(0.05)
        said = [one.result().message for one in futures if one.done()]
        assert "/gone/dkt/capture_depth ended before it answered" in said
    finally:
        ends.set()
        for thread, executor in zip(threads, executors, strict=True):
            thread.join()
            executor.shutdown()
        planner.close()
        rclpy.shutdown()


def test_help_names_topics_and_parameters() -> None:
    text = planner_parser().format_help()
    assert all(topic in text for topic in TOPICS)
    assert all(f"  {name}:=" in text for name in specs(PlannerParameters))


def test_a_gripper_without_room_is_refused() -> None:
    with pytest.raises(DktError, match=r"clearance_m is 0.05 on each side of an object and max_w"):
        PlannerParameters(clearance_m=0.05)


def test_the_gripper_and_what_is_asked_of_a_grasp_are_as_set() -> None:
    gripper = Gripper(0.11, 0.013, 0.021, 0.055, 0.007)
    asked: dict[str, Any] = {"friction": 0.3, "max_unseen": 0.15, "samples": 70, "seed": 9}
    set_ = PlannerParameters(
        max_width_m=gripper.max_width,
        finger_thickness_m=gripper.finger_thickness,
        finger_breadth_m=gripper.finger_breadth,
        finger_length_m=gripper.finger_length,
        clearance_m=gripper.clearance,
        min_confidence=0.4,
        table_clearance_m=0.006,
        min_height_m=0.02,
        grasps=5,
        **asked,
    )
    assert set_.gripper == gripper
    assert set_.config == GraspConfig(
        min_confidence=0.4, table_clearance=0.006, min_height=0.02, count=5, **asked
    )


def test_every_parameter_reaches_gripper_or_plan() -> None:
    source = (ROOT / "dkt_ros/ros/planner.py").read_text()
    source += (ROOT / "dkt_ros/ros/params/planner_parameters.py").read_text()
    for name in specs(PlannerParameters).keys() - {"autostart"}:
        assert any(f"{whose}.{name}" in source for whose in ("self", "wanted", "parameters")), name
