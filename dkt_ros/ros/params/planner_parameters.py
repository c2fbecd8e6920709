"""dkt_planner's parameters, each once; declared and documented as dkt_node's are. Without rclpy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dkt_ros.checks import Problem
from dkt_ros.grasp.antipodal import GraspConfig, Gripper, no_room
from dkt_ros.ros.params.spec import Applies, Parameters, parameter

_GRIPPER = Gripper()
_CONFIG = GraspConfig()


@dataclass(frozen=True)
class PlannerParameters(Parameters):
    """Everything that can be set on `dkt_planner`."""

    autostart: bool = parameter(
        True, "Configure and activate at start, without a lifecycle manager.", Applies.AT_START
    )
    period_s: float = parameter(
        0.0,
        "Interval at which it plans by itself; 0: only when dkt/plan_grasps is called.",
        Applies.AT_ONCE,
        unit="s",
        minimum=0.0,
        maximum=3600.0,
    )
    frames: int = parameter(
        5,
        "Depth images that dkt_node fuses for one plan.",
        Applies.AT_ONCE,
        minimum=1,
        maximum=64,
    )
    timeout_s: float = parameter(
        10.0,
        "How long to wait for these depth images.",
        Applies.AT_ONCE,
        unit="s",
        minimum=0.1,
        maximum=600.0,
    )
    accept_held: bool = parameter(
        False, "Also plan on depth that uses an earlier frame's scale (HELD).", Applies.AT_ONCE
    )
    rectified: bool = parameter(
        False, "As dkt_node's: use P of camera_info instead of K.", Applies.AT_ONCE
    )
    up_frame: str = parameter(
        "",
        "A tf frame whose z points up, so that no wall is taken for the table. Empty: the table "
        "is the plane on which objects stand, or else the largest. Needs tf2_ros.",
        Applies.ON_CONFIGURE,
    )
    min_confidence: float = parameter(
        _CONFIG.min_confidence,
        "Smallest mean of dkt/confidence at each contact; 0: also grasp where depth has no "
        "confidence.",
        Applies.AT_ONCE,
        minimum=0.0,
        maximum=1.0,
    )
    max_spread_m: float = parameter(
        0.01,
        "Depth that varies by more than this over the frames counts as unknown.",
        Applies.AT_ONCE,
        unit="m",
        minimum=0.0001,
        maximum=1.0,
    )
    max_unseen: float = parameter(
        _CONFIG.max_unseen,
        "Largest share of the fingers' space that the camera may not have seen.",
        Applies.AT_ONCE,
        minimum=0.0,
        maximum=1.0,
    )
    max_width_m: float = parameter(
        _GRIPPER.max_width,
        "Gripper opening.",
        Applies.AT_ONCE,
        unit="m",
        minimum=0.005,
        maximum=1.0,
    )
    finger_thickness_m: float = parameter(
        _GRIPPER.finger_thickness,
        "Size of a finger along its closing direction.",
        Applies.AT_ONCE,
        unit="m",
        minimum=0.001,
        maximum=0.2,
    )
    finger_breadth_m: float = parameter(
        _GRIPPER.finger_breadth,
        "Size of a finger across its closing direction.",
        Applies.AT_ONCE,
        unit="m",
        minimum=0.001,
        maximum=0.2,
    )
    finger_length_m: float = parameter(
        _GRIPPER.finger_length,
        "Length of a finger from palm to tip.",
        Applies.AT_ONCE,
        unit="m",
        minimum=0.01,
        maximum=0.5,
    )
    clearance_m: float = parameter(
        _GRIPPER.clearance,
        "Clearance between an open finger and the object, on each side.",
        Applies.AT_ONCE,
        unit="m",
        minimum=0.0,
        maximum=0.1,
    )
    friction: float = parameter(
        _CONFIG.friction,
        "Friction coefficient between finger and object; wet glass has 0.2.",
        Applies.AT_ONCE,
        minimum=0.01,
        maximum=2.0,
    )
    table_clearance_m: float = parameter(
        _CONFIG.table_clearance,
        "Clearance between fingertips and table.",
        Applies.AT_ONCE,
        unit="m",
        minimum=0.0,
        maximum=0.5,
    )
    min_height_m: float = parameter(
        _CONFIG.min_height,
        "Anything that stands less than this above the table is no object.",
        Applies.AT_ONCE,
        unit="m",
        minimum=0.002,
        maximum=1.0,
    )
    samples: int = parameter(
        _CONFIG.samples,
        "Number of grasps that are sampled.",
        Applies.AT_ONCE,
        minimum=1,
        maximum=100000,
    )
    grasps: int = parameter(
        _CONFIG.count,
        "Largest number of grasps in an answer.",
        Applies.AT_ONCE,
        minimum=1,
        maximum=1000,
    )
    seed: int = parameter(
        _CONFIG.seed,
        "Seed of the sampling: the same depth and seed give the same grasps.",
        Applies.AT_ONCE,
        minimum=0,
        maximum=2**31 - 1,
    )

    def joint_problems(self) -> Iterator[Problem]:
        """A gripper that has no room for anything."""
        names = ("max_width_m", "parameter clearance_m")
        if problem := no_room(self.max_width_m, self.clearance_m, names):
            yield Problem(problem, ("max_width_m", "clearance_m"))

    @property
    def gripper(self) -> Gripper:
        """The gripper they describe."""
        return Gripper(
            self.max_width_m,
            self.finger_thickness_m,
            self.finger_breadth_m,
            self.finger_length_m,
            self.clearance_m,
        )

    @property
    def config(self) -> GraspConfig:
        """What they ask of a grasp."""
        return GraspConfig(
            friction=self.friction,
            min_confidence=self.min_confidence,
            max_unseen=self.max_unseen,
            table_clearance=self.table_clearance_m,
            min_height=self.min_height_m,
            samples=self.samples,
            count=self.grasps,
            seed=self.seed,
        )
