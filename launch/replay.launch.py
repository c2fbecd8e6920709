"""Replays a rosbag into dkt_node; takes every argument of grasp.launch.py besides its own.

The camera's topics alone are played, as soon as the node listens. For others run dkt_replay.
"""

from pathlib import Path

from launch.actions import (
    DeclareLaunchArgument,
    LogInfo,
    RegisterEventHandler,
    Shutdown,
)
from launch.event_handlers import OnProcessExit
from launch.events.process import ProcessExited
from launch.launch_description_sources.python_launch_file_utilities import (
    load_python_launch_file_as_module,
)
from launch_ros.actions import Node

from dkt_ros.errors import DktError
from dkt_ros.ros.params.presets import preset_of_bag
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity

GRASP = load_python_launch_file_as_module(str(Path(__file__).with_name("grasp.launch.py")))
PATIENCE_S = 600.0  # a large network loads for minutes on its first day

ARGUMENTS = (
    DeclareLaunchArgument("bag", description="ROS 1 or ROS 2 bag: folder, .mcap, .db3 or .bag"),
    DeclareLaunchArgument(
        "rate", default_value="1.0", description="speed: seconds of the bag per second"
    ),
    DeclareLaunchArgument(
        "loop", default_value="false", description="true or false: start again at the end"
    ),
    DeclareLaunchArgument(
        "use_sim_time", default_value="true", description="true or false: take time from the bag"
    ),
    DeclareLaunchArgument(
        "camera",
        default_value="",
        description="preset as in grasp.launch.py; empty: the camera's topics are found in the bag",
    ),
)


def replay(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The player of the camera's topics and the node, once all that was given is known to do."""
    arguments = GRASP.given_arguments(context)
    given = arguments | GRASP.given_arguments(context, ARGUMENTS)
    try:
        rate = float(given["rate"])
    except ValueError as error:
        raise DktError(f"rate is '{given['rate']}', expected a number such as 0.5") from error
    if not 0.0 < rate < float("inf"):
        raise DktError(f"rate is {rate:g}, expected a positive number")
    preset = preset_of_bag(GRASP.CAMERAS, arguments, Path(given["bag"]), given["namespace"])
    actions = GRASP.start(context, preset)
    node = next(one for one in actions if isinstance(one, Node))  # dkt_node comes first
    player = Node(
        package="dkt_ros",
        **GRASP.executable("dkt_replay", context),
        name="dkt_replay",
        parameters=[
            {
                "bag": given["bag"],
                "rate": rate,
                "loop": given["loop"] == "true",
                "clock": given["use_sim_time"] == "true",
                "topics": preset.topics(given["namespace"]),
                "wait_for_subscribers": 1,
                "wait_timeout_s": PATIENCE_S,
            }
        ],
        output="screen",
        emulate_tty=True,
    )
    ends = [
        OnProcessExit(target_action=player, on_exit=after_replay),
        OnProcessExit(target_action=node, on_exit=after_node),
    ]
    return [*map(RegisterEventHandler, ends), *actions, player]


def after_replay(event: ProcessExited, context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """A player that failed ends the launch; after the bag's end the node stays to be looked at."""
    if event.returncode or context.is_shutdown:
        return end("dkt_replay", event, context)
    return [LogInfo(msg="the bag has been played; the node goes on, Ctrl-C ends it")]


def after_node(event: ProcessExited, context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Without the node the player would wait for its subscriptions, or play to nobody."""
    return end("dkt_node", event, context)


def end(name: str, event: ProcessExited, context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Ends the launch because of this process, unless it is ending already; says why."""
    if context.is_shutdown:
        return []
    reason = f"{name} ended with status {event.returncode}, see above: everything is ended"
    return [LogInfo(msg=reason), Shutdown(reason=reason)]


def generate_launch_description() -> LaunchDescription:
    """Called by launch; an argument of both files is this one's."""
    own = {argument.name for argument in ARGUMENTS}
    others = [argument for argument in GRASP.ARGUMENTS if argument.name not in own]
    return GRASP.description([*ARGUMENTS, *others], replay)
