"""The faults that are played: each a way of making frames, and what the node has to do."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np
import rclpy
from rclpy.context import Context
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CompressedImage, Image

from benchmarks.faults.cell import (
    BEST_EFFORT,
    FRAMES,
    HEIGHT,
    HZ,
    RAW,
    SECOND,
    WIDTH,
    Cell,
    K,
    Messages,
    calibration,
    foreign,
    image,
    stamped,
    turn,
)

Make = Callable[[Cell], Callable[[int, int], Messages]]


@dataclass(frozen=True)
class Situation:
    """One fault.

    must      what the node has to do, for the table
    make      how the frames are made
    told      pattern that a status of level WARN or ERROR must match; "": nothing is expected
    works     whether right depth must go on coming
    blind     nobody can tell it from one camera alone: the table says what to do instead
    around    entered for the fault's time: more publishers, processes
    """

    name: str
    must: str
    make: Make
    told: str = ""
    works: bool = False
    blind: str = ""
    around: Callable[[Cell], Any] | None = None


def named(frame_id: str) -> Callable[[Any, int], object]:
    """A change that gives the message that frame_id."""

    def change(message: Any, number: int) -> None:
        message.header.frame_id = frame_id

    return change


def changed(which: str, change: Callable[[Any, int], object]) -> Make:
    """The recording with one of its messages changed."""

    def of(cell: Cell) -> Callable[[int, int], Messages]:
        def make(number: int, stamp_ns: int) -> Messages:
            messages = cell.healthy(number, stamp_ns)
            for name, message in messages:
                if name == which:
                    change(message, number)
            return messages

        return make

    return of


def fields(which: str, **values: Any) -> Make:
    """The recording with fields of one of its messages overwritten."""

    def change(message: Any, number: int) -> None:
        for name, value in values.items():
            setattr(message, name, value)

    return changed(which, change)


def without(*names: str) -> Make:
    """Without some messages."""
    return lambda cell: (
        lambda number, stamp_ns: [
            pair for pair in cell.healthy(number, stamp_ns) if pair[0] not in names
        ]
    )


def stamps(
    color: Callable[[int, int], int], depth: Callable[[int, int], int] | None = None
) -> Make:
    """The recording with other stamps; each gets the number and the right stamp."""

    def of(cell: Cell) -> Callable[[int, int], Messages]:
        first = cell.number

        def make(number: int, stamp_ns: int) -> Messages:
            messages = cell.healthy(number, stamp_ns)
            mine = color(number - first, stamp_ns)
            shown = cell.sent[stamp_ns].pop()
            if not cell.sent[stamp_ns]:
                del cell.sent[stamp_ns]
            cell.sent.setdefault(mine, []).append(shown)
            for name, message in messages:
                when = depth(number - first, stamp_ns) if depth and name == "depth" else mine
                stamped(message, when)
            return messages

        return make

    return of


def looped(frames: int) -> Make:
    """The recording's first frames again and again, under the same stamps."""

    def of(cell: Cell) -> Callable[[int, int], Messages]:
        first = cell.number

        def make(number: int, stamp_ns: int) -> Messages:
            index = (number - first) % frames
            return cell.healthy(index, 1_700_000_000 * SECOND + round(index * SECOND / HZ))

        return make

    return of


def pictures(
    rgb: Callable[[int], np.ndarray] | None = None,
    depth: Callable[[int], np.ndarray] | None = None,
    truth: bool = True,
) -> Make:
    """Other pictures by number; uint16 depth is 16UC1, float32 is 32FC1.

    truth: whether the recording's truth still holds where depth is called OK.
    """

    def of(cell: Cell) -> Callable[[int, int], Messages]:
        def make(number: int, stamp_ns: int) -> Messages:
            index = turn(number)
            color = FRAMES[index].rgb if rgb is None else rgb(number)
            raw = RAW[index] if depth is None else depth(number)
            cell.note(stamp_ns, index if truth else None, color)
            encoding = "16UC1" if raw.dtype == np.uint16 else "32FC1"
            return [
                ("info", calibration(stamp_ns)),
                ("color", image(color, "rgb8", stamp_ns)),
                ("depth", image(raw, encoding, stamp_ns)),
            ]

        return make

    return of


