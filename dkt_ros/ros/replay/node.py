"""`dkt_replay`: a rosbag, ROS 1 or ROS 2, onto topics.

    dkt_replay BAG [--rate 0.5] [--loop] [--clock] [--topics /a /b] [--remap /a:=/b]

Every option is a ROS parameter of the node `dkt_replay` too (`--ros-args -p rate:=0.5`), which wins
over the option. Knows the options; the playing is bag_player's.

| Published | type | meaning |
|---|---|---|
| the bag's topics | as recorded | at the recorded pace, with the recorded stamps |
| /clock | rosgraph_msgs/Clock | the bag's time, with --clock |

With --loop stamps (and /clock) jump back at the start of every pass.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor

from dkt_ros.bags.reader import BagReader
from dkt_ros.checks import Problem
from dkt_ros.errors import DktError
from dkt_ros.ros.params.command_line import split_ros_args
from dkt_ros.ros.params.declarations import declare
from dkt_ros.ros.params.spec import Applies, Parameters, Value, parameter
from dkt_ros.ros.process import interruptible, taking_apart
from dkt_ros.ros.replay.bag_player import BagPlayer, Pace
from dkt_ros.ros.requests import CarefulNode
from dkt_ros.ros.ros_arguments import init, naming_arguments
from dkt_ros.ros.sending import SteadySpin
from dkt_ros.wording import counted

_LATE_S = 0.1


def _option(default: Value, help_text: str) -> Any:
    return parameter(default, help_text, Applies.AT_START)


@dataclass(frozen=True)
class ReplayOptions(Parameters):
    """What is played and how; command line and ROS parameters are made from these fields."""

    bag: str = _option("", "bag folder, .mcap, .db3 or ROS 1 .bag file")
    rate: float = _option(1.0, "bag seconds per second")
    loop: bool = _option(False, "start again at the end, until interrupted")
    clock: bool = _option(False, "publish the bag's time on /clock")
    clock_hz: float = _option(100.0, "how often /clock is published, at least")
    topics: tuple[str, ...] = _option((), "topics to play (default: all)")
    start_delay_s: float = _option(
        0.0, "seconds between the publishers' start and the first message"
    )
    wait_for_subscribers: int = _option(
        0, "begin when every topic of --topics, or any of a whole bag, has this many subscribers"
    )
    wait_timeout_s: float = _option(60.0, "how long to wait for them before giving up")
    queue_depth: int = _option(20, "messages per topic kept for slow subscribers, at least")

    def joint_problems(self) -> Iterator[Problem]:
        """A bag has to be named, and nothing waits for less than no time."""
        if not self.bag:
            text = "no bag given; expected `dkt_replay BAG` or the parameter `bag`"
            yield Problem(text, ("bag",))
        for name in ("start_delay_s", "wait_for_subscribers", "wait_timeout_s"):
            if getattr(self, name) < 0:
                text = f"{name} is {getattr(self, name):g}, expected 0 or more"
                yield Problem(text, (name,))

    @property
    def pace(self) -> Pace:
        """How the player is to play."""
        clock_hz = self.clock_hz if self.clock else 0.0
        if self.clock and not clock_hz > 0:
            raise DktError(f"clock_hz is {self.clock_hz:g}, expected a positive number")
        return Pace(self.rate, clock_hz, self.topics, self.queue_depth)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs until the bag's end or an interrupt; returns 2 for an error that the user can mend."""
    own, ros = split_ros_args(sys.argv[1:] if argv is None else argv)
    given = vars(_parser().parse_args(own))
    for remap in given.pop("remap"):
        ros += ["--remap", remap]
    with ExitStack() as ends:
        ends.callback(rclpy.try_shutdown)
        try:
            init(["--ros-args", *ros])
            with interruptible():
                with naming_arguments():
                    node = CarefulNode("dkt_replay")
                ends.callback(_end, node)
                _run(node, given)
        except DktError as error:
            print(f"dkt_replay: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            pass
    return 0


def _end(node: CarefulNode) -> None:
    with taking_apart():
        node.destroy_node()


def _run(node: CarefulNode, given: dict[str, Any]) -> None:
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    # A parameter's override wins over the command line.
    words = {name: value for name, value in given.items() if value is not None}
    options = declare(node, ReplayOptions, words)
    with BagReader(options.bag) as bag:
        player = BagPlayer(node, SteadySpin(executor, node.report), bag, options.pace)
        if options.wait_for_subscribers:
            player.wait_for_subscribers(options.wait_for_subscribers, options.wait_timeout_s)
        player.pause(options.start_delay_s)
        started = time.monotonic()
        passes, told_s = 0, _LATE_S
        while passes == 0 or options.loop:
            if passes:
                player.pause(player.loop_gap_s())
            late_s = player.play()
            passes += 1
            if late_s > told_s:
                told_s = 2.0 * late_s  # of many passes not each
                node.get_logger().warning(
                    f"messages were up to {late_s:.2f} s late; lower --rate or play fewer topics"
                )
        player.finish()
        seconds = time.monotonic() - started
        node.get_logger().info(
            f"played {options.bag}: {counted(player.published, 'message')} on "
            f"{counted(len(player.topics), 'topic')} in {seconds:.1f} s"
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dkt_replay",
        description="Plays a rosbag, ROS 1 or ROS 2, onto topics. Options are ROS parameters too.",
    )
    for item in fields(ReplayOptions):
        text = item.metadata["spec"].description
        if item.name == "bag":
            parser.add_argument("bag", nargs="?", help=text)
            continue
        flag = f"--{item.name.removesuffix('_s').replace('_', '-')}"
        if isinstance(item.default, bool):
            parser.add_argument(flag, dest=item.name, action="store_true", default=None, help=text)
        elif isinstance(item.default, tuple):
            parser.add_argument(flag, dest=item.name, nargs="+", metavar="TOPIC", help=text)
        else:
            text = f"{text}; default {item.default:g}"
            kind = type(item.default)
            parser.add_argument(flag, dest=item.name, type=kind, metavar="N", help=text)
    parser.add_argument(
        "--remap", action="append", default=[], metavar="FROM:=TO", help="play FROM as TO"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
