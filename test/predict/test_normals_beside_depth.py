"""Normals by a network of their own beside depth: of the same frames, exact and live."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.one_thread import one_thread as one_thread
from fixtures.tiny_checkpoint import make_tiny_checkpoint
from numpy.typing import NDArray

from dkt_ros.errors import DktError
from dkt_ros.frames import Frame
from dkt_ros.geometry import Intrinsics
from dkt_ros.model.checkpoint import load_checkpoint
from dkt_ros.model.fast_network import FastNetwork
from dkt_ros.predict.clip import ClipPredictor
from dkt_ros.predict.load import load_normals, load_predictor
from dkt_ros.predict.normals import WithNormals
from dkt_ros.predict.options import PredictorOptions
from dkt_ros.predict.predictor import InferenceCancelledError, Prediction, Predictor, PredictorInfo
from dkt_ros.predict.stream import StreamPredictor
from dkt_ros.progress import Progress, no_progress

SIZE = 96, 160  # larger than the network's


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> PredictorOptions:
    depth = make_tiny_checkpoint(tmp_path_factory.mktemp("depth"))
    normals = make_tiny_checkpoint(tmp_path_factory.mktemp("normals"), seed=1, task="normal")
    return PredictorOptions(
        checkpoint=depth, normals_checkpoint=normals, device="cpu", cpu_threads=1
    )


def frames(count: int) -> list[Frame]:
    camera = Intrinsics(80.0, 80.0, 47.5, 31.5, SIZE[1], SIZE[0])
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    first = np.stack([x * 2, y * 3, 255 - x - y], axis=-1).astype(np.uint8)
    return [Frame(np.roll(first, 4 * i, axis=1), None, camera, i, "camera") for i in range(count)]


def assert_same(one: Any, other: Any) -> None:
    """Both there, and equal to the bit."""
    assert one is not None
    np.testing.assert_array_equal(one, other)


def test_exact_normals_are_those_of_the_clip_and_depth_is_as_without(
    options: PredictorOptions,
) -> None:
    both = load_predictor(options)
    alone = load_predictor(replace(options, normals_checkpoint=""))
    _, normals_of = load_normals(
        PredictorOptions(checkpoint=options.normals_checkpoint, device="cpu", cpu_threads=1)
    )
    assert "normals by tiny-random" in both.info.mode
    shown = frames(5)
    for index, frame in enumerate(shown):
        answer, without = both.push(frame), alone.push(frame)
        assert answer is not None
        assert without is not None
        assert_same(answer.disparity, without.disparity)
        clip = shown[: index + 1] if index == 4 else [frame]
        expected = normals_of(np.stack([one.rgb for one in clip]))[-1]
        assert_same(answer.normals, expected)
        length = np.linalg.norm(expected, axis=-1)
        np.testing.assert_allclose(length[length > 0], 1.0, atol=1e-5)
        assert (length > 0).any()


def test_live_normals_come_with_every_depth_whenever_somebody_comes(
    options: PredictorOptions,
) -> None:
    """Windows of both end together, though normals are asked for amid one."""
    chosen = replace(options, mode="live", live_preset="fast", live_min_agreement=0.0)
    both, alone = load_predictor(chosen), load_predictor(replace(chosen, normals_checkpoint=""))
    assert isinstance(both, WithNormals)
    assert both.answers_every == alone.answers_every == 8
    told: list[tuple[bool, Prediction]] = []
    for index, frame in enumerate(frames(26)):
        both.normals_wanted = not 1 < index < 12
        answer, without = both.push(frame), alone.push(frame)
        assert (answer is None) is (without is None)
        if answer is not None and without is not None:
            assert_same(answer.disparity, without.disparity)
            told.append((both.normals_wanted, answer))
    assert [wanted for wanted, _ in told] == [True, False, True, True]
    for wanted, answer in told:
        assert (answer.normals is not None) is wanted
    third, fourth = (answer.normals for _, answer in told[2:])
    assert third is not None
    assert fourth is not None
    assert not np.array_equal(third, fourth)


@pytest.mark.parametrize(
    "changes",
    [
        {"inference_size": "native", "seed": 7},
        {
            "mode": "live",
            "live_preset": "fast",
            "live_publish": "all",
            "live_scene_cut": 1.0,
            "live_min_agreement": 0.0,
        },
    ],
)
def test_normals_are_asked_for_as_depth_is_in_their_checkpoint_s_own_steps_and_frames(
    options: PredictorOptions, changes: dict[str, Any]
) -> None:
    both = load_predictor(replace(options, steps=1, buffer_frames=1, **changes))
    own = replace(options, checkpoint=options.normals_checkpoint, **changes)
    network = FastNetwork(load_checkpoint(own.checkpoint))
    alone = (StreamPredictor if own.mode == "live" else ClipPredictor)(network, own)
    shown = frames(6)
    for frame in [*shown[:4], *(replace(one, rgb=~one.rgb) for one in shown[4:])]:
        answer, expected = both.push(frame), alone.push(frame)
        assert answer is not None
        assert expected is not None
        assert_same(answer.normals, expected.normals)


def test_another_stream_by_the_same_networks(options: PredictorOptions) -> None:
    chosen = replace(options, seed=7)
    one = load_predictor(chosen)
    other = one.beside()
    assert other.info == one.info
    first, second = frames(2)
    expected = load_predictor(chosen).push(first)
    one.push(second)
    answer = other.push(first)
    assert answer is not None
    assert expected is not None
    assert_same(answer.normals, expected.normals)
    assert_same(answer.disparity, expected.disparity)


def test_a_checkpoint_for_depth_gives_no_normals(options: PredictorOptions) -> None:
    wrong = replace(options, normals_checkpoint=options.checkpoint)
    with pytest.raises(
        DktError, match=r"normals_checkpoint: .*predicts 'depth', expected 'normal'"
    ):
        load_predictor(wrong)
    with pytest.raises(DktError, match=r"normals_checkpoint: .*does not exist"):
        load_predictor(replace(options, normals_checkpoint=Path("/nowhere")))


class Noted(Predictor):
    """Notes what it is asked for; of half the camera's size."""

    proof_frames, answers_every, sees_video = 5, 4, True

    def __init__(self, name: str) -> None:
        super().__init__(PredictorInfo(name))
        self.asked: list[str] = []

    def push(self, frame: Frame) -> Prediction:
        self._stop.check("push", 0, 1)
        return Prediction(frame.rgb, normals=np.zeros_like(frame.rgb, np.float32))

    def reset(self) -> None:
        self.asked.append("reset")

    def warm_up(self, size: tuple[int, int], report: Progress = no_progress) -> None:
        self.asked.append(f"warm up {size}")

    def network_size(self, height: int, width: int) -> tuple[int, int]:
        return height // 2, width // 2

    @property
    def natural_size(self) -> tuple[int, int]:
        return 10, 20

    def video(
        self, frames: Sequence[Frame], on_progress: Progress = no_progress
    ) -> NDArray[np.float32]:
        return np.full((len(frames), 1, 1), 7.0, np.float32)


def test_both_are_told_to_begin_anew_to_warm_up_and_to_stop() -> None:
    depth, normals = Noted("depth"), Noted("normals")
    both = WithNormals(depth, normals)
    both.warm_up((4, 6))
    both.reset()
    assert depth.asked == normals.asked == ["warm up (4, 6)", "reset"]
    (frame,) = frames(1)
    both.cancel()
    for one in (depth, normals):
        with pytest.raises(InferenceCancelledError):
            one.push(frame)
    both.allow()
    assert both.push(frame) is not None
    normals.asked.clear()
    both.normals_wanted = False
    both.push(frame)
    assert normals.asked == ["reset"], "what it saw is not what comes before the next it is shown"


def test_what_the_depth_network_is_like_the_two_are_like() -> None:
    depth, normals = Noted("depth"), Predictor(PredictorInfo("normals"))
    both = WithNormals(depth, normals)
    assert (both.proof_frames, both.answers_every, both.sees_video) == (5, 4, True)
    assert both.network_size(40, 60) == (20, 30)
    assert both.natural_size == (10, 20)
    assert both.video(frames(3)).tolist() == [[[7.0]]] * 3
