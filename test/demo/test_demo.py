"""The demonstration as a user runs it: three real processes, files at the end, plain errors."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import cv2
import pytest
from fixtures.as_on_a_robot import as_on_a_robot
from fixtures.recorded_frames import FRAME_ID, labelled_frames

pytest.importorskip("rclpy", reason="needs rclpy")
pytest.importorskip("diffusers", reason="needs the network's libraries")

from fixtures.tiny_checkpoint import make_tiny_checkpoint

from demo.__main__ import main
from demo.figures import OBJECTS, TRUSTED
from demo.subscriber import READY
from dkt_ros.bags.recording import RecordingOptions, record

pytestmark = [pytest.mark.ros, pytest.mark.slow, pytest.mark.flaky(reruns=2)]

FRAMES = 6


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    frames = labelled_frames(FRAMES, width=96, height=64)
    record(frames, tmp_path / "bag", RecordingOptions())
    return tmp_path / "bag"


def test_a_bag_becomes_a_picture_and_a_report(
    tmp_path: Path,
    bag: Path,
    checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PYTHONPATH", as_on_a_robot(os.environ)["PYTHONPATH"])
    output = tmp_path / "output"
    words = ["--bag", bag, "--checkpoint", checkpoint, "--output", output, "--rate", 0.2]
    assert main([*map(str, words)]) == 0
    told = capsys.readouterr().out
    assert str(output / "demo.png") in told
    assert str(output / "report.md") in told

    content = json.loads((output / "report.json").read_text())
    assert content["checkpoint"] == "tiny-random"  # as dkt.json names it, not the folder
    frames = content["frames"]
    assert frames["in_bag"] == FRAMES
    assert 2 <= frames["answered"] <= FRAMES
    assert frames["answered"] + frames["dropped"] == FRAMES
    assert frames["incomplete"] == 0
    assert frames["clouds"] == frames["compared_with_truth"] == frames["answered"]
    assert sum(content["alignment"].values()) == frames["answered"]
    assert {len(table) for table in content["errors"].values()} == {3, 4}
    assert TRUSTED in content["errors"][OBJECTS]
    assert content["shares"]["sensor"] >= 0.0
    assert content["latency_s"]["depth, camera to planner"]["median"] > 0
    assert content["latency_s"]["in the node: predict"]["median"] > 0

    stamps = [frame["stamp_ns"] for frame in content["per_frame"]]
    assert set(stamps) <= {frame.frame.stamp_ns for frame in labelled_frames(FRAMES)}
    assert all(frame["has_info"] and frame["has_confidence"] for frame in content["per_frame"])
    assert {frame["frame_id"] for frame in content["per_frame"]} == {FRAME_ID}

    text = (output / "report.md").read_text()
    assert f"{frames['answered']} were answered" in text
    assert told.rstrip().splitlines()[-1] in text
    assert "raw sensor depth" in text
    picture = cv2.imread(str(output / "demo.png"))
    assert picture.shape[0] > 400
    assert picture.shape[1] > 1000


def test_a_node_that_cannot_start_is_shown(
    tmp_path: Path,
    bag: Path,
    checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It says so, and stays; see the node's own tests."""

    def prints(text: str) -> list[str]:
        program = f"import time; print({text!r}, flush=True); time.sleep(60)"
        return [sys.executable, "-c", program]

    monkeypatch.setattr("demo.__main__._subscriber_command", lambda *_: prints(READY))
    monkeypatch.setattr("demo.__main__._node_command", lambda *_: prints("cannot configure: x"))
    monkeypatch.setattr("demo.__main__._replay_command", lambda *_: prints("replay"))
    words = ["--bag", bag, "--checkpoint", checkpoint, "--output", tmp_path / "output"]
    assert main([*map(str, words)]) == 1
    told = capsys.readouterr().err
    assert told.startswith("demo: the node did not start: ")
    assert "cannot configure: x" in told


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--bag", "/no/such/bag"], "no such bag"),
        (["--bag", "BAG", "--checkpoint", "/no/such/checkpoint"], "/no/such/checkpoint"),
        (["--bag", "BAG", "--checkpoint", "TINY", "--rate", "0"], "rate is 0"),
        (["--bag", "BAG", "--checkpoint", "TINY", "--color-topic", "/x"], "no topic /x for color"),
    ],
)
def test_wrong_arguments_are_one_line_and_status_2(
    tmp_path: Path,
    bag: Path,
    checkpoint: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    known = {"BAG": str(bag), "TINY": str(checkpoint)}
    words_of_command = [known.get(word, word) for word in arguments]
    assert main([*words_of_command, "--output", str(tmp_path / "o")]) == 2
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == 1
    assert not (tmp_path / "o").exists()
