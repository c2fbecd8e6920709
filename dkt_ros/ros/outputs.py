"""Estimates out: the node's publishers and what is written to them.

Called from the inference thread alone; rclpy allows publishing from any thread while the publisher
exists, and the node stops that thread before it destroys them. Knows nothing of how an estimate
came about.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import cv2
import numpy as np
import numpy.typing as npt
from rclpy.lifecycle import LifecycleNode, LifecyclePublisher
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from dkt_ros.alignment.aligner import Alignment
from dkt_ros.estimator import DepthEstimate
from dkt_ros.msg import ScaleAlignment, StageTiming
from dkt_ros.ros import qos
from dkt_ros.ros.convert.clouds import CloudOptions, CloudWriter
from dkt_ros.ros.convert.images import RgbImage, depth_to_image, rgb_to_image
from dkt_ros.ros.convert.messages import camera_info_with_header, make_header
from dkt_ros.ros.observation import Observation
from dkt_ros.ros.params.parameters import NodeParameters

TOPICS: dict[str, type] = {
    "dkt/depth": Image,
    "dkt/camera_info": CameraInfo,
    "dkt/alignment": ScaleAlignment,
    "dkt/points": PointCloud2,
    "dkt/depth_color": Image,
}
"""Relative, so that a namespace holds for them."""


class Outputs:
    """The publishers, from configure to cleanup."""

    def __init__(self, node: LifecycleNode, parameters: NodeParameters, report: qos.Report) -> None:
        self._node = node
        self._parameters = parameters
        self._cloud = CloudWriter()
        self._publishers: dict[str, LifecyclePublisher] = {
            topic: qos.create_publisher(node, message_type, topic, report)
            for topic, message_type in TOPICS.items()
        }

    def apply(self, parameters: NodeParameters) -> None:
        """Takes over the parameters that act at once."""
        self._parameters = parameters

    def destroy(self) -> None:
        """Takes the publishers down."""
        for publisher in self._publishers.values():
            self._node.destroy_lifecycle_publisher(publisher)
        self._publishers.clear()

    def publish(self, observation: Observation, estimate: DepthEstimate) -> dict[str, float]:
        """Publishes one estimate under its frame's own stamp; returns seconds per message.

        Depth goes out first: the cloud and the picture, made only when someone listens, may take
        longer than it.
        """
        frame = estimate.frame
        header = make_header(frame.stamp_ns, frame.frame_id)
        watch = _Stopwatch()
        self._send("dkt/camera_info", camera_info_with_header(observation.camera_info, header))
        self._send("dkt/depth", depth_to_image(estimate.depth, header))
        watch.lap("depth message")
        message = alignment_to_message(estimate.alignment, estimate.window, header)
        message.latency = time.monotonic() - observation.arrived_s
        message.stages = _stages(estimate.timings_s, watch.laps_s, message.latency)
        self._send("dkt/alignment", message)
        watch.lap("alignment message")
        if self._is_heard("dkt/points"):
            pixels = estimate.pixels
            cloud = self._cloud.write(
                pixels.depth, pixels.rgb, frame.intrinsics, self._cloud_options(), header
            )
            watch.lap("cloud")
            self._send("dkt/points", cloud)
            watch.lap("cloud message")
        if self._is_heard("dkt/depth_color"):
            parameters = self._parameters
            picture = colored_depth(
                estimate.depth, parameters.depth_color_min_m, parameters.depth_color_max_m
            )
            self._send("dkt/depth_color", rgb_to_image(picture, header))
            watch.lap("picture")
        return watch.laps_s

    def _send(self, topic: str, message: object) -> None:
        self._publishers[topic].publish(message)

    def _is_heard(self, topic: str) -> bool:
        return bool(self._publishers[topic].get_subscription_count())

    def _cloud_options(self) -> CloudOptions:
        parameters = self._parameters
        return CloudOptions(
            organized=parameters.points_organized,
            stride=parameters.points_stride,
            max_jump=parameters.points_max_jump,
            voxel_m=parameters.points_voxel_m,
            outlier_neighbors=parameters.points_outlier_neighbors,
            outlier_deviations=parameters.points_outlier_deviations,
        )


def alignment_to_message(alignment: Alignment, window: int, header: object) -> ScaleAlignment:
    """The quality signal, without timings."""
    return ScaleAlignment(
        header=header,
        state=alignment.state.value,
        reason=alignment.reason,
        scale=float(alignment.scale),
        shift=float(alignment.shift),
        inliers=int(alignment.inliers),
        inlier_ratio=float(alignment.inlier_ratio),
        residual=float(alignment.residual_m),
        uncertainty=float(alignment.uncertainty),
        window=window,
    )


def _stages(
    estimator_s: Mapping[str, float], publishing_s: Mapping[str, float], latency_s: float
) -> list[StageTiming]:
    """Where the latency went: waiting for the depth image and for the inference before, first."""
    stages = {name: value for name, value in estimator_s.items() if name != "total"}
    stages |= publishing_s
    stages = {"wait": latency_s - sum(stages.values())} | stages
    return [StageTiming(name=name, seconds=seconds) for name, seconds in stages.items()]


def colored_depth(depth: npt.NDArray[np.float32], min_m: float, max_m: float) -> RgbImage:
    """(H, W) metres -> (H, W, 3) RGB from blue (near) to red (far), black where unknown.

    The range is fixed, so that a depth keeps its colour from frame to frame.
    """
    steps = (depth - np.float32(min_m)) * np.float32(254.0 / (max_m - min_m)) + np.float32(1.0)
    np.clip(steps, 1.0, 255.0, out=steps)
    steps[np.isnan(depth)] = 0.0
    return np.asarray(cv2.applyColorMap(steps.astype(np.uint8), _color_table()), dtype=np.uint8)


def _color_table() -> npt.NDArray[np.uint8]:
    """(256, 1, 3) RGB, the first entry black."""
    bgr = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_TURBO)
    rgb = np.ascontiguousarray(bgr[..., ::-1], dtype=np.uint8)
    rgb[0] = 0
    return rgb


class _Stopwatch:
    def __init__(self) -> None:
        self.laps_s: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps_s[name] = now - self._last
        self._last = now
