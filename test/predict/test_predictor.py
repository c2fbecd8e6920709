"""What a network of one's own has without writing it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dkt_ros.errors import DktError
from dkt_ros.frames import Frame, frames_of
from dkt_ros.predict.predictor import Prediction, Predictor, PredictorInfo

RGB = np.zeros((2, 3, 3), np.uint8)


class Counting(Predictor):
    """Answers every second frame of a stream, by metric depth, its number from 1; fails at 5."""

    count = 0

    def __init__(self) -> None:
        super().__init__(PredictorInfo("counting"))

    def reset(self) -> None:
        self.count = 0

    def push(self, frame: Frame) -> Prediction | None:
        self.count += 1
        if self.count == 5:
            raise DktError("five is too many")
        if self.count % 2 == 0:
            return None
        return Prediction(frame.rgb, depth=np.full(frame.rgb.shape[:2], self.count, np.float32))


def frames(count: int) -> list[Frame]:
    return list(frames_of([(np.zeros((2, 3, 3), np.uint8), None)] * count))


def test_a_video_is_a_stream_of_its_own() -> None:
    predictor = Counting()
    predictor.push(frames(1)[0])
    progress: list[tuple[int, int]] = []
    video = predictor.video(frames(4), lambda _, done, total: progress.append((done, total)))
    np.testing.assert_allclose(video[:, 0, 0], [1.0, np.nan, 1 / 3, np.nan])
    assert progress == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]
    assert predictor.count == 0
    with pytest.raises(DktError, match="five"):
        predictor.video(frames(6))
    assert predictor.count == 0


def test_where_a_metric_network_s_video_has_no_depth_it_has_no_disparity() -> None:
    class Marking(Counting):
        def push(self, frame: Frame) -> Prediction:
            return Prediction(frame.rgb, depth=np.array([[np.nan, 0, -1], [np.inf, 2, 4]]))

    (video,) = Marking().video(frames(1))
    np.testing.assert_array_equal(video, [[np.nan] * 3, [np.nan, 0.5, 0.25]])


def test_an_answer_is_either_disparity_or_depth() -> None:
    ones = np.ones((2, 3), np.float32)
    for disparity, depth in ((None, None), (ones, ones)):
        with pytest.raises(DktError, match="both or neither of disparity and depth"):
            Prediction(RGB, disparity, depth)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (np.ones((2, 3), np.float32), "expected a Prediction or None"),
        (Prediction(RGB, depth=np.ones((1, 2, 3), np.float32)), r"depth of \(1, 2, 3\) float32"),
        (Prediction(RGB, disparity=np.ones((1, 1), np.float32)), r"disparity of \(1, 1\) float32"),
        (Prediction(RGB, normals=np.zeros((2, 3, 3), np.float32)), "disparity of None"),
    ],
)
def test_what_is_no_answer_is_named_and_put_nowhere(answer: Any, words: str) -> None:
    predictor = Counting()
    predictor.push = lambda frame: answer  # type: ignore[method-assign]
    with pytest.raises(DktError, match=f"the network returned .*{words}"):
        predictor.video(frames(1))


def test_what_was_warmed_up_has_seen_nothing() -> None:
    predictor = Counting()
    predictor.warm_up((4, 6))
    assert predictor.count == 0
