"""Estimates out: the node's publishers and the thread that serves those who want more than depth.

What a planner waits for goes out from the inference thread at once; clouds and pictures are made
and sent by a thread of their own, so that whoever reads them slowly slows nobody else. rclpy allows
publishing from any thread while the publisher exists. What is published stands in topics.py.
"""

from __future__ import annotations

import threading
import time

from rclpy.lifecycle import LifecycleNode, LifecyclePublisher

from dkt_ros.estimator import DepthEstimate
from dkt_ros.messages.observation import Observation
from dkt_ros.ros import qos
from dkt_ros.ros.convert.clouds import CloudWriter
from dkt_ros.ros.convert.messages import make_header
from dkt_ros.ros.mailbox import Mailbox
from dkt_ros.ros.params.parameters import NodeParameters
from dkt_ros.ros.statistics import Statistics
from dkt_ros.ros.topics import OUTPUTS, Output, Result

END_PATIENCE_S = 5.0
"""How long the publishers' end waits for a message that is on its way."""


class Outputs:
    """The publishers, from configure to cleanup."""

    def __init__(
        self,
        node: LifecycleNode,
        parameters: NodeParameters,
        statistics: Statistics,
        report: qos.Report,
        failed: qos.Report,
        outputs: tuple[Output, ...] = OUTPUTS,
    ) -> None:
        """`report` gets QoS that clashes, `failed` which lazy output could not be made, and why."""
        self._node = node
        self._parameters = parameters
        self._statistics = statistics
        self._failed = failed
        self._outputs = outputs
        self._clouds = CloudWriter()
        self._publishers: dict[str, LifecyclePublisher] = {
            output.topic: qos.create_publisher(
                node, output.type, output.topic, report, depth=1 if output.lazy else qos.SENT_DEPTH
            )
            for output in outputs
        }
        self._lazy: Mailbox[Result] = Mailbox()
        self._thread = threading.Thread(target=self._serve_lazy, name="dkt_outputs", daemon=True)
        self._thread.start()
        self.error = ""
        """What went wrong with the newest lazy output, "" if nothing."""

    def apply(self, parameters: NodeParameters) -> None:
        """Takes over the parameters that act at once."""
        self._parameters = parameters

    def destroy(self) -> None:
        """Takes the publishers down, once the lazy outputs' thread has let go of them."""
        self._lazy.close()
        self._thread.join(END_PATIENCE_S)
        for publisher in self._publishers.values():
            self._node.destroy_lifecycle_publisher(publisher)
        self._publishers.clear()

    def discard(self) -> None:
        """Drops the lazy outputs that wait for their turn."""
        self._lazy.drop()

    def publish(self, observation: Observation, estimate: DepthEstimate) -> dict[str, float]:
        """Publishes one estimate under its frame's own stamp; returns seconds per message."""
        frame = estimate.frame
        header = make_header(frame.stamp_ns, frame.frame_id)
        result = Result(observation, estimate, header, self._parameters, self._clouds)
        for output in self._outputs:
            if not output.lazy:
                self._send(output, result)
        # A small message, and the last one: its time would be told by the next frame's.
        timings_s = dict(result.stages_s)
        if any(output.lazy and self._is_heard(output) for output in self._outputs):
            self._lazy.put(result)
        return timings_s

    def _serve_lazy(self) -> None:
        while (result := self._lazy.take()) is not None:
            result.stages_s.clear()
            error = ""
            for output in self._outputs:
                if not output.lazy or not self._is_heard(output):
                    continue
                try:
                    self._send(output, result)
                except Exception as failure:  # noqa: BLE001 a filter or the middleware may fail
                    error = f"{output.topic} failed: {type(failure).__name__}: {failure}"
                    self._failed("publishing failed", error)
            self.error = error
            self._statistics.timed(result.stages_s)

    def _send(self, output: Output, result: Result) -> None:
        began = time.perf_counter()
        self._publishers[output.topic].publish(output.make(result))
        result.stages_s[f"{output.name} message"] = time.perf_counter() - began
        self._statistics.seen(output.topic)

    def _is_heard(self, output: Output) -> bool:
        return bool(self._publishers[output.topic].get_subscription_count())
