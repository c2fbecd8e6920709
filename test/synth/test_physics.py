"""Objects dropped: they lie within the area, on its floor, at rest, the same in every process."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("bpy", reason="physics needs Blender as a module (pip install bpy)")

from dkt_ros.synth.physics import settle
from dkt_ros.synth.sampling import SceneOptions, sample_scene
from dkt_ros.synth.scene import Scene, placed

_OPEN = SceneOptions(objects=(3, 3), drop_share=1.0, container_share=0.0)
_CONTAINED = SceneOptions(objects=(3, 3), drop_share=1.0, container_share=1.0)
_PROGRAM = "import test_physics; print(test_physics.settled_digest())"


@cache
def settled() -> Scene:
    """A scene at rest."""
    return settle(sample_scene(5, 1, _OPEN))


def settled_digest() -> str:
    """SHA-256 of all poses in it."""
    return hashlib.sha256(b"".join(item.pose.tobytes() for item in settled().items)).hexdigest()


def world_vertices(scene: Scene) -> list[np.ndarray]:
    return [placed(item.shape.vertices, item.pose) for item in scene.items]


@pytest.mark.parametrize(("content", "index"), [(_OPEN, 0), (_CONTAINED, 0)])
def test_dropped_objects_come_to_rest_in_their_area(content: SceneOptions, index: int) -> None:
    started = sample_scene(5, index, content)
    scene = settle(started)
    assert len(started.items) >= len(scene.items) >= len(started.items) - 1
    assert scene.items[0].substance == started.items[0].substance
    floor = scene.area.floor
    lowest = [vertices[:, 2].min() for vertices in world_vertices(scene)]
    assert min(lowest) > floor
    # Something lies on the floor; the rest lies there too or on other things.
    assert min(lowest) < floor + 1.5e-3
    assert max(lowest) < floor + 0.2
    for item, vertices in zip(scene.items, world_vertices(scene), strict=True):
        middle = 0.5 * (vertices.min(axis=0) + vertices.max(axis=0))
        assert scene.area.holds(middle[0], middle[1])
        np.testing.assert_allclose(item.pose[:3, :3] @ item.pose[:3, :3].T, np.eye(3), atol=1e-5)
    # Let go again where they lie, they hardly move.
    again = settle(scene)
    assert len(again.items) == len(scene.items)
    moved = [
        np.abs(a - b).max()
        for a, b in zip(world_vertices(scene), world_vertices(again), strict=True)
    ]
    assert np.median(moved) < 0.01


def test_a_dropped_object_turned_over() -> None:
    uprightness = [abs(item.pose[2, 2]) for item in settled().items]
    assert min(uprightness) < 0.5
    assert max(uprightness) > 0.9


def test_the_same_seed_gives_the_same_geometry_in_another_process() -> None:
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parents[1]), os.environ.get("PYTHONPATH", "")])
    command, environment = [sys.executable, "-c", _PROGRAM], {**os.environ, "PYTHONPATH": path}
    told = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert told.stdout.split()[-1] == settled_digest()
