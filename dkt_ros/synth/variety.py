"""Version 3's scenes: what real pictures show and version 2's lacked.

Knows what goes with what, near and far. Knows nothing of Blender. A scene is drawn, its objects
come to rest (physics.settle), and `complete` adds what depends on where they do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import cv2
import numpy as np

from dkt_ros.errors import DktError
from dkt_ros.formats.transphy3d import MaterialClass
from dkt_ros.synth import bodies
from dkt_ros.synth.camera import CameraPath, HandPath, PathOptions, Sway, eye_of, sample_path
from dkt_ros.synth.lathe import SEGMENTS, Mesh
from dkt_ros.synth.photo import Photo
from dkt_ros.synth.placement import place, scatter, stack_up
from dkt_ros.synth.sampling import (
    BIN_ELEVATION,
    SceneOptions,
    is_held_out,
    sample_area,
    sample_container,
    sample_light,
    sample_panorama,
    sample_shapes,
    sample_sky,
)
from dkt_ros.synth.scene import (
    LIFT,
    Item,
    Light,
    Liquid,
    Panel,
    Prop,
    Scene,
    Substance,
    Texture,
    about_z,
)
from dkt_ros.synth.substances import (
    sample_liquid,
    sample_print,
    sample_substance,
    sample_surface,
    sample_texture,
    sample_wall,
    vivid,
)

_WATCHED = 48
"""Frames of a path that are looked at for what the camera must not run into."""
_CLEAR = 0.07
"""Metres that the camera keeps from all objects."""
_UPRIGHT = np.cos(np.radians(1.0))
_ASPECT, _MOST_HIDDEN = 0.6, 0.4
_STACKED = ("tumbler", "cup", "bowl", "plate")


@dataclass(frozen=True)
class Shares:
    """Of scenes unless said otherwise, from 0 to 1.

    views: the camera is in a hand or on a wrist (below) instead of on PathOptions' circle; of
    these close, wrist (straight down), low, far; rolled, upside_down; static. surfaces: everyday
    wood, cloth, tiles; ground: objects on the floor; walls: close behind the objects; windows;
    furniture; labels: of vessels and cans that can bear one; prints: of boxes; sheets: paper under
    the objects; liquids: of upright vessels; stacks; hands; grippers; photo: the camera's own
    faults (blur, noise, exposure, colour).
    """

    views: float = 1.0
    close: float = 0.25
    wrist: float = 0.2
    low: float = 0.1
    far: float = 0.12
    rolled: float = 0.35
    upside_down: float = 0.06
    static: float = 0.15
    surfaces: float = 0.8
    ground: float = 0.1
    walls: float = 0.4
    windows: float = 0.3
    furniture: float = 0.35
    labels: float = 0.35
    prints: float = 0.5
    sheets: float = 0.25
    liquids: float = 0.35
    stacks: float = 0.2
    hands: float = 0.14
    grippers: float = 0.2
    photo: float = 0.9

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 <= value <= 1:
                raise DktError(f"--shares {field.name}={value:g}, expected a share from 0 to 1")
        if (total := self.close + self.wrist + self.low + self.far) > 1:
            raise DktError(f"--shares close, wrist, low, far add up to {total:g}, more than 1")


def sample_varied_scene(seed: int, index: int, options: SceneOptions, shares: Shares) -> Scene:
    """Scene `index` of `seed` in version 3, its objects not yet settled, see `complete`."""
    random = np.random.default_rng([seed, index, 3])

    def drawn(share: float) -> bool:
        return bool(random.random() < share)

    container = sample_container(random) if drawn(options.container_share) else None
    in_bin = container is not None and container.kind == "bin"
    least = BIN_ELEVATION if in_bin else 0.0
    if drawn(shares.views):
        path: CameraPath | HandPath = _hand_path(random, options.path, shares, least)
    else:
        path = sample_path(random, options.path, least_elevation=least)
    near = path.radius < 0.45
    objects = options.objects
    if near:
        objects = (min(objects[0], 2), max(2, objects[1] - 2))
    area = sample_area(path, container)
    shapes = sample_shapes(random, replace(options, objects=objects))
    dropped = drawn(options.drop_share) or (in_bin and options.drop_share > 0)
    if dropped:
        poses: Sequence[np.ndarray | None] = scatter(shapes, area, random)
    else:
        poses = place(shapes, area, random)
    items = []
    for number, (shape, pose) in enumerate(zip(shapes, poses, strict=True)):
        held_out = is_held_out(random, options.pool)
        substance = sample_substance(shape, random, held_out, transparent=number == 0)
        if shape.family == "box" and substance.kind == MaterialClass.OPAQUE:
            substance = _printed(substance, random) if drawn(shares.prints) else substance
        if pose is not None:
            items.append(Item(shape, substance, pose))
    if not dropped and drawn(shares.stacks):
        items = _stacked(items, random)
    outside = bool(options.panoramas)
    everyday = drawn(shares.surfaces)
    wall_distance = max(random.uniform(1.3, 3.0), path.radius * 1.4 + 0.3)
    half = random.uniform(0.42, 0.9)
    table_half = (half, half * random.uniform(0.75, 1.0))
    table = sample_surface(random) if everyday else sample_texture(random)
    if ground := drawn(shares.ground) and not outside:
        kinds = ["carpet", "tiles", "wood", "stone"]
        table = sample_surface(random, str(random.choice(kinds)))
        table_half = (wall_distance + 0.04, wall_distance + 0.04)
    floor = sample_surface(random) if everyday else sample_texture(random)
    walls = sample_wall(random) if everyday else sample_texture(random)
    lamps = 0 if outside and drawn(0.6) else int(random.integers(1, 3))
    lights = [sample_light(random) for _ in range(lamps)]
    floor_height = -0.05 if ground else -random.uniform(0.4, 0.8)
    panels: list[Panel] = []
    if not outside:
        if drawn(shares.walls):
            panels += _near_walls(random, path, area.half_size, walls)
        if drawn(shares.furniture) and not ground:
            panels += _furniture(random, path, wall_distance, floor_height, table_half)
        if drawn(shares.windows):
            panels += _window(random, path, wall_distance, panels)
    return Scene(
        items=tuple(items),
        area=area,
        dropped=dropped,
        table=table,
        table_half_size=table_half,
        floor=floor,
        floor_height=floor_height,
        walls=None if outside else walls,
        wall_distance=wall_distance,
        lights=tuple(_before(light, panels) for light in lights),
        sky=sample_panorama(random, options.panoramas) if outside else sample_sky(random),
        brightness=float(np.exp(random.uniform(np.log(0.14), np.log(0.55)))),
        path=path,
        noise_seed=int(random.integers(0, 2**31 - 1)),
        panels=tuple(panels),
        photo=_photo(random) if drawn(shares.photo) else None,
    )


def complete(scene: Scene, seed: int, index: int, shares: Shares) -> Scene:
    """The scene with what depends on where its objects came to rest.

    Liquids, labels, paper, a hand, a gripper; a camera that keeps clear of all of it.
    """
    random = np.random.default_rng([seed, index, 4])
    items = [
        replace(item, liquid=_liquid(item, random)) if random.random() < shares.liquids else item
        for item in scene.items
    ]
    scene = replace(scene, items=tuple(items))
    props = [
        label
        for item in items
        if random.random() < shares.labels and (label := _label(item, random)) is not None
    ]
    if random.random() < shares.sheets and scene.area.container is None:
        props += [_sheet(random, scene) for _ in range(int(random.integers(1, 3)))]
    path = scene.path
    if isinstance(path, HandPath) and path.radius < 0.45 and items:
        aim = items[int(random.integers(len(items)))]
        middle = _world(aim.shape.vertices, aim.pose).mean(axis=0) * random.uniform(0.6, 1.0)
        path = replace(path, target=(float(middle[0]), float(middle[1]), float(middle[2])))
    points = np.vstack([_world(item.shape.vertices, item.pose)[::3] for item in items])
    path = _cleared(path, points)
    panels = _pushed_back(scene.panels, points, path)
    scene = replace(scene, props=tuple(props), path=path, panels=panels)
    choice = random.random()
    if choice < shares.hands:
        scene = replace(scene, props=scene.props + _hand(random, scene, points))
    elif choice < shares.hands + shares.grippers:
        scene = replace(scene, props=scene.props + _gripper(random, scene, points))
    return scene


# The camera


def _hand_path(
    random: np.random.Generator, options: PathOptions, shares: Shares, least: float
) -> HandPath:
    kinds = ["close", "wrist", "low", "far", "table"]
    weights = np.array([shares.close, shares.wrist, shares.low, shares.far])
    weights = np.append(weights, 1 - weights.sum())
    kind = str(random.choice(kinds, p=weights))
    fov = random.uniform(*options.fov)
    radius, elevation = {
        "close": ((0.2, 0.45), (10.0, 70.0)),
        "wrist": ((0.22, 0.5), (65.0, 90.0)),
        "low": ((0.35, 1.0), (4.0, 15.0)),
        "far": ((0.9, 1.9), (10.0, 45.0)),
        "table": ((0.4, 1.1), (15.0, 65.0)),
    }[kind]
    if kind in ("close", "wrist"):
        fov = max(fov, random.uniform(*options.fov))
    elif kind != "far":
        radius = (max(radius[0], 0.26 / np.tan(np.radians(0.5 * fov))), radius[1] + 0.1)
    roll = random.normal(0, 6) if random.random() < shares.rolled else random.normal(0, 1)
    if kind == "wrist":
        roll = random.uniform(-180, 180)
    elif random.random() < shares.upside_down:
        roll += 180
    low = max(np.radians(elevation[0]), least)
    path = HandPath(
        target=(random.uniform(-0.05, 0.05), random.uniform(-0.05, 0.05), random.uniform(0, 0.07)),
        radius=random.uniform(radius[0], max(radius)),
        elevation=random.uniform(low, max(np.radians(elevation[1]), low)),
        azimuth=random.uniform(0, 2 * np.pi),
        roll=np.radians(roll),
        horizontal_fov=np.radians(fov),
    )
    if random.random() < shares.static:
        return path
    return replace(path, sways=_sways(random, path, wrist=kind == "wrist"))


def _sways(random: np.random.Generator, path: HandPath, wrist: bool) -> tuple[Sway, ...]:
    """A slow move in one or two numbers and a hand's small shake; a wrist hardly shakes."""

    def sway(number: str, amplitude: float, step: float) -> Sway:
        """`step` is the most it changes in a frame."""
        period = max(2 * np.pi * amplitude / step, 4.0)
        return Sway(number, amplitude, float(period), float(random.uniform(0, 2 * np.pi)))

    r = path.radius
    # Metres a frame: a hand at 30 frames a second moves at up to a metre a second.
    speed = float(np.exp(random.uniform(np.log(0.0015), np.log(0.015))))
    moves = []
    if wrist:
        moves += [sway(axis, random.uniform(0.02, 0.08), speed) for axis in "xy"]
        moves.append(sway("radius", r * random.uniform(0.1, 0.3), speed))
        moves.append(sway("roll", np.radians(random.uniform(2, 30)), 0.5 * speed / r))
    else:
        moves.append(sway("azimuth", np.radians(random.uniform(5, 40)), speed / r))
        rise = min(np.radians(random.uniform(1, 8)), 0.9 * path.elevation, np.pi / 2)
        moves.append(sway("elevation", rise, 0.5 * speed / r))
        moves.append(sway("radius", r * random.uniform(0.02, 0.2), 0.5 * speed))
    shake = 0.1 if wrist else 1.0
    for number in ("pan", "tilt", "roll"):
        size = shake * np.radians(random.uniform(0.05, 0.6))
        moves.append(sway(number, size, size * random.uniform(0.4, 1.2)))
    for number in "xyz":
        size = shake * random.uniform(0.0003, 0.003)
        moves.append(sway(number, size, size * random.uniform(0.4, 1.2)))
    return tuple(moves)


