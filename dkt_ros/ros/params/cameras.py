"""Several cameras of one cell, as cameras.launch.py and people write them: one YAML file.

    one_process: true        # by dkt_cameras, one network in memory; false: a dkt_node each
    parameters:              # of every camera's node
      device: cuda
    cameras:
      left:                  # namespace of the node and its topics
        camera: realsense    # preset; the rest is optional
        color_topic: /left/color/image_raw
        depth_topic: /left/aligned_depth_to_color/image_raw
        camera_info_topic: /left/color/camera_info
        parameters:          # of this one, beside those of all
          crop_box: -0.3 0.3 -0.3 0.3 0.2 1.0
        planner: antipodal   # a dkt_planner too

Knows files and names; nothing of launch or rclpy.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dkt_ros.errors import DktError
from dkt_ros.predict.options import PredictorOptions
from dkt_ros.ros.params.files import read_yaml
from dkt_ros.ros.params.parameters import NodeParameters
from dkt_ros.ros.params.presets import TOPICS, CameraPreset, load_preset
from dkt_ros.ros.params.spec import Value

_NAMESPACE = re.compile(r"/?[A-Za-z_]\w*(/[A-Za-z_]\w*)*")
_PLANNERS = ("none", "antipodal")
_KEYS = ("camera", *(f"{name}_topic" for name in TOPICS), "parameters", "planner")


@dataclass(frozen=True)
class Camera:
    """One camera's node.

    preset   its topics, and all that is set on it
    planner  whether a dkt_planner stands beside it
    """

    namespace: str
    preset: CameraPreset
    planner: bool = False

    @property
    def parameters(self) -> Mapping[str, Value]:
        """What is set on it."""
        return self.preset.parameters

    @property
    def node(self) -> str:
        """Its node's name, absolute."""
        return f"/{self.namespace}/dkt_node"


@dataclass(frozen=True)
class Cell:
    """All cameras, and whether they share a process and its network."""

    cameras: tuple[Camera, ...]
    one_process: bool = False

    def remappings(self) -> list[tuple[str, str]]:
        """From the nodes' topics to the cameras', for one process with all of them."""
        return [
            (f"/{camera.namespace}/{own}", topic)
            for camera in self.cameras
            for own, topic in camera.preset.remappings
        ]

    def parameter_file(self, **more: Value) -> dict[str, Any]:
        """What a ROS parameter file for all of them holds; `more` is set on each."""
        return {
            camera.node: {"ros__parameters": {**camera.parameters, **more}}
            for camera in self.cameras
        }


def load_cell(path: Path, presets: Path) -> Cell:
    """The cell that a file describes; raises DktError naming the file, the camera and the mistake.

    presets: the folder of camera presets.
    """
    if not path.is_file():
        raise DktError(f"config {path} does not exist: expected a file like config/cell.yaml")
    values = _mapping(f"{path}", read_yaml(path), ("one_process", "parameters", "cameras"))
    one_process = values.get("one_process", False)
    if not isinstance(one_process, bool):
        raise DktError(f"{path}: one_process is {one_process!r}, expected true or false")
    of_all = _mapping(f"{path}: parameters", values.get("parameters") or {})
    entries = _mapping(f"{path}: cameras", values.get("cameras") or {})
    if not entries:
        raise DktError(f"{path} names no cameras: expected namespaces such as left under cameras")
    cameras = []
    for name, entry in entries.items():
        try:
            cameras.append(_camera(name, entry or {}, of_all, presets))
        except DktError as error:
            raise DktError(f"{path}: camera {name}: {error}") from error
    try:
        _look_at_all(cameras, one_process)
    except DktError as error:
        raise DktError(f"{path}: {error}") from error
    return Cell(tuple(cameras), one_process)


def _camera(name: Any, entry: Any, of_all: Mapping[str, Value], presets: Path) -> Camera:
    check_namespace(name)
    entry = _mapping("its entry", entry, _KEYS)
    if "camera" not in entry:
        raise DktError("its entry names no camera: expected a preset, such as camera: realsense")
    planner = entry.get("planner", "none")
    if planner not in _PLANNERS:
        raise DktError(f"planner is {planner!r}, expected one of {', '.join(_PLANNERS)}")
    preset = load_preset(presets, str(entry["camera"]))
    topics = {one: entry[f"{one}_topic"] for one in TOPICS if f"{one}_topic" in entry}
    own = _mapping("parameters", entry.get("parameters") or {})
    merged = {**preset.parameters, **of_all, **own}
    checked = NodeParameters.from_values(merged)
    parameters: dict[str, Value] = {key: getattr(checked, key) for key in merged}
    preset = replace(preset, **topics, parameters=parameters)
    return Camera(name.strip("/"), preset, planner == "antipodal")


def check_namespace(name: Any) -> None:
    """Raises DktError where a camera cannot be called so."""
    if not isinstance(name, str) or not _NAMESPACE.fullmatch(name):
        raise DktError(
            f"{name!r} is no namespace: expected letters, digits and _ between slashes, such as "
            "left or cell/left"
        )


def _look_at_all(cameras: list[Camera], one_process: bool) -> None:
    """Raises DktError where two have one name, read one topic, or cannot share a network."""
    readers: dict[str, str] = {}
    names: set[str] = set()
    first = cameras[0]
    for camera in cameras:
        if camera.namespace in names:
            raise DktError(f"more than one camera is called {camera.namespace}")
        names.add(camera.namespace)
        for topic in camera.preset.topics(camera.namespace):
            if topic in readers:
                raise DktError(
                    f"cameras {readers[topic]} and {camera.namespace} both read {topic}: expected "
                    "topics of its own for each, set color_topic, depth_topic and "
                    "camera_info_topic as the driver names them"
                )
            readers[topic] = camera.namespace
        if one_process:
            _refuse_another_network(first, camera)


def _refuse_another_network(first: Camera, camera: Camera) -> None:
    options, other = (
        PredictorOptions.taken_from(NodeParameters.from_values(one.parameters))
        for one in (first, camera)
    )
    for name, (one, two) in options.differences(other).items():
        raise DktError(
            f"{name} is {one!r} for camera {first.namespace} and {two!r} for {camera.namespace}: "
            "expected the same for all that share a network. Set it under parameters of all, or "
            "one_process to false"
        )


def _mapping(what: str, value: Any, keys: tuple[str, ...] = ()) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise DktError(f"{what} is {value!r}: expected names and values")
    if keys and (unknown := [key for key in value if key not in keys]):
        raise DktError(
            f"{what} has {', '.join(map(str, unknown))}: expected any of {', '.join(keys)}"
        )
    return value
