"""Starts dkt_node for several cameras, as one YAML file says: a process each, or one for all.

ros2 launch dkt_ros cameras.launch.py config:=cell.yaml
The file is described in config/cell.yaml, which is an example, and in docs/cameras.md.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import yaml
from launch.actions import DeclareLaunchArgument, GroupAction, UnsetLaunchConfiguration
from launch.launch_description_sources.python_launch_file_utilities import (
    load_python_launch_file_as_module,
)
from launch_ros.actions import Node

from dkt_ros.ros.params.cameras import Camera, Cell, load_cell
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity

GRASP = load_python_launch_file_as_module(str(Path(__file__).with_name("grasp.launch.py")))

ARGUMENTS = (
    DeclareLaunchArgument("config", description="YAML file of the cameras, like config/cell.yaml"),
    *(
        argument
        for argument in GRASP.ARGUMENTS
        if argument.name in ("planner_params_file", "use_sim_time", "log_level")
    ),
)


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """All nodes, once the file is known to be in order."""
    given = GRASP.given_arguments(context, ARGUMENTS)
    cell = load_cell(Path(given["config"]), GRASP.CAMERAS)
    # As it is within the namespace that is pushed around this file.
    cameras = [
        replace(camera, namespace=GRASP.whole(context, camera.namespace).strip("/"))
        for camera in cell.cameras
    ]
    cell = replace(cell, cameras=tuple(cameras))
    planner_file = given["planner_params_file"]
    with_planner = [camera for camera in cell.cameras if camera.planner]
    GRASP.check_planner_file(planner_file, *(camera.namespace for camera in with_planner))
    clock = GRASP.clock(given)
    common = {
        "package": "dkt_ros",
        "ros_arguments": ["--log-level", given["log_level"]],
        "output": "screen",
        "emulate_tty": True,
    }
    nodes = (
        [one_process(cell, clock, {**common, **GRASP.executable("dkt_cameras", context)})]
        if cell.one_process
        else [
            Node(
                name="dkt_node",
                namespace=f"/{camera.namespace}",
                remappings=camera.preset.remappings,
                parameters=[{**camera.parameters, **clock}],
                **GRASP.executable("dkt_node", context),
                **common,
            )
            for camera in cell.cameras
        ]
    )
    planners = [
        planner(camera, planner_file, clock, {**common, **GRASP.executable("dkt_planner", context)})
        for camera in with_planner
    ]
    return [*GRASP.large_messages(), *nodes, *planners]


def one_process(cell: Cell, clock: dict[str, bool], common: dict[str, object]) -> GroupAction:
    """dkt_cameras; its parameters differ by node, which launch can say in a file alone.

    Its namespaces are whole: one that launch gives would hold for all of its nodes.
    """
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", suffix=".yaml", prefix="dkt_cameras_", delete=False
    ) as f:
        yaml.safe_dump(cell.parameter_file(**clock), f, sort_keys=False)
    node = Node(
        arguments=[camera.namespace for camera in cell.cameras],
        remappings=cell.remappings(),
        parameters=[f.name],
        on_exit=lambda *_: Path(f.name).unlink(missing_ok=True),
        **common,
    )
    return GroupAction([UnsetLaunchConfiguration("ros_namespace"), node])


def planner(camera: Camera, file: str, clock: dict[str, bool], common: dict[str, object]) -> Node:
    """dkt_planner beside a camera's node; both read the camera's calibration."""
    rectified = {"rectified": bool(camera.parameters.get("rectified", False))}
    return Node(
        name="dkt_planner",
        namespace=f"/{camera.namespace}",
        parameters=[rectified, *filter(None, [file, clock])],
        **common,
    )


def generate_launch_description() -> LaunchDescription:
    """Called by launch."""
    return GRASP.description(ARGUMENTS, start)
