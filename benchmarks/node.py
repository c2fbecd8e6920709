"""A camera of 1280x720 at 30 Hz for 20 minutes: whether dkt_node stays as it was, what it costs.

    python benchmarks/node.py [--minutes 20] [--rate 30] [--width 1280 --height 720]

Processes that meet over DDS, with config/fastdds.xml: a camera; `dkt_node` as it is started on a
robot; a reliable reader of dkt/depth, one of dkt/points (--no-points: none) and a best-effort one
of dkt/depth. The network is replaced (parameter `predictor`) by a stand-in that answers at once
with the truth of the scene, a frame of the demo's recording, and that measures the process that it
is in. Everything else is the real thing, the refiner of fused depth included.

Reported: resident memory, threads and file descriptors of the node, in the first minute, in the
last and per minute; latency from the camera's stamp to the reader, in the first minute and in the
last; how many messages the node says it has published, and how many came; CPU time by thread and by
stage; what diagnostics complained of. The table goes to benchmarks/results/node.json (--output).
CPU time is what counts: it does not grow when other programs share the machine, wall time does.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import multiprocessing
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from demo.processes import heed_interrupts  # noqa: E402
from dkt_ros.frames import Frame  # noqa: E402
from dkt_ros.predict.predictor import Prediction, Predictor, PredictorInfo  # noqa: E402
from dkt_ros.ros.probe import profile_variable  # noqa: E402

FRAME_ID = "camera_color_optical_frame"
VARIANTS = 4
"""Of the noise of colour and raw depth; shown by chance, lest all that the node takes be alike."""
PROFILE = ROOT / "config" / "fastdds.xml"
RESULT = ROOT / "benchmarks" / "results" / "node.json"
PAGE = os.sysconf("SC_PAGE_SIZE")
MINUTE_S = 60.0
START_S, SETTLE_S, END_S = 240.0, 2.0, 60.0
METER = "DKT_SOAK_METER"
"""Environment variable: the file that the stand-in writes what it has measured to."""
STAGES = (
    "convert colour",
    "convert raw depth",
    "align",
    "consistency",
    "fuse",
    "publish all but clouds and pictures",
    "cloud",
)
PREDICTOR = "benchmarks.node:load_stand_in"

Floats = npt.NDArray[np.float32]


def scene(width: int, height: int) -> tuple[npt.NDArray[np.uint8], Floats, Floats, list[float]]:
    """RGB, raw depth and truth in metres, NaN unknown, and K: the demo's first frame, resized."""
    import cv2

    import dkt_ros
    from demo.recorded import read_frames
    from demo.stamps import header_stamp_ns
    from dkt_ros.bags.reader import BagReader
    from dkt_ros.bags.topics import discover_topics

    with BagReader(Path(dkt_ros.__file__).parent / "assets" / "demo" / "glassware") as bag:
        topics = discover_topics(bag.topics)
        first = next(iter(bag.messages([topics.color])))
        [frame] = read_frames(bag, topics, [header_stamp_ns(first.cdr)])
    assert frame.raw_depth is not None
    assert frame.truth is not None
    size = width, height
    rgb = np.asarray(cv2.resize(frame.rgb, size, interpolation=cv2.INTER_CUBIC), np.uint8)
    raw, truth = (
        np.asarray(cv2.resize(depth, size, interpolation=cv2.INTER_NEAREST), np.float32)
        for depth in (frame.raw_depth, frame.truth)
    )
    focal = 513.0 * width / frame.rgb.shape[1]
    k = [focal, 0.0, (width - 1) / 2, 0.0, focal, (height - 1) / 2, 0.0, 0.0, 1.0]
    return rgb, raw, truth, k


def messages_of(width: int, height: int) -> list[list[tuple[str, Any]]]:
    """(topic, message) of each variant, in the order of publishing."""
    from sensor_msgs.msg import CameraInfo, Image

    rgb, raw, _, k = scene(width, height)
    chance = np.random.default_rng(1)
    found = []
    for _ in range(VARIANTS):
        noisy = np.nan_to_num(raw * 1000.0 + chance.normal(0.0, 1.0, raw.shape))
        depth = noisy.round().clip(0.0, 65535.0).astype(np.uint16)
        color = np.clip(rgb + chance.integers(-2, 3, rgb.shape), 0, 255).astype(np.uint8)
        info = CameraInfo(width=width, height=height, k=k)
        info.p = [*k[:3], 0.0, *k[3:6], 0.0, *k[6:], 0.0]
        messages: list[tuple[str, Any]] = [("color/camera_info", info)]
        for topic, encoding, pixels in (
            ("color/image", "rgb8", color),
            ("depth/image", "16UC1", depth),
        ):
            image = Image(width=width, height=height, encoding=encoding, step=pixels.strides[0])
            image.data = array("B", pixels.tobytes())
            messages.append((topic, image))
        for _, message in messages:
            message.header.frame_id = FRAME_ID
        found.append(messages)
    return found


