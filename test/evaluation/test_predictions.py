"""Depth of other systems from files: names, formats, and what does not fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures import dataset_trees as trees

from dkt_ros.datasets.iterate import Skipped
from dkt_ros.datasets.registry import open_dataset
from dkt_ros.errors import DktError
from dkt_ros.evaluation.evaluate import Methods, evaluate_video
from dkt_ros.evaluation.judge import Figures
from dkt_ros.evaluation.predictions import PredictedDepth, parse_predictions
from dkt_ros.evaluation.videos import Video, VideoReader
from dkt_ros.formats.transphy3d import write_sequence

RANGE = (0.1, 10.0)


def write_png(path: Path, depth: np.ndarray, unit_m: float = 0.001) -> None:
    assert cv2.imwrite(str(path.with_suffix(".png")), np.rint(depth / unit_m).astype(np.uint16))


def write_exr(path: Path, depth: np.ndarray) -> None:
    trees.write_exr(path.with_suffix(".exr"), {"Z": depth.astype(np.float32)})


def write_npz(path: Path, depth: np.ndarray) -> None:
    np.savez(path.with_suffix(".npz"), depth=depth[None], other=np.zeros(3))


def write_npy(path: Path, depth: np.ndarray) -> None:
    np.save(path.with_suffix(".npy"), depth)


@pytest.fixture
def reader(tmp_path: Path) -> VideoReader:
    trees.transphy3d_tree(tmp_path / "data", splits=("test",))
    return VideoReader(open_dataset(tmp_path / "data"), with_normals=False)


def only(reader: VideoReader) -> Video:
    (video,) = reader
    return video


def folder_of(tmp_path: Path, video: Video) -> Path:
    assert video.clip is not None
    folder = tmp_path / "theirs" / video.clip.name
    folder.mkdir(parents=True)
    return folder


def measured(
    video: Video, folder: Path, skipped: Skipped | None = None, unit_m: float = 0.001
) -> Figures:
    methods = Methods([PredictedDepth("theirs", folder, unit_m)], with_normals=False)
    rows = {r.method: r.regions for r in evaluate_video(video, methods, RANGE, skipped)}
    return rows["theirs"]["all"]


@pytest.mark.parametrize("write", [write_png, write_exr, write_npz, write_npy])
def test_every_format_is_metres(
    write: Callable[[Path, np.ndarray], None], tmp_path: Path, reader: VideoReader
) -> None:
    video = only(reader)
    folder = folder_of(tmp_path, video)
    assert video.clip is not None
    for key, truth in zip(video.clip.keys, video.truth, strict=True):
        write(folder / key, np.nan_to_num(1.1 * truth))
    figures = measured(video, tmp_path / "theirs")
    assert figures.rel == pytest.approx(0.1, abs=2e-3)
    assert figures.coverage == 1.0


def test_the_unit_of_pictures_is_an_option(tmp_path: Path, reader: VideoReader) -> None:
    video = only(reader)
    folder = folder_of(tmp_path, video)
    for index, truth in enumerate(video.truth):
        write_png(folder / str(index), np.nan_to_num(truth), unit_m=0.00025)
    assert measured(video, tmp_path / "theirs", unit_m=0.00025).rel < 1e-3


def test_integers_of_numpy_are_steps_as_those_of_pictures_are(
    tmp_path: Path, reader: VideoReader
) -> None:
    video = only(reader)
    folder = folder_of(tmp_path, video)
    for index, truth in enumerate(video.truth):
        steps = np.rint(1000 * np.nan_to_num(truth)).astype(np.uint16)
        steps[0], steps[1] = 0, 65535  # no depth
        write_npy(folder / str(index), steps)
    assert measured(video, tmp_path / "theirs").rel < 1e-3


def test_names_are_the_frames_or_else_their_places(tmp_path: Path) -> None:
    """Frames 000001 and on: files from 000000 are places, although most are frames' names too."""
    scene = tmp_path / "data" / "set2" / "scene1"
    trees.clearpose_scene(scene)
    dataset = open_dataset(tmp_path / "data")
    clip = dataset.clips[0]
    places = range(len(clip))
    truth = [clip.read(index).depth for index in places]
    for start, stems in (("keys", clip.keys), ("places", [f"{i:06d}" for i in places])):
        folder = tmp_path / start / clip.name
        folder.mkdir(parents=True)
        for index, stem in enumerate(stems):
            write_npy(folder / stem, np.nan_to_num((1 + 0.01 * index) * truth[index]))
        # Every second frame alone: a place is one among all.
        (video,) = VideoReader(dataset, stride=2, with_normals=False)
        assert list(video.indices) == list(places)[::2]
        expected = np.mean([0.01 * index for index in video.indices])
        assert measured(video, tmp_path / start).rel == pytest.approx(expected, abs=1e-4)


