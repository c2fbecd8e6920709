"""Frames and their buffer: what breaks a stream, and which frames a clip holds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dkt_ros.errors import DktError
from dkt_ros.frames import FlushReason, Frame, FrameBuffer
from dkt_ros.geometry import Intrinsics

CAMERA = Intrinsics(50.0, 50.0, 3.5, 2.5, 8, 6)
SECOND = 1_000_000_000


def frame(stamp_s: float, camera: Intrinsics = CAMERA) -> Frame:
    size = (camera.height, camera.width)
    return Frame(
        rgb=np.zeros((*size, 3), np.uint8),
        raw_depth=np.ones(size, np.float32),
        intrinsics=camera,
        stamp_ns=round(stamp_s * SECOND),
        frame_id="camera_optical",
    )


def stamps(buffer: FrameBuffer) -> list[float]:
    return [member.stamp_ns / SECOND for member in buffer.clip()]


class TestFrame:
    def test_depth_may_be_absent(self) -> None:
        assert replace(frame(1), raw_depth=None).raw_depth is None

    @pytest.mark.parametrize(
        ("field", "value", "words"),
        [
            ("rgb", np.zeros((6, 8, 3), np.float32), "uint8"),
            ("rgb", np.zeros((6, 9, 3), np.uint8), "the size that the intrinsics state"),
            ("rgb", np.zeros((6, 8), np.uint8), "expected"),
            ("raw_depth", np.ones((6, 8), np.uint16), "millimetres"),
            ("raw_depth", np.ones((6, 8), np.float64), "float32"),
            ("raw_depth", np.ones((3, 4), np.float32), "registered"),
        ],
    )
    def test_unusable_pixels(self, field: str, value: np.ndarray, words: str) -> None:
        with pytest.raises(DktError, match=words):
            replace(frame(1), **{field: value})  # type: ignore[arg-type]


class TestClip:
    def test_lengths_while_filling(self) -> None:
        buffer = FrameBuffer(max_frames=9, max_gap_s=1)
        assert buffer.clip() == ()
        lengths = []
        for index in range(12):
            assert buffer.push(frame(index / 10)) is None
            lengths.append(len(buffer.clip()))
            assert buffer.clip()[-1].stamp_ns == round(index / 10 * SECOND)
        assert lengths == [1, 1, 1, 1, 5, 5, 5, 5, 9, 9, 9, 9]
        assert len(buffer) == 9

    @given(
        capacity=st.integers(0, 5).map(lambda n: 4 * n + 1),
        pushed=st.integers(0, 40),
    )
    def test_newest_frames_in_order(self, capacity: int, pushed: int) -> None:
        buffer = FrameBuffer(capacity, max_gap_s=1)
        for index in range(pushed):
            buffer.push(frame(index / 8))
        clip = stamps(buffer)
        held = min(capacity, pushed)
        assert len(buffer) == held
        assert len(clip) == (0 if held == 0 else held - (held - 1) % 4)
        assert clip == [index / 8 for index in range(pushed - len(clip), pushed)]

    @pytest.mark.parametrize("max_frames", [0, -3, 2, 4, 20])
    def test_a_length_the_network_has_no_clip_for(self, max_frames: int) -> None:
        with pytest.raises(DktError, match="4N"):
            FrameBuffer(max_frames, 1.0)

    @pytest.mark.parametrize("gap", [0, -1, float("nan")])
    def test_an_impossible_gap(self, gap: float) -> None:
        with pytest.raises(DktError, match="max_gap_s"):
            FrameBuffer(5, gap)


class TestFlush:
    def filled(self) -> FrameBuffer:
        buffer = FrameBuffer(max_frames=5, max_gap_s=0.5)
        for index in range(5):
            buffer.push(frame(10 + index / 10))
        return buffer

    @pytest.mark.parametrize(
        ("newcomer", "reason"),
        [
            (frame(10.3), FlushReason.STAMP_BACKWARDS),
            (frame(0), FlushReason.STAMP_BACKWARDS),
            (frame(10.91), FlushReason.GAP),
            (frame(10.5, CAMERA.scaled_to(16, 12)), FlushReason.SIZE_CHANGED),
            (frame(10.5, replace(CAMERA, fx=51.0)), FlushReason.INTRINSICS_CHANGED),
            (frame(10.4, replace(CAMERA, cx=3.0)), FlushReason.INTRINSICS_CHANGED),
        ],
    )
    def test_what_breaks_a_stream(self, newcomer: Frame, reason: FlushReason) -> None:
        buffer = self.filled()
        assert not buffer.is_duplicate(newcomer)
        assert buffer.push(newcomer) is reason
        assert buffer.clip() == (newcomer,)

    def test_the_longest_gap_is_none(self) -> None:
        buffer = self.filled()
        assert buffer.push(frame(10.9)) is None
        assert len(buffer) == 5

    def test_a_duplicate_is_dropped(self) -> None:
        buffer = self.filled()
        before = buffer.clip()
        again = frame(10.4)
        assert buffer.is_duplicate(again)
        assert buffer.push(again) is None
        assert buffer.clip() == before

    def test_an_empty_buffer_knows_no_duplicates_and_no_breaks(self) -> None:
        buffer = self.filled()
        buffer.clear()
        assert len(buffer) == 0
        assert not buffer.is_duplicate(frame(10.4))
        assert buffer.push(frame(0)) is None

    def test_the_name_of_the_frame_breaks_nothing(self) -> None:
        buffer = self.filled()
        assert buffer.push(replace(frame(10.5), frame_id="elsewhere")) is None
