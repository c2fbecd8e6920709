"""What a scene consists of: plain data. Knows nothing of Blender or of how scenes are drawn.

Metres, radians and watts; the table top is the plane z = 0, z points up.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dkt_ros.formats.transphy3d import MaterialClass
from dkt_ros.synth.camera import CameraPath, HandPath
from dkt_ros.synth.lathe import Mesh, stack
from dkt_ros.synth.photo import Photo
from dkt_ros.synth.shapes import Shape

Colour = tuple[float, float, float]

_UPRIGHT = np.cos(np.radians(1.0))
LIFT = 2e-4
"""Objects hover by this much, so that glass and table never share a surface."""


@dataclass(frozen=True)
class Texture:
    """A procedural surface of two colours; `gloss` is the share it reflects like varnish.

    `seed` is what a print's words are drawn from.
    """

    pattern: str
    first: Colour
    second: Colour
    scale: float
    angle: float
    gloss: float
    roughness: float
    seed: int = 0


@dataclass(frozen=True)
class Substance:
    """A material.

    `ior` is read for transparent ones alone, `coat` (a glaze) and `texture` (in place of the
    colour) for opaque ones alone.
    """

    name: str
    kind: MaterialClass
    colour: Colour
    roughness: float
    ior: float = 1.5
    brushed: bool = False
    coat: float = 0.0
    texture: Texture | None = None


@dataclass(frozen=True)
class Light:
    """A square lamp that shines on the origin."""

    position: tuple[float, float, float]
    size: float
    power: float
    colour: Colour


@dataclass(frozen=True)
class Sky:
    """Two colours in soft patches: something for metal and glass to mirror."""

    colours: tuple[Colour, Colour]
    strength: float


@dataclass(frozen=True)
class Panorama:
    """A picture file of light from all around, turned about z."""

    path: Path
    turn: float
    strength: float


@dataclass(frozen=True)
class Container:
    """A tray or a bin about the origin. half_size is the inner floor's, `flare` widens the rim."""

    kind: str
    half_size: tuple[float, float]
    height: float
    wall: float
    flare: float
    turn: float
    surface: Substance

    def mesh(self) -> Mesh:
        """Closed, in world coordinates."""
        (x, y), wall, flare = self.half_size, self.wall, self.flare
        base, top = LIFT, self.height
        vertices, faces = stack(
            [
                (x + wall, y + wall, base),
                (x + wall + flare, y + wall + flare, top),
                (x + flare, y + flare, top),
                (x, y, base + wall),
            ]
        )
        return vertices @ about_z(self.turn)[:3, :3].T, faces

    def parts(self) -> list[Mesh]:
        """The floor and the four walls of `mesh`, each convex."""
        (x, y), wall, flare = self.half_size, self.wall, self.flare
        base, top, turn = LIFT, self.height, about_z(self.turn)[:3, :3].T
        parts = [stack([(x + wall, y + wall, base), (x + wall, y + wall, base + wall)])]
        for half, other, along in ((x, y, 0), (y, x, 1)):
            for side in (-1, 1):
                rings = [(0.5 * wall, other + wall, base), (0.5 * wall, other + wall + flare, top)]
                vertices, faces = stack(rings if along == 0 else [(b, a, z) for a, b, z in rings])
                out = np.repeat([half + 0.5 * wall, half + 0.5 * wall + flare], 4)
                vertices[:, along] += side * out
                parts.append((vertices, faces))
        return [(vertices @ turn, faces) for vertices, faces in parts]


@dataclass(frozen=True)
class Area:
    """Where objects rest: a disc of radius half_size[0], or a rectangle inside `container`."""

    half_size: tuple[float, float]
    container: Container | None = None

    @property
    def floor(self) -> float:
        """Height in metres of the surface that objects rest on."""
        return 0.0 if self.container is None else LIFT + self.container.wall

    def holds(self, x: float, y: float, reach: float = 0.0) -> bool:
        """Whether a disc about (x, y) lies inside."""
        if self.container is None:
            return float(np.hypot(x, y)) + reach <= self.half_size[0]
        local = about_z(-self.container.turn)[:2, :2] @ (x, y)
        return bool((np.abs(local) + reach <= self.half_size).all())


@dataclass(frozen=True)
class Liquid:
    """What a vessel holds up to a ring of its inner wall (see Shape.cavity).

    `substance` is the liquid's surface against air; `wet`, where it touches the wall: of a clear
    one its ior is the wall's over the liquid's.
    """

    ring: int
    substance: Substance
    wet: Substance


@dataclass(frozen=True)
class Item:
    """One object; `pose` is (4,4) object to world."""

    shape: Shape
    substance: Substance
    pose: np.ndarray
    liquid: Liquid | None = None

    @property
    def vertices(self) -> np.ndarray:
        """(n, 3) in the world."""
        return placed(self.shape.vertices, self.pose)

    @property
    def stands(self) -> bool:
        """Whether it stands upright."""
        return bool(self.pose[2, 2] > _UPRIGHT)


@dataclass(frozen=True)
class Prop:
    """A further mesh: a label, a sheet of paper, a part of a gripper or of a hand.

    pose: (4,4) to world; where `attached`, to the camera (OpenCV axes), with which it moves.
    voxel: metres to which its overlapping parts are melted into one skin; 0 leaves them.
    """

    kind: str
    vertices: np.ndarray
    faces: np.ndarray
    substance: Substance
    pose: np.ndarray
    attached: bool = False
    voxel: float = 0.0


@dataclass(frozen=True)
class Panel:
    """A block of the room, turned about z: a wall close by, furniture; it shines if `glow` > 0."""

    kind: str
    centre: tuple[float, float, float]
    half: tuple[float, float, float]
    turn: float
    texture: Texture
    glow: float = 0.0


@dataclass(frozen=True)
class Scene:
    """Everything the renderer needs.

    Where `dropped` is True the poses are those from which the objects fall, until physics.settle
    has found where they come to rest. `walls` is None where the sky is a panorama.
    """

    items: tuple[Item, ...]
    area: Area
    dropped: bool
    table: Texture
    table_half_size: tuple[float, float]
    floor: Texture
    floor_height: float
    walls: Texture | None
    wall_distance: float
    lights: tuple[Light, ...]
    sky: Sky | Panorama
    brightness: float
    path: CameraPath | HandPath
    noise_seed: int
    panels: tuple[Panel, ...] = ()
    props: tuple[Prop, ...] = ()
    photo: Photo | None = None

    @property
    def things(self) -> list[tuple[str, Substance]]:
        """Name and substance of instances 1, 2, ...: items, container, liquids, props."""
        things = [(item.shape.family, item.substance) for item in self.items]
        if self.area.container is not None:
            things.append((self.area.container.kind, self.area.container.surface))
        things += [("liquid", item.liquid.substance) for item in self.items if item.liquid]
        return things + [(prop.kind, prop.substance) for prop in self.props]


def about_z(angle: float) -> np.ndarray:
    """(4,4) rotation."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], float)


def placed(points: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Points (..., 3) after a pose (4,4)."""
    return points @ pose[:3, :3].T + pose[:3, 3]