def resized(every: Callable[[int], bool]) -> Make:
    """320x180 where `every` says so."""

    def of(cell: Cell) -> Callable[[int, int], Messages]:
        def make(number: int, stamp_ns: int) -> Messages:
            if not every(number):
                return cell.healthy(number, stamp_ns)
            index = turn(number)
            rgb = cv2.resize(FRAMES[index].rgb, (320, 180))
            raw = cv2.resize(RAW[index], (320, 180), interpolation=cv2.INTER_NEAREST)
            cell.note(stamp_ns, None, rgb)
            return [
                ("info", calibration(stamp_ns, 320, 180)),
                ("color", image(rgb, "rgb8", stamp_ns)),
                ("depth", image(raw, "16UC1", stamp_ns)),
            ]

        return make

    return of


def repeated(times: int) -> Make:
    """Every message so many times."""
    return lambda cell: lambda number, stamp_ns: cell.healthy(number, stamp_ns) * times


def at_once(frames: int) -> Make:
    """So many frames together, as a link lets them through that has stood still."""

    def of(cell: Cell) -> Callable[[int, int], Messages]:
        waiting: Messages = []

        def make(number: int, stamp_ns: int) -> Messages:
            waiting.extend(cell.healthy(number, stamp_ns))
            if len(waiting) < 3 * frames:
                return []
            sent, waiting[:] = list(waiting), []
            return sent

        return make

    return of


def pausing(cell: Cell) -> Callable[[int, int], Messages]:
    """A camera of which nothing comes for a moment, again and again."""
    return lambda number, stamp_ns: cell.healthy(number, stamp_ns) if number % 18 < 11 else []


def lossy(share: float) -> Make:
    """Without a share of the messages."""
    chance = np.random.default_rng(5)
    return lambda cell: (
        lambda number, stamp_ns: [
            pair for pair in cell.healthy(number, stamp_ns) if chance.random() > share
        ]
    )


@contextmanager
def node_apart(name: str) -> Iterator[Node]:
    """A node of a DDS participant of its own."""
    context = Context()
    rclpy.init(context=context)
    node = Node(name, context=context)
    try:
        yield node
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)


