"""A whole data set: every kind is measured, and what it lacks is said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixtures import dataset_trees as trees
from fixtures.evaluated_scenes import Told, exact

from dkt_ros.datasets.registry import open_dataset
from dkt_ros.errors import DktError
from dkt_ros.evaluation.evaluate import Methods
from dkt_ros.evaluation.models import FROM_FILES, DepthModel, Depths, PredictorModel
from dkt_ros.evaluation.sets import SetReport, evaluate_set
from dkt_ros.evaluation.videos import Video, VideoReader, depth_range_of
from dkt_ros.formats.transphy3d import SequenceFrame, write_sequence
from dkt_ros.frames import Frame
from dkt_ros.predict.predictor import Prediction


def plane(rgb: np.ndarray, /) -> np.ndarray:
    """The trees' scene is 1/z = 2 - u / 320: right up to scale and shift."""
    row = np.linspace(1.0, 0.5, rgb.shape[2], dtype=np.float32)
    return np.broadcast_to(row, rgb.shape[:3]).copy()


def measured(folder: Path, **options: bool) -> SetReport:
    dataset = open_dataset(folder)
    reader = VideoReader(dataset, **options)  # type: ignore[arg-type]
    return evaluate_set(reader, Methods([exact(plane)]), depth_range_of(dataset.kind))


OBJECTS = {"all", "transparent/reflective", "rest"}
PICTURES = "pictures, no videos: aligned one by one, no TAE"
UNTOLD = "masks do not tell transparent from reflective"


@pytest.mark.parametrize(
    ("make", "regions", "notes"),
    [
        (trees.transphy3d_tree, OBJECTS | {"transparent", "reflective"}, []),
        (lambda p: trees.clearpose_scene(p / "set2/scene1"), OBJECTS, [UNTOLD]),
        (
            lambda p: trees.std_sequence(p / "0"),
            OBJECTS | {"transparent", "reflective"},
            ["no camera poses: no TAE", "no true normals"],
        ),
        (lambda p: trees.dreds_scene(p / "1"), OBJECTS | {"transparent", "reflective"}, [PICTURES]),
        (
            lambda p: trees.hiss_folder(p / "a"),
            {"all"},
            ["no masks: all pixels only", PICTURES, "no true normals"],
        ),
        (
            lambda p: trees.cleargrasp_rendered(p / "cup"),
            OBJECTS,
            ["no raw depth: no baselines, no online alignment", PICTURES, UNTOLD],
        ),
        (
            lambda p: trees.cleargrasp_real(p / "d435"),
            OBJECTS,
            [PICTURES, "no true normals", UNTOLD],
        ),
        (trees.transcg_tree, OBJECTS, [PICTURES, "no true normals", UNTOLD]),
    ],
)
def test_every_kind_of_data_set(
    tmp_path: Path, make: Callable[[Path], None], regions: set[str], notes: list[str]
) -> None:
    make(tmp_path)
    report = measured(tmp_path)
    assert not report.skipped.count
    assert report.notes == notes
    has_raw = "no raw depth: no baselines, no online alignment" not in notes
    assert ("raw" in report.summary) == has_raw
    assert ("dkt exact, online" in report.summary) == has_raw
    ours = report.summary["dkt exact, video"]
    assert set(ours) == regions
    assert ours["all"].rel < 2e-3  # JPEG, half floats and millimetres
    assert ours["all"].coverage == 1.0
    assert np.isfinite(ours["all"].tae) == (
        PICTURES not in notes and not any("pose" in n for n in notes)
    )
    assert np.isfinite(ours["all"].mean_deg) == ("no true normals" not in notes)
    if np.isfinite(ours["all"].tae):
        assert ours["all"].tae < 0.01
    if np.isfinite(ours["all"].mean_deg):
        assert ours["all"].median_deg < 1.0
    assert sum(report.frames.values()) == len(report.frames) * next(iter(report.frames.values()))


def test_no_normals_are_read_where_none_are_wanted(tmp_path: Path) -> None:
    trees.hiss_folder(tmp_path / "a")
    dataset = open_dataset(tmp_path)
    methods = Methods([exact(plane)], with_normals=False)
    report = evaluate_set(VideoReader(dataset, with_normals=False), methods, (0.1, 10.0))
    assert "no true normals" not in report.notes


