"""Every shape family: closed, of real thickness, standing on the table."""

from __future__ import annotations

import numpy as np
import pytest

from dkt_ros.synth.families import FAMILIES, make_shape
from dkt_ros.synth.shapes import Shape

_FLAT = {"lens", "cutlery"}
_SOLID = {"can", "ball", "lens", "cutlery"}


def volume(shape: Shape) -> float:
    """Cubic metres by the divergence theorem; positive where faces point outwards."""
    a, b, c = np.moveaxis(shape.vertices[shape.faces], 1, 0)
    return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_shapes_are_closed_and_stand_on_the_table(family: str) -> None:
    for seed in range(6):
        shape = make_shape(family, np.random.default_rng(seed))
        edges = np.concatenate([shape.faces[:, [i, (i + 1) % 3]] for i in range(3)])
        forward = set(map(tuple, edges.tolist()))
        assert len(forward) == len(edges), "an edge is used twice in the same direction"
        assert forward == {(b, a) for a, b in forward}, "an edge has a face on one side only"
        assert shape.vertices[:, 2].min() == pytest.approx(0, abs=1e-9)
        assert shape.vertices[:, 2].max() == pytest.approx(shape.height, abs=1e-6)
        assert (0.001 if family in _FLAT else 0.01) < shape.height < 0.35
        assert 0.01 < shape.radius < 0.15
        assert volume(shape) > 0


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - _SOLID - {"box"}))
def test_vessels_are_hollow(family: str) -> None:
    shape = make_shape(family, np.random.default_rng(3))
    radius, height = shape.outline.T
    steps = 0.5 * (radius[1:] ** 2 + radius[:-1] ** 2) * np.diff(height)
    outer = np.pi * float(steps.sum())
    assert volume(shape) < 0.75 * outer


def test_the_same_draw_gives_the_same_mesh() -> None:
    first, second = (make_shape("vase", np.random.default_rng(8)) for _ in range(2))
    np.testing.assert_array_equal(first.vertices, second.vertices)
    third = make_shape("vase", np.random.default_rng(9))
    assert not np.array_equal(first.vertices, third.vertices)
