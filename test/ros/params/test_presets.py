"""Camera presets: each file is whole, arguments win over it, and mistakes are named."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from fixtures.recorded_frames import labelled_frames, recorded

from dkt_ros.arguments import parse_size
from dkt_ros.bags.encode import MessageEncoder
from dkt_ros.bags.recording import RecordingOptions, record
from dkt_ros.bags.topics import CameraTopics
from dkt_ros.bags.writer import BagWriter
from dkt_ros.errors import DktError
from dkt_ros.ros.params.parameters import NodeParameters
from dkt_ros.ros.params.presets import (
    PRESET_ARGUMENTS,
    CameraPreset,
    camera_names,
    chosen_preset,
    load_preset,
    preset_of_bag,
)


@pytest.fixture
def cameras(repo_root: Path) -> Path:
    return repo_root / "config" / "cameras"


def test_every_preset_fits_the_node(cameras: Path) -> None:
    names = camera_names(cameras)
    assert "realsense" in names
    for name in names:
        preset = load_preset(cameras, name)
        parameters = NodeParameters.from_values(preset.parameters)
        assert bool(parse_size(parameters.warm_up_size)) == (name != "none")
        assert len(set(preset.topics())) == 3
        assert all(topic.startswith("/") for topic in preset.topics())
        assert bool(preset.frame) == (name != "none"), "RViz shows nothing without"


@pytest.mark.parametrize(
    ("camera", "sensor"),
    [
        *(("realsense", "stereo"), ("orbbec", "stereo"), ("zed", "stereo"), ("oak", "stereo")),
        *(("azure_kinect", "tof"), ("orbbec_femto", "tof"), ("orbbec_astra", "structured-light")),
    ],
)
def test_a_preset_says_how_its_camera_measures(cameras: Path, camera: str, sensor: str) -> None:
    preset = load_preset(cameras, camera)
    assert NodeParameters.from_values(preset.parameters).depth_sensor == sensor


def test_the_example_of_a_preset_is_one(
    cameras: Path, repo_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(repo_root))
    preset = load_preset(cameras, "~/examples/my_camera.yaml")
    assert NodeParameters.from_values(preset.parameters).depth_unit_m == 0.0001
    assert preset.topics()[0] == "/wrist/color/image_raw"


def test_realsense_is_what_its_driver_publishes(cameras: Path) -> None:
    assert load_preset(cameras, "realsense").topics() == [
        "/camera/camera/color/image_raw",
        "/camera/camera/aligned_depth_to_color/image_raw",
        "/camera/camera/color/camera_info",
    ]


def test_arguments_win_over_the_preset(cameras: Path) -> None:
    arguments = dict.fromkeys(PRESET_ARGUMENTS, "") | {
        "camera": "realsense",
        "color_topic": "/wrist/color",
        "depth_transport": "compressedDepth",
    }
    preset = chosen_preset(cameras, arguments)
    assert preset.remappings == [
        ("color/image", "/wrist/color"),
        ("depth/image", "/camera/camera/aligned_depth_to_color/image_raw"),
        ("color/camera_info", "/camera/camera/color/camera_info"),
    ]
    assert preset.topics()[1].endswith("/image_raw/compressedDepth")
    assert preset.parameters["depth_transport"] == "compressedDepth"
    assert preset.parameters["warm_up_size"] == "720x1280", "what its driver sends by itself"
    preset = chosen_preset(cameras, arguments | {"warm_up_size": "480x640"})
    assert preset.parameters["warm_up_size"] == "480x640"


def test_the_frame_is_that_of_the_topics(cameras: Path) -> None:
    """Of a topic that is not the driver's own nobody knows it."""
    arguments = dict.fromkeys(PRESET_ARGUMENTS, "") | {"camera": "zed"}
    assert chosen_preset(cameras, arguments).frame == "zed_left_camera_frame_optical"
    arguments["color_topic"] = "/wrist/rgb/color/rect/image"
    assert not chosen_preset(cameras, arguments).frame
    arguments["frame"] = "wrist_left_camera_frame_optical"
    assert chosen_preset(cameras, arguments).frame == "wrist_left_camera_frame_optical"
    with pytest.raises(DktError, match="frame is 5"):
        CameraPreset("/a", "/b", "/c", 5)  # type: ignore[arg-type]


