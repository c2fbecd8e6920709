"""Which topics of a bag are one camera's. Knows names, types and what first messages show."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any

import cv2
import numpy as np

from dkt_ros.bags.reader import BagReader, BagTopic, RecordedMessage, decoded, listing, usable
from dkt_ros.errors import DktError
from dkt_ros.messages.images import DEPTH_ENCODINGS

_IMAGE = "sensor_msgs/msg/Image"
_COMPRESSED = "sensor_msgs/msg/CompressedImage"
_CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
# What makes images of other types.
_TO_DEPTH = {
    "sensor_msgs/msg/PointCloud2": "rtabmap_util's pointcloud_to_depthimage makes depth of it",
    "stereo_msgs/msg/DisparityImage": "rtabmap_util's disparity_to_depth makes depth of it",
}
_VIDEO = (
    "ffmpeg_image_transport_msgs/msg/FFMPEGPacket",
    "foxglove_msgs/msg/CompressedVideo",
    "theora_image_transport/msg/Packet",
)
_TO_IMAGE = _TO_DEPTH | dict.fromkeys(
    _VIDEO, "image_transport's republish makes images of such video"
)
_TRANSPORTS = ("compressedDepth", "compressed")  # of depth that has both, the one that is whole
_OTHER = {"confidence", "disparity", "dkt", "infra", "infrared", "ir", "mask", "truth"}
_NOT_COLOR = _OTHER | {"depth", "fisheye"}
# Pictures that speak of depth and are none: colour registered to depth, Orbbec's overlay.
_NO_DEPTH = re.compile(r"_to_depth|(?<!aligned_)depth_to_color")
# What a depth topic is registered to: depth_to_rgb, aligned_depth_to_color.
_TARGET = re.compile(r"depth_to_([a-z]+)")
_COLOR_WORDS = {"color", "colour", "rgb"}
# Words by which topics of one camera differ; two cameras differ by others.
_STREAM_WORDS = _COLOR_WORDS | {
    *("aligned", "data", "depth", "hw", "image", "info", "infra", "raw", "rect", "rectified"),
    *("registered", "stereo", "sw", "to", ""),
}
# At a name's end: streams by which a camera may be called (`front_rgb`), words that call none.
_NAMED_STREAMS = _COLOR_WORDS | {"depth", "info"}
_END_WORDS = {"camera", "map"}
_RECTIFIED = {"rect", "rectified"}
_SDK_STREAM = re.compile(r"/device_\d+/sensor_\d+/\w+_\d+/image/data")
_SPLIT = re.compile(r"(?:sensor|stream)_?\d+|[\W_]+")  # RealSense Viewer numbers its sensors


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


class NoTopicError(DktError):
    """A bag has no topic for a role: "color", "depth", "camera_info", "truth" or "mask"."""

    def __init__(self, role: str, text: str) -> None:
        super().__init__(text)
        self.role = role


@dataclass(frozen=True)
class Look:
    """What a topic's first message shows.

    size: (width, height). encoding: of an Image; of a CompressedImage only where it holds what 16
    bits hold. form: what it says of itself.
    """

    frame_id: str
    size: tuple[int, int] | None = None
    encoding: str = ""
    form: str = ""


def camera_topics(bag: BagReader, overrides: Mapping[str, str] | None = None) -> CameraTopics:
    """recorded_camera's; NoTopicError, too, for depth found that is not registered to colour."""
    found, apart = recorded_camera(bag, overrides)
    if apart and "depth" not in (overrides or {}):
        raise NoTopicError(
            "depth",
            f"{apart}; record registered depth (RealSense: align_depth.enable:=true), or name a "
            "depth topic outright; `dkt process` registers depth of bags that say how",
        )
    return found


