"""A camera cell's faults, each played to a real node over DDS: what it says, and how it recovers.

The demo's recording is shown to `dkt_node` (dkt-nano, a process of its own) by a camera in this
process; a fault is played, and then the recording again. Of each situation is kept what diagnostics
said of it and after how long, the states of the depth that went out meanwhile, how wrong the depth
was that was called OK, and how long the next right depth took. Of every situation alike is asked

- that the process lives;
- that every depth image has the stamp of a picture of that moment, and dkt/color under it is that
  picture: nothing old goes out under a new stamp;
- that depth called OK is within 3% of the truth in the median, from when the fault was told on.

    python benchmarks/faults.py                        # all, some 25 minutes
    python benchmarks/faults.py "black|frozen"         # those whose name has it
    python benchmarks/faults.py --table                # docs/faults.md from what was measured

Results are kept by name in benchmarks/results/faults.json.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "test")]
# Before rclpy reads them. A domain of its own keeps robots out of it.
os.environ.setdefault("FASTDDS_DEFAULT_PROFILES_FILE", str(ROOT / "config" / "fastdds.xml"))
os.environ.setdefault("FASTRTPS_DEFAULT_PROFILES_FILE", str(ROOT / "config" / "fastdds.xml"))
os.environ.setdefault("ROS_STATIC_PEERS", "127.0.0.1")
os.environ.setdefault("ROS_DOMAIN_ID", str(101 + os.getpid() % 100))

import cv2
import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from dkt_ros.msg import ScaleAlignment
from fixtures.three_processes import heed_interrupts
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

import dkt_ros
from demo.recorded import RecordedFrame, read_frames
from demo.stamps import header_stamp_ns
from dkt_ros.bags.reader import BagReader
from dkt_ros.bags.topics import discover_topics

RESULTS = ROOT / "benchmarks" / "results" / "faults.json"
PAGE = ROOT / "docs" / "faults.md"
HZ = 6.0
SECOND = 10**9
K = (256.5, 0.0, 119.5, 0.0, 256.5, 71.5, 0.0, 0.0, 1.0)
FRAME_ID = "camera_color_optical_frame"
STATES = ("OK", "HELD", "UNALIGNED", "SENSOR")
LEVELS = {b"\0": "OK", b"\1": "WARN", b"\2": "ERROR", b"\3": "STALE"}
WRONG = 0.03
START_S, RECOVERY_S, TOLD_S, ENOUGH_S = 400.0, 90.0, 60.0, 40.0
ENOUGH = 3
"""Depth images after which a situation has been seen."""
RELIABLE = QoSProfile(depth=20, reliability=ReliabilityPolicy.RELIABLE)
BEST_EFFORT = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)

Messages = list[tuple[str, Any]]
"""("color" | "depth" | "info", message) in the order of publishing."""


def load_frames() -> list[RecordedFrame]:
    """The demo's recording."""
    with BagReader(Path(dkt_ros.__file__).parent / "assets" / "demo" / "glassware") as bag:
        topics = discover_topics(bag.topics)
        stamps = [header_stamp_ns(message.cdr) for message in bag.messages([topics.color])]
        return [halved(frame) for frame in read_frames(bag, topics, stamps)]


