"""Starts dkt_node on a camera's topics; see `ros2 launch dkt_ros grasp.launch.py --show-args`."""

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch.actions import (
    DeclareLaunchArgument,
    LogInfo,
    OpaqueFunction,
    SetEnvironmentVariable,
)
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from dkt_ros.errors import DktError
from dkt_ros.ros.params.files import check_params_file
from dkt_ros.ros.params.presets import (
    CAMERA_PARAMETERS,
    CameraPreset,
    camera_names,
    chosen_preset,
)
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity

CONFIG = Path(__file__).parents[1] / "config"
CAMERAS = CONFIG / "cameras"
RVIZ = CONFIG / "rviz" / "dkt.rviz"
FAST_DDS = CONFIG / "fastdds.xml"
SPELT = {"true": "true", "1": "true", "false": "false", "0": "false", "": ""}
"""How switches may be written, in capitals too, as launch's own conditions take them."""
SWITCHES = ("use_sim_time", "rviz", "loop")
LOG_LEVELS = ("debug", "info", "warn", "error", "fatal")
PATHS = ("bag", "config", "params_file", "planner_params_file")
BY_NAME = ("checkpoint", "device", "mode", "backend", "engine_dir", *CAMERA_PARAMETERS)
"""Arguments that are parameters of the node."""
OF_LAUNCH = ("ros_namespace", "ros_params", "ros_remaps", "global_params")
"""What launch_ros keeps among the arguments."""

ARGUMENTS = (
    DeclareLaunchArgument(
        "camera",
        default_value="realsense",
        description=f"preset: {', '.join(camera_names(CAMERAS))}, or a .yaml file like theirs",
    ),
    DeclareLaunchArgument(
        "color_topic", default_value="", description="colour images; empty: the preset's topic"
    ),
    DeclareLaunchArgument(
        "depth_topic",
        default_value="",
        description="raw depth, registered to colour; empty: the preset's topic",
    ),
    DeclareLaunchArgument(
        "camera_info_topic",
        default_value="",
        description="colour's calibration; empty: the preset's topic",
    ),
    DeclareLaunchArgument(
        "frame",
        default_value="",
        description="frame_id of the colour images, RViz's fixed frame; empty: the preset's, which "
        "is its driver's default",
    ),
    DeclareLaunchArgument(
        "color_transport",
        default_value="",
        choices=["", "raw", "compressed"],
        description="empty: the preset's; not needed where color_topic ends in /compressed",
    ),
    DeclareLaunchArgument(
        "depth_transport",
        default_value="",
        choices=["", "raw", "compressedDepth"],
        description="empty: the preset's; not needed where depth_topic ends in a transport",
    ),
    DeclareLaunchArgument(
        "warm_up_size",
        default_value="",
        description="HEIGHTxWIDTH of the colour images, for which the network is warmed up; empty: "
        "the preset's, which is its driver's default",
    ),
    DeclareLaunchArgument(
        "checkpoint", default_value="", description="checkpoint folder; empty: dkt-nano"
    ),
    DeclareLaunchArgument(
        "device", default_value="", description="auto, cpu, cuda or cuda:N; empty: auto"
    ),
    DeclareLaunchArgument(
        "mode", default_value="", choices=["", "exact", "live"], description="empty: exact"
    ),
    DeclareLaunchArgument(
        "backend",
        default_value="",
        choices=["", "torch", "tensorrt", "onnxruntime"],
        description="what computes the network; empty: torch",
    ),
    DeclareLaunchArgument(
        "engine_dir",
        default_value="",
        description="folder made by `dkt engine build`, for backends other than torch",
    ),
    DeclareLaunchArgument(
        "params_file",
        default_value="",
        description="parameter file of the node, like config/dkt_node.yaml; wins over the preset",
    ),
    DeclareLaunchArgument(
        "planner",
        default_value="none",
        choices=["antipodal", "none"],
        description="start dkt_planner too: grasps when dkt/plan_grasps is called",
    ),
    DeclareLaunchArgument(
        "planner_params_file", default_value="", description="parameter file of dkt_planner"
    ),
    DeclareLaunchArgument(
        "namespace", default_value="", description="namespace of the node and its topics"
    ),
    DeclareLaunchArgument(
        "use_sim_time",
        default_value="",
        description="true or false: take the time from /clock; empty: as SetParameter around this "
        "file says, else false",
    ),
    DeclareLaunchArgument(
        "rviz", default_value="false", description="true or false: show the outputs in RViz"
    ),
    DeclareLaunchArgument(
        "log_level", default_value="info", description=f"one of {', '.join(LOG_LEVELS)}"
    ),
)


