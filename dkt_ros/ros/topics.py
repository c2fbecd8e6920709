"""What the node publishes, each topic once: its type, how its message is made, what it is for.

A new topic is one more entry of OUTPUTS. The node's publishers, `dkt_node --help`, docs/topics.md's
table, the launch file's remappings and the tests' subscribers are made from that table.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from std_msgs.msg import Header

from dkt_ros.arrays import constant, device_of
from dkt_ros.colors import colored
from dkt_ros.geometry import Box, normals, where
from dkt_ros.messages.alignment import alignment_fields
from dkt_ros.messages.compressed_images import depth_to_compressed
from dkt_ros.messages.observation import Observation
from dkt_ros.msg import ScaleAlignment, StageTiming
from dkt_ros.ros.convert.clouds import CloudOptions, CloudWriter
from dkt_ros.ros.convert.images import (
    depth_to_image,
    depth_to_millimetres,
    mask_to_image,
    normals_to_image,
    rgb_to_image,
)
from dkt_ros.ros.convert.messages import camera_info_with_header
from dkt_ros.ros.params.parameters import NodeParameters
from dkt_ros.ros.transforms import Way

if TYPE_CHECKING:
    from dkt_ros.estimator import DepthEstimate

CAPTURE = "dkt/capture_depth"
"""Service and action, of a node's namespace."""


@dataclass(frozen=True, eq=False)
class Result:
    """What the messages of one frame are made from.

    header    stamp and frame_id of the colour image
    clouds    makes one cloud after another in the same memory
    stages_s  seconds spent on the messages so far, by stage
    mask      (H, W) bool, the object; None: no mask of this stamp has come
    find      finds the way to a tf frame, see Transforms
    """

    observation: Observation
    estimate: DepthEstimate
    header: Header
    parameters: NodeParameters
    clouds: CloudWriter = field(default_factory=CloudWriter)
    stages_s: dict[str, float] = field(default_factory=dict)
    mask: npt.NDArray[np.bool_] | None = None
    find: Callable[[str, Header], Way] | None = None


@dataclass(frozen=True)
class Output:
    """One published topic.

    make   None where the frame has none
    topic  relative, so that a namespace holds for it
    lazy   made only when someone listens, after the others and beside the next inference: a slow
           reader of it costs its own messages only
    prompt made when someone listens too, but with the others, at once
    masked made of frames that an object's mask of the same stamp came for
    newest sent again, where it got lost, only until the next one: large, or for people, and not
           what is paired by stamp
    help   a line for docs/topics.md and `--help`
    """

    topic: str
    type: type
    make: Callable[[Result], Any]
    help: str
    lazy: bool = False
    prompt: bool = False
    masked: bool = False
    newest: bool = False

    @property
    def is_beside(self) -> bool:
        """Whether it is made beside the next inference."""
        return self.lazy and not self.prompt

    @property
    def name(self) -> str:
        """The topic without `dkt/`."""
        return self.topic.removeprefix("dkt/")


def _alignment(result: Result) -> ScaleAlignment:
    estimate = result.estimate
    fields = alignment_fields(estimate.alignment, estimate.window, estimate.shares)
    message = ScaleAlignment(header=result.header, **fields)
    message.latency = time.monotonic() - result.observation.arrived_s
    stages = {name: value for name, value in estimate.timings_s.items() if name != "total"}
    stages |= result.stages_s
    # Before all of them: waiting for the depth image and for the inference before.
    stages = {"wait": message.latency - sum(stages.values())} | stages
    message.stages = [StageTiming(name=name, seconds=seconds) for name, seconds in stages.items()]
    return message


def _confidence(result: Result) -> Image:
    confidence = result.estimate.confidence
    if confidence is None:  # not fused, and the network has no opinion of its own
        missing = np.isnan(result.estimate.depth)
        confidence = np.where(missing, np.float32(0), np.float32(np.nan))
    return depth_to_image(confidence, result.header)


def cloud_options(result: Result) -> CloudOptions:
    """What the parameters say of clouds; raises DktError where tf has no way to crop_frame."""
    parameters = result.parameters
    box = None
    if parameters.crop_box:
        box = Box.parse(parameters.crop_box)
        if parameters.crop_frame and result.find is not None:
            rotation, translation = result.find(parameters.crop_frame, result.header)
            box = replace(box, rotation=rotation.tolist(), translation=translation.tolist())
    return CloudOptions(
        organized=parameters.points_organized,
        stride=parameters.points_stride,
        max_jump=parameters.points_max_jump,
        layout=parameters.points_layout,
        color_field=parameters.points_color_field,
        box=box,
        voxel_m=parameters.points_voxel_m,
        outlier_neighbors=parameters.points_outlier_neighbors,
        outlier_deviations=parameters.points_outlier_deviations,
    )


def _points(result: Result) -> PointCloud2:
    pixels, intrinsics = result.estimate.pixels, result.estimate.frame.intrinsics
    depth = pixels.depth
    if result.mask is not None:
        depth = where(constant(result.mask, device_of(depth)), depth)
    options, header, frame = cloud_options(result), result.header, result.parameters.points_frame
    if frame and result.find is not None:
        options = replace(options, way=result.find(frame, header))
        header = Header(stamp=header.stamp, frame_id=frame)
    return result.clouds.write(depth, pixels.rgb, intrinsics, options, header)


