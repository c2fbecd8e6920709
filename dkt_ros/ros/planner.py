"""`dkt_planner`: a reference planner, grasps for a parallel-jaw gripper from depth that is trusted.

Called         dkt/capture_depth  of dkt_node: fused depth, spread and confidence
Services       dkt/plan_grasps    dkt_ros/PlanGrasps
Published      dkt/grasps             geometry_msgs/PoseArray, the best first
               dkt/grasp_candidates   dkt_ros/GraspCandidates: the same with scores and widths
               dkt/grasp_markers      visualization_msgs/MarkerArray, where that is installed
Parameters     see params/planner_parameters.py

Knows messages and states; what makes a grasp is in dkt_ros/grasp.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from geometry_msgs.msg import Point, Pose, PoseArray, Quaternion
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.lifecycle import LifecyclePublisher
from rclpy.timer import Timer
from sensor_msgs.msg import Image, RegionOfInterest
from std_msgs.msg import ColorRGBA, Header

from dkt_ros.arrays import count_of
from dkt_ros.errors import DktError, place_of
from dkt_ros.grasp.antipodal import Grasp, Gripper, Plan, plan_grasps
from dkt_ros.grasp.heights import Scene
from dkt_ros.messages.fields import camera_info_to_intrinsics
from dkt_ros.messages.images import image_to_depth, image_to_mask
from dkt_ros.msg import GraspCandidates, ScaleAlignment
from dkt_ros.ros import qos
from dkt_ros.ros.beside import NextTurn, awake
from dkt_ros.ros.capture import RefusedError
from dkt_ros.ros.managed_node import ManagedNode
from dkt_ros.ros.masks import Mask
from dkt_ros.ros.params.command_line import planner_parser, split_ros_args
from dkt_ros.ros.params.planner_parameters import PlannerParameters
from dkt_ros.ros.process import run_main
from dkt_ros.ros.regions import of_another_camera, rows_and_columns
from dkt_ros.ros.sending import answer_surely, attempt, send
from dkt_ros.ros.topics import CAPTURE
from dkt_ros.ros.transforms import TransformError, Transforms, quaternion
from dkt_ros.ros.undo import all_of
from dkt_ros.srv import CaptureDepth, PlanGrasps

try:
    from visualization_msgs.msg import Marker, MarkerArray
except ImportError:  # not among the wheels of an older environment
    Marker = MarkerArray = None

SERVICE = "dkt/plan_grasps"
TOPICS: dict[str, type | None] = {
    "dkt/grasps": PoseArray,
    "dkt/grasp_candidates": GraspCandidates,
    "dkt/grasp_markers": MarkerArray,
}
POLL_S = 0.002
ANSWER_S = 10.0
"""How long an answer may take beyond its timeout, on its way."""
RESTARTED_S = 1.0
"""How long a node that came in a killed one's place has to say that it is loading."""
VARIED = 0.02
"""Share of the depth that varies by too much, from which it is told."""
Status = PlanGrasps.Response


