"""What an object's shape is: a mesh and what placing it needs. Knows of no particular family.

Every shape stands upright with its base at z = 0 and its axis on z. Metres.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dkt_ros.synth.lathe import Profile


@dataclass(frozen=True)
class Shape:
    """A triangle mesh, closed unless it is a user's and `closed` is False.

    vertices: (V,3) float64 metres; faces: (F,3) int64, outward by the right hand.
    outline: (N,2) radius and height of the outermost section, for placing.
    round: whether it is a surface of revolution and may lie on its side at any roll.
    open: whether it has a mouth and may stand upside down on it.
    cavity: of a vessel, the first and the number after the last ring of vertices (lathe.SEGMENTS
    each, from the first vertex on) of its inner wall, from the rim down.
    """

    family: str
    vertices: np.ndarray
    faces: np.ndarray
    outline: Profile
    round: bool
    open: bool
    closed: bool = True
    cavity: tuple[int, int] | None = None

    @property
    def height(self) -> float:
        """Metres from the table to the top."""
        return float(self.outline[:, 1].max())

    @cached_property
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
