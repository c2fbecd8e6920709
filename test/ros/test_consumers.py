"""Subscribers written like the planners of docs/consumers.md, on what the node publishes over DDS.

Each asks for its topics with its own QoS, pairs them as it does, and reads them as its source does:
by fixed offsets, by field names, by encodings. None of their code can be installed here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("dkt_ros.srv", reason="needs the generated services: make build")

from dkt_ros.srv import CaptureDepth
from fixtures.red_network import depth_of
from fixtures.red_rig import HEIGHT, WIDTH, RedRig, picture, red_rig
from fixtures.three_processes import stamp_ns
from rclpy.qos import QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from dkt_ros.geometry import Intrinsics, backproject, normals
from dkt_ros.ros.convert.images import mask_to_image
from dkt_ros.ros.convert.messages import make_header

pytestmark = [pytest.mark.ros, pytest.mark.flaky(reruns=2)]

TRUTH = depth_of(picture())
FOCAL_PX = 80.0
CAMERA = Intrinsics(FOCAL_PX, FOCAL_PX, (WIDTH - 1) / 2, (HEIGHT - 1) / 2, WIDTH, HEIGHT)
POINTS = backproject(TRUTH, CAMERA)
OBJECT = np.zeros((HEIGHT, WIDTH), bool)
OBJECT[15:30, 20:40] = True
SENSOR_DATA = qos_profile_sensor_data  # best effort, 5
DEFAULT = QoSProfile(depth=10)  # reliable
NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
DEPTH, COLOR, INFO = "/dkt/depth", "/dkt/color", "/dkt/camera_info"
Messages = dict[str, Any]


@dataclass
class Consumer:
    """A row of the table: what it subscribes to, how, and what it makes of that.

    topics      topic -> type
    accept      raises where it would fail or be misled
    parameters  of the node, that make it work
    masked      a mask of the colour image's stamp is published too
    """

    topics: dict[str, type]
    accept: Callable[[Messages], None]
    qos: QoSProfile = field(default_factory=lambda: DEFAULT)
    parameters: dict[str, Any] = field(default_factory=dict)
    masked: bool = False


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedRig]:
    with red_rig(tmp_path_factory.mktemp("rig")) as rig:
        yield rig


def metres(image: Image) -> npt.NDArray[np.float32]:
    """As depth_image_proc, nvblox and Isaac take it: 32FC1 metres or 16UC1 millimetres."""
    assert image.encoding in ("32FC1", "16UC1")
    kind, unit = ("<f4", 1.0) if image.encoding == "32FC1" else ("<u2", 0.001)
    assert image.step == image.width * np.dtype(kind).itemsize
    values = np.frombuffer(image.data, kind).reshape(image.height, image.width) * unit
    return np.where(values == 0, np.nan, values).astype(np.float32)


def check_depth(image: Image, tolerance_m: float = 1e-3) -> None:
    np.testing.assert_allclose(metres(image), TRUTH, atol=tolerance_m)


def check_color(image: Image) -> None:
    assert image.encoding in ("rgb8", "bgr8")
    seen = np.frombuffer(image.data, np.uint8).reshape(image.height, image.width, 3)
    np.testing.assert_array_equal(seen, picture())


def check_info(info: CameraInfo) -> None:
    assert (info.height, info.width) == (HEIGHT, WIDTH)
    assert info.k[0] == info.p[0] == FOCAL_PX
    assert info.header.frame_id == "camera_color_optical_frame"


def xyz_by_name(cloud: PointCloud2) -> npt.NDArray[np.float32]:
    """As PointCloud2Iterator and pcl::fromROSMsg find them."""
    offsets = {f.name: f.offset for f in cloud.fields if f.datatype == 7}
    raw = np.frombuffer(cloud.data, np.uint8).reshape(cloud.height * cloud.width, cloud.point_step)
    columns = [raw[:, offsets[name] : offsets[name] + 4] for name in "xyz"]
    points = np.concatenate(columns, axis=1).copy().view("<f4")
    assert cloud.row_step == cloud.width * cloud.point_step
    return points[np.isfinite(points).all(axis=1)]


def check_points(points: npt.NDArray[Any], where: npt.NDArray[np.bool_] | None = None) -> None:
    expected = POINTS.reshape(-1, 3) if where is None else POINTS[where]
    np.testing.assert_allclose(points, expected, atol=2e-3)


def moveit_cloud(messages: Messages) -> None:
    check_points(xyz_by_name(messages["/dkt/points"]))


def depth_and_info(messages: Messages) -> None:
    image = next(m for topic, m in messages.items() if topic.startswith(DEPTH))
    check_depth(image)
    check_info(messages[INFO])


def moveit_depth(messages: Messages) -> None:
    assert messages["/dkt/depth_mm"].encoding == "16UC1"
    assert not messages["/dkt/depth_mm"].is_bigendian
    depth_and_info(messages)


def rgbd(messages: Messages) -> None:
    check_color(messages[COLOR])
    depth_and_info(messages)


def rgbd_without_info(messages: Messages) -> None:
    image = messages["/dkt/depth_mm"]
    raw = np.frombuffer(image.data, np.uint16).reshape(image.height, image.width)
    np.testing.assert_allclose(raw / 1000.0, TRUTH, atol=1e-3)
    check_color(messages[COLOR])


def anygrasp_offsets(messages: Messages) -> None:
    """The first row alone, x y z rgb as four floats of 16 bytes."""
    cloud = messages["/dkt/points"]
    row = np.frombuffer(cloud.data, np.float32)[: cloud.width * 4].reshape(-1, 4)
    check_points(row[:, :3])
    packed = row[:, 3].copy().view(np.uint32)
    rgb = np.stack([packed >> 16 & 255, packed >> 8 & 255, packed & 255], -1)
    np.testing.assert_array_equal(rgb, picture().reshape(-1, 3))


def by_names(messages: Messages) -> None:
    check_depth(messages[DEPTH])
    cloud = messages["/dkt/points"]
    assert [f.name for f in cloud.fields] == ["x", "y", "z", "rgb"]
    check_points(xyz_by_name(cloud))


def one_object(messages: Messages) -> None:
    points = xyz_by_name(messages["/dkt/object_points"])
    assert points.shape == (OBJECT.sum(), 3)
    assert points.dtype == np.float32
    check_points(points, OBJECT)


def gpd(messages: Messages) -> None:
    """pcl::fromROSMsg into PointXYZRGBA: a uint32 field of that name."""
    cloud = messages["/dkt/object_points"]
    [rgba] = [f for f in cloud.fields if f.name == "rgba"]
    assert (rgba.datatype, rgba.count) == (6, 1)
    check_points(xyz_by_name(cloud), OBJECT)
    raw = np.frombuffer(cloud.data, np.uint8).reshape(-1, cloud.point_step)
    color = raw[:, rgba.offset : rgba.offset + 4]
    np.testing.assert_array_equal(color[OBJECT.ravel(), 2::-1], picture()[OBJECT])


def with_mask(messages: Messages) -> None:
    rgbd(messages)
    mask = messages["/mask"]
    assert (mask.encoding, mask.height, mask.width) == ("mono8", HEIGHT, WIDTH)


CONSUMERS: dict[str, Consumer] = {
    "MoveIt 2 PointCloudOctomapUpdater": Consumer(
        {"/dkt/points": PointCloud2}, moveit_cloud, SENSOR_DATA
    ),
    "MoveIt 2 DepthImageOctomapUpdater": Consumer(
        {"/dkt/depth_mm": Image, INFO: CameraInfo}, moveit_depth, SENSOR_DATA
    ),
    "depth_image_proc point_cloud_xyz": Consumer(
        {DEPTH: Image, INFO: CameraInfo}, depth_and_info, SENSOR_DATA
    ),
    "depth_image_proc point_cloud_xyzrgb": Consumer(
        {DEPTH: Image, COLOR: Image, INFO: CameraInfo}, rgbd
    ),
    "nvblox": Consumer({DEPTH: Image, COLOR: Image, INFO: CameraInfo}, rgbd),
    "cuMotion robot_segmenter": Consumer({DEPTH: Image, INFO: CameraInfo}, depth_and_info),
    "AnyGrasp ROS (CollaborativeRoboticsLab)": Consumer(
        {"/dkt/points": PointCloud2},
        anygrasp_offsets,
        parameters={"points_layout": "packed16", "points_organized": False},
    ),
    "AnyGrasp ROS, rgbd_to_pointcloud": Consumer(
        {COLOR: Image, "/dkt/depth_mm": Image}, rgbd_without_info
    ),
    "anygrasp_sam3_ros2": Consumer(
        {DEPTH: Image, "/dkt/points": PointCloud2}, by_names, QoSProfile(depth=5)
    ),
    "GraspGen_ros2": Consumer({"/dkt/points": PointCloud2}, moveit_cloud, NEWEST),
    "GraspGen server": Consumer({"/dkt/object_points": PointCloud2}, one_object, masked=True),
    "GraspGenX": Consumer(
        {DEPTH: Image, COLOR: Image, INFO: CameraInfo, "/mask": Image}, with_mask, masked=True
    ),
    "GPD": Consumer(
        {"/dkt/object_points": PointCloud2},
        gpd,
        parameters={"points_color_field": "rgba"},
        masked=True,
    ),
    "FoundationPose": Consumer(
        {DEPTH: Image, COLOR: Image, INFO: CameraInfo, "/mask": Image}, with_mask, masked=True
    ),
}
"""contact_graspnet reads files and has a test of its own; MTC deep grasps exist for ROS 1 alone."""
DEFAULTS = {"points_layout": "xyzrgb32", "points_organized": True, "points_color_field": "rgb"}


@pytest.mark.parametrize("name", CONSUMERS)
def test_a_subscriber_written_like_theirs(rig: RedRig, name: str) -> None:
    """All its topics come with one stamp, which exact and approximate pairing both take."""
    consumer, node = CONSUMERS[name], rig.planner.node
    rig.set(**(DEFAULTS | consumer.parameters))
    first = rig.now_ns
    kept: dict[str, dict[int, Any]] = {topic: {} for topic in consumer.topics}

    def keep(topic: str) -> Callable[[Any], None]:
        return lambda message: kept[topic].__setitem__(stamp_ns(message), message)

    subscriptions = [
        node.create_subscription(kind, topic, keep(topic), consumer.qos)
        for topic, kind in consumer.topics.items()
    ]
    masks = node.create_publisher(Image, "/mask", 10)

    def together() -> Messages | None:
        if consumer.masked:
            header = make_header(rig.now_ns, "camera_color_optical_frame")
            masks.publish(mask_to_image(OBJECT.astype(np.uint8), header))
        stamps = set.intersection(*(set(of_topic) for of_topic in kept.values()))
        newer = [stamp for stamp in stamps if stamp > first + 2 * 33_333_333]
        return {topic: kept[topic][newer[0]] for topic in kept} if newer else None

    try:
        messages = rig.until(together, f"messages for {name}")
    finally:
        for subscription in subscriptions:
            node.destroy_subscription(subscription)
        node.destroy_publisher(masks)
    assert {m.header.frame_id for m in messages.values()} == {"camera_color_optical_frame"}
    consumer.accept(messages)


def test_contact_graspnet_s_file_is_made_of_one_capture(rig: RedRig, tmp_path: Path) -> None:
    """As docs/consumers.md says it, with the request's mask for a segmentation map."""
    answer = rig.call(CaptureDepth, "/dkt/capture_depth", CaptureDepth.Request(frames=2))
    size = answer.depth.height, answer.depth.width
    path = tmp_path / "scene.npz"
    np.savez(
        path,
        depth=np.frombuffer(answer.depth.data, np.float32).reshape(size),
        rgb=np.frombuffer(answer.color.data, np.uint8).reshape(*size, 3),
        K=np.array(answer.camera_info.k).reshape(3, 3),
        segmap=OBJECT.astype(np.uint8),
    )
    scene = np.load(path)
    np.testing.assert_allclose(scene["depth"], TRUTH, atol=1e-3)
    np.testing.assert_array_equal(scene["rgb"], picture())
    np.testing.assert_array_equal(scene["K"], CAMERA.matrix)


