"""A bag as frames, paired, checked and decoded by the node's own intake."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dkt_ros.bags import realsense_sdk
from dkt_ros.bags.encode import MessageEncoder
from dkt_ros.bags.message_types import types_in, types_of
from dkt_ros.bags.reader import (
    STORAGE_NAME,
    BagReader,
    EmptyBagError,
    RecordedMessage,
    decoded,
)
from dkt_ros.bags.recording import FRAME_ID, LabelledFrame, labelled
from dkt_ros.bags.topics import (
    CameraTopics,
    NoTopicError,
    is_sdk_stream,
    recorded_camera,
    rival_cameras,
    unfit_depths,
    unread_videos,
)
from dkt_ros.bags.unregistered import RegisteredImage, depth_camera
from dkt_ros.errors import DktError
from dkt_ros.files import StorageError, shown
from dkt_ros.formats.pictures import JPEG
from dkt_ros.formats.pixels import INEXACT
from dkt_ros.formats.transphy3d import material_classes
from dkt_ros.frames import FlushReason
from dkt_ros.geometry import depth_unit
from dkt_ros.messages.compressed_images import is_deep
from dkt_ros.messages.fields import as_option, stamp_to_ns
from dkt_ros.messages.intake import Intake
from dkt_ros.messages.observation import Observation
from dkt_ros.messages.pixels import depth_of, rgb_of
from dkt_ros.messages.synchronizer import DropCause, Synchronizer, told_apart, wide_enough
from dkt_ros.processing.outcome import Outcome, ProcessingError
from dkt_ros.processing.silences import silences, told
from dkt_ros.processing.source import GIVE_CAMERA, PassedMessage, Pending, Source, SourceOptions
from dkt_ros.wording import counted

_LABEL_PATIENCE_NS = 1_000_000_000
"""Truth and mask of a frame lie within this time of it."""
_QUEUE = 60
"""Messages that wait for the other stream: recorders write what comes in bunches, seconds apart."""
_ADVICE = {
    **dict.fromkeys(
        (DropCause.DUPLICATE.value, DropCause.NO_STAMP.value),
        "have the camera's driver stamp each image with its time",
    ),
    DropCause.QUEUE_FULL.value: f"colour and depth of one stamp lie more than {_QUEUE} messages "
    "apart in the recording; write it anew in the order of the stamps",
}
_HARMLESS = {DropCause.NO_DEPTH.value, DropCause.NO_COLOR.value}
"""Streams of different rates leave some over."""
_MISSING = {
    "color": Outcome.NO_COLOR,
    "depth": Outcome.NO_DEPTH,
    "camera_info": Outcome.NO_CAMERA_INFO,
}


class BagSource(Source):
    """A rosbag of any kind; the topics are found by type and name. Raises ProcessingError."""

    kind = "bag"
    truth_from = "expected a topic of it, with colour's stamps, under /truth or as --truth-topic"

    def __init__(self, path: Path, name: str, options: SourceOptions) -> None:
        super().__init__(path, name)
        self._options = options
        self._stamps: Synchronizer[Any, Any] | None = None
        self._silent: list[str] = []
        if _is_part(path):
            self.notes.append(f"it is one file of a bag that was split: {path.parent} is all of it")
        with self._opened() as bag:
            self.notes += unread_videos(bag.topics)
            self.topics, apart = self._find_topics(bag)
            self.total = bag.topics[self.topics.color].count
            if bag.leap:
                self.notes.append(bag.leap)
            else:
                self.duration_s = (bag.end_ns - bag.start_ns) * 1e-9
            self._from_sdk = is_sdk_stream(self.topics.color)
            self.given = self._given_camera(bag)
            self._registered = self._registration(bag, apart) if apart else None
            self.notes += [
                f"{name} was recorded from {topic.publishers} publishers: pictures of several "
                "cameras may be mixed in it. Give each camera a namespace of its own"
                for name in (self.topics.color, self.topics.depth)
                if name and (topic := bag.topics[name]).publishers > 1
            ]
            self.passed = self._passed_topics(bag) if options.pass_through else ()

    def _opened(self) -> BagReader:
        try:
            return BagReader(self.path)
        except EmptyBagError as error:
            raise ProcessingError(Outcome.EMPTY, str(error)) from error
        except StorageError:
            raise
        except DktError as error:
            raise ProcessingError(Outcome.NOT_A_RECORDING, str(error)) from error

    def _find_topics(self, bag: BagReader) -> tuple[CameraTopics, str]:
        options = self._options
        try:
            found, apart = recorded_camera(bag, options.topics, not options.has_camera)
        except NoTopicError as error:
            hint = f", or {GIVE_CAMERA}" if error.role == "camera_info" else ""
            hint += "".join(f"; {note}" for note in self.notes)
            outcome = _MISSING.get(error.role, Outcome.NOTHING_USABLE)
            raise ProcessingError(outcome, f"{self.path}: {error}{hint}") from error
        if found.depth is None:
            unfit = ", ".join(unfit_depths(bag, found.color))
            raise ProcessingError(
                Outcome.NO_DEPTH,
                f"{self.path}: no raw depth found for {found.color}: expected a 16UC1 or 32FC1 "
                "image, raw or compressedDepth, registered to colour; "
                + (f"found {unfit}, which is none; record one too, or " if unfit else "")
                + "; ".join(["name it (--depth-topic)", *self.notes]),
            )
        rivals = [] if "color" in options.topics else rival_cameras(bag, found.color)
        if rivals:
            raise ProcessingError(
                Outcome.SEVERAL_CAMERAS,
                f"{self.path}: several cameras have colour, depth and camera_info: "
                f"{', '.join([found.color, *rivals])}; choose one (--color-topic)",
            )
        return found, apart

    def _registration(self, bag: BagReader, apart: str) -> Callable[[Any], RegisteredImage]:
        """What registers a message of depth to colour."""
        info, color = self.given, self._first(bag, self.topics.color)
        if info is None:
            info = self._first(bag, self.topics.camera_info)
        if info is None or color is None:
            raise ProcessingError(Outcome.NOTHING_USABLE, f"{self.path}: {apart}, nor readable")
        try:
            rectified = self._options.rectified and self.given is None
            found = depth_camera(bag, self.topics, info, rectified)
        except DktError as error:
            text = "; ".join([f"{self.path}: {error}", *self.notes])
            raise ProcessingError(Outcome.NO_DEPTH, text) from error
        own = "" if self._from_sdk else ". If it is registered already, name it (--depth-topic)"
        self.notes.append(f"{apart}: it is registered here, by {found.told_by}{own}")
        return partial(
            RegisteredImage,
            registration=found.registration,
            unit_m=depth_unit(
                self._options.depth_unit_m, found.unit_m, self._options.override_unit
            ),
            frame_id=color.header.frame_id,
        )

    def _given_camera(self, bag: BagReader) -> Any:
        """The calibration that options give, as a camera_info message; None: the bag's holds.

        That of RealSense's SDK, too, where it is no message.
        """
        if not self._options.has_camera:
            return None if self.topics.camera_info else self._sdk_camera(bag)
        message = self._first(bag, self.topics.color)
        if message is None:
            raise ProcessingError(
                Outcome.NOTHING_USABLE, f"{self.path}: {self.topics.color} cannot be read"
            )
        try:
            height, width = rgb_of(message).shape[:2]
        except DktError as error:
            raise ProcessingError(Outcome.NOTHING_USABLE, f"{self.path}: {error}") from error
        try:
            camera = self.camera_given(self._options, width, height)
        except DktError as error:
            raise ProcessingError(Outcome.NO_CAMERA_INFO, f"{self.path}: {error}") from error
        encoder = MessageEncoder(types_of(), message.header.frame_id)
        return encoder.camera_info(camera, stamp_to_ns(message.header.stamp))

    def _sdk_camera(self, bag: BagReader) -> Any:
        try:
            lens = realsense_sdk.lens(bag, self.topics.color)
        except DktError as error:
            raise ProcessingError(
                Outcome.NO_CAMERA_INFO, f"{self.path}: {error}; {GIVE_CAMERA}"
            ) from error
        info: Any = MessageEncoder(types_of(), FRAME_ID).camera_info(lens.camera, 1)
        info.distortion_model, info.d = lens.model, np.array(lens.coefficients, np.float64)
        return info

    def _passed_topics(self, bag: BagReader) -> tuple[str, ...]:
        own = {self.topics.camera_info, self.topics.color, self.topics.depth}
        passed, unknown = [], []
        for topic in bag.topics.values():
            if topic.name in own or topic.name.startswith("/dkt/") or topic.problem:
                continue
            if topic.msgtype in types_of().fielddefs or types_in(topic.definition, topic.msgtype):
                passed.append(topic.name)
            else:
                unknown.append(f"{topic.name} ({topic.msgtype})")
        if unknown:
            self.drop("topic of unknown type not passed on", ", ".join(unknown), len(unknown))
        # The camera's own topics too: what is asked for is all of the bag.
        return (*sorted(name for name in own if name), *passed)

    def items(self) -> Iterator[Pending | PassedMessage]:
        """See Source."""
        reading = _Reading(self)
        self._stamps = reading.intake.synchronizer
        topics = self.topics
        labels = {name for name in (topics.truth, topics.mask) if name}
        wanted = {name for name in topics.camera() if name} | labels | set(self.passed)
        if self.given is not None:
            wanted.discard(topics.camera_info)
        with self._opened() as bag:
            wanted = {name for name in wanted if not bag.topics[name].problem}
            if self.given is None:
                first = self._first(bag, topics.camera_info)
                if first is not None:
                    reading.intake.on_camera_info(first)
            else:
                reading.intake.on_camera_info(self.given)
            before = set(self.remarks)
            for message in bag.messages(wanted):
                if message.topic in self.passed:
                    # A recorder's clock may wrap; a bag's may not be below 0.
                    time_ns = max(message.time_ns, 0)
                    topic = bag.topics[message.topic]
                    yield PassedMessage(
                        topic.name,
                        topic.msgtype,
                        time_ns,
                        message.cdr,
                        topic.kept,
                        topic.definition,
                    )
                yield from reading.take(message)
            yield from reading.rest()
            late, silent = reading.silences()
            late += filter(None, [told_apart(reading.intake.synchronizer.apart_s)])
            self.notes += [text for text in late if text not in self.notes]
            # The bag is whole for all that, which is not said of one with remarks.
            self._silent = silent if reading.paired else []
            apart = [] if reading.paired else self._too_far_apart(reading.intake.synchronizer)
            self.remarks += [text for text in (*bag.remarks, *apart) if text not in before]

    def _too_far_apart(self, stamps: Synchronizer[Any, Any]) -> list[str]:
        """What is said where no two stamps match."""
        if stamps.offset_s is None:  # one of the streams has no message
            return []
        distance_s = abs(stamps.offset_s) if stamps.missed_s is None else stamps.missed_s
        period_s = self.duration_s / max(self.total, 1)
        advice = f"take --sync-slop {wide_enough(distance_s):g} if they are of one moment"
        if distance_s > max(period_s, 0.1):
            advice = "were they stamped by two clocks, or recorded one after the other?"
        return [
            "no two stamps of colour and depth match: the nearest are "
            f"{distance_s:.3f} s apart, --sync-slop is {self._options.sync_slop_s:g}; {advice}"
        ]

    def _first(self, bag: BagReader, topic: str) -> Any:
        """The topic's first message that is one; None where there is none."""
        for message in bag.messages([topic]):
            with suppress(DktError):
                return self._decoded(message)
        return None

    def _decoded(self, message: RecordedMessage) -> Any:
        value = decoded(message)
        if self._from_sdk and message.topic in self.topics.camera():
            return realsense_sdk.as_ros_has_it(value)
        return value

    def registered(self, depth: Any) -> Any:
        """A message of depth, registered to colour if it is not."""
        return depth if self._registered is None else self._registered(depth)

    @property
    def has_truth(self) -> bool:
        """See Source."""
        return self.topics.truth is not None

    @property
    def lost(self) -> list[str]:
        """See Source; streams of different rates are no loss."""
        jumps = self.flushed[FlushReason.STAMP_BACKWARDS.value]
        harmless = _HARMLESS
        if self._stamps is not None and not self._stamps.came_late:  # the other stream stood still
            harmless = {*_HARMLESS, DropCause.QUEUE_FULL.value}
        lines = [*self.remarks, *self._silent]
        lines += [
            f"stamps ran backwards {counted(jumps, 'time')}; the stream began anew there"
        ] * bool(jumps)
        reasons = _ADVICE | self.reasons
        lines += [
            f"{n} x {why}" + (f": {reasons[why]}" if why in reasons else "")
            for why, n in sorted(self.dropped.items())
            if why not in harmless
        ]
        return lines


