"""Which pixels are measured apart: all, transparent/reflective, each of the two, the rest.

Knows material classes. Knows nothing of errors.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from dkt_ros.formats.transphy3d import MaterialClass

OBJECTS = "transparent/reflective"
"""Both kinds together, as papers report them."""
REGIONS = ("all", OBJECTS, "transparent", "reflective", "rest")
UNKNOWN_CLASS = 255
"""In place of a MaterialClass where a frame of the video has no mask."""


def region_masks(
    classes: np.ndarray | None, shape: tuple[int, ...], reflective: bool
) -> dict[str, np.ndarray]:
    """Boolean masks of `shape` (T, H, W) per region; those of REGIONS that can be told.

    classes: MaterialClass or UNKNOWN_CLASS of every pixel; None leaves "all" only. reflective:
    whether reflective objects are told from transparent ones.
    """
    masks = {"all": np.ones(shape, bool)}
    if classes is None:
        return masks
    transparent = classes == MaterialClass.TRANSPARENT
    shiny = classes == MaterialClass.REFLECTIVE
    masks[OBJECTS] = transparent | shiny
    if reflective:
        masks["transparent"], masks["reflective"] = transparent, shiny
    masks["rest"] = classes == MaterialClass.OPAQUE
    return masks


def in_order(regions: Iterable[str]) -> tuple[str, ...]:
    """The given regions in the order of REGIONS, each once."""
    found = set(regions)
    return tuple(region for region in REGIONS if region in found)