@pytest.mark.parametrize("transport", ["", "raw", "compressedDepth"])
def test_a_topic_may_be_named_with_its_transport(cameras: Path, transport: str) -> None:
    """As `ros2 topic list` shows it."""
    arguments = dict.fromkeys(PRESET_ARGUMENTS, "") | {
        "camera": "realsense",
        "depth_topic": "/wrist/depth/compressedDepth",
        "depth_transport": transport,
    }
    assert chosen_preset(cameras, arguments).topics()[1] == "/wrist/depth/compressedDepth"


def test_a_camera_of_unknown_size_leaves_the_size_to_the_node(cameras: Path) -> None:
    assert "warm_up_size" not in load_preset(cameras, "none").parameters


@pytest.mark.parametrize("namespace", ["left", "/left", "/left/"])
def test_relative_topics_lie_in_the_namespace(namespace: str) -> None:
    compressed = {"color_transport": "compressed"}
    preset = CameraPreset("color/image", "/depth", "color/camera_info", parameters=compressed)
    assert preset.topics(namespace) == [
        "/left/color/image/compressed",
        "/depth",
        "/left/color/camera_info",
    ]


def test_a_preset_may_be_a_file_of_ones_own(cameras: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    for more in ("", "parameters:\n"):
        path.write_text(f"color: /a\ndepth: /b\ncamera_info: /c\n{more}")
        assert load_preset(cameras, str(path)) == CameraPreset("/a", "/b", "/c")


def test_an_unknown_camera_is_named_with_the_known_ones(cameras: Path) -> None:
    with pytest.raises(DktError, match=r"'kinect9' is not known: expected one of .*realsense"):
        load_preset(cameras, "kinect9")


@pytest.mark.parametrize(
    "content",
    ["", "color: /a", "[1]", "{color: a, depth: b, camera_info: c, rectified: true}"],
)
def test_a_file_that_is_no_preset_is_named(cameras: Path, tmp_path: Path, content: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(content)
    with pytest.raises(DktError, match="expected camera_info, color, depth"):
        load_preset(cameras, str(path))


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ("{warm_up_size: 720p}", "warm_up_size is '720p', expected HEIGHTxWIDTH"),
        ("{warm_up_size: 720}", "warm_up_size is 720, expected a str"),
        ("{depth_unit: 0.1}", "parameter depth_unit is not known"),
        ("{max_depth_m: true}", "max_depth_m is True, expected a float"),
        ("{depth_unit_m: 5}", "depth_unit_m is 5.0, expected 1e-05 to 0.1 m"),
        ("[1]", "expected names and values"),
    ],
)
def test_parameters_that_the_node_would_refuse_are_named(
    cameras: Path, tmp_path: Path, parameters: str, said: str
) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(f"color: /a\ndepth: /b\ncamera_info: /c\nparameters: {parameters}\n")
    with pytest.raises(DktError, match=r"broken\.yaml.*") as caught:
        load_preset(cameras, str(path))
    assert said in str(caught.value)


def test_a_preset_may_hold_any_parameter_of_the_node(cameras: Path, tmp_path: Path) -> None:
    path = tmp_path / "lidar.yaml"
    path.write_text(
        "color: /a\ndepth: /b\ncamera_info: /c\n"
        "parameters: {depth_unit_m: 0.00025, max_depth_m: 5, rectified: true}\n"
    )
    arguments = dict.fromkeys(PRESET_ARGUMENTS, "") | {"camera": str(path)}
    parameters = NodeParameters.from_values(chosen_preset(cameras, arguments).parameters)
    assert (parameters.depth_unit_m, parameters.max_depth_m) == (0.00025, 5.0)
    assert parameters.rectified


@pytest.mark.parametrize("topic", ["/a b", "", "/a//b", "/1st", "/a/"])
def test_a_topic_that_is_none_is_named(topic: str) -> None:
    with pytest.raises(DktError, match="depth topic is"):
        CameraPreset("/color", topic, "/info")


