"""All shape families by name. A new family is a function and a line here."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dkt_ros.synth import solids, vessels
from dkt_ros.synth.shapes import Shape

FAMILIES: dict[str, Callable[[np.random.Generator], Shape]] = {
    "tumbler": vessels.tumbler,
    "cup": vessels.cup,
    "wine_glass": vessels.wine_glass,
    "martini": vessels.martini,
    "bottle": vessels.bottle,
    "jar": vessels.jar,
    "bowl": vessels.bowl,
    "plate": vessels.plate,
    "vase": vessels.vase,
    "flask": vessels.flask,
    "can": solids.can,
    "ball": solids.ball,
    "tube": solids.tube,
    "box": solids.box,
    "pitcher": vessels.pitcher,
    "mug": vessels.mug,
    "lens": solids.lens,
    "cutlery": solids.cutlery,
}
FURTHER: dict[str, Callable[[np.random.Generator], Shape]] = {"tool": solids.tool}
"""Those that scenes of `dkt synth render` do without, whose seeds give what they always gave."""


def make_shape(family: str, random: np.random.Generator) -> Shape:
    """One random member of a family; the same generator state gives the same mesh."""
    return (FAMILIES | FURTHER)[family](random)
