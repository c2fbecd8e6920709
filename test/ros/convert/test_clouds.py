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
from dkt_ros.geometry import Box, Intrinsics, backproject
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
            "formats": ["<u4" if field.datatype == 6 else "<f4" for field in cloud.fields],
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


def test_what_is_set_anew_holds_from_the_next_cloud_on() -> None:
    """And nothing is left in it of the one before; the camera may be turned, too."""
    writer = CloudWriter()
    for changes in (
        {},
        {"color_field": "rgba"},
        {"color_field": "rgba", "organized": False},
        {"layout": "packed16", "organized": False},
        {"layout": "packed16"},
        {},
    ):
        options = CloudOptions(**changes)
        for size in ((30, 40), (40, 30)):
            depth, frame = scene(*size)
            again = write_scene(writer, depth, frame, options)
            assert again == write_scene(CloudWriter(), depth, frame, options)


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
    cloud = write(CloudOptions(organized=False, voxel_m=0.2))
    assert 0 < cloud.width < 100
    assert np.isfinite(points(cloud)["z"]).all()


def test_outliers_are_dropped() -> None:
    pytest.importorskip("scipy")
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
        CloudOptions(layout="packed16"),
        CloudOptions(box=Box((-0.2, -1.0, 0.0), (0.3, 1.0, 0.8))),
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
    per_point = cloud.point_step if options.organized else 15
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


@pytest.mark.parametrize("organized", [True, False])
def test_packed16_is_read_at_fixed_offsets(organized: bool) -> None:
    """As AnyGrasp's wrapper does: x y z rgb in the first 16 bytes of each point."""
    depth, frame = scene()
    cloud = write(CloudOptions(organized=organized, layout="packed16"))
    assert (cloud.point_step, cloud.row_step) == (16, 16 * cloud.width)
    assert [(f.name, f.offset) for f in cloud.fields] == [("x", 0), ("y", 4), ("z", 8), ("rgb", 12)]
    known = np.isfinite(depth)
    fixed = np.frombuffer(cloud.data, "<f4").reshape(-1, 4)
    fixed = fixed[np.isfinite(fixed[:, 2])]
    expected = backproject(depth, frame.intrinsics)[known]
    np.testing.assert_allclose(fixed[:, :3], expected, rtol=1e-6, atol=1e-7)
    packed = np.ascontiguousarray(fixed[:, 3]).view("<u4")
    colors = np.stack([packed >> 16 & 255, packed >> 8 & 255, packed & 255], -1)
    np.testing.assert_array_equal(colors, frame.rgb[known])


@pytest.mark.parametrize("layout", ["xyzrgb32", "packed16"])
@pytest.mark.parametrize("on_device", [False, True])
def test_rgba_is_opaque_and_a_uint32(layout: str, on_device: bool) -> None:
    depth, frame = scene()
    options = CloudOptions(layout=layout, color_field="rgba")
    if on_device:
        with PretendDevice():
            held, rgb = (torch.from_numpy(array).to(DEVICE) for array in (depth, frame.rgb))
            cloud = CloudWriter().write(held, rgb, frame.intrinsics, options, HEADER)
    else:
        cloud = write(options)
    assert (cloud.fields[-1].name, cloud.fields[-1].datatype) == ("rgba", 6)
    packed = points(cloud)["rgba"]
    assert (packed >> 24 == 255).all()
    np.testing.assert_array_equal(packed >> 16 & 255, frame.rgb[..., 0])
    np.testing.assert_array_equal(packed & 255, frame.rgb[..., 2])


def test_a_layout_may_change_from_cloud_to_cloud() -> None:
    writer = CloudWriter()
    for layout, step in (("xyzrgb32", 32), ("packed16", 16), ("xyzrgb32", 32)):
        cloud = write_scene(writer, *scene(), CloudOptions(layout=layout))
        assert (cloud.point_step, len(cloud.data)) == (step, step * 1200)
        np.testing.assert_array_equal(points(cloud)["z"], scene()[0])


@pytest.mark.parametrize("organized", [True, False])
def test_a_box_keeps_what_is_inside(organized: bool) -> None:
    """The box at 0.5 m of the scene, its right half; the camera's frame turned about z."""
    turned = ((0.0, -1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0))
    depth, frame = scene()
    xyz = backproject(depth, frame.intrinsics)
    box = Box((-1.0, -0.1, 0.2), (1.0, 0.0, 0.7), turned, (0.0, 0.05, 0.1))
    cloud = write(CloudOptions(organized=organized, box=box))
    seen = points(cloud)
    expected = (xyz[..., 2] < 0.6) & (xyz[..., 0] + 0.05 <= 0) & (xyz[..., 0] + 0.05 >= -0.1)
    assert 0 < expected.sum() < 100
    np.testing.assert_array_equal(
        np.isfinite(seen["z"]).sum() if organized else cloud.width, expected.sum()
    )
    if organized:
        np.testing.assert_array_equal(np.isfinite(seen["z"]), expected)
