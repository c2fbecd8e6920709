"""What a demonstration says it came to, from what its subscriber wrote down; no process runs."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixtures.folders import disk_full
from fixtures.recorded_frames import HEIGHT, WIDTH, labelled_frames

pytest.importorskip("rclpy", reason="needs rclpy")

from demo import __main__ as demo
from demo.received import Received, Reception, write_image
from dkt_ros.bags.encode import MessageEncoder
from dkt_ros.bags.writer import BagWriter

pytestmark = pytest.mark.ros

FRAMES = 4
SECOND_NS = 1_000_000_000


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    """One CameraInfo of stamp 0 for four colour images, as RealSense Viewer records."""
    frames = [labelled.frame for labelled in labelled_frames(FRAMES)]
    with BagWriter(tmp_path / "bag") as writer:
        encoder = MessageEncoder(writer.typestore, "camera", depth="32FC1")
        begin = frames[0].stamp_ns
        writer.write("/info", encoder.camera_info(frames[0].intrinsics, 0), begin)
        for frame in frames:
            stamp = frame.stamp_ns
            assert frame.raw_depth is not None
            writer.write("/rgb/compressed", encoder.color_image(frame.rgb, stamp), stamp)
            writer.write("/depth", encoder.depth_image(frame.raw_depth, stamp), stamp)
    return tmp_path / "bag"


def play(
    monkeypatch: pytest.MonkeyPatch,
    bag: Path,
    answers: list[Received],
    depth_m: float,
    heard: int | None = None,
) -> tuple[int, Path]:
    """The demo's status and output folder, the three processes replaced by what they leave.

    heard: colour images that the subscriber heard; None: those of all answers.
    """

    def run(plan: demo._Plan) -> None:
        folder = plan.output / "received"
        folder.mkdir(parents=True)
        for answer in answers:
            depth = np.full((HEIGHT, WIDTH), depth_m, np.float32)
            write_image(folder, answer.stamp_ns, "depth", depth)
        sent = tuple(answer.stamp_ns for answer in answers[:heard])
        Reception(sent, tuple(answers)).write(folder)

    monkeypatch.setattr(demo, "_run", run)
    output = bag.parent / "output"
    return demo.main(["--bag", str(bag), "--output", str(output)]), output


def answers(known: float, state: str, reason: str = "") -> list[Received]:
    return [
        Received(labelled.frame.stamp_ns, known=known, state=state, reason=reason)
        for labelled in labelled_frames(FRAMES)
    ]


def test_frames_are_counted_by_colour_images(
    monkeypatch: pytest.MonkeyPatch, bag: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, output = play(monkeypatch, bag, answers(1.0, "OK")[:3], 0.5)
    assert status == 0
    last = "Of 4 camera frames 3 got depth: 3 were answered (3 OK), 1 dropped."
    assert capsys.readouterr().out.splitlines()[-1] == last
    assert last in (output / "report.md").read_text()
    content = json.loads((output / "report.json").read_text())
    assert content["rate"] == pytest.approx(0.1 / 1.5), "one and a half seconds for each frame"
    assert not (output / "received").exists()


def test_an_answer_to_an_image_that_was_not_heard_is_told_all_the_same(
    monkeypatch: pytest.MonkeyPatch, bag: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert play(monkeypatch, bag, answers(1.0, "OK")[:1], 0.5, heard=0)[0] == 0
    assert "1 were answered (1 OK), 3 dropped." in capsys.readouterr().out


def test_the_processes_are_told_topics_and_transports_as_the_bag_has_them(
    bag: Path, tmp_path: Path
) -> None:
    words = ["--bag", str(bag), "--output", str(tmp_path / "output")]
    plan = demo._plan(demo._parser().parse_args(words))
    other = replace(plan.topics, color="/rgb", depth="/depth/compressedDepth")
    for one, color, depth in (
        (plan, "compressed", "raw"),
        (replace(plan, topics=other), "raw", "compressedDepth"),
    ):
        node = demo._node_command(one)
        for word in ("color/image:=/rgb", "depth/image:=/depth", "color/camera_info:=/info"):
            assert word in node
        assert {f"color_transport:={color}", f"depth_transport:={depth}"} <= set(node)
        listener = demo._subscriber_command(one, tmp_path)
        assert ("--compressed" in listener) is (color == "compressed")
        assert one.topics.color in listener
        player = demo._replay_command(one)
        assert player[player.index("--rate") + 1] == repr(plan.rate)
        assert {one.topics.color, one.topics.depth, "/info"} <= set(player)


def test_a_demonstration_that_is_ended_says_so(
    monkeypatch: pytest.MonkeyPatch, bag: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "_run", lambda plan: signal.raise_signal(signal.SIGTERM))
    assert demo.main(["--bag", str(bag), "--output", str(bag.parent / "output")]) == 130
    assert capsys.readouterr().err == "demo: interrupted\n"
    assert signal.getsignal(signal.SIGTERM) is not demo._raise_interrupt


def test_a_demo_without_any_depth_fails_and_says_why(
    monkeypatch: pytest.MonkeyPatch, bag: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = answers(0.0, "UNALIGNED", "0 pixels have raw depth between 0.1 and 10 m")
    given[0] = replace(given[0], reason="the first frame")
    status, output = play(monkeypatch, bag, given, np.nan)
    assert status == 1
    told = capsys.readouterr()
    assert told.err == "demo: no frame had depth: 0 pixels have raw depth between 0.1 and 10 m\n"
    assert told.out.splitlines()[-3:] == [
        "UNALIGNED in 3: 0 pixels have raw depth between 0.1 and 10 m",
        "UNALIGNED in 1: the first frame",
        "Of 4 camera frames 0 got depth: 4 were answered (4 UNALIGNED), 0 dropped.",
    ]
    assert json.loads((output / "report.json").read_text())["frames"]["with_depth"] == 0
    assert (output / "demo.png").is_file()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rate", "nan"], "rate is nan, expected a positive number"),
        (["--rate", "inf"], "rate is inf, expected a positive number"),
        (["--domain-id", "233"], "domain ID is 233, expected 0 to 232"),
        (["--output", "/proc/none"], "/proc/none/report.json: cannot be written"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_played(
    bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert demo.main(["--bag", str(bag), "--output", str(tmp_path / "output"), *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_a_disk_that_is_full_in_the_end_is_told(
    monkeypatch: pytest.MonkeyPatch, bag: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "draw", disk_full)
    status, output = play(monkeypatch, bag, answers(1.0, "OK"), 0.5)
    assert status == 1
    assert capsys.readouterr().err.startswith(f"demo: {output}: the disk is full")


def test_a_picture_of_several_scenes_shows_each_once() -> None:
    """Gaps in the camera's stamps part scenes, gaps in the answers do not."""
    sent = [scene * 10 + tenth for scene in range(4) for tenth in range(5)]
    late = [Received(second * SECOND_NS, known=1.0) for second in sent if second % 10 in (0, 4)]
    late[-1] = replace(late[-1], known=0.0)  # of a scene the last frame that has depth
    reception = Reception(tuple(second * SECOND_NS for second in sent), tuple(late))
    assert sorted(demo._drawn(reception)) == [s * SECOND_NS for s in (4, 14, 24, 30)]


def test_a_picture_of_one_scene_shows_moments_of_it() -> None:
    frames = tuple(Received(index * SECOND_NS, known=1.0) for index in range(9))
    reception = Reception(tuple(frame.stamp_ns for frame in frames), frames)
    assert sorted(demo._drawn(reception)) == [s * SECOND_NS for s in (2, 5, 8)]
