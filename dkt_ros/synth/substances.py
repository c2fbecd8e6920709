"""Which materials there are, drawn at random. Knows nothing of node trees or of layout."""

from __future__ import annotations

import numpy as np

from dkt_ros.formats.transphy3d import MaterialClass
from dkt_ros.synth.scene import Colour, Substance, Texture
from dkt_ros.synth.shapes import Shape

_PATTERNS = {
    "wood": 0.28,
    "checker": 0.12,
    "noise": 0.24,
    "brick": 0.08,
    "marble": 0.16,
    "plain": 0.12,
}
_SURFACES = {
    "wood": 0.26,
    "cloth": 0.2,
    "carpet": 0.08,
    "tiles": 0.08,
    "stone": 0.1,
    "laminate": 0.28,
}
_WOODS = (
    (0.42, 0.22, 0.1),
    (0.2, 0.07, 0.03),
    (0.55, 0.36, 0.18),
    (0.1, 0.045, 0.025),
    (0.6, 0.48, 0.32),
)
_MOST_SATURATED = 0.85
"""More than this neither dyes nor paints have, and automatic exposure fails on it."""
_LIQUIDS = {"water": 0.5, "tea": 0.15, "wine": 0.1, "oil": 0.1, "milk": 0.15}
_MOSTLY_GLASS = ("wine_glass", "martini", "flask", "lens")
_MOSTLY_METAL = ("cutlery",)
_EITHER = ("can", "plate", "bowl")


def sample_substance(
    shape: Shape, random: np.random.Generator, held_out: bool, transparent: bool
) -> Substance:
    """A material that suits a shape; `transparent` forces glass or plastic.

    `held_out` takes the class's held-out member. A mesh with a hole in it is never transparent:
    light that enters it would not leave.
    """
    weights = [0.2, 0.6, 0.2]
    if shape.family in _MOSTLY_GLASS:
        weights = [0.06, 0.88, 0.06]
    elif shape.family in _MOSTLY_METAL:
        weights = [0.15, 0.2, 0.65]
    elif shape.family in _EITHER:
        weights = [0.25, 0.35, 0.4]
    kind = MaterialClass(int(random.choice(3, p=weights)))
    if transparent:
        kind = MaterialClass.TRANSPARENT
    if kind is MaterialClass.TRANSPARENT and not shape.closed:
        kind = MaterialClass.REFLECTIVE
    if kind is MaterialClass.TRANSPARENT:
        return sample_transparent(random, held_out)
    if kind is MaterialClass.REFLECTIVE:
        return sample_metal(random, held_out)
    return sample_opaque(random)


def sample_metal(random: np.random.Generator, held_out: bool = False) -> Substance:
    """Polished or brushed steel, aluminium or brass; held out: copper."""
    kind = MaterialClass.REFLECTIVE
    if held_out:
        return Substance("copper", kind, (0.93, 0.55, 0.42), random.uniform(0.03, 0.2))
    brushed = bool(random.random() < 0.35)
    rough = random.uniform(0.15, 0.35) if brushed else random.uniform(0.01, 0.12)
    base = [(0.9, 0.9, 0.9), (0.75, 0.76, 0.78), (0.9, 0.78, 0.5)][
        random.choice(3, p=[0.5, 0.4, 0.1])
    ]
    name = "brushed_metal" if brushed else "polished_metal"
    return Substance(name, kind, base, rough, brushed=brushed)


def clear_plastic(random: np.random.Generator) -> Substance:
    """Smooth and colourless."""
    ior = random.uniform(1.4, 1.5)
    return Substance("clear_plastic", MaterialClass.TRANSPARENT, (0.97, 0.97, 0.97), 0.0, ior)


def sample_packaging(random: np.random.Generator) -> Substance:
    """Of bottles and cups that are thrown away: PET or polystyrene, a fifth of it tinted."""
    tint = (0.97, 0.97, 0.97) if random.random() < 0.8 else tuple(random.uniform(0.55, 0.97, 3))
    ior = random.uniform(1.5, 1.59)
    return Substance("packaging", MaterialClass.TRANSPARENT, _as_colour(np.array(tint)), 0.0, ior)


