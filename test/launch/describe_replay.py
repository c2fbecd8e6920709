"""replay.launch.py: the demonstration's bag, compressed, through the node onto /dkt/depth."""

from __future__ import annotations

import tempfile
import unittest
from pathlib import Path
from typing import Any

import launch_testing.actions
import launch_testing.asserts
from fixtures.three_processes import START_PATIENCE_S, Planner
from fixtures.tiny_checkpoint import make_tiny_checkpoint
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from rcl_interfaces.srv import GetParameters

from dkt_ros.bags.reader import BagReader
from launch import LaunchDescription

ROOT = Path(__file__).resolve().parents[2]
BAG = ROOT / "dkt_ros" / "assets" / "demo" / "glassware"


def generate_test_description() -> LaunchDescription:
    """The bag's topics, compressed, as they are found in it; in slow motion, over and over."""
    arguments = {
        "bag": str(BAG),
        "rate": "0.5",
        "loop": "true",
        "checkpoint": str(make_tiny_checkpoint(tempfile.mkdtemp())),
        "device": "cpu",
    }
    replay = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(ROOT / "launch" / "replay.launch.py")),
        launch_arguments=arguments.items(),
    )
    return LaunchDescription([replay, launch_testing.actions.ReadyToTest()])


class TestDepth(unittest.TestCase):
    """While it runs."""

    def test_depth_comes_under_the_bags_stamps(self) -> None:
        planner = Planner()
        try:
            planner.wait_until(lambda: len(planner.depth) >= 3, "depth", START_PATIENCE_S)
            depth = dict(planner.depth)
            request = GetParameters.Request(names=["rate", "loop", "clock", "topics"])
            answer = planner.call(GetParameters, "/dkt_replay/get_parameters", request)
        finally:
            planner.close()
        rate, loop, clock, topics = answer.values
        assert (rate.double_value, loop.bool_value, clock.bool_value) == (0.5, True, True)
        assert len(topics.string_array_value) == 3
        with BagReader(BAG) as bag:
            start_ns, end_ns = bag.start_ns, bag.end_ns
        for stamp, message in depth.items():
            assert start_ns <= stamp <= end_ns
            assert message.encoding == "32FC1"
            assert message.header.frame_id


@launch_testing.post_shutdown_test()
class TestEnd(unittest.TestCase):
    """After Ctrl-C."""

    def test_exit_status(self, proc_info: Any) -> None:
        launch_testing.asserts.assertExitCodes(proc_info)