def test_normals_are_those_of_the_depth_of_that_stamp(rig: RedRig) -> None:
    planner = rig.planner

    def both() -> int | None:
        stamps = planner.depth.keys() & planner.normals.keys()
        return max(stamps) if stamps else None

    stamp = rig.until(both, "normals")
    image = planner.normals[stamp]
    assert (image.encoding, image.step) == ("32FC3", 12 * WIDTH)
    seen = np.frombuffer(image.data, np.float32).reshape(HEIGHT, WIDTH, 3)
    depth = metres(planner.depth[stamp])
    np.testing.assert_array_equal(seen, normals(depth, CAMERA, 2))
    known = np.isfinite(seen).all(axis=-1)
    assert known.mean() > 0.7
    np.testing.assert_allclose(np.linalg.norm(seen[known], axis=-1), 1.0, atol=1e-5)
    assert (seen[known][:, 2] < 0).all()


def test_a_workspace_box_crops_the_cloud_and_nothing_else(rig: RedRig) -> None:
    rig.set(**DEFAULTS, crop_box="-0.05 0.1 -1 1 0.1 2")
    try:
        start = rig.now_ns

        def cropped() -> PointCloud2 | None:
            both = rig.planner.points.keys() & rig.planner.depth.keys()
            newer = [stamp for stamp in both if stamp > start]
            return rig.planner.points[max(newer)] if newer else None

        cloud = rig.until(cropped, "cloud")
        inside = (POINTS[..., 0] >= -0.05) & (POINTS[..., 0] <= 0.1)
        assert 100 < inside.sum() < HEIGHT * WIDTH - 100
        assert abs(len(xyz_by_name(cloud)) - inside.sum()) <= HEIGHT
        np.testing.assert_allclose(metres(rig.planner.depth[stamp_ns(cloud)]), TRUTH, atol=1e-3)
    finally:
        rig.set(crop_box="")


