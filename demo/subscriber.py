"""A subscriber as a grasp planner has one: hears the node's topics and writes down what came when.

Runs as a process of its own until it is interrupted and nothing more comes. Knows the node's
contract; nothing of bags or truth.

Subscribed  /dkt/depth, /dkt/camera_info, /dkt/alignment,
            /dkt/confidence, /dkt/points            what a planner uses
            the camera's colour, not decoded        when a frame was sent
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rclpy
from dkt_ros.msg import ScaleAlignment
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

from demo.received import Received, Reception, write_image
from demo.stamps import header_stamp_ns
from dkt_ros.messages.fields import stamp_to_ns
from dkt_ros.messages.images import image_to_depth

READY = "listening"
_STATES = {
    ScaleAlignment.OK: "OK",
    ScaleAlignment.HELD: "HELD",
    ScaleAlignment.UNALIGNED: "UNALIGNED",
    ScaleAlignment.SENSOR: "SENSOR",
}
# After the interrupt, silence for this long, or for twice the longest latency seen, is the end.
_SILENCE_S = 2.0


class Subscriber(Node):
    """Keeps a Received per camera frame; writes depth and confidence of each into `folder`."""

    def __init__(self, color_topic: str, compressed: bool, folder: Path) -> None:
        super().__init__("dkt_demo_subscriber")
        self._folder = folder
        self._sent: dict[int, float] = {}
        self.received: dict[int, Received] = {}
        self.last_heard = time.monotonic()
        self.longest_s = 0.0
        # Reliable, so that what is missing was dropped by the node and not on the way.
        qos = QoSProfile(depth=30)
        color = CompressedImage if compressed else Image
        self.create_subscription(color, color_topic, self._timed(self._on_color), qos, raw=True)
        for topic, kind, callback in (
            ("/dkt/depth", Image, self._on_depth),
            ("/dkt/camera_info", CameraInfo, self._on_info),
            ("/dkt/alignment", ScaleAlignment, self._on_alignment),
            ("/dkt/confidence", Image, self._on_confidence),
            ("/dkt/points", PointCloud2, self._on_points),
        ):
            self.create_subscription(kind, topic, self._timed(callback), qos)

    def _timed(self, callback: Callable[[Any, float], None]) -> Callable[[Any], None]:
        def on_message(message: Any) -> None:
            now = time.monotonic()
            self.last_heard = now
            callback(message, now)

        return on_message

    def _on_color(self, cdr: bytes, now: float) -> None:
        self._sent[header_stamp_ns(cdr)] = now

    def _entry(self, header: Any) -> Received:
        stamp_ns = stamp_to_ns(header.stamp)
        return self.received.setdefault(stamp_ns, Received(stamp_ns, header.frame_id))

    def _elapsed(self, entry: Received, now: float) -> float | None:
        sent = self._sent.get(entry.stamp_ns)
        if sent is None:
            return None
        self.longest_s = max(self.longest_s, now - sent)
        return now - sent

    def _on_depth(self, message: Image, now: float) -> None:
        entry = self._entry(message.header)
        entry.depth_s = self._elapsed(entry, now)
        depth = image_to_depth(message)
        entry.known = float(np.isfinite(depth).mean())
        write_image(self._folder, entry.stamp_ns, "depth", depth)

    def _on_confidence(self, message: Image, _now: float) -> None:
        entry = self._entry(message.header)
        entry.has_confidence = True
        confidence = np.frombuffer(message.data, "<f4").reshape(message.height, message.width)
        write_image(self._folder, entry.stamp_ns, "confidence", confidence)

    def _on_info(self, message: CameraInfo, now: float) -> None:
        self._entry(message.header).has_info = True

    def _on_alignment(self, message: ScaleAlignment, now: float) -> None:
        entry = self._entry(message.header)
        entry.alignment_s = self._elapsed(entry, now)
        entry.state = _STATES.get(message.state, str(message.state))
        entry.reason = message.reason
        entry.scale, entry.shift = _finite(message.scale), _finite(message.shift)
        entry.inlier_ratio = _finite(message.inlier_ratio)
        entry.residual_m = _finite(message.residual)
        entry.share_sensor = _finite(message.share_sensor)
        entry.share_network = _finite(message.share_network)
        entry.window = message.window
        entry.stages_s = {stage.name: stage.seconds for stage in message.stages}

    def _on_points(self, message: PointCloud2, now: float) -> None:
        entry = self._entry(message.header)
        entry.points_s = self._elapsed(entry, now)
        entry.points = _finite_points(message)

    def reception(self) -> Reception:
        """All that was heard, in order of stamps."""
        frames = (self.received[stamp] for stamp in sorted(self.received))
        return Reception(tuple(sorted(self._sent)), tuple(frames))


def main(argv: Sequence[str] | None = None) -> int:
    """Listens until interrupted and quiet; then writes received.json into the folder."""
    parser = argparse.ArgumentParser(prog="demo.subscriber")
    parser.add_argument("--color", required=True, help="the camera's colour topic")
    parser.add_argument("--compressed", action="store_true", help="colour is a CompressedImage")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args(argv)
    args.output.mkdir(parents=True, exist_ok=True)

    interrupted = False

    def on_signal(_number: int, _frame: object) -> None:
        nonlocal interrupted
        interrupted = True

    signal.signal(signal.SIGINT, on_signal)
    signal.signal(signal.SIGTERM, on_signal)
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    node = Subscriber(args.color, args.compressed, args.output)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    print(READY, flush=True)
    try:
        while True:
            executor.spin_once(timeout_sec=0.1)
            quiet_s = time.monotonic() - node.last_heard
            if interrupted and quiet_s > max(_SILENCE_S, 2.0 * node.longest_s):
                break
    finally:
        node.reception().write(args.output)
        rclpy.try_shutdown()
    return 0


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _finite_points(message: PointCloud2) -> int:
    """Points whose depth is known; reads z by the offset that the message states."""
    offset = next(field.offset for field in message.fields if field.name == "z")
    shape = (message.height, message.width)
    strides = (message.row_step, message.point_step)
    order = ">" if message.is_bigendian else "<"
    z: npt.NDArray[np.float32] = np.ndarray(
        shape, f"{order}f4", memoryview(message.data), offset, strides
    )
    return int(np.isfinite(z).sum())


if __name__ == "__main__":
    sys.exit(main())
