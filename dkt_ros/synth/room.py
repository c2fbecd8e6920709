"""What stands around the table: near walls, furniture, windows.

Knows the camera's path, which looks at all of it. Knows nothing of what is on the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dkt_ros.synth.camera import CameraPath, HandPath
from dkt_ros.synth.clearance import eyes_along
from dkt_ros.synth.scene import Light, Panel, Texture, about_z, placed
from dkt_ros.synth.substances import sample_surface


def near_walls(
    random: np.random.Generator,
    path: CameraPath | HandPath,
    half_size: tuple[float, float],
    texture: Texture,
) -> list[Panel]:
    """One or two, close behind the objects."""
    bearing = _facing(path) + np.radians(random.uniform(-40, 40))
    distance = float(np.hypot(*half_size)) * 0.8 + random.uniform(0.03, 0.5)
    bearings = [bearing]
    if random.random() < 0.25:
        bearings.append(bearing + random.choice([-1, 1]) * np.pi / 2)
    return [_wall(b, distance * random.uniform(1.0, 1.3), texture) for b in bearings]


def furniture(
    random: np.random.Generator,
    path: CameraPath | HandPath,
    wall_distance: float,
    floor: float,
    table_half: tuple[float, float],
) -> list[Panel]:
    """Cupboards, shelves, boxes: blocks on the floor between table and walls."""
    panels = []
    for _ in range(int(random.integers(1, 5))):
        bearing = _facing(path) + np.radians(random.uniform(-70, 70))
        half = random.uniform((0.08, 0.08, 0.15), (0.35, 0.45, 0.9))
        reach = float(np.hypot(half[0], half[1]))
        least, most = float(np.hypot(*table_half)) + reach, wall_distance * 1.2 - reach
        if least >= most:
            continue
        out = random.uniform(least, most)
        centre = (out * np.cos(bearing), out * np.sin(bearing), floor + half[2])
        turn = bearing + random.choice([0.0, np.radians(random.uniform(-40, 40))])
        size = (float(half[0]), float(half[1]), float(half[2]))
        panels.append(Panel("furniture", centre, size, turn, sample_surface(random)))
    return panels


def window(
    random: np.random.Generator,
    path: CameraPath | HandPath,
    wall_distance: float,
    panels: Sequence[Panel],
) -> list[Panel]:
    """Panes of daylight in a wall: the one close by, or the room's, before or beside the camera."""
    near = [panel for panel in panels if panel.kind == "near wall"]
    if near:
        bearing = near[0].turn
        distance = float(np.hypot(*near[0].centre[:2])) - near[0].half[0]
    else:
        bearing = round((_facing(path) + random.uniform(-1.2, 1.2)) / (np.pi / 2)) * np.pi / 2
        distance = wall_distance
    wide, high = random.uniform(0.25, 0.5), random.uniform(0.3, 0.6)
    aside, base = random.uniform(-0.7, 0.7), random.uniform(0.05, 0.6)
    blue = random.uniform(0.75, 1.3)
    daylight = (0.9, 0.95, min(0.95 * blue, 1.0))
    texture = Texture("plain", daylight, daylight, 1.0, 0.0, 0.0, 1.0)
    glow = float(np.exp(random.uniform(np.log(1.0), np.log(8.0))))
    panes = []
    side = np.array([-np.sin(bearing), np.cos(bearing)])
    for column in range(int(random.integers(1, 4))):
        place = (distance - 0.006) * np.array([np.cos(bearing), np.sin(bearing)])
        x, y = place + (aside + column * (2 * wide + 0.05)) * side
        centre = (float(x), float(y), base + high)
        panes.append(Panel("window", centre, (0.004, wide, high), bearing, texture, glow))
    return panes


def before_walls(light: Light, panels: Sequence[Panel]) -> Light:
    """The lamp on the room's side of near walls."""
    for panel in panels:
        if panel.kind == "near wall":
            out = np.array([np.cos(panel.turn), np.sin(panel.turn)])
            front = float(panel.centre[:2] @ out) - panel.half[0] - 0.5 * light.size - 0.05
            position = np.array(light.position)
            if (over := float(position[:2] @ out) - front) > 0:
                position[:2] -= 1.5 * over * out
                x, y, z = position.tolist()
                light = replace(light, position=(x, y, z))
    return light


def pushed_back(
    panels: tuple[Panel, ...], points: np.ndarray, path: CameraPath | HandPath
) -> tuple[Panel, ...]:
    """Near walls behind all objects; none of them, and no furniture, where the camera goes."""
    eyes, kept = eyes_along(path), []
    for panel in panels:
        out = np.array([np.cos(panel.turn), np.sin(panel.turn)])
        if panel.kind == "near wall":
            front = float(panel.centre[:2] @ out) - panel.half[0]
            need = float((points[:, :2] @ out).max()) + 0.01
            if need > front:
                x, y = np.array(panel.centre[:2]) + (need - front) * out
                panel = replace(panel, centre=(float(x), float(y), panel.centre[2]))
                front = need
            if (eyes[:, :2] @ out).max() > front - 0.12:
                continue
        elif panel.glow == 0:
            local = placed(eyes - panel.centre, about_z(-panel.turn))
            if (np.abs(local) < np.array(panel.half) + 0.15).all(axis=1).any():
                continue
        kept.append(panel)
    return tuple(kept)


def _wall(bearing: float, distance: float, texture: Texture) -> Panel:
    thick, height = 0.05, 2.0
    out = distance + thick
    centre = (out * np.cos(bearing), out * np.sin(bearing), height - 1.0)
    return Panel("near wall", centre, (thick, 3.0, height), bearing, texture)


def _facing(path: CameraPath | HandPath) -> float:
    """The bearing in radians towards which the camera looks."""
    return path.azimuth + np.pi
