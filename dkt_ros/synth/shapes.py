"""Parametric vessels and solids as closed meshes with wall thickness.

Knows what vessels look like: each family draws its section from a random generator. Knows nothing
of materials, of where an object stands, or of Blender. A new family is a function in FAMILIES.

Every shape stands upright with its base at z = 0 and its axis on z. Metres.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dkt_ros.synth.lathe import (
    SEGMENTS,
    Mesh,
    Profile,
    hollow,
    rod,
    slab,
    smooth_curve,
    stack,
    turn,
)

_HALF_PI = 0.5 * np.pi


@dataclass(frozen=True)
class Shape:
    """A triangle mesh, closed unless it is a user's and `closed` is False.

    vertices: (V,3) float64 metres; faces: (F,3) int64, outward by the right hand.
    outline: (N,2) radius and height of the outermost section, for placing.
    round: whether it is a surface of revolution and may lie on its side at any roll.
    open: whether it has a mouth and may stand upside down on it.
    """

    family: str
    vertices: np.ndarray
    faces: np.ndarray
    outline: Profile
    round: bool
    open: bool
    closed: bool = True

    @property
    def height(self) -> float:
        """Metres from the table to the top."""
        return float(self.outline[:, 1].max())

    @property
    def radius(self) -> float:
        """Metres from the axis to the farthest point."""
        return float(np.linalg.norm(self.vertices[:, :2], axis=1).max())

    @property
    def centre_of_mass(self) -> np.ndarray:
        """(3,) metres, of the walls' own substance; an open mesh's box has its middle."""
        a, b, c = np.moveaxis(self.vertices[self.faces], 1, 0)
        volumes = np.einsum("ij,ij->i", a, np.cross(b, c))
        if not self.closed or abs(volumes.sum()) < 1e-12:
            return 0.5 * (self.vertices.min(axis=0) + self.vertices.max(axis=0))
        return (volumes[:, None] * (a + b + c) / 4).sum(axis=0) / volumes.sum()


def make_shape(family: str, random: np.random.Generator) -> Shape:
    """One random member of a family in FAMILIES; the same generator state gives the same mesh."""
    return FAMILIES[family](random)


def cross_section(random: np.random.Generator) -> np.ndarray | None:
    """Mostly round; sometimes faceted, fluted or a rounded square."""
    angle = np.linspace(0, 2 * np.pi, SEGMENTS, endpoint=False)
    kind = random.choice(["round", "flutes", "square", "oval"], p=[0.7, 0.1, 0.12, 0.08])
    if kind == "flutes":
        return 1 + random.uniform(0.01, 0.04) * np.cos(int(random.integers(6, 13)) * angle)
    if kind == "square":
        power = random.uniform(3, 6)
        norm = (np.abs(np.cos(angle)) ** power + np.abs(np.sin(angle)) ** power) ** (1 / power)
        return 0.9 / norm
    if kind == "oval":
        flat = random.uniform(0.65, 0.9)
        return 1 / np.sqrt(np.cos(angle) ** 2 + (np.sin(angle) / flat) ** 2)
    return None


def _vessel(family: str, outer: Profile, inside: Profile, cross: np.ndarray | None = None) -> Shape:
    vertices, faces = turn(inside, cross)
    return Shape(family, vertices, faces, outer, round=cross is None, open=True)


def _solid(family: str, section: Profile) -> Shape:
    vertices, faces = turn(section)
    return Shape(family, vertices, faces, section, round=True, open=False)


def _tumbler(random: np.random.Generator) -> Shape:
    height, top = random.uniform(0.07, 0.16), random.uniform(0.028, 0.045)
    bottom = top * random.uniform(0.65, 1.0)
    wall = random.uniform(0.0015, 0.004)
    side = [(bottom + (top - bottom) * t, height * t) for t in np.linspace(0.03, 1, 12)]
    outer = np.array([(0, 0), (bottom * 0.5, 0), (bottom * 0.95, 0), *side])
    inside = hollow(outer, wall, random.uniform(0.003, 0.015), start=2)
    return _vessel("tumbler", outer, inside, cross_section(random))


def _cup(random: np.random.Generator) -> Shape:
    height, top = random.uniform(0.06, 0.11), random.uniform(0.032, 0.05)
    bottom = top * random.uniform(0.4, 0.65)
    curve = random.uniform(0.3, 0.7)
    side = [
        (bottom + (top - bottom) * t**curve, 0.004 + (height - 0.004) * t)
        for t in np.linspace(0.0, 1, 14)
    ]
    outer = np.array([(0, 0), (bottom * 0.5, 0), (bottom * 0.94, 0), *side])
    return _vessel("cup", outer, hollow(outer, random.uniform(0.0012, 0.003), 0.005, 2))


def _stemmed(family: str, random: np.random.Generator, bowl: list[tuple[float, float]]) -> Shape:
    foot, stem = random.uniform(0.028, 0.04), random.uniform(0.003, 0.006)
    length = random.uniform(0.05, 0.1)
    lower = [(0, 0), (foot * 0.9, 0), (foot, 0.001), (foot, 0.0025), (foot * 0.5, 0.005)]
    lower += [(stem * 1.3, 0.012), (stem, 0.03), (stem, length - 0.008)]
    raised = [(r, length + z) for r, z in bowl]
    outer = np.vstack([np.array(lower), smooth_curve([(stem * 1.3, length), *raised], 5)])
    floor = length + 0.4 * bowl[0][1] + 0.002
    inside = hollow(outer, random.uniform(0.001, 0.002), floor, start=len(lower))
    return _vessel(family, outer, inside)


def _wine_glass(random: np.random.Generator) -> Shape:
    radius, height = random.uniform(0.03, 0.048), random.uniform(0.06, 0.11)
    rim = random.uniform(0.6, 0.95)
    bowl = [(radius * 0.55, height * 0.08), (radius * 0.9, height * 0.25)]
    bowl += [(radius, height * 0.45), (radius * 0.5 * (1 + rim), height * 0.75)]
    return _stemmed("wine_glass", random, [*bowl, (radius * rim, height)])


def _martini(random: np.random.Generator) -> Shape:
    radius, height = random.uniform(0.045, 0.06), random.uniform(0.045, 0.07)
    return _stemmed(
        "martini", random, [(radius * t, height * t) for t in (0.15, 0.4, 0.6, 0.8, 1.0)]
    )


def _bottle(random: np.random.Generator) -> Shape:
    radius, height = random.uniform(0.025, 0.045), random.uniform(0.16, 0.3)
    neck = random.uniform(0.011, 0.016)
    shoulder = random.uniform(0.5, 0.72)
    body = [(radius, 0.006), (radius, 0.02), (radius, height * shoulder * 0.5)]
    body += [(radius, height * shoulder), (radius * 0.85, height * (shoulder + 0.06))]
    body += [(neck * 1.25, height * (shoulder + 0.17)), (neck, height * (shoulder + 0.22))]
    lip = [(neck, height * 0.96), (neck * 1.15, height * 0.97), (neck * 1.15, height)]
    outer = np.vstack([[(0, 0), (radius * 0.5, 0), (radius * 0.93, 0)], smooth_curve(body, 4), lip])
    inside = hollow(outer, random.uniform(0.0015, 0.003), 0.005, start=2)
    return _vessel("bottle", outer, inside, cross_section(random))


def _jar(random: np.random.Generator) -> Shape:
    radius, height = random.uniform(0.03, 0.05), random.uniform(0.07, 0.15)
    mouth = radius * random.uniform(0.65, 0.9)
    body = [(radius, 0.005), (radius, height * 0.4), (radius, height * 0.74)]
    body += [(mouth * 1.04, height * 0.86), (mouth, height * 0.9)]
    lip = [(mouth * 1.05, height * 0.92), (mouth * 1.05, height * 0.96), (mouth, height)]
    outer = np.vstack([[(0, 0), (radius * 0.5, 0), (radius * 0.93, 0)], smooth_curve(body, 4), lip])
    inside = hollow(outer, random.uniform(0.002, 0.004), 0.006, start=2)
    return _vessel("jar", outer, inside, cross_section(random))


def _bowl(random: np.random.Generator) -> Shape:
    radius, height = random.uniform(0.05, 0.1), random.uniform(0.035, 0.07)
    foot, power = radius * random.uniform(0.35, 0.5), random.uniform(1.6, 2.6)
    t = np.linspace(0, 1, 16)
    side = np.stack([foot + (radius - foot) * t, 0.003 + (height - 0.003) * t**power], axis=1)
    outer = np.vstack([[(0, 0), (foot * 0.5, 0), (foot * 0.95, 0)], side])
    return _vessel("bowl", outer, hollow(outer, random.uniform(0.002, 0.004), 0.006, 2))


def _plate(random: np.random.Generator) -> Shape:
    radius, height = random.uniform(0.07, 0.11), random.uniform(0.012, 0.022)
    foot = radius * random.uniform(0.55, 0.7)
    t = np.linspace(0, 1, 10)
    side = np.stack([foot + (radius - foot) * t, 0.002 + (height - 0.002) * t**1.4], axis=1)
    outer = np.vstack([[(0, 0), (foot * 0.5, 0), (foot * 0.97, 0)], side])
    return _vessel("plate", outer, hollow(outer, random.uniform(0.002, 0.0035), 0.005, 2))


def _vase(random: np.random.Generator) -> Shape:
    radius, height = random.uniform(0.03, 0.055), random.uniform(0.12, 0.24)
    waist, mouth = random.uniform(0.45, 0.8), random.uniform(0.6, 1.1)
    body = [(radius * 0.6, 0.004), (radius * 0.9, height * 0.18), (radius, height * 0.36)]
    body += [(radius * 0.5 * (1 + waist), height * 0.58), (radius * waist, height * 0.78)]
    body += [(radius * 0.5 * (waist + mouth), height * 0.92), (radius * mouth, height)]
    outer = np.vstack([[(0, 0), (radius * 0.3, 0), (radius * 0.55, 0)], smooth_curve(body, 4)])
    inside = hollow(outer, random.uniform(0.002, 0.004), 0.008, start=2)
    return _vessel("vase", outer, inside, cross_section(random))


def _flask(random: np.random.Generator) -> Shape:
    radius, height = random.uniform(0.035, 0.055), random.uniform(0.1, 0.17)
    neck = random.uniform(0.012, 0.018)
    body = [(radius, 0.008), (radius * 0.93, height * 0.18), (radius * 0.6, height * 0.45)]
    body += [(neck * 1.1, height * 0.68), (neck, height * 0.78), (neck, height * 0.95)]
    base = [(0, 0), (radius * 0.5, 0), (radius * 0.9, 0)]
    lip = [(neck * 1.2, height * 0.98), (neck * 1.2, height)]
    outer = np.vstack([base, smooth_curve(body, 4), lip])
    return _vessel("flask", outer, hollow(outer, random.uniform(0.0012, 0.002), 0.004, 2))


def _can(random: np.random.Generator) -> Shape:
    radius, height = random.uniform(0.026, 0.045), random.uniform(0.06, 0.15)
    inset = radius * 0.9
    section = [(0, 0.002), (inset, 0.002), (inset, 0), (radius * 0.96, 0), (radius, 0.006)]
    section += [(radius, height * 0.3), (radius, height * 0.7), (radius, height - 0.006)]
    section += [(radius * 0.96, height), (inset, height), (inset, height - 0.003)]
    return _solid("can", np.array([*section, (0, height - 0.003)], float))


def _ball(random: np.random.Generator) -> Shape:
    radius, flat = random.uniform(0.018, 0.045), random.uniform(0.75, 1.0)
    t = np.linspace(-_HALF_PI, _HALF_PI, 28)
    section = np.stack([np.cos(t) * radius, (np.sin(t) + 1) * radius * flat], axis=1)
    section[[0, -1], 0] = 0.0
    return _solid("ball", section)


def _tube(random: np.random.Generator) -> Shape:
    radius, height = random.uniform(0.012, 0.04), random.uniform(0.05, 0.18)
    inner = radius - random.uniform(0.0015, 0.005)
    levels = np.linspace(0, height, 6)
    outer = np.stack([np.full(6, radius), levels], axis=1)
    section = np.vstack([outer, np.stack([np.full(6, inner), levels[::-1]], axis=1)])
    vertices, faces = turn(section, closed_ring=True)
    return Shape("tube", vertices, faces, outer, round=True, open=False)


def _box(random: np.random.Generator) -> Shape:
    x, y, z = random.uniform((0.025, 0.025, 0.03), (0.07, 0.05, 0.11))
    if random.random() < 0.5:
        return _prism("box", [(x, y, 0.0), (x, y, z)])
    wall = random.uniform(0.002, 0.004)
    rings = [(x, y, 0.0), (x, y, z), (x - wall, y - wall, z), (x - wall, y - wall, wall * 1.5)]
    return _prism("box", rings, open_top=True)


def _prism(family: str, rings: list[tuple[float, float, float]], open_top: bool = False) -> Shape:
    vertices, faces = stack(rings)
    outline = np.array([(float(np.hypot(x, y)), z) for x, y, z in rings])
    return Shape(family, vertices, faces, outline, round=False, open=open_top)


def _pitcher(random: np.random.Generator) -> Shape:
    """A jug with a handle on one side and a lip pulled out on the other."""
    radius, height = random.uniform(0.04, 0.055), random.uniform(0.13, 0.21)
    neck, mouth = random.uniform(0.6, 0.85), random.uniform(0.75, 0.95)
    body = [(radius * 0.85, 0.005), (radius, height * 0.3), (radius * 0.95, height * 0.5)]
    body += [(radius * neck, height * 0.8), (radius * mouth, height)]
    base = [(0, 0), (radius * 0.4, 0), (radius * 0.75, 0)]
    outer = np.vstack([base, smooth_curve(body, 5)])
    vertices, faces = turn(hollow(outer, random.uniform(0.002, 0.0035), 0.006, start=2))
    angle = np.arctan2(vertices[:, 1], vertices[:, 0])
    rise = np.clip(vertices[:, 2] / height - 0.8, 0, 1) / 0.2
    pull = radius * random.uniform(0.2, 0.4) * rise**2 * np.exp(-((angle / 0.35) ** 2))
    vertices[:, 0] += pull
    return _with_handle("pitcher", (vertices, faces), outer, (0.25 * height, 0.85 * height), random)


def _mug(random: np.random.Generator) -> Shape:
    radius, height = random.uniform(0.034, 0.045), random.uniform(0.07, 0.11)
    side = [(radius, height * t) for t in np.linspace(0.04, 1, 10)]
    outer = np.array([(0, 0), (radius * 0.5, 0), (radius * 0.93, 0), *side])
    mesh = turn(hollow(outer, random.uniform(0.0025, 0.004), 0.005, start=2))
    return _with_handle("mug", mesh, outer, (0.2 * height, 0.8 * height), random)


def _with_handle(
    family: str,
    mesh: Mesh,
    outer: Profile,
    ends: tuple[float, float],
    random: np.random.Generator,
) -> Shape:
    """Joins a handle at -x whose ends sit in the wall's skin at two heights."""
    low, high = ends
    reach = random.uniform(0.024, 0.034)
    thick = random.uniform(0.0035, 0.005)
    radius, height = outer.T
    # The outline begins with its flat base; heights rise after that.
    at_low, at_high = np.interp([low, high], height[3:], radius[3:])
    t = np.linspace(0, np.pi, 15)
    inward = 0.5 * (at_low + at_high) - 0.5 * (at_low - at_high) * np.cos(np.pi - t)
    x = -(inward + reach * np.sin(t) ** 0.7 - 0.001)
    z = 0.5 * (low + high) + 0.5 * (high - low) * -np.cos(t)
    vertices, faces = mesh
    handle, sides = rod(np.stack([x, np.zeros_like(x), z], axis=1), thick)
    joined = np.vstack([vertices, handle]), np.vstack([faces, sides + len(vertices)])
    return Shape(family, *joined, outer, round=False, open=True)