def _eyes(path: CameraPath | HandPath) -> np.ndarray:
    return np.array([eye_of(path.world_to_camera(frame)) for frame in range(_WATCHED)])


def _cleared(path: CameraPath | HandPath, points: np.ndarray) -> CameraPath | HandPath:
    """The path farther out until the camera keeps clear of all points and of the table."""
    for _ in range(30):
        eyes = _eyes(path)
        if _gap(eyes, points) > _CLEAR and eyes[:, 2].min() > 0.04:
            break
        path = replace(path, radius=1.1 * path.radius)
        if isinstance(path, HandPath) and eyes[:, 2].min() <= 0.04:
            path = replace(path, elevation=path.elevation + np.radians(3))
    return path


def _gap(some: np.ndarray, others: np.ndarray) -> float:
    """Least distance between two sets of points."""
    return min(
        float(np.linalg.norm(part[:, None] - others[None], axis=-1).min())
        for part in np.array_split(some, max(1, len(some) // 64))
    )


# The room


def _facing(path: CameraPath | HandPath) -> float:
    """The bearing in radians towards which the camera looks."""
    return path.azimuth + np.pi


def _near_walls(
    random: np.random.Generator,
    path: CameraPath | HandPath,
    half_size: tuple[float, float],
    texture: Texture,
) -> list[Panel]:
    bearing = _facing(path) + np.radians(random.uniform(-40, 40))
    distance = float(np.hypot(*half_size)) * 0.8 + random.uniform(0.03, 0.5)
    bearings = [bearing]
    if random.random() < 0.25:
        bearings.append(bearing + random.choice([-1, 1]) * np.pi / 2)
    return [_wall(b, distance * random.uniform(1.0, 1.3), texture) for b in bearings]


def _wall(bearing: float, distance: float, texture: Texture) -> Panel:
    thick, height = 0.05, 2.0
    out = distance + thick
    centre = (out * np.cos(bearing), out * np.sin(bearing), height - 1.0)
    return Panel("near wall", centre, (thick, 3.0, height), bearing, texture)


def _pushed_back(
    panels: tuple[Panel, ...], points: np.ndarray, path: CameraPath | HandPath
) -> tuple[Panel, ...]:
    """Near walls behind all objects; none of them, and no furniture, where the camera goes."""
    eyes, kept = _eyes(path), []
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
            local = _world(eyes - panel.centre, about_z(-panel.turn))
            if (np.abs(local) < np.array(panel.half) + 0.15).all(axis=1).any():
                continue
        kept.append(panel)
    return tuple(kept)


def _furniture(
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


def _window(
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


def _before(light: Light, panels: Sequence[Panel]) -> Light:
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


# What is on the table


def _printed(substance: Substance, random: np.random.Generator) -> Substance:
    texture = sample_print(random)
    return replace(substance, name="printed", colour=texture.first, texture=texture)


def _stacked(items: list[Item], random: np.random.Generator) -> list[Item]:
    """One or two more of a kind inside or on an upright cup, tumbler, bowl or plate."""
    bases = [item for item in items if item.shape.family in _STACKED and _stands(item)]
    if not bases:
        return items
    base = bases[int(random.integers(len(bases)))]
    rise = stack_up(base.shape)
    if rise is None:
        return items
    more = []
    for number in range(1, int(random.integers(2, 4))):
        pose = base.pose @ about_z(random.uniform(0, 2 * np.pi) if base.shape.round else 0.0)
        pose[2, 3] += number * rise
        more.append(replace(base, pose=pose))
    return items + more


def _stands(item: Item) -> bool:
    return bool(item.pose[2, 2] > _UPRIGHT)


def _liquid(item: Item, random: np.random.Generator) -> Liquid | None:
    """A filling of an upright vessel; None where it holds none."""
    if item.shape.cavity is None or not _stands(item) or item.shape.family == "plate":
        return None
    first, count = item.shape.cavity
    heights = item.shape.vertices[(first + np.arange(count)) * SEGMENTS, 2]
    low, high = heights.min(), heights.max()
    level = low + random.uniform(0.2, 0.9) * (high - low)
    ring = int(np.argmin(np.abs(heights - level)))
    if not 0 < ring < count - 1:
        return None
    kind = item.substance
    wall = kind.ior if kind.kind == MaterialClass.TRANSPARENT else 1.5
    surface, wet = sample_liquid(random, wall)
    if kind.kind != MaterialClass.TRANSPARENT:
        wet = kind
    return Liquid(ring, surface, wet)


def _label(item: Item, random: np.random.Generator) -> Prop | None:
    """A printed label round the straight part of a round vessel or can."""
    shape = item.shape
    if not shape.round or shape.family not in ("bottle", "jar", "tumbler", "can", "flask", "vase"):
        return None
    radius, height = shape.outline.T
    best: tuple[float, float, float] | None = None
    for i in range(len(height)):
        same = np.abs(radius[i:] - radius[i]) <= 0.004 * radius[i]
        j = i + (len(same) if same.all() else int(np.argmin(same))) - 1
        if height[j] - height[i] > (0.02 if best is None else best[1] - best[0]):
            best = float(height[i]), float(height[j]), float(radius[i : j + 1].max())
    if best is None:
        return None
    low, high, broad = best
    tall = (high - low) * random.uniform(0.5, 0.95)
    base = low + random.uniform(0.1, 0.9) * (high - low - tall)
    span = 2 * np.pi * random.uniform(0.3, 0.97)
    # Thinner than what a lying object hovers by.
    mesh = bodies.band(broad + 0.3 * LIFT, base, base + tall, span, 0.3 * LIFT)
    pose = item.pose @ about_z(random.uniform(0, 2 * np.pi))
    texture = sample_print(random)
    paper = Substance("print", MaterialClass.OPAQUE, texture.first, 0.4, texture=texture)
    return Prop("label", *mesh, paper, pose)


def _sheet(random: np.random.Generator, scene: Scene) -> Prop:
    """Printed paper, thinner than the gap under the objects."""
    x, y = random.uniform((0.05, 0.07), (0.11, 0.15))
    texture = replace(sample_print(random), scale=2 * float(x))
    paper = Substance("print", MaterialClass.OPAQUE, texture.first, 0.7, texture=texture)
    pose = about_z(random.uniform(0, 2 * np.pi))
    reach = scene.area.half_size[0]
    pose[:2, 3] = random.uniform(-reach, reach, 2)
    # Two sheets cross: each has a height of its own.
    pose[2, 3] = random.uniform(0.2, 0.7) * LIFT
    return Prop("sheet", *bodies.block((-x, -y, 0), (x, y, 0.05 * LIFT)), paper, pose)


# Hands and grippers


def _world(points: np.ndarray, pose: np.ndarray) -> np.ndarray:
    return points @ pose[:3, :3].T + pose[:3, 3]


def _frame(x: np.ndarray, z: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """(4,4) with z along one vector and x near another."""
    z = z / np.linalg.norm(z)
    y = np.cross(z, x)
    y /= np.linalg.norm(y)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([np.cross(y, z), y, z], axis=1)
    pose[:3, 3] = origin
    return pose


def _fits(mesh: Mesh, pose: np.ndarray, scene: Scene, points: np.ndarray, gap: float) -> bool:
    """Whether a mesh keeps clear of the objects, the table, the near walls and the camera."""
    vertices = _world(mesh[0], pose)
    if vertices[:, 2].min() < 0.002 or _gap(_eyes(scene.path), vertices[::5]) < 0.1:
        return False
    for panel in scene.panels:
        local = _world(vertices - panel.centre, about_z(-panel.turn))
        if (np.abs(local) < np.array(panel.half)).all(axis=1).any():
            return False
    near = points[(np.abs(points - vertices.mean(axis=0)) < np.ptp(vertices, axis=0)).all(axis=1)]
    return not len(near) or _gap(vertices[::5], near) > gap


def _hides_much(meshes: Sequence[Mesh], pose: np.ndarray, scene: Scene) -> bool:
    """Whether meshes cover too much of a wide picture, by their hull in a few frames."""
    points = np.vstack([_world(vertices, pose) for vertices, _ in meshes])
    half = np.tan(0.5 * scene.path.horizontal_fov)
    for frame in range(0, _WATCHED, 12):
        seen = _world(points, scene.path.world_to_camera(frame))
        seen = seen[seen[:, 2] > 0.02]
        flat = np.clip(seen[:, :2] / (half * seen[:, 2:]), [-1, -_ASPECT], [1, _ASPECT])
        if len(flat) > 2:
            area = cv2.contourArea(cv2.convexHull(flat.astype(np.float32)))
            if area > _MOST_HIDDEN * 4 * _ASPECT:
                return True
    return False


def _hollow_free(mesh: Mesh, pose: np.ndarray, items: Sequence[Item]) -> bool:
    """Whether no vertex lies inside an object's outline."""
    vertices = _world(mesh[0], pose)
    for item in items:
        local = _world(vertices, np.linalg.inv(item.pose))
        inside = (local[:, 2] > 0) & (local[:, 2] < item.shape.height)
        if (np.hypot(local[inside, 0], local[inside, 1]) < item.shape.radius + 5e-4).any():
            return False
    return True


def _gripper(random: np.random.Generator, scene: Scene, points: np.ndarray) -> tuple[Prop, ...]:
    """The camera's own, at the picture's edge, or another robot's about one of the objects."""
    wrist = scene.path.elevation > np.radians(55) or scene.path.radius < 0.4
    body, fingers = (_gripper_substance(random, part) for part in ("body", "fingers"))
    broad, long = random.uniform(0.014, 0.026), random.uniform(0.5, 0.8)
    if wrist and random.random() < 0.75:
        opening = random.uniform(0.03, 0.1)
        meshes = bodies.gripper(opening, broad, long)
        for _ in range(12):
            # In the camera's axes: beside it, the fingers forward and somewhat into the view.
            aside = random.uniform(0.075, 0.11)
            tips = np.array(
                [
                    random.uniform(-0.01, 0.01),
                    random.uniform(0.3, 0.6) * aside,
                    random.uniform(0.11, 0.19),
                ]
            )
            back = np.array([0.0, aside, 0.0]) - tips
            bearing = random.choice([0.0, np.pi, np.pi / 2, -np.pi / 2])
            turn = about_z(bearing)
            pose = turn @ _frame(np.array([1.0, 0.0, 0.0]), -back, tips)
            if _clear_along(scene, meshes[1][0], pose, points):
                return _parts(meshes, pose, (body, fingers), attached=True)
        return ()
    for _ in range(25):
        item = scene.items[int(random.integers(len(scene.items)))]
        top = _world(item.shape.vertices, item.pose)
        middle, high = top.mean(axis=0), float(top[:, 2].max())
        tilt, bearing = np.radians(random.uniform(0, 60)), random.uniform(0, 2 * np.pi)
        down = -np.array(
            [np.sin(tilt) * np.cos(bearing), np.sin(tilt) * np.sin(bearing), np.cos(tilt)]
        )
        wide = 2 * item.shape.radius + random.uniform(0.004, 0.03)
        meshes = bodies.gripper(min(wide, 0.14), broad, long)
        grasped = np.array([middle[0], middle[1], high * random.uniform(0.5, 0.95)])
        grasped += random.uniform(0, 0.12) * -down * (random.random() < 0.5)
        across = np.array([-np.sin(bearing), np.cos(bearing), 0.0])
        pose = _frame(across, down, grasped)
        fits = all(_fits(mesh, pose, scene, points, 0.002) for mesh in meshes)
        if fits and not _hides_much(meshes, pose, scene):
            return _parts(meshes, pose, (body, fingers), attached=False)
    return ()


def _parts(
    meshes: tuple[Mesh, Mesh], pose: np.ndarray, kinds: Sequence[Substance], attached: bool
) -> tuple[Prop, ...]:
    names = ("gripper", "fingers")
    return tuple(
        Prop(name, *mesh, kind, pose, attached)
        for name, mesh, kind in zip(names, meshes, kinds, strict=True)
    )


def _clear_along(scene: Scene, vertices: np.ndarray, pose: np.ndarray, points: np.ndarray) -> bool:
    """Whether something fixed to the camera stays clear of all points and of the table."""
    held = _world(vertices, pose)
    for frame in range(0, _WATCHED, 3):
        back = np.linalg.inv(scene.path.world_to_camera(frame))
        now = _world(held, back)
        if now[:, 2].min() < 0.005 or _gap(now, points) < 0.004:
            return False
    return True


def _gripper_substance(random: np.random.Generator, part: str) -> Substance:
    choice = random.random()
    if choice < (0.15 if part == "body" else 0.3):
        rough = random.uniform(0.15, 0.4)
        return Substance("aluminium", MaterialClass.REFLECTIVE, (0.8, 0.8, 0.82), rough)
    if choice < 0.75:
        grey = random.uniform(0.01, 0.12)
        return Substance("plastic", MaterialClass.OPAQUE, (grey, grey, grey), 0.45)
    if choice < 0.9:
        return Substance("plastic", MaterialClass.OPAQUE, (0.75, 0.75, 0.76), 0.35)
    return Substance("plastic", MaterialClass.OPAQUE, vivid(random, 0.9, 0.6), 0.4)


def _hand(random: np.random.Generator, scene: Scene, points: np.ndarray) -> tuple[Prop, ...]:
    """About an upright object, or free above the table; nothing where neither fits."""
    tone = np.array([0.62, 0.36, 0.25]) * random.uniform(0.12, 1.15)
    r, g, b = np.clip(tone * [1, 1 + random.uniform(-0.1, 0.1), 1], 0, 0.9).tolist()
    skin = Substance("skin", MaterialClass.OPAQUE, (r, g, b), random.uniform(0.4, 0.6))
    cloth = sample_surface(random, "cloth")
    sleeve = Substance("cloth", MaterialClass.OPAQUE, cloth.first, 0.9, texture=cloth)
    tall = [item for item in scene.items if _stands(item) and item.shape.height > 0.06]
    slim = [item for item in tall if item.shape.radius < 0.05]
    mirror = np.diag([random.choice([-1.0, 1.0]), 1.0, 1.0])
    for attempt in range(24):
        away = scene.path.azimuth + np.radians(random.uniform(20, 150) * random.choice([-1, 1]))
        inwards = -np.array([np.cos(away), np.sin(away), 0.0])
        held = None
        if slim and attempt < 12:
            held = slim[int(random.integers(len(slim)))]
            pose = _grasp(random, held, inwards, float(mirror[0, 0]))
        else:
            over = random.uniform(-0.1, 0.1, 2)
            height = random.uniform(0.1, 0.28)
            pitch = np.radians(random.uniform(5, 35))
            ahead = inwards * np.cos(pitch) - np.array([0, 0, np.sin(pitch)])
            up = np.array([0, 0, 1.0]) + random.normal(0, 0.3, 3)
            pose = _palm_frame(ahead, up, np.array([*over, height]) - 0.1 * ahead)
        meshes = _hand_mesh(random, pose, mirror, scene.items)
        if meshes is None:
            continue
        if all(_fits(mesh, pose, scene, points, -1.0) for mesh in meshes):
            free = [item for item in scene.items if item is not held]
            if all(_hollow_free(mesh, pose, free) for mesh in meshes) and not _hides_much(
                meshes, pose, scene
            ):
                return (
                    Prop("hand", *meshes[0], skin, pose, voxel=0.0032),
                    Prop("sleeve", *meshes[1], sleeve, pose),
                )
    return ()


def _palm_frame(ahead: np.ndarray, back: np.ndarray, wrist: np.ndarray) -> np.ndarray:
    """(4,4): fingers (+y) along `ahead`, the back of the hand (+z) near `back`."""
    y = ahead / np.linalg.norm(ahead)
    x = np.cross(y, back)
    x /= np.linalg.norm(x)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([x, y, np.cross(x, y)], axis=1)
    pose[:3, 3] = wrist
    return pose


def _grasp(
    random: np.random.Generator, item: Item, inwards: np.ndarray, mirror: float
) -> np.ndarray:
    """The palm beside the object, the thumb up, the arm horizontal or somewhat raised."""
    up = np.array([0.0, 0.0, 1.0])
    ahead = inwards - np.tan(np.radians(random.uniform(0, 30))) * up
    ahead /= np.linalg.norm(ahead)
    # x = ahead x back has to point up for a right hand (down for a left one, mirrored).
    back = np.cross(up, ahead) * mirror
    radius = item.shape.radius
    height = max(random.uniform(0.4, 0.7) * item.shape.height, 0.05)
    centre = item.pose[:3, 3] + [0.0, 0.0, height]
    wrist = centre - bodies.PALM * ahead + (radius + 0.016) * back
    return _palm_frame(ahead, back, wrist)


def _hand_mesh(
    random: np.random.Generator, pose: np.ndarray, mirror: np.ndarray, items: Sequence[Item]
) -> tuple[Mesh, Mesh] | None:
    """Skin and sleeve; each finger closes until it touches. None where the palm does not fit."""

    def turned(meshes: list[Mesh]) -> Mesh:
        vertices, faces = bodies.join(meshes)
        return vertices @ mirror, faces[:, ::-1] if mirror[0, 0] < 0 else faces

    wrist, sleeve = bodies.forearm(random.uniform(0.45, 0.6))
    loose = random.uniform(0.6, 1.0)
    skin = [*wrist]
    for thumb in (1.1, 0.8, 0.5, 0.2, -0.1):
        part = bodies.palm(thumb * loose)
        if _hollow_free(turned(part), pose, items):
            skin += part
            break
    else:
        return None
    for number in range(bodies.FINGERS):
        for share in (1.0, 0.85, 0.7, 0.55, 0.4, 0.25, 0.1, 0.0):
            bend = share * loose * np.radians(62)
            part = bodies.finger(number, (bend, bend, 0.8 * bend))
            if _hollow_free(turned(part), pose, items):
                skin += part
                break
        else:
            return None
    return turned(skin), turned([sleeve])


def _photo(random: np.random.Generator) -> Photo:
    """A camera and how it is set; about a tenth of them badly."""
    bad = 2.5 if random.random() < 0.1 else 1.0
    dark = float(np.exp(random.uniform(np.log(0.0015), np.log(0.012))))
    warm = random.normal(0, 0.09) * bad
    return Photo(
        stops=float(np.clip(random.normal(0, 0.3 * bad), -1.4, 1.1)),
        drift=random.uniform(0, 0.15) * (random.random() < 0.4),
        drift_period=random.uniform(10, 60),
        gains=(float(np.exp(warm)), float(np.exp(-warm + random.normal(0, 0.04)))),
        saturation=random.uniform(0.75, 1.3),
        contrast=random.uniform(0.85, 1.15),
        vignette=random.uniform(0, 0.35) * (random.random() < 0.5),
        shutter=random.uniform(0.05, 0.5),
        defocus=random.uniform(0.25, 0.7) * min(bad, 1.8) if random.random() < 0.6 else 0.0,
        sharpening=random.uniform(0.1, 0.9) if random.random() < 0.5 else 0.0,
        halo=random.uniform(0.6, 1.3),
        shot_noise=2 * dark * bad,
        read_noise=0.5 * dark * bad,
        jpeg=int(random.integers(60, 96)) if random.random() < 0.6 else 0,
    )
