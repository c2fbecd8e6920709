"""Folders of pictures, arrays, videos and clips of data sets, and what is said of bad ones."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fixtures.dataset_trees import dreds_scene, sequence_frame, transphy3d_tree
from fixtures.opened_sources import NONE, PINHOLE, opened, pending, processed, refused, shots
from fixtures.recorded_frames import HEIGHT, WIDTH, known, labelled_frames, write_video

import dkt_ros
from dkt_ros.cli import build_parser
from dkt_ros.errors import DktError
from dkt_ros.estimator import load_estimator
from dkt_ros.formats import videos
from dkt_ros.formats.transphy3d import write_sequence
from dkt_ros.geometry import to_millimetres
from dkt_ros.processing.command import source_options
from dkt_ros.processing.find_sources import find_recordings
from dkt_ros.processing.one import process_one
from dkt_ros.processing.options import ProcessOptions
from dkt_ros.processing.outcome import Outcome, ProcessingError
from dkt_ros.processing.source import SourceOptions


def test_a_folder_of_pictures(pictures: Path) -> None:
    found = shots(opened(pictures))
    assert len(found) == 3
    (pictures / "color" / "Thumbs.db").touch()
    assert opened(pictures).total == 3
    assert opened(pictures).duration_s == pytest.approx(0.3)
    assert found[1].frame.intrinsics.fy == 49.0
    raw = labelled_frames(2)[1].frame.raw_depth
    assert np.allclose(known(found[1].frame.raw_depth), known(raw), atol=6e-4, equal_nan=True)
    below = refused(pictures / "depth")
    assert below.outcome is Outcome.NOT_A_RECORDING
    assert str(below).endswith(f"; {pictures} seems to hold both: name that")
    (pictures / "intrinsics.txt").unlink()
    assert refused(pictures).outcome is Outcome.NO_CAMERA_INFO
    assert len(shots(opened(pictures, PINHOLE))) == 3
    shutil.rmtree(pictures / "depth")
    assert refused(pictures, PINHOLE).outcome is Outcome.NO_DEPTH


def test_folders_in_capitals_and_depth_as_arrays(pictures: Path) -> None:
    """Pictures win where a folder holds arrays of the same names too."""
    expected = [known(shot.frame.raw_depth) for shot in shots(opened(pictures))]
    for number, depth in enumerate(expected):
        np.savez(pictures / "depth" / f"{number}.npz", depth=2 * depth)
    for role, name in (("color", "RGB"), ("depth", "Depth"), ("intrinsics.txt", "Camera_Info.TXT")):
        (pictures / role).rename(pictures / name)
    for factor in (1, 2):
        found = [known(shot.frame.raw_depth) for shot in shots(opened(pictures))]
        np.testing.assert_array_equal(found, np.multiply(factor, expected))
        for file in (pictures / "Depth").glob("*.png"):
            file.unlink()


def test_the_unit_of_depth_beside_the_intrinsics_holds(pictures: Path) -> None:
    """As in BOP's scene folders: tenths of a millimetre."""
    millimetres = known(shots(opened(pictures))[0].frame.raw_depth)
    camera = shots(opened(pictures))[0].frame.intrinsics
    (pictures / "intrinsics.txt").unlink()
    entry = {"cam_K": camera.matrix.ravel().tolist(), "depth_scale": 0.1}
    (pictures / "scene_camera.json").write_text(json.dumps({str(n): entry for n in range(3)}))
    source = opened(pictures)
    tenths = known(shots(source)[0].frame.raw_depth)
    np.testing.assert_allclose(tenths, millimetres / 10, rtol=1e-6)
    assert any("a step of depth is taken for 0.0001 m" in note for note in source.notes)
    given = opened(pictures, SourceOptions(depth_unit_m=0.002))
    np.testing.assert_allclose(known(shots(given)[0].frame.raw_depth), 2 * millimetres, rtol=1e-6)
    assert any("taken for 0.002 m" in note for note in given.notes)
    in_millimetres = opened(pictures, SourceOptions(override_unit=True))
    found = known(shots(in_millimetres)[0].frame.raw_depth)
    np.testing.assert_array_equal(found, millimetres)
    assert any("taken for 0.001 m" in note for note in in_millimetres.notes)


def test_scenes_may_have_units_of_depth_of_their_own(tmp_path: Path, pictures: Path) -> None:
    """Of two cameras, each with a calibration file that states its own."""
    expected = known(shots(opened(pictures))[0].frame.raw_depth)
    scenes = tmp_path / "scenes"
    for name, unit_m in (("l515", 0.00025), ("d435", 0.001)):
        for role in ("color", "depth"):
            (scenes / name / role).mkdir(parents=True)
            shutil.copy(pictures / role / "0.png", scenes / name / role)
        camera = {"fx": 48, "fy": 49, "cx": 24, "cy": 16, "depth_scale": unit_m}
        (scenes / name / "camera.json").write_text(json.dumps(camera))
    options = SourceOptions(color="*/color/*", depth="*/depth/*", intrinsics="*/camera.json")
    source = opened(scenes, options)
    found = [known(shot.frame.raw_depth) for shot in shots(source)]
    np.testing.assert_allclose(found[0], expected, rtol=1e-6)
    np.testing.assert_allclose(found[1], 0.25 * expected, rtol=1e-6)
    (note,) = source.notes
    assert re.search(r"taken for 0\.00025 m; .*l515/camera\.json says 0\.00025", note)
    given = shots(opened(scenes, replace(options, override_unit=True)))
    np.testing.assert_allclose(known(given[1].frame.raw_depth), expected, rtol=1e-6)


