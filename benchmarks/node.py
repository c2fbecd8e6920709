"""What the node costs besides its network: 1280x720 at 30 Hz through real DDS.

    python benchmarks/node.py [--frames 3000] [--rate 30] [--width 1280 --height 720]

The table goes to benchmarks/results/node.json too (--output).

Three processes: a camera, the node, a planner that takes depth and points. The network is replaced
by a stand-in that returns one stored disparity image at once; everything else is the real thing:
executor, conversion, synchroniser, worker, alignment, cloud, publishing, and config/fastdds.xml.

Reported: what was published and what of it a reliable planner received; per frame: CPU time of the
executor's thread (taking, converting, filing) and of the worker's thread by stage (alignment,
conversion to depth, messages, cloud, publishing); bytes moved, computed from the shapes; frames
lost, by cause; resident memory after 300 frames and at the end.
CPU time is what counts: it does not grow when other programs share the machine, wall time does.
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import os
import platform
import sys
import time
from array import array
from collections import defaultdict
from collections.abc import Callable
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from dkt_ros.frames import Frame  # noqa: E402
from dkt_ros.predict.predictor import Prediction, Predictor, PredictorInfo  # noqa: E402

FOCAL_PX = 900.0
NEAR_M, FAR_M = 0.5, 1.5
WARM_UP_FRAMES = 300
AIM_MS = 15.0
PROFILE = Path(__file__).resolve().parents[1] / "config" / "fastdds.xml"
RESULT = Path(__file__).resolve().parent / "results" / "node.json"
PAGE = os.sysconf("SC_PAGE_SIZE")


def ramp(width: int, height: int) -> npt.NDArray[np.float32]:
    """Relative disparity of a tilted table, in [0, 1]."""
    rows = np.linspace(0.0, 1.0, height, dtype=np.float32)[:, None]
    return np.ascontiguousarray(np.broadcast_to(rows, (height, width)))


def sensor_depth(width: int, height: int) -> npt.NDArray[np.uint16]:
    """The table's depth in millimetres with 10% holes."""
    disparity = 1 / FAR_M + (1 / NEAR_M - 1 / FAR_M) * ramp(width, height)
    depth = (1000.0 / disparity).round().astype(np.uint16)
    depth[np.random.default_rng(0).random(depth.shape) < 0.1] = 0
    return depth


def camera(options: argparse.Namespace, start: Event, done: Event) -> None:
    """A process that publishes colour, depth and calibration at the rate, best effort."""
    import rclpy
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import CameraInfo, Image

    rclpy.init()
    node = rclpy.create_node("camera")
    publishers = {
        topic: node.create_publisher(kind, topic, qos_profile_sensor_data)
        for topic, kind in (
            ("color/camera_info", CameraInfo),
            ("color/image", Image),
            ("depth/image", Image),
        )
    }
    width, height = options.width, options.height
    rgb = np.random.default_rng(1).integers(0, 255, (height, width, 3), dtype=np.uint8)
    depth = sensor_depth(width, height)
    info = CameraInfo(width=width, height=height)
    info.k = [FOCAL_PX, 0.0, width / 2, 0.0, FOCAL_PX, height / 2, 0.0, 0.0, 1.0]
    messages = {
        "color/camera_info": info,
        "color/image": Image(
            width=width, height=height, encoding="rgb8", step=3 * width,
            data=array("B", rgb.tobytes()),
        ),
        "depth/image": Image(
            width=width, height=height, encoding="16UC1", step=2 * width,
            data=array("B", depth.tobytes()),
        ),
    }  # fmt: skip
    for message in messages.values():
        message.header.frame_id = "camera_color_optical_frame"
    start.wait()
    begun = time.monotonic()
    for number in range(options.frames):
        time.sleep(max(0.0, begun + number / options.rate - time.monotonic()))
        stamp = divmod(10**18 + round(number * 1e9 / options.rate), 10**9)
        for topic, message in messages.items():
            message.header.stamp.sec, message.header.stamp.nanosec = stamp
            publishers[topic].publish(message)
    print(f"camera: {options.frames} frames in {time.monotonic() - begun:.1f} s", flush=True)
    time.sleep(2.0)
    done.set()
    rclpy.shutdown()


def planner(options: argparse.Namespace, done: Event, counts: Any) -> None:
    """A process that takes depth and points and counts them."""
    import rclpy
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import Image, PointCloud2

    rclpy.init()
    node = rclpy.create_node("planner")
    qos = QoSProfile(depth=options.planner_depth, reliability=ReliabilityPolicy.RELIABLE)

    def count(name: str, message: bytes) -> None:
        counts[name] = counts.get(name, 0) + 1

    node.create_subscription(Image, "dkt/depth", functools.partial(count, "depth"), qos, raw=True)
    if options.points:
        node.create_subscription(
            PointCloud2, "dkt/points", functools.partial(count, "points"), qos, raw=True
        )
    while not done.is_set():
        rclpy.spin_once(node, timeout_sec=0.1)
    rclpy.shutdown()


