"""Where bodies that are dropped come to rest, in the very world that a gripper then finds them in.

The same bodies end the same: fixed steps, one thread, no random number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import mujoco
import numpy as np

from dkt_ros.rigid.world import OBJECT, TABLE, Body, Float64, Mesh, poses_of, quaternion, world

_STEP_S, _LOOK = 0.002, 25
_FALL_S, _REST_S = (0.1, 5.0), (0.5, 3.0)
"""Least and greatest seconds of a fall, and of coming to rest."""
_FALLING = 0.4
"""m/s that bodies fall at, as in a thick liquid: fast ones would pass through one another."""
_TURNING = 15.0  # 1/s, by which turning dies down meanwhile
_STILL = 0.003, 0.1  # m/s and rad/s below which a body rests
_INSIDE_M = 0.0015
"""Metres that surfaces may enter one another."""

Wall = tuple[float, float]
"""Bearing about the z axis, and distance from it, of an upright plane that holds bodies in."""


def fall(
    bodies: Sequence[Body], fixtures: Sequence[Mesh] = (), walls: Sequence[Wall] = ()
) -> Float64:
    """(N, 4, 4) poses of bodies that fell between walls, as if each were its convex hull.

    Near to rest, and quick; their convex parts are not asked for. fixtures: see `world`.
    """
    spec = world([replace(body, parts=(body.mesh,)) for body in bodies], _STEP_S, fixtures)
    for bearing, distance in walls:
        inwards = -np.array([np.cos(bearing), np.sin(bearing), 0.0])
        side = np.array([-np.sin(bearing), np.cos(bearing), 0.0])
        spec.worldbody.add_geom(
            type=mujoco.mjtGeom.mjGEOM_PLANE,
            size=(2, 2, 0.1),
            pos=-distance * inwards,
            quat=quaternion(np.stack([side, np.cross(inwards, side), inwards], axis=1)),
            contype=TABLE,
            conaffinity=OBJECT,
            friction=(0.1, 0.0, 0.0),
        )
    model = spec.compile()
    for number, body in enumerate(bodies):
        first = model.body(f"object{number}").dofadr[0]
        model.dof_damping[first : first + 3] = 9.81 * body.mass / _FALLING
        model.dof_damping[first + 3 : first + 6] = _TURNING * body.inertia[1].max()
    return _until_still(model, len(bodies), _FALL_S)[0]


def settle(bodies: Sequence[Body], fixtures: Sequence[Mesh] = ()) -> list[Float64 | None]:
    """(4, 4) poses at rest, from where bodies are; None for what does not rest in three seconds."""
    model = world(bodies, _STEP_S, fixtures).compile()
    poses, restless = _until_still(model, len(bodies), _REST_S)
    return [None if number in restless else pose for number, pose in enumerate(poses)]


def _until_still(
    model: mujoco.MjModel, count: int, seconds: tuple[float, float]
) -> tuple[Float64, set[int]]:
    """Poses as soon as all are still, and those that are not, or that stand in one another."""
    data = mujoco.MjData(model)
    owners = [model.body(f"object{number}").id for number in range(count)]
    restless = set(range(count))
    for step in range(1, round(seconds[1] / _STEP_S) + 1):
        mujoco.mj_step(model, data)
        if step % _LOOK == 0:
            speeds = data.qvel.reshape(count, 2, 3)
            moving = (np.linalg.norm(speeds, axis=-1) > _STILL).any(axis=1)
            restless = set(np.flatnonzero(moving).tolist())
            if not restless and step * _STEP_S >= seconds[0]:
                break
    deep = data.contact.geom[data.contact.dist < -_INSIDE_M]
    restless |= {owners.index(n) for n in model.geom_bodyid[deep].ravel() if n in owners}
    return poses_of(model, data, count), restless