def test_a_unit_that_is_given_holds_whichever_it_is() -> None:
    def options(*flags: str) -> SourceOptions:
        command = ["process", "in", "--output", "out", *flags]
        return source_options(build_parser().parse_args(command))

    assert options() == SourceOptions()
    assert options("--depth-unit", "0.001") == SourceOptions(override_unit=True)
    given = options("--depth-unit", "0.002")
    assert given == SourceOptions(depth_unit_m=0.002, override_unit=True)


def test_of_several_cameras_files_colour_has_its_own(pictures: Path) -> None:
    own = pictures / "intrinsics.txt"
    (pictures / "depth_intrinsics.txt").write_text("40 0 24\n0 40 16\n0 0 1\n")
    for name in ("intrinsics.txt", "rgb_intrinsics.txt", "intrinsics_depth_to_color.txt", "K.txt"):
        own = own.rename(pictures / name)
        source = opened(pictures)
        assert shots(source)[0].frame.intrinsics.fx == 48
        assert not source.notes
    own.unlink()
    source = opened(pictures)
    assert shots(source)[0].frame.intrinsics.fx == 40
    assert any("depth_intrinsics.txt is taken for colour's" in note for note in source.notes)


def test_the_unit_in_a_calibration_file_holds_for_arrays_and_videos_too(tmp_path: Path) -> None:
    camera = tmp_path / "camera.json"
    camera.write_text(json.dumps({"fx": 50, "fy": 50, "cx": 24, "cy": 16, "depth_scale": 0.0001}))
    frames = labelled_frames(2)
    tenths = np.full((2, HEIGHT, WIDTH), 8000, np.uint16)
    rgb = np.stack([labelled.frame.rgb for labelled in frames])
    np.savez(tmp_path / "a.npz", rgb=rgb, depth=tenths)
    write_video(tmp_path / "b.mp4", rgb, "mp4v")
    np.save(tmp_path / "b_depth.npy", tenths)
    for name in ("a.npz", "b.mp4"):
        for flags, metres in ((False, 0.8), (True, 8.0)):
            options = SourceOptions(intrinsics=str(camera), override_unit=flags)
            source = opened(tmp_path / name, options)
            assert known(shots(source)[1].frame.raw_depth)[0, 0] == pytest.approx(metres)
            assert any("camera.json says 0.0001" in note for note in source.notes)


def test_each_picture_has_its_own_camera_as_in_bop_scenes(pictures: Path) -> None:
    (pictures / "intrinsics.txt").unlink()
    for role in ("color", "depth"):
        for file in list((pictures / role).iterdir()):
            file.rename(file.with_stem(f"{int(file.stem):06}"))
    entries = {str(n): {"cam_K": [60 + n, 0, 32, 0, 60 + n, 24, 0, 0, 1]} for n in range(3)}
    (pictures / "scene_camera.json").write_text(json.dumps(entries))
    assert [shot.frame.intrinsics.fx for shot in shots(opened(pictures))] == [60, 61, 62]
    (pictures / "color" / "000002.png").rename(pictures / "color" / "000007.png")
    (pictures / "depth" / "000002.png").rename(pictures / "depth" / "000007.png")
    with pytest.raises(DktError, match="holds 3 cameras"):
        shots(opened(pictures))


def test_the_calibration_is_colours(pictures: Path) -> None:
    (pictures / "intrinsics.txt").rename(pictures / "rgb_intrinsics.txt")
    (pictures / "depth_intrinsics.txt").write_text("30 0 24 0 30 16 0 0 1")
    shutil.copy(pictures / "rgb_intrinsics.txt", pictures / "rgb_intrinsics.yaml")
    assert shots(opened(pictures))[0].frame.intrinsics.fy == 49.0
    (pictures / "wide_intrinsics.txt").write_text("40 0 24 0 40 16 0 0 1")
    error = refused(pictures)
    assert error.outcome is Outcome.NO_CAMERA_INFO
    assert "rgb_intrinsics.txt, rgb_intrinsics.yaml, wide_intrinsics.txt may" in str(error)
    given = SourceOptions(intrinsics=str(pictures / "wide_intrinsics.txt"))
    assert shots(opened(pictures, given))[0].frame.intrinsics.fy == 40.0