def test_a_mask_of_another_size_is_named(rig: RedRig) -> None:
    masks = rig.planner.node.create_publisher(Image, "/mask", 10)
    ears = rig.planner.node.create_subscription(
        PointCloud2, "/dkt/object_points", lambda cloud: None, 1
    )
    small = np.ones((4, 4), np.uint8)

    def named() -> bool:
        masks.publish(mask_to_image(small, make_header(rig.now_ns, "camera")))
        return "mask of 4x4 pixels for depth of 64x48" in rig.node.output()

    rig.until(named, "complaint")
    rig.planner.node.destroy_subscription(ears)
    rig.planner.node.destroy_publisher(masks)


def test_the_page_has_a_row_for_each(repo_root: Path) -> None:
    """And names no topic or parameter that does not exist."""
    from dkt_ros.ros.params.parameters import NodeParameters
    from dkt_ros.ros.params.spec import specs
    from dkt_ros.ros.topics import OUTPUTS

    text = (repo_root / "docs" / "consumers.md").read_text()
    rows = re.findall(r"^\| \*\*(.+?)\*\*", text, flags=re.MULTILINE)
    assert len(rows) == 16
    assert set(CONSUMERS) | {"contact_graspnet", "MTC deep grasps"} == set(rows)
    known = {output.topic for output in OUTPUTS} | {"dkt/capture_depth", "dkt/grasps"}
    assert set(re.findall(r"`/?(dkt/[a-z_]+)`", text)) <= known
    for name, consumer in CONSUMERS.items():
        [row] = [line for line in text.splitlines() if line.startswith(f"| **{name}**")]
        for topic in consumer.topics.keys() - {"/mask"}:
            assert f"`{topic[1:]}`" in row, f"{name} has no {topic}"
        for parameter, value in consumer.parameters.items():
            assert parameter in specs(NodeParameters)
            assert f"`{parameter}: {str(value).lower()}`" in row