@contextmanager
def other_node(cell: Cell, name: str, *topics: tuple[type, str]) -> Iterator[None]:
    """Another node, which publishes nothing yet has publishers, and a second camera's pictures."""
    stop = threading.Event()
    rgb, raw = foreign()

    def send(publishers: list[Any]) -> None:
        while not stop.wait(1.0 / HZ):
            stamp_ns = time.time_ns()
            cell.note(stamp_ns, None, rgb)
            for publisher in publishers:
                if publisher.topic_name == "/color/image":
                    publisher.publish(image(rgb, "rgb8", stamp_ns))
                elif publisher.topic_name == "/depth/image":
                    publisher.publish(image(raw, "16UC1", stamp_ns))

    with node_apart(name) as node:
        publishers = [node.create_publisher(kind, topic, BEST_EFFORT) for kind, topic in topics]
        thread = threading.Thread(target=send, args=(publishers,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


@contextmanager
def other_type(cell: Cell) -> Iterator[None]:
    """Depth's topic with compressed images; of a participant that knows no other type of it."""
    cell.node.destroy_publisher(cell.publishers.pop("depth"))
    try:
        with node_apart("compressing_camera") as node:
            depth = node.create_publisher(CompressedImage, "depth/image", BEST_EFFORT)
            cell.publishers["depth"] = depth
            yield
    finally:
        cell.publishers.pop("depth", None)
        cell.open()


@contextmanager
def late_subscriber(cell: Cell) -> Iterator[None]:
    """A subscriber that asks for depth from before it came."""
    qos = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    subscription = cell.node.create_subscription(Image, "dkt/depth", lambda message: None, qos)
    try:
        yield
    finally:
        cell.node.destroy_subscription(subscription)


READER = """
import sys, time
import rclpy
from sensor_msgs.msg import Image, PointCloud2
rclpy.init()
node = rclpy.create_node("reader")
def take(message):
    if sys.argv[2] == "callback":
        time.sleep(3600.0)
node.create_subscription({"depth": Image, "points": PointCloud2}[sys.argv[1]],
                         "dkt/" + sys.argv[1], take, 5)
rclpy.spin(node)
"""


@contextmanager
def hung_reader(cell: Cell, name: str, what: str) -> Iterator[None]:
    """Who asked for dkt/NAME and reads nothing: the "process" stands still, or the "callback"."""
    reader = subprocess.Popen([sys.executable, "-c", READER, name, what])
    try:
        time.sleep(5.0)
        if what == "process":
            reader.send_signal(signal.SIGSTOP)
        yield
    finally:
        reader.kill()
        reader.wait()


def no_depth(cell: Cell) -> Callable[[int, int], Messages]:
    """For a camera whose depth goes out as another type."""

    def make(number: int, stamp_ns: int) -> Messages:
        messages = cell.healthy(number, stamp_ns)
        return [
            (name, stamped(CompressedImage(format="png"), stamp_ns) if name == "depth" else message)
            for name, message in messages
        ]

    return make


def shifted(raw: np.ndarray, x: int = 0, y: int = 0) -> np.ndarray:
    """Moved, 0 where nothing is."""
    matrix = np.array([[1.0, 0.0, x], [0.0, 1.0, y]])
    moved = cv2.warpAffine(raw, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_NEAREST)
    return np.asarray(moved, np.uint16)


def zoomed(raw: np.ndarray, factor: float) -> np.ndarray:
    """Seen with another field of view."""
    matrix = cv2.getRotationMatrix2D((WIDTH / 2, HEIGHT / 2), 0.0, factor)
    return np.asarray(
        cv2.warpAffine(raw, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_NEAREST), np.uint16
    )


def raw_of(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[int], np.ndarray]:
    """Raw depth changed the same way on every frame."""
    return lambda number: change(RAW[turn(number)])


def metres(raw: np.ndarray) -> np.ndarray:
    """32FC1, NaN unknown."""
    return np.where(raw > 0, raw / 1000.0, np.nan).astype(np.float32)


def along_rays(raw: np.ndarray) -> np.ndarray:
    """Distances from the camera's centre."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    longer = np.hypot(1, np.hypot((columns - K[2]) / K[0], (rows - K[5]) / K[4]))
    return np.asarray((raw * longer).round(), np.uint16)


def disparity(raw: np.ndarray) -> np.ndarray:
    """In steps that are as many as the millimetres of what is in the middle."""
    steps = np.median(raw[raw > 0]).astype(np.float64) ** 2 / np.where(raw > 0, raw, np.inf)
    return np.asarray(steps.round(), np.uint16)


def infrared(number: int) -> np.ndarray:
    """What a second camera beside the colour's sees."""
    grey = cv2.cvtColor(FRAMES[turn(number)].rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return np.asarray(np.roll(np.power(grey / 255, 1.5) * 900 + 60, 10, axis=1), np.uint16)


def by_turns(number: int) -> np.ndarray:
    """As a driver that registers two images of three."""
    raw = RAW[turn(number)]
    return shifted(zoomed(raw, 1.25), 6) if number % 3 == 0 else raw


def stretched(raw: np.ndarray) -> np.ndarray:
    """As for looking at: from the nearest to the farthest, in 8 bits."""
    low, high = raw[raw > 0].min(), raw.max()
    return np.where(raw > 0, (raw - low) / (high - low) * 255.0, 0).astype(np.uint16)


def stretched_to_16_bits(raw: np.ndarray) -> np.ndarray:
    """The same in 16 bits."""
    low, high = raw[raw > 0].min(), raw.max()
    return np.where(raw > 0, (raw - low) / (high - low) * 65535.0, 0).astype(np.uint16)


def with_grid(raw: np.ndarray) -> np.ndarray:
    """As registered to a picture of more pixels: rows and columns that no reading fell on."""
    raw = raw.copy()
    raw[::3] = raw[:, ::3] = 0
    return raw


def depth_buffer(number: int) -> np.ndarray:
    """What a renderer between 0.1 and 5 m has of the true depth, which it has without noise."""
    truth = FRAMES[turn(number)].truth
    assert truth is not None
    return np.nan_to_num(5.0 / 4.9 * (1.0 - 0.1 / truth)).astype(np.float32)


def half_frozen(number: int) -> np.ndarray:
    """Colour whose lower half stays what it was at first."""
    rgb = FRAMES[turn(number)].rgb.copy()
    rgb[HEIGHT // 2 :] = FRAMES[0].rgb[HEIGHT // 2 :]
    return rgb


def late_at_times(cell: Cell) -> Callable[[int, int], Messages]:
    """Stamped when they were read, which is late at times; colour and depth alike."""
    return stamps(lambda i, ns: ns + 130_000_000 * (i % 5 == 0))(cell)


def with_a_clock(number: int) -> np.ndarray:
    """Colour with a bar below it, as of a camera that draws its name and the time."""
    rgb = FRAMES[turn(number)].rgb.copy()
    rgb[-20:] = 30, 60, 90
    text = f"CAM 1 10:{number // 360 % 60:02d}:{number // 6 % 60:02d}"
    cv2.putText(rgb, text, (4, HEIGHT - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255))
    return rgb


def registered_to_depth(number: int) -> np.ndarray:
    """Colour, black where depth has no reading."""
    index = turn(number)
    return np.where(RAW[index][..., None] > 0, FRAMES[index].rgb, 0).astype(np.uint8)


def cut_before_decoding(number: int) -> np.ndarray:
    """As a driver decodes a JPEG of which the end is missing."""
    rgb = FRAMES[turn(number)].rgb.copy()
    rgb[2 * HEIGHT // 3 :] = 128
    return rgb


def in_12_bits(message: Any, number: int) -> None:
    """rgb16 of a camera that measures 12 bits."""
    wide = np.frombuffer(message.data, np.uint8).astype(np.uint16) << 4
    message.encoding, message.step = "rgb16", 2 * message.step
    message.data = array("B", wide.tobytes())


def filled(raw: np.ndarray) -> np.ndarray:
    """Holes filled with the last reading before them in their row."""
    last = np.maximum.accumulate(np.where(raw > 0, np.arange(WIDTH), 0), axis=1)
    return np.take_along_axis(raw, last, axis=1)


def swapped(message: Any, number: int) -> None:
    """Big-endian bytes."""
    message.data = array("B", np.frombuffer(message.data, np.uint16).byteswap().tobytes())


def big_endian(message: Any, number: int) -> None:
    """As it should be."""
    swapped(message, number)
    message.is_bigendian = 1


def cut(length: int, every: int = 1) -> Callable[[Any, int], None]:
    """Bytes lost at the end."""

    def change(message: Any, number: int) -> None:
        if number % every == 0:
            message.data = message.data[:length]

    return change


def flat(value: int) -> Callable[[int], np.ndarray]:
    """One depth everywhere."""
    return lambda number: np.full((HEIGHT, WIDTH), value, np.uint16)


def situations() -> list[Situation]:
    """All that one node's life can hold; see `other_lives` for the rest."""
    chance = np.random.default_rng(7)
    other_rgb, other_raw = foreign()
    drop = "nothing; say what is wrong with the message"
    go_on = "right depth, all the time"
    refuse = "not OK; say that colour and depth do not belong together"
    unit = "not OK; say that the unit looks wrong"
    return [
        Situation("healthy", go_on, lambda cell: cell.healthy, works=True),
        # Streams.
        Situation(
            "a bag of 15 frames looped",
            "right depth",
            looped(15),
            works=True,
        ),
        Situation(
            "a bag of 6 frames looped",
            "right depth; say that the stream begins anew all the time",
            looped(6),
            "began anew .* ran backwards",
            works=True,
        ),
        Situation(
            "clock jumps an hour ahead",
            "right depth",
            stamps(lambda i, ns: ns + 3600 * SECOND * (i > 15)),
            "36[0-9][0-9] s after the node's clock",
            works=True,
        ),
        Situation(
            "clock jumps an hour back",
            "right depth",
            stamps(lambda i, ns: ns - 3600 * SECOND * (i > 15)),
            "36[0-9][0-9] s before the node's clock",
            works=True,
        ),
        Situation(
            "camera stops", "say so", lambda cell: lambda number, ns: [], "no message on .*color"
        ),
        Situation(
            "image size changes", "depth of the new size", resized(lambda number: True), works=False
        ),
        Situation(
            "image size alternates",
            "depth of each; say that the stream begins anew all the time",
            resized(lambda number: number % 2 == 0),
            "images of several sizes|come by turns",
        ),
        Situation("depth missing", "say so", without("depth"), "no message on /depth/image"),
        Situation("colour missing", "say so", without("color"), "no message on /color/image"),
        Situation(
            "camera_info stops",
            "right depth with the last calibration",
            without("info"),
            works=True,
        ),
        Situation(
            "depth stamped 33 ms late",
            "nothing; say how far apart, and which parameter",
            stamps(lambda i, ns: ns, lambda i, ns: ns + 33_000_000),
            "0.033 s apart.*raise sync_slop_s to 0.04",
        ),
        Situation(
            "depth stamped 18 ms late",
            "right depth; say so",
            stamps(lambda i, ns: ns, lambda i, ns: ns + 18_000_000),
            "depth is stamped 18 ms after the colour",
            works=True,
        ),
        Situation(
            "depth stamps jitter by 15 ms",
            "right depth of the pairs within the slop; say what is lost",
            stamps(lambda i, ns: ns, lambda i, ns: ns + int(chance.normal(0, 15e6))),
            "frames of the last .* were lost",
        ),
        Situation(
            "20% of messages lost",
            "right depth; say that messages are lost",
            lossy(0.2),
            "do not arrive|were lost",
        ),
        Situation(
            "stamped by arrival, every fifth late",
            go_on,
            late_at_times,
            works=True,
        ),
        Situation(
            "every depth image twice, under the next stamp too",
            "depth; say so",
            pictures(None, lambda number: RAW[turn(number - number % 2)], truth=False),
            "depth images are the one before to the bit",
            works=True,
        ),
        Situation(
            "every message twice",
            "right depth; say so",
            repeated(2),
            "had the stamp of the one before",
            works=True,
        ),
        Situation(
            "messages in reversed pairs",
            "no depth out of order",
            stamps(lambda i, ns: ns + (1 if i % 2 == 0 else -1) * 166_666_667),
        ),
        Situation(
            "one stamp for ever",
            "say that stamps stand still",
            stamps(lambda i, ns: 1_700_000_000 * SECOND),
            "stamps stand still",
        ),
        Situation(
            "stamp 0", "say that images have no stamp", stamps(lambda i, ns: 0), "stamped 0 or less"
        ),
        Situation(
            "stamps 5 s ahead",
            "right depth; say so",
            stamps(lambda i, ns: ns + 5 * SECOND),
            "after the node's clock",
            works=True,
        ),
        Situation(
            "stamps 5 s old",
            "right depth; say so",
            stamps(lambda i, ns: ns - 5 * SECOND),
            "before the node's clock",
            works=True,
        ),
        Situation("nine images at once", go_on, at_once(9), works=True),
        Situation(
            "the camera pauses for a second again and again",
            "right depth; say so",
            pausing,
            "neither color nor depth came for up to 1",
            works=True,
        ),
        Situation(
            "stamps of whole seconds",
            "right depth; say so",
            stamps(lambda i, ns: ns // SECOND * SECOND),
            "or one by whole seconds",
            works=True,
        ),
        # Messages.
        Situation("colour cut short", drop, changed("color", cut(1000)), "holds 1000 bytes"),
        Situation("colour without bytes", drop, changed("color", cut(0)), "holds 0 bytes"),
        Situation(
            "every second depth cut short",
            "right depth of the others; say so",
            changed("depth", cut(100, 2)),
            "holds 100 bytes",
            works=True,
        ),
        Situation("colour's step too small", drop, fields("color", step=240), "has step 240"),
        Situation("colour's step 0", drop, fields("color", step=0), "has step 0"),
        Situation("encoding 8UC3", drop, fields("color", encoding="8UC3"), "encoding '8UC3'"),
        Situation("no encoding", drop, fields("color", encoding=""), "encoding ''"),
        Situation(
            "depth says rgb8", drop, fields("depth", encoding="rgb8"), "mapped to a colour topic"
        ),
        Situation("depth says 16SC1", drop, fields("depth", encoding="16SC1"), "'16SC1'"),
        Situation("16UC1 says 32FC1", drop, fields("depth", encoding="32FC1"), "has step 480"),
        Situation("width lies", drop, fields("color", width=480), "has step 720"),
        Situation("height lies", drop, fields("color", height=288), "expected 207360"),
        Situation(
            "size of 2^31",
            drop,
            fields("color", width=2**31, height=2**31, step=2**32 - 1),
            "2147483648",
        ),
        Situation("big-endian depth", go_on, changed("depth", big_endian), works=True),
        Situation(
            "depth lies about its byte order",
            unit,
            fields("depth", is_bigendian=1),
            "right unit|raw readings lie outside|raw depth",
        ),
        # Calibration.
        Situation("K of zeros", drop, fields("info", k=[0.0] * 9, p=[0.0] * 12), "K.0.=0"),
        Situation("K of NaN", drop, fields("info", k=[float("nan")] * 9), "fx=nan"),
        Situation(
            "focal length ten times too long",
            "depth; say that no camera is like that",
            fields("info", k=[2565.0, 0.0, 119.5, 0.0, 2565.0, 71.5, 0.0, 0.0, 1.0]),
            "expected focal lengths",
            works=True,
        ),
        Situation(
            "focal length 20% wrong",
            "depth (points lie wrong by 20% sideways)",
            fields("info", k=[308.0, 0.0, 119.5, 0.0, 308.0, 71.5, 0.0, 0.0, 1.0]),
            works=True,
            blind="hold a ruler into the picture and compare `dkt/points`",
        ),
        Situation(
            "centre outside of the image",
            "depth; say that no camera is like that",
            fields("info", k=[256.5, 0.0, 1000.0, 0.0, 256.5, 71.5, 0.0, 0.0, 1.0]),
            "centre inside the image",
            works=True,
        ),
        Situation(
            "K changes with every frame",
            "right depth; say so",
            changed("info", lambda m, i: setattr(m, "k", [K[0] * (1.0 + 0.02 * (i % 2)), *K[1:]])),
            "camera_info differs",
        ),
        Situation(
            "distortion",
            "right depth; say so",
            fields("info", distortion_model="plumb_bob", d=[0.1, -0.2, 0.0, 0.0, 0.05]),
            "plumb_bob distortion",
            works=True,
        ),
        Situation(
            "camera_info of another size",
            drop,
            fields("info", width=1280, height=720),
            "camera_info is for 1280x720",
        ),
        Situation(
            "camera_info without a size", drop, fields("info", width=0, height=0), "0x0 pixels"
        ),
        *(
            Situation(
                name,
                "right depth; say so",
                changed(which, named(said)),
                told,
                works=True,
            )
            for name, which, said, told in (
                ("colour without frame_id", "color", "", "has no frame_id"),
                (
                    "depth in another frame",
                    "depth",
                    "camera_depth_optical_frame",
                    "registered to colour",
                ),
                ("camera_info in another frame", "info", "other", "calibration of the same camera"),
            )
        ),
        Situation(
            "P of NaN, K is right",
            "right depth; say so",
            fields("info", p=[float("nan")] * 12),
            r"P\[0\]=nan",
            works=True,
        ),
        # Pictures.
        Situation(
            "black (lens cap)",
            "the sensor's depth alone; say so",
            pictures(lambda i: np.zeros((HEIGHT, WIDTH, 3), np.uint8)),
            "is black.*lens cap",
        ),
        Situation(
            "one grey",
            "the sensor's depth alone; say so",
            pictures(lambda i: np.full((HEIGHT, WIDTH, 3), 128, np.uint8)),
            "of one grey",
        ),
        Situation(
            "noise",
            "the sensor's depth alone; say so",
            pictures(lambda i: chance.integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8)),
            "is noise",
        ),
        Situation(
            "dark to 5%",
            "the sensor's depth alone; say so",
            pictures(lambda i: (FRAMES[turn(i)].rgb * 0.05).astype(np.uint8)),
            "colour image is",
        ),
        Situation(
            "overexposed",
            "the sensor's depth alone; say so",
            pictures(lambda i: np.full((HEIGHT, WIDTH, 3), 255, np.uint8)),
            "is white|saturated",
        ),
        Situation(
            "colour frozen, camera moves",
            "not OK; say so",
            pictures(lambda i: FRAMES[0].rgb, truth=False),
            "colour is frozen",
        ),
        Situation(
            "the colour's lower half frozen, camera moves",
            "not OK; say so",
            pictures(half_frozen, truth=False),
            "the colour image's rows",
        ),
        Situation(
            "depth frozen, camera moves",
            "not OK; say so",
            pictures(None, lambda i: RAW[0], truth=False),
            "depth is frozen",
        ),
        Situation(
            "depth of another scene",
            refuse,
            pictures(None, lambda i: other_raw, truth=False),
            "one scene|depth is frozen|registered",
        ),
        Situation(
            "colour of another scene",
            refuse,
            pictures(lambda i: other_rgb, None, truth=False),
            "one scene|colour is frozen|registered",
        ),
        *(
            Situation(
                f"depth {name}",
                refuse,
                pictures(None, raw_of(change), truth=False),
                "against the colour|one scene",
            )
            for name, change in (
                ("20 of 144 px too low", lambda raw: shifted(raw, y=20)),
                ("20 of 144 px too high", lambda raw: shifted(raw, y=-20)),
                ("20 of 240 px to the right", lambda raw: shifted(raw, x=20)),
                ("10 of 144 px too low", lambda raw: shifted(raw, y=10)),
                ("mirrored", lambda raw: raw[:, ::-1]),
                ("of a camera that sees less", lambda raw: zoomed(raw, 1.3)),
                ("upside down", lambda raw: raw[::-1]),
            )
        ),
        Situation(
            "depth three frames late, camera moves",
            "not OK; say which is older, and by how much",
            pictures(None, lambda number: RAW[turn(max(number - 3, 0))], truth=False),
            r"the depth seems about \d frames? .* older than the colour",
        ),
        Situation(
            "colour three frames late, camera moves",
            "not OK; say which is older, and by how much",
            pictures(None, lambda number: RAW[turn(number + 3)], truth=False),
            r"the colour seems about \d frames? .* older than the depth",
        ),
        *(
            Situation(name, unit, pictures(None, raw_of(change)), told, blind=blind)
            for name, change, told, blind in (
                (
                    "metres in 16UC1",
                    lambda raw: (raw / 1000.0).round().astype(np.uint16),
                    "right unit|unit or the camera's mode|raw depth",
                    "",
                ),
                (
                    "millimetres in 32FC1",
                    lambda raw: raw.astype(np.float32),
                    "right unit|unit or the camera's mode",
                    "",
                ),
                (
                    "centimetres in 16UC1",
                    lambda raw: (raw / 10.0).round().astype(np.uint16),
                    "right unit|unit or the camera's mode",
                    "",
                ),
                (
                    "tenths of a millimetre in 16UC1",
                    lambda raw: np.minimum(raw.astype(np.int64) * 10, 65535).astype(np.uint16),
                    "right unit|unit or the camera's mode",
                    "",
                ),
                (
                    "depth four times as large from now on",
                    lambda raw: np.minimum(raw.astype(np.int64) * 4, 65535).astype(np.uint16),
                    "unit or the camera's mode|right unit",
                    "",
                ),
            )
        ),
        *(
            Situation(
                f"{name} in place of depth",
                "not OK; say what it is",
                pictures(None, sent, truth=False),
                told,
            )
            for name, sent, told in (
                ("distances along the rays", raw_of(along_rays), "the distance along each"),
                ("disparity", raw_of(disparity), "the raw depth is disparity"),
                ("a depth buffer", depth_buffer, "renderer's depth buffer"),
                ("an infrared picture", infrared, "an infrared picture"),
            )
        ),
        Situation(
            "every third depth image is not registered",
            refuse,
            pictures(None, by_turns, truth=False),
            "unlike those before and after it",
        ),
        Situation(
            "depth in whole metres",
            "not OK; say what it is",
            pictures(None, raw_of(lambda raw: np.rint(raw / 1000.0).astype(np.float32))),
            "values only, 1 m apart",
        ),
        Situation(
            "depth stretched to 0..255",
            "not OK; say what it is",
            pictures(None, raw_of(stretched)),
            "are whole 255ths|largest number is",
        ),
        Situation(
            "depth stretched to 65535",
            "not OK; say what it is",
            pictures(None, raw_of(stretched_to_16_bits)),
            "fill all of 16 bits",
        ),
        Situation(
            "depth with a grid of holes",
            go_on,
            pictures(None, raw_of(with_grid)),
            works=True,
        ),
        Situation(
            "colour registered to depth",
            "right depth; say so",
            pictures(registered_to_depth),
            "black where the raw depth has no reading",
            works=True,
        ),
        Situation(
            "the colour's lower third is grey",
            "right depth; say so",
            pictures(cut_before_decoding),
            "are the same row to the bit",
            works=True,
        ),
        Situation("a bar with a clock below the colour", go_on, pictures(with_a_clock), works=True),
        Situation(
            "depth clipped at 1 m",
            "right depth; say so",
            pictures(None, raw_of(lambda raw: np.minimum(raw, 1000).astype(np.uint16))),
            "depth that was clipped",
            works=True,
        ),
        Situation(
            "colour of 12 of 16 bits",
            go_on,
            changed("color", in_12_bits),
            works=True,
        ),
        Situation(
            "a filter fills holes from beside them",
            "right depth; say so",
            pictures(None, raw_of(filled)),
            "a filter has filled holes",
            works=True,
        ),
        Situation(
            "holes are 3 m",
            "right depth; say so",
            pictures(None, raw_of(lambda raw: np.where(raw > 0, raw, 3000).astype(np.uint16))),
            "3 m to the bit",
            works=True,
        ),
        Situation(
            "depth of zeros",
            "no depth; say so",
            pictures(None, flat(0)),
            "no raw depth|raw depth|UNALIGNED",
        ),
        Situation(
            "depth saturated",
            "no depth; say so",
            pictures(None, flat(65535)),
            "right unit|raw depth|UNALIGNED",
        ),
        Situation(
            "depth is noise",
            "not OK; say so",
            pictures(None, lambda i: chance.integers(300, 3000, (HEIGHT, WIDTH)).astype(np.uint16)),
            "UNALIGNED|HELD|SENSOR|trusted|one scene",
        ),
        Situation(
            "depth is a plane",
            "not OK; say so",
            pictures(None, flat(800), truth=False),
            "depth is frozen|one scene|UNALIGNED|HELD|trusted",
        ),
        Situation(
            "depth 100 mm too far, from before",
            "depth as the sensor says it",
            pictures(
                None,
                raw_of(lambda raw: np.where(raw > 0, raw + 100, 0).astype(np.uint16)),
                truth=False,
            ),
            blind="measure one distance by hand when the cell is set up",
        ),
        # Topics and processes.
        Situation(
            "depth's topic has compressed images",
            "say which type, and which parameter",
            no_depth,
            "published as sensor_msgs/msg/CompressedImage",
            around=other_type,
        ),
        Situation(
            "a second camera on the topics",
            "say who",
            lambda cell: cell.healthy,
            "has 2 publishers",
            around=lambda cell: other_node(
                cell, "other_camera", (Image, "color/image"), (Image, "depth/image")
            ),
        ),
        Situation(
            "a second node of this name",
            "right depth; say so",
            lambda cell: cell.healthy,
            "1 more called /dkt_node",
            works=True,
            around=lambda cell: other_node(cell, "dkt_node"),
        ),
        Situation(
            "another node publishes dkt/depth",
            "right depth; say who",
            lambda cell: cell.healthy,
            "dkt/depth is published by /intruder",
            works=True,
            around=lambda cell: other_node(cell, "intruder", (Image, "dkt/depth")),
        ),
        Situation(
            "a subscriber asks for latched depth",
            "right depth for others; say so",
            lambda cell: cell.healthy,
            "asks for a durability",
            works=True,
            around=late_subscriber,
        ),
        *(
            Situation(
                f"a reader of {name} hangs",
                "right depth, all the time; say who reads",
                lambda cell: cell.healthy,
                f"a reader of .*{topic}.*/reader.* has acknowledged nothing",
                works=True,
                around=partial(hung_reader, name=topic.removeprefix("dkt/"), what="process"),
            )
            for name, topic in (("clouds", "dkt/points"), ("depth", "dkt/depth"))
        ),
        Situation(
            "the callback of a reader of clouds hangs",
            go_on,
            lambda cell: cell.healthy,
            works=True,
            blind="DDS takes messages in for the process, and the node cannot know: look at that "
            "process",
            around=partial(hung_reader, name="points", what="callback"),
        ),
    ]