def recorded_camera(
    bag: BagReader, overrides: Mapping[str, str] | None, needs_info: bool = True
) -> tuple[CameraTopics, str]:
    """discover_topics, with a look into the first messages: what pictures are, and their sizes.

    And what tells that the depth found is not registered to colour; "" where it is. Of depth that
    overrides name, another size alone tells it, or RealSense's SDK, which registers none.
    """
    looks = _looks(bag)
    found = discover_topics(bag.topics, overrides, looks, needs_info)
    color, depth = looks.get(found.color), looks.get(found.depth or "")
    if found.depth is None or color is None or depth is None:
        return found, ""
    trusted = "depth" in (overrides or {}) or _is_registered(found.depth, found.color)
    if _fits(color, depth, trusted) and not is_sdk_stream(found.depth):
        return found, ""
    return found, (
        f"depth {found.depth} ({_shown(depth)}) is not registered to colour {found.color} "
        f"({_shown(color)})"
    )


def is_sdk_stream(topic: str) -> bool:
    """Whether RealSense's SDK or Viewer recorded it: `/device_0/sensor_0/Depth_0/image/data`."""
    return _SDK_STREAM.fullmatch(topic) is not None


def info_of_depth(bag: BagReader, depth: str) -> str | None:
    """The intrinsics of an unregistered depth's own camera: those in the folders it shares most.

    In a folder of depth's, or with its size and frame: colour's may lie as near.
    """
    infos = [n for n, topic in usable(bag.topics).items() if topic.msgtype == _CAMERA_INFO]
    near = {name: _shared(name, depth) for name in infos if _same_camera(name, depth)}
    looks = _looks(bag)
    mine = looks.get(depth)
    fitting = [name for name in near if mine and name in looks and _fits(mine, looks[name], False)]
    # Colour's may lie in the same folders as depth's of other cameras.
    named = [name for name in near if "depth" in _words("/".join(_parent(name)))]
    return max(named or fitting, key=lambda name: (near[name], name), default=None)


def rival_cameras(bag: BagReader, color: str) -> list[str]:
    """Colour topics of other cameras that have intrinsics and depth of their own, as `color`."""
    view = _View(usable(bag.topics), _looks(bag))
    mine = view.color_rank(color)[:2]
    return [
        name
        for name in sorted(view.colors())
        if not _same_camera(name, color)
        and view.depth(name) not in (None, view.depth(color))
        and view.color_rank(name)[:2] >= mine
    ]


def unfit_depths(bag: BagReader, color: str) -> list[str]:
    """What colour's camera has in place of depth: so-called pictures of it, clouds, disparity."""
    made = [
        f"{topic.name} ({topic.msgtype.rpartition('/')[2]}; {_TO_DEPTH[topic.msgtype]})"
        for topic in usable(bag.topics).values()
        if topic.msgtype in _TO_DEPTH and _same_camera(topic.name, color)
    ]
    return made + [
        f"{name} ({look.form.strip()})"
        for name, look in _looks(bag).items()
        if look.form
        and "depth" in _words(name)
        and not _words(name) & _OTHER
        and not name.endswith("/compressedDepth")
        and look.encoding not in DEPTH_ENCODINGS
        and _same_camera(name, color)
    ]


def unread_videos(topics: Mapping[str, BagTopic]) -> list[str]:
    """A line for each topic of pictures that were recorded as video alone."""
    held = usable(topics)
    return [
        f"{topic.name} ({topic.msgtype.rpartition('/')[2]}) is video, which is not read: "
        f"{_TO_IMAGE[topic.msgtype]}"
        for topic in held.values()
        if topic.msgtype in _VIDEO
        and (base := topic.name.rpartition("/")[0])
        and recorded_topic(held, base) not in held
    ]


def _looks(bag: BagReader) -> dict[str, Look]:
    looks = {}
    for topic in bag.topics.values():
        if topic.msgtype in (_IMAGE, _COMPRESSED, _CAMERA_INFO) and not topic.problem:
            message = bag.first(topic.name)
            look = _look(message) if message else None
            if look:
                looks[topic.name] = look
    return looks


