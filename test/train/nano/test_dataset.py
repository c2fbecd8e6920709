"""Clips, normalisation and augmentation."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures import dataset_trees as trees
from fixtures.training_scenes import write_scene

from dkt_ros.errors import DktError
from dkt_ros.formats.transphy3d import SequenceFrame, encode_frame, write_sequence
from dkt_ros.train.nano.dataset import SequenceFolder, make_sample


def test_normalisation_is_per_clip_and_clamped() -> None:
    disparity = np.linspace(1.0, 3.0, 2 * 10 * 10).reshape(2, 10, 10).astype(np.float32)
    disparity[0, 0, 0] = 0.0
    sample = make_sample(np.zeros((2, 10, 10, 3), np.uint8), disparity, np.zeros((2, 10, 10)))
    low, high = np.percentile(disparity[disparity > 0], (2, 98))
    assert sample.target.shape == (1, 1, 2, 10, 10)
    assert sample.target.min() == -1.0
    assert sample.target.max() == 1.0
    middle = disparity[1, 2, 3]
    expected = (middle - low) / (high - low) * 2 - 1
    assert sample.target[0, 0, 1, 2, 3] == pytest.approx(expected, abs=1e-5)
    # Unknown pixels do not count; elsewhere the weight turns target units into relative depth.
    assert sample.known[0, 0, 0, 0, 0] == 0
    assert sample.relative[0, 0, 0, 0, 0] == 0
    assert sample.relative[0, 0, 1, 2, 3] == pytest.approx((high - low) / 2 / middle, rel=1e-5)


def test_batches_are_a_function_of_seed_and_step(tmp_path: Path) -> None:
    for index in range(3):
        write_scene(tmp_path, f"scene{index}", frames=6)
    data = SequenceFolder(tmp_path)
    first = data.batch(1, 7, (32, 48), 2, 5)
    again = SequenceFolder(tmp_path).batch(1, 7, (32, 48), 2, 5)
    other = data.batch(1, 8, (32, 48), 2, 5)
    assert first.rgb.shape == (2, 3, 5, 32, 48)
    for name, array in vars(first).items():
        np.testing.assert_array_equal(array, getattr(again, name))
        assert array.dtype == np.float32
    assert not np.array_equal(first.rgb, other.rgb)
    assert np.abs(first.rgb).max() <= 1


def test_half_of_the_clips_stand_still_and_the_others_move_as_long_as_their_sequences(
    tmp_path: Path,
) -> None:
    write_scene(tmp_path, "long", frames=9)
    write_scene(tmp_path, "short", frames=2)
    data = SequenceFolder(tmp_path)
    clips = [data.batch(1, step, (32, 48), 1, 9).target[0, 0] for step in range(40)]
    moving = [np.ptp(clip, axis=0).any() for clip in clips]
    assert 10 <= sum(moving) <= 30
    assert all(np.ptp(clip[4:], axis=0).any() for clip, m in zip(clips, moving, strict=True) if m)


def test_half_of_the_clips_are_cut_out_and_some_go_backwards(tmp_path: Path) -> None:
    write_scene(tmp_path, "scene", frames=5)
    data = SequenceFolder(tmp_path)
    clips = [data.batch(1, step, (48, 80), 1, 5).objects[0, 0] > 0 for step in range(60)]
    whole = [clip for clip in clips if clip.mean() == pytest.approx(14 * 16 / (48 * 80))]
    assert 15 <= len(whole) <= 45
    # The square goes right by a pixel with each frame, or left where mirrored or backwards.
    ways = {(int(c[0].any(axis=0).argmax()), int(c[4].any(axis=0).argmax())) for c in whole}
    assert {(8, 12), (12, 8), (56, 52), (52, 56)} <= ways


def test_geometry_of_rgb_and_target_changes_together(tmp_path: Path) -> None:
    write_scene(tmp_path, "scene")
    data = SequenceFolder(tmp_path)
    for step in range(10):
        batch = data.batch(1, step, (48, 80), 1, 1)
        objects = batch.objects[0, 0, 0] > 0
        if objects.sum() < 50 or (~objects).sum() < 50:
            continue
        brightness = batch.rgb[0].mean(axis=0)[0]
        assert brightness[objects].mean() > brightness[~objects].mean() + 0.1


def test_late_and_broken_tars(tmp_path: Path) -> None:
    write_scene(tmp_path, "a")
    lines: list[str] = []
    data = SequenceFolder(tmp_path, lines.append)
    write_scene(tmp_path, "b")
    (tmp_path / "c.tar").write_bytes(b"not a tar")
    (tmp_path / "d.tar.partial").write_bytes(b"")
    (tmp_path / "._a.tar").write_bytes(b"macOS's")
    assert data.rescan() == 1
    assert data.rescan() == 0
    assert [clip.name for clip in data.clips] == ["a", "b"]
    assert len(lines) == 1
    assert "c.tar" in lines[0]


def test_what_first_frames_give_away_as_wrong_is_told_once(tmp_path: Path) -> None:
    for name in "ab":
        frame = trees.sequence_frame(0)
        write_sequence(tmp_path / f"{name}.tar", name, [replace(frame, raw_depth=10 * frame.depth)])
    lines: list[str] = []
    assert len(SequenceFolder(tmp_path, lines.append).clips) == 2
    (line,) = lines
    assert line.startswith(f"note: {tmp_path / 'a.tar'}: ")
    assert "raw depth is 10 times the true one" in line


def flat(frame: SequenceFrame) -> SequenceFrame:
    return replace(frame, depth=np.full_like(frame.depth, 0.7))


def class_7(frame: SequenceFrame) -> SequenceFrame:
    return replace(frame, mask=np.full(frame.depth.shape, 7, np.uint8))


def smaller(frame: SequenceFrame) -> SequenceFrame:
    rgb, depth = frame.rgb[:40, :64], frame.depth[:40, :64]
    return replace(frame, rgb=rgb, depth=depth, mask=None, normal=None, raw_depth=None)


def later(frame: SequenceFrame) -> SequenceFrame:
    return replace(frame, index=9)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (flat, "000000_00000002: depth range of zero"),
        (class_7, "000000_00000002: mask.png holds 7"),
        (smaller, "frames of several sizes 40x64, 48x80, expected one"),
        (later, "frame numbers go by 1, but not at 1 place,"),
    ],
)
def test_what_the_data_sets_loader_refuses_is_not_learned_from(
    tmp_path: Path, change: Callable[[SequenceFrame], SequenceFrame], why: str
) -> None:
    write_scene(tmp_path, "sound", frames=3)
    frames = [trees.sequence_frame(index) for index in range(3)]
    write_sequence(tmp_path / "bad.tar", "000000", [*frames[:2], change(frames[2])])
    lines: list[str] = []
    data = SequenceFolder(tmp_path, lines.append)
    assert [clip.name for clip in data.clips] == ["sound"]
    (line,) = lines
    assert line.startswith(f"left out: {tmp_path / 'bad.tar'}: ")
    assert why in line


def test_a_frame_without_any_depth_is_named(tmp_path: Path) -> None:
    write_scene(tmp_path, "sound")
    members = encode_frame(trees.sequence_frame(0), "000000")
    done, nothing = cv2.imencode(".png", np.zeros((trees.HEIGHT, trees.WIDTH), np.uint16))
    assert done
    members["depth.png"] = nothing.tobytes()
    with tarfile.open(tmp_path / "bad.tar", "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(f"000000_00000000.{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    lines: list[str] = []
    assert len(SequenceFolder(tmp_path, lines.append).clips) == 1
    assert lines == [
        f"left out: {tmp_path / 'bad.tar'}: 000000_00000000: no pixel has a known depth"
    ]


def test_a_clip_is_what_was_rendered(tmp_path: Path) -> None:
    frames = [trees.sequence_frame(index) for index in range(2)]
    write_sequence(tmp_path / "a.tar", "000000", frames)
    (clip,) = SequenceFolder(tmp_path).clips
    for index, frame in enumerate(frames):
        np.testing.assert_array_equal(clip.rgb[index], frame.rgb)
        assert frame.mask is not None
        np.testing.assert_array_equal(clip.mask[index], frame.mask)
        expected = np.where(np.isfinite(frame.depth), 1.0 / frame.depth, 0.0)
        np.testing.assert_allclose(clip.disparity[index], expected, rtol=1e-4)
        assert clip.disparity[index, 0, 0] == 0  # unknown
    assert clip.disparity.dtype == np.float32


def test_short_sequences_stand_still(tmp_path: Path) -> None:
    write_scene(tmp_path, "one")
    batch = SequenceFolder(tmp_path).batch(1, 1, (32, 48), 1, 5)
    target = batch.target[0, 0]
    assert (target == target[:1]).all()


def test_empty_and_absent_folders(tmp_path: Path) -> None:
    with pytest.raises(DktError, match=r"no usable sequence .*`dkt synth render` first"):
        SequenceFolder(tmp_path)
    with pytest.raises(DktError, match="not a folder"):
        SequenceFolder(tmp_path / "absent")


def test_shown_raw_depth_decides_the_range_and_its_faults_repeat(tmp_path: Path) -> None:
    write_scene(tmp_path, "scene", frames=5, raw_depth=True)
    write_scene(tmp_path / "none", "scene", frames=5)
    data = SequenceFolder(tmp_path)
    batch = data.batch(1, 3, (32, 48), 4, 5, conditioned=1.0)
    again = SequenceFolder(tmp_path).batch(1, 3, (32, 48), 4, 5, conditioned=1.0)
    for name, array in vars(batch).items():
        np.testing.assert_array_equal(array, getattr(again, name))
    assert batch.given.all()
    assert batch.condition.shape == (4, 3, 5, 32, 48)
    # Off the glass most readings are right: they are the target's own values.
    off = (batch.objects == 0) & (batch.known > 0)
    measured = batch.condition[:, :1] == batch.condition[:, 2:]
    error = np.abs(batch.condition[:, :1] - batch.target)[off & measured]
    assert np.median(error) < 0.02
    half = data.batch(1, 3, (32, 48), 64, 1, conditioned=0.5).given
    assert 0.25 < half.mean() < 0.75
    without = data.batch(1, 3, (32, 48), 4, 5)
    assert not without.given.any()
    assert not without.condition.any()
    assert not SequenceFolder(tmp_path / "none").batch(1, 3, (32, 48), 4, 5, 1.0).given.any()
