"""Recordings with the truth as tars: what is kept, what is left out, what is never overwritten."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures.dataset_trees import cleargrasp_real
from fixtures.opened_sources import NONE
from fixtures.recorded_frames import HEIGHT, WIDTH, known, labelled_frames, write_video

from dkt_ros.bags.recording import LabelledFrame, RecordingOptions, record
from dkt_ros.cli import main
from dkt_ros.datasets.check import check_dataset
from dkt_ros.datasets.registry import open_dataset
from dkt_ros.errors import DktError
from dkt_ros.files import StorageError, only_process, shown
from dkt_ros.formats.transphy3d import SequenceFrame, read_sequence, write_sequence
from dkt_ros.processing import pack as packing
from dkt_ros.processing.find_sources import find_recordings
from dkt_ros.processing.outcome import Outcome, ProcessingError
from dkt_ros.processing.pack import Packed, PackOptions, pack
from dkt_ros.processing.source import SourceOptions
from dkt_ros.train.fusion.frames import FrameFolder
from dkt_ros.train.nano.dataset import SequenceFolder

TRUTH = replace(NONE, truth="truth/*")


@pytest.fixture
def scenes(pictures: Path) -> Path:
    """The folder of three pictures with their truth, floats in metres."""
    (pictures / "truth").mkdir()
    for index, labelled in enumerate(labelled_frames(3)):
        np.save(pictures / "truth" / f"{index}.npy", known(labelled.truth))
    return pictures


def packed(
    path: Path,
    output: Path,
    source: SourceOptions = NONE,
    *,
    frames: int = 21,
    height: int | None = None,
    overwrite: bool = False,
) -> Packed:
    (recording,) = find_recordings([path], source, output)
    options = PackOptions(source, frames, height)
    return pack(recording, path.stem, options, output, overwrite)


def clips(output: Path) -> list[tuple[SequenceFrame, ...]]:
    """What lies there, which `dkt data check` finds nothing wrong with."""
    dataset = open_dataset(output)
    assert check_dataset(dataset).problems == []
    return [read_sequence(clip.path) for clip in dataset]


def indices(output: Path) -> list[list[int]]:
    return [[frame.index for frame in clip] for clip in clips(output)]


def without_truth(frames: list[LabelledFrame], at: set[int]) -> list[LabelledFrame]:
    return [replace(f, truth=None) if i in at else f for i, f in enumerate(frames)]


def bag_of(folder: Path, frames: list[LabelledFrame]) -> Path:
    record(frames, folder / "run", RecordingOptions(color="raw", depth="32FC1"))
    return folder / "run"


def test_a_bag_becomes_clips_of_what_was_recorded(bag: Path, tmp_path: Path) -> None:
    assert packed(bag, tmp_path, frames=3) == Packed(clips=3, frames=7)
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"scene-000{n}.tar" for n in range(3)]
    assert indices(tmp_path) == [[0, 1, 2], [3, 4, 5], [6]]
    found = [frame for clip in clips(tmp_path) for frame in clip]
    for frame, labelled in zip(found, labelled_frames(7), strict=True):
        np.testing.assert_array_equal(frame.rgb, labelled.frame.rgb)
        np.testing.assert_allclose(frame.depth, known(labelled.truth), atol=1.3 / 65535)
        raw = known(labelled.frame.raw_depth)
        np.testing.assert_allclose(known(frame.raw_depth), raw, atol=6e-4, equal_nan=True)
        np.testing.assert_array_equal(known(frame.mask), known(labelled.mask))
        np.testing.assert_allclose(frame.camera_matrix, labelled.frame.intrinsics.matrix)
        assert frame.extra["stamp_ns"] == labelled.frame.stamp_ns
        assert frame.world_to_camera is None


def test_every_training_reads_it(bag: Path, tmp_path: Path) -> None:
    def flat(rgb: np.ndarray, raw_depth: np.ndarray) -> np.ndarray:
        return np.zeros(rgb.shape[:2], np.float32)

    assert packed(bag, tmp_path / "data").frames == 7
    (clip,) = SequenceFolder(tmp_path / "data").clips
    assert len(clip.rgb) == 7
    assert clip.readings is not None
    frames = FrameFolder(tmp_path / "data", flat, tmp_path / "kept").items
    assert len(frames) == 7
    assert set(np.unique(frames[0].classes)) == {0, 1}


def test_frames_without_truth_are_told_and_end_a_clip(tmp_path: Path) -> None:
    frames = without_truth(labelled_frames(8), {2, 4})
    told = packed(bag_of(tmp_path, frames), tmp_path / "out")
    assert indices(tmp_path / "out") == [[0, 1], [3, 5], [6, 7]]
    assert told.frames == 6
    assert told.lost == [
        "2 x no true depth: frame 2 has none; expected one of colour's size, in a bag with its "
        "very stamp, in a folder with its name"
    ]


def test_truth_of_every_third_frame_makes_one_video(tmp_path: Path) -> None:
    frames = without_truth(labelled_frames(10), {1, 2, 4, 5, 7, 8})
    assert packed(bag_of(tmp_path, frames), tmp_path / "out").clips == 1
    assert indices(tmp_path / "out") == [[0, 3, 6, 9]]


def test_a_longer_gap_starts_a_new_clip(tmp_path: Path) -> None:
    bag = bag_of(tmp_path, without_truth(labelled_frames(9, rate_hz=1.0), {1, 2, 3, 5, 6, 7}))
    packed(bag, tmp_path / "out")
    assert indices(tmp_path / "out") == [[0], [4], [8]]


def test_a_folder_with_truth(scenes: Path, tmp_path: Path) -> None:
    (scenes / "mask").mkdir()
    cv2.imwrite(str(scenes / "mask/0.png"), 255 * known(labelled_frames(1)[0].mask))
    told = packed(scenes, tmp_path / "out", replace(TRUTH, mask="mask/*"))
    (clip,) = clips(tmp_path / "out")
    assert [frame.mask is None for frame in clip] == [False, True, True]
    np.testing.assert_array_equal(known(clip[0].mask), known(labelled_frames(1)[0].mask))
    assert clip[1].camera_matrix[1, 1] == pytest.approx(49.0)
    assert told.lost == []
    assert any("have no mask" in note for note in told.notes)


def test_truth_of_another_size_costs_its_frame(scenes: Path, tmp_path: Path) -> None:
    np.save(scenes / "truth/1.npy", np.ones((HEIGHT // 2, WIDTH // 2), np.float32))
    told = packed(scenes, tmp_path / "out", TRUTH)
    assert [frame.index for clip in clips(tmp_path / "out") for frame in clip] == [0, 2]
    assert len(told.lost) == 1
    assert "true depth is 24x16, colour is 48x32" in told.lost[0]


def test_nothing_is_learned_of_a_frame_without_readings_or_whose_mask_cannot_be_used(
    scenes: Path, tmp_path: Path
) -> None:
    cv2.imwrite(str(scenes / "depth/2.png"), np.zeros((HEIGHT, WIDTH), np.uint16))
    (scenes / "mask").mkdir()
    for index in range(3):
        size = (HEIGHT, WIDTH) if index else (HEIGHT // 2, WIDTH // 2)
        cv2.imwrite(str(scenes / "mask" / f"{index}.png"), np.eye(*size, dtype=np.uint8))
    told = packed(scenes, tmp_path / "out", replace(TRUTH, mask="mask/*"))
    assert [frame.index for clip in clips(tmp_path / "out") for frame in clip] == [1]
    of_folder, reading, mask = told.lost
    assert of_folder.startswith("1 of 3 pictures have no depth")
    assert reading == "1 x no raw depth: frame 2: raw depth has no reading at any pixel"
    assert mask.startswith("1 x unusable mask: ")
    assert "mask is 24x16, colour is 48x32" in mask


def test_truth_in_another_unit_is_refused_and_what_is_far_is_unknown(
    scenes: Path, tmp_path: Path
) -> None:
    truth = known(labelled_frames(1)[0].truth)
    for index in range(3):
        np.save(scenes / "truth" / f"{index}.npy", truth * 1000)
    with pytest.raises(ProcessingError, match=r"3 x unusable .*beyond 65.535 m, from 400 m on"):
        packed(scenes, tmp_path / "out", TRUTH)
    assert list((tmp_path / "out").iterdir()) == []
    far = truth.copy()
    far[0] = 65504.0  # a renderer's word for nothing
    np.save(scenes / "truth/0.npy", far)
    np.save(scenes / "truth/1.npy", np.full_like(truth, 0.5))
    told = packed(scenes, tmp_path / "out", TRUTH)
    assert "2 x unusable true depth" in told.lost[0]
    ((frame,),) = clips(tmp_path / "out")
    assert np.isnan(frame.depth[0]).all()
    np.testing.assert_allclose(frame.depth[1:], truth[1:], atol=1e-4)


def test_what_looks_wrong_is_told(scenes: Path, tmp_path: Path) -> None:
    told = packed(scenes, tmp_path / "out", replace(TRUTH, depth_unit_m=0.003))
    assert told.frames == 3
    (note,) = told.notes
    assert note.startswith("frame 0: raw depth is 3 times the true one")
    assert note.endswith("(and so of 3 frames in all)")
    told = packed(scenes, tmp_path / "same", replace(TRUTH, truth="depth/*"))
    assert any("raw depth is the true depth at every pixel" in note for note in told.notes)


def test_unrelated_pictures_are_clips_of_their_own(tmp_path: Path) -> None:
    cleargrasp_real(tmp_path / "real", frames=2)
    packed(tmp_path / "real", tmp_path / "out", replace(NONE, max_gap_s=1000.0))
    assert indices(tmp_path / "out") == [[0], [1]]
    originals = next(iter(open_dataset(tmp_path / "real")))
    for index, (frame,) in enumerate(clips(tmp_path / "out")):
        sample = originals.read(index)
        np.testing.assert_array_equal(frame.rgb, sample.rgb)
        np.testing.assert_allclose(frame.depth, sample.depth, atol=1e-4, equal_nan=True)
        np.testing.assert_array_equal(known(frame.mask), known(sample.mask))


def test_pictures_of_another_size_begin_a_clip(tmp_path: Path) -> None:
    frames = [*labelled_frames(2), *labelled_frames(4, width=2 * WIDTH, height=2 * HEIGHT)[2:]]
    video = [
        SequenceFrame(
            rgb=one.frame.rgb,
            depth=known(one.truth),
            camera_matrix=one.frame.intrinsics.matrix,
            world_to_camera=None,
            raw_depth=one.frame.raw_depth,
            index=index,
        )
        for index, one in enumerate(frames)
    ]
    write_sequence(tmp_path / "data" / "video.tar", "video", video)
    packed(tmp_path / "data", tmp_path / "out")
    assert indices(tmp_path / "out") == [[0, 1], [2, 3]]


def test_smaller_pictures_keep_their_shape_and_values(bag: Path, tmp_path: Path) -> None:
    packed(bag, tmp_path, height=HEIGHT // 2)
    frame, labelled = clips(tmp_path)[0][0], labelled_frames(1)[0]
    assert frame.rgb.shape == (HEIGHT // 2, WIDTH // 2, 3)
    blocks = labelled.frame.rgb.reshape(HEIGHT // 2, 2, WIDTH // 2, 2, 3)
    np.testing.assert_array_equal(frame.rgb, (blocks.sum(axis=(1, 3), dtype=int) + 2) // 4)
    camera = labelled.frame.intrinsics.scaled_to(WIDTH // 2, HEIGHT // 2)
    np.testing.assert_allclose(frame.camera_matrix, camera.matrix)
    values = known(labelled.truth)[1::2, 1::2]
    np.testing.assert_allclose(frame.depth, values, atol=1e-4)
    assert known(frame.mask).sum() == known(labelled.mask)[1::2, 1::2].sum()
    packed(bag, tmp_path / "larger", height=1000)
    assert clips(tmp_path / "larger")[0][0].rgb.shape == (HEIGHT, WIDTH, 3)


def test_what_is_there_is_kept_and_never_overwritten_unasked(bag: Path, tmp_path: Path) -> None:
    first = packed(bag, tmp_path, frames=2)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert not any(bytes(bag) in path.read_bytes() for path in before)  # where it lay is nobody's
    again = packed(bag, tmp_path, frames=2)
    assert again == replace(first, already=True)
    with pytest.raises(ProcessingError, match="packed with other options") as caught:
        packed(bag, tmp_path, frames=3)
    assert caught.value.outcome is Outcome.OUTPUT_EXISTS
    other = tmp_path.parent / f"{tmp_path.name}-other" / "scene"
    shutil.copytree(bag, other)
    with pytest.raises(ProcessingError, match="or from another one"):
        packed(other, tmp_path, frames=2)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
    of_another = tmp_path / "scene-more-0000.tar"
    of_another.touch()
    packed(other, tmp_path, frames=4, overwrite=True)
    of_another.unlink()
    assert indices(tmp_path) == [[0, 1, 2, 3], [4, 5, 6]]
    (tmp_path / "scene-0000.tar").unlink()  # as a kill leaves it, before the first one comes last
    assert not packed(other, tmp_path, frames=4).already
    assert indices(tmp_path) == [[0, 1, 2, 3], [4, 5, 6]]
    (tmp_path / "scene-0000.tar").write_bytes(b"somebody's")
    with pytest.raises(ProcessingError, match="not packed from this recording"):
        packed(other, tmp_path, frames=4)
    assert (tmp_path / "scene-0000.tar").read_bytes() == b"somebody's"


def test_all_of_a_recording_or_nothing(
    bag: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed(bag, tmp_path, frames=7)

    def full(path: Path, sequence: str, frames: Iterator[SequenceFrame]) -> int:
        if path.stem.endswith("1"):
            raise StorageError("the disk is full")
        return write_sequence(path, sequence, frames)

    with monkeypatch.context() as patch:
        patch.setattr(packing, "write_sequence", full)
        for output, overwrite in ((tmp_path, True), (tmp_path / "new", False)):
            with pytest.raises(StorageError, match="the disk is full"):
                packed(bag, output, frames=3, overwrite=overwrite)
    assert list((tmp_path / "new").iterdir()) == []
    assert indices(tmp_path) == [list(range(7))]
    with monkeypatch.context() as patch:
        patch.setattr(packing, "_tell_later", lambda *_: full(Path("1"), "", iter(())))
        with pytest.raises(StorageError, match="the disk is full"):
            packed(bag, tmp_path, frames=3, overwrite=True)
    assert indices(tmp_path) == [list(range(7))]
    # What a kill leaves lies out of sight, and is gone with the next run.
    left = tmp_path / "new/.partial-scene/scene-0000.tar"
    left.parent.mkdir()
    shutil.copy(tmp_path / "scene-0000.tar", left)
    with pytest.raises(DktError, match="holds no data set"):
        open_dataset(tmp_path / "new")
    packed(bag, tmp_path / "new", frames=4)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "scene-0000.tar",
        "scene-0001.tar",
    ]


def test_a_killed_run_goes_on_and_tells_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frames are left out before the kill and after it; raw depth looks wrong in all of them."""
    frames = [
        replace(one, frame=replace(one.frame, raw_depth=np.float32(3) * known(one.frame.raw_depth)))
        for one in without_truth(labelled_frames(11), {1, 6, 9})
    ]
    bag = bag_of(tmp_path, frames)
    whole = packed(bag, tmp_path / "whole", frames=2)
    tars = sorted((tmp_path / "whole").glob("*.tar"))
    numbers = [[frame.index for frame in read_sequence(tar)] for tar in tars]
    assert numbers == [[0, 2], [3, 4], [5, 7], [8, 10]]
    assert "3 x no true depth" in whole.lost[0]
    assert "raw depth is 3 times" in whole.notes[0]
    assert "(and so of 8 frames in all)" in whole.notes[0]

    class KillError(BaseException):
        pass

    def kill(path: Path, sequence: str, frames: Iterator[SequenceFrame]) -> int:
        if path.stem.endswith("3"):
            raise KillError
        return write_sequence(path, sequence, frames)

    read = list[int]()
    learnable = packing._Run._learnable

    def note(run: packing._Run, labelled: LabelledFrame, index: int) -> object:
        read.append(index)
        return learnable(run, labelled, index)

    def killed() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(packing, "write_sequence", kill)
            with pytest.raises(KillError):
                packed(bag, tmp_path / "out", frames=2)

    killed()
    monkeypatch.setattr(packing._Run, "_learnable", note)
    assert packed(bag, tmp_path / "out", frames=2) == whole
    assert read == [8, 9, 10]
    for tar in tars:
        assert (tmp_path / "out" / tar.name).read_bytes() == tar.read_bytes()
    assert not (tmp_path / "out" / ".partial-run").exists()
    assert packed(bag, tmp_path / "out", frames=2) == replace(whole, already=True)
    # Other code, other options, or a tar that is gone: all of it is read again.
    anew = {
        "code": "was of other code of dkt_ros",
        "options": "was of other options, or before the recording changed",
        "gone": "lacks a part",
        "unread": "is without a note of how far it came",
    }
    asked = ((0, "overwrite"), (8, ""))  # of nothing that happened by itself
    for begins, change in (*((0, change) for change in anew), *asked):
        shutil.rmtree(tmp_path / "out")
        killed()
        read.clear()
        if change == "gone":
            (tmp_path / "out/.partial-run/run-0001.tar").unlink()
        if change == "unread":  # as another version's, which counts something more
            state = tmp_path / "out/.partial-run/state.json"
            state.write_text(json.dumps({**json.loads(state.read_text()), "more": 1}))
        with monkeypatch.context() as patch:
            if change == "code":
                patch.setattr(packing, "code_state", lambda: "another")
            told = packed(
                bag,
                tmp_path / "out",
                frames=3 if change == "options" else 2,
                overwrite=change == "overwrite",
            )
        assert read[0] == begins, change
        said = (
            f"what a killed run had packed, 3 clips, {anew.get(change)}: all of it was packed anew"
        )
        assert told.notes == [*whole.notes, *([said] if change in anew else [])]
    # It is news of that run alone.
    assert packed(bag, tmp_path / "out", frames=2).notes == whole.notes


