"""A rendered sequence becomes a bag with truth, mask and raw depth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fixtures.recorded_frames import known

from dkt_ros.bags.from_sequence import read_frames
from dkt_ros.bags.reader import BagReader, decoded
from dkt_ros.bags.recording import RecordingOptions, record
from dkt_ros.cli import main
from dkt_ros.errors import DktError
from dkt_ros.formats.transphy3d import SequenceFrame, decode_frame, write_sequence


@pytest.fixture
def sequence(tmp_path: Path) -> Path:
    def frame(index: int) -> SequenceFrame:
        depth = np.full((12, 20), 0.5 + 0.1 * index, np.float32)
        raw = depth.copy()
        raw[:4] = np.nan
        mask = np.zeros((12, 20), np.uint8)
        mask[2:6] = 2
        return SequenceFrame(
            rgb=np.full((12, 20, 3), 30 * index, np.uint8),
            depth=depth,
            camera_matrix=np.array([[25.0, 0, 9.5], [0, 25.0, 5.5], [0, 0, 1]]),
            world_to_camera=np.eye(4),
            mask=mask,
            raw_depth=raw,
            index=index,
        )

    path = tmp_path / "s.tar"
    write_sequence(path, "000000", (frame(i) for i in range(6)))
    return path


def test_frames_carry_all_that_was_rendered(sequence: Path) -> None:
    frames = list(read_frames(sequence, rate_hz=20.0, start_s=5.0))
    assert [f.frame.stamp_ns for f in frames[:2]] == [5_000_000_000, 5_050_000_000]
    third = frames[2]
    np.testing.assert_allclose(known(third.truth), 0.7, rtol=1e-4)
    np.testing.assert_allclose(known(third.frame.raw_depth)[5], 0.7, rtol=1e-4)
    assert np.isnan(known(third.frame.raw_depth)[0]).all()
    assert known(third.mask)[3, 0] == 2
    assert third.frame.intrinsics.fx == pytest.approx(25.0)
    assert third.frame.intrinsics.cx == pytest.approx(9.5)


def test_a_part_can_be_taken(sequence: Path, tmp_path: Path) -> None:
    frames = read_frames(sequence, frames=slice(2, 5))
    assert record(frames, tmp_path / "bag", RecordingOptions()) == 3
    with pytest.raises(DktError, match="none of its 6 frames"):
        list(read_frames(sequence, frames=slice(9, 12)))


def test_every_flag_reaches_the_bag(sequence: Path, tmp_path: Path) -> None:
    command = ["bag", "from-sequence", str(sequence), "--output", str(tmp_path / "bag")]
    flags = ["--first", "2", "--count", "3", "--rate", "20", "--start-time", "5"]
    assert main([*command, *flags, "--frame-id", "cam", "--color-encoding", "raw"]) == 0
    with BagReader(tmp_path / "bag") as bag:
        found = [decoded(m) for m in bag.messages(["/camera/camera/color/image_raw"])]
        assert bag.topics["/truth/mask"].count == 3
    stamps = [one.header.stamp.sec + one.header.stamp.nanosec * 1e-9 for one in found]
    assert stamps == pytest.approx([5.0, 5.05, 5.1])
    assert [(one.header.frame_id, int(one.data[0])) for one in found] == [
        ("cam", 60),
        ("cam", 90),
        ("cam", 120),
    ]


@pytest.mark.parametrize("words", [["--first", "-1"], ["--count", "-1"], ["--count", "0"]])
def test_frames_are_not_counted_from_the_end(
    sequence: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["bag", "from-sequence", str(sequence), "--output", str(tmp_path / "bag"), *words])
    assert f"argument {words[0]}: '{words[1]}' is no integer of at least" in capsys.readouterr().err


def test_only_the_chosen_frames_are_decoded(
    sequence: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = []

    def decode(members: dict[str, bytes], source: str) -> SequenceFrame:
        decoded.append(source.rpartition("_")[2])
        return decode_frame(members, source)

    monkeypatch.setattr("dkt_ros.bags.from_sequence.decode_frame", decode)
    frames = read_frames(sequence, frames=slice(2, 4))
    next(frames)
    assert decoded == ["00000002"]
    assert len(list(frames)) == 1
