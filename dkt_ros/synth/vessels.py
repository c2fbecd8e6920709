"""Families of vessels with wall thickness; each draws its section from a random generator.

Knows what vessels look like. Knows nothing of materials, of where an object stands, or of Blender.
"""

from __future__ import annotations

import numpy as np

from dkt_ros.synth.lathe import SEGMENTS, Mesh, Profile, hollow, rod, smooth_curve, turn
from dkt_ros.synth.shapes import Shape


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
    cavity = len(outer) - 1, len(inside) - len(outer) - 1
    return Shape(family, vertices, faces, outer, round=cross is None, open=True, cavity=cavity)


def tumbler(random: np.random.Generator) -> Shape:
    """Straight or tapered, mostly round."""
    height, top = random.uniform(0.07, 0.16), random.uniform(0.028, 0.045)
    bottom = top * random.uniform(0.65, 1.0)
    wall = random.uniform(0.0015, 0.004)
    side = [(bottom + (top - bottom) * t, height * t) for t in np.linspace(0.03, 1, 12)]
    outer = np.array([(0, 0), (bottom * 0.5, 0), (bottom * 0.95, 0), *side])
    inside = hollow(outer, wall, random.uniform(0.003, 0.015), start=2)
    return _vessel("tumbler", outer, inside, cross_section(random))


def cup(random: np.random.Generator) -> Shape:
    """Without a handle, curved out towards the rim."""
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


def wine_glass(random: np.random.Generator) -> Shape:
    """A tulip on a stem."""
    radius, height = random.uniform(0.03, 0.048), random.uniform(0.06, 0.11)
    rim = random.uniform(0.6, 0.95)
    bowl = [(radius * 0.55, height * 0.08), (radius * 0.9, height * 0.25)]
    bowl += [(radius, height * 0.45), (radius * 0.5 * (1 + rim), height * 0.75)]
    return _stemmed("wine_glass", random, [*bowl, (radius * rim, height)])


def martini(random: np.random.Generator) -> Shape:
    """A cone on a stem."""
    radius, height = random.uniform(0.045, 0.06), random.uniform(0.045, 0.07)
    return _stemmed(
        "martini", random, [(radius * t, height * t) for t in (0.15, 0.4, 0.6, 0.8, 1.0)]
    )


def bottle(random: np.random.Generator) -> Shape:
    """Shoulder, neck and lip."""
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


def plastic_bottle(random: np.random.Generator) -> Shape:
    """A bottle with walls of a third of a millimetre, mostly with grooves around it."""
    radius, height = random.uniform(0.026, 0.045), random.uniform(0.14, 0.27)
    neck = random.uniform(0.0115, 0.0145)
    shoulder = random.uniform(0.55, 0.78)
    level = np.linspace(0.02, height * shoulder, 60)
    grooves, depth = int(random.integers(0, 9)), random.uniform(0.005, 0.035)
    wave = 1 - depth * np.clip(np.sin(2 * np.pi * grooves * level / (height * shoulder)), 0, 1)
    top = [(radius, height * shoulder), (radius * 0.88, height * (shoulder + 0.04))]
    top += [(neck * 1.3, height * min(shoulder + 0.13, 0.9)), (neck, height * 0.92)]
    lip = [(neck * 1.2, height * 0.925), (neck, height * 0.93), (neck, height)]
    base = [(0, 0), (radius * 0.5, 0), (radius * 0.9, 0), (radius * 0.99, 0.006)]
    side = np.column_stack([radius * wave, level])
    outer = np.vstack([base, side[:-1], smooth_curve(top, 4), lip])
    inside = hollow(outer, random.uniform(0.0002, 0.0006), 0.001, start=2)
    return _vessel("bottle", outer, inside, cross_section(random))


def plastic_cup(random: np.random.Generator) -> Shape:
    """A tapered cup with walls of a third of a millimetre and a rolled rim."""
    height, top = random.uniform(0.07, 0.15), random.uniform(0.033, 0.048)
    bottom = top * random.uniform(0.6, 0.8)
    side = [(bottom + (top - bottom) * t, height * t) for t in np.linspace(0.03, 0.985, 12)]
    rim = [(top * 1.03, height * 0.99), (top * 1.03, height)]
    outer = np.array([(0, 0), (bottom * 0.5, 0), (bottom * 0.95, 0), *side, *rim])
    inside = hollow(outer, random.uniform(0.0003, 0.0008), random.uniform(0.001, 0.004), start=2)
    cross = cross_section(random) if random.random() < 0.3 else None
    return _vessel("tumbler", outer, inside, cross)


def jar(random: np.random.Generator) -> Shape:
    """A wide mouth under a short neck."""
    radius, height = random.uniform(0.03, 0.05), random.uniform(0.07, 0.15)
    mouth = radius * random.uniform(0.65, 0.9)
    body = [(radius, 0.005), (radius, height * 0.4), (radius, height * 0.74)]
    body += [(mouth * 1.04, height * 0.86), (mouth, height * 0.9)]
    lip = [(mouth * 1.05, height * 0.92), (mouth * 1.05, height * 0.96), (mouth, height)]
    outer = np.vstack([[(0, 0), (radius * 0.5, 0), (radius * 0.93, 0)], smooth_curve(body, 4), lip])
    inside = hollow(outer, random.uniform(0.002, 0.004), 0.006, start=2)
    return _vessel("jar", outer, inside, cross_section(random))


