"""The active node's moving parts: subscriptions, intake, mailbox, inference thread.

Exists from activate to deactivate; leaves nothing behind. Knows how the parts hang together and
nothing of lifecycle states.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from difflib import SequenceMatcher
from functools import partial
from typing import Any

from rclpy.lifecycle import LifecycleNode
from rclpy.qos import DurabilityPolicy
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from dkt_ros.alignment.aligner import Alignment
from dkt_ros.estimator import DepthEstimate
from dkt_ros.frames import FlushReason, Frame
from dkt_ros.fusion.fused import Shares
from dkt_ros.messages.intake import Intake
from dkt_ros.messages.observation import Observation
from dkt_ros.messages.repeats import Repeats
from dkt_ros.ros import qos
from dkt_ros.ros.capture import Captures
from dkt_ros.ros.engine import Engine
from dkt_ros.ros.frame_choice import EVEN, NEWEST, ChoiceStatus, FrameChoice
from dkt_ros.ros.input_verdict import DRIFT_REMEDY
from dkt_ros.ros.mailbox import Mailbox
from dkt_ros.ros.node_report import IMAGES, InputTopic, PipelineReport
from dkt_ros.ros.outputs import Outputs
from dkt_ros.ros.params.parameters import NodeParameters
from dkt_ros.ros.params.presets import is_compressed, with_transport
from dkt_ros.ros.sending import Report
from dkt_ros.ros.statistics import Statistics
from dkt_ros.ros.undo import all_of
from dkt_ros.ros.worker import InferenceWorker, WorkerStatus


class Pipeline:
    """From the camera's messages to published depth, between start() and stop()."""

    def __init__(
        self,
        node: LifecycleNode,
        parameters: NodeParameters,
        engine: Engine,
        outputs: Outputs,
        statistics: Statistics,
        report: Report,
        failed: Report,
        captures: Captures,
    ) -> None:
        """`report` gets what was dropped or looks wrong, `failed` what the inference met.

        `captures`: who waits for depth; with publish on_demand nothing is made for others.
        """
        self._node = node
        self._parameters = parameters
        self._engine = engine
        self._predictor = engine.predictor  # which the engine gives up when it is closed
        self._outputs = outputs
        self._statistics = statistics
        self._report = report
        self._captures = captures
        # A window's frames may wait for it together, but only where they are to be evenly spaced.
        even = parameters.frame_choice == EVEN
        together = engine.predictor.answers_every if even else 1
        self._choice = FrameChoice(parameters.frame_choice, together)
        self._mailbox: Mailbox[Observation] = Mailbox(together)
        self._repeats = Repeats()
        self._epoch: int | None = None
        self._size: tuple[int, int] | None = None
        clock = node.get_clock()
        self._intake = Intake(
            parameters, statistics, self._file, report, lambda: int(clock.now().nanoseconds)
        )
        self._worker = InferenceWorker(
            self._mailbox,
            engine.estimator,
            self._publish,
            failed,
            engine.free_cache,
            took=self._choice.took,
            proof_frames=engine.predictor.proof_frames,
            decode=self._decode,
            let_go=self._let_go,
            turns=engine.turns,
        )
        self._subscriptions: dict[str, Subscription] = {}
        self._publishers: dict[str, dict[tuple[int, ...], float]] = {}  # since when they are there
        self._mask: Subscription | None = None
        self.alignment: Alignment | None = None
        self.shares: Shares | None = None

    def start(self) -> None:
        """Starts the inference thread, then subscribes."""
        self._predictor.allow()
        self._worker.start()
        # rclpy runs what is ready in the order of creation: calibration before its own image.
        sources: dict[str, tuple[type, str, Callable[[Any], None]]] = {
            "camera_info": (CameraInfo, "color/camera_info", self._intake.on_camera_info),
            "color": (
                *self._source("color/image", self._parameters.color_transport),
                self._intake.on_color,
            ),
            "depth": (
                *self._source("depth/image", self._parameters.depth_transport),
                self._intake.on_depth,
            ),
        }
        for name, (message_type, topic, callback) in sources.items():
            self._subscriptions[name] = qos.create_subscription(
                self._node, message_type, topic, callback, self._report
            )

        self._mask = qos.create_subscription(
            self._node, Image, "mask", self._outputs.on_mask, self._report
        )

    def stop(self, timeout_s: float | None = None) -> bool:
        """Unsubscribes and ends the inference thread, a running inference at its next step.

        Returns whether the thread has ended within `timeout_s`.
        """
        subscriptions = [*self._subscriptions.values(), *[self._mask] * (self._mask is not None)]
        self._subscriptions, self._mask = {}, None
        steps = [partial(self._node.destroy_subscription, one) for one in subscriptions]
        try:
            let_go = partial(self._captures.end, "the node is being deactivated")
            all_of(*steps, let_go, self._outputs.discard)
        finally:
            ended = self.wind_down(timeout_s)
        return ended

    def wind_down(self, timeout_s: float | None) -> bool:
        """The same of the inference thread alone; subscriptions are left to stop()."""
        self._predictor.cancel()
        return self._worker.stop(timeout_s)

    def apply(self, parameters: NodeParameters) -> None:
        """Takes over the parameters that act at once."""
        self._parameters = parameters
        self._intake.apply(parameters)

    @property
    def worker_status(self) -> WorkerStatus:
        """What the inference thread is doing."""
        return self._worker.status

    @property
    def choice_status(self) -> ChoiceStatus:
        """Which frames inference is given."""
        return self._choice.status

    def report(self) -> PipelineReport:
        """What diagnostics tell of the inputs."""
        stamps = self._intake.synchronizer
        return PipelineReport(
            inputs={name: self._input(entry) for name, entry in self._subscriptions.items()},
            remarks=self._intake.remarks,
            offset_s=stamps.offset_s,
            apart_s=stamps.apart_s,
            missed_s=stamps.missed_s,
            late_s=stamps.late_s,
            lost_share=stamps.lost_share(),
            pauses_s=stamps.pauses_s,
        )

    def topics(self) -> list[str]:
        """What is subscribed to."""
        return [subscription.topic_name for subscription in self._subscriptions.values()]

    def _input(self, subscription: Subscription) -> InputTopic:
        publishers = self._node.get_publishers_info_by_topic(subscription.topic_name)
        now = time.monotonic()
        kind = subscription.msg_type
        own = f"{kind.__module__.partition('.')[0]}/msg/{kind.__name__}"
        others = sorted({info.topic_type for info in publishers} - {own})
        late = DurabilityPolicy.TRANSIENT_LOCAL
        latched = bool(publishers) and all(p.qos_profile.durability == late for p in publishers)
        nodes = qos.node_names(publishers)
        topic = subscription.topic_name
        known = self._publishers.get(topic, {})
        since = {gid: known.get(gid, now) for gid in (tuple(p.endpoint_gid) for p in publishers)}
        self._publishers[topic] = since
        crowded_s = now - sorted(since.values())[1] if len(since) > 1 else 0.0
        is_own = set(nodes) == {self._node.get_fully_qualified_name()}
        heard = bool(publishers) and not is_own
        elsewhere = () if heard else self._published_elsewhere(own, topic)
        return InputTopic(
            topic, len(publishers), own, tuple(others), latched, nodes, elsewhere, crowded_s
        )

    def _published_elsewhere(self, kind: str, topic: str) -> tuple[str, ...]:
        """Topics of that type which other nodes publish and this one does not read, likest first.

        Images of either transport stand for each other.
        """
        wanted = IMAGES if kind in IMAGES else {kind}
        own = self._node.get_fully_qualified_name()
        read = self.topics()
        found = [
            other
            for other, kinds in self._node.get_topic_names_and_types()
            if wanted & set(kinds) and other not in read
            if set(qos.node_names(self._node.get_publishers_info_by_topic(other))) - {own}
        ]
        return tuple(sorted(found, key=lambda o: (-SequenceMatcher(None, topic, o).ratio(), o)))

    def _source(self, base: str, transport: str) -> tuple[type, str]:
        """Type and topic, as image_transport names it: the base is remapped, then its transport."""
        resolved = self._node.resolve_topic_name(base)
        topic = with_transport(resolved, transport)
        return (CompressedImage, topic) if is_compressed(topic) else (Image, base)

    def _file(self, observation: Observation) -> None:
        self._statistics.seen("pair")
        for suspicion in self._repeats.take(observation):
            self._report(suspicion.cause, suspicion.advice)
        captures = self._captures
        if self._parameters.publish == "on_demand":
            if not captures.wants(observation.arrived_s):
                self._statistics.skipped()
                return
            # What the network has seen for an earlier request is no part of this one's stream.
            observation = replace(observation, epoch=observation.epoch + captures.fresh)
        if observation.epoch != self._epoch:
            self._epoch = observation.epoch
            self._let_go(self._mailbox.drop(), "the stream began anew before its turn")
        self._look_at_size(*observation.size)
        if not self._choice.wants(observation.stamp_ns, observation.arrived_s):
            self._statistics.skipped()
        elif self._mailbox.put(observation):
            self._let_go(1)

    def _look_at_size(self, height: int, width: int) -> None:
        if self._size == (height, width):
            return
        self._size = (height, width)
        remark = self._engine.remark_on(height, width)
        if remark:
            self._report("warm-up", remark)

    def _let_go(self, count: int, cause: str = "inference was late for its turn") -> None:
        """Frames that were chosen and waited, and that inference will not get."""
        self._choice.let_go(count)
        if self._choice.policy == NEWEST:
            self._statistics.skipped(count)
        elif count:
            self._statistics.dropped(cause, count)

    def _decode(self, observation: Observation) -> Frame | None:
        """In the inference thread: frames that nobody wants are never decoded."""
        try:
            frame = observation.decode()
        except Exception as error:  # noqa: BLE001 no message may end the node
            self._intake.drop(error)
            return None
        self._statistics.seen("frame")
        self._predictor.normals_wanted = self._outputs.is_heard("dkt/normals")
        return frame

    def _publish(self, observation: Observation, estimate: DepthEstimate) -> None:
        self.alignment, self.shares = estimate.alignment, estimate.shares
        for suspicion in estimate.suspicions:
            self._report(suspicion.cause, suspicion.advice)
        if estimate.flush is not None:
            self._statistics.flushed(estimate.flush.value)
        if estimate.flush is FlushReason.DRIFT:
            self._report(
                estimate.flush.value,
                "the live stream had drifted from the network's answer to the newest frame alone, "
                f"and was restarted; if that happens often, {DRIFT_REMEDY}",
            )
        if self._captures.is_wanted:
            self._captures.offer(self._outputs.result(observation, estimate))
        timings_s = self._outputs.publish(observation, estimate)
        self._statistics.timed({**estimate.timings_s, **timings_s})