@pytest.mark.parametrize("name", ["camK.npy", "cam_params.json"])
def test_the_calibrations_of_graspnet_and_replica_are_found(pictures: Path, name: str) -> None:
    """Depth of the latter in steps that its file states."""
    (pictures / "intrinsics.txt").unlink()
    camera = {"w": WIDTH, "h": HEIGHT, "fx": 40.0, "fy": 40.0, "cx": 24.0, "cy": 16.0}
    np.save(pictures / "camera_poses.npy", np.zeros((3, 4, 4)))
    if name == "camK.npy":
        np.save(pictures / name, np.array([[40.0, 0, 24], [0, 40, 16], [0, 0, 1]]))
    else:
        (pictures / name).write_text(json.dumps({"camera": camera | {"scale": 2000.0}}))
    frame = shots(opened(pictures))[0].frame
    assert frame.intrinsics.fy == 40.0
    steps = cv2.imread(str(pictures / "depth" / "0.png"), cv2.IMREAD_UNCHANGED)
    unit_m = 0.001 if name == "camK.npy" else 0.0005
    assert frame.raw_depth is not None
    np.testing.assert_allclose(frame.raw_depth[steps > 0], unit_m * steps[steps > 0], rtol=1e-6)


def test_true_depth_where_a_renderer_s_ray_meets_nothing_is_unknown(pictures: Path) -> None:
    (pictures / "truth").mkdir()
    truth = np.full((HEIGHT, WIDTH), 0.5, np.float32)
    truth[:, :9] = 1e10
    for index in range(3):
        np.save(pictures / "truth" / f"{index}.npy", truth)
    found = shots(opened(pictures, replace(NONE, truth="truth/*")))[0].truth
    assert found is not None
    assert np.isnan(found[:, :9]).all()
    np.testing.assert_array_equal(found[:, 9:], truth[:, 9:])


def test_the_unit_of_tum_s_depth_is_asked_for(pictures: Path) -> None:
    for name in ("rgb.txt", "depth.txt"):
        (pictures / name).write_text("# timestamp filename\n")
    for options, told in (
        (NONE, True),
        (replace(NONE, depth_unit_m=0.001, override_unit=True), False),
    ):
        source = opened(pictures, options)
        shots(source)
        found = [note for note in source.notes if "as TUM RGB-D has them" in note]
        assert len(found) == told
        assert all("a step is taken for 0.001 m" in note for note in found)
    (pictures / "intrinsics.txt").unlink()
    (pictures / "camera.yaml").write_text("fx: 48\nfy: 49\ncx: 24\ncy: 16\nDepthMapFactor: 1000\n")
    source = opened(pictures)
    shots(source)
    assert source.notes == []


def test_pictures_by_time_are_of_their_nearest_alone(pictures: Path) -> None:
    """Some have one name, some a neighbour's, one has none near."""
    for role, times in (("color", ("0.100", "0.200", "0.300")), ("depth", ("0.101", "0.2", "0.9"))):
        for index, time in enumerate(times):
            file = pictures / role / f"{index}.png"
            file.rename(file.with_name(f"130503145{time}.png"))
    source = opened(pictures)
    assert len(shots(source)) == 2
    assert source.lost == ["1 of 3 colour pictures have no depth within 20 ms and are left out"]
    assert source.notes == []
    (pictures / "mask").mkdir()
    cv2.imwrite(str(pictures / "mask" / "1305031450.2.png"), np.ones((HEIGHT, WIDTH), np.uint8))
    source = opened(pictures, SourceOptions(mask="mask/*"))
    assert [shot.mask is None for shot in shots(source)] == [True, False]
    assert source.notes == ["2 of 3 colour pictures have no mask within 20 ms"]
    shutil.copy(pictures / "color" / "1305031450.100.png", pictures / "color" / "mean.png")
    with pytest.raises(DktError, match="4 of 4 colour pictures have no depth by the pattern"):
        shots(opened(pictures))


def test_names_that_begin_otherwise_are_told_with_the_pattern_they_take(pictures: Path) -> None:
    for role in ("color", "depth"):
        for file in list((pictures / role).iterdir()):
            file.rename(file.with_name(f"{role}_{file.name}"))
    with pytest.raises(DktError, match=r"first is color_0.png and of the others depth_0.png: "):
        shots(opened(pictures))
    named = replace(NONE, color="color/color_*", depth="depth/depth_*")
    assert len(shots(opened(pictures, named))) == 3


def test_patterns_from_the_root_are_told(pictures: Path) -> None:
    options = SourceOptions(color="/rgb/*", depth="/depth/*", pinhole=(60.0, 60.0, 32.0, 24.0))
    error = refused(pictures, options)
    assert error.outcome is Outcome.NOTHING_USABLE
    assert "pattern '/rgb/*' cannot be used" in str(error)
    assert "expected one of names below that folder" in str(error)
    (pictures / "clip.mp4").touch()
    error = refused(pictures / "clip.mp4", options)
    assert error.outcome is Outcome.NO_DEPTH
    assert "pattern '/depth/*' cannot be used" in str(error)


