"""The words after the nodes' commands: ours, ROS's, and what their `--help` says.

Knows words; nothing of what becomes of them, and nothing of rclpy, which would take `--help` for
one of its own and start the node.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence

from dkt_ros.ros.params.docs import parameters_text
from dkt_ros.ros.params.planner_parameters import PlannerParameters

_DESCRIPTION = """\
Metric depth of glass, clear plastic and polished metal, from a camera's colour and raw depth.

With a camera's driver running, start it by its preset, which maps the topics:

  ros2 launch dkt_ros grasp.launch.py camera:=realsense
  ros2 launch dkt_ros grasp.launch.py --show-args

or by itself:

  dkt_node --ros-args --params-file config/dkt_node.yaml -p device:=cuda \\
      -r color/image:=/camera/color/image_raw -r color/camera_info:=/camera/color/camera_info \\
      -r depth/image:=/camera/aligned_depth_to_color/image_raw
"""


_PLANNER = """\
Grasps for a parallel-jaw gripper, from depth that dkt_node fuses and vouches for.

  ros2 launch dkt_ros grasp.launch.py camera:=realsense planner:=antipodal
  ros2 service call /dkt/plan_grasps dkt_ros/srv/PlanGrasps

calls:      dkt/capture_depth     dkt_ros/CaptureDepth, of dkt_node
serves:     dkt/plan_grasps       dkt_ros/PlanGrasps
published:  dkt/grasps            geometry_msgs/PoseArray, the best first
            dkt/grasp_candidates  dkt_ros/GraspCandidates, the same with scores and widths
            dkt/grasp_markers     visualization_msgs/MarkerArray, where that is installed
"""


_CAMERAS = """\
dkt_node for several cameras in one process, in a namespace each, by one network that is held in
memory once. The cameras take turns at it.

  dkt_cameras left right --ros-args --params-file cell.yaml \\
      -r /left/color/image:=/left/camera/color/image_raw ...
  ros2 launch dkt_ros cameras.launch.py config:=cell.yaml

A parameter file sets what holds for one camera under its node's name, /left/dkt_node, and what
holds for all under /**.
"""


def split_ros_args(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Our arguments and those between `--ros-args` and `--` (or the end).

    rclpy's own remove_ros_args takes the value of `--remap /a:=/b` away, as a rule of old syntax.
    """
    own: list[str] = []
    ros: list[str] = []
    target = own
    for word in argv:
        if word == "--ros-args":
            target = ros
        elif word == "--" and target is ros:
            target = own
        else:
            target.append(word)
    return own, ros


def parameter_files(ros_words: Sequence[str]) -> list[str]:
    """What stands behind --params-file, among the words between `--ros-args` and `--`."""
    return [path for word, path in itertools.pairwise(ros_words) if word == "--params-file"]


def node_parser(topics: str) -> argparse.ArgumentParser:
    """The command line of `dkt_node`: everything that is set on it is a ROS argument."""
    about = f"{topics}\nparameters (a file with all of them: config/dkt_node.yaml):\n\n"
    return _parser("dkt_node", _DESCRIPTION, about + parameters_text())


def cameras_parser() -> argparse.ArgumentParser:
    """The command line of `dkt_cameras`."""
    parser = _parser("dkt_cameras", _CAMERAS, "Everything else as of dkt_node: dkt_node --help\n")
    parser.usage = f"{parser.usage}".replace("[--ros", "NAMESPACE [NAMESPACE ...] [--ros")
    parser.add_argument(
        "namespaces", nargs="+", metavar="NAMESPACE", help="one for each camera, such as left"
    )
    return parser


def planner_parser() -> argparse.ArgumentParser:
    """The command line of `dkt_planner`."""
    return _parser("dkt_planner", _PLANNER, "parameters:\n\n" + parameters_text(PlannerParameters))


def _parser(name: str, description: str, epilog: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog=name,
        usage=f"{name} [-h] [--ros-args [-p PARAMETER:=VALUE ...] [-r FROM:=TO ...] ...]",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