def sample_texture(random: np.random.Generator, finest: float = 25.0) -> Texture:
    """A pattern for a table, a floor, walls or an object; scales from 3/m to `finest`/m."""
    pattern = random.choice(list(_PATTERNS), p=list(_PATTERNS.values()))
    first = sample_colour(random, random.uniform(0.1, 0.7), random.uniform(0.15, 0.9))
    change = random.uniform(0.35, 1.0) if random.random() < 0.7 else random.uniform(1.0, 2.2)
    shifted = np.array(first) * change + random.uniform(-0.08, 0.08, 3)
    return Texture(
        str(pattern),
        first,
        _as_colour(np.clip(shifted, 0.01, 0.95)),
        scale=float(np.exp(random.uniform(np.log(finest / 8), np.log(finest)))),
        angle=random.uniform(0, 2 * np.pi),
        gloss=random.uniform(0.03, 0.12) if random.random() < 0.5 else 0.0,
        roughness=random.uniform(0.1, 0.5),
    )


def sample_surface(random: np.random.Generator, kind: str | None = None) -> Texture:
    """A surface as rooms have them: wood, cloth, carpet, tiles, stone, laminate, paint."""
    kind = kind or str(random.choice(list(_SURFACES), p=list(_SURFACES.values())))
    gloss = random.uniform(0.03, 0.1) if random.random() < 0.5 else 0.0
    angle, roughness = random.uniform(0, 2 * np.pi), random.uniform(0.1, 0.4)
    value = float(np.exp(random.uniform(np.log(0.08), np.log(0.85))))
    if kind == "wood":
        light = np.array(_WOODS[int(random.integers(len(_WOODS)))]) * random.uniform(0.7, 1.25)
        dark = light * random.uniform(0.45, 0.85)
        scale = random.uniform(6, 25)
        return _texture("grain", light, dark, scale, angle, gloss, roughness)
    if kind == "cloth":
        first = np.array(vivid(random, random.uniform(0.3, 1.0), value))
        second = first * random.uniform(0.55, 1.3)
        return _texture("cloth", first, second, random.uniform(5, 40), angle, 0.0, 0.9)
    if kind == "carpet":
        first = np.array(sample_colour(random, random.uniform(0.0, 0.3), 0.5 * value + 0.05))
        return _texture("weave", first, 0.45 * first, random.uniform(60, 250), angle, 0.0, 1.0)
    if kind == "tiles":
        first = np.array(sample_colour(random, random.uniform(0.0, 0.2), 0.4 + 0.5 * value))
        mortar = first * random.uniform(0.3, 0.8)
        return _texture("tiles", first, mortar, random.uniform(3, 12), angle, gloss, roughness)
    if kind == "stone":
        first = np.array(sample_colour(random, random.uniform(0.0, 0.15), value))
        second = first * random.uniform(0.5, 1.5)
        return _texture("noise", first, second, random.uniform(15, 90), angle, gloss, roughness)
    saturation = random.uniform(0.0, 0.25) if random.random() < 0.6 else random.uniform(0.5, 1.0)
    if kind == "paint":
        value, gloss = max(value, 0.3), 0.0
    colour = np.array(vivid(random, saturation, value))
    return _texture("plain", colour, colour, 10.0, angle, gloss, roughness)


def sample_wall(random: np.random.Generator) -> Texture:
    """Mostly paint or tiles."""
    kinds = ["paint", "tiles", "wood", "cloth", "stone"]
    return sample_surface(random, str(random.choice(kinds, p=[0.62, 0.14, 0.08, 0.08, 0.08])))


def sample_print(random: np.random.Generator) -> Texture:
    """Words, bars and pictures in two colours on paper."""
    paper = vivid(random, random.uniform(0, 0.9) * (random.random() < 0.6), 0.85)
    ink = vivid(random, random.uniform(0.2, 1.0), random.uniform(0.05, 0.6))
    seed = int(random.integers(0, 2**31 - 1))
    return Texture("print", paper, ink, random.uniform(0.06, 0.16), 0.0, 0.0, 0.5, seed)


