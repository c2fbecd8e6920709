"""Frames out of a bag: pairing by stamp, every encoding, and what is not there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixtures.recorded_frames import START_NS, known, labelled_frames

pytest.importorskip("rclpy", reason="needs rclpy")

from demo.recorded import RecordedFrame, read_frames
from demo.stamps import header_stamp_ns
from dkt_ros.bags.encode import MessageEncoder
from dkt_ros.bags.reader import BagReader
from dkt_ros.bags.recording import LabelledFrame, RecordingOptions, record
from dkt_ros.bags.topics import discover_topics
from dkt_ros.bags.writer import BagWriter

pytestmark = pytest.mark.ros


def written_and_read(
    path: Path, frames: list[LabelledFrame], stamps: list[int], options: RecordingOptions
) -> list[RecordedFrame]:
    record(frames, path, options)
    with BagReader(path) as bag:
        return list(read_frames(bag, discover_topics(bag.topics), stamps))


@pytest.mark.parametrize(
    "options",
    [RecordingOptions(), RecordingOptions(color="raw", depth="32FC1", storage="sqlite3")],
)
def test_the_asked_frames_come_as_recorded(tmp_path: Path, options: RecordingOptions) -> None:
    frames = labelled_frames(30)
    asked = [frames[index].frame.stamp_ns for index in (3, 29, 11)]
    found = written_and_read(tmp_path / "bag", frames, [*asked, 5], options)
    assert [frame.stamp_ns for frame in found] == sorted(asked)
    for recorded in found:
        index = (recorded.stamp_ns - START_NS) // 100_000_000
        source = frames[index]
        assert np.abs(recorded.rgb.astype(int) - source.frame.rgb).max() < 12
        np.testing.assert_allclose(
            known(recorded.raw_depth), known(source.frame.raw_depth), atol=6e-4
        )
        np.testing.assert_allclose(known(recorded.truth), known(source.truth), atol=6e-4)
        np.testing.assert_array_equal(known(recorded.mask), known(source.mask))


def test_what_the_bag_lacks_is_none(tmp_path: Path) -> None:
    bare = [
        LabelledFrame(replace(labelled.frame, raw_depth=None)) for labelled in labelled_frames(2)
    ]
    (found,) = written_and_read(tmp_path / "bag", bare, [START_NS], RecordingOptions())
    assert (found.raw_depth, found.truth, found.mask) == (None, None, None)


def test_depth_may_be_stamped_a_little_beside_colour(tmp_path: Path) -> None:
    """Of two depth images within reach the nearer one counts; 25 ms is out of reach."""
    labelled = labelled_frames(2)
    with BagWriter(tmp_path / "bag") as writer:
        encoder = MessageEncoder(writer.typestore, "camera", depth="32FC1")
        for frame, offsets_ms in ((labelled[0].frame, (15, -9)), (labelled[1].frame, (25,))):
            stamp = frame.stamp_ns
            writer.write("/info", encoder.camera_info(frame.intrinsics, stamp), stamp)
            writer.write("/rgb/compressed", encoder.color_image(frame.rgb, stamp), stamp)
            for offset_ms in offsets_ms:
                depth = np.full(frame.rgb.shape[:2], 1.0 + offset_ms, np.float32)
                shifted = stamp + offset_ms * 1_000_000
                writer.write("/depth", encoder.depth_image(np.abs(depth), shifted), shifted)
    with BagReader(tmp_path / "bag") as bag:
        asked = [frame.frame.stamp_ns for frame in labelled]
        first, second = read_frames(bag, discover_topics(bag.topics), asked)
    assert known(first.raw_depth)[0, 0] == 8.0
    assert second.raw_depth is None


@pytest.mark.parametrize("little", [True, False])
def test_the_stamp_is_read_from_the_first_bytes(little: bool) -> None:
    seconds, nanoseconds = 1_700_000_000, 123_456_789
    order = "little" if little else "big"
    cdr = bytes([0, int(little), 0, 0])
    cdr += seconds.to_bytes(4, order) + nanoseconds.to_bytes(4, order)  # type: ignore[arg-type]
    assert header_stamp_ns(cdr) == seconds * 1_000_000_000 + nanoseconds
