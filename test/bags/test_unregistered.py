"""Bags whose depth is of another camera than colour's: what tells how to register it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rosbags.rosbag1 import Writer as Rosbag1Writer
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Rosbag2Writer
from rosbags.typesys import Stores, get_typestore

from dkt_ros.bags.reader import BagReader
from dkt_ros.bags.recording import LabelledFrame
from dkt_ros.bags.writer import BagWriter
from dkt_ros.depth_registration import DepthRegistration, Lens
from dkt_ros.geometry import Intrinsics
from dkt_ros.processing.bag_source import BagSource
from dkt_ros.processing.outcome import Outcome, ProcessingError
from dkt_ros.processing.source import Pending, SourceOptions

DEPTH = Intrinsics(95.0, 95.0, 53.5, 30.5, 108, 62)
COLOR = Intrinsics(150.0, 152.0, 79.0, 45.0, 160, 92)
WAY = (0.03, -0.004, 0.002)
TURN = (0.02, -0.03, 0.05)  # a rotation vector
TABLE, BOX = 0.8, 0.5  # metres from the depth camera


def pose() -> np.ndarray:
    """Points of the depth camera into colour's frame."""
    matrix = np.eye(4)
    matrix[:3, :3] = cv2.Rodrigues(np.array(TURN))[0]
    matrix[:3, 3] = WAY
    return matrix


def motions() -> list[np.ndarray]:
    """From a third stream, the SDK's infrared one, into depth's and into colour's."""
    to_depth = np.eye(4)
    to_depth[:3, :3] = cv2.Rodrigues(np.array((-0.1, 0.2, 0.03)))[0]
    to_depth[:3, 3] = 0.01, 0.05, -0.02
    return [to_depth, pose() @ to_depth]


def raw_depth() -> np.ndarray:
    """Metres; a box before a wall, and a hole."""
    depth = np.full((DEPTH.height, DEPTH.width), TABLE, np.float32)
    depth[20:40, 30:60] = BOX
    depth[5:9, 80:90] = np.nan
    return depth


class Bag:
    """Messages of ROS 1 or ROS 2 types, by the fields that both have."""

    def __init__(self, ros1: bool) -> None:
        self.store = get_typestore(Stores.ROS1_NOETIC if ros1 else Stores.LATEST)
        self.ros1 = ros1

    def make(self, name: str, **values: Any) -> Any:
        return self.store.types[name](**values)

    def header(self, stamp_ns: int, frame_id: str) -> Any:
        seconds, rest = divmod(stamp_ns, 10**9)
        stamp = self.make("builtin_interfaces/msg/Time", sec=seconds, nanosec=rest)
        seq = {"seq": 0} if self.ros1 else {}
        return self.make("std_msgs/msg/Header", stamp=stamp, frame_id=frame_id, **seq)

    def image(self, pixels: np.ndarray, encoding: str, stamp_ns: int, frame_id: str) -> Any:
        return self.make(
            "sensor_msgs/msg/Image",
            header=self.header(stamp_ns, frame_id),
            height=pixels.shape[0],
            width=pixels.shape[1],
            encoding=encoding,
            is_bigendian=0,
            step=pixels.strides[0],
            data=np.ascontiguousarray(pixels).view(np.uint8).ravel(),
        )

    def info(self, camera: Intrinsics, model: str, frame_id: str = "") -> Any:
        region = self.make(
            "sensor_msgs/msg/RegionOfInterest",
            **dict.fromkeys(("x_offset", "y_offset", "height", "width"), 0),
            do_rectify=False,
        )
        matrices = {"d": np.zeros(5), "k": camera.matrix.ravel(), "r": np.eye(3).ravel()}
        projection = np.insert(camera.matrix, 3, 0.0, axis=1).ravel()
        matrices["p"] = np.zeros(12) if self.ros1 else projection  # the SDK leaves it empty
        if self.ros1:
            matrices = {name.upper(): value for name, value in matrices.items()}
        return self.make(
            "sensor_msgs/msg/CameraInfo",
            header=self.header(1, frame_id),
            height=camera.height,
            width=camera.width,
            distortion_model=model,
            **matrices,
            binning_x=0,
            binning_y=0,
            roi=region,
        )

    def transform(self, matrix: np.ndarray) -> Any:
        vector = cv2.Rodrigues(matrix[:3, :3])[0].ravel()
        angle = float(np.linalg.norm(vector))
        axis = (float(n) for n in vector / max(angle, 1e-12) * np.sin(angle / 2))
        way, turn = (float(n) for n in matrix[:3, 3]), (*axis, float(np.cos(angle / 2)))
        return self.make(
            "geometry_msgs/msg/Transform",
            translation=self.make(
                "geometry_msgs/msg/Vector3", **dict(zip("xyz", way, strict=True))
            ),
            rotation=self.make(
                "geometry_msgs/msg/Quaternion", **dict(zip("xyzw", turn, strict=True))
            ),
        )


