"""What `dkt view` finds to show: recordings, outputs of `dkt process`, bags of a robot."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fixtures.recorded_frames import known, labelled_frames

from dkt_ros.bags.recording import RecordingOptions, record
from dkt_ros.bags.topics import CameraTopics
from dkt_ros.cli import main
from dkt_ros.errors import DktError
from dkt_ros.estimator import DepthEstimator, load_estimator
from dkt_ros.messages.fields import MessageError
from dkt_ros.messages.moments import SERIES, Moment, moment_of
from dkt_ros.predict.options import PredictorOptions
from dkt_ros.processing.api import process
from dkt_ros.processing.source import SourceOptions
from dkt_ros.view import recordings
from dkt_ros.view.recordings import moments

KIND = "fixtures.told_network:load"
COUNT = 3


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    path = tmp_path / "in" / "scene"
    path.parent.mkdir()
    topics = CameraTopics(depth="/camera/depth")  # of a camera, though dkt's end alike
    record(labelled_frames(COUNT), path, RecordingOptions(topics, color="raw", depth="32FC1"))
    return path


@pytest.fixture
def output(bag: Path, tmp_path: Path) -> Callable[..., Path]:
    """Processes the bag and returns the folder of outputs."""

    def made(*flags: str) -> Path:
        folder = tmp_path / "out"
        command = ["process", str(bag), "--output", str(folder), "--predictor", KIND, *flags]
        assert main(command) == 0
        return folder

    return made


def test_a_calibration_that_is_not_filled_names_the_option() -> None:
    info = SimpleNamespace(
        k=[0.0] * 9, p=[500.0] * 12, header=SimpleNamespace(stamp=SimpleNamespace(sec=1, nanosec=0))
    )
    with pytest.raises(MessageError, match=r"If these are, add --rectified\."):
        moment_of("camera_info", info)


def told() -> DepthEstimator:
    return load_estimator(PredictorOptions(predictor=KIND))


def not_loaded() -> DepthEstimator:
    raise AssertionError("depth is there already")


def joined(found: list[Moment]) -> dict[int, dict[str, Any]]:
    """What is known of each stamp."""
    stamps: dict[int, dict[str, Any]] = {}
    for moment in found:
        facts = {name: value for name, value in vars(moment).items() if value is not None}
        if not moment.series:
            del facts["series"]
        stamps.setdefault(facts.pop("stamp_ns"), {}).update(facts)
    return stamps


ALL = {"color", "raw", "depth", "confidence", "intrinsics", "series", "state"}


def test_a_recording_is_estimated(bag: Path) -> None:
    found = list(moments(bag, SourceOptions(), told))
    expected = list(process(bag, predictor=KIND))
    assert len(found) == COUNT
    for moment, estimate in zip(found, expected, strict=True):
        assert moment.stamp_ns == estimate.frame.stamp_ns
        raw = estimate.frame.raw_depth
        assert moment.depth is not None
        assert moment.raw is not None
        assert raw is not None
        np.testing.assert_array_equal(moment.depth, estimate.depth)
        np.testing.assert_array_equal(moment.raw, raw)
        assert moment.confidence is not None
        assert estimate.confidence is not None
        np.testing.assert_array_equal(moment.confidence, estimate.confidence)
        assert moment.series["scale"] == estimate.alignment.scale
        assert moment.series["latency"] > 0
        assert moment.state == "OK"


@pytest.mark.parametrize("formats", [["bag"], ["npz"]])
def test_an_output_shows_what_was_processed(
    bag: Path, output: Callable[..., Path], formats: list[str]
) -> None:
    """Depth and figures of the output; raw depth, and what files lack, of the recording."""
    shown_in_turn = list(moments(output("--format", *formats), SourceOptions(), not_loaded))
    stamps = [moment.stamp_ns for moment in shown_in_turn]
    assert stamps == sorted(stamps)
    found = joined(shown_in_turn)
    expected = joined(list(moments(bag, SourceOptions(), told)))
    assert list(found) == list(expected)
    for stamp, shown in found.items():
        assert set(shown) == (ALL if formats == ["bag"] else ALL - {"confidence"})
        for name in ("color", "raw", "depth"):
            np.testing.assert_array_equal(shown[name], expected[stamp][name])
        assert shown["intrinsics"] == expected[stamp]["intrinsics"]
        for name in set(SERIES) - {"latency"}:
            assert shown["series"][name] == pytest.approx(expected[stamp]["series"][name])


@pytest.mark.parametrize("kind", ["bag", "npz"])
def test_an_output_that_was_cut_shows_no_more_of_its_recording(
    output: Callable[..., Path], kind: str
) -> None:
    cut = output("--format", kind, "--max-frames", str(COUNT - 1))
    found = joined(list(moments(cut / "scene", SourceOptions(), not_loaded)))
    assert len(found) == COUNT - 1
    assert all("depth" in shown and "raw" in shown for shown in found.values())


def test_a_damaged_message_is_left_out_and_the_rest_is_shown(
    output: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder, damaged = output("--format", "bag"), ["cut short"]

    def message(role: str, *words: Any) -> Moment:
        if role == "depth" and damaged:
            raise DktError(damaged.pop())
        return moment_of(role, *words)

    monkeypatch.setattr(recordings, "moment_of", message)
    first, *others = joined(list(moments(folder, SourceOptions(), not_loaded))).values()
    assert set(first) == ALL - {"depth"}
    assert [set(shown) for shown in others] == [ALL] * (COUNT - 1)
    assert "a message of /dkt/depth left out: cut short" in caplog.text


def test_an_output_whose_recording_is_gone(
    bag: Path, output: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    folder = output("--format", "bag", "png")
    shutil.rmtree(bag)
    for shown in joined(list(moments(folder / "scene", SourceOptions(), not_loaded))).values():
        assert set(shown) == ALL - {"raw"}
    assert f"{bag} is gone; its raw depth is not shown" in caplog.text
    shutil.rmtree(folder / "scene" / "bag")
    with pytest.raises(DktError, match=r"its recording .*scene is gone"):
        list(moments(folder, SourceOptions(), not_loaded))


def test_a_bag_with_the_camera_and_dkts_topics(
    output: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a robot records it; here, what --pass-through gives."""
    folder = output("--pass-through", "--color-encoding", "jpeg")
    shown_in_turn = list(moments(folder / "scene" / "bag", SourceOptions(), not_loaded))
    assert sum(moment.color is not None for moment in shown_in_turn) == COUNT
    found = joined(shown_in_turn)
    raw = [known(frame.frame.raw_depth) for frame in labelled_frames(COUNT)]
    assert [set(shown) for shown in found.values()] == [ALL] * COUNT
    for shown, expected in zip(found.values(), raw, strict=True):
        np.testing.assert_allclose(shown["raw"], expected, atol=0.6e-3)
    colors = [shown["color"].astype(int) for shown in found.values()]
    assert 0 < abs(colors[2] - labelled_frames(COUNT)[2].frame.rgb).mean() < 8, "dkt's, a JPEG"
    # A node that nobody asked for colour published none: the camera's is there.
    published = recordings._dkt_topics(folder / "scene" / "bag")
    without = {topic: role for topic, role in published.items() if role != "color"}
    asked: list[bool] = []

    def message(role: str, value: Any, rectified: bool) -> Moment:
        asked.append(rectified)
        return moment_of(role, value, False)

    monkeypatch.setattr(recordings, "_dkt_topics", lambda path: without)
    monkeypatch.setattr(recordings, "moment_of", message)
    source = SourceOptions(rectified=True)
    found = joined(list(moments(folder / "scene" / "bag", source, not_loaded)))
    assert set(asked) == {True}
    for shown, labelled in zip(found.values(), labelled_frames(COUNT), strict=True):
        np.testing.assert_array_equal(shown["color"], labelled.frame.rgb)


def test_one_is_shown_at_a_time(bag: Path, output: Callable[..., Path], tmp_path: Path) -> None:
    record(labelled_frames(1), bag.parent / "other", RecordingOptions())
    with pytest.raises(DktError, match=r"holds 2 recordings \(.*other.*scene.*view one of them"):
        moments(bag.parent, SourceOptions(), not_loaded)
    folder = output()
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["recordings"]["again"] = manifest["recordings"]["scene"]
    shutil.copytree(folder / "scene", folder / "again")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DktError, match="holds 2 outputs"):
        moments(folder, SourceOptions(), not_loaded)
    with pytest.raises(DktError, match="does not exist"):
        moments(tmp_path / "absent", SourceOptions(), not_loaded)
