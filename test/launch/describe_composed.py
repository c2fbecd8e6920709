"""The launch files within another: its namespace and its SetParameter hold; they end cleanly.

The nodes stay unconfigured, so that no network is loaded.
"""

from __future__ import annotations

import tempfile
import unittest
from pathlib import Path

import launch_testing.actions
import launch_testing.asserts
from fixtures.three_processes import Planner
from launch.actions import GroupAction, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_ros.actions import PushRosNamespace, SetParameter
from rcl_interfaces.srv import GetParameters

from launch import LaunchDescription

LAUNCH = Path(__file__).resolve().parents[2] / "launch"
OWN = "/cell/arm/dkt_node:\n  ros__parameters: {autostart: false, steps: 3}\n"
CELL = """
one_process: true
parameters: {autostart: false, steps: 4}
cameras: {left: {camera: none}, right: {camera: zed}}
"""


def included(name: str, **arguments: str) -> IncludeLaunchDescription:
    source = PythonLaunchDescriptionSource(str(LAUNCH / f"{name}.launch.py"))
    return IncludeLaunchDescription(source, launch_arguments=arguments.items())


def generate_test_description() -> LaunchDescription:
    """A simulated cell: an arm's camera by itself, two more in one process."""
    folder = Path(tempfile.mkdtemp())
    own, cell = folder / "own.yaml", folder / "cell.yaml"
    own.write_text(OWN)
    cell.write_text(CELL)
    group = GroupAction(
        [
            PushRosNamespace("cell"),
            SetParameter("use_sim_time", True),
            included("grasp", namespace="arm", params_file=str(own)),
            included("cameras", config=str(cell)),
        ]
    )
    return LaunchDescription([group, launch_testing.actions.ReadyToTest()])


class TestParameters(unittest.TestCase):
    """While it runs."""

    def test_each_is_in_the_namespace_and_on_the_clock_of_its_group(self) -> None:
        planner = Planner("/cell/arm")
        names = ["use_sim_time", "autostart", "steps"]
        try:
            for camera, steps in (("arm", 3), ("left", 4), ("right", 4)):
                request = GetParameters.Request(names=names)
                service = f"/cell/{camera}/dkt_node/get_parameters"
                clock, autostart, own = planner.call(GetParameters, service, request).values
                assert clock.bool_value, camera
                assert not autostart.bool_value, camera
                assert own.integer_value == steps, camera
        finally:
            planner.close()


@launch_testing.post_shutdown_test()
class TestEnd(unittest.TestCase):
    """After Ctrl-C."""

    def test_exit_status(self, proc_info: object) -> None:
        launch_testing.asserts.assertExitCodes(proc_info)
