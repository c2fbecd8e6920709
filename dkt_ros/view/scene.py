"""What rerun is shown, and how it is laid out. Knows moments; nothing of where they come from."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import rerun as rr
import rerun.blueprint as rrb
from numpy.typing import NDArray

from dkt_ros.files import PARTIAL, StorageError, writing
from dkt_ros.geometry import Intrinsics, backproject, known_points, to_millimetres
from dkt_ros.messages.moments import Moment

TIMELINE = "stamp"
_APPLICATION = "dkt_ros"
_PICTURES = (("color", "Colour"), ("raw", "Raw depth"), ("depth", "DKT depth"))
_PLOTS = (
    ("Scale and shift (1/m)", ("scale", "shift")),
    ("Residual to raw depth (m)", ("residual",)),
    (
        "Uncertainty, inliers, shares",
        ("uncertainty", "inlier_ratio", "share_sensor", "share_network"),
    ),
    ("Latency (s)", ("latency",)),
)
_JPEG_QUALITY = 90
_WAITING_BYTES = 512 * 2**20
"""Most of pictures whose depth or colour is yet to come: 6 s of a camera's 1280x720 at 30 Hz."""
_LEAST_FREE_BYTES = 32 * 2**20
"""More than one frame takes."""


class Scene:
    """Moments in, entities of a rerun recording out.

    camera (Pinhole), camera/color (JPEG), camera/raw and camera/depth (whole millimetres, 0
    unknown, one range of colours), confidence, points, alignment/NAME, alignment/state: all on the
    timeline TIMELINE.
    """

    def __init__(self, recording: rr.RecordingStream, points: int = 20_000) -> None:
        """points: at most so many of a cloud."""
        self._recording, self._points = recording, points
        self._camera: Intrinsics | None = None
        self._state: str | None = None
        self._range: tuple[float, float] | None = None
        self._waiting: dict[int, dict[str, NDArray[np.generic]]] = {}
        recording.send_blueprint(_blueprint())
        recording.log("/", rr.ViewCoordinates.RDF, static=True)

    def add(self, moment: Moment) -> None:
        """Shows what the moment knows, at its stamp."""
        log = self._recording.log
        self._recording.set_time(TIMELINE, timestamp=np.datetime64(moment.stamp_ns, "ns"))
        if moment.intrinsics is not None and moment.intrinsics != self._camera:
            camera = self._camera = moment.intrinsics
            log(
                "camera",
                rr.Pinhole(
                    focal_length=(camera.fx, camera.fy),
                    principal_point=(camera.cx, camera.cy),
                    resolution=(camera.width, camera.height),
                    camera_xyz=rr.ViewCoordinates.RDF,
                ),
            )
        if moment.color is not None:
            log("camera/color", rr.Image(moment.color).compress(jpeg_quality=_JPEG_QUALITY))
        for name, depth in (("raw", moment.raw), ("depth", moment.depth)):
            if depth is not None:
                log(f"camera/{name}", self._depth_image(depth))
        if moment.confidence is not None:
            values = moment.confidence.astype(np.float16)
            log("confidence", rr.DepthImage(values, colormap="viridis", depth_range=(0.0, 1.0)))
        for name, value in moment.series.items():
            if math.isfinite(value):
                log(f"alignment/{name}", rr.Scalars(value))
        if moment.state is not None and moment.state != self._state:
            self._state = moment.state
            log("alignment/state", rr.TextLog(moment.state))
        self._cloud(moment)

    def _depth_image(self, depth: NDArray[np.float32]) -> rr.DepthImage:
        millimetres = to_millimetres(depth)
        if self._range is None and millimetres.any():
            low, high = np.percentile(millimetres[millimetres > 0], (1, 99)).tolist()
            self._range = 0.95 * low, 1.05 * high
        return rr.DepthImage(millimetres, meter=1e3, colormap="turbo", depth_range=self._range)

    def _cloud(self, moment: Moment) -> None:
        """Depth in its own colours, as soon as both are there."""
        pair = (("color", moment.color), ("depth", moment.depth))
        new = {name: value for name, value in pair if value is not None}
        if not new:
            return
        found = self._waiting.setdefault(moment.stamp_ns, {})
        found |= new
        whole = len(found) == 2 and self._camera is not None
        # Those before one that is whole will not be asked for: depth comes in the order of stamps.
        while (first := next(iter(self._waiting))) != moment.stamp_ns and (
            whole or self._waiting_bytes() > _WAITING_BYTES
        ):
            del self._waiting[first]
        if not whole:
            return
        assert self._camera is not None
        color, depth = found["color"], found["depth"].astype(np.float32, copy=False)
        del self._waiting[moment.stamp_ns]
        if color.shape[:2] != depth.shape or depth.shape != (
            self._camera.height,
            self._camera.width,
        ):
            return
        rgb = color.astype(np.uint8, copy=False)
        points, colors = known_points(backproject(depth, self._camera), rgb)
        every = max(1, math.ceil(len(points) / self._points))
        shown = rr.Points3D(
            points[::every],
            colors=None if colors is None else colors[::every],
            radii=rr.Radius.ui_points(1.5),
        )
        self._recording.log("points", shown)

    def _waiting_bytes(self) -> int:
        return sum(part.nbytes for parts in self._waiting.values() for part in parts.values())


def _blueprint() -> rrb.Blueprint:
    pictures = [rrb.Spatial2DView(origin=f"camera/{path}", name=name) for path, name in _PICTURES]
    pictures.append(rrb.Spatial2DView(origin="confidence", name="Confidence"))
    cloud = rrb.Spatial3DView(
        origin="/", contents=["/points", "/camera", "/camera/color"], name="Point cloud"
    )
    plots = [
        rrb.TimeSeriesView(
            origin="alignment", contents=[f"/alignment/{name}" for name in names], name=title
        )
        for title, names in _PLOTS
    ]
    told = rrb.TextLogView(origin="alignment/state", name="Alignment's state")
    return rrb.Blueprint(
        rrb.Horizontal(
            rrb.Grid(*pictures, grid_columns=2),
            rrb.Vertical(cloud, rrb.Grid(*plots, grid_columns=3), told, row_shares=[5, 4, 1]),
            column_shares=[5, 4],
        ),
        rrb.TimePanel(state="collapsed"),
        rrb.BlueprintPanel(state="collapsed"),
        rrb.SelectionPanel(state="collapsed"),
    )


@contextmanager
def shown(connect: str | None = None) -> Iterator[rr.RecordingStream]:
    """A recording in rerun's viewer: one that is started, or that runs at the URL `connect`."""
    recording = rr.RecordingStream(_APPLICATION)
    if connect is None:
        recording.spawn()
    else:
        recording.connect_grpc(connect or None)
    try:
        yield recording
    finally:
        recording.flush()
        recording.disconnect()


@contextmanager
def saved(path: Path) -> Iterator[rr.RecordingStream]:
    """A recording that becomes the file `path` when all is in it. Raises StorageError."""
    partial = path.with_name(path.name + PARTIAL)
    recording = rr.RecordingStream(_APPLICATION)
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.touch()
            recording.save(partial)
        yield recording
        with writing(path):
            recording.flush()
            recording.disconnect()
            check_room(path)
            os.replace(partial, path)
    finally:
        recording.disconnect()
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def check_room(path: Path) -> None:
    """Raises StorageError where the disk is all but full: rerun would lose frames in silence."""
    if shutil.disk_usage(path.parent).free < _LEAST_FREE_BYTES:
        raise StorageError(f"{path}: the disk is full; make room")