def test_a_long_run_that_fails_does_not_end_the_others(tmp_path: Path) -> None:
    trees.hiss_folder(tmp_path / "a")

    class Failing(Told):
        def push(self, frame: Frame) -> Prediction | None:
            if self._count == 2:
                raise DktError("no answer to the third frame")
            return super().push(frame)

    class FromFiles:
        """A row that has no network to run."""

        name, answers_every = "files", 1

        def depths(self, video: Video, *_: object) -> dict[str, Depths]:
            return {FROM_FILES: Depths(video.truth)}

    failing = PredictorModel("failing", Failing(plane))
    models: list[DepthModel] = [failing, FromFiles(), exact(plane)]
    reader = VideoReader(open_dataset(tmp_path))
    report = evaluate_set(reader, Methods(models, long_run=4), (0.1, 10.0))
    assert set(report.long_runs) == {"dkt exact"}
    assert list(report.skipped.reasons.values()) == ["no answer to the third frame"] * 2


def test_a_set_without_anything_to_measure_says_so(tmp_path: Path) -> None:
    trees.hiss_folder(tmp_path / "a")
    reader = VideoReader(open_dataset(tmp_path))
    report = evaluate_set(reader, Methods([exact(plane)]), (5.0, 9.0))
    assert report.results == []
    assert report.notes == ["nothing could be measured"]
    assert report.skipped.count == 2


def test_progress_counts_clips_and_frames(tmp_path: Path) -> None:
    trees.transphy3d_tree(tmp_path)
    seen: list[tuple[int, str, int]] = []
    reader = VideoReader(open_dataset(tmp_path))
    evaluate_set(reader, Methods(), (0.1, 10.0), lambda *progress: seen.append(progress))
    assert [(clips, frames) for clips, _, frames in seen] == [(1, 3), (2, 6)]


def test_what_some_videos_lack_is_counted(tmp_path: Path) -> None:
    trees.transphy3d_tree(tmp_path)
    frame = trees.sequence_frame(0)
    bare = SequenceFrame(frame.rgb, frame.depth, frame.camera_matrix, frame.world_to_camera)
    write_sequence(tmp_path / "bare.tar", "bare", [bare])
    report = measured(tmp_path)
    assert report.notes == [
        "1 of 3 videos: no raw depth: no baselines, no online alignment",
        "1 of 3 videos: no masks: all pixels only",
        "1 of 3 videos: no true normals",
    ]
    # The mean is over the videos that have the region.
    assert report.summary["raw"]["rest"].coverage > 0.9


def test_rows_that_failed_on_some_videos_are_told_to_be_means_of_the_others(tmp_path: Path) -> None:
    trees.transphy3d_tree(tmp_path, splits=("train", "test", "val"))
    reader = VideoReader(open_dataset(tmp_path), with_normals=False)
    asked = list[int]()

    def failing(rgb: np.ndarray, /) -> np.ndarray:
        asked.append(0)
        if len(asked) == 1:
            raise DktError("no")
        return plane(rgb)

    models = [exact(plane), exact(failing, "other")]
    methods = Methods(models, ("video",), with_normals=False)
    report = evaluate_set(reader, methods, (0.1, 10.0))
    assert report.notes == ["means over 2 of 3 videos alone: other, video"]
    assert report.skipped.count == 1


def test_rows_that_failed_where_there_is_no_raw_depth_are_told_too(tmp_path: Path) -> None:
    """Those of raw depth, which the last video has none of, are not."""
    for name in "abc":
        frames = [trees.sequence_frame(index) for index in range(2)]
        raw = [frame.depth if name != "c" else None for frame in frames]
        write_sequence(
            tmp_path / f"{name}.tar",
            name,
            [replace(f, raw_depth=one) for f, one in zip(frames, raw, strict=True)],
        )

    class Files:
        name, answers_every = "theirs", 1

        def depths(self, video: Video, truth: np.ndarray, *_: object) -> dict[str, Depths]:
            if video.raw is None:
                raise DktError("no")
            return {FROM_FILES: Depths(truth)}

    reader = VideoReader(open_dataset(tmp_path), max_frames=1, with_normals=False)
    methods = Methods([exact(plane), Files()], ("video", "online"), with_normals=False)
    report = evaluate_set(reader, methods, (0.1, 10.0))
    assert [note for note in report.notes if "alone" in note] == [
        "means over 2 of 3 videos alone: theirs"
    ]
    assert list(dict.fromkeys(result.video for result in report.results)) == ["a", "b", "c"]
    assert (report.frames, report.left_out) == ({"a": 1, "b": 1, "c": 1}, 3)


def test_videos_of_one_frame_and_normals_of_nothing_are_as_good_as_none(tmp_path: Path) -> None:
    frame = trees.sequence_frame(0)
    assert frame.normal is not None
    blank = replace(frame, normal=np.zeros_like(frame.normal))
    write_sequence(tmp_path / "one.tar", "one", [blank])
    assert measured(tmp_path).notes == [PICTURES, "no true normals"]
