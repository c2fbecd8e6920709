"""One grasp in MuJoCo: a parallel-jaw gripper comes down, closes, lifts and holds.

Knows rigid bodies, and neither depth nor how a grasp was found. World: metres, z up, the table is
the plane z = 0. Without a random number: the same bodies and grasp give the same outcome.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import mujoco
import numpy as np

from dkt_ros.grasp.antipodal import Gripper
from dkt_ros.rigid.world import (
    GRIPPER,
    OBJECT,
    TABLE,
    Body,
    Float64,
    Mesh,
    poses_of,
    quaternion,
    world,
)

_HEAD_M = 0.03
_ABOVE_M = 0.03
_SPEED = 0.25  # m/s of the hand
_SETTLE_S, _CLOSE_S = 0.2, 0.7
_CLOSED_M = -0.02
"""Where each jaw is sent: beyond the middle, so that it presses with all its force."""
_WATCHED = 5  # steps between two looks at energy and penetration
_HELD_SHARE = 0.6
"""Of the lift: what rose by less was dropped, or slid down between the fingers."""


class Result(Enum):
    """How an attempt ended."""

    HELD = "held"
    NO_GRASP = "no grasp found"
    COLLISION = "collision on approach"
    MISSED = "missed"
    SLIPPED = "slipped"
    WRONG_OBJECT = "wrong object"


@dataclass(frozen=True)
class Physics:
    """How the attempt is made.

    friction   coefficient between pads and objects
    force      N, of each jaw at most
    stop_force N on the gripper in all at which it stops while coming down, as arms do
    lift       metres
    hold       seconds that it has to stay up
    step       seconds of a time step
    """

    friction: float = 0.6
    force: float = 20.0
    stop_force: float = 12.0
    lift: float = 0.12
    hold: float = 1.0
    step: float = 0.002


@dataclass(frozen=True, eq=False)
class Attempt:
    """What came of one grasp.

    lifted: metres that each body rose. poses: (N, 4, 4) at the end. penetration: metres that two
    surfaces entered one another at most. energy: J, the objects' kinetic energy at most.
    drift: metres that a body moved before the gripper came, at most.
    """

    result: Result
    lifted: Float64
    poses: Float64
    penetration: float
    energy: float
    drift: float


def attempt(
    bodies: list[Body],
    target: int,
    rotation: Float64,
    position: Float64,
    width: float,
    gripper: Gripper | None = None,
    physics: Physics | None = None,
    fixtures: Sequence[Mesh] = (),
) -> Attempt:
    """Grasps bodies[target]; the pose is that of the point between the fingertips.

    rotation: (3, 3) to world: columns x, y (closes), z (approaches). width: metres between the open
    fingers. fixtures: see `world`.
    """
    gripper, physics = gripper or Gripper(), physics or Physics()
    run = _Run(bodies, rotation, position, width, gripper, physics, fixtures)
    return run.result(target)


class _Run:
    def __init__(
        self,
        bodies: list[Body],
        rotation: Float64,
        position: Float64,
        width: float,
        gripper: Gripper,
        physics: Physics,
        fixtures: Sequence[Mesh],
    ) -> None:
        self.physics, self.bodies, self.jaws = physics, bodies, 0.5 * width
        tops = [float(body.vertices_at(body.pose)[:, 2].max()) for body in bodies]
        highest = max(*tops, *(float(vertices[:, 2].max()) for vertices, _ in fixtures), 0.0)
        self.above = max(_ABOVE_M, highest + _ABOVE_M - float(position[2]))
        spec = world(bodies, physics.step, fixtures)
        _add_gripper(spec, rotation, position, self.jaws, gripper, physics)
        self.model = spec.compile()
        self.data = mujoco.MjData(self.model)
        for name, value in (("height", self.above), ("left", self.jaws), ("right", self.jaws)):
            self.data.joint(name).qpos[0] = value
        self.place = [self.model.body(f"object{n}").id for n in range(len(bodies))]
        self.freedoms = [self.model.body(f"object{n}").dofadr[0] for n in range(len(bodies))]
        self.owner = self.model.geom_bodyid
        self.fingers = [self.model.body(name).id for name in ("left", "right")]
        self.wrist = slice(first := self.model.body("hand").dofadr[0], first + 3)
        self.penetration = self.energy = 0.0

    def result(self, target: int) -> Attempt:
        physics = self.physics
        start = self._middles()
        self._move(_SETTLE_S, (self.above, self.above))
        rest = self._middles()
        drift = float(np.linalg.norm(rest - start, axis=1).max())
        if not self._move(1.1 * self.above / _SPEED, (self.above, 0.0), physics.stop_force):
            return self._told(Result.COLLISION, rest, drift)
        self._move(_CLOSE_S, (0.0, 0.0), closing=True)
        gripped = self._gripped()
        if not gripped:
            return self._told(Result.MISSED, rest, drift)
        self._move(1.1 * physics.lift / _SPEED, (0.0, physics.lift))
        self._move(physics.hold, (physics.lift, physics.lift))
        rose = (self._middles() - rest)[:, 2]
        held = {n for n in self._gripped() if rose[n] > _HELD_SHARE * physics.lift}
        if target in held:
            return self._told(Result.HELD, rest, drift)
        return self._told(Result.WRONG_OBJECT if held else Result.SLIPPED, rest, drift)

    def _told(self, result: Result, rest: Float64, drift: float) -> Attempt:
        poses = poses_of(self.model, self.data, len(self.bodies))
        lifted = (self._middles() - rest)[:, 2]
        return Attempt(result, lifted, poses, self.penetration, self.energy, drift)

    def _middles(self) -> Float64:
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)
        return np.array(self.data.xipos[self.place])

    def _move(
        self,
        seconds: float,
        height: tuple[float, float],
        limit: float = np.inf,
        closing: bool = False,
    ) -> bool:
        """The hand between two heights over the grasp, there before the time is up.

        False as soon as it meets more force than `limit`.
        """
        steps = round(seconds / self.physics.step)
        data, jaws = self.data, self.jaws
        for number in range(1, steps + 1):
            done = min(1.0, 1.1 * number / steps)
            if closing:
                self.jaws = jaws + (_CLOSED_M - jaws) * done
            data.ctrl[:] = height[0] + (height[1] - height[0]) * done, self.jaws, self.jaws
            mujoco.mj_step(self.model, data)
            if number % _WATCHED == 0:
                self._watch()
            if np.isfinite(limit) and self._push() > limit:
                return False
        return True

    def _watch(self) -> None:
        data = self.data
        if data.ncon:
            self.penetration = max(self.penetration, -float(data.contact.dist.min()))
        for body, first, place in zip(self.bodies, self.freedoms, self.place, strict=True):
            speed = data.qvel[first : first + 3]
            turn = data.qvel[first + 3 : first + 6]
            inertia = self.model.body_inertia[place].max()
            energy = 0.5 * body.mass * float(speed @ speed) + 0.5 * inertia * float(turn @ turn)
            self.energy = max(self.energy, energy)

    def _push(self) -> float:
        """N: of all contacts of the gripper together, as a sensor at the wrist has it."""
        return float(np.linalg.norm(self.data.qfrc_constraint[self.wrist]))

    def _gripped(self) -> set[int]:
        """Bodies that both fingers touch."""
        touched: list[set[int]] = [set(), set()]
        for first, second in self.owner[self.data.contact.geom]:
            for finger, found in zip(self.fingers, touched, strict=True):
                if finger in (first, second):
                    other = second if first == finger else first
                    if other in self.place:
                        found.add(self.place.index(other))
        return touched[0] & touched[1]


def _add_gripper(
    spec: mujoco.MjSpec,
    rotation: Float64,
    position: Float64,
    half_open: float,
    gripper: Gripper,
    physics: Physics,
) -> None:
    """A hand on a vertical drive, its wrist giving way a little sideways; two coupled jaws."""
    hand = spec.worldbody.add_body(name="hand", pos=position, quat=quaternion(rotation), gravcomp=1)
    slide = mujoco.mjtJoint.mjJNT_SLIDE
    for axis in ((1, 0, 0), (0, 1, 0)):
        hand.add_joint(type=slide, axis=axis, stiffness=4000.0, damping=80.0)
    hand.add_joint(name="height", type=slide, axis=(0, 0, -1), damping=20.0)
    box = mujoco.mjtGeom.mjGEOM_BOX
    long, thick, broad = (
        gripper.finger_length,
        gripper.finger_thickness,
        gripper.finger_breadth,
    )
    common = {
        "contype": GRIPPER,
        "conaffinity": OBJECT | TABLE,
        "condim": 4,
        "priority": 1,
        # Rubber: a patch, not a point, holds against turning too.
        "friction": (physics.friction, 0.01 * physics.friction, 0.0),
        "solref": (0.006, 1.0),
        "solimp": (0.9, 0.98, 0.001, 0.5, 2.0),
    }
    hand.add_geom(
        type=box,
        size=(0.5 * broad, half_open + thick, 0.5 * _HEAD_M),
        pos=(0, 0, -long - 0.5 * _HEAD_M),
        mass=0.5,
        **common,
    )
    for name, side in (("left", -1), ("right", 1)):
        finger = hand.add_body(name=name, gravcomp=1)
        finger.add_joint(
            name=name,
            type=slide,
            axis=(0, side, 0),
            damping=5.0,
            armature=0.05,
            range=(0.0, 0.5 * gripper.max_width + 0.01),
            limited=True,
        )
        finger.add_geom(
            type=box,
            size=(0.5 * broad, 0.5 * thick, 0.5 * long),
            pos=(0, side * 0.5 * thick, -0.5 * long),
            mass=0.05,
            **common,
        )
    # Jaws move as one, as in most grippers.
    spec.add_equality(
        type=mujoco.mjtEq.mjEQ_JOINT,
        objtype=mujoco.mjtObj.mjOBJ_JOINT,
        name1="left",
        name2="right",
        data=(0, 1, *[0] * 10),
        solref=(0.005, 1.0),
    )
    _servo(spec, "height", 4000.0, 150.0, 60.0)
    for name in ("left", "right"):
        _servo(spec, name, 2000.0, 40.0, physics.force)


def _servo(spec: mujoco.MjSpec, joint: str, gain: float, damping: float, force: float) -> None:
    spec.add_actuator(
        name=joint,
        target=joint,
        trntype=mujoco.mjtTrn.mjTRN_JOINT,
        gaintype=mujoco.mjtGain.mjGAIN_FIXED,
        gainprm=(gain, *[0] * 9),
        biastype=mujoco.mjtBias.mjBIAS_AFFINE,
        biasprm=(0, -gain, -damping, *[0] * 7),
        forcerange=(-force, force),
        forcelimited=True,
    )
