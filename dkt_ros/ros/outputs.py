"""Estimates out: the node's publishers and the threads that serve those who want more than depth.

What a planner waits for goes out from the inference thread at once; clouds and pictures are made
and sent by two threads of their own, so that whoever reads them slowly slows nobody else. rclpy
allows publishing from any thread while the publisher exists. What is published stands in topics.py.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial

from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode, LifecyclePublisher
from rclpy.qos import ReliabilityPolicy
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from dkt_ros.estimator import DepthEstimate
from dkt_ros.messages.fields import MessageError, stamp_to_ns
from dkt_ros.messages.images import image_to_mask
from dkt_ros.messages.observation import Observation
from dkt_ros.messages.synchronizer import LONGEST_WAIT_S
from dkt_ros.ros import qos
from dkt_ros.ros.convert.clouds import CloudWriter, emptied_by, has_points
from dkt_ros.ros.convert.messages import make_header
from dkt_ros.ros.mailbox import Mailbox
from dkt_ros.ros.masks import KEPT, Mask, Masks
from dkt_ros.ros.params.parameters import NodeParameters
from dkt_ros.ros.regions import of_another_camera
from dkt_ros.ros.sending import Report
from dkt_ros.ros.statistics import Statistics
from dkt_ros.ros.topics import OUTPUTS, Output, Result, cloud_options
from dkt_ros.ros.transforms import Transforms
from dkt_ros.ros.undo import all_of, told, undone_by

END_PATIENCE_S = 5.0
"""How long the publishers' end waits for a message that is on its way."""
HANGS_AFTER_S = 3.0
"""A reliable reader that has acknowledged nothing for so long hangs."""
FAILED_S = 10.0
"""How long a failure of a cloud or a picture is told, unless there is another."""
HELD_PERIOD_S = 1.0
"""How often clouds and pictures go out while one of their readers hangs: sending waits for room in
the memory that it shares, and all of Python with it."""


class _Acknowledged:
    """Since when a publisher's reliable readers have not had all that was sent; in any thread.

    Of a reader whose process stands still. One that runs and whose callback hangs acknowledges.
    """

    def __init__(self, publisher: LifecyclePublisher) -> None:
        self._publisher = publisher
        self._missing_since: float | None = None
        self.sent_at = -math.inf

    def look(self) -> None:
        """Asks; best before publishing, when the message before has had the most time."""
        now = time.monotonic()
        if self._publisher.wait_for_all_acked(Duration(seconds=0)):
            self._missing_since = None
        elif self._missing_since is None:
            self._missing_since = now

    @property
    def hangs_s(self) -> float:
        """For how long one has hung; 0 where none does."""
        since = self._missing_since
        missing_s = 0.0 if since is None else time.monotonic() - since
        return missing_s if missing_s > HANGS_AFTER_S else 0.0


class _Lane:
    """A thread that makes some of the outputs, of the newest result."""

    def __init__(self, outputs: Sequence[Output], send: Callable[[Output, Result], None]) -> None:
        """`send` makes and publishes one message."""
        self.outputs = tuple(outputs)
        self.mailbox: Mailbox[Result] = Mailbox()
        self.clouds = CloudWriter()
        self._send = send
        self._thread = threading.Thread(target=self._serve, name="dkt_outputs", daemon=True)

    def start(self) -> None:
        """Begins to take results."""
        self._thread.start()

    def end(self) -> None:
        """Waits for the message that is on its way."""
        self.mailbox.close()
        if self._thread.is_alive():
            self._thread.join(END_PATIENCE_S)

    def _serve(self) -> None:
        while (result := self.mailbox.take()) is not None:
            for output in self.outputs:
                with suppress(Exception):  # it has told of it, unless telling is what failed
                    self._send(output, replace(result, clouds=self.clouds, stages_s={}))


