"""TAE on scenes whose value can be computed by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from dkt_ros.evaluation.temporal import temporal_errors

K = np.array([[10.0, 0.0, 4.0], [0.0, 10.0, 3.0], [0.0, 0.0, 1.0]])
SHAPE = (7, 9)
HERE = np.eye(4)


def pose(x: float = 0.0, z: float = 0.0) -> np.ndarray:
    """World to camera of a camera at (x, 0, z) that looks along z."""
    matrix = np.eye(4)
    matrix[:3, 3] = (-x, 0.0, -z)
    return matrix


def wall(distance: float) -> np.ndarray:
    return np.full(SHAPE, distance, np.float32)


def tae(
    depth: Sequence[np.ndarray] | np.ndarray,
    cameras: np.ndarray,
    poses: Sequence[np.ndarray],
    mask: np.ndarray | None = None,
) -> float:
    """TAE of all pixels, or of the mask's."""
    mask = np.ones((len(depth), *SHAPE), bool) if mask is None else mask
    return temporal_errors(depth, cameras, poses, {"": mask})[""]


def test_a_still_video_does_not_flicker() -> None:
    assert tae([wall(2.0)] * 3, K, [HERE] * 3) == 0.0


def test_a_jump_counts_both_ways() -> None:
    # 2 m becomes 2.5 m: |2 - 2.5| / 2.5 there and |2.5 - 2| / 2 back, over 2 (T - 1) = 2.
    error = tae([wall(2.0), wall(2.5)], K, [HERE] * 2)
    assert error == pytest.approx((0.2 + 0.25) / 2)
    # Each frame with the next alone: 1 m becomes 2 m becomes 4 m.
    error = tae([wall(1.0), wall(2.0), wall(4.0)], K, [HERE] * 3)
    assert error == pytest.approx((1.0 + 0.5) / 2)


def test_a_moving_camera_is_accounted_for() -> None:
    # The camera goes 0.5 m towards a wall 2 m away.
    assert tae([wall(2.0), wall(1.5)], K, [pose(), pose(z=0.5)]) == pytest.approx(0.0, abs=1e-6)
    # Depth that does not follow is wrong by 0.5 on 2 there (1.5 expected) and back (2.5).
    error = tae([wall(2.0), wall(2.0)], K, [pose(), pose(z=0.5)])
    assert error == pytest.approx((0.5 / 2 + 0.5 / 2) / 2)


def test_pixels_are_compared_where_they_fall() -> None:
    # 0.4 m to the right at 2 m: f * 0.4 / 2 = 2 pixels to the left.
    source, target = wall(np.nan), wall(np.nan)
    source[3, 5], target[3, 3], target[3, 5] = 2.0, 1.6, 9.0
    counts = np.ones((2, *SHAPE), bool)
    counts[1, 3, 5] = False  # which is there to be mistaken for the place, not to be moved back
    found = tae([source, target], K, [pose(), pose(x=0.4)], counts)
    assert found == pytest.approx((0.4 / 1.6 + 0.4 / 2.0) / 2)


