"""Depth on demand over real DDS: the node publishes nothing, and answers whoever asks."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("dkt_ros.srv", reason="needs the generated services: make build")

from dkt_ros.action import CaptureDepth as CaptureDepthAction
from dkt_ros.msg import ScaleAlignment
from dkt_ros.srv import CaptureDepth
from fixtures.red_network import depth_of
from fixtures.red_rig import HEIGHT, WIDTH, RedRig, picture, red_rig
from fixtures.three_processes import PATIENCE_S, stamp_ns
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.action import ActionClient
from sensor_msgs.msg import Image, RegionOfInterest

from dkt_ros.alignment.aligner import AlignmentState
from dkt_ros.errors import DktError
from dkt_ros.fusion.suspicion import REMEDIES, Suspicion
from dkt_ros.geometry import Intrinsics
from dkt_ros.messages.fields import camera_info_to_intrinsics
from dkt_ros.ros.capture import Capture, Captures, RefusedError
from dkt_ros.ros.convert.images import mask_to_image
from dkt_ros.ros.convert.messages import make_header
from dkt_ros.ros.diagnostics import OK, RESTING
from dkt_ros.ros.qos import request_profile

pytestmark = [pytest.mark.ros, pytest.mark.flaky(reruns=2)]

Response = CaptureDepth.Response
NAME = "/dkt/capture_depth"
TRUTH = depth_of(picture())
LENS = Intrinsics(30.0, 30.0, 14.5, 9.5, 30, 20)
CAMERA = SimpleNamespace(frame_id="camera", intrinsics=LENS)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedRig]:
    with red_rig(tmp_path_factory.mktemp("rig"), publish="on_demand") as rig:

        def answers() -> bool:
            return bool(capture(rig, frames=1).status == Response.OK)

        rig.planner.wait_until(answers, "first capture")
        yield rig


def capture(rig: RedRig, shown: dict[str, Any] | None = None, **request: Any) -> Any:
    return rig.call(CaptureDepth, NAME, CaptureDepth.Request(**request), **(shown or {}))


def pixels(image: Image, *size: int) -> npt.NDArray[np.float32]:
    assert image.encoding == "32FC1"
    assert (image.height, image.width) == size
    return np.frombuffer(image.data, np.float32).reshape(size)


def test_nothing_is_published_unless_it_is_asked_for(rig: RedRig) -> None:
    rig.settle()
    last, kept = rig.now_ns, (rig.planner.depth, rig.planner.points)
    for _ in range(5):
        rig.show()
        rig.planner.spin_for(0.1)

    def rests() -> bool:
        rig.show()  # a silent camera is told
        found = rig.planner.statuses.get("/dkt_node: alignment")
        return found is not None and found.message == RESTING and found.level == OK

    rig.planner.wait_until(rests, "word that nobody asks")
    assert not [stamp for of_topic in kept for stamp in of_topic if stamp > last]
    assert capture(rig, frames=2).frames == 2
    rig.planner.wait_until(lambda: max(rig.planner.depth, default=0) > last, "depth again")


def test_all_of_one_answer_belongs_together(rig: RedRig) -> None:
    rig.settle()
    last = rig.now_ns
    answer = capture(rig, frames=3)
    assert (answer.status, answer.message, answer.frames) == (Response.OK, "", 3)
    assert answer.alignment.state == ScaleAlignment.OK
    assert stamp_ns(answer.depth) > last + 2 * 33_000_000, "frames of after the request"
    parts = (answer.color, answer.spread, answer.confidence, answer.camera_info, answer.points)
    assert all(part.header == answer.depth.header for part in parts)
    depth = pixels(answer.depth, HEIGHT, WIDTH)
    np.testing.assert_allclose(depth, TRUTH, atol=1e-3)
    assert np.nanmax(pixels(answer.spread, HEIGHT, WIDTH)) < 1e-3
    blue = picture()[..., 2].astype(np.float32) / 255
    np.testing.assert_allclose(pixels(answer.confidence, HEIGHT, WIDTH), blue, atol=1e-6)
    color = np.frombuffer(answer.color.data, np.uint8).reshape(HEIGHT, WIDTH, 3)
    np.testing.assert_array_equal(color, picture())
    cloud = np.frombuffer(answer.points.data, np.float32).reshape(HEIGHT, WIDTH, 8)
    np.testing.assert_array_equal(cloud[..., 2], depth)


def test_the_cloud_may_be_left_out(rig: RedRig) -> None:
    answer = capture(rig, frames=1, with_points=False)
    assert answer.status == Response.OK
    assert answer.depth.height == HEIGHT
    assert not answer.points.data


def test_each_request_starts_a_fresh_stream(rig: RedRig) -> None:
    """red_network counts its stream's frames; those of earlier requests are no part of it."""
    for _ in range(2):
        assert capture(rig, frames=1).alignment.window == 1