def test_a_damaged_picture_costs_itself_alone(pictures: Path) -> None:
    depth = pictures / "depth" / "1.png"
    depth.write_bytes(depth.read_bytes()[:-40])
    items = pending(opened(pictures))
    with pytest.raises(DktError, match=r"depth/1\.png: truncated picture"):
        items[1].decode()
    stamps = [items[index].decode().frame.stamp_ns for index in (0, 2)]
    assert np.diff(stamps).tolist() == [200_000_000]


def test_a_recording_without_a_usable_frame_is_refused_in_python(pictures: Path) -> None:
    for file in (pictures / "depth").iterdir():
        cv2.imwrite(str(file), np.ones((4, 6), np.uint16))
    with pytest.raises(dkt_ros.DktError, match=r"no frame could be used: 3 x .*: raw depth of"):
        list(dkt_ros.process(pictures, predictor="fixtures.told_network:load"))


@pytest.mark.parametrize(
    ("calibration", "expected"),
    [
        (
            "96 0 47.5\n0 98 31.5\n0 0 1\n",
            "seems to be a calibration for images of another size",
        ),
        ("24 0 11.5\n0 24.5 7.5\n0 0 1\n", "a calibration for images of another size"),
        ("48 0 28\n0 49 13\n0 0 1\n", ""),
    ],
)
def test_a_calibration_of_pictures_of_another_size_is_told(
    pictures: Path,
    told: ProcessOptions,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    calibration: str,
    expected: str,
) -> None:
    (pictures / "intrinsics.txt").write_text(calibration)
    (recording,) = find_recordings([pictures], SourceOptions())
    load = lambda: load_estimator(told.predictor)  # noqa: E731
    notes = process_one(recording, told, tmp_path / "out", load)["notes"]
    found = [note for note in notes if note.startswith("the calibration says fx=")]
    assert len(found) == bool(expected)
    assert all(expected in note and "(--intrinsics FILE" in note for note in found)
    list(dkt_ros.process(pictures, predictor="fixtures.told_network:load"))
    assert [line for line in caplog.messages if "calibration" in line] == [
        f"{pictures}: {note}" for note in found
    ]


def test_distortion_that_a_calibration_tells_of_is_told(pictures: Path, tmp_path: Path) -> None:
    camera = tmp_path / "camera.yaml"
    named = "fx: 48\nfy: 49\ncx: 24\ncy: 16\nk1: "
    frames = labelled_frames(2)
    rgb = np.stack([labelled.frame.rgb for labelled in frames])
    depth = np.full((2, HEIGHT, WIDTH), 800, np.uint16)
    np.savez(tmp_path / "a.npz", rgb=rgb, depth=depth)
    write_video(tmp_path / "b.mp4", rgb, "mp4v")
    np.save(tmp_path / "b_depth.npy", depth)
    for k1 in ("0.1", "0"):
        camera.write_text(named + k1)
        for path in (pictures, tmp_path / "a.npz", tmp_path / "b.mp4"):
            source = opened(path, SourceOptions(intrinsics=str(camera)))
            shots(source)
            expected = [f"{camera} tells of distortion, which is left out"] * (k1 != "0")
            assert [note.partition(":")[0] for note in source.notes] == expected
    (pictures / "intrinsics.txt").unlink()
    for n in range(3):  # each picture's own
        (pictures / "color" / f"{n}.yaml").write_text(named + "0.1")
    source = opened(pictures, SourceOptions(intrinsics="color/*.yaml"))
    shots(source)
    (note,) = source.notes
    assert "0.yaml tells of distortion" in note


def test_in_python_a_stream_goes_on_as_far_as_the_source_says(tmp_path: Path) -> None:
    frames = labelled_frames(4)[2:]
    rgb, depth = np.stack([f.frame.rgb for f in frames]), np.stack([known(f.truth) for f in frames])

    def last(first: int, max_gap_s: float) -> float:
        """The network's answer to the last frame, which tells what it remembers."""
        path, stamps_ns = tmp_path / "a.npz", np.array([0, 5]) * 10**9
        np.savez(path, rgb=rgb[first:], depth=depth[first:], stamps_ns=stamps_ns[first:])
        source = replace(PINHOLE, max_gap_s=max_gap_s)
        *_, estimate = dkt_ros.process(path, source=source, predictor="fixtures.told_network:load")
        return float(estimate.disparity[0, 0])

    alone = last(1, 3.0)
    assert last(0, 3.0) == alone
    assert last(0, 10.0) > alone + 5e-4


def true_depth(pictures: Path) -> None:
    """Beside the raw depth, and not the same."""
    (pictures / "true").mkdir()
    for file in (pictures / "depth").iterdir():
        depth = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        assert cv2.imwrite(str(pictures / "true" / file.name), depth + 20)


