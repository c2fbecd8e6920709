"""`make demo`: a bag is replayed into the node, a third process listens like a planner.

    python -m demo [--bag BAG] [--checkpoint DIR] [--rate R] [--output demo_output]

Three processes over DDS: dkt_replay, dkt_node and demo.subscriber. Afterwards the output folder
holds demo.png, report.md, report.json and the processes' logs. Knows the order of events; measuring
and drawing are done next door.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import signal
import sys
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import dkt_ros
from demo import subscriber
from demo.figures import Comparison, summary
from demo.picture import Row, draw
from demo.processes import ProcessGroup, local_dds_environment
from demo.received import Reception, read_image
from demo.recorded import read_frames
from demo.report import as_markdown, error_table, headline, latency_table, outcome, reasons
from demo.stamps import NANOSECONDS_PER_SECOND
from dkt_ros.bags.reader import BagReader
from dkt_ros.bags.topics import CameraTopics, base_topic, camera_topics
from dkt_ros.errors import DktError
from dkt_ros.files import check_writable, storage_error
from dkt_ros.model.checkpoint import checkpoint_folder
from dkt_ros.model.info import CheckpointInfo
from dkt_ros.ros.params.parameters import NodeParameters

_DEMO_BAG = Path(dkt_ros.__file__).parent / "assets" / "demo" / "glassware"
_STARTUP_TIMEOUT_S = 300.0
_END_TIMEOUT_S = 120.0
# Unless told otherwise the replay takes this long per frame, which a CPU can follow with dkt-nano,
# but no longer than that in all.
_SECONDS_PER_FRAME = 1.5
_LONGEST_REPLAY_S = 45.0
_MOMENTS, _MOST_SCENES = 3, 6  # rows of the picture: of one scene, of several
_FRAMES_TIMED = 50
_LAST_DOMAIN = 232
_REPORT = "report.json"


@dataclass(frozen=True)
class _Plan:
    bag: Path
    topics: CameraTopics
    frames: int
    duration_s: float
    rate: float
    checkpoint: Path
    output: Path
    domain_id: int


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the demonstration; 1: a process failed or no frame had depth, 2: a wrong argument."""
    args = _parser().parse_args(argv)
    try:
        plan = _plan(args)
    except DktError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    terminated = signal.signal(signal.SIGTERM, _raise_interrupt)
    try:
        _run(plan)
        content = _evaluate(plan)
    except DktError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        path = Path(error.filename or plan.output)
        print(f"demo: {storage_error(path, error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: interrupted", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, terminated)
    _tell(plan, content)
    if not content["frames"]["with_depth"]:
        why = content["reasons"][0]["reason"] if content["reasons"] else "the node says not why"
        print(f"demo: no frame had depth: {why}", file=sys.stderr)
        return 1
    return 0


def _raise_interrupt(_number: int, _frame: object) -> None:
    """SIGTERM must not leave the three processes behind."""
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m demo",
        description="Replays a bag into dkt_node, listens like a planner, draws and measures.",
    )
    parser.add_argument("--bag", type=Path, default=_DEMO_BAG, help="default: the bag in dkt_ros")
    parser.add_argument("--checkpoint", type=Path, help="default: dkt-nano in dkt_ros")
    parser.add_argument("--output", type=Path, default=Path("demo_output"))
    parser.add_argument("--rate", type=float, help="bag seconds per second; default: by frames")
    for role in ("color", "depth", "camera_info", "truth", "mask"):
        flag = f"--{role.replace('_', '-')}-topic"
        parser.add_argument(flag, dest=role, metavar="TOPIC", help="default: by type and name")
    parser.add_argument(
        "--domain-id", type=int, help="ROS_DOMAIN_ID; default: one that is likely unused"
    )
    return parser


