"""Where light from each pixel goes: through glass by refraction, off metal, to a dull surface.

Knows a built stage and Blender's ray casts. Knows nothing of sensors.
"""

from __future__ import annotations

from dataclasses import dataclass

import bpy
import numpy as np
from mathutils import Vector
from mathutils.bvhtree import BVHTree

from dkt_ros.formats.transphy3d import MaterialClass
from dkt_ros.synth.materials import OPTICS
from dkt_ros.synth.scene import placed

_MOST_SURFACES = 16
_OFF = 2e-5
"""Metres a ray starts off the surface it left."""
_FARTHEST = 60.0
_METAL = 0.85


@dataclass(frozen=True)
class Paths:
    """Of each pixel's central ray, in camera axes (OpenCV), metres; zeros where it meets nothing.

    first: (H,W) range to the first surface; facing: (H,W) cosine there; scatter: (H,W) share of
    light that this surface scatters; mirror: (H,W) share it mirrors or lets through; rough: (H,W).
    beyond: (H,W) optical length from the camera to the dull surface behind glass or in the mirror,
    0 where the first is dull itself; gain: (H,W) what one way there leaves of light, times that
    surface's albedo and cosine; point: (H,W,3) the dull surface's point; lit: (H,W) whether a
    straight line from `lamp` reaches it past everything that is not glass.
    """

    first: np.ndarray
    facing: np.ndarray
    scatter: np.ndarray
    mirror: np.ndarray
    rough: np.ndarray
    beyond: np.ndarray
    passed: np.ndarray
    gain: np.ndarray
    point: np.ndarray
    lit: np.ndarray


class Tracer:
    """Holds a stage's triangles; `trace` looks from one pose."""

    def __init__(self, stage: bpy.types.Scene) -> None:
        graph = bpy.context.evaluated_depsgraph_get()
        graph.update()
        vertices, faces, optics, dull, count = [], [], [], [], 0
        for thing in stage.collection.objects:
            if thing.type != "MESH":
                continue
            shape = thing.evaluated_get(graph)
            mesh = shape.to_mesh()
            mesh.calc_loop_triangles()
            number = len(mesh.loop_triangles)
            points = np.empty(3 * len(mesh.vertices), np.float32)
            mesh.vertices.foreach_get("co", points)
            corners, slots = np.empty(3 * number, np.int32), np.empty(number, np.int32)
            mesh.loop_triangles.foreach_get("vertices", corners)
            mesh.loop_triangles.foreach_get("material_index", slots)
            pose = np.array(thing.matrix_world, float)
            kinds = [tuple(slot.material[OPTICS]) for slot in thing.material_slots]
            shape.to_mesh_clear()
            vertices += (placed(points.reshape(-1, 3), pose)).tolist()
            faces += (corners.reshape(-1, 3) + count).tolist()
            optics += [kinds[slot] for slot in slots]
            count = len(vertices)
        self._optics = optics
        self._all = BVHTree.FromPolygons(vertices, faces, all_triangles=True)
        dull = [f for f, kind in zip(faces, optics, strict=True) if kind[0] != 1]
        self._solid = BVHTree.FromPolygons(vertices, dull, all_triangles=True)

    def trace(
        self,
        world_to_camera: np.ndarray,
        camera_matrix: np.ndarray,
        size: tuple[int, int],
        lamp: tuple[float, float, float] = (0.0, 0.0, 0.0),
    ) -> Paths:
        """Paths of a (width, height) picture; `lamp` in camera axes."""
        width, height = size
        v, u = np.mgrid[:height, :width]
        fx, fy, cx, cy = camera_matrix[[0, 1, 0, 1], [0, 1, 2, 2]]
        rays = np.stack([(u - cx) / fx, (v - cy) / fy, np.ones((height, width))], axis=-1)
        rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
        rotation = world_to_camera[:3, :3]
        directions = (rays @ rotation).reshape(-1, 3).tolist()
        back = np.linalg.inv(world_to_camera)
        eye = Vector(back[:3, 3])
        source = Vector((back @ np.array([*lamp, 1.0]))[:3])
        rows = [self._follow(eye, Vector(direction), source) for direction in directions]
        table = np.array(rows, np.float64).reshape(height, width, 12)
        point = table[..., 8:11] @ rotation.T + world_to_camera[:3, 3]
        parts = [np.ascontiguousarray(table[..., k]) for k in range(8)]
        return Paths(*[*parts, point, table[..., 11] > 0])

    def _follow(self, eye: Vector, ray: Vector, source: Vector) -> tuple[float, ...]:
        origin, index, length, passed = eye, 1.0, 0.0, 1.0
        first = facing = scatter = mirror = first_rough = 0.0
        for surface in range(_MOST_SURFACES):
            place, normal, face, distance = self._all.ray_cast(origin, ray, _FARTHEST)
            if place is None:
                break
            kind, ior, albedo, rough = self._optics[face]
            length += index * distance
            cosine = -ray.dot(normal)
            if kind == MaterialClass.OPAQUE:
                gain = passed * albedo * abs(cosine)
                to_source = source - place
                way = to_source.length
                to_source /= max(way, 1e-9)
                start = place + to_source * 1e-4
                lit = self._solid.ray_cast(start, to_source, way)[0] is None
                if not surface:
                    mine = (length, abs(cosine), albedo, 0.0, rough, 0.0, 1.0, gain)
                    return (*mine, *place, float(lit))
                mine = (first, facing, scatter, mirror, first_rough, length, passed, gain)
                return (*mine, *place, float(lit))
            scattered = min(
                0.9, (0.01 if kind == MaterialClass.TRANSPARENT else 0.03) + 0.9 * rough
            )
            if not surface:
                first, facing, scatter, first_rough = length, abs(cosine), scattered * albedo, rough
                mirror = 0.04 if kind == MaterialClass.TRANSPARENT else _METAL
            passed *= 1 - scattered
            if kind == MaterialClass.REFLECTIVE:
                ray, passed = ray + 2 * cosine * normal, passed * _METAL
            else:
                ray, index, passed = _bend(ray, normal, cosine, ior, index, passed)
            ray.normalize()
            origin = place + ray * _OFF
            if passed < 1e-3:
                break
        return (first, facing, scatter, mirror, first_rough, *(0.0,) * 7)


def _bend(
    ray: Vector, normal: Vector, cosine: float, ior: float, index: float, passed: float
) -> tuple[Vector, float, float]:
    """Ray, refractive index and share of light past a surface of glass."""
    entering = cosine > 0
    if not entering:
        normal, cosine = -normal, -cosine
    eta = 1 / ior if entering else ior
    inner = 1 - eta * eta * (1 - cosine * cosine)
    if inner <= 0:
        return ray + 2 * cosine * normal, index, passed
    other = inner**0.5
    bent = eta * ray + (eta * cosine - other) * normal
    along = ((eta * cosine - other) / (eta * cosine + other)) ** 2
    across = ((cosine - eta * other) / (cosine + eta * other)) ** 2
    return bent, index / eta, passed * (1 - 0.5 * (along + across))