def test_missing_depth_costs_its_frame_and_missing_truth_nothing(
    pictures: Path, told: ProcessOptions, tmp_path: Path
) -> None:
    true_depth(pictures)
    (pictures / "true" / "2.png").unlink()
    (pictures / "depth" / "1.png").rename(pictures / "depth" / "one.png")
    options = replace(told, bag=False, source=replace(NONE, truth="true/*"))
    summary = processed(pictures, options, tmp_path / "out")
    assert (summary["frames"], summary["answered"], summary["refused"]) == (3, 2, 1)
    assert summary["outcome"] == Outcome.INCOMPLETE.value
    assert summary["lost"] == [
        f"1 x no raw depth: {pictures}/color/1.png: no depth by the pattern 'depth/*'"
    ]
    assert summary["notes"] == [
        "1 of 3 pictures by 'depth/*' are of no colour picture, the first is one.png",
        "1 of 3 colour pictures have no truth by the pattern 'true/*', the first is 2.png",
    ]
    lines = (tmp_path / "out" / "pictures" / "frames.jsonl").read_text().splitlines()
    figures = [json.loads(line) for line in lines]
    assert figures[1]["stamp_ns"] - figures[0]["stamp_ns"] == 200_000_000
    assert [bool(one["errors"]) for one in figures] == [True, False]


def test_truth_and_masks_that_cannot_be_used_cost_no_depth(
    pictures: Path, told: ProcessOptions, tmp_path: Path
) -> None:
    true_depth(pictures)
    (pictures / "true" / "1.png").write_bytes(b"no picture")
    (pictures / "mask").mkdir()
    for index in range(3):
        cv2.imwrite(str(pictures / "mask" / f"{index}.png"), np.ones((16, 24), np.uint8))
    options = replace(told, bag=False, source=replace(NONE, truth="true/*", mask="mask/*"))
    summary = processed(pictures, options, tmp_path / "out")
    assert (summary["answered"], summary["outcome"]) == (3, Outcome.DONE.value)
    mask, truth = summary["notes"]
    assert mask.startswith("3 frames without mask, which cannot be used: ")
    assert "color/0.png: mask is 24x16, colour is 48x32" in mask
    assert truth.startswith("1 frame without true depth, which cannot be used: ")
    assert truth.count("1.png: ") == truth.count("true/1.png: ") == 1
    lines = (tmp_path / "out" / pictures.name / "frames.jsonl").read_text().splitlines()
    assert [bool(json.loads(line)["errors"]) for line in lines] == [True, False, True]


def test_which_picture_a_frame_is_is_told_where_some_are_missing(
    pictures: Path, told: ProcessOptions, tmp_path: Path
) -> None:
    (pictures / "depth" / "1.png").unlink()
    processed(pictures, replace(told, bag=False), tmp_path / "out")
    lines = (tmp_path / "out" / pictures.name / "frames.jsonl").read_text().splitlines()
    told_of = [(json.loads(line)["index"], json.loads(line)["picture"]) for line in lines]
    assert told_of == [(0, "color/0.png"), (1, "color/2.png")]


def test_clips_of_which_frames_have_no_raw_depth(told: ProcessOptions, tmp_path: Path) -> None:
    def processed(name: str, with_depth: tuple[int, ...]) -> dict[str, Any]:
        frames = [sequence_frame(index) for index in range(3)]
        for index in set(range(3)) - set(with_depth):
            frames[index] = replace(frames[index], raw_depth=None)
        path = tmp_path / name / "train" / "000000_materials.000000.tar"
        write_sequence(path, "000000", frames)
        (recording,) = find_recordings([tmp_path / name], NONE)
        options = replace(told, bag=False)
        load = lambda: load_estimator(options.predictor)  # noqa: E731
        return process_one(recording, options, tmp_path / f"{name}-out", load)

    summary = processed("one", (0, 2))
    assert (summary["answered"], summary["refused"]) == (2, 1)
    assert "1 x no raw depth: " in summary["lost"][0]
    with pytest.raises(ProcessingError, match="the data set holds no raw depth of it") as caught:
        processed("none", ())
    assert caught.value.outcome is Outcome.NO_DEPTH


def test_scenes_of_one_picture_each(tmp_path: Path) -> None:
    for scene in ("1", "2", "10"):
        folder = tmp_path / "scenes" / scene
        folder.mkdir(parents=True)
        frame = labelled_frames(1)[0].frame
        cv2.imwrite(str(folder / "rgb.png"), frame.rgb[..., ::-1])
        cv2.imwrite(str(folder / "raw_depth.png"), to_millimetres(known(frame.raw_depth)))
        (folder / "intrinsics.txt").write_text("48 0 24 0 49 16 0 0 1")
    found = find_recordings([tmp_path / "scenes"], NONE)
    assert [recording.name for recording in found] == ["1", "2", "10"]
    assert [len(shots(recording.open(NONE))) for recording in found] == [1, 1, 1]


