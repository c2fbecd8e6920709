"""Words in pictures of floats."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from dkt_ros.lettering import write_words


def test_words_are_written_as_opencv_4_does_and_only_bytes_are_given_to_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """OpenCV 5 refuses others, and softens the rims."""
    expected = np.zeros((40, 200), np.uint8)
    cv2.putText(expected, "12:30 xyz", (5, 30), 0, 0.9, [255], 2)
    real = cv2.putText

    def of_bytes(picture: np.ndarray, *values: Any) -> Any:
        assert picture.dtype == np.uint8
        return real(picture, *values)

    monkeypatch.setattr(cv2, "putText", of_bytes)
    picture = np.full((40, 200, 3), 0.5, np.float32)
    write_words(picture, "12:30 xyz", (5, 30), 0.9, (0.1, 0.2, 0.9), 2)
    there = expected > 127
    assert 100 < there.sum() < 4000
    np.testing.assert_array_equal(
        picture[there], np.tile(np.array([0.1, 0.2, 0.9], np.float32), (there.sum(), 1))
    )
    assert (picture[~there] == 0.5).all()
