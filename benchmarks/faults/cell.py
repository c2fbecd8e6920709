"""The camera, the planner and the node of the campaign, and what is asked of every situation."""

from __future__ import annotations

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

import cv2
import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from dkt_ros.msg import ScaleAlignment
from fixtures.interrupts import heed_interrupts
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image

import dkt_ros
from demo.recorded import RecordedFrame, read_frames
from demo.stamps import header_stamp_ns
from dkt_ros.bags.reader import BagReader
from dkt_ros.bags.topics import discover_topics

ROOT = Path(__file__).resolve().parents[2]
HZ = 6.0
SECOND = 10**9
K = (256.5, 0.0, 119.5, 0.0, 256.5, 71.5, 0.0, 0.0, 1.0)
FRAME_ID = "camera_color_optical_frame"
STATES = ("OK", "HELD", "UNALIGNED", "SENSOR")
LEVELS = {b"\0": "OK", b"\1": "WARN", b"\2": "ERROR", b"\3": "STALE"}
WRONG = 0.03
START_S, RECOVERY_S = 400.0, 90.0
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
        self.log = tempfile.NamedTemporaryFile("w+", encoding="utf-8", suffix=".log")  # noqa: SIM115 as long as it
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dkt_ros.ros.camera", "--ros-args", *words],
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