def test_pictures_of_a_data_set_that_are_no_video_are_streams_of_their_own(tmp_path: Path) -> None:
    dreds_scene(tmp_path / "DREDS-CatNovel/00029", truth="depth_120")
    items = pending(opened(tmp_path))
    assert [item.epoch for item in items] == [0, 1]
    first, second = (item.decode().frame.stamp_ns for item in items)
    assert second - first > 4_000_000_000  # no video for who reads stamps alone
    transphy3d_tree(tmp_path / "video", splits=["test"])
    items = pending(opened(tmp_path / "video"))
    assert [item.epoch for item in items] == [0, 0, 0]
    assert np.diff([item.decode().frame.stamp_ns for item in items]).tolist() == [100_000_000] * 2


def test_arrays(tmp_path: Path) -> None:
    frames = labelled_frames(4)
    path = tmp_path / "clip.npz"
    rgb = np.stack([one.frame.rgb for one in frames])
    depth = np.stack([to_millimetres(known(one.frame.raw_depth)) for one in frames])
    np.savez(path, rgb=rgb, depth=depth)
    assert refused(path).outcome is Outcome.NO_CAMERA_INFO
    found = shots(opened(path, PINHOLE))
    assert np.allclose(
        known(found[3].frame.raw_depth), known(frames[3].frame.raw_depth), atol=6e-4, equal_nan=True
    )
    far = np.full(depth.shape, 70_000, np.int32)
    far[:, 0] = -1
    np.savez(path, rgb=rgb, depth=far)
    metres = known(shots(opened(path, PINHOLE))[0].frame.raw_depth)
    assert np.all(metres[1:] == 70.0)
    assert np.isnan(metres[0]).all()
    for kind in (np.uint16, np.int16):
        full = np.full(depth.shape, np.iinfo(kind).max, kind)
        full[0, 0] = 500
        np.savez(path, rgb=rgb, depth=full, K=np.diag([70.0, 71.0, 1.0]))
        (first, *_) = shots(opened(path))
        assert (first.frame.intrinsics.fy, known(first.frame.raw_depth)[0, 0]) == (71.0, 0.5)
        assert np.isnan(known(first.frame.raw_depth)[1:]).all()
        assert shots(opened(path, PINHOLE))[0].frame.intrinsics.fy == 49.0
    for k, said in (
        (np.array([48.0, 49.0, 24.0, 16.0]), "camera matrix of shape (4,): expected (3, 3)"),
        (np.array([[480, 0, 320], [0, 490, 240], [0, 0, 1]]), "K: the principal point (320, 240)"),
    ):
        np.savez(path, rgb=rgb, depth=depth, K=k)
        error = refused(path)
        assert error.outcome is Outcome.NO_CAMERA_INFO
        assert said in str(error)
        assert len(shots(opened(path, PINHOLE))) == 4
    np.savez(path, rgb=rgb, depth=depth, stamps_ns=np.arange(3))
    assert "stamps_ns of shape" in str(refused(path, PINHOLE))
    np.savez(path, rgb=rgb)
    assert refused(path, PINHOLE).outcome is Outcome.NO_DEPTH
    np.savez(path, rgb=rgb, depth=np.full(depth.shape, "far"))
    assert "<U3, expected an array depth" in str(refused(path, PINHOLE))
    np.savez(path, rgb=rgb, depth=depth, notes=np.array([{}], object))
    assert len(shots(opened(path, PINHOLE))) == 4
    for stamps in (
        *(["a"] * 4, [-1, 0, 1, 2], [0.0, 1.0, np.nan, 2.0], [0, 1, 2, 2**62]),
        [7.0, 7.1, 7.2, 7.3],  # seconds
    ):
        np.savez(path, rgb=rgb, depth=depth, stamps_ns=np.array(stamps))
        assert "whole nanoseconds, 0 or more" in str(refused(path, PINHOLE))
    np.savez(path, rgb=rgb, depth=depth, stamps_ns=1_700_000_000_000 + 33 * np.arange(4))
    assert opened(path, PINHOLE).notes == [
        "stamps_ns say that 4 frames take 9.9e-08 s: are they nanoseconds?"
    ]


def test_depth_of_eight_bits_is_a_picture_of_it(tmp_path: Path) -> None:
    path = tmp_path / "clip.npz"
    np.savez(path, rgb=np.zeros((4, 6, 8, 3), np.uint8), depth=np.full((4, 6, 8), 128, np.uint8))
    assert "found (4, 6, 8) uint8, expected an array depth of floats" in str(refused(path, PINHOLE))
    np.savez(path, rgb=np.zeros((4, 3, 6, 8), np.uint8), depth=np.ones((4, 6, 8)))
    assert "found (4, 3, 6, 8) uint8, expected an array rgb" in str(refused(path, PINHOLE))
    write_video(tmp_path / "film.avi", np.empty((0, 0, 0, 3)), "MJPG")
    np.save(tmp_path / "film.npy", np.full((4, 6, 8), 128, np.uint8))
    assert "uint8 of shape (4, 6, 8)" in str(refused(tmp_path / "film.avi", PINHOLE))