def test_what_a_run_that_is_killed_at_its_very_end_left_out_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bag = bag_of(tmp_path, without_truth(labelled_frames(5), {1}))
    whole = packed(bag, tmp_path / "whole", frames=2)
    assert whole.lost

    def kill_with_all_read(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(packing, "_tell_later", kill_with_all_read)
        with pytest.raises(KeyboardInterrupt):
            packed(bag, tmp_path / "out", frames=2)
    put = os.replace

    def kill(here: Path, there: Path) -> None:
        put(here, there)
        if there == tmp_path / "out/run-0000.tar":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", kill)
        with pytest.raises(KeyboardInterrupt):
            packed(bag, tmp_path / "out", frames=2)
    assert packed(bag, tmp_path / "out", frames=2) == replace(whole, already=True)
    assert not (tmp_path / "out/.partial-run").exists()
    unlink = Path.unlink

    def kill_at_a_tar(path: Path, missing_ok: bool = False) -> None:
        unlink(path, missing_ok)
        if path.suffix == ".tar":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", kill_at_a_tar)
        with pytest.raises(KeyboardInterrupt):
            packed(bag, tmp_path / "out", frames=2, overwrite=True)
    assert packed(bag, tmp_path / "out", frames=2) == whole


def test_a_recording_or_a_calibration_that_has_changed_is_not_taken_for_packed(
    scenes: Path, tmp_path: Path
) -> None:
    camera, truth = tmp_path / "camera.txt", scenes / "truth/1.npy"
    camera.write_bytes((scenes / "intrinsics.txt").read_bytes())
    source = replace(TRUTH, intrinsics=str(camera))
    packed(scenes, tmp_path / "out", source)
    for file, content in ((camera, b"50 0 24\n0 50 16\n0 0 1\n"), (truth, truth.read_bytes()[:-4])):
        before = file.read_bytes()
        file.write_bytes(content)
        with pytest.raises(ProcessingError, match="before this recording changed"):
            packed(scenes, tmp_path / "out", source)
        file.write_bytes(before)


def test_what_was_left_out_is_told_again(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (scenes / "truth/1.npy").unlink()
    command = ["pack", str(scenes), "--output", str(tmp_path / "out"), "--truth", "truth/*"]
    assert main([*command, "--depth-unit", "0.003"]) == Outcome.INCOMPLETE.code
    first, *told = capsys.readouterr().out.splitlines()
    assert [line[:12] for line in told] == ["  not used: ", "  note: 1 of", "  note: fram"]
    assert main([*command, "--depth-unit", "0.003"]) == Outcome.INCOMPLETE.code
    assert capsys.readouterr().out.splitlines() == [f"{first}, there already", *told]
    for index in range(3):
        np.save(scenes / "truth" / f"{index}.npy", known(labelled_frames(1)[0].truth))
    assert main([*command, "--overwrite"]) == 0
    assert main(command) == 0
    assert capsys.readouterr().out.splitlines()[1:] == ["pictures: 1 clip, 3 frames, there already"]


def test_raw_depth_finer_than_millimetres_is_kept(scenes: Path, tmp_path: Path) -> None:
    raw = np.where(np.isfinite(known(labelled_frames(1)[0].frame.raw_depth)), 0.0, np.nan)
    for index, step in enumerate((0.001, 0.0001, 0.0)):
        exact = np.linspace(0.3, 0.8, raw.size, dtype=np.float64).reshape(raw.shape)
        exact = np.rint(exact / step) * step if step else exact
        next((scenes / "depth").glob(f"{index}.*")).unlink()
        np.save(scenes / "depth" / f"{index}.npy", (exact + raw).astype(np.float32))
        np.save(scenes / "truth" / f"{index}.npy", exact.astype(np.float32))
    packed(scenes, tmp_path / "out", TRUTH)
    (clip,) = clips(tmp_path / "out")
    assert [frame.raw_step_m is None for frame in clip] == [True, False, False]
    for index, (frame, atol) in enumerate(zip(clip, (1e-7, 7e-6, 7e-6), strict=True)):
        given = np.load(scenes / "depth" / f"{index}.npy")
        np.testing.assert_allclose(known(frame.raw_depth), given, atol=atol)


def test_arrays_and_a_video_bring_their_truth(tmp_path: Path) -> None:
    frames = labelled_frames(4)
    arrays = {
        "rgb": np.stack([one.frame.rgb for one in frames]),
        "depth": np.stack([known(one.frame.raw_depth) for one in frames]),
        "truth": np.stack([known(one.truth) for one in frames]),
    }
    mask = np.stack([known(one.mask) for one in frames])
    np.savez(tmp_path / "scene.npz", **arrays, mask=mask, K=frames[0].frame.intrinsics.matrix)
    packed(tmp_path / "scene.npz", tmp_path / "of_arrays")
    (clip,) = clips(tmp_path / "of_arrays")
    for frame, labelled in zip(clip, frames, strict=True):
        np.testing.assert_allclose(frame.depth, known(labelled.truth), atol=1e-4)
        np.testing.assert_array_equal(known(frame.mask), known(labelled.mask))
    video = write_video(tmp_path / "scene.avi", arrays["rgb"], "MJPG")
    np.save(tmp_path / "scene_depth.npy", arrays["depth"])
    np.savez(tmp_path / "true.npz", truth=arrays["truth"][:3])
    camera = replace(NONE, pinhole=(48.0, 49.0, 24.0, 16.0))
    with pytest.raises(ProcessingError, match=r"a video without true depth; .*--truth PATTERN"):
        packed(video, tmp_path / "of_video", camera)
    told = packed(video, tmp_path / "of_video", replace(camera, truth="true.npz"))
    (clip,) = clips(tmp_path / "of_video")
    assert len(clip) == 3
    np.testing.assert_allclose(clip[2].depth, known(frames[2].truth), atol=1e-4)
    assert told.lost[0].startswith("1 x no true depth: frame 3 has none")
    assert "the video gives 4 frames for 3 of true depth: is it that video's?" in told.notes
    k = frames[0].frame.intrinsics.matrix
    np.savez(tmp_path / "scene.npz", rgb=arrays["rgb"], depth=arrays["depth"], K=k)
    with pytest.raises(ProcessingError, match=r"npz: arrays without true depth; .*array truth"):
        packed(tmp_path / "scene.npz", tmp_path / "other")
    np.savez(tmp_path / "scene.npz", **{**arrays, "truth": arrays["truth"][:3]}, K=np.eye(3))
    with pytest.raises(ProcessingError, match=r"truth is .*expected floats in metres"):
        packed(tmp_path / "scene.npz", tmp_path / "other")
    np.savez(tmp_path / "scene.npz", **arrays, mask=mask.astype(np.float32), K=np.eye(3))
    with pytest.raises(ProcessingError, match=r"mask is .*expected integers"):
        packed(tmp_path / "scene.npz", tmp_path / "other")
    np.savez(tmp_path / "true.npz", depth=arrays["truth"])
    with pytest.raises(ProcessingError, match=r"true\.npz has nothing for truth"):
        packed(video, tmp_path / "other", replace(camera, truth="true.npz"))


def test_without_truth_nothing_is_read(pictures: Path, tmp_path: Path) -> None:
    (pictures / "color/0.png").write_bytes(b"")
    with pytest.raises(ProcessingError, match=r"a folder without true depth; .*--truth PATTERN"):
        packed(pictures, tmp_path / "out")
    bag = bag_of(tmp_path, without_truth(labelled_frames(2), {0, 1}))
    with pytest.raises(ProcessingError, match=r"a bag without true depth; .*--truth-topic"):
        packed(bag, tmp_path / "out")


def test_the_command(
    bag: Path,
    scenes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Names with dots, in which a frame's key would end; one bad recording costs itself alone.

    What was packed into a folder of recordings is none of them.
    """
    dotted, output = tmp_path / "in/run.2", tmp_path / "in/out"
    shutil.copytree(bag, dotted)
    command = ["pack", str(dotted.parent), "--output", str(output)]
    assert main([*command, "--frames", "5"]) == 0
    assert capsys.readouterr().out == "run_2: 2 clips, 7 frames\n"
    assert indices(output) == [[0, 1, 2, 3, 4], [5, 6]]
    assert main([*command, "--frames", "5"]) == 0
    assert capsys.readouterr().out == "run_2: 2 clips, 7 frames, there already\n"
    assert main(command) == Outcome.OUTPUT_EXISTS.code
    (scenes / "truth/1.npy").unlink()
    both = ["pack", str(scenes), str(dotted), "--output", str(output), "--truth", "truth/*"]
    capsys.readouterr()
    assert main(both) == 1
    shown = capsys.readouterr().out
    assert "pictures: 1 clip, 2 frames\n  not used: 1 x no true depth: frame 1 has none" in shown
    assert "run_2: FAILED: " in shown
    assert main([*both, "--overwrite", "--height", "16"]) == Outcome.INCOMPLETE.code
    assert indices(output) == [[0, 2], [0, 1, 2, 3, 4, 5, 6]]
    assert {frame.rgb.shape[0] for clip in clips(output) for frame in clip} == {16}
    capsys.readouterr()
    file = tmp_path / "file"
    file.touch()
    for words, said in (
        (["--output", str(output), "--truth", "truth/*"], "--truth applies only to a "),
        (["--output", str(file)], f"{file} is no folder; choose another --output"),
    ):
        assert main(["pack", str(dotted), *words]) == 2
        assert said in capsys.readouterr().err

    def full(*_: object) -> int:
        raise StorageError("the disk is full")

    monkeypatch.setattr(packing, "write_sequence", full)
    assert main([*both, "--overwrite"]) == 2
    assert capsys.readouterr().err == "dkt pack: the disk is full\n"


def test_another_process_that_packs_it_is_left_to_that(
    bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with only_process(tmp_path / ".partial-scene.lock", ""):
        status = main(["pack", str(bag), "--output", str(tmp_path)])
    assert status == Outcome.NOT_WRITTEN.code
    assert "scene-*.tar is being packed by another process" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_names_that_tars_cannot_tell_apart_are_refused(bag: Path, tmp_path: Path) -> None:
    for name in ("run.2", "run_2"):
        shutil.copytree(bag, tmp_path / name)
    found = find_recordings([tmp_path / "run.2", tmp_path / "run_2"], NONE)
    with pytest.raises(DktError, match="tars of both would be called run_2"):
        packing.sequence_names(found)


@pytest.mark.parametrize("given", [{"frames": 0}, {"frames": 1, "height": 0}])
def test_clips_and_pictures_of_nothing_are_refused(given: dict[str, int]) -> None:
    with pytest.raises(DktError, match="is 0, expected at least 1"):
        PackOptions(NONE, **given)


@pytest.mark.parametrize(
    "asking", ["datasets.registry", "processing.picture_sources", "bags.from_images"]
)
def test_a_folder_that_cannot_be_listed_does_not_keep_the_others_from_being_packed(
    scenes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    asking: str,
) -> None:
    """As of a drive that fails, or of another user; whoever looks into it."""
    for name in ("A", "B", "C"):
        shutil.copytree(scenes, tmp_path / "in" / name)

    def listed(folder: Path, *pattern: str) -> list[Path]:
        if folder.name == "B":
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(folder / "color"))
        return shown(folder, *pattern)

    monkeypatch.setattr(f"dkt_ros.{asking}.shown", listed)
    words = ["pack", *map(str, (tmp_path / "in").iterdir()), "--output", str(tmp_path / "out")]
    assert main([*words, "--truth", "truth/*"]) == (0 if asking == "datasets.registry" else 1)
    found = {path.name for path in (tmp_path / "out").glob("[!.]*")}
    assert found >= {"A-0000.tar", "C-0000.tar"}
    if "B-0000.tar" not in found:
        said = capsys.readouterr().out
        assert re.search(r"^B: FAILED: .*/B/color: .*Input/output error", said, re.MULTILINE)
