"""cameras.launch.py with one process for all: each node's parameters and topics; it ends cleanly.

The nodes stay unconfigured, so that no network is loaded.
"""

from __future__ import annotations

import tempfile
import unittest
from pathlib import Path
from typing import Any

import launch_testing.actions
import launch_testing.asserts
from fixtures.three_processes import Planner
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from rcl_interfaces.srv import GetParameters

from launch import LaunchDescription

LAUNCH = Path(__file__).resolve().parents[2] / "launch" / "cameras.launch.py"
CELL = """
one_process: true
parameters: {autostart: false, device: cpu}
cameras:
  left: {camera: zed, planner: antipodal, parameters: {max_depth_m: 2}}
  cell/right: {camera: realsense, parameters: {depth_transport: compressedDepth}}
"""


def generate_test_description() -> LaunchDescription:
    """Both in one process, a planner beside the left one."""
    config = Path(tempfile.mkdtemp()) / "cell.yaml"
    config.write_text(CELL)
    arguments = {"config": str(config), "use_sim_time": "true", "log_level": "warn"}
    cameras = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(LAUNCH)), launch_arguments=arguments.items()
    )
    return LaunchDescription([cameras, launch_testing.actions.ReadyToTest()])


class TestParameters(unittest.TestCase):
    """While it runs."""

    def test_each_has_its_own(self) -> None:
        names = ["device", "rectified", "max_depth_m", "depth_transport", "use_sim_time"]
        expected = {
            "/left/dkt_node": ["cpu", True, 2.0, "raw", True],
            "/cell/right/dkt_node": ["cpu", False, 10.0, "compressedDepth", True],
        }
        kinds = {1: "bool_value", 3: "double_value", 4: "string_value"}
        planner = Planner("/left")
        try:
            for node, values in expected.items():
                request = GetParameters.Request(names=names)
                answer = planner.call(GetParameters, f"{node}/get_parameters", request)
                seen = [getattr(value, kinds[value.type]) for value in answer.values]
                assert seen == values, f"{node}: {seen} instead of {values}"
            request = GetParameters.Request(names=["rectified"])
            answer = planner.call(GetParameters, "/left/dkt_planner/get_parameters", request)
            assert answer.values[0].bool_value, "as the camera's node has it"
        finally:
            planner.close()


@launch_testing.post_shutdown_test()
class TestEnd(unittest.TestCase):
    """After Ctrl-C."""

    def test_exit_status(self, proc_info: Any) -> None:
        launch_testing.asserts.assertExitCodes(proc_info)