def halved(frame: RecordedFrame) -> RecordedFrame:
    """At half the size, so that a slow machine shows more of them."""
    assert frame.raw_depth is not None
    assert frame.truth is not None
    rgb = cv2.resize(frame.rgb, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return replace(
        frame,
        rgb=np.asarray(rgb, np.uint8),
        raw_depth=frame.raw_depth[::2, ::2].copy(),
        truth=frame.truth[::2, ::2].copy(),
    )


FRAMES = load_frames()
HEIGHT, WIDTH = FRAMES[0].rgb.shape[:2]


def millimetres(frame: RecordedFrame) -> np.ndarray:
    """Its raw depth as a camera sends it."""
    assert frame.raw_depth is not None
    return np.nan_to_num(frame.raw_depth * 1000.0).round().astype(np.uint16)


RAW = [millimetres(frame) for frame in FRAMES]


def foreign() -> tuple[np.ndarray, np.ndarray]:
    """Colour and raw millimetres of another scene."""
    from fixtures.fused_scenes import rendered_frame

    scene = rendered_frame().resized(HEIGHT, WIDTH)
    return scene.rgb, np.nan_to_num(scene.raw * 1000.0).round().astype(np.uint16)


def turn(number: int) -> int:
    """Which frame of the recording, there and back, so that the camera never jumps."""
    period = 2 * len(FRAMES) - 2
    return min(number % period, period - number % period)


def image(pixels: np.ndarray, encoding: str, stamp_ns: int) -> Image:
    """Any array as a message."""
    pixels = np.ascontiguousarray(pixels)
    message = Image(
        height=pixels.shape[0], width=pixels.shape[1], encoding=encoding, step=pixels.strides[0]
    )
    message.data = array("B", pixels.tobytes())
    return stamped(message, stamp_ns)


def calibration(stamp_ns: int, width: int = WIDTH, height: int = HEIGHT) -> CameraInfo:
    """The recording's camera."""
    message = CameraInfo(width=width, height=height)
    k = np.array(K) * np.array([width / WIDTH] * 3 + [height / HEIGHT] * 3 + [1.0] * 3)
    message.k = k.tolist()
    message.p = [*k[:3], 0.0, *k[3:6], 0.0, *k[6:], 0.0]
    return stamped(message, stamp_ns)


def stamped(message: Any, stamp_ns: int) -> Any:
    """With this stamp, in the camera's frame."""
    message.header.frame_id = FRAME_ID
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, SECOND)
    return message


def ns_of(message: Any) -> int:
    """Its stamp."""
    return int(message.header.stamp.sec) * SECOND + int(message.header.stamp.nanosec)


@dataclass
class Seen:
    """What came out since the last look; times are time.monotonic()."""

    depth: dict[int, np.ndarray] = field(default_factory=dict)
    states: dict[int, int] = field(default_factory=dict)
    arrived: dict[int, float] = field(default_factory=dict)
    colors: list[tuple[int, np.ndarray]] = field(default_factory=list)
    statuses: list[tuple[float, str, str, str]] = field(default_factory=list)
    repeated: int = 0


class Cell:
    """The camera and the planner."""

    def __init__(self) -> None:
        self.context = Context()
        rclpy.init(context=self.context)
        self.node = Node("cell", context=self.context)
        self.publishers: dict[str, Any] = {}
        self.open()
        self.seen = Seen()
        self._lock = threading.Lock()
        self.sent: dict[int, list[tuple[int | None, np.ndarray]]] = {}
        self.number = 0
        for kind, topic, keep in (
            (Image, "dkt/depth", self._keep_depth),
            (ScaleAlignment, "dkt/alignment", self._keep_state),
            (Image, "dkt/color", self._keep_color),
            (DiagnosticArray, "/diagnostics", self._keep_statuses),
        ):
            self.node.create_subscription(kind, topic, keep, RELIABLE)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def open(self, **kinds: Any) -> None:
        """(Re)opens the camera's publishers; kinds: name -> (type, topic)."""
        usual = {
            "color": (Image, "color/image"),
            "depth": (Image, "depth/image"),
            "info": (CameraInfo, "color/camera_info"),
        }
        for publisher in self.publishers.values():
            self.node.destroy_publisher(publisher)
        self.publishers = {
            name: self.node.create_publisher(*kind, BEST_EFFORT)
            for name, kind in (usual | kinds).items()
        }

    def close(self) -> None:
        """Unplugs both."""
        rclpy.shutdown(context=self.context)
        self._thread.join(2.0)

    def look(self) -> Seen:
        """What came since the last look."""
        with self._lock:
            seen, self.seen = self.seen, Seen()
        return seen

    def healthy(self, number: int, stamp_ns: int) -> Messages:
        """The recording's own frame."""
        index = turn(number)
        frame = FRAMES[index]
        self.note(stamp_ns, index, frame.rgb)
        return [
            ("info", calibration(stamp_ns)),
            ("color", image(frame.rgb, "rgb8", stamp_ns)),
            ("depth", image(RAW[index], "16UC1", stamp_ns)),
        ]

    def note(self, stamp_ns: int, index: int | None, rgb: np.ndarray) -> None:
        """Remembers what is shown under a stamp; index: of the recording whose truth it has."""
        self.sent.setdefault(stamp_ns, []).append((index, rgb[::37, ::41].copy()))

    def truth(self, stamp_ns: int) -> np.ndarray | None:
        """The truth of what was shown last under this stamp; None where there is none."""
        index = self.sent[stamp_ns][-1][0] if stamp_ns in self.sent else None
        return None if index is None else FRAMES[index].truth

    def play(
        self,
        make: Callable[[int, int], Messages],
        seconds: float,
        until: Callable[[], bool] = lambda: False,
    ) -> float | None:
        """Shows frames; returns after how many seconds `until` held, None if it did not."""
        began, shown = time.monotonic(), 0
        base = time.time_ns()
        while (elapsed := time.monotonic() - began) < seconds:
            if until():
                return elapsed
            if elapsed >= shown / HZ:
                for name, message in make(self.number, base + round(shown * SECOND / HZ)):
                    self.publishers[name].publish(message)
                shown += 1
                self.number += 1
            time.sleep(0.01)
        return time.monotonic() - began if until() else None

    def _spin(self) -> None:
        with suppress(Exception):
            self._executor.spin()

    def _keep_depth(self, message: Image) -> None:
        values = np.frombuffer(message.data, np.float32).reshape(message.height, message.width)
        with self._lock:
            self.seen.repeated += ns_of(message) in self.seen.depth
            self.seen.depth[ns_of(message)] = values.copy()
            self.seen.arrived[ns_of(message)] = time.monotonic()

    def _keep_state(self, message: ScaleAlignment) -> None:
        with self._lock:
            self.seen.states[ns_of(message)] = message.state

    def _keep_color(self, message: Image) -> None:
        pixels = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)
        with self._lock:
            self.seen.colors.append((ns_of(message), pixels[::37, ::41].copy()))

    def _keep_statuses(self, message: DiagnosticArray) -> None:
        now = time.monotonic()
        with self._lock:
            self.seen.statuses += [
                (now, status.name, LEVELS[status.level], status.message)
                for status in message.status
            ]