def test_a_turning_camera_is_accounted_for() -> None:
    # Rolled by 90 degrees and 0.2 m aside: (0.2, 0, 2) in the first camera is (0.2, 0.2, 2) in the
    # second, one pixel below the centre; 1.6 m there are (0.16, 0.04, 1.6) here.
    rolled = np.array([[0.0, -1, 0, 0.2], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    first, second = wall(np.nan), wall(np.nan)
    first[3, 5], second[4, 5] = 2.0, 1.6
    elsewhere = np.array([[0.0, 0, 1, 3], [0, 1, 0, -1], [-1, 0, 0, 2], [0, 0, 0, 1]])
    for world in (HERE, elsewhere):
        found = tae([first, second], K, [world, rolled @ world])
        assert found == pytest.approx((0.4 / 1.6 + 0.4 / 2.0) / 2)


@pytest.mark.parametrize("side", ["left", "right", "top", "bottom"])
def test_what_falls_beside_the_picture_is_on_no_other_side_of_it(side: str) -> None:
    # The camera moves by 2 pixels of what is 2 m away.
    away = {"left": (-0.4, 0), "right": (0.4, 0), "top": (0, -0.4), "bottom": (0, 0.4)}[side]
    moved = np.eye(4)
    moved[:2, 3] = away
    first, second = wall(np.nan), np.full(SHAPE, 9.0, np.float32)
    rim = {"left": np.s_[:, 0], "right": np.s_[:, -1], "top": np.s_[0], "bottom": np.s_[-1]}[side]
    first[rim], second[rim] = 2.0, np.nan
    assert np.isnan(tae([first, second], K, [HERE, moved]))


def test_what_is_hidden_does_not_count() -> None:
    source, target = wall(np.nan), wall(np.nan)
    # Both fall on column 3: 2 pixels left at 2 m, 1 pixel left at 4 m.
    source[3, 5], source[3, 4], target[3, 3] = 2.0, 4.0, 2.0
    assert tae([source, target], K, [pose(), pose(x=0.4)]) == 0.0


def test_masks_choose_the_pixels() -> None:
    first, second = wall(2.0), wall(2.0)
    second[:, :4] = 4.0
    masks = np.ones((2, *SHAPE), bool)
    masks[:, :, :4] = False
    assert tae([first, second], K, [HERE] * 2) > 0
    assert tae([first, second], K, [HERE] * 2, masks) == 0.0


def test_nothing_to_compare() -> None:
    assert np.isnan(tae([wall(2.0)], K, [HERE]))
    assert np.isnan(tae([wall(2.0), wall(np.nan)], K, [HERE] * 2))
    behind = tae([wall(2.0), wall(2.0)], K, [pose(), pose(z=50.0)])
    assert behind == pytest.approx(50.0 / 2.0)  # only the way back falls into the picture


def test_poses_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="1 poses for 2"):
        tae([wall(2.0), wall(2.0)], K, [HERE])


def test_several_masks_at_once_are_the_same_as_one_by_one() -> None:
    rng = np.random.default_rng(0)
    depth = rng.uniform(1.0, 3.0, (4, *SHAPE))
    poses = [pose(x=0.1 * k, z=0.02 * k) for k in range(4)]
    masks = {name: rng.random(depth.shape) < 0.6 for name in ("one", "two")}
    masks["none"] = np.zeros(depth.shape, bool)
    together = temporal_errors(depth, K, poses, masks)
    for name in ("one", "two"):
        assert together[name] == tae(depth, K, poses, masks[name])
    assert together["one"] != together["two"]
    assert np.isnan(together["none"])


def test_what_does_not_count_still_hides() -> None:
    # The wall's pixel falls on column 3 behind the nearer one, which is masked out.
    first, second = wall(np.nan), wall(np.nan)
    first[3, 5], first[3, 4], second[3, 3] = 2.0, 4.0, 2.0
    masks = np.ones((2, *SHAPE), bool)
    masks[0, 3, 5] = False
    poses = [pose(), pose(x=0.4)]
    # The way back does not count either: column 3 falls on column 5, which is masked out.
    assert np.isnan(tae([first, second], K, poses, masks))


def test_each_frame_may_have_its_own_camera() -> None:
    # Twice the focal length in the second frame: column 5 (1 beside the centre) becomes column 6.
    zoomed = K.copy()
    zoomed[0, 0] = zoomed[1, 1] = 20.0
    first, second = wall(np.nan), wall(np.nan)
    first[3, 5], second[3, 6] = 2.0, 2.5
    found = tae([first, second], np.stack([K, zoomed]), [HERE] * 2)
    assert found == pytest.approx((0.2 + 0.25) / 2)


def test_what_falls_onto_nothing_known_does_not_count_and_the_rest_does() -> None:
    first, second = wall(2.0), wall(2.5)
    first[:, :3], second[:, 4:] = 0.0, np.nan
    assert tae([first, second], K, [HERE] * 2) == pytest.approx((0.2 + 0.25) / 2)


def test_what_the_camera_has_passed_does_not_count() -> None:
    # Only the way back is left: 4 m there are 7 m here, where there is 2 m.
    assert tae([wall(2.0), wall(4.0)], K, [pose(), pose(z=3.0)]) == pytest.approx(2.5)
