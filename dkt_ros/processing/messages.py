"""An estimate as the messages that the node would have published, serialized without ROS."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from dkt_ros.bags.encode import MessageEncoder
from dkt_ros.bags.recording import LabelledFrame
from dkt_ros.estimator import DepthEstimate
from dkt_ros.geometry import Intrinsics, backproject
from dkt_ros.messages.alignment import (
    DEFINITIONS,
    SCALE_ALIGNMENT,
    STAGE_TIMING,
    alignment_fields,
)

_POINT_FLOATS = 8
_FLOAT32 = 7
_FIELDS = (("x", 0), ("y", 4), ("z", 8), ("rgb", 16))


@lru_cache(maxsize=1)
def typestore() -> Typestore:
    """A recent ROS 2's types and this package's own."""
    store = get_typestore(Stores.ROS2_HUMBLE)
    for name, definition in DEFINITIONS.items():
        store.register(get_types_from_msg(definition, name))
    return store


def messages_of(
    labelled: LabelledFrame, estimate: DepthEstimate, color: str = "raw", points: bool = False
) -> list[tuple[str, Any]]:
    """Topic and message, in the node's order: calibration first.

    color: "raw" or "jpeg", as of bags/encode.py. points: whether to make a cloud.
    """
    frame = labelled.frame
    store = typestore()
    stamp = frame.stamp_ns
    encoder = MessageEncoder(store, frame.frame_id, color=color, depth="32FC1")
    header = encoder.header(stamp)
    info = labelled.camera_info
    if type(info) is not store.types["sensor_msgs/msg/CameraInfo"]:
        info = _camera_info(encoder, labelled, stamp)
    confidence = estimate.confidence
    if confidence is None:
        confidence = np.full(estimate.depth.shape, np.nan, np.float32)
    found = [
        ("/dkt/camera_info", replace(info, header=header)),
        ("/dkt/depth", encoder.image(np.asarray(estimate.depth, "<f4"), "32FC1", stamp)),
        ("/dkt/alignment", _alignment(store, estimate, header)),
        ("/dkt/confidence", encoder.image(np.asarray(confidence, "<f4"), "32FC1", stamp)),
        (
            "/dkt/color/compressed" if color == "jpeg" else "/dkt/color",
            encoder.color_image(frame.rgb, stamp),
        ),
    ]
    if points:
        cloud = _cloud(store, estimate.depth, frame.rgb, frame.intrinsics, header)
        found.append(("/dkt/points", cloud))
    return found


def _camera_info(encoder: MessageEncoder, labelled: LabelledFrame, stamp_ns: int) -> Any:
    """The recorded calibration in the types that are written; else the frame's pinhole camera."""
    info = labelled.camera_info
    plain: Any = encoder.camera_info(labelled.frame.intrinsics, stamp_ns)
    if info is None:
        return plain
    names = ("height", "width", "distortion_model", "d", "k", "r", "p", "binning_x", "binning_y")
    roi_names = ("x_offset", "y_offset", "height", "width", "do_rectify")
    roi = replace(plain.roi, **{name: getattr(info.roi, name) for name in roi_names})
    return replace(plain, **{name: getattr(info, name) for name in names}, roi=roi)


def _alignment(store: Typestore, estimate: DepthEstimate, header: Any) -> Any:
    stage = store.types[STAGE_TIMING]
    stages = [
        stage(name=name, seconds=seconds)
        for name, seconds in estimate.timings_s.items()
        if name != "total"
    ]
    return store.types[SCALE_ALIGNMENT](
        header=header,
        latency=estimate.timings_s["total"],
        stages=stages,
        **alignment_fields(estimate.alignment, estimate.window, estimate.shares),
    )


def colored_points(
    depth: NDArray[np.float32], rgb: NDArray[np.uint8], intrinsics: Intrinsics
) -> NDArray[np.float32]:
    """(H, W, 8) float32: x y z, a gap, rgb (bytes B, G, R, 0), a gap; the layout of dkt/points."""
    cells = np.zeros((*depth.shape, _POINT_FLOATS), np.float32)
    backproject(depth, intrinsics, out=cells[..., :3])
    bgra = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2BGRA).view("<u4")[..., 0]
    cells[..., 4] = (bgra & 0x00FFFFFF).view(np.float32)
    return cells


def _cloud(
    store: Typestore,
    depth: NDArray[np.float32],
    rgb: NDArray[np.uint8],
    intrinsics: Intrinsics,
    header: Any,
) -> Any:
    cells = colored_points(depth, rgb, intrinsics)
    field = store.types["sensor_msgs/msg/PointField"]
    step = 4 * _POINT_FLOATS
    return store.types["sensor_msgs/msg/PointCloud2"](
        header=header,
        height=depth.shape[0],
        width=depth.shape[1],
        fields=[
            field(name=name, offset=offset, datatype=_FLOAT32, count=1) for name, offset in _FIELDS
        ],
        is_bigendian=sys.byteorder == "big",
        point_step=step,
        row_step=step * depth.shape[1],
        data=cells.view(np.uint8).ravel(),
        is_dense=False,
    )
