"""Wrong units, flipped axes and empty pictures are noticed; sound frames are not suspected."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from fixtures.dataset_trees import CAMERA_MATRIX, normal_map, scene

from dkt_ros.datasets.plausibility import normal_angle, suspicions
from dkt_ros.datasets.sample import Sample


def sound() -> Sample:
    s = scene()
    return Sample(
        rgb=s.rgb,
        depth=np.where(s.depth > 0, s.depth, np.nan).astype(np.float32),
        source="frame 7",
        raw_depth=np.where(s.raw_depth > 0, s.raw_depth, np.nan).astype(np.float32),
        mask=s.glass.astype(np.uint8),
        normal=normal_map(s.normal),
        camera_matrix=CAMERA_MATRIX,
    )


def test_a_sound_frame_is_not_suspected() -> None:
    assert suspicions(sound()) == ()
    assert normal_angle(sound()) == pytest.approx(0.0, abs=0.1)


def test_millimetres_taken_for_metres() -> None:
    frame = sound()
    assert frame.raw_depth is not None
    wrong = replace(frame, depth=frame.depth * 1000, raw_depth=frame.raw_depth * 1000)
    (line,) = suspicions(wrong)
    assert line.startswith("frame 7: median depth is 5")
    assert "in another unit?" in line


def test_raw_depth_of_the_wrong_unit() -> None:
    frame = sound()
    assert frame.raw_depth is not None
    (line,) = suspicions(replace(frame, raw_depth=frame.raw_depth * 4))
    assert "raw depth is 4 times the true one in the median" in line


def test_raw_depth_may_be_wrong_on_glass() -> None:
    frame = sound()
    assert frame.raw_depth is not None
    assert frame.mask is not None
    mask = np.zeros_like(frame.mask)
    mask[:, :60] = 1
    raw_depth = np.where(mask == 1, frame.depth * 3, frame.depth)
    assert suspicions(replace(frame, raw_depth=raw_depth, mask=mask)) == ()


def test_raw_depth_in_the_place_of_the_truth() -> None:
    frame = sound()
    assert frame.raw_depth is not None
    rounded = np.round(frame.raw_depth, 4)
    (line,) = suspicions(replace(frame, depth=frame.raw_depth, raw_depth=rounded, normal=None))
    assert line.startswith("frame 7: raw depth is the true depth at every pixel; is one of them")
    for place, value in (((3, 4), np.nan), ((30, 40), 3.0)):
        other = frame.depth.copy()
        other[place] = value
        assert suspicions(replace(frame, raw_depth=other)) == ()


@pytest.mark.parametrize(
    "axes",
    [
        np.diag([1, -1, -1]),  # Blender's axes
        -np.eye(3),  # into the surface
        np.eye(3)[::-1],  # blue and red swapped
    ],
)
def test_normals_in_other_axes(axes: np.ndarray) -> None:
    frame = sound()
    assert frame.normal is not None
    normal = (frame.normal @ axes).astype(np.float32)
    (line,) = suspicions(replace(frame, normal=normal))
    assert "off the depth's slope in the median; other axes?" in line


def test_normals_without_a_camera_say_nothing() -> None:
    assert normal_angle(replace(sound(), camera_matrix=None)) is None
    assert normal_angle(replace(sound(), normal=np.zeros((48, 80, 3), np.float32))) is None


def test_a_black_picture() -> None:
    (line,) = suspicions(replace(sound(), rgb=np.zeros((48, 80, 3), np.uint8)))
    assert line == "frame 7: the picture is of one colour, [0, 0, 0]"


@pytest.mark.parametrize(
    ("matrix", "says"),
    [
        (CAMERA_MATRIX * [[2], [2], [1]], r"principal point \(79, 47\) is far from the middle"),
        (CAMERA_MATRIX * [[0.5], [0.5], [1]], r"principal point \(19\.75, 11\.75\) is far"),
        (CAMERA_MATRIX * [[1], [0.8], [1]], "focal lengths are 100 and 80 in 80x48 pixels; are"),
    ],
)
def test_intrinsics_of_another_size(matrix: np.ndarray, says: str) -> None:
    lines = suspicions(replace(sound(), camera_matrix=matrix, normal=None))
    assert re.search(says, lines[0])
    assert len(lines) == 1


def test_an_inverted_mask() -> None:
    frame = sound()
    assert frame.mask is not None
    (line,) = suspicions(replace(frame, mask=1 - frame.mask, raw_depth=None))
    assert "objects are 97% of the picture; mask inverted?" in line


def test_an_inverted_mask_of_objects_that_are_no_small_part() -> None:
    """What reaches all around the picture, and has the better raw depth, is what is around them."""
    frame = sound()
    glass = np.zeros_like(frame.mask)
    glass[10:40, 20:50] = 1
    wrong = np.where(glass == 1, np.float32(np.nan), frame.depth)
    for raw_depth in (None, wrong):
        (line,) = suspicions(replace(frame, mask=1 - glass, raw_depth=raw_depth))
        assert "objects are 77% of the picture and 100% of its border; mask inverted?" in line
        assert suspicions(replace(frame, mask=glass, raw_depth=raw_depth)) == ()
    # A pane before all but a box that stands before it.
    bad = np.where(glass == 1, frame.depth, 2 * frame.depth)
    assert suspicions(replace(frame, mask=1 - glass, raw_depth=bad)) == ()