class Outputs:
    """The publishers, from configure to cleanup."""

    def __init__(
        self,
        node: LifecycleNode,
        parameters: NodeParameters,
        statistics: Statistics,
        report: Report,
        failed: Report,
        outputs: tuple[Output, ...] = OUTPUTS,
    ) -> None:
        """`report` gets QoS that clashes, `failed` which lazy output could not be made, and why.

        Raises DktError where a tf frame is asked for and there is no tf2.
        """
        self._node = node
        self._parameters = parameters
        self._statistics = statistics
        self._report = report
        self._failed = failed
        self._outputs = outputs
        self.transforms: Transforms | None = None
        self._publishers: dict[str, LifecyclePublisher] = {}
        self._acknowledged: dict[str, _Acknowledged] = {}
        self._errors: dict[str, tuple[str, float]] = {}  # and when, time.monotonic()
        beside = [output for output in outputs if output.is_beside]
        self._lazy = _Lane([output for output in beside if not output.masked], self._try_to_send)
        self._objects = _Lane([output for output in beside if output.masked], self._try_to_send)
        self._mask_header = Header()  # the newest one's
        self._masks: Masks[Result] = Masks(self._put_object, self._tell_missed)
        with undone_by(self.destroy):
            self._open()

    def _open(self) -> None:
        if self._parameters.crop_frame or self._parameters.points_frame:
            self.transforms = Transforms(self._node)
        for output in self._outputs:
            publisher = qos.create_publisher(
                self._node,
                output.type,
                output.topic,
                self._report,
                depth=1 if output.newest else qos.SENT_DEPTH,
            )
            self._publishers[output.topic] = publisher
            self._acknowledged[output.topic] = _Acknowledged(publisher)
        self._lazy.start()
        self._objects.start()

    @property
    def error(self) -> str:
        """What went wrong with the newest lazy outputs, "" if nothing.

        One that nobody listens to any more, or that nobody sends masks for, is not tried again.
        """
        since = time.monotonic() - FAILED_S
        errors = self._errors.copy().items()
        return "; ".join(
            text for topic, (text, at) in errors if at > since and self.is_heard(topic)
        )

    def rivals(self) -> tuple[str, ...]:
        """The other nodes that publish depth on this one's topic."""
        topic = self._publishers["dkt/depth"].topic_name
        names = list(qos.node_names(self._node.get_publishers_info_by_topic(topic)))
        own = self._node.get_fully_qualified_name()
        if own in names:
            names.remove(own)
        return tuple(names)

    def hanging(self) -> dict[str, tuple[float, tuple[str, ...]]]:
        """Topic -> for how long one of its reliable readers has hung, and their names."""
        found = {}
        for topic, acknowledged in self._acknowledged.items():
            if acknowledged.hangs_s:
                acknowledged.look()  # nothing may have been sent since
            if seconds := acknowledged.hangs_s:
                name = self._publishers[topic].topic_name
                readers = [
                    info
                    for info in self._node.get_subscriptions_info_by_topic(name)
                    if info.qos_profile.reliability == ReliabilityPolicy.RELIABLE
                ]
                found[topic] = (seconds, qos.node_names(readers))
        return found

    def apply(self, parameters: NodeParameters) -> None:
        """Takes over the parameters that act at once."""
        self._parameters = parameters

    def destroy(self) -> None:
        """Takes the publishers down, once the lazy outputs' threads have let go of them."""
        steps = [
            partial(self._node.destroy_lifecycle_publisher, publisher)
            for publisher in self._publishers.values()
        ]
        forget = (self._publishers.clear, self._acknowledged.clear)
        listening = [self.transforms.close] if self.transforms is not None else []
        all_of(self.wind_down, *steps, *forget, *listening)

    def wind_down(self) -> None:
        """Ends the lazy outputs' threads: nothing more is made of them."""
        all_of(self._lazy.end, self._objects.end)

    def discard(self) -> None:
        """Drops the lazy outputs that wait for their turn."""
        self._masks.clear()
        self._lazy.mailbox.drop()
        self._objects.mailbox.drop()

    def result(self, observation: Observation, estimate: DepthEstimate) -> Result:
        """What messages of one estimate are made from, under its frame's own stamp."""
        frame = estimate.frame
        header = make_header(frame.stamp_ns, frame.frame_id)
        find = self.transforms.find if self.transforms is not None else None
        return Result(observation, estimate, header, self._parameters, find=find)

    def publish(self, observation: Observation, estimate: DepthEstimate) -> dict[str, float]:
        """Publishes one estimate; returns seconds per message."""
        result = self.result(observation, estimate)
        for output in self._outputs:
            if not output.lazy or (output.prompt and self.is_heard(output.topic)):
                self._send(output, result)
        # A small message, and the last one: its time would be told by the next frame's.
        timings_s = dict(result.stages_s)
        if any(self.is_heard(output.topic) for output in self._lazy.outputs):
            self._lazy.mailbox.put(result)
        if self._objects_are_heard():
            self._masks.add(observation.stamp_ns, result)
        return timings_s

    def on_mask(self, message: Image) -> None:
        """Callback of the subscription to objects' masks."""
        try:
            mask = image_to_mask(message)
        except MessageError as error:
            self._report(f"mask: {error.cause}", f"mask dropped: {error}")  # not as of a frame's
            return
        self._mask_header = message.header
        if self._objects_are_heard():  # else no depth waits for it
            self._masks.add_mask(stamp_to_ns(message.header.stamp), mask)

    def _objects_are_heard(self) -> bool:
        return any(self.is_heard(output.topic) for output in self._objects.outputs)

    def _tell_missed(self, too_late: bool) -> None:
        text = (
            f"masks come after the depth of their stamp, which waits for them {LONGEST_WAIT_S:g} s "
            f"and while it is one of the newest {KEPT}. Use a faster segmenter, or send the mask "
            "with a request to dkt/capture_depth"
            if too_late
            else "no depth has the stamps of the masks that come: expected stamps of colour images "
            "that get depth. Have the segmenter read dkt/color, and copy its header"
        )
        self._report("mask without depth", text)

    def _put_object(self, result: Result, mask: Mask) -> None:
        if other := of_another_camera(self._mask_header, result.header):
            self._report("mask of another camera", other)
        self._objects.mailbox.put(replace(result, mask=mask))

    def _try_to_send(self, output: Output, result: Result) -> None:
        acknowledged = self._acknowledged[output.topic]
        try:
            if not self.is_heard(output.topic):
                return
            if acknowledged.hangs_s and time.monotonic() - acknowledged.sent_at < HELD_PERIOD_S:
                return
            self._send(output, result)
        except Exception as failure:  # noqa: BLE001 a filter or the middleware may fail
            text = f"{output.topic} failed: {told(failure)}"
            self._errors[output.topic] = text, time.monotonic()
            self._failed(getattr(failure, "cause", "publishing failed"), text)
        else:
            self._errors.pop(output.topic, None)
        self._statistics.timed(result.stages_s)

    def _send(self, output: Output, result: Result) -> None:
        began = time.perf_counter()
        with self._unless_ending():
            message = output.make(result)
            if message is None:
                return
            if output.topic == "dkt/points" and not has_points(message):
                self._tell_empty(result)
            acknowledged = self._acknowledged[output.topic]
            acknowledged.look()
            self._publishers[output.topic].publish(message)
            acknowledged.sent_at = time.monotonic()
            result.stages_s[f"{output.name} message"] = time.perf_counter() - began
            self._statistics.seen(output.topic)

    def _tell_empty(self, result: Result) -> None:
        """Says why a cloud has no points, where there is depth to make them of."""
        estimate, parameters = result.estimate, result.parameters
        options = cloud_options(result)
        by = emptied_by(estimate.pixels.depth, estimate.frame.intrinsics, options)
        frame = parameters.crop_frame or f"{result.header.frame_id}, the camera's optical frame"
        causes = {
            "max_jump": f"passes points_max_jump, {parameters.points_max_jump:g}: expected a "
            "larger one, or 0 for all",
            "stride": f"is at the pixels that points_stride, {parameters.points_stride}, takes: "
            "expected a smaller one",
            "box": f"lies in crop_box, {parameters.crop_box} m in {frame}: expected XMIN XMAX YMIN "
            "YMAX ZMIN ZMAX of the workspace in crop_frame",
        }
        if why := causes.get(by):
            self._report("empty cloud", f"dkt/points has no points: none of the depth {why}.")

    def is_heard(self, topic: str) -> bool:
        """Whether anybody listens to this topic; nobody does where the process is ending."""
        heard = 0
        with self._unless_ending():
            heard = self._publishers[topic].get_subscription_count()
        return heard > 0

    @contextmanager
    def _unless_ending(self) -> Iterator[None]:
        """Within it nothing fails where the process is ending, and publishing with it."""
        try:
            yield
        except Exception:
            if self._node.context.ok():
                raise
