"""Starts dkt_node on a camera's topics; see `ros2 launch dkt_ros grasp.launch.py --show-args`."""

from pathlib import Path

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from dkt_ros.ros.params.presets import camera_names, chosen_preset
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity

CONFIG = Path(__file__).parents[1] / "config"
CAMERAS = CONFIG / "cameras"
RVIZ = CONFIG / "rviz" / "dkt.rviz"
SWITCH = ["true", "false"]

ARGUMENTS = (
    DeclareLaunchArgument(
        "camera",
        default_value="realsense",
        description=f"preset: {', '.join(camera_names(CAMERAS))}, or a .yaml file like theirs",
    ),
    DeclareLaunchArgument("color_topic", default_value="", description="instead of the preset's"),
    DeclareLaunchArgument("depth_topic", default_value="", description="instead of the preset's"),
    DeclareLaunchArgument(
        "camera_info_topic", default_value="", description="instead of the preset's"
    ),
    DeclareLaunchArgument(
        "color_transport",
        default_value="",
        choices=["", "raw", "compressed"],
        description="instead of the preset's; color_topic stays the topic without /compressed",
    ),
    DeclareLaunchArgument(
        "depth_transport",
        default_value="",
        choices=["", "raw", "compressedDepth"],
        description="instead of the preset's; depth_topic stays the topic without its suffix",
    ),
    DeclareLaunchArgument(
        "warm_up_size",
        default_value="",
        description="HEIGHTxWIDTH of the colour image, which the network is made ready for; "
        "instead of the preset's, which is its driver's default",
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
        description="parameters of the node, like config/dkt_node.yaml; wins over the preset",
    ),
    DeclareLaunchArgument("namespace", default_value="", description="of the node and its topics"),
    DeclareLaunchArgument(
        "use_sim_time", default_value="false", choices=SWITCH, description="time from /clock"
    ),
    DeclareLaunchArgument(
        "rviz", default_value="false", choices=SWITCH, description="show the outputs in RViz"
    ),
    DeclareLaunchArgument(
        "log_level", default_value="info", description="debug, info, warn, error or fatal"
    ),
)


def output_topics() -> list[str]:
    """The node's outputs, relative; their message types take a second to import."""
    from dkt_ros.ros.topics import OUTPUTS

    return [output.topic for output in OUTPUTS]


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The node, and RViz if it is wanted."""
    given = {
        argument.name: LaunchConfiguration(argument.name).perform(context) for argument in ARGUMENTS
    }
    preset = chosen_preset(CAMERAS, given)
    by_name = (
        "checkpoint",
        "device",
        "mode",
        "backend",
        "engine_dir",
        "color_transport",
        "depth_transport",
        "warm_up_size",
    )
    explicit = {name: given[name] for name in by_name if given[name]}
    explicit["use_sim_time"] = given["use_sim_time"] == "true"
    # ROS lets the first mention of a wildcard or node name decide which of them wins. In this order
    # an argument wins over the parameter file, and the file, however it names the node, over the
    # preset.
    from_preset = [f"{name}:={value}" for name, value in preset.parameters.items()]
    parameters = [*filter(None, [given["params_file"]]), explicit]
    namespace = given["namespace"]
    prefix = f"/{namespace.strip('/')}" if namespace.strip("/") else ""
    actions: list[LaunchDescriptionEntity] = [
        Node(
            package="dkt_ros",
            executable="dkt_node",
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
        )
    ]
    if given["rviz"] == "true":
        actions.append(
            Node(
                package="rviz2",
                executable="rviz2",
                arguments=["-d", str(RVIZ)],
                remappings=[(f"/{topic}", f"{prefix}/{topic}") for topic in output_topics()],
                parameters=[{"use_sim_time": given["use_sim_time"] == "true"}],
            )
        )
    return actions


def generate_launch_description() -> LaunchDescription:
    """Called by launch."""
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=start)])
