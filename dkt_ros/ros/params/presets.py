"""Camera presets for the launch files: which topics a camera's driver publishes, and how.

One YAML file per camera in config/cameras/. Knows files and names; nothing of launch or rclpy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import yaml

from dkt_ros.errors import DktError
from dkt_ros.model.arguments import parse_size

PRESET_ARGUMENTS = (
    "camera",
    "color_topic",
    "depth_topic",
    "camera_info_topic",
    "color_transport",
    "depth_transport",
    "warm_up_size",
)
TRANSPORTS = {"raw": "", "compressed": "/compressed", "compressedDepth": "/compressedDepth"}


@dataclass(frozen=True)
class CameraPreset:
    """A camera as the node sees it.

    color, depth, camera_info         topics; with a compressed transport the base topics
    color_transport, depth_transport  as the node's parameters of these names
    rectified                         whether the colour image is rectified
    warm_up_size                      HEIGHTxWIDTH of the colour image; "": not known
    """

    color: str
    depth: str
    camera_info: str
    color_transport: str = "raw"
    depth_transport: str = "raw"
    rectified: bool = False
    warm_up_size: str = ""

    @property
    def remappings(self) -> list[tuple[str, str]]:
        """From the node's topic names to the camera's."""
        return [
            ("color/image", self.color),
            ("depth/image", self.depth),
            ("color/camera_info", self.camera_info),
        ]

    @property
    def parameters(self) -> dict[str, Any]:
        """The node's parameters that this camera needs."""
        values: dict[str, Any] = {
            "color_transport": self.color_transport,
            "depth_transport": self.depth_transport,
            "rectified": self.rectified,
        }
        return values | ({"warm_up_size": self.warm_up_size} if self.warm_up_size else {})

    def topics(self, namespace: str = "") -> list[str]:
        """The absolute topics that a node in `namespace` subscribes to."""
        named = (
            self.color + TRANSPORTS[self.color_transport],
            self.depth + TRANSPORTS[self.depth_transport],
            self.camera_info,
        )
        prefix = f"/{namespace.strip('/')}/" if namespace.strip("/") else "/"
        return [topic if topic.startswith("/") else prefix + topic for topic in named]


def chosen_preset(folder: Path, arguments: Mapping[str, str]) -> CameraPreset:
    """The preset that launch arguments name, with what they say instead of its own.

    `arguments` has the keys PRESET_ARGUMENTS; all but camera may be empty. Raises DktError.
    """
    instead: dict[str, Any] = {
        "color": arguments["color_topic"],
        "depth": arguments["depth_topic"],
        "camera_info": arguments["camera_info_topic"],
        "color_transport": arguments["color_transport"],
        "depth_transport": arguments["depth_transport"],
        "warm_up_size": arguments["warm_up_size"],
    }
    preset = load_preset(folder, arguments["camera"])
    return replace(preset, **{name: value for name, value in instead.items() if value})


def camera_names(folder: Path) -> list[str]:
    """The presets in this folder."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def load_preset(folder: Path, name: str) -> CameraPreset:
    """The preset of this name, or of this path when it ends in .yaml. Raises DktError."""
    path = Path(name) if name.endswith(".yaml") else folder / f"{name}.yaml"
    if not path.is_file():
        raise DktError(
            f"camera '{name}' is not known: expected one of {', '.join(camera_names(folder))}, or "
            "the path of a .yaml file like theirs"
        )
    values = yaml.safe_load(path.read_text())
    known = {entry.name for entry in fields(CameraPreset)}
    required = {"color", "depth", "camera_info"}
    if not isinstance(values, dict) or not required <= values.keys() <= known:
        found = sorted(values) if isinstance(values, dict) else values
        raise DktError(
            f"{path} holds {found}: expected {', '.join(sorted(required))}, and if need be "
            f"{', '.join(sorted(known - required))}"
        )
    size = values.get("warm_up_size", "")
    if size and (not isinstance(size, str) or parse_size(size) is None):
        raise DktError(
            f"{path} has warm_up_size {size!r}: expected HEIGHTxWIDTH of the colour image, such as "
            "720x1280"
        )
    return CameraPreset(**values)
