"""Depth and colour -> sensor_msgs/PointCloud2. Knows the message's layout; nothing of nodes.

x y z are float32 at 0, 4, 8. In layout xyzrgb32 a point takes 32 bytes with the colour at 16, as
depth_image_proc publishes it and PCL's PointXYZRGB has it in memory; in packed16 it takes 16 bytes
with the colour at 12, where readers of fixed offsets look. The colour is `rgb`, a float32 whose
bytes are B, G, R, 0, or `rgba`, a uint32 whose bytes are B, G, R, 255, as PCL's PointXYZRGBA.

Depth and colour on a device become points there, and one download brings these into the message;
voxels and outliers are found on the host.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from dkt_ros.arrays import Array, download, is_tensor, namespace, write_to
from dkt_ros.geometry import (
    Box,
    Intrinsics,
    backproject,
    inside,
    known_points,
    remove_flying_pixels,
)
from dkt_ros.point_filters import remove_outliers, voxel_downsample

_LOOKED_AT = 2000
"""Points of a cloud before all of them: in most there is one among so few."""
LAYOUTS = {"xyzrgb32": (8, 4), "packed16": (4, 3)}
"""Name -> 4-byte cells of a point, and which of them holds the colour."""


@dataclass(frozen=True)
class CloudOptions:
    """Which points are published.

    organized           rows and columns of the image, NaN where unknown; else known points only
    stride              one point for every so many pixels, in rows and in columns
    max_jump            drop points beside a relative jump in depth larger than this; 0: keep
    layout              of LAYOUTS
    color_field         "rgb" or "rgba"
    box                 drop points outside of it; None: keep
    way                 rotation (3, 3) and translation (3,) of all points, last; None: as they are

    Looked at only when not organized:
    voxel_m             one point per cube of this edge, metres; 0: all
    outlier_neighbors   drop points that stand off from this many neighbours; 0: keep
    outlier_deviations  by more than this many standard deviations
    """

    organized: bool = True
    stride: int = 1
    max_jump: float = 0.0
    layout: str = "xyzrgb32"
    color_field: str = "rgb"
    box: Box | None = None
    way: tuple[np.ndarray, np.ndarray] | None = None
    voxel_m: float = 0.0
    outlier_neighbors: int = 0
    outlier_deviations: float = 2.0


class CloudWriter:
    """Makes one PointCloud2 after another in the same memory.

    A cloud of 1280x720 has 29 MB; taking them anew from the system for every frame would cost more
    than filling them. The returned message is therefore good until the next call.
    """

    def __init__(self) -> None:
        self._kind = ("", "")
        self._reused = PointCloud2()
        self._planes = np.zeros((0, 0, 0), dtype=np.float32)

    def write(
        self,
        depth: Array,
        rgb: Array,
        intrinsics: Intrinsics,
        options: CloudOptions,
        header: Header,
    ) -> PointCloud2:
        """The cloud of depth (H, W) float32 metres, NaN = unknown, in the colours of rgb.

        rgb: (H, W, 3) uint8. Both numpy arrays, or both tensors on one device.
        """
        self._begin(options)
        _, depth, intrinsics = list(_filters(depth, intrinsics, options))[-1]
        rgb = rgb[:: options.stride, :: options.stride]
        if options.organized:
            return _moved(self._organized(depth, rgb, intrinsics, header), options)
        points: npt.NDArray[np.float32]
        colors: npt.NDArray[np.uint8] | None
        points, colors = download(*known_points(backproject(depth, intrinsics), rgb))
        if options.voxel_m > 0.0:
            points, colors = voxel_downsample(points, options.voxel_m, colors)
        if options.outlier_neighbors > 0:
            points, colors = remove_outliers(
                points, options.outlier_neighbors, options.outlier_deviations, colors
            )
        assert colors is not None  # they were given
        return _moved(self._filtered(points, colors, header), options)

    def _begin(self, options: CloudOptions) -> None:
        """Lays the next message out."""
        if self._kind == (options.layout, options.color_field):
            return
        self._kind = (options.layout, options.color_field)
        self._cells, self._color_cell = LAYOUTS[options.layout]
        self._alpha = 255 if options.color_field == "rgba" else 0
        self._fields = [
            PointField(name=name, offset=4 * cell, datatype=PointField.FLOAT32, count=1)
            for name, cell in (
                ("x", 0),
                ("y", 1),
                ("z", 2),
                (options.color_field, self._color_cell),
            )
        ]
        if options.color_field == "rgba":
            self._fields[-1].datatype = PointField.UINT32
        self._renew(0)
        self._planes = np.zeros((self._cells, 0, 0), dtype=np.float32)

    def _renew(self, size: int) -> None:
        self._reused = PointCloud2(fields=self._fields, point_step=4 * self._cells)
        # Into its own array: assigning copies all of it, on every frame.
        self._reused.data.frombytes(bytes(size))

    def _organized(
        self, depth: Array, rgb: Array, intrinsics: Intrinsics, header: Header
    ) -> PointCloud2:
        if is_tensor(depth):
            cells = depth.new_zeros((*depth.shape, self._cells))
            backproject(depth, intrinsics, out=cells[..., :3])
            cells[..., self._color_cell] = _packed_tensor(rgb, self._alpha)
            cloud = self._cloud_of(tuple(depth.shape))
            write_to(cloud, cells)
            return self._message(cloud, header, is_dense=False)
        planes = self._planes_of(depth.shape)
        backproject(depth, intrinsics, out=np.moveaxis(planes[:3], 0, -1))
        planes[self._color_cell] = _packed(rgb, self._alpha)
        cloud = self._cloud_of(depth.shape)
        cv2.merge(list(planes), dst=cloud)
        return self._message(cloud, header, is_dense=False)

    def _filtered(
        self, points: npt.NDArray[np.float32], rgb: npt.NDArray[np.uint8], header: Header
    ) -> PointCloud2:
        cloud = self._cloud_of((1, len(points)))
        if len(points):
            cloud[0, :, :3] = points
            cloud[0, :, self._color_cell] = _packed(rgb[None], self._alpha)[0]
        return self._message(cloud, header, is_dense=True)

    def _message(
        self, cloud: npt.NDArray[np.float32], header: Header, is_dense: bool
    ) -> PointCloud2:
        message = self._reused
        message.header = header
        message.height, message.width = cloud.shape[:2]
        message.row_step = message.width * message.point_step
        message.is_dense = is_dense
        return message

    def _planes_of(self, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        if self._planes.shape[1:] != shape:
            self._planes = np.zeros((self._cells, *shape), dtype=np.float32)
        return self._planes

    def _cloud_of(self, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """(H, W, cells) float32 view of the message's own memory."""
        size = shape[0] * shape[1] * 4 * self._cells
        if len(self._reused.data) != size:
            self._renew(size)
        return np.frombuffer(self._reused.data, dtype=np.float32).reshape(*shape, self._cells)