def color(index: int) -> np.ndarray:
    rgb = np.full((COLOR.height, COLOR.width, 3), 90, np.uint8)
    rgb[..., index % 3] = 200
    return rgb


def sdk_bag(path: Path, unit_m: float = 0.001, tf: bool = True, frames: int = 3) -> Path:
    """As RealSense's SDK records: ROS 1, nothing registered, four bytes behind each image."""
    bag = Bag(ros1=True)
    stream = {role: f"/device_0/sensor_{n}/{role}_0" for n, role in enumerate(("Depth", "Color"))}
    steps = np.nan_to_num(np.rint(raw_depth() / unit_m)).astype(np.uint16)
    with Rosbag1Writer(path) as writer:
        channels: dict[str, Any] = {}

        def write(topic: str, time_ns: int, message: Any, behind: bytes = b"") -> None:
            name = message.__msgtype__
            if topic not in channels:
                channels[topic] = writer.add_connection(topic, name, typestore=bag.store)
            data = bytes(bag.store.serialize_ros1(message, name)) + behind
            writer.write(channels[topic], time_ns, data)

        option = bag.make("std_msgs/msg/Float32", data=np.float32(unit_m))
        write("/device_0/sensor_0/option/Depth Units/value", 1, option)
        for role, camera in (("Depth", DEPTH), ("Color", COLOR)):
            info = bag.info(camera, "Inverse Brown Conrady")
            write(f"{stream[role]}/info/camera_info", 1, info)
        if tf:
            for role, motion in zip(stream, motions(), strict=True):
                write(f"{stream[role]}/tf/0", 1, bag.transform(motion))
        for index in range(frames):
            stamp = 1_700_000_000 * 10**9 + index * 33_000_000
            image = bag.image(color(index), "rgb8", stamp, "1")
            write(f"{stream['Color']}/image/data", (index + 1) * 33_000_000, image, b"\0" * 4)
            image = bag.image(steps, "mono16", stamp + 5_000_000, "1")
            behind = np.float32(unit_m).tobytes()
            write(f"{stream['Depth']}/image/data", (index + 1) * 33_000_000 + 5, image, behind)
    return path


def sdk_text_bag(path: Path, unit_m: float = 0.001, tf: bool = True, frames: int = 3) -> Path:
    """As the SDK records since 2.58: sqlite, its facts in texts, stamps from the beginning."""
    bag = Bag(ros1=False)
    steps = np.nan_to_num(np.rint(raw_depth() / unit_m)).astype(np.uint16)

    def text(said: str) -> Any:
        return bag.make("std_msgs/msg/String", data=said)

    def numbers(values: Any) -> str:
        return ",".join(f"{value:.6f}" for value in values)

    with BagWriter(path, storage="sqlite3") as writer:
        sensor, stream = "/device_0/sensor_{}", "/device_0/sensor_{}/{}_0"
        cameras = zip(("Depth", "Color"), (DEPTH, COLOR), motions(), strict=True)
        for number, (role, camera, motion) in enumerate(cameras):
            name = stream.format(number, role)
            if role == "Depth":
                option = f"{sensor.format(number)}/option/Depth_Units/value"
                writer.write(option, text(f"{unit_m:.6f}"), 0)
            said = (
                f"width={camera.width};height={camera.height};fx={camera.fx:.9g};"
                f"ppx={camera.cx:.9g};fy={camera.fy:.9g};ppy={camera.cy:.9g};"
                "model=Inverse Brown Conrady;coeffs=0,0,0,0,0"
            )
            writer.write(f"{name}/info", text("encoding=Z16;fps=30"), 0)
            writer.write(f"{name}/camera_info", text(said), 0)
            if tf:
                way = numbers(motion[:3, 3])
                said = f"rotation={numbers(motion[:3, :3].T.ravel())};translation={way}"
                writer.write(f"{name}/tf/ref_0", text(said), 0)
        for index in range(frames):
            stamp = 5_000_000 + index * 33_000_000
            image = bag.image(color(index), "rgb8", stamp, "Color")
            writer.write("/device_0/sensor_1/Color_0/image/data", image, stamp)
            image = bag.image(steps, "mono16", stamp, "Depth")
            writer.write("/device_0/sensor_0/Depth_0/image/data", image, stamp)
    return next(path.glob("*.db3"))


