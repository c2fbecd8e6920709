"""Frames and their buffer: what breaks a stream, and which frames a clip holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from dkt_ros.errors import DktError
from dkt_ros.frames import Continuity, FlushReason, Frame, frames_of
from dkt_ros.geometry import Intrinsics

CAMERA = Intrinsics(50.0, 50.0, 3.5, 2.5, 8, 6)
SECOND = 1_000_000_000
RGB = np.zeros((6, 8, 3), np.uint8)


def frame(stamp_s: float, camera: Intrinsics = CAMERA) -> Frame:
    size = (camera.height, camera.width)
    return Frame(
        rgb=np.zeros((*size, 3), np.uint8),
        raw_depth=np.ones(size, np.float32),
        intrinsics=camera,
        stamp_ns=round(stamp_s * SECOND),
        frame_id="camera_optical",
    )


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
            ("rgb", None, "rgb of None: expected an array"),
            ("rgb", [[[0, 0, 0]]], "rgb of type list: expected an array"),
            ("raw_depth", [[1.0]], "raw depth of type list: expected an array"),
            ("intrinsics", None, r"intrinsics of None: expected dkt_ros\.Intrinsics"),
            ("stamp_ns", 0.1, "stamp_ns is 0.1"),
            ("frame_id", None, "frame_id is None"),
        ],
    )
    def test_unusable_pixels(self, field: str, value: object, words: str) -> None:
        with pytest.raises(DktError, match=words):
            replace(frame(1), **{field: value})  # type: ignore[arg-type]


class TestContinuity:
    def following(self) -> Continuity:
        continuity = Continuity(max_gap_s=0.5)
        for index in range(5):
            assert continuity.follow(frame(10 + index / 10)) is None
        return continuity

    @pytest.mark.parametrize("gap", [0, -1, float("nan")])
    def test_an_impossible_gap(self, gap: float) -> None:
        with pytest.raises(DktError, match="max_gap_s"):
            Continuity(gap)

    @pytest.mark.parametrize(
        ("newcomer", "reason"),
        [
            (frame(10.3), FlushReason.STAMP_BACKWARDS),
            (frame(0), FlushReason.STAMP_BACKWARDS),
            (frame(10.91), FlushReason.GAP),
            (frame(10.5, CAMERA.scaled_to(16, 12)), FlushReason.SIZE_CHANGED),
            (frame(10.5, replace(CAMERA, height=7)), FlushReason.SIZE_CHANGED),
            (frame(10.5, replace(CAMERA, fx=51.0)), FlushReason.INTRINSICS_CHANGED),
            (frame(10.5, replace(CAMERA, fy=51.0)), FlushReason.INTRINSICS_CHANGED),
            (frame(10.5, replace(CAMERA, cy=2.0)), FlushReason.INTRINSICS_CHANGED),
            (frame(10.4, replace(CAMERA, cx=3.0)), FlushReason.INTRINSICS_CHANGED),
        ],
    )
    def test_what_breaks_a_stream(self, newcomer: Frame, reason: FlushReason) -> None:
        continuity = self.following()
        assert not continuity.is_duplicate(newcomer)
        assert continuity.follow(newcomer) is reason
        assert continuity.is_duplicate(newcomer), "which begins a stream of its own"

    def test_a_lens_that_moves_breaks_nothing(self) -> None:
        """As autofocus has it; what it adds up to does not matter."""
        continuity, camera = self.following(), CAMERA
        for index in range(5):
            camera = replace(camera, fx=1.004 * camera.fx, fy=1.004 * camera.fy)
            camera = replace(camera, cx=camera.cx + 0.004 * camera.width)
            camera = replace(camera, cy=camera.cy + 0.004 * camera.height)
            assert continuity.follow(frame(10.5 + index / 10, camera)) is None
        assert continuity.follow(frame(11.0)) is FlushReason.INTRINSICS_CHANGED

    def test_the_longest_gap_is_none(self) -> None:
        assert self.following().follow(frame(10.9)) is None

    def test_a_longer_gap_may_be_allowed_at_any_time(self) -> None:
        continuity = self.following()
        continuity.max_gap_s = 2.0
        assert continuity.follow(frame(12)) is None

    def test_a_duplicate_breaks_nothing(self) -> None:
        continuity = self.following()
        assert continuity.is_duplicate(frame(10.4))
        assert continuity.follow(frame(10.4)) is None
        assert not continuity.is_duplicate(frame(10.3))

    def test_after_a_reset_there_are_no_duplicates_and_no_breaks(self) -> None:
        continuity = self.following()
        continuity.reset()
        assert not continuity.is_duplicate(frame(10.4))
        assert continuity.follow(frame(0)) is None

    def test_the_name_of_the_frame_breaks_nothing(self) -> None:
        assert self.following().follow(replace(frame(10.5), frame_id="elsewhere")) is None


class TestFramesOf:
    def test_arrays_become_a_stream(self) -> None:
        rgb = np.zeros((6, 8, 3), np.uint8)
        millimetres = np.full((6, 8), 500, np.uint16)
        made = list(frames_of([(rgb, millimetres * 0.001), (rgb, None)], period_s=0.5))
        assert [one.stamp_ns for one in made] == [0, SECOND // 2]
        assert made[0].raw_depth is not None
        assert made[0].raw_depth.dtype == np.float32
        np.testing.assert_allclose(made[0].raw_depth, 0.5)
        assert made[1].raw_depth is None
        assert made[0].intrinsics == Intrinsics(8, 8, 3.5, 2.5, 8, 6)

    def test_a_camera_of_ones_own(self) -> None:
        rgb = np.zeros((6, 8, 3), np.uint8)
        assert next(frames_of([(rgb, None)], CAMERA)).intrinsics == CAMERA
        with pytest.raises(DktError, match="intrinsics state"):
            next(frames_of([(rgb[:5], None)], CAMERA))

    @pytest.mark.parametrize(
        ("pictures", "words"),
        [
            (None, "pictures of None: expected pairs"),
            (RGB, r"picture 0 of \(8, 3\) uint8: expected a pair"),
            ([RGB], r"picture 0 of \(6, 8, 3\) uint8: expected a pair"),
            ([None], "picture 0 of None"),
            ([(None, None)], "rgb of None"),
            ([(RGB.tolist(), None)], "rgb of type list"),
            ([(RGB[..., 0], None)], r"rgb of \(6, 8\) uint8"),
            ([(RGB / 255, None)], r"rgb of \(6, 8, 3\) float64: expected an array .* uint8"),
            ([(RGB, [[1.0]])], "raw depth of type list"),
            ([(RGB, np.ones((6, 8), np.uint16))], r"raw depth of \(6, 8\) uint16: .*millimetres"),
            ([(RGB, np.ones((6, 8), object))], "raw depth of .* object"),
            ([(RGB, np.ones((3, 4)))], "registered"),
            ([(RGB, np.ones((6, 8, 1)))], r"\(6, 8, 1\): expected \(6, 8\)$"),
            ([(RGB.transpose(2, 0, 1), None)], r"\(3, 6, 8\) uint8: expected an array \(H, W, 3\)"),
            ([(np.dstack([RGB, RGB]), None)], r"\(6, 8, 6\) uint8: expected an array \(H, W, 3\)"),
        ],
    )
    def test_what_is_no_picture(self, pictures: Any, words: str) -> None:
        with pytest.raises(DktError, match=words):
            list(frames_of(pictures))

    def test_tensors(self) -> None:
        pair: Any = torch.from_numpy(RGB), torch.ones(6, 8, dtype=torch.float64)
        (made,) = frames_of([pair])
        np.testing.assert_array_equal(made.rgb, RGB)
        np.testing.assert_array_equal(made.raw_depth, np.ones((6, 8), np.float32))  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        "depth", [torch.full((6, 8), 0.5).bfloat16(), torch.full((6, 8), 0.5, requires_grad=True)]
    )
    def test_tensors_as_networks_give_them(self, depth: Any) -> None:
        (made,) = frames_of([(RGB, depth)])
        np.testing.assert_array_equal(made.raw_depth, np.full((6, 8), 0.5, np.float32))  # type: ignore[arg-type]

    def test_memory_that_is_written_to_again(self) -> None:
        rgb, depth = np.zeros((6, 8, 3), np.uint8), np.ones((6, 8), np.float32)

        def camera() -> Iterator[tuple[Any, Any]]:
            for value in (1, 2):
                rgb[...], depth[...] = value, value
                yield rgb, depth

        made = list(frames_of(camera()))
        assert [int(one.rgb.max()) for one in made] == [1, 2]
        assert [one.raw_depth.max() for one in made if one.raw_depth is not None] == [1, 2]

    def test_what_is_masked_is_unknown(self) -> None:
        masked = np.ma.masked_greater(np.arange(48.0, dtype=np.float32).reshape(6, 8), 40)
        (made,) = frames_of([(RGB, masked)])
        assert made.raw_depth is not None
        assert np.isnan(made.raw_depth).sum() == 7
        with pytest.raises(DktError, match="masked array"):
            replace(made, raw_depth=masked)