def bowl(random: np.random.Generator) -> Shape:
    """Shallow and open."""
    radius, height = random.uniform(0.05, 0.1), random.uniform(0.035, 0.07)
    foot, power = radius * random.uniform(0.35, 0.5), random.uniform(1.6, 2.6)
    t = np.linspace(0, 1, 16)
    side = np.stack([foot + (radius - foot) * t, 0.003 + (height - 0.003) * t**power], axis=1)
    outer = np.vstack([[(0, 0), (foot * 0.5, 0), (foot * 0.95, 0)], side])
    return _vessel("bowl", outer, hollow(outer, random.uniform(0.002, 0.004), 0.006, 2))


def plate(random: np.random.Generator) -> Shape:
    """A bowl, nearly flat."""
    radius, height = random.uniform(0.07, 0.11), random.uniform(0.012, 0.022)
    foot = radius * random.uniform(0.55, 0.7)
    t = np.linspace(0, 1, 10)
    side = np.stack([foot + (radius - foot) * t, 0.002 + (height - 0.002) * t**1.4], axis=1)
    outer = np.vstack([[(0, 0), (foot * 0.5, 0), (foot * 0.97, 0)], side])
    return _vessel("plate", outer, hollow(outer, random.uniform(0.002, 0.0035), 0.005, 2))


def vase(random: np.random.Generator) -> Shape:
    """A belly and a waist."""
    radius, height = random.uniform(0.03, 0.055), random.uniform(0.12, 0.24)
    waist, mouth = random.uniform(0.45, 0.8), random.uniform(0.6, 1.1)
    body = [(radius * 0.6, 0.004), (radius * 0.9, height * 0.18), (radius, height * 0.36)]
    body += [(radius * 0.5 * (1 + waist), height * 0.58), (radius * waist, height * 0.78)]
    body += [(radius * 0.5 * (waist + mouth), height * 0.92), (radius * mouth, height)]
    outer = np.vstack([[(0, 0), (radius * 0.3, 0), (radius * 0.55, 0)], smooth_curve(body, 4)])
    inside = hollow(outer, random.uniform(0.002, 0.004), 0.008, start=2)
    return _vessel("vase", outer, inside, cross_section(random))


def flask(random: np.random.Generator) -> Shape:
    """Conical, as in a laboratory."""
    radius, height = random.uniform(0.035, 0.055), random.uniform(0.1, 0.17)
    neck = random.uniform(0.012, 0.018)
    body = [(radius, 0.008), (radius * 0.93, height * 0.18), (radius * 0.6, height * 0.45)]
    body += [(neck * 1.1, height * 0.68), (neck, height * 0.78), (neck, height * 0.95)]
    base = [(0, 0), (radius * 0.5, 0), (radius * 0.9, 0)]
    lip = [(neck * 1.2, height * 0.98), (neck * 1.2, height)]
    outer = np.vstack([base, smooth_curve(body, 4), lip])
    return _vessel("flask", outer, hollow(outer, random.uniform(0.0012, 0.002), 0.004, 2))


def pitcher(random: np.random.Generator) -> Shape:
    """A jug with a handle on one side and a lip pulled out on the other."""
    radius, height = random.uniform(0.04, 0.055), random.uniform(0.13, 0.21)
    neck, mouth = random.uniform(0.6, 0.85), random.uniform(0.75, 0.95)
    body = [(radius * 0.85, 0.005), (radius, height * 0.3), (radius * 0.95, height * 0.5)]
    body += [(radius * neck, height * 0.8), (radius * mouth, height)]
    base = [(0, 0), (radius * 0.4, 0), (radius * 0.75, 0)]
    outer = np.vstack([base, smooth_curve(body, 5)])
    inside = hollow(outer, random.uniform(0.002, 0.0035), 0.006, start=2)
    vertices, faces = turn(inside)
    angle = np.arctan2(vertices[:, 1], vertices[:, 0])
    rise = np.clip(vertices[:, 2] / height - 0.8, 0, 1) / 0.2
    pull = radius * random.uniform(0.2, 0.4) * rise**2 * np.exp(-((angle / 0.35) ** 2))
    vertices[:, 0] += pull
    ends, rings = (0.25 * height, 0.85 * height), len(inside) - len(outer) - 1
    return _with_handle("pitcher", (vertices, faces), outer, ends, rings, random)


def mug(random: np.random.Generator) -> Shape:
    """Straight, with a handle."""
    radius, height = random.uniform(0.034, 0.045), random.uniform(0.07, 0.11)
    side = [(radius, height * t) for t in np.linspace(0.04, 1, 10)]
    outer = np.array([(0, 0), (radius * 0.5, 0), (radius * 0.93, 0), *side])
    inside = hollow(outer, random.uniform(0.0025, 0.004), 0.005, start=2)
    ends, rings = (0.2 * height, 0.8 * height), len(inside) - len(outer) - 1
    return _with_handle("mug", turn(inside), outer, ends, rings, random)


def _with_handle(
    family: str,
    mesh: Mesh,
    outer: Profile,
    ends: tuple[float, float],
    rings: int,
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
    cavity = len(outer) - 1, rings
    return Shape(family, *joined, outer, round=False, open=True, cavity=cavity)