def tf_bag(
    path: Path,
    frames: int = 3,
    tf: bool = True,
    frame: str = "camera_{}",
    link: str = "{}",
    lenses: Sequence[str] = ("color", "depth"),
) -> Path:
    """As `ros2 bag record -a` beside a driver that registers nothing.

    frame: of images, with {} for depth's and colour's own part; link: of tf, the same of the name.
    An arm moves both cameras: /tf. lenses: of which there is a camera_info.
    """
    bag, name = Bag(ros1=False), "/camera/camera"
    color_frame, depth_frame = (
        frame.format(f"{kind}_optical_frame") for kind in ("color", "depth")
    )
    links = [
        ("camera_link", "camera_depth_frame", np.eye(4)),
        ("camera_depth_frame", "camera_depth_optical_frame", optical()),
        ("camera_link", "camera_color_frame", optical() @ np.linalg.inv(pose()) @ optical_back()),
        ("camera_color_frame", "camera_color_optical_frame", optical()),
    ]
    with BagWriter(path) as writer:
        if tf:
            hands = [
                stamped(bag, "world", f"camera_{kind}_optical_frame", pose() @ optical() @ motion)
                for kind, motion in zip(("depth", "color"), motions(), strict=True)
            ]
            writer.write("/tf", bag.make("tf2_msgs/msg/TFMessage", transforms=hands), 1)
            for parent, child, matrix in links:  # as several nodes tell them
                one = stamped(bag, link.format(parent), link.format(child), matrix)
                writer.write("/tf_static", bag.make("tf2_msgs/msg/TFMessage", transforms=[one]), 1)
        for index in range(frames):
            stamp = 1_700_000_000 * 10**9 + index * 33_000_000
            for topic, message in (
                ("color/camera_info", bag.info(COLOR, "plumb_bob", color_frame)),
                ("depth/camera_info", bag.info(DEPTH, "plumb_bob", depth_frame)),
                (
                    "color/image_raw",
                    bag.image(color(index), "rgb8", stamp, color_frame),
                ),
                (
                    "depth/image_rect_raw",
                    bag.image(raw_depth(), "32FC1", stamp, depth_frame),
                ),
            ):
                if not topic.endswith("info") or topic.partition("/")[0] in lenses:
                    writer.write(f"{name}/{topic}", message, stamp)
            if "depth" in lenses:  # a farther one, of the same frame
                other = bag.info(replace(DEPTH, fx=50.0), "plumb_bob", depth_frame)
                writer.write("/depth/camera_info", other, stamp)
    return path