class NodeProcess:
    """dkt_node."""

    def __init__(self, **parameters: object) -> None:
        given: dict[str, object] = {
            "diagnostics_period_s": 0.5,
            "cpu_threads": 1,
            "device": "cpu",
            "inference_size": "native",
        }
        given |= parameters
        words = [word for name, value in given.items() for word in ("-p", f"{name}:={value}")]
        self.log = tempfile.NamedTemporaryFile("w+", suffix=".log")  # noqa: SIM115 as long as it
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dkt_ros.ros.node", "--ros-args", *words],
            cwd=ROOT,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            preexec_fn=heed_interrupts,
        )

    @property
    def lives(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def end(self, number: int = signal.SIGINT) -> float:
        """Seconds from a signal to its end."""
        began = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(60.0)
        return time.monotonic() - began


@contextmanager
def running(**parameters: object) -> Iterator[NodeProcess]:
    """A node that ends whatever happens."""
    node = NodeProcess(**parameters)
    try:
        yield node
    finally:
        if node.lives:
            node.process.kill()
            node.process.wait()
        node.log.close()


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
            cell.sent.setdefault(mine, []).extend(cell.sent.pop(stamp_ns))
            for name, message in messages:
                when = depth(number - first, stamp_ns) if depth and name == "depth" else mine
                stamped(message, when)
            return messages

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


def lossy(share: float) -> Make:
    """Without a share of the messages."""
    chance = np.random.default_rng(5)
    return lambda cell: (
        lambda number, stamp_ns: [
            pair for pair in cell.healthy(number, stamp_ns) if chance.random() > share
        ]
    )


@contextmanager
def other_node(cell: Cell, name: str, *topics: tuple[type, str]) -> Iterator[None]:
    """Another node, which publishes nothing yet has publishers, and a second camera's pictures."""
    context = Context()
    rclpy.init(context=context)
    node = Node(name, context=context)
    publishers = [node.create_publisher(kind, topic, BEST_EFFORT) for kind, topic in topics]
    stop = threading.Event()
    rgb, raw = foreign()

    def send() -> None:
        while not stop.wait(1.0 / HZ):
            stamp_ns = time.time_ns()
            cell.note(stamp_ns, None, rgb)
            for publisher in publishers:
                if publisher.topic_name == "/color/image":
                    publisher.publish(image(rgb, "rgb8", stamp_ns))
                elif publisher.topic_name == "/depth/image":
                    publisher.publish(image(raw, "16UC1", stamp_ns))

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        node.destroy_node()
        rclpy.shutdown(context=context)


@contextmanager
def other_type(cell: Cell) -> Iterator[None]:
    """Depth's topic with compressed images."""
    cell.open(depth=(CompressedImage, "depth/image"))
    try:
        yield
    finally:
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
import rclpy
from sensor_msgs.msg import PointCloud2
rclpy.init()
node = rclpy.create_node("reader")
node.create_subscription(PointCloud2, "dkt/points", lambda message: None, 5)
rclpy.spin(node)
"""


@contextmanager
def stopped_reader(cell: Cell) -> Iterator[None]:
    """A process that asked for clouds and hangs."""
    reader = subprocess.Popen([sys.executable, "-c", READER])
    try:
        time.sleep(5.0)
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
            "right depth; say that the stream begins anew",
            stamps(lambda i, ns: 1_700_000_000 * SECOND + (i % 15) * 166_666_667),
            "began anew .* ran backwards|began anew|bag looped",
            works=True,
        ),
        Situation(
            "clock jumps an hour ahead",
            "right depth",
            stamps(lambda i, ns: ns + 3600 * SECOND * (i > 15)),
            "after the node's clock",
            works=True,
        ),
        Situation(
            "clock jumps an hour back",
            "right depth",
            stamps(lambda i, ns: ns - 3600 * SECOND * (i > 15)),
            "before the node's clock",
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
            "images of several sizes",
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
            "stamp 0", "say that stamps stand still", stamps(lambda i, ns: 0), "stamps stand still"
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
            changed(
                "info",
                lambda message, i: setattr(
                    message,
                    "k",
                    [K[0] + 1e-4 * i, *K[1:]],
                ),
            ),
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
                changed(
                    which, lambda message, i, said=said: setattr(message.header, "frame_id", said)
                ),
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
        *(
            Situation(
                name,
                unit,
                pictures(None, raw_of(change)),
                told,
                blind=blind,
            )
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
        Situation(
            "a reader of clouds hangs",
            go_on,
            lambda cell: cell.healthy,
            works=True,
            around=stopped_reader,
        ),
    ]


def judge(cell: Cell, seen: Seen, told_at: float | None) -> dict[str, Any]:
    """What is asked of every situation alike."""
    counts = dict.fromkeys(STATES, 0)
    for state in seen.states.values():
        counts[STATES[state]] += 1
    unknown = [stamp for stamp in seen.depth if stamp not in cell.sent]
    mixed = [
        stamp
        for stamp, pixels in seen.colors
        if stamp in cell.sent
        and not any(np.array_equal(shown, pixels) for _, shown in cell.sent[stamp])
    ]
    ratios, late = [], 0
    for stamp, depth in seen.depth.items():
        truth = cell.truth(stamp)
        if truth is None or STATES[seen.states.get(stamp, 2)] != "OK":
            continue
        if truth.shape == depth.shape and np.isfinite(depth / truth).any():
            ratio = float(np.nanmedian(depth / truth))
            ratios.append(ratio)
            after = told_at is not None and seen.arrived[stamp] > told_at + 1.0
            late += after and abs(ratio - 1.0) > WRONG
    return {
        "states": {name: number for name, number in counts.items() if number},
        "worst_ok": max(ratios, key=lambda ratio: abs(ratio - 1.0), default=None),
        "wrong_ok": sum(abs(ratio - 1.0) > WRONG for ratio in ratios),
        "wrong_ok_after_told": int(late),
        "unknown_stamps": len(unknown),
        "mixed_pictures": len(mixed),
    }


def merged(into: Seen, new: Seen) -> Seen:
    """Both."""
    for name in ("depth", "states", "arrived"):
        getattr(into, name).update(getattr(new, name))
    into.colors += new.colors
    into.statuses += new.statuses
    return into


def recovers(cell: Cell, timeout_s: float = RECOVERY_S) -> float | None:
    """Shows the recording until a right depth of it comes; after how many seconds it did."""
    seen, began = Seen(), time.time_ns()

    def right() -> bool:
        merged(seen, cell.look())
        for stamp, depth in seen.depth.items():
            truth = cell.truth(stamp)
            if stamp < began or truth is None or STATES[seen.states.get(stamp, 2)] != "OK":
                continue
            if abs(float(np.nanmedian(depth / truth)) - 1.0) <= WRONG:
                return True
        return False

    return cell.play(cell.healthy, timeout_s, right)


def is_calm(cell: Cell, timeout_s: float = 8.0) -> bool:
    """Shows the recording until diagnostics complain of nothing."""
    newest: dict[str, tuple[float, str]] = {}

    def calm() -> bool:
        for when, name, level, _ in cell.look().statuses:
            newest[name] = (when, level)
        return len(newest) >= 4 and all(level == "OK" for _, level in newest.values())

    return cell.play(cell.healthy, timeout_s, calm) is not None


def try_one(cell: Cell, node: NodeProcess, one: Situation) -> dict[str, Any]:
    """Plays one situation and what follows it."""
    seen = Seen()
    cell.look()
    said: list[tuple[float, str]] = []
    began = time.monotonic()

    def told() -> bool:
        new = cell.look()
        merged(seen, new)
        for when, name, level, message in new.statuses:
            if one.told and level != "OK" and re.search(one.told, message):
                said.append((when, f"{name.rpartition(': ')[2]}: {message}"))
        if one.told:  # and long enough for it to show in the depth
            done = bool(said) and time.monotonic() - said[0][0] > 2.0
            return done and (len(seen.depth) >= ENOUGH or not one.works)
        return len(seen.depth) >= ENOUGH and time.monotonic() - began > 5.0

    around = one.around(cell) if one.around else contextmanager(lambda: iter([None]))()
    with around:
        began = time.monotonic()
        seconds = TOLD_S if one.told else ENOUGH_S
        cell.play(one.make(cell), seconds, told)
    told()
    told_at = said[0][0] if said else None
    found = judge(cell, seen, told_at)
    right = found["states"].get("OK", 0) + found["states"].get("HELD", 0)
    recovered = recovers(cell)
    found |= {
        "name": one.name,
        "must": one.must,
        "said": said[0][1] if said else "",
        "told_s": None if told_at is None else round(told_at - began, 1),
        "recovered_s": None if recovered is None else round(recovered, 1),
        "calm": is_calm(cell),
        "lives": node.lives,
        "blind": one.blind,
    }
    faults = []
    if not node.lives:
        faults.append("the process ended")
    if one.told and not said:
        faults.append("was not told")
    if found["unknown_stamps"] or found["mixed_pictures"]:
        faults.append("a stamp or picture of another moment")
    if found["wrong_ok_after_told"] or (found["wrong_ok"] and not one.told and not one.blind):
        faults.append("wrong depth called OK")
    if one.works and not right:
        faults.append("no depth")
    if recovered is None:
        faults.append("did not recover")
    return found | {"faults": faults}


def life(name: str, must: str, faults: list[str], said: str = "", **more: Any) -> dict[str, Any]:
    """A row of its own kind."""
    return {"name": name, "must": must, "said": said, "faults": faults, "states": {}} | more


def other_lives(cell: Cell, wanted: Callable[[str], bool]) -> Iterator[dict[str, Any]]:
    """Starts, ends and configurations: each a process of its own."""

    def wait_for(pattern: str, node: NodeProcess, timeout_s: float = START_S) -> str:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and node.lives:
            for _, _, level, message in cell.look().statuses:
                if level != "OK" and re.search(pattern, message):
                    return str(message)
            time.sleep(0.05)
        return ""

    if wanted(name := "SIGKILL and a new start"):
        with running() as node:
            recovers(cell, START_S)
            node.process.kill()
            node.process.wait()
        with running():
            took = recovers(cell, START_S)
        faults = [] if took is not None else ["did not recover"]
        yield life(name, "depth again", faults, recovered_s=took and round(took, 1))
    for seconds in (0.3, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0):
        if wanted(name := f"SIGINT {seconds:g} s after the start"):
            with running() as node:
                cell.play(cell.healthy, seconds)
                took = node.end()
                code = node.process.returncode
                node.log.seek(0)
                trace = "Traceback" in node.log.read()
            faults = ["took longer than 2 s"] * (took > 2.0)
            faults += ["a traceback"] * (trace and code not in (130, 1, -2))
            yield life(name, "end within 2 s", faults, f"status {code}", told_s=round(took, 1))
    if wanted(name := "checkpoint missing"):
        with running(checkpoint="/nowhere") as node:
            said = wait_for("/nowhere", node)
            faults = [] if said and node.lives else ["was not told"]
            yield life(name, "say so and stay, unconfigured", faults, said)
    if wanted(name := "use_sim_time without a clock"):
        with running(use_sim_time=True) as node:
            said = wait_for("/clock", node)
            yield life(name, "say so", [] if said else ["was not told"], said)
    if wanted(name := "a transition at every moment, camera playing"):
        yield transitions(cell, name)
    compressed = {"color_transport": "compressed", "depth_transport": "compressedDepth"}
    if wanted("compressed"):
        cell.open(
            color=(CompressedImage, "color/image/compressed"),
            depth=(CompressedImage, "depth/image/compressedDepth"),
        )
        with running(**compressed) as node:
            yield from compressed_faults(cell, node)
        cell.open()


def transitions(cell: Cell, name: str) -> dict[str, Any]:
    """Valid and invalid transitions in a row, asked for by service."""
    from lifecycle_msgs.msg import Transition
    from lifecycle_msgs.srv import ChangeState, GetState

    chance = np.random.default_rng(3)
    with running() as node:
        recovers(cell, START_S)
        change = cell.node.create_client(ChangeState, "/dkt_node/change_state")
        get = cell.node.create_client(GetState, "/dkt_node/get_state")
        answered, longest = 0, 0.0
        for label in chance.choice(["configure", "activate", "deactivate", "cleanup"], 40):
            future = change.call_async(ChangeState.Request(transition=Transition(label=str(label))))
            began = time.monotonic()
            question = get.call_async(GetState.Request())
            cell.play(cell.healthy, 10.0, question.done)
            longest = max(longest, time.monotonic() - began)
            cell.play(cell.healthy, 30.0, future.done)
            answered += future.done()
        for label in ("deactivate", "configure", "activate"):
            future = change.call_async(ChangeState.Request(transition=Transition(label=label)))
            cell.play(cell.healthy, 30.0, future.done)
        took = recovers(cell, START_S)
        faults = ["a transition was not answered"] * (answered < 40)
        faults += ["did not recover"] * (took is None) + ["the process ended"] * (not node.lives)
        faults += ["get_state waited for longer than 2 s"] * (longest > 2.0)
        said = f"40 of 40 answered, get_state within {longest:.1f} s meanwhile"
        return life(name, "answer all, and work afterwards", faults, said, recovered_s=took)


def compressed_faults(cell: Cell, node: NodeProcess) -> Iterator[dict[str, Any]]:
    """JPEG and compressedDepth, damaged."""
    from dkt_ros.formats import rvl

    chance = np.random.default_rng(11)

    def packed(change: Callable[[bytes], bytes], deep: Callable[[np.ndarray], tuple[str, bytes]]):  # type: ignore[no-untyped-def]
        def make(number: int, stamp_ns: int) -> Messages:
            index = turn(number)
            frame = FRAMES[index]
            jpeg = cv2.imencode(".jpg", frame.rgb[..., ::-1])[1]
            shown = cv2.cvtColor(cv2.imdecode(jpeg, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
            color = CompressedImage(format="rgb8; jpeg compressed bgr8")
            color.data = array("B", change(jpeg.tobytes()))
            depth = CompressedImage()
            depth.format, data = deep(RAW[index])
            depth.data = array("B", bytes(12) + data)
            cell.note(stamp_ns, index, shown)
            return [
                ("info", calibration(stamp_ns)),
                ("color", stamped(color, stamp_ns)),
                ("depth", stamped(depth, stamp_ns)),
            ]

        return lambda cell: make

    def png(raw: np.ndarray) -> tuple[str, bytes]:
        return "16UC1; compressedDepth png", cv2.imencode(".png", raw)[1].tobytes()

    def whole(data: bytes) -> bytes:
        return data

    def flipped(data: bytes) -> bytes:
        bytes_ = bytearray(data)
        for at in chance.integers(700, len(bytes_) - 2, 5):
            bytes_[at] ^= 1 << chance.integers(0, 8)
        return bytes(bytes_)

    def bomb(raw: np.ndarray) -> tuple[str, bytes]:
        code = bytearray(png(raw)[1])
        code[16:24] = (60000).to_bytes(4, "big") * 2
        return "16UC1; compressedDepth png", bytes(code)

    healthy = cell.healthy
    good = packed(whole, png)
    cell.healthy = good(cell)  # type: ignore[method-assign]
    recovers(cell, START_S)
    try:
        for one in (
            Situation("compressed: JPEG and PNG", "right depth", good, works=True),
            Situation(
                "compressed: RVL depth",
                "right depth",
                packed(whole, lambda raw: ("16UC1; compressedDepth rvl", rvl.encode(raw))),
                works=True,
            ),
            Situation(
                "compressed: JPEG cut in half",
                "nothing; say so",
                packed(lambda data: data[: len(data) // 2], png),
                "cut short or damaged",
            ),
            Situation(
                "compressed: PNG that says 60000x60000",
                "nothing; say so, take no memory",
                packed(whole, bomb),
                "60000x60000",
            ),
            Situation(
                "compressed: RVL cut short",
                "nothing; say so",
                packed(whole, lambda raw: ("16UC1; compressedDepth rvl", rvl.encode(raw)[:5000])),
                "cut short",
            ),
            Situation(
                "compressed: bits flipped in the JPEG",
                "whatever decodes is used",
                packed(flipped, png),
                blind="a reliable subscription (qos_overrides)",
            ),
        ):
            yield try_one(cell, node, one)
    finally:
        cell.healthy = healthy  # type: ignore[method-assign]


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("only", nargs="?", default="", help="pattern of names")
    parser.add_argument("--part", default="1/1", metavar="I/N", help="every N-th alone, from I")
    parser.add_argument("--results", type=Path, default=RESULTS, help="kept by name in this file")
    parser.add_argument("--table", action="store_true", help="write docs/faults.md alone")
    options = parser.parse_args()
    results = json.loads(options.results.read_text()) if options.results.exists() else {}

    def wanted(name: str) -> bool:
        return re.search(options.only, name) is not None

    def keep(row: dict[str, Any]) -> None:
        results[row["name"]] = row
        options.results.write_text(json.dumps(results, indent=1) + "\n")
        print(f"{row['name']}: {'; '.join(row['faults']) or 'as it must'}", row, flush=True)

    if not options.table:
        cell = Cell()
        part, parts = (int(word) for word in options.part.split("/"))
        chosen = [one for one in situations() if wanted(one.name)][part - 1 :: parts]
        if chosen:
            with running() as node:
                print("first depth after", recovers(cell, START_S), "s", flush=True)
                for one in chosen:
                    keep(try_one(cell, node, one))
        for row in other_lives(cell, wanted):
            keep(row)
        cell.close()
    order = [one.name for one in situations()]
    names = sorted(results, key=lambda name: order.index(name) if name in order else len(order))
    PAGE.write_text(table([results[name] for name in names]))
    bad = [row["name"] for row in results.values() if row["faults"]]
    print(f"{len(results) - len(bad)} of {len(results)} as they must; else: {bad}")


HEAD = """# Faults, and what the node does

Made by `benchmarks/faults.py`: each fault is played to `dkt_node` (dkt-nano, CPU, the demo's recording at
6 Hz) over DDS, and then the healthy camera again. *Said* is the first matching message on /diagnostics and
after how many seconds it came; *states* count the depth images that went out meanwhile; *worst OK* is the
median of depth over truth of the worst frame that was called OK (1 is right; empty where none was, or
where the truth does not hold for the pictures); *again* is how many seconds right depth took once the
fault was over. In all of them no depth had the stamp of another moment, and `dkt/color` was the very
picture of its stamp. Seconds are of a machine of two cores with other work to do: read them as upper
bounds.

| situation | must | said | s | states | worst OK | again, s | |
|---|---|---|---|---|---|---|---|
"""


def table(rows: list[dict[str, Any]]) -> str:
    """The page."""

    def cell(value: Any) -> str:
        return "" if value is None else str(value).replace("|", "/")

    lines = []
    for row in rows:
        states = ", ".join(f"{number} {name}" for name, number in row["states"].items())
        ratio = row.get("worst_ok")
        verdict = "; ".join(row["faults"]) or "ok"
        if row.get("blind"):
            verdict += f"; cannot be seen: {row['blind']}"
        if row.get("wrong_ok") and not row["faults"]:
            verdict += f"; {row['wrong_ok']} frames called OK before it was told"
        values = (
            row["name"], row["must"], row["said"][:230], row.get("told_s"), states,
            None if ratio is None else f"{ratio:.3f}", row.get("recovered_s"), verdict,
        )  # fmt: skip
        lines.append("| " + " | ".join(cell(value) for value in values) + " |")
    return HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
