"""Two outputs compared, with an exit code; and recordings in Python."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures.recorded_frames import START_NS, labelled_frames

import dkt_ros
from dkt_ros.bags.reader import BagReader
from dkt_ros.bags.recording import RecordingOptions, record
from dkt_ros.cli import main
from dkt_ros.errors import DktError
from dkt_ros.processing.compare import Comparison, Limits, compare, table
from dkt_ros.processing.compare_command import parsed_settings
from dkt_ros.processing.messages import typestore

TOLD = ["--predictor", "fixtures.told_network:load"]
COUNT = 7


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same recording fused, again as files, by the network alone, and cut short; kept as is."""
    folder = tmp_path_factory.mktemp("compared")
    record(labelled_frames(COUNT), folder / "scene", RecordingOptions(color="raw", depth="32FC1"))
    ways = {
        "fused": [],
        "files": ["--format", "npz"],
        "network": ["--depth", "network"],
        "short": ["--max-frames", "3"],
    }
    for name, flags in ways.items():
        out = ["--output", str(folder / name), *TOLD, *flags]
        assert main(["process", str(folder / "scene"), *out]) == 0
    return {name: folder / name for name in ways}


@pytest.fixture
def files(outputs: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of that as files, to be changed."""
    return shutil.copytree(outputs["files"], tmp_path / "files")


def test_the_same_is_identical(
    outputs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", str(outputs["fused"]), str(outputs["files"])]) == 0
    shown = capsys.readouterr().out.splitlines()
    (one,) = json.loads(shown[-1])["recordings"]
    assert (one["identical"], one["frames"], one["mean"], one["beyond"]) == (True, COUNT, 0.0, 0.0)
    assert any("identical" in line for line in shown if line.startswith("| scene"))


def test_a_table_has_its_columns_whatever_is_in_a_cell() -> None:
    found = [
        Comparison("left|right", why=["only in A, failed: a\nb|c"]),
        Comparison("d", neither="e|f"),
    ]
    first, second = table(found).splitlines()[2:]
    assert first.startswith(r"| left\|right | ")
    assert first.endswith(r"| only in A, failed: a b\|c |")
    assert second.endswith(r"| in neither, failed: e\|f |")


def test_what_systems_leave_beside_files_is_no_output(
    outputs: dict[str, Path], files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """macOS writes ._x beside x on disks that are not its own."""
    for file in [*files.glob("scene/npz/*"), *files.glob("scene/previews/*")]:
        file.with_name(f"._{file.name}").write_bytes(b"\0\5\26\7")
    assert main(["compare", str(outputs["fused"]), str(files)]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["recordings"][0]["identical"]
    page = files / "report.html"
    assert main(["report", str(files), "--output", str(page)]) == 0


def test_what_differs_is_told_and_drawn(outputs: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "compared"
    command = ["compare", str(outputs["fused"]), str(outputs["network"]), "--output", str(folder)]
    assert main([*command, "--tolerance", "0.0001"]) == 1
    content = json.loads((folder / "compare.json").read_text())
    (one,) = content["recordings"]
    assert not content["within"]
    assert "of the pixels differ by more than" in " ".join(one["why"])
    a, b = (depth_of(outputs[name] / "scene") for name in ("fused", "network"))
    both = np.isfinite(a) & np.isfinite(b)
    relative = [np.abs(b[i] - a[i])[both[i]] / a[i][both[i]] for i in range(COUNT)]
    assert one["mean"] == pytest.approx(np.mean([v.mean() for v in relative]), rel=1e-5)
    assert one["beyond"] == pytest.approx(np.mean([(v > 1e-4).mean() for v in relative]), rel=1e-5)
    assert one["p95"] == pytest.approx(np.mean([np.percentile(v, 95) for v in relative]), rel=1e-5)
    maps = sorted((folder / "maps").glob("*.png"))
    worst = sorted(np.argsort([v.mean() for v in relative])[-4:].tolist())
    stamps = [START_NS + 100_000_000 * index for index in worst]
    assert [file.name for file in maps] == [f"scene_{stamp}.png" for stamp in stamps]
    picture = cv2.imread(str(maps[0]))
    assert picture is not None
    assert picture.shape == (32, 3 * 48 + 8, 3)
    assert (picture[:, :48] != picture[:, 52:100]).any()
    everything = ["--max-share", "1", "--max-lost", "1", "--max-worse", "1"]
    assert main([*command, "--tolerance", "0.0001", *everything]) == 0


def test_time_is_that_of_a_recordings_frame_answered_or_not(
    outputs: dict[str, Path], files: Path
) -> None:
    """In mode live one of several frames is answered, and what it took is all of theirs."""
    file = files / "scene" / "summary.json"
    summary = json.loads(file.read_text())
    file.write_text(json.dumps(summary | {"frames": 4 * COUNT, "inference_s": 0.5 * COUNT}))
    (one,) = compare(outputs["fused"], files, Limits())
    assert one.seconds_b == 0.125


def test_frames_that_are_missing(outputs: dict[str, Path]) -> None:
    (one,) = compare(outputs["fused"], outputs["short"], Limits())
    assert (one.frames, one.only_a, one.why) == (3, 4, ["4 frames only in A"])
    (one,) = compare(outputs["short"], outputs["fused"], Limits())
    assert one.why == []


def test_nothing_to_compare_is_not_within_the_limits(
    outputs: dict[str, Path], bag: Path, tmp_path: Path
) -> None:
    for name, limits in (("near", ["--max-depth", "0.7"]), ("far", ["--min-depth", "0.7"])):
        flags = ["--depth", "network", *limits, "--output", str(tmp_path / name)]
        assert main(["process", str(bag), *TOLD, *flags]) == 0
    (one,) = compare(tmp_path / "near", tmp_path / "far", Limits(max_lost=1))
    assert one.why == ["no pixel is known in both"]
    (one,) = compare(outputs["network"], tmp_path / "near", Limits())
    known = [np.isfinite(depth_of(f / "scene")) for f in (outputs["network"], tmp_path / "near")]
    kept = known[1].sum((1, 2)) / known[0].sum((1, 2))
    assert 0.1 < kept.mean() < 0.9
    assert one.lost == pytest.approx(1 - kept.mean())
    assert one.why == [f"{one.lost:.1%} of A's pixels are unknown in B"]
    (other,) = compare(tmp_path / "near", outputs["network"], Limits())
    assert (other.lost, other.gained) == (one.gained, one.lost) == (0.0, one.lost)
    assert other.why == []


def test_errors_are_those_of_the_frames_in_which_both_have_one(
    outputs: dict[str, Path], files: Path
) -> None:
    """A hard frame that B has no known pixel of must not make B the better one."""

    def with_errors(folder: Path, values: list[float | None]) -> None:
        file = folder / "scene" / "frames.jsonl"
        frames = [json.loads(line) for line in file.read_text().splitlines()]
        for frame, value in zip(frames, values, strict=True):
            frame["errors"] = {"all": {"rel": value}}
        file.write_text("".join(f"{json.dumps(frame)}\n" for frame in frames))

    before = shutil.copytree(outputs["files"], files.with_name("before"))
    with_errors(before, [0.5, 0.1, None, 0.1, 0.1, 0.1, 0.1])
    with_errors(files, [None, 0.2, 0.9, 0.2, 0.2, 0.2, 0.2])
    (one,) = compare(before, files, Limits())
    assert one.errors_a == pytest.approx({"all": 0.1})
    assert one.errors_b == pytest.approx({"all": 0.2})
    assert one.why == ["error on all rose from 10.00% to 20.00%"]
    (one,) = compare(files, before, Limits())
    assert one.why == []


def test_one_frame_that_differs_or_comes_twice_is_seen(
    outputs: dict[str, Path], files: Path
) -> None:
    """In outputs of single recordings, however they are called."""
    one, other = outputs["fused"] / "scene", (files / "scene").rename(files / "other")
    last = other / "npz" / f"000006_{START_NS + 600_000_000}.npz"
    shutil.copy(last, last.with_name(last.name.replace("000006", "000007")))
    lines = (other / "frames.jsonl").read_text().splitlines()
    (other / "frames.jsonl").write_text("\n".join([*lines, lines[-1], ""]))
    summary = json.loads((other / "summary.json").read_text())
    (other / "summary.json").write_text(json.dumps(summary | {"name": "other"}))
    (found,) = compare(one, other, Limits())
    assert (found.identical, found.frames, found.only_a, found.only_b) == (True, COUNT, 0, 1)
    first = other / "npz" / f"000000_{START_NS}.npz"
    with np.load(first) as content:
        arrays = dict(content)
    arrays["depth"][3, 4] += 0.1
    np.savez(first, **arrays)
    (found,) = compare(one, other, Limits())
    assert not found.identical


def test_depth_is_read_from_the_most_exact_files(outputs: dict[str, Path], files: Path) -> None:
    exact = files / "scene" / "npz"
    (files / "scene" / "png").mkdir()
    for file in list(exact.iterdir()):
        rounded = np.full((32, 48), 700, np.uint16)
        cv2.imwrite(str(files / "scene" / "png" / f"{file.stem}.png"), rounded)
        number, _, stamp = file.name.partition("_")
        file.rename(file.with_name(f"{999_998 + int(number)}_{stamp}"))  # of a long recording
    (one,) = compare(outputs["fused"], files, Limits(), maps=files / "maps")
    assert one.identical
    assert not (files / "maps").exists()
    shutil.rmtree(exact)
    (one,) = compare(outputs["fused"], files, Limits())
    assert (one.identical, one.frames, one.mean > 0.1) == (False, COUNT, True)


def test_a_damaged_output_is_not_within_the_limits(outputs: dict[str, Path], files: Path) -> None:
    (files / "scene" / "npz" / f"000006_{START_NS + 600_000_000}.npz").unlink()
    with pytest.raises(DktError, match="6 of 7 frames of depth can be read"):
        compare(outputs["fused"], files, Limits())


def test_two_ways_to_process(bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = "predictor=fixtures.told_network:load"
    command = ["compare", told, f"{told},depth=network", "--recording", str(bag)]
    assert main([*command, "--tolerance", "1", "--max-worse", "1"]) == 0
    (one,) = json.loads(capsys.readouterr().out.splitlines()[-1])["recordings"]
    assert (one["frames"], one["identical"]) == (COUNT, False)
    with pytest.raises(DktError, match=r"no setting; .* such as checkpoint="):
        parsed_settings("speed=fast")
    with pytest.raises(DktError, match=r"'steps=2\.5': expected a whole number"):
        parsed_settings("steps=2.5")
    found = parsed_settings("seed=3,mode=live,engine_fallback=true").predictor
    assert (found.seed, found.engine_fallback) == (3, True)
    assert not parsed_settings("engine_fallback=false").predictor.engine_fallback
    with pytest.raises(DktError, match="expected engine_fallback=true or engine_fallback=false"):
        parsed_settings("engine_fallback=yes")
    # Kept outputs of other settings are made anew if that is asked for, as is advised.
    kept = ["--recording", str(bag), "--output", str(tmp_path / "kept")]
    assert main(["compare", told, told, *kept]) == 0
    other = ["compare", f"{told},seed=3", told, *kept]
    capsys.readouterr()
    assert main(other) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*other, "--overwrite"]) == 0


def test_a_recording_that_fails_does_not_keep_the_others_from_being_compared(
    bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told, broken = "predictor=fixtures.told_network:load", tmp_path / "broken.npz"
    broken.write_bytes(b"nothing")
    command = ["compare", told, told, "--output", str(tmp_path / "out"), "--recording"]
    assert main([*command, str(bag), str(broken)]) == 0
    shown = capsys.readouterr()
    scene, neither = json.loads(shown.out.splitlines()[-1])["recordings"]
    assert (scene["frames"], scene["identical"], scene["neither"]) == (COUNT, True, "")
    assert (neither["name"], neither["why"]) == ("broken", [])
    assert "cannot be read as numpy's plain arrays" in neither["neither"]
    assert "| in neither, failed: not a recording: " in shown.out
    assert shown.err.splitlines()[0] == f"A: {told}"
    # Of one side alone it is not within the limits, and why is said.
    shutil.copytree(tmp_path / "out" / "A" / "scene", tmp_path / "out" / "A" / "broken")
    manifest = json.loads((tmp_path / "out/A/manifest.json").read_text())
    entries = manifest["recordings"]
    entries["broken"] = entries["scene"]
    (tmp_path / "out/A/manifest.json").write_text(json.dumps(manifest))
    summary = tmp_path / "out/A/broken/summary.json"
    summary.write_text(json.dumps(json.loads(summary.read_text()) | {"name": "broken"}))
    found = compare(tmp_path / "out/A", tmp_path / "out/B", Limits())
    (why,) = next(one.why for one in found if one.name == "broken")
    assert why.startswith("only in A, failed: not a recording: ")
    capsys.readouterr()
    assert main([*command, str(broken), "--overwrite"]) == 2
    assert "cannot be read as numpy's" in capsys.readouterr().err.splitlines()[-1]


def test_a_frame_without_common_depth_has_no_map(
    outputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def depths(folder: Path, common: Counter[int]) -> Iterator[tuple[int, np.ndarray]]:
        is_b = folder.parent == outputs["files"]
        for number, stamp in enumerate(sorted(common)):
            known = not is_b or number == 0
            yield stamp, np.full((4, 6), 1.0 + is_b if known else np.nan, np.float32)

    monkeypatch.setattr("dkt_ros.processing.compare._chosen", depths)
    (one,) = compare(outputs["fused"], outputs["files"], Limits(), tmp_path / "maps")
    assert (one.frames, one.mean) == (COUNT, 1.0)
    assert len(list((tmp_path / "maps").glob("*.png"))) == 1


def test_options_of_recordings_go_with_recordings(
    outputs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for option in (["--overwrite"], ["--split", "test"]):
        assert main(["compare", *[str(outputs["fused"])] * 2, *option]) == 2
        assert "only with --recording" in capsys.readouterr().err


def test_nothing_in_common(outputs: dict[str, Path], tmp_path: Path) -> None:
    record(labelled_frames(2), tmp_path / "xy" / "x", RecordingOptions())
    record(labelled_frames(2), tmp_path / "xy" / "y", RecordingOptions())
    other = tmp_path / "other"
    command = ["process", str(tmp_path / "xy"), "--output", str(other), *TOLD, "--workers", "1"]
    assert main(command) == 0
    with pytest.raises(DktError, match="in common: the first holds scene, the second x, y; exp"):
        compare(outputs["fused"], other, Limits())


def depth_of(folder: Path) -> np.ndarray:
    with BagReader(folder / "bag") as bag:
        found = [
            typestore().deserialize_cdr(message.cdr, message.msgtype)
            for message in bag.messages(["/dkt/depth"])
        ]
    return np.stack([np.frombuffer(m.data, np.float32).reshape(m.height, m.width) for m in found])  # type: ignore[attr-defined]


def test_in_python(bag: Path, outputs: dict[str, Path]) -> None:
    estimates = list(dkt_ros.process(bag, predictor="fixtures.told_network:load"))
    assert [one.frame.stamp_ns for one in estimates] == [
        START_NS + index * 100_000_000 for index in range(COUNT)
    ]
    depth = np.stack([one.depth for one in estimates])
    assert np.array_equal(depth, depth_of(outputs["fused"] / "scene"), equal_nan=True)
    truth = labelled_frames(1)[0].truth
    assert truth is not None
    loaded = dkt_ros.load_estimator(predictor="fixtures.told_network:load")
    with pytest.raises(DktError, match="not both"):
        next(dkt_ros.process(bag, estimator=loaded, mode="live"))
    assert dkt_ros.frame_errors(depth[0], truth).rel < 0.05
