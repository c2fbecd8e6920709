"""The file that `dkt view --save` writes, read back with rerun's own reader."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fixtures.recorded_frames import HEIGHT, START_NS, WIDTH, known, labelled_frames

from dkt_ros.bags.recording import RecordingOptions, record
from dkt_ros.cli import main
from dkt_ros.messages.moments import Moment
from dkt_ros.processing.api import process

rerun = pytest.importorskip("rerun", reason="needs rerun: pip install 'dkt_ros[view]'")

KIND = "fixtures.told_network:load"
TOLD = ["--predictor", KIND]
COUNT = 3


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    record(labelled_frames(COUNT), tmp_path / "scene", RecordingOptions(color="raw"))
    return tmp_path / "scene"


def rows(file: Path, entity: str, component: str) -> dict[int, Any]:
    """Stamp -> what the entity has then."""
    import rerun.dataframe

    recording = rerun.dataframe.load_recording(file)
    view = recording.view(index="stamp", contents=entity)
    table = view.select("stamp", f"{entity}:{component}").read_all()
    values = table.column(1).to_pylist()
    stamps = [stamp.value for stamp in table.column(0)]
    return {k: v[0] if len(v) == 1 else v for k, v in zip(stamps, values, strict=True) if v}


def test_every_entity_has_its_values_at_its_stamps(
    bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "shown" / "scene.rrd"
    assert main(["view", str(bag), "--save", str(file), *TOLD, "--points", "100"]) == 0
    assert capsys.readouterr().out == f"{file}: {COUNT} frames\n"
    assert [one.name for one in file.parent.iterdir()] == ["scene.rrd"]
    estimates = list(process(bag, predictor=KIND))
    stamps = [START_NS + i * 100_000_000 for i in range(COUNT)]
    pictures = {name: rows(file, f"/camera/{name}", "ImageBuffer") for name in ("raw", "depth")}
    assert all(list(found) == stamps for found in pictures.values())
    scale = rows(file, "/alignment/scale", "Scalar")
    colors = rows(file, "/camera/color", "Blob")
    confidence = rows(file, "/confidence", "ImageBuffer")
    for stamp, estimate in zip(stamps, estimates, strict=True):
        for name, metres in (("depth", estimate.depth), ("raw", estimate.frame.raw_depth)):
            shown = np.array(pictures[name][stamp], np.uint8).view("<u2").reshape(HEIGHT, WIDTH)
            assert metres is not None
            np.testing.assert_array_equal(shown == 0, np.isnan(metres))
            np.testing.assert_allclose(shown[shown > 0] * 1e-3, metres[shown > 0], atol=0.51e-3)
        values = np.array(confidence[stamp], np.uint8).view("<f2").reshape(HEIGHT, WIDTH)
        np.testing.assert_allclose(values, known(estimate.confidence), atol=1e-3)
        assert scale[stamp] == estimate.alignment.scale
        rgb = cv2.imdecode(np.array(colors[stamp], np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        assert abs(rgb.astype(int) - estimate.frame.rgb).mean() < 8
    clouds = rows(file, "/points", "Position3D")
    assert list(clouds) == stamps
    number = np.isfinite(estimates[0].depth).sum()
    assert len(clouds[stamps[0]]) == -(-number // -(-number // 100))
    first = estimates[0].depth[0, 0]
    camera = estimates[0].frame.intrinsics
    expected = [-camera.cx / camera.fx * first, -camera.cy / camera.fy * first, first]
    assert clouds[stamps[0]][0] == pytest.approx(expected)
    assert rows(file, "/camera", "Resolution") == {stamps[0]: [WIDTH, HEIGHT]}
    assert rows(file, "/alignment/state", "Text") == {stamps[0]: "OK"}


def test_no_more_frames_than_asked_for(bag: Path, tmp_path: Path) -> None:
    file = tmp_path / "scene.rrd"
    assert main(["view", str(bag), "--save", str(file), *TOLD, "--max-frames", "2"]) == 0
    assert len(rows(file, "/points", "Position3D")) == 2


def test_live_topics_are_watched_as_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    watch = pytest.importorskip("dkt_ros.ros.watch", reason="needs ROS 2")
    asked: list[tuple[Any, ...]] = []
    frames = iter([2, 0])

    def watched(show: Any, *words: Any) -> int:
        asked.append(words)
        return next(frames)

    monkeypatch.setattr(watch, "watch", watched)
    words = ["view", "--save", str(tmp_path / "live.rrd")]
    more = ["--depth-topic", "/wrist/depth", "--namespace", "left", "--duration", "3"]
    assert main([*words, *more, "--rectified"]) == 0
    assert capsys.readouterr().out.endswith("live.rrd: 2 frames\n")
    assert main(words) == 2
    assert "dkt_node: gave no depth; nothing to show" in capsys.readouterr().err
    assert asked == [("/wrist/depth", "left", 3.0, True), ("depth/image", "", None, False)]


def test_what_cannot_be_shown_is_told(
    bag: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert main(["view", str(bag), *TOLD]) == 2
    assert "--save F.rrd" in capsys.readouterr().err
    assert main(["view", str(bag), "--save", str(tmp_path / "a.rrd"), "--connect"]) == 2
    assert main(["view", str(tmp_path / "absent"), "--save", str(tmp_path / "a.rrd")]) == 2
    assert "does not exist" in capsys.readouterr().err
    refiner = ["--refiner", str(tmp_path / "nothing")]
    assert main(["view", str(bag), "--save", str(tmp_path / "a.rrd"), *TOLD, *refiner]) == 2
    assert f"{tmp_path / 'nothing'}/refiner.json cannot be used" in capsys.readouterr().err

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.EIO, "Input/output error", str(bag))

    with monkeypatch.context() as patch:
        patch.setattr("dkt_ros.view.recordings.process", fail)
        assert main(["view", str(bag), "--save", str(tmp_path / "a.rrd"), *TOLD]) == 2
    assert capsys.readouterr().err == f"dkt view: {bag}: Input/output error\n"
    monkeypatch.setattr("dkt_ros.view.scene._LEAST_FREE_BYTES", 2**60)
    assert main(["view", str(bag), "--save", str(tmp_path / "a.rrd"), *TOLD]) == 2
    assert "a.rrd: the disk is full" in capsys.readouterr().err
    assert not list(tmp_path.glob("a.rrd*"))


def test_a_cloud_has_the_colour_of_its_stamp_however_late_its_depth_is(tmp_path: Path) -> None:
    """As in a robot's bag with the camera's own topics, where depth comes a second later."""
    from dkt_ros.view.scene import Scene, saved

    (labelled,) = labelled_frames(1)
    frame = labelled.frame
    stamps = [START_NS + i * 33_333_333 for i in range(90)]
    with saved(tmp_path / "late.rrd") as recording:
        scene = Scene(recording)
        for number, stamp in enumerate(stamps):
            scene.add(Moment(stamp, color=frame.rgb, intrinsics=frame.intrinsics))
            scene.add(Moment(stamp, raw=known(frame.raw_depth)))
            if number >= 30:
                scene.add(Moment(stamps[number - 30], depth=known(frame.raw_depth)))
    assert list(rows(tmp_path / "late.rrd", "/points", "Position3D")) == stamps[:60]