def extrinsics_bag(path: Path, tf: bool = False) -> Path:
    """The same as realsense-ros tells it by itself: rotation, columns first, and way.

    tf: where another calibration is, which holds.
    """
    tf_bag(path, tf=tf)
    own = motions()[1] if tf else pose()
    beside = path.with_name("beside")
    with Rosbag2Writer(beside, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        for camera, told in (("above", motions()[1]), ("camera", own), ("wrist", motions()[0])):
            topic = writer.add_connection(
                f"/camera/{camera}/extrinsics/depth_to_color",
                "realsense2_camera_msgs/msg/Extrinsics",
                msgdef="float64[9] rotation\nfloat64[3] translation\n",
                rihs01="RIHS01_" + "0" * 64,
            )
            numbers = np.array([*told[:3, :3].T.ravel(), *told[:3, 3]], "<f8")
            writer.write(topic, 1, b"\0\1\0\0" + numbers.tobytes())
    next(beside.glob("*.mcap")).rename(path / "a_1.mcap")
    (path / "metadata.yaml").unlink()
    return path


def optical() -> np.ndarray:
    """Points of an optical frame in its camera's, of x ahead."""
    return np.array([[0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]], float)


def optical_back() -> np.ndarray:
    return optical().T


def stamped(bag: Bag, parent: str, child: str, matrix: np.ndarray) -> Any:
    return bag.make(
        "geometry_msgs/msg/TransformStamped",
        header=bag.header(1, parent),
        child_frame_id=child,
        transform=bag.transform(matrix),
    )


def shots(path: Path, **options: Any) -> tuple[BagSource, list[LabelledFrame]]:
    source = BagSource(path, path.name, SourceOptions(**options))
    return source, [item.decode() for item in source.items() if isinstance(item, Pending)]


def slashed_bag(path: Path) -> Path:
    """Frames are named as in ROS 1, /tf as now."""
    return tf_bag(path, frame="/camera_{}")


def bag_of_old_tf(path: Path) -> Path:
    """The other way around."""
    return tf_bag(path, link="/{}")


def calibrated_bag(path: Path) -> Path:
    """A driver's own extrinsics, and in tf those of whoever calibrated it anew."""
    return extrinsics_bag(path, tf=True)


@pytest.mark.parametrize(
    "made",
    [
        *(sdk_bag, sdk_text_bag, tf_bag, slashed_bag, bag_of_old_tf, extrinsics_bag),
        calibrated_bag,
    ],
)
def test_depth_is_registered_by_what_the_bag_tells(
    tmp_path: Path, made: Callable[[Path], Path]
) -> None:
    source, found = shots(made(tmp_path / "a.bag"))
    assert len(found) == 3
    assert not source.dropped
    expected = DepthRegistration(Lens(DEPTH), Lens(COLOR), pose()).apply(raw_depth())
    frame = found[0].frame
    assert frame.raw_depth is not None
    np.testing.assert_allclose(frame.raw_depth, expected, atol=1e-4)
    assert frame.frame_id.lstrip("/") == "camera_color_optical_frame"
    assert frame.intrinsics == COLOR
    assert any("is registered here" in note for note in source.notes)
    noted = any("frame_id" in note for note in source.notes)
    assert noted == frame.frame_id.startswith("/"), "which tf2 does not know"
    assert not any("P[0]" in note for note in source.notes)


@pytest.mark.parametrize("made", [sdk_bag, sdk_text_bag])
def test_the_sdk_s_unit_of_depth_holds(tmp_path: Path, made: Callable[..., Path]) -> None:
    path = made(tmp_path / "a.bag", unit_m=0.0001)
    _, found = shots(path)
    depth = found[0].frame.raw_depth
    assert depth is not None
    assert np.nanmax(depth) == pytest.approx(TABLE, abs=0.05)
    _, found = shots(path, depth_unit_m=0.0002)
    depth = found[0].frame.raw_depth
    assert depth is not None
    assert np.nanmax(depth) == pytest.approx(2 * TABLE, abs=0.1)
    _, found = shots(path, override_unit=True)
    depth = found[0].frame.raw_depth
    assert depth is not None
    assert np.nanmax(depth) == pytest.approx(10 * TABLE, abs=0.5)


@pytest.mark.parametrize("made", [sdk_bag, sdk_text_bag, tf_bag])
def test_what_is_missing_is_named(tmp_path: Path, made: Callable[..., Path]) -> None:
    with pytest.raises(ProcessingError, match=r"not registered .* nothing tells where") as raised:
        BagSource(made(tmp_path / "a.bag", tf=False), "a", SourceOptions())
    assert raised.value.outcome is Outcome.NO_DEPTH


@pytest.mark.parametrize(("turn", "told"), [(0.0, "of length 0"), (float("nan"), "of length nan")])
def test_transforms_that_tf2_passes_over_tell_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, turn: float, told: str
) -> None:
    made = Bag.transform

    def turned(bag: Bag, matrix: np.ndarray) -> Any:
        message = made(bag, matrix)
        for axis in "xyzw":
            setattr(message.rotation, axis, turn)
        return message

    monkeypatch.setattr(Bag, "transform", turned)
    match = f"camera_link to camera_color_frame in /tf_static, whose rotation is {told}"
    with pytest.raises(ProcessingError, match=rf"nothing tells where .* by tf2: .*{match}"):
        BagSource(tf_bag(tmp_path / "a.bag"), "a", SourceOptions())


def test_one_frame_for_both_cameras_does_not_tell_where_they_stand(tmp_path: Path) -> None:
    with pytest.raises(ProcessingError, match=r"not registered .* nothing tells where"):
        BagSource(tf_bag(tmp_path / "a.bag", frame="camera"), "a", SourceOptions())


