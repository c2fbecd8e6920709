"""Families of things that are no vessels: solid, or open at both ends.

Knows what they look like. Knows nothing of materials, of where an object stands, or of Blender.
"""

from __future__ import annotations

import numpy as np

from dkt_ros.synth.lathe import Profile, slab, stack, turn
from dkt_ros.synth.shapes import Shape

_HALF_PI = 0.5 * np.pi


def _solid(family: str, section: Profile) -> Shape:
    vertices, faces = turn(section)
    return Shape(family, vertices, faces, section, round=True, open=False)


def can(random: np.random.Generator) -> Shape:
    """A closed tin with rims."""
    radius, height = random.uniform(0.026, 0.045), random.uniform(0.06, 0.15)
    inset = radius * 0.9
    section = [(0, 0.002), (inset, 0.002), (inset, 0), (radius * 0.96, 0), (radius, 0.006)]
    section += [(radius, height * 0.3), (radius, height * 0.7), (radius, height - 0.006)]
    section += [(radius * 0.96, height), (inset, height), (inset, height - 0.003)]
    return _solid("can", np.array([*section, (0, height - 0.003)], float))


def ball(random: np.random.Generator) -> Shape:
    """Round or a little flat."""
    radius, flat = random.uniform(0.018, 0.045), random.uniform(0.75, 1.0)
    t = np.linspace(-_HALF_PI, _HALF_PI, 28)
    section = np.stack([np.cos(t) * radius, (np.sin(t) + 1) * radius * flat], axis=1)
    section[[0, -1], 0] = 0.0
    return _solid("ball", section)


def tube(random: np.random.Generator) -> Shape:
    """Open at both ends."""
    radius, height = random.uniform(0.012, 0.04), random.uniform(0.05, 0.18)
    inner = radius - random.uniform(0.0015, 0.005)
    levels = np.linspace(0, height, 6)
    outer = np.stack([np.full(6, radius), levels], axis=1)
    section = np.vstack([outer, np.stack([np.full(6, inner), levels[::-1]], axis=1)])
    vertices, faces = turn(section, closed_ring=True)
    return Shape("tube", vertices, faces, outer, round=True, open=False)


def box(random: np.random.Generator) -> Shape:
    """A block, or a box without a lid."""
    x, y, z = random.uniform((0.025, 0.025, 0.03), (0.07, 0.05, 0.11))
    if random.random() < 0.5:
        return _prism([(x, y, 0.0), (x, y, z)])
    wall = random.uniform(0.002, 0.004)
    rings = [(x, y, 0.0), (x, y, z), (x - wall, y - wall, z), (x - wall, y - wall, wall * 1.5)]
    return _prism(rings, open_top=True)


def _prism(rings: list[tuple[float, float, float]], open_top: bool = False) -> Shape:
    vertices, faces = stack(rings)
    outline = np.array([(float(np.hypot(x, y)), z) for x, y, z in rings])
    return Shape("box", vertices, faces, outline, round=False, open=open_top)


def lens(random: np.random.Generator) -> Shape:
    """Plano-convex on its flat side, or biconvex on its edge's lower face."""
    radius = random.uniform(0.015, 0.05)
    edge = random.uniform(0.003, 0.006)
    bulge = radius * random.uniform(0.12, 0.4)
    lower = 0.0 if random.random() < 0.5 else bulge * random.uniform(0.3, 0.8)
    t = np.linspace(0, 1, 14)
    below = np.stack([radius * t, lower * t**2], axis=1)
    above = np.stack([radius * t, lower + edge + bulge * (1 - t**2)], axis=1)[::-1]
    return _solid("lens", np.vstack([below, above]))


def cutlery(random: np.random.Generator) -> Shape:
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


def tool(random: np.random.Generator) -> Shape:
    """A screwdriver or a chisel standing on its tip, or a spanner lying flat along x."""
    if random.random() < 0.3:
        return _spanner(random)
    grip, long = random.uniform(0.011, 0.017), random.uniform(0.08, 0.115)
    blade, shank = random.uniform(0.003, 0.005), random.uniform(0.06, 0.11)
    outline = [(0, 0), (0.5 * blade, 0), (blade, 0.012), (blade, shank), (0.6 * grip, shank)]
    outline += [(0.75 * grip, shank + 0.15 * long), (grip, shank + 0.3 * long)]
    outline += [(grip, shank + 0.8 * long), (0.8 * grip, shank + 0.96 * long)]
    outline += [(0.6 * grip, shank + long), (0, shank + long)]
    return _solid("tool", np.array(outline, float))


def _spanner(random: np.random.Generator) -> Shape:
    length, thick = random.uniform(0.12, 0.2), random.uniform(0.006, 0.01)
    broad = length * random.uniform(0.09, 0.11)
    at = np.array([0.0, 0.03, 0.1, 0.17, 0.24, 0.76, 0.83, 0.9, 0.97, 1.0])
    half = broad * np.array([0.5, 0.85, 1.0, 0.8, 0.45, 0.45, 0.8, 1.0, 0.85, 0.5])
    flat = np.zeros_like(at)
    vertices, faces = slab((at - 0.5) * length, half, flat, flat, thick)
    outline = np.array([(0.0, 0.0), (0.5 * length, 0.0), (0.5 * length, thick), (0.0, thick)])
    return Shape("tool", vertices, faces, outline, round=False, open=False)
