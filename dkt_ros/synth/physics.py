"""A rigid-body drop in Blender: where objects come to rest.

Knows Bullet through Blender. Knows nothing of materials or of pictures. Deterministic: one thread,
fixed steps, bodies in the scene's order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import bpy
import numpy as np
from mathutils import Matrix

from dkt_ros.synth.lathe import Mesh, stack
from dkt_ros.synth.passes import quiet
from dkt_ros.synth.placement import scatter
from dkt_ros.synth.scene import LIFT, Area, Item, Scene, placed

_SCALE = 10.0
"""Bullet is made for things of a metre: lengths and gravity grow by this factor."""
_GRAVITY = 9.81
_MARGIN = 1.5e-4
_ROUNDS = 3
_FALL_FRAMES, _FREE_FRAMES = 150, 80
_LEAST_FRAMES = 12
_STILL = 4e-5
"""Metres a frame below which a body rests."""
_SUNK = 0.003
_FENCE_HEIGHT = 1.8


def settle(scene: Scene) -> Scene:
    """The scene with its objects where they come to rest.

    Objects fall inside walls (a container's, or a fence that is then taken away, so that nothing
    leans on air). What ends outside the area, or sinks, is dropped again onto the others up to
    twice and left out if that fails too. Empties Blender.
    """
    random = np.random.default_rng([scene.noise_seed, len(scene.items)])
    resting: dict[int, Item] = {}
    falling = dict(enumerate(scene.items))
    for attempt in range(_ROUNDS):
        if attempt:
            poses = scatter([item.shape for item in falling.values()], scene.area, random)
            falling = {
                key: replace(item, pose=pose)
                for (key, item), pose in zip(falling.items(), poses, strict=True)
            }
        landed = _drop(list(falling.values()), list(resting.values()), scene.area)
        for key, item in zip(list(falling), landed, strict=True):
            if item is not None:
                resting[key] = item
                del falling[key]
        if not falling:
            break
    return replace(scene, items=tuple(resting[key] for key in sorted(resting)))


def _drop(falling: Sequence[Item], resting: Sequence[Item], area: Area) -> list[Item | None]:
    """Where the falling items land beside the resting ones; None for those that got away."""
    if area.container is None:
        stages = [([_fence(area.half_size[0])], _FALL_FRAMES), ([], _FREE_FRAMES)]
    else:
        stages = [([], _FALL_FRAMES + _FREE_FRAMES)]
    items = list(falling)
    for walls, frames in stages:
        poses = _simulate(items, resting, [*_ground(area), *walls], frames)
        items = [replace(item, pose=pose) for item, pose in zip(items, poses, strict=True)]
    return [_landed(item, area) for item in items]


def _landed(item: Item, area: Area) -> Item | None:
    vertices = placed(item.shape.vertices, item.pose)
    centre = 0.5 * (vertices.min(axis=0) + vertices.max(axis=0))
    if not np.isfinite(vertices).all() or not area.holds(centre[0], centre[1]):
        return None
    short = area.floor + LIFT - vertices[:, 2].min()
    if short > _SUNK:
        return None
    pose = item.pose.copy()
    pose[2, 3] += max(short, 0.0)
    return replace(item, pose=pose)


def _simulate(
    items: Sequence[Item], resting: Sequence[Item], grounds: Sequence[Mesh], frames: int
) -> list[np.ndarray]:
    bpy.ops.wm.read_factory_settings(use_empty=True)
    stage = bpy.context.scene
    with quiet():
        bpy.ops.rigidbody.world_add()
    world = stage.rigidbody_world
    world.substeps_per_frame, world.solver_iterations = 10, 20
    world.point_cache.frame_end = stage.frame_end = frames + 1
    stage.gravity = (0.0, 0.0, -_GRAVITY * _SCALE)
    for vertices, faces in grounds:
        _body(stage, vertices, faces, np.eye(4), ("PASSIVE", "MESH"))
    # Blender takes an object's origin for its centre of mass.
    to_mass = [_shift(item.shape.centre_of_mass) for item in items]
    for item in resting:
        shape = item.shape
        _body(stage, shape.vertices, shape.faces, item.pose, ("PASSIVE", "CONVEX_HULL"))
    bodies = [
        _body(
            stage,
            item.shape.vertices - item.shape.centre_of_mass,
            item.shape.faces,
            item.pose @ shift,
            ("ACTIVE", "CONVEX_HULL"),
        )
        for item, shift in zip(items, to_mass, strict=True)
    ]
    before = np.zeros((len(items), 4, 4))
    for frame in range(1, frames + 2):
        stage.frame_set(frame)
        now = np.array([_pose(body) for body in bodies])
        # A tenth of a metre turns a small rotation into a distance.
        moved = np.abs(now - before)[:, :3] * (0.1, 0.1, 0.1, 1.0)
        before = now
        if frame > _LEAST_FRAMES and moved.max(initial=0.0) < _STILL:
            break
    return [pose @ np.linalg.inv(shift) for pose, shift in zip(before, to_mass, strict=True)]


def _body(
    stage: bpy.types.Scene,
    vertices: np.ndarray,
    faces: np.ndarray,
    pose: np.ndarray,
    kind: tuple[str, str],
) -> bpy.types.Object:
    data = bpy.data.meshes.new("body")
    data.from_pydata((_SCALE * vertices).tolist(), [], faces.tolist())
    body = bpy.data.objects.new("body", data)
    stage.collection.objects.link(body)
    placed = pose.copy()
    placed[:3, 3] *= _SCALE
    body.matrix_world = Matrix(placed.tolist())
    chosen = {"object": body, "active_object": body, "selected_objects": [body]}
    with bpy.context.temp_override(**chosen):
        bpy.ops.rigidbody.object_add(type=kind[0])
    rigid = body.rigid_body
    rigid.collision_shape, rigid.mass = kind[1], 1.0
    rigid.use_margin, rigid.collision_margin = True, _SCALE * _MARGIN
    rigid.friction, rigid.restitution = 0.6, 0.05
    # Rolling things would never stop: damping stands in for rolling friction.
    rigid.linear_damping, rigid.angular_damping = 0.1, 0.85
    return body


def _pose(body: bpy.types.Object) -> np.ndarray:
    """What the simulation made of it, which lies in the evaluated copy alone."""
    graph = bpy.context.evaluated_depsgraph_get()
    pose = np.array(body.evaluated_get(graph).matrix_world, float)
    pose[:3, :3] /= np.cbrt(np.linalg.det(pose[:3, :3]))
    pose[:3, 3] /= _SCALE
    return pose


def _shift(offset: np.ndarray) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, 3] = offset
    return pose


def _ground(area: Area) -> list[Mesh]:
    table = stack([(2.0, 2.0, -0.1), (2.0, 2.0, 0.0)])
    return [table] if area.container is None else [table, area.container.mesh()]


def _fence(half: float) -> Mesh:
    inner, outer = half, half + 0.1
    top, bottom = _FENCE_HEIGHT, -0.01
    rings = [(outer, outer, 5 * bottom), (outer, outer, top)]
    return stack([*rings, (inner, inner, top), (inner, inner, bottom)])
