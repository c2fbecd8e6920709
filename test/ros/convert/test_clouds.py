"""Point clouds: the layout that others read, and the filters."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("sensor_msgs", reason="needs the ROS message packages")

import torch
from fixtures.transfers import DEVICE, PretendDevice
from sensor_msgs.msg import PointCloud2

from dkt_ros.frames import Frame
from dkt_ros.geometry import Intrinsics, backproject
from dkt_ros.ros.convert.clouds import CloudOptions, CloudWriter
from dkt_ros.ros.convert.messages import make_header

pytestmark = pytest.mark.ros
HEADER = make_header(5, "camera")


def scene(height: int = 30, width: int = 40) -> tuple[npt.NDArray[np.float32], Frame]:
    """A wall at 1 m with a box at 0.5 m before it and a hole."""
    depth = np.full((height, width), 1.0, dtype=np.float32)
    depth[10:20, 10:20] = 0.5
    depth[:5, :5] = np.nan
    y, x = np.mgrid[0:height, 0:width]
    rgb = np.stack([x, y, x + y], axis=-1).astype(np.uint8)
    intrinsics = Intrinsics(30.0, 31.0, 19.5, 14.5, width, height)
    return depth, Frame(rgb, None, intrinsics, 5, "camera")


def write(options: CloudOptions = CloudOptions()) -> PointCloud2:  # noqa: B008 frozen
    return write_scene(CloudWriter(), *scene(), options)


def write_scene(
    writer: CloudWriter, depth: npt.NDArray[np.float32], frame: Frame, options: CloudOptions
) -> PointCloud2:
    return writer.write(depth, frame.rgb, frame.intrinsics, options, HEADER)


def points(cloud: PointCloud2) -> npt.NDArray[Any]:
    """The cloud as depth_image_proc's readers take it: by the fields' offsets."""
    names = [field.name for field in cloud.fields]
    layout = np.dtype(
        {
            "names": names,
            "formats": ["<f4"] * len(names),
            "offsets": [field.offset for field in cloud.fields],
            "itemsize": cloud.point_step,
        }
    )
    return np.frombuffer(cloud.data, dtype=layout).reshape(cloud.height, cloud.width)


def colours(cloud: PointCloud2) -> npt.NDArray[np.uint8]:
    packed = np.ascontiguousarray(points(cloud)["rgb"]).view("<u4")
    assert not (packed >> 24).any()
    return np.stack([packed >> 16 & 255, packed >> 8 & 255, packed & 255], -1).astype(np.uint8)


def test_organized_clouds_are_the_back_projection_row_by_row() -> None:
    depth, frame = scene()
    cloud = write()
    assert (cloud.height, cloud.width, cloud.is_dense) == (30, 40, False)
    assert (cloud.point_step, cloud.row_step, len(cloud.data)) == (32, 1280, 38400)
    assert [field.offset for field in cloud.fields] == [0, 4, 8, 16]
    seen = points(cloud)
    xyz = np.stack([seen["x"], seen["y"], seen["z"]], axis=-1)
    np.testing.assert_array_equal(xyz, backproject(depth, frame.intrinsics))
    assert np.isnan(xyz[:5, :5]).all()
    np.testing.assert_array_equal(colours(cloud), frame.rgb)
    padding = np.frombuffer(cloud.data, "u1").reshape(-1, 32)[:, [*range(12, 16), *range(20, 32)]]
    assert not padding.any()


def test_filtered_clouds_hold_known_points_only() -> None:
    depth, frame = scene()
    cloud = write(CloudOptions(organized=False))
    assert (cloud.height, cloud.width, cloud.is_dense) == (1, 30 * 40 - 25, True)
    assert len(cloud.data) == 32 * cloud.width
    np.testing.assert_array_equal(points(cloud)["z"][0], depth[np.isfinite(depth)])
    np.testing.assert_array_equal(colours(cloud)[0], frame.rgb[np.isfinite(depth)])


@pytest.mark.parametrize("organized", [True, False])
def test_a_stride_takes_every_so_manieth_pixel(organized: bool) -> None:
    depth, frame = scene()
    cloud = write(CloudOptions(organized=organized, stride=3))
    full = backproject(depth, frame.intrinsics)[::3, ::3]
    expected, rgb = full, frame.rgb[::3, ::3]
    if not organized:
        known = np.isfinite(full[..., 2])
        expected, rgb = full[known][None], rgb[known][None]
    seen = points(cloud)
    xyz = np.stack([seen["x"], seen["y"], seen["z"]], axis=-1)
    np.testing.assert_allclose(xyz, expected, rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(colours(cloud), rgb)


def test_jumps_in_depth_are_dropped_from_the_cloud() -> None:
    z = points(write(CloudOptions(max_jump=0.1)))["z"]
    assert np.isnan(z[10, 10])
    assert np.isnan(z[9, 12])
    assert z[15, 15] == 0.5
    assert z[25, 35] == 1.0


def test_voxels_thin_the_cloud() -> None:
    pytest.importorskip("open3d")
    cloud = write(CloudOptions(organized=False, voxel_m=0.2))
    assert 0 < cloud.width < 100
    assert np.isfinite(points(cloud)["z"]).all()


def test_outliers_are_dropped() -> None:
    pytest.importorskip("open3d")
    depth, frame = scene()
    depth[25, 35] = 9.0
    options = CloudOptions(organized=False, outlier_neighbors=8, outlier_deviations=3.0)
    z = points(write_scene(CloudWriter(), depth, frame, options))["z"]
    assert z.max() == 1.0
    assert z.shape[1] > 1100


@pytest.mark.parametrize("organized", [True, False])
def test_without_depth_there_is_a_cloud_all_the_same(organized: bool) -> None:
    depth, frame = scene()
    depth[:] = np.nan
    cloud = write_scene(CloudWriter(), depth, frame, CloudOptions(organized=organized))
    assert cloud.width == (40 if organized else 0)
    assert len(cloud.data) == 32 * cloud.width * cloud.height
    assert np.isnan(points(cloud)["z"]).all()


@pytest.mark.parametrize(
    "options",
    [
        CloudOptions(),
        CloudOptions(stride=3, max_jump=0.1),
        CloudOptions(organized=False),
        CloudOptions(organized=False, stride=2, max_jump=0.1),
    ],
)
def test_from_a_device_in_one_download(options: CloudOptions) -> None:
    depth, frame = scene()
    expected = write(options)
    with PretendDevice() as device:
        held, colors = (torch.from_numpy(array).to(DEVICE) for array in (depth, frame.rgb))
        writer = CloudWriter()
        for _ in range(2):  # the first puts the camera's rays there
            before = len(device.crossings.uploads), len(device.crossings.downloads)
            cloud = writer.write(held, colors, frame.intrinsics, options, HEADER)
    assert (cloud.height, cloud.width) == (expected.height, expected.width)
    assert cloud.is_dense == expected.is_dense
    seen, wanted = points(cloud), points(expected)
    for name in ("x", "y", "z"):
        np.testing.assert_allclose(seen[name], wanted[name], rtol=1e-5, equal_nan=True)
    np.testing.assert_array_equal(colours(cloud), colours(expected))
    assert len(device.crossings.uploads) == before[0]
    per_point = 32 if options.organized else 15
    count = cloud.height * cloud.width
    assert device.crossings.downloads[before[1] :] == [per_point * count]


def test_a_device_s_cloud_without_points() -> None:
    depth, frame = scene()
    depth[:] = np.nan
    with PretendDevice():
        held, colors = (torch.from_numpy(array).to(DEVICE) for array in (depth, frame.rgb))
        options = CloudOptions(organized=False)
        cloud = CloudWriter().write(held, colors, frame.intrinsics, options, HEADER)
    assert (cloud.width, len(cloud.data)) == (0, 0)


def test_one_writer_serves_frames_of_all_sizes() -> None:
    writer = CloudWriter()
    for height, width in ((30, 40), (24, 32), (30, 40)):
        depth, frame = scene(height, width)
        cloud = write_scene(writer, depth, frame, CloudOptions())
        np.testing.assert_array_equal(points(cloud)["z"], depth)
        cloud = write_scene(writer, depth, frame, CloudOptions(organized=False))
        assert cloud.width == np.isfinite(depth).sum()