def _lens(random: np.random.Generator) -> Shape:
    """Plano-convex on its flat side, or biconvex on its edge's lower face."""
    radius = random.uniform(0.015, 0.05)
    edge = random.uniform(0.003, 0.006)
    bulge = radius * random.uniform(0.12, 0.4)
    lower = 0.0 if random.random() < 0.5 else bulge * random.uniform(0.3, 0.8)
    t = np.linspace(0, 1, 14)
    below = np.stack([radius * t, lower * t**2], axis=1)
    above = np.stack([radius * t, lower + edge + bulge * (1 - t**2)], axis=1)[::-1]
    return _solid("lens", np.vstack([below, above]))


def _cutlery(random: np.random.Generator) -> Shape:
    """A spoon, a fork or a knife, lying flat along x."""
    length, kind = random.uniform(0.15, 0.21), random.choice(["spoon", "fork", "knife"])
    thick, broad = random.uniform(0.002, 0.003), length * random.uniform(0.09, 0.12)
    neck = broad * 0.22
    at = np.array([0.0, 0.02, 0.1, 0.35, 0.6, 0.68, 0.74, 0.82, 0.9, 0.96, 1.0])
    arch = np.array([0.0, 0.0, 0.0, 0.006, 0.012, 0.01, 0.004, 0.0, 0.0, 0.002, 0.006])
    half = np.array([0.3, 0.4, 0.38, 0.28, 0.18, 0.25, 0.7, 1.0, 0.95, 0.6, 0.1]) * broad
    dip = np.zeros_like(at)
    if kind == "spoon":
        dip = np.array([0, 0, 0, 0, 0, 0.1, 0.6, 1.0, 0.9, 0.5, 0.0]) * 0.4 * broad
    elif kind == "knife":
        half = np.array([0.3, 0.4, 0.4, 0.4, 0.38, 0.4, 0.42, 0.42, 0.4, 0.3, 0.06]) * broad
        arch = np.zeros_like(at)
    else:
        half = np.where(at > 0.8, 0.75 * broad, half)
    along, tines = (at - 0.5) * length, at > 0.8
    if kind != "fork":
        parts = [slab(along, half, arch, dip, thick)]
    else:
        shank = ~tines | (at <= 0.82)
        parts = [slab(along[shank], half[shank], arch[shank], dip[shank], thick)]
        for middle in np.linspace(-0.75, 0.75, 4) * broad * 0.8:
            spike = np.full(int(tines.sum()), neck * 0.55) * np.linspace(1, 0.5, tines.sum())
            vertices, faces = slab(along[tines] - 5e-4, spike, arch[tines], dip[tines], thick)
            parts.append((vertices + np.array([0.0, middle, 0.0]), faces))
    counts = np.cumsum([0, *(len(vertices) for vertices, _ in parts)])
    vertices = np.vstack([vertices for vertices, _ in parts])
    faces = np.vstack([faces + n for (_, faces), n in zip(parts, counts, strict=False)])
    vertices[:, 2] -= vertices[:, 2].min()
    top = float(vertices[:, 2].max())
    outline = np.array([(0.0, 0.0), (0.5 * length, 0.0), (0.5 * length, top), (0.0, top)])
    return Shape("cutlery", vertices, faces, outline, round=False, open=False)


FAMILIES: dict[str, Callable[[np.random.Generator], Shape]] = {
    "tumbler": _tumbler,
    "cup": _cup,
    "wine_glass": _wine_glass,
    "martini": _martini,
    "bottle": _bottle,
    "jar": _jar,
    "bowl": _bowl,
    "plate": _plate,
    "vase": _vase,
    "flask": _flask,
    "can": _can,
    "ball": _ball,
    "tube": _tube,
    "box": _box,
    "pitcher": _pitcher,
    "mug": _mug,
    "lens": _lens,
    "cutlery": _cutlery,
}
