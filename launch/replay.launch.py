"""Replays a rosbag into dkt_node; takes every argument of grasp.launch.py besides its own.

The camera's topics alone are played, as soon as the node listens. For others run dkt_replay.
"""

from pathlib import Path

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from dkt_ros.ros.params.presets import PRESET_ARGUMENTS, chosen_preset
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity

FOLDER = Path(__file__).parent
CAMERAS = FOLDER.parent / "config" / "cameras"
SWITCH = ["true", "false"]
PATIENCE_S = 600.0  # a large network loads for minutes on its first day

ARGUMENTS = (
    DeclareLaunchArgument("bag", description="ROS 1 or ROS 2 bag: folder, .mcap, .db3 or .bag"),
    DeclareLaunchArgument("rate", default_value="1.0", description="bag seconds per second"),
    DeclareLaunchArgument(
        "loop", default_value="false", choices=SWITCH, description="start again at the end"
    ),
    DeclareLaunchArgument(
        "use_sim_time", default_value="true", choices=SWITCH, description="time from the bag"
    ),
)


def replay(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The player of the camera's topics."""

    def given(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    preset = chosen_preset(CAMERAS, {name: given(name) for name in PRESET_ARGUMENTS})
    player = Node(
        package="dkt_ros",
        executable="dkt_replay",
        name="dkt_replay",
        parameters=[
            {
                "bag": given("bag"),
                "rate": float(given("rate")),
                "loop": given("loop") == "true",
                "clock": given("use_sim_time") == "true",
                "topics": preset.topics(given("namespace")),
                "wait_for_subscribers": 1,
                "wait_timeout_s": PATIENCE_S,
            }
        ],
        output="screen",
        emulate_tty=True,
    )
    return [player]


def generate_launch_description() -> LaunchDescription:
    """Called by launch; what grasp.launch.py declares is known to replay() afterwards."""
    node = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(FOLDER / "grasp.launch.py")),
    )
    return LaunchDescription([*ARGUMENTS, node, OpaqueFunction(function=replay)])