@pytest.mark.parametrize("kind", ["service", "action"])
def test_many_who_ask_at_once_are_all_answered(rig: RedRig, kind: str) -> None:
    """ROS keeps ten requests, which come while the node does something else, and drops others."""
    node, keep = rig.planner.node, request_profile()  # each client hears all answers
    clients: list[Any]
    if kind == "service":
        clients = [node.create_client(CaptureDepth, NAME, qos_profile=keep) for _ in range(30)]
        are_ready = [client.service_is_ready for client in clients]
        ask = [client.call_async for client in clients]
        request: Any = CaptureDepth.Request(frames=1, with_points=False)
    else:
        words = (node, CaptureDepthAction, NAME)
        clients = [ActionClient(*words, goal_service_qos_profile=keep) for _ in range(30)]
        are_ready = [client.server_is_ready for client in clients]
        ask = [client.send_goal_async for client in clients]
        request = CaptureDepthAction.Goal(frames=1, with_points=False)
    rig.planner.wait_until(lambda: all(ready() for ready in are_ready), kind)
    futures = [one(request) for one in ask]
    rig.until(lambda: all(future.done() for future in futures), "all answers")
    for client in clients:
        client.destroy() if kind == "action" else node.destroy_client(client)


@pytest.mark.parametrize("broke", ["epoch", "size"])
def test_frames_of_before_a_break_are_not_fused_with_those_after(broke: str) -> None:
    """Time runs back, as where a bag begins anew, or the camera's resolution changes.

    What is seen is as it was.
    """

    def result(epoch: int, rows: int, state: AlignmentState) -> Any:
        estimate = SimpleNamespace(
            depth=np.full((rows, 3), 2.0, np.float32),
            confidence=np.ones((rows, 3), np.float32),
            alignment=SimpleNamespace(state=state),
            frame=CAMERA,
            suspicions=(),
        )
        return SimpleNamespace(observation=SimpleNamespace(epoch=epoch), estimate=estimate)

    found = Capture(3, 0.0, RegionOfInterest(), None)
    found.add(result(0, 2, AlignmentState.HELD))
    after = (1, 2) if broke == "epoch" else (0, 4)
    for _ in range(2):
        found.add(result(*after, AlignmentState.OK))
    assert [depth.shape for depth in found.depths] == [(after[1], 3)] * 2
    assert len(found.confidences) == 2
    assert found.worst is not None
    assert found.worst.alignment.state is AlignmentState.OK


def test_noise_is_told_as_spread(rig: RedRig) -> None:
    """Pictures that flicker by some levels of red, under raw depth that stands still."""
    rig.settle()
    client = rig.planner.client(CaptureDepth, NAME)
    future = client.call_async(CaptureDepth.Request(frames=7, timeout=60.0))
    turn = 0
    levels = (0, 4, -6, 2, -2, 6, -4)  # whichever of them are lost, the rest differ
    while not future.done():
        rgb = picture()
        rgb[:, 40:, 0] = (rgb[:, 40:, 0].astype(int) + levels[turn % 7]).astype(np.uint8)
        rig.show(rgb, TRUTH)
        rig.planner.spin_for(0.3)
        turn += 1
        assert turn < 200
    answer = future.result()
    assert answer.status == Response.OK
    spread = pixels(answer.spread, HEIGHT, WIDTH)
    assert np.median(spread[:, 42:]) > 5 * np.median(spread[:, :38])
    assert 0.001 < np.median(spread[:, 42:]) < 0.05


