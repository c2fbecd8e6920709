"""`dkt eval` from the command line, with a network of random weights."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from fixtures import dataset_trees as trees
from fixtures.one_thread import one_thread as one_thread
from fixtures.tiny_checkpoint import make_tiny_checkpoint

from dkt_ros.cli import main
from dkt_ros.errors import DktError
from dkt_ros.evaluation.networks import working_size
from dkt_ros.formats.transphy3d import write_sequence


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rendered")
    trees.transphy3d_tree(folder, splits=("test",))
    return folder


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sequence whose pictures are alike, so that live sees no cut."""
    folder = tmp_path_factory.mktemp("steady")
    frames = [trees.sequence_frame(index) for index in range(3)]
    alike = [dataclasses.replace(frame, rgb=frames[0].rgb) for frame in frames]
    write_sequence(folder / "one.tar", "one", alike)
    return folder


def test_two_data_sets_in_one_run(
    tmp_path: Path, checkpoint: Path, rendered: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = tmp_path / "clear" / "set2" / "scene1"
    trees.clearpose_scene(scene)
    trees.truncate(scene / "000001-color.png")
    output = tmp_path / "figures.json"
    arguments = ["eval", "--checkpoint", str(checkpoint), "--steps", "1", "--output", str(output)]
    folders = ["--data", str(rendered), "--data", str(tmp_path / "clear")]
    assert main([*arguments, *folders, "--split", "test"]) == 0
    printed = capsys.readouterr().out
    assert (
        f"{rendered}: transphy3d, split test, 1 video, 3 frames; depths from 0.1 to 10" in printed
    )
    assert "clearpose, split test, 1 video, 2 frames; depths from 0.3 to 1.5 m count" in printed
    assert "set2/scene1 frame 1: " in printed
    assert "000001-color.png: truncated" in printed
    assert "mean over 2 data sets" in printed
    content = json.loads(output.read_text())
    assert content["complete"] is True
    assert content["arguments"]["data"] == [str(rendered), str(tmp_path / "clear")]
    assert [s["kind"] for s in content["sets"]] == ["transphy3d", "clearpose"]
    methods = content["sets"][1]["mean"]
    assert methods["nearest fill"]["transparent/reflective"]["coverage"] == 1.0
    assert methods["dkt exact, video"]["all"]["tae"] is not None
    assert methods["dkt exact, video"]["all"]["mean_deg"] is not None
    both = [s["mean"]["dkt exact, video"]["all"]["rel"] for s in content["sets"]]
    total = content["mean"]["dkt exact, video"]["all"]["rel"]
    assert total == pytest.approx(sum(both) / 2)


def test_live_beside_exact(
    tmp_path: Path, checkpoint: Path, steady: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "figures.json"
    arguments = ["eval", "--checkpoint", str(checkpoint), "--data", str(steady), "--steps", "1"]
    options = ["--mode", "both", "--preset", "fast", "--no-normals", "--output", str(output)]
    assert main([*arguments, *options, "--align", "video", "--live-publish", "all"]) == 0
    assert "live against exact, same frames" in capsys.readouterr().out
    mean = json.loads(output.read_text())["mean"]
    assert mean["dkt live, video"]["all"]["coverage"] == 1.0
    assert "dkt exact, video, live frames" not in mean
    assert mean["dkt live, video"]["all"]["mean_deg"] is None
    # Of three frames, a window of live's is full at the first alone.
    assert main([*arguments, *options, "--align", "video"]) == 0
    mean = json.loads(output.read_text())["mean"]
    assert mean["dkt live, video"]["all"]["coverage"] == pytest.approx(1 / 3)
    assert mean["dkt exact, video, live frames"]["all"]["coverage"] == pytest.approx(1 / 3)
    assert main([*arguments, "--mode", "live", "--align", "online", "--output", str(output)]) == 0
    assert not any("exact" in name for name in json.loads(output.read_text())["mean"])


def test_a_normals_checkpoint(
    tmp_path: Path, rendered: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make_tiny_checkpoint(tmp_path / "normals")
    info = json.loads((path / "dkt.json").read_text())
    (path / "dkt.json").write_text(json.dumps(info | {"task": "normal"}))
    arguments = ["eval", "--checkpoint", str(path), "--data", str(rendered), "--steps", "1"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "task normal" in printed
    assert "dkt normals" in printed
    assert main([*arguments, "--mode", "live"]) == 2
    assert "no live sampler" in capsys.readouterr().err
    assert main([*arguments, "--no-normals"]) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--range", "2", "1"], "expected 0 < MIN < MAX"),
        (["--range", "1", "inf"], "expected 0 < MIN < MAX"),
        (["--seed", str(2**64)], "expected a 64-bit integer"),
        (["--size", "big"], "expected auto, native or HxW"),
        (["--split", "val"], "no clip of split 'val'"),
        (["--kind", "hiss"], "holds no data set"),
        (["--range", "5", "6"], "nothing could be measured"),
    ],
)
def test_mistakes_are_named(
    checkpoint: Path,
    rendered: Path,
    arguments: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    base = ["eval", "--checkpoint", str(checkpoint), "--data", str(rendered)]
    assert main([*base, *arguments]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value"),
    [("--stride", "0"), ("--max-frames", "-1"), ("--steps", "0"), ("--preset", "slow")],
)
def test_words_that_are_no_values_are_refused(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["eval", "--data", "somewhere", option, value])
    assert ended.value.code == 2
    assert f"argument {option}" in capsys.readouterr().err


def test_too_little_memory_is_told_with_what_to_do(
    checkpoint: Path,
    rendered: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr("dkt_ros.evaluation.networks.predict_disparity", fail)
    arguments = ["eval", "--checkpoint", str(checkpoint), "--data", str(rendered)]
    assert main(arguments) == 2
    assert "take a smaller --max-frames" in capsys.readouterr().err
    assert main([*arguments, "--output", str(tmp_path)]) == 2
    assert "expected a file's name" in capsys.readouterr().err


def test_working_size() -> None:
    assert working_size("auto", (192, 320), (96, 160), 16) == (96, 160)
    assert working_size("auto", (192, 330), (96, 160), 16) == (96, 160), "about the same"
    assert working_size("auto", (48, 64), (96, 160), 16) == (48, 64)
    assert working_size("native", (48, 64), (96, 160), 16) is None
    assert working_size("100x200", (48, 64), (96, 160), 16) == (100, 200)
    with pytest.raises(DktError, match="expected auto, native or HxW"):
        working_size("big", (48, 64), (96, 160), 16)