def _is_part(path: Path) -> bool:
    """Whether it is one of several files of a bag, of which the first has what is latched."""
    if not path.is_file() or not (path.parent / "metadata.yaml").is_file():
        return False
    return sum(STORAGE_NAME.search(file.name) is not None for file in shown(path.parent)) > 1


@dataclass(frozen=True, eq=False)
class _Filed:
    observation: Observation
    read_ns: int


class _Reading:
    """One pass over a bag: messages in, pending frames out."""

    def __init__(self, source: BagSource) -> None:
        self._source = source
        self._topics = source.topics
        self._filed: deque[_Filed] = deque()
        self._labels: dict[tuple[str, int], RecordedMessage] = {}
        self._now_ns = 0
        self._stamps_ns: dict[str, list[int]] = {"color": [], "depth": []}
        self._leads = False  # of 16 bits those are shown that pictures so far have needed
        self.paired = False
        self.intake = Intake(
            source._options,
            self,
            self._file,
            self._report,
            queue_size=_QUEUE,
            how_to_set=as_option,
        )

    def seen(self, stream: str) -> None:
        """Nobody asks how many."""

    def dropped(self, cause: str, number: int = 1) -> None:
        """See Source.dropped."""
        self._source.dropped[cause] += number

    def flushed(self, reason: str) -> None:
        """See Source.flushed."""
        self._source.flushed[reason] += 1

    def _file(self, observation: Observation) -> None:
        self.paired = True
        self._filed.append(_Filed(observation, self._now_ns))

    def _report(self, cause: str, text: str) -> None:
        self.paired = True  # only pairs are looked at
        text = text.removeprefix("frame dropped: ")
        self._source.reasons.setdefault(cause, text)
        if cause not in self._source.dropped and text not in self._source.notes:
            self._source.notes.append(text)

    def take(self, message: RecordedMessage) -> Iterator[Pending]:
        """The next message of the camera or of its truth."""
        topics, self._now_ns = self._topics, message.time_ns
        if message.topic in (topics.truth, topics.mask, *topics.camera()):
            value = self._read(message)
            if value is not None:
                self._hand_on(message, value)
        while self._filed and self._is_complete(self._filed[0]):
            yield self._pending(self._filed.popleft().observation)

    def _is_complete(self, filed: _Filed) -> bool:
        """Whether its truth and mask are there, where any are, or are waited for no longer."""
        names = filter(None, (self._topics.truth, self._topics.mask))
        if all((name, filed.observation.stamp_ns) in self._labels for name in names):
            return True
        return abs(self._now_ns - filed.read_ns) > _LABEL_PATIENCE_NS  # a clock may be set back

    def _hand_on(self, message: RecordedMessage, value: Any) -> None:
        topics = self._topics
        if message.topic in (topics.truth, topics.mask):
            self._labels[message.topic, stamp_to_ns(value.header.stamp)] = message
        elif message.topic == topics.color:
            self._stamps_ns["color"].append(stamp_to_ns(value.header.stamp))
            self._leads = self._leads or is_deep(value)
            self.intake.on_color(value)
        elif message.topic == topics.depth:
            self._stamps_ns["depth"].append(stamp_to_ns(value.header.stamp))
            self.intake.on_depth(self._source.registered(value))
        elif self._source.given is None:
            self.intake.on_camera_info(value)

    def silences(self) -> tuple[list[str], list[str]]:
        """Of colour and depth: which begins later, and which is silent after that."""
        late, silent = [], []
        names = {"color": f"colour {self._topics.color}", "depth": f"depth {self._topics.depth}"}
        for role, other in (("color", "depth"), ("depth", "color")):
            found = silences(self._stamps_ns[role], self._stamps_ns[other])
            late += [
                f"{names[role]} begins {one.end_s:.1f} s after {names[other]}"
                for one in found
                if one.is_first
            ]
            if later := [one for one in found if not one.is_first]:
                silent.append(told(names[role], names[other], later))
        return late, silent

    def rest(self) -> Iterator[Pending]:
        """What waits for its calibration or truth."""
        self.intake.finish()
        while self._filed:
            yield self._pending(self._filed.popleft().observation)

    def _read(self, message: RecordedMessage) -> Any:
        """The message; None where its bytes are none."""
        try:
            return self._source._decoded(message)
        except DktError as error:
            text = f"{counted(len(message.cdr), 'byte')}, no {message.msgtype} ({error.__cause__})"
            self._source.drop(f"damaged message on {message.topic}", text)
            return None

    def _pending(self, observation: Observation) -> Pending:
        stamp = observation.stamp_ns
        labels = {
            role: self._labels.pop((name, stamp), None)
            for role, name in (("truth", self._topics.truth), ("mask", self._topics.mask))
            if name
        }
        # Those of frames that were never made.
        for key in [key for key in self._labels if key[1] < stamp]:
            del self._labels[key]
        return Pending(partial(self._decode, observation, labels), observation.epoch, self._leads)

    def _decode(
        self, observation: Observation, labels: dict[str, RecordedMessage | None]
    ) -> LabelledFrame:
        frame = observation.decode()
        truth, mask = labels.get("truth"), labels.get("mask")
        size = frame.rgb.shape[:2]
        return labelled(
            frame,
            None if truth is None else partial(self._truth, truth, size),
            None if mask is None else partial(self._mask, mask, size),
            f"stamp {frame.stamp_ns * 1e-9:.3f}",
            observation.camera_info,
        )

    def _truth(self, message: RecordedMessage, size: tuple[int, ...]) -> NDArray[np.float32] | None:
        depth = depth_of(self._source._decoded(message), self._source._options.depth_unit_m)
        return depth if self._fits(message, depth, size) else None

    def _mask(self, message: RecordedMessage, size: tuple[int, ...]) -> NDArray[np.uint8] | None:
        image = self._source._decoded(message)
        if hasattr(image, "format") and bytes(image.data[: len(JPEG)]) == JPEG:
            raise DktError(f"{message.topic}: {INEXACT}, or record them raw")
        labels = rgb_of(image)
        if (labels != labels[..., :1]).any():
            raise DktError(f"{message.topic}: has colours, expected labels in one channel (mono8)")
        grey = labels[..., 0]
        return material_classes(grey) if self._fits(message, grey, size) else None

    def _fits(self, message: RecordedMessage, picture: NDArray[Any], size: tuple[int, ...]) -> bool:
        """Whether a label has colour's size; told once where it has not."""
        found, expected = (f"{width}x{height}" for height, width in (picture.shape[:2], size))
        note = f"{message.topic} is {found}, expected {expected} as colour: it is not looked at"
        if found != expected and note not in self._source.notes:
            self._source.notes.append(note)
        return found == expected