class DktPlanner(ManagedNode[PlannerParameters]):
    """Inactive: publishers. Active: answers, and plans by itself if it is to."""

    def __init__(self) -> None:
        """Raises DktError naming the parameters that are wrong."""
        self._own: dict[str, LifecyclePublisher] = {}
        self._timer: Timer | None = None
        self._transforms: Transforms | None = None
        self._is_active = False
        self._answering = 0  # requests, at once
        self._period_s = 0.0
        super().__init__("dkt_planner", PlannerParameters)
        group = ReentrantCallbackGroup()
        self._client = self.create_client(CaptureDepth, CAPTURE, callback_group=group)
        self._is_silent = False
        beside = self.resolve_service_name(CAPTURE).rpartition("/")[0]
        qos.watch_liveliness(self, ScaleAlignment, f"{beside}/alignment", self._note_silence)
        service = self.create_service(
            PlanGrasps,
            SERVICE,
            self._serve,
            qos_profile=qos.request_profile(),
            callback_group=group,
        )
        answer_surely(service, self.report)
        self._group = group

    def _note_silence(self, is_silent: bool) -> None:
        self._is_silent = is_silent

    def is_configured(self) -> bool:
        """Whether there are publishers."""
        return bool(self._own)

    def apply(self, parameters: PlannerParameters) -> None:
        """Takes over the parameters that act at once."""
        if self._is_active and parameters.period_s != self._period_s:
            self.halt()
            self._start(parameters.period_s)

    def configure(self) -> None:
        """Advertises the outputs."""
        # Before the first plan: only what is heard from then on is known.
        self._transforms = Transforms(self) if self.parameters.up_frame else None
        for topic, kind in TOPICS.items():  # one by one: release takes down those before a failure
            if kind is not None:
                self._own[topic] = qos.create_publisher(self, kind, topic, self.report)
        if MarkerArray is None:
            self.get_logger().info("visualization_msgs is not installed: no dkt/grasp_markers")

    def start(self) -> None:
        """Begins to answer."""
        self._start(self.parameters.period_s)
        self.get_logger().info(f"plans when {self.resolve_service_name(SERVICE)} is called")

    def release(self) -> None:
        """Takes the outputs down."""
        publishers, self._own = self._own.values(), {}
        transforms, self._transforms = self._transforms, None
        steps = [partial(self.destroy_lifecycle_publisher, one) for one in publishers]
        all_of(*steps, *([transforms.close] if transforms is not None else []))

    def _start(self, period_s: float) -> None:
        self._is_active, self._period_s = True, period_s
        if period_s:
            self._timer = self.create_timer(period_s, self._tick, callback_group=self._group)

    def halt(self) -> None:
        """Answers NOT_ACTIVE from now on."""
        self._is_active = False
        if self._timer is not None:
            self.destroy_timer(self._timer)
            self._timer = None

    async def _tick(self) -> None:
        if self._answering:
            return
        answer = await self._serve(PlanGrasps.Request(), PlanGrasps.Response())
        if answer.status != Status.OK:
            self.report("no grasp", answer.message)

    async def _serve(self, request: Any, response: Any) -> Any:
        self._answering += 1
        try:
            await self._answer(request, response)
        except RefusedError as refused:
            response.status, response.message = refused.status, str(refused)
        except TransformError as error:
            response.status, response.message = Status.NO_GRASP, str(error)
        except DktError as error:
            response.status, response.message = Status.BAD_REQUEST, str(error)
        except Exception as error:  # noqa: BLE001 raised in the executor, it would end the planner
            text = f"planning failed: {type(error).__name__}: {error}{place_of(error)}"
            self.report("planning failed", text)
            response = PlanGrasps.Response(status=Status.FAILED, message=text)
        finally:
            self._answering -= 1
        return response

    async def _answer(self, request: Any, response: Any) -> None:
        mask = image_to_mask(request.mask) if request.mask.height else None
        seen = await self._capture()
        plan, header, remark = await self.beside(lambda: self._plan(request.region, mask, seen))
        if idle := self.idle():
            raise RefusedError(Status.NOT_ACTIVE, idle)
        response.grasps = candidates(plan.grasps, header)
        refused_text = "; ".join(f"{count} {why}" for why, count in plan.refused.most_common())
        other = of_another_camera(request.mask.header, header) if mask is not None else ""
        told = [plan.problem or (refused_text and f"left out: {refused_text}"), remark, other]
        response.message = ". ".join(filter(None, [*told, seen.message]))
        if not plan.grasps:
            response.status = Status.NO_GRASP
        self._publish(response.grasps)

    async def _capture(self) -> Any:
        """dkt_node's answer; raises RefusedError where it has none that is to be trusted."""
        if idle := self.idle():
            raise RefusedError(Status.NOT_ACTIVE, idle)
        name, wanted = self.resolve_service_name(CAPTURE), self.parameters
        if not self._client.service_is_ready():
            raise RefusedError(
                Status.NO_DEPTH,
                f"nobody serves {name}: start dkt_node in this namespace, or remap {CAPTURE}",
            )
        asking = CaptureDepth.Request(
            frames=wanted.frames, timeout=wanted.timeout_s, with_points=False
        )
        future = send(lambda: self._client.call_async(asking))
        asked = time.monotonic()
        deadline = asked + wanted.timeout_s + ANSWER_S
        with awake(self):
            while not future.done():
                what = ""
                if not self._client.service_is_ready():
                    what = "ended before it answered"
                elif self._is_silent and time.monotonic() > asked + RESTARTED_S:
                    what = "did not answer: its process was killed or stands still"
                elif time.monotonic() > deadline:
                    what = "did not answer"
                if idle := self.idle():
                    self._client.remove_pending_request(future)
                    raise RefusedError(Status.NOT_ACTIVE, idle)
                if what:
                    self._client.remove_pending_request(future)
                    raise RefusedError(Status.NO_DEPTH, f"{name} {what}")
                # Awaiting the future itself would have the executor come back at once.
                time.sleep(POLL_S)
                await NextTurn()
        answer = future.result()
        half = 2 * answer.frames >= wanted.frames
        if not answer.depth.height or not (answer.status == CaptureDepth.Response.OK or half):
            raise RefusedError(Status.NO_DEPTH, f"{name}: {answer.message}")
        if answer.alignment.state == ScaleAlignment.HELD and not wanted.accept_held:
            raise RefusedError(
                Status.NO_DEPTH,
                f"depth stands on an earlier frame's scale ({answer.alignment.reason}): look "
                "again, or set accept_held",
            )
        return answer

    def _plan(
        self, region: RegionOfInterest, mask: Mask | None, seen: Any
    ) -> tuple[Plan, Header, str]:
        """In a thread of its own: the executor goes on. The last: what is odd about the depth."""
        wanted, header, remark = self.parameters, seen.depth.header, ""
        depth, confidence = image_to_depth(seen.depth), _floats(seen.confidence)
        known = np.isfinite(depth)
        if wanted.min_confidence and known.any() and np.isnan(confidence[known]).all():
            raise RefusedError(
                Status.NO_DEPTH,
                f"{self.resolve_service_name(CAPTURE)} gives no confidence: expected dkt_node's "
                "parameter depth at fused, or min_confidence 0, to grasp without it",
            )
        depth[~(_floats(seen.spread) <= wanted.max_spread_m)] = np.nan
        varied = count_of(np.isnan(depth[known])) / max(count_of(known), 1)
        if varied > VARIED:
            remark = (
                f"{varied:.0%} of the depth varied by more than {wanted.max_spread_m:g} m: "
                "expected camera and scene to stand still"
            )
        scene = Scene(
            depth,
            camera_info_to_intrinsics(seen.camera_info, wanted.rectified),
            confidence,
            _target(region, mask, depth.shape),
            self._up(header),
        )
        return plan_grasps(scene, wanted.gripper, wanted.config), header, remark

    def _up(self, header: Header) -> npt.NDArray[np.float64] | None:
        """Against gravity in the header's frame; raises TransformError."""
        frame, transforms = self.parameters.up_frame, self._transforms
        return None if transforms is None else transforms.find(frame, header)[0][2]

    def _publish(self, grasps: GraspCandidates) -> None:
        poses = PoseArray(header=grasps.header, poses=grasps.poses)
        messages = {"dkt/grasps": poses, "dkt/grasp_candidates": grasps}
        if MarkerArray is not None:
            messages["dkt/grasp_markers"] = markers(grasps, self.parameters.gripper)
        # Whoever deactivates it amid a plan takes the publishers down.
        with contextlib.suppress(KeyError):
            for topic, message in messages.items():
                attempt(partial(self._own[topic].publish, message), self.report)


