"""The file that names a cell's cameras: what it becomes, and how mistakes are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from dkt_ros.errors import DktError
from dkt_ros.ros.params.cameras import Cell, load_cell

TOPICS = {
    name: {
        "camera": "realsense",
        **{f"{kind}_topic": f"/{name}/{kind}" for kind in ("color", "depth", "camera_info")},
    }
    for name in ("left", "right")
}


def load(folder: Path, repo_root: Path, content: Any) -> Cell:
    path = folder / "cell.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return load_cell(path, repo_root / "config" / "cameras")


def test_the_example_is_in_order(repo_root: Path) -> None:
    cell = load_cell(repo_root / "config" / "cell.yaml", repo_root / "config" / "cameras")
    assert cell.one_process
    assert [camera.node for camera in cell.cameras] == [
        "/cell/left/dkt_node",
        "/cell/right/dkt_node",
    ]
    assert [camera.planner for camera in cell.cameras] == [True, False]


def test_what_holds_for_all_and_for_one(tmp_path: Path, repo_root: Path) -> None:
    """A camera's own wins over that of all, which wins over its preset's."""
    left = {**TOPICS["left"], "parameters": {"max_depth_m": 2, "warm_up_size": ""}}
    right = {**TOPICS["right"], "camera": "zed"}
    content = {
        "one_process": True,
        "parameters": {"max_depth_m": 3.0, "rectified": False, "device": "cpu"},
        "cameras": {"left": left, "/cell/right": right},
    }
    cell = load(tmp_path, repo_root, content)
    told = cell.parameter_file(use_sim_time=True)
    assert list(told) == ["/left/dkt_node", "/cell/right/dkt_node"]
    first, second = (told[name]["ros__parameters"] for name in told)
    assert first == {
        "max_depth_m": 2.0,
        "warm_up_size": "",
        "device": "cpu",
        "rectified": False,
        "use_sim_time": True,
    }
    assert type(first["max_depth_m"]) is float, "ROS tells 2 from 2.0"
    assert (second["max_depth_m"], second["rectified"]) == (3.0, False)
    assert ("/left/color/image", "/left/color") in cell.remappings()
    assert ("/cell/right/depth/image", "/right/depth") in cell.remappings()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([1], r"cell\.yaml is \[1\]: expected names and values"),
        ({"cameras": {}}, "names no cameras"),
        ({"camera": {}}, "has camera: expected any of one_process, parameters, cameras"),
        ({"cameras": TOPICS, "one_process": "yes"}, "one_process is 'yes', expected true or false"),
        ({"cameras": {"9": TOPICS["left"]}}, "camera 9: '9' is no namespace"),
        ({"cameras": {"left": {}}}, "camera left: its entry names no camera"),
        ({"cameras": {"left": {"camera": "kinect"}}}, "camera 'kinect' is not known"),
        (
            {"cameras": {"left": {"camera": "zed", "color": "/c"}}},
            "has color: expected any of camera, color_topic",
        ),
        (
            {"cameras": {"left": {**TOPICS["left"], "parameters": {"max_deph_m": 1.0}}}},
            "camera left: parameter max_deph_m is not known",
        ),
        (
            {"cameras": {"left": {**TOPICS["left"], "color_topic": "a b"}}},
            "camera left: color topic is 'a b'",
        ),
        (
            {"cameras": {"left": {**TOPICS["left"], "color_topic": None}}},
            "camera left: color topic is None",
        ),
        (
            {"cameras": {"left": {**TOPICS["left"], "planner": "best"}}},
            "planner is 'best', expected one of none, antipodal",
        ),
        (
            {"cameras": {"left": {"camera": "zed"}, "right": {"camera": "zed"}}},
            "cameras left and right both read /zed/.*set color_topic",
        ),
        (
            {"cameras": {"left": TOPICS["left"], "/left": TOPICS["right"]}},
            "more than one camera is called left",
        ),
        (
            {
                "one_process": True,
                "cameras": {**TOPICS, "left": {**TOPICS["left"], "parameters": {"mode": "live"}}},
            },
            "mode is 'live' for camera left and 'exact' for right: expected the same",
        ),
    ],
)
def test_mistakes_are_named(tmp_path: Path, repo_root: Path, content: Any, said: str) -> None:
    with pytest.raises(DktError, match=said):
        load(tmp_path, repo_root, content)


def test_cameras_in_processes_of_their_own_share_neither_network_nor_topics(
    tmp_path: Path, repo_root: Path
) -> None:
    """Topics of preset none lie in the camera's namespace."""
    left = {"camera": "none", "parameters": {"mode": "live"}}
    cell = load(tmp_path, repo_root, {"cameras": {"left": left, "right": {"camera": "none"}}})
    assert [camera.parameters.get("mode") for camera in cell.cameras] == ["live", None]
    assert not cell.one_process


def test_a_camera_that_stands_there_twice_is_not_lost(tmp_path: Path, repo_root: Path) -> None:
    path = tmp_path / "cell.yaml"
    path.write_text("cameras:\n  left: {camera: zed}\n  left: {camera: realsense}\n")
    with pytest.raises(DktError, match=r"left stands there twice, .*line 3"):
        load_cell(path, repo_root / "config" / "cameras")


def test_a_missing_file_is_named(repo_root: Path) -> None:
    with pytest.raises(DktError, match=r"config /nowhere\.yaml does not exist"):
        load_cell(Path("/nowhere.yaml"), repo_root / "config" / "cameras")
