"""Depth on demand: the service and the action `dkt/capture_depth`, next frames fused into one.

Requests come in the executor's thread and estimates in the inference thread; a Capture collects
the ones for the other. Knows nothing of how depth is made.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from rclpy.action import CancelResponse
from rclpy.callback_groups import ReentrantCallbackGroup
from sensor_msgs.msg import CameraInfo, PointCloud2, RegionOfInterest
from std_msgs.msg import Header

from dkt_ros.action import CaptureDepth as CaptureDepthAction
from dkt_ros.alignment.aligner import AlignmentState
from dkt_ros.errors import DktError, place_of
from dkt_ros.frames import are_of_one_camera
from dkt_ros.geometry import Intrinsics, where
from dkt_ros.messages.alignment import alignment_fields
from dkt_ros.messages.images import image_to_depth, image_to_mask
from dkt_ros.msg import ScaleAlignment
from dkt_ros.ros.beside import NextTurn, awake
from dkt_ros.ros.convert.clouds import CloudWriter
from dkt_ros.ros.convert.images import depth_to_image, rgb_to_image
from dkt_ros.ros.convert.messages import camera_info_with_header, make_header
from dkt_ros.ros.managed_node import ManagedNode
from dkt_ros.ros.qos import request_profile
from dkt_ros.ros.regions import of_another_camera, rows_and_columns
from dkt_ros.ros.sending import SteadyActionServer, answer_surely
from dkt_ros.ros.still_scene import median_depth, show_one_view
from dkt_ros.ros.topics import CAPTURE, Result, cloud_options
from dkt_ros.ros.transforms import Transforms
from dkt_ros.srv import CaptureDepth
from dkt_ros.wording import counted

if TYPE_CHECKING:
    from dkt_ros.estimator import DepthEstimate

FRAMES, MOST_FRAMES = 5, 64
TIMEOUT_S, LONGEST_TIMEOUT_S = 10.0, 600.0
RESULT_KEPT_S = 10
"""For who asks for an action's result late; older ROS keeps each, pictures and all, for 900."""
POLL_S = 0.002
LOOKED_EVERY_S = 1.0
"""How often it is looked whether anybody is there to hear the answer."""
_SILENT = 3.0  # times the longest wait for a frame so far, and at least this long:
_SILENT_S = 1.0  # what came before is not what there is to be seen
_TRUST = (
    AlignmentState.OK,
    AlignmentState.SENSOR,
    AlignmentState.HELD,
    AlignmentState.UNALIGNED,
)
"""From the state that is to be trusted most."""

Float32 = npt.NDArray[np.float32]
Status = CaptureDepth.Response