def test_numbers_that_may_be_names_or_places_are_refused(tmp_path: Path) -> None:
    """Of frames 2 to 7, as a packed recording's later clip has; frame 2 is not what 2 counts to."""
    frames = [trees.sequence_frame(index) for index in range(2, 8)]
    write_sequence(tmp_path / "data" / "run-0001.tar", "run-0001", frames)
    (video,) = VideoReader(open_dataset(tmp_path / "data"), with_normals=False)
    folder = folder_of(tmp_path, video)
    truth = np.nan_to_num(video.truth)
    for number in (2, 3):
        write_npy(folder / str(number), truth[number])
    skipped = Skipped()
    evaluate_video(video, Methods([PredictedDepth("a", tmp_path / "theirs")]), RANGE, skipped)
    (why,) = skipped.reasons.values()
    assert why.endswith(
        "2 may be the frame run-0001_00000002 or, as its place from 0, run-0001_00000004; name "
        "files as the frames are"
    )
    write_npy(folder / "0", truth[0])  # no frame's number: all are places
    skipped = Skipped()
    assert measured(video, tmp_path / "theirs", skipped).rel == pytest.approx(0, abs=1e-6)
    assert skipped.count == 3


def test_what_a_mac_leaves_beside_files_is_no_prediction(
    tmp_path: Path, reader: VideoReader
) -> None:
    video = only(reader)
    folder = folder_of(tmp_path, video)
    for index, depth in enumerate(video.truth):
        write_npy(folder / str(index), depth)
    trees.copy_from_a_mac(folder)
    skipped = Skipped()
    assert measured(video, tmp_path / "theirs", skipped).rel == 0.0
    assert skipped.count == 0


def test_pictures_are_found_as_frames_of_their_folder(tmp_path: Path) -> None:
    trees.cleargrasp_real(tmp_path / "data/real-test/d435")
    dataset = open_dataset(tmp_path / "data")
    for clip in dataset.clips:
        (tmp_path / "theirs" / clip.name).mkdir(parents=True)
        for index, key in enumerate(clip.keys):
            depth = clip.read(index).depth
            write_npy(tmp_path / "theirs" / clip.name / key, 1.2 * np.nan_to_num(depth))
    videos = list(VideoReader(dataset, with_normals=False))
    assert videos
    for video in videos:
        assert measured(video, tmp_path / "theirs").rel == pytest.approx(0.2, abs=1e-3)


def test_what_does_not_fit_is_named_and_the_other_frames_count(
    tmp_path: Path, reader: VideoReader
) -> None:
    video = only(reader)
    folder = folder_of(tmp_path, video)
    assert video.clip is not None
    first, second, _ = video.clip.keys
    write_npy(folder / first, 1.1 * np.nan_to_num(video.truth[0]))
    write_npy(folder / second, video.truth[1][:, 1:])
    skipped = Skipped()
    figures = measured(video, tmp_path / "theirs", skipped)
    assert figures.rel == pytest.approx(0.1, abs=1e-3)
    assert figures.coverage == pytest.approx(1 / 3)
    said = list(skipped.reasons.items())
    assert [name for name, _ in said] == [f"{video.name} frame {i}, theirs" for i in (1, 2)]
    height, width = video.size
    assert f"{second}.npy: is {width - 1}x{height}, expected {width}x{height}" in said[0][1]
    assert said[1][1].startswith(f"no file {folder}")
    write_npy(folder / "frame_7", video.truth[2])
    measured(video, tmp_path / "theirs", skipped := Skipped())
    assert list(skipped.reasons.values())[1].endswith("; 1 other of no frame, such as frame_7.npy")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("png", b"no picture", "damaged, or no picture"),
        ("npz", b"PK\x03\x04", "cannot be read as numpy's"),
        ("npy", b"", "cannot be read as numpy's"),
        ("exr", b"", "is empty"),
        ("npy", np.zeros((4, 4)), "expected"),
        ("npy", np.array(["a", "b"]), "expected depth"),
        ("npy", np.full((48, 80), 99, np.uint8), "uint8 of shape (48, 80), expected depth"),
        ("npy", np.array([{}], object), "cannot be read as numpy's"),
        ("npz", {"a": np.ones(2), "b": np.ones(2)}, "expected one array, or one named depth"),
    ],
)
def test_a_damaged_file_is_named(
    name: str, content: object, said: str, tmp_path: Path, reader: VideoReader
) -> None:
    video = only(reader)
    path = folder_of(tmp_path, video) / f"0.{name}"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, dict):
        np.savez(path, **content)
    else:
        np.save(path, np.asarray(content), allow_pickle=True)
    skipped = Skipped()
    measured(video, tmp_path / "theirs", skipped)
    reason = skipped.reasons[f"{video.name} frame 0, theirs"]
    assert str(path) in reason
    assert said in reason