def test_a_region_is_cut_out_with_its_calibration(rig: RedRig) -> None:
    rig.settle()
    region = RegionOfInterest(x_offset=20, y_offset=8, width=30, height=16)
    answer = capture(rig, frames=2, region=region)
    assert answer.status == Response.OK, answer.message
    np.testing.assert_allclose(pixels(answer.depth, 16, 30), TRUTH[8:24, 20:50], atol=1e-3)
    assert (answer.color.height, answer.color.width) == (16, 30)
    assert (answer.points.height, answer.points.width) == (16, 30)
    camera = camera_info_to_intrinsics(answer.camera_info, rectified=False)
    assert (camera.width, camera.height) == (30, 16)
    cloud = np.frombuffer(answer.points.data, np.float32).reshape(16, 30, 8)
    x = (np.arange(30) - camera.cx) / camera.fx * cloud[..., 2]
    y = (np.arange(16)[:, None] - camera.cy) / camera.fy * cloud[..., 2]
    np.testing.assert_allclose(cloud[..., 0], x, atol=1e-5)
    np.testing.assert_allclose(cloud[..., 1], y, atol=1e-5)


def test_a_region_may_reach_the_picture_s_borders() -> None:
    for x, y, width, height in ((0, 0, 30, 20), (20, 0, 10, 20), (0, 15, 30, 5)):
        region = RegionOfInterest(x_offset=x, y_offset=y, width=width, height=height)
        place = Capture(1, 0.0, region, None).place((20, 30))
        assert place == (slice(y, y + height), slice(x, x + width))