class RefusedError(DktError):
    """A request that has no depth for an answer: why, as a status of the response."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(eq=False)
class Capture:
    """One request's frames. Filled by one thread, read by another once `done`.

    frames   how many are wanted
    opened_s frames that arrived before do not count, time.monotonic()
    moved    frames that were dropped since what they show had moved by then
    taken_s  when the newest was, time.monotonic()
    waited_s the longest wait for a frame
    worst    of what will be fused the one to be trusted least; of nothing, what came last
    problem  why frames that came were no use
    """

    frames: int
    min_confidence: float
    region: RegionOfInterest
    mask: npt.NDArray[np.bool_] | None
    opened_s: float = field(default_factory=time.monotonic)
    done: threading.Event = field(default_factory=threading.Event)
    depths: list[Float32] = field(default_factory=list)
    confidences: list[Float32] = field(default_factory=list)
    newest: Result | None = None
    taken_s: float = 0.0
    waited_s: float = 0.0
    worst: DepthEstimate | None = None
    useless: int = 0
    moved: int = 0
    problem: str = ""
    refused: RefusedError | None = None

    def add(self, result: Result) -> None:
        """Takes one estimate; raises RefusedError where region or mask do not fit it.

        What came before the stream broke, or of another size or camera, is forgotten, and so are
        frames of another view than this one's, and all where depth is certain to be none of it.
        """
        estimate = result.estimate
        denied = next((one.text for one in estimate.suspicions if one.denies_depth), "")
        if denied or (self.newest is not None and not _is_of_one_stream(self.newest, result)):
            self.forget()
        rows, columns = self.place(estimate.depth.shape)
        if denied or estimate.alignment.state is AlignmentState.UNALIGNED:
            self.useless += 1
            if self.newest is None:
                self.worst = estimate
            self.problem = denied or estimate.alignment.reason
            return
        confidence = estimate.confidence
        if confidence is None:
            if self.min_confidence:
                raise RefusedError(
                    Status.BAD_REQUEST,
                    "min_confidence is set and no confidence is known: expected parameter depth at "
                    "fused, or min_confidence 0",
                )
            confidence = np.full(estimate.depth.shape, np.nan, np.float32)
        depth = estimate.depth
        if self.mask is not None:
            depth = where(self.mask, depth)
        depth = _part(depth, rows, columns)
        alike = [show_one_view(before, depth) for before in self.depths]
        self.moved += alike.count(False)
        if self.worst is None or not any(alike) or _distrust(estimate) >= _distrust(self.worst):
            self.worst = estimate
        for kept in (self.depths, self.confidences):
            kept[:] = [one for one, is_alike in zip(kept, alike, strict=True) if is_alike]
        self.depths.append(depth)
        self.confidences.append(_part(confidence, rows, columns))
        self.newest = result
        now = time.monotonic()
        self.waited_s = max(self.waited_s, now - (self.taken_s or self.opened_s))
        self.taken_s = now

    def forget(self) -> None:
        """Drops all that came."""
        self.depths, self.confidences, self.newest, self.worst = [], [], None, None

    @property
    def silent_s(self) -> float:
        """For how long no frame came, where that is far too long; else 0."""
        silent = time.monotonic() - self.taken_s
        return silent if silent > max(_SILENT * self.waited_s, _SILENT_S) else 0.0

    def place(self, shape: tuple[int, ...]) -> tuple[slice, slice]:
        """Rows and columns of the region in images of that (height, width); raises RefusedError."""
        try:
            return rows_and_columns(self.region, self.mask, shape)
        except DktError as error:
            raise RefusedError(Status.BAD_REQUEST, str(error)) from error


class _Audience:
    """Whether anybody is left who could have sent what a service of that name is at.

    Of a process that was killed DDS tells after 20 s. ROS does not say whose a request is.
    """

    def __init__(self, node: ManagedNode[Any], service: str) -> None:
        self._count: Callable[[str], int] = getattr(node, "count_clients", lambda name: 0)  # Humble
        self._service = service
        self._looked_s = 0.0
        self._was_there = False

    def is_gone(self) -> bool:
        """Never where nobody was ever seen, as by a middleware that does not count clients."""
        now = time.monotonic()
        if now - self._looked_s < LOOKED_EVERY_S:
            return False
        self._looked_s = now
        is_there = self._count(self._service) > 0
        self._was_there |= is_there
        return self._was_there and not is_there


class Captures:
    """Answers requests, from the node's making to its end."""

    def __init__(
        self,
        node: ManagedNode[Any],
        problem: Callable[[], RefusedError | None],
        transforms: Callable[[], Transforms],
    ) -> None:
        """`problem`: why no depth can come now. `transforms`: tf; raises DktError without tf2."""
        self._node = node
        self._problem = problem
        self._transforms = transforms
        self._lock = threading.Lock()
        self._open: list[Capture] = []
        self.fresh = 0
        """Rises when a request comes while there was none."""
        group = ReentrantCallbackGroup()
        self._name = node.resolve_service_name(CAPTURE)
        self._service = node.create_service(
            CaptureDepth, CAPTURE, self._serve, qos_profile=request_profile(), callback_group=group
        )
        answer_surely(self._service, node.report)
        self._action = SteadyActionServer(
            node.report,
            node,
            CaptureDepthAction,
            CAPTURE,
            self._execute,
            callback_group=group,
            cancel_callback=lambda goal: CancelResponse.ACCEPT,
            goal_service_qos_profile=request_profile(),
            result_service_qos_profile=request_profile(),
            cancel_service_qos_profile=request_profile(),
            result_timeout=RESULT_KEPT_S,
        )

    @property
    def is_wanted(self) -> bool:
        """Whether somebody waits for depth."""
        return bool(self._open)

    def wants(self, arrived_s: float) -> bool:
        """Whether somebody waits for a frame that arrived then, time.monotonic()."""
        return any(capture.opened_s <= arrived_s for capture in tuple(self._open))

    def offer(self, result: Result) -> None:
        """Gives one estimate to all who wait for it."""
        with self._lock:  # what is no longer open is being read
            for capture in self._open:
                if capture.done.is_set() or result.observation.arrived_s < capture.opened_s:
                    continue
                try:
                    capture.add(result)
                except RefusedError as refused:
                    capture.refused = refused
                    capture.done.set()
                except Exception as error:  # noqa: BLE001 others wait for this frame too
                    capture.refused = RefusedError(Status.FAILED, self._failed(error))
                    capture.done.set()
                if len(capture.depths) >= capture.frames:
                    capture.done.set()

    def end(self, why: str) -> None:
        """Tells all who wait that no more frames come."""
        with self._lock:
            for capture in self._open:
                capture.refused = capture.refused or RefusedError(Status.NOT_ACTIVE, why)
                capture.done.set()

    def close(self) -> None:
        """Takes the action down; the service goes with the node."""
        self.end("the node ends")
        self._action.destroy()

    async def _serve(self, request: Any, response: Any) -> Any:
        return await self._answer(request, response, self._name)

    async def _execute(self, goal: Any) -> Any:
        def tell(capture: Capture) -> None:
            word = CaptureDepthAction.Feedback(frames=len(capture.depths), message=capture.problem)
            self._action.tell(lambda: goal.publish_feedback(word))

        result = await self._answer(
            goal.request,
            CaptureDepthAction.Result(),
            f"{self._name}/_action/send_goal",
            tell,
            lambda: goal.is_cancel_requested,
        )
        if goal.is_cancel_requested:
            self._action.tell(goal.canceled)
        elif result.status in (Status.OK, Status.NO_TRANSFORM):
            self._action.tell(goal.succeed)
        else:
            self._action.tell(goal.abort)
        return result

    async def _answer(
        self,
        request: Any,
        response: Any,
        service: str,
        tell: Callable[[Capture], None] = lambda capture: None,
        is_cancelled: Callable[[], bool] = lambda: False,
    ) -> Any:
        """Collects, fuses and fills in `response`; `tell` is called after each frame.

        `service`: its clients are who may have asked.
        """
        try:
            capture, timeout_s = self._checked(request)
        except RefusedError as refused:
            response.status, response.message = refused.status, str(refused)
            return response
        with self._lock:
            self.fresh += not self._open
            self._open.append(capture)
        told, audience = 0, _Audience(self._node, service)
        try:
            deadline = capture.opened_s + timeout_s
            # Awaiting leaves the executor to others; without the wait it would come back at once.
            with awake(self._node):
                while not capture.done.wait(POLL_S) and time.monotonic() < deadline:
                    if is_cancelled():
                        break
                    if audience.is_gone():
                        capture.refused = RefusedError(
                            Status.CANCELLED, f"{service} has no client any more"
                        )
                        text = f"a request for depth was ended: {capture.refused}"
                        self._node.report("capture deserted", text)
                        break
                    if (count := len(capture.depths) + capture.useless) != told:
                        told = count
                        tell(capture)
                    await NextTurn()
        finally:
            with self._lock:
                self._open.remove(capture)
        try:
            await self._node.beside(lambda: self._fill(capture, request, timeout_s, response))
        except Exception as error:  # noqa: BLE001 raised in the executor, it would end the node
            return type(response)(status=Status.FAILED, message=self._failed(error))
        if is_cancelled() and not capture.done.is_set():
            response.status = Status.CANCELLED
            response.message = (
                f"cancelled with {len(capture.depths)} of {capture.frames} depth images"
            )
        return response

    def _failed(self, error: Exception) -> str:
        text = f"the capture failed: {type(error).__name__}: {error}{place_of(error)}"
        self._node.report("capture failed", text)
        return text

    def _checked(self, request: Any) -> tuple[Capture, float]:
        if (problem := self._problem()) is not None:
            raise problem
        timeout_s = request.timeout or TIMEOUT_S
        for name, value, low, high in (
            ("frames", request.frames, 0, MOST_FRAMES),
            ("timeout", timeout_s, 0.0, LONGEST_TIMEOUT_S),
            ("min_confidence", request.min_confidence, 0.0, 1.0),
        ):
            if not low <= value <= high:
                raise RefusedError(
                    Status.BAD_REQUEST, f"{name} is {value:g}, expected {low:g} to {high:g}"
                )
        mask = None
        if request.mask.height:
            try:
                mask = image_to_mask(request.mask)
            except DktError as error:
                raise RefusedError(Status.BAD_REQUEST, str(error)) from error
        frames = int(request.frames) or FRAMES
        return Capture(frames, request.min_confidence, request.region, mask), timeout_s

    def _fill(self, capture: Capture, request: Any, timeout_s: float, response: Any) -> None:
        """The response of all that came, in a thread of its own."""
        if capture.refused is not None:
            response.status, response.message = capture.refused.status, str(capture.refused)
            return
        silent_s, count = 0.0, len(capture.depths)
        if capture.newest is not None and count < capture.frames and (silent_s := capture.silent_s):
            capture.forget()
        response.frames = len(capture.depths)
        if capture.worst is not None:
            worst = capture.worst
            header = make_header(worst.frame.stamp_ns, worst.frame.frame_id)
            fields = alignment_fields(worst.alignment, worst.window)
            response.alignment = ScaleAlignment(header=header, **fields)
        missing = f"{len(capture.depths)} of {capture.frames} depth images within {timeout_s:g} s"
        if silent_s:
            response.status = Status.TIMEOUT
            why = f", for {capture.problem}" if capture.useless else ""
            response.message = (
                f"{count} of {capture.frames} depth images came, the newest {silent_s:.1f} s ago, "
                f"and none since{why}: expected the camera to go on"
            )
            return
        if capture.newest is None:
            if capture.useless:
                response.status = Status.UNALIGNED
                response.message = (
                    f"no scale in {counted(capture.useless, 'frame')}: {capture.problem}"
                )
            else:
                response.status = Status.TIMEOUT
                response.message = (
                    f"{missing}: expected the camera to run and the timeout to be longer than the "
                    "network takes; /diagnostics says what is missing"
                )
            return
        if len(capture.depths) < capture.frames:
            response.status = Status.TIMEOUT
            useless = f", {capture.useless} without a scale ({capture.problem})"
            moved = f", {capture.moved} of another view: expected camera and scene to stand still"
            response.message = (
                missing + useless * bool(capture.useless) + moved * bool(capture.moved)
            )
        self._fill_images(capture, response)
        if capture.mask is not None:
            other = of_another_camera(request.mask.header, capture.newest.header)
            response.message = "; ".join(filter(None, [response.message, other]))
        if not request.with_points:
            return
        try:
            response.points = self._cloud(capture, request.frame, response)
        except DktError as error:
            if response.status == Status.OK:
                response.status = Status.NO_TRANSFORM
            response.message = "; ".join(filter(None, [response.message, str(error)]))

    def _fill_images(self, capture: Capture, response: Any) -> None:
        result = capture.newest
        assert result is not None
        rows, columns = capture.place(result.estimate.depth.shape)
        depth, spread = median_depth(np.stack(capture.depths))
        confidence = np.median(np.stack(capture.confidences), axis=0).astype(np.float32)
        if capture.min_confidence:
            depth[~(confidence >= capture.min_confidence)] = np.nan
        confidence[np.isnan(depth)] = 0.0
        header, rgb = result.header, result.estimate.frame.rgb
        response.camera_info = _info_of(result, rows, columns)
        response.color = rgb_to_image(rgb[rows, columns], header)
        response.depth = depth_to_image(depth, header)
        response.spread = depth_to_image(spread, header)
        response.confidence = depth_to_image(confidence, header)

    def _cloud(self, capture: Capture, frame: str, response: Any) -> PointCloud2:
        """Of the response's depth; raises DktError where there is no way to `frame`."""
        result = capture.newest
        assert result is not None
        way = self._transforms().find(frame, result.header) if frame else None
        rows, columns = capture.place(result.estimate.depth.shape)
        camera = result.estimate.frame.intrinsics
        depth = image_to_depth(response.depth)
        intrinsics = Intrinsics(
            camera.fx,
            camera.fy,
            camera.cx - columns.start,
            camera.cy - rows.start,
            width=depth.shape[1],
            height=depth.shape[0],
        )
        rgb = result.estimate.frame.rgb[rows, columns]
        options = replace(cloud_options(result), way=way)
        header = Header(stamp=result.header.stamp, frame_id=frame or result.header.frame_id)
        return CloudWriter().write(depth, rgb, intrinsics, options, header)