def discover_topics(
    topics: Mapping[str, BagTopic],
    overrides: Mapping[str, str] | None = None,
    looks: Mapping[str, Look] | None = None,
    needs_info: bool = True,
) -> CameraTopics:
    """One camera's topics among a bag's, by type and name; `overrides` name some of them.

    Colour: an image whose name speaks of nothing else, of a camera that has intrinsics and, best
    of all, registered depth. Depth and intrinsics: of colour's camera, by the names' common part.
    Truth and mask: under /truth. Uncompressed before compressed; topics without messages are
    passed over, and a compressed form stands for one that is named. `looks` tell what names do not:
    the encoding, size and frame of a topic's messages.
    Raises NoTopicError where colour or intrinsics cannot be found, an override cannot be what it is
    named for, or one topic is taken twice; without needs_info intrinsics may be "".
    """
    held = usable(topics)
    chosen = {role: recorded_topic(held, name) for role, name in (overrides or {}).items()}
    known = {field.name for field in fields(CameraTopics)}
    for role, name in chosen.items():
        if role not in known:
            raise DktError(f"unknown role {role!r}; expected one of {', '.join(sorted(known))}")
        _check_named(role, name, topics)
    view = _View(held, looks or {})
    colors = [chosen["color"]] if "color" in chosen else view.colors()
    if not colors:
        video = next((t.msgtype for t in topics.values() if t.msgtype in _VIDEO), "")
        remedy = _TO_IMAGE.get(video, "name the topic")
        raise NoTopicError(
            "color", f"no colour image found among {listing(topics.values())}; {remedy}"
        )
    color = min(colors, key=lambda name: (*(-score for score in view.color_rank(name)), name))
    info = chosen.get("camera_info") or view.info(color)
    if info is None and needs_info and not is_sdk_stream(color):
        raise NoTopicError(
            "camera_info",
            f"no CameraInfo found among {listing(topics.values())} that belongs to {color}; "
            "name the topic",
        )
    found = CameraTopics(
        color=color,
        depth=chosen.get("depth") or view.depth(color),
        camera_info=info or "",
        truth=chosen.get("truth") or view.truth("depth"),
        mask=chosen.get("mask") or view.truth("mask"),
    )
    roles: dict[str, str] = {}
    for role, name in vars(found).items():
        other = roles.setdefault(name, role) if name else role
        if other != role:
            raise NoTopicError(role, f"topic {name} is taken for {other} and {role}; name another")
    return found


def _check_named(role: str, name: str, topics: Mapping[str, BagTopic]) -> None:
    """Raises NoTopicError where the topic that is named for a role cannot be that."""
    topic = topics.get(name)
    if topic is None:
        raise NoTopicError(
            role, f"no topic {name} for {role}; the bag holds {listing(topics.values())}"
        )
    expected = (_CAMERA_INFO,) if role == "camera_info" else (_IMAGE, _COMPRESSED)
    if topic.problem:
        problem = f"cannot be read: {topic.problem}"
    elif topic.msgtype not in expected:
        remedy = _TO_IMAGE.get(topic.msgtype, "name another")
        problem = f"is {topic.msgtype}, expected {' or '.join(expected)}; {remedy}"
    elif not topic.count:
        problem = "has no messages; name another"
    else:
        return
    raise NoTopicError(role, f"topic {name} for {role} {problem}")


def base_topic(name: str) -> str:
    """The topic's name without image_transport's suffix (`/compressed`, `/compressedDepth`)."""
    parent, _, last = name.rpartition("/")
    return parent if last in _TRANSPORTS else name


def recorded_topic(topics: Collection[str], name: str) -> str:
    """`name`, or where only a compressed form of it was recorded, that topic.

    As with ROS, the first slash is no part of a name: bags of some writers lack it. topics: those
    that hold messages, as recorders of all topics have empty forms too.
    """
    bare = name.removeprefix("/")
    forms = (f"{name}/{transport}" for name in (f"/{bare}", bare) for transport in _TRANSPORTS)
    names = (name, f"/{bare}", bare, *forms)
    return next((form for form in names if form in topics), name)