def test_how_a_command_is_told_of_rectified_images_is_said_of_depth_apart_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Bag.info

    def without_k(bag: Bag, camera: Intrinsics, *words: str) -> Any:
        info = make(bag, camera, *words)
        if camera is COLOR:
            info.k[:] = 0
        return info

    monkeypatch.setattr(Bag, "info", without_k)
    with pytest.raises(ProcessingError, match=r"K\[0\]=0, .* If these are, add --rectified\."):
        BagSource(tf_bag(tmp_path / "a.bag"), "a", SourceOptions())


def test_rectified_colour_has_another_camera(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, rectified = Bag.info, replace(COLOR, fx=140.0, fy=141.0, cx=70.0)

    def with_p(bag: Bag, camera: Intrinsics, *words: str) -> Any:
        info = make(bag, camera, *words)
        if camera is COLOR:
            info.p[:] = np.insert(rectified.matrix, 3, 0.0, axis=1).ravel()
        return info

    monkeypatch.setattr(Bag, "info", with_p)
    for given, camera in ((False, COLOR), (True, rectified)):
        _, found = shots(tf_bag(tmp_path / f"{given}.bag"), rectified=given)
        assert found[0].frame.intrinsics == camera
        expected = DepthRegistration(Lens(DEPTH), Lens(camera), pose()).apply(raw_depth())
        assert found[0].frame.raw_depth is not None
        np.testing.assert_allclose(found[0].frame.raw_depth, expected, atol=1e-4)


def test_depth_s_lens_is_known_by_its_folder_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a driver that does not say in which frame."""
    make = Bag.info
    monkeypatch.setattr(
        Bag, "info", lambda bag, camera, *words: make(bag, camera, *words[: 1 + (camera is COLOR)])
    )
    _, found = shots(tf_bag(tmp_path / "a.bag"))
    expected = DepthRegistration(Lens(DEPTH), Lens(COLOR), pose()).apply(raw_depth())
    assert found[0].frame.raw_depth is not None
    np.testing.assert_allclose(found[0].frame.raw_depth, expected, atol=1e-4)


@pytest.mark.parametrize("size", [COLOR, DEPTH])
def test_colour_s_calibration_is_not_taken_for_depth_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: Intrinsics
) -> None:
    """Where depth's was not recorded; of pictures of one size nothing else would tell."""
    monkeypatch.setitem(globals(), "COLOR", size)
    with pytest.raises(ProcessingError, match="no CameraInfo of its camera tells its lens") as it:
        BagSource(tf_bag(tmp_path / "a.bag", lenses=["color"]), "a", SourceOptions())
    assert it.value.outcome is Outcome.NO_DEPTH


def test_a_given_calibration_is_of_colour(tmp_path: Path) -> None:
    given = (COLOR.fx, COLOR.fy, COLOR.cx, COLOR.cy)
    _, found = shots(sdk_bag(tmp_path / "a.bag"), pinhole=given)
    _, own = shots(tmp_path / "a.bag")
    depths = [shot[0].frame.raw_depth for shot in (found, own)]
    assert depths[0] is not None
    assert depths[1] is not None
    np.testing.assert_array_equal(depths[0], depths[1])


def test_the_bag_s_messages_can_be_read(tmp_path: Path) -> None:
    with BagReader(sdk_bag(tmp_path / "a.bag")) as bag:
        assert not bag.remarks
        assert len(list(bag.messages(["/device_0/sensor_0/Depth_0/image/data"]))) == 3
        assert not bag.remarks


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ("width=640;height=480", "'fx' is missing or wrong"),
        ("no facts", "expected name=value; of each fact"),
        ("width=0;height=0;fx=0;fy=0;ppx=0;ppy=0;coeffs=0", "image size 0x0"),
    ],
)
def test_a_camera_that_the_sdk_s_texts_do_not_tell_is_named(
    tmp_path: Path, said: str, problem: str
) -> None:
    bag = Bag(ros1=False)
    with BagWriter(tmp_path / "a", storage="sqlite3") as writer:
        for number, role in enumerate(("Depth", "Color")):
            name = f"/device_0/sensor_{number}/{role}_0"
            image = color(0) if number else raw_depth()
            message = bag.image(image, "rgb8" if number else "32FC1", 5, role)
            writer.write(f"{name}/camera_info", bag.make("std_msgs/msg/String", data=said), 0)
            writer.write(f"{name}/image/data", message, 5)
    with pytest.raises(ProcessingError, match=problem) as raised:
        BagSource(tmp_path / "a", "a", SourceOptions())
    assert raised.value.outcome is Outcome.NO_CAMERA_INFO