def test_depth_that_is_nowhere_above_zero_is_named(tmp_path: Path, reader: VideoReader) -> None:
    video = only(reader)
    write_npy(folder_of(tmp_path, video) / "0", np.zeros(video.size))
    skipped = Skipped()
    measured(video, tmp_path / "theirs", skipped)
    assert "no depth above zero" in skipped.reasons[f"{video.name} frame 0, theirs"]


def test_a_video_without_a_folder_is_named_and_a_tree_without_any_refused(
    tmp_path: Path, reader: VideoReader
) -> None:
    (tmp_path / "theirs").mkdir()
    model = PredictedDepth("theirs", tmp_path / "theirs")
    skipped = Skipped()
    rows = evaluate_video(only(reader), Methods([model]), RANGE, skipped)
    assert "theirs" not in [row.method for row in rows]
    assert "no such folder" in skipped.reasons[f"{reader.clips[0].name}, theirs"]
    with pytest.raises(DktError, match="no folder is named as a video of the data; expected files"):
        model.check(reader.clips)


@pytest.mark.parametrize(("name", "found"), [(None, "nothing"), ("0.pfm", "0.pfm and so on")])
def test_a_folder_of_other_files_says_what_it_holds(
    tmp_path: Path, reader: VideoReader, name: str | None, found: str
) -> None:
    folder = folder_of(tmp_path, video := only(reader))
    if name is not None:
        (folder / name).touch()
    skipped = Skipped()
    evaluate_video(video, Methods([PredictedDepth("a", tmp_path / "theirs")]), RANGE, skipped)
    (reason,) = skipped.reasons.values()
    assert reason == (
        f"{folder}: holds {found}, expected a file for each frame that ends in .png, .exr, .npz, "
        ".npy"
    )


@pytest.mark.parametrize("names", [("0.png", "0.npy"), ("1.npy", "00000001.npy")])
def test_two_files_of_one_frame_are_named(
    tmp_path: Path, reader: VideoReader, names: tuple[str, str]
) -> None:
    folder = folder_of(tmp_path, video := only(reader))
    for name in names:
        (folder / name).touch()
    skipped = Skipped()
    evaluate_video(video, Methods([PredictedDepth("a", tmp_path / "theirs")]), RANGE, skipped)
    (reason,) = skipped.reasons.values()
    assert reason.endswith(f"{min(names)} and {max(names)} are of one frame; keep one")


@pytest.mark.parametrize(
    ("words", "unit", "said"),
    [
        (["theirs"], 0.001, "expected NAME=DIR"),
        (["=there"], 0.001, "expected NAME=DIR"),
        (["a="], 0.001, "expected NAME=DIR"),
        (["a=.", "a=c"], 0.001, "names another row"),
        (["raw=b"], 0.001, "names another row"),
        (["a=/nowhere"], 0.001, "a=/nowhere: no such folder"),
        (["a=b"], 0.0, "expected metres per step above 0"),
        (["a=b"], float("nan"), "expected metres per step above 0"),
    ],
)
def test_words_that_make_no_sense(words: list[str], unit: float, said: str) -> None:
    with pytest.raises(DktError, match=said):
        parse_predictions(words, unit, {"raw"})


def test_numbers_beyond_the_video_are_told(reader: VideoReader, tmp_path: Path) -> None:
    """As of a system that counts from 1: no frame gets its neighbour's depth."""
    video = only(reader)
    folder = folder_of(tmp_path, video)
    for index, depth in enumerate(video.truth, start=1):
        write_npy(folder / f"{index}", depth)
    measured(video, tmp_path / "theirs", skipped := Skipped())
    assert len(skipped.reasons) == 3
    for reason in skipped.reasons.values():
        assert reason.endswith("1.npy: numbers go to 3, the video's frames from 0 to 2")


@pytest.mark.parametrize(("times", "told"), [(1000.0, "1000"), (0.1, "0.1"), (1.5, "")])
def test_another_unit_is_told_once(
    times: float,
    told: str,
    reader: VideoReader,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    video = only(reader)
    folder = folder_of(tmp_path, video)
    for index, depth in enumerate(video.truth):
        write_npy(folder / f"{index}", depth * times)
    measured(video, tmp_path / "theirs")
    start = f"theirs: its depth is {told} times the truth in the median; is a step of 0.001 m right"
    assert [message.startswith(start) for message in caplog.messages] == [True] * bool(told)


@pytest.mark.parametrize(
    ("made_of", "told"),
    [(lambda truth: 1 / truth, True), (lambda truth: 0.3 / truth + 0.2, True), (np.sqrt, False)],
)
def test_disparity_is_told_from_depth(
    tmp_path: Path,
    reader: VideoReader,
    caplog: pytest.LogCaptureFixture,
    made_of: Callable[[np.ndarray], np.ndarray],
    told: bool,
) -> None:
    video = only(reader)
    folder = folder_of(tmp_path, video)
    for index, depth in enumerate(video.truth):
        write_npy(folder / str(index), made_of(depth))
    measured(video, tmp_path / "theirs")
    assert ("is it disparity?" in caplog.text) is told
