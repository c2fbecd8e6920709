"""Camera presets for the launch files: which topics a camera's driver publishes, and how.

One YAML file per camera in config/cameras/: three topics, the frame of the colour images, which
RViz shows all in, and under `parameters` whatever else the node has to know of the camera. Knows
files and names; nothing of launch or rclpy.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dkt_ros.errors import DktError
from dkt_ros.ros.params.files import read_yaml
from dkt_ros.ros.params.parameters import NodeParameters
from dkt_ros.ros.params.spec import Value

if TYPE_CHECKING:
    from dkt_ros.bags.reader import BagReader

TOPICS = ("color", "depth", "camera_info")
CAMERA_PARAMETERS = ("color_transport", "depth_transport", "warm_up_size")
PRESET_ARGUMENTS = ("camera", *(f"{name}_topic" for name in TOPICS), "frame", *CAMERA_PARAMETERS)
TRANSPORTS = {"raw": "", "compressed": "/compressed", "compressedDepth": "/compressedDepth"}
_TOPIC = re.compile(r"[~/]?[A-Za-z_]\w*(/[A-Za-z_]\w*)*")


@dataclass(frozen=True)
class CameraPreset:
    """A camera as the node sees it.

    color, depth, camera_info  topics; with a compressed transport the base topics
    frame                      frame_id of the colour images; "": not known
    parameters                 the node's parameters that this camera needs
    """

    color: str
    depth: str
    camera_info: str
    frame: str = ""
    parameters: Mapping[str, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in TOPICS:
            topic = getattr(self, name)
            if not isinstance(topic, str) or not _TOPIC.fullmatch(topic):
                raise DktError(
                    f"{name} topic is {topic!r}: expected a topic's name such as "
                    "/camera/color/image_raw, letters, digits and _ between slashes"
                )
        if not isinstance(self.frame, str):
            raise DktError(f"frame is {self.frame!r}: expected the colour images' frame_id")
        NodeParameters.from_values(self.parameters)

    @property
    def remappings(self) -> list[tuple[str, str]]:
        """From the node's topic names to the camera's."""
        return [
            ("color/image", self.color),
            ("depth/image", self.depth),
            ("color/camera_info", self.camera_info),
        ]

    def topics(self, namespace: str = "") -> list[str]:
        """The absolute topics that a node in `namespace` subscribes to."""
        transports = NodeParameters.from_values(self.parameters)
        named = (
            with_transport(self.color, transports.color_transport),
            with_transport(self.depth, transports.depth_transport),
            self.camera_info,
        )
        prefix = f"/{namespace.strip('/')}/" if namespace.strip("/") else "/"
        return [topic if topic.startswith("/") else prefix + topic for topic in named]


def is_compressed(topic: str) -> bool:
    """Whether the name is that of a transport of compressed images."""
    return bool(TRANSPORTS.get(topic.rpartition("/")[2]))


def with_transport(topic: str, transport: str) -> str:
    """The topic that a transport has for a base topic; what is one's already is left as it is."""
    return topic if is_compressed(topic) else topic + TRANSPORTS[transport]


def chosen_preset(folder: Path, arguments: Mapping[str, str]) -> CameraPreset:
    """The preset that launch arguments name, with what they say instead of its own.

    `arguments` has the keys PRESET_ARGUMENTS; all but camera may be empty. Raises DktError.
    """
    preset = load_preset(folder, arguments["camera"])
    given: dict[str, Any] = {
        name: arguments[f"{name}_topic"] for name in TOPICS if arguments[f"{name}_topic"]
    }
    # Of a topic that is not its driver's the preset does not know the frame.
    frame = arguments["frame"] or ("" if given else preset.frame)
    parameters = {**preset.parameters, **_parameters_of(arguments)}
    return replace(preset, **given, frame=frame, parameters=parameters)


def preset_of_bag(
    folder: Path, arguments: Mapping[str, str], bag: Path, namespace: str = ""
) -> CameraPreset:
    """The preset for a recorded camera: as arguments say, or found in the bag if they name none.

    Raises DktError where the bag does not hold its topics.
    """
    # What reads bags is an extra, and a robot's launch file names its camera.
    from dkt_ros.bags.reader import BagReader

    with BagReader(bag) as reader:
        recorded = reader.topics
        if not arguments["camera"]:
            return _found_preset(reader, arguments)
    preset = chosen_preset(folder, arguments)
    missing = [topic for topic in preset.topics(namespace) if topic not in recorded]
    if missing:
        raise DktError(
            f"{bag} has no {', '.join(missing)}, which camera '{arguments['camera']}' names: "
            f"it holds {', '.join(recorded)}. Give color_topic, depth_topic and "
            "camera_info_topic (and color_transport:=compressed, "
            "depth_transport:=compressedDepth for such topics), or camera:='' to have them "
            "found"
        )
    return preset


def _found_preset(bag: BagReader, arguments: Mapping[str, str]) -> CameraPreset:
    from dkt_ros.bags.reader import first_message
    from dkt_ros.bags.topics import base_topic, camera_topics

    named = {name: arguments[f"{name}_topic"] for name in TOPICS}
    found = camera_topics(bag, {name: topic for name, topic in named.items() if topic})
    if found.depth is None:
        raise DktError(f"{bag.path} has no depth image among {', '.join(bag.topics)}; record one")
    parameters: dict[str, Value] = {
        f"{role}_transport": topic.rpartition("/")[2]
        for role, topic in (("color", found.color), ("depth", found.depth))
        if base_topic(topic) != topic
    }
    frame = arguments["frame"]
    with suppress(DktError):  # a damaged one costs RViz alone, by default
        frame = frame or first_message(bag, found.color).header.frame_id
    return CameraPreset(
        base_topic(found.color),
        base_topic(found.depth),
        found.camera_info,
        frame,
        parameters | _parameters_of(arguments),
    )


def _parameters_of(arguments: Mapping[str, str]) -> dict[str, Value]:
    return {name: arguments[name] for name in CAMERA_PARAMETERS if arguments[name]}


def camera_names(folder: Path) -> list[str]:
    """The presets in this folder."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def load_preset(folder: Path, name: str) -> CameraPreset:
    """The preset of this name, or of this path when it ends in .yaml. Raises DktError."""
    path = Path(name).expanduser() if name.endswith(".yaml") else folder / f"{name}.yaml"
    if not path.is_file():
        raise DktError(
            f"camera '{name}' is not known: expected one of {', '.join(camera_names(folder))}, or "
            "the path of a .yaml file like theirs"
        )
    values = read_yaml(path)
    known = {*TOPICS, "frame", "parameters"}
    if not isinstance(values, dict) or not set(TOPICS) <= values.keys() <= known:
        found = sorted(values) if isinstance(values, dict) else values
        raise DktError(
            f"{path} holds {found}: expected {', '.join(sorted(TOPICS))}, and if need be the "
            "colour images' frame and, under parameters, the node's"
        )
    parameters = values.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise DktError(f"{path} has parameters {parameters!r}: expected names and values")
    try:
        return CameraPreset(**{**values, "parameters": parameters})
    except DktError as error:
        raise DktError(f"{path}: {error}") from error