class Meter:
    """CPU seconds of the calling thread, by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)

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
                self.calls[stage] += 1

        setattr(owner, attribute, measured)


class StandIn(Predictor):
    """In the network's place: the stored disparity for every frame, at once."""

    def __init__(self, disparity: npt.NDArray[np.float32]) -> None:
        super().__init__(PredictorInfo("stand-in", origin="no network"))
        self._disparity = disparity
        self.cpu_s: list[float] = []

    def push(self, frame: Frame) -> Prediction:
        """The same for every frame."""
        self.cpu_s.append(time.thread_time())
        return Prediction(frame.rgb, self._disparity)


def resident_mib() -> float:
    """Resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 2**20


def run(options: argparse.Namespace) -> None:
    """Starts the other two processes and is the node."""
    if options.profile:
        os.environ["FASTDDS_DEFAULT_PROFILES_FILE"] = str(PROFILE)  # since Kilted
        os.environ["FASTRTPS_DEFAULT_PROFILES_FILE"] = str(PROFILE)
    spawn = multiprocessing.get_context("spawn")
    start, done = spawn.Event(), spawn.Event()
    counts = spawn.Manager().dict()
    children = [
        spawn.Process(target=camera, args=(options, start, done)),
        spawn.Process(target=planner, args=(options, done, counts)),
    ]
    for child in children:
        child.start()
    try:
        found = summary(options, measure(options, start, done, children), dict(counts))
        show(found)
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(found, indent=1) + "\n")
        print(f"\nwritten to {options.output}")
    finally:
        done.set()
        start.set()
        for child in children:
            child.join()


def measure(
    options: argparse.Namespace, start: Event, done: Event, children: list[Any]
) -> dict[str, Any]:
    """Spins the node until the camera is done; returns what was measured."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.lifecycle import LifecyclePublisher

    from dkt_ros import estimator as estimator_module
    from dkt_ros.alignment.aligner import Aligner
    from dkt_ros.estimator import DepthEstimator
    from dkt_ros.messages import intake
    from dkt_ros.ros import topics
    from dkt_ros.ros.convert import clouds
    from dkt_ros.ros.engine import Engine, estimator_config
    from dkt_ros.ros.node import DktNode

    meter = Meter()
    meter.watch(intake, "image_to_rgb", "convert colour")
    meter.watch(intake, "image_to_depth", "convert raw depth")
    meter.watch(Aligner, "update", "align")
    meter.watch(estimator_module, "align_depth", "disparity to depth")
    meter.watch(topics, "depth_to_image", "depth message")
    meter.watch(clouds.CloudWriter, "write", "cloud")
    meter.watch(LifecyclePublisher, "publish", "publish")
    stand_in = StandIn(ramp(options.width, options.height))

    def build(parameters: Any) -> Engine:
        return Engine(DepthEstimator(stand_in, estimator_config(parameters)))

    stride = f"points_stride:={options.stride}"
    rclpy.init(args=["--ros-args", "--log-level", "warn", "-p", stride])
    node = DktNode(build)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    node.autostart()
    wanted = ["dkt/depth", "dkt/points"] if options.points else ["dkt/depth"]
    while not all(node.count_subscribers(topic) for topic in wanted) or not all(
        node.count_publishers(topic) for topic in ("color/image", "depth/image")
    ):
        executor.spin_once(timeout_sec=0.05)
        if any(child.exitcode is not None for child in children):
            sys.exit("the camera or the planner ended before it was discovered; see above")
    settle = time.monotonic() + 2.0
    while time.monotonic() < settle:
        executor.spin_once(timeout_sec=0.05)
    start.set()
    statistics = node._statistics
    early_mib: float | None = None
    main_cpu, process_cpu = time.thread_time(), time.process_time()
    while not done.is_set() and all(child.exitcode is None for child in children):
        executor.spin_once(timeout_sec=0.1)
        if early_mib is None and len(stand_in.cpu_s) >= WARM_UP_FRAMES:
            early_mib = resident_mib()
    measured = {
        "snapshot": statistics.snapshot(),
        "executor_s": time.thread_time() - main_cpu,
        "process_s": time.process_time() - process_cpu,
        "worker_cpu_s": np.diff(stand_in.cpu_s),
        "meter": meter,
        "early_mib": early_mib,
        "late_mib": resident_mib(),
    }
    node.close()
    rclpy.shutdown()
    return measured