class _View:
    """The usable topics of a bag, ranked by what they may be."""

    def __init__(self, topics: Mapping[str, BagTopic], looks: Mapping[str, Look]) -> None:
        self._topics = topics
        self._looks = looks

    def colors(self) -> list[str]:
        return [
            name
            for name, topic in self._topics.items()
            if topic.msgtype in (_IMAGE, _COMPRESSED)
            and not name.endswith("/compressedDepth")
            and not _words(name) & _NOT_COLOR
            and self._encoding(name) not in DEPTH_ENCODINGS
            and not self._is_stereo_depth(name)
        ]

    def color_rank(self, name: str) -> tuple[int, ...]:
        """How well this picture serves as colour: the first number counts first."""
        info, depth = self.info(name), self.depth(name)
        words = _words(name)
        registered = depth is not None and self._registered(depth, name)
        return (
            info is not None and _same_camera(info, name),
            registered,
            len(words & _COLOR_WORDS) - len(words & {"left", "mono", "right"}),
            depth is not None,
            # ZED's depth is of the rectified picture, in a folder beside the raw one.
            bool(_RECTIFIED & _words("/".join(_parent(name)))),
            _words(_end(name)) <= _STREAM_WORDS,  # no picture that somebody drew into
            self._is_raw(name),
        )

    def depth(self, color: str) -> str | None:
        """The depth of colour's camera, registered if there is any."""

        def rank(name: str) -> tuple[int, ...]:
            return (self._registered(name, color), _shared(name, color), self._is_raw(name))

        found = [name for name in self._topics if self._is_depth(name, color)]
        return min(found, key=lambda name: (*(-score for score in rank(name)), name), default=None)

    def info(self, color: str) -> str | None:
        """The intrinsics of colour's camera, beside colour if possible; else the bag's only one."""
        infos = [name for name, topic in self._topics.items() if topic.msgtype == _CAMERA_INFO]
        own = [name for name in infos if "/dkt/" not in name and _same_camera(name, color)]
        look = self._looks.get(color)

        def rank(name: str) -> tuple[int, ...]:
            mine = self._looks.get(name)
            fits = look is None or mine is None or _fits(look, mine, registered=False)
            other = bool(_words(name) & _NOT_COLOR)
            return (_parent(name) == _parent(color), fits, not other, _shared(name, color))

        if own:
            return min(own, key=lambda name: (*(-score for score in rank(name)), name))
        return infos[0] if len(infos) == 1 else None

    def truth(self, word: str) -> str | None:
        found = [
            name
            for name, topic in self._topics.items()
            if topic.msgtype in (_IMAGE, _COMPRESSED)
            and "truth" in name.lower()
            and word in name.lower()
        ]
        return min(found, key=lambda name: (not self._is_raw(name), name), default=None)

    def _is_depth(self, name: str, color: str) -> bool:
        topic, words = self._topics[name], _words(name)
        if topic.msgtype not in (_IMAGE, _COMPRESSED) or words & _OTHER:
            return False
        encoding = self._encoding(name)
        # A depth picture that was JPEG-compressed is of no use; a PNG of 16 bits is.
        if topic.msgtype == _COMPRESSED and not (encoding or name.endswith("/compressedDepth")):
            return False
        named = "depth" in words and not _NO_DEPTH.search(base_topic(name).lower())
        if encoding:
            named = encoding in DEPTH_ENCODINGS
        if not named and not self._is_stereo_depth(name):
            return False
        target = _TARGET.search(base_topic(name).lower())
        return _same_camera(name, color) and (target is None or _is_target(target[1], color))

    def _is_stereo_depth(self, name: str) -> bool:
        """Luxonis' name of its depth; other drivers call two pictures side by side stereo."""
        words = _words(name)
        if "stereo" not in words or words & {"color", "rgb", "left", "right", "rect"}:
            return False
        return not self._encoding(name) or self._encoding(name) in DEPTH_ENCODINGS

    def _registered(self, depth: str, color: str) -> bool:
        named = _is_registered(depth, color)
        look, other = self._looks.get(color), self._looks.get(depth)
        return _fits(look, other, named) if look and other else named

    def _encoding(self, name: str) -> str:
        return self._looks[name].encoding if name in self._looks else ""

    def _is_raw(self, name: str) -> bool:
        return self._topics[name].msgtype == _IMAGE


