"""Camera presets: each file is whole, arguments win over it, and mistakes are named."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from dkt_ros.errors import DktError
from dkt_ros.model.arguments import parse_size
from dkt_ros.ros.params.parameters import NodeParameters
from dkt_ros.ros.params.presets import (
    PRESET_ARGUMENTS,
    CameraPreset,
    camera_names,
    chosen_preset,
    load_preset,
)


@pytest.fixture
def cameras(repo_root: Path) -> Path:
    return repo_root / "config" / "cameras"


def test_every_preset_fits_the_node(cameras: Path) -> None:
    names = camera_names(cameras)
    assert "realsense" in names
    for name in names:
        preset = load_preset(cameras, name)
        parameters = NodeParameters(**preset.parameters)
        assert bool(parse_size(parameters.warm_up_size)) == (name != "none")
        assert len(set(preset.topics())) == 3
        assert all(topic.startswith("/") for topic in preset.topics())


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


def test_a_camera_of_unknown_size_leaves_the_size_to_the_node(cameras: Path) -> None:
    assert "warm_up_size" not in load_preset(cameras, "none").parameters


@pytest.mark.parametrize("namespace", ["left", "/left", "/left/"])
def test_relative_topics_lie_in_the_namespace(namespace: str) -> None:
    preset = CameraPreset("color/image", "/depth", "color/camera_info", "compressed")
    assert preset.topics(namespace) == [
        "/left/color/image/compressed",
        "/depth",
        "/left/color/camera_info",
    ]


def test_a_preset_may_be_a_file_of_ones_own(cameras: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"color": "/a", "depth": "/b", "camera_info": "/c"}))
    assert load_preset(cameras, str(path)) == CameraPreset("/a", "/b", "/c")


def test_an_unknown_camera_is_named_with_the_known_ones(cameras: Path) -> None:
    with pytest.raises(DktError, match=r"'kinect9' is not known: expected one of .*realsense"):
        load_preset(cameras, "kinect9")


@pytest.mark.parametrize(
    "content", ["", "color: /a", "[1]", "{color: a, depth: b, camera_info: c, x: d}"]
)
def test_a_file_that_is_no_preset_is_named(cameras: Path, tmp_path: Path, content: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(content)
    with pytest.raises(DktError, match="expected camera_info, color, depth"):
        load_preset(cameras, str(path))


@pytest.mark.parametrize("size", ["720p", "720", "[720, 1280]"])
def test_a_size_that_is_none_is_named(cameras: Path, tmp_path: Path, size: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(f"color: /a\ndepth: /b\ncamera_info: /c\nwarm_up_size: {size}\n")
    with pytest.raises(DktError, match=r"broken.yaml has warm_up_size .*HEIGHTxWIDTH"):
        load_preset(cameras, str(path))