def output_topics() -> list[str]:
    """The node's outputs, relative; their message types take a second to import."""
    from dkt_ros.ros.topics import OUTPUTS

    return [output.topic for output in OUTPUTS]


def large_messages() -> list[LaunchDescriptionEntity]:
    """Has Fast DDS share enough memory for images, where nobody has chosen otherwise."""
    from dkt_ros.ros.probe import PROFILE_VARIABLES, profile_variable

    names = (*PROFILE_VARIABLES, "FASTDDS_BUILTIN_TRANSPORTS")
    chosen = any(os.environ.get(name) for name in names)
    if chosen or "fastrtps" not in os.environ.get("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp"):
        return []
    return [SetEnvironmentVariable(profile_variable(), str(FAST_DDS))]


def executable(name: str, context: LaunchContext) -> dict[str, str]:
    """A Node's arguments for a command that ends with launch.

    Launch leaves its processes behind where SIGTERM ends it; Linux sees to it, however launch ends.
    A prefix of the user's stands between, which launch itself would leave out.
    """
    if not shutil.which("setpriv"):
        return {"executable": name}
    chosen = context.launch_configurations
    prefix = chosen.get("launch-prefix", "")
    if not re.match(chosen.get("launch-prefix-filter", ""), name):
        prefix = ""
    own = "setpriv --pdeathsig TERM --"
    return {"executable": name, "exec_name": name, "prefix": f"{own} {prefix}"}


def given_arguments(
    context: LaunchContext, arguments: Sequence[DeclareLaunchArgument] = ARGUMENTS
) -> dict[str, str]:
    """The arguments' values; paths from the home directory are whole, as shells leave them."""
    given = {one.name: LaunchConfiguration(one.name).perform(context) for one in arguments}
    paths = {name: given[name] for name in PATHS if name in given}
    given |= {name: str(Path(path).expanduser()) for name, path in paths.items() if path}
    if "namespace" in given:
        given["namespace"] = whole(context, given["namespace"])
    given |= {name: switch(name, given[name]) for name in SWITCHES if name in given}
    if "log_level" in given:
        given["log_level"] = given["log_level"].lower()
        if given["log_level"] not in LOG_LEVELS:
            raise DktError(
                f"log_level is '{given['log_level']}', expected one of {', '.join(LOG_LEVELS)}"
            )
    return given


def switch(name: str, word: str) -> str:
    """The word as "true", "false" or "", which leaves it to others. Raises DktError."""
    if word.lower() not in SPELT:
        raise DktError(f"{name} is '{word}', expected true or false")
    return SPELT[word.lower()]


def whole(context: LaunchContext, namespace: str) -> str:
    """A namespace within that which PushRosNamespace has put around this file."""
    pushed = str(context.launch_configurations.get("ros_namespace") or "").strip("/")
    if namespace.startswith("/") or not pushed:
        return namespace
    return f"/{pushed}/{namespace.strip('/')}".rstrip("/")


def clock(given: Mapping[str, str]) -> dict[str, bool]:
    """The parameter that use_sim_time is, where it is given."""
    return {"use_sim_time": given["use_sim_time"] == "true"} if given["use_sim_time"] else {}