def _words(name: str) -> set[str]:
    """The name's parts between slashes and underscores, without digits, lower case."""
    return set(re.split(r"[\W\d_]+", name.lower()))


def _parent(name: str) -> tuple[str, ...]:
    return tuple(base_topic(name).strip("/").split("/")[:-1])


def _end(name: str) -> str:
    return base_topic(name).rpartition("/")[2]


def _shared(name: str, other: str) -> int:
    """How many folders two topics have in common."""
    pairs = zip(_parent(name), _parent(other), strict=False)
    return len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)))


def _same_camera(name: str, other: str) -> bool:
    """Whether two names tell no two cameras apart: by folders they do not share, or by the ends."""
    at = _shared(name, other)
    mine, theirs = (
        {words for folder in _parent(path)[at:] if (words := _camera_words(folder))}
        for path in (name, other)
    )
    # `/camera/left/image` and `/depth/left/image`: one may have folders that the other lacks.
    if not (mine <= theirs or theirs <= mine):
        return False
    ends = [_end(name), _end(other)]
    if not all(_words(end) & _NAMED_STREAMS for end in ends):
        return True
    my_end, their_end = (_camera_words(end) - _END_WORDS for end in ends)
    return not my_end or not their_end or my_end == their_end


def _camera_words(part: str) -> frozenset[str]:
    """What a part of a name says beside the stream: `depth_left` left, `rgb0` 0."""
    words = itertools.chain(*(re.findall(r"\d+|\D+", w) for w in _SPLIT.split(part.lower())))
    return frozenset(words) - _STREAM_WORDS


def _is_registered(depth: str, color: str) -> bool:
    """Whether depth says of itself that it is registered to that colour."""
    name = base_topic(depth).lower()
    target = _TARGET.search(name)
    if target:
        return _is_target(target[1], color)
    return bool({"aligned", "registered"} & _words(name))


def _is_target(target: str, color: str) -> bool:
    words = _words(color)
    return target in words or bool(target in _COLOR_WORDS and words & _COLOR_WORDS)


def _fits(color: Look, other: Look, registered: bool) -> bool:
    """One size; one frame, too, where the name does not say that it is registered."""
    sizes = {look.size for look in (color, other) if look.size}
    return len(sizes) < 2 and (registered or color.frame_id == other.frame_id)


def _look(message: RecordedMessage) -> Look | None:
    """None where the message cannot be read or shows nothing."""
    try:
        value = decoded(message)
        if message.msgtype != _COMPRESSED:
            size = (int(value.width), int(value.height))
            encoding = getattr(value, "encoding", "")
            return Look(value.header.frame_id, size if all(size) else None, encoding, encoding)
        is_depth = message.topic.endswith("/compressedDepth")
        picture: Any = cv2.imdecode(value.data[12 if is_depth else 0 :], cv2.IMREAD_UNCHANGED)
        if picture is None:
            return Look(value.header.frame_id, form=value.format)
        is_depth = not is_depth and picture.ndim == 2 and picture.dtype == np.uint16
        size = (picture.shape[1], picture.shape[0])
        return Look(value.header.frame_id, size, "16UC1" if is_depth else "", value.format)
    # Damaged bytes make rosbags raise almost anything.
    except Exception:  # noqa: BLE001
        return None


def _shown(look: Look) -> str:
    size = f"{look.size[0]}x{look.size[1]}" if look.size else "size unknown"
    return f"{size}, frame {look.frame_id!r}"