def test_the_demonstrations_bag_names_its_camera(cameras: Path, repo_root: Path) -> None:
    bag = repo_root / "dkt_ros" / "assets" / "demo" / "glassware"
    arguments = dict.fromkeys(PRESET_ARGUMENTS, "")
    preset = preset_of_bag(cameras, arguments, bag)
    assert preset.parameters == {
        "color_transport": "compressed",
        "depth_transport": "compressedDepth",
    }
    assert preset.frame == "camera_color_optical_frame"
    assert preset_of_bag(cameras, arguments | {"frame": "wrist"}, bag).frame == "wrist"
    with pytest.raises(DktError, match=r"has no /camera/camera/color/image_raw.*compressedDepth"):
        preset_of_bag(cameras, arguments | {"camera": "realsense"}, bag)
    with pytest.raises(DktError, match="has no /left/color/image, "):
        preset_of_bag(cameras, arguments | {"camera": "none"}, bag, "left")
    color = {"color_topic": "/camera/camera/color/image_raw"}
    sized = preset_of_bag(cameras, arguments | {"warm_up_size": "96x128"}, bag)
    assert sized.parameters == {**preset.parameters, "warm_up_size": "96x128"}
    named = preset_of_bag(cameras, arguments | color, bag)
    assert named == preset, "only its compressed form was recorded"


def test_a_bag_without_depth_is_refused(cameras: Path, tmp_path: Path) -> None:
    (labelled,) = labelled_frames(1)
    frame, stamp_ns = labelled.frame, labelled.frame.stamp_ns
    with BagWriter(tmp_path / "bag") as writer:
        encoder = MessageEncoder(writer.typestore, frame.frame_id, color="raw")
        info = encoder.camera_info(frame.intrinsics, stamp_ns)
        writer.write(CameraTopics.camera_info, info, stamp_ns)
        writer.write(CameraTopics.color, encoder.color_image(frame.rgb, stamp_ns), stamp_ns)
    with pytest.raises(DktError, match=r"has no depth image among .*color.*; record one"):
        preset_of_bag(cameras, dict.fromkeys(PRESET_ARGUMENTS, ""), tmp_path / "bag")


def test_a_bag_whose_first_picture_is_damaged_is_played(cameras: Path, tmp_path: Path) -> None:
    """Its frame is for RViz alone."""
    bag, arguments = tmp_path / "bag", dict.fromkeys(PRESET_ARGUMENTS, "")
    record(labelled_frames(2), bag, RecordingOptions(storage="sqlite3"))
    whole = preset_of_bag(cameras, arguments, bag)
    (database,) = bag.glob("*.db3")
    with closing(sqlite3.connect(database)) as connection, connection:
        first = (
            "SELECT min(messages.id) FROM messages JOIN topics ON topics.id = topic_id "
            f"WHERE name LIKE '{whole.color}%'"
        )
        connection.execute(f"UPDATE messages SET data = x'0001' WHERE id = ({first})")
    assert preset_of_bag(cameras, arguments, bag) == replace(whole, frame="")
    arguments["frame"] = "wrist"
    assert preset_of_bag(cameras, arguments, bag) == replace(whole, frame="wrist")


def test_a_bag_with_unregistered_depth_alone_is_refused_unless_it_is_named(
    cameras: Path, tmp_path: Path
) -> None:
    depth = "/camera/camera/depth/image_rect_raw"
    bag = recorded(tmp_path / "bag", labelled_frames(2), depth, frame_id="depth_frame")
    arguments = dict.fromkeys(PRESET_ARGUMENTS, "")
    with pytest.raises(DktError, match="is not registered to colour"):
        preset_of_bag(cameras, arguments, bag)
    assert preset_of_bag(cameras, arguments | {"depth_topic": depth}, bag).depth == depth
    with pytest.raises(DktError, match="no topic /nope for color"):
        preset_of_bag(cameras, arguments | {"color_topic": "/nope"}, bag)