def _plan(args: argparse.Namespace) -> _Plan:
    roles = ("color", "depth", "camera_info", "truth", "mask")
    with BagReader(args.bag) as bag:
        named = {role: getattr(args, role) for role in roles if getattr(args, role)}
        topics = camera_topics(bag, named)
        frames = bag.topics[topics.color].count
        interval_s = _frame_interval_s(bag, topics)
        duration_s = (bag.end_ns - bag.start_ns) / 1e9
    if topics.depth is None:
        raise DktError(f"{args.bag}: no depth image found; name its topic with --depth-topic")
    checkpoint = checkpoint_folder(args.checkpoint)
    CheckpointInfo.read(checkpoint)
    rate = args.rate
    if rate is None:
        rate = max(interval_s / _SECONDS_PER_FRAME, duration_s / _LONGEST_REPLAY_S)
        rate = min(1.0, rate) or 1.0
    elif not 0 < rate < float("inf"):
        raise DktError(f"rate is {rate:g}, expected a positive number")
    domain_id = 1 + os.getpid() % 100 if args.domain_id is None else args.domain_id
    if not 0 <= domain_id <= _LAST_DOMAIN:
        raise DktError(f"domain ID is {domain_id}, expected 0 to {_LAST_DOMAIN}")
    output = args.output.resolve()
    check_writable(output / _REPORT)
    return _Plan(args.bag, topics, frames, duration_s, rate, checkpoint, output, domain_id)


def _frame_interval_s(bag: BagReader, topics: CameraTopics) -> float:
    """Median time between the first frames, 0 for a single one."""
    messages = itertools.islice(bag.messages([topics.color]), _FRAMES_TIMED)
    times = [message.time_ns for message in messages]
    return float(np.median(np.diff(times))) / 1e9 if len(times) > 1 else 0.0


def _run(plan: _Plan) -> None:
    """The three processes, from the first to the last message."""
    name = CheckpointInfo.read(plan.checkpoint).name
    received = plan.output / "received"
    shutil.rmtree(received, ignore_errors=True)
    environment = {**local_dds_environment(plan.domain_id), "PYTHONUNBUFFERED": "1"}
    print(
        f"Playing {plan.bag} ({plan.frames} frames in {plan.duration_s:.1f} s) at "
        f"{plan.rate:.2g} times its speed into dkt_node with {name}.\n"
        f"To watch: ROS_DOMAIN_ID={plan.domain_id}, /dkt/depth_color and /dkt/points.",
        flush=True,
    )
    with ProcessGroup(plan.output / "logs", environment) as processes:
        processes.start("subscriber", _subscriber_command(plan, received))
        processes.start("node", _node_command(plan))
        processes.wait_for(
            lambda: subscriber.READY in processes.log_text("subscriber"),
            "subscriber",
            timeout_s=_STARTUP_TIMEOUT_S,
        )
        processes.start("replay", _replay_command(plan))
        replay_s = plan.duration_s / plan.rate

        def replay_has_ended() -> bool:
            # The node stays alive without its network; it says so once.
            if "cannot configure" in processes.log_text("node"):
                raise DktError(f"the node did not start:\n{processes.tail('node')}")
            return processes.has_ended("replay")

        processes.wait_for(
            replay_has_ended,
            "end of the replay",
            may_end=["replay"],
            timeout_s=_STARTUP_TIMEOUT_S + 2.0 * replay_s,
        )
        processes.interrupt("subscriber")
        processes.wait_for(
            lambda: processes.has_ended("subscriber"),
            "end of the subscriber",
            may_end=["replay", "subscriber"],
            timeout_s=_END_TIMEOUT_S,
        )
        if not Reception.read(received).answered:
            raise DktError(
                f"the node published no depth\n{processes.tail('node')}\n{processes.tail('replay')}"
            )


def _subscriber_command(plan: _Plan, received: Path) -> list[str]:
    command = [sys.executable, "-m", subscriber.__name__, "--color", plan.topics.color]
    compressed = base_topic(plan.topics.color) != plan.topics.color
    return [*command, *(["--compressed"] if compressed else []), "--output", str(received)]