def _floats(image: Image) -> npt.NDArray[np.float32]:
    return np.frombuffer(image.data, np.float32).reshape(image.height, image.width)


def _target(region: RegionOfInterest, mask: Mask | None, shape: tuple[int, ...]) -> Mask | None:
    """(H, W) where the request allows grasps; None: everywhere. Raises DktError."""
    if not (region.width or region.height) and mask is None:
        return None
    place = rows_and_columns(region, mask, shape)
    target = np.zeros(shape, bool)
    target[place] = True if mask is None else mask[place]
    return target


def candidates(grasps: Sequence[Grasp], header: Header) -> GraspCandidates:
    """The grasps as a message, in the order given."""
    return GraspCandidates(
        header=header,
        poses=[_pose(grasp) for grasp in grasps],
        scores=[grasp.score for grasp in grasps],
        widths=[grasp.width for grasp in grasps],
    )


def _pose(grasp: Grasp) -> Pose:
    x, y, z = grasp.position.tolist()
    qx, qy, qz, qw = quaternion(grasp.rotation)
    return Pose(position=Point(x=x, y=y, z=z), orientation=Quaternion(x=qx, y=qy, z=qz, w=qw))


def markers(grasps: GraspCandidates, gripper: Gripper) -> Any:
    """Each grasp as the gripper's outline, from red (score 0) to green (1); the old ones go."""
    found = [Marker(header=grasps.header, action=Marker.DELETEALL)]
    length = gripper.finger_length
    for index, (pose, score, width) in enumerate(
        zip(grasps.poses, grasps.scores, grasps.widths, strict=True)
    ):
        half = width / 2
        line = [(-half, 0.0), (-half, -length), (half, -length), (half, 0.0)]
        stem = [(0.0, -length), (0.0, -2 * length)]
        ends = [end for a, b in pairwise(line) for end in (a, b)] + stem
        marker = Marker(
            header=grasps.header, ns="grasps", id=index, type=Marker.LINE_LIST, pose=pose
        )
        marker.scale.x = 0.003
        marker.color = ColorRGBA(r=1.0 - score, g=score, b=0.0, a=1.0)
        marker.points = [Point(x=0.0, y=y, z=z) for y, z in ends]
        found.append(marker)
    return MarkerArray(markers=found)


def main(args: Sequence[str] | None = None) -> int:
    """Runs the planner until it is interrupted; returns 2 when its parameters are wrong."""
    words, _ = split_ros_args(sys.argv[1:] if args is None else args)
    planner_parser().parse_args(words)
    return run_main("dkt_planner", lambda: [DktPlanner()], args, args is None)


if __name__ == "__main__":
    sys.exit(main())