def camera(options: argparse.Namespace, start: Event, done: Event, counts: Any) -> None:
    """A process that publishes colour, depth and calibration at the rate, best effort."""
    import rclpy
    from rclpy.qos import qos_profile_sensor_data

    rclpy.init()
    node = rclpy.create_node("camera", namespace=options.namespace)
    variants = messages_of(options.width, options.height)
    publishers = {
        topic: node.create_publisher(type(message), topic, qos_profile_sensor_data)
        for topic, message in variants[0]
    }
    start.wait()
    chance, frames, period_s = np.random.default_rng(2), 0, 1.0 / options.rate
    begun = time.monotonic()
    while (elapsed_s := time.monotonic() - begun) < options.minutes * MINUTE_S:
        stamp = divmod(time.time_ns(), 10**9)
        for topic, message in variants[chance.integers(VARIANTS)]:
            message.header.stamp.sec, message.header.stamp.nanosec = stamp
            publishers[topic].publish(message)
        frames += 1
        # What a machine cannot hold is left out, as cameras do.
        due_s = (elapsed_s // period_s + 1) * period_s
        time.sleep(max(0.0, begun + due_s - time.monotonic()))
    counts["camera"] = (frames, time.monotonic() - begun)
    time.sleep(SETTLE_S)
    done.set()
    rclpy.try_shutdown()


def reader(
    options: argparse.Namespace, name: str, topic: str, reliable: bool, done: Event, counts: Any
) -> None:
    """A process that takes a topic; tells how many came, and when and how late each was."""
    import rclpy
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import Image, PointCloud2

    from demo.stamps import header_stamp_ns

    rclpy.init()
    node = rclpy.create_node(name, namespace=options.namespace)
    kind = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
    ages: list[tuple[float, float]] = []

    def take(message: bytes) -> None:
        ages.append((time.monotonic(), (time.time_ns() - header_stamp_ns(message)) * 1e-9))

    message_type = PointCloud2 if topic == "dkt/points" else Image
    qos = QoSProfile(depth=5, reliability=kind)
    node.create_subscription(message_type, topic, take, qos, raw=True)
    while not done.is_set():
        rclpy.spin_once(node, timeout_sec=0.1)
    counts[name] = ages
    rclpy.try_shutdown()


class Meter:
    """CPU seconds of the calling thread, by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def watch(self, owner: Any, attribute: str, stage: str) -> None:
        """Replaces a function by one that also measures itself."""
        function: Callable[..., Any] = getattr(owner, attribute)

        @functools.wraps(function)
        def measured(*args: Any, **kwargs: Any) -> Any:
            begun = time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds[stage] += time.thread_time() - begun

        setattr(owner, attribute, measured)


class StandIn(Predictor):
    """In the network's place: the truth for every frame, at once. Keeps the meter's file."""

    def __init__(self, meter: Meter, file: Path) -> None:
        super().__init__(PredictorInfo("stand-in", origin="no network"))
        self._disparity: Floats = np.zeros((0, 0), np.float32)
        self._meter = meter
        self._file = file
        self._pushed = 0
        self._written_at = 0.0

    def push(self, frame: Frame) -> Prediction:
        """The same for every frame of a size."""
        height, width = frame.rgb.shape[:2]
        if self._disparity.shape != (height, width):
            _, _, truth, _ = scene(width, height)
            inverse = np.nan_to_num(1.0 / truth)
            self._disparity = inverse / inverse.max()
        self._pushed += 1
        if time.monotonic() - self._written_at > 1.0:
            self._written_at = time.monotonic()
            self._write()
        return Prediction(frame.rgb, self._disparity)

    def _write(self) -> None:
        threads: dict[str, float] = defaultdict(float)
        for thread in threading.enumerate():
            if thread.ident is not None:
                clock = time.pthread_getcpuclockid(thread.ident)
                threads[thread.name] += time.clock_gettime(clock)
        found = {
            "frames": self._pushed,
            "process_s": time.process_time(),
            "threads_s": threads,
            "seconds": self._meter.seconds,
        }
        beside = self._file.with_suffix(".new")
        beside.write_text(json.dumps(found))
        beside.replace(self._file)


def load_stand_in(*_: Any) -> Predictor:
    """The kind of network that dkt_node is told to load."""
    from dkt_ros.alignment.aligner import Aligner
    from dkt_ros.fusion.consistency import Consistency
    from dkt_ros.fusion.fuser import Fuser
    from dkt_ros.messages import intake
    from dkt_ros.ros.convert import clouds
    from dkt_ros.ros.outputs import Outputs

    owners: tuple[tuple[Any, str], ...] = (
        (intake, "rgb_of"),
        (intake, "depth_of"),
        (Aligner, "update"),
        (Consistency, "update"),
        (Fuser, "fuse"),
        (Outputs, "publish"),
        (clouds.CloudWriter, "write"),
    )
    meter = Meter()
    for (owner, function), stage in zip(owners, STAGES, strict=True):
        meter.watch(owner, function, stage)
    return StandIn(meter, Path(os.environ[METER]))


class Watch:
    """What the operating system and diagnostics tell of the node."""

    def __init__(
        self, process: subprocess.Popen[bytes], children: Sequence[BaseProcess], namespace: str
    ) -> None:
        import rclpy
        from diagnostic_msgs.msg import DiagnosticArray

        self._process, self._children = process, children
        self._folder = Path("/proc") / str(process.pid)
        self.samples: list[tuple[float, float, int, int]] = []
        self.values: dict[str, str] = {}
        self.levels: dict[str, tuple[int, str]] = {}
        self.complaints: Counter[str] = Counter()
        rclpy.init()
        self._node = rclpy.create_node("soak", namespace=namespace)
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._diagnose, 50)

    def spin(self, condition: Callable[[], Any], timeout_s: float, what: str) -> None:
        """Until the condition holds; ends the benchmark where it does not, or a process ended."""
        import rclpy

        deadline, sampled_at = time.monotonic() + timeout_s, 0.0
        while not condition():
            ended = self._process.poll() is not None or any(
                child.exitcode for child in self._children
            )
            if ended or time.monotonic() > deadline:
                said = "; ".join(text for _, text in self.levels.values())
                late = "a process of it ended" if ended else f"not within {timeout_s:g} s"
                sys.exit(f"{what}: {late}; dkt_node says: {said}")
            if time.monotonic() - sampled_at >= 1.0:
                sampled_at = time.monotonic()
                self._sample()
            rclpy.spin_once(self._node, timeout_sec=0.1)

    def readers(self, topic: str) -> int:
        """How many read it."""
        return int(self._node.count_subscribers(topic))

    def begin(self) -> None:
        """Forgets what was before."""
        self.samples.clear()
        self.complaints.clear()

    def count(self, value: str) -> int:
        """A counter of the node's, by its name in diagnostics."""
        return int(self.values.get(value, 0))

    def close(self) -> None:
        """The node's end is watched no more."""
        import rclpy

        rclpy.try_shutdown()

    def _sample(self) -> None:
        pages = int((self._folder / "statm").read_text().split()[1])
        threads = len(os.listdir(self._folder / "task"))
        descriptors = len(os.listdir(self._folder / "fd"))
        self.samples.append((time.monotonic(), pages * PAGE / 2**20, threads, descriptors))

    def _diagnose(self, message: Any) -> None:
        for status in message.status:
            node, _, part = status.name.rpartition(": ")
            if not node.startswith(f"{self._node.get_namespace()}/"):
                continue
            level = int.from_bytes(status.level, "little")
            self.levels[part] = (level, status.message)
            self.values |= {pair.key: pair.value for pair in status.values}
            if level:
                self.complaints[f"{part}: {re.sub(r'[0-9.]+', 'N', status.message)}"] += 1


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Starts all processes and watches them."""
    if options.profile:
        os.environ[profile_variable()] = str(PROFILE)
    spawn = multiprocessing.get_context("spawn")
    start, done, counts = spawn.Event(), spawn.Event(), spawn.Manager().dict()
    readers = {"reliable": ("dkt/depth", True), "best_effort": ("dkt/depth", False)}
    if options.points:
        readers["cloud"] = ("dkt/points", True)
    children = [spawn.Process(target=camera, args=(options, start, done, counts))]
    children += [
        spawn.Process(target=reader, args=(options, name, *which, done, counts))
        for name, which in readers.items()
    ]
    with tempfile.TemporaryDirectory() as folder:
        meter = Path(folder) / "meter.json"
        words = {
            "predictor": PREDICTOR,
            "device": "cpu",
            "warm_up_size": f"{options.height}x{options.width}",
            "points_stride": options.stride,
            "diagnostics_period_s": 0.5,
        }
        arguments = [word for name, value in words.items() for word in ("-p", f"{name}:={value}")]
        arguments += ["-r", f"__ns:={options.namespace}"]
        process = subprocess.Popen(
            [sys.executable, "-m", "dkt_ros.ros.camera", "--ros-args", *arguments],
            cwd=ROOT,
            env=os.environ | {METER: str(meter)},
            preexec_fn=heed_interrupts,
        )
        watch = Watch(process, children, options.namespace)
        try:
            for child in children:
                child.start()
            watch.spin(
                lambda: (
                    watch.levels.get("lifecycle") == (0, "active")
                    and watch.readers("dkt/depth") == 2
                    and watch.readers("dkt/points") == options.points
                    and watch.count("color publishers") == watch.count("depth publishers") == 1
                ),
                START_S,
                "dkt_node becomes active and all find each other",
            )
            settled = time.monotonic() + SETTLE_S
            watch.spin(lambda: time.monotonic() > settled, START_S, "settling")
            watch.begin()
            begun, load = time.monotonic(), [os.getloadavg()[0]]
            before = json.loads(meter.read_text()) | {"taken": watch.count("color messages")}
            start.set()
            watch.spin(done.is_set, 2 * options.minutes * MINUTE_S + START_S, "the camera is done")
            # So that the counters are those of the end.
            settled = time.monotonic() + SETTLE_S
            watch.spin(lambda: time.monotonic() > settled, START_S, "settling")
            load.append(os.getloadavg()[0])
            after = json.loads(meter.read_text()) | {"taken": watch.count("color messages")}
            for child in children:
                child.join(END_S)
            interrupted = time.monotonic()
            process.send_signal(signal.SIGINT)
            status = process.wait(END_S)
            end = {"status": status, "seconds": time.monotonic() - interrupted}
            return summary(options, watch, dict(counts), begun, cpu(before, after), load) | {
                "end by SIGINT": end
            }
        finally:
            process.kill()
            for child in children:
                child.kill()
            watch.close()


def cpu(before: dict[str, Any], after: dict[str, Any]) -> dict[str, float]:
    """CPU milliseconds: of the executor per camera's frame, of all else per depth image."""
    frames = max(1, after["frames"] - before["frames"])

    def grown(kind: str, name: str) -> float:
        return 1e3 * float(after[kind].get(name, 0.0) - before[kind].get(name, 0.0))

    def ms(name: str) -> float:
        return grown("seconds", name) / frames

    threads = {name: grown("threads_s", name) for name in after["threads_s"]}
    executor = threads.get("MainThread", 0.0) / max(1, after["taken"] - before["taken"])
    inference = threads.get("dkt_inference", 0.0) / frames
    process = 1e3 * (after["process_s"] - before["process_s"])
    return {
        "executor thread, per camera's frame": executor,
        "inference thread": inference,
        **{f"  {stage}": ms(stage) for stage in STAGES if stage != "cloud"},
        "executor and inference but for fusing": executor + inference - ms("fuse"),
        "thread of clouds and pictures": threads.get("dkt_outputs", 0.0) / frames,
        "  cloud": ms("cloud"),
        "DDS's own threads and others": (process - sum(threads.values())) / frames,
        "whole process": process / frames,
    }


def summary(
    options: argparse.Namespace,
    watch: Watch,
    counts: dict[str, Any],
    begun: float,
    cpu_ms: dict[str, float],
    load: list[float],
) -> dict[str, Any]:
    """What was measured, for people and for the file."""
    sent, seconds = counts["camera"]
    span = min(MINUTE_S, seconds / 4)
    published = {
        "dkt/depth": watch.count("depth images"),
        "dkt/points": watch.count("dkt/points messages"),
    }
    readers: dict[str, Any] = {}
    for name, ages in counts.items():
        if name == "camera":
            continue
        topic = "dkt/points" if name == "cloud" else "dkt/depth"
        readers[name] = {
            "topic": topic,
            "published": published[topic],
            "received": len(ages),
            "lost (%)": lost_percent(published[topic], len(ages)),
            **{
                f"latency in the {which} (s, median and 95%)": quantiles(part)
                for which, part in (
                    ("first minute", [age for at, age in ages if at < begun + span]),
                    ("last minute", [age for at, age in ages if at >= begun + seconds - span]),
                )
            },
        }
    when = np.array([sample[0] - begun for sample in watch.samples])
    node: dict[str, dict[str, Any]] = {}
    for column, name in ((1, "resident memory (MiB)"), (2, "threads"), (3, "file descriptors")):
        values = np.array([sample[column] for sample in watch.samples], float)
        slope = np.polyfit(when[when >= span] / MINUTE_S, values[when >= span], 1)[0]
        node[name] = {
            "first minute": float(values[when < span].mean()),
            "last minute": float(values[when >= seconds - span].mean()),
            "most": float(values.max()),
            "per minute after the first": float(slope),
        }
        if column == 1:  # growth that ends is told from growth that goes on
            ends = np.linspace(0.0, seconds, 13)
            node[name]["in twelve parts"] = [
                float(np.median(values[(when >= low) & (when < high)]))
                for low, high in itertools.pairwise(ends)
            ]
    return {
        "machine": platform.platform(),
        "processors": os.cpu_count(),
        "beside it": options.beside,
        "load average before and after": load,
        "camera": {name: getattr(options, name) for name in ("width", "height", "rate", "minutes")},
        "points_stride": options.stride if options.points else None,
        "a minute is (s)": span,
        "frames": {
            "sent by the camera": sent,
            "a second": sent / seconds,
            "colour taken": watch.count("color messages"),
            "depth taken": watch.count("depth messages"),
            "pairs": watch.count("frames accepted"),
            "skipped by choice": watch.count("frames skipped by choice"),
            "depth images": published["dkt/depth"],
            "depth images a second": published["dkt/depth"] / seconds,
            "clouds": published["dkt/points"],
        },
        "dropped": {
            name.removeprefix("dropped: "): int(number)
            for name, number in watch.values.items()
            if name.startswith("dropped: ")
        },
        "readers": readers,
        "node": node,
        "cpu (ms a frame)": cpu_ms,
        "diagnostics that were not OK (of so many)": {
            "all": round(seconds / 0.5),
            **dict(watch.complaints.most_common(10)),
        },
    }


def lost_percent(published: int, received: int) -> float | None:
    """The share of published messages that did not arrive; None where none was published."""
    return 100.0 * (1.0 - received / published) if published else None


def quantiles(ages: list[float]) -> list[float] | None:
    """Median and 95%; None of nothing."""
    return [float(value) for value in np.quantile(ages, (0.5, 0.95))] if ages else None


def show(found: Any, indent: int = 0) -> None:
    """Prints the table."""
    for name, value in found.items():
        if isinstance(value, dict):
            print(f"{' ' * indent}{name}")
            show(value, indent + 2)
        else:
            numbers = value if isinstance(value, list) else [value]
            text = ", ".join(f"{n:.4g}" if isinstance(n, float) else str(n) for n in numbers)
            print(f"{' ' * indent}{name:{60 - indent}} {text}")


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--rate", type=float, default=30.0)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=720)
    parser.add_argument("--stride", type=int, default=1, help="points_stride of the node")
    parser.add_argument("--no-profile", dest="profile", action="store_false", help="default DDS")
    parser.add_argument("--no-points", dest="points", action="store_false")
    parser.add_argument("--beside", default="", help="what else the machine does, for the file")
    parser.add_argument("--output", type=Path, default=RESULT, help="a JSON file")
    # Apart from what else is in the DDS domain: a node left over from before, or a robot's.
    parser.set_defaults(namespace=f"/soak_{os.getpid()}")
    return parser.parse_args(argv)


def main() -> None:
    """See the module."""
    options = parse(sys.argv[1:])
    found = run(options)
    show(found)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(found, indent=1) + "\n")
    print(f"\nwritten to {options.output}")


if __name__ == "__main__":
    main()