def _node_command(plan: _Plan) -> list[str]:
    topics = plan.topics
    assert topics.depth is not None
    color, depth = base_topic(topics.color), base_topic(topics.depth)
    return [
        *(sys.executable, "-m", "dkt_ros.ros.camera", "--ros-args"),
        *("-r", f"color/image:={color}"),
        *("-r", f"depth/image:={depth}"),
        *("-r", f"color/camera_info:={topics.camera_info}"),
        *("-p", f"color_transport:={'raw' if color == topics.color else 'compressed'}"),
        *("-p", f"depth_transport:={'raw' if depth == topics.depth else 'compressedDepth'}"),
        *("-p", f"checkpoint:={plan.checkpoint.resolve()}"),
    ]


def _replay_command(plan: _Plan) -> list[str]:
    return [
        *(sys.executable, "-m", "dkt_ros.ros.replay.node", str(plan.bag)),
        *("--rate", repr(plan.rate), "--topics", *plan.topics.camera()),
        *("--wait-for-subscribers", "1", "--wait-timeout", str(_STARTUP_TIMEOUT_S)),
    ]


def _evaluate(plan: _Plan) -> dict[str, Any]:
    """Compares what came with what is known; writes picture and reports, returns the summary."""
    received = plan.output / "received"
    reception = Reception.read(received)
    answered = {frame.stamp_ns: frame for frame in reception.answered}
    drawn = _drawn(reception)
    start_ns = min([*reception.sent[:1], *answered])
    comparison = Comparison()
    rows = []
    with BagReader(plan.bag) as bag:
        for recorded in read_frames(bag, plan.topics, answered):
            stamp_ns = recorded.stamp_ns
            depth = read_image(received, stamp_ns, "depth")
            assert depth is not None
            confidence = read_image(received, stamp_ns, "confidence")
            notes = comparison.add(recorded, depth, confidence)
            if stamp_ns in drawn:
                moment = f"t = {(stamp_ns - start_ns) / 1e9:.1f} s, {answered[stamp_ns].state}"
                rows.append(Row(recorded, depth, confidence, moment, notes))
    content = {
        "bag": plan.bag.name,
        "checkpoint": CheckpointInfo.read(plan.checkpoint).name,
        "rate": plan.rate,
        **summary(reception, plan.frames, comparison),
    }
    draw(rows, plan.output / "demo.png", headline(content))
    (plan.output / _REPORT).write_text(json.dumps(content, indent=1) + "\n")
    (plan.output / "report.md").write_text(as_markdown(content))
    shutil.rmtree(received)  # two uncompressed images per frame
    return content


def _drawn(reception: Reception) -> set[int]:
    """Stamps of the picture's rows: a few moments of one scene, of several each one's last.

    Scenes are what the node takes for such: the colour images between two gaps in their stamps.
    """
    answered = [frame.stamp_ns for frame in reception.answered]
    known = {frame.stamp_ns for frame in reception.with_depth}
    sent = sorted({*reception.sent, *answered})
    gap_ns = NodeParameters().max_gap_s * NANOSECONDS_PER_SECOND
    starts = [after for before, after in itertools.pairwise(sent) if after - before > gap_ns]
    scenes: dict[int, list[int]] = {}
    for stamp in answered:
        scenes.setdefault(bisect_right(starts, stamp), []).append(stamp)
    if len(scenes) == 1:
        return _spread_out(answered, _MOMENTS)
    # The node's buffer has filled by the end.
    ends = [max(known.intersection(stamps) or stamps) for stamps in scenes.values()]
    return _spread_out(ends, _MOST_SCENES)


def _spread_out(stamps: list[int], count: int) -> set[int]:
    """At most `count` of them, evenly spread, the last among them."""
    return {stamps[len(stamps) - 1 - index * len(stamps) // count] for index in range(count)}


def _tell(plan: _Plan, content: dict[str, Any]) -> None:
    print()
    errors = error_table(content)
    for line in [*errors, *([""] if errors else []), *latency_table(content)]:
        print(line)
    print(
        f"\nPicture:  {plan.output / 'demo.png'}"
        f"\nReport:   {plan.output / 'report.md'} (numbers: report.json; logs: logs/)"
    )
    for line in [*reasons(content), outcome(content)]:
        print(line)


if __name__ == "__main__":
    sys.exit(main())