def sample_liquid(random: np.random.Generator, wall: float) -> tuple[Substance, Substance]:
    """A liquid's substance against air, and where it wets a wall of refractive index `wall`."""
    clear, white = MaterialClass.TRANSPARENT, (0.99, 1.0, 1.0)
    name = str(random.choice(list(_LIQUIDS), p=list(_LIQUIDS.values())))
    if name == "milk":
        pale = random.random() < 0.5
        colour = (0.85, 0.82, 0.75) if pale else sample_colour(random, 0.9, 0.4)
        body = Substance(name, MaterialClass.OPAQUE, colour, 0.2)
        return body, body
    ior = 1.47 if name == "oil" else 1.333
    depth = random.uniform(0.3, 1.0)
    tint = {"tea": (0.9, 0.5, 0.15), "wine": (0.5, 0.03, 0.06), "oil": (0.95, 0.85, 0.3)}.get(name)
    colour = white if tint is None else _as_colour(np.array(tint) ** depth)
    return Substance(name, clear, white, 0.0, ior), Substance(name, clear, colour, 0.0, wall / ior)


def vivid(random: np.random.Generator, saturation: float, value: float) -> Colour:
    """Linear RGB of a hue drawn evenly, saturation 0 to 1."""
    hue = random.uniform(0, 6)
    saturation *= _MOST_SATURATED
    pure = np.clip(np.abs((hue + np.array([0.0, 4.0, 2.0])) % 6 - 3) - 1, 0, 1)
    return _as_colour(np.clip(value * (1 - saturation + saturation * pure), 0.01, 0.95))


def _texture(
    pattern: str,
    first: np.ndarray,
    second: np.ndarray,
    scale: float,
    angle: float,
    gloss: float,
    roughness: float,
) -> Texture:
    colours = [_as_colour(np.clip(colour, 0.01, 0.95)) for colour in (first, second)]
    return Texture(pattern, colours[0], colours[1], scale, angle, gloss, roughness)


def sample_colour(random: np.random.Generator, saturation: float, value: float) -> Colour:
    """Linear RGB; saturation 0 is grey."""
    grey = random.random()
    return _as_colour(
        value * ((1 - saturation) * (0.6 + 0.4 * grey) + saturation * random.random(3))
    )


def sample_transparent(random: np.random.Generator, held_out: bool = False) -> Substance:
    """Glass or plastic, clear, tinted or frosted; held out: amber glass."""
    kind = MaterialClass.TRANSPARENT
    if held_out:
        amber = (random.uniform(0.75, 0.95), random.uniform(0.35, 0.55), random.uniform(0.05, 0.15))
        return Substance("amber_glass", kind, amber, 0.0, random.uniform(1.48, 1.56))
    name = random.choice(
        ["clear_glass", "tinted_glass", "clear_plastic", "frosted_plastic"],
        p=[0.6, 0.17, 0.14, 0.09],
    )
    if name == "tinted_glass":
        hue = np.array([0.95, 0.95, 0.95])
        hue[random.integers(0, 2)] = random.uniform(0.45, 0.85)
        hue[0] = min(hue[0], random.uniform(0.5, 0.95))
        return Substance(str(name), kind, _as_colour(hue), 0.0, random.uniform(1.48, 1.56))
    if name == "clear_plastic":
        return clear_plastic(random)
    if name == "frosted_plastic":
        white, rough = random.uniform(0.9, 0.98), random.uniform(0.08, 0.35)
        return Substance(str(name), kind, (white, white, white), rough, random.uniform(1.4, 1.5))
    white = random.uniform(0.95, 1.0)
    return Substance(str(name), kind, (white, 1.0, white), 0.0, random.uniform(1.44, 1.6))


def sample_opaque(random: np.random.Generator) -> Substance:
    """Glazed ceramic, or any other dull thing that a vessel stands among, plain or patterned."""
    kind = MaterialClass.OPAQUE
    if random.random() < 0.4:
        white = random.random() < 0.5
        colour = (0.85, 0.84, 0.8) if white else sample_colour(random, 0.7, 0.8)
        return Substance("glazed_ceramic", kind, colour, random.uniform(0.3, 0.6), coat=1.0)
    colour = sample_colour(random, 0.8, random.uniform(0.3, 1.0))
    texture = sample_texture(random, finest=90.0) if random.random() < 0.5 else None
    return Substance("opaque", kind, colour, random.uniform(0.15, 0.9), texture=texture)


def _as_colour(values: np.ndarray) -> Colour:
    return float(values[0]), float(values[1]), float(values[2])
