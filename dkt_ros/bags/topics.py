"""Which topic of a bag carries what. Knows names and types; reads no message."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

from dkt_ros.bags.reader import BagTopic
from dkt_ros.errors import DktError

_IMAGE = "sensor_msgs/msg/Image"
_COMPRESSED = "sensor_msgs/msg/CompressedImage"
_CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
_TRANSPORTS = ("compressed", "compressedDepth")


@dataclass(frozen=True)
class CameraTopics:
    """Topics of one camera, RealSense's names by default; `truth` and `mask` are for evaluation.

    None: the bag has no such topic.
    """

    color: str = "/camera/camera/color/image_raw"
    depth: str | None = "/camera/camera/aligned_depth_to_color/image_raw"
    camera_info: str = "/camera/camera/color/camera_info"
    truth: str | None = "/truth/depth"
    mask: str | None = "/truth/mask"

    def camera(self) -> tuple[str, ...]:
        """What a camera would publish: colour, depth and intrinsics."""
        return tuple(name for name in (self.color, self.depth, self.camera_info) if name)


def discover_topics(
    topics: Mapping[str, BagTopic], overrides: Mapping[str, str] | None = None
) -> CameraTopics:
    """The camera's topics among a bag's, by type and name; `overrides` name some of them outright.

    Colour: an image without "depth", "infra" or "mask" in its name; depth: one with "depth", the
    one registered to colour first; intrinsics: those beside colour; truth and mask: under /truth.
    Uncompressed before compressed. Raises DktError where colour or intrinsics cannot be found, or
    an override is not in the bag.
    """
    chosen = dict(overrides or {})
    known = {field.name for field in fields(CameraTopics)}
    for role, name in chosen.items():
        if role not in known:
            raise DktError(f"unknown role {role!r}; expected one of {', '.join(sorted(known))}")
        if name not in topics:
            raise DktError(f"no topic {name} for {role}; the bag holds {_listing(topics)}")
    color = chosen.get("color") or _best(topics, _color_rank)
    if color is None:
        raise DktError(f"no colour image found among {_listing(topics)}; name the topic")
    info = chosen.get("camera_info") or _best(topics, lambda topic: _info_rank(topic, color))
    if info is None:
        raise DktError(f"no CameraInfo found among {_listing(topics)}; name the topic")
    return CameraTopics(
        color=color,
        depth=chosen.get("depth") or _best(topics, _depth_rank),
        camera_info=info,
        truth=chosen.get("truth") or _best(topics, lambda topic: _truth_rank(topic, "depth")),
        mask=chosen.get("mask") or _best(topics, lambda topic: _truth_rank(topic, "mask")),
    )


def base_topic(name: str) -> str:
    """The topic's name without image_transport's suffix (`/compressed`, `/compressedDepth`)."""
    parent, _, last = name.rpartition("/")
    return parent if last in _TRANSPORTS else name


def _best(topics: Mapping[str, BagTopic], rank: Callable[[BagTopic], int]) -> str | None:
    ranked = [(rank(topic), topic.name) for topic in topics.values() if not topic.problem]
    suitable = [entry for entry in ranked if entry[0] > 0]
    return min(suitable, key=lambda entry: (-entry[0], entry[1]))[1] if suitable else None


def _image_rank(topic: BagTopic) -> int:
    """2 for an image, 1 for a compressed one, 0 for all else."""
    return {_IMAGE: 2, _COMPRESSED: 1}.get(topic.msgtype, 0)


def _color_rank(topic: BagTopic) -> int:
    name = topic.name.lower()
    if not _image_rank(topic) or any(
        word in name for word in ("depth", "infra", "mask", "truth", "/dkt/")
    ):
        return 0
    preferred = 10 if "color" in name or "rgb" in name else 0
    return preferred + _image_rank(topic)


def _depth_rank(topic: BagTopic) -> int:
    name = topic.name.lower()
    if not _image_rank(topic) or "depth" not in name or "truth" in name or "/dkt/" in name:
        return 0
    # A depth picture that was JPEG-compressed is of no use: only compressedDepth is.
    if topic.msgtype == _COMPRESSED and not topic.name.endswith("/compressedDepth"):
        return 0
    registered = 10 if "aligned" in name or "registered" in name else 0
    return registered + _image_rank(topic)


def _info_rank(topic: BagTopic, color: str) -> int:
    if topic.msgtype != _CAMERA_INFO:
        return 0
    return 10 if topic.name.rpartition("/")[0] == base_topic(color).rpartition("/")[0] else 1


def _truth_rank(topic: BagTopic, word: str) -> int:
    name = topic.name.lower()
    return _image_rank(topic) if "truth" in name and word in name else 0


def _listing(topics: Mapping[str, BagTopic]) -> str:
    return ", ".join(f"{topic.name} ({topic.msgtype})" for topic in topics.values())