def misspelt(
    context: LaunchContext, arguments: Sequence[DeclareLaunchArgument]
) -> list[LaunchDescriptionEntity]:
    """Words on arguments that launch passes over in silence and that look like one of these."""
    known = [one.name for one in arguments]
    return [
        LogInfo(msg=f"argument {name} is not known and ignored: is {meant} meant?")
        for name in context.launch_configurations
        if name not in (*known, *OF_LAUNCH)
        for meant in get_close_matches(name, known, 1, 0.8)
    ]


def check_planner_file(path: str, *namespaces: str) -> None:
    """Raises DktError where a file is given that says nothing to the planners."""
    if path:
        check_params_file(
            Path(path), *namespaces, node="dkt_planner", argument="planner_params_file"
        )


def start(
    context: LaunchContext, preset: CameraPreset | None = None
) -> list[LaunchDescriptionEntity]:
    """The node, and RViz if it is wanted.

    Everything that can be wrong is looked at before launch gets any of it: what launch has started
    stays behind when a later action fails.
    """
    given = given_arguments(context)
    preset = preset or chosen_preset(CAMERAS, given)
    if given["params_file"]:
        check_params_file(Path(given["params_file"]), given["namespace"])
    planner_file = given["planner_params_file"]
    check_planner_file(planner_file, given["namespace"])
    if given["rviz"] == "true":
        try:
            get_package_prefix("rviz2")
        except PackageNotFoundError as error:
            raise DktError("rviz:=true, but rviz2 is not installed: apt install ros-$ROS_DISTRO-"
                           "rviz2, or leave rviz out") from error  # fmt: skip
    explicit: dict[str, str | bool] = {name: given[name] for name in BY_NAME if given[name]}
    explicit |= clock(given)
    # ROS lets the first mention of a wildcard or node name decide which of them wins. In this order
    # an argument wins over the parameter file, and the file, however it names the node, over the
    # preset.
    from_preset = [f"{name}:={json.dumps(value)}" for name, value in preset.parameters.items()]
    parameters = [*filter(None, [given["params_file"], explicit])]
    namespace = given["namespace"]
    prefix = f"/{namespace.strip('/')}" if namespace.strip("/") else ""
    actions: list[LaunchDescriptionEntity] = [
        *large_messages(),
        Node(
            package="dkt_ros",
            **executable("dkt_node", context),
            name="dkt_node",
            namespace=namespace,
            remappings=preset.remappings,
            parameters=parameters,
            ros_arguments=[
                *(word for setting in from_preset for word in ("-p", setting)),
                "--log-level",
                given["log_level"],
            ],
            output="screen",
            emulate_tty=True,
        ),
    ]
    if given["planner"] == "antipodal":
        actions.append(
            Node(
                package="dkt_ros",
                **executable("dkt_planner", context),
                name="dkt_planner",
                namespace=namespace,
                parameters=[*filter(None, [planner_file, clock(given)])],
                ros_arguments=[
                    # Both read the camera's calibration.
                    *(w for s in from_preset if s.startswith("rectified:") for w in ("-p", s)),
                    "--log-level",
                    given["log_level"],
                ],
                output="screen",
                emulate_tty=True,
            )
        )
    if given["rviz"] == "true":
        actions.append(
            Node(
                package="rviz2",
                **executable("rviz2", context),
                arguments=["-d", str(RVIZ), *(["-f", preset.frame] if preset.frame else [])],
                remappings=[(f"/{topic}", f"{prefix}/{topic}") for topic in output_topics()],
                parameters=[*filter(None, [clock(given)])],
            )
        )
    return actions


def description(
    arguments: Sequence[DeclareLaunchArgument],
    begin: Callable[[LaunchContext], list[LaunchDescriptionEntity]],
) -> LaunchDescription:
    """Of a file with these arguments; names that look like theirs are told before it begins."""
    hints = OpaqueFunction(function=misspelt, args=[arguments])
    return LaunchDescription([*arguments, hints, OpaqueFunction(function=begin)])


def generate_launch_description() -> LaunchDescription:
    """Called by launch."""
    return description(ARGUMENTS, start)