def marking(rows: int, columns: int) -> Image:
    """A mask of that many, from the top left on."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:rows, :columns] = 255
    return mask_to_image(mask, make_header(0, ""))


def test_a_mask_and_little_confidence_leave_nan(rig: RedRig) -> None:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:20, :40] = 255
    sure = float(np.float32(240) / 255)
    answer = capture(rig, frames=2, mask=marking(20, 40), min_confidence=sure)
    assert answer.status == Response.OK, answer.message
    known = np.isfinite(pixels(answer.depth, HEIGHT, WIDTH))
    expected = mask > 0
    expected[:10, :10] = False
    np.testing.assert_array_equal(known, expected)
    confidence = pixels(answer.confidence, HEIGHT, WIDTH)
    np.testing.assert_array_equal(confidence, np.where(expected, np.float32(sure), 0))


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (
            {"region": RegionOfInterest(x_offset=60, width=10, height=10)},
            "region is 10x10 at (60, 0), the image 64x48: expected a region inside",
        ),
        ({"region": RegionOfInterest(width=10)}, "region is 10x0"),
        ({"mask": Image(height=2, width=2, encoding="mono8", step=2, data=b"1234")}, "mask is 2x2"),
        ({"mask": Image(height=2, width=2, encoding="rgb8", step=6)}, "expected mono8"),
        ({"mask": marking(0, 0)}, "the mask marks no pixel: expected"),
        (
            {"mask": marking(9, 9), "region": RegionOfInterest(x_offset=20, width=9, height=9)},
            "the mask marks no pixel inside the region",
        ),
        ({"frames": 65}, "frames is 65, expected 0 to 64"),
        ({"timeout": float("nan")}, "timeout is nan, expected 0 to 600"),
        ({"min_confidence": 1.5}, "min_confidence is 1.5"),
    ],
)
def test_what_cannot_be_meant_is_refused(rig: RedRig, request_: dict[str, Any], said: str) -> None:
    answer = capture(rig, **request_)
    assert answer.status == Response.BAD_REQUEST
    assert said in answer.message
    assert answer.depth.height == 0


def test_no_scale_is_said_with_its_reason(rig: RedRig) -> None:
    nothing = np.full((HEIGHT, WIDTH), np.nan, np.float32)
    rig.settle()
    for timeout in (1.0, 8.0, 60.0):  # on a busy machine no frame comes within the first
        answer = capture(rig, {"depth": nothing}, frames=3, timeout=timeout)
        if answer.status != Response.TIMEOUT:
            break
    assert answer.status == Response.UNALIGNED
    assert answer.frames == 0
    assert "no scale in" in answer.message
    assert answer.alignment.state == ScaleAlignment.UNALIGNED


def test_a_camera_that_is_silent_is_waited_for_no_longer_than_said(rig: RedRig) -> None:
    rig.settle()
    request = CaptureDepth.Request(frames=2, timeout=0.5)
    answer = rig.call(CaptureDepth, NAME, request, shows=False)
    assert answer.status == Response.TIMEOUT
    assert "0 of 2 depth images within 0.5 s" in answer.message


def test_frames_of_before_a_camera_fell_silent_are_no_answer(rig: RedRig) -> None:
    client = rig.planner.client(CaptureDepth, NAME)
    for timeout in (3.0, 12.0, 60.0):  # on a busy machine the frames take too long of the first
        before = rig.planner.counts["depth"]
        future = client.call_async(CaptureDepth.Request(frames=30, timeout=timeout))
        while rig.planner.counts["depth"] < before + 5 and not future.done():
            rig.show()
            rig.planner.spin_for(0.1)
        rig.planner.wait_until(future.done, "answer", 2 * timeout + PATIENCE_S)
        answer = future.result()
        if "and none since" in answer.message:
            break
    assert answer.status == Response.TIMEOUT
    assert "of 30 depth images came, the newest" in answer.message
    assert "and none since: expected the camera to go on" in answer.message
    assert (answer.frames, answer.depth.height) == (0, 0)


def test_a_cloud_in_a_frame_that_tf_does_not_know(rig: RedRig) -> None:
    answer = capture(rig, frames=1, frame="base_link")
    assert answer.status == Response.NO_TRANSFORM
    assert "tf2_ros" in answer.message or "no transform from" in answer.message
    assert answer.depth.height == HEIGHT, "depth is in order"
    assert not answer.points.data


def test_the_action_tells_how_far_it_is_and_can_be_cancelled(rig: RedRig) -> None:
    client = ActionClient(rig.planner.node, CaptureDepthAction, NAME)
    told: list[int] = []

    def send(**goal: Any) -> Any:
        future = client.send_goal_async(
            CaptureDepthAction.Goal(**goal), lambda word: told.append(word.feedback.frames)
        )
        rig.planner.wait_until(future.done, "goal's answer")
        handle = future.result()
        assert handle.accepted
        return handle

    try:
        rig.planner.wait_until(client.server_is_ready, "action")
        result = send(frames=3, timeout=60.0).get_result_async()
        rig.until(result.done, "result")
        assert result.result().result.frames == 3
        assert result.result().status == 4, "succeeded"
        rig.planner.wait_until(lambda: told, "feedback")
        assert told == sorted(told)
        rig.settle()
        handle = send(frames=3, timeout=60.0)
        cancel = handle.cancel_goal_async()
        rig.planner.wait_until(cancel.done, "cancellation")
        result = handle.get_result_async()
        rig.planner.wait_until(result.done, "result of the cancelled")
        assert result.result().status == 5, "cancelled"
        assert result.result().result.status == CaptureDepthAction.Result.CANCELLED
        assert "cancelled with 0 of 3 depth images" in result.result().result.message
        result = send(frames=65).get_result_async()
        rig.planner.wait_until(result.done, "result of what cannot be meant")
        assert result.result().status == 6, "aborted"
        assert result.result().result.status == CaptureDepthAction.Result.BAD_REQUEST
    finally:
        client.destroy()


def test_an_inactive_node_says_so_also_amid_a_request(rig: RedRig) -> None:
    """The last one: it takes the node down."""
    client = rig.planner.client(CaptureDepth, NAME)
    rig.settle()
    last = rig.now_ns
    waiting = client.call_async(CaptureDepth.Request(frames=64, timeout=60.0))
    rig.planner.wait_until(
        lambda: max(rig.planner.depth, default=0) > last,
        "depth: the request is open",
        again=rig.show,
        again_s=0.5,
    )
    change = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_DEACTIVATE))
    assert rig.call(ChangeState, "/dkt_node/change_state", change, shows=False).success
    rig.planner.wait_until(waiting.done, "answer")
    assert waiting.result().status == Response.NOT_ACTIVE
    assert "deactivated" in waiting.result().message
    assert (waiting.result().frames, waiting.result().depth.height) == (0, 0)
    answer = capture(rig)
    assert answer.status == Response.NOT_ACTIVE
    assert "/dkt_node is inactive, expected active" in answer.message
    assert rig.node.interrupt() == 0
    assert "Traceback" not in rig.node.output()


def test_frames_of_another_view_are_not_fused_with_the_newest() -> None:
    """A camera that leaps while frames are collected, a hand that is gone by the last of them."""

    def result(depth: npt.NDArray[np.float32]) -> Any:
        estimate = SimpleNamespace(
            depth=depth,
            confidence=np.ones(depth.shape, np.float32),
            alignment=SimpleNamespace(state=AlignmentState.OK),
            frame=CAMERA,
            suspicions=(),
        )
        return SimpleNamespace(observation=SimpleNamespace(epoch=0), estimate=estimate)

    table = np.full((20, 30), 1.0, np.float32)
    with_hand = table.copy()
    with_hand[:, 20:] = 0.5
    found = Capture(5, 0.0, RegionOfInterest(), None)
    for depth in (table, table, with_hand, with_hand, with_hand, table):
        found.add(result(depth))
    assert [depth.min() for depth in found.depths] == [1.0]
    assert len(found.confidences) == 1
    assert found.moved == 5
    beside = Capture(5, 0.0, RegionOfInterest(width=20, height=20), None)
    for depth in (table, with_hand, table):
        beside.add(result(depth))
    assert len(beside.depths) == 3, "the hand is outside the region"


TABLE = np.tile(np.linspace(0.6, 1.0, 20, dtype=np.float32)[:, None], (1, 30))


def frame(depth: npt.NDArray[np.float32], **changes: Any) -> Any:
    """What a capture is given of one frame."""
    fields = {"state": AlignmentState.OK, "suspicions": (), **vars(CAMERA)} | changes
    estimate = SimpleNamespace(
        depth=depth,
        confidence=np.ones(depth.shape, np.float32),
        alignment=SimpleNamespace(state=fields["state"], reason="why"),
        frame=SimpleNamespace(frame_id=fields["frame_id"], intrinsics=fields["intrinsics"]),
        suspicions=fields["suspicions"],
    )
    header = make_header(0, fields["frame_id"])
    observation = SimpleNamespace(epoch=0)
    return SimpleNamespace(observation=observation, estimate=estimate, header=header)


def bare_captures(*wanted: Capture) -> Captures:
    """Without ROS; what is done beside the executor is done at once."""

    async def beside(work: Any) -> None:
        work()

    captures = Captures.__new__(Captures)
    captures._lock, captures._open, captures.fresh = threading.Lock(), [*wanted], 0
    captures._problem = lambda: None
    captures._node = Mock(beside=beside, count_clients=lambda name: 1)
    return captures


def test_frames_are_for_those_who_asked_before_they_came_and_wait_still() -> None:
    asked = {name: Capture(1, 0.0, RegionOfInterest(), None, opened_s=10.0) for name in "ab"}
    later = Capture(1, 0.0, RegionOfInterest(), None, opened_s=12.0)
    broken, end = asked["b"], RuntimeError("odd")
    broken.add = Mock(side_effect=end)  # type: ignore[method-assign]
    captures = bare_captures(broken, asked["a"], later)
    assert [captures.wants(arrived_s) for arrived_s in (9.0, 10.0, 12.0)] == [False, True, True]
    for arrived_s in (9.0, 11.0, 11.5):
        result = frame(TABLE)
        result.observation.arrived_s = arrived_s
        captures.offer(result)
    assert [len(one.depths) for one in (asked["a"], later)] == [1, 0]
    assert [one.done.is_set() for one in (asked["a"], broken, later)] == [True, True, False]
    broken.add.assert_called_once()
    captures._node.report.assert_called_once()  # type: ignore[attr-defined]
    captures.end("it ends")
    refused = [one.refused for one in (broken, later)]
    assert [one and one.status for one in refused] == [Response.FAILED, Response.NOT_ACTIVE]
    assert "the capture failed: RuntimeError: odd" in str(refused[0])
    assert later.done.is_set()


@pytest.mark.parametrize(("timeout", "waited_s"), [(0.0, 10.0), (0.5, 0.5), (600.0, 600.0)])
def test_a_request_waits_for_as_long_as_it_says(
    timeout: float, waited_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, passed_s = time.monotonic(), 0.0
    monkeypatch.setattr("time.monotonic", lambda: start + passed_s)
    captures = bare_captures()
    waiting = captures._answer(CaptureDepth.Request(timeout=timeout), Response(), NAME)
    waiting.send(None)
    passed_s = 0.9 * waited_s
    waiting.send(None)
    assert captures.is_wanted
    passed_s = 1.1 * waited_s
    with pytest.raises(StopIteration) as ended:
        waiting.send(None)
    answer = ended.value.value
    assert answer.status == Response.TIMEOUT
    assert answer.message.startswith(f"0 of 5 depth images within {waited_s:g} s")
    assert not captures.is_wanted


def test_what_fails_as_an_answer_is_made_is_the_answer() -> None:
    captures = bare_captures()
    captures._fill = Mock(side_effect=RuntimeError("odd"))  # type: ignore[method-assign]
    waiting = captures._answer(CaptureDepth.Request(timeout=60.0), Response(), NAME)
    waiting.send(None)
    captures._open[0].done.set()
    with pytest.raises(StopIteration) as ended:
        waiting.send(None)
    answer = ended.value.value
    assert (answer.status, answer.frames) == (Response.FAILED, 0)
    assert answer.message.startswith("the capture failed: RuntimeError: odd")
    assert not captures.is_wanted


def test_what_was_left_out_is_said_where_too_little_came() -> None:
    found = Capture(4, 0.0, RegionOfInterest(), None)
    for depth in (TABLE, TABLE, TABLE * np.float32(2)):
        found.add(frame(depth))
    found.add(frame(TABLE, state=AlignmentState.UNALIGNED))
    found.worst, captures, answer = None, bare_captures(), Response()
    captures._fill_images = Mock()  # type: ignore[method-assign]
    captures._fill(found, CaptureDepth.Request(with_points=False), 5.0, answer)
    assert (answer.status, answer.frames) == (Response.TIMEOUT, 1)
    assert answer.message == (
        "1 of 4 depth images within 5 s, 1 without a scale (why), 2 of another view: expected "
        "camera and scene to stand still"
    )
    captures._fill_images.assert_called_once_with(found, answer)
    captures._cloud = Mock(side_effect=DktError("no way"))  # type: ignore[method-assign]
    captures._fill(found, CaptureDepth.Request(with_points=True), 5.0, answer)
    assert answer.status == Response.TIMEOUT
    assert answer.message.endswith(" to stand still; no way")


@pytest.mark.parametrize(
    ("frame_id", "said"),
    [
        ("", ""),
        ("camera", ""),
        ("left", "the mask has frame_id 'left', the colour image 'camera': expected the mask of"),
    ],
)
def test_a_mask_of_another_camera_is_told(frame_id: str, said: str) -> None:
    found = Capture(1, 0.0, RegionOfInterest(), np.ones(TABLE.shape, bool))
    found.add(frame(TABLE))
    found.worst, captures, answer = None, bare_captures(), Response()
    captures._fill_images = Mock()  # type: ignore[method-assign]
    request = CaptureDepth.Request(with_points=False)
    request.mask.header.frame_id = frame_id
    captures._fill(found, request, 5.0, answer)
    assert answer.status == Response.OK
    assert answer.message.startswith(said)
    assert bool(answer.message) == bool(said)


def test_where_no_confidence_is_known_none_may_be_asked_for() -> None:
    result = frame(TABLE)
    result.estimate.confidence = None
    with pytest.raises(RefusedError, match="no confidence is known") as refused:
        Capture(1, 0.5, RegionOfInterest(), None).add(result)
    assert refused.value.status == Response.BAD_REQUEST
    found = Capture(1, 0.0, RegionOfInterest(), None)
    found.add(result)
    assert np.isnan(found.confidences[0]).all()


def test_all_who_wait_share_the_pictures_and_parts_hold_no_whole_one() -> None:
    """As planners that are killed and ask anew, whose requests go on until their timeouts."""
    first, second = (Capture(2, 0.0, RegionOfInterest(), None) for _ in range(2))
    part = Capture(2, 0.0, RegionOfInterest(width=9, height=9), None)
    result = frame(TABLE.copy())
    for capture in (first, second, part):
        capture.add(result)
    assert np.shares_memory(first.depths[0], second.depths[0])
    assert np.shares_memory(first.confidences[0], second.confidences[0])
    assert not np.shares_memory(part.depths[0], result.estimate.depth)
    assert not np.shares_memory(part.confidences[0], result.estimate.confidence)


@pytest.mark.parametrize("farther", [1.01, 0.99])
def test_frames_of_a_camera_that_comes_near_are_not_fused(farther: float) -> None:
    """Hardly a pixel changes by more than a sensor may err, and all of the table lies wrong."""
    rng = np.random.default_rng(0)
    found = Capture(5, 0.0, RegionOfInterest(), None)
    for k in range(4):
        noise = 1 + 0.01 * rng.standard_normal(TABLE.shape).astype(np.float32)
        found.add(frame(TABLE * noise * np.float32(farther**k)))
        assert len(found.depths) == 1
    still = Capture(5, 0.0, RegionOfInterest(), None)
    for _ in range(4):
        still.add(frame(TABLE * (1 + 0.01 * rng.standard_normal(TABLE.shape).astype(np.float32))))
    assert len(still.depths) == 4


def test_frames_of_before_something_came_too_near_to_be_seen_are_not_fused() -> None:
    hidden = TABLE.copy()
    hidden[:, 20:] = np.nan
    found = Capture(5, 0.0, RegionOfInterest(), None)
    for depth in (TABLE, TABLE, hidden):
        found.add(frame(depth))
    np.testing.assert_array_equal(found.depths, [hidden])


def test_frames_of_another_camera_are_not_fused() -> None:
    found = Capture(5, 0.0, RegionOfInterest(), None)
    for name in ("left", "left", "right"):
        found.add(frame(TABLE, frame_id=name))
    assert len(found.depths) == 1
    for focal in (30.0, 30.1, 33.0):  # the second is a lens that focuses
        found.add(frame(TABLE, frame_id="right", intrinsics=replace(LENS, fx=focal)))
        assert len(found.depths) == {30.0: 2, 30.1: 3, 33.0: 1}[focal]


def test_the_trust_in_what_was_dropped_is_not_told() -> None:
    found = Capture(5, 0.0, RegionOfInterest(), None)
    found.add(frame(TABLE, state=AlignmentState.HELD))
    found.add(frame(TABLE * np.float32(2)))
    assert found.worst is not None
    assert found.worst.alignment.state is AlignmentState.OK


def test_the_least_trusted_of_what_is_fused_is_told() -> None:
    held, right, none = AlignmentState.HELD, AlignmentState.OK, AlignmentState.UNALIGNED
    for states in ((held, right), (right, held), (right, held, right), (none, held, none, right)):
        found = Capture(5, 0.0, RegionOfInterest(), None)
        for state in states:
            found.add(frame(TABLE, state=state))
        assert found.worst is not None
        assert found.worst.alignment.state is held
        assert len(found.depths) == len(states) - found.useless


@pytest.mark.parametrize("cause", sorted(REMEDIES))
def test_depth_that_is_certain_to_be_none_of_what_is_seen_is_none(cause: str) -> None:
    """Frozen, of another scene, in a wrong unit or not registered; a dark picture is none of it."""
    suspicion = Suspicion(cause, "it is wrong", certain=True)
    found = Capture(2, 0.0, RegionOfInterest(), None)
    found.add(frame(TABLE))
    found.add(frame(TABLE, suspicions=(replace(suspicion, certain=False),)))
    assert len(found.depths) == 2, "nothing is certain"
    found.add(frame(TABLE, suspicions=(suspicion,)))
    beside = "cut off", "fill", "filter", "nothing left", "ramps", "sent again", "small", "speckles"
    is_right = "colour" in cause or cause in beside
    assert len(found.depths) == (3 if is_right else 0)
    assert found.problem == ("" if is_right else "it is wrong")


def test_what_came_long_before_the_end_is_not_what_there_is_to_be_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The camera falls silent, or shows what has no scale."""
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    found = Capture(5, 0.0, RegionOfInterest(), None, opened_s=now)
    for waited_s in (0.5, 2.0, 0.5):
        now += waited_s
        found.add(frame(TABLE))
    now += 5.0
    assert found.silent_s == 0.0, "a slow network"
    now += 2.0
    found.add(frame(TABLE, state=AlignmentState.UNALIGNED))
    assert found.silent_s == 7.0
    quick = Capture(5, 0.0, RegionOfInterest(), None, opened_s=now)
    now += 0.03125
    quick.add(frame(TABLE))
    now += 0.75
    assert quick.silent_s == 0.0, "a link that stands still for a moment"
    now += 0.75
    assert quick.silent_s == 1.5