def test_arrays_that_a_gap_parts(tmp_path: Path) -> None:
    path = tmp_path / "clip.npz"
    rgb, depth = np.zeros((4, 6, 8, 3), np.uint8), np.ones((4, 6, 8), np.float32)
    np.savez(path, rgb=rgb, depth=depth, stamps_ns=np.array([0, 1, 8, 9]) * 10**9)

    def epochs(options: SourceOptions) -> list[int]:
        return [item.epoch for item in pending(opened(path, options))]

    assert epochs(PINHOLE) == [0, 0, 1, 1]
    assert epochs(replace(PINHOLE, max_gap_s=10.0)) == [0, 0, 0, 0]
    assert not opened(path, PINHOLE).notes
    np.savez(path, rgb=rgb, depth=depth, stamps_ns=np.array([5, 6, 2, 3], np.uint64) * 10**9)
    assert opened(path, PINHOLE).notes == [
        "stamps_ns run backwards 1 time, first at frame 2; the stream begins anew there"
    ]


def test_a_video_with_depth(tmp_path: Path) -> None:
    frames = labelled_frames(5)
    path = write_video(tmp_path / "clip.avi", np.stack([f.frame.rgb for f in frames]), "MJPG")
    assert refused(path, PINHOLE).outcome is Outcome.NO_DEPTH
    depth = np.stack([known(one.frame.raw_depth) for one in frames])
    (tmp_path / "clip_depth.npy").write_text("no array")
    assert refused(path, PINHOLE).outcome is Outcome.NO_DEPTH
    np.savez(tmp_path / "other.npz", something=depth)
    other = replace(PINHOLE, depth=str(tmp_path / "other.npz"))
    assert refused(path, other).outcome is Outcome.NO_DEPTH
    np.save(tmp_path / "clip_depth.npy", depth)
    assert refused(path).outcome is Outcome.NO_CAMERA_INFO
    source = opened(path, PINHOLE)
    found = shots(source)
    assert source.lost == []
    assert len(found) == 5
    assert np.diff([shot.frame.stamp_ns for shot in found]).tolist() == pytest.approx(
        [1e9 / 15] * 4
    )
    assert np.array_equal(known(found[2].frame.raw_depth), depth[2], equal_nan=True)
    np.save(tmp_path / "clip_depth.npy", depth[:3])
    source = opened(path, PINHOLE)
    assert len(shots(source)) == 3
    assert source.lost == ["the video ends with 2 frames without depth"]


@pytest.mark.parametrize("given", [None, "clip_depth", "clip_depth/*", "clip_depth/*.npy"])
def test_a_video_with_an_array_for_each_frame(tmp_path: Path, given: str | None) -> None:
    frames = labelled_frames(3)
    path = write_video(tmp_path / "clip.avi", np.stack([f.frame.rgb for f in frames]), "MJPG")
    for folder in ("clip_depth", "masks"):
        (tmp_path / folder).mkdir()
    for number, labelled in zip((9, 10, 11), frames, strict=True):
        np.save(tmp_path / f"clip_depth/{number}.npy", (1 + number) * known(labelled.truth))
        np.save(tmp_path / f"masks/{number}.npy", known(labelled.mask) > 0)
    found = shots(opened(path, replace(PINHOLE, depth=given, mask="masks")))
    expected = [n * known(one.truth) for n, one in zip((10, 11, 12), frames, strict=True)]
    np.testing.assert_array_equal([known(shot.frame.raw_depth) for shot in found], expected)
    np.testing.assert_array_equal([known(s.mask) for s in found], [known(f.mask) for f in frames])


def test_a_video_with_masks(tmp_path: Path) -> None:
    """Of pictures, as labelling tools write them, or of an array; the last frame has none."""
    frames = labelled_frames(3)
    path = write_video(tmp_path / "clip.avi", np.stack([f.frame.rgb for f in frames]), "MJPG")
    np.save(tmp_path / "clip_depth.npy", np.ones((3, HEIGHT, WIDTH), np.float32))
    mask = np.zeros((2, HEIGHT, WIDTH), np.uint8)
    mask[0, 3:9], mask[1, 5:7], mask[1, 20:22] = 255, 2, 1
    expected = np.where(mask == 255, 1, mask)
    np.savez(tmp_path / "labels.npz", mask=mask)
    (tmp_path / "masks").mkdir()
    for number, picture in zip((9, 10), mask, strict=True):
        cv2.imwrite(str(tmp_path / f"masks/{number}.png"), picture)
    for given in ("labels.npz", "masks", "masks/*.png"):
        source = opened(path, replace(PINHOLE, mask=given))
        found = [shot.mask for shot in shots(source)]
        np.testing.assert_array_equal(np.stack([known(one) for one in found[:2]]), expected)
        assert found[2] is None
        assert source.notes == ["the video gives 3 frames for 2 of masks: is it that video's?"]
    np.save(tmp_path / "clip_mask.npy", mask.astype(np.float32))
    for given, said in (
        ("clip_mask.npy", "has float32"),
        ("nothing/*", "holds no masks"),
        ("clip.avi", "holds no masks: expected a folder or pattern of .png"),
    ):
        error = refused(path, replace(PINHOLE, mask=given))
        assert error.outcome is Outcome.NOT_A_RECORDING
        assert said in str(error)
    (one,) = find_recordings([path], PINHOLE)
    masked = replace(PINHOLE, mask="masks")
    before = one.state(tmp_path / "out", masked)
    (tmp_path / "masks/11.png").write_bytes(b"")
    assert one.state(tmp_path / "out", masked) != before