def _part(image: Float32, rows: slice, columns: slice) -> Float32:
    """Without the rest of the image; the whole of it is shared among all who wait."""
    part = image[rows, columns]
    return part if part.shape == image.shape else part.copy()


def _is_of_one_stream(one: Result, other: Result) -> bool:
    now, then = one.estimate.frame, other.estimate.frame
    return (
        one.observation.epoch == other.observation.epoch
        and one.estimate.depth.shape == other.estimate.depth.shape
        and now.frame_id == then.frame_id
        and are_of_one_camera(now.intrinsics, then.intrinsics)
    )


def _distrust(estimate: DepthEstimate) -> int:
    return _TRUST.index(estimate.alignment.state)


def _info_of(result: Result, rows: slice, columns: slice) -> CameraInfo:
    """The calibration whose region of interest is those rows and columns of the image."""
    info = camera_info_with_header(result.observation.camera_info, result.header)
    if (rows.start, columns.start) == (0, 0) and (
        rows.stop,
        columns.stop,
    ) == result.estimate.depth.shape:
        return info
    info.roi = RegionOfInterest(
        x_offset=columns.start,
        y_offset=rows.start,
        width=columns.stop - columns.start,
        height=rows.stop - rows.start,
        do_rectify=info.roi.do_rectify,
    )
    return info