def _filters(
    depth: Array, intrinsics: Intrinsics, options: CloudOptions
) -> Iterator[tuple[str, Array, Intrinsics]]:
    """The name of each option that takes points away, and what it leaves; "" first."""
    yield "", depth, intrinsics
    if options.max_jump > 0.0:
        depth = remove_flying_pixels(depth, options.max_jump)
        yield "max_jump", depth, intrinsics
    if options.stride > 1:
        depth = depth[:: options.stride, :: options.stride]
        intrinsics = _every(intrinsics, options.stride, tuple(depth.shape))
        yield "stride", depth, intrinsics
    if options.box is not None:
        depth = inside(depth, intrinsics, options.box)
        yield "box", depth, intrinsics


def emptied_by(depth: Array, intrinsics: Intrinsics, options: CloudOptions) -> str:
    """The option that takes the last points of depth (H, W) away; "" where some are left."""
    for name, left, _ in _filters(depth, intrinsics, options):
        if not bool((left > 0).any()):
            return name
    return ""


def has_points(cloud: PointCloud2) -> bool:
    """Whether any place is known in a cloud with x at 0."""
    if not cloud.width:
        return False
    across = np.frombuffer(cloud.data, np.float32)[:: cloud.point_step // 4]
    some = across[:: 1 + len(across) // _LOOKED_AT]
    return bool(np.isfinite(some).any() or np.isfinite(across).any())


def _moved(cloud: PointCloud2, options: CloudOptions) -> PointCloud2:
    if options.way is not None:
        rotation, translation = (part.astype(np.float32) for part in options.way)
        cells = np.frombuffer(cloud.data, np.float32).reshape(-1, cloud.point_step // 4)
        cells[:, :3] = cells[:, :3] @ rotation.T + translation
    return cloud


def _every(intrinsics: Intrinsics, stride: int, shape: tuple[int, ...]) -> Intrinsics:
    """The camera that sees one pixel in `stride`, a side; `shape` is (rows, columns) of these."""
    return Intrinsics(
        fx=intrinsics.fx / stride,
        fy=intrinsics.fy / stride,
        cx=intrinsics.cx / stride,
        cy=intrinsics.cy / stride,
        width=shape[1],
        height=shape[0],
    )


def _packed(rgb: npt.NDArray[np.uint8], alpha: int) -> npt.NDArray[np.float32]:
    """(H, W, 3) uint8 -> (H, W) float32 whose bytes are B, G, R, alpha."""
    bgra = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2BGRA).view("<u4")[..., 0]
    if not alpha:
        bgra &= 0x00FFFFFF
    packed: npt.NDArray[np.float32] = bgra.view(np.float32)
    return packed


def _packed_tensor(rgb: Array, alpha: int) -> Array:
    """The same of a tensor, on its device."""
    red, green, blue = rgb.int().unbind(-1)
    opaque = -(1 << 24) if alpha else 0  # int32 has the sign there
    return (red << 16 | green << 8 | blue | opaque).view(namespace(rgb).float32)