@pytest.mark.parametrize("role", ["depth", "truth", "mask"])
def test_pictures_beside_a_video_of_which_some_are_missing_are_refused(
    tmp_path: Path, role: str
) -> None:
    """Taken one by one those behind the gap would belong to other frames."""
    frames = labelled_frames(6)
    path = write_video(tmp_path / "clip.avi", np.stack([f.frame.rgb for f in frames]), "MJPG")
    np.save(tmp_path / "clip_depth.npy", np.ones((6, HEIGHT, WIDTH), np.float32))
    (tmp_path / "beside").mkdir()
    picture = np.ones((HEIGHT, WIDTH), np.uint16)
    options = SourceOptions(pinhole=PINHOLE.pinhole, **{role: "beside"})  # type: ignore[arg-type]
    for number in range(6):
        cv2.imwrite(str(tmp_path / f"beside/frame_{5 * number:04d}.png"), picture)
    assert opened(path, options).total == 6  # counted by five, and one for each frame
    (tmp_path / "beside/frame_0015.png").unlink()
    error = refused(path, options)
    assert error.outcome is Outcome.NOT_A_RECORDING
    assert "frame_0010.png and frame_0020.png, and there are 5 for 6 frames" in str(error)
    cv2.imwrite(str(tmp_path / "beside/frame_0015.png"), picture)
    (tmp_path / "beside/frame_0000.png").unlink()
    error = refused(path, options)
    assert error.outcome is Outcome.NOT_A_RECORDING
    assert "counted from frame_0005.png on, and there are 5 for 6 frames" in str(error)


def test_what_lies_beside_a_video_or_a_folder_is_part_of_it(pictures: Path, tmp_path: Path) -> None:
    rgb = np.stack([labelled.frame.rgb for labelled in labelled_frames(2)])
    path = write_video(tmp_path / "clip.avi", rgb, "MJPG")
    np.save(tmp_path / "clip_depth.npy", np.ones((2, HEIGHT, WIDTH), np.float32))
    (pictures / "depth").rename(tmp_path / "elsewhere")
    named = replace(NONE, depth="../elsewhere/*")
    for place, options, file in (
        (path, PINHOLE, tmp_path / "clip_depth.npy"),
        (pictures, named, tmp_path / "elsewhere" / "1.png"),
    ):
        (recording,) = find_recordings([place], options)
        before = recording.state(tmp_path / "out", options)
        assert before is not None
        file.write_bytes(file.read_bytes() + b"more")
        after = recording.state(tmp_path / "out", options)
        os.utime(file, (1, 1))  # as much of something else
        assert len({None, before, after, recording.state(tmp_path / "out", options)}) == 4


def test_a_video_that_was_written_while_it_came(tmp_path: Path) -> None:
    """No length in its head, and a pause of five seconds."""
    rgb = np.stack([labelled.frame.rgb for labelled in labelled_frames(4)])
    path = write_video(tmp_path / "clip.mkv", rgb, "FFV1")
    content = path.read_bytes().replace(b"\x44\x89\x88", b"\xec\x89\x88")
    path.write_bytes(content.replace(b"\x81\x00\xc8", b"\x81\x13\x88"))
    np.save(tmp_path / "clip.npy", np.ones((4, HEIGHT, WIDTH), np.float32))
    source = opened(path, PINHOLE)
    assert source.total == 4
    assert source.duration_s == pytest.approx(4 / 15)
    items = pending(source)
    assert [item.epoch for item in items] == [0, 0, 0, 1]
    stamps_ns = [item.decode().frame.stamp_ns for item in items]
    assert np.subtract(stamps_ns, stamps_ns[0]).tolist() == pytest.approx(
        [0, 67e6, 133e6, 5e9], abs=1e3
    )


def test_a_turned_video_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "phone.mp4", np.empty((0, 0, 0, 3)), "mp4v")
    np.save(tmp_path / "phone.npy", np.ones((4, HEIGHT, WIDTH), np.float32))
    monkeypatch.setattr(videos, "facts", lambda path: videos.Facts(15.0, 4, 270))
    (note,) = opened(path, PINHOLE).notes
    assert note.startswith("players turn the video by 270 degrees; ")