def summary(
    options: argparse.Namespace, measured: dict[str, Any], counts: dict[str, int]
) -> dict[str, Any]:
    """What was measured, for people and for the file."""
    snapshot, meter = measured["snapshot"], measured["meter"]

    def seen(stream: str) -> int:
        found = snapshot.streams.get(stream)
        return found.count if found else 0

    frames = seen("dkt/depth")
    worker = measured["worker_cpu_s"]
    executor_ms = measured["executor_s"] / max(seen("color"), 1) * 1e3
    worker_ms = float(worker.mean()) * 1e3 if len(worker) else None
    pixels = options.width * options.height
    cloud_pixels = -(-options.width // options.stride) * -(-options.height // options.stride)
    early_mib, late_mib = measured["early_mib"], measured["late_mib"]
    return {
        "machine": platform.platform(),
        "processors": os.cpu_count(),
        "camera": {name: getattr(options, name) for name in ("width", "height", "rate", "frames")},
        "points_stride": options.stride if options.points else None,
        "cpu_ms_per_frame": {
            "executor thread": executor_ms,
            "  convert colour": per_call_ms(meter, "convert colour"),
            "  convert raw depth": per_call_ms(meter, "convert raw depth"),
            "worker thread": worker_ms,
            **{
                f"  {stage}": per_call_ms(meter, stage)
                for stage in ("align", "disparity to depth", "depth message", "cloud")
            },
            "  publish, all topics": meter.seconds["publish"] / max(frames, 1) * 1e3,
            "both threads": None if worker_ms is None else executor_ms + worker_ms,
            "whole process, DDS included": measured["process_s"] / max(frames, 1) * 1e3,
        },
        "aim_ms_both_threads": AIM_MS,
        "mb_written_per_frame": {
            "taken from DDS (rgb8, 16UC1)": pixels * 5 / 1e6,
            "raw depth in metres": pixels * 4 / 1e6,
            "the network's disparity, copied": pixels * 4 / 1e6,
            "depth in metres, and its message": pixels * 8 / 1e6,
            "cloud: planes, and its message": cloud_pixels * 64 / 1e6 if options.points else 0.0,
        },
        "frames": {
            "sent by the camera": options.frames,
            "colour taken": seen("color"),
            "depth taken": seen("depth"),
            "pairs filed": seen("frame"),
            "skipped by choice": snapshot.skipped,
            "depth images published": frames,
            "depth received by the planner": counts.get("depth", 0),
            "clouds published": seen("dkt/points"),
            "clouds received by the planner": counts.get("points", 0),
        },
        "lost on the way to the planner, %": {
            "depth": lost_percent(frames, counts.get("depth", 0)),
            "clouds": lost_percent(seen("dkt/points"), counts.get("points", 0)),
        },
        "lost": dict(sorted(snapshot.drops.items())),
        "resident_mib": {
            f"after {WARM_UP_FRAMES} frames": early_mib,
            f"after {frames} frames": late_mib,
            "growth": None if early_mib is None else late_mib - early_mib,
        },
    }


def lost_percent(published: int, received: int) -> float | None:
    """The share of published messages that did not arrive; None where none was published."""
    return 100.0 * (1.0 - received / published) if published else None


def show(found: dict[str, Any]) -> None:
    """Prints the table."""
    camera = found["camera"]
    print(f"\n{camera['width']}x{camera['height']} at {camera['rate']:g} Hz, no network")
    for title, key, form in (
        ("CPU per frame, ms", "cpu_ms_per_frame", "12.2f"),
        ("written per frame, MB", "mb_written_per_frame", "12.1f"),
        ("frames", "frames", "12d"),
        ("lost inside the node", "lost", "12d"),
        ("lost on the way to the planner, %", "lost on the way to the planner, %", "12.1f"),
        ("resident memory, MiB", "resident_mib", "12.1f"),
    ):
        print(f"\n{title}")
        for name, number in found[key].items():
            aim = f"   (aim: under {AIM_MS:g})" if name == "both threads" else ""
            print(f"  {name:50}{'-':>12}" if number is None else f"  {name:50}{number:{form}}{aim}")


def per_call_ms(meter: Meter, stage: str) -> float | None:
    """Mean CPU milliseconds of a stage per call; None where it was never called."""
    return meter.seconds[stage] / meter.calls[stage] * 1e3 if meter.calls[stage] else None


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--frames", type=int, default=3000)
    parser.add_argument("--rate", type=float, default=30.0)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=720)
    parser.add_argument("--stride", type=int, default=1, help="points_stride of the node")
    parser.add_argument("--planner-depth", type=int, default=5, help="messages the planner keeps")
    parser.add_argument("--no-profile", dest="profile", action="store_false", help="default DDS")
    parser.add_argument("--no-points", dest="points", action="store_false")
    parser.add_argument("--output", type=Path, default=RESULT, help="a JSON file")
    return parser.parse_args(argv)


if __name__ == "__main__":
    run(parse(sys.argv[1:]))
