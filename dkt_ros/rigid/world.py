"""Rigid bodies on a table, or in a container, as a world of MuJoCo's.

World: metres, z up, the table is the plane z = 0. Knows neither grippers nor how bodies came there.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import mujoco
import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Mesh = tuple[Float64, NDArray[np.int64]]

OBJECT, GRIPPER, TABLE = 1, 2, 4
"""Contact groups, as bits."""
_MEMORY = 2**28
"""Bytes that contacts may take; a heap of hollow things has many."""
# By itself MuJoCo writes them to MUJOCO_LOG.TXT in whatever folder this is.
mujoco.set_mju_user_warning(logging.getLogger(__name__).warning)


@dataclass(frozen=True, eq=False)
class Body:
    """A rigid object.

    pose: (4, 4) to world at rest. mass: kg, spread evenly over the closed mesh (metres). parts:
    convex ones, which collide in its place.
    """

    name: str
    pose: Float64
    mass: float
    mesh: Mesh
    parts: tuple[Mesh, ...]

    def vertices_at(self, pose: Float64) -> Float64:
        """The mesh's (n, 3), moved by a (4, 4) from the body's axes to others."""
        return np.asarray(self.mesh[0] @ pose[:3, :3].T + pose[:3, 3])

    @cached_property
    def inertia(self) -> tuple[Float64, Float64]:
        """Centre of mass (3,), and inertia (3, 3) about it, kg m2; of the mesh's own volume."""
        vertices, faces = self.mesh
        corners = vertices[faces]
        volumes = np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6
        total = volumes.sum()
        centre = (volumes[:, None] * corners.sum(axis=1) / 4).sum(axis=0) / total
        corners = corners - centre
        sums = corners.sum(axis=1)
        second = np.einsum("n,nki,nkj->ij", volumes, corners, corners)
        second = (second + np.einsum("n,ni,nj->ij", volumes, sums, sums)) / 20
        second *= self.mass / total
        return centre, np.trace(second) * np.eye(3) - second


def world(bodies: Sequence[Body], step: float, fixtures: Sequence[Mesh] = ()) -> mujoco.MjSpec:
    """Bodies `object0`, `object1`, ... each free to move, on the table.

    step: seconds. fixtures: convex, in the world's axes, which never move: a container's walls.
    """
    spec = mujoco.MjSpec()
    option = spec.option
    option.timestep, option.integrator = step, mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    option.cone, option.impratio = mujoco.mjtCone.mjCONE_ELLIPTIC, 10.0
    option.iterations, option.noslip_iterations = 30, 2
    spec.memory = _MEMORY
    floor = {
        "contype": TABLE,
        "conaffinity": OBJECT | GRIPPER,
        "condim": 6,
        # Rolling friction keeps what lies on its side where it was rendered.
        "friction": (0.5, 0.005, 0.002),
        "solref": (0.006, 1.0),
    }
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_PLANE, size=(2, 2, 0.1), **floor)
    for number, mesh in enumerate(fixtures):
        name = f"fixture{number}"
        _add_mesh(spec, name, mesh)
        spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_MESH, meshname=name, **floor)
    for number, body in enumerate(bodies):
        centre, inertia = body.inertia
        thing = spec.worldbody.add_body(
            name=f"object{number}",
            pos=body.pose[:3, 3],
            quat=quaternion(body.pose[:3, :3]),
            mass=body.mass,
            ipos=centre,
            fullinertia=inertia[[0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]],
            explicitinertial=True,
        )
        thing.add_freejoint()
        for part, mesh in enumerate(body.parts):
            name = f"object{number}-{part}"
            _add_mesh(spec, name, mesh)
            thing.add_geom(
                type=mujoco.mjtGeom.mjGEOM_MESH,
                meshname=name,
                contype=OBJECT,
                conaffinity=OBJECT | GRIPPER | TABLE,
                condim=6,
                friction=(0.3, 0.005, 0.002),
                solref=(0.006, 1.0),
                mass=0,
            )
    return spec


def _add_mesh(spec: mujoco.MjSpec, name: str, mesh: Mesh) -> None:
    spec.add_mesh(
        name=name,
        uservert=np.asarray(mesh[0], np.float32).ravel(),
        userface=np.asarray(mesh[1], np.int32).ravel(),
        inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_CONVEX,
    )


def poses_of(model: mujoco.MjModel, data: mujoco.MjData, count: int) -> Float64:
    """(count, 4, 4) object to world, of `object0` and on."""
    poses = np.tile(np.eye(4), (count, 1, 1))
    for number, pose in enumerate(poses):
        place = model.body(f"object{number}").id
        pose[:3, :3] = data.xmat[place].reshape(3, 3)
        pose[:3, 3] = data.xpos[place]
    return poses


def quaternion(rotation: Float64) -> Float64:
    """(4,) w first."""
    quaternion = np.zeros(4)
    mujoco.mju_mat2Quat(quaternion, np.ascontiguousarray(rotation, np.float64).ravel())
    return quaternion
