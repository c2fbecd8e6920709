"""Version 3's scenes: what real pictures show and version 2's lacked.

Knows what goes with what, near and far. Knows nothing of Blender. A scene is drawn, its objects
come to rest (physics.settle), and `complete` adds what depends on where they do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from dkt_ros.errors import DktError
from dkt_ros.formats.transphy3d import MaterialClass
from dkt_ros.synth import bodies
from dkt_ros.synth.camera import CameraPath, HandPath, PathOptions, Sway, sample_path
from dkt_ros.synth.clearance import cleared
from dkt_ros.synth.hands import gripper, hand
from dkt_ros.synth.lathe import SEGMENTS, turn
from dkt_ros.synth.photo import Photo
from dkt_ros.synth.placement import place, scatter, stack_up
from dkt_ros.synth.room import before_walls, furniture, near_walls, pushed_back, window
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
    Liquid,
    Panel,
    Prop,
    Scene,
    Substance,
    about_z,
)
from dkt_ros.synth.substances import (
    sample_colour,
    sample_liquid,
    sample_packaging,
    sample_print,
    sample_substance,
    sample_surface,
    sample_texture,
    sample_wall,
)
from dkt_ros.synth.vessels import plastic_bottle, plastic_cup

_STACKED = ("tumbler", "cup", "bowl", "plate")


@dataclass(frozen=True)
class Shares:
    """Of scenes unless said otherwise, from 0 to 1.

    views: the camera is in a hand or on a wrist (below) instead of on PathOptions' circle; of
    these close, wrist (straight down), low, far; rolled, upside_down; static. surfaces: everyday
    wood, cloth, tiles; ground: objects on the floor; walls: close behind the objects; windows;
    furniture; labels: of vessels and cans that can bear one; prints: of boxes; sheets: paper under
    the objects; liquids: of upright vessels; stacks; hands; grippers; photo: the camera's own
    faults (blur, noise, exposure, colour); packaging: most objects are bottles and cups of thin
    clear plastic, some of the bottles closed with a cap.
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
    packaging: float = 0.0

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
    packed = _packaging(seed, index, shares)
    thin = [number == 0 or packed.random() < 0.6 for number in range(len(shapes))] if packed else []
    if packed:
        shapes = [
            (plastic_cup if packed.random() < 0.4 else plastic_bottle)(packed) if instead else shape
            for shape, instead in zip(shapes, thin, strict=True)
        ]
    dropped = drawn(options.drop_share) or (in_bin and options.drop_share > 0)
    poses: Sequence[np.ndarray | None] = (scatter if dropped else place)(shapes, area, random)
    items = []
    for number, (shape, pose) in enumerate(zip(shapes, poses, strict=True)):
        held_out = is_held_out(random, options.pool)
        substance = sample_substance(shape, random, held_out, transparent=number == 0)
        if packed and thin[number] and not held_out:
            substance = sample_packaging(packed)
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
            panels += near_walls(random, path, area.half_size, walls)
        if drawn(shares.furniture) and not ground:
            panels += furniture(random, path, wall_distance, floor_height, table_half)
        if drawn(shares.windows):
            panels += window(random, path, wall_distance, panels)
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
        lights=tuple(before_walls(light, panels) for light in lights),
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
    if packed := _packaging(seed, index, shares):
        props += [_cap(item, packed) for item in items if _may_be_closed(item, packed)]
    if random.random() < shares.sheets and scene.area.container is None:
        props += [_sheet(random, scene) for _ in range(int(random.integers(1, 3)))]
    path = scene.path
    if isinstance(path, HandPath) and path.radius < 0.45 and items:
        aim = items[int(random.integers(len(items)))]
        middle = aim.vertices.mean(axis=0) * random.uniform(0.6, 1.0)
        path = replace(path, target=(float(middle[0]), float(middle[1]), float(middle[2])))
    points = np.vstack([item.vertices[::3] for item in items])
    path = cleared(path, points)
    panels = pushed_back(scene.panels, points, path)
    scene = replace(scene, props=tuple(props), path=path, panels=panels)
    choice = random.random()
    if choice < shares.hands:
        scene = replace(scene, props=scene.props + hand(random, scene, points))
    elif choice < shares.hands + shares.grippers:
        scene = replace(scene, props=scene.props + gripper(random, scene, points))
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


# What is on the table


def _printed(substance: Substance, random: np.random.Generator) -> Substance:
    texture = sample_print(random)
    return replace(substance, name="printed", colour=texture.first, texture=texture)


def _stacked(items: list[Item], random: np.random.Generator) -> list[Item]:
    """One or two more of a kind inside or on an upright cup, tumbler, bowl or plate."""
    bases = [item for item in items if item.shape.family in _STACKED and item.stands]
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


def _liquid(item: Item, random: np.random.Generator) -> Liquid | None:
    """A filling of an upright vessel; None where it holds none."""
    if item.shape.cavity is None or not item.stands or item.shape.family == "plate":
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


def _packaging(seed: int, index: int, shares: Shares) -> np.random.Generator | None:
    """What packaging is drawn from, apart from all else of the scene; None where there is none."""
    random = np.random.default_rng([seed, index, 5])
    return random if random.random() < shares.packaging else None


def _may_be_closed(item: Item, random: np.random.Generator) -> bool:
    """Whether it is a bottle that does not stand on its mouth, and is one of two in three."""
    return item.shape.family == "bottle" and item.pose[2, 2] > -0.3 and random.random() < 0.65


def _cap(item: Item, random: np.random.Generator) -> Prop:
    """A screw cap over a bottle's mouth."""
    radius, height = item.shape.outline.T
    broad = float(radius[height > 0.95 * height.max()].max()) + random.uniform(0.0005, 0.002)
    top = float(height.max()) + 0.001
    low = top - random.uniform(0.01, 0.018)
    section = np.array([(0, low), (broad, low), (broad, top), (0, top)])
    colour = sample_colour(random, random.uniform(0.2, 0.8), random.uniform(0.1, 0.9))
    substance = Substance("cap", MaterialClass.OPAQUE, colour, random.uniform(0.2, 0.6))
    return Prop("cap", *turn(section), substance, item.pose)


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
