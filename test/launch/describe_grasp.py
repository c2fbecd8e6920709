"""grasp.launch.py: arguments reach the node in the right order; it ends cleanly.

The node stays unconfigured (its parameter file says so), so that no network is loaded.
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

LAUNCH = Path(__file__).resolve().parents[2] / "launch" / "grasp.launch.py"
PARAMETERS = """
/**:
  ros__parameters:
    autostart: false
    rectified: false
    device: cuda
    steps: 3
"""


def generate_test_description() -> LaunchDescription:
    """ZED's preset says rectified; the file takes that back; the argument wins over the file."""
    params_file = Path(tempfile.mkdtemp()) / "params.yaml"
    params_file.write_text(PARAMETERS)
    arguments = {
        "camera": "zed",
        "depth_transport": "compressedDepth",
        "checkpoint": "/models/dkt",
        "device": "cpu",
        "warm_up_size": "360x640",
        "mode": "live",
        "backend": "onnxruntime",
        "engine_dir": "/models/dkt.engine",
        "planner": "antipodal",
        "namespace": "left",
        "use_sim_time": "True",  # as Python and nav2's launch files spell it
        "params_file": str(params_file),
        "log_level": "WARN",
    }
    grasp = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(LAUNCH)), launch_arguments=arguments.items()
    )
    return LaunchDescription([grasp, launch_testing.actions.ReadyToTest()])


class TestParameters(unittest.TestCase):
    """While it runs."""

    def test_who_wins(self) -> None:
        expected: dict[str, Any] = {
            "autostart": False,
            "rectified": False,
            "color_transport": "raw",
            "depth_transport": "compressedDepth",
            "checkpoint": "/models/dkt",
            "device": "cpu",
            "warm_up_size": "360x640",
            "mode": "live",
            "backend": "onnxruntime",
            "engine_dir": "/models/dkt.engine",
            "use_sim_time": True,
            "steps": 3,
        }
        planner = Planner("/left")
        try:
            request = GetParameters.Request(names=list(expected))
            answer = planner.call(GetParameters, "/left/dkt_node/get_parameters", request)
            seed = GetParameters.Request(names=["seed", "use_sim_time", "rectified"])
            answer_of_planner = planner.call(
                GetParameters, "/left/dkt_planner/get_parameters", seed
            )
        finally:
            planner.close()
        assert [value.type for value in answer_of_planner.values] == [2, 1, 1]
        assert answer_of_planner.values[1].bool_value
        assert answer_of_planner.values[2].bool_value, "as the preset has it"
        kinds = {1: "bool_value", 2: "integer_value", 4: "string_value"}
        values = [getattr(value, kinds[value.type]) for value in answer.values]
        seen = dict(zip(expected, values, strict=True))
        assert seen == expected, f"{seen} instead of {expected}"


@launch_testing.post_shutdown_test()
class TestEnd(unittest.TestCase):
    """After Ctrl-C."""

    def test_exit_status(self, proc_info: Any) -> None:
        launch_testing.asserts.assertExitCodes(proc_info)
