"""Videos as people have them: without a length, with pauses, in codecs that OpenCV lacks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from dkt_ros.errors import DktError
from dkt_ros.formats.videos import facts, pictures

CLIP = np.random.default_rng(0).integers(0, 256, (4, 48, 64, 3), np.uint8)


def written(path: Path, code: str) -> Path:
    """Four pictures, 15 a second."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), 15.0, (64, 48))
    for rgb in CLIP:
        writer.write(np.ascontiguousarray(rgb[..., ::-1]))
    writer.release()
    return path


def edited(path: Path, old: bytes, new: bytes) -> Path:
    content = path.read_bytes()
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, new))
    return path


def test_pictures_and_their_times(tmp_path: Path) -> None:
    path = written(tmp_path / "clip.mkv", "FFV1")
    assert facts(path) == (15.0, 4, 0)
    times, found = zip(*pictures(path), strict=True)
    assert times == pytest.approx([0.0, 0.067, 0.133, 0.2], abs=1e-6)
    assert np.abs(np.stack(found).astype(int) - CLIP).max() < 6


def test_a_pause_is_as_long_as_the_file_tells(tmp_path: Path) -> None:
    path = written(tmp_path / "clip.mkv", "FFV1")
    edited(path, b"\x81\x00\xc8", b"\x81\x13\x88")  # the last block's time in ms: 200, 5000
    times = [seconds for seconds, _ in pictures(path)]
    assert times == pytest.approx([0.0, 0.067, 0.133, 5.0], abs=1e-6)


def test_times_that_stand_still_go_on_at_the_rate(tmp_path: Path) -> None:
    path = written(tmp_path / "clip.mkv", "FFV1")
    edited(path, b"\x81\x00\xc8", b"\x81\x00\x85")
    times = [seconds for seconds, _ in pictures(path, 10.0)]
    assert times == pytest.approx([0.0, 0.067, 0.133, 0.233], abs=1e-6)


def test_a_stream_without_a_length(tmp_path: Path) -> None:
    path = written(tmp_path / "clip.mkv", "FFV1")
    edited(path, b"\x44\x89\x88", b"\xec\x89\x88")  # the duration becomes a void
    assert facts(path).frames == 0
    assert len(list(pictures(path))) == 4


def test_a_turn_is_told_and_pictures_are_as_stored(tmp_path: Path) -> None:
    path = written(tmp_path / "clip.mp4", "mp4v")
    one, zero = b"\0\1\0\0", bytes(4)
    upright = one + zero * 3 + one + zero * 3 + b"\x40\0\0\0"
    turned = zero + one + zero + b"\xff\xff\0\0" + zero * 4 + b"\x40\0\0\0"
    head, _, tail = path.read_bytes().rpartition(upright)  # the track's matrix
    path.write_bytes(head + turned + tail)
    assert facts(path).turned == 90
    assert next(pictures(path))[1].shape == (48, 64, 3)


def test_pictures_that_cannot_be_decoded(tmp_path: Path) -> None:
    path = written(tmp_path / "clip.mp4", "mp4v")
    path.write_bytes(path.read_bytes().replace(b"\0\0\1\xb6", b"\0\0\0\0"))
    words = r"clip.mp4 gives no video frames: .*codec FMP4; convert it \(ffmpeg -i clip.mp4"
    with pytest.raises(DktError, match=words):
        facts(path)
    with pytest.raises(DktError, match=words):
        next(pictures(path))


def test_a_video_is_opened_once_by_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, opened = written(tmp_path / "clip.mkv", "FFV1"), []

    def capture(name: str, real: Callable[[str], object] = cv2.VideoCapture) -> object:
        opened.append(name)
        return real(name)

    monkeypatch.setattr(cv2, "VideoCapture", capture)
    assert facts(path).frames == len(list(pictures(path))) == 4
    assert opened == [str(path)] * 2


def test_what_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"nothing")
    with pytest.raises(DktError, match=r"clip.mp4 gives no video frames"):
        facts(tmp_path / "clip.mp4")