def _normals(result: Result) -> Image | None:
    estimate, vectors = result.estimate, result.estimate.normals
    if vectors is not None:
        unknown = ~vectors.any(axis=-1, keepdims=True)
        return normals_to_image(np.where(unknown, np.float32(np.nan), vectors), result.header)
    if result.parameters.normals_checkpoint:  # this frame was under way when somebody came
        return None
    vectors = normals(estimate.depth, estimate.frame.intrinsics, result.parameters.normals_reach_px)
    return normals_to_image(vectors, result.header)


def _compressed_depth(result: Result) -> CompressedImage:
    parameters = result.parameters
    kind, data = depth_to_compressed(
        result.estimate.depth,
        parameters.compressed_depth_format,
        parameters.min_depth_m,
        parameters.max_depth_m,
    )
    message = CompressedImage(header=result.header, format=kind)
    message.data.frombytes(data)
    return message


def _depth_color(result: Result) -> Image:
    parameters = result.parameters
    low, high = parameters.depth_color_min_m, parameters.depth_color_max_m
    return rgb_to_image(colored(result.estimate.depth, low, high), result.header)


OUTPUTS = (
    Output(
        "dkt/camera_info",
        CameraInfo,
        lambda result: camera_info_with_header(result.observation.camera_info, result.header),
        "pairs with `dkt/depth`; the camera's region of interest and binning are applied to K and "
        "P, as many readers ignore them",
    ),
    Output(
        "dkt/depth",
        Image,
        lambda result: depth_to_image(result.estimate.depth, result.header),
        "32FC1, metres along the optical axis (REP-118), NaN = unknown, colour's size",
    ),
    Output(
        "dkt/alignment",
        ScaleAlignment,
        _alignment,
        "state, residual in metres, uncertainty, shares of sensor and network, scale, shift, stage "
        "timings",
    ),
    Output(
        "dkt/color",
        Image,
        lambda result: rgb_to_image(result.estimate.frame.rgb, result.header),
        "rgb8, the image that `dkt/depth` was computed from: pairs exactly, however old it is",
        lazy=True,
        prompt=True,
    ),
    Output(
        "dkt/depth_mm",
        Image,
        lambda result: depth_to_millimetres(result.estimate.depth, result.header),
        "16UC1, `dkt/depth` in millimetres, 0 = unknown (REP-118); with the same camera_info",
        lazy=True,
        prompt=True,
    ),
    Output(
        "dkt/confidence",
        Image,
        _confidence,
        "32FC1, 0 to 1: probability that the depth is within `confidence_tolerance` of the truth; "
        "0 where there is no depth, NaN where there is one and `depth` is `network`",
        lazy=True,
    ),
    Output(
        "dkt/source",
        Image,
        lambda result: mask_to_image(result.estimate.source, result.header),
        "mono8: where each pixel's depth comes from, 0 nothing, 1 the sensor, 2 the network",
        lazy=True,
    ),
    Output(
        "dkt/points",
        PointCloud2,
        _points,
        "x y z rgb, organised or filtered",
        lazy=True,
        newest=True,
    ),
    Output(
        "dkt/object_points",
        PointCloud2,
        _points,
        "the same for only the object on a `mask` image of the same stamp",
        lazy=True,
        masked=True,
        newest=True,
    ),
    Output(
        "dkt/normals",
        Image,
        _normals,
        "32FC3, unit vectors in the camera's optical frame that face the camera, NaN = unknown; "
        "computed from depth, or by the network of `normals_checkpoint`",
        lazy=True,
    ),
    Output(
        "dkt/depth_color",
        Image,
        _depth_color,
        "rgb8, near blue and far red, for people",
        lazy=True,
        newest=True,
    ),
    Output(
        "dkt/depth/compressedDepth",
        CompressedImage,
        _compressed_depth,
        "`dkt/depth` as image_transport's compressedDepth, for recording and slow links; within "
        "0.1 mm at 1 m",
        lazy=True,
    ),
)
"""In the order of publishing: calibration before its depth, which is what a planner waits for."""

_DIAGNOSTICS = ("/diagnostics", "diagnostic_msgs/DiagnosticArray", "what comes in, what is lost "
                "and why, latencies, memory, model, last error, each with its remedy")  # fmt: skip


def _rows() -> list[tuple[str, str, str]]:
    """Topic, type and meaning of all that is published."""
    rows = []
    for output in OUTPUTS:
        kind = f"{output.type.__module__.partition('.')[0]}/{output.type.__name__}"
        rows.append((output.topic, kind, output.help + "; made only for subscribers" * output.lazy))
    return [*rows, _DIAGNOSTICS]


def topics_markdown() -> str:
    """The table of docs/topics.md."""
    lines = ["| published | type | |", "|---|---|---|"]
    lines += [f"| `{topic}` | {kind} | {help_} |" for topic, kind, help_ in _rows()]
    return "\n".join(lines) + "\n"


def topics_text() -> str:
    """The list that `dkt_node --help` shows."""
    lines = [
        "subscribed: color/image, color/camera_info, depth/image (registered to colour); mask (an",
        "            object's, mono8 of the colour image's stamp, if anybody publishes one)",
    ]
    lines += [f"published:  {topic:<16} {kind}, {help_}" for topic, kind, help_ in _rows()]
    return "\n".join(lines).replace("`", "") + "\n"
